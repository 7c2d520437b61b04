//! Receipts that are put before a jury, and what becomes of claims and points that they lie in.

use consilience_primitives::{
	request::{Input, Output},
	session::{sampling_seed, Appealed, Opening, Receipt, Signable, MAX_NUMBER, SLICE_TOKENS},
};
use pallet_inference::Standing;
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	sp_core::H256,
};

use crate::{mock::*, Audits, Claims, Error, Event, Forfeit, PointState, Shown, MAX_CLAIM_POINTS};

type Open = Opening<u64, u64, u64>;
type Put = Appealed<u64, u64, u64>;

/// A claim without points over these, and its openings.
fn claimed(answers: &[Answer]) -> (u64, Vec<Open>) {
	let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
	PointInterval::set(u64::MAX);
	let claimed = claim(id, EXECUTOR, answers);
	assert!(Claims::<Test>::get(claimed.0).unwrap().points.is_empty());
	claimed
}

fn end_window(claim: u64) {
	let deadline = Claims::<Test>::get(claim).unwrap().deadline.unwrap();
	blocks(deadline + 1 - System::block_number());
}

fn forfeited() -> Vec<(u64, Forfeit, u64)> {
	let found = events().into_iter().filter_map(|e| match e {
		Event::ClaimForfeited {
			claim,
			why,
			returned,
			..
		} => Some((claim, why, returned)),
		_ => None,
	});
	found.collect()
}

#[test]
fn a_receipt_that_nobody_has_claimed_is_put_before_a_jury_as_it_was_asked() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let opening = opening_of(id, EXECUTOR, answers(1, &[60])[0]);
		assert_ok!(appeal(BOB, appeal_of(&opening, None)));
		assert_eq!(appealed(), [(0, BOB)]);
		let measured = &audited()[0];
		let seed = Sessions::channel(id).unwrap().seed.unwrap();
		assert_eq!(measured.reference, opening.receipt.body.hash(&genesis()));
		assert_eq!(measured.seed, sampling_seed(&seed, 1));
		assert_eq!(measured.output, opening.output);
		assert_eq!(measured.input, opening.ask.input);
		assert_eq!(
			(measured.requester, measured.executor, measured.session),
			(ALICE, EXECUTOR, 0)
		);
		// Whoever appeals could have done so in any of these.
		assert_eq!(u64::from(measured.choice), AppealBlocks::get());
		assert!(events().contains(&Event::ReceiptAppealed {
			request: 0,
			channel: id,
			payee: EXECUTOR,
			number: 1,
			who: BOB,
			claim: None
		}));
		// Nothing of the channel is touched, and what the jury says is no matter of this pallet.
		assert_eq!(Audits::<Test>::iter().count(), 0);
		tell(0, false);
		assert!(forfeited().is_empty());
	});
}

#[test]
fn once_for_a_receipt_whether_a_point_or_somebody_brought_it() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let opening = opening_of(id, EXECUTOR, answers(1, &[60])[0]);
		assert_ok!(appeal(BOB, appeal_of(&opening, None)));
		for standing in [
			Standing::Measured,
			Standing::Stands,
			Standing::Right,
			Standing::False,
		] {
			set_standing(0, standing);
			assert_noop!(
				appeal(ALICE, appeal_of(&opening, None)),
				Error::<Test>::MeasuredBefore
			);
		}
	});
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		PointInterval::set(30);
		let (claim, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
		assert_eq!(open_receipt(claim, 0, &openings[0]), Ok(()));
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], None)),
			Error::<Test>::MeasuredBefore
		);
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], Some(claim))),
			Error::<Test>::MeasuredBefore
		);
	});
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let opening = opening_of(id, EXECUTOR, answers(1, &[60])[0]);
		let good = appeal_of(&opening, None);
		let refused = |change: &dyn Fn(&mut Put), error: Error<Test>| {
			let mut put = good.clone();
			change(&mut put);
			put.receipt = sign(put.receipt.body, &lane(EXECUTOR));
			assert_noop!(appeal(BOB, put), error);
		};
		for change in [(|r| r.number = 0) as fn(&mut Receipt<u64, u64, u64>), |r| {
			r.number = MAX_NUMBER + 1
		}] {
			refused(&|p| change(&mut p.receipt.body), Error::WrongReceipt);
		}
		refused(&|p| p.receipt.body.channel = 9, Error::UnknownChannel);
		refused(&|p| p.receipt.body.payee = OTHER, Error::WrongAsk);
		refused(&|p| p.ask.salt = H256::zero(), Error::WrongAsk);
		refused(&|p| p.receipt.body.output_units += 1, Error::WrongUnits);
		refused(&|p| p.receipt.body.input_units += 1, Error::WrongUnits);
		refused(
			&|p| {
				if let Output::Text { text, .. } = &mut p.output {
					*text = b"another".to_vec().try_into().unwrap();
				}
			},
			Error::WrongOutput,
		);
		// As if it had been asked so.
		let asked = |change: &dyn Fn(&mut Put), error: Error<Test>| {
			let mut changed = opening.clone();
			let mut put = good.clone();
			change(&mut put);
			changed.ask = put.ask;
			changed.receipt.body.anchor = changed.ask.anchor;
			let request = changed.ask.hash(&genesis());
			changed.receipt.body.request = request;
			let Output::Text {
				tokens,
				text,
				finish,
			} = &changed.output
			else {
				panic!("a text");
			};
			changed.receipt.body.transcript =
				consilience_primitives::session::Transcript::of(&request, tokens, text, *finish);
			changed.receipt = sign(changed.receipt.body, &lane(EXECUTOR));
			assert_noop!(appeal(BOB, appeal_of(&changed, None)), error);
		};
		asked(&|p| p.ask.anchor.hash = H256::zero(), Error::WrongAnchor);
		asked(&|p| p.ask.anchor.number = 1_000, Error::WrongAnchor);
		asked(
			&|p| {
				if let Input::TextGeneration { sampling, .. } = &mut p.ask.input {
					sampling.max_tokens = 59;
				}
			},
			Error::WrongOutput,
		);
		asked(&|p| p.ask.model = H256::zero(), Error::ModelGone);
		let mut stolen = good.clone();
		stolen.receipt = sign(stolen.receipt.body, &lane(OTHER));
		assert_noop!(appeal(BOB, stolen), Error::<Test>::BadSignature);
		let mut before = good.clone();
		before.receipt.body.session = 7;
		before.receipt = sign(before.receipt.body, &lane(EXECUTOR));
		assert_noop!(appeal(BOB, before), Error::<Test>::NotCertified);
		// Who can't pay the jury calls none.
		Balances::force_set_balance(RuntimeOrigin::root(), BOB, BOND - 1).unwrap();
		assert!(appeal(BOB, good.clone()).is_err());
		assert!(appealed().is_empty());
		assert_ok!(appeal(ALICE, good));
	});
}

