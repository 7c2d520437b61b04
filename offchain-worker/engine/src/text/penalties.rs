//! Changes of single logits before a token is drawn: biases, and penalties for tokens that were said.
//!
//! They follow from the prompt and the tokens before a position alone, so that who checks an answer counts along as it walks over
//! the positions, and needs no other pass. As in vLLM (`vllm/v1/sample/sampler.py`), the bias is first, then the repetition penalty,
//! then the frequency and the presence penalty; the first counts the prompt's tokens too, as Hugging Face's does, and the other two,
//! as OpenAI means them, those of the answer. A logit is computed in double precision and rounded once; those that nothing is done to
//! keep their bits.

use std::collections::BTreeMap;

use consilience_primitives::sampling::LogitsProcessing;

/// A token with a bias, or with a penalty.
#[derive(Clone, Debug, Default)]
struct Entry {
	bias: f64,
	/// Whether it is in the prompt.
	asked: bool,
	/// How often the answer has it so far.
	said: u32,
}

/// Biases, and penalties for the tokens so far.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
	repetition: f64,
	presence: f64,
	frequency: f64,
	entries: BTreeMap<u32, Entry>,
}

/// A parameter that is given in thousandths.
pub(super) fn thousandths(value: impl Into<f64>) -> f64 {
	value.into() / 1_000.0
}

impl Penalties {
	/// At the beginning of an answer to this prompt.
	pub(super) fn new(processing: &LogitsProcessing, prompt: &[u32]) -> Self {
		let mut entries = BTreeMap::<u32, Entry>::new();
		for (token, bias) in &processing.logit_bias {
			entries.entry(*token).or_default().bias = thousandths(*bias);
		}
		let repetition = thousandths(processing.repetition_penalty);
		if repetition != 1.0 {
			for token in prompt {
				entries.entry(*token).or_default().asked = true;
			}
		}
		Self {
			repetition,
			presence: thousandths(processing.presence_penalty),
			frequency: thousandths(processing.frequency_penalty),
			entries,
		}
	}

	/// Returns whether every logit stays as it is, at all positions.
	pub(super) fn are_none(&self) -> bool {
		self.entries.values().all(|e| e.bias == 0.0) && !self.count()
	}

	/// Returns whether tokens that were said have a penalty.
	fn count(&self) -> bool {
		self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0
	}

	/// The answer goes on with this token.
	pub(super) fn said(&mut self, token: u32) {
		if self.count() {
			self.entries.entry(token).or_default().said += 1;
		}
	}

	/// Changes the logits of a position.
	pub(super) fn apply(&self, logits: &mut [f32]) {
		for (token, entry) in &self.entries {
			// A token outside the vocabulary has no logit.
			let Some(logit) = logits.get_mut(*token as usize) else {
				continue;
			};
			let mut l = f64::from(*logit) + entry.bias;
			if entry.asked || entry.said > 0 {
				l = if l > 0.0 {
					l / self.repetition
				} else {
					l * self.repetition
				};
			}
			if entry.said > 0 {
				l -= self.frequency * f64::from(entry.said);
				l -= self.presence;
			}
			// A huge logit stays a number.
			*logit = l.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
		}
	}

	/// By how much at most a difference in any raw logit shows.
	pub(super) fn most_reach(&self) -> f64 {
		self.repetition.max(1.0 / self.repetition)
	}

	/// By how much at most a difference in a token's raw logit shows.
	pub(super) fn reach(&self, token: u32) -> f64 {
		match self.entries.get(&token) {
			Some(entry) if entry.asked || entry.said > 0 => self.most_reach(),
			_ => 1.0,
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn processing() -> LogitsProcessing {
		LogitsProcessing::default()
	}

	fn applied(penalties: &Penalties, mut logits: Vec<f32>) -> Vec<f32> {
		penalties.apply(&mut logits);
		logits
	}

	#[test]
	fn biases_are_added_and_none_beyond_the_vocabulary() {
		let list = vec![(0, -100_000), (2, 1_500), (9, 100_000)];
		let p = Penalties::new(
			&LogitsProcessing {
				logit_bias: list.try_into().unwrap(),
				..processing()
			},
			&[1],
		);
		assert!(!p.are_none());
		assert_eq!(
			applied(&p, vec![1.0, 2.0, 3.0, 4.0]),
			[-99.0, 2.0, 4.5, 4.0]
		);
	}

	#[test]
	fn repetition_divides_what_is_positive_and_multiplies_the_rest() {
		let of = |repetition_penalty| {
			let mut p = Penalties::new(
				&LogitsProcessing {
					repetition_penalty,
					..processing()
				},
				&[0, 1, 1],
			);
			p.said(3);
			p
		};
		// Once, however often a token was said.
		assert_eq!(
			applied(&of(2_000), vec![3.0, -3.0, 3.0, 0.0]),
			[1.5, -6.0, 3.0, 0.0]
		);
		assert_eq!(
			applied(&of(500), vec![3.0, -3.0, 3.0, -1.0]),
			[6.0, -1.5, 3.0, -0.5]
		);
		let p = of(500);
		assert_eq!((p.reach(0), p.reach(2), p.reach(3)), (2.0, 1.0, 2.0));
		assert_eq!(of(2_000).most_reach(), 2.0);
		assert_eq!(
			applied(&of(100), vec![f32::MAX, f32::MIN, 0.0, 0.0])[..2],
			[f32::MAX, f32::MIN / 10.0]
		);
	}

	#[test]
	fn presence_and_frequency_count_the_answer_alone() {
		let mut p = Penalties::new(
			&LogitsProcessing {
				presence_penalty: 250,
				frequency_penalty: -500,
				..processing()
			},
			&[0],
		);
		for token in [1, 2, 2, 2] {
			p.said(token);
		}
		assert_eq!(
			applied(&p, vec![1.0, 1.0, 1.0, 1.0]),
			[1.0, 1.25, 2.25, 1.0]
		);
	}

	#[test]
	fn the_order_is_bias_repetition_frequency_presence() {
		let mut p = Penalties::new(
			&LogitsProcessing {
				repetition_penalty: 1_250,
				presence_penalty: 250,
				frequency_penalty: 500,
				logit_bias: vec![(0, 500), (1, 500)].try_into().unwrap(),
				..processing()
			},
			&[],
		);
		for token in [0, 0, 1] {
			p.said(token);
		}
		// (2 + 0.5) / 1.25 - 2 × 0.5 - 0.25, and (-2.5 + 0.5) × 1.25 - 0.5 - 0.25.
		assert_eq!(applied(&p, vec![2.0, -2.5]), [0.75, -3.25]);
	}

	#[test]
	fn nothing_is_nothing() {
		let mut p = Penalties::new(&processing(), &[1, 2]);
		p.said(1);
		assert!(p.are_none());
	}
}
