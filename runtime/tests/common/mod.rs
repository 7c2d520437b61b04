//! A chain from a preset, without a node.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used, unreachable_pub)]

use consilience_runtime::{genesis_config_presets::get_preset, RuntimeGenesisConfig, System};
use polkadot_sdk::*;
use serde_json::Value;
use sp_io::TestExternalities;
use sp_runtime::BuildStorage;

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
