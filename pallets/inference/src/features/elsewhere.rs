//! Answers that were given and paid elsewhere, and are measured here: what another pallet may ask beside an inference.
//!
//! Such an answer is a request that is settled already, with nothing held for it. It is measured as an audit is
//! ([`Pallet::draw_audit`]), surely and not by chance: auditors are drawn by the randomness of a window of blocks that its opener could
//! not choose; where they do not agree with the answer, a jury judges it, and a false one costs its author what any lie costs. Whoever
//! asked is told through [`OnSettled`](crate::OnSettled), however often it is looked at again.
//!
//! As many are measured at a time as [`AUDITS_AT_A_TIME`]. The others wait, and none is passed over.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::{
	comparison::AnswerJudgement,
	crypto::InferenceId,
	evidence::Verdict,
	request::{Assurance, Input, Output},
	view::RequestState,
	List, ModelId, RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{ensure, traits::ValidatorSet},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::{
		traits::{Get, Zero},
		DispatchError, Perbill,
	},
	sp_staking::SessionIndex,
};
use scale_info::TypeInfo;

use crate::{
	features::{
		draw::draw_blocks,
		offence::OffenceKind,
		testimony::{Judged, Unheard},
	},
	Auditing, Beacon, Config, Course, Elsewhere, Ended, EndedRange, Error, Event, Indices, Inputs,
	KeyAt, Keys, NextRequest, Outputs, Pallet, Parameters, References, Request, RequestOf,
	Requests, Testimonies, MAX_MEMBERS,
};

/// Answers given elsewhere that are measured at a time.
pub const AUDITS_AT_A_TIME: u32 = 64;

/// Times that auditors are drawn for an answer while none of them comes.
pub const AUDIT_TRIES: u8 = 3;

/// In offences, this bit of a request's number says that it is the number of something else: of what was not shown at all.
pub const NOT_SHOWN: RequestId = 1 << 63;

/// An answer that was given elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<AccountId> {
	/// Its name elsewhere: a hash.
	pub reference: H256,
	/// Who asked.
	pub requester: AccountId,
	/// The model.
	pub model: ModelId,
	/// What was asked.
	pub input: Input,
	/// What was answered: a text.
	pub output: Output,
	/// Seed of its sampling noise.
	pub seed: H256,
	/// Who answered.
	pub executor: AccountId,
	/// Session of the deed, as staking counts.
	pub session: SessionIndex,
	/// Who shall not measure it, beside the executor.
	pub passed_over: List<AccountId, MAX_MEMBERS>,
	/// Blocks among which whoever shows the answer could choose: the more, the more blocks draw.
	pub choice: u32,
}

/// Measures answers that were given elsewhere.
pub trait AuditAnswers<AccountId> {
	/// Has an answer measured. Told under the number that this returns, and that is never used again. Errors: the model is not there, or
	/// takes no such input or output.
	fn audit(answer: Answered<AccountId>) -> Result<RequestId, DispatchError>;

	/// Reports that an answer of a session was not shown to be measured, which costs what a false one costs. `reference` tells one from
	/// the other.
	fn not_shown(reference: u64, executor: &AccountId, session: SessionIndex);

	/// Puts an answer before a jury, with a bond of `who`'s that pays it where the answer is right, and of which the rest is burned then.
	/// Told as [`Self::audit`] is. Errors: those of that; it was shown before; too few serve the model for a jury; the bond isn't there.
	fn appeal(who: AccountId, answer: Answered<AccountId>) -> Result<RequestId, DispatchError>;

	/// What became of an answer with this name, if one was shown and is not forgotten: of the last.
	fn standing(reference: &H256) -> Option<(RequestId, Standing)>;

	/// Whether [`Self::testify`] would take this now, and otherwise why not.
	fn may_testify(
		reference: &H256,
		checker: &AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(), Unheard>;

	/// Takes what a checker has signed of the answer with this name, in this session. It is judged with the answer
	/// ([`crate::features::testimony`]).
	fn testify(
		reference: &H256,
		checker: &AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(), Unheard>;
}

/// What became of an answer that was given elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
	/// It is measured, or is going to be.
	Measured,
	/// A jury found it right.
	Right,
	/// It was measured, and no jury has found what it is.
	Stands,
	/// A jury found it false.
	False,
}

/// Randomness that nobody has chosen.
pub trait DrawBeacon<BlockNumber> {
	/// Blocks in a row whose randomness a draw mixes, so that a third of the slots rarely owns them all, where somebody could choose the
	/// beginning among so many blocks.
	fn blocks(choice: u32) -> u8;

