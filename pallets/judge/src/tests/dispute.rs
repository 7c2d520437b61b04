//! How disputes end, and who pays.

use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	pallet_balances,
	sp_runtime::DispatchError,
};

use consilience_judge::{
	narrowing::{Choice, Reply},
	standing::{State, Verdict},
};

use crate::{mock::*, Cases, Error, Event, Games};

fn signed(who: u64) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}

fn free(who: u64) -> u64 {
	pallet_balances::Pallet::<Test>::free_balance(who)
}

/// Closes a dispute and releases everything.
fn finish(subject: u64, at: u64) -> Verdict {
	to_block(at);
	assert_ok!(Judge::close(signed(99), subject));
	let verdict = Cases::<Test>::get(subject).and_then(|case| case.verdict);
	let count = Cases::<Test>::get(subject).map_or(0, |case| case.dispute.stands.len());
	for n in 0..count {
		if Cases::<Test>::contains_key(subject) {
			assert_ok!(Judge::clear(signed(99), subject, n as u8));
		}
	}
	assert_eq!(Cases::<Test>::get(subject), None);
	assert_eq!(Games::<Test>::iter().count(), 0);
	match verdict {
		Some(verdict) => verdict,
		// There was nothing to release.
		None => Verdict::Stays,
	}
}

/// A majority that is silent keeps nothing.
#[test]
fn a_false_answer_that_nobody_stands_for_is_overturned() {
	run(|| {
		let right = Model::new();
		assert_ok!(stand(1, FALSE, &right));
		assert_eq!(held(1), 100);
		to_block(101);
		assert_noop!(Judge::close(signed(99), FALSE), Error::<Test>::NotOver);
		assert_eq!(finish(FALSE, 102), Verdict::Overturned);
		assert_eq!(overturned(), [FALSE]);
		assert_eq!((held(1), free(1)), (0, MONEY));
	});
}

/// Of five liars each with a trace of its own, one honest challenger refutes all.
#[test]
fn one_honest_challenger_wins_against_five() {
	run(|| {
		let right = Model::new();
		assert_ok!(stand(1, FALSE, &right));
		let liars = [Model::lying(4, 1), Model::lying(5, 1), Model::lying(6, 1)];
		for (n, liar) in liars.iter().enumerate() {
			let who = 11 + n as u64;
			assert_ok!(stand(who, FALSE, liar));
			assert_eq!(held(who), 100 << n);
		}
		// Two more join a line.
		assert_ok!(stand(14, FALSE, &liars[0]));
		assert_ok!(stand(15, FALSE, &liars[0]));
		for n in 1..=3u8 {
			assert_ok!(Judge::doubt(signed(1), FALSE, n));
			let liar = &liars[usize::from(n) - 1];
			play(FALSE, n, (10 + u64::from(n), liar), (1, &right));
			if n == 1 {
				// Its sum is long, and it misspeaks for it; so do the others, until nobody is left.
				for who in [14, 15] {
					assert_eq!(held(if who == 14 { 11 } else { 14 }), 0);
					play(FALSE, n, (who, liar), (1, &right));
				}
				let case = Cases::<Test>::get(FALSE).unwrap();
				assert!(case.dispute.stands[1].line.is_empty());
				assert_noop!(Judge::lapse(signed(99), FALSE, 1), Error::<Test>::NotLate);
				to_block(42);
				assert_ok!(Judge::lapse(signed(99), FALSE, 1));
			}
		}
		let case = Cases::<Test>::get(FALSE).unwrap();
		let states: Vec<_> = case.dispute.stands.iter().map(|s| s.state).collect();
		assert_eq!(
			states,
			[
				State::Standing,
				State::Lapsed,
				State::Refuted,
				State::Refuted
			]
		);
		assert_eq!(finish(FALSE, 143), Verdict::Overturned);
		// Half of what the five had on hold is the challenger's: 100, 200 and 400 in lines of the traces, 200 and 400 of the others.
		assert_eq!(free(1), MONEY + (100 + 200 + 400 + 200 + 400) / 2);
		for who in 11..=15 {
			assert_eq!(held(who), 0);
			assert!(free(who) < MONEY);
		}
	});
}

#[test]
fn a_right_answer_stays_and_whoever_slandered_it_pays() {
	run(|| {
		let (right, liar) = (Model::new(), Model::lying(6, 1));
		assert_noop!(stand(1, RIGHT, &right), Error::<Test>::SaysTheSame);
		assert_ok!(stand(11, RIGHT, &liar));
		assert_ok!(stand(1, RIGHT, &right));
		assert_ok!(Judge::doubt(signed(1), RIGHT, 0));
		play(RIGHT, 0, (11, &liar), (1, &right));
		System::assert_has_event(
			Event::Refuted {
				subject: RIGHT,
				stand: 0,
				by: 1,
			}
			.into(),
		);
		assert_eq!(finish(RIGHT, 102), Verdict::Stays);
		assert!(overturned().is_empty());
		assert_eq!((free(11), free(1)), (MONEY - 100, MONEY + 50));
	});
}

