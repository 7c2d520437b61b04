//! The round by itself: it knows nothing of requests.

use polkadot_sdk::sp_core::H256;

use crate::features::round::{Phase, Round, RoundError};

fn h(n: u8) -> H256 {
	H256::repeat_byte(n)
}

fn round(members: &[u8]) -> Round<u8, u32, &'static str> {
	Round::new(h(0), 1, members.iter().copied(), 10)
}

#[test]
fn everybody_commits_then_everybody_reveals() {
	let mut r = round(&[1, 2, 3]);
	assert_eq!(r.reveal(&1, "a", h(1)), Err(RoundError::WrongPhase));
	assert_eq!(r.commit(&1, h(1), 20), Ok(false));
	assert_eq!(r.commit(&1, h(1), 20), Err(RoundError::AlreadyDone));
	assert_eq!(r.commit(&9, h(9), 20), Err(RoundError::NotMember));
	assert_eq!(r.commit(&2, h(2), 20), Ok(false));
	assert_eq!(r.absent(), [3]);
	assert_eq!(r.commit(&3, h(3), 20), Ok(true));
	assert_eq!((r.phase, r.deadline), (Phase::Reveal, 20));
	assert_eq!(r.reveal(&1, "a", h(9)), Err(RoundError::CommitmentMismatch));
	for (who, evidence) in [(1, "a"), (2, "b")] {
		assert_eq!(r.reveal(&who, evidence, h(who)), Ok(()));
	}
	assert_eq!(r.reveal(&1, "a", h(1)), Err(RoundError::AlreadyDone));
	assert_eq!((r.complete(), r.absent()), (None, vec![3]));
	assert_eq!(r.reveal(&3, "c", h(3)), Ok(()));
	assert_eq!(r.complete(), Some(vec![(&1, &"a"), (&2, &"b"), (&3, &"c")]));
}

#[test]
fn late_members_are_replaced_before_anybody_reveals() {
	let mut r = round(&[1, 2, 3]);
	r.commit(&1, h(1), 20).unwrap();
	r.commit(&2, h(2), 20).unwrap();
	r.remove(&3);
	assert_eq!((r.missing(), r.phase), (1, Phase::Commit));
	assert_eq!(r.reveal(&1, "a", h(1)), Err(RoundError::WrongPhase));
	r.fill(2, [1, 4, 5], 30);
	assert_eq!(
		(r.missing(), r.deadline),
		(0, 30),
		"members are not doubled, nor too many taken"
	);
	assert!(r.member(&4).is_some() && r.member(&5).is_none());
	assert_eq!(r.commit(&4, h(4), 40), Ok(true));
	r.remove(&4);
	assert!(r.member(&4).is_some(), "nobody leaves once evidence is due");
}

#[test]
fn larger_rounds_are_the_same() {
	let members: Vec<u8> = (0..32).collect();
	let mut r = round(&members);
	for m in &members {
		assert_eq!(r.commit(m, h(*m), 20), Ok(*m == 31));
	}
	for m in &members {
		r.reveal(m, "same", h(*m)).unwrap();
	}
	assert_eq!(r.complete().unwrap().len(), 32);
}
