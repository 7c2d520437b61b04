//! An engine process for one configuration.

use std::{
	os::{
		fd::{AsFd, OwnedFd},
		unix::net::UnixListener,
	},
	path::PathBuf,
	process::Stdio,
};

use codec::{Decode, Encode};
use consilience_engine::{
	client::EngineClient,
	server::{self, ServerConfig},
	EngineConfig,
};
use tokio::process::{Child, Command};

use crate::{configuration::Configuration, CalibrationError};

/// The program that becomes an engine: it is called with these arguments and one more, which it hands to [`serve`].
#[derive(Clone, Debug)]
pub struct EngineProgram {
	/// The program.
	pub program: PathBuf,
	/// Its arguments before the last.
	pub arguments: Vec<String>,
}

/// A running engine. It ends when this is dropped.
pub(crate) struct EngineProcess {
	pub(crate) client: EngineClient,
	_child: Child,
}

impl EngineProcess {
	/// Starts an engine of this configuration, which does so many jobs at a time.
	pub(crate) async fn start(
		program: &EngineProgram,
		configuration: &Configuration,
		jobs: usize,
	) -> Result<Self, CalibrationError> {
		let failed = |e: std::io::Error| CalibrationError::Start {
			configuration: configuration.name.clone(),
			why: e.to_string(),
		};
		let folder = tempfile::Builder::new()
			.prefix("consilience-")
			.tempdir()
			.map_err(failed)?;
		let socket = folder.path().join("engine.sock");
		// The process is born with a socket that listens already, so that nobody has to wait for it.
		let listener = OwnedFd::from(server::bind(&socket).map_err(failed)?);
		let mut command = match configuration.launcher.split_first() {
			Some((launcher, arguments)) => {
				let mut command = Command::new(launcher);
				command.args(arguments).arg(&program.program);
				command
			}
			None => Command::new(&program.program),
		};
		command
			.args(&program.arguments)
			.arg(hex::encode((&configuration.engine, jobs as u64).encode()))
			.stdin(Stdio::from(listener))
			.stdout(Stdio::null())
			.kill_on_drop(true);
		if let Some(library) = &configuration.library {
			command.env("ORT_DYLIB_PATH", library);
		}
		let child = command.spawn().map_err(failed)?;
		// The listening socket is the process's alone now: its end is the connection's.
		drop(command);
		let client = EngineClient::connect(&socket).await.map_err(failed)?;
		Ok(Self {
			client,
			_child: child,
		})
	}
}

/// Serves as an engine on the listening socket that stands in for standard input. `config` is the last argument that the
/// process was called with.
pub fn serve(config: &str) -> Result<(), CalibrationError> {
	let failed = |why: String| CalibrationError::Start {
		configuration: config.into(),
		why,
	};
	let bytes = hex::decode(config).map_err(|e| failed(e.to_string()))?;
	let (engine, jobs) =
		<(EngineConfig, u64)>::decode(&mut &bytes[..]).map_err(|e| failed(e.to_string()))?;
	let socket = std::io::stdin()
		.as_fd()
		.try_clone_to_owned()
		.map_err(|e| failed(e.to_string()))?;
	tracing_subscriber::fmt()
		.with_writer(std::io::stderr)
		.with_ansi(false)
		.without_time()
		.with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
		.init();
	server::serve_on(
		UnixListener::from(socket),
		ServerConfig {
			engine,
			workers: jobs as usize,
			..Default::default()
		},
	)
	.map_err(|e| failed(e.to_string()))
}
