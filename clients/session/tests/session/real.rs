//! The client with the endpoint that validators run, on an engine that writes the same letter again and again.

use std::{
	collections::HashMap,
	path::Path,
	sync::{
		atomic::{AtomicU32, Ordering},
		Arc, Mutex,
	},
	time::Duration,
};

use async_trait::async_trait;
use codec::{Compact, DecodeAll, Encode};
use consilience_lane::{
	message::{AccountId, Balance, BlockNumber, ToClient, ToValidator, VERSION},
	Answering, ClaimBounds, Config, Engine, EngineError, Handle, Heads, Lane, Piece, Place,
	SignedClaim,
};
use consilience_primitives::{
	evidence::Evidence,
	model::Price,
	request::{FinishReason, Input, Output},
	session::{
		Allocation, Allotment, Anchor, Certificate, CertificateDue, ChannelId, ClaimId, LaneKey,
		Opening, OpeningDue, Service,
	},
	ModelId,
};
use consilience_session::{
	chain::{self, ChainError, Channel},
	error::Fault,
	record::Outcome,
	AskOptions, Client, Event, Settings, Status, Wallet,
};
use futures::{SinkExt, StreamExt};
use polkadot_sdk::sp_core::H256;
use tokio::{
	runtime::Runtime,
	sync::{watch, Semaphore},
};
use tokio_tungstenite::tungstenite::Message;

use crate::double::{
	all, ask, evidence, input, spec, text, CHANNEL, CHECK, GENESIS, MODEL, PRICE, SEED, SESSION,
	TOKENS,
};

const PLENTY: Balance = 1_000_000;
const HEAD: Anchor<BlockNumber> = Anchor {
	number: 50,
	hash: H256::repeat_byte(50),
};

/// The chain that all validators and the client see.
struct World {
	accounts: Vec<AccountId>,
	heads: watch::Sender<Heads>,
	channels: Mutex<HashMap<ChannelId, Channel>>,
	/// How often a client asked who answers.
	looks: AtomicU32,
	keys: Mutex<HashMap<AccountId, LaneKey>>,
	handles: Mutex<Vec<Handle>>,
	/// Measurements wait until this is so.
	quick: watch::Sender<bool>,
	/// Answers wait until this is so.
	writes: watch::Sender<bool>,
	/// Of each validator, and the most tokens of all answers in the order in which they were begun.
	places: Vec<Arc<Semaphore>>,
	begun: Mutex<Vec<u32>>,
	folder: tempfile::TempDir,
	/// Where the validators live.
	runtime: Runtime,
}

impl World {
	fn new(validators: usize) -> Arc<Self> {
		Self::with_places(validators, 9)
	}

	/// Each validator has so many places for answers.
	fn with_places(validators: usize, places: usize) -> Arc<Self> {
		let folder = tempfile::tempdir().unwrap();
		let accounts: Vec<_> = (1..=validators as u8)
			.map(|n| AccountId::new([n; 32]))
			.collect();
		let world = Arc::new(Self {
			accounts: accounts.clone(),
			heads: watch::Sender::new(Heads {
				best: 52,
				finalised: HEAD,
			}),
			channels: Mutex::default(),
			looks: AtomicU32::default(),
			keys: Mutex::default(),
			handles: Mutex::default(),
			quick: watch::Sender::new(true),
			writes: watch::Sender::new(true),
			places: accounts
				.iter()
				.map(|_| Arc::new(Semaphore::new(places)))
				.collect(),
			begun: Mutex::default(),
			folder,
			runtime: Runtime::new().unwrap(),
		});
		world.open(world.folder.path(), CHANNEL);
		for (i, me) in accounts.iter().enumerate() {
			let config = Config::new(
				"127.0.0.1:0".parse().unwrap(),
				world.folder.path().join(format!("validator-{i}")),
				b"ws://127.0.0.1:1".to_vec().try_into().unwrap(),
			);
			let node = Arc::new(Node {
				world: world.clone(),
				me: me.clone(),
				places: world.places[i].clone(),
			});
			let lane = Lane::start(config, node.clone(), node, None);
			let (handle, lane) = world.runtime.block_on(lane).unwrap();
			world.runtime.spawn(lane);
			world.handles.lock().unwrap().push(handle);
		}
		let certified = || world.keys.lock().unwrap().len() == validators;
		let mut heads = world.heads.subscribe();
		world.runtime.block_on(async {
			while !certified() {
				heads.changed().await.unwrap();
			}
		});
		// And they know.
		world.heads.send_modify(|heads| heads.best += 1);
		for handle in &*world.handles.lock().unwrap() {
			while !world.runtime.block_on(offers(handle)) {}
		}
		world
	}

