//! A policy from what honest machines were seen to differ by.

use consilience_primitives::model::{Bounds, NumericClass, Task, VerificationPolicy};
use serde::Serialize;

/// The largest honest differences that were seen, in the model's own numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
	/// Largest mean difference of two fingerprints.
	pub mean: f64,
	/// Largest difference of one value.
	pub max: f64,
	/// Largest margin of a token that an honest machine wrote, in logits.
	pub margin: f64,
}

impl Spread {
	/// The larger of each.
	pub fn join(self, other: Self) -> Self {
		Self {
			mean: self.mean.max(other.mean),
			max: self.max.max(other.max),
			margin: self.margin.max(other.margin),
		}
	}
}

/// How a policy is made from a spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slack {
	/// Accepted is what differs by so many times the largest honest difference seen.
	pub accept: f64,
	/// Fraud is what differs by so many times what is accepted.
	pub fraud: f64,
}

/// Smallest power of two that is no less than this.
fn power_of_two(value: f64) -> f64 {
	value.log2().ceil().exp2()
}

/// Thresholds for models of the standing policy's class: zero in the exact one. In the tolerant one they are powers of two, the
/// smallest that leave the slack; challenges and committees stay as they are.
///
/// A rounding that changes no logit by more than *d* changes no margin by more than 2 *d*, so margins are accepted up to twice
/// the accepted difference, whether the sample shows one or not. The mean margin is accepted up to half of that: over more than
/// one token a single flip is averaged out. `finest` is the most fraction bits with which the model's values fit 32 bits.
pub fn propose(
	seen: &Spread,
	slack: Slack,
	finest: u8,
	task: Task,
	standing: &VerificationPolicy,
) -> VerificationPolicy {
	if standing.class == NumericClass::Exact {
		return VerificationPolicy {
			accept: Bounds::default(),
			fraud: Bounds::default(),
			..*standing
		};
	}
	// What no difference was seen of is given the finest step that can be told.
	let step = (-f64::from(finest)).exp2();
	let mean = power_of_two((seen.mean * slack.accept).max(step * 4.0));
	let max = power_of_two((seen.max * slack.accept).max(mean * 4.0));
	// Rounding to steps of a quarter of the accepted mean adds no more than slack there is.
	let fraction_bits = (2.0 - mean.log2()).clamp(0.0, f64::from(finest)) as u8;
	let steps = |value: f64| value * f64::from(fraction_bits).exp2();
	let margin = if task == Task::TextGeneration {
		power_of_two((2.0 * max).max(seen.margin * slack.accept)) * 65_536.0
	} else {
		0.0
	};
	let bounds = |factor: f64| Bounds {
		mean: (steps(mean) * factor * 256.0).ceil() as u32,
		max: (steps(max) * factor).ceil() as u32,
		margin_max: (margin * factor).ceil() as u32,
		margin_mean: (margin * factor / 2.0).ceil() as u32,
	};
	VerificationPolicy {
		fraction_bits,
		accept: bounds(1.0),
		fraud: bounds(slack.fraud),
		..*standing
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	fn standing(class: NumericClass) -> VerificationPolicy {
		VerificationPolicy {
			class,
			positions: 16,
			entries: 2,
			fraction_bits: 8,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 2,
			min_sampling: 1_000,
		}
	}

	const SLACK: Slack = Slack {
		accept: 64.0,
		fraud: 16.0,
	};

	#[test]
	fn the_exact_class_has_no_thresholds() {
		let seen = Spread {
			mean: 1.0,
			max: 1.0,
			margin: 1.0,
		};
		let policy = propose(
			&seen,
			SLACK,
			20,
			Task::TextGeneration,
			&standing(NumericClass::Exact),
		);
		assert_eq!(policy, standing(NumericClass::Exact));
	}

	#[test]
	fn powers_of_two_with_slack() {
		let seen = Spread {
			mean: 1e-5,
			max: 5e-5,
			margin: 0.0,
		};
		let policy = propose(
			&seen,
			SLACK,
			20,
			Task::TextGeneration,
			&standing(NumericClass::Tolerant),
		);
		// 2⁻¹⁰ ≥ 64 × 10⁻⁵, four steps of 2⁻¹²; 2⁻⁸ ≥ 64 × 5 × 10⁻⁵, sixteen steps; margins 2⁻⁷ and 2⁻⁸ of a logit.
		assert_eq!(policy.fraction_bits, 12);
		let accept = Bounds {
			mean: 4 * 256,
			max: 16,
			margin_max: 512,
			margin_mean: 256,
		};
		assert_eq!(policy.accept, accept);
		assert_eq!(policy.fraud.max, 256);
		assert_eq!(policy.positions, 16);
	}

	/// A bound in the model's own numbers.
	fn of(policy: &VerificationPolicy, get: fn(&Bounds) -> u32) -> f64 {
		f64::from(get(&policy.accept)) / f64::from(policy.fraction_bits).exp2()
	}

	proptest! {
		#[test]
		fn more_difference_or_slack_never_makes_a_policy_stricter(
			mean in -9.0f64..0.0, ratio in 0.0f64..2.0, margin in -9.0f64..0.0,
			more in prop::array::uniform4(0.0f64..2.0), finest in 8u8..=24, slack in 1.0f64..100.0,
		) {
			let spread = |a: f64, b: f64, c: f64| Spread {
				mean: 10f64.powf(mean + a),
				max: 10f64.powf(mean + ratio + b),
				margin: 10f64.powf(margin + c),
			};
			let make = |seen: &Spread, accept: f64| propose(
				seen, Slack { accept, fraud: 16.0 }, finest, Task::TextGeneration, &standing(NumericClass::Tolerant),
			);
			let seen = spread(0.0, 0.0, 0.0);
			let strict = make(&seen, slack);
			for loose in [
				make(&spread(more[0], more[1], more[2]), slack),
				make(&seen, slack + more[3] * 10.0),
			] {
				prop_assert!(of(&loose, |b| b.max) >= of(&strict, |b| b.max));
				prop_assert!(of(&loose, |b| b.mean) >= of(&strict, |b| b.mean));
				prop_assert!(loose.accept.margin_max >= strict.accept.margin_max);
				prop_assert!(loose.fraud.margin_mean >= strict.fraud.margin_mean);
				prop_assert!(loose.fraction_bits <= strict.fraction_bits);
			}
			// What was seen is accepted, after rounding to steps too.
			let step = (-f64::from(strict.fraction_bits)).exp2();
			prop_assert!(of(&strict, |b| b.max) >= seen.max * slack.max(1.0));
			prop_assert!(of(&strict, |b| b.mean) / 256.0 >= seen.mean * slack);
			prop_assert!(of(&strict, |b| b.max) >= 4.0 * step);
			prop_assert!(f64::from(strict.accept.margin_max) / 65_536.0 >= seen.margin * slack);
			prop_assert!(strict.accept.mean <= strict.fraud.mean && strict.accept.max <= strict.fraud.max);
			prop_assert!(strict.fraction_bits <= finest);
		}
	}
}
