//! From a duty to what is said about it, or to what has to be computed first.

use std::{future::Future, time::Instant};

use codec::Encode;
use consilience_engine::EngineError;
use consilience_primitives::{
	evidence::{output_commitment, Evidence},
	model::Task,
	report::{Duty, DutyKind, Statement, Work},
	request::{FullInput, Output, StoredInput, Unanswerable},
	ModelId,
};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};
use tokio::time::timeout_at;

use crate::{
	chain::{AccountId, BlockNumber, Chain},
	journal::{Entry, Journal, JournalError, Key, Kind, Value},
	runner::{Library, LocalModel, Runner},
};

/// What takes its turn with what. The answers that one language model writes share its runs, and so do checks; a graph of tensors
/// takes one input after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
	/// Writing an answer.
	Answer,
	/// Measuring one.
	Check,
	/// A run of this model's graph, of tensors or for an embedding.
	Graph(ModelId),
}

/// What of a request's [`Work`] its duties follow from. The rest may be large, and is fetched when it is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
	/// Seed of the sampling noise.
	pub(crate) seed: H256,
	/// Seed of the challenge.
	pub(crate) challenge: Option<H256>,
	/// That of the disputed round, where a jury judges.
	pub(crate) prior: Option<H256>,
	/// Whether there is an output on chain.
	pub(crate) shown: bool,
	/// Where a job for it waits.
	pub(crate) lane: Lane,
	/// Hash of what the model is given.
	pub(crate) input: H256,
}

impl Question {
	pub(crate) fn of(work: &Work) -> Self {
		// A claim that there is no answer is checked by looking for one.
		let measured = work
			.output
			.as_ref()
			.is_some_and(|o| o.unanswerable().is_none());
		Self {
			seed: work.seed,
			challenge: work.challenge,
			prior: work.prior,
			shown: work.output.is_some(),
			lane: match work.input.task() {
				Task::TextGeneration if measured => Lane::Check,
				Task::TextGeneration => Lane::Answer,
				Task::Embedding | Task::Tensor => Lane::Graph(work.model),
			},
			input: H256((work.model, &work.input, &work.output).using_encoded(blake2_256)),
		}
	}
}

/// Something to compute.
#[derive(Clone, Debug)]
pub(crate) struct Job {
	/// Where the result goes in the journal.
	key: Key,
	/// What is asked, and under which challenges.
	work: Work,
	/// The input, with all of its data.
	input: FullInput,
}

impl Job {
	/// What there is to compute for this entry of the journal, with data that state does not hold.
	pub(crate) fn new(key: Key, work: Work, chain: &impl Chain) -> Result<Self, JobError> {
		let input = match &work.input {
			StoredInput::Inline(input) => input.clone().into(),
			StoredInput::Indexed(indexed) => {
				let failed = |why: &dyn std::fmt::Display| {
					JobError::Data(format!("the input's data {:?}: {why}", indexed.data_hash))
				};
				let data = chain.data(indexed.data_hash).map_err(|e| failed(&e))?;
				let data =
					data.ok_or_else(|| {
						failed(&"this node has not executed the block that carries it, or has pruned it")
					})?;
				let full = work.input.full(&data);
				full.ok_or_else(|| failed(&"what the database holds is something else"))?
			}
		};
		Ok(Self { key, work, input })
	}
}

