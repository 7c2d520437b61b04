//! Element types and tensors on the wire.
//!
//! Shapes and names follow ONNX; the names of element types are those of the Open Inference Protocol v2
//! (`FP32`, `INT64`, `BYTES`, …), extended by ONNX's four-bit integers. Data is row-major and little-endian; `BYTES`
//! holds each string after its length as a little-endian `u32`, as the protocol's binary extension does.

use alloc::{string::String, vec::Vec};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::sp_core::H256;
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{Bytes, List};

/// Longest name of a tensor, in bytes.
pub const MAX_NAME: u32 = 64;
/// Largest number of dimensions.
pub const MAX_RANK: u32 = 8;
/// Most tensors in one input or output on chain.
pub const MAX_TENSORS: u32 = 8;
/// Most bytes of one tensor's data in the chain's state.
pub const MAX_TENSOR_BYTES: u32 = 65_536;
/// Most bytes of all tensors of an input whose data stays in its transaction ([`IndexedTensors`]): a photograph, or most of a
/// minute of sound as floats.
pub const MAX_DATA: u32 = 3 << 20;

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

/// A tensor on the wire and on chain, with at most `MAX` bytes of data.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Tensor<const MAX: u32 = MAX_TENSOR_BYTES> {
	/// Name of the graph's input or output.
	pub name: Bytes<MAX_NAME>,
	/// Element type.
	pub datatype: DataType,
	/// Length of each dimension; empty for a scalar.
	pub shape: List<u32, MAX_RANK>,
	/// Elements, row-major and little-endian.
	pub data: Bytes<MAX>,
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

/// Number of elements of a shape.
fn elements(shape: &[u32]) -> Result<u32, TensorError> {
	shape
		.iter()
		.try_fold(1u32, |n, d| n.checked_mul(*d))
		.ok_or(TensorError::TooManyElements)
}

/// Units to pay for: elements, and one for every eight bytes where strings are longer.
fn units(shape: &[u32], bytes: u32) -> u32 {
	elements(shape).unwrap_or(u32::MAX).max(bytes / 8)
}

/// Whether data is as long as type and shape say, and well-formed.
fn validate(datatype: DataType, shape: &[u32], data: &[u8]) -> Result<(), TensorError> {
	let elements = elements(shape)?;
	match datatype.bits() {
		Some(bits) => {
			let bytes = (u64::from(elements) * bits).div_ceil(8);
			if bytes != data.len() as u64 {
				return Err(TensorError::WrongLength);
			}
		}
		None => {
			if strings(data)?.len() as u64 != u64::from(elements) {
				return Err(TensorError::WrongLength);
			}
		}
	}
	if datatype == DataType::Bool && data.iter().any(|b| *b > 1) {
		return Err(TensorError::BadBool);
	}
	Ok(())
}

impl<const MAX: u32> Tensor<MAX> {
	/// Number of elements.
	pub fn elements(&self) -> Result<u32, TensorError> {
		elements(&self.shape)
	}

	/// Units to pay for: elements, and one for every eight bytes where strings are longer.
	pub fn units(&self) -> u32 {
		units(&self.shape, self.data.len() as u32)
	}

	/// Whether the data is as long as the header says, and well-formed.
	pub fn validate(&self) -> Result<(), TensorError> {
		validate(self.datatype, &self.shape, &self.data)
	}

	/// The strings of a `BYTES` tensor.
	pub fn strings(&self) -> Result<Vec<&str>, TensorError> {
		strings(&self.data)
	}

	/// Everything but the data.
	pub fn header(&self) -> TensorHeader {
		TensorHeader {
			name: self.name.clone(),
			datatype: self.datatype,
			shape: self.shape.clone(),
			bytes: self.data.len() as u32,
		}
	}

	/// The same tensor under another bound, unless its data is longer.
	pub fn rebound<const OTHER: u32>(self) -> Option<Tensor<OTHER>> {
		Some(Tensor {
			name: self.name,
			datatype: self.datatype,
			shape: self.shape,
			data: self.data.into_inner().try_into().ok()?,
		})
	}
}

/// A tensor without its data.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct TensorHeader {
	/// Name of the graph's input.
	pub name: Bytes<MAX_NAME>,
	/// Element type.
	pub datatype: DataType,
	/// Length of each dimension; empty for a scalar.
	pub shape: List<u32, MAX_RANK>,
	/// Bytes of its data.
	pub bytes: u32,
}

impl TensorHeader {
	/// Units to pay for, as of the whole tensor.
	pub fn units(&self) -> u32 {
		units(&self.shape, self.bytes)
	}
}

