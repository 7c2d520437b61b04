//! `consilience model canonicalise`: all of it is in `consilience-canonical`.

use std::path::{Path, PathBuf};

use consilience_canonical::{Canonical, Proof, Ranges, Weights, INTEGER};
use consilience_store::Card;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use super::{Format, Result};

/// Element types of the weights.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Element {
	/// Single precision, as published.
	Fp32,
	/// Eight bits: a quarter of the file, and not quite the same answers.
	Int8,
}

/// Classes that graphs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Class {
	/// Equal bits however it is run, on processors with the same instructions.
	Exact,
	/// Equal bits on every machine: sums of whole numbers, which is proven of the graph. Eight bits.
	Integer,
}

/// What is converted, and to what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CanonicaliseCommand {
	/// A GGUF file, or a folder as the hub has it: config.json, *.safetensors, tokenizer.json.
	source: PathBuf,
	/// Folder to make; `consilience model import` takes it.
	out: PathBuf,
	/// Class of the graph.
	#[arg(long, value_enum, default_value = "exact")]
	class: Class,
	/// Element type of the weights in the exact class [default: fp32].
	#[arg(long, value_enum)]
	weights: Option<Element>,
	/// Ranges of the model's queries, keys and values, for the integer class [default: those that come with this program].
	#[arg(long, value_name = "FILE")]
	ranges: Option<PathBuf>,
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
		let (canonical, weights) = self.open()?;
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
		let proof = write(canonical, &self.out, self.format)?;
		let summary = json!({
			"name": card.name,
			"architecture": architecture,
			"weights": weights,
			"license": card.license,
			"bytes": bytes,
			"nodes": nodes,
			"folder": self.out.display().to_string(),
			"proof": proof.as_ref().map(summary_of),
		});
		self.format.print(&summary, || {
			let proven = proof.map_or(String::new(), |proof| format!("\nproven: {proof}"));
			format!(
				"{} ({architecture}, {weights}, {:.1} MB) is in {folder}{proven}\nnext: look at {folder}/model.json (limits, \
				 price, license), then consilience model import {folder}",
				card.name,
				bytes as f64 / 1e6,
				folder = self.out.display(),
			)
		});
		Ok(())
	}

	/// The conversion, and what its weights are called.
	fn open(&self) -> Result<(Canonical, &'static str)> {
		let name = self.name.as_deref();
		match self.class {
			Class::Integer => {
				if self.weights.is_some() {
					return Err(
						"--weights is of the exact class: the integer class has one form".into(),
					);
				}
				let ranges = self.ranges.as_deref().map(Ranges::read).transpose();
				let ranges = ranges.map_err(|e| e.to_string())?;
				let canonical = Canonical::integer(&self.source, ranges, name, self.context)
					.map_err(|e| e.to_string())?;
				Ok((canonical, INTEGER))
			}
			Class::Exact => {
				if self.ranges.is_some() {
					return Err("--ranges is of the integer class: add --class integer".into());
				}
				let weights = match self.weights {
					None | Some(Element::Fp32) => Weights::Fp32,
					Some(Element::Int8) => Weights::Int8,
				};
				let canonical = Canonical::with_context(&self.source, weights, name, self.context)
					.map_err(|e| e.to_string())?;
				Ok((canonical, weights.name()))
			}
		}
	}
}

/// A proof for programs.
pub(super) fn summary_of(proof: &Proof) -> Value {
	let sums: Vec<_> = proof
		.tightest()
		.into_iter()
		.map(|(count, sum)| {
			json!({
				"operator": sum.operator,
				"element": sum.element,
				"count": count,
				"bound": sum.bound,
				"limit": sum.limit,
				"terms": sum.terms,
			})
		})
		.collect();
	let requirements: Vec<_> = proof.requirements.iter().map(ToString::to_string).collect();
	json!({
		"sums": sums,
		"operators": proof.operators,
		"requirements": requirements,
		"eleven_bits": proof.eleven_bits,
	})
}

/// Writes the folder, showing progress. Returns what was proven of a graph of the integer class.
pub(super) fn write(canonical: Canonical, out: &Path, format: Format) -> Result<Option<Proof>> {
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
