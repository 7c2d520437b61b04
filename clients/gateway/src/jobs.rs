//! Requests from the call that asks for them to their end on chain.
//!
//! A request has a task of its own that outlives the call: a client that hangs up changes nothing on chain, and what its key is charged
//! is known only when the request is settled. What is sent is in the journal before; after a restart every open request is found again by
//! its ticket and followed to its end.

use std::{
	collections::HashMap,
	sync::{
		atomic::{AtomicU64, Ordering},
		Arc, Mutex, MutexGuard,
	},
	time::Duration,
};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::{
	sync::{watch, Mutex as AsyncMutex},
	time::Instant,
};

use crate::{
	app::Upstream,
	auth::Key,
	budget::{Ledger, DAY},
	channels::{Channels, Taken},
	config::Config,
	error::Error,
	journal::{Asked, End, Held, Journal, JournalError, Keyed, Record},
	metrics::Metrics,
	network::{
		Amount, Answer, Ask, FollowError, Keep, Model, Network, Recovered, Refusal, State, Step,
		Ticket,
	},
	talk::{self, Talk},
	LOG_TARGET,
};

/// Time for which a client's own retry finds what its call has made.
const REPEATED: Duration = Duration::from_secs(1_800);
/// Most calls that are remembered for that, in memory.
const REMEMBERED: usize = 2_048;
/// Longest pause before a node that went away is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What is known of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
	/// Its number, once it is in a block.
	pub(crate) request: Option<u64>,
	/// As it stands in the best chain.
	pub(crate) best: Option<Step>,
	/// As it stands in the finalised chain.
	pub(crate) finalized: Option<Step>,
	/// How it ended.
	pub(crate) end: Option<End>,
	/// Since when, and why, nothing is heard of it.
	pub(crate) trouble: Option<(Instant, String)>,
}

/// A request, as calls see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
	/// Its number in the journal.
	pub(crate) id: u64,
	/// When it was asked for, in seconds since 1970.
	pub(crate) created: u64,
	/// Input units that are charged.
	pub(crate) input_units: u32,
}

/// What is known of a request. A question of the session lane ends with the last of those who hold this.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
	/// Of one on chain.
	Chain(watch::Receiver<Progress>),
	/// Of one in the session lane.
	Lane(watch::Receiver<Talk>),
}

/// A request, as it is kept for calls that are still to come.
#[derive(Clone, Debug)]
struct Kept {
	job: Job,
	known: Known,
}

#[derive(Clone, Debug)]
enum Known {
	Chain(watch::Receiver<Progress>),
	Lane(Arc<watch::Sender<Talk>>),
}

impl Kept {
	fn new(id: u64, record: &Record, known: Known) -> Self {
		let job = Job {
			id,
			created: record.created,
			input_units: record.input_units,
		};
		Self { job, known }
	}

	fn heard(&self) -> (Job, Heard) {
		let heard = match &self.known {
			Known::Chain(progress) => Heard::Chain(progress.clone()),
			Known::Lane(talk) => Heard::Lane(talk.subscribe()),
		};
		(self.job, heard)
	}

	/// Returns whether it was never made.
	fn was_refused(&self) -> bool {
		let refused = |end: &Option<End>| matches!(end, Some(End::Refused(_)));
		match &self.known {
			Known::Chain(progress) => refused(&progress.borrow().end),
			Known::Lane(talk) => refused(&talk.borrow().end),
		}
	}

	/// Returns whether it was cut, because its client had gone.
	fn was_cut(&self) -> bool {
		match &self.known {
			Known::Chain(_) => false,
			Known::Lane(talk) => talk.borrow().cut,
		}
	}
}

/// The lane that requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
	/// Each is a request on chain.
	Chain,
	/// Each is a question of the session lane.
	Lane {
		/// Whether it goes on when nobody listens any more: whoever asked may ask again.
		goes_on: bool,
	},
}

/// What a request would cost, and what leads to it in the session lane.
struct Quoted {
	fee: Amount,
	input_units: u32,
	session: Option<(Asked, Taken)>,
}

