//! What no honest machine can answer, told from what failed here.

use consilience_engine::{Engine, EngineError};
use consilience_primitives::{
	model::NumericClass::Exact,
	request::{FullInput, Message, Output, Prompt, Role, Sampling, Unanswerable},
	tensor::{DataType, NamedSpec, Tensor},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::fixtures::{self, engine, folder};

/// As much of protocol buffers as it takes to write a graph.
mod onnx {
	fn varint(mut n: u64) -> Vec<u8> {
		let mut bytes = Vec::new();
		while n >= 128 {
			bytes.push(n as u8 | 128);
			n >>= 7;
		}
		bytes.push(n as u8);
		bytes
	}

	pub(super) fn number(field: u64, n: u64) -> Vec<u8> {
		[varint(field << 3), varint(n)].concat()
	}

	pub(super) fn bytes(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
		let bytes = bytes.as_ref();
		[
			varint(field << 3 | 2),
			varint(bytes.len() as u64),
			bytes.to_vec(),
		]
		.concat()
	}

	/// A value of this element type whose dimensions have names.
	pub(super) fn value(name: &str, element: u64, dimensions: &[&str]) -> Vec<u8> {
		let shape: Vec<u8> = dimensions
			.iter()
			.flat_map(|d| bytes(1, bytes(2, d)))
			.collect();
		let tensor = [number(1, element), bytes(2, shape)].concat();
		[bytes(1, name), bytes(2, bytes(1, tensor))].concat()
	}

	pub(super) fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
		let inputs: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
		[inputs, bytes(2, output), bytes(4, operator)].concat()
	}

	/// Rows of two floats.
	pub(super) fn table(name: &str, rows: &[[f32; 2]]) -> Vec<u8> {
		let data: Vec<u8> = rows
			.iter()
			.flatten()
			.flat_map(|x| x.to_le_bytes())
			.collect();
		[
			number(1, rows.len() as u64),
			number(1, 2),
			number(2, 1),
			bytes(8, name),
			bytes(9, data),
		]
		.concat()
	}

	pub(super) fn model(parts: &[Vec<u8>]) -> Vec<u8> {
		let graph = [parts.concat(), bytes(2, "made")].concat();
		[number(1, 8), bytes(7, graph), bytes(8, number(2, 17))].concat()
	}
}

/// Takes rows of a table.
fn gather(
	rows: &[[f32; 2]],
	ids: &str,
	ids_shape: &[&str],
	output: &str,
	shape: &[&str],
) -> Vec<u8> {
	onnx::model(&[
		onnx::bytes(1, onnx::node("Gather", &["table", ids], output)),
		onnx::bytes(5, onnx::table("table", rows)),
		onnx::bytes(11, onnx::value(ids, 7, ids_shape)),
		onnx::bytes(12, onnx::value(output, 1, shape)),
	])
}

fn text(text: &str) -> FullInput {
	FullInput::Embedding(text.as_bytes().to_vec().try_into().unwrap())
}

fn unanswerable(engine: &Engine, model: ModelId, input: &FullInput) -> (Unanswerable, String) {
	match engine.run(model, input, &H256::zero()) {
		Err(EngineError::Unanswerable(code, why)) => (code, why),
		other => panic!("{other:?}"),
	}
}

#[test]
fn a_text_encoder_says_which_texts_have_no_vector() {
	let to = tempfile::tempdir().unwrap();
	let rows = [
		[1.0, 0.0],
		[0.0, 2.0],
		[f32::NAN, 1.0],
		[f32::INFINITY, 1.0],
	];
	let graph = gather(&rows, "input_ids", &["b", "n"], "vectors", &["b", "n", "d"]);
	std::fs::write(to.path().join("model.onnx"), graph).unwrap();
	std::fs::copy(
		folder("llama-fp32/tokenizer.json"),
		to.path().join("tokenizer.json"),
	)
	.unwrap();
	let engine = engine();
	let mut manifest = fixtures::encoder(2);
	manifest.limits.max_output_units = 2;
	let model = engine.load_manifest(to.path(), manifest.clone()).unwrap();
	let whole = engine.run(model, &text("t0 t1"), &H256::zero()).unwrap();
	assert_eq!(whole.units(), 2);
	for (said, code) in [
		("t1 t63", Unanswerable::GraphRefused),
		("t1 t2", Unanswerable::NotFinite),
		("t1 t3", Unanswerable::NotFinite),
		(" \u{a0} ", Unanswerable::GraphRefused),
		// Where several hold, the first is named.
		("t2 t63", Unanswerable::GraphRefused),
	] {
		let (found, why) = unanswerable(&engine, model, &text(said));
		assert_eq!(found, code, "{said:?}: {why}");
		assert!(!why.contains("63"), "nothing of the input: {why}");
		// A member finds what the executor found.
		let measured = engine.measure(model, &text(said), &H256::zero(), None, &H256::zero());
		assert_eq!(measured, Err(EngineError::Unanswerable(code, why)));
	}
	// What is said once does not stick.
	assert_eq!(engine.run(model, &text("t0 t1"), &H256::zero()), Ok(whole));
	// A manifest that allows less than the vector has.
	manifest.limits.max_output_units = 1;
	let model = engine.load_manifest(to.path(), manifest).unwrap();
	let (code, why) = unanswerable(&engine, model, &text("t1"));
	assert_eq!(code, Unanswerable::OutputTooLarge);
	assert!(why.contains("2 units"), "{why}");
	assert_eq!(
		unanswerable(&engine, model, &text("t2")).0,
		Unanswerable::NotFinite
	);
}

