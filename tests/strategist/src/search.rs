//! The search over policies.
//!
//! A *hunt* looks for the best policy that uses nothing forbidden: random policies first, then hill climbing from the best of them
//! with restarts, then at every decision the best response to the rest of the policy. What is left is made as short as it can be,
//! and played again with fresh seeds, so that luck is not taken for skill. After a hunt that earned more than honest work, the
//! trick that was worth most is forbidden and the next hunt begins: each finds another way.
//!
//! Everything is compared with honest work under the same seed: the same strangers ask the same, and the same authors write.

use std::collections::BTreeMap;

use rand_chacha::{
	rand_core::{RngCore, SeedableRng},
	ChaCha8Rng,
};
use serde::Serialize;

use crate::{
	play::{play, Outcome},
	policy::{choices, words_of, Forbidden, Policy, DECISIONS},
	world::World,
};

/// Plays of a policy that climbs.
const PLAYS: u64 = 2;
/// Plays with fresh seeds that confirm what a hunt found, at a time.
const CONFIRMING: u64 = 8;
/// Fewest plays after which a profit is believed: a lie that is found once in ten times looks like a gift for that long.
pub const BELIEVED: u64 = 48;
/// Most plays: what is not believed after so many is luck, as far as anybody can see.
const DOUBTED: u64 = 96;
/// Standard errors by which a profit is above nothing.
const ERRORS: f64 = 3.0;
/// Policies of which the lowest prize is measured again with fresh seeds.
const CALLS: usize = 4;
/// Share of a hunt's episodes for random policies, and for best responses, in hundredths; the rest climbs.
const RANDOM: u64 = 25;
const RESPONSES: u64 = 30;
/// Steps without a better policy after which climbing begins anew.
const PATIENCE: u32 = 12;
/// Mutations without an effect after which there is nothing left to mutate.
const IDLE: u32 = 200;
/// Fewest false answers from which a break-even prize is computed.
const ENOUGH: u64 = 3;

/// What the party is paid by somebody outside.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prizes {
	/// For a false answer to a stranger that becomes final, in coins.
	pub false_final: f64,
	/// For a stranger's request that is not answered, in coins.
	pub denied: f64,
}

/// What a policy earns over honest work, for a number of plays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Score {
	/// Plays.
	pub plays: u64,
	/// Coins more than honest work earns, with the prizes, in one play.
	pub profit: f64,
	/// Its standard error: draws differ as soon as anything is done in another block, so honest work is luckier at times too.
	pub error: f64,
	/// The profit without the prize for false answers.
	pub without_prize: f64,
	/// All plays together.
	pub total: Outcome,
	/// The profit of each play.
	#[serde(skip)]
	each: Vec<f64>,
}

impl Score {
	/// Adds a play: what it earned without the prizes for false answers, and what these are worth.
	fn add(&mut self, without_prize: f64, prize: f64, outcome: &Outcome) {
		let before = self.plays as f64;
		self.without_prize = (self.without_prize * before + without_prize) / (before + 1.0);
		self.total.add(outcome);
		self.each.push(without_prize + prize);
		self.plays += 1;
		let plays = self.plays as f64;
		self.profit = self.each.iter().sum::<f64>() / plays;
		let squares: f64 = self.each.iter().map(|p| (p - self.profit).powi(2)).sum();
		self.error = (squares / (plays - 1.0).max(1.0) / plays).sqrt();
	}

	/// Whether the profit is more than luck.
	pub fn is_believed(&self) -> bool {
		self.plays >= BELIEVED && self.profit > ERRORS * self.error
	}

	/// The prize for a false answer from which the policy pays; none where it gets too few through to say.
	pub fn break_even(&self) -> Option<f64> {
		let each = self.total.false_final as f64 / self.plays.max(1) as f64;
		(self.total.false_final >= ENOUGH).then(|| (-self.without_prize / each).max(0.0))
	}
}

/// A deviation from honest work and what it is worth.
#[derive(Clone, Debug, Serialize)]
pub struct Trick {
	/// Its decision.
	#[serde(skip)]
	pub decision: usize,
	/// Its choice.
	#[serde(skip)]
	pub choice: u8,
	/// In words.
	pub words: String,
	/// Coins that a play loses without it, everything else the same.
	pub worth: f64,
}

/// What a hunt found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
	/// What it might not use, in words.
	pub forbidden: Vec<String>,
	/// Every deviation from honest work.
	pub tricks: Vec<Trick>,
	/// With fresh seeds.
	pub score: Score,
	/// Policies that were tried.
	pub tried: u64,
	/// Requests played in all of them.
	pub episodes: u64,
}

