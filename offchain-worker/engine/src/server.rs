//! The engine process: takes commands from one connection, and ends with it.
//!
//! It is born with that connection as its standard input. Before the first command it gives up what it does not need
//! ([`crate::isolation`]). A model that takes more memory than there is fails with [`EngineError::Limit`] and is unloaded.
//!
//! A command comes with the time for which somebody waits for it, and may be cancelled before. Then it ends between two of its
//! steps ([`crate::ticket`]). A run of a graph that takes longer than [`TimeLimits::run`] is asked to end, and whoever had it done
//! is told [`EngineError::Limit`]. What does not end within [`TimeLimits::grace`] of that ends the process: whoever asked for it
//! learns that, and everybody else is told to ask again, so that a model is not blamed for its neighbour.

use std::{
	collections::{HashMap, VecDeque},
	io::{self, BufReader, Read, Write},
	os::{
		fd::{AsFd, FromRawFd, OwnedFd},
		unix::net::{UnixListener, UnixStream},
	},
	path::{Path, PathBuf},
	sync::{Arc, Condvar, Mutex, MutexGuard},
	time::{Duration, Instant},
};

use codec::{Compact, Decode, Encode};
use consilience_primitives::ModelId;

use crate::{
	isolation::{self, end, Isolation, Purpose, Report},
	protocol::{Command, Frame, Order, Reply, MAX_FRAME},
	ticket::{look, Ticket},
	Engine, EngineConfig, EngineError, Provider, LOG_TARGET,
};

/// Commands that wait for a free worker, and their bytes; more are refused. The node bounds what it asks for far below this.
const QUEUE: usize = 512;
const QUEUE_BYTES: usize = 64 << 20;
/// Most answers that are streamed at a time; more are refused. Each has a thread, which does next to nothing: they may pause for
/// long, and take no worker from what does not.
const STREAMS: usize = 128;
/// How often runs and commands are looked at while there are any.
const LOOK: Duration = Duration::from_millis(100);
/// How long the node may take to read a reply.
const WRITE: Duration = Duration::from_secs(30);

/// How long things may take that nothing on chain bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
	/// Loading a model.
	pub load: Duration,
	/// One run of a graph: a piece of a text, the next tokens of all answers, or a whole graph of tensors.
	pub run: Duration,
	/// What was asked to end, or waits for nobody any more, until it does.
	pub grace: Duration,
}

impl Default for TimeLimits {
	fn default() -> Self {
		Self {
			load: Duration::from_secs(300),
			run: Duration::from_secs(120),
			grace: Duration::from_secs(20),
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
	/// Most commands that are worked on at a time, at least one; 512 more may wait. Those of one model do not hinder those of
	/// another, as long as they are fewer. A thread is started for each when it is needed.
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
	match serve_connection(connection, engine, report, config, Some(end)) {
		Ok(()) => end(0),
		Err(e) => {
			tracing::error!(target: LOG_TARGET, "the node's connection: {e}");
			end(1)
		}
	}
}

/// Serves one connection on a socket that is bound, in this process as it is: for tests and tools. [`TimeLimits`] have no force.
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
	serve_connection(connection, engine, Report::default(), config, None)
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
	end: Option<fn(i32) -> !>,
) -> io::Result<()> {
	if let Err(e) = &engine {
		tracing::error!(target: LOG_TARGET, "{e}");
	}
	let shared = Arc::new(Shared {
		engine,
		sandbox,
		writer: Mutex::new(connection.try_clone()?),
		state: Mutex::default(),
		available: Condvar::new(),
		changed: Condvar::new(),
		time: config.time,
		workers: config.workers.max(1),
	});
	if let Some(end) = end {
		let watched = shared.clone();
		std::thread::Builder::new()
			.name("engine-time".into())
			.spawn(move || {
				if watched.watch() {
					end(1);
				}
			})?;
	}
	let served = shared.read(BufReader::new(connection));
	shared.close();
	served
}

/// A command that waits or is worked on.
struct Job {
	ticket: Ticket,
	/// What it is and since when it is worked on; none while it waits.
	running: Option<(String, Instant)>,
	/// Whether it loads a model.
	loads: bool,
	/// When it was seen that nobody waits any more.
	over: Option<Instant>,
}

/// A command that waits.
struct Waiting {
	id: u64,
	command: Command,
	bytes: usize,
}

#[derive(Default)]
struct State {
	/// Commands by the node's number for them.
	jobs: HashMap<u64, Job>,
	waiting: VecDeque<Waiting>,
	/// Bytes of those that wait.
	bytes: usize,
	/// Threads that wait for commands, and all.
	idle: usize,
	threads: usize,
	/// Answers that are streamed.
	streams: usize,
	/// The connection is closed, or the process is to end.
	closed: bool,
}

struct Shared {
	engine: Result<Engine, EngineError>,
	sandbox: Report,
	writer: Mutex<UnixStream>,
	state: Mutex<State>,
	/// For who carries commands out: one came, or all ended.
	available: Condvar,
	/// For who watches: the same.
	changed: Condvar,
	time: TimeLimits,
	workers: usize,
}

impl Shared {
	fn state(&self) -> MutexGuard<'_, State> {
		self.state.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn close(&self) {
		let mut state = self.state();
		state.closed = true;
		state.waiting.clear();
		// Whoever is worked on has nobody to tell.
		for (_, job) in state.jobs.drain() {
			job.ticket.cancel();
		}
		self.available.notify_all();
		self.changed.notify_all();
	}