/// The body that an idempotency key came with.
#[derive(Clone, Debug)]
pub(crate) struct Idempotency {
	/// What stands for the key of a caller.
	name: String,
	/// Digest of path and body.
	body: String,
}

/// What tells a call that is repeated from one that is new.
#[derive(Clone, Debug)]
pub(crate) enum Repeat {
	/// A key that the client chose.
	Key(Idempotency),
	/// A client of OpenAI's or Anthropic's that counts its own retries and sends no key.
	Counted {
		/// Digest of caller, path and body.
		call: String,
		/// Whether it has made the call before.
		again: bool,
	},
}

fn digest(parts: &[&[u8]]) -> String {
	let mut hash = Sha256::new();
	for part in parts {
		hash.update((part.len() as u64).to_le_bytes());
		hash.update(part);
	}
	HEXLOWER.encode(&hash.finalize())
}

impl Repeat {
	/// Recognises a call by a key that came with it.
	pub(crate) fn key(caller: &Key, key: &str, path: &str, body: &[u8]) -> Self {
		Self::Key(Idempotency {
			name: digest(&[caller.name.as_bytes(), key.as_bytes()]),
			body: digest(&[path.as_bytes(), body]),
		})
	}

	/// Recognises a call by its digest and a count of retries.
	pub(crate) fn counted(caller: &Key, retries: u32, path: &str, body: &[u8]) -> Self {
		Self::Counted {
			call: digest(&[caller.name.as_bytes(), path.as_bytes(), body]),
			again: retries > 0,
		}
	}
}

/// All requests.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Inner>);

pub(crate) struct Inner {
	network: Arc<dyn Network>,
	channels: Channels,
	pub(crate) journal: Journal,
	ledger: Ledger,
	pub(crate) metrics: Metrics,
	config: Config,
	next: AtomicU64,
	/// Requests that are not at their end.
	open: Mutex<HashMap<u64, Kept>>,
	/// How many of them are in the session lane.
	talks: watch::Sender<usize>,
	/// Whether it is known what became of those that were open in the session lane before a restart.
	restored: watch::Sender<bool>,
	/// Idempotency keys that are being looked at.
	keys: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
	/// Calls that their clients may repeat by themselves, and when they were made.
	recent: Mutex<HashMap<String, (Instant, Vec<Kept>)>>,
	/// Ends all tasks, as a crash would.
	stop: watch::Sender<bool>,
}

/// Writes down the ticket of a request.
struct Keeper {
	journal: Journal,
	job: u64,
	record: AsyncMutex<Record>,
}

#[async_trait]
impl Keep for Keeper {
	async fn keep(&self, ticket: &Ticket) -> Result<(), String> {
		let mut record = self.record.lock().await;
		let mut next = record.clone();
		next.ticket = Some(ticket.clone());
		self.journal
			.put(self.job, next.clone())
			.await
			.map_err(|e| e.to_string())?;
		*record = next;
		Ok(())
	}
}

fn journal(e: JournalError) -> Error {
	Error::Journal(e.to_string())
}

impl Jobs {
	/// Opens the journal, and follows what is in it to its end.
	pub(crate) fn open(
		upstream: Upstream,
		metrics: Metrics,
		config: Config,
	) -> Result<Self, JournalError> {
		let (journal, held) =
			Journal::open(&config.data, config.idempotency_keys, (config.clock)())?;
		let last = held.jobs.iter().map(|(id, _)| *id).max().unwrap_or(0);
		// Ids are in replies: those of requests that are not remembered are not given again either.
		let next = AtomicU64::new((last + 1).max((config.clock)() << 20));
		let jobs = Self(Arc::new(Inner {
			network: upstream.network,
			channels: upstream.channels,
			journal,
			ledger: Ledger::default(),
			metrics,
			config,
			next,
			open: Mutex::default(),
			talks: watch::channel(0).0,
			restored: watch::channel(false).0,
			keys: Mutex::default(),
			recent: Mutex::default(),
			stop: watch::channel(false).0,
		}));
		jobs.0.restore(held);
		Ok(jobs)
	}

