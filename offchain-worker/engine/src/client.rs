//! The node's end of the connection to the engine process.

use std::{
	collections::HashMap,
	path::{Path, PathBuf},
	sync::{
		atomic::{AtomicU64, Ordering},
		Arc, Mutex, MutexGuard,
	},
	time::Instant,
};

use codec::{Compact, Decode, Encode};
use consilience_primitives::{
	evidence::Evidence,
	request::{FullInput, Output},
	ModelId,
};
use polkadot_sdk::sp_core::H256;
use tokio::{
	io::{AsyncReadExt, AsyncWriteExt},
	net::{
		unix::{OwnedReadHalf, OwnedWriteHalf},
		UnixStream,
	},
	sync::{mpsc, oneshot, watch},
};

use crate::{
	isolation::Report,
	protocol::{Command, Frame, Order, Reply, MAX_FRAME},
	stream::TokenStream,
	EngineError, Part, Provider, Statistics,
};

/// Who waits for which reply; `None` once the connection is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, Waits>>>>;

/// Who waits for a command.
enum Waits {
	/// For its reply.
	Reply(oneshot::Sender<Reply>),
	/// For what is streamed, too. What the engine writes ahead is bounded by what it was allowed, and by the longest answer.
	Stream(mpsc::UnboundedSender<Reply>),
}

/// A connection to an engine process. Clones share it; commands are answered in any order. A command whose future or stream is
/// dropped is cancelled there.
#[derive(Clone)]
pub struct EngineClient {
	/// Frames for the task that writes. It ends with the last clone, and with it the engine.
	writer: mpsc::UnboundedSender<Vec<u8>>,
	waiting: Waiting,
	next: Arc<AtomicU64>,
	gone: watch::Receiver<bool>,
	/// Models that the engine was seen to have, by folder.
	loaded: Arc<Mutex<HashMap<PathBuf, ModelId>>>,
	/// Until when this clone's commands are waited for.
	until: Option<Instant>,
}

/// A command that is waited for. Dropped before its reply is there, it is cancelled.
pub(crate) struct Open {
	client: EngineClient,
	id: u64,
}

impl Open {
	/// Lets so many tokens be written in all.
	pub(crate) fn allow(&self, tokens: u32) {
		let id = self.id;
		// Where the engine has gone there is nothing to write any more.
		let _ = self.client.send(id, Command::Allow { id, tokens });
	}

	/// Notes what its failure says of the models that the engine has.
	pub(crate) fn note(&self, error: &EngineError) {
		self.client.note(error);
	}
}

impl Drop for Open {
	fn drop(&mut self) {
		let mut waiting = self.client.waiting();
		if waiting.as_mut().and_then(|w| w.remove(&self.id)).is_some() {
			// Who asked has gone, and the engine may have.
			let _ = self.client.send(self.id, Command::Cancel { id: self.id });
		}
	}
}

impl EngineClient {
	/// Connects to an engine that listens on `socket`.
	pub async fn connect(socket: &Path) -> std::io::Result<Self> {
		Ok(Self::over(UnixStream::connect(socket).await?))
	}

	/// The node's end of a connection that an engine has the other end of.
	pub fn over(connection: UnixStream) -> Self {
		let (reader, to) = connection.into_split();
		let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
		let (tell, gone) = watch::channel(false);
		let (writer, frames) = mpsc::unbounded_channel();
		tokio::spawn(write(to, frames));
		let shared = waiting.clone();
		tokio::spawn(async move {
			let _ = receive(reader, &shared).await;
			// Before anybody who waits hears of it: who does shall not take this connection for one that can be used again.
			let _ = tell.send(true);
			// Dropping the senders tells everybody who waits.
			shared.lock().unwrap_or_else(|e| e.into_inner()).take();
		});
		Self {
			writer,
			waiting,
			next: Arc::default(),
			gone,
			loaded: Arc::default(),
			until: None,
		}
	}

