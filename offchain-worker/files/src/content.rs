//! Files by their first bytes.

use std::{fs::File, io::Read, path::Path};

/// Bytes that are looked at: more than the longest pointer of Git LFS.
const HEAD: u64 = 1_024;
/// Characters of a text that are quoted.
const QUOTED: usize = 80;

/// What a file's first bytes say that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
	/// Nothing.
	Empty,
	/// What Git LFS leaves in the place of a file.
	LfsPointer {
		/// Bytes of the file itself, where the pointer says.
		size: Option<u64>,
	},
	/// HTML or XML.
	WebPage,
	/// A language model in llama.cpp's format.
	Gguf,
	/// Weights in the hub's format.
	Safetensors,
	/// A graph in ONNX Runtime's own format.
	Ort,
	/// A checkpoint of PyTorch.
	PyTorch,
	/// Another framework's format, by its name.
	Foreign(&'static str),
	/// An archive or a compressed file, by what made it.
	Packed(&'static str),
	/// A JSON object or array.
	Json,
	/// Other text; its first line.
	Text(String),
	/// Anything else.
	Other,
}

/// What a file is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
	/// An ONNX graph.
	Onnx,
	/// A GGUF file.
	Gguf,
	/// A file of safetensors.
	Safetensors,
	/// JSON.
	Json,
	/// Text, a chat template for one.
	Text,
}

impl Content {
	/// Looks at a file.
	pub fn of(path: &Path) -> std::io::Result<Self> {
		let mut file = File::open(path)?;
		let length = file.metadata()?.len();
		let mut head = Vec::new();
		file.by_ref().take(HEAD).read_to_end(&mut head)?;
		Ok(Self::of_bytes(&head, length))
	}

	/// Looks at the first bytes of a file of this length.
	fn of_bytes(head: &[u8], length: u64) -> Self {
		if head.is_empty() {
			return Self::Empty;
		}
		let formats: [(usize, &[u8], Self); 14] = [
			(0, b"GGUF", Self::Gguf),
			(
				0,
				b"ggml",
				Self::Foreign("a file of llama.cpp's first format, which came before GGUF"),
			),
			(
				0,
				b"ggjt",
				Self::Foreign("a file of llama.cpp's first format, which came before GGUF"),
			),
			(4, b"ORTM", Self::Ort),
			(4, b"TFL3", Self::Foreign("a model of TensorFlow Lite")),
			(
				0,
				b"\x89HDF\r\n",
				Self::Foreign("an HDF5 file, as Keras writes it"),
			),
			(0, b"\x1f\x8b", Self::Packed("gzip")),
			(0, b"\xfd7zXZ\0", Self::Packed("xz")),
			(0, b"\x28\xb5\x2f\xfd", Self::Packed("zstd")),
			(0, b"BZh", Self::Packed("bzip2")),
			(0, b"7z\xbc\xaf\x27\x1c", Self::Packed("7-Zip")),
			(0, b"Rar!\x1a\x07", Self::Packed("RAR")),
			(257, b"ustar", Self::Packed("tar")),
			(0, b"\x80\x02", Self::PyTorch),
		];
		for (place, magic, content) in formats {
			if head
				.get(place..)
				.is_some_and(|rest| rest.starts_with(magic))
			{
				return content;
			}
		}
		if head.starts_with(b"PK\x03\x04") {
			// A checkpoint is an archive whose first entry is its pickle.
			let pickle = head.windows(9).any(|w| w == b"/data.pkl");
			return if pickle {
				Self::PyTorch
			} else {
				Self::Packed("zip")
			};
		}
		// A header's length in eight bytes, then the header, which is JSON.
		if let Some((size, header)) = head.split_first_chunk::<8>() {
			let size = u64::from_le_bytes(*size);
			if header.first() == Some(&b'{') && size >= 2 && size < length {
				return Self::Safetensors;
			}
		}
		let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
		let whole = match std::str::from_utf8(text) {
			Ok(text) => text,
			// The last character may have been cut in two.
			Err(e) if text.len() - e.valid_up_to() < 4 && length > HEAD => {
				std::str::from_utf8(&text[..e.valid_up_to()]).unwrap_or_default()
			}
			Err(_) => return Self::Other,
		};
		let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
		if !whole.chars().all(printable) {
			return Self::Other;
		}
		let start = whole.trim_start();
		if start.starts_with("version https://git-lfs.github.com/") {
			let size = start.lines().find_map(|l| l.strip_prefix("size "));
			return Self::LfsPointer {
				size: size.and_then(|s| s.trim().parse().ok()),
			};
		}
		let lower = start.to_ascii_lowercase();
		if ["<!doctype", "<html", "<head", "<body", "<?xml", "<!--"]
			.iter()
			.any(|tag| lower.starts_with(tag))
		{
			return Self::WebPage;
		}
		if start.starts_with(['{', '[']) {
			return Self::Json;
		}
		let line = start.lines().next().unwrap_or_default();
		Self::Text(line.chars().take(QUOTED).collect())
	}