	/// Reads commands until the connection ends.
	fn read(self: &Arc<Self>, mut from: impl Read) -> io::Result<()> {
		while let Some((frame, bytes)) = read_frame::<Order>(&mut from)? {
			let Frame { id, body: order } = frame;
			// A ping is answered at once: it asks whether the process lives, not whether it is idle. For the same reason
			// reading never waits for a worker.
			let body = match order.command {
				Command::Ping => Reply::Pong,
				Command::Stats => {
					// Asked most when there is much to do, and told without ONNX Runtime too.
					let done = self.engine.as_ref().map(Engine::statistics);
					Reply::Stats(done.unwrap_or_default())
				}
				Command::Sandbox => Reply::Sandbox(self.sandbox.clone()),
				Command::Cancel { id } => {
					let Some(reply) = self.cancel(id) else {
						continue;
					};
					write_frame(&self.writer, &Frame { id, body: reply })?;
					continue;
				}
				Command::Allow { id, tokens } => {
					if let Some(job) = self.state().jobs.get(&id) {
						job.ticket.allow(tokens);
					}
					continue;
				}
				Command::Stream { allowed, .. } => {
					let ticket = ticket(order.within).allowing(allowed);
					match self.begin_stream(id, order.command, ticket) {
						true => continue,
						false => Reply::Failed(EngineError::Busy),
					}
				}
				command => match self.take_on(id, command, order.within, bytes)? {
					true => continue,
					false => Reply::Failed(EngineError::Busy),
				},
			};
			write_frame(&self.writer, &Frame { id, body })?;
		}
		Ok(())
	}

	/// Ends a command for which nobody waits any more. Its reply, if it had not begun.
	fn cancel(&self, id: u64) -> Option<Reply> {
		let mut state = self.state();
		state.jobs.get(&id)?.ticket.cancel();
		let place = state.waiting.iter().position(|w| w.id == id)?;
		if let Some(waiting) = state.waiting.remove(place) {
			state.bytes -= waiting.bytes;
		}
		state.jobs.remove(&id);
		Some(Reply::Failed(EngineError::Cancelled))
	}

	/// Puts a command into the queue, if it has room, and sees to it that somebody takes it from there.
	fn take_on(
		self: &Arc<Self>,
		id: u64,
		command: Command,
		within: Option<u64>,
		bytes: usize,
	) -> io::Result<bool> {
		let mut state = self.state();
		if state.waiting.len() >= QUEUE
			|| (state.bytes + bytes > QUEUE_BYTES && !state.waiting.is_empty())
		{
			return Ok(false);
		}
		let job = Job {
			ticket: ticket(within),
			running: None,
			loads: matches!(command, Command::Load { .. }),
			over: None,
		};
		state.jobs.insert(id, job);
		state.bytes += bytes;
		state.waiting.push_back(Waiting { id, command, bytes });
		if state.idle < state.waiting.len() && state.threads < self.workers {
			let (shared, n) = (self.clone(), state.threads);
			let started = std::thread::Builder::new()
				.name(format!("engine-{n}"))
				.spawn(move || shared.work());
			match started {
				Ok(_) => state.threads += 1,
				// The others will come to it.
				Err(e) if state.threads > 0 => {
					tracing::warn!(target: LOG_TARGET, "no more threads than {n}: {e}");
				}
				Err(e) => return Err(e),
			}
		}
		self.available.notify_one();
		self.changed.notify_all();
		Ok(true)
	}

