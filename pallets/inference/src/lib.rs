//! # Inference
//!
//! Requests, escrow, committees, measurement rounds and payment.
//!
//! ## Overview
//!
//! A requester holds a fee limit in escrow and names a model and an input. At the end of the next block an *executor* is drawn
//! among the validators that serve the model; it posts the answer, or a commitment to it where the answer is the evidence
//! itself. At the end of the block after that *verifiers* and a *challenge* are drawn. All of them measure, commit to their
//! evidence, and reveal it once everybody has committed. The runtime compares the evidence in integer arithmetic; where all
//! agree the request is Final and executor, verifiers and treasury are paid. Otherwise a *jury* of all who serve the model
//! measures, and who lied is reported as an offence. A request can also ask for a check by chance only; an answer that is not
//! drawn for one can be appealed against for a while.
//!
//! ```text
//! Requested ─executor drawn─▶ Assigned ─answer─▶ Provisional ─round agrees, or not checked─▶ Final
//!               ▲  │executor late: next one           │round disagrees, or appeal              ▲
//!               └──┘ none left: Expired               └▶ Disputed ─jury: right─────────────────┘
//!                                                            └────jury: wrong, or undecided──▶ Rejected
//! ```
//!
//! ## Low level
//!
//! Validators speak through one authorised transaction a block, [`Call::report`], signed by the session key `infr`. The runtime API
//! says what is due; a statement that is not due makes the whole report invalid before it reaches a block, so reports can be
//! free. Draws happen in `on_finalize` with the VRF output of the block that is being finalised: **the pallet must stand after
//! `pallet-babe` in the runtime** (see [`features::draw`]).
//!
//! Every list is bounded; settled requests are readable for [`Config::Retention`] blocks and then pruned.

#![cfg_attr(not(feature = "std"), no_std)]
// The pallet macro makes items that carry no documentation of their own.
#![allow(missing_docs, clippy::too_many_arguments)]

extern crate alloc;

pub use features::{
	callback::{Final, OnSettled, RequestInference, Settled},
	elsewhere::{
		next_window, Answered, AuditAnswers, DrawBeacon, Outside, SessionValidators, Standing,
		TreasuryShare, AUDITS_AT_A_TIME, AUDIT_TRIES, NOT_SHOWN,
	},
	last_judge::{LastJudge, Place, Proof, MAX_VOUCHERS},
	offence::{
		IdentificationTuple, InferenceOffence, OffenceKind, OffenceSlot, PendingOffence,
		StakeHistory,
	},
	testimony::{Judged, Testimony, Unheard, MAX_TESTIMONIES},
};
pub use pallet::*;
pub use types::*;
pub use weights::WeightInfo;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
pub mod features;
pub mod migrations;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

use alloc::vec::Vec;
use consilience_primitives::{
	comparison::{AnswerJudgement, Judgement},
	contribution::Contribution,
	crypto::{InferenceId, InferenceSignature},
	evidence::Evidence,
	report::Report,
	request::{Assurance, Input, Output, StoredInput, Unanswerable},
	tensor::{TensorHeader, MAX_DATA, MAX_TENSORS, MAX_TENSOR_BYTES},
	view::{Quote, QuoteError, RequestView},
	Bytes, List, ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::{
		self,
		pallet_prelude::*,
		traits::{
			fungible::{Mutate, MutateHold},
			DisabledValidators, EnsureOrigin, Randomness, ValidatorSetWithIdentification,
		},
		WeakBoundedVec,
	},
	frame_system::{offchain::CreateAuthorizedTransaction, pallet_prelude::*},
	sp_core::H256,
	sp_runtime::{transaction_validity::TransactionPriority, Perbill},
	sp_staking::{offence::ReportOffence, SessionIndex},
};

/// Time that a byte of data is counted with, beside what handling it takes: fees rise where blocks are more than a quarter full of
/// work, and would fall where they are full of data alone.
const BYTE: Weight = Weight::from_parts(60_000, 0);

/// Target of this pallet's log lines.
pub const LOG_TARGET: &str = "runtime::inference";

