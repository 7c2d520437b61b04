//! Models between nodes of a network that is a list: honest ones, and those with a fault.
#![allow(clippy::unwrap_used)]

mod fetch;
mod hostile;
#[path = "../../../store/tests/common/manifest.rs"]
mod manifest;
mod model;
mod places;

use std::{
	collections::{BTreeMap, HashMap, HashSet},
	fs,
	path::Path,
	sync::{
		atomic::{AtomicU64, Ordering},
		Arc, Mutex,
	},
	time::Duration,
};

use async_trait::async_trait;
use codec::Encode;
use consilience_primitives::{manifest::Manifest, ModelId};
use consilience_store::{hash_file, Store};
use polkadot_sdk::{sc_network_types::PeerId, sp_core::H256};

use self::manifest::described;
use crate::{
	message::{Request, Response},
	network::{Misdeed, Network},
	shelf::Shelf,
	Options, Progress, Transfers,
};

/// How a node answers.
#[derive(Clone)]
pub(crate) enum Conduct {
	Honest,
	/// Pieces with a bit that is wrong.
	Wrong,
	/// Something else than what was asked for.
	Nonsense,
	/// It says that it has everything, and gives nothing for half a second, which is all that the network waits.
	Stalls,
	/// It says that it has everything, and has nothing.
	Boasts,
	/// As many answers, and no more.
	GoesAfter(Arc<AtomicU64>),
	/// It is busy every second time.
	BusyOften(Arc<AtomicU64>),
	/// A manifest that is another model's.
	OtherManifest,
}

struct Node {
	shelf: Arc<Shelf>,
	conduct: Conduct,
}

/// All nodes, and what went between them.
#[derive(Default)]
pub(crate) struct World {
	nodes: Mutex<BTreeMap<PeerId, Node>>,
	pub(crate) reported: Mutex<Vec<(PeerId, Misdeed)>>,
	/// How often each piece was given, right or wrong, by whom.
	pub(crate) given: Mutex<HashMap<(PeerId, H256), u32>>,
}

impl World {
	pub(crate) fn add(&self, store: &Store, conduct: Conduct) -> PeerId {
		let peer = PeerId::random();
		let shelf = Arc::new(Shelf::new(store.clone()));
		self.nodes
			.lock()
			.unwrap()
			.insert(peer, Node { shelf, conduct });
		peer
	}

	/// Lets a node give what arrives at another one.
	pub(crate) fn add_shelf(&self, shelf: Arc<Shelf>) {
		let conduct = Conduct::Honest;
		self.nodes
			.lock()
			.unwrap()
			.insert(PeerId::random(), Node { shelf, conduct });
	}

	/// Pieces that somebody gave twice, whoever it was.
	pub(crate) fn given_twice(&self) -> usize {
		let mut pieces = HashMap::<H256, u32>::new();
		for ((_, hash), times) in self.given.lock().unwrap().iter() {
			*pieces.entry(*hash).or_default() += times;
		}
		pieces.values().filter(|times| **times > 1).count()
	}

	/// Pieces that this node gave.
	pub(crate) fn given_by(&self, peer: PeerId) -> u32 {
		let given = self.given.lock().unwrap();
		given
			.iter()
			.filter(|((p, _), _)| *p == peer)
			.map(|(_, times)| times)
			.sum()
	}

	/// Pieces that were asked for, each time that they were.
	pub(crate) fn given(&self) -> usize {
		let given = self.given.lock().unwrap();
		given.values().map(|times| *times as usize).sum()
	}

	pub(crate) fn misdeeds(&self) -> HashSet<PeerId> {
		self.reported
			.lock()
			.unwrap()
			.iter()
			.map(|(peer, _)| *peer)
			.collect()
	}
}

#[async_trait]
impl Network for Arc<World> {
	async fn peers(&self) -> Vec<PeerId> {
		self.nodes.lock().unwrap().keys().copied().collect()
	}

	async fn ask(&self, peer: PeerId, request: Request) -> Result<Response, String> {
		let (shelf, conduct) = {
			let nodes = self.nodes.lock().unwrap();
			let node = nodes.get(&peer).ok_or("not connected")?;
			(node.shelf.clone(), node.conduct.clone())
		};
		tokio::time::sleep(Duration::from_millis(1)).await;
		let honest = match request {
			Request::Manifest(model) => shelf.manifest(model),
			Request::Holding(model) => shelf.holding(model),
			Request::Piece(hash) => {
				*self.given.lock().unwrap().entry((peer, hash)).or_default() += 1;
				shelf.piece(hash).map_or(Response::Unknown, Response::Piece)
			}
		};
		match (conduct, honest) {
			(Conduct::Wrong, Response::Piece(mut bytes)) => {
				*bytes.last_mut().unwrap() ^= 1;
				Ok(Response::Piece(bytes))
			}
			(Conduct::Nonsense, Response::Piece(_)) => Ok(Response::All),
			(Conduct::OtherManifest, Response::Manifest(_)) => {
				Ok(Response::Manifest(described("other", Vec::new()).encode()))
			}
			(Conduct::Stalls, Response::Piece(_)) => {
				tokio::time::sleep(Duration::from_millis(500)).await;
				Err("no answer in time".into())
			}
			(Conduct::Boasts, Response::Piece(_)) => Ok(Response::Unknown),
			(Conduct::GoesAfter(left), Response::Piece(bytes)) => {
				let gone =
					left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
				gone.map(|_| Response::Piece(bytes))
					.map_err(|_| "gone".into())
			}
			(Conduct::BusyOften(asked), Response::Piece(bytes)) => {
				let busy = asked.fetch_add(1, Ordering::SeqCst) % 2 == 1;
				Ok(if busy {
					Response::Busy
				} else {
					Response::Piece(bytes)
				})
			}
			(_, honest) => Ok(honest),
		}
	}

	fn report(&self, peer: PeerId, misdeed: Misdeed) {
		self.reported.lock().unwrap().push((peer, misdeed));
	}
}
