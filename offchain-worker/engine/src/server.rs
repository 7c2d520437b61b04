//! The engine process: takes commands from one connection, and ends with it.
//!
//! It is born with that connection as its standard input. Before the first command it gives up what it does not need
//! ([`crate::isolation`]). A model that takes more memory
//! than there is fails with [`EngineError::Limit`] and is unloaded. ONNX Runtime cannot be stopped while it loads or runs, so a
//! command that takes more time than [`TimeLimits`] ends the process: whoever asked for it learns that, and everybody else is
//! told to ask again, so that a model is not blamed for its neighbour.

use std::{
	collections::HashMap,
	io::{self, BufReader, Read, Write},
	os::{
		fd::{AsFd, FromRawFd, OwnedFd},
		unix::net::{UnixListener, UnixStream},
	},
	path::{Path, PathBuf},
	sync::{
		mpsc::{sync_channel, Receiver, TrySendError},
		Arc, Condvar, Mutex, MutexGuard,
	},
	time::{Duration, Instant},
};

use codec::{Decode, Encode};
use consilience_primitives::ModelId;

use crate::{
	isolation::{self, end, Isolation, Purpose, Report},
	protocol::{Command, Frame, Reply, MAX_FRAME},
	Engine, EngineConfig, EngineError, Provider, LOG_TARGET,
};

/// Commands that wait for a free worker; more are refused. The node bounds what it asks for far below this.
const QUEUE: usize = 64;
/// How long the node may take to read a reply.
const WRITE: Duration = Duration::from_secs(30);

/// How long commands may take, from when a worker takes them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
	/// Loading a model.
	pub load: Duration,
	/// Any other command. Shorter than the node's own patience, so that it hears of the reason.
	pub job: Duration,
}

impl Default for TimeLimits {
	fn default() -> Self {
		Self {
			load: Duration::from_secs(300),
			job: Duration::from_secs(540),
		}
	}
}

/// How the process runs.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
	/// The engine.
	pub engine: EngineConfig,
	/// Bytes of data memory after which allocations fail; none for three quarters of what there is.
	pub memory_limit: Option<u64>,
	/// Folders of models: what the process sees of the machine's files.
	pub models: Vec<PathBuf>,
	/// Leave the namespaces as they are.
	pub no_namespaces: bool,
	/// How long commands may take.
	pub time: TimeLimits,
	/// Commands that are worked on at a time; 64 more may wait.
	pub workers: usize,
}

/// Binds a socket, in place of what another process may have left there.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
	let _ = std::fs::remove_file(socket);
	UnixListener::bind(socket)
}

/// Isolates this process and serves the connection that is its standard input until that is closed; then ends the process: when
/// the node goes away, so does the engine. Returns only with an error. To be called before any thread is started.
pub fn serve(mut config: ServerConfig) -> io::Result<()> {
	// SAFETY: nobody else in this process reads standard input, and it is open: Rust's start of a program sees to that.
	let connection = unsafe { OwnedFd::from_raw_fd(0) };
	let wanted = Isolation {
		memory_limit: config.memory_limit,
		namespaces: !config.no_namespaces,
		driver: config.engine.driver() != Provider::Cpu,
		..Isolation::new(Purpose::Engine(config.models.clone()))
	};
	let begun = isolation::begin(wanted, Some(connection.as_fd()))?;
	let connection = prepare(connection.into())?;
	// What the system says of cores and quotas is hidden afterwards, and the library is code.
	config.engine.threads = u32::try_from(config.engine.threads()).unwrap_or(1);
	let engine = Engine::new(config.engine.clone());
	let report = begun.finish()?;
	match serve_connection(connection, engine, report, config, |code| end(code)) {
		Ok(()) => end(0),
		Err(e) => {
			tracing::error!(target: LOG_TARGET, "the node's connection: {e}");
			end(1)
		}
	}
}

/// Serves one connection on a socket that is bound, in this process as it is: for tests and tools. Time limits have no force.
pub fn serve_on(listener: UnixListener, config: ServerConfig) -> io::Result<()> {
	let (connection, _) = listener.accept()?;
	// Nobody else is to come in, and nothing is to be left behind.
	if let Some(path) = listener
		.local_addr()
		.ok()
		.and_then(|a| a.as_pathname().map(Path::to_owned))
	{
		let _ = std::fs::remove_file(path);
	}
	drop(listener);
	let engine = Engine::new(config.engine.clone());
	let connection = prepare(connection)?;
	serve_connection(connection, engine, Report::default(), config, |_| {
		tracing::error!(target: LOG_TARGET, "a command took too long");
	})
}

/// A connection on which nobody waits for ever for a node that does not read.
fn prepare(connection: UnixStream) -> io::Result<UnixStream> {
	connection.set_write_timeout(Some(WRITE))?;
	Ok(connection)
}

