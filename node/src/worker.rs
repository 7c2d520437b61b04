//! Starts the validator's worker, which has the engine process do what is due.

use std::{
	path::{Path, PathBuf},
	sync::Arc,
	time::Duration,
};

use consilience_engine::Provider;
use consilience_primitives::ModelId;
use consilience_runtime::opaque::Block;
use consilience_store::Store;
use consilience_transfer::Transfers;
use consilience_worker::{
	chain::RuntimeChain, Config, EngineOptions, Handle, Limits, ServeAtStart,
};
use polkadot_sdk::{sc_cli::SubstrateCli, sc_service};
use sc_service::{BasePath, Configuration, Error, SpawnTaskHandle};

use crate::{
	cli::Cli,
	dev,
	service::{FullClient, FullPool},
	tool::model_provider,
};

/// Models that are no language models and have duties at the same time, so that none waits for another's threads. Those of more
/// share them.
const GRAPHS: usize = 4;

/// How the validator's worker runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WorkerParams {
	/// Serve a stored model from the start: its id or name, or `all` for every model that is stored and registered. May be given
	/// more than once. With --dev it is registered too, and `all` is the default.
	#[arg(long, value_name = "MODEL")]
	serve: Vec<String>,

	/// Folder of the model store [default: `models` in the base path; with --dev and no --base-path, in the default base path].
	#[arg(long, value_name = "PATH")]
	model_store: Option<PathBuf>,

	/// Bytes that all models of the store may have together. One that would be more is not fetched.
	#[arg(long, value_name = "BYTES")]
	model_store_limit: Option<u64>,

	/// Where models can be had besides other nodes: a folder as a model store is, a web server that has one (https://…), or a gateway of
	/// IPFS (ipfs+https://…). What comes from there is checked as everything else. May be given more than once.
	#[arg(long, value_name = "PLACE")]
	model_source: Vec<consilience_transfer::Place>,

	/// Bytes of models a second that are given to other nodes at most, all together.
	#[arg(long, value_name = "BYTES")]
	model_upload_rate: Option<u64>,

	/// Register what is served.
	#[arg(skip)]
	registers: bool,

	/// Threads of the engine's operators; 0 for all cores but one.
	#[arg(long, value_name = "COUNT", default_value_t = 0)]
	engine_threads: u32,

	/// Where the engine runs tolerant models whose manifests admit it: `cpu`, `cuda` or `cuda:N`. All others run on the CPU.
	#[arg(long, value_name = "PROVIDER", default_value = "cpu")]
	engine_provider: Provider,

	/// Where the engine runs one model instead, such as a small one on the CPU beside a large one on CUDA. May be given more than
	/// once.
	#[arg(long, value_name = "MODEL=PROVIDER", value_parser = model_provider)]
	engine_model_provider: Vec<(ModelId, Provider)>,

	/// Have the engine refuse a model whose provider does not work, rather than run it on the CPU: it is then not served.
	#[arg(long)]
	engine_no_fallback: bool,

	/// Bytes of a CUDA device's memory that each model may take for weights, caches and work; the driver's own come on top.
	#[arg(long, value_name = "BYTES")]
	engine_device_memory: Option<u64>,

	/// Bytes of memory after which the engine gets no more [default: three quarters of the machine's].
	#[arg(long, value_name = "BYTES")]
	engine_memory_limit: Option<u64>,

	/// Let the engine stay in the node's user and network namespaces, for drivers that do not work elsewhere. It has no
	/// network all the same where the kernel can filter system calls.
	#[arg(long)]
	engine_no_namespaces: bool,

	/// Serve no model where this machine's kernel cannot confine the engine: see docs/operators/sandbox.md.
	#[arg(long)]
	engine_require_sandbox: bool,

	/// Bytes that the files of models in the engine's memory may have. For one more, those used least recently go, and come back
	/// when they are needed.
	#[arg(long, value_name = "BYTES")]
	engine_models_bytes: Option<u64>,

	/// Answers of language models that the engine writes at a time, and as many that it measures. Those of one model share its
	/// runs, so eight cost little more than one. Other models have eight inputs each in the engine, which runs one after another.
	#[arg(long, value_name = "COUNT", default_value_t = 8)]
	engine_jobs: usize,

	/// How this validator lies.
	#[cfg(feature = "liars")]
	#[arg(long, value_name = "LIE", hide = true)]
	liar: Option<consilience_worker::liars::Lie>,

	/// The cheaper model of lies that need one.
	#[cfg(feature = "liars")]
	#[arg(long, value_name = "MODEL", hide = true)]
	liar_model: Option<consilience_primitives::ModelId>,

	/// Give other nodes wrong bytes of models.
	#[cfg(feature = "liars")]
	#[arg(long, hide = true)]
	liar_gives_wrong_bytes: bool,

	/// A validator that lies with this one. May be given more than once.
	#[cfg(feature = "liars")]
	#[arg(long, value_name = "ACCOUNT", hide = true)]
	accomplice: Vec<consilience_runtime::AccountId>,
}

