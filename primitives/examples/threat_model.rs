//! The tables of `docs/threat-model.md`: how likely a false answer becomes Final, and an honest validator is slashed.
//!
//! ```text
//! cargo run -p consilience-primitives --example threat_model
//! ```
//!
//! What a committee or a jury decides is not modelled but asked of the functions that the runtime calls
//! (`consilience_primitives::comparison`), for every number of liars that can sit in it. The worst case is assumed: all dishonest
//! validators are one party, know each other, run the model, agree on what they say, and none of them is ever late. Only who is
//! drawn is chance. Drawing is without replacement among equals, as it is on chain for validators of equal free capacity.

#![allow(missing_docs)]

use consilience_primitives::{
	comparison::{compare, judge_dispute, AnswerJudgement, Disputed, Judgement},
	evidence::{Evidence, Fingerprint, Verdict},
	model::{Bounds, NumericClass, VerificationPolicy},
};

/// Constants of `runtime/src/configs/inference.rs`.
const MAX_JURORS: u64 = 32;
const MIN_JURY: usize = 3;
const SLASH: f64 = 0.10;
const EXECUTOR_SHARE: f64 = 0.60;

const POLICY: VerificationPolicy = VerificationPolicy {
	class: NumericClass::Exact,
	positions: 16,
	entries: 1,
	fraction_bits: 0,
	accept: ZERO,
	fraud: ZERO,
	min_verifiers: 2,
	min_sampling: 1_000,
};
const ZERO: Bounds = Bounds {
	mean: 0,
	max: 0,
	margin_max: 0,
	margin_mean: 0,
};

/// Evidence of somebody honest, or of the party; the answer is wrong, or right and slandered.
fn evidence(honest: bool, wrong: bool, juror: bool) -> Evidence {
	let side = u8::from(honest);
	Evidence {
		// The party shares digests of its own, so that it can be a majority; honest members share theirs.
		fingerprint: Fingerprint::Digest([side; 16]),
		verdict: Verdict {
			margin_max: if honest == wrong { 1 << 20 } else { 0 },
			margin_mean: 0,
			deviations: 0,
		},
		prior: juror.then_some(Fingerprint::Digest([side + 2; 16])),
	}
}

/// What a jury with so many members of each side finds of a round with an executor and a verifier of the party and one honest
/// verifier (or the other way round, where the answer is right): the answer, and whether somebody honest is blamed.
fn jury(honest: u64, dishonest: u64, wrong: bool) -> (AnswerJudgement, bool) {
	let jurors: Vec<_> = (0..honest + dishonest)
		.map(|i| evidence(i < honest, wrong, true))
		.collect();
	let of_round = |honest: bool| Evidence {
		fingerprint: Fingerprint::Digest([u8::from(honest) + 2; 16]),
		..evidence(honest, wrong, false)
	};
	// The parties' own seats in the jury: the first honest ones, the last dishonest ones, if there are any.
	let seat = |honest_side: bool, n: u64| {
		let (from, count) = if honest_side {
			(0, honest)
		} else {
			(honest, dishonest)
		};
		(n < count).then_some((from + n) as usize)
	};
	let executor = of_round(!wrong);
	let other = of_round(wrong);
	let verifiers = [
		Disputed {
			evidence: &executor,
			juror: seat(!wrong, 1),
		},
		Disputed {
			evidence: &other,
			juror: seat(wrong, 0),
		},
	];
	let list: Vec<_> = jurors.iter().collect();
	let found = judge_dispute(
		&POLICY,
		&list,
		(Some(&executor), seat(!wrong, 0)),
		(&verifiers, &[]),
		None,
		MIN_JURY,
	);
	let honest_party = if wrong {
		found.verifiers[1]
	} else {
		found.executor
	};
	let honest_jurors = &found.jurors[..honest as usize];
	let blamed = honest_party == Judgement::Fraud
		|| (!wrong && found.verifiers[0] == Judgement::Fraud)
		|| honest_jurors.contains(&Judgement::Fraud);
	(found.answer, blamed)
}

/// Whether a committee whose executor lies lets the answer through without a dispute, with so many honest verifiers.
fn committee_passes(honest: u64, dishonest: u64) -> bool {
	let verifiers: Vec<_> = (0..honest + dishonest)
		.map(|i| evidence(i < honest, true, false))
		.collect();
	compare(&POLICY, Some(&evidence(false, true, false)), &verifiers).agrees()
}

/// Probability that `k` of `draws` are of `marked` among `total`.
fn hypergeometric(total: u64, marked: u64, draws: u64, k: u64) -> f64 {
	if k > draws || k > marked || draws - k > total - marked {
		return 0.0;
	}
	let ln =
		|n: u64, k: u64| -> f64 { (0..k).map(|i| ((n - i) as f64 / (k - i) as f64).ln()).sum() };
	(ln(marked, k) + ln(total - marked, draws - k) - ln(total, draws)).exp()
}

