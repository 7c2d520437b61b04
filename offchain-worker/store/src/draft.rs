//! A first card for what has none: a bare ONNX file, or a folder as the hub's exporters leave it.
//!
//! What the files say goes into the card. What no file says (prices, limits of time, where nothing else is known the licence) has
//! values that a person is to look at. A draft holds no thresholds: a tensor model's class is measured at import, and what is of the
//! tolerant class is calibrated first ([`Import::to_calibrate`](crate::Import::to_calibrate)).

use std::{
	collections::BTreeSet,
	fs,
	path::{Path, PathBuf},
};

use consilience_primitives::{
	manifest::Numerics,
	model::{Limits, NumericClass, Price, Task, TimeLimit},
	request::{Role, MAX_TEXT, MAX_TOKENS},
	tensor::{DataType, NamedSpec, MAX_TENSOR_BYTES},
};
use serde_json::{json, Map, Value};

use crate::{
	card::{Card, CardReference, Signature},
	hub,
	import::{canonical, copy, inside, weights, write_json, ImportError, CARD},
	open_inference::JsonTensor,
	store::{StoreError, MANIFEST, PRICE as PRICE_FILE},
};

/// Where exporters put a graph, the first that is there.
const GRAPHS: [&str; 2] = ["onnx/model.onnx", "model.onnx"];
/// Files of a language model that belong to it, where they are there.
const BESIDE: [&str; 10] = [
	"config.json",
	"generation_config.json",
	"tokenizer.json",
	"tokenizer_config.json",
	"special_tokens_map.json",
	"chat_template.jinja",
	POOLING,
	MODULES,
	LONGEST,
	"LICENSE",
];
const POOLING: &str = "1_Pooling/config.json";
const MODULES: &str = "modules.json";
const LONGEST: &str = "sentence_bert_config.json";
/// Names that exporters give to vectors of tokens.
const VECTORS: [&str; 2] = ["last_hidden_state", "token_embeddings"];
/// The name that they give to one vector of a text.
const VECTOR: &str = "sentence_embedding";

/// The smallest price of a kind, in the chain's smallest unit: a hundred-thousandth of a coin.
const PRICE: u128 = 10_000_000;
/// Tokens of the longest answer, and those that a chat template may add to a prompt.
const ANSWER: u32 = 512;
const TEMPLATE: u32 = 128;
/// Bytes of weights up to which a language model is quick.
const SMALL: u64 = 1_500_000_000;

/// What an engine says of a graph.
#[derive(Clone, Debug)]
pub struct Inspected {
	/// What it takes and gives.
	pub signature: Signature,
	/// Opset of the default domain.
	pub opset: u32,
	/// The ONNX Runtime that read it.
	pub onnxruntime: String,
}

/// A card, and the folder with the files that it names.
#[derive(Clone, Debug)]
pub struct Draft {
	/// The card.
	pub card: Card,
	folder: PathBuf,
}

