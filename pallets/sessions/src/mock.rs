//! A runtime with balances, models and this pallet. Sessions, randomness and measurements are doubles that tests set.

use std::{
	cell::{Cell, RefCell},
	collections::HashMap,
};

use codec::{Compact, Encode};
use consilience_primitives::{
	crypto::{InferenceId, InferencePair, InferenceSignature},
	evidence::{Evidence, Fingerprint, Verdict},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	request::{FinishReason, Input, Output, Prompt, Sampling},
	session::{
		steps, Anchor, Appealed, Ask, Certificate, ChannelId, Claim, ClaimId, LaneKey, Opening,
		Place, Receipt, Service, Signable, Signed, SumNode, Transcript, Verdict as Found, Voucher,
		MAX_NUMBER,
	},
	ModelId, RequestId,
};
use pallet_inference::{
	Answered, AuditAnswers, DrawBeacon, OnSettled, SessionValidators, Settled, Standing, Unheard,
};
use polkadot_sdk::{
	frame_support::{
		self, assert_ok, derive_impl,
		dispatch::DispatchErrorWithPostInfo,
		parameter_types,
		traits::{fungible::MutateHold, tokens::Precision, Authorize, Hooks},
		weights::Weight,
	},
	frame_system, pallet_balances,
	sp_core::{sr25519, Pair, H256},
	sp_crypto_hashing::blake2_256,
	sp_io,
	sp_keystore::{testing::MemoryKeystore, KeystoreExt},
	sp_runtime::{
		traits::{Dispatchable, IdentityLookup},
		transaction_validity::{InvalidTransaction, TransactionSource, TransactionValidityError},
		BuildStorage, DispatchError, Perbill,
	},
};

use crate::{Channels, Claims, Event};

pub(crate) type Extrinsic = frame_system::mocking::MockUncheckedExtrinsic<Test>;
type Block = frame_system::mocking::MockBlock<Test>;

frame_support::construct_runtime!(
	pub enum Test {
		System: frame_system,
		Balances: pallet_balances,
		ModelRegistry: pallet_model_registry,
		Sessions: crate,
	}
);

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = Block;
	type AccountId = u64;
	type Lookup = IdentityLookup<u64>;
	type AccountData = pallet_balances::AccountData<u64>;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
	type AccountStore = System;
	type ExistentialDeposit = ExistentialDeposit;
}

parameter_types! {
	pub const ExistentialDeposit: u64 = 10;
	pub const DepositBase: u64 = 1_000;
	pub const DepositPerByte: u64 = 0;
	pub const MinServing: u32 = 3;
	pub const MaxServing: u32 = 64;
	pub const ServingGrace: u64 = 200;
	pub const MaxServed: u32 = 4;
	pub const MaxModels: u32 = 4;
	pub const RemovalDelay: u64 = 0;
	pub const Treasury: u64 = TREASURY;
	pub const JuryFund: u64 = FUND;
	pub const TreasuryShare: Perbill = Perbill::from_percent(10);
	pub const AuditShare: Perbill = Perbill::from_percent(5);
	pub static PointInterval: u64 = 1_000;
	pub const MinAllocation: u64 = 100;
	pub const MinClaim: u64 = 50;
	pub const Notice: u64 = 10;
	pub const OpeningBlocks: u64 = 8;
	pub const ClaimBlocks: u32 = 20;
	pub const AppealBlocks: u64 = 200;
	pub const UnauditedShare: Perbill = Perbill::from_percent(50);
	pub const CertificateSessions: u32 = 3;
	pub const MaxChannels: u32 = 3;
	pub static MaxCheckers: u32 = 3;
	pub static MaxDraws: u32 = 8;
	pub static MaxPerBlock: u32 = 8;
	pub const Longevity: u64 = 64;
	pub const Priority: u64 = 1_000;
}

