//! Text generation, and the measurement of a claimed answer.

pub(crate) mod batch;
pub(crate) mod cache;
#[cfg(test)]
mod exactness;
pub(crate) mod generate;
pub(crate) mod measure;
pub(crate) mod prefix;
pub mod sampling;
pub(crate) mod scheduler;
#[cfg(test)]
mod schedules;
pub(crate) mod stop;
pub(crate) mod template;

use consilience_primitives::request::{Input, Prompt, Sampling, Unanswerable};
use tokenizers::Tokenizer;

use crate::EngineError;
use cache::Layout;
use template::Template;

/// A causal language model.
pub(crate) struct LanguageModel {
	pub(crate) tokenizer: Tokenizer,
	pub(crate) template: Option<Template>,
	pub(crate) eos: Vec<u32>,
	pub(crate) context: usize,
	pub(crate) layout: Layout,
}

impl LanguageModel {
	/// Tokens of a prompt.
	pub(crate) fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
		let utf8 = |bytes: &[u8]| {
			String::from_utf8(bytes.to_vec())
				.map_err(|_| EngineError::Input("the prompt is not UTF-8".into()))
		};
		let (text, special) = match prompt {
			Prompt::Text(text) => (utf8(text)?, true),
			Prompt::Chat(messages) => {
				let template = self.template.as_ref().ok_or_else(|| {
					EngineError::Input(
						"the model has no chat template: send text instead of messages".into(),
					)
				})?;
				let messages = messages
					.iter()
					.map(|m| Ok((m.role.name(), utf8(&m.content)?)))
					.collect::<Result<Vec<_>, EngineError>>()?;
				// The template writes the special tokens itself.
				(template.render(&messages)?, false)
			}
		};
		// What the tokenizer says may quote the text.
		let refused = |why: &str| EngineError::Unanswerable(Unanswerable::GraphRefused, why.into());
		let encoding = self
			.tokenizer
			.encode(text, special)
			.map_err(|_| refused("the model's tokenizer refuses this prompt"))?;
		let ids = encoding.get_ids().to_vec();
		if ids.is_empty() {
			return Err(refused("the prompt has no tokens"));
		}
		Ok(ids)
	}

	/// What tokens say, special ones left out.
	pub(crate) fn text(&self, tokens: &[u32]) -> Result<String, EngineError> {
		self.tokenizer
			.decode(tokens, true)
			.map_err(|e| EngineError::Mismatch(format!("the tokenizer cannot decode: {e}")))
	}

	/// Prompt and sampling of an input, checked against the context.
	pub(crate) fn question<'i>(
		&self,
		input: &'i Input,
	) -> Result<(Vec<u32>, &'i Sampling), EngineError> {
		let Input::TextGeneration { prompt, sampling } = input else {
			return Err(EngineError::Input(
				"the model generates text and takes a prompt".into(),
			));
		};
		if sampling.max_tokens == 0 {
			return Err(EngineError::Input("max_tokens is zero".into()));
		}
		let ids = self.prompt(prompt)?;
		let wanted = ids.len() + sampling.max_tokens as usize;
		if wanted > self.context {
			return Err(EngineError::Unanswerable(
				Unanswerable::PromptTooLong,
				format!(
					"{} prompt tokens and max_tokens {} are more than the context of {}",
					ids.len(),
					sampling.max_tokens,
					self.context,
				),
			));
		}
		Ok((ids, sampling))
	}
}