	/// Makes requests, or finds those that the same call has made, whichever way they went. All that is missing is quoted and set apart
	/// from the key's budget before any is sent. A question of the session lane goes on without listeners where the call has an idempotency
	/// key, and not where nothing tells that its client may ask again.
	pub(crate) async fn request(
		&self,
		key: Arc<Key>,
		model: Arc<Model>,
		asks: Vec<Ask>,
		repeat: Option<Repeat>,
		way: Way,
	) -> Result<Vec<(Job, Heard)>, Error> {
		let inner = self.0.clone();
		// A client that hangs up in between leaves nothing half done.
		tokio::spawn(async move { inner.request(&key, &model, asks, repeat, way).await })
			.await
			.map_err(|e| Error::Journal(e.to_string()))?
	}

	/// Waits until no question of the session lane is open.
	pub(crate) async fn answered(&self) {
		let mut talks = self.0.talks.subscribe();
		// It holds the sender itself.
		let _ = talks.wait_for(|talks| *talks == 0).await;
	}
}

impl Jobs {
	/// Ends all tasks. Their requests are found again when the journal is opened.
	pub(crate) fn stop(&self) {
		self.0.stop.send_replace(true);
	}
}

impl Inner {
	fn open(&self) -> MutexGuard<'_, HashMap<u64, Kept>> {
		// Nothing panics while it is held.
		self.open.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn restore(self: &Arc<Self>, held: Held) {
		for (day, key, spent) in held.spent {
			self.ledger.restore(&key, day, 0, spent);
		}
		let mut talks = Vec::new();
		let mut taken = Vec::new();
		for (id, record) in held.jobs {
			if let Some(asked) = &record.session {
				taken.extend(asked.numbers.iter().map(|number| (asked.channel, *number)));
			}
			if record.end.is_some() {
				continue;
			}
			self.ledger
				.restore(&record.key, record.day(), record.reserved, 0);
			let Some(asked) = &record.session else {
				drop(self.start(id, record, None));
				continue;
			};
			match self.channels.of(asked.channel) {
				Some(channel) => {
					talks.push(self.talk(channel.take(), id, record, true).1);
				}
				// The wallet knows, and may be there again at the next start.
				None => tracing::warn!(
					target: LOG_TARGET,
					"a question is open in channel {}, and the gateway was started without it",
					asked.channel
				),
			}
		}
		let inner = self.clone();
		tokio::spawn(async move {
			for talk in talks {
				talk.resume(&mut taken).await;
			}
			inner.restored.send_replace(true);
		});
	}

	async fn request(
		self: &Arc<Self>,
		key: &Key,
		model: &Model,
		asks: Vec<Ask>,
		repeat: Option<Repeat>,
		way: Way,
	) -> Result<Vec<(Job, Heard)>, Error> {
		let nothing = vec![None; asks.len()];
		let way = match (way, &repeat) {
			(Way::Lane { .. }, None) => Way::Lane { goes_on: false },
			(Way::Lane { .. }, Some(Repeat::Key(_))) => Way::Lane { goes_on: true },
			(way, _) => way,
		};
		let idempotency = match repeat {
			None => {
				let made = self.make(key, model, asks, nothing, None, way).await?;
				return Ok(made.into_iter().map(|(_, heard)| heard).collect());
			}
			Some(Repeat::Counted { call, again }) => {
				if let Some(jobs) = self.recent(&call).filter(|_| again) {
					return Ok(jobs);
				}
				let made = self.make(key, model, asks, nothing, None, way).await?;
				let (kept, heard): (Vec<_>, Vec<_>) = made.into_iter().unzip();
				self.remember(call, kept);
				return Ok(heard);
			}
			Some(Repeat::Key(idempotency)) => idempotency,
		};
		let lock = {
			let mut keys = self.keys.lock().unwrap_or_else(|e| e.into_inner());
			keys.retain(|_, lock| Arc::strong_count(lock) > 1);
			keys.entry(idempotency.name.clone()).or_default().clone()
		};
		let _one_at_a_time = lock.lock().await;
		// What was never asked before a restart is asked now, and not joined. It holds the sender itself.
		let _ = self.restored.subscribe().wait_for(|done| *done).await;
		let known = self.journal.keyed(&idempotency.name).map_err(journal)?;
		let known = known.filter(|k| k.created + DAY > (self.config.clock)());
		let found = match &known {
			None => vec![None; asks.len()],
			Some(known) if known.body != idempotency.body => return Err(Error::KeyReused),
			Some(known) => {
				let found = known.jobs.iter().map(|id| self.find(*id));
				let mut found = found.collect::<Result<Vec<_>, _>>().map_err(journal)?;
				found.resize(asks.len(), None);
				found
			}
		};
		let keyed = Keyed {
			body: idempotency.body,
			created: known.map_or_else(|| (self.config.clock)(), |k| k.created),
			jobs: Vec::new(),
		};
		let keyed = Some((idempotency.name, keyed));
		let made = self.make(key, model, asks, found, keyed, way).await?;
		Ok(made.into_iter().map(|(_, heard)| heard).collect())
	}

