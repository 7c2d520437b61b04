//! A model in a folder as the hub has it: `config.json`, `*.safetensors`, and a tokenizer.

use std::{
	collections::{BTreeMap, BTreeSet, HashMap},
	fs,
	io::{Read, Seek, SeekFrom},
	path::{Component, Path, PathBuf},
};

use consilience_files::{check, may_follow, Wanted};
use half::{bf16, f16};
use safetensors::{tensor::Metadata, Dtype};
use serde_json::{Map, Value};

use crate::{
	card::Facts,
	source::{
		context, finite, is_turned, layers, spread, Activation, Config, Local, Rope, Tensors,
	},
	Error, Model,
};

/// Most bytes of a safetensors file's header.
const MAX_HEADER: u64 = 100 << 20;
/// Most bytes of a file that is carried along.
const MAX_FILE: u64 = 256 << 20;

/// What is carried along where it is there; the first must be.
const CARRIED: [&str; 6] = [
	"tokenizer.json",
	"tokenizer_config.json",
	"special_tokens_map.json",
	"generation_config.json",
	"chat_template.jinja",
	"config.json",
];

/// A tensor's place.
struct Place {
	file: PathBuf,
	start: u64,
	dtype: Dtype,
	shape: Vec<usize>,
}

/// The folder's tensors, by GGUF's names.
struct Weights {
	folder: PathBuf,
	places: HashMap<String, Place>,
	/// Norms multiply by one more than is stored.
	one_more: bool,
	/// Length of a head, and how many of its elements are turned, where that is not all.
	in_part: Option<(usize, usize)>,
}

impl Tensors for Weights {
	fn names(&self) -> Vec<String> {
		self.places.keys().cloned().collect()
	}

	fn shape(&self, name: &str) -> Option<Vec<usize>> {
		self.places.get(name).map(|p| p.shape.clone())
	}

	fn read(&mut self, name: &str) -> Result<Vec<f32>, Error> {
		let missing = Error::source(&self.folder);
		let place = (self.places.get(name))
			.ok_or_else(|| missing(format!("tensor {name:?} is missing")))?;
		let bad = Error::source(&place.file);
		let mut values = place
			.read()
			.map_err(|why| bad(format!("tensor {name:?}: {why}")))?;
		finite(name, &values).map_err(&bad)?;
		if self.one_more && name.ends_with("_norm.weight") {
			values.iter_mut().for_each(|v| *v += 1.0);
		}
		if let Some((head_dim, turned)) = self.in_part.filter(|_| is_turned(name)) {
			let row = match place.shape[..] {
				[_, columns] => columns,
				_ => 1,
			};
			values = spread(&values, row.max(1), head_dim, turned);
		}
		Ok(values)
	}
}

impl Place {
	/// Some of its rows.
	fn rows(&self, first: usize, count: usize) -> Self {
		let mut shape = self.shape.clone();
		shape[0] = count;
		let row: usize = shape[1..].iter().product();
		Self {
			file: self.file.clone(),
			start: self.start + (first * row * self.dtype.bitsize() / 8) as u64,
			dtype: self.dtype,
			shape,
		}
	}

	fn read(&self) -> Result<Vec<f32>, String> {
		let failed = |e: std::io::Error| e.to_string();
		let mut file = fs::File::open(&self.file).map_err(failed)?;
		file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
		// The header was checked against the file's length: this is no more than the file holds.
		let elements: usize = self.shape.iter().product();
		let mut bytes = vec![0; elements * self.dtype.bitsize() / 8];
		file.read_exact(&mut bytes).map_err(failed)?;
		let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
		Ok(match self.dtype {
			Dtype::F32 => bytes
				.chunks_exact(4)
				.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
				.collect(),
			Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
			Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
			other => return Err(format!("element type {other:?} is not F32, F16 or BF16")),
		})
	}
}

