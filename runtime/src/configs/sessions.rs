//! The session lane: channels, claims and their audits.

use crate::{
	configs::{
		governance::TreasuryAccount,
		inference::{JuryFundAccount, CONTEST_BLOCKS, RETENTION},
		staking::{PastStake, BONDING_DURATION, SESSIONS_PER_ERA, SLASH_DEFER_DURATION},
	},
	*,
};
use frame_support::{
	parameter_types,
	traits::{ConstU128, ConstU32, ConstU64},
	weights::Weight,
};
use sp_runtime::Perbill;

/// Sessions after its own in which a voucher can be claimed: an era.
pub const VOUCHER_SESSIONS: u32 = SESSIONS_PER_ERA;

/// Blocks that payees have to claim what they are owed when their channel is closed: more than a day's trouble with finality.
pub const NOTICE: BlockNumber = 30 * HOURS;

/// Blocks in which a drawn receipt is to be opened: two hours, as an accusation can be contested, in which a machine can be started again.
pub const OPENING_BLOCKS: BlockNumber = 2 * HOURS;

/// Sessions that begin while a receipt may be opened, and one that has begun already.
const OPENING_SESSIONS: u32 = (OPENING_BLOCKS as u64).div_ceil(EPOCH_DURATION_IN_SLOTS) as u32 + 1;

/// Blocks from a receipt's anchor in which it can be put before a jury: three hours, in which somebody comes back who was away.
pub const APPEAL_BLOCKS: BlockNumber = 3 * HOURS;

/// Sessions in which what checkers have signed of a receipt can be shown after it was opened: those of its measurement, a jury, and two
/// contests.
const TESTIMONY_SESSIONS: u32 = 3 * SESSIONS_PER_ERA;

/// Sessions, after its own, in which a certificate is known.
const CERTIFICATE_SESSIONS: u32 = VOUCHER_SESSIONS + OPENING_SESSIONS + 1 + TESTIMONY_SESSIONS;

parameter_types! {
	pub const UnauditedShare: Perbill = Perbill::from_percent(50);
	// An audit is two measurements of a text, of about a thousandth of a coin each: less than this of a coin.
	pub const AuditShare: Perbill = Perbill::from_percent(2);
}

const _: () = assert!(
	CERTIFICATE_SESSIONS < BONDING_DURATION * SESSIONS_PER_ERA,
	"stake would not answer for a receipt any more"
);
// It is audited, or shown, a jury judges it, what was shown late is contested after that, and a second jury judges that; then governance
// has a day.
const _: () = assert!(
	CERTIFICATE_SESSIONS * EPOCH_DURATION_IN_SLOTS as u32
		+ 3 * DAYS
		+ RETENTION
		+ 2 * CONTEST_BLOCKS
		+ DAYS <= SLASH_DEFER_DURATION * SESSIONS_PER_ERA * EPOCH_DURATION_IN_SLOTS as u32,
	"what a checker or an executor has signed can be judged too late for staking to slash for it"
);
const _: () = assert!(
	APPEAL_BLOCKS
		+ consilience_primitives::session::MAX_ANCHOR_AGE
		+ EPOCH_DURATION_IN_SLOTS as u32
		<= CERTIFICATE_SESSIONS * EPOCH_DURATION_IN_SLOTS as u32,
	"a receipt could be appealed against whose key is forgotten"
);
const _: () = assert!(
	APPEAL_BLOCKS < RETENTION,
	"a receipt could be put before a jury again, because the first time is forgotten"
);

impl pallet_sessions::SlashableStake<AccountId, Balance> for PastStake {
	fn slashable(validator: &AccountId, session: u32) -> Balance {
		let Some(era) = Self::era_of(session) else {
			return 0;
		};
		let total = pallet_staking::ErasStakersOverview::<Runtime>::get(era, validator)
			.map_or(0, |stakers| stakers.total);
		let charged = pallet_staking::ValidatorSlashInEra::<Runtime>::get(era, validator)
			.map_or(Perbill::zero(), |(fraction, _)| fraction);
		total.saturating_sub(charged.mul_ceil(total))
	}

	fn weight() -> Weight {
		// Counted by hand: the eras and where they begin, the stakers and the slash.
		<Runtime as frame_system::Config>::DbWeight::get().reads(5)
			+ Weight::from_parts(10_000_000, 15_000)
	}

	#[cfg(feature = "runtime-benchmarks")]
	fn set(validator: &AccountId, session: u32, amount: Balance) {
		let active = pallet_staking::ActiveEraInfo {
			index: 0,
			start: None,
		};
		pallet_staking::ActiveEra::<Runtime>::put(active);
		pallet_staking::ErasStartSessionIndex::<Runtime>::insert(0, session);
		let stakers = sp_staking::PagedExposureMetadata {
			total: amount,
			own: amount,
			nominator_count: 0,
			page_count: 0,
		};
		pallet_staking::ErasStakersOverview::<Runtime>::insert(0, validator, stakers);
	}
}

impl pallet_sessions::Config for Runtime {
	type Validators = Inference;
	type Beacon = Inference;
	type Audits = Inference;
	type Stake = PastStake;
	type UnauditedShare = UnauditedShare;
	type Treasury = TreasuryAccount;
	type JuryFund = JuryFundAccount;
	type TreasuryShare = pallet_inference::TreasuryShare<Runtime>;
	type AuditShare = AuditShare;
	// At most half of what a lie costs that is found once, a tenth of a stake: of every stake from twenty coins on.
	type PointInterval = ConstU128<UNIT>;
	type MinAllocation = ConstU128<{ 100 * MILLI }>;
	// Half an answer of the demo's language model. Treasury and jury fund have 0.6 thousandths of a coin of it, the fee of 0.6
	// milliseconds; a claim takes less.
	type MinClaim = ConstU128<{ 5 * MILLI }>;
	type Notice = ConstU32<NOTICE>;
	type OpeningBlocks = ConstU32<OPENING_BLOCKS>;
	type AppealBlocks = ConstU32<APPEAL_BLOCKS>;
	type ClaimBlocks = ConstU32<{ (VOUCHER_SESSIONS + 1) * EPOCH_DURATION_IN_SLOTS as u32 }>;
	type CertificateSessions = ConstU32<CERTIFICATE_SESSIONS>;
	type MaxChannels = ConstU32<32>;
	// Whoever was drawn is to be paid, in a channel that lives long too.
	type MaxCheckers = ConstU32<300>;
	type MaxDraws = ConstU32<64>;
	type MaxPerBlock = ConstU32<64>;
	type Longevity = ConstU64<16>;
	// Behind reports, before ordinary transactions.
	type Priority = ConstU64<{ u64::MAX / 4 }>;
	type WeightInfo = pallet_sessions::weights::SubstrateWeight<Runtime>;
}
