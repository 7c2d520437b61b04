//! A model that is too small to say anything and quick to run: the engine's fixture with a card.

use std::{
	fs,
	path::{Path, PathBuf},
};

use consilience_primitives::{evidence::Fingerprint, manifest::Manifest};
use serde_json::json;

/// Writes a folder with the tiny canonical language model and its card, of the exact class. `name` makes it a model of its own.
pub fn tiny_model(parent: &Path, name: &str) -> PathBuf {
	let from = Path::new(env!("CARGO_MANIFEST_DIR"))
		.join("../offchain-worker/engine/tests/fixtures/llama-fp32");
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
			"element_type": "fp32",
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
