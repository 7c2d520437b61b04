//! Measuring a claimed answer: fingerprint and verdict from one prefill pass.

use std::sync::Arc;

use codec::{Compact, Decode, Encode};
use consilience_grammar::Mask;
use consilience_primitives::{
	challenge,
	evidence::{Evidence, Fingerprint, Verdict},
	fixed,
	model::{NumericClass, VerificationPolicy},
	request::{FinishReason, FullInput, Output},
	List,
};
use polkadot_sdk::sp_core::H256;

use super::{
	sampling::{Sampler, STEPS},
	Asked, LanguageModel,
};
use crate::EngineError;

/// What is measured of a claimed answer, and under which challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
	/// The first so many tokens of the answer; `None` for all. The evidence is that of an answer that would have ended there
	/// because no more tokens were asked for. Other tasks than text generation have no parts.
	pub tokens: Option<u32>,
	/// Seed of the challenge.
	pub challenge: H256,
}

/// Margins are clipped here before their mean is taken, so that one wild position does not drown the others: 16 logits.
const CLIP: f64 = 16.0;

/// A verdict on what no model could have said.
const IMPOSSIBLE: Verdict = Verdict {
	margin_max: u32::MAX,
	margin_mean: u32::MAX,
	deviations: u32::MAX,
};

/// What is being collected for one part of an answer under one challenge.
struct Collector {
	/// Answer tokens that count.
	tokens: usize,
	/// Positions whose logits are asked for, rising.
	drawn: Vec<u32>,
	challenge: H256,
	bits: Vec<u8>,
	values: Vec<i32>,
	margin_max: u32,
	sum: f64,
	deviations: u32,
}

impl Collector {
	/// For a part whose evidence is drawn from the first `fed` positions.
	fn new(part: &Part, tokens: usize, fed: usize, policy: &VerificationPolicy) -> Self {
		Self {
			tokens,
			drawn: challenge::positions(&part.challenge, policy.positions, fed as u32),
			challenge: part.challenge,
			bits: Vec::new(),
			values: Vec::new(),
			margin_max: 0,
			sum: 0.0,
			deviations: 0,
		}
	}

	/// Whether the challenge asks for a position's logits.
	fn asks(&self, position: u32) -> bool {
		self.drawn.binary_search(&position).is_ok()
	}

	/// Takes a position's logits into the fingerprint, if the challenge asks for them.
	fn see(&mut self, position: u32, logits: &[f32], policy: &VerificationPolicy) {
		if !self.asks(position) {
			return;
		}
		match policy.class {
			NumericClass::Exact => {
				self.bits.extend_from_slice(&position.to_le_bytes());
				self.bits
					.extend(logits.iter().flat_map(|l| l.to_bits().to_le_bytes()));
			}
			NumericClass::Tolerant => {
				let entries = challenge::entries(
					&self.challenge,
					position,
					policy.entries.max(1),
					logits.len() as u32,
				);
				self.values.extend(entries.into_iter().map(|e| {
					fixed::from_f32_bits(logits[e as usize].to_bits(), policy.fraction_bits)
				}));
			}
		}
	}

	/// Takes the margin of an answer position into the verdict.
	fn weigh(&mut self, margin: f64, policy: &VerificationPolicy) {
		// Saturates: an impossible token is infinitely far.
		let steps = (margin * STEPS).ceil() as u32;
		self.margin_max = self.margin_max.max(steps);
		self.sum += margin.min(CLIP);
		self.deviations += u32::from(steps > policy.accept.margin_max);
	}

	fn evidence(self, possible: bool, class: NumericClass) -> Evidence {
		let verdict = if possible {
			Verdict {
				margin_max: self.margin_max,
				margin_mean: (self.sum / self.tokens as f64 * STEPS).ceil() as u32,
				deviations: self.deviations,
			}
		} else {
			IMPOSSIBLE
		};
		let fingerprint = match class {
			NumericClass::Exact => Fingerprint::digest(&self.bits),
			NumericClass::Tolerant => Fingerprint::Values {
				tag: 0,
				values: List::truncate_from(self.values),
			},
		};
		Evidence {
			fingerprint,
			verdict,
			prior: None,
		}
	}
}

/// An answer that is being measured.
///
/// One pass over the prompt and the answer without its last token gives the logits at every position: those at the challenge's
/// positions are the fingerprint, and those from the prompt's last token on say what the model would have answered.
pub(crate) struct Measurement {
	policy: VerificationPolicy,
	collectors: Vec<Collector>,
	sampler: Sampler,
	/// Empty if no model could have said it.
	answer: Vec<u32>,
	/// Under a constraint, the tokens that there could be at each position of the answer, up to the first token that is none of them: it
	/// and all after it are infinitely far from what the model says.
	masks: Option<Vec<Arc<Mask>>>,
	/// Position whose logits say the answer's first token.
	last_of_prompt: usize,
	/// The last position that is fed.
	last: usize,
}

