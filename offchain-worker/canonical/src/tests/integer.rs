//! The integer class.
//!
//! The language model needs what `scripts/setup models` fetches, and fails without it.

use std::path::Path;

use blake2::{digest::consts::U16, Blake2b, Digest};
use ort::{
	session::{builder::GraphOptimizationLevel, Session, SessionInputValue},
	value::Tensor,
};

use prost::Message;

use super::{
	architectures::environment,
	fixtures::{self, Shape, CONTEXT, LAYERS},
	smollm2,
};
use crate::{onnx::Model, Canonical, Ranges};

/// A graph of the class and its cache.
struct Run {
	session: Session,
	heads: usize,
	dim: usize,
	capacity: usize,
	cache: Vec<Vec<i8>>,
}

impl Run {
	/// With a cache of so many slots, that hold `rubbish`.
	fn new(folder: &Path, threads: usize, optimise: bool, capacity: usize, rubbish: bool) -> Self {
		let level = match optimise {
			true => GraphOptimizationLevel::All,
			false => GraphOptimizationLevel::Disable,
		};
		let session = Session::builder(environment())
			.unwrap()
			.with_optimization_level(level)
			.unwrap()
			.with_intra_threads(threads)
			.unwrap()
			.commit_from_file(folder.join("model.onnx"))
			.unwrap();
		let card = std::fs::read(folder.join("model.json")).unwrap();
		let card: serde_json::Value = serde_json::from_slice(&card).unwrap();
		let number = |key: &str| card["details"][key].as_u64().unwrap() as usize;
		let (heads, dim) = (number("kv_heads"), number("head_dim"));
		let slot = |i: usize| {
			if rubbish {
				(i * 37 % 256) as u8 as i8
			} else {
				0
			}
		};
		let slots: Vec<_> = (0..heads * dim * capacity).map(slot).collect();
		Self {
			session,
			heads,
			dim,
			capacity,
			cache: vec![slots; 2 * number("layers")],
		}
	}

	/// Logits of tokens that stand at these positions.
	fn step(&mut self, first: usize, tokens: &[i64]) -> Vec<f32> {
		let row = [1, tokens.len()];
		let positions: Vec<_> = (first..first + tokens.len()).map(|p| p as i64).collect();
		let mut inputs: Vec<(String, SessionInputValue)> =
			[("input_ids", tokens.to_vec()), ("position_ids", positions)]
				.map(|(name, ids)| (name.into(), Tensor::from_array((row, ids)).unwrap().into()))
				.into();
		let names: Vec<_> = (0..self.cache.len() / 2)
			.flat_map(|layer| ["key", "value"].map(|kind| format!("{layer}.{kind}")))
			.collect();
		for (name, past) in names.iter().zip(&self.cache) {
			let shape = match name.ends_with("key") {
				true => [1, self.heads, self.dim, self.capacity],
				false => [1, self.heads, self.capacity, self.dim],
			};
			let past = Tensor::from_array((shape, past.clone())).unwrap();
			inputs.push((format!("past_key_values.{name}"), past.into()));
		}
		let outputs = self.session.run(inputs).unwrap();
		for (name, past) in names.iter().zip(&mut self.cache) {
			let present = &outputs[format!("present.{name}")];
			*past = present.try_extract_tensor::<i8>().unwrap().1.to_vec();
		}
		let logits = outputs["logits"].try_extract_tensor::<f32>();
		logits.unwrap().1.to_vec()
	}

	/// Logits of tokens in passes of these sizes, of which the last repeats.
	fn pieces(&mut self, tokens: &[i64], sizes: &[usize]) -> Vec<f32> {
		let (mut logits, mut at, mut sizes) = (Vec::new(), 0, sizes.iter().copied());
		let mut size = 1;
		while at < tokens.len() {
			size = sizes.next().unwrap_or(size);
			let piece = &tokens[at..tokens.len().min(at + size)];
			logits.extend(self.step(at, piece));
			at += piece.len();
		}
		logits
	}
}

fn bits(logits: &[f32]) -> Vec<u32> {
	logits.iter().map(|l| l.to_bits()).collect()
}

