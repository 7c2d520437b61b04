//! Keeps an engine process running.
//!
//! The process is this program with the hidden subcommand `engine`. A crash in ONNX Runtime, a driver or a hostile model file
//! ends it and never the node; it is started again after a pause that doubles with every quick end. It ends with the node: the
//! engine reads the end of its connection, which is its standard input, and a guard beside it does, too. It is born with nothing
//! of the node's, and what isolates it is in the log (`docs/operators/sandbox.md`).

use std::{
	os::fd::OwnedFd,
	path::{Path, PathBuf},
	process::{ExitStatus, Stdio},
	sync::{Arc, Mutex},
	time::{Duration, Instant},
};

use async_trait::async_trait;
use consilience_engine::{
	client::EngineClient,
	find_library,
	isolation::{self, Report},
	EngineError, Part, Provider, Statistics, TokenStream,
};
use consilience_primitives::{
	evidence::Evidence,
	request::{FullInput, Output},
	ModelId,
};
use futures::FutureExt;
use polkadot_sdk::sp_core::H256;
use tokio::{
	net::UnixStream,
	process::{Child, Command},
	sync::{watch, Notify},
	time::{interval, sleep, timeout, MissedTickBehavior},
};

use crate::{engine_log, metrics::Metrics, runner::Runner, LOG_TARGET};

/// How long an engine may take until it answers.
const START: Duration = Duration::from_secs(30);
/// How long an engine may take to end that has closed its connection.
const END: Duration = Duration::from_secs(2);
/// How often an engine is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(15);
/// The pause before the second start, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// An engine that ran so long did not end quickly.
const STABLE: Duration = Duration::from_secs(60);

/// How the engine process is started.
#[derive(Clone, Debug)]
pub struct EngineOptions {
	/// The program; it is called with `engine --models PATH` and [`Self::arguments`], and its standard input is the connection.
	pub program: PathBuf,
	/// More arguments.
	pub arguments: Vec<String>,
	/// Folder of the models: what the engine sees of this machine's files.
	pub models: PathBuf,
	/// Whether to do without an engine where its sandbox leaves a door open.
	pub require_sandbox: bool,
}

/// Where the process is.
#[derive(Clone)]
enum State {
	Starting,
	Running(EngineClient, Option<u32>),
	Unavailable(String),
}

/// A handle to the supervised engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
	state: Arc<watch::Sender<State>>,
	restart: Arc<Notify>,
	restarts: Arc<Mutex<u64>>,
}

impl Engine {
	/// The engine's process, if one runs.
	pub fn pid(&self) -> Option<u32> {
		match &*self.state.borrow() {
			State::Running(_, pid) => *pid,
			_ => None,
		}
	}

	/// How often it was started again.
	pub fn restarts(&self) -> u64 {
		*self.restarts.lock().unwrap_or_else(|e| e.into_inner())
	}

	async fn client(&self) -> Result<EngineClient, EngineError> {
		let mut state = self.state.subscribe();
		// A process that is gone stands there until the supervision has noticed.
		let of_use = |s: &State| match s {
			State::Starting => false,
			State::Running(client, _) => client.closed().now_or_never().is_none(),
			State::Unavailable(_) => true,
		};
		let state = state
			.wait_for(of_use)
			.await
			.map_err(|_| EngineError::Gone)?;
		match &*state {
			State::Running(client, _) => Ok(client.clone()),
			State::Unavailable(why) => Err(EngineError::Library(why.clone())),
			State::Starting => Err(EngineError::Gone),
		}
	}
}

#[async_trait]
impl Runner for Engine {
	async fn ready(&self) {
		// Why there is none is told to whoever asks for work.
		let _ = self.client().await;
	}

