//! Cosine and sine tables of the rotary position embedding, correctly rounded on every machine.
//!
//! Sines come from different libraries on different processors and may differ in the last place. Model files are
//! content-addressed, so whatever two libraries could disagree about is computed with integers.

use num_bigint::{BigInt, BigUint};

use crate::source::Rope;

/// Bits of the fixed-point fraction; far beyond what a double rounded to a float needs.
const BITS: u64 = 160;
/// Bits of the fixed-point fraction where logarithm and exponential are computed.
const WIDE: u64 = 256;

fn one(bits: u64) -> BigInt {
	BigInt::from(1) << bits
}

/// The number as a fixed-point fraction; what is beyond its bits is cut off.
fn fixed(value: f64, bits: u64) -> BigInt {
	let raw = value.abs().to_bits();
	let (exponent, fraction) = ((raw >> 52) as i64, raw & ((1 << 52) - 1));
	let (mantissa, exponent) = match exponent {
		0 => (fraction, -1074),
		e => (fraction | 1 << 52, e - 1075),
	};
	let shift = exponent + bits as i64;
	let magnitude = match u64::try_from(shift) {
		Ok(left) => BigInt::from(mantissa) << left,
		Err(_) => BigInt::from(mantissa) >> shift.unsigned_abs(),
	};
	if value < 0.0 {
		-magnitude
	} else {
		magnitude
	}
}

/// The nearest double of a fixed-point fraction, ties to even.
fn nearest(value: &BigInt, bits: u64) -> f64 {
	let magnitude: &BigUint = value.magnitude();
	let length = magnitude.bits();
	if length == 0 {
		return 0.0;
	}
	// 64 leading bits, and whether anything follows them: enough to round by hand in one step.
	let (top, rest) = if length > 64 {
		let cut = length - 64;
		let top = magnitude >> cut;
		(top.clone(), (top << cut) != *magnitude)
	} else {
		(magnitude.clone(), false)
	};
	let top = top.iter_u64_digits().next().unwrap_or_default() | u64::from(rest);
	let scale = length.saturating_sub(64) as i32 - bits as i32;
	let rounded = top as f64 * libm::ldexp(1.0, scale);
	if value.sign() == num_bigint::Sign::Minus {
		-rounded
	} else {
		rounded
	}
}

/// atanh(1/n), or atan(1/n) with alternating signs.
fn inverse_series(n: &BigInt, d: &BigInt, alternating: bool, bits: u64) -> BigInt {
	// x = n/d; the sum of x^k/k over odd k.
	let (square_n, square_d) = (n * n, d * d);
	let mut power = (n << bits) / d;
	let (mut total, mut k, mut negative) = (BigInt::from(0), 1u32, false);
	while power != BigInt::from(0) {
		let term = &power / k;
		if negative {
			total -= term;
		} else {
			total += term;
		}
		power = power * &square_n / &square_d;
		k += 2;
		negative = alternating && !negative;
	}
	total
}

/// Pi, by Machin's formula.
pub(crate) fn pi() -> BigInt {
	let guard = BITS + 32;
	let arctan = |n: u32| inverse_series(&BigInt::from(1), &BigInt::from(n), true, guard);
	(4 * (4 * arctan(5) - arctan(239))) >> 32
}

/// theta^(numerator/denominator), correctly rounded. `theta` is at least one.
fn power(theta: f64, numerator: usize, denominator: usize) -> f64 {
	let ln_of = |n: &BigInt, d: &BigInt| 2 * inverse_series(&(n - d), &(n + d), false, WIDE);
	let ln_two = ln_of(&BigInt::from(2), &BigInt::from(1));
	// theta = mantissa · 2^exponent with a mantissa in [1, 2).
	let (half, exponent) = libm::frexp(theta);
	let mantissa = fixed(2.0 * half, WIDE);
	let ln = ln_of(&mantissa, &one(WIDE)) + (exponent - 1) * &ln_two;
	let x = ln * numerator / denominator;
	let doublings = &x / &ln_two;
	let rest = x - &doublings * &ln_two;
	let (mut total, mut term, mut k) = (one(WIDE), one(WIDE), 1u32);
	while term != BigInt::from(0) {
		term = ((term * &rest) >> WIDE) / k;
		total += &term;
		k += 1;
	}
	let doublings = i32::try_from(doublings).unwrap_or(i32::MAX);
	libm::ldexp(nearest(&total, WIDE), doublings)
}

/// The Taylor series of sine (`k` = 1) or cosine (`k` = 0) from its first term.
fn series(x: &BigInt, first: BigInt, mut k: u32) -> BigInt {
	let square = (x * x) >> BITS;
	let (mut total, mut term) = (first.clone(), first);
	loop {
		term = -((term * &square) >> BITS) / ((k + 1) * (k + 2));
		if term == BigInt::from(0) {
			return total;
		}
		total += &term;
		k += 2;
	}
}

/// Cosine and sine of a double that is not negative.
pub(crate) fn exact(angle: f64, pi: &BigInt) -> [f64; 2] {
	let x = fixed(angle, BITS);
	let right_angle: BigInt = pi >> 1;
	let quarter = &x / &right_angle;
	let x = x - &quarter * &right_angle;
	let (mut cos, mut sin) = (series(&x, one(BITS), 0), series(&x, x.clone(), 1));
	let turns: BigInt = quarter % 4;
	for _ in 0..u32::try_from(turns).unwrap_or_default() {
		(cos, sin) = (-sin, cos);
	}
	[nearest(&cos, BITS), nearest(&sin, BITS)]
}

/// A double from a library, as a float, if every double that is as close as the library promises gives the same float.
pub(crate) fn settled(value: f64) -> Option<f32> {
	// The library is within one unit in the last place; eight is far from any doubt.
	let slack = value.abs() * 8.0 * f64::EPSILON;
	let (low, high) = ((value - slack) as f32, (value + slack) as f32);
	(low == high).then_some(low)
}

/// Two arrays [context, head_dim]: cosines and sines, the half-tables repeated. What is not turned stands behind what is, in each
/// half.
pub(crate) fn tables(context: usize, head_dim: usize, rope: &Rope) -> [Vec<f32>; 2] {
	let pairs = rope.pairs(head_dim);
	let base: Vec<f64> = (0..pairs)
		.map(|i| power(rope.theta, i, pairs) * rope.factors.get(i).unwrap_or(&1.0))
		.collect();
	let scale = rope.scale as f32;
	let pi = pi();
	let [mut cosines, mut sines] = [(); 2].map(|()| Vec::with_capacity(context * head_dim));
	for position in 0..context {
		let turned = base.iter().map(|b| {
			let angle = position as f64 / b;
			let both = match (settled(libm::cos(angle)), settled(libm::sin(angle))) {
				(Some(cos), Some(sin)) => [cos, sin],
				_ => exact(angle, &pi).map(|v| v as f32),
			};
			both.map(|v| v * scale)
		});
		let still = std::iter::repeat_n([1.0, 0.0], head_dim / 2 - pairs);
		let pairs: Vec<[f32; 2]> = turned.chain(still).collect();
		for _ in 0..2 {
			cosines.extend(pairs.iter().map(|p| p[0]));
			sines.extend(pairs.iter().map(|p| p[1]));
		}
	}
	[cosines, sines]
}
