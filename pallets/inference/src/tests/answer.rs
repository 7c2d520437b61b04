use consilience_primitives::{
	report::Statement,
	request::{FinishReason, Output},
	view::RequestState,
};
use polkadot_sdk::frame_support::assert_noop;

use crate::{mock::*, Error, Outputs};

fn assigned(model: u8) -> (u64, u64) {
	let request = ask(model, ALICE);
	blocks(2);
	(request, executor(request))
}

#[test]
fn only_the_executor_answers_and_once() {
	run(|| {
		let (request, executor) = assigned(TEXT);
		let output = answer(&[1, 2]);
		let other = VALIDATORS.into_iter().find(|v| *v != executor).unwrap();
		assert_noop!(
			Inference::answer(&other, request, output.clone()),
			Error::<Test>::NotDue
		);
		report(
			executor,
			vec![Statement::Answer {
				request,
				output: output.clone(),
			}],
		)
		.unwrap();
		assert_eq!(state(request), RequestState::Provisional);
		assert_noop!(
			Inference::answer(&executor, request, output),
			Error::<Test>::NotDue
		);
	});
}

#[test]
fn answers_of_another_kind_or_longer_than_paid_are_refused() {
	run(|| {
		let (request, executor) = assigned(TEXT);
		for output in [
			answer(&[1; 5]),
			answer(&[]),
			Output::Tensors(vec![tensor("y", &[1])].try_into().unwrap()),
			Output::Text {
				tokens: vec![codec::Compact(1)].try_into().unwrap(),
				text: vec![0xff].try_into().unwrap(),
				finish: FinishReason::Length,
			},
		] {
			assert_noop!(
				Inference::answer(&executor, request, output),
				Error::<Test>::MalformedOutput
			);
		}
	});
}

#[test]
fn an_output_that_is_evidence_is_hidden_until_everybody_has_committed() {
	run(|| {
		let (request, executor) = assigned(TENSOR);
		assert_noop!(
			Inference::answer(&executor, request, answer(&[1])),
			Error::<Test>::NotDue
		);
		work(executor, Habit::Honest);
		assert_eq!(state(request), RequestState::Provisional);
		blocks(2);
		let output = Output::Tensors(vec![tensor("y", &[5])].try_into().unwrap());
		assert_noop!(
			Inference::check_reveal_output(&executor, request, &output, &salt(executor)),
			Error::<Test>::NotDue
		);
		work_block(&[]);
		assert!(!Outputs::<Test>::contains_key(request));
		let other = Output::Tensors(vec![tensor("y", &[6])].try_into().unwrap());
		assert_noop!(
			Inference::check_reveal_output(&executor, request, &other, &salt(executor)),
			Error::<Test>::CommitmentMismatch
		);
		work_block(&[]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(Outputs::<Test>::get(request), Some(output));
	});
}
