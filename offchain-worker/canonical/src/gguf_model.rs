//! A model in a GGUF file.

use std::{
	collections::{BTreeMap, HashMap, HashSet},
	fs::File,
	io::{BufReader, Read, Seek},
	path::{Path, PathBuf},
};

use consilience_files::{check, turn_ends, Wanted};
use serde_json::{json, Map, Value as Json};

use crate::{
	card::Facts,
	gguf::Gguf,
	source::{context, finite, layers, Activation, Config, Local, Rope, Tensors},
	tokenizer, Error, Model,
};

/// Factors of the rotary embedding's wavelengths, which are no weight.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Architectures, the hub's names for them, and whether the two halves that a rotation turns are interleaved in the file.
const ARCHITECTURES: [(&str, &str, bool); 5] = [
	("llama", "LlamaForCausalLM", true),
	("qwen2", "Qwen2ForCausalLM", false),
	("qwen3", "Qwen3ForCausalLM", false),
	("phi3", "Phi3ForCausalLM", false),
	("smollm3", "SmolLM3ForCausalLM", true),
];

/// Of SmolLM3, each layer of this number turns nothing. The format has no key for it.
const STILL: usize = 4;

/// Rows of a tensor of the file, which are a tensor of their own elsewhere.
struct Part {
	whole: String,
	first: usize,
	rows: usize,
}

/// The file's tensors.
struct Weights<R> {
	path: PathBuf,
	gguf: Gguf<R>,
	/// Length of a head, where its halves are interleaved.
	interleaved: Option<usize>,
	/// Parts of joined tensors, by the names that other models store them under.
	parts: HashMap<String, Part>,
}

/// Weights that Phi 3 has joined.
fn parts<R>(gguf: &Gguf<R>, config: &Config) -> Result<HashMap<String, Part>, String> {
	let mut parts = HashMap::new();
	if config.architecture != "phi3" {
		return Ok(parts);
	}
	let (q, kv) = (
		config.heads * config.head_dim,
		config.kv_heads * config.head_dim,
	);
	let inner = config.intermediate;
	for layer in 0..config.layers {
		for (whole, of) in [
			(
				"attn_qkv",
				&[("attn_q", q), ("attn_k", kv), ("attn_v", kv)][..],
			),
			("ffn_up", &[("ffn_gate", inner), ("ffn_up", inner)]),
		] {
			let name = |part: &str| format!("blk.{layer}.{part}.weight");
			let Some(info) = gguf.tensors.get(&name(whole)) else {
				continue;
			};
			let all: usize = of.iter().map(|(_, rows)| rows).sum();
			if info.shape.len() != 2 || info.shape[0] != all {
				return Err(format!(
					"tensor {:?} is {:?}, and the file's keys mean {all} rows",
					name(whole),
					info.shape
				));
			}
			let mut first = 0;
			for (part, rows) in of {
				let whole = name(whole);
				let rows = *rows;
				parts.insert(name(part), Part { whole, first, rows });
				first += rows;
			}
		}
	}
	Ok(parts)
}

impl<R: Read + Seek> Tensors for Weights<R> {
	fn names(&self) -> Vec<String> {
		let wholes: HashSet<_> = self.parts.values().map(|part| &part.whole).collect();
		let names = self.gguf.tensors.keys();
		let names = names.filter(|n| *n != ROPE_FACTORS && !wholes.contains(n));
		names.chain(self.parts.keys()).cloned().collect()
	}

	fn shape(&self, name: &str) -> Option<Vec<usize>> {
		if let Some(part) = self.parts.get(name) {
			let whole = self.gguf.tensors.get(&part.whole)?;
			return Some(vec![part.rows, whole.shape[1]]);
		}
		self.gguf.tensors.get(name).map(|info| info.shape.clone())
	}

	fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
		let bad = Error::source(&self.path);
		let part = self.parts.get(name);
		let stored = part.map_or(name, |part| &part.whole);
		let mut values = self
			.gguf
			.tensor(stored)
			.map_err(|why| bad(format!("tensor {stored:?}: {why}")))?;
		if let (Some(part), Some(info)) = (part, self.gguf.tensors.get(stored)) {
			let columns = info.shape[1];
			values = values[part.first * columns..][..part.rows * columns].to_vec();
		}
		finite(name, &values).map_err(&bad)?;
		let turned = [
			".attn_q.weight",
			".attn_k.weight",
			".attn_q.bias",
			".attn_k.bias",
		];
		Ok(match self.interleaved {
			Some(dim) if turned.iter().any(|end| name.ends_with(end)) => {
				let row = match self.gguf.tensors.get(name).map(|info| &info.shape[..]) {
					Some([_, columns]) => *columns,
					_ => 1,
				};
				parted(&values, row.max(1), dim)
			}
			_ => values,
		})
	}
}

/// Rows of each head in the order that keeps the halves of a rotation apart: even ones first.
fn parted(values: &[f32], row: usize, dim: usize) -> Vec<f32> {
	let mut parted = Vec::with_capacity(values.len());
	for head in values.chunks_exact(row * dim) {
		for first in 0..2 {
			(head.chunks_exact(row).skip(first).step_by(2)).for_each(|r| parted.extend(r));
		}
	}
	parted
}

/// Refuses a file that is only a part of a model, or whose model is none that writes text.
fn whole<R: Read + Seek>(gguf: &Gguf<R>, architecture: &str) -> Result<(), String> {
	if let Some(parts) = gguf.count("split.count")?.filter(|n| *n > 1) {
		let part = gguf.count("split.no")?.unwrap_or(0) + 1;
		return Err(format!(
			"part {part} of {parts} of a model that was split: join them first, with llama.cpp's \
			 `llama-gguf-split --merge FIRST_PART OUT`"
		));
	}
	let key = format!("{architecture}.pooling_type");
	match gguf.count(&key)? {
		None | Some(0) => (),
		Some(4) => {
			return Err(format!(
				"{key} is 4: a model that ranks texts, and only models that write text can be converted"
			))
		}
		Some(n) => {
			return Err(format!(
				"{key} is {n}: a model that gives vectors of texts, and only models that write text can be converted: take its \
				 ONNX file, and `consilience model draft`"
			))
		}
	}
	let key = format!("{architecture}.attention.causal");
	if gguf.flag(&key)? == Some(false) {
		return Err(format!(
			"{key} is false: the model reads whole texts, and only models that write text can be converted"
		));
	}
	Ok(())
}

