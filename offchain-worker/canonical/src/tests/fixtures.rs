//! Small models of random weights, in both formats.

use std::{
	collections::{BTreeMap, HashMap},
	path::Path,
};

use safetensors::{tensor::TensorView, Dtype};
use serde_json::{json, Value};

/// Tensors by the hub's names: shape and values.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What the fixtures vary.
pub(super) struct Shape {
	pub(super) model_type: &'static str,
	pub(super) heads: usize,
	pub(super) kv_heads: usize,
	pub(super) head_dim: usize,
	pub(super) tied: bool,
	/// Biases of queries, keys and values.
	pub(super) biases: bool,
	pub(super) head_norms: bool,
	pub(super) post_norms: bool,
	/// Keys of config.json beyond those that every model has.
	pub(super) more: Value,
}

pub(super) const LAYERS: usize = 2;
pub(super) const HIDDEN: usize = 24;
pub(super) const INNER: usize = 40;
pub(super) const VOCABULARY: usize = 19;
pub(super) const CONTEXT: usize = 130;
pub(super) const EPS: f64 = 1e-5;
pub(super) const THETA: f64 = 10_000.0;

/// Numbers that look random.
pub(super) struct Noise(pub(super) u64);

impl Noise {
	/// From -1 to 1.
	pub(super) fn next(&mut self) -> f32 {
		self.0 = self
			.0
			.wrapping_mul(6364136223846793005)
			.wrapping_add(1442695040888963407);
		(self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
	}
}

impl Shape {
	pub(super) fn config(&self) -> Value {
		let mut config = json!({
			"model_type": self.model_type,
			"hidden_size": HIDDEN,
			"intermediate_size": INNER,
			"num_hidden_layers": LAYERS,
			"num_attention_heads": self.heads,
			"num_key_value_heads": self.kv_heads,
			"head_dim": self.head_dim,
			"vocab_size": VOCABULARY,
			"max_position_embeddings": CONTEXT,
			"rms_norm_eps": EPS,
			"rope_theta": THETA,
			"tie_word_embeddings": self.tied,
			"eos_token_id": 2,
		});
		let more = self.more.as_object().cloned().unwrap_or_default();
		config.as_object_mut().unwrap().extend(more);
		config
	}

	/// Reads back a configuration that [`Self::config`] wrote.
	pub(super) fn of(config: &Value) -> Self {
		let number = |key: &str| config[key].as_u64().unwrap() as usize;
		let model_type: &'static str = config["model_type"].as_str().unwrap().to_owned().leak();
		Self {
			model_type,
			heads: number("num_attention_heads"),
			kv_heads: number("num_key_value_heads"),
			head_dim: number("head_dim"),
			tied: config["tie_word_embeddings"] == true,
			biases: model_type == "qwen2",
			head_norms: ["qwen3", "gemma3_text"].contains(&model_type),
			post_norms: ["gemma2", "gemma3_text"].contains(&model_type),
			more: json!({}),
		}
	}

	/// Tensors as the hub has them: those of Phi 3 are joined.
	pub(super) fn published(&self) -> Tensors {
		let mut tensors = self.tensors();
		if self.model_type != "phi3" {
			return tensors;
		}
		for layer in 0..LAYERS {
			for (whole, parts) in [
				(
					"self_attn.qkv_proj",
					&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
				),
				("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"]),
			] {
				let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
				let (mut rows, mut values) = (0, Vec::new());
				for part in parts {
					let (shape, part) = tensors.remove(&name(part)).unwrap();
					rows += shape[0];
					values.extend(part);
				}
				tensors.insert(name(whole), (vec![rows, HIDDEN], values));
			}
		}
		tensors
	}

