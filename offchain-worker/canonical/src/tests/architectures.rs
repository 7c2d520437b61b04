//! Every architecture, on small random models: the graph computes what the architecture's definition says, written down here
//! once more in double precision and the plainest way, and it does so with the same bits in one pass and token by token.

use std::path::{Path, PathBuf};

use ort::{
	environment::Environment,
	session::{builder::GraphOptimizationLevel, Session, SessionInputValue},
	value::Tensor,
};
use serde_json::{json, Value};

use super::{
	fixtures::{self, Shape, Tensors, EPS, HIDDEN, LAYERS, THETA, VOCABULARY},
	smollm2::home,
};
use crate::{Canonical, Weights};

const TOKENS: [usize; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 18];

/// Slots of a cache in these tests.
const CAPACITY: usize = 128;

pub(super) fn environment() -> &'static Environment {
	static ENVIRONMENT: std::sync::OnceLock<Environment> = std::sync::OnceLock::new();
	ENVIRONMENT.get_or_init(|| {
		let path = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
			|| home().join("onnxruntime/1.31.1/libonnxruntime.so"),
			PathBuf::from,
		);
		ort::init_from(path)
			.unwrap()
			.with_telemetry(false)
			.build()
			.unwrap()
	})
}

/// A graph and its cache.
pub(super) struct Run<'s> {
	session: Session,
	shape: &'s Shape,
	cache: Vec<Vec<f32>>,
	capacity: usize,
}

impl<'s> Run<'s> {
	pub(super) fn new(folder: &Path, shape: &'s Shape, threads: usize) -> Self {
		Self::with(folder, shape, threads, CAPACITY)
	}

	/// With a cache of so many slots.
	pub(super) fn with(folder: &Path, shape: &'s Shape, threads: usize, capacity: usize) -> Self {
		Self::of_layers(folder, shape, threads, capacity, LAYERS)
	}

	/// Of a model of so many layers.
	pub(super) fn of_layers(
		folder: &Path,
		shape: &'s Shape,
		threads: usize,
		capacity: usize,
		layers: usize,
	) -> Self {
		let session = Session::builder(environment())
			.unwrap()
			.with_optimization_level(GraphOptimizationLevel::Disable)
			.unwrap()
			.with_intra_threads(threads)
			.unwrap()
			.commit_from_file(folder.join("model.onnx"))
			.unwrap();
		let empty = vec![0.0; shape.kv_heads * shape.head_dim * capacity];
		Self {
			session,
			shape,
			cache: vec![empty; 2 * layers],
			capacity,
		}
	}

	/// Fills the cache, as if tokens had been there before.
	pub(super) fn fill(&mut self, mut number: impl FnMut() -> f32) {
		(self.cache.iter_mut().flatten()).for_each(|slot| *slot = number());
	}

	/// Logits of tokens that stand at these positions.
	pub(super) fn step(&mut self, first: usize, tokens: &[usize]) -> Vec<f32> {
		let (heads, dim) = (self.shape.kv_heads, self.shape.head_dim);
		let row = [1, tokens.len()];
		let ids: Vec<i64> = tokens.iter().map(|t| *t as i64).collect();
		let positions: Vec<i64> = (first..first + tokens.len()).map(|p| p as i64).collect();
		let mut inputs: Vec<(String, SessionInputValue)> = vec![
			(
				"input_ids".into(),
				Tensor::from_array((row, ids)).unwrap().into(),
			),
			(
				"position_ids".into(),
				Tensor::from_array((row, positions)).unwrap().into(),
			),
		];
		let names: Vec<_> = (0..self.cache.len() / 2)
			.flat_map(|layer| ["key", "value"].map(|kind| format!("{layer}.{kind}")))
			.collect();
		for (name, past) in names.iter().zip(&self.cache) {
			let shape = if name.ends_with("key") {
				[1, heads, dim, self.capacity]
			} else {
				[1, heads, self.capacity, dim]
			};
			let past = Tensor::from_array((shape, past.clone())).unwrap();
			inputs.push((format!("past_key_values.{name}"), past.into()));
		}
		let outputs = self.session.run(inputs).unwrap();
		for (name, past) in names.iter().zip(&mut self.cache) {
			let present = &outputs[format!("present.{name}")];
			*past = present.try_extract_tensor::<f32>().unwrap().1.to_vec();
		}
		outputs["logits"]
			.try_extract_tensor::<f32>()
			.unwrap()
			.1
			.to_vec()
	}
}

