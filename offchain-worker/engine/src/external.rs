//! Checks which other files, or addresses, a graph's file would have ONNX Runtime read, before ONNX Runtime opens it.
//!
//! A tensor's data may stand in another file, and ONNX Runtime takes whatever its `location` says. One name in there is no file
//! at all but an address in this process's memory, which is how the library itself passes tensors between its parts. And a file
//! in ONNX Runtime's own format is no protocol buffer: its loader believes every offset in it.

use std::{
	collections::BTreeSet,
	fs::{self, File},
	io::{BufReader, Cursor, ErrorKind, Read, Seek},
	path::{Component, Path},
};

use consilience_files::may_follow;

use crate::EngineError;

/// Bytes four to eight of a file in ONNX Runtime's own format.
const ORT_FORMAT: &[u8] = b"ORTM";
/// The ends of its names.
const ORT_EXTENSION: &str = "ort";
/// Prefix of names that stand for memory instead of a file, such as `*/_ORT_MEM_ADDR_/*`.
const MARKER: &str = "*/_ORT_";
/// Deepest nesting of subgraphs that is followed.
const MAX_DEPTH: u32 = 64;
/// Most files of a graph, and most bytes of a name.
const MAX_FILES: usize = 1_024;
const MAX_NAME: u64 = 4_096;

/// Checks that a graph's file is ONNX and has its data in itself and in files of its folder.
pub(crate) fn check(graph: &Path) -> Result<(), EngineError> {
	let refuse = |why: String| EngineError::load(graph, why);
	let file = File::open(graph).map_err(|e| refuse(e.to_string()))?;
	let size = file.metadata().map_err(|e| refuse(e.to_string()))?.len();
	let ort = graph
		.extension()
		.is_some_and(|e| e.eq_ignore_ascii_case(ORT_EXTENSION));
	check_read(graph, BufReader::new(file), size, ort)
}

/// Checks the same of a graph in memory, whose data are where those of the file at `graph` are.
pub(crate) fn check_bytes(graph: &Path, bytes: &[u8]) -> Result<(), EngineError> {
	let size = bytes.len() as u64;
	check_read(graph, BufReader::new(Cursor::new(bytes)), size, false)
}

fn check_read(
	graph: &Path,
	mut from: BufReader<impl Read + Seek>,
	size: u64,
	named_ort: bool,
) -> Result<(), EngineError> {
	let refuse = |why: String| EngineError::load(graph, why);
	let locations = locations(&mut from, size, named_ort).map_err(refuse)?;
	let folder = graph.parent().unwrap_or(Path::new(""));
	for location in locations {
		within(folder, &location)
			.map_err(|why| refuse(format!("its weights are in {location:?}: {why}")))?;
	}
	Ok(())
}

/// Checks that a name in a graph is that of a file in its folder, or where the hub's cache keeps it, if it is there: what is not
/// is ONNX Runtime's to say.
fn within(folder: &Path, location: &str) -> Result<(), String> {
	let plain = |c| matches!(c, Component::Normal(_) | Component::CurDir);
	if location.is_empty() || !Path::new(location).components().all(plain) {
		return Err("names of files are relative and without '..'".into());
	}
	let folder = if folder.as_os_str().is_empty() {
		Path::new(".")
	} else {
		folder
	};
	let real = |path: &Path| match fs::canonicalize(path) {
		Ok(path) => Ok(Some(path)),
		Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
		Err(e) => Err(e.to_string()),
	};
	let path = folder.join(location);
	match (real(folder)?, real(&path)?) {
		(Some(folder), Some(file)) if !may_follow(&folder, &file) => {
			Err("a link that leads out of the model's folder".into())
		}
		// A sandboxed process may not see the link's target at all.
		(_, None) if path.is_symlink() => Err("a link that leads to nothing".into()),
		_ => Ok(()),
	}
}

/// Files that the external tensors of a serialized ONNX model name, as they are written.
fn locations(
	from: &mut BufReader<impl Read + Seek>,
	size: u64,
	named_ort: bool,
) -> Result<BTreeSet<String>, String> {
	let mut begin = [0u8; 8];
	let ort = size >= 8 && {
		from.read_exact(&mut begin).map_err(|e| e.to_string())?;
		from.rewind().map_err(|e| e.to_string())?;
		&begin[4..] == ORT_FORMAT
	};
	if ort || named_ort {
		return Err(
			"a graph in ONNX Runtime's own format (.ort), which is not taken: its loader trusts the file. Give the .onnx file \
			 that it was made of"
				.into(),
		);
	}
	let mut scan = Scan {
		from,
		at: 0,
		files: BTreeSet::new(),
	};
	scan.message(size, Message::Model, 0)?;
	Ok(scan.files)
}

