//! Testimonies: what checkers have signed of an answer that was given elsewhere.
//!
//! A checker of another lane measures an answer outside of the chain and signs what it found. Anybody may bring that here while the answer
//! can be judged. It is judged as a verifier's verdict is: who vouched for what a jury finds false, or called false what one finds right,
//! is accused, may contest that, and is reported for the session of its deed.
//!
//! - **Only a jury blames.** Auditors who agree that an answer is right may be friends of whoever gave it. So where a checker calls it
//!   wrong their word is not the end: a jury is called, as one revealed "wrong" calls it in the direct lane.
//! - **An honest checker loses nothing.** What it says of its own fingerprint nobody measures again, so that it counts as one that other
//!   machines may not share: in the exact class only what goes beyond [`MACHINE_MARGIN`] is a lie. A verdict between the bounds
//!   says nothing, and isn't taken. Whoever has spoken is no party: it may sit in the jury, or else showing the words of honest checkers would
//!   leave none to judge.
//! - **Bounded.** Each checker is heard once on each side, and half of the places are kept for either side: words that cost nothing
//!   must not crowd out those that do. A checker's word calls one jury at a time, and none while its wrong verdicts are one deed with one
//!   that was paid for ([`Pallet::is_same_deed`]).
//! - **Nobody is paid for it**: nothing that is shown here is worth more than the case brought.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::{
	comparison::{AnswerJudgement, Judgement, MACHINE_MARGIN},
	evidence::{Evidence, Verdict},
	model::{NumericClass, VerificationPolicy},
	view::RequestState,
	RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{frame_support::ensure, sp_core::H256, sp_staking::SessionIndex};
use scale_info::TypeInfo;

use crate::{
	features::{contest::Blamed, offence::OffenceKind},
	Basis, Config, Doubting, Elsewhere, Event, Juries, Pallet, References, RequestOf, Requests,
	Testimonies, Votes,
};

/// Most testimonies about one answer. At most half of them are on one side.
pub const MAX_TESTIMONIES: u32 = 32;

/// Why nothing follows from what a checker has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
	/// No answer with this name was shown, or it is forgotten, or its model.
	UnknownAnswer,
	/// Whoever gave an answer is no checker of it.
	OwnAnswer,
	/// It is neither that the answer is right nor that it is wrong beyond what rounding does: nobody can be blamed for it.
	SaysNothing,
	/// The checker was heard on this answer, and said the same.
	HeardBefore,
	/// As many as may be were heard on this answer who said the same.
	HeardEnough,
	/// It is what a jury found, or no jury will judge this answer any more.
	NothingToJudge,
	/// The checker's word has called another jury that has not judged yet, or it was found to have given wrong verdicts with which this
	/// would be one deed: it calls no jury now.
	NoWeight,
}

/// What a checker has said of an answer.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Testimony<AccountId> {
	/// Who.
	pub checker: AccountId,
	/// Session of the deed, as staking counts.
	pub session: SessionIndex,
	/// Whether it found the answer right; otherwise wrong.
	pub vouches: bool,
	/// The largest margin that it says it measured.
	pub margin: u32,
	/// Whether it was accused for that.
	pub accused: bool,
}

/// What a jury found of an answer, while that holds.
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
pub struct Judged {
	/// Right or wrong.
	pub answer: AnswerJudgement,
	/// What the jurors said of it.
	pub votes: Votes,
	/// The middle of the largest margins that those of them measured whose work was good.
	pub margin: u32,
}

/// The middle of the largest margins of those whose work was good, the lower of two.
pub(crate) fn middle_margin<'a>(
	measured: impl Iterator<Item = (&'a Evidence, &'a Judgement)>,
) -> u32 {
	let mut margins: Vec<_> = measured
		.filter(|(_, judgement)| **judgement == Judgement::Accept)
		.map(|(evidence, _)| evidence.verdict.margin_max)
		.collect();
	margins.sort_unstable();
	let middle = margins.len().saturating_sub(1) / 2;
	margins.get(middle).copied().unwrap_or_default()
}

/// Whether a verdict says right or wrong; `None` where it says neither, or nothing that stake could answer for.
fn vouches(policy: &VerificationPolicy, verdict: &Verdict) -> Option<bool> {
	if verdict.within(&policy.accept) {
		return Some(true);
	}
	let rounding = policy.class == NumericClass::Exact && verdict.margin_max <= MACHINE_MARGIN;
	(!verdict.within(&policy.fraud) && !rounding).then_some(false)
}