impl pallet_model_registry::Config for Test {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type DepositBase = DepositBase;
	type DepositPerByte = DepositPerByte;
	type MinServing = MinServing;
	type MaxServing = MaxServing;
	type ServingGrace = ServingGrace;
	type MaxServed = MaxServed;
	type MaxModels = MaxModels;
	type RemovalDelay = RemovalDelay;
	type WeightInfo = pallet_model_registry::weights::SubstrateWeight<Test>;
}

impl crate::Config for Test {
	type Validators = Doubles;
	type Beacon = Doubles;
	type Audits = Doubles;
	type Stake = Doubles;
	type UnauditedShare = UnauditedShare;
	type Treasury = Treasury;
	type JuryFund = JuryFund;
	type TreasuryShare = TreasuryShare;
	type AuditShare = AuditShare;
	type PointInterval = PointInterval;
	type MinAllocation = MinAllocation;
	type MinClaim = MinClaim;
	type Notice = Notice;
	type OpeningBlocks = OpeningBlocks;
	type AppealBlocks = AppealBlocks;
	type ClaimBlocks = ClaimBlocks;
	type CertificateSessions = CertificateSessions;
	type MaxChannels = MaxChannels;
	type MaxCheckers = MaxCheckers;
	type MaxDraws = MaxDraws;
	type MaxPerBlock = MaxPerBlock;
	type Longevity = Longevity;
	type Priority = Priority;
	type WeightInfo = crate::weights::SubstrateWeight<Test>;
}

impl frame_system::offchain::CreateTransactionBase<crate::Call<Test>> for Test {
	type RuntimeCall = RuntimeCall;
	type Extrinsic = Extrinsic;
}

impl frame_system::offchain::CreateTransaction<crate::Call<Test>> for Test {
	type Extension = ();

	fn create_transaction(call: RuntimeCall, _extension: ()) -> Extrinsic {
		Extrinsic::new_transaction(call, ())
	}
}

impl frame_system::offchain::CreateAuthorizedTransaction<crate::Call<Test>> for Test {
	fn create_extension() -> Self::Extension {}
}

thread_local! {
	static SESSION: Cell<u32> = const { Cell::new(0) };
	static VRF: Cell<bool> = const { Cell::new(true) };
	static BEACON: RefCell<Vec<(u64, H256)>> = const { RefCell::new(Vec::new()) };
	static SALT: Cell<u64> = const { Cell::new(0) };
	static AUDITED: RefCell<Vec<Answered<u64>>> = const { RefCell::new(Vec::new()) };
	#[cfg(feature = "runtime-benchmarks")]
	static BENCHMARKED: RefCell<Vec<(u64, InferenceId)>> = const { RefCell::new(Vec::new()) };
	static NOT_SHOWN: RefCell<Vec<(u64, u64, u32)>> = const { RefCell::new(Vec::new()) };
	static APPEALED: RefCell<Vec<(RequestId, u64)>> = const { RefCell::new(Vec::new()) };
	static STANDING: RefCell<Vec<Standing>> = const { RefCell::new(Vec::new()) };
	static TESTIFIED: RefCell<Vec<(H256, u64, u32, Verdict)>> = const { RefCell::new(Vec::new()) };
	static DEAF: Cell<Option<Unheard>> = const { Cell::new(None) };
	static STAKES: RefCell<HashMap<(u64, u32), u64>> = RefCell::new(HashMap::new());
}

/// What an appeal puts at stake. The double takes it and gives it back when told.
pub(crate) const BOND: u64 = 500;

/// Whoever asks [`AuditAnswers`] that an answer is measured again.
fn show(answer: Answered<u64>) -> RequestId {
	STANDING.with_borrow_mut(|all| all.push(Standing::Measured));
	AUDITED.with_borrow_mut(|all| {
		all.push(answer);
		all.len() as u64 - 1
	})
}

/// Has this become of an answer.
pub(crate) fn set_standing(request: RequestId, standing: Standing) {
	STANDING.with_borrow_mut(|all| all[request as usize] = standing);
}