	/// Their randomness, from this block on; `None` until there is that of so many. It is kept for a few blocks only.
	fn mixed(from: BlockNumber, blocks: u8) -> Option<H256>;
}

/// The session's validators and their `infr` keys.
pub trait SessionValidators<AccountId> {
	/// The present session, as staking counts.
	fn session() -> SessionIndex;

	/// The validator at this place.
	fn at(index: u32) -> Option<(AccountId, InferenceId)>;

	/// The validator with this key, and its place.
	fn with_key(key: &InferenceId) -> Option<(u32, AccountId)>;

	/// Whether it is one.
	fn contains(who: &AccountId) -> bool;

	/// Has these be the session's, for benchmarks.
	#[cfg(feature = "runtime-benchmarks")]
	fn set(validators: Vec<(AccountId, InferenceId)>);
}

/// The treasury's part of prices, as governance has it.
pub struct TreasuryShare<T>(core::marker::PhantomData<T>);

impl<T: Config> Get<Perbill> for TreasuryShare<T> {
	fn get() -> Perbill {
		Parameters::<T>::get().treasury_share
	}
}

/// What is noted of an answer that was given elsewhere.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Outside<AccountId> {
	/// Its name elsewhere.
	pub reference: H256,
	/// What a jury found, while that holds.
	pub judged: Option<Judged>,
	/// Who shall not measure it.
	pub passed_over: List<AccountId, MAX_MEMBERS>,
	/// How often auditors were drawn.
	pub tries: u8,
	/// Whether whoever asked knows how it stands.
	pub told: bool,
	/// Whether it is in the queue of those to be told.
	pub queued: bool,
}

impl<T: Config> Pallet<T> {
	/// Stores an answer as a request that is settled.
	fn record(answer: Answered<T::AccountId>) -> Result<(RequestId, RequestOf<T>), DispatchError> {
		let model = Models::<T>::get(answer.model).ok_or(Error::<T>::UnknownModel)?;
		let spec = &model.spec;
		answer
			.input
			.validate(spec)
			.map_err(|e| Error::<T>::from(consilience_primitives::view::QuoteError::Input(e)))?;
		let max_output_units = answer.input.max_output_units(&spec.limits);
		ensure!(
			!spec.task.commits_output()
				&& answer.output.fits(spec.task)
				&& answer.output.units() <= max_output_units,
			Error::<T>::MalformedOutput
		);
		let now = frame_system::Pallet::<T>::block_number();
		let id = NextRequest::<T>::mutate(|next| {
			let id = *next;
			*next += 1;
			id
		});
		let request = Request {
			requester: answer.requester,
			model: answer.model,
			assurance: Assurance::Committee(spec.policy.min_verifiers),
			verifiers: spec.policy.min_verifiers,
			state: if answer.output.unanswerable().is_some() {
				RequestState::Unanswerable
			} else {
				RequestState::Final
			},
			escrow: Zero::zero(),
			tip: Zero::zero(),
			price: model.price,
			premium: Zero::zero(),
			surcharge: Zero::zero(),
			input_units: answer.input.units(),
			max_output_units,
			work: spec.time.work(max_output_units),
			burden: 0,
			reserved: 0,
			seed: Some(answer.seed),
			executor: Some(answer.executor.clone()),
			excluded: List::new(),
			withheld: List::new(),
			windows: None,
			draw: None,
			course: Course {
				unanswerable: answer.output.unanswerable().is_some(),
				..Course::default()
			},
			output_commitment: None,
			callback: false,
			deadline: now,
			looked_at: now,
			requested_at: now,
			assigned_at: Some(now),
			assigned_in: Some(answer.session),
			provisional_at: Some(now),
			appealable_until: None,
			settled_at: Some(now),
			paid: Zero::zero(),
			refunded: Zero::zero(),
		};
		Requests::<T>::insert(id, &request);
		Inputs::<T>::insert(
			id,
			consilience_primitives::request::StoredInput::from(answer.input),
		);
		Outputs::<T>::insert(id, answer.output);
		Elsewhere::<T>::insert(
			id,
			Outside {
				reference: answer.reference,
				judged: None,
				passed_over: answer.passed_over,
				tries: 0,
				told: false,
				queued: false,
			},
		);
		References::<T>::insert(answer.reference, id);
		pallet_model_registry::Pallet::<T>::request_opened(answer.model);
		Self::queue_prune(id);
		Self::deposit_event(Event::AnswerShown {
			request: id,
			executor: answer.executor,
			model: answer.model,
		});
		Ok((id, request))
	}
}