fn digest(logits: &[f32]) -> String {
	// At once: the hash is built without optimisation.
	let bytes: Vec<_> = logits.iter().flat_map(|l| l.to_le_bytes()).collect();
	let bytes = Blake2b::<U16>::digest(&bytes);
	bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Three texts, in tokens, and BLAKE2b-128 of all their logits, as two other programs have found them: the reference that the class was
/// designed with, on five kinds of processor, and NumPy.
const TEXTS: &str = include_str!("integer.json");

/// Queries, keys and values of small random models are within this.
const FAR: f64 = 4.0;

/// A file of ranges of a small model.
fn file(shape: &Shape) -> serde_json::Value {
	let table = |heads: usize, value: f64| vec![vec![vec![value; shape.head_dim]; heads]; LAYERS];
	let (queries, keys) = (shape.heads, shape.kv_heads);
	serde_json::json!({
		"q": table(queries, FAR),
		"k_low": table(keys, -FAR), "k_high": table(keys, FAR), "k_first": table(keys, 0.1),
		"v_low": table(keys, -FAR), "v_high": table(keys, FAR), "v_first": table(keys, 0.1),
	})
}

/// Logits of the integer class of the small model in a folder, after the same bits have come out in two ways of running it.
pub(super) fn logits(folder: &Path, shape: &Shape, tokens: &[usize]) -> Vec<f32> {
	let out = folder.join("integer");
	let ranges = Ranges::parse(file(shape).to_string().into()).unwrap();
	let canonical = Canonical::integer(folder, Some(ranges), None, None).unwrap();
	let proof = canonical.write(&out, &mut |_| ()).unwrap().unwrap();
	// In every layer: two norms, four linear layers with one product of floats for each, and two planes.
	let of = |operator: &str| {
		let sums = proof.sums.iter();
		sums.filter(|sum| sum.operator == operator).count()
	};
	assert_eq!(of("MatMulInteger"), 6 * LAYERS + 1);
	assert_eq!(of("ReduceSum"), 2 * LAYERS);
	// What stands beside the graph is what it was made from.
	let again = folder.join("again");
	let ranges = Ranges::read(&out.join("ranges.json")).unwrap();
	let canonical = Canonical::integer(folder, Some(ranges), None, None).unwrap();
	canonical.write(&again, &mut |_| ()).unwrap();
	for file in ["model.onnx", "model.onnx_data", "ranges.json"] {
		let [one, other] = [&out, &again].map(|out| std::fs::read(out.join(file)).unwrap());
		assert!(one == other, "{file}");
	}
	// The planner knows the shape of everything.
	let model = std::fs::read(out.join("model.onnx")).unwrap();
	let graph = Model::decode(&model[..]).unwrap().graph.unwrap();
	let made: usize = graph.node.iter().map(|node| node.output.len()).sum();
	assert_eq!(graph.value_info.len() + graph.output.len(), made);
	let tokens: Vec<_> = tokens.iter().map(|t| *t as i64).collect();
	let logits = Run::new(&out, 2, false, 128, false).step(0, &tokens);
	let others = Run::new(&out, 1, true, tokens.len(), true).pieces(&tokens, &[2, 1]);
	assert_eq!(bits(&logits), bits(&others), "{}", shape.model_type);
	let (elements, tensors) = super::judged::check(&out, &tokens, u64::MAX);
	assert!(
		elements > 20_000 && tensors > 300,
		"{elements} of {tensors}"
	);
	logits
}

#[test]
fn ranges_of_another_model_are_refused() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	fixtures::hub(folder.path(), &shape.config(), &shape.published());
	let refused = |ranges: Option<Ranges>| {
		let made = Canonical::integer(folder.path(), ranges, None, None);
		made.map(|_| ()).unwrap_err().to_string()
	};
	assert!(refused(None).contains("do not come with the converter"));
	type Change = fn(&mut serde_json::Value);
	fn cut(value: &mut serde_json::Value) {
		value.as_array_mut().unwrap().pop();
	}
	let cases: [(&str, Change); 6] = [
		("of 1 layers for a model of 2", |file| {
			let tables = file.as_object_mut().unwrap().values_mut();
			tables.for_each(cut)
		}),
		("ranges of q in layer 1 are not of 4 heads of 6", |file| {
			cut(&mut file["q"][1])
		}),
		("ranges of v in layer 0 are not of 2 heads of 6", |file| {
			cut(&mut file["v_first"][0][1])
		}),
		("ranges of k in layer 0 go from 5 to 4", |file| {
			file["k_low"][0][0][3] = 5.into()
		}),
		("less than zero", |file| file["q"][0][0][3] = (-5).into()),
		("for 129 positions for a context of 130", |file| {
			file["context"] = (CONTEXT - 1).into()
		}),
	];
	for (why, change) in cases {
		let mut file = file(&shape);
		change(&mut file);
		let ranges = Ranges::parse(file.to_string().into()).unwrap();
		let error = refused(Some(ranges));
		assert!(error.contains(why), "{error}");
	}
}

#[test]
fn the_language_model_gives_the_reference_s_bits() {
	let source = smollm2::source();
	let folder = tempfile::tempdir().unwrap();
	let out = folder.path().join("model");
	let canonical = Canonical::integer(&source, None, None, None).unwrap();
	let proof = canonical.write(&out, &mut |_| ()).unwrap().unwrap();
	assert_eq!(proof.sums.len(), 30 * 15 + 3);
	let card = std::fs::read(out.join("model.json")).unwrap();
	let card: serde_json::Value = serde_json::from_slice(&card).unwrap();
	assert_eq!(card["name"], "smollm2-135m-instruct.q4-1-integer");
	let files = card["files"].as_array().unwrap();
	assert!(files.iter().any(|file| file == "ranges.json"));

	let reference: serde_json::Value = serde_json::from_str(TEXTS).unwrap();
	let texts: Vec<Vec<i64>> = serde_json::from_value(reference["texts"].clone()).unwrap();
	let digests = reference["digests"].as_array().unwrap();
	let mut run = Run::new(&out, 2, false, 128, false);
	let made: Vec<_> = texts.iter().map(|t| run.pieces(t, &[t.len()])).collect();
	for (logits, expected) in made.iter().zip(digests) {
		assert_eq!(digest(logits), *expected);
	}
	// What the judge says each of these numbers is: all single operations, and of longer sums as many as there is time for.
	let (elements, tensors) = super::judged::check(&out, &texts[0][..3], 200_000);
	assert!(
		elements > 1_000_000 && tensors > 5_000,
		"{elements} of {tensors}"
	);
	// Token by token after nine, in chunks, with slots that hold anything, with one thread, and with what the optimiser makes of it.
	for (threads, optimise, capacity, sizes) in
		[(1, false, 131, &[9, 1][..]), (2, true, 128, &[7, 32, 2])]
	{
		let mut run = Run::new(&out, threads, optimise, capacity, true);
		let logits = run.pieces(&texts[0], sizes);
		assert!(bits(&logits) == bits(&made[0]), "{sizes:?}");
	}
	// Far from the beginning.
	let long: Vec<_> = texts.concat().into_iter().cycle().take(1_900).collect();
	let mut run = Run::new(&out, 2, false, 1_920, false);
	let logits = run.pieces(&long, &[475]);
	let vocabulary = logits.len() / long.len();
	assert_eq!(digest(&logits[1_884 * vocabulary..]), reference["long"]);
}
