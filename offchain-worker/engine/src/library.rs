//! Where the ONNX Runtime library is, and its environment.

use std::{
	ffi::{CStr, CString},
	os::unix::ffi::OsStrExt,
	path::{Path, PathBuf},
	sync::{Mutex, OnceLock},
};

use ort::{environment::Environment, ep};

use crate::{EngineError, Provider, LOG_TARGET};

/// Version whose interface this crate binds, and whose evidence was measured: of the CPU's library and of CUDA's.
const VERSION: &str = "1.31.1";
/// Folder beside a library with CUDA, where `scripts/setup cuda` puts NVIDIA's libraries.
const CUDA_FOLDER: &str = "cuda";
/// CUDA's half of the library.
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

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

/// Path of the library: `ORT_DYLIB_PATH`, or where `scripts/setup` puts it. That with CUDA, which `scripts/setup cuda` brings,
/// serves the CPU as well, and is taken first for CUDA.
pub fn find_library(provider: Provider) -> Result<PathBuf, EngineError> {
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
	let home = home()
		.ok_or_else(|| EngineError::Library("neither CONSILIENCE_HOME nor HOME is set".into()))?;
	find_in(&home, provider)
}

fn find_in(home: &Path, provider: Provider) -> Result<PathBuf, EngineError> {
	let mut builds = ["onnxruntime", "onnxruntime-gpu"];
	if provider != Provider::Cpu {
		builds.reverse();
	}
	let names = [
		"libonnxruntime.so".into(),
		format!("libonnxruntime.so.{VERSION}"),
	];
	builds
		.iter()
		.map(|build| home.join(build).join(VERSION))
		.flat_map(|folder| names.each_ref().map(|n| folder.join(n)))
		.find(|p| p.is_file())
		.ok_or_else(|| {
			let folder = home.join("onnxruntime").join(VERSION);
			EngineError::Library(format!("the library is not in {}", folder.display()))
		})
}

/// Whether models can probably run on CUDA here: the library has the provider, and the machine a device. Whether they can in
/// fact shows when one is loaded.
pub fn cuda_present() -> bool {
	find_library(Provider::Cuda { device: 0 })
		.is_ok_and(|library| cuda_at(&library, Path::new("/dev")))
}

fn cuda_at(library: &Path, devices: &Path) -> bool {
	let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.into());
	let provider = real
		.parent()
		.is_some_and(|f| f.join(CUDA_PROVIDER).is_file());
	// The second is what a Linux inside Windows has.
	provider && ["nvidia0", "dxg"].iter().any(|d| devices.join(d).exists())
}

/// Loads NVIDIA's libraries that stand beside ONNX Runtime's, so that they are found without an entry in the loader's
/// configuration. Those of the system are used where none do.
fn preload_cuda(library: &Path) {
	let real = std::fs::canonicalize(library).unwrap_or_else(|_| library.into());
	let Some(folder) = real.parent().map(|f| f.join(CUDA_FOLDER)) else {
		return;
	};
	for name in ep::cuda::CUDA_DYLIBS.iter().chain(ep::cuda::CUDNN_DYLIBS) {
		let path = folder.join(name);
		if !path.is_file() {
			continue;
		}
		if let Err(e) = ort::util::preload_dylib(&path) {
			tracing::warn!(target: LOG_TARGET, "{}: {e}", path.display());
		}
	}
}

/// ONNX Runtime in this process.
struct Runtime {
	environment: Environment,
	version: String,
	path: PathBuf,
	/// Whether NVIDIA's libraries were looked for.
	cuda: OnceLock<()>,
}

/// The process's environment, made when it is first needed.
pub(crate) fn environment(provider: Provider) -> Result<&'static Environment, EngineError> {
	let runtime = runtime(provider)?;
	if provider != Provider::Cpu {
		runtime.cuda.get_or_init(|| preload_cuda(&runtime.path));
	}
	Ok(&runtime.environment)
}

/// Keeps ONNX Runtime from telling its maker of this process and those that it starts. To be called first in `main`: other threads may
/// read the environment while it changes.
///
/// Since 1.29 the library does so on Linux, too: when an environment is made, before `with_telemetry(false)` can be said, it has sent
/// what the process is and left an identifier in `~/.cache/Microsoft`.
pub fn disable_telemetry() {
	std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
}

/// Version of the library in this process, which [`environment`] has loaded.
pub(crate) fn version() -> Result<&'static str, EngineError> {
	Ok(&runtime(Provider::Cpu)?.version)
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The library in this process, if one was loaded.
pub(crate) fn loaded() -> Option<&'static Path> {
	RUNTIME.get().map(|runtime| &*runtime.path)
}

