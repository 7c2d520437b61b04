//! Models of random bytes.

use super::*;
use rand::{rngs::StdRng, RngCore, SeedableRng};

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
	let manifest = described(name, files.to_vec());
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
	transfers
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	until(|| store.contains(manifest.id())).await;
	store.verify(manifest.id(), |_| ()).unwrap();
}

/// Fetches a model and waits until it is there.
pub(crate) async fn fetched(transfers: &Transfers, store: &Store, manifest: &Manifest) -> Progress {
	let id = manifest.id();
	transfers.fetch(id, &manifest.spec().unwrap()).unwrap();
	let mut last = Progress::default();
	until(|| {
		last = transfers.progress(&id).unwrap_or(last.clone());
		store.contains(id) && transfers.underway().iter().all(|(_, p)| p.has_failed)
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
