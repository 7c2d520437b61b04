//! Reads the GGUF format, versions 2 and 3, little-endian: keys with values, and tensors.
//!
//! The file is a stranger's. Whatever it says of itself is checked before it is believed: lengths against what is left of the
//! file, counts against bounds, places of tensors against the file's end.

use std::{
	collections::HashMap,
	io::{Read, Seek, SeekFrom},
};

use crate::dequantise::Kind;

/// Most keys, and most tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// Most bytes of a text.
const MAX_TEXT: u64 = 1 << 24;
/// Most elements of an array: several times the largest vocabulary.
const MAX_ARRAY: u64 = 1 << 22;
/// Most bytes of keys, values and descriptions of tensors.
const MAX_HEADER: u64 = 1 << 28;
/// Where tensors begin, if the file does not say.
const ALIGNMENT: u64 = 32;

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
	Unsigned(u64),
	Signed(i64),
	Float(f64),
	Bool(bool),
	Text(String),
	Numbers(Vec<i64>),
	Floats(Vec<f64>),
	Texts(Vec<String>),
}

/// A tensor's place and shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Info {
	/// Rows first: the format has it the other way round.
	pub(crate) shape: Vec<usize>,
	kind: Kind,
	start: u64,
	bytes: u64,
}

/// A file that was read up to its tensors.
pub(crate) struct Gguf<R> {
	reader: R,
	/// Keys and values.
	pub(crate) values: HashMap<String, Value>,
	/// Tensors by name.
	pub(crate) tensors: HashMap<String, Info>,
}

/// The header, and how many of its bytes may still be read.
struct Header<'r, R> {
	reader: &'r mut R,
	left: u64,
}

impl<R: Read> Header<'_, R> {
	fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
		self.left = (self.left.checked_sub(N as u64)).ok_or("the header does not end")?;
		let mut bytes = [0; N];
		self.reader
			.read_exact(&mut bytes)
			.map_err(|e| e.to_string())?;
		Ok(bytes)
	}

	fn u32(&mut self) -> Result<u32, String> {
		self.bytes().map(u32::from_le_bytes)
	}

	fn u64(&mut self) -> Result<u64, String> {
		self.bytes().map(u64::from_le_bytes)
	}

	fn text(&mut self) -> Result<String, String> {
		let length = self.u64()?;
		if length > MAX_TEXT || length > self.left {
			return Err(format!("a text of {length} bytes is too long"));
		}
		self.left -= length;
		let mut bytes = vec![0; length as usize];
		self.reader
			.read_exact(&mut bytes)
			.map_err(|e| e.to_string())?;
		String::from_utf8(bytes).map_err(|_| "a text is not UTF-8".into())
	}

	/// A value of a type that is no array.
	fn scalar(&mut self, kind: u32) -> Result<Value, String> {
		Ok(match kind {
			0 => Value::Unsigned(self.bytes::<1>()?[0].into()),
			1 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
			2 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
			3 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
			4 => Value::Unsigned(self.u32()?.into()),
			5 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
			6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
			7 => Value::Bool(self.bytes::<1>()?[0] != 0),
			8 => Value::Text(self.text()?),
			10 => Value::Unsigned(self.u64()?),
			11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
			12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
			other => return Err(format!("no value has type {other}")),
		})
	}

	fn array(&mut self) -> Result<Value, String> {
		let (kind, count) = (self.u32()?, self.u64()?);
		// Every element takes a byte at least, so that memory is bounded by the file.
		if count > MAX_ARRAY || count > self.left {
			return Err(format!("an array of {count} elements is too long"));
		}
		let scalars = (0..count).map(|_| self.scalar(kind));
		Ok(match kind {
			8 => Value::Texts(
				scalars
					.map(|value| match value? {
						Value::Text(text) => Ok(text),
						_ => Err("an array of texts holds something else".to_owned()),
					})
					.collect::<Result<_, _>>()?,
			),
			6 | 12 => Value::Floats(
				scalars
					.map(|value| match value? {
						Value::Float(value) => Ok(value),
						_ => Err("an array of floats holds something else".to_owned()),
					})
					.collect::<Result<_, _>>()?,
			),
			9 => return Err("an array of arrays has no use here".into()),
			_ => Value::Numbers(
				scalars
					.map(|value| match value? {
						Value::Unsigned(value) => {
							i64::try_from(value).map_err(|_| format!("{value} is too large"))
						}
						Value::Signed(value) => Ok(value),
						Value::Bool(value) => Ok(value.into()),
						_ => Err("an array of numbers holds something else".to_owned()),
					})
					.collect::<Result<_, _>>()?,
			),
		})
	}
}

