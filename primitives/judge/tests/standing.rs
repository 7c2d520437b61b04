//! One honest party is enough, whatever the others do, and it loses nothing.

#![allow(clippy::unwrap_used)]

#[path = "support/noise.rs"]
mod noise;

use consilience_judge::{
	narrowing::Side,
	standing::{price, Dispute, End, State, Terms, Unfit, Verdict, GAMES, LINE, STANDS},
};
use noise::Noise;

const TERMS: Terms = Terms {
	window: 100,
	grace: 30,
	most: 400,
};
/// Blocks that a step of a game takes.
const STEP: u32 = 10;
/// Bonds that the others can pay together.
const PURSE: u32 = 3_000;

/// Who takes part; all but the first are one party.
type Who = u32;
const HONEST: Who = 0;

/// The trace of the run; all others are false somewhere.
const RIGHT: [u8; 32] = [1; 32];

struct Game {
	stand: usize,
	challenger: Who,
	due: u32,
}

struct World {
	dispute: Dispute<Who>,
	games: Vec<Game>,
	noise: Noise,
	/// Whether the answer is what the model says.
	right: bool,
	next: Who,
	purse: u32,
	lost: Vec<Who>,
}

impl World {
	fn new(seed: u64, right: bool) -> Self {
		Self {
			dispute: Dispute::new(&TERMS, 0),
			games: Vec::new(),
			noise: Noise(seed),
			right,
			next: 1,
			purse: PURSE,
			lost: Vec::new(),
		}
	}

	fn honest(&mut self, now: u32) {
		let _ = self.dispute.stand(HONEST, RIGHT, self.right, &TERMS, now);
		for n in 0..self.dispute.stands.len() {
			let stand = &self.dispute.stands[n];
			let plays = |game: &Game| game.stand == n && game.challenger == HONEST;
			let doubts = stand.trace != RIGHT
				&& stand.state == State::Standing
				&& !self.games.iter().any(plays);
			if doubts && self.dispute.doubt(&HONEST, n, now).is_ok() {
				self.games.push(Game {
					stand: n,
					challenger: HONEST,
					due: now + STEP,
				});
			}
		}
	}

	/// Somebody else does something that it can pay.
	fn other(&mut self, now: u32) {
		let who = self.next;
		let n = self.noise.below(STANDS as u64 * 2) as usize;
		let (before, games) = (self.dispute.clone(), self.games.len());
		let paid = match self.noise.below(3) {
			0 => {
				let trace = [10 + self.noise.below(60) as u8; 32];
				// A trace says what it says.
				let so = trace[0] % 2 == 0;
				self.dispute
					.stand(who, trace, so, &TERMS, now)
					.map(|(_, price)| price)
			}
			1 => match self.dispute.stands.get(n).map(|s| (s.trace, s.says_so)) {
				Some((trace, so)) => {
					let joined = self.dispute.stand(who, trace, so, &TERMS, now);
					joined.map(|(_, price)| price)
				}
				None => Err(Unfit::NoSuch),
			},
			_ => self.dispute.doubt(&who, n, now).inspect(|_| {
				self.games.push(Game {
					stand: n,
					challenger: who,
					due: now + STEP,
				});
			}),
		};
		match paid {
			Ok(price) if price <= self.purse => {
				self.purse -= price;
				self.next += 1;
			}
			Ok(_) => {
				self.games.truncate(games);
				self.dispute = before;
			}
			Err(_) => assert_eq!(self.dispute, before),
		}
	}

