//! Importing folders, good and bad.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
	fs,
	path::{Path, PathBuf},
};

use common::onnx;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	manifest::{Manifest, TaskDetails, MAX_CHUNK},
	model::NumericClass,
	request::{Output, Unanswerable},
	tensor::{DataType, NamedSpec, Tensor},
	List, ModelId,
};
use consilience_store::{
	Import, ImportError, Measured, Progress, Runner, Signature, Store, StoreError,
};
use serde_json::{json, Value};

/// An engine that answers the same to everything.
struct Fake;

impl Runner for Fake {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		assert!(graph.is_absolute());
		let spec = |name: &str| NamedSpec {
			name: name.into(),
			datatype: DataType::Fp32,
			shape: vec![None, Some(2)],
		};
		Ok(Signature {
			inputs: vec![spec("x")],
			outputs: vec![spec("y")],
		})
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		for file in &manifest.files {
			assert!(folder.join(&file.path).is_file());
		}
		let evidence = Evidence {
			fingerprint: Fingerprint::Digest([7; 16]),
			verdict: Verdict::default(),
			prior: None,
		};
		Ok((Output::Tensors(Default::default()), evidence))
	}
}

/// An engine that must not be asked.
struct Nobody;

impl Runner for Nobody {
	fn signature(&self, _: &Path) -> Result<Signature, String> {
		panic!("asked for a signature")
	}

	fn reference(&self, _: &Path, _: &Manifest) -> Result<(Output, Evidence), String> {
		panic!("asked for a reference")
	}
}

/// An engine that cannot load the model.
struct Broken;

impl Runner for Broken {
	fn signature(&self, _: &Path) -> Result<Signature, String> {
		Err("no such operator".into())
	}

	fn reference(&self, _: &Path, _: &Manifest) -> Result<(Output, Evidence), String> {
		Err("no such operator".into())
	}
}

fn card() -> Value {
	let bounds = json!({"mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0});
	json!({
		"name": "two numbers", "license": "Apache-2.0", "source": "a test",
		"task": "tensor", "class": "exact", "graph": "model.onnx",
		"files": ["weights.bin", "model.onnx"],
		"numerics": {
			"element_type": "fp32", "opset": 17, "onnxruntime_min": "1.31.1", "onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"], "optimization": "disable"
		},
		"limits": {"max_input_units": 10, "max_output_units": 10},
		"time": {"base_blocks": 10, "output_units_per_block": 10},
		"policy": {
			"class": "exact", "positions": 16, "entries": 1, "fraction_bits": 0,
			"accept": bounds, "fraud": bounds, "min_verifiers": 1
		},
		"price": {"per_request": 5, "per_input_unit": 6, "per_output_unit": 7},
		"reference": {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2.5]}]}
	})
}

/// A folder with a card, a graph and weights of several chunks: they are so much alike that none ends before it must.
fn folder() -> tempfile::TempDir {
	let folder = tempfile::tempdir().unwrap();
	let weights: Vec<u8> = (0..MAX_CHUNK * 5 / 2).map(|i| (i / 1000) as u8).collect();
	fs::write(folder.path().join("weights.bin"), weights).unwrap();
	fs::write(folder.path().join("model.onnx"), onnx("weights.bin")).unwrap();
	fs::write(folder.path().join("model.json"), card().to_string()).unwrap();
	folder
}

fn store() -> (tempfile::TempDir, Store) {
	let folder = tempfile::tempdir().unwrap();
	let store = Store::open(folder.path().join("models")).unwrap();
	(folder, store)
}

fn import(store: &Store, from: &Path, runner: &dyn Runner) -> Result<ModelId, ImportError> {
	Import::read(from, runner, &mut |_| ())?.put(store, &mut |_| ())
}

/// Imports the folder's card and gives the model's folder in a store, which has a manifest.
fn stored() -> (tempfile::TempDir, ModelId, PathBuf) {
	let (keep, store) = store();
	let id = import(&store, folder().path(), &Fake).unwrap();
	(keep, id, store.folder(id))
}

