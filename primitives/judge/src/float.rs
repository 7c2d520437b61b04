//! IEEE arithmetic on the bits of numbers, one correctly rounded operation at a time.
//!
//! Sums, products, quotients, conversions and rounding are those of `rustc_apfloat`, the port of LLVM's arithmetic with which the Rust
//! compiler computes constants: it has no unsafe code and never touches the machine's own floating point. It has no root, which is
//! found here as a whole number's. `tests/float.rs` holds all of it against a processor, over millions of numbers.
//!
//! A result that is not a number is always the same one, positive and quiet. None occurs in a graph of the class.

use rustc_apfloat::{
	ieee::{Double, Single},
	Float, FloatConvert, Round,
};

/// How wide a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
	/// 32 bits, of which 23 are the fraction.
	Single,
	/// 64 bits, of which 52 are the fraction.
	Double,
}

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
	/// a + b
	Add,
	/// a - b
	Sub,
	/// a · b
	Mul,
	/// a / b
	Div,
}

/// Where to a number is rounded that is to become whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
	/// The nearest whole number, and of two that are as near the even one.
	Nearest,
	/// Down.
	Floor,
	/// Up.
	Ceil,
}

impl Width {
	/// Bits of the fraction.
	const fn fraction(self) -> u32 {
		match self {
			Self::Single => 23,
			Self::Double => 52,
		}
	}

	const fn bits(self) -> u32 {
		match self {
			Self::Single => 32,
			Self::Double => 64,
		}
	}

	/// The bit of the sign.
	pub const fn sign(self) -> u64 {
		1 << (self.bits() - 1)
	}

	/// Infinity; what has more bits set below the sign is not a number.
	pub const fn infinity(self) -> u64 {
		let exponent = self.bits() - 1 - self.fraction();
		((1 << exponent) - 1) << self.fraction()
	}

	/// What stands for all results that are no numbers.
	pub const fn no_number(self) -> u64 {
		self.infinity() | 1 << (self.fraction() - 1)
	}

	/// Whether these bits are not a number.
	pub const fn is_no_number(self, bits: u64) -> bool {
		bits & !self.sign() > self.infinity()
	}

	/// Whether these bits are a number, and not infinite.
	pub const fn is_finite(self, bits: u64) -> bool {
		bits & !self.sign() < self.infinity()
	}

	/// The magnitude up to which every whole number has bits.
	pub const fn whole(self) -> u64 {
		1 << (self.fraction() + 1)
	}

	fn one_of(self, bits: u64) -> u64 {
		match self.is_no_number(bits) {
			true => self.no_number(),
			false => bits,
		}
	}
}

fn apply<F: Float>(operation: Arithmetic, a: u64, b: u64) -> u64 {
	let (a, b) = (F::from_bits(a.into()), F::from_bits(b.into()));
	let result = match operation {
		Arithmetic::Add => a + b,
		Arithmetic::Sub => a - b,
		Arithmetic::Mul => a * b,
		Arithmetic::Div => a / b,
	};
	result.value.to_bits() as u64
}

/// a and b under an operation, rounded to the nearest number.
pub fn arithmetic(width: Width, operation: Arithmetic, a: u64, b: u64) -> u64 {
	width.one_of(match width {
		Width::Single => apply::<Single>(operation, a, b),
		Width::Double => apply::<Double>(operation, a, b),
	})
}

fn integral<F: Float>(bits: u64, round: Round) -> u64 {
	F::from_bits(bits.into())
		.round_to_integral(round)
		.value
		.to_bits() as u64
}

/// A number, rounded to a whole one.
pub fn round(width: Width, bits: u64, towards: Towards) -> u64 {
	let round = match towards {
		Towards::Nearest => Round::NearestTiesToEven,
		Towards::Floor => Round::TowardNegative,
		Towards::Ceil => Round::TowardPositive,
	};
	width.one_of(match width {
		Width::Single => integral::<Single>(bits, round),
		Width::Double => integral::<Double>(bits, round),
	})
}

