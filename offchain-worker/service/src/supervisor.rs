//! Keeps an engine process running.
//!
//! The process is this program with the hidden subcommand `engine`. A crash in ONNX Runtime, a driver or a hostile model file
//! ends it and never the node; it is started again after a pause that doubles with every quick end. It ends with the node: the
//! engine reads the end of its connection.

use std::{
	path::{Path, PathBuf},
	process::Stdio,
	sync::{Arc, Mutex},
	time::{Duration, Instant},
};

use async_trait::async_trait;
use consilience_engine::{
	client::EngineClient, find_library, EngineError, Part, Provider, Statistics,
};
use consilience_primitives::{
	evidence::Evidence,
	request::{Input, Output},
	ModelId,
};
use futures::FutureExt;
use polkadot_sdk::sp_core::H256;
use tokio::{
	io::{AsyncBufReadExt, BufReader},
	process::{Child, Command},
	sync::{watch, Notify},
	time::{interval, sleep, timeout, MissedTickBehavior},
};

use crate::{metrics::Metrics, runner::Runner, LOG_TARGET};

/// Target of the log lines that the engine process wrote.
const ENGINE_TARGET: &str = "engine";
/// How long an engine may take until it listens.
const START: Duration = Duration::from_secs(30);
/// How often an engine is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(15);
/// The pause before the second start, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// An engine that ran so long did not end quickly.
const STABLE: Duration = Duration::from_secs(60);

/// How the engine process is started.
#[derive(Clone, Debug)]
pub struct EngineOptions {
	/// The program; it is called with `engine --socket PATH` and [`Self::arguments`].
	pub program: PathBuf,
	/// More arguments.
	pub arguments: Vec<String>,
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
		input: Input,
		seed: H256,
		until: Instant,
	) -> Result<Output, EngineError> {
		let client = self.client().await?.until(Some(until));
		client.run(model, input, seed).await
	}

	async fn measure(
		&self,
		model: ModelId,
		input: Input,
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
	// Paths of sockets are limited to about 100 bytes, which a node's own folder may exceed.
	let folder = match tempfile::Builder::new().prefix("consilience-").tempdir() {
		Ok(folder) => folder,
		Err(e) => {
			tracing::error!(target: LOG_TARGET, "no folder for the engine's socket: {e}");
			publish.send_replace(State::Unavailable(e.to_string()));
			return;
		}
	};
	let mut pause = PAUSE.0;
	loop {
		let started = Instant::now();
		match start(&options, folder.path()).await {
			Ok((mut child, client)) => {
				let pid = child.id();
				let shown = pid.unwrap_or_default();
				tracing::info!(target: LOG_TARGET, "engine process {shown} runs");
				publish.send_replace(State::Running(client.clone(), pid));
				let why = watch_over(&mut child, &client, &engine.restart, &metrics).await;
				publish.send_replace(State::Starting);
				// Fails where it has ended already.
				let _ = child.kill().await;
				tracing::warn!(target: LOG_TARGET, "engine process {shown} ended: {why}");
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

/// Starts a process and connects to it.
async fn start(options: &EngineOptions, folder: &Path) -> std::io::Result<(Child, EngineClient)> {
	use std::io::{Error, ErrorKind};
	let socket = folder.join("engine.sock");
	let _ = std::fs::remove_file(&socket);
	let mut child = Command::new(&options.program)
		.arg("engine")
		.arg("--socket")
		.arg(&socket)
		.args(&options.arguments)
		.stdin(Stdio::null())
		.stdout(Stdio::null())
		.stderr(Stdio::piped())
		.kill_on_drop(true)
		.spawn()?;
	if let Some(stderr) = child.stderr.take() {
		tokio::spawn(async move {
			let mut lines = BufReader::new(stderr).lines();
			while let Ok(Some(line)) = lines.next_line().await {
				tracing::info!(target: ENGINE_TARGET, "{line}");
			}
		});
	}
	// A socket that does not listen yet announces nothing; the process's end does.
	let connect = async {
		let mut tries = interval(Duration::from_millis(20));
		loop {
			tries.tick().await;
			if let Ok(client) = EngineClient::connect(&socket).await {
				return client;
			}
		}
	};
	let client = tokio::select! {
		client = timeout(START, connect) => client
			.map_err(|_| Error::new(ErrorKind::TimedOut, "it did not listen in time"))?,
		status = child.wait() =>
			return Err(Error::other(format!("it ended with {}", status?))),
	};
	Ok((child, client))
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
				Ok(status) => status.to_string(),
				Err(e) => e.to_string(),
			},
			() = client.closed() => return "the connection was closed".into(),
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
