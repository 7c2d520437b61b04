//! Which chains the node knows by name.

use consilience_runtime::{genesis_config_presets, SS58_PREFIX, WASM_BINARY};
use polkadot_sdk::*;
use sc_service::{ChainType, Properties};

/// A chain specification.
pub(crate) type ChainSpec = sc_service::GenericChainSpec;

/// What wallets show.
fn properties() -> Properties {
	let mut properties = Properties::new();
	properties.insert("tokenSymbol".into(), "CSL".into());
	properties.insert("tokenDecimals".into(), 12.into());
	properties.insert("ss58Format".into(), SS58_PREFIX.into());
	properties
}

fn preset(name: &str, id: &str, chain_type: ChainType, preset: &str) -> Result<ChainSpec, String> {
	let wasm = WASM_BINARY.ok_or(
		"this node was built without the WebAssembly runtime (SKIP_WASM_BUILD): build it without \
		 that variable, or name a chain specification file with --chain",
	)?;
	// Asking the WebAssembly runtime for its preset gives the same, and compiles it once more at every start.
	let patch = genesis_config_presets::get_preset(&preset.into())
		.ok_or_else(|| format!("the runtime has no genesis preset {preset:?}"))?;
	let patch = serde_json::from_slice(&patch)
		.map_err(|error| format!("the genesis preset {preset:?} is no JSON: {error}"))?;
	Ok(ChainSpec::builder(wasm, None)
		.with_name(name)
		.with_id(id)
		.with_protocol_id("csl")
		.with_chain_type(chain_type)
		.with_properties(properties())
		.with_genesis_config_patch(patch)
		.build())
}

/// One validator, Alice.
pub(crate) fn development() -> Result<ChainSpec, String> {
	preset(
		"Consilience Development",
		"consilience_dev",
		ChainType::Development,
		sp_genesis_builder::DEV_RUNTIME_PRESET,
	)
}

/// Four validators: Alice, Bob, Charlie and Dave.
pub(crate) fn local_testnet() -> Result<ChainSpec, String> {
	preset(
		"Consilience Local Testnet",
		"consilience_local",
		ChainType::Local,
		sp_genesis_builder::LOCAL_TESTNET_RUNTIME_PRESET,
	)
}