/// A network of a size with a party of a size.
pub struct Arena {
	/// Validators.
	pub validators: usize,
	/// Of them the party.
	pub party: usize,
	/// Requests that were played.
	pub episodes: u64,
	/// Policies that were tried.
	pub tried: u64,
	/// The policies that paid from the lowest prizes, of all that were tried.
	cheapest: Vec<(f64, Policy)>,
	/// False answers that became final in honest plays, and honest stake lost in any.
	pub honest: Outcome,
	prizes: Prizes,
	world: World,
	baseline: BTreeMap<u64, Outcome>,
}

impl Arena {
	/// A network before it is played.
	pub fn new(validators: usize, percent: usize, prizes: Prizes) -> Self {
		let party = (validators * percent / 100).max(1);
		Self {
			validators,
			party,
			episodes: 0,
			tried: 0,
			cheapest: Vec::new(),
			honest: Outcome::default(),
			prizes,
			world: World::new(validators, party),
			baseline: BTreeMap::new(),
		}
	}

	/// What honest work earns under a seed.
	fn baseline(&mut self, seed: u64) -> Outcome {
		if let Some(outcome) = self.baseline.get(&seed) {
			return outcome.clone();
		}
		let outcome = play(&mut self.world, &Policy::default(), seed);
		self.episodes += outcome.episodes;
		self.baseline.insert(seed, outcome.clone());
		outcome
	}

	/// What a policy earns over honest work under these seeds.
	pub fn score(&mut self, policy: &Policy, seeds: impl IntoIterator<Item = u64>) -> Score {
		let mut score = Score::default();
		self.tried += 1;
		self.play_more(policy, &mut score, seeds);
		if let Some(prize) = score.break_even() {
			self.cheapest.retain(|(_, known)| known != policy);
			self.cheapest.push((prize, *policy));
			self.cheapest.sort_by(|a, b| a.0.total_cmp(&b.0));
			self.cheapest.truncate(CALLS);
		}
		score
	}

	fn play_more(
		&mut self,
		policy: &Policy,
		score: &mut Score,
		seeds: impl IntoIterator<Item = u64>,
	) {
		for seed in seeds {
			let honest = self.baseline(seed);
			let outcome = play(&mut self.world, policy, seed);
			self.episodes += outcome.episodes;
			let denied = outcome.denied as f64 - honest.denied as f64;
			let plain = outcome.coins - honest.coins + denied * self.prizes.denied;
			let prize = outcome.false_final as f64 * self.prizes.false_final;
			score.add(plain, prize, &outcome);
			self.honest.honest_slashed += outcome.honest_slashed;
			self.honest.honest_blamed += outcome.honest_blamed;
		}
	}

	/// Plays a policy with fresh seeds until its profit is believed, gone, or doubted for too long.
	fn confirm(&mut self, policy: &Policy, rng: &mut ChaCha8Rng) -> Score {
		let mut score = Score::default();
		loop {
			self.play_more(policy, &mut score, fresh(rng, CONFIRMING));
			if score.profit <= 0.0 || score.is_believed() || score.plays >= DOUBTED {
				return score;
			}
		}
	}

	/// The policy that pays from the lowest prize, with fresh seeds: what looked cheapest in a play or two was lucky.
	pub fn closest_call(&mut self, plays: u64, seed: u64) -> Option<(f64, Policy)> {
		let mut rng = ChaCha8Rng::seed_from_u64(seed);
		let candidates = self.cheapest.clone();
		let again = candidates.into_iter().filter_map(|(_, policy)| {
			let mut score = Score::default();
			self.play_more(&policy, &mut score, fresh(&mut rng, plays));
			Some((score.break_even()?, policy))
		});
		again.min_by(|a, b| a.0.total_cmp(&b.0))
	}