#[frame_support::pallet]
pub mod pallet {
	use super::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	/// # Requirements
	///
	/// `frame_system::AuthorizeCall` is in the runtime's transaction extension, and this pallet stands after `pallet-babe`.
	#[pallet::config]
	pub trait Config:
		CreateAuthorizedTransaction<Call<Self>>
		+ polkadot_sdk::frame_system::Config<RuntimeEvent: From<Event<Self>>>
		+ pallet_model_registry::Config<
			Currency: Mutate<Self::AccountId>
			              + MutateHold<
				Self::AccountId,
				Reason = <Self as pallet_model_registry::Config>::RuntimeHoldReason,
			>,
			RuntimeHoldReason: From<HoldReason>,
		>
	{
		/// Randomness of the parent block, which after Babe's `on_finalize` is that of the present one; `None` where the block
		/// has no VRF output.
		type Randomness: Randomness<Option<Self::Hash>, BlockNumberFor<Self>>;

		/// Receives the treasury's share of prices.
		type Treasury: Get<Self::AccountId>;

		/// Receives premiums and slashes, and pays measurements that no requester pays: of juries that found a lie, and audits. It must
		/// hold its existential deposit from the beginning.
		type JuryFund: Get<Self::AccountId>;

		/// May change [`Parameters`].
		type AdminOrigin: EnsureOrigin<Self::RuntimeOrigin>;

		/// [`Parameters`] until governance changes them.
		type DefaultParameters: Get<ParametersOf<Self>>;

		/// The session's validators, as staking knows them.
		type ValidatorSet: ValidatorSetWithIdentification<Self::AccountId>;

		/// Says who may not take part for the rest of the session.
		type DisabledValidators: DisabledValidators;

		/// Slashes.
		type ReportOffence: ReportOffence<
			Self::AccountId,
			IdentificationTuple<Self>,
			InferenceOffence<IdentificationTuple<Self>>,
		>;

		/// What is remembered of sessions that are over, and of stake that answers for deeds in them.
		type StakeHistory: StakeHistory<Self::AccountId>;

		/// Sessions, after the present one, in which a validator that is found to have lied is drawn for nothing: as long as what it
		/// would be disabled for.
		#[pallet::constant]
		type SuspensionSessions: Get<SessionIndex>;

		/// Most validators in a session.
		#[pallet::constant]
		type MaxValidators: Get<u32>;

		/// Work that one validator takes at a time as executor, in thousandths of a block of one machine
		/// ([`consilience_primitives::model::TimeLimit::work`]).
		#[pallet::constant]
		type MaxLoad: Get<u32>;

		/// Most juries that sit at a time. A third of them, and one at least, may be of appeals.
		#[pallet::constant]
		type MaxJuries: Get<u32>;

		/// Blocks in which a jury's accusation can be contested, where others serve the model who were not drawn. Staking hears of it
		/// afterwards.
		#[pallet::constant]
		type ContestBlocks: Get<BlockNumberFor<Self>>;

		/// In one of how many answers a third of the slots may own all blocks that draw its verifiers ([`features::draw`]).
		#[pallet::constant]
		type DrawOdds: Get<u32>;

		/// Validators that toss together for the verifiers of a block's answers ([`features::toss`]), at most [`MAX_CONTRIBUTORS`]; with
		/// none, verifiers are drawn by the randomness of several blocks alone.
		#[pallet::constant]
		type Contributors: Get<u32>;

		/// Blocks in which a contribution decides a toss. It is taken for [`Config::RevealBlocks`], to tell who is there.
		#[pallet::constant]
		type ContributionBlocks: Get<BlockNumberFor<Self>>;

		/// Most members of a jury.
		#[pallet::constant]
		type MaxJurors: Get<u32>;

		/// Most nominators behind a validator that is reported. Only the weight of an offence counts with them.
		#[pallet::constant]
		type MaxNominators: Get<u32>;

		/// Fewest jurors from outside the disputed round: with fewer nothing is found, and nobody blamed.
		#[pallet::constant]
		type MinJury: Get<u32>;

		/// The least that an appeal puts at stake.
		#[pallet::constant]
		type AppealBond: Get<BalanceOf<Self>>;

		/// Blocks in which an answer that was not drawn for a check can be appealed against.
		#[pallet::constant]
		type AppealBlocks: Get<BlockNumberFor<Self>>;

		/// Blocks from a settlement to the draw that decides whether it is measured again.
		#[pallet::constant]
		type AuditDelay: Get<BlockNumberFor<Self>>;

		/// Least that is held for an open request, however cheap the model.
		#[pallet::constant]
		type MinEscrow: Get<BalanceOf<Self>>;

		/// Most verifiers that a requester can ask for.
		#[pallet::constant]
		type MaxVerifiers: Get<u8>;

		/// Most open requests.
		#[pallet::constant]
		type MaxOpen: Get<u32>;

		/// Most open requests of one account.
		#[pallet::constant]
		type MaxOpenPerAccount: Get<u32>;

		/// Most requests that are looked at in one block, and most settled requests forgotten in one.
		#[pallet::constant]
		type MaxPerBlock: Get<u32>;

		/// Most draws in one block.
		#[pallet::constant]
		type MaxDraws: Get<u32>;

		/// Blocks that a request may wait for a draw beyond the model's own time limit.
		#[pallet::constant]
		type DrawPatience: Get<BlockNumberFor<Self>>;

		/// Blocks that members have to reveal, and that they are given once more; no duty has fewer. At least 12: a third of the authors
		/// may keep what is said out of theirs.
		#[pallet::constant]
		type RevealBlocks: Get<BlockNumberFor<Self>>;

		/// Blocks for which a settled request stays readable.
		#[pallet::constant]
		type Retention: Get<BlockNumberFor<Self>>;

		/// Blocks after [`Report::at`] in which a report is good.
		#[pallet::constant]
		type ReportLongevity: Get<BlockNumberFor<Self>>;

		/// Priority of reports in the transaction pool.
		#[pallet::constant]
		type ReportPriority: Get<TransactionPriority>;

		/// What the judge that no majority moves must know of an answer beside what is stored here; `()` where there is none
		/// ([`features::last_judge`]).
		type LastJudge: LastJudge;

		/// Blocks after a settlement in which a dispute before the last judge can be opened.
		#[pallet::constant]
		type DisputeBlocks: Get<BlockNumberFor<Self>>;

		/// Pallets that ask through [`RequestInference`], to be told how it ended.
		type OnSettled: OnSettled<Self::AccountId>;

		/// Weights of calls and hooks.
		type WeightInfo: WeightInfo;
	}

