//! Whether a model is of the exact class: run in every way that an honest machine may choose, does it give the same bits?
//!
//! Ways of running are numbers of threads and the graph optimiser; for text generation also decoding with a cache against one
//! pass, pieces of several lengths, caches with room to spare and caches that grow, and company in a batch; for other tasks
//! batches of copies. The first way is the reference: one thread, the optimisation of the manifest, each text in one pass. All
//! others are compared with it, bit by bit, at every position.
//!
//! Where one differs, the two graphs are run again with the values between their nodes as outputs, and the first node in
//! topological order whose output differs is named. What came before it was equal, so it is the one that broke the
//! bits.
//!
//! Equal bits on one machine are not all: some operators are known to give others on other machines. A graph with one of those is
//! not called exact either ([`Verdict::EqualHere`]).
//!
//! Of a graph of the integer class ([`crate::integer`]) no operator is doubted once it is proven: the proof speaks of every machine,
//! number of threads and order of adding. It does not speak of company, pieces, and room in the cache, so that those are measured
//! even where little is.

mod reference;
mod tensors;
mod text;
mod trace;
mod traps;

use std::{
	path::{Path, PathBuf},
	time::{Duration, Instant},
};

use consilience_canonical::prove_integer;
use consilience_primitives::manifest::{Manifest, TaskDetails};
use serde::Serialize;

use crate::{
	integer,
	onnx::Program,
	session::{Graph, Placement},
	tensor::Raw,
	EngineError,
};
use trace::{first_difference, Axis, Found, Source};

pub use traps::Doubt;

/// How much is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
	/// Most tokens of the long text; the model's context, where that is less.
	pub context: usize,
	/// Every way, or only those in which models have been seen to differ.
	pub thorough: bool,
	/// When this has passed, ways that are left are not begun, and the report names them.
	pub limit: Option<Duration>,
}

impl Options {
	/// Every way, with a long text of so many tokens at most.
	pub const fn thorough(context: usize) -> Self {
		Self {
			context,
			thorough: true,
			limit: None,
		}
	}

	/// Two sessions beside the reference, or none where the graph is proven, and a shorter long text, bounded in time: what an import
	/// runs.
	pub const fn short() -> Self {
		Self {
			context: 640,
			thorough: false,
			limit: Some(Duration::from_secs(180)),
		}
	}
}

/// How far a measurement is, in units of about the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
	/// Units that are done.
	pub done: u64,
	/// Units in all, as far as is known.
	pub total: u64,
	/// What is being run.
	pub way: String,
}

/// What came of all ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
	/// All gave the same bits, and no operator is known to give others elsewhere.
	Exact,
	/// All gave the same bits on this machine; there are operators that are known to give others elsewhere.
	EqualHere,
	/// One gave other bits.
	Differs,
}

/// What a way of running differs in from the reference; it says where to look for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
	/// Another number of threads.
	Threads,
	/// Another level of optimisation, perhaps with another number of threads.
	Optimization,
	/// How many tokens are fed at a time.
	Rows,
	/// Room in the cache.
	Capacity,
	/// Company in the batch.
	Batch,
}

/// What came of one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
	/// The same bits at every position.
	Equal,
	/// Other bits.
	Differs(Difference),
	/// It makes no sense for this model.
	Inapplicable {
		/// Why not.
		why: String,
	},
	/// It was not run, or not to its end.
	Skipped {
		/// Why not.
		why: String,
	},
}

/// How a way differs from the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
	/// Text or input in which the first difference is; counted from 0, the long text is the last.
	pub text: usize,
	/// Its first position: of the token whose logits differ, or of the element of an output.
	pub position: usize,
	/// Positions that differ, in all texts.
	pub differing: usize,
	/// The largest difference of one number.
	pub largest: f64,
}

/// A way of running and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
	/// What was done.
	pub name: String,
	/// Threads of the session.
	pub threads: usize,
	/// Its level of optimisation.
	pub optimization: String,
	/// What it differs in from the reference.
	pub cause: Cause,
	/// Positions that were compared.
	pub positions: usize,
	/// What came of it.
	pub outcome: Outcome,
}

