//! Models and requests.

use crate::{
	configs::{
		consensus::{MaxAuthorities, MaxNominators},
		governance::TreasuryAccount,
		staking::{PastStake, SESSIONS_PER_ERA},
	},
	*,
};
use frame_support::{
	parameter_types,
	traits::{ConstU128, ConstU32, ConstU64, ConstU8},
};
use pallet_inference::ProtocolParameters;
use sp_runtime::Perbill;

/// Blocks for which a settled request stays readable.
pub const RETENTION: BlockNumber = DAYS;

parameter_types! {
	pub const DefaultParameters: ProtocolParameters = ProtocolParameters {
		// The executor generates, which costs several times what a verifier's one pass costs.
		executor_share: Perbill::from_percent(60),
		verifier_share: Perbill::from_percent(30),
		// More than all that a validator can earn in the week for which stake stays bonded: see docs/threat-model.md.
		result_slash: Perbill::from_percent(10),
		evidence_slash: Perbill::from_percent(10),
		withheld_slash: Perbill::from_percent(1),
		// A tenth of a percent.
		absence_slash: Perbill::from_parts(1_000_000),
	};
}

impl pallet_model_registry::Config for Runtime {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type DepositBase = ConstU128<{ 10 * UNIT }>;
	type DepositPerByte = ConstU128<{ 10 * MILLI }>;
	// An executor and the two verifiers of a committee that can say who is wrong.
	type MinServing = ConstU32<3>;
	type MaxServing = ConstU32<64>;
	type MaxServed = ConstU32<16>;
	type MaxModels = ConstU32<1_024>;
	type WeightInfo = pallet_model_registry::weights::SubstrateWeight<Runtime>;
}

impl pallet_inference::Config for Runtime {
	// Read in `Inference`'s `on_finalize`, after Babe's, this is the present block's VRF output.
	type Randomness = pallet_babe::ParentBlockRandomness<Runtime>;
	type Treasury = TreasuryAccount;
	type AdminOrigin = frame_system::EnsureRoot<AccountId>;
	type DefaultParameters = DefaultParameters;
	type ValidatorSet = Historical;
	type DisabledValidators = Session;
	// Offences of sessions for which no stake answers any more are not taken.
	type ReportOffence = pallet_staking::FilterHistoricalOffences<Staking, Offences>;
	type StakeHistory = PastStake;
	// An era.
	type SuspensionSessions = ConstU32<SESSIONS_PER_ERA>;
	type MaxValidators = MaxAuthorities;
	type MaxLoad = ConstU32<8>;
	type MaxJuries = ConstU32<4>;
	type MaxAssignments = ConstU32<12>;
	type MaxJurors = ConstU32<32>;
	type MaxNominators = MaxNominators;
	// Two liars could win a smaller one.
	type MinJury = ConstU32<3>;
	type AppealBond = ConstU128<{ 10 * UNIT }>;
	// Five minutes.
	type AppealBlocks = ConstU32<100>;
	type MinEscrow = ConstU128<{ MILLI }>;
	type MaxVerifiers = ConstU8<{ consilience_primitives::model::MAX_VERIFIERS }>;
	type MaxOpen = ConstU32<1_024>;
	type MaxOpenPerAccount = ConstU32<64>;
	type MaxPerBlock = ConstU32<64>;
	type DrawPatience = ConstU32<20>;
	type RevealBlocks = ConstU32<20>;
	type Retention = ConstU32<RETENTION>;
	type ReportLongevity = ConstU32<8>;
	// Before ordinary transactions, behind operational ones.
	type ReportPriority = ConstU64<{ u64::MAX / 2 }>;
	// No pallet of this runtime asks.
	type OnSettled = ();
	type WeightInfo = pallet_inference::weights::SubstrateWeight<Runtime>;
}
