//! The loop: new blocks, finished jobs, and commands.

use std::{
	collections::{BTreeMap, BTreeSet, HashMap, HashSet},
	sync::Arc,
	time::{Duration, Instant},
};

use codec::Encode;
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	model::{self, ModelSpec, ModelStatus},
	report::{Duties, Duty, DutyKind, Report, Statement, MAX_STATEMENTS},
	sampling::CONSTRAINT_RULES,
	List, ModelId, RequestId,
};
use futures::{FutureExt, StreamExt};
use polkadot_sdk::sp_core::H256;
use tokio::{
	sync::{mpsc, oneshot},
	task::AbortHandle,
};

use crate::{
	blame::{Blame, Blaming, Task, CRASHES, INPUTS},
	chain::{AccountId, BlockNumber, Chain, ChainError, Head},
	duty::{label, name, perform, step, wanted, Found, Job, JobError, Lane, Question, Step},
	journal::{Journal, Key, Kind, Value},
	metrics::{Metrics, Standing},
	runner::{Fetching, Library, Runner},
	serving::{self, Attestation, Serving, ServingState},
	LOG_TARGET,
};

/// Blocks after which a statement that is still due is said again.
const SAY_AGAIN: BlockNumber = 3;
/// Tries of a job that fails for another reason than the engine's end, one for a block.
const TRIES: u32 = 3;
/// A job whose duty ends in so many blocks does not wait for a place.
const URGENT: BlockNumber = 4;
/// Results that wait to be looked at.
const RESULTS: usize = 256;
/// Finalised blocks from one pruning of the journal to the next.
const PRUNE_EVERY: BlockNumber = 16;
/// Most bytes of a report; what is more goes into the next.
const REPORT_BYTES: usize = 1 << 20;
/// Most of a report's statements that show evidence: each may settle a request, and counts with what that weighs until it was seen that it does
/// not. A report of more would find room in no block that draws much.
const REPORT_REVEALS: usize = 192;

/// A command from the node's RPC.
pub(crate) enum Command {
	/// Serve a model.
	Serve(ModelId, oneshot::Sender<Result<ServingState, String>>),
	/// Serve it no longer.
	Withdraw(ModelId, oneshot::Sender<Result<bool, String>>),
	/// Say how things are.
	Status(oneshot::Sender<Status>),
}

/// How things are with the worker.
#[derive(Clone, Debug, Default)]
pub struct Status {
	/// The validator whose duties are done; none while no key of the keystore is in the session.
	pub validator: Option<AccountId>,
	/// Why there is no engine, if there is none and will not be one.
	pub unavailable: Option<String>,
	/// Jobs that wait.
	pub waiting: usize,
	/// Jobs that run.
	pub running: usize,
	/// Every model that is stored or to be served.
	pub models: BTreeMap<ModelId, ServingState>,
	/// Models that are to be served, are served, or for which something is due.
	pub in_use: BTreeSet<ModelId>,
}

enum Done {
	Job {
		key: Key,
		number: u64,
		result: Result<Found, JobError>,
		took: Duration,
	},
	Check {
		model: ModelId,
		result: Result<Attestation, JobError>,
	},
}

/// What is known of this validator at the best block. Its duties are [`Entry`]s.
struct Validator {
	key: InferenceId,
	duties: Duties<AccountId, BlockNumber>,
}

/// Whether a duty is to show what was committed to, which waits for finality. What is late has waited long enough.
fn shows(kind: DutyKind) -> bool {
	matches!(kind, DutyKind::Reveal | DutyKind::RevealOutput)
}

/// A duty of the best block, and where it stands.
struct Entry {
	duty: Duty<BlockNumber>,
	/// What its request says, if the chain could tell.
	question: Option<Question>,
	stage: Stage,
}

/// Where a duty stands.
enum Stage {
	/// It could not be found out, which is tried again at the next block.
	Unknown,
	/// The journal cannot be read: whether this was computed already is found out at the next block. Until then nothing is begun for
	/// it, and what is at work goes on.
	Unread(Key),
	/// This is to be computed.
	Compute(Key),
	/// This is to be said.
	Say(Group),
	/// It is to be said when the block in which its round's commitments closed is final.
	Withheld,
	/// It cannot be done.
	Stuck,
}

impl Entry {
	/// What is computed for it, as far as is known.
	fn computes(&self) -> Option<Key> {
		match self.stage {
			Stage::Compute(key) | Stage::Unread(key) => Some(key),
			_ => None,
		}
	}

	/// Whether it is the same at the next block, if its duty is. A round or an assignment that is made again has another deadline,
	/// and there is none for a block at least.
	fn lasts(&self) -> bool {
		match self.question {
			Some(question) if !matches!(self.stage, Stage::Unknown | Stage::Unread(_)) => {
				// Of a committed output and its evidence one may be shown before the other.
				self.duty.kind != DutyKind::Reveal || question.shown
			}
			_ => false,
		}
	}
}

/// What is said in one report or not at all.
struct Group {
	statements: Vec<Statement>,
	name: H256,
	bytes: usize,
}

impl Group {
	fn new(statements: Vec<Statement>) -> Self {
		Self {
			name: name(&statements),
			bytes: statements.encoded_size(),
			statements,
		}
	}
}

/// A job at work.
struct Running {
	/// Jobs of one key may follow each other.
	number: u64,
	model: ModelId,
	lane: Lane,
	task: AbortHandle,
}

/// A report that was given to the pool.
struct Outstanding {
	report: Report<BlockNumber>,
	signature: InferenceSignature,
	/// Names of what it says.
	names: Vec<H256>,
}

/// The worker. Generic over the chain, the engine and the store, so that tests bring their own.
pub struct Worker<C, R, L> {
	chain: Arc<C>,
	runner: Arc<R>,
	library: Arc<L>,
	journal: Journal,
	serving: Serving,
	metrics: Metrics,
	limits: Limits,
	commands: mpsc::Receiver<Command>,
	/// Our own end of `finished`: it never runs dry while the worker lives.
	done: mpsc::Sender<Done>,
	finished: mpsc::Receiver<Done>,

