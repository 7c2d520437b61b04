//! Medians, distances and judgements, in integer arithmetic.
//!
//! Validators do not vote on an answer; each measures, and this decides. Members are compared with the component-wise
//! median of all; the answer is judged by the median of the *verifiers'* verdicts, the executor's left out.
//!
//! With an even number of members the median is an interval between two middle values. Acceptance asks for closeness to
//! the farther of the two and blame for distance from the nearer, so that two members who disagree are neither accepted
//! nor blamed: the jury decides.

use alloc::{collections::BTreeMap, vec::Vec};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	evidence::{Evidence, Fingerprint, Verdict},
	model::{Bounds, VerificationPolicy},
};

/// What a member's fingerprint is worth.
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
pub enum Judgement {
	/// Within the accept bounds of every middle value: paid.
	Accept,
	/// Neither: not paid, not slashed.
	Grey,
	/// Beyond the fraud bounds of every middle value, or alone with its digest against a majority.
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
	/// The executor's fingerprint.
	pub executor: Judgement,
	/// The verifiers' fingerprints, in the order they were given.
	pub verifiers: Vec<Judgement>,
	/// The answer.
	pub answer: AnswerJudgement,
}

impl Comparison {
	/// Whether everybody is within accept and the answer is right.
	pub fn agrees(&self) -> bool {
		self.answer == AnswerJudgement::Right
			&& core::iter::once(&self.executor)
				.chain(&self.verifiers)
				.all(|j| *j == Judgement::Accept)
	}
}

/// Compares what a round's members revealed.
pub fn compare(
	policy: &VerificationPolicy,
	executor: &Evidence,
	verifiers: &[Evidence],
) -> Comparison {
	let fingerprints: Vec<_> = core::iter::once(executor)
		.chain(verifiers)
		.map(|e| &e.fingerprint)
		.collect();
	let mut judged = judge(policy, &fingerprints).into_iter();
	Comparison {
		executor: judged
			.next()
			.expect("one judgement a fingerprint, the executor's first; qed"),
		verifiers: judged.collect(),
		answer: judge_answer(policy, verifiers.iter().map(|e| &e.verdict)),
	}
}

/// Judges each fingerprint against the median of all.
pub fn judge(policy: &VerificationPolicy, fingerprints: &[&Fingerprint]) -> Vec<Judgement> {
	let values: Option<Vec<&[i32]>> = fingerprints
		.iter()
		.map(|f| match f {
			Fingerprint::Values(v) => Some(&v[..]),
			Fingerprint::Digest(_) => None,
		})
		.collect();
	match values {
		Some(values) => judge_values(policy, &values),
		None => judge_digests(fingerprints),
	}
}

/// Exact class. Who shares the digest of a strict majority is accepted. A digest that several others share is a machine
/// that computes other bits: grey. A digest that nobody shares, against a majority of at least two, is fraud.
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

/// Tolerant class. Fingerprints of another length than most are not comparable: they are fraud against a majority and
/// grey without one.
fn judge_values(policy: &VerificationPolicy, fingerprints: &[&[i32]]) -> Vec<Judgement> {
	let mut lengths = BTreeMap::<usize, usize>::new();
	for f in fingerprints {
		*lengths.entry(f.len()).or_default() += 1;
	}
	let majority = lengths
		.iter()
		.find(|(_, n)| **n * 2 > fingerprints.len())
		.map(|(length, _)| *length);
	let Some(length) = majority else {
		return fingerprints.iter().map(|_| Judgement::Grey).collect();
	};
	let comparable: Vec<_> = fingerprints.iter().filter(|f| f.len() == length).collect();
	let middles: Vec<(i32, i32)> = (0..length)
		.map(|i| middle(comparable.iter().map(|f| f[i]).collect()))
		.map(|m| m.expect("a majority holds at least one fingerprint; qed"))
		.collect();
	fingerprints
		.iter()
		.map(|f| {
			if f.len() != length {
				return Judgement::Fraud;
			}
			let (mut near, mut far) = (Distance::default(), Distance::default());
			for (value, (low, high)) in f.iter().zip(&middles) {
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
	let within = |max: u32, mean: u32, b: &Bounds| max <= b.margin_max && mean <= b.margin_mean;
	if within(max.1, mean.1, &policy.accept) {
		AnswerJudgement::Right
	} else if !within(max.0, mean.0, &policy.fraud) {
		AnswerJudgement::Wrong
	} else {
		AnswerJudgement::Undecided
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
		}
	}

	fn digest(n: u8) -> Fingerprint {
		Fingerprint::Digest([n; 16])
	}

	fn values(v: &[i32]) -> Fingerprint {
		Fingerprint::Values(v.to_vec().try_into().unwrap())
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
