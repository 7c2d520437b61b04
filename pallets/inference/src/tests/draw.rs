use std::collections::BTreeSet;

use consilience_primitives::{
	request::Assurance,
	view::{QuoteError, RequestState},
};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	sp_core::H256,
};

use crate::{mock::*, Assignments, Error, Requests, Role};

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
			"figure mock_blocks_to_final = {} [at most 5] windows of one block, no compute, finality at once; Provisional after {}",
			view.settled_at.unwrap() - view.requested_at,
			view.provisional_at.unwrap() - view.requested_at
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
		// An executor's 400 thousandths of a block, and 100 for each of two verifiers.
		assert_eq!(crate::Reserved::<Test>::get(), 12 * 600);
		for _ in 0..20 {
			for v in VALIDATORS {
				let duties = Assignments::<Test>::iter_prefix_values(v);
				let executing = duties.filter(|a| a.role == Role::Executor);
				assert!(executing.map(|a| a.work).sum::<u32>() <= MaxLoad::get());
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
fn what_cannot_be_done_in_time_is_refused_and_nobody_has_it_all() {
	run(|| {
		// Seven that take two executions each at a time, or eleven requests with their verifiers.
		MaxLoad::set(1_000);
		for _ in 0..5 {
			ask(TEXT, ALICE);
		}
		let refused = |who| {
			assert_noop!(
				Inference::do_request(
					who,
					id(TEXT),
					text("hi", 4),
					Assurance::Committee(2),
					1_000,
					0
				),
				Error::<Test>::NoCapacity
			);
		};
		refused(ALICE);
		for _ in 0..5 {
			ask(TEXT, BOB);
		}
		refused(BOB);
		assert!(
			Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2)).is_ok(),
			"there is room for one"
		);
		refused(ALICE);
		ask(TEXT, OWNER);
		assert_eq!(
			Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2)),
			Err(QuoteError::NoCapacity { blocks: 1 })
		);
		for request in 0..11 {
			settle_within(request, 20, &[]);
			assert_eq!(
				state(request),
				RequestState::Final,
				"what was taken is answered"
			);
		}
		MaxLoad::set(4_000);
	});
}

#[test]
fn a_request_that_is_more_than_anybody_takes_at_a_time_is_done_by_who_has_nothing_else() {
	run(|| {
		MaxLoad::set(100);
		let request = ask(TEXT, ALICE);
		settle_within(request, 8, &[]);
		assert_eq!(state(request), RequestState::Final);
		MaxLoad::set(4_000);
	});
}

#[test]
fn whoever_comes_for_one_request_is_too_late_for_it() {
	run(|| {
		for v in &VALIDATORS[..4] {
			assert_ok!(ModelRegistry::withdraw(v, id(TEXT)));
		}
		let request = ask(TEXT, ALICE);
		next_block();
		for v in &VALIDATORS[..4] {
			assert_ok!(ModelRegistry::serve(
				v,
				id(TEXT),
				&digest(7),
				Speed::default()
			));
		}
		settle_within(request, 8, &[]);
		let mut members = verifiers(request);
		members.push(executor(request));
		members.sort_unstable();
		assert_eq!(members, VALIDATORS[4..]);
	});
}

#[test]
fn verifiers_are_drawn_with_the_randomness_of_several_blocks_after_the_answer_in_fixed_windows() {
	run(|| {
		DrawOdds::set(1_000);
		let request = ask(TEXT, ALICE);
		blocks(2);
		let windows = Requests::<Test>::get(request).unwrap().windows.unwrap();
		let assigned = System::block_number() - 1;
		assert_eq!((windows.first, windows.blocks), (assigned + 2, 7));
		// The executor waits for a better time: it gets the next window, and no other.
		blocks(3);
		let answered = System::block_number();
		work(executor(request), Habit::Honest);
		while verifiers(request).is_empty() {
			next_block();
		}
		let last = System::block_number() - 1;
		assert_eq!(last, windows.first + 13);
		assert!(last >= answered + 7, "no block before the answer counts");
		DrawOdds::set(0);
	});
}

/// The challenge under which a request is measured, whose verifiers seven blocks draw, where the output of one of them is another.
fn with_another(place: Option<usize>) -> H256 {
	let mut challenge = None;
	externalities().execute_with(|| {
		DrawOdds::set(1_000);
		let request = ask(TEXT, ALICE);
		blocks(2);
		let windows = Requests::<Test>::get(request).unwrap().windows.unwrap();
		work(executor(request), Habit::Honest);
		let last = windows.first + u64::from(windows.blocks) - 1;
		while System::block_number() < last {
			next_block();
		}
		// The output of this block itself is not there yet.
		if let Some(place) = place {
			crate::Beacon::<Test>::mutate(|beacon| {
				let at = beacon.len() - 1 - place;
				beacon[at].1 = H256::repeat_byte(1);
			});
		}
		next_block();
		challenge = Inference::request_view(request).unwrap().challenge;
		DrawOdds::set(0);
	});
	challenge.unwrap()
}

#[test]
fn the_randomness_of_every_block_of_a_window_decides() {
	let places = (0..6).map(Some).chain([None]);
	let all: BTreeSet<_> = places.map(with_another).collect();
	assert_eq!(all.len(), 7, "who owns six of seven blocks knows nothing");
	assert_eq!(with_another(Some(6)), with_another(None), "one before it");
}

#[test]
fn a_jury_is_drawn_with_the_randomness_of_several_blocks_too() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		blocks(2);
		DrawOdds::set(1_000);
		while state(request) != RequestState::Disputed {
			work_block(&[(liar, Habit::Vouching)]);
		}
		let draw = Requests::<Test>::get(request).unwrap().draw.unwrap();
		assert_eq!(draw.blocks, 7);
		assert!(
			draw.from >= System::block_number(),
			"no block that is known"
		);
		assert_eq!(draw.at, draw.from + 6);
		settle_within(request, 30, &[(liar, Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
		DrawOdds::set(0);
	});
}