/// Answers that were put before a jury, and by whom.
pub(crate) fn appealed() -> Vec<(RequestId, u64)> {
	APPEALED.with_borrow(Clone::clone)
}

/// What was heard: of which receipt, of whom, of which session, and what.
pub(crate) fn testified() -> Vec<(H256, u64, u32, Verdict)> {
	TESTIFIED.with_borrow(Clone::clone)
}

/// Why nothing is heard from now on.
pub(crate) fn set_deaf(why: Option<Unheard>) {
	DEAF.set(why);
}

/// Has so much stand behind a validator in a session: otherwise it is a million.
pub(crate) fn set_stake(validator: u64, session: u32, stake: u64) {
	STAKES.with_borrow_mut(|all| all.insert((validator, session), stake));
}

impl crate::SlashableStake<u64, u64> for Doubles {
	fn slashable(validator: &u64, session: u32) -> u64 {
		let stake = STAKES.with_borrow(|all| all.get(&(*validator, session)).copied());
		stake.unwrap_or(1_000_000)
	}

	fn weight() -> Weight {
		Weight::zero()
	}

	#[cfg(feature = "runtime-benchmarks")]
	fn set(validator: &u64, session: u32, amount: u64) {
		set_stake(*validator, session, amount);
	}
}

/// In place of `pallet-inference`.
pub struct Doubles;

impl SessionValidators<u64> for Doubles {
	fn session() -> u32 {
		SESSION.get()
	}

	#[cfg(feature = "runtime-benchmarks")]
	fn set(validators: Vec<(u64, InferenceId)>) {
		BENCHMARKED.set(validators);
	}

	fn at(index: u32) -> Option<(u64, InferenceId)> {
		#[cfg(feature = "runtime-benchmarks")]
		if let Some(set) = BENCHMARKED.with_borrow(|all| all.get(index as usize).cloned()) {
			return Some(set);
		}
		let who = *VALIDATORS.get(index as usize)?;
		Some((who, infr(who).public()))
	}

	fn with_key(key: &InferenceId) -> Option<(u32, u64)> {
		(0..)
			.zip(VALIDATORS)
			.find(|(_, who)| infr(*who).public() == *key)
	}

	fn contains(who: &u64) -> bool {
		VALIDATORS.contains(who)
	}
}

/// Blocks of a window.
pub(crate) const WINDOW: u64 = 3;

impl DrawBeacon<u64> for Doubles {
	fn blocks(choice: u32) -> u8 {
		assert_eq!(choice, ClaimBlocks::get());
		WINDOW as u8
	}

	fn mixed(from: u64, blocks: u8) -> Option<H256> {
		BEACON.with_borrow(|beacon| {
			let mixed: Vec<_> = beacon
				.iter()
				.filter(|(at, _)| *at >= from)
				.take(blocks.into())
				.collect();
			(mixed.len() == usize::from(blocks)).then(|| H256(mixed.using_encoded(blake2_256)))
		})
	}
}

impl AuditAnswers<u64> for Doubles {
	fn audit(answer: Answered<u64>) -> Result<RequestId, DispatchError> {
		Ok(show(answer))
	}

	fn appeal(who: u64, answer: Answered<u64>) -> Result<RequestId, DispatchError> {
		let reason = &crate::HoldReason::Channel.into();
		// It is only seen whether the money is there.
		Balances::hold(reason, &who, BOND)?;
		Balances::release(reason, &who, BOND, Precision::Exact)?;
		let request = show(answer);
		APPEALED.with_borrow_mut(|all| all.push((request, who)));
		Ok(request)
	}

	fn standing(reference: &H256) -> Option<(RequestId, Standing)> {
		let last =
			AUDITED.with_borrow(|all| all.iter().rposition(|a| a.reference == *reference))?;
		Some((last as u64, STANDING.with_borrow(|all| all[last])))
	}