/// Tensors whose data stays in the transaction that asks: the block's body carries it and every node that has the block finds it
/// by hash (`BlockBackend::indexed_transaction`); state holds this.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct IndexedTensors {
	/// What the data is, one tensor's after another's.
	pub tensors: List<TensorHeader, MAX_TENSORS>,
	/// BLAKE2b-256 hash of the data.
	pub data_hash: H256,
}

impl IndexedTensors {
	/// Bytes of the data.
	pub fn bytes(&self) -> u64 {
		self.tensors.iter().map(|t| u64::from(t.bytes)).sum()
	}

	/// Each tensor's header and data.
	fn split<'a>(
		&'a self,
		mut data: &'a [u8],
	) -> Result<Vec<(&'a TensorHeader, &'a [u8])>, TensorError> {
		let mut parts = Vec::new();
		for tensor in &self.tensors {
			let (part, rest) = data
				.split_at_checked(tensor.bytes as usize)
				.ok_or(TensorError::WrongLength)?;
			parts.push((tensor, part));
			data = rest;
		}
		match data {
			[] => Ok(parts),
			_ => Err(TensorError::WrongLength),
		}
	}

	/// Whether the data is as long as the headers say, and well-formed. Its hash is not looked at.
	pub fn validate(&self, data: &[u8]) -> Result<(), TensorError> {
		let mut parts = self.split(data)?.into_iter();
		parts.try_for_each(|(t, data)| validate(t.datatype, &t.shape, data))
	}

	/// The tensors, from data whose hash was checked.
	pub fn join(&self, data: &[u8]) -> Result<List<Tensor<MAX_DATA>, MAX_TENSORS>, TensorError> {
		let whole = |(t, data): (&TensorHeader, &[u8])| {
			Ok(Tensor {
				name: t.name.clone(),
				datatype: t.datatype,
				shape: t.shape.clone(),
				data: data
					.to_vec()
					.try_into()
					.map_err(|_| TensorError::WrongLength)?,
			})
		};
		let tensors: Vec<_> = self
			.split(data)?
			.into_iter()
			.map(whole)
			.collect::<Result<_, TensorError>>()?;
		Ok(List::truncate_from(tensors))
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
	pub fn admits<const MAX: u32>(&self, tensor: &Tensor<MAX>) -> bool {
		self.admits_parts(&tensor.name, tensor.datatype, &tensor.shape)
	}

	/// Whether the tensor under `header` has this name, type and shape.
	pub fn admits_header(&self, header: &TensorHeader) -> bool {
		self.admits_parts(&header.name, header.datatype, &header.shape)
	}

	fn admits_parts(&self, name: &[u8], datatype: DataType, shape: &[u32]) -> bool {
		self.name[..] == *name
			&& self.datatype == datatype
			&& self.shape.len() == shape.len()
			&& self
				.shape
				.iter()
				.zip(shape)
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
	fn data_that_stands_beside_its_headers_is_joined_only_where_it_fits() {
		let header = |name: &[u8], datatype, shape: &[u32], bytes| TensorHeader {
			name: name.to_vec().try_into().unwrap(),
			datatype,
			shape: shape.to_vec().try_into().unwrap(),
			bytes,
		};
		let of = |tensors: Vec<TensorHeader>| IndexedTensors {
			tensors: tensors.try_into().unwrap(),
			data_hash: H256::zero(),
		};
		let pair = of(vec![
			header(b"a", DataType::Fp32, &[2], 8),
			header(b"b", DataType::Bool, &[3], 3),
		]);
		let data = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0];
		assert_eq!(pair.validate(&data), Ok(()));
		let joined = pair.join(&data).unwrap();
		assert_eq!(
			(&joined[0].data[..], &joined[1].data[..]),
			(&data[..8], &data[8..])
		);
		assert_eq!(joined[0].header(), pair.tensors[0]);
		assert_eq!(pair.bytes(), 11);
		// Too short, too long, and a flag that is none.
		assert_eq!(pair.validate(&data[..10]), Err(TensorError::WrongLength));
		assert_eq!(pair.join(&[0; 12]), Err(TensorError::WrongLength));
		assert_eq!(pair.validate(&[2; 11]), Err(TensorError::BadBool));
		// Lengths that add up and are not those of the shapes.
		let shifted = of(vec![
			header(b"a", DataType::Fp32, &[2], 7),
			header(b"b", DataType::Bool, &[3], 4),
		]);
		assert_eq!(shifted.validate(&data), Err(TensorError::WrongLength));
		// As many units as if they stood in state, and shapes that overflow are dear.
		assert_eq!(pair.tensors[0].units(), 2);
		assert_eq!(
			header(b"a", DataType::Int8, &[u32::MAX, 2], 0).units(),
			u32::MAX
		);
	}

	#[test]
	fn long_strings_are_more_than_one_unit() {
		let of = |datatype, shape: &[u32], bytes: usize| Tensor::<MAX_TENSOR_BYTES> {
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
