//! The engine process: takes commands from one connection, and ends with it.

use std::{
	io::{self, BufReader, Read, Write},
	os::unix::net::{UnixListener, UnixStream},
	path::Path,
	sync::{
		mpsc::{sync_channel, Receiver, TrySendError},
		Arc, Mutex,
	},
};

use codec::{Decode, Encode};

use crate::{
	protocol::{Command, Frame, Reply, MAX_FRAME},
	Engine, EngineConfig, EngineError, LOG_TARGET,
};

/// Commands that wait for a free worker; more are refused. The node bounds what it asks for far below this.
const QUEUE: usize = 64;

/// How the process runs.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
	/// The engine.
	pub engine: EngineConfig,
	/// Bytes of data memory after which allocations fail; none for no limit.
	pub memory_limit: Option<u64>,
	/// Commands that are worked on at a time; 64 more may wait.
	pub workers: usize,
}

/// Binds a socket, in place of what another process may have left there.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
	let _ = std::fs::remove_file(socket);
	UnixListener::bind(socket)
}

/// Takes one connection on `socket` and serves it until it is closed: when the node goes away, so does the engine.
pub fn serve(socket: &Path, config: ServerConfig) -> io::Result<()> {
	serve_on(bind(socket)?, config)
}

/// [`serve`] on a socket that is bound.
pub fn serve_on(listener: UnixListener, config: ServerConfig) -> io::Result<()> {
	if let Some(limit) = config.memory_limit {
		use nix::sys::resource::{setrlimit, Resource};
		setrlimit(Resource::RLIMIT_DATA, limit, limit).map_err(io::Error::from)?;
	}
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
	if let Err(e) = &engine {
		tracing::error!(target: LOG_TARGET, "{e}");
	}
	let engine = Arc::new(engine);
	let writer = Arc::new(Mutex::new(connection.try_clone()?));
	let workers = config.workers.max(1);
	let (sender, receiver) = sync_channel::<Frame<Command>>(QUEUE);
	let receiver = Arc::new(Mutex::new(receiver));
	for n in 0..workers {
		let (engine, writer, receiver) = (engine.clone(), writer.clone(), receiver.clone());
		std::thread::Builder::new()
			.name(format!("engine-{n}"))
			.spawn(move || work(&engine, &receiver, &writer))?;
	}
	let mut reader = BufReader::new(connection);
	while let Some(frame) = read_frame::<Command>(&mut reader)? {
		// A ping is answered at once: it asks whether the process lives, not whether it is idle. For the same reason reading
		// never waits for a worker.
		let (id, body) = if frame.body == Command::Ping {
			(frame.id, Reply::Pong)
		} else {
			match sender.try_send(frame) {
				Ok(()) => continue,
				Err(TrySendError::Full(frame)) => (frame.id, Reply::Failed(EngineError::Busy)),
				Err(TrySendError::Disconnected(_)) => break,
			}
		};
		write_frame(&writer, &Frame { id, body })?;
	}
	Ok(())
}

fn work(
	engine: &Result<Engine, EngineError>,
	commands: &Mutex<Receiver<Frame<Command>>>,
	writer: &Mutex<UnixStream>,
) {
	loop {
		let next = commands.lock().unwrap_or_else(|e| e.into_inner()).recv();
		let Ok(Frame { id, body }) = next else { return };
		let body = match engine {
			// A panic is a defect of ours or of a library; it costs one job, not the process.
			Ok(engine) => {
				std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| execute(engine, body)))
					.unwrap_or_else(|_| {
						Reply::Failed(EngineError::Run("the engine panicked".into()))
					})
			}
			Err(e) => Reply::Failed(e.clone()),
		};
		if write_frame(writer, &Frame { id, body }).is_err() {
			return;
		}
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
			challenge,
		} => engine
			.measure(model, &input, &seed, claimed.as_ref(), &challenge)
			.map(Reply::Evidence),
		Command::Reference { model } => engine
			.reference(model)
			.map(|(output, evidence)| Reply::Reference(output, evidence)),
		Command::Ping => Ok(Reply::Pong),
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
