//! Sessions of ONNX Runtime.

use std::{ffi::CString, fmt, path::Path, str::FromStr, sync::Mutex};

use codec::{Decode, Encode};
use consilience_primitives::tensor::{DataType, NamedSpec};
use ort::{
	ep,
	memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
	session::{
		builder::{GraphOptimizationLevel, SessionBuilder},
		IoBinding, Session, SessionInputValue, SessionOutputs,
	},
	value::{DynValue, Outlet, TensorRefMut, ValueType},
	AsPointer,
};

use crate::{
	external,
	library::environment,
	tensor,
	tensor::{Number, Raw},
	ticket::Watched,
	EngineError, LOG_TARGET,
};

/// ONNX Runtime's key for the folder of a graph's external data where the graph itself comes from memory.
const EXTERNAL_DATA: &str = "session.model_external_initializers_file_folder_path";
/// ONNX Runtime's key for the format of graphs: otherwise it takes its own, whose loader trusts the file, by name or content.
const FORMAT: &str = "session.load_model_format";
/// ONNX Runtime's key for the file that takes the weights of an optimised graph.
const OPTIMIZED_DATA: &str = "session.optimized_model_external_initializers_file_name";

/// Where graphs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Provider {
	/// ONNX Runtime's own kernels.
	#[default]
	Cpu,
	/// CUDA, with the CPU for operators that it lacks. Needs the GPU build of the library.
	Cuda {
		/// Number of the device.
		device: i32,
	},
}

impl Provider {
	/// ONNX Runtime's name for it, as it stands in a manifest's numerics profile.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Cpu => "CPUExecutionProvider",
			Self::Cuda { .. } => "CUDAExecutionProvider",
		}
	}
}

impl fmt::Display for Provider {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Cpu => f.write_str("cpu"),
			Self::Cuda { device } => write!(f, "cuda:{device}"),
		}
	}
}

impl FromStr for Provider {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		match text.split_once(':') {
			None if text == "cpu" => Ok(Self::Cpu),
			None if text == "cuda" => Ok(Self::Cuda { device: 0 }),
			Some(("cuda", device)) => device
				.parse()
				.ok()
				.filter(|device: &i32| *device >= 0)
				.map(|device| Self::Cuda { device })
				.ok_or_else(|| format!("{device:?} is no number of a CUDA device")),
			_ => Err(format!("{text:?} is none of cpu, cuda, cuda:N")),
		}
	}
}

/// Where a graph is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
	pub(crate) provider: Provider,
	/// Whether the CPU does instead where the provider does not work.
	pub(crate) fallback: bool,
	/// Bytes of the device's memory that its arena may take.
	pub(crate) device_memory: Option<u64>,
}

/// What a graph takes and gives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GraphInfo {
	/// Inputs.
	pub inputs: Vec<NamedSpec>,
	/// Outputs.
	pub outputs: Vec<NamedSpec>,
	/// Opset of the default domain; 0 where the graph names none.
	pub opset: u32,
}

/// A loaded graph. ONNX Runtime shares its memory and threads between runs; runs of one graph go one after another.
pub(crate) struct Graph {
	session: Mutex<Session>,
	provider: Provider,
	inputs: Vec<(String, Option<ValueType>)>,
	outputs: Vec<String>,
	info: Result<GraphInfo, EngineError>,
}

/// The optimisation level of this name in a manifest.
fn level(name: &str) -> Result<GraphOptimizationLevel, EngineError> {
	Ok(match name {
		"disable" => GraphOptimizationLevel::Disable,
		"basic" => GraphOptimizationLevel::Level1,
		"extended" => GraphOptimizationLevel::Level2,
		"all" => GraphOptimizationLevel::All,
		other => {
			return Err(EngineError::Input(format!(
				"graph optimisation {other:?} is none of disable, basic, extended, all"
			)))
		}
	})
}

fn specs(outlets: &[Outlet]) -> Result<Vec<NamedSpec>, EngineError> {
	outlets
		.iter()
		.map(|o| match o.dtype() {
			ValueType::Tensor { ty, shape, .. } => Ok(NamedSpec {
				name: o.name().into(),
				datatype: tensor::datatype(*ty)
					.map_err(|e| EngineError::Input(format!("{:?}: {e}", o.name())))?,
				shape: shape.iter().map(|d| u32::try_from(*d).ok()).collect(),
			}),
			other => Err(EngineError::Input(format!(
				"{:?} is {other:?}: sequences, maps and optional values are not supported, tensors are",
				o.name()
			))),
		})
		.collect()
}

