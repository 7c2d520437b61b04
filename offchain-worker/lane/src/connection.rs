//! One client: its messages in, what it is told out.

use std::sync::Arc;

use codec::{DecodeAll, Encode};
use consilience_primitives::session::{ChannelId, Service};
use futures::{SinkExt, StreamExt};
use tokio::{
	net::TcpStream,
	sync::{mpsc, Semaphore},
	time::{sleep_until, timeout, Instant},
};
use tokio_tungstenite::{
	accept_async_with_config,
	tungstenite::{
		protocol::{CloseFrame, WebSocketConfig},
		Bytes, Message,
	},
	WebSocketStream,
};

use crate::{
	checker,
	executor::{self, Command, Known, Out, Running},
	limits::{Budget, Limited},
	message::{
		Offer, OfferedModel, Payment, Refusal, ToClient, ToValidator, MAX_MESSAGE, MAX_UNPAID,
		VERSION,
	},
	Refused, Shared,
};

/// Messages that wait for the socket; whoever has more waits.
const OUTBOX: usize = 2;

/// What is read of a socket at once.
const READ: usize = 4 << 10;

/// Refusals in a row after which a connection ends.
const REFUSALS: u32 = 32;

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Flow {
	On,
	End,
}

struct Connection {
	lane: Arc<Shared>,
	socket: WebSocketStream<Limited<TcpStream>>,
	budget: Budget,
	out: Out,
	/// After `Hello`.
	channel: Option<ChannelId>,
	/// A voucher has verified.
	trusted: bool,
	running: Option<Running>,
	known: Known,
	/// Taken while an answer is said again.
	replay: Arc<Semaphore>,
	refusals: u32,
	/// When something was last said, beside pings.
	said: Instant,
}

/// Serves a client until it goes, or has to.
pub(crate) async fn serve(lane: Arc<Shared>, tcp: TcpStream) {
	let begun = Instant::now();
	let config = WebSocketConfig::default()
		.read_buffer_size(READ)
		.write_buffer_size(0)
		.max_write_buffer_size(2 * MAX_MESSAGE)
		.max_message_size(Some(MAX_MESSAGE))
		.max_frame_size(Some(MAX_MESSAGE));
	// Frames are small, and somebody waits for each.
	let _ = tcp.set_nodelay(true);
	let budget = Budget::new(MAX_UNPAID);
	let limited = Limited::new(tcp, budget.clone());
	let accepted = timeout(
		lane.config.handshake,
		accept_async_with_config(limited, Some(config)),
	);
	let Ok(Ok(socket)) = accepted.await else {
		return;
	};
	budget.refill();
	let (out, messages) = mpsc::channel(OUTBOX);
	let connection = Connection {
		lane,
		socket,
		budget,
		out,
		channel: None,
		trusted: false,
		running: None,
		known: None,
		replay: Arc::new(Semaphore::new(1)),
		refusals: 0,
		said: begun,
	};
	connection.run(begun, messages).await;
}

impl Connection {
	async fn run(mut self, begun: Instant, mut messages: mpsc::Receiver<ToClient>) {
		let hello = begun + self.lane.config.handshake;
		let trusted = begun + self.lane.config.untrusted;
		let (mut heard, mut pinged) = (Instant::now(), false);
		let lane = self.lane.clone();
		loop {
			let idle = self.lane.config.idle;
			let next = match (self.channel, pinged) {
				(None, _) => hello,
				(Some(_), false) => heard + idle / 2,
				(Some(_), true) => heard + idle,
			};
			let flow = tokio::select! {
				message = self.socket.next() => {
					(heard, pinged) = (Instant::now(), false);
					match message {
						Some(Ok(message)) => self.receive(message).await,
						_ => Flow::End,
					}
				}
				Some(message) = messages.recv() => self.send(&message).await,
				() = sleep_until(trusted), if !self.trusted => Flow::End,
				() = lane.crowded.notified(), if self.is_kept() => Flow::End,
				() = sleep_until(next) => match self.channel {
					Some(_) if !pinged => {
						pinged = true;
						self.say(Message::Ping(Bytes::new())).await
					}
					_ => Flow::End,
				},
			};
			if flow == Flow::End {
				break;
			}
		}
		// A goodbye says that what came before it is done: the next voucher counts on from it.
		drop(messages);
		if let (Some(_), Some(channel)) = (self.running.take(), self.channel) {
			let slot = self.lane.slot(channel);
			drop(timeout(self.lane.config.send, slot.answers.lock()).await);
		}
		self.say(Message::Close(None::<CloseFrame>)).await;
	}

