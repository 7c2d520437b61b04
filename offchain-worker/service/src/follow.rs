//! The loop: new blocks, finished jobs, and commands.

use std::{
	collections::{BTreeMap, BTreeSet, HashMap, HashSet},
	sync::Arc,
	time::{Duration, Instant},
};

use codec::Encode;
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	evidence::Evidence,
	model::ModelSpec,
	report::{Duties, DutyKind, Report, Statement, MAX_STATEMENTS},
	List, ModelId, RequestId,
};
use futures::{FutureExt, StreamExt};
use polkadot_sdk::sp_core::H256;
use tokio::sync::{mpsc, oneshot};

use crate::{
	blame::{Blame, Blaming, Task, CRASHES},
	chain::{AccountId, BlockNumber, Chain, ChainError, Head},
	duty::{label, name, perform, step, Job, JobError, Step},
	journal::{Journal, Key, Kind, Value},
	metrics::Metrics,
	runner::{Library, Runner},
	serving::{self, Serving, ServingState},
	LOG_TARGET,
};

/// Blocks after which a statement that is still due is said again.
const SAY_AGAIN: BlockNumber = 3;
/// Most jobs that wait; the most urgent ones stay.
const QUEUE: usize = 64;
/// Finalised blocks from one pruning of the journal to the next.
const PRUNE_EVERY: BlockNumber = 16;
/// Most bytes of a report; what is more goes into the next.
const REPORT_BYTES: usize = 1 << 20;

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
}

enum Done {
	Job {
		key: Key,
		model: ModelId,
		result: Result<Value, JobError>,
		took: Duration,
	},
	Check {
		model: ModelId,
		result: Result<Evidence, JobError>,
	},
}

/// What is known of this validator at the best block.
struct Validator {
	key: InferenceId,
	duties: Duties<AccountId, BlockNumber>,
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
	/// Jobs that are due and wait, the most urgent first. Derived from the chain again at every step.
	waiting: Vec<Job>,
	/// Journal keys of everything that is due and to be computed.
	due: HashSet<Key>,
	/// Models to be checked, as the chain describes them.
	unchecked: Vec<(ModelId, ModelSpec)>,
	/// What runs, and whose fault a crash is.
	blaming: Blaming,
	/// What was computed and could not be written, with the time it took: it is neither said nor computed again meanwhile.
	unwritten: HashMap<Key, (Value, Duration)>,
	/// Jobs that failed for a reason that trying again will not mend.
	failed: HashSet<Key>,
	/// Jobs for which the engine had no time: they are tried again at the next block.
	postponed: HashSet<Key>,
	/// Checks of models for which it had none.
	postponed_checks: HashSet<ModelId>,
	/// Models that the engine was asked to load.
	loaded: BTreeSet<ModelId>,
	/// Duties that were found to be stuck, so that the log says it once.
	stuck: HashSet<Key>,
	/// What there is to say, by duty.
	say: Vec<Vec<Statement>>,
	/// Block at which each was last said.
	said: HashMap<H256, BlockNumber>,
	/// Reports that may be in the pool or in a block.
	outstanding: Vec<Outstanding>,
	/// Block on which the last report was made.
	reported: Option<H256>,
	pruned: BlockNumber,
	/// Whether evidence waits for the block in which its round's commitments closed to be final.
	withheld: bool,
	/// Requests whose round takes this validator's evidence at a finalised block, with the challenge; and that block.
	closed: Option<(H256, HashMap<RequestId, Option<H256>>)>,
}

/// Bounds of the worker's work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
	/// Jobs that run at a time.
	pub jobs: usize,
	/// Longest time that a job may take; the engine is ended after it.
	pub job: Duration,
}

