//! One error type, which also travels over the socket.

use codec::{Decode, Encode};
use consilience_primitives::request::Unanswerable;
use ort::ErrorCode;

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
	/// The model took more time or memory than the engine's process has for it.
	#[error("limit: {0}")]
	Limit(String),
	/// No honest machine can answer this input. Every other kind is a failure of this machine's, or may be one. The text says why,
	/// with nothing of the input in it.
	#[error("unanswerable: {1}")]
	Unanswerable(Unanswerable, String),
	/// Its time was over, or nobody waits for it any more.
	#[error("cancelled: its time was over, or nobody waits for it any more")]
	Cancelled,
}

/// What ONNX Runtime says when there is no memory. It has no code for that: these are its allocator's words, the C++ library's
/// and CUDA's.
const MEMORY: [&str; 5] = [
	"Failed to allocate memory",
	"bad_alloc",
	"bad allocation",
	"out of memory",
	"STATUS_ALLOC_FAILED",
];

/// What points to this machine, whatever else an error says.
const HERE: [&str; 8] = [
	"CUDA",
	"cuda",
	"CUDNN",
	"CUBLAS",
	"cudnn",
	"thread",
	"Resource temporarily unavailable",
	"terminate flag",
];

/// What kernels say of inputs that do not suit them, where the code is one that other failures have too: conditions of shapes that
/// do not hold, indices, sizes beyond any machine's.
const REFUSALS: [&str; 17] = [
	" was false.",
	"imension",
	"shape",
	"Shape",
	"broadcast",
	"ut of range",
	"out of bounds",
	"not in valid range",
	"must match",
	"must be",
	"should be",
	"should have",
	"is not equal to",
	"Integer overflow",
	"Status Message: stod",
	"Status Message: stof",
	"Status Message: stol",
];

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
			Self::Cancelled => "cancelled",
		}
	}

	/// What a failed run of a graph means.
	///
	/// ONNX Runtime's code `INVALID_ARGUMENT` is a kernel's refusal of its input, or the session's of a shape. `FAIL` and
	/// `RUNTIME_EXCEPTION` are that as well, and everything else: there only words that are known count as a refusal. Whoever
	/// claims a refusal that others do not find is punished, so that what is not known stays a failure of this machine's.
	pub(crate) fn of_run(error: ort::Error) -> Self {
		let (code, why) = (error.code(), error.message());
		if refuses(code, why) {
			Self::Unanswerable(Unanswerable::GraphRefused, place(why))
		} else {
			Self::from(error)
		}
	}

	/// An error of several inputs that were run together: which of them the graph refuses is not known.
	pub(crate) fn of_company(self, inputs: usize) -> Self {
		match self {
			Self::Unanswerable(_, why) if inputs > 1 => {
				Self::Run(format!("{why}, and {inputs} inputs were run together"))
			}
			other => other,
		}
	}

	/// A failed run that failed for want of memory, called that.
	pub(crate) fn with_memory_named(self) -> Self {
		match self {
			Self::Run(why) if MEMORY.iter().any(|w| why.contains(w)) => {
				Self::Limit(format!("no more memory for this model: {why}"))
			}
			other => other,
		}
	}
}

/// Whether a run failed because the graph refuses its input, wherever it is run.
fn refuses(code: ErrorCode, why: &str) -> bool {
	let says = |words: &[&str]| words.iter().any(|w| why.contains(w));
	let in_graph = why.contains("while running ");
	!says(&MEMORY)
		&& !says(&HERE)
		&& match code {
			ErrorCode::InvalidArgument => {
				in_graph || says(&["Got invalid dimensions for input", "Invalid rank for input"])
			}
			ErrorCode::GenericFailure | ErrorCode::RuntimeException => in_graph && says(&REFUSALS),
			_ => false,
		}
}

/// Where a graph refused its input, from ONNX Runtime's words. The rest of them may quote the input.
fn place(why: &str) -> String {
	let node = why
		.split_once("while running ")
		.and_then(|(_, rest)| rest.split_once(" node. Name:'"))
		.and_then(|(operator, rest)| Some((operator, rest.split_once('\'')?.0)));
	match node {
		Some((operator, "")) => format!("the graph refuses this input at its {operator}"),
		Some((operator, name)) => {
			format!("the graph refuses this input at its {operator} {name:?}")
		}
		None => "the graph takes no input of this shape".into(),
	}
}

impl From<ort::Error> for EngineError {
	fn from(e: ort::Error) -> Self {
		Self::Run(e.to_string())
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// What ONNX Runtime 1.31.1 says, shortened.
	fn said(operator: &str, why: &str) -> String {
		format!(
			"Non-zero status code returned while running {operator} node. Name:'' Status Message: {why}"
		)
	}

	#[test]
	fn a_refusal_is_told_from_a_failure() {
		use ErrorCode::{GenericFailure, InvalidArgument, RuntimeException};
		for (code, operator, why) in [
			(
				InvalidArgument,
				"Gather",
				"indices element out of data bounds, idx=9 must be within the inclusive range [-4,3]",
			),
			(GenericFailure, "GatherElements", "GatherElements op: Out of range value in index tensor"),
			(
				GenericFailure,
				"Reshape",
				"input_shape_size == requested_shape_size was false. The input tensor cannot be reshaped",
			),
			(GenericFailure, "MatMul", "matmul_helper.h:59 Compute MatMul dimension mismatch"),
			(GenericFailure, "MatMul", "matmul_helper.h:142 Compute left operand cannot broadcast on dim 0"),
			(GenericFailure, "ConstantOfShape", "Tensor shape.Size() must be >= 0"),
			(GenericFailure, "ConstantOfShape", "SafeIntOnOverflow() Integer overflow"),
			(GenericFailure, "Resize", "ScalesValidation Scale value should be greater than 0."),
			(RuntimeException, "Cast", "stod"),
		] {
			assert!(refuses(code, &said(operator, why)), "{operator}: {why}");
		}
		for (code, why) in [
			(
				GenericFailure,
				said(
					"ConstantOfShape",
					"Failed to allocate memory for requested buffer of size 4398046511104",
				),
			),
			(RuntimeException, said("MatMul", "std::bad_alloc")),
			(
				GenericFailure,
				said("MatMul", "CUDA failure 2: out of memory ; GPU=0"),
			),
			(
				InvalidArgument,
				said("Gather", "CUDA error cudaErrorIllegalAddress"),
			),
			(
				GenericFailure,
				said("Loop", "Exiting due to terminate flag being set to true."),
			),
			(
				GenericFailure,
				said("Conv", "something that nobody has seen before"),
			),
			(
				RuntimeException,
				said("Conv", "pthread_create failed, the shape of things"),
			),
			(InvalidArgument, "Invalid input name: y".into()),
			(ErrorCode::ExecutionProviderFailure, said("Conv", "shape")),
		] {
			assert!(!refuses(code, &why), "{why}");
		}
	}

	#[test]
	fn the_reason_names_the_node_and_nothing_of_the_input() {
		let why = "Non-zero status code returned while running Cast node. Name:'/to/float' Status Message: my secret";
		assert_eq!(
			place(why),
			"the graph refuses this input at its Cast \"/to/float\""
		);
		let why = "Got invalid dimensions for input: x for the following indices index: 0 Got: 3 Expected: 4";
		assert!(!place(why).contains('3'));
	}
}
