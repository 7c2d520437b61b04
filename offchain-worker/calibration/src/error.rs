//! Why a calibration did not come to an end.

use std::path::{Path, PathBuf};

use consilience_engine::EngineError;

/// Why a calibration did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
	/// A file or folder could not be read or written.
	#[error("{path}: {source}")]
	Io {
		/// Which.
		path: PathBuf,
		/// The system's reason.
		source: std::io::Error,
	},
	/// A model's folder cannot be used.
	#[error(transparent)]
	Import(#[from] consilience_store::ImportError),
	/// A model's file cannot be used.
	#[error("{path}: {why}")]
	Model {
		/// Which.
		path: PathBuf,
		/// What is wrong with it.
		why: String,
	},
	/// A substitute that nobody could take for the model.
	#[error(
		"{substitute} cannot stand in for {model}: task, vocabulary, dimensions or inputs differ"
	)]
	Substitute {
		/// The model.
		model: String,
		/// What should stand in.
		substitute: String,
	},
	/// What is asked, or how, makes no sense.
	#[error("{0}")]
	Input(String),
	/// An engine did not start, or not as it was asked to.
	#[error("engine ({configuration}): {why}")]
	Start {
		/// The configuration.
		configuration: String,
		/// What went wrong.
		why: String,
	},
	/// The engine refused or failed.
	#[error("{configuration}{source}")]
	Engine {
		/// The configuration and a colon, or nothing.
		configuration: String,
		/// What it says.
		source: EngineError,
	},
}

impl CalibrationError {
	pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
		let path = path.as_ref().to_owned();
		move |source| Self::Io { path, source }
	}

	pub(crate) fn engine(configuration: &str) -> impl Fn(EngineError) -> Self {
		let configuration = match configuration {
			"" => String::new(),
			name => format!("{name}: "),
		};
		move |source| Self::Engine {
			configuration: configuration.clone(),
			source,
		}
	}
}

impl From<EngineError> for CalibrationError {
	fn from(source: EngineError) -> Self {
		Self::engine("")(source)
	}
}
