//! Session keys of development accounts: `--alice` and its like.

use consilience_runtime::SessionKeys;
use polkadot_sdk::{
	sc_service::Error,
	sp_core::{bytes::to_hex, crypto::key_types::GRANDPA, ed25519, sr25519, Pair},
	sp_keystore::KeystorePtr,
	sp_runtime::traits::OpaqueKeys,
};

/// Puts the session keys of a development account into the keystore, as seeds. As a phrase, which the SDK would keep, the secret
/// is stretched anew at every signature: 2,048 rounds of HMAC, 40 % of all that a development node does.
pub(crate) fn insert_keys(uri: &str, keystore: &KeystorePtr) -> Result<(), Error> {
	let wrong =
		|e: &dyn std::fmt::Debug| Error::Other(format!("{uri} is no development key: {e:?}"));
	for kind in SessionKeys::key_ids() {
		let made = if *kind == GRANDPA {
			let seed = seed::<ed25519::Pair>(uri).map_err(|e| wrong(&e))?;
			keystore.ed25519_generate_new(*kind, Some(&seed)).map(drop)
		} else {
			let seed = seed::<sr25519::Pair>(uri).map_err(|e| wrong(&e))?;
			keystore.sr25519_generate_new(*kind, Some(&seed)).map(drop)
		};
		made.map_err(|e| wrong(&e))?;
	}
	Ok(())
}

/// The seed that a secret stands for, in hexadecimal; the secret itself where it has none.
fn seed<P: Pair>(uri: &str) -> Result<String, polkadot_sdk::sp_core::crypto::SecretStringError> {
	let (_, seed) = P::from_string_with_seed(uri, None)?;
	Ok(seed.map_or_else(|| uri.into(), |seed| to_hex(seed.as_ref(), false)))
}

#[cfg(test)]
mod tests {
	use std::sync::Arc;

	use polkadot_sdk::{
		sp_core::crypto::key_types::BABE,
		sp_keyring::{Ed25519Keyring, Sr25519Keyring},
		sp_keystore::testing::MemoryKeystore,
	};

	use super::*;

	#[test]
	fn all_session_keys_of_the_account_are_there_and_sign() {
		let keystore: KeystorePtr = Arc::new(MemoryKeystore::new());
		insert_keys("//Bob", &keystore).unwrap();
		let bob = Sr25519Keyring::Bob.public();
		let keys = SessionKeys {
			babe: bob.into(),
			grandpa: Ed25519Keyring::Bob.public().into(),
			authority_discovery: bob.into(),
			inference: bob.into(),
		};
		for kind in SessionKeys::key_ids() {
			let raw = keys.get_raw(*kind);
			assert!(keystore.has_keys(&[(raw.to_vec(), *kind)]), "{kind:?}");
		}
		let signature = keystore
			.sr25519_sign(BABE, &bob, b"message")
			.unwrap()
			.unwrap();
		assert!(sr25519::Pair::verify(&signature, b"message", &bob));
	}
}