/// Binds an input to a value's own memory. `ort` itself would copy what it takes for borrowed: past and present would part, and
/// a cache would be copied at every step.
///
/// # Safety
/// The value's memory must be there, and belong to nobody else, whenever the binding is run.
pub(crate) unsafe fn bind_borrowed<T: Number>(
	binding: &mut IoBinding,
	name: &str,
	value: &TensorRefMut<'_, T>,
) -> Result<(), EngineError> {
	// SAFETY: the caller's promise.
	unsafe { bind_pointer(binding, name, value.ptr()) }
}

/// Binds an input to a value, without a copy where it is on the device where the graph wants it.
///
/// # Safety
/// The value must not be dropped or changed as long as the binding may be run.
pub(crate) unsafe fn bind_shared(
	binding: &mut IoBinding,
	name: &str,
	value: &DynValue,
) -> Result<(), EngineError> {
	// SAFETY: the caller's promise.
	unsafe { bind_pointer(binding, name, value.ptr()) }
}

/// # Safety
/// The value is alive, and its memory as long as the binding may be run.
unsafe fn bind_pointer(
	binding: &mut IoBinding,
	name: &str,
	value: *const ort::sys::OrtValue,
) -> Result<(), EngineError> {
	let name = CString::new(name).map_err(|e| EngineError::Mismatch(e.to_string()))?;
	// SAFETY: all three are alive. ONNX Runtime takes a share of the value, so it may be dropped; of its memory, see above.
	let status = unsafe {
		let bind = ort::api().BindInput;
		ort::Error::result_from_status(bind(binding.ptr_mut(), name.as_ptr(), value))
	};
	Ok(status?)
}

/// What every session has: optimisation and threads.
fn builder(
	threads: usize,
	optimization: GraphOptimizationLevel,
	provider: Provider,
) -> Result<SessionBuilder, EngineError> {
	let failed = |e: &dyn fmt::Display| EngineError::Run(e.to_string());
	Session::builder(environment(provider)?)
		.map_err(|e| failed(&e))?
		.with_optimization_level(optimization)
		.map_err(|e| failed(&e))?
		.with_intra_threads(threads.max(1))
		.map_err(|e| failed(&e))?
		// Spinning threads would take the cores that author blocks.
		.with_intra_op_spinning(false)
		.map_err(|e| failed(&e))?
		.with_config_entry(FORMAT, "ONNX")
		.map_err(|e| failed(&e))
}

/// A session of the graph in a file on this provider, or why there is none.
fn open(
	path: &Path,
	threads: usize,
	optimization: GraphOptimizationLevel,
	provider: Provider,
	device_memory: Option<u64>,
) -> Result<Session, EngineError> {
	let load = |e: &dyn fmt::Display| EngineError::load(path, e);
	let mut builder = builder(threads, optimization, provider)?;
	if let Provider::Cuda { device } = provider {
		// What makes evidence differ from run to run or from the CPU's, and can be switched off: ten-bit products, algorithms
		// chosen by a stopwatch, sums in whatever order threads arrive.
		let mut cuda = ep::CUDA::default()
			.with_device_id(device)
			.with_tf32(false)
			.with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
		if let Some(bytes) = device_memory {
			cuda = cuda.with_memory_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
		}
		builder = builder
			.with_deterministic_compute(true)
			.map_err(|e| load(&e))?
			.with_execution_providers([cuda.build().error_on_failure()])
			.map_err(|e| load(&e))?;
	}
	builder.commit_from_file(path).map_err(|e| load(&e))
}

impl Graph {
	/// Loads a graph. Nothing of the file was parsed before: whoever calls has checked its hash, or takes the risk in a
	/// process of its own.
	pub(crate) fn load(
		path: &Path,
		threads: usize,
		optimization: &str,
		placement: Placement,
	) -> Result<Self, EngineError> {
		if !path.is_file() {
			return Err(EngineError::load(path, "no such file"));
		}
		external::check(path)?;
		let level = level(optimization)?;
		let wanted = placement.provider;
		let open = |provider| open(path, threads, level, provider, placement.device_memory);
		let (session, in_force) = match (open(wanted), wanted) {
			(Ok(session), _) => (session, wanted),
			(Err(e), Provider::Cpu) => return Err(e),
			// A driver may be there and no device, or too little of its memory: that shows only here.
			(Err(e), _) if placement.fallback => {
				tracing::warn!(
					target: LOG_TARGET,
					"{wanted} is not available, running on the CPU instead: {e}",
				);
				(open(Provider::Cpu)?, Provider::Cpu)
			}
			(Err(e), _) => {
				return Err(EngineError::load(
					path,
					format!("{wanted} is demanded and not available: {e}"),
				))
			}
		};
		tracing::info!(target: LOG_TARGET, "{} loaded on {in_force}", path.display());
		Ok(Self::new(session, in_force))
	}

