//! What a request's answer and its members' evidence are worth, given what this machine measured.
//!
//! The bounds are the model's own and the comparison is the protocol's ([`judge`]); the reference is this machine's measurement in
//! place of the median of many. It decides nothing: what it finds is a reason to appeal, or not to.

use codec::Compact;
use consilience_primitives::{
	comparison::{judge, Judgement},
	evidence::{Evidence, Fingerprint, Verdict},
	fixed,
	model::{NumericClass, VerificationPolicy},
	request::Output,
	tensor::Tensor,
};
use consilience_runtime::{AccountId, BlockNumber};
use polkadot_sdk::sp_core::H256;
use serde::Serialize;

use crate::tool::chain::Request;

/// What this machine found.
#[derive(Clone, Debug)]
pub(crate) struct Own {
	/// What it says of the answer; of tensors, which are compared themselves, nothing.
	pub(crate) verdict: Verdict,
	/// Its fingerprint under the challenge of the round, if there is one.
	pub(crate) round: Option<Fingerprint>,
	/// Its fingerprint under the challenge of the jury, if there is one.
	pub(crate) jury: Option<Fingerprint>,
	/// What the model says here. There for all but texts that the verdict finds right: these need not be written again.
	pub(crate) output: Option<Output>,
	/// Tolerant class: the first token of a text beyond the bound.
	pub(crate) beyond: Option<usize>,
}

/// Where a text goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
	/// Index of the token in the answer.
	pub(crate) index: usize,
	/// The token that stands there; nothing where the answer has ended.
	pub(crate) claimed: Option<u32>,
	/// The token that the model says there, where that is known and it has not ended.
	pub(crate) model: Option<u32>,
}

/// What the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
	/// What the model says, bit for bit or within its policy.
	Right,
	/// Not what the model says.
	Wrong {
		/// What is wrong with it, for people.
		why: String,
		/// Where, in a text.
		place: Option<Place>,
	},
	/// Between the bounds, where one machine alone cannot tell rounding from a lie.
	Undecided(String),
}

/// What somebody was in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
	/// Gave the answer.
	Executor,
	/// Checked it.
	Verifier,
	/// Judged the dispute.
	Juror,
}

/// How far a fingerprint is from this machine's, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Closeness {
	/// This machine has nothing to compare it with.
	Unknown,
	/// The same in every bit.
	Equal,
	/// Within the policy's accept bounds.
	Within,
	/// Between the accept and the fraud bounds.
	Between,
	/// Beyond the fraud bounds, or another digest.
	Beyond,
}

/// A member of the round or of the jury.
#[derive(Clone, Debug)]
pub(crate) struct Member {
	pub(crate) who: AccountId,
	pub(crate) role: Role,
	pub(crate) fingerprint: Closeness,
	/// Largest distance of a value, in the policy's steps, where values are compared.
	pub(crate) distance: Option<u32>,
	/// What it said of the answer.
	pub(crate) verdict: Verdict,
	/// Why its evidence can be no honest measurement.
	pub(crate) falsehood: Option<&'static str>,
}

/// All that is found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
	pub(crate) answer: Answer,
	pub(crate) members: Vec<Member>,
	/// Last block in which an appeal is taken, if it is not past.
	pub(crate) appealable_until: Option<BlockNumber>,
}

impl Finding {
	/// Whether somebody's evidence is false.
	pub(crate) fn is_evidence_false(&self) -> bool {
		self.members.iter().any(|m| m.falsehood.is_some())
	}
}

/// Judges a request that has an answer, as it stands at the block `now`.
pub(crate) fn find(
	request: &Request,
	claimed: &Output,
	policy: &VerificationPolicy,
	own: &Own,
	now: BlockNumber,
) -> Finding {
	let answer = judge_answer(request, claimed, policy, own);
	// That something cannot be answered is compared bit for bit, whatever the model's class.
	let compared = policy.for_output(claimed.unanswerable().is_some());
	let members = members(request, claimed, &compared, own, &answer);
	Finding {
		answer,
		members,
		appealable_until: request.appealable_until.filter(|until| now <= *until),
	}
}

fn wrong(why: String) -> Answer {
	Answer::Wrong { why, place: None }
}

