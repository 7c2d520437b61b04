//! What the presets put into storage.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use common::chain;
use consilience_runtime::{
	genesis_config_presets::preset_names, Inference, Runtime, RuntimeGenesisConfig, SessionKeys,
	Staking, UNIT,
};
use polkadot_sdk::*;
use sp_runtime::traits::OpaqueKeys;

#[test]
fn presets_have_their_validators_with_keys_of_all_kinds_and_stake() {
	assert_eq!(preset_names().len(), 2);
	for (preset, validators) in [("development", 1), ("local_testnet", 4)] {
		chain(preset).execute_with(|| {
			let session = pallet_session::Validators::<Runtime>::get();
			assert_eq!(session.len(), validators);
			assert_eq!(SessionKeys::key_ids().len(), 4);
			for validator in &session {
				assert!(pallet_session::NextKeys::<Runtime>::get(validator).is_some());
				let stake = Staking::ledger(validator.clone().into()).unwrap();
				assert_eq!(stake.active, 1_000_000 * UNIT);
			}
			assert_eq!(pallet_babe::Authorities::<Runtime>::get().len(), validators);
			assert_eq!(
				pallet_grandpa::Authorities::<Runtime>::get().len(),
				validators
			);
			let inference = pallet_inference::Keys::<Runtime>::get();
			assert_eq!(
				inference.iter().map(|(v, _)| v.clone()).collect::<Vec<_>>(),
				session
			);
			// Every validator has a key of its own.
			let mut keys: Vec<_> = inference.iter().map(|(_, key)| key.clone()).collect();
			keys.dedup();
			assert_eq!(keys.len(), validators);
			assert!(Inference::duties(&keys[0]).is_some());
		});
	}
}

#[test]
fn sudo_has_a_key_in_development_presets_only() {
	assert!(RuntimeGenesisConfig::default().sudo.key.is_none());
	chain("local_testnet").execute_with(|| assert!(pallet_sudo::Key::<Runtime>::get().is_some()));
}

#[test]
fn every_block_has_randomness() {
	chain("local_testnet").execute_with(|| {
		let config = pallet_babe::EpochConfig::<Runtime>::get().unwrap();
		assert_eq!(
			config.allowed_slots,
			sp_consensus_babe::AllowedSlots::PrimaryAndSecondaryVRFSlots
		);
	});
}
