//! Medians, distances and judgements, in integer arithmetic.
//!
//! Validators do not vote on an answer; each measures, and this decides. Members are compared with the component-wise
//! median of all; the answer is judged by the median of the *verifiers'* verdicts, the executor's left out.
//!
//! With an even number of members the median is an interval between two middle values. Acceptance asks for closeness to
//! the farther of the two and blame for distance from the nearer, so that two members who disagree are neither accepted
//! nor blamed: the jury decides.
//!
//! A committee ([`compare`]) accepts only where *everybody* agrees, blames nobody, and leaves the rest to a jury
//! ([`judge_dispute`]), which measures under a challenge of its own and, in the same pass, under the committee's. The second is
//! what the committee's members are judged by; the first, which nobody could copy, says which jurors ran the model.

use alloc::{collections::BTreeMap, vec::Vec};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	evidence::{Evidence, Fingerprint, Verdict},
	model::{Bounds, ModelSpec, NumericClass, VerificationPolicy},
};

/// Margin that another machine's rounding can bring about, in 2⁻¹⁶ of a logit: an eighth of a logit, the largest that bfloat16
/// was seen to make. Where several share bits that differ from the majority's, only what goes beyond it is a lie.
pub const MACHINE_MARGIN: u32 = 1 << 13;

/// What a member's fingerprint is worth.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Judgement {
	/// Within the accept bounds of every middle value: paid.
	Accept,
	/// Neither: not paid, not slashed.
	Grey,
	/// Beyond the fraud bounds of every middle value, or a verdict that no honest measurement gives.
	Fraud,
}

/// What the verifiers found of the answer.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum AnswerJudgement {
	/// What this model with this prompt and seed says.
	Right,
	/// The verifiers do not agree, or the margin is in the grey zone.
	Undecided,
	/// Not what the model says.
	Wrong,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
	/// The executor's fingerprint; accepted where it was absent.
	pub executor: Judgement,
	/// The verifiers' fingerprints, in the order they were given.
	pub verifiers: Vec<Judgement>,
	/// The answer, by the median of the verdicts.
	pub answer: AnswerJudgement,
	/// Whether every single verifier found the answer right.
	pub unanimous: bool,
}

impl Comparison {
	/// Whether everybody is within accept, and no verifier has anything to say against the answer. One that has is not
	/// outvoted: it may be the only honest one.
	pub fn agrees(&self) -> bool {
		self.unanimous
			&& self.answer == AnswerJudgement::Right
			&& core::iter::once(&self.executor)
				.chain(&self.verifiers)
				.all(|j| *j == Judgement::Accept)
	}

	/// The one member whose digest nobody shares, where everybody else shares one and every verdict is "right" (exact class): a
	/// machine that differs, which is no reason for a jury. The executor is 0, verifiers count from 1.
	pub fn lone(&self, policy: &VerificationPolicy) -> Option<usize> {
		if policy.class != NumericClass::Exact
			|| !self.unanimous
			|| self.answer != AnswerJudgement::Right
		{
			return None;
		}
		let mut others = core::iter::once(&self.executor)
			.chain(&self.verifiers)
			.enumerate()
			.filter(|(_, j)| **j != Judgement::Accept);
		match (others.next(), others.next()) {
			// Without a majority of two nobody is accepted.
			(Some((place, _)), None) => Some(place),
			_ => None,
		}
	}
}

/// Compares what a round's members revealed. An executor that was absent from its round is measured without: its answer is
/// what is judged.
pub fn compare(
	policy: &VerificationPolicy,
	executor: Option<&Evidence>,
	verifiers: &[Evidence],
) -> Comparison {
	let fingerprints: Vec<_> = executor
		.into_iter()
		.chain(verifiers)
		.map(|e| &e.fingerprint)
		.collect();
	let mut judged = judge(policy, &fingerprints).into_iter();
	Comparison {
		executor: executor
			.and_then(|_| judged.next())
			.unwrap_or(Judgement::Accept),
		verifiers: judged.collect(),
		answer: judge_answer(policy, verifiers.iter().map(|e| &e.verdict)),
		unanimous: verifiers.iter().all(|e| e.verdict.within(&policy.accept)),
	}
}

