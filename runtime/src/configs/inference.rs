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
use pallet_inference::{Measurement, ProtocolParameters};
use sp_runtime::{traits::AccountIdConversion, Perbill};

/// Blocks for which a settled request stays readable.
pub const RETENTION: BlockNumber = DAYS;

/// Blocks in which an accusation can be contested: two hours, in which an operator can look at it.
pub const CONTEST_BLOCKS: BlockNumber = 120 * MINUTES;

parameter_types! {
	/// Pays for measurements that no requester pays: of juries that found a lie, and of answers that are measured again.
	pub JuryFundAccount: AccountId = frame_support::PalletId(*b"csl/jury").into_account_truncating();
	pub const DefaultParameters: ProtocolParameters<Balance> = ProtocolParameters {
		treasury_share: Perbill::from_percent(10),
		// The executor generates, which costs several times what a verifier's one pass costs.
		verifier_share: Perbill::from_percent(20),
		// Whatever an owner asks for its model, and whoever it is: a hundredth of what the demo's models cost for a request.
		measurement: Measurement { base: MILLI / 10, per_unit: MICRO },
		// An audit is two measurements, so that one in fifty costs a twenty-fifth of one; the rest is for juries.
		audit_share: Perbill::from_percent(2),
		premium_share: Perbill::from_percent(10),
		// Double where the last of the capacity is taken.
		surcharge_at_full: 1_000,
		// More than all that a validator can earn in the week for which stake stays bonded: see docs/threat-model.md.
		result_slash: Perbill::from_percent(10),
		evidence_slash: Perbill::from_percent(10),
		withheld_slash: Perbill::from_percent(1),
		// A tenth of a percent.
		absence_slash: Perbill::from_parts(1_000_000),
	};
}

/// An executor and the two verifiers of a committee that can say who is wrong; on a developer's chain with one validator, that one,
/// whose answers nobody checks.
pub struct MinServing;

impl frame_support::traits::Get<u32> for MinServing {
	fn get() -> u32 {
		if Inference::is_solo() {
			1
		} else {
			3
		}
	}
}

impl pallet_model_registry::Config for Runtime {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type DepositBase = ConstU128<{ 10 * UNIT }>;
	type DepositPerByte = ConstU128<{ 10 * MILLI }>;
	type MinServing = MinServing;
	type MaxServing = ConstU32<64>;
	// Ten minutes: a validator that serves a model that is asked is drawn in less.
	type ServingGrace = ConstU32<{ 10 * MINUTES }>;
	type MaxServed = ConstU32<16>;
	type MaxModels = ConstU32<1_024>;
	// More than vouchers for its answers are good, and receipts of those can be opened.
	type RemovalDelay = ConstU32<RETENTION>;
	type WeightInfo = pallet_model_registry::weights::SubstrateWeight<Runtime>;
}

impl pallet_inference::Config for Runtime {
	// Read in `Inference`'s `on_finalize`, after Babe's, this is the present block's VRF output.
	type Randomness = pallet_babe::ParentBlockRandomness<Runtime>;
	type Treasury = TreasuryAccount;
	type JuryFund = JuryFundAccount;
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
	// Ten blocks of one machine's work: less than the time that a model gives for an answer beside its own work.
	type MaxLoad = ConstU32<10_000>;
	type MaxJuries = ConstU32<32>;
	type ContestBlocks = ConstU32<CONTEST_BLOCKS>;
	// A third of the slots owns all blocks that draw in one of a thousand answers.
	type DrawOdds = ConstU32<1_000>;
	// As many keep those odds where an answer takes up to 176 blocks: 177 × 3⁻¹¹ < 1 ÷ 1,000.
	type Contributors = ConstU32<11>;
	// A third of the authors keeps a contribution out of all of them in one of 81 tosses, and nobody is blamed for that.
	type ContributionBlocks = ConstU32<4>;
	type MaxJurors = ConstU32<32>;
	type MaxNominators = MaxNominators;
	// Two liars could win a smaller one.
	type MinJury = ConstU32<3>;
	type AppealBond = ConstU128<{ 10 * UNIT }>;
	// Five minutes.
	type AppealBlocks = ConstU32<100>;
	// Long enough that nobody knows the slots that decide; short beside the day for which answers are kept.
	type AuditDelay = ConstU32<{ 30 * MINUTES }>;
	type MinEscrow = ConstU128<{ MILLI }>;
	type MaxVerifiers = ConstU8<{ consilience_primitives::model::MAX_VERIFIERS }>;
	type MaxOpen = ConstU32<4_096>;
	type MaxOpenPerAccount = ConstU32<1_024>;
	type MaxPerBlock = ConstU32<1_024>;
	type MaxDraws = ConstU32<512>;
	type DrawPatience = ConstU32<20>;
	// And as many once more: a third of the authors can't keep a reveal out of so many blocks.
	type RevealBlocks = ConstU32<12>;
	type Retention = ConstU32<RETENTION>;
	type ReportLongevity = ConstU32<8>;
	// Before ordinary transactions, behind operational ones.
	type ReportPriority = ConstU64<{ u64::MAX / 2 }>;
	// No judge is in this runtime.
	type LastJudge = ();
	type DisputeBlocks = ConstU32<0>;
	// It has receipts of the session lane measured.
	type OnSettled = Sessions;
	type WeightInfo = pallet_inference::weights::SubstrateWeight<Runtime>;
}
