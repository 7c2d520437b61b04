//! Tensors in the Open Inference Protocol v2's JSON: `{"name", "shape", "datatype", "data": […]}`.
//!
//! `data` is flat or nested, row-major. What JSON cannot say of floats (`NaN`, infinities) is written as `null`, and refused on
//! the way in.

use consilience_primitives::tensor::{DataType, Tensor, TensorError, MAX_DATA};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// A tensor as the protocol writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonTensor {
	/// Name of the graph's input or output.
	pub name: String,
	/// Length of each dimension; empty for a scalar.
	pub shape: Vec<u32>,
	/// Element type.
	pub datatype: DataType,
	/// Elements: numbers, booleans or strings.
	pub data: Value,
}

/// The chain's tensor. Says which element is wrong and why.
pub fn to_tensor(json: &JsonTensor) -> Result<Tensor<MAX_DATA>, String> {
	let wrong = |why: String| format!("tensor {:?}: {why}", json.name);
	let mut elements = Vec::new();
	flatten(&json.data, &mut elements);
	let mut data = Vec::new();
	for (i, value) in elements.iter().enumerate() {
		write(json.datatype, value, i, &mut data).ok_or_else(|| {
			wrong(format!(
				"element {i} is {value}, which is no {}",
				json.datatype.name()
			))
		})?;
	}
	let bytes = data.len();
	let tensor = Tensor {
		name: json
			.name
			.as_bytes()
			.to_vec()
			.try_into()
			.map_err(|_| wrong("the name is longer than 64 bytes".into()))?,
		datatype: json.datatype,
		shape: json
			.shape
			.clone()
			.try_into()
			.map_err(|_| wrong("more than 8 dimensions".into()))?,
		data: data
			.try_into()
			.map_err(|_| wrong(format!("{bytes} bytes of data are more than {MAX_DATA}")))?,
	};
	// Two four-bit elements share a byte, so that the length alone does not show one too few.
	let count = tensor
		.elements()
		.map_err(|_| wrong("more than 2^32 elements".into()))?;
	if count as usize != elements.len() {
		return Err(wrong(format!(
			"shape {:?} asks for {count} elements, data has {}",
			json.shape,
			elements.len()
		)));
	}
	tensor.validate().map_err(|e| wrong(format!("{e:?}")))?;
	Ok(tensor)
}

fn flatten<'v>(value: &'v Value, to: &mut Vec<&'v Value>) {
	match value {
		Value::Array(values) => values.iter().for_each(|v| flatten(v, to)),
		value => to.push(value),
	}
}

/// Appends an element; `None` where the value is none of the type.
fn write(datatype: DataType, value: &Value, index: usize, to: &mut Vec<u8>) -> Option<()> {
	use DataType::*;
	macro_rules! integer {
		($t:ty, $get:ident) => {
			to.extend(<$t>::try_from(value.$get()?).ok()?.to_le_bytes())
		};
	}
	match datatype {
		Bool => to.push(value.as_bool()?.into()),
		Uint8 => integer!(u8, as_u64),
		Uint16 => integer!(u16, as_u64),
		Uint32 => integer!(u32, as_u64),
		Uint64 => integer!(u64, as_u64),
		Int8 => integer!(i8, as_i64),
		Int16 => integer!(i16, as_i64),
		Int32 => integer!(i32, as_i64),
		Int64 => integer!(i64, as_i64),
		Fp16 => to.extend(f16::from_f64(value.as_f64()?).to_le_bytes()),
		Bf16 => to.extend(bf16::from_f64(value.as_f64()?).to_le_bytes()),
		Fp32 => to.extend((value.as_f64()? as f32).to_le_bytes()),
		Fp64 => to.extend(value.as_f64()?.to_le_bytes()),
		Bytes => {
			let text = value.as_str()?;
			to.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
			to.extend(text.as_bytes());
		}
		Int4 | Uint4 => {
			let range = if datatype == Int4 { -8..=7 } else { 0..=15 };
			let number = value.as_i64().filter(|n| range.contains(n))?;
			let nibble = (number & 15) as u8;
			if index.is_multiple_of(2) {
				to.push(nibble);
			} else {
				*to.last_mut()? |= nibble << 4;
			}
		}
	}
	Some(())
}

