//! Turns a language model as it is published into a canonical graph of the exact or the integer class, in a folder that
//! `consilience model import` takes, and proves of a graph that it is of the integer class ([`proof`]).
//!
//! Sources: a GGUF file ([llama, qwen2, qwen3, smollm3, phi3], byte-level BPE tokenizers), or a folder as the hub has it
//! (`config.json`, `*.safetensors`, `tokenizer.json`; llama, mistral, qwen2, qwen3, smollm3, phi3, gemma,
//! gemma2, gemma3_text). What is written is described in `docs/models.md`.
//!
//! **Architecture invariant:** the same source gives the same bytes on every machine: only exact or correctly rounded
//! arithmetic, in one order.
//!
//! **Architecture invariant:** a source is a stranger's file. Nothing it says of itself is believed before it is checked, and
//! every tensor has its place in the graph or the model is refused.
//!
//! **Cost:** one tensor of the source is in memory at a time, as single-precision floats and in the form it is written in: of
//! a model with 3 billion parameters, some 3 GB for its embedding table.
//!
//! [llama, qwen2, qwen3, smollm3, phi3]: gguf_model

mod card;
mod decoder;
mod dequantise;
mod form;
mod gguf;
mod gguf_model;
mod graph;
mod hub;
mod integer;
mod onnx;
pub mod proof;
pub mod ranges;
mod rotary;
mod source;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::{
	collections::BTreeMap,
	fs, io,
	os::unix::fs::PermissionsExt,
	path::{Path, PathBuf},
};

pub use decoder::Weights;
use graph::Graph;
pub use proof::{prove_integer, Proof, Refusal};
pub use ranges::Ranges;
use source::{Config, Tensors};

/// What graphs of the integer class are called, as weights of the exact class are by [`Weights::name`].
pub const INTEGER: &str = "integer";

/// Name of the card.
const CARD_FILE: &str = "model.json";

/// Why a model is not converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
	/// The source cannot be read, or is not what can be converted.
	#[error("{path}: {why}")]
	Source {
		/// The file or folder.
		path: PathBuf,
		/// What is wrong with it.
		why: String,
	},
	/// The graph that was made is not proven to be of the integer class.
	#[error("{0}")]
	Unproven(Refusals),
	/// The folder cannot be written.
	#[error("{path}: {error}")]
	Write {
		/// The file or folder.
		path: PathBuf,
		/// What the system says.
		error: io::Error,
	},
}

/// Why a graph is not of the integer class.
#[derive(Debug)]
pub struct Refusals(pub Vec<Refusal>);

impl std::fmt::Display for Refusals {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.write_str("the graph is not proven to be of the integer class:")?;
		self.0
			.iter()
			.take(10)
			.try_for_each(|refusal| write!(f, "\n{refusal}"))?;
		match self.0.len() {
			0..=10 => Ok(()),
			more => write!(f, "\n… and {} more", more - 10),
		}
	}
}

impl Error {
	fn source(path: &Path) -> impl Fn(String) -> Self + '_ {
		move |why| Self::Source {
			path: path.into(),
			why,
		}
	}

	fn write(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
		move |error| Self::Write {
			path: path.into(),
			error,
		}
	}
}

/// A model that was read.
struct Model {
	tensors: Box<dyn Tensors>,
	config: Config,
	facts: card::Facts,
	/// What stands beside the graph.
	files: BTreeMap<String, Vec<u8>>,
}

/// A conversion that is ready to be written.
pub struct Canonical {
	model: Model,
	graph: Graph,
	card: serde_json::Value,
	/// Whether it is of the integer class.
	integer: bool,
}

/// Reads a GGUF file, or a folder as the hub has it, up to its weights.
fn read(source: &Path, context: Option<usize>) -> Result<Model, Error> {
	if !source.is_dir() {
		return gguf_model::open(source, context);
	}
	if !hub::is_one(source) {
		return Err(Error::source(source)(
			"a folder without config.json: give a GGUF file, or a folder as the hub has it (config.json, \
			 *.safetensors, tokenizer.json)"
				.into(),
		));
	}
	hub::open(source, context)
}

impl Canonical {
	/// Reads a GGUF file, or a folder as the hub has it, up to its weights, and builds the graph. The card's name is made from
	/// the source's if none is given.
	pub fn open(source: &Path, weights: Weights, name: Option<&str>) -> Result<Self, Error> {
		Self::with_context(source, weights, name, None)
	}

	/// [`Self::open`] for texts of so many tokens, prompt and answer together, up to what the model was made for and to 16,384;
	/// without a choice the model's context, at most 2,048.
	pub fn with_context(
		source: &Path,
		weights: Weights,
		name: Option<&str>,
		context: Option<usize>,
	) -> Result<Self, Error> {
		let model = read(source, context)?;
		let graph = decoder::build(&model.config, &*model.tensors, weights)
			.map_err(Error::source(source))?;
		Self::new(model, source, graph, weights.name(), name)
	}