	/// Games go on by a step.
	fn play(&mut self, now: u32) {
		let mut games = std::mem::take(&mut self.games);
		games.retain_mut(|game| {
			let n = game.stand;
			let stand = &self.dispute.stands[n];
			if stand.state != State::Standing {
				return false;
			}
			let Some(speaker) = stand.line.first().copied() else {
				// It stands still.
				game.due = now + STEP;
				return true;
			};
			if now < game.due {
				return true;
			}
			let chance = self.noise.below(3);
			let end = match (stand.trace == RIGHT, speaker, game.challenger) {
				// Whoever speaks for it may be silent, or misspeak; if it speaks, it is right.
				(_, speaker, _) if speaker != HONEST && chance == 0 => None,
				(true, ..) => Some(End::Held),
				// A false trace against an honest challenger has nothing else to hope for.
				(false, _, HONEST) => Some(End::Refuted),
				(false, ..) => Some(match chance {
					1 => End::Held,
					_ => End::Refuted,
				}),
			};
			match end {
				None => {
					let lost = self.dispute.silence(n, now).unwrap();
					self.lost.push(lost);
					game.due = now + STEP;
					true
				}
				Some(end) => {
					let lost = self.dispute.ended(n, end, &TERMS, now).unwrap();
					self.lost.extend(lost);
					if end == End::Held {
						self.lost.push(game.challenger);
					}
					false
				}
			}
		});
		self.games = games;
		for n in 0..self.dispute.stands.len() {
			self.dispute.lapse(n, &TERMS, now);
		}
	}
}

#[test]
fn one_honest_party_is_enough() {
	let (mut longest, mut fell) = (0, 0);
	for seed in 0..4_000 {
		let right = seed % 2 == 0;
		let mut world = World::new(seed, right);
		let busy = world.noise.below(4) + 1;
		let mut now = 0;
		let verdict = loop {
			world.honest(now);
			for _ in 0..world.noise.below(busy + 1) {
				world.other(now);
			}
			world.play(now);
			if let Some(verdict) = world.dispute.verdict(now) {
				break verdict;
			}
			now += 1;
			// The last doubt, and then as many who speak, each for a step, and as many empty lines.
			let turn = STEP + TERMS.grace + 2;
			let longest = TERMS.most + TERMS.window + LINE as u32 * turn;
			assert!(now <= longest, "{seed}");
		};
		let expected = match right {
			true => Verdict::Stays,
			false => Verdict::Overturned,
		};
		assert_eq!(verdict, expected, "{seed}");
		assert!(!world.lost.contains(&HONEST), "{seed}");
		longest = longest.max(now);
		fell += world
			.dispute
			.stands
			.iter()
			.filter(|s| s.state != State::Standing)
			.count();
	}
	println!("at most {longest} blocks; {fell} traces fell");
	assert!(fell > 4_000);
}

/// Without anybody who is honest the answer stays as it was found, unless somebody says otherwise and nobody objects.
#[test]
fn silence_keeps_nothing() {
	let mut dispute = Dispute::new(&TERMS, 0);
	assert_eq!(dispute.verdict(100), None);
	assert_eq!(dispute.verdict(101), Some(Verdict::Stays));
	dispute.stand(1, RIGHT, false, &TERMS, 50).unwrap();
	assert_eq!(dispute.verdict(150), None);
	assert_eq!(dispute.verdict(151), Some(Verdict::Overturned));
	// Both stand, and nobody has doubted either.
	dispute.stand(2, [9; 32], true, &TERMS, 60).unwrap();
	assert_eq!(dispute.verdict(161), Some(Verdict::Stays));
}

#[test]
fn a_place_costs_twice_the_one_before_and_there_are_so_many() {
	let mut dispute = Dispute::new(&TERMS, 0);
	assert_eq!(dispute.stand(1, RIGHT, true, &TERMS, 0), Ok((0, 1)));
	assert_eq!(dispute.stand(1, RIGHT, true, &TERMS, 0), Err(Unfit::Again));
	for who in 2..=LINE as u32 {
		let paid = dispute.stand(who, RIGHT, true, &TERMS, 0);
		assert_eq!(paid, Ok((0, 1 << (who - 1))));
	}
	assert_eq!(dispute.stand(99, RIGHT, true, &TERMS, 0), Err(Unfit::Full));
	assert_eq!(dispute.doubt(&1, 0, 0), Err(Unfit::Own));
	for n in 0..u32::from(GAMES) {
		assert_eq!(dispute.doubt(&(200 + n), 0, 0), Ok(1 << n));
	}
	assert_eq!(dispute.doubt(&300, 0, 0), Err(Unfit::Full));
	for n in 0..STANDS as u8 {
		let paid = dispute.stand(400, [n + 20; 32], false, &TERMS, 0);
		assert_eq!(paid.map(|(_, price)| price), Ok(price(n)));
	}
	assert_eq!(
		dispute.stand(400, [7; 32], false, &TERMS, 0),
		Err(Unfit::Full)
	);
	assert_eq!(dispute.doubt(&301, 1, 101), Err(Unfit::Closed));
	assert_eq!(
		dispute.stand(400, [7; 32], true, &TERMS, 101),
		Err(Unfit::Closed)
	);
}

