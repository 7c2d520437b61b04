//! A validator's two kinds of keys: the node key, by which peers know it, and the session keys, with which it speaks for its stake.

use std::{
	os::unix::fs::MetadataExt,
	path::{Path, PathBuf},
};

use codec::{Decode, Encode};
use consilience_runtime::{AccountId, SessionKeys};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	sc_network::config::{NodeKeyConfig, Secret},
	sc_rpc_api::author::GeneratedSessionKeys,
	sc_service::BasePath,
	sp_core::{
		bytes::{from_hex, to_hex},
		Bytes,
	},
};
use serde_json::{json, Value};

use super::account::{holds, on_the_machine_itself};
use crate::tool::{
	chain::{address, Chain},
	Result,
};

/// Session keys that a node has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionKeysOf {
	/// Their public parts.
	pub(super) keys: SessionKeys,
	/// What proves to the chain that whoever has their secrets wants them to be the account's.
	pub(super) proof: Vec<u8>,
}

impl SessionKeysOf {
	/// Their public parts, as programs and people pass them on.
	pub(super) fn hex(&self) -> String {
		to_hex(&self.keys.encode(), false)
	}

	/// Has the node make keys for an account. They are of no use until they are on chain.
	pub(super) async fn make(chain: &Chain, stash: &AccountId) -> Result<Self> {
		let owner = Bytes(stash.encode());
		let made = chain
			.call("author_rotateKeysWithOwner", rpc_params![owner])
			.await;
		let made: GeneratedSessionKeys = made.map_err(on_the_machine_itself)?;
		let unreadable = |e: codec::Error| {
			format!("the node made keys of another kind than this program knows: {e}")
		};
		Ok(Self {
			keys: SessionKeys::decode(&mut &made.keys[..]).map_err(unreadable)?,
			proof: made.proof.ok_or("the node made keys without a proof")?.0,
		})
	}
}

/// Fails where the node holds the session keys of another of the next session's validators: it speaks for one, and the other would be absent.
pub(super) async fn speaks_for_nobody_else(chain: &Chain, stash: &AccountId) -> Result<()> {
	let at = chain.best().await?.hash;
	let queued: Option<Vec<(AccountId, SessionKeys)>> =
		chain.stored("Session", "QueuedKeys", at).await?;
	for (who, keys) in queued.unwrap_or_default() {
		if who != *stash && holds(chain, &keys).await? {
			return Err(format!(
				"this node has the session keys of the validator {}, and a node speaks for one: give this validator a node with a base path of its own",
				address(&who)
			));
		}
	}
	Ok(())
}

/// A chain's folder in a node's base path, on this machine.
pub(super) struct Folder(PathBuf);

impl Folder {
	/// The folder of the chain with this id. Fails where it is another user's: what would be written there the node could not read.
	pub(super) fn of(base_path: Option<&Path>, chain: &str) -> Result<Self> {
		let base = base_path.map_or_else(
			|| BasePath::from_project("", "", "consilience"),
			BasePath::new,
		);
		let folder = base.config_dir(chain);
		// The first of them that is there: what is made goes into it.
		let there = folder
			.ancestors()
			.find_map(|place| Some((place, std::fs::metadata(place).ok()?)));
		let me = std::fs::metadata("/proc/self").map(|me| me.uid());
		if let (Some((place, found)), Ok(me)) = (there, me) {
			if place.starts_with(base.path()) && found.uid() != me {
				return Err(format!(
					"{} belongs to another user, who runs the node: do this as that user, with sudo -u",
					place.display()
				));
			}
		}
		Ok(Self(folder))
	}

	/// A file or folder in it.
	pub(super) fn join(&self, name: &str) -> PathBuf {
		self.0.join(name)
	}

	/// Where the node key is.
	pub(super) fn node_key(&self) -> PathBuf {
		self.0.join("network").join("secret_ed25519")
	}

	/// Returns the peer id of the node key, and whether the key was made just now.
	pub(super) fn peer(&self) -> Result<(String, bool)> {
		let file = self.node_key();
		let made = !file.exists();
		// Written so that its owner alone can read it.
		let pair = NodeKeyConfig::Ed25519(Secret::File(file.clone())).into_keypair();
		let pair = pair.map_err(|e| format!("{}: {e}", file.display()))?;
		Ok((pair.public().to_peer_id().to_string(), made))
	}

