//! Which chains the node knows by name.

use consilience_runtime::{SS58_PREFIX, WASM_BINARY};
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
	Ok(ChainSpec::builder(wasm, None)
		.with_name(name)
		.with_id(id)
		.with_protocol_id("csl")
		.with_chain_type(chain_type)
		.with_properties(properties())
		.with_genesis_config_preset_name(preset)
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