	/// The same connection, to ask what nobody waits for after that. Loading is not meant: a model that was asked for too late is
	/// of use to the next.
	pub fn until(&self, until: Option<Instant>) -> Self {
		Self {
			until,
			..self.clone()
		}
	}

	/// Resolves when the connection is gone.
	pub async fn closed(&self) {
		let mut gone = self.gone.clone();
		// An error means that the receiving task has ended, which is the same.
		let _ = gone.wait_for(|g| *g).await;
	}

	fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, Waits>>> {
		self.waiting.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn loaded(&self) -> MutexGuard<'_, HashMap<PathBuf, ModelId>> {
		self.loaded.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// Has a frame written. The engine bounds what it takes on, so that no more wait here than it refuses.
	fn send(&self, id: u64, command: Command) -> Result<(), EngineError> {
		let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_millis();
		let within = match command {
			Command::Load { .. } | Command::Allow { .. } | Command::Cancel { .. } => None,
			_ => self.until.map(|at| left(at).try_into().unwrap_or(u64::MAX)),
		};
		let body = Order { command, within };
		let body = Frame { id, body }.encode();
		let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
		bytes.extend(body);
		self.writer.send(bytes).map_err(|_| EngineError::Gone)
	}

	/// Has a command carried out. It is cancelled when what this returns is dropped.
	fn begin(&self, command: Command, waits: Waits) -> Result<Open, EngineError> {
		let id = self.next.fetch_add(1, Ordering::Relaxed);
		match &mut *self.waiting() {
			Some(waiting) => waiting.insert(id, waits),
			None => return Err(EngineError::Gone),
		};
		let client = self.clone();
		let open = Open { client, id };
		self.send(id, command)?;
		Ok(open)
	}

	/// Notes what an error says of the models that the engine has: it forgets them of its own accord too, and the next load asks.
	fn note(&self, error: &EngineError) {
		if let EngineError::NotLoaded(_) | EngineError::Limit(_) = error {
			self.loaded().clear();
		}
	}

	async fn ask(&self, command: Command) -> Result<Reply, EngineError> {
		let (reply, replied) = oneshot::channel();
		let _open = self.begin(command, Waits::Reply(reply))?;
		match replied.await.map_err(|_| EngineError::Gone)? {
			Reply::Failed(e) => {
				self.note(&e);
				Err(e)
			}
			reply => Ok(reply),
		}
	}

	/// Loads the model in a folder, unless the engine is known to have it.
	pub async fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		if let Some(model) = self.loaded().get(folder) {
			return Ok(*model);
		}
		match self
			.ask(Command::Load {
				folder: folder.display().to_string(),
			})
			.await?
		{
			Reply::Loaded(model) => {
				self.loaded().insert(folder.into(), model);
				Ok(model)
			}
			other => unexpected(other),
		}
	}

	/// Forgets a model.
	pub async fn unload(&self, model: ModelId) -> Result<(), EngineError> {
		self.loaded().retain(|_, loaded| *loaded != model);
		match self.ask(Command::Unload { model }).await? {
			Reply::Unloaded => Ok(()),
			other => unexpected(other),
		}
	}

	/// Answers an input.
	pub async fn run(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
	) -> Result<Output, EngineError> {
		match self.ask(Command::Run { model, input, seed }).await? {
			Reply::Output(output) => Ok(output),
			other => unexpected(other),
		}
	}

	/// Answers an input with generated text, which arrives as it is written: `allowed` tokens, and more when
	/// [`TokenStream::allow`] says so. Until then the answer holds up no other.
	pub fn stream(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		allowed: u32,
	) -> Result<TokenStream, EngineError> {
		let (waits, replies) = mpsc::unbounded_channel();
		let command = Command::Stream {
			model,
			input,
			seed,
			allowed,
		};
		let open = self.begin(command, Waits::Stream(waits))?;
		Ok(TokenStream::new(replies, open, allowed))
	}