/// What a member of the disputed round measured, and which juror it is, if it is one.
#[derive(Clone, Copy, Debug)]
pub struct Disputed<'a> {
	/// What it measured in the disputed round.
	pub evidence: &'a Evidence,
	/// Its place in the jury.
	pub juror: Option<usize>,
}

/// What a jury finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
	/// The answer.
	pub answer: AnswerJudgement,
	/// The disputed round's executor; [`Judgement::Fraud`] also for an answer that is wrong.
	pub executor: Judgement,
	/// The disputed round's verifiers, in the order they were given.
	pub verifiers: Vec<Judgement>,
	/// The jurors, in the order they were given.
	pub jurors: Vec<Judgement>,
}

/// Judges an answer, the round that disputed it, and the jury itself.
///
/// - `jurors`: what each measured, with [`Evidence::prior`] where there is a disputed round.
/// - `executor`: its place in the jury, and its evidence if there was a round (an appeal has none).
/// - `verifiers`: the disputed round's, and the places in the jury of those of it that showed nothing: whoever they are, they are not
///   from outside.
/// - `answer`: for tasks whose output is the evidence, what the output itself comes to under the jury's challenge, in place of
///   verdicts; compared with the jurors that ran the model.
/// - `minimum`: jurors from outside the disputed round that must have run the model. With fewer nothing is found and nobody
///   blamed: a small jury could be a captive one.
///
/// Nobody counts in the judgement of itself, nor the executor in that of the answer.
pub fn judge_dispute(
	policy: &VerificationPolicy,
	jurors: &[&Evidence],
	executor: (Option<&Evidence>, Option<usize>),
	(verifiers, silent): (&[Disputed], &[usize]),
	output: Option<&Fingerprint>,
	minimum: usize,
) -> Finding {
	let own: Vec<_> = jurors.iter().map(|e| &e.fingerprint).collect();
	let mut by_juror = judge(policy, &own);
	// Who does not know what the committee was asked did not run the model either, whatever it copied.
	let priors: Option<Vec<_>> = jurors.iter().map(|e| e.prior.as_ref()).collect();
	if let Some(priors) = &priors {
		for (mine, other) in by_juror.iter_mut().zip(judge(policy, priors)) {
			*mine = (*mine).max(other);
		}
	}
	let party = |i: usize| {
		executor.1 == Some(i) || silent.contains(&i) || verifiers.iter().any(|v| v.juror == Some(i))
	};
	let ran = |i: &usize| by_juror[*i] == Judgement::Accept;
	let independent = (0..jurors.len()).filter(ran).filter(|i| !party(*i)).count();
	if independent < minimum.max(1) {
		return Finding {
			answer: AnswerJudgement::Undecided,
			executor: Judgement::Grey,
			verifiers: verifiers.iter().map(|_| Judgement::Grey).collect(),
			jurors: by_juror
				.into_iter()
				.map(|j| j.min(Judgement::Grey))
				.collect(),
		};
	}
	let trusted: Vec<_> = (0..jurors.len())
		.filter(ran)
		.filter(|i| executor.1 != Some(*i))
		.collect();
	let verdicts = trusted.iter().map(|i| &jurors[*i].verdict);
	let answer = match output {
		None => judge_answer(policy, verdicts.clone()),
		Some(output) => {
			let mut all: Vec<_> = trusted.iter().map(|i| &jurors[*i].fingerprint).collect();
			all.push(output);
			match judge(policy, &all).last() {
				Some(Judgement::Accept) => AnswerJudgement::Right,
				Some(Judgement::Fraud) => AnswerJudgement::Wrong,
				_ => AnswerJudgement::Undecided,
			}
		}
	};
	let margin = middle(verdicts.map(|v| v.margin_max).collect()).map_or(0, |m| m.0);
	// Whether what this member says of the answer can be no honest measurement, given what the answer is.
	let lies = |verdict: &Verdict, judgement: Judgement| {
		let contradicts = output.is_none()
			&& match answer {
				AnswerJudgement::Right => !verdict.within(&policy.fraud),
				AnswerJudgement::Wrong => verdict.within(&policy.accept),
				AnswerJudgement::Undecided => false,
			};
		let rounding = policy.class == NumericClass::Exact
			&& judgement == Judgement::Grey
			&& verdict.margin_max.abs_diff(margin) <= MACHINE_MARGIN;
		contradicts && !rounding
	};
	// A verdict that is neither right nor wrong says nothing: whoever gives one is not paid for it.
	let unclear = |verdict: &Verdict| {
		output.is_none()
			&& match answer {
				AnswerJudgement::Right => !verdict.within(&policy.accept),
				AnswerJudgement::Wrong => verdict.within(&policy.fraud),
				AnswerJudgement::Undecided => false,
			}
	};
	let of_round = |evidence: &Evidence, juror: Option<usize>| match &priors {
		Some(priors) => {
			let others = priors.iter().enumerate().filter(|(i, _)| juror != Some(*i));
			let mut all: Vec<_> = others.map(|(_, p)| *p).collect();
			all.push(&evidence.fingerprint);
			judge(policy, &all).pop().unwrap_or(Judgement::Grey)
		}
		None => Judgement::Grey,
	};
	let by_executor = executor
		.0
		.map_or(Judgement::Accept, |e| of_round(e, executor.1));
	let blamed =
		|fraud: bool, judgement: Judgement| if fraud { Judgement::Fraud } else { judgement };
	let by_verdict = |verdict: &Verdict, judgement: Judgement| {
		let lies = lies(verdict, judgement);
		let judgement = mild(policy, judgement);
		blamed(
			lies,
			if unclear(verdict) {
				judgement.max(Judgement::Grey)
			} else {
				judgement
			},
		)
	};
	let another_machine = policy.class == NumericClass::Exact
		&& by_executor == Judgement::Grey
		&& margin <= MACHINE_MARGIN;
	Finding {
		answer,
		executor: blamed(
			answer == AnswerJudgement::Wrong && !another_machine,
			mild(policy, by_executor),
		),
		verifiers: verifiers
			.iter()
			.map(|v| {
				let judgement = of_round(v.evidence, v.juror);
				by_verdict(&v.evidence.verdict, judgement)
			})
			.collect(),
		jurors: jurors
			.iter()
			.zip(&by_juror)
			.map(|(e, j)| by_verdict(&e.verdict, *j))
			.collect(),
	}
}

