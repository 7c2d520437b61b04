//! The chain that is played: the real runtime, without a node.
//!
//! Everything that depends on how the runtime is put together stands here and nowhere else: its constants, its calls, its
//! events, how validators prove that they can serve, and what staking holds against whom. Blocks are real: a VRF that is signed
//! and verified, every pallet's `on_initialize`, `on_idle` and `on_finalize` in the runtime's order, sessions, eras and
//! elections. Only storage roots are not computed, and transactions of accounts pay their fee without being signed.

use std::{
	cell::Cell,
	collections::{BTreeMap, BTreeSet},
	rc::Rc,
	time::{Duration, Instant},
};

use codec::Encode;
use consilience_primitives::{
	contribution::{self, Contribution},
	crypto::InferencePair,
	evidence::{Evidence, Fingerprint, Verdict},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	report::{Duties, Report, Statement, Work},
	request::{Assurance, Input, Prompt, Sampling},
	tensor::{DataType, Tensor, TensorSpec},
	view::RequestView,
	ModelId, RequestId,
};
use consilience_runtime::{
	configs::governance::TreasuryAccount, AccountId, AllPalletsWithSystem, Babe, BabeConfig,
	Balance, Balances, BalancesConfig, BlockNumber, Executive, Hash, Header, Inference, Runtime,
	RuntimeCall, RuntimeEvent, RuntimeGenesisConfig, Session, SessionConfig, SessionKeys,
	StakingConfig, System, TransactionPayment, BABE_GENESIS_EPOCH_CONFIG, EPOCH_DURATION_IN_SLOTS,
	MILLISECS_PER_BLOCK, UNIT,
};
use polkadot_sdk::{
	frame_support::{
		dispatch::{DispatchClass, GetDispatchInfo},
		storage::with_transaction_unchecked,
		traits::{
			fungible::{Inspect, Mutate},
			tokens::Preservation,
			Authorize, Get, OnFinalize, OnIdle, OnInitialize,
		},
		weights::Weight,
	},
	frame_system, pallet_babe, pallet_session, pallet_staking, pallet_timestamp,
	sp_consensus_babe::{
		digests::{PreDigest, SecondaryPlainPreDigest, SecondaryVRFPreDigest},
		make_vrf_sign_data, AuthorityId, BABE_ENGINE_ID,
	},
	sp_core::{
		crypto::{Pair, VrfSecret},
		ed25519, sr25519, H256,
	},
	sp_crypto_hashing::blake2_256,
	sp_io::TestExternalities,
	sp_runtime::{
		traits::{Dispatchable, Header as _},
		transaction_validity::TransactionSource,
		BuildStorage, Digest, DigestItem, DispatchError, Perbill, TransactionOutcome,
	},
};

/// What a validator has at stake.
pub const STAKE: Balance = 1_000_000 * UNIT;
/// What the treasury has saved before the play.
pub const TREASURY: Balance = 5_000_000 * UNIT;
/// What the first account of the party has besides its stakes.
pub const PURSE: Balance = 5_000_000 * UNIT;
/// Price of a request.
pub const PRICE: Balance = UNIT;
/// What it costs a validator, on no chain, to answer. Less than the executor's share of the price.
pub const COST_OF_ANSWER: Balance = UNIT / 5;
/// What it costs a validator, on no chain, to measure.
pub const COST_OF_MEASURING: Balance = UNIT / 20;
/// Blocks by which finality lags: honest members reveal no earlier.
pub const FINALITY_LAG: BlockNumber = 2;
/// Probability of a check, in thousandths, of requests that are checked by chance.
pub const SAMPLING: u16 = 100;
/// Requesters of others.
const STRANGERS: u32 = 8;
/// Accounts of the party that hold no stake: as many as it takes to fill the chain with open requests.
const PURSES: u32 = 16;
/// Bytes of a signed transaction beside its call.
const ENVELOPE: u32 = 140;
const FIRST_SLOT: u64 = 1_000_000;

/// Requests that one account may have open, and all together.
pub fn most_open() -> (u32, u32) {
	(
		<Runtime as pallet_inference::Config>::MaxOpenPerAccount::get(),
		<Runtime as pallet_inference::Config>::MaxOpen::get(),
	)
}

