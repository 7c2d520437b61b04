//! `consilience model exactness`, and what an import says of a model's class.

use std::{path::Path, process::exit, time::Duration};

use consilience_canonical::Proof;
use consilience_engine::{
	exactness::{measure, Options, Outcome, Report, Verdict, Way},
	Provider,
};
use consilience_primitives::{manifest::Manifest, model::NumericClass};
use consilience_store::Measured;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use super::{
	confine,
	model::{described, InProcess, StoreArguments},
	Format, Result,
};

/// How long a measurement may take: a large model has to be loaded many times.
const LONGEST: Duration = Duration::from_secs(12 * 3_600);

/// Run a model in every honest way, and say whether it is of the exact class or which operator broke the bits.
///
/// Ends with status 0 if it is, and 1 if it is not.
#[derive(Debug, clap::Args)]
pub(crate) struct ExactnessCommand {
	/// Folder, or id or name of a model in the store.
	model: String,
	/// Most tokens of the long text; the model's context, where that is less.
	#[arg(long, value_name = "N", default_value_t = 2_048)]
	context: usize,
	/// Run only the ways that an import runs.
	#[arg(long)]
	short: bool,
	#[command(flatten)]
	store: StoreArguments,
	#[command(flatten)]
	format: Format,
}

impl ExactnessCommand {
	/// Does what the command says.
	pub(super) fn run(&self) -> Result<()> {
		if !confine::is_confined() {
			return confine::run(&self.model, LONGEST);
		}
		let runner = InProcess::new(false, Provider::Cpu)?;
		let (folder, manifest) = described(&self.model, &runner, &self.store, self.format)?;
		let options = if self.short {
			Options {
				context: self.context.min(Options::short().context),
				limit: None,
				..Options::short()
			}
		} else {
			Options::thorough(self.context)
		};
		let bar = if self.format.json {
			ProgressBar::hidden()
		} else {
			ProgressBar::new(0)
		};
		bar.set_style(bar_style());
		let report = measure(&folder, &manifest, &options, &mut |progress| {
			bar.set_length(progress.total);
			bar.set_position(progress.done);
			bar.set_message(progress.way);
		})
		.map_err(|e| format!("{}: {e}", self.model))?;
		bar.finish_and_clear();
		let mut value = serde_json::to_value(&report).map_err(|e| e.to_string())?;
		value["name"] = json!(manifest.name);
		value["reason"] = json!(report.reason());
		self.format
			.print(&value, || for_people(&manifest.name, &report));
		if report.verdict != Verdict::Exact {
			exit(1);
		}
		Ok(())
	}
}

/// A bar whose length is not in bytes.
pub(super) fn bar_style() -> ProgressStyle {
	ProgressStyle::with_template("{msg:60!} {wide_bar} {percent}% {eta}")
		.expect("the template is well-formed; qed")
}

fn outcome(way: &Way) -> String {
	match &way.outcome {
		Outcome::Equal => format!("equal at {} positions", way.positions),
		Outcome::Differs(d) => format!(
			"DIFFERS at {} of {} positions, first at {} of text {}, by up to {:.1e}",
			d.differing, way.positions, d.position, d.text, d.largest
		),
		Outcome::Inapplicable { why } => format!("not applicable: {why}"),
		Outcome::Skipped { why } => format!("not run: {why}"),
	}
}

fn for_people(name: &str, report: &Report) -> String {
	let lengths: Vec<_> = report.texts.iter().map(usize::to_string).collect();
	let mut lines = vec![format!(
		"{name}: texts of {} positions, {:.0} s",
		lengths.join(", "),
		report.seconds
	)];
	for way in &report.ways {
		lines.push(format!("  {}: {}", way.name, outcome(way)));
	}
	for culprit in &report.culprits {
		lines.push(format!(
			"operator: {} {:?}, node {} in topological order: its output {:?} of shape {:?} differs by up to {:.1e} where all \
			 before it is equal ({})",
			culprit.operator,
			culprit.node,
			culprit.index,
			culprit.value,
			culprit.shape,
			culprit.largest,
			culprit.way
		));
		if let Some(optimized) = &culprit.optimized {
			lines.push(format!("  the optimiser has put {optimized} in its place"));
		}
		match &culprit.trap {
			Some(trap) => lines.push(format!("  known trap: {trap}")),
			None => lines.push("  no known trap".into()),
		}
	}
	for unexplained in &report.unexplained {
		lines.push(format!("no operator found: {unexplained}"));
	}
	for doubt in &report.doubts {
		lines.push(format!(
			"{}: {} stands {} times in the graph, first {:?}: {}",
			if doubt.bars {
				"not of the exact class"
			} else {
				"look at"
			},
			doubt.operator,
			doubt.count,
			doubt.first,
			doubt.why
		));
	}
	if report.proven {
		lines.push("proven: the graph is of the integer class".into());
	}
	lines.push(format!("digest of the reference: {}", report.digest));
	lines.push(match report.reason() {
		Some(reason) => format!("not exact: {reason}"),
		None => "exact".into(),
	});
	lines.join("\n")
}

/// The short form that an import runs.
pub(super) fn for_import(
	folder: &Path,
	manifest: &Manifest,
	progress: &mut dyn FnMut(u64, u64),
) -> std::result::Result<Measured, String> {
	let report = measure(folder, manifest, &Options::short(), &mut |p| {
		progress(p.done, p.total)
	})
	.map_err(|e| e.to_string())?;
	Ok(match report.reason() {
		Some(why) => Measured::Inexact { why },
		None => Measured::Exact {
			skipped: report.skipped(),
		},
	})
}

/// Says on standard error what an import's class rests on, where that is less than a measurement, or more.
pub(super) fn say_how_known(
	manifest: &Manifest,
	measured: Option<&Measured>,
	measures: bool,
	proof: Option<&Proof>,
) {
	let name = &manifest.name;
	if let Some(proof) = proof {
		eprintln!(
			"{name} is proven to be of the integer class: {} sums, of whole numbers within their types",
			proof.sums.len()
		);
	}
	match (manifest.policy.class, measured) {
		(NumericClass::Exact, Some(Measured::Exact { skipped })) if !skipped.is_empty() => {
			eprintln!(
				"warning: {name} is exact as far as was measured in the time that an import takes: `consilience model exactness` \
				 runs the rest: {}",
				skipped.join("; ")
			);
		}
		(NumericClass::Tolerant, Some(Measured::Exact { skipped })) => eprintln!(
			"warning: {name} is taken as tolerant, because not all could be measured in the time that an import takes. If \
			 `consilience model exactness` finds it exact, write that into the card: {}",
			skipped.join("; ")
		),
		(NumericClass::Tolerant, Some(Measured::Inexact { why })) => {
			eprintln!("{name} is not of the exact class: {why}");
		}
		(NumericClass::Exact, None) if !measures => eprintln!(
			"warning: that {name} is of the exact class was not measured (--no-measure)"
		),
		_ => (),
	}
}

/// What an import measured, for programs.
pub(super) fn measured_json(measured: Option<&Measured>) -> Value {
	match measured {
		None => Value::Null,
		Some(Measured::Exact { skipped }) => json!({ "class": "exact", "skipped": skipped }),
		Some(Measured::Inexact { why }) => json!({ "class": "tolerant", "why": why }),
	}
}
