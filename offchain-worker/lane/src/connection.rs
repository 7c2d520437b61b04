//! One client: its messages in, what it is told out.

use std::sync::Arc;

use codec::{DecodeAll, Encode};
use consilience_primitives::{
	session::{ChannelId, Service},
	ModelId,
};
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
	executor::{self, wait, Command, Known, Out, Running},
	journal::amount,
	limits::{Budget, Counted, Limited},
	line::{Invitation, Ticket},
	lock,
	message::{
		Offer, OfferedModel, Payment, Refusal, SignedWaiter, ToClient, ToValidator, MAX_MESSAGE,
		MAX_UNPAID, VERSION,
	},
	voucher::allotment,
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

/// Where a client stands that waits for a place.
enum Turn {
	/// It does not wait.
	None,
	/// It waits.
	Waits {
		model: ModelId,
		ticket: Ticket,
		/// When it is told next how many are before it.
		tell: Instant,
		/// When it has waited long enough.
		until: Instant,
	},
	/// A place is kept for it.
	Invited {
		model: ModelId,
		invitation: Invitation,
	},
}

impl Turn {
	/// When something is to be done.
	fn due(&self) -> Option<Instant> {
		match self {
			Self::None => None,
			Self::Waits { tell, until, .. } => Some(*tell.min(until)),
			Self::Invited { invitation, .. } => Some(invitation.until),
		}
	}

	/// Waits for the invitation; `None` where another connection waits in this one's place.
	async fn invited(&mut self) -> Option<Invitation> {
		match self {
			Self::Waits { ticket, .. } => ticket.invited().await,
			_ => std::future::pending().await,
		}
	}
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
	counted: Counted,
	turn: Turn,
	running: Option<Running>,
	known: Known,
	/// Taken while an answer is said again.
	replay: Arc<Semaphore>,
	refusals: u32,
	/// When something was last said, beside pings.
	said: Instant,
}