	/// Returns what a call has made that its client may repeat by itself, unless it was never made.
	fn recent(&self, call: &str) -> Option<Vec<(Job, Heard)>> {
		let recent = self.recent.lock().unwrap_or_else(|e| e.into_inner());
		let (since, kept) = recent.get(call)?;
		let is_none = |kept: &Kept| kept.was_refused() || kept.was_cut();
		(since.elapsed() < REPEATED && !kept.iter().any(is_none))
			.then(|| kept.iter().map(Kept::heard).collect())
	}

	fn remember(&self, call: String, kept: Vec<Kept>) {
		let mut recent = self.recent.lock().unwrap_or_else(|e| e.into_inner());
		recent.retain(|_, (since, _)| since.elapsed() < REPEATED);
		if recent.len() < REMEMBERED {
			recent.insert(call, (Instant::now(), kept));
		}
	}

	/// Returns a request that an idempotency key leads to. One that was never made is as if it were not there: whoever asks again is not told
	/// again that the network was full then.
	fn find(&self, id: u64) -> Result<Option<Kept>, JournalError> {
		if let Some(kept) = self.open().get(&id).cloned() {
			return Ok((!kept.was_refused()).then_some(kept));
		}
		let Some(mut record) = self.journal.job(id)? else {
			return Ok(None);
		};
		if record.session.is_some() {
			// One that is open in the journal alone is of a channel that this gateway does not have.
			record.end.get_or_insert(End::Forgotten);
		}
		if matches!(record.end, None | Some(End::Refused(_))) {
			return Ok(None);
		}
		let known = if record.session.is_some() {
			Known::Lane(Arc::new(watch::channel(Talk::new(&record)).0))
		} else {
			let (_, progress) = watch::channel(Progress {
				request: record.request,
				finalized: match &record.end {
					Some(End::Settled(step)) => Some((**step).clone()),
					_ => None,
				},
				end: record.end.clone(),
				..Default::default()
			});
			Known::Chain(progress)
		};
		Ok(Some(Kept::new(id, &record, known)))
	}

	/// Returns what a request would cost.
	async fn quote(&self, ask: &Ask, way: Way) -> Result<Quoted, Refusal> {
		match way {
			Way::Chain => {
				let quote = self.network.quote(ask).await?;
				Ok(Quoted {
					fee: quote.fee,
					input_units: quote.input_units,
					session: None,
				})
			}
			Way::Lane { .. } => {
				let mut why = Refusal::NoExecutor("the gateway has no channel".into());
				for channel in self.channels.by_questions() {
					let taken = channel.take();
					match taken.lane().quote(ask).await {
						Ok(quote) => {
							let asked = Asked {
								channel: taken.lane().channel(),
								question: quote.question,
								from: quote.from,
								numbers: Vec::new(),
							};
							return Ok(Quoted {
								fee: quote.fee,
								input_units: quote.input_units,
								session: Some((asked, taken)),
							});
						}
						// Another may have more left, or pay somebody else.
						Err(e @ (Refusal::Channel(_) | Refusal::NoExecutor(_))) => why = e,
						Err(e) => return Err(e),
					}
				}
				Err(why)
			}
		}
	}

