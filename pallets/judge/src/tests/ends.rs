//! Every dispute ends, whoever acts, and whoever does not; and nobody gains by when.

use std::collections::HashMap;

use consilience_judge::{
	narrowing::{Choice, Side, Stage},
	play::Seen,
	standing::{State, Verdict},
};
use polkadot_sdk::frame_support::{assert_noop, assert_ok};

use super::properties::{clerk, honest, other, Noise, HONEST};
use crate::{mock::*, Cases, Ending, Ends, Error, Event, Games};

fn signed(who: u64) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}

/// What a dispute came to, which may be forgotten.
fn verdict(subject: u64) -> Option<Verdict> {
	System::events()
		.iter()
		.rev()
		.find_map(|record| match &record.event {
			RuntimeEvent::Judge(Event::Closed {
				subject: of,
				verdict,
			}) if *of == subject => Some(*verdict),
			_ => None,
		})
}

fn nothing_is_left() {
	assert_eq!(Cases::<Test>::count(), 0);
	assert_eq!(Games::<Test>::iter().count(), 0);
	assert_eq!(Ends::<Test>::iter().count(), 0);
	assert!(Ending::<Test>::get().is_empty());
	for who in 1..100 {
		assert_eq!(held(who), 0, "{who}");
	}
	Judge::do_try_state().unwrap();
}

/// Whatever anybody did before: if nobody does anything any more, all is over in time, and all bonds are free.
#[test]
fn a_dispute_that_everybody_leaves_ends_by_itself() {
	let models = [
		Model::new(),
		Model::lying(4, 1),
		Model::lying(5, 1),
		Model::lying(6, 1),
		Model::sham(),
	];
	for seed in 0..10 {
		new_test_ext().execute_with(|| {
			let mut noise = Noise(seed);
			let mut seen = HashMap::new();
			let subjects = [RIGHT, FALSE];
			for subject in subjects {
				let opener = match subject {
					RIGHT => &models[1],
					_ => &models[0],
				};
				stand(50 + subject, subject, opener).unwrap();
			}
			for block in 2..2 + noise.below(500) {
				to_block(block);
				for _ in 0..noise.below(4) {
					let subject = subjects[noise.below(2) as usize];
					other(subject, &models, &mut seen, &mut noise);
					Judge::do_try_state().unwrap();
				}
				if noise.below(30) == 0 {
					clerk(subjects[noise.below(2) as usize]);
					Judge::do_try_state().unwrap();
				}
			}
			let last = 1 + u64::from(Judge::longest());
			while System::block_number() < last {
				to_block(System::block_number() + 250);
				Judge::do_try_state().unwrap();
			}
			for subject in subjects {
				assert!(verdict(subject).is_some(), "{seed}");
			}
			// Bonds are released by a step a block.
			to_block(System::block_number() + 70);
			nothing_is_left();
		});
	}
}

/// A false answer that nobody stands for falls without anybody's help, too.
#[test]
fn what_nobody_closes_is_closed() {
	new_test_ext().execute_with(|| {
		assert_ok!(stand(1, FALSE, &Model::new()));
		let ends = Cases::<Test>::get(FALSE).unwrap().ends;
		assert_eq!(
			u64::from(ends),
			1 + u64::from(Windows::get().longest(&GamePace::get()))
		);
		to_block(u64::from(ends) - 1);
		assert_eq!(verdict(FALSE), None);
		Judge::do_try_state().unwrap();
		to_block(ends.into());
		assert_eq!(verdict(FALSE), Some(Verdict::Overturned));
		assert_eq!(overturned(), [FALSE]);
		to_block(u64::from(ends) + 1);
		nothing_is_left();
	});
}

/// Whoever leaves a game open to the end has lost it, on either side.
#[test]
fn whoever_was_to_move_at_the_end_has_lost() {
	let (right, liar) = (Model::new(), Model::lying(5, 1));
	// The one who stands for the false trace is silent.
	new_test_ext().execute_with(|| {
		assert_ok!(stand(11, RIGHT, &liar));
		assert_ok!(stand(1, RIGHT, &right));
		assert_ok!(Judge::doubt(signed(1), RIGHT, 0));
		to_block(Judge::longest().into());
		assert_eq!(verdict(RIGHT), Some(Verdict::Stays));
		System::assert_has_event(
			Event::Silenced {
				subject: RIGHT,
				stand: 0,
				who: 11,
			}
			.into(),
		);
		nothing_is_left();
		assert_eq!(Balances::free_balance(1), MONEY + 50);
		assert_eq!(Balances::free_balance(11), MONEY - 100);
	});
	// The one who doubts the right trace is.
	new_test_ext().execute_with(|| {
		assert_ok!(stand(1, FALSE, &right));
		assert_ok!(Judge::doubt(signed(11), FALSE, 0));
		assert!(reply(1, FALSE, 0, 11, &right).is_some());
		to_block(Judge::longest().into());
		assert_eq!(verdict(FALSE), Some(Verdict::Overturned));
		nothing_is_left();
		assert_eq!(Balances::free_balance(1), MONEY + 50);
		assert_eq!(Balances::free_balance(11), MONEY - 100);
	});
}

