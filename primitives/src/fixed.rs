//! Floats as fixed-point integers, read from their bits.
//!
//! Block execution may not touch a float, so values are compared as integers in steps of 2⁻ᶠ, where `f` is the policy's
//! `fraction_bits`. Conversion rounds to the nearest step, halves away from zero; what is too large saturates.

use codec::Encode;

use crate::tensor::{DataType, Tensor};

/// Stands for "not a number" among the values of a text's fingerprint, far from everything else.
pub const NAN: i32 = i32::MIN;

/// A float that is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum NotFinite {
	/// Not a number, whatever its payload.
	Nan,
	/// More than every number.
	Infinity,
	/// Less than every number.
	MinusInfinity,
}

/// Converts the bits of an IEEE 754 number with so many exponent and mantissa bits; saturates at ±[`i64::MAX`].
fn ieee(
	bits: u64,
	exponent_bits: u32,
	mantissa_bits: u32,
	fraction_bits: u8,
) -> Result<i64, NotFinite> {
	let mantissa = bits & ((1 << mantissa_bits) - 1);
	let exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
	let negative = (bits >> (exponent_bits + mantissa_bits)) & 1 == 1;
	let top = (1u64 << exponent_bits) - 1;
	if exponent == top {
		return Err(match (mantissa, negative) {
			(0, false) => NotFinite::Infinity,
			(0, true) => NotFinite::MinusInfinity,
			_ => NotFinite::Nan,
		});
	}
	let bias = (1i64 << (exponent_bits - 1)) - 1;
	let (significand, power) = if exponent == 0 {
		(mantissa, 1 - bias - i64::from(mantissa_bits))
	} else {
		(
			mantissa | (1 << mantissa_bits),
			exponent as i64 - bias - i64::from(mantissa_bits),
		)
	};
	let magnitude = scale(significand, power + i64::from(fraction_bits));
	Ok(if negative { -magnitude } else { magnitude })
}

/// `significand` × 2^`power`, rounded and saturated. Significands have 53 bits at most.
fn scale(significand: u64, power: i64) -> i64 {
	let magnitude = if significand == 0 || power <= -64 {
		0
	} else if power < 0 {
		let shift = power.unsigned_abs();
		(significand + (1 << (shift - 1))) >> shift
	} else if power < i64::from(significand.leading_zeros()) {
		significand << power
	} else {
		u64::MAX
	};
	i64::try_from(magnitude).unwrap_or(i64::MAX)
}

/// In 32 bits: saturated at ±[`i32::MAX`], as infinities are, and [`NAN`].
fn narrow(value: Result<i64, NotFinite>) -> i32 {
	match value {
		Ok(steps) => steps.clamp((-i32::MAX).into(), i32::MAX.into()) as i32,
		Err(NotFinite::Infinity) => i32::MAX,
		Err(NotFinite::MinusInfinity) => -i32::MAX,
		Err(NotFinite::Nan) => NAN,
	}
}

/// Converts the bits of a 32-bit float.
pub fn from_f32_bits(bits: u32, fraction_bits: u8) -> i32 {
	narrow(ieee(bits.into(), 8, 23, fraction_bits))
}

/// The elements of a tensor of floats, in order; `None` for other element types.
pub fn floats(
	tensor: &Tensor,
	fraction_bits: u8,
) -> Option<impl ExactSizeIterator<Item = Result<i64, NotFinite>> + '_> {
	let (bytes, exponent_bits, mantissa_bits) = match tensor.datatype {
		DataType::Fp16 => (2, 5, 10),
		DataType::Bf16 => (2, 8, 7),
		DataType::Fp32 => (4, 8, 23),
		DataType::Fp64 => (8, 11, 52),
		_ => return None,
	};
	Some(tensor.data.chunks_exact(bytes).map(move |chunk| {
		let mut word = [0u8; 8];
		word[..bytes].copy_from_slice(chunk);
		ieee(
			u64::from_le_bytes(word),
			exponent_bits,
			mantissa_bits,
			fraction_bits,
		)
	}))
}

/// 31 bits of a hash, which are a non-negative `i32` too.
pub fn tag(bytes: &[u8]) -> u32 {
	let hash = polkadot_sdk::sp_crypto_hashing::blake2_256(bytes);
	u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3] & 0x7f])
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn known_values() {
		for (value, bits, want) in [
			(0.0f32, 8, 0),
			(-0.0, 8, 0),
			(1.0, 8, 256),
			(-1.5, 1, -3),
			(0.25, 1, 1),
			(-0.25, 1, -1),
			(0.249, 1, 0),
			(1e30, 8, i32::MAX),
			(-1e30, 8, -i32::MAX),
			(f32::INFINITY, 0, i32::MAX),
			(f32::NEG_INFINITY, 0, -i32::MAX),
			(f32::NAN, 0, NAN),
			(f32::MIN_POSITIVE / 2.0, 24, 0),
		] {
			assert_eq!(
				from_f32_bits(value.to_bits(), bits),
				want,
				"{value} with {bits} bits"
			);
		}
		assert_eq!(ieee(0x3c00, 5, 10, 4), Ok(16));
		assert_eq!(ieee(0x0001, 5, 10, 24), Ok(1));
		assert_eq!(ieee(0xbf80, 8, 7, 4), Ok(-16));
	}

	proptest! {
		#[test]
		fn agrees_with_float_arithmetic(value in -1e6f32..1e6, bits in 0u8..=10) {
			let want = (f64::from(value) * f64::from(1u32 << bits)).round() as i32;
			prop_assert_eq!(from_f32_bits(value.to_bits(), bits), want);
			prop_assert_eq!(ieee(f64::from(value).to_bits(), 11, 52, bits), Ok(want.into()));
		}

		/// Against a conversion that is exact wherever its result fits 63 bits: doubles hold every product with a power of two.
		#[test]
		fn every_double_converts(bits: u64, f in 0u8..=32) {
			let value = f64::from_bits(bits);
			let scaled = value * (f64::from(f)).exp2();
			let want = match value.classify() {
				core::num::FpCategory::Nan => Err(NotFinite::Nan),
				core::num::FpCategory::Infinite if value > 0.0 => Err(NotFinite::Infinity),
				core::num::FpCategory::Infinite => Err(NotFinite::MinusInfinity),
				_ if scaled.abs() >= 2f64.powi(63) => Ok(if value > 0.0 { i64::MAX } else { -i64::MAX }),
				_ => Ok(scaled.round() as i64),
			};
			prop_assert_eq!(ieee(bits, 11, 52, f), want);
		}
	}
}