	fn may_testify(
		reference: &H256,
		_checker: &u64,
		_session: u32,
		_verdict: &Verdict,
	) -> Result<(), Unheard> {
		Self::standing(reference).ok_or(Unheard::UnknownAnswer)?;
		DEAF.get().map_or(Ok(()), Err)
	}

	fn testify(
		reference: &H256,
		checker: &u64,
		session: u32,
		verdict: &Verdict,
	) -> Result<(), Unheard> {
		Self::may_testify(reference, checker, session, verdict)?;
		TESTIFIED.with_borrow_mut(|all| all.push((*reference, *checker, session, *verdict)));
		Ok(())
	}

	fn not_shown(reference: u64, executor: &u64, session: u32) {
		NOT_SHOWN.with_borrow_mut(|all| all.push((reference, *executor, session)));
	}
}

/// Answers that were handed over to be measured.
pub(crate) fn audited() -> Vec<Answered<u64>> {
	AUDITED.with_borrow(Clone::clone)
}

/// Claims whose receipts were not shown, with payee and session.
pub(crate) fn not_shown() -> Vec<(ClaimId, u64, u32)> {
	NOT_SHOWN.with_borrow(Clone::clone)
}

/// Tells that an answer was measured.
pub(crate) fn tell(request: RequestId, stands: bool) {
	let (settled, standing) = if stands {
		(Settled::Stands, Standing::Stands)
	} else {
		(Settled::Overturned, Standing::False)
	};
	set_standing(request, standing);
	Sessions::on_settled(request, &ALICE, &settled).unwrap();
}

/// Whether blocks carry randomness from now on.
pub(crate) fn set_vrf(on: bool) {
	VRF.set(on);
}

/// Other randomness from now on.
pub(crate) fn set_salt(salt: u64) {
	SALT.set(salt);
}

pub(crate) fn next_session() {
	SESSION.set(SESSION.get() + 1);
}

pub(crate) fn session() -> u32 {
	SESSION.get()
}

pub(crate) const TREASURY: u64 = 999;
pub(crate) const FUND: u64 = 998;
pub(crate) const OWNER: u64 = 900;
/// Clients with money.
pub(crate) const ALICE: u64 = 1;
pub(crate) const BOB: u64 = 2;

/// Validators of the mock.
pub(crate) const VALIDATORS: [u64; 5] = [101, 102, 103, 104, 105];
/// Those who answer, and one who checks.
pub(crate) const EXECUTOR: u64 = VALIDATORS[0];
pub(crate) const OTHER: u64 = VALIDATORS[1];
pub(crate) const CHECKER: u64 = VALIDATORS[2];

pub(crate) fn model() -> ModelId {
	ModelId::repeat_byte(1)
}

pub(crate) fn infr(validator: u64) -> InferencePair {
	InferencePair::from_seed(&H256::from_low_u64_be(validator).0)
}

/// A validator's lane key.
pub(crate) fn lane(validator: u64) -> sr25519::Pair {
	sr25519::Pair::from_seed(&blake2_256(&(b"lane", validator).encode()))
}

/// The signing key of an account's channels.
pub(crate) fn key(owner: u64) -> sr25519::Pair {
	sr25519::Pair::from_seed(&blake2_256(&(b"channel", owner).encode()))
}

pub(crate) fn genesis() -> H256 {
	System::block_hash(0)
}

/// Signs with this key.
pub(crate) fn sign<S: Signable>(body: S, pair: &sr25519::Pair) -> Signed<S> {
	Signed {
		signature: pair.sign(&body.payload(&genesis())),
		body,
	}
}