fn judge_answer(
	request: &Request,
	claimed: &Output,
	policy: &VerificationPolicy,
	own: &Own,
) -> Answer {
	let found = own.output.as_ref().and_then(Output::unanswerable);
	match (claimed.unanswerable(), found) {
		(Some(claim), Some(code)) if claim == code => return Answer::Right,
		(Some(_), Some(code)) => {
			return wrong(format!(
				"it cannot be answered, for another reason: {}",
				code.reason()
			))
		}
		(Some(claim), None) => {
			return wrong(format!(
				"it says that {}, and the model answers",
				claim.reason()
			))
		}
		(None, Some(code)) => return wrong(format!("there is no answer: {}", code.reason())),
		(None, None) => (),
	}
	match (claimed, &own.output) {
		(Output::Tensors(claimed), Some(Output::Tensors(model))) => {
			judge_tensors(request, claimed, model, policy)
		}
		(Output::Text { .. }, _) => judge_text(claimed, policy, own),
		_ => wrong("it is of another kind than what the model gives".into()),
	}
}

/// Judges a text.
pub(super) fn judge_text(claimed: &Output, policy: &VerificationPolicy, own: &Own) -> Answer {
	if own.verdict.within(&policy.accept) {
		return Answer::Right;
	}
	let logits = |margin: u32| f64::from(margin) / 65_536.0;
	if own.verdict.within(&policy.fraud) {
		return Answer::Undecided(format!(
			"its margins, {:.3} logits at most and {:.3} on average, are between those that the model's policy accepts ({:.3}, \
			 {:.3}) and those that it calls fraud ({:.3}, {:.3})",
			logits(own.verdict.margin_max),
			logits(own.verdict.margin_mean),
			logits(policy.accept.margin_max),
			logits(policy.accept.margin_mean),
			logits(policy.fraud.margin_max),
			logits(policy.fraud.margin_mean),
		));
	}
	let said = tokens(claimed);
	let model = own.output.as_ref().map(tokens);
	let first = |model: &Vec<u32>| {
		let shorter = said.len().min(model.len());
		let apart = (0..shorter).find(|i| said[*i] != model[*i]);
		apart.or((said.len() != model.len()).then_some(shorter))
	};
	let parts = model.as_ref().and_then(first);
	let index = match policy.class {
		// A margin is zero if and only if the token is what the model says: the two part where the answer goes wrong.
		NumericClass::Exact => parts,
		NumericClass::Tolerant => own.beyond,
	};
	let Some(index) = index else {
		return if model.as_ref() == Some(&said) {
			wrong(
				"its tokens are what the model says, but its text or its end is not what they say"
					.into(),
			)
		} else if own.verdict.margin_max == u32::MAX {
			wrong(
				"no model could have given it: its text, its tokens and its end do not fit each other"
					.into(),
			)
		} else {
			wrong(format!(
				"its tokens are {:.3} logits from what the model says on average, which its policy calls fraud",
				logits(own.verdict.margin_mean)
			))
		};
	};
	// What this machine would have said there is known if it said the same before.
	let known = parts.is_none_or(|p| p >= index);
	let place = Place {
		index,
		claimed: said.get(index).copied(),
		model: model.filter(|_| known).and_then(|m| m.get(index).copied()),
	};
	let here = match (place.claimed, place.model) {
		(Some(claimed), Some(model)) => {
			format!("the model says token {model} there, not {claimed}")
		}
		(None, Some(_)) => "the model goes on there".into(),
		(Some(_), None) if known && policy.class == NumericClass::Exact => {
			"the model has ended there".into()
		}
		_ => "the model would not have said it there".into(),
	};
	Answer::Wrong {
		why: format!("at token {} of {}, {here}", index + 1, said.len()),
		place: Some(place),
	}
}

/// The tokens of a text.
pub(crate) fn tokens(output: &Output) -> Vec<u32> {
	match output {
		Output::Text { tokens, .. } => tokens.iter().map(|Compact(t)| *t).collect(),
		Output::Tensors(_) | Output::Unanswerable(_) => Vec::new(),
	}
}

/// Where two lists of tensors part.
fn first_difference(claimed: &[Tensor], model: &[Tensor]) -> String {
	if claimed.len() != model.len() {
		return format!(
			"it has {} outputs, the model gives {}",
			claimed.len(),
			model.len()
		);
	}
	let named = |t: &Tensor| String::from_utf8_lossy(&t.name).into_owned();
	for (a, b) in claimed.iter().zip(model) {
		if (&a.name, &a.shape, a.datatype) != (&b.name, &b.shape, b.datatype) {
			return format!(
				"its output {:?} has another name, shape or element type than the model's {:?}",
				named(a),
				named(b)
			);
		}
		if let Some(byte) = (0..a.data.len()).find(|i| a.data.get(*i) != b.data.get(*i)) {
			return match a.datatype.bits() {
				Some(bits) => format!(
					"its output {:?} is another from element {}",
					named(a),
					byte as u64 * 8 / bits
				),
				None => format!("its output {:?} is another", named(a)),
			};
		}
	}
	"it is another".into()
}

