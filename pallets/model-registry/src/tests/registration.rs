use consilience_primitives::{model::ModelStatus, model::NumericClass};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold},
	sp_runtime::TokenError,
};

use crate::{mock::*, DeprecatedAt, Error, Event, HoldReason, Models};

fn held(who: u64) -> u64 {
	Balances::balance_on_hold(&HoldReason::ModelDeposit.into(), &who)
}

#[test]
fn registers_with_a_deposit() {
	run(|| {
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(1),
			id(1),
			spec(1),
			price()
		));
		let deposit = ModelRegistry::deposit_for(&spec(1));
		assert!(deposit > 1_000, "bytes cost too");
		assert_eq!(held(1), deposit);
		System::assert_last_event(
			Event::ModelRegistered {
				model: id(1),
				owner: 1,
				deposit,
			}
			.into(),
		);
		let view = ModelRegistry::model(id(1)).unwrap();
		assert_eq!((view.status, view.owner), (ModelStatus::Registered, 1));
	});
}

#[test]
fn refuses_duplicates_and_too_many() {
	run(|| {
		for n in 0..4 {
			assert_ok!(ModelRegistry::register(
				RuntimeOrigin::signed(1),
				id(n),
				spec(n),
				price()
			));
		}
		assert_noop!(
			ModelRegistry::register(RuntimeOrigin::signed(2), id(3), spec(3), price()),
			Error::<Test>::AlreadyRegistered
		);
		assert_noop!(
			ModelRegistry::register(RuntimeOrigin::signed(2), id(9), spec(9), price()),
			Error::<Test>::TooManyModels
		);
		assert_eq!(ModelRegistry::models(None, 10).len(), 4);
		let first = ModelRegistry::models(None, 1)[0].id;
		assert_eq!(ModelRegistry::models(Some(first), 10).len(), 3);
	});
}

#[test]
fn refuses_bad_descriptions_each_with_its_reason() {
	run(|| {
		let check = |change: fn(&mut consilience_primitives::model::ModelSpec),
		             error: Error<Test>| {
			let mut bad = spec(1);
			change(&mut bad);
			assert_noop!(
				ModelRegistry::register(RuntimeOrigin::signed(1), id(1), bad, price()),
				error
			);
		};
		check(
			|s| s.name = vec![0xff].try_into().unwrap(),
			Error::<Test>::BadName,
		);
		check(
			|s| s.name = b"  ".to_vec().try_into().unwrap(),
			Error::<Test>::BadName,
		);
		check(|s| s.limits.max_output_units = 0, Error::<Test>::BadLimits);
		check(
			|s| s.time.output_units_per_block = 0,
			Error::<Test>::BadLimits,
		);
		check(|s| s.policy.positions = 0, Error::<Test>::BadPolicy);
		check(|s| s.policy.accept.max = 1, Error::<Test>::BadPolicy);
		check(|s| s.policy.min_verifiers = 0, Error::<Test>::BadPolicy);
		check(
			|s| s.task = consilience_primitives::model::Task::Tensor,
			Error::<Test>::BadSignature,
		);
		check(
			|s| s.policy.class = NumericClass::Tolerant,
			Error::<Test>::BadReference,
		);
	});
}

#[test]
fn needs_the_deposit() {
	run(|| {
		assert_noop!(
			ModelRegistry::register(RuntimeOrigin::signed(77), id(1), spec(1), price()),
			TokenError::FundsUnavailable
		);
	});
}

#[test]
fn only_the_owner_changes_deprecates_and_removes() {
	run(|| {
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(1),
			id(1),
			spec(1),
			price()
		));
		for call in [
			ModelRegistry::set_price(RuntimeOrigin::signed(2), id(1), price()),
			ModelRegistry::deprecate(RuntimeOrigin::signed(2), id(1)),
			ModelRegistry::remove(RuntimeOrigin::signed(2), id(1)),
		] {
			assert_eq!(call, Err(Error::<Test>::NotOwner.into()));
		}
		let mut dearer = price();
		dearer.per_request = 99;
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(1),
			id(1),
			dearer
		));
		assert_eq!(Models::<Test>::get(id(1)).unwrap().price.per_request, 99);
		assert_noop!(
			ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)),
			Error::<Test>::NotDeprecated
		);
		assert_ok!(ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)));
		assert_noop!(
			ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)),
			Error::<Test>::AlreadyDeprecated
		);
	});
}

#[test]
fn removal_returns_the_deposit_once_no_request_is_open() {
	run(|| {
		let before = Balances::free_balance(1);
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(1),
			id(1),
			spec(1),
			price()
		));
		assert_ok!(ModelRegistry::serve(
			&4,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_ok!(ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)));
		ModelRegistry::request_opened(id(1));
		assert_noop!(
			ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)),
			Error::<Test>::RequestsOpen
		);
		ModelRegistry::request_closed(id(1));
		assert_ok!(ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)));
		assert_eq!((Balances::free_balance(1), held(1)), (before, 0));
		assert!(ModelRegistry::served_by(4).is_empty());
		assert_noop!(
			ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)),
			Error::<Test>::UnknownModel
		);
	});
}

#[test]
fn what_a_model_has_answered_can_be_measured_for_a_while_after_its_deprecation() {
	run(|| {
		RemovalDelay::set(10);
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(1),
			id(1),
			spec(1),
			price()
		));
		System::set_block_number(5);
		assert_ok!(ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)));
		System::set_block_number(14);
		assert_noop!(
			ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)),
			Error::<Test>::DeprecatedTooRecently
		);
		System::set_block_number(15);
		assert_ok!(ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)));
		assert_eq!(DeprecatedAt::<Test>::iter().count(), 0);
	});
}