impl WorkerParams {
	/// On a development chain: models are registered and served without being asked for. `temporary` says that the base path is
	/// new and empty, so that the models are those of the default one.
	pub(crate) fn for_development(mut self, temporary: bool) -> Self {
		self.registers = true;
		if self.serve.is_empty() {
			self.serve.push("all".into());
		}
		if temporary && self.model_store.is_none() {
			let default = BasePath::from_project("", "", &Cli::executable_name());
			self.model_store = Some(consilience_worker::store_folder(default.path()));
		}
		self
	}

	/// How models travel.
	pub(crate) fn transfer_options(&self) -> consilience_transfer::Options {
		consilience_transfer::Options {
			upload_rate: self.model_upload_rate,
			quota: self.model_store_limit,
			sources: self.model_source.clone(),
			#[cfg(feature = "liars")]
			lies: self.liar_gives_wrong_bytes,
		}
	}

	/// Folder of the model store.
	pub(crate) fn model_store(&self, base_path: &Path) -> PathBuf {
		self.model_store
			.clone()
			.unwrap_or_else(|| consilience_worker::store_folder(base_path))
	}

	/// All of `--serve` together. Names are looked up in the store.
	fn served(&self, store: &Path) -> Result<ServeAtStart, String> {
		let mut served = ServeAtStart::default();
		for wanted in &self.serve {
			match wanted.parse::<ServeAtStart>() {
				Ok(one) => {
					served.all |= one.all;
					served.models.extend(one.models);
				}
				Err(_) => {
					served.models.insert(named(store, wanted)?);
				}
			}
		}
		Ok(served)
	}

	/// Bounds of the worker's work.
	fn limits(&self) -> Limits {
		Limits {
			jobs: self.engine_jobs,
			block: Duration::from_millis(consilience_runtime::MILLISECS_PER_BLOCK),
			..Default::default()
		}
	}

	/// Arguments of the engine's process.
	fn engine_arguments(&self) -> Vec<String> {
		let mut arguments = vec![
			"--threads".into(),
			self.engine_threads.to_string(),
			"--provider".into(),
			self.engine_provider.to_string(),
			"--workers".into(),
			self.limits().most(GRAPHS).to_string(),
		];
		for (model, provider) in &self.engine_model_provider {
			arguments.extend(["--model-provider".into(), format!("{model:?}={provider}")]);
		}
		if self.engine_no_fallback {
			arguments.push("--no-fallback".into());
		}
		if let Some(bytes) = self.engine_device_memory {
			arguments.extend(["--device-memory".into(), bytes.to_string()]);
		}
		if let Some(bytes) = self.engine_models_bytes {
			arguments.extend(["--models-bytes".into(), bytes.to_string()]);
		}
		if let Some(limit) = self.engine_memory_limit {
			arguments.extend(["--memory-limit".into(), limit.to_string()]);
		}
		if self.engine_no_namespaces {
			arguments.push("--no-namespaces".into());
		}
		arguments
	}
}