/// The protocol's JSON for a tensor; `data` is flat.
pub fn from_tensor<const MAX: u32>(tensor: &Tensor<MAX>) -> Result<JsonTensor, TensorError> {
	use DataType::*;
	tensor.validate()?;
	macro_rules! numbers {
		($t:ty, $n:literal, $to:expr) => {
			tensor
				.data
				.chunks_exact($n)
				.map(|c| {
					let mut word = [0u8; $n];
					word.copy_from_slice(c);
					$to(<$t>::from_le_bytes(word))
				})
				.collect()
		};
	}
	let float = |v: f64| Number::from_f64(v).map_or(Value::Null, Value::Number);
	let data: Vec<Value> = match tensor.datatype {
		Bool => tensor.data.iter().map(|b| Value::Bool(*b == 1)).collect(),
		Uint8 => numbers!(u8, 1, Value::from),
		Uint16 => numbers!(u16, 2, Value::from),
		Uint32 => numbers!(u32, 4, Value::from),
		Uint64 => numbers!(u64, 8, Value::from),
		Int8 => numbers!(i8, 1, Value::from),
		Int16 => numbers!(i16, 2, Value::from),
		Int32 => numbers!(i32, 4, Value::from),
		Int64 => numbers!(i64, 8, Value::from),
		Fp16 => numbers!(f16, 2, |v: f16| float(v.to_f64())),
		Bf16 => numbers!(bf16, 2, |v: bf16| float(v.to_f64())),
		Fp32 => numbers!(f32, 4, |v: f32| float(v.into())),
		Fp64 => numbers!(f64, 8, float),
		Bytes => tensor.strings()?.into_iter().map(Value::from).collect(),
		Int4 | Uint4 => (0..tensor.elements()? as usize)
			.map(|i| {
				let nibble = (tensor.data[i / 2] >> (i % 2 * 4)) & 15;
				match tensor.datatype {
					Int4 if nibble > 7 => Value::from(i16::from(nibble) - 16),
					_ => Value::from(nibble),
				}
			})
			.collect(),
	};
	Ok(JsonTensor {
		name: String::from_utf8_lossy(&tensor.name).into_owned(),
		shape: tensor.shape.to_vec(),
		datatype: tensor.datatype,
		data: Value::Array(data),
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn tensor(datatype: DataType, shape: &[u32], data: Value) -> Result<Tensor<MAX_DATA>, String> {
		to_tensor(&JsonTensor {
			name: "x".into(),
			shape: shape.to_vec(),
			datatype,
			data,
		})
	}

	#[test]
	fn every_type_comes_back() {
		use DataType::*;
		for (datatype, data) in [
			(Bool, json!([true, false, true])),
			(Uint8, json!([0, 7, 255])),
			(Uint16, json!([0, 7, 65_535])),
			(Uint32, json!([0, 7, u32::MAX])),
			(Uint64, json!([0, 7, u64::MAX])),
			(Int8, json!([-128, 7, 127])),
			(Int16, json!([i16::MIN, 7, 1])),
			(Int32, json!([i32::MIN, 7, 1])),
			(Int64, json!([i64::MIN, 7, 1])),
			(Fp16, json!([0.5, -2.0, 1024.0])),
			(Bf16, json!([0.5, -2.0, 1024.0])),
			(Fp32, json!([0.5, -2.0, f64::from(1e30f32)])),
			(Fp64, json!([0.1, -2.0, 1e300])),
			(Bytes, json!(["", "größer", "x"])),
			(Int4, json!([-8, 7, -1])),
			(Uint4, json!([15, 0, 9])),
		] {
			let tensor = tensor(datatype, &[3, 1], data.clone()).unwrap();
			assert_eq!(from_tensor(&tensor).unwrap().data, data, "{datatype:?}");
		}
	}

	#[test]
	fn nested_data_is_flat_data() {
		let nested = tensor(DataType::Int32, &[2, 2], json!([[1, 2], [3, 4]])).unwrap();
		assert_eq!(
			nested,
			tensor(DataType::Int32, &[2, 2], json!([1, 2, 3, 4])).unwrap()
		);
	}

	#[test]
	fn says_what_is_wrong() {
		for (datatype, shape, data, part) in [
			(DataType::Int8, vec![2], json!([1, 128]), "element 1 is 128"),
			(DataType::Fp32, vec![1], json!([null]), "element 0 is null"),
			(
				DataType::Uint4,
				vec![3],
				json!([1, 2, 3, 4]),
				"asks for 3 elements, data has 4",
			),
			(DataType::Bytes, vec![1], json!([1]), "no BYTES"),
			(DataType::Int32, vec![1; 9], json!([1]), "8 dimensions"),
		] {
			let error = tensor(datatype, &shape, data).unwrap_err();
			assert!(error.contains(part), "{error}");
		}
	}
}
