//! A runtime with the pallets that are asked, and validators that do what is due: texts from proposal to the end.

use codec::Encode;
use consilience_primitives::{
	crypto::{InferenceId, InferencePair},
	evidence::{Evidence, Fingerprint, Salt, Verdict as Measured},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	report::{DutyKind, Report, Statement},
	request::{Input, Output, Prompt, Unanswerable},
	view::RequestState,
	ModelId, RequestId,
};
use pallet_inference::{InferenceOffence, Measurement, ProtocolParameters, StakeHistory};
use polkadot_sdk::{
	frame_support::{
		self, assert_ok, derive_impl,
		pallet_prelude::Weight,
		parameter_types,
		traits::{
			fungible::InspectHold, DisabledValidators, Hooks, OneSessionHandler, Randomness,
			ValidatorSet, ValidatorSetWithIdentification,
		},
	},
	frame_system::{self, RawOrigin},
	pallet_balances,
	sp_core::{Pair, H256},
	sp_crypto_hashing::blake2_256,
	sp_io,
	sp_runtime::{
		traits::{Convert, ConvertInto, IdentityLookup},
		BuildStorage, Perbill,
	},
	sp_staking::offence::{OffenceError, ReportOffence},
};

use crate::{
	self as pallet_moderation,
	mock::{chat, text_output},
	Event, HoldReason, NotJudged, Notes, Verdict,
};

type Extrinsic = frame_system::mocking::MockUncheckedExtrinsic<Runtime>;
type Block = frame_system::mocking::MockBlock<Runtime>;
type AccountId = u64;
type Balance = u64;

