//! Windows of blocks, and what they draw.

use consilience_primitives::session::Service;

use crate::{mock::*, Claims, DrawRange, Draws, Error, Event, PointState, Windows, MAX_WINDOWS};

#[test]
fn points_are_drawn_by_blocks_after_the_claim() {
	let draw = |salt: u64| {
		let mut found = Vec::new();
		run(|| {
			PointInterval::set(100);
			let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
			let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[50, 60, 70]));
			assert_eq!(settle(&[claim]), Ok(()));
			set_salt(salt);
			assert_eq!(Claims::<Test>::get(0).unwrap().deadline, None);
			drawn();
			let claim = Claims::<Test>::get(0).unwrap();
			// 130, 150 and 170: four whole intervals and a half.
			assert_eq!(claim.root.sum, 450);
			assert!((4..=5).contains(&claim.points.len()));
			for (place, point) in (0..).zip(&claim.points) {
				assert_eq!(point.offset / 100, place);
				assert_eq!(point.state, PointState::Due);
			}
			found = claim.points.iter().map(|point| point.offset).collect();
			assert!(events().iter().any(|e| matches!(
				e,
				Event::PointsDrawn { claim: 0, offsets, .. } if *offsets == found
			)));
			assert_eq!(Sessions::openings_due(&EXECUTOR).len(), found.len());
			blocks(20);
		});
		found
	};
	assert_eq!(draw(1), draw(1));
	assert_ne!(draw(1), draw(2));
}

#[test]
fn a_block_counts_draws_only_when_it_can_draw() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(settle(&[claim]), Ok(()));
		let mut counted = 0;
		for _ in 0..2 * WINDOW {
			let coming = Sessions::coming_draws(System::block_number());
			let waits = |(first, end)| end - first;
			let before: u64 = waits(DrawRange::<Test>::get());
			next_block();
			let drawn = before - waits(DrawRange::<Test>::get());
			assert!(drawn <= u64::from(coming));
			counted += coming;
		}
		assert_eq!(counted, 1);
	});
}

#[test]
fn checks_have_no_points() {
	run(|| {
		PointInterval::set(60);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 500);
		assert_eq!(settle(&[checks_of(id, CHECKER, 480)]), Ok(()));
		drawn();
		let claim = Claims::<Test>::get(0).unwrap();
		assert_eq!(claim.service, Service::Check);
		assert!(claim.points.is_empty() && claim.deadline.is_some());
		assert!(Sessions::openings_due(&CHECKER).is_empty());
	});
}

#[test]
fn a_full_queue_is_drawn_for_in_its_order_by_the_window_that_each_waited_for() {
	let draw = |most: u32| {
		let mut points: Vec<(u64, Vec<u64>)> = Vec::new();
		run(|| {
			MaxDraws::set(8);
			PointInterval::set(60);
			let id = open(ALICE, &[(EXECUTOR, 10_000), (OTHER, 10_000)], 0);
			MaxDraws::set(most);
			for n in 1..=5 {
				let claims = [EXECUTOR, OTHER].map(|p| claim_of(id, p, &answers(n, &[50])).0);
				assert_eq!(settle(&claims), Ok(()));
			}
			let before = System::block_number();
			while DrawRange::<Test>::get().0 < DrawRange::<Test>::get().1 {
				let (first, _) = DrawRange::<Test>::get();
				next_block();
				check();
				assert!(DrawRange::<Test>::get().0 - first <= u64::from(most));
				assert!(System::block_number() < before + 30);
			}
			assert!(Windows::<Test>::get().is_empty());
			assert_eq!(Draws::<Test>::iter().count(), 0);
			points = events()
				.into_iter()
				.filter_map(|e| match e {
					Event::PointsDrawn { claim, offsets, .. } => Some((claim, offsets)),
					_ => None,
				})
				.collect();
			assert_eq!(points.len(), 10);
		});
		points
	};
	// However long it takes: nobody can have other points by filling the queue.
	assert_eq!(draw(10), draw(1));
}

#[test]
fn without_randomness_nothing_new_is_taken_after_a_while_and_nothing_is_lost() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 10_000)], 0);
		set_vrf(false);
		let mut number = 1;
		let mut refusals = 0;
		for _ in 0..MAX_WINDOWS + 2 {
			let (claim, _) = claim_of(id, EXECUTOR, &answers(number, &[50]));
			match settle(&[claim]) {
				Ok(()) => number += 1,
				other => {
					assert_eq!(other, refused(Error::NoRandomness));
					assert_eq!(
						try_open(BOB, &[(EXECUTOR, 100)], 0),
						Err(Error::<Test>::NoRandomness.into())
					);
					refusals += 1;
				}
			}
			check();
			blocks(WINDOW);
		}
		assert_eq!(refusals, 2);
		set_vrf(true);
		blocks(10);
		assert_eq!(DrawRange::<Test>::get().0, DrawRange::<Test>::get().1);
		let (claim, _) = claim_of(id, EXECUTOR, &answers(number, &[50]));
		assert_eq!(settle(&[claim]), Ok(()));
	});
}
