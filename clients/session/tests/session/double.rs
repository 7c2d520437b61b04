//! A chain of a few validators, each with an endpoint that answers and checks: honestly, or with one lie.

use std::{
	collections::HashMap,
	sync::{
		atomic::{AtomicU32, Ordering},
		Arc, Mutex,
	},
	time::Duration,
};

use async_trait::async_trait;
use codec::{Compact, DecodeAll, Encode};
use consilience_lane::message::{
	AccountId, Balance, BlockNumber, CheckRequest, End, Frame, Offer, OfferedModel, Payment,
	Progress, Question, Refusal, SignedWaiter, ToClient, ToValidator,
};
use consilience_primitives::{
	evidence::{self, Evidence, Fingerprint},
	model::{Bounds, Limits, ModelSpec, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	request::{FinishReason, Input, Output, Prompt, Sampling},
	session::{
		candidates, Allocation, Allotment, Anchor, ChannelId, LaneKey, Receipt, Service, Signable,
		Signed, Transcript, Verdict, SLICE_TOKENS,
	},
	List, ModelId,
};
use consilience_session::{
	chain::{Chain, ChainError, Channel, Lane, Model, Session},
	Answer, AskOptions, Client, Error, Event, Settings, Wallet, WalletError,
};
use futures::{SinkExt, StreamExt};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use tokio::{
	net::{TcpListener, TcpStream},
	sync::{watch, Notify},
};
use tokio_tungstenite::{accept_async, tungstenite::Message, WebSocketStream};

pub(crate) const GENESIS: H256 = H256::repeat_byte(1);
pub(crate) const MODEL: ModelId = H256::repeat_byte(2);
pub(crate) const CHANNEL: ChannelId = 7;
pub(crate) const SEED: H256 = H256::repeat_byte(3);
pub(crate) const PRICE: Price<Balance> = Price {
	per_request: 100,
	per_input_unit: 2,
	per_output_unit: 5,
};
pub(crate) const CHECK: Balance = 40;
pub(crate) const SESSION: u32 = 9;
/// Tokens of an honest answer, unless fewer are asked for.
pub(crate) const TOKENS: u32 = 80;

/// What a validator does that it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
	/// Everything as it should be.
	None,
	// To who connects.
	OtherValidator,
	OtherModel,
	ForgedVoucher,
	/// Shows no voucher, whatever it holds.
	Forgetful,
	/// Goes away when it has answered or checked.
	Leave,
	// To who asks.
	Refuse(Refusal),
	/// Others were before: it has no place, and is honest from then on.
	BusyOnce,
	FrameKey,
	Transcript,
	NotText,
	/// Goes away after so many tokens, and takes no payment for them.
	Vanish(u32),
	/// Ends after so many tokens as if more had not been asked for.
	Short(u32),
	/// Sends on without being paid.
	Flood,
	/// Sends more tokens than were asked for.
	TooMuch,
	NoEnd,
	MoreUnits,
	MoreMoney,
	ReceiptKey,
	ReceiptSession,
	ReceiptTranscript,
	ReceiptText,
	// To who has something checked.
	/// Says that it waits, with fewer before it each time, and then measures.
	Queues,
	/// Says that it waits, and nothing else.
	Stalls,
	CheckKey,
	CheckOther,
	CheckClass,
	Silent,
	Wrong,
	Unclear,
}

/// What a validator that follows a script does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
	/// Sends so many tokens, with this wrong.
	Frame(u8, Wrong),
	/// Waits for a payment, if one comes soon.
	Payment,
	/// Ends the answer, with this wrong.
	End(Wrong),
	Refuse,
	/// Sends bytes that are no message.
	Garbage,
	/// Sends a message that does not belong there.
	Offer,
	Close,
}

/// What is wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
	Nothing,
	Signature,
	Hash,
	Count,
	Number,
	Text,
}

/// What a validator saw.
#[derive(Default)]
pub(crate) struct Seen {
	/// All vouchers, in their order.
	pub(crate) vouchers: Vec<Payment>,
	/// All questions.
	pub(crate) questions: Vec<Question>,
	/// What an honest client does not do.
	pub(crate) complaints: Vec<String>,
	pub(crate) cancelled: Vec<u32>,
	/// Numbers of questions that were asked again.
	pub(crate) again: Vec<u32>,
	/// Connections, and greetings over all of them.
	pub(crate) connections: u32,
	pub(crate) greetings: u32,
	/// Connections that the client has said goodbye over.
	pub(crate) goodbyes: u32,
}

