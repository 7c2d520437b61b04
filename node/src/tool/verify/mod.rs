//! `consilience verify`: runs a request, or what the session lane gave a receipt for, again at home, and says what its answer and its
//! members' evidence are worth.
//!
//! Exit status: 0, the answer is right; 1, it is wrong; 2, it could not be checked, with the reason.

mod held;
mod judge;
pub(super) mod receipt;
mod report;

use std::{
	future::Future,
	path::{Path, PathBuf},
	process::exit,
	time::Duration,
};

use consilience_engine::{Engine, EngineError, Part, Provider};
use consilience_primitives::{
	comparison::reproduces as is_reproduced,
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
	session::Network,
	Format, NodeAddress, Result,
};
use judge::Own;
use report::{Report, Status};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Check an answer on this machine: read request, answer and evidence from a node, or from a receipt of the session lane, run the
/// model again, and say what they are worth. Exit status: 0 right, 1 wrong, 2 could not be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyCommand {
	/// Number of the request; or the file of a receipt of the session lane (`consilience channel receipt` writes it).
	#[arg(value_name = "REQUEST|RECEIPT")]
	subject: Subject,

	/// Block to read a request at. What is not finalised can still be undone.
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

/// What is checked, or put before a jury.
#[derive(Clone, Debug)]
pub(super) enum Subject {
	/// A request of the direct lane.
	Request(RequestId),
	/// A receipt's file.
	Receipt(PathBuf),
}

impl std::str::FromStr for Subject {
	type Err = std::convert::Infallible;

	fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
		Ok(text
			.parse()
			.map_or_else(|_| Self::Receipt(text.into()), Self::Request))
	}
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
		match &self.subject {
			Subject::Request(id) => {
				let mut report = Report::unchecked(*id, String::new());
				let found =
					Self::confined(&format!("request {id}"), || self.fill(*id, &mut report));
				match found {
					None => Ok(()),
					Some(found) => {
						report.reason = found.err();
						self.end(&report.json(), || report.people(), report.status())
					}
				}
			}
			Subject::Receipt(file) => {
				let mut report = receipt::Report::new(file);
				let name = format!("receipt {}", file.display());
				let found = Self::confined(&name, || self.fill_receipt(file, &mut report));
				match found {
					None => Ok(()),
					Some(found) => {
						report.reason = found.err();
						self.end(&report.json(), || report.people(), report.status())
					}
				}
			}
		}
	}

	/// Does it in a process of its own: `None` where that has said what it found, and why it did not where it crashed.
	fn confined(name: &str, fill: impl FnOnce() -> Result<()>) -> Option<Result<()>> {
		if confine::is_confined() {
			return Some(fill());
		}
		confine::run(name, LONGEST).err().map(Err)
	}

	fn end(
		&self,
		json: &serde_json::Value,
		people: impl FnOnce() -> String,
		status: Status,
	) -> sc_cli::Result<()> {
		self.format.print(json, people);
		match status {
			Status::Right => Ok(()),
			Status::Wrong => exit(1),
			Status::Unchecked => exit(2),
		}
	}

	/// Puts into the report what is found of a request, as far as it comes.
	fn fill(&self, id: RequestId, report: &mut Report) -> Result<()> {
		let seen = before_the_model(self.look(id))?;
		report.see(&seen);
		let claimed = answer(&seen.request)?;
		if let Some(file) = &self.output {
			let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
			let same = held::is(&bytes, claimed).map_err(|e| format!("{}: {e}", file.display()))?;
			report.held = Some(same);
		}
		let input = seen.input.as_ref().map_err(Clone::clone)?;
		let name = seen.spec.as_ref().map(|s| &s.name[..]);
		let model = self.find(seen.request.model, name)?;
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
		let loaded = load(engine, &model, &spec)?;
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

	/// Puts into the report what is found of a receipt, as far as it comes.
	fn fill_receipt(&self, file: &Path, report: &mut receipt::Report) -> Result<()> {
		if self.output.is_some() || self.at == At::Best {
			return Err(
				"a receipt holds its answer, and is checked against finalised blocks: leave --output and --at out".into(),
			);
		}
		let record = receipt::read(file)?;
		report.hold(&record);
		let facts = before_the_model(async {
			let network = Network::connect(&self.node.url).await?;
			receipt::Facts::find(&network, &record).await
		})?;
		report.see(&record, &facts);
		if report.is_flawed() {
			return Ok(());
		}
		let model = self.find(record.ask.model, None)?;
		let spec = model.manifest.spec().map_err(|e| e.to_string())?;
		report.know(&model.manifest);
		let runner = InProcess::new(false, self.provider)?;
		let engine = runner.engine();
		let loaded = load(engine, &model, &spec)?;
		let found = receipt::measure(engine, loaded, &record, &facts.facts, &spec.policy)?;
		report.find(found);
		Ok(())
	}

	/// Reads the request and what is registered of its model.
	async fn look(&self, id: RequestId) -> Result<Seen> {
		let chain = Chain::connect(&self.node.url).await?;
		let head = match self.at {
			At::Finalized => chain.finalized().await?,
			At::Best => chain.best().await?,
		};
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
	fn find(&self, id: ModelId, name: Option<&[u8]>) -> Result<StoredModel> {
		let store = self.store.open()?;
		store.verify(id, |_| ()).map_err(|e| match e {
			StoreError::Unknown(_) => format!(
				"model {}{id:?} is not in the store {}: put it there with `consilience model import FOLDER`, or say where it is with \
				 --base-path",
				name.map_or(String::new(), |name| format!("{} ", String::from_utf8_lossy(name))),
				store.root().display()
			),
			other => other.to_string(),
		})
	}
}

/// Reads from the network what is needed, before the model has a say in anything: what runs it has no network.
fn before_the_model<T>(read: impl Future<Output = Result<T>>) -> Result<T> {
	let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
	runtime.block_on(read)
}

/// Loads a model on a machine that computes what its manifest says.
fn load(engine: &Engine, model: &StoredModel, spec: &ModelSpec) -> Result<ModelId> {
	let loaded = engine
		.load_manifest(&model.folder, model.manifest.clone())
		.map_err(|e| e.to_string())?;
	reproduces(engine, loaded, spec)?;
	Ok(loaded)
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
	let (output, beyond) = what_instead(claimed, policy, &verdict, parts, run)?;
	Ok(Own {
		verdict,
		round: request.challenge.map(|_| round.fingerprint),
		jury: request.jury_challenge.map(|_| jury.fingerprint),
		output,
		beyond,
	})
}

/// What the model says instead of a text that the policy does not accept, and the first token beyond the bound of the tolerant class.
fn what_instead(
	claimed: &Output,
	policy: &VerificationPolicy,
	verdict: &Verdict,
	measure: impl Fn(&[Part]) -> std::result::Result<Vec<Evidence>, EngineError>,
	run: impl Fn() -> std::result::Result<Output, EngineError>,
) -> std::result::Result<(Option<Output>, Option<usize>), EngineError> {
	if verdict.within(&policy.accept) {
		return Ok((None, None));
	}
	let output = Some(run()?);
	if policy.class != NumericClass::Tolerant {
		return Ok((output, None));
	}
	let beginnings = |lengths: &[u32]| -> std::result::Result<Vec<Verdict>, EngineError> {
		let beginning = |tokens: &u32| Part {
			tokens: Some(*tokens),
			challenge: H256::zero(),
		};
		let asked: Vec<_> = lengths.iter().map(beginning).collect();
		Ok(measure(&asked)?.into_iter().map(|e| e.verdict).collect())
	};
	let count = judge::tokens(claimed).len();
	let beyond = judge::first_beyond(count, policy.fraud.margin_max, beginnings)?;
	Ok((output, beyond))
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
