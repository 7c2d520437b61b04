//! From a duty to what is said about it, or to what has to be computed first.

use std::time::Duration;

use codec::Encode;
use consilience_engine::EngineError;
use consilience_primitives::{
	evidence::{output_commitment, Evidence},
	report::{Duty, DutyKind, Statement, Work},
	request::{Input, Output},
	ModelId,
};
use polkadot_sdk::sp_core::H256;
use tokio::time::timeout;

use crate::{
	chain::{AccountId, BlockNumber},
	journal::{Entry, Journal, JournalError, Key, Kind, Value},
	runner::{Library, LocalModel, Runner},
};

/// Something to compute.
#[derive(Clone, Debug)]
pub(crate) struct Job {
	/// Where the result goes in the journal.
	pub(crate) key: Key,
	/// The model.
	pub(crate) model: ModelId,
	input: Input,
	seed: H256,
	claimed: Option<Output>,
	/// For jurors: seed of the disputed round's challenge.
	prior: Option<H256>,
}

/// What a duty asks for now.
#[derive(Debug)]
pub(crate) enum Step {
	/// Say these, in one report.
	Say(Vec<Statement>),
	/// Compute this first.
	Compute(Box<Job>),
	/// It cannot be done; why.
	Stuck(&'static str),
}

/// Decides what a duty asks for, from chain state and journal alone.
pub(crate) fn step(
	journal: &Journal,
	validator: &AccountId,
	duty: &Duty<BlockNumber>,
	work: Work,
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
				DutyKind::Answer => Statement::Answer { request, output },
				_ => Statement::CommitOutput {
					request,
					commitment: output_commitment(&output, request, validator, &salt),
				},
			}]),
			Some(_) => Step::Stuck("the journal holds evidence where an answer should be"),
			None => Step::Compute(Box::new(Job {
				key: output_key,
				model: work.model,
				input: work.input,
				seed: work.seed,
				claimed: None,
				prior: None,
			})),
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
	let Some(challenge) = work.challenge else {
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
			if work.output.is_none() {
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
		(None, DutyKind::Commit) => Step::Compute(Box::new(Job {
			key,
			model: work.model,
			input: work.input,
			seed: work.seed,
			claimed: work.output,
			prior: work.prior,
		})),
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
}

impl JobError {
	/// Label for metrics.
	pub(crate) fn label(&self) -> &'static str {
		match self {
			Self::Library(_) => "library",
			Self::Engine(e) => e.label(),
			Self::TooLong => "too_long",
		}
	}

	/// Whether the engine may do it later.
	pub(crate) fn is_busy(&self) -> bool {
		// A model may be unloaded between its loading and the run.
		matches!(
			self,
			Self::Engine(EngineError::Busy | EngineError::NotLoaded(_))
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
		}
	}
}

/// Brings a model into the engine, once it is clear that no byte of it is another than its manifest says, and has `work` done
/// there; loading and work take no longer than `limit` together. An engine that is still to start is waited for, and the reading
/// of files is not counted.
pub(crate) async fn on_engine<R: Runner, T>(
	runner: &R,
	library: &std::sync::Arc<impl Library>,
	model: ModelId,
	limit: Duration,
	work: impl AsyncFnOnce(&R, LocalModel) -> Result<T, JobError>,
) -> Result<T, JobError> {
	let shared = library.clone();
	let local = tokio::task::spawn_blocking(move || shared.verified(model))
		.await
		.map_err(|e| JobError::Library(format!("checking the model's files: {e}")))?
		.map_err(JobError::Library)?;
	runner.ready().await;
	let work = async {
		let loaded = runner.load(&local.folder).await.map_err(JobError::Engine)?;
		if loaded != model {
			return Err(JobError::Library(format!(
				"{} holds model {loaded:?}",
				local.folder.display()
			)));
		}
		work(runner, local).await
	};
	timeout(limit, work).await.unwrap_or(Err(JobError::TooLong))
}

/// Does a job.
pub(crate) async fn perform(
	job: Job,
	runner: &impl Runner,
	library: &std::sync::Arc<impl Library>,
	limit: Duration,
) -> Result<Value, JobError> {
	let model = job.model;
	on_engine(runner, library, model, limit, async |runner, _| {
		let done = match job.key.kind {
			Kind::Output => runner
				.run(model, job.input, job.seed)
				.await
				.map(Value::Output),
			Kind::Evidence => evidence(job, runner).await.map(Value::Evidence),
		};
		done.map_err(JobError::Engine)
	})
	.await
}

/// Measures under a round's challenge, and for a juror in the same pass under that of the disputed round.
async fn evidence(job: Job, runner: &impl Runner) -> Result<Evidence, EngineError> {
	let challenges: Vec<H256> = std::iter::once(job.key.seed).chain(job.prior).collect();
	let asked = challenges.len();
	let measured = runner
		.measure(job.model, job.input, job.seed, job.claimed, challenges)
		.await?;
	let given = measured.len();
	let mut measured = measured.into_iter();
	match measured.next() {
		Some(evidence) if given == asked => Ok(Evidence {
			prior: measured.next().map(|e| e.fingerprint),
			..evidence
		}),
		_ => Err(EngineError::Run(format!(
			"{given} measurements under {asked} challenges"
		))),
	}
}

/// The statement's kind, for metrics and logs.
pub(crate) fn label(statement: &Statement) -> &'static str {
	match statement {
		Statement::Serve { .. } => "serve",
		Statement::Withdraw { .. } => "withdraw",
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
