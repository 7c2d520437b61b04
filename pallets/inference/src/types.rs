//! What the pallet stores.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::{
	comparison::AnswerJudgement, crypto::InferenceId, evidence::Evidence, request::Assurance,
	view::RequestState, List, ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::WeakBoundedVec,
	frame_system::pallet_prelude::BlockNumberFor,
	sp_core::H256,
	sp_runtime::{
		traits::{AtLeast32BitUnsigned, Get},
		Perbill,
	},
	sp_staking::SessionIndex,
};
use scale_info::TypeInfo;

use crate::features::{offence::PendingOffence, round::Round};

pub use pallet_model_registry::BalanceOf;

/// Most members of a round.
pub const MAX_MEMBERS: u32 = 32;

/// Most blocks whose randomness one draw mixes.
pub const MAX_DRAW_BLOCKS: u32 = 12;

/// Most validators that contribute to one toss.
pub const MAX_CONTRIBUTORS: u32 = 16;

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
	/// Verifiers of a round; none on a chain with a single validator.
	pub verifiers: u8,
	/// Where it stands.
	pub state: RequestState,
	/// What is held from the requester while it is open.
	pub escrow: Balance,
	/// Paid on top of the price.
	pub tip: Balance,
	/// Price when it was asked.
	pub price: consilience_primitives::model::Price<Balance>,
	/// What it pays for juries, its own or another's, if it ends with something that was checked.
	pub premium: Balance,
	/// What is burned of the escrow because those who serve the model were more than half taken when it was asked; once it is settled, what
	/// was burned.
	pub surcharge: Balance,
	/// Input units to pay for.
	pub input_units: u32,
	/// Most output units of the answer.
	pub max_output_units: u32,
	/// Work of the longest answer, in thousandths of a block.
	pub work: u32,
	/// What it takes of the capacity that its account may ask for, in thousandths of a block.
	pub burden: u32,
	/// Capacity that is kept for members who are not drawn yet, in thousandths of a block.
	pub reserved: u32,
	/// Seed of the sampling noise, once an executor is drawn. Stays when the executor is replaced.
	pub seed: Option<H256>,
	/// Present executor.
	pub executor: Option<AccountId>,
	/// Validators that were late with this request and get no second chance.
	pub excluded: List<AccountId, MAX_EXCLUDED>,
	/// Members of its committee and its jury that were bound to evidence and did not show it while others could, each with the session
	/// in which it was drawn.
	pub withheld: List<(AccountId, SessionIndex), MAX_MEMBERS>,
	/// When its verifiers can be drawn, fixed together with the executor.
	pub windows: Option<Windows<BlockNumber>>,
	/// The draw that it waits for.
	pub draw: Option<Draw<BlockNumber>>,
	/// What became of its answer besides the measurements.
	pub course: Course,
	/// Commitment to an output that is not shown yet.
	pub output_commitment: Option<H256>,
	/// Whether another pallet asked and is to be told of the end.
	pub callback: bool,
	/// Last block in which what is due is in time.
	pub deadline: BlockNumber,
	/// Block in which it is looked at whether the deadline has passed: the one after it, or an earlier one.
	pub looked_at: BlockNumber,
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

/// What happened to an answer that decides how its round goes on.
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
)]
pub struct Course {
	/// The answer says that the input cannot be answered.
	pub unanswerable: bool,
	/// Chance has decided that it is checked. It decides once: silence is no second throw.
	pub drawn: bool,
	/// Chance has decided that it is not checked: nobody has anything more to do for it, and it takes no capacity.
	pub unchecked: bool,
	/// The executor was absent from its own round, which goes on without it.
	pub executor_silent: bool,
	/// There were fewer verifiers than asked for: the answer can be found wrong, and cannot become Final.
	pub short: bool,
	/// A verifier whose digest nobody shared was replaced, or all whose digest the executor did not share. It happens once.
	pub replaced: bool,
	/// Somebody withheld its contribution from the toss for its verifiers: it is measured again for sure.
	pub disturbed: bool,
}

/// Blocks whose randomness draws the verifiers of an answer, fixed before the executor knows it is one. An answer that is
/// in a block is drawn for in the first window that begins after it.
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
pub struct Windows<BlockNumber> {
	/// First block of the first.
	pub first: BlockNumber,
	/// Blocks of each.
	pub blocks: u8,
	/// Validators toss in the block after the answer; the windows serve if the toss fails.
	pub toss: bool,
}

/// Randomness that validators make together, for the answers of the block before.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Toss<AccountId> {
	/// The first request that waits for it.
	pub request: RequestId,
	/// Those who contribute; nobody yet at the end of the block before.
	pub contributors: List<Contributor<AccountId>, MAX_CONTRIBUTORS>,
	/// Somebody has not contributed in time.
	pub failed: bool,
}