	head: Option<Head>,
	/// Whether the node was catching up at the last block.
	syncing: bool,
	validator: Option<Validator>,
	/// What is due, the most urgent first. Derived from the chain and the journal again at every block.
	entries: Vec<Entry>,
	/// Jobs that could be begun.
	ready: usize,
	/// Models to be checked, as the chain describes them.
	unchecked: Vec<(ModelId, ModelSpec, Duration)>,
	/// What runs, and whose fault a crash is.
	blaming: Blaming,
	/// Jobs at work.
	running: HashMap<Key, Running>,
	/// Jobs that were begun so far.
	begun: u64,
	/// Jobs that failed here, and how often.
	failed: HashMap<Key, u32>,
	/// Requests whose data is not here, of which the log says so.
	without_data: HashSet<RequestId>,
	/// What was computed and could not be written, with the time it took: it is neither said nor computed again meanwhile.
	unwritten: HashMap<Key, (Value, Duration)>,
	/// Jobs for which the engine had no time: they are tried again at the next block.
	postponed: HashSet<Key>,
	/// Checks of models for which it had none.
	postponed_checks: HashSet<ModelId>,
	/// Models that the engine was asked to load.
	loaded: BTreeSet<ModelId>,
	/// Duties that were found to be stuck, so that the log says it once.
	stuck: HashSet<Key>,
	/// What there is to say of the models that are served.
	say: Vec<Group>,
	/// Block at which each was last said.
	said: HashMap<H256, BlockNumber>,
	/// Reports that may be in the pool or in a block.
	outstanding: Vec<Outstanding>,
	/// Accusations of which the log has told.
	accused: BTreeSet<RequestId>,
	/// Block on which the last report was made.
	reported: Option<H256>,
	pruned: BlockNumber,
	/// Whether evidence waits for the block in which its round's commitments closed to be final.
	withheld: bool,
	/// Rounds, by request and challenge, of which a finalised block takes this validator's evidence. That stays true.
	closed: HashSet<(RequestId, Option<H256>)>,
	/// The last finalised block that was asked for such.
	closed_at: Option<H256>,
}

/// Bounds of the worker's work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
	/// Answers of language models that are written at a time, and as many that are measured. Those of one model share its runs.
	pub jobs: usize,
	/// Inputs of each other model that the engine has at a time. It runs one after another, and shall not wait for the next.
	pub ahead: usize,
	/// Time between two blocks: a duty's deadline is a block's number.
	pub block: Duration,
	/// How long an engine may take beyond a deadline before it is ended. It bounds what it does by itself, in less.
	pub patience: Duration,
}

impl Limits {
	/// Jobs that the engine may have to work on at a time, with so many models that are no language models: what is urgent has
	/// as many places again.
	pub const fn most(&self, models: usize) -> usize {
		2 * (2 * self.jobs + models * self.ahead)
	}

	const fn places(&self, lane: Lane) -> usize {
		let places = match lane {
			Lane::Answer | Lane::Check => self.jobs,
			Lane::Graph(_) => self.ahead,
		};
		if places == 0 {
			1
		} else {
			places
		}
	}
}

impl Default for Limits {
	fn default() -> Self {
		Self {
			jobs: 2,
			ahead: 8,
			block: Duration::from_secs(3),
			patience: Duration::from_secs(200),
		}
	}
}

impl<C: Chain, R: Runner, L: Library> Worker<C, R, L> {
	#[allow(clippy::too_many_arguments)]
	pub(crate) fn new(
		chain: Arc<C>,
		runner: Arc<R>,
		library: Arc<L>,
		journal: Journal,
		serving: Serving,
		metrics: Metrics,
		limits: Limits,
		commands: mpsc::Receiver<Command>,
	) -> Self {
		// Every job sends once, and waits for room.
		let (done, finished) = mpsc::channel(RESULTS);
		Self {
			chain,
			runner,
			library,
			journal,
			serving,
			metrics,
			limits,
			commands,
			done,
			finished,
			head: None,
			syncing: false,
			validator: None,
			entries: Vec::new(),
			ready: 0,
			unchecked: Vec::new(),
			blaming: Blaming::default(),
			running: HashMap::new(),
			begun: 0,
			failed: HashMap::new(),
			without_data: HashSet::new(),
			unwritten: HashMap::new(),
			postponed: HashSet::new(),
			postponed_checks: HashSet::new(),
			loaded: BTreeSet::new(),
			stuck: HashSet::new(),
			say: Vec::new(),
			said: HashMap::new(),
			outstanding: Vec::new(),
			accused: BTreeSet::new(),
			reported: None,
			pruned: 0,
			withheld: false,
			closed: HashSet::new(),
			closed_at: None,
		}
	}

	/// Runs until the chain's stream of blocks ends.
	pub async fn run(mut self) {
		let mut heads = self.chain.heads();
		let mut finality = self.chain.finality();
		let mut commands_open = true;
		loop {
			tokio::select! {
				// Blocks first: everything else is then about the newest one.
				biased;
				head = heads.next() => {
					let Some(mut head) = head else { return };
					// Blocks that came meanwhile make this one old.
					while let Some(Some(newer)) = heads.next().now_or_never() {
						head = newer;
					}
					self.on_head(head);
				},
				Some(_) = finality.next() => {
					if !self.withheld || self.syncing {
						continue;
					}
					self.reveal();
				}
				Some(done) = self.finished.recv() => {
					self.on_done(done);
					while let Ok(done) = self.finished.try_recv() {
						self.on_done(done);
					}
				}
				command = self.commands.recv(), if commands_open => match command {
					Some(Command::Status(reply)) => {
						// Who asked may have stopped waiting. Nothing changed that would have to be looked at.
						let _ = reply.send(self.status());
						continue;
					}
					Some(Command::Serve(model, reply)) => {
						let _ = reply.send(self.want(model));
						self.review_serving();
					}
					Some(Command::Withdraw(model, reply)) => {
						self.library.forget(model);
						let _ = reply.send(self.serving.unwant(model));
						self.review_serving();
					}
					None => commands_open = false,
				},
			}
			self.start_jobs();
			self.metrics.waiting(self.ready);
			self.speak().await;
		}
	}