/// The configuration, and the architecture's name on the hub.
fn config<R: Read + Seek>(
	gguf: &mut Gguf<R>,
	chosen: Option<usize>,
) -> Result<(Config, &'static str, bool), String> {
	let architecture = gguf
		.text("general.architecture")?
		.unwrap_or_default()
		.to_owned();
	whole(gguf, &architecture)?;
	let known = ARCHITECTURES
		.iter()
		.find(|(name, ..)| *name == architecture);
	let Some((_, hub_name, interleaved)) = known else {
		return Err(match &architecture[..] {
			"gemma" | "gemma2" | "gemma3" => {
				"the tokenizer of a Gemma model cannot be taken from a GGUF file: convert its hub folder".into()
			}
			other => format!(
				"general.architecture is {other:?}; what can be converted from GGUF is llama, qwen2, qwen3, phi3 and \
				 smollm3"
			),
		});
	};
	let key = |key: &str| format!("{architecture}.{key}");
	let count = |name: &str| gguf.count(&key(name));
	let needed = |name: &str| count(name)?.ok_or_else(|| format!("{} is missing", key(name)));
	if count("expert_count")?.is_some_and(|n| n > 0) {
		return Err("a mixture of experts: its graph would depend on the input".into());
	}
	let heads = needed("attention.head_count")?;
	let hidden = needed("embedding_length")?;
	let head_dim = match count("attention.key_length")? {
		Some(dim) => dim,
		None => hidden.checked_div(heads).unwrap_or_default(),
	};
	for name in ["attention.value_length", "rope.dimension_count"] {
		if let Some(n) = count(name)?.filter(|n| *n != head_dim) {
			return Err(format!(
				"{} is {n}, and heads are {head_dim} long",
				key(name)
			));
		}
	}
	let float = |name: &str| gguf.float(&key(name));
	let scaling = gguf.text(&key("rope.scaling.type"))?.unwrap_or("none");
	let linear = match scaling {
		"none" => None,
		"linear" => Some(float("rope.scaling.factor")?.ok_or("rope.scaling.factor is missing")?),
		other => {
			return Err(format!(
				"rotary embeddings scaled by {other:?} are not known here"
			))
		}
	};
	let long = ["rope_factors_long.weight", "rope_factors_short.weight"];
	if let Some(name) = long.into_iter().find(|n| gguf.tensors.contains_key(*n)) {
		return Err(format!(
			"tensor {name:?}: rotary embeddings scaled by longrope are not read from a GGUF file: convert the model's hub folder"
		));
	}
	let layers = layers(needed("block_count")?)?;
	let context = context(Some(needed("context_length")?), chosen)?;
	// Zero stands for none.
	let window = count("attention.sliding_window")?.filter(|n| *n > 0 && *n < context);
	if let Some(n) = window.filter(|_| architecture != "phi3") {
		return Err(format!(
			"{} is {n}: which layers see only so many tokens is not known here: convert the model's hub folder",
			key("attention.sliding_window")
		));
	}
	let table = gguf.tensors.get("token_embd.weight");
	let mut config = Config {
		layers,
		hidden,
		intermediate: needed("feed_forward_length")?,
		heads,
		kv_heads: count("attention.head_count_kv")?.unwrap_or(heads),
		head_dim,
		vocabulary: table.map_or(0, |info| info.shape[0]),
		context,
		eps: float("attention.layer_norm_rms_epsilon")?
			.ok_or_else(|| format!("{} is missing", key("attention.layer_norm_rms_epsilon")))?,
		rope: Rope::new(float("rope.freq_base")?.unwrap_or(10_000.0)),
		turns: match &architecture[..] {
			"smollm3" => (1..=layers).map(|n| n % STILL != 0).collect(),
			_ => Vec::new(),
		},
		local: window.map(|window| Local {
			window,
			rope: None,
			layers: vec![true; layers],
		}),
		activation: Activation::Silu,
		attention_scale: 1.0 / (head_dim as f64).sqrt(),
		attention_cap: None,
		logits_cap: None,
		embedding_scale: None,
		post_norms: false,
		head_norms: architecture == "qwen3",
		tied: !gguf.tensors.contains_key("output.weight"),
		architecture,
	};
	config.check()?;
	if let Some(factor) = linear {
		config.rope.factors = vec![factor; head_dim / 2];
	} else if gguf.tensors.contains_key(ROPE_FACTORS) {
		let factors = gguf.tensor(ROPE_FACTORS)?;
		config.rope.factors = factors.into_iter().map(f64::from).collect();
	}
	config.check()?;
	Ok((config, hub_name, *interleaved))
}

/// Reads a file.
pub(crate) fn open(path: &Path, context: Option<usize>) -> Result<Model, Error> {
	check(path, Wanted::Gguf).map_err(Error::source(path))?;
	let file = File::open(path).map_err(|e| Error::source(path)(e.to_string()))?;
	read(path, BufReader::new(file), context)
}

/// Reads what is in a file.
pub(crate) fn read<R: Read + Seek + 'static>(
	path: &Path,
	reader: R,
	context: Option<usize>,
) -> Result<Model, Error> {
	let bad = Error::source(path);
	let mut gguf = Gguf::read(reader).map_err(&bad)?;
	let (config, hub_name, interleaved) = config(&mut gguf, context).map_err(&bad)?;
	let parts = parts(&gguf, &config).map_err(&bad)?;
	let files = files(&gguf, &config, hub_name).map_err(&bad)?;
	let mut facts = facts(&gguf).map_err(&bad)?;
	// People name files with more care than keys.
	facts.title = path
		.file_stem()
		.map(|stem| stem.to_string_lossy().into_owned());
	Ok(Model {
		tensors: Box::new(Weights {
			path: path.into(),
			interleaved: interleaved.then_some(config.head_dim),
			parts,
			gguf,
		}),
		config,
		facts,
		files,
	})
}

/// The text of a token that a key names.
fn token<R: Read + Seek>(gguf: &Gguf<R>, key: &str) -> Result<Option<(usize, String)>, String> {
	let Some(id) = gguf.count(&format!("tokenizer.ggml.{key}_token_id"))? else {
		return Ok(None);
	};
	let tokens = gguf.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
	let text = tokens
		.get(id)
		.ok_or_else(|| format!("{key}_token_id {id} is no token"))?;
	Ok(Some((id, text.clone())))
}

