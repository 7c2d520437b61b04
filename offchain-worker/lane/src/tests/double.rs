//! A chain that takes what the pallet takes, and an engine that knows what it was asked for.

use std::{
	collections::{BTreeMap, HashMap},
	sync::{
		atomic::{AtomicU32, AtomicUsize, Ordering},
		Arc, Mutex,
	},
};

use async_trait::async_trait;
use codec::{Compact, Encode};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	model::{Bounds, Limits, ModelSpec, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	request::{FinishReason, Input, Output, Prompt, Unanswerable},
	session::{
		Allocation, Allotment, Anchor, Certificate, CertificateDue, ChannelId, Claim, ClaimId,
		LaneKey, Opening, OpeningDue, Service, Signable, SumNode, Transcript, SLICE_TOKENS,
	},
	ModelId,
};
use polkadot_sdk::{
	sp_core::{sr25519, Pair, H256},
	sp_crypto_hashing::blake2_256,
};
use tokio::{
	sync::{watch, Notify},
	task::JoinHandle,
};

use crate::{
	message::{AccountId, Balance, BlockNumber},
	Answering, Chain, ChainError, Channel, ClaimBounds, Config, Engine, EngineError, Handle, Heads,
	Lane, Model, Piece, Place, Session, SignedClaim,
};

pub(crate) const PRICE: Price<Balance> = Price {
	per_request: 100,
	per_input_unit: 2,
	per_output_unit: 5,
};
pub(crate) const CHECK: Price<Balance> = Price {
	per_request: 10,
	per_input_unit: 1,
	per_output_unit: 1,
};
pub(crate) const CHANNEL: ChannelId = 7;
pub(crate) const ALLOCATION: Balance = 100_000;

pub(crate) fn model_id() -> ModelId {
	H256::repeat_byte(0xaa)
}

pub(crate) fn genesis() -> H256 {
	H256::repeat_byte(0x99)
}

pub(crate) fn seed() -> H256 {
	H256::repeat_byte(0x55)
}

pub(crate) fn account(n: u8) -> AccountId {
	AccountId::new([n; 32])
}

pub(crate) fn block(number: BlockNumber) -> H256 {
	H256(number.using_encoded(blake2_256))
}