/// What a fingerprint alone can cost. In the exact class it is never stake: a graph that differs by machine, made so on purpose,
/// would cost whoever is alone with its bits what a lie costs. Verdicts and answers are what is slashed for.
fn mild(policy: &VerificationPolicy, judgement: Judgement) -> Judgement {
	match policy.class {
		NumericClass::Exact => judgement.min(Judgement::Grey),
		NumericClass::Tolerant => judgement,
	}
}

/// Whether evidence is what a model's policy accepts for its reference input: the same in the exact class; within the accept bounds, in
/// fingerprint and verdict, in the tolerant one.
pub fn reproduces(spec: &ModelSpec, evidence: &Evidence) -> bool {
	let (policy, reference) = (&spec.policy, &spec.reference);
	match policy.class {
		NumericClass::Exact => evidence.is_of(policy.class) && evidence == reference,
		NumericClass::Tolerant => {
			// Two fingerprints are both accepted where each is within the accept bounds of the other.
			let pair = [&reference.fingerprint, &evidence.fingerprint];
			evidence.is_of(policy.class)
				&& evidence.verdict.within(&policy.accept)
				&& judge(policy, &pair).get(1) == Some(&Judgement::Accept)
		}
	}
}

/// Judges each fingerprint against the median of all.
pub fn judge(policy: &VerificationPolicy, fingerprints: &[&Fingerprint]) -> Vec<Judgement> {
	let values: Option<Vec<_>> = fingerprints
		.iter()
		.map(|f| match f {
			Fingerprint::Values { tag, values } => Some((*tag, &values[..])),
			Fingerprint::Digest(_) => None,
		})
		.collect();
	match values {
		Some(values) => judge_values(policy, &values),
		None => judge_digests(fingerprints),
	}
}