/// GGUF's name of a hub's tensor; `None` for what no graph needs. A name that is not known stays as it is.
fn renamed(name: &str, post_norms: bool, tied: bool) -> Option<String> {
	let known = match name.strip_prefix("model.").unwrap_or(name) {
		"embed_tokens.weight" => "token_embd.weight",
		"norm.weight" => "output_norm.weight",
		"lm_head.weight" if tied => return None,
		"lm_head.weight" => "output.weight",
		rest if rest.ends_with("rotary_emb.inv_freq") => return None,
		rest => {
			let layer = rest.strip_prefix("layers.").and_then(|rest| {
				let (layer, part) = rest.split_once('.')?;
				let (part, kind) = part.rsplit_once('.')?;
				let part = match part {
					"self_attn.q_proj" => "attn_q",
					"self_attn.k_proj" => "attn_k",
					"self_attn.v_proj" => "attn_v",
					"self_attn.o_proj" => "attn_output",
					"self_attn.q_norm" => "attn_q_norm",
					"self_attn.k_norm" => "attn_k_norm",
					"mlp.gate_proj" => "ffn_gate",
					"mlp.up_proj" => "ffn_up",
					"mlp.down_proj" => "ffn_down",
					"input_layernorm" => "attn_norm",
					"post_attention_layernorm" if post_norms => "post_attention_norm",
					"post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
					"post_feedforward_layernorm" => "post_ffw_norm",
					_ => return None,
				};
				Some(format!("blk.{layer}.{part}.{kind}"))
			});
			return Some(layer.unwrap_or_else(|| name.into()));
		}
	};
	Some(known.into())
}

/// Weights that Phi 3 has joined: the names that they have apart, and the rows of each.
fn joined(config: &Config) -> [(&'static str, Vec<(&'static str, usize)>); 2] {
	let (q, kv) = (
		config.heads * config.head_dim,
		config.kv_heads * config.head_dim,
	);
	let inner = config.intermediate;
	[
		(
			".self_attn.qkv_proj.",
			vec![
				(".self_attn.q_proj.", q),
				(".self_attn.k_proj.", kv),
				(".self_attn.v_proj.", kv),
			],
		),
		(
			".mlp.gate_up_proj.",
			vec![(".mlp.gate_proj.", inner), (".mlp.up_proj.", inner)],
		),
	]
}

/// A tensor, or the tensors that it is joined from.
fn apart(name: String, place: Place, config: &Config) -> Result<Vec<(String, Place)>, String> {
	let mut joined = joined(config).into_iter();
	let found = joined.find(|(whole, _)| config.architecture == "phi3" && name.contains(whole));
	let Some((whole, parts)) = found else {
		return Ok(vec![(name, place)]);
	};
	let rows: usize = parts.iter().map(|(_, rows)| rows).sum();
	if place.shape.first() != Some(&rows) {
		return Err(format!(
			"tensor {name:?} is {:?}, and config.json means {rows} rows",
			place.shape
		));
	}
	let mut first = 0;
	let apart = parts.into_iter().map(|(part, rows)| {
		first += rows;
		(name.replace(whole, part), place.rows(first - rows, rows))
	});
	Ok(apart.collect())
}

/// Checks that a file of the folder is in it, or where the hub's cache keeps it.
fn stays(folder: &Path, path: &Path) -> Result<(), String> {
	let real = |path: &Path| path.canonicalize().map_err(|e| e.to_string());
	if may_follow(&real(folder)?, &real(path)?) {
		return Ok(());
	}
	Err("a link that leads out of the model's folder: copy the file itself there".into())
}

