//! What publishers write: ends of turns, parts of files, configurations of other versions, caches of the hub.

use std::{io::Cursor, path::Path};

use serde_json::{json, Value};

use super::fixtures::{self, Entry};
use crate::{gguf_model, hub, source::Config, Canonical, Model, Weights};

/// Reads a GGUF file of Llama whose entries are changed.
fn gguf(change: Vec<(&'static str, Entry)>) -> Result<Model, String> {
	let shape = fixtures::llama();
	let tensors = fixtures::interleaved(&shape.tensors(), shape.head_dim);
	let mut entries = fixtures::llama_entries();
	entries.retain(|(key, _)| change.iter().all(|(k, _)| k != key));
	entries.extend(change);
	let bytes = fixtures::gguf(&entries, &tensors);
	gguf_model::read(Path::new("model.gguf"), Cursor::new(bytes), None).map_err(|e| e.to_string())
}

/// Reads a folder of the hub of Llama whose configuration is changed.
fn folder(change: Value) -> Result<Model, String> {
	let shape = fixtures::llama();
	let mut config = shape.config();
	let change = change.as_object().unwrap().clone();
	config.as_object_mut().unwrap().extend(change);
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &config, &shape.tensors());
	hub::open(folder.path(), None).map_err(|e| e.to_string())
}

fn configured(change: Value) -> Result<Config, String> {
	folder(change).map(|model| model.config)
}

#[test]
fn a_gguf_file_ends_where_its_template_ends_a_turn() {
	let mut tokens: Vec<String> = ('a'..='p').map(String::from).collect();
	tokens.extend(["<|eot_id|>", "<|end_of_text|>", "ab"].map(String::from));
	let ends = |template: &str, eot: Option<u32>| {
		let mut change = vec![
			("tokenizer.ggml.tokens", Entry::Texts(tokens.clone())),
			("tokenizer.ggml.eos_token_id", Entry::Count(17)),
			("tokenizer.chat_template", Entry::Text(template.into())),
		];
		change.extend(eot.map(|id| ("tokenizer.ggml.eot_token_id", Entry::Count(id))));
		let model = gguf(change).unwrap();
		let generation = &model.files["generation_config.json"];
		let generation: Value = serde_json::from_slice(generation).unwrap();
		(
			model.facts.details["eos_token_ids"].clone(),
			generation["eos_token_id"].clone(),
		)
	};
	assert_eq!(
		ends("{{ m }}<|eot_id|>", None),
		(json!([17, 16]), json!([17, 16]))
	);
	assert_eq!(ends("{{ m }}", None), (json!([17]), json!(17)));
	assert_eq!(ends("{{ m }}<|im_end|>", Some(16)).0, json!([17, 16]));
	assert_eq!(ends("{{ m }}<|eot_id|>", Some(16)).0, json!([17, 16]));
}

#[test]
fn a_gguf_file_that_is_a_part_or_writes_no_text_is_refused() {
	for (change, says) in [
		(
			vec![
				("split.count", Entry::Count(3)),
				("split.no", Entry::Count(1)),
			],
			"part 2 of 3",
		),
		(
			vec![("llama.pooling_type", Entry::Count(3))],
			"gives vectors",
		),
		(vec![("llama.pooling_type", Entry::Count(4))], "ranks texts"),
		(
			vec![("llama.attention.causal", Entry::Flag(false))],
			"reads whole texts",
		),
	] {
		let error = gguf(change).err().unwrap();
		assert!(error.contains(says), "{error}");
	}
	for fine in [
		("split.count", Entry::Count(1)),
		("llama.pooling_type", Entry::Count(0)),
	] {
		gguf(vec![fine]).unwrap();
	}
}

#[test]
fn kinds_of_tensors_that_are_not_read_are_named() {
	use crate::dequantise::Kind;
	for (number, name) in [(16, "IQ2_XXS"), (29, "IQ1_M"), (39, "MXFP4"), (99, "99")] {
		let error = Kind::from_number(number).unwrap_err();
		assert!(error.contains(&format!("type {name} ")), "{error}");
	}
	assert_eq!(Kind::from_number(23), Ok(Kind::Iq4Xs));
}

#[test]
fn files_that_are_something_else_say_what_to_do() {
	let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 538090408\n";
	let place = tempfile::tempdir().unwrap();
	let refused = |source: &Path| {
		let opened = Canonical::open(source, Weights::Fp32, None);
		opened.err().unwrap().to_string()
	};
	let file = place.path().join("x.gguf");
	for (bytes, says) in [
		(pointer, "git lfs pull"),
		("<!DOCTYPE html>", "web page"),
		("", "empty"),
		("{\"error\": 1}", "JSON"),
		("\u{8}\u{8}", "not a GGUF file"),
	] {
		std::fs::write(&file, bytes).unwrap();
		let error = refused(&file);
		assert!(error.contains(says), "{error}");
	}
	let shape = fixtures::llama();
	for name in ["model.safetensors", "tokenizer.json", "config.json"] {
		let folder = tempfile::tempdir().unwrap();
		fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
		std::fs::write(folder.path().join(name), pointer).unwrap();
		let error = refused(folder.path());
		assert!(
			error.contains(name) && error.contains("git lfs pull"),
			"{error}"
		);
	}
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
	std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
	std::fs::write(folder.path().join("pytorch_model.bin"), "PK").unwrap();
	assert!(refused(folder.path()).contains("may run code"));
}

