//! One model is fetched: who has which piece, and who is asked for which.
//!
//! Pieces are asked for by rarity: what few have is fetched while they are there. A peer is asked for more at a time as long as it
//! answers, and for half as much after each refusal or failure, so that fast peers give most. A piece is asked of one peer at a
//! time, so that nothing arrives twice.

use std::{
	collections::{HashMap, HashSet},
	sync::Arc,
	time::{Duration, Instant},
};

use consilience_primitives::{manifest::Manifest, model::ModelSpec, ModelId};
use consilience_store::{Partial, PieceError, StoreError};
use futures::{future::BoxFuture, stream::FuturesUnordered, FutureExt, StreamExt};
use polkadot_sdk::{sc_network_types::PeerId, sp_core::H256, sp_crypto_hashing::blake2_256};
use rand::seq::IndexedRandom;

use crate::{
	message::{flags, read, Request, Response},
	metrics::Metrics,
	network::{Misdeed, Network},
	progress::Watched,
	shelf::Shelf,
	LOG_TARGET,
};

/// Pieces on their way at a time, which is what a transfer holds in memory: with what the network keeps of them, less than 64 MiB.
const ON_THEIR_WAY: usize = 24;
/// Those that one peer is asked for.
const OF_ONE_PEER: usize = 8;
/// How often it is looked whether somebody can be asked again.
const TICK: Duration = Duration::from_millis(250);
/// How often peers are looked for, and those that have a part are asked what they have.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pause of a peer that was busy.
const BUSY: Duration = Duration::from_millis(500);
/// Pause of a peer that failed once; twice as long each time.
const FAILED: Duration = Duration::from_secs(1);
/// Longest pause of a peer that fails.
const LONGEST: Duration = Duration::from_secs(32);
/// Peers that are asked for a manifest at a time.
const ASKED_TOGETHER: usize = 4;
/// Bytes of a disk that are left free.
const LEFT_FREE: u64 = 256 << 20;

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
	/// Nobody gave its manifest.
	#[error("no node gave its manifest: {0}. It goes on as soon as one that has the model can be reached")]
	NoManifest(String),
	/// What is registered is not what the model is.
	#[error("what is registered on chain is not what the manifest says: its owner has to register it again")]
	NotWhatIsRegistered,
	/// The disk is too small, or the operator's limit.
	#[error("{0}")]
	NoRoom(String),
	/// The disk.
	#[error(transparent)]
	Store(#[from] StoreError),
}

impl FetchError {
	/// Whether trying again is of no use.
	pub(crate) fn is_final(&self) -> bool {
		matches!(self, Self::NotWhatIsRegistered)
	}
}

/// What fetching needs.
pub(crate) struct Fetcher<N> {
	pub(crate) network: Arc<N>,
	pub(crate) shelf: Arc<Shelf>,
	pub(crate) metrics: Metrics,
	/// Most bytes of all models of the store.
	pub(crate) quota: Option<u64>,
}

/// A peer.
struct Source {
	holds: Vec<bool>,
	/// It has everything, or nothing of it is known to be missing for long.
	is_whole: bool,
	/// When it was asked last what it has.
	asked: Instant,
	/// Pieces it may be asked for at a time.
	window: usize,
	/// Pieces it is asked for.
	asked_for: usize,
	failures: u32,
	/// It is asked for nothing until then.
	rests: Option<Instant>,
}

impl Source {
	fn rest(&mut self, time: Duration) {
		self.window = (self.window / 2).max(1);
		self.rests = Some(Instant::now() + time);
	}

	fn fails(&mut self) {
		let pause = FAILED.saturating_mul(1 << self.failures.min(6));
		self.failures += 1;
		self.rest(pause.min(LONGEST));
	}

	fn can_be_asked(&self) -> bool {
		self.asked_for < self.window && self.rests.is_none_or(|until| until <= Instant::now())
	}
}

enum Event {
	Holding(PeerId, Result<Response, String>),
	Piece(PeerId, usize, Outcome),
}

/// What came of a question for a piece.
enum Outcome {
	Kept,
	/// The bytes are not what the hash says: so many.
	Wrong(u64),
	Nonsense,
	Unknown,
	Busy,
	Failed(String),
	Disk(StoreError),
}

/// The pieces that are missing, and who could give them.
struct Round {
	sources: HashMap<PeerId, Source>,
	/// Peers that are never asked again.
	out: HashSet<PeerId>,
	missing: HashSet<usize>,
	on_their_way: HashSet<usize>,
}

impl Round {
	/// How many hold each piece.
	fn holders(&self, pieces: usize) -> Vec<u32> {
		let mut holders = vec![0; pieces];
		for source in self.sources.values() {
			for (count, holds) in holders.iter_mut().zip(&source.holds) {
				*count += u32::from(*holds);
			}
		}
		holders
	}

