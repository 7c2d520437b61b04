//! Verdicts of checkers as evidence: who has signed is seen here, and what follows elsewhere.

use consilience_primitives::session::Signable;
use pallet_inference::Unheard;
use polkadot_sdk::frame_support::assert_ok;

use crate::{mock::*, Error, Event};

/// A receipt that is measured.
fn opened() -> consilience_primitives::session::Opening<u64, u64, u64> {
	let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
	let opening = opening_of(id, EXECUTOR, answers(1, &[60])[0]);
	assert_ok!(appeal(BOB, appeal_of(&opening, None)));
	opening
}

#[test]
fn what_a_checker_has_signed_of_a_receipt_is_heard_whoever_shows_it() {
	run(|| {
		let opening = opened();
		next_session();
		certify_all();
		let verdict = verdict_of(&opening, CHECKER, 77);
		assert_eq!(testify(verdict.clone()), Ok(()));
		let receipt = opening.receipt.body.hash(&genesis());
		let heard = testified();
		assert_eq!(heard.len(), 1);
		assert_eq!(
			heard[0],
			(receipt, CHECKER, 1, verdict.body.evidence.verdict)
		);
		assert_eq!(heard[0].3.margin_max, 77);
		assert!(events().contains(&Event::VerdictShown {
			receipt,
			checker: CHECKER,
			session: 1
		}));
	});
}

#[test]
fn nobody_speaks_for_a_checker() {
	run(|| {
		let opening = opened();
		let good = verdict_of(&opening, CHECKER, 0);
		let forged = sign(good.body.clone(), &lane(OTHER));
		assert_eq!(testify(forged), refused(Error::BadSignature));
		let mut changed = good.clone();
		changed.body.evidence.verdict.margin_max = 1;
		assert_eq!(testify(changed), refused(Error::BadSignature));
		let mut before = good.body.clone();
		before.session = 7;
		assert_eq!(
			testify(sign(before, &lane(CHECKER))),
			refused(Error::NotCertified)
		);
		// Of no receipt that is known.
		let mut other = good.body.clone();
		other.receipt = Default::default();
		assert_eq!(
			testify(sign(other, &lane(CHECKER))),
			refused(Error::UnknownAnswer)
		);
		// A key that the checker has certified before in this session is its own too.
		let mut own = certificate(CHECKER);
		own.key = lane_public(99);
		assert_eq!(certify(CHECKER, own), Ok(()));
		assert_eq!(
			Sessions::lane_keys(&CHECKER, 0),
			[lane_public(CHECKER), lane_public(99)]
		);
		assert_eq!(testify(good), Ok(()));
		assert_eq!(testified().len(), 1);
	});
}

#[test]
fn why_nothing_is_heard_is_said() {
	run(|| {
		let opening = opened();
		for (why, error) in [
			(Unheard::UnknownAnswer, Error::UnknownAnswer),
			(Unheard::OwnAnswer, Error::OwnAnswer),
			(Unheard::SaysNothing, Error::SaysNothing),
			(Unheard::HeardBefore, Error::HeardBefore),
			(Unheard::HeardEnough, Error::HeardEnough),
			(Unheard::NothingToJudge, Error::NothingToJudge),
			(Unheard::NoWeight, Error::NoWeight),
		] {
			set_deaf(Some(why));
			assert_eq!(testify(verdict_of(&opening, CHECKER, 0)), refused(error));
		}
		assert!(testified().is_empty());
	});
}

#[test]
fn a_verdict_is_good_as_long_as_its_certificate_is_known() {
	run(|| {
		let opening = opened();
		let verdict = verdict_of(&opening, CHECKER, 0);
		for _ in 0..CertificateSessions::get() {
			next_session();
		}
		blocks(2);
		assert_eq!(testify(verdict.clone()), Ok(()));
		next_session();
		blocks(2);
		assert_eq!(testify(verdict), refused(Error::NotCertified));
	});
}