impl<AccountId> Default for Toss<AccountId> {
	fn default() -> Self {
		Self {
			request: 0,
			contributors: List::new(),
			failed: false,
		}
	}
}

impl<AccountId> Toss<AccountId> {
	/// Whether everybody has contributed.
	pub fn is_complete(&self) -> bool {
		!self.contributors.is_empty() && self.contributors.iter().all(|c| c.output.is_some())
	}
}

/// A validator that has not contributed to a toss in time.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Late<AccountId> {
	/// Who.
	pub who: AccountId,
	/// How often, of late.
	pub times: u32,
	/// It has contributed since.
	pub is_back: bool,
}

/// A validator that contributes to a toss.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Contributor<AccountId> {
	/// Who.
	pub who: AccountId,
	/// Its session key when it was drawn.
	pub key: InferenceId,
	/// What it has contributed.
	pub output: Option<[u8; 32]>,
}

/// A draw that a request waits for.
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
pub struct Draw<BlockNumber> {
	/// Block at whose end it is tried next.
	pub at: BlockNumber,
	/// Only randomness of this block and later ones serves.
	pub from: BlockNumber,
	/// Blocks whose randomness is mixed; none where the toss of block `from` decides.
	pub blocks: u8,
}

/// Changes a list that is bounded by what happens, not by its type.
pub(crate) fn change<V, S: Get<u32>, R>(
	list: &mut WeakBoundedVec<V, S>,
	name: &'static str,
	change: impl FnOnce(&mut Vec<V>) -> R,
) -> R {
	let mut all = core::mem::take(list).into_inner();
	let result = change(&mut all);
	*list = WeakBoundedVec::force_from(all, Some(name));
	result
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

/// From what a validator is kept of serving a model, because its machine differed.
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
pub struct Bar {
	/// First session in which it may serve again.
	pub until: SessionIndex,
	/// How often it has happened.
	pub times: u8,
}

/// An appeal against an answer.
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
	/// The jury's round, once it is drawn. Where the ruling was contested, that of the second jury.
	pub round: Option<Round<AccountId, BlockNumber, Evidence>>,
	/// The appeal that called it; none where a committee did not agree.
	pub appeal: Option<Appeal<AccountId, Balance>>,
	/// Whether it only measures a settled answer again: it blames nobody, and calls a jury where it does not agree.
	pub audit: bool,
	/// Those who were drawn for the first jury, whether they came or not: none of them sits in the second.
	pub seats: List<AccountId, MAX_MEMBERS>,
	/// What it found that costs stake, while a second jury can be called.
	pub ruling: Option<Ruling<AccountId, BlockNumber>>,
	/// The second jury that one of the accused called, and how it ended.
	pub contest: Option<Contest<AccountId, Balance>>,
}

impl<AccountId, BlockNumber, Balance> Default for Jury<AccountId, BlockNumber, Balance> {
	/// One that is to be drawn, and that nobody has called.
	fn default() -> Self {
		Self {
			round: None,
			appeal: None,
			audit: false,
			seats: List::new(),
			ruling: None,
			contest: None,
		}
	}
}

/// Most validators that one jury accuses: a round and a jury, each with the executor, or those who testified in place of the round.
pub const MAX_ACCUSED: u32 = 3 * MAX_MEMBERS;

/// What an accusation rests on.
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
pub enum Basis {
	/// What the answer was found to be: it was a lie, or was vouched for, or slandered. Both juries say what it is.
	Answer,
	/// What a member of the committee measured: a second jury measures that as well.
	Committee,
	/// What a juror measured under a challenge that nobody else measures under again.
	Juror,
	/// What a checker has signed of the answer, elsewhere. It is drawn as before until the accusation stands: a captured jury could take all
	/// honest checkers out of the second one otherwise, by showing what they have signed.
	Testimony,
}

impl Basis {
	/// Whether it stands or falls with what the answer was found to be.
	pub fn is_of_answer(self) -> bool {
		matches!(self, Self::Answer | Self::Testimony)
	}
}

/// An accusation by a jury.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Accusation<AccountId> {
	/// Whom, and of what.
	pub offence: PendingOffence<AccountId>,
	/// What it rests on.
	pub basis: Basis,
}

/// Votes of jurors on an answer. Whoever was absent, or says neither, has none.
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
)]
pub struct Votes {
	/// That it is right.
	pub right: u32,
	/// That it is wrong.
	pub wrong: u32,
}

/// What a jury found that costs stake. Staking does not hear of it before it can be contested no longer.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Ruling<AccountId, BlockNumber> {
	/// What the jury found of the answer.
	pub answer: AnswerJudgement,
	/// What its members said of it.
	pub votes: Votes,
	/// Whom it accuses.
	pub accused: List<Accusation<AccountId>, MAX_ACCUSED>,
	/// Last block in which it can be contested.
	pub until: BlockNumber,
}