	fn on_head(&mut self, head: Head) {
		let follows = head.parent.is_some() && head.parent == self.head.map(|h| h.hash);
		self.head = Some(head);
		self.postponed.clear();
		let syncing = self.chain.is_major_syncing();
		if syncing {
			if !self.syncing {
				tracing::info!(target: LOG_TARGET, "catching up with the network: no duties until then");
			}
			self.syncing = true;
			self.entries.clear();
			self.say.clear();
			self.unchecked.clear();
			self.withheld = false;
			return;
		}
		self.syncing = false;
		for (key, (value, took)) in std::mem::take(&mut self.unwritten) {
			self.write(key, value, took);
		}
		self.forget_lost(head);
		for model in self.postponed_checks.drain() {
			self.serving.retry(model);
		}
		let (mut found, mut told) = (None, true);
		for key in self.chain.keys() {
			match self.chain.duties(head.hash, key.clone()) {
				Ok(Some(duties)) => {
					found = Some(Validator { key, duties });
					break;
				}
				Ok(None) => (),
				Err(e) => {
					told = false;
					tracing::warn!(target: LOG_TARGET, "what is due at #{}: {e}", head.number)
				}
			}
		}
		match (&self.validator, &found) {
			(None, Some(v)) => {
				tracing::info!(target: LOG_TARGET, "doing the duties of validator {}", v.duties.validator)
			}
			(Some(v), None) => tracing::info!(
				target: LOG_TARGET,
				"validator {} is not in the session any more",
				v.duties.validator
			),
			_ => (),
		}
		self.metrics.standing(found.as_ref().map(|v| Standing {
			serving: v.duties.serving.len(),
			duties: v.duties.duties.len(),
			accused: v.duties.accused.len(),
		}));
		self.note_withdrawals(found.as_ref());
		self.note_accusations(found.as_ref());
		self.validator = found;
		self.refresh(head, follows);
		if told {
			self.cancel();
		}
		self.review_serving();
		self.unload();
		self.prune(head);
	}

	/// Has models checked again that the chain took from the list of those that this validator serves: it was absent, or its machine
	/// gives other bits than the others' do.
	fn note_withdrawals(&mut self, now: Option<&Validator>) {
		let (Some(before), Some(now)) = (&self.validator, now) else {
			return;
		};
		let wanted = self.serving.wanted(&*self.library);
		for model in &before.duties.serving {
			let withdrawn = !now.duties.serving.contains(model)
				&& wanted.contains(model)
				&& self.serving.refusal(model).is_none();
			if withdrawn {
				tracing::warn!(
					target: LOG_TARGET,
					"{model:?} is not served any more, and not by our own wish: this validator was absent, or its evidence was \
					 not what the others had. It is announced again if its reference evidence is still reproduced"
				);
				self.serving.forget_check(*model);
			}
		}
	}

	/// Says once of each request in which a jury accuses this validator what can be done about it.
	fn note_accusations(&mut self, now: Option<&Validator>) {
		let Some(now) = now else {
			return;
		};
		for (request, until) in &now.duties.accused {
			if self.accused.insert(*request) {
				tracing::error!(
					target: LOG_TARGET,
					"request {request}: a jury accuses this validator of a lie, and it is drawn for nothing. Look at what it said with \
					 `consilience verify {request}`. If that was right, call those who were not drawn, up to block {until} and against a bond: \
					 `consilience request contest {request} --suri SECRET`"
				);
			}
		}
		let still = |request: &RequestId| now.duties.accused.iter().any(|(r, _)| r == request);
		self.accused.retain(still);
	}

	/// Frees the memory of models that are neither served nor to be served, and for which nothing is due.
	fn unload(&mut self) {
		if self.loaded.is_empty() {
			return;
		}
		let mut used = self.serving.wanted(&*self.library);
		if let Some(validator) = &self.validator {
			used.extend(&validator.duties.serving);
			used.extend(validator.duties.duties.iter().map(|d| d.model));
		}
		let unused: Vec<_> = self.loaded.difference(&used).copied().collect();
		for model in unused {
			self.loaded.remove(&model);
			let runner = self.runner.clone();
			tokio::spawn(async move {
				if let Err(e) = runner.unload(model).await {
					tracing::debug!(target: LOG_TARGET, "{model:?}: not unloaded: {e}");
				}
			});
		}
	}

	fn prune(&mut self, head: Head) {
		let finalized = self.chain.finalized();
		if finalized.number < self.pruned.saturating_add(PRUNE_EVERY) {
			return;
		}
		self.pruned = finalized.number;
		let chain = &self.chain;
		let open = |request| -> Result<bool, ChainError> {
			Ok(chain.work(finalized.hash, request)?.is_some()
				|| chain.work(head.hash, request)?.is_some())
		};
		match self.journal.prune(finalized.number, open) {
			Ok(Ok(entries)) => tracing::debug!(target: LOG_TARGET, "{entries} entries pruned"),
			Ok(Err(e)) => tracing::warn!(target: LOG_TARGET, "the journal is not pruned: {e}"),
			Err(e) => tracing::error!(target: LOG_TARGET, "{e}"),
		}
	}