	/// Makes a channel's wallet, and the channel, which pays the first validator.
	fn open(&self, folder: &Path, id: ChannelId) {
		let wallet = Wallet::create(folder).unwrap();
		wallet.bind(GENESIS, id).unwrap();
		let allotment = Allotment {
			amount: PLENTY,
			claimed: 0,
			lowering: None,
		};
		let channel = Channel {
			id,
			owner: AccountId::new([200; 32]),
			key: wallet.key(),
			chain: wallet.tip(),
			seed: Some(SEED),
			closes_at: None,
			pot: allotment,
			allocations: vec![Allocation {
				payee: self.accounts[0].clone(),
				allotment,
				releases: 0,
			}],
			pending: 0,
		};
		self.channels.lock().unwrap().insert(id, channel);
	}

	/// A client with a channel of its own.
	async fn another(self: &Arc<Self>, id: ChannelId) -> Client {
		let folder = self.folder.path().join(format!("client-{id}"));
		self.open(&folder, id);
		let wallet = Arc::new(Wallet::open(&folder).unwrap());
		let client = Client::open(self.clone(), wallet, Settings::default());
		client.await.unwrap()
	}

	/// A client in a life of its own, which can end at any time.
	fn client(self: &Arc<Self>) -> (Runtime, Client) {
		let runtime = Runtime::new().unwrap();
		let wallet = Arc::new(Wallet::open(self.folder.path()).unwrap());
		let settings = Settings {
			verdict: Duration::from_millis(500),
			..Settings::default()
		};
		let client = Client::open(self.clone(), wallet, settings);
		let client = runtime.block_on(client).unwrap();
		(runtime, client)
	}
}

/// Checks whether a validator knows that its key is certified.
async fn offers(handle: &Handle) -> bool {
	let address = format!("ws://{}", handle.address());
	let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
	let hello = ToValidator::Hello {
		version: VERSION,
		genesis: GENESIS,
		channel: CHANNEL,
	};
	let hello = Message::Binary(hello.encode().into());
	socket.send(hello).await.unwrap();
	let Some(Ok(Message::Binary(said))) = socket.next().await else {
		return false;
	};
	let said = ToClient::decode_all(&mut &said[..]).unwrap();
	matches!(said, ToClient::Offer(_))
}

fn model() -> (Price<Balance>, Price<Balance>) {
	let check = Price {
		per_request: CHECK,
		..Default::default()
	};
	(PRICE, check)
}

#[async_trait]
impl chain::Chain for World {
	async fn genesis(&self) -> Result<H256, ChainError> {
		Ok(GENESIS)
	}

	async fn finalised(&self) -> Result<Anchor<BlockNumber>, ChainError> {
		Ok(HEAD)
	}

	async fn session(&self) -> Result<chain::Session, ChainError> {
		Ok(chain::Session {
			index: SESSION,
			expires: SESSION + 6,
		})
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		Ok(self.channels.lock().unwrap().get(&id).cloned())
	}

	async fn model(
		&self,
		_: &ModelId,
		_: &Anchor<BlockNumber>,
	) -> Result<Option<chain::Model>, ChainError> {
		let (price, check) = model();
		Ok(Some(chain::Model {
			spec: spec(),
			price,
			check,
			serving: self.accounts.clone(),
		}))
	}