	/// The answer that is over with the last of these tokens, which the model wrote, whether it ends it there or not.
	pub async fn cut(
		&self,
		model: ModelId,
		input: FullInput,
		tokens: Vec<u32>,
	) -> Result<Output, EngineError> {
		let tokens = tokens.into_iter().map(Compact).collect();
		let command = Command::Cut {
			model,
			input,
			tokens,
		};
		match self.ask(command).await? {
			Reply::Output(output) => Ok(output),
			other => unexpected(other),
		}
	}

	/// Measures parts of an answer, or all of it under several challenges, in one pass.
	pub async fn measure_parts(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		claimed: Option<Output>,
		parts: Vec<Part>,
	) -> Result<Vec<Evidence>, EngineError> {
		match self
			.ask(Command::Measure {
				model,
				input,
				seed,
				claimed,
				parts,
			})
			.await?
		{
			Reply::Evidence(evidence) => Ok(evidence),
			other => unexpected(other),
		}
	}

	/// Asks where a model runs.
	pub async fn provider(&self, model: ModelId) -> Result<Provider, EngineError> {
		match self.ask(Command::Provider { model }).await? {
			Reply::Provider(provider) => Ok(provider),
			other => unexpected(other),
		}
	}

	/// Runs a model's reference inference.
	pub async fn reference(&self, model: ModelId) -> Result<(Output, Evidence), EngineError> {
		match self.ask(Command::Reference { model }).await? {
			Reply::Reference(output, evidence) => Ok((output, evidence)),
			other => unexpected(other),
		}
	}

	/// Asks what the engine has done.
	pub async fn statistics(&self) -> Result<Statistics, EngineError> {
		match self.ask(Command::Stats).await? {
			Reply::Stats(statistics) => Ok(statistics),
			other => unexpected(other),
		}
	}

	/// Asks what isolates the process.
	pub async fn sandbox(&self) -> Result<Report, EngineError> {
		match self.ask(Command::Sandbox).await? {
			Reply::Sandbox(report) => Ok(report),
			other => unexpected(other),
		}
	}

	/// Asks whether the process lives.
	pub async fn ping(&self) -> Result<(), EngineError> {
		match self.ask(Command::Ping).await? {
			Reply::Pong => Ok(()),
			other => unexpected(other),
		}
	}
}

pub(crate) fn unexpected<T>(reply: Reply) -> Result<T, EngineError> {
	Err(EngineError::Run(format!(
		"an answer to another question: {reply:?}"
	)))
}

/// Writes frames until nobody has any more, or nobody reads.
async fn write(mut to: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
	while let Some(frame) = frames.recv().await {
		if to.write_all(&frame).await.is_err() {
			return;
		}
	}
}

async fn receive(mut reader: OwnedReadHalf, waiting: &Waiting) -> std::io::Result<()> {
	loop {
		let length = reader.read_u32_le().await?;
		if length > MAX_FRAME {
			return Err(std::io::ErrorKind::InvalidData.into());
		}
		let mut bytes = vec![0u8; length as usize];
		reader.read_exact(&mut bytes).await?;
		let frame = Frame::<Reply>::decode(&mut &bytes[..])
			.map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e.to_string()))?;
		let mut waiting = waiting.lock().unwrap_or_else(|e| e.into_inner());
		let Some(waiting) = waiting.as_mut() else {
			continue;
		};
		// Who asked may have stopped waiting.
		match (frame.body, waiting.get(&frame.id)) {
			(body @ Reply::Tokens { .. }, Some(Waits::Stream(stream))) => drop(stream.send(body)),
			(body, _) => match waiting.remove(&frame.id) {
				Some(Waits::Reply(reply)) => drop(reply.send(body)),
				Some(Waits::Stream(stream)) => drop(stream.send(body)),
				None => (),
			},
		}
	}
}