struct Row {
	/// The committee alone lets a false answer through, given a dishonest executor.
	committee: f64,
	/// A jury finds a false answer right.
	jury: f64,
	/// A false answer becomes Final, given a dishonest executor.
	passes: f64,
	/// A request chosen at random ends with a false answer, if every dishonest validator always lies.
	request: f64,
	/// Somebody honest is slashed, given a dispute that the party brings about.
	honest_slashed: f64,
}

fn row(n: u64, f: u64, v: u64) -> Row {
	let committee: f64 = (0..=v)
		.filter(|d| committee_passes(v - d, *d))
		.map(|d| hypergeometric(n - 1, f.saturating_sub(1), v, d))
		.sum();
	let size = n.min(MAX_JURORS);
	let sum = |hit: &dyn Fn(u64) -> bool| -> f64 {
		(0..=size)
			.filter(|d| hit(*d))
			.map(|d| hypergeometric(n, f, size, d))
			.sum()
	};
	let wrong = sum(&|d| jury(size - d, d, true).0 == AnswerJudgement::Right);
	let honest_slashed =
		sum(&|d| jury(size - d, d, true).1).max(sum(&|d| jury(size - d, d, false).1));
	let passes = if f == 0 {
		0.0
	} else {
		committee + (1.0 - committee) * wrong
	};
	Row {
		committee,
		jury: wrong,
		passes,
		request: f as f64 / n as f64 * passes,
		honest_slashed,
	}
}

fn show(p: f64) -> String {
	match p {
		p if p < 1e-12 => "< 1e-12".into(),
		p if p < 0.001 => format!("{p:.1e}"),
		p => format!("{:.2} %", p * 100.0),
	}
}

fn main() {
	println!("| validators | dishonest | verifiers | committee passes a lie | jury passes it | a lie becomes Final | an answer is false | honest slashed |");
	println!("|---|---|---|---|---|---|---|---|");
	for n in [7u64, 20, 50, 100, 300, 1_000] {
		for percent in [10, 20, 33] {
			for v in [2u64, 4, 8] {
				let f = n * percent / 100;
				if v >= n || f == 0 {
					continue;
				}
				let r = row(n, f, v);
				println!(
					"| {n} | {f} ({percent} %) | {v} | {} | {} | {} | {} | {} |",
					show(r.committee),
					show(r.jury),
					show(r.passes),
					show(r.request),
					show(r.honest_slashed)
				);
			}
		}
	}
	println!();
	println!("Fee, as a part of the liar's stake, from which a lie pays on average:");
	println!();
	println!("| validators | dishonest | verifiers | break-even fee ÷ stake | with one redraw by an author of the party |");
	println!("|---|---|---|---|---|");
	for n in [50u64, 300, 1_000] {
		for percent in [10, 20, 33] {
			for v in [2u64, 4, 8] {
				let r = row(n, n * percent / 100, v);
				let fee = |p: f64| (1.0 - p) * SLASH / (p * EXECUTOR_SHARE);
				let twice = 1.0 - (1.0 - r.passes) * (1.0 - r.passes);
				println!(
					"| {n} | {percent} % | {v} | {:.2} | {:.2} |",
					fee(r.passes),
					fee(twice)
				);
			}
		}
	}
	println!();
	println!("Checked by chance with probability p, nobody appealing, 2 verifiers, 300 validators, 10 % dishonest:");
	println!();
	println!("| p | a lie becomes Final | break-even fee ÷ stake |");
	println!("|---|---|---|");
	let r = row(300, 30, 2);
	for p in [1.0, 0.5, 0.2, 0.1, 0.05, 0.01] {
		let passes = 1.0 - p + p * r.passes;
		let fee = (1.0 - passes) * SLASH / (passes * EXECUTOR_SHARE);
		println!("| {p} | {} | {fee:.4} |", show(passes));
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn chances_add_up_and_a_committee_passes_only_what_all_vouch_for() {
		let sum: f64 = (0..=8).map(|k| hypergeometric(100, 33, 8, k)).sum();
		assert!((sum - 1.0).abs() < 1e-9);
		assert!(committee_passes(0, 2));
		assert!(!committee_passes(1, 7));
		assert_eq!(jury(17, 15, true).0, AnswerJudgement::Wrong);
		assert!(!jury(17, 15, true).1);
		assert_ne!(jury(16, 16, true).0, AnswerJudgement::Right);
		assert_eq!(jury(15, 17, true).0, AnswerJudgement::Right);
	}
}