/// Models of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
	/// A text model of the exact class that admits checks by chance.
	Text,
	/// A tensor model of the exact class: its executors commit to their output.
	Tensor,
	/// A text model that the party registers.
	Own,
}

impl Model {
	/// Its number on chain.
	pub fn id(self) -> ModelId {
		ModelId::repeat_byte(self as u8 + 1)
	}

	/// The model with this number.
	pub fn of(id: ModelId) -> Self {
		[Self::Text, Self::Tensor, Self::Own]
			.into_iter()
			.find(|m| m.id() == id)
			.unwrap_or(Self::Text)
	}

	/// What stands on chain about it.
	pub fn spec(self) -> ModelSpec {
		let tensor = self == Self::Tensor;
		ModelSpec {
			name: b"played".to_vec().try_into().expect("short; qed"),
			task: if tensor {
				Task::Tensor
			} else {
				Task::TextGeneration
			},
			chat: false,
			size: 1,
			limits: Limits {
				max_input_units: 200,
				max_output_units: 10,
			},
			// What the tools propose for a model of this kind.
			time: TimeLimit {
				base_blocks: 20,
				output_units_per_block: if tensor { 25_600 } else { 4 },
			},
			policy: VerificationPolicy {
				class: NumericClass::Exact,
				positions: 4,
				entries: 1,
				fraction_bits: 0,
				accept: Bounds::default(),
				fraud: Bounds::default(),
				min_verifiers: if self == Self::Own { 1 } else { 2 },
				min_sampling: SAMPLING,
			},
			signature: if tensor {
				vec![TensorSpec {
					name: b"x".to_vec().try_into().expect("short; qed"),
					datatype: DataType::Uint8,
					shape: vec![None].try_into().expect("short; qed"),
				}]
				.try_into()
				.expect("one; qed")
			} else {
				Default::default()
			},
			sampling: Default::default(),
			reference: Evidence {
				fingerprint: Fingerprint::Digest([7; 16]),
				verdict: Verdict::default(),
				prior: None,
			},
		}
	}

	/// What is asked of it; every number is another question.
	pub fn input(self, number: u32) -> Input {
		if self == Self::Tensor {
			let data = number.to_le_bytes().to_vec();
			return Input::Tensor(
				vec![tensor("x", data)]
					.try_into()
					.expect("one is in bounds; qed"),
			);
		}
		Input::TextGeneration {
			prompt: Prompt::Text(
				format!("question {number}")
					.into_bytes()
					.try_into()
					.expect("short; qed"),
			),
			sampling: Sampling {
				max_tokens: 4,
				..Default::default()
			},
		}
	}
}

/// A tensor of bytes.
pub fn tensor(name: &str, data: Vec<u8>) -> Tensor {
	Tensor {
		name: name.as_bytes().to_vec().try_into().expect("short; qed"),
		datatype: DataType::Uint8,
		shape: vec![data.len() as u32].try_into().expect("one; qed"),
		data: data.try_into().expect("short; qed"),
	}
}

/// A validator with its keys.
pub struct Validator {
	/// Its account, which holds the stake.
	pub account: AccountId,
	babe: sr25519::Pair,
	inference: InferencePair,
}

impl Validator {
	fn new(index: u32) -> (Self, SessionKeys) {
		let seed = (b"validator", index).using_encoded(blake2_256);
		let validator = Self {
			account: AccountId::from(seed),
			babe: sr25519::Pair::from_seed(&seed),
			inference: InferencePair::from_seed(&seed),
		};
		let keys = SessionKeys {
			babe: validator.babe.public().into(),
			grandpa: ed25519::Pair::from_seed(&seed).public().into(),
			authority_discovery: validator.babe.public().into(),
			inference: validator.inference.public(),
		};
		(validator, keys)
	}
}

/// What is due for a validator.
pub type Due = Duties<AccountId, BlockNumber>;

