//! A model that arrives, against a model of it: whatever comes, is damaged or ends in between, what counts is what is right on the disk.
#![allow(clippy::unwrap_used)]

#[path = "common/manifest.rs"]
mod manifest;

use std::{collections::BTreeSet, fs, os::unix::fs::FileExt, path::Path};

use consilience_primitives::manifest::{Manifest, MIN_CHUNK};
use consilience_store::{hash_file, verify_file, Partial, PieceError, Store};
use manifest::described;
use polkadot_sdk::sp_core::H256;
use proptest::{prelude::*, test_runner::FileFailurePersistence};

/// Bytes in which no chunk is like another, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
	let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
	let mut byte = || {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		(state >> 32) as u8
	};
	(0..length).map(|_| byte()).collect()
}

/// A model's files in a folder, and its manifest. The second file begins as the first one ends, so that they share pieces.
fn source(folder: &Path) -> Manifest {
	let one = noise(1, 40 * MIN_CHUNK as usize + 3);
	let two = [&one[..30 * MIN_CHUNK as usize], &noise(2, 100_000)].concat();
	let files = [("a/two", &two), ("model.onnx", &one)].map(|(path, bytes)| {
		let at = folder.join(path);
		fs::create_dir_all(at.parent().unwrap()).unwrap();
		fs::write(&at, bytes).unwrap();
		hash_file(&at, path, |_| ()).unwrap()
	});
	let manifest = described("arrives", files.to_vec());
	manifest.validate().unwrap();
	manifest
}

/// The bytes of a piece.
fn piece(folder: &Path, manifest: &Manifest, partial: &Partial, index: usize) -> Vec<u8> {
	let piece = &partial.pieces()[index];
	let (file, offset) = piece.places[0];
	let mut bytes = vec![0; piece.chunk.length as usize];
	let file = fs::File::open(folder.join(&manifest.files[file].path)).unwrap();
	file.read_exact_at(&mut bytes, offset).unwrap();
	bytes
}

fn is_wrong(kept: Result<(), PieceError>) -> bool {
	matches!(kept, Err(PieceError::Wrong { .. }))
}

#[derive(Clone, Debug)]
enum Step {
	/// A piece comes as it is.
	Right(prop::sample::Index),
	/// A piece comes with another bit.
	Wrong(prop::sample::Index, prop::sample::Index),
	/// A piece comes in part.
	Short(prop::sample::Index, prop::sample::Index),
	/// The process ends, and another begins.
	Restart,
	/// The disk loses a bit while nobody looks.
	Damage(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
	let index = any::<prop::sample::Index>;
	let step = prop_oneof![
		6 => index().prop_map(Step::Right),
		1 => (index(), index()).prop_map(|(a, b)| Step::Wrong(a, b)),
		1 => (index(), index()).prop_map(|(a, b)| Step::Short(a, b)),
		1 => Just(Step::Restart),
		1 => index().prop_map(Step::Damage),
	];
	prop::collection::vec(step, 0..40)
}

proptest! {
	#![proptest_config(ProptestConfig {
		cases: 24,
		failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
		..ProptestConfig::default()
	})]

	#[test]
	fn what_counts_is_what_is_right_on_the_disk(steps in steps()) {
		let from = tempfile::tempdir().unwrap();
		let manifest = source(from.path());
		let to = tempfile::tempdir().unwrap();
		let store = Store::open(to.path()).unwrap();
		let open = || {
			let (partial, have) = store.partial(manifest.clone()).unwrap();
			let have = have.iter().enumerate().filter(|(_, have)| **have);
			let have: BTreeSet<usize> = have.map(|(piece, _)| piece).collect();
			(Some(partial), have)
		};
		let (mut partial, found) = open();
		prop_assert!(found.is_empty());
		let mut model = BTreeSet::new();
		let count = partial.as_ref().unwrap().pieces().len();
		prop_assert!(count > 4 && count < manifest.files.iter().map(|f| f.chunks.len()).sum());
		for step in steps {
			let here = partial.as_ref().unwrap();
			let bytes = |at| piece(from.path(), &manifest, here, at);
			match step {
				Step::Right(at) => {
					let at = at.index(count);
					here.put(at, &bytes(at)).unwrap();
					model.insert(at);
				}
				Step::Wrong(at, bit) => {
					let at = at.index(count);
					let mut bytes = bytes(at);
					let bit = bit.index(bytes.len() * 8);
					bytes[bit / 8] ^= 1 << (bit % 8);
					prop_assert!(is_wrong(here.put(at, &bytes)));
				}
				Step::Short(at, length) => {
					let at = at.index(count);
					let bytes = bytes(at);
					let short = &bytes[..length.index(bytes.len())];
					prop_assert!(is_wrong(here.put(at, short)));
				}
				Step::Restart => {
					drop(partial.take());
					let found;
					(partial, found) = open();
					prop_assert_eq!(&found, &model);
				}
				Step::Damage(at) => {
					// Of a piece that is there; a process that runs does not look again, the next one does.
					let Some(at) = model.iter().copied().nth(at.index(count)) else { continue };
					let chosen = &here.pieces()[at];
					let (file, offset) = chosen.places[0];
					let name = format!(".fetch-{}/files/{}", hex(manifest.id()), manifest.files[file].path);
					let file = fs::OpenOptions::new().read(true).write(true).open(to.path().join(name)).unwrap();
					let mut byte = [0];
					file.read_exact_at(&mut byte, offset).unwrap();
					file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
					model.remove(&at);
				}
			}
			prop_assert!(!store.contains(manifest.id()));
			prop_assert!(store.list().unwrap().is_empty());
		}
		// The rest comes, and it is a model.
		drop(partial.take());
		let (partial, found) = open();
		prop_assert_eq!(&found, &model);
		let partial = partial.unwrap();
		for at in (0..count).filter(|at| !model.contains(at)) {
			partial.put(at, &piece(from.path(), &manifest, &partial, at)).unwrap();
		}
		prop_assert_eq!(partial.finish().unwrap(), manifest.id());
		store.verify(manifest.id(), |_| ()).unwrap();
		prop_assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
	}
}