impl<T: Config> AuditAnswers<T::AccountId> for Pallet<T> {
	fn audit(answer: Answered<T::AccountId>) -> Result<RequestId, DispatchError> {
		let now = frame_system::Pallet::<T>::block_number();
		let blocks = <Self as DrawBeacon<_>>::blocks(answer.choice);
		let (id, mut request) = Self::record(answer)?;
		Self::queue_draw(id, &mut request, next_window(now, blocks), blocks);
		Requests::<T>::insert(id, request);
		Ok(id)
	}

	fn appeal(
		who: T::AccountId,
		answer: Answered<T::AccountId>,
	) -> Result<RequestId, DispatchError> {
		ensure!(
			!References::<T>::contains_key(answer.reference),
			Error::<T>::NotAppealable
		);
		let choice = answer.choice;
		let (id, request) = Self::record(answer)?;
		Self::appeal_against(who, id, request)?;
		Self::draw_unchosen(id, choice);
		Ok(id)
	}

	fn standing(reference: &H256) -> Option<(RequestId, Standing)> {
		let id = References::<T>::get(reference)?;
		let request = Requests::<T>::get(id)?;
		let judged = Elsewhere::<T>::get(id)?.judged.map(|judged| judged.answer);
		let standing = match request.state {
			RequestState::Disputed => Standing::Measured,
			RequestState::Overturned => Standing::False,
			_ if request.draw.is_some() => Standing::Measured,
			_ if judged == Some(AnswerJudgement::Right) => Standing::Right,
			_ => Standing::Stands,
		};
		Some((id, standing))
	}