/// The definition.
struct Definition<'d> {
	shape: &'d Shape,
	tensors: &'d Tensors,
	config: Value,
}

impl Definition<'_> {
	fn number(&self, key: &str) -> Option<f64> {
		self.config[key].as_f64()
	}

	fn gemma(&self) -> bool {
		self.shape.model_type.starts_with("gemma")
	}

	fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
		let weight = &self.tensors[&format!("{name}.weight")].1;
		let bias = self.tensors.get(&format!("{name}.bias"));
		weight
			.chunks_exact(x.len())
			.enumerate()
			.map(|(i, row)| {
				let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
				sum + bias.map_or(0.0, |b| f64::from(b.1[i]))
			})
			.collect()
	}

	fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
		let weight = &self.tensors[&format!("{name}.weight")].1;
		let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
		let more = if self.gemma() { 1.0 } else { 0.0 };
		let scaled = x.iter().map(|x| x / (mean + EPS).sqrt());
		scaled
			.zip(weight)
			.map(|(x, w)| x * (f64::from(*w) + more))
			.collect()
	}

	/// Wavelength factor of Llama 3's definition.
	fn factor(&self, base: f64) -> f64 {
		let scaling = &self.config["rope_scaling"];
		if scaling["rope_type"].is_null() {
			return 1.0;
		}
		let number = |key: &str| scaling[key].as_f64().unwrap();
		let (factor, low, high) = (
			number("factor"),
			number("low_freq_factor"),
			number("high_freq_factor"),
		);
		let original = number("original_max_position_embeddings");
		let wavelength = 2.0 * std::f64::consts::PI * base;
		if wavelength < original / high {
			1.0
		} else if wavelength > original / low {
			factor
		} else {
			let smooth = (original / wavelength - low) / (high - low);
			1.0 / ((1.0 - smooth) / factor + smooth)
		}
	}

	/// By what cosines and sines are multiplied, by LongRoPE's definition.
	fn scale(&self) -> f64 {
		let Some(original) = self.number("original_max_position_embeddings") else {
			return 1.0;
		};
		let grown = self.number("max_position_embeddings").unwrap() / original;
		(1.0 + grown.ln() / original.ln()).sqrt()
	}

	fn rotate(&self, x: &mut [f64], position: usize, local: bool) {
		let part = self.number("partial_rotary_factor").unwrap_or(1.0);
		let turned = (x.len() as f64 * part) as usize;
		let x = &mut x[..turned];
		let half = x.len() / 2;
		let theta = match self.number("rope_local_base_freq") {
			Some(theta) if local => theta,
			_ => THETA,
		};
		for i in 0..half {
			let base = theta.powf(2.0 * i as f64 / x.len() as f64);
			let long = self.config["rope_scaling"]["long_factor"][i].as_f64();
			let factor = long.unwrap_or_else(|| self.factor(base));
			let (sin, cos) = (position as f64 / (base * factor)).sin_cos();
			let (a, b) = (x[i] * self.scale(), x[i + half] * self.scale());
			(x[i], x[i + half]) = (a * cos - b * sin, b * cos + a * sin);
		}
	}

	fn logits(&self, tokens: &[usize]) -> Vec<f64> {
		let (heads, kv_heads, dim) = (self.shape.heads, self.shape.kv_heads, self.shape.head_dim);
		let table = &self.tensors["model.embed_tokens.weight"].1;
		let scale = if self.gemma() {
			(HIDDEN as f64).sqrt()
		} else {
			1.0
		};
		let mut rows: Vec<Vec<f64>> = tokens
			.iter()
			.map(|t| {
				table[t * HIDDEN..][..HIDDEN]
					.iter()
					.map(|v| f64::from(*v) * scale)
					.collect()
			})
			.collect();
		let scalar = self.number("query_pre_attn_scalar").unwrap_or(dim as f64);
		for layer in 0..LAYERS {
			let p = format!("model.layers.{layer}.");
			let local = self.config["layer_types"][layer] == "sliding_attention";
			let window = self
				.number("sliding_window")
				.filter(|_| local)
				.map_or(usize::MAX, |w| w as usize);
			let heads_of = |x: &[f64], name: &str, position: usize| {
				let all = self.linear(&format!("{p}self_attn.{name}_proj"), x);
				all.chunks_exact(dim)
					.map(|head| {
						let mut head = head.to_vec();
						if self.shape.head_norms {
							head = self.norm(&format!("{p}self_attn.{name}_norm"), &head);
						}
						if self.config["no_rope_layers"][layer] != 0 {
							self.rotate(&mut head, position, local);
						}
						head
					})
					.collect::<Vec<_>>()
			};
			let normed: Vec<_> = rows
				.iter()
				.map(|x| self.norm(&format!("{p}input_layernorm"), x))
				.collect();
			let keys: Vec<_> = normed
				.iter()
				.enumerate()
				.map(|(t, x)| heads_of(x, "k", t))
				.collect();
			let values: Vec<_> = normed
				.iter()
				.map(|x| self.linear(&format!("{p}self_attn.v_proj"), x))
				.collect();
			for (t, x) in normed.iter().enumerate() {
				let queries = heads_of(x, "q", t);
				let mut seen = Vec::new();
				for (h, query) in queries.iter().enumerate() {
					let kv = h / (heads / kv_heads);
					let first = (t + 1).saturating_sub(window);
					let scores: Vec<f64> = (first..=t)
						.map(|s| {
							let dot: f64 = query.iter().zip(&keys[s][kv]).map(|(a, b)| a * b).sum();
							let score = dot / scalar.sqrt();
							let cap = self.number("attn_logit_softcapping");
							cap.map_or(score, |cap| cap * (score / cap).tanh())
						})
						.collect();
					let total: f64 = scores.iter().map(|s| s.exp()).sum();
					seen.extend((0..dim).map(|d| {
						let parts = scores.iter().zip(first..);
						parts
							.map(|(s, at)| s.exp() / total * values[at][kv * dim + d])
							.sum::<f64>()
					}));
				}
				let mut y = self.linear(&format!("{p}self_attn.o_proj"), &seen);
				let mut before = format!("{p}post_attention_layernorm");
				if self.shape.post_norms {
					y = self.norm(&before, &y);
					before = format!("{p}pre_feedforward_layernorm");
				}
				rows[t].iter_mut().zip(y).for_each(|(x, y)| *x += y);
				let x = self.norm(&before, &rows[t]);
				let gate = self.linear(&format!("{p}mlp.gate_proj"), &x);
				let up = self.linear(&format!("{p}mlp.up_proj"), &x);
				let inner: Vec<f64> = gate
					.iter()
					.zip(up)
					.map(|(g, up)| {
						let active = if self.gemma() {
							let u =
								(2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
							g / 2.0 * (1.0 + u.tanh())
						} else {
							g / (1.0 + (-g).exp())
						};
						active * up
					})
					.collect();
				let mut y = self.linear(&format!("{p}mlp.down_proj"), &inner);
				if self.shape.post_norms {
					y = self.norm(&format!("{p}post_feedforward_layernorm"), &y);
				}
				rows[t].iter_mut().zip(y).for_each(|(x, y)| *x += y);
			}
		}
		let head = if self.shape.tied {
			"model.embed_tokens"
		} else {
			"lm_head"
		};
		let cap = self.number("final_logit_softcapping");
		rows.iter()
			.flat_map(|x| self.linear(head, &self.norm("model.norm", x)))
			.map(|l| cap.map_or(l, |cap| cap * (l / cap).tanh()))
			.collect()
	}
}

