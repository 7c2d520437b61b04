//! Cards for models that make vectors of texts.

use consilience_primitives::{
	model::{Limits, NumericClass, Task},
	request::MAX_TEXT,
	tensor::{DataType, NamedSpec},
};
use serde_json::{json, Map, Value};

use super::{Drafting, OfTask};
use crate::{card::CardReference, hub};

/// What the library that made the model says of it.
pub(super) const MODULES: &str = "modules.json";
pub(super) const POOLING: &str = "1_Pooling/config.json";
pub(super) const LONGEST: &str = "sentence_bert_config.json";

/// Names that exporters give to a vector of a text, the likeliest first.
const OF_TEXT: [&str; 8] = [
	"sentence_embedding",
	"sentence_embeddings",
	"text_embeds",
	"text_embedding",
	"dense_vecs",
	"dense_vec",
	"embeddings",
	"embedding",
];
/// And to vectors of its tokens.
const OF_TOKENS: [&str; 5] = [
	"last_hidden_state",
	"token_embeddings",
	"hidden_states",
	"embeddings",
	"encoder_output",
];
/// Inputs whose meaning is known.
const FED: [&str; 4] = [
	"input_ids",
	"attention_mask",
	"token_type_ids",
	"position_ids",
];
/// Families that keep two positions for themselves.
const ROBERTA: [&str; 5] = [
	"roberta",
	"xlm-roberta",
	"camembert",
	"mpnet",
	"xlm-roberta-xl",
];

/// The output with vectors, and whether they are of texts.
pub(super) fn vectors(outputs: &[NamedSpec]) -> Option<(&NamedSpec, bool)> {
	let floats =
		|o: &NamedSpec| matches!(o.datatype, DataType::Fp32 | DataType::Fp16 | DataType::Bf16);
	let of = |names: &[&str], rank: usize| {
		let named = |name: &&str| {
			outputs
				.iter()
				.find(|o| o.name == **name && o.shape.len() == rank && floats(o))
		};
		names.iter().find_map(named)
	};
	let text = of(&OF_TEXT, 2).map(|o| (o, true));
	text.or_else(|| of(&OF_TOKENS, 3).map(|o| (o, false)))
}

/// What comes after a model's layers.
#[derive(Debug, Default, PartialEq)]
struct After {
	pooling: Option<&'static str>,
	normalize: bool,
	/// A layer that is applied nowhere.
	layer: Option<String>,
}

/// The engine's name of a pooling.
fn known(name: &str) -> Option<&'static str> {
	Some(match name {
		"mean" | "mean_tokens" => "mean",
		"cls" | "cls_token" => "cls",
		"lasttoken" | "last_token" | "last" => "last",
		_ => return None,
	})
}

/// The pooling of a `Pooling` module, in its old keys (a flag for each kind) and its new one.
fn pooling(file: &str, config: &Map<String, Value>) -> Result<Option<&'static str>, String> {
	let mut wanted: Vec<String> = Vec::new();
	match config.get("pooling_mode") {
		Some(Value::String(mode)) => wanted.push(mode.clone()),
		Some(Value::Array(modes)) => {
			wanted.extend(modes.iter().filter_map(|m| m.as_str().map(Into::into)))
		}
		_ => {
			for (key, value) in config {
				if let (Some(mode), Some(true)) =
					(key.strip_prefix("pooling_mode_"), value.as_bool())
				{
					wanted.push(mode.into());
				}
			}
		}
	}
	match &wanted[..] {
		[] if config.is_empty() => Ok(None),
		[] => Err(format!("{file} names no pooling")),
		[one] => known(one).map(Some).ok_or_else(|| {
			format!(
				"{file} asks for the pooling {one:?}, and only the mean, the first (cls) and the last token's vector are made here: \
				 export the model with its pooling, so that the graph gives sentence_embedding"
			)
		}),
		several => Err(format!(
			"{file} asks for several poolings side by side ({}), which are not made here: export the model with its pooling, so \
			 that the graph gives sentence_embedding",
			several.join(", ")
		)),
	}
}

