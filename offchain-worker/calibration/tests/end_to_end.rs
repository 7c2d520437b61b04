//! The whole command on language models too small to say anything, in processes of their own.

#![allow(clippy::unwrap_used)]

use std::{
	path::{Path, PathBuf},
	process::Command,
};

use serde_json::{json, Value};

/// Where the tests run; they may have been built in another clone that shares the target folder.
fn engine_fixture(name: &str) -> PathBuf {
	PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
		.join("../engine/tests/fixtures")
		.join(name)
}

/// A copy of one of the engine's fixtures with a card. `change` is applied to every weight.
fn model(name: &str, class: &str, change: impl Fn(f32) -> f32) -> tempfile::TempDir {
	let from = engine_fixture(name);
	let to = tempfile::tempdir().unwrap();
	for file in ["model.onnx", "tokenizer.json"] {
		std::fs::copy(from.join(file), to.path().join(file)).unwrap();
	}
	let mut data = std::fs::read(from.join("model.onnx_data")).unwrap();
	for word in data.chunks_exact_mut(4) {
		let value = f32::from_le_bytes(word.try_into().unwrap());
		// What is no weight, such as an integer, is far from these.
		if (1e-4..100.0).contains(&value.abs()) {
			word.copy_from_slice(&change(value).to_le_bytes());
		}
	}
	std::fs::write(to.path().join("model.onnx_data"), data).unwrap();
	let bounds = json!({"mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0});
	let card = json!({
		"name": name,
		"license": "Apache-2.0",
		"source": "the engine's fixtures",
		"task": "text-generation",
		"class": class,
		"graph": "model.onnx",
		"files": ["model.onnx", "model.onnx_data", "tokenizer.json"],
		"details": {
			"tokenizer": "tokenizer.json",
			"chat_template": null,
			"bos_token": "t0",
			"eos_token": "t1",
			"eos_token_ids": [1],
			"context": 384,
			"vocabulary": 64,
			"layers": 2,
			"kv_heads": 2,
			"head_dim": 4,
			"cache": if name == "llama-hub" { "growing" } else { "slots" },
		},
		"numerics": {
			"element_type": "fp32",
			"opset": 17,
			"onnxruntime_min": "1.31.1",
			"onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"],
			"optimization": "disable",
		},
		"limits": {"max_input_units": 256, "max_output_units": 64},
		"time": {"base_blocks": 10, "output_units_per_block": 10},
		"policy": {
			"class": class, "positions": 8, "entries": 2, "fraction_bits": if class == "exact" { 0 } else { 8 },
			"accept": bounds, "fraud": bounds, "min_verifiers": 2,
		},
		"price": {"per_request": 1, "per_input_unit": 1, "per_output_unit": 1},
		"reference": {"text": {"text": "t5 t6", "max_tokens": 8}},
	});
	std::fs::write(to.path().join("model.json"), card.to_string()).unwrap();
	to
}

/// A graph of one number, which it gives back doubled, with a card and requests.
fn scalar() -> (tempfile::TempDir, PathBuf) {
	let to = tempfile::tempdir().unwrap();
	let from = engine_fixture("scalar.onnx");
	std::fs::copy(from, to.path().join("model.onnx")).unwrap();
	let value = |name: &str| json!({"name": name, "datatype": "FP32", "shape": []});
	let request = |x: f32| {
		let mut tensor = value("x");
		tensor["data"] = json!([x]);
		json!({ "inputs": [tensor] })
	};
	let accept = json!({"mean": 256, "max": 1, "margin_max": 0, "margin_mean": 0});
	let card = json!({
		"name": "scalar",
		"license": "Apache-2.0",
		"source": "the engine's fixtures",
		"task": "tensor",
		"class": "tolerant",
		"graph": "model.onnx",
		"files": ["model.onnx"],
		"details": {"inputs": [value("x")], "outputs": [value("twice")]},
		"numerics": {
			"element_type": "fp32", "opset": 17, "onnxruntime_min": "1.31.1", "onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"], "optimization": "all",
		},
		"limits": {"max_input_units": 1, "max_output_units": 1},
		"time": {"base_blocks": 10, "output_units_per_block": 10},
		"policy": {
			"class": "tolerant", "positions": 1, "entries": 1, "fraction_bits": 8,
			"accept": accept, "fraud": accept, "min_verifiers": 2,
		},
		"price": {"per_request": 1, "per_input_unit": 1, "per_output_unit": 1},
		"reference": request(1.0),
	});
	std::fs::write(to.path().join("model.json"), card.to_string()).unwrap();
	let requests = to.path().join("requests.jsonl");
	// Every other pair of held-out questions is the same, so that the answer to the other is no wrong one.
	let lines: Vec<String> = (0..40)
		.map(|n| request((n / 4) as f32 * 100.0).to_string())
		.collect();
	std::fs::write(&requests, lines.join("\n")).unwrap();
	(to, requests)
}