/// Exact class. Who shares the digest of a strict majority is accepted. A digest that several others share is a machine
/// that computes other bits: grey. A digest that nobody shares, against a majority of at least two, is fraud; but see [`mild`].
fn judge_digests(fingerprints: &[&Fingerprint]) -> Vec<Judgement> {
	let mut count = BTreeMap::<&Fingerprint, usize>::new();
	for f in fingerprints {
		*count.entry(f).or_default() += 1;
	}
	let majority = count.iter().find(|(_, n)| **n * 2 > fingerprints.len());
	fingerprints
		.iter()
		.map(|f| match majority {
			Some((reference, _)) if reference == f => Judgement::Accept,
			Some((_, n)) if *n >= 2 && count.get(f) == Some(&1) => Judgement::Fraud,
			_ => Judgement::Grey,
		})
		.collect()
}

/// Tolerant class. Fingerprints of another tag or length than most are not comparable: they are fraud against a majority
/// and grey without one.
fn judge_values(policy: &VerificationPolicy, fingerprints: &[(u32, &[i32])]) -> Vec<Judgement> {
	let form = |f: &(u32, &[i32])| (f.0, f.1.len());
	let mut forms = BTreeMap::<(u32, usize), usize>::new();
	for f in fingerprints {
		*forms.entry(form(f)).or_default() += 1;
	}
	let majority = forms
		.iter()
		.find(|(_, n)| **n * 2 > fingerprints.len())
		.map(|(form, _)| *form);
	let Some(common) = majority else {
		return fingerprints.iter().map(|_| Judgement::Grey).collect();
	};
	let comparable: Vec<_> = fingerprints.iter().filter(|f| form(f) == common).collect();
	let middles: Vec<(i32, i32)> = (0..common.1)
		.map(|i| middle(comparable.iter().map(|f| f.1[i]).collect()))
		.map(|m| m.expect("a majority holds at least one fingerprint; qed"))
		.collect();
	fingerprints
		.iter()
		.map(|f| {
			if form(f) != common {
				return Judgement::Fraud;
			}
			let (mut near, mut far) = (Distance::default(), Distance::default());
			for (value, (low, high)) in f.1.iter().zip(&middles) {
				let (a, b) = (value.abs_diff(*low), value.abs_diff(*high));
				far.add(a.max(b));
				near.add(if (low..=high).contains(&value) {
					0
				} else {
					a.min(b)
				});
			}
			if far.within(&policy.accept) {
				Judgement::Accept
			} else if near.within(&policy.fraud) {
				Judgement::Grey
			} else {
				Judgement::Fraud
			}
		})
		.collect()
}

/// Judges the answer by the middle verdicts: right if both are accepted, wrong if both are beyond the fraud bounds.
pub fn judge_answer<'a>(
	policy: &VerificationPolicy,
	verdicts: impl Iterator<Item = &'a Verdict> + Clone,
) -> AnswerJudgement {
	let of = |get: fn(&Verdict) -> u32| middle(verdicts.clone().map(get).collect::<Vec<_>>());
	let (Some(max), Some(mean)) = (of(|v| v.margin_max), of(|v| v.margin_mean)) else {
		return AnswerJudgement::Undecided;
	};
	let within = |margin_max, margin_mean, bounds| {
		Verdict {
			margin_max,
			margin_mean,
			deviations: 0,
		}
		.within(bounds)
	};
	if within(max.1, mean.1, &policy.accept) {
		AnswerJudgement::Right
	} else if !within(max.0, mean.0, &policy.fraud) {
		AnswerJudgement::Wrong
	} else {
		AnswerJudgement::Undecided
	}
}

impl Verdict {
	/// Whether the margins are within these bounds.
	pub const fn within(&self, bounds: &Bounds) -> bool {
		self.margin_max <= bounds.margin_max && self.margin_mean <= bounds.margin_mean
	}
}

/// The two middle values, equal where the number of values is odd; `None` of none.
fn middle<V: Ord + Copy>(mut values: Vec<V>) -> Option<(V, V)> {
	values.sort_unstable();
	let n = values.len();
	Some((*values.get(n.checked_sub(1)? / 2)?, *values.get(n / 2)?))
}

/// Distance of a fingerprint from a reference.
#[derive(Default)]
struct Distance {
	sum: u64,
	max: u32,
	values: u64,
}

impl Distance {
	fn add(&mut self, difference: u32) {
		self.sum += u64::from(difference);
		self.max = self.max.max(difference);
		self.values += 1;
	}