#[test]
fn the_window_is_counted_from_the_anchor_and_its_last_block_counts() {
	for late in [false, true] {
		run(|| {
			let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
			let opening = opening_of(id, EXECUTOR, answers(1, &[60])[0]);
			let last = opening.receipt.body.anchor.number + AppealBlocks::get();
			blocks(last + u64::from(late) - System::block_number());
			let done = appeal(BOB, appeal_of(&opening, None));
			if late {
				assert_eq!(done, Err(Error::<Test>::TooLate.into()));
			} else {
				assert_eq!(done, Ok(()));
			}
		});
	}
}

#[test]
fn a_claim_waits_for_the_jury_and_is_forfeited_where_the_answer_is_false() {
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[50, 13]));
		assert_ok!(appeal(BOB, appeal_of(&openings[1], Some(claim))));
		let points = Claims::<Test>::get(claim).unwrap().points;
		assert_eq!(points.len(), 1);
		assert_eq!(
			(points[0].offset, points[0].state),
			(paid(&answers(1, &[50])[0]), PointState::Measured(0))
		);
		end_window(claim);
		assert!(Claims::<Test>::get(claim).unwrap().over, "it waits");
		check();
		let before = Balances::free_balance(EXECUTOR);
		tell(0, false);
		assert_eq!(forfeited(), [(claim, Forfeit::False, 56)]);
		assert_eq!(Balances::free_balance(EXECUTOR), before);
		assert_eq!(Audits::<Test>::iter().count(), 0);
		assert_eq!(Shown::<Test>::iter().count(), 0);
	});
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[50, 13]));
		// Also while the claim waits for another.
		assert_ok!(appeal(BOB, appeal_of(&openings[0], Some(claim))));
		end_window(claim);
		assert_ok!(appeal(BOB, appeal_of(&openings[1], Some(claim))));
		tell(0, true);
		assert!(Claims::<Test>::contains_key(claim));
		let before = Balances::free_balance(EXECUTOR);
		tell(1, true);
		assert!(Balances::free_balance(EXECUTOR) > before, "it is paid");
	});
}

