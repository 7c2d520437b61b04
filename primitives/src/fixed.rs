//! Floats as fixed-point integers, read from their bits.
//!
//! Block execution may not touch a float, so values of tensors are compared as integers in steps of 2⁻ᶠ, where `f` is the
//! policy's `fraction_bits`. Conversion rounds to the nearest step, halves away from zero; what is too large saturates to
//! ±[`i32::MAX`], and what is not a number becomes [`NAN`], which is far from everything else.

use crate::tensor::{DataType, Tensor, TensorError};

/// Stands for "not a number".
pub const NAN: i32 = i32::MIN;

/// Converts the bits of an IEEE 754 number with so many exponent and mantissa bits.
fn ieee(bits: u64, exponent_bits: u32, mantissa_bits: u32, fraction_bits: u8) -> i32 {
	let mantissa = bits & ((1 << mantissa_bits) - 1);
	let exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
	let negative = (bits >> (exponent_bits + mantissa_bits)) & 1 == 1;
	let top = (1u64 << exponent_bits) - 1;
	let signed = |magnitude: i32| if negative { -magnitude } else { magnitude };
	if exponent == top {
		return if mantissa == 0 { signed(i32::MAX) } else { NAN };
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
	scale(significand, power + i64::from(fraction_bits), signed)
}

/// `significand` × 2^`power`, rounded and saturated.
fn scale(significand: u64, power: i64, signed: impl Fn(i32) -> i32) -> i32 {
	let magnitude = if significand == 0 || power < -64 {
		0
	} else if power >= 31 {
		u128::MAX
	} else if power >= 0 {
		u128::from(significand) << power
	} else {
		let shift = power.unsigned_abs() as u32;
		(u128::from(significand) + (1u128 << (shift - 1))) >> shift
	};
	signed(i32::try_from(magnitude).unwrap_or(i32::MAX))
}

/// Converts the bits of a 32-bit float.
pub fn from_f32_bits(bits: u32, fraction_bits: u8) -> i32 {
	ieee(bits.into(), 8, 23, fraction_bits)
}

/// Converts the bits of a 64-bit float.
pub fn from_f64_bits(bits: u64, fraction_bits: u8) -> i32 {
	ieee(bits, 11, 52, fraction_bits)
}

/// Converts the bits of a 16-bit float.
pub fn from_f16_bits(bits: u16, fraction_bits: u8) -> i32 {
	ieee(bits.into(), 5, 10, fraction_bits)
}

/// Converts the bits of a bfloat16.
pub fn from_bf16_bits(bits: u16, fraction_bits: u8) -> i32 {
	ieee(bits.into(), 8, 7, fraction_bits)
}

fn from_integer(value: i128, fraction_bits: u8) -> i32 {
	let magnitude = value.unsigned_abs().min(u128::from(u64::MAX)) as u64;
	scale(magnitude, fraction_bits.into(), |m| {
		if value < 0 {
			-m
		} else {
			m
		}
	})
}

/// Element `index` of a tensor, in steps of 2^-`fraction_bits`. Strings become 31 bits of their hash: equal or far apart.
///
/// `Ok(None)` where the tensor has no such element.
pub fn element(tensor: &Tensor, index: u32, fraction_bits: u8) -> Result<Option<i32>, TensorError> {
	use DataType::*;
	if index >= tensor.elements()? {
		return Ok(None);
	}
	if tensor.datatype == Bytes {
		return Ok(tensor
			.strings()?
			.get(index as usize)
			.map(|s| tag(s.as_bytes()) as i32));
	}
	let (index, data) = (index as usize, &tensor.data[..]);
	let chunk = |n: usize| {
		let bytes = data
			.get(index * n..(index + 1) * n)
			.ok_or(TensorError::WrongLength)?;
		let mut word = [0u8; 8];
		word[..n].copy_from_slice(bytes);
		Ok(u64::from_le_bytes(word))
	};
	let f = fraction_bits;
	Ok(Some(match tensor.datatype {
		Bool | Uint8 => from_integer(chunk(1)?.into(), f),
		Uint16 => from_integer(chunk(2)?.into(), f),
		Uint32 => from_integer(chunk(4)?.into(), f),
		Uint64 => from_integer(chunk(8)?.into(), f),
		Int8 => from_integer((chunk(1)? as i8).into(), f),
		Int16 => from_integer((chunk(2)? as i16).into(), f),
		Int32 => from_integer((chunk(4)? as i32).into(), f),
		Int64 => from_integer((chunk(8)? as i64).into(), f),
		Fp16 => from_f16_bits(chunk(2)? as u16, f),
		Bf16 => from_bf16_bits(chunk(2)? as u16, f),
		Fp32 => from_f32_bits(chunk(4)? as u32, f),
		Fp64 => from_f64_bits(chunk(8)?, f),
		Int4 | Uint4 => {
			let byte = *data.get(index / 2).ok_or(TensorError::WrongLength)?;
			let nibble = if index % 2 == 0 { byte & 15 } else { byte >> 4 };
			let value = if tensor.datatype == Int4 && nibble > 7 {
				i128::from(nibble) - 16
			} else {
				nibble.into()
			};
			from_integer(value, f)
		}
		Bytes => unreachable!("strings returned above; qed"),
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
		assert_eq!(from_f16_bits(0x3c00, 4), 16);
		assert_eq!(from_f16_bits(0x0001, 24), 1);
		assert_eq!(from_bf16_bits(0xbf80, 4), -16);
	}

	proptest! {
		#[test]
		fn agrees_with_float_arithmetic(value in -1e6f32..1e6, bits in 0u8..=10) {
			let want = (f64::from(value) * f64::from(1u32 << bits)).round() as i32;
			prop_assert_eq!(from_f32_bits(value.to_bits(), bits), want);
			prop_assert_eq!(from_f64_bits(f64::from(value).to_bits(), bits), want);
		}

		#[test]
		fn any_bits_convert(bits: u64, f in 0u8..=24) {
			from_f32_bits(bits as u32, f);
			from_f64_bits(bits, f);
			from_f16_bits(bits as u16, f);
			from_bf16_bits(bits as u16, f);
		}

		#[test]
		fn integers(value: i32) {
			prop_assert_eq!(from_integer(value.into(), 0), value.max(-i32::MAX));
		}
	}
}