impl Drafting<'_> {
	/// What `modules.json` puts after the model, or what stands in the usual place.
	fn after(&self) -> Result<After, String> {
		let mut after = After::default();
		let modules = hub::value(self.folder, MODULES)?.unwrap_or_else(|| json!([]));
		let modules = modules
			.as_array()
			.ok_or("modules.json: holds no list of modules")?;
		for module in modules {
			let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
			let kind = text("type").rsplit('.').next().unwrap_or_default();
			match kind {
				"Transformer" | "Dropout" => (),
				"Pooling" => {
					let path = match text("path") {
						"" => POOLING.into(),
						path => format!("{path}/config.json"),
					};
					after.pooling = pooling(&path, &hub::read(self.folder, &path)?)?;
				}
				"Normalize" => after.normalize = true,
				other => after.layer = Some(other.into()),
			}
		}
		if after.pooling.is_none() {
			after.pooling = pooling(POOLING, &hub::read(self.folder, POOLING)?)?;
		}
		Ok(after)
	}

	/// Tokens that the graph takes, where it takes one number of them alone; refuses what cannot be fed.
	fn feedable(&self, config: &Map<String, Value>) -> Result<Option<u32>, String> {
		let mut length = None;
		for input in &self.inspected.signature.inputs {
			let name = input.name.as_str();
			if !FED.contains(&name) {
				return Err(format!(
					"the graph needs an input {name:?}, and what it means is not known here: export the model without it, or with \
					 its value in the graph. What is fed: {}",
					FED.join(", ")
				));
			}
			let family = config
				.get("model_type")
				.and_then(Value::as_str)
				.unwrap_or_default();
			if name == "position_ids" && ROBERTA.contains(&family) {
				return Err(format!(
					"the graph needs position_ids, which {family} counts in a way of its own: export the model without them"
				));
			}
			let floats = matches!(input.datatype, DataType::Fp32 | DataType::Fp16);
			let integers = matches!(input.datatype, DataType::Int64 | DataType::Int32);
			if !(integers || floats && name == "attention_mask") {
				return Err(format!(
					"the graph takes {name} as {}, and it is fed as INT64 or INT32",
					input.datatype.name()
				));
			}
			match input.shape[..] {
				[None | Some(1), None] => (),
				[None | Some(1), Some(n)] => length = Some(length.unwrap_or(n).min(n)),
				[Some(n), _] => {
					return Err(format!(
						"the graph takes {n} texts at a time ({name}), and one is fed: export it with a free batch, or with one of 1"
					))
				}
				_ => {
					return Err(format!(
						"the graph takes {name} with {} dimensions, and texts have two: batch and tokens",
						input.shape.len()
					))
				}
			}
		}
		if let (Some(n), false) = (length, self.takes("attention_mask")) {
			return Err(format!(
				"the graph takes {n} tokens alone, and no attention_mask that would say which of them are a text's: export it with \
				 a mask or with free sizes"
			));
		}
		Ok(length)
	}

	pub(super) fn embedding(&self, output: &NamedSpec, of_text: bool) -> Result<OfTask, String> {
		let config = hub::configuration(self.folder)?;
		let fixed = self.feedable(&config)?;
		let name = output.name.as_str();
		let mut notes = Vec::new();
		let after = self.after()?;
		let has_modules = self.folder.join(MODULES).is_file();
		let pooling = match after.pooling {
			// The graph has done it, and whatever comes after.
			_ if of_text => "none",
			_ if after.layer.is_some() => {
				return Err(format!(
					"{MODULES} puts a layer {} after the pooling, and the graph, which gives {name}, has it not: export the whole \
					 model (optimum-cli, task sentence-similarity), so that the graph gives sentence_embedding",
					after.layer.unwrap_or_default()
				))
			}
			Some(pooling) => pooling,
			None => {
				notes.push(format!(
					"pooling: the mean of the tokens' vectors is a guess, as neither {MODULES} nor {POOLING} is there. Some models \
					 take the first token's (cls: BGE, Snowflake Arctic, mxbai) or the last's (last: Qwen3, E5-Mistral): see the \
					 model's page, and put it right in the card"
				));
				"mean"
			}
		};
		let normalize = if has_modules {
			after.normalize
		} else {
			if !of_text {
				notes.push(format!(
					"normalize: that vectors are scaled to length one is a guess, as {MODULES} is not there"
				));
			}
			!of_text
		};
		let number = |value: Option<&Value>| {
			value
				.and_then(Value::as_u64)
				.and_then(|n| u32::try_from(n).ok())
		};
		let longest = hub::read(self.folder, LONGEST)?;
		let tokenizer = hub::read(self.folder, "tokenizer_config.json")?;
		let kept = match config.get("model_type").and_then(Value::as_str) {
			Some(family) if ROBERTA.contains(&family) => 2,
			_ => 0,
		};
		let positions = number(config.get("max_position_embeddings"));
		let max_tokens = [
			fixed,
			number(longest.get("max_seq_length")),
			number(tokenizer.get("model_max_length")),
			positions.map(|n| n.saturating_sub(kept)),
		];
		let max_tokens = max_tokens.into_iter().flatten().min().unwrap_or(512).max(1);
		let dimensions = output.shape.last().copied().flatten();
		let dimensions = dimensions
			.or_else(|| number(config.get("hidden_size")))
			.ok_or_else(|| {
				format!("neither the graph nor config.json says how long {name} is (hidden_size)")
			})?;
		let details = json!({
			"tokenizer": "tokenizer.json",
			"pooling": pooling,
			"normalize": normalize,
			"max_tokens": max_tokens,
			"dimensions": dimensions,
			"output": name,
		});
		Ok(OfTask {
			task: Task::Embedding,
			class: Some(NumericClass::Tolerant),
			details: details.as_object().cloned().unwrap_or_default(),
			limits: Limits {
				max_input_units: max_tokens.saturating_mul(16).clamp(1, MAX_TEXT),
				max_output_units: dimensions,
			},
			units_per_block: dimensions,
			reference: CardReference::Text {
				text: "Consilience is the agreement of independent measurements.".into(),
				max_tokens: 0,
			},
			notes,
		})
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn said(config: Value) -> Result<Option<&'static str>, String> {
		pooling("p", config.as_object().unwrap())
	}

	#[test]
	fn poolings_in_all_their_spellings() {
		let flags = |on: &str| {
			let mut config =
				json!({"word_embedding_dimension": 4, "pooling_mode_cls_token": false});
			for kind in [
				"cls_token",
				"mean_tokens",
				"max_tokens",
				"mean_sqrt_len_tokens",
				"weightedmean_tokens",
				"lasttoken",
			] {
				config[format!("pooling_mode_{kind}")] = json!(on.split(' ').any(|o| o == kind));
			}
			config
		};
		assert_eq!(said(flags("cls_token")), Ok(Some("cls")));
		assert_eq!(said(flags("mean_tokens")), Ok(Some("mean")));
		assert_eq!(said(flags("lasttoken")), Ok(Some("last")));
		assert_eq!(said(json!({"pooling_mode": "lasttoken"})), Ok(Some("last")));
		assert_eq!(
			said(json!({"pooling_mode": "cls", "include_prompt": true})),
			Ok(Some("cls"))
		);
		assert_eq!(said(json!({"pooling_mode": ["mean"]})), Ok(Some("mean")));
		assert_eq!(said(json!({})), Ok(None));
		for (config, says) in [
			(flags("max_tokens"), "\"max_tokens\""),
			(flags("weightedmean_tokens"), "weightedmean"),
			(flags("cls_token mean_tokens"), "several"),
			(json!({"pooling_mode": ["mean", "max"]}), "several"),
			(json!({"pooling_mode": "max"}), "\"max\""),
			(flags(""), "names no pooling"),
		] {
			let error = said(config).unwrap_err();
			assert!(error.contains(says), "{error}");
		}
	}
}
