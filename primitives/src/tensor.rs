//! Element types and tensors on the wire.
//!
//! Shapes and names follow ONNX; the names of element types are those of the Open Inference Protocol v2
//! (`FP32`, `INT64`, `BYTES`, …), extended by ONNX's four-bit integers. Data is row-major and little-endian; `BYTES`
//! holds each string after its length as a little-endian `u32`, as the protocol's binary extension does.

use alloc::{string::String, vec::Vec};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{Bytes, List};

/// Longest name of a tensor, in bytes.
pub const MAX_NAME: u32 = 64;
/// Largest number of dimensions.
pub const MAX_RANK: u32 = 8;
/// Most tensors in one input or output on chain.
pub const MAX_TENSORS: u32 = 8;
/// Most bytes of one tensor's data on chain.
pub const MAX_TENSOR_BYTES: u32 = 65_536;

/// Element type of a tensor. Every ONNX type that ONNX Runtime takes as input or gives as output.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum DataType {
	Bool,
	Uint8,
	Uint16,
	Uint32,
	Uint64,
	Int8,
	Int16,
	Int32,
	Int64,
	Fp16,
	Bf16,
	Fp32,
	Fp64,
	/// Strings.
	Bytes,
	/// Two elements a byte, the first in the low half; sign-extended.
	Int4,
	/// Two elements a byte, the first in the low half.
	Uint4,
}

impl DataType {
	/// Bits that one element takes; `None` for strings, whose length varies.
	pub const fn bits(self) -> Option<u64> {
		use DataType::*;
		Some(match self {
			Int4 | Uint4 => 4,
			Bool | Uint8 | Int8 => 8,
			Uint16 | Int16 | Fp16 | Bf16 => 16,
			Uint32 | Int32 | Fp32 => 32,
			Uint64 | Int64 | Fp64 => 64,
			Bytes => return None,
		})
	}

	/// Name in the Open Inference Protocol.
	pub const fn name(self) -> &'static str {
		use DataType::*;
		match self {
			Bool => "BOOL",
			Uint8 => "UINT8",
			Uint16 => "UINT16",
			Uint32 => "UINT32",
			Uint64 => "UINT64",
			Int8 => "INT8",
			Int16 => "INT16",
			Int32 => "INT32",
			Int64 => "INT64",
			Fp16 => "FP16",
			Bf16 => "BF16",
			Fp32 => "FP32",
			Fp64 => "FP64",
			Bytes => "BYTES",
			Int4 => "INT4",
			Uint4 => "UINT4",
		}
	}
}

/// A tensor on the wire and on chain.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Tensor {
	/// Name of the graph's input or output.
	pub name: Bytes<MAX_NAME>,
	/// Element type.
	pub datatype: DataType,
	/// Length of each dimension; empty for a scalar.
	pub shape: List<u32, MAX_RANK>,
	/// Elements, row-major and little-endian.
	pub data: Bytes<MAX_TENSOR_BYTES>,
}

/// Why a tensor's bytes cannot be what its header says.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum TensorError {
	/// The product of the dimensions does not fit 32 bits.
	TooManyElements,
	/// The data's length is not what shape and element type ask for.
	WrongLength,
	/// A string runs past the end of the data, or is not UTF-8.
	BadString,
	/// A `BOOL` that is neither 0 nor 1.
	BadBool,
}

impl Tensor {
	/// Number of elements.
	pub fn elements(&self) -> Result<u32, TensorError> {
		self.shape
			.iter()
			.try_fold(1u32, |n, d| n.checked_mul(*d))
			.ok_or(TensorError::TooManyElements)
	}

	/// Units to pay for: elements, and one for every eight bytes where strings are longer.
	pub fn units(&self) -> u32 {
		let bytes = self.data.len() as u32 / 8;
		self.elements().unwrap_or(u32::MAX).max(bytes)
	}