/// What a duty asks for now.
#[derive(Debug)]
pub(crate) enum Step {
	/// Say these, in one report.
	Say(Vec<Statement>),
	/// Compute what goes there first.
	Compute(Key),
	/// It cannot be done; why.
	Stuck(&'static str),
}

/// What is computed for a duty: what [`step`] asks for where the journal does not hold it.
pub(crate) fn wanted(duty: &Duty<BlockNumber>, work: &Question) -> Option<Key> {
	let (kind, seed) = match duty.kind {
		DutyKind::Answer | DutyKind::CommitOutput => (Kind::Output, work.seed),
		DutyKind::Commit => (Kind::Evidence, work.challenge?),
		DutyKind::Reveal | DutyKind::RevealOutput | DutyKind::LateReveal => return None,
	};
	Some(Key {
		request: duty.request,
		kind,
		seed,
	})
}

/// Decides what a duty asks for, from chain state and journal alone.
pub(crate) fn step(
	journal: &Journal,
	validator: &AccountId,
	duty: &Duty<BlockNumber>,
	work: &Question,
) -> Result<Step, JournalError> {
	let request = duty.request;
	let output_key = Key {
		request,
		kind: Kind::Output,
		seed: work.seed,
	};
	let answers = matches!(duty.kind, DutyKind::Answer | DutyKind::CommitOutput);
	if answers {
		return Ok(match journal.get(&output_key)? {
			Some(Entry {
				value: Value::Output(output),
				salt,
				..
			}) => Step::Say(vec![match duty.kind {
				// That there is no answer can be copied by nobody who has not looked for it: it is checked by saying what else
				// was found.
				DutyKind::CommitOutput if output.unanswerable().is_none() => {
					Statement::CommitOutput {
						request,
						commitment: output_commitment(&output, request, validator, &salt),
					}
				}
				_ => Statement::Answer { request, output },
			}]),
			Some(_) => Step::Stuck("the journal holds evidence where an answer should be"),
			None => Step::Compute(output_key),
		});
	}
	if duty.kind == DutyKind::RevealOutput {
		return Ok(match journal.get(&output_key)? {
			Some(Entry {
				value: Value::Output(output),
				salt,
				..
			}) => Step::Say(vec![Statement::RevealOutput {
				request,
				output,
				salt,
			}]),
			_ => Step::Stuck(
				"the journal does not hold the output that was committed to: was it removed?",
			),
		});
	}
	let asked = match duty.kind {
		DutyKind::LateReveal => work.prior,
		_ => work.challenge,
	};
	let Some(challenge) = asked else {
		return Ok(Step::Stuck("a round without a challenge"));
	};
	let key = Key {
		request,
		kind: Kind::Evidence,
		seed: challenge,
	};
	let entry = journal.get(&key)?;
	Ok(match (entry, duty.kind) {
		(
			Some(Entry {
				value: Value::Evidence(evidence),
				salt,
				..
			}),
			DutyKind::Commit,
		) => Step::Say(vec![Statement::Commit {
			request,
			commitment: evidence.commitment(request, &challenge, validator, &salt),
		}]),
		(
			Some(Entry {
				value: Value::Evidence(evidence),
				salt,
				..
			}),
			_,
		) => {
			let mut statements = Vec::new();
			// Only the executor of a committed output has one that is not on chain.
			if !work.shown {
				if let Some(Entry {
					value: Value::Output(output),
					salt,
					..
				}) = journal.get(&output_key)?
				{
					statements.push(Statement::RevealOutput {
						request,
						output,
						salt,
					});
				}
			}
			statements.push(Statement::Reveal {
				request,
				evidence,
				salt,
			});
			Step::Say(statements)
		}
		(Some(_), _) => Step::Stuck("the journal holds an answer where evidence should be"),
		(None, DutyKind::Commit) => Step::Compute(key),
		(None, _) => {
			Step::Stuck("the journal does not hold what was committed to: was it removed?")
		}
	})
}

/// Why a job was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobError {
	/// The model is not here, or its files are not what they should be.
	Library(String),
	/// The engine refused or failed.
	Engine(EngineError),
	/// It took longer than it may.
	TooLong,
	/// The input's data is not here.
	Data(String),
	/// This machine computes something else for a model's reference input; what, and why that is too far.
	Differs(Evidence, String),
}

impl JobError {
	/// Label for metrics.
	pub(crate) fn label(&self) -> &'static str {
		match self {
			Self::Library(_) => "library",
			Self::Engine(e) => e.label(),
			Self::TooLong => "too_long",
			Self::Data(_) => "data",
			Self::Differs(..) => "differs",
		}
	}

	/// Whether the engine may do it later.
	pub(crate) fn is_busy(&self) -> bool {
		// A model may be unloaded between its loading and the run, and blocks may take longer than they should.
		matches!(
			self,
			Self::Engine(EngineError::Busy | EngineError::NotLoaded(_) | EngineError::Cancelled)
		)
	}

	/// Whether the engine's process went away while it was at work, or there was no memory or time left for it.
	pub(crate) fn is_crash(&self) -> bool {
		matches!(
			self,
			Self::Engine(EngineError::Gone | EngineError::Limit(_))
		)
	}
}

impl std::fmt::Display for JobError {
	fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
		match self {
			Self::Library(e) => f.write_str(e),
			Self::Engine(e) => e.fmt(f),
			Self::TooLong => f.write_str("it took too long"),
			Self::Data(e) | Self::Differs(_, e) => f.write_str(e),
		}
	}
}

