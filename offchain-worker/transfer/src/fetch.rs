//! One model is fetched: who has which piece, and who is asked for which.
//!
//! Pieces are asked for by rarity: what few have is fetched while they are there. A peer is asked for more at a time as long as it
//! answers, and for half as much after each refusal or failure, so that fast peers give most. A piece is asked of one peer at a
//! time, so that nothing arrives twice.

use std::{
	collections::{HashMap, HashSet},
	path::Path,
	sync::Arc,
	time::{Duration, Instant},
};

use consilience_primitives::{manifest::Manifest, model::ModelSpec, ModelId};
use consilience_store::{Partial, PieceError, Store, StoreError};
use futures::{future::BoxFuture, stream::FuturesUnordered, FutureExt, StreamExt};
use polkadot_sdk::{sc_network_types::PeerId, sp_core::H256, sp_crypto_hashing::blake2_256};
use rand::seq::SliceRandom;
use tokio::time::MissedTickBehavior;

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
/// A question for a piece that is open for longer does not count among [`ON_THEIR_WAY`].
const SLOW: Duration = Duration::from_secs(4);
/// A fetch ends, to be begun again, when for so long nobody could give anything.
const NOBODY: Duration = Duration::from_secs(30);
/// How often those that rest are looked at.
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
	/// Nobody has what is missing.
	#[error("no node that can be reached has what is missing; it goes on when one has it")]
	NoSource,
	/// The manifest is not one that can be fetched.
	#[error("its manifest is none that this node can use: {0}")]
	BadManifest(String),
	/// What is registered is not what the model is.
	#[error("what is registered on chain is not what the manifest says: its owner has to register it again")]
	NotWhatIsRegistered,
	/// It is more than the operator allows.
	#[error("{0}")]
	Limit(String),
	/// The disk is too small at present.
	#[error("{0}")]
	NoRoom(String),
	/// The disk.
	#[error(transparent)]
	Store(#[from] StoreError),
}

impl FetchError {
	/// Whether trying again is of no use.
	pub(crate) fn is_final(&self) -> bool {
		matches!(
			self,
			Self::NotWhatIsRegistered | Self::BadManifest(_) | Self::Limit(_)
		)
	}
}

/// What fetching needs.
pub(crate) struct Fetcher<N> {
	pub(crate) network: N,
	pub(crate) shelf: Arc<Shelf>,
	pub(crate) metrics: Metrics,
	/// Most bytes of all models of the store.
	pub(crate) quota: Option<u64>,
}

/// A peer.
struct Source {
	/// Which pieces it has; nothing before it answered.
	holds: Vec<bool>,
	/// It said that it has everything: it is not asked again what it has.
	is_whole: bool,
	/// When it was asked last what it has.
	asked: Instant,
	/// It has not answered that yet.
	is_asked: bool,
	/// Pieces it may be asked for at a time.
	window: usize,
	/// Pieces it is asked for.
	asked_for: usize,
	failures: u32,
	/// It is asked for nothing until then.
	rests: Option<Instant>,
}

impl Source {
	fn new() -> Self {
		Self {
			holds: Vec::new(),
			is_whole: false,
			asked: Instant::now(),
			is_asked: true,
			window: 1,
			asked_for: 0,
			failures: 0,
			rests: None,
		}
	}

	fn has(&self, piece: usize) -> bool {
		self.holds.get(piece).copied().unwrap_or(false)
	}

	fn rest(&mut self, time: Duration) {
		self.window = (self.window / 2).max(1);
		self.rests = Some(Instant::now() + time);
	}

	fn fails(&mut self) {
		let pause = FAILED.saturating_mul(1 << self.failures.min(6));
		self.failures += 1;
		self.rest(pause.min(LONGEST));
	}

	fn rests(&self) -> bool {
		self.rests.is_some_and(|until| until > Instant::now())
	}
}

enum Event {
	Peers(Vec<PeerId>),
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
	pieces: usize,
	sources: HashMap<PeerId, Source>,
	/// Peers that are asked no more.
	out: HashSet<PeerId>,
	missing: HashSet<usize>,
	/// Pieces that somebody is asked for, and since when.
	on_their_way: HashMap<usize, Instant>,
}