fn digest() -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([7; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

pub(crate) fn spec() -> ModelSpec {
	ModelSpec {
		name: b"test".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		chat: false,
		size: 1,
		limits: Limits {
			max_input_units: 200,
			max_output_units: 500,
		},
		time: TimeLimit {
			base_blocks: 3,
			output_units_per_block: 10,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 4,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 2,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: digest(),
	}
}

pub(crate) fn price() -> Price<u64> {
	Price {
		per_request: 20,
		per_input_unit: 1,
		per_output_unit: 2,
	}
}

/// Clients with 1,000,000 each.
pub(crate) fn bare() -> sp_io::TestExternalities {
	let mut storage = frame_system::GenesisConfig::<Test>::default()
		.build_storage()
		.unwrap();
	let mut balances: Vec<_> = [ALICE, BOB, OWNER].map(|n| (n, 1_000_000)).into();
	balances.extend(VALIDATORS.map(|v| (v, 1_000)));
	balances.push((TREASURY, 1_000));
	balances.push((FUND, 1_000));
	pallet_balances::GenesisConfig::<Test> {
		balances,
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	SESSION.set(0);
	VRF.set(true);
	SALT.set(0);
	BEACON.take();
	AUDITED.take();
	NOT_SHOWN.take();
	APPEALED.take();
	STANDING.take();
	TESTIFIED.take();
	DEAF.set(None);
	STAKES.take();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.register_extension(KeystoreExt::new(MemoryKeystore::new()));
	ext
}

/// A model that all validators serve, each with a certificate.
pub(crate) fn externalities() -> sp_io::TestExternalities {
	let mut ext = bare();
	ext.execute_with(|| {
		System::set_block_number(1);
		frame_system::BlockHash::<Test>::insert(0, H256::repeat_byte(0xaa));
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(OWNER),
			model(),
			spec(),
			price()
		));
		for v in VALIDATORS {
			assert_ok!(ModelRegistry::serve(
				&v,
				model(),
				&digest(),
				Speed::default()
			));
		}
		certify_all();
		next_block();
	});
	ext
}

/// Storage is checked at the end.
pub(crate) fn run(test: impl FnOnce()) {
	externalities().execute_with(|| {
		test();
		check();
	});
}

pub(crate) fn check() {
	ModelRegistry::do_try_state().unwrap();
	Sessions::do_try_state().unwrap();
}

/// Ends the block and begins the next.
pub(crate) fn next_block() {
	let now = System::block_number();
	if VRF.get() {
		let random = H256((SALT.get(), now).using_encoded(blake2_256));
		BEACON.with_borrow_mut(|beacon| {
			beacon.push((now, random));
			if beacon.len() > 12 {
				beacon.remove(0);
			}
		});
	}
	Sessions::on_finalize(now);
	let hash = H256(now.using_encoded(blake2_256));
	frame_system::BlockHash::<Test>::insert(now, hash);
	System::set_block_number(now + 1);
	Sessions::on_initialize(now + 1);
}

pub(crate) fn blocks(n: u64) {
	(0..n).for_each(|_| next_block());
}

/// Blocks after which what waits now was drawn for.
pub(crate) fn drawn() {
	blocks(2 * WINDOW);
}

/// Sends a transaction that is authorised by its content: let in as an author would let it in, and executed.
pub(crate) fn send(call: crate::Call<Test>) -> Result<(), Refused> {
	let call = RuntimeCall::Sessions(call);
	match call.authorize(TransactionSource::External) {
		Some(Ok(_)) => (),
		Some(Err(TransactionValidityError::Invalid(invalid))) => return Err(invalid.into()),
		other => panic!("{other:?}"),
	}
	let done = call.dispatch(frame_system::RawOrigin::Authorized.into());
	done.map(|_| ())
		.map_err(|DispatchErrorWithPostInfo { error, .. }| Refused::Failed(error))
}

/// Why a transaction came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
	/// At the border, for the reason at this place among the errors.
	Custom(u8),
	/// At the border, for another reason.
	Invalid(InvalidTransaction),
	/// In the block.
	Failed(DispatchError),
}

impl From<InvalidTransaction> for Refused {
	fn from(invalid: InvalidTransaction) -> Self {
		match invalid {
			InvalidTransaction::Custom(place) => Self::Custom(place),
			other => Self::Invalid(other),
		}
	}
}

/// At the border, for this reason.
pub(crate) fn refused(error: crate::Error<Test>) -> Result<(), Refused> {
	Err(crate::features::refusal(error.into()).into())
}

/// A validator's certificate of the present session.
pub(crate) fn certificate(validator: u64) -> Certificate {
	let due = Sessions::certificate_due(&infr(validator).public()).unwrap();
	Certificate {
		session: due.session,
		validator: due.index,
		key: lane(validator).public(),
		endpoint: b"wss://example.org".to_vec().try_into().unwrap(),
	}
}

pub(crate) fn certify(by: u64, certificate: Certificate) -> Result<(), Refused> {
	let signature: InferenceSignature = infr(by).sign(&certificate.payload(&genesis()));
	send(crate::Call::certify {
		certificate,
		signature,
	})
}

pub(crate) fn certify_all() {
	for v in VALIDATORS {
		assert_eq!(certify(v, certificate(v)), Ok(()));
	}
}

pub(crate) fn chain() -> H256 {
	steps(&H256::repeat_byte(5), MAX_NUMBER)
}

pub(crate) fn try_open(
	owner: u64,
	allocations: &[(u64, u64)],
	pot: u64,
) -> Result<ChannelId, DispatchError> {
	let id = crate::NextChannel::<Test>::get();
	Sessions::open(
		RuntimeOrigin::signed(owner),
		key(owner).public(),
		chain(),
		allocations.to_vec().try_into().unwrap(),
		pot,
	)
	.map(|()| id)
}

/// A channel that can be used.
pub(crate) fn open(owner: u64, allocations: &[(u64, u64)], pot: u64) -> ChannelId {
	let id = try_open(owner, allocations, pot).unwrap();
	drawn();
	assert!(Channels::<Test>::get(id).unwrap().seed.is_some());
	id
}

/// An answer of so many tokens that was paid up to `seen` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
	pub(crate) number: u32,
	pub(crate) tokens: u32,
	pub(crate) seen: u32,
}

