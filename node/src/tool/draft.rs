//! `consilience model draft`, and what import does with what has no card.

use std::path::{Path, PathBuf};

use consilience_canonical::{Canonical, Weights};
use consilience_engine::Provider;
use consilience_primitives::model::NumericClass;
use consilience_store::{Draft, Store};
use serde_json::json;

use super::{canonicalise, model::InProcess, Format, Result};

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
	#[command(flatten)]
	format: Format,
}

impl DraftCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> Result<()> {
		let engine = InProcess::new(false, Provider::Cpu)?;
		let (graph, name) = (self.graph.as_deref(), self.name.as_deref());
		let draft = Draft::of(&self.source, graph, name, |g| engine.inspect(g))
			.map_err(|e| e.to_string())?;
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
		});
		self.format.print(&summary, || {
			let next = match card.class {
				None => format!(
					"consilience model import {folder}, which measures whether the model is of the exact class; what is not is \
					 calibrated first: consilience calibrate {folder}"
				),
				Some(_) => calibrate(&folder),
			};
			format!(
				"a card for {} is in {folder}\nnext: look at {folder}/model.json (license, element type, limits, price), then {next}",
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
	let drafted = source.extension().is_none_or(|e| e != "gguf");
	if drafted {
		let draft =
			Draft::of(source, None, None, |g| engine.inspect(g)).map_err(|e| e.to_string())?;
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