/// Waits for the engine, but no longer than until then: it bounds what it does itself, and is not of use if it does not answer.
pub(crate) async fn in_time<T>(
	until: Instant,
	work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, JobError> {
	match timeout_at(until.into(), work).await {
		Ok(done) => done.map_err(JobError::Engine),
		Err(_) => Err(JobError::TooLong),
	}
}

/// Brings a model into the engine, once it is clear that no byte of it is another than its manifest says, and has `work` done
/// there. An engine that is still to start is waited for.
pub(crate) async fn on_engine<R: Runner, T>(
	runner: &R,
	library: &std::sync::Arc<impl Library>,
	model: ModelId,
	work: impl AsyncFnOnce(&R, LocalModel) -> Result<T, JobError>,
) -> Result<T, JobError> {
	let shared = library.clone();
	let local = tokio::task::spawn_blocking(move || shared.verified(model))
		.await
		.map_err(|e| JobError::Library(format!("checking the model's files: {e}")))?
		.map_err(JobError::Library)?;
	runner.ready().await;
	let loaded = runner.load(&local.folder).await.map_err(JobError::Engine)?;
	if loaded != model {
		return Err(JobError::Library(format!(
			"{} holds model {loaded:?}",
			local.folder.display()
		)));
	}
	work(runner, local).await
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
	/// For the journal.
	pub(crate) value: Value,
	/// Why there is no answer, in a code and in words, where the engine found that.
	pub(crate) unanswerable: Option<(Unanswerable, String)>,
}

/// What the engine gave, or why nobody can give anything.
type Tried<T> = Result<T, (Unanswerable, String)>;

/// Tells what cannot be answered from what failed here.
fn tried<T>(result: Result<T, JobError>) -> Result<Tried<T>, JobError> {
	match result {
		Ok(given) => Ok(Ok(given)),
		Err(JobError::Engine(EngineError::Unanswerable(code, why))) => Ok(Err((code, why))),
		Err(failed) => Err(failed),
	}
}

/// Does a job. It is worked on until then; an engine that does not say so by `latest` is not of use any more.
pub(crate) async fn perform(
	job: Job,
	runner: &impl Runner,
	library: &std::sync::Arc<impl Library>,
	(until, latest): (Instant, Instant),
) -> Result<Found, JobError> {
	let Job { key, work, input } = job;
	on_engine(runner, library, work.model, async |runner, local| {
		let class = local.manifest.policy.class;
		let Work {
			model,
			seed,
			output,
			prior,
			..
		} = work;
		let run = async |input| tried(in_time(latest, runner.run(model, input, seed, until)).await);
		let claimed = output.as_ref().and_then(Output::unanswerable);
		let (value, unanswerable) = match (key.kind, claimed) {
			(Kind::Output, _) => match run(input).await? {
				Ok(output) => (Value::Output(output), None),
				Err((code, why)) => (Value::Output(Output::Unanswerable(code)), Some((code, why))),
			},
			(Kind::Evidence, Some(claimed)) => {
				let found = run(input).await?.err();
				let code = found.as_ref().map(|(code, _)| *code);
				let of = |challenge: &H256| Evidence::of_claim(claimed, code, challenge);
				(Value::Evidence(joined(key.seed, prior, of)), found)
			}
			(Kind::Evidence, None) => {
				let challenges: Vec<H256> = std::iter::once(key.seed).chain(prior).collect();
				let asked = challenges.len();
				let measured = runner.measure(model, input, seed, output, challenges, until);
				match tried(in_time(latest, measured).await)? {
					Ok(measured) => (Value::Evidence(both(measured, asked)?), None),
					Err(found) => {
						let of = |challenge: &H256| Evidence::of_refusal(class, challenge);
						(Value::Evidence(joined(key.seed, prior, of)), Some(found))
					}
				}
			}
		};
		Ok(Found {
			value,
			unanswerable,
		})
	})
	.await
}

/// Evidence under a round's challenge, and for a juror under that of the disputed round.
fn joined(challenge: H256, prior: Option<H256>, of: impl Fn(&H256) -> Evidence) -> Evidence {
	Evidence {
		prior: prior.map(|prior| of(&prior).fingerprint),
		..of(&challenge)
	}
}

/// The same of what was measured in one pass.
fn both(measured: Vec<Evidence>, asked: usize) -> Result<Evidence, JobError> {
	let given = measured.len();
	let mut measured = measured.into_iter();
	match measured.next() {
		Some(evidence) if given == asked => Ok(Evidence {
			prior: measured.next().map(|e| e.fingerprint),
			..evidence
		}),
		_ => Err(JobError::Engine(EngineError::Run(format!(
			"{given} measurements under {asked} challenges"
		)))),
	}
}

/// The statement's kind, for metrics and logs.
pub(crate) fn label(statement: &Statement) -> &'static str {
	match statement {
		Statement::Serve { .. } => "serve",
		Statement::Withdraw { .. } => "withdraw",
		Statement::Differ { .. } => "differ",
		Statement::Answer { .. } => "answer",
		Statement::CommitOutput { .. } => "commit_output",
		Statement::Commit { .. } => "commit",
		Statement::Reveal { .. } => "reveal",
		Statement::RevealOutput { .. } => "reveal_output",
	}
}

/// Name of a statement by its content: another fork's or another round's is another one.
pub(crate) fn name(statements: &[Statement]) -> H256 {
	H256(statements.using_encoded(polkadot_sdk::sp_crypto_hashing::blake2_256))
}
