//! The session lane's endpoint: a validator answers clients that come straight to it, checks what others answered, and settles on chain
//! (`docs/sessions.md`).
//!
//! It knows neither node nor ONNX Runtime: it sees the world through [`Chain`] and [`Engine`]. [`message`] is what it says to clients.
//!
//! # Answers
//!
//! A channel's questions to one executor come one after another: their numbers rise, and while an answer is being written another
//! question is told that it is busy. The *base* of a question is the amount of the last voucher that the executor holds (its offer shows
//! it), or what it has claimed on chain if that is more. The question's first voucher is over the base and the price of the prompt; one
//! that acknowledges `k` tokens is over the base and the price of the prompt and `k` tokens. A voucher that came with a question of which
//! nothing came is not held: the next one counts on from the one before. So receipts lie in a claim without a gap.
//!
//! - No more than [`SLICE_TOKENS`] are sent beyond what vouchers acknowledge, and none that the allotment cannot pay. The engine pauses
//!   there.
//! - A voucher that acknowledges less than the last, or the same again, does nothing.
//! - An answer ends where the model ends it; with the tokens that were sent ([`FinishReason::Length`]) when the client cancels, goes away,
//!   or does not pay in time, or the allotment is used up. Without a token nothing can be signed: a client that goes away before the
//!   first is waited for until that is written.
//! - The receipt is for *all tokens that were sent*. The last voucher can come after it, until the next question; of that one answer at
//!   most a slice can stay unpaid, which is never claimed: the leaf in the tree of money has the receipt's hash and what was *paid*.
//! - A client that lets slices go unpaid is refused until it pays the last answer: [`MAX_DEBT`] tokens of a channel are let pass, and one
//!   of [`FORGIVEN`] that were paid.
//! - A question with the same number and hash as one that was taken is the same: what was sent is sent again, and its end, without engine
//!   time. If it is still being written for a connection that is gone, it ends there.
//! - A question that no machine can answer, or that failed before its first token, has a number and no receipt: nothing is owed.
//! - Where all places are taken, clients wait in a line and are invited in the order in which they came (the module `line`). Nothing is paid
//!   for waiting, and a question without an invitation takes no place for which somebody waits.
//!
//! # Checks
//!
//! A validator checks what it did not answer, of models that it served at the anchor, and signs what it measured. One check of a channel
//! at a time, and none before the last is paid: the same one again gets the same verdict. A voucher for a check has the hash of the
//! verdict and is over all that was paid for checks before, and the price of this one.
//!
//! Checks are measured in the order in which they came. One that waits longer than [`Config::check_wait`] is refused.
//!
//! An answer that ended with [`FinishReason::Length`] is measured as that to a question for so many tokens: see [`measured_input`].
//!
//! # Settlement
//!
//! A claim is the last voucher of a run of answers, and the root over their receipts in the order of their numbers; a claim for checks the
//! same over verdicts, the leaf being a verdict's hash and price. The root's sum is the voucher's amount less what was claimed before. One
//! claim of a channel and service is under way at a time. Its leaves stand in the journal before it is submitted, and it is submitted
//! again, with the same root, until finalised state has it or its voucher has run out there. Then what it claimed is part of the next.
//!
//! The chain forgets certificates. Receipts of a session other than the one certified now are therefore signed again when a claim over
//! them is made, and stand in the journal with it. A receipt in a claim that the chain has, or can have, is never signed again.
//!
//! # What stands on disk
//!
//! Nothing is said or done that is not in the journal first (the module `journal`). Whatever instruction ends the process, no number is used twice, no
//! verdict or root, and no receipt of a session, is signed in two ways, and no voucher is lost that was acted on.
//!
//! **Architecture invariant:** before a voucher on a finalised allotment verifies, a peer costs no engine time, at most 64 KiB and [`Config::untrusted`]
//! of a connection; in the line, where it waits in a channel's name that sets something apart for this validator, [`Config::wait`], and
//! [`Config::invitation`] of a place.
//! **Architecture invariant:** sent ≤ paid + slice, of every answer at every time.
//!
//! [`FinishReason::Length`]: consilience_primitives::request::FinishReason::Length
//! [`measured_input`]: consilience_primitives::session::measured_input

mod certify;
mod chain;
mod checker;
mod connection;
mod engine;
mod executor;
mod journal;
mod key;
#[cfg(feature = "liars")]
mod lies;
mod limits;
mod line;
pub mod message;
mod metrics;
mod settle;
#[cfg(test)]
mod tests;
mod voucher;