/// Largest distance of the logits from their definition, over the largest logit.
fn distance(logits: &[f32], definition: &[f64]) -> f64 {
	let largest = definition.iter().fold(0f64, |most, l| most.max(l.abs()));
	let apart = logits
		.iter()
		.zip(definition)
		.map(|(a, b)| (f64::from(*a) - b).abs());
	apart.fold(0f64, f64::max) / largest
}

fn check(shape: &Shape) {
	let folder = tempfile::tempdir().unwrap();
	let (config, tensors) = (shape.config(), shape.tensors());
	fixtures::hub(folder.path(), &config, &shape.published());
	let definition = Definition {
		shape,
		tensors: &tensors,
		config,
	}
	.logits(&TOKENS);
	// Eight bits are coarse for rows of 24; fp32 is not.
	for (weights, most) in [(Weights::Fp32, 2e-5), (Weights::Int8, 0.15)] {
		let out = folder.path().join(weights.name());
		let canonical = Canonical::open(folder.path(), weights, None).unwrap();
		canonical.write(&out, &mut |_| ()).unwrap();
		let logits = Run::new(&out, shape, 2).step(0, &TOKENS);
		assert_eq!(logits.len(), TOKENS.len() * VOCABULARY);
		let apart = distance(&logits, &definition);
		assert!(
			apart < most,
			"{} {}: {apart}",
			shape.model_type,
			weights.name()
		);
		let mut run = Run::new(&out, shape, 1);
		let one_by_one: Vec<f32> = TOKENS
			.iter()
			.enumerate()
			.flat_map(|(position, token)| run.step(position, &[*token]))
			.collect();
		let bits = |logits: &[f32]| logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
		assert_eq!(
			bits(&logits),
			bits(&one_by_one),
			"{} {}",
			shape.model_type,
			weights.name()
		);
	}
	let apart = distance(
		&super::integer::logits(folder.path(), shape, &TOKENS),
		&definition,
	);
	println!("{} integer: {apart}", shape.model_type);
	assert!(apart < 0.15, "{} integer: {apart}", shape.model_type);
}

