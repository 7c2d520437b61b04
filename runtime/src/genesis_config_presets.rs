//! The state with which a network starts.
//!
//! Both presets are for development: their keys are derived from well-known phrases, and one of them has the sudo key.

use crate::*;
use alloc::{string::ToString, vec};
use frame_support::build_struct_json_patch;
use pallet_staking::StakerStatus;
use serde_json::Value;
use sp_genesis_builder::PresetId;
use sp_keyring::Sr25519Keyring;
use sp_runtime::Perbill;

/// What a development account starts with.
const ENDOWMENT: Balance = 10_000_000 * UNIT;
/// What the jury fund begins with.
const JURY_FUND: Balance = 1_000 * UNIT;
/// What a validator of a development network has at stake.
const STAKE: Balance = 1_000_000 * UNIT;

/// Session keys of all kinds, derived from the same phrase.
fn session_keys(validator: Sr25519Keyring) -> SessionKeys {
	let sr25519 = validator.public();
	let ed25519 = match validator {
		Sr25519Keyring::Alice => sp_keyring::Ed25519Keyring::Alice,
		Sr25519Keyring::Bob => sp_keyring::Ed25519Keyring::Bob,
		Sr25519Keyring::Charlie => sp_keyring::Ed25519Keyring::Charlie,
		_ => sp_keyring::Ed25519Keyring::Dave,
	};
	SessionKeys {
		babe: sr25519.into(),
		grandpa: ed25519.public().into(),
		authority_discovery: sr25519.into(),
		inference: sr25519.into(),
	}
}

/// The account that holds a validator's stake.
fn stash(validator: Sr25519Keyring) -> AccountId {
	match validator {
		Sr25519Keyring::Alice => Sr25519Keyring::AliceStash,
		Sr25519Keyring::Bob => Sr25519Keyring::BobStash,
		Sr25519Keyring::Charlie => Sr25519Keyring::CharlieStash,
		_ => Sr25519Keyring::DaveStash,
	}
	.to_account_id()
}

fn genesis(validators: &[Sr25519Keyring]) -> Value {
	let endowed = Sr25519Keyring::well_known()
		.map(|account| (account.to_account_id(), ENDOWMENT))
		// It pays before the first slash has flowed into it.
		.chain([(crate::configs::inference::JuryFundAccount::get(), JURY_FUND)]);
	build_struct_json_patch!(RuntimeGenesisConfig {
		balances: BalancesConfig {
			balances: endowed.collect::<Vec<_>>()
		},
		babe: BabeConfig {
			epoch_config: BABE_GENESIS_EPOCH_CONFIG
		},
		session: SessionConfig {
			keys: validators
				.iter()
				.map(|validator| (
					stash(*validator),
					stash(*validator),
					session_keys(*validator)
				))
				.collect::<Vec<_>>(),
		},
		staking: StakingConfig {
			validator_count: validators.len() as u32,
			minimum_validator_count: validators.len() as u32,
			invulnerables: vec![],
			slash_reward_fraction: Perbill::from_percent(10),
			stakers: validators
				.iter()
				.map(|validator| (
					stash(*validator),
					stash(*validator),
					STAKE,
					StakerStatus::<AccountId>::Validator
				))
				.collect::<Vec<_>>(),
		},
		sudo: SudoConfig {
			key: Some(Sr25519Keyring::Alice.to_account_id())
		},
	})
}

/// The preset with this name, as JSON.
pub fn get_preset(id: &PresetId) -> Option<Vec<u8>> {
	let patch = match id.as_ref() {
		sp_genesis_builder::DEV_RUNTIME_PRESET => genesis(&[Sr25519Keyring::Alice]),
		sp_genesis_builder::LOCAL_TESTNET_RUNTIME_PRESET => genesis(&[
			Sr25519Keyring::Alice,
			Sr25519Keyring::Bob,
			Sr25519Keyring::Charlie,
			Sr25519Keyring::Dave,
		]),
		_ => return None,
	};
	Some(patch.to_string().into_bytes())
}

/// Names of the presets.
pub fn preset_names() -> Vec<PresetId> {
	vec![
		PresetId::from(sp_genesis_builder::DEV_RUNTIME_PRESET),
		PresetId::from(sp_genesis_builder::LOCAL_TESTNET_RUNTIME_PRESET),
	]
}