use std::{
	collections::HashMap,
	future::Future,
	net::SocketAddr,
	path::PathBuf,
	sync::{atomic::AtomicU64, Arc, Mutex, MutexGuard},
	time::Duration,
};

use codec::{Decode, Encode};
use consilience_primitives::{
	model::Price,
	session::{ChannelId, LaneKey, Signable, Signed, MAX_ENDPOINT, SLICE_TOKENS},
	Bytes, ModelId,
};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use prometheus::Registry;
use tokio::{
	net::{TcpListener, TcpSocket},
	sync::{watch, Notify, Semaphore},
	task::JoinSet,
};

pub use chain::{Chain, ChainError, Channel, ClaimBounds, Heads, Model, Session, SignedClaim};
pub use engine::{Answering, Engine, EngineError, Piece, Place};
pub use journal::JournalError;
pub use key::KeyError;
#[cfg(feature = "liars")]
pub use lies::{Drawn, Lies};

use journal::Journal;
use limits::Addresses;
use line::Line;
use message::{AccountId, Balance, Refusal};
use metrics::Metrics;

/// Target of this crate's log lines.
pub const LOG_TARGET: &str = "lane";

/// Unpaid tokens of a channel that are let pass: connections break.
pub const MAX_DEBT: u32 = 4 * SLICE_TOKENS;

/// Of so many paid tokens another one may stay unpaid.
pub const FORGIVEN: u64 = 32;

/// Channels of which something is going on that are remembered before those of which nothing is are forgotten.
const SLOTS: usize = 1_024;

/// Channels whose state in a finalised block is remembered.
const VIEWS: usize = 4_096;

/// What waits in the kernel for a peer that does not read, in bytes.
const SEND_BUFFER: u32 = 128 << 10;

/// Connections that wait to be taken.
const BACKLOG: u32 = 128;

/// How the endpoint behaves.
#[derive(Clone, Debug)]
pub struct Config {
	/// Where it listens.
	pub listen: SocketAddr,
	/// Where its key and journal are.
	pub folder: PathBuf,
	/// The address that it certifies on chain: `ws://…` or `wss://…`.
	pub endpoint: Bytes<MAX_ENDPOINT>,
	/// Most connections.
	pub connections: usize,
	/// Most connections of one IPv4 address, or of one /64 of IPv6, whose peers have not shown yet that a channel is theirs.
	pub connections_per_address: usize,
	/// Most of those that have: over which a voucher has verified, or a place in the line. Those beyond count as strangers.
	pub known_per_address: usize,
	/// Most clients that wait for a place.
	pub waiting: usize,
	/// How long a client waits for a place.
	pub wait: Duration,
	/// How long a place is kept for whoever is invited to it.
	pub invitation: Duration,
	/// How often those who wait are told how many are before them.
	pub tell: Duration,
	/// Checks that are measured at a time.
	pub checks: usize,
	/// Checks that wait for one of these to end. Those beyond are refused.
	pub checks_waiting: usize,
	/// How long a check waits.
	pub check_wait: Duration,
	/// Time for a peer to say hello.
	pub handshake: Duration,
	/// A peer that is silent for this long is dropped. It is pinged before.
	pub idle: Duration,
	/// A peer that does not read for this long is dropped.
	pub send: Duration,
	/// How long an answer waits for the next voucher.
	pub pay: Duration,
	/// How long an answer waits for vouchers in all.
	pub pay_total: Duration,
	/// How long a connection lasts over which no voucher has verified, unless it waits for a place.
	pub untrusted: Duration,
	/// How long a question waits for its anchor to be finalised here too.
	pub anchor: Duration,
	/// Least amount that is claimed, unless it would be lost.
	pub minimum: Balance,
	/// Blocks after which what the chain has not taken is submitted again.
	pub resubmit: u32,
	/// How it lies; not at all where there is nothing.
	#[cfg(feature = "liars")]
	pub lies: Option<Arc<dyn Lies>>,
}

impl Config {
	/// An endpoint that listens there, has its files there and is reached there.
	pub const fn new(listen: SocketAddr, folder: PathBuf, endpoint: Bytes<MAX_ENDPOINT>) -> Self {
		Self {
			listen,
			folder,
			endpoint,
			connections: 1_024,
			connections_per_address: 64,
			known_per_address: 512,
			waiting: 512,
			wait: Duration::from_secs(600),
			invitation: Duration::from_secs(2),
			tell: Duration::from_secs(10),
			checks: 4,
			checks_waiting: 256,
			check_wait: Duration::from_secs(240),
			handshake: Duration::from_secs(10),
			idle: Duration::from_secs(60),
			send: Duration::from_secs(20),
			pay: Duration::from_secs(30),
			pay_total: Duration::from_secs(60),
			untrusted: Duration::from_secs(60),
			anchor: Duration::from_secs(6),
			minimum: 0,
			resubmit: 10,
			#[cfg(feature = "liars")]
			lies: None,
		}
	}
}