/// Whoever opens a dispute while many are open pays for that.
#[test]
fn places_for_disputes_are_not_taken_for_a_song() {
	new_test_ext().execute_with(|| {
		let liar = Model::lying(6, 1);
		assert_ok!(stand(11, RIGHT, &liar));
		assert_eq!(held(11), 100);
		// Half of two places are taken.
		assert_ok!(stand(11, OTHERS[0], &liar));
		assert_eq!(held(11), 100 + 100 * 256);
		assert_noop!(stand(11, OTHERS[1], &liar), Error::<Test>::TooManyCases);
		// Whoever joins pays what that costs alone.
		assert_ok!(stand(12, OTHERS[0], &liar));
		assert_eq!(held(12), 200);
		assert!(
			Ends::<Test>::iter_keys().count() == 2,
			"each has a block of its own"
		);
		Judge::do_try_state().unwrap();
	});
}

/// A sham challenge that is lost closes nothing: whoever computes the text still overturns the answer. So does a second dispute about it, if
/// whoever keeps answers admits one.
#[test]
fn a_sham_challenge_does_not_close_the_matter() {
	new_test_ext().execute_with(|| {
		let (right, sham) = (Model::new(), Model::variant(-1, 0));
		let friends = [Model::variant(1, 0), Model::variant(1, 1)];
		// The liars open the dispute themselves, with a trace that they refute.
		assert_ok!(stand(11, FALSE, &sham));
		assert_ok!(Judge::doubt(signed(12), FALSE, 0));
		play(FALSE, 0, (11, &sham), (12, &right));
		// Their friends stand for the answer.
		for (n, friend) in friends.iter().enumerate() {
			assert_ok!(stand(13 + n as u64, FALSE, friend));
		}
		to_block(90);
		assert_ok!(stand(HONEST, FALSE, &right));
		let mut seen = HashMap::new();
		let mut now = 90;
		while verdict(FALSE).is_none() {
			now += 1;
			to_block(now);
			honest(FALSE, &right, &mut seen);
			clerk(FALSE);
			let _ = Judge::close(signed(99), FALSE);
		}
		assert_eq!(verdict(FALSE), Some(Verdict::Overturned));
		to_block(now + 70);
		nothing_is_left();
		assert!(Balances::free_balance(HONEST) > MONEY);
	});
}

/// A party with many accounts that sees everything, and at each block does what draws the dispute out furthest.
struct Staller {
	/// Traces that it has stood for, by their number.
	models: HashMap<u8, Model>,
	seen: HashMap<(u8, u64), Seen>,
	next: u64,
	variants: usize,
	joined: usize,
	right: Model,
}

impl Staller {
	/// An account that has done nothing yet.
	fn account(&mut self) -> u64 {
		self.next = 2 + (self.next - 1) % 90;
		self.next
	}

	fn act(&mut self, subject: u64) {
		let now = System::block_number() as u32;
		let Some(case) = Cases::<Test>::get(subject).filter(|case| case.verdict.is_none()) else {
			return;
		};
		let terms = Windows::get();
		// What is about to close is held open: by a trace, or by a doubt about the right one.
		if now == case.dispute.closes.min(case.dispute.opened + terms.most) {
			let more = (self.variants % 2) as i64;
			let model = Model::variant(more, self.variants);
			self.variants += 1;
			let who = self.account();
			if stand(who, subject, &model).is_ok() {
				let case = Cases::<Test>::get(subject).unwrap();
				self.models
					.insert(case.dispute.stands.len() as u8 - 1, model);
			}
		}
		if now == case.dispute.closes {
			let mut stands = case.dispute.stands.iter();
			let right = self.right.trace();
			if let Some(n) = stands.position(|of| of.trace == right) {
				let _ = Judge::doubt(signed(self.account()), subject, n as u8);
			}
		}
		for (n, of) in case.dispute.stands.iter().enumerate() {
			let n = n as u8;
			// An empty line is joined when it could be said to be empty in the next block.
			if of.state == State::Standing && of.vacant.is_some_and(|v| now >= v + terms.grace) {
				if let Some(model) = self.models.get(&n) {
					// Whoever of them can still pay.
					let mut who = 2..97;
					if who.any(|who| stand(who, subject, model).is_ok()) {
						self.joined += 1;
					}
				}
			}
			self.play(subject, n, now);
		}
	}