	async fn lanes(&self, _: &ModelId) -> Result<Vec<chain::Lane>, ChainError> {
		self.looks.fetch_add(1, Ordering::SeqCst);
		let keys = self.keys.lock().unwrap();
		let handles = self.handles.lock().unwrap();
		let lanes = self.accounts.iter().zip(&*handles);
		Ok(lanes
			.map(|(who, handle)| chain::Lane {
				validator: who.clone(),
				session: SESSION,
				key: keys[who],
				endpoint: format!("ws://{}", handle.address())
					.into_bytes()
					.try_into()
					.unwrap(),
			})
			.collect())
	}

	async fn lane_keys(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Vec<LaneKey>, ChainError> {
		let key = self.keys.lock().unwrap().get(validator).copied();
		Ok(key.filter(|_| session == SESSION).into_iter().collect())
	}
}

/// A validator's node.
struct Node {
	world: Arc<World>,
	me: AccountId,
	places: Arc<Semaphore>,
}

type Read<T> = Result<T, consilience_lane::ChainError>;

#[async_trait]
impl consilience_lane::Chain for Node {
	fn genesis(&self) -> H256 {
		GENESIS
	}

	fn heads(&self) -> watch::Receiver<Heads> {
		self.world.heads.subscribe()
	}

	async fn session(&self) -> Read<consilience_lane::Session> {
		Ok(consilience_lane::Session {
			index: SESSION,
			expires: SESSION + 6,
		})
	}

	async fn finalised_session(&self) -> Read<u32> {
		Ok(SESSION)
	}

	async fn channel(&self, id: ChannelId) -> Read<Option<Channel>> {
		Ok(self.world.channels.lock().unwrap().get(&id).cloned())
	}

	async fn claimed(&self, _: ChannelId, _: &AccountId, _: Service) -> Read<Balance> {
		Ok(0)
	}

	async fn finalised_hash(&self, number: BlockNumber) -> Read<Option<H256>> {
		Ok((number == HEAD.number).then_some(HEAD.hash))
	}

	async fn model(
		&self,
		_: &ModelId,
		_: &Anchor<BlockNumber>,
	) -> Read<Option<consilience_lane::Model>> {
		let (price, check) = model();
		Ok(Some(consilience_lane::Model {
			spec: spec(),
			price,
			check,
			serving: self.world.accounts.clone(),
		}))
	}

	async fn serves(&self) -> Read<Vec<(ModelId, Price<Balance>)>> {
		Ok(vec![(MODEL, PRICE)])
	}

	async fn lane_key(&self, validator: &AccountId, session: u32) -> Read<Option<LaneKey>> {
		let key = self.world.keys.lock().unwrap().get(validator).copied();
		Ok(key.filter(|_| session == SESSION))
	}

	async fn certificate_due(&self) -> Read<Option<CertificateDue<AccountId>>> {
		let endpoint = b"ws://127.0.0.1:1".to_vec().try_into().unwrap();
		let key = self.world.keys.lock().unwrap().get(&self.me).copied();
		Ok(Some(CertificateDue {
			session: SESSION,
			index: 0,
			validator: self.me.clone(),
			certified: key.map(|key| (key, endpoint)),
		}))
	}

	async fn certify(&self, certificate: Certificate) -> Read<()> {
		let mut keys = self.world.keys.lock().unwrap();
		keys.insert(self.me.clone(), certificate.key);
		drop(keys);
		self.world.heads.send_modify(|heads| heads.best += 1);
		Ok(())
	}

	async fn claim_bounds(&self) -> Read<ClaimBounds> {
		Ok(ClaimBounds {
			least: PLENTY,
			most: PLENTY,
		})
	}

	async fn claim_room(&self, _: &AccountId, _: u32) -> Read<Balance> {
		Ok(PLENTY)
	}

	async fn settle(&self, _: Vec<SignedClaim>) -> Read<()> {
		Ok(())
	}

	async fn openings_due(&self, _: &AccountId) -> Read<Vec<OpeningDue<BlockNumber, Balance>>> {
		Ok(Vec::new())
	}