/// Every token that ends an answer: those that the file declares, and those with which its template ends a turn.
fn ends<R: Read + Seek>(gguf: &Gguf<R>) -> Result<Vec<usize>, String> {
	let mut ends = Vec::new();
	for key in ["eos", "eot", "eom"] {
		ends.extend(token(gguf, key)?.map(|(id, _)| id));
	}
	let template = gguf.text("tokenizer.chat_template")?.unwrap_or_default();
	let tokens = gguf.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
	for end in turn_ends(template) {
		ends.extend(tokens.iter().position(|token| token == end));
	}
	let mut seen = HashSet::new();
	ends.retain(|id| seen.insert(*id));
	Ok(ends)
}

/// What the card says beyond the graph.
fn facts<R: Read + Seek>(gguf: &Gguf<R>) -> Result<Facts, String> {
	let ends = ends(gguf)?;
	let mut details = Map::new();
	let template = gguf.text("tokenizer.chat_template")?;
	let text = |key| token(gguf, key).map(|t| t.map_or(Json::Null, |(_, text)| text.into()));
	details.insert("chat_template".into(), template.into());
	details.insert("bos_token".into(), text("bos")?);
	details.insert("eos_token".into(), text("eos")?);
	details.insert("eos_token_ids".into(), ends.into());
	Ok(Facts {
		title: None,
		origin: gguf.text("general.name")?.map(Into::into),
		license: gguf.text("general.license")?.map(Into::into),
		chat: template.is_some(),
		details,
	})
}

/// The tokenizer, and the files that people and libraries expect beside a hub model.
fn files<R: Read + Seek>(
	gguf: &Gguf<R>,
	config: &Config,
	hub_name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
	let [bos, eos, pad] = ["bos", "eos", "padding"].map(|key| token(gguf, key));
	let (bos, eos, pad) = (bos?, eos?, pad?);
	let id = |token: &Option<(usize, String)>| token.as_ref().map(|(id, _)| *id);
	let text = |token: &Option<(usize, String)>| token.as_ref().map(|(_, text)| text.clone());
	let tokenizer_config = json!({
		"tokenizer_class": "PreTrainedTokenizerFast",
		"clean_up_tokenization_spaces": false,
		"model_max_length": config.context,
		"bos_token": text(&bos),
		"eos_token": text(&eos),
		"pad_token": text(&pad),
		"chat_template": gguf.text("tokenizer.chat_template")?,
	});
	let ends = match &ends(gguf)?[..] {
		[] => Json::Null,
		[one] => json!(one),
		several => json!(several),
	};
	let generation_config = json!({
		"bos_token_id": id(&bos),
		"eos_token_id": ends,
		"pad_token_id": id(&pad),
	});
	let mut model_config = json!({
		"architectures": [hub_name],
		"model_type": config.architecture,
		"hidden_act": "silu",
		"hidden_size": config.hidden,
		"intermediate_size": config.intermediate,
		"num_hidden_layers": config.layers,
		"num_attention_heads": config.heads,
		"num_key_value_heads": config.kv_heads,
		"head_dim": config.head_dim,
		"max_position_embeddings": config.context,
		"rms_norm_eps": config.eps,
		"rope_theta": config.rope.theta,
		"tie_word_embeddings": config.tied,
		"vocab_size": config.vocabulary,
		"bos_token_id": id(&bos),
		"eos_token_id": id(&eos),
		"pad_token_id": id(&pad),
	});
	if !config.turns.is_empty() {
		let turns: Vec<_> = config.turns.iter().map(|t| u8::from(*t)).collect();
		model_config["no_rope_layers"] = json!(turns);
	}
	if let Some(local) = &config.local {
		model_config["sliding_window"] = json!(local.window);
	}
	let mut files = BTreeMap::from([(
		"tokenizer.json".to_owned(),
		tokenizer::json(gguf)?.into_bytes(),
	)]);
	for (name, value) in [
		("tokenizer_config.json", tokenizer_config),
		("generation_config.json", generation_config),
		("config.json", model_config),
	] {
		let text = serde_json::to_string_pretty(&value).map_err(|e| e.to_string())?;
		files.insert(name.into(), format!("{text}\n").into_bytes());
	}
	Ok(files)
}
