//! Where models come from besides other nodes: a folder, a web server, a gateway of IPFS. Each is a peer among the peers, asked the
//! same questions, and believed as little: what it gives counts when its hash is right.

use std::{
	collections::HashMap,
	fmt::Display,
	path::PathBuf,
	str::FromStr,
	sync::{Arc, Mutex},
	time::Duration,
};

use async_trait::async_trait;
use consilience_primitives::manifest::Manifest;
use consilience_store::{Piece, Store, StoreError, ENCODED};
use data_encoding::BASE32_NOPAD;
use polkadot_sdk::{sc_network_types::PeerId, sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::{
	message::{read, Request, Response, MAX_MANIFEST},
	network::{Misdeed, Network},
	shelf::Shelf,
	LOG_TARGET,
};

/// The longest that a server may take for one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// CIDv1, raw, BLAKE2b-256 of 32 bytes: what stands before the hash (<https://github.com/multiformats/cid>).
const CID: [u8; 6] = [0x01, 0x55, 0xa0, 0xe4, 0x02, 0x20];

/// A place from which models can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
	/// A folder as a node's store is.
	Folder(PathBuf),
	/// Such a folder behind a web server that answers ranges: `https://example.org/models`.
	Http(String),
	/// A gateway of IPFS that gives raw blocks (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>): `ipfs+https://example.org`.
	/// A piece is a block; so is a manifest.
	Ipfs(String),
}

impl FromStr for Place {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
		let base = |text: &str| text.trim_end_matches('/').to_owned();
		match text.strip_prefix("ipfs+") {
			Some(gateway) if is_url(gateway) => Ok(Self::Ipfs(base(gateway))),
			None if is_url(text) => Ok(Self::Http(base(text))),
			None if !text.contains("://") => Ok(Self::Folder(text.into())),
			_ => Err(format!(
				"{text:?} is neither a folder nor begins with http://, https://, ipfs+http:// or ipfs+https://"
			)),
		}
	}
}

impl Display for Place {
	fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
		match self {
			Self::Folder(path) => path.display().fmt(f),
			Self::Http(url) => url.fmt(f),
			Self::Ipfs(gateway) => write!(f, "ipfs+{gateway}"),
		}
	}
}

/// A piece at a web server: path below the base, offset, length.
type At = (String, u64, u32);

enum Kind {
	Folder(Shelf),
	Http {
		base: String,
		known: Mutex<HashMap<H256, At>>,
	},
	Ipfs(String),
}

struct Source {
	place: Place,
	kind: Kind,
	web: ureq::Agent,
}

/// A network, and places beside it.
pub(crate) struct Sources<N> {
	network: N,
	sources: HashMap<PeerId, Arc<Source>>,
}

impl<N> Sources<N> {
	/// # Errors
	/// Where a folder cannot be opened.
	pub(crate) fn new(network: N, places: &[Place]) -> Result<Self, StoreError> {
		let config = ureq::Agent::config_builder()
			.timeout_global(Some(ANSWER))
			.http_status_as_error(false)
			.build();
		let web = ureq::Agent::from(config);
		let source = |place: &Place| {
			let kind = match place.clone() {
				Place::Folder(path) => Kind::Folder(Shelf::new(Store::open(path)?)),
				Place::Http(base) => Kind::Http {
					base,
					known: Mutex::default(),
				},
				Place::Ipfs(gateway) => Kind::Ipfs(gateway),
			};
			let source = Source {
				place: place.clone(),
				kind,
				web: web.clone(),
			};
			Ok((PeerId::random(), Arc::new(source)))
		};
		Ok(Self {
			network,
			sources: places
				.iter()
				.map(source)
				.collect::<Result<_, StoreError>>()?,
		})
	}
}

#[async_trait]
impl<N: Network> Network for Sources<N> {
	async fn peers(&self) -> Vec<PeerId> {
		let mut peers: Vec<PeerId> = self.sources.keys().copied().collect();
		peers.extend(self.network.peers().await);
		peers
	}

	async fn ask(&self, peer: PeerId, request: Request) -> Result<Response, String> {
		let Some(source) = self.sources.get(&peer).cloned() else {
			return self.network.ask(peer, request).await;
		};
		let place = source.place.clone();
		let asked = tokio::task::spawn_blocking(move || source.ask(request));
		let answer = asked.await.map_err(|e| e.to_string())?;
		answer.map_err(|why| format!("{place}: {why}"))
	}

	fn report(&self, peer: PeerId, misdeed: Misdeed) {
		match self.sources.get(&peer) {
			Some(source) => tracing::warn!(
				target: LOG_TARGET,
				"{}: {misdeed:?}. It is asked no more for this model",
				source.place
			),
			None => self.network.report(peer, misdeed),
		}
	}
}

impl Source {
	fn ask(&self, request: Request) -> Result<Response, String> {
		match &self.kind {
			Kind::Folder(shelf) => Ok(match request {
				Request::Manifest(model) => shelf.manifest(model),
				Request::Holding(model) => shelf.holding(model),
				Request::Piece(hash) => {
					shelf.piece(hash).map_or(Response::Unknown, Response::Piece)
				}
			}),
			Kind::Http { base, known } => self.ask_server(base, known, request),
			Kind::Ipfs(gateway) => self.ask_gateway(gateway, request),
		}
	}

