//! The node's network, as far as models need it.

use std::sync::Arc;

use async_trait::async_trait;
use codec::Encode;
use futures::future::BoxFuture;
use polkadot_sdk::{
	sc_network::{
		service::traits::NetworkService, IfDisconnected, NetworkPeers, NetworkRequest,
		ProtocolName, ReputationChange,
	},
	sc_network_types::PeerId,
};

use crate::message::{read, Request, Response};

/// What a peer did that no honest node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
	/// Gave bytes under a hash that is not theirs.
	WrongBytes,
	/// Answered another question than was asked, or nothing that can be read.
	Nonsense,
}

/// Nodes that can be asked. The node implements it over its network, tests over a list.
#[async_trait]
pub trait Network: Send + Sync + 'static {
	/// Nodes that may have models, those that are connected first.
	async fn peers(&self) -> Vec<PeerId>;
	/// Asks a node. The error says why there is no answer.
	async fn ask(&self, peer: PeerId, request: Request) -> Result<Response, String>;
	/// Tells the network what a peer did.
	fn report(&self, peer: PeerId, misdeed: Misdeed);
}

/// Tells which nodes may have models, those that are connected first. What it names has an address that the network knows.
type Peers = dyn Fn() -> BoxFuture<'static, Vec<PeerId>> + Send + Sync;

/// The network of a Substrate node, with a request-response protocol of this [`protocol_name`].
pub struct NodeNetwork {
	network: Arc<dyn NetworkService>,
	protocol: ProtocolName,
	peers: Box<Peers>,
}

impl NodeNetwork {
	/// Asks over this network.
	pub fn new(
		network: Arc<dyn NetworkService>,
		protocol: ProtocolName,
		peers: impl Fn() -> BoxFuture<'static, Vec<PeerId>> + Send + Sync + 'static,
	) -> Self {
		Self {
			network,
			protocol,
			peers: Box::new(peers),
		}
	}
}

#[async_trait]
impl Network for NodeNetwork {
	async fn peers(&self) -> Vec<PeerId> {
		(self.peers)().await
	}

	async fn ask(&self, peer: PeerId, request: Request) -> Result<Response, String> {
		let answer = self.network.request(
			peer,
			self.protocol.clone(),
			request.encode(),
			None,
			IfDisconnected::TryConnect,
		);
		let (bytes, _) = answer.await.map_err(|e| e.to_string())?;
		read(&bytes).ok_or_else(|| {
			self.report(peer, Misdeed::Nonsense);
			"an answer that is none".into()
		})
	}

	fn report(&self, peer: PeerId, misdeed: Misdeed) {
		let change = match misdeed {
			Misdeed::WrongBytes => ReputationChange::new_fatal("wrong bytes of a model"),
			Misdeed::Nonsense => ReputationChange::new(-(1 << 28), "nonsense about models"),
		};
		self.network.report_peer(peer, change);
	}
}

/// Name of the protocol on a chain with this genesis.
pub fn protocol_name(genesis: impl AsRef<[u8]>) -> ProtocolName {
	let genesis: String = genesis
		.as_ref()
		.iter()
		.map(|byte| format!("{byte:02x}"))
		.collect();
	format!("/{genesis}/models/1").into()
}
