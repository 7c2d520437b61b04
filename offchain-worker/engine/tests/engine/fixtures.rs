//! Manifests for the graphs in `tests/fixtures`, which `make.py` there makes, and `integer.rs` those of the integer class.

use std::path::PathBuf;

use consilience_engine::{Engine, EngineConfig, Provider};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	manifest::{
		Cache, Chunk, File, Manifest, Numerics, Pooling, Reference, ReferenceInput, TaskDetails,
		VERSION,
	},
	model::{Bounds, Limits, NumericClass, TimeLimit, VerificationPolicy},
	tensor::NamedSpec,
	List, ModelId,
};
use polkadot_sdk::sp_core::H256;

/// Vocabulary of the tiny language models; the last word is `t63`.
pub(crate) const VOCABULARY: u32 = 64;
/// Context of the tiny language models.
pub(crate) const CONTEXT: u32 = 384;

pub(crate) fn folder(name: &str) -> PathBuf {
	// What is there when the tests run: they may have been built elsewhere.
	PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
		.join("tests/fixtures")
		.join(name)
}

/// Where the tests run models of the tolerant class: on the CPU, or where `CONSILIENCE_TEST_PROVIDER` says. `scripts/cuda-check`
/// sets it to CUDA.
pub(crate) fn provider() -> Provider {
	match std::env::var("CONSILIENCE_TEST_PROVIDER") {
		Ok(text) if !text.is_empty() => text.parse().unwrap(),
		_ => Provider::Cpu,
	}
}

/// An engine that runs models there and nowhere else.
pub(crate) fn config(threads: u32) -> EngineConfig {
	EngineConfig {
		threads,
		provider: provider(),
		no_fallback: true,
		// The fixtures' profiles name the CPU.
		beyond_profile: provider() != Provider::Cpu,
		..Default::default()
	}
}

pub(crate) fn engine() -> Engine {
	Engine::new(config(1)).expect("the tests need ONNX Runtime: run ./scripts/setup")
}

pub(crate) fn policy(class: NumericClass) -> VerificationPolicy {
	VerificationPolicy {
		class,
		positions: 8,
		entries: 2,
		fraction_bits: 8,
		accept: Bounds::default(),
		fraud: Bounds::default(),
		min_verifiers: 1,
		min_sampling: 1_000,
	}
}

fn manifest(
	graph: &str,
	files: &[&str],
	task: TaskDetails,
	class: NumericClass,
	input: ReferenceInput,
) -> Manifest {
	let fingerprint = match class {
		NumericClass::Exact => Fingerprint::Digest([0; 16]),
		NumericClass::Tolerant => Fingerprint::Values {
			tag: 0,
			values: List::new(),
		},
	};
	Manifest {
		version: VERSION,
		name: "fixture".into(),
		license: "Apache-2.0".into(),
		source: "tests/fixtures/make.py".into(),
		task,
		graph: graph.into(),
		files: files
			.iter()
			.map(|path| File {
				path: (*path).into(),
				size: 1,
				chunks: vec![Chunk {
					length: 1,
					hash: H256::zero(),
				}],
			})
			.collect(),
		numerics: Numerics {
			element_type: "fp32".into(),
			opset: 17,
			onnxruntime_min: "1.31.1".into(),
			onnxruntime_max: "1.31.1".into(),
			providers: vec!["CPUExecutionProvider".into()],
			optimization: "disable".into(),
		},
		limits: Limits {
			max_input_units: 4_096,
			max_output_units: 256,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 10,
		},
		policy: policy(class),
		reference: Reference {
			input,
			output: H256::zero(),
			evidence: Evidence {
				fingerprint,
				verdict: Default::default(),
				prior: None,
			},
		},
	}
}

/// Manifest of a tiny language model.
pub(crate) fn text(name: &str, class: NumericClass) -> Manifest {
	let cache = match name {
		"llama-fp32" | "llama-int8" | "llama-integer" => Cache::Slots,
		_ => Cache::Growing,
	};
	let head_dim = if name.starts_with("grouped") { 8 } else { 4 };
	let template =
		"{% for m in messages %}{{ m['role'][:0] }}{{ m['content'] + ' t2 ' }}{% endfor %}";
	let task = TaskDetails::TextGeneration {
		tokenizer: "tokenizer.json".into(),
		chat_template: Some(template.into()),
		bos_token: Some("t0".into()),
		eos_token: Some("t1".into()),
		eos_token_ids: vec![1],
		context: CONTEXT,
		vocabulary: VOCABULARY,
		layers: 2,
		kv_heads: 2,
		head_dim,
		cache,
		sampling: Default::default(),
	};
	let files = ["model.onnx", "model.onnx_data", "tokenizer.json"];
	let input = ReferenceInput::Text {
		text: "t5 t6".into(),
		max_tokens: 8,
	};
	let mut manifest = Manifest {
		// Without it two of them would be one model.
		name: name.into(),
		..manifest("model.onnx", &files, task, class, input)
	};
	if name == "llama-integer" {
		manifest.numerics.element_type = "integer".into();
	}
	manifest
}

/// Manifest of a graph of tensors.
pub(crate) fn tensors(graph: &str, inputs: Vec<NamedSpec>, outputs: Vec<NamedSpec>) -> Manifest {
	let task = TaskDetails::Tensor {
		inputs,
		outputs,
		media: Default::default(),
	};
	let input = ReferenceInput::Tensors(String::new());
	// Exact ones would stay on the CPU.
	let class = match provider() {
		Provider::Cpu => NumericClass::Exact,
		Provider::Cuda { .. } => NumericClass::Tolerant,
	};
	manifest(graph, &[graph], task, class, input)
}

/// Manifest of a text encoder whose graph `model.onnx` gives token vectors of so many numbers, with the words of the tiny language
/// models.
pub(crate) fn encoder(dimensions: u32) -> Manifest {
	let task = TaskDetails::Embedding {
		tokenizer: "tokenizer.json".into(),
		pooling: Pooling::Mean,
		normalize: true,
		max_tokens: 16,
		dimensions,
		output: "vectors".into(),
	};
	let input = ReferenceInput::Text {
		text: "t1".into(),
		max_tokens: 0,
	};
	let files = ["model.onnx", "tokenizer.json"];
	manifest("model.onnx", &files, task, NumericClass::Tolerant, input)
}

/// Loads a tiny language model.
pub(crate) fn load(engine: &Engine, name: &str, class: NumericClass) -> ModelId {
	engine
		.load_manifest(&folder(name), text(name, class))
		.expect("the fixture is sound")
}
