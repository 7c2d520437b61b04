//! Ways of running a model that honest machines may choose.

use std::path::{Path, PathBuf};

use consilience_engine::{EngineConfig, Provider};

/// One way of running a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
	/// What it is called in reports.
	pub name: String,
	/// Threads, provider and optimisation level.
	pub engine: EngineConfig,
	/// The ONNX Runtime library; `None` for the one that the node would find.
	pub library: Option<PathBuf>,
	/// Program that runs the engine, such as an emulator of another processor, and its arguments.
	pub launcher: Vec<String>,
}

/// What is varied. The first of each, or what the model's manifest and the machine say, is the base.
#[derive(Clone, Debug, Default)]
pub struct Variations {
	/// Numbers of threads.
	pub threads: Vec<u32>,
	/// Levels of graph optimisation, by their names in a manifest.
	pub levels: Vec<String>,
	/// Execution providers beside the CPU.
	pub providers: Vec<Provider>,
	/// ONNX Runtime libraries.
	pub libraries: Vec<PathBuf>,
	/// Programs that run the engine, each with its arguments, separated by spaces.
	pub launchers: Vec<String>,
}

impl Variations {
	/// The base, and then one configuration for each thing that differs from it.
	pub fn configurations(&self, level: &str) -> Vec<Configuration> {
		let threads = self.threads.first().copied().unwrap_or(1);
		let base = Configuration {
			name: format!("{threads} thread{}, {level}", plural(threads)),
			engine: EngineConfig {
				threads,
				// A way of running that turns into another measures nothing, and what suits the model is asked here.
				no_fallback: true,
				beyond_profile: true,
				optimization: Some(level.into()),
				..EngineConfig::default()
			},
			library: None,
			launcher: Vec::new(),
		};
		let mut all = vec![base.clone()];
		// The base keeps what it computed, and measures its answers from that, as executors do. The others compute each text for
		// itself: two ways of computing it are to be compared.
		let mut base = base;
		base.engine.prefix_bytes = 0;
		for n in self.threads.iter().skip(1) {
			let mut other = base.clone();
			other.name = format!("{n} thread{}", plural(*n));
			other.engine.threads = *n;
			all.push(other);
		}
		for l in self.levels.iter().filter(|l| *l != level) {
			let mut other = base.clone();
			other.name = format!("optimisation {l}");
			other.engine.optimization = Some(l.clone());
			all.push(other);
		}
		for provider in self.providers.iter().filter(|p| **p != Provider::Cpu) {
			let mut other = base.clone();
			other.name = provider.to_string();
			other.engine.provider = *provider;
			all.push(other);
		}
		for library in &self.libraries {
			let mut other = base.clone();
			other.name = library_name(library);
			other.library = Some(library.clone());
			all.push(other);
		}
		for launcher in &self.launchers {
			let mut other = base.clone();
			other.name = launcher.clone();
			other.launcher = launcher.split_whitespace().map(str::to_owned).collect();
			all.push(other);
		}
		all
	}
}

fn plural(n: u32) -> &'static str {
	if n == 1 {
		""
	} else {
		"s"
	}
}

/// The file that a library's path leads to, whose name says its version; no folders, which are of one machine.
pub(crate) fn library_name(path: &Path) -> String {
	let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
	real.file_name()
		.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn one_thing_is_varied_at_a_time() {
		let variations = Variations {
			threads: vec![1, 2],
			levels: vec!["disable".into(), "all".into()],
			providers: vec![Provider::Cpu, Provider::Cuda { device: 1 }],
			libraries: vec!["/somewhere/libonnxruntime.so.9".into()],
			launchers: vec!["emulator -cpu old".into()],
		};
		let all = variations.configurations("all");
		// Only the first measures from what it kept.
		let keeps: Vec<_> = all.iter().map(|c| c.engine.prefix_bytes > 0).collect();
		assert_eq!(keeps, [true, false, false, false, false, false]);
		let names: Vec<_> = all.into_iter().map(|c| c.name).collect();
		assert_eq!(
			names,
			[
				"1 thread, all",
				"2 threads",
				"optimisation disable",
				"cuda:1",
				"libonnxruntime.so.9",
				"emulator -cpu old",
			]
		);
	}
}