/// Answers that were paid for in full.
pub(crate) fn answers(first: u32, tokens: &[u32]) -> Vec<Answer> {
	(first..)
		.zip(tokens)
		.map(|(number, tokens)| Answer {
			number,
			tokens: *tokens,
			seen: *tokens,
		})
		.collect()
}

/// What an executor has answered in a channel, and was paid for.
pub(crate) fn opening_of(channel: ChannelId, payee: u64, answer: Answer) -> Opening<u64, u64, u64> {
	let owner = Channels::<Test>::get(channel).map_or(ALICE, |c| c.owner);
	opening_by(channel, payee, answer, owner)
}

pub(crate) fn opening_by(
	channel: ChannelId,
	payee: u64,
	answer: Answer,
	owner: u64,
) -> Opening<u64, u64, u64> {
	let Answer {
		number,
		tokens,
		seen,
	} = answer;
	let anchor = Anchor {
		number: 1,
		hash: System::block_hash(1),
	};
	let ask = Ask {
		channel,
		number,
		payee,
		model: model(),
		input: Input::TextGeneration {
			prompt: Prompt::Text(b"0123456789".to_vec().try_into().unwrap()),
			sampling: Sampling {
				max_tokens: 400,
				..Default::default()
			},
		},
		anchor,
		salt: H256::repeat_byte(number as u8),
	};
	let request = ask.hash(&genesis());
	let all: Vec<_> = (0..tokens).map(|t| Compact(t + number)).collect();
	let text = format!("answer {number}").into_bytes();
	let finish = FinishReason::EndOfText;
	let mut transcript = Transcript::begin(&request);
	all.iter()
		.take(seen as usize)
		.for_each(|t| transcript.push(t.0));
	let receipt = Receipt {
		channel,
		payee,
		number,
		session: session(),
		request,
		transcript: Transcript::of(&request, &all, &text, finish),
		input_units: 10,
		output_units: tokens,
		amount: price().of(10, tokens).unwrap(),
		anchor,
	};
	let voucher = Voucher {
		channel,
		payee,
		service: Service::Answer,
		number,
		request,
		transcript: transcript.hash,
		// Of the last one of a claim it is set anew.
		amount: 0,
		expires: session() + 2,
	};
	Opening {
		receipt: sign(receipt, &lane(payee)),
		voucher: sign(voucher, &key(owner)),
		proof: Default::default(),
		ask,
		output: Output::Text {
			tokens: all.try_into().unwrap(),
			text: text.try_into().unwrap(),
			finish,
		},
	}
}