#[frame_support::runtime]
mod runtime {
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeFreezeReason,
		RuntimeHoldReason,
		RuntimeSlashReason,
		RuntimeLockId,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Runtime;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;
	#[runtime::pallet_index(5)]
	pub type Balances = pallet_balances;
	#[runtime::pallet_index(50)]
	pub type ModelRegistry = pallet_model_registry;
	#[runtime::pallet_index(51)]
	pub type Inference = pallet_inference;
	// docs: runtime-pallet
	#[runtime::pallet_index(60)]
	pub type Moderation = pallet_moderation;
	// docs: end
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Runtime {
	type Block = Block;
	type AccountId = AccountId;
	type Lookup = IdentityLookup<AccountId>;
	type AccountData = pallet_balances::AccountData<Balance>;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Runtime {
	type AccountStore = System;
	type ExistentialDeposit = ExistentialDeposit;
}

parameter_types! {
	pub const ExistentialDeposit: Balance = 10;
	pub const DepositBase: Balance = 1_000;
	pub const DepositPerByte: Balance = 0;
	pub static MinServing: u32 = 3;
	pub const MaxServing: u32 = 8;
	pub const ServingGrace: u64 = 200;
	pub const MaxServed: u32 = 4;
	pub const MaxModels: u32 = 4;
	pub const RemovalDelay: u64 = 0;
	pub const Treasury: AccountId = 999;
	pub const JuryFund: AccountId = 998;
	pub const DefaultParameters: ProtocolParameters<Balance> = ProtocolParameters {
		treasury_share: Perbill::from_percent(10),
		verifier_share: Perbill::from_percent(20),
		measurement: Measurement { base: 10, per_unit: 1 },
		audit_share: Perbill::zero(),
		premium_share: Perbill::from_percent(10),
		surcharge_at_full: 0,
		result_slash: Perbill::from_percent(10),
		evidence_slash: Perbill::from_percent(10),
		withheld_slash: Perbill::from_percent(1),
		absence_slash: Perbill::from_parts(1_000_000),
	};
	pub const MaxValidators: u32 = 8;
	pub const SuspensionSessions: u32 = 2;
	pub const MaxLoad: u32 = 10_000;
	pub const MaxJuries: u32 = 2;
	pub const ContestBlocks: u64 = 12;
	/// One block draws.
	pub const DrawOdds: u32 = 0;
	/// Nobody tosses.
	pub const Contributors: u32 = 0;
	pub const ContributionBlocks: u64 = 3;
	pub const AuditDelay: u64 = 6;
	pub const MaxJurors: u32 = 8;
	pub const MaxNominators: u32 = 16;
	pub const MinJury: u32 = 3;
	pub const AppealBond: Balance = 500;
	pub const AppealBlocks: u64 = 5;
	pub const MinEscrow: Balance = 20;
	pub const MaxVerifiers: u8 = 5;
	pub const MaxOpen: u32 = 12;
	pub const MaxOpenPerAccount: u32 = 8;
	pub const MaxPerBlock: u32 = 6;
	pub const MaxDraws: u32 = 6;
	pub const DrawPatience: u64 = 4;
	pub const RevealBlocks: u64 = 3;
	pub const Retention: u64 = 20;
	pub const DisputeBlocks: u64 = 0;
	pub const ReportLongevity: u64 = 4;
	pub const ReportPriority: u64 = 1_000;
}

impl pallet_model_registry::Config for Runtime {
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
	type WeightInfo = pallet_model_registry::weights::SubstrateWeight<Runtime>;
}

impl pallet_inference::Config for Runtime {
	type Randomness = BlockRandomness;
	type Treasury = Treasury;
	type JuryFund = JuryFund;
	type AdminOrigin = frame_system::EnsureRoot<AccountId>;
	type DefaultParameters = DefaultParameters;
	type ValidatorSet = Validators;
	type DisabledValidators = Validators;
	type ReportOffence = Validators;
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
	type LastJudge = ();
	type DisputeBlocks = DisputeBlocks;
	// docs: runtime-hook
	type OnSettled = (Sessions, Moderation);
	// docs: end
	type WeightInfo = pallet_inference::weights::SubstrateWeight<Runtime>;
}

/// In the place of `pallet-sessions`, which is told as well.
type Sessions = ();

// docs: runtime-config
parameter_types! {
	pub const NoteDepositBase: Balance = 100;
	pub const NoteDepositPerByte: Balance = 2;
	pub const MaxNote: u32 = 64;
}

impl pallet_moderation::Config for Runtime {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type Inference = Inference;
	type PolicyOrigin = frame_system::EnsureRoot<AccountId>;
	type DepositBase = NoteDepositBase;
	type DepositPerByte = NoteDepositPerByte;
	type MaxLength = MaxNote;
	type WeightInfo = pallet_moderation::weights::SubstrateWeight<Runtime>;
}
// docs: end

impl frame_system::offchain::CreateTransactionBase<pallet_inference::Call<Runtime>> for Runtime {
	type RuntimeCall = RuntimeCall;
	type Extrinsic = Extrinsic;
}

impl frame_system::offchain::CreateTransaction<pallet_inference::Call<Runtime>> for Runtime {
	type Extension = ();

	fn create_transaction(call: RuntimeCall, _extension: ()) -> Extrinsic {
		Extrinsic::new_transaction(call, ())
	}
}

impl frame_system::offchain::CreateAuthorizedTransaction<pallet_inference::Call<Runtime>>
	for Runtime
{
	fn create_extension() -> Self::Extension {}
}

/// A hash of the block number, like a VRF output: another in every block.
pub struct BlockRandomness;

impl Randomness<Option<H256>, u64> for BlockRandomness {
	fn random(subject: &[u8]) -> (Option<H256>, u64) {
		let now = System::block_number();
		(Some(H256((now, subject).using_encoded(blake2_256))), now)
	}
}

/// The session's validators; in the place of staking, nobody is slashed.
pub struct Validators;

impl ValidatorSet<u64> for Validators {
	type ValidatorId = u64;
	type ValidatorIdOf = ConvertInto;

	fn session_index() -> u32 {
		0
	}

	fn validators() -> Vec<u64> {
		let keys = pallet_inference::Keys::<Runtime>::get();
		keys.iter().map(|(v, _)| *v).collect()
	}
}

impl Convert<u64, Option<()>> for Validators {
	fn convert(_: u64) -> Option<()> {
		Some(())
	}
}

impl ValidatorSetWithIdentification<u64> for Validators {
	type Identification = ();
	type IdentificationOf = Self;
}

impl StakeHistory<u64> for Validators {
	fn validators(_session: u32) -> u32 {
		VALIDATORS.len() as u32
	}

	fn charged(_validator: &u64, _session: u32) -> Perbill {
		Perbill::zero()
	}

	fn bonding() -> u32 {
		10
	}

	fn weight() -> Weight {
		Weight::zero()
	}
}

impl DisabledValidators for Validators {
	fn is_disabled(_: u32) -> bool {
		false
	}

	fn disabled_validators() -> Vec<u32> {
		Vec::new()
	}
}

impl ReportOffence<u64, (u64, ()), InferenceOffence<(u64, ())>> for Validators {
	fn report_offence(
		_: Vec<u64>,
		offence: InferenceOffence<(u64, ())>,
	) -> Result<(), OffenceError> {
		panic!("everybody is honest: {offence:?}");
	}

	fn is_known_offence(_: &[(u64, ())], _: &pallet_inference::OffenceSlot) -> bool {
		false
	}
}

const ALICE: u64 = 1;
const OWNER: u64 = 900;
const VALIDATORS: [u64; 4] = [101, 102, 103, 104];

fn pair(validator: u64) -> InferencePair {
	InferencePair::from_seed(&H256::from_low_u64_be(validator).0)
}

fn digest(first: u8) -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([first; 16]),
		verdict: Measured::default(),
		prior: None,
	}
}