#[test]
fn a_place_in_a_claim_has_to_be_the_receipts_own() {
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[50, 13]));
		let good = appeal_of(&openings[0], Some(claim));
		let other = appeal_of(&openings[1], Some(claim));
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], Some(9))),
			Error::<Test>::UnknownClaim
		);
		let with = |change: &dyn Fn(&mut consilience_primitives::session::Place<u64, u64>)| {
			let mut put = good.clone();
			change(put.place.as_mut().unwrap());
			appeal(BOB, put)
		};
		let proof = other.place.as_ref().unwrap().proof.clone();
		assert_noop!(
			with(&|p| p.proof = proof.clone()),
			Error::<Test>::WrongPlace
		);
		let voucher = other.place.unwrap().voucher;
		assert_noop!(
			with(&|p| p.voucher = voucher.clone()),
			Error::<Test>::WrongVoucher
		);
		assert_noop!(
			with(&|p| p.voucher = sign(p.voucher.body.clone(), &lane(EXECUTOR))),
			Error::<Test>::BadVoucher
		);
		assert_ok!(appeal(BOB, good));
	});
	// A claim of another executor.
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000), (OTHER, 1_000)], 0);
		PointInterval::set(u64::MAX);
		let (first, openings) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		let (second, _) = claim_of(id, OTHER, &answers(1, &[50]));
		assert_eq!(settle(&[first, second]), Ok(()));
		drawn();
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], Some(1))),
			Error::<Test>::WrongReceipt
		);
		assert_ok!(appeal(BOB, appeal_of(&openings[0], Some(0))));
	});
	// Before its points are drawn nothing can stand for one.
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		let (signed, openings) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(settle(&[signed]), Ok(()));
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], Some(0))),
			Error::<Test>::NotDrawn
		);
		assert_ok!(appeal(BOB, appeal_of(&openings[0], None)));
	});
	// More than a slice is not acknowledged.
	run(|| {
		let (claim, openings) = claimed(&[Answer {
			number: 1,
			tokens: 70,
			seen: 70 - SLICE_TOKENS - 1,
		}]);
		assert_noop!(
			appeal(BOB, appeal_of(&openings[0], Some(claim))),
			Error::<Test>::NotAcknowledged
		);
		assert_ok!(appeal(BOB, appeal_of(&openings[0], None)));
	});
}

#[test]
fn no_more_than_a_few_appeals_hold_up_a_claim() {
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[1; MAX_CLAIM_POINTS as usize + 2]));
		for opening in &openings[..MAX_CLAIM_POINTS as usize] {
			assert_ok!(appeal(BOB, appeal_of(opening, Some(claim))));
		}
		let [one, two] = &openings[MAX_CLAIM_POINTS as usize..] else {
			panic!("two are left");
		};
		assert_noop!(
			appeal(BOB, appeal_of(one, Some(claim))),
			Error::<Test>::TooManyAppeals
		);
		assert_ok!(appeal(BOB, appeal_of(two, None)));
	});
}

/// A claim all of whose coins have a point, after its receipt was put before a jury without it.
fn drawn_after_appeal() -> (u64, Open) {
	let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
	PointInterval::set(50);
	let (claim, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
	assert_ok!(appeal(BOB, appeal_of(&openings[0], None)));
	(claim, openings[0].clone())
}

#[test]
fn a_point_takes_what_a_jury_finds_or_has_found() {
	// It is judged meanwhile.
	for stands in [true, false] {
		run(|| {
			let (claim, opening) = drawn_after_appeal();
			assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
			assert_eq!(audited().len(), 1, "not measured twice");
			check();
			let points = Claims::<Test>::get(claim).unwrap().points;
			assert!(points.iter().all(|p| p.state == PointState::Measured(0)));
			tell(0, stands);
			assert_eq!(forfeited().is_empty(), stands);
			assert_eq!(Claims::<Test>::contains_key(claim), stands);
		});
	}
	run(|| {
		let (claim, opening) = drawn_after_appeal();
		set_standing(0, Standing::Right);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
		assert_eq!(audited().len(), 1);
		let points = Claims::<Test>::get(claim).unwrap().points;
		assert!(points.iter().all(|p| p.state == PointState::Stands(0)));
		let before = Balances::free_balance(EXECUTOR);
		end_window(claim);
		assert!(Balances::free_balance(EXECUTOR) > before);
	});
	run(|| {
		let (claim, opening) = drawn_after_appeal();
		set_standing(0, Standing::False);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
		assert_eq!(forfeited(), [(claim, Forfeit::False, 150)]);
	});
}

#[test]
fn who_appeals_against_itself_does_not_escape_a_point_because_no_jury_has_decided() {
	run(|| {
		let (claim, opening) = drawn_after_appeal();
		set_standing(0, Standing::Stands);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
		assert_eq!(audited().len(), 2, "it is measured");
		let points = Claims::<Test>::get(claim).unwrap().points;
		assert!(points.iter().all(|p| p.state == PointState::Measured(1)));
		tell(1, false);
		assert_eq!(forfeited(), [(claim, Forfeit::False, 150)]);
	});
}

#[test]
fn who_appeals_before_a_point_is_opened_opens_it() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		PointInterval::set(50);
		let (claim, openings) = claim(id, EXECUTOR, &answers(1, &[60]));
		let drawn = Claims::<Test>::get(claim).unwrap().points.len();
		assert_ok!(appeal(BOB, appeal_of(&openings[0], Some(claim))));
		let points = Claims::<Test>::get(claim).unwrap().points;
		assert_eq!(points.len(), drawn, "no other point");
		assert!(points.iter().all(|p| p.state == PointState::Measured(0)));
		assert!(Sessions::openings_due(&EXECUTOR).is_empty());
		assert_eq!(open_receipt(claim, 0, &openings[0]), refused(Error::NotDue));
		end_window(claim);
		assert!(not_shown().is_empty());
	});
}