/// Whatever changes, and however often: traces are taken for so long, and doubted for a window more.
#[test]
fn no_new_trace_or_doubt_gives_time_for_ever() {
	let mut dispute = Dispute::new(&TERMS, 7);
	let (last, mut taken) = (7 + TERMS.most, 0);
	for now in 7..2_000 {
		let trace = [taken + 1; 32];
		// Whoever wants to draw it out comes when it is about to close.
		if now == dispute.closes.min(last) {
			let came = dispute.stand(taken.into(), trace, taken % 2 == 1, &TERMS, now);
			assert_eq!(came.is_ok(), now <= last, "{now}");
			taken += 1;
		}
		if now > 7 && now == dispute.closes {
			// Nor does a game that ends.
			let n = usize::from(taken) - 1;
			if dispute.doubt(&99, n, now).is_ok() {
				dispute.ended(n, End::Held, &TERMS, now).unwrap();
			}
		}
	}
	assert_eq!(dispute.closes, last + TERMS.window);
	assert_eq!(
		dispute.doubt(&98, 0, last + TERMS.window + 1),
		Err(Unfit::Closed)
	);
}

/// What is still open when the time is over, nobody has cared for: whoever was to move has lost.
#[test]
fn what_is_cut_off_speaks_against_whoever_was_to_move() {
	let stand = |n: u8| {
		let mut dispute = Dispute::new(&TERMS, 0);
		dispute.stand(1, RIGHT, true, &TERMS, 0).unwrap();
		for who in 0..u32::from(n) {
			dispute.doubt(&(10 + who), 0, 0).unwrap();
		}
		dispute
	};
	let mut held = stand(2);
	assert!(!held.is_quiet(0));
	assert_eq!(held.cut(0, [Some(Side::Challenger); 2]), Ok(None));
	assert_eq!(
		(held.stands[0].state, held.stands[0].open),
		(State::Standing, 0)
	);
	assert!(held.is_quiet(0));
	let turns = [Some(Side::Challenger), Some(Side::Defender)];
	let mut silent = stand(2);
	assert_eq!(silent.cut(0, turns), Ok(Some(1)));
	assert_eq!(silent.stands[0].state, State::Lapsed);
	// Who has misspoken is to move no more than who is silent.
	assert_eq!(stand(1).cut(0, [None]), Ok(Some(1)));
	let mut vacant = stand(1);
	vacant.silence(0, 5).unwrap();
	assert_eq!(vacant.cut(0, [Some(Side::Challenger)]), Ok(None));
	assert_eq!(vacant.stands[0].state, State::Lapsed);
	assert_eq!(vacant.cut(0, []), Err(Unfit::NoSuch));
}

/// An empty line may be joined after the close, so that a game that is open is played.
#[test]
fn a_line_that_is_empty_can_be_joined_until_it_lapses() {
	let mut dispute = Dispute::new(&TERMS, 0);
	dispute.stand(1, RIGHT, true, &TERMS, 0).unwrap();
	dispute.doubt(&2, 0, 100).unwrap();
	assert_eq!(dispute.silence(0, 120), Ok(1));
	assert_eq!(dispute.speaker(0), None);
	assert!(!dispute.lapse(0, &TERMS, 150));
	assert_eq!(dispute.stand(3, RIGHT, true, &TERMS, 150), Ok((0, 2)));
	assert_eq!(dispute.speaker(0), Some(&3));
	assert_eq!(dispute.silence(0, 160), Ok(3));
	assert!(dispute.lapse(0, &TERMS, 191));
	assert_eq!(dispute.stands[0].state, State::Lapsed);
	assert_eq!(
		dispute.stand(4, RIGHT, true, &TERMS, 191),
		Err(Unfit::NoSuch)
	);
	// What fell gives time again.
	assert_eq!(dispute.closes, 291);
}