	/// Loads a graph from memory, to be run as it is. Its external data are beside `path`, where it came from.
	pub(crate) fn load_bytes(
		path: &Path,
		bytes: &[u8],
		threads: usize,
	) -> Result<Self, EngineError> {
		let load = |e: &dyn std::fmt::Display| EngineError::load(path, e);
		external::check_bytes(path, bytes)?;
		let folder = path.parent().unwrap_or(Path::new("")).display().to_string();
		let session = builder(threads, GraphOptimizationLevel::Disable, Provider::Cpu)?
			.with_config_entry(EXTERNAL_DATA, folder)
			.map_err(|e| load(&e))?
			.commit_from_memory(bytes)
			.map_err(|e| load(&e))?;
		Ok(Self::new(session, Provider::Cpu))
	}

	/// Writes the graph that the optimiser makes of this one on the CPU; its weights come to stand beside it.
	pub(crate) fn optimize(path: &Path, optimization: &str, to: &Path) -> Result<(), EngineError> {
		let load = |e: &dyn std::fmt::Display| EngineError::load(path, e);
		external::check(path)?;
		let weights = to.with_extension("weights");
		let name = weights.file_name().unwrap_or_default().to_string_lossy();
		builder(1, level(optimization)?, Provider::Cpu)?
			.with_config_entry(OPTIMIZED_DATA, name)
			.map_err(|e| load(&e))?
			.with_optimized_model_path(to)
			.map_err(|e| load(&e))?
			.commit_from_file(path)
			.map_err(|e| load(&e))?;
		Ok(())
	}

	fn new(session: Session, provider: Provider) -> Self {
		let info = specs(session.inputs()).and_then(|inputs| {
			Ok(GraphInfo {
				inputs,
				outputs: specs(session.outputs())?,
				opset: session.opset_for_domain("").unwrap_or_default(),
			})
		});
		Self {
			inputs: session
				.inputs()
				.iter()
				.map(|o| (o.name().into(), Some(o.dtype().clone())))
				.collect(),
			outputs: session.outputs().iter().map(|o| o.name().into()).collect(),
			session: Mutex::new(session),
			provider,
			info,
		}
	}

	/// What the graph takes and gives, if it is made of tensors only.
	pub(crate) fn info(&self) -> Result<GraphInfo, EngineError> {
		self.info.clone()
	}

	pub(crate) fn has_input(&self, name: &str) -> bool {
		self.inputs.iter().any(|(n, _)| n == name)
	}

	pub(crate) fn has_output(&self, name: &str) -> bool {
		self.outputs.iter().any(|n| n == name)
	}

	pub(crate) fn input_type(&self, name: &str) -> Option<DataType> {
		self.inputs
			.iter()
			.find(|(n, _)| n == name)
			.and_then(|(_, t)| match t {
				Some(ValueType::Tensor { ty, .. }) => tensor::datatype(*ty).ok(),
				_ => None,
			})
	}

	/// Names of the inputs.
	pub(crate) fn input_names(&self) -> impl Iterator<Item = &str> {
		self.inputs.iter().map(|(name, _)| name.as_str())
	}

	/// Names of an input's dimensions, empty where they have none.
	pub(crate) fn symbols(&self, name: &str) -> Vec<String> {
		let input = self.inputs.iter().find(|(n, _)| n == name);
		match input {
			Some((
				_,
				Some(ValueType::Tensor {
					dimension_symbols, ..
				}),
			)) => dimension_symbols.iter().map(|s| s.to_string()).collect(),
			_ => Vec::new(),
		}
	}

	/// The length that an input has along its last dimension, where the graph takes no other.
	pub(crate) fn fixed_length(&self, name: &str) -> Option<usize> {
		let input = self.inputs.iter().find(|(n, _)| n == name)?;
		match &input.1 {
			Some(ValueType::Tensor { shape, .. }) => usize::try_from(*shape.last()?).ok(),
			_ => None,
		}
	}