impl Draft {
	/// Drafts a card for an ONNX file, or for a folder with a `graph` (by default `onnx/model.onnx`, `model.onnx`, or the only one
	/// there). `inspect` is asked once, after it is known that the graph keeps its weights inside the folder.
	pub fn of(
		source: &Path,
		graph: Option<&str>,
		name: Option<&str>,
		inspect: impl FnOnce(&Path) -> Result<Inspected, String>,
	) -> Result<Self, ImportError> {
		let (folder, graph) = place(source, graph)?;
		let path = inside(&folder, &graph)?;
		let bad = |why: String| ImportError::BadFile {
			path: path.clone(),
			why,
		};
		let mut files = BTreeSet::from([graph.clone()]);
		for (_, named) in weights(&folder, &graph)? {
			inside(&folder, &named)?;
			files.insert(named);
		}
		if let Some(own) = [CARD, MANIFEST, PRICE_FILE]
			.into_iter()
			.find(|f| files.contains(*f))
		{
			return Err(bad(format!(
				"a file of it is called {own}, which is the store's own: rename it"
			)));
		}
		let inspected = inspect(&path).map_err(|why| ImportError::Model {
			graph: path.clone(),
			why,
		})?;
		let draft = Drafting {
			folder: &folder,
			signature: &inspected.signature,
		};
		let bytes = files.iter().map(|f| size(&folder.join(f))).sum();
		let task = draft.task(bytes).map_err(|why| ImportError::BadFile {
			path: folder.clone(),
			why,
		})?;
		if task.task != Task::Tensor {
			let there = BESIDE.iter().filter(|f| folder.join(f).is_file());
			files.extend(there.map(|f| (*f).to_owned()));
		}
		let title = name.map_or_else(|| title(&folder, &graph), str::to_owned);
		let card = Card {
			name: title.clone(),
			license: license(&folder),
			source: title,
			task: task.task,
			class: task.class,
			numerics: Numerics {
				element_type: element_type(&graph).into(),
				opset: inspected.opset,
				onnxruntime_min: inspected.onnxruntime.clone(),
				onnxruntime_max: inspected.onnxruntime,
				providers: vec!["CPUExecutionProvider".into()],
				optimization: "all".into(),
			},
			graph,
			files: files.into_iter().collect(),
			details: task.details,
			limits: task.limits,
			time: TimeLimit {
				base_blocks: 20,
				output_units_per_block: task.units_per_block,
			},
			policy: Map::new(),
			price: Price {
				per_request: 1_000 * PRICE,
				per_input_unit: PRICE,
				per_output_unit: match task.task {
					Task::TextGeneration => 10 * PRICE,
					_ => 0,
				},
			},
			reference: task.reference,
		};
		Ok(Self { card, folder })
	}

	/// Makes a folder with the card and its files, linked where the file system can. It is there whole or not at all.
	pub fn write(&self, out: &Path) -> Result<(), ImportError> {
		let bad = |why: &str| ImportError::BadFile {
			path: out.into(),
			why: why.into(),
		};
		if out.exists() {
			return Err(bad("is there already: name a folder that is not"));
		}
		let parent = match out.parent() {
			Some(parent) if parent != Path::new("") => parent,
			_ => Path::new("."),
		};
		fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
		let temporary = tempfile::Builder::new()
			.prefix(".draft-")
			.tempdir_in(parent)
			.map_err(StoreError::io(parent))?;
		self.fill(temporary.path())?;
		// A temporary folder is its maker's alone.
		#[cfg(unix)]
		{
			use std::os::unix::fs::PermissionsExt;
			let everybody = fs::Permissions::from_mode(0o755);
			fs::set_permissions(temporary.path(), everybody).map_err(StoreError::io(out))?;
		}
		let made = temporary.keep();
		fs::rename(&made, out).map_err(|e| {
			let _ = fs::remove_dir_all(&made);
			StoreError::io(out)(e).into()
		})
	}

	/// Puts the card and its files into an empty folder.
	fn fill(&self, folder: &Path) -> Result<(), ImportError> {
		for file in &self.card.files {
			let to = folder.join(file);
			if let Some(parent) = to.parent() {
				fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
			}
			let from = inside(&self.folder, file)?;
			copy(&from, &to, true).map_err(StoreError::io(&from))?;
		}
		// No other file has its name: that would be a link to its author's.
		Ok(write_json(&folder.join(CARD), &self.card)?)
	}
}

