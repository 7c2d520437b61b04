//! `consilience calibrate`.

use std::path::PathBuf;

use consilience_engine::{cuda_present, Provider};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
	calibrate,
	configuration::Variations,
	policy::{Slack, Spread},
	process::{serve, EngineProgram},
	run::Options,
	CalibrationError,
};

/// Measure how far honest and dishonest answers of a model are apart, and derive its verification policy.
#[derive(Clone, Debug, clap::Args)]
pub struct CalibrateCommand {
	/// Folder of the model, with a manifest.json or a card (model.json).
	#[arg(required_unless_present = "engine")]
	model: Option<PathBuf>,

	/// Folder of a model that stands in for it, such as one with fewer bits: same tokenizer or same shapes. May be repeated.
	#[arg(long, value_name = "DIR")]
	substitute: Vec<PathBuf>,

	/// Prompts or texts, one a line; for tensor models, requests of the Open Inference Protocol. Made up without it.
	#[arg(long, value_name = "FILE")]
	prompts: Option<PathBuf>,

	/// Questions. Half of them make a policy, and those that are held out judge it; with --keep-policy only those are asked. In
	/// the exact class there is nothing to make, and all judge.
	#[arg(long, default_value_t = 200)]
	answers: usize,

	/// How many of the answers by which is judged liars give too, the first ones; 0 for none [default: all].
	#[arg(long, value_name = "ANSWERS")]
	lies: Option<usize>,

	/// Have each answer measured by the first way of running and only one of the others, which take turns: many answers are
	/// checked in every way, and none by all. For a policy that stands.
	#[arg(long)]
	in_turns: bool,

	/// Questions that an engine works on at a time. In the exact class answers then share its runs.
	#[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
	jobs: u8,

	/// Numbers of tokens asked for at which rates are reported; the last is what answers have.
	#[arg(long, value_delimiter = ',', default_value = "1,8,16,32,64")]
	tokens: Vec<u32>,

	/// Challenges for each answer.
	#[arg(long, default_value_t = 4)]
	challenges: usize,

	/// Numbers of threads; the first is the base's.
	#[arg(long, value_delimiter = ',', default_value = "1,2")]
	threads: Vec<u32>,

	/// Levels of graph optimisation beside the model's own.
	#[arg(
		long,
		value_delimiter = ',',
		default_value = "disable,basic,extended,all"
	)]
	levels: Vec<String>,

	/// Execution provider beside the CPU: `cuda` or `cuda:N`. May be repeated. CUDA's first device without it, where there is one and
	/// the library has CUDA; `cpu` for the CPU alone.
	#[arg(long)]
	provider: Vec<Provider>,

	/// Another ONNX Runtime library. May be repeated.
	#[arg(long, value_name = "PATH")]
	library: Vec<PathBuf>,

	/// A program with arguments that runs the engine, such as an emulator of another processor. May be repeated.
	#[arg(long, value_name = "COMMAND")]
	launcher: Vec<String>,

	/// How many times the largest honest difference is accepted, at least 1.
	#[arg(long, default_value_t = 16.0, value_parser = factor)]
	slack: f64,

	/// Largest honest differences known from other machines: mean of a fingerprint, of one value, margin. Thresholds are made
	/// from them too, as no machine shows what others do.
	#[arg(long, value_name = "MEAN,MAX,MARGIN", value_parser = spread)]
	known: Option<Spread>,

	/// How many times what is accepted is a fraud, at least 1.
	#[arg(long, default_value_t = 16.0, value_parser = factor)]
	fraud: f64,

	/// Judge by the policy in the manifest, and propose none.
	#[arg(long)]
	keep_policy: bool,

	/// Print JSON.
	#[arg(long)]
	json: bool,

	/// Write the report as Markdown, too.
	#[arg(long, value_name = "FILE")]
	report: Option<PathBuf>,

	/// Be an engine of this configuration, on the socket at standard input.
	#[arg(long, hide = true, value_name = "CONFIG")]
	engine: Option<String>,
}

fn spread(text: &str) -> Result<Spread, String> {
	let numbers: Option<Vec<f64>> = text
		.split(',')
		.map(|n| n.parse().ok().filter(|f: &f64| f.is_finite() && *f >= 0.0))
		.collect();
	match numbers.as_deref() {
		Some([mean, max, margin]) => Ok(Spread {
			mean: *mean,
			max: *max,
			margin: *margin,
		}),
		_ => Err(format!(
			"{text:?} is not three numbers, such as 1e-5,1e-4,0"
		)),
	}
}

