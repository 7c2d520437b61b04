//! ONNX's own backend test data through the engine: every model that ONNX Runtime's Python package passes must pass here too, as
//! a model of the chain, from the wire's tensors to the wire's tensors. `conformance.txt` names the others and why;
//! `scripts/checks/conformance.py` writes it.

#![allow(clippy::unwrap_used)]

use std::{
	collections::BTreeMap,
	fs,
	path::{Path, PathBuf},
};

use consilience_engine::Engine;
use consilience_primitives::{
	request::{FullInput, Output},
	tensor::{DataType, Tensor, MAX_TENSOR_BYTES},
	List,
};
use polkadot_sdk::sp_core::H256;
use prost::Message;

#[allow(dead_code)]
#[path = "engine/fixtures.rs"]
mod fixtures;

/// Models of the three folders.
const MODELS: usize = 140;

/// ONNX's tensor, as the data hold it.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
	#[prost(int64, repeated, tag = "1")]
	dims: Vec<i64>,
	#[prost(int32, tag = "2")]
	data_type: i32,
	#[prost(float, repeated, tag = "4")]
	float_data: Vec<f32>,
	#[prost(int32, repeated, tag = "5")]
	int32_data: Vec<i32>,
	#[prost(bytes = "vec", repeated, tag = "6")]
	string_data: Vec<Vec<u8>>,
	#[prost(int64, repeated, tag = "7")]
	int64_data: Vec<i64>,
	#[prost(bytes = "vec", tag = "9")]
	raw_data: Vec<u8>,
	#[prost(double, repeated, tag = "10")]
	double_data: Vec<f64>,
}

/// Element type, shape and the wire's bytes.
type Plain = (DataType, Vec<u32>, Vec<u8>);

fn read(path: &Path) -> Plain {
	let proto = TensorProto::decode(&fs::read(path).unwrap()[..]).unwrap();
	let shape = proto.dims.iter().map(|d| *d as u32).collect();
	let datatype = match proto.data_type {
		1 => DataType::Fp32,
		2 => DataType::Uint8,
		3 => DataType::Int8,
		6 => DataType::Int32,
		7 => DataType::Int64,
		8 => DataType::Bytes,
		9 => DataType::Bool,
		11 => DataType::Fp64,
		other => panic!("{}: element type {other}", path.display()),
	};
	let mut data = proto.raw_data;
	if data.is_empty() {
		match datatype {
			DataType::Fp32 => proto
				.float_data
				.iter()
				.for_each(|v| data.extend(v.to_le_bytes())),
			DataType::Fp64 => proto
				.double_data
				.iter()
				.for_each(|v| data.extend(v.to_le_bytes())),
			DataType::Int64 => proto
				.int64_data
				.iter()
				.for_each(|v| data.extend(v.to_le_bytes())),
			DataType::Bytes => proto.string_data.iter().for_each(|s| {
				data.extend((s.len() as u32).to_le_bytes());
				data.extend(s);
			}),
			DataType::Int32 => proto
				.int32_data
				.iter()
				.for_each(|v| data.extend(v.to_le_bytes())),
			_ => proto.int32_data.iter().for_each(|v| data.push(*v as u8)),
		}
	}
	(datatype, shape, data)
}

/// `input_0.pb`, `input_1.pb` and so on.
fn numbered(folder: &Path, kind: &str) -> Vec<Plain> {
	(0..)
		.map(|n| folder.join(format!("{kind}_{n}.pb")))
		.take_while(|path| path.is_file())
		.map(|path| read(&path))
		.collect()
}

/// What differs, if anything does, by the tolerance of ONNX's own runner.
fn differs(found: &Tensor, (datatype, shape, data): &Plain) -> Option<String> {
	if (found.datatype, &found.shape[..]) != (*datatype, &shape[..]) {
		return Some(format!(
			"{:?} {:?} instead of {datatype:?} {shape:?}",
			found.datatype, found.shape
		));
	}
	let near = |a: f64, b: f64| {
		a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-7 + 1e-3 * b.abs()
	};
	let floats = |bytes: &[u8]| -> Vec<f64> {
		match datatype {
			DataType::Fp32 => bytes
				.chunks_exact(4)
				.map(|c| f32::from_le_bytes(c.try_into().unwrap()).into())
				.collect(),
			_ => bytes
				.chunks_exact(8)
				.map(|c| f64::from_le_bytes(c.try_into().unwrap()))
				.collect(),
		}
	};
	let equal = match datatype {
		DataType::Fp32 | DataType::Fp64 => {
			let (a, b) = (floats(&found.data), floats(data));
			a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| near(*a, *b))
		}
		_ => found.data[..] == data[..],
	};
	(!equal).then(|| "other values".into())
}

