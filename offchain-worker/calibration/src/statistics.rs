//! Rates, and what a sample says about them.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// Share of the probability that a 95 % interval leaves out on each side.
const TAIL: f64 = 0.025;

/// How many of so many, with the 95 % interval of Clopper and Pearson (1934), which holds for any sample size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
	/// How many.
	pub hits: u64,
	/// Of how many.
	pub of: u64,
	/// The rate; 0 of none.
	pub rate: f64,
	/// Lower end of the interval.
	pub low: f64,
	/// Upper end of the interval.
	pub high: f64,
}

impl Rate {
	/// The rate of `hits` in `of` independent trials.
	pub fn new(hits: u64, of: u64) -> Self {
		assert!(hits <= of, "{hits} of {of}");
		let (low, high) = clopper_pearson(hits, of);
		let rate = if of == 0 {
			0.0
		} else {
			hits as f64 / of as f64
		};
		Self {
			hits,
			of,
			rate,
			low,
			high,
		}
	}

	/// The chance that at least one of `n` independent trials hits, from the rate of one.
	pub fn in_any_of(&self, n: i32) -> Chance {
		let any = |p: f64| 1.0 - (1.0 - p).powi(n);
		Chance {
			chance: any(self.rate),
			low: any(self.low),
			high: any(self.high),
		}
	}
}

impl std::fmt::Display for Rate {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		if self.of == 0 {
			return f.write_str("–");
		}
		write!(
			f,
			"{}/{} ({}–{} %)",
			self.hits,
			self.of,
			percent(self.low),
			percent(self.high)
		)
	}
}

/// A probability that was computed from a rate, and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance {
	/// The probability.
	pub chance: f64,
	/// Lower end of the interval.
	pub low: f64,
	/// Upper end of the interval.
	pub high: f64,
}

impl std::fmt::Display for Chance {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		write!(
			f,
			"{} % ({}–{})",
			percent(self.chance),
			percent(self.low),
			percent(self.high)
		)
	}
}

fn percent(p: f64) -> String {
	let p = p * 100.0;
	if p == 0.0 || p == 100.0 {
		format!("{p}")
	} else if p < 1.0 {
		format!("{p:.2}")
	} else {
		// Never rounded up to certainty.
		format!("{:.1}", p.min(99.9))
	}
}

/// The 95 % interval of a binomial rate; everything where nothing was tried.
fn clopper_pearson(hits: u64, of: u64) -> (f64, f64) {
	let (k, n) = (hits as f64, of as f64);
	let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map(|beta| beta.inverse_cdf(p));
	let low = match hits {
		0 => 0.0,
		_ if hits == of => TAIL.powf(1.0 / n),
		_ => quantile(k, n - k + 1.0, TAIL).unwrap_or(0.0),
	};
	let high = match hits {
		_ if hits == of => 1.0,
		0 => 1.0 - TAIL.powf(1.0 / n),
		_ => quantile(k + 1.0, n - k, 1.0 - TAIL).unwrap_or(1.0),
	};
	(low, high)
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	/// Probability of at least `k` hits in `n` trials. Terms are kept as logarithms: the first ones are smaller than a float.
	fn tail(k: u64, n: u64, p: f64) -> f64 {
		let mut term = n as f64 * (1.0 - p).ln();
		let mut below = 0.0;
		for i in 0..k {
			below += term.exp();
			term += ((n - i) as f64 / (i + 1) as f64 * p / (1.0 - p)).ln();
		}
		1.0 - below
	}

	#[test]
	fn known_intervals() {
		// R: binom.test(k, n)$conf.int
		for (k, n, low, high) in [
			(0, 24, 0.0, 0.142_474_3),
			(5, 10, 0.187_086_0, 0.812_914_0),
			(1, 100, 0.000_253_146_0, 0.054_459_4),
			(99, 100, 0.945_540_6, 0.999_746_9),
			(10, 10, 0.691_502_9, 1.0),
			(0, 3_688, 0.0, 0.000_999_742),
		] {
			let rate = Rate::new(k, n);
			assert!((rate.low - low).abs() < 2e-6, "{k}/{n}: {}", rate.low);
			assert!((rate.high - high).abs() < 2e-6, "{k}/{n}: {}", rate.high);
		}
		assert_eq!((Rate::new(0, 0).low, Rate::new(0, 0).high), (0.0, 1.0));
	}

	#[test]
	fn ten_answers() {
		let ten = Rate::new(20, 100).in_any_of(10);
		assert!((ten.chance - 0.892_625_8).abs() < 1e-6, "{ten:?}");
		assert!(ten.low < ten.chance && ten.chance < ten.high);
		assert_eq!(Rate::new(0, 0).in_any_of(10).high, 1.0);
	}

	proptest! {
		/// The ends are where the sample would be in the tail: the definition, computed in another way.
		#[test]
		fn the_ends_are_those_of_the_binomial(n in 2u64..300, part in 0.0f64..1.0) {
			let k = ((n - 1) as f64 * part) as u64 + 1;
			prop_assume!(k < n);
			let rate = Rate::new(k, n);
			prop_assert!((tail(k, n, rate.low) - TAIL).abs() < 1e-6, "{rate:?}");
			prop_assert!((1.0 - tail(k + 1, n, rate.high) - TAIL).abs() < 1e-6, "{rate:?}");
			prop_assert!(rate.low < rate.rate && rate.rate < rate.high);
		}
	}
}
