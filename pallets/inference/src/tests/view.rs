//! What workers and clients are shown at each step.

use consilience_primitives::{
	report::{DutyKind, Statement},
	view::{QuoteError, RequestState},
};
use polkadot_sdk::sp_core::Pair;

use crate::{mock::*, Error, Requests};

fn due(validator: u64) -> Vec<(u64, DutyKind, u64)> {
	let duties = Inference::duties(&pair(validator).public()).unwrap();
	assert_eq!(duties.validator, validator);
	duties
		.duties
		.into_iter()
		.map(|d| (d.request, d.kind, d.deadline))
		.collect()
}

#[test]
fn duties_follow_the_request() {
	run(|| {
		let request = ask(TEXT, ALICE);
		for v in VALIDATORS {
			assert!(due(v).is_empty());
		}
		blocks(2);
		let executor = executor(request);
		// Drawn at the end of the last block; 3 blocks, and one for the 4 tokens.
		let deadline = System::block_number() - 1 + 4;
		assert_eq!(due(executor), [(request, DutyKind::Answer, deadline)]);
		work(executor, Habit::Honest);
		assert!(due(executor).is_empty());
		blocks(2);
		let deadline = System::block_number() - 1 + 4;
		let members: Vec<_> = [vec![executor], verifiers(request)].concat();
		for m in &members {
			assert_eq!(due(*m), [(request, DutyKind::Commit, deadline)]);
		}
		work(executor, Habit::Honest);
		assert!(due(executor).is_empty(), "not before the others committed");
		work_block(&[(executor, Habit::Silent)]);
		let deadline = System::block_number() - 1 + 3;
		for m in &members {
			assert_eq!(due(*m), [(request, DutyKind::Reveal, deadline)]);
		}
		let idle = VALIDATORS.iter().find(|v| !members.contains(v)).unwrap();
		assert!(due(*idle).is_empty());
		work_block(&[]);
		for m in members {
			assert!(due(m).is_empty());
		}
	});
}

#[test]
fn duties_name_session_index_and_models() {
	run(|| {
		let duties = Inference::duties(&pair(102).public()).unwrap();
		assert_eq!((duties.session, duties.index), (0, 1));
		assert_eq!(duties.serving, [id(TEXT), id(TENSOR)]);
		assert!(Inference::duties(&pair(77).public()).is_none());
		set_session(&VALIDATORS[1..]);
		let duties = Inference::duties(&pair(102).public()).unwrap();
		assert_eq!((duties.session, duties.index), (1, 0));
	});
}

#[test]
fn the_executor_of_a_hidden_output_commits_to_it_and_then_shows_it() {
	run(|| {
		let request = ask(TENSOR, ALICE);
		blocks(2);
		let executor = executor(request);
		assert_eq!(due(executor)[0].1, DutyKind::CommitOutput);
		work(executor, Habit::Honest);
		blocks(2);
		work_block(&[]);
		let evidence = measured(request, Habit::Honest);
		let salt = salt(executor);
		report(
			executor,
			vec![Statement::Reveal {
				request,
				evidence,
				salt,
			}],
		)
		.unwrap();
		assert_eq!(
			due(executor)[0].1,
			DutyKind::RevealOutput,
			"the output is still to be shown"
		);
		next_block();
		work_block(&[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn work_holds_what_is_known_so_far_and_ends_with_the_request() {
	run(|| {
		let request = ask(TEXT, ALICE);
		assert!(Inference::work(request).is_none(), "no seed yet");
		blocks(2);
		let work_now = Inference::work(request).unwrap();
		assert_eq!(work_now.model, id(TEXT));
		assert_eq!(work_now.input, text("hi", 4).into());
		assert!(work_now.output.is_none() && work_now.challenge.is_none());
		work(executor(request), Habit::Honest);
		blocks(2);
		let work_now = Inference::work(request).unwrap();
		assert_eq!(work_now.output, Some(answer(&[1, 2, 3])));
		assert!(work_now.challenge.is_some());
		settle_within(request, 3, &[]);
		assert!(Inference::work(request).is_none());
		assert!(Inference::work(99).is_none());
	});
}

#[test]
fn the_most_urgent_duty_comes_first() {
	run(|| {
		for _ in 0..4 {
			ask(TEXT, ALICE);
			work_block(&[]);
		}
		for v in VALIDATORS {
			let deadlines: Vec<_> = due(v).into_iter().map(|(_, _, d)| d).collect();
			assert!(deadlines.is_sorted(), "{deadlines:?}");
			for (request, _, deadline) in due(v) {
				assert_eq!(Requests::<Test>::get(request).unwrap().deadline, deadline);
			}
		}
	});
}

#[test]
fn a_price_beyond_the_balance_type_is_refused() {
	run(|| {
		let mut dear = price();
		dear.per_output_unit = u64::MAX;
		ModelRegistry::set_price(RuntimeOrigin::signed(OWNER), id(TEXT), dear).unwrap();
		let assurance = consilience_primitives::request::Assurance::Committee(2);
		assert_eq!(
			Inference::quote(id(TEXT), &text("hi", 4).into(), assurance),
			Err(QuoteError::Overflow)
		);
		assert_eq!(
			Inference::do_request(ALICE, id(TEXT), text("hi", 4), assurance, u64::MAX, 0),
			Err(Error::<Test>::PriceOverflow.into())
		);
	});
}