impl Round {
	/// How many could give something that is missing, or are asked for it.
	fn giving(&self) -> usize {
		let gives = |s: &&Source| {
			let has_more = || self.missing.iter().any(|piece| s.has(*piece));
			s.failures == 0 && (s.asked_for > 0 || (!s.holds.is_empty() && has_more()))
		};
		self.sources.values().filter(gives).count()
	}

	/// Pieces that may be asked for besides. Those whose peer does not come out with them keep nobody from the rest.
	fn room(&self) -> usize {
		let fresh = |since: &&Instant| since.elapsed() < SLOW;
		ON_THEIR_WAY.saturating_sub(self.on_their_way.values().filter(fresh).count())
	}

	/// Who is to be asked for which pieces now: peers that have failed least and are asked for least first, each for what fewest have.
	fn plan(&mut self) -> Vec<(PeerId, usize)> {
		let mut room = self.room();
		let free = |s: &Source| s.asked_for < s.window && !s.rests() && !s.holds.is_empty();
		if room == 0 || self.missing.is_empty() || !self.sources.values().any(free) {
			return Vec::new();
		}
		let mut holders = vec![0_u32; self.pieces];
		for source in self.sources.values() {
			for (count, holds) in holders.iter_mut().zip(&source.holds) {
				*count += u32::from(*holds);
			}
		}
		// Shuffled first, so that two that fetch the same do not fetch it in the same order.
		let mut rarest: Vec<usize> = self.missing.iter().copied().collect();
		rarest.shuffle(&mut rand::rng());
		rarest.sort_by_key(|piece| holders[*piece]);
		let mut plan = Vec::new();
		let mut peers: Vec<PeerId> = self.sources.keys().copied().collect();
		peers.sort_by_cached_key(|peer| self.sources.get(peer).map(|s| (s.failures, s.asked_for)));
		// Each in turn gets one more, until nobody can take another.
		let mut next = vec![0; peers.len()];
		let mut given = true;
		while room > 0 && given {
			given = false;
			for (peer, next) in peers.iter().zip(&mut next) {
				let Some(source) = self.sources.get_mut(peer).filter(|s| free(s)) else {
					continue;
				};
				let found = rarest[*next..]
					.iter()
					.position(|piece| source.has(*piece) && self.missing.contains(piece));
				let Some(found) = found else {
					*next = rarest.len();
					continue;
				};
				let piece = rarest[*next + found];
				*next += found + 1;
				source.asked_for += 1;
				self.missing.remove(&piece);
				self.on_their_way.insert(piece, Instant::now());
				plan.push((*peer, piece));
				room -= 1;
				given = true;
				if room == 0 {
					break;
				}
			}
		}
		plan
	}

