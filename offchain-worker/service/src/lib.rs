//! The validator's worker: follows the chain, does what is due on the engine, and submits what there is to say.
//!
//! ```text
//! best block ─▶ duties(key) ─▶ journal? ─ no ─▶ job ─▶ engine process ─▶ journal
//!                                 │ yes                                     │
//!                                 └──────────▶ statements ◀─────────────────┘
//!                                                  │ one report for a block, one signature
//!                                                  ▼
//!                                           transaction pool
//! ```
//!
//! **Assumptions.** The runtime decides what is due ([`InferenceApi`](consilience_runtime_api::InferenceApi)); nobody else signs
//! with this node's `infr` key; the journal's file is not removed while requests are open.
//!
//! **Invariants.**
//! 1. What is computed and said follows from the best block and the journal alone: the queue is derived again at every block, so
//!    that a restart, a lost transaction or a reorganisation needs no case of its own. What is still due is said again.
//! 2. Nothing is said before it is in the journal, on disk. A kill at any instruction leaves a worker that reveals what it
//!    committed to and says nothing in two ways.
//! 3. At most one report is made for a block, with one signature.
//! 4. Evidence and committed outputs are shown only when the block in which the round's commitments closed is final: on a fork
//!    that parts after the draw of the challenge, somebody could otherwise commit to what it has seen.
//! 5. No byte of a model reaches the engine before its hash was checked, and a model is announced only by a machine that has
//!    reproduced its reference evidence.
//! 6. The worker decides nothing that consensus must agree on, and its end, or the engine's, stops neither authoring nor
//!    finality.
//!
//! **Cost.** A block costs one runtime call for each of the node's keys, one for each duty that is new, and one for each job that is
//! begun; on another fork, one for each duty. A job costs what the model costs, in another process. In memory are names and hashes of
//! what is due, and the inputs of jobs at work; on disk stand open requests' outputs and evidence.

mod blame;
pub mod chain;
pub mod contribute;
mod duty;
mod engine_log;
mod follow;
mod journal;
pub mod lane;
#[cfg(feature = "liars")]
pub mod liars;
mod library;
mod metrics;
pub mod runner;
mod serving;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{
	collections::BTreeSet,
	path::{Path, PathBuf},
	sync::Arc,
};

use consilience_primitives::ModelId;
use consilience_store::Store;
use consilience_transfer::Transfers;
use polkadot_sdk::substrate_prometheus_endpoint::Registry;
use tokio::sync::{mpsc, oneshot};

use chain::Chain;
use follow::Command;
pub use follow::{Limits, Status, Worker};
pub use journal::{Journal, JournalError};
pub use library::StoreLibrary;
pub use metrics::Metrics;
use runner::Runner;
pub use serving::ServingState;
pub use supervisor::{Engine, EngineOptions};

/// Target of this crate's log lines.
pub const LOG_TARGET: &str = "inference";

/// Folder of the model store under a node's base path. All chains share it: models are content-addressed.
pub fn store_folder(base_path: &Path) -> PathBuf {
	base_path.join("models")
}

/// Models to serve from the start, beside those of the list on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeAtStart {
	/// All that are stored and registered, now and later.
	pub all: bool,
	/// These.
	pub models: BTreeSet<ModelId>,
}

impl std::str::FromStr for ServeAtStart {
	type Err = String;

	/// `all`, or a model's id in hexadecimal.
	fn from_str(text: &str) -> Result<Self, String> {
		if text == "all" {
			return Ok(Self {
				all: true,
				models: BTreeSet::new(),
			});
		}
		let id = text.parse().map_err(|_| {
			format!("{text:?} is neither `all` nor a model's id of 64 hexadecimal digits")
		})?;
		Ok(Self {
			all: false,
			models: BTreeSet::from([id]),
		})
	}
}

/// How the worker runs.
#[derive(Clone)]
pub struct Config {
	/// Folder of the chain's own data; journal and list of served models go into its `inference` folder.
	pub chain_folder: PathBuf,
	/// Folder of the model store: [`store_folder`].
	pub store: PathBuf,
	/// Models to serve from the start.
	pub serve: ServeAtStart,
	/// Bounds of the work.
	pub limits: Limits,
	/// What fetches models that are not in the store, if anything does.
	pub transfers: Option<Transfers>,
	/// How the engine process is started.
	pub engine: EngineOptions,
	/// How this validator lies.
	#[cfg(feature = "liars")]
	pub liar: liars::Liar,
}