	async fn open_receipt(
		&self,
		_: ClaimId,
		_: u32,
		_: Opening<AccountId, BlockNumber, Balance>,
	) -> Read<()> {
		Ok(())
	}
}

/// An answer of so many letters.
fn output(tokens: u32) -> Output {
	Output::Text {
		tokens: (0..tokens)
			.map(Compact)
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
		text: vec![b'a'; tokens as usize].try_into().unwrap(),
		finish: FinishReason::Length,
	}
}

struct Writing {
	writes: watch::Receiver<bool>,
	allowed: u32,
	written: u32,
	max: u32,
}

#[async_trait]
impl Answering for Writing {
	fn allow(&mut self, tokens: u32) {
		self.allowed = tokens;
	}

	async fn next(&mut self) -> Result<Piece, EngineError> {
		if self.written == self.max {
			return Ok(Piece::End(output(self.max)));
		}
		let count = 3.min(self.allowed.min(self.max) - self.written);
		if count == 0 {
			// Allowed more, it is asked again.
			return std::future::pending().await;
		}
		tokio::task::yield_now().await;
		self.writes.wait_for(|writes| *writes).await.unwrap();
		let tokens = (self.written..self.written + count).collect();
		self.written += count;
		let text = vec![b'a'; count as usize];
		Ok(Piece::More { tokens, text })
	}
}

#[async_trait]
impl Engine for Node {
	fn free(&self, _: &ModelId) -> u32 {
		self.places.available_permits() as u32
	}

	fn place(&self, _: &ModelId) -> Option<Place> {
		let place = self.places.clone().try_acquire_owned();
		Some(Box::new(place.ok()?))
	}

	async fn stream(
		&self,
		_: &ModelId,
		input: &Input,
		_: H256,
	) -> Result<Box<dyn Answering>, EngineError> {
		let Input::TextGeneration { sampling, .. } = input else {
			return Err(EngineError::Failed("no text".into()));
		};
		self.world.begun.lock().unwrap().push(sampling.max_tokens);
		Ok(Box::new(Writing {
			writes: self.world.writes.subscribe(),
			allowed: 0,
			written: 0,
			max: sampling.max_tokens,
		}))
	}

	async fn cut(&self, _: &ModelId, _: &Input, tokens: &[u32]) -> Result<Output, EngineError> {
		Ok(output(tokens.len() as u32))
	}

