//! What the chain would decide: committees of an executor and two verifiers, and the jury after them, by the protocol's own
//! comparison.

use consilience_primitives::{
	comparison::{compare, judge_dispute, AnswerJudgement, Disputed, Judgement},
	evidence::Evidence,
	model::{Task, VerificationPolicy},
};

/// What one member measured of one answer, under each challenge.
pub(crate) type Measured = [Evidence];

/// What became of an honest answer in all committees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Honest {
	/// Comparisons made.
	pub(crate) committees: u64,
	/// Committees that sent it to a jury.
	pub(crate) disputed: u64,
	/// Juries, one after each committee, that found a fraud in somebody, or the answer wrong.
	pub(crate) blamed: u64,
}

/// What became of a dishonest answer under its first challenge. In doubt, what is worse for the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dishonest {
	/// Every committee refused it.
	pub(crate) caught: bool,
	/// Every jury found its executor a fraud.
	pub(crate) punished: bool,
}

/// Judges an answer that all members of all committees measured honestly.
pub(crate) fn honest(policy: &VerificationPolicy, task: Task, members: &[&Measured]) -> Honest {
	let mut found = Honest::default();
	let challenges = members.first().map_or(0, |m| m.len());
	for c in 0..challenges {
		for executor in members {
			for (i, first) in members.iter().enumerate() {
				for second in &members[i..] {
					let case = Case {
						policy,
						task,
						executor,
						verifiers: [first, second],
						jury: members,
						challenge: c,
					};
					let (agrees, executor, anybody) = case.decide();
					found.committees += 1;
					found.disputed += u64::from(!agrees);
					found.blamed += u64::from(executor || anybody);
				}
			}
		}
	}
	found
}

/// Judges an answer whose executor is dishonest, and all others are not. One challenge is looked at, as on chain: several of one
/// answer would be no independent trials.
pub(crate) fn dishonest(
	policy: &VerificationPolicy,
	task: Task,
	executor: &Measured,
	honest: &[&Measured],
) -> Dishonest {
	let mut found = Dishonest {
		caught: true,
		punished: true,
	};
	for (i, first) in honest.iter().enumerate() {
		for second in &honest[i..] {
			let case = Case {
				policy,
				task,
				executor,
				verifiers: [first, second],
				jury: honest,
				challenge: 0,
			};
			let (agrees, punished, _) = case.decide();
			found.caught &= !agrees;
			found.punished &= !agrees && punished;
		}
	}
	found
}

/// A committee and its jury.
struct Case<'a> {
	policy: &'a VerificationPolicy,
	task: Task,
	executor: &'a Measured,
	verifiers: [&'a Measured; 2],
	jury: &'a [&'a Measured],
	challenge: usize,
}

impl Case<'_> {
	/// Whether the committee accepts; whether the jury finds the executor a fraud; whether it finds another member one.
	fn decide(&self) -> (bool, bool, bool) {
		let c = self.challenge;
		let verifiers = self.verifiers.map(|v| v[c].clone());
		let comparison = compare(self.policy, Some(&self.executor[c]), &verifiers);
		// The jury measures under a challenge of its own.
		let next = (c + 1) % self.executor.len();
		let jurors: Vec<Evidence> = self
			.jury
			.iter()
			.cycle()
			.take(self.jury.len().max(3))
			.map(|juror| Evidence {
				prior: Some(juror[c].fingerprint.clone()),
				..juror[next].clone()
			})
			.collect();
		let output = self
			.task
			.commits_output()
			.then(|| &self.executor[next].fingerprint);
		let disputed = verifiers.each_ref().map(|evidence| Disputed {
			evidence,
			juror: None,
		});
		let finding = judge_dispute(
			self.policy,
			&jurors.iter().collect::<Vec<_>>(),
			(Some(&self.executor[c]), None),
			(&disputed, &[]),
			output,
			// The chain asks for more jurors that agree before it blames anybody.
			1,
		);
		let executor = finding.executor == Judgement::Fraud;
		let others = finding
			.verifiers
			.iter()
			.chain(&finding.jurors)
			.any(|j| *j == Judgement::Fraud)
			|| finding.answer == AnswerJudgement::Wrong;
		(comparison.agrees(), executor, others)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use consilience_primitives::{
		evidence::{Fingerprint, Verdict},
		model::{Bounds, NumericClass},
	};

	fn policy() -> VerificationPolicy {
		let bounds = |n| Bounds {
			mean: n * 256,
			max: n,
			margin_max: n,
			margin_mean: n,
		};
		VerificationPolicy {
			class: NumericClass::Tolerant,
			positions: 1,
			entries: 1,
			fraction_bits: 0,
			accept: bounds(4),
			fraud: bounds(40),
			min_verifiers: 2,
			min_sampling: 1_000,
		}
	}

	fn measured(values: [i32; 2], margin: u32) -> Vec<Evidence> {
		values
			.map(|v| Evidence {
				fingerprint: Fingerprint::Values {
					tag: 0,
					values: vec![v].try_into().unwrap(),
				},
				verdict: Verdict {
					margin_max: margin,
					margin_mean: margin,
					deviations: 0,
				},
				prior: None,
			})
			.into()
	}

	const TEXT: Task = Task::TextGeneration;

	#[test]
	fn honest_members_within_the_bounds_are_accepted_and_beyond_them_disputed() {
		let (a, b) = (measured([0, 10], 0), measured([3, 12], 1));
		let found = honest(&policy(), TEXT, &[&a, &b]);
		// Two challenges, two executors, three pairs of verifiers.
		assert_eq!(
			found,
			Honest {
				committees: 12,
				disputed: 0,
				blamed: 0
			}
		);
		let grey = measured([9, 10], 0);
		let found = honest(&policy(), TEXT, &[&a, &grey]);
		assert!(found.disputed > 0 && found.blamed == 0, "{found:?}");
		let far = measured([99, 99], 0);
		let found = honest(&policy(), TEXT, &[&a, &b, &far]);
		assert!(found.blamed > 0, "{found:?}");
	}

	#[test]
	fn a_liar_is_caught_by_its_fingerprint_or_by_its_answer() {
		let (a, b) = (measured([0, 10], 0), measured([3, 12], 1));
		let judge = |executor: &[Evidence], members: &[&Measured]| {
			let found = dishonest(&policy(), TEXT, executor, members);
			(found.caught, found.punished)
		};
		assert_eq!(judge(&a, &[&a, &b]), (false, false));
		assert_eq!(judge(&measured([99, 99], 0), &[&a, &b]), (true, true));
		assert_eq!(judge(&measured([99, 10], 0), &[&a, &b]), (true, true));
		assert_eq!(judge(&measured([0, 99], 0), &[&a, &b]), (false, false));
		assert_eq!(judge(&measured([20, 30], 0), &[&a, &b]), (true, false));
		let (wrong, wrong_too) = (measured([0, 10], 99), measured([3, 12], 99));
		assert_eq!(judge(&wrong, &[&wrong, &wrong_too]), (true, true));
	}

	#[test]
	fn an_output_is_compared_itself() {
		let (a, b) = (measured([0, 10], 0), measured([3, 12], 0));
		let found = dishonest(&policy(), Task::Tensor, &measured([99, 99], 0), &[&a, &b]);
		assert!(found.caught && found.punished);
		assert_eq!(honest(&policy(), Task::Tensor, &[&a, &b]).disputed, 0);
	}
}