#[test]
fn a_head_that_is_missing_is_named() {
	let shape = fixtures::llama();
	let error = folder(json!({"tie_word_embeddings": false})).err().unwrap();
	assert!(
		error.contains("lm_head.weight") && error.contains("tie_word_embeddings"),
		"{error}"
	);
	// One that is there and not needed is left out.
	assert!(shape.tied);
	let mut tensors = shape.tensors();
	let table = tensors["model.embed_tokens.weight"].clone();
	tensors.insert("lm_head.weight".into(), table);
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &tensors);
	hub::open(folder.path(), None).map(|_| ()).unwrap();
}

#[test]
fn rotary_embeddings_are_read_from_wherever_they_stand() {
	let theta = |change: Value| configured(change).map(|c| (c.rope.theta, c.rope.factors.len()));
	for (change, expected) in [
		(json!({"rope_theta": null}), (10_000.0, 0)),
		(
			json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
			(5e5, 0),
		),
		(
			json!({"rope_theta": 7e5, "rope_parameters": null, "rope_scaling": null}),
			(7e5, 0),
		),
		(
			json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
			(10_000.0, 3),
		),
		(
			json!({"rope_theta": null, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}}),
			(1e6, 0),
		),
		(json!({"partial_rotary_factor": 1.0}), (10_000.0, 0)),
	] {
		assert_eq!(theta(change.clone()), Ok(expected), "{change}");
	}
	for (change, says) in [
		(
			json!({"rope_parameters": {"chunked_attention": {"rope_theta": 1e6}}}),
			"chunked_attention",
		),
		(
			json!({"rope_parameters": {"sliding_attention": {"rope_theta": 1e6}}}),
			"full_attention is missing",
		),
		(
			json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
			"0.5",
		),
		(json!({"partial_rotary_factor": 0.25}), "0.25"),
	] {
		let error = theta(change).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
	// What YaRN leaves out is what transformers takes instead; what changes with a text's length is not converted.
	let yarn = |change: Value| {
		let mut scaling = json!({"rope_type": "yarn", "factor": 4.0});
		let change = change.as_object().unwrap().clone();
		scaling.as_object_mut().unwrap().extend(change);
		configured(json!({"rope_theta": null, "rope_parameters": scaling})).map(|c| c.rope)
	};
	let usual = yarn(json!({})).unwrap();
	for same in [
		json!({"original_max_position_embeddings": fixtures::CONTEXT, "beta_fast": 32, "beta_slow": 0}),
		json!({"rope_theta": 1e4, "truncate": true, "mscale": 1.0}),
	] {
		assert_eq!(yarn(same).unwrap(), usual);
	}
	assert_eq!(yarn(json!({"attention_factor": 1.0})).unwrap().scale, 1.0);
	for (change, says) in [
		(json!({"factor": 0.5}), "does not make sense"),
		(json!({"factor": "4"}), "factor is no number"),
		(json!({"beta_fast": 0.5}), "does not make sense"),
		(json!({"rope_theta": 1.0}), "does not make sense"),
		(json!({"rope_type": "proportional"}), "\"proportional\""),
		(json!({"rope_type": "longrope"}), "longrope of phi3"),
		(
			json!({"rope_type": "dynamic", "original_max_position_embeddings": 64}),
			"beyond 64 tokens",
		),
	] {
		let error = yarn(change).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
	// Layers with a window may have another.
	let local = |change: Value| configured(change).unwrap().local.unwrap();
	let windows = local(json!({
		"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"],
		"rope_parameters": {
			"full_attention": {"rope_type": "default", "rope_theta": 1e6},
			"sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
		},
	}));
	assert_eq!(windows.rope.unwrap().theta, 2e4);
	assert_eq!(windows.layers, [true, false]);
}

#[test]
fn configurations_that_would_have_to_be_guessed_are_refused() {
	for (change, says) in [
		(
			json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}),
			"gemma3_text",
		),
		(json!({"architectures": ["Qwen3Model"]}), "Qwen3Model"),
		(
			json!({"architectures": ["LlamaForSequenceClassification"]}),
			"not a model that writes text",
		),
		(
			json!({"quantization_config": {"quant_method": "awq"}}),
			"awq",
		),
		(
			json!({"layer_types": ["linear_attention", "full_attention"]}),
			"linear_attention",
		),
		(
			json!({"layer_types": ["sliding_attention", "full_attention"]}),
			"sliding_window",
		),
		(json!({"layer_types": ["full_attention"]}), "1 layer_types"),
	] {
		let error = configured(change).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
	for fine in [
		json!({"architectures": ["LlamaForCausalLM"], "quantization_config": null, "dtype": "bfloat16"}),
		json!({"architectures": null, "num_key_value_heads": 2, "sliding_window": null, "hidden_act": null}),
		json!({"layer_types": ["full_attention", "full_attention"]}),
	] {
		configured(fine).unwrap();
	}
}

