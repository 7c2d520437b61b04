//! What clients are shown of models and requests.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::sp_core::H256;
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{
	evidence::Evidence,
	model::{ModelSpec, ModelStatus, Price},
	request::{Assurance, InputError, Output, StoredInput},
	ModelId, RequestId,
};

/// Where a request stands.
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
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
	/// Escrow is held; an executor is to be drawn.
	Requested,
	/// An executor is at work.
	Assigned,
	/// The answer, or a commitment to it, is on chain and being measured, or open to appeal.
	Provisional,
	/// The round disagreed, or somebody appealed: a jury measures.
	Disputed,
	/// Checked, or not drawn for a check and not appealed against: paid.
	Final,
	/// A jury found the answer wrong, or could not decide: refunded.
	Rejected,
	/// Nobody answered or checked it in time: refunded.
	Expired,
	/// Cancelled by its requester before an executor was drawn: refunded, but for the surcharge.
	Cancelled,
	/// Checked: no honest machine can answer this input. Those who found that out are paid for it; the rest is returned.
	Unanswerable,
	/// An answer that was final was found false later. What the requester had paid is returned as far as the jury fund goes.
	Overturned,
}

impl RequestState {
	/// Whether nothing more happens.
	pub const fn is_settled(self) -> bool {
		matches!(
			self,
			Self::Final
				| Self::Rejected
				| Self::Expired
				| Self::Cancelled
				| Self::Unanswerable
				| Self::Overturned
		)
	}
}

/// A request as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct RequestView<AccountId, BlockNumber, Balance> {
	/// Its number.
	pub id: RequestId,
	/// Who asked and pays.
	pub requester: AccountId,
	/// The model.
	pub model: ModelId,
	/// What was asked.
	pub input: StoredInput,
	/// How it is checked.
	pub assurance: Assurance,
	/// Where it stands. An output is not final in any state but [`RequestState::Final`].
	pub state: RequestState,
	/// Seed of the sampling noise, once an executor is drawn.
	pub seed: Option<H256>,
	/// Seed of the challenge, once it is drawn.
	pub challenge: Option<H256>,
	/// The present or last executor.
	pub executor: Option<AccountId>,
	/// The round's verifiers.
	pub verifiers: Vec<AccountId>,
	/// The jury, once there is one.
	pub jurors: Vec<AccountId>,
	/// The answer, once shown.
	pub output: Option<Output>,
	/// What each member of the round, and then of the jury, has shown of its measurement. A juror's is under [`Self::jury_challenge`].
	pub evidence: Vec<(AccountId, Evidence)>,
	/// Seed of the jury's challenge, once it is drawn.
	pub jury_challenge: Option<H256>,
	/// Block of the request.
	pub requested_at: BlockNumber,
	/// Block at whose end the present executor was drawn.
	pub assigned_at: Option<BlockNumber>,
	/// Block of the answer or the commitment to it.
	pub provisional_at: Option<BlockNumber>,
	/// Last block in which somebody can appeal against an answer that was not drawn for a check.
	pub appealable_until: Option<BlockNumber>,
	/// Block in which it was settled.
	pub settled_at: Option<BlockNumber>,
	/// Escrow that was held.
	pub escrow: Balance,
	/// What it cost: payments out of the escrow, and the surcharge where that was burned.
	pub paid: Balance,
	/// Of what was paid, or is to be: what is burned because those who serve the model were more than half taken. Nothing where `paid` is
	/// nothing in the end.
	pub surcharge: Balance,
	/// What was returned.
	pub refunded: Balance,
}

/// A model as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ModelView<AccountId, Balance> {
	/// Hash of its manifest.
	pub id: ModelId,
	/// Who registered it.
	pub owner: AccountId,
	/// What was registered.
	pub spec: ModelSpec,
	/// What it costs.
	pub price: Price<Balance>,
	/// Where it stands.
	pub status: ModelStatus,
	/// Validators that serve it.
	pub serving: Vec<AccountId>,
	/// Validators that have said that they compute something else for its reference input.
	pub differing: Vec<AccountId>,
}

/// How long an answer is expected to take, in blocks, by what the chain knows when it is asked. Nobody is bound by it.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
pub struct Wait {
	/// What the machine in the middle of those who serve the model has to do before.
	pub queue: u32,
	/// The longest answer on that machine.
	pub work: u32,
	/// Until the executor is drawn, and from the answer until its verifiers are.
	pub draws: u32,
	/// Measuring, commitments, their finality and reveals; of a check by chance, the mean of that and of the time for appeals.
	pub rounds: u32,
}

impl Wait {
	/// Blocks from the request until it is settled.
	pub const fn blocks(&self) -> u32 {
		self.queue
			.saturating_add(self.work)
			.saturating_add(self.draws)
			.saturating_add(self.rounds)
	}
}

/// What a request would cost, and how long it would take.
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
pub struct Quote<Balance> {
	/// The least fee limit with which it is taken, tip not counted: the longest answer, its checks, the premium and the surcharge.
	pub fee: Balance,
	/// Of it, what is burned because those who serve the model are more than half taken.
	pub surcharge: Balance,
	/// Part of the work that those who serve the model can take which is taken, in thousandths.
	pub taken: u32,
	/// How long the answer is expected to take.
	pub wait: Wait,
}

/// Why a request would be refused.
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
pub enum QuoteError {
	/// No such model.
	UnknownModel,
	/// The model is not active.
	ModelNotActive,
	/// The input does not suit the model.
	Input(InputError),
	/// Fewer verifiers or a rarer check than the model's minimum, more verifiers than the chain's maximum, or a check by
	/// chance of an answer that is the evidence itself.
	BadAssurance,
	/// The price does not fit the balance type.
	Overflow,
	/// More verifiers than validators that serve the model beside an executor.
	TooFewServe,
	/// Those who serve the model have more to do already than they can do in time.
	NoCapacity {
		/// Blocks after which there is expected to be room, at least one, if nobody else asks.
		blocks: u32,
	},
}