pub(crate) struct Validator {
	pub(crate) account: AccountId,
	pair: sr25519::Pair,
	pub(crate) lie: Mutex<Lie>,
	pub(crate) free: watch::Sender<u32>,
	/// Clients that wait for a place.
	pub(crate) line: watch::Sender<u32>,
	/// It has said what it offers.
	pub(crate) offered: Notify,
	pub(crate) seen: Mutex<Seen>,
	/// By service: what it shows as what it holds.
	pub(crate) held: Mutex<HashMap<u8, Payment>>,
	/// Answers wait at this token until told, if there is one.
	pub(crate) pause: Mutex<Option<u32>>,
	pub(crate) go: Notify,
	/// Told at every token that waits.
	pub(crate) waiting: Notify,
	endpoint: String,
	checkers: Arc<Checkers>,
	/// What it does with the next question, whatever the client does.
	pub(crate) script: Mutex<Option<Vec<Step>>>,
	/// What a client may acknowledge of that, by the question's number: transcripts of what was sent before anything was wrong, by the number
	/// of tokens.
	pub(crate) states: Mutex<HashMap<u32, Vec<H256>>>,
}

/// What checkers do, by their place in the draw.
pub(crate) struct Checkers {
	accounts: Vec<AccountId>,
	pub(crate) lies: Mutex<Vec<Lie>>,
}

pub(crate) struct World {
	pub(crate) validators: Vec<Arc<Validator>>,
	pub(crate) checkers: Arc<Checkers>,
	pub(crate) channel: Mutex<Option<Channel>>,
	pub(crate) session: Mutex<u32>,
	/// How often it was asked who answers.
	looks: AtomicU32,
	pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn policy() -> VerificationPolicy {
	let bounds = |margin| Bounds {
		mean: 10,
		max: 10,
		margin_max: margin,
		margin_mean: margin,
	};
	VerificationPolicy {
		class: NumericClass::Tolerant,
		positions: 4,
		entries: 4,
		fraction_bits: 8,
		accept: bounds(10),
		fraud: bounds(100),
		min_verifiers: 1,
		min_sampling: 1_000,
	}
}

pub(crate) fn evidence(margin: u32) -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Values {
			tag: 0,
			values: List::new(),
		},
		verdict: evidence::Verdict {
			margin_max: margin,
			margin_mean: margin,
			deviations: 0,
		},
		prior: None,
	}
}

pub(crate) fn spec() -> ModelSpec {
	ModelSpec {
		name: b"double".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		size: 1,
		chat: true,
		limits: Limits {
			max_input_units: 1_000,
			max_output_units: 1_000,
		},
		time: TimeLimit {
			base_blocks: 1,
			output_units_per_block: 1,
		},
		policy: policy(),
		signature: List::new(),
		sampling: Default::default(),
		reference: evidence(0),
	}
}

/// A question for an answer of at most so many tokens.
pub(crate) fn input(max_tokens: u32) -> Input {
	Input::TextGeneration {
		prompt: Prompt::Text(b"Say something".to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens,
			..Default::default()
		},
	}
}

/// Token number `i` of an answer, and what it says: characters of two bytes, one byte a token.
pub(crate) fn token(i: u32) -> (u32, u8) {
	(1_000 + i, "é".as_bytes()[i as usize % 2])
}

/// What so many tokens say.
pub(crate) fn said(tokens: u32) -> String {
	"é".repeat(tokens as usize / 2)
}