fn factor(text: &str) -> Result<f64, String> {
	text.parse()
		.ok()
		.filter(|f: &f64| f.is_finite() && *f >= 1.0)
		.ok_or_else(|| format!("{text:?} is no number of at least 1"))
}

impl CalibrateCommand {
	/// Does what the command says. `before` are the arguments with which this program is called to come back here: the
	/// engine's processes are this program too.
	pub fn run(&self, before: &[&str]) -> Result<(), CalibrationError> {
		if let Some(config) = &self.engine {
			return serve(config);
		}
		let program = std::env::current_exe().map_err(CalibrationError::io("this program"))?;
		let mut arguments: Vec<String> = before.iter().map(|a| (*a).to_owned()).collect();
		arguments.push("--engine".into());
		let mut lengths = self.tokens.clone();
		lengths.sort_unstable();
		lengths.dedup();
		let options = Options {
			model: self.model.clone().unwrap_or_default(),
			substitutes: self.substitute.clone(),
			prompts: self.prompts.clone(),
			answers: self.answers,
			lies: self.lies.unwrap_or(usize::MAX),
			in_turns: self.in_turns,
			jobs: self.jobs.into(),
			lengths,
			challenges: self.challenges,
			variations: Variations {
				threads: self.threads.clone(),
				levels: self.levels.clone(),
				providers: self.providers(),
				libraries: self.library.clone(),
				launchers: self.launcher.clone(),
			},
			slack: Slack {
				accept: self.slack,
				fraud: self.fraud,
			},
			known: self.known.unwrap_or_default(),
			keep_policy: self.keep_policy,
			program: EngineProgram { program, arguments },
		};
		let bar = if self.json {
			ProgressBar::hidden()
		} else {
			ProgressBar::new(0)
		};
		if let Ok(style) = ProgressStyle::with_template("{msg:48} {wide_bar} {pos}/{len} {eta}") {
			bar.set_style(style);
		}
		let runtime = tokio::runtime::Runtime::new().map_err(CalibrationError::io("tokio"))?;
		let report = runtime.block_on(calibrate(&options, &bar))?;
		let markdown = report.markdown(&self.repeat());
		if let Some(path) = &self.report {
			std::fs::write(path, &markdown).map_err(CalibrationError::io(path))?;
		}
		if self.json {
			let json = serde_json::to_string(&report)
				.map_err(|e| CalibrationError::Input(e.to_string()))?;
			println!("{json}");
		} else {
			println!("{markdown}");
		}
		Ok(())
	}

	/// Providers beside the CPU.
	fn providers(&self) -> Vec<Provider> {
		if self.provider.is_empty() && cuda_present() {
			vec![Provider::Cuda { device: 0 }]
		} else {
			self.provider.clone()
		}
	}

	/// The command that repeats this, with folders by their names alone: where they are is of one machine.
	fn repeat(&self) -> String {
		let name = |path: &PathBuf| {
			path.file_name()
				.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
		};
		let list = |numbers: &[u32]| {
			let all: Vec<_> = numbers.iter().map(u32::to_string).collect();
			all.join(",")
		};
		let mut words = vec!["consilience calibrate".to_owned()];
		words.extend(self.model.as_ref().map(name));
		let mut option = |key: &str, value: String| words.push(format!("--{key} {value}"));
		for s in &self.substitute {
			option("substitute", name(s));
		}
		if let Some(prompts) = &self.prompts {
			option("prompts", name(prompts));
		}
		option("answers", self.answers.to_string());
		if let Some(lies) = self.lies {
			option("lies", lies.to_string());
		}
		option("tokens", list(&self.tokens));
		option("challenges", self.challenges.to_string());
		option("threads", list(&self.threads));
		option("levels", self.levels.join(","));
		for p in &self.providers() {
			option("provider", p.to_string());
		}
		for l in &self.library {
			option("library", name(l));
		}
		for l in &self.launcher {
			option("launcher", format!("{l:?}"));
		}
		option("slack", self.slack.to_string());
		option("fraud", self.fraud.to_string());
		if let Some(Spread { mean, max, margin }) = self.known {
			option("known", format!("{mean:e},{max:e},{margin:e}"));
		}
		if self.jobs != 1 {
			option("jobs", self.jobs.to_string());
		}
		for (flag, given) in [
			("--in-turns", self.in_turns),
			("--keep-policy", self.keep_policy),
		] {
			if given {
				words.push(flag.into());
			}
		}
		words.join(" \\\n  ")
	}
}
