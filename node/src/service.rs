//! Puts the node's parts together: client, network, transaction pool, BABE, GRANDPA, authority discovery, and the worker.

use consilience_executor::{Executor, HostFunctions};
use consilience_runtime::{opaque::Block, RuntimeApi};
use consilience_worker::chain::RuntimeChain;
use futures::{FutureExt, StreamExt};
use polkadot_sdk::*;
use sc_client_api::{Backend, BlockBackend};
use sc_client_db::PruningFilter;
use sc_consensus_grandpa::{FinalityProofProvider, GrandpaPruningFilter, SharedVoterState};
use sc_executor::{HeapAllocStrategy, WasmExecutor, DEFAULT_HEAP_ALLOC_STRATEGY};
use sc_network::{config::FullNetworkConfiguration, Event, NetworkEventStream};
use sc_service::{
	error::Error as ServiceError, Configuration, PartialComponents, TaskManager, WarpSyncConfig,
};
use sc_telemetry::{Telemetry, TelemetryWorker};
use sc_transaction_pool_api::OffchainTransactionPoolFactory;
use sp_consensus_babe::inherents::InherentDataProvider as SlotProvider;
use sp_runtime::traits::Block as BlockT;
use std::{
	path::{Path, PathBuf},
	sync::Arc,
	time::Duration,
};

use crate::{
	dev, development,
	early::Patient,
	finality::{voting_rule, FinalityParams},
	lane::{self, LaneParams},
	rpc, transfer,
	worker::{self, WorkerParams},
};

/// The client.
pub(crate) type FullClient = sc_service::TFullClient<Block, RuntimeApi, Executor>;
/// The database.
pub(crate) type FullBackend = sc_service::TFullBackend<Block>;
/// How the best chain is chosen.
pub(crate) type FullSelectChain = sc_consensus::LongestChain<FullBackend, Block>;
/// The transaction pool.
pub(crate) type FullPool = sc_transaction_pool::TransactionPoolHandle<Block, FullClient>;

type GrandpaBlockImport =
	sc_consensus_grandpa::GrandpaBlockImport<FullBackend, Block, FullClient, FullSelectChain>;
type CreateInherentDataProviders = Arc<
	dyn sp_inherents::CreateInherentDataProviders<
		Block,
		(),
		InherentDataProviders = (SlotProvider, sp_timestamp::InherentDataProvider),
	>,
>;
type BabeBlockImport = sc_consensus_babe::BabeBlockImport<
	Block,
	FullClient,
	GrandpaBlockImport,
	CreateInherentDataProviders,
	FullSelectChain,
>;

/// What [`new_partial`] makes besides the ordinary parts.
pub(crate) struct Consensus {
	block_import: BabeBlockImport,
	grandpa_link: sc_consensus_grandpa::LinkHalf<Block, FullClient, FullSelectChain>,
	babe_link: sc_consensus_babe::BabeLink<Block>,
	babe_worker_handle: sc_consensus_babe::BabeWorkerHandle<Block>,
	telemetry: Option<Telemetry>,
}

/// The parts that every command needs which touches the chain.
pub(crate) type Parts = PartialComponents<
	FullClient,
	FullBackend,
	FullSelectChain,
	sc_consensus::DefaultImportQueue<Block>,
	FullPool,
	Consensus,
>;

/// A justification is kept for every block whose number this divides.
const GRANDPA_JUSTIFICATION_PERIOD: u32 = 512;

/// Runs runtimes as the command line says. If there is a `cache`, what they are compiled to is kept there: compiling is most of
/// what a start costs. The executor only warns if the cache is of no use.
fn executor(config: &Configuration, cache: Option<PathBuf>) -> Result<Executor, ServiceError> {
	let heap = config
		.executor
		.default_heap_pages
		.map_or(DEFAULT_HEAP_ALLOC_STRATEGY, |pages| {
			HeapAllocStrategy::Static {
				extra_pages: pages as _,
			}
		});
	let mut executor = WasmExecutor::<HostFunctions>::builder()
		.with_execution_method(config.executor.wasm_method)
		.with_onchain_heap_alloc_strategy(heap)
		.with_offchain_heap_alloc_strategy(heap)
		.with_max_runtime_instances(config.executor.max_runtime_instances)
		.with_runtime_cache_size(config.executor.runtime_cache_size);
	if let Some(cache) = cache {
		executor = executor.with_cache_path(runtime_cache(&cache)?);
	}
	Ok(executor.build().into())
}