impl World {
	/// A chain with one validator for each lie; the channel pays each of the first `executors` so much, and checkers as much.
	pub(crate) async fn new(lies: &[Lie], executors: usize, amount: Balance) -> Arc<Self> {
		let account = |i: usize| AccountId::new([i as u8 + 1; 32]);
		let checkers = Arc::new(Checkers {
			accounts: (0..lies.len()).map(account).collect(),
			lies: Mutex::default(),
		});
		let mut validators = Vec::new();
		for (i, lie) in lies.iter().enumerate() {
			let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
			let validator = Arc::new(Validator {
				account: account(i),
				checkers: checkers.clone(),
				script: Mutex::default(),
				states: Mutex::default(),
				pair: sr25519::Pair::from_seed(&[i as u8 + 1; 32]),
				lie: Mutex::new(*lie),
				// The first one is asked first.
				free: watch::Sender::new(100 - i as u32),
				line: watch::Sender::new(0),
				offered: Notify::new(),
				seen: Mutex::default(),
				held: Mutex::default(),
				pause: Mutex::default(),
				go: Notify::new(),
				waiting: Notify::new(),
				endpoint: format!("ws://{}", listener.local_addr().unwrap()),
			});
			let own = validator.clone();
			tokio::spawn(async move {
				while let Ok((socket, _)) = listener.accept().await {
					let own = own.clone();
					tokio::spawn(async move { own.serve(socket).await });
				}
			});
			validators.push(validator);
		}
		let folder = tempfile::tempdir().unwrap();
		let wallet = Wallet::create(folder.path()).unwrap();
		wallet.bind(GENESIS, CHANNEL).unwrap();
		let allotment = Allotment {
			amount,
			claimed: 0,
			lowering: None,
		};
		let channel = Channel {
			id: CHANNEL,
			owner: AccountId::new([200; 32]),
			key: wallet.key(),
			chain: wallet.tip(),
			seed: Some(SEED),
			closes_at: None,
			pot: allotment,
			allocations: validators[..executors]
				.iter()
				.map(|v| Allocation {
					payee: v.account.clone(),
					allotment,
					releases: 0,
				})
				.collect(),
			pending: 0,
		};
		Arc::new(Self {
			validators,
			checkers,
			channel: Mutex::new(Some(channel)),
			session: Mutex::new(SESSION),
			looks: AtomicU32::default(),
			folder,
		})
	}

	/// A client that soon gives up whoever is silent.
	pub(crate) async fn client(self: &Arc<Self>) -> Client {
		self.client_with(Duration::from_secs(2), Duration::from_secs(60))
			.await
	}

	/// A client that waits for nothing.
	pub(crate) async fn hasty_client(self: &Arc<Self>) -> Client {
		let moment = Duration::from_millis(300);
		self.client_with(moment, moment).await
	}

	pub(crate) fn looks(&self) -> u32 {
		self.looks.load(Ordering::SeqCst)
	}

	/// A client that waits for whoever is held up on purpose, however busy the machine is.
	pub(crate) async fn patient_client(self: &Arc<Self>) -> Client {
		let long = Duration::from_secs(60);
		self.client_with(long, long).await
	}

	async fn client_with(self: &Arc<Self>, patience: Duration, place: Duration) -> Client {
		// A client that is dropped has its wallet for a moment more, where a question of its has just ended.
		let opened = async {
			loop {
				match Wallet::open(self.folder.path()) {
					Err(WalletError::InUse(_)) => tokio::task::yield_now().await,
					opened => return opened,
				}
			}
		};
		let opened = tokio::time::timeout(Duration::from_secs(10), opened).await;
		let wallet = Arc::new(opened.expect("the last client is gone").unwrap());
		let settings = Settings {
			connect: Duration::from_secs(5),
			first: patience,
			next: patience,
			verdict: patience,
			place,
			attempts: 3,
		};
		Client::open(self.clone(), wallet, settings).await.unwrap()
	}

	pub(crate) fn account(&self, i: usize) -> AccountId {
		self.validators[i].account.clone()
	}

	/// Who checks request `number` that the first validator answered, in order.
	pub(crate) fn order(&self, wallet: &Wallet, number: u32) -> Vec<usize> {
		let preimage = wallet.preimage(number).unwrap();
		let others = self.validators[1..].iter().map(|v| v.account.clone());
		candidates(&SEED, &preimage, others)
			.iter()
			.map(|who| {
				self.validators
					.iter()
					.position(|v| v.account == *who)
					.unwrap()
			})
			.collect()
	}