/// Messages of `onnx.proto` that may hold tensors, directly or further down.
#[derive(Clone, Copy, PartialEq)]
enum Message {
	Model,
	Graph,
	Node,
	Attribute,
	Tensor,
	SparseTensor,
	Function,
	Training,
	Entry,
}

impl Message {
	/// The message in this field, if tensors may be in it.
	fn field(self, number: u64) -> Option<Self> {
		Some(match (self, number) {
			(Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
			(Self::Model, 20) => Self::Training,
			(Self::Model, 25) => Self::Function,
			(Self::Graph, 1) | (Self::Function, 7) => Self::Node,
			(Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
				Self::Tensor
			}
			(Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
			(Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
			(Self::Tensor, 13) => Self::Entry,
			_ => return None,
		})
	}
}

/// Reads a file from front to end, and skips what tensors are made of.
struct Scan<'r, R> {
	from: &'r mut BufReader<R>,
	at: u64,
	files: BTreeSet<String>,
}

fn broken(why: impl std::fmt::Display) -> String {
	format!("broken ONNX: {why}")
}

impl<R: Read + Seek> Scan<'_, R> {
	fn message(&mut self, end: u64, kind: Message, depth: u32) -> Result<(), String> {
		if depth > MAX_DEPTH {
			return Err(broken("graphs are nested too deeply"));
		}
		let (mut key, mut value) = (String::new(), String::new());
		while self.at < end {
			let tag = self.varint(end)?;
			let number = tag >> 3;
			let length = match tag & 7 {
				0 => {
					self.varint(end)?;
					continue;
				}
				1 => 8,
				2 => self.varint(end)?,
				5 => 4,
				other => return Err(broken(format!("no field has wire type {other}"))),
			};
			let left = end - self.at;
			if length > left {
				return Err(broken(format!(
					"a field of {length} bytes where {left} are left"
				)));
			}
			let inner = kind.field(number).filter(|_| tag & 7 == 2);
			match (kind, number, inner) {
				(_, _, Some(inner)) => self.message(self.at + length, inner, depth + 1)?,
				(Message::Entry, 1, _) if tag & 7 == 2 => key = self.text(length)?,
				(Message::Entry, 2, _) if tag & 7 == 2 => value = self.text(length)?,
				_ => self.skip(length)?,
			}
		}
		if kind == Message::Entry && key == "location" {
			if value.starts_with(MARKER) {
				return Err(format!(
					"its weights are said to be in this process's memory ({value:?}), and only a program says so of its own: \
					 the file was made to read what is there"
				));
			}
			if self.files.insert(value) && self.files.len() > MAX_FILES {
				return Err(format!("its weights are in more than {MAX_FILES} files"));
			}
		}
		Ok(())
	}

	fn varint(&mut self, end: u64) -> Result<u64, String> {
		let mut value = 0u64;
		for shift in (0..64).step_by(7) {
			if self.at >= end {
				return Err(broken("it ends in the middle of a number"));
			}
			let mut byte = [0u8];
			self.from.read_exact(&mut byte).map_err(broken)?;
			self.at += 1;
			value |= u64::from(byte[0] & 127) << shift;
			if byte[0] & 128 == 0 {
				return Ok(value);
			}
		}
		Err(broken("a number is longer than 64 bits"))
	}

	fn text(&mut self, length: u64) -> Result<String, String> {
		if length > MAX_NAME {
			return Err(broken(format!(
				"an entry of an external tensor has {length} bytes"
			)));
		}
		let mut bytes = vec![0u8; length as usize];
		self.from.read_exact(&mut bytes).map_err(broken)?;
		self.at += length;
		String::from_utf8(bytes).map_err(|_| broken("an external tensor's entry is not UTF-8"))
	}

	fn skip(&mut self, length: u64) -> Result<(), String> {
		let signed = i64::try_from(length).map_err(broken)?;
		// A relative seek within the buffer reads nothing again.
		self.from.seek_relative(signed).map_err(broken)?;
		self.at += length;
		Ok(())
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;
	use std::io;

	fn field(number: u8, payload: &[u8]) -> Vec<u8> {
		let mut out = vec![number << 3 | 2, payload.len() as u8];
		out.extend(payload);
		out
	}

	/// A tensor whose data are there.
	fn tensor(location: &str) -> Vec<u8> {
		let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
		field(13, &entry)
	}

	/// A graph with two of them: an initializer, and one in an attribute of a node in a subgraph.
	fn model(outer: &str, inner: &str) -> Vec<u8> {
		let constant = field(1, &field(5, &field(5, &tensor(inner))));
		let branch = field(1, &field(5, &field(6, &constant)));
		let graph = [field(5, &tensor(outer)), branch].concat();
		[vec![8, 8], field(7, &graph)].concat()
	}

	fn refused(bytes: &[u8], name: &str) -> Option<String> {
		let folder = tempfile::tempdir().unwrap();
		let outside = tempfile::NamedTempFile::new().unwrap();
		let graph = folder.path().join("graphs").join(name);
		fs::create_dir(graph.parent().unwrap()).unwrap();
		fs::write(&graph, bytes).unwrap();
		fs::write(graph.with_file_name("weights.bin"), [0; 16]).unwrap();
		std::os::unix::fs::symlink("weights.bin", graph.with_file_name("near")).unwrap();
		std::os::unix::fs::symlink(outside.path(), graph.with_file_name("far")).unwrap();
		std::os::unix::fs::symlink("..", graph.with_file_name("up")).unwrap();
		std::os::unix::fs::symlink("/nowhere", graph.with_file_name("lost")).unwrap();
		let why = check(&graph).err()?.to_string();
		assert!(why.contains(name), "{why}");
		Some(why)
	}

	#[test]
	fn weights_are_in_the_folder_of_the_graph() {
		for good in ["weights.bin", "./weights.bin", "near", "not_there"] {
			assert_eq!(
				refused(&model("weights.bin", good), "g.onnx"),
				None,
				"{good}"
			);
		}
		for (bad, why) in [
			("../weights.bin", "'..'"),
			("/etc/hostname", "'..'"),
			("", "'..'"),
			("far", "leads out"),
			("up", "leads out"),
			("lost", "leads to nothing"),
			("*/_ORT_MEM_ADDR_/*", "process's memory"),
			("*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", "process's memory"),
		] {
			for bytes in [model("weights.bin", bad), model(bad, "weights.bin")] {
				let said = refused(&bytes, "g.onnx").unwrap_or_default();
				assert!(said.contains(why), "{bad}: {said}");
			}
		}
	}

	#[test]
	fn the_hub_s_cache_keeps_weights_beside_the_folder() {
		let place = tempfile::tempdir().unwrap();
		let cache = place.path().join("models--a--b");
		let graph = cache.join("snapshots/0123/onnx/model.onnx");
		fs::create_dir_all(graph.parent().unwrap()).unwrap();
		fs::create_dir(cache.join("blobs")).unwrap();
		let bytes = model("weights.bin", "weights.bin");
		for (file, bytes) in [("model.onnx", &bytes[..]), ("weights.bin", &[0; 16])] {
			let blob = cache.join("blobs").join(file);
			fs::write(&blob, bytes).unwrap();
			std::os::unix::fs::symlink(&blob, graph.with_file_name(file)).unwrap();
		}
		check(&graph).unwrap();
		check_bytes(&graph, &bytes).unwrap();
		let why = check_bytes(&graph, &model("weights.bin", "/etc/hostname"))
			.unwrap_err()
			.to_string();
		assert!(why.contains("'..'"), "{why}");
	}

	#[test]
	fn other_formats_are_named() {
		let ort = [&[8, 0, 0, 0][..], b"ORTM", &[0; 16]].concat();
		for (bytes, name) in [(&ort[..], "g.onnx"), (&model("near", "near"), "g.ORT")] {
			let why = refused(bytes, name).unwrap();
			assert!(why.contains("own format"), "{why}");
		}
		let whole = model("weights.bin", "weights.bin");
		let why = refused(&whole[..whole.len() - 1], "g.onnx").unwrap();
		assert!(why.contains("broken ONNX"), "{why}");
	}

	proptest! {
		#[test]
		fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
			let size = bytes.len() as u64;
			let _ = locations(&mut BufReader::new(io::Cursor::new(bytes)), size, false);
		}
	}
}