impl LanguageModel {
	/// What is to be fed to measure parts of a claimed answer, each under its challenge; and the measurement. See [`Part`].
	pub(crate) fn measurement(
		&self,
		input: &FullInput,
		seed: &H256,
		claimed: &Output,
		parts: &[Part],
		policy: &VerificationPolicy,
	) -> Result<(Vec<u32>, Measurement), EngineError> {
		let Asked {
			prompt: mut fed,
			sampling,
			constraint,
		} = self.question(input)?;
		let prompt = fed.len();
		let Output::Text {
			tokens,
			text,
			finish,
		} = claimed
		else {
			return Err(EngineError::Input(
				"an answer of text generation is text".into(),
			));
		};
		let mut answer: Vec<u32> = tokens.iter().map(|Compact(t)| *t).collect();
		let vocabulary = self.layout.vocabulary as u32;
		let mut possible = !answer.is_empty() && answer.iter().all(|t| *t < vocabulary);
		let mut masks = None;
		if possible {
			// An answer may stop where its constraint leaves nothing more to say.
			let stopped = constraint.filter(|_| {
				*finish == FinishReason::Length && answer.len() < sampling.max_tokens as usize
			});
			let mut until = sampling.clone();
			if stopped.is_some() {
				until.max_tokens = answer.len() as u32;
			}
			possible = self.is_whole(&answer, text, *finish, &until)?
				&& match stopped {
					Some(constraint) => {
						masks = self.masks_to_the_end(constraint, &answer)?;
						masks.is_some()
					}
					None => true,
				};
		}
		if !possible {
			// Of what no model could have said there are no parts either: the prompt alone is fed.
			answer.clear();
		}
		let collectors: Vec<Collector> = parts
			.iter()
			.map(|part| {
				let tokens = part
					.tokens
					.map_or(answer.len(), |n| answer.len().min(n as usize))
					.max(1);
				Collector::new(part, tokens, prompt + tokens - 1, policy)
			})
			.collect();
		let sampler = Sampler::new(sampling, seed, &fed);
		let longest = collectors.iter().map(|c| c.tokens).max().unwrap_or(1);
		// All of them before the graph runs, on the thread of whoever asked.
		let claimed = &answer[..longest.min(answer.len())];
		if let (None, Some(constraint)) = (&masks, constraint) {
			masks = Some(self.masks(constraint, claimed)?);
		}
		fed.extend(answer.iter().take(longest - 1));
		let measurement = Measurement {
			policy: *policy,
			collectors,
			sampler,
			answer,
			masks,
			last_of_prompt: prompt - 1,
			last: fed.len() - 1,
		};
		Ok((fed, measurement))
	}
}

impl Measurement {
	/// Whether the logits at a position are looked at.
	pub(crate) fn needs(&self, position: usize) -> bool {
		position >= self.last_of_prompt || self.collectors.iter().any(|c| c.asks(position as u32))
	}

	/// Takes the logits at a position; they come in order, those that are not needed may be left out. The last give the
	/// evidence, in the order of the parts.
	pub(crate) fn see(&mut self, position: usize, logits: &[f32]) -> Option<Vec<Evidence>> {
		for collector in &mut self.collectors {
			collector.see(position as u32, logits, &self.policy);
		}
		let i = position.wrapping_sub(self.last_of_prompt);
		if let Some(token) = self.answer.get(i) {
			let bounds = [self.policy.accept, self.policy.fraud];
			let slacks = bounds.map(|b| f64::from(b.margin_max) / STEPS);
			let mask = self.masks.as_ref().map(|masks| masks.get(i));
			let margin = match mask {
				// The answer left its constraint before.
				Some(None) => f64::INFINITY,
				mask => {
					self.sampler.only(mask.flatten().cloned());
					self.sampler
						.margin(i as u32, logits, *token, &slacks)
						.margin
				}
			};
			self.sampler.said(*token);
			for collector in self.collectors.iter_mut().filter(|c| i < c.tokens) {
				collector.weigh(margin, &self.policy);
			}
		}
		(position == self.last).then(|| {
			let possible = !self.answer.is_empty();
			std::mem::take(&mut self.collectors)
				.into_iter()
				.map(|c| c.evidence(possible, self.policy.class))
				.collect()
		})
	}
}
