//! A model that is too small to say anything and quick to run: the engine's fixture with a card.

use std::{
	fs,
	path::{Path, PathBuf},
	process::Stdio,
};

use consilience_primitives::{evidence::Fingerprint, manifest::Manifest};
use polkadot_sdk::{
	sp_core::crypto::Ss58Codec,
	sp_keyring::{Ed25519Keyring, Sr25519Keyring},
};
use serde_json::{json, Value};
use tokio::process::Command;

use crate::{binary, within};

/// Writes a folder with the tiny canonical language model and its card, of the exact class. `name` makes it a model of its own.
pub fn tiny_model(parent: &Path, name: &str) -> PathBuf {
	tiny(parent, name, "fp32")
}

/// Gives the model in a folder short time limits, so that a test need not wait long for who does not come.
pub fn quick(folder: PathBuf) -> PathBuf {
	with_card(folder, |card| {
		card["time"] = json!({ "base_blocks": 6, "output_units_per_block": 16 });
	})
}

/// Adds a file of so many bytes, no two mebibytes of which are alike, to the model in a folder: it takes time to travel.
pub fn heavy(folder: PathBuf, bytes: usize) -> PathBuf {
	let mut state = 0x9e37_79b9_7f4a_7c15_u64;
	let mut word = || {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		state.to_le_bytes()
	};
	let weights: Vec<u8> = (0..bytes / 8).flat_map(|_| word()).collect();
	fs::write(folder.join("weights.pad"), weights).expect("the test's folder is writable");
	let path = folder.join("model.json");
	let card = fs::read(&path).expect("a model's folder has a card");
	let mut card: Value = serde_json::from_slice(&card).expect("a card is JSON");
	let files = card["files"]
		.as_array_mut()
		.expect("a card lists its files");
	files.push(json!("weights.pad"));
	fs::write(&path, card.to_string()).expect("the test's folder is writable");
	folder
}

/// Gives the model in a folder a chat template that refuses conversations which its own side begins, as many publishers' do.
pub fn picky(folder: PathBuf) -> PathBuf {
	with_card(folder, |card| {
		card["details"]["chat_template"] = json!(
		"{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('the user speaks first') }}{% endif %}\
		 {% for message in messages %}{{ message['content'] }} {% endfor %}"
	);
	})
}

/// The tiny language model with weights that are powers of two: what somebody could run in its place. It hardly ever says the same.
pub fn cheap_model(parent: &Path, name: &str) -> PathBuf {
	let folder = tiny(parent, name, "fp32");
	let path = folder.join("model.onnx_data");
	let mut weights = fs::read(&path).expect("the fixture keeps its weights beside the graph");
	for weight in weights.chunks_exact_mut(4) {
		let bits = u32::from_le_bytes(weight.try_into().expect("chunks of 4"));
		weight.copy_from_slice(&(bits & 0xff80_0000).to_le_bytes());
	}
	fs::write(&path, weights).expect("the test's folder is writable");
	folder
}