	fn ask_server(
		&self,
		base: &str,
		known: &Mutex<HashMap<H256, At>>,
		request: Request,
	) -> Result<Response, String> {
		match request {
			Request::Manifest(model) => {
				let url = format!("{base}/{}/{ENCODED}", hex::encode(model.0));
				let manifest = self.get(&url, None, MAX_MANIFEST as u64)?;
				Ok(manifest.map_or(Response::Unknown, Response::Manifest))
			}
			// Where its pieces are stands in the manifest.
			Request::Holding(model) => {
				let Response::Manifest(bytes) =
					self.ask_server(base, known, Request::Manifest(model))?
				else {
					return Ok(Response::Unknown);
				};
				let right = H256(blake2_256(&bytes)) == model;
				let Some(manifest) = right.then(|| read::<Manifest>(&bytes)).flatten() else {
					return Err(format!("its {ENCODED} is not that of model {model:?}"));
				};
				let places = Piece::of(&manifest).into_iter().map(|piece| {
					let (path, offset) = piece.place(&manifest);
					let path = format!("{}/{}", hex::encode(model.0), encoded(path));
					(piece.chunk.hash, (path, offset, piece.chunk.length))
				});
				let mut known = known.lock().unwrap_or_else(|e| e.into_inner());
				known.extend(places);
				Ok(Response::All)
			}
			Request::Piece(hash) => {
				let at = known
					.lock()
					.unwrap_or_else(|e| e.into_inner())
					.get(&hash)
					.cloned();
				let Some((path, offset, length)) = at else {
					return Ok(Response::Unknown);
				};
				let piece = self.get(
					&format!("{base}/{path}"),
					Some((offset, length)),
					length.into(),
				)?;
				Ok(piece.map_or(Response::Unknown, Response::Piece))
			}
		}
	}

	fn ask_gateway(&self, gateway: &str, request: Request) -> Result<Response, String> {
		let block = |hash: H256, most: u64| {
			let cid = [&CID[..], &hash.0].concat();
			let cid = BASE32_NOPAD.encode(&cid).to_ascii_lowercase();
			self.get(&format!("{gateway}/ipfs/b{cid}?format=raw"), None, most)
		};
		Ok(match request {
			Request::Manifest(model) => {
				block(model, MAX_MANIFEST as u64)?.map_or(Response::Unknown, Response::Manifest)
			}
			// It does not say; whoever has the manifest has the rest, most likely.
			Request::Holding(model) => {
				block(model, MAX_MANIFEST as u64)?.map_or(Response::Unknown, |_| Response::All)
			}
			Request::Piece(hash) => {
				let most = consilience_primitives::manifest::MAX_CHUNK;
				block(hash, most.into())?.map_or(Response::Unknown, Response::Piece)
			}
		})
	}

	/// What a server gives at an address, or a range of it; nothing where it does not have it.
	fn get(
		&self,
		url: &str,
		range: Option<(u64, u32)>,
		most: u64,
	) -> Result<Option<Vec<u8>>, String> {
		let mut request = self.web.get(url);
		if let Some((offset, length)) = range {
			let last = offset + u64::from(length) - 1;
			request = request.header("Range", format!("bytes={offset}-{last}"));
		}
		let mut response = request.call().map_err(|e| e.to_string())?;
		match (response.status().as_u16(), range) {
			(200, None) | (206, Some(_)) => (),
			(404 | 410, _) => return Ok(None),
			(200, Some(_)) => return Err("the server answers no ranges".into()),
			(status, _) => return Err(format!("{url}: status {status}")),
		}
		let body = response.body_mut().with_config().limit(most);
		body.read_to_vec().map(Some).map_err(|e| e.to_string())
	}
}

/// A path in an address.
fn encoded(path: &str) -> String {
	let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
	let byte = |b: u8| {
		if plain(b) {
			char::from(b).to_string()
		} else {
			format!("%{b:02X}")
		}
	};
	path.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;

	#[test]
	fn places_are_read_as_they_are_written() {
		for (text, place) in [
			("/mnt/models", Place::Folder("/mnt/models".into())),
			(
				"https://a.b/models/",
				Place::Http("https://a.b/models".into()),
			),
			(
				"ipfs+http://127.0.0.1:8080",
				Place::Ipfs("http://127.0.0.1:8080".into()),
			),
		] {
			assert_eq!(text.parse::<Place>().unwrap(), place);
			assert_eq!(place.to_string(), text.trim_end_matches('/'));
		}
		for wrong in ["ftp://a", "ipfs://a", "ipfs+a"] {
			let why = wrong.parse::<Place>().unwrap_err();
			assert!(why.contains("ipfs+https://"), "{why}");
		}
	}

	#[test]
	fn paths_are_encoded() {
		assert_eq!(encoded("a b/ü.bin"), "a%20b/%C3%BC.bin");
	}
}
