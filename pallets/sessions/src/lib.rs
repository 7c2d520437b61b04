//! # Sessions
//!
//! Channels, claims and audits of the session lane: what the chain sees of answers that travel straight from executors to clients.
//!
//! ## Overview
//!
//! A client opens a *channel*: a deposit, divided into allotments for executors and one for checkers, a key that signs its vouchers, and
//! the tip of a hash chain. A validator *certifies* a lane key and an address in every session. Executors and checkers *settle* their last
//! vouchers; the money becomes pending. Later blocks draw *points of money* in what is claimed: the receipt in which a point lies is to be
//! *opened*, and its answer is measured as any other. What is not opened, or false, costs the whole claim and what a lie costs; otherwise
//! the claim is paid when its window is over.
//!
//! ```text
//! open ─window of blocks─▶ ready ──────────────────────────▶ close ─notice─▶ withdraw
//!                            │ settle
//!                            └▶ claim ─window of blocks─▶ points ─opened─▶ measured ─stands─▶ paid
//!                                                            │ not in time      │ false
//!                                                            └▶ forfeited ◀─────┘
//! ```
//!
//! ## Low level
//!
//! - **Money.** All of it stays on hold from the channel's owner until it is paid or returned; a channel counts what of that is claimed
//!   and pending. `try_state` proves that nothing is made or lost.
//! - **Vouchers are cumulative.** A claim takes the difference to what its payee has claimed before, and its receipts are consecutive
//!   intervals of that difference.
//! - **Points.** One in every [`Config::PointInterval`] of a claim, uniform in its interval; in the last, shorter one, as likely as it is
//!   long. So every coin is drawn with the same chance, however the money is divided into claims, and small claims together have as many
//!   points as a large one. Nothing is carried over from one claim to the next: whoever knew that the point of an interval has fallen
//!   would know that the rest of it is safe.
//! - **Randomness** comes from windows of blocks that follow one another, as many blocks as make a third of the slots own one of the
//!   windows among which a claimant can choose in one of a thousand cases. A seed is one window's, whatever waits for it and however long:
//!   nobody can have another by filling queues. **The pallet must stand after `pallet-inference` in the runtime**, whose beacon it reads.
//! - **Free transactions.** Certificates, claims and openings are authorised by what is in them and pay no fee. A certificate is taken a few
//!   times a session, an opening once for a point. A claim moves [`Config::MinClaim`] at least, of which treasury and jury fund take their
//!   shares whoever pays whom: those have to come to more than the fee of a transaction, and then a claim costs whoever makes it up more
//!   than a transaction would.
//!
//! - **Beyond points.** Anybody puts a signed receipt before a jury with a bond ([`features::appeal`]), and shows what checkers have signed
//!   of an answer that is measured ([`features::testimony`]).
//! - **Stake.** What is claimed of an executor and not audited yet is bounded by what it can lose ([`features::stake`]).

#![cfg_attr(not(feature = "std"), no_std)]
// The pallet macro makes items that carry no documentation of their own.
#![allow(missing_docs, clippy::too_many_arguments, clippy::type_complexity)]

extern crate alloc;

pub use features::stake::SlashableStake;
pub use pallet::*;
pub use types::*;
pub use weights::WeightInfo;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
pub mod features;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

use alloc::{boxed::Box, vec::Vec};
use codec::Encode;
use consilience_primitives::{
	crypto::InferenceSignature,
	session::{
		Appealed, Certificate, ChannelId, ChannelView, Claim, ClaimId, LaneKey, LaneView, Opening,
		OpeningDue, Release, Service, Signed, Verdict, MAX_ALLOCATIONS, MAX_CLAIMS, MAX_POINTS,
	},
	List, ModelId, RequestId,
};
use pallet_inference::{AuditAnswers, DrawBeacon, SessionValidators};
use polkadot_sdk::{
	frame_support::{
		self,
		pallet_prelude::*,
		traits::fungible::{Mutate, MutateHold},
	},
	frame_system::{offchain::CreateAuthorizedTransaction, pallet_prelude::*},
	sp_core::H256,
	sp_runtime::{
		traits::{Saturating, Zero},
		transaction_validity::TransactionPriority,
		Perbill,
	},
	sp_staking::SessionIndex,
};

/// Target of this pallet's log lines.
pub const LOG_TARGET: &str = "runtime::sessions";