	/// Makes what was not found.
	async fn make(
		self: &Arc<Self>,
		key: &Key,
		model: &Model,
		asks: Vec<Ask>,
		found: Vec<Option<Kept>>,
		keyed: Option<(String, Keyed)>,
		way: Way,
	) -> Result<Vec<(Kept, (Job, Heard))>, Error> {
		let listen = |kept: Kept| {
			let heard = kept.heard();
			(kept, heard)
		};
		let missing = found.iter().filter(|f| f.is_none()).count();
		if missing == 0 {
			return Ok(found.into_iter().flatten().map(listen).collect());
		}
		if self.open().len() + missing > self.config.open_requests {
			return Err(Error::TooMany);
		}
		let quotes = asks.iter().zip(&found).map(|(ask, found)| async move {
			match found {
				Some(_) => Ok(None),
				None => self.quote(ask, way).await.map(Some),
			}
		});
		let quotes = futures::future::try_join_all(quotes)
			.await
			.map_err(|e| Error::refusal(e, &model.name))?;
		let now = (self.config.clock)();
		let total = quotes
			.iter()
			.flatten()
			.fold(0u128, |sum, q| sum.saturating_add(q.fee));
		self.ledger.reserve(key, now / DAY, total)?;
		let (mut ids, mut fresh) = (Vec::new(), Vec::new());
		for ((ask, found), quote) in asks.into_iter().zip(&found).zip(quotes) {
			match (found, quote) {
				(None, Some(quote)) => {
					let id = self.next.fetch_add(1, Ordering::Relaxed);
					ids.push(id);
					let (asked, taken) = quote.session.unzip();
					let record = Record {
						key: key.name.clone(),
						created: now,
						model: model.name.clone(),
						reserved: quote.fee,
						input_units: quote.input_units,
						keyed: keyed.is_some(),
						ticket: None,
						request: None,
						session: asked,
						end: None,
					};
					fresh.push((id, record, ask, taken));
				}
				(Some(kept), _) => ids.push(kept.job.id),
				(None, None) => unreachable!("what is missing was quoted; qed"),
			}
		}
		let keyed = keyed.map(|(name, keyed)| {
			let jobs = ids.clone();
			(name, Keyed { jobs, ..keyed })
		});
		let records = fresh.iter().map(|(id, r, ..)| (*id, r.clone())).collect();
		if let Err(e) = self.journal.begin(records, keyed, now).await {
			self.ledger.settle(&key.name, now / DAY, total, 0);
			return Err(journal(e));
		}
		let found = found.into_iter().flatten();
		let mut made: HashMap<u64, _> = found.map(|k| (k.job.id, listen(k))).collect();
		for (id, record, ask, taken) in fresh {
			let kept = match (way, taken) {
				(Way::Lane { goes_on }, Some(channel)) => {
					let (kept, talk) = self.talk(channel, id, record, goes_on);
					let heard = listen(kept);
					self.spawn(talk.run(ask));
					heard
				}
				_ => listen(self.start(id, record, Some(ask))),
			};
			made.insert(id, kept);
		}
		Ok(ids.iter().filter_map(|id| made.remove(id)).collect())
	}