/// What was paid of an answer.
pub(crate) fn paid(answer: &Answer) -> u64 {
	price().of(10, answer.seen).unwrap()
}

/// A claim over these answers, and the openings of their receipts.
pub(crate) fn claim_of(
	channel: ChannelId,
	payee: u64,
	answers: &[Answer],
) -> (Signed<Claim<u64, u64>>, Vec<Opening<u64, u64, u64>>) {
	let mut openings: Vec<_> = answers
		.iter()
		.map(|answer| opening_of(channel, payee, *answer))
		.collect();
	let leaves: Vec<_> = openings
		.iter()
		.zip(answers)
		.map(|(opening, answer)| {
			SumNode::leaf(&opening.receipt.body.hash(&genesis()), paid(answer))
		})
		.collect();
	let owner = Channels::<Test>::get(channel).map_or(ALICE, |c| c.owner);
	let mut upto = Sessions::claimed(channel, &payee, Service::Answer);
	for (place, (opening, answer)) in openings.iter_mut().zip(answers).enumerate() {
		opening.proof = SumNode::proof(&leaves, place).unwrap();
		upto += paid(answer);
		opening.voucher.body.amount = upto;
		opening.voucher = sign(opening.voucher.body.clone(), &key(owner));
	}
	let root = SumNode::root(&leaves).unwrap();
	let voucher = openings.last().unwrap().voucher.body.clone();
	let claim = Claim {
		voucher: sign(voucher, &key(owner)),
		root,
		count: answers.len() as u32,
		session: session(),
	};
	(sign(claim, &lane(payee)), openings)
}

/// A claim of `amount` more for checks.
pub(crate) fn checks_of(channel: ChannelId, checker: u64, amount: u64) -> Signed<Claim<u64, u64>> {
	let owner = Channels::<Test>::get(channel).map_or(ALICE, |c| c.owner);
	let root = SumNode::leaf(&H256::repeat_byte(9), amount);
	let voucher = Voucher {
		channel,
		payee: checker,
		service: Service::Check,
		number: 1,
		request: H256::repeat_byte(1),
		transcript: H256::repeat_byte(2),
		amount: Sessions::claimed(channel, &checker, Service::Check) + amount,
		expires: session() + 2,
	};
	let claim = Claim {
		voucher: sign(voucher, &key(owner)),
		root,
		count: 1,
		session: session(),
	};
	sign(claim, &lane(checker))
}

/// The same claim with something else in it, signed anew by channel and payee.
pub(crate) fn changed(
	mut claim: Signed<Claim<u64, u64>>,
	change: impl FnOnce(&mut Claim<u64, u64>),
) -> Signed<Claim<u64, u64>> {
	change(&mut claim.body);
	let voucher = claim.body.voucher.body.clone();
	let owner = Channels::<Test>::get(voucher.channel).map_or(ALICE, |c| c.owner);
	let payee = voucher.payee;
	claim.body.voucher = sign(voucher, &key(owner));
	sign(claim.body, &lane(payee))
}