fn runtime(provider: Provider) -> Result<&'static Runtime, EngineError> {
	static MAKING: Mutex<()> = Mutex::new(());
	if let Some(runtime) = RUNTIME.get() {
		return Ok(runtime);
	}
	let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
	if let Some(runtime) = RUNTIME.get() {
		return Ok(runtime);
	}
	let path = find_library(provider)?;
	let library =
		|e: &dyn std::fmt::Display| EngineError::Library(format!("{}: {e}", path.display()));
	let environment = ort::init_from(&path)
		.map_err(|e| library(&e))?
		.with_name("consilience")
		.with_telemetry(false)
		.build()
		.map_err(|e| library(&e))?;
	let version = version_of(&path).ok_or_else(|| library(&"it does not tell its version"))?;
	tracing::info!(target: LOG_TARGET, "ONNX Runtime {version} from {}", path.display());
	Ok(RUNTIME.get_or_init(|| Runtime {
		environment,
		version,
		path: path.clone(),
		cuda: OnceLock::new(),
	}))
}

/// The one function that the library exports for everything else.
type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;

/// What a library that is loaded calls its version; `ort` reads that and keeps it.
fn version_of(library: &Path) -> Option<String> {
	let path = CString::new(library.as_os_str().as_bytes()).ok()?;
	// SAFETY: the library is loaded already, so nothing of it runs here; its interface is `ort`'s declaration of it, and lives as
	// long as the process, because `ort` never unloads it.
	unsafe {
		let handle = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
		if handle.is_null() {
			return None;
		}
		let symbol = libc::dlsym(handle, c"OrtGetApiBase".as_ptr());
		if symbol.is_null() {
			return None;
		}
		let get = std::mem::transmute::<*mut libc::c_void, GetApiBase>(symbol);
		let version = ((*get()).GetVersionString)();
		Some(CStr::from_ptr(version).to_string_lossy().into_owned())
	}
}

/// Three numbers of a version.
fn numbers(version: &str) -> Option<[u64; 3]> {
	let numbers: Vec<u64> = version
		.split('.')
		.map(|n| n.parse().ok())
		.collect::<Option<_>>()?;
	numbers.try_into().ok()
}

/// Whether a version lies between two others, these included.
pub(crate) fn within(version: &str, least: &str, most: &str) -> bool {
	let (version, least, most) = (numbers(version), numbers(least), numbers(most));
	version.is_some() && least.is_some() && least <= version && version <= most
}

#[cfg(test)]
mod tests {
	use super::*;

	const CUDA: Provider = Provider::Cuda { device: 0 };

	#[test]
	fn a_range_of_versions_is_one_of_numbers() {
		assert!(within("1.31.1", "1.31.1", "1.31.1"));
		assert!(within("1.31.1", "1.4.0", "1.100.0"));
		assert!(!within("1.31.1", "1.31.2", "1.32.0"));
		assert!(!within("1.31.1", "1.20.1", "1.31.0"));
		for broken in [("", "1.31.1"), ("1.31.1", "1.31"), ("1.31.1", "latest")] {
			assert!(!within("1.31.1", broken.0, broken.1), "{broken:?}");
		}
	}

	#[test]
	fn the_library_in_this_process_is_the_pinned_one() {
		environment(Provider::Cpu).unwrap();
		assert_eq!(version().unwrap(), VERSION);
	}

	#[test]
	fn cuda_has_its_own_library_and_the_cpu_does_with_it() {
		let home = tempfile::tempdir().unwrap();
		let make = |build: &str| {
			let folder = home.path().join(build).join(VERSION);
			std::fs::create_dir_all(&folder).unwrap();
			let path = folder.join(format!("libonnxruntime.so.{VERSION}"));
			std::fs::write(&path, "").unwrap();
			path
		};
		let find = |provider| find_in(home.path(), provider).ok();
		assert_eq!(find(Provider::Cpu), None);
		let gpu = make("onnxruntime-gpu");
		assert_eq!(find(Provider::Cpu).as_ref(), Some(&gpu));
		let cpu = make("onnxruntime");
		assert_eq!(find(Provider::Cpu), Some(cpu));
		assert_eq!(find(CUDA).as_ref(), Some(&gpu));

		let devices = tempfile::tempdir().unwrap();
		assert!(!cuda_at(&gpu, devices.path()));
		std::fs::write(devices.path().join("nvidia0"), "").unwrap();
		assert!(!cuda_at(&gpu, devices.path()), "no provider");
		std::fs::write(gpu.with_file_name(CUDA_PROVIDER), "").unwrap();
		assert!(cuda_at(&gpu, devices.path()));
		std::fs::remove_file(devices.path().join("nvidia0")).unwrap();
		assert!(!cuda_at(&gpu, devices.path()), "no device");
	}
}