#[test]
fn what_an_author_can_vary_changes_the_challenge_and_not_who_is_drawn() {
	let drawn = |parent: u8| {
		let mut found = None;
		externalities().execute_with(|| {
			let request = ask(TEXT, ALICE);
			blocks(2);
			work(executor(request), Habit::Honest);
			next_block();
			System::set_parent_hash(H256::repeat_byte(parent));
			next_block();
			let view = Inference::request_view(request).unwrap();
			found = Some((view.executor, view.verifiers, view.challenge));
		});
		found.unwrap()
	};
	let (one, other) = (drawn(1), drawn(2));
	assert_eq!((one.0, &one.1), (other.0, &other.1));
	assert_ne!(one.2, other.2);
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

#[test]
fn a_slow_machine_is_drawn_less_often_and_takes_less_at_a_time() {
	run(|| {
		let slow = VALIDATORS[0];
		let serve = |who: u64, speed: Speed| {
			let _ = ModelRegistry::withdraw(&who, id(TEXT));
			assert_ok!(ModelRegistry::serve(&who, id(TEXT), &digest(7), speed));
		};
		serve(
			slow,
			Speed {
				pace: Speed::MOST_PACE,
				duty: 0,
			},
		);
		next_block();
		let mut executions = 0;
		for _ in 0..60 {
			let request = ask(TEXT, ALICE);
			settle_within(request, 30, &[]);
			executions += u32::from(executor(request) == slow);
		}
		// Of seven, each would be in eight or nine of sixty; a quarter of that, and chance.
		assert!(executions <= 7, "{executions}");
		// Its load is what it needs and not what the model's description says.
		let request = (0..200)
			.find_map(|_| {
				let request = ask(TEXT, ALICE);
				blocks(2);
				if executor(request) == slow {
					return Some(request);
				}
				settle_within(request, 30, &[]);
				None
			})
			.expect("it is drawn at times");
		let described = crate::Requests::<Test>::get(request).unwrap().work;
		let load = crate::Assignments::<Test>::get(slow, request).unwrap().work;
		assert_eq!(load, 4 * described);
	});
}

#[test]
fn what_duties_take_beside_the_model_counts() {
	run(|| {
		let serving = || pallet_model_registry::Serving::<Test>::get(id(TEXT));
		let capacity = Inference::capacity(id(TEXT), &[0, 1, 2, 3, 4, 5, 6], 7);
		assert_eq!((capacity.whole, capacity.taken), (7 * 4_000, 0));
		let one = |verifiers| Inference::whole_work(&serving(), 4, verifiers);
		assert_eq!(one(2), 4 + 2);
		let speed = Speed {
			pace: 500,
			duty: 30,
		};
		for who in VALIDATORS {
			assert_ok!(ModelRegistry::withdraw(&who, id(TEXT)));
			assert_ok!(ModelRegistry::serve(&who, id(TEXT), &digest(7), speed));
		}
		// 4 units of work are 2 on these machines; a check is 1, and 0 on them.
		assert_eq!(one(2), 32 + 2 * 30);
		// One machine says nothing of the others.
		let fast = Speed {
			pace: Speed::LEAST_PACE,
			duty: 0,
		};
		assert_ok!(ModelRegistry::withdraw(&VALIDATORS[0], id(TEXT)));
		assert_ok!(ModelRegistry::serve(
			&VALIDATORS[0],
			id(TEXT),
			&digest(7),
			fast
		));
		assert_eq!(one(2), 32 + 2 * 30);
	});
}

#[test]
fn whoever_is_late_counts_as_slower() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let late = executor(request);
		let speed = || {
			let serving = pallet_model_registry::Serving::<Test>::get(id(TEXT));
			serving.into_iter().find(|s| s.who == late).unwrap().speed
		};
		assert_eq!(speed(), Speed::default());
		let deadline = crate::Requests::<Test>::get(request).unwrap().deadline;
		blocks(deadline + 1 - System::block_number());
		assert_eq!(
			speed(),
			Speed {
				pace: 2_000,
				duty: 2
			}
		);
	});
}

#[test]
fn a_speed_that_nobody_has_is_refused() {
	run(|| {
		assert_ok!(ModelRegistry::withdraw(&VALIDATORS[0], id(TEXT)));
		for speed in [
			Speed { pace: 0, duty: 0 },
			Speed {
				pace: Speed::MOST_PACE + 1,
				duty: 0,
			},
			Speed {
				pace: 1_000,
				duty: Speed::MOST_DUTY + 1,
			},
		] {
			assert_eq!(
				ModelRegistry::serve(&VALIDATORS[0], id(TEXT), &digest(7), speed),
				Err(pallet_model_registry::Error::<Test>::BadSpeed.into())
			);
		}
	});
}

#[test]
fn no_duty_is_so_short_that_a_third_of_the_authors_can_have_somebody_blamed() {
	run(|| {
		pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
			model.as_mut().unwrap().spec.time.base_blocks = 1;
		});
		let request = ask(TEXT, ALICE);
		blocks(2);
		let least = RevealBlocks::get();
		let deadline = || Requests::<Test>::get(request).unwrap().deadline;
		assert_eq!(deadline(), System::block_number() - 1 + least);
		work(executor(request), Habit::Honest);
		blocks(2);
		assert!(!verifiers(request).is_empty());
		assert_eq!(deadline(), System::block_number() - 1 + least);
	});
}