impl<R: Read + Seek> Gguf<R> {
	/// Reads keys, values and the places of tensors.
	pub(crate) fn read(mut reader: R) -> Result<Self, String> {
		let length = reader.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
		reader.rewind().map_err(|e| e.to_string())?;
		let mut header = Header {
			reader: &mut reader,
			left: length.min(MAX_HEADER),
		};
		if header.bytes()? != *b"GGUF" {
			return Err("not a GGUF file".into());
		}
		match header.u32()? {
			2 | 3 => (),
			version if matches!(version.swap_bytes(), 1..=3) => {
				return Err("a big-endian GGUF file: take the little-endian one".into())
			}
			version => {
				return Err(format!(
					"GGUF version {version} is not 2 or 3, little-endian"
				))
			}
		}
		let (tensor_count, value_count) = (header.u64()?, header.u64()?);
		if tensor_count > MAX_ENTRIES || value_count > MAX_ENTRIES {
			return Err(format!(
				"{tensor_count} tensors and {value_count} keys are too many"
			));
		}
		let mut values = HashMap::new();
		for _ in 0..value_count {
			let key = header.text()?;
			let kind = header.u32()?;
			let value = match kind {
				9 => header.array(),
				kind => header.scalar(kind),
			}
			.map_err(|why| format!("{key}: {why}"))?;
			if values.insert(key.clone(), value).is_some() {
				return Err(format!("{key} is there twice"));
			}
		}
		let mut places = Vec::new();
		for _ in 0..tensor_count {
			let name = header.text()?;
			let place =
				Self::place(&mut header).map_err(|why| format!("tensor {name:?}: {why}"))?;
			places.push((name, place));
		}
		let alignment = match values.get("general.alignment") {
			Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n,
			Some(_) => return Err("general.alignment is not a power of two".into()),
			None => ALIGNMENT,
		};
		let header_end = length.min(MAX_HEADER) - header.left;
		let start = header_end.next_multiple_of(alignment);
		let mut tensors = HashMap::new();
		for (name, mut info) in places {
			let end = (info.start.checked_add(start)).and_then(|s| s.checked_add(info.bytes));
			if end.is_none_or(|end| end > length) {
				return Err(format!(
					"tensor {name:?} is beyond the file's end: is it cut off?"
				));
			}
			info.start += start;
			if tensors.insert(name.clone(), info).is_some() {
				return Err(format!("tensor {name:?} is there twice"));
			}
		}
		Ok(Self {
			reader,
			values,
			tensors,
		})
	}

	/// A tensor's description; its start counts from the first.
	fn place(header: &mut Header<R>) -> Result<Info, String> {
		let rank = header.u32()?;
		if rank == 0 || rank > 4 {
			return Err(format!("{rank} dimensions"));
		}
		let mut shape = (0..rank)
			.map(|_| header.u64().map(|n| n as usize))
			.collect::<Result<Vec<_>, _>>()?;
		let kind = Kind::from_number(header.u32()?)?;
		let (elements, size) = kind.block();
		if !shape[0].is_multiple_of(elements) {
			return Err(format!(
				"rows of {} are not whole blocks of {elements}",
				shape[0]
			));
		}
		let bytes = (shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)))
			.and_then(|n| (n / elements).checked_mul(size))
			.ok_or_else(|| format!("{shape:?} is too large"))?;
		shape.reverse();
		Ok(Info {
			shape,
			kind,
			start: header.u64()?,
			bytes: bytes as u64,
		})
	}

	/// A tensor's values.
	pub(crate) fn tensor(&mut self, name: &str) -> Result<Vec<f32>, String> {
		let info = self.tensors.get(name).ok_or("it is missing")?;
		let place = SeekFrom::Start(info.start);
		self.reader.seek(place).map_err(|e| e.to_string())?;
		// No longer than the file: that was checked when its place was read.
		let mut bytes = vec![0; info.bytes as usize];
		self.reader
			.read_exact(&mut bytes)
			.map_err(|e| e.to_string())?;
		Ok(info.kind.values(&bytes))
	}

	/// A text.
	pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, String> {
		match self.values.get(key) {
			Some(Value::Text(text)) => Ok(Some(text)),
			Some(_) => Err(format!("{key} is no text")),
			None => Ok(None),
		}
	}

	/// A number of things.
	pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, String> {
		let value = match self.values.get(key) {
			Some(Value::Unsigned(n)) => usize::try_from(*n).ok(),
			Some(Value::Signed(n)) => usize::try_from(*n).ok(),
			Some(_) => None,
			None => return Ok(None),
		};
		value.map(Some).ok_or_else(|| format!("{key} is no count"))
	}

	/// A number with a fraction.
	pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, String> {
		match self.values.get(key) {
			Some(Value::Float(value)) => Ok(Some(*value)),
			Some(_) => Err(format!("{key} is no float")),
			None => Ok(None),
		}
	}

	/// Whether something is so.
	pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
		match self.values.get(key) {
			Some(Value::Bool(value)) => Ok(Some(*value)),
			Some(_) => Err(format!("{key} is neither true nor false")),
			None => Ok(None),
		}
	}

	/// Texts.
	pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>, String> {
		match self.values.get(key) {
			Some(Value::Texts(texts)) => Ok(Some(texts)),
			Some(_) => Err(format!("{key} is no array of texts")),
			None => Ok(None),
		}
	}
}