	/// Notes who is there. Returns those that are to be asked what they have.
	fn meet(&mut self, peers: Vec<PeerId>) -> Vec<PeerId> {
		let here: HashSet<PeerId> = peers.iter().copied().collect();
		self.sources
			.retain(|peer, source| here.contains(peer) || source.asked_for > 0);
		let mut ask = Vec::new();
		for peer in peers {
			if self.out.contains(&peer) {
				continue;
			}
			let Some(source) = self.sources.get_mut(&peer) else {
				self.sources.insert(peer, Source::new());
				ask.push(peer);
				continue;
			};
			let may = !source.is_whole && !source.is_asked && !source.rests();
			if may && source.asked.elapsed() >= LOOK_AGAIN {
				(source.asked, source.is_asked) = (Instant::now(), true);
				ask.push(peer);
			}
		}
		ask
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
		let begun = store.clone();
		let known = blocking(move || Ok(begun.partial_manifest(model))).await?;
		let manifest = match known {
			// What is on the disk is hashed first, which takes long: not where nobody could give the rest.
			Some(_) if !self.has_anybody(model).await => return Err(FetchError::NoSource),
			Some(manifest) => manifest,
			None => self.manifest(model, progress).await?,
		};
		if let Err(error) = manifest.validate() {
			return Err(FetchError::BadManifest(error.to_string()));
		}
		if manifest.spec().ok().as_ref() != Some(spec) {
			return Err(FetchError::NotWhatIsRegistered);
		}
		let (shelf, quota, size) = (self.shelf.clone(), self.quota, manifest.size());
		let over =
			move || Ok(quota.and_then(|quota| over_quota(shelf.store(), model, size, quota)));
		if let Some(why) = blocking(over).await? {
			return Err(FetchError::Limit(why));
		}
		progress.says("looking at what is on the disk");
		let begun = store.clone();
		let (partial, have) = match blocking(move || begun.partial(manifest)).await {
			Err(FetchError::Store(StoreError::Damaged { why, .. })) => {
				return Err(FetchError::BadManifest(why))
			}
			other => other?,
		};
		let missing = partial
			.pieces()
			.iter()
			.zip(&have)
			.filter(|(_, have)| !**have);
		let missing: u64 = missing
			.map(|(piece, _)| piece.places.len() as u64 * u64::from(piece.chunk.length))
			.sum();
		check_room(store.root(), missing)?;
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

	/// Whether anybody has anything of a model.
	async fn has_anybody(&self, model: ModelId) -> bool {
		let peers = self.network.peers().await;
		let ask = |peer| self.network.ask(peer, Request::Holding(model));
		let mut answers = futures::stream::iter(peers)
			.map(ask)
			.buffer_unordered(4 * ASKED_TOGETHER);
		while let Some(answer) = answers.next().await {
			if matches!(answer, Ok(Response::All | Response::Some(_))) {
				return true;
			}
		}
		false
	}

	/// A model's manifest from whoever gives one that is right.
	pub(crate) async fn manifest(
		&self,
		model: ModelId,
		progress: &Watched,
	) -> Result<Manifest, FetchError> {
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
				// Whoever has it is not to blame.
				None => {
					return Err(FetchError::BadManifest(
						"it is of a version that this program does not read".into(),
					))
				}
			}
		}
		Err(FetchError::NoManifest(match asked {
			0 => "this node is connected to none".into(),
			1 => "one was asked".into(),
			n => format!("{n} were asked"),
		}))
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
			pieces: count,
			sources: HashMap::new(),
			out: HashSet::new(),
			missing: (0..count).filter(|p| !have[*p]).collect(),
			on_their_way: HashMap::new(),
		};
		for piece in self.copy_from_others(partial, &round.missing).await? {
			round.missing.remove(&piece);
			progress.copied(length(piece));
		}
		let mut working: FuturesUnordered<BoxFuture<'_, Event>> = FuturesUnordered::new();
		let look = || async { Event::Peers(self.network.peers().await) }.boxed();
		working.push(look());
		let mut tick = tokio::time::interval(TICK);
		tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
		let (mut looks, mut looked) = (true, Instant::now());
		let mut gave = Instant::now();
		while !round.missing.is_empty() || !round.on_their_way.is_empty() {
			for (peer, piece) in round.plan() {
				let ask = async move {
					Event::Piece(peer, piece, self.piece(partial, peer, piece).await)
				};
				working.push(ask.boxed());
			}
			tokio::select! {
				Some(event) = working.next() => match event {
					Event::Peers(peers) => {
						(looks, looked) = (false, Instant::now());
						for peer in round.meet(peers) {
							let ask = async move {
								let asked = Request::Holding(partial.id());
								Event::Holding(peer, self.network.ask(peer, asked).await)
							};
							working.push(ask.boxed());
						}
					}
					Event::Holding(peer, answer) => self.on_holding(peer, answer, &mut round),
					Event::Piece(peer, piece, outcome) => {
						self.on_piece(peer, piece, outcome, &mut round, partial, progress)?;
					}
				},
				_ = tick.tick() => {
					if !looks && looked.elapsed() >= LOOK_AGAIN {
						looks = true;
						working.push(look());
					}
					let giving = round.giving();
					if giving > 0 {
						gave = Instant::now();
					}
					// A peer that has just been asked for the first time may have it.
					let nobody = gave.elapsed() > LOOK_AGAIN;
					progress.sources(giving, nobody.then(|| FetchError::NoSource.to_string()));
					progress.ticks();
					if gave.elapsed() > NOBODY {
						return Err(FetchError::NoSource);
					}
				}
			}
		}
		Ok(())
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

	fn on_piece(
		&self,
		peer: PeerId,
		piece: usize,
		outcome: Outcome,
		round: &mut Round,
		partial: &Arc<Partial>,
		progress: &Watched,
	) -> Result<(), FetchError> {
		round.on_their_way.remove(&piece);
		if !matches!(outcome, Outcome::Kept) {
			round.missing.insert(piece);
		}
		let Some(source) = round.sources.get_mut(&peer) else {
			return Ok(());
		};
		source.asked_for -= 1;
		let misdeed = match outcome {
			Outcome::Kept => {
				let length = u64::from(partial.pieces()[piece].chunk.length);
				source.failures = 0;
				source.window = (source.window + 1).min(OF_ONE_PEER);
				self.metrics.fetched(length);
				self.shelf.arrived(partial.id(), piece);
				progress.fetched(length);
				return Ok(());
			}
			// It said that it has it.
			Outcome::Unknown => {
				if let Some(holds) = source.holds.get_mut(piece) {
					*holds = false;
				}
				source.is_whole = false;
				source.fails();
				return Ok(());
			}
			Outcome::Busy => {
				source.rest(BUSY);
				return Ok(());
			}
			Outcome::Failed(why) => {
				tracing::debug!(target: LOG_TARGET, "{:?}: {peer}: {why}", partial.id());
				source.fails();
				return Ok(());
			}
			Outcome::Disk(error) => return Err(error.into()),
			Outcome::Wrong(bytes) => {
				self.metrics.discarded(bytes);
				progress.discarded(bytes);
				Misdeed::WrongBytes
			}
			Outcome::Nonsense => Misdeed::Nonsense,
		};
		// What it was asked for besides is looked at when it comes: right is right.
		source.holds.clear();
		if round.out.insert(peer) {
			tracing::warn!(
				target: LOG_TARGET,
				"{:?}: {peer} gave bytes that are not what was asked for, and is asked for no more of it: {misdeed:?}",
				partial.id()
			);
			self.network.report(peer, misdeed);
		}
		Ok(())
	}

	fn on_holding(&self, peer: PeerId, answer: Result<Response, String>, round: &mut Round) {
		let pieces = round.pieces;
		let Some(source) = round.sources.get_mut(&peer) else {
			return;
		};
		source.is_asked = false;
		if round.out.contains(&peer) {
			return;
		}
		match answer {
			Ok(Response::All) => {
				source.holds = vec![true; pieces];
				source.is_whole = true;
			}
			Ok(Response::Some(bits)) if bits.len() == pieces.div_ceil(8) => {
				source.holds = flags(&bits, pieces);
			}
			Ok(Response::Unknown) => source.holds.clear(),
			Ok(Response::Busy) => (),
			Ok(_) => {
				round.out.insert(peer);
				source.holds.clear();
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
					// It has another length under the other model's hash, which BLAKE2b does not let happen.
					Err(PieceError::Wrong { .. }) => (),
				}
			}
			Ok(copied)
		})
		.await
	}
}