/// Why the lane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
	/// The folder cannot be made.
	#[error("{}: {}", .0.display(), .1)]
	Folder(PathBuf, std::io::Error),
	/// The lane key.
	#[error(transparent)]
	Key(#[from] KeyError),
	/// The journal.
	#[error(transparent)]
	Journal(#[from] JournalError),
	/// The address cannot be listened on.
	#[error("the session lane cannot listen on {0}: {1}")]
	Listen(SocketAddr, std::io::Error),
	/// The metrics.
	#[error("metrics: {0}")]
	Metrics(#[from] prometheus::Error),
}

/// Something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Refusal, pub(crate) String);

impl Refused {
	pub(crate) fn new(why: Refusal, words: impl Into<String>) -> Self {
		Self(why, words.into())
	}
}

impl From<ChainError> for Refused {
	fn from(e: ChainError) -> Self {
		tracing::warn!(target: LOG_TARGET, "the chain cannot be read: {e}");
		Self::new(Refusal::Failed, "the chain cannot be read here")
	}
}

impl From<JournalError> for Refused {
	fn from(e: JournalError) -> Self {
		tracing::warn!(target: LOG_TARGET, "{e}");
		Self::new(Refusal::Failed, "nothing can be written down here")
	}
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
	shared.lock().unwrap_or_else(|e| e.into_inner())
}

/// Tasks that end with the lane.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
	pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
		let mut tasks = lock(&self.0);
		while tasks.try_join_next().is_some() {}
		tasks.spawn(task);
	}

	async fn end(&self) {
		let mut tasks = std::mem::take(&mut *lock(&self.0));
		tasks.shutdown().await;
	}
}

/// Ends all tasks, also where the lane's future is dropped.
struct Ends(Tasks);

impl Drop for Ends {
	fn drop(&mut self) {
		lock(&self.0 .0).abort_all();
	}
}

/// What goes on for a channel.
#[derive(Default)]
pub(crate) struct Slot {
	/// Held by whoever changes what stands in the journal about its answers: as long as one is written.
	pub(crate) answers: Arc<tokio::sync::Mutex<()>>,
	/// Held by whoever changes what stands there about its checks.
	pub(crate) checks: Arc<tokio::sync::Mutex<()>>,
	/// Hash of the question whose answer is being written.
	pub(crate) running: Mutex<Option<H256>>,
	/// Ends the answer that is being written.
	pub(crate) cut: Notify,
}

/// Who this validator is in the lane.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Identity {
	/// Its account.
	pub(crate) account: AccountId,
	/// Its lane key.
	pub(crate) key: LaneKey,
	/// The last session in which this key was certified.
	pub(crate) session: Option<u32>,
}

/// Channels as they stand in a finalised block.
#[derive(Default)]
struct Views {
	at: H256,
	channels: HashMap<ChannelId, Option<Channel>>,
}

/// Models, and their prices.
type Served = Arc<[(ModelId, Price<Balance>)]>;

/// What all parts share.
pub(crate) struct Shared {
	pub(crate) config: Config,
	pub(crate) chain: Arc<dyn Chain>,
	pub(crate) engine: Arc<dyn Engine>,
	pub(crate) journal: Journal,
	pub(crate) metrics: Metrics,
	pub(crate) genesis: H256,
	pub(crate) pair: sr25519::Pair,
	pub(crate) identity: watch::Sender<Option<Identity>>,
	pub(crate) tasks: Tasks,
	pub(crate) measuring: Semaphore,
	/// Places for checks that are measured or wait for that.
	pub(crate) checking: Arc<Semaphore>,
	/// Places for answers, and who waits for them.
	pub(crate) line: Arc<Line>,
	/// Counts checks that came to be measured, and those whose wait for that is over.
	pub(crate) checks_asked: AtomicU64,
	pub(crate) checks_begun: AtomicU64,
	views: tokio::sync::Mutex<Views>,
	/// The session, and where the chain was then.
	session: tokio::sync::Mutex<Option<(Heads, Session)>>,
	/// What this validator serves, and the finalised block that this is asked for at.
	served: tokio::sync::Mutex<Option<(H256, Served)>>,
	slots: Mutex<HashMap<ChannelId, Arc<Slot>>>,
	/// Told where all places for connections are taken: one that is only kept gives way.
	pub(crate) crowded: Notify,
}