/// What is wrong with a folder; the store stays empty.
fn refused(from: &Path, runner: &dyn Runner) -> String {
	let (_keep, store) = store();
	let error = import(&store, from, runner).unwrap_err();
	assert_eq!(
		fs::read_dir(store.root()).unwrap().count(),
		0,
		"nothing is left behind"
	);
	error.to_string()
}

#[test]
fn a_card_becomes_a_model() {
	let (from, (_keep, store)) = (folder(), store());
	let (mut total, mut hashed, mut steps) = (0, 0, Vec::new());
	let import = Import::read(from.path(), &Fake, &mut |p| match p {
		Progress::Total(n) => total += n,
		Progress::Hashed(n) => hashed += n,
		other => steps.push(other),
	})
	.unwrap();
	assert_eq!(
		(total, steps.as_slice()),
		(hashed, &[Progress::Reference][..])
	);
	let id = import.put(&store, &mut |_| ()).unwrap();
	let model = store.get(id).unwrap();
	assert_eq!(model.id, id);
	let paths: Vec<_> = model
		.manifest
		.files
		.iter()
		.map(|f| f.path.as_str())
		.collect();
	assert_eq!(paths, ["model.onnx", "weights.bin"]);
	assert_eq!(model.manifest.files[1].chunks.len(), 3);
	assert_eq!(
		model.manifest.reference.evidence.fingerprint,
		Fingerprint::Digest([7; 16])
	);
	assert_eq!(
		model.manifest.spec().unwrap().signature.len(),
		1,
		"read from the graph"
	);
	assert_eq!(model.price.unwrap().per_output_unit, 7);
	assert_eq!(store.list().unwrap().len(), 1);
	let mut read = 0;
	store.verify(id, |n| read += n).unwrap();
	assert_eq!(read, total);
	store.remove(id).unwrap();
	assert!(matches!(store.get(id), Err(StoreError::Unknown(_))));
	assert!(store.list().unwrap().is_empty());
}

/// An engine that has measured this.
struct Measures(Measured);

impl Runner for Measures {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		Fake.signature(graph)
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		let (output, mut evidence) = Fake.reference(folder, manifest)?;
		if manifest.policy.class == NumericClass::Tolerant {
			evidence.fingerprint = Fingerprint::Values {
				tag: 0,
				values: List::new(),
			};
		}
		Ok((output, evidence))
	}

	fn measure(
		&self,
		_: &Path,
		manifest: &Manifest,
		progress: &mut dyn FnMut(u64, u64),
	) -> Result<Option<Measured>, String> {
		assert_eq!(manifest.policy.class, NumericClass::Exact);
		progress(1, 2);
		Ok(Some(self.0.clone()))
	}
}

fn exact(skipped: &[&str]) -> Measured {
	Measured::Exact {
		skipped: skipped.iter().map(|s| (*s).to_owned()).collect(),
	}
}

fn inexact() -> Measured {
	Measured::Inexact {
		why: "Softmax broke it".into(),
	}
}

/// The class of a folder's manifest, or why it is refused. `class` and `policy` are the card's.
fn class(class: Option<&str>, policy: Value, measured: Measured) -> Result<NumericClass, String> {
	let from = folder();
	let mut card = card();
	card["policy"] = policy;
	card.as_object_mut().unwrap().remove("class");
	if let Some(class) = class {
		card["class"] = class.into();
	}
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	let mut steps = Vec::new();
	let import = Import::read(from.path(), &Measures(measured.clone()), &mut |p| {
		steps.push(p);
	})
	.map_err(|e| e.to_string())?;
	let shown = Progress::Measuring { done: 1, total: 2 };
	assert_eq!(steps.contains(&shown), class != Some("tolerant"));
	assert_eq!(
		import.measured,
		(class != Some("tolerant")).then_some(measured)
	);
	Ok(import.manifest.policy.class)
}

