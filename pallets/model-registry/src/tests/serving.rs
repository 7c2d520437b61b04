use consilience_primitives::model::ModelStatus;
use polkadot_sdk::frame_support::{assert_noop, assert_ok};

use crate::{mock::*, Differing, Error, Event, Models, Serving};

fn register(n: u8) {
	assert_ok!(ModelRegistry::register(
		RuntimeOrigin::signed(1),
		id(n),
		spec(n),
		price()
	));
}

fn status(n: u8) -> ModelStatus {
	Models::<Test>::get(id(n)).unwrap().status
}

#[test]
fn enough_who_serve_make_a_model_active() {
	run(|| {
		register(1);
		assert_ok!(ModelRegistry::serve(
			&2,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_eq!(status(1), ModelStatus::Registered);
		assert_ok!(ModelRegistry::serve(
			&3,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_eq!(status(1), ModelStatus::Active);
		System::assert_last_event(Event::ModelActive { model: id(1) }.into());
		assert_ok!(ModelRegistry::withdraw(&2, id(1)));
		assert_eq!(status(1), ModelStatus::Registered);
		System::assert_last_event(Event::ModelInactive { model: id(1) }.into());
	});
}

#[test]
fn who_does_not_reproduce_the_reference_does_not_serve() {
	run(|| {
		register(1);
		assert_noop!(
			ModelRegistry::serve(&2, id(1), &evidence(2), Speed::default()),
			Error::<Test>::ReferenceNotReproduced
		);
		let mut wrong = evidence(1);
		wrong.verdict.margin_max = 1;
		assert_noop!(
			ModelRegistry::serve(&2, id(1), &wrong, Speed::default()),
			Error::<Test>::ReferenceNotReproduced
		);
	});
}

#[test]
fn bounds_of_serving() {
	run(|| {
		(1..=3).for_each(register);
		assert_noop!(
			ModelRegistry::serve(&2, id(9), &evidence(9), Speed::default()),
			Error::<Test>::UnknownModel
		);
		assert_ok!(ModelRegistry::serve(
			&2,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_noop!(
			ModelRegistry::serve(&2, id(1), &evidence(1), Speed::default()),
			Error::<Test>::AlreadyServing
		);
		assert_ok!(ModelRegistry::serve(
			&2,
			id(2),
			&evidence(2),
			Speed::default()
		));
		assert_noop!(
			ModelRegistry::serve(&2, id(3), &evidence(3), Speed::default()),
			Error::<Test>::TooManyServed
		);
		assert_ok!(ModelRegistry::serve(
			&3,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_ok!(ModelRegistry::serve(
			&4,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_noop!(
			ModelRegistry::serve(&5, id(1), &evidence(1), Speed::default()),
			Error::<Test>::TooManyServing
		);
		assert_noop!(
			ModelRegistry::withdraw(&5, id(1)),
			Error::<Test>::NotServing
		);
	});
}

#[test]
fn a_place_is_kept_by_who_has_proven_that_it_can_serve() {
	run(|| {
		register(1);
		let serving = || Serving::<Test>::get(id(1)).into_iter().map(|s| s.who);
		for who in 2..=4 {
			assert_ok!(
				ModelRegistry::serve(&who, id(1), &evidence(1), Speed::default()),
				None
			);
			System::set_block_number(System::block_number() + 1);
		}
		ModelRegistry::proven(id(1), &[2, 9]);
		// Its time is not over.
		assert_noop!(
			ModelRegistry::serve(&5, id(1), &evidence(1), Speed::default()),
			Error::<Test>::TooManyServing
		);
		System::set_block_number(2 + ServingGrace::get());
		// The second has proven nothing for longest.
		assert_ok!(
			ModelRegistry::serve(&5, id(1), &evidence(1), Speed::default()),
			Some(3)
		);
		System::assert_has_event(
			Event::ServingDisplaced {
				model: id(1),
				validator: 3,
			}
			.into(),
		);
		assert_eq!(serving().collect::<Vec<_>>(), [2, 4, 5]);
		assert!(ModelRegistry::served_by(3).is_empty());
		ModelRegistry::proven(id(1), &[4, 5]);
		System::set_block_number(1_000);
		// All have proven that they can.
		assert_noop!(
			ModelRegistry::serve(&3, id(1), &evidence(1), Speed::default()),
			Error::<Test>::TooManyServing
		);
		// Whoever comes again begins anew.
		assert_ok!(ModelRegistry::withdraw(&2, id(1)));
		assert_ok!(
			ModelRegistry::serve(&2, id(1), &evidence(1), Speed::default()),
			None
		);
		System::set_block_number(2_000);
		assert_ok!(
			ModelRegistry::serve(&3, id(1), &evidence(1), Speed::default()),
			Some(2)
		);
	});
}

#[test]
fn a_validator_that_leaves_serves_nothing() {
	run(|| {
		register(1);
		register(2);
		for n in 1..=2 {
			assert_ok!(ModelRegistry::serve(
				&2,
				id(n),
				&evidence(n),
				Speed::default()
			));
			assert_ok!(ModelRegistry::serve(
				&3,
				id(n),
				&evidence(n),
				Speed::default()
			));
		}
		ModelRegistry::withdraw_all(&2);
		assert!(ModelRegistry::served_by(2).is_empty());
		assert_eq!(
			(status(1), status(2)),
			(ModelStatus::Registered, ModelStatus::Registered)
		);
	});
}

#[test]
fn nobody_begins_to_serve_a_deprecated_model() {
	run(|| {
		register(1);
		assert_ok!(ModelRegistry::serve(
			&2,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_ok!(ModelRegistry::serve(
			&3,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert_ok!(ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)));
		assert_noop!(
			ModelRegistry::serve(&4, id(1), &evidence(1), Speed::default()),
			Error::<Test>::AlreadyDeprecated
		);
		assert_ok!(ModelRegistry::withdraw(&2, id(1)));
		assert_eq!(status(1), ModelStatus::Deprecated, "stays withdrawn");
	});
}

#[test]
fn whoever_computes_something_else_says_so_once_and_may_serve_when_it_does_not_any_more() {
	run(|| {
		register(1);
		let differing = || Differing::<Test>::get(id(1)).into_inner();
		assert_noop!(
			ModelRegistry::differ(&2, id(9), evidence(2)),
			Error::<Test>::UnknownModel
		);
		assert_noop!(
			ModelRegistry::differ(&2, id(1), evidence(1)),
			Error::<Test>::ReferenceReproduced
		);
		assert_ok!(ModelRegistry::differ(&2, id(1), evidence(2)));
		System::assert_last_event(
			Event::ReferenceDiffers {
				model: id(1),
				validator: 2,
				evidence: evidence(2),
			}
			.into(),
		);
		assert_eq!(ModelRegistry::model(id(1)).unwrap().differing, [2]);
		assert_noop!(
			ModelRegistry::differ(&2, id(1), evidence(3)),
			Error::<Test>::AlreadyDiffering
		);
		// Another machine, or another library.
		assert_ok!(ModelRegistry::serve(
			&2,
			id(1),
			&evidence(1),
			Speed::default()
		));
		assert!(differing().is_empty());
		assert_noop!(
			ModelRegistry::differ(&2, id(1), evidence(2)),
			Error::<Test>::AlreadyServing
		);
		// The list is bounded, and goes with the model.
		for who in 10.. {
			if ModelRegistry::differ(&who, id(1), evidence(2)).is_err() {
				break;
			}
		}
		assert_eq!(
			differing().len() as u32,
			<<Test as crate::Config>::MaxServing as polkadot_sdk::frame_support::traits::Get<
				u32,
			>>::get()
		);
		assert_ok!(ModelRegistry::withdraw(&2, id(1)));
		assert_ok!(ModelRegistry::deprecate(RuntimeOrigin::signed(1), id(1)));
		assert_noop!(
			ModelRegistry::differ(&3, id(1), evidence(2)),
			Error::<Test>::AlreadyDeprecated
		);
		assert_ok!(ModelRegistry::remove(RuntimeOrigin::signed(1), id(1)));
		assert!(differing().is_empty());
	});
}
