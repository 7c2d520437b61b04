//! Authoring, finality, sessions and their keys.

use crate::{configs::staking::*, *};
use frame_support::traits::{ConstU128, ConstU32, ConstU64};
use pallet_session::disabling::{
	DisablingDecision, DisablingStrategy, UpToLimitWithReEnablingDisablingStrategy,
};
use sp_runtime::traits::{Convert, ConvertInto, OpaqueKeys};
use sp_staking::offence::OffenceSeverity;

/// Most validators in a session.
pub type MaxAuthorities = ConstU32<300>;

/// Most nominators behind a validator: the election gives it no more, and the weight of an offence counts with so many.
pub type MaxNominators = ConstU32<2_000>;

/// How long an equivocation can be reported, in blocks: as long as the stake is bonded.
type ReportLongevity =
	ConstU64<{ BONDING_DURATION as u64 * SESSIONS_PER_ERA as u64 * EPOCH_DURATION_IN_SLOTS }>;

impl pallet_babe::Config for Runtime {
	type EpochDuration = ConstU64<EPOCH_DURATION_IN_SLOTS>;
	type ExpectedBlockTime = ConstU64<MILLISECS_PER_BLOCK>;
	type EpochChangeTrigger = pallet_babe::ExternalTrigger;
	type DisabledValidators = Session;
	type MaxAuthorities = MaxAuthorities;
	type MaxNominators = MaxNominators;
	type KeyOwnerProof = sp_session::MembershipProof;
	type EquivocationReportSystem =
		pallet_babe::EquivocationReportSystem<Self, Offences, Historical, ReportLongevity>;
	type WeightInfo = ();
}

impl pallet_grandpa::Config for Runtime {
	type RuntimeEvent = RuntimeEvent;
	type MaxAuthorities = MaxAuthorities;
	type MaxNominators = MaxNominators;
	type MaxSetIdSessionEntries = ConstU64<{ BONDING_DURATION as u64 * SESSIONS_PER_ERA as u64 }>;
	type KeyOwnerProof = sp_session::MembershipProof;
	type EquivocationReportSystem =
		pallet_grandpa::EquivocationReportSystem<Self, Offences, Historical, ReportLongevity>;
	type WeightInfo = ();
}

impl pallet_authorship::Config for Runtime {
	type FindAuthor = pallet_session::FindAccountFromAuthorIndex<Self, Babe>;
	type EventHandler = Staking;
}

impl pallet_session::Config for Runtime {
	type RuntimeEvent = RuntimeEvent;
	type ValidatorId = AccountId;
	type ValidatorIdOf = ConvertInto;
	type ShouldEndSession = Babe;
	type NextSessionRotation = Babe;
	type SessionManager = pallet_session::historical::NoteHistoricalRoot<Self, Staking>;
	type SessionHandler = <SessionKeys as OpaqueKeys>::KeyTypeIdProviders;
	type Keys = SessionKeys;
	type DisablingStrategy = UnlessAbsent;
	type Currency = Balances;
	type KeyDeposit = ConstU128<UNIT>;
	type WeightInfo = pallet_session::weights::SubstrateWeight<Runtime>;
}

impl pallet_session::historical::Config for Runtime {
	type RuntimeEvent = RuntimeEvent;
	type FullIdentification = ();
	type FullIdentificationOf = Anybody;
}

/// Disables up to a third of the validators for what they did, those with the largest fractions, and nobody for absence.
pub struct UnlessAbsent;

impl DisablingStrategy<Runtime> for UnlessAbsent {
	fn decision(
		offender: &AccountId,
		severity: OffenceSeverity,
		disabled: &Vec<(u32, OffenceSeverity)>,
	) -> DisablingDecision {
		if Inference::is_reporting_absence() {
			return DisablingDecision {
				disable: None,
				reenable: None,
			};
		}
		<UpToLimitWithReEnablingDisablingStrategy as DisablingStrategy<Runtime>>::decision(
			offender, severity, disabled,
		)
	}
}

/// How sessions identify a validator: by its account alone, whether it is one at present or was one when it did what it is reported
/// for. `pallet_staking::UnitIdentificationOf` knows only the present ones, so that who leaves could not be reported. Staking looks
/// up the stake of the deed's session by itself.
pub struct Anybody;

impl Convert<AccountId, Option<()>> for Anybody {
	fn convert(_validator: AccountId) -> Option<()> {
		Some(())
	}
}

impl pallet_authority_discovery::Config for Runtime {
	type MaxAuthorities = MaxAuthorities;
}
