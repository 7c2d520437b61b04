//! `consilience model draft`, and what import does with what has no card.

use std::path::{Path, PathBuf};

use consilience_canonical::{Canonical, Weights};
use consilience_engine::Provider;
use consilience_files::Content;
use consilience_primitives::model::NumericClass;
use consilience_store::{Draft, Store, Wishes};
use serde_json::json;

use super::{canonicalise, input, model::InProcess, Format, Result};

/// What gets a card.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DraftCommand {
	/// An ONNX file, or a folder as the hub has it: config.json, tokenizer.json, onnx/*.onnx.
	pub(super) source: PathBuf,
	/// Folder to make, with the card (model.json) and the files that it names, linked where the file system can.
	out: PathBuf,
	/// The graph in the folder [default: onnx/model.onnx, model.onnx, or the only one].
	#[arg(long)]
	graph: Option<String>,
	/// Name of the model, at most 64 bytes [default: made from the source's].
	#[arg(long)]
	name: Option<String>,
	/// Shape of an input whose sizes the graph leaves open, as in images=1,3,320,320; once for each. Guessed where it is not given.
	#[arg(long, value_name = "NAME=SIZES", value_parser = shape)]
	shape: Vec<(String, Vec<u32>)>,
	/// A reference input that the graph takes, as JSON of the Open Inference Protocol: {"inputs": [{"name", "shape", "datatype",
	/// "data"}]}.
	#[arg(long, value_name = "FILE")]
	reference: Option<PathBuf>,
	/// The model takes and gives tensors, even if it looks like one of text.
	#[arg(long)]
	tensors: bool,
	#[command(flatten)]
	format: Format,
}

/// NAME=SIZES.
fn shape(text: &str) -> std::result::Result<(String, Vec<u32>), String> {
	let wrong = || format!("{text:?} is not of the form NAME=1,3,320,320");
	// Names may hold the sign, sizes not.
	let (name, sizes) = text.rsplit_once('=').ok_or_else(wrong)?;
	let sizes = sizes.trim_matches(['[', ']']);
	let sizes = match sizes {
		"" => Vec::new(),
		sizes => sizes
			.split([',', 'x'])
			.map(|n| n.trim().parse().map_err(|_| wrong()))
			.collect::<std::result::Result<_, _>>()?,
	};
	Ok((name.into(), sizes))
}

impl DraftCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> Result<()> {
		let engine = InProcess::new(false, Provider::Cpu)?;
		let reference = self.reference.as_ref().map(|file| {
			let value = input::read(file)?;
			input::tensors(&value)
		});
		let wishes = Wishes {
			graph: self.graph.clone(),
			name: self.name.clone(),
			shapes: self.shape.clone(),
			reference: reference.transpose()?,
			tensors: self.tensors,
		};
		let draft = Draft::of(&self.source, &wishes, &engine).map_err(|e| e.to_string())?;
		draft.write(&self.out).map_err(|e| e.to_string())?;
		let card = &draft.card;
		let folder = self.out.display().to_string();
		let summary = json!({
			"name": card.name,
			"task": card.task,
			"class": card.class,
			"license": card.license,
			"graph": card.graph,
			"files": card.files,
			"folder": folder,
			"notes": draft.notes,
		});
		self.format.print(&summary, || {
			let next = match card.class {
				None => format!(
					"consilience model import {folder}, which measures whether the model is of the exact class; what is not is \
					 calibrated first: consilience calibrate {folder}"
				),
				Some(_) => calibrate(&folder),
			};
			let notes: String = draft.notes.iter().map(|n| format!("\nlook at {n}")).collect();
			format!(
				"a card for {} is in {folder}{notes}\nnext: look at {folder}/model.json (license, element type, limits, price), then {next}",
				card.name
			)
		});
		Ok(())
	}
}

fn calibrate(folder: &str) -> String {
	format!("consilience calibrate {folder}, whose policy goes into the card, then consilience model import {folder}")
}

/// A folder with a card, made of what has none.
pub(super) struct Made {
	pub(super) folder: PathBuf,
	/// Whether its card is a draft, rather than that of a canonical graph.
	drafted: bool,
	_place: tempfile::TempDir,
}

/// Makes a folder with a card of what has none: beside the store's models, where there is room for one, or where temporary files
/// are.
pub(super) fn prepare(
	source: &Path,
	engine: &InProcess,
	store: Option<&Store>,
	format: Format,
) -> Result<Made> {
	let place = match store {
		Some(store) => store.temporary().map_err(|e| e.to_string())?,
		None => tempfile::tempdir().map_err(|e| format!("a folder for temporary files: {e}"))?,
	};
	let folder = place.path().join("model");
	// By what it holds: names say little.
	let gguf = source.is_file() && Content::of(source).is_ok_and(|c| c == Content::Gguf);
	let drafted = !gguf && source.extension().is_none_or(|e| e != "gguf");
	if drafted {
		let draft = Draft::of(source, &Wishes::default(), engine).map_err(|e| e.to_string())?;
		if draft.card.class == Some(NumericClass::Tolerant) {
			return Err(format!(
				"{}: models of this kind are of the tolerant class, whose thresholds are measured. {}",
				source.display(),
				advice(source)
			));
		}
		draft.write(&folder).map_err(|e| e.to_string())?;
	} else {
		let canonical = Canonical::open(source, Weights::Fp32, None).map_err(|e| e.to_string())?;
		canonicalise::write(canonical, &folder, format)?;
	}
	Ok(Made {
		folder,
		drafted,
		_place: place,
	})
}

fn advice(source: &Path) -> String {
	format!(
		"It has no card yet: consilience model draft {} DIR makes a folder with one, then {}",
		source.display(),
		calibrate("DIR")
	)
}

impl Made {
	/// Why it cannot be imported, in terms of what it was made from.
	pub(super) fn explain(&self, why: String, source: &Path) -> String {
		let made = self.folder.display().to_string();
		// The card is nowhere that its reader could look at.
		let why = why
			.replace(&format!("{made}/model.json: "), "")
			.replace(&made, &source.display().to_string());
		let of_class = ["tolerant class", "class is missing"];
		if self.drafted && of_class.iter().any(|part| why.contains(part)) {
			format!("{}: {why}. {}", source.display(), advice(source))
		} else {
			why
		}
	}
}
