//! Tensors in, tensors out.

use consilience_engine::{Engine, EngineError};
use consilience_primitives::{
	request::{FullInput, Input, Output, Unanswerable},
	tensor::{DataType, NamedSpec, Tensor},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::fixtures::{self, engine, folder};

fn tensor(name: &str, datatype: DataType, shape: &[u32], data: Vec<u8>) -> Tensor {
	Tensor {
		name: name.as_bytes().to_vec().try_into().unwrap(),
		datatype,
		shape: shape.to_vec().try_into().unwrap(),
		data: data.try_into().unwrap(),
	}
}

fn spec(name: &str, datatype: DataType, shape: &[Option<u32>]) -> NamedSpec {
	NamedSpec {
		name: name.into(),
		datatype,
		shape: shape.to_vec(),
	}
}

/// Loads a graph as it describes itself.
fn load(engine: &Engine, graph: &str) -> ModelId {
	let info = engine.inspect(&folder(graph)).unwrap();
	engine
		.load_manifest(
			&folder(""),
			fixtures::tensors(graph, info.inputs, info.outputs),
		)
		.unwrap()
}

fn run(engine: &Engine, model: ModelId, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
	let input = Input::Tensor(inputs.try_into().unwrap()).into();
	match engine.run(model, &input, &H256::zero())? {
		Output::Tensors(tensors) => Ok(tensors.into_inner()),
		other => panic!("{other:?} from a tensor model"),
	}
}

fn strings(strings: &[&str]) -> Vec<u8> {
	strings
		.iter()
		.flat_map(|s| (s.len() as u32).to_le_bytes().into_iter().chain(s.bytes()))
		.collect()
}

#[test]
fn every_element_type_goes_through_unchanged() {
	use DataType::*;
	let engine = engine();
	let types = [
		[
			("bool", Bool),
			("uint8", Uint8),
			("uint16", Uint16),
			("uint32", Uint32),
		]
		.as_slice(),
		&[
			("uint64", Uint64),
			("int8", Int8),
			("int16", Int16),
			("int32", Int32),
		],
		&[
			("int64", Int64),
			("float16", Fp16),
			("bfloat16", Bf16),
			("float", Fp32),
		],
		&[("double", Fp64), ("string", Bytes)],
	]
	.concat();
	for (graph, types) in [("types_a.onnx", &types[..8]), ("types_b.onnx", &types[8..])] {
		let model = load(&engine, graph);
		// No rows, one and three.
		for rows in [0u32, 1, 3] {
			let inputs: Vec<_> = types
				.iter()
				.map(|(name, datatype)| {
					let n = rows as usize * 2;
					let data = match datatype {
						Bool => (0..n).map(|i| (i % 2) as u8).collect(),
						Bytes => strings(&["", "größer", "a\nb", "日本", "x", "y"][..n]),
						// Any bits are a number. A NaN's bits go through as well.
						other => (0..n as u64 * other.bits().unwrap() / 8)
							.map(|i| (i * 37 + 200) as u8)
							.collect(),
					};
					tensor(name, *datatype, &[rows, 2], data)
				})
				.collect();
			let outputs = run(&engine, model, inputs.clone()).unwrap();
			for (input, output) in inputs.iter().zip(&outputs) {
				let name = String::from_utf8_lossy(&input.name);
				assert_eq!(output.name[..], format!("{name}_out").into_bytes());
				assert_eq!(output.datatype, input.datatype);
				assert_eq!(
					(&output.shape, &output.data),
					(&input.shape, &input.data),
					"{name}"
				);
			}
		}
	}
}

#[test]
fn four_bit_integers_are_packed_as_on_the_wire() {
	use DataType::{Int32, Int4, Uint4};
	let engine = engine();
	let model = load(&engine, "four_bit.onnx");
	for rows in [0u32, 1, 3] {
		let n = rows as usize;
		// -8, 7, -1, 0, 1, -2 and 8, 7, 15, 0, 1, 14: the first of two in the low half.
		let data = &[0x78, 0x0f, 0xe1][..n];
		let inputs = vec![
			tensor("int4", Int4, &[rows, 2], data.to_vec()),
			tensor("uint4", Uint4, &[rows, 2], data.to_vec()),
		];
		let outputs = run(&engine, model, inputs).unwrap();
		let wide = |values: &[i32]| -> Vec<u8> {
			values[..n * 2]
				.iter()
				.flat_map(|v| v.to_le_bytes())
				.collect()
		};
		let expected = [
			tensor("int4_wide", Int32, &[rows, 2], wide(&[-8, 7, -1, 0, 1, -2])),
			tensor("int4_out", Int4, &[rows, 2], data.to_vec()),
			tensor("uint4_wide", Int32, &[rows, 2], wide(&[8, 7, 15, 0, 1, 14])),
			tensor("uint4_out", Uint4, &[rows, 2], data.to_vec()),
		];
		assert_eq!(outputs, expected);
	}
}

#[test]
fn outputs_are_those_of_the_manifest_in_its_order() {
	let engine = engine();
	let x = || vec![spec("x", DataType::Fp32, &[])];
	let out = |n| spec(n, DataType::Fp32, &[]);
	let ask = |outputs| {
		let manifest = fixtures::tensors("scalar.onnx", x(), outputs);
		let model = engine.load_manifest(&folder(""), manifest).unwrap();
		let input = tensor("x", DataType::Fp32, &[], 1.5f32.to_le_bytes().to_vec());
		run(&engine, model, vec![input]).unwrap()
	};
	let value = |t: &Tensor| f32::from_le_bytes(t.data[..].try_into().unwrap());
	let only = ask(vec![out("twice")]);
	assert_eq!((only.len(), value(&only[0])), (1, 3.0));
	assert!(only[0].shape.is_empty());
	let both = ask(vec![out("twice"), out("negative")]);
	assert_eq!(both.iter().map(value).collect::<Vec<_>>(), [3.0, -1.5]);
}

#[test]
fn evidence_is_computed_afresh_and_the_same() {
	let engine = engine();
	let model = load(&engine, "scalar.onnx");
	let of = |x: f32, challenge: u8| {
		let data = x.to_le_bytes().to_vec();
		let input = vec![tensor("x", DataType::Fp32, &[], data)];
		let input = Input::Tensor(input.try_into().unwrap()).into();
		let challenge = H256::repeat_byte(challenge);
		engine
			.measure(model, &input, &H256::zero(), None, &challenge)
			.unwrap()
	};
	assert_eq!(of(1.0, 1), of(1.0, 1));
	assert_ne!(of(1.0, 1), of(1.0, 2));
	assert_ne!(of(1.0, 1), of(f32::from_bits(1.0f32.to_bits() + 1), 1));
}

#[test]
fn what_does_not_fit_is_refused_and_costs_nothing_else() {
	let engine = engine();
	let model = load(&engine, "scalar.onnx");
	let good = || tensor("x", DataType::Fp32, &[], vec![0; 4]);
	let refused = |inputs| {
		let error = run(&engine, model, inputs).unwrap_err();
		// The session is still of use.
		run(&engine, model, vec![good()]).unwrap();
		error
	};
	let short = refused(vec![tensor("x", DataType::Fp32, &[], vec![0; 3])]);
	assert!(short.to_string().contains("WrongLength"), "{short}");
	refused(vec![tensor("x", DataType::Fp64, &[], vec![0; 8])]);
	refused(vec![tensor("y", DataType::Fp32, &[], vec![0; 4])]);
	refused(vec![]);
	let text = engine.run(
		model,
		&FullInput::Embedding(Default::default()),
		&H256::zero(),
	);
	assert!(matches!(text, Err(EngineError::Input(_))), "{text:?}");
	let unknown = engine.run(
		H256::zero(),
		&FullInput::Embedding(Default::default()),
		&H256::zero(),
	);
	assert!(
		matches!(unknown, Err(EngineError::NotLoaded(_))),
		"{unknown:?}"
	);
}

#[test]
fn a_graph_that_fails_when_it_runs_says_so() {
	let engine = engine();
	let model = load(&engine, "reshape.onnx");
	let with = |to: i64| {
		let x = [1i32, 2, 3, 4]
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect();
		let inputs = vec![
			tensor("x", DataType::Int32, &[4], x),
			tensor("to", DataType::Int64, &[1], to.to_le_bytes().to_vec()),
		];
		run(&engine, model, inputs)
	};
	let refused = with(3);
	assert!(
		matches!(&refused, Err(EngineError::Unanswerable(Unanswerable::GraphRefused, why)) if why.contains("Reshape")),
		"{refused:?}"
	);
	assert_eq!(with(4).unwrap()[0].shape[..], [4]);
}

#[test]
fn a_signature_that_is_not_the_graphs_is_found_at_load() {
	let engine = engine();
	let x = |shape: &[Option<u32>]| vec![spec("x", DataType::Fp32, shape)];
	for (inputs, outputs) in [
		(x(&[None]), x(&[])),
		(
			vec![spec("x", DataType::Fp64, &[])],
			vec![spec("twice", DataType::Fp32, &[])],
		),
		(x(&[]), vec![spec("thrice", DataType::Fp32, &[])]),
	] {
		let manifest = fixtures::tensors("scalar.onnx", inputs, outputs);
		let error = engine.load_manifest(&folder(""), manifest).unwrap_err();
		assert!(matches!(error, EngineError::Mismatch(_)), "{error}");
	}
}

#[test]
fn broken_and_missing_graphs_are_named() {
	let engine = engine();
	let folder = tempfile::tempdir().unwrap();
	let broken = folder.path().join("broken.onnx");
	std::fs::write(&broken, b"this is no graph").unwrap();
	for path in [broken, folder.path().join("missing.onnx")] {
		let error = engine.inspect(&path).unwrap_err();
		assert!(matches!(error, EngineError::Load { .. }), "{error}");
		assert!(
			error.to_string().contains(path.to_str().unwrap()),
			"{error}"
		);
	}
}
