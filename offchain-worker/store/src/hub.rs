//! What the hub's files say of a language model: `tokenizer_config.json`, `generation_config.json`, `config.json` and
//! `chat_template.jinja`, as they stand beside every exported model, or `genai_config.json` of ONNX Runtime's own exporter. They
//! fill in what a card's details leave out, so that a folder from the hub needs no more in its card than what the hub does not
//! know.

use std::{ops::RangeInclusive, path::Path};

use consilience_files::{check, may_follow, turn_ends, Wanted};
use consilience_primitives::sampling::{
	SamplingDefaults, MAX_TEMPERATURE, ONE, REPETITION_PENALTY,
};
use serde_json::{Map, Value};

/// What ONNX Runtime's exporter writes in the place of config.json.
pub(crate) const GENAI: &str = "genai_config.json";

/// Adds to the details of a text-generation card what is missing and the files of the folder say. Files that are not there, and
/// fields that are null, say nothing; broken ones are an error that names them.
pub(crate) fn complete(folder: &Path, details: &mut Map<String, Value>) -> Result<(), String> {
	let tokenizer = read(folder, "tokenizer_config.json")?;
	let generation = read(folder, "generation_config.json")?;
	let config = configuration(folder)?;
	let number = |keys: &[&str]| {
		let mut values = keys.iter().filter_map(|key| config.get(*key));
		values.find(|v| v.is_u64()).cloned()
	};
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
	let template = match text(folder, "chat_template.jinja")? {
		Some(text) => Some(text.into()),
		None => tokenizer.get("chat_template").and_then(template),
	};
	fill("chat_template", template);
	for key in ["bos_token", "eos_token"] {
		fill(key, tokenizer.get(key).and_then(token));
	}
	// Other families have older names for the same.
	let context = [
		"max_position_embeddings",
		"n_positions",
		"n_ctx",
		"max_seq_len",
		"seq_length",
	];
	fill("context", number(&context));
	fill("vocabulary", number(&["vocab_size"]));
	fill(
		"layers",
		number(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"]),
	);
	let heads = number(&["num_attention_heads", "n_head", "n_heads"]);
	fill(
		"kv_heads",
		number(&["num_key_value_heads"]).or(heads.clone()),
	);
	let divided = || {
		let hidden = number(&["hidden_size", "n_embd", "d_model"])?.as_u64()?;
		hidden
			.checked_div(heads.as_ref()?.as_u64()?)
			.map(Value::from)
	};
	fill("head_dim", number(&["head_dim"]).or_else(divided));
	fill("sampling", advice(&generation)?);
	// The layout of every export of the hub; canonical graphs say otherwise in their cards.
	fill("cache", Some("growing".into()));
	if !details.contains_key("eos_token_ids") {
		let ends = ends(folder, details, &[&generation, &config])?;
		details.insert("eos_token_ids".into(), ends.into());
	}
	Ok(())
}

/// How `generation_config.json` would have tokens chosen, in thousandths; nothing where it does not say. What it says in another unit
/// or range than a request could is an error.
fn advice(generation: &Map<String, Value>) -> Result<Option<Value>, String> {
	let said = |key: &str| generation.get(key).filter(|v| !v.is_null());
	let wrong = |key: &str, value: &Value, range: &str| {
		format!(
			"generation_config.json: {key} is {value}, and can be {range} here: write sampling into the card's details, {{}} for \
			 none"
		)
	};
	let thousandths = |key: &str, range: RangeInclusive<u16>| {
		let Some(value) = said(key) else {
			return Ok(None);
		};
		let number = value.as_f64().map(|x| (x * 1_000.0).round());
		let within = |x: &f64| (f64::from(*range.start())..=f64::from(*range.end())).contains(x);
		let (least, most) = [range.start(), range.end()]
			.map(|t| f64::from(*t) / 1_000.0)
			.into();
		match number.filter(within) {
			Some(x) => Ok(Some(x as u16)),
			None => Err(wrong(key, value, &format!("from {least} to {most}"))),
		}
	};
	let top_k = match said("top_k") {
		None => None,
		Some(value) => match value.as_u64().and_then(|k| u16::try_from(k).ok()) {
			Some(k) => Some(k),
			None => return Err(wrong("top_k", value, "from 0 (all) to 65535")),
		},
	};
	let mut advice = SamplingDefaults {
		temperature: thousandths("temperature", 0..=MAX_TEMPERATURE)?,
		top_p: thousandths("top_p", 1..=ONE)?,
		top_k: top_k.filter(|k| *k > 0),
		min_p: thousandths("min_p", 0..=ONE)?.filter(|p| *p > 0),
		repetition_penalty: thousandths("repetition_penalty", REPETITION_PENALTY)?
			.filter(|p| *p != ONE),
	};
	match said("do_sample").and_then(Value::as_bool) {
		// The library's temperature, where the file leaves it open.
		Some(true) => advice.temperature = advice.temperature.or(Some(ONE)),
		// Greedy: the rest says what would hold otherwise.
		Some(false) => {
			advice = SamplingDefaults {
				repetition_penalty: advice.repetition_penalty,
				..Default::default()
			}
		}
		None => (),
	}
	if advice.is_empty() {
		return Ok(None);
	}
	serde_json::to_value(advice)
		.map(Some)
		.map_err(|e| e.to_string())
}

/// Every token that ends an answer, from every place where publishers put one: what ends a chat's turn is often another than what
/// ended a training text, and each file may know only one of them.
fn ends(
	folder: &Path,
	details: &Map<String, Value>,
	declaring: &[&Map<String, Value>],
) -> Result<Vec<u64>, String> {
	let mut ends = Vec::new();
	for value in declaring.iter().filter_map(|file| file.get("eos_token_id")) {
		match value {
			Value::Array(ids) => ends.extend(ids.iter().filter_map(Value::as_u64)),
			id => ends.extend(id.as_u64()),
		}
	}
	let said = |key: &str| details.get(key).and_then(Value::as_str);
	let mut named: Vec<&str> = said("eos_token").into_iter().collect();
	named.extend(turn_ends(said("chat_template").unwrap_or_default()));
	if !named.is_empty() {
		let tokenizer = read(folder, said("tokenizer").unwrap_or("tokenizer.json"))?;
		ends.extend(named.iter().filter_map(|token| id(&tokenizer, token)));
	}
	let mut seen = std::collections::BTreeSet::new();
	ends.retain(|id| seen.insert(*id));
	if ends.is_empty() {
		return Err(
			"no file says which tokens end an answer (eos_token_id in generation_config.json or config.json, eos_token in \
			 tokenizer_config.json): write eos_token_ids into the card's details"
				.into(),
		);
	}
	Ok(ends)
}

/// A token's number in a `tokenizer.json`.
fn id(tokenizer: &Map<String, Value>, token: &str) -> Option<u64> {
	let added = tokenizer.get("added_tokens").and_then(Value::as_array);
	let added = added
		.into_iter()
		.flatten()
		.find(|a| a.get("content").and_then(Value::as_str) == Some(token));
	let vocabulary = || tokenizer.get("model")?.get("vocab")?.get(token)?.as_u64();
	added
		.and_then(|a| a.get("id")?.as_u64())
		.or_else(vocabulary)
}

/// The model's configuration under the names of `config.json`, without what is null. What a model of text and images says of its
/// text part stands beside the rest.
pub(crate) fn configuration(folder: &Path) -> Result<Map<String, Value>, String> {
	let mut config = read(folder, "config.json")?;
	if config.is_empty() {
		config = genai(&read(folder, GENAI)?);
	}
	config.retain(|_, value| !value.is_null());
	if let Some(Value::Object(text)) = config.get("text_config").cloned() {
		for (key, value) in text {
			if !value.is_null() {
				config.entry(key).or_insert(value);
			}
		}
	}
	Ok(config)
}

/// What `genai_config.json` says, by the names of `config.json`.
fn genai(file: &Map<String, Value>) -> Map<String, Value> {
	let at = |path: &[&str]| {
		let mut names = path.iter();
		let first = file.get(*names.next()?)?;
		names
			.try_fold(first, |value, name| value.get(*name))
			.cloned()
	};
	let found = [
		("model_type", at(&["model", "type"])),
		("max_position_embeddings", at(&["model", "context_length"])),
		("vocab_size", at(&["model", "vocab_size"])),
		("eos_token_id", at(&["model", "eos_token_id"])),
		("hidden_size", at(&["model", "decoder", "hidden_size"])),
		(
			"num_hidden_layers",
			at(&["model", "decoder", "num_hidden_layers"]),
		),
		(
			"num_attention_heads",
			at(&["model", "decoder", "num_attention_heads"]),
		),
		(
			"num_key_value_heads",
			at(&["model", "decoder", "num_key_value_heads"]),
		),
		("head_dim", at(&["model", "decoder", "head_size"])),
	];
	let known = found.into_iter();
	known
		.filter_map(|(key, value)| Some((key.into(), value?)))
		.collect()
}

/// Checks that a file is what it is called, and in the model's folder or where the hub's cache keeps it.
fn trusted(folder: &Path, path: &Path, wanted: Wanted) -> Result<(), String> {
	let real = |path: &Path| path.canonicalize().map_err(|e| e.to_string());
	if !may_follow(&real(folder)?, &real(path)?) {
		return Err("leads out of the model's folder".into());
	}
	check(path, wanted)
}

/// A file's text, `None` where it is missing.
fn text(folder: &Path, name: &str) -> Result<Option<String>, String> {
	let path = folder.join(name);
	if !path.is_file() {
		return Ok(None);
	}
	let wrong = |why: String| format!("{name}: {why}");
	trusted(folder, &path, Wanted::Text).map_err(wrong)?;
	let text = std::fs::read_to_string(&path).map_err(|e| wrong(e.to_string()))?;
	Ok(Some(text))
}

/// A file of JSON, `None` where it is missing.
pub(crate) fn value(folder: &Path, name: &str) -> Result<Option<Value>, String> {
	let path = folder.join(name);
	if !path.is_file() {
		return Ok(None);
	}
	let wrong = |why: String| format!("{name}: {why}");
	trusted(folder, &path, Wanted::Json).map_err(wrong)?;
	let bytes = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
	let value = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
	Ok(Some(value))
}

/// A JSON object, empty where the file is missing.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Map<String, Value>, String> {
	match value(folder, name)? {
		None => Ok(Map::new()),
		Some(Value::Object(object)) => Ok(object),
		Some(_) => Err(format!("{name}: holds no JSON object")),
	}
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
	fn ends_are_gathered_from_every_place() {
		let tokenizer = json!({
			"added_tokens": [
				{"id": 7, "content": "<|end_of_text|>"}, {"id": 8, "content": "<|eot_id|>"}, {"id": 9, "content": "<|im_end|>"},
			],
			"model": {"vocab": {"</s>": 2}},
		});
		let ends = |config: Value, generation: Value, tokenizer_config: Value| {
			let files = [
				("tokenizer.json", tokenizer.clone()),
				("config.json", config),
				("generation_config.json", generation),
				("tokenizer_config.json", tokenizer_config),
			];
			completed(&files, json!({})).map(|d| d["eos_token_ids"].clone())
		};
		let llama = json!({"eos_token": "<|end_of_text|>", "chat_template": "{{ m }}<|eot_id|>"});
		// A file that knows one end, a template that uses another; null and absent fields say nothing.
		for (config, generation, tokenizer, expected) in [
			(
				json!({"eos_token_id": 7}),
				json!({}),
				llama.clone(),
				json!([7, 8]),
			),
			(
				json!({"eos_token_id": 7}),
				json!({"eos_token_id": null}),
				json!({}),
				json!([7]),
			),
			(
				json!({"eos_token_id": null}),
				json!({"eos_token_id": [8, 7]}),
				json!({}),
				json!([8, 7]),
			),
			(
				json!({}),
				json!({}),
				json!({"eos_token": "</s>"}),
				json!([2]),
			),
			(
				json!({"eos_token_id": [9]}),
				json!({"eos_token_id": 8}),
				json!({"eos_token": null}),
				json!([8, 9]),
			),
			(
				json!({"text_config": {"eos_token_id": 8}}),
				json!({}),
				json!({}),
				json!([8]),
			),
		] {
			assert_eq!(ends(config, generation, tokenizer).unwrap(), expected);
		}
		let error = ends(json!({"eos_token_id": null}), json!({}), json!({})).unwrap_err();
		assert!(error.contains("eos_token_ids"), "{error}");
	}

	#[test]
	fn other_exporters_and_families_have_other_names() {
		let genai = json!({"model": {
			"type": "llama", "context_length": 512, "vocab_size": 260, "eos_token_id": [5], "bos_token_id": 1,
			"decoder": {"head_size": 8, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2},
		}});
		let details = completed(&[("genai_config.json", genai)], json!({})).unwrap();
		assert_eq!(
			details,
			json!({
				"eos_token_ids": [5], "context": 512, "vocabulary": 260, "layers": 3, "kv_heads": 2, "head_dim": 8,
				"cache": "growing",
			})
		);
		let gpt2 = json!({
			"n_positions": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768, "eos_token_id": 5, "vocab_size": 9,
		});
		let details = completed(&[("config.json", gpt2)], json!({})).unwrap();
		assert_eq!(
			(&details["context"], &details["layers"]),
			(&json!(1024), &json!(12))
		);
		assert_eq!(
			(&details["kv_heads"], &details["head_dim"]),
			(&json!(12), &json!(64))
		);
		let both = json!({
			"eos_token_id": 5, "num_hidden_layers": null,
			"text_config": {"num_hidden_layers": 2, "head_dim": 4, "num_attention_heads": 3, "eos_token_id": 6},
		});
		let details = completed(&[("config.json", both)], json!({})).unwrap();
		assert_eq!(
			(&details["layers"], &details["eos_token_ids"]),
			(&json!(2), &json!([5]))
		);
	}

	#[test]
	fn the_publishers_sampling_is_advice() {
		let advice = |generation: Value| {
			let files = [
				("config.json", json!({"eos_token_id": 5})),
				("generation_config.json", generation),
			];
			completed(&files, json!({})).map(|d| d["sampling"].clone())
		};
		for (generation, expected) in [
			// As Qwen 2.5 has it.
			(
				json!({"do_sample": true, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}),
				json!({"repetition_penalty": 1_050, "temperature": 700, "top_p": 800, "top_k": 20}),
			),
			(
				json!({"do_sample": true, "min_p": 0.15, "temperature": null}),
				json!({"temperature": 1_000, "min_p": 150}),
			),
			(json!({"temperature": 0.6}), json!({"temperature": 600})),
			// Greedy, whatever else it says.
			(
				json!({"do_sample": false, "temperature": 0.6, "top_k": 50}),
				Value::Null,
			),
			(
				json!({"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}),
				Value::Null,
			),
			(json!({"bos_token_id": 1, "max_length": 2_048}), Value::Null),
		] {
			assert_eq!(advice(generation).unwrap(), expected);
		}
		for (generation, says) in [
			(
				json!({"temperature": 5.0}),
				"temperature is 5.0, and can be from 0 to 2",
			),
			(
				json!({"top_p": 0}),
				"top_p is 0, and can be from 0.001 to 1",
			),
			(json!({"top_k": -3}), "top_k is -3"),
			(
				json!({"repetition_penalty": "much"}),
				"repetition_penalty is \"much\"",
			),
		] {
			let error = advice(generation).unwrap_err();
			assert!(error.contains(says) && error.contains("card"), "{error}");
		}
		// What the card says holds.
		let files = [(
			"generation_config.json",
			json!({"temperature": 0.6, "eos_token_id": 5}),
		)];
		let details = completed(&files, json!({"sampling": {"top_k": 5}})).unwrap();
		assert_eq!(details["sampling"], json!({"top_k": 5}));
	}

	#[test]
	fn files_that_are_something_else_say_so() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("config.json");
		for (bytes, says) in [
			(
				"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
				"git lfs pull",
			),
			("<html></html>", "web page"),
			("", "empty"),
		] {
			std::fs::write(&path, bytes).unwrap();
			let error = complete(folder.path(), &mut Map::new()).unwrap_err();
			assert!(
				error.contains("config.json") && error.contains(says),
				"{error}"
			);
		}
	}

	#[test]
	fn a_broken_file_is_named() {
		let error = completed(&[("config.json", json!([1]))], json!({})).unwrap_err();
		assert!(error.contains("config.json"), "{error}");
	}
}