/// What members of a network see of a block: the events that matter to them.
#[derive(Clone, Default)]
pub struct Seen {
	/// Block since which evidence may be shown, by request.
	pub reveal_since: BTreeMap<RequestId, BlockNumber>,
	/// Answers that were not drawn for a check.
	pub unchecked: BTreeSet<RequestId>,
	/// Requests that wait for a draw: nobody is executor yet, or nobody verifies yet.
	pub undrawn: BTreeSet<RequestId>,
	/// Committees drawn in the last block.
	pub drawn: Vec<RequestId>,
	/// Whether anything happened to a request in the last block.
	pub happened: bool,
	/// Validators that were reported, with how often.
	pub troubled: BTreeMap<AccountId, u32>,
	/// Members that were replaced because they had not answered or measured in time, with how often.
	pub late: BTreeMap<AccountId, u32>,
	/// Answers that a jury found wrong, or could not decide on.
	pub rejected: BTreeSet<RequestId>,
}

/// What blocks cost: hooks, transactions and settlement, not what workers do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
	/// Time of execution, natively and on storage in memory.
	pub executing: Duration,
	/// Weight as the runtime counts it, in picoseconds. Blocks of the warm-up that are full by decree count as such.
	pub weight: u128,
}

/// A chain at the end of a block, or within one. Its storage is in the externalities.
#[derive(Clone)]
pub struct Chain {
	/// All validators, the party first.
	pub validators: Rc<Vec<Validator>>,
	/// How many of them are the party.
	pub party: usize,
	/// What the last blocks showed.
	pub seen: Seen,
	/// Who writes the present block.
	pub author: usize,
	/// What the blocks have cost so far.
	pub meter: Rc<Cell<Meter>>,
	seed: u64,
	number: BlockNumber,
	slot: u64,
	parent: Hash,
}

/// The account of requester `index` that is no party's.
pub fn stranger(index: u32) -> AccountId {
	AccountId::from((b"stranger", index % STRANGERS).using_encoded(blake2_256))
}

/// The account `index` of the party that holds no stake.
pub fn purse(index: u32) -> AccountId {
	AccountId::from((b"purse", index % PURSES).using_encoded(blake2_256))
}

/// Who registered the models that are not the party's.
fn owner() -> AccountId {
	AccountId::from((b"owner",).using_encoded(blake2_256))
}

/// What staking will take of a validator's own stake, or has taken.
fn pending_slash(who: &AccountId) -> Balance {
	pallet_staking::UnappliedSlashes::<Runtime>::iter_values()
		.flatten()
		.filter(|s| s.validator == *who)
		.map(|s| s.own)
		.sum()
}

/// A world before the play: a network in the middle of an era, with its models served.
pub struct World {
	ext: TestExternalities,
	chain: Chain,
}

impl World {
	/// `validators` of which the first `party` are one party.
	pub fn new(validators: usize, party: usize) -> Self {
		let (names, keys): (Vec<_>, Vec<_>) = (0..validators as u32).map(Validator::new).unzip();
		let mut balances: Vec<_> = names
			.iter()
			.map(|v| (v.account.clone(), 2 * STAKE))
			.collect();
		balances.extend((0..STRANGERS).map(|i| (stranger(i), STAKE)));
		balances.push((purse(0), PURSE));
		balances.extend((1..PURSES).map(|i| (purse(i), STAKE)));
		balances.extend([(owner(), STAKE), (TreasuryAccount::get(), TREASURY)]);
		let count = validators as u32;
		let genesis = RuntimeGenesisConfig {
			balances: BalancesConfig {
				balances,
				..Default::default()
			},
			babe: BabeConfig {
				epoch_config: BABE_GENESIS_EPOCH_CONFIG,
				..Default::default()
			},
			session: SessionConfig {
				keys: names
					.iter()
					.zip(keys)
					.map(|(v, k)| (v.account.clone(), v.account.clone(), k))
					.collect(),
				..Default::default()
			},
			staking: StakingConfig {
				validator_count: count,
				minimum_validator_count: 1,
				slash_reward_fraction: Perbill::from_percent(10),
				stakers: names
					.iter()
					.map(|v| {
						let account = v.account.clone();
						let role = pallet_staking::StakerStatus::Validator;
						(account.clone(), account, STAKE, role)
					})
					.collect(),
				..Default::default()
			},
			..Default::default()
		};
		let storage = genesis
			.build_storage()
			.expect("the configuration above is whole; qed");
		// Everything is kept in the overlay: reading it there is much cheaper than from a trie.
		let mut ext = TestExternalities::default();
		let mut chain = Chain {
			validators: Rc::new(names),
			party,
			seen: Seen::default(),
			author: 0,
			meter: Rc::default(),
			seed: 0,
			number: 0,
			slot: FIRST_SLOT,
			parent: Hash::repeat_byte(69),
		};
		ext.execute_with(|| {
			for (key, value) in storage.top {
				polkadot_sdk::sp_io::storage::set(&key, &value);
			}
			chain.warm_up();
		});
		Self { ext, chain }
	}

