//! The manifest: everything that makes two validators compute the same thing.
//!
//! It is written as JSON for people (`manifest.json`) and hashed as SCALE for the chain: a [`ModelId`] is the BLAKE2b-256
//! hash of the encoding, so that white space and the order of fields do not matter and every other change does.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use codec::{Decode, Encode};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};
use serde::{Deserialize, Serialize};

use crate::{
	evidence::Evidence,
	media::Media,
	model::{Limits, ModelSpec, NumericClass, SpecError, Task, TimeLimit, VerificationPolicy},
	request::Role,
	sampling::SamplingDefaults,
	tensor::NamedSpec,
	ModelId,
};

/// Version of the manifest's format that this crate reads and writes.
pub const VERSION: u32 = 3;

/// Least bytes of a [`Chunk`], the last one of a file left out: 64 KiB.
pub const MIN_CHUNK: u32 = 1 << 16;

/// Most bytes of a [`Chunk`]: 1 MiB.
pub const MAX_CHUNK: u32 = 1 << 20;

/// A piece in which a file is hashed and travels. Whoever writes a manifest chooses where to cut; `docs/adr/0024-chunks-by-content.md`
/// says how the tools do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(from = "(u32, H256)", into = "(u32, H256)")]
pub struct Chunk {
	/// Length in bytes: from [`MIN_CHUNK`] to [`MAX_CHUNK`]; that of a file's last chunk may be less.
	pub length: u32,
	/// BLAKE2b-256 hash of the bytes.
	pub hash: H256,
}

impl From<(u32, H256)> for Chunk {
	fn from((length, hash): (u32, H256)) -> Self {
		Self { length, hash }
	}
}

impl From<Chunk> for (u32, H256) {
	fn from(Chunk { length, hash }: Chunk) -> Self {
		(length, hash)
	}
}

/// A file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct File {
	/// Path inside the model's folder, with `/` and without `..`.
	pub path: String,
	/// Length in bytes.
	pub size: u64,
	/// What it consists of, in order.
	pub chunks: Vec<Chunk>,
}

impl File {
	/// Whether the chunks have lengths that chunks have, and are as long as the file together.
	pub fn is_whole(&self) -> bool {
		let last = self.chunks.len().saturating_sub(1);
		let right = |(place, chunk): (usize, &Chunk)| {
			let least = if place == last { 1 } else { MIN_CHUNK };
			(least..=MAX_CHUNK).contains(&chunk.length)
		};
		let length: u64 = self.chunks.iter().map(|c| u64::from(c.length)).sum();
		self.chunks.iter().enumerate().all(right) && length == self.size
	}

	/// Offset of each chunk.
	pub fn offsets(&self) -> impl Iterator<Item = (u64, &Chunk)> {
		self.chunks.iter().scan(0, |at, chunk| {
			let offset = *at;
			*at += u64::from(chunk.length);
			Some((offset, chunk))
		})
	}
}

/// How a text becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
	/// Mean of the token vectors under the attention mask.
	Mean,
	/// Vector of the first token.
	Cls,
	/// The graph gives one vector a text already.
	None,
	/// Vector of the last token.
	Last,
}

/// Names of the key-value cache in a text-generation graph.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
	/// The canonical graph: slots of a fixed capacity in blocks of 128, keys transposed, `position_ids` as slots.
	Slots,
	/// The hub's export: a cache that grows along dimension 2, with `attention_mask`.
	Growing,
}

/// What the engine must know of a task.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskDetails {
	/// A causal language model.
	TextGeneration {
		/// Path of the tokenizer in the hub's JSON format.
		tokenizer: String,
		/// Jinja template that turns messages into a prompt; `None` where the model is no chat model.
		chat_template: Option<String>,
		/// Strings that the chat template may use: `bos_token` and the like, in this order: beginning, end.
		bos_token: Option<String>,
		/// End-of-text token as the chat template spells it.
		eos_token: Option<String>,
		/// Tokens at which an answer ends.
		eos_token_ids: Vec<u32>,
		/// Most tokens of prompt and answer together.
		context: u32,
		/// Size of the vocabulary: length of a row of logits.
		vocabulary: u32,
		/// Layers, each with a key and a value cache.
		layers: u32,
		/// Key-value heads of a layer.
		kv_heads: u32,
		/// Length of a head's vectors.
		head_dim: u32,
		/// How the cache is laid out.
		cache: Cache,
		/// How its publisher would have tokens chosen, where a request leaves that open.
		#[serde(default, skip_serializing_if = "SamplingDefaults::is_empty")]
		sampling: SamplingDefaults,
	},
	/// A text encoder.
	Embedding {
		/// Path of the tokenizer in the hub's JSON format.
		tokenizer: String,
		/// How token vectors become one.
		pooling: Pooling,
		/// Whether the vector is scaled to length one.
		normalize: bool,
		/// Tokens after which a text is cut.
		max_tokens: u32,
		/// Length of the vector.
		dimensions: u32,
		/// Name of the graph's output that holds the vectors.
		output: String,
	},
	/// Any graph of tensors.
	Tensor {
		/// The graph's inputs.
		inputs: Vec<NamedSpec>,
		/// The graph's outputs, in the order in which they are answered.
		outputs: Vec<NamedSpec>,
		/// How pictures and sound become the input, and scores words: for those who ask.
		#[serde(default, skip_serializing_if = "Media::is_empty")]
		media: Media,
	},
}