	/// Lets the validators say what was not as it should be.
	pub(crate) fn assert_no_complaints(&self) {
		for validator in &self.validators {
			assert_eq!(
				validator.seen.lock().unwrap().complaints,
				Vec::<String>::new(),
				"{}",
				validator.account
			);
		}
	}
}

pub(crate) fn ask(client: &Client, checks: u32) -> Answer {
	let options = AskOptions {
		checks,
		executor: None,
	};
	client.ask(MODEL, input(TOKENS), options)
}

/// All events up to the end.
pub(crate) async fn all(answer: Answer) -> (Vec<Event>, Option<Error>) {
	let mut events = Vec::new();
	let mut answer = std::pin::pin!(answer);
	while let Some(event) = answer.next().await {
		match event {
			Ok(event) => events.push(event),
			Err(e) => return (events, Some(e)),
		}
	}
	(events, None)
}

/// The text since an executor was last asked.
pub(crate) fn text(events: &[Event]) -> String {
	let begin = events
		.iter()
		.rposition(|e| matches!(e, Event::Started { .. }));
	events[begin.unwrap_or(0)..]
		.iter()
		.filter_map(|e| match e {
			Event::Text(text) => Some(text.as_str()),
			_ => None,
		})
		.collect()
}

#[async_trait]
impl Chain for World {
	async fn genesis(&self) -> Result<H256, ChainError> {
		Ok(GENESIS)
	}

	async fn finalised(&self) -> Result<Anchor<BlockNumber>, ChainError> {
		Ok(Anchor {
			number: 50,
			hash: H256::repeat_byte(50),
		})
	}

	async fn session(&self) -> Result<Session, ChainError> {
		let index = *self.session.lock().unwrap();
		Ok(Session {
			index,
			expires: index + 6,
		})
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		let channel = self.channel.lock().unwrap().clone();
		Ok(channel.filter(|c| c.id == id))
	}