/// Challenges under which the tensors of an answer are compared: those that were drawn, or where none was, any.
fn challenges(request: &Request) -> Vec<H256> {
	let drawn: Vec<_> = request
		.challenge
		.into_iter()
		.chain(request.jury_challenge)
		.collect();
	if drawn.is_empty() {
		vec![H256::zero()]
	} else {
		drawn
	}
}

fn judge_tensors(
	request: &Request,
	claimed: &[Tensor],
	model: &[Tensor],
	policy: &VerificationPolicy,
) -> Answer {
	if policy.class == NumericClass::Exact {
		return if claimed == model {
			Answer::Right
		} else {
			wrong(format!(
				"{}, where the class is exact",
				first_difference(claimed, model)
			))
		};
	}
	let worst = challenges(request)
		.iter()
		.map(|challenge| {
			let of = |tensors: &[Tensor]| {
				Evidence::of_tensors(tensors, challenge, policy).map(|e| e.fingerprint)
			};
			match (of(claimed), of(model)) {
				(Ok(claimed), Ok(model)) => closeness(policy, &model, &claimed),
				// Malformed ones have no evidence.
				(Err(_), _) => Closeness::Beyond,
				(_, Err(_)) => Closeness::Unknown,
			}
		})
		.max()
		.unwrap_or(Closeness::Unknown);
	match worst {
		Closeness::Equal | Closeness::Within => Answer::Right,
		Closeness::Beyond => wrong(format!(
			"{}, farther from the model's than its policy allows{}",
			first_difference(claimed, model),
			largest_difference(claimed, model, policy)
				.map_or(String::new(), |d| format!(" ({d:.4} at most)"))
		)),
		Closeness::Between => Answer::Undecided(
			"its distance from the model's output is between what the model's policy accepts and what it calls fraud".into(),
		),
		Closeness::Unknown => Answer::Undecided("what the model gives here has no evidence".into()),
	}
}

/// The largest difference of two outputs' floats, rounded to the policy's steps.
pub(crate) fn largest_difference(
	a: &[Tensor],
	b: &[Tensor],
	policy: &VerificationPolicy,
) -> Option<f64> {
	let bits = policy.fraction_bits;
	let mut largest = None;
	for (a, b) in a.iter().zip(b) {
		let (Some(a), Some(b)) = (fixed::floats(a, bits), fixed::floats(b, bits)) else {
			continue;
		};
		for pair in a.zip(b) {
			if let (Ok(a), Ok(b)) = pair {
				largest = largest.max(Some(a.abs_diff(b)));
			}
		}
	}
	largest.map(|steps| steps as f64 / f64::from(1u32 << bits))
}

/// How far a fingerprint is from this machine's.
fn closeness(policy: &VerificationPolicy, own: &Fingerprint, other: &Fingerprint) -> Closeness {
	if own == other {
		return Closeness::Equal;
	}
	// Two of three make this machine's the median of the values and the majority of the digests.
	match judge(policy, &[own, own, other])[2] {
		Judgement::Accept => Closeness::Within,
		Judgement::Grey => Closeness::Between,
		Judgement::Fraud => Closeness::Beyond,
	}
}

/// Largest distance of two fingerprints' values.
fn distance(own: &Fingerprint, other: &Fingerprint) -> Option<u32> {
	match (own, other) {
		(Fingerprint::Values { values: own, .. }, Fingerprint::Values { values: other, .. })
			if own.len() == other.len() =>
		{
			own.iter().zip(other).map(|(a, b)| a.abs_diff(*b)).max()
		}
		_ => None,
	}
}

