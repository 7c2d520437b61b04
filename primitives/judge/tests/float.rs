//! The arithmetic on bits against the processor's, which rounds correctly by IEEE 754.

#![allow(clippy::unwrap_used)]

#[path = "support/noise.rs"]
mod noise;

use consilience_judge::float::{
	arithmetic, convert, from_whole, order, ordered, root, round, to_whole, Arithmetic, Towards,
	Width,
};
use noise::Noise;

/// Bits of a number of one of many kinds: any bits; few bits of fraction, so that sums and products are exact or halfway; near the
/// ends of the exponents; and what stands alone.
fn bits(noise: &mut Noise, width: Width) -> u64 {
	let (fraction, exponents) = match width {
		Width::Single => (23, 255),
		Width::Double => (52, 2_047),
	};
	let sign = (noise.next() & 1) * width.sign();
	let any = noise.next() & ((1 << fraction) - 1);
	let middle = exponents / 2;
	let near = |noise: &mut Noise| middle - 60 + noise.below(120);
	sign | match noise.below(8) {
		0 => (noise.below(exponents + 1) << fraction) | any,
		1 => (near(noise) << fraction) | any,
		// The ends: below the normal numbers, just above, and just below infinity.
		2 => (noise.below(3) << fraction) | any,
		3 => ((exponents - 1 - noise.below(3)) << fraction) | any,
		// Few bits, on either end of the fraction.
		4 => (near(noise) << fraction) | (any & !((1 << (fraction - 4)) - 1)),
		5 => (near(noise) << fraction) | (any & 7),
		6 => (near(noise) << fraction) | ((1 << fraction) - 1 - (any & 3)),
		_ => {
			let alone = [
				0,
				1,
				2,
				(1 << fraction) - 1,
				1 << fraction,
				middle << fraction,
				width.infinity() - 1,
				width.infinity(),
				width.no_number(),
				width.infinity() | 1,
			];
			alone[noise.below(alone.len() as u64) as usize]
		}
	}
}

/// What a processor gives, where it is no number as the one that stands for all.
fn single(value: f32) -> u64 {
	match value.is_nan() {
		true => Width::Single.no_number(),
		false => value.to_bits().into(),
	}
}

fn double(value: f64) -> u64 {
	match value.is_nan() {
		true => Width::Double.no_number(),
		false => value.to_bits(),
	}
}

const CASES: u64 = 3_000_000;
const OPERATIONS: [Arithmetic; 4] = [
	Arithmetic::Add,
	Arithmetic::Sub,
	Arithmetic::Mul,
	Arithmetic::Div,
];

#[test]
fn operations_on_two_singles() {
	let (width, mut noise) = (Width::Single, Noise(1));
	for _ in 0..CASES {
		let (x, mut y) = (bits(&mut noise, width), bits(&mut noise, width));
		if noise.below(8) == 0 {
			// Nearly the same, so that a difference cancels.
			y = (x ^ noise.below(16)) & u64::from(u32::MAX);
		}
		let (a, b) = (f32::from_bits(x as u32), f32::from_bits(y as u32));
		for (operation, hardware) in OPERATIONS.into_iter().zip([a + b, a - b, a * b, a / b]) {
			assert_eq!(
				arithmetic(width, operation, x, y),
				single(hardware),
				"{a:e} {operation:?} {b:e}"
			);
		}
		match order(width, x).zip(order(width, y)) {
			Some((p, q)) => assert_eq!(p.partial_cmp(&q), a.partial_cmp(&b), "{a:e} {b:e}"),
			None => assert!(a.is_nan() || b.is_nan()),
		}
	}
}

#[test]
fn operations_on_two_doubles() {
	let (width, mut noise) = (Width::Double, Noise(2));
	for _ in 0..CASES {
		let (x, mut y) = (bits(&mut noise, width), bits(&mut noise, width));
		if noise.below(8) == 0 {
			y = x ^ noise.below(16);
		}
		let (a, b) = (f64::from_bits(x), f64::from_bits(y));
		for (operation, hardware) in OPERATIONS.into_iter().zip([a + b, a - b, a * b, a / b]) {
			assert_eq!(
				arithmetic(width, operation, x, y),
				double(hardware),
				"{a:e} {operation:?} {b:e}"
			);
		}
		match order(width, x).zip(order(width, y)) {
			Some((p, q)) => assert_eq!(p.partial_cmp(&q), a.partial_cmp(&b), "{a:e} {b:e}"),
			None => assert!(a.is_nan() || b.is_nan()),
		}
	}
}

