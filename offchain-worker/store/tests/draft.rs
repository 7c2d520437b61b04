//! First cards for what has none.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::onnx;
use consilience_primitives::{
	model::{NumericClass, Task},
	tensor::{DataType, NamedSpec},
};
use consilience_store::{open_inference::to_tensor, CardReference, Draft, Inspected, Signature};
use serde_json::json;

fn spec(name: &str, datatype: DataType, shape: &[Option<u32>]) -> NamedSpec {
	NamedSpec {
		name: name.into(),
		datatype,
		shape: shape.to_vec(),
	}
}

fn inspected(inputs: Vec<NamedSpec>, outputs: Vec<NamedSpec>) -> Inspected {
	Inspected {
		signature: Signature { inputs, outputs },
		opset: 17,
		onnxruntime: "1.31.1".into(),
	}
}

/// What the hub's exporters make of a language model.
fn language() -> Inspected {
	inspected(
		vec![
			spec("input_ids", DataType::Int64, &[None, None]),
			spec("attention_mask", DataType::Int64, &[None, None]),
			spec(
				"past_key_values.0.key",
				DataType::Fp32,
				&[None, Some(2), None, Some(4)],
			),
		],
		vec![spec("logits", DataType::Fp32, &[None, None, Some(64)])],
	)
}

fn vectors(name: &str, shape: &[Option<u32>]) -> Inspected {
	inspected(
		vec![spec("input_ids", DataType::Int64, &[None, None])],
		vec![spec(name, DataType::Fp32, shape)],
	)
}

/// A folder with these files, and `onnx/model_q4.onnx` with its data.
fn hub(files: &[(&str, String)]) -> tempfile::TempDir {
	let folder = tempfile::tempdir().unwrap();
	let onnx_folder = folder.path().join("onnx");
	fs::create_dir(&onnx_folder).unwrap();
	fs::write(onnx_folder.join("model_q4.onnx"), onnx("w")).unwrap();
	fs::write(onnx_folder.join("w"), [0; 8]).unwrap();
	for (name, content) in files {
		let path = folder.path().join(name);
		fs::create_dir_all(path.parent().unwrap()).unwrap();
		fs::write(path, content).unwrap();
	}
	folder
}

fn draft(source: &Path, inspected: Inspected) -> Result<Draft, String> {
	Draft::of(source, None, Some("a name"), |_| Ok(inspected)).map_err(|e| e.to_string())
}

#[test]
fn a_language_model_of_the_hub() {
	let folder = hub(&[
		("tokenizer.json", "{}".into()),
		(
			"config.json",
			json!({"max_position_embeddings": 2_048}).to_string(),
		),
		(
			"tokenizer_config.json",
			json!({"chat_template": "x"}).to_string(),
		),
		(
			"README.md",
			"---\nlicense: cc-by-4.0\n---\n# A model".into(),
		),
	]);
	let card = draft(folder.path(), language()).unwrap().card;
	assert_eq!(
		(card.task, card.class),
		(Task::TextGeneration, Some(NumericClass::Tolerant))
	);
	assert_eq!(card.graph, "onnx/model_q4.onnx");
	assert_eq!(
		card.files,
		[
			"config.json",
			"onnx/model_q4.onnx",
			"onnx/w",
			"tokenizer.json",
			"tokenizer_config.json"
		]
	);
	assert_eq!(card.numerics.element_type, "int4");
	assert_eq!(card.license, "CC-BY-4.0");
	// Prompt, template and answer fit the context.
	assert_eq!(
		(card.limits.max_input_units, card.limits.max_output_units),
		(1_408, 512)
	);
	assert!(matches!(card.reference, CardReference::Chat { .. }));
	assert!(card.policy.is_empty());
}