/// The folder of a model and its graph in it.
fn place(source: &Path, graph: Option<&str>) -> Result<(PathBuf, String), ImportError> {
	let bad = |why: String| ImportError::BadFile {
		path: source.into(),
		why,
	};
	if source.is_dir() {
		let source = canonical(source)?;
		if let Some(graph) = graph {
			return Ok((source, graph.into()));
		}
		let mut there: Vec<String> = GRAPHS.iter().map(|g| (*g).to_owned()).collect();
		there.retain(|g| source.join(g).is_file());
		if there.is_empty() {
			there = ["onnx", ""]
				.into_iter()
				.flat_map(|folder| graphs(&source, folder))
				.collect();
			if there.len() > 1 {
				let list = there.join(", ");
				return Err(bad(format!(
					"holds several graphs, name one of them: {list}"
				)));
			}
		}
		return match there.into_iter().next() {
			Some(graph) => Ok((source, graph)),
			None => Err(bad("holds no ONNX file, nor does its folder onnx".into())),
		};
	}
	if graph.is_some() {
		return Err(bad(
			"is a file, and a graph is named beside it: name one".into()
		));
	}
	let Some(Some(file)) = source.file_name().map(|name| name.to_str()) else {
		return Err(bad("the file's name is no text".into()));
	};
	// The folder's real path, and the file's name in it: a link to a file elsewhere says nothing of what belongs to it.
	let folder = match source.parent() {
		Some(parent) if parent != Path::new("") => canonical(parent)?,
		_ => canonical(Path::new("."))?,
	};
	let (folder, graph) = match folder.parent() {
		// The hub's layout keeps graphs apart from what belongs to them.
		Some(model) if folder.ends_with("onnx") && model.join("config.json").is_file() => {
			(model.into(), format!("onnx/{file}"))
		}
		_ => (folder, file.into()),
	};
	if let Some(described) = [MANIFEST, CARD]
		.into_iter()
		.find(|f| folder.join(f).is_file())
	{
		return Err(bad(format!(
			"its folder has a {described}: import the folder"
		)));
	}
	Ok((folder, graph))
}

/// ONNX files of a folder of the model.
fn graphs(model: &Path, folder: &str) -> Vec<String> {
	let Ok(entries) = fs::read_dir(model.join(folder)) else {
		return Vec::new();
	};
	let mut names: Vec<_> = entries
		.flatten()
		.filter_map(|e| e.file_name().into_string().ok())
		.filter(|name| name.ends_with(".onnx"))
		.map(|name| match folder {
			"" => name,
			folder => format!("{folder}/{name}"),
		})
		.collect();
	names.sort();
	names
}

fn size(path: &Path) -> u64 {
	fs::metadata(path).map_or(0, |m| m.len())
}

/// A name that fits: that of the graph, or of the folder where the graph is called as all are.
fn title(folder: &Path, graph: &str) -> String {
	let of = |path: &Path| {
		path.file_stem()
			.map(|s| s.to_string_lossy().into_owned())
			.unwrap_or_default()
	};
	let graph = of(Path::new(graph));
	let name = match graph.strip_prefix("model") {
		Some(variant) if variant.is_empty() || variant.starts_with('_') => {
			let folder = folder.file_name().map(|n| n.to_string_lossy().into_owned());
			format!(
				"{}{}",
				folder.unwrap_or_default(),
				variant.replace('_', "-")
			)
		}
		_ => graph,
	};
	let mut end = name.len().min(64);
	while !name.is_char_boundary(end) {
		end -= 1;
	}
	name[..end].to_owned()
}

/// The licence that the front matter of the hub's README names.
fn license(folder: &Path) -> String {
	let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
	let front = readme
		.strip_prefix("---")
		.and_then(|rest| rest.split_once("\n---"))
		.map_or("", |(front, _)| front);
	let named = front.lines().find_map(|l| l.strip_prefix("license:"));
	let named = named.map_or("", |l| l.trim().trim_matches(['"', '\'']));
	let known = spdx::identifiers::LICENSES.iter();
	let mut known = known.map(|license| license.name);
	if let Some(id) = known.find(|id| id.eq_ignore_ascii_case(named)) {
		return id.into();
	}
	let plain = |c: char| match c {
		c if c.is_ascii_alphanumeric() || c == '.' => c,
		_ => '-',
	};
	match &named.to_lowercase()[..] {
		"" | "other" | "unknown" => "NOASSERTION".into(),
		name => format!("LicenseRef-{}", name.chars().map(plain).collect::<String>()),
	}
}

