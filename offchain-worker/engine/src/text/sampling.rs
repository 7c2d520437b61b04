//! How a token is chosen: seeded Gumbel-max, the same on every platform.
//!
//! The token at answer position *i* is the entry with the largest score, the lowest of equals. With temperature zero the score is
//! the logit. Otherwise it is `logit / T + g`, where `g = -ln(-ln u)` and `u = (w + ½) / 2³²`, with `w` the entry's word of the
//! ChaCha8 stream with the request's seed as key and *i* as stream number. Taking the largest of such scores is drawing from the
//! softmax at temperature T (Gumbel 1954; Maddison et al. 2014, "A* Sampling"), and lets anybody who knows the seed repeat the
//! draw. All arithmetic is IEEE 754 double precision and `libm`'s software functions, in a fixed order.
//!
//! Logits come in here as a request would have them ([`Sampling::processing`]), in vLLM's order: first a constraint's mask, outside of
//! which no token is said whatever its logit, greedily or not; then biases and penalties
//! (`penalties.rs`), which count for greedy answers too; division by the temperature; then only some entries take part: at most
//! `top_k` of the highest (and what ties with the last), those of at least `min_p` times the likeliest's probability, and among what
//! these leave, with `top_p` below one, the nucleus: the fewest entries, by falling logit, whose probabilities add up to it.
//! (Hugging Face's library takes `min_p` after `top_p`, whose shares are then of more entries.) Each of the three is a least logit, so
//! that the highest of them holds.

use std::sync::Arc;

use super::{
	nucleus::{self, Nucleus},
	penalties::{thousandths, Penalties},
	truncation,
};
use consilience_grammar::Mask;
use consilience_primitives::request::Sampling;
use polkadot_sdk::sp_core::H256;
use rand_chacha::{
	rand_core::{RngCore, SeedableRng},
	ChaCha8Rng,
};

/// Steps of a margin in one logit.
pub(crate) const STEPS: f64 = 65_536.0;

/// Entries among which at most one is looked at, for single words of a stream to be made rather than all of them.
const FEW: usize = 128;

/// Chooses the tokens of one answer.
pub struct Sampler {
	seed: [u8; 32],
	/// Zero for greedy.
	temperature: f64,
	top_p: f64,
	/// Zero for all.
	top_k: usize,
	/// Zero for all.
	min_p: f64,
	/// None where they change nothing.
	penalties: Option<Penalties>,
	/// The only tokens that take part at the next position, where not all do.
	mask: Option<Arc<Mask>>,
	nucleus: Nucleus,
	/// Room for logits after penalties and mask, for the highest, and for those that take part in the nucleus.
	penalised: Vec<f32>,
	high: Vec<f32>,
	left: Vec<f32>,
	/// The words of a position.
	stream: ChaCha8Rng,
	/// All of them, where most are looked at.
	noise: Option<Vec<u8>>,
	/// Room for these.
	room: Vec<u8>,
}

/// The best token at a position, and how far the claimed one is from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
	/// What the model says.
	pub best: u32,
	/// Score of the best minus that of the claimed token, in logits; zero only if they are the same token, infinite for a token
	/// outside the vocabulary.
	pub margin: f64,
}

/// Whether all of these are numbers, and none is infinite.
pub(crate) fn are_finite(logits: &[f32]) -> bool {
	const EXPONENT: u32 = 0x7f80_0000;
	// Looks at all of them: that is faster than to stop at one.
	let wild = |l: &f32| u32::from(l.to_bits() & EXPONENT == EXPONENT);
	logits.iter().map(wild).fold(0, |any, wild| any | wild) == 0
}

/// `-ln(-ln u)` for the word's `u`.
fn gumbel(word: u32) -> f64 {
	let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
	-libm::log(-libm::log(u))
}