	/// Spawns a request's task.
	fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) {
		let mut stop = self.stop.subscribe();
		tokio::spawn(async move {
			tokio::select! {
				() = task => (),
				// What is on chain goes on, and the journal leads to it.
				_ = stop.wait_for(|stopped| *stopped) => (),
			}
		});
	}

	fn keep(&self, kept: &Kept) {
		self.open().insert(kept.job.id, kept.clone());
		self.metrics.open.set(self.open().len() as i64);
	}

	/// Returns the task of a question of the session lane. It listens from the start to nobody: whoever made it does so before it runs.
	fn talk(
		self: &Arc<Self>,
		channel: Taken,
		id: u64,
		record: Record,
		goes_on: bool,
	) -> (Kept, talk::Task) {
		let told = Arc::new(watch::channel(Talk::new(&record)).0);
		let kept = Kept::new(id, &record, Known::Lane(told.clone()));
		self.keep(&kept);
		self.talks.send_modify(|talks| *talks += 1);
		let task = talk::Task {
			inner: self.clone(),
			channel,
			id,
			record,
			told,
			goes_on,
		};
		(kept, task)
	}

	/// Counts what a request has come to, and writes it down. One that was not asked at all is forgotten. `output` are its output units,
	/// where its answer counts.
	pub(crate) async fn ended(
		&self,
		id: u64,
		record: &Record,
		is_nothing: bool,
		output: Option<u32>,
	) {
		let paid = record.paid();
		self.ledger
			.settle(&record.key, record.day(), record.reserved, paid);
		self.metrics.spend(&record.key, paid);
		if let Some(output) = output {
			for (direction, n) in [("in", record.input_units), ("out", output)] {
				let labels = [record.model.as_str(), direction];
				self.metrics
					.units
					.with_label_values(&labels)
					.inc_by(n.into());
			}
		}
		// What was never sent is not worth a line; whoever uses its idempotency key again asks anew.
		let written = match is_nothing {
			true => self.journal.forget(id).await,
			false => self.journal.end(id, record.clone()).await,
		};
		if let Err(e) = written {
			// It is open in the journal then, and followed to the same end after a restart.
			tracing::warn!(target: LOG_TARGET, "the end of a request is not in the journal: {e}");
		}
	}

	/// Takes a request from those that are open. `state` is what it ended as.
	pub(crate) fn close(&self, id: u64, state: &str) {
		let closed = self.open().remove(&id);
		if matches!(
			closed,
			Some(Kept {
				known: Known::Lane(_),
				..
			})
		) {
			self.talks.send_modify(|talks| *talks -= 1);
		}
		self.metrics.open.set(self.open().len() as i64);
		self.metrics.ended.with_label_values(&[state]).inc();
	}

	/// Starts the task of a request on chain.
	fn start(self: &Arc<Self>, id: u64, record: Record, ask: Option<Ask>) -> Kept {
		let (told, progress) = watch::channel(Progress {
			request: record.request,
			..Default::default()
		});
		let kept = Kept::new(id, &record, Known::Chain(progress));
		self.keep(&kept);
		let task = Task {
			inner: self.clone(),
			id,
			record,
			told,
			since: ask.is_some().then(Instant::now),
			answered: false,
		};
		self.spawn(task.run(ask));
		kept
	}
}

/// A request's task.
struct Task {
	inner: Arc<Inner>,
	id: u64,
	record: Record,
	told: watch::Sender<Progress>,
	/// When it was asked for, unless that was before a restart.
	since: Option<Instant>,
	answered: bool,
}

impl Task {
	async fn run(mut self, ask: Option<Ask>) {
		let end = match self.number(ask).await {
			Ok(()) => self.follow().await,
			Err(end) => end,
		};
		self.finish(end).await;
	}

	/// Makes the request, or finds it again, so that its number is known.
	async fn number(&mut self, ask: Option<Ask>) -> Result<(), End> {
		if self.record.request.is_some() {
			return Ok(());
		}
		let Some(ask) = ask else {
			return match self.record.ticket {
				Some(_) => self.recover().await,
				// Nothing was sent before the restart, and whoever asked has gone.
				None => Err(End::Refused(Refusal::Other(
					"the gateway was stopped before it was sent".into(),
				))),
			};
		};
		let keeper = Keeper {
			journal: self.inner.journal.clone(),
			job: self.id,
			record: AsyncMutex::new(self.record.clone()),
		};
		let network = self.inner.network.clone();
		let made = network.submit(&ask, self.record.reserved, &keeper).await;
		self.record = keeper.record.into_inner();
		match made {
			Ok(number) => {
				self.numbered(number).await;
				Ok(())
			}
			Err(Refusal::Unreachable(why)) if self.record.ticket.is_some() => {
				self.trouble("submission", why);
				self.recover().await
			}
			Err(refusal) => Err(End::Refused(refusal)),
		}
	}

	async fn numbered(&mut self, number: u64) {
		self.record.request = Some(number);
		if let Err(e) = self.inner.journal.put(self.id, self.record.clone()).await {
			// The ticket leads to it as well.
			tracing::warn!(target: LOG_TARGET, "request {number} is not in the journal: {e}");
		}
		self.told.send_modify(|p| {
			p.request = Some(number);
			p.trouble = None;
		});
	}