/// Serves a client until it goes, or has to.
pub(crate) async fn serve(lane: Arc<Shared>, tcp: TcpStream, counted: Counted) {
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
		counted,
		turn: Turn::None,
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
			let due = self.turn.due();
			let flow = tokio::select! {
				message = self.socket.next() => {
					(heard, pinged) = (Instant::now(), false);
					match message {
						Some(Ok(message)) => self.receive(message).await,
						_ => Flow::End,
					}
				}
				Some(message) = messages.recv() => self.send(&message).await,
				() = sleep_until(trusted), if !self.trusted && !self.waits() => Flow::End,
				invitation = self.turn.invited() => self.invite(invitation).await,
				() = wait(due) => self.turn_is_due().await,
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
		// Whoever waits behind does not wait for the rest.
		self.turn = Turn::None;
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
			&& !self.waits()
			&& !self.running.as_ref().is_some_and(writes)
			&& self.said.elapsed() >= self.lane.config.idle / 2
	}

	/// Whether it waits for a place, or one is kept for it.
	const fn waits(&self) -> bool {
		!matches!(self.turn, Turn::None)
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
			self.counted.know();
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
				self.turn = Turn::None;
				return self.hello(channel).await;
			}
			ToValidator::Hello { .. } => return self.malformed("hello was said").await,
			ToValidator::Ask { ask, voucher: _ } => (ask.channel, ask.number),
			ToValidator::Pay(voucher) => (voucher.body.channel, voucher.body.number),
			ToValidator::Cancel { number } => (channel, *number),
			ToValidator::Check(check) => (check.ask.channel, check.ask.number),
			ToValidator::Release => return self.release(channel).await,
			ToValidator::Wait(waiter) => return self.wait(channel, waiter).await,
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
				let mut invitation = self.invitation(&ask.model);
				let model = ask.model;
				let (out, replay) = (&self.out, &self.replay);
				let kept = &mut invitation;
				let running = executor::ask(&self.lane, ask, voucher, kept, out, replay).await;
				// What was asked again, or wrongly, leaves it the time that it has.
				if let Some(invitation) = invitation {
					self.turn = Turn::Invited { model, invitation };
				}
				let running = running?;
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
			ToValidator::Hello { .. } | ToValidator::Release | ToValidator::Wait(_) => (),
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

	/// Takes the invitation to a place for a model, if there is one.
	fn invitation(&mut self, model: &ModelId) -> Option<Invitation> {
		match std::mem::replace(&mut self.turn, Turn::None) {
			Turn::Invited {
				model: of,
				invitation,
			} if of == *model => Some(invitation),
			other => {
				self.turn = other;
				None
			}
		}
	}

	/// Stands in the line.
	async fn wait(&mut self, channel: ChannelId, waiter: &SignedWaiter) -> Flow {
		if self.waits() {
			return self.malformed("it waits already").await;
		}
		let model = waiter.body.model;
		let ticket = match self.join(channel, waiter).await {
			Ok(ticket) => ticket,
			Err(refused) => return self.refuse(None, refused).await,
		};
		self.refusals = 0;
		self.counted.know();
		let ahead = ticket.ahead();
		let now = Instant::now();
		self.turn = Turn::Waits {
			model,
			ticket,
			tell: now + self.lane.config.tell,
			until: now + self.lane.config.wait,
		};
		match ahead {
			Some(ahead) => self.send(&ToClient::Waiting { ahead }).await,
			// It is invited at once.
			None => Flow::On,
		}
	}

	/// Whether the channel's client may stand in the line, and its place there.
	async fn join(&self, channel: ChannelId, waiter: &SignedWaiter) -> Result<Ticket, Refused> {
		let refused = |words: &str| Err(Refused::new(Refusal::Channel, words));
		let lane = &self.lane;
		let session = lane.recent_session().await?;
		let (me, _) = lane.signer(&session)?;
		let (found, _) = executor::channel(lane, channel).await?;
		let body = &waiter.body;
		if body.channel != channel || body.payee != me {
			return refused("hello named another channel, or this is another validator");
		}
		if found.closes_at.is_some() {
			return refused("the channel is closing");
		}
		let Some(own) = allotment(&found, &me) else {
			return refused("the channel sets nothing apart for this validator");
		};
		let served = lane.served().await?;
		let Some((_, price)) = served.iter().find(|(model, _)| *model == body.model) else {
			let words = "the model is not served here";
			return Err(Refused::new(Refusal::Model, words));
		};
		let account = lane.journal.account(channel)?;
		let left = own
			.limit()
			.saturating_sub(amount(&account.held).max(own.claimed));
		if price.of(1, 1).is_none_or(|least| left < least) {
			return refused("the channel has nothing left for this validator: raise the allotment");
		}
		if !waiter.verify(&lane.genesis, &found.key) {
			return refused("it is not the channel's key that waits");
		}
		if lock(&lane.slot(channel).running).is_some() {
			let words = "an answer is being written for this channel";
			return Err(Refused::new(Refusal::Busy, words));
		}
		lane.line.join(channel, body.model)
	}

	/// A place is kept for the client, and it is told; or another connection waits in its place.
	async fn invite(&mut self, invitation: Option<Invitation>) -> Flow {
		let turn = std::mem::replace(&mut self.turn, Turn::None);
		let (Turn::Waits { model, .. }, Some(invitation)) = (turn, invitation) else {
			let words = "the channel waits over another connection";
			return self.refuse(None, Refused::new(Refusal::Busy, words)).await;
		};
		let Some(channel) = self.channel else {
			return Flow::End;
		};
		let mut offer = match self.offer(channel).await {
			Ok(offer) => offer,
			Err(refused) => return self.refuse(None, refused).await,
		};
		for offered in offer.models.iter_mut().filter(|m| m.model == model) {
			offered.free = offered.free.max(1);
		}
		let sent = self.send(&ToClient::Offer(offer)).await;
		self.turn = Turn::Invited { model, invitation };
		sent
	}

	/// The client is told how many are before it, or has waited long enough, or has not taken its place.
	async fn turn_is_due(&mut self) -> Flow {
		let now = Instant::now();
		match &mut self.turn {
			Turn::None => Flow::On,
			Turn::Waits {
				ticket,
				tell,
				until,
				..
			} if now < *until => {
				*tell = now + self.lane.config.tell;
				match ticket.ahead() {
					Some(ahead) => self.send(&ToClient::Waiting { ahead }).await,
					None => Flow::On,
				}
			}
			Turn::Waits { .. } => {
				self.turn = Turn::None;
				let words = "no place became free in time";
				self.refuse(None, Refused::new(Refusal::Busy, words)).await
			}
			Turn::Invited { .. } => {
				self.turn = Turn::None;
				Flow::On
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
		let session = self.lane.recent_session().await?;
		let (payee, _) = self.lane.signer(&session)?;
		executor::channel(&self.lane, channel).await?;
		let served = self.lane.served().await?;
		let models = served.iter().map(|(model, price)| OfferedModel {
			free: self.lane.line.free(model),
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