/// A second jury.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Contest<AccountId, Balance> {
	/// Who of the accused called it.
	pub who: AccountId,
	/// What is held from it until the second jury has spoken.
	pub bond: Balance,
	/// State to which the request goes back.
	pub was: RequestState,
	/// How it ended.
	pub end: Option<ContestEnd>,
}

/// How a contest ended.
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
pub enum ContestEnd {
	/// Both juries together found what the first had found, of one of the accused at least.
	Upheld,
	/// They did not, or the network stood still: nobody is slashed.
	Quashed,
}

/// Seats that juries take.
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
)]
pub struct Seats {
	/// Juries over what a committee or an audit disagreed on, and second juries.
	pub disputes: u32,
	/// Juries of appeals: at most a third of all, or appeals would keep liars unjudged.
	pub appeals: u32,
}

/// What is owed for one request out of a slash that staking has not applied yet.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Claim<AccountId, Balance> {
	/// To whom, and how much: the requester first.
	pub owed: List<(AccountId, Balance), 2>,
	/// Session in which it is forgotten, because staking can't apply the slash any more.
	pub until: SessionIndex,
}

/// A validator that was found to have lied, and is drawn for nothing.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Suspension<AccountId> {
	/// Which.
	pub validator: AccountId,
	/// Last session of that.
	pub until: SessionIndex,
	/// Lies that were found. It ends early when all of them are quashed.
	pub findings: u32,
	/// Of them, those that can still be contested, or are: it does not end before.
	pub pending: u32,
}

/// A duty of a validator.
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
pub struct Assignment {
	/// What it was drawn for.
	pub role: Role,
	/// How much work that is, in thousandths of a block.
	pub work: u32,
}

/// Parameters of runtime `T`.
pub type ParametersOf<T> = ProtocolParameters<BalanceOf<T>>;

/// What governance decides: what is paid beside the model's price, and what offences cost.
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
pub struct ProtocolParameters<Balance> {
	/// The treasury's part of the model's price. The rest of the price is the executor's.
	pub treasury_share: Perbill,
	/// What each verifier is paid on top of the price, as a part of it. Never less than a [`Self::measurement`].
	pub verifier_share: Perbill,
	/// What one measurement is worth, whatever the model's owner asks: the least that a verifier is paid, and what a juror is.
	pub measurement: Measurement<Balance>,
	/// Part of the settled answers that are measured again, much later, by others.
	pub audit_share: Perbill,
	/// What a request pays for juries and audits, as a part of one measurement of its longest answer.
	pub premium_share: Perbill,
	/// What a request pays on top of what it costs where it takes the last of the capacity of those who serve the model, in thousandths of
	/// that: nothing up to a half, and evenly more from there. It is burned.
	pub surcharge_at_full: u32,
	/// Part of the stake that an answer costs which is not the model's.
	pub result_slash: Perbill,
	/// Part of the stake that invented evidence costs.
	pub evidence_slash: Perbill,
	/// Part of the stake that it costs to commit and not reveal.
	pub withheld_slash: Perbill,
	/// Part of the stake that each absence beyond the free ones costs.
	pub absence_slash: Perbill,
}

/// What a measurement is worth.
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
pub struct Measurement<Balance> {
	/// Whatever is measured.
	pub base: Balance,
	/// For every unit in and out.
	pub per_unit: Balance,
}

impl<Balance: AtLeast32BitUnsigned + Copy> Measurement<Balance> {
	/// Worth of measuring so many units.
	pub fn of(&self, units: u32) -> Balance {
		self.base
			.saturating_add(self.per_unit.saturating_mul(units.into()))
	}
}

/// Most that a request can be made to pay on top of what it costs, in thousandths of that.
pub const MAX_SURCHARGE: u32 = 10_000;

impl<Balance> ProtocolParameters<Balance> {
	/// Whether nobody is promised more than there is: a verifier at most as much as an executor, and a juror's premium at most what
	/// a measurement is worth; and a surcharge is within [`MAX_SURCHARGE`].
	pub fn is_valid(&self) -> bool {
		[
			self.treasury_share,
			self.verifier_share,
			self.premium_share,
			self.audit_share,
		]
		.iter()
		.all(|share| *share <= Perbill::one())
			&& self.surcharge_at_full <= MAX_SURCHARGE
			&& self.absence_slash <= self.withheld_slash
			&& self.withheld_slash <= self.result_slash
	}
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
	/// The executor did not show the output that it was bound to, or no verifier its evidence.
	RevealMissing,
}