	fn trouble(&self, during: &str, why: String) {
		self.told.send_if_modified(|p| {
			let is_new = p.trouble.is_none();
			if is_new {
				self.inner
					.metrics
					.outages
					.with_label_values(&[during])
					.inc();
				p.trouble = Some((Instant::now(), why));
			}
			is_new
		});
	}

	/// Asks by the ticket until it is known what became of it.
	async fn recover(&mut self) -> Result<(), End> {
		let Some(ticket) = self.record.ticket.clone() else {
			return Err(End::Forgotten);
		};
		let mut pause = self.inner.config.retry;
		loop {
			match self.inner.network.recover(&ticket).await {
				Ok(Recovered::Request(number)) => {
					self.numbered(number).await;
					return Ok(());
				}
				Ok(Recovered::Refused(refusal)) => return Err(End::Refused(refusal)),
				Ok(Recovered::Lost) if self.record.request.is_some() => return Err(End::Forgotten),
				Ok(Recovered::Lost) => {
					return Err(End::Refused(Refusal::Other(
						"the transaction was lost and made no request".into(),
					)))
				}
				Err(why) => self.trouble("submission", why.to_string()),
			}
			tokio::time::sleep(pause).await;
			pause = (pause * 2).min(LONGEST_PAUSE);
		}
	}

	/// Follows the request to its end.
	async fn follow(&mut self) -> End {
		let mut pause = self.inner.config.retry;
		loop {
			let (Some(number), Some(ticket)) = (self.record.request, self.record.ticket.clone())
			else {
				return End::Forgotten;
			};
			let mut steps = self.inner.network.follow(number, &ticket);
			let why = loop {
				match steps.next().await {
					Some(Ok(step)) => {
						pause = self.inner.config.retry;
						let ended = step.finalized && step.state.is_settled();
						self.see(&step);
						if ended {
							return End::Settled(Box::new(step));
						}
					}
					Some(Err(FollowError::Unreachable(why))) => break Some(why),
					Some(Err(FollowError::Forgotten)) => return End::Forgotten,
					Some(Err(FollowError::Moved)) => {
						self.told
							.send_modify(|p| (p.best, p.finalized) = (None, None));
						match self.recover().await {
							Ok(()) => break None,
							Err(end) => return end,
						}
					}
					None => break Some("the stream of steps ended".into()),
				}
			};
			if let Some(why) = why {
				self.trouble("following", why);
			}
			tokio::time::sleep(pause).await;
			pause = (pause * 2).min(LONGEST_PAUSE);
		}
	}

	fn see(&mut self, step: &Step) {
		let metrics = &self.inner.metrics;
		if let Some(since) = self.since {
			let seconds = since.elapsed().as_secs_f64();
			let shown = matches!(
				step.answer,
				Some(Answer::Text { .. } | Answer::Tensors { .. })
			);
			if shown && !self.answered {
				self.answered = true;
				metrics.answered(&self.record.model, seconds);
			}
			if step.finalized && step.state == State::Final {
				metrics.settled(&self.record.model, seconds);
			}
		}
		self.told.send_modify(|p| {
			let place = if step.finalized {
				&mut p.finalized
			} else {
				&mut p.best
			};
			*place = Some(step.clone());
			p.trouble = None;
		});
	}

	async fn finish(mut self, end: End) {
		let inner = self.inner.clone();
		self.record.end = Some(end.clone());
		let state = match &end {
			End::Settled(step) => crate::status::status(step),
			End::Refused(_) => "refused",
			End::Forgotten | End::Said { .. } | End::Broken { .. } => "forgotten",
		};
		let output = match &end {
			End::Settled(step) if step.state == State::Final => match &step.answer {
				Some(Answer::Text { tokens, .. }) => Some(*tokens),
				Some(Answer::Tensors { units, .. }) => Some(*units),
				Some(Answer::Unanswerable { .. }) | None => Some(0),
			},
			_ => None,
		};
		let is_nothing = matches!(end, End::Refused(_)) && self.record.ticket.is_none();
		inner.ended(self.id, &self.record, is_nothing, output).await;
		self.told.send_modify(|p| {
			p.end = Some(end);
			p.trouble = None;
		});
		inner.close(self.id, state);
	}
}