pub(crate) fn spec() -> ModelSpec {
	ModelSpec {
		name: b"test".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		size: 1,
		chat: false,
		limits: Limits {
			max_input_units: 40_000,
			max_output_units: 4_096,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 100,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 4,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: Evidence {
			fingerprint: Fingerprint::Digest([0; 16]),
			verdict: Default::default(),
			prior: None,
		},
	}
}

pub(crate) struct State {
	pub(crate) session: u32,
	/// Of finalised state, where that is behind.
	pub(crate) finalised_session: Option<u32>,
	pub(crate) channels: BTreeMap<ChannelId, Channel>,
	pub(crate) models: HashMap<ModelId, Model>,
	pub(crate) keys: HashMap<(AccountId, u32), LaneKey>,
	pub(crate) endpoints: HashMap<AccountId, Vec<u8>>,
	pub(crate) checked: HashMap<(ChannelId, AccountId), Balance>,
	/// Claims that no block has yet.
	pub(crate) pool: Vec<SignedClaim>,
	/// Claims in finalised state.
	pub(crate) claims: Vec<SignedClaim>,
	/// Claims that were submitted, taken or not.
	pub(crate) submitted: Vec<SignedClaim>,
	/// Submissions that are lost.
	pub(crate) loses: bool,
	/// Certificates that are lost.
	pub(crate) forgets: bool,
	/// How often it was asked who serves what.
	pub(crate) looks: usize,
	/// How often a channel was looked up, and the session.
	pub(crate) views: usize,
	pub(crate) sessions: usize,
	pub(crate) due: Vec<(AccountId, OpeningDue<BlockNumber, Balance>)>,
	pub(crate) opened: Vec<(ClaimId, u32, Opening<AccountId, BlockNumber, Balance>)>,
	pub(crate) fails: bool,
	/// The most that claims of a validator may come to that are not audited yet: none here ever is.
	pub(crate) stake: Balance,
}

impl State {
	/// How much more it may claim.
	fn room(&self, validator: &AccountId) -> Balance {
		let pending = self.channels.values().flat_map(|c| &c.allocations);
		let pending = pending.filter(|a| a.payee == *validator);
		let pending: Balance = pending.map(|a| a.allotment.claimed).sum();
		self.stake.saturating_sub(pending)
	}
}

/// What all validators see.
pub(crate) struct World {
	pub(crate) state: Mutex<State>,
	heads: watch::Sender<Heads>,
	/// Something was submitted.
	pub(crate) news: Notify,
}

pub(crate) fn allotment(amount: Balance) -> Allotment<BlockNumber, Balance> {
	Allotment {
		amount,
		claimed: 0,
		lowering: None,
	}
}

impl World {
	/// One model, served by validators 1 to 3, and one channel of this client's.
	pub(crate) fn new(client: &crate::tests::client::Wallet) -> Arc<Self> {
		let model = Model {
			spec: spec(),
			price: PRICE,
			check: CHECK,
			serving: (1..=3).map(account).collect(),
		};
		let world = Self {
			state: Mutex::new(State {
				session: 5,
				finalised_session: None,
				channels: BTreeMap::new(),
				models: [(model_id(), model)].into(),
				keys: HashMap::new(),
				endpoints: HashMap::new(),
				checked: HashMap::new(),
				pool: Vec::new(),
				claims: Vec::new(),
				submitted: Vec::new(),
				loses: false,
				forgets: false,
				looks: 0,
				views: 0,
				sessions: 0,
				due: Vec::new(),
				opened: Vec::new(),
				fails: false,
				stake: Balance::MAX,
			}),
			heads: watch::Sender::new(Heads {
				best: 1_002,
				finalised: Anchor {
					number: 1_000,
					hash: block(1_000),
				},
			}),
			news: Notify::new(),
		};
		let world = Arc::new(world);
		world.open(CHANNEL, client);
		world
	}

	pub(crate) fn open(&self, id: ChannelId, client: &crate::tests::client::Wallet) {
		let channel = Channel {
			id,
			owner: account(100),
			key: client.pair.public(),
			chain: client.tip(),
			seed: Some(seed()),
			closes_at: None,
			pot: allotment(ALLOCATION),
			allocations: [1, 2]
				.map(|n| Allocation {
					payee: account(n),
					allotment: allotment(ALLOCATION),
					releases: 0,
				})
				.into(),
			pending: 0,
		};
		self.state.lock().unwrap().channels.insert(id, channel);
	}

	pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
		change(&mut self.state.lock().unwrap());
	}

	/// Changes the channel in a new finalised block.
	pub(crate) fn channel(&self, change: impl FnOnce(&mut Channel)) {
		self.change(|s| change(s.channels.get_mut(&CHANNEL).unwrap()));
		self.heads.send_modify(|heads| {
			heads.best += 1;
			let number = heads.finalised.number + 1;
			heads.finalised = Anchor {
				number,
				hash: block(number),
			};
		});
	}

	pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
		read(&self.state.lock().unwrap())
	}

	pub(crate) fn heads(&self) -> Heads {
		*self.heads.borrow()
	}

	/// So many blocks later, in which everything that was submitted is final.
	pub(crate) fn blocks(&self, count: u32) {
		self.change(|state| {
			for claim in std::mem::take(&mut state.pool) {
				// What was overtaken by another is left out, as the pallet does.
				if take(state, &claim).is_ok() {
					state.claims.push(claim);
				}
			}
		});
		self.heads.send_modify(|heads| {
			heads.best += count;
			let number = heads.finalised.number + count;
			heads.finalised = Anchor {
				number,
				hash: block(number),
			};
		});
	}

	/// Goes on, block by block, until something holds.
	pub(crate) async fn until(&self, mut holds: impl FnMut(&State) -> bool) {
		let waited = async {
			while !self.read(&mut holds) {
				self.blocks(5);
				// The lane looks at every head; whether it submits something is seen at the next.
				let news = self.news.notified();
				let _ = tokio::time::timeout(std::time::Duration::from_millis(20), news).await;
			}
		};
		tokio::time::timeout(std::time::Duration::from_secs(30), waited)
			.await
			.expect("it holds in the end");
	}
}

fn claimed(state: &State, id: ChannelId, payee: &AccountId, service: Service) -> Balance {
	match service {
		Service::Check => state
			.checked
			.get(&(id, payee.clone()))
			.copied()
			.unwrap_or(0),
		Service::Answer => state
			.channels
			.get(&id)
			.and_then(|c| c.allocations.iter().find(|a| a.payee == *payee))
			.map_or(0, |a| a.allotment.claimed),
	}
}