	/// Whether nothing goes on over it, and it is only kept for the next question.
	fn is_kept(&self) -> bool {
		let writes = |running: &Running| !running.commands.is_closed();
		self.trusted
			&& !self.running.as_ref().is_some_and(writes)
			&& self.said.elapsed() >= self.lane.config.idle / 2
	}

	/// Sends; a peer that does not read is not waited for.
	async fn say(&mut self, message: Message) -> Flow {
		match timeout(self.lane.config.send, self.socket.send(message)).await {
			Ok(Ok(())) => Flow::On,
			_ => Flow::End,
		}
	}

	async fn send(&mut self, message: &ToClient) -> Flow {
		self.said = Instant::now();
		self.say(Message::Binary(Bytes::from(message.encode())))
			.await
	}

	async fn receive(&mut self, message: Message) -> Flow {
		match message {
			Message::Binary(bytes) => {
				self.said = Instant::now();
				self.budget.refill();
				let most = if self.trusted {
					MAX_MESSAGE
				} else {
					MAX_UNPAID
				};
				match ToValidator::decode_all(&mut &bytes[..]) {
					Ok(message) if bytes.len() <= most => self.handle(message).await,
					_ => self.malformed("this is no message").await,
				}
			}
			Message::Ping(content) | Message::Pong(content) => {
				self.budget.give_back(content.len());
				Flow::On
			}
			Message::Text(_) | Message::Frame(_) => self.malformed("this is no message").await,
			Message::Close(_) => Flow::End,
		}
	}

	async fn malformed(&mut self, words: &str) -> Flow {
		self.refuse(None, Refused::new(Refusal::Malformed, words))
			.await;
		Flow::End
	}

	async fn refuse(&mut self, number: Option<u32>, Refused(why, words): Refused) -> Flow {
		self.lane.metrics.refused(why);
		self.refusals += 1;
		let sent = self.send(&ToClient::Refused { number, why, words }).await;
		if self.refusals >= REFUSALS {
			return Flow::End;
		}
		sent
	}

	/// A voucher has verified: the client is the channel's.
	fn trust(&mut self) {
		self.refusals = 0;
		if !self.trusted {
			self.trusted = true;
			self.budget.raise(MAX_MESSAGE);
		}
	}

	async fn handle(&mut self, message: ToValidator) -> Flow {
		let Some(channel) = self.channel else {
			return match message {
				ToValidator::Hello {
					version,
					genesis,
					channel,
				} => {
					if version != VERSION || genesis != self.lane.genesis {
						let words = "another version, or another chain";
						self.refuse(None, Refused::new(Refusal::Incompatible, words))
							.await;
						return Flow::End;
					}
					self.hello(channel).await
				}
				_ => self.malformed("nobody has said hello").await,
			};
		};
		let (of, number) = match &message {
			// Whoever asks again asks first what is free now.
			ToValidator::Hello {
				version: VERSION,
				genesis,
				channel: again,
			} if self.trusted && *genesis == self.lane.genesis && *again == channel => {
				return self.hello(channel).await;
			}
			ToValidator::Hello { .. } => return self.malformed("hello was said").await,
			ToValidator::Ask { ask, voucher: _ } => (ask.channel, ask.number),
			ToValidator::Pay(voucher) => (voucher.body.channel, voucher.body.number),
			ToValidator::Cancel { number } => (channel, *number),
			ToValidator::Check(check) => (check.ask.channel, check.ask.number),
			ToValidator::Release => return self.release(channel).await,
		};
		let done = if of == channel {
			self.act(message).await
		} else {
			Err(Refused::new(
				Refusal::Channel,
				"hello named another channel",
			))
		};
		match done {
			Ok(()) => Flow::On,
			Err(refused) => self.refuse(Some(number), refused).await,
		}
	}