	/// Hunts until so many episodes are played.
	pub fn hunt(&mut self, forbidden: &Forbidden, episodes: u64, seed: u64) -> Finding {
		let mut rng = ChaCha8Rng::seed_from_u64(seed);
		let (first, tried) = (self.episodes, self.tried);
		let until = |share: u64| first + episodes * share / 100;
		let mut best = (Policy::default(), 0.0);
		// Random policies, from nearly honest to wild.
		let mut pool: Vec<(Policy, f64)> = Vec::new();
		while self.episodes < until(RANDOM) {
			let rarity = 2 + rng.next_u32() % 6;
			let policy = Policy::random(&mut rng, rarity, forbidden);
			let profit = self.score(&policy, [seed]).profit;
			pool.push((policy, profit));
		}
		pool.sort_by(|a, b| b.1.total_cmp(&a.1));
		pool.truncate(8);
		// Climbing, under new seeds at every start.
		let mut starts = pool.into_iter();
		while self.episodes < until(100 - RESPONSES) {
			let start = match starts.next() {
				Some((policy, _)) => policy,
				None => Policy::random(&mut rng, 4, forbidden),
			};
			let seeds = fresh(&mut rng, PLAYS);
			let score = self.score(&start, seeds.clone());
			let mut here = (start, score.profit, score.total.consulted);
			let (mut waited, mut idle) = (0, 0);
			while waited < PATIENCE && idle < IDLE && self.episodes < until(100 - RESPONSES) {
				let next = here.0.mutated(&mut rng, here.2, forbidden);
				let asked = |d: &usize| (here.2 >> d) & 1 == 1;
				let same = |d: usize| next.choice(d) == here.0.choice(d);
				if (0..DECISIONS).filter(asked).all(same) {
					here.0 = next;
					idle += 1;
					continue;
				}
				idle = 0;
				let score = self.score(&next, seeds.clone());
				waited = if score.profit > here.1 { 0 } else { waited + 1 };
				// What is as good is taken too: it may open a way.
				if score.profit >= here.1 {
					here = (next, score.profit, score.total.consulted);
				}
			}
			let again = self.score(&here.0, fresh(&mut rng, PLAYS)).profit;
			let sure = here.1.min(again);
			if sure > best.1 {
				best = (here.0, sure);
			}
		}
		// The best response at every decision to all others.
		let seeds = fresh(&mut rng, PLAYS);
		let score = self.score(&best.0, seeds.clone());
		let mut here = (best.0, score.profit, score.total.consulted);
		'responses: loop {
			let before = here.0;
			for decision in 0..DECISIONS {
				for choice in (0..choices(decision)).filter(|c| forbidden.allows(decision, *c)) {
					if self.episodes >= until(100) {
						break 'responses;
					}
					let next = here.0.with(decision, choice);
					if next != here.0 && (here.2 >> decision) & 1 == 1 {
						let score = self.score(&next, seeds.clone());
						if score.profit > here.1 {
							here = (next, score.profit, score.total.consulted);
						}
					}
				}
			}
			if here.0 == before {
				break;
			}
		}
		let (policy, tricks) = self.shortened(here.0, &seeds);
		let score = self.confirm(&policy, &mut rng);
		Finding {
			forbidden: forbidden.words(),
			tricks,
			score,
			tried: self.tried - tried,
			episodes: self.episodes - first,
		}
	}

	/// Leaves out what is worth nothing, and says what the rest is worth.
	fn shortened(&mut self, mut policy: Policy, seeds: &[u64]) -> (Policy, Vec<Trick>) {
		let score = self.score(&policy, seeds.to_vec());
		let mut profit = score.profit;
		// What was never asked for says nothing.
		for decision in 0..DECISIONS {
			if (score.total.consulted >> decision) & 1 == 0 {
				policy = policy.with(decision, 0);
			}
		}
		for decision in policy.deviations().collect::<Vec<_>>() {
			let without = policy.with(decision, 0);
			let left = self.score(&without, seeds.to_vec()).profit;
			if left >= profit {
				(policy, profit) = (without, left);
			}
		}
		let mut tricks = Vec::new();
		for decision in policy.deviations().collect::<Vec<_>>() {
			let left = self.score(&policy.with(decision, 0), seeds.to_vec()).profit;
			let choice = policy.choice(decision);
			tricks.push(Trick {
				decision,
				choice,
				words: words_of(decision, choice),
				worth: profit - left,
			});
		}
		tricks.sort_by(|a, b| b.worth.total_cmp(&a.worth));
		(policy, tricks)
	}
}

/// Seeds that nobody has seen.
fn fresh(rng: &mut ChaCha8Rng, plays: u64) -> Vec<u64> {
	(0..plays).map(|_| rng.next_u64()).collect()
}

/// Hunts again and again, each time from another beginning, and shows each finding as it comes. What was worth most in a hunt that earned
/// something is forbidden from then on.
pub fn search(
	arena: &mut Arena,
	hunts: u64,
	episodes: u64,
	seed: u64,
	mut progress: impl FnMut(&Finding),
) -> Vec<Finding> {
	let mut forbidden = Forbidden::default();
	let mut findings = Vec::new();
	for hunt in 0..hunts {
		let finding = arena.hunt(&forbidden, episodes / hunts, seed.wrapping_add(hunt));
		progress(&finding);
		let best = next_to_forbid(&finding).map(|t| (t.decision, t.choice));
		let pays = finding.score.is_believed();
		findings.push(finding);
		if let (Some((decision, choice)), true) = (best, pays) {
			forbidden.forbid(decision, choice);
		}
	}
	findings
}

/// The trick that is to be forbidden next: lying itself only where nothing else is left, since it is what the others are for.
fn next_to_forbid(finding: &Finding) -> Option<&Trick> {
	let lying = |t: &&Trick| crate::policy::is_lying(t.decision);
	let mut tricks = finding.tricks.iter();
	tricks.clone().find(|t| !lying(t)).or_else(|| tricks.next())
}