/// The model of this name in the store.
fn named(store: &Path, name: &str) -> Result<ModelId, String> {
	let models = Store::open(store)
		.and_then(|s| s.list())
		.map_err(|e| format!("--serve {name}: {e}"))?;
	let found: Vec<_> = models.iter().filter(|m| m.manifest.name == name).collect();
	match &found[..] {
		[model] => Ok(model.id),
		[] => Err(format!(
			"--serve {name}: it is neither `all` nor a model's id of 64 hexadecimal digits, and no model of this name is in the store \
			 {}. `consilience model list` shows what is, `consilience model import` puts one there",
			store.display()
		)),
		_ => Err(format!(
			"--serve {name}: several models in the store {} have this name: give an id of `consilience model list`",
			store.display()
		)),
	}
}

/// What the worker uses of the node.
pub(crate) struct Parts {
	pub(crate) client: Arc<FullClient>,
	pub(crate) pool: Arc<FullPool>,
	/// Transfers of models between nodes.
	pub(crate) transfers: Option<Transfers>,
}

/// Starts the worker as a task of its own that is not essential. Where it cannot start the node says why and validates without:
/// it is then never drawn, since it serves nothing. Fails only where this program must not run.
pub(crate) fn start(
	config: &Configuration,
	params: WorkerParams,
	parts: Parts,
	chain: RuntimeChain<Block, FullClient, FullPool>,
	spawner: &SpawnTaskHandle,
	#[cfg(feature = "liars")] liar: consilience_worker::liars::Liar,
) -> Result<Option<Handle>, Error> {
	let Parts {
		client,
		pool,
		transfers,
	} = parts;
	let program = match std::env::current_exe() {
		Ok(program) => program,
		Err(error) => {
			log::error!("No inference: the node's own program, which is the engine's too, cannot be found: {error}");
			return Ok(None);
		}
	};
	let store = params.model_store(config.base_path.path());
	let serve = params.served(&store).map_err(Error::Other)?;
	let registered = serve.clone();
	let worker = consilience_worker::start(
		chain,
		Config {
			chain_folder: config.base_path.config_dir(config.chain_spec.id()),
			store: store.clone(),
			serve,
			limits: params.limits(),
			transfers,
			engine: EngineOptions {
				program,
				arguments: params.engine_arguments(),
				models: store,
				require_sandbox: params.engine_require_sandbox,
			},
			#[cfg(feature = "liars")]
			liar,
		},
		config.prometheus_registry(),
	);
	Ok(match worker {
		Ok((handle, task)) => {
			spawner.spawn("inference-worker", Some("inference"), task);
			if params.registers {
				let store = handle.store().clone();
				log::info!(
					"Models of {} are registered by Alice and served, as they are imported",
					store.root().display()
				);
				let task = dev::register_models(client, pool, store, registered);
				spawner.spawn("development-models", Some("inference"), task);
			}
			Some(handle)
		}
		Err(error) => {
			log::error!("No inference, this validator serves no model: {error}");
			None
		}
	})
}