	pub(super) fn tensors(&self) -> Tensors {
		let mut noise = Noise(7);
		let mut tensors = Tensors::new();
		let mut add = |name: String, shape: Vec<usize>, size: f32, middle: f32| {
			let count = shape.iter().product();
			let values = (0..count).map(|_| middle + size * noise.next()).collect();
			tensors.insert(name, (shape, values));
		};
		let gemma = self.model_type.starts_with("gemma");
		let norm = if gemma { 0.0 } else { 1.0 };
		let wide = (3.0 / HIDDEN as f32).sqrt();
		add(
			"model.embed_tokens.weight".into(),
			vec![VOCABULARY, HIDDEN],
			0.8,
			0.0,
		);
		add("model.norm.weight".into(), vec![HIDDEN], 0.3, norm);
		if !self.tied {
			add("lm_head.weight".into(), vec![VOCABULARY, HIDDEN], wide, 0.0);
		}
		for layer in 0..LAYERS {
			let p = format!("model.layers.{layer}.");
			let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
			for (part, rows, columns) in [
				("self_attn.q_proj", q, HIDDEN),
				("self_attn.k_proj", kv, HIDDEN),
				("self_attn.v_proj", kv, HIDDEN),
				("self_attn.o_proj", HIDDEN, q),
				("mlp.gate_proj", INNER, HIDDEN),
				("mlp.up_proj", INNER, HIDDEN),
				("mlp.down_proj", HIDDEN, INNER),
			] {
				let size = (3.0 / columns as f32).sqrt();
				add(format!("{p}{part}.weight"), vec![rows, columns], size, 0.0);
				if self.biases && part.starts_with("self_attn") && !part.contains("o_proj") {
					add(format!("{p}{part}.bias"), vec![rows], 0.5, 0.0);
				}
			}
			let mut norms = vec![
				("input_layernorm", HIDDEN),
				("post_attention_layernorm", HIDDEN),
			];
			if self.post_norms {
				norms.push(("pre_feedforward_layernorm", HIDDEN));
				norms.push(("post_feedforward_layernorm", HIDDEN));
			}
			if self.head_norms {
				norms.push(("self_attn.q_norm", self.head_dim));
				norms.push(("self_attn.k_norm", self.head_dim));
			}
			for (part, length) in norms {
				add(format!("{p}{part}.weight"), vec![length], 0.3, norm);
			}
		}
		tensors
	}
}

