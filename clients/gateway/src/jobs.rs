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
	auth::Key,
	budget::{Ledger, DAY},
	config::Config,
	error::Error,
	journal::{End, Held, Journal, JournalError, Keyed, Record},
	metrics::Metrics,
	network::{
		Answer, Ask, FollowError, Keep, Model, Network, Recovered, Refusal, State, Step, Ticket,
	},
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
#[derive(Clone, Debug)]
pub(crate) struct Job {
	/// Its number in the journal.
	pub(crate) id: u64,
	/// When it was asked for, in seconds since 1970.
	pub(crate) created: u64,
	/// Input units that are charged.
	pub(crate) input_units: u32,
	/// What is known of it.
	pub(crate) progress: watch::Receiver<Progress>,
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

struct Inner {
	network: Arc<dyn Network>,
	journal: Journal,
	ledger: Ledger,
	metrics: Metrics,
	config: Config,
	next: AtomicU64,
	/// Requests that are not at their end.
	open: Mutex<HashMap<u64, Job>>,
	/// Idempotency keys that are being looked at.
	keys: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
	/// Calls that their clients may repeat by themselves, and when they were made.
	recent: Mutex<HashMap<String, (Instant, Vec<Job>)>>,
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
		network: Arc<dyn Network>,
		metrics: Metrics,
		config: Config,
	) -> Result<Self, JournalError> {
		let (journal, held) =
			Journal::open(&config.data, config.idempotency_keys, (config.clock)())?;
		let last = held.jobs.iter().map(|(id, _)| *id).max().unwrap_or(0);
		// Ids are in replies: those of requests that are not remembered are not given again either.
		let next = AtomicU64::new((last + 1).max((config.clock)() << 20));
		let jobs = Self(Arc::new(Inner {
			network,
			journal,
			ledger: Ledger::default(),
			metrics,
			config,
			next,
			open: Mutex::default(),
			keys: Mutex::default(),
			recent: Mutex::default(),
			stop: watch::channel(false).0,
		}));
		jobs.0.restore(held);
		Ok(jobs)
	}

	/// Makes requests, or finds those that the same call has made. All that is missing is quoted and set apart from the key's
	/// budget before any is sent.
	pub(crate) async fn request(
		&self,
		key: Arc<Key>,
		model: Arc<Model>,
		asks: Vec<Ask>,
		repeat: Option<Repeat>,
	) -> Result<Vec<Job>, Error> {
		let inner = self.0.clone();
		// A client that hangs up in between leaves nothing half done.
		tokio::spawn(async move { inner.request(&key, &model, asks, repeat).await })
			.await
			.map_err(|e| Error::Journal(e.to_string()))?
	}
}

impl Jobs {
	/// Ends all tasks. Their requests are found again when the journal is opened.
	pub(crate) fn stop(&self) {
		self.0.stop.send_replace(true);
	}
}

impl Inner {
	fn open(&self) -> MutexGuard<'_, HashMap<u64, Job>> {
		// Nothing panics while it is held.
		self.open.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn restore(self: &Arc<Self>, held: Held) {
		for (day, key, spent) in held.spent {
			self.ledger.restore(&key, day, 0, spent);
		}
		for (id, record) in held.jobs {
			if record.end.is_some() {
				continue;
			}
			self.ledger
				.restore(&record.key, record.day(), record.reserved, 0);
			self.start(id, record, None);
		}
	}

	async fn request(
		self: &Arc<Self>,
		key: &Key,
		model: &Model,
		asks: Vec<Ask>,
		repeat: Option<Repeat>,
	) -> Result<Vec<Job>, Error> {
		let nothing = vec![None; asks.len()];
		let idempotency = match repeat {
			None => return self.make(key, model, asks, nothing, None).await,
			Some(Repeat::Counted { call, again }) => {
				if let Some(jobs) = self.recent(&call).filter(|_| again) {
					return Ok(jobs);
				}
				let jobs = self.make(key, model, asks, nothing, None).await?;
				self.remember(call, &jobs);
				return Ok(jobs);
			}
			Some(Repeat::Key(idempotency)) => idempotency,
		};
		let lock = {
			let mut keys = self.keys.lock().unwrap_or_else(|e| e.into_inner());
			keys.retain(|_, lock| Arc::strong_count(lock) > 1);
			keys.entry(idempotency.name.clone()).or_default().clone()
		};
		let _one_at_a_time = lock.lock().await;
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
		self.make(key, model, asks, found, keyed).await
	}

	/// Returns what a call has made that its client may repeat by itself, unless it was never made.
	fn recent(&self, call: &str) -> Option<Vec<Job>> {
		let recent = self.recent.lock().unwrap_or_else(|e| e.into_inner());
		let (since, jobs) = recent.get(call)?;
		let refused = |job: &Job| matches!(job.progress.borrow().end, Some(End::Refused(_)));
		(since.elapsed() < REPEATED && !jobs.iter().any(refused)).then(|| jobs.clone())
	}

	fn remember(&self, call: String, jobs: &[Job]) {
		let mut recent = self.recent.lock().unwrap_or_else(|e| e.into_inner());
		recent.retain(|_, (since, _)| since.elapsed() < REPEATED);
		if recent.len() < REMEMBERED {
			recent.insert(call, (Instant::now(), jobs.to_vec()));
		}
	}

