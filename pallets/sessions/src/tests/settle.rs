//! Claims: what is taken, and what is refused.

use consilience_primitives::session::{Service, SumNode, MAX_RECEIPTS};
use polkadot_sdk::{
	frame_support::assert_ok, sp_core::H256, sp_runtime::transaction_validity::InvalidTransaction,
};

use crate::{mock::*, Checked, Claims, Error, Event};

#[test]
fn a_claim_takes_the_difference_to_what_was_claimed_before() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let (first, _) = claim_of(id, EXECUTOR, &answers(1, &[50, 10]));
		assert_eq!(settle(std::slice::from_ref(&first)), Ok(()));
		assert_eq!(Sessions::claimed(id, &EXECUTOR, Service::Answer), 180);
		let claim = Claims::<Test>::get(0).unwrap();
		assert_eq!(
			(claim.root.sum, claim.count, claim.payee),
			(180, 2, EXECUTOR)
		);
		assert!(events().contains(&Event::Claimed {
			claim: 0,
			channel: id,
			payee: EXECUTOR,
			service: Service::Answer,
			amount: 180
		}));
		// Not again, nor a part of it.
		assert_eq!(
			settle(std::slice::from_ref(&first)),
			refused(Error::ClaimedBefore)
		);
		let less = changed(first, |c| c.voucher.body.amount = 179);
		assert_eq!(settle(&[less]), refused(Error::ClaimedBefore));
		let (second, _) = claim_of(id, EXECUTOR, &answers(3, &[20]));
		assert_eq!(second.body.voucher.body.amount, 250);
		assert_eq!(settle(&[second]), Ok(()));
		assert_eq!(Claims::<Test>::get(1).unwrap().root.sum, 70);
		assert_eq!(Sessions::channel(id).unwrap().pending, 250);
		// Nothing has moved yet.
		assert_eq!(held(ALICE), 1_000);
		assert_eq!(Balances::free_balance(EXECUTOR), 1_000);
	});
}

#[test]
fn what_does_not_hold_is_refused_with_its_reason() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 100);
		let (good, _) = claim_of(id, EXECUTOR, &answers(1, &[50, 10]));
		let with = |change: &dyn Fn(&mut consilience_primitives::session::Claim<u64, u64>)| {
			settle(&[changed(good.clone(), change)])
		};
		assert_eq!(settle(&[]), Err(Refused::Invalid(InvalidTransaction::Call)));
		assert_eq!(
			with(&|c| c.voucher.body.channel += 1),
			refused(Error::UnknownChannel)
		);
		assert_eq!(with(&|c| c.count = 0), refused(Error::BadCount));
		assert_eq!(
			with(&|c| c.count = MAX_RECEIPTS + 1),
			refused(Error::BadCount)
		);
		assert_eq!(
			with(&|c| c.voucher.body.payee = OTHER),
			refused(Error::NoAllotment)
		);
		assert_eq!(
			with(&|c| {
				c.voucher.body.amount = 1_001;
				c.root.sum = 1_001;
			}),
			refused(Error::OverAllotment)
		);
		assert_eq!(
			with(&|c| {
				c.voucher.body.amount = 49;
				c.root.sum = 49;
			}),
			refused(Error::ClaimTooSmall)
		);
		for sum in [179, 181, 0] {
			assert_eq!(with(&|c| c.root.sum = sum), refused(Error::WrongSum));
		}
		// A voucher for checks is worth nothing as one for answers, nor beyond the pot.
		assert_eq!(
			with(&|c| c.voucher.body.service = Service::Check),
			refused(Error::OverAllotment)
		);
		assert_eq!(
			settle(&[good.clone(), good.clone()]),
			refused(Error::ClaimTwice)
		);
		PointInterval::set(11);
		assert_eq!(with(&|_| ()), refused(Error::ClaimTooLarge));
		PointInterval::set(12);
		assert_eq!(with(&|_| ()), Ok(()));
	});
}

#[test]
fn nothing_is_taken_without_both_signatures() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let (good, _) = claim_of(id, EXECUTOR, &answers(1, &[50, 10]));
		// A voucher by another key, for another chain, or changed after it was signed.
		let voucher = good.body.voucher.body.clone();
		let resigned = |voucher| {
			let mut claim = good.body.clone();
			claim.voucher = voucher;
			sign(claim, &lane(EXECUTOR))
		};
		let by_bob = resigned(sign(voucher.clone(), &key(BOB)));
		assert_eq!(settle(&[by_bob]), refused(Error::BadVoucher));
		let by_payee = resigned(sign(voucher.clone(), &lane(EXECUTOR)));
		assert_eq!(settle(&[by_payee]), refused(Error::BadVoucher));
		let mut elsewhere = good.body.voucher.clone();
		use consilience_primitives::session::Signable;
		use polkadot_sdk::sp_core::Pair;
		elsewhere.signature = key(ALICE).sign(&voucher.payload(&H256::repeat_byte(1)));
		assert_eq!(settle(&[resigned(elsewhere)]), refused(Error::BadVoucher));
		let mut later = good.body.voucher.clone();
		later.body.expires += 1;
		assert_eq!(settle(&[resigned(later)]), refused(Error::BadVoucher));
		// The claim by another, or in a session without a certificate.
		for other in [lane(OTHER), key(ALICE)] {
			let stolen = sign(good.body.clone(), &other);
			assert_eq!(settle(&[stolen]), refused(Error::BadSignature));
		}
		let mut changed = good.clone();
		changed.body.root.hash = H256::zero();
		assert_eq!(settle(&[changed]), refused(Error::BadSignature));
		let mut unknown = good.body.clone();
		unknown.session = 1;
		let unknown = sign(unknown, &lane(EXECUTOR));
		assert_eq!(settle(&[unknown]), refused(Error::NotCertified));
		assert_eq!(settle(&[good]), Ok(()));
	});
}