	/// How many give, or could give, something that is missing.
	fn giving(&self) -> usize {
		let gives = |s: &&Source| {
			let has_more = || self.missing.iter().any(|piece| s.holds[*piece]);
			s.failures == 0 && (s.asked_for > 0 || has_more())
		};
		self.sources.values().filter(gives).count()
	}

	/// Who is to be asked for which piece next: of a peer with a free place, the piece that fewest hold.
	fn next(&self, pieces: usize) -> Option<(PeerId, usize)> {
		if self.on_their_way.len() >= ON_THEIR_WAY {
			return None;
		}
		let free = self.sources.iter().filter(|(_, s)| s.can_be_asked());
		let mut free: Vec<_> = free.collect();
		free.sort_by_key(|(_, s)| s.asked_for);
		if free.is_empty() {
			return None;
		}
		let holders = self.holders(pieces);
		for (peer, source) in free {
			let here: Vec<usize> = self
				.missing
				.iter()
				.copied()
				.filter(|piece| source.holds[*piece])
				.collect();
			let Some(fewest) = here.iter().map(|piece| holders[*piece]).min() else {
				continue;
			};
			let rarest: Vec<usize> = here
				.into_iter()
				.filter(|piece| holders[*piece] == fewest)
				.collect();
			if let Some(piece) = rarest.choose(&mut rand::rng()) {
				return Some((*peer, *piece));
			}
		}
		None
	}
}

impl<N: Network> Fetcher<N> {
	/// Fetches a model that the chain describes so. May be dropped at any time; what there is stays.
	pub(crate) async fn fetch(
		&self,
		model: ModelId,
		spec: &ModelSpec,
		progress: &Watched,
	) -> Result<(), FetchError> {
		let store = self.shelf.store().clone();
		if store.contains(model) {
			return Ok(());
		}
		let manifest = match store.partial_manifest(model) {
			Some(manifest) => manifest,
			None => self.manifest(model, progress).await?,
		};
		if manifest.spec().ok().as_ref() != Some(spec) {
			return Err(FetchError::NotWhatIsRegistered);
		}
		self.check_room(&manifest)?;
		progress.says("looking at what is on the disk");
		let begun = store.clone();
		let (partial, have) = blocking(move || begun.partial(manifest)).await?;
		let partial = Arc::new(partial);
		self.shelf.arrives(partial.clone(), have.clone());
		let fetched = self.pieces(&partial, have, progress).await;
		self.shelf.ends(model);
		fetched?;
		progress.says("writing to the disk");
		// Uploads of its pieces may be reading still: they keep it open for a moment.
		let partial = sole(partial).await;
		blocking(move || partial.finish()).await?;
		self.shelf.ends(model);
		Ok(())
	}

	/// A model's manifest from whoever gives one that is right.
	async fn manifest(&self, model: ModelId, progress: &Watched) -> Result<Manifest, FetchError> {
		progress.says("asking for the manifest");
		let peers = self.network.peers().await;
		let asked = peers.len();
		let ask =
			|peer| async move { (peer, self.network.ask(peer, Request::Manifest(model)).await) };
		let mut answers = futures::stream::iter(peers)
			.map(ask)
			.buffer_unordered(ASKED_TOGETHER);
		while let Some((peer, answer)) = answers.next().await {
			let bytes = match answer {
				Ok(Response::Manifest(bytes)) => bytes,
				Ok(Response::Unknown | Response::Busy) => continue,
				Ok(_) => {
					self.network.report(peer, Misdeed::Nonsense);
					continue;
				}
				Err(why) => {
					tracing::debug!(target: LOG_TARGET, "{model:?}: {peer}: {why}");
					continue;
				}
			};
			// The id is the hash of these bytes: nothing reads them before that is known.
			if H256(blake2_256(&bytes)) != model {
				self.metrics.discarded(bytes.len() as u64);
				self.network.report(peer, Misdeed::WrongBytes);
				continue;
			}
			match read::<Manifest>(&bytes) {
				Some(manifest) => return Ok(manifest),
				// Another version of the format; whoever has it is not to blame.
				None => return Err(FetchError::NotWhatIsRegistered),
			}
		}
		Err(FetchError::NoManifest(match asked {
			0 => "this node is connected to none".into(),
			1 => "one was asked".into(),
			n => format!("{n} were asked"),
		}))
	}

