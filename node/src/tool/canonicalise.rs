//! `consilience model canonicalise`: all of it is in `consilience-canonical`.

use std::path::{Path, PathBuf};

use consilience_canonical::{Canonical, Weights};
use consilience_store::Card;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Format, Result};

/// Element types of the weights.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Element {
	/// Single precision, as published.
	Fp32,
	/// Eight bits: a quarter of the file, and not quite the same answers.
	Int8,
}

/// What is converted, and to what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CanonicaliseCommand {
	/// A GGUF file, or a folder as the hub has it: config.json, *.safetensors, tokenizer.json.
	source: PathBuf,
	/// Folder to make; `consilience model import` takes it.
	out: PathBuf,
	/// Element type of the weights.
	#[arg(long, value_enum, default_value = "fp32")]
	weights: Element,
	/// Name of the model, at most 64 bytes [default: made from the source's].
	#[arg(long)]
	name: Option<String>,
	/// Tokens of the longest text, prompt and answer together, at most 16384 [default: what the model was made for, at most 2048].
	#[arg(long, value_name = "TOKENS")]
	context: Option<usize>,
	/// Print the card, and write nothing.
	#[arg(long)]
	dry_run: bool,
	#[command(flatten)]
	format: Format,
}

impl CanonicaliseCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> Result<()> {
		let weights = match self.weights {
			Element::Fp32 => Weights::Fp32,
			Element::Int8 => Weights::Int8,
		};
		let name = self.name.as_deref();
		let canonical = Canonical::with_context(&self.source, weights, name, self.context)
			.map_err(|e| e.to_string())?;
		let value = canonical.card().clone();
		if self.dry_run {
			let text = serde_json::to_string_pretty(&value).map_err(|e| e.to_string())?;
			println!("{text}");
			return Ok(());
		}
		// What import reads is the store's business: it must not find out after hours of work.
		let card: Card = serde_json::from_value(value).map_err(|e| format!("the card: {e}"))?;
		let (bytes, nodes) = (canonical.bytes(), canonical.nodes());
		let architecture = canonical.architecture().to_owned();
		write(canonical, &self.out, self.format)?;
		let summary = json!({
			"name": card.name,
			"architecture": architecture,
			"weights": weights.name(),
			"license": card.license,
			"bytes": bytes,
			"nodes": nodes,
			"folder": self.out.display().to_string(),
		});
		self.format.print(&summary, || {
			format!(
				"{} ({architecture}, {}, {:.1} MB) is in {folder}\nnext: look at {folder}/model.json (limits, price, license), \
				 then consilience model import {folder}",
				card.name,
				weights.name(),
				bytes as f64 / 1e6,
				folder = self.out.display(),
			)
		});
		Ok(())
	}
}

/// Writes the folder, showing progress.
pub(super) fn write(canonical: Canonical, out: &Path, format: Format) -> Result<()> {
	let bar = if format.json {
		ProgressBar::hidden()
	} else {
		ProgressBar::new(canonical.bytes())
	};
	bar.set_style(
		ProgressStyle::with_template("writing weights {wide_bar} {bytes}/{total_bytes} {eta}")
			.expect("the template is well-formed; qed"),
	);
	let written = canonical.write(out, &mut |n| bar.inc(n));
	bar.finish_and_clear();
	written.map_err(|e| e.to_string())
}
