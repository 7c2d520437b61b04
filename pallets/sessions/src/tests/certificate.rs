//! Lane keys and addresses, and who is shown with them.

use polkadot_sdk::sp_runtime::transaction_validity::InvalidTransaction;

use crate::{mock::*, Certificates, Error, Event, MAX_CERTIFICATES, MAX_KEYS};

#[test]
fn a_validator_certifies_key_and_address_once_a_session() {
	run(|| {
		next_session();
		let due = Sessions::certificate_due(&infr_public(OTHER)).unwrap();
		assert_eq!((due.session, due.index, due.validator), (1, 1, OTHER));
		assert_eq!(due.certified, None);
		assert!(Sessions::certificate_due(&infr_public(77)).is_none());
		let own = certificate(OTHER);
		assert_eq!(certify(OTHER, own.clone()), Ok(()));
		let due = Sessions::certificate_due(&infr_public(OTHER)).unwrap();
		assert_eq!(
			due.certified,
			Some((lane_public(OTHER), own.endpoint.clone()))
		);
		assert_eq!(Sessions::lane_key(&OTHER, 1), Some(lane_public(OTHER)));
		assert_eq!(Sessions::lane_key(&OTHER, 2), None);
		assert!(events().contains(&Event::LaneCertified {
			validator: OTHER,
			session: 1,
			key: lane_public(OTHER)
		}));
		assert_eq!(certify(OTHER, own), refused(Error::AlreadyCertified));
	});
}

#[test]
fn what_is_no_certificate_is_refused() {
	run(|| {
		next_session();
		let own = certificate(OTHER);
		// Of another, or of nobody.
		assert_eq!(
			certify(EXECUTOR, own.clone()),
			Err(Refused::Invalid(InvalidTransaction::BadProof))
		);
		let mut nobody = own.clone();
		nobody.validator = 99;
		assert_eq!(certify(OTHER, nobody), refused(Error::NotValidator));
		for session in [0, 2] {
			let mut other = own.clone();
			other.session = session;
			assert_eq!(certify(OTHER, other), refused(Error::WrongSession));
		}
		for endpoint in [&b""[..], b"wss://", b"http://example.org", b"ws://\xff"] {
			let mut bad = own.clone();
			bad.endpoint = endpoint.to_vec().try_into().unwrap();
			assert_eq!(certify(OTHER, bad), refused(Error::BadEndpoint));
		}
		let mut plain = own;
		plain.endpoint = b"ws://[::1]:9955".to_vec().try_into().unwrap();
		assert_eq!(certify(OTHER, plain), Ok(()));
	});
}

#[test]
fn another_address_or_key_is_taken_a_few_times_and_earlier_keys_stay_its_own() {
	run(|| {
		// One certificate there is.
		let mut own = certificate(EXECUTOR);
		for n in 1..MAX_KEYS {
			own.key = lane_public(1_000 + u64::from(n));
			assert_eq!(certify(EXECUTOR, own.clone()), Ok(()));
		}
		assert_eq!(Sessions::lane_key(&EXECUTOR, 0), Some(own.key));
		let id = open(ALICE, &[(EXECUTOR, 500)], 0);
		let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(settle(&[claim]), Ok(()), "signed by the first key");
		own.key = lane_public(2_000);
		assert_eq!(
			certify(EXECUTOR, own.clone()),
			refused(Error::AlreadyCertified)
		);
		// One of those again, with other addresses.
		own.key = lane_public(EXECUTOR);
		for n in MAX_KEYS..u32::from(MAX_CERTIFICATES) {
			own.endpoint = format!("ws://{n}").into_bytes().try_into().unwrap();
			assert_eq!(certify(EXECUTOR, own.clone()), Ok(()));
		}
		assert_eq!(Sessions::lane_key(&EXECUTOR, 0), Some(own.key));
		own.endpoint = b"ws://last".to_vec().try_into().unwrap();
		assert_eq!(certify(EXECUTOR, own), refused(Error::AlreadyCertified));
	});
}

#[test]
fn lanes_are_of_those_who_serve_and_have_certified_now_or_in_the_last_session() {
	run(|| {
		let shown = || -> Vec<_> {
			Sessions::lanes(model())
				.into_iter()
				.map(|lane| (lane.validator, lane.session))
				.collect()
		};
		assert_eq!(shown(), VALIDATORS.map(|v| (v, 0)));
		next_session();
		assert_eq!(shown(), VALIDATORS.map(|v| (v, 0)));
		assert_eq!(certify(OTHER, certificate(OTHER)), Ok(()));
		assert_eq!(shown()[1], (OTHER, 1));
		assert_eq!(Sessions::lanes(model())[1].key, lane_public(OTHER));
		next_session();
		assert_eq!(shown(), [(OTHER, 1)]);
		ModelRegistry::withdraw_all(&OTHER);
		assert_eq!(shown(), []);
		next_session();
	});
}

#[test]
fn certificates_are_forgotten_session_by_session_and_no_more_than_a_block_does() {
	run(|| {
		MaxPerBlock::set(2);
		for _ in 1..=3 {
			next_session();
			certify_all();
			next_block();
		}
		assert_eq!(Certificates::<Test>::iter().count(), 4 * 5);
		next_session();
		certify_all();
		let left = || Certificates::<Test>::iter_prefix(0).count();
		assert_eq!(left(), 5);
		for expected in [3, 1, 0] {
			next_block();
			assert_eq!(left(), expected);
			check();
		}
		blocks(5);
		assert_eq!(Sessions::lane_key(&OTHER, 0), None);
		assert_eq!(Sessions::lane_key(&OTHER, 1), Some(lane_public(OTHER)));
		assert_eq!(Certificates::<Test>::iter().count(), 4 * 5);
	});
}