#[test]
fn llama() {
	check(&fixtures::llama());
}

#[test]
fn llama_without_groups_and_with_scaled_rotations() {
	let scaling = json!({
		"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
		"original_max_position_embeddings": 64,
	});
	check(&Shape {
		kv_heads: 4,
		tied: false,
		more: json!({ "rope_scaling": scaling }),
		..fixtures::llama()
	});
}

#[test]
fn qwen2_has_biases() {
	check(&Shape {
		model_type: "qwen2",
		biases: true,
		..fixtures::llama()
	});
}

#[test]
fn qwen3_norms_queries_and_keys() {
	check(&Shape {
		model_type: "qwen3",
		head_norms: true,
		tied: false,
		..fixtures::llama()
	});
}

#[test]
fn smollm3_has_layers_without_positions() {
	check(&Shape {
		model_type: "smollm3",
		more: json!({ "no_rope_layers": [1, 0] }),
		..fixtures::llama()
	});
}

#[test]
fn phi3_has_joined_weights_and_heads_turned_in_part() {
	let phi3 = || Shape {
		model_type: "phi3",
		..fixtures::llama()
	};
	check(&phi3());
	check(&Shape {
		biases: false,
		head_dim: 10,
		tied: false,
		more: json!({
			"partial_rotary_factor": 0.6, "original_max_position_embeddings": 64,
			"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.0, 1.0], "long_factor": [1.5, 2.0, 4.5]},
		}),
		..phi3()
	});
}

#[test]
fn gemma_has_long_heads_and_scaled_embeddings() {
	check(&Shape {
		model_type: "gemma",
		heads: 2,
		kv_heads: 1,
		head_dim: 160,
		..fixtures::llama()
	});
}

#[test]
fn gemma2_has_caps_and_windows() {
	check(&Shape {
		model_type: "gemma2",
		post_norms: true,
		more: json!({
			"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 9,
			"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"],
			"hidden_activation": "gelu_pytorch_tanh",
		}),
		..fixtures::llama()
	});
}