#[test]
fn a_graph_of_the_hub_by_its_file() {
	let folder = hub(&[
		("tokenizer.json", "{}".into()),
		(
			"config.json",
			json!({"max_position_embeddings": 64}).to_string(),
		),
	]);
	let file = folder.path().join("onnx/model_q4.onnx");
	let card = draft(&file, language()).unwrap().card;
	assert_eq!(card.graph, "onnx/model_q4.onnx");
	assert!(matches!(card.reference, CardReference::Text { .. }));
	let without = hub(&[
		("tokenizer.json", "{}".into()),
		("config.json", "{}".into()),
	]);
	let error = draft(without.path(), language()).unwrap_err();
	assert!(error.contains("max_position_embeddings"), "{error}");
}

#[test]
fn embeddings_are_pooled_as_the_hub_says() {
	let pooled = |pooling: serde_json::Value, modules: &str| {
		let folder = hub(&[
			("tokenizer.json", "{}".into()),
			("1_Pooling/config.json", pooling.to_string()),
			("modules.json", modules.into()),
			(
				"sentence_bert_config.json",
				json!({"max_seq_length": 256}).to_string(),
			),
			("config.json", json!({"hidden_size": 384}).to_string()),
		]);
		let graph = vectors("last_hidden_state", &[None, None, None]);
		draft(folder.path(), graph).map(|d| d.card)
	};
	let card = pooled(json!({"pooling_mode_cls_token": true}), "[]").unwrap();
	assert_eq!(card.task, Task::Embedding);
	let details = json!({
		"tokenizer": "tokenizer.json", "pooling": "cls", "normalize": false, "max_tokens": 256, "dimensions": 384,
		"output": "last_hidden_state",
	});
	assert_eq!(serde_json::Value::Object(card.details), details);
	let modules = r#"[{"type": "sentence_transformers.models.Normalize"}]"#;
	let card = pooled(json!({"pooling_mode_mean_tokens": true}), modules).unwrap();
	assert_eq!(card.details["pooling"], "mean");
	assert_eq!(card.details["normalize"], true);
	let error = pooled(json!({"pooling_mode_max_tokens": true}), "[]").unwrap_err();
	assert!(error.contains("1_Pooling/config.json"), "{error}");

	// Positions that RoBERTa keeps for itself hold no token.
	let config = json!({"model_type": "xlm-roberta", "max_position_embeddings": 514});
	let folder = hub(&[
		("tokenizer.json", "{}".into()),
		("config.json", config.to_string()),
	]);
	let graph = vectors("token_embeddings", &[None, None, Some(8)]);
	let card = draft(folder.path(), graph).unwrap().card;
	assert_eq!(card.details["max_tokens"], 512);

	let folder = hub(&[("tokenizer.json", "{}".into())]);
	let graph = vectors("sentence_embedding", &[None, Some(8)]);
	let card = draft(folder.path(), graph).unwrap().card;
	assert_eq!(card.details["pooling"], "none");
	assert_eq!(card.details["dimensions"], 8);
}

