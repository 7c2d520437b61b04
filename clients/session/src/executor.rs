//! Asking an executor: its stream, what is paid for it, and its receipt.

use codec::Compact;
use consilience_lane::message::{
	Balance, End, Frame, Payment, Question, SignedReceipt, ToClient, ToValidator,
};
use consilience_primitives::{
	model::Price,
	request::{FinishReason, Input, MAX_TEXT},
	session::{LaneKey, Service, Signable, Transcript, SLICE_TOKENS},
};
use polkadot_sdk::sp_core::H256;
use std::{sync::Arc, time::Duration};
use tokio::{
	sync::watch,
	time::{sleep, Instant},
};

use crate::{
	blocking,
	chain::{Chain, Lane},
	connection::{unexpected, Connection},
	error::{Error, Fault},
	record::{Flaw, Record},
	wallet::{Due, Wallet},
	Event, Events,
};

/// When what is not paid for is paid for: often enough that a stream never waits, and seldom enough that signatures cost nothing.
const PAY_FROM: u32 = SLICE_TOKENS / 2;

/// How long finality may be behind the executor's certificate, and how often it is looked for meanwhile.
const CERTIFIED: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How far an answer is, without its connection.
pub(crate) struct Reading {
	genesis: H256,
	question: Question,
	request: H256,
	key: LaneKey,
	price: Price<Balance>,
	max_tokens: u32,
	transcript: Transcript,
	tokens: Vec<Compact<u32>>,
	text: Vec<u8>,
	/// Bytes of the text that people have seen.
	shown: usize,
	/// Tokens that are paid for.
	paid: u32,
}

impl Reading {
	pub(crate) fn new(
		genesis: H256,
		question: Question,
		key: LaneKey,
		price: Price<Balance>,
	) -> Self {
		let request = question.hash(&genesis);
		let max_tokens = question.input.max_tokens();
		Self {
			genesis,
			request,
			key,
			price,
			max_tokens,
			transcript: Transcript::begin(&request),
			tokens: Vec::new(),
			text: Vec::new(),
			shown: 0,
			paid: 0,
			question,
		}
	}

	/// Takes part of the answer and returns what people may see of it.
	pub(crate) fn frame(&mut self, frame: &Frame) -> Result<String, Fault> {
		let progress = &frame.progress.body;
		let after = self.tokens.len().saturating_add(frame.tokens.len());
		if frame.tokens.is_empty() {
			return Err(Fault::Malformed("part of an answer without a token".into()));
		}
		if after > self.max_tokens as usize {
			return Err(Fault::TooMuch);
		}
		if after > (self.paid + SLICE_TOKENS) as usize {
			return Err(Fault::Unpaid);
		}
		let mut transcript = self.transcript;
		frame.tokens.iter().for_each(|t| transcript.push(t.0));
		if progress.channel != self.question.channel
			|| progress.number != self.question.number
			|| progress.request != self.request
			|| progress.transcript != transcript.hash
			|| progress.tokens != transcript.tokens
		{
			return Err(Fault::Transcript);
		}
		if !frame.progress.verify(&self.genesis, &self.key) {
			return Err(Fault::FrameSignature);
		}
		let text = self.show(&frame.text)?;
		self.transcript = transcript;
		self.tokens.extend(&frame.tokens);
		Ok(text)
	}

	/// Takes the end of the answer and returns the last of its text. The receipt is not looked at.
	fn end(&mut self, end: &End) -> Result<String, Fault> {
		let text = self.show(&end.text)?;
		if self.shown != self.text.len() {
			return Err(Fault::Text);
		}
		Ok(text)
	}

	/// Adds text, and returns what is whole of what was not shown.
	fn show(&mut self, more: &[u8]) -> Result<String, Fault> {
		if self.text.len() + more.len() > MAX_TEXT as usize {
			return Err(Fault::TooMuch);
		}
		let before = self.text.len();
		self.text.extend(more);
		let new = &self.text[self.shown..];
		let whole = match std::str::from_utf8(new) {
			Ok(text) => text,
			// The rest of the last character may still come.
			Err(e) if e.error_len().is_none() => {
				std::str::from_utf8(&new[..e.valid_up_to()]).unwrap_or_default()
			}
			Err(_) => {
				self.text.truncate(before);
				return Err(Fault::Text);
			}
		}
		.to_owned();
		self.shown += whole.len();
		Ok(whole)
	}

	/// Price of what is seen and not paid for.
	fn owed(&self) -> Balance {
		let unpaid = (self.tokens.len() as u32).saturating_sub(self.paid);
		self.price.per_output_unit.saturating_mul(unpaid.into())
	}

	/// Whether it is time to pay.
	fn is_due(&self) -> bool {
		self.tokens.len() as u32 >= self.paid + PAY_FROM && self.owed() > 0
	}
}

