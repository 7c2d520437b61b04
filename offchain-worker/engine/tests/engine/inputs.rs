//! Graphs as exporters make them: other integers, fixed lengths, further inputs. Made here, as bytes of ONNX.

use std::path::Path;

use consilience_engine::{chat_overhead, Engine, Probe};
use consilience_primitives::{
	manifest::{Cache, Manifest, Pooling, ReferenceInput, TaskDetails},
	model::{NumericClass, Task},
	request::{FullInput, Output, Prompt, Sampling},
	tensor::{DataType, NamedSpec},
};
use polkadot_sdk::sp_core::H256;
use serde_json::json;

use crate::fixtures;

/// ONNX's numbers of element types.
const FLOAT: u8 = 1;
const INT32: u8 = 6;
const INT64: u8 = 7;
const BOOL: u8 = 9;

fn field(number: u8, payload: &[u8]) -> Vec<u8> {
	let mut out = vec![number << 3 | 2];
	let mut length = payload.len();
	while length > 127 {
		out.push((length & 127) as u8 | 128);
		length >>= 7;
	}
	out.push(length as u8);
	out.extend(payload);
	out
}

/// A number below 128.
fn number(field: u8, value: u8) -> Vec<u8> {
	vec![field << 3, value]
}

/// An input or output; open dimensions have a name.
fn value(name: &str, element: u8, shape: &[Option<u8>]) -> Vec<u8> {
	let dimension = |size: &Option<u8>| match size {
		Some(n) => field(1, &number(1, *n)),
		None => field(1, &field(2, b"n")),
	};
	let shape: Vec<u8> = shape.iter().flat_map(dimension).collect();
	let tensor = [number(1, element), field(2, &shape)].concat();
	[field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
	let mut out: Vec<u8> = inputs.iter().flat_map(|i| field(1, i.as_bytes())).collect();
	out.extend(field(2, output.as_bytes()));
	out.extend(field(4, operator.as_bytes()));
	out
}

/// A table of vectors, by tokens.
fn table(rows: &[[f32; 2]]) -> Vec<u8> {
	let data: Vec<u8> = rows
		.iter()
		.flatten()
		.flat_map(|v| v.to_le_bytes())
		.collect();
	[
		number(1, rows.len() as u8),
		number(1, 2),
		number(2, FLOAT),
		field(8, b"table"),
		field(9, &data),
	]
	.concat()
}

fn model(nodes: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>], rows: &[[f32; 2]]) -> Vec<u8> {
	let all = |number: u8, parts: &[Vec<u8>]| parts.iter().flat_map(|p| field(number, p)).collect();
	let graph = [
		all(1, nodes),
		field(2, b"g"),
		field(5, &table(rows)),
		all(11, inputs),
		all(12, outputs),
	]
	.concat();
	[number(1, 8), field(8, &number(2, 17)), field(7, &graph)].concat()
}

/// A folder with a graph and a tokenizer whose tokens are the words a, b, c.
fn folder(graph: &[u8]) -> tempfile::TempDir {
	let folder = tempfile::tempdir().unwrap();
	std::fs::write(folder.path().join("model.onnx"), graph).unwrap();
	let tokenizer = json!({
		"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
		"post_processor": null, "decoder": null,
		"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"},
	});
	std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
	folder
}

/// A manifest of what is in such a folder.
fn manifest(task: TaskDetails) -> Manifest {
	let mut manifest = fixtures::tensors("model.onnx", Vec::new(), Vec::new());
	let mut tokenizer = manifest.files[0].clone();
	tokenizer.path = "tokenizer.json".into();
	manifest.files.push(tokenizer);
	manifest.policy = fixtures::policy(NumericClass::Tolerant);
	manifest.reference.input = ReferenceInput::Text {
		text: "b c".into(),
		max_tokens: u32::from(matches!(task, TaskDetails::TextGeneration { .. })),
	};
	manifest.reference.evidence.fingerprint =
		consilience_primitives::evidence::Fingerprint::Values {
			tag: 0,
			values: Default::default(),
		};
	manifest.task = task;
	manifest
}

const ROWS: [[f32; 2]; 3] = [[8.0, 8.0], [1.0, 2.0], [3.0, 6.0]];

