//! The edge of the nucleus, found without sorting the vocabulary.
//!
//! What the edge is, [`sorted`] says: every check of an answer hangs on its bits. [`Nucleus::floor`] gives the same number. It sums
//! approximate weights, whose error is bounded, and finds the group of equal logits in which their sum passes the wanted share. If
//! it passes by more than all errors together, the sorted sums pass in the same group; if not, and that is rare, they are computed.

/// What approximate sums and sorted ones may differ by, each relative to itself. The approximate exponential is off by less than
/// 2·10⁻¹¹ and its argument by 2·10⁻¹³; adding up *n* numbers in any order by less than *n*·2⁻⁵³, for the four million entries that
/// no vocabulary has 5·10⁻¹⁰.
const ERROR: f64 = 4e-9;
/// Entries from which on they are counted in buckets before they are sorted.
const MANY: usize = 512;
const BUCKETS: usize = 1_024;

/// The lowest logit in the nucleus: of the fewest entries, by falling logit, whose probabilities add up to `top_p`.
pub(super) fn sorted(logits: &[f32], temperature: f64, top_p: f64) -> f32 {
	let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
	let weight = |l: f32| libm::exp((f64::from(l) - f64::from(top)) / temperature);
	let mut sorted: Vec<f32> = logits.to_vec();
	sorted.sort_unstable_by(|a, b| b.total_cmp(a));
	let total: f64 = sorted.iter().map(|l| weight(*l)).sum();
	let mut sum = 0.0;
	for logit in &sorted {
		sum += weight(*logit);
		if sum >= top_p * total {
			return *logit;
		}
	}
	f32::NEG_INFINITY
}

/// `e` to the power of `x`, which is not positive. Plain arithmetic without branches, so that many are computed at once.
#[inline(always)]
fn exp(x: f64) -> f64 {
	// Added to a number, it leaves the nearest integer in the lowest bits.
	const ROUND: f64 = 6_755_399_441_055_744.0;
	const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
	const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
	// What is lower weighs less than 10⁻²⁹⁹ of the top one.
	// (Not `max`, for which what is no number is nothing.)
	let x = if x < -690.0 { -690.0 } else { x };
	let t = x * core::f64::consts::LOG2_E + ROUND;
	let k = t - ROUND;
	let r = (x - k * LN2_HIGH) - k * LN2_LOW;
	// Taylor's series, |r| ≤ ½ ln 2: the first term that is left out is below 7·10⁻¹³.
	let mut sum = 1.0 / 362_880.0;
	for factorial in [40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
		sum = sum * r + 1.0 / factorial;
	}
	let power = f64::from_bits((t.to_bits() << 52).wrapping_add(1f64.to_bits()));
	sum * power
}

/// Room for the numbers of one position.
#[derive(Default)]
pub(super) struct Nucleus {
	weights: Vec<f64>,
	near: Vec<(f32, f64)>,
	/// How often sums had to be sorted.
	#[cfg(test)]
	fallbacks: u32,
}

impl Nucleus {
	/// As [`sorted`], for `top_p` below one.
	pub(super) fn floor(&mut self, logits: &[f32], temperature: f64, top_p: f64) -> f32 {
		if let Some(floor) = self.found(logits, temperature, top_p) {
			return floor;
		}
		#[cfg(test)]
		{
			self.fallbacks += 1;
		}
		sorted(logits, temperature, top_p)
	}

	/// The edge, if approximate sums leave no doubt about it.
	fn found(&mut self, logits: &[f32], temperature: f64, top_p: f64) -> Option<f32> {
		let top = highest(logits);
		let (top, scale) = (f64::from(top), 1.0 / temperature);
		self.weights.clear();
		self.weights
			.extend(logits.iter().map(|l| exp((f64::from(*l) - top) * scale)));
		let total = sum(&self.weights);
		if !total.is_finite() {
			return None;
		}
		let target = top_p * total;
		// All that weigh less than this weigh together less than what the nucleus may leave out: the edge is not among them.
		let least = (1.0 - top_p) * total / logits.len() as f64 * 0.999;
		let near = &mut self.near;
		near.clear();
		let entries = logits.iter().zip(&self.weights);
		near.extend(entries.filter(|(_, w)| **w >= least).map(|(l, w)| (*l, *w)));
		let mut before = 0.0;
		if near.len() > MANY {
			let low = near.iter().map(|(l, _)| *l).fold(f32::INFINITY, f32::min);
			let width = (BUCKETS - 1) as f64 / (top - f64::from(low)).max(f64::MIN_POSITIVE);
			// Falls nowhere as logits fall, so that buckets are in their order.
			let bucket = |l: f32| (((top - f64::from(l)) * width) as usize).min(BUCKETS - 1);
			let mut sums = [0.0; BUCKETS];
			for (l, w) in near.iter() {
				sums[bucket(*l)] += w;
			}
			let crossed = sums.iter().position(|sum| {
				let crosses = before + sum >= target;
				before += if crosses { 0.0 } else { *sum };
				crosses
			})?;
			near.retain(|(l, _)| bucket(*l) == crossed);
		}
		near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
		for group in near.chunk_by(|a, b| a.0 == b.0) {
			let after = before + group.iter().map(|(_, w)| w).sum::<f64>();
			if after >= target {
				let doubtful = after * (1.0 - ERROR) < target * (1.0 + ERROR)
					|| before * (1.0 + ERROR) >= target * (1.0 - ERROR);
				return (!doubtful).then_some(group[0].0);
			}
			before = after;
		}
		None
	}
}