/// How this validator lies.
#[cfg(feature = "liars")]
pub(crate) fn liar(
	config: &Configuration,
	params: &WorkerParams,
	client: Arc<FullClient>,
) -> Result<consilience_worker::liars::Liar, Error> {
	use consilience_runtime_api::InferenceApi;
	use polkadot_sdk::{
		sc_client_api::StorageProvider, sc_service::ChainType, sp_api::ProvideRuntimeApi,
		sp_core::storage::StorageKey,
	};
	if config.chain_spec.chain_type() == ChainType::Live {
		return Err(Error::Other(
			"this program can lie (feature `liars`) and runs on no live chain: use `consilience`"
				.into(),
		));
	}
	if params.liar.is_some_and(|lie| lie.needs_model()) && params.liar_model.is_none() {
		return Err(Error::Other("this lie needs --liar-model".into()));
	}
	let seen = client.clone();
	Ok(consilience_worker::liars::Liar {
		lie: params.liar,
		model: params.liar_model,
		accomplices: params.accomplice.clone(),
		requests: Arc::new(move |at, request| seen.runtime_api().request(at, request).ok()?),
		storage: Arc::new(move |at, key| {
			let value = client.storage(at, &StorageKey(key.to_vec())).ok()?;
			value.map(|v| v.0)
		}),
		crash: Arc::new(|| std::process::abort()),
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{
		cli::{Cli, Subcommand},
		tool::EngineCommand,
	};
	use clap::Parser;

	/// What the engine's process makes of the node's options.
	fn engine(options: &[&str]) -> EngineCommand {
		let node = Cli::try_parse_from([&["consilience"], options].concat()).unwrap();
		let arguments = node.worker.engine_arguments();
		let before = ["consilience", "engine", "--models", "m"].map(str::to_owned);
		let engine = Cli::try_parse_from(before.into_iter().chain(arguments)).unwrap();
		match engine.subcommand {
			Some(Subcommand::Engine(command)) => command,
			other => panic!("{other:?}"),
		}
	}

	/// How the worker of a node with these options runs.
	fn worker(options: &[&str]) -> WorkerParams {
		let cli = Cli::try_parse_from([&["consilience"], options].concat()).unwrap();
		cli.worker_params()
	}

	#[test]
	fn a_development_chain_serves_the_models_that_were_imported_before() {
		let empty = tempfile::tempdir().unwrap();
		let base = Path::new("/base");
		let plain = worker(&["--chain", "local"]);
		assert_eq!(plain.model_store(base), base.join("models"));
		assert_eq!(plain.served(empty.path()), Ok(ServeAtStart::default()));
		assert!(!plain.registers);
		// Its own folder is made anew at each start, and models are not imported into it.
		let default = BasePath::from_project("", "", "consilience");
		for options in [&["--dev"][..], &["--dev", "--tmp"]] {
			let dev = worker(options);
			assert!(dev.registers && dev.served(empty.path()).unwrap().all);
			assert_eq!(dev.model_store(base), default.path().join("models"));
		}
		let dev = worker(&["--dev", "--base-path", "/base"]);
		assert_eq!(dev.model_store(base), base.join("models"));
		let dev = worker(&["--dev", "--model-store", "/store"]);
		assert_eq!(dev.model_store(base), Path::new("/store"));
		// What is asked for is all that is served.
		let one = format!("{:?}", ModelId::repeat_byte(3));
		let dev = worker(&["--dev", "--serve", &one])
			.served(empty.path())
			.unwrap();
		assert!(!dev.all && dev.models.contains(&ModelId::repeat_byte(3)));
	}

	#[test]
	fn a_model_to_serve_that_nobody_knows_is_refused() {
		let store = tempfile::tempdir().unwrap();
		let both = format!("{:?}", ModelId::repeat_byte(3));
		let served = worker(&["--serve", "all", "--serve", &both]).served(store.path());
		let served = served.unwrap();
		assert!(served.all && served.models.len() == 1);
		let error = worker(&["--serve", "0x12"])
			.served(store.path())
			.unwrap_err();
		assert!(error.contains("consilience model import"), "{error}");
	}

	#[test]
	fn the_engine_is_told_where_models_run() {
		let config = engine(&[]).config();
		assert_eq!(config, consilience_engine::EngineConfig::default());
		let model = ModelId::repeat_byte(7);
		let of_model = format!("{model:?}=cpu");
		let options = [
			"--engine-provider",
			"cuda:1",
			"--engine-model-provider",
			&of_model,
			"--engine-no-fallback",
			"--engine-device-memory",
			"4000000000",
		];
		let config = engine(&options).config();
		assert_eq!(config.provider, Provider::Cuda { device: 1 });
		assert_eq!(config.providers, [(model, Provider::Cpu)]);
		assert!(config.no_fallback);
		assert_eq!(config.device_memory, Some(4_000_000_000));
		for wrong in ["cpu", "0x07=cpu", "=cuda"] {
			let options = ["consilience", "--engine-model-provider", wrong];
			assert!(Cli::try_parse_from(options).is_err(), "{wrong}");
		}
	}
}