/// Makes a folder for compiled runtimes in this one, in which only we may write: what lies there is executed. It is a folder of its
/// own because whatever else lies in a cache is removed when it is tidied up.
fn runtime_cache(parent: &Path) -> Result<PathBuf, ServiceError> {
	use std::os::unix::fs::{DirBuilderExt, MetadataExt};
	let folder = std::path::absolute(parent)?.join("compiled-runtimes");
	std::fs::DirBuilder::new()
		.recursive(true)
		.mode(0o700)
		.create(&folder)?;
	if std::fs::metadata(&folder)?.mode() & 0o022 != 0 {
		return Err(ServiceError::Other(format!(
			"{}: others may write there, and what lies there is executed: take that right away (chmod go-w) or name another folder \
			 with --runtime-cache",
			folder.display()
		)));
	}
	Ok(folder)
}

/// Builds client, database, pool and import queue. `cache` is where compiled runtimes are kept, if they are.
pub(crate) fn new_partial(
	config: &Configuration,
	cache: Option<PathBuf>,
) -> Result<Parts, ServiceError> {
	let telemetry = config
		.telemetry_endpoints
		.clone()
		.filter(|endpoints| !endpoints.is_empty())
		.map(|endpoints| -> Result<_, sc_telemetry::Error> {
			let worker = TelemetryWorker::new(16)?;
			let telemetry = worker.handle().new_telemetry(endpoints);
			Ok((worker, telemetry))
		})
		.transpose()?;

	let executor = executor(config, cache)?;
	let pruning_filters: Vec<Arc<dyn PruningFilter>> = vec![Arc::new(GrandpaPruningFilter)];
	let (client, backend, keystore_container, task_manager) =
		sc_service::new_full_parts::<Block, RuntimeApi, _>(
			config,
			telemetry.as_ref().map(|(_, telemetry)| telemetry.handle()),
			executor,
			pruning_filters,
		)?;
	let client = Arc::new(client);

	let telemetry = telemetry.map(|(worker, telemetry)| {
		task_manager
			.spawn_handle()
			.spawn("telemetry", None, worker.run());
		telemetry
	});

	let select_chain = sc_consensus::LongestChain::new(backend.clone());

	let transaction_pool = Arc::from(
		sc_transaction_pool::Builder::new(
			task_manager.spawn_essential_handle(),
			client.clone(),
			config.role.is_authority().into(),
		)
		.with_options(config.transaction_pool.clone())
		.with_prometheus(config.prometheus_registry())
		.build(),
	);

	let (grandpa_block_import, grandpa_link) = sc_consensus_grandpa::block_import(
		client.clone(),
		GRANDPA_JUSTIFICATION_PERIOD,
		&client.clone(),
		select_chain.clone(),
		telemetry.as_ref().map(|telemetry| telemetry.handle()),
	)?;
	let justification_import = grandpa_block_import.clone();

	let babe_config = sc_consensus_babe::configuration(&*client)?;
	let slot_duration = babe_config.slot_duration();
	let (block_import, babe_link) = sc_consensus_babe::block_import(
		babe_config,
		grandpa_block_import,
		client.clone(),
		Arc::new(move |_, _| async move {
			let timestamp = sp_timestamp::InherentDataProvider::from_system_time();
			let slot = SlotProvider::from_timestamp_and_slot_duration(*timestamp, slot_duration);
			Ok((slot, timestamp))
		}) as CreateInherentDataProviders,
		select_chain.clone(),
		OffchainTransactionPoolFactory::new(transaction_pool.clone()),
	)?;

	let (import_queue, babe_worker_handle) =
		sc_consensus_babe::import_queue(sc_consensus_babe::ImportQueueParams {
			link: babe_link.clone(),
			block_import: block_import.clone(),
			justification_import: Some(Box::new(justification_import)),
			client: client.clone(),
			slot_duration,
			spawner: &task_manager.spawn_essential_handle(),
			registry: config.prometheus_registry(),
			telemetry: telemetry.as_ref().map(|telemetry| telemetry.handle()),
		})?;

	Ok(PartialComponents {
		client,
		backend,
		task_manager,
		keystore_container,
		select_chain,
		import_queue,
		transaction_pool,
		other: Consensus {
			block_import,
			grandpa_link,
			babe_link,
			babe_worker_handle,
			telemetry,
		},
	})
}

