//! What was found, for programs (JSON) and people (Markdown).

use std::fmt::Write;

use consilience_primitives::{
	model::{NumericClass, Task, VerificationPolicy},
	ModelId,
};
use serde::Serialize;

use crate::{
	configuration::{library_name, Configuration},
	policy::{Slack, Spread},
	statistics::{Chance, Rate},
};

/// Most deviations of a kind that a report for people lists.
const LISTED: usize = 3;

/// The machine on which was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
	/// What the processor calls itself.
	pub processor: String,
	/// Logical processors.
	pub cores: usize,
	/// Instructions that decide which kernels ONNX Runtime uses.
	pub instructions: Vec<&'static str>,
	/// Architecture.
	pub architecture: &'static str,
}

impl Machine {
	/// This machine.
	pub fn this() -> Self {
		let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
		let processor = info
			.lines()
			.find_map(|l| l.strip_prefix("model name")?.split_once(": "))
			.map_or("unknown", |(_, name)| name);
		Self {
			processor: processor.into(),
			cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
			instructions: instructions(),
			architecture: std::env::consts::ARCH,
		}
	}
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
	let mut found = Vec::new();
	macro_rules! look {
		($($feature:tt),*) => {$(
			if std::arch::is_x86_feature_detected!($feature) {
				found.push($feature);
			}
		)*};
	}
	look!("avx2", "fma", "avx512f", "avx512vnni", "avxvnni");
	found
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Vec<&'static str> {
	Vec::new()
}

/// A way of running, and how far it is from the first at most.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigurationReport {
	/// Its name.
	pub name: String,
	/// File name of its ONNX Runtime library.
	pub library: String,
	/// Differences from the first configuration: of answers from which a policy was made, or of those that judge one that stands.
	pub spread: Spread,
}

impl ConfigurationReport {
	pub(crate) fn new(configuration: &Configuration, spread: Spread) -> Self {
		let library = configuration
			.library
			.clone()
			.or_else(|| consilience_engine::find_library(configuration.engine.provider).ok());
		Self {
			name: configuration.name.clone(),
			library: library.map_or_else(String::new, |l| library_name(&l)),
			spread,
		}
	}
}

/// How much was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
	/// Answers from which the policy was made.
	pub calibration: usize,
	/// Other answers, by which a policy was judged.
	pub held_out: usize,
	/// Challenges for each.
	pub challenges: usize,
	/// How thresholds were made.
	pub slack: Slack,
	/// The largest honest differences that were known from other machines.
	pub known: Spread,
}

/// Honest answers of a length.
#[derive(Clone, Debug, Serialize)]
pub struct HonestRow {
	/// Tokens asked for.
	pub tokens: u32,
	/// Committees compared.
	pub committees: u64,
	/// Answers that at least one committee sent to a jury.
	pub disputed: Rate,
	/// Answers after which at least one jury would have found a fraud in somebody honest, or the answer wrong.
	pub blamed: Rate,
}

/// Dishonest answers of a kind and length.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
	/// Tokens asked for.
	pub tokens: u32,
	/// Answers that every committee refused under the first challenge.
	pub caught: Rate,
	/// Answers whose executor every jury found a fraud.
	pub punished: Rate,
	/// Answers caught of those that are not what the model says: other tokens, or an element of a tensor that is farther away than
	/// is accepted.
	pub of_wrong: Rate,
	/// The chance that an executor with ten such answers is caught at least once.
	pub of_ten: Chance,
}

/// A kind of dishonesty.
#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
	/// Its name.
	pub kind: String,
	/// By tokens asked for.
	pub columns: Vec<Column>,
}

/// First wrong tokens of answers whose executor showed honest evidence.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct WrongTokens {
	/// How many there were.
	pub wrong: u64,
	/// Found: the answer up to and with the token is refused.
	pub found: u64,
	/// Misplaced: the answer before the token is refused already.
	pub misplaced: u64,
	/// Answers, at any length, of which every token was what the model says.
	pub right: u64,
	/// Those of them that were refused.
	pub false_alarms: u64,
}