/// Runs one set of inputs.
fn run(engine: &Engine, model: H256, names: &[String], set: &Path) -> Result<(), String> {
	let inputs = names
		.iter()
		.zip(numbered(set, "input"))
		.map(|(name, (datatype, shape, data))| {
			Ok(Tensor {
				name: name
					.as_bytes()
					.to_vec()
					.try_into()
					.map_err(|_| "long name")?,
				datatype,
				shape: shape.try_into().map_err(|_| "many dimensions")?,
				data: data.try_into().map_err(|_| "large input")?,
			})
		})
		.collect::<Result<Vec<_>, String>>()?;
	let inputs = List::try_from(inputs).map_err(|_| "many inputs")?;
	let output = engine
		.run(model, &FullInput::Tensor(inputs), &H256::zero())
		.map_err(|e| e.to_string())?;
	let Output::Tensors(found) = output else {
		return Err("text".into());
	};
	let expected = numbered(set, "output");
	if expected.len() != found.len() {
		return Err(format!("{} outputs of {}", found.len(), expected.len()));
	}
	match found.iter().zip(&expected).find_map(|(f, e)| differs(f, e)) {
		Some(what) => Err(what),
		None => Ok(()),
	}
}

/// Loads a model as it describes itself, and runs all its sets. How many.
fn check(engine: &Engine, folder: &Path) -> Result<usize, String> {
	let graph = "model.onnx";
	let info = engine
		.inspect(&folder.join(graph))
		.map_err(|e| e.to_string())?;
	let names: Vec<_> = info.inputs.iter().map(|i| i.name.clone()).collect();
	let mut manifest = fixtures::tensors(graph, info.inputs, info.outputs);
	manifest.numerics.optimization = "all".into();
	// What a request can carry is found out by carrying it.
	manifest.limits.max_output_units = MAX_TENSOR_BYTES;
	manifest.time.output_units_per_block = MAX_TENSOR_BYTES;
	let model = engine
		.load_manifest(folder, manifest)
		.map_err(|e| e.to_string())?;
	let mut sets = 0;
	let mut result = Ok(());
	for entry in fs::read_dir(folder).unwrap() {
		let set = entry.unwrap().path();
		if set.is_dir() {
			sets += 1;
			result = result.and_then(|()| run(engine, model, &names, &set));
		}
	}
	engine.unload(model);
	result.map(|()| sets)
}

fn data() -> PathBuf {
	let var = |name| {
		std::env::var_os(name)
			.filter(|v| !v.is_empty())
			.map(PathBuf::from)
	};
	let folder = var("CONSILIENCE_CONFORMANCE")
		.or_else(|| var("CONSILIENCE_HOME").map(|d| d.join("conformance")))
		.or_else(|| var("XDG_DATA_HOME").map(|d| d.join("consilience/conformance")))
		.or_else(|| var("HOME").map(|h| h.join(".local/share/consilience/conformance")))
		.unwrap();
	assert!(
		folder.is_dir(),
		"ONNX's test data are not in {}: run ./scripts/setup conformance",
		folder.display()
	);
	folder
}

#[test]
fn what_onnxruntime_passes_passes_here() {
	let data = data();
	let engine = fixtures::engine();
	let listed: BTreeMap<&str, &str> = include_str!("conformance.txt")
		.lines()
		.filter(|l| !l.starts_with('#'))
		.map(|l| {
			let mut fields = l.split('\t');
			(fields.next().unwrap(), fields.next().unwrap())
		})
		.collect();
	let (mut models, mut passed, mut sets, mut wrong) = (0, 0, 0, Vec::new());
	for group in ["simple", "pytorch-converted", "pytorch-operator"] {
		for entry in fs::read_dir(data.join(group)).unwrap() {
			let folder = entry.unwrap().path();
			let name = format!("{group}/{}", folder.file_name().unwrap().to_str().unwrap());
			models += 1;
			match (listed.get(&name[..]), check(&engine, &folder)) {
				(None, Ok(n)) => {
					passed += 1;
					sets += n;
				}
				// Another machine may have the locale.
				(Some(&"locale"), _) | (Some(&("load" | "run")), Err(_)) => (),
				// The graph is fine; a request could not carry its tensors, and the engine says so.
				(Some(&"large"), Err(why))
					if why.contains("large input")
						|| why.contains(&MAX_TENSOR_BYTES.to_string()) => {}
				(Some(kind), Ok(_)) => wrong.push(format!(
					"{name} passes, and conformance.txt says {kind}: make the list again"
				)),
				(_, Err(why)) => wrong.push(format!("{name}: {why}")),
			}
		}
	}
	assert!(wrong.is_empty(), "{}", wrong.join("\n"));
	assert_eq!(models, MODELS, "models in {}", data.display());
	assert_eq!(passed, MODELS - listed.len(), "{sets} sets of inputs");
	assert!(sets >= passed, "{sets} sets of inputs for {passed} models");
	println!("{passed} of {models} models passed on {sets} sets of inputs");
}