/// No less than [`gumbel`] of the word, and cheap: from `-ln u ≥ 1 − u` follows `-ln(-ln u) ≤ -ln(1 − u)`, and `1 − u` is at
/// least half the largest power of two within the distance to 2³².
fn gumbel_bound(word: u32) -> f64 {
	let distance = (1u64 << 32) - u64::from(word);
	core::f64::consts::LN_2 * f64::from(33 - distance.ilog2()) + 1e-9
}

impl Sampler {
	/// A sampler for a request with this seed, whose prompt has these tokens.
	pub fn new(sampling: &Sampling, seed: &H256, prompt: &[u32]) -> Self {
		let processing = sampling.processing.as_ref();
		let penalties = processing.map(|p| Penalties::new(p, prompt));
		Self {
			seed: seed.0,
			temperature: thousandths(sampling.temperature),
			top_p: thousandths(sampling.top_p),
			top_k: processing.map_or(0, |p| p.top_k.into()),
			min_p: processing.map_or(0.0, |p| thousandths(p.min_p)),
			penalties: penalties.filter(|p| !p.are_none()),
			mask: None,
			nucleus: Nucleus::default(),
			penalised: Vec::new(),
			high: Vec::new(),
			left: Vec::new(),
			stream: ChaCha8Rng::from_seed(seed.0),
			noise: None,
			room: Vec::new(),
		}
	}

	/// Only these tokens take part at the positions that are looked at next; one at least. All do with `None`, and at the beginning.
	pub fn only(&mut self, mask: Option<Arc<Mask>>) {
		self.mask = mask;
	}

	/// The best token at an answer position.
	pub fn choose(&mut self, position: u32, logits: &[f32]) -> u32 {
		self.penalised(logits, |sampler, logits| {
			let floor = sampler.floor(logits, 0.0);
			sampler.best(position, logits, floor).0
		})
	}

	/// The answer goes on with this token: what is drawn after it may depend on it.
	pub fn said(&mut self, token: u32) {
		if let Some(penalties) = &mut self.penalties {
			penalties.said(token);
		}
	}

	/// The best token at an answer position, and the claimed one's distance from it.
	///
	/// A token just inside of the entries that take part may be just outside on another honest machine, and it may have so much
	/// noise that it is the best, or would be. What the edge must move by for that is the distance then, if it is less; it is only
	/// told from more in steps, which are `slacks`, rising, in logits.
	///
	/// A token outside a constraint's mask is infinitely far away: masks do not round, so that nothing excuses it.
	pub fn margin(
		&mut self,
		position: u32,
		logits: &[f32],
		claimed: u32,
		slacks: &[f64],
	) -> Margin {
		if !are_finite(logits) {
			// The graph gave no numbers: no token is right then.
			return Margin {
				best: claimed,
				margin: f64::INFINITY,
			};
		}
		self.penalised(logits, |sampler, logits| {
			let floor = sampler.floor(logits, 0.0);
			let (best, mut margin) = sampler.distance(position, logits, claimed, floor, floor);
			let cut = floor > sampler.lowest() && margin.is_finite();
			for slack in slacks.iter().filter(|s| cut && **s > 0.0) {
				if margin > *slack {
					let inner = sampler.floor(logits, *slack);
					let outer = sampler.floor(logits, -slack);
					let (_, moved) = sampler.distance(position, logits, claimed, inner, outer);
					margin = margin.min(moved.max(*slack));
				}
			}
			Margin { best, margin }
		})
	}

	/// The best among the entries from `inner` on, and how far a claimed one is from it that is to be among those from `outer` on.
	fn distance(
		&mut self,
		position: u32,
		logits: &[f32],
		claimed: u32,
		inner: f32,
		outer: f32,
	) -> (u32, f64) {
		let (best, score) = self.best(position, logits, inner);
		let margin = match logits.get(claimed as usize) {
			_ if claimed == best => 0.0,
			None => f64::INFINITY,
			Some(logit) => {
				let scale = if self.temperature > 0.0 {
					self.temperature
				} else {
					1.0
				};
				// A penalty may magnify a difference between raw logits by this factor: distances are in raw logits.
				let (most, of_best, of_claimed) = match &self.penalties {
					Some(p) => (p.most_reach(), p.reach(best), p.reach(claimed)),
					None => (1.0, 1.0, 1.0),
				};
				let behind = (score - self.score(claimed, f64::from(*logit))) * scale;
				// A token outside is at least as far away as the edge.
				let outside = if *logit < outer {
					f64::from(outer) - f64::from(*logit)
				} else {
					0.0
				};
				(behind * 2.0 / (of_best + of_claimed))
					.max(outside * 2.0 / (most + of_claimed))
					// Of equal scores sampling takes the lowest entry, and no other: a token that only ties is wrong too.
					.max(1.0 / STEPS)
			}
		};
		(best, margin)
	}