/// The vector of "b c" by an encoder with these inputs.
fn embedded(inputs: &[(&str, u8, &[Option<u8>])], pooling: Pooling) -> Result<Vec<f32>, String> {
	let values: Vec<_> = inputs.iter().map(|(n, t, s)| value(n, *t, s)).collect();
	let output = value("vectors", FLOAT, &[None, None, Some(2)]);
	let gather = node("Gather", &["table", "input_ids"], "vectors");
	let folder = folder(&model(&[gather], &values, &[output], &ROWS));
	let engine = fixtures::engine();
	let model = engine
		.load_manifest(
			folder.path(),
			manifest(TaskDetails::Embedding {
				tokenizer: "tokenizer.json".into(),
				pooling,
				normalize: false,
				max_tokens: 4,
				dimensions: 2,
				output: "vectors".into(),
			}),
		)
		.map_err(|e| e.to_string())?;
	let input = FullInput::Embedding(b"b c".to_vec().try_into().unwrap());
	match engine.run(model, &input, &H256::zero()) {
		Ok(Output::Tensors(tensors)) => Ok(tensors[0]
			.data
			.chunks_exact(4)
			.map(|b| f32::from_le_bytes(b.try_into().unwrap()))
			.collect()),
		Ok(other) => panic!("{other:?}"),
		Err(e) => Err(e.to_string()),
	}
}

#[test]
fn texts_are_fed_as_the_graph_takes_them() {
	let open: &[Option<u8>] = &[None, None];
	let fixed: &[Option<u8>] = &[Some(1), Some(4)];
	for shape in [open, fixed] {
		for element in [INT64, INT32] {
			let inputs = [
				("input_ids", element, shape),
				("attention_mask", element, shape),
				("token_type_ids", element, shape),
				("position_ids", element, shape),
			];
			// What fills a fixed length counts for nothing.
			for (pooling, expected) in [
				(Pooling::Mean, [2.0, 4.0]),
				(Pooling::Cls, [1.0, 2.0]),
				(Pooling::Last, [3.0, 6.0]),
			] {
				assert_eq!(
					embedded(&inputs, pooling),
					Ok(expected.to_vec()),
					"{element} {shape:?}"
				);
			}
		}
	}
	// A mask of floats.
	let inputs = [("input_ids", INT64, open), ("attention_mask", FLOAT, open)];
	assert_eq!(embedded(&inputs, Pooling::Last), Ok(vec![3.0, 6.0]));
}

#[test]
fn an_input_that_nobody_feeds_is_refused_by_its_name_when_the_model_is_loaded() {
	let open: &[Option<u8>] = &[None, None];
	let error = embedded(
		&[("input_ids", INT64, open), ("task_id", INT64, &[])],
		Pooling::Cls,
	)
	.unwrap_err();
	assert!(error.contains("\"task_id\""), "{error}");
	let error = written(&[("input_ids", INT64, open), ("inputs_embeds", FLOAT, open)]).unwrap_err();
	assert!(error.contains("\"inputs_embeds\""), "{error}");
	// Too short for what the manifest lets in.
	let short: &[Option<u8>] = &[Some(1), Some(1)];
	let error = embedded(&[("input_ids", INT64, short)], Pooling::Cls).unwrap_err();
	assert!(error.contains("max_tokens"), "{error}");
}

fn language(chat_template: Option<&str>) -> TaskDetails {
	TaskDetails::TextGeneration {
		tokenizer: "tokenizer.json".into(),
		chat_template: chat_template.map(Into::into),
		bos_token: None,
		eos_token: None,
		eos_token_ids: vec![0],
		context: 64,
		vocabulary: 2,
		layers: 1,
		kv_heads: 1,
		head_dim: 1,
		cache: Cache::Growing,
		sampling: Default::default(),
	}
}

/// The first tokens after "b c" by a language model with these inputs beside its cache.
fn written(inputs: &[(&str, u8, &[Option<u8>])]) -> Result<Vec<u32>, String> {
	let past: &[Option<u8>] = &[None, Some(1), None, Some(1)];
	let mut values: Vec<_> = inputs.iter().map(|(n, t, s)| value(n, *t, s)).collect();
	let mut outputs = vec![value("logits", FLOAT, &[None, None, Some(2)])];
	let mut nodes = vec![node("Gather", &["table", "input_ids"], "logits")];
	for part in ["key", "value"] {
		let (from, to) = (
			format!("past_key_values.0.{part}"),
			format!("present.0.{part}"),
		);
		values.push(value(&from, FLOAT, past));
		outputs.push(value(&to, FLOAT, past));
		nodes.push(node("Identity", &[&from], &to));
	}
	let folder = folder(&model(&nodes, &values, &outputs, &ROWS));
	let engine: Engine = fixtures::engine();
	let model = engine
		.load_manifest(folder.path(), manifest(language(None)))
		.map_err(|e| e.to_string())?;
	let input = FullInput::TextGeneration {
		prompt: Prompt::Text(b"b c".to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 2,
			..Default::default()
		},
	};
	match engine
		.run(model, &input, &H256::zero())
		.map_err(|e| e.to_string())?
	{
		Output::Text { tokens, .. } => Ok(tokens.iter().map(|t| t.0).collect()),
		other => panic!("{other:?}"),
	}
}

