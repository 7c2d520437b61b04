//! Models travel between nodes.
//!
//! ```text
//! serve MODEL ─▶ manifest ─▶ hash is the id? ─▶ what the chain says? ─▶ pieces, each hashed, from whoever has them ─▶ store
//!                                                                        │ given on from the first one on
//! ```
//!
//! A node asks and answers; nobody can make it store anything. What it gives is what is in its store, by hash.
//!
//! **Architecture invariant:** no byte of a manifest or a piece is kept or read before its hash is checked.
//! **Architecture invariant:** a transfer keeps less than 64 MiB in memory, whatever the model's size; answers wait in bounded numbers,
//! and bounded for each peer.

mod fetch;
mod message;
mod metrics;
mod network;
mod progress;
mod serve;
mod shelf;
mod sources;
#[cfg(test)]
mod tests;

use std::{
	collections::{HashMap, HashSet},
	future::Future,
	io::ErrorKind,
	sync::{Arc, Mutex, MutexGuard},
	time::{Duration, Instant},
};

use consilience_primitives::{manifest::Manifest, model::ModelSpec, ModelId};
use consilience_store::{Store, StoreError};
use futures::{future::BoxFuture, FutureExt, TryFutureExt};
use polkadot_sdk::{
	sc_network::request_responses::IncomingRequest,
	substrate_prometheus_endpoint::{PrometheusError, Registry},
};
use tokio::{sync::Semaphore, task::AbortHandle};

pub use message::{
	Request, Response, MAX_MANIFEST, MAX_MANIFEST_RESPONSE, MAX_REQUEST, MAX_RESPONSE,
};
pub use network::{Misdeed, Network, NodeNetwork, Protocols};
pub use progress::Progress;
pub use shelf::Shelf;
pub use sources::Place;

use fetch::Fetcher;
use metrics::Metrics;
use progress::Watched;
use sources::Sources;

/// Target of this crate's log lines.
pub const LOG_TARGET: &str = "models";

/// Questions that the network keeps until they are looked at; beyond them it refuses.
pub const QUEUE: usize = 64;

/// A peer that has not answered after this time is asked no more for a while.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Models that are fetched at a time; others wait.
const TOGETHER: usize = 2;

/// Pause after a fetch that failed for a reason that may pass.
const PAUSE: Duration = Duration::from_secs(10);

/// How long it is waited for what is at work on a model that is to be forgotten, and how often that is looked at.
const FORGET: Duration = Duration::from_secs(60);
const FORGET_AGAIN: Duration = Duration::from_millis(50);

/// How models travel.
#[derive(Clone, Debug, Default)]
pub struct Options {
	/// Most bytes a second that are given to other nodes.
	pub upload_rate: Option<u64>,
	/// Most bytes of all models of the store.
	pub quota: Option<u64>,
	/// Places from which models can be had besides.
	pub sources: Vec<Place>,
	/// Gives wrong bytes.
	#[cfg(feature = "liars")]
	pub lies: bool,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
	shared.lock().unwrap_or_else(|e| e.into_inner())
}