/// The numerics profile: what must be equal for evidence to be comparable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Numerics {
	/// Element type of the weights as people call it, e.g. `fp32`, `int8`, `int4`.
	pub element_type: String,
	/// Opset of the default domain.
	pub opset: u32,
	/// Oldest ONNX Runtime that gives this evidence, e.g. `1.20.1`.
	pub onnxruntime_min: String,
	/// Newest ONNX Runtime that was measured.
	pub onnxruntime_max: String,
	/// Execution providers admitted, by ONNX Runtime's names, e.g. `CPUExecutionProvider`.
	pub providers: Vec<String>,
	/// Graph optimisation level: `disable`, `basic`, `extended` or `all`.
	pub optimization: String,
}

/// A reference input that anybody who serves the model reproduces.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceInput {
	/// A chat, answered greedily with so many tokens.
	Chat {
		/// Role and content of each message.
		messages: Vec<(Role, String)>,
		/// Tokens to generate.
		max_tokens: u32,
	},
	/// Text: continued greedily with so many tokens, or embedded.
	Text {
		/// The text.
		text: String,
		/// Tokens to generate; zero for an embedding.
		max_tokens: u32,
	},
	/// SCALE-encoded [`crate::request::Input::Tensor`], in hexadecimal.
	Tensors(String),
}

/// Reference input and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Reference {
	/// What is asked.
	pub input: ReferenceInput,
	/// BLAKE2b-256 hash of the SCALE-encoded [`crate::request::Output`] (exact class; informative otherwise).
	pub output: H256,
	/// Evidence of that output under the challenge [`Manifest::reference_seed`].
	pub evidence: Evidence,
}

/// Everything that makes two validators compute the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Manifest {
	/// [`VERSION`].
	pub version: u32,
	/// Name for people.
	pub name: String,
	/// SPDX expression of the weights' licence.
	pub license: String,
	/// Where the model comes from, for people.
	pub source: String,
	/// What it does.
	pub task: TaskDetails,
	/// Path of the ONNX graph.
	pub graph: String,
	/// All files, sorted by path, the graph and its external data included.
	pub files: Vec<File>,
	/// What must be equal for evidence to be comparable.
	pub numerics: Numerics,
	/// What the model takes and gives at most.
	pub limits: Limits,
	/// How long work may take.
	pub time: TimeLimit,
	/// How answers are checked.
	pub policy: VerificationPolicy,
	/// What who serves the model reproduces.
	pub reference: Reference,
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
	/// A version that this program does not know.
	Version(u32),
	/// Two files of one path, an absolute path, one with `..`, `.`, `\` or an empty part, or files out of order.
	Path(String),
	/// A path that another field names is not among the files.
	MissingFile(String),
	/// The chunks are too short, too long, or together not as long as the file.
	Chunks(String),
	/// A name, dimension or list is too long for the chain; which.
	TooLarge(&'static str),
	/// The exact class needs the CPU provider and nothing else, optimisation does not matter.
	ExactNeedsCpu,
	/// How pictures, sound or labels go with the graph's inputs and outputs; what is wrong.
	Media(&'static str),
	/// What would stand on chain is refused.
	Spec(SpecError),
}

impl core::fmt::Display for ManifestError {
	fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
		match self {
			Self::Version(v) => write!(
				f,
				"manifest version {v}, and this program reads {VERSION}: import the model again, or use the program that wrote it"
			),
			Self::Path(p) => write!(
				f,
				"file path {p:?}: paths are relative, sorted, unique and free of '.', '..' and '\\'"
			),
			Self::MissingFile(p) => {
				write!(f, "{p:?} is named by the manifest but not among its files")
			}
			Self::Chunks(p) => write!(
				f,
				"{p:?}: its chunks are not as long as the file, or one is shorter than {MIN_CHUNK} or longer than {MAX_CHUNK} bytes"
			),
			Self::TooLarge(what) => write!(f, "{what} is too large for the chain"),
			Self::ExactNeedsCpu => write!(
				f,
				"a model of the exact class runs on CPUExecutionProvider alone"
			),
			Self::Media(why) => write!(f, "media: {why}"),
			Self::Spec(e) => write!(f, "the chain would refuse this model: {e:?}"),
		}
	}
}

