//! What is claimed and not audited yet stays at or below half of what its executor can lose.

use polkadot_sdk::frame_support::assert_ok;

use crate::{mock::*, Claims, Error, Event, Unaudited};

#[test]
fn claims_stay_at_or_below_half_of_the_stake_and_are_good_once_there_is_room() {
	run(|| {
		PointInterval::set(u64::MAX);
		let id = open(ALICE, &[(EXECUTOR, 2_000), (OTHER, 1_000)], 0);
		set_stake(EXECUTOR, 0, 601);
		assert_eq!(Sessions::claim_room(&EXECUTOR, 0), 300);
		let (first, _) = claim(id, EXECUTOR, &answers(1, &[60]));
		assert_eq!(Unaudited::<Test>::get(EXECUTOR), 150);
		assert_eq!(Sessions::claim_room(&EXECUTOR, 0), 150);
		// A coin too much.
		let (second, _) = claim_of(id, EXECUTOR, &answers(2, &[61]));
		assert_eq!(settle(&[second]), refused(Error::OverStake));
		let (second, _) = claim_of(id, EXECUTOR, &answers(2, &[60]));
		assert_eq!(settle(&[second]), Ok(()));
		assert_eq!(Sessions::claim_room(&EXECUTOR, 0), 0);
		// What waits is claimed when the first is paid, with the same voucher.
		let (third, _) = claim_of(id, EXECUTOR, &answers(3, &[60]));
		assert_eq!(
			settle(std::slice::from_ref(&third)),
			refused(Error::OverStake)
		);
		// Others have stakes of their own.
		let (others, _) = claim_of(id, OTHER, &answers(1, &[60]));
		assert_eq!(settle(&[others]), Ok(()));
		for _ in 0..20 {
			if Claims::<Test>::contains_key(first) {
				next_block();
			}
		}
		assert_eq!(settle(&[third]), Ok(()));
		assert_eq!(Unaudited::<Test>::get(EXECUTOR), 300);
	});
}

#[test]
fn however_a_claim_ends_it_counts_no_more() {
	run(|| {
		PointInterval::set(50);
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let (first, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
		assert_eq!(open_receipt(first, 0, &openings[0]), Ok(()));
		// It waits for its measurement, and counts.
		blocks(20);
		assert_eq!(Unaudited::<Test>::get(EXECUTOR), 150);
		tell(0, false);
		assert!(!Unaudited::<Test>::contains_key(EXECUTOR));
		let (second, _) = claim(id, EXECUTOR, &answers(2, &[60]));
		assert_eq!(Unaudited::<Test>::get(EXECUTOR), 150);
		blocks(20);
		assert!(!Claims::<Test>::contains_key(second), "not opened");
		assert!(!Unaudited::<Test>::contains_key(EXECUTOR));
	});
}

#[test]
fn two_claims_of_one_transaction_count_together() {
	run(|| {
		PointInterval::set(u64::MAX);
		let one = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let two = open(BOB, &[(EXECUTOR, 1_000)], 0);
		set_stake(EXECUTOR, 0, 400);
		let (first, _) = claim_of(one, EXECUTOR, &answers(1, &[60]));
		let (second, _) = claim_of(two, EXECUTOR, &answers(1, &[60]));
		assert_eq!(settle(&[first, second]), Ok(()));
		assert!(events().contains(&Event::ClaimSkipped {
			index: 1,
			reason: Error::<Test>::OverStake.into()
		}));
		assert_eq!(Unaudited::<Test>::get(EXECUTOR), 150);
	});
}

#[test]
fn an_older_key_does_not_bring_back_stake_that_has_left() {
	run(|| {
		PointInterval::set(u64::MAX);
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let (old, _) = claim_of(id, EXECUTOR, &answers(1, &[60]));
		next_session();
		certify_all();
		set_stake(EXECUTOR, 1, 200);
		assert_eq!(Sessions::claim_room(&EXECUTOR, 0), 100);
		assert_eq!(settle(&[old]), refused(Error::OverStake));
		// Nor does stake that has come answer for what was done before.
		set_stake(EXECUTOR, 0, 100);
		set_stake(EXECUTOR, 1, 1_000_000);
		assert_eq!(Sessions::claim_room(&EXECUTOR, 0), 50);
	});
	// Whoever was never a validator in that session has nothing to lose.
	run(|| {
		set_stake(99, 0, 0);
		assert_eq!(Sessions::claim_room(&99, 0), 0);
	});
}

#[test]
fn checks_are_not_audited_and_not_counted() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 500);
		set_stake(CHECKER, 0, 0);
		assert_eq!(settle(&[checks_of(id, CHECKER, 200)]), Ok(()));
		assert_eq!(Unaudited::<Test>::iter().count(), 0);
		assert_ok!(Sessions::close(RuntimeOrigin::signed(ALICE), id));
	});
}
