//! The engine's process. The node starts it; people need not.

use std::path::PathBuf;

use consilience_engine::{
	server::{serve, ServerConfig},
	EngineConfig, Provider,
};
use consilience_primitives::ModelId;
use polkadot_sdk::sc_cli;

/// Serve the node that started this process, and whose connection is its standard input, with ONNX Runtime.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineCommand {
	/// Folder of models. The process sees no others of this machine's files, but a few of the system's.
	#[arg(long)]
	models: Vec<PathBuf>,

	/// Threads of a graph's operators; 0 for all cores but one.
	#[arg(long, default_value_t = 0)]
	threads: u32,

	/// Where tolerant models run whose manifests admit it: `cpu`, `cuda` or `cuda:N`.
	#[arg(long, default_value = "cpu")]
	provider: Provider,

	/// Where one model runs instead.
	#[arg(long, value_name = "MODEL=PROVIDER", value_parser = model_provider)]
	model_provider: Vec<(ModelId, Provider)>,

	/// Refuse a model whose provider does not work, rather than run it on the CPU.
	#[arg(long)]
	no_fallback: bool,

	/// Bytes of a CUDA device's memory that each model may take.
	#[arg(long)]
	device_memory: Option<u64>,

	/// Bytes of memory after which the process gets no more [default: three quarters of the machine's].
	#[arg(long)]
	memory_limit: Option<u64>,

	/// Bytes that the files of models in memory may have; those used least recently go, and come back when they are needed.
	#[arg(long)]
	models_bytes: Option<u64>,

	/// Stay in the node's user and network namespaces.
	#[arg(long)]
	no_namespaces: bool,

	/// Most commands that are worked on at a time.
	#[arg(long, default_value_t = 2)]
	workers: usize,
}

/// A model and its provider, as `MODEL=PROVIDER`.
pub(crate) fn model_provider(text: &str) -> Result<(ModelId, Provider), String> {
	let (model, provider) = text
		.split_once('=')
		.ok_or_else(|| format!("{text:?} is not MODEL=PROVIDER"))?;
	let model = model
		.parse()
		.map_err(|_| format!("{model:?} is no id of a model, which is 32 bytes in hexadecimal"))?;
	Ok((model, provider.parse()?))
}

impl EngineCommand {
	/// How the engine runs.
	pub(crate) fn config(&self) -> EngineConfig {
		EngineConfig {
			threads: self.threads,
			provider: self.provider,
			providers: self.model_provider.clone(),
			no_fallback: self.no_fallback,
			device_memory: self.device_memory,
			models_bytes: self.models_bytes,
			..Default::default()
		}
	}

	/// Serves until the node goes away.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		tracing_subscriber::fmt()
			.with_writer(std::io::stderr)
			.with_ansi(false)
			.without_time()
			.with_max_level(tracing::Level::INFO)
			.init();
		serve(ServerConfig {
			engine: self.config(),
			memory_limit: self.memory_limit,
			models: self.models.clone(),
			no_namespaces: self.no_namespaces,
			time: Default::default(),
			workers: self.workers,
		})?;
		Ok(())
	}
}