	fn want(&mut self, model: ModelId) -> Result<ServingState, String> {
		let is_damaged = || self.library.damaged().contains(&model);
		if !self.library.contains(model) || is_damaged() {
			self.find(model)?;
		}
		self.serving.want(model)?;
		self.serving.forgive(model)?;
		self.blaming.forgive(model);
		if let Some(why) = self.runner.unavailable() {
			self.serving.checked(model, Err(why));
		}
		Ok(self.state(&model, true))
	}

	/// Begins to fetch a model that is not on this machine. The error says what to do where that is not possible.
	fn find(&self, model: ModelId) -> Result<(), String> {
		let head = self
			.head
			.ok_or("the node has not seen a block yet: try again in a moment")?;
		let known = self.chain.model(head.hash, model);
		let Some(view) = known.map_err(|e| e.to_string())? else {
			return Err(format!(
				"model {model:?} is neither on this machine nor registered on chain: register it, or import it with \
				 `consilience model import`"
			));
		};
		// One that could not be fetched is tried again.
		if self.library.fetch(model, &view.spec) {
			Ok(())
		} else {
			Err(format!(
				"model {model:?} is not on this machine, and this node fetches none: import it with `consilience model import`"
			))
		}
	}

	/// Where a model stands.
	fn state(&self, model: &ModelId, wanted: bool) -> ServingState {
		match self.library.fetching(*model) {
			Some(Fetching::Failed(why)) if wanted => ServingState::Refused(why),
			Some(Fetching::Underway) if wanted => ServingState::Fetching,
			_ => self.serving.state(model, wanted, self.serves(model)),
		}
	}

	fn serves(&self, model: &ModelId) -> bool {
		self.validator
			.as_ref()
			.is_some_and(|v| v.duties.serving.contains(model))
	}

	fn status(&self) -> Status {
		let wanted = self.serving.wanted(&*self.library);
		let known: BTreeSet<ModelId> = wanted.iter().copied().chain(self.library.list()).collect();
		let mut in_use = wanted.clone();
		if let Some(Validator { duties, .. }) = &self.validator {
			in_use.extend(&duties.serving);
			in_use.extend(duties.duties.iter().map(|d| d.model));
		}
		Status {
			in_use,
			validator: self.validator.as_ref().map(|v| v.duties.validator.clone()),
			unavailable: self.runner.unavailable(),
			waiting: self.ready,
			running: self.blaming.jobs(),
			models: known
				.into_iter()
				.map(|m| (m, self.state(&m, wanted.contains(&m))))
				.collect(),
		}
	}

	fn on_done(&mut self, done: Done) {
		match done {
			Done::Job {
				key,
				number,
				result,
				took,
			} => {
				// One that was cancelled says nothing more, and may have been begun again.
				if self.running.get(&key).is_none_or(|r| r.number != number) {
					return;
				}
				let Some(Running { model, .. }) = self.running.remove(&key) else {
					return;
				};
				let outcome = result.as_ref().map_or_else(|e| e.label(), |_| "done");
				let kind = if key.kind == Kind::Output {
					"answer"
				} else {
					"measure"
				};
				self.metrics.job(kind, outcome, took.as_secs_f64());
				let Some(result) = self.accuse(Task::Job(key), model, result) else {
					return;
				};
				match result {
					Ok(found) => {
						if let Some((code, why)) = &found.unanswerable {
							self.metrics.unanswerable(*code);
							tracing::info!(target: LOG_TARGET, "request {}: unanswerable: {why}", key.request);
						}
						self.keep(key, found.value, took);
					}
					Err(e) if e.is_busy() => {
						self.postponed.insert(key);
					}
					// Nothing was computed: it costs little to look again, and a node that catches up has it soon.
					Err(e @ JobError::Data(_)) => {
						self.postponed.insert(key);
						if self.without_data.insert(key.request) {
							tracing::warn!(target: LOG_TARGET, "request {}: {kind}: {e}. It is looked for again at each block", key.request);
						}
					}
					Err(e) => {
						let times = self.failed.entry(key).or_default();
						*times = if e.is_crash() { TRIES } else { *times + 1 };
						let next = if *times >= TRIES {
							"Another validator will take its place"
						} else {
							"It is tried again at the next block"
						};
						self.postponed.insert(key);
						tracing::warn!(target: LOG_TARGET, "request {}: {kind}: {e}. {next}", key.request);
					}
				}
			}
			Done::Check { model, result } => {
				let Some(result) = self.accuse(Task::Check(model), model, result) else {
					self.serving.retry(model);
					self.review_serving();
					return;
				};
				match result {
					Ok(attestation) => {
						tracing::info!(target: LOG_TARGET, "{model:?}: reference evidence reproduced");
						self.serving.checked(model, Ok(attestation));
					}
					Err(e) if e.is_busy() => {
						self.postponed_checks.insert(model);
					}
					Err(JobError::Differs(evidence, why)) => {
						tracing::error!(target: LOG_TARGET, "{model:?} is not served: {why}");
						self.serving.differs(model, evidence, why);
					}
					Err(e) => {
						tracing::error!(target: LOG_TARGET, "{model:?} is not served: {e}");
						self.serving.checked(model, Err(e.to_string()));
					}
				}
				self.review_serving();
			}
		}
	}

