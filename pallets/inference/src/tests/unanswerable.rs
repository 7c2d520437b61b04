//! Inputs that nobody can answer.

use consilience_primitives::{
	request::{Assurance, Unanswerable},
	view::RequestState,
	RequestId,
};

use crate::{mock::*, Event, OffenceKind, Settled, Strikes};

fn poisoned(model: u8) -> RequestId {
	let input = if model == TEXT {
		text("poison", 4)
	} else {
		tensor_input(POISON)
	};
	Inference::do_request(ALICE, id(model), input, Assurance::Committee(2), 1_000, 0).unwrap()
}

#[test]
fn what_nobody_can_answer_is_found_out_and_paid_and_strikes_nobody() {
	run(|| {
		for model in [TEXT, TENSOR, TEXT, TENSOR, TEXT] {
			let request = poisoned(model);
			let before: u64 = VALIDATORS.map(Balances::free_balance).iter().sum();
			settle_within(request, 8, &[]);
			assert_eq!(state(request), RequestState::Unanswerable);
			assert!(events().iter().any(|e| matches!(
				e,
				Event::RequestUnanswerable {
					request: r,
					code: Unanswerable::GraphRefused,
					..
				} if *r == request
			)));
			let after: u64 = VALIDATORS.map(Balances::free_balance).iter().sum();
			assert!(after > before, "those who found that out are paid");
			let view = Inference::request_view(request).unwrap();
			assert_eq!(view.paid + view.refunded, 1_000);
			assert!(view.refunded > 0);
		}
		blocks(4);
		assert!(reported().is_empty());
		for v in VALIDATORS {
			assert_eq!(Strikes::<Test>::get(v), 0);
			assert!(ModelRegistry::is_serving(&v, id(TEXT)));
			assert!(ModelRegistry::is_serving(&v, id(TENSOR)));
		}
	});
}

#[test]
fn a_claim_that_what_others_can_answer_cannot_be_costs_what_a_lie_costs() {
	run(|| {
		for model in [TEXT, TENSOR] {
			let request = ask(model, ALICE);
			blocks(2);
			let liar = executor(request);
			settle_within(request, 12, &[(liar, Habit::Refusing)]);
			assert_eq!(state(request), RequestState::Rejected);
			blocks(4);
			let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
			assert_eq!(found, [(liar, OffenceKind::FraudulentResult)]);
		}
	});
}

#[test]
fn a_verifier_that_agrees_with_a_false_claim_pays_too() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Refusing);
		blocks(2);
		let friend = verifiers(request)[0];
		settle_within(
			request,
			12,
			&[(liar, Habit::Refusing), (friend, Habit::Refusing)],
		);
		assert_eq!(state(request), RequestState::Rejected);
		blocks(4);
		let mut found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		found.sort();
		let mut expected = vec![
			(liar, OffenceKind::FraudulentResult),
			(friend, OffenceKind::FraudulentEvidence),
		];
		expected.sort();
		assert_eq!(found, expected);
	});
}

#[test]
fn what_was_committed_to_as_an_output_is_not_shown_as_a_claim_that_there_is_none() {
	use consilience_primitives::{evidence::output_commitment, report::Statement, request::Output};
	run(|| {
		let request = ask(TENSOR, ALICE);
		blocks(2);
		let liar = executor(request);
		let output = Output::Unanswerable(Unanswerable::NotFinite);
		let commitment = output_commitment(&output, request, &liar, &salt(liar));
		report(
			liar,
			vec![Statement::CommitOutput {
				request,
				commitment,
			}],
		)
		.unwrap();
		blocks(2);
		work_block(&[]);
		let shown = Statement::RevealOutput {
			request,
			output,
			salt: salt(liar),
		};
		assert!(report(liar, vec![shown]).is_err());
		settle_within(request, 30, &[(liar, Habit::Silent)]);
		assert_eq!(state(request), RequestState::Expired);
		blocks(4);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert!(
			found.contains(&(liar, OffenceKind::FraudulentResult)),
			"{found:?}"
		);
	});
}

#[test]
fn whoever_answers_what_cannot_be_answered_is_found() {
	run(|| {
		let request = poisoned(TEXT);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		blocks(2);
		settle_within(request, 12, &[(liar, Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
	});
}

#[test]
fn another_pallet_is_told_why() {
	run(|| {
		use crate::RequestInference;
		let asked = Inference::request_inference(
			ALICE,
			id(TEXT),
			text("poison", 4),
			Assurance::Committee(2),
			1_000,
			0,
		);
		settle_within(asked.unwrap(), 8, &[]);
		blocks(2);
		assert_eq!(
			told(),
			[(0, Settled::Unanswerable(Unanswerable::GraphRefused))]
		);
	});
}