	/// Why a file of this content is not what was wanted, and what to do; `None` where it may be.
	pub fn refused(&self, wanted: Wanted) -> Option<String> {
		let is_text = matches!(wanted, Wanted::Json | Wanted::Text);
		Some(match self {
			Self::Empty if wanted == Wanted::Text => return None,
			Self::Empty => "the file is empty: was its download cut off? Download it again".into(),
			Self::LfsPointer { size } => {
				let size = size.map_or_else(String::new, |n| format!(" of {n} bytes"));
				format!(
					"the file is a Git LFS pointer, which stands for the file itself{size}: run `git lfs pull` in the clone, or \
					 download the file from where the model is published"
				)
			}
			Self::WebPage if wanted == Wanted::Text => return None,
			Self::WebPage => "the file is a web page: its download was refused or led elsewhere. Log in where the model is \
				published, accept its terms if it has some, and download the file again"
				.into(),
			Self::Gguf if wanted == Wanted::Gguf => return None,
			Self::Gguf => "the file is a GGUF file, whatever it is called: `consilience model canonicalise FILE DIR` makes a \
				graph of it"
				.into(),
			Self::Safetensors if wanted == Wanted::Safetensors => return None,
			Self::Safetensors => "the file holds weights (safetensors) and no graph: `consilience model canonicalise` takes \
				the folder in which they are with their config.json and tokenizer.json"
				.into(),
			Self::Ort => "the file is of ONNX Runtime's own format (.ort): give the ONNX file that it was made from".into(),
			Self::PyTorch => "the file is a checkpoint of PyTorch, which may run code when it is read: take the model's \
				*.safetensors, or export it to ONNX"
				.into(),
			Self::Foreign(what) => format!("the file is {what}: take the model's ONNX, GGUF or safetensors instead"),
			Self::Packed(by) => format!("the file is packed ({by}): unpack it first"),
			Self::Json if is_text => return None,
			Self::Json => "the file is JSON text: was an answer with an error saved in its place? Download it again".into(),
			Self::Text(_) if wanted == Wanted::Text => return None,
			Self::Text(line) => format!(
				"the file is text that begins with {line:?}: was an error saved in its place? Download it again"
			),
			Self::Other if wanted == Wanted::Gguf => "the file is not a GGUF file".into(),
			Self::Other if is_text => "the file is not text: was another one saved under its name?".into(),
			Self::Other => return None,
		})
	}
}

/// Refuses a file that is not what it is meant to be, where its first bytes show it.
pub fn check(path: &Path, wanted: Wanted) -> Result<(), String> {
	let content = Content::of(path).map_err(|e| e.to_string())?;
	content.refused(wanted).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;

	const POINTER: &str =
		"version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 538090408\n";

	fn content(bytes: &[u8]) -> Content {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("model.onnx");
		std::fs::write(&path, bytes).unwrap();
		Content::of(&path).unwrap()
	}

	#[test]
	fn downloads_that_went_wrong_say_what_to_do() {
		for (bytes, says) in [
			(&b""[..], "empty"),
			(POINTER.as_bytes(), "538090408 bytes: run `git lfs pull`"),
			(
				b"\n<!DOCTYPE html><html>Access is restricted</html>",
				"web page",
			),
			(
				b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
				"web page",
			),
			(b"{\"error\": \"Repository not found\"}", "JSON"),
			(
				b"Invalid username or password.",
				"\"Invalid username or password.\"",
			),
			(b"\xef\xbb\xbfEntry not found", "\"Entry not found\""),
			(b"\x1f\x8b\x08\0\0\0\0\0", "packed (gzip)"),
			(b"PK\x03\x04\x14\0model.onnx", "packed (zip)"),
			(b"PK\x03\x04\x14\0archive/data.pkl", "PyTorch"),
			(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", "PyTorch"),
			(b"\x1c\0\0\0ORTM\0\0\0\0", ".ort"),
			(b"\x1c\0\0\0TFL3\0\0\0\0", "TensorFlow Lite"),
			(b"GGUF\x03\0\0\0", "canonicalise"),
		] {
			let refused = content(bytes).refused(Wanted::Onnx).unwrap_or_default();
			assert!(refused.contains(says), "{says}: {refused}");
		}
		let mut tensors = 40u64.to_le_bytes().to_vec();
		tensors.extend(b"{\"x\":{}}                                        ");
		assert_eq!(content(&tensors), Content::Safetensors);
		let mut tar = vec![0; 600];
		tar[257..262].copy_from_slice(b"ustar");
		assert_eq!(content(&tar), Content::Packed("tar"));
	}

	#[test]
	fn what_is_right_passes() {
		for (bytes, wanted) in [
			(&b"\x08\x08\x12\x04test:"[..], Wanted::Onnx),
			(b"GGUF\x03\0\0\0", Wanted::Gguf),
			(b"{\"a\": 1}", Wanted::Json),
			(b"{% for m in messages %}", Wanted::Text),
			(b"<html>{{ messages }}", Wanted::Text),
			(b"", Wanted::Text),
		] {
			assert_eq!(content(bytes).refused(wanted), None);
		}
		// A character that the head cuts in two is none that is broken.
		let long = format!("{{{}", "é".repeat(2_000));
		assert_eq!(content(long.as_bytes()), Content::Json);
		assert_eq!(content(&long.as_bytes()[..2_000]), Content::Json);
	}

	#[test]
	fn each_kind_is_refused_where_another_is_wanted() {
		for wanted in [Wanted::Gguf, Wanted::Safetensors, Wanted::Json] {
			assert!(content(POINTER.as_bytes()).refused(wanted).is_some());
		}
		assert!(content(b"\x08\x08").refused(Wanted::Gguf).is_some());
		assert!(content(b"\x08\xff\xff").refused(Wanted::Json).is_some());
		assert!(content(POINTER.as_bytes()).refused(Wanted::Text).is_some());
	}
}
