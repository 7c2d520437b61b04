//! What the pallet stores.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::{
	evidence::Evidence, request::Assurance, view::RequestState, List, ModelId, RequestId,
};
use polkadot_sdk::{
	frame_system::pallet_prelude::BlockNumberFor, sp_core::H256, sp_runtime::Perbill,
	sp_staking::SessionIndex,
};
use scale_info::TypeInfo;

use crate::features::round::Round;

pub use pallet_model_registry::BalanceOf;

/// Most members of a round.
pub const MAX_MEMBERS: u32 = 32;

/// Most validators that one request turns away because they were late: beyond that it expires.
pub const MAX_EXCLUDED: u32 = 16;

/// A request of runtime `T`.
pub type RequestOf<T> =
	Request<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A round of runtime `T`.
pub type RoundOf<T> =
	Round<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>, Evidence>;

/// A jury of runtime `T`.
pub type JuryOf<T> =
	Jury<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A request. Input, output and round are stored beside it.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Request<AccountId, BlockNumber, Balance> {
	/// Who asked and pays.
	pub requester: AccountId,
	/// The model.
	pub model: ModelId,
	/// How the answer is checked.
	pub assurance: Assurance,
	/// Verifiers of a round.
	pub verifiers: u8,
	/// Where it stands.
	pub state: RequestState,
	/// What is held from the requester while it is open.
	pub escrow: Balance,
	/// Paid on top of the price.
	pub tip: Balance,
	/// Price when it was asked.
	pub price: consilience_primitives::model::Price<Balance>,
	/// Input units to pay for.
	pub input_units: u32,
	/// Most output units of the answer.
	pub max_output_units: u32,
	/// Seed of the sampling noise, once an executor is drawn. Stays when the executor is replaced.
	pub seed: Option<H256>,
	/// Present executor.
	pub executor: Option<AccountId>,
	/// Validators that were late with this request and get no second chance.
	pub excluded: List<AccountId, MAX_EXCLUDED>,
	/// Commitment to an output that is not shown yet.
	pub output_commitment: Option<H256>,
	/// Whether another pallet asked and is to be told of the end.
	pub callback: bool,
	/// Block in which lateness is next looked at.
	pub deadline: BlockNumber,
	/// Block of the request.
	pub requested_at: BlockNumber,
	/// Block at whose end the present executor was drawn.
	pub assigned_at: Option<BlockNumber>,
	/// Session in which the present executor was drawn: its answer is a deed of this session.
	pub assigned_in: Option<SessionIndex>,
	/// Block of the answer or of the commitment to it.
	pub provisional_at: Option<BlockNumber>,
	/// Last block for an appeal, where the answer was not drawn for a check.
	pub appealable_until: Option<BlockNumber>,
	/// Block in which it was settled.
	pub settled_at: Option<BlockNumber>,
	/// What was paid out of the escrow.
	pub paid: Balance,
	/// What was returned of the escrow.
	pub refunded: Balance,
}

/// What a validator has been drawn for.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Role {
	/// It answers, and measures.
	Executor,
	/// It measures.
	Verifier,
	/// It measures in a dispute.
	Juror,
}

/// An appeal against an answer that was not drawn for a check.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Appeal<AccountId, Balance> {
	/// Who appealed.
	pub who: AccountId,
	/// What is held from it.
	pub bond: Balance,
}

/// A dispute.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Jury<AccountId, BlockNumber, Balance> {
	/// The jury's round, once it is drawn.
	pub round: Option<Round<AccountId, BlockNumber, Evidence>>,
	/// The appeal that called it; none where a committee did not agree.
	pub appeal: Option<Appeal<AccountId, Balance>>,
}

/// What governance decides: how a price is divided, and what offences cost.
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
pub struct ProtocolParameters {
	/// The executor's share of the price.
	pub executor_share: Perbill,
	/// The verifiers' share of the price, divided equally. The rest is the treasury's, and a jury's where there is one.
	pub verifier_share: Perbill,
	/// Part of the stake that an answer costs which is not the model's.
	pub result_slash: Perbill,
	/// Part of the stake that invented evidence costs.
	pub evidence_slash: Perbill,
	/// Part of the stake that it costs to commit and not reveal.
	pub withheld_slash: Perbill,
	/// Part of the stake that each absence beyond the free ones costs.
	pub absence_slash: Perbill,
}

impl ProtocolParameters {
	/// Whether the shares are at most the whole.
	pub fn is_valid(&self) -> bool {
		u64::from(self.executor_share.deconstruct()) + u64::from(self.verifier_share.deconstruct())
			<= u64::from(Perbill::one().deconstruct())
	}
}

/// A request that waits for a draw.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct PendingDraw<BlockNumber> {
	/// The request: one without executor waits for one, one with an answer for its verifiers.
	pub request: RequestId,
	/// Block of the event: only randomness of a later block serves.
	pub since: BlockNumber,
}

/// Why a request expired.
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
pub enum ExpiryReason {
	/// No validator that serves the model was free, or all that were drawn were late.
	NoExecutor,
	/// Too few validators that serve the model were there to check the answer.
	TooFewVerifiers,
	/// A member withheld what it was bound to when others had shown theirs.
	RevealMissing,
}
