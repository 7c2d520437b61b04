//! A client by script: it does what it is told, right or wrong.

use std::time::Duration;

use codec::{Compact, DecodeAll, Encode};
use consilience_primitives::{
	request::{FinishReason, Input, Output, Prompt, Sampling},
	session::{
		step, steps, Anchor, Ask, ChannelId, Receipt, Service, Signable, Signed, Transcript,
		Voucher, MAX_NUMBER,
	},
};
use futures::{SinkExt, StreamExt};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
	connect_async,
	tungstenite::{Bytes, Message},
	MaybeTlsStream, WebSocketStream,
};

use super::double::{account, genesis, model_id, pair, Node, World, CHANNEL, PRICE};
use crate::message::{
	AccountId, Balance, BlockNumber, CheckRequest, End, Frame, Offer, Payment, Question, Refusal,
	SignedReceipt, SignedVerdict, ToClient, ToValidator, VERSION,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What signs for a channel.
#[derive(Clone)]
pub(crate) struct Wallet {
	pub(crate) pair: sr25519::Pair,
	secret: H256,
	tip: H256,
}

impl Wallet {
	pub(crate) fn new(n: u8) -> Self {
		let secret = H256::repeat_byte(n);
		Self {
			pair: pair(n),
			// As in a channel of few numbers: hashes are slow here.
			tip: steps(&secret, NUMBERS),
			secret,
		}
	}

	pub(crate) fn tip(&self) -> H256 {
		self.tip
	}

	pub(crate) fn preimage(&self, number: u32) -> H256 {
		steps(&self.secret, NUMBERS - number)
	}

	pub(crate) fn sign<T: Signable>(&self, body: T) -> Signed<T> {
		Signed {
			signature: self.pair.sign(&body.payload(&genesis())),
			body,
		}
	}
}

/// Numbers of these channels.
pub(crate) const NUMBERS: u32 = 2_000;
const _: () = assert!(NUMBERS < MAX_NUMBER);

pub(crate) fn input(words: &str, max_tokens: u32) -> Input {
	Input::TextGeneration {
		prompt: Prompt::Text(words.as_bytes().to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens,
			..Default::default()
		},
	}
}

pub(crate) fn question(world: &World, number: u32, words: &str, max_tokens: u32) -> Question {
	Ask {
		channel: CHANNEL,
		number,
		payee: account(1),
		model: model_id(),
		input: input(words, max_tokens),
		anchor: world.heads().finalised,
		salt: H256::from_low_u64_be(number.into()),
	}
}

/// An answer as far as it was seen.
pub(crate) struct Reading {
	pub(crate) ask: Question,
	pub(crate) request: H256,
	pub(crate) base: Balance,
	pub(crate) transcript: Transcript,
	pub(crate) tokens: Vec<Compact<u32>>,
	pub(crate) text: Vec<u8>,
	pub(crate) paid: u32,
}

impl Reading {
	pub(crate) fn new(ask: Question, base: Balance) -> Self {
		let request = ask.hash(&genesis());
		Self {
			request,
			transcript: Transcript::begin(&request),
			tokens: Vec::new(),
			text: Vec::new(),
			paid: 0,
			base,
			ask,
		}
	}

	pub(crate) fn voucher(&self) -> Voucher<AccountId, Balance> {
		Voucher {
			channel: self.ask.channel,
			payee: self.ask.payee.clone(),
			service: Service::Answer,
			number: self.ask.number,
			request: self.request,
			transcript: self.transcript.hash,
			amount: self.base
				+ PRICE
					.of(self.ask.input.units(), self.transcript.tokens)
					.unwrap(),
			expires: 9,
		}
	}

	/// What all that was seen comes to.
	pub(crate) fn amount(&self) -> Balance {
		self.voucher().amount
	}

	pub(crate) fn take(&mut self, frame: &Frame) {
		assert!(!frame.tokens.is_empty());
		for token in &frame.tokens {
			self.transcript.push(token.0);
		}
		self.tokens.extend(&frame.tokens);
		self.text.extend(&frame.text);
		let progress = &frame.progress.body;
		assert_eq!(progress.transcript, self.transcript.hash);
		assert_eq!(progress.tokens, self.transcript.tokens);
		assert_eq!(progress.request, self.request);
		assert!(
			self.transcript.tokens <= self.paid + consilience_primitives::session::SLICE_TOKENS,
			"no slice unpaid"
		);
	}

	/// The whole, which has to be what the receipt says.
	pub(crate) fn end(&mut self, world: &World, end: &End) -> (SignedReceipt, Output) {
		self.text.extend(&end.text);
		let Receipt {
			transcript,
			output_units,
			amount,
			session,
			ref payee,
			..
		} = end.receipt.body;
		assert_eq!(
			transcript,
			Transcript::of(&self.request, &self.tokens, &self.text, end.finish)
		);
		assert_eq!(output_units as usize, self.tokens.len());
		assert_eq!(Some(amount), PRICE.of(self.ask.input.units(), output_units));
		let key = world.read(|s| s.keys[&(payee.clone(), session)]);
		assert!(end.receipt.verify(&genesis(), &key));
		let output = Output::Text {
			tokens: self.tokens.clone().try_into().unwrap(),
			text: self.text.clone().try_into().unwrap(),
			finish: end.finish,
		};
		(end.receipt.clone(), output)
	}
}

/// A connection.
pub(crate) struct Peer {
	pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
	pub(crate) wallet: Wallet,
}

impl Peer {
	pub(crate) async fn connect(node: &Node, wallet: &Wallet) -> Self {
		let address = format!("ws://{}", node.handle.address());
		let (socket, _) = connect_async(address).await.unwrap();
		Self {
			socket,
			wallet: wallet.clone(),
		}
	}

	/// Connects and says hello.
	pub(crate) async fn hello(node: &Node, wallet: &Wallet, channel: ChannelId) -> (Self, Offer) {
		let mut peer = Self::connect(node, wallet).await;
		peer.say(&ToValidator::Hello {
			version: VERSION,
			genesis: genesis(),
			channel,
		})
		.await;
		match peer.hear().await {
			Some(ToClient::Offer(offer)) => (peer, offer),
			other => panic!("an offer, not {other:?}"),
		}
	}

	pub(crate) async fn say(&mut self, message: &ToValidator) {
		self.raw(message.encode()).await;
	}

	pub(crate) async fn raw(&mut self, bytes: Vec<u8>) {
		// The other side may have gone.
		let _ = self.socket.send(Message::Binary(Bytes::from(bytes))).await;
	}

	/// The next message; `None` at the end.
	pub(crate) async fn hear(&mut self) -> Option<ToClient> {
		loop {
			match timeout(PATIENCE, self.socket.next())
				.await
				.expect("it says something")
			{
				Some(Ok(Message::Binary(bytes))) => {
					return Some(ToClient::decode_all(&mut &bytes[..]).unwrap())
				}
				Some(Ok(Message::Ping(_) | Message::Pong(_))) => (),
				Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
				Some(Ok(other)) => panic!("{other:?}"),
			}
		}
	}

	pub(crate) async fn refused(&mut self) -> (Option<u32>, Refusal) {
		match self.hear().await {
			Some(ToClient::Refused { number, why, .. }) => (number, why),
			other => panic!("a refusal, not {other:?}"),
		}
	}

	pub(crate) async fn ask(&mut self, ask: Question, base: Balance) -> Reading {
		let reading = Reading::new(ask.clone(), base);
		let voucher = self.wallet.sign(reading.voucher());
		self.say(&ToValidator::Ask { ask, voucher }).await;
		reading
	}

	pub(crate) fn payment(&self, reading: &Reading) -> Payment {
		self.wallet.sign(reading.voucher())
	}

	pub(crate) async fn pay(&mut self, reading: &mut Reading) {
		let payment = self.payment(reading);
		reading.paid = reading.transcript.tokens;
		self.say(&ToValidator::Pay(payment)).await;
	}

	/// Reads and pays to the end.
	pub(crate) async fn read(&mut self, world: &World, reading: &mut Reading) -> Heard {
		loop {
			match self.hear().await {
				Some(ToClient::Frame(frame)) => {
					reading.take(&frame);
					self.pay(reading).await;
				}
				Some(ToClient::End(end)) => {
					let finish = end.finish;
					let (receipt, output) = reading.end(world, &end);
					return Heard {
						receipt,
						output,
						finish,
					};
				}
				other => panic!("an answer, not {other:?}"),
			}
		}
	}

	/// Says goodbye; what was sent is done then.
	pub(crate) async fn goodbye(mut self) {
		self.socket.close(None).await.unwrap();
		while self.socket.next().await.is_some_and(|m| m.is_ok()) {}
	}

	pub(crate) async fn check(&mut self, check: CheckRequest) -> Option<ToClient> {
		self.say(&ToValidator::Check(Box::new(check))).await;
		self.hear().await
	}

	pub(crate) async fn verdict(&mut self, check: CheckRequest) -> SignedVerdict {
		match self.check(check).await {
			Some(ToClient::Verdict(verdict)) => *verdict,
			other => panic!("a verdict, not {other:?}"),
		}
	}
}

/// An answer with its receipt.
#[derive(Clone)]
pub(crate) struct Heard {
	pub(crate) receipt: SignedReceipt,
	pub(crate) output: Output,
	pub(crate) finish: FinishReason,
}

impl Heard {
	pub(crate) fn check(&self, wallet: &Wallet, ask: &Question) -> CheckRequest {
		CheckRequest {
			receipt: self.receipt.clone(),
			ask: ask.clone(),
			output: self.output.clone(),
			preimage: wallet.preimage(ask.number),
		}
	}
}

pub(crate) fn old_anchor(world: &World, age: u32) -> Anchor<BlockNumber> {
	let number = world.heads().finalised.number - age;
	Anchor {
		number,
		hash: super::double::block(number),
	}
}

#[test]
fn a_preimage_leads_to_the_tip() {
	let wallet = Wallet::new(1);
	assert_eq!(step(&wallet.preimage(1)), wallet.tip());
}