/// Why the worker cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
	/// The journal.
	#[error(transparent)]
	Journal(#[from] JournalError),
	/// The model store.
	#[error("the model store: {0}")]
	Store(#[from] consilience_store::StoreError),
	/// The list of served models.
	#[error("the list of served models: {0}")]
	Serving(String),
	/// The metrics.
	#[error("metrics: {0}")]
	Metrics(#[from] polkadot_sdk::substrate_prometheus_endpoint::PrometheusError),
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
	/// The worker has ended.
	#[error("the worker has ended: see the node's log")]
	Ended,
	/// The worker refused; why, and what to do.
	#[error("{0}")]
	Refused(String),
}

/// A handle with which the node's RPC talks to the worker. Clones share it.
#[derive(Clone)]
pub struct Handle {
	commands: mpsc::Sender<Command>,
	engine: Engine,
	store: Store,
	library: Arc<StoreLibrary>,
	runner: Arc<dyn Runner>,
}

impl Handle {
	async fn ask<T>(
		&self,
		command: impl FnOnce(oneshot::Sender<T>) -> Command,
	) -> Result<T, CommandError> {
		let (reply, replied) = oneshot::channel();
		self.commands
			.send(command(reply))
			.await
			.map_err(|_| CommandError::Ended)?;
		replied.await.map_err(|_| CommandError::Ended)
	}

	/// Serves a model, once it is registered and this machine has reproduced its reference evidence. One that is not stored is
	/// fetched from other nodes.
	pub async fn serve(&self, model: ModelId) -> Result<ServingState, CommandError> {
		self.ask(|reply| Command::Serve(model, reply))
			.await?
			.map_err(CommandError::Refused)
	}

	/// Serves a model no longer. Duties already drawn stay. Whether it was served or to be served.
	pub async fn withdraw(&self, model: ModelId) -> Result<bool, CommandError> {
		self.ask(|reply| Command::Withdraw(model, reply))
			.await?
			.map_err(CommandError::Refused)
	}

	/// How things are.
	pub async fn status(&self) -> Result<Status, CommandError> {
		self.ask(Command::Status).await
	}

	/// The supervised engine.
	pub fn engine(&self) -> &Engine {
		&self.engine
	}

	/// What runs the models for whoever serves them: the engine, or what a liar makes of it.
	pub fn runner(&self) -> &Arc<dyn Runner> {
		&self.runner
	}

	/// Models of the store, and which of them were checked.
	pub fn library(&self) -> &Arc<StoreLibrary> {
		&self.library
	}

	/// The model store.
	pub fn store(&self) -> &Store {
		&self.store
	}
}

/// Prepares the worker: its handle, and the future that runs worker and engine supervision. The future ends only with the chain's
/// stream of blocks, and is not essential to the node.
pub fn start<C: Chain>(
	chain: C,
	config: Config,
	registry: Option<&Registry>,
) -> Result<(Handle, impl std::future::Future<Output = ()> + Send), StartError> {
	let metrics = Metrics::register(registry)?;
	let folder = config.chain_folder.join("inference");
	let journal = Journal::open(&folder.join("journal.redb"), metrics.clone())?;
	let store = Store::open(config.store)?;
	let mut serving =
		serving::Serving::open(folder.join("serving.json")).map_err(StartError::Serving)?;
	if config.serve.all {
		serving.want_all().map_err(StartError::Serving)?;
	}
	for model in config.serve.models {
		serving.want(model).map_err(StartError::Serving)?;
	}
	let (engine, supervision) = supervisor::supervise(config.engine, metrics.clone());
	let (commands, receiver) = mpsc::channel(16);
	let library = Arc::new(StoreLibrary::new(store.clone(), config.transfers));
	let (chain, runner) = (Arc::new(chain), Arc::new(engine.clone()));
	#[cfg(feature = "liars")]
	let (chain, runner) = liars::corrupt(
		config.liar,
		chain,
		runner,
		library.clone(),
		commands.clone(),
	);
	let serving_runner: Arc<dyn Runner> = runner.clone();
	let worker = Worker::new(
		chain,
		runner,
		library.clone(),
		journal,
		serving,
		metrics,
		config.limits,
		receiver,
	);
	let future = async move {
		// Supervision ends where there can be no engine; the worker goes on to say so.
		let supervision = async {
			supervision.await;
			std::future::pending::<()>().await
		};
		tokio::select! {
			() = worker.run() => (),
			() = supervision => (),
		}
	};
	Ok((
		Handle {
			commands,
			engine,
			store,
			library,
			runner: serving_runner,
		},
		future,
	))
}