fn tolerant_policy() -> Value {
	let bounds = json!({"mean": 256, "max": 16, "margin_max": 0, "margin_mean": 0});
	json!({
		"positions": 2, "entries": 1, "fraction_bits": 12, "accept": bounds, "fraud": bounds, "min_verifiers": 1
	})
}

#[test]
fn a_class_that_is_not_stated_is_measured() {
	use NumericClass::{Exact, Tolerant};
	assert_eq!(class(None, json!({}), exact(&[])), Ok(Exact));
	// Thresholds for the other case do not stand in the way.
	assert_eq!(class(None, tolerant_policy(), exact(&[])), Ok(Exact));
	assert_eq!(class(None, tolerant_policy(), inexact()), Ok(Tolerant));
	// What was not run may differ.
	let partly = || exact(&["16 threads: no time"]);
	assert_eq!(class(None, tolerant_policy(), partly()), Ok(Tolerant));
	let why = class(None, json!({}), inexact()).unwrap_err();
	assert!(
		why.contains("Softmax broke it") && why.contains("calibrate"),
		"{why}"
	);
}

#[test]
fn a_class_that_is_stated_is_checked() {
	use NumericClass::{Exact, Tolerant};
	let policy = || card()["policy"].clone();
	assert_eq!(class(Some("exact"), policy(), exact(&[])), Ok(Exact));
	let partly = exact(&["16 threads: no time"]);
	assert_eq!(class(Some("exact"), policy(), partly), Ok(Exact));
	// Everything may be tolerant.
	assert_eq!(
		class(Some("tolerant"), tolerant_policy(), exact(&[])),
		Ok(Tolerant)
	);
	for stated in [Some("exact"), None] {
		// The second in the policy alone.
		let why = class(stated, policy(), inexact()).unwrap_err();
		assert!(
			why.contains("model.json") && why.contains("Softmax broke it"),
			"{why}"
		);
		assert!(why.contains("it is not"), "{why}");
	}
}

#[test]
fn who_does_not_measure_needs_a_class() {
	let from = folder();
	let mut card = card();
	card.as_object_mut().unwrap().remove("class");
	card["policy"].as_object_mut().unwrap().remove("class");
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	let why = refused(from.path(), &Fake);
	assert!(why.contains("class is missing"), "{why}");
	// To look at the model takes no engine.
	let manifest = Import::describe(from.path(), &Fake, &mut |_| ()).unwrap();
	assert_eq!(manifest.policy.class, NumericClass::Exact);
	assert_eq!(manifest.files.len(), 2);
}

/// An engine that may be asked for a signature and nothing else.
struct NotRun;

impl Runner for NotRun {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		Fake.signature(graph)
	}

	fn reference(&self, _: &Path, _: &Manifest) -> Result<(Output, Evidence), String> {
		panic!("asked for a reference")
	}

	fn measure(
		&self,
		_: &Path,
		_: &Manifest,
		_: &mut dyn FnMut(u64, u64),
	) -> Result<Option<Measured>, String> {
		panic!("asked to measure")
	}
}

#[test]
fn the_integer_class_is_not_believed_without_its_proof() {
	let from = folder();
	let mut card = card();
	card["numerics"]["element_type"] = "integer".into();
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	let why = refused(from.path(), &NotRun);
	for part in ["model.onnx", "not proven", "element_type"] {
		assert!(why.contains(part), "{part}: {why}");
	}
	// What is only described is not run, and may still be measured.
	let manifest = Import::describe(from.path(), &NotRun, &mut |_| ()).unwrap();
	assert_eq!(manifest.policy.class, NumericClass::Exact);

	card["class"] = "tolerant".into();
	card["policy"]["class"] = "tolerant".into();
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	let why = refused(from.path(), &NotRun);
	assert!(why.contains("write the class exact"), "{why}");

	let (_keep, _, folder) = stored();
	let path = folder.join("manifest.json");
	let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
	manifest["numerics"]["element_type"] = "integer".into();
	fs::write(&path, manifest.to_string()).unwrap();
	let why = refused(&folder, &NotRun);
	assert!(why.contains("not proven"), "{why}");
}