/// One file of safetensors.
pub(super) fn safetensors(tensors: &Tensors) -> Vec<u8> {
	let bytes: HashMap<_, Vec<u8>> = tensors
		.iter()
		.map(|(name, (_, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
		.collect();
	let views = tensors.iter().map(|(name, (shape, _))| {
		(
			name,
			TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap(),
		)
	});
	safetensors::serialize(views, None).unwrap()
}

/// A folder as the hub has it.
pub(super) fn hub(folder: &Path, config: &Value, tensors: &Tensors) {
	let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
	write("config.json", config.to_string().as_bytes());
	write("tokenizer.json", b"{}");
	write(
		"tokenizer_config.json",
		br#"{"eos_token": "</s>", "chat_template": "x"}"#,
	);
	write(
		"README.md",
		b"---\nlanguage: en\nlicense: apache-2.0\n---\nA model.\n",
	);
	write("model.safetensors", &safetensors(tensors));
}

/// A GGUF value.
pub(super) enum Entry {
	Count(u32),
	Float(f32),
	Flag(bool),
	Text(String),
	Texts(Vec<String>),
	Numbers(Vec<i32>),
}

fn text(out: &mut Vec<u8>, text: &str) {
	out.extend((text.len() as u64).to_le_bytes());
	out.extend(text.as_bytes());
}

/// A GGUF file of float32 tensors, which have GGUF's names.
pub(super) fn gguf(entries: &[(&str, Entry)], tensors: &Tensors) -> Vec<u8> {
	let entries: Vec<_> = entries.iter().map(|(key, entry)| (*key, entry)).collect();
	gguf_of(&entries, tensors)
}

/// The same, of keys that are lent.
pub(super) fn gguf_of(entries: &[(&str, &Entry)], tensors: &Tensors) -> Vec<u8> {
	let mut out = b"GGUF".to_vec();
	out.extend(3u32.to_le_bytes());
	out.extend((tensors.len() as u64).to_le_bytes());
	out.extend((entries.len() as u64).to_le_bytes());
	for (key, entry) in entries {
		text(&mut out, key);
		let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
		let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
			out.extend(9u32.to_le_bytes());
			out.extend(kind.to_le_bytes());
			out.extend((count as u64).to_le_bytes());
		};
		match entry {
			Entry::Count(n) => {
				kind(&mut out, 4);
				out.extend(n.to_le_bytes());
			}
			Entry::Float(n) => {
				kind(&mut out, 6);
				out.extend(n.to_le_bytes());
			}
			Entry::Flag(b) => {
				kind(&mut out, 7);
				out.push(u8::from(*b));
			}
			Entry::Text(t) => {
				kind(&mut out, 8);
				text(&mut out, t);
			}
			Entry::Texts(texts) => {
				array(&mut out, 8, texts.len());
				texts.iter().for_each(|t| text(&mut out, t));
			}
			Entry::Numbers(numbers) => {
				array(&mut out, 5, numbers.len());
				numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
			}
		}
	}
	let mut data = Vec::new();
	for (name, (shape, values)) in tensors {
		text(&mut out, name);
		out.extend((shape.len() as u32).to_le_bytes());
		shape
			.iter()
			.rev()
			.for_each(|n| out.extend((*n as u64).to_le_bytes()));
		out.extend(0u32.to_le_bytes());
		data.resize(data.len().next_multiple_of(32), 0);
		out.extend((data.len() as u64).to_le_bytes());
		data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
	}
	out.resize(out.len().next_multiple_of(32), 0);
	out.extend(data);
	out
}

/// A Llama model with the tokens a to s, two of which merge.
pub(super) fn llama() -> Shape {
	Shape {
		model_type: "llama",
		heads: 4,
		kv_heads: 2,
		head_dim: 6,
		tied: true,
		biases: false,
		head_norms: false,
		post_norms: false,
		more: json!({}),
	}
}

/// Keys of that model's GGUF file.
pub(super) fn llama_entries() -> Vec<(&'static str, Entry)> {
	let mut tokens: Vec<String> = ('a'..='r').map(String::from).collect();
	tokens.push("ab".into());
	vec![
		("general.architecture", Entry::Text("llama".into())),
		("general.license", Entry::Text("apache-2.0".into())),
		("llama.block_count", Entry::Count(LAYERS as u32)),
		("llama.embedding_length", Entry::Count(HIDDEN as u32)),
		("llama.feed_forward_length", Entry::Count(INNER as u32)),
		("llama.attention.head_count", Entry::Count(4)),
		("llama.attention.head_count_kv", Entry::Count(2)),
		("llama.context_length", Entry::Count(CONTEXT as u32)),
		(
			"llama.attention.layer_norm_rms_epsilon",
			Entry::Float(EPS as f32),
		),
		("llama.rope.freq_base", Entry::Float(THETA as f32)),
		("tokenizer.ggml.model", Entry::Text("gpt2".into())),
		("tokenizer.ggml.pre", Entry::Text("gpt-2".into())),
		("tokenizer.ggml.add_bos_token", Entry::Flag(true)),
		(
			"tokenizer.ggml.token_type",
			Entry::Numbers(vec![1; tokens.len()]),
		),
		("tokenizer.ggml.tokens", Entry::Texts(tokens)),
		("tokenizer.ggml.merges", Entry::Texts(vec!["a b".into()])),
		("tokenizer.ggml.bos_token_id", Entry::Count(17)),
		("tokenizer.ggml.eos_token_id", Entry::Count(2)),
	]
}

/// Those keys for another architecture.
pub(super) fn entries_of(architecture: &str) -> Vec<(String, Entry)> {
	let renamed = llama_entries().into_iter().map(|(key, entry)| match entry {
		Entry::Text(text) if text == "llama" => (key.to_owned(), Entry::Text(architecture.into())),
		entry => (
			key.replacen("llama.", &format!("{architecture}."), 1),
			entry,
		),
	});
	renamed.collect()
}

/// A hub model's tensors as a GGUF file of Llama has them: other names, the halves of queries and keys interleaved where heads
/// are so long.
pub(super) fn interleaved(tensors: &Tensors, dim: usize) -> Tensors {
	let names = [
		("model.embed_tokens", "token_embd"),
		("model.norm", "output_norm"),
		("lm_head", "output"),
		("model.layers.", "blk."),
		("self_attn.qkv_proj", "attn_qkv"),
		("mlp.gate_up_proj", "ffn_up"),
		("self_attn.q_proj", "attn_q"),
		("self_attn.k_proj", "attn_k"),
		("self_attn.v_proj", "attn_v"),
		("self_attn.o_proj", "attn_output"),
		("mlp.gate_proj", "ffn_gate"),
		("mlp.up_proj", "ffn_up"),
		("mlp.down_proj", "ffn_down"),
		("input_layernorm", "attn_norm"),
		("post_attention_layernorm", "ffn_norm"),
	];
	tensors
		.iter()
		.map(|(name, (shape, values))| {
			let name = names
				.iter()
				.fold(name.clone(), |name, (hub, gguf)| name.replace(hub, gguf));
			let mut values = values.clone();
			if dim > 0 && (name.contains("attn_q.") || name.contains("attn_k.")) {
				let row = shape[1];
				let from = values.clone();
				for (r, target) in values.chunks_exact_mut(row).enumerate() {
					let (head, within) = (r / dim, r % dim);
					let source = head * dim + within / 2 + (within % 2) * (dim / 2);
					target.copy_from_slice(&from[source * row..][..row]);
				}
			}
			(name, (shape.clone(), values))
		})
		.collect()
}