	async fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		self.client().await?.load(folder).await
	}

	async fn unload(&self, model: ModelId) -> Result<(), EngineError> {
		self.client().await?.unload(model).await
	}

	async fn run(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		until: Instant,
	) -> Result<Output, EngineError> {
		let client = self.client().await?.until(Some(until));
		client.run(model, input, seed).await
	}

	async fn stream(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		allowed: u32,
		until: Instant,
	) -> Result<TokenStream, EngineError> {
		let client = self.client().await?.until(Some(until));
		client.stream(model, input, seed, allowed)
	}

	async fn cut(
		&self,
		model: ModelId,
		input: FullInput,
		tokens: Vec<u32>,
		until: Instant,
	) -> Result<Output, EngineError> {
		let client = self.client().await?.until(Some(until));
		client.cut(model, input, tokens).await
	}

	async fn measure(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		claimed: Option<Output>,
		challenges: Vec<H256>,
		until: Instant,
	) -> Result<Vec<Evidence>, EngineError> {
		let parts = challenges
			.into_iter()
			.map(|challenge| Part {
				tokens: None,
				challenge,
			})
			.collect();
		let client = self.client().await?.until(Some(until));
		client
			.measure_parts(model, input, seed, claimed, parts)
			.await
	}

	async fn reference(
		&self,
		model: ModelId,
		until: Instant,
	) -> Result<(Output, Evidence), EngineError> {
		let client = self.client().await?.until(Some(until));
		client.reference(model).await
	}

	fn restart(&self) {
		self.state.send_if_modified(|state| {
			let runs = matches!(state, State::Running(..));
			if runs {
				*state = State::Starting;
			}
			runs
		});
		self.restart.notify_one();
	}

	fn unavailable(&self) -> Option<String> {
		match &*self.state.borrow() {
			State::Unavailable(why) => Some(why.clone()),
			_ => None,
		}
	}
}

/// Starts supervising. The future runs until it is dropped, or until it is clear that no engine can run.
pub(crate) fn supervise(
	options: EngineOptions,
	metrics: Metrics,
) -> (Engine, impl std::future::Future<Output = ()> + Send) {
	let engine = Engine {
		state: Arc::new(watch::Sender::new(State::Starting)),
		restart: Arc::default(),
		restarts: Arc::default(),
	};
	(engine.clone(), run(options, engine, metrics))
}

async fn run(options: EngineOptions, engine: Engine, metrics: Metrics) {
	let publish = &engine.state;
	// Any will do to start with: which one it is, and whether it suits the models, the engine's process says.
	if let Err(e) = find_library(Provider::Cpu) {
		tracing::error!(
			target: LOG_TARGET,
			"{e}. This node goes on as a validator and serves no model"
		);
		let why = match e {
			EngineError::Library(why) => why,
			e => e.to_string(),
		};
		publish.send_replace(State::Unavailable(why));
		return;
	}
	let mut shown = None;
	let mut pause = PAUSE.0;
	loop {
		let started = Instant::now();
		match start(&options).await {
			Ok((mut child, client, sandbox)) => {
				let pid = sandbox.pid;
				tracing::info!(target: LOG_TARGET, "engine process {pid} runs");
				// A process that is started again has the same, most often.
				let known = Report {
					pid: 0,
					..sandbox.clone()
				};
				if shown.as_ref() != Some(&known) {
					sandbox.log();
					shown = Some(known);
				}
				if let Some(open) = sandbox.open_doors().filter(|_| options.require_sandbox) {
					let why = format!(
						"{open}. --engine-require-sandbox forbids to go on: the log says what this machine lacks"
					);
					tracing::error!(
						target: LOG_TARGET,
						"{why}. This node goes on as a validator and serves no model"
					);
					let _ = child.kill().await;
					publish.send_replace(State::Unavailable(why));
					return;
				}
				publish.send_replace(State::Running(client.clone(), Some(pid)));
				let why = watch_over(&mut child, &client, &engine.restart, &metrics).await;
				publish.send_replace(State::Starting);
				// Fails where it has ended already.
				let _ = child.kill().await;
				tracing::warn!(target: LOG_TARGET, "engine process {pid} ended: {why}");
			}
			Err(e) => tracing::warn!(target: LOG_TARGET, "the engine did not start: {e}"),
		}
		metrics.engine_restart();
		*engine.restarts.lock().unwrap_or_else(|e| e.into_inner()) += 1;
		if started.elapsed() > STABLE {
			pause = PAUSE.0;
		}
		sleep(pause).await;
		pause = (pause * 2).min(PAUSE.1);
	}
}