	/// Does something with the logits after mask, biases and penalties.
	fn penalised<R>(&mut self, logits: &[f32], with: impl FnOnce(&mut Self, &[f32]) -> R) -> R {
		if self.penalties.is_none() && self.mask.is_none() {
			return with(self, logits);
		}
		let mut changed = std::mem::take(&mut self.penalised);
		changed.clear();
		changed.extend_from_slice(logits);
		if let Some(penalties) = &self.penalties {
			penalties.apply(&mut changed);
		}
		// Penalties keep logits finite, so that nothing brings back what the mask has taken.
		if let Some(mask) = &self.mask {
			mask.apply(&mut changed);
		}
		let result = with(self, &changed);
		self.penalised = changed;
		result
	}

	/// Score of an entry at the position that was looked at last.
	fn score(&mut self, entry: u32, logit: f64) -> f64 {
		if self.temperature == 0.0 {
			return logit;
		}
		logit / self.temperature + gumbel(self.word(entry as usize))
	}

	fn word(&mut self, entry: usize) -> u32 {
		let Some(noise) = &self.noise else {
			self.stream.set_word_pos(entry as u128);
			return self.stream.next_u32();
		};
		let mut word = [0u8; 4];
		word.copy_from_slice(&noise[entry * 4..entry * 4 + 4]);
		u32::from_le_bytes(word)
	}

	/// The best entry among those with logits of at least `floor`, and its score.
	fn best(&mut self, position: u32, logits: &[f32], floor: f32) -> (u32, f64) {
		if self.temperature == 0.0 {
			let top = nucleus::highest(logits);
			let first = logits.iter().position(|l| *l == top).unwrap_or(0);
			return (first as u32, top.into());
		}
		self.begin(position, logits, floor);
		let mut best = (0u32, f64::NEG_INFINITY);
		for (i, logit) in logits.iter().enumerate() {
			if *logit < floor {
				continue;
			}
			let logit = f64::from(*logit);
			// The bound spares the logarithms of nearly all entries. It is never below the score, so it changes nothing.
			if logit / self.temperature + gumbel_bound(self.word(i)) < best.1 {
				continue;
			}
			let score = self.score(i as u32, logit);
			if score > best.1 {
				best = (i as u32, score);
			}
		}
		best
	}

	/// Makes the noise of a position: all of it, or what single entries need when they are looked at.
	fn begin(&mut self, position: u32, logits: &[f32], floor: f32) {
		self.stream = ChaCha8Rng::from_seed(self.seed);
		self.stream.set_stream(position.into());
		let room = self.noise.take();
		let mut room = room.unwrap_or_else(|| std::mem::take(&mut self.room));
		let inside = logits.iter().map(|l| u32::from(*l >= floor)).sum::<u32>() as usize;
		if inside * FEW < logits.len() {
			self.room = room;
		} else {
			room.resize(logits.len() * 4, 0);
			self.stream.fill_bytes(&mut room);
			self.noise = Some(room);
		}
	}

	/// Below the logit of every entry that takes part where nothing cuts the vocabulary off: what a mask has taken has minus infinity.
	fn lowest(&self) -> f32 {
		match self.mask {
			Some(_) => f32::MIN,
			None => f32::NEG_INFINITY,
		}
	}

