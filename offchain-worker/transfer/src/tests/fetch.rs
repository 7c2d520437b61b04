//! What honest nodes get.

use super::{model::*, *};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_from_several_peers_and_no_piece_comes_twice() {
	let world = Arc::new(World::default());
	let sources: Vec<_> = (0..3).map(|_| store()).collect();
	let weights = bytes(1, 9 * MIB + 17);
	let mut peers = Vec::new();
	let mut manifest = None;
	for (_, source) in &sources {
		manifest = Some(import(source, "several", &weights));
		peers.push(world.add(source, Conduct::Honest));
	}
	let manifest = manifest.unwrap();
	let (_keep, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &manifest).await;
	assert_eq!(world.given_twice(), 0);
	assert!(peers.iter().all(|peer| world.given_by(*peer) > 0));
	assert!(world.misdeeds().is_empty());
	assert_eq!(
		fs::read(here.folder(manifest.id()).join("data/weights.bin")).unwrap(),
		weights
	);
	// Nothing is left beside the model.
	let left: Vec<_> = fs::read_dir(here.root()).unwrap().collect();
	assert_eq!(left.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_given_on_while_it_arrives() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "on", &bytes(2, 6 * MIB));
	let left = Arc::new(AtomicU64::new(8));
	world.add(&source, Conduct::GoesAfter(left.clone()));
	let (_b, first) = store();
	let first_transfers = transfers(&first, &world);
	first_transfers
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	until(|| left.load(Ordering::SeqCst) == 0).await;
	// The source has gone; the second one gets what the first one has.
	world.add_shelf(first_transfers.shelf.clone());
	let (_c, second) = store();
	let second_transfers = transfers(&second, &world);
	second_transfers
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	until(|| {
		let has = |t: &Transfers| t.progress(&manifest.id()).map_or(0, |p| p.done);
		let (first, second) = (has(&first_transfers), has(&second_transfers));
		first > 0 && first == second
	})
	.await;
	let why = || second_transfers.progress(&manifest.id()).unwrap().waits;
	until(|| why().is_some_and(|why| why.contains("what is missing"))).await;
	world.add(&source, Conduct::Honest);
	until(|| first.contains(manifest.id()) && second.contains(manifest.id())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_is_not_fetched_again_after_a_kill() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "resumed", &bytes(3, 8 * MIB));
	let left = Arc::new(AtomicU64::new(10));
	world.add(&source, Conduct::GoesAfter(left.clone()));
	let (_b, here) = store();
	let before = transfers(&here, &world);
	before
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	until(|| {
		before
			.progress(&manifest.id())
			.is_some_and(|p| p.fetched > 0)
	})
	.await;
	until(|| left.load(Ordering::SeqCst) == 0).await;
	// Another process fetches the same model into the same store: it waits for the lock, whoever holds it.
	let other = transfers(&here, &world);
	other
		.fetch(manifest.id(), &manifest.spec().unwrap())
		.unwrap();
	let waits = || other.progress(&manifest.id()).and_then(|p| p.waits);
	until(|| waits().is_some_and(|why| why.contains("another process"))).await;
	other.forget_task(manifest.id());
	let had = before.progress(&manifest.id()).unwrap().done;
	before.forget_task(manifest.id());
	left.store(1_000, Ordering::SeqCst);
	// What a kill in the middle of a write leaves.
	let torn = here
		.root()
		.join(format!(".fetch-{}", hex::encode(manifest.id().0)));
	let torn = torn.join("files/data/weights.bin");
	let mut content = fs::read(&torn).unwrap();
	content[5] ^= 1;
	fs::write(&torn, content).unwrap();
	world.given.lock().unwrap().clear();
	let after = transfers(&here, &world);
	fetched(&after, &here, &manifest).await;
	// All pieces but those that were there come, and the one that was torn.
	let pieces = consilience_store::Piece::of(&manifest).len();
	assert!(had > 0 && world.given() < pieces, "{had} {}", world.given());
	assert_eq!(world.given_twice(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_moves_only_what_is_new() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let old = bytes(4, 12 * MIB);
	// One more tensor near the beginning: all that is behind it is elsewhere.
	let mut new = old.clone();
	new.splice(MIB..MIB, bytes(5, 70_001));
	let first = import(&source, "version", &old);
	let second = import(&source, "version", &new);
	world.add(&source, Conduct::Honest);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &first).await;
	world.given.lock().unwrap().clear();
	fetched(&transfers, &here, &second).await;
	let pieces = consilience_store::Piece::of(&second).len();
	let moved = world.given();
	assert!(
		moved > 0 && moved * 100 < pieces * 15,
		"{moved} of {pieces}"
	);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pieces_travel_once() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "ones", &vec![1; 16 * MIB]);
	let peer = world.add(&source, Conduct::Honest);
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &manifest).await;
	// One mebibyte of ones, and the graph.
	assert_eq!(world.given_by(peer), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_busy_is_asked_again() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "busy", &bytes(6, 2 * MIB));
	world.add(&source, Conduct::BusyOften(Arc::default()));
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	fetched(&transfers, &here, &manifest).await;
	assert!(world.misdeeds().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_leaves_nothing() {
	let world = Arc::new(World::default());
	let (_a, source) = store();
	let manifest = import(&source, "forgotten", &bytes(7, 4 * MIB));
	let left = Arc::new(AtomicU64::new(3));
	world.add(&source, Conduct::GoesAfter(left.clone()));
	let (_b, here) = store();
	let transfers = transfers(&here, &world);
	transfers
		.fetch(id_of(&manifest), &manifest.spec().unwrap())
		.unwrap();
	until(|| left.load(Ordering::SeqCst) == 0).await;
	transfers.forget(manifest.id()).await;
	assert_eq!(fs::read_dir(here.root()).unwrap().count(), 0);
	assert!(transfers.progress(&manifest.id()).is_none());
}
