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

use consilience_files::{check, Content, Wanted};
use consilience_primitives::{
	manifest::{Numerics, TaskDetails},
	model::{Limits, NumericClass, Price, Task, TimeLimit},
	tensor::{NamedSpec, Tensor, MAX_DATA, MAX_TENSOR_BYTES},
};
use serde_json::{json, Map, Value};

use crate::{
	card::{Card, CardReference, Signature},
	hub,
	import::{canonical, copy, inside, weights, write_json, ImportError, CARD},
	media,
	open_inference::JsonTensor,
	store::{StoreError, MANIFEST, PRICE as PRICE_FILE},
};

mod embedding;
mod tensors;
mod text;

use embedding::{LONGEST, MODULES, POOLING};

/// Where exporters put a graph, the first that is there.
const GRAPHS: [&str; 2] = ["onnx/model.onnx", "model.onnx"];
/// Files of a language model that belong to it, where they are there.
const BESIDE: [&str; 11] = [
	"config.json",
	hub::GENAI,
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
/// Files that show that a folder is a language model's.
const OF_LANGUAGE: [&str; 8] = [
	"config.json",
	hub::GENAI,
	"tokenizer_config.json",
	"tokenizer.model",
	"vocab.txt",
	"vocab.json",
	"merges.txt",
	"sentencepiece.bpe.model",
];

/// The smallest price of a kind, in the chain's smallest unit: a hundred-thousandth of a coin.
const PRICE: u128 = 10_000_000;
/// Bytes of weights up to which a language model is quick.
const SMALL: u64 = 1_500_000_000;

/// What an engine says of a graph.
#[derive(Clone, Debug)]
pub struct Inspected {
	/// What it takes and gives.
	pub signature: Signature,
	/// Names of the dimensions of each input, empty where they have none.
	pub symbols: Vec<Vec<String>>,
	/// Opset of the default domain.
	pub opset: u32,
	/// The ONNX Runtime that read it.
	pub onnxruntime: String,
}

/// What a draft asks an engine about a graph that nobody has described yet.
pub trait Prober {
	/// What the graph in this file takes and gives.
	fn inspect(&self, graph: &Path) -> Result<Inspected, String>;

	/// Runs the graph.
	fn run(&self, graph: &Path, inputs: &[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String>;

	/// How many tokens a chat may have beyond the units that are charged for it, by the model's template. `None` from one that
	/// does not know.
	fn overhead(&self, _folder: &Path, _task: &TaskDetails) -> Result<Option<u32>, String> {
		Ok(None)
	}
}

/// What a person says that no file does.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
	/// The graph in the folder; by default `onnx/model.onnx`, `model.onnx`, or the only one there.
	pub graph: Option<String>,
	/// The model's name.
	pub name: Option<String>,
	/// Shapes of inputs, by their names, where the graph leaves sizes open.
	pub shapes: Vec<(String, Vec<u32>)>,
	/// The reference input.
	pub reference: Option<Vec<JsonTensor>>,
	/// Whether the model takes and gives tensors, whatever it looks like.
	pub tensors: bool,
}

/// A card, and the folder with the files that it names.
#[derive(Clone, Debug)]
pub struct Draft {
	/// The card.
	pub card: Card,
	/// What was guessed, for who looks at the card.
	pub notes: Vec<String>,
	folder: PathBuf,
}

impl Draft {
	/// Drafts a card for an ONNX file, or for a folder with a graph. The engine is asked after it is known that the graph keeps its
	/// weights inside the folder.
	pub fn of(source: &Path, wishes: &Wishes, prober: &dyn Prober) -> Result<Self, ImportError> {
		let (folder, graph) = place(source, wishes.graph.as_deref())?;
		let path = inside(&folder, &graph)?;
		let bad = |why: String| ImportError::BadFile {
			path: path.clone(),
			why,
		};
		check(&path, Wanted::Onnx).map_err(bad)?;
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
		let inspected = prober.inspect(&path).map_err(|why| ImportError::Model {
			graph: path.clone(),
			why,
		})?;
		let draft = Drafting {
			folder: &folder,
			graph: &path,
			inspected: &inspected,
			wishes,
			prober,
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
		let name = wishes.name.as_deref();
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
		Ok(Self {
			card,
			notes: task.notes,
			folder,
		})
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
			None => Err(bad(format!(
				"holds no ONNX file, nor does its folder onnx{}",
				instead(&source)
			))),
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

/// What a folder without an ONNX file holds, and what to do with that.
fn instead(folder: &Path) -> String {
	let entries = fs::read_dir(folder).into_iter().flatten().flatten();
	let mut files: Vec<_> = entries.map(|e| e.path()).filter(|p| p.is_file()).collect();
	files.sort();
	let what = |path: &PathBuf| {
		Some((
			Content::of(path).ok()?,
			path.file_name()?.to_str()?.to_owned(),
		))
	};
	let found = files.iter().filter_map(what);
	let mut found = found.filter_map(|(content, name)| match content {
		Content::Gguf
		| Content::Safetensors
		| Content::PyTorch
		| Content::Ort
		| Content::Foreign(_) => Some(format!(". {name}: {}", content.refused(Wanted::Onnx)?)),
		_ => None,
	});
	found.next().unwrap_or_default()
}

/// ONNX files of a folder of the model.
fn graphs(model: &Path, folder: &str) -> Vec<String> {
	let Ok(entries) = fs::read_dir(model.join(folder)) else {
		return Vec::new();
	};
	let mut names: Vec<_> = entries
		.flatten()
		.filter_map(|e| e.file_name().into_string().ok())
		// What hides is what a copy left behind.
		.filter(|name| name.ends_with(".onnx") && !name.starts_with('.'))
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
	notes: Vec<String>,
}

struct Drafting<'a> {
	folder: &'a Path,
	graph: &'a Path,
	inspected: &'a Inspected,
	wishes: &'a Wishes,
	prober: &'a dyn Prober,
}

impl Drafting<'_> {
	fn takes(&self, name: &str) -> bool {
		named(&self.inspected.signature.inputs, name).is_some()
	}

	/// What the graph is for, by the names that exporters give to inputs and outputs. `bytes` are those of its weights.
	fn task(&self, bytes: u64) -> Result<OfTask, String> {
		if self.wishes.tensors || !self.takes("input_ids") {
			return self.tensors();
		}
		let outputs = &self.inspected.signature.outputs;
		let writes = self.takes("past_key_values.0.key");
		let vectors = embedding::vectors(outputs);
		if !self.folder.join("tokenizer.json").is_file() {
			let there = OF_LANGUAGE.iter().find(|f| self.folder.join(f).is_file());
			return match there {
				Some(there) if writes || vectors.is_some() => Err(format!(
					"the graph takes text as tokens (input_ids), {there} is there, and tokenizer.json is missing: make it with \
					 transformers, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER). To be asked with numbers instead \
					 of text: --tensors"
				)),
				_ => self.tensors(),
			};
		}
		if writes {
			return self.text(bytes);
		}
		match vectors {
			Some((output, of_text)) => self.embedding(output, of_text),
			None if named(outputs, "logits").is_some_and(|o| o.shape.len() == 3) && !self.classifies() => Err(
				"the graph writes text without a cache (past_key_values), every token at the price of all before it: export it \
				 with its cache (optimum-cli export onnx --task text-generation-with-past)"
					.into(),
			),
			None => self.tensors(),
		}
	}

	/// Whether logits are those of labels, as config.json says.
	fn classifies(&self) -> bool {
		let config = hub::configuration(self.folder).unwrap_or_default();
		let names = config.get("architectures").and_then(Value::as_array);
		!names
			.into_iter()
			.flatten()
			.filter_map(Value::as_str)
			.any(|n| n.ends_with("ForCausalLM") || n.ends_with("LMHeadModel"))
	}

	fn tensors(&self) -> Result<OfTask, String> {
		let signature = &self.inspected.signature;
		let most = |specs: &[NamedSpec], bytes: u32| -> Result<u32, String> {
			let each = specs.iter().map(|spec| most_elements(spec, bytes));
			each.sum::<Result<u64, _>>()
				.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
		};
		let max_input_units = most(&signature.inputs, MAX_DATA)?;
		let max_output_units = most(&signature.outputs, MAX_TENSOR_BYTES)?;
		let run = |inputs: &[Tensor<MAX_DATA>]| self.prober.run(self.graph, inputs);
		let reference = tensors::reference(self.inspected, self.wishes, run)?;
		// What is known to work is admitted, however large.
		let tried = reference
			.iter()
			.map(|t| t.shape.iter().map(|n| u64::from(*n)).product::<u64>());
		let max_input_units = max_input_units.max(tried.sum::<u64>().min(u32::MAX.into()) as u32);
		let mut notes = Vec::new();
		if self.wishes.reference.is_none() {
			let shapes = reference
				.iter()
				.map(|t| format!("{} {:?}", t.name, t.shape));
			notes.push(format!(
				"reference: the graph takes {}; the values say nothing, and a real input is a better reference",
				shapes.collect::<Vec<_>>().join(", ")
			));
		}
		let mut details = Map::new();
		match media::of(self.folder, signature) {
			Ok(media) if media.is_empty() => (),
			Ok(media) => {
				details.insert("media".into(), json!(media));
			}
			Err(why) => notes.push(format!("media: pictures and labels are left out: {why}")),
		}
		Ok(OfTask {
			task: Task::Tensor,
			class: None,
			details,
			limits: Limits {
				max_input_units,
				max_output_units,
			},
			units_per_block: max_output_units.max(1),
			reference: CardReference::Inputs(reference),
			notes,
		})
	}
}

fn named<'s>(specs: &'s [NamedSpec], name: &str) -> Option<&'s NamedSpec> {
	specs.iter().find(|s| s.name == name)
}

/// Most elements that a tensor can have in a request or an answer that holds so many bytes: its dimensions, where all are fixed, and
/// otherwise what state takes, for nobody knows how long a graph takes over more. Fails where its fixed dimensions are too many.
fn most_elements(spec: &NamedSpec, bytes: u32) -> Result<u64, String> {
	let fixed: Vec<u32> = spec.shape.iter().map(|d| d.unwrap_or(1)).collect();
	tensors::fits(spec, &fixed, bytes)?;
	let fixed = fixed
		.iter()
		.map(|n| u64::from(*n))
		.fold(1, u64::saturating_mul);
	// A string has its length before it.
	let room = u64::from(MAX_TENSOR_BYTES) * 8 / spec.datatype.bits().unwrap_or(40);
	Ok(if spec.shape.iter().all(Option::is_some) {
		fixed
	} else {
		room / fixed.max(1) * fixed
	})
}