/// Why a model of this size is more than the operator allows, if it is. Others that arrive count as if they were there.
fn over_quota(store: &Store, model: ModelId, size: u64, quota: u64) -> Option<String> {
	let whole = store.list().unwrap_or_default();
	let mut used: u64 = whole.iter().map(|m| m.manifest.size()).sum();
	let parts = store.partials().unwrap_or_default();
	for part in parts.into_iter().filter(|part| *part != model) {
		used += store.partial_manifest(part).map_or(0, |m| m.size());
	}
	(used.saturating_add(size) > quota).then(|| {
		format!(
			"its {size} bytes and the {used} bytes of the models in the store are more than the {quota} bytes of --model-store-limit: \
			 raise it, or remove a model with `consilience model remove`"
		)
	})
}

/// Whether the disk has room for so many bytes more.
fn check_room(root: &Path, bytes: u64) -> Result<(), FetchError> {
	let free = match rustix::fs::statvfs(root) {
		Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
		Err(error) => {
			tracing::debug!(target: LOG_TARGET, "free space of {}: {error}", root.display());
			return Ok(());
		}
	};
	if bytes > 0 && free < bytes.saturating_add(LEFT_FREE) {
		return Err(FetchError::NoRoom(format!(
			"{bytes} bytes are missing, and the disk of {} has {free} left: make room, or name another disk with --model-store",
			root.display()
		)));
	}
	Ok(())
}

/// Runs what reads or writes much.
async fn blocking<T: Send + 'static>(
	work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, FetchError> {
	match tokio::task::spawn_blocking(work).await {
		Ok(done) => Ok(done?),
		Err(error) => match error.try_into_panic() {
			Ok(panic) => std::panic::resume_unwind(panic),
			// The node ends.
			Err(_) => std::future::pending().await,
		},
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
