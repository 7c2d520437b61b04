//! The node's network, as far as models need it.

use std::{sync::Arc, time::Duration};

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

/// Names of the two request-response protocols: what is large is not taken where something small was asked for.
#[derive(Clone, Debug)]
pub struct Protocols {
	/// For manifests; responses of [`MAX_MANIFEST_RESPONSE`](crate::MAX_MANIFEST_RESPONSE).
	pub manifests: ProtocolName,
	/// For everything else; responses of [`MAX_RESPONSE`](crate::MAX_RESPONSE).
	pub pieces: ProtocolName,
}

impl Protocols {
	/// Those of a chain with this genesis.
	pub fn of(genesis: impl AsRef<[u8]>) -> Self {
		let genesis = hex::encode(genesis);
		Self {
			manifests: format!("/{genesis}/models/manifests/1").into(),
			pieces: format!("/{genesis}/models/pieces/1").into(),
		}
	}
}

/// The time in which it is found out who could be asked.
const FIND: Duration = Duration::from_secs(5);

/// The network of a Substrate node, with request-response protocols of these names.
pub struct NodeNetwork {
	network: Arc<dyn NetworkService>,
	protocols: Protocols,
	peers: Box<Peers>,
}

impl NodeNetwork {
	/// Asks over this network.
	pub fn new(
		network: Arc<dyn NetworkService>,
		protocols: Protocols,
		peers: impl Fn() -> BoxFuture<'static, Vec<PeerId>> + Send + Sync + 'static,
	) -> Self {
		Self {
			network,
			protocols,
			peers: Box::new(peers),
		}
	}
}

#[async_trait]
impl Network for NodeNetwork {
	async fn peers(&self) -> Vec<PeerId> {
		let peers = tokio::time::timeout(FIND, (self.peers)()).await;
		peers.unwrap_or_default()
	}

	async fn ask(&self, peer: PeerId, request: Request) -> Result<Response, String> {
		let protocol = match request {
			Request::Manifest(_) => &self.protocols.manifests,
			Request::Holding(_) | Request::Piece(_) => &self.protocols.pieces,
		};
		let answer = self.network.request(
			peer,
			protocol.clone(),
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