/// Element type of the weights, by the endings that the hub's exporters give to their files.
fn element_type(graph: &str) -> &'static str {
	let stem = graph.strip_suffix(".onnx").unwrap_or(graph);
	for (ending, element) in [
		("_q4f16", "int4"),
		("_q4", "int4"),
		("_int4", "int4"),
		("_bnb4", "int4"),
		("_fp16", "fp16"),
		("_bf16", "bf16"),
		("_uint8", "uint8"),
		("_int8", "int8"),
		("_quantized", "int8"),
	] {
		if stem.ends_with(ending) {
			return element;
		}
	}
	"fp32"
}

/// What depends on the task.
struct OfTask {
	task: Task,
	class: Option<NumericClass>,
	details: Map<String, Value>,
	limits: Limits,
	units_per_block: u32,
	reference: CardReference,
}

struct Drafting<'a> {
	folder: &'a Path,
	signature: &'a Signature,
}

impl Drafting<'_> {
	fn takes(&self, name: &str) -> bool {
		named(&self.signature.inputs, name).is_some()
	}

	fn gives(&self, name: &str) -> Option<&NamedSpec> {
		named(&self.signature.outputs, name)
	}

	/// What the graph is for, by the names that exporters give to inputs and outputs. `bytes` are those of its weights.
	fn task(&self, bytes: u64) -> Result<OfTask, String> {
		let is_text = self.folder.join("tokenizer.json").is_file() && self.takes("input_ids");
		if is_text && self.takes("past_key_values.0.key") {
			return self.text(bytes);
		}
		let vector = VECTORS
			.iter()
			.chain([&VECTOR])
			.find_map(|name| self.gives(name));
		match vector {
			Some(output) if is_text => self.embedding(output),
			_ => self.tensors(),
		}
	}

	fn text(&self, bytes: u64) -> Result<OfTask, String> {
		let mut details = Map::new();
		hub::complete(self.folder, &mut details)?;
		let context = details.get("context").and_then(Value::as_u64);
		let context = context
			.and_then(|c| u32::try_from(c).ok())
			.ok_or("config.json does not say how long a text may be (max_position_embeddings)")?;
		let answer = ANSWER.min(MAX_TOKENS).min(context / 4).max(1);
		let chat = details.get("chat_template").is_some_and(Value::is_string);
		Ok(OfTask {
			task: Task::TextGeneration,
			class: Some(NumericClass::Tolerant),
			// The rest is read from the hub's files whenever the card is.
			details: Map::new(),
			// A byte of text is at most one token.
			limits: Limits {
				max_input_units: context.saturating_sub(answer + TEMPLATE).clamp(1, MAX_TEXT),
				max_output_units: answer,
			},
			units_per_block: if bytes <= SMALL { 4 } else { 1 },
			reference: if chat {
				CardReference::Chat {
					messages: vec![(Role::User, "What is the capital of France?".into())],
					max_tokens: 16.min(answer),
				}
			} else {
				CardReference::Text {
					text: "The capital of France is".into(),
					max_tokens: 16.min(answer),
				}
			},
		})
	}

	fn embedding(&self, output: &NamedSpec) -> Result<OfTask, String> {
		let config = hub::read(self.folder, "config.json")?;
		let pooling = hub::read(self.folder, POOLING)?;
		let said = |key: &str| pooling.get(key).and_then(Value::as_bool) == Some(true);
		let name = output.name.as_str();
		let pooling = if name == VECTOR {
			"none"
		} else if said("pooling_mode_cls_token") {
			"cls"
		} else if pooling.is_empty() || said("pooling_mode_mean_tokens") {
			"mean"
		} else {
			return Err(format!(
				"{POOLING} asks for a pooling that is neither the mean nor the first token's vector"
			));
		};
		let modules = self.folder.join(MODULES);
		let normalize = match fs::read_to_string(&modules) {
			Ok(modules) => modules.contains("Normalize"),
			Err(_) => pooling != "none",
		};
		let number = |value: Option<&Value>| {
			value
				.and_then(Value::as_u64)
				.and_then(|n| u32::try_from(n).ok())
		};
		let longest = hub::read(self.folder, LONGEST)?;
		let tokenizer = hub::read(self.folder, "tokenizer_config.json")?;
		// RoBERTa and its kin keep two positions for themselves.
		let kept = match config.get("model_type").and_then(Value::as_str) {
			Some("roberta" | "xlm-roberta" | "camembert") => 2,
			_ => 0,
		};
		let positions = number(config.get("max_position_embeddings"));
		let max_tokens = [
			number(longest.get("max_seq_length")),
			number(tokenizer.get("model_max_length")),
			positions.map(|n| n.saturating_sub(kept)),
		];
		let max_tokens = max_tokens.into_iter().flatten().min().unwrap_or(512).max(1);
		let dimensions = output.shape.last().copied().flatten();
		let dimensions = dimensions
			.or_else(|| number(config.get("hidden_size")))
			.ok_or_else(|| {
				format!("neither the graph nor config.json says how long {name} is (hidden_size)")
			})?;
		let details = json!({
			"tokenizer": "tokenizer.json",
			"pooling": pooling,
			"normalize": normalize,
			"max_tokens": max_tokens,
			"dimensions": dimensions,
			"output": name,
		});
		Ok(OfTask {
			task: Task::Embedding,
			class: Some(NumericClass::Tolerant),
			details: details.as_object().cloned().unwrap_or_default(),
			limits: Limits {
				max_input_units: max_tokens.saturating_mul(16).clamp(1, MAX_TEXT),
				max_output_units: dimensions,
			},
			units_per_block: dimensions,
			reference: CardReference::Text {
				text: "Consilience is the agreement of independent measurements.".into(),
				max_tokens: 0,
			},
		})
	}

	fn tensors(&self) -> Result<OfTask, String> {
		let most = |specs: &[NamedSpec]| -> Result<u32, String> {
			let each = specs.iter().map(most_elements);
			each.sum::<Result<u64, _>>()
				.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
		};
		let max_output_units = most(&self.signature.outputs)?;
		let reference = self.signature.inputs.iter().map(example);
		Ok(OfTask {
			task: Task::Tensor,
			class: None,
			details: Map::new(),
			limits: Limits {
				max_input_units: most(&self.signature.inputs)?,
				max_output_units,
			},
			units_per_block: max_output_units.max(1),
			reference: CardReference::Inputs(reference.collect()),
		})
	}
}