	/// The lowest logit of the entries that take part; [`Self::lowest`] where all do. With `slack` it is where none is that could be
	/// without part (or, where it is negative, all are that could have part) if every raw logit changed by so much.
	fn floor(&mut self, logits: &[f32], slack: f64) -> f32 {
		let lowest = self.lowest();
		let mut floor = lowest;
		let all = self.top_k == 0 && self.min_p == 0.0 && self.top_p >= 1.0;
		if all || self.temperature == 0.0 {
			return floor;
		}
		// Edge and entry move towards each other.
		let slack = 2.0 * slack * self.penalties.as_ref().map_or(1.0, Penalties::most_reach);
		let moved = |edge: f64| truncation::at_least(edge + slack);
		let top = nucleus::highest(logits);
		if (1..logits.len()).contains(&self.top_k) {
			let edge = truncation::kth(logits, self.top_k, &mut self.high);
			// A mask may leave fewer.
			if edge > f32::NEG_INFINITY {
				floor = floor.max(moved(edge.into()));
			}
		}
		if self.min_p > 0.0 {
			let edge = truncation::min_p(top.into(), self.temperature, self.min_p);
			floor = floor.max(moved(edge));
		}
		// The highest always takes part.
		floor = floor.min(top);
		let top_p = shifted(self.top_p, -slack / self.temperature);
		if top_p < 1.0 {
			let edge = if floor > f32::NEG_INFINITY {
				self.left.clear();
				self.left.extend(logits.iter().filter(|l| **l >= floor));
				self.nucleus.floor(&self.left, self.temperature, top_p)
			} else {
				self.nucleus.floor(logits, self.temperature, top_p)
			};
			floor = floor.max(moved(edge.into())).min(top);
		}
		floor
	}
}

/// A share of probability whose odds change by `e` to the power of this.
fn shifted(share: f64, exponent: f64) -> f64 {
	if exponent == 0.0 || share >= 1.0 {
		return share;
	}
	let odds = share / (1.0 - share) * libm::exp(exponent.clamp(-600.0, 600.0));
	odds / (1.0 + odds)
}

#[cfg(test)]
mod tests {
	use super::*;
	use consilience_primitives::sampling::LogitsProcessing;
	use proptest::prelude::*;
	use rand_chacha::rand_core::RngCore;

	fn sampler(temperature: u16, top_p: u16, seed: u8) -> Sampler {
		let sampling = Sampling {
			temperature,
			top_p,
			..Default::default()
		};
		Sampler::new(&sampling, &H256::repeat_byte(seed), &[])
	}

	#[test]
	fn draws_from_the_softmax() {
		let logits = [0.0f32, 1.0, 2.0, -1.0];
		let weights: Vec<f64> = logits.iter().map(|l| f64::from(*l).exp()).collect();
		let total: f64 = weights.iter().sum();
		let mut hits = [0u32; 4];
		let mut s = sampler(1_000, 1_000, 7);
		let n = 20_000;
		for i in 0..n {
			hits[s.choose(i, &logits) as usize] += 1;
		}
		for (h, w) in hits.iter().zip(&weights) {
			let expected = w / total * f64::from(n);
			assert!(
				(f64::from(*h) - expected).abs() < 5.0 * expected.sqrt(),
				"{hits:?}"
			);
		}
	}

	#[test]
	fn nucleus_leaves_the_tail_out() {
		let mut s = sampler(1_000, 500, 7);
		for i in 0..1_000 {
			assert_eq!(s.choose(i, &[5.0, 1.0, 0.0, 0.0]), 0);
		}
		let m = s.margin(0, &[5.0, 1.0, 0.0, 0.0], 1, &[]);
		assert!(m.margin >= 4.0, "{m:?}");
	}

	#[test]
	fn greedy_takes_the_lowest_of_equals() {
		let mut s = sampler(0, 1_000, 1);
		assert_eq!(s.choose(0, &[1.0, 3.0, 3.0]), 1);
		assert_eq!(s.margin(0, &[1.0, 3.0, 3.0], 0, &[]).margin, 2.0);
		assert_eq!(s.margin(0, &[1.0, 3.0], 9, &[]).margin, f64::INFINITY);
	}