/// Why transfers cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
	/// The metrics.
	#[error("metrics: {0}")]
	Metrics(#[from] PrometheusError),
	/// A folder of the sources.
	#[error("--model-source: {0}")]
	Source(#[from] StoreError),
}

struct Task {
	abort: AbortHandle,
	progress: Arc<Watched>,
}

/// Begins to fetch a model, and says in the last value how far it is.
type Begin = dyn Fn(ModelId, ModelSpec, Arc<Watched>) -> AbortHandle + Send + Sync;

/// Asks other nodes for a model's manifest.
type Look = dyn Fn(ModelId) -> BoxFuture<'static, Result<Manifest, String>> + Send + Sync;

/// Models on their way to this node. Clones share them.
#[derive(Clone)]
pub struct Transfers {
	shelf: Arc<Shelf>,
	begin: Arc<Begin>,
	look: Arc<Look>,
	tasks: Arc<Mutex<HashMap<ModelId, Task>>>,
}

impl Transfers {
	/// Transfers over a network into a store.
	///
	/// # Errors
	/// Where metrics cannot be registered, or a folder of the sources cannot be opened.
	pub fn new<N: Network>(
		store: Store,
		network: N,
		options: &Options,
		registry: Option<&Registry>,
	) -> Result<(Self, Server), StartError> {
		tidy(&store);
		let shelf = Arc::new(Shelf::new(store));
		let metrics = Metrics::register(registry)?;
		let fetcher = Arc::new(Fetcher {
			network: Sources::new(network, &options.sources)?,
			shelf: shelf.clone(),
			metrics: metrics.clone(),
			quota: options.quota,
		});
		let places = Arc::new(Semaphore::new(TOGETHER));
		let looker = fetcher.clone();
		let look = move |model| {
			let looker = looker.clone();
			let manifest = async move { looker.manifest(model, &Watched::default()).await };
			manifest.map_err(|e| e.to_string()).boxed()
		};
		let begin = move |model, spec: ModelSpec, progress: Arc<Watched>| {
			let (fetcher, places) = (fetcher.clone(), places.clone());
			tokio::spawn(run(fetcher, places, model, spec, progress)).abort_handle()
		};
		let transfers = Self {
			shelf: shelf.clone(),
			begin: Arc::new(begin),
			look: Arc::new(look),
			tasks: Arc::default(),
		};
		let server = Server {
			shelf,
			metrics,
			options: options.clone(),
		};
		Ok((transfers, server))
	}

	/// Begins to fetch a model that the chain describes so, unless that is going on; of one that is damaged, what is wrong. Needs a tokio
	/// runtime.
	///
	/// # Errors
	/// Where a damaged model cannot be set aside.
	pub fn fetch(&self, model: ModelId, spec: &ModelSpec) -> Result<(), StoreError> {
		let mut tasks = lock(&self.tasks);
		if tasks.get(&model).is_some_and(|t| !t.abort.is_finished()) {
			return Ok(());
		}
		self.shelf.set_aside(model)?;
		let progress = Arc::new(Watched::default());
		let abort = (self.begin)(model, spec.clone(), progress.clone());
		tasks.insert(model, Task { abort, progress });
		Ok(())
	}

	/// Fetches a model no longer, and removes what there is of it. Ends when that is done: what was at work on it is waited for. A model
	/// that became whole meanwhile stays.
	pub fn forget(&self, model: ModelId) -> impl Future<Output = ()> + Send + 'static {
		let task = lock(&self.tasks).remove(&model);
		let shelf = self.shelf.clone();
		async move {
			if let Some(task) = task {
				task.abort.abort();
			}
			shelf.ends(model);
			let until = Instant::now() + FORGET;
			loop {
				let store = shelf.store().clone();
				let removed = tokio::task::spawn_blocking(move || store.forget_partial(model));
				match removed.await {
					Ok(Err(StoreError::Io { source, .. }))
						if source.kind() == ErrorKind::WouldBlock && Instant::now() < until =>
					{
						tokio::time::sleep(FORGET_AGAIN).await;
					}
					Ok(Err(error)) => {
						return tracing::warn!(target: LOG_TARGET, "{model:?}: {error}")
					}
					_ => return,
				}
			}
		}
	}

	/// Ends a task as the end of the process does.
	#[cfg(test)]
	fn forget_task(&self, model: ModelId) {
		let task = lock(&self.tasks).remove(&model);
		task.expect("it is fetched").abort.abort();
		self.shelf.ends(model);
	}

	/// A model's manifest: from the store, or from other nodes, whose hash is the model's id. Keeps nothing.
	///
	/// # Errors
	/// In words, where nobody who was asked has it.
	pub async fn manifest(&self, model: ModelId) -> Result<Manifest, String> {
		let store = self.store().clone();
		let here = move || store.get(model).ok().map(|stored| stored.manifest);
		match tokio::task::spawn_blocking(here).await {
			Ok(Some(manifest)) => Ok(manifest),
			Ok(None) => (self.look)(model).await,
			Err(e) => Err(e.to_string()),
		}
	}

	/// The store into which models are fetched, and from which they are given.
	pub fn store(&self) -> &Store {
		self.shelf.store()
	}

	/// How far a model has come that is on its way, or could not be fetched.
	pub fn progress(&self, model: &ModelId) -> Option<Progress> {
		let tasks = lock(&self.tasks);
		let task = tasks.get(model)?;
		let progress = task.progress.seen();
		(!task.abort.is_finished() || progress.has_failed).then_some(progress)
	}

	/// Models that are on their way or could not be fetched, and how far they are.
	pub fn underway(&self) -> Vec<(ModelId, Progress)> {
		let tasks = lock(&self.tasks);
		let ids: Vec<ModelId> = tasks.keys().copied().collect();
		drop(tasks);
		let progress = |id| Some((id, self.progress(&id)?));
		ids.into_iter().filter_map(progress).collect()
	}

	/// Models of which something on the disk is not what the manifest says.
	pub fn damaged(&self) -> HashSet<ModelId> {
		self.shelf.damaged()
	}

	/// Notes that somebody else has found a model of the store damaged.
	pub fn note_damage(&self, model: ModelId) {
		self.shelf.note_damage(model);
	}
}

/// Fetches a model until it is there, or until that is of no use.
async fn run<N: Network>(
	fetcher: Arc<Fetcher<N>>,
	places: Arc<Semaphore>,
	model: ModelId,
	spec: ModelSpec,
	progress: Arc<Watched>,
) {
	loop {
		let fetched = {
			progress.waits_for("other models are being fetched");
			// Never closed. What nobody has gives its place to others while it waits.
			let _place = places.acquire().await;
			fetcher.fetch(model, &spec, &progress).await
		};
		match fetched {
			Ok(()) => {
				let Progress {
					fetched, copied, ..
				} = progress.seen();
				return tracing::info!(
					target: LOG_TARGET,
					"{model:?}: fetched, {fetched} bytes from other nodes and {copied} from other models of the store"
				);
			}
			Err(error) if error.is_final() => {
				tracing::error!(target: LOG_TARGET, "{model:?} is not fetched: {error}");
				return progress.fails(error.to_string());
			}
			Err(error) => {
				tracing::warn!(target: LOG_TARGET, "{model:?}: {error}");
				progress.says(error.to_string());
				tokio::time::sleep(PAUSE).await;
			}
		}
	}
}

/// Removes what is left of models that are whole: of a process that ended between the last two steps.
fn tidy(store: &Store) {
	let left = store.partials().unwrap_or_default().into_iter();
	for model in left.filter(|model| store.contains(*model)) {
		if let Err(error) = store.forget_partial(model) {
			tracing::warn!(target: LOG_TARGET, "{model:?}: {error}");
		}
	}
}

/// Gives models to other nodes.
pub struct Server {
	shelf: Arc<Shelf>,
	metrics: Metrics,
	options: Options,
}

impl Server {
	/// Answers questions, until the network ends.
	pub async fn run(self, inbound: async_channel::Receiver<IncomingRequest>) {
		serve::serve(
			inbound,
			self.shelf,
			serve::Rate::new(self.options.upload_rate),
			self.metrics,
			#[cfg(feature = "liars")]
			self.options.lies,
		)
		.await;
	}
}
