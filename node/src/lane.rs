//! Starts the session lane: clients come straight to this validator.

use std::{net::SocketAddr, path::Path, sync::Arc};

use consilience_lane::{Config, Lane};
use consilience_primitives::session::{endpoint_is_valid, MAX_ENDPOINT};
use consilience_runtime::{configs::sessions::VOUCHER_SESSIONS, opaque::Block, MILLI};
use consilience_worker::{
	lane::{LaneEngine, RuntimeLane},
	Handle,
};
use polkadot_sdk::{sc_service, sp_keystore::KeystorePtr, substrate_prometheus_endpoint::Registry};
use sc_service::{Error, SpawnTaskHandle};

use crate::service::{FullClient, FullPool};

/// Least that is claimed, while its voucher is good for long: the claims of less are more work than they are worth.
const WORTH_CLAIMING: u128 = 200 * MILLI;

/// How a validator takes part in the session lane.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LaneParams {
	/// Take requests of the session lane at this address, such as 127.0.0.1:9955: clients come straight to this validator, and their
	/// channels pay it.
	#[arg(long, value_name = "ADDRESS")]
	session_listen: Option<SocketAddr>,

	/// Where clients reach that: `ws://…`, or `wss://…` of a server in front of it. It is certified on chain [default: `ws://` and the
	/// address of --session-listen].
	#[arg(long, value_name = "URL", requires = "session_listen")]
	session_endpoint: Option<String>,

	/// Answers of the session lane that are written at a time. What the chain asks for goes first.
	#[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_024))]
	session_jobs: u16,

	/// Connections of the session lane from one address whose clients have not shown yet that a channel is theirs: by paying, or by waiting
	/// for a place. Eight times as many may be open of those that have [default: 64; any number where --session-listen is an address of
	/// this machine alone, because a server in front is expected there].
	#[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
	session_connections_per_address: Option<u16>,
}

/// What the lane uses of the node.
pub(crate) struct Parts {
	pub(crate) client: Arc<FullClient>,
	pub(crate) pool: Arc<FullPool>,
	pub(crate) keystore: KeystorePtr,
	/// The validator's worker, where there is one.
	pub(crate) worker: Option<Handle>,
	/// How it lies.
	#[cfg(feature = "liars")]
	pub(crate) liar: consilience_worker::liars::Liar,
}

impl LaneParams {
	/// Address to listen at and address for clients, if the validator takes part.
	fn addresses(&self) -> Result<Option<(SocketAddr, Vec<u8>)>, String> {
		let Some(listen) = self.session_listen else {
			return Ok(None);
		};
		if self.session_endpoint.is_none() && listen.ip().is_unspecified() {
			return Err(format!(
				"--session-listen {listen} is every address of this machine: say with --session-endpoint where clients reach it"
			));
		}
		let endpoint = self
			.session_endpoint
			.clone()
			.unwrap_or_else(|| format!("ws://{listen}"))
			.into_bytes();
		if endpoint.len() > MAX_ENDPOINT as usize || !endpoint_is_valid(&endpoint) {
			return Err(format!(
				"--session-endpoint: a URL of at most {MAX_ENDPOINT} bytes that begins with ws:// or wss:// is wanted"
			));
		}
		Ok(Some((listen, endpoint)))
	}
}

/// Starts the lane as tasks of their own that are not essential. Where it cannot start the node says why and validates without. Fails only
/// where what was asked for makes no sense.
pub(crate) fn start(
	params: &LaneParams,
	folder: &Path,
	parts: Parts,
	registry: Option<&Registry>,
	spawner: &SpawnTaskHandle,
) -> Result<(), Error> {
	let Some((listen, endpoint)) = params.addresses().map_err(Error::Other)? else {
		return Ok(());
	};
	let Ok(endpoint) = endpoint.try_into() else {
		return Ok(());
	};
	let config = Config::new(listen, folder.join("sessions"), endpoint);
	let connections_per_address = match params.session_connections_per_address {
		Some(count) => count.into(),
		// All who come through a server in front have its address.
		None if listen.ip().is_loopback() => config.connections,
		None => config.connections_per_address,
	};
	let config = Config {
		minimum: WORTH_CLAIMING,
		connections_per_address,
		known_per_address: connections_per_address * 8,
		..config
	};
	let Parts {
		client,
		pool,
		keystore,
		worker,
		#[cfg(feature = "liars")]
		liar,
	} = parts;
	let Some(worker) = worker else {
		log::error!("No session lane: only a validator with an engine takes part in it");
		return Ok(());
	};
	let (chain, follow) = RuntimeLane::<Block, _, _>::new(client, pool, keystore, VOUCHER_SESSIONS);
	#[cfg(feature = "liars")]
	let (chain, config) = consilience_worker::liars::corrupt_lane(liar, chain, config);
	let engine = LaneEngine::new(&worker, params.session_jobs.into());
	let registry = registry.cloned();
	let tasks = spawner.clone();
	spawner.spawn("session-lane", Some("inference"), async move {
		tasks.spawn("session-lane-heads", Some("inference"), follow);
		match Lane::start(config, Arc::new(chain), Arc::new(engine), registry.as_ref()).await {
			Ok((_, run)) => run.await,
			Err(error) => {
				log::error!("No session lane, clients cannot come to this validator: {error}")
			}
		}
	});
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::cli::Cli;
	use clap::Parser;

	fn addresses(options: &[&str]) -> Result<Option<(SocketAddr, Vec<u8>)>, String> {
		let cli = Cli::try_parse_from([&["consilience"], options].concat());
		cli.map_err(|e| e.to_string())?.lane.addresses()
	}

	#[test]
	fn clients_are_told_an_address_that_they_can_reach() {
		let of = |options: &[&str]| {
			let found = addresses(options).unwrap();
			found.map(|(_, endpoint)| String::from_utf8(endpoint).unwrap())
		};
		assert_eq!(of(&[]), None);
		let listen = ["--session-listen", "127.0.0.1:9955"];
		assert_eq!(of(&listen), Some("ws://127.0.0.1:9955".into()));
		let front = ["--session-endpoint", "wss://lane.example.org"];
		assert_eq!(
			of(&[listen, front].concat()),
			Some("wss://lane.example.org".into())
		);
		let everywhere = ["--session-listen", "0.0.0.0:9955"];
		assert!(addresses(&everywhere)
			.unwrap_err()
			.contains("--session-endpoint"));
		assert_eq!(
			of(&[everywhere, front].concat()),
			Some("wss://lane.example.org".into())
		);
		for wrong in [
			&front[..],
			&[&listen[..], &["--session-endpoint", "http://a"]].concat(),
		] {
			assert!(addresses(wrong).is_err(), "{wrong:?}");
		}
	}
}