/// The token that gave an answer away.
#[derive(Clone, Debug, Serialize)]
pub struct DeviationReport {
	/// Kind of dishonesty.
	pub kind: String,
	/// Number of the question.
	pub question: usize,
	/// Position in the answer, from zero.
	pub position: u32,
	/// The claimed token.
	pub said: u32,
	/// What it says.
	pub said_word: String,
	/// What the model says there.
	pub should: u32,
	/// What that token says.
	pub should_word: String,
	/// Margin between them, in logits.
	pub margin: f64,
	/// Whether it is beyond what the policy accepts.
	pub found: bool,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
	/// Name of the model.
	pub model: String,
	/// Its id under the standing policy.
	pub id: ModelId,
	/// What it does.
	pub task: Task,
	/// Where was measured.
	pub machine: Machine,
	/// Ways of running.
	pub configurations: Vec<ConfigurationReport>,
	/// How much was measured.
	pub sample: Sample,
	/// The largest honest differences: between any two ways where a policy was made of them, from the first where one stands.
	pub seen: Spread,
	/// The policy in the model's manifest.
	pub standing: VerificationPolicy,
	/// The policy by which was judged.
	pub policy: VerificationPolicy,
	/// Whether that was made here.
	pub proposed: bool,
	/// Honest measurements that were compared with the first configuration's, both splits together.
	pub compared: u64,
	/// Those that were not equal in every bit.
	pub different: u64,
	/// Honest answers.
	pub honest: Vec<HonestRow>,
	/// Dishonest answers.
	pub dishonest: Vec<KindReport>,
	/// Wrong tokens; text generation only.
	pub wrong_tokens: Option<WrongTokens>,
	/// Which ones.
	pub deviations: Vec<DeviationReport>,
	/// How long it took, in seconds.
	pub seconds: f64,
}

impl Report {
	/// The report for people. `command` is how to repeat it.
	pub fn markdown(&self, command: &str) -> String {
		let mut out = String::new();
		// Writing to a string does not fail.
		let _ = self.write(&mut out, command);
		out
	}

	fn write(&self, out: &mut String, command: &str) -> std::fmt::Result {
		let machine = &self.machine;
		writeln!(out, "## {}\n", self.model)?;
		writeln!(out, "```sh\n{command}\n```\n")?;
		writeln!(
			out,
			"{} ({}), {} cores, {}. {} answers for calibration, {} held out, {} challenges each; {:.0} s.\n",
			machine.processor,
			machine.architecture,
			machine.cores,
			machine.instructions.join(" "),
			self.sample.calibration,
			self.sample.held_out,
			self.sample.challenges,
			self.seconds,
		)?;
		writeln!(
			out,
			"Honest measurements compared with the first configuration's: {}; not equal in every bit: {}.\n",
			self.compared, self.different
		)?;
		writeln!(
			out,
			"| configuration | library | largest mean difference | largest difference | largest margin |\n|---|---|---|---|---|"
		)?;
		for c in &self.configurations {
			let Spread { mean, max, margin } = c.spread;
			writeln!(
				out,
				"| {} | {} | {mean:.1e} | {max:.1e} | {margin:.1e} |",
				c.name, c.library
			)?;
		}
		self.write_policy(out)?;
		writeln!(
			out,
			"\nHonest answers that a committee would send to a jury, and after which a jury would blame somebody:\n"
		)?;
		writeln!(
			out,
			"| tokens | committees | disputed | blamed |\n|---|---|---|---|"
		)?;
		for row in &self.honest {
			writeln!(
				out,
				"| {} | {} | {} | {} |",
				self.length(row.tokens),
				row.committees,
				row.disputed,
				row.blamed
			)?;
		}
		for (title, get) in [
			(
				"Dishonest answers that every committee refuses",
				(|c: &Column| c.caught.to_string()) as fn(&Column) -> String,
			),
			("Of those that are not what the model says", |c: &Column| {
				c.of_wrong.to_string()
			}),
			("Found a fraud by every jury", |c: &Column| {
				c.punished.to_string()
			}),
			("Caught at least once in ten answers", |c: &Column| {
				if c.caught.of == 0 {
					"–".into()
				} else {
					c.of_ten.to_string()
				}
			}),
		] {
			self.write_kinds(out, title, get)?;
		}
		self.write_deviations(out)
	}

