//! Tensors of the wire and of ONNX Runtime.

use consilience_primitives::{
	request::Unanswerable,
	tensor::{strings, DataType, Tensor, MAX_TENSOR_BYTES},
};
use half::{bf16, f16};
use ort::{
	memory::{Allocator, MemoryInfo},
	value::{
		DynTensor, DynTensorValueType, DynValue, PrimitiveTensorElementType, Shape,
		TensorElementType, TensorRefMut, ValueType,
	},
};

use crate::EngineError;

/// The wire's name of an element type.
pub fn datatype(of: TensorElementType) -> Result<DataType, EngineError> {
	use TensorElementType as E;
	Ok(match of {
		E::Bool => DataType::Bool,
		E::Uint8 => DataType::Uint8,
		E::Uint16 => DataType::Uint16,
		E::Uint32 => DataType::Uint32,
		E::Uint64 => DataType::Uint64,
		E::Int8 => DataType::Int8,
		E::Int16 => DataType::Int16,
		E::Int32 => DataType::Int32,
		E::Int64 => DataType::Int64,
		E::Float16 => DataType::Fp16,
		E::Bfloat16 => DataType::Bf16,
		E::Float32 => DataType::Fp32,
		E::Float64 => DataType::Fp64,
		E::String => DataType::Bytes,
		E::Int4 => DataType::Int4,
		E::Uint4 => DataType::Uint4,
		other => {
			return Err(EngineError::Input(format!(
				"element type {other:?} is not supported"
			)))
		}
	})
}

/// A number that a tensor can hold, as little-endian bytes.
trait Element: PrimitiveTensorElementType + Copy + std::fmt::Debug + 'static {
	fn read(bytes: &[u8]) -> Self;
	fn write(self, to: &mut Vec<u8>);
}

macro_rules! element {
	($($t:ty: $n:literal),*) => {$(
		impl Element for $t {
			fn read(bytes: &[u8]) -> Self {
				let mut word = [0u8; $n];
				word.copy_from_slice(bytes);
				Self::from_le_bytes(word)
			}

			fn write(self, to: &mut Vec<u8>) {
				to.extend_from_slice(&self.to_le_bytes());
			}
		}
	)*};
}
element!(u8: 1, u16: 2, u32: 4, u64: 8, i8: 1, i16: 2, i32: 4, i64: 8, f32: 4, f64: 8, f16: 2, bf16: 2);

impl Element for bool {
	fn read(bytes: &[u8]) -> Self {
		bytes[0] != 0
	}

	fn write(self, to: &mut Vec<u8>) {
		to.push(self.into());
	}
}

/// A number that caches are made of.
pub(crate) trait Number:
	PrimitiveTensorElementType + Copy + Default + std::fmt::Debug + 'static
{
}

impl Number for f32 {}
impl Number for i8 {}

/// A tensor of ONNX Runtime from values and a shape; no elements are fine.
pub(crate) fn from_vec<T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
	shape: &[usize],
	values: Vec<T>,
) -> Result<DynValue, EngineError> {
	let shape: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
	if values.is_empty() {
		let element = <T as ort::value::IntoTensorElementType>::into_tensor_element_type();
		return Ok(DynTensor::new(&Allocator::default(), element, shape)?.into_dyn());
	}
	Ok(ort::value::Tensor::from_array((shape, values))?.into_dyn())
}

/// Zeros in memory that ONNX Runtime owns, so that it may also write there.
pub(crate) fn zeros<T: Number>(shape: &[usize]) -> Result<DynValue, EngineError> {
	let shape: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
	let mut tensor = ort::value::Tensor::<T>::new(&Allocator::default(), shape)?;
	tensor.extract_tensor_mut().1.fill(T::default());
	Ok(tensor.into_dyn())
}

/// A tensor of any size, as bytes that are laid out as the wire's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raw {
	pub(crate) datatype: DataType,
	pub(crate) shape: Vec<usize>,
	pub(crate) data: Vec<u8>,
}

impl Raw {
	pub(crate) fn of(value: &DynValue) -> Result<Self, EngineError> {
		let ty = value
			.dtype()
			.tensor_type()
			.ok_or_else(|| EngineError::Output("not a tensor".into()))?;
		let datatype = datatype(ty)?;
		let mut data = Vec::new();
		let shape = bytes(datatype, value, &mut data)?;
		Ok(Self {
			datatype,
			shape: shape.iter().map(|d| *d as usize).collect(),
			data,
		})
	}

	pub(crate) fn of_integers(shape: &[usize], values: &[i64]) -> Self {
		Self {
			datatype: DataType::Int64,
			shape: shape.to_vec(),
			data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
		}
	}

	/// As a tensor of ONNX Runtime.
	pub(crate) fn value(&self) -> Result<DynValue, EngineError> {
		value(self.datatype, &self.shape, &self.data)
	}
}

