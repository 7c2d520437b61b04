//! Writing an answer.

use codec::Compact;
use consilience_primitives::{
	request::{FinishReason, Input, Output},
	List,
};
use polkadot_sdk::sp_core::H256;

use super::{sampling::Sampler, LanguageModel};
use crate::{session::Graph, EngineError};

impl LanguageModel {
	/// The answer of this model to this input with this seed.
	pub(crate) fn generate(
		&self,
		graph: &Graph,
		input: &Input,
		seed: &H256,
	) -> Result<Output, EngineError> {
		let (prompt, sampling) = self.question(input)?;
		let mut sampler = Sampler::new(sampling, seed);
		let mut cache = self.layout.empty(graph, prompt.len() + 1)?;
		let mut next = Vec::new();
		let last = prompt.len() - 1;
		self.feed(graph, &mut cache, &prompt, |position, logits| {
			if position == last {
				next = logits.to_vec();
			}
			Ok(())
		})?;
		let mut tokens = Vec::new();
		let finish = loop {
			tokens.push(sampler.choose(tokens.len() as u32, &next));
			if let Some(finish) = self.finish(&tokens, sampling)? {
				break finish;
			}
			next = self
				.layout
				.step(graph, &mut cache, &tokens[tokens.len() - 1..])?;
		};
		self.output(&tokens, finish)
	}

	fn output(&self, tokens: &[u32], finish: FinishReason) -> Result<Output, EngineError> {
		let too_long = || EngineError::Output("the answer is longer than the chain carries".into());
		Ok(Output::Text {
			text: self
				.text(tokens)?
				.into_bytes()
				.try_into()
				.map_err(|_| too_long())?,
			tokens: List::try_from(tokens.iter().map(|t| Compact(*t)).collect::<Vec<_>>())
				.map_err(|_| too_long())?,
			finish,
		})
	}
}