	async fn model(
		&self,
		id: &ModelId,
		_: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError> {
		Ok((*id == MODEL).then(|| Model {
			spec: spec(),
			price: PRICE,
			check: Price {
				per_request: CHECK,
				..Default::default()
			},
			serving: self.validators.iter().map(|v| v.account.clone()).collect(),
		}))
	}

	async fn lanes(&self, _: &ModelId) -> Result<Vec<Lane>, ChainError> {
		self.looks.fetch_add(1, Ordering::SeqCst);
		let session = *self.session.lock().unwrap();
		Ok(self
			.validators
			.iter()
			.map(|v| Lane {
				validator: v.account.clone(),
				session,
				key: v.pair.public(),
				endpoint: v.endpoint.clone().into_bytes().try_into().unwrap(),
			})
			.collect())
	}

	async fn lane_keys(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Vec<LaneKey>, ChainError> {
		let now = *self.session.lock().unwrap();
		let all = self.validators.iter();
		let known = all.filter(|v| v.account == *validator && session <= now);
		Ok(known.map(|v| v.pair.public()).collect())
	}
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

pub(crate) async fn send(socket: &mut Socket, message: &ToClient) -> Option<()> {
	let message = Message::Binary(message.encode().into());
	socket.send(message).await.ok()
}

pub(crate) async fn receive(socket: &mut Socket) -> Option<ToValidator> {
	loop {
		match socket.next().await?.ok()? {
			Message::Binary(bytes) => return ToValidator::decode_all(&mut &bytes[..]).ok(),
			Message::Close(_) => return None,
			_ => {}
		}
	}
}

impl Validator {
	fn complain(&self, what: String) {
		self.seen.lock().unwrap().complaints.push(what);
	}

	fn sign<T: Signable>(&self, body: T, right: bool) -> Signed<T> {
		let other = sr25519::Pair::from_seed(&[99; 32]);
		let pair = if right { &self.pair } else { &other };
		Signed {
			signature: pair.sign(&body.payload(&GENESIS)),
			body,
		}
	}

	pub(crate) fn lies(&self) -> Lie {
		*self.lie.lock().unwrap()
	}

	fn base(&self, service: Service) -> Balance {
		let held = self.held.lock().unwrap();
		held.get(&(service as u8)).map_or(0, |p| p.body.amount)
	}

	/// Takes a voucher if it is over exactly so much.
	fn take(&self, payment: &Payment, amount: Balance) -> bool {
		self.seen.lock().unwrap().vouchers.push(payment.clone());
		let mut held = self.held.lock().unwrap();
		let fits = payment.body.amount == amount && payment.body.payee == self.account;
		if fits {
			held.insert(payment.body.service as u8, payment.clone());
		}
		fits
	}

	/// What it says to a greeting.
	pub(crate) fn offer(&self) -> Offer {
		let lie = self.lies();
		let held = self.held.lock().unwrap();
		let mut held_answer = held.get(&(Service::Answer as u8)).cloned();
		match lie {
			Lie::Forgetful => held_answer = None,
			Lie::ForgedVoucher => {
				held_answer = held_answer.map(|mut held| {
					held.body.amount += 1;
					held
				});
			}
			_ => {}
		}
		Offer {
			payee: if lie == Lie::OtherValidator {
				AccountId::new([77; 32])
			} else {
				self.account.clone()
			},
			models: vec![OfferedModel {
				model: if lie == Lie::OtherModel {
					H256::zero()
				} else {
					MODEL
				},
				price: PRICE,
				free: *self.free.borrow(),
			}],
			held_answer,
			held_check: held.get(&(Service::Check as u8)).cloned(),
		}
	}

	async fn serve(&self, socket: TcpStream) -> Option<()> {
		let mut socket = accept_async(socket).await.ok()?;
		self.seen.lock().unwrap().connections += 1;
		let hello = receive(&mut socket).await?;
		self.greet(&mut socket, hello).await?;
		self.talk(&mut socket).await;
		self.seen.lock().unwrap().goodbyes += 1;
		Some(())
	}

	async fn greet(&self, socket: &mut Socket, hello: ToValidator) -> Option<()> {
		if !matches!(hello, ToValidator::Hello { .. }) {
			self.complain(format!("no greeting: {hello:?}"));
		}
		self.seen.lock().unwrap().greetings += 1;
		send(socket, &ToClient::Offer(self.offer())).await?;
		self.offered.notify_one();
		Some(())
	}

	async fn talk(&self, socket: &mut Socket) -> Option<()> {
		loop {
			match receive(socket).await? {
				hello @ ToValidator::Hello { .. } => self.greet(socket, hello).await?,
				ToValidator::Ask { ask, voucher } => {
					self.answer(socket, ask, voucher).await?;
				}
				ToValidator::Wait(waiter) => self.line(socket, &waiter).await?,
				ToValidator::Check(request) => self.check(socket, *request).await?,
				// Sent before the end had arrived.
				ToValidator::Cancel { .. } => {}
				other => self.complain(format!("out of place: {other:?}")),
			}
			if self.lies() == Lie::Leave {
				return None;
			}
		}
	}

	/// Keeps a place for whoever waits, once there is one.
	async fn line(&self, socket: &mut Socket, waiter: &SignedWaiter) -> Option<()> {
		let body = &waiter.body;
		if (body.channel, &body.payee, body.model) != (CHANNEL, &self.account, MODEL) {
			self.complain(format!("who waits? {body:?}"));
		}
		if let Lie::Refuse(why) = self.lies() {
			let words = "no".into();
			let number = None;
			return send(socket, &ToClient::Refused { number, why, words }).await;
		}
		let mut free = self.free.subscribe();
		if *free.borrow() == 0 {
			send(socket, &ToClient::Waiting { ahead: 2 }).await?;
			send(socket, &ToClient::Waiting { ahead: 1 }).await?;
			self.line.send_modify(|count| *count += 1);
			let invited = tokio::select! {
				free = free.wait_for(|free| *free > 0) => free.is_ok(),
				_ = receive(socket) => false,
			};
			self.line.send_modify(|count| *count -= 1);
			if !invited {
				return None;
			}
		}
		send(socket, &ToClient::Offer(self.offer())).await
	}

	async fn refuse(&self, socket: &mut Socket, number: u32, why: Refusal) -> Option<()> {
		let refused = ToClient::Refused {
			number: Some(number),
			why,
			words: "no".into(),
		};
		send(socket, &refused).await
	}

	/// Follows its script, and then reads what comes.
	async fn follow(
		&self,
		socket: &mut Socket,
		ask: Question,
		voucher: Payment,
		steps: Vec<Step>,
	) -> Option<()> {
		let request = ask.hash(&GENESIS);
		let mut transcript = Transcript::begin(&request);
		let (mut tokens, mut text, mut right) = (Vec::<Compact<u32>>::new(), Vec::new(), true);
		let seen = |payment| self.seen.lock().unwrap().vouchers.push(payment);
		let state = |place: usize, hash| {
			let mut states = self.states.lock().unwrap();
			let known = states.entry(ask.number).or_default();
			if known.len() == place {
				known.push(hash);
			}
		};
		state(0, transcript.hash);
		seen(voucher);
		for step in steps {
			match step {
				Step::Frame(count, wrong) => {
					right &= wrong == Wrong::Nothing && count > 0;
					let (mut more, mut says) = (Vec::new(), Vec::new());
					for i in tokens.len()..tokens.len() + usize::from(count) {
						let (token, byte) = token(i as u32);
						more.push(Compact(token));
						says.push(if wrong == Wrong::Text { 0xff } else { byte });
						transcript.push(token);
						if right {
							state(i + 1, transcript.hash);
						}
					}
					tokens.extend(&more);
					text.extend(&says);
					let progress = Progress {
						channel: ask.channel,
						number: ask.number + u32::from(wrong == Wrong::Number),
						request,
						transcript: if wrong == Wrong::Hash {
							request
						} else {
							transcript.hash
						},
						tokens: transcript.tokens + u32::from(wrong == Wrong::Count),
					};
					let frame = Frame {
						tokens: more,
						text: says,
						progress: self.sign(progress, wrong != Wrong::Signature),
					};
					send(socket, &ToClient::Frame(frame)).await?;
				}
				Step::Payment => {
					let soon = Duration::from_millis(30);
					match tokio::time::timeout(soon, receive(socket)).await {
						Ok(Some(ToValidator::Pay(payment))) => seen(payment),
						Ok(None) => return None,
						_ => {}
					}
				}
				Step::End(wrong) => {
					let (inputs, outputs) = (ask.input.units(), tokens.len() as u32);
					let finish = FinishReason::EndOfText;
					let mut receipt = Receipt {
						channel: ask.channel,
						payee: self.account.clone(),
						number: ask.number + u32::from(wrong == Wrong::Number),
						session: SESSION,
						request,
						transcript: transcript.end(&text, finish),
						input_units: inputs,
						output_units: outputs + u32::from(wrong == Wrong::Count),
						amount: PRICE.of(inputs, outputs).unwrap(),
						anchor: ask.anchor,
					};
					if wrong == Wrong::Hash {
						receipt.transcript = request;
					}
					let end = End {
						text: if wrong == Wrong::Text {
							vec![0xff]
						} else {
							Vec::new()
						},
						finish,
						receipt: self.sign(receipt, wrong != Wrong::Signature),
					};
					send(socket, &ToClient::End(Box::new(end))).await?;
				}
				Step::Refuse => self.refuse(socket, ask.number, Refusal::Failed).await?,
				Step::Garbage => socket.send(Message::Binary(vec![9, 9].into())).await.ok()?,
				Step::Offer => send(socket, &ToClient::Offer(self.offer())).await?,
				Step::Close => return None,
			}
		}
		loop {
			match receive(socket).await? {
				ToValidator::Pay(payment) => seen(payment),
				ToValidator::Ask { ask, voucher } => {
					return Box::pin(self.answer(socket, ask, voucher)).await;
				}
				_ => {}
			}
		}
	}

	async fn answer(&self, socket: &mut Socket, ask: Question, voucher: Payment) -> Option<()> {
		let script = self.script.lock().unwrap().clone();
		if let Some(steps) = script {
			return self.follow(socket, ask, voucher, steps).await;
		}
		let lie = self.lies();
		let request = ask.hash(&GENESIS);
		let units = ask.input.units();
		let Input::TextGeneration { sampling, .. } = &ask.input else {
			return None;
		};
		let max = sampling.max_tokens;
		let base = self.base(Service::Answer);
		let due = |tokens: u32| base + PRICE.of(units, tokens).unwrap();
		let mut transcript = Transcript::begin(&request);
		// Others say again what they said; this one does not.
		if self.seen.lock().unwrap().questions.contains(&ask) {
			self.seen.lock().unwrap().again.push(ask.number);
			return self.refuse(socket, ask.number, Refusal::Number).await;
		}
		{
			let mut seen = self.seen.lock().unwrap();
			if seen.questions.iter().any(|q| q.number >= ask.number) {
				let complaint = format!("number {} again", ask.number);
				seen.complaints.push(complaint);
			}
			seen.questions.push(ask.clone());
		}
		if lie == Lie::BusyOnce {
			*self.lie.lock().unwrap() = Lie::None;
			self.free.send_replace(0);
		}
		let refused = match lie {
			Lie::Refuse(why) => Some(why),
			Lie::BusyOnce => Some(Refusal::Busy),
			_ => None,
		};
		if let Some(why) = refused {
			self.seen.lock().unwrap().vouchers.push(voucher);
			return self.refuse(socket, ask.number, why).await;
		}
		if voucher.body.transcript != transcript.hash || !self.take(&voucher, due(0)) {
			if lie != Lie::Forgetful {
				self.complain(format!("prompt {} is not {}", voucher.body.amount, due(0)));
			}
			return self.refuse(socket, ask.number, Refusal::Voucher).await;
		}
		// What a voucher may acknowledge, by the number of tokens.
		let mut states = vec![transcript.hash];
		let (mut tokens, mut text) = (Vec::new(), Vec::new());
		let (mut paid, mut cancelled) = (0, false);
		let end = if lie == Lie::TooMuch { max + 1 } else { max };
		let pay = |payment: Payment, states: &[H256], paid: &mut u32| {
			let known = states.iter().position(|s| *s == payment.body.transcript);
			match known {
				Some(known) if self.take(&payment, due(known as u32)) => *paid = known as u32,
				_ => self.complain(format!("payment {payment:?}")),
			}
		};
		while (tokens.len() as u32) < end && !cancelled {
			let at = tokens.len() as u32;
			if *self.pause.lock().unwrap() == Some(at) {
				self.waiting.notify_one();
				tokio::select! {
					() = self.go.notified() => {}
					message = receive(socket) => match message? {
						ToValidator::Cancel { number } => {
							self.seen.lock().unwrap().cancelled.push(number);
							cancelled = true;
							continue;
						}
						ToValidator::Pay(payment) => {
							pay(payment, &states, &mut paid);
							continue;
						}
						_ => return None,
					}
				}
			}
			match lie {
				Lie::Vanish(n) if at >= n => return None,
				Lie::Short(n) if at >= n => break,
				_ => {}
			}
			let count = 3.min(end - at);
			while at + count > paid + SLICE_TOKENS && lie != Lie::Flood {
				match receive(socket).await? {
					ToValidator::Pay(payment) => pay(payment, &states, &mut paid),
					ToValidator::Cancel { number } => {
						self.seen.lock().unwrap().cancelled.push(number);
						cancelled = true;
						break;
					}
					_ => return None,
				}
			}
			if cancelled {
				break;
			}
			let mut frame = Vec::new();
			for i in at..at + count {
				let (token, mut byte) = token(i);
				if lie == Lie::NotText && i == 40 {
					byte = 0xff;
				}
				tokens.push(Compact(token));
				frame.push(byte);
				transcript.push(token);
				states.push(transcript.hash);
			}
			text.extend(&frame);
			let wrong = lie == Lie::Transcript && at > 20;
			let progress = Progress {
				channel: ask.channel,
				number: ask.number,
				request,
				transcript: if wrong { request } else { transcript.hash },
				tokens: transcript.tokens,
			};
			let message = ToClient::Frame(Frame {
				tokens: tokens[at as usize..].to_vec(),
				text: frame,
				progress: self.sign(progress, lie != Lie::FrameKey || at <= 20),
			});
			send(socket, &message).await?;
		}
		if lie == Lie::NoEnd {
			// Says no more until the client goes.
			while receive(socket).await.is_some() {}
			return None;
		}
		// Of half a character nothing is said.
		let mut last = Vec::new();
		if text.len() % 2 == 1 {
			last = "é".as_bytes()[1..].to_vec();
			text.extend(&last);
		}
		let finish = FinishReason::Length;
		let outputs = tokens.len() as u32;
		let mut receipt = Receipt {
			channel: ask.channel,
			payee: self.account.clone(),
			number: ask.number,
			session: SESSION,
			request,
			transcript: transcript.end(&text, finish),
			input_units: units,
			output_units: outputs,
			amount: PRICE.of(units, outputs).unwrap(),
			anchor: ask.anchor,
		};
		match lie {
			Lie::MoreUnits => receipt.output_units += 1,
			Lie::MoreMoney => receipt.amount += 1,
			Lie::ReceiptSession => receipt.session = SESSION - 1,
			Lie::ReceiptTranscript => receipt.transcript = H256::zero(),
			Lie::ReceiptText => last = b"!".to_vec(),
			_ => {}
		}
		let end = End {
			text: last,
			finish,
			receipt: self.sign(receipt, lie != Lie::ReceiptKey),
		};
		send(socket, &ToClient::End(Box::new(end))).await?;
		while paid < outputs {
			match receive(socket).await? {
				ToValidator::Pay(payment) => pay(payment, &states, &mut paid),
				ToValidator::Cancel { .. } => {}
				_ => return None,
			}
		}
		Some(())
	}

	async fn check(&self, socket: &mut Socket, request: CheckRequest) -> Option<()> {
		let (ask, receipt) = (&request.ask, &request.receipt);
		let number = ask.number;
		let others = self.checkers.accounts.iter().filter(|a| **a != ask.payee);
		let order = candidates(&SEED, &request.preimage, others.cloned());
		let place = order.iter().position(|who| *who == self.account)?;
		let lies = self.checkers.lies.lock().unwrap().clone();
		let lie = lies.get(place).copied().unwrap_or(self.lies());
		if let Lie::Refuse(why) = lie {
			return self.refuse(socket, number, why).await;
		}
		if lie == Lie::Silent {
			while receive(socket).await.is_some() {}
			return None;
		}
		if matches!(lie, Lie::Queues | Lie::Stalls) {
			let mut ahead = 3;
			while ahead > 0 {
				send(socket, &ToClient::Waiting { ahead }).await?;
				ahead -= u32::from(lie == Lie::Queues);
				// Shorter than the client's patience, and longer all together.
				let next = tokio::time::timeout(Duration::from_millis(750), receive(socket));
				if next.await.is_ok() {
					return None;
				}
			}
		}
		let Output::Text {
			tokens,
			text,
			finish,
		} = &request.output
		else {
			return None;
		};
		let name = ask.hash(&GENESIS);
		let transcript = Transcript::of(&name, tokens, text, *finish);
		if receipt.body.transcript != transcript || receipt.body.request != name {
			self.complain("a check of something else".into());
		}
		let margin = match lie {
			Lie::Wrong => 1_000,
			Lie::Unclear => 50,
			_ => 5,
		};
		let mut measured = evidence(margin);
		if lie == Lie::CheckClass {
			measured.fingerprint = Fingerprint::Digest([0; 16]);
		}
		let verdict = Verdict {
			receipt: if lie == Lie::CheckOther {
				H256::zero()
			} else {
				receipt.body.hash(&GENESIS)
			},
			checker: self.account.clone(),
			session: SESSION,
			evidence: measured,
		};
		let hash = verdict.hash(&GENESIS);
		let verdict = self.sign(verdict, lie != Lie::CheckKey);
		send(socket, &ToClient::Verdict(Box::new(verdict))).await?;
		let due = self.base(Service::Check) + CHECK;
		match receive(socket).await? {
			ToValidator::Pay(payment)
				if payment.body.transcript == hash
					&& payment.body.service == Service::Check
					&& payment.body.number == number
					&& self.take(&payment, due) => {}
			other => self.complain(format!("{other:?} for a check")),
		}
		Some(())
	}

	/// Vouchers for a service.
	pub(crate) fn paid(&self, service: Service) -> Vec<Balance> {
		let seen = self.seen.lock().unwrap();
		let of = seen.vouchers.iter().filter(|v| v.body.service == service);
		of.map(|v| v.body.amount).collect()
	}
}