#[test]
fn a_part_that_somebody_works_on_is_not_removed_and_what_is_in_its_way_is_no_model() {
	let from = tempfile::tempdir().unwrap();
	let manifest = source(from.path());
	let to = tempfile::tempdir().unwrap();
	let store = Store::open(to.path()).unwrap();
	let (partial, _) = store.partial(manifest.clone()).unwrap();
	assert_eq!(store.partials().unwrap(), [manifest.id()].into());
	assert!(store.forget_partial(manifest.id()).is_err());
	assert!(store.partial(manifest.clone()).is_err());
	for at in 0..partial.pieces().len() {
		partial
			.put(at, &piece(from.path(), &manifest, &partial, at))
			.unwrap();
	}
	// What a removal leaves that was ended in the middle.
	let target = store.folder(manifest.id());
	fs::create_dir_all(target.join("a")).unwrap();
	fs::write(target.join("a/two"), b"half").unwrap();
	partial.finish().unwrap();
	store.verify(manifest.id(), |_| ()).unwrap();

	// A link to a file of somebody else's is not written through.
	let linked = to.path().join("linked");
	fs::hard_link(target.join("model.onnx"), &linked).unwrap();
	let mut damaged = fs::read(&linked).unwrap();
	damaged[0] ^= 1;
	fs::write(&linked, &damaged).unwrap();
	store.set_aside(manifest.id()).unwrap();
	assert!(!store.contains(manifest.id()));
	let (partial, have) = store.partial(manifest.clone()).unwrap();
	let missing: Vec<_> = (0..have.len()).filter(|at| !have[*at]).collect();
	assert_eq!(missing.len(), 1);
	partial
		.put(
			missing[0],
			&piece(from.path(), &manifest, &partial, missing[0]),
		)
		.unwrap();
	partial.finish().unwrap();
	assert_eq!(fs::read(&linked).unwrap(), damaged);
	store.verify(manifest.id(), |_| ()).unwrap();

	let (partial, _) = store.partial(manifest.clone()).unwrap();
	drop(partial);
	store.forget_partial(manifest.id()).unwrap();
	assert!(store.partials().unwrap().is_empty());
	store.remove(manifest.id()).unwrap();
	assert!(store.remove(manifest.id()).is_err());
	fs::remove_file(linked).unwrap();
	assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn cuts_follow_the_content() {
	let folder = tempfile::tempdir().unwrap();
	let path = folder.path().join("file");
	let before = noise(3, 5 << 20);
	fs::write(&path, &before).unwrap();
	let old = hash_file(&path, "file", |_| ()).unwrap();
	assert!(old.is_whole());
	verify_file(&path, &old, |_| ()).unwrap();
	fs::write(
		&path,
		[&before[..70_000], b"some more", &before[70_000..]].concat(),
	)
	.unwrap();
	let new = hash_file(&path, "file", |_| ()).unwrap();
	let known: BTreeSet<_> = old.chunks.iter().map(|c| c.hash).collect();
	let fresh = new.chunks.iter().filter(|c| !known.contains(&c.hash));
	assert!(fresh.count() <= 3 && new.chunks.len() > 8);
	assert!(verify_file(&path, &old, |_| ()).is_err());
}

#[test]
fn an_empty_file_has_no_chunks() {
	let folder = tempfile::tempdir().unwrap();
	let path = folder.path().join("file");
	fs::write(&path, b"").unwrap();
	let file = hash_file(&path, "file", |_| ()).unwrap();
	assert!(file.chunks.is_empty() && file.is_whole());
	verify_file(&path, &file, |_| ()).unwrap();
}

fn hex(id: H256) -> String {
	id.0.iter().map(|b| format!("{b:02x}")).collect()
}