/// Starts a process and asks it what isolates it.
async fn start(options: &EngineOptions) -> std::io::Result<(Child, EngineClient, Report)> {
	use std::io::{Error, ErrorKind};
	let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
	ours.set_nonblocking(true)?;
	let mut command = std::process::Command::new(&options.program);
	command
		.arg("engine")
		.arg("--models")
		.arg(&options.models)
		.args(&options.arguments)
		.stdin(Stdio::from(OwnedFd::from(theirs)))
		.stdout(Stdio::null())
		.stderr(Stdio::piped());
	isolation::command(&mut command);
	// The command has their end of the connection, and is gone after this: that end's end is the process's.
	let mut child = Command::from(command).kill_on_drop(true).spawn()?;
	if let Some(stderr) = child.stderr.take() {
		tokio::spawn(engine_log::relay(stderr));
	}
	let client = EngineClient::over(UnixStream::from_std(ours)?);
	tokio::select! {
		biased;
		status = child.wait() => Err(Error::other(format!("it ended: {}", in_words(status?)))),
		sandbox = timeout(START, client.sandbox()) => match sandbox {
			Ok(Ok(sandbox)) => Ok((child, client, sandbox)),
			Ok(Err(_)) => {
				let status = timeout(START, child.wait()).await??;
				Err(Error::other(format!("it ended: {}", in_words(status))))
			}
			Err(_) => Err(Error::new(ErrorKind::TimedOut, "it did not answer in time")),
		},
	}
}

/// How a process ended.
fn in_words(status: ExitStatus) -> String {
	use std::os::unix::process::ExitStatusExt;
	/// Number of `SIGSYS`, on every architecture that the engine runs on.
	const BAD_CALL: i32 = 31;
	match status.signal() {
		Some(BAD_CALL) => format!(
			"{status}: it made a system call that no engine makes, as one does that a model has broken"
		),
		_ => status.to_string(),
	}
}

/// Returns when the process is not of use any more, with the reason.
async fn watch_over(
	child: &mut Child,
	client: &EngineClient,
	restart: &Notify,
	metrics: &Metrics,
) -> String {
	let mut seen = Statistics::default();
	let mut pings = interval(PING);
	pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
	loop {
		tokio::select! {
			status = child.wait() => return match status {
				Ok(status) => in_words(status),
				Err(e) => e.to_string(),
			},
			// What ended a process says more than that its connection is closed.
			() = client.closed() => return match timeout(END, child.wait()).await {
				Ok(Ok(status)) => in_words(status),
				_ => "the connection was closed".into(),
			},
			() = restart.notified() => return "work took too long".into(),
			// What it has done is answered at once, as a ping is.
			_ = pings.tick() => match timeout(PING, client.statistics()).await {
				Ok(Ok(now)) => {
					metrics.engine(&seen, &now);
					seen = now;
				}
				Ok(Err(e)) => return e.to_string(),
				Err(_) => return "it does not answer".into(),
			},
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[tokio::test]
	async fn a_program_that_becomes_no_engine_is_named() {
		let options = |program: &str| EngineOptions {
			program: program.into(),
			arguments: Vec::new(),
			models: PathBuf::from("/"),
			require_sandbox: false,
		};
		let why = |result: std::io::Result<_>| match result {
			Ok(_) => panic!("it is no engine"),
			Err(e) => e.to_string(),
		};
		let said = why(start(&options("/bin/false")).await);
		assert!(said.contains("exit status: 1"), "{said}");
		start(&options("/nowhere/engine"))
			.await
			.map(|_| ())
			.unwrap_err();
	}

	#[test]
	fn a_call_that_no_engine_makes_is_named() {
		use std::os::unix::process::ExitStatusExt;
		let said = in_words(ExitStatus::from_raw(31));
		assert!(said.contains("system call"), "{said}");
		let said = in_words(ExitStatus::from_raw(9));
		assert!(!said.contains("system call"), "{said}");
	}
}
