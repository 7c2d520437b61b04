//! Models of random bytes.

use super::*;
use rand::{rngs::StdRng, RngCore, SeedableRng};

pub(crate) fn manifest(name: &str, files: Vec<consilience_primitives::manifest::File>) -> Manifest {
	let bounds = Bounds::default();
	Manifest {
		version: VERSION,
		name: name.into(),
		license: "Apache-2.0".into(),
		source: "a test".into(),
		task: TaskDetails::TextGeneration {
			tokenizer: "model.onnx".into(),
			chat_template: None,
			bos_token: None,
			eos_token: None,
			eos_token_ids: vec![0],
			context: 128,
			vocabulary: 16,
			layers: 1,
			kv_heads: 1,
			head_dim: 4,
			cache: Cache::Slots,
			sampling: SamplingDefaults::default(),
		},
		graph: "model.onnx".into(),
		files,
		numerics: Numerics {
			element_type: "fp32".into(),
			opset: 17,
			onnxruntime_min: "1.31.1".into(),
			onnxruntime_max: "1.31.1".into(),
			providers: vec!["CPUExecutionProvider".into()],
			optimization: "disable".into(),
		},
		limits: Limits {
			max_input_units: 100,
			max_output_units: 100,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 4,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 16,
			entries: 1,
			fraction_bits: 0,
			accept: bounds,
			fraud: bounds,
			min_verifiers: 2,
			min_sampling: 1_000,
		},
		reference: Reference {
			input: ReferenceInput::Text {
				text: "a".into(),
				max_tokens: 1,
			},
			output: H256::zero(),
			evidence: Evidence {
				fingerprint: Fingerprint::Digest([7; 16]),
				verdict: Verdict::default(),
				prior: None,
			},
		},
	}
}

pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
	let mut bytes = vec![0; length];
	StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
	bytes
}

/// Puts a model with these weights into a store, as import does.
pub(crate) fn import(store: &Store, name: &str, weights: &[u8]) -> Manifest {
	let folder = store.temporary().unwrap().keep();
	let files = [
		("data/weights.bin", weights),
		("empty", &[]),
		("model.onnx", b"a graph"),
	];
	let files = files.map(|(path, content)| {
		let at = folder.join(path);
		fs::create_dir_all(at.parent().unwrap()).unwrap();
		fs::write(&at, content).unwrap();
		hash_file(&at, path, |_| ()).unwrap()
	});
	let manifest = manifest(name, files.to_vec());
	manifest.validate().unwrap();
	fs::write(folder.join("manifest.json"), serde_json(&manifest)).unwrap();
	fs::write(folder.join("manifest.scale"), manifest.encode()).unwrap();
	fs::rename(&folder, store.folder(manifest.id())).unwrap();
	manifest
}

fn serde_json(manifest: &Manifest) -> Vec<u8> {
	::serde_json::to_vec(manifest).unwrap()
}

/// A store in a folder of its own.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
	let folder = tempfile::tempdir().unwrap();
	let store = Store::open(folder.path().join("models")).unwrap();
	(folder, store)
}

/// Waits until this is so; a test's own time limit ends what never becomes so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
	while !so() {
		tokio::time::sleep(Duration::from_millis(2)).await;
	}
}

pub(crate) fn transfers(store: &Store, world: &Arc<World>) -> Transfers {
	with(store, world, Options::default())
}

pub(crate) fn with(store: &Store, world: &Arc<World>, options: Options) -> Transfers {
	Transfers::new(store.clone(), world.clone(), &options, None)
		.unwrap()
		.0
}

/// Fetches a model and waits until it is there, whatever becomes of others.
pub(crate) async fn fetched_one(transfers: &Transfers, store: &Store, manifest: &Manifest) {
	transfers.fetch(manifest.id(), &manifest.spec().unwrap());
	until(|| store.contains(manifest.id())).await;
	store.verify(manifest.id(), |_| ()).unwrap();
}

/// Fetches a model and waits until it is there.
pub(crate) async fn fetched(transfers: &Transfers, store: &Store, manifest: &Manifest) -> Progress {
	let id = manifest.id();
	transfers.fetch(id, &manifest.spec().unwrap());
	let mut last = Progress::default();
	until(|| {
		last = transfers.progress(&id).unwrap_or(last.clone());
		store.contains(id) && transfers.fetching().is_empty()
	})
	.await;
	store.verify(id, |_| ()).unwrap();
	last
}

pub(crate) fn id_of(manifest: &Manifest) -> ModelId {
	manifest.id()
}

/// Bytes on the disk below a folder, holes left out.
pub(crate) fn on_disk(folder: &Path) -> u64 {
	use std::os::unix::fs::MetadataExt;
	let mut bytes = 0;
	for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
		let metadata = entry.metadata().unwrap();
		bytes += if metadata.is_dir() {
			on_disk(&entry.path())
		} else {
			metadata.blocks() * 512
		};
	}
	bytes
}