	/// Plays from here; whatever happens on the chain is undone at the end.
	pub fn play<R>(&mut self, seed: u64, play: impl FnOnce(Chain) -> R) -> R {
		let mut chain = self.chain.clone();
		chain.seed = seed;
		// Other slots, other VRFs.
		chain.slot += seed % 100;
		self.ext.execute_with(|| {
			with_transaction_unchecked(|| TransactionOutcome::Rollback(play(chain)))
		})
	}
}

impl Chain {
	/// Until the last but one session of an era, in which a validator can still say that it leaves.
	fn warm_up(&mut self) {
		System::set_block_number(0);
		self.block(|chain| {
			for model in [Model::Text, Model::Tensor] {
				chain
					.call(
						&owner(),
						pallet_model_registry::Call::register {
							model: model.id(),
							spec: model.spec(),
							price: price(),
						},
					)
					.expect("the owner has the deposit; qed");
			}
		});
		let sessions: u32 = <Runtime as pallet_staking::Config>::SessionsPerEra::get();
		loop {
			self.next_session();
			self.block(|chain| {
				for v in 0..chain.validators.len() {
					chain.serve_all(v, &[Model::Text, Model::Tensor]);
				}
			});
			let era = pallet_staking::ActiveEra::<Runtime>::get().map_or(0, |era| era.index);
			let start = pallet_staking::ErasStartSessionIndex::<Runtime>::get(era).unwrap_or(0);
			let session = pallet_session::CurrentIndex::<Runtime>::get();
			if era > 0 && session - start == sessions - 2 {
				break;
			}
		}
		for model in [Model::Text, Model::Tensor] {
			let details = pallet_model_registry::Models::<Runtime>::get(model.id());
			let active = consilience_primitives::model::ModelStatus::Active;
			assert!(
				details.is_some_and(|d| d.status == active),
				"{model:?} is not served: has the way to serve changed? See Chain::serve"
			);
		}
	}

	/// The block that is being built, or the last that was.
	pub fn number(&self) -> BlockNumber {
		self.number
	}

	/// Random bytes of this play for a purpose.
	pub fn random(&self, purpose: impl Encode) -> u64 {
		let hash = (self.seed, purpose).using_encoded(blake2_256);
		u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes; qed"))
	}

	/// Whether the validator is of the party.
	pub fn is_party(&self, who: &AccountId) -> bool {
		self.members().iter().any(|v| v.account == *who)
	}

	/// The party's validators.
	pub fn members(&self) -> &[Validator] {
		&self.validators[..self.party]
	}

	/// The author of a slot: its place among the authorities, and among the validators.
	fn author_of(&self, slot: u64, authorities: &[AuthorityId]) -> Option<(u32, usize)> {
		let place = self.random((b"author", slot)) % (authorities.len() as u64).max(1);
		let key = authorities.get(place as usize)?;
		let of = |v: &Validator| AuthorityId::from(v.babe.public()) == *key;
		let validator = self.validators.iter().position(of)?;
		Some((place as u32, validator))
	}

	fn epoch_of(&self, slot: u64) -> (Vec<AuthorityId>, [u8; 32], u64) {
		let current = Babe::current_epoch();
		let begun = *current.start_slot + current.duration;
		let epoch = if slot >= begun {
			Babe::next_epoch()
		} else {
			current
		};
		let first = *pallet_babe::GenesisSlot::<Runtime>::get();
		let index = slot.saturating_sub(first) / EPOCH_DURATION_IN_SLOTS;
		let keys = epoch.authorities.into_iter().map(|(key, _)| key).collect();
		(keys, epoch.randomness, index)
	}

