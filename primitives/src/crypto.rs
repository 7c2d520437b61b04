//! The session key `infr`, with which a validator signs its reports.

use polkadot_sdk::sp_application_crypto;
use sp_application_crypto::{app_crypto, sr25519, KeyTypeId};

/// Key type of the inference session key in keystore and session keys.
pub const KEY_TYPE: KeyTypeId = KeyTypeId(*b"infr");

mod app {
	use super::*;
	app_crypto!(sr25519, super::KEY_TYPE);
}

/// Public half of a validator's inference session key.
pub type InferenceId = app::Public;

/// Signature by an inference session key.
pub type InferenceSignature = app::Signature;

sp_application_crypto::with_pair! {
	/// A whole inference session key.
	pub type InferencePair = app::Pair;
}