#[frame_support::pallet]
pub mod pallet {
	use super::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	/// # Requirements
	///
	/// `frame_system::AuthorizeCall` is in the runtime's transaction extension, this pallet stands after `pallet-inference`, and that one
	/// names it in its `OnSettled`.
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
		/// The session's validators and their `infr` keys.
		type Validators: SessionValidators<Self::AccountId>;

		/// Randomness.
		type Beacon: DrawBeacon<BlockNumberFor<Self>>;

		/// Measures answers, and reports those that are not shown.
		type Audits: AuditAnswers<Self::AccountId>;

		/// Stake that answers for answers.
		type Stake: SlashableStake<Self::AccountId, BalanceOf<Self>>;

		/// The part of an executor's stake up to which its claims may come that are not audited yet.
		type UnauditedShare: Get<Perbill>;

		/// Receives its share of claims, and most of what is forfeited.
		type Treasury: Get<Self::AccountId>;

		/// Receives the audit share. It pays for measurements.
		type JuryFund: Get<Self::AccountId>;

		/// The treasury's part of claims: that of prices.
		type TreasuryShare: Get<Perbill>;

		/// The part of claims that pays for audits. Of a [`Config::PointInterval`] it should come to what an audit costs.
		#[pallet::constant]
		type AuditShare: Get<Perbill>;

		/// Money in which there is one point. At most half of what a lie costs that is found once.
		#[pallet::constant]
		type PointInterval: Get<BalanceOf<Self>>;

		/// Least that is set apart for a payee, or for checkers, where anything is.
		#[pallet::constant]
		type MinAllocation: Get<BalanceOf<Self>>;

		/// Least that is claimed. A claim is free, so that what treasury and jury fund have of this must be more than the fee of a
		/// transaction.
		#[pallet::constant]
		type MinClaim: Get<BalanceOf<Self>>;

		/// Blocks that payees have to settle after their allotment is lowered or their channel closed. Longer than a day's trouble with
		/// finality.
		#[pallet::constant]
		type Notice: Get<BlockNumberFor<Self>>;

		/// Blocks in which a drawn receipt is to be opened, and for which a claim's pay is pending.
		#[pallet::constant]
		type OpeningBlocks: Get<BlockNumberFor<Self>>;

		/// Blocks from a receipt's anchor in which it can be put before a jury. Shorter than certificates are known.
		#[pallet::constant]
		type AppealBlocks: Get<BlockNumberFor<Self>>;

		/// Blocks among which a claimant can choose when to claim: those of the sessions for which a voucher is good.
		#[pallet::constant]
		type ClaimBlocks: Get<u32>;

		/// Sessions, after its own, in which a certificate is known. Receipts are of no use once it is forgotten: longer than vouchers
		/// are good, and an opening takes after that; shorter than stake answers for a deed.
		#[pallet::constant]
		type CertificateSessions: Get<SessionIndex>;

		/// Most channels of an account.
		#[pallet::constant]
		type MaxChannels: Get<u32>;

		/// Most checkers that claim of one channel.
		#[pallet::constant]
		type MaxCheckers: Get<u32>;

		/// Most channels and claims that are drawn for in one block.
		#[pallet::constant]
		type MaxDraws: Get<u32>;

		/// Most claims that end in one block, and most certificates that are forgotten in one.
		#[pallet::constant]
		type MaxPerBlock: Get<u32>;

		/// Blocks for which the transaction pool keeps a transaction of this pallet.
		#[pallet::constant]
		type Longevity: Get<u64>;

		/// Its priority there.
		#[pallet::constant]
		type Priority: Get<TransactionPriority>;