pub(crate) fn settle(claims: &[Signed<Claim<u64, u64>>]) -> Result<(), Refused> {
	send(crate::Call::settle {
		claims: claims.to_vec().try_into().unwrap(),
	})
}

/// Has these answers claimed and their points drawn.
pub(crate) fn claim(
	channel: ChannelId,
	payee: u64,
	answers: &[Answer],
) -> (ClaimId, Vec<Opening<u64, u64, u64>>) {
	let (claim, openings) = claim_of(channel, payee, answers);
	let id = crate::NextClaim::<Test>::get();
	assert_eq!(settle(&[claim]), Ok(()));
	drawn();
	assert!(Claims::<Test>::get(id).unwrap().deadline.is_some());
	(id, openings)
}

pub(crate) fn open_receipt(
	claim: ClaimId,
	point: u32,
	opening: &Opening<u64, u64, u64>,
) -> Result<(), Refused> {
	send(crate::Call::open_receipt {
		claim,
		point,
		opening: Box::new(opening.clone()),
	})
}

/// What puts an opening's receipt before a jury, in this claim or in none.
pub(crate) fn appeal_of(
	opening: &Opening<u64, u64, u64>,
	claim: Option<ClaimId>,
) -> Appealed<u64, u64, u64> {
	Appealed {
		receipt: opening.receipt.clone(),
		ask: opening.ask.clone(),
		output: opening.output.clone(),
		place: claim.map(|claim| Place {
			claim,
			voucher: opening.voucher.clone(),
			proof: opening.proof.clone(),
		}),
	}
}

pub(crate) fn appeal(who: u64, appealed: Appealed<u64, u64, u64>) -> Result<(), DispatchError> {
	frame_support::storage::with_storage_layer(|| {
		Sessions::appeal(RuntimeOrigin::signed(who), Box::new(appealed))
	})
}

/// What a checker has signed of an opening's receipt.
pub(crate) fn verdict_of(
	opening: &Opening<u64, u64, u64>,
	checker: u64,
	margin_max: u32,
) -> Signed<Found<u64>> {
	let mut evidence = digest();
	evidence.verdict.margin_max = margin_max;
	let found = Found {
		receipt: opening.receipt.body.hash(&genesis()),
		checker,
		session: session(),
		evidence,
	};
	sign(found, &lane(checker))
}

pub(crate) fn testify(verdict: Signed<Found<u64>>) -> Result<(), Refused> {
	send(crate::Call::testify {
		verdict: Box::new(verdict),
	})
}

/// The opening in which a point lies.
pub(crate) fn at_point(
	openings: &[Opening<u64, u64, u64>],
	offset: u64,
	root: &SumNode<u64>,
) -> usize {
	openings
		.iter()
		.position(|o| {
			let hash = o.receipt.body.hash(&genesis());
			(0..=o.receipt.body.output_units).any(|seen| {
				let amount = price().of(10, seen).unwrap();
				SumNode::leaf(&hash, amount)
					.position(root, &o.proof)
					.is_some_and(|at| at <= offset && offset < at + amount)
			})
		})
		.unwrap()
}

pub(crate) fn infr_public(validator: u64) -> InferenceId {
	infr(validator).public()
}

pub(crate) fn key_public(owner: u64) -> LaneKey {
	key(owner).public()
}

pub(crate) fn lane_public(validator: u64) -> LaneKey {
	lane(validator).public()
}

pub(crate) fn events() -> Vec<Event<Test>> {
	System::events()
		.into_iter()
		.filter_map(|r| match r.event {
			RuntimeEvent::Sessions(e) => Some(e),
			_ => None,
		})
		.collect()
}

pub(crate) fn held(who: u64) -> u64 {
	use frame_support::traits::fungible::InspectHold;
	Balances::balance_on_hold(&crate::HoldReason::Channel.into(), &who)
}

/// All money there is.
pub(crate) fn total() -> u64 {
	<Balances as frame_support::traits::fungible::Inspect<u64>>::total_issuance()
}