/// Tensors of one file, with the hub's names.
fn header(folder: &Path, name: &str) -> Result<Vec<(String, Place)>, String> {
	let failed = |e: std::io::Error| e.to_string();
	let path = &folder.join(name);
	if !path.is_file() {
		return Err("the file is missing: download all parts of the weights".into());
	}
	stays(folder, path)?;
	check(path, Wanted::Safetensors)?;
	let mut file = fs::File::open(path).map_err(failed)?;
	let length = file.metadata().map_err(failed)?.len();
	let mut size = [0; 8];
	file.read_exact(&mut size).map_err(failed)?;
	let size = u64::from_le_bytes(size);
	if size > MAX_HEADER || size > length.saturating_sub(8) {
		return Err(format!("a header of {size} bytes is too long"));
	}
	let mut bytes = vec![0; size as usize];
	file.read_exact(&mut bytes).map_err(failed)?;
	// Reading it checks that places follow each other and are as long as their shapes say.
	let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
	let start = size + 8;
	if metadata.data_len() as u64 != length - start {
		return Err(format!(
			"{} bytes of tensors, and the header speaks of {}: is it cut off?",
			length - start,
			metadata.data_len()
		));
	}
	let place = |name: String, info: &safetensors::tensor::TensorInfo| {
		let place = Place {
			file: path.into(),
			start: start + info.data_offsets.0 as u64,
			dtype: info.dtype,
			shape: info.shape.clone(),
		};
		(name, place)
	};
	Ok(metadata
		.tensors()
		.into_iter()
		.map(|(name, info)| place(name, info))
		.collect())
}

/// The files that hold the weights: those of the index, or the one of the usual name, or all.
fn weight_files(folder: &Path) -> Result<BTreeSet<String>, String> {
	let index = object(folder, "model.safetensors.index.json")?;
	let mut files = BTreeSet::new();
	if let Some(map) = index.get("weight_map").and_then(Value::as_object) {
		for file in map.values() {
			let name = file.as_str().unwrap_or_default();
			let mut parts = Path::new(name).components();
			if !matches!(
				(parts.next(), parts.next()),
				(Some(Component::Normal(_)), None)
			) {
				return Err(format!(
					"model.safetensors.index.json: {name:?} is no file of the folder"
				));
			}
			files.insert(name.into());
		}
	} else if folder.join("model.safetensors").is_file() {
		files.insert("model.safetensors".into());
	} else {
		let entries = fs::read_dir(folder).map_err(|e| e.to_string())?;
		let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
		files.extend(names.filter(|n| n.ends_with(".safetensors")));
	}
	if files.is_empty() {
		let checkpoint = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
		return Err(if checkpoint.iter().any(|f| folder.join(f).is_file()) {
			"no *.safetensors is there, only pytorch_model.bin, which may run code when it is read: take a revision with \
			 safetensors, or save the model again with transformers"
				.into()
		} else {
			"no *.safetensors is there".into()
		});
	}
	Ok(files)
}

/// A file's bytes, `None` if it is not there.
fn bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, String> {
	let path = folder.join(name);
	let Ok(metadata) = fs::metadata(&path) else {
		return Ok(None);
	};
	if !metadata.is_file() || metadata.len() > MAX_FILE {
		return Err(format!("{name}: not a file of at most {MAX_FILE} bytes"));
	}
	let wanted = if name.ends_with(".json") {
		Wanted::Json
	} else {
		Wanted::Text
	};
	let fine = stays(folder, &path).and_then(|()| check(&path, wanted));
	fine.map_err(|why| format!("{name}: {why}"))?;
	fs::read(&path)
		.map(Some)
		.map_err(|e| format!("{name}: {e}"))
}

/// A JSON object, empty if it is not there.
fn object(folder: &Path, name: &str) -> Result<Map<String, Value>, String> {
	match bytes(folder, name)? {
		Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}")),
		None => Ok(Map::new()),
	}
}

/// Whether a folder looks like the hub's.
pub(crate) fn is_one(folder: &Path) -> bool {
	folder.join("config.json").is_file()
}

/// Reads a folder.
pub(crate) fn open(folder: &Path, context: Option<usize>) -> Result<Model, Error> {
	read(folder, context).map_err(Error::source(folder))
}