	/// A graph of the integer class, otherwise like [`Self::with_context`]. Without `ranges`, those that come with the converter; fails if
	/// it has none for this model.
	pub fn integer(
		source: &Path,
		ranges: Option<Ranges>,
		name: Option<&str>,
		context: Option<usize>,
	) -> Result<Self, Error> {
		let mut model = read(source, context)?;
		let ranges = match ranges {
			Some(ranges) => Some(ranges),
			None => Ranges::known(&mut *model.tensors)?,
		};
		let ranges = ranges.ok_or_else(|| {
			Error::source(source)(
				"ranges of this model do not come with the converter: give it a file of them"
					.into(),
			)
		})?;
		let graph = integer::build(&model.config, &*model.tensors, &ranges)
			.map_err(Error::source(source))?;
		let file = (ranges::FILE.to_owned(), ranges.bytes().to_vec());
		model.files.extend([file]);
		let made = Self::new(model, source, graph, INTEGER, name)?;
		Ok(Self {
			integer: true,
			..made
		})
	}

	fn new(
		model: Model,
		source: &Path,
		graph: Graph,
		element: &str,
		name: Option<&str>,
	) -> Result<Self, Error> {
		let file = source.file_name().unwrap_or_default().to_string_lossy();
		let from = match &model.facts.origin {
			Some(origin) => format!("{origin}, from {file}"),
			None => file.into_owned(),
		};
		let mut files: Vec<_> = model.files.keys().cloned().collect();
		files.extend([graph::MODEL_FILE.into(), graph::DATA_FILE.into()]);
		files.sort();
		let bytes = graph.data_bytes();
		let tokenizer = model.files.get("tokenizer.json");
		let tokenizer = serde_json::from_slice(tokenizer.map_or(b"{}", |t| t))
			.map_err(|e| Error::source(source)(format!("tokenizer.json: {e}")))?;
		let growth = consilience_files::growth(&tokenizer)
			.map_err(|why| Error::source(source)(format!("tokenizer.json: {why}")))?;
		let card = card::make(
			&model.config,
			&model.facts,
			&from,
			element,
			name,
			bytes,
			growth,
			files,
		);
		Ok(Self {
			model,
			graph,
			card,
			integer: false,
		})
	}

	/// The card that will stand beside the graph (`model.json`).
	pub fn card(&self) -> &serde_json::Value {
		&self.card
	}

	/// Architecture as the source calls it.
	pub fn architecture(&self) -> &str {
		&self.model.config.architecture
	}

	/// Bytes of weights that will be written.
	pub fn bytes(&self) -> u64 {
		self.graph.data_bytes()
	}

	/// Nodes of the graph.
	pub fn nodes(&self) -> usize {
		self.graph.nodes()
	}

	/// Writes the folder, whole or not at all; it must not be there yet. `progress` hears of bytes of weights written. Returns what was
	/// proven of a graph of the integer class; none is written without its proof.
	pub fn write(
		mut self,
		folder: &Path,
		progress: &mut dyn FnMut(u64),
	) -> Result<Option<Proof>, Error> {
		let failed = Error::write(folder);
		if folder.exists() {
			return Err(failed(io::ErrorKind::AlreadyExists.into()));
		}
		let parent = match folder.parent() {
			Some(parent) if !parent.as_os_str().is_empty() => parent,
			_ => Path::new("."),
		};
		let temporary = tempfile::Builder::new()
			.prefix(".canonicalise-")
			.permissions(fs::Permissions::from_mode(0o755))
			.tempdir_in(parent)
			.map_err(Error::write(parent))?;
		let place = temporary.path();
		self.graph.save(place, &mut *self.model.tensors, progress)?;
		let proof = if self.integer {
			let proof = prove_integer(&place.join(graph::MODEL_FILE));
			Some(proof.map_err(|refusals| Error::Unproven(Refusals(refusals)))?)
		} else {
			None
		};
		for (name, bytes) in &self.model.files {
			let path = place.join(name);
			fs::write(&path, bytes).map_err(Error::write(&path))?;
		}
		let path = place.join(CARD_FILE);
		let card =
			serde_json::to_string_pretty(&self.card).map_err(|e| Error::write(&path)(e.into()))?;
		fs::write(&path, format!("{card}\n")).map_err(Error::write(&path))?;
		fs::rename(place, folder).map_err(&failed)?;
		// It is where it belongs: there is nothing left to remove.
		let _ = temporary.keep();
		Ok(proof)
	}
}
