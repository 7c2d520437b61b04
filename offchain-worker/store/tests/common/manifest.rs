//! The manifest of a model of which only the files matter; its graph is `model.onnx`.

use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	manifest::{Cache, File, Manifest, Numerics, Reference, ReferenceInput, TaskDetails, VERSION},
	model::{Bounds, Limits, NumericClass, TimeLimit, VerificationPolicy},
	sampling::SamplingDefaults,
};
use polkadot_sdk::sp_core::H256;

pub(crate) fn described(name: &str, files: Vec<File>) -> Manifest {
	let bounds = Bounds::default();
	Manifest {
		version: VERSION,
		name: name.into(),
		license: "Apache-2.0".into(),
		source: "a test".into(),
		task: TaskDetails::TextGeneration {
			tokenizer: "model.onnx".into(),
			chat_template: None,
			bos_token: None,
			eos_token: None,
			eos_token_ids: vec![0],
			context: 128,
			vocabulary: 16,
			layers: 1,
			kv_heads: 1,
			head_dim: 4,
			cache: Cache::Slots,
			sampling: SamplingDefaults::default(),
		},
		graph: "model.onnx".into(),
		files,
		numerics: Numerics {
			element_type: "fp32".into(),
			opset: 17,
			onnxruntime_min: "1.31.1".into(),
			onnxruntime_max: "1.31.1".into(),
			providers: vec!["CPUExecutionProvider".into()],
			optimization: "disable".into(),
		},
		limits: Limits {
			max_input_units: 100,
			max_output_units: 100,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 4,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 16,
			entries: 1,
			fraction_bits: 0,
			accept: bounds,
			fraud: bounds,
			min_verifiers: 2,
			min_sampling: 1_000,
		},
		reference: Reference {
			input: ReferenceInput::Text {
				text: "a".into(),
				max_tokens: 1,
			},
			output: H256::zero(),
			evidence: Evidence {
				fingerprint: Fingerprint::Digest([7; 16]),
				verdict: Verdict::default(),
				prior: None,
			},
		},
	}
}
