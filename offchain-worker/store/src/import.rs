//! Importing a folder.

use std::{
	fs,
	io::{self, Write},
	path::{Component, Path, PathBuf},
};

use codec::Encode;
use consilience_canonical::{prove_integer, Proof, Refusals, INTEGER};
use consilience_files::{check, growth, may_follow, Wanted};
use consilience_primitives::{
	evidence::Evidence,
	manifest::{File, Manifest, ManifestError, TaskDetails},
	model::{Limits, NumericClass, Price, Task, MAX_VERIFIERS},
	request::Output,
	tensor::{DataType, Tensor},
	ModelId,
};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::{
	card::{Card, Signature},
	hash::{hash_file, verify_file},
	hub,
	onnx::external_files,
	store::{read_manifest, Store, StoreError, ENCODED, MANIFEST, PRICE},
};

/// Most files of a model.
pub(crate) const MAX_FILES: usize = 1_024;
/// Most bytes of all files of a model: 64 GiB.
pub(crate) const MAX_BYTES: u64 = 64 << 30;
/// Most bytes of a manifest or card: the chunks of the largest model take 25 MB.
const MAX_JSON: u64 = 32 << 20;
/// Most bytes of a graph without its external data: what a protocol buffer may have.
const MAX_GRAPH: u64 = 2 << 30;

/// Name of the card in a bare folder.
pub(crate) const CARD: &str = "model.json";

/// What running a model in many ways has shown of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measured {
	/// The same bits in every way that was run.
	Exact {
		/// Ways that were not run, and why.
		skipped: Vec<String>,
	},
	/// Not of the exact class.
	Inexact {
		/// What differed, and which operator broke it.
		why: String,
	},
}

/// Runs a model while it is imported. The engine does, in whatever process it runs.
pub trait Runner {
	/// What the graph in this file takes and gives.
	fn signature(&self, graph: &Path) -> Result<Signature, String>;

	/// How many tokens a chat may have beyond the units that are charged for it, by the model's template. `None` from one that
	/// does not know.
	fn overhead(&self, _folder: &Path, _task: &TaskDetails) -> Result<Option<u32>, String> {
		Ok(None)
	}

	/// Loads the model of this manifest from `folder` and runs its reference input.
	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String>;

	/// Runs the model of this manifest in many ways, to see whether it is of the exact class. `progress` is told how many units
	/// are done, and of how many. `None` from one that does not measure: the card's word is taken then, and a card that says
	/// nothing of the class is refused.
	fn measure(
		&self,
		_folder: &Path,
		_manifest: &Manifest,
		_progress: &mut dyn FnMut(u64, u64),
	) -> Result<Option<Measured>, String> {
		Ok(None)
	}
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
	/// So many bytes will be read.
	Total(u64),
	/// So many more bytes were hashed.
	Hashed(u64),
	/// The model is run in many ways, to see whether it is of the exact class.
	Measuring {
		/// Units that are done.
		done: u64,
		/// Units in all.
		total: u64,
	},
	/// The reference inference runs.
	Reference,
	/// Files are put in place.
	Copying,
}

/// Why a folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
	/// The folder has neither a manifest nor a card.
	#[error("{0}: neither manifest.json nor model.json is there; `consilience model draft` writes a first card (model.json), which says what the model is")]
	NoCard(PathBuf),
	/// `model.json` or `manifest.json` cannot be read.
	#[error("{path}: {why}")]
	BadCard {
		/// The file.
		path: PathBuf,
		/// What is wrong with it.
		why: String,
	},
	/// A file of the model is missing, damaged or out of bounds.
	#[error("{path}: {why}")]
	BadFile {
		/// The file.
		path: PathBuf,
		/// What is wrong with it.
		why: String,
	},
	/// The manifest contradicts itself.
	#[error("manifest: {0}")]
	Manifest(#[from] ManifestError),
	/// The model cannot be loaded or run.
	#[error("{graph}: {why}")]
	Model {
		/// The graph.
		graph: PathBuf,
		/// What the engine says.
		why: String,
	},
	/// The card claims the exact class for a model that is not of it.
	#[error(
		"{card}: the card says that the model is of the exact class, and it is not: {why}. Make a canonical graph, or write the \
		 tolerant class and the policy that `consilience calibrate` proposes into the card"
	)]
	NotExact {
		/// The card.
		card: PathBuf,
		/// What differed.
		why: String,
	},
	/// The graph is not of the integer class, and the card or manifest says that it is.
	#[error(
		"{graph}: {why}\nHave `consilience model canonicalise --class integer` make the graph, or write another element_type into \
		 numerics: then the model is of the exact class if it is measured to be"
	)]
	Unproven {
		/// The graph.
		graph: PathBuf,
		/// Each node of which it is not shown.
		why: Refusals,
	},
	/// The model gave another output or evidence than its manifest says.
	#[error("the model does not reproduce its manifest's reference on this machine: {0}")]
	Reference(String),
	/// The store failed.
	#[error(transparent)]
	Store(#[from] StoreError),
}

