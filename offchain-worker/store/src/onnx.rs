//! Just enough of ONNX's protocol buffers to find, in a graph that nobody has parsed yet, which files hold its weights.
//!
//! ONNX Runtime opens whatever an external tensor's `location` says. The store therefore looks first: every location must be a
//! file of the model. A file that ends in the middle of a field, or whose fields make no sense, is refused here.

use std::collections::BTreeSet;

/// Messages that may hold tensors, directly or further down.
#[derive(Clone, Copy)]
enum Message {
	Model,
	Graph,
	Node,
	Attribute,
	Tensor,
	SparseTensor,
	Function,
	Training,
	StringPair,
}

impl Message {
	/// The message in this field, if tensors may be in it. Numbers are those of `onnx.proto`.
	fn field(self, number: u64) -> Option<Message> {
		use Message::*;
		Some(match (self, number) {
			(Model, 7) => Graph,
			(Model, 20) => Training,
			(Model, 25) => Function,
			(Training, 1 | 2) => Graph,
			(Graph, 1) => Node,
			(Graph, 5) => Tensor,
			(Graph, 15) => SparseTensor,
			(Function, 7) => Node,
			(Function, 11) => Attribute,
			(Node, 5) => Attribute,
			(Attribute, 5 | 10) => Tensor,
			(Attribute, 6 | 11) => Graph,
			(Attribute, 22 | 23) => SparseTensor,
			(SparseTensor, 1 | 2) => Tensor,
			(Tensor, 13) => StringPair,
			_ => return None,
		})
	}
}

/// Bytes four to eight of a graph in ONNX Runtime's own format.
const ORT_FORMAT: &[u8] = b"ORTM";
/// What a `location` begins with that is no file but an address in ONNX Runtime's memory. A model's file could have that name.
const MEMORY: &str = "*/_ORT_";
/// Deepest nesting of subgraphs that is followed.
const MAX_DEPTH: u32 = 64;

/// Files that the external tensors of a serialized ONNX model name, as they are written. Fails on what is no ONNX model.
pub(crate) fn external_files(model: &[u8]) -> Result<BTreeSet<String>, String> {
	if model.get(4..8) == Some(ORT_FORMAT) {
		return Err(
			"a graph in ONNX Runtime's own format (.ort): give the .onnx file that it was made of"
				.into(),
		);
	}
	let mut scan = Scan::default();
	scan.message(model, Message::Model, 0)?;
	if !scan.has_graph {
		return Err("not an ONNX model: it holds no graph".into());
	}
	Ok(scan.files)
}

#[derive(Default)]
struct Scan {
	files: BTreeSet<String>,
	has_graph: bool,
}

impl Scan {
	fn message(&mut self, mut bytes: &[u8], kind: Message, depth: u32) -> Result<(), String> {
		if depth > MAX_DEPTH {
			return Err("broken ONNX: graphs are nested too deeply".into());
		}
		let (mut key, mut value) = (None, None);
		while !bytes.is_empty() {
			let tag = varint(&mut bytes)?;
			let number = tag >> 3;
			let payload = match tag & 7 {
				0 => {
					varint(&mut bytes)?;
					continue;
				}
				1 => take(&mut bytes, 8)?,
				2 => {
					let length = varint(&mut bytes)?;
					take(&mut bytes, length)?
				}
				5 => take(&mut bytes, 4)?,
				other => return Err(format!("broken ONNX: no field has wire type {other}")),
			};
			if tag & 7 != 2 {
				continue;
			}
			if let (Message::StringPair, 1 | 2) = (kind, number) {
				let text = std::str::from_utf8(payload)
					.map_err(|_| "broken ONNX: an external tensor's entry is not UTF-8")?;
				*(if number == 1 { &mut key } else { &mut value }) = Some(text);
			}
			if let Some(inner) = kind.field(number) {
				self.has_graph |= matches!((kind, inner), (Message::Model, Message::Graph));
				self.message(payload, inner, depth + 1)?;
			}
		}
		if key == Some("location") {
			if let Some(marker) = value.filter(|v| v.starts_with(MEMORY)) {
				return Err(format!(
					"its weights are said to be in ONNX Runtime's memory ({marker:?}): such a file was made to read what is there"
				));
			}
			self.files.insert(value.unwrap_or_default().into());
		}
		Ok(())
	}
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
	let mut value = 0u64;
	for shift in (0..64).step_by(7) {
		let (first, rest) = bytes
			.split_first()
			.ok_or("broken ONNX: it ends in the middle of a number")?;
		*bytes = rest;
		value |= u64::from(first & 127) << shift;
		if first & 128 == 0 {
			return Ok(value);
		}
	}
	Err("broken ONNX: a number is longer than 64 bits".into())
}

fn take<'b>(bytes: &mut &'b [u8], length: u64) -> Result<&'b [u8], String> {
	let length = usize::try_from(length).unwrap_or(usize::MAX);
	let (payload, rest) = bytes.split_at_checked(length).ok_or_else(|| {
		format!(
			"broken ONNX: a field of {length} bytes where {} are left",
			bytes.len()
		)
	})?;
	*bytes = rest;
	Ok(payload)
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	fn field(number: u8, payload: &[u8]) -> Vec<u8> {
		let mut out = vec![number << 3 | 2, payload.len() as u8];
		out.extend(payload);
		out
	}

	fn model() -> Vec<u8> {
		let pair = [field(1, b"location"), field(2, b"weights.bin")].concat();
		let tensor = field(13, &pair);
		// In a graph's initializers, and in the attribute of a node.
		let attribute = field(
			5,
			&field(13, &[field(1, b"location"), field(2, b"a/b")].concat()),
		);
		let graph = [field(5, &tensor), field(1, &field(5, &attribute))].concat();
		[vec![8, 8], field(7, &graph)].concat()
	}

	#[test]
	fn finds_external_files_at_every_depth() {
		let files = external_files(&model()).unwrap();
		assert_eq!(
			files.into_iter().collect::<Vec<_>>(),
			["a/b", "weights.bin"]
		);
	}

	#[test]
	fn refuses_addresses_for_files_and_other_formats() {
		let pair = [field(1, b"location"), field(2, b"*/_ORT_MEM_ADDR_/*")].concat();
		let hostile = field(7, &field(5, &field(13, &pair)));
		assert!(external_files(&hostile).unwrap_err().contains("memory"));
		let ort = [&[8, 0, 0, 0][..], b"ORTM", &[0; 16]].concat();
		assert!(external_files(&ort).unwrap_err().contains("own format"));
	}

	#[test]
	fn refuses_what_is_cut_short_or_no_model() {
		let model = model();
		assert!(external_files(&model[..model.len() - 1])
			.unwrap_err()
			.contains("broken"));
		assert!(external_files(b"").unwrap_err().contains("no graph"));
		assert!(external_files(b"<html>").unwrap_err().contains("broken"));
	}

	proptest! {
		#[test]
		fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
			let _ = external_files(&bytes);
		}
	}
}