	/// Whether there is room for a model.
	fn check_room(&self, manifest: &Manifest) -> Result<(), FetchError> {
		let store = self.shelf.store();
		if let Some(quota) = self.quota {
			let others = store.list()?;
			let used: u64 = others.iter().map(|m| m.manifest.size()).sum();
			if used.saturating_add(manifest.size()) > quota {
				return Err(FetchError::NoRoom(format!(
					"its {} bytes and the {used} bytes of the models in the store are more than the {quota} bytes of --model-store-limit: \
					 raise it, or remove a model with `consilience model remove`",
					manifest.size()
				)));
			}
		}
		let free = match rustix::fs::statvfs(store.root()) {
			Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
			Err(error) => {
				tracing::debug!(target: LOG_TARGET, "free space of {}: {error}", store.root().display());
				return Ok(());
			}
		};
		if free < manifest.size().saturating_add(LEFT_FREE) {
			return Err(FetchError::NoRoom(format!(
				"it has {} bytes, and the disk of {} has {free} left: make room, or name another disk with --model-store",
				manifest.size(),
				store.root().display()
			)));
		}
		Ok(())
	}

	/// Fetches what is missing.
	async fn pieces(
		&self,
		partial: &Arc<Partial>,
		have: Vec<bool>,
		progress: &Watched,
	) -> Result<(), FetchError> {
		let count = partial.pieces().len();
		let length = |piece: usize| u64::from(partial.pieces()[piece].chunk.length);
		let here = (0..count).filter(|p| have[*p]).map(length).sum();
		progress.begins((0..count).map(length).sum(), here);
		let mut round = Round {
			sources: HashMap::new(),
			out: HashSet::new(),
			missing: (0..count).filter(|p| !have[*p]).collect(),
			on_their_way: HashSet::new(),
		};
		for piece in self.copy_from_others(partial, &round.missing).await? {
			round.missing.remove(&piece);
			progress.copied(length(piece));
		}
		let mut working: FuturesUnordered<BoxFuture<'_, Event>> = FuturesUnordered::new();
		let mut tick = tokio::time::interval(TICK);
		let mut looked: Option<Instant> = None;
		while !round.missing.is_empty() || !round.on_their_way.is_empty() {
			if looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
				looked = Some(Instant::now());
				for peer in self.to_ask(&mut round, count).await {
					let ask = async move {
						let asked = Request::Holding(partial.id());
						Event::Holding(peer, self.network.ask(peer, asked).await)
					};
					working.push(ask.boxed());
				}
			}
			while let Some((peer, piece)) = round.next(count) {
				round.missing.remove(&piece);
				round.on_their_way.insert(piece);
				if let Some(source) = round.sources.get_mut(&peer) {
					source.asked_for += 1;
				}
				let ask = async move {
					Event::Piece(peer, piece, self.piece(partial, peer, piece).await)
				};
				working.push(ask.boxed());
			}
			progress.sources(round.giving());
			tokio::select! {
				Some(event) = working.next() => {
					self.on_event(event, &mut round, partial, progress)?;
				}
				_ = tick.tick() => progress.ticks(),
			}
		}
		Ok(())
	}

	/// Peers that are to be asked what they have.
	async fn to_ask(&self, round: &mut Round, pieces: usize) -> Vec<PeerId> {
		let now = Instant::now();
		let mut ask = Vec::new();
		for peer in self.network.peers().await {
			if round.out.contains(&peer) {
				continue;
			}
			match round.sources.get_mut(&peer) {
				None => {
					round.sources.insert(
						peer,
						Source {
							holds: vec![false; pieces],
							is_whole: false,
							asked: now,
							window: 2,
							asked_for: 0,
							failures: 0,
							rests: None,
						},
					);
					ask.push(peer);
				}
				Some(source) => {
					let rests = source.rests.is_some_and(|until| until > now);
					if !source.is_whole && !rests && source.asked.elapsed() >= LOOK_AGAIN {
						source.asked = now;
						ask.push(peer);
					}
				}
			}
		}
		ask
	}

	/// Asks a peer for a piece, and keeps it.
	async fn piece(&self, partial: &Arc<Partial>, peer: PeerId, piece: usize) -> Outcome {
		let hash = partial.pieces()[piece].chunk.hash;
		let bytes = match self.network.ask(peer, Request::Piece(hash)).await {
			Ok(Response::Piece(bytes)) => bytes,
			Ok(Response::Unknown) => return Outcome::Unknown,
			Ok(Response::Busy) => return Outcome::Busy,
			Ok(_) => return Outcome::Nonsense,
			Err(why) => return Outcome::Failed(why),
		};
		let kept = partial.clone();
		match tokio::task::spawn_blocking(move || kept.put(piece, &bytes)).await {
			Ok(Ok(())) => Outcome::Kept,
			Ok(Err(PieceError::Wrong { length, .. })) => Outcome::Wrong(length as u64),
			Ok(Err(PieceError::Store(error))) => Outcome::Disk(error),
			Err(error) => Outcome::Failed(error.to_string()),
		}
	}

	fn on_event(
		&self,
		event: Event,
		round: &mut Round,
		partial: &Arc<Partial>,
		progress: &Watched,
	) -> Result<(), FetchError> {
		let (peer, piece, outcome) = match event {
			Event::Piece(peer, piece, outcome) => (peer, piece, outcome),
			Event::Holding(peer, answer) => {
				self.on_holding(peer, answer, round, partial.pieces().len());
				return Ok(());
			}
		};
		round.on_their_way.remove(&piece);
		let kept = matches!(outcome, Outcome::Kept);
		if !kept {
			round.missing.insert(piece);
		}
		let Some(source) = round.sources.get_mut(&peer) else {
			return Ok(());
		};
		source.asked_for -= 1;
		let mut misdeed = None;
		match outcome {
			Outcome::Kept => {
				let length = u64::from(partial.pieces()[piece].chunk.length);
				source.failures = 0;
				source.window = (source.window + 1).min(OF_ONE_PEER);
				self.metrics.fetched(length);
				self.shelf.arrived(partial.id(), piece);
				progress.fetched(length);
			}
			Outcome::Unknown => {
				source.holds[piece] = false;
				source.is_whole = false;
			}
			Outcome::Busy => source.rest(BUSY),
			Outcome::Failed(why) => {
				tracing::debug!(target: LOG_TARGET, "{:?}: {peer}: {why}", partial.id());
				source.fails();
			}
			Outcome::Wrong(bytes) => {
				self.metrics.discarded(bytes);
				progress.discarded(bytes);
				misdeed = Some(Misdeed::WrongBytes);
			}
			Outcome::Nonsense => misdeed = Some(Misdeed::Nonsense),
			Outcome::Disk(error) => return Err(error.into()),
		}
		if let Some(misdeed) = misdeed {
			// What it was asked for besides is looked at when it comes: right is right.
			source.holds.fill(false);
			source.is_whole = true;
			if round.out.insert(peer) {
				tracing::warn!(
					target: LOG_TARGET,
					"{:?}: {peer} gave bytes that are not what was asked for, and is asked no more: {misdeed:?}",
					partial.id()
				);
				self.network.report(peer, misdeed);
			}
		}
		Ok(())
	}

	fn on_holding(
		&self,
		peer: PeerId,
		answer: Result<Response, String>,
		round: &mut Round,
		pieces: usize,
	) {
		let Some(source) = round.sources.get_mut(&peer) else {
			return;
		};
		if round.out.contains(&peer) {
			return;
		}
		match answer {
			Ok(Response::All) => {
				source.holds = vec![true; pieces];
				source.is_whole = true;
			}
			Ok(Response::Some(bits)) => source.holds = flags(&bits, pieces),
			Ok(Response::Unknown) => source.holds = vec![false; pieces],
			Ok(Response::Busy) => (),
			Ok(_) => {
				round.out.insert(peer);
				source.holds = vec![false; pieces];
				self.network.report(peer, Misdeed::Nonsense);
			}
			Err(why) => {
				tracing::debug!(target: LOG_TARGET, "{peer}: {why}");
				source.fails();
			}
		}
	}

	/// Takes what other models of the store have already.
	async fn copy_from_others(
		&self,
		partial: &Arc<Partial>,
		missing: &HashSet<usize>,
	) -> Result<Vec<usize>, FetchError> {
		let (shelf, partial, metrics) = (self.shelf.clone(), partial.clone(), self.metrics.clone());
		let missing: Vec<usize> = missing.iter().copied().collect();
		blocking(move || {
			let mut copied = Vec::new();
			for piece in missing {
				let Some(bytes) = shelf.piece(partial.pieces()[piece].chunk.hash) else {
					continue;
				};
				match partial.put(piece, &bytes) {
					Ok(()) => {
						shelf.arrived(partial.id(), piece);
						metrics.copied(bytes.len() as u64);
						copied.push(piece);
					}
					Err(PieceError::Store(error)) => return Err(error),
					// Two lengths under one hash: the manifest contradicts itself, and nobody can give this piece.
					Err(PieceError::Wrong { .. }) => (),
				}
			}
			Ok(copied)
		})
		.await
	}
}

/// Runs what reads or writes much.
async fn blocking<T: Send + 'static>(
	work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, FetchError> {
	match tokio::task::spawn_blocking(work).await {
		Ok(done) => Ok(done?),
		Err(panic) => std::panic::resume_unwind(panic.into_panic()),
	}
}

/// Waits until nobody else uses it.
async fn sole<T>(mut shared: Arc<T>) -> T {
	loop {
		match Arc::try_unwrap(shared) {
			Ok(sole) => return sole,
			Err(still) => {
				shared = still;
				tokio::time::sleep(Duration::from_millis(5)).await;
			}
		}
	}
}