	/// Who writes the block in the slot that comes next, if nobody holds it back.
	pub fn next_author(&self) -> Option<usize> {
		let (authorities, _, _) = self.epoch_of(self.slot);
		self.author_of(self.slot, &authorities).map(|(_, v)| v)
	}

	/// Who writes the block after that.
	pub fn author_after_next(&self) -> Option<usize> {
		let (authorities, _, _) = self.epoch_of(self.slot + 1);
		self.author_of(self.slot + 1, &authorities).map(|(_, v)| v)
	}

	/// Leaves the slot empty.
	pub fn skip(&mut self) {
		self.slot += 1;
	}

	/// Leaves the rest of the session's slots empty.
	pub fn next_session(&mut self) {
		let epoch = Babe::current_epoch();
		self.slot = (*epoch.start_slot + epoch.duration).max(self.slot + 1) + self.seed % 100;
	}

	/// Builds a block. Slots of disabled authors stay empty, also where they would be disabled at the beginning of their own block.
	pub fn block<R>(&mut self, transactions: impl FnOnce(&mut Self) -> R) -> R {
		while !self.begin() {
			self.slot += 1;
		}
		let now = pallet_timestamp::Call::set {
			now: self.slot * MILLISECS_PER_BLOCK,
		};
		RuntimeCall::from(now)
			.dispatch(frame_system::RawOrigin::None.into())
			.expect("slots only grow; qed");
		self.charge(Duration::ZERO, System::block_weight().total());
		let result = transactions(self);
		System::note_finished_extrinsics();
		let begun = Instant::now();
		let idle = Weight::from_parts(100_000_000_000, u64::MAX);
		let used = AllPalletsWithSystem::on_idle(self.number, idle);
		AllPalletsWithSystem::on_finalize(self.number);
		self.charge(begun.elapsed(), used);
		self.parent =
			H256((self.seed, self.number, self.slot, self.parent).using_encoded(blake2_256));
		self.slot += 1;
		self.look();
		result
	}

	fn charge(&self, time: Duration, weight: Weight) {
		let mut meter = self.meter.get();
		meter.executing += time;
		meter.weight += u128::from(weight.ref_time());
		self.meter.set(meter);
	}

	/// Charges a transaction: what its call took, and what every transaction takes.
	fn charge_transaction(&self, time: Duration, weight: Weight, class: DispatchClass) {
		let limits = <Runtime as frame_system::Config>::BlockWeights::get();
		self.charge(time, weight + limits.get(class).base_extrinsic);
	}

	/// Begins a block in this slot. `false`, and nothing changed, where its author may not write one.
	fn begin(&mut self) -> bool {
		let (authorities, randomness, epoch) = self.epoch_of(self.slot);
		let Some((place, author)) = self.author_of(self.slot, &authorities) else {
			return false;
		};
		let digest = if self.number == 0 {
			// The first block's slot decides when the first epoch begins, which is not known before.
			PreDigest::SecondaryPlain(SecondaryPlainPreDigest {
				authority_index: place,
				slot: self.slot.into(),
			})
		} else {
			let data = make_vrf_sign_data(&randomness, self.slot.into(), epoch);
			PreDigest::SecondaryVRF(SecondaryVRFPreDigest {
				authority_index: place,
				slot: self.slot.into(),
				vrf_signature: self.validators[author].babe.vrf_sign(&data),
			})
		};
		let header = Header::new(
			self.number + 1,
			Default::default(),
			Default::default(),
			self.parent,
			Digest {
				logs: vec![DigestItem::PreRuntime(BABE_ENGINE_ID, digest.encode())],
			},
		);
		let clock = Instant::now();
		let begun = with_transaction_unchecked(|| {
			Executive::initialize_block(&header);
			if Session::disabled_validators().contains(&place) {
				TransactionOutcome::Rollback(false)
			} else {
				TransactionOutcome::Commit(true)
			}
		});
		if begun {
			self.charge(clock.elapsed(), Weight::zero());
			self.number += 1;
			self.author = author;
		}
		begun
	}