	/// Moves in the last block of each clock, and only where that gains time.
	fn play(&mut self, subject: u64, n: u8, now: u32) {
		let Some(speaker) =
			Cases::<Test>::get(subject).and_then(|case| case.dispute.speaker(n.into()).copied())
		else {
			return;
		};
		let games: Vec<_> = Games::<Test>::iter_prefix((subject, n)).collect();
		for (challenger, played) in games {
			if played.game.deadline(&GamePace::get()) != Some(now) {
				continue;
			}
			match played.game.turn() {
				// What would show that the trace is false is not shown: a bond for each whole clock is the longer way.
				Some(Side::Defender)
					if speaker != HONEST && !matches!(played.game.stage, Stage::Leaf { .. }) =>
				{
					let model = self.models.get(&n).unwrap_or(&self.right);
					let stage = played.game.stage.clone();
					if let Some(said) = reply(speaker, subject, n, challenger, model) {
						let seen = self.seen.entry((n, challenger)).or_default();
						seen.note(&stage, &said);
					}
				}
				Some(Side::Challenger) if challenger != HONEST => {
					// Whoever doubts the right trace names the first hash that it is shown, as long as there is one.
					let seen = self.seen.entry((n, challenger)).or_default();
					let sham = Model::variant(0, 30);
					let choice: Option<Choice> = seen.choose(&sham.run(), &played.game);
					if let Some(choice) = choice {
						let _ = Judge::choose(signed(challenger), subject, n, choice);
					}
				}
				_ => (),
			}
		}
	}
}

/// Who draws a dispute out with all it can pay for gains nothing by it: it is over in time, the verdict is the right one, and it pays.
#[test]
fn whoever_draws_it_out_gains_nothing() {
	for subject in [RIGHT, FALSE] {
		// Whoever is honest gets into each block, or into every twelfth only.
		for every in [1, 12] {
			new_test_ext().execute_with(|| {
				let right = Model::new();
				let mut staller = Staller {
					models: HashMap::new(),
					seen: HashMap::new(),
					next: 1,
					variants: 0,
					joined: 0,
					right: Model::new(),
				};
				if subject == RIGHT {
					let liar = Model::variant(1, 99);
					assert_ok!(stand(98, subject, &liar));
					staller.models.insert(0, liar);
					// Its friend speaks first for the right trace, to be silent for it.
					assert_ok!(stand(97, subject, &right));
				}
				let mut seen = HashMap::new();
				let mut now = 1;
				while verdict(subject).is_none() {
					if now % every == 0 {
						honest(subject, &right, &mut seen);
					}
					staller.act(subject);
					if let Some(case) = Cases::<Test>::get(subject) {
						for n in 0..case.dispute.stands.len() as u8 {
							if let Some(theirs) = staller.seen.get(&(n, HONEST)) {
								seen.insert(n, theirs.clone());
							}
						}
					}
					if now % every == 0 {
						clerk(subject);
						let _ = Judge::close(signed(99), subject);
					}
					if now % 97 == 0 {
						Judge::do_try_state().unwrap();
					}
					now += 1;
					to_block(now);
				}
				let expected = match subject {
					RIGHT => Verdict::Stays,
					_ => Verdict::Overturned,
				};
				assert_eq!(verdict(subject), Some(expected), "{subject} {every}");
				// Nobody had to be cut off.
				let most = u64::from(Windows::get().longest(&GamePace::get()));
				assert!(now <= 1 + most, "{subject} {every}: {now} of {most}");
				assert!(
					staller.variants >= 3 && staller.joined >= 20,
					"it could draw nothing out"
				);
				println!(
					"{now} of {most} blocks, {} traces, {} in lines",
					staller.variants, staller.joined
				);
				to_block(now + 70);
				nothing_is_left();
				assert!(Balances::free_balance(HONEST) >= MONEY);
				let party: u64 = (2..99).map(Balances::free_balance).sum();
				assert!(party < 97 * MONEY, "{subject} {every}: they lost nothing");
			});
		}
	}
}

/// Each new challenge gives no new time: after the last window for doubts nothing begins any more.
#[test]
fn a_new_challenge_each_time_postpones_nothing_beyond_the_last_window() {
	new_test_ext().execute_with(|| {
		let right = Model::new();
		assert_ok!(stand(HONEST, FALSE, &right));
		let (terms, mut who) = (Windows::get(), 2);
		let last = 1 + terms.most + terms.window;
		for block in 2..=u64::from(last) + 1 {
			to_block(block);
			let closes = Cases::<Test>::get(FALSE).unwrap().dispute.closes;
			if u64::from(closes) != block {
				continue;
			}
			// A doubt just before it closes, lost at once: the honest one has answered everything.
			who += 1;
			let doubted = Judge::doubt(signed(who), FALSE, 0);
			if block <= u64::from(last) {
				assert_ok!(doubted);
			}
			assert!(reply(HONEST, FALSE, 0, who, &right).is_some());
		}
		assert_noop!(Judge::doubt(signed(90), FALSE, 0), Error::<Test>::Closed);
		assert!(who >= 3);
		// What is open now is all there is.
		let mut now = u64::from(last) + 1;
		while verdict(FALSE).is_none() {
			clerk(FALSE);
			let _ = Judge::close(signed(99), FALSE);
			now += 1;
			to_block(now);
		}
		assert_eq!(verdict(FALSE), Some(Verdict::Overturned));
		assert!(now < 1 + u64::from(terms.longest(&GamePace::get())));
	});
}
