//! The card of a converted model.

use consilience_files::Growth;
use serde_json::{json, Map, Value};

use crate::{
	graph::{MODEL_FILE, OPSET},
	source::Config,
};

/// One CSL, the chain's token.
const CSL: u64 = 1_000_000_000_000;

/// Longest name on chain.
const MAX_NAME: usize = 64;

/// Most tokens of an answer.
const MAX_ANSWER: u32 = 512;

/// Tokens that a chat template may add to a prompt.
const TEMPLATE: u32 = 128;

/// Blocks for any answer of a model whose context is of 2,048 tokens; more tokens are given as much more.
const BLOCKS: usize = 20;

/// Weights that a validator reads for a token within the time that a small model's card gives it, with much room.
const WEIGHTS_OF_A_SMALL_MODEL: u64 = 1 << 30;

/// What a source says beyond weights and configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
	/// What people call the model.
	pub(crate) title: Option<String>,
	/// What the source calls itself.
	pub(crate) origin: Option<String>,
	/// The licence as the source spells it.
	pub(crate) license: Option<String>,
	/// Whether it has a chat template.
	pub(crate) chat: bool,
	/// Details of the card that no file of the model says.
	pub(crate) details: Map<String, Value>,
}

/// The SPDX expression of a licence that the hub has a short name for.
fn spdx(license: Option<&str>) -> String {
	let text = license.unwrap_or_default().trim();
	let known = spdx::identifiers::LICENSES.iter();
	let mut known = known.map(|license| license.name);
	if let Some(id) = known.find(|id| id.eq_ignore_ascii_case(text)) {
		return id.into();
	}
	let plain = |c: char| match c {
		c if c.is_ascii_alphanumeric() || c == '.' => c,
		_ => '-',
	};
	match &text.to_lowercase()[..] {
		"" | "other" | "unknown" => "NOASSERTION".into(),
		name => format!("LicenseRef-{}", name.chars().map(plain).collect::<String>()),
	}
}

/// A name for the chain, from what people call the model.
fn name(title: Option<&str>, element: &str) -> String {
	let plain = |c: char| match c.to_ascii_lowercase() {
		c if c.is_ascii_alphanumeric() || c == '.' => c,
		_ => '-',
	};
	let suffix = format!("-{element}");
	let title: String = title.unwrap_or("model").chars().map(plain).collect();
	let mut title = title.trim_matches('-').to_owned();
	title.truncate(MAX_NAME - suffix.len());
	title + &suffix
}

/// Makes a card. Policy, price and times are those of the demo's models; `files` are all but the card.
#[allow(clippy::too_many_arguments)]
pub(crate) fn make(
	config: &Config,
	facts: &Facts,
	source: &str,
	element: &str,
	wanted: Option<&str>,
	bytes: u64,
	growth: Growth,
	files: Vec<String>,
) -> Value {
	let zero = json!({ "mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0 });
	let context = config.context as u32;
	let answer = MAX_ANSWER.min(context / 4).max(1);
	let tokens = answer.min(16);
	let reference = if facts.chat {
		let messages = [["user", "What is the capital of France?"]];
		json!({ "chat": { "messages": messages, "max_tokens": tokens } })
	} else {
		json!({ "text": { "text": "The capital of France is", "max_tokens": tokens } })
	};
	let mut details = facts.details.clone();
	for (key, value) in [
		("tokenizer", json!("tokenizer.json")),
		("context", json!(config.context)),
		("vocabulary", json!(config.vocabulary)),
		("layers", json!(config.layers)),
		("kv_heads", json!(config.kv_heads)),
		("head_dim", json!(config.head_dim)),
		("cache", json!("slots")),
	] {
		details.insert(key.into(), value);
	}
	json!({
		"name": wanted.map_or_else(|| name(facts.title.as_deref(), element), Into::into),
		"license": spdx(facts.license.as_deref()),
		"source": source,
		"task": "text-generation",
		"class": "exact",
		"graph": MODEL_FILE,
		"files": files,
		"details": details,
		// The exact class is measured for these versions, with the optimiser on and off; off loads sooner.
		"numerics": {
			"element_type": element,
			"opset": OPSET,
			"onnxruntime_min": "1.20.1",
			"onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"],
			"optimization": "disable",
		},
		// Whatever the tokenizer makes of so many bytes, prompt and answer fit the context with room for the template.
		"limits": {
			"max_input_units": growth.bytes(context.saturating_sub(answer + TEMPLATE)).max(1),
			"max_output_units": answer,
		},
		"time": {
			"base_blocks": BLOCKS * config.context.div_ceil(2_048),
			"output_units_per_block": if bytes <= WEIGHTS_OF_A_SMALL_MODEL { 4 } else { 1 },
		},
		"policy": {
			"class": "exact",
			"positions": 16,
			"entries": 1,
			"fraction_bits": 0,
			"accept": zero,
			"fraud": zero,
			"min_verifiers": 2,
		},
		"price": {
			"per_request": CSL / 100,
			"per_input_unit": CSL / 100_000,
			"per_output_unit": CSL / 10_000,
		},
		"reference": reference,
	})
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn names_fit_the_chain() {
		assert_eq!(
			name(Some("SmolLM2 135M (Instruct)"), "int8"),
			"smollm2-135m--instruct-int8"
		);
		assert_eq!(name(None, "fp32"), "model-fp32");
		assert_eq!(name(Some(&"é".repeat(200)), "fp32"), "-fp32");
		assert_eq!(name(Some(&"x".repeat(200)), "fp32").len(), MAX_NAME);
	}

	#[test]
	fn licences_are_spdx() {
		for (said, expression) in [
			(Some("apache-2.0"), "Apache-2.0"),
			(Some(" MIT "), "MIT"),
			(Some("cc-by-4.0"), "CC-BY-4.0"),
			(Some("other"), "NOASSERTION"),
			(Some("llama3.2"), "LicenseRef-llama3.2"),
			(Some("a b/c"), "LicenseRef-a-b-c"),
			(None, "NOASSERTION"),
		] {
			assert_eq!(spdx(said), expression);
		}
	}
}