	/// Builds a block in which nothing is due but a request's deadline: only the pallet of requests looks at it. There is no VRF in it, and
	/// nothing may wait for a draw.
	pub fn quiet_block(&mut self) {
		self.number += 1;
		System::reset_events();
		System::initialize(&self.number, &self.parent, &Digest::default());
		Inference::on_initialize(self.number);
		System::note_finished_extrinsics();
		Inference::on_finalize(self.number);
		self.parent =
			H256((self.seed, self.number, self.slot, self.parent).using_encoded(blake2_256));
		self.slot += 1;
		self.look();
	}

	/// Remembers what the block's events say.
	fn look(&mut self) {
		use pallet_inference::Event::*;
		let seen = &mut self.seen;
		seen.drawn.clear();
		seen.happened = false;
		for record in System::read_events_no_consensus() {
			let RuntimeEvent::Inference(event) = record.event else {
				continue;
			};
			seen.happened = true;
			match event {
				RequestSubmitted { request, .. } => {
					seen.undrawn.insert(request);
				}
				AnswerPosted { request, .. } | OutputCommitted { request, .. } => {
					seen.undrawn.insert(request);
				}
				ExecutorDrawn { request, .. } => {
					seen.undrawn.remove(&request);
				}
				CommitteeDrawn { request, .. } => {
					seen.undrawn.remove(&request);
					seen.reveal_since.remove(&request);
					seen.drawn.push(request);
				}
				NotChecked { request, .. } => {
					seen.undrawn.remove(&request);
					seen.unchecked.insert(request);
				}
				RequestDisputed { request } => {
					seen.reveal_since.remove(&request);
					seen.unchecked.remove(&request);
					seen.undrawn.insert(request);
				}
				JuryDrawn { request, .. } => {
					seen.undrawn.remove(&request);
				}
				RevealStarted { request, .. } => {
					seen.reveal_since.insert(request, self.number);
				}
				OffenceReported { offender, .. } => {
					*seen.troubled.entry(offender).or_default() += 1;
				}
				ExecutorReplaced { executor: who, .. }
				| VerifierReplaced { verifier: who, .. }
				| ExecutorSilent { executor: who, .. } => {
					*seen.late.entry(who).or_default() += 1;
				}
				RequestRejected { request, .. } => {
					seen.rejected.insert(request);
				}
				RequestFinal { request, .. }
				| RequestExpired { request, .. }
				| RequestCancelled { request, .. } => {
					seen.undrawn.remove(&request);
					seen.unchecked.remove(&request);
				}
				_ => (),
			}
		}
	}

	/// Has an account make a call, and pay what a transaction with it costs.
	pub fn call(&self, who: &AccountId, call: impl Into<RuntimeCall>) -> Result<(), DispatchError> {
		let call = call.into();
		let info = call.get_dispatch_info();
		let bytes = call.encoded_size() as u32 + ENVELOPE;
		let fee = TransactionPayment::compute_fee(bytes, &info, 0);
		let begun = Instant::now();
		Balances::transfer(who, &TreasuryAccount::get(), fee, Preservation::Preserve)?;
		let done = call.dispatch(frame_system::RawOrigin::Signed(who.clone()).into());
		let post = done.as_ref().unwrap_or_else(|e| &e.post_info);
		let weight = info.extension_weight + post.calc_actual_weight(&info);
		self.charge_transaction(begun.elapsed(), weight, info.class);
		done.map(|_| ()).map_err(|e| e.error)
	}

	/// Has an account ask. Gives the request's number.
	pub fn ask(
		&self,
		who: &AccountId,
		model: Model,
		number: u32,
		assurance: Assurance,
		tip: Balance,
	) -> Result<RequestId, DispatchError> {
		let next = pallet_inference::NextRequest::<Runtime>::get();
		self.call(
			who,
			pallet_inference::Call::request {
				model: model.id(),
				input: model.input(number),
				assurance,
				fee_limit: tip + 100 * PRICE,
				tip,
			},
		)?;
		Ok(next)
	}

	/// Has an account take its request back.
	pub fn cancel(&self, who: &AccountId, request: RequestId) -> Result<(), DispatchError> {
		self.call(who, pallet_inference::Call::cancel { request })
	}

	/// Has an account appeal.
	pub fn appeal(&self, who: &AccountId, request: RequestId) -> Result<(), DispatchError> {
		self.call(who, pallet_inference::Call::appeal { request })
	}