	/// What stands at the top of a column.
	fn length(&self, tokens: u32) -> String {
		if self.task == Task::TextGeneration {
			tokens.to_string()
		} else {
			"whole".into()
		}
	}

	fn write_policy(&self, out: &mut String) -> std::fmt::Result {
		let origin = if self.proposed && self.policy.class == NumericClass::Tolerant {
			let Spread { mean, max, margin } = self.sample.known;
			let known = if self.sample.known == Spread::default() {
				String::new()
			} else {
				format!(" or known (mean {mean:.1e}, largest {max:.1e}, margin {margin:.1e})")
			};
			format!(
				"proposed: {} times the largest honest difference seen{known} is accepted, {} times that is fraud",
				self.sample.slack.accept, self.sample.slack.fraud
			)
		} else {
			"the manifest's".into()
		};
		writeln!(out, "\nPolicy ({origin}):\n")?;
		let json = serde_json::to_string(&self.policy).unwrap_or_default();
		writeln!(out, "```json\n{json}\n```")?;
		if self.policy.class == NumericClass::Tolerant {
			let step = (-f64::from(self.policy.fraction_bits)).exp2();
			writeln!(
				out,
				"\n| | mean | largest | margin | mean margin |\n|---|---|---|---|---|"
			)?;
			for (name, b) in [("accept", self.policy.accept), ("fraud", self.policy.fraud)] {
				writeln!(
					out,
					"| {name} | {:.2e} | {:.2e} | {:.2e} | {:.2e} |",
					f64::from(b.mean) * step / 256.0,
					f64::from(b.max) * step,
					f64::from(b.margin_max) / 65_536.0,
					f64::from(b.margin_mean) / 65_536.0,
				)?;
			}
		}
		Ok(())
	}

	fn write_kinds(
		&self,
		out: &mut String,
		title: &str,
		get: fn(&Column) -> String,
	) -> std::fmt::Result {
		let Some(first) = self.dishonest.first() else {
			return Ok(());
		};
		writeln!(out, "\n{title}:\n")?;
		write!(out, "| kind |")?;
		for column in &first.columns {
			write!(out, " {} |", self.length(column.tokens))?;
		}
		writeln!(out, "\n|---|{}", "---|".repeat(first.columns.len()))?;
		for kind in &self.dishonest {
			write!(out, "| {} |", kind.kind)?;
			for column in &kind.columns {
				write!(out, " {} |", get(column))?;
			}
			writeln!(out)?;
		}
		Ok(())
	}

	fn write_deviations(&self, out: &mut String) -> std::fmt::Result {
		let Some(tokens) = &self.wrong_tokens else {
			return Ok(());
		};
		writeln!(
			out,
			"\nFirst wrong tokens under honest evidence: {} of {} found, {} refused too early. Answers without a wrong token: {}, \
			 refused: {}.",
			tokens.found, tokens.wrong, tokens.misplaced, tokens.right, tokens.false_alarms
		)?;
		if self.deviations.is_empty() {
			return Ok(());
		}
		writeln!(
			out,
			"\n| kind | question | position | said | the model says | margin | found |\n|---|---|---|---|---|---|---|"
		)?;
		let mut last = ("", 0);
		for d in &self.deviations {
			last = if last.0 == d.kind {
				(last.0, last.1 + 1)
			} else {
				(&d.kind, 1)
			};
			if last.1 > LISTED {
				continue;
			}
			writeln!(
				out,
				"| {} | {} | {} | {} {} | {} {} | {:.3} | {} |",
				d.kind,
				d.question,
				d.position,
				d.said,
				cell(&d.said_word),
				d.should,
				cell(&d.should_word),
				d.margin,
				if d.found { "yes" } else { "no" },
			)?;
		}
		Ok(())
	}
}

/// A word as a table holds it.
fn cell(word: &str) -> String {
	let word = word.escape_debug().to_string();
	format!("`{}`", word.replace('`', "'").replace('|', "\\|"))
}