#[test]
fn a_voucher_expires_after_the_session_that_it_names() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 0);
		let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(claim.body.voucher.body.expires, 2);
		next_session();
		next_session();
		next_session();
		assert_eq!(
			settle(std::slice::from_ref(&claim)),
			refused(Error::VoucherExpired)
		);
		let renewed = changed(claim, |c| c.voucher.body.expires = 3);
		assert_eq!(settle(&[renewed]), Ok(()), "an earlier session's key signs");
	});
}

#[test]
fn checkers_draw_on_the_pot_together_and_each_is_counted_by_itself() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 300);
		assert_eq!(settle(&[checks_of(id, CHECKER, 100)]), Ok(()));
		assert_eq!(settle(&[checks_of(id, OTHER, 80)]), Ok(()));
		assert_eq!(settle(&[checks_of(id, CHECKER, 60)]), Ok(()));
		assert_eq!(Sessions::claimed(id, &CHECKER, Service::Check), 160);
		assert_eq!(Sessions::claimed(id, &CHECKER, Service::Answer), 0);
		assert_eq!(Checked::<Test>::get(id, OTHER), 80);
		assert_eq!(
			settle(&[checks_of(id, OTHER, 61)]),
			refused(Error::OverAllotment)
		);
		// An executor's allotment is not for checks.
		assert_eq!(
			settle(&[checks_of(id, EXECUTOR, 61)]),
			refused(Error::OverAllotment)
		);
		// Two that are good by themselves, and not together.
		let both = [checks_of(id, OTHER, 60), checks_of(id, EXECUTOR, 60)];
		assert_eq!(settle(&both), Ok(()));
		assert!(events().contains(&Event::ClaimSkipped {
			index: 1,
			reason: Error::<Test>::OverAllotment.into()
		}));
		let pot = Sessions::channel(id).unwrap().pot;
		assert_eq!((pot.claimed, pot.amount), (300, 300));
		assert_eq!(Sessions::claimed(id, &EXECUTOR, Service::Check), 0);
	});
}

#[test]
fn as_many_checkers_claim_of_a_channel_as_may() {
	run(|| {
		MaxCheckers::set(2);
		let id = open(ALICE, &[(EXECUTOR, 1_000)], 1_000);
		assert_eq!(
			settle(&[checks_of(id, CHECKER, 50), checks_of(id, OTHER, 50)]),
			Ok(())
		);
		assert_eq!(
			settle(&[checks_of(id, EXECUTOR, 50)]),
			refused(Error::TooManyCheckers)
		);
		assert_eq!(settle(&[checks_of(id, OTHER, 50)]), Ok(()));
	});
}

#[test]
fn many_claims_of_many_channels_are_one_transaction() {
	run(|| {
		let ids = [ALICE, BOB].map(|who| open(who, &[(EXECUTOR, 500), (OTHER, 500)], 200));
		let claims: Vec<_> = ids
			.iter()
			.flat_map(|id| {
				[
					claim_of(*id, EXECUTOR, &answers(1, &[50])).0,
					claim_of(*id, OTHER, &answers(1, &[60])).0,
					checks_of(*id, OTHER, 70),
				]
			})
			.collect();
		assert_eq!(settle(&claims), Ok(()));
		assert_eq!(Claims::<Test>::iter().count(), 6);
		for id in ids {
			assert_eq!(Sessions::channel(id).unwrap().pending, 130 + 150 + 70);
		}
		assert_ok!(Sessions::do_try_state());
	});
}

#[test]
fn a_channels_voucher_is_worth_nothing_in_another_channel_of_the_same_client() {
	run(|| {
		let (one, two) = (
			open(ALICE, &[(EXECUTOR, 500)], 0),
			open(ALICE, &[(EXECUTOR, 500)], 0),
		);
		let (claim, _) = claim_of(one, EXECUTOR, &answers(1, &[50]));
		let mut moved = claim.body.clone();
		moved.voucher.body.channel = two;
		let moved = sign(moved, &lane(EXECUTOR));
		assert_eq!(settle(&[moved]), refused(Error::BadVoucher));
		assert_eq!(Sessions::claimed(two, &EXECUTOR, Service::Answer), 0);
		// A root of anything that sums up is taken: what lies below is seen when a point falls on it.
		let made_up = changed(claim, |c| {
			c.root = SumNode {
				hash: H256::repeat_byte(1),
				sum: c.root.sum,
			}
		});
		assert_eq!(settle(&[made_up]), Ok(()));
	});
}
