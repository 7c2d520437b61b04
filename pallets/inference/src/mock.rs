//! A runtime with balances, both pallets, a session that tests set, and randomness that they can withhold.

pub(crate) use consilience_primitives::model::Speed;
use std::cell::{Cell, RefCell};

use codec::Encode;
use consilience_judge::{
	disputed::Statement as Judgeable,
	narrowing::Pace,
	play::Run,
	program::{Dim, Operand, Operator, Program, Rule, Signature},
	standing::Terms,
	trace::{compute, Committed},
	value::Kind,
};
use consilience_primitives::{
	contribution::Contribution,
	crypto::{InferenceId, InferencePair},
	evidence::{output_commitment, Evidence, Fingerprint, Salt, Verdict},
	model::{Bounds, Limits, ModelSpec, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	report::{ContributionDue, DutyKind, Report, Statement},
	request::{
		Assurance, FinishReason, Input, Message, Output, Prompt, Role, Sampling, StoredInput,
		Unanswerable,
	},
	tensor::{DataType, Tensor, TensorSpec},
	view::RequestState,
	ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::{
		self, assert_ok, derive_impl,
		pallet_prelude::{DispatchResult, Weight},
		parameter_types,
		traits::{
			DisabledValidators, Hooks, OneSessionHandler, Randomness, ValidatorSet,
			ValidatorSetWithIdentification,
		},
	},
	frame_system, pallet_balances,
	sp_core::{crypto::VrfSecret, sr25519, Pair, H256},
	sp_crypto_hashing::blake2_256,
	sp_io,
	sp_keystore::{testing::MemoryKeystore, KeystoreExt},
	sp_runtime::{
		traits::{Convert, ConvertInto, IdentityLookup},
		transaction_validity::{TransactionSource, TransactionValidityError},
		BuildStorage, DispatchError, Perbill,
	},
	sp_staking::{
		offence::{Offence, OffenceError, ReportOffence},
		OnStakingUpdate,
	},
};

use crate::{
	Event, InferenceOffence, LastJudge, Measurement, OffenceSlot, OnSettled, ProtocolParameters,
	Requests, Settled, StakeHistory,
};

pub(crate) type Extrinsic = frame_system::mocking::MockUncheckedExtrinsic<Test>;
type Block = frame_system::mocking::MockBlock<Test>;

frame_support::construct_runtime!(
	pub enum Test {
		System: frame_system,
		Balances: pallet_balances,
		ModelRegistry: pallet_model_registry,
		Inference: crate,
		Judge: pallet_judge,
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
	pub static MinServing: u32 = 3;
	pub const MaxServing: u32 = 64;
	pub const ServingGrace: u64 = 200;
	pub const MaxServed: u32 = 4;
	pub const MaxModels: u32 = 4;
	pub const RemovalDelay: u64 = 0;
	pub const Treasury: u64 = TREASURY;
	pub const JuryFund: u64 = FUND;
	pub static DefaultParameters: ProtocolParameters<u64> = ProtocolParameters {
		treasury_share: Perbill::from_percent(10),
		verifier_share: Perbill::from_percent(20),
		measurement: Measurement {
			base: 10,
			per_unit: 1,
		},
		audit_share: Perbill::zero(),
		premium_share: Perbill::from_percent(50),
		// Nothing, so that what others take changes no sum of a test that is about something else.
		surcharge_at_full: 0,
		result_slash: Perbill::from_percent(10),
		evidence_slash: Perbill::from_percent(10),
		withheld_slash: Perbill::from_percent(1),
		absence_slash: Perbill::from_parts(1_000_000),
	};
	pub const MaxValidators: u32 = 64;
	pub const SuspensionSessions: u32 = 2;
	pub static MaxLoad: u32 = 4_000;
	pub static MaxJuries: u32 = 2;
	pub static ContestBlocks: u64 = 12;
	/// One block draws.
	pub static DrawOdds: u32 = 0;
	/// Nobody tosses.
	pub static Contributors: u32 = 0;
	pub const ContributionBlocks: u64 = 2;
	pub static AuditDelay: u64 = 6;
	pub static MaxJurors: u32 = 8;
	pub const MaxNominators: u32 = 16;
	pub static MinJury: u32 = 3;
	pub const AppealBond: u64 = 500;
	pub const AppealBlocks: u64 = 5;
	pub const MinEscrow: u64 = 20;
	pub const MaxVerifiers: u8 = 5;
	pub static MaxOpen: u32 = 12;
	pub static MaxOpenPerAccount: u32 = 8;
	pub static MaxPerBlock: u32 = 6;
	pub static MaxDraws: u32 = 6;
	pub const DrawPatience: u64 = 4;
	pub const RevealBlocks: u64 = 3;
	pub static Retention: u64 = 20;
	pub static DisputeBlocks: u64 = 0;
	pub const DisputeBond: u64 = 100;
	pub const MaxCases: u32 = 16;
	pub const GamePace: Pace = Pace { budget: 50, margin: 12 };
	pub const Windows: Terms = Terms { window: 16, grace: 16, most: 32 };
	pub const Bonding: u32 = 20_000;
	pub const ReportLongevity: u64 = 4;
	pub const ReportPriority: u64 = 1_000;
}

impl pallet_judge::Config for Test {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type Disputed = Inference;
	type Bond = DisputeBond;
	type MaxCases = MaxCases;
	type Pace = GamePace;
	type Terms = Windows;
	type Deadline = Bonding;
	type WeightInfo = pallet_judge::weights::SubstrateWeight<Test>;
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

thread_local! {
	static VRF: Cell<bool> = const { Cell::new(true) };
	static IDLE: Cell<Weight> = const { Cell::new(Weight::MAX) };
}

/// Whether blocks carry randomness from now on.
pub(crate) fn set_vrf(on: bool) {
	VRF.set(on);
}

/// Weight that blocks leave over from now on.
pub(crate) fn set_idle(weight: Weight) {
	IDLE.set(weight);
}

fn idle() -> Weight {
	IDLE.get()
}

/// A hash of the block number, like a VRF output: another in every block.
pub struct BlockRandomness;

impl Randomness<Option<H256>, u64> for BlockRandomness {
	fn random(subject: &[u8]) -> (Option<H256>, u64) {
		let now = System::block_number();
		let random = VRF
			.get()
			.then(|| H256((now, subject).using_encoded(blake2_256)));
		(random, now)
	}
}

thread_local! {
	static TOLD: RefCell<Vec<(RequestId, Settled)>> = const { RefCell::new(Vec::new()) };
	static DEAF: Cell<bool> = const { Cell::new(false) };
}

/// What callbacks were told since this was last called.
pub(crate) fn told() -> Vec<(RequestId, Settled)> {
	TOLD.take()
}

/// Whether callbacks fail from now on, after they have written to storage.
pub(crate) fn set_deaf(deaf: bool) {
	DEAF.set(deaf);
}

/// A pallet that remembers what it is told.
pub struct Told;

/// Written by [`Told`].
pub(crate) const TOLD_KEY: &[u8] = b"told";

impl OnSettled<u64> for Told {
	fn on_settled(request: RequestId, _requester: &u64, settled: &Settled) -> DispatchResult {
		sp_io::storage::set(TOLD_KEY, &request.encode());
		if DEAF.get() {
			return Err(DispatchError::Other("deaf"));
		}
		TOLD.with_borrow_mut(|told| told.push((request, settled.clone())));
		Ok(())
	}

	fn on_settled_weight() -> Weight {
		Weight::from_parts(1_000, 0)
	}
}

thread_local! {
	static DISABLED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
	static REPORTED: RefCell<Vec<Reported>> = const { RefCell::new(Vec::new()) };
	static CHARGED: RefCell<Vec<(u64, Perbill)>> = const { RefCell::new(Vec::new()) };
	static ABSENCES: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
	static SESSION: Cell<u32> = const { Cell::new(0) };
}

type Reported = InferenceOffence<(u64, ())>;

/// Offences that staking has heard of since this was last called.
pub(crate) fn reported() -> Vec<Reported> {
	REPORTED.take()
}

/// Whether each of the offences heard of was an absence, as far as staking could see.
pub(crate) fn reported_as_absence() -> Vec<bool> {
	ABSENCES.take()
}

/// Staking applies a slash: the fund receives it.
pub(crate) fn slashed(validator: u64, amount: u64) {
	<Inference as OnStakingUpdate<u64, u64>>::on_slash(
		&validator,
		amount,
		&Default::default(),
		amount,
	);
	let fund = Balances::free_balance(FUND);
	Balances::force_set_balance(RuntimeOrigin::root(), FUND, fund + amount).unwrap();
}

/// Has validators with these places disabled.
pub(crate) fn disable(places: &[u32]) {
	DISABLED.set(places.to_vec());
	for place in places {
		<Inference as OneSessionHandler<u64>>::on_disabled(*place);
	}
}

/// The session's validators.
pub struct Validators;

impl ValidatorSet<u64> for Validators {
	type ValidatorId = u64;
	type ValidatorIdOf = ConvertInto;

	fn session_index() -> u32 {
		SESSION.get()
	}

	fn validators() -> Vec<u64> {
		crate::Keys::<Test>::get().iter().map(|(v, _)| *v).collect()
	}
}

/// Staking knows nothing more of a validator than that it is one.
pub struct Identified;

impl Convert<u64, Option<()>> for Identified {
	fn convert(validator: u64) -> Option<()> {
		(VALIDATORS[0]..TREASURY).contains(&validator).then_some(())
	}
}

impl ValidatorSetWithIdentification<u64> for Validators {
	type Identification = ();
	type IdentificationOf = Identified;
}

/// Sessions for which stake answers.
pub(crate) const BONDING: u32 = 10;

impl StakeHistory<u64> for Validators {
	fn validators(_session: u32) -> u32 {
		VALIDATORS.len() as u32
	}

	/// One time without end, in which only the largest fraction counts.
	fn charged(validator: &u64, _session: u32) -> Perbill {
		CHARGED.with_borrow(|c| {
			let of_validator = c.iter().filter(|(v, _)| v == validator);
			of_validator.map(|(_, f)| *f).max().unwrap_or_default()
		})
	}

	fn bonding() -> u32 {
		BONDING
	}

	fn weight() -> Weight {
		UNIT
	}
}

impl DisabledValidators for Validators {
	fn is_disabled(index: u32) -> bool {
		DISABLED.with_borrow(|d| d.contains(&index))
	}

	fn disabled_validators() -> Vec<u32> {
		DISABLED.with_borrow(|d| d.clone())
	}
}

/// Remembers what it is told.
pub struct Offences;

impl ReportOffence<u64, (u64, ()), Reported> for Offences {
	fn report_offence(_reporters: Vec<u64>, offence: Reported) -> Result<(), OffenceError> {
		CHARGED.with_borrow_mut(|c| c.push((offence.offender.0, offence.fraction)));
		ABSENCES.with_borrow_mut(|a| a.push(Inference::is_reporting_absence()));
		REPORTED.with_borrow_mut(|r| r.push(offence));
		Ok(())
	}

	fn is_known_offence(offenders: &[(u64, ())], slot: &OffenceSlot) -> bool {
		REPORTED.with_borrow(|r| {
			r.iter()
				.any(|o| o.slot() == *slot && offenders.contains(&o.offender))
		})
	}
}

impl crate::Config for Test {
	type Randomness = BlockRandomness;
	type Treasury = Treasury;
	type JuryFund = JuryFund;
	type AdminOrigin = frame_system::EnsureRoot<u64>;
	type DefaultParameters = DefaultParameters;
	type ValidatorSet = Validators;
	type DisabledValidators = Validators;
	type ReportOffence = Offences;
	type StakeHistory = Validators;
	type SuspensionSessions = SuspensionSessions;
	type MaxValidators = MaxValidators;
	type MaxLoad = MaxLoad;
	type MaxJuries = MaxJuries;
	type ContestBlocks = ContestBlocks;
	type DrawOdds = DrawOdds;
	type Contributors = Contributors;
	type ContributionBlocks = ContributionBlocks;
	type AuditDelay = AuditDelay;
	type MaxJurors = MaxJurors;
	type MaxNominators = MaxNominators;
	type MinJury = MinJury;
	type AppealBond = AppealBond;
	type AppealBlocks = AppealBlocks;
	type MinEscrow = MinEscrow;
	type MaxVerifiers = MaxVerifiers;
	type MaxOpen = MaxOpen;
	type MaxOpenPerAccount = MaxOpenPerAccount;
	type MaxPerBlock = MaxPerBlock;
	type MaxDraws = MaxDraws;
	type DrawPatience = DrawPatience;
	type RevealBlocks = RevealBlocks;
	type Retention = Retention;
	type ReportLongevity = ReportLongevity;
	type ReportPriority = ReportPriority;
	type LastJudge = Oracle;
	type DisputeBlocks = DisputeBlocks;
	type OnSettled = (Told, ());
	type WeightInfo = Units;
}

thread_local! {
	static JUDGES: Cell<bool> = const { Cell::new(false) };
}

/// Whether answers of the text model can be disputed for a while from now on.
pub(crate) fn judge_for_all(judges: bool) {
	JUDGES.set(judges);
	DisputeBlocks::set(12);
}

/// From now on answers of the text model can be disputed before the last judge, for so many blocks.
pub(crate) fn judge_for(blocks: u64) {
	JUDGES.set(true);
	DisputeBlocks::set(blocks);
	Retention::set(Retention::get().max(blocks + 1));
}

/// What the last judge knows of models.
pub struct Oracle;

impl LastJudge for Oracle {
	fn judges(model: &ModelId) -> bool {
		JUDGES.get() && *model == id(TEXT)
	}

	fn statement(
		model: &ModelId,
		_input: &StoredInput,
		output: &Output,
		place: u32,
	) -> Option<Judgeable> {
		let Output::Text { tokens, .. } = output else {
			return None;
		};
		let said = tokens.get(place as usize).filter(|_| Self::judges(model))?;
		let text = Text::new(0);
		let claim = text.run().claim(vec![text.tensors[0].root()]);
		Some(Judgeable {
			program: claim.program,
			tensors: claim.tensors,
			lengths: claim.lengths,
			inputs: claim.inputs,
			place: place.into(),
			said: said.0.into(),
		})
	}

	fn weight() -> Weight {
		Weight::zero()
	}
}

/// A run of the text model, which is fed the tokens 1, 2 and 3 and says each of them again.
pub(crate) struct Text {
	program: Program,
	pub(crate) tensors: Vec<Committed>,
}

impl Text {
	const LENGTHS: [u32; 3] = [1, 3, 3];

	/// The right one, or one in which everything is so much more.
	pub(crate) fn new(more: i64) -> Self {
		let output = Signature {
			kind: Kind::Int64,
			shape: vec![Dim::number(1), Dim::number(3)],
			along: 1,
		};
		let rule = |operator, of: Option<u32>| Rule {
			operator,
			inputs: of
				.map(|tensor| Operand {
					tensor,
					signature: output.clone(),
				})
				.into_iter()
				.collect(),
			output: output.clone(),
		};
		let fed: Vec<u8> = (1..=3i64).flat_map(i64::to_le_bytes).collect();
		let mut text = Self {
			program: Program {
				rules: vec![
					rule(Operator::Input(0), None),
					rule(Operator::Copy, Some(0)),
					rule(Operator::Copy, Some(1)),
				],
			},
			tensors: vec![Committed::new(&output, &Self::LENGTHS, &fed).unwrap()],
		};
		for n in 1..3 {
			let made = compute(&text.tensors, &text.program.rules[n], &Self::LENGTHS);
			text.tensors.push(made.unwrap());
		}
		if more != 0 {
			let said: Vec<u8> = (1..=3)
				.flat_map(|token: i64| (token + more).to_le_bytes())
				.collect();
			text.tensors[2] = Committed::new(&output, &Self::LENGTHS, &said).unwrap();
		}
		text
	}

	pub(crate) fn run(&self) -> Run<'_> {
		Run::new(&self.program, Self::LENGTHS, &self.tensors)
	}
}

/// Weights with which tests can count: one for everything but what follows.
pub struct Units;

const UNIT: Weight = Weight::from_parts(1, 0);

impl crate::WeightInfo for Units {
	fn request(_bytes: u32) -> Weight {
		UNIT
	}

	fn request_with_data(bytes: u32) -> Weight {
		UNIT.saturating_mul(bytes.into())
	}

	fn cancel() -> Weight {
		UNIT
	}

	fn report(_bytes: u32) -> Weight {
		UNIT
	}

	fn authorize_report(_bytes: u32) -> Weight {
		UNIT
	}

	fn authorize_contribution() -> Weight {
		UNIT
	}

	fn contribute() -> Weight {
		UNIT
	}

	fn check() -> Weight {
		UNIT
	}

	fn check_answer() -> Weight {
		UNIT
	}

	fn check_member(_members: u32) -> Weight {
		UNIT
	}

	fn serve() -> Weight {
		UNIT
	}

	fn withdraw() -> Weight {
		UNIT
	}

	fn answer() -> Weight {
		UNIT
	}

	fn commit(_members: u32) -> Weight {
		UNIT
	}

	fn commit_juror() -> Weight {
		UNIT
	}

	fn reveal(_members: u32) -> Weight {
		UNIT * 10u64
	}

	fn reveal_juror() -> Weight {
		UNIT * 10u64
	}

	fn settle(members: u32) -> Weight {
		UNIT * u64::from(100 * members)
	}

	fn judge(jurors: u32) -> Weight {
		UNIT * u64::from(1_000 * jurors)
	}

	fn read_output(_bytes: u32) -> Weight {
		UNIT * 7u64
	}

	fn late() -> Weight {
		UNIT
	}

	fn late_jury() -> Weight {
		UNIT
	}

	fn prune() -> Weight {
		UNIT
	}

	fn draw_executor() -> Weight {
		UNIT
	}

	fn draw_verifiers(_verifiers: u32) -> Weight {
		UNIT
	}

	fn pass_audit() -> Weight {
		UNIT
	}

	fn draw_jury() -> Weight {
		UNIT
	}

	fn appeal() -> Weight {
		UNIT
	}

	fn contest() -> Weight {
		UNIT
	}

	fn ruling() -> Weight {
		UNIT
	}

	fn claim() -> Weight {
		UNIT
	}

	fn refute() -> Weight {
		UNIT
	}

	fn set_parameters() -> Weight {
		UNIT
	}

	fn lift_suspension() -> Weight {
		UNIT
	}

	fn offence() -> Weight {
		UNIT
	}

	fn call_back() -> Weight {
		UNIT
	}

	fn hooks() -> Weight {
		UNIT
	}
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

pub(crate) const TREASURY: u64 = 999;
pub(crate) const FUND: u64 = 998;
pub(crate) const OWNER: u64 = 900;
/// Requesters with money.
pub(crate) const ALICE: u64 = 1;
pub(crate) const BOB: u64 = 2;

/// A text model, a tensor model.
pub(crate) const TEXT: u8 = 1;
pub(crate) const TENSOR: u8 = 2;

pub(crate) fn id(n: u8) -> ModelId {
	ModelId::repeat_byte(n)
}

pub(crate) fn pair(validator: u64) -> InferencePair {
	InferencePair::from_seed(&H256::from_low_u64_be(validator).0)
}

fn keys(validators: &[u64]) -> Vec<(u64, InferenceId)> {
	validators.iter().map(|v| (*v, pair(*v).public())).collect()
}

pub(crate) fn set_session(validators: &[u64]) {
	SESSION.set(SESSION.get() + 1);
	let keys = keys(validators);
	let iter = || keys.iter().map(|(v, k)| (v, k.clone()));
	<Inference as OneSessionHandler<u64>>::on_new_session(
		true,
		Box::new(iter()) as Box<dyn Iterator<Item = _>>,
		Box::new(iter()),
	);
}

pub(crate) fn spec(task: Task) -> ModelSpec {
	ModelSpec {
		name: b"test".to_vec().try_into().unwrap(),
		task,
		chat: task == Task::TextGeneration,
		size: 1,
		limits: Limits {
			max_input_units: 200,
			max_output_units: 10,
		},
		time: TimeLimit {
			base_blocks: 3,
			output_units_per_block: if task == Task::Tensor { 100 } else { 10 },
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
		signature: match task {
			Task::Tensor => vec![TensorSpec {
				name: b"x".to_vec().try_into().unwrap(),
				datatype: DataType::Uint8,
				shape: vec![None].try_into().unwrap(),
			}]
			.try_into()
			.unwrap(),
			_ => Default::default(),
		},
		sampling: Default::default(),
		reference: digest(7),
	}
}

pub(crate) fn digest(n: u8) -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([n; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

pub(crate) fn price() -> Price<u64> {
	Price {
		per_request: 100,
		per_input_unit: 1,
		per_output_unit: 10,
	}
}

/// Validators of the mock.
pub(crate) const VALIDATORS: [u64; 7] = [101, 102, 103, 104, 105, 106, 107];

/// Requesters with 1,000,000 each, and a keystore.
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
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.register_extension(KeystoreExt::new(MemoryKeystore::new()));
	ext
}

/// A genesis session, as benchmarks find it.
#[cfg(feature = "runtime-benchmarks")]
pub(crate) fn benchmarked() -> sp_io::TestExternalities {
	let mut ext = bare();
	ext.execute_with(|| {
		disable(&[]);
		let keys = keys(&VALIDATORS);
		Inference::on_genesis_session(keys.iter().map(|(v, k)| (v, k.clone())));
	});
	ext
}

/// Both models served by all validators.
pub(crate) fn externalities() -> sp_io::TestExternalities {
	let mut ext = bare();
	ext.execute_with(|| {
		set_vrf(true);
		set_deaf(false);
		disable(&[]);
		reported();
		CHARGED.take();
		reported_as_absence();
		SESSION.set(0);
		set_idle(Weight::MAX);
		told();
		System::set_block_number(1);
		Inference::on_initialize(1);
		let keys = keys(&VALIDATORS);
		Inference::on_genesis_session(keys.iter().map(|(v, k)| (v, k.clone())));
		for (n, task) in [(TEXT, Task::TextGeneration), (TENSOR, Task::Tensor)] {
			assert_ok!(ModelRegistry::register(
				RuntimeOrigin::signed(OWNER),
				id(n),
				spec(task),
				price()
			));
			for v in VALIDATORS {
				assert_ok!(ModelRegistry::serve(
					&v,
					id(n),
					&digest(7),
					Speed::default()
				));
			}
		}
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
	Inference::do_try_state().unwrap();
	Judge::do_try_state().unwrap();
}

/// Ends the block and begins the next.
pub(crate) fn next_block() {
	let now = System::block_number();
	Inference::on_idle(now, idle());
	Inference::on_finalize(now);
	System::set_block_number(now + 1);
	let parent = H256(now.using_encoded(blake2_256));
	System::set_parent_hash(parent);
	frame_system::BlockHash::<Test>::insert(now, parent);
	Inference::on_initialize(now + 1);
	Judge::on_initialize(now + 1);
}

pub(crate) fn blocks(n: u64) {
	(0..n).for_each(|_| next_block());
}

pub(crate) fn text(content: &str, max_tokens: u32) -> Input {
	Input::TextGeneration {
		prompt: Prompt::Chat(
			vec![Message {
				role: Role::User,
				content: content.as_bytes().to_vec().try_into().unwrap(),
			}]
			.try_into()
			.unwrap(),
		),
		sampling: Sampling {
			max_tokens,
			..Default::default()
		},
	}
}

pub(crate) fn tensor_input(data: &[u8]) -> Input {
	Input::Tensor(vec![tensor("x", data)].try_into().unwrap())
}

pub(crate) fn tensor(name: &str, data: &[u8]) -> Tensor {
	Tensor {
		name: name.as_bytes().to_vec().try_into().unwrap(),
		datatype: DataType::Uint8,
		shape: vec![data.len() as u32].try_into().unwrap(),
		data: data.to_vec().try_into().unwrap(),
	}
}

pub(crate) fn answer(tokens: &[u32]) -> Output {
	Output::Text {
		tokens: tokens
			.iter()
			.map(|t| codec::Compact(*t))
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
		text: b"an answer".to_vec().try_into().unwrap(),
		finish: FinishReason::Length,
	}
}

pub(crate) fn ask(model: u8, who: u64) -> RequestId {
	let input = if model == TEXT {
		text("hi", 4)
	} else {
		tensor_input(&[1, 2])
	};
	Inference::do_request(who, id(model), input, Assurance::Committee(2), 1_000, 0).unwrap()
}

pub(crate) fn state(request: RequestId) -> RequestState {
	Requests::<Test>::get(request).unwrap().state
}

pub(crate) fn executor(request: RequestId) -> u64 {
	Requests::<Test>::get(request).unwrap().executor.unwrap()
}

pub(crate) fn verifiers(request: RequestId) -> Vec<u64> {
	Inference::request_view(request).unwrap().verifiers
}

/// A report of the validator on the previous block, let in as a block author would let it in, and executed.
pub(crate) fn report(
	validator: u64,
	statements: Vec<Statement>,
) -> Result<(), TransactionValidityError> {
	let (report, signature) = signed(validator, statements);
	Inference::authorize_report(TransactionSource::External, &report, &signature)?;
	assert_ok!(Inference::report(
		frame_system::RawOrigin::Authorized.into(),
		report,
		signature
	));
	Ok(())
}

pub(crate) fn signed(
	validator: u64,
	statements: Vec<Statement>,
) -> (
	Report<u64>,
	consilience_primitives::crypto::InferenceSignature,
) {
	let key = pair(validator);
	let duties = Inference::duties(&key.public());
	let report = Report {
		session: crate::Session::<Test>::get(),
		validator: duties.map_or(u32::MAX, |d| d.index),
		at: System::block_number() - 1,
		statements: statements.try_into().unwrap(),
	};
	let signature = key.sign(&payload(&report));
	(report, signature)
}

/// What a validator signs of a report that it made on this chain.
pub(crate) fn payload(report: &Report<u64>) -> Vec<u8> {
	report.payload(&System::block_hash(0), &System::block_hash(report.at))
}

/// Has the text model admit checks by chance, however rare.
pub(crate) fn admit_sampling() {
	pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
		model.as_mut().unwrap().spec.policy.min_sampling = 0;
	});
}

/// A salt that differs by validator.
pub(crate) fn salt(validator: u64) -> Salt {
	let mut salt = [0; 16];
	salt[..8].copy_from_slice(&validator.to_le_bytes());
	salt
}

/// How a simulated validator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
	Honest,
	/// Says nothing.
	Silent,
	/// Commits and does not reveal.
	Withholding,
	/// Measures other bits, and answers other tensors.
	Lying,
	/// Answers wrongly, and finds every answer right; runs the model to fabricate its evidence.
	Vouching,
	/// Finds every answer wrong.
	Slandering,
	/// Says that what can be answered cannot, and agrees with whoever says so.
	Refusing,
}

/// Classes of a classifier.
const CLASSES: u32 = 200;

/// Has the tensor model be a classifier of the tolerant class.
pub(crate) fn classify() {
	pallet_model_registry::Models::<Test>::mutate(id(TENSOR), |model| {
		let model = model.as_mut().unwrap();
		let bounds = |factor: u32| Bounds {
			mean: 256 * factor,
			max: 4 * factor,
			..Default::default()
		};
		model.spec.policy = VerificationPolicy {
			class: NumericClass::Tolerant,
			positions: 64,
			fraction_bits: 16,
			accept: bounds(1),
			fraud: bounds(16),
			..model.spec.policy
		};
		model.spec.limits.max_output_units = CLASSES;
		model.spec.time.output_units_per_block = 10 * CLASSES;
		model.spec.reference.fingerprint = Fingerprint::Values {
			tag: 0,
			values: Default::default(),
		};
		model.price.per_output_unit = 0;
	});
}

fn tensor_policy() -> VerificationPolicy {
	let model = pallet_model_registry::Models::<Test>::get(id(TENSOR));
	model.unwrap().spec.policy
}

/// What the tensor model gives; with [`classify`], the probability of each class: of one it is 1, of all others 0.
fn computed(habit: Habit) -> Vec<Tensor> {
	let number = if habit == Habit::Lying { 9 } else { 5 };
	if tensor_policy().class == NumericClass::Exact {
		return vec![tensor("y", &[number])];
	}
	let one = 0x3f80_0000u32;
	let probability = |class| if class == u32::from(number) { one } else { 0 };
	vec![Tensor {
		name: b"y".to_vec().try_into().unwrap(),
		datatype: DataType::Fp32,
		shape: vec![CLASSES].try_into().unwrap(),
		data: (0..CLASSES)
			.flat_map(|class| probability(class).to_le_bytes())
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
	}]
}

/// What an honest validator measures of a request.
pub(crate) fn measured(request: RequestId, habit: Habit) -> Evidence {
	let challenge = Inference::work(request).unwrap().challenge.unwrap();
	measured_under(request, habit, challenge)
}

/// The same under this challenge.
pub(crate) fn measured_under(request: RequestId, habit: Habit, challenge: H256) -> Evidence {
	let work = Inference::work(request).unwrap();
	if let Some(Output::Unanswerable(claimed)) = work.output {
		let found = if habit == Habit::Refusing {
			Some(claimed)
		} else {
			refused(&work.input)
		};
		return Evidence::of_claim(claimed, found, &challenge);
	}
	match work.input.task() {
		Task::Tensor => {
			Evidence::of_tensors(&computed(habit), &challenge, &tensor_policy()).unwrap()
		}
		_ => {
			let mut evidence = digest(own(habit, &challenge));
			let wrong = work.output == Some(wrong_answer());
			evidence.verdict.margin_max = match habit {
				Habit::Slandering => 90_000,
				Habit::Vouching | Habit::Lying => 0,
				_ if wrong => MARGIN.get(),
				_ => 0,
			};
			evidence
		}
	}
}

/// Why the models of the mock cannot answer an input, if they cannot: a text or a tensor that is [`POISON`].
pub(crate) fn refused(input: &StoredInput) -> Option<Unanswerable> {
	let poisoned = match input.inline()? {
		Input::TextGeneration {
			prompt: Prompt::Chat(messages),
			..
		} => messages.iter().any(|m| m.content[..] == *POISON),
		Input::Tensor(tensors) => tensors.iter().any(|t| t.data[..] == *POISON),
		_ => false,
	};
	poisoned.then_some(Unanswerable::GraphRefused)
}

/// What no machine can answer.
pub(crate) const POISON: &[u8] = b"poison";

thread_local! {
	static MARGIN: Cell<u32> = const { Cell::new(90_000) };
}

/// By how much the model would not have said [`wrong_answer`], from now on.
pub(crate) fn set_margin(margin: u32) {
	MARGIN.set(margin);
}

/// What the model would not have said.
pub(crate) fn wrong_answer() -> Output {
	answer(&[6, 6])
}

/// What this validator's evidence is in a jury as well: with that under the disputed challenge.
pub(crate) fn evidence_of(request: RequestId, habit: Habit) -> Evidence {
	let mut evidence = measured(request, habit);
	let work = Inference::work(request).unwrap();
	if let Some(Output::Unanswerable(claimed)) = work.output {
		evidence.prior = work
			.prior
			.map(|prior| Evidence::of_claim(claimed, None, &prior).fingerprint);
		return evidence;
	}
	evidence.prior = work.prior.map(|prior| match work.input.task() {
		Task::Tensor => {
			Evidence::of_tensors(&computed(habit), &prior, &tensor_policy())
				.unwrap()
				.fingerprint
		}
		_ => digest(own(habit, &prior)).fingerprint,
	});
	evidence
}

/// The first byte of a digest under this challenge.
fn own(habit: Habit, challenge: &H256) -> u8 {
	if habit == Habit::Lying {
		challenge.0[0] ^ 0xff
	} else {
		challenge.0[0]
	}
}

fn output(request: RequestId, habit: Habit) -> Output {
	let work = Inference::work(request).unwrap();
	let refused = refused(&work.input);
	if habit == Habit::Refusing {
		return Output::Unanswerable(Unanswerable::NotFinite);
	}
	if let Some(code) = refused.filter(|_| habit == Habit::Honest) {
		return Output::Unanswerable(code);
	}
	match work.input.task() {
		Task::Tensor => Output::Tensors(computed(habit).try_into().unwrap()),
		_ if habit == Habit::Vouching => wrong_answer(),
		_ => answer(&[1, 2, 3]),
	}
}

/// Does everything that is due for a validator, in one report.
pub(crate) fn work(validator: u64, habit: Habit) {
	let statements = statements(validator, habit);
	if !statements.is_empty() {
		report(validator, statements).unwrap();
	}
}

/// What a validator has to say.
pub(crate) fn statements(validator: u64, habit: Habit) -> Vec<Statement> {
	let mut statements = Vec::new();
	let Some(duties) = Inference::duties(&pair(validator).public()) else {
		return statements;
	};
	if habit == Habit::Silent {
		return statements;
	}
	for duty in duties.duties {
		let request = duty.request;
		match duty.kind {
			DutyKind::Answer | DutyKind::CommitOutput
				if duty.kind == DutyKind::Answer
					|| output(request, habit).unanswerable().is_some() =>
			{
				statements.push(Statement::Answer {
					request,
					output: output(request, habit),
				})
			}
			DutyKind::Answer | DutyKind::CommitOutput => {
				let commitment = output_commitment(
					&output(request, habit),
					request,
					&validator,
					&salt(validator),
				);
				statements.push(Statement::CommitOutput {
					request,
					commitment,
				});
			}
			DutyKind::Commit => {
				let challenge = Inference::work(request).unwrap().challenge.unwrap();
				let commitment = evidence_of(request, habit).commitment(
					request,
					&challenge,
					&validator,
					&salt(validator),
				);
				statements.push(Statement::Commit {
					request,
					commitment,
				});
			}
			DutyKind::Reveal | DutyKind::RevealOutput | DutyKind::LateReveal
				if habit == Habit::Withholding => {}
			DutyKind::LateReveal => {
				let prior = Inference::work(request).unwrap().prior.unwrap();
				let evidence = measured_under(request, habit, prior);
				let salt = salt(validator);
				// It may have been bound to something else.
				if Inference::check_reveal(&validator, request, &evidence, &salt).is_ok() {
					statements.push(Statement::Reveal {
						request,
						evidence,
						salt,
					});
				}
			}
			DutyKind::Reveal | DutyKind::RevealOutput => {
				let evidence = evidence_of(request, habit);
				let salt = salt(validator);
				if Inference::check_reveal(&validator, request, &evidence, &salt).is_ok() {
					statements.push(Statement::Reveal {
						request,
						evidence,
						salt,
					});
				}
				let output = output(request, habit);
				if Inference::check_reveal_output(&validator, request, &output, &salt).is_ok() {
					statements.push(Statement::RevealOutput {
						request,
						output,
						salt,
					});
				}
			}
		}
	}
	statements
}

/// What a validator contributes to the toss of a block that follows this one.
pub(crate) fn contribution(validator: u64, block: u64, parent: H256) -> Contribution<u64> {
	let key = pair(validator);
	let input = consilience_primitives::contribution::input(&System::block_hash(0), &parent);
	let signed = sr25519::Pair::from(key.clone()).vrf_sign(&input);
	Contribution::new(block, key.public(), &signed)
}

/// Lets a contribution in as a block author would, and executes it.
pub(crate) fn contribute(contribution: Contribution<u64>) -> Result<(), TransactionValidityError> {
	Inference::authorize_contribution(TransactionSource::External, &contribution)?;
	assert_ok!(Inference::contribute(
		frame_system::RawOrigin::Authorized.into(),
		contribution
	));
	Ok(())
}

/// Contributes whatever is asked of a validator.
pub(crate) fn toss(validator: u64) {
	let now = System::block_number();
	let key = pair(validator).public();
	for ContributionDue { block, parent } in Inference::contributions_due_in(now, &key) {
		let parent = parent.unwrap_or_else(|| System::block_hash(now - 1));
		contribute(contribution(validator, block, parent)).unwrap();
	}
}

/// Everybody works honestly for a block, but those named.
pub(crate) fn work_block(odd: &[(u64, Habit)]) {
	for v in VALIDATORS {
		let habit = odd
			.iter()
			.find(|(o, _)| *o == v)
			.map_or(Habit::Honest, |(_, h)| *h);
		if habit != Habit::Silent {
			toss(v);
		}
		work(v, habit);
	}
	next_block();
}

/// Works until the request is settled, at most so many blocks.
pub(crate) fn settle_within(request: RequestId, most: u64, odd: &[(u64, Habit)]) {
	for _ in 0..most {
		if state(request).is_settled() {
			return;
		}
		work_block(odd);
	}
	assert!(state(request).is_settled(), "still {:?}", state(request));
}

pub(crate) fn events() -> Vec<Event<Test>> {
	System::events()
		.into_iter()
		.filter_map(|r| match r.event {
			RuntimeEvent::Inference(e) => Some(e),
			_ => None,
		})
		.collect()
}

/// What of lost bonds was burned.
pub(crate) fn burned() -> u64 {
	System::events()
		.into_iter()
		.map(|r| match r.event {
			RuntimeEvent::Balances(pallet_balances::Event::BurnedHeld { amount, .. }) => amount,
			_ => 0,
		})
		.sum()
}

/// Assets of the requester, all receivers and the owner: nothing of the protocol makes or burns money.
pub(crate) fn total() -> u64 {
	<Balances as frame_support::traits::fungible::Inspect<u64>>::total_issuance()
}