	/// Returns a request that an idempotency key leads to. One that was never made is as if it were not there: whoever asks again is not told
	/// again that the network was full then.
	fn find(&self, id: u64) -> Result<Option<Job>, JournalError> {
		if let Some(job) = self.open().get(&id).cloned() {
			let refused = matches!(job.progress.borrow().end, Some(End::Refused(_)));
			return Ok((!refused).then_some(job));
		}
		let Some(record) = self.journal.job(id)? else {
			return Ok(None);
		};
		if matches!(record.end, None | Some(End::Refused(_))) {
			return Ok(None);
		}
		let (_, progress) = watch::channel(Progress {
			request: record.request,
			finalized: match &record.end {
				Some(End::Settled(step)) => Some((**step).clone()),
				_ => None,
			},
			end: record.end.clone(),
			..Default::default()
		});
		Ok(Some(Job {
			id,
			created: record.created,
			input_units: record.input_units,
			progress,
		}))
	}

	/// Makes what was not found.
	async fn make(
		self: &Arc<Self>,
		key: &Key,
		model: &Model,
		asks: Vec<Ask>,
		found: Vec<Option<Job>>,
		keyed: Option<(String, Keyed)>,
	) -> Result<Vec<Job>, Error> {
		let missing = found.iter().filter(|f| f.is_none()).count();
		if missing == 0 {
			return Ok(found.into_iter().flatten().collect());
		}
		if self.open().len() + missing > self.config.open_requests {
			return Err(Error::TooMany);
		}
		let quotes = asks.iter().zip(&found).map(|(ask, found)| async move {
			match found {
				Some(_) => Ok(None),
				None => self.network.quote(ask).await.map(Some),
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
					let record = Record {
						key: key.name.clone(),
						created: now,
						model: model.name.clone(),
						reserved: quote.fee,
						input_units: quote.input_units,
						keyed: keyed.is_some(),
						ticket: None,
						request: None,
						end: None,
					};
					fresh.push((id, record, ask));
				}
				(Some(job), _) => ids.push(job.id),
				(None, None) => unreachable!("what is missing was quoted; qed"),
			}
		}
		let keyed = keyed.map(|(name, keyed)| {
			let jobs = ids.clone();
			(name, Keyed { jobs, ..keyed })
		});
		let records = fresh.iter().map(|(id, r, _)| (*id, r.clone())).collect();
		if let Err(e) = self.journal.begin(records, keyed, now).await {
			self.ledger.settle(&key.name, now / DAY, total, 0);
			return Err(journal(e));
		}
		let mut made: HashMap<u64, Job> = found.into_iter().flatten().map(|j| (j.id, j)).collect();
		for (id, record, ask) in fresh {
			made.insert(id, self.start(id, record, Some(ask)));
		}
		Ok(ids.iter().filter_map(|id| made.get(id).cloned()).collect())
	}

	/// Starts a request's task.
	fn start(self: &Arc<Self>, id: u64, record: Record, ask: Option<Ask>) -> Job {
		let (told, progress) = watch::channel(Progress {
			request: record.request,
			..Default::default()
		});
		let job = Job {
			id,
			created: record.created,
			input_units: record.input_units,
			progress,
		};
		self.open().insert(id, job.clone());
		self.metrics.open.set(self.open().len() as i64);
		let task = Task {
			inner: self.clone(),
			id,
			record,
			told,
			since: ask.is_some().then(Instant::now),
			answered: false,
		};
		let mut stop = self.stop.subscribe();
		tokio::spawn(async move {
			tokio::select! {
				() = task.run(ask) => (),
				// What is on chain goes on, and the journal leads to it.
				_ = stop.wait_for(|stopped| *stopped) => (),
			}
		});
		job
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
		let record = &self.record;
		inner
			.ledger
			.settle(&record.key, record.day(), record.reserved, record.paid());
		inner.metrics.spend(&record.key, record.paid());
		let state = match &end {
			End::Settled(step) => crate::status::status(step),
			End::Refused(_) => "refused",
			End::Forgotten => "forgotten",
		};
		if let End::Settled(step) = &end {
			let output = match &step.answer {
				Some(Answer::Text { tokens, .. }) => *tokens,
				Some(Answer::Tensors { units, .. }) => *units,
				Some(Answer::Unanswerable { .. }) | None => 0,
			};
			if step.state == State::Final {
				for (direction, n) in [("in", record.input_units), ("out", output)] {
					let labels = [record.model.as_str(), direction];
					inner
						.metrics
						.units
						.with_label_values(&labels)
						.inc_by(n.into());
				}
			}
		}
		// What was never sent is not worth a line; whoever uses its idempotency key again asks anew.
		let written = match &end {
			End::Refused(_) if record.ticket.is_none() => inner.journal.forget(self.id).await,
			_ => inner.journal.end(self.id, record.clone()).await,
		};
		if let Err(e) = written {
			// It is open in the journal then, and followed to the same end after a restart.
			tracing::warn!(target: LOG_TARGET, "the end of a request is not in the journal: {e}");
		}
		self.told.send_modify(|p| {
			p.end = Some(end);
			p.trouble = None;
		});
		inner.open().remove(&self.id);
		inner.metrics.open.set(inner.open().len() as i64);
		inner.metrics.ended.with_label_values(&[state]).inc();
	}
}