/// A folder that was read and found good.
#[derive(Debug)]
pub struct Import {
	folder: PathBuf,
	/// Whether the folder is a store's, whose files never change.
	shared: bool,
	/// What it is.
	pub manifest: Manifest,
	/// Price that its author suggests.
	pub price: Option<Price<u128>>,
	/// What was measured of its class; nothing where a manifest or the card's word was taken for it.
	pub measured: Option<Measured>,
	/// What was proven of its graph, where it is to be of the integer class.
	pub proof: Option<Proof>,
}

/// A folder with a card whose files were hashed.
struct Hashed {
	folder: PathBuf,
	card: Card,
	files: Vec<File>,
	signature: Option<Signature>,
	/// The class that the card states.
	stated: Option<NumericClass>,
}

impl Import {
	/// Reads a folder: checks every file against its manifest, or hashes the files that its card names and runs the reference.
	pub fn read(
		folder: &Path,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Self, ImportError> {
		match Opened::read(folder, runner, progress)? {
			Opened::Manifest(import) => Ok(*import),
			Opened::Card(hashed) => hashed.run(runner, progress),
		}
	}

	fn read_manifest(
		folder: PathBuf,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Self, ImportError> {
		let path = folder.join(MANIFEST);
		let manifest = read_file(&path, MAX_JSON).and_then(|bytes| read_manifest(&bytes));
		let manifest = manifest.map_err(|why| ImportError::BadCard { path, why })?;
		manifest.validate()?;
		check_size(&folder, manifest.files.len(), manifest.size())?;
		progress(Progress::Total(manifest.size()));
		for file in &manifest.files {
			let path = inside(&folder, &file.path)?;
			verify_file(&path, file, |n| progress(Progress::Hashed(n))).map_err(|e| {
				ImportError::BadFile {
					path,
					why: e.to_string(),
				}
			})?;
		}
		// What the tokenizer says of itself is read when it is known to be the manifest's.
		check_limits(&folder.join(MANIFEST), &manifest, None)?;
		check_graph(&folder, &manifest.graph, &manifest.files)?;
		let proof = prove(&folder, &manifest)?;
		let price = folder.join(PRICE);
		let price = price.is_file().then(|| read_json(&price)).transpose()?;
		Ok(Self {
			folder,
			shared: true,
			manifest,
			price,
			measured: None,
			proof,
		})
	}

	/// Reads a folder as [`Self::read`] does, and runs nothing: the reference of a card's manifest is empty, and its class is
	/// what the card says, or what it may be at best where the card says nothing.
	pub fn describe(
		folder: &Path,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Manifest, ImportError> {
		let hashed = match Opened::read(folder, runner, progress)? {
			Opened::Manifest(import) => return Ok(import.manifest),
			Opened::Card(hashed) => *hashed,
		};
		let at_best = if hashed.only_cpu() {
			NumericClass::Exact
		} else {
			NumericClass::Tolerant
		};
		hashed.manifest(hashed.stated.unwrap_or(at_best))
	}

	/// Reads a folder as [`Self::read`] does, to measure its thresholds: where its card has none, the manifest's let nothing pass.
	/// What is read so is not for a store.
	pub fn to_calibrate(
		folder: &Path,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Manifest, ImportError> {
		let mut hashed = match Opened::read(folder, runner, progress)? {
			Opened::Manifest(import) => return Ok(import.manifest),
			Opened::Card(hashed) => *hashed,
		};
		if hashed.stated != Some(NumericClass::Exact) {
			hashed.card.let_nothing_pass();
			hashed.stated = Some(NumericClass::Tolerant);
		}
		hashed.run(runner, progress).map(|import| import.manifest)
	}
}

/// A folder whose files were looked at, and nothing run.
enum Opened {
	/// They are what its manifest says.
	Manifest(Box<Import>),
	/// It has a card, and they were hashed.
	Card(Box<Hashed>),
}

impl Opened {
	fn read(
		folder: &Path,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Self, ImportError> {
		let folder = canonical(folder)?;
		if folder.join(MANIFEST).is_file() {
			Import::read_manifest(folder, progress).map(|import| Self::Manifest(Box::new(import)))
		} else {
			Hashed::read(folder, runner, progress).map(|hashed| Self::Card(Box::new(hashed)))
		}
	}
}

impl Hashed {
	/// Measures the class, and runs the reference.
	fn run(
		self,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Import, ImportError> {
		// Before anything is run for minutes.
		let proof = self
			.is_integer()
			.then(|| self.manifest(NumericClass::Exact));
		let proof = match proof.transpose()? {
			Some(manifest) => prove(&self.folder, &manifest)?,
			None => None,
		};
		let (class, measured) = self.class(runner, progress)?;
		let mut manifest = self.manifest(class)?;
		let overhead = runner
			.overhead(&self.folder, &manifest.task)
			.map_err(|why| self.model_error(why))?;
		check_limits(&self.folder.join(CARD), &manifest, overhead)?;
		progress(Progress::Reference);
		let (output, evidence) = runner
			.reference(&self.folder, &manifest)
			.map_err(|why| self.model_error(why))?;
		check_reference(&output).map_err(|why| self.model_error(why))?;
		manifest.reference.output = output_hash(&output);
		manifest.reference.evidence = evidence;
		manifest.validate()?;
		Ok(Import {
			folder: self.folder,
			shared: false,
			manifest,
			price: Some(self.card.price),
			measured,
			proof,
		})
	}

	/// Reads a card and hashes the files that it names, before anything parses them.
	fn read(
		folder: PathBuf,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<Self, ImportError> {
		if !folder.join(CARD).is_file() {
			return Err(ImportError::NoCard(folder));
		}
		let mut card: Card = read_json(&folder.join(CARD))?;
		if card.task == Task::TextGeneration {
			hub::complete(&folder, &mut card.details).map_err(|why| ImportError::BadCard {
				path: folder.clone(),
				why,
			})?;
		}
		let mut names = card.files.clone();
		names.sort();
		names.dedup();
		let paths = names
			.iter()
			.map(|n| inside(&folder, n))
			.collect::<Result<Vec<_>, _>>()?;
		let size = paths
			.iter()
			.map(|p| fs::metadata(p).map_or(0, |m| m.len()))
			.fold(0, u64::saturating_add);
		check_size(&folder, paths.len(), size)?;
		progress(Progress::Total(size));
		let files = names
			.iter()
			.zip(&paths)
			.map(|(name, path)| {
				hash_file(path, name, |n| progress(Progress::Hashed(n))).map_err(|e| {
					ImportError::BadFile {
						path: path.clone(),
						why: e.to_string(),
					}
				})
			})
			.collect::<Result<Vec<File>, _>>()?;
		// Before ONNX Runtime opens it, and whatever it points to.
		check_graph(&folder, &card.graph, &files)?;
		let stated = card.stated_class().map_err(|why| ImportError::BadCard {
			path: folder.join(CARD),
			why,
		})?;
		let mut hashed = Self {
			folder,
			card,
			files,
			signature: None,
			stated,
		};
		if hashed.is_integer() {
			if stated == Some(NumericClass::Tolerant) {
				return Err(hashed.card_error(format!(
					"the class is tolerant, and numerics has the element_type {INTEGER:?}, whose bits are the same everywhere: write the \
					 class exact, or another element_type"
				)));
			}
			hashed.stated = Some(NumericClass::Exact);
		}
		if !hashed.card.has_signature() {
			let graph = inside(&hashed.folder, &hashed.card.graph)?;
			let signature = runner.signature(&graph);
			hashed.signature = Some(signature.map_err(|why| hashed.model_error(why))?);
		}
		Ok(hashed)
	}

	fn model_error(&self, why: String) -> ImportError {
		ImportError::Model {
			graph: self.folder.join(&self.card.graph),
			why,
		}
	}

	fn card_error(&self, why: String) -> ImportError {
		ImportError::BadCard {
			path: self.folder.join(CARD),
			why,
		}
	}

	/// The manifest for a model of this class, without what its reference gives.
	fn manifest(&self, class: NumericClass) -> Result<Manifest, ImportError> {
		let manifest = self
			.card
			.manifest(self.files.clone(), self.signature.as_ref(), class)
			.map_err(|why| self.card_error(why))?;
		manifest.validate()?;
		check_limits(&self.folder.join(CARD), &manifest, None)?;
		Ok(manifest)
	}

	/// Whether the graph is to be proven to be of the integer class.
	fn is_integer(&self) -> bool {
		self.card.numerics.element_type == INTEGER
	}

	/// Other providers are not of the exact class, and need not be run to see that.
	fn only_cpu(&self) -> bool {
		self.card.numerics.providers == ["CPUExecutionProvider"]
	}

	/// The model's class, measured unless the card says that it is tolerant, which every model may be.
	fn class(
		&self,
		runner: &dyn Runner,
		progress: &mut dyn FnMut(Progress),
	) -> Result<(NumericClass, Option<Measured>), ImportError> {
		if self.stated == Some(NumericClass::Tolerant) {
			return Ok((NumericClass::Tolerant, None));
		}
		if self.stated.is_none() && !self.only_cpu() {
			return Ok((NumericClass::Tolerant, None));
		}
		let manifest = self.manifest(NumericClass::Exact)?;
		let measured = runner
			.measure(&self.folder, &manifest, &mut |done, total| {
				progress(Progress::Measuring { done, total })
			})
			.map_err(|why| self.model_error(why))?;
		let class = match (&measured, self.stated) {
			(Some(Measured::Inexact { why }), Some(_)) => {
				return Err(ImportError::NotExact {
					card: self.folder.join(CARD),
					why: why.clone(),
				})
			}
			(Some(Measured::Inexact { why }), None) => {
				self.manifest(NumericClass::Tolerant).map_err(|e| {
					self.card_error(format!("the model is not of the exact class: {why}. {e}"))
				})?;
				NumericClass::Tolerant
			}
			// Nothing that was run speaks against what the card says.
			(Some(Measured::Exact { .. }) | None, Some(class)) => class,
			(Some(Measured::Exact { skipped }), None) if skipped.is_empty() => NumericClass::Exact,
			(Some(Measured::Exact { .. }), None) => NumericClass::Tolerant,
			(None, None) => {
				return Err(self.card_error(
					"class is missing, and is not measured here: write exact or tolerant".into(),
				))
			}
		};
		Ok((class, measured))
	}
}

impl Import {
	/// Puts the model into a store. Files of a folder with a manifest are linked where the file system can, because nobody
	/// writes to those in place; others are copied. Gives the id; a model that is there already stays as it is.
	pub fn put(
		self,
		store: &Store,
		progress: &mut dyn FnMut(Progress),
	) -> Result<ModelId, ImportError> {
		let id = self.manifest.id();
		let target = store.folder(id);
		if target.is_dir() {
			return Ok(id);
		}
		progress(Progress::Copying);
		let temporary = store.temporary()?;
		for file in &self.manifest.files {
			let (from, to) = (
				self.folder.join(&file.path),
				temporary.path().join(&file.path),
			);
			if let Some(parent) = to.parent() {
				fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
			}
			copy(&from, &to, self.shared).map_err(StoreError::io(&from))?;
			// What was checked and what was copied must be the same bytes.
			verify_file(&to, file, |_| ()).map_err(|e| ImportError::BadFile {
				path: from,
				why: e.to_string(),
			})?;
		}
		write_manifest(temporary.path(), &self.manifest)?;
		if let Some(price) = &self.price {
			write_json(&temporary.path().join(PRICE), price)?;
		}
		// A rename within the store: the model is there whole or not at all.
		let temporary = temporary.keep();
		match fs::rename(&temporary, &target) {
			Ok(()) => Ok(id),
			Err(_) if target.is_dir() => {
				let _ = fs::remove_dir_all(&temporary);
				Ok(id)
			}
			Err(e) => Err(StoreError::io(target)(e).into()),
		}
	}
}

pub(crate) fn canonical(folder: &Path) -> Result<PathBuf, ImportError> {
	fs::canonicalize(folder).map_err(|e| ImportError::BadFile {
		path: folder.into(),
		why: e.to_string(),
	})
}

/// What stands in a manifest for an output.
pub(crate) fn output_hash(output: &Output) -> H256 {
	H256(blake2_256(&output.encode()))
}

/// Checks that a model is not larger than a store takes.
fn check_size(folder: &Path, files: usize, bytes: u64) -> Result<(), ImportError> {
	if files <= MAX_FILES && bytes <= MAX_BYTES {
		return Ok(());
	}
	Err(ImportError::BadFile {
		path: folder.into(),
		why: format!(
			"{files} files of {bytes} bytes; the most are {MAX_FILES} files and {MAX_BYTES} bytes"
		),
	})
}

/// Checks that whatever the limits admit can be answered: the chain would take requests, and their fees, that no validator can
/// serve.
fn check_limits(
	path: &Path,
	manifest: &Manifest,
	overhead: Option<u32>,
) -> Result<(), ImportError> {
	let bad = |why: String| {
		Err(ImportError::BadCard {
			path: path.into(),
			why,
		})
	};
	let wanted = manifest.policy.min_verifiers;
	if wanted > MAX_VERIFIERS {
		return bad(format!(
			"policy: min_verifiers is {wanted}, and no request can ask for more than {MAX_VERIFIERS}: lower it"
		));
	}
	let TaskDetails::TextGeneration {
		context, tokenizer, ..
	} = &manifest.task
	else {
		return Ok(());
	};
	let Limits {
		max_input_units: input,
		max_output_units: output,
	} = manifest.limits;
	let folder = path.parent().unwrap_or(Path::new(""));
	let growth = match hub::read(folder, tokenizer).and_then(|t| growth(&t)) {
		Ok(growth) => growth,
		Err(why) => return bad(format!("{tokenizer}: {why}")),
	};
	// Beyond what the units of a chat cover. What is put around a text is not put around a chat, whose template does that.
	let overhead = overhead.unwrap_or(0);
	let most = growth.tokens(input) + u64::from(overhead.saturating_sub(growth.added));
	if most + u64::from(output) > u64::from(*context) {
		let room = context.saturating_sub(output).saturating_sub(overhead);
		let mut why = format!(
			"limits: {input} input units, which may become {most} tokens, and {output} output units are more than the context of \
			 {context} tokens: lower max_input_units to {} or less, or max_output_units",
			growth.bytes(room)
		);
		if growth.factor > 1 {
			why.push_str(&format!(
				". The tokenizer's normalizer may make a text {} times as long",
				growth.factor
			));
		}
		return bad(why);
	}
	Ok(())
}

/// Proves the graph of a model that says that it is of the integer class.
fn prove(folder: &Path, manifest: &Manifest) -> Result<Option<Proof>, ImportError> {
	if manifest.numerics.element_type != INTEGER {
		return Ok(None);
	}
	let graph = inside(folder, &manifest.graph)?;
	match prove_integer(&graph) {
		Ok(proof) => Ok(Some(proof)),
		Err(why) => Err(ImportError::Unproven {
			graph,
			why: Refusals(why),
		}),
	}
}

/// Whether a tensor of floats holds NaN or infinity.
pub(crate) fn not_finite(tensor: &Tensor) -> bool {
	let any = |width: usize, bad: fn(&[u8]) -> bool| tensor.data.chunks_exact(width).any(bad);
	match tensor.datatype {
		// All bits of the exponent are set.
		DataType::Fp16 => any(2, |b| b[1] & 0x7c == 0x7c),
		DataType::Bf16 => any(2, |b| b[1] & 0x7f == 0x7f && b[0] & 0x80 == 0x80),
		DataType::Fp32 => any(4, |b| b[3] & 0x7f == 0x7f && b[2] & 0x80 == 0x80),
		DataType::Fp64 => any(8, |b| b[7] & 0x7f == 0x7f && b[6] & 0xf0 == 0xf0),
		_ => false,
	}
}

/// Refuses a reference that shows nothing: one without an answer, or whose answer is no numbers.
fn check_reference(output: &Output) -> Result<(), String> {
	match output {
		Output::Unanswerable(code) => Err(format!(
			"the reference input cannot be answered: {}. Give the card a reference that can be, or mend the model",
			code.reason()
		)),
		Output::Tensors(tensors) => match tensors.iter().find(|t| not_finite(t)) {
			Some(tensor) => Err(format!(
				"the reference's output {:?} holds NaN or infinity: give the card a reference for which it is numbers, or mend the \
				 model",
				String::from_utf8_lossy(&tensor.name)
			)),
			None => Ok(()),
		},
		Output::Text { .. } => Ok(()),
	}
}

/// Checks that the graph keeps its weights in files of the model and nowhere else.
fn check_graph(folder: &Path, graph: &str, files: &[File]) -> Result<(), ImportError> {
	for (location, named) in weights(folder, graph)? {
		if !files.iter().any(|f| f.path == named) {
			return Err(ImportError::BadFile {
				path: folder.join(graph),
				why: format!(
					"its weights are in {location:?}, which is none of the model's files: list it among them"
				),
			});
		}
	}
	Ok(())
}

/// Files in which a graph keeps its weights: each as the graph names it, and by its name in the model's folder.
pub(crate) fn weights(folder: &Path, graph: &str) -> Result<Vec<(String, String)>, ImportError> {
	let path = inside(folder, graph)?;
	check(&path, Wanted::Onnx).map_err(|why| ImportError::BadFile {
		path: path.clone(),
		why,
	})?;
	let locations = read_file(&path, MAX_GRAPH).and_then(|bytes| external_files(&bytes));
	let locations = locations.map_err(|why| ImportError::BadFile { path, why })?;
	let parent = graph.rsplit_once('/').map_or("", |(parent, _)| parent);
	let named = locations.into_iter().map(|location| match parent {
		"" => (location.clone(), location),
		parent => {
			let named = format!("{parent}/{location}");
			(location, named)
		}
	});
	Ok(named.collect())
}

/// The file of this name, if it is a plain file inside the folder.
pub(crate) fn inside(folder: &Path, name: &str) -> Result<PathBuf, ImportError> {
	let path = folder.join(name);
	let bad = |why: &str| ImportError::BadFile {
		path: path.clone(),
		why: why.into(),
	};
	let plain = Path::new(name)
		.components()
		.all(|c| matches!(c, Component::Normal(_)));
	if !plain || name.is_empty() {
		return Err(bad("names of files are relative and without '..'"));
	}
	let real = fs::canonicalize(&path).map_err(|e| match e.kind() {
		io::ErrorKind::NotFound => bad("the file is missing"),
		_ => bad(&e.to_string()),
	})?;
	if !may_follow(folder, &real) {
		return Err(bad(
			"leads out of the model's folder: put the file itself there",
		));
	}
	if !real.is_file() {
		return Err(bad("is not a file"));
	}
	Ok(path)
}

/// Copies a file; with `share`, links it where the file system can.
pub(crate) fn copy(from: &Path, to: &Path, share: bool) -> io::Result<()> {
	// A link to a link would keep the author's path.
	let real = fs::canonicalize(from)?;
	if share && fs::hard_link(&real, to).is_ok() {
		return Ok(());
	}
	fs::copy(&real, to).map(|_| ())
}

/// A file's bytes, if they are no more than this.
fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
	let size = fs::metadata(path).map_err(|e| e.to_string())?.len();
	if size > most {
		return Err(format!("{size} bytes; the most are {most}"));
	}
	fs::read(path).map_err(|e| e.to_string())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
	let bad = |why: String| ImportError::BadCard {
		path: path.into(),
		why,
	};
	let bytes = read_file(path, MAX_JSON).map_err(bad)?;
	serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

/// Writes a model's manifest into its folder: for people, and as it is hashed.
pub(crate) fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), StoreError> {
	write(&folder.join(ENCODED), &manifest.encode())?;
	write_json(&folder.join(MANIFEST), manifest)
}

/// Writes a value as JSON: whole and on the disk, or not at all.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), StoreError> {
	let bytes = serde_json::to_vec_pretty(value).map_err(|e| StoreError::Damaged {
		path: path.into(),
		why: e.to_string(),
	})?;
	write(path, &bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
	let scratch = path.with_extension("new");
	let written = fs::File::create(&scratch).and_then(|mut file| {
		file.write_all(bytes)?;
		file.sync_all()?;
		fs::rename(&scratch, path)
	});
	written.map_err(StoreError::io(path))
}
