//! How a token is chosen: seeded Gumbel-max, the same on every platform.
//!
//! The token at answer position *i* is the entry with the largest score, the lowest of equals. With temperature zero the score is
//! the logit. Otherwise it is `logit / T + g`, where `g = -ln(-ln u)` and `u = (w + ½) / 2³²`, with `w` the entry's word of the
//! ChaCha8 stream with the request's seed as key and *i* as stream number. Taking the largest of such scores is drawing from the
//! softmax at temperature T (Gumbel 1954; Maddison et al. 2014, "A* Sampling"), and lets anybody who knows the seed repeat the
//! draw. All arithmetic is IEEE 754 double precision and `libm`'s software functions, in a fixed order.
//!
//! With `top_p` below one only the nucleus takes part: the fewest entries, by falling logit, whose probabilities add up to it.

use super::nucleus::{self, Nucleus};
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
	nucleus: Nucleus,
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
	/// A sampler for a request with this seed.
	pub fn new(sampling: &Sampling, seed: &H256) -> Self {
		Self {
			seed: seed.0,
			temperature: f64::from(sampling.temperature) / 1_000.0,
			top_p: f64::from(sampling.top_p) / 1_000.0,
			nucleus: Nucleus::default(),
			stream: ChaCha8Rng::from_seed(seed.0),
			noise: None,
			room: Vec::new(),
		}
	}

	/// The best token at an answer position.
	pub fn choose(&mut self, position: u32, logits: &[f32]) -> u32 {
		let floor = self.floor(logits);
		self.best(position, logits, floor).0
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

	/// The lowest logit in the nucleus; minus infinity where everything is in it.
	fn floor(&mut self, logits: &[f32]) -> f32 {
		if self.top_p >= 1.0 || self.temperature == 0.0 {
			return f32::NEG_INFINITY;
		}
		self.nucleus.floor(logits, self.temperature, self.top_p)
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
				assert_eq!(greedy.margin(0, &logits, claimed).margin, f64::INFINITY);
			}
		}
		assert!(are_finite(&[f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE]));
	}

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