#[test]
fn any_other_graph_is_of_tensors_with_a_reference_that_it_takes() {
	let folder = tempfile::tempdir().unwrap();
	let file = folder.path().join("any.onnx");
	fs::write(&file, onnx("w")).unwrap();
	fs::write(folder.path().join("w"), [0; 8]).unwrap();
	let types = [
		DataType::Bool,
		DataType::Uint8,
		DataType::Int4,
		DataType::Uint4,
		DataType::Int64,
		DataType::Fp16,
		DataType::Bf16,
		DataType::Fp64,
		DataType::Bytes,
	];
	let inputs: Vec<_> = types
		.iter()
		.enumerate()
		.map(|(i, t)| spec(&format!("x{i}"), *t, &[None, Some(3)]))
		.collect();
	let outputs = vec![spec("y", DataType::Fp32, &[Some(5)])];
	let draft = Draft::of(&file, None, None, |_| {
		Ok(inspected(inputs.clone(), outputs))
	})
	.unwrap();
	let card = &draft.card;
	assert_eq!((card.task, card.class), (Task::Tensor, None));
	assert_eq!(card.name, "any");
	assert_eq!(card.files, ["any.onnx", "w"]);
	assert_eq!(card.limits.max_output_units, 5);
	// Rows of three as many as fit into 64 KiB, of each type; a string takes five bytes at least.
	let rows = |bits: u32| 65_536 * 8 / bits / 3 * 3;
	assert_eq!(
		card.limits.max_input_units,
		2 * rows(8) + 2 * rows(4) + 2 * rows(64) + 2 * rows(16) + rows(40)
	);
	let CardReference::Inputs(tensors) = &card.reference else {
		panic!("tensors have tensors as reference")
	};
	for (json, input) in tensors.iter().zip(&inputs) {
		let tensor = to_tensor(json).unwrap();
		assert_eq!(tensor.datatype, input.datatype);
		assert_eq!(&tensor.shape[..], [1, 3]);
	}

	let out = folder.path().join("new/drafted");
	draft.write(&out).unwrap();
	let mut names: Vec<_> = fs::read_dir(&out)
		.unwrap()
		.map(|e| e.unwrap().file_name().into_string().unwrap())
		.collect();
	names.sort();
	assert_eq!(names, ["any.onnx", "model.json", "w"]);
	let again = draft.write(&out).unwrap_err().to_string();
	assert!(again.contains("is there already"), "{again}");
}

#[test]
fn what_cannot_be_a_model_is_refused_with_its_reason() {
	let folder = tempfile::tempdir().unwrap();
	let tensors = || {
		inspected(
			vec![spec("x", DataType::Fp32, &[Some(20_000)])],
			vec![spec("y", DataType::Fp32, &[Some(1)])],
		)
	};
	let refused = |source: &Path, graph: Option<&str>| {
		Draft::of(source, graph, None, |_| Ok(tensors()))
			.unwrap_err()
			.to_string()
	};
	assert!(refused(folder.path(), None).contains("holds no ONNX file"));
	fs::write(folder.path().join("a.onnx"), onnx("../w")).unwrap();
	assert!(refused(folder.path(), None).contains("relative and without '..'"));
	fs::write(folder.path().join("a.onnx"), "no ONNX").unwrap();
	assert!(refused(folder.path(), None).contains("ONNX"));
	fs::write(folder.path().join("a.onnx"), onnx("w")).unwrap();
	assert!(refused(folder.path(), None).contains("the file is missing"));
	fs::write(folder.path().join("w"), [0; 8]).unwrap();
	let error = refused(folder.path(), None);
	assert!(
		error.contains("x: 20000 elements of FP32") && error.contains("65536 bytes"),
		"{error}"
	);
	// A link to the author's card or to a manifest would be written through, or believed.
	for own in ["model.json", "manifest.json", "price.json"] {
		fs::write(folder.path().join("a.onnx"), onnx(own)).unwrap();
		fs::write(folder.path().join(own), "mine").unwrap();
		assert!(refused(folder.path(), None).contains("the store's own"));
		fs::remove_file(folder.path().join(own)).unwrap();
	}
	let described = folder.path().join("model.json");
	fs::write(&described, "{}").unwrap();
	assert!(refused(&folder.path().join("a.onnx"), None).contains("import the folder"));
	fs::remove_file(described).unwrap();
	fs::write(folder.path().join("a.onnx"), onnx("w")).unwrap();
	#[cfg(unix)]
	{
		let elsewhere = tempfile::tempdir().unwrap();
		let link = elsewhere.path().join("link.onnx");
		std::os::unix::fs::symlink(folder.path().join("a.onnx"), &link).unwrap();
		assert!(refused(&link, None).contains("leads out of the model's folder"));
	}
	fs::write(folder.path().join("b.onnx"), onnx("w")).unwrap();
	let error = refused(folder.path(), None);
	assert!(
		error.contains("name one of them: a.onnx, b.onnx"),
		"{error}"
	);
	assert!(refused(folder.path(), Some("c.onnx")).contains("the file is missing"));
}