fn check(state: &State, signed: &SignedClaim) -> Result<Balance, ChainError> {
	let refuse = |why: &str| Err(ChainError(why.into()));
	let Claim {
		voucher,
		root,
		count,
		session,
	} = &signed.body;
	let body = &voucher.body;
	let Some(channel) = state.channels.get(&body.channel) else {
		return refuse("no channel");
	};
	let before = claimed(state, body.channel, &body.payee, body.service);
	let amount = body.amount.saturating_sub(before);
	if amount == 0 {
		return refuse("claimed before");
	}
	if body.expires < state.session {
		return refuse("expired");
	}
	if *count == 0 || root.sum != amount {
		return refuse("wrong sum");
	}
	let whole = match body.service {
		Service::Check => channel.pot.amount,
		Service::Answer => {
			channel
				.allocations
				.iter()
				.find(|a| a.payee == body.payee)
				.unwrap()
				.allotment
				.amount
		}
	};
	if body.amount > whole {
		return refuse("over the allotment");
	}
	if body.service == Service::Answer && amount > state.room(&body.payee) {
		return refuse("over stake");
	}
	if !voucher.verify(&genesis(), &channel.key) {
		return refuse("voucher not signed");
	}
	match state.keys.get(&(body.payee.clone(), *session)) {
		Some(key) if session + 1 >= state.session && signed.verify(&genesis(), key) => Ok(amount),
		_ => refuse("claim not signed"),
	}
}

fn take(state: &mut State, signed: &SignedClaim) -> Result<(), ChainError> {
	let amount = check(state, signed)?;
	let body = &signed.body.voucher.body;
	let channel = state.channels.get_mut(&body.channel).unwrap();
	channel.pending += amount;
	match body.service {
		Service::Check => {
			channel.pot.claimed += amount;
			state
				.checked
				.insert((body.channel, body.payee.clone()), body.amount);
		}
		Service::Answer => channel
			.allocations
			.iter_mut()
			.filter(|a| a.payee == body.payee)
			.for_each(|a| a.allotment.claimed = body.amount),
	}
	Ok(())
}

/// The world as one validator sees it.
pub(crate) struct View {
	pub(crate) world: Arc<World>,
	pub(crate) me: AccountId,
}

impl View {
	fn state<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, ChainError> {
		let state = self.world.state.lock().unwrap();
		if state.fails {
			return Err(ChainError("the node is stopped".into()));
		}
		Ok(read(&state))
	}
}

#[async_trait]
impl Chain for View {
	fn genesis(&self) -> H256 {
		genesis()
	}

	fn heads(&self) -> watch::Receiver<Heads> {
		self.world.heads.subscribe()
	}

	async fn session(&self) -> Result<Session, ChainError> {
		self.world.change(|s| s.sessions += 1);
		self.state(|s| Session {
			index: s.session,
			expires: s.session + 6,
		})
	}

	async fn finalised_session(&self) -> Result<u32, ChainError> {
		self.state(|s| s.finalised_session.unwrap_or(s.session))
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		self.world.change(|s| s.views += 1);
		self.state(|s| s.channels.get(&id).cloned())
	}

	async fn claimed(
		&self,
		channel: ChannelId,
		payee: &AccountId,
		service: Service,
	) -> Result<Balance, ChainError> {
		self.state(|s| claimed(s, channel, payee, service))
	}

	async fn finalised_hash(&self, number: BlockNumber) -> Result<Option<H256>, ChainError> {
		let head = self.world.heads().finalised.number;
		self.state(|_| (number <= head).then(|| block(number)))
	}