/// The operator that broke the bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Culprit {
	/// The way in which it did.
	pub way: String,
	/// What that way differs in.
	pub cause: Cause,
	/// The node's name, or that of its first output.
	pub node: String,
	/// Its place in topological order.
	pub index: usize,
	/// Its operator, with the domain where that is not ONNX's own.
	pub operator: String,
	/// The value that differs.
	pub value: String,
	/// Its shape in the reference.
	pub shape: Vec<usize>,
	/// The largest difference of one number of it.
	pub largest: f64,
	/// What stands in its place after optimisation, where that is what differs.
	pub optimized: Option<String>,
	/// The known trap that it is, and what to do.
	pub trap: Option<String>,
}

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
	/// What came of it.
	pub verdict: Verdict,
	/// Each way of running.
	pub ways: Vec<Way>,
	/// The operators that broke the bits, one for each cause.
	pub culprits: Vec<Culprit>,
	/// Why no operator was found for a cause.
	pub unexplained: Vec<String>,
	/// Operators that are known to give other bits elsewhere, or of which a model of the integer class is not proven.
	pub doubts: Vec<Doubt>,
	/// Whether the graph is proven to be of the integer class, where the model says that it is.
	pub proven: bool,
	/// Hash over all that the reference gave. Another machine that prints another one is not equal to this.
	pub digest: String,
	/// Texts or inputs, with the number of their positions.
	pub texts: Vec<usize>,
	/// How long it took.
	pub seconds: f64,
}

impl Report {
	/// Ways that were not run, or not to their end, and why.
	pub fn skipped(&self) -> Vec<String> {
		let skipped = |way: &Way| match &way.outcome {
			Outcome::Skipped { why } => Some(format!("{}: {why}", way.name)),
			_ => None,
		};
		self.ways.iter().filter_map(skipped).collect()
	}

	/// Why the model is not of the exact class, in a sentence; nothing where it is.
	pub fn reason(&self) -> Option<String> {
		let differs = self.ways.iter().find_map(|w| match &w.outcome {
			Outcome::Differs(d) => Some((w, d)),
			_ => None,
		});
		if let Some((way, difference)) = differs {
			let mut reason = format!(
				"{} differs from the reference at position {} of text {}, by up to {:.1e}",
				way.name, difference.position, difference.text, difference.largest
			);
			if let Some(culprit) = self.culprits.first() {
				reason += &format!("; {} {:?} broke it", culprit.operator, culprit.node);
				if let Some(trap) = &culprit.trap {
					reason += &format!(": {trap}");
				}
			}
			return Some(reason);
		}
		let doubt = self.doubts.iter().find(|d| d.bars)?;
		Some(format!(
			"bits were equal here, but {} is in the graph ({} times, first {:?}): {}",
			doubt.operator, doubt.count, doubt.first, doubt.why
		))
	}
}

/// Threads and optimisation of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
	threads: usize,
	optimization: String,
}

impl Setting {
	/// The reference's first; no other, where a proof speaks of all and little is measured.
	fn all(manifest: &Manifest, thorough: bool, proven: bool) -> Vec<Self> {
		let own = manifest.numerics.optimization.as_str();
		let setting = |threads, optimization: &str| Self {
			threads,
			optimization: optimization.into(),
		};
		if proven && !thorough {
			return vec![setting(1, own)];
		}
		let threads: &[usize] = if thorough { &[1, 2, 6, 16] } else { &[1, 16] };
		let mut all: Vec<_> = threads.iter().map(|t| setting(*t, own)).collect();
		for other in ["disable", "all"] {
			if other != own {
				all.push(setting(2, other));
				if thorough {
					all.push(setting(16, other));
				}
			}
		}
		all
	}

	fn name(&self) -> String {
		let plural = if self.threads == 1 { "" } else { "s" };
		format!(
			"{} thread{plural}, optimiser {}",
			self.threads, self.optimization
		)
	}

	/// What a session of these differs in from the reference.
	fn cause(&self, base: &Self) -> Option<Cause> {
		if self.optimization != base.optimization {
			Some(Cause::Optimization)
		} else if self.threads != base.threads {
			Some(Cause::Threads)
		} else {
			None
		}
	}
}

/// What is the same for all tasks while a model is measured.
struct Measurement<'m> {
	/// The graph's file.
	path: PathBuf,
	/// The same, read.
	bytes: Vec<u8>,
	program: Program,
	settings: Vec<Setting>,
	options: &'m Options,
	began: Instant,
	progress: &'m mut dyn FnMut(Progress),
	done: u64,
	total: u64,
	ways: Vec<Way>,
	culprits: Vec<Culprit>,
	unexplained: Vec<String>,
}

/// Units of progress that loading a graph is worth.
const LOAD: u64 = 100;