	/// Has a validator say that it wants to be elected no more.
	pub fn chill(&self, validator: usize) -> Result<(), DispatchError> {
		let who = self.validators[validator].account.clone();
		self.call(&who, pallet_staking::Call::chill {})
	}

	/// Has an account of the party register its model.
	pub fn register_own(&self) -> Result<(), DispatchError> {
		self.call(
			&purse(0),
			pallet_model_registry::Call::register {
				model: Model::Own.id(),
				spec: Model::Own.spec(),
				price: price(),
			},
		)
	}

	/// What is due for a validator; nothing where it is not in the session.
	pub fn duties(&self, validator: usize) -> Option<Due> {
		Inference::duties(&self.validators[validator].inference.public())
	}

	/// Has a validator contribute to the tosses that ask for it.
	pub fn contribute(&self, validator: usize) {
		let pair = &self.validators[validator].inference;
		let key = pair.public();
		for due in Inference::contributions_due_in(self.number, &key) {
			let parent = due.parent.unwrap_or_else(System::parent_hash);
			let data = contribution::input(&System::block_hash(0), &parent);
			let signed = sr25519::Pair::from(pair.clone()).vrf_sign(&data);
			let contribution = Contribution::new(due.block, key.clone(), &signed);
			self.say(pallet_inference::Call::contribute { contribution }.into());
		}
	}

	/// Whether a validator was drawn for a toss in this block and has not contributed.
	pub fn is_asked(&self, validator: usize) -> bool {
		let key = self.validators[validator].inference.public();
		!Inference::contributions_due_in(self.number, &key).is_empty()
	}

	/// Whether strangers would be drawn to check one of these answers if these validators contributed and the block ended.
	pub fn would_draw_strangers(&self, validators: usize, answers: &BTreeSet<RequestId>) -> bool {
		let watched = |id: &RequestId| {
			let view = self.view(*id);
			view.is_some_and(|view| view.verifiers.iter().any(|who| !self.is_party(who)))
		};
		let before: Vec<_> = answers.iter().filter(|id| !watched(id)).collect();
		with_transaction_unchecked(|| {
			let meter = self.meter.get();
			(0..validators).for_each(|validator| self.contribute(validator));
			Inference::on_finalize(self.number);
			self.meter.set(meter);
			TransactionOutcome::Rollback(before.into_iter().any(watched))
		})
	}

	/// What the engine needs for a request.
	pub fn work(&self, request: RequestId) -> Option<Work> {
		Inference::work(request)
	}

	/// A request as readers see it.
	pub fn view(&self, request: RequestId) -> Option<RequestView<AccountId, BlockNumber, Balance>> {
		Inference::request_view(request)
	}

	/// The statement with which a validator begins to serve a model.
	pub fn serve(&self, model: Model) -> Statement {
		Statement::Serve {
			model: model.id(),
			evidence: model.spec().reference,
			speed: Speed::default(),
		}
	}

	/// Has a validator serve these models.
	fn serve_all(&self, validator: usize, models: &[Model]) {
		let Some(duties) = self.duties(validator) else {
			return;
		};
		let statements: Vec<_> = models
			.iter()
			.filter(|m| !duties.serving.contains(&m.id()))
			.map(|m| self.serve(*m))
			.collect();
		self.report(validator, &duties, statements);
	}

	/// Has a validator say this, without what a block's author would not let in: workers part the one from the other in the same way.
	pub fn report(&self, validator: usize, duties: &Due, statements: Vec<Statement>) {
		if statements.is_empty() {
			return;
		}
		let most = consilience_primitives::report::MAX_STATEMENTS as usize;
		let all = &statements[..statements.len().min(most)];
		let call = self.signed(validator, duties, all);
		if self.say(call) {
			return;
		}
		let mut good = Vec::new();
		self.sift(validator, duties, all, &mut good);
		if !good.is_empty() {
			self.say(self.signed(validator, duties, &good));
		}
	}

