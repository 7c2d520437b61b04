//! Wires transfers of models to the node's network.

use std::{collections::HashSet, sync::Arc};

use consilience_runtime::opaque::Block;
use consilience_store::Store;
use consilience_transfer::{
	NodeNetwork, Options, Protocols, Transfers, MAX_MANIFEST_RESPONSE, MAX_REQUEST, MAX_RESPONSE,
	QUEUE, TIMEOUT,
};
use futures::FutureExt;
use polkadot_sdk::*;
use rand::seq::IndexedRandom;
use sc_network::{
	request_responses::IncomingRequest,
	service::traits::{NetworkPeers, NetworkService},
	NetworkBackend, NetworkStateInfo, PeerId, ProtocolName,
};
use sc_network_sync::SyncingService;
use sc_service::SpawnTaskHandle;
use sp_api::ProvideRuntimeApi;
use sp_authority_discovery::AuthorityDiscoveryApi;
use sp_blockchain::HeaderBackend;
use sp_runtime::traits::Block as BlockT;

use crate::service::FullClient;

/// Validators that are looked up beside the peers that are connected.
const LOOKED_UP: usize = 64;

/// The protocols' place in a network that is not running yet.
pub(crate) struct Place {
	protocols: Protocols,
	inbound: async_channel::Receiver<IncomingRequest>,
}

/// Makes the protocols' place.
pub(crate) fn protocols<N: NetworkBackend<Block, <Block as BlockT>::Hash>>(
	genesis: impl AsRef<[u8]>,
) -> (Place, [N::RequestResponseProtocolConfig; 2]) {
	let (queue, inbound) = async_channel::bounded(QUEUE);
	let protocols = Protocols::of(genesis);
	let config = |name: &ProtocolName, most| {
		let (name, queue) = (name.clone(), queue.clone());
		N::request_response_config(name, Vec::new(), MAX_REQUEST, most, TIMEOUT, Some(queue))
	};
	let configs = [
		config(&protocols.manifests, MAX_MANIFEST_RESPONSE),
		config(&protocols.pieces, MAX_RESPONSE),
	];
	(Place { protocols, inbound }, configs)
}

/// Parts of the node that transfers use.
pub(crate) struct Parts {
	pub(crate) client: Arc<FullClient>,
	pub(crate) network: Arc<dyn NetworkService>,
	pub(crate) sync: Arc<SyncingService<Block>>,
	pub(crate) discovery: sc_authority_discovery::Service,
}

impl Parts {
	/// Nodes that may have models: peers, and validators by authority discovery.
	async fn peers(
		client: Arc<FullClient>,
		network: Arc<dyn NetworkService>,
		sync: Arc<SyncingService<Block>>,
		mut discovery: sc_authority_discovery::Service,
	) -> Vec<PeerId> {
		let own = network.local_peer_id();
		let connected = sync.peers_info().await.unwrap_or_default();
		let mut peers: Vec<PeerId> = connected.into_iter().map(|(peer, _)| peer).collect();
		let mut known: HashSet<PeerId> = peers.iter().copied().chain([own]).collect();
		let best = client.info().best_hash;
		let validators = client.runtime_api().authorities(best).unwrap_or_default();
		// Others each time, so that all are found where there are many.
		let validators = validators.choose_multiple(&mut rand::rng(), LOOKED_UP);
		for validator in validators.cloned().collect::<Vec<_>>() {
			let addresses = discovery.get_addresses_by_authority_id(validator).await;
			for address in addresses.into_iter().flatten() {
				let Some(peer) = PeerId::try_from_multiaddr(&address) else {
					continue;
				};
				if peer == own {
					continue;
				}
				network.add_known_address(peer, address);
				if known.insert(peer) {
					peers.push(peer);
				}
			}
		}
		peers
	}
}

/// Starts giving, and makes what fetches. Where that fails the node says why and does without.
pub(crate) fn start(
	place: Place,
	store: std::path::PathBuf,
	options: &Options,
	parts: Parts,
	registry: Option<&substrate_prometheus_endpoint::Registry>,
	spawner: &SpawnTaskHandle,
) -> Option<Transfers> {
	let store = match Store::open(store) {
		Ok(store) => store,
		Err(error) => {
			log::error!("Models are neither given nor fetched: {error}");
			return None;
		}
	};
	let Parts {
		client,
		network,
		sync,
		discovery,
	} = parts;
	let asked = network.clone();
	let peers = move || {
		let (client, network, sync) = (client.clone(), network.clone(), sync.clone());
		Parts::peers(client, network, sync, discovery.clone()).boxed()
	};
	let network = NodeNetwork::new(asked, place.protocols, peers);
	match Transfers::new(store, network, options, registry) {
		Ok((transfers, server)) => {
			spawner.spawn("models", Some("networking"), server.run(place.inbound));
			Some(transfers)
		}
		Err(error) => {
			log::error!("Models are neither given nor fetched: {error}");
			None
		}
	}
}