/// What a processor makes of one number of each width.
fn check_one(noise: &mut Noise) {
	let x = bits(noise, Width::Single);
	let a = f32::from_bits(x as u32);
	let s = Width::Single;
	assert_eq!(root(s, x), single(a.sqrt()), "root of {a:e}");
	assert_eq!(
		round(s, x, Towards::Nearest),
		single(a.round_ties_even()),
		"{a:e}"
	);
	assert_eq!(round(s, x, Towards::Floor), single(a.floor()), "{a:e}");
	assert_eq!(round(s, x, Towards::Ceil), single(a.ceil()), "{a:e}");
	assert_eq!(convert(s, Width::Double, x), double(a.into()), "{a:e}");
	let whole = (a == a.round_ties_even())
		.then_some(a as i128)
		.and_then(|n| i64::try_from(n).ok());
	assert_eq!(to_whole(s, x), whole, "{a:e}");
	if let Some(order) = order(s, x).filter(|order| *order != 0) {
		assert_eq!(ordered(s, order), x);
	}

	let x = bits(noise, Width::Double);
	let a = f64::from_bits(x);
	let d = Width::Double;
	assert_eq!(root(d, x), double(a.sqrt()), "root of {a:e}");
	assert_eq!(
		round(d, x, Towards::Nearest),
		double(a.round_ties_even()),
		"{a:e}"
	);
	assert_eq!(round(d, x, Towards::Floor), double(a.floor()), "{a:e}");
	assert_eq!(round(d, x, Towards::Ceil), double(a.ceil()), "{a:e}");
	assert_eq!(convert(d, Width::Single, x), single(a as f32), "{a:e}");
	let whole = (a == a.round_ties_even())
		.then_some(a as i128)
		.and_then(|n| i64::try_from(n).ok());
	assert_eq!(to_whole(d, x), whole, "{a:e}");

	// Halfway between two singles, and a bit beside it.
	let near = (x & !0x1fff_ffff) | 0x1000_0000;
	for x in [near - 1, near, near + 1] {
		let a = f64::from_bits(x);
		assert_eq!(convert(d, Width::Single, x), single(a as f32), "{a:e}");
	}

	let n = noise.next() as i64 >> noise.below(64);
	for n in [n, n.wrapping_neg(), n.wrapping_add(1)] {
		assert_eq!(from_whole(s, n), single(n as f32), "{n}");
		assert_eq!(from_whole(d, n), double(n as f64), "{n}");
	}
}

#[test]
fn operations_on_one_number() {
	let mut noise = Noise(3);
	for _ in 0..CASES {
		check_one(&mut noise);
	}
}

/// Roots of squares and of what is beside them: where the bit after the last is nearly half.
#[test]
fn roots_near_squares() {
	let mut noise = Noise(4);
	for _ in 0..CASES {
		let r = f64::from_bits(
			(bits(&mut noise, Width::Double) & !Width::Double.sign()).min(0x5fe0 << 48),
		);
		let square = (r * r).to_bits();
		for x in [square.saturating_sub(1), square, square + 1] {
			let a = f64::from_bits(x);
			assert_eq!(root(Width::Double, x), double(a.sqrt()), "root of {a:e}");
		}
	}
}

/// Whole numbers and halves near zero, of both signs: ties, and what rounds to a zero of either sign.
#[test]
fn ties() {
	for n in -100_000i32..=100_000 {
		let a = n as f32 / 2.0;
		let x = u64::from(a.to_bits());
		assert_eq!(
			round(Width::Single, x, Towards::Nearest),
			single(a.round_ties_even())
		);
		let b = f64::from(n) / 2.0;
		assert_eq!(
			round(Width::Double, b.to_bits(), Towards::Nearest),
			double(b.round_ties_even())
		);
	}
}