/// The wire's tensor as one of ONNX Runtime.
pub fn to_ort<const MAX: u32>(tensor: &Tensor<MAX>) -> Result<DynValue, EngineError> {
	tensor.validate().map_err(|e| {
		EngineError::Input(format!(
			"tensor {:?}: {e:?}",
			String::from_utf8_lossy(&tensor.name)
		))
	})?;
	let shape: Vec<usize> = tensor.shape.iter().map(|d| *d as usize).collect();
	value(tensor.datatype, &shape, &tensor.data)
}

/// A tensor of ONNX Runtime from the wire's bytes, which were checked to be as long as the shape says.
fn value(datatype: DataType, shape: &[usize], data: &[u8]) -> Result<DynValue, EngineError> {
	fn numbers<T: Element>(shape: &[usize], data: &[u8]) -> Result<DynValue, EngineError> {
		from_vec(
			shape,
			data.chunks_exact(std::mem::size_of::<T>())
				.map(T::read)
				.collect(),
		)
	}
	match datatype {
		DataType::Bool => numbers::<bool>(shape, data),
		DataType::Uint8 => numbers::<u8>(shape, data),
		DataType::Uint16 => numbers::<u16>(shape, data),
		DataType::Uint32 => numbers::<u32>(shape, data),
		DataType::Uint64 => numbers::<u64>(shape, data),
		DataType::Int8 => numbers::<i8>(shape, data),
		DataType::Int16 => numbers::<i16>(shape, data),
		DataType::Int32 => numbers::<i32>(shape, data),
		DataType::Int64 => numbers::<i64>(shape, data),
		DataType::Fp16 => numbers::<f16>(shape, data),
		DataType::Bf16 => numbers::<bf16>(shape, data),
		DataType::Fp32 => numbers::<f32>(shape, data),
		DataType::Fp64 => numbers::<f64>(shape, data),
		DataType::Bytes => {
			let strings = strings(data).map_err(|e| EngineError::Input(format!("{e:?}")))?;
			let strings: Vec<String> = strings.into_iter().map(str::to_owned).collect();
			Ok(ort::value::Tensor::from_string_array((shape.to_vec(), &strings[..]))?.into_dyn())
		}
		DataType::Int4 => four_bit(TensorElementType::Int4, shape, data),
		DataType::Uint4 => four_bit(TensorElementType::Uint4, shape, data),
	}
}

/// Four-bit integers, which Rust has no type for: ONNX Runtime packs two into a byte as the wire does.
fn four_bit(
	element: TensorElementType,
	shape: &[usize],
	data: &[u8],
) -> Result<DynValue, EngineError> {
	let shape: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
	let mut tensor = DynTensor::new(&Allocator::default(), element, shape)?;
	if !data.is_empty() {
		let to = tensor.data_ptr_mut().cast::<u8>();
		// SAFETY: the tensor is ours and on the CPU, where the default allocator allocates. It holds as many bytes as its shape
		// asks for at half a byte an element; `data` was checked to be as long.
		unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
	}
	Ok(tensor.into_dyn())
}

/// Shape and bytes of a tensor of four-bit integers.
fn from_four_bit(value: &DynValue, data: &mut Vec<u8>) -> Result<Vec<i64>, EngineError> {
	let tensor = value.view().downcast::<DynTensorValueType>()?;
	let shape = tensor.shape().to_vec();
	if !tensor.memory_info().is_cpu_accessible() {
		return Err(EngineError::Output(
			"four-bit integers are on a device".into(),
		));
	}
	let elements = shape.iter().map(|d| *d as usize).product::<usize>();
	if elements > 0 {
		let from = tensor.data_ptr().cast::<u8>();
		// SAFETY: the tensor lives as long as `value`, is on the CPU, and holds half a byte an element.
		data.extend_from_slice(unsafe { std::slice::from_raw_parts(from, elements.div_ceil(2)) });
		if elements % 2 == 1 {
			// The half byte after the last element may hold anything.
			if let Some(last) = data.last_mut() {
				*last &= 15;
			}
		}
	}
	Ok(shape)
}

/// Appends a tensor's elements as the wire has them. Gives the shape.
fn bytes(
	datatype: DataType,
	value: &DynValue,
	data: &mut Vec<u8>,
) -> Result<Vec<i64>, EngineError> {
	fn numbers<T: Element>(value: &DynValue, data: &mut Vec<u8>) -> Result<Vec<i64>, EngineError> {
		let (shape, values) = value.try_extract_tensor::<T>()?;
		values.iter().for_each(|v| v.write(data));
		Ok(shape.to_vec())
	}
	Ok(match datatype {
		DataType::Bool => numbers::<bool>(value, data)?,
		DataType::Uint8 => numbers::<u8>(value, data)?,
		DataType::Uint16 => numbers::<u16>(value, data)?,
		DataType::Uint32 => numbers::<u32>(value, data)?,
		DataType::Uint64 => numbers::<u64>(value, data)?,
		DataType::Int8 => numbers::<i8>(value, data)?,
		DataType::Int16 => numbers::<i16>(value, data)?,
		DataType::Int32 => numbers::<i32>(value, data)?,
		DataType::Int64 => numbers::<i64>(value, data)?,
		DataType::Fp16 => numbers::<f16>(value, data)?,
		DataType::Bf16 => numbers::<bf16>(value, data)?,
		DataType::Fp32 => numbers::<f32>(value, data)?,
		DataType::Fp64 => numbers::<f64>(value, data)?,
		DataType::Bytes => {
			let (shape, strings) = value.try_extract_strings()?;
			for s in strings {
				data.extend_from_slice(&(s.len() as u32).to_le_bytes());
				data.extend_from_slice(s.as_bytes());
			}
			shape.to_vec()
		}
		DataType::Int4 | DataType::Uint4 => from_four_bit(value, data)?,
	})
}

