//! Measuring whether a model is of the exact class, and what an import makes of it.

use std::{fs, path::Path};

use codec::Encode;
use consilience_engine::exactness::{measure, Cause, Options, Outcome, Report, Verdict};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	manifest::{Manifest, ReferenceInput},
	model::{Bounds, NumericClass},
	request::{FullInput, Output},
	tensor::{DataType, NamedSpec, Tensor},
	List,
};
use consilience_store::{Import, ImportError, Measured, Runner, Signature};
use serde_json::{json, Value};

use crate::{
	cards::InProcess,
	fixtures::{engine, folder, tensors, text, CONTEXT},
};

/// Columns of `one_row.onnx`'s input.
const COLUMNS: usize = 300;

fn measured(folder: &Path, manifest: &Manifest, options: &Options) -> Report {
	let (mut steps, mut last) = (0, (0, 0));
	let report = measure(folder, manifest, options, &mut |progress| {
		steps += 1;
		assert!(progress.done <= progress.total && !progress.way.is_empty());
		last = (progress.done, progress.total);
	})
	.unwrap();
	assert!(steps > report.ways.len(), "{steps} steps");
	assert_eq!(last.0, last.1, "all that was announced was done");
	report
}

fn numbers() -> Vec<f32> {
	(0..COLUMNS)
		.map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0)
		.collect()
}

/// Manifest of the graph in which one row goes another way than two.
fn one_row() -> Manifest {
	let spec = |name: &str, columns: usize| NamedSpec {
		name: name.into(),
		datatype: DataType::Fp32,
		shape: vec![None, Some(columns as u32)],
	};
	let mut manifest = tensors("one_row.onnx", vec![spec("x", COLUMNS)], vec![spec("y", 3)]);
	let input = FullInput::Tensor(List::truncate_from(vec![Tensor {
		name: List::truncate_from(b"x".to_vec()),
		datatype: DataType::Fp32,
		shape: List::truncate_from(vec![1, COLUMNS as u32]),
		data: List::truncate_from(numbers().iter().flat_map(|v| v.to_le_bytes()).collect()),
	}]));
	manifest.reference.input = ReferenceInput::Tensors(hex::encode(input.encode()));
	manifest
}

#[test]
fn canonical_graphs_are_exact_in_every_way() {
	for name in ["llama-fp32", "llama-int8"] {
		let manifest = text(name, NumericClass::Exact);
		let report = measured(&folder(name), &manifest, &Options::thorough(2_048));
		assert_eq!(
			report.verdict,
			Verdict::Exact,
			"{name}: {:?}",
			report.reason()
		);
		assert_eq!((report.reason(), report.skipped()), (None, vec![]));
		assert_eq!(report.doubts, []);
		for way in &report.ways {
			assert_eq!(way.outcome, Outcome::Equal, "{name}, {}", way.name);
			assert!(way.positions > 0, "{name}, {}", way.name);
		}
		for cause in [
			Cause::Threads,
			Cause::Optimization,
			Cause::Rows,
			Cause::Capacity,
			Cause::Batch,
		] {
			assert!(report.ways.iter().any(|w| w.cause == cause), "{cause:?}");
		}
		assert_eq!(*report.texts.last().unwrap(), CONTEXT as usize);
	}
}

#[test]
fn the_hubs_export_is_not_exact_and_the_operator_is_named() {
	let manifest = text("llama-hub", NumericClass::Tolerant);
	let report = measured(&folder("llama-hub"), &manifest, &Options::thorough(2_048));
	assert_eq!(report.verdict, Verdict::Differs);
	let decode = report
		.ways
		.iter()
		.find(|w| w.name.contains("decode with cache"))
		.unwrap();
	let Outcome::Differs(difference) = &decode.outcome else {
		panic!("{:?}", decode.outcome)
	};
	assert!(difference.largest > 0.0 && difference.largest < 1e-3);
	assert!(difference.differing > 0 && difference.position < report.texts[difference.text]);
	let culprit = report
		.culprits
		.iter()
		.find(|c| c.cause == Cause::Rows)
		.unwrap_or_else(|| panic!("{:?}", report.unexplained));
	// Of keys or of values: both are computed, and for one token one row.
	assert_eq!(culprit.operator, "MatMul");
	let trap = culprit.trap.as_ref().unwrap();
	assert!(trap.contains("one row"), "{trap}");
	assert!(report.reason().unwrap().contains(&culprit.node));
	let softmax = report
		.doubts
		.iter()
		.find(|d| d.operator == "Softmax")
		.unwrap();
	assert!(softmax.bars && softmax.count == 2);
}

#[test]
fn a_product_of_computed_tensors_is_found_in_a_batch() {
	let report = measured(&folder(""), &one_row(), &Options::thorough(0));
	assert_eq!(report.verdict, Verdict::Differs);
	assert_eq!(report.texts, [3, 3, 3]);
	let [culprit] = &report.culprits[..] else {
		panic!("{:?} {:?}", report.culprits, report.unexplained)
	};
	assert_eq!(
		(culprit.cause, &culprit.node[..]),
		(Cause::Batch, "product")
	);
	assert_eq!((culprit.index, &culprit.value[..]), (4, "y"));
	assert_eq!(culprit.shape, [1, 3]);
	let differing: Vec<_> = report
		.ways
		.iter()
		.filter(|w| w.outcome != Outcome::Equal)
		.map(|w| w.cause)
		.collect();
	assert_eq!(differing, [Cause::Batch; 2]);
}

