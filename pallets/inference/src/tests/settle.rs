use consilience_primitives::{model::Price, request::Assurance, view::RequestState};
use polkadot_sdk::{frame_support::assert_ok, sp_runtime::Perbill};

use crate::{mock::*, Event};

#[test]
fn requesters_loss_is_what_was_paid_to_the_unit() {
	run(|| {
		let money = total();
		let before: Vec<_> = VALIDATORS.map(Balances::free_balance).into();
		let (alice, treasury) = (
			Balances::free_balance(ALICE),
			Balances::free_balance(TREASURY),
		);
		let request = Inference::do_request(
			ALICE,
			id(TEXT),
			text("hi", 4),
			Assurance::Committee(2),
			1_000,
			7,
		)
		.unwrap();
		settle_within(request, 6, &[]);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.state, RequestState::Final);
		// 100 a request, 34 input units, 3 tokens of at most 4; each verifier what a measurement is worth, which is more than 20 % of
		// that; half a measurement of the longest answer for juries; and the tip.
		let (price, check, premium) = (100 + 34 + 30, 10 + 34 + 3, (10 + 34 + 4) / 2);
		let cost = price + 2 * check + premium + 7;
		assert_eq!((view.paid, view.refunded), (cost, 1_000 - cost));
		assert_eq!(alice - Balances::free_balance(ALICE), cost);
		let earned = |v: u64| {
			let i = VALIDATORS.iter().position(|o| *o == v).unwrap();
			Balances::free_balance(v) - before[i]
		};
		// A tenth of the price, rounded down, is the treasury's.
		assert_eq!(earned(view.executor.unwrap()), price - 16 + 7);
		for v in &view.verifiers {
			assert_eq!(earned(*v), check);
		}
		assert_eq!(Balances::free_balance(TREASURY) - treasury, 16);
		assert_eq!(Balances::free_balance(FUND), 1_000 + premium);
		assert_eq!(total(), money);
	});
}

#[test]
fn verifiers_of_a_model_that_costs_nothing_are_paid_what_a_measurement_is_worth() {
	run(|| {
		let free = Price {
			per_request: 0,
			per_input_unit: 0,
			per_output_unit: 0,
		};
		let signed = RuntimeOrigin::signed(OWNER);
		assert_ok!(ModelRegistry::set_price(signed, id(TEXT), free));
		for verifiers in 1..=5 {
			let assurance = Assurance::Committee(verifiers);
			let before = VALIDATORS.map(Balances::free_balance);
			let request =
				Inference::do_request(ALICE, id(TEXT), text("hi", 4), assurance, 1_000, 0).unwrap();
			settle_within(request, 8, &[]);
			assert_eq!(state(request), RequestState::Final);
			let earned: u64 = VALIDATORS
				.map(Balances::free_balance)
				.iter()
				.zip(before)
				.map(|(after, before)| after - before)
				.sum();
			// 10, and 1 for each of 34 units in and 3 out.
			assert_eq!(earned, u64::from(verifiers) * 47);
		}
	});
}

#[test]
fn a_price_change_does_not_touch_open_requests() {
	run(|| {
		let request = ask(TEXT, ALICE);
		let mut dearer = price();
		dearer.per_request = 500;
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			id(TEXT),
			dearer
		));
		settle_within(request, 6, &[]);
		assert_eq!(
			Inference::request_view(request).unwrap().paid,
			100 + 34 + 30 + 2 * 47 + 24
		);
	});
}

#[test]
fn a_model_is_not_removed_under_an_open_request() {
	run(|| {
		let request = ask(TEXT, ALICE);
		assert_ok!(ModelRegistry::deprecate(
			RuntimeOrigin::signed(OWNER),
			id(TEXT)
		));
		assert!(ModelRegistry::remove(RuntimeOrigin::signed(OWNER), id(TEXT)).is_err());
		settle_within(request, 6, &[]);
		assert_eq!(
			state(request),
			RequestState::Final,
			"open requests are finished"
		);
		assert!(
			ModelRegistry::remove(RuntimeOrigin::signed(OWNER), id(TEXT)).is_err(),
			"settled answers can be looked at again"
		);
		blocks(25);
		assert_ok!(ModelRegistry::remove(
			RuntimeOrigin::signed(OWNER),
			id(TEXT)
		));
	});
}

#[test]
fn a_share_that_cannot_be_received_goes_back() {
	run(|| {
		// An account that does not exist cannot receive less than the existential deposit.
		let mut parameters = crate::Parameters::<Test>::get();
		parameters.measurement.base = 0;
		parameters.measurement.per_unit = 0;
		parameters.verifier_share = Perbill::from_percent(5);
		crate::Parameters::<Test>::put(parameters);
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let poor = verifiers(request)[0];
		let all = Balances::free_balance(poor);
		assert_ok!(Balances::transfer_allow_death(
			RuntimeOrigin::signed(poor),
			OWNER,
			all
		));
		settle_within(request, 4, &[]);
		let view = Inference::request_view(request).unwrap();
		// 164, and 5 % of that for one verifier of two.
		assert_eq!(view.paid, 164 + 8);
		assert_eq!(view.paid + view.refunded, 1_000, "nothing is lost");
		let paid: u64 = events()
			.iter()
			.map(|e| match e {
				Event::Paid { amount, .. } => *amount,
				_ => 0,
			})
			.sum();
		assert_eq!(paid, 164 + 8);
	});
}