fn members(
	request: &Request,
	claimed: &Output,
	policy: &VerificationPolicy,
	own: &Own,
	answer: &Answer,
) -> Vec<Member> {
	request
		.evidence
		.iter()
		.map(|(who, evidence)| {
			// Who judges an appeal has no round to look back at; who judges a round's dispute has.
			let juror = evidence.prior.is_some() || request.challenge.is_none();
			let role = if juror {
				Role::Juror
			} else if request.executor.as_ref() == Some(who) {
				Role::Executor
			} else {
				Role::Verifier
			};
			let mine = if juror { &own.jury } else { &own.round };
			let compared = [
				(mine.as_ref(), Some(&evidence.fingerprint)),
				(own.round.as_ref(), evidence.prior.as_ref()),
			];
			let pairs = || {
				compared
					.iter()
					.filter_map(|(own, theirs)| Some((*own, (*theirs)?)))
			};
			let fingerprint = pairs()
				.map(|(own, theirs)| {
					own.map_or(Closeness::Unknown, |own| closeness(policy, own, theirs))
				})
				.max()
				.unwrap_or(Closeness::Unknown);
			let distance = pairs()
				.filter_map(|(own, theirs)| distance(own?, theirs))
				.max();
			Member {
				who: who.clone(),
				role,
				fingerprint,
				distance,
				verdict: evidence.verdict,
				falsehood: falsehood(
					request,
					claimed,
					policy,
					answer,
					role,
					fingerprint,
					evidence,
				),
			}
		})
		.collect()
}

const NOT_RUN: &str = "it did not run this model on this input";

/// Why evidence can be no honest measurement, if it is none.
fn falsehood(
	request: &Request,
	claimed: &Output,
	policy: &VerificationPolicy,
	answer: &Answer,
	role: Role,
	fingerprint: Closeness,
	evidence: &Evidence,
) -> Option<&'static str> {
	if fingerprint == Closeness::Beyond {
		return Some(NOT_RUN);
	}
	if let Output::Tensors(tensors) = claimed {
		// There the output is the evidence; the executor's is what its own output comes to.
		let expected = request.challenge.filter(|_| role == Role::Executor)?;
		let expected = Evidence::of_tensors(tensors, &expected, policy);
		return (expected.as_ref() != Ok(evidence))
			.then_some("it measured another output than it gave");
	}
	misjudged(policy, answer, &evidence.verdict)
}

/// Why a verdict on a text can be no honest one, if it is none.
fn misjudged(
	policy: &VerificationPolicy,
	answer: &Answer,
	verdict: &Verdict,
) -> Option<&'static str> {
	match answer {
		Answer::Right if !verdict.within(&policy.fraud) => {
			Some("it calls an answer wrong that is right")
		}
		Answer::Wrong { .. } if verdict.within(&policy.accept) => {
			Some("it calls an answer right that is wrong")
		}
		_ => None,
	}
}

/// Judges what a checker of the session lane signed, beside this machine's fingerprint under the same challenge.
pub(super) fn checker(
	who: AccountId,
	policy: &VerificationPolicy,
	answer: &Answer,
	own: &Fingerprint,
	evidence: &Evidence,
) -> Member {
	let fingerprint = closeness(policy, own, &evidence.fingerprint);
	let falsehood = match fingerprint {
		Closeness::Beyond => Some(NOT_RUN),
		_ => misjudged(policy, answer, &evidence.verdict),
	};
	Member {
		who,
		role: Role::Verifier,
		fingerprint,
		distance: distance(own, &evidence.fingerprint),
		verdict: evidence.verdict,
		falsehood,
	}
}

/// The first of `count` tokens whose margin is beyond a bound, found by measuring beginnings of the answer, several at a time.
/// `measure` gives the verdict on each beginning of so many tokens; their largest margins rise with their length.
pub(crate) fn first_beyond<E>(
	count: usize,
	bound: u32,
	mut measure: impl FnMut(&[u32]) -> Result<Vec<Verdict>, E>,
) -> Result<Option<usize>, E> {
	/// Beginnings measured in one pass.
	const AT_A_TIME: usize = 8;
	let whole = measure(&[count as u32])?;
	if whole.first().is_none_or(|v| v.margin_max <= bound) {
		return Ok(None);
	}
	// The first `low` tokens are within the bound, the first `high` are not.
	let (mut low, mut high) = (0, count);
	while high - low > 1 {
		let parts = AT_A_TIME.min(high - low - 1);
		let lengths: Vec<_> = (1..=parts)
			.map(|i| low + (high - low) * i / (parts + 1))
			.collect();
		let asked: Vec<_> = lengths.iter().map(|n| *n as u32).collect();
		for (length, verdict) in lengths.into_iter().zip(measure(&asked)?) {
			if verdict.margin_max > bound {
				high = high.min(length);
			} else {
				low = low.max(length);
			}
		}
	}
	Ok(Some(high - 1))
}
