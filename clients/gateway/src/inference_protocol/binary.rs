//! Elements of tensors as bytes: little-endian, strings with their length before them.

use half::{bf16, f16};
use serde_json::{Number, Value};

use crate::network::Tensor;

/// Reads elements. Says what is wrong with the bytes.
pub(super) fn decode(datatype: &str, bytes: &[u8]) -> Result<Vec<Value>, String> {
	macro_rules! numbers {
		($t:ty, $n:literal, $to:expr) => {{
			let (chunks, rest) = bytes.as_chunks::<$n>();
			if !rest.is_empty() {
				return Err(format!(
					"{} bytes are no whole number of {datatype}",
					bytes.len()
				));
			}
			chunks
				.iter()
				.map(|c| $to(<$t>::from_le_bytes(*c)))
				.collect()
		}};
	}
	let float = |v: f64| {
		Number::from_f64(v)
			.map(Value::Number)
			.ok_or_else(|| format!("{v} is not finite, and the chain takes what is"))
	};
	match datatype {
		"BOOL" => bytes
			.iter()
			.map(|b| match b {
				0 | 1 => Ok(Value::Bool(*b == 1)),
				b => Err(format!("byte {b} is no BOOL")),
			})
			.collect(),
		"UINT8" => numbers!(u8, 1, |v| Ok(Value::from(v))),
		"UINT16" => numbers!(u16, 2, |v| Ok(Value::from(v))),
		"UINT32" => numbers!(u32, 4, |v| Ok(Value::from(v))),
		"UINT64" => numbers!(u64, 8, |v| Ok(Value::from(v))),
		"INT8" => numbers!(i8, 1, |v| Ok(Value::from(v))),
		"INT16" => numbers!(i16, 2, |v| Ok(Value::from(v))),
		"INT32" => numbers!(i32, 4, |v| Ok(Value::from(v))),
		"INT64" => numbers!(i64, 8, |v| Ok(Value::from(v))),
		"FP16" => numbers!(f16, 2, |v: f16| float(v.to_f64())),
		"BF16" => numbers!(bf16, 2, |v: bf16| float(v.to_f64())),
		"FP32" => numbers!(f32, 4, |v: f32| float(v.into())),
		"FP64" => numbers!(f64, 8, float),
		"BYTES" => strings(bytes),
		other => Err(format!("{other:?} is no element type with binary data")),
	}
}

fn strings(mut bytes: &[u8]) -> Result<Vec<Value>, String> {
	let mut strings = Vec::new();
	while !bytes.is_empty() {
		let short = || "the bytes end within a string".to_owned();
		let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
		let length = u32::from_le_bytes(*length) as usize;
		let (text, rest) = rest.split_at_checked(length).ok_or_else(short)?;
		let text = std::str::from_utf8(text).map_err(|_| "a string is not UTF-8")?;
		strings.push(text.into());
		bytes = rest;
	}
	Ok(strings)
}

/// Writes elements; `None` where the type has no binary form, or an element is not of the type.
pub(super) fn encode(tensor: &Tensor) -> Option<Vec<u8>> {
	let mut bytes = Vec::new();
	for value in tensor.data.as_array()? {
		macro_rules! integer {
			($t:ty, $get:ident) => {
				bytes.extend(<$t>::try_from(value.$get()?).ok()?.to_le_bytes())
			};
		}
		// JSON says null of what is not a number.
		let float = || value.as_f64().or(value.is_null().then_some(f64::NAN));
		match tensor.datatype.as_str() {
			"BOOL" => bytes.push(value.as_bool()?.into()),
			"UINT8" => integer!(u8, as_u64),
			"UINT16" => integer!(u16, as_u64),
			"UINT32" => integer!(u32, as_u64),
			"UINT64" => integer!(u64, as_u64),
			"INT8" => integer!(i8, as_i64),
			"INT16" => integer!(i16, as_i64),
			"INT32" => integer!(i32, as_i64),
			"INT64" => integer!(i64, as_i64),
			"FP16" => bytes.extend(f16::from_f64(float()?).to_le_bytes()),
			"BF16" => bytes.extend(bf16::from_f64(float()?).to_le_bytes()),
			"FP32" => bytes.extend((float()? as f32).to_le_bytes()),
			"FP64" => bytes.extend(float()?.to_le_bytes()),
			"BYTES" => {
				let text = value.as_str()?;
				bytes.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
				bytes.extend(text.as_bytes());
			}
			_ => return None,
		}
	}
	Some(bytes)
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	#[test]
	fn every_type_comes_back() {
		for (datatype, data) in [
			("BOOL", json!([true, false])),
			("UINT8", json!([0, 255])),
			("UINT16", json!([0, 65_535])),
			("UINT32", json!([0, u32::MAX])),
			("UINT64", json!([0, u64::MAX])),
			("INT8", json!([-128, 127])),
			("INT16", json!([i16::MIN, 1])),
			("INT32", json!([i32::MIN, 1])),
			("INT64", json!([i64::MIN, 1])),
			("FP16", json!([0.5, -2.0])),
			("BF16", json!([0.5, -2.0])),
			("FP32", json!([0.5, f64::from(0.1f32)])),
			("FP64", json!([0.1, 1e300])),
			("BYTES", json!(["", "größer"])),
		] {
			let tensor = Tensor {
				name: "x".into(),
				shape: vec![2],
				datatype: datatype.into(),
				data: data.clone(),
			};
			let bytes = encode(&tensor).unwrap();
			assert_eq!(
				Value::from(decode(datatype, &bytes).unwrap()),
				data,
				"{datatype}"
			);
		}
	}

	#[test]
	fn wrong_bytes_are_refused() {
		for (datatype, bytes, says) in [
			("INT32", &[0u8; 5][..], "no whole number"),
			("BOOL", &[2], "is no BOOL"),
			("FP32", &f32::NAN.to_le_bytes(), "not finite"),
			("BYTES", &[1, 0, 0], "end within a string"),
			("BYTES", &[9, 0, 0, 0, 65], "end within a string"),
			("BYTES", &[1, 0, 0, 0, 255], "not UTF-8"),
			("INT4", &[0], "no element type"),
		] {
			let why = decode(datatype, bytes).unwrap_err();
			assert!(why.contains(says), "{datatype}: {why}");
		}
		assert_eq!(decode("FP32", &[]), Ok(vec![]));
	}
}