#[test]
fn a_stored_model_is_imported_again_without_an_engine() {
	let (_keep, id, folder) = stored();
	let (_other, store) = store();
	assert_eq!(import(&store, &folder, &Nobody).unwrap(), id);
	// Once more changes nothing.
	assert_eq!(import(&store, &folder, &Nobody).unwrap(), id);
	assert_eq!(store.get(id).unwrap().price.unwrap().per_request, 5);
}

#[test]
fn the_store_keeps_its_bytes_when_the_author_goes_on_writing() {
	let (from, (_keep, store)) = (folder(), store());
	let id = import(&store, from.path(), &Fake).unwrap();
	// In place, as a tool may that makes the model anew.
	let mut file = fs::OpenOptions::new()
		.write(true)
		.open(from.path().join("weights.bin"))
		.unwrap();
	std::io::Write::write_all(&mut file, b"another version").unwrap();
	store.verify(id, |_| ()).unwrap();
}

#[test]
fn the_id_is_that_of_the_contents() {
	let (_a, first, _) = stored();
	let (_b, second, _) = stored();
	assert_eq!(first, second);
	let other = folder();
	let mut card = card();
	card["name"] = "another".into();
	fs::write(other.path().join("model.json"), card.to_string()).unwrap();
	let (_c, store) = store();
	assert_ne!(import(&store, other.path(), &Fake).unwrap(), first);
}

#[test]
fn a_changed_byte_is_found_with_its_chunk() {
	let (_keep, _, folder) = stored();
	let path = folder.join("weights.bin");
	let mut bytes = fs::read(&path).unwrap();
	bytes[MAX_CHUNK as usize + 17] ^= 1;
	fs::write(&path, &bytes).unwrap();
	let why = refused(&folder, &Nobody);
	assert!(
		why.contains("weights.bin") && why.contains("chunk 1 "),
		"{why}"
	);
	bytes.truncate(100);
	fs::write(&path, &bytes).unwrap();
	let why = refused(&folder, &Nobody);
	assert!(
		why.contains("weights.bin") && why.contains("100 bytes"),
		"{why}"
	);
}