	async fn measure(
		&self,
		_: &ModelId,
		_: &Input,
		_: H256,
		answer: &Output,
		_: H256,
	) -> Result<Evidence, EngineError> {
		let mut quick = self.world.quick.subscribe();
		quick.wait_for(|quick| *quick).await.unwrap();
		Ok(evidence(if *answer == output(answer.units()) {
			0
		} else {
			1_000
		}))
	}
}

fn price(tokens: u32) -> Balance {
	PRICE.of(13, tokens).unwrap()
}

#[test]
fn answers_are_paid_and_checked_one_after_the_other_and_at_once() {
	let world = World::new(4);
	let (runtime, client) = world.client();
	runtime.block_on(async {
		let asks = (0..5).map(|_| all(ask(&client, 2)));
		for (events, error) in futures::future::join_all(asks).await {
			assert!(error.is_none(), "{error:?}: {events:?}");
			assert_eq!(text(&events), "a".repeat(TOKENS as usize));
			assert!(matches!(
				events.last(),
				Some(Event::Done {
					status: Status::Checked { right: 2, of: 2 },
					..
				})
			));
		}
	});
	let wallet = client.wallet();
	assert_eq!(wallet.spent(Service::Answer).unwrap(), 5 * price(TOKENS));
	assert_eq!(wallet.spent(Service::Check).unwrap(), 10 * CHECK);
}

/// A client that ends in the middle of an answer, again and again: the next one pays for what was sent, and the executor goes on.
#[test]
fn what_a_crash_left_unpaid_is_paid_by_the_next_client() {
	let world = World::new(1);
	for round in 1..=8 {
		let (runtime, client) = world.client();
		let mut answer = runtime.block_on(async { ask(&client, 0) });
		runtime.block_on(async {
			// Later in every round: what is paid by then differs.
			let mut letters = 0;
			while letters < 9 * round {
				match answer.next().await.unwrap().unwrap() {
					Event::Text(text) => letters += text.len() as u32,
					Event::Done { .. } => break,
					_ => {}
				}
			}
		});
		assert_eq!(client.wallet().next_number().unwrap(), round + 1);
		drop(client);
		// Nothing of it says goodbye.
		runtime.shutdown_timeout(Duration::from_secs(10));
		drop(answer);
	}
	let (runtime, client) = world.client();
	let (events, error) = runtime.block_on(async { all(ask(&client, 0)).await });
	assert!(error.is_none(), "{error:?}: {events:?}");
	let mut sum = price(TOKENS);
	for number in 1..=8 {
		let record = client.wallet().record(number).unwrap().unwrap();
		assert_eq!(record.status(), Ok(Status::Answered), "{number}");
		assert_eq!(record.paid, price(record.tokens.len() as u32), "{number}");
		sum += record.paid;
	}
	assert_eq!(client.wallet().spent(Service::Answer).unwrap(), sum);
}

/// A checker measures after nobody waits any more, and is paid when it is asked again.
#[test]
fn a_late_verdict_is_fetched_and_paid() {
	let world = World::new(2);
	world.quick.send_replace(false);
	let (runtime, client) = world.client();
	let asked = || runtime.block_on(async { all(ask(&client, 1)).await });
	let (events, error) = asked();
	assert!(error.is_none(), "{error:?}");
	let done = |number, status| Some(Event::Done { number, status });
	assert_eq!(events.last().cloned(), done(1, Status::Answered));
	let record = client.wallet().record(1).unwrap().unwrap();
	let silent = Outcome::Skipped(Fault::Silent(500));
	assert_eq!(record.checks[0].outcome, silent);
	assert_eq!(client.wallet().spent(Service::Check).unwrap(), 0);

	world.quick.send_replace(true);
	let (events, error) = asked();
	assert!(error.is_none(), "{error:?}");
	let checked = Status::Checked { right: 1, of: 1 };
	assert_eq!(events.last().cloned(), done(2, checked));
	let record = client.wallet().record(1).unwrap().unwrap();
	assert_eq!(record.status(), Ok(checked));
	assert_eq!(client.wallet().spent(Service::Check).unwrap(), 2 * CHECK);
}

/// Clients of many channels and one place: each waits once, and is served when its turn comes.
#[test]
fn a_crowd_waits_in_line_and_is_served_in_order() {
	let world = World::with_places(1, 1);
	world.writes.send_replace(false);
	let (runtime, _) = world.client();
	let crowd = 1..=20;
	runtime.block_on(async {
		let mut all = Vec::new();
		for n in crowd.clone() {
			let client = world.another(100 + ChannelId::from(n)).await;
			let options = AskOptions {
				checks: 0,
				executor: None,
			};
			let mut answer = client.ask(MODEL, input(n), options);
			let event = answer.next().await.unwrap().unwrap();
			// The first has the place.
			match n {
				1 => assert!(matches!(event, Event::Started { number: 1, .. })),
				_ => assert_eq!(event, Event::Waiting { ahead: n - 2 }),
			}
			all.push((client, answer));
		}
		world.writes.send_replace(true);
		for (n, (client, mut answer)) in crowd.clone().zip(all) {
			let (mut said, mut done) = (String::new(), false);
			while let Some(event) = answer.next().await {
				match event.unwrap() {
					Event::Text(text) => said += &text,
					Event::Done { status, .. } => done = status == Status::Answered,
					Event::Failed { why, .. } => panic!("{why}"),
					_ => {}
				}
			}
			assert!(done);
			assert_eq!(said, "a".repeat(n as usize));
			let wallet = client.wallet();
			assert_eq!(wallet.spent(Service::Answer).unwrap(), price(n));
		}
	});
	assert!(world
		.begun
		.lock()
		.unwrap()
		.iter()
		.copied()
		.eq(crowd.clone()));
	assert_eq!(world.looks.load(Ordering::SeqCst), crowd.count() as u32);
}