/// Options of this node beside those of every Substrate node.
pub(crate) struct Options {
	/// Where compiled runtimes are kept, if they are.
	pub(crate) runtime_cache: Option<PathBuf>,
	/// How the worker runs.
	pub(crate) worker: WorkerParams,
	/// How a validator takes part in the session lane.
	pub(crate) lane: LaneParams,
	/// How a validator votes on finality.
	pub(crate) finality: FinalityParams,
}

/// Refuses to run a validator that prunes blocks while requests may still need the data in them: a request lives while it is open, and
/// for the retention time after that.
fn keeps_data(config: &Configuration) -> Result<(), ServiceError> {
	let kept = match config.blocks_pruning {
		sc_service::BlocksPruning::Some(kept) => kept,
		_ => return Ok(()),
	};
	let needed = 2 * consilience_runtime::configs::inference::RETENTION;
	if kept >= needed || !config.role.is_authority() {
		return Ok(());
	}
	Err(ServiceError::Other(format!(
		"--blocks-pruning {kept}: a validator keeps blocks for at least {needed}, because they carry what requests ask about"
	)))
}

/// Builds and starts the whole node.
pub(crate) async fn new_full<N: sc_network::NetworkBackend<Block, <Block as BlockT>::Hash>>(
	mut config: Configuration,
	options: Options,
) -> Result<TaskManager, ServiceError> {
	keeps_data(&config)?;
	let PartialComponents {
		client,
		backend,
		mut task_manager,
		import_queue,
		keystore_container,
		select_chain,
		transaction_pool,
		other:
			Consensus {
				block_import,
				grandpa_link,
				babe_link,
				babe_worker_handle,
				mut telemetry,
			},
	} = new_partial(&config, options.runtime_cache)?;

	let role = config.role;
	let force_authoring = config.force_authoring;
	let disable_grandpa = config.disable_grandpa;
	let name = config.network.node_name.clone();
	let prometheus_registry = config.prometheus_registry().cloned();
	let publish_non_global_ips = config.network.allow_non_globals_in_dht;
	let public_addresses = config.network.public_addresses.clone();
	let persisted_cache_directory = config.network.net_config_path.clone();
	let keystore = keystore_container.keystore();
	if let Some(uri) = config.dev_key_seed.take() {
		development::insert_keys(&uri, &keystore)?;
	}
	let genesis_hash = client
		.block_hash(0)?
		.expect("a client is initialised with the genesis block; qed");

	let mut net_config =
		FullNetworkConfiguration::<_, _, N>::new(&config.network, prometheus_registry.clone());
	let metrics = N::register_notification_metrics(prometheus_registry.as_ref());
	let grandpa_protocol_name =
		sc_consensus_grandpa::protocol_standard_name(&genesis_hash, &config.chain_spec);
	let (grandpa_protocol_config, grandpa_notification_service) =
		sc_consensus_grandpa::grandpa_peers_set_config::<_, N>(
			grandpa_protocol_name.clone(),
			metrics.clone(),
			net_config.peer_store_handle(),
		);
	net_config.add_notification_protocol(grandpa_protocol_config);
	let (models, models_protocols) = transfer::protocols::<N>(genesis_hash);
	for protocol in models_protocols {
		net_config.add_request_response_protocol(protocol);
	}

	let warp_sync = Arc::new(sc_consensus_grandpa::warp_proof::NetworkProvider::new(
		backend.clone(),
		grandpa_link.shared_authority_set().clone(),
		Vec::new(),
	));

	let (patient_pool, follow) = Patient::new(transaction_pool.clone(), client.clone());
	task_manager
		.spawn_handle()
		.spawn("early-transactions", None, follow);
	let (network, system_rpc_tx, tx_handler_controller, sync_service, _bitswap) =
		sc_service::build_network(sc_service::BuildNetworkParams {
			config: &config,
			net_config,
			client: client.clone(),
			transaction_pool: Arc::new(patient_pool),
			spawn_handle: task_manager.spawn_handle(),
			spawn_essential_handle: task_manager.spawn_essential_handle(),
			import_queue,
			block_announce_validator_builder: None,
			warp_sync_config: Some(WarpSyncConfig::WithProvider(warp_sync)),
			block_relay: None,
			metrics,
			gap_sync_body_policy: None,
		})?;

	if config.offchain_worker.enabled {
		task_manager.spawn_handle().spawn(
			"offchain-workers-runner",
			"offchain-worker",
			sc_offchain::OffchainWorkers::new(sc_offchain::OffchainWorkerOptions {
				runtime_api_provider: client.clone(),
				keystore: Some(keystore.clone()),
				offchain_db: backend.offchain_storage(),
				transaction_pool: Some(OffchainTransactionPoolFactory::new(
					transaction_pool.clone(),
				)),
				network_provider: Arc::new(network.clone()),
				is_validator: role.is_authority(),
				enable_http_requests: false,
				custom_extensions: |_| vec![],
			})?
			.run(client.clone(), task_manager.spawn_handle())
			.boxed(),
		);
	}

	let dht_event_stream =
		network
			.event_stream("authority-discovery")
			.filter_map(|event| async move {
				match event {
					Event::Dht(event) => Some(event),
					_ => None,
				}
			});
	// Whoever does not validate looks validators up all the same, for what they have.
	let discovery_role = if role.is_authority() {
		sc_authority_discovery::Role::PublishAndDiscover(keystore.clone())
	} else {
		sc_authority_discovery::Role::Discover
	};
	let (discovery_worker, discovery) = sc_authority_discovery::new_worker_and_service_with_config(
		sc_authority_discovery::WorkerConfig {
			publish_non_global_ips,
			public_addresses,
			strict_record_validation: true,
			persisted_cache_directory,
			..Default::default()
		},
		client.clone(),
		Arc::new(network.clone()),
		Box::pin(dht_event_stream),
		discovery_role,
		prometheus_registry.clone(),
		task_manager.spawn_handle(),
	);
	task_manager.spawn_handle().spawn(
		"authority-discovery-worker",
		Some("networking"),
		discovery_worker.run(),
	);
	let transfers = transfer::start(
		models,
		options.worker.model_store(config.base_path.path()),
		&options.worker.transfer_options(),
		transfer::Parts {
			client: client.clone(),
			network: network.clone(),
			sync: sync_service.clone(),
			discovery,
		},
		prometheus_registry.as_ref(),
		&task_manager.spawn_handle(),
	);

	dev::warn_if_alone(&client);
	#[cfg(feature = "liars")]
	let liar = worker::liar(&config, &options.worker, client.clone())?;

	if role.is_authority() {
		let chain = RuntimeChain::new(
			client.clone(),
			transaction_pool.clone(),
			keystore.clone(),
			sync_service.clone(),
		);
		// The block has come to the others by then, and there is time for the next author to hear of it.
		let pause = Duration::from_millis(consilience_runtime::MILLISECS_PER_BLOCK / 6);
		let task = consilience_worker::contribute::run(Arc::new(chain), pause);
		let spawner = task_manager.spawn_handle();
		spawner.spawn("inference-contributions", Some("inference"), task);
	}

	// Whoever validates has duties. The worker's end, whatever its cause, stops neither authoring nor finality.
	let worker = role
		.is_authority()
		.then(|| {
			worker::start(
				&config,
				options.worker,
				worker::Parts {
					client: client.clone(),
					pool: transaction_pool.clone(),
					transfers: transfers.clone(),
				},
				RuntimeChain::new(
					client.clone(),
					transaction_pool.clone(),
					keystore.clone(),
					sync_service.clone(),
				),
				&task_manager.spawn_handle(),
				#[cfg(feature = "liars")]
				liar.clone(),
			)
		})
		.transpose()?
		.flatten();

	lane::start(
		&options.lane,
		&config.base_path.config_dir(config.chain_spec.id()),
		lane::Parts {
			client: client.clone(),
			pool: transaction_pool.clone(),
			keystore: keystore.clone(),
			worker: worker.clone(),
			#[cfg(feature = "liars")]
			liar: liar.clone(),
		},
		prometheus_registry.as_ref(),
		&task_manager.spawn_handle(),
	)?;

	let shared_voter_state = SharedVoterState::empty();
	let rpc_builder = {
		let client = client.clone();
		let pool = transaction_pool.clone();
		let select_chain = select_chain.clone();
		let keystore = keystore.clone();
		let shared_voter_state = shared_voter_state.clone();
		let shared_authority_set = grandpa_link.shared_authority_set().clone();
		let justification_stream = grandpa_link.justification_stream();
		let finality_provider = FinalityProofProvider::new_for_service(
			backend.clone(),
			Some(shared_authority_set.clone()),
		);

		Box::new(move |subscription_executor| {
			rpc::create_full(rpc::FullDeps {
				client: client.clone(),
				pool: pool.clone(),
				select_chain: select_chain.clone(),
				babe_worker_handle: babe_worker_handle.clone(),
				keystore: keystore.clone(),
				grandpa: rpc::GrandpaDeps {
					shared_voter_state: shared_voter_state.clone(),
					shared_authority_set: shared_authority_set.clone(),
					justification_stream: justification_stream.clone(),
					subscription_executor,
					finality_provider: finality_provider.clone(),
				},
				worker: worker.clone(),
				transfers: transfers.clone(),
			})
			.map_err(Into::into)
		})
	};

	sc_service::spawn_tasks(sc_service::SpawnTasksParams {
		config,
		backend,
		client: client.clone(),
		keystore: keystore.clone(),
		network: network.clone(),
		sync_service: sync_service.clone(),
		rpc_builder,
		transaction_pool: transaction_pool.clone(),
		task_manager: &mut task_manager,
		system_rpc_tx,
		tx_handler_controller,
		telemetry: telemetry.as_mut(),
		tracing_execute_block: None,
	})?;

	if role.is_authority() {
		let proposer = sc_basic_authorship::ProposerFactory::new(
			task_manager.spawn_handle(),
			client.clone(),
			transaction_pool.clone(),
			prometheus_registry.as_ref(),
			telemetry.as_ref().map(|telemetry| telemetry.handle()),
		);
		#[cfg(feature = "liars")]
		let proposer = crate::holder::Holder::new(proposer, liar, client.clone(), keystore.clone());
		let slot_duration = babe_link.config().slot_duration();
		let babe = sc_consensus_babe::start_babe(sc_consensus_babe::BabeParams {
			keystore: keystore.clone(),
			client: client.clone(),
			select_chain,
			env: proposer,
			block_import,
			sync_oracle: sync_service.clone(),
			justification_sync_link: sync_service.clone(),
			create_inherent_data_providers: move |_, ()| async move {
				let timestamp = sp_timestamp::InherentDataProvider::from_system_time();
				let slot =
					SlotProvider::from_timestamp_and_slot_duration(*timestamp, slot_duration);
				Ok((slot, timestamp))
			},
			force_authoring,
			backoff_authoring_blocks: Some(
				sc_consensus_slots::BackoffAuthoringOnFinalizedHeadLagging::default(),
			),
			babe_link,
			block_proposal_slot_portion: sc_consensus_babe::SlotProportion::new(0.5),
			max_block_proposal_slot_portion: None,
			telemetry: telemetry.as_ref().map(|telemetry| telemetry.handle()),
		})?;
		task_manager.spawn_essential_handle().spawn_blocking(
			"babe-proposer",
			Some("block-authoring"),
			babe,
		);
	}

	if !disable_grandpa {
		let grandpa =
			sc_consensus_grandpa::run_grandpa_voter(sc_consensus_grandpa::GrandpaParams {
				config: sc_consensus_grandpa::Config {
					gossip_duration: Duration::from_millis(333),
					justification_generation_period: GRANDPA_JUSTIFICATION_PERIOD,
					name: Some(name),
					observer_enabled: false,
					// Who does not vote needs no keys.
					keystore: role.is_authority().then_some(keystore),
					local_role: role,
					telemetry: telemetry.as_ref().map(|telemetry| telemetry.handle()),
					protocol_name: grandpa_protocol_name,
				},
				link: grandpa_link,
				network,
				sync: sync_service,
				notification_service: grandpa_notification_service,
				voting_rule: voting_rule(options.finality),
				prometheus_registry,
				shared_voter_state,
				telemetry: telemetry.as_ref().map(|telemetry| telemetry.handle()),
				offchain_tx_pool_factory: OffchainTransactionPoolFactory::new(transaction_pool),
			})?;
		task_manager
			.spawn_essential_handle()
			.spawn_blocking("grandpa-voter", None, grandpa);
	}

	Ok(task_manager)
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use std::{
		fs::{self, Permissions},
		os::unix::fs::PermissionsExt,
	};

	#[test]
	fn compiled_runtimes_have_a_folder_of_their_own_in_which_nobody_else_writes() {
		let parent = tempfile::tempdir().unwrap();
		let folder = runtime_cache(parent.path()).unwrap();
		assert_eq!(folder.parent(), Some(parent.path()));
		let mode = |folder: &Path| fs::metadata(folder).unwrap().permissions().mode() & 0o777;
		assert_eq!(mode(&folder), 0o700);
		// It may be there already.
		assert_eq!(runtime_cache(parent.path()).unwrap(), folder);
		fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
		let error = runtime_cache(parent.path()).unwrap_err().to_string();
		assert!(error.contains("chmod go-w"), "{error}");
	}
}