	fn remembered(&self) -> PathBuf {
		self.0.join("session-keys.json")
	}

	/// Writes down keys that are on their way to the chain, so that the next attempt does not make others. There is no secret in it.
	pub(super) fn remember(&self, stash: &AccountId, made: &SessionKeysOf) -> Result<()> {
		let what = json!({ "account": address(stash), "keys": made.hex(), "proof": to_hex(&made.proof, false) });
		let file = self.remembered();
		std::fs::create_dir_all(&self.0)
			.and_then(|()| std::fs::write(&file, what.to_string()))
			.map_err(|e| format!("{}: {e}", file.display()))
	}

	/// Forgets keys that are on chain: were they given up one day, for they leaked say, nobody should put them there again.
	pub(super) fn forget(&self) -> Result<()> {
		let file = self.remembered();
		match std::fs::remove_file(&file) {
			Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
				Err(format!("{}: {e}", file.display()))
			}
			_ => Ok(()),
		}
	}

	/// Returns what was written down for this account, if the node still has it.
	pub(super) async fn recall(
		&self,
		chain: &Chain,
		stash: &AccountId,
	) -> Result<Option<SessionKeysOf>> {
		let Some(made) = std::fs::read(self.remembered())
			.ok()
			.and_then(|text| read(&text, stash))
		else {
			return Ok(None);
		};
		Ok(holds(chain, &made.keys).await?.then_some(made))
	}
}

/// Reads what [`Folder::remember`] wrote, if it is this account's.
fn read(text: &[u8], stash: &AccountId) -> Option<SessionKeysOf> {
	let what: Value = serde_json::from_slice(text).ok()?;
	if what["account"] != address(stash) {
		return None;
	}
	let bytes = |name: &str| from_hex(what[name].as_str()?).ok();
	let keys = SessionKeys::decode(&mut &bytes("keys")?[..]).ok()?;
	Some(SessionKeysOf {
		keys,
		proof: bytes("proof")?,
	})
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use std::os::unix::fs::PermissionsExt;

	use polkadot_sdk::sp_keyring::{Ed25519Keyring, Sr25519Keyring};

	use super::*;

	#[test]
	fn a_node_key_is_made_once_and_its_owner_alone_reads_it() {
		let base = tempfile::tempdir().unwrap();
		let folder = Folder::of(Some(base.path()), "a").unwrap();
		let (peer, made) = folder.peer().unwrap();
		assert!(made && peer.starts_with("12D3"));
		let mode = std::fs::metadata(folder.node_key())
			.unwrap()
			.permissions()
			.mode();
		assert_eq!(mode & 0o777, 0o600);
		assert_eq!(folder.peer().unwrap(), (peer.clone(), false));
		// Another chain's node is another peer.
		let other = Folder::of(Some(base.path()), "b").unwrap().peer().unwrap();
		assert_ne!(other.0, peer);
		std::fs::write(folder.node_key(), "no key").unwrap();
		assert!(folder.peer().unwrap_err().contains("secret_ed25519"));
	}

	#[test]
	fn keys_on_their_way_are_remembered_for_their_account() {
		let base = tempfile::tempdir().unwrap();
		let folder = Folder::of(Some(base.path()), "a").unwrap();
		let alice = Sr25519Keyring::Alice.public();
		let made = SessionKeysOf {
			keys: SessionKeys {
				babe: alice.into(),
				grandpa: Ed25519Keyring::Alice.public().into(),
				authority_discovery: alice.into(),
				inference: alice.into(),
			},
			proof: vec![1, 2, 3],
		};
		let (mine, other) = (AccountId::new([1; 32]), AccountId::new([2; 32]));
		folder.remember(&mine, &made).unwrap();
		let text = std::fs::read(folder.remembered()).unwrap();
		assert_eq!(read(&text, &mine), Some(made));
		assert_eq!(read(&text, &other), None);
		assert_eq!(read(b"{}", &mine), None);
		folder.forget().unwrap();
		assert!(!folder.remembered().exists());
		folder.forget().unwrap();
	}
}