	/// Finds out whether the engine's process went away over a task. `None` if it did, or may have: what is still due is done again,
	/// unless it was this task's fault too often.
	fn accuse<T>(
		&mut self,
		task: Task,
		model: ModelId,
		result: Result<T, JobError>,
	) -> Option<Result<T, JobError>> {
		let error = match result {
			Err(e @ JobError::TooLong) => e,
			Err(e) if e.is_crash() => e,
			// The engine did nothing, which says nothing of input or model.
			Err(e) if e.is_busy() || matches!(e, JobError::Data(_)) => {
				self.blaming.postponed(&task);
				return Some(Err(e));
			}
			result => {
				self.blaming.ended(&task);
				return Some(result);
			}
		};
		let blame = if error == JobError::TooLong {
			let blame = self.blaming.too_long(task);
			self.runner.restart();
			blame
		} else {
			self.blaming.crashed(task)
		};
		match blame {
			Blame::None => (),
			Blame::Suspected => tracing::warn!(
				target: LOG_TARGET,
				"{model:?}: {error}, with others at work. It is run again alone"
			),
			Blame::Guilty { times, inputs } => {
				tracing::warn!(
					target: LOG_TARGET,
					"{model:?}: {error}, alone, {times} of {CRASHES} over this input; {inputs} of {INPUTS} inputs"
				);
				let reference = matches!(task, Task::Check(_));
				if inputs >= INPUTS || (reference && times >= CRASHES) {
					let over = if reference {
						format!("{times} times over its reference inference")
					} else {
						format!("over {inputs} different inputs")
					};
					let why = format!(
						"the engine went away {over} ({error}); this model is not run any more. \
						 `consilience model serve` tries again"
					);
					tracing::error!(target: LOG_TARGET, "{model:?} is not served: {why}");
					if let Err(e) = self.serving.quarantine(model, why) {
						tracing::error!(target: LOG_TARGET, "the quarantine holds until the node's end only: {e}");
					}
					self.review_serving();
				} else if times >= CRASHES {
					return Some(Err(error));
				}
			}
		}
		None
	}

	fn keep(&mut self, key: Key, value: Value, took: Duration) {
		if !self.entries.iter().any(|e| e.computes() == Some(key)) {
			tracing::debug!(
				target: LOG_TARGET,
				"request {}: {:?} is not due any more",
				key.request,
				key.kind
			);
			return;
		}
		self.write(key, value, took);
	}

	/// Writes a result into the journal, now or at the next block at which that works.
	fn write(&mut self, key: Key, value: Value, took: Duration) {
		let Some(head) = self.head else { return };
		match self.journal.keep(&key, value.clone(), head.number) {
			Ok(_) => tracing::info!(
				target: LOG_TARGET,
				"request {}: {:?} after {:.1} s",
				key.request,
				key.kind,
				took.as_secs_f32()
			),
			// Nothing is said that could not be said again.
			Err(e) => {
				if !e.is_known() {
					tracing::error!(target: LOG_TARGET, "request {}: {e}", key.request);
				}
				self.unwritten.insert(key, (value, took));
				return;
			}
		}
		for place in 0..self.entries.len() {
			let entry = &self.entries[place];
			if entry.computes() == Some(key) {
				let (duty, question) = (entry.duty.clone(), entry.question);
				self.entries[place].stage = self.stage(&duty, question.as_ref());
			}
		}
	}

	/// Learns of which rounds the last finalised block takes this validator's evidence, as far as it waits to be shown.
	fn learn_closed(&mut self) {
		let finalized = self.chain.finalized();
		let Some(validator) = &self.validator else {
			return;
		};
		if self.closed_at == Some(finalized.hash) {
			return;
		}
		let waits: HashSet<_> = self
			.entries
			.iter()
			.filter(|e| matches!(e.stage, Stage::Withheld))
			.map(|e| e.duty.request)
			.collect();
		let found = self
			.chain
			.duties(finalized.hash, validator.key.clone())
			.and_then(|duties| {
				let duties = duties.into_iter().flat_map(|d| d.duties);
				duties
					.filter(|d| shows(d.kind) && waits.contains(&d.request))
					.filter_map(|d| {
						let work = self.chain.work(finalized.hash, d.request).transpose()?;
						Some(work.map(|work| (d.request, work.challenge)))
					})
					.collect::<Result<Vec<_>, _>>()
			});
		match found {
			Ok(found) => {
				self.closed.extend(found);
				self.closed_at = Some(finalized.hash);
			}
			Err(e) => {
				tracing::warn!(target: LOG_TARGET, "what is due at #{}: {e}", finalized.number)
			}
		}
	}

	/// Has evidence shown that may be now. What is shown on one fork could be committed to on another that has the same challenge;
	/// where the commitments' end is final there is no other.
	fn reveal(&mut self) {
		let waits = |e: &Entry| matches!(e.stage, Stage::Withheld);
		if self.entries.iter().any(waits) {
			self.learn_closed();
		}
		self.withheld = false;
		for place in 0..self.entries.len() {
			let entry = &self.entries[place];
			if !waits(entry) {
				continue;
			}
			let (duty, question) = (entry.duty.clone(), entry.question);
			self.entries[place].stage = self.stage(&duty, question.as_ref());
			self.withheld |= waits(&self.entries[place]);
		}
	}

	/// Looks at what is due at the best block. Of a duty that is what it was at the block before, all is known already.
	fn refresh(&mut self, head: Head, follows: bool) {
		let before = std::mem::take(&mut self.entries);
		let duties = self
			.validator
			.as_ref()
			.map(|v| v.duties.duties.clone())
			.unwrap_or_default();
		// Of a request there may be one of a jury, and one of the committee before it.
		let name = |duty: &Duty<_>| (duty.request, duty.kind == DutyKind::LateReveal);
		let mut known: HashMap<(RequestId, bool), Entry> = before
			.into_iter()
			.filter(|e| follows && e.lasts())
			.map(|e| (name(&e.duty), e))
			.collect();
		// What was learnt of the last finalised block was about what waited then.
		self.closed_at = None;
		let mut entries = Vec::with_capacity(duties.len());
		for duty in duties {
			match known.remove(&name(&duty)) {
				Some(entry) if entry.duty == duty => entries.push(entry),
				_ => entries.extend(self.look(head, duty)),
			}
		}
		self.entries = entries;
		self.reveal();
		let open: HashSet<_> = self.entries.iter().map(|e| e.duty.request).collect();
		self.failed.retain(|key, _| open.contains(&key.request));
		self.without_data.retain(|request| open.contains(request));
		self.unwritten.retain(|key, _| open.contains(&key.request));
		self.stuck.retain(|key| open.contains(&key.request));
		self.closed.retain(|(request, _)| open.contains(request));
	}

