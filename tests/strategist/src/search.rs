//! The search over policies.
//!
//! A *hunt* looks for the best policy that uses nothing forbidden: random policies first, then hill climbing from the best of them
//! with restarts, then at every decision the best response to the rest of the policy. What is left is made as short as it can be,
//! and played again with fresh seeds, so that luck is not taken for skill. Where it fails, the seed in which it lost most becomes
//! a *lesson*: policies are played under the lessons first, so that a lie that only pays until it is found is given up, or finds
//! what keeps it from being punished. Every other hunt learns in plays in which a check by chance is as likely as not, for the
//! same reason; what it found is confirmed as everything is. After a hunt that earned more than honest work, the trick that was worth most is forbidden
//! and the next hunt begins: each finds another way.
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
	world::{World, SAMPLING},
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
/// Random policies from which a hunt climbs.
const POOL: usize = 8;
/// Steps without a better policy after which climbing begins anew.
const PATIENCE: u32 = 12;
/// Mutations without an effect after which there is nothing left to mutate.
const IDLE: u32 = 200;
/// Seeds in which a policy that looked good lost most: the last that are kept.
const LESSONS: usize = 2;
/// Probability of a check, in thousandths, where a hunt learns that a lie has to survive it: so likely that no play of luck with a few
/// seeds looks like a way to survive.
const LEARNING: u16 = 500;
/// Plays with fresh seeds by which a believed policy is made short.
const SHORTENING: u64 = 16;
/// Standard errors by which a trick is worth more than nothing, so that it is kept. What matters in one play of many is worth one.
const WORTH: f64 = 0.9;
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
	each: Vec<(u64, f64)>,
}

impl Score {
	/// Adds a play: what it earned without the prizes for false answers, and what these are worth.
	fn add(&mut self, seed: u64, without_prize: f64, prize: f64, outcome: &Outcome) {
		let before = self.plays as f64;
		self.without_prize = (self.without_prize * before + without_prize) / (before + 1.0);
		self.total.add(outcome);
		self.each.push((seed, without_prize + prize));
		self.plays += 1;
		(self.profit, self.error) = mean(self.each.iter().map(|(_, profit)| *profit));
	}

	/// The seed in which it lost most, if it lost.
	fn lesson(&self) -> Option<u64> {
		let worst = self.each.iter().min_by(|a, b| a.1.total_cmp(&b.1));
		worst.filter(|(_, profit)| *profit < 0.0).map(|(s, _)| *s)
	}

