//! The end of claims, and their money to the unit.

use polkadot_sdk::frame_support::assert_ok;

use crate::{mock::*, Audits, Channels, Claims, Error, Event, Forfeit, Shown};

/// Free money of client, executor, treasury and fund.
fn money() -> [u64; 4] {
	[ALICE, EXECUTOR, TREASURY, FUND].map(Balances::free_balance)
}

fn more_than(before: [u64; 4]) -> [i64; 4] {
	let now = money();
	[0, 1, 2, 3].map(|n| now[n] as i64 - before[n] as i64)
}

/// Ends the window of a claim.
fn end_window(claim: u64) {
	let deadline = Claims::<Test>::get(claim).unwrap().deadline.unwrap();
	blocks(deadline + 1 - System::block_number());
}

#[test]
fn a_claim_without_points_is_paid_when_its_window_is_over() {
	run(|| {
		PointInterval::set(u64::MAX);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let before = money();
		let (number, _) = claim(id, EXECUTOR, &answers(1, &[50, 13]));
		assert!(Claims::<Test>::get(number).unwrap().points.is_empty());
		let deadline = Claims::<Test>::get(number).unwrap().deadline.unwrap();
		blocks(deadline - System::block_number());
		assert_eq!(more_than(before), [0; 4]);
		next_block();
		// 130 + 56: a tenth is 18.6, a twentieth 9.3.
		assert_eq!(more_than(before), [0, 186 - 18 - 9, 18, 9]);
		assert!(events().contains(&Event::ClaimPaid {
			claim: number,
			payee: EXECUTOR,
			paid: 159,
			to_treasury: 18,
			to_fund: 9
		}));
		assert_eq!(held(ALICE), 1_000 - 186);
		assert_eq!(Claims::<Test>::iter().count(), 0);
		assert!(not_shown().is_empty());
	});
}

#[test]
fn checks_are_paid_alike() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 500);
		let before = money();
		assert_eq!(settle(&[checks_of(id, EXECUTOR, 300)]), Ok(()));
		drawn();
		end_window(0);
		assert_eq!(more_than(before), [0, 255, 30, 15]);
	});
}

#[test]
fn a_claim_whose_answers_stand_is_paid_after_its_window_and_after_the_last_is_measured() {
	run(|| {
		PointInterval::set(80);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let before = money();
		let (number, openings) = claim(id, EXECUTOR, &answers(1, &[60, 70]));
		for place in 0..2 {
			let details = Claims::<Test>::get(number).unwrap();
			let point = details
				.points
				.iter()
				.position(|p| at_point(&openings, p.offset, &details.root) == place)
				.unwrap();
			assert_eq!(open_receipt(number, point as u32, &openings[place]), Ok(()));
		}
		tell(0, true);
		assert!(events().contains(&Event::AnswerStands {
			claim: number,
			request: 0
		}));
		end_window(number);
		assert_eq!(more_than(before), [0; 4], "one is being measured");
		check();
		tell(1, true);
		// 150 + 170.
		assert_eq!(more_than(before), [0, 320 - 32 - 16, 32, 16]);
		assert_eq!(
			Audits::<Test>::iter().count() + Shown::<Test>::iter().count(),
			0
		);
		// Whatever is found later comes too late for this.
		tell(1, false);
		assert_eq!(more_than(before), [0, 320 - 32 - 16, 32, 16]);
	});
}

#[test]
fn what_is_not_opened_in_time_costs_the_claim_and_is_reported() {
	run(|| {
		PointInterval::set(80);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		next_session();
		certify_all();
		let before = money();
		let (number, openings) = claim(id, EXECUTOR, &answers(1, &[60, 70]));
		let details = Claims::<Test>::get(number).unwrap();
		let in_first = details
			.points
			.iter()
			.filter(|p| at_point(&openings, p.offset, &details.root) == 0)
			.count();
		let missing = details.points.len() - in_first;
		assert_eq!(open_receipt(number, 0, &openings[0]), Ok(()));
		tell(0, true);
		end_window(number);
		// An interval for each is the client's, the rest the treasury's.
		let back = 80 * missing as i64;
		assert_eq!(more_than(before), [back, 0, 320 - back, 0]);
		assert!(events().contains(&Event::ClaimForfeited {
			claim: number,
			payee: EXECUTOR,
			why: Forfeit::NotOpened,
			returned: back as u64,
			to_treasury: (320 - back) as u64
		}));
		assert_eq!(not_shown(), [(number, EXECUTOR, 1)]);
		assert_eq!(held(ALICE), 1_000 - 320);
		assert_eq!(
			Audits::<Test>::iter().count() + Shown::<Test>::iter().count(),
			0
		);
	});
}