	/// Looks at one duty; none if its request is not open.
	fn look(&mut self, head: Head, duty: Duty<BlockNumber>) -> Option<Entry> {
		let question = match self.chain.work(head.hash, duty.request) {
			Ok(work) => Some(Question::of(&work?)),
			Err(e) => {
				tracing::warn!(target: LOG_TARGET, "request {}: {e}", duty.request);
				None
			}
		};
		Some(Entry {
			stage: self.stage(&duty, question.as_ref()),
			question,
			duty,
		})
	}

	/// Where a duty stands.
	fn stage(&mut self, duty: &Duty<BlockNumber>, question: Option<&Question>) -> Stage {
		let (Some(question), Some(validator)) = (question, &self.validator) else {
			return Stage::Unknown;
		};
		let round = (duty.request, question.challenge);
		if shows(duty.kind) && !self.closed.contains(&round) {
			return Stage::Withheld;
		}
		match step(&self.journal, &validator.duties.validator, duty, question) {
			Ok(Step::Say(statements)) => Stage::Say(Group::new(statements)),
			Ok(Step::Compute(key)) => Stage::Compute(key),
			Ok(Step::Stuck(why)) => {
				let key = Key {
					request: duty.request,
					kind: Kind::Evidence,
					seed: question.challenge.unwrap_or(question.seed),
				};
				if self.stuck.insert(key) {
					tracing::error!(
						target: LOG_TARGET,
						"request {}: {:?} cannot be done: {why}",
						duty.request,
						duty.kind
					);
				}
				Stage::Stuck
			}
			// Said once, where it failed.
			Err(e) if e.is_known() => wanted(duty, question).map_or(Stage::Unknown, Stage::Unread),
			Err(e) => {
				tracing::error!(target: LOG_TARGET, "request {}: {e}", duty.request);
				Stage::Unknown
			}
		}
	}

	/// Ends jobs for what is not due any more: settled, late, or on a fork that was lost.
	fn cancel(&mut self) {
		let due: HashSet<Key> = self.entries.iter().filter_map(Entry::computes).collect();
		let blaming = &mut self.blaming;
		self.running.retain(|key, job| {
			let stays = due.contains(key);
			if !stays {
				tracing::debug!(target: LOG_TARGET, "request {}: not due any more, cancelled", key.request);
				// The engine hears of it.
				job.task.abort();
				blaming.postponed(&Task::Job(*key));
			}
			stays
		});
	}

	/// Derives what is to be checked, announced and withdrawn.
	fn review_serving(&mut self) {
		self.say.clear();
		self.unchecked.clear();
		let (Some(head), Some(validator), false) = (self.head, &self.validator, self.syncing)
		else {
			return;
		};
		let on_chain = &validator.duties.serving;
		let wanted = self.serving.wanted(&*self.library);
		let damaged = self.library.damaged();
		// By other rules this machine would judge constrained answers by other masks. It is drawn for none while it serves no text.
		let apart = |model: &ModelId| {
			validator.duties.rules != CONSTRAINT_RULES
				&& matches!(self.chain.model(head.hash, *model), Ok(Some(view)) if view.spec.task == model::Task::TextGeneration)
		};
		for model in &wanted {
			if !self.library.contains(*model) {
				self.serving.forget_check(*model);
			} else if damaged.contains(model) && self.serving.attestation(model).is_some() {
				let why = "its files on this machine are damaged, as the log says: `consilience model serve` fetches anew what is wrong";
				self.serving.checked(*model, Err(why.into()));
			}
		}
		for model in on_chain {
			let is_gone = !self.library.contains(*model);
			let is_apart = apart(model);
			if is_apart {
				tracing::warn!(
					target: LOG_TARGET,
					"model {model:?} is withdrawn: constrained answers follow rules {} on this chain, and {CONSTRAINT_RULES} in this program. \
					 Install the release that knows them",
					validator.duties.rules
				);
			}
			let is_refused = self.serving.refusal(model).is_some();
			if !wanted.contains(model) || is_refused || is_gone || is_apart {
				let withdraw = Statement::Withdraw { model: *model };
				self.say.push(Group::new(vec![withdraw]));
			}
		}
		for model in wanted {
			if !on_chain.contains(&model) && !apart(&model) {
				if let Some((evidence, speed)) = self.serving.attestation(&model).cloned() {
					let serve = Statement::Serve {
						model,
						evidence,
						speed,
					};
					self.say.push(Group::new(vec![serve]));
					continue;
				}
			}
			if let (Some(evidence), false) =
				(self.serving.differing(&model), on_chain.contains(&model))
			{
				// Whoever registered the model sees why it is not active.
				let is_due = match self.chain.model(head.hash, model) {
					Ok(Some(view)) => {
						view.status != ModelStatus::Deprecated
							&& !view.differing.contains(&validator.duties.validator)
					}
					Ok(None) | Err(_) => false,
				};
				if is_due {
					let evidence = evidence.clone();
					let differ = Statement::Differ { model, evidence };
					self.say.push(Group::new(vec![differ]));
				}
				continue;
			}
			// Models that are served already are checked too: machine and files may have changed since.
			if !self.serving.is_unknown(&model) {
				continue;
			}
			let asked = Instant::now();
			match self.chain.model(head.hash, model) {
				Ok(Some(view)) if !self.library.contains(model) => {
					if self.library.fetching(model).is_none() {
						self.library.fetch(model, &view.spec);
					}
				}
				Ok(Some(view)) => self.unchecked.push((model, view.spec, asked.elapsed())),
				Ok(None) => (),
				Err(e) => tracing::warn!(target: LOG_TARGET, "{model:?}: {e}"),
			}
		}
		let (entries, unchecked) = (&self.entries, &self.unchecked);
		let postponed = &self.postponed_checks;
		self.blaming.retain(|task| match task {
			Task::Job(key) => entries.iter().any(|e| e.computes() == Some(*key)),
			Task::Check(model) => {
				postponed.contains(model) || unchecked.iter().any(|(m, ..)| m == model)
			}
		});
	}

