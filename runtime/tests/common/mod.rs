//! A chain from a preset, without a node.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use codec::Encode;
use consilience_runtime::{
	genesis_config_presets::get_preset, Executive, Hash, Header, Runtime, RuntimeCall,
	RuntimeGenesisConfig, System, UncheckedExtrinsic, MILLISECS_PER_BLOCK,
};
use polkadot_sdk::*;
use serde_json::Value;
use sp_consensus_babe::{
	digests::{PreDigest, SecondaryPlainPreDigest},
	BABE_ENGINE_ID,
};
use sp_io::TestExternalities;
use sp_runtime::{traits::Header as _, BuildStorage, Digest, DigestItem};

/// Puts a patch over a whole configuration.
fn merge(over: &mut Value, patch: Value) {
	match (over, patch) {
		(Value::Object(over), Value::Object(patch)) => {
			for (key, value) in patch {
				merge(
					over.get_mut(&key)
						.unwrap_or_else(|| panic!("no field {key}")),
					value,
				);
			}
		}
		(over, patch) => *over = patch,
	}
}

/// A chain that starts from a preset.
pub fn chain(preset: &str) -> TestExternalities {
	let mut config = serde_json::to_value(RuntimeGenesisConfig::default()).unwrap();
	let patch = get_preset(&preset.into()).expect("the preset exists");
	merge(&mut config, serde_json::from_slice(&patch).unwrap());
	let config: RuntimeGenesisConfig = serde_json::from_value(config).unwrap();
	let mut chain = TestExternalities::new(config.build_storage().unwrap());
	chain.execute_with(|| System::set_block_number(1));
	chain
}

/// Executes an empty block in this slot and gives its hash. The last of the validators writes it.
pub fn block(number: u32, parent: Hash, slot: u64) -> Hash {
	begin(number, parent, slot);
	Executive::finalize_block().hash()
}

/// Begins a block, up to its time.
pub fn begin(number: u32, parent: Hash, slot: u64) {
	let digest = PreDigest::SecondaryPlain(SecondaryPlainPreDigest {
		authority_index: pallet_babe::Authorities::<Runtime>::decode_len().unwrap_or(1) as u32 - 1,
		slot: slot.into(),
	});
	begin_by(number, parent, slot, digest);
}

/// The same, by whoever this names.
pub fn begin_by(number: u32, parent: Hash, slot: u64, digest: PreDigest) {
	let header = Header::new(
		number,
		Default::default(),
		Default::default(),
		parent,
		Digest {
			logs: vec![DigestItem::PreRuntime(BABE_ENGINE_ID, digest.encode())],
		},
	);
	Executive::initialize_block(&header);
	let now = pallet_timestamp::Call::set {
		now: slot * MILLISECS_PER_BLOCK,
	};
	Executive::apply_extrinsic(UncheckedExtrinsic::new_bare(RuntimeCall::from(now)))
		.expect("the time is let in")
		.expect("the time is set");
}
