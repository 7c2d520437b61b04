//! A developer's chain with a single validator, which answers alone.

use consilience_primitives::{
	request::{Assurance, Unanswerable},
	view::RequestState,
};

use crate::{mock::*, Event};

fn alone(test: impl FnOnce()) {
	MinServing::set(1);
	run(|| {
		set_session(&VALIDATORS[..1]);
		next_block();
		assert!(Inference::is_solo());
		test();
	});
	MinServing::set(3);
}

#[test]
fn one_validator_answers_in_a_few_blocks_and_nobody_has_checked() {
	alone(|| {
		for model in [TEXT, TENSOR] {
			let quote = Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2));
			// The price and the premium: there is no verifier to pay.
			assert_eq!(quote.unwrap().fee, 100 + 34 + 40 + 24);
			let request = ask(model, ALICE);
			settle_within(request, 6, &[]);
			assert_eq!(state(request), RequestState::Final);
			assert!(verifiers(request).is_empty());
			assert!(events().iter().any(|e| matches!(
				e,
				Event::RequestFinal { request: r, verifiers, .. } if *r == request && verifiers.is_empty()
			)));
		}
		blocks(10);
		assert!(reported().is_empty());
	});
}

#[test]
fn what_it_cannot_answer_it_says() {
	alone(|| {
		let request = Inference::do_request(
			ALICE,
			id(TEXT),
			text("poison", 4),
			Assurance::Committee(2),
			1_000,
			0,
		)
		.unwrap();
		settle_within(request, 6, &[]);
		assert_eq!(state(request), RequestState::Unanswerable);
		let output = Inference::request_view(request).unwrap().output.unwrap();
		assert_eq!(output.unanswerable(), Some(Unanswerable::GraphRefused));
	});
}

#[test]
fn when_it_is_silent_the_request_ends_and_the_money_returns() {
	alone(|| {
		let before = Balances::free_balance(ALICE);
		let request = ask(TEXT, ALICE);
		settle_within(request, 40, &[(VALIDATORS[0], Habit::Silent)]);
		assert_eq!(state(request), RequestState::Expired);
		assert_eq!(Balances::free_balance(ALICE), before);
	});
}