	/// The jobs that could be begun: places of their entries, the most urgent first.
	fn ready(&mut self) -> Vec<usize> {
		let mut ready = Vec::new();
		for (place, entry) in self.entries.iter().enumerate() {
			let (Stage::Compute(key), Some(question)) = (&entry.stage, &entry.question) else {
				continue;
			};
			if self.running.contains_key(key)
				|| self.postponed.contains(key)
				|| self.unwritten.contains_key(key)
				|| self.failed.get(key).is_some_and(|times| *times >= TRIES)
				|| self.serving.refusal(&entry.duty.model).is_some()
			{
				continue;
			}
			if self.blaming.is_poison(&question.input) {
				tracing::warn!(
					target: LOG_TARGET,
					"request {}: its input has ended the engine {CRASHES} times and is not run again. Another validator will take its place",
					key.request
				);
				self.failed.insert(*key, TRIES);
				continue;
			}
			ready.push(place);
		}
		ready
	}

	/// Begins what there is room for. A suspect goes first, and waits until nothing else is at work.
	fn start_jobs(&mut self) {
		let ready = self.ready();
		self.ready = ready.len();
		if self.blaming.suspects() {
			let is_suspect = |w: &Self, place: &usize| {
				let stage = &w.entries[*place].stage;
				matches!(stage, Stage::Compute(key) if w.blaming.is_suspect(&Task::Job(*key)))
			};
			let check = (0..self.unchecked.len())
				.find(|i| self.blaming.is_suspect(&Task::Check(self.unchecked[*i].0)));
			let job = ready.iter().copied().find(|place| is_suspect(self, place));
			match (check, job) {
				(Some(check), _) => return self.start_check(check),
				(None, Some(place)) => return self.start_job(place),
				(None, None) => (),
			}
		}
		let Some(head) = self.head else { return };
		let mut places: HashMap<Lane, usize> = HashMap::new();
		for job in self.running.values() {
			*places.entry(job.lane).or_default() += 1;
		}
		for place in ready {
			let entry = &self.entries[place];
			let Some(Question { lane, .. }) = entry.question else {
				continue;
			};
			let taken = places.entry(lane).or_default();
			let left = entry.duty.deadline.saturating_sub(head.number);
			let most = self.limits.places(lane) * if left <= URGENT { 2 } else { 1 };
			if *taken >= most {
				continue;
			}
			*taken += 1;
			self.start_job(place);
		}
		// Checks have no share of the jobs' places: who has much to do shall still be able to serve another model.
		if !self.unchecked.is_empty() && !self.blaming.checks() {
			self.start_check(0);
		}
	}

	fn start_job(&mut self, place: usize) {
		let entry = &self.entries[place];
		let (Stage::Compute(key), Some(question), Some(head)) =
			(&entry.stage, entry.question, self.head)
		else {
			return;
		};
		let (key, model) = (*key, entry.duty.model);
		let left = entry.duty.deadline.saturating_sub(head.number);
		if !self.blaming.may_begin(&Task::Job(key)) {
			return;
		}
		let work = match self.chain.work(head.hash, key.request) {
			Ok(Some(work)) if Question::of(&work) == question => work,
			// Looked at again at the next block.
			Ok(_) => return self.entries[place].stage = Stage::Unknown,
			Err(e) => {
				tracing::warn!(target: LOG_TARGET, "request {}: {e}", key.request);
				self.postponed.insert(key);
				return;
			}
		};
		self.ready = self.ready.saturating_sub(1);
		self.blaming.begin(Task::Job(key), model, question.input);
		self.loaded.insert(model);
		self.begun += 1;
		let number = self.begun;
		let (runner, library, done) =
			(self.runner.clone(), self.library.clone(), self.done.clone());
		let chain = self.chain.clone();
		// What is said about it has to be in a block by then.
		let until = Instant::now() + self.limits.block * left.saturating_add(1);
		let latest = until + self.limits.patience;
		let task = tokio::spawn(async move {
			let started = Instant::now();
			// Data of megabytes is read and hashed.
			let job = tokio::task::spawn_blocking(move || Job::new(key, work, &*chain));
			let result = match job.await {
				Ok(Ok(job)) => perform(job, &*runner, &library, (until, latest)).await,
				Ok(Err(e)) => Err(e),
				Err(e) => Err(JobError::Data(format!("reading the input's data: {e}"))),
			};
			// The worker may have ended.
			let _ = done
				.send(Done::Job {
					key,
					number,
					result,
					took: started.elapsed(),
				})
				.await;
		});
		let running = Running {
			number,
			model,
			lane: question.lane,
			task: task.abort_handle(),
		};
		self.running.insert(key, running);
	}

	fn start_check(&mut self, index: usize) {
		let (model, ..) = self.unchecked[index];
		if !self.blaming.may_begin(&Task::Check(model)) || !self.serving.begin_check(model) {
			return;
		}
		let (model, spec, call) = self.unchecked.remove(index);
		self.blaming.begin(Task::Check(model), model, model);
		self.loaded.insert(model);
		let (runner, library, done) =
			(self.runner.clone(), self.library.clone(), self.done.clone());
		let limits = self.limits;
		tokio::spawn(async move {
			let result = serving::check(model, &spec, &*runner, &library, &limits, call).await;
			// The worker may have ended.
			let _ = done.send(Done::Check { model, result }).await;
		});
	}