fn read(folder: &Path, context: Option<usize>) -> Result<Model, String> {
	let described = object(folder, "config.json")?;
	let config = config(&described, context).map_err(|why| format!("config.json: {why}"))?;
	let mut places = HashMap::new();
	for file in weight_files(folder)? {
		let tensors = header(folder, &file).map_err(|why| format!("{file}: {why}"))?;
		let mut all = Vec::new();
		for (name, place) in tensors {
			all.extend(apart(name, place, &config)?);
		}
		for (name, place) in all {
			let Some(renamed) = renamed(&name, config.post_norms, config.tied) else {
				continue;
			};
			if places.insert(renamed, place).is_some() {
				return Err(format!("tensor {name:?} is there twice"));
			}
		}
	}
	let mut files = BTreeMap::new();
	for name in CARRIED {
		if let Some(bytes) = bytes(folder, name)? {
			files.insert(name.to_owned(), bytes);
		}
	}
	if !files.contains_key(CARRIED[0]) {
		return Err(format!(
			"{} is missing: make it with transformers, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
			CARRIED[0]
		));
	}
	if !config.tied && !places.contains_key("output.weight") {
		return Err(
			"lm_head.weight is missing, and config.json does not say that the embeddings serve as the head \
			 (tie_word_embeddings is not true): the weights are not whole, or config.json is wrong"
				.into(),
		);
	}
	let tokenizer = object(folder, "tokenizer_config.json")?;
	let chat = files.contains_key("chat_template.jinja")
		|| tokenizer.get("chat_template").is_some_and(|t| !t.is_null());
	let name = folder.canonicalize().ok();
	let name = name.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
	Ok(Model {
		facts: Facts {
			title: name,
			origin: None,
			license: license(folder),
			chat,
			// The rest is in the files that are carried along, and import reads it there.
			details: Map::new(),
		},
		tensors: Box::new(Weights {
			folder: folder.into(),
			places,
			one_more: config.architecture.starts_with("gemma"),
			in_part: config.rope.turned.map(|turned| (config.head_dim, turned)),
		}),
		config,
		files,
	})
}

/// The licence that the head of the folder's README names.
fn license(folder: &Path) -> Option<String> {
	let text = String::from_utf8(bytes(folder, "README.md").ok()??).ok()?;
	let head = text.strip_prefix("---")?.split("\n---").next()?;
	let line = head
		.lines()
		.find_map(|line| line.strip_prefix("license:"))?;
	Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

/// A configuration's numbers.
struct Numbers<'m>(&'m Map<String, Value>);

impl Numbers<'_> {
	fn get(&self, key: &str) -> Option<&Value> {
		self.0.get(key).filter(|v| !v.is_null())
	}

	fn count(&self, key: &str) -> Result<Option<usize>, String> {
		let count = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
		let value = self.get(key);
		value
			.map(|v| count(v).ok_or_else(|| format!("{key} is no count")))
			.transpose()
	}

	fn float(&self, key: &str) -> Result<Option<f64>, String> {
		let value = self.get(key);
		value
			.map(|v| v.as_f64().ok_or_else(|| format!("{key} is no number")))
			.transpose()
	}

	fn flag(&self, key: &str) -> bool {
		self.get(key).is_some_and(|v| *v == Value::Bool(true))
	}

	fn text(&self, key: &str) -> Option<&str> {
		self.get(key).and_then(Value::as_str)
	}

	fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T, String> {
		value.ok_or_else(|| format!("{key} is missing"))
	}

	fn object(&self, key: &str) -> Option<Numbers<'_>> {
		self.get(key).and_then(Value::as_object).map(Numbers)
	}
}

/// A list of numbers, one for each pair.
fn list(scaling: &Numbers, key: &str, pairs: usize) -> Result<Vec<f64>, String> {
	let list = scaling.needed(key, scaling.get(key).and_then(Value::as_array))?;
	let numbers: Option<Vec<_>> = list.iter().map(Value::as_f64).collect();
	numbers
		.filter(|numbers| numbers.len() == pairs)
		.ok_or_else(|| format!("{key} is not {pairs} numbers, one for each pair that is turned"))
}

/// Tokens of the texts that a model was trained on before its context was made longer.
fn original(config: &Numbers, scaling: &Numbers) -> Result<f64, String> {
	let key = "original_max_position_embeddings";
	let most = config.float("max_position_embeddings")?;
	let given = config.float(key)?.or(scaling.float(key)?).or(most);
	scaling.needed(key, given.filter(|n| *n >= 2.0))
}