impl Default for Limits {
	fn default() -> Self {
		Self {
			jobs: 2,
			job: Duration::from_secs(600),
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
		// Every job sends once, and jobs are few: the channel never fills.
		let (done, finished) = mpsc::channel(QUEUE);
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
			waiting: Vec::new(),
			due: HashSet::new(),
			unchecked: Vec::new(),
			blaming: Blaming::default(),
			unwritten: HashMap::new(),
			failed: HashSet::new(),
			postponed: HashSet::new(),
			postponed_checks: HashSet::new(),
			loaded: BTreeSet::new(),
			stuck: HashSet::new(),
			say: Vec::new(),
			said: HashMap::new(),
			outstanding: Vec::new(),
			reported: None,
			pruned: 0,
			withheld: false,
			closed: None,
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
					if !self.withheld {
						continue;
					}
				}
				Some(done) = self.finished.recv() => self.on_done(done),
				command = self.commands.recv(), if commands_open => match command {
					Some(Command::Status(reply)) => {
						// Who asked may have stopped waiting. Nothing changed that would have to be looked at.
						let _ = reply.send(self.status());
						continue;
					}
					Some(Command::Serve(model, reply)) => {
						let _ = reply.send(self.want(model));
					}
					Some(Command::Withdraw(model, reply)) => {
						let _ = reply.send(self.serving.unwant(model));
					}
					None => commands_open = false,
				},
			}
			self.review();
			self.start_jobs();
			self.speak().await;
		}
	}

	fn on_head(&mut self, head: Head) {
		self.head = Some(head);
		self.postponed.clear();
		let syncing = self.chain.is_major_syncing();
		if syncing {
			if !self.syncing {
				tracing::info!(target: LOG_TARGET, "catching up with the network: no duties until then");
			}
			self.syncing = true;
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
		let mut found = None;
		for key in self.chain.keys() {
			match self.chain.duties(head.hash, key.clone()) {
				Ok(Some(duties)) => {
					found = Some(Validator { key, duties });
					break;
				}
				Ok(None) => (),
				Err(e) => {
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
		self.metrics
			.serving(found.as_ref().map_or(0, |v| v.duties.serving.len()));
		self.note_withdrawals(found.as_ref());
		self.validator = found;
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
		if !self.library.list().contains(&model) {
			return Err(format!(
				"model {model:?} is not on this machine: import it with `consilience model import`"
			));
		}
		self.serving.want(model)?;
		self.serving.forgive(model)?;
		self.blaming.forgive(model);
		if let Some(why) = self.runner.unavailable() {
			self.serving.checked(model, Err(why));
		}
		Ok(self.serving.state(&model, true, self.serves(&model)))
	}

	fn serves(&self, model: &ModelId) -> bool {
		self.validator
			.as_ref()
			.is_some_and(|v| v.duties.serving.contains(model))
	}

	fn status(&self) -> Status {
		let wanted = self.serving.wanted(&*self.library);
		let known: BTreeSet<ModelId> = wanted.iter().copied().chain(self.library.list()).collect();
		Status {
			validator: self.validator.as_ref().map(|v| v.duties.validator.clone()),
			unavailable: self.runner.unavailable(),
			waiting: self.waiting.len(),
			running: self.blaming.jobs(),
			models: known
				.into_iter()
				.map(|m| {
					(
						m,
						self.serving.state(&m, wanted.contains(&m), self.serves(&m)),
					)
				})
				.collect(),
		}
	}

	fn on_done(&mut self, done: Done) {
		match done {
			Done::Job {
				key,
				model,
				result,
				took,
			} => {
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
					Ok(value) => self.keep(key, value, took),
					Err(e) if e.is_busy() => {
						self.postponed.insert(key);
					}
					Err(e) => {
						tracing::warn!(
							target: LOG_TARGET,
							"request {}: {kind}: {e}. Another validator will take its place",
							key.request
						);
						self.failed.insert(key);
					}
				}
			}
			Done::Check { model, result } => {
				let Some(result) = self.accuse(Task::Check(model), model, result) else {
					self.serving.retry(model);
					return;
				};
				match result {
					Ok(evidence) => {
						tracing::info!(target: LOG_TARGET, "{model:?}: reference evidence reproduced");
						self.serving.checked(model, Ok(evidence));
					}
					Err(e) if e.is_busy() => {
						self.postponed_checks.insert(model);
					}
					Err(e) => {
						tracing::error!(target: LOG_TARGET, "{model:?} is not served: {e}");
						self.serving.checked(model, Err(e.to_string()));
					}
				}
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
			Err(e) if e.is_busy() => {
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
			Blame::Guilty {
				task: by,
				model: of,
			} => {
				tracing::warn!(target: LOG_TARGET, "{model:?}: {error}, alone, {by} of {CRASHES}");
				if of >= CRASHES {
					let why = format!(
						"the engine went away {CRASHES} times over this model ({error}); it is not run any more. \
						 `consilience model serve` tries again"
					);
					tracing::error!(target: LOG_TARGET, "{model:?} is not served: {why}");
					if let Err(e) = self.serving.quarantine(model, why) {
						tracing::error!(target: LOG_TARGET, "the quarantine holds until the node's end only: {e}");
					}
				} else if by >= CRASHES {
					return Some(Err(error));
				}
			}
		}
		None
	}

	fn keep(&mut self, key: Key, value: Value, took: Duration) {
		if !self.due.contains(&key) {
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
			}
		}
	}

	/// Requests whose round takes this validator's evidence at the last finalised block, with the round's challenge.
	fn closed(&mut self) -> HashMap<RequestId, Option<H256>> {
		let finalized = self.chain.finalized();
		if let Some((at, closed)) = &self.closed {
			if *at == finalized.hash {
				return closed.clone();
			}
		}
		let Some(validator) = &self.validator else {
			return HashMap::new();
		};
		let found = self
			.chain
			.duties(finalized.hash, validator.key.clone())
			.and_then(|duties| {
				let duties = duties.into_iter().flat_map(|d| d.duties);
				duties
					.filter(|d| d.kind == DutyKind::Reveal)
					.filter_map(|d| {
						let work = self.chain.work(finalized.hash, d.request).transpose()?;
						Some(work.map(|work| (d.request, work.challenge)))
					})
					.collect::<Result<HashMap<_, _>, _>>()
			});
		match found {
			Ok(found) => {
				self.closed = Some((finalized.hash, found.clone()));
				found
			}
			Err(e) => {
				tracing::warn!(target: LOG_TARGET, "what is due at #{}: {e}", finalized.number);
				HashMap::new()
			}
		}
	}

	/// Derives what is to be computed and said from the best block and the journal.
	fn review(&mut self) {
		self.waiting.clear();
		self.due.clear();
		self.unchecked.clear();
		self.say.clear();
		self.withheld = false;
		if self.syncing {
			return;
		}
		let reveals = |v: &Validator| {
			let mut duties = v.duties.duties.iter();
			duties.any(|d| d.kind == DutyKind::Reveal)
		};
		let closed = if self.validator.as_ref().is_some_and(reveals) {
			self.closed()
		} else {
			HashMap::new()
		};
		let (Some(head), Some(validator)) = (self.head, &self.validator) else {
			return;
		};
		for duty in &validator.duties.duties {
			let work = match self.chain.work(head.hash, duty.request) {
				Ok(Some(work)) => work,
				Ok(None) => continue,
				Err(e) => {
					tracing::warn!(target: LOG_TARGET, "request {}: {e}", duty.request);
					continue;
				}
			};
			let seed = work.challenge.unwrap_or(work.seed);
			// What is shown on one fork could be committed to on another that has the same challenge. Where the commitments' end
			// is final there is no other.
			if duty.kind == DutyKind::Reveal && closed.get(&duty.request) != Some(&work.challenge) {
				self.withheld = true;
				continue;
			}
			match step(&self.journal, &validator.duties.validator, duty, work) {
				Ok(Step::Say(statements)) => self.say.push(statements),
				Ok(Step::Compute(job)) => {
					self.due.insert(job.key);
					if !self.blaming.runs(&Task::Job(job.key))
						&& !self.failed.contains(&job.key)
						&& !self.postponed.contains(&job.key)
						&& !self.unwritten.contains_key(&job.key)
						&& self.serving.refusal(&job.model).is_none()
					{
						self.waiting.push(*job);
					}
				}
				Ok(Step::Stuck(why)) => {
					let key = Key {
						request: duty.request,
						kind: Kind::Evidence,
						seed,
					};
					if self.stuck.insert(key) {
						tracing::error!(
							target: LOG_TARGET,
							"request {}: {:?} cannot be done: {why}",
							duty.request,
							duty.kind
						);
					}
				}
				// Said once, where it failed. What is being computed stays due.
				Err(e) if e.is_known() => {
					let answers = matches!(duty.kind, DutyKind::Answer | DutyKind::CommitOutput);
					self.due.insert(Key {
						request: duty.request,
						kind: if answers {
							Kind::Output
						} else {
							Kind::Evidence
						},
						seed,
					});
				}
				Err(e) => tracing::error!(target: LOG_TARGET, "request {}: {e}", duty.request),
			}
		}
		if self.waiting.len() > QUEUE {
			tracing::warn!(
				target: LOG_TARGET,
				"{} jobs are due; the {QUEUE} most urgent are kept",
				self.waiting.len()
			);
			self.waiting.truncate(QUEUE);
		}
		let open: HashSet<_> = validator.duties.duties.iter().map(|d| d.request).collect();
		self.failed.retain(|key| open.contains(&key.request));
		self.unwritten.retain(|key, _| open.contains(&key.request));
		self.stuck.retain(|key| open.contains(&key.request));
		self.review_serving(head);
		let due: HashSet<_> = self.say.iter().map(|s| name(s)).collect();
		self.said.retain(|name, _| due.contains(name));
	}

	fn review_serving(&mut self, head: Head) {
		let Some(validator) = &self.validator else {
			return;
		};
		let on_chain = &validator.duties.serving;
		let wanted = self.serving.wanted(&*self.library);
		for model in on_chain {
			if !wanted.contains(model) || self.serving.refusal(model).is_some() {
				self.say.push(vec![Statement::Withdraw { model: *model }]);
			}
		}
		for model in wanted {
			if !on_chain.contains(&model) {
				if let Some(evidence) = self.serving.evidence(&model) {
					let evidence = evidence.clone();
					self.say.push(vec![Statement::Serve { model, evidence }]);
					continue;
				}
			}
			// Models that are served already are checked too: machine and files may have changed since.
			if !self.serving.is_unknown(&model) {
				continue;
			}
			match self.chain.model(head.hash, model) {
				Ok(Some(view)) => self.unchecked.push((model, view.spec)),
				Ok(None) => (),
				Err(e) => tracing::warn!(target: LOG_TARGET, "{model:?}: {e}"),
			}
		}
		let (due, unchecked) = (&self.due, &self.unchecked);
		let postponed = &self.postponed_checks;
		self.blaming.retain(|task| match task {
			Task::Job(key) => due.contains(key),
			Task::Check(model) => {
				postponed.contains(model) || unchecked.iter().any(|(m, _)| m == model)
			}
		});
	}

	/// Begins what there is room for. A suspect goes first, and waits until nothing else is at work.
	fn start_jobs(&mut self) {
		let suspect = |w: &Self, task| w.blaming.is_suspect(&task);
		let check =
			(0..self.unchecked.len()).find(|i| suspect(self, Task::Check(self.unchecked[*i].0)));
		let job = (0..self.waiting.len()).find(|i| suspect(self, Task::Job(self.waiting[*i].key)));
		match (check, job) {
			(Some(check), _) => self.start_check(check),
			(None, Some(job)) => self.start_job(job),
			(None, None) => {
				while !self.waiting.is_empty()
					&& self.blaming.jobs() < self.limits.jobs.max(1)
					&& self.blaming.may_begin(&Task::Job(self.waiting[0].key))
				{
					self.start_job(0);
				}
				// Checks have no share of the jobs' places: who has much to do shall still be able to serve another model.
				if !self.unchecked.is_empty() && !self.blaming.checks() {
					self.start_check(0);
				}
			}
		}
		self.metrics.waiting(self.waiting.len());
	}

	fn start_job(&mut self, index: usize) {
		if !self.blaming.may_begin(&Task::Job(self.waiting[index].key)) {
			return;
		}
		let job = self.waiting.remove(index);
		self.blaming.begin(Task::Job(job.key), job.model);
		self.loaded.insert(job.model);
		let (runner, library, done) =
			(self.runner.clone(), self.library.clone(), self.done.clone());
		let limit = self.limits.job;
		tokio::spawn(async move {
			let (key, model, started) = (job.key, job.model, Instant::now());
			let result = perform(job, &*runner, &library, limit).await;
			// The worker may have ended.
			let _ = done
				.send(Done::Job {
					key,
					model,
					result,
					took: started.elapsed(),
				})
				.await;
		});
	}

	fn start_check(&mut self, index: usize) {
		let (model, _) = self.unchecked[index];
		if !self.blaming.may_begin(&Task::Check(model)) || !self.serving.begin_check(model) {
			return;
		}
		let (model, spec) = self.unchecked.remove(index);
		self.blaming.begin(Task::Check(model), model);
		self.loaded.insert(model);
		let (runner, library, done) =
			(self.runner.clone(), self.library.clone(), self.done.clone());
		let limit = self.limits.job;
		tokio::spawn(async move {
			let result = serving::check(model, &spec, &*runner, &library, limit).await;
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
		let mut groups: Vec<&Vec<Statement>> = Vec::new();
		let (mut statements, mut bytes) = (0, 0);
		for group in &self.say {
			let recently = |at: &BlockNumber| {
				head.number.saturating_sub(*at) < SAY_AGAIN && *at <= head.number
			};
			if self.said.get(&name(group)).is_some_and(recently) {
				continue;
			}
			statements += group.len();
			bytes += group.encoded_size();
			let first = groups.is_empty();
			if statements > MAX_STATEMENTS as usize || (bytes > REPORT_BYTES && !first) {
				break;
			}
			groups.push(group);
		}
		if groups.is_empty() {
			return;
		}
		let (chain, duties) = (&self.chain, &validator.duties);
		let sign = |groups: &[&Vec<Statement>]| {
			let statements: Vec<_> = groups.iter().flat_map(|g| g.iter().cloned()).collect();
			let report = Report {
				session: duties.session,
				validator: duties.index,
				at: head.number,
				statements: List::truncate_from(statements),
			};
			let signature = chain.sign(
				&validator.key,
				&report.payload(&chain.genesis(), &head.hash),
			)?;
			Ok::<_, ChainError>((report, signature))
		};
		let mut made = sign(&groups);
		let mut outcome = match &made {
			Ok((report, signature)) => {
				chain
					.submit(head.hash, report.clone(), signature.clone())
					.await
			}
			Err(e) => Err(e.clone()),
		};
		let mut refused = Vec::new();
		if matches!(outcome, Err(ChainError::Refused(_))) && groups.len() > 1 {
			// One statement that is not due has the whole report refused: find the others.
			groups.retain(|group| {
				let alone = sign(&[*group])
					.and_then(|(report, signature)| chain.check(head.hash, report, signature));
				if let Err(e) = &alone {
					tracing::debug!(target: LOG_TARGET, "{}: {e}", label(&group[0]));
					refused.push(*group);
				}
				alone.is_ok()
			});
			if !groups.is_empty() {
				made = sign(&groups);
				outcome = match &made {
					Ok((report, signature)) => {
						chain
							.submit(head.hash, report.clone(), signature.clone())
							.await
					}
					Err(e) => Err(e.clone()),
				};
			}
		}
		match outcome.and(made) {
			Ok((report, signature)) => {
				self.metrics.report("submitted");
				self.reported = Some(head.hash);
				let mut names = Vec::new();
				for group in groups.drain(..) {
					for statement in group {
						self.metrics.statement(label(statement));
						tracing::debug!(target: LOG_TARGET, "said at #{}: {}", head.number, label(statement));
					}
					names.push(name(group));
					self.said.insert(name(group), head.number);
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
		// An announcement that is refused, from a validator that is disabled for instance, has no haste.
		for group in refused {
			if matches!(group[..], [Statement::Serve { .. }]) {
				self.said.insert(name(group), head.number);
			}
		}
	}
}