#[test]
fn a_graph_of_tensors_refuses_an_index_and_may_mean_nan() {
	let to = tempfile::tempdir().unwrap();
	let rows = [[1.0, 2.0], [f32::NAN, f32::INFINITY]];
	let graph = gather(&rows, "x", &["n"], "y", &["n", "d"]);
	std::fs::write(to.path().join("table.onnx"), graph).unwrap();
	let spec = |name: &str, datatype, shape: &[Option<u32>]| NamedSpec {
		name: name.into(),
		datatype,
		shape: shape.to_vec(),
	};
	let manifest = |most| {
		let inputs = vec![spec("x", DataType::Int64, &[None])];
		let mut manifest = fixtures::tensors(
			"table.onnx",
			inputs,
			vec![spec("y", DataType::Fp32, &[None, Some(2)])],
		);
		manifest.limits.max_output_units = most;
		manifest
	};
	let engine = engine();
	let model = engine.load_manifest(to.path(), manifest(4)).unwrap();
	let input = |ids: &[i64]| {
		let data: Vec<u8> = ids.iter().flat_map(|i| i.to_le_bytes()).collect();
		let x = Tensor {
			name: b"x".to_vec().try_into().unwrap(),
			datatype: DataType::Int64,
			shape: vec![ids.len() as u32].try_into().unwrap(),
			data: data.try_into().unwrap(),
		};
		FullInput::Tensor(vec![x].try_into().unwrap())
	};
	let Output::Tensors(outputs) = engine.run(model, &input(&[1, 0]), &H256::zero()).unwrap()
	else {
		panic!("tensors")
	};
	assert_eq!(&outputs[0].data[..4], f32::NAN.to_le_bytes());
	let (code, why) = unanswerable(&engine, model, &input(&[0, 77]));
	assert_eq!(code, Unanswerable::GraphRefused);
	assert!(why.contains("Gather") && !why.contains("77"), "{why}");
	let (code, _) = unanswerable(&engine, model, &input(&[0, 1, 0]));
	assert_eq!(code, Unanswerable::OutputTooLarge, "six units of four");
	let model = engine.load_manifest(to.path(), manifest(6)).unwrap();
	engine
		.run(model, &input(&[0, 1, 0]), &H256::zero())
		.unwrap();
}

#[test]
fn a_language_model_says_which_prompts_have_no_answer() {
	let engine = engine();
	let mut manifest = fixtures::text("llama-fp32", Exact);
	if let consilience_primitives::manifest::TaskDetails::TextGeneration { chat_template, .. } =
		&mut manifest.task
	{
		*chat_template = Some(
			"{% if messages[0].role == 'assistant' %}{{ raise_exception('a user begins') }}{% endif %}{{ messages[0].content }}"
				.into(),
		);
	}
	let model = engine
		.load_manifest(&folder("llama-fp32"), manifest)
		.unwrap();
	let chat = |role, max_tokens| {
		let message = Message {
			role,
			content: b"t5".to_vec().try_into().unwrap(),
		};
		FullInput::TextGeneration {
			prompt: Prompt::Chat(vec![message].try_into().unwrap()),
			sampling: Sampling {
				max_tokens,
				..Default::default()
			},
		}
	};
	let answer = engine
		.run(model, &chat(Role::User, 1), &H256::zero())
		.unwrap();
	let most = fixtures::CONTEXT;
	for (input, code) in [
		(chat(Role::Assistant, 1), Unanswerable::TemplateRefused),
		(chat(Role::User, most), Unanswerable::PromptTooLong),
		(chat(Role::Assistant, most), Unanswerable::TemplateRefused),
	] {
		let (found, why) = unanswerable(&engine, model, &input);
		assert_eq!(found, code, "{why}");
		// Whoever claims an answer to it is found out by every member.
		let claimed = Some(&answer);
		let measured = engine.measure(model, &input, &H256::zero(), claimed, &H256::zero());
		assert_eq!(measured, Err(EngineError::Unanswerable(code, why)));
	}
}