	/// Why money is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// Fee limit of an open request.
		Escrow,
		/// Bond of an appeal that is being judged.
		Appeal,
	}

	/// Number of the next request.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type NextRequest<T> = StorageValue<_, RequestId, ValueQuery>;

	/// Requests that are open or were settled not long ago. Keys are counted: no hashing against attackers is needed.
	#[pallet::storage]
	pub type Requests<T: Config> = StorageMap<_, Twox64Concat, RequestId, RequestOf<T>>;

	/// What was asked, all of it or all but the data of tensors.
	#[pallet::storage]
	pub type Inputs<T: Config> = StorageMap<_, Twox64Concat, RequestId, StoredInput>;

	/// The transaction, by its block and its place there, that brought data last: the node keeps one piece of each.
	#[pallet::storage]
	pub type LastData<T: Config> = StorageValue<_, (BlockNumberFor<T>, u32), OptionQuery>;

	/// What was answered. Not final while the request is not.
	#[pallet::storage]
	pub type Outputs<T: Config> = StorageMap<_, Twox64Concat, RequestId, Output>;

	/// Rounds of requests that are being measured, and of settled ones.
	#[pallet::storage]
	pub type Rounds<T: Config> = StorageMap<_, Twox64Concat, RequestId, RoundOf<T>>;

	/// Disputes, and who judged settled ones.
	#[pallet::storage]
	pub type Juries<T: Config> = StorageMap<_, Twox64Concat, RequestId, JuryOf<T>>;

	/// What governance decides.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Parameters<T: Config> =
		StorageValue<_, ParametersOf<T>, ValueQuery, T::DefaultParameters>;

	/// Absences of validators that are not forgotten yet. Accounts of validators cost a stake: a fast hasher will do.
	#[pallet::storage]
	pub type Strikes<T: Config> = StorageMap<_, Twox64Concat, T::AccountId, u32, ValueQuery>;

	/// Offences that staking is to hear of: a queue whose places are counted.
	#[pallet::storage]
	pub type OffenceQueue<T: Config> =
		StorageMap<_, Twox64Concat, u64, PendingOffence<T::AccountId>>;

	/// The first place of [`OffenceQueue`], and the place after its last.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type OffenceRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	/// Whether the offence that is being handed over is an absence. Never in storage between blocks.
	#[pallet::storage]
	pub type ReportingAbsence<T> = StorageValue<_, bool, ValueQuery>;

	/// Validators that are drawn for nothing because they were found to have lied. A list, because it is nearly always empty and
	/// looked into at every draw.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Suspended<T: Config> =
		StorageValue<_, WeakBoundedVec<Suspension<T::AccountId>, T::MaxValidators>, ValueQuery>;

	/// A validator's wrong verdicts of sessions up to this one are one deed, and it was reported. Accounts of validators cost a
	/// stake: a fast hasher will do.
	#[pallet::storage]
	pub type CountedVerdicts<T: Config> = StorageMap<_, Twox64Concat, T::AccountId, SessionIndex>;

	/// [`CountedVerdicts`] by session, to be forgotten when no stake answers for it any more.
	#[pallet::storage]
	pub type CountedVerdictsUntil<T: Config> =
		StorageDoubleMap<_, Twox64Concat, SessionIndex, Twox64Concat, T::AccountId, ()>;

	/// Settled requests whose [`Ruling`] can still be contested, and until which block, the oldest first: a queue whose places are counted.
	#[pallet::storage]
	pub type Rulings<T: Config> = StorageMap<_, Twox64Concat, u64, (RequestId, BlockNumberFor<T>)>;

	/// The first place of [`Rulings`], and the place after its last.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type RulingRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	/// What is owed out of a validator's slash, by the validator and the request. Accounts of validators cost a stake: a fast hasher
	/// will do.
	#[pallet::storage]
	pub type Claims<T: Config> = StorageDoubleMap<
		_,
		Twox64Concat,
		T::AccountId,
		Twox64Concat,
		RequestId,
		Claim<T::AccountId, BalanceOf<T>>,
	>;

	/// [`Claims`] by the session in which they are forgotten.
	#[pallet::storage]
	pub type ClaimsUntil<T: Config> = StorageDoubleMap<
		_,
		Twox64Concat,
		SessionIndex,
		Twox64Concat,
		(T::AccountId, RequestId),
		(),
	>;

	/// Slashes that were applied to validators with [`Claims`] on them, and of which these are still to be paid. A list, because it is
	/// nearly always empty.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Recovered<T: Config> =
		StorageValue<_, WeakBoundedVec<(T::AccountId, BalanceOf<T>), T::MaxValidators>, ValueQuery>;

	/// Requests to draw for at the end of a block. What is not [`Request::draw`]n for in it any more is passed over.
	#[pallet::storage]
	pub type Draws<T: Config> = StorageMap<
		_,
		Twox64Concat,
		BlockNumberFor<T>,
		BoundedVec<RequestId, T::MaxDraws>,
		ValueQuery,
	>;

	/// Randomness of the last blocks that had some, the oldest first.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Beacon<T: Config> = StorageValue<
		_,
		BoundedVec<(BlockNumberFor<T>, T::Hash), ConstU32<MAX_DRAW_BLOCKS>>,
		ValueQuery,
	>;

	/// Tosses for verifiers, by their blocks, for a while.
	#[pallet::storage]
	pub type Tosses<T: Config> = StorageMap<_, Twox64Concat, BlockNumberFor<T>, Toss<T::AccountId>>;

	/// Validators that were late with their part of a toss. A list, because it is nearly always empty and looked into at every toss.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Quiet<T: Config> =
		StorageValue<_, WeakBoundedVec<Late<T::AccountId>, T::MaxValidators>, ValueQuery>;

	/// Requests to look at in a block. What is [`Request::looked_at`] in another is passed over.
	#[pallet::storage]
	pub type Deadlines<T: Config> = StorageMap<
		_,
		Twox64Concat,
		BlockNumberFor<T>,
		BoundedVec<RequestId, T::MaxPerBlock>,
		ValueQuery,
	>;

	/// Settled requests in the order in which they are to be forgotten: a queue whose places are counted.
	#[pallet::storage]
	pub type Prune<T> = StorageMap<_, Twox64Concat, u64, RequestId>;

	/// The first place of [`Prune`], and the place after its last.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type PruneRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	/// Settled requests of other pallets, which are to be told, the oldest first. Only answers that were overturned stand beyond the bound.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Callbacks<T: Config> =
		StorageValue<_, WeakBoundedVec<RequestId, T::MaxOpen>, ValueQuery>;

	/// Answers that were given elsewhere, until their requests are forgotten.
	#[pallet::storage]
	pub type Elsewhere<T: Config> = StorageMap<_, Twox64Concat, RequestId, Outside<T::AccountId>>;

	/// The same by their names, the last of each. The keys are hashes.
	#[pallet::storage]
	pub type References<T> = StorageMap<_, Identity, H256, RequestId>;

	/// What checkers have said of them, until they are forgotten.
	#[pallet::storage]
	pub type Testimonies<T: Config> = StorageMap<
		_,
		Twox64Concat,
		RequestId,
		List<Testimony<T::AccountId>, MAX_TESTIMONIES>,
		ValueQuery,
	>;

	/// Checkers whose word has called a jury that has not judged yet, and over which answer. Accounts of validators cost a stake: a fast
	/// hasher will do.
	#[pallet::storage]
	pub type Doubting<T: Config> = StorageMap<_, Twox64Concat, T::AccountId, RequestId>;

	/// How many of them are being measured.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Auditing<T> = StorageValue<_, u32, ValueQuery>;

	/// Those of which whoever asked is to be told, the oldest first: a queue whose places are counted.
	#[pallet::storage]
	pub type Ended<T> = StorageMap<_, Twox64Concat, u64, RequestId>;

	/// The first place of [`Ended`], and the place after its last.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type EndedRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	/// Disputes before the last judge that are open about an answer: as many at most as it takes at a time.
	#[pallet::storage]
	pub type Judging<T> = StorageMap<_, Twox64Concat, RequestId, u32, ValueQuery>;

	/// Answers that are proven false, which takes effect when no jury sits over them. A list, because it is nearly always empty.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Proven<T: Config> =
		StorageValue<_, WeakBoundedVec<Proof<T::AccountId, BalanceOf<T>>, T::MaxOpen>, ValueQuery>;

	/// Auditors and members of a first jury who said of an answer that could be proven false that it is right, each with the session in which
	/// it was drawn.
	#[pallet::storage]
	pub type Vouchers<T: Config> = StorageMap<
		_,
		Twox64Concat,
		RequestId,
		List<(T::AccountId, SessionIndex), MAX_VOUCHERS>,
		ValueQuery,
	>;

	/// Number of open requests.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Open<T> = StorageValue<_, u32, ValueQuery>;

	/// Number of open requests of an account. Anybody can be a requester: a cryptographic hasher.
	#[pallet::storage]
	pub type OpenOf<T: Config> = StorageMap<_, Blake2_128Concat, T::AccountId, u32, ValueQuery>;

	/// Work of an account's open requests for a model, in thousandths of a block. Anybody can be a requester: a cryptographic hasher; the
	/// second keys are hashes.
	#[pallet::storage]
	pub type WorkOf<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::AccountId, Identity, ModelId, u64, ValueQuery>;

	/// Requests in which a validator has duties: as many at most as are open or looked at again.
	#[pallet::storage]
	pub type Assignments<T: Config> =
		StorageDoubleMap<_, Twox64Concat, T::AccountId, Twox64Concat, RequestId, Assignment>;

	/// Members of committees that have not shown their evidence of an answer that was called a lie: it is taken until a jury has spoken.
	#[pallet::storage]
	pub type Overdue<T: Config> =
		StorageDoubleMap<_, Twox64Concat, T::AccountId, Twox64Concat, RequestId, ()>;

	/// Work that each of the session's validators was drawn for, in the session's order, in thousandths of a block.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Loads<T: Config> = StorageValue<_, WeakBoundedVec<u32, T::MaxValidators>, ValueQuery>;

	/// Work that is promised to open requests and not yet given to anybody, in thousandths of a block.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Reserved<T> = StorageValue<_, u64, ValueQuery>;

	/// The same of the requests for one model. The keys are hashes.
	#[pallet::storage]
	pub type ReservedFor<T> = StorageMap<_, Identity, ModelId, u64, ValueQuery>;

	/// Juries that sit. Audits take no seat: they are as few as chance makes them.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Sitting<T> = StorageValue<_, Seats, ValueQuery>;

	/// Seats of juries that were left in this block.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Vacated<T> = StorageValue<_, u32, ValueQuery>;

	/// Whose evidence was due of late, and who has shown some ([`features::finality`]).
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Reveals<T: Config> = StorageValue<_, features::finality::Spans<T>, ValueQuery>;

	/// Validators whose machine differed in a model, and may not serve it for a while.
	#[pallet::storage]
	pub type Barred<T: Config> =
		StorageDoubleMap<_, Twox64Concat, T::AccountId, Twox64Concat, ModelId, Bar>;

	/// The session's validators with their `infr` keys, in the session's order.
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Keys<T: Config> =
		StorageValue<_, WeakBoundedVec<(T::AccountId, InferenceId), T::MaxValidators>, ValueQuery>;

	/// The same, each by itself: who speaks for one of them does not read all.
	#[pallet::storage]
	pub type KeyAt<T: Config> = StorageMap<_, Twox64Concat, u32, (T::AccountId, InferenceId)>;

	/// The session's validators by account, each with its place in [`Keys`].
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Places<T: Config> =
		StorageValue<_, WeakBoundedVec<(T::AccountId, u32), T::MaxValidators>, ValueQuery>;

	/// Places of the session's validators in [`Keys`].
	#[pallet::storage]
	pub type Indices<T: Config> = StorageMap<_, Twox64Concat, T::AccountId, u32>;

	/// Counts changes of [`Keys`].
	#[pallet::storage]
	#[pallet::whitelist_storage]
	pub type Session<T> = StorageValue<_, u32, ValueQuery>;

	/// [`Report::at`] of a validator's last report: the next must be newer.
	#[pallet::storage]
	pub type LastReport<T: Config> = StorageMap<_, Twox64Concat, T::AccountId, BlockNumberFor<T>>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(crate) fn deposit_event)]
	pub enum Event<T: Config> {
		/// A request was taken and its escrow held.
		RequestSubmitted {
			request: RequestId,
			requester: T::AccountId,
			model: ModelId,
			escrow: BalanceOf<T>,
		},
		/// An executor was drawn, and must answer by the deadline.
		ExecutorDrawn {
			request: RequestId,
			executor: T::AccountId,
			deadline: BlockNumberFor<T>,
		},
		/// The executor answered. The answer is provisional.
		AnswerPosted {
			request: RequestId,
			executor: T::AccountId,
		},
		/// The executor bound itself to an answer that it shows when evidence is revealed.
		OutputCommitted {
			request: RequestId,
			executor: T::AccountId,
			commitment: H256,
		},
		/// Verifiers and challenge were drawn.
		CommitteeDrawn {
			request: RequestId,
			verifiers: Vec<T::AccountId>,
			challenge: H256,
			deadline: BlockNumberFor<T>,
		},
		/// A member is bound to its evidence.
		EvidenceCommitted {
			request: RequestId,
			member: T::AccountId,
			commitment: H256,
		},
		/// Every member has committed: evidence is due.
		RevealStarted {
			request: RequestId,
			deadline: BlockNumberFor<T>,
		},
		/// A member's evidence is on chain.
		EvidenceRevealed {
			request: RequestId,
			member: T::AccountId,
			evidence: Evidence,
		},
		/// The committed output is on chain. It is provisional.
		OutputRevealed {
			request: RequestId,
			executor: T::AccountId,
		},
		/// The executor did not answer in time; another is drawn.
		ExecutorReplaced {
			request: RequestId,
			executor: T::AccountId,
		},
		/// The executor was absent from its own round. Its answer is judged all the same.
		ExecutorSilent {
			request: RequestId,
			executor: T::AccountId,
		},
		/// A verifier was late, or was alone with its bits or the executor with others; another is drawn.
		VerifierReplaced {
			request: RequestId,
			verifier: T::AccountId,
		},
		/// A member committed and did not reveal: an offence.
		RevealMissing {
			request: RequestId,
			member: T::AccountId,
		},
		/// By chance the answer is not checked. It is final after this block if nobody appeals.
		NotChecked {
			request: RequestId,
			appealable_until: BlockNumberFor<T>,
		},
		/// Somebody appealed against an answer.
		Appealed {
			request: RequestId,
			who: T::AccountId,
			bond: BalanceOf<T>,
		},
		/// The answer is right, or the accusation stands that was contested: the jury is paid out of the bond, and the rest burned.
		AppealLost {
			request: RequestId,
			who: T::AccountId,
			bond: BalanceOf<T>,
		},
		/// The round did not agree, or somebody appealed: a jury is to be drawn.
		RequestDisputed { request: RequestId },
		/// A jury and its challenge were drawn.
		JuryDrawn {
			request: RequestId,
			jurors: Vec<T::AccountId>,
			challenge: H256,
			deadline: BlockNumberFor<T>,
		},
		/// Chance has others measure a settled answer again.
		AuditDrawn {
			request: RequestId,
			auditors: Vec<T::AccountId>,
			challenge: H256,
			deadline: BlockNumberFor<T>,
		},
		/// A settled answer was looked at again and stays.
		AnswerStands { request: RequestId },
		/// A settled answer was false. What its requester paid, its tip left out, is owed to it out of a part of the slash.
		AnswerOverturned {
			request: RequestId,
			owed: BalanceOf<T>,
		},
		/// A jury accuses a validator. Up to this block it may call a second one, of those who were not drawn; then staking hears of it.
		Accused {
			request: RequestId,
			offender: T::AccountId,
			kind: OffenceKind,
			contestable_until: BlockNumberFor<T>,
		},
		/// One of the accused called a second jury.
		Contested {
			request: RequestId,
			who: T::AccountId,
			bond: BalanceOf<T>,
		},
		/// Both juries together found what the first had found, or not.
		ContestEnded { request: RequestId, end: ContestEnd },
		/// A validator was slashed, and what was owed out of that is paid, or a part of it.
		ClaimPaid {
			request: RequestId,
			who: T::AccountId,
			amount: BalanceOf<T>,
		},
		/// Somebody was paid out of the jury fund or a lost bond.
		MeasurementPaid {
			request: RequestId,
			who: T::AccountId,
			amount: BalanceOf<T>,
		},
		/// A validator did what costs stake: this part of it, by itself. Nothing, where it is one deed with one that was reported
		/// before; otherwise staking hears of it.
		OffenceReported {
			request: RequestId,
			offender: T::AccountId,
			kind: OffenceKind,
			fraction: Perbill,
		},
		/// A validator was found to have lied, and is drawn for nothing up to the end of this session.
		ValidatorSuspended {
			validator: T::AccountId,
			until: SessionIndex,
		},
		/// Some did not contribute to the toss of a block in time. Its answers' verifiers are drawn by the randomness of several blocks.
		TossFailed {
			block: BlockNumberFor<T>,
			silent: Vec<T::AccountId>,
		},
		/// A validator may serve again.
		SuspensionEnded { validator: T::AccountId },
		/// Governance changed the parameters.
		ParametersChanged { parameters: ParametersOf<T> },
		/// The answer is final, and those named are paid: the round agreed, a jury found it right, or nobody appealed.
		RequestFinal {
			request: RequestId,
			executor: T::AccountId,
			verifiers: Vec<T::AccountId>,
			jurors: Vec<T::AccountId>,
			paid: BalanceOf<T>,
			refunded: BalanceOf<T>,
		},
		/// No honest machine can answer the input, and those named are paid for finding that out.
		RequestUnanswerable {
			request: RequestId,
			code: Unanswerable,
			executor: T::AccountId,
			verifiers: Vec<T::AccountId>,
			jurors: Vec<T::AccountId>,
			paid: BalanceOf<T>,
			refunded: BalanceOf<T>,
		},
		/// A member was paid out of the escrow, or the treasury or the jury fund.
		Paid {
			request: RequestId,
			who: T::AccountId,
			amount: BalanceOf<T>,
		},
		/// A jury found the answer wrong, or could not decide: the requester has everything back.
		RequestRejected {
			request: RequestId,
			answer: AnswerJudgement,
			executor: (T::AccountId, Judgement),
			verifiers: Vec<(T::AccountId, Judgement)>,
			jurors: Vec<(T::AccountId, Judgement)>,
			refunded: BalanceOf<T>,
		},
		/// The request could not be answered and checked in time: the requester has everything back.
		RequestExpired {
			request: RequestId,
			reason: ExpiryReason,
			refunded: BalanceOf<T>,
		},
		/// The requester cancelled before an executor was drawn, and has everything back but the surcharge.
		RequestCancelled {
			request: RequestId,
			refunded: BalanceOf<T>,
		},
		/// A statement that was due when the report was made is not any more; the others count.
		StatementSkipped {
			validator: T::AccountId,
			index: u32,
			reason: DispatchError,
		},
		/// An answer that was given elsewhere was shown, and is to be measured.
		AnswerShown {
			request: RequestId,
			executor: T::AccountId,
			model: ModelId,
		},
		/// What a checker has signed of an answer that was given elsewhere is heard: that it is right, or that it is wrong.
		Testified {
			request: RequestId,
			checker: T::AccountId,
			vouches: bool,
		},
		/// The pallet that asked was told how the request ended.
		CalledBack { request: RequestId },
		/// The pallet that asked was told, and failed. The request stays settled as it is.
		CallbackFailed {
			request: RequestId,
			error: DispatchError,
		},
		/// What a request was to pay because those who serve its model were more than half taken is no more.
		SurchargeBurned {
			request: RequestId,
			amount: BalanceOf<T>,
		},
		/// A settled answer is proven false. Those named have given it, or said that it is right; what follows can't be contested.
		AnswerRefuted {
			request: RequestId,
			by: T::AccountId,
			blamed: Vec<T::AccountId>,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// No model with this manifest is registered.
		UnknownModel,
		/// The model takes no requests: too few validators serve it, or its owner withdrew it.
		ModelNotActive,
		/// The model does another task than the input is for.
		WrongTask,
		/// Prompt, message, text or stop string is not UTF-8.
		NotUtf8,
		/// There is no text, no message or no tensor in the input.
		EmptyInput,
		/// The input has more units than the model takes.
		InputTooLarge,
		/// `max_tokens` is zero.
		ZeroTokens,
		/// `max_tokens` is more than the model gives.
		OutputTooLarge,
		/// A parameter of sampling is out of its range: temperature 0 to 2,000 thousandths, `top_p` 1 to 1,000, `min_p` 0 to 1,000,
		/// repetition penalty 100 to 10,000, presence and frequency penalty −2,000 to 2,000, biases −100,000 to 100,000 by rising
		/// token, no empty stop string.
		BadSampling,
		/// The tensors' names, element types or shapes are not the model's signature.
		SignatureMismatch,
		/// A tensor's data is not as long as its shape says, or is malformed.
		MalformedTensor,
		/// The data is not what the transaction ends with: nothing may stand behind it.
		DataNotLast,
		/// A transaction may carry data for one request only.
		DataTwice,
		/// The model has no chat template: ask with a text.
		NoChat,
		/// Fewer verifiers or a rarer check than the model's minimum, more verifiers than the chain's maximum, or a check by chance
		/// of a tensor or an embedding.
		BadAssurance,
		/// The fee limit does not cover price and tip in the worst case; ask `quote` for it. Near full the price rises from block to block.
		FeeLimitTooLow,
		/// A price does not fit the balance type.
		PriceOverflow,
		/// More verifiers than validators that serve the model beside an executor: ask for fewer.
		TooFewServe,
		/// Those who serve the model have more to do already than they can do in time, or the account has half of it: try again
		/// later, or ask for a shorter answer.
		NoCapacity,
		/// The network has as many open requests as it takes: try again later.
		TooManyOpen,
		/// The account has as many open requests as it may: wait for one to be settled.
		TooManyOpenOfAccount,
		/// No open request has this number.
		UnknownRequest,
		/// Only the requester may do this.
		NotRequester,
		/// An executor is drawn already: the work has begun and is to be paid.
		AlreadyAssigned,
		/// Nothing of this kind is due from this validator.
		NotDue,
		/// What else the report settles weighs as much as it may: say it again in the next block.
		ReportFull,
		/// An answer of another kind than the model's task, too long, or malformed.
		MalformedOutput,
		/// The evidence or output is not what was committed to.
		CommitmentMismatch,
		/// The evidence is of another kind than the model's numeric class, or with or without that of the disputed round wrongly.
		WrongEvidence,
		/// There is no answer, it is being measured, or a jury has measured it already.
		NotAppealable,
		/// Too few validators serve the model for a jury.
		JuryTooSmall,
		/// A share is more than the whole, the surcharge more than ten times it, or absence costs more than withholding, or withholding more
		/// than a false answer.
		BadParameters,
		/// The jury accuses nobody, not this account, or not any more; it was contested already; or everybody who serves the model was drawn.
		NotContestable,
		/// The validator was found to have lied and may not serve for now.
		Suspended,
		/// The validator is not suspended.
		NotSuspended,
		/// The constraint is empty, no text, or for other rules than this chain's.
		BadConstraint,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		fn on_initialize(now: BlockNumberFor<T>) -> Weight {
			let looked = Self::process_deadlines(now);
			let pruned = Self::prune(now);
			let offences = Self::process_offences();
			let rulings = Self::process_rulings(now);
			let claims = Self::pay_claims();
			let proven = Self::process_proven();
			// It reads the output that it was about.
			let late_jury = <T as Config>::WeightInfo::late_jury().saturating_add(
				<T as Config>::WeightInfo::read_output(MAX_TENSORS * MAX_TENSOR_BYTES),
			);
			let offence = Self::offence_weight();
			// The request, and its new place.
			let moved = T::DbWeight::get().reads_writes(2, 2);
			Self::shared_weight()
				.saturating_add(<T as Config>::WeightInfo::hooks())
				.saturating_add(
					<T as Config>::WeightInfo::late().saturating_mul(looked.late.into()),
				)
				.saturating_add(late_jury.saturating_mul(looked.juries.into()))
				.saturating_add(<T as Config>::WeightInfo::prune().saturating_mul(pruned.into()))
				.saturating_add(T::DbWeight::get().reads(looked.passed.into()))
				.saturating_add(moved.saturating_mul(looked.moved.into()))
				.saturating_add(Self::weigh_draws(now))
				.saturating_add(Self::weigh_tosses(now))
				.saturating_add(offence.saturating_mul(offences.into()))
				.saturating_add(
					<T as Config>::WeightInfo::ruling()
						// What was heard after the jury had spoken.
						.saturating_add(T::DbWeight::get().reads_writes(6, 3))
						.saturating_mul(rulings.into()),
				)
				.saturating_add(<T as Config>::WeightInfo::claim().saturating_mul(claims.into()))
				.saturating_add(<T as Config>::WeightInfo::refute().saturating_mul(proven.into()))
		}

		fn on_finalize(now: BlockNumberFor<T>) {
			Self::process_draws(now);
		}

		fn on_idle(now: BlockNumberFor<T>, remaining: Weight) -> Weight {
			Self::process_callbacks(now, remaining)
		}

		fn integrity_test() {
			let callback = <T as Config>::WeightInfo::call_back()
				.saturating_add(T::OnSettled::on_settled_weight());
			assert!(
				callback.all_lte(T::BlockWeights::get().max_block / 4),
				"a callback might never find room in a block"
			);
			let members = u32::from(T::MaxVerifiers::get()) + 1;
			assert!(
				members <= MAX_MEMBERS,
				"a round cannot hold executor and verifiers"
			);
			assert!(
				T::DefaultParameters::get().is_valid(),
				"the parameters are no valid ones"
			);
			assert!(
				T::MaxJurors::get() <= MAX_MEMBERS && T::MinJury::get() <= T::MaxJurors::get(),
				"a round cannot hold a jury, or no jury is large enough"
			);
			assert!(
				T::ContestBlocks::get() < T::Retention::get(),
				"a ruling might be forgotten before staking hears of it"
			);
			assert!(
				T::DisputeBlocks::get() < T::Retention::get(),
				"an answer might be forgotten while it can be disputed"
			);
			assert!(
				T::Contributors::get() <= MAX_CONTRIBUTORS
					&& T::ContributionBlocks::get() > 0u32.into(),
				"a toss cannot hold its contributors, or takes none"
			);
			assert!(
				T::MaxOpen::get() > 0
					&& T::MaxPerBlock::get() > 0
					&& T::MaxDraws::get() > 0
					&& T::MaxJuries::get() > 0
					&& T::MaxLoad::get() > 0
			);
		}

		#[cfg(feature = "try-runtime")]
		fn try_state(
			_n: BlockNumberFor<T>,
		) -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
			Self::do_try_state()
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Asks for an inference.
		///
		/// - **Origin**: signed; the account pays, and `fee_limit` is held from it until the request is settled.
		/// - `input`: for the model's task. - `assurance`: how it is checked. - `fee_limit`: must cover the price of the longest
		///   answer, each verifier's pay, the premium for juries, the surcharge where those who serve the model are more than half taken, and
		///   the tip (ask `quote`); what is not used is returned. - `tip`: paid to the executor on top of the price.
		/// - **Errors**: each reason for which an input is refused has its own; `TooFewServe`, `NoCapacity`, `FeeLimitTooLow`,
		///   `TooManyOpen`, `TooManyOpenOfAccount`, and the currency's when the money is not there.
		/// - **Emits** `RequestSubmitted`.
		#[pallet::call_index(0)]
		#[pallet::weight(<T as Config>::WeightInfo::request(input.encoded_size() as u32))]
		pub fn request(
			origin: OriginFor<T>,
			model: ModelId,
			input: Input,
			assurance: Assurance,
			fee_limit: BalanceOf<T>,
			tip: BalanceOf<T>,
		) -> DispatchResult {
			let requester = ensure_signed(origin)?;
			Self::do_request(requester, model, input, assurance, fee_limit, tip).map(|_| ())
		}

		/// Takes back a request before an executor is drawn for it. The surcharge is burned, the rest returned.
		///
		/// - **Origin**: signed by the requester. - **Errors**: `UnknownRequest`, `NotRequester`, `AlreadyAssigned`.
		/// - **Emits** `RequestCancelled`.
		#[pallet::call_index(1)]
		#[pallet::weight(<T as Config>::WeightInfo::cancel())]
		pub fn cancel(origin: OriginFor<T>, request: RequestId) -> DispatchResult {
			let requester = ensure_signed(origin)?;
			Self::do_cancel(requester, request)
		}

		/// Everything that a validator has to say.
		///
		/// - **Origin**: authorised: signed by the validator's `infr` key, made on a block not long ago, newer than the last one,
		///   and every statement due. It is free.
		/// - Statements that are no longer due when the report is executed are skipped; the others count. What settling would have
		///   weighed is returned for every request that the report did not settle.
		/// - **Emits** an event for every statement.
		#[pallet::call_index(2)]
		#[pallet::weight(Pallet::<T>::report_weight(report))]
		#[pallet::weight_of_authorize(Pallet::<T>::authorize_weight(report))]
		#[pallet::authorize(Pallet::<T>::authorize_report)]
		pub fn report(
			origin: OriginFor<T>,
			report: Report<BlockNumberFor<T>>,
			// Verified when the call was authorised.
			_signature: InferenceSignature,
		) -> DispatchResultWithPostInfo {
			ensure_authorized(origin)?;
			Self::do_report(report)
		}

		/// Appeals against an answer that was not drawn for a check, or that is settled and not forgotten: a jury measures.
		///
		/// - **Origin**: signed by anybody. A bond is held ([`Pallet::appeal_bond`]): it is returned if the jury cannot decide, returned and
		///   doubled, out of the slash, if the answer is wrong and somebody is blamed for it, and if the answer is right
		///   it pays the jury and the rest is burned.
		/// - **Errors**: `UnknownRequest`, `NotAppealable`, `JuryTooSmall`, and the currency's when the bond is not
		///   there. **Emits** `Appealed`, `RequestDisputed`.
		#[pallet::call_index(3)]
		#[pallet::weight(<T as Config>::WeightInfo::appeal())]
		pub fn appeal(origin: OriginFor<T>, request: RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::do_appeal(who, request)
		}

		/// Changes what is paid beside prices and what offences cost. Open requests are settled by what holds when they are.
		///
		/// - **Origin**: [`Config::AdminOrigin`]. - **Errors**: `BadParameters`. **Emits** `ParametersChanged`.
		#[pallet::call_index(4)]
		#[pallet::weight(<T as Config>::WeightInfo::set_parameters())]
		pub fn set_parameters(origin: OriginFor<T>, parameters: ParametersOf<T>) -> DispatchResult {
			T::AdminOrigin::ensure_origin(origin)?;
			ensure!(parameters.is_valid(), Error::<T>::BadParameters);
			Parameters::<T>::put(parameters);
			Self::deposit_event(Event::ParametersChanged { parameters });
			Ok(())
		}

		/// Contests what a jury found that costs stake: those who serve the model and were not drawn measure too, and both juries together
		/// decide. The answer's end stays what it is; only stake is at issue, of all who are accused in this request.
		///
		/// - **Origin**: signed by one of the accused. A bond is held, as for an appeal ([`Pallet::appeal_bond`]): returned if the accusation of
		///   whoever contests does not stand; otherwise it pays the second jury and the rest is burned.
		/// - **Errors**: `UnknownRequest`, `NotContestable`, and the currency's when the bond is not there. **Emits** `Contested`.
		#[pallet::call_index(9)]
		#[pallet::weight(<T as Config>::WeightInfo::contest())]
		pub fn contest(origin: OriginFor<T>, request: RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::do_contest(who, request)
		}

		/// Asks for an inference over tensors that are larger than state takes. Their data stays in the transaction, which blocks
		/// carry to every node; state holds its hash.
		///
		/// - **Origin**: signed, as of [`Call::request`], and paid like that; the transaction's length is paid by the fee.
		/// - `tensors`: name, element type, shape and length of each. - `data`: theirs, one after the other. It must be the last thing
		///   in the transaction: a batch may carry one such call, as its last.
		/// - **Errors**: as of [`Call::request`], `DataNotLast` and `DataTwice`. **Emits** `RequestSubmitted`.
		#[pallet::call_index(10)]
		#[pallet::weight(Pallet::<T>::data_weight(data.len() as u32))]
		pub fn request_with_data(
			origin: OriginFor<T>,
			model: ModelId,
			tensors: List<TensorHeader, MAX_TENSORS>,
			assurance: Assurance,
			fee_limit: BalanceOf<T>,
			tip: BalanceOf<T>,
			data: Bytes<MAX_DATA>,
		) -> DispatchResult {
			let requester = ensure_signed(origin)?;
			Self::do_request_with_data(requester, model, tensors, assurance, fee_limit, tip, data)
		}

		/// Lets a validator serve again that was suspended wrongly. What it was reported for stays with staking, where a slash is
		/// cancelled by itself.
		///
		/// - **Origin**: [`Config::AdminOrigin`]. - **Errors**: `NotSuspended`. **Emits** `SuspensionEnded`.
		#[pallet::call_index(8)]
		#[pallet::weight(<T as Config>::WeightInfo::lift_suspension())]
		pub fn lift_suspension(origin: OriginFor<T>, validator: T::AccountId) -> DispatchResult {
			T::AdminOrigin::ensure_origin(origin)?;
			ensure!(Self::end_suspension(&validator), Error::<T>::NotSuspended);
			Ok(())
		}

		/// A validator's contribution to the randomness that draws verifiers.
		///
		/// - **Origin**: authorised: the proof is right, by the `infr` key of a validator that was drawn for the toss of this block and has not
		///   contributed, or was silent in an earlier one and is back. It is free.
		/// - **Errors**: `NotDue`, where it is not asked for any more.
		#[pallet::call_index(11)]
		#[pallet::weight(<T as Config>::WeightInfo::contribute())]
		#[pallet::weight_of_authorize(<T as Config>::WeightInfo::authorize_contribution())]
		#[pallet::authorize(Pallet::<T>::authorize_contribution)]
		pub fn contribute(
			origin: OriginFor<T>,
			contribution: Contribution<BlockNumberFor<T>>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::do_contribute(contribution)
		}
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// A request with everything that is known of it.
		pub fn get_request(
			request: RequestId,
		) -> Option<RequestView<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>> {
			Self::request_view(request)
		}

		/// What a request would cost at most, tip not counted, and how long it is expected to take; or why it would be refused.
		pub fn get_quote(
			model: ModelId,
			input: StoredInput,
			assurance: Assurance,
		) -> Result<Quote<BalanceOf<T>>, QuoteError> {
			Self::quote(model, &input, assurance)
		}
	}
}
