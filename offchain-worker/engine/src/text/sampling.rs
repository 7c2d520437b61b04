//! How a token is chosen: seeded Gumbel-max, the same on every platform.
//!
//! The token at answer position *i* is the entry with the largest score, the lowest of equals. With temperature zero the score is
//! the logit. Otherwise it is `logit / T + g`, where `g = -ln(-ln u)` and `u = (w + ½) / 2³²`, with `w` the entry's word of the
//! ChaCha8 stream with the request's seed as key and *i* as stream number. Taking the largest of such scores is drawing from the
//! softmax at temperature T (Gumbel 1954; Maddison et al. 2014, "A* Sampling"), and lets anybody who knows the seed repeat the
//! draw. All arithmetic is IEEE 754 double precision and `libm`'s software functions, in a fixed order.
//!
//! With `top_p` below one only the nucleus takes part: the fewest entries, by falling logit, whose probabilities add up to it.

use consilience_primitives::request::Sampling;
use polkadot_sdk::sp_core::H256;
use rand_chacha::{
	rand_core::{RngCore, SeedableRng},
	ChaCha8Rng,
};

/// Steps of a margin in one logit.
pub(crate) const STEPS: f64 = 65_536.0;

/// Chooses the tokens of one answer.
pub struct Sampler {
	seed: [u8; 32],
	/// Zero for greedy.
	temperature: f64,
	top_p: f64,
	noise: Vec<u8>,
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
	/// A sampler for a request with this seed.
	pub fn new(sampling: &Sampling, seed: &H256) -> Self {
		Self {
			seed: seed.0,
			temperature: f64::from(sampling.temperature) / 1_000.0,
			top_p: f64::from(sampling.top_p) / 1_000.0,
			noise: Vec::new(),
		}
	}

	/// The best token at an answer position.
	pub fn choose(&mut self, position: u32, logits: &[f32]) -> u32 {
		self.best(position, logits, self.floor(logits)).0
	}

	/// The best token at an answer position, and the claimed one's distance from it.
	pub fn margin(&mut self, position: u32, logits: &[f32], claimed: u32) -> Margin {
		if !are_finite(logits) {
			// The graph gave no numbers: no token is right then.
			return Margin {
				best: claimed,
				margin: f64::INFINITY,
			};
		}
		let floor = self.floor(logits);
		let (best, score) = self.best(position, logits, floor);
		let margin = match logits.get(claimed as usize) {
			_ if claimed == best => 0.0,
			None => f64::INFINITY,
			Some(logit) => {
				let scale = if self.temperature > 0.0 {
					self.temperature
				} else {
					1.0
				};
				let behind = (score - self.score(claimed, f64::from(*logit))) * scale;
				// A token outside the nucleus is at least as far away as the nucleus's edge.
				let outside = if *logit < floor {
					f64::from(floor) - f64::from(*logit)
				} else {
					0.0
				};
				// Of equal scores sampling takes the lowest entry, and no other: a token that only ties is wrong too.
				behind.max(outside).max(1.0 / STEPS)
			}
		};
		Margin { best, margin }
	}

	/// Score of an entry, whose noise was made before.
	fn score(&self, entry: u32, logit: f64) -> f64 {
		if self.temperature == 0.0 {
			return logit;
		}
		logit / self.temperature + gumbel(self.word(entry as usize))
	}

	fn word(&self, entry: usize) -> u32 {
		let mut word = [0u8; 4];
		word.copy_from_slice(&self.noise[entry * 4..entry * 4 + 4]);
		u32::from_le_bytes(word)
	}

	/// The best entry among those with logits of at least `floor`, and its score.
	fn best(&mut self, position: u32, logits: &[f32], floor: f32) -> (u32, f64) {
		let greedy = self.temperature == 0.0;
		if !greedy {
			let mut stream = ChaCha8Rng::from_seed(self.seed);
			stream.set_stream(position.into());
			self.noise.resize(logits.len() * 4, 0);
			stream.fill_bytes(&mut self.noise);
		}
		let mut best = (0u32, f64::NEG_INFINITY);
		for (i, logit) in logits.iter().enumerate() {
			if *logit < floor {
				continue;
			}
			let logit = f64::from(*logit);
			// The bound spares the logarithms of nearly all entries. It is never below the score, so it changes nothing.
			if !greedy && logit / self.temperature + gumbel_bound(self.word(i)) < best.1 {
				continue;
			}
			let score = self.score(i as u32, logit);
			if score > best.1 {
				best = (i as u32, score);
			}
		}
		best
	}

	/// The lowest logit in the nucleus; minus infinity where everything is in it.
	fn floor(&self, logits: &[f32]) -> f32 {
		if self.top_p >= 1.0 || self.temperature == 0.0 {
			return f32::NEG_INFINITY;
		}
		let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
		let weight = |l: f32| libm::exp((f64::from(l) - f64::from(top)) / self.temperature);
		let mut sorted: Vec<f32> = logits.to_vec();
		sorted.sort_unstable_by(|a, b| b.total_cmp(a));
		let total: f64 = sorted.iter().map(|l| weight(*l)).sum();
		let mut sum = 0.0;
		for logit in &sorted {
			sum += weight(*logit);
			if sum >= self.top_p * total {
				return *logit;
			}
		}
		f32::NEG_INFINITY
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	fn sampler(temperature: u16, top_p: u16, seed: u8) -> Sampler {
		let sampling = Sampling {
			temperature,
			top_p,
			..Default::default()
		};
		Sampler::new(&sampling, &H256::repeat_byte(seed))
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
		let m = s.margin(0, &[5.0, 1.0, 0.0, 0.0], 1);
		assert!(m.margin >= 4.0, "{m:?}");
	}

	#[test]
	fn greedy_takes_the_lowest_of_equals() {
		let mut s = sampler(0, 1_000, 1);
		assert_eq!(s.choose(0, &[1.0, 3.0, 3.0]), 1);
		assert_eq!(s.margin(0, &[1.0, 3.0, 3.0], 0).margin, 2.0);
		assert_eq!(s.margin(0, &[1.0, 3.0], 9).margin, f64::INFINITY);
	}

	#[test]
	fn a_tie_is_no_excuse_for_another_token() {
		let step = 1.0 / STEPS;
		let mut greedy = sampler(0, 1_000, 1);
		assert_eq!(greedy.choose(0, &[3.0, 1.0, 3.0]), 0);
		assert_eq!(greedy.margin(0, &[3.0, 1.0, 3.0], 0).margin, 0.0);
		assert_eq!(greedy.margin(0, &[3.0, 1.0, 3.0], 2).margin, step);
		// So much logit that noise is lost in rounding: the scores tie at any temperature.
		let mut warm = sampler(1_000, 1_000, 1);
		let logits = [1e30, 0.0, 1e30];
		assert_eq!(warm.choose(0, &logits), 0);
		assert_eq!(warm.margin(0, &logits, 2).margin, step);
		let mut nucleus = sampler(1_000, 900, 1);
		assert_eq!(nucleus.margin(0, &logits, 0).margin, 0.0);
		assert_eq!(nucleus.margin(0, &logits, 2).margin, step);
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

	proptest! {
		#[test]
		fn the_bound_bounds(word: u32) {
			prop_assert!(gumbel_bound(word) >= gumbel(word));
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
			prop_assert_eq!(s.margin(position, &logits, chosen).margin, 0.0);
		}
	}

	#[test]
	fn the_bound_bounds_the_ends() {
		for word in [0, 1, u32::MAX - 1, u32::MAX, 1 << 31] {
			assert!(gumbel_bound(word) >= gumbel(word), "{word}");
		}
	}
}
