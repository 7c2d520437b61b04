//! `consilience verify`: runs a request again at home, and says what its answer and its members' evidence are worth.
//!
//! Exit status: 0, the answer is right; 1, it is wrong; 2, it could not be checked, with the reason.

mod held;
mod judge;
mod report;

use std::{path::PathBuf, process::exit, time::Duration};

use consilience_engine::{Engine, EngineError, Part, Provider};
use consilience_primitives::{
	comparison::{judge as compare, Judgement},
	evidence::{Evidence, Verdict},
	manifest::Manifest,
	model::{ModelSpec, NumericClass, VerificationPolicy},
	request::{FullInput, Output},
	view::RequestState,
	ModelId, RequestId,
};
use consilience_store::{StoreError, StoredModel};
use polkadot_sdk::{sc_cli, sp_core::H256};

use super::{
	chain::{Chain, Head, Request},
	confine,
	model::{InProcess, StoreArguments},
	Format, NodeAddress, Result,
};
use judge::Own;
use report::{Report, Status};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Check an answer on this machine: read request, answer and evidence from a node, run the model again, and say what they are
/// worth. Exit status: 0 right, 1 wrong, 2 could not be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyCommand {
	/// Number of the request.
	request: RequestId,

	/// Block to read it at. What is not finalised can still be undone.
	#[arg(long, value_enum, default_value_t = At::Finalized)]
	at: At,

	/// An answer that you hold, to be compared with the one on chain: what `infer --json` or `model run` wrote, or a text.
	#[arg(long, value_name = "FILE")]
	output: Option<PathBuf>,

	/// Where the model runs, whatever its manifest admits: `cpu`, `cuda` or `cuda:N`. Exact models always run on the CPU.
	#[arg(long, default_value = "cpu")]
	provider: Provider,

	#[command(flatten)]
	store: StoreArguments,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

/// Which block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum At {
	/// The last finalised one.
	Finalized,
	/// The best one.
	Best,
}

/// What the node says.
struct Seen {
	head: Head,
	at: At,
	request: Request,
	/// What was asked, with data that state does not hold, or why that is not to be had.
	input: Result<FullInput>,
	/// What is registered of the model, while it is.
	spec: Option<ModelSpec>,
}

impl VerifyCommand {
	/// Does what the command says. Ends the process itself where the answer is not right.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		// The process that runs the model has said what it found, unless it crashed.
		if !confine::is_confined() {
			return match confine::run(&format!("request {}", self.request), LONGEST) {
				Ok(()) => Ok(()),
				Err(why) => self.end(&Report::unchecked(self.request, why)),
			};
		}
		self.end(&self.check())
	}

	fn end(&self, report: &Report) -> sc_cli::Result<()> {
		self.format.print(&report.json(), || report.people());
		match report.status() {
			Status::Right => Ok(()),
			Status::Wrong => exit(1),
			Status::Unchecked => exit(2),
		}
	}

	fn check(&self) -> Report {
		let mut report = Report::unchecked(self.request, String::new());
		if let Err(why) = self.fill(&mut report) {
			report.reason = Some(why);
		}
		report
	}

	/// Puts into the report what is found, as far as it comes.
	fn fill(&self, report: &mut Report) -> Result<()> {
		// Before the model has a say in anything: what runs it has no network.
		let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
		let seen = runtime.block_on(self.look())?;
		drop(runtime);
		report.see(&seen);
		let claimed = answer(&seen.request)?;
		if let Some(file) = &self.output {
			let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
			let same = held::is(&bytes, claimed).map_err(|e| format!("{}: {e}", file.display()))?;
			report.held = Some(same);
		}
		let input = seen.input.as_ref().map_err(Clone::clone)?;
		let model = self.find(&seen)?;
		let spec = model.manifest.spec().map_err(|e| e.to_string())?;
		report.know(&model.manifest);
		if seen
			.spec
			.as_ref()
			.is_some_and(|registered| *registered != spec)
		{
			return Err(
				"what is registered on chain is not what the model's manifest says: nobody can serve it as it stands there, and what \
				 it is to be judged by is not clear"
					.into(),
			);
		}
		let runner = InProcess::new(false, self.provider)?;
		let engine = runner.engine();
		let loaded = engine
			.load_manifest(&model.folder, model.manifest.clone())
			.map_err(|e| e.to_string())?;
		reproduces(engine, loaded, &spec)?;
		let own = measure(
			engine,
			loaded,
			(&seen.request, input),
			claimed,
			&spec.policy,
		)
		.map_err(|e| format!("this machine cannot run it: {e}"))?;
		let finding = judge::find(&seen.request, claimed, &spec.policy, &own, seen.head.number);
		report.find(own, finding);
		Ok(())
	}

	/// Reads the request and what is registered of its model.
	async fn look(&self) -> Result<Seen> {
		let chain = Chain::connect(&self.node.url).await?;
		let head = match self.at {
			At::Finalized => chain.finalized().await?,
			At::Best => chain.best().await?,
		};
		let id = self.request;
		let Some(request) = chain.request(id, Some(head.hash)).await? else {
			let later = self.at == At::Finalized && chain.request(id, None).await?.is_some();
			return Err(if later {
				format!("request {id} is in no finalised block yet: wait for that, or read the best block with --at best")
			} else {
				format!(
					"request {id} is not on chain: it was never made, or was settled so long ago that it is forgotten"
				)
			});
		};
		let spec = chain.model(request.model, head.hash).await?.map(|m| m.spec);
		let input = chain.full_input(&request.input).await;
		Ok(Seen {
			head,
			at: self.at,
			request,
			input,
			spec,
		})
	}

	/// The model, its files checked.
	fn find(&self, seen: &Seen) -> Result<StoredModel> {
		let store = self.store.open()?;
		let id = seen.request.model;
		store.verify(id, |_| ()).map_err(|e| match e {
			StoreError::Unknown(_) => format!(
				"model {}{id:?} is not in the store {}: put it there with `consilience model import FOLDER`, or say where it is with \
				 --base-path",
				seen.spec
					.as_ref()
					.map_or(String::new(), |s| format!("{} ", String::from_utf8_lossy(&s.name))),
				store.root().display()
			),
			other => other.to_string(),
		})
	}
}