/// The highest of numbers, eight at a time.
pub(super) fn highest(logits: &[f32]) -> f32 {
	let mut lanes = [f32::NEG_INFINITY; 8];
	let chunks = logits.chunks_exact(8);
	let rest = chunks.remainder();
	for chunk in chunks {
		for (lane, l) in lanes.iter_mut().zip(chunk) {
			*lane = if *l > *lane { *l } else { *lane };
		}
	}
	lanes
		.iter()
		.chain(rest)
		.copied()
		.fold(f32::NEG_INFINITY, f32::max)
}

/// The sum of numbers, eight at a time.
fn sum(numbers: &[f64]) -> f64 {
	let mut lanes = [0.0; 8];
	let chunks = numbers.chunks_exact(8);
	let rest = chunks.remainder();
	for chunk in chunks {
		for (lane, x) in lanes.iter_mut().zip(chunk) {
			*lane += x;
		}
	}
	lanes.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn the_approximate_exponential_is_near() {
		for i in 0..690_000 {
			let x = -f64::from(i) / 1_000.0;
			assert!((exp(x) / libm::exp(x) - 1.0).abs() < 2e-11, "{x}");
		}
	}

	/// Logits as models have them: a bell, some far above it.
	fn bell(n: usize, spread: f32, peaks: usize, seed: u64) -> Vec<f32> {
		let mut state = seed;
		let mut next = || {
			state = state
				.wrapping_mul(6_364_136_223_846_793_005)
				.wrapping_add(1);
			(state >> 40) as f32 / (1u64 << 24) as f32
		};
		let mut logits: Vec<_> = (0..n)
			.map(|_| (next() + next() + next() + next() - 2.0) * spread)
			.collect();
		for i in 0..peaks {
			logits[(i * 7_919) % n] += 5.0 + next() * 10.0;
		}
		logits
	}

	#[test]
	fn large_vocabularies_are_not_sorted() {
		let mut nucleus = Nucleus::default();
		let mut positions = 0u64;
		for (spread, peaks) in [(0.1, 0), (1.0, 0), (3.0, 5), (2.0, 400)] {
			for (temperature, top_p) in [
				(1.0, 0.9),
				(0.7, 0.95),
				(0.3, 0.1),
				(2.0, 0.999),
				(1.0, 0.001),
			] {
				let logits = bell(152_000, spread, peaks, positions);
				let floor = nucleus.floor(&logits, temperature, top_p);
				assert_eq!(
					floor,
					sorted(&logits, temperature, top_p),
					"{spread} {peaks} {temperature} {top_p}"
				);
				positions += 1;
			}
		}
		assert!(
			nucleus.fallbacks <= 1,
			"{} of {positions}",
			nucleus.fallbacks
		);
	}

	#[test]
	fn what_is_in_doubt_is_sorted() {
		let mut nucleus = Nucleus::default();
		// Half of them is exactly half: rounding says which.
		let equal = [1.5; 1_000];
		assert_eq!(nucleus.floor(&equal, 1.0, 0.5), 1.5);
		let two: Vec<_> = (0..1_000)
			.map(|i| if i < 500 { 2.0 } else { 2.0 - f32::EPSILON })
			.collect();
		assert_eq!(
			nucleus.floor(&two, 1_000.0, 0.5),
			sorted(&two, 1_000.0, 0.5)
		);
		assert!(nucleus.fallbacks > 0);
		for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
			let logits = [1.0, wild, 0.5, 2.0];
			let (a, b) = (nucleus.floor(&logits, 1.0, 0.9), sorted(&logits, 1.0, 0.9));
			assert!(a == b || (a.is_nan() && b.is_nan()), "{wild}: {a} {b}");
		}
	}

	proptest! {
		#[test]
		fn the_edge_is_that_of_the_sorted_sums(
			logits in prop_oneof![
				prop::collection::vec(-20f32..20.0, 1..2_000),
				prop::collection::vec((-40i8..40).prop_map(|l| f32::from(l) / 8.0), 1..2_000),
				prop::collection::vec(prop_oneof![Just(0f32), Just(-0f32), Just(1e-7), Just(1e30), Just(-1e30)], 1..40),
			],
			temperature in 1u16..4_000,
			top_p in 1u16..1_000,
		) {
			let (temperature, top_p) = (f64::from(temperature) / 1_000.0, f64::from(top_p) / 1_000.0);
			let floor = Nucleus::default().floor(&logits, temperature, top_p);
			prop_assert_eq!(floor, sorted(&logits, temperature, top_p));
		}
	}
}
