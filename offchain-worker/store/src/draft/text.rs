//! Cards for models that write text.

use consilience_files::{growth, Growth};
use consilience_primitives::{
	manifest::TaskDetails,
	model::{Limits, NumericClass, Task},
	request::{Role, MAX_TEXT, MAX_TOKENS},
	tensor::{DataType, NamedSpec},
};
use serde_json::{Map, Value};

use super::{named, Drafting, OfTask, SMALL};
use crate::{card::CardReference, hub};

/// Tokens of the longest answer, and those that a chat template may add to a prompt, where nobody can count them.
const ANSWER: u32 = 512;
const TEMPLATE: u32 = 128;
/// Inputs beside the cache whose meaning is known.
const FED: [&str; 5] = [
	"input_ids",
	"attention_mask",
	"position_ids",
	"use_cache_branch",
	"num_logits_to_keep",
];
const PAST: &str = "past_key_values.";

impl Drafting<'_> {
	/// Refuses inputs that are not fed, and those that are of another type or size.
	fn written(&self) -> Result<(), String> {
		for input in &self.inspected.signature.inputs {
			let name = input.name.as_str();
			let past = name.starts_with(PAST);
			if past && (name.contains(".encoder.") || name.contains(".decoder.")) {
				return Err(format!(
					"the graph is half of an encoder and decoder ({name}), and models that read and write in two graphs cannot be \
					 served yet"
				));
			}
			if !past && !FED.contains(&name) {
				return Err(format!(
					"the graph needs an input {name:?}, and what it means is not known here: export the model without it, or with \
					 its value in the graph. What is fed: {}, {PAST}*",
					FED.join(", ")
				));
			}
			let integers = matches!(input.datatype, DataType::Int64 | DataType::Int32);
			if ["input_ids", "attention_mask", "position_ids"].contains(&name) {
				if !integers {
					return Err(format!(
						"the graph takes {name} as {}, and it is fed as INT64 or INT32",
						input.datatype.name()
					));
				}
				if let Some(n) = input.shape.iter().flatten().find(|n| **n != 1) {
					return Err(format!(
						"the graph takes {name} in pieces of {n} alone: export it with free sizes"
					));
				}
			}
			if past && matches!(input.shape[..], [_, _, Some(_), _]) {
				return Err(format!(
					"the graph has a cache of a fixed size ({name}), which neither grows nor is the canonical one: export it with \
					 free sizes"
				));
			}
		}
		Ok(())
	}

	/// What the graph says of its cache and logits, which is right where config.json says something else: that may be about a whole
	/// of which the graph is a part.
	fn of_graph(&self, read: &Map<String, Value>) -> Map<String, Value> {
		let signature = &self.inspected.signature;
		let layers = signature
			.inputs
			.iter()
			.filter(|i| i.name.starts_with(PAST) && i.name.ends_with(".key"))
			.count();
		let first = named(&signature.inputs, "past_key_values.0.key");
		let size = |spec: Option<&NamedSpec>, from_end: usize| {
			let shape = &spec?.shape;
			*shape.get(shape.len().checked_sub(from_end)?)?
		};
		let logits = named(&signature.outputs, "logits");
		let found = [
			("layers", u32::try_from(layers).ok()),
			("kv_heads", size(first, 3)),
			("head_dim", size(first, 1)),
			("vocabulary", size(logits, 1)),
		];
		let mut details = Map::new();
		for (key, value) in found {
			let value = value.map(Value::from);
			if let Some(value) = value.filter(|v| read.get(key) != Some(v)) {
				details.insert(key.into(), value);
			}
		}
		details
	}

	/// Tokens that a template adds beyond what is charged for its messages.
	fn overhead(&self, details: &Map<String, Value>) -> Result<u32, String> {
		let whole = Value::Object(Map::from_iter([(
			"text-generation".to_owned(),
			Value::Object(details.clone()),
		)]));
		let Ok(task) = serde_json::from_value::<TaskDetails>(whole) else {
			return Ok(TEMPLATE);
		};
		Ok(self
			.prober
			.overhead(self.folder, &task)?
			.unwrap_or(TEMPLATE))
	}

	pub(super) fn text(&self, bytes: u64) -> Result<OfTask, String> {
		self.written()?;
		let mut read = Map::new();
		hub::complete(self.folder, &mut read)?;
		let details = self.of_graph(&read);
		read.extend(details.clone());
		let context = read.get("context").and_then(Value::as_u64);
		let context = context
			.and_then(|c| u32::try_from(c).ok())
			.ok_or("config.json does not say how long a text may be (max_position_embeddings)")?;
		let bound = growth(&hub::read(self.folder, "tokenizer.json")?)?;
		let mut notes = Vec::new();
		let Growth { factor, .. } = bound;
		if factor > 1 {
			notes.push(format!(
				"limits: the tokenizer may make a text {factor} times as long before it cuts it (its normalizer), so that only \
				 1/{factor} of the context is let in"
			));
		}
		let answer = ANSWER.min(MAX_TOKENS).min(context / 4).max(1);
		let chat = read.get("chat_template").is_some_and(Value::is_string);
		let template = if chat { self.overhead(&read)? } else { 0 };
		let room = context.saturating_sub(answer).saturating_sub(template);
		let max_input_units = bound.bytes(room).min(MAX_TEXT);
		if max_input_units == 0 {
			return Err(format!(
				"a context of {context} tokens has no room for a question: the answer takes {answer} and the chat template {template}"
			));
		}
		Ok(OfTask {
			task: Task::TextGeneration,
			class: Some(NumericClass::Tolerant),
			// The rest is read from the hub's files whenever the card is.
			details,
			limits: Limits {
				max_input_units,
				max_output_units: answer,
			},
			units_per_block: if bytes <= SMALL { 4 } else { 1 },
			reference: if chat {
				CardReference::Chat {
					messages: vec![(Role::User, "What is the capital of France?".into())],
					max_tokens: 16.min(answer),
				}
			} else {
				CardReference::Text {
					text: "The capital of France is".into(),
					max_tokens: 16.min(answer),
				}
			},
			notes,
		})
	}
}