fn serve_connection(
	connection: UnixStream,
	engine: Result<Engine, EngineError>,
	sandbox: Report,
	config: ServerConfig,
	end: impl Fn(i32) + Send + 'static,
) -> io::Result<()> {
	if let Err(e) = &engine {
		tracing::error!(target: LOG_TARGET, "{e}");
	}
	let shared = Arc::new(Shared {
		engine,
		sandbox,
		writer: Mutex::new(connection.try_clone()?),
		jobs: Mutex::new(Some(HashMap::new())),
		begun: Condvar::new(),
		time: config.time,
	});
	let workers = config.workers.max(1);
	let (sender, receiver) = sync_channel::<Frame<Command>>(QUEUE);
	let receiver = Arc::new(Mutex::new(receiver));
	for n in 0..workers {
		let (shared, receiver) = (shared.clone(), receiver.clone());
		std::thread::Builder::new()
			.name(format!("engine-{n}"))
			.spawn(move || shared.work(&receiver))?;
	}
	let watched = shared.clone();
	std::thread::Builder::new()
		.name("engine-time".into())
		.spawn(move || {
			if watched.watch() {
				end(1);
			}
		})?;
	let served = shared.read(BufReader::new(connection), &sender);
	shared.close();
	served
}

/// A command that waits or is worked on.
struct Job {
	/// What it is, and until when it may take; none while it waits.
	running: Option<(String, Instant)>,
}

/// Commands by the node's number for them; `None` once the connection is closed.
type Jobs = Option<HashMap<u64, Job>>;

struct Shared {
	engine: Result<Engine, EngineError>,
	sandbox: Report,
	writer: Mutex<UnixStream>,
	jobs: Mutex<Jobs>,
	/// Something began or all ended: the next deadline is another.
	begun: Condvar,
	time: TimeLimits,
}

impl Shared {
	fn jobs(&self) -> MutexGuard<'_, Jobs> {
		self.jobs.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn close(&self) {
		self.jobs().take();
		self.begun.notify_all();
	}

	/// Reads commands until the connection ends.
	fn read(
		&self,
		mut from: impl Read,
		sender: &std::sync::mpsc::SyncSender<Frame<Command>>,
	) -> io::Result<()> {
		while let Some(frame) = read_frame::<Command>(&mut from)? {
			// A ping is answered at once: it asks whether the process lives, not whether it is idle. For the same reason
			// reading never waits for a worker.
			let (id, body) = if frame.body == Command::Ping {
				(frame.id, Reply::Pong)
			} else if frame.body == Command::Stats {
				// Asked most when there is much to do, and told without ONNX Runtime too.
				let done = self.engine.as_ref().map(Engine::statistics);
				(frame.id, Reply::Stats(done.unwrap_or_default()))
			} else if frame.body == Command::Sandbox {
				(frame.id, Reply::Sandbox(self.sandbox.clone()))
			} else {
				let id = frame.id;
				if let Some(jobs) = &mut *self.jobs() {
					jobs.insert(id, Job { running: None });
				}
				match sender.try_send(frame) {
					Ok(()) => continue,
					Err(TrySendError::Full(_)) => {
						self.finish(id);
						(id, Reply::Failed(EngineError::Busy))
					}
					Err(TrySendError::Disconnected(_)) => break,
				}
			};
			write_frame(&self.writer, &Frame { id, body })?;
		}
		Ok(())
	}

	/// Takes commands until there come no more.
	fn work(&self, commands: &Mutex<Receiver<Frame<Command>>>) {
		loop {
			let next = commands.lock().unwrap_or_else(|e| e.into_inner()).recv();
			let Ok(Frame { id, body }) = next else { return };
			self.begin(id, &body);
			let body = match &self.engine {
				Ok(engine) => attempt(engine, body),
				Err(e) => Reply::Failed(e.clone()),
			};
			// Whoever is out of the list was answered already, when the process was about to end.
			if self.finish(id) && write_frame(&self.writer, &Frame { id, body }).is_err() {
				return;
			}
		}
	}

	fn begin(&self, id: u64, command: &Command) {
		let limit = match command {
			Command::Load { .. } => self.time.load,
			_ => self.time.job,
		};
		if let Some(job) = self.jobs().as_mut().and_then(|jobs| jobs.get_mut(&id)) {
			job.running = Some((describe(command), Instant::now() + limit));
		}
		self.begun.notify_all();
	}

	/// Whether the command was still open.
	fn finish(&self, id: u64) -> bool {
		self.jobs()
			.as_mut()
			.is_some_and(|jobs| jobs.remove(&id).is_some())
	}

