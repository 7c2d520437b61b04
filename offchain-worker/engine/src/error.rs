//! One error type, which also travels over the socket.

use codec::{Decode, Encode};

/// Why the engine could not do something. Says what to do where something can be done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum EngineError {
	/// The ONNX Runtime library is missing or unfit.
	#[error(
		"ONNX Runtime: {0}. Run ./scripts/setup, or set ORT_DYLIB_PATH to libonnxruntime.so 1.31"
	)]
	Library(String),
	/// A model's folder cannot be used.
	#[error("model {path}: {why}")]
	Load {
		/// File or folder.
		path: String,
		/// What is wrong with it.
		why: String,
	},
	/// A model was asked for that is not loaded.
	#[error("model {0} is not loaded")]
	NotLoaded(String),
	/// The input does not suit the model.
	#[error("input: {0}")]
	Input(String),
	/// ONNX Runtime failed while it ran the graph.
	#[error("run: {0}")]
	Run(String),
	/// The output is more than the chain carries.
	#[error("output: {0}")]
	Output(String),
	/// The model did not give what its manifest says.
	#[error("the model does not do what its manifest says: {0}")]
	Mismatch(String),
	/// Too many commands wait already.
	#[error("the engine has too much to do: ask again later")]
	Busy,
	/// The connection to the engine's process broke: it ended, or was ended.
	#[error("the engine's process went away")]
	Gone,
	/// No honest machine can answer this input; why, for people.
	#[error("unanswerable: {1}")]
	Unanswerable(consilience_primitives::request::Unanswerable, String),
	/// The model took more time or memory than the engine's process has for it.
	#[error("limit: {0}")]
	Limit(String),
}

impl EngineError {
	pub(crate) fn load(path: impl AsRef<std::path::Path>, why: impl ToString) -> Self {
		Self::Load {
			path: path.as_ref().display().to_string(),
			why: why.to_string(),
		}
	}

	/// Label for metrics.
	pub const fn label(&self) -> &'static str {
		match self {
			Self::Library(_) => "library",
			Self::Load { .. } => "load",
			Self::NotLoaded(_) => "not_loaded",
			Self::Input(_) => "input",
			Self::Run(_) => "run",
			Self::Output(_) => "output",
			Self::Mismatch(_) => "mismatch",
			Self::Busy => "busy",
			Self::Gone => "gone",
			Self::Unanswerable(..) => "unanswerable",
			Self::Limit(_) => "limit",
		}
	}

	/// A failed run that failed for want of memory, called that.
	pub(crate) fn with_memory_named(self) -> Self {
		// ONNX Runtime has no code for it: these are its allocator's words, the C++ library's and CUDA's.
		const WORDS: [&str; 5] = [
			"Failed to allocate memory",
			"bad_alloc",
			"bad allocation",
			"out of memory",
			"STATUS_ALLOC_FAILED",
		];
		match self {
			Self::Run(why) if WORDS.iter().any(|w| why.contains(w)) => {
				Self::Limit(format!("no more memory for this model: {why}"))
			}
			other => other,
		}
	}
}

impl From<ort::Error> for EngineError {
	fn from(e: ort::Error) -> Self {
		Self::Run(e.to_string())
	}
}
