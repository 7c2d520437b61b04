use std::collections::BTreeSet;

use consilience_primitives::{request::Assurance, view::RequestState};

use crate::{mock::*, Assignments, Role};

#[test]
fn never_with_the_randomness_of_the_events_own_block() {
	run(|| {
		let request = ask(TEXT, ALICE);
		let asked = polkadot_sdk::frame_system::Pallet::<Test>::block_number();
		// The end of the request's own block draws nothing.
		next_block();
		assert_eq!(state(request), RequestState::Requested);
		next_block();
		assert_eq!(state(request), RequestState::Assigned);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.assigned_at, Some(asked + 1));
		work(executor(request), Habit::Honest);
		next_block();
		assert!(
			verifiers(request).is_empty(),
			"the answer's own block draws nothing"
		);
		next_block();
		assert_eq!(verifiers(request).len(), 2);
	});
}

#[test]
fn final_in_five_blocks_after_the_request() {
	run(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.state, RequestState::Final);
		assert_eq!(view.provisional_at.unwrap() - view.requested_at, 2);
		assert_eq!(view.settled_at.unwrap() - view.requested_at, 5);
		// Shown by `scripts/bench protocol`.
		println!(
			"figure blocks from the request, without compute and with finality at once: Provisional {}, Final {}",
			view.provisional_at.unwrap() - view.requested_at,
			view.settled_at.unwrap() - view.requested_at
		);
	});
}

#[test]
fn waits_for_a_block_with_randomness() {
	run(|| {
		let request = ask(TEXT, ALICE);
		set_vrf(false);
		blocks(4);
		assert_eq!(state(request), RequestState::Requested);
		set_vrf(true);
		next_block();
		assert_eq!(state(request), RequestState::Assigned);
	});
}

#[test]
fn verifiers_are_distinct_and_not_the_executor() {
	run(|| {
		for _ in 0..5 {
			let request = ask(TEXT, ALICE);
			settle_within(request, 6, &[]);
			let mut all: BTreeSet<_> = verifiers(request).into_iter().collect();
			assert_eq!(all.len(), 2);
			assert!(all.insert(executor(request)));
		}
	});
}

#[test]
fn everybody_is_drawn_sooner_or_later() {
	run(|| {
		let mut executors = BTreeSet::new();
		for _ in 0..60 {
			let request = ask(TEXT, ALICE);
			settle_within(request, 6, &[]);
			executors.insert(executor(request));
		}
		assert_eq!(executors.len(), VALIDATORS.len());
	});
}

#[test]
fn nobody_gets_more_than_its_capacity_and_a_flood_is_worked_off() {
	run(|| {
		let mut asked = Vec::new();
		for who in [ALICE, BOB] {
			asked.extend((0..6).map(|_| ask(TEXT, who)));
		}
		for _ in 0..20 {
			for v in VALIDATORS {
				let duties = Assignments::<Test>::get(v);
				assert!(duties.len() <= 4);
				// Room for two verifiers beside each executor.
				assert!(duties.iter().filter(|(_, r)| *r == Role::Executor).count() <= 1);
			}
			work_block(&[]);
			check();
		}
		for request in asked {
			assert_eq!(state(request), RequestState::Final);
		}
	});
}

#[test]
fn draws_that_fail_do_not_hold_up_the_others() {
	run(|| {
		// As many requests as are drawn in a block, for a committee that nobody can make up once validators left.
		for _ in 0..6 {
			Inference::do_request(
				ALICE,
				id(TEXT),
				text("hi", 4),
				Assurance::Committee(4),
				1_000,
				0,
			)
			.unwrap();
		}
		set_session(&VALIDATORS[..4]);
		let request = ask(TEXT, BOB);
		next_block();
		assert_eq!(state(request), RequestState::Requested);
		blocks(2);
		assert_eq!(state(request), RequestState::Assigned);
	});
}

#[test]
fn nobody_is_set_to_work_whom_too_few_could_check() {
	run(|| {
		set_session(&VALIDATORS[..2]);
		// Two are too few to keep the model active.
		assert_eq!(
			pallet_model_registry::Models::<Test>::get(id(TEXT))
				.unwrap()
				.status,
			consilience_primitives::model::ModelStatus::Registered
		);
		set_session(&VALIDATORS);
	});
	run(|| {
		let request = ask(TEXT, ALICE);
		set_session(&VALIDATORS[..2]);
		blocks(3);
		assert_eq!(state(request), RequestState::Requested);
	});
}
