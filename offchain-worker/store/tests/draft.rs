//! First cards for what has none.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::onnx;
use consilience_primitives::{
	manifest::TaskDetails,
	model::{NumericClass, Task},
	tensor::{DataType, NamedSpec, Tensor, MAX_DATA},
};
use consilience_store::{
	open_inference::to_tensor, CardReference, Draft, Inspected, Prober, Signature, Wishes,
};
use serde_json::{json, Value};

fn spec(name: &str, datatype: DataType, shape: &[Option<u32>]) -> NamedSpec {
	NamedSpec {
		name: name.into(),
		datatype,
		shape: shape.to_vec(),
	}
}

fn inspected(inputs: Vec<NamedSpec>, outputs: Vec<NamedSpec>) -> Inspected {
	Inspected {
		symbols: inputs.iter().map(|_| Vec::new()).collect(),
		signature: Signature { inputs, outputs },
		opset: 17,
		onnxruntime: "1.31.1".into(),
	}
}

/// An engine whose graph takes what this does.
struct Engine<F> {
	inspected: Inspected,
	takes: F,
}

impl<F: Fn(&[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String>> Prober for Engine<F> {
	fn inspect(&self, graph: &Path) -> Result<Inspected, String> {
		assert!(graph.is_file());
		Ok(self.inspected.clone())
	}

	fn run(&self, _: &Path, inputs: &[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String> {
		(self.takes)(inputs)
	}

	fn overhead(&self, _: &Path, task: &TaskDetails) -> Result<Option<u32>, String> {
		let TaskDetails::TextGeneration { chat_template, .. } = task else {
			panic!("only texts have templates")
		};
		// A template of this length, and every letter of it a token.
		Ok(chat_template.as_ref().map(|t| t.len() as u32))
	}
}

/// An engine whose graph takes everything.
fn engine(
	inspected: Inspected,
) -> Engine<impl Fn(&[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String>> {
	Engine {
		inspected,
		takes: |_: &[Tensor<MAX_DATA>]| Ok(Vec::new()),
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
	let wishes = Wishes {
		name: Some("a name".into()),
		..Default::default()
	};
	Draft::of(source, &wishes, &engine(inspected)).map_err(|e| e.to_string())
}

/// A language model's folder with this configuration and these files.
fn language_folder(config: Value, files: &[(&str, Value)]) -> tempfile::TempDir {
	let mut all = vec![
		("tokenizer.json", "{}".to_owned()),
		("config.json", config.to_string()),
	];
	all.extend(files.iter().map(|(name, value)| (*name, value.to_string())));
	hub(&all)
}

#[test]
fn a_language_model_of_the_hub() {
	let folder = hub(&[
		("tokenizer.json", "{}".into()),
		(
			"config.json",
			json!({"max_position_embeddings": 2_048, "eos_token_id": 2}).to_string(),
		),
		(
			"tokenizer_config.json",
			json!({"chat_template": "x".repeat(100)}).to_string(),
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
		(2_048 - 512 - 100, 512)
	);
	// What config.json does not say, the graph does.
	assert_eq!(
		Value::Object(card.details),
		json!({"layers": 1, "kv_heads": 2, "head_dim": 4, "vocabulary": 64})
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
			json!({"max_position_embeddings": 64, "eos_token_id": 2}).to_string(),
		),
	]);
	let file = folder.path().join("onnx/model_q4.onnx");
	let card = draft(&file, language()).unwrap().card;
	assert_eq!(card.graph, "onnx/model_q4.onnx");
	assert!(matches!(card.reference, CardReference::Text { .. }));
	let without = hub(&[
		("tokenizer.json", "{}".into()),
		("config.json", json!({"eos_token_id": 2}).to_string()),
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
	let prober = engine(inspected(inputs.clone(), outputs));
	let draft = Draft::of(&file, &Wishes::default(), &prober).unwrap();
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
			vec![spec("x", DataType::Fp32, &[Some(1_000_000)])],
			vec![spec("y", DataType::Fp32, &[Some(1)])],
		)
	};
	let refused = |source: &Path, graph: Option<&str>| {
		let wishes = Wishes {
			graph: graph.map(Into::into),
			..Default::default()
		};
		Draft::of(source, &wishes, &engine(tensors()))
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
		error.contains("x: 1000000 elements of FP32") && error.contains("3145728 bytes"),
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

/// A folder with a tensor model, and its drafted reference, or why there is none.
fn reference(
	inputs: &[(NamedSpec, &[&str])],
	wishes: &Wishes,
	takes: impl Fn(&[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String>,
) -> Result<Vec<(String, Vec<u32>, Value)>, String> {
	let folder = tempfile::tempdir().unwrap();
	let file = folder.path().join("any.onnx");
	fs::write(&file, onnx("w")).unwrap();
	fs::write(folder.path().join("w"), [0; 8]).unwrap();
	let specs = inputs.iter().map(|(spec, _)| spec.clone()).collect();
	let mut inspected = inspected(specs, vec![spec("y", DataType::Fp32, &[Some(1)])]);
	let symbols = inputs
		.iter()
		.map(|(_, symbols)| symbols.iter().map(|s| (*s).to_owned()).collect());
	inspected.symbols = symbols.collect();
	let draft =
		Draft::of(&file, wishes, &Engine { inspected, takes }).map_err(|e| e.to_string())?;
	let CardReference::Inputs(tensors) = draft.card.reference else {
		panic!("tensors have tensors as reference")
	};
	Ok(tensors
		.into_iter()
		.map(|t| (t.name, t.shape, t.data))
		.collect())
}

fn shape_of(tensors: &[Tensor<MAX_DATA>], name: &str) -> Vec<u32> {
	let tensor = tensors
		.iter()
		.find(|t| *t.name == *name.as_bytes())
		.unwrap();
	tensor.shape.to_vec()
}

#[test]
fn sizes_that_a_graph_leaves_open_are_guessed_until_it_takes_one() {
	let any = Wishes::default();
	// An image whose sides are multiples of 32.
	let image = [(
		spec("x", DataType::Fp32, &[None, Some(3), None, None]),
		&["b", "", "?", "?"][..],
	)];
	let of_32 = |t: &[Tensor<MAX_DATA>]| match shape_of(t, "x")[2..] {
		[h, w] if h % 32 == 0 && w % 32 == 0 => Ok(Vec::new()),
		_ => Err("Reshape".into()),
	};
	assert_eq!(
		reference(&image, &any, of_32).unwrap()[0].1,
		[1, 3, 224, 224]
	);
	// One of colours last, and of one fixed side.
	let last = [(
		spec("x", DataType::Uint8, &[Some(1), Some(48), None, Some(3)]),
		&["", "", "w", ""][..],
	)];
	let wide = |t: &[Tensor<MAX_DATA>]| match shape_of(t, "x")[2] {
		n if n >= 100 => Ok(Vec::new()),
		_ => Err("Conv".into()),
	};
	assert_eq!(reference(&last, &any, wide).unwrap()[0].1, [1, 48, 224, 3]);
	// A speech model with a state and a rate.
	let speech = [
		(spec("input", DataType::Fp32, &[None, None]), &["", ""][..]),
		(
			spec("state", DataType::Fp32, &[Some(2), None, Some(128)]),
			&["", "", ""][..],
		),
		(spec("sr", DataType::Int64, &[]), &[][..]),
	];
	let window = |t: &[Tensor<MAX_DATA>]| {
		if shape_of(t, "input") == [1, 512] && shape_of(t, "state") == [2, 1, 128] {
			Ok(Vec::new())
		} else {
			Err("LSTM".into())
		}
	};
	let tensors = reference(&speech, &any, window).unwrap();
	assert_eq!(tensors[2].2, json!([16_000]));
	// Tokens with a mask and their number.
	let tokens = [
		(
			spec("tokens", DataType::Int64, &[None, None]),
			&["n", "t"][..],
		),
		(
			spec("tokens_mask", DataType::Int32, &[None, None]),
			&["n", "t"][..],
		),
		(spec("x_lengths", DataType::Int64, &[None]), &["n"][..]),
		(spec("scales", DataType::Fp32, &[Some(3)]), &[""][..]),
	];
	let eight = |t: &[Tensor<MAX_DATA>]| match shape_of(t, "tokens")[1] {
		8 => Ok(Vec::new()),
		_ => Err("no".into()),
	};
	let tensors = reference(&tokens, &any, eight).unwrap();
	assert_eq!(tensors[1].2, json!([1, 1, 1, 1, 1, 1, 1, 1]));
	assert_eq!((&tensors[2].1[..], &tensors[2].2), (&[1][..], &json!([8])));
	assert_eq!(tensors[3].2, json!([1.0, 1.0, 1.0]));
}

#[test]
fn a_guess_that_failed_says_that_it_was_one_and_what_to_give() {
	let inputs = [(
		spec("x", DataType::Fp32, &[None, Some(3), None, None]),
		&[][..],
	)];
	let none = |_: &[Tensor<MAX_DATA>]| Err("Concat: dimensions differ".to_owned());
	let error = reference(&inputs, &Wishes::default(), none).unwrap_err();
	for part in [
		"guessed",
		"x[?,3,?,?]",
		"--shape x=",
		"--reference FILE",
		"Concat",
	] {
		assert!(error.contains(part), "{part}: {error}");
	}
	let given = |shape: &[u32]| Wishes {
		shapes: vec![("x".into(), shape.to_vec())],
		..Default::default()
	};
	let exactly = |t: &[Tensor<MAX_DATA>]| match shape_of(t, "x")[..] {
		[1, 3, 40, 50] => Ok(Vec::new()),
		_ => Err("no".into()),
	};
	assert_eq!(
		reference(&inputs, &given(&[1, 3, 40, 50]), exactly).unwrap()[0].1,
		[1, 3, 40, 50]
	);
	// What no request carries, what the graph does not take, what it does not know.
	for (wishes, says) in [
		(
			given(&[1, 3, 1_024, 1_024]),
			"more than the 3145728 bytes that the chain carries",
		),
		(given(&[1, 4, 32, 32]), "x[?,3,?,?]"),
		(given(&[1, 3]), "x[?,3,?,?]"),
		(
			Wishes {
				shapes: vec![("z".into(), vec![1])],
				..Default::default()
			},
			"--shape z: the graph takes x",
		),
	] {
		let error = reference(&inputs, &wishes, exactly).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
	// Values, where no size is open.
	let fixed = [(spec("x", DataType::Fp32, &[Some(2)]), &[][..])];
	let error = reference(&fixed, &Wishes::default(), none).unwrap_err();
	assert!(error.contains("its values were guessed"), "{error}");
	let whole = Wishes {
		reference: Some(
			serde_json::from_value(json!([
				{"name": "x", "shape": [2], "datatype": "FP32", "data": [5, 6]}
			]))
			.unwrap(),
		),
		..Default::default()
	};
	let five = |t: &[Tensor<MAX_DATA>]| match t[0].data.starts_with(&5f32.to_le_bytes()) {
		true => Ok(Vec::new()),
		false => Err("no".into()),
	};
	assert_eq!(reference(&fixed, &whole, five).unwrap()[0].2, json!([5, 6]));
}

#[test]
fn a_reference_whose_output_is_no_number_is_none() {
	let inputs = [(spec("x", DataType::Fp32, &[None]), &[][..])];
	for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
		let gives = |_: &[Tensor<MAX_DATA>]| {
			Ok(vec![Tensor {
				name: b"loss".to_vec().try_into().unwrap(),
				datatype: DataType::Fp32,
				shape: vec![2].try_into().unwrap(),
				data: [1f32.to_le_bytes(), value.to_le_bytes()]
					.concat()
					.try_into()
					.unwrap(),
			}])
		};
		let error = reference(&inputs, &Wishes::default(), gives).unwrap_err();
		assert!(error.contains("\"loss\" holds NaN or infinity"), "{error}");
	}
}

#[test]
fn inputs_that_nobody_feeds_are_named() {
	let config = json!({"max_position_embeddings": 512, "eos_token_id": 2, "hidden_size": 4});
	let with = |more: NamedSpec| {
		let mut language = language();
		language.signature.inputs.push(more);
		draft(language_folder(config.clone(), &[]).path(), language).map(|d| d.card.task)
	};
	for known in [
		spec("use_cache_branch", DataType::Bool, &[Some(1)]),
		spec("num_logits_to_keep", DataType::Int64, &[]),
		spec("position_ids", DataType::Int64, &[None, None]),
		spec(
			"past_key_values.0.value",
			DataType::Fp32,
			&[None, Some(2), None, Some(4)],
		),
	] {
		assert_eq!(with(known), Ok(Task::TextGeneration));
	}
	for (unknown, says) in [
		(
			spec("audio_embeds", DataType::Fp32, &[None]),
			"\"audio_embeds\"",
		),
		(
			spec("position_ids", DataType::Fp32, &[None, None]),
			"position_ids as FP32",
		),
		(
			spec("position_ids", DataType::Int64, &[Some(1), Some(16)]),
			"pieces of 16",
		),
		(
			spec("past_key_values.0.encoder.key", DataType::Fp32, &[None]),
			"encoder",
		),
	] {
		let error = with(unknown).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
	let embeds = |more: Option<NamedSpec>, config: &Value| {
		let mut graph = vectors("last_hidden_state", &[None, None, Some(4)]);
		graph.signature.inputs.extend(more);
		draft(language_folder(config.clone(), &[]).path(), graph).map(|d| d.card.details)
	};
	assert!(embeds(
		Some(spec("position_ids", DataType::Int64, &[None, None])),
		&config
	)
	.is_ok());
	let error = embeds(Some(spec("task_id", DataType::Int64, &[])), &config).unwrap_err();
	assert!(error.contains("\"task_id\""), "{error}");
	let roberta = json!({"model_type": "roberta"});
	let error = embeds(
		Some(spec("position_ids", DataType::Int64, &[None, None])),
		&roberta,
	)
	.unwrap_err();
	assert!(error.contains("roberta"), "{error}");
}

#[test]
fn texts_of_a_fixed_length_are_filled_up_and_other_shapes_refused() {
	let fixed = |ids: &[Option<u32>], mask: bool, datatype: DataType| {
		let mut inputs = vec![spec("input_ids", datatype, ids)];
		if mask {
			inputs.push(spec("attention_mask", datatype, ids));
		}
		let graph = inspected(
			inputs,
			vec![spec(
				"last_hidden_state",
				DataType::Fp32,
				&[None, None, Some(4)],
			)],
		);
		let folder = language_folder(json!({"max_position_embeddings": 512}), &[]);
		draft(folder.path(), graph).map(|d| d.card.details["max_tokens"].clone())
	};
	assert_eq!(
		fixed(&[Some(1), Some(16)], true, DataType::Int32),
		Ok(json!(16))
	);
	assert_eq!(fixed(&[None, None], false, DataType::Int64), Ok(json!(512)));
	for (error, says) in [
		(
			fixed(&[Some(1), Some(16)], false, DataType::Int64),
			"attention_mask",
		),
		(
			fixed(&[Some(8), None], true, DataType::Int64),
			"8 texts at a time",
		),
		(fixed(&[None, None], true, DataType::Uint8), "UINT8"),
		(fixed(&[None], true, DataType::Int64), "1 dimensions"),
	] {
		let error = error.unwrap_err();
		assert!(error.contains(says), "{error}");
	}
}

#[test]
fn the_sentence_s_vector_is_found_and_layers_after_it_are_not_forgotten() {
	let both = inspected(
		vec![spec("input_ids", DataType::Int64, &[None, None])],
		vec![
			spec("last_hidden_state", DataType::Fp32, &[None, None, Some(4)]),
			spec("sentence_embedding", DataType::Fp32, &[None, Some(2)]),
		],
	);
	let dense = json!([
		{"type": "sentence_transformers.models.Transformer", "path": ""},
		{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
		{"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
		{"type": "sentence_transformers.models.Normalize", "path": "3_Normalize"},
	]);
	let last = json!({"pooling_mode": "lasttoken"});
	let folder = |modules: &Value| {
		language_folder(
			json!({"hidden_size": 4}),
			&[
				("modules.json", modules.clone()),
				("1_Pooling/config.json", last.clone()),
			],
		)
	};
	// The graph's own vector comes first, and has whatever layers there are.
	let card = draft(folder(&dense).path(), both).unwrap().card;
	assert_eq!(card.details["output"], "sentence_embedding");
	assert_eq!(
		(&card.details["pooling"], &card.details["dimensions"]),
		(&json!("none"), &json!(2))
	);
	assert_eq!(card.details["normalize"], true);
	let tokens = || vectors("last_hidden_state", &[None, None, Some(4)]);
	let error = draft(folder(&dense).path(), tokens()).unwrap_err();
	assert!(
		error.contains("a layer Dense") && error.contains("sentence_embedding"),
		"{error}"
	);
	let plain = json!([dense[0], dense[1]]);
	let drafted = draft(folder(&plain).path(), tokens()).unwrap();
	assert_eq!(drafted.card.details["pooling"], "last");
	assert_eq!(drafted.card.details["normalize"], false);
	assert!(drafted.notes.is_empty());
	// A guess says that it is one.
	let guessed = draft(language_folder(json!({}), &[]).path(), tokens()).unwrap();
	assert!(guessed.notes[0].contains("a guess"), "{:?}", guessed.notes);
}

#[test]
fn a_language_model_without_its_tokenizer_is_no_tensor_model_in_silence() {
	let folder = hub(&[("config.json", "{}".into())]);
	for graph in [
		language(),
		vectors("last_hidden_state", &[None, None, Some(4)]),
	] {
		let error = draft(folder.path(), graph.clone()).unwrap_err();
		assert!(
			error.contains("tokenizer.json is missing") && error.contains("--tensors"),
			"{error}"
		);
		let wishes = Wishes {
			tensors: true,
			..Default::default()
		};
		let card = Draft::of(folder.path(), &wishes, &engine(graph))
			.unwrap()
			.card;
		assert_eq!(card.task, Task::Tensor);
	}
	// A graph that writes without a cache.
	let folder = language_folder(json!({"architectures": ["LlamaForCausalLM"]}), &[]);
	let error = draft(folder.path(), vectors("logits", &[None, None, Some(64)])).unwrap_err();
	assert!(error.contains("without a cache"), "{error}");
}

#[test]
fn limits_hold_for_what_the_tokenizer_and_the_template_add() {
	let limits = |normalizer: Value, template: Option<usize>| {
		let config = json!({"max_position_embeddings": 1_000, "eos_token_id": 2});
		let mut files = vec![("tokenizer.json", json!({"normalizer": normalizer}))];
		if let Some(length) = template {
			files.push((
				"tokenizer_config.json",
				json!({"chat_template": "x".repeat(length)}),
			));
		}
		let folder = language_folder(config, &files);
		draft(folder.path(), language()).map(|d| d.card.limits.max_input_units)
	};
	assert_eq!(limits(Value::Null, None), Ok(750));
	assert_eq!(limits(json!({"type": "NFC"}), None), Ok(250));
	assert_eq!(limits(json!({"type": "NFKC"}), Some(90)), Ok(60));
	let error = limits(Value::Null, Some(900)).unwrap_err();
	assert!(error.contains("no room for a question"), "{error}");
	let error = limits(json!({"type": "Precompiled"}), None).unwrap_err();
	assert!(error.contains("Precompiled"), "{error}");
}

#[test]
fn files_that_are_something_else_say_what_to_do() {
	let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 538090408\n";
	let folder = tempfile::tempdir().unwrap();
	let refused = |bytes: &[u8]| {
		fs::write(folder.path().join("model.onnx"), bytes).unwrap();
		draft(folder.path(), language()).unwrap_err()
	};
	assert!(refused(pointer.as_bytes()).contains("git lfs pull"));
	assert!(refused(b"<!DOCTYPE html><html>").contains("web page"));
	assert!(refused(b"").contains("empty"));
	assert!(refused(b"GGUF\x03\0\0\0").contains("canonicalise"));
	assert!(refused(b"PK\x03\x04").contains("unpack"));
	// And in a tokenizer.
	let folder = language_folder(
		json!({"eos_token_id": 2, "max_position_embeddings": 99}),
		&[],
	);
	fs::write(folder.path().join("tokenizer.json"), pointer).unwrap();
	let error = draft(folder.path(), language()).unwrap_err();
	assert!(
		error.contains("tokenizer.json") && error.contains("git lfs pull"),
		"{error}"
	);
	// A folder with another format.
	let folder = tempfile::tempdir().unwrap();
	fs::write(folder.path().join("model.q4.bin"), b"GGUF\x03\0\0\0").unwrap();
	let error = draft(folder.path(), language()).unwrap_err();
	assert!(
		error.contains("model.q4.bin") && error.contains("canonicalise"),
		"{error}"
	);
}

#[cfg(unix)]
#[test]
fn links_of_the_hub_s_cache_are_followed() {
	let place = tempfile::tempdir().unwrap();
	let cache = place.path().canonicalize().unwrap().join("models--a--b");
	let snapshot = cache.join("snapshots/0123");
	fs::create_dir_all(snapshot.join("onnx")).unwrap();
	fs::create_dir_all(cache.join("blobs")).unwrap();
	let config = json!({"eos_token_id": 2, "max_position_embeddings": 99}).to_string();
	for (name, bytes) in [
		("config.json", config.as_bytes()),
		("tokenizer.json", b"{}"),
		("onnx/model.onnx", &onnx("model.onnx_data")),
		("onnx/model.onnx_data", &[0; 8]),
	] {
		let blob = cache.join("blobs").join(name.replace('/', "-"));
		fs::write(&blob, bytes).unwrap();
		std::os::unix::fs::symlink(&blob, snapshot.join(name)).unwrap();
	}
	let drafted = draft(&snapshot, language()).unwrap();
	let out = place.path().join("out");
	drafted.write(&out).unwrap();
	// What is written holds files, not links.
	for file in &drafted.card.files {
		assert!(
			fs::symlink_metadata(out.join(file)).unwrap().is_file(),
			"{file}"
		);
	}
	// A link to another place is none of the cache's.
	let tokenizer = snapshot.join("tokenizer.json");
	let elsewhere = place.path().join("elsewhere.json");
	fs::write(&elsewhere, "{}").unwrap();
	fs::remove_file(&tokenizer).unwrap();
	std::os::unix::fs::symlink(&elsewhere, &tokenizer).unwrap();
	let error = draft(&snapshot, language()).unwrap_err();
	assert!(error.contains("leads out of the model's folder"), "{error}");
}