	/// Waits until a command has taken too long, and answers everybody then; the process is to be ended. False when the
	/// connection has ended before.
	fn watch(&self) -> bool {
		let mut jobs = self.jobs();
		loop {
			let Some(open) = &*jobs else { return false };
			let now = Instant::now();
			let next = open
				.values()
				.filter_map(|job| Some(job.running.as_ref()?.1))
				.min();
			match next {
				None => jobs = self.begun.wait(jobs).unwrap_or_else(|e| e.into_inner()),
				Some(deadline) if deadline > now => {
					jobs = self
						.begun
						.wait_timeout(jobs, deadline - now)
						.unwrap_or_else(|e| e.into_inner())
						.0;
				}
				Some(_) => {
					self.give_up(jobs.take().unwrap_or_default(), now);
					return true;
				}
			}
		}
	}

	fn give_up(&self, jobs: HashMap<u64, Job>, now: Instant) {
		for (id, job) in jobs {
			let error = match job.running {
				Some((what, deadline)) if deadline <= now => {
					let why =
						format!("{what} took longer than it may, and ended the engine's process");
					tracing::error!(target: LOG_TARGET, "{why}");
					EngineError::Limit(why)
				}
				_ => EngineError::Busy,
			};
			let body = Reply::Failed(error);
			// The end of the connection says it too.
			let _ = write_frame(&self.writer, &Frame { id, body });
		}
	}
}

fn describe(command: &Command) -> String {
	match command {
		Command::Load { folder } => format!("loading {folder}"),
		Command::Unload { model } => format!("unloading {model:?}"),
		Command::Run { model, .. } => format!("running {model:?}"),
		Command::Measure { model, .. } => format!("measuring {model:?}"),
		Command::Provider { model } => format!("asking where {model:?} runs"),
		Command::Reference { model } => format!("the reference inference of {model:?}"),
		Command::Ping => "a ping".into(),
		Command::Stats => "statistics".into(),
		Command::Sandbox => "what isolates the process".into(),
	}
}

/// The model that a command runs.
fn model_of(command: &Command) -> Option<ModelId> {
	match command {
		Command::Run { model, .. }
		| Command::Measure { model, .. }
		| Command::Reference { model } => Some(*model),
		Command::Load { .. }
		| Command::Unload { .. }
		| Command::Provider { .. }
		| Command::Ping
		| Command::Stats
		| Command::Sandbox => None,
	}
}

fn attempt(engine: &Engine, command: Command) -> Reply {
	let model = model_of(&command);
	// A panic is a defect of ours or of a library; it costs one job, not the process.
	let reply = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(engine, command)))
		.unwrap_or_else(|_| Reply::Failed(EngineError::Run("the engine panicked".into())));
	match reply {
		Reply::Failed(error) => {
			let error = error.with_memory_named();
			if let (EngineError::Limit(_), Some(model)) = (&error, model) {
				// ONNX Runtime keeps what a session once had.
				engine.unload(model);
			}
			Reply::Failed(error)
		}
		reply => reply,
	}
}

fn execute(engine: &Engine, command: Command) -> Reply {
	let result = match command {
		Command::Load { folder } => engine.load(Path::new(&folder)).map(Reply::Loaded),
		Command::Unload { model } => {
			engine.unload(model);
			Ok(Reply::Unloaded)
		}
		Command::Run { model, input, seed } => engine.run(model, &input, &seed).map(Reply::Output),
		Command::Measure {
			model,
			input,
			seed,
			claimed,
			parts,
		} => engine
			.measure_parts(model, &input, &seed, claimed.as_ref(), &parts)
			.map(Reply::Evidence),
		Command::Provider { model } => engine.provider(model).map(Reply::Provider),
		Command::Reference { model } => engine
			.reference(model)
			.map(|(output, evidence)| Reply::Reference(output, evidence)),
		Command::Ping => Ok(Reply::Pong),
		Command::Stats => Ok(Reply::Stats(engine.statistics())),
		// Answered where commands are read.
		Command::Sandbox => Ok(Reply::Sandbox(Report::default())),
	};
	result.unwrap_or_else(Reply::Failed)
}

/// The next frame; `None` at the end of the connection.
fn read_frame<T: Decode>(from: &mut impl Read) -> io::Result<Option<Frame<T>>> {
	let mut length = [0u8; 4];
	match from.read_exact(&mut length) {
		Ok(()) => (),
		Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
		Err(e) => return Err(e),
	}
	let length = u32::from_le_bytes(length);
	if length > MAX_FRAME {
		return Err(io::Error::new(
			io::ErrorKind::InvalidData,
			format!("a frame of {length} bytes is longer than {MAX_FRAME}"),
		));
	}
	let mut bytes = vec![0u8; length as usize];
	from.read_exact(&mut bytes)?;
	Frame::decode(&mut &bytes[..])
		.map(Some)
		.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
}

fn write_frame<T: Encode>(to: &Mutex<UnixStream>, frame: &Frame<T>) -> io::Result<()> {
	let body = frame.encode();
	let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
	bytes.extend(body);
	to.lock()
		.unwrap_or_else(|e| e.into_inner())
		.write_all(&bytes)
}