	/// Integers as an input takes them: 64 bits wide, or whatever else exporters make of numbers of tokens and masks.
	pub(crate) fn integers(
		&self,
		name: &str,
		shape: &[usize],
		values: Vec<i64>,
	) -> Result<Raw, EngineError> {
		let datatype = self.input_type(name).unwrap_or(DataType::Int64);
		let mut data = Vec::with_capacity(values.len() * 8);
		for value in values {
			match datatype {
				DataType::Int64 => data.extend_from_slice(&value.to_le_bytes()),
				DataType::Int32 => {
					let narrow = i32::try_from(value).map_err(|_| {
						EngineError::Mismatch(format!("{name}: {value} does not fit INT32"))
					})?;
					data.extend_from_slice(&narrow.to_le_bytes());
				}
				// Masks, which are zeros and ones.
				DataType::Fp32 if matches!(value, 0 | 1) => {
					data.extend_from_slice(&(value as f32).to_le_bytes());
				}
				DataType::Bool if matches!(value, 0 | 1) => data.push(value as u8),
				other => {
					return Err(EngineError::Mismatch(format!(
						"the graph takes {name} as {}, and it is fed as INT64 or INT32",
						other.name()
					)))
				}
			}
		}
		Ok(Raw {
			datatype,
			shape: shape.to_vec(),
			data,
		})
	}

	/// Refuses a graph that needs an input which nobody feeds.
	pub(crate) fn only_needs(&self, fed: impl Fn(&str) -> bool) -> Result<(), EngineError> {
		match self.input_names().find(|name| !fed(name)) {
			None => Ok(()),
			Some(name) => Err(EngineError::Mismatch(format!(
				"the graph needs an input {name:?}, and what it means is not known here: export the model without it, or with its \
				 value in the graph"
			))),
		}
	}

	/// Whether all of the graph runs on the CPU.
	pub(crate) fn on_cpu(&self) -> bool {
		self.provider == Provider::Cpu
	}

	/// Where the graph runs.
	pub(crate) fn provider(&self) -> Provider {
		self.provider
	}

	/// The memory in which the graph keeps what it computes.
	pub(crate) fn memory(&self) -> Result<MemoryInfo<'static>, EngineError> {
		Ok(match self.provider {
			Provider::Cpu => MemoryInfo::default(),
			Provider::Cuda { device } => MemoryInfo::new(
				AllocationDevice::CUDA,
				device,
				AllocatorType::Device,
				MemoryType::Default,
			)?,
		})
	}

	/// An empty binding of values to inputs and outputs.
	pub(crate) fn binding(&self) -> Result<IoBinding, EngineError> {
		let session = self.session.lock().unwrap_or_else(|e| e.into_inner());
		Ok(session.create_binding()?)
	}

	/// Runs the graph on bound values and hands its outputs to `take`.
	pub(crate) fn run_bound<R>(
		&self,
		binding: &IoBinding,
		take: impl FnOnce(SessionOutputs<'_>) -> Result<R, EngineError>,
	) -> Result<R, EngineError> {
		let mut session = self.session.lock().unwrap_or_else(|e| e.into_inner());
		let run = Watched::begin()?;
		let outputs = session
			.run_binding_with_options(binding, run.options())
			.map_err(|e| run.failed(e))?;
		run.ended();
		take(outputs)
	}

	/// Runs the graph and hands its outputs to `take`.
	pub(crate) fn run<R>(
		&self,
		inputs: Vec<(String, SessionInputValue<'_>)>,
		take: impl FnOnce(SessionOutputs<'_>) -> Result<R, EngineError>,
	) -> Result<R, EngineError> {
		// A panic in `take` leaves the session as it was: nothing of it is borrowed across runs.
		let mut session = self.session.lock().unwrap_or_else(|e| e.into_inner());
		let run = Watched::begin()?;
		let outputs = session
			.run_with_options(inputs, run.options())
			.map_err(|e| run.failed(e))?;
		run.ended();
		take(outputs)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn providers_are_written_as_they_are_read() {
		for text in ["cpu", "cuda:0", "cuda:3"] {
			assert_eq!(text.parse::<Provider>().unwrap().to_string(), text);
		}
		assert_eq!("cuda".parse(), Ok(Provider::Cuda { device: 0 }));
		for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"] {
			assert!(text.parse::<Provider>().is_err(), "{text}");
		}
	}
}