	/// Has an answer streamed by a thread of its own, if there are not too many.
	fn begin_stream(self: &Arc<Self>, id: u64, command: Command, ticket: Ticket) -> bool {
		let mut state = self.state();
		if state.streams >= STREAMS {
			return false;
		}
		let job = Job {
			ticket: ticket.clone(),
			running: Some((describe(&command), Instant::now())),
			loads: false,
			over: None,
		};
		state.jobs.insert(id, job);
		let shared = self.clone();
		let started = std::thread::Builder::new()
			.name("engine-stream".into())
			.spawn(move || {
				// A connection that is broken ends all of them.
				let _ = shared.carry_out(id, command, &ticket);
				shared.state().streams -= 1;
			});
		match started {
			Ok(_) => state.streams += 1,
			Err(e) => {
				state.jobs.remove(&id);
				tracing::warn!(target: LOG_TARGET, "no more streams than {}: {e}", state.streams);
				return false;
			}
		}
		self.changed.notify_all();
		true
	}

	/// Carries commands out until there come no more.
	fn work(&self) {
		while let Some((waiting, ticket)) = self.next() {
			let Waiting { id, command, .. } = waiting;
			if self.carry_out(id, command, &ticket).is_err() {
				return;
			}
		}
	}

	/// Carries a command out, and replies.
	fn carry_out(&self, id: u64, command: Command, ticket: &Ticket) -> io::Result<()> {
		let mut say = |body| {
			if write_frame(&self.writer, &Frame { id, body }).is_err() {
				// Nobody reads what else comes of it.
				ticket.cancel();
			}
		};
		let body = match &self.engine {
			Ok(engine) => ticket.during(|| attempt(engine, command, &mut say)),
			Err(e) => Reply::Failed(e.clone()),
		};
		// Whoever is out of the list was answered already, when the process was about to end.
		match self.finish(id) {
			true => write_frame(&self.writer, &Frame { id, body }),
			false => Ok(()),
		}
	}

	/// The next command, when there is one; none when there come no more.
	fn next(&self) -> Option<(Waiting, Ticket)> {
		let mut state = self.state();
		state.idle += 1;
		loop {
			if state.closed {
				return None;
			}
			if let Some(next) = state.waiting.pop_front() {
				state.idle -= 1;
				state.bytes -= next.bytes;
				let what = describe(&next.command);
				let job = state.jobs.get_mut(&next.id)?;
				job.running = Some((what, Instant::now()));
				return Some((next, job.ticket.clone()));
			}
			state = self
				.available
				.wait(state)
				.unwrap_or_else(|e| e.into_inner());
		}
	}

	/// Whether the command was still open.
	fn finish(&self, id: u64) -> bool {
		self.state().jobs.remove(&id).is_some()
	}

	/// Watches over what is worked on until something does not come to an end, and answers everybody then; the process is to be
	/// ended. False when the connection has ended before.
	fn watch(&self) -> bool {
		let mut state = self.state();
		loop {
			if state.closed {
				return false;
			}
			if state.jobs.is_empty() {
				state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
				continue;
			}
			let mut late: Vec<u64> = Vec::new();
			let now = Instant::now();
			for (id, job) in &mut state.jobs {
				let Some((_, since)) = job.running else {
					continue;
				};
				if job.loads {
					if since + self.time.load <= now {
						late.push(*id);
					}
				} else if job.ticket.is_over() {
					// Nothing but a run of a graph may take longer than the grace; that is looked at below.
					let over = *job.over.get_or_insert(now);
					if over + self.time.run + self.time.grace <= now {
						late.push(*id);
					}
				}
			}
			let hangs = !look(self.time.run, self.time.grace);
			if hangs || !late.is_empty() {
				let jobs = std::mem::take(&mut state.jobs);
				state.closed = true;
				drop(state);
				self.give_up(jobs, &late);
				return true;
			}
			state = self
				.changed
				.wait_timeout(state, LOOK)
				.unwrap_or_else(|e| e.into_inner())
				.0;
		}
	}