	#[test]
	fn a_tie_is_no_excuse_for_another_token() {
		let step = 1.0 / STEPS;
		let mut greedy = sampler(0, 1_000, 1);
		assert_eq!(greedy.choose(0, &[3.0, 1.0, 3.0]), 0);
		assert_eq!(greedy.margin(0, &[3.0, 1.0, 3.0], 0, &[]).margin, 0.0);
		assert_eq!(greedy.margin(0, &[3.0, 1.0, 3.0], 2, &[]).margin, step);
		// So much logit that noise is lost in rounding: the scores tie at any temperature.
		let mut warm = sampler(1_000, 1_000, 1);
		let logits = [1e30, 0.0, 1e30];
		assert_eq!(warm.choose(0, &logits), 0);
		assert_eq!(warm.margin(0, &logits, 2, &[]).margin, step);
		let mut nucleus = sampler(1_000, 900, 1);
		assert_eq!(nucleus.margin(0, &logits, 0, &[]).margin, 0.0);
		assert_eq!(nucleus.margin(0, &logits, 2, &[]).margin, step);
	}

	/// Pinned so that nobody changes the draw without noticing: every answer on chain hangs on it.
	#[test]
	fn the_draw_is_pinned() {
		let logits: Vec<f32> = (0..1_000).map(|i| ((i * 37) % 101) as f32 / 25.0).collect();
		let mut s = sampler(800, 950, 42);
		let tokens: Vec<u32> = (0..8).map(|i| s.choose(i, &logits)).collect();
		assert_eq!(tokens, PINNED);
	}

	const PINNED: [u32; 8] = [600, 327, 180, 169, 663, 802, 161, 262];

	fn processed(sampling: Sampling, processing: LogitsProcessing, prompt: &[u32]) -> Sampler {
		let sampling = Sampling {
			processing: Some(processing),
			..sampling
		};
		assert_eq!(sampling.check(), Ok(()));
		Sampler::new(&sampling, &H256::repeat_byte(7), prompt)
	}

	fn warm() -> Sampling {
		Sampling {
			temperature: 1_000,
			..Default::default()
		}
	}

	/// Which of so many tokens are ever drawn.
	fn drawn(mut s: Sampler, logits: &[f32]) -> Vec<u32> {
		let drawn: std::collections::BTreeSet<_> =
			(0..2_000).map(|i| s.choose(i, logits)).collect();
		drawn.into_iter().collect()
	}

	#[test]
	fn top_k_keeps_the_highest_and_their_ties() {
		let top_k = |top_k| {
			let processing = LogitsProcessing {
				top_k,
				..Default::default()
			};
			processed(warm(), processing, &[])
		};
		let logits = [0.0, 1.0, 0.5, 0.25];
		assert_eq!(drawn(top_k(1), &logits), [1]);
		assert_eq!(drawn(top_k(2), &logits), [1, 2]);
		assert_eq!(drawn(top_k(0), &logits), [0, 1, 2, 3]);
		assert_eq!(drawn(top_k(9), &logits), [0, 1, 2, 3]);
		assert_eq!(drawn(top_k(2), &[0.0, 1.0, 0.0, -1.0]), [0, 1, 2]);
		let m = top_k(2).margin(0, &logits, 3, &[]);
		assert!(m.margin >= 0.25, "{m:?}");
	}

	#[test]
	fn min_p_keeps_what_is_likely_enough() {
		let min_p = |min_p| {
			let processing = LogitsProcessing {
				min_p,
				..Default::default()
			};
			processed(warm(), processing, &[])
		};
		// One, a half and a quarter of the likeliest's probability.
		let logits = [2.0, 2.0 - 0.693, 2.0 - 1.386];
		assert_eq!(drawn(min_p(1_000), &logits), [0]);
		assert_eq!(drawn(min_p(499), &logits), [0, 1]);
		assert_eq!(drawn(min_p(501), &logits), [0]);
		assert_eq!(drawn(min_p(249), &logits), [0, 1, 2]);
	}