fn tiny(parent: &Path, name: &str, weights: &str) -> PathBuf {
	// Where the tests run; they may have been built in another clone that shares the target folder.
	let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and nextest set it");
	let from = Path::new(&here)
		.join("../offchain-worker/engine/tests/fixtures")
		.join(format!("llama-{weights}"));
	let folder = parent.join(name);
	fs::create_dir_all(&folder).expect("the test's folder is writable");
	let mut files = Vec::new();
	for entry in fs::read_dir(&from).expect("the engine's fixtures are there") {
		let entry = entry.expect("the folder is readable");
		fs::copy(entry.path(), folder.join(entry.file_name())).expect("files can be copied");
		files.push(
			entry
				.file_name()
				.into_string()
				.expect("fixtures have plain names"),
		);
	}
	let bounds = json!({ "mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0 });
	let card = json!({
		"name": name,
		"license": "Apache-2.0",
		"source": "random weights",
		"task": "text-generation",
		"class": "exact",
		"graph": "model.onnx",
		"files": files,
		"details": {
			"tokenizer": "tokenizer.json",
			"chat_template": null,
			"bos_token": null,
			"eos_token": null,
			"eos_token_ids": [1],
			"context": 384,
			"vocabulary": 64,
			"layers": 2,
			"kv_heads": 2,
			"head_dim": 4,
			"cache": "slots",
		},
		"numerics": {
			"element_type": weights,
			"opset": 17,
			"onnxruntime_min": "1.20.1",
			"onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"],
			"optimization": "disable",
		},
		"limits": { "max_input_units": 128, "max_output_units": 128 },
		"time": { "base_blocks": 20, "output_units_per_block": 4 },
		"policy": {
			"class": "exact",
			"positions": 16,
			"entries": 1,
			"fraction_bits": 0,
			"accept": bounds,
			"fraud": bounds,
			"min_verifiers": 2,
		},
		"price": {
			"per_request": 10_000_000_000u64,
			"per_input_unit": 10_000_000u64,
			"per_output_unit": 100_000_000u64,
		},
		"reference": { "text": { "text": "t5 t6 t7", "max_tokens": 8 } },
	});
	fs::write(folder.join("model.json"), card.to_string()).expect("the test's folder is writable");
	folder
}

/// Copies a stored model and changes the evidence of its reference: what a machine sees whose arithmetic gives other bits than the
/// one on which the model was made.
pub fn with_another_reference(stored: &Path, parent: &Path) -> PathBuf {
	let folder = parent.join("another-reference");
	fs::create_dir_all(&folder).expect("the test's folder is writable");
	for entry in fs::read_dir(stored).expect("the stored model is there") {
		let entry = entry.expect("the folder is readable");
		fs::copy(entry.path(), folder.join(entry.file_name())).expect("files can be copied");
	}
	let path = folder.join("manifest.json");
	let bytes = fs::read(&path).expect("a stored model has a manifest");
	let mut manifest: Manifest = serde_json::from_slice(&bytes).expect("a manifest");
	let Fingerprint::Digest(digest) = &mut manifest.reference.evidence.fingerprint else {
		panic!("the fixture is of the exact class")
	};
	digest[0] ^= 1;
	let bytes = serde_json::to_vec(&manifest).expect("a manifest can be written; qed");
	fs::write(&path, bytes).expect("the test's folder is writable");
	folder
}

/// A chain's specification.
async fn export(chain: &str, more: &[&str]) -> Vec<u8> {
	let mut export = Command::new(binary());
	export
		.args(["export-chain-spec", "--chain", chain])
		.args(more)
		.stdin(Stdio::null())
		.kill_on_drop(true);
	let output = within("the chain's specification", export.output())
		.await
		.expect("the binary runs");
	assert!(
		output.status.success(),
		"{}",
		String::from_utf8_lossy(&output.stderr)
	);
	output.stdout
}

/// Writes a chain's genesis as storage, so that not every node that starts compiles the runtime once more to build it. Gives the
/// file.
pub(crate) async fn raw(folder: &Path, chain: &str) -> String {
	let path = folder.join("raw.json");
	fs::write(&path, export(chain, &["--raw"]).await).expect("the test's folder is writable");
	path.display().to_string()
}

/// Writes the `local` chain with room for so many validators more than its four. Gives the file.
pub(crate) async fn room_for(folder: &Path, more: usize) -> String {
	let spec = export("local", &[]).await;
	let mut spec: Value = serde_json::from_slice(&spec).expect("a specification is JSON");
	spec["id"] = json!("consilience_room");
	let count = spec
		.pointer_mut("/genesis/runtimeGenesis/patch/staking/validatorCount")
		.expect("the plain specification says how many validators there are");
	*count = json!(crate::NAMES.len() + more);
	let path = folder.join("room.json");
	fs::write(&path, spec.to_string()).expect("the test's folder is writable");
	path.display().to_string()
}

/// Writes the `local` chain with seven validators in place of four: [`crate::SEVEN`]. Gives the file.
pub(crate) async fn seven_validators(folder: &Path) -> String {
	use Sr25519Keyring::*;
	let spec = export("local", &[]).await;
	let mut spec: Value = serde_json::from_slice(&spec).expect("a specification is JSON");
	spec["id"] = json!("consilience_seven");
	let patch = spec
		.pointer_mut("/genesis/runtimeGenesis/patch")
		.expect("the plain specification holds a patch");
	let more = [
		(Eve, EveStash, Ed25519Keyring::Eve),
		(Ferdie, FerdieStash, Ed25519Keyring::Ferdie),
		(One, One, Ed25519Keyring::One),
	];
	let list = |value: &mut Value, pointer: &str, entry: &dyn Fn(&Value) -> Value| {
		let list = value
			.pointer_mut(pointer)
			.and_then(Value::as_array_mut)
			.unwrap_or_else(|| panic!("{pointer} is a list"));
		let entry = entry(&list[0]);
		list.push(entry);
	};
	// What the others have, each amount as it stands there.
	let account = |of: Sr25519Keyring| json!(of.to_account_id().to_ss58check());
	list(patch, "/balances/balances", &|first| {
		json!([account(One), first[1]])
	});
	for (controller, stash, grandpa) in more {
		list(patch, "/session/keys", &|_| {
			let key = json!(controller.public().to_ss58check());
			let keys = json!({
				"babe": key,
				"grandpa": grandpa.public().to_ss58check(),
				"authority_discovery": key,
				"inference": key,
			});
			json!([account(stash), account(stash), keys])
		});
		list(patch, "/staking/stakers", &|first| {
			json!([account(stash), account(stash), first[2], first[3]])
		});
	}
	for count in ["validatorCount", "minimumValidatorCount"] {
		patch["staking"][count] = json!(crate::SEVEN.len());
	}
	let path = folder.join("seven.json");
	fs::write(&path, spec.to_string()).expect("the test's folder is writable");
	path.display().to_string()
}

/// Gives the model in a folder a price by the request, in thousandths of a coin.
pub fn priced(folder: PathBuf, thousandths: u64) -> PathBuf {
	with_card(folder, |card| {
		card["price"]["per_request"] = json!(thousandths * 1_000_000_000);
	})
}

/// Changes the card of the model in a folder.
fn with_card(folder: PathBuf, change: impl FnOnce(&mut Value)) -> PathBuf {
	let path = folder.join("model.json");
	let card = fs::read(&path).expect("a model's folder has a card");
	let mut card: Value = serde_json::from_slice(&card).expect("a card is JSON");
	change(&mut card);
	fs::write(&path, card.to_string()).expect("the test's folder is writable");
	folder
}