	fn within(&self, bounds: &Bounds) -> bool {
		// sum / values ≤ mean / 256, without division.
		self.max <= bounds.max
			&& u128::from(self.sum) * 256 <= u128::from(bounds.mean) * u128::from(self.values)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::model::NumericClass;
	use proptest::prelude::*;

	fn policy() -> VerificationPolicy {
		VerificationPolicy {
			class: NumericClass::Tolerant,
			positions: 4,
			entries: 1,
			fraction_bits: 8,
			accept: Bounds {
				mean: 2 * 256,
				max: 4,
				margin_max: 10,
				margin_mean: 5,
			},
			fraud: Bounds {
				mean: 10 * 256,
				max: 20,
				margin_max: 100,
				margin_mean: 50,
			},
			min_verifiers: 1,
			min_sampling: 1_000,
		}
	}

	fn digest(n: u8) -> Fingerprint {
		Fingerprint::Digest([n; 16])
	}

	fn values(v: &[i32]) -> Fingerprint {
		Fingerprint::Values {
			tag: 0,
			values: v.to_vec().try_into().unwrap(),
		}
	}

	fn judged(f: &[Fingerprint]) -> Vec<Judgement> {
		judge(&policy(), &f.iter().collect::<Vec<_>>())
	}

	use Judgement::*;

	#[test]
	fn digests() {
		assert_eq!(judged(&[digest(1), digest(1), digest(1)]), [Accept; 3]);
		assert_eq!(
			judged(&[digest(2), digest(1), digest(1)]),
			[Fraud, Accept, Accept]
		);
		assert_eq!(
			judged(&[digest(1), digest(2)]),
			[Grey, Grey],
			"two cannot say who is wrong"
		);
		assert_eq!(judged(&[digest(1), digest(2), digest(3)]), [Grey; 3]);
		assert_eq!(
			judged(&[digest(1), digest(1), digest(2), digest(2)]),
			[Grey; 4]
		);
		let machine = [digest(1), digest(1), digest(1), digest(2), digest(2)];
		assert_eq!(
			judged(&machine),
			[Accept, Accept, Accept, Grey, Grey],
			"a shared digest"
		);
	}

	#[test]
	fn values_near_grey_and_far() {
		let (a, near, grey, far) = ([0; 4], [1; 4], [8; 4], [50; 4]);
		assert_eq!(
			judged(&[values(&a), values(&a), values(&near)]),
			[Accept; 3]
		);
		assert_eq!(
			judged(&[values(&grey), values(&a), values(&a)]),
			[Grey, Accept, Accept]
		);
		assert_eq!(
			judged(&[values(&a), values(&far), values(&a)]),
			[Accept, Fraud, Accept]
		);
		assert_eq!(
			judged(&[values(&a), values(&far)]),
			[Grey, Grey],
			"two members"
		);
	}

	#[test]
	fn even_numbers_need_distance_from_both_middles() {
		let f = [values(&[0]), values(&[0]), values(&[0]), values(&[100])];
		assert_eq!(judged(&f), [Accept, Accept, Accept, Fraud]);
		let f = [values(&[0]), values(&[0]), values(&[100]), values(&[100])];
		assert_eq!(judged(&f), [Grey; 4]);
	}

	#[test]
	fn another_kind_or_length_never_agrees() {
		assert_eq!(
			judged(&[values(&[0]), values(&[0]), values(&[0, 0])])[2],
			Fraud
		);
		assert_eq!(judged(&[digest(1), digest(1), values(&[0])])[2], Fraud);
	}

	#[test]
	fn another_tag_is_no_near_value() {
		let mut other = values(&[0]);
		if let Fingerprint::Values { tag, .. } = &mut other {
			*tag = 1;
		}
		assert_eq!(
			judged(&[values(&[0]), values(&[0]), other.clone()])[2],
			Fraud
		);
		assert_eq!(judged(&[values(&[0]), other]), [Grey, Grey]);
	}

	fn evidence(own: Fingerprint, prior: Option<Fingerprint>, margin_max: u32) -> Evidence {
		Evidence {
			fingerprint: own,
			verdict: Verdict {
				margin_max,
				margin_mean: 0,
				deviations: 0,
			},
			prior,
		}
	}

	fn exact() -> VerificationPolicy {
		VerificationPolicy {
			class: NumericClass::Exact,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			..policy()
		}
	}

	/// A jury that finds `margin`, the executor and two verifiers its first three members.
	fn dispute(
		policy: &VerificationPolicy,
		committee: &[Evidence; 3],
		jury: &[Evidence],
	) -> Finding {
		let jurors: Vec<_> = jury.iter().collect();
		let member = |i: usize| Disputed {
			evidence: &committee[i],
			juror: Some(i),
		};
		judge_dispute(
			policy,
			&jurors,
			(Some(&committee[0]), Some(0)),
			(&[member(1), member(2)], &[]),
			None,
			3,
		)
	}

	#[test]
	fn one_verifier_against_the_answer_is_not_outvoted() {
		let honest = evidence(digest(1), None, 0);
		let doubts = evidence(digest(1), None, 500);
		let all = compare(
			&exact(),
			Some(&honest),
			&[honest.clone(), honest.clone(), doubts],
		);
		assert_eq!(all.answer, AnswerJudgement::Right);
		assert!(!all.agrees());
	}

	#[test]
	fn a_jury_blames_the_writer_of_a_wrong_answer_and_who_vouched_for_it() {
		let juror = |margin| evidence(digest(9), Some(digest(1)), margin);
		// The executor measures honestly and says that its answer is right, as its accomplice does.
		let committee = [0, 0, 90_000].map(|m| evidence(digest(1), None, m));
		let found = dispute(
			&exact(),
			&committee,
			&[0, 0, 90_000, 90_000, 90_000, 90_000].map(juror),
		);
		assert_eq!(found.answer, AnswerJudgement::Wrong);
		assert_eq!(found.executor, Fraud);
		assert_eq!(found.verifiers, [Fraud, Accept]);
		assert_eq!(found.jurors, [Fraud, Fraud, Accept, Accept, Accept, Accept]);
	}

	#[test]
	fn a_jury_blames_a_verifier_who_invented_its_evidence_or_its_verdict() {
		let honest = evidence(digest(1), None, 0);
		let invented = evidence(digest(2), None, 0);
		let slander = evidence(digest(1), None, 90_000);
		let jury = [(); 6].map(|_| evidence(digest(9), Some(digest(1)), 0));
		let found = dispute(&exact(), &[honest, invented, slander], &jury);
		assert_eq!(found.answer, AnswerJudgement::Right);
		assert_eq!(found.executor, Accept);
		// Bits that nobody shares are not paid; a verdict that is a lie is slashed.
		assert_eq!(found.verifiers, [Grey, Fraud]);
		assert!(found.jurors.iter().all(|j| *j == Accept));
	}

	#[test]
	fn a_small_jury_finds_nothing_and_blames_nobody() {
		let committee = [digest(1), digest(2), digest(1)].map(|d| evidence(d, None, 90_000));
		let jury = [(); 5].map(|_| evidence(digest(9), Some(digest(1)), 90_000));
		let found = dispute(&exact(), &committee, &jury);
		assert_eq!(found.answer, AnswerJudgement::Undecided);
		assert_eq!((found.executor, found.verifiers), (Grey, vec![Grey, Grey]));
	}

	#[test]
	fn a_machine_with_other_bits_is_not_paid_and_not_blamed() {
		// Two machines round otherwise: they share digests, and see a margin that is a hair apart.
		let other = evidence(digest(5), None, 0);
		let committee = [other.clone(), other, evidence(digest(1), None, 7)];
		let juror = |own, prior, margin| evidence(digest(own), Some(digest(prior)), margin);
		let jury = [
			juror(8, 5, 0),
			juror(8, 5, 0),
			juror(9, 1, 7),
			juror(9, 1, 7),
			juror(9, 1, 7),
			juror(9, 1, 7),
		];
		let found = dispute(&exact(), &committee, &jury);
		assert_eq!(found.answer, AnswerJudgement::Wrong);
		assert_eq!(found.executor, Grey);
		assert_eq!(found.verifiers, [Grey, Accept]);
		assert_eq!(found.jurors[..2], [Grey, Grey]);
		// The same digests do not excuse an answer that no rounding explains.
		let mut far = jury.clone();
		far[2..]
			.iter_mut()
			.for_each(|e| e.verdict.margin_max = 90_000);
		let found = dispute(&exact(), &committee, &far);
		assert_eq!(found.executor, Fraud);
		assert_eq!(found.verifiers[0], Fraud);
	}

	#[test]
	fn a_juror_who_copied_what_the_committee_showed_did_not_run_the_model() {
		let honest = evidence(digest(1), None, 0);
		let committee = [honest.clone(), honest.clone(), evidence(digest(2), None, 0)];
		let mut jury = [(); 7].map(|_| evidence(digest(9), Some(digest(1)), 0));
		jury[6].fingerprint = digest(77);
		let found = dispute(&exact(), &committee, &jury);
		assert_eq!(found.jurors[6], Grey);
		assert_eq!(found.verifiers, [Accept, Grey]);
	}

	#[test]
	fn who_was_silent_in_the_disputed_round_is_not_from_outside() {
		let committee = [0, 90_000].map(|m| evidence(digest(1), None, m));
		let jury = [(); 4].map(|_| evidence(digest(9), Some(digest(1)), 90_000));
		let jurors: Vec<_> = jury.iter().collect();
		let verifier = Disputed {
			evidence: &committee[1],
			juror: Some(0),
		};
		let answer = |silent: &[usize]| {
			let executor = (Some(&committee[0]), None);
			judge_dispute(&exact(), &jurors, executor, (&[verifier], silent), None, 3).answer
		};
		assert_eq!(answer(&[]), AnswerJudgement::Wrong);
		assert_eq!(answer(&[2]), AnswerJudgement::Undecided);
	}

	#[test]
	fn an_output_that_is_the_evidence_is_judged_itself() {
		let jury = [(); 4].map(|_| evidence(digest(9), None, 0));
		let jurors: Vec<_> = jury.iter().collect();
		let of = |output: &Fingerprint| {
			judge_dispute(
				&exact(),
				&jurors,
				(None, Some(0)),
				(&[], &[]),
				Some(output),
				3,
			)
		};
		assert_eq!(of(&digest(9)).answer, AnswerJudgement::Right);
		let wrong = of(&digest(3));
		assert_eq!(
			(wrong.answer, wrong.executor),
			(AnswerJudgement::Wrong, Fraud)
		);
		assert!(wrong.jurors.iter().all(|j| *j == Accept));
	}

	#[test]
	fn a_verdict_that_is_neither_right_nor_wrong_is_not_paid() {
		let jury = [(); 5].map(|_| tolerant(0));
		let jurors: Vec<_> = jury.iter().collect();
		let of = |margin| {
			let (own, other) = (tolerant(0), tolerant(margin));
			let disputed = Disputed {
				evidence: &other,
				juror: None,
			};
			let disputed = (&[disputed][..], &[][..]);
			judge_dispute(&policy(), &jurors, (Some(&own), None), disputed, None, 3).verifiers[0]
		};
		assert_eq!(
			[of(10), of(11), of(100), of(101)],
			[Accept, Grey, Grey, Fraud]
		);
	}

	fn tolerant(margin: u32) -> Evidence {
		evidence(values(&[0]), Some(values(&[0])), margin)
	}

	#[test]
	fn one_machine_that_differs_is_named_and_calls_no_jury() {
		let of = |digests: [u8; 3], margin| {
			let [executor, a, b] = digests.map(|d| evidence(digest(d), None, 0));
			let b = Evidence {
				verdict: Verdict {
					margin_max: margin,
					..Default::default()
				},
				..b
			};
			compare(&exact(), Some(&executor), &[a, b]).lone(&exact())
		};
		assert_eq!(of([1, 1, 2], 0), Some(2));
		assert_eq!(of([2, 1, 1], 0), Some(0));
		assert_eq!(of([1, 1, 1], 0), None);
		assert_eq!(of([1, 2, 3], 0), None, "nobody shares one");
		assert_eq!(
			of([1, 1, 2], 7),
			None,
			"a verdict against the answer is for a jury"
		);
		let two = compare(
			&exact(),
			Some(&evidence(digest(1), None, 0)),
			&[evidence(digest(2), None, 0)],
		);
		assert_eq!(two.lone(&exact()), None);
	}

	#[test]
	fn an_executor_that_is_silent_is_judged_all_the_same() {
		let verdicts = |m: [u32; 2]| m.map(|m| evidence(digest(1), None, m));
		assert!(compare(&exact(), None, &verdicts([0, 0])).agrees());
		assert!(!compare(&exact(), None, &verdicts([0, 90_000])).agrees());
	}

	#[test]
	fn answers() {
		let answer = |margins: &[u32]| {
			let verdicts: Vec<_> = margins
				.iter()
				.map(|m| Verdict {
					margin_max: *m,
					margin_mean: 0,
					deviations: 0,
				})
				.collect();
			judge_answer(&policy(), verdicts.iter())
		};
		assert_eq!(answer(&[0, 0]), AnswerJudgement::Right);
		assert_eq!(answer(&[0, 1_000]), AnswerJudgement::Undecided);
		assert_eq!(answer(&[0, 0, 1_000]), AnswerJudgement::Right);
		assert_eq!(answer(&[1_000, 1_000]), AnswerJudgement::Wrong);
		assert_eq!(answer(&[50, 50]), AnswerJudgement::Undecided);
		assert_eq!(answer(&[]), AnswerJudgement::Undecided);
	}

	proptest! {
		/// Whatever fewer than half of a jury and two of three members of a committee invent together, no honest one is
		/// blamed, and no wrong answer is right.
		#[test]
		fn a_minority_of_liars_wins_nothing(
			honest in 4usize..9,
			lies in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>()), 3..6),
			margin in prop_oneof![Just(0u32), 10_000u32..90_000],
			liar_writes in any::<bool>(),
		) {
			let true_prior = digest(1);
			let truth = || evidence(digest(9), Some(true_prior.clone()), margin);
			let lie = |l: &(u8, u8, u32)| evidence(digest(l.0), Some(digest(l.1)), l.2);
			let lies: Vec<_> = lies.into_iter().take(honest - 1).collect();
			// Liars are the jury's first; the executor (or a verifier) and one verifier are of them, the other verifier is not.
			let mut jury: Vec<_> = lies.iter().map(lie).collect();
			let first_honest = jury.len();
			jury.extend((0..honest).map(|_| truth()));
			let in_round = |e: &Evidence| Evidence {
				fingerprint: e.prior.clone().unwrap(),
				verdict: e.verdict,
				prior: None,
			};
			let (executor, a) = if liar_writes { (0, 1) } else { (first_honest + 1, 0) };
			let b = first_honest;
			let round = [executor, a, b].map(|i| in_round(&jury[i]));
			let jurors: Vec<_> = jury.iter().collect();
			let found = judge_dispute(
				&exact(),
				&jurors,
				(Some(&round[0]), Some(executor)),
				(
					&[
						Disputed { evidence: &round[1], juror: Some(a) },
						Disputed { evidence: &round[2], juror: Some(b) },
					],
					&[],
				),
				None,
				1,
			);
			prop_assert!(found.jurors[first_honest..].iter().all(|j| *j != Fraud), "{:?}", found);
			prop_assert!(found.verifiers[1] != Fraud);
			prop_assert!(margin == 0 || found.answer != AnswerJudgement::Right, "{:?}", found);
			prop_assert!(margin > 0 || found.answer != AnswerJudgement::Wrong);
			prop_assert!(liar_writes || margin > 0 || found.executor != Fraud);
		}

		/// A minority cannot get an honest member judged a fraud, and equal members are always judged equally.
		#[test]
		fn minority_cannot_blame_the_majority(
			honest in 2usize..6,
			lies in prop::collection::vec(prop::collection::vec(any::<i32>(), 4), 0..5),
			noise in prop::collection::vec(prop::collection::vec(-1i32..=1, 4), 6),
		) {
			let lies: Vec<_> = lies.into_iter().take(honest - 1).collect();
			let mut all: Vec<_> = (0..honest).map(|i| values(&noise[i])).collect();
			all.extend(lies.iter().map(|l| values(l)));
			let judgements = judged(&all);
			prop_assert!(judgements[..honest].iter().all(|j| *j != Fraud));
			for (i, a) in all.iter().enumerate() {
				for (j, b) in all.iter().enumerate() {
					prop_assert!(a != b || judgements[i] == judgements[j]);
				}
			}
		}
	}
}