impl Shared {
	/// What goes on for a channel.
	pub(crate) fn slot(&self, channel: ChannelId) -> Arc<Slot> {
		let mut slots = lock(&self.slots);
		if slots.len() >= SLOTS {
			slots.retain(|_, slot| Arc::strong_count(slot) > 1);
		}
		slots.entry(channel).or_default().clone()
	}

	/// What this validator serves. The chain is asked once for each finalised block: everybody who connects wants to know.
	pub(crate) async fn served(&self) -> Result<Served, ChainError> {
		let at = self.chain.heads().borrow().finalised.hash;
		let mut known = self.served.lock().await;
		if let Some((_, served)) = known.as_ref().filter(|(of, _)| *of == at) {
			return Ok(served.clone());
		}
		let served: Served = self.chain.serves().await?.into();
		*known = Some((at, served.clone()));
		Ok(served)
	}

	/// A channel as it stands in the last finalised block. The chain is asked once for each channel and block, and for one at a time.
	pub(crate) async fn view(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		let at = self.chain.heads().borrow().finalised.hash;
		let mut views = self.views.lock().await;
		if views.at != at {
			views.at = at;
			views.channels.clear();
		}
		if let Some(channel) = views.channels.get(&id) {
			return Ok(channel.clone());
		}
		let channel = self.chain.channel(id).await?;
		// Strangers may name any.
		if views.channels.len() < VIEWS {
			views.channels.insert(id, channel.clone());
		}
		Ok(channel)
	}

	/// The session, for whoever only wants to know what is offered. The chain is asked once for each block.
	pub(crate) async fn recent_session(&self) -> Result<Session, ChainError> {
		let heads = *self.chain.heads().borrow();
		let mut known = self.session.lock().await;
		if let Some((_, session)) = known.as_ref().filter(|(at, _)| *at == heads) {
			return Ok(*session);
		}
		let session = self.chain.session().await?;
		*known = Some((heads, session));
		Ok(session)
	}

	/// How this validator lies.
	#[cfg(feature = "liars")]
	pub(crate) fn lies(&self) -> &dyn Lies {
		self.config.lies.as_deref().unwrap_or(&lies::Honest)
	}

	/// Signs with the lane key.
	pub(crate) fn sign<T: Signable>(&self, body: T) -> Signed<T> {
		Signed {
			signature: self.pair.sign(&body.payload(&self.genesis)),
			body,
		}
	}

	/// Who this is, and a session in which its signatures are worth something now.
	pub(crate) fn signer(&self, session: &Session) -> Result<(AccountId, u32), Refused> {
		let identity = self.identity.borrow().clone();
		let known = identity.and_then(|i| Some((i.account, i.session?)));
		known
			.filter(|(_, certified)| certified.saturating_add(1) >= session.index)
			.ok_or_else(|| {
				Refused::new(
					Refusal::Failed,
					"its key is not certified on chain in this session",
				)
			})
	}
}

/// The endpoint, while it runs.
#[derive(Clone)]
pub struct Handle {
	address: SocketAddr,
	key: LaneKey,
	stop: watch::Sender<bool>,
	#[cfg(test)]
	fuse: Arc<journal::Fuse>,
	#[cfg(test)]
	identity: watch::Receiver<Option<Identity>>,
}

impl Handle {
	/// Where it listens.
	pub const fn address(&self) -> SocketAddr {
		self.address
	}

	/// Its lane key.
	pub const fn key(&self) -> LaneKey {
		self.key
	}

	/// Ends it at once. Its future is ready when everything has ended and the journal is closed.
	pub fn stop(&self) {
		self.stop.send_replace(true);
	}
}

/// The endpoint.
pub struct Lane;