/// By how much a context was made longer.
fn grown(config: &Numbers, original: f64) -> Result<f64, String> {
	let key = "max_position_embeddings";
	Ok(config.needed(key, config.float(key)?)? / original)
}

/// Factors and scale of LongRoPE. Those of long texts hold where the context is longer than the one that the model was trained
/// on, whatever a text's own length: a token's numbers must not depend on what follows it.
fn longrope(
	config: &Numbers,
	scaling: &Numbers,
	pairs: usize,
	context: usize,
) -> Result<(Vec<f64>, f64), String> {
	let original = original(config, scaling)?;
	let (short, long) = (
		list(scaling, "short_factor", pairs)?,
		list(scaling, "long_factor", pairs)?,
	);
	let scale = match scaling.float("attention_factor")? {
		Some(scale) => scale,
		None => {
			let grown = match scaling.float("factor")? {
				Some(grown) => grown,
				None => grown(config, original)?,
			};
			match grown > 1.0 {
				true => (1.0 + libm::log(grown) / libm::log(original)).sqrt(),
				false => 1.0,
			}
		}
	};
	Ok((
		if context as f64 > original {
			long
		} else {
			short
		},
		scale,
	))
}

/// Factors and scale of YaRN: pairs that turn often are left alone, those that turn seldom are slowed by the factor, and between
/// them the one passes into the other.
fn yarn(
	config: &Numbers,
	scaling: &Numbers,
	theta: f64,
	pairs: usize,
) -> Result<(Vec<f64>, f64), String> {
	let original = original(config, scaling)?;
	let factor = match scaling.float("factor")? {
		Some(factor) => factor,
		None => grown(config, original)?,
	};
	let given = |key: &str, usual: f64| {
		let given = scaling.float(key)?.filter(|n| *n != 0.0);
		Ok::<_, String>(given.unwrap_or(usual))
	};
	let (fast, slow) = (given("beta_fast", 32.0)?, given("beta_slow", 1.0)?);
	if !(factor >= 1.0 && original > 0.0 && slow > 0.0 && fast >= slow && theta > 1.0) {
		return Err(format!(
			"YaRN with factor {factor}, original_max_position_embeddings {original}, beta_fast {fast}, beta_slow {slow} and \
			 rope_theta {theta} does not make sense"
		));
	}
	// The pair that turns so often within the original context.
	let pair = |turns: f64| {
		let wavelength = original / (turns * 2.0 * core::f64::consts::PI);
		pairs as f64 * libm::log(wavelength) / libm::log(theta)
	};
	let (mut low, mut high) = (pair(fast), pair(slow));
	if scaling.get("truncate") != Some(&Value::Bool(false)) {
		(low, high) = (low.floor(), high.ceil());
	}
	let low = low.max(0.0);
	// The last of a head's elements, not of its pairs: that is how YaRN was published.
	let mut high = high.min(2.0 * pairs as f64 - 1.0);
	if low == high {
		high += 0.001;
	}
	let factors = (0..pairs).map(|pair| {
		let slowed = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
		1.0 / (slowed / factor + (1.0 - slowed))
	});
	let scale = |by: f64| {
		if factor > 1.0 {
			0.1 * by * libm::log(factor) + 1.0
		} else {
			1.0
		}
	};
	let by = [scaling.float("mscale")?, scaling.float("mscale_all_dim")?];
	let scale = match (scaling.float("attention_factor")?, by) {
		(Some(scale), _) => scale,
		(None, [Some(by), Some(all)]) if by != 0.0 && all != 0.0 => scale(by) / scale(all),
		_ => scale(1.0),
	};
	Ok((factors.collect(), scale))
}