/// What asking takes.
#[derive(Clone)]
pub(crate) struct Asking<'a> {
	pub(crate) chain: &'a dyn Chain,
	pub(crate) wallet: &'a Arc<Wallet>,
	pub(crate) lane: &'a Lane,
	/// What the allotment admits.
	pub(crate) limit: Balance,
	/// Last session in which vouchers can be claimed.
	pub(crate) expires: u32,
	/// Session in which it is asked.
	pub(crate) session: u32,
	pub(crate) first: Duration,
	pub(crate) next: Duration,
	pub(crate) cancel: watch::Receiver<bool>,
}

/// An answer did not come to its end.
pub(crate) enum Stop {
	/// The executor's fault: another may do better.
	Fault(Fault),
	/// Nothing goes on.
	Error(Error),
}

impl<E: Into<Error>> From<E> for Stop {
	fn from(e: E) -> Self {
		Self::Error(e.into())
	}
}

impl Asking<'_> {
	/// Asks, shows and pays until the receipt is verified. What came is in the record, whatever comes of it.
	pub(crate) async fn run(
		mut self,
		connection: &mut Connection,
		voucher: Payment,
		record: &mut Record,
		events: &Events,
	) -> Result<(), Stop> {
		let mut reading = Reading::new(
			record.facts.genesis,
			record.ask.clone(),
			self.lane.key,
			record.facts.price,
		);
		let ask = ToValidator::Ask {
			ask: record.ask.clone(),
			voucher,
		};
		connection.send(&ask).await.map_err(Stop::Fault)?;
		let end = self.stream(connection, &mut reading, record, events).await;
		record.tokens = reading.tokens.clone();
		record.text = reading.text.clone();
		record.text.truncate(reading.shown);
		let (end, cancelled) = end?;
		record.finish = Some(end.finish);
		let from = self.session.min(self.lane.session);
		self.receipt(record, end.receipt, from).await?;
		// A constraint may leave nothing more to say; whether it does is for those to find who check.
		let held = matches!(record.ask.input, Input::ConstrainedText { .. });
		let short = !held && (record.tokens.len() as u32) < reading.max_tokens;
		if end.finish == FinishReason::Length && short && !cancelled {
			return Err(Stop::Fault(Fault::Short));
		}
		events.send(Event::Receipt(Box::new(
			record.receipt.clone().ok_or(Stop::Fault(Fault::Short))?,
		)));
		let owed = reading.owed();
		if owed > 0 {
			self.pay(connection, &reading, record, None, owed).await?;
		}
		Ok(())
	}

	/// Fetches and pays the rest of a former answer, whose connection broke: an executor lets only so much go unpaid. `held` is the last
	/// voucher for it that arrived. Returns what the next one counts on from.
	pub(crate) async fn resume(
		mut self,
		connection: &mut Connection,
		held: Payment,
		record: &mut Record,
	) -> Result<Balance, Stop> {
		let mut reading = Reading::new(
			record.facts.genesis,
			record.ask.clone(),
			self.lane.key,
			record.facts.price,
		);
		// All that was sent comes again, without waiting for payments.
		reading.paid = reading.max_tokens;
		let mut transcript = reading.transcript;
		let (number, acknowledged) = (record.ask.number, held.body.transcript);
		let from = held.body.amount;
		for message in [
			ToValidator::Ask {
				ask: record.ask.clone(),
				voucher: held,
			},
			ToValidator::Cancel { number },
		] {
			connection.send(&message).await.map_err(Stop::Fault)?;
		}
		let nowhere = Events::nowhere();
		let (end, _) = self
			.stream(connection, &mut reading, record, &nowhere)
			.await?;
		if !reading.tokens.starts_with(&record.tokens) {
			return Err(Stop::Fault(Fault::Transcript));
		}
		let mut paid = (transcript.hash == acknowledged).then_some(0);
		for token in &reading.tokens {
			transcript.push(token.0);
			if transcript.hash == acknowledged {
				paid = Some(transcript.tokens);
			}
		}
		reading.paid = paid.ok_or(Stop::Fault(Fault::Held))?;
		// What was signed and did not arrive is not paid.
		let inputs = record.ask.input.units();
		record.paid = record
			.facts
			.price
			.of(inputs, reading.paid)
			.ok_or(Error::Price)?;
		if reading.tokens.len() > (reading.paid + SLICE_TOKENS) as usize {
			return Err(Stop::Fault(Fault::Unpaid));
		}
		record.tokens = reading.tokens.clone();
		record.text = reading.text.clone();
		record.finish = Some(end.finish);
		self.receipt(record, end.receipt, 0).await?;
		let owed = reading.owed();
		if owed > 0 {
			self.pay(connection, &reading, record, Some(from), owed)
				.await?;
		}
		Ok(from.saturating_add(owed))
	}

	/// Shows and pays for what comes, up to the end of the answer. Returns that, and whether the client has cancelled.
	async fn stream(
		&mut self,
		connection: &mut Connection,
		reading: &mut Reading,
		record: &mut Record,
		events: &Events,
	) -> Result<(Box<End>, bool), Stop> {
		let number = record.ask.number;
		let mut cancelled = false;
		let mut fresh = false;
		loop {
			let patience = if reading.tokens.is_empty() {
				self.first
			} else {
				self.next
			};
			let message = tokio::select! {
				message = connection.receive(patience) => message.map_err(Stop::Fault)?,
				() = cancel(&mut self.cancel), if !cancelled => {
					cancelled = true;
					let message = ToValidator::Cancel { number };
					connection.send(&message).await.map_err(Stop::Fault)?;
					continue;
				}
			};
			match message {
				ToClient::Frame(frame) => {
					let mut text = reading.frame(&frame);
					// A new session has begun, and it has a new key.
					if text == Err(Fault::FrameSignature) && !fresh {
						fresh = true;
						let session = self.chain.session().await?.index;
						let payee = &record.ask.payee;
						if let Some(key) = self.chain.lane_keys(payee, session).await?.pop() {
							reading.key = key;
							text = reading.frame(&frame);
						}
					}
					let text = text.map_err(Stop::Fault)?;
					if !text.is_empty() {
						events.send(Event::Text(text));
					}
					if reading.is_due() {
						self.pay(connection, reading, record, None, reading.owed())
							.await?;
						reading.paid = reading.tokens.len() as u32;
					}
				}
				ToClient::End(end) => {
					let text = reading.end(&end).map_err(Stop::Fault)?;
					if !text.is_empty() {
						events.send(Event::Text(text));
					}
					return Ok((end, cancelled));
				}
				ToClient::Refused {
					number: of,
					why,
					words,
				} => {
					if of.is_none_or(|of| of == number) {
						return Err(Stop::Fault(Fault::Refused(why, words)));
					}
				}
				other => return Err(Stop::Fault(unexpected(&other))),
			}
		}
	}

	/// Pays for all that was seen so far.
	async fn pay(
		&self,
		connection: &mut Connection,
		reading: &Reading,
		record: &mut Record,
		from: Option<Balance>,
		amount: Balance,
	) -> Result<(), Stop> {
		let due = Due {
			payee: record.ask.payee.clone(),
			service: Service::Answer,
			number: record.ask.number,
			request: reading.request,
			transcript: reading.transcript.hash,
			from,
			amount,
			expires: self.expires,
			limit: self.limit,
		};
		let wallet = self.wallet.clone();
		let payment = blocking(move || wallet.pay(&due)).await?;
		record.paid = record.paid.saturating_add(amount);
		connection
			.send(&ToValidator::Pay(payment))
			.await
			.map_err(Stop::Fault)
	}

	/// Takes a receipt that is signed by a key of this time, from a session on, and fits what was sent, and writes it down.
	async fn receipt(
		&self,
		record: &mut Record,
		receipt: SignedReceipt,
		from: u32,
	) -> Result<(), Stop> {
		let session = receipt.body.session;
		// The executor may see a new session before it is final.
		let to = self.chain.session().await?.index.saturating_add(1);
		if !(from..=to).contains(&session) {
			return Err(Stop::Fault(Fault::ReceiptSession));
		}
		let payee = record.ask.payee.clone();
		let until = Instant::now() + CERTIFIED;
		let keys = loop {
			let keys = self.chain.lane_keys(&payee, session).await?;
			// Where a session has just begun, its key is certified in a block that is final in a moment.
			if !keys.is_empty() || Instant::now() >= until {
				break keys;
			}
			sleep(LOOK_AGAIN).await;
		};
		for key in keys {
			record.facts.certify(&payee, session, key);
		}
		record
			.verify_receipt(&record.facts, &receipt)
			.map_err(|flaw| {
				Stop::Fault(match flaw {
					Flaw::NoKey(..) | Flaw::ReceiptSignature => Fault::ReceiptSignature,
					Flaw::NoAnswer => Fault::Text,
					Flaw::Receipt(field) => Fault::Receipt(field.into()),
					_ => Fault::Receipt("content".into()),
				})
			})?;
		record.receipt = Some(receipt);
		let (wallet, written) = (self.wallet.clone(), record.clone());
		blocking(move || wallet.put(&written)).await?;
		Ok(())
	}
}

/// Waits until the client has seen enough.
pub(crate) async fn cancel(cancel: &mut watch::Receiver<bool>) {
	if cancel.wait_for(|cancelled| *cancelled).await.is_err() {
		// Nobody is left who could cancel.
		futures::future::pending::<()>().await;
	}
}
