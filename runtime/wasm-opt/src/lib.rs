//! The part of the `wasm-opt` crate that `substrate-wasm-builder` calls, in place of Binaryen's 15 minutes of C++ ([ADR 27]).
//!
//! The builder optimises nothing. It asks for opt-level 0 and two passes:
//! - *lower sign extension*: the runtime is compiled for `wasm32v1-none`, which has no such instructions. A module that holds one, or
//!   anything else younger than the first WebAssembly, is refused here instead of lowered;
//! - *strip DWARF*: custom sections whose names begin with `.debug` are left out.
//!
//! Whatever else the real crate offers is missing, so that a builder which begins to ask for more does not compile.
//!
//! [ADR 27]: ../../../docs/adr/0027-runtime-without-binaryen.md

use parity_wasm::elements::{self, Section};
use std::{fmt, path::Path};

/// What [`OptimizationOptions::run`] may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
	/// Leaves debug information out, keeping the names of functions.
	StripDwarf,
	/// Admits no sign extension; always in force.
	SignextLowering,
}

/// A module that could not be read, is younger than the first WebAssembly, or could not be written.
#[derive(Debug)]
pub struct OptimizationError(elements::Error);

impl fmt::Display for OptimizationError {
	fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
		write!(
			out,
			"{}. The runtime's blob must be WebAssembly's first version, which the target wasm32v1-none makes: is it installed? \
			(scripts/setup wasm, or rustup target add wasm32v1-none)",
			self.0
		)
	}
}

impl std::error::Error for OptimizationError {}

/// The steps to be done, in the builder style of the crate that this one stands in for.
#[derive(Debug, Default)]
pub struct OptimizationOptions {
	passes: Vec<Pass>,
}

impl OptimizationOptions {
	/// No step yet.
	pub fn new_opt_level_0() -> Self {
		Self::default()
	}

	/// The first WebAssembly only; nothing else is ever admitted.
	pub fn mvp_features_only(&mut self) -> &mut Self {
		self
	}

	/// Names of functions are kept either way.
	pub fn debug_info(&mut self, _keep: bool) -> &mut Self {
		self
	}

	/// Adds `pass`.
	pub fn add_pass(&mut self, pass: Pass) -> &mut Self {
		self.passes.push(pass);
		self
	}

	/// Reads `input`, a binary module, and writes the result to `output`, which may be the same file.
	pub fn run(
		&self,
		input: impl AsRef<Path>,
		output: impl AsRef<Path>,
	) -> Result<(), OptimizationError> {
		let mut module = elements::Module::from_bytes(std::fs::read(input).map_err(failed)?)
			.map_err(OptimizationError)?;
		if self.passes.contains(&Pass::StripDwarf) {
			module.sections_mut().retain(
				|section| !matches!(section, Section::Custom(custom) if custom.name().starts_with(".debug")),
			);
		}
		std::fs::write(output, module.into_bytes().map_err(OptimizationError)?).map_err(failed)
	}
}

fn failed(error: std::io::Error) -> OptimizationError {
	OptimizationError(elements::Error::HeapOther(error.to_string()))
}