/// Base, factors and scale of a rotary embedding, as `scaling` says where it is there.
fn rope(
	config: &Numbers,
	scaling: Option<Numbers>,
	(head_dim, context): (usize, usize),
	usual: f64,
) -> Result<Rope, String> {
	let architecture = config.text("model_type").unwrap_or_default();
	// Newer files have all of it in one object, older ones the base beside it.
	let base = match &scaling {
		Some(scaling) => scaling.float("rope_theta")?,
		None => None,
	};
	let theta = match base {
		Some(theta) => theta,
		None => config.float("rope_theta")?.unwrap_or(usual),
	};
	let partial = |numbers: &Numbers| numbers.float("partial_rotary_factor");
	let parts = [
		partial(config)?,
		scaling.as_ref().map_or(Ok(None), partial)?,
	];
	let part = parts.into_iter().flatten().find(|p| *p != 1.0);
	let turned = match part {
		None => None,
		Some(part) if architecture == "phi3" && part > 0.0 && part < 1.0 => {
			Some((head_dim as f64 * part) as usize)
		}
		Some(part) => {
			return Err(format!(
				"partial_rotary_factor is {part}: heads of {architecture:?} that are turned in part are not known here"
			))
		}
	};
	let mut rope = Rope {
		turned,
		..Rope::new(theta)
	};
	let pairs = rope.pairs(head_dim);
	if let Some(scaling) = scaling {
		let kind = scaling.text("rope_type").or_else(|| scaling.text("type"));
		let number = |key: &str| scaling.needed(key, scaling.float(key)?);
		match kind.unwrap_or("default") {
			"default" => (),
			// Phi 3's first files call it by other names.
			"longrope" | "su" | "yarn" if architecture == "phi3" => {
				(rope.factors, rope.scale) = longrope(config, &scaling, pairs, context)?;
			}
			"linear" => rope.factors = vec![number("factor")?; pairs],
			"yarn" => (rope.factors, rope.scale) = yarn(config, &scaling, theta, pairs)?,
			// It changes with the text's length, and does nothing up to the length that the model was trained on.
			"dynamic" => {
				let key = "original_max_position_embeddings";
				let original = match scaling.count(key)? {
					Some(original) => Some(original),
					None => config.count("max_position_embeddings")?,
				};
				let original = scaling.needed(key, original)?;
				if context > original {
					return Err(format!(
						"rotary embeddings scaled by \"dynamic\" change with a text's length beyond {original} tokens, and a token's \
						 numbers must not depend on what follows it: no context of {context} can be converted"
					));
				}
			}
			"llama3" => {
				let factor = number("factor")?;
				let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
				let original = original(config, &scaling)?;
				if !(low < high && low > 0.0 && original > 0.0 && factor >= 1.0) {
					return Err("rope_scaling does not make sense".into());
				}
				rope.factors = (0..pairs)
					.map(|pair| {
						let base = libm::pow(theta, pair as f64 / pairs as f64);
						let turns = original / (2.0 * core::f64::consts::PI * base);
						if turns > high {
							1.0
						} else if turns < low {
							factor
						} else {
							let smooth = (turns - low) / (high - low);
							1.0 / ((1.0 - smooth) / factor + smooth)
						}
					})
					.collect();
			}
			other => {
				return Err(format!(
					"rotary embeddings scaled by {other:?} are not known here: only default, linear, dynamic, llama3 and yarn are, and \
					 longrope of phi3"
				))
			}
		}
	}
	Ok(rope)
}

/// The rotary embedding of a model, and that of its layers with a window where it is another.
fn ropes(
	m: &Numbers,
	architecture: &str,
	sizes: (usize, usize),
) -> Result<(Rope, Option<Rope>), String> {
	let gemma3 = architecture == "gemma3_text";
	let usual = match architecture {
		"gemma3_text" => 1_000_000.0,
		"smollm3" => 2_000_000.0,
		_ => 10_000.0,
	};
	let parameters = m.object("rope_parameters");
	// The newest files have an object for each kind of layer.
	let nested = parameters
		.as_ref()
		.is_some_and(|p| p.0.values().any(Value::is_object));
	let (full, window) = match parameters {
		Some(parameters) if nested => {
			let kinds = ["full_attention", "sliding_attention"];
			if let Some(other) = parameters.0.keys().find(|k| !kinds.contains(&k.as_str())) {
				return Err(format!(
					"rope_parameters has {other:?}, and only those of full_attention and sliding_attention are known here"
				));
			}
			let part = |kind: &str| {
				let part = parameters.object(kind);
				part.map(|p| Numbers(p.0))
			};
			let full = parameters.needed("rope_parameters.full_attention", part(kinds[0]))?;
			let window = match part(kinds[1]) {
				Some(window) => Some(rope(m, Some(window), sizes, 10_000.0)?),
				None => None,
			};
			(rope(m, Some(full), sizes, usual)?, window)
		}
		parameters => {
			let scaling = parameters.or_else(|| m.object("rope_scaling"));
			let local = match m.float("rope_local_base_freq")? {
				None if gemma3 => Some(10_000.0),
				theta => theta,
			};
			let window = local.map(Rope::new);
			(rope(m, scaling, sizes, usual)?, window)
		}
	};
	Ok((full, window))
}