	/// Whether the data is as long as the header says, and well-formed.
	pub fn validate(&self) -> Result<(), TensorError> {
		let elements = self.elements()?;
		match self.datatype.bits() {
			Some(bits) => {
				let bytes = (u64::from(elements) * bits).div_ceil(8);
				if bytes != self.data.len() as u64 {
					return Err(TensorError::WrongLength);
				}
			}
			None => {
				if self.strings()?.len() as u64 != u64::from(elements) {
					return Err(TensorError::WrongLength);
				}
			}
		}
		if self.datatype == DataType::Bool && self.data.iter().any(|b| *b > 1) {
			return Err(TensorError::BadBool);
		}
		Ok(())
	}

	/// The strings of a `BYTES` tensor.
	pub fn strings(&self) -> Result<Vec<&str>, TensorError> {
		strings(&self.data)
	}
}

/// The strings of a `BYTES` tensor's data.
pub fn strings(data: &[u8]) -> Result<Vec<&str>, TensorError> {
	let (mut rest, mut out) = (data, Vec::new());
	while !rest.is_empty() {
		let (length, tail) = rest
			.split_first_chunk::<4>()
			.ok_or(TensorError::BadString)?;
		let length = u32::from_le_bytes(*length) as usize;
		let (text, tail) = tail
			.split_at_checked(length)
			.ok_or(TensorError::BadString)?;
		out.push(core::str::from_utf8(text).map_err(|_| TensorError::BadString)?);
		rest = tail;
	}
	Ok(out)
}

/// What a graph's input or output must look like.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct TensorSpec {
	/// Name of the graph's input or output.
	pub name: Bytes<MAX_NAME>,
	/// Element type.
	pub datatype: DataType,
	/// Length of each dimension; `None` where the graph leaves it open.
	pub shape: List<Option<u32>, MAX_RANK>,
}

impl TensorSpec {
	/// Whether `tensor` has this name, type and shape.
	pub fn admits(&self, tensor: &Tensor) -> bool {
		self.name == tensor.name
			&& self.datatype == tensor.datatype
			&& self.shape.len() == tensor.shape.len()
			&& self
				.shape
				.iter()
				.zip(&tensor.shape)
				.all(|(want, got)| want.is_none_or(|w| w == *got))
	}
}

/// [`TensorSpec`] as it is written in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct NamedSpec {
	/// Name of the graph's input or output.
	pub name: String,
	/// Element type.
	pub datatype: DataType,
	/// Length of each dimension; `null` where the graph leaves it open.
	pub shape: Vec<Option<u32>>,
}

impl TryFrom<&NamedSpec> for TensorSpec {
	type Error = &'static str;

	fn try_from(spec: &NamedSpec) -> Result<Self, Self::Error> {
		Ok(Self {
			name: spec
				.name
				.as_bytes()
				.to_vec()
				.try_into()
				.map_err(|_| "a tensor's name is longer than 64 bytes")?,
			datatype: spec.datatype,
			shape: spec
				.shape
				.clone()
				.try_into()
				.map_err(|_| "a tensor has more than 8 dimensions")?,
		})
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn long_strings_are_more_than_one_unit() {
		let of = |datatype, shape: &[u32], bytes: usize| Tensor {
			name: Default::default(),
			datatype,
			shape: shape.to_vec().try_into().unwrap(),
			data: vec![0; bytes].try_into().unwrap(),
		};
		// As many as chain and state must carry, whatever the shape says.
		assert_eq!(of(DataType::Bytes, &[1], 65_536).units(), 8_192);
		assert_eq!(of(DataType::Bytes, &[3], 3 * 4).units(), 3);
		// No number is longer than eight bytes.
		assert_eq!(of(DataType::Fp64, &[2, 3], 48).units(), 6);
		assert_eq!(of(DataType::Uint8, &[48], 48).units(), 48);
		assert_eq!(of(DataType::Int4, &[48], 24).units(), 48);
	}
}