impl<AccountId> Testimony<AccountId> {
	/// Whether no honest measurement says this, given what the answer is.
	fn is_false(&self, class: NumericClass, judged: &Judged) -> bool {
		let contradicts = match judged.answer {
			AnswerJudgement::Right => !self.vouches,
			AnswerJudgement::Wrong => self.vouches,
			AnswerJudgement::Undecided => false,
		};
		let rounding =
			class == NumericClass::Exact && self.margin.abs_diff(judged.margin) <= MACHINE_MARGIN;
		contradicts && !rounding
	}
}

impl<T: Config> Pallet<T> {
	/// About which answer it is, and what is said, if that is of any account now.
	pub(crate) fn check_testimony(
		reference: &H256,
		checker: &T::AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(RequestId, Testimony<T::AccountId>), Unheard> {
		let id = References::<T>::get(reference).ok_or(Unheard::UnknownAnswer)?;
		let request = Requests::<T>::get(id).ok_or(Unheard::UnknownAnswer)?;
		let outside = Elsewhere::<T>::get(id).ok_or(Unheard::UnknownAnswer)?;
		let model = Models::<T>::get(request.model).ok_or(Unheard::UnknownAnswer)?;
		ensure!(
			request.executor.as_ref() != Some(checker),
			Unheard::OwnAnswer
		);
		let policy = model.spec.policy.for_output(request.course.unanswerable);
		let vouches = vouches(&policy, verdict).ok_or(Unheard::SaysNothing)?;
		let heard = Testimonies::<T>::get(id);
		let side = || heard.iter().filter(|other| other.vouches == vouches);
		ensure!(
			!side().any(|other| other.checker == *checker),
			Unheard::HeardBefore
		);
		ensure!(
			side().count() < MAX_TESTIMONIES as usize / 2,
			Unheard::HeardEnough
		);
		let testimony = Testimony {
			checker: checker.clone(),
			session,
			vouches,
			margin: verdict.margin_max,
			accused: false,
		};
		let disputed = request.state == RequestState::Disputed;
		match outside.judged {
			Some(judged) => ensure!(
				testimony.is_false(policy.class, &judged),
				Unheard::NothingToJudge
			),
			None if vouches => ensure!(disputed || request.draw.is_some(), Unheard::NothingToJudge),
			None => {
				// One jury judges an answer, and one only.
				ensure!(
					disputed || !Juries::<T>::contains_key(id),
					Unheard::NothingToJudge
				);
				let kind = OffenceKind::FraudulentEvidence;
				ensure!(
					!Doubting::<T>::contains_key(checker)
						&& !Self::is_same_deed(checker, kind, session),
					Unheard::NoWeight
				);
			}
		}
		Ok((id, testimony))
	}

	/// Takes what a checker has said, and has a jury look at an answer that it calls wrong.
	pub(crate) fn do_testify(
		reference: &H256,
		checker: &T::AccountId,
		session: SessionIndex,
		verdict: &Verdict,
	) -> Result<(), Unheard> {
		let (id, testimony) = Self::check_testimony(reference, checker, session, verdict)?;
		let vouches = testimony.vouches;
		Testimonies::<T>::try_mutate(id, |all| {
			all.try_push(testimony).map_err(|_| Unheard::HeardEnough)
		})?;
		Self::deposit_event(Event::Testified {
			request: id,
			checker: checker.clone(),
			vouches,
		});
		let judged = Elsewhere::<T>::get(id).and_then(|outside| outside.judged);
		if judged.is_some() {
			Self::judge_testimonies(id);
		} else if !vouches {
			Doubting::<T>::insert(checker, id);
			let request = Requests::<T>::get(id).ok_or(Unheard::UnknownAnswer)?;
			// While it is being measured, or is to be, the end of that decides when a jury is called.
			if request.state.is_settled() && request.draw.is_none() {
				Self::dispute(id, request, None);
				// Whoever shows it chooses when, for as long as anybody knows who has signed it.
				Self::draw_unchosen(id, u32::MAX);
			}
		}
		Ok(())
	}

	/// Whether a checker has called an answer wrong over which no jury has judged yet.
	pub(crate) fn is_doubted(id: RequestId) -> bool {
		Testimonies::<T>::get(id).iter().any(|t| !t.vouches)
	}

	/// A jury has found what an answer is. Returns whom of those who were heard it accuses, beside those whom it accuses already.
	pub(crate) fn judged(
		id: RequestId,
		request: &RequestOf<T>,
		judged: Judged,
		accused: &[Blamed<T::AccountId>],
	) -> Vec<Blamed<T::AccountId>> {
		let Some(mut outside) = Elsewhere::<T>::get(id) else {
			return Vec::new();
		};
		if judged.answer == AnswerJudgement::Undecided {
			return Vec::new();
		}
		outside.judged = Some(judged);
		Elsewhere::<T>::insert(id, outside);
		let mut liars = Self::liars(id, request, &judged);
		liars.retain(|(who, ..)| !accused.iter().any(|(other, ..)| other == who));
		liars
	}

	/// Those of whom something false was heard, and who were not accused for it before.
	fn liars(id: RequestId, request: &RequestOf<T>, judged: &Judged) -> Vec<Blamed<T::AccountId>> {
		let Some(model) = Models::<T>::get(request.model) else {
			return Vec::new();
		};
		let class = model.spec.policy.class;
		let kind = OffenceKind::FraudulentEvidence;
		Testimonies::<T>::mutate_exists(id, |all| {
			let all = all.iter_mut().flatten();
			all.filter(|t| !t.accused && t.is_false(class, judged))
				.map(|t| {
					t.accused = true;
					(t.checker.clone(), kind, t.session, Basis::Testimony)
				})
				.collect()
		})
	}

	/// Accuses those of whom something false was heard after the jury has spoken. While what it found can be contested, or is, they wait, so
	/// that each of them has the whole time to contest.
	pub(crate) fn judge_testimonies(id: RequestId) {
		let judged = Elsewhere::<T>::get(id).and_then(|outside| outside.judged);
		let (Some(judged), Some(request), Some(mut jury)) =
			(judged, Requests::<T>::get(id), Juries::<T>::get(id))
		else {
			return;
		};
		if jury.ruling.is_some() || Self::is_contested(&jury) {
			return;
		}
		let liars = Self::liars(id, &request, &judged);
		if jury.contest.is_none() {
			return Self::rule(
				id,
				&request,
				&mut jury,
				(judged.answer, judged.votes),
				liars,
			);
		}
		// Both juries have spoken: there is nobody else to ask.
		for (who, kind, session, _) in liars {
			let offence = Self::accuse(id, &who, kind, session);
			Self::queue_offence(offence);
		}
	}

	/// Two juries together did not find what the first had found of an answer: whatever was said of it, nobody is to blame.
	pub(crate) fn not_judged(id: RequestId) {
		Elsewhere::<T>::mutate(id, |outside| {
			if let Some(outside) = outside {
				outside.judged = None;
			}
		});
	}

	/// Those who called an answer wrong that is not measured any more may call another one wrong.
	pub(crate) fn end_doubts(id: RequestId) {
		for testimony in Testimonies::<T>::get(id) {
			if !testimony.vouches && Doubting::<T>::get(&testimony.checker) == Some(id) {
				Doubting::<T>::remove(&testimony.checker);
			}
		}
	}

	/// Checks that everything heard is about an answer that is known, is forgotten with it, and calls no jury for ever.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_testimonies() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError>
	{
		for (id, heard) in Testimonies::<T>::iter() {
			ensure!(
				Elsewhere::<T>::contains_key(id) && !heard.is_empty(),
				"something was heard of an answer that is forgotten"
			);
			for (place, one) in heard.iter().enumerate() {
				let first = heard
					.iter()
					.position(|t| t.checker == one.checker && t.vouches == one.vouches);
				ensure!(first == Some(place), "a checker was heard twice");
			}
			for side in [false, true] {
				ensure!(
					heard.iter().filter(|t| t.vouches == side).count()
						<= MAX_TESTIMONIES as usize / 2,
					"one side was heard more often than it may be"
				);
			}
		}
		for (checker, id) in Doubting::<T>::iter() {
			let request = Requests::<T>::get(id).ok_or("a doubt about what is forgotten")?;
			ensure!(
				request.state == RequestState::Disputed || request.draw.is_some(),
				"a doubt that never ends"
			);
			ensure!(
				Testimonies::<T>::get(id)
					.iter()
					.any(|t| t.checker == checker && !t.vouches),
				"a doubt that nobody has"
			);
		}
		for (reference, id) in References::<T>::iter() {
			ensure!(
				Elsewhere::<T>::get(id).is_some_and(|outside| outside.reference == reference),
				"the name of an answer that is forgotten"
			);
		}
		for outside in Elsewhere::<T>::iter_values() {
			ensure!(
				References::<T>::contains_key(outside.reference),
				"an answer without its name"
			);
		}
		Ok(())
	}
}
