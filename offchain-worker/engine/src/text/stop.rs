//! When an answer ends. One function decides for who writes an answer and for who checks one.

use consilience_primitives::request::{FinishReason, Sampling};

use super::LanguageModel;
use crate::EngineError;

impl LanguageModel {
	/// Why an answer of these tokens ends with the last of them; `None` if it goes on.
	pub(crate) fn finish(
		&self,
		tokens: &[u32],
		sampling: &Sampling,
	) -> Result<Option<FinishReason>, EngineError> {
		let Some(last) = tokens.last() else {
			return Ok(None);
		};
		if self.eos.contains(last) {
			return Ok(Some(FinishReason::EndOfText));
		}
		if !sampling.stop.is_empty() {
			let text = self.text(tokens)?;
			let found =
				|s: &[u8]| std::str::from_utf8(s).is_ok_and(|s| !s.is_empty() && text.contains(s));
			if sampling.stop.iter().any(|s| found(s)) {
				return Ok(Some(FinishReason::StopString));
			}
		}
		Ok((tokens.len() >= sampling.max_tokens as usize).then_some(FinishReason::Length))
	}

	/// Whether an answer ends where, and for the reason that, this says.
	pub(crate) fn ends_well(
		&self,
		tokens: &[u32],
		claimed: FinishReason,
		sampling: &Sampling,
	) -> Result<bool, EngineError> {
		if tokens.len() > sampling.max_tokens as usize {
			return Ok(false);
		}
		for n in 1..tokens.len() {
			// Only with stop strings does a look at every prefix cost anything.
			if self.finish(&tokens[..n], sampling)?.is_some() {
				return Ok(false);
			}
		}
		Ok(self.finish(tokens, sampling)? == Some(claimed))
	}
}
