//! Measuring a claimed answer: fingerprint and verdict from one prefill pass.

use codec::Compact;
use consilience_primitives::{
	challenge,
	evidence::{Evidence, Fingerprint, Verdict},
	fixed,
	model::{NumericClass, VerificationPolicy},
	request::{Input, Output},
	List,
};
use polkadot_sdk::sp_core::H256;

use super::{sampling::Sampler, LanguageModel};
use crate::{session::Graph, EngineError};

/// Margins are clipped here before their mean is taken, so that one wild position does not drown the others: 16 logits.
const CLIP: f64 = 16.0;
/// Steps of a margin in one logit.
const STEPS: f64 = 65_536.0;

/// A verdict on what no model could have said.
const IMPOSSIBLE: Verdict = Verdict {
	margin_max: u32::MAX,
	margin_mean: u32::MAX,
	deviations: u32::MAX,
};

impl LanguageModel {
	/// Evidence about a claimed answer under a challenge.
	///
	/// One pass over the prompt and the answer without its last token gives the logits at every position: those at the
	/// challenge's positions are the fingerprint, and those from the prompt's last token on say what the model would have
	/// answered.
	pub(crate) fn measure(
		&self,
		graph: &Graph,
		input: &Input,
		seed: &H256,
		claimed: &Output,
		seed_of_challenge: &H256,
		policy: &VerificationPolicy,
	) -> Result<Evidence, EngineError> {
		let (prompt, sampling) = self.question(input)?;
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
		let answer: Vec<u32> = tokens.iter().map(|Compact(t)| *t).collect();
		let vocabulary = self.layout.vocabulary as u32;
		let possible = !answer.is_empty()
			&& answer.iter().all(|t| *t < vocabulary)
			&& self.ends_well(&answer, *finish, sampling)?
			&& self.text(&answer)?.as_bytes() == &text[..];
		let mut fed = prompt.clone();
		if possible {
			fed.extend_from_slice(&answer[..answer.len() - 1]);
		}
		let drawn = challenge::positions(seed_of_challenge, policy.positions, fed.len() as u32);
		let mut drawn = drawn.into_iter().peekable();
		let (mut bits, mut values) = (Vec::new(), Vec::new());
		let mut sampler = Sampler::new(sampling, seed);
		let (mut margin_max, mut sum, mut deviations) = (0u32, 0f64, 0u32);
		let first = prompt.len() - 1;
		let mut cache = self.layout.empty(graph, fed.len())?;
		self.feed(graph, &mut cache, &fed, |position, logits| {
			if drawn.next_if_eq(&(position as u32)).is_some() {
				match policy.class {
					NumericClass::Exact => {
						bits.extend_from_slice(&(position as u32).to_le_bytes());
						bits.extend(logits.iter().flat_map(|l| l.to_bits().to_le_bytes()));
					}
					NumericClass::Tolerant => {
						let entries = challenge::entries(
							seed_of_challenge,
							position as u32,
							policy.entries.max(1),
							vocabulary,
						);
						values.extend(entries.into_iter().map(|e| {
							fixed::from_f32_bits(logits[e as usize].to_bits(), policy.fraction_bits)
						}));
					}
				}
			}
			if possible && position >= first {
				let i = position - first;
				let margin = sampler.margin(i as u32, logits, answer[i]).margin;
				// Saturates: an impossible token is infinitely far.
				let steps = (margin * STEPS).ceil() as u32;
				margin_max = margin_max.max(steps);
				sum += margin.min(CLIP);
				deviations += u32::from(steps > policy.accept.margin_max);
			}
			Ok(())
		})?;
		let verdict = if possible {
			let mean = (sum / answer.len() as f64 * STEPS).ceil() as u32;
			Verdict {
				margin_max,
				margin_mean: mean,
				deviations,
			}
		} else {
			IMPOSSIBLE
		};
		let fingerprint = match policy.class {
			NumericClass::Exact => Fingerprint::digest(&bits),
			NumericClass::Tolerant => Fingerprint::Values {
				shape: 0,
				values: List::truncate_from(values),
			},
		};
		Ok(Evidence {
			fingerprint,
			verdict,
			prior: None,
		})
	}
}