#[test]
fn what_there_is_no_time_for_is_named() {
	let manifest = text("llama-fp32", NumericClass::Exact);
	let options = Options {
		limit: Some(std::time::Duration::ZERO),
		..Options::short()
	};
	let report = measure(&folder("llama-fp32"), &manifest, &options, &mut |_| ()).unwrap();
	assert_eq!(report.verdict, Verdict::Exact);
	assert_eq!(report.skipped().len(), report.ways.len());
}

#[test]
fn all_that_a_report_says_is_for_programs_too() {
	let report = measured(&folder(""), &one_row(), &Options::short());
	let json = serde_json::to_value(&report).unwrap();
	assert_eq!(json["verdict"], "differs");
	assert_eq!(json["culprits"][0]["operator"], "MatMul");
	assert!(
		json["ways"][0]["outcome"]["differs"]["largest"]
			.as_f64()
			.unwrap() > 0.0
	);
}

/// The engine, which measures.
pub(crate) struct Measures(pub(crate) InProcess);

impl Runner for Measures {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		self.0.signature(graph)
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		self.0.reference(folder, manifest)
	}

	fn measure(
		&self,
		folder: &Path,
		manifest: &Manifest,
		progress: &mut dyn FnMut(u64, u64),
	) -> Result<Option<Measured>, String> {
		let report = measure(folder, manifest, &Options::short(), &mut |p| {
			progress(p.done, p.total)
		})
		.map_err(|e| e.to_string())?;
		Ok(Some(match report.reason() {
			Some(why) => Measured::Inexact { why },
			None => Measured::Exact {
				skipped: report.skipped(),
			},
		}))
	}
}

fn card(class: Option<&str>, policy: Value) -> Value {
	let mut card = json!({
		"name": "card", "license": "none", "source": "fixtures/make.py", "task": "tensor",
		"graph": "model.onnx", "files": ["model.onnx"],
		"numerics": {
			"element_type": "fp32", "opset": 17, "onnxruntime_min": "1.31.1", "onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"], "optimization": "disable"
		},
		"limits": {"max_input_units": 1024, "max_output_units": 256},
		"time": {"base_blocks": 10, "output_units_per_block": 10},
		"policy": policy,
		"price": {"per_request": 5, "per_input_unit": 6, "per_output_unit": 7},
		"reference": {"inputs": [{"name": "x", "shape": [1, COLUMNS], "datatype": "FP32", "data": numbers()}]}
	});
	if let Some(class) = class {
		card["class"] = class.into();
	}
	card
}

/// A card for a tiny language model.
fn text_card(class: Option<&str>) -> Value {
	let mut card = card(class, json!({}));
	card["task"] = "text-generation".into();
	card["files"] = json!(["model.onnx", "model.onnx_data", "tokenizer.json"]);
	card["details"] = json!({
		"eos_token_ids": [1], "context": CONTEXT, "vocabulary": 64, "layers": 2, "kv_heads": 2, "head_dim": 4,
		"cache": "slots",
	});
	card["limits"] = json!({"max_input_units": 64, "max_output_units": 64});
	card["reference"] = json!({"text": {"text": "t5 t6", "max_tokens": 8}});
	card
}

fn import(fixture: &str, card: Value) -> Result<Import, ImportError> {
	let to = tempfile::tempdir().unwrap();
	for file in card["files"].as_array().unwrap() {
		let name = file.as_str().unwrap();
		let from = folder(fixture);
		let from = if from.is_dir() { from.join(name) } else { from };
		fs::copy(from, to.path().join(name)).unwrap();
	}
	fs::write(to.path().join("model.json"), card.to_string()).unwrap();
	Import::read(to.path(), &Measures(InProcess(engine())), &mut |_| ())
}

#[test]
fn a_card_may_not_claim_exact_for_what_is_not() {
	let error = import("one_row.onnx", card(Some("exact"), json!({}))).unwrap_err();
	assert!(matches!(error, ImportError::NotExact { .. }), "{error}");
	let why = error.to_string();
	for part in [
		"model.json",
		"batch of 2 copies",
		"MatMul \"product\"",
		"calibrate",
	] {
		assert!(why.contains(part), "{part}: {why}");
	}
}

#[test]
fn the_measured_class_is_written_into_the_manifest() {
	let exact = import("llama-fp32", text_card(None)).unwrap();
	assert_eq!(exact.measured, Some(Measured::Exact { skipped: vec![] }));
	let policy = exact.manifest.policy;
	assert_eq!(
		(policy.class, policy.accept),
		(NumericClass::Exact, Bounds::default())
	);
	let fingerprint = exact.manifest.reference.evidence.fingerprint;
	assert!(matches!(fingerprint, Fingerprint::Digest(d) if d != [0; 16]));

	let bounds = json!({"mean": 256, "max": 16, "margin_max": 0, "margin_mean": 0});
	let policy = json!({
		"positions": 2, "entries": 1, "fraction_bits": 12, "accept": bounds, "fraud": bounds, "min_verifiers": 1
	});
	let tolerant = import("one_row.onnx", card(None, policy)).unwrap();
	assert!(matches!(tolerant.measured, Some(Measured::Inexact { .. })));
	assert_eq!(tolerant.manifest.policy.class, NumericClass::Tolerant);
	assert_eq!(tolerant.manifest.policy.accept.max, 16);

	// Thresholds cannot be made up.
	let why = import("one_row.onnx", card(None, json!({})))
		.unwrap_err()
		.to_string();
	assert!(
		why.contains("not of the exact class") && why.contains("calibrate"),
		"{why}"
	);
}

#[test]
fn what_is_claimed_to_be_exact_and_is_comes_in() {
	let import = import("llama-int8", text_card(Some("exact"))).unwrap();
	assert_eq!(import.measured, Some(Measured::Exact { skipped: vec![] }));
	assert_eq!(import.manifest.policy.class, NumericClass::Exact);
}