/// A tensor of ONNX Runtime as one of the wire. What the wire cannot carry makes its input unanswerable.
pub fn from_ort(name: &str, value: &DynValue) -> Result<Tensor, EngineError> {
	let wrong = |what: String| EngineError::Output(format!("{name:?}: {what}"));
	let large = |what: String| {
		EngineError::Unanswerable(Unanswerable::OutputTooLarge, format!("{name:?}: {what}"))
	};
	let ty = value
		.dtype()
		.tensor_type()
		.ok_or_else(|| wrong("not a tensor".into()))?;
	// A graph may give gigabytes: not copied to find out that they are too many.
	if let ValueType::Tensor { shape, .. } = value.dtype() {
		let elements = shape
			.iter()
			.try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
		// No element is smaller than half a byte.
		if elements.is_none_or(|n| n > u64::from(MAX_TENSOR_BYTES) * 2) {
			return Err(large(format!(
				"{shape:?} elements are more than the {MAX_TENSOR_BYTES} bytes that the chain carries"
			)));
		}
	}
	let mut data = Vec::new();
	let shape = bytes(datatype(ty)?, value, &mut data)?;
	Ok(Tensor {
		name: name
			.as_bytes()
			.to_vec()
			.try_into()
			.map_err(|_| wrong("the name is longer than 64 bytes".into()))?,
		datatype: datatype(ty)?,
		shape: shape
			.iter()
			.map(|d| u32::try_from(*d))
			.collect::<Result<Vec<_>, _>>()
			.map_err(|_| large(format!("{shape:?} has a dimension beyond 32 bits")))?
			.try_into()
			.map_err(|_| large("more than 8 dimensions".into()))?,
		data: data.try_into().map_err(|d: Vec<u8>| {
			large(format!(
				"{} bytes are more than the {MAX_TENSOR_BYTES} that the chain carries",
				d.len()
			))
		})?,
	})
}

/// The first rows of a tensor on the CPU, as a tensor of this shape over the same memory.
pub(crate) fn first_rows<'t, T: Number>(
	tensor: &'t mut DynValue,
	shape: &[usize],
) -> Result<TensorRefMut<'t, T>, EngineError> {
	let (_, data) = tensor.try_extract_tensor_mut::<T>()?;
	if shape.iter().product::<usize>() > data.len() {
		return Err(EngineError::Run(format!(
			"{shape:?} is more than the {} numbers there are",
			data.len()
		)));
	}
	let shape = Shape::new(shape.iter().map(|d| *d as i64));
	// SAFETY: the memory is on the CPU, or there would be no slice of it; it holds at least what the shape says, and lives as
	// long as the tensor that is borrowed.
	Ok(unsafe { TensorRefMut::from_raw(MemoryInfo::default(), data.as_mut_ptr().cast(), shape) }?)
}

/// Shape and values of a float tensor of any width, as `f32`; copied only where they are of another.
pub(crate) fn with_floats<R>(
	value: &DynValue,
	see: impl FnOnce(&[i64], &[f32]) -> R,
) -> Result<R, EngineError> {
	Ok(match value.dtype().tensor_type() {
		Some(TensorElementType::Float32) => {
			let (shape, values) = value.try_extract_tensor::<f32>()?;
			see(shape, values)
		}
		Some(TensorElementType::Float16) => {
			let (shape, values) = value.try_extract_tensor::<f16>()?;
			see(
				shape,
				&values.iter().map(|x| x.to_f32()).collect::<Vec<_>>(),
			)
		}
		Some(TensorElementType::Bfloat16) => {
			let (shape, values) = value.try_extract_tensor::<bf16>()?;
			see(
				shape,
				&values.iter().map(|x| x.to_f32()).collect::<Vec<_>>(),
			)
		}
		other => {
			return Err(EngineError::Mismatch(format!(
				"an output of floats is {other:?}"
			)))
		}
	})
}

/// Values of a float tensor of any width, as `f32`.
pub(crate) fn floats(value: &DynValue) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
	with_floats(value, |shape, values| {
		(shape.iter().map(|d| *d as usize).collect(), values.to_vec())
	})
}