		/// Weights of calls and hooks.
		type WeightInfo: WeightInfo;
	}

	/// Why money is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// A channel's deposit, until it is paid or returned.
		Channel,
	}

	/// Number of the next channel.
	#[pallet::storage]
	pub type NextChannel<T> = StorageValue<_, ChannelId, ValueQuery>;

	/// Channels of which something is held. Keys are counted: no hashing against attackers is needed.
	#[pallet::storage]
	pub type Channels<T: Config> = StorageMap<_, Twox64Concat, ChannelId, ChannelOf<T>>;

	/// An account's channels. Anybody can open one: a cryptographic hasher.
	#[pallet::storage]
	pub type ChannelsOf<T: Config> = StorageMap<
		_,
		Blake2_128Concat,
		T::AccountId,
		BoundedVec<ChannelId, T::MaxChannels>,
		ValueQuery,
	>;

	/// What each checker has claimed of a channel's pot. Only validators claim, whose accounts cost a stake: a fast hasher will do.
	#[pallet::storage]
	pub type Checked<T: Config> = StorageDoubleMap<
		_,
		Twox64Concat,
		ChannelId,
		Twox64Concat,
		T::AccountId,
		BalanceOf<T>,
		ValueQuery,
	>;

	/// What validators have certified, by session.
	#[pallet::storage]
	pub type Certificates<T: Config> =
		StorageDoubleMap<_, Twox64Concat, SessionIndex, Twox64Concat, T::AccountId, Certified>;

	/// Certificates of sessions before this one are forgotten.
	#[pallet::storage]
	pub type FirstSession<T> = StorageValue<_, SessionIndex, ValueQuery>;

	/// Number of the next claim.
	#[pallet::storage]
	pub type NextClaim<T> = StorageValue<_, ClaimId, ValueQuery>;

	/// Claims that are pending. Keys are counted.
	#[pallet::storage]
	pub type Claims<T: Config> = StorageMap<_, Twox64Concat, ClaimId, PendingClaimOf<T>>;

	/// [`Claims`] by their payees.
	#[pallet::storage]
	pub type ClaimsOf<T: Config> =
		StorageDoubleMap<_, Twox64Concat, T::AccountId, Twox64Concat, ClaimId, ()>;

	/// What payees have claimed for answers that is pending: what may still be found false. Only validators claim, whose accounts cost a
	/// stake: a fast hasher will do.
	#[pallet::storage]
	pub type Unaudited<T: Config> =
		StorageMap<_, Twox64Concat, T::AccountId, BalanceOf<T>, ValueQuery>;

	/// Receipts whose answers are measured or were, until their claims end.
	#[pallet::storage]
	pub type Audits<T: Config> = StorageMap<_, Twox64Concat, RequestId, Opened<BalanceOf<T>>>;

	/// The same by channel, payee and number, so that no receipt is opened twice.
	#[pallet::storage]
	pub type Shown<T: Config> = StorageMap<_, Twox64Concat, (ChannelId, T::AccountId, u32), ()>;

	/// Windows of blocks for which something waits, the oldest first.
	#[pallet::storage]
	pub type Windows<T: Config> =
		StorageValue<_, BoundedVec<Window<BlockNumberFor<T>>, ConstU32<MAX_WINDOWS>>, ValueQuery>;

	/// What waits, and for the window that begins with which block: a queue whose places are counted.
	#[pallet::storage]
	pub type Draws<T: Config> = StorageMap<_, Twox64Concat, u64, (BlockNumberFor<T>, Draw)>;

	/// The first place of [`Draws`], and the place after its last.
	#[pallet::storage]
	pub type DrawRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	/// Claims whose points are drawn, in the order in which their windows end: a queue whose places are counted.
	#[pallet::storage]
	pub type Ends<T> = StorageMap<_, Twox64Concat, u64, ClaimId>;

	/// The first place of [`Ends`], and the place after its last.
	#[pallet::storage]
	pub type EndRange<T> = StorageValue<_, (u64, u64), ValueQuery>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(crate) fn deposit_event)]
	pub enum Event<T: Config> {
		/// A channel was opened and its deposit held. Its seed is to be drawn.
		ChannelOpened {
			channel: ChannelId,
			owner: T::AccountId,
			deposit: BalanceOf<T>,
		},
		/// A channel's seed was drawn: it can be used.
		SeedDrawn { channel: ChannelId, seed: H256 },
		/// More was set apart. `amount` is all of it.
		Raised {
			channel: ChannelId,
			part: Part<T::AccountId>,
			amount: BalanceOf<T>,
		},
		/// From block `at` on as much less is set apart as is not claimed by then, and no more than `by`.
		LoweringAnnounced {
			channel: ChannelId,
			part: Part<T::AccountId>,
			by: BalanceOf<T>,
			at: BlockNumberFor<T>,
		},
		/// The payee agreed that less is set apart for it. `amount` is all that is left.
		Released {
			channel: ChannelId,
			payee: T::AccountId,
			amount: BalanceOf<T>,
		},
		/// A channel closes: from block `at` on nothing is claimed of it.
		ChannelClosing {
			channel: ChannelId,
			at: BlockNumberFor<T>,
		},
		/// Money was returned to a channel's owner.
		Returned {
			channel: ChannelId,
			amount: BalanceOf<T>,
		},
		/// Everything in a channel is paid or returned.
		ChannelRemoved { channel: ChannelId },
		/// A validator certified a lane key and an address.
		LaneCertified {
			validator: T::AccountId,
			session: SessionIndex,
			key: LaneKey,
		},
		/// Money was claimed, and is pending.
		Claimed {
			claim: ClaimId,
			channel: ChannelId,
			payee: T::AccountId,
			service: Service,
			amount: BalanceOf<T>,
		},
		/// A claim was good when it was sent and is not any more; the others of its transaction count.
		ClaimSkipped { index: u32, reason: DispatchError },
		/// Points were drawn in a claim. The receipts in which they lie are to be opened up to this block; without any, the claim is paid
		/// after it.
		PointsDrawn {
			claim: ClaimId,
			offsets: Vec<BalanceOf<T>>,
			deadline: BlockNumberFor<T>,
		},
		/// A receipt was opened, and its answer is being measured; not where its model is gone.
		ReceiptOpened {
			claim: ClaimId,
			number: u32,
			request: Option<RequestId>,
		},
		/// A receipt was put before a jury. The claim is named where it waits for that.
		ReceiptAppealed {
			request: RequestId,
			channel: ChannelId,
			payee: T::AccountId,
			number: u32,
			who: T::AccountId,
			claim: Option<ClaimId>,
		},
		/// What a checker has signed of a receipt was shown, and is judged with its answer.
		VerdictShown {
			receipt: H256,
			checker: T::AccountId,
			session: SessionIndex,
		},
		/// An opened answer was measured and stands.
		AnswerStands { claim: ClaimId, request: RequestId },
		/// A claim was paid.
		ClaimPaid {
			claim: ClaimId,
			payee: T::AccountId,
			paid: BalanceOf<T>,
			to_treasury: BalanceOf<T>,
			to_fund: BalanceOf<T>,
		},
		/// A claim was forfeited.
		ClaimForfeited {
			claim: ClaimId,
			payee: T::AccountId,
			why: Forfeit,
			returned: BalanceOf<T>,
			to_treasury: BalanceOf<T>,
		},
	}

	/// Transactions that are authorised by their content are refused with [`InvalidTransaction::Custom`] and the place of one of these in
	/// the metadata.
	#[pallet::error]
	pub enum Error<T> {
		/// No channel has this number, or everything in it is paid and returned: open one.
		UnknownChannel,
		/// Only the account that opened the channel may do this: sign with it.
		NotOwner,
		/// Nothing is set apart for any executor: name one at least.
		NoAllocation,
		/// A payee is named twice: add the two amounts.
		PayeeTwice,
		/// Less is set apart than the least that may be: set more apart, or nothing.
		AllocationTooSmall,
		/// The channel has as many payees as it can have, and none is taken out before it closes: open another.
		TooManyPayees,
		/// The account has as many channels as it may: close one, and withdraw from it.
		TooManyChannels,
		/// The amounts do not fit the balance type: set less apart.
		Overflow,
		/// Nothing is set apart for this payee, or that would be changed by nothing: name a payee of the channel, and an amount.
		NothingToChange,
		/// The payee's leave is for something else, was used already, or is not signed by its certified lane key: ask it for another, with
		/// the number of releases that stands in the channel.
		BadRelease,
		/// The channel is closing: open another.
		Closing,
		/// Nothing is to be returned yet: wait for the block in which the notice ends.
		NothingToWithdraw,
		/// The certificate is of another session than the present one: ask `certificate_due`, and sign again.
		WrongSession,
		/// The session has no validator at this place, or the certificate is not signed by its `infr` key: ask `certificate_due` with that
		/// key.
		NotValidator,
		/// The address is not `ws://…` or `wss://…` in UTF-8: change the node's configuration.
		BadEndpoint,
		/// Key and address are certified already, or as many as may be were in this session: wait for the next.
		AlreadyCertified,
		/// The channel's seed is not drawn yet: wait some blocks.
		NotReady,
		/// The channel is closed, and its notice over: nothing can be claimed any more.
		Closed,
		/// The voucher was good up to an earlier session: nothing can be claimed with it any more.
		VoucherExpired,
		/// A claim is over one receipt at least, and as many as the tree of money holds at most: divide it.
		BadCount,
		/// Nothing is set apart for this payee in the channel: ask the client for an allotment before serving it.
		NoAllotment,
		/// As much as the voucher says, or more, was claimed before: claim with a later one.
		ClaimedBefore,
		/// The voucher is for more than is set apart: nothing beyond that can be claimed.
		OverAllotment,
		/// Less is claimed than the least that may be: wait for more.
		ClaimTooSmall,
		/// More is claimed than one claim may have points: claim with an earlier voucher first.
		ClaimTooLarge,
		/// The receipts' sum is not what is claimed: they are what was paid since the last claim, no more and no less.
		WrongSum,
		/// As many checkers as may be have claimed of this channel: another can't.
		TooManyCheckers,
		/// Blocks have had no randomness for long: try again later.
		NoRandomness,
		/// A channel's payee claims twice in one transaction: leave the smaller claim out.
		ClaimTwice,
		/// The voucher is not signed by the channel's key.
		BadVoucher,
		/// No lane key of this validator in this session is known: it has not certified one, or it is too long ago.
		NotCertified,
		/// Claim or receipt is not signed by the validator's lane key of its session.
		BadSignature,
		/// No claim has this number, or it has ended.
		UnknownClaim,
		/// No opening is due for this point: its receipt is opened, its time is over, or there is no such point.
		NotDue,
		/// The receipt is of another channel or payee, or its number is none.
		WrongReceipt,
		/// The question is not the one that the receipt names.
		WrongAsk,
		/// The block to which the question refers is later than the claim, or is another.
		WrongAnchor,
		/// The voucher is not for this request.
		WrongVoucher,
		/// The answer is no text, is longer than was asked for, or is not the one that the receipt names.
		WrongOutput,
		/// The voucher acknowledges another answer than this, or so little of it that more than a slice is missing.
		NotAcknowledged,
		/// The receipt's units are not those of question and answer.
		WrongUnits,
		/// The voucher does not end where the receipt lies in the claim: it is that of another receipt, or of another claim.
		WrongPlace,
		/// The model takes no such question.
		WrongInput,
		/// A receipt with this number was opened already: a number is used once.
		ShownBefore,
		/// The receipt is not in the claim, or what was paid of it is not what the tree says.
		NotInClaim,
		/// The point lies in another receipt.
		NotAtPoint,
		/// The executor's claims that are not audited yet would come to more than the part of its stake that they may: ask `claim_room`, claim
		/// with an earlier voucher, or wait until some are paid.
		OverStake,
		/// The receipt's anchor is too long ago: it can't be put before a jury any more.
		TooLate,
		/// The answer can't be measured: its model is gone.
		ModelGone,
		/// The receipt's answer was measured, or is: ask `standing`. What stood without a jury can be appealed against as a request.
		MeasuredBefore,
		/// The claim's points are not drawn yet: wait some blocks, or appeal without naming the claim.
		NotDrawn,
		/// As many receipts of the claim as may be were put before a jury: appeal without naming the claim.
		TooManyAppeals,
		/// No receipt with this hash was opened or put before a jury, or that is forgotten.
		UnknownAnswer,
		/// The verdict is by whoever gave the answer.
		OwnAnswer,
		/// The verdict is neither that the answer is right nor that it is wrong beyond what rounding does: nobody can be blamed for it.
		SaysNothing,
		/// The checker was heard on this answer, and said the same.
		HeardBefore,
		/// As many checkers as may be were heard on this answer who said the same.
		HeardEnough,
		/// The verdict is what a jury found, or no jury will judge this answer any more: nothing follows from it.
		NothingToJudge,
		/// The checker's word has called another jury that has not judged yet: wait for that. Or it was found to have given wrong verdicts in
		/// these sessions, which this one would be one deed with.
		NoWeight,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		fn on_initialize(now: BlockNumberFor<T>) -> Weight {
			let ended = Self::process_ends(now);
			let forgotten = Self::forget_certificates();
			let draws = Self::coming_draws(now);
			<T as Config>::WeightInfo::hooks()
				.saturating_add(<T as Config>::WeightInfo::end_claim().saturating_mul(ended.into()))
				.saturating_add(
					<T as Config>::WeightInfo::forget().saturating_mul(forgotten.into()),
				)
				.saturating_add(<T as Config>::WeightInfo::draw().saturating_mul(draws.into()))
		}

		fn on_finalize(_now: BlockNumberFor<T>) {
			Self::process_draws();
		}

		fn integrity_test() {
			let interval = T::PointInterval::get();
			assert!(
				!T::MinClaim::get().is_zero()
					&& T::MinClaim::get() <= interval.saturating_mul(MAX_POINTS.into()),
				"no claim is large enough, or every claim is too large"
			);
			assert!(
				T::MinAllocation::get() >= T::MinClaim::get(),
				"something is set apart that can't be claimed"
			);
			assert!(
				T::MaxDraws::get() > 0
					&& T::MaxPerBlock::get() > 0
					&& T::MaxChannels::get() > 0
					&& T::MaxCheckers::get() > 0
			);
			assert!(
				!T::UnauditedShare::get().is_zero() && T::UnauditedShare::get() <= Perbill::one(),
				"nobody could claim, or for more than can be lost"
			);
			assert!(
				!T::Notice::get().is_zero() && !T::OpeningBlocks::get().is_zero(),
				"nobody has time to do what is due"
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
		/// Opens a channel. It can be used once its seed is drawn, which takes some blocks.
		///
		/// - **Origin**: signed; the account owns the channel, and the sum of all amounts is held from it.
		/// - `key`: signs the channel's vouchers. - `chain`: tip of the client's hash chain, [`MAX_NUMBER`] steps from its beginning. -
		///   `allocations`: what is set apart for each executor, [`Config::MinAllocation`] at least. - `pot`: what is set apart for checkers,
		///   nothing or as much at least.
		/// - **Errors**: `NoAllocation`, `PayeeTwice`, `AllocationTooSmall`, `TooManyChannels`, `Overflow`, `NoRandomness`, and the currency's
		///   when the money is not there. **Emits** `ChannelOpened`.
		///
		/// [`MAX_NUMBER`]: consilience_primitives::session::MAX_NUMBER
		#[pallet::call_index(0)]
		#[pallet::weight(<T as Config>::WeightInfo::open())]
		pub fn open(
			origin: OriginFor<T>,
			key: LaneKey,
			chain: H256,
			allocations: List<(T::AccountId, BalanceOf<T>), MAX_ALLOCATIONS>,
			pot: BalanceOf<T>,
		) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_open(owner, key, chain, allocations, pot).map(|_| ())
		}

		/// Sets more apart, at once: for a payee, also one that the channel did not have, or for checkers.
		///
		/// - **Origin**: signed by the owner; `amount` is held from it on top.
		/// - **Errors**: `UnknownChannel`, `NotOwner`, `Closing`, `NothingToChange`, `AllocationTooSmall`, `TooManyPayees`, `Overflow`, and the
		///   currency's when the money is not there. **Emits** `Raised`.
		#[pallet::call_index(1)]
		#[pallet::weight(<T as Config>::WeightInfo::raise())]
		pub fn raise(
			origin: OriginFor<T>,
			channel: ChannelId,
			part: Part<T::AccountId>,
			amount: BalanceOf<T>,
		) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_raise(owner, channel, part, amount)
		}

		/// Sets less apart: with notice, in which claims still count; [`Call::withdraw`] returns the money then. With a payee's leave its
		/// allotment is lowered, and the money returned, at once, also while the channel closes.
		///
		/// - **Origin**: signed by the owner. - `by`: how much less; what is not claimed by then is the most. It adds to a notice that runs
		///   already, and has that begin anew. With `release` it is of no account: the release says what stays.
		/// - **Errors**: `UnknownChannel`, `NotOwner`, `Closing`, `NothingToChange`, `BadRelease`. **Emits** `LoweringAnnounced`, or `Released`
		///   and `Returned`.
		#[pallet::call_index(2)]
		#[pallet::weight(<T as Config>::WeightInfo::lower())]
		pub fn lower(
			origin: OriginFor<T>,
			channel: ChannelId,
			part: Part<T::AccountId>,
			by: BalanceOf<T>,
			release: Option<Signed<Release<T::AccountId, BalanceOf<T>>>>,
		) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_lower(owner, channel, part, by, release)
		}

		/// Closes a channel, with notice, in which claims still count.
		///
		/// - **Origin**: signed by the owner. - **Errors**: `UnknownChannel`, `NotOwner`, `Closing`. **Emits** `ChannelClosing`.
		#[pallet::call_index(3)]
		#[pallet::weight(<T as Config>::WeightInfo::close())]
		pub fn close(origin: OriginFor<T>, channel: ChannelId) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_close(owner, channel)
		}

		/// Returns to a channel's owner what is lowered and whose notice is over; all that is not claimed where the channel's is. Pending
		/// pay stays.
		///
		/// - **Origin**: signed by anybody. - **Errors**: `UnknownChannel`, `NothingToWithdraw`. **Emits** `Returned`, `ChannelRemoved`.
		#[pallet::call_index(4)]
		#[pallet::weight(<T as Config>::WeightInfo::withdraw(T::MaxCheckers::get()))]
		pub fn withdraw(origin: OriginFor<T>, channel: ChannelId) -> DispatchResultWithPostInfo {
			ensure_signed(origin)?;
			let checkers = Self::do_withdraw(channel)?;
			Ok(Some(<T as Config>::WeightInfo::withdraw(checkers)).into())
		}

		/// Certifies a validator's lane key and address for the present session.
		///
		/// - **Origin**: authorised: signed by the validator's `infr` key. It is free. Once in a session, and again where key or address is
		///   another, a few times at most.
		/// - Refused with `WrongSession`, `NotValidator`, `BadEndpoint`, `AlreadyCertified`. **Emits** `LaneCertified`.
		#[pallet::call_index(5)]
		#[pallet::weight(<T as Config>::WeightInfo::certify())]
		#[pallet::weight_of_authorize(<T as Config>::WeightInfo::authorize_certify())]
		#[pallet::authorize(Pallet::<T>::authorize_certify)]
		pub fn certify(
			origin: OriginFor<T>,
			certificate: Certificate,
			// Verified when the call was authorised.
			_signature: InferenceSignature,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::do_certify(certificate)
		}

		/// Claims money of channels. It becomes pending, and is paid when the claim's window is over.
		///
		/// - **Origin**: authorised by content: each claim is signed by its payee's lane key, and its voucher by its channel's key. It is
		///   free, which pays because treasury and jury fund have more of the least claim than a transaction's fee.
		/// - A claim that is no longer good when the transaction is executed is skipped; the others count.
		/// - Refused with `UnknownChannel`, `NotReady`, `Closed`, `VoucherExpired`, `BadCount`, `NoAllotment`, `ClaimedBefore`,
		///   `OverAllotment`, `ClaimTooSmall`, `ClaimTooLarge`, `WrongSum`, `TooManyCheckers`, `NoRandomness`, `ClaimTwice`, `BadVoucher`,
		///   `NotCertified`, `BadSignature`. **Emits** `Claimed` or `ClaimSkipped` for each.
		#[pallet::call_index(6)]
		#[pallet::weight(
			<T as Config>::WeightInfo::settle(claims.len() as u32)
				.saturating_add(Pallet::<T>::stake_weight(claims.len() as u32))
		)]
		#[pallet::weight_of_authorize(
			<T as Config>::WeightInfo::authorize_settle(claims.len() as u32)
				.saturating_add(Pallet::<T>::stake_weight(claims.len() as u32))
		)]
		#[pallet::authorize(Pallet::<T>::authorize_settle)]
		pub fn settle(
			origin: OriginFor<T>,
			claims: List<Signed<Claim<T::AccountId, BalanceOf<T>>>, MAX_CLAIMS>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::do_settle(claims);
			Ok(())
		}

		/// Opens the receipt in which a claim's point lies; its answer is measured. All points of the claim that lie in it are done with it.
		///
		/// - **Origin**: authorised by content: by whoever has the receipt, executor or client. It is free, and taken once for a point.
		/// - Amounts are compared with what the model has cost at the receipt's anchor. Where the model is gone, the answer can't be measured,
		///   and the point is cleared: its executor can't be blamed for that.
		/// - A cut answer is measured as the answer to the same question with as many tokens at most.
		/// - Refused with `UnknownClaim`, `NotDue`, `WrongReceipt`, `WrongAsk`, `WrongAnchor`, `WrongVoucher`, `WrongOutput`,
		///   `NotAcknowledged`, `WrongUnits`, `WrongInput`, `WrongPlace`, `ShownBefore`, `NotInClaim`, `NotAtPoint`, `BadVoucher`,
		///   `NotCertified`, `BadSignature`; the deadline goes on then. **Emits** `ReceiptOpened`.
		#[pallet::call_index(7)]
		#[pallet::weight(<T as Config>::WeightInfo::open_receipt(opening.encoded_size() as u32))]
		#[pallet::weight_of_authorize(
			<T as Config>::WeightInfo::authorize_open_receipt(opening.encoded_size() as u32)
		)]
		#[pallet::authorize(Pallet::<T>::authorize_opening)]
		pub fn open_receipt(
			origin: OriginFor<T>,
			claim: ClaimId,
			point: u32,
			opening: Box<Opening<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::do_open_receipt(claim, point, *opening)
		}

		/// Puts a signed receipt before a jury, whether it was claimed or not.
		///
		/// - **Origin**: signed; whoever has the receipt, its question and its answer. The bond is held from it: it pays the jury where the
		///   answer is right, and what is left is burned; otherwise it comes back.
		/// - `appealed`: with [`Place`](consilience_primitives::session::Place), the claim is not paid before the jury has spoken.
		/// - A false answer costs its executor what it costs in an audit. Once for a receipt.
		/// - **Errors**: `UnknownChannel`, `NotReady`, `WrongReceipt`, `WrongAsk`, `WrongAnchor`, `TooLate`, `WrongOutput`, `WrongUnits`,
		///   `WrongInput`, `ModelGone`, `MeasuredBefore`, `NotCertified`, `BadSignature`; with a place those of [`Call::open_receipt`], `NotDrawn`,
		///   `TooManyAppeals`; `JuryTooSmall` of `pallet-inference`, and the currency's when the bond is not there. **Emits**
		///   `ReceiptAppealed`.
		#[pallet::call_index(8)]
		#[pallet::weight(<T as Config>::WeightInfo::appeal(appealed.encoded_size() as u32))]
		pub fn appeal(
			origin: OriginFor<T>,
			appealed: Box<Appealed<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::do_appeal(who, *appealed)
		}

		/// Shows what a checker has signed of a receipt that was opened, or put before a jury. It is judged with the answer: who vouched for
		/// a false one is reported as a verifier that does, and so is who called a right one wrong. A word that it is wrong calls a jury, where
		/// auditors alone find nothing.
		///
		/// - **Origin**: authorised by content: signed by the checker's lane key. It is free, and paid by nobody; once for each checker, receipt and
		///   side.
		/// - Refused with `UnknownAnswer`, `OwnAnswer`, `SaysNothing`, `HeardBefore`, `HeardEnough`, `NothingToJudge`, `NoWeight`,
		///   `NotCertified`, `BadSignature`. **Emits** `VerdictShown`.
		#[pallet::call_index(9)]
		#[pallet::weight(<T as Config>::WeightInfo::testify())]
		#[pallet::weight_of_authorize(<T as Config>::WeightInfo::authorize_testify())]
		#[pallet::authorize(Pallet::<T>::authorize_testimony)]
		pub fn testify(
			origin: OriginFor<T>,
			verdict: Box<Signed<Verdict<T::AccountId>>>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::do_testify(*verdict)
		}
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// A channel, until everything in it is paid or returned.
		pub fn get_channel(
			channel: ChannelId,
		) -> Option<ChannelView<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>> {
			Self::channel(channel)
		}

		/// Validators of the session that serve the model and take requests in this lane.
		pub fn get_lanes(model: ModelId) -> Vec<LaneView<T::AccountId>> {
			Self::lanes(model)
		}

		/// Receipts that the validator has to open, the most urgent first.
		pub fn get_openings_due(
			validator: T::AccountId,
		) -> Vec<OpeningDue<BlockNumberFor<T>, BalanceOf<T>>> {
			Self::openings_due(&validator)
		}

		/// How much more the executor may claim now for answers, if it signs with its lane key of this session.
		pub fn get_claim_room(payee: T::AccountId, session: SessionIndex) -> BalanceOf<T> {
			Self::claim_room(&payee, session)
		}
	}
}