	#[test]
	fn the_nucleus_is_of_what_the_others_leave() {
		// Probabilities 0.5, 0.25, 0.125, 0.125: among the first two, the first has two thirds.
		let logits = [0.5f64, 0.25, 0.125, 0.125].map(|p| p.ln() as f32);
		let with = |top_p, top_k, min_p| {
			let sampling = Sampling { top_p, ..warm() };
			let processing = LogitsProcessing {
				top_k,
				min_p,
				..Default::default()
			};
			drawn(processed(sampling, processing, &[]), &logits)
		};
		assert_eq!(with(600, 0, 0), [0, 1]);
		assert_eq!(with(600, 2, 0), [0]);
		assert_eq!(with(600, 0, 400), [0]);
		assert_eq!(with(700, 2, 0), [0, 1]);
	}

	#[test]
	fn penalties_count_where_no_noise_does() {
		let processing = LogitsProcessing {
			repetition_penalty: 1_500,
			frequency_penalty: 400,
			logit_bias: vec![(3, 500)].try_into().unwrap(),
			..Default::default()
		};
		let greedy = Sampling::default();
		let logits = [3.0, 2.5, 1.5, 1.0];
		let mut s = processed(greedy, processing, &[0]);
		// 2, 2.5, 1.5, 1.5; then 1 is at 2.5 / 1.5 - 0.4.
		assert_eq!(s.choose(0, &logits), 1);
		s.said(1);
		assert_eq!(s.choose(1, &logits), 0);
		// Both magnified at most one and a half times.
		let m = s.margin(1, &logits, 1, &[]);
		let expected = (2.0 - f64::from((2.5f64 / 1.5 - 0.4) as f32)) / 1.5;
		assert!((m.margin - expected).abs() < 1e-12, "{m:?}");
		assert_eq!(s.margin(1, &logits, 0, &[]).margin, 0.0);
	}

	/// Pinned like the plain draw.
	#[test]
	fn the_draw_with_everything_is_pinned() {
		let logits: Vec<f32> = (0..1_000).map(|i| ((i * 37) % 101) as f32 / 25.0).collect();
		let sampling = Sampling {
			temperature: 800,
			top_p: 950,
			..Default::default()
		};
		let processing = LogitsProcessing {
			top_k: 200,
			min_p: 50,
			repetition_penalty: 1_100,
			presence_penalty: 200,
			frequency_penalty: 300,
			logit_bias: vec![(11, -2_000), (30, 2_500)].try_into().unwrap(),
		};
		let mut s = processed(sampling, processing, &[30, 71, 71]);
		let tokens: Vec<u32> = (0..8)
			.map(|i| {
				let token = s.choose(i, &logits);
				s.said(token);
				token
			})
			.collect();
		assert_eq!(tokens, PINNED_WITH_EVERYTHING);
	}