#[test]
fn damage_in_the_store_is_found() {
	let (keep, id, folder) = stored();
	let store = Store::open(keep.path().join("models")).unwrap();
	store.verify(id, |_| ()).unwrap();
	let path = folder.join("weights.bin");
	let mut bytes = fs::read(&path).unwrap();
	bytes[3] ^= 1;
	fs::write(&path, &bytes).unwrap();
	let why = store.verify(id, |_| ()).unwrap_err().to_string();
	assert!(
		why.contains("weights.bin") && why.contains("chunk 0 "),
		"{why}"
	);
	let manifest = folder.join("manifest.json");
	let text = fs::read_to_string(&manifest)
		.unwrap()
		.replace("two numbers", "two letters");
	fs::write(&manifest, text).unwrap();
	assert!(matches!(store.get(id), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_missing_file_is_named() {
	let from = folder();
	fs::remove_file(from.path().join("weights.bin")).unwrap();
	let why = refused(from.path(), &Fake);
	assert!(
		why.contains("weights.bin") && why.contains("missing"),
		"{why}"
	);
	let (_keep, _, folder) = stored();
	fs::remove_file(folder.join("model.onnx")).unwrap();
	let why = refused(&folder, &Nobody);
	assert!(
		why.contains("model.onnx") && why.contains("missing"),
		"{why}"
	);
}

#[test]
fn files_outside_the_folder_are_refused() {
	let outside = tempfile::tempdir().unwrap();
	fs::write(outside.path().join("weights.bin"), b"secret").unwrap();
	let from = folder();
	fs::remove_file(from.path().join("weights.bin")).unwrap();
	std::os::unix::fs::symlink(
		outside.path().join("weights.bin"),
		from.path().join("weights.bin"),
	)
	.unwrap();
	let why = refused(from.path(), &Fake);
	assert!(why.contains("leads out of the model's folder"), "{why}");
	let from = folder();
	let mut card = card();
	card["files"] = json!(["model.onnx", "../weights.bin"]);
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	assert!(refused(from.path(), &Fake).contains(".."));
}

#[test]
fn external_data_must_be_a_file_of_the_model() {
	let from = folder();
	for location in ["../weights.bin", "/etc/hostname", "other.bin"] {
		fs::write(from.path().join("model.onnx"), onnx(location)).unwrap();
		let why = refused(from.path(), &Fake);
		assert!(
			why.contains("model.onnx") && why.contains(location),
			"{why}"
		);
	}
}

#[test]
fn a_broken_graph_is_named() {
	let from = folder();
	let mut graph = onnx("weights.bin");
	graph.truncate(graph.len() - 3);
	fs::write(from.path().join("model.onnx"), graph).unwrap();
	let why = refused(from.path(), &Fake);
	assert!(
		why.contains("model.onnx") && why.contains("broken"),
		"{why}"
	);
	let why = refused(folder().path(), &Broken);
	assert!(
		why.contains("model.onnx") && why.contains("no such operator"),
		"{why}"
	);
}

#[test]
fn a_bad_card_says_which_field() {
	let from = folder();
	let mut too_many = card()["policy"].clone();
	too_many["min_verifiers"] = json!(16);
	for (change, part) in [
		(
			json!({"limits": {"max_input_units": 10, "max_output_units": 0}}),
			"BadLimits",
		),
		(json!({"class": "tolerant"}), "policy"),
		(
			json!({"policy": too_many}),
			"no request can ask for more than 15",
		),
		(json!({"colour": "red"}), "colour"),
		(json!({"graph": "nowhere.onnx"}), "nowhere.onnx"),
		(json!({"task": "translation"}), "translation"),
	] {
		let mut card = card();
		card.as_object_mut()
			.unwrap()
			.extend(change.as_object().unwrap().clone());
		fs::write(from.path().join("model.json"), card.to_string()).unwrap();
		let why = refused(from.path(), &Fake);
		assert!(why.contains(part), "{part}: {why}");
	}
	fs::write(from.path().join("model.json"), b"{").unwrap();
	assert!(refused(from.path(), &Fake).contains("model.json"));
	fs::remove_file(from.path().join("model.json")).unwrap();
	assert!(refused(from.path(), &Fake).contains("neither"));
	assert!(refused(&from.path().join("nowhere"), &Fake).contains("nowhere"));
}

/// A language model's folder whose limits are these, with a context of 384 tokens.
fn language_model(input: u32, output: u32) -> tempfile::TempDir {
	let from = folder();
	fs::write(from.path().join("tokenizer.json"), b"{}").unwrap();
	let mut card = card();
	let change = json!({
		"task": "text-generation", "files": ["model.onnx", "tokenizer.json", "weights.bin"],
		"limits": {"max_input_units": input, "max_output_units": output},
		"details": {
			"tokenizer": "tokenizer.json", "eos_token_ids": [1], "context": 384, "vocabulary": 64, "layers": 2,
			"kv_heads": 2, "head_dim": 4, "cache": "slots"
		},
		"reference": {"text": {"text": "t5", "max_tokens": 4}}
	});
	card.as_object_mut()
		.unwrap()
		.extend(change.as_object().unwrap().clone());
	fs::write(from.path().join("model.json"), card.to_string()).unwrap();
	from
}

#[test]
fn limits_beyond_the_context_are_refused() {
	let (_keep, store) = store();
	import(&store, language_model(256, 128).path(), &Fake).unwrap();
	for (input, output) in [(257, 128), (256, 129), (1, 384), (u32::MAX, 1)] {
		let why = refused(language_model(input, output).path(), &Fake);
		assert!(
			why.contains("model.json") && why.contains("context of 384"),
			"{why}"
		);
	}
}

/// An engine whose reference gives this, and whose template adds so many tokens.
struct Gives(Output, u32);

impl Runner for Gives {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		Fake.signature(graph)
	}

	fn overhead(&self, _: &Path, _: &TaskDetails) -> Result<Option<u32>, String> {
		Ok(Some(self.1))
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		let (_, evidence) = Fake.reference(folder, manifest)?;
		Ok((self.0.clone(), evidence))
	}
}

#[test]
fn a_reference_that_shows_nothing_is_refused() {
	let tensor = |datatype: DataType, data: &[u8]| {
		let tensor = Tensor {
			name: b"scores".to_vec().try_into().unwrap(),
			datatype,
			shape: vec![1].try_into().unwrap(),
			data: data.to_vec().try_into().unwrap(),
		};
		Output::Tensors(vec![tensor].try_into().unwrap())
	};
	for bad in [
		tensor(DataType::Fp32, &f32::NAN.to_le_bytes()),
		tensor(DataType::Fp32, &f32::NEG_INFINITY.to_le_bytes()),
		tensor(DataType::Fp64, &f64::INFINITY.to_le_bytes()),
		tensor(DataType::Fp16, &[0, 0x7c]),
		tensor(DataType::Bf16, &[0x80, 0xff]),
	] {
		let why = refused(folder().path(), &Gives(bad, 0));
		assert!(why.contains("\"scores\" holds NaN or infinity"), "{why}");
	}
	for good in [
		tensor(DataType::Fp32, &f32::MAX.to_le_bytes()),
		tensor(DataType::Fp16, &[0xff, 0x7b]),
		tensor(DataType::Bf16, &[0x7f, 0xff]),
		tensor(DataType::Int32, &(-1i32).to_le_bytes()),
	] {
		let (_keep, store) = store();
		import(&store, folder().path(), &Gives(good, 0)).unwrap();
	}
	let why = refused(
		folder().path(),
		&Gives(Output::Unanswerable(Unanswerable::NotFinite), 0),
	);
	assert!(why.contains("cannot be answered"), "{why}");
}

#[test]
fn limits_hold_for_every_text() {
	let answer = || Output::Tensors(Default::default());
	let with = |tokenizer: Value, input: u32, overhead: u32| {
		let from = language_model(input, 128);
		fs::write(from.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
		let (_keep, store) = store();
		import(&store, from.path(), &Gives(answer(), overhead)).map_err(|e| e.to_string())
	};
	let nfkc = json!({"normalizer": {"type": "NFKC"}});
	// 256 tokens are left for a prompt; a letter may become eleven times as many bytes.
	with(nfkc.clone(), 23, 0).unwrap();
	let why = with(nfkc, 24, 0).unwrap_err();
	assert!(
		why.contains("lower max_input_units to 23") && why.contains("11 times"),
		"{why}"
	);
	let begin = json!({"post_processor": {
		"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
		"special_tokens": {"<s>": {"ids": [1]}},
	}});
	with(begin.clone(), 255, 0).unwrap();
	with(begin.clone(), 256, 0).unwrap_err();
	// A template that writes more than is charged for a message.
	with(json!({}), 156, 100).unwrap();
	let why = with(json!({}), 157, 100).unwrap_err();
	assert!(why.contains("lower max_input_units to 156"), "{why}");
	// What is put around a text is not put around a chat as well.
	with(begin, 156, 100).unwrap();
}

#[cfg(unix)]
#[test]
fn a_folder_of_the_hub_s_cache_is_imported() {
	let place = tempfile::tempdir().unwrap();
	let cache = place.path().join("models--a--b");
	let snapshot = cache.join("snapshots/0123");
	fs::create_dir_all(&snapshot).unwrap();
	fs::create_dir_all(cache.join("blobs")).unwrap();
	let from = folder();
	for name in ["model.onnx", "weights.bin", "model.json"] {
		let blob = cache.join("blobs").join(name);
		fs::copy(from.path().join(name), &blob).unwrap();
		std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).unwrap();
	}
	let (_keep, store) = store();
	let id = import(&store, &snapshot, &Fake).unwrap();
	let weights = store.folder(id).join("weights.bin");
	assert!(fs::symlink_metadata(weights).unwrap().is_file());
}
