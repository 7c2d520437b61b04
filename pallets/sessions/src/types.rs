//! What the pallet stores.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::{
	session::{
		Allocation, Allotment, ChannelId, ClaimId, LaneKey, Service, SumNode, MAX_ALLOCATIONS,
		MAX_ENDPOINT, MAX_POINTS,
	},
	Bytes, List, RequestId,
};
use polkadot_sdk::{
	frame_system::pallet_prelude::BlockNumberFor, sp_core::H256, sp_staking::SessionIndex,
};
use scale_info::TypeInfo;

pub use pallet_model_registry::BalanceOf;

/// Most lane keys that a validator certifies for one session.
pub const MAX_KEYS: u32 = 4;

/// Most certificates of a validator in one session.
pub const MAX_CERTIFICATES: u8 = 8;

/// Most points of a claim: those that are drawn, and receipts that are put before a jury and in which none lies.
pub const MAX_CLAIM_POINTS: u32 = MAX_POINTS + 4;

/// Most windows of blocks whose randomness something waits for. There are more than two only while blocks have no randomness.
pub const MAX_WINDOWS: u32 = 16;

/// A channel of runtime `T`.
pub type ChannelOf<T> =
	Channel<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A claim of runtime `T`.
pub type PendingClaimOf<T> = PendingClaim<
	<T as polkadot_sdk::frame_system::Config>::AccountId,
	BlockNumberFor<T>,
	BalanceOf<T>,
>;

/// A channel. What is held for it is what is not claimed of its allotments, and what is pending.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Channel<AccountId, BlockNumber, Balance> {
	/// Who opened it.
	pub owner: AccountId,
	/// Signs its vouchers.
	pub key: LaneKey,
	/// Tip of its client's hash chain.
	pub chain: H256,
	/// Its seed, once it is drawn.
	pub seed: Option<H256>,
	/// First block in which nothing is claimed of it any more, if it is closing.
	pub closes_at: Option<BlockNumber>,
	/// Whether all that was not claimed is returned, after closing. It goes when its last claim ends.
	pub withdrawn: bool,
	/// For checkers.
	pub pot: Allotment<BlockNumber, Balance>,
	/// For executors. None of them is ever taken out, or its old vouchers would be worth something again.
	pub allocations: List<Allocation<AccountId, BlockNumber, Balance>, MAX_ALLOCATIONS>,
	/// Checkers that have claimed of the pot.
	pub checkers: u32,
	/// Claims that have not ended.
	pub claims: u32,
	/// All that was ever held for it.
	pub deposited: Balance,
	/// Money of claims that have not ended.
	pub pending: Balance,
	/// What was paid of it, shares of treasury and jury fund and what was forfeited to the treasury included.
	pub paid: Balance,
	/// What was returned to its owner.
	pub refunded: Balance,
}

/// A part of a channel's money.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Part<AccountId> {
	/// An executor's.
	Payee(AccountId),
	/// That for checkers.
	Pot,
}

/// What a validator has certified in one session.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Certified {
	/// Its lane keys, the last in use. What an earlier one has signed in this session stays its word.
	pub keys: List<LaneKey, MAX_KEYS>,
	/// Where clients reach it.
	pub endpoint: Bytes<MAX_ENDPOINT>,
	/// How many certificates that took.
	pub times: u8,
}

/// A claim whose money is pending.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct PendingClaim<AccountId, BlockNumber, Balance> {
	/// Which channel pays.
	pub channel: ChannelId,
	/// Whom.
	pub payee: AccountId,
	/// For what.
	pub service: Service,
	/// Root over its receipts or verdicts. Its sum is what is claimed.
	pub root: SumNode<Balance>,
	/// What its payee had claimed of the channel for this service before: its interval begins there.
	pub before: Balance,
	/// How many those are.
	pub count: u32,
	/// Session in which the lane key was certified that signed it.
	pub session: SessionIndex,
	/// Block of the claim.
	pub claimed_at: BlockNumber,
	/// Last block in which its receipts can be opened, once its points are drawn.
	pub deadline: Option<BlockNumber>,
	/// Its points of money: those that were drawn by rising offset, and behind them one for each receipt that was put before a jury and in
	/// which none of those lay.
	pub points: List<Point<Balance>, MAX_CLAIM_POINTS>,
	/// Whether that block has passed: it waits for measurements only.
	pub over: bool,
}

/// A point of money: the receipt in which it lies is to be opened.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Point<Balance> {
	/// Where in the claim it lies.
	pub offset: Balance,
	/// What became of it.
	pub state: PointState,
}

/// What became of a point of money.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum PointState {
	/// Its receipt is to be opened.
	Due,
	/// The answer is being measured.
	Measured(RequestId),
	/// The answer stands.
	Stands(RequestId),
	/// The answer can't be measured: its model is gone.
	Unmeasured,
}

impl PointState {
	/// Where its answer is measured or was.
	pub fn request(&self) -> Option<RequestId> {
		match self {
			Self::Measured(request) | Self::Stands(request) => Some(*request),
			Self::Due | Self::Unmeasured => None,
		}
	}

	/// Whether nothing more has to happen for it.
	pub fn is_cleared(&self) -> bool {
		matches!(self, Self::Stands(_) | Self::Unmeasured)
	}
}

/// A receipt that was opened.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Opened<Balance> {
	/// Of which claim.
	pub claim: ClaimId,
	/// Number of its request in the channel.
	pub number: u32,
	/// What was paid of it.
	pub paid: Balance,
}

/// What waits for a window's randomness.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Draw {
	/// A channel, for its seed.
	Seed(ChannelId),
	/// A claim, for its points.
	Points(ClaimId),
}

/// Blocks in a row whose randomness draws.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Window<BlockNumber> {
	/// The first of them.
	pub from: BlockNumber,
	/// How many.
	pub blocks: u8,
	/// What they gave, once it is there.
	pub seed: Option<H256>,
}

/// Why a claim is forfeited.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Forfeit {
	/// A receipt was not opened in time.
	NotOpened,
	/// An answer was false.
	False,
}