	fn may_testify(
		reference: &H256,
		checker: &T::AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(), Unheard> {
		Self::check_testimony(reference, checker, session, verdict).map(|_| ())
	}

	fn testify(
		reference: &H256,
		checker: &T::AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(), Unheard> {
		Self::do_testify(reference, checker, session, verdict)
	}

	fn not_shown(reference: u64, executor: &T::AccountId, session: SessionIndex) {
		let kind = OffenceKind::FraudulentResult;
		Self::offend_at(NOT_SHOWN | reference, executor, kind, session);
	}
}

/// First block of the next window of so many blocks. Windows follow one another and do not overlap, so that whoever chooses among so
/// many blocks chooses among few windows.
pub fn next_window<BlockNumber>(now: BlockNumber, blocks: u8) -> BlockNumber
where
	BlockNumber: polkadot_sdk::sp_runtime::traits::AtLeast32BitUnsigned + Copy,
{
	let length: BlockNumber = u32::from(blocks.max(1)).into();
	(now / length)
		.saturating_add(1u32.into())
		.saturating_mul(length)
}

impl<T: Config> DrawBeacon<BlockNumberFor<T>> for Pallet<T> {
	fn blocks(choice: u32) -> u8 {
		if Self::is_solo() {
			1
		} else {
			draw_blocks(choice, T::DrawOdds::get())
		}
	}

	fn mixed(from: BlockNumberFor<T>, blocks: u8) -> Option<H256> {
		let beacon = Beacon::<T>::get();
		let mixed: Vec<_> = beacon
			.iter()
			.filter(|(at, _)| *at >= from)
			.take(blocks.into())
			.collect();
		(mixed.len() == usize::from(blocks))
			.then(|| H256((b"consilience/beacon", mixed).using_encoded(blake2_256)))
	}
}

impl<T: Config> SessionValidators<T::AccountId> for Pallet<T> {
	fn session() -> SessionIndex {
		T::ValidatorSet::session_index()
	}

	fn at(index: u32) -> Option<(T::AccountId, InferenceId)> {
		KeyAt::<T>::get(index)
	}

	fn with_key(key: &InferenceId) -> Option<(u32, T::AccountId)> {
		let keys = Keys::<T>::get();
		let index = keys.iter().position(|(_, k)| k == key)?;
		Some((index as u32, keys.get(index)?.0.clone()))
	}

	fn contains(who: &T::AccountId) -> bool {
		Indices::<T>::contains_key(who)
	}

	#[cfg(feature = "runtime-benchmarks")]
	fn set(validators: Vec<(T::AccountId, InferenceId)>) {
		Self::set_keys(validators);
	}
}

impl<T: Config> Pallet<T> {
	/// Those who can measure an answer that was given elsewhere, beside whoever gave it: they served the model when it was shown, or, where
	/// nobody else did, serve it now.
	pub(crate) fn outsiders(
		request: &RequestOf<T>,
		roster: &crate::features::load::Roster<T::AccountId>,
		outside: &Outside<T::AccountId>,
	) -> Vec<T::AccountId> {
		let others = |serving: Vec<(T::AccountId, u32, _)>| -> Vec<_> {
			serving
				.into_iter()
				.map(|(who, ..)| who)
				.filter(|who| {
					request.executor.as_ref() != Some(who)
						&& !request.excluded.contains(who)
						&& !outside.passed_over.contains(who)
				})
				.collect()
		};
		let before = others(Self::serving_before(request, roster));
		if before.is_empty() {
			return others(Self::serving(request, roster));
		}
		before
	}

	/// Whether another answer that was given elsewhere can be measured now.
	pub(crate) fn may_audit() -> bool {
		Auditing::<T>::get() < AUDITS_AT_A_TIME
	}

	/// None of those who were to measure an answer that was given elsewhere has come: others are drawn, a few times. Returns whether they
	/// are.
	pub(crate) fn audit_again(id: RequestId, request: &mut RequestOf<T>) -> bool {
		let again = Elsewhere::<T>::get(id).is_some_and(|outside| outside.tries < AUDIT_TRIES);
		if again {
			Self::queue_later_draw(id, request);
		}
		again
	}

	/// Has whoever asked told how an answer that was given elsewhere ended.
	pub(crate) fn elsewhere_ended(id: RequestId) {
		let Some(mut outside) = Elsewhere::<T>::get(id) else {
			return;
		};
		if !outside.queued {
			EndedRange::<T>::mutate(|(_, end)| {
				Ended::<T>::insert(*end, id);
				*end += 1;
			});
		}
		outside.queued = true;
		outside.told = false;
		Elsewhere::<T>::insert(id, outside);
		Self::end_doubts(id);
	}

	/// Has a jury that somebody called drawn in a window that it could not choose, among so many blocks in which it could have called it.
	pub(crate) fn draw_unchosen(id: RequestId, choice: u32) {
		let Some(mut request) = Requests::<T>::get(id) else {
			return;
		};
		let now = frame_system::Pallet::<T>::block_number();
		let blocks = <Self as DrawBeacon<_>>::blocks(choice);
		Self::queue_draw(id, &mut request, next_window(now, blocks), blocks);
		Self::wait_for_draw(now, id, &mut request);
		Requests::<T>::insert(id, request);
	}

	/// Forgets an answer that was given elsewhere, and what was heard of it.
	pub(crate) fn forget_elsewhere(id: RequestId) {
		let Some(outside) = Elsewhere::<T>::take(id) else {
			return;
		};
		Self::end_doubts(id);
		Testimonies::<T>::remove(id);
		// The same answer may have been shown again.
		if References::<T>::get(outside.reference) == Some(id) {
			References::<T>::remove(outside.reference);
		}
	}

	/// Checks that each answer that was given elsewhere is measured or was, and that whoever asked hears of it.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_elsewhere() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError>
	{
		use crate::Juries;

		let (first, end) = EndedRange::<T>::get();
		ensure!(
			first <= end
				&& (first..end).all(Ended::<T>::contains_key)
				&& Ended::<T>::iter_keys().count() as u64 == end - first,
			"the queue of answers that were measured has a gap, or something outside"
		);
		let to_be_told: Vec<_> = (first..end).filter_map(Ended::<T>::get).collect();
		let mut measured = 0;
		for (id, outside) in Elsewhere::<T>::iter() {
			let request = Requests::<T>::get(id).ok_or("what was answered is forgotten")?;
			let audited = Juries::<T>::get(id).is_some_and(|jury| jury.audit);
			measured += u32::from(audited);
			ensure!(
				request.settled_at.is_some() && request.escrow.is_zero() && !request.callback,
				"an answer that was given elsewhere is paid here"
			);
			ensure!(
				outside.told
					|| request.draw.is_some()
					|| request.state == RequestState::Disputed
					|| outside.queued,
				"an answer that was given elsewhere is never measured"
			);
			ensure!(
				to_be_told.iter().filter(|other| **other == id).count()
					== usize::from(outside.queued),
				"somebody is told twice, or never"
			);
		}
		ensure!(
			to_be_told.iter().all(Elsewhere::<T>::contains_key),
			"somebody is to be told of an answer that is forgotten"
		);
		ensure!(
			Auditing::<T>::get() == measured,
			"the number of answers that are measured is wrong"
		);
		Ok(())
	}
}