/// Prompts of the fixtures' words.
fn prompts(folder: &Path) -> PathBuf {
	let path = folder.join("prompts.txt");
	let lines: Vec<String> = (0..40)
		.map(|n| {
			let words: Vec<_> = (0..10 + n % 7)
				.map(|w| format!("t{}", 2 + (n * 13 + w * 7) % 60))
				.collect();
			words.join(" ")
		})
		.collect();
	std::fs::write(&path, lines.join("\n")).unwrap();
	path
}

fn calibrate(model: &Path, arguments: &[&str]) -> Value {
	let output = Command::new(env!("CARGO_BIN_EXE_consilience-calibrate"))
		.arg(model)
		.args(["--json", "--levels", "disable,all", "--tokens", "1,8,32"])
		.args(["--challenges", "2", "--answers", "40"])
		.arg("--prompts")
		.arg(prompts(model))
		.args(arguments)
		.output()
		.unwrap();
	assert!(
		output.status.success(),
		"{}",
		String::from_utf8_lossy(&output.stderr)
	);
	serde_json::from_slice(&output.stdout).unwrap()
}

fn rates<'r>(report: &'r Value, kind: &str) -> &'r Vec<Value> {
	report["dishonest"]
		.as_array()
		.unwrap()
		.iter()
		.find(|k| k["kind"].as_str().unwrap().contains(kind))
		.unwrap_or_else(|| panic!("{kind}"))["columns"]
		.as_array()
		.unwrap()
}

fn coarse(value: f32) -> f32 {
	(value * 8.0).round() / 8.0
}

#[test]
fn the_exact_class_has_no_difference_and_finds_every_wrong_token() {
	let honest = model("llama-fp32", "exact", |v| v);
	let other = model("llama-fp32", "exact", coarse);
	let substitute = other.path().to_str().unwrap();
	let report = calibrate(honest.path(), &["--substitute", substitute]);
	// Forty answers, three lengths, two challenges, two other ways. No policy is made of any.
	assert_eq!(report["compared"].as_u64().unwrap(), 40 * 6 * 2);
	assert_eq!(report["sample"]["calibration"], 0);
	assert_eq!(report["different"], 0);
	assert_eq!(report["policy"], report["standing"]);
	assert_eq!(report["policy"]["accept"]["max"], 0);
	for row in report["honest"].as_array().unwrap() {
		assert_eq!(row["disputed"]["of"], 40);
		assert_eq!(row["disputed"]["hits"], 0);
		assert_eq!(row["blamed"]["hits"], 0);
	}
	let tokens = &report["wrong_tokens"];
	assert!(tokens["wrong"].as_u64().unwrap() > 60, "{tokens}");
	assert_eq!(tokens["found"], tokens["wrong"]);
	assert_eq!(tokens["misplaced"], 0);
	assert_eq!(tokens["false_alarms"], 0);
	assert!(tokens["right"].as_u64().unwrap() > 0, "{tokens}");
	for kind in ["the model measures", "another", "replaced", "cut short"] {
		for column in rates(&report, kind) {
			let wrong = &column["of_wrong"];
			assert_eq!(wrong["hits"], wrong["of"], "{kind}: {column}");
		}
	}
	for column in rates(&report, "writes and measures") {
		assert_eq!(column["caught"]["hits"], 40, "{column}");
		// Bits that differ are seen in every answer, and cost stake where the answer is wrong too.
		assert!(column["of_wrong"]["of"].as_u64().unwrap() > 0, "{column}");
		assert_eq!(
			column["punished"]["hits"], column["of_wrong"]["of"],
			"{column}"
		);
	}
	let first = &report["deviations"][0];
	assert_ne!(first["said"], first["should"]);
	assert_eq!(first["said_word"], format!("t{}", first["said"]));
}

#[test]
fn many_answers_are_checked_in_turns_side_by_side_and_a_few_are_lied_about() {
	let honest = model("llama-fp32", "exact", |v| v);
	let other = model("llama-fp32", "exact", coarse);
	let substitute = other.path().to_str().unwrap();
	let arguments = ["--in-turns", "--jobs", "4", "--lies", "5"];
	let report = calibrate(
		honest.path(),
		&[&arguments[..], &["--substitute", substitute]].concat(),
	);
	// Each of the forty by one other way only, in three lengths under two challenges.
	assert_eq!(report["compared"].as_u64().unwrap(), 40 * 6);
	assert_eq!(report["different"], 0);
	for row in report["honest"].as_array().unwrap() {
		assert_eq!(row["disputed"]["of"], 40);
		assert_eq!(row["disputed"]["hits"], 0);
		// Two who measured: two executors, three pairs of verifiers, two challenges.
		assert_eq!(row["committees"], 40 * 2 * 3 * 2);
	}
	for column in rates(&report, "writes and measures") {
		assert_eq!(column["caught"]["of"], 5, "{column}");
		assert_eq!(column["caught"]["hits"], 5, "{column}");
	}
	// Whom nobody lies to, of them nobody is caught.
	let report = calibrate(honest.path(), &["--lies", "0"]);
	assert!(report["dishonest"].as_array().unwrap().is_empty());
	assert_eq!(report["wrong_tokens"]["wrong"], 0);
}

