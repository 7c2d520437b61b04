//! The engine's process. The node starts it; people need not.

use std::path::PathBuf;

use consilience_engine::{
	server::{serve, ServerConfig},
	EngineConfig, Provider,
};
use polkadot_sdk::sc_cli;

/// Serve the node that started this process with ONNX Runtime.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineCommand {
	/// Socket to take the node's connection on.
	#[arg(long)]
	socket: PathBuf,

	/// Threads of a graph's operators; 0 for all cores but one.
	#[arg(long, default_value_t = 0)]
	threads: u32,

	/// Where tolerant models run: `cpu`, `cuda` or `cuda:N`.
	#[arg(long, default_value = "cpu", value_parser = provider)]
	provider: Provider,

	/// Bytes of memory after which the process gets no more [default: three quarters of the machine's].
	#[arg(long)]
	memory_limit: Option<u64>,

	/// Bytes that the files of models in memory may have; those used least recently go, and come back when they are needed.
	#[arg(long)]
	models_bytes: Option<u64>,

	/// Stay in the node's user and network namespaces.
	#[arg(long)]
	no_namespaces: bool,

	/// Jobs at a time.
	#[arg(long, default_value_t = 2)]
	workers: usize,
}

/// A provider by its name on the command line.
fn provider(text: &str) -> Result<Provider, String> {
	match text.split_once(':') {
		None if text == "cpu" => Ok(Provider::Cpu),
		None if text == "cuda" => Ok(Provider::Cuda { device: 0 }),
		Some(("cuda", device)) => device
			.parse()
			.map(|device| Provider::Cuda { device })
			.map_err(|_| format!("{device:?} is no number of a CUDA device")),
		_ => Err(format!("{text:?} is none of cpu, cuda, cuda:N")),
	}
}

impl EngineCommand {
	/// Serves until the node goes away.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		tracing_subscriber::fmt()
			.with_writer(std::io::stderr)
			.with_ansi(false)
			.without_time()
			.with_max_level(tracing::Level::INFO)
			.init();
		serve(
			&self.socket,
			ServerConfig {
				engine: EngineConfig {
					threads: self.threads,
					provider: self.provider,
					models_bytes: self.models_bytes,
					..Default::default()
				},
				memory_limit: self.memory_limit,
				no_namespaces: self.no_namespaces,
				time: Default::default(),
				workers: self.workers,
			},
		)?;
		Ok(())
	}
}