	/// Has said again what stands in reports that no block can take any more: another fork is the best chain now, or one of the
	/// statements is not due any more, for which the runtime refuses all of them. What is in a block already is not due either.
	fn forget_lost(&mut self, head: Head) {
		let (chain, said) = (&self.chain, &mut self.said);
		self.outstanding.retain(|o| {
			let checked = chain.check(head.hash, o.report.clone(), o.signature.clone());
			let lost = matches!(checked, Err(ChainError::Refused(_)));
			if lost {
				for name in &o.names {
					said.remove(name);
				}
			}
			// After that many blocks everything in it is said again anyway.
			!lost && head.number.saturating_sub(o.report.at) < SAY_AGAIN
		});
	}

	/// Makes one report of what is to be said, at most one for a block.
	async fn speak(&mut self) {
		let (Some(head), Some(validator)) = (self.head, &self.validator) else {
			return;
		};
		if self.syncing || self.reported == Some(head.hash) {
			return;
		}
		let duties = self.entries.iter().filter_map(|e| match &e.stage {
			Stage::Say(group) => Some(group),
			_ => None,
		});
		let due: Vec<&Group> = duties.chain(&self.say).collect();
		let names: HashSet<H256> = due.iter().map(|g| g.name).collect();
		self.said.retain(|name, _| names.contains(name));
		let mut groups: Vec<&Group> = Vec::new();
		let (mut statements, mut bytes, mut reveals) = (0, 0, 0);
		for group in due {
			let recently = |at: &BlockNumber| {
				head.number.saturating_sub(*at) < SAY_AGAIN && *at <= head.number
			};
			if self.said.get(&group.name).is_some_and(recently) {
				continue;
			}
			statements += group.statements.len();
			bytes += group.bytes;
			reveals += group.statements.iter().filter(|s| may_settle(s)).count();
			let first = groups.is_empty();
			let is_long = bytes > REPORT_BYTES || reveals > REPORT_REVEALS;
			if statements > MAX_STATEMENTS as usize || (is_long && !first) {
				break;
			}
			groups.push(group);
		}
		if groups.is_empty() {
			return;
		}
		let (chain, duties) = (&self.chain, &validator.duties);
		let sign = |groups: &[&Group]| {
			let statements = groups.iter().flat_map(|g| g.statements.iter().cloned());
			let report = Report {
				session: duties.session,
				validator: duties.index,
				at: head.number,
				statements: List::truncate_from(statements.collect()),
			};
			let signature = chain.sign(
				&validator.key,
				&report.payload(&chain.genesis(), &head.hash),
			)?;
			Ok::<_, ChainError>((report, signature))
		};
		let mut refused = Vec::new();
		let mut sifted = false;
		let (made, outcome) = loop {
			let made = sign(&groups);
			let outcome = match &made {
				Ok((report, signature)) => {
					chain
						.submit(head.hash, report.clone(), signature.clone())
						.await
				}
				Err(e) => Err(e.clone()),
			};
			match &outcome {
				// What is most urgent stands first; the rest is said in the next blocks.
				Err(ChainError::TooLarge) if groups.len() > 1 => {
					groups.truncate(groups.len() / 2);
				}
				// One statement that is not due has the whole report refused: find the others.
				Err(ChainError::Refused(_)) if groups.len() > 1 && !sifted => {
					sifted = true;
					let taken = |groups: &[&Group]| {
						sign(groups).and_then(|(report, signature)| {
							chain.check(head.hash, report, signature)
						})
					};
					let mut good = Vec::new();
					sift(&groups, &taken, &mut good, &mut refused);
					groups = good;
					if groups.is_empty() {
						break (made, outcome);
					}
				}
				_ => break (made, outcome),
			}
		};
		match outcome.and(made) {
			Ok((report, signature)) => {
				self.metrics.report("submitted");
				self.reported = Some(head.hash);
				let mut names = Vec::new();
				for group in groups.drain(..) {
					for statement in &group.statements {
						self.metrics.statement(label(statement));
						tracing::debug!(target: LOG_TARGET, "said at #{}: {}", head.number, label(statement));
					}
					names.push(group.name);
					self.said.insert(group.name, head.number);
				}
				self.outstanding.push(Outstanding {
					report,
					signature,
					names,
				});
			}
			Err(e) => {
				let outcome = if matches!(e, ChainError::Refused(_)) {
					refused.append(&mut groups);
					"refused"
				} else {
					"failed"
				};
				self.metrics.report(outcome);
				// Whatever is still due at the next block is said there.
				self.reported = Some(head.hash);
				tracing::warn!(target: LOG_TARGET, "report at #{}: {e}", head.number);
			}
		}
		// What is said of a model and refused, from a validator that is disabled for instance, has no haste.
		for group in refused {
			if matches!(
				group.statements[..],
				[Statement::Serve { .. } | Statement::Differ { .. }]
			) {
				self.said.insert(group.name, head.number);
			}
		}
	}
}

/// Whether a statement may end a round: it shows what its author is bound to.
fn may_settle(statement: &Statement) -> bool {
	matches!(
		statement,
		Statement::Reveal { .. } | Statement::RevealOutput { .. }
	)
}

/// Parts groups of which a report is not taken into those that are taken and those that are not, halving as long as there are any of
/// both: few are bad in most reports.
fn sift<'g>(
	groups: &[&'g Group],
	taken: &impl Fn(&[&Group]) -> Result<(), ChainError>,
	good: &mut Vec<&'g Group>,
	bad: &mut Vec<&'g Group>,
) {
	let (first, second) = groups.split_at(groups.len() / 2);
	for half in [first, second] {
		match (half, taken(half)) {
			([], _) => (),
			(half, Ok(())) => good.extend(half),
			([group], Err(e)) => {
				tracing::debug!(target: LOG_TARGET, "{}: {e}", label(&group.statements[0]));
				bad.push(group);
			}
			(half, Err(_)) => sift(half, taken, good, bad),
		}
	}
}
