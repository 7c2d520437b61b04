//! What nodes that lie, stall or leave get: nothing wrong is ever kept, and honest nodes get their model.

use super::{model::*, *};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn among_liars_the_model_is_what_its_hash_says() {
	let world = Arc::new(World::default());
	let weights = bytes(1, 6 * MIB);
	let folders: Vec<_> = (0..5).map(|_| store()).collect();
	let manifest = import(&folders[0].1, "liars", &weights);
	for (_, store) in &folders[1..] {
		import(store, "liars", &weights);
	}
	world.add(&folders[0].1, Conduct::Honest);
	let wrong = world.add(&folders[1].1, Conduct::Wrong);
	let nonsense = world.add(&folders[2].1, Conduct::Nonsense);
	world.add(
		&folders[3].1,
		Conduct::GoesAfter(Arc::new(AtomicU64::new(2))),
	);
	let other = world.add(&folders[4].1, Conduct::OtherManifest);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	let progress = fetched(&transfers, &here, &manifest).await;
	assert!(progress.discarded > 0);
	let misdeeds = world.misdeeds();
	assert!(misdeeds.contains(&wrong) && misdeeds.contains(&nonsense));
	// Whether it was the first that was asked for a manifest is a matter of chance; otherwise it is honest.
	assert!(misdeeds
		.iter()
		.all(|p| [wrong, nonsense, other].contains(p)));
	// A liar is asked for what was on its way when it was found, and then for nothing.
	assert!(world.given_by(wrong) <= 8 && world.given_by(nonsense) <= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_keeps_nobody_from_the_rest() {
	let world = Arc::new(World::default());
	let weights = bytes(2, 4 * MIB);
	let (_a, source) = store();
	let manifest = import(&source, "stalls", &weights);
	world.add(&source, Conduct::Honest);
	let (_c, another) = store();
	import(&another, "stalls", &weights);
	let stalls = world.add(&another, Conduct::Stalls);
	let boasts = world.add(&another, Conduct::Boasts);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &manifest).await;
	// They were asked, for a piece at a time, and less and less.
	for peer in [stalls, boasts] {
		assert!(
			(1..=8).contains(&world.given_by(peer)),
			"{}",
			world.given_by(peer)
		);
	}
	assert!(world.misdeeds().is_empty());
}

/// Two that nobody has do not keep a third from coming.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_is_in_nobodys_way() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let (_b, nowhere) = store();
	let manifest = import(&source, "there", &bytes(8, MIB));
	world.add(&source, Conduct::Honest);
	let (_c, here) = store();
	let transfers = transfers(&here, &world);
	for name in ["nowhere", "neither"] {
		let missing = import(&nowhere, name, b"weights");
		transfers
			.fetch(missing.id(), &missing.spec().unwrap())
			.unwrap();
	}
	fetched_one(&transfers, &here, &manifest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_otherwise_is_not_fetched() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "registered", &bytes(3, MIB));
	world.add(&source, Conduct::Honest);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	let mut spec = manifest.spec().unwrap();
	spec.size += 1;
	transfers.fetch(manifest.id(), &spec).unwrap();
	until(|| {
		transfers
			.progress(&manifest.id())
			.is_some_and(|p| p.has_failed)
	})
	.await;
	let why = transfers.progress(&manifest.id()).unwrap().waits.unwrap();
	assert!(why.contains("register it again"), "{why}");
	assert_eq!(on_disk(here.root()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_beyond_the_limit_is_refused_before_a_byte_of_it_comes() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "large", &bytes(4, 2 * MIB));
	let peer = world.add(&source, Conduct::Honest);
	let (_b, here) = store();
	let options = Options {
		quota: Some(MIB as u64),
		..Options::default()
	};
	let transfers = with(&here, &world, options);
	transfers
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	let failed = || transfers.progress(&manifest.id()).filter(|p| p.has_failed);
	until(|| failed().is_some()).await;
	let why = failed().and_then(|p| p.waits).unwrap();
	assert!(why.contains("--model-store-limit"), "{why}");
	assert_eq!((world.given_by(peer), on_disk(here.root())), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_who_has_it_the_reason_is_said() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "nowhere", &bytes(5, MIB));
	let (_b, empty) = store();
	world.add(&empty, Conduct::Honest);
	let (_c, here) = store();
	let transfers = transfers(&here, &world);
	transfers
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	let waits = || transfers.progress(&manifest.id()).and_then(|p| p.waits);
	until(|| waits().is_some_and(|why| why.contains("one was asked"))).await;
}

#[test]
fn a_manifest_cannot_take_the_stores_own_names_or_leave_its_folder() {
	let (_a, store) = store();
	for path in [
		"manifest.json",
		"price.json",
		"manifest.json/x",
		"../x",
		"/x",
	] {
		let file = |path: &str| consilience_primitives::manifest::File {
			path: path.into(),
			size: 0,
			chunks: Vec::new(),
		};
		let mut files = vec![file(path), file("model.onnx")];
		files.sort_by(|a, b| a.path.cmp(&b.path));
		let refused = store.partial(described("names", files));
		assert!(refused.is_err(), "{path}");
	}
	assert_eq!(fs::read_dir(store.root()).unwrap().count(), 0);
}

#[test]
fn damage_on_the_disk_is_not_given_away() {
	let (_a, store) = store();
	let manifest = import(&store, "damaged", &bytes(6, 3 * MIB));
	let shelf = Shelf::new(store.clone());
	let chunk = manifest.files[0].chunks[0];
	assert_eq!(
		shelf.piece(chunk.hash).unwrap().len(),
		chunk.length as usize
	);
	let path = store.folder(manifest.id()).join("data/weights.bin");
	let mut content = fs::read(&path).unwrap();
	content[3] ^= 1;
	fs::write(&path, content).unwrap();
	assert!(shelf.piece(chunk.hash).is_none());
	assert!(shelf.damaged().contains(&manifest.id()));
	assert_eq!(shelf.holding(manifest.id()), Response::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_fetched_anew_and_nothing_else() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "mended", &bytes(7, 4 * MIB));
	let peer = world.add(&source, Conduct::Honest);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &manifest).await;
	let path = here.folder(manifest.id()).join("data/weights.bin");
	let mut content = fs::read(&path).unwrap();
	content[2 * MIB] ^= 1;
	fs::write(&path, content).unwrap();
	here.verify(manifest.id(), |_| ()).unwrap_err();
	let before = world.given_by(peer);
	transfers.note_damage(manifest.id());
	fetched(&transfers, &here, &manifest).await;
	assert_eq!(world.given_by(peer), before + 1);
}
