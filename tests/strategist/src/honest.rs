//! What honest people do, with the engine replaced by a pure function: an answer is a hash of what was asked.

use codec::{Compact, Encode};
use consilience_primitives::{
	evidence::{output_commitment, Evidence, Fingerprint, Salt, Verdict},
	model::Task,
	report::{Duty, DutyKind, Statement, Work},
	request::{FinishReason, Output, StoredInput},
	RequestId,
};
use consilience_runtime::{AccountId, BlockNumber};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::world::{tensor, Chain, Due, Model, FINALITY_LAG};

fn answer(input: &StoredInput, seed: &H256, label: &[u8]) -> Output {
	// Tensors do not depend on the seed.
	let hash = match input.task() {
		Task::Tensor => (label, input).using_encoded(blake2_256),
		_ => (label, input, seed).using_encoded(blake2_256),
	};
	match input.task() {
		Task::Tensor => Output::Tensors(
			vec![tensor("y", hash[..4].to_vec())]
				.try_into()
				.expect("one is in bounds; qed"),
		),
		_ => Output::Text {
			tokens: hash[..3]
				.iter()
				.map(|token| Compact(u32::from(*token)))
				.collect::<Vec<_>>()
				.try_into()
				.expect("three are in bounds; qed"),
			text: b"an answer".to_vec().try_into().expect("short; qed"),
			finish: FinishReason::Length,
		},
	}
}

/// What the model says.
pub fn truth(input: &StoredInput, seed: &H256) -> Output {
	answer(input, seed, b"true")
}

/// What it does not say.
pub fn lie(input: &StoredInput, seed: &H256) -> Output {
	answer(input, seed, b"false")
}

/// The fingerprint that running the model gives under a challenge.
pub fn fingerprint(work: &Work, output: &Output, challenge: &H256) -> Fingerprint {
	if let Some(code) = output.unanswerable() {
		return Evidence::of_claim(code, Some(code), challenge).fingerprint;
	}
	match truth(&work.input, &work.seed) {
		Output::Tensors(tensors) => {
			let policy = Model::of(work.model).spec().policy;
			Evidence::of_tensors(&tensors, challenge, &policy)
				.expect("the world's tensors are well-formed; qed")
				.fingerprint
		}
		_ => (b"measured", challenge, &work.input, output).using_encoded(Fingerprint::digest),
	}
}

/// What an honest measurement says of the answer.
pub fn verdict(work: &Work, output: &Output) -> Verdict {
	let compared = matches!(output, Output::Tensors(_));
	if compared || *output == truth(&work.input, &work.seed) {
		Verdict::default()
	} else {
		Verdict::IMPOSSIBLE
	}
}

/// What an honest member measures; nothing while there is no challenge.
pub fn measure(work: &Work) -> Option<Evidence> {
	let challenge = work.challenge?;
	// An output that is only committed to is not seen: what the model says is measured.
	let output = work
		.output
		.clone()
		.unwrap_or_else(|| truth(&work.input, &work.seed));
	Some(Evidence {
		fingerprint: fingerprint(work, &output, &challenge),
		verdict: verdict(work, &output),
		prior: work.prior.map(|prior| fingerprint(work, &output, &prior)),
	})
}

/// A salt that differs by validator and request.
pub fn salt(who: &AccountId, request: RequestId) -> Salt {
	let hash = (b"salt", who, request).using_encoded(blake2_256);
	let mut salt = [0; 16];
	salt.copy_from_slice(&hash[..16]);
	salt
}

/// The statement that answers, or commits to the answer.
pub fn answering(who: &AccountId, request: RequestId, model: Model, output: Output) -> Statement {
	if model.spec().task == Task::TextGeneration {
		return Statement::Answer { request, output };
	}
	Statement::CommitOutput {
		request,
		commitment: output_commitment(&output, request, who, &salt(who, request)),
	}
}