	/// Tells everybody that the process ends: whoever is at fault, all that are worked on where that is not known, and the others.
	fn give_up(&self, jobs: HashMap<u64, Job>, late: &[u64]) {
		for (id, job) in jobs {
			let error = match job.running {
				Some((what, _)) if late.is_empty() || late.contains(&id) => {
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

/// Of a command for which somebody waits so many milliseconds. A time beyond what the clock can tell is none.
fn ticket(within: Option<u64>) -> Ticket {
	Ticket::until(within.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms))))
}

fn describe(command: &Command) -> String {
	match command {
		Command::Load { folder } => format!("loading {folder}"),
		Command::Unload { model } => format!("unloading {model:?}"),
		Command::Run { model, .. } => format!("running {model:?}"),
		Command::Stream { model, .. } => format!("streaming from {model:?}"),
		Command::Cut { model, .. } => format!("cutting an answer of {model:?}"),
		Command::Allow { id, .. } => format!("more of {id}"),
		Command::Measure { model, .. } => format!("measuring {model:?}"),
		Command::Provider { model } => format!("asking where {model:?} runs"),
		Command::Reference { model } => format!("the reference inference of {model:?}"),
		Command::Ping => "a ping".into(),
		Command::Stats => "statistics".into(),
		Command::Sandbox => "what isolates the process".into(),
		Command::Cancel { id } => format!("cancelling {id}"),
	}
}

/// The model that a command runs.
fn model_of(command: &Command) -> Option<ModelId> {
	match command {
		Command::Run { model, .. }
		| Command::Stream { model, .. }
		| Command::Cut { model, .. }
		| Command::Measure { model, .. }
		| Command::Reference { model } => Some(*model),
		Command::Load { .. }
		| Command::Unload { .. }
		| Command::Provider { .. }
		| Command::Ping
		| Command::Stats
		| Command::Sandbox
		| Command::Allow { .. }
		| Command::Cancel { .. } => None,
	}
}

/// The reply to a command; `say` is given those before it.
fn attempt(engine: &Engine, command: Command, say: &mut dyn FnMut(Reply)) -> Reply {
	let model = model_of(&command);
	let work = std::panic::AssertUnwindSafe(|| execute(engine, command, say));
	// A panic is a defect of ours or of a library; it costs one job, not the process.
	let reply = std::panic::catch_unwind(work)
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

fn execute(engine: &Engine, command: Command, say: &mut dyn FnMut(Reply)) -> Reply {
	let result = match command {
		Command::Load { folder } => engine.load(Path::new(&folder)).map(Reply::Loaded),
		Command::Unload { model } => {
			engine.unload(model);
			Ok(Reply::Unloaded)
		}
		Command::Run { model, input, seed } => engine.run(model, &input, &seed).map(Reply::Output),
		Command::Cut {
			model,
			input,
			tokens,
		} => {
			let tokens: Vec<u32> = tokens.into_iter().map(|Compact(token)| token).collect();
			engine.cut(model, &input, &tokens).map(Reply::Output)
		}
		Command::Stream {
			model, input, seed, ..
		} => {
			let mut see = |tokens: Vec<u32>, text: &str| {
				say(Reply::Tokens {
					tokens: tokens.into_iter().map(Compact).collect(),
					text: text.into(),
				});
			};
			engine
				.stream(model, &input, &seed, &mut see)
				.map(Reply::Output)
		}
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
		Command::Ping | Command::Allow { .. } | Command::Cancel { .. } => Ok(Reply::Pong),
		Command::Stats => Ok(Reply::Stats(engine.statistics())),
		// Answered where commands are read.
		Command::Sandbox => Ok(Reply::Sandbox(Report::default())),
	};
	result.unwrap_or_else(Reply::Failed)
}

/// The next frame and its length; `None` at the end of the connection.
fn read_frame<T: Decode>(from: &mut impl Read) -> io::Result<Option<(Frame<T>, usize)>> {
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
		.map(|frame| Some((frame, bytes.len())))
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