/// The answer that is to be checked.
fn answer(request: &Request) -> Result<&Output> {
	request.output.as_ref().ok_or_else(|| {
		match request.state {
			RequestState::Requested | RequestState::Assigned => "it is not answered yet",
			RequestState::Provisional | RequestState::Disputed => {
				"its executor is bound to an answer that it has not shown yet"
			}
			RequestState::Cancelled => "it was cancelled before anybody answered",
			_ => "it ended without an answer",
		}
		.into()
	})
}

/// Whether this machine computes for the model's reference input what its manifest says: what it finds is worth nothing otherwise.
fn reproduces(engine: &Engine, model: ModelId, spec: &ModelSpec) -> Result<()> {
	let (_, evidence) = engine.reference(model).map_err(|e| e.to_string())?;
	if is_reproduced(spec, &evidence) {
		return Ok(());
	}
	Err(match spec.policy.class {
		NumericClass::Exact => "this machine does not compute the bits of the model's reference: its CPU or its ONNX Runtime computes \
		                        others, and no answer of the exact class can be judged with them"
			.into(),
		NumericClass::Tolerant => "what this machine computes for the model's reference is farther from its manifest's than the policy \
		                           accepts"
			.into(),
	})
}

fn is_reproduced(spec: &ModelSpec, evidence: &Evidence) -> bool {
	let (policy, reference) = (&spec.policy, &spec.reference);
	match policy.class {
		NumericClass::Exact => evidence == reference,
		NumericClass::Tolerant => {
			let pair = [&reference.fingerprint, &evidence.fingerprint];
			evidence.is_of(policy.class)
				&& evidence.verdict.within(&policy.accept)
				&& compare(policy, &pair)[1] == Judgement::Accept
		}
	}
}

/// Runs the model on the request's input, and measures its answer under every challenge that was drawn.
fn measure(
	engine: &Engine,
	model: ModelId,
	(request, input): (&Request, &FullInput),
	claimed: &Output,
	policy: &VerificationPolicy,
) -> std::result::Result<Own, EngineError> {
	let seed = request.seed.unwrap_or_default();
	let run = || engine.run(model, input, &seed);
	match claimed {
		Output::Text { .. } => measure_text(engine, model, (request, input), claimed, policy, run),
		Output::Tensors(_) => {
			let output = run()?;
			let of = |challenge: Option<H256>| match &output {
				Output::Tensors(tensors) => Evidence::of_tensors(tensors, &challenge?, policy)
					.ok()
					.map(|e| e.fingerprint),
				_ => None,
			};
			Ok(Own {
				verdict: Verdict::default(),
				round: of(request.challenge),
				jury: of(request.jury_challenge),
				beyond: None,
				output: Some(output),
			})
		}
		Output::Unanswerable(code) => {
			let output = run()?;
			let of = |challenge: H256| Evidence::of_claim(*code, output.unanswerable(), &challenge);
			Ok(Own {
				verdict: of(H256::zero()).verdict,
				round: request.challenge.map(|c| of(c).fingerprint),
				jury: request.jury_challenge.map(|c| of(c).fingerprint),
				beyond: None,
				output: Some(output),
			})
		}
	}
}

fn measure_text(
	engine: &Engine,
	model: ModelId,
	(request, input): (&Request, &FullInput),
	claimed: &Output,
	policy: &VerificationPolicy,
	run: impl Fn() -> std::result::Result<Output, EngineError>,
) -> std::result::Result<Own, EngineError> {
	let seed = request.seed.unwrap_or_default();
	let parts = |parts: &[Part]| engine.measure_parts(model, input, &seed, Some(claimed), parts);
	let part = |tokens, challenge: Option<H256>| Part {
		tokens,
		challenge: challenge.unwrap_or_default(),
	};
	// The verdict is the same under every challenge, and under none.
	let measured = parts(&[
		part(None, request.challenge),
		part(None, request.jury_challenge),
	])?;
	let [round, jury] = <[Evidence; 2]>::try_from(measured)
		.map_err(|_| EngineError::Run("not as much evidence as was asked for".into()))?;
	let verdict = round.verdict;
	let (mut output, mut beyond) = (None, None);
	if !verdict.within(&policy.accept) {
		output = Some(run()?);
		if policy.class == NumericClass::Tolerant {
			let beginnings = |lengths: &[u32]| -> std::result::Result<Vec<Verdict>, EngineError> {
				let asked: Vec<_> = lengths.iter().map(|n| part(Some(*n), None)).collect();
				Ok(parts(&asked)?.into_iter().map(|e| e.verdict).collect())
			};
			let count = judge::tokens(claimed).len();
			beyond = judge::first_beyond(count, policy.fraud.margin_max, beginnings)?;
		}
	}
	Ok(Own {
		verdict,
		round: request.challenge.map(|_| round.fingerprint),
		jury: request.jury_challenge.map(|_| jury.fingerprint),
		output,
		beyond,
	})
}

/// Name, task and class of a model, for people.
fn described(manifest: &Manifest) -> (String, String, NumericClass) {
	let task = super::watch::task(manifest.task());
	(
		manifest.name.clone(),
		task.as_str().unwrap_or_default().into(),
		manifest.policy.class,
	)
}

#[cfg(test)]
mod tests;
