//! Files that are cut off or damaged: refused or converted, and never more than that.

use std::{io::Cursor, path::Path};

use super::fixtures::{self, Entry};
use crate::{decoder, gguf_model, hub, Canonical, Error, Weights};

/// Reads a GGUF file from memory, builds its graph, and reads every weight.
fn convert(bytes: Vec<u8>) -> Result<(), Error> {
	let path = Path::new("model.gguf");
	let mut model = gguf_model::read(path, Cursor::new(bytes), None)?;
	decoder::build(&model.config, &*model.tensors, Weights::Int8).map_err(Error::source(path))?;
	for name in model.tensors.names() {
		model.tensors.read(&name)?;
	}
	Ok(())
}

fn good() -> Vec<u8> {
	let shape = fixtures::llama();
	let tensors = fixtures::interleaved(&shape.tensors(), shape.head_dim);
	fixtures::gguf(&fixtures::llama_entries(), &tensors)
}

/// Bytes before the tensors' values.
const HEADER: usize = 2_048;

#[test]
fn a_gguf_file_that_is_cut_off_is_refused() {
	let good = good();
	convert(good.clone()).unwrap();
	for length in (0..HEADER).chain([good.len() - 1]) {
		assert!(
			convert(good[..length].to_vec()).is_err(),
			"{length} of {} bytes",
			good.len()
		);
	}
}

#[test]
fn no_byte_of_a_gguf_header_can_do_harm() {
	let good = good();
	let mut refused = 0;
	for place in 0..HEADER {
		for change in [1, 0x80, 0xff] {
			let mut bad = good.clone();
			bad[place] ^= change;
			refused += u32::from(convert(bad).is_err());
		}
	}
	// Names of tokens may change; lengths, kinds, places and shapes may not.
	assert!(refused > HEADER as u32, "{refused} refused");
}

#[test]
fn long_claims_take_no_memory() {
	let shape = fixtures::llama();
	let tensors = fixtures::interleaved(&shape.tensors(), shape.head_dim);
	let file = fixtures::gguf(&[("x", Entry::Text("y".into()))], &tensors);
	let claims = [(8, 8), (16, 8), (24, 8), (24 + 9 + 4, 8)];
	for (place, length) in claims {
		let mut bad = file.clone();
		bad[place..place + length].fill(0x7f);
		let error = convert(bad).unwrap_err().to_string();
		assert!(error.contains("too"), "{error}");
	}
}

#[test]
fn a_safetensors_file_that_is_cut_off_or_damaged_does_no_harm() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
	let path = folder.path().join("model.safetensors");
	let good = std::fs::read(&path).unwrap();
	let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize + 8;
	hub::open(folder.path(), None).unwrap();
	for length in (0..header).step_by(7).chain([header, good.len() - 1]) {
		std::fs::write(&path, &good[..length]).unwrap();
		assert!(
			hub::open(folder.path(), None).is_err(),
			"{length} of {} bytes",
			good.len()
		);
	}
	for place in (0..header).step_by(3) {
		let mut bad = good.clone();
		bad[place] ^= 1;
		std::fs::write(&path, bad).unwrap();
		if let Ok(mut model) = hub::open(folder.path(), None) {
			if decoder::build(&model.config, &*model.tensors, Weights::Fp32).is_ok() {
				for name in model.tensors.names() {
					let _ = model.tensors.read(&name);
				}
			}
		}
	}
}

/// The reason for which a GGUF file with this key is refused.
fn refusal(key: &'static str, entry: Entry) -> String {
	let shape = fixtures::llama();
	let tensors = fixtures::interleaved(&shape.tensors(), shape.head_dim);
	let mut entries = fixtures::llama_entries();
	entries.retain(|(k, _)| *k != key);
	entries.push((key, entry));
	convert(fixtures::gguf(&entries, &tensors))
		.unwrap_err()
		.to_string()
}

#[test]
fn what_cannot_be_converted_is_refused_with_the_reason() {
	for (key, entry, reason) in [
		(
			"tokenizer.ggml.model",
			Entry::Text("llama".into()),
			"only byte-level BPE",
		),
		(
			"tokenizer.ggml.pre",
			Entry::Text("deepseek-coder".into()),
			"\"deepseek-coder\"",
		),
		(
			"general.architecture",
			Entry::Text("gemma2".into()),
			"hub folder",
		),
		(
			"general.architecture",
			Entry::Text("mamba".into()),
			"llama, qwen2, qwen3, phi3 and smollm3",
		),
		(
			"llama.attention.sliding_window",
			Entry::Count(64),
			"which layers",
		),
		("llama.expert_count", Entry::Count(8), "experts"),
		(
			"llama.rope.scaling.type",
			Entry::Text("yarn".into()),
			"\"yarn\"",
		),
		(
			"llama.rope.dimension_count",
			Entry::Count(4),
			"heads are 6 long",
		),
		(
			"llama.attention.head_count",
			Entry::Count(0),
			"attention heads: 0",
		),
		("llama.block_count", Entry::Count(1), "has no place"),
		(
			"llama.block_count",
			Entry::Count(3),
			"blk.2.attn_norm.weight\" is missing",
		),
		(
			"llama.feed_forward_length",
			Entry::Count(41),
			"not [41, 24]",
		),
		(
			"tokenizer.ggml.merges",
			Entry::Texts(vec!["a z".into()]),
			"broken",
		),
		(
			"tokenizer.ggml.tokens",
			Entry::Texts(vec!["a".into(); 19]),
			"twice",
		),
	] {
		let error = refusal(key, entry);
		assert!(error.contains(reason), "{key}: {error}");
	}
}

#[test]
fn a_weight_that_is_no_number_is_refused() {
	let shape = fixtures::llama();
	let mut tensors = fixtures::interleaved(&shape.tensors(), shape.head_dim);
	tensors.get_mut("blk.1.ffn_up.weight").unwrap().1[5] = f32::NAN;
	let error = convert(fixtures::gguf(&fixtures::llama_entries(), &tensors)).unwrap_err();
	assert!(error.to_string().contains("blk.1.ffn_up.weight"), "{error}");
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
	for name in ["../model.safetensors", "/etc/passwd", "", "a/b.safetensors"] {
		let index = serde_json::json!({ "weight_map": { "lm_head.weight": name } });
		let path = folder.path().join("model.safetensors.index.json");
		std::fs::write(path, index.to_string()).unwrap();
		let error = Canonical::open(folder.path(), Weights::Fp32, None)
			.err()
			.unwrap();
		assert!(
			error.to_string().contains("no file of the folder"),
			"{error}"
		);
	}
}

#[test]
fn a_folder_that_is_there_is_left_alone() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &shape.tensors());
	let canonical = Canonical::open(folder.path(), Weights::Fp32, None).unwrap();
	assert!(canonical.write(folder.path(), &mut |_| ()).is_err());
	assert!(folder.path().join("README.md").is_file());
}