/// Who speaks for the right trace and is silent on purpose loses a bond; the next goes on, and the sham challenger finds nothing.
#[test]
fn nobody_lets_a_right_answer_fall_by_being_late() {
	run(|| {
		let (right, liar) = (Model::new(), Model::lying(5, 1));
		assert_ok!(stand(11, RIGHT, &liar));
		// The liars' friend speaks first for the right trace.
		assert_ok!(stand(12, RIGHT, &right));
		assert_ok!(Judge::doubt(signed(13), RIGHT, 1));
		assert_ok!(stand(1, RIGHT, &right));
		assert_noop!(
			Judge::late(signed(99), RIGHT, 1, 13),
			Error::<Test>::NotLate
		);
		to_block(64);
		assert_ok!(Judge::late(signed(99), RIGHT, 1, 13));
		assert_eq!((held(12), free(12)), (0, MONEY - 100));
		// The honest one speaks now, with a whole clock; it also refutes the other trace.
		assert!(reply(1, RIGHT, 1, 13, &right).is_some());
		assert_ok!(Judge::doubt(signed(1), RIGHT, 0));
		play(RIGHT, 0, (11, &liar), (1, &right));
		// The sham challenger has nothing to say.
		to_block(127);
		assert_ok!(Judge::late(signed(99), RIGHT, 1, 13));
		assert_eq!(finish(RIGHT, 228), Verdict::Stays);
		assert_eq!(held(1), 0);
		assert!(free(1) > MONEY);
	});
}

/// A trace for a right answer that is false somewhere else falls, and says nothing about the answer.
#[test]
fn a_sham_defence_is_not_the_answer_s() {
	run(|| {
		let (right, liar, sham) = (Model::new(), Model::lying(5, 1), Model::sham());
		assert_ok!(stand(11, RIGHT, &liar));
		assert_ok!(stand(12, RIGHT, &sham));
		assert_ok!(Judge::doubt(signed(11), RIGHT, 1));
		play(RIGHT, 1, (12, &sham), (11, &right));
		let case = Cases::<Test>::get(RIGHT).unwrap();
		assert_eq!(case.dispute.stands[1].state, State::Refuted);
		// There is a window again.
		to_block(100);
		assert_ok!(stand(1, RIGHT, &right));
		assert_ok!(Judge::doubt(signed(1), RIGHT, 0));
		play(RIGHT, 0, (11, &liar), (1, &right));
		assert_eq!(finish(RIGHT, 201), Verdict::Stays);
	});
}

#[test]
fn what_cannot_be_is_refused() {
	run(|| {
		let (right, liar) = (Model::new(), Model::lying(6, 1));
		assert_noop!(stand(1, 77, &right), Error::<Test>::NotDisputable);
		let opening = right.opening();
		assert_noop!(
			Judge::stand(signed(1), FALSE, liar.trace(), opening.clone()),
			Error::<Test>::BadOpening
		);
		let mut short = opening.clone();
		short.leaf.pop();
		assert_noop!(
			Judge::stand(signed(1), FALSE, right.trace(), short),
			Error::<Test>::BadOpening
		);
		assert_noop!(
			Judge::stand(RuntimeOrigin::none(), FALSE, right.trace(), opening),
			DispatchError::BadOrigin
		);
		assert_noop!(Judge::doubt(signed(1), FALSE, 0), Error::<Test>::NoSuch);
		assert_ok!(stand(1, FALSE, &right));
		assert_noop!(stand(1, FALSE, &right), Error::<Test>::Again);
		assert_noop!(Judge::doubt(signed(1), FALSE, 0), Error::<Test>::Own);
		assert_noop!(Judge::doubt(signed(2), FALSE, 1), Error::<Test>::NoSuch);
		assert_ok!(Judge::doubt(signed(2), FALSE, 0));
		assert_noop!(Judge::doubt(signed(2), FALSE, 0), Error::<Test>::Again);
		let leaf = Reply::Leaf(vec![1]);
		assert_noop!(
			Judge::reply(signed(3), FALSE, 0, 2, leaf.clone()),
			Error::<Test>::NotTheSpeaker
		);
		assert_noop!(
			Judge::reply(signed(1), FALSE, 0, 3, leaf.clone()),
			Error::<Test>::NoSuch
		);
		assert_noop!(
			Judge::reply(signed(1), FALSE, 0, 2, leaf),
			Error::<Test>::BadMove
		);
		let choice = Choice::Element {
			nth: 0,
			proof: None,
		};
		assert_noop!(
			Judge::choose(signed(2), FALSE, 0, choice),
			Error::<Test>::NotNow
		);
		assert_noop!(Judge::clear(signed(1), FALSE, 0), Error::<Test>::NotOver);
		// Two at a time.
		assert_ok!(stand(11, OTHERS[0], &liar));
		assert_noop!(stand(11, OTHERS[1], &liar), Error::<Test>::TooManyCases);
		// Whoever cannot pay does not play.
		let poor = 1_000;
		assert!(Judge::doubt(signed(poor), FALSE, 0).is_err());
	});
}
