//! What the hub's files say of a language model: `tokenizer_config.json`, `generation_config.json`, `config.json` and
//! `chat_template.jinja`, as they stand beside every exported model. They fill in what a card's details leave out, so that a
//! folder from the hub needs no more in its card than what the hub does not know.

use std::path::Path;

use serde_json::{Map, Value};

/// Adds to the details of a text-generation card what is missing and the files of the folder say. Files that are not there say
/// nothing; broken ones are an error that names them.
pub(crate) fn complete(folder: &Path, details: &mut Map<String, Value>) -> Result<(), String> {
	let tokenizer = read(folder, "tokenizer_config.json")?;
	let generation = read(folder, "generation_config.json")?;
	let config = read(folder, "config.json")?;
	let number = |key: &str| config.get(key).filter(|v| v.is_u64()).cloned();
	let mut fill = |key: &str, value: Option<Value>| {
		if let (false, Some(value)) = (details.contains_key(key), value) {
			details.insert(key.into(), value);
		}
	};
	fill(
		"tokenizer",
		folder
			.join("tokenizer.json")
			.is_file()
			.then(|| "tokenizer.json".into()),
	);
	let template = match std::fs::read_to_string(folder.join("chat_template.jinja")) {
		Ok(text) => Some(text.into()),
		Err(_) => tokenizer.get("chat_template").and_then(template),
	};
	fill("chat_template", template);
	for key in ["bos_token", "eos_token"] {
		fill(key, tokenizer.get(key).and_then(token));
	}
	// What ends a generation is more than what ends a training text: the generation's file comes first.
	let ends = [&generation, &config]
		.into_iter()
		.find_map(|file| file.get("eos_token_id"))
		.and_then(|ids| match ids {
			Value::Number(_) => Some(Value::Array(vec![ids.clone()])),
			Value::Array(_) => Some(ids.clone()),
			_ => None,
		});
	fill("eos_token_ids", ends);
	fill("context", number("max_position_embeddings"));
	fill("vocabulary", number("vocab_size"));
	fill("layers", number("num_hidden_layers"));
	let heads = number("num_attention_heads");
	fill("kv_heads", number("num_key_value_heads").or(heads.clone()));
	let divided = || {
		let (hidden, heads) = (number("hidden_size")?.as_u64()?, heads.as_ref()?.as_u64()?);
		hidden.checked_div(heads).map(Value::from)
	};
	fill("head_dim", number("head_dim").or_else(divided));
	// The layout of every export of the hub; canonical graphs say otherwise in their cards.
	fill("cache", Some("growing".into()));
	Ok(())
}

/// A JSON object, empty where the file is missing.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Map<String, Value>, String> {
	let path = folder.join(name);
	if !path.is_file() {
		return Ok(Map::new());
	}
	let bytes = std::fs::read(&path).map_err(|e| format!("{name}: {e}"))?;
	serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}"))
}

/// A token is text, or an object with its text as `content`.
fn token(value: &Value) -> Option<Value> {
	match value {
		Value::Object(token) => token.get("content").filter(|c| c.is_string()).cloned(),
		Value::String(_) => Some(value.clone()),
		_ => None,
	}
}

/// A chat template is text, or a list of named ones of which `default` is meant.
fn template(value: &Value) -> Option<Value> {
	match value {
		Value::Array(named) => named
			.iter()
			.find(|t| t.get("name").is_some_and(|n| n == "default"))
			.and_then(|t| t.get("template"))
			.cloned(),
		Value::String(_) => Some(value.clone()),
		_ => None,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn completed(files: &[(&str, Value)], details: Value) -> Result<Value, String> {
		let folder = tempfile::tempdir().unwrap();
		for (name, value) in files {
			std::fs::write(folder.path().join(name), value.to_string()).unwrap();
		}
		let mut details = details.as_object().unwrap().clone();
		complete(folder.path(), &mut details)?;
		Ok(Value::Object(details))
	}

	#[test]
	fn fills_in_what_a_card_leaves_out() {
		let files = [
			("tokenizer.json", json!({})),
			(
				"tokenizer_config.json",
				json!({
					"bos_token": {"content": "<s>", "special": true}, "eos_token": "</s>",
					"chat_template": [{"name": "tool", "template": "x"}, {"name": "default", "template": "y"}],
				}),
			),
			("generation_config.json", json!({"eos_token_id": [2, 7]})),
			(
				"config.json",
				json!({
					"eos_token_id": 2, "max_position_embeddings": 4096, "vocab_size": 32000,
					"num_hidden_layers": 22, "num_attention_heads": 32, "hidden_size": 2048,
				}),
			),
		];
		let details = completed(&files, json!({"context": 2048})).unwrap();
		assert_eq!(
			details,
			json!({
				"tokenizer": "tokenizer.json", "chat_template": "y", "bos_token": "<s>", "eos_token": "</s>",
				"eos_token_ids": [2, 7], "context": 2048, "vocabulary": 32000, "layers": 22, "kv_heads": 32,
				"head_dim": 64, "cache": "growing",
			})
		);
	}

	#[test]
	fn one_end_is_a_list_of_one_and_nothing_is_invented() {
		let files = [(
			"config.json",
			json!({"eos_token_id": 2, "head_dim": 80, "hidden_size": 10}),
		)];
		let details = completed(&files, json!({"cache": "slots"})).unwrap();
		assert_eq!(
			details,
			json!({"eos_token_ids": [2], "head_dim": 80, "cache": "slots"})
		);
	}

	#[test]
	fn a_broken_file_is_named() {
		let error = completed(&[("config.json", json!([1]))], json!({})).unwrap_err();
		assert!(error.contains("config.json"), "{error}");
	}
}
