//! A graph that no manifest describes yet, and a template that nobody has measured: what a card is drafted from.

use std::path::Path;

use consilience_primitives::{
	manifest::TaskDetails,
	request::{FullInput, Message, Prompt, Role, Sampling},
	tensor::{Tensor, MAX_DATA},
	List,
};
use ort::session::SessionInputValue;

use crate::{
	engine::language_model,
	session::{Graph, GraphInfo, Placement},
	tensor, EngineError,
};

/// A graph to try, run as it is written and on one thread.
pub struct Probe(Graph);

impl Probe {
	/// Loads the graph in a file.
	pub fn open(graph: &Path) -> Result<Self, EngineError> {
		Graph::load(graph, 1, "disable", Placement::default()).map(Self)
	}

	/// What the graph takes and gives.
	pub fn info(&self) -> Result<GraphInfo, EngineError> {
		self.0.info()
	}

	/// Names of the dimensions of each input, in the order of the inputs; empty where they have none.
	pub fn symbols(&self) -> Vec<Vec<String>> {
		self.0
			.input_names()
			.map(|name| self.0.symbols(name))
			.collect()
	}

	/// Runs the graph. Gives all that it gives.
	pub fn run(&self, inputs: &[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, EngineError> {
		let inputs = inputs
			.iter()
			.map(|t| {
				let name = String::from_utf8_lossy(&t.name).into_owned();
				Ok((name, SessionInputValue::from(tensor::to_ort(t)?)))
			})
			.collect::<Result<Vec<_>, EngineError>>()?;
		let names = self.info()?.outputs;
		self.0.run(inputs, |outputs| {
			let named = names.iter().map(|spec| {
				let value = outputs.get(&spec.name).ok_or_else(|| {
					EngineError::Mismatch(format!("the graph gave no {:?}", spec.name))
				})?;
				tensor::from_ort(&spec.name, value)
			});
			named.collect()
		})
	}
}

/// How many tokens a chat of the model in this folder may have beyond the units that are charged for it: what its template writes
/// around the messages. `None` for a model without a template.
pub fn chat_overhead(folder: &Path, task: &TaskDetails) -> Result<Option<u32>, EngineError> {
	let model = language_model(folder, task)?;
	if model.template.is_none() {
		return Ok(None);
	}
	// The shortest conversation, for which the least is charged.
	let messages = vec![Message {
		role: Role::User,
		content: List::truncate_from(b"a".to_vec()),
	}];
	let prompt = Prompt::Chat(List::truncate_from(messages));
	let tokens = model.prompt(&prompt)?.len();
	let input = FullInput::TextGeneration {
		prompt,
		sampling: Sampling::default(),
	};
	let beyond = tokens.saturating_sub(input.units() as usize);
	Ok(Some(u32::try_from(beyond).unwrap_or(u32::MAX)))
}