	/// Parts what is let in from what is not, halving as long as there is any of both.
	fn sift(
		&self,
		validator: usize,
		duties: &Due,
		statements: &[Statement],
		good: &mut Vec<Statement>,
	) {
		if statements.len() < 2 {
			return;
		}
		let (first, second) = statements.split_at(statements.len() / 2);
		for half in [first, second] {
			let call = self.signed(validator, duties, half);
			if matches!(call.authorize(TransactionSource::External), Some(Ok(_))) {
				good.extend_from_slice(half);
			} else {
				self.sift(validator, duties, half, good);
			}
		}
	}

	/// A validator's report.
	fn signed(&self, validator: usize, duties: &Due, statements: &[Statement]) -> RuntimeCall {
		let report = Report {
			session: duties.session,
			validator: duties.index,
			at: self.number - 1,
			statements: statements
				.to_vec()
				.try_into()
				.expect("within the bound; qed"),
		};
		let payload = report.payload(&System::block_hash(0), &System::block_hash(report.at));
		let signature = self.validators[validator].inference.sign(&payload);
		RuntimeCall::from(pallet_inference::Call::report { report, signature })
	}

	/// Puts a report into the block, if it is let in.
	fn say(&self, call: RuntimeCall) -> bool {
		let info = call.get_dispatch_info();
		let begun = Instant::now();
		if !matches!(call.authorize(TransactionSource::External), Some(Ok(_))) {
			return false;
		}
		let authorizing = call.weight_of_authorize();
		let done = call.dispatch(frame_system::RawOrigin::Authorized.into());
		let post = done.as_ref().unwrap_or_else(|e| &e.post_info);
		let weight = authorizing + post.calc_actual_weight(&info);
		self.charge_transaction(begun.elapsed(), weight, info.class);
		done.is_ok()
	}

	/// What the party owns: everything in its accounts, held or not, less what staking will take of it.
	pub fn wealth(&self) -> Balance {
		let stakes = self.members().iter().map(|v| v.account.clone());
		let all: Balance = stakes
			.chain((0..PURSES).map(purse))
			.map(|who| Balances::total_balance(&who))
			.sum();
		all.saturating_add(self.owed())
			.saturating_sub(self.party_slashed())
	}

	/// What comes back to the party out of slashes that are not applied yet.
	fn owed(&self) -> Balance {
		pallet_inference::Claims::<Runtime>::iter()
			.map(|(offender, _, claim)| {
				let most = pallet_inference::features::claim::CLAIMS_SHARE
					.mul_floor(pending_slash(&offender));
				let ours = claim.owed.iter().filter(|(who, _)| self.is_party(who));
				ours.map(|(_, amount)| *amount).sum::<Balance>().min(most)
			})
			.sum()
	}

	/// Checks the invariants of what the pallets store, beside real staking.
	pub fn check(&self) {
		for checked in [
			pallet_inference::Pallet::<Runtime>::do_try_state(),
			pallet_model_registry::Pallet::<Runtime>::do_try_state(),
		] {
			if let Err(e) = checked {
				panic!("#{}: {e:?}", self.number);
			}
		}
	}

	/// What staking takes of the party, as far as it is known.
	pub fn party_slashed(&self) -> Balance {
		self.members()
			.iter()
			.map(|v| pending_slash(&v.account))
			.sum()
	}

	/// What staking takes of everybody else.
	pub fn honest_slashed(&self) -> Balance {
		self.validators[self.party..]
			.iter()
			.map(|v| pending_slash(&v.account))
			.sum()
	}

	/// What the treasury has.
	pub fn treasury(&self) -> Balance {
		Balances::total_balance(&TreasuryAccount::get())
	}

	/// Tries a block: it is undone where `keep` says no.
	pub fn attempt(
		&mut self,
		block: impl FnOnce(&mut Self),
		keep: impl FnOnce(&Self) -> bool,
	) -> bool {
		let before = self.clone();
		let kept = with_transaction_unchecked(|| {
			block(self);
			if keep(self) {
				TransactionOutcome::Commit(true)
			} else {
				TransactionOutcome::Rollback(false)
			}
		});
		if !kept {
			*self = before;
		}
		kept
	}
}

/// What models cost.
pub fn price() -> Price<Balance> {
	Price {
		per_request: PRICE,
		per_input_unit: 0,
		per_output_unit: 0,
	}
}