fn named<'s>(specs: &'s [NamedSpec], name: &str) -> Option<&'s NamedSpec> {
	specs.iter().find(|s| s.name == name)
}

/// Elements of a tensor, its open dimensions one.
fn fixed(spec: &NamedSpec) -> u64 {
	let shape = spec.shape.iter().map(|d| u64::from(d.unwrap_or(1)));
	shape.fold(1, u64::saturating_mul)
}

/// Most elements that a tensor can have on chain. Fails where its fixed dimensions are too many.
fn most_elements(spec: &NamedSpec) -> Result<u64, String> {
	let bits = spec.datatype.bits();
	// A string has its length before it.
	let room = u64::from(MAX_TENSOR_BYTES) * 8 / bits.unwrap_or(40);
	let fixed = fixed(spec);
	if fixed > room {
		return Err(format!(
			"{}: {fixed} elements of {} are more than the {MAX_TENSOR_BYTES} bytes that a tensor has on chain",
			spec.name,
			spec.datatype.name(),
		));
	}
	Ok(if spec.shape.iter().all(Option::is_some) {
		fixed
	} else {
		room / fixed.max(1) * fixed
	})
}

/// A tensor that a graph of this signature takes: open dimensions of one, floats between -1 and 1, integers 0 and 1, which are
/// entries of every table.
fn example(spec: &NamedSpec) -> JsonTensor {
	let value = |i: u64| match spec.datatype {
		DataType::Bool => json!(i % 2 == 1),
		DataType::Bytes => json!("consilience"),
		DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
			// Eight bits: exact in every one of these types.
			json!((i * 37 % 256) as f64 / 128.0 - 1.0)
		}
		_ => json!(i % 2),
	};
	JsonTensor {
		name: spec.name.clone(),
		shape: spec.shape.iter().map(|d| d.unwrap_or(1)).collect(),
		datatype: spec.datatype,
		data: (0..fixed(spec)).map(value).collect(),
	}
}