	async fn act(&mut self, message: ToValidator) -> Result<(), Refused> {
		match message {
			ToValidator::Ask { ask, voucher } => {
				// It could not be waited for here: its writer may wait for what is sent here.
				if self
					.running
					.as_ref()
					.is_some_and(|r| !r.commands.is_closed())
				{
					let words = "an answer is being written for this connection";
					return Err(Refused::new(Refusal::Busy, words));
				}
				let (out, replay) = (&self.out, &self.replay);
				let running = executor::ask(&self.lane, ask, voucher, out, replay).await?;
				if running.is_some() {
					self.running = running;
				}
				self.trust();
			}
			ToValidator::Pay(voucher) => self.pay(voucher).await?,
			ToValidator::Cancel { number } => {
				if let Some(running) = self.running.as_ref().filter(|r| r.number == number) {
					// One that has ended needs no cancelling.
					let _ = running.commands.try_send(Command::Cancel);
				}
			}
			ToValidator::Check(check) => {
				checker::check(&self.lane, *check, &self.out).await?;
				self.trust();
			}
			ToValidator::Hello { .. } | ToValidator::Release => (),
		}
		Ok(())
	}

	async fn pay(&mut self, voucher: Payment) -> Result<(), Refused> {
		if voucher.body.service == Service::Check {
			checker::pay(&self.lane, &voucher).await?;
			self.trust();
			return Ok(());
		}
		let number = voucher.body.number;
		if let Some(running) = self.running.as_ref().filter(|r| r.number == number) {
			match running.commands.try_send(Command::Pay(Box::new(voucher))) {
				Ok(()) => return Ok(()),
				Err(mpsc::error::TrySendError::Full(_)) => {
					return Err(Refused::new(Refusal::Busy, "vouchers come too fast"));
				}
				Err(mpsc::error::TrySendError::Closed(Command::Pay(voucher))) => {
					// It has ended.
					self.running = None;
					return executor::pay(&self.lane, &voucher, &mut self.known).await;
				}
				Err(mpsc::error::TrySendError::Closed(Command::Cancel)) => return Ok(()),
			}
		}
		executor::pay(&self.lane, &voucher, &mut self.known).await?;
		self.trust();
		Ok(())
	}

	async fn hello(&mut self, channel: ChannelId) -> Flow {
		match self.offer(channel).await {
			Ok(offer) => {
				self.channel = Some(channel);
				self.send(&ToClient::Offer(offer)).await
			}
			Err(refused) => {
				self.refuse(None, refused).await;
				Flow::End
			}
		}
	}

	async fn release(&mut self, channel: ChannelId) -> Flow {
		match executor::release(&self.lane, channel).await {
			Ok(release) => self.send(&ToClient::Released(Box::new(release))).await,
			Err(refused) => self.refuse(None, refused).await,
		}
	}

	async fn offer(&self, channel: ChannelId) -> Result<Offer, Refused> {
		let session = self.lane.chain.session().await?;
		let (payee, _) = self.lane.signer(&session)?;
		executor::channel(&self.lane, channel).await?;
		let served = self.lane.served().await?;
		let models = served.iter().map(|(model, price)| OfferedModel {
			free: self.lane.engine.free(model),
			model: *model,
			price: *price,
		});
		Ok(Offer {
			payee,
			models: models.collect(),
			held_answer: executor::held(&self.lane, channel)?,
			held_check: self.lane.journal.checks(channel)?.held,
		})
	}
}