/// The statements that show evidence, and the output where it was only committed to. Whether the output has to be shown, and the
/// evidence was shown already, the chain knows: see [`Chain::view`].
pub fn showing(
	chain: &Chain,
	who: &AccountId,
	request: RequestId,
	evidence: Evidence,
	output: Option<Output>,
) -> Vec<Statement> {
	let salt = salt(who, request);
	let Some(view) = chain.view(request) else {
		return Vec::new();
	};
	let mut statements = Vec::new();
	let committed = Model::of(view.model).spec().task.commits_output();
	if let (true, None, Some(output)) = (committed, &view.output, output) {
		statements.push(Statement::RevealOutput {
			request,
			output,
			salt,
		});
	}
	// The committee's evidence stands before the jury's.
	if view.jury_challenge.is_some() || !view.evidence.iter().any(|(shown, _)| shown == who) {
		statements.push(Statement::Reveal {
			request,
			evidence,
			salt,
		});
	}
	statements
}

/// Whether an honest member would show its evidence now: what it answers to is final.
pub fn may_show(chain: &Chain, request: RequestId) -> bool {
	let since = chain.seen.reveal_since.get(&request);
	since.is_some_and(|since| chain.number() >= since + FINALITY_LAG)
}

/// What an honest validator says of a duty.
pub fn discharge(chain: &Chain, who: &AccountId, duty: &Duty<BlockNumber>) -> Vec<Statement> {
	let request = duty.request;
	let Some(work) = chain.work(request) else {
		return Vec::new();
	};
	let model = Model::of(work.model);
	match duty.kind {
		DutyKind::Answer | DutyKind::CommitOutput => {
			vec![answering(
				who,
				request,
				model,
				truth(&work.input, &work.seed),
			)]
		}
		DutyKind::Commit => {
			let (Some(evidence), Some(challenge)) = (measure(&work), work.challenge) else {
				return Vec::new();
			};
			let commitment = evidence.commitment(request, &challenge, who, &salt(who, request));
			vec![Statement::Commit {
				request,
				commitment,
			}]
		}
		DutyKind::Reveal if may_show(chain, request) => {
			// As it was when it committed: a verifier of a committed output did not know it then.
			let measured = Work {
				output: committed_to(&work),
				..work.clone()
			};
			let Some(evidence) = measure(&measured) else {
				return Vec::new();
			};
			let output = truth(&work.input, &work.seed);
			showing(chain, who, request, evidence, Some(output))
		}
		// Its own output, which the round waits for.
		DutyKind::RevealOutput if may_show(chain, request) => vec![Statement::RevealOutput {
			request,
			output: truth(&work.input, &work.seed),
			salt: salt(who, request),
		}],
		DutyKind::LateReveal => {
			let committee = Work {
				output: committed_to(&work),
				challenge: work.prior,
				prior: None,
				..work
			};
			let shown = measure(&committee).map(|evidence| Statement::Reveal {
				request,
				evidence,
				salt: salt(who, request),
			});
			shown.into_iter().collect()
		}
		DutyKind::Reveal | DutyKind::RevealOutput => Vec::new(),
	}
}

/// The output as the round's members saw it when they committed.
fn committed_to(work: &Work) -> Option<Output> {
	let hidden = Model::of(work.model).spec().task.commits_output() && work.prior.is_none();
	work.output.clone().filter(|_| !hidden)
}

/// What an honest validator says in a block. Costs nothing that matters: honest costs are the same in every play.
pub fn work(chain: &Chain, duties: &Due, models: &[Model]) -> Vec<Statement> {
	let who = &duties.validator;
	let mut statements: Vec<_> = duties
		.duties
		.iter()
		.flat_map(|duty| discharge(chain, who, duty))
		.collect();
	// Whoever was turned away comes back.
	statements.extend(
		models
			.iter()
			.filter(|m| !duties.serving.contains(&m.id()))
			.map(|m| chain.serve(*m)),
	);
	statements
}