#[test]
fn a_language_model_is_fed_what_exporters_ask_for() {
	let open: &[Option<u8>] = &[None, None];
	for element in [INT64, INT32] {
		// After c comes b, as its second logit is the larger, and so on.
		let tokens = written(&[
			("input_ids", element, open),
			("attention_mask", element, open),
			("position_ids", element, open),
			("use_cache_branch", BOOL, &[Some(1)]),
			("num_logits_to_keep", element, &[]),
		]);
		assert_eq!(tokens, Ok(vec![1, 1]));
	}
}

#[test]
fn a_graph_without_a_manifest_can_be_tried() {
	let open: &[Option<u8>] = &[None, None];
	let gather = node("Gather", &["table", "input_ids"], "vectors");
	let output = value("vectors", FLOAT, &[None, None, Some(2)]);
	let folder = folder(&model(
		&[gather],
		&[value("input_ids", INT32, open)],
		&[output],
		&ROWS,
	));
	let path: &Path = &folder.path().join("model.onnx");
	let probe = Probe::open(path).unwrap();
	let taken = NamedSpec {
		name: "input_ids".into(),
		datatype: DataType::Int32,
		shape: vec![None, None],
	};
	assert_eq!(probe.info().unwrap().inputs, [taken]);
	assert_eq!(probe.symbols(), [["n", "n"]]);
	let tensor = |token: i32| consilience_primitives::tensor::Tensor {
		name: b"input_ids".to_vec().try_into().unwrap(),
		datatype: DataType::Int32,
		shape: vec![1, 1].try_into().unwrap(),
		data: token.to_le_bytes().to_vec().try_into().unwrap(),
	};
	let outputs = probe.run(&[tensor(1)]).unwrap();
	assert_eq!(
		outputs[0].data.to_vec(),
		[1f32.to_le_bytes(), 2f32.to_le_bytes()].concat()
	);
	// A token beyond the table.
	assert!(probe.run(&[tensor(9)]).is_err());
}

#[test]
fn a_template_s_own_words_are_counted() {
	let folder = folder(b"");
	let overhead =
		|template: Option<&str>| chat_overhead(folder.path(), &language(template)).unwrap();
	assert_eq!(overhead(None), None);
	assert_eq!(overhead(Some("{{ messages[0].content }}")), Some(0));
	// Forty words, and the one that is asked; 33 units are charged.
	let long = format!("{}{{{{ messages[0].content }}}}", "a ".repeat(40));
	assert_eq!(overhead(Some(&long)), Some(8));
	assert_eq!(Task::TextGeneration, manifest(language(None)).task());
}

#[test]
fn a_manifest_may_say_less_of_sizes_than_the_graph_and_nothing_else() {
	let gather = node("Gather", &["table", "i"], "y");
	let output = value("y", FLOAT, &[Some(1), Some(2)]);
	let folder = folder(&model(
		&[gather],
		&[value("i", INT64, &[Some(1)])],
		&[output],
		&ROWS,
	));
	let spec = |name: &str, datatype: DataType, shape: &[Option<u32>]| NamedSpec {
		name: name.into(),
		datatype,
		shape: shape.to_vec(),
	};
	let loads = |size: Option<u32>, output: NamedSpec| {
		let inputs = vec![spec("i", DataType::Int64, &[size])];
		let manifest = fixtures::tensors("model.onnx", inputs, vec![output]);
		fixtures::engine()
			.load_manifest(folder.path(), manifest)
			.is_ok()
	};
	assert!(loads(Some(1), spec("y", DataType::Fp32, &[Some(1), None])));
	assert!(loads(None, spec("y", DataType::Fp32, &[None, Some(2)])));
	for (size, output) in [
		(Some(2), spec("y", DataType::Fp32, &[Some(1), Some(2)])),
		(Some(1), spec("y", DataType::Fp32, &[Some(1), Some(3)])),
		(Some(1), spec("y", DataType::Fp16, &[Some(1), Some(2)])),
		(Some(1), spec("y", DataType::Fp32, &[Some(1)])),
		(Some(1), spec("z", DataType::Fp32, &[Some(1), Some(2)])),
	] {
		assert!(!loads(size, output.clone()), "{size:?} {output:?}");
	}
}
