//! Writing an answer.

use std::sync::mpsc::Sender;

use codec::Compact;
use consilience_grammar::{Error::Refused, Guide};
use consilience_primitives::{
	request::{FinishReason, Output, Sampling, Unanswerable},
	List,
};
use polkadot_sdk::sp_core::H256;

use super::{
	constraint,
	sampling::{self, Sampler},
	stop::Transcript,
	Asked, LanguageModel,
};
use crate::EngineError;

/// An answer that is being written.
pub(crate) struct Writer {
	sampling: Sampling,
	sampler: Sampler,
	/// What the answer may go on with, where that is not anything.
	guide: Option<Box<Guide>>,
	/// Position whose logits say the first token.
	last_of_prompt: usize,
	tokens: Vec<u32>,
	transcript: Transcript,
	/// Who is told each token when it is written.
	told: Option<Sender<u32>>,
}

impl Writer {
	/// For a question whose prompt has a token at least. Where it has a constraint, that is read now, and not on the graph's thread.
	pub(crate) fn new(
		model: &LanguageModel,
		asked: &Asked<'_>,
		seed: &H256,
	) -> Result<Self, EngineError> {
		let Asked {
			prompt,
			sampling,
			constraint,
		} = asked;
		let guide = constraint.map(|constraint| model.guide(constraint).map(Box::new));
		Ok(Self {
			sampling: (*sampling).clone(),
			sampler: Sampler::new(sampling, seed, prompt),
			guide: guide.transpose()?,
			last_of_prompt: prompt.len() - 1,
			tokens: Vec::new(),
			transcript: Transcript::new(&model.tokens, sampling),
			told: None,
		})
	}

	/// The same, and each token is told when it is written. That never waits for who listens.
	pub(crate) fn telling(self, told: Sender<u32>) -> Self {
		Self {
			told: Some(told),
			..self
		}
	}

	/// The tokens that were written.
	pub(crate) fn tokens(&self) -> &[u32] {
		&self.tokens
	}

	/// Whether the logits at a position are looked at: those of the token that was written last, or of the prompt's last.
	pub(crate) fn needs(&self, position: usize) -> bool {
		position >= self.last_of_prompt + self.tokens.len()
	}

	/// Takes the logits at a position; they come in order, those that are not needed may be left out. Gives the tokens and why
	/// the answer ends with them, once it is complete.
	pub(crate) fn see(
		&mut self,
		model: &LanguageModel,
		position: usize,
		logits: &[f32],
	) -> Result<Option<(Vec<u32>, FinishReason)>, EngineError> {
		if !self.needs(position) {
			return Ok(None);
		}
		if !sampling::are_finite(logits) {
			let why = format!(
				"the logits after {} tokens of the answer are not all numbers",
				self.tokens.len()
			);
			return Err(EngineError::Unanswerable(Unanswerable::NotFinite, why));
		}
		if let Some(guide) = &mut self.guide {
			// It was begun when the token before was said, and is there when the graph is done with that.
			let mask = match guide.mask() {
				// Where machines may say other tokens they may come to other ends, so the answer tells to which.
				Err(Refused(_)) if !self.tokens.is_empty() => {
					let tokens = std::mem::take(&mut self.tokens);
					return Ok(Some((tokens, FinishReason::Length)));
				}
				mask => mask.map_err(constraint::refused)?,
			};
			self.sampler.only(Some(mask));
		}
		let next = self.sampler.choose(self.tokens.len() as u32, logits);
		self.sampler.said(next);
		if let Some(guide) = &mut self.guide {
			guide.said(next);
		}
		self.tokens.push(next);
		if let Some(told) = &self.told {
			// Who listened may have gone.
			let _ = told.send(next);
		}
		if self.transcript.looks() && !model.eos.contains(&next) {
			self.transcript.push(&model.tokens, next)?;
		}
		let (count, transcript) = (self.tokens.len(), &self.transcript);
		let finish = model.finish(next, count, transcript, &self.sampling);
		Ok(finish.map(|finish| (std::mem::take(&mut self.tokens), finish)))
	}
}

impl LanguageModel {
	/// The answer that is over with the last of these tokens, whether the model ends it there or not.
	pub(crate) fn cut(&self, tokens: &[u32], sampling: &Sampling) -> Result<Output, EngineError> {
		let last = tokens
			.last()
			.ok_or_else(|| EngineError::Input("an answer has a token at least".into()))?;
		let mut transcript = Transcript::new(&self.tokens, sampling);
		for token in tokens.iter().filter(|t| !self.eos.contains(t)) {
			transcript.push(&self.tokens, *token)?;
		}
		let finish = self.finish(*last, tokens.len(), &transcript, sampling);
		self.output(tokens, finish.unwrap_or(FinishReason::Length), sampling)
	}

	/// The answer that these tokens are.
	pub(crate) fn output(
		&self,
		tokens: &[u32],
		finish: FinishReason,
		sampling: &Sampling,
	) -> Result<Output, EngineError> {
		let too_long = || {
			EngineError::Unanswerable(
				Unanswerable::OutputTooLarge,
				"the answer is longer than the chain carries".into(),
			)
		};
		Ok(Output::Text {
			text: self
				.text(tokens, sampling)?
				.into_bytes()
				.try_into()
				.map_err(|_| too_long())?,
			tokens: List::try_from(tokens.iter().map(|t| Compact(*t)).collect::<Vec<_>>())
				.map_err(|_| too_long())?,
			finish,
		})
	}
}