impl core::error::Error for ManifestError {}

impl Manifest {
	/// The model's name on chain.
	pub fn id(&self) -> ModelId {
		H256(self.using_encoded(blake2_256))
	}

	/// What the model does.
	pub const fn task(&self) -> Task {
		match self.task {
			TaskDetails::TextGeneration { .. } => Task::TextGeneration,
			TaskDetails::Embedding { .. } => Task::Embedding,
			TaskDetails::Tensor { .. } => Task::Tensor,
		}
	}

	/// Size of all files, in bytes.
	pub fn size(&self) -> u64 {
		self.files
			.iter()
			.fold(0, |sum, f| sum.saturating_add(f.size))
	}

	/// Challenge seed and sampling seed of the reference inference.
	pub fn reference_seed() -> H256 {
		H256(blake2_256(b"consilience/reference"))
	}

	/// What stands on chain about this model.
	pub fn spec(&self) -> Result<ModelSpec, ManifestError> {
		let inputs = match &self.task {
			TaskDetails::Tensor { inputs, .. } => &inputs[..],
			_ => &[],
		};
		let signature = inputs
			.iter()
			.map(|s| s.try_into().map_err(ManifestError::TooLarge))
			.collect::<Result<Vec<_>, _>>()?;
		let spec = ModelSpec {
			name: self
				.name
				.as_bytes()
				.to_vec()
				.try_into()
				.map_err(|_| ManifestError::TooLarge("the name"))?,
			task: self.task(),
			size: self.size(),
			chat: matches!(
				&self.task,
				TaskDetails::TextGeneration {
					chat_template: Some(_),
					..
				}
			),
			limits: self.limits,
			time: self.time,
			policy: self.policy,
			signature: signature
				.try_into()
				.map_err(|_| ManifestError::TooLarge("the number of inputs"))?,
			sampling: match self.task {
				TaskDetails::TextGeneration { sampling, .. } => sampling,
				_ => SamplingDefaults::default(),
			},
			reference: self.reference.evidence.clone(),
		};
		spec.validate().map_err(ManifestError::Spec)?;
		Ok(spec)
	}

	/// Whether the manifest makes sense in itself; files are checked by who has them.
	pub fn validate(&self) -> Result<(), ManifestError> {
		if self.version != VERSION {
			return Err(ManifestError::Version(self.version));
		}
		let mut known = BTreeSet::new();
		let mut last: Option<&str> = None;
		for file in &self.files {
			let path = file.path.as_str();
			let bad_part = |part: &str| matches!(part, "" | "." | "..");
			if path.contains(['\\', ':', '\0'])
				|| path.split('/').any(bad_part)
				|| last.is_some_and(|l| l >= path)
			{
				return Err(ManifestError::Path(path.into()));
			}
			if !file.is_whole() {
				return Err(ManifestError::Chunks(path.into()));
			}
			last = Some(path);
			known.insert(path);
		}
		let tokenizer = match &self.task {
			TaskDetails::TextGeneration { tokenizer, .. }
			| TaskDetails::Embedding { tokenizer, .. } => Some(tokenizer),
			TaskDetails::Tensor {
				inputs,
				outputs,
				media,
			} => {
				media.check(inputs, outputs).map_err(ManifestError::Media)?;
				None
			}
		};
		for path in core::iter::once(&self.graph).chain(tokenizer) {
			if !known.contains(path.as_str()) {
				return Err(ManifestError::MissingFile(path.clone()));
			}
		}
		if self.policy.class == NumericClass::Exact
			&& self.numerics.providers != ["CPUExecutionProvider"]
		{
			return Err(ManifestError::ExactNeedsCpu);
		}
		self.spec().map(|_| ())
	}
}