impl Lane {
	/// Opens the journal and begins to listen. The future is the endpoint itself: it runs until it is dropped or stopped.
	///
	/// # Errors
	/// If the key or the journal cannot be used, or the address is taken.
	pub async fn start(
		config: Config,
		chain: Arc<dyn Chain>,
		engine: Arc<dyn Engine>,
		registry: Option<&Registry>,
	) -> Result<(Handle, impl Future<Output = ()> + Send + 'static), StartError> {
		let (shared, listener) = prepare(config, chain, engine, registry).await?;
		let address = listener
			.local_addr()
			.map_err(|e| StartError::Listen(shared.config.listen, e))?;
		let (stop, stopped) = watch::channel(false);
		let handle = Handle {
			address,
			key: shared.pair.public(),
			stop,
			#[cfg(test)]
			fuse: shared.journal.fuse.clone(),
			#[cfg(test)]
			identity: shared.identity.subscribe(),
		};
		tracing::info!(target: LOG_TARGET, "the session lane listens on {address}");
		Ok((handle, run(shared, listener, stopped)))
	}
}

async fn prepare(
	config: Config,
	chain: Arc<dyn Chain>,
	engine: Arc<dyn Engine>,
	registry: Option<&Registry>,
) -> Result<(Arc<Shared>, TcpListener), StartError> {
	let folder = &config.folder;
	std::fs::create_dir_all(folder).map_err(|e| StartError::Folder(folder.clone(), e))?;
	let pair = key::load(&folder.join("lane.key"))?;
	let journal = Journal::open(&folder.join("lane.redb"))?;
	let listener = listen(config.listen).map_err(|e| StartError::Listen(config.listen, e))?;
	// What was certified of another key is nothing that this one can sign under.
	let identity = journal.identity()?.map(|known| Identity {
		session: known.session.filter(|_| known.key == pair.public()),
		key: pair.public(),
		..known
	});
	let metrics = Metrics::register(registry)?;
	let line = Line::new(
		engine.clone(),
		config.waiting,
		config.invitation,
		metrics.clone(),
	);
	let shared = Arc::new(Shared {
		genesis: chain.genesis(),
		metrics,
		line,
		checks_asked: AtomicU64::default(),
		checks_begun: AtomicU64::default(),
		views: tokio::sync::Mutex::default(),
		session: tokio::sync::Mutex::default(),
		identity: watch::Sender::new(identity),
		tasks: Tasks::default(),
		measuring: Semaphore::new(config.checks),
		checking: Arc::new(Semaphore::new(
			config.checks.saturating_add(config.checks_waiting),
		)),
		served: tokio::sync::Mutex::default(),
		slots: Mutex::default(),
		crowded: Notify::new(),
		journal,
		pair,
		chain,
		engine,
		config,
	});
	Ok((shared, listener))
}

/// Listens, for connections that have as little waiting in the kernel as the lane itself keeps.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
	let socket = if address.is_ipv4() {
		TcpSocket::new_v4()?
	} else {
		TcpSocket::new_v6()?
	};
	socket.set_reuseaddr(true)?;
	socket.set_send_buffer_size(SEND_BUFFER)?;
	socket.bind(address)?;
	socket.listen(BACKLOG)
}

async fn run(shared: Arc<Shared>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
	let _ends = Ends(shared.tasks.clone());
	shared.tasks.spawn(certify::run(shared.clone()));
	shared.tasks.spawn(shared.line.clone().run());
	shared.tasks.spawn(settle::run(shared.clone()));
	tokio::select! {
		() = accept(&shared, listener) => (),
		// Whoever has let go of the handle leaves the lane running.
		() = async {
			if stopped.wait_for(|stop| *stop).await.is_err() {
				std::future::pending::<()>().await;
			}
		} => (),
	}
	shared.tasks.end().await;
	if let Ok(shared) = Arc::try_unwrap(shared) {
		shared.journal.closed().await;
	}
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener) {
	let all = Arc::new(Semaphore::new(shared.config.connections));
	let config = &shared.config;
	let addresses = Addresses::new(config.connections_per_address, config.known_per_address);
	loop {
		if all.available_permits() == 0 {
			shared.crowded.notify_one();
		}
		// Never closed. Those who come while all places are taken wait in the kernel's queue, and are dropped there.
		let Ok(place) = all.clone().acquire_owned().await else {
			return;
		};
		match listener.accept().await {
			Ok((tcp, from)) => {
				let Some(counted) = addresses.count(from.ip()) else {
					continue;
				};
				let lane = shared.clone();
				shared.tasks.spawn(async move {
					let _open = lane.metrics.connection();
					connection::serve(lane.clone(), tcp, counted).await;
					drop(place);
				});
			}
			Err(error) => {
				// Out of files, most likely.
				tracing::warn!(target: LOG_TARGET, "a connection is not taken: {error}");
				tokio::time::sleep(Duration::from_millis(100)).await;
			}
		}
	}
}