/// A language model of the exact class.
fn spec() -> ModelSpec {
	ModelSpec {
		name: b"judge".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		chat: true,
		size: 1,
		limits: Limits {
			max_input_units: 1_000,
			max_output_units: 10,
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
			min_verifiers: 1,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: digest(7),
	}
}

/// The first `n` validators serve the model, and it is the one that is asked.
fn network(n: usize, test: impl FnOnce()) {
	let mut storage = frame_system::GenesisConfig::<Runtime>::default()
		.build_storage()
		.unwrap();
	let mut balances: Vec<_> = VALIDATORS.map(|v| (v, 1_000)).into();
	balances.extend([
		(ALICE, 100_000),
		(OWNER, 100_000),
		(999, 1_000),
		(998, 1_000),
	]);
	pallet_balances::GenesisConfig::<Runtime> {
		balances,
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	sp_io::TestExternalities::new(storage).execute_with(|| {
		System::set_block_number(1);
		MinServing::set(n.min(3) as u32);
		let keys: Vec<(u64, InferenceId)> = VALIDATORS[..n]
			.iter()
			.map(|v| (*v, pair(*v).public()))
			.collect();
		Inference::on_genesis_session(keys.iter().map(|(v, k)| (v, k.clone())));
		let price = Price {
			per_request: 100,
			per_input_unit: 1,
			per_output_unit: 10,
		};
		let model = chat().model;
		assert_ok!(ModelRegistry::register(
			RuntimeOrigin::signed(OWNER),
			model,
			spec(),
			price
		));
		for v in &VALIDATORS[..n] {
			assert_ok!(ModelRegistry::serve(v, model, &digest(7), Speed::default()));
		}
		assert_ok!(Moderation::set_policy(RuntimeOrigin::root(), Some(chat())));
		next_block();
		let money = Balances::total_issuance();
		test();
		assert_eq!(Balances::total_issuance(), money);
		assert_ok!(Moderation::do_try_state());
		assert_ok!(Inference::do_try_state());
		assert_ok!(ModelRegistry::do_try_state());
	});
}

/// Ends the block and begins the next.
fn next_block() {
	let now = System::block_number();
	Inference::on_idle(now, Weight::MAX);
	Inference::on_finalize(now);
	System::set_block_number(now + 1);
	let parent = H256(now.using_encoded(blake2_256));
	System::set_parent_hash(parent);
	frame_system::BlockHash::<Runtime>::insert(now, parent);
	Inference::on_initialize(now + 1);
}

/// What the model says about the text that it is asked about, or why it cannot.
fn answer(request: RequestId) -> Output {
	let input = Inference::work(request).unwrap().input;
	let Some(Input::TextGeneration {
		prompt: Prompt::Chat(messages),
		..
	}) = input.inline().cloned()
	else {
		panic!("{input:?}");
	};
	match &messages[1].content[..] {
		b"poison" => Output::Unanswerable(Unanswerable::TemplateRefused),
		text if text.starts_with(b"good") => text_output("Yes"),
		_ => text_output("No."),
	}
}

/// What every honest machine measures.
fn measured(request: RequestId) -> Evidence {
	let challenge = Inference::work(request).unwrap().challenge.unwrap();
	match answer(request) {
		Output::Unanswerable(code) => Evidence::of_claim(code, Some(code), &challenge),
		_ => digest(challenge.0[0]),
	}
}

/// What is due for a validator in this block.
fn work(validator: u64) {
	const SALT: Salt = [9; 16];
	let Some(duties) = Inference::duties(&pair(validator).public()) else {
		return;
	};
	let statements: Vec<_> = duties
		.duties
		.iter()
		.filter_map(|duty| {
			let request = duty.request;
			Some(match duty.kind {
				DutyKind::Answer => Statement::Answer {
					request,
					output: answer(request),
				},
				DutyKind::Commit => {
					let challenge = Inference::work(request)?.challenge?;
					let commitment =
						measured(request).commitment(request, &challenge, &validator, &SALT);
					Statement::Commit {
						request,
						commitment,
					}
				}
				DutyKind::Reveal => Statement::Reveal {
					request,
					evidence: measured(request),
					salt: SALT,
				},
				_ => return None,
			})
		})
		.collect();
	if statements.is_empty() {
		return;
	}
	let report = Report {
		session: duties.session,
		validator: duties.index,
		at: System::block_number() - 1,
		statements: statements.try_into().unwrap(),
	};
	let signature = pair(validator).sign(&report.encode());
	// The block's author has looked at the signature.
	assert_ok!(Inference::report(
		RawOrigin::Authorized.into(),
		report,
		signature
	));
}

/// Blocks in which all validators do what is due, until the pallet has said something. At most so many.
fn until_told(most: u32) -> Event<Runtime> {
	System::reset_events();
	for _ in 0..most {
		VALIDATORS.into_iter().for_each(work);
		next_block();
		let said = System::events()
			.into_iter()
			.find_map(|record| match record.event {
				RuntimeEvent::Moderation(event) => Some(event),
				_ => None,
			});
		if let Some(event) = said {
			return event;
		}
	}
	panic!("nothing in {most} blocks");
}

fn propose(text: &str) -> RequestId {
	let request = pallet_inference::NextRequest::<Runtime>::get();
	let quote = Moderation::quote(text.as_bytes().to_vec()).unwrap();
	assert_ok!(Moderation::propose(
		RuntimeOrigin::signed(ALICE),
		text.as_bytes().to_vec().try_into().unwrap(),
		quote.fee_limit,
	));
	assert_eq!(held(), quote.deposit + earlier());
	let escrow = pallet_inference::HoldReason::Escrow.into();
	assert_eq!(Balances::balance_on_hold(&escrow, &ALICE), quote.fee_limit);
	request
}

fn earlier() -> u64 {
	Notes::<Runtime>::get(ALICE).map_or(0, |note| note.deposit)
}

fn held() -> u64 {
	Balances::balance_on_hold(&HoldReason::Deposit.into(), &ALICE)
}

fn paid(request: RequestId) -> u64 {
	Inference::request_view(request).unwrap().paid
}

/// What is Alice's besides what stands in holds.
fn free() -> u64 {
	Balances::free_balance(ALICE)
}

// docs: network
#[test]
fn a_good_text_is_stored_once_its_answer_is_final() {
	network(4, || {
		let before = free();
		let request = propose("good morning");
		let stored = Event::Stored {
			who: ALICE,
			request,
			released: 0,
		};
		assert_eq!(until_told(12), stored);
		let note = Notes::<Runtime>::get(ALICE).unwrap();
		assert_eq!(note.text[..], *b"good morning");
		assert_eq!(Inference::request_view(request).unwrap().verifiers.len(), 2);
		// The answer is paid, its deposit held, and everything else is back.
		assert_eq!(held(), 100 + 2 * 12);
		assert_eq!(free(), before - paid(request) - held());
	});
}

#[test]
fn a_bad_text_is_paid_for_and_not_stored() {
	network(4, || {
		let before = free();
		let request = propose("rubbish");
		let refused = Event::Refused {
			who: ALICE,
			request,
			verdict: Verdict::Refused,
			released: 100 + 2 * 7,
		};
		assert_eq!(until_told(12), refused);
		assert!(Notes::<Runtime>::get(ALICE).is_none());
		assert_eq!((held(), free()), (0, before - paid(request)));
	});
}
// docs: end

fn is_not_judged(event: Event<Runtime>, request: RequestId, wanted: NotJudged, deposit: u64) {
	let expected = Event::NotJudged {
		who: ALICE,
		request,
		reason: wanted,
		released: deposit,
	};
	assert_eq!(event, expected);
	assert!(Notes::<Runtime>::get(ALICE).is_none());
	assert_eq!(held(), 0);
}

#[test]
fn what_the_model_s_template_refuses_is_paid_for_and_not_judged() {
	network(4, || {
		let before = free();
		let request = propose("poison");
		let wanted = NotJudged::Unanswerable(Unanswerable::TemplateRefused);
		is_not_judged(until_told(12), request, wanted, 112);
		assert!(paid(request) > 0);
		assert_eq!(free(), before - paid(request));
	});
}

#[test]
fn the_requester_takes_a_text_back_with_the_question() {
	network(4, || {
		let before = free();
		let request = propose("good morning");
		assert_ok!(Inference::cancel(RuntimeOrigin::signed(ALICE), request));
		let wanted = NotJudged::Refunded(RequestState::Cancelled);
		is_not_judged(until_told(3), request, wanted, 124);
		assert_eq!(free(), before);
	});
}

#[test]
fn where_nobody_answers_everything_is_returned() {
	network(4, || {
		let before = free();
		let request = propose("good morning");
		for _ in 0..60 {
			next_block();
		}
		let mut told = System::events()
			.into_iter()
			.filter_map(|record| match record.event {
				RuntimeEvent::Moderation(event) => Some(event),
				_ => None,
			});
		let wanted = NotJudged::Refunded(RequestState::Expired);
		is_not_judged(told.next_back().unwrap(), request, wanted, 124);
		assert_eq!(free(), before);
	});
}

#[test]
fn on_a_developer_s_chain_one_validator_is_enough() {
	network(1, || {
		let request = propose("good morning");
		assert!(matches!(until_told(8), Event::Stored { .. }));
		let view = Inference::request_view(request).unwrap();
		assert!(view.verifiers.is_empty(), "checked by nobody");
	});
}

#[test]
fn what_the_model_does_not_take_is_refused_by_its_reason() {
	network(4, || {
		use crate::Unquoted;
		use consilience_primitives::view::QuoteError;

		let mut policy = chat();
		policy.model = ModelId::repeat_byte(2);
		assert_ok!(Moderation::set_policy(RuntimeOrigin::root(), Some(policy)));
		let propose = || {
			let text = b"good".to_vec().try_into().unwrap();
			Moderation::propose(RuntimeOrigin::signed(ALICE), text, 10_000)
		};
		frame_support::assert_noop!(propose(), pallet_inference::Error::<Runtime>::UnknownModel);
		let unquoted = Unquoted::Inference(QuoteError::UnknownModel);
		assert_eq!(Moderation::quote(b"good".to_vec()), Err(unquoted));
	});
}