	/// What two honest machines may differ by, so that an edge falls on either side of a token.
	#[test]
	fn what_an_edge_decides_by_rounding_is_near() {
		let near = 1e-4f32;
		let slack = 0.01;
		let top_k = LogitsProcessing {
			top_k: 2,
			..Default::default()
		};
		let min_p = LogitsProcessing {
			min_p: 500,
			..Default::default()
		};
		let nothing = LogitsProcessing::default();
		let half = libm::log(0.5) as f32;
		let nucleus = Sampling {
			top_p: 667,
			..warm()
		};
		for (sampling, processing, here, there) in [
			(
				warm(),
				top_k,
				[3.0, 2.5, 2.5 - near, 0.0],
				[3.0, 2.5 - near, 2.5, 0.0],
			),
			(
				warm(),
				min_p,
				[3.0, 3.0 + half + near, 0.0, 0.0],
				[3.0, 3.0 + half - near, 0.0, 0.0],
			),
			// Two thirds for the first, nearly: with it alone there are 0.6671 or 0.6669.
			(
				nucleus,
				nothing,
				[0.0, (0.332_9f64 / 0.667_1).ln() as f32, -40.0, -40.0],
				[0.0, (0.333_1f64 / 0.666_9).ln() as f32, -40.0, -40.0],
			),
		] {
			let mut s = processed(sampling, processing, &[]);
			let (mut flips, mut far) = (0, 0);
			for i in 0..1_000 {
				for (executor, verifier) in [(&here, &there), (&there, &here)] {
					let claimed = s.choose(i, executor);
					let strict = s.margin(i, verifier, claimed, &[]).margin;
					far += u32::from(strict > slack);
					let margin = s.margin(i, verifier, claimed, &[slack]).margin;
					assert!(margin <= slack, "{i} {margin}");
					flips += u32::from(margin > 0.0);
					// Where nothing may differ, nothing is excused.
					assert_eq!(s.margin(i, verifier, claimed, &[0.0]).margin, strict);
				}
			}
			assert!(flips > 100 && far > 50, "{flips} {far}");
			// What is not at the edge is not excused by it.
			let lie = s.margin(0, &here, 3, &[slack]).margin;
			assert!(lie > 0.5, "{lie}");
		}
	}

	const PINNED_WITH_EVERYTHING: [u32; 8] = [30, 838, 974, 816, 333, 655, 439, 79];

	#[test]
	fn single_words_are_those_of_the_whole_stream() {
		let mut s = sampler(1_000, 1_000, 9);
		s.begin(3, &[0.0; 1_000], f32::NEG_INFINITY);
		let all: Vec<_> = (0..1_000).map(|i| s.word(i)).collect();
		assert!(s.noise.is_some());
		let mut peak = [0.0; 1_000];
		peak[500] = 9.0;
		s.begin(3, &peak, 9.0);
		assert!(s.noise.is_none());
		let single: Vec<_> = (0..1_000).map(|i| s.word(i)).collect();
		assert_eq!(single, all);
	}