	async fn model(
		&self,
		id: &ModelId,
		_: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError> {
		self.state(|s| s.models.get(id).cloned())
	}

	async fn serves(&self) -> Result<Vec<(ModelId, Price<Balance>)>, ChainError> {
		self.world.change(|s| s.looks += 1);
		self.state(|s| {
			let served = s
				.models
				.iter()
				.filter(|(_, m)| m.serving.contains(&self.me));
			served.map(|(id, m)| (*id, m.price)).collect()
		})
	}

	async fn lane_key(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Option<LaneKey>, ChainError> {
		self.state(|s| s.keys.get(&(validator.clone(), session)).copied())
	}

	async fn certificate_due(&self) -> Result<Option<CertificateDue<AccountId>>, ChainError> {
		self.state(|s| {
			let key = s.keys.get(&(self.me.clone(), s.session));
			let endpoint = s.endpoints.get(&self.me);
			Some(CertificateDue {
				session: s.session,
				index: 0,
				validator: self.me.clone(),
				certified: key
					.zip(endpoint)
					.map(|(key, e)| (*key, e.clone().try_into().unwrap())),
			})
		})
	}

	async fn certify(&self, certificate: Certificate) -> Result<(), ChainError> {
		if self.world.read(|s| s.forgets) {
			return Ok(());
		}
		self.world.change(|s| {
			assert_eq!(certificate.session, s.session);
			s.keys
				.insert((self.me.clone(), certificate.session), certificate.key);
			s.endpoints
				.insert(self.me.clone(), certificate.endpoint.to_vec());
		});
		// In the next block.
		self.world.blocks(1);
		Ok(())
	}

	async fn claim_bounds(&self) -> Result<ClaimBounds, ChainError> {
		Ok(ClaimBounds {
			least: 1,
			most: 20_000,
		})
	}

	async fn claim_room(&self, validator: &AccountId, _: u32) -> Result<Balance, ChainError> {
		self.state(|s| s.room(validator))
	}

	async fn settle(&self, claims: Vec<SignedClaim>) -> Result<(), ChainError> {
		let mut state = self.world.state.lock().unwrap();
		state.submitted.extend(claims.iter().cloned());
		self.world.news.notify_one();
		for claim in &claims {
			check(&state, claim)?;
		}
		if !state.loses {
			state.pool.extend(claims);
		}
		Ok(())
	}

	async fn openings_due(
		&self,
		validator: &AccountId,
	) -> Result<Vec<OpeningDue<BlockNumber, Balance>>, ChainError> {
		self.state(|s| {
			let due = s.due.iter().filter(|(who, _)| who == validator);
			due.map(|(_, due)| due.clone()).collect()
		})
	}

	async fn open_receipt(
		&self,
		claim: ClaimId,
		point: u32,
		opening: Opening<AccountId, BlockNumber, Balance>,
	) -> Result<(), ChainError> {
		self.world.change(|s| {
			s.due.retain(|(_, d)| (d.claim, d.point) != (claim, point));
			s.opened.push((claim, point, opening));
		});
		self.world.news.notify_one();
		Ok(())
	}
}

/// Checks an opening as the pallet does, and returns the money before its receipt and of it.
pub(crate) fn verify_opening(
	world: &World,
	root: &SumNode<Balance>,
	opening: &Opening<AccountId, BlockNumber, Balance>,
) -> (Balance, Balance) {
	let receipt = &opening.receipt.body;
	let request = opening.ask.hash(&genesis());
	assert_eq!(receipt.request, request);
	let key = world.read(|s| s.keys[&(receipt.payee.clone(), receipt.session)]);
	assert!(opening.receipt.verify(&genesis(), &key));
	let client = world.read(|s| s.channels[&receipt.channel].key);
	assert!(opening.voucher.verify(&genesis(), &client));
	assert_eq!(opening.voucher.body.request, request);
	let Output::Text {
		tokens,
		text,
		finish,
	} = &opening.output
	else {
		panic!("no text");
	};
	assert_eq!(
		receipt.transcript,
		Transcript::of(&request, tokens, text, *finish)
	);
	let paid = (0..=tokens.len())
		.find(|count| {
			let mut transcript = Transcript::begin(&request);
			tokens[..*count].iter().for_each(|t| transcript.push(t.0));
			transcript.hash == opening.voucher.body.transcript
		})
		.unwrap() as u32;
	assert!(tokens.len() as u32 <= paid + SLICE_TOKENS);
	let paid = PRICE.of(receipt.input_units, paid).unwrap();
	let leaf = SumNode::leaf(&receipt.hash(&genesis()), paid);
	(
		leaf.position(root, &opening.proof)
			.expect("it is in the claim"),
		paid,
	)
}

/// What the engine was asked for.
#[derive(Default)]
pub(crate) struct Machine {
	/// Tokens written.
	pub(crate) written: AtomicU32,
	pub(crate) streams: AtomicUsize,
	pub(crate) measures: AtomicUsize,
	/// The same by the answer's seed.
	pub(crate) by_seed: Mutex<HashMap<H256, u32>>,
	/// Places, and how many of them are taken.
	pub(crate) free: AtomicU32,
	pub(crate) taken: AtomicU32,
	/// The most that ever were.
	pub(crate) most: AtomicU32,
	/// Where set, measurements wait for it.
	pub(crate) gate: Mutex<Option<Arc<Notify>>>,
	/// Whether answers can be cut.
	pub(crate) broken: std::sync::atomic::AtomicBool,
}

/// Says the same for the same seed. What it does otherwise stands in the prompt, in words.
#[derive(Clone, Default)]
pub(crate) struct Double(pub(crate) Arc<Machine>);

impl Double {
	pub(crate) fn new() -> Self {
		let double = Self::default();
		double.0.free.store(4, Ordering::SeqCst);
		double
	}

	pub(crate) fn written(&self) -> u32 {
		self.0.written.load(Ordering::SeqCst)
	}

	pub(crate) fn used(&self) -> (usize, usize) {
		(
			self.0.streams.load(Ordering::SeqCst),
			self.0.measures.load(Ordering::SeqCst),
		)
	}
}

pub(crate) fn token(seed: &H256, at: u32) -> u32 {
	let hash = (seed, at).using_encoded(blake2_256);
	u32::from(u16::from_le_bytes([hash[0], hash[1]]))
}

fn text(tokens: &[u32]) -> String {
	tokens.iter().map(|t| format!("{t} ")).collect()
}

fn words(input: &Input) -> (String, u32) {
	let Input::TextGeneration {
		prompt: Prompt::Text(text),
		sampling,
	} = input
	else {
		panic!("text only");
	};
	(
		String::from_utf8_lossy(text).into_owned(),
		sampling.max_tokens,
	)
}

/// A number after a word of the prompt.
fn number(words: &str, word: &str) -> Option<u32> {
	let mut all = words.split_whitespace();
	all.find(|w| *w == word)?;
	all.next()?.parse().ok()
}

/// The whole answer of the model.
pub(crate) fn whole(input: &Input, seed: &H256) -> Output {
	let (words, max) = words(input);
	let ends = number(&words, "ends");
	let count = ends.map_or(max, |n| n.min(max));
	let tokens: Vec<u32> = (0..count).map(|i| token(seed, i)).collect();
	Output::Text {
		text: text(&tokens).into_bytes().try_into().unwrap(),
		finish: match ends {
			Some(n) if n <= max => FinishReason::EndOfText,
			_ => FinishReason::Length,
		},
		tokens: tokens
			.into_iter()
			.map(Compact)
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
	}
}

struct Writer {
	machine: Arc<Machine>,
	seed: H256,
	words: String,
	output: Output,
	all: Vec<u32>,
	written: u32,
	allowed: u32,
}

#[async_trait]
impl Answering for Writer {
	fn allow(&mut self, tokens: u32) {
		assert!(tokens >= self.allowed, "it rises");
		self.allowed = tokens;
	}

	async fn next(&mut self) -> Result<Piece, EngineError> {
		tokio::task::yield_now().await;
		if number(&self.words, "fails").is_some_and(|n| self.written >= n) {
			return Err(EngineError::Failed("as asked".into()));
		}
		let total = self.all.len() as u32;
		if self.written == total {
			return Ok(Piece::End(self.output.clone()));
		}
		let most = if self.words.contains("greedy") {
			u32::MAX
		} else {
			self.allowed
		};
		let size = number(&self.words, "pieces").unwrap_or(3);
		let until = (self.written + size).min(total).min(most);
		if until <= self.written {
			return std::future::pending().await;
		}
		let before = text(&self.all[..self.written as usize]).len();
		let tokens = self.all[self.written as usize..until as usize].to_vec();
		self.machine
			.written
			.fetch_add(tokens.len() as u32, Ordering::SeqCst);
		let mut by_seed = self.machine.by_seed.lock().unwrap();
		let most = by_seed.entry(self.seed).or_default();
		*most = until.max(*most);
		drop(by_seed);
		// The last character is not certain before the next token.
		let after = text(&self.all[..until as usize]);
		let from = before.saturating_sub(1);
		self.written = until;
		Ok(Piece::More {
			text: after.as_bytes()[from..after.len() - 1].to_vec(),
			tokens,
		})
	}
}

struct Taken(Arc<Machine>);

impl Drop for Taken {
	fn drop(&mut self) {
		self.0.taken.fetch_sub(1, Ordering::SeqCst);
	}
}

#[async_trait]
impl Engine for Double {
	fn free(&self, _: &ModelId) -> u32 {
		let all = self.0.free.load(Ordering::SeqCst);
		all.saturating_sub(self.0.taken.load(Ordering::SeqCst))
	}

	fn place(&self, model: &ModelId) -> Option<Place> {
		// The line asks one after the other.
		if self.free(model) == 0 {
			return None;
		}
		let taken = self.0.taken.fetch_add(1, Ordering::SeqCst) + 1;
		self.0.most.fetch_max(taken, Ordering::SeqCst);
		Some(Box::new(Taken(self.0.clone())))
	}

	async fn stream(
		&self,
		_: &ModelId,
		input: &Input,
		seed: H256,
	) -> Result<Box<dyn Answering>, EngineError> {
		self.0.streams.fetch_add(1, Ordering::SeqCst);
		let (words, _) = words(input);
		if words.contains("unanswerable") {
			return Err(EngineError::Unanswerable(Unanswerable::PromptTooLong));
		}
		if words.contains("taken") {
			return Err(EngineError::Busy);
		}
		let output = whole(input, &seed);
		let Output::Text { tokens, .. } = &output else {
			unreachable!()
		};
		Ok(Box::new(Writer {
			machine: self.0.clone(),
			seed,
			all: tokens.iter().map(|t| t.0).collect(),
			words,
			output,
			written: 0,
			allowed: 0,
		}))
	}

	async fn cut(&self, _: &ModelId, input: &Input, tokens: &[u32]) -> Result<Output, EngineError> {
		if self.0.broken.load(Ordering::SeqCst) {
			return Err(EngineError::Failed("it is away".into()));
		}
		let (words, _) = words(input);
		Ok(Output::Text {
			text: text(tokens).into_bytes().try_into().unwrap(),
			finish: match number(&words, "ends") {
				Some(n) if n as usize == tokens.len() => FinishReason::EndOfText,
				_ => FinishReason::Length,
			},
			tokens: tokens
				.iter()
				.map(|t| Compact(*t))
				.collect::<Vec<_>>()
				.try_into()
				.unwrap(),
		})
	}

	async fn measure(
		&self,
		_: &ModelId,
		input: &Input,
		seed: H256,
		output: &Output,
		challenge: H256,
	) -> Result<Evidence, EngineError> {
		self.0.measures.fetch_add(1, Ordering::SeqCst);
		let gate = self.0.gate.lock().unwrap().clone();
		if let Some(gate) = gate {
			gate.notified().await;
		}
		let right = *output == whole(input, &seed);
		Ok(Evidence {
			fingerprint: challenge.using_encoded(Fingerprint::digest),
			verdict: if right {
				Default::default()
			} else {
				consilience_primitives::evidence::Verdict::IMPOSSIBLE
			},
			prior: None,
		})
	}
}

/// A validator's endpoint.
pub(crate) struct Node {
	pub(crate) handle: Handle,
	pub(crate) me: AccountId,
	pub(crate) task: JoinHandle<()>,
	pub(crate) engine: Double,
}

pub(crate) fn config(folder: &std::path::Path) -> Config {
	let endpoint = b"ws://127.0.0.1:1".to_vec().try_into().unwrap();
	Config {
		pay: std::time::Duration::from_secs(20),
		..Config::new("127.0.0.1:0".parse().unwrap(), folder.to_owned(), endpoint)
	}
}

impl Node {
	pub(crate) async fn start(world: &Arc<World>, n: u8, folder: &std::path::Path) -> Self {
		Self::with(world, n, config(folder), Double::new()).await
	}

	pub(crate) async fn with(world: &Arc<World>, n: u8, config: Config, engine: Double) -> Self {
		let node = Self::begin(world, n, config, engine).await;
		node.certified(world.read(|s| s.session)).await;
		node
	}

	/// Starts it, and does not wait for its certificate.
	pub(crate) async fn begin(world: &Arc<World>, n: u8, config: Config, engine: Double) -> Self {
		let me = account(n);
		let chain = Arc::new(View {
			world: world.clone(),
			me: me.clone(),
		});
		let (handle, lane) = Lane::start(config, chain, Arc::new(engine.clone()), None)
			.await
			.unwrap();
		let task = tokio::spawn(lane);
		Self {
			handle,
			me,
			task,
			engine,
		}
	}

	/// Waits until it knows that its key is certified in a session.
	pub(crate) async fn certified(&self, session: u32) {
		let mut identity = self.handle.identity.clone();
		identity
			.wait_for(|i| i.as_ref().is_some_and(|i| i.session == Some(session)))
			.await
			.unwrap();
	}

	/// Ends it as the end of the process does.
	pub(crate) async fn kill(self) {
		self.handle.stop();
		self.task.await.unwrap();
	}
}

pub(crate) fn pair(n: u8) -> sr25519::Pair {
	sr25519::Pair::from_seed(&[n; 32])
}
