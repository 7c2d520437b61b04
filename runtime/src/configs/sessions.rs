//! The session lane: channels, claims and their audits.

use crate::{
	configs::{
		governance::TreasuryAccount,
		inference::JuryFundAccount,
		staking::{BONDING_DURATION, SESSIONS_PER_ERA},
	},
	*,
};
use frame_support::{
	parameter_types,
	traits::{ConstU128, ConstU32, ConstU64},
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

parameter_types! {
	// An audit is two measurements of a text, of about a thousandth of a coin each: less than this of a coin.
	pub const AuditShare: Perbill = Perbill::from_percent(2);
}

const _: () = assert!(
	VOUCHER_SESSIONS + OPENING_SESSIONS + 1 < BONDING_DURATION * SESSIONS_PER_ERA,
	"stake would not answer for a receipt any more"
);

impl pallet_sessions::Config for Runtime {
	type Validators = Inference;
	type Beacon = Inference;
	type Audits = Inference;
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
	type ClaimBlocks = ConstU32<{ (VOUCHER_SESSIONS + 1) * EPOCH_DURATION_IN_SLOTS as u32 }>;
	type CertificateSessions = ConstU32<{ VOUCHER_SESSIONS + OPENING_SESSIONS + 1 }>;
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