	#[test]
	fn what_is_no_number_is_no_token() {
		let mut greedy = sampler(0, 1_000, 1);
		for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
			let logits = [1.0, 3.0, wild];
			assert!(!are_finite(&logits));
			for claimed in 0..3 {
				assert_eq!(
					greedy.margin(0, &logits, claimed, &[]).margin,
					f64::INFINITY
				);
			}
		}
		assert!(are_finite(&[f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE]));
	}

	/// The draw as its description reads, with everything in the open.
	fn plainly(
		s: &Sampling,
		seed: u8,
		position: u32,
		prompt: &[u32],
		said: &[u32],
		raw: &[f32],
	) -> u32 {
		let p = s.processing.clone().unwrap_or_default();
		let share = |x: f64| x / 1_000.0;
		let logits: Vec<f32> = (0u32..)
			.zip(raw)
			.map(|(token, raw)| {
				let mut l = f64::from(*raw);
				let bias = p.logit_bias.iter().find(|(t, _)| *t == token);
				l += bias.map_or(0.0, |(_, b)| share((*b).into()));
				let times = said.iter().filter(|t| **t == token).count();
				if times > 0 || prompt.contains(&token) {
					let r = share(p.repetition_penalty.into());
					l = if l > 0.0 { l / r } else { l * r };
				}
				if times > 0 {
					l -= share(p.frequency_penalty.into()) * times as f64;
					l -= share(p.presence_penalty.into());
				}
				l as f32
			})
			.collect();
		let mut order: Vec<usize> = (0..logits.len()).collect();
		order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
		let top = logits[order[0]];
		if s.temperature == 0 {
			return logits.iter().position(|l| *l == top).unwrap() as u32;
		}
		let t = share(s.temperature.into());
		let mut left: Vec<usize> = order;
		if p.top_k > 0 && left.len() > p.top_k.into() {
			let last = logits[left[usize::from(p.top_k) - 1]];
			left.retain(|i| logits[*i] >= last);
		}
		if p.min_p > 0 {
			let least = f64::from(top) + t * libm::log(share(p.min_p.into()));
			left.retain(|i| f64::from(logits[*i]) >= least);
		}
		if s.top_p < 1_000 {
			let values: Vec<f32> = left.iter().map(|i| logits[*i]).collect();
			let least = nucleus::sorted(&values, t, share(s.top_p.into()));
			left.retain(|i| logits[*i] >= least);
		}
		let mut stream = ChaCha8Rng::from_seed([seed; 32]);
		stream.set_stream(position.into());
		let words: Vec<u32> = logits.iter().map(|_| stream.next_u32()).collect();
		let score = |i: &usize| f64::from(logits[*i]) / t + gumbel(words[*i]);
		left.sort();
		let best = left.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
		*left.iter().find(|i| score(i) == best).unwrap() as u32
	}

	prop_compose! {
		fn any_processing(vocabulary: u32)(
			top_k in prop_oneof![Just(0u16), 1u16..20, 1u16..500],
			min_p in prop_oneof![Just(0u16), 1u16..=1_000],
			repetition_penalty in prop_oneof![Just(1_000u16), 500u16..2_000],
			presence_penalty in prop_oneof![Just(0i16), -2_000i16..=2_000],
			frequency_penalty in prop_oneof![Just(0i16), -2_000i16..=2_000],
			biases in prop::collection::btree_map(0..vocabulary, -9_000i32..=9_000, 0..16),
		) -> LogitsProcessing {
			LogitsProcessing {
				top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty,
				logit_bias: biases.into_iter().collect::<Vec<_>>().try_into().unwrap(),
			}
		}
	}

	proptest! {
		#[test]
		fn the_bound_bounds(word: u32) {
			prop_assert!(gumbel_bound(word) >= gumbel(word));
		}

		#[test]
		fn the_draw_is_as_it_is_described(
			rows in prop::collection::vec(prop::collection::vec(-9f32..9.0, 300), 1..5),
			prompt in prop::collection::vec(0u32..300, 0..20),
			temperature in prop_oneof![Just(0u16), 1u16..=2_000],
			top_p in prop_oneof![Just(1_000u16), 1u16..=1_000],
			processing in any_processing(310),
			seed: u8,
		) {
			let sampling = Sampling {
				temperature,
				top_p,
				processing: processing.compact(),
				..Default::default()
			};
			let seeded = H256::repeat_byte(seed);
			let mut executor = Sampler::new(&sampling, &seeded, &prompt);
			let mut verifier = Sampler::new(&sampling, &seeded, &prompt);
			let mut said = Vec::new();
			for (i, row) in (0u32..).zip(&rows) {
				let token = executor.choose(i, row);
				prop_assert_eq!(token, plainly(&sampling, seed, i, &prompt, &said, row));
				prop_assert_eq!(verifier.margin(i, row, token, &[0.01]).margin, 0.0);
				let lie = (token + 1) % 300;
				prop_assert!(verifier.margin(i, row, lie, &[]).margin > 0.0);
				executor.said(token);
				verifier.said(token);
				said.push(token);
			}
		}

		#[test]
		fn skipping_changes_nothing(
			logits in prop::collection::vec(-20f32..20.0, 1..400),
			temperature in 1u16..2_000,
			position: u32,
		) {
			let mut s = sampler(temperature, 1_000, 3);
			let chosen = s.choose(position, &logits);
			let mut best = (0, f64::NEG_INFINITY);
			for (i, l) in logits.iter().enumerate() {
				let score = s.score(i as u32, f64::from(*l));
				if score > best.1 {
					best = (i as u32, score);
				}
			}
			prop_assert_eq!(chosen, best.0);
			prop_assert_eq!(s.margin(position, &logits, chosen, &[]).margin, 0.0);
		}
	}

	#[test]
	fn the_bound_bounds_the_ends() {
		for word in [0, 1, u32::MAX - 1, u32::MAX, 1 << 31] {
			assert!(gumbel_bound(word) >= gumbel(word), "{word}");
		}
	}
}
