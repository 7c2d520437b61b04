//! Anything that accounts do, in any order: storage holds together, and one honest account is enough.

use consilience_judge::{
	narrowing::{Reply, Side},
	play::Seen,
	standing::{State, Verdict},
};
use std::collections::HashMap;

use crate::{mock::*, Cases, Games};

/// Numbers that look random, the same in every run.
pub(super) struct Noise(pub(super) u64);

impl Noise {
	pub(super) fn below(&mut self, n: u64) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut z = self.0;
		z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
		(z ^ (z >> 31)) % n
	}
}

pub(super) const HONEST: u64 = 1;

fn signed(who: u64) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}

/// What an honest account does in a block.
pub(super) fn honest(subject: u64, right: &Model, seen: &mut HashMap<u8, Seen>) {
	let _ = stand(HONEST, subject, right);
	let Some(case) = Cases::<Test>::get(subject) else {
		return;
	};
	for (n, of) in case.dispute.stands.iter().enumerate() {
		let n = n as u8;
		if of.state != State::Standing {
			continue;
		}
		if of.trace == right.trace() {
			// It answers everybody.
			let challengers: Vec<_> = Games::<Test>::iter_key_prefix((subject, n)).collect();
			for challenger in challengers {
				reply(HONEST, subject, n, challenger, right);
			}
			continue;
		}
		match Games::<Test>::get((subject, n, HONEST)) {
			None => {
				if Judge::doubt(signed(HONEST), subject, n).is_ok() {
					seen.insert(n, Seen::default());
				}
			}
			Some(played) => {
				let choice = seen
					.entry(n)
					.or_default()
					.choose(&right.run(), &played.game);
				if let Some(choice) = choice {
					let _ = Judge::choose(signed(HONEST), subject, n, choice);
				}
			}
		}
	}
}

/// What somebody else does.
pub(super) fn other(
	subject: u64,
	models: &[Model],
	seen: &mut HashMap<u8, Seen>,
	noise: &mut Noise,
) {
	let who = 2 + noise.below(40);
	let n = noise.below(6) as u8;
	let model = &models[noise.below(models.len() as u64) as usize];
	match noise.below(10) {
		0 => {
			let _ = stand(who, subject, model);
		}
		1 => {
			let _ = Judge::doubt(signed(who), subject, n);
		}
		// Whoever speaks for any trace says what belongs to it, or not quite.
		2..=6 => {
			let Some(case) = Cases::<Test>::get(subject) else {
				return;
			};
			let challengers: Vec<_> = Games::<Test>::iter_key_prefix((subject, n)).collect();
			let Some(of) = case.dispute.stands.get(usize::from(n)) else {
				return;
			};
			let Some(speaker) = of.line.first().copied().filter(|who| *who != HONEST) else {
				return;
			};
			let Some(model) = models.iter().find(|model| model.trace() == of.trace) else {
				return;
			};
			for challenger in challengers {
				let Some(played) = Games::<Test>::get((subject, n, challenger)) else {
					continue;
				};
				let Some(mut reply) = model.run().reply(&played.game) else {
					continue;
				};
				if noise.below(4) == 0 {
					match &mut reply {
						Reply::Parts(parts) => parts[0].value += 1,
						Reply::Hashes(hashes) => hashes[0] = [1; 32],
						Reply::Leaf(bytes) => bytes[0] ^= 1,
					}
				}
				let moved = Judge::reply(signed(speaker), subject, n, challenger, reply.clone());
				if moved.is_ok() && challenger == HONEST {
					seen.entry(n).or_default().note(&played.game.stage, &reply);
				}
			}
		}
		// A challenger that doubts with some run of its own.
		7 => {
			let challengers: Vec<_> = Games::<Test>::iter_key_prefix((subject, n)).collect();
			for challenger in challengers.into_iter().filter(|who| *who != HONEST) {
				let Some(played) = Games::<Test>::get((subject, n, challenger)) else {
					continue;
				};
				// It has not looked, so most of what it says is refused.
				if let Some(choice) = Seen::default().choose(&model.run(), &played.game) {
					let _ = Judge::choose(signed(challenger), subject, n, choice);
				}
			}
		}
		8 => {
			let _ = Judge::clear(signed(who), subject, n);
		}
		_ => {
			let _ = Judge::close(signed(who), subject);
		}
	}
}

/// Whatever is late is said to be.
pub(super) fn clerk(subject: u64) {
	let games: Vec<_> = Games::<Test>::iter_keys().collect();
	for (of, n, challenger) in games.into_iter().filter(|(of, ..)| *of == subject) {
		let late = Games::<Test>::get((of, n, challenger)).and_then(|played| {
			let now = System::block_number() as u32;
			played.game.late(&GamePace::get(), now)
		});
		let told = Judge::late(signed(99), subject, n, challenger);
		if late == Some(Side::Challenger) && told.is_ok() {
			assert_ne!(challenger, HONEST);
		}
	}
	for n in 0..32 {
		let _ = Judge::lapse(signed(99), subject, n);
	}
}

fn play_out(seed: u64) {
	new_test_ext().execute_with(|| {
		let mut noise = Noise(seed);
		let subject = if seed.is_multiple_of(2) { RIGHT } else { FALSE };
		let models = [
			Model::new(),
			Model::lying(4, 1),
			Model::lying(5, 1),
			Model::lying(6, 1),
			Model::sham(),
		];
		let right = Model::new();
		let mut seen = HashMap::new();
		if subject == RIGHT {
			stand(50, subject, &Model::lying(5, 1)).unwrap();
		}
		let mut verdict = None;
		for block in 2..3_000 {
			to_block(block);
			honest(subject, &right, &mut seen);
			// Later there are fewer: somebody runs out of money or patience.
			if noise.below(200) > block / 4 {
				other(subject, &models, &mut seen, &mut noise);
			}
			clerk(subject);
			if block % 20 == 0 {
				Judge::do_try_state().unwrap();
				let _ = Judge::close(signed(99), subject);
			}
			let case = Cases::<Test>::get(subject);
			if let Some(found) = case.and_then(|case| case.verdict) {
				verdict = Some(found);
				break;
			}
		}
		let expected = match subject {
			RIGHT => Verdict::Stays,
			_ => Verdict::Overturned,
		};
		assert_eq!(verdict, Some(expected), "{seed}");
		assert_eq!(overturned().is_empty(), subject == RIGHT);
		for n in 0..32 {
			let _ = Judge::clear(signed(99), subject, n);
		}
		assert_eq!(Cases::<Test>::get(subject), None);
		assert_eq!(held(HONEST), 0);
		let money = Balances::free_balance(HONEST);
		assert!(money >= MONEY, "{seed}: the honest one has {money}");
		Judge::do_try_state().unwrap();
	});
}

#[test]
fn one_honest_account_is_enough() {
	for seed in 0..24 {
		play_out(seed);
	}
}
