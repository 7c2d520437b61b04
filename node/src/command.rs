//! Runs what the command line asks for.

use crate::{
	chain_spec,
	cli::{Cli, Subcommand},
	service::{self, Options},
	tool,
};
use polkadot_sdk::*;
use sc_cli::SubstrateCli;
use sc_network::config::NetworkBackendType;
use sc_service::PartialComponents;

impl SubstrateCli for Cli {
	fn impl_name() -> String {
		"Consilience".into()
	}

	fn impl_version() -> String {
		env!("SUBSTRATE_CLI_IMPL_VERSION").into()
	}

	fn executable_name() -> String {
		"consilience".into()
	}

	fn description() -> String {
		env!("CARGO_PKG_DESCRIPTION").into()
	}

	fn author() -> String {
		env!("CARGO_PKG_AUTHORS").into()
	}

	fn support_url() -> String {
		concat!(env!("CARGO_PKG_REPOSITORY"), "/issues").into()
	}

	fn copyright_start_year() -> i32 {
		2026
	}

	fn load_spec(&self, id: &str) -> Result<Box<dyn sc_service::ChainSpec>, String> {
		Ok(Box::new(match id {
			"" | "dev" => chain_spec::development()?,
			"local" => chain_spec::local_testnet()?,
			path => chain_spec::ChainSpec::from_json_file(path.into())?,
		}))
	}
}

/// How long the pool does not look again at a transaction that it refused, if the command line does not say it. What validators send is
/// right from one block to another: what came a block too early is to be let in when it comes again, and not be kept out for the SDK's half an
/// hour.
const TX_BAN_SECONDS: u64 = 6;

/// Parses the command line and does what it says.
pub(crate) fn run() -> sc_cli::Result<()> {
	let mut cli = Cli::from_args();
	let pool = &mut cli.run.pool_config;
	pool.tx_ban_seconds.get_or_insert(TX_BAN_SECONDS);

	match &cli.subcommand {
		None => {
			let runner = cli.create_runner(&cli.run)?;
			let options = Options {
				worker: cli.worker_params(),
				lane: cli.lane,
				finality: cli.finality,
				runtime_cache: cli.runtime_cache,
			};
			runner.run_node_until_exit(|config| async move {
				match config.network.network_backend {
					NetworkBackendType::Libp2p => {
						service::new_full::<sc_network::NetworkWorker<_, _>>(config, options).await
					}
					NetworkBackendType::Litep2p => {
						service::new_full::<sc_network::Litep2pNetworkBackend>(config, options)
							.await
					}
				}
				.map_err(sc_cli::Error::Service)
			})
		}
		Some(Subcommand::Model(cmd)) => cmd.run(),
		Some(Subcommand::Infer(cmd)) => cmd.run(),
		Some(Subcommand::Chat(cmd)) => cmd.run(),
		Some(Subcommand::Channel(cmd)) => cmd.run(),
		Some(Subcommand::Gateway(cmd)) => cmd.run(),
		Some(Subcommand::Request(cmd)) => cmd.run(),
		Some(Subcommand::Validator(cmd)) => cmd.run(&cli),
		Some(Subcommand::Verify(cmd)) => cmd.run(),
		Some(Subcommand::Appeal(cmd)) => cmd.run(),
		Some(Subcommand::Calibrate(cmd)) => tool::calibrate::run(cmd),
		Some(Subcommand::Engine(cmd)) => cmd.run(),
		Some(Subcommand::Key(cmd)) => cmd.run(&cli),
		Some(Subcommand::ExportChainSpec(cmd)) => cmd.run(cli.load_spec(&cmd.chain)?),
		Some(Subcommand::CheckBlock(cmd)) => cli.create_runner(cmd)?.async_run(|config| {
			let PartialComponents {
				client,
				task_manager,
				import_queue,
				..
			} = service::new_partial(&config, None)?;
			Ok((cmd.run(client, import_queue), task_manager))
		}),
		Some(Subcommand::ExportBlocks(cmd)) => cli.create_runner(cmd)?.async_run(|config| {
			let PartialComponents {
				client,
				task_manager,
				..
			} = service::new_partial(&config, None)?;
			Ok((cmd.run(client, config.database), task_manager))
		}),
		Some(Subcommand::ExportState(cmd)) => cli.create_runner(cmd)?.async_run(|config| {
			let PartialComponents {
				client,
				task_manager,
				..
			} = service::new_partial(&config, None)?;
			Ok((cmd.run(client, config.chain_spec), task_manager))
		}),
		Some(Subcommand::ImportBlocks(cmd)) => cli.create_runner(cmd)?.async_run(|config| {
			let PartialComponents {
				client,
				task_manager,
				import_queue,
				..
			} = service::new_partial(&config, None)?;
			Ok((cmd.run(client, import_queue), task_manager))
		}),
		Some(Subcommand::PurgeChain(cmd)) => cli
			.create_runner(cmd)?
			.sync_run(|config| cmd.run(config.database)),
		Some(Subcommand::Revert(cmd)) => cli.create_runner(cmd)?.async_run(|config| {
			let PartialComponents {
				client,
				task_manager,
				backend,
				..
			} = service::new_partial(&config, None)?;
			let aux_revert = Box::new(
				|client: std::sync::Arc<service::FullClient>, backend, blocks| {
					sc_consensus_babe::revert(client.clone(), backend, blocks)?;
					sc_consensus_grandpa::revert(client, blocks)?;
					Ok(())
				},
			);
			Ok((cmd.run(client, backend, Some(aux_revert)), task_manager))
		}),
		Some(Subcommand::ChainInfo(cmd)) => cli
			.create_runner(cmd)?
			.sync_run(|config| cmd.run::<consilience_runtime::opaque::Block>(&config)),
	}
}