	/// How much more it earns in a play than another in the same, and the standard error of that.
	fn beats(&self, other: &Self) -> (f64, f64) {
		mean(self.each.iter().zip(&other.each).map(|(a, b)| a.1 - b.1))
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

/// Mean and its standard error.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
	let count = values.clone().count().max(1) as f64;
	let mean = values.clone().sum::<f64>() / count;
	let squares: f64 = values.map(|v| (v - mean).powi(2)).sum();
	(mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
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
	/// Its standard error.
	pub error: f64,
}

/// What a hunt found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
	/// What it might not use, in words.
	pub forbidden: Vec<String>,
	/// Every deviation from honest work.
	pub tricks: Vec<Trick>,
	/// All of them by name.
	pub names: String,
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
	/// A policy that cost honest validators stake, and the play in which it did.
	pub harmed: Option<(Policy, u64)>,
	prizes: Prizes,
	world: World,
	baseline: BTreeMap<(u64, u16), Outcome>,
	sampling: u16,
	lessons: Vec<u64>,
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
			harmed: None,
			prizes,
			world: World::new(validators, party),
			baseline: BTreeMap::new(),
			sampling: SAMPLING,
			lessons: Vec::new(),
		}
	}

	/// What honest work earns under a seed.
	fn baseline(&mut self, seed: u64) -> Outcome {
		let key = (seed, self.sampling);
		if let Some(outcome) = self.baseline.get(&key) {
			return outcome.clone();
		}
		let outcome = play(&mut self.world, &Policy::default(), seed, self.sampling);
		self.episodes += outcome.episodes;
		self.baseline.insert(key, outcome.clone());
		outcome
	}

	/// What a policy earns over honest work under these seeds.
	pub fn score(&mut self, policy: &Policy, seeds: impl IntoIterator<Item = u64>) -> Score {
		let mut score = Score::default();
		self.tried += 1;
		self.play_more(policy, &mut score, seeds);
		if let Some(prize) = score.break_even().filter(|_| self.sampling == SAMPLING) {
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
			let outcome = play(&mut self.world, policy, seed, self.sampling);
			self.episodes += outcome.episodes;
			let denied = outcome.denied as f64 - honest.denied as f64;
			let plain = outcome.coins - honest.coins + denied * self.prizes.denied;
			let prize = outcome.false_final as f64 * self.prizes.false_final;
			score.add(seed, plain, prize, &outcome);
			if outcome.honest_slashed > 0.0 {
				self.harmed.get_or_insert((*policy, seed));
			}
			self.honest.honest_slashed += outcome.honest_slashed;
			self.honest.honest_blamed += outcome.honest_blamed;
			self.honest.honest_late += outcome.honest_late;
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

	/// Plays a policy under the same seeds as another one that stands, and gives it up as soon as it is behind. What it earned, if it is
	/// at least as good.
	fn challenge(&mut self, policy: &Policy, standing: &Score) -> Option<Score> {
		let mut score = Score::default();
		self.tried += 1;
		for (seed, _) in &standing.each {
			self.play_more(policy, &mut score, [*seed]);
			if score.beats(standing).0 < 0.0 {
				return None;
			}
		}
		Some(score)
	}

	/// Remembers where a policy lost most.
	fn learn(&mut self, score: &Score) {
		if let Some(seed) = score.lesson().filter(|seed| !self.lessons.contains(seed)) {
			self.lessons.push(seed);
			if self.lessons.len() > LESSONS {
				self.lessons.remove(0);
			}
		}
	}

	/// The lessons, and so many fresh seeds.
	fn seeds(&self, rng: &mut ChaCha8Rng, plays: u64) -> Vec<u64> {
		[self.lessons.clone(), fresh(rng, plays)].concat()
	}

	/// Hunts until so many episodes are played, with so likely checks until something is to be confirmed.
	pub fn hunt(
		&mut self,
		forbidden: &Forbidden,
		episodes: u64,
		seed: u64,
		sampling: u16,
	) -> Finding {
		let mut rng = ChaCha8Rng::seed_from_u64(seed);
		let (first, tried) = (self.episodes, self.tried);
		let until = |share: u64| first + episodes * share / 100;
		self.sampling = sampling;
		let pool = self.wild(&mut rng, forbidden, until(RANDOM));
		let mut best = self.climb(&mut rng, forbidden, pool, until(100 - RESPONSES));
		// Responses, and what they are worth, until that is believed or nothing is left.
		let (mut policy, mut tricks, mut score);
		loop {
			self.sampling = sampling;
			let seeds = self.seeds(&mut rng, PLAYS);
			best = self.respond(best, &seeds, forbidden, until(100));
			(policy, tricks) = self.shortened(best, &seeds);
			self.sampling = SAMPLING;
			score = self.confirm(&policy, &mut rng);
			if score.is_believed() {
				let seeds = fresh(&mut rng, SHORTENING);
				let (shorter, worth) = self.shortened(policy, &seeds);
				if shorter != policy {
					let again = self.confirm(&shorter, &mut rng);
					if !again.is_believed() {
						break;
					}
					(policy, score) = (shorter, again);
				}
				tricks = worth;
				break;
			}
			self.learn(&score);
			if policy == Policy::default() || self.episodes >= until(100) {
				break;
			}
			best = policy;
		}
		Finding {
			forbidden: forbidden.words(),
			tricks,
			names: policy.to_string(),
			score,
			tried: self.tried - tried,
			episodes: self.episodes - first,
		}
	}

	/// The best of random policies, from nearly honest to wild.
	fn wild(&mut self, rng: &mut ChaCha8Rng, forbidden: &Forbidden, until: u64) -> Vec<Policy> {
		let mut pool: Vec<(Policy, f64)> = Vec::new();
		let seeds = self.seeds(rng, 1);
		while self.episodes < until {
			let rarity = 2 + rng.next_u32() % 6;
			let policy = Policy::random(rng, rarity, forbidden);
			let profit = self.score(&policy, seeds.clone()).profit;
			pool.push((policy, profit));
		}
		pool.sort_by(|a, b| b.1.total_cmp(&a.1));
		pool.into_iter().take(POOL).map(|(p, _)| p).collect()
	}

	/// Climbs from these policies, then from random ones, under new seeds at every start.
	fn climb(
		&mut self,
		rng: &mut ChaCha8Rng,
		forbidden: &Forbidden,
		pool: Vec<Policy>,
		until: u64,
	) -> Policy {
		let mut best = (Policy::default(), 0.0);
		let mut starts = pool.into_iter();
		while self.episodes < until {
			let start = starts
				.next()
				.unwrap_or_else(|| Policy::random(rng, 4, forbidden));
			let seeds = self.seeds(rng, PLAYS);
			let mut here = (start, self.score(&start, seeds));
			let (mut waited, mut idle) = (0, 0);
			while waited < PATIENCE && idle < IDLE && self.episodes < until {
				let asked = here.1.total.consulted;
				let next = here.0.mutated(rng, asked, forbidden);
				let same = |d: usize| next.choice(d) == here.0.choice(d);
				if (0..DECISIONS).filter(|d| (asked >> d) & 1 == 1).all(same) {
					here.0 = next;
					idle += 1;
					continue;
				}
				idle = 0;
				waited += 1;
				// What is as good is taken too: it may open a way.
				if let Some(score) = self.challenge(&next, &here.1) {
					if score.profit > here.1.profit {
						waited = 0;
					}
					here = (next, score);
				}
			}
			if here.1.profit <= best.1 {
				continue;
			}
			let again = self.score(&here.0, fresh(rng, 2 * PLAYS));
			self.learn(&again);
			let sure = here.1.profit.min(again.profit);
			if sure > best.1 {
				best = (here.0, sure);
			}
		}
		best.0
	}

	/// The best response at every decision to all others, until there is none.
	fn respond(
		&mut self,
		policy: Policy,
		seeds: &[u64],
		forbidden: &Forbidden,
		until: u64,
	) -> Policy {
		let mut here = (policy, self.score(&policy, seeds.to_vec()));
		loop {
			let before = here.0;
			for decision in 0..DECISIONS {
				for choice in (0..choices(decision)).filter(|c| forbidden.allows(decision, *c)) {
					if self.episodes >= until {
						return here.0;
					}
					let next = here.0.with(decision, choice);
					if next == here.0 || (here.1.total.consulted >> decision) & 1 == 0 {
						continue;
					}
					let better = self.challenge(&next, &here.1);
					if let Some(score) = better.filter(|s| s.profit > here.1.profit) {
						here = (next, score);
					}
				}
			}
			if here.0 == before {
				return here.0;
			}
		}
	}

	/// Leaves out what is worth nothing, and says what the rest is worth.
	fn shortened(&mut self, mut policy: Policy, seeds: &[u64]) -> (Policy, Vec<Trick>) {
		let mut score = self.score(&policy, seeds.to_vec());
		// What was never asked for says nothing.
		for decision in 0..DECISIONS {
			if (score.total.consulted >> decision) & 1 == 0 {
				policy = policy.with(decision, 0);
			}
		}
		for decision in policy.deviations().collect::<Vec<_>>() {
			let without = policy.with(decision, 0);
			let left = self.score(&without, seeds.to_vec());
			let (worth, error) = score.beats(&left);
			if worth <= 0.0 || worth < WORTH * error {
				(policy, score) = (without, left);
			}
		}
		let mut tricks = Vec::new();
		for decision in policy.deviations().collect::<Vec<_>>() {
			let left = self.score(&policy.with(decision, 0), seeds.to_vec());
			let (worth, error) = score.beats(&left);
			let choice = policy.choice(decision);
			tricks.push(Trick {
				decision,
				choice,
				words: words_of(decision, choice),
				worth,
				error,
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
	mut forbidden: Forbidden,
	hunts: u64,
	episodes: u64,
	seed: u64,
	mut progress: impl FnMut(&Finding),
) -> Vec<Finding> {
	let mut findings = Vec::new();
	for hunt in 0..hunts {
		let sampling = if hunt % 2 == 0 { LEARNING } else { SAMPLING };
		let begin = seed.wrapping_add(hunt);
		let finding = arena.hunt(&forbidden, episodes / hunts, begin, sampling);
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
