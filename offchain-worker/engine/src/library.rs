//! Where the ONNX Runtime library is, and its environment.

use std::{
	path::PathBuf,
	sync::{Mutex, OnceLock},
};

use ort::environment::Environment;

use crate::EngineError;

/// Version whose interface this crate binds, and whose evidence was measured.
const VERSION: &str = "1.31.1";

/// The data folder that `scripts/setup` fills: `CONSILIENCE_HOME`, or `consilience` in the user's data folder.
pub(crate) fn home() -> Option<PathBuf> {
	let var = |name| {
		std::env::var_os(name)
			.filter(|v| !v.is_empty())
			.map(PathBuf::from)
	};
	var("CONSILIENCE_HOME")
		.or_else(|| var("XDG_DATA_HOME").map(|d| d.join("consilience")))
		.or_else(|| var("HOME").map(|h| h.join(".local/share/consilience")))
}

/// Path of the library: `ORT_DYLIB_PATH`, or where `scripts/setup` puts it.
pub fn find_library() -> Result<PathBuf, EngineError> {
	if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
		let path = PathBuf::from(path);
		return if path.is_file() {
			Ok(path)
		} else {
			Err(EngineError::Library(format!(
				"ORT_DYLIB_PATH names {path:?}, which is no file"
			)))
		};
	}
	let folder = home()
		.ok_or_else(|| EngineError::Library("neither CONSILIENCE_HOME nor HOME is set".into()))?
		.join("onnxruntime")
		.join(VERSION);
	let names = [
		"libonnxruntime.so".into(),
		format!("libonnxruntime.so.{VERSION}"),
	];
	names
		.iter()
		.map(|n| folder.join(n))
		.find(|p| p.is_file())
		.ok_or_else(|| EngineError::Library(format!("the library is not in {}", folder.display())))
}

/// The process's environment, made when it is first needed.
pub(crate) fn environment() -> Result<&'static Environment, EngineError> {
	static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
	static MAKING: Mutex<()> = Mutex::new(());
	if let Some(environment) = ENVIRONMENT.get() {
		return Ok(environment);
	}
	let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
	if let Some(environment) = ENVIRONMENT.get() {
		return Ok(environment);
	}
	let path = find_library()?;
	let library =
		|e: &dyn std::fmt::Display| EngineError::Library(format!("{}: {e}", path.display()));
	let environment = ort::init_from(&path)
		.map_err(|e| library(&e))?
		.with_name("consilience")
		.with_telemetry(false)
		.build()
		.map_err(|e| library(&e))?;
	Ok(ENVIRONMENT.get_or_init(|| environment))
}
