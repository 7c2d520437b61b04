//! The command line.

use std::path::PathBuf;

use consilience_calibration::CalibrateCommand;
use polkadot_sdk::*;

use crate::{
	finality::FinalityParams,
	lane::LaneParams,
	tool::{
		AppealCommand, ChannelCommand, ChatCommand, EngineCommand, GatewayCommand, InferCommand,
		ModelCommand, RequestCommand, ValidatorCommand, VerifyCommand,
	},
	worker::WorkerParams,
};

/// Arguments of the node and of everything that the binary can do besides.
#[derive(Debug, clap::Parser)]
pub(crate) struct Cli {
	/// What to do; without it, the node runs.
	#[command(subcommand)]
	pub(crate) subcommand: Option<Subcommand>,

	/// How the node runs.
	#[command(flatten)]
	pub(crate) run: sc_cli::RunCmd,

	/// Keep what runtimes are compiled to in a folder in this directory, which makes the next start quicker. Several nodes may
	/// share it. For development and tests: whoever can write there decides what the node executes.
	#[arg(long, value_name = "DIRECTORY")]
	pub(crate) runtime_cache: Option<PathBuf>,

	/// How a validator votes on finality.
	#[command(flatten)]
	pub(crate) finality: FinalityParams,

	/// How the validator's worker runs.
	#[command(flatten)]
	pub(crate) worker: WorkerParams,

	/// How the validator takes part in the session lane.
	#[command(flatten)]
	pub(crate) lane: LaneParams,
}

impl Cli {
	/// How the worker runs, what `--dev` adds included.
	pub(crate) fn worker_params(&self) -> WorkerParams {
		let shared = &self.run.shared_params;
		if !shared.is_dev() {
			return self.worker.clone();
		}
		// With it, and no folder named, everything but the models is in a folder that is removed at the end.
		let temporary = self.run.tmp || shared.base_path.is_none();
		self.worker.clone().for_development(temporary)
	}
}

/// What the binary can do besides running the node.
#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Subcommand {
	/// Import, register, serve, list and run models.
	#[command(subcommand)]
	Model(ModelCommand),

	/// Ask for an inference, and follow it to its checked answer.
	Infer(InferCommand),

	/// Talk to a model directly: answers stream, and others check them within moments.
	Chat(ChatCommand),

	/// Deposits that pay validators directly.
	#[command(subcommand)]
	Channel(ChannelCommand),

	/// Let clients of OpenAI, Anthropic and the Open Inference Protocol use the chain.
	Gateway(GatewayCommand),

	/// Follow requests.
	#[command(subcommand)]
	Request(RequestCommand),

	/// Look after a validator.
	#[command(subcommand)]
	Validator(ValidatorCommand),

	/// Check an answer on this machine.
	Verify(VerifyCommand),

	/// Put an answer before a jury.
	Appeal(AppealCommand),

	/// Measure how far honest and dishonest answers of a model are apart, and derive its verification policy.
	Calibrate(CalibrateCommand),

	/// The process in which models run. The node starts it.
	#[command(hide = true)]
	Engine(EngineCommand),

	/// Make, look at and store keys.
	#[command(subcommand)]
	Key(sc_cli::KeySubcommand),

	/// Write a chain specification.
	#[command(alias = "build-spec")]
	ExportChainSpec(sc_cli::ExportChainSpecCmd),

	/// Check a block.
	CheckBlock(sc_cli::CheckBlockCmd),

	/// Write blocks to a file.
	ExportBlocks(sc_cli::ExportBlocksCmd),

	/// Write the state of a block as a chain specification.
	ExportState(sc_cli::ExportStateCmd),

	/// Read blocks from a file.
	ImportBlocks(sc_cli::ImportBlocksCmd),

	/// Remove the whole chain from this machine.
	PurgeChain(sc_cli::PurgeChainCmd),

	/// Set the chain on this machine back by some blocks.
	Revert(sc_cli::RevertCmd),

	/// Show the database's own information on the chain.
	ChainInfo(sc_cli::ChainInfoCmd),
}