/// Refuses configurations of what writes no text, and of weights that are stored in another way.
fn writes_text(m: &Numbers) -> Result<(), String> {
	let names = m.get("architectures").and_then(Value::as_array);
	let names: Vec<_> = names
		.into_iter()
		.flatten()
		.filter_map(Value::as_str)
		.collect();
	if let (Some(text), Some(name)) = (m.object("text_config"), m.text("model_type")) {
		let inner = text.text("model_type").unwrap_or("another");
		return Err(format!(
			"model_type {name:?} reads more than text, and what it does with text (text_config, {inner:?}) cannot be taken out of \
			 it: take a checkpoint of the text model alone"
		));
	}
	if !names.is_empty() && !names.iter().any(|n| n.ends_with("ForCausalLM")) {
		return Err(format!(
			"architectures says {}: not a model that writes text (…ForCausalLM), and only such can be converted. Export it to \
			 ONNX, and give that to `consilience model draft`",
			names.join(", ")
		));
	}
	if let Some(quantised) = m.object("quantization_config") {
		let by = quantised.text("quant_method").unwrap_or("something");
		return Err(format!(
			"the weights are quantised by {by} (quantization_config): take the model that it was made from"
		));
	}
	Ok(())
}

/// The configuration as the hub's files have it.
fn config(map: &Map<String, Value>, chosen: Option<usize>) -> Result<Config, String> {
	let m = Numbers(map);
	writes_text(&m)?;
	let architecture = m.text("model_type").unwrap_or_default();
	let gemma = architecture.starts_with("gemma");
	let (post_norms, head_norms) = match architecture {
		"llama" | "mistral" | "qwen2" | "gemma" | "smollm3" | "phi3" => (false, false),
		"qwen3" => (false, true),
		"gemma2" => (true, false),
		"gemma3_text" => (true, true),
		other => {
			return Err(format!(
				"model_type is {other:?}; what can be converted is llama, mistral, qwen2, qwen3, smollm3, phi3, gemma, gemma2 \
				 and gemma3_text"
			))
		}
	};
	let needed = |key: &str| m.needed(key, m.count(key)?);
	let (hidden, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
	let head_dim = match m.count("head_dim")? {
		Some(dim) => dim,
		None => hidden.checked_div(heads).unwrap_or_default(),
	};
	let activation = match m.text("hidden_activation").or_else(|| m.text("hidden_act")) {
		Some("silu") if !gemma => Activation::Silu,
		None if !gemma => Activation::Silu,
		// Gemma's first files say "gelu" and mean its approximation.
		Some("gelu_pytorch_tanh" | "gelu") | None if gemma => Activation::Gelu,
		other => return Err(format!("activation {other:?} is not known here")),
	};
	let layers = layers(needed("num_hidden_layers")?)?;
	let context = context(m.count("max_position_embeddings")?, chosen)?;
	let (everywhere, windowed) = ropes(&m, architecture, (head_dim, context))?;
	let turns = turns(&m, architecture, layers)?;
	// Defaults are the architecture's own.
	let tied = gemma || architecture == "smollm3";
	let scale = match m.float("query_pre_attn_scalar")? {
		Some(scalar) if post_norms => scalar,
		_ => head_dim as f64,
	};
	let config = Config {
		layers,
		hidden,
		intermediate: needed("intermediate_size")?,
		heads,
		kv_heads: m.count("num_key_value_heads")?.unwrap_or(heads),
		head_dim,
		vocabulary: needed("vocab_size")?,
		context,
		eps: m.needed("rms_norm_eps", m.float("rms_norm_eps")?)?,
		local: local(&m, architecture, layers, &turns, windowed)?,
		turns,
		rope: everywhere,
		activation,
		attention_scale: 1.0 / scale.sqrt(),
		attention_cap: m.float("attn_logit_softcapping")?,
		logits_cap: m.float("final_logit_softcapping")?,
		embedding_scale: gemma.then(|| (hidden as f64).sqrt()),
		post_norms,
		head_norms,
		tied: m
			.get("tie_word_embeddings")
			.map_or(tied, |v| *v == Value::Bool(true)),
		architecture: architecture.into(),
	};
	config.check()?;
	Ok(config)
}

/// Returns for each layer whether queries and keys are rotated by position; empty if all are.
fn turns(m: &Numbers, architecture: &str, layers: usize) -> Result<Vec<bool>, String> {
	if architecture != "smollm3" {
		return Ok(Vec::new());
	}
	// One for a layer that turns, in spite of the name.
	if let Some(list) = m.get("no_rope_layers") {
		let turns = list.as_array().map(|list| {
			let turns = list.iter().map(|v| match v.as_u64() {
				Some(0) => Some(false),
				Some(1) => Some(true),
				_ => None,
			});
			turns.collect::<Option<Vec<_>>>()
		});
		return match turns.flatten() {
			Some(turns) if turns.len() == layers => Ok(turns),
			_ => Err(format!(
				"no_rope_layers is not a one or a zero for each of {layers} layers"
			)),
		};
	}
	match m.count("no_rope_layer_interval")?.unwrap_or(4) {
		0 => Err("no_rope_layer_interval is zero".into()),
		n => Ok((0..layers).map(|layer| (layer + 1) % n != 0).collect()),
	}
}

/// Layers with a window, and their rotary embedding where it is another.
fn local(
	m: &Numbers,
	architecture: &str,
	layers: usize,
	turns: &[bool],
	rope: Option<Rope>,
) -> Result<Option<Local>, String> {
	let types = m.get("layer_types").and_then(Value::as_array);
	if let Some(types) = types {
		if types.len() != layers {
			return Err(format!("{} layer_types for {layers} layers", types.len()));
		}
		let known = ["full_attention", "sliding_attention"];
		if let Some(other) = types.iter().find(|t| !known.iter().any(|k| *t == k)) {
			return Err(format!(
				"layer_types has {other}, and only full_attention and sliding_attention are known here"
			));
		}
	}
	let windowed =
		|types: &[Value]| -> Vec<bool> { types.iter().map(|t| t == "sliding_attention").collect() };
	let Some(window) = m.count("sliding_window")? else {
		return match types {
			Some(types) if windowed(types).contains(&true) => {
				Err("layer_types has layers with a window, and sliding_window does not say how long it is".into())
			}
			_ => Ok(None),
		};
	};
	if window == 0 {
		return Err("sliding_window is zero".into());
	}
	let every = |n: usize| (0..layers).map(|layer| (layer + 1) % n != 0).collect();
	let layers = match (types, architecture) {
		(Some(types), _) => windowed(types),
		(None, "mistral" | "phi3") => vec![true; layers],
		(None, "gemma2") => every(2),
		(None, "gemma3_text") => match m.count("sliding_window_pattern")?.unwrap_or(6) {
			0 => return Err("sliding_window_pattern is zero".into()),
			n => every(n),
		},
		(None, "qwen2" | "qwen3") if m.flag("use_sliding_window") => {
			let first = m.count("max_window_layers")?.unwrap_or(0);
			(0..layers).map(|layer| layer >= first).collect()
		}
		(None, "smollm3") if m.flag("use_sliding_window") => turns.iter().map(|t| !t).collect(),
		_ => return Ok(None),
	};
	Ok(Some(Local {
		window,
		rope,
		layers,
	}))
}