/// The root of a number, rounded to the nearest.
///
/// With the number as m · 2^e, e even, the root of m · 2^k (k even) as a whole number has the bits of the result and one to three
/// more; what is left over says on which side of half they are.
pub fn root(width: Width, bits: u64) -> u64 {
	if bits & !width.sign() == 0 || bits == width.infinity() {
		return bits;
	}
	if width.is_no_number(bits) || bits & width.sign() != 0 {
		return width.no_number();
	}
	let fraction = width.fraction();
	let bias = (width.infinity() >> fraction >> 1) as i64;
	let (mut m, mut e) = (
		u128::from(bits & ((1 << fraction) - 1)),
		(bits >> fraction) as i64,
	);
	match e {
		// Below the normal numbers.
		0 => {
			let up = m.leading_zeros() - (127 - fraction);
			m <<= up;
			e = 1 - i64::from(up);
		}
		_ => m |= 1 << fraction,
	}
	e -= bias + i64::from(fraction);
	if e % 2 != 0 {
		m <<= 1;
		e -= 1;
	}
	let up = fraction + 4 - fraction % 2;
	let m = m << up;
	e -= i64::from(up);
	let root = m.isqrt();
	let exact = root * root == m;
	// One to three bits too many, by the parities.
	let more = 127 - root.leading_zeros() - fraction;
	let (kept, rest, half) = (root >> more, root & ((1 << more) - 1), 1u128 << (more - 1));
	let up = rest > half || rest == half && (!exact || kept & 1 == 1);
	let kept = (kept + u128::from(up)) as u64;
	let e = e / 2 + i64::from(more) + i64::from(fraction) + bias;
	// A root is far from both ends of the exponents, and where rounding up made another bit, adding carries it into the exponent.
	((e as u64) << fraction) + (kept - (1 << fraction))
}

/// A number in another width, rounded to the nearest.
pub fn convert(from: Width, to: Width, bits: u64) -> u64 {
	let mut lossy = false;
	to.one_of(match (from, to) {
		(Width::Single, Width::Double) => {
			let wide: Double = Single::from_bits(bits.into()).convert(&mut lossy).value;
			wide.to_bits() as u64
		}
		(Width::Double, Width::Single) => {
			let narrow: Single = Double::from_bits(bits.into()).convert(&mut lossy).value;
			narrow.to_bits() as u64
		}
		_ => bits,
	})
}

/// A whole number, rounded to the nearest that the width has.
pub fn from_whole(width: Width, value: i64) -> u64 {
	match width {
		Width::Single => Single::from_i128(value.into()).value.to_bits() as u64,
		Width::Double => Double::from_i128(value.into()).value.to_bits() as u64,
	}
}

/// The whole number that these bits are; nothing if they are none, or none that fits.
pub fn to_whole(width: Width, bits: u64) -> Option<i64> {
	let mut exact = false;
	let whole = match width {
		Width::Single => {
			Single::from_bits(bits.into()).to_i128_r(64, Round::TowardZero, &mut exact)
		}
		Width::Double => {
			Double::from_bits(bits.into()).to_i128_r(64, Round::TowardZero, &mut exact)
		}
	};
	let zero = bits & !width.sign() == 0;
	match exact || zero {
		true => i64::try_from(whole.value).ok(),
		false => None,
	}
}

/// A whole number that is larger where the number is; both zeros have the same. Nothing for what is not a number.
pub fn order(width: Width, bits: u64) -> Option<i64> {
	if width.is_no_number(bits) {
		return None;
	}
	let magnitude = (bits & !width.sign()) as i64;
	Some(match bits & width.sign() {
		0 => magnitude,
		_ => -magnitude,
	})
}

/// The bits of which [`order`] makes this.
pub fn ordered(width: Width, order: i64) -> u64 {
	let magnitude = order.unsigned_abs();
	match order < 0 {
		true => magnitude | width.sign(),
		false => magnitude,
	}
}