#[test]
fn no_more_is_returned_than_was_claimed() {
	run(|| {
		// One point in 500, and it may fall on 150.
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		PointInterval::set(500);
		let mut number = 0;
		loop {
			let before = money();
			let (found, _) = claim(id, EXECUTOR, &answers(number + 1, &[60]));
			let points = Claims::<Test>::get(found).unwrap().points.len();
			end_window(found);
			number += 1;
			if points > 0 {
				assert_eq!(more_than(before), [150, 0, 0, 0]);
				return;
			}
			assert_eq!(more_than(before), [0, 150 - 15 - 7, 15, 7]);
			assert_ok!(Sessions::raise(
				RuntimeOrigin::signed(ALICE),
				id,
				crate::Part::Payee(EXECUTOR),
				150
			));
		}
	});
}

#[test]
fn a_false_answer_costs_the_whole_claim_and_its_client_has_its_part_back() {
	run(|| {
		PointInterval::set(80);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let before = money();
		let (number, openings) = claim(id, EXECUTOR, &answers(1, &[60, 70]));
		let details = Claims::<Test>::get(number).unwrap();
		let last = details.points.len() - 1;
		assert_eq!(open_receipt(number, 0, &openings[0]), Ok(()));
		assert_eq!(open_receipt(number, last as u32, &openings[1]), Ok(()));
		tell(0, true);
		tell(1, false);
		assert_eq!(more_than(before), [170, 0, 150, 0]);
		assert!(events().contains(&Event::ClaimForfeited {
			claim: number,
			payee: EXECUTOR,
			why: Forfeit::False,
			returned: 170,
			to_treasury: 150
		}));
		// It is reported where it was measured, and once.
		assert!(not_shown().is_empty());
		check();
		tell(0, false);
		blocks(20);
		assert_eq!(more_than(before), [170, 0, 150, 0]);
		assert_eq!(held(ALICE), 1_000 - 320);
	});
}

#[test]
fn an_answer_that_stood_can_be_overturned_while_its_claim_is_pending() {
	run(|| {
		PointInterval::set(80);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let before = money();
		let (number, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
		assert_eq!(open_receipt(number, 0, &openings[0]), Ok(()));
		tell(0, true);
		tell(0, false);
		assert_eq!(more_than(before), [150, 0, 0, 0]);
	});
}

#[test]
fn who_pays_itself_pays_the_shares_all_the_same() {
	run(|| {
		PointInterval::set(u64::MAX);
		let id = open(EXECUTOR, &[(EXECUTOR, 500)], 0);
		let before = money();
		let (number, _) = claim(id, EXECUTOR, &answers(1, &[60]));
		end_window(number);
		assert_eq!(more_than(before), [0, 150 - 15 - 7, 15, 7]);
		assert_eq!(held(EXECUTOR), 500 - 150);
	});
}

#[test]
fn pay_that_cannot_arrive_goes_back() {
	run(|| {
		PointInterval::set(u64::MAX);
		// An account that is not there, and a share below the existential deposit.
		Balances::force_set_balance(RuntimeOrigin::root(), TREASURY, 0).unwrap();
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let before = money();
		let (number, _) = claim(id, EXECUTOR, &answers(1, &[30]));
		end_window(number);
		assert_eq!(more_than(before), [9, 90 - 9 - 4, 0, 4]);
		assert_eq!(held(ALICE), 1_000 - 90);
	});
}

#[test]
fn a_block_ends_as_many_claims_as_it_does() {
	run(|| {
		PointInterval::set(u64::MAX);
		let id = open(ALICE, &[(EXECUTOR, 5_000)], 0);
		for n in 1..=5 {
			let (claim, _) = claim_of(id, EXECUTOR, &answers(n, &[50]));
			assert_eq!(settle(&[claim]), Ok(()));
		}
		drawn();
		MaxPerBlock::set(2);
		let last = Claims::<Test>::get(4).unwrap().deadline.unwrap();
		blocks(last + 1 - System::block_number());
		for left in [3, 1, 0] {
			assert_eq!(Claims::<Test>::iter().count(), left);
			next_block();
		}
	});
}

#[test]
fn the_last_claim_takes_its_channel_with_it() {
	run(|| {
		PointInterval::set(80);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let (number, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
		assert_eq!(open_receipt(number, 0, &openings[0]), Ok(()));
		assert_ok!(Sessions::close(RuntimeOrigin::signed(ALICE), id));
		blocks(10);
		assert_ok!(Sessions::withdraw(RuntimeOrigin::signed(ALICE), id));
		assert_eq!(held(ALICE), 150);
		assert!(Channels::<Test>::contains_key(id));
		check();
		tell(0, false);
		assert!(!Channels::<Test>::contains_key(id));
		assert_eq!((held(ALICE), Balances::free_balance(ALICE)), (0, 1_000_000));
		assert_eq!(
			Sessions::withdraw(RuntimeOrigin::signed(ALICE), id)
				.unwrap_err()
				.error,
			Error::<Test>::UnknownChannel.into()
		);
	});
}