#[test]
fn gemma3_has_two_rotations() {
	check(&Shape {
		model_type: "gemma3_text",
		head_norms: true,
		post_norms: true,
		more: json!({
			"query_pre_attn_scalar": 6, "sliding_window": 4, "rope_local_base_freq": 100.0,
			"layer_types": ["sliding_attention", "full_attention"],
		}),
		..fixtures::llama()
	});
}

/// So do files of the architectures whose weights are joined, or some of whose layers turn nothing.
#[test]
fn gguf_files_of_other_architectures_give_the_bytes_of_the_hub_s_folders() {
	let smollm3 = Shape {
		model_type: "smollm3",
		..fixtures::llama()
	};
	let phi3 = Shape {
		model_type: "phi3",
		tied: false,
		more: json!({ "sliding_window": 5 }),
		..fixtures::llama()
	};
	for (shape, interleaved, window) in [(smollm3, 6, None), (phi3, 0, Some(5))] {
		let folder = tempfile::tempdir().unwrap();
		let published = shape.published();
		fixtures::hub(folder.path(), &shape.config(), &published);
		let file = folder.path().join("small.gguf");
		let mut entries = fixtures::entries_of(shape.model_type);
		let key = "phi3.attention.sliding_window".to_owned();
		entries.extend(window.map(|n| (key, fixtures::Entry::Count(n))));
		let entries: Vec<_> = entries.iter().map(|(k, e)| (&k[..], e)).collect();
		let tensors = fixtures::interleaved(&published, interleaved);
		std::fs::write(&file, fixtures::gguf_of(&entries, &tensors)).unwrap();
		for weights in [Weights::Fp32, Weights::Int8] {
			let outs = [folder.path(), &file].map(|source| {
				let from = if source.is_dir() { "hub" } else { "gguf" };
				let out = folder.path().join(format!("{from}-{}", weights.name()));
				let canonical = Canonical::open(source, weights, Some("small")).unwrap();
				canonical.write(&out, &mut |_| ()).unwrap();
				out
			});
			for name in ["model.onnx", "model.onnx_data"] {
				let [hub, gguf] = outs
					.each_ref()
					.map(|out| std::fs::read(out.join(name)).unwrap());
				assert!(
					hub == gguf,
					"{name} {} {}",
					shape.model_type,
					weights.name()
				);
			}
		}
	}
}

/// The same weights, under other names and with the halves of queries and keys interleaved, give the same bytes.
#[test]
fn a_gguf_file_gives_the_bytes_of_the_hub_s_folder() {
	let shape = fixtures::llama();
	let folder = tempfile::tempdir().unwrap();
	let tensors = shape.tensors();
	fixtures::hub(folder.path(), &shape.config(), &tensors);
	let file = folder.path().join("small.gguf");
	let tensors = fixtures::interleaved(&tensors, shape.head_dim);
	std::fs::write(&file, fixtures::gguf(&fixtures::llama_entries(), &tensors)).unwrap();
	for weights in [Weights::Fp32, Weights::Int8] {
		let outs = [folder.path(), &file].map(|source| {
			let from = if source.is_dir() { "hub" } else { "gguf" };
			let out = folder.path().join(format!("{from}-{}", weights.name()));
			let canonical = Canonical::open(source, weights, Some("small")).unwrap();
			canonical.write(&out, &mut |_| ()).unwrap();
			out
		});
		for name in ["model.onnx", "model.onnx_data"] {
			let [hub, gguf] = outs
				.each_ref()
				.map(|out| std::fs::read(out.join(name)).unwrap());
			assert!(hub == gguf, "{name} {}", weights.name());
		}
		let card = std::fs::read(outs[0].join("model.json")).unwrap();
		let card: Value = serde_json::from_slice(&card).unwrap();
		assert_eq!(card["license"], "Apache-2.0");
		let read = |name: &str| std::fs::read(outs[1].join(name)).unwrap();
		let tokenizer = tokenizers::Tokenizer::from_bytes(read("tokenizer.json")).unwrap();
		// "r" is the beginning of texts, and "ab" the only merge.
		let ids = |special| tokenizer.encode("abc", special).unwrap().get_ids().to_vec();
		assert_eq!((ids(false), ids(true)), (vec![18, 2], vec![17, 18, 2]));
	}
}