#[test]
fn layers_of_smollm3_without_positions_are_listed_or_counted() {
	let read = |change: Value| {
		let mut all = json!({"model_type": "smollm3", "tie_word_embeddings": null});
		let change = change.as_object().unwrap().clone();
		all.as_object_mut().unwrap().extend(change);
		configured(all)
	};
	for (change, turns) in [
		(json!({}), [true, true]),
		(json!({"no_rope_layer_interval": 2}), [true, false]),
		(
			json!({"no_rope_layers": [0, 1], "no_rope_layer_interval": 2}),
			[false, true],
		),
	] {
		let config = read(change).unwrap();
		assert_eq!(config.turns, turns);
		assert!(config.tied && config.local.is_none());
	}
	// Windows, where they are used, are those of the layers that do not turn.
	let windows =
		json!({"no_rope_layers": [0, 1], "use_sliding_window": true, "sliding_window": 8});
	assert_eq!(read(windows).unwrap().local.unwrap().layers, [true, false]);
	// GGUF has no key for them.
	let mut entries = fixtures::entries_of("smollm3");
	entries.retain(|(key, _)| key != "smollm3.block_count");
	entries.push(("smollm3.block_count".into(), Entry::Count(5)));
	let entries: Vec<_> = entries.iter().map(|(k, e)| (&k[..], e)).collect();
	let tensors = fixtures::interleaved(&fixtures::llama().tensors(), 6);
	let bytes = Cursor::new(fixtures::gguf_of(&entries, &tensors));
	let model = gguf_model::read(Path::new("model.gguf"), bytes, None).unwrap();
	assert_eq!(model.config.turns, [true, true, true, false, true]);
	let written: Value = serde_json::from_slice(&model.files["config.json"]).unwrap();
	assert_eq!(written["no_rope_layers"], json!([1, 1, 1, 0, 1]));
	for (change, says) in [
		(
			json!({"num_hidden_layers": 1u64 << 40}),
			"layers: 1099511627776",
		),
		(json!({"no_rope_layers": [1]}), "2 layers"),
		(json!({"no_rope_layers": [1, 2]}), "a one or a zero"),
		(json!({"no_rope_layers": 4}), "a one or a zero"),
		(json!({"no_rope_layer_interval": 0}), "is zero"),
	] {
		let error = read(change).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
}

#[test]
fn links_of_the_hub_s_cache_are_followed() {
	let shape = fixtures::llama();
	let place = tempfile::tempdir().unwrap();
	let model = place.path().join("models--a--b");
	let (blobs, snapshot) = (model.join("blobs"), model.join("snapshots/0123"));
	std::fs::create_dir_all(&blobs).unwrap();
	std::fs::create_dir_all(&snapshot).unwrap();
	fixtures::hub(&blobs, &shape.config(), &shape.tensors());
	for entry in std::fs::read_dir(&blobs).unwrap() {
		let name = entry.unwrap().file_name();
		let target = Path::new("../../blobs").join(&name);
		std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
	}
	hub::open(&snapshot, None).map(|_| ()).unwrap();
	let elsewhere = place.path().join("elsewhere.json");
	std::fs::write(&elsewhere, "{}").unwrap();
	let link = snapshot.join("tokenizer.json");
	std::fs::remove_file(&link).unwrap();
	std::os::unix::fs::symlink(elsewhere, link).unwrap();
	let error = hub::open(&snapshot, None).err().unwrap().to_string();
	assert!(error.contains("leads out of the model's folder"), "{error}");
}

#[test]
fn limits_hold_for_what_the_tokenizer_makes_of_a_text() {
	let shape = fixtures::llama();
	let limit = |tokenizer: Value| {
		let folder = tempfile::tempdir().unwrap();
		fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
		std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
		let mut config = shape.config();
		config["max_position_embeddings"] = json!(1_024);
		std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
		let canonical = Canonical::open(folder.path(), Weights::Fp32, None);
		canonical.map(|c| c.card()["limits"]["max_input_units"].clone())
	};
	assert_eq!(limit(json!({})).unwrap(), json!(1_024 - 256 - 128));
	assert_eq!(
		limit(json!({"normalizer": {"type": "NFC"}})).unwrap(),
		json!((1_024 - 256 - 128) / 3)
	);
	let error = limit(json!({"normalizer": {"type": "Precompiled"}}))
		.err()
		.unwrap();
	assert!(error.to_string().contains("Precompiled"), "{error}");
}