impl Measurement<'_> {
	fn late(&self) -> bool {
		self.options
			.limit
			.is_some_and(|limit| self.began.elapsed() > limit)
	}

	fn at(&mut self, way: &str, units: u64) {
		self.done += units;
		// Looking for operators is work that nobody knew of.
		self.total = self.total.max(self.done);
		(self.progress)(Progress {
			done: self.done,
			total: self.total,
			way: way.into(),
		});
	}

	fn load(&mut self, setting: &Setting) -> Result<Graph, EngineError> {
		self.at(&format!("loading, {}", setting.name()), 0);
		let graph = Graph::load(
			&self.path,
			setting.threads,
			&setting.optimization,
			Placement::default(),
		)?;
		self.at(&setting.name(), LOAD);
		Ok(graph)
	}

	/// Notes what came of a way.
	fn note(
		&mut self,
		(setting, name): (&Setting, &str),
		cause: Cause,
		positions: usize,
		outcome: Outcome,
	) {
		self.ways.push(Way {
			name: format!("{}: {name}", setting.name()),
			threads: setting.threads,
			optimization: setting.optimization.clone(),
			cause,
			positions,
			outcome,
		});
	}

	/// Whether an operator is still looked for.
	fn looks_for(&self, cause: Cause) -> bool {
		let known = self.culprits.iter().any(|c| c.cause == cause);
		// One reason is enough to refuse an import.
		!known && (self.options.thorough || self.culprits.is_empty())
	}

	/// The first node that differs between two ways of running.
	fn between(
		&mut self,
		(first, a): (&Setting, &[(String, Raw)]),
		(second, b): (&Setting, &[(String, Raw)]),
		axis: Option<Axis>,
		cause: Cause,
	) -> Result<Option<Found>, EngineError> {
		let way = format!("looking for the operator, {}", second.name());
		self.at(&way, 0);
		let Self {
			path,
			bytes,
			program,
			options,
			began,
			progress,
			done,
			total,
			..
		} = self;
		let mut late = || {
			*done += LOAD;
			*total = (*total).max(*done);
			progress(Progress {
				done: *done,
				total: *total,
				way: way.clone(),
			});
			options.limit.is_some_and(|limit| began.elapsed() > limit)
		};
		let source = |setting: &Setting| Source::new(path, bytes, program, &setting.optimization);
		let one = source(first)?;
		if first.optimization == second.optimization {
			let (a, b) = (one.traced(first.threads, a), one.traced(second.threads, b));
			return first_difference(&a, &b, axis, cause, &mut late);
		}
		let other = source(second)?;
		let (a, b) = (
			one.traced(first.threads, a),
			other.traced(second.threads, b),
		);
		// The optimiser's graph decides the order: what it has no value for, it has merged.
		if second.optimization == "disable" {
			first_difference(&b, &a, None, cause, &mut late)
		} else {
			first_difference(&a, &b, None, cause, &mut late)
		}
	}

	/// Notes which operator broke the bits, or that it was not found.
	fn blame(&mut self, way: &str, cause: Cause, found: Result<Option<Found>, EngineError>) {
		let why = match found {
			Ok(Some(found)) => {
				let culprit = found.culprit(way, cause);
				return self.culprits.push(culprit);
			}
			Ok(None) => "the values between the nodes are equal when they are looked at".into(),
			Err(e) => e.to_string(),
		};
		self.unexplained.push(format!("{way}: {why}"));
	}
}

/// Runs the model of a manifest whose files are in `folder` in many ways. The caller has checked the files' hashes, and does this
/// in a process of its own.
pub fn measure(
	folder: &Path,
	manifest: &Manifest,
	options: &Options,
	progress: &mut dyn FnMut(Progress),
) -> Result<Report, EngineError> {
	let began = Instant::now();
	manifest
		.validate()
		.map_err(|e| EngineError::load(folder, e))?;
	let path = folder.join(&manifest.graph);
	let bytes = std::fs::read(&path).map_err(|e| EngineError::load(&path, e))?;
	let program = Program::read(&bytes).map_err(|e| EngineError::load(&path, e))?;
	let (doubts, proven) = if integer::is_claimed(manifest) {
		integer::check_profile(manifest)?;
		match prove_integer(&path) {
			Ok(_) => (Vec::new(), true),
			Err(refusals) => (traps::unproven(refusals), false),
		}
	} else {
		(traps::doubts(&program), false)
	};
	let mut measurement = Measurement {
		path,
		bytes,
		program,
		settings: Setting::all(manifest, options.thorough, proven),
		options,
		began,
		progress,
		done: 0,
		total: 0,
		ways: Vec::new(),
		culprits: Vec::new(),
		unexplained: Vec::new(),
	};
	let (digest, texts) = match &manifest.task {
		TaskDetails::TextGeneration { .. } => text::run(&mut measurement, folder, manifest)?,
		TaskDetails::Embedding { .. } | TaskDetails::Tensor { .. } => {
			tensors::run(&mut measurement, folder, manifest)?
		}
	};
	measurement.total = measurement.done;
	measurement.at("done", 0);
	let Measurement {
		ways,
		culprits,
		unexplained,
		..
	} = measurement;
	let differs = ways
		.iter()
		.any(|w| matches!(w.outcome, Outcome::Differs(_)));
	let verdict = if differs {
		Verdict::Differs
	} else if doubts.iter().any(|d| d.bars) {
		Verdict::EqualHere
	} else {
		Verdict::Exact
	};
	Ok(Report {
		verdict,
		ways,
		culprits,
		unexplained,
		doubts,
		proven,
		digest,
		texts,
		seconds: began.elapsed().as_secs_f64(),
	})
}
