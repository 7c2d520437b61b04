//! Text generation, and the measurement of a claimed answer.

pub(crate) mod batch;
pub(crate) mod cache;
#[cfg(test)]
mod constrained;
mod constraint;
#[cfg(test)]
mod exactness;
pub(crate) mod generate;
mod jinja;
pub(crate) mod measure;
mod nucleus;
mod penalties;
pub(crate) mod prefix;
#[cfg(test)]
mod prompts;
#[cfg(test)]
mod replay;
pub mod sampling;
pub(crate) mod scheduler;
#[cfg(test)]
mod schedules;
pub(crate) mod sequence;
pub(crate) mod stop;
#[cfg(test)]
mod streams;
pub(crate) mod template;
pub(crate) mod tokens;
mod truncation;

use std::sync::{Arc, OnceLock};

use consilience_grammar::Vocabulary;
use consilience_primitives::request::{Constraint, FullInput, Prompt, Sampling, Unanswerable};

use crate::EngineError;
use cache::Layout;
use template::Template;
use tokens::Tokens;

/// A causal language model.
pub(crate) struct LanguageModel {
	pub(crate) tokens: Tokens,
	pub(crate) template: Option<Template>,
	pub(crate) eos: Vec<u32>,
	pub(crate) context: usize,
	pub(crate) layout: Layout,
	/// What its tokens spell, made for the first constrained answer.
	pub(crate) vocabulary: OnceLock<Result<Arc<Vocabulary>, consilience_grammar::Error>>,
}

/// A question, its prompt in tokens.
pub(crate) struct Asked<'i> {
	pub(crate) prompt: Vec<u32>,
	pub(crate) sampling: &'i Sampling,
	pub(crate) constraint: Option<&'i Constraint>,
}

impl Asked<'_> {
	/// Most tokens of prompt and answer.
	pub(crate) fn most(&self) -> usize {
		self.prompt.len() + self.sampling.max_tokens as usize
	}
}

impl LanguageModel {
	/// Tokens of a prompt.
	pub(crate) fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
		let utf8 = |bytes: &[u8]| {
			String::from_utf8(bytes.to_vec())
				.map_err(|_| EngineError::Input("the prompt is not UTF-8".into()))
		};
		let (prompted, frame) = match prompt {
			Prompt::Text(text) => (self.tokens.theirs(utf8(text)?), true),
			Prompt::Chat(messages) => {
				let template = self.template.as_ref().ok_or_else(|| {
					EngineError::Input(
						"the model has no chat template: send text instead of messages".into(),
					)
				})?;
				let messages = messages
					.iter()
					.map(|m| Ok((template.role(m.role), utf8(&m.content)?)))
					.collect::<Result<Vec<_>, EngineError>>()?;
				// The template writes the special tokens itself.
				(template.render(&messages, self.tokens.controls())?, false)
			}
		};
		let ids = self.tokens.encode(&prompted, frame)?;
		if ids.is_empty() {
			return Err(EngineError::Unanswerable(
				Unanswerable::GraphRefused,
				"the prompt has no tokens".into(),
			));
		}
		Ok(ids)
	}

	/// What an input asks, checked against the context.
	pub(crate) fn question<'i>(&self, input: &'i FullInput) -> Result<Asked<'i>, EngineError> {
		let question = input.as_text().ok_or_else(|| {
			EngineError::Input("the model generates text and takes a prompt".into())
		})?;
		let (prompt, sampling) = (question.prompt, question.sampling);
		if sampling.max_tokens == 0 {
			return Err(EngineError::Input("max_tokens is zero".into()));
		}
		sampling
			.check()
			.map_err(|why| EngineError::Input(why.into()))?;
		if let Some(constraint) = question.constraint {
			// Not a refusal that others would find, too: by other rules there are other masks.
			constraint
				.check()
				.map_err(|why| EngineError::Input(why.into()))?;
		}
		let ids = self.prompt(prompt)?;
		let wanted = ids.len() + sampling.max_tokens as usize;
		if wanted > self.context {
			let why = format!(
				"{} prompt tokens and max_tokens {} are more than the context of {}",
				ids.len(),
				sampling.max_tokens,
				self.context,
			);
			return Err(EngineError::Unanswerable(Unanswerable::PromptTooLong, why));
		}
		Ok(Asked {
			prompt: ids,
			sampling,
			constraint: question.constraint,
		})
	}
}