#[test]
fn a_tolerant_policy_is_proposed_and_judged_by_other_answers() {
	let honest = model("llama-hub", "tolerant", |v| v);
	let other = model("llama-hub", "tolerant", coarse);
	let substitute = other.path().to_str().unwrap();
	let written = honest.path().join("report.md");
	let report = calibrate(
		honest.path(),
		&[
			"--substitute",
			substitute,
			"--report",
			written.to_str().unwrap(),
		],
	);
	let accept = &report["policy"]["accept"];
	assert!(report["proposed"].as_bool().unwrap());
	assert!(accept["max"].as_u64().unwrap().is_power_of_two());
	assert!(accept["margin_max"].as_u64().unwrap().is_power_of_two());
	assert_eq!(report["policy"]["positions"], 8);
	for row in report["honest"].as_array().unwrap() {
		assert_eq!(row["disputed"]["hits"], 0, "{row}");
		assert_eq!(row["blamed"]["hits"], 0, "{row}");
	}
	for column in rates(&report, "writes and measures") {
		assert_eq!(column["caught"]["hits"], column["caught"]["of"]);
	}
	// The last length has a wrong token in it nearly always.
	let last = rates(&report, "the model measures").last().unwrap();
	assert!(last["caught"]["hits"].as_u64().unwrap() > 15, "{last}");
	let markdown = std::fs::read_to_string(written).unwrap();
	assert!(markdown.contains("--answers 40"), "{markdown}");
	assert!(!markdown.contains(substitute), "no folder of this machine");

	// What other machines are known to do widens it: 16 × 0.01 is below 2⁻², in 128 steps of 2⁻⁹.
	let report = calibrate(honest.path(), &["--known", "0.0004,0.01,0"]);
	assert_eq!(report["policy"]["fraction_bits"], 9);
	assert_eq!(report["policy"]["accept"]["max"], 128);
	assert_eq!(report["sample"]["known"]["max"], 0.01);

	// The standing policy accepts nothing but equal numbers of steps: it is judged as it is.
	let report = calibrate(honest.path(), &["--keep-policy"]);
	assert!(!report["proposed"].as_bool().unwrap());
	assert_eq!(report["policy"], report["standing"]);
	// By the questions that no policy is made of.
	assert_eq!(report["sample"]["held_out"], 20);
	assert_eq!(report["sample"]["calibration"], 0);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
	let honest = model("llama-hub", "tolerant", |v| v);
	let run = |arguments: &[&str]| {
		let output = Command::new(env!("CARGO_BIN_EXE_consilience-calibrate"))
			.arg(honest.path())
			.args(["--answers", "2", "--tokens", "1"])
			.args(arguments)
			.output()
			.unwrap();
		assert!(!output.status.success());
		String::from_utf8(output.stderr).unwrap()
	};
	let error = run(&["--jobs", "0"]);
	assert!(error.contains("1..=64"), "{error}");
	let error = run(&["--in-turns"]);
	assert!(error.contains("--keep-policy"), "{error}");
	let error = run(&["--challenges", "1"]);
	assert!(error.contains("two challenges"), "{error}");
	let error = run(&["--levels", "most"]);
	assert!(error.contains("most") && error.contains("basic"), "{error}");
	let error = run(&["--library", "/nowhere/libonnxruntime.so"]);
	assert!(error.contains("libonnxruntime.so"), "{error}");
	let error = run(&["--launcher", "/nowhere/emulator"]);
	assert!(error.contains("/nowhere/emulator"), "{error}");
	let error = run(&["--substitute", "/nowhere"]);
	assert!(error.contains("/nowhere"), "{error}");
	let error = run(&["--provider", "cuda"]);
	assert!(error.contains("cuda"), "{error}");
}

#[test]
fn tensors_are_wrong_only_where_their_values_are() {
	let (model, requests) = scalar();
	let output = Command::new(env!("CARGO_BIN_EXE_consilience-calibrate"))
		.arg(model.path())
		.args(["--json", "--answers", "40", "--prompts"])
		.arg(requests)
		.output()
		.unwrap();
	let error = String::from_utf8_lossy(&output.stderr);
	assert!(output.status.success(), "{error}");
	let report: Value = serde_json::from_slice(&output.stdout).unwrap();
	assert_eq!(report["different"], 0);
	// Values of a thousand and more leave fewer fraction bits than the most there are, and some.
	let bits = report["policy"]["fraction_bits"].as_u64().unwrap();
	assert!((8..24).contains(&bits), "{bits}");
	assert_eq!(report["policy"]["accept"]["margin_max"], 0);
	assert!(report["wrong_tokens"].is_null());
	assert_eq!(report["honest"][0]["disputed"]["hits"], 0);
	assert_eq!(report["honest"][0]["blamed"]["hits"], 0);
	let another = &rates(&report, "another input")[0];
	assert_eq!(another["caught"]["of"], 20);
	assert_eq!(another["caught"]["hits"], 10);
	assert_eq!(another["of_wrong"]["of"], 10);
	assert_eq!(another["of_wrong"]["hits"], 10);
	assert_eq!(another["punished"]["hits"], 10);
}
