//! The last judge: only a proof of one step overturns what committees and juries have made final.
//!
//! A settled answer of a model of the integer class can be disputed before a judge that no majority moves (`pallet-judge`, or any other that
//! knows this pallet as [`Disputed`]). Here is who may be disputed, for how long, and what follows:
//!
//! - **When.** For [`Config::DisputeBlocks`] after it was settled, whatever a jury has said of it since, and as often as somebody opens one:
//!   a sham dispute that was lost closes nothing. Nothing is disputed later, however many disputes there were: no challenge postpones
//!   the end. While a dispute is open the request is not forgotten.
//! - **Who pays.** Whoever gave the answer, whoever measured in its round, in an audit or in a jury, the first one of two as well, and
//!   said that it is right, and every checker that signed so. Equal bits are what the class promises: nobody honest has said it. There is
//!   nobody who could be asked about it again, so that none of this can be contested.
//! - **Who is acquitted.** Whoever a jury has accused because it said that the answer is wrong. So that staking hears of none of them
//!   too soon, what a jury that found the answer right has ruled waits until nobody can dispute it any more.
//! - **Who is paid.** The requester has back what it paid, its tip left out, and whoever proved it wins what it had at stake once more; so
//!   does whoever lost the bond of an appeal or a contest by being right. All of it is owed out of slashes, as for every lie
//!   ([`crate::features::claim`]). What members were paid stays paid until then: their stake answers for it for a week, which is longer than
//!   any dispute, so no pay is held back.
//! - **When a jury sits**, it speaks first: what is proven false waits for that, and then nobody's word changes it.
//!
//! What was found *wrong* by a jury cannot be disputed: to show that a whole answer is right takes more than one step.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_judge::{
	disputed::{Disputed, Statement},
	standing::Verdict,
};
use consilience_primitives::{
	comparison::AnswerJudgement,
	evidence::Evidence,
	model::VerificationPolicy,
	request::{Output, StoredInput},
	view::RequestState,
	ModelId, RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::traits::Saturating,
	sp_staking::SessionIndex,
};
use scale_info::TypeInfo;

use crate::{
	features::{offence::OffenceKind, round::Progress},
	types::change,
	BalanceOf, Config, ContestEnd, Elsewhere, Event, Inputs, Judged, Judging, Juries, JuryOf,
	Outputs, Pallet, Proven, RequestOf, Requests, RoundOf, Rounds, Testimonies, Votes, Vouchers,
};

/// Most who have vouched for an answer and stand in no round any more: auditors, and a first jury.
pub const MAX_VOUCHERS: u32 = 2 * crate::MAX_MEMBERS;

/// Name of [`Proven`] in a log that says it is too long.
const PROVEN: &str = "answers that are proven false";

/// What the last judge has to know of an answer beside what is stored here: the model's program, and the tokens that were fed. `()` where
/// nothing can be judged.
pub trait LastJudge {
	/// Whether answers of this model can be judged.
	fn judges(model: &ModelId) -> bool;

	/// What the trace of an answer must be of that shows the token at this place of it. Nothing, if the judge can't say what that token had
	/// to be.
	fn statement(
		model: &ModelId,
		input: &StoredInput,
		output: &Output,
		place: u32,
	) -> Option<Statement>;

	/// Most that each of these weighs.
	fn weight() -> Weight;
}

/// Judges nothing.
impl LastJudge for () {
	fn judges(_model: &ModelId) -> bool {
		false
	}

	fn statement(
		_model: &ModelId,
		_input: &StoredInput,
		_output: &Output,
		_place: u32,
	) -> Option<Statement> {
		None
	}

	fn weight() -> Weight {
		Weight::zero()
	}
}

/// A token of an answer.
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
pub struct Place {
	/// The answer's request.
	pub request: RequestId,
	/// Its number in the answer.
	pub token: u32,
}

/// An answer that is proven false, and who proved it with how much at stake.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Proof<AccountId, Balance> {
	/// The request.
	pub request: RequestId,
	/// Who stood for what is right.
	pub by: AccountId,
	/// What it had at stake.
	pub bond: Balance,
}

impl<T: Config> Disputed<T::AccountId, BalanceOf<T>> for Pallet<T> {
	type Subject = Place;

	fn statement(place: &Place) -> Option<Statement> {
		let id = place.request;
		let request = Requests::<T>::get(id)?;
		if !Self::is_disputable(&request) || Self::is_proven(id) {
			return None;
		}
		let (input, output) = (Inputs::<T>::get(id)?, Outputs::<T>::get(id)?);
		T::LastJudge::statement(&request.model, &input, &output, place.token)
	}

	fn opened(place: &Place) {
		Judging::<T>::mutate(place.request, |open| open.saturating_inc());
	}

	fn closed(place: &Place, verdict: Verdict, winner: Option<(T::AccountId, BalanceOf<T>)>) {
		let id = place.request;
		Judging::<T>::mutate_exists(id, |open| {
			*open = open
				.take()
				.and_then(|n| n.checked_sub(1))
				.filter(|n| *n > 0);
		});
		let Some((by, bond)) = winner.filter(|_| verdict == Verdict::Overturned) else {
			return;
		};
		if Self::is_proven(id) {
			return;
		}
		Proven::<T>::mutate(|list| {
			change(list, PROVEN, |all| {
				all.push(Proof {
					request: id,
					by,
					bond,
				})
			})
		});
	}

	fn weight() -> Weight {
		// The request, its input and output; how many disputes there are, and what is proven.
		T::DbWeight::get()
			.reads_writes(5, 2)
			.saturating_add(Weight::from_parts(300_000_000, 130_000))
			.saturating_add(T::LastJudge::weight())
	}
}

impl<T: Config> Pallet<T> {
	/// Whether a dispute about an answer can be opened, as far as that is known here.
	fn is_disputable(request: &RequestOf<T>) -> bool {
		let stands = matches!(request.state, RequestState::Final | RequestState::Disputed);
		let settled = request.settled_at.is_some();
		stands && settled && !request.course.unanswerable && Self::is_in_time(request)
	}

	/// Whether an answer is not settled yet, or was not too long ago.
	fn is_in_time(request: &RequestOf<T>) -> bool {
		let now = frame_system::Pallet::<T>::block_number();
		let until = |at: BlockNumberFor<T>| at.saturating_add(T::DisputeBlocks::get());
		request.settled_at.is_none_or(|at| until(at) >= now)
	}

	fn is_proven(id: RequestId) -> bool {
		Proven::<T>::get().iter().any(|proof| proof.request == id)
	}

	/// Whether a dispute about an answer is open, or its end has still to take effect.
	pub(crate) fn is_before_the_judge(id: RequestId) -> bool {
		Judging::<T>::contains_key(id) || Self::is_proven(id)
	}

	/// Whether what a jury has found of an answer may still be overturned by proof, so that staking does not hear of it yet.
	pub(crate) fn may_be_overturned(
		id: RequestId,
		request: &RequestOf<T>,
		answer: AnswerJudgement,
	) -> bool {
		answer == AnswerJudgement::Right
			&& T::LastJudge::judges(&request.model)
			&& (Self::is_in_time(request) || Self::is_before_the_judge(id))
	}

	/// Members of a round that is forgotten now are remembered if they said that the answer is right.
	pub(crate) fn remember_vouchers(id: RequestId, request: &RequestOf<T>, round: &RoundOf<T>) {
		if !T::LastJudge::judges(&request.model) {
			return;
		}
		let Some(policy) = Self::policy_of(request) else {
			return;
		};
		let mut vouchers = Vouchers::<T>::get(id);
		for voucher in Self::vouching(round, &policy) {
			// An audit and a first jury, and no third.
			let _ = vouchers.try_push(voucher);
		}
		if !vouchers.is_empty() {
			Vouchers::<T>::insert(id, vouchers);
		}
	}

	fn policy_of(request: &RequestOf<T>) -> Option<VerificationPolicy> {
		let model = Models::<T>::get(request.model)?;
		Some(model.spec.policy.for_output(request.course.unanswerable))
	}

	/// Members of a round who have said that the answer is right, each with the session in which it was drawn.
	fn vouching<'a>(
		round: &'a RoundOf<T>,
		policy: &'a VerificationPolicy,
	) -> impl Iterator<Item = (T::AccountId, SessionIndex)> + 'a {
		let says = |progress: &Progress<Evidence>| match progress {
			Progress::Revealed(evidence) => evidence.verdict.within(&policy.accept),
			_ => false,
		};
		let members = round.members.iter();
		members
			.filter(move |member| says(&member.progress))
			.map(|member| (member.who.clone(), member.session))
	}

	/// What is proven false takes effect where no jury sits: one answer a block. Returns how many.
	pub(crate) fn process_proven() -> u32 {
		let all = Proven::<T>::get();
		let ready = |id| {
			let request = Requests::<T>::get(id);
			request.is_none_or(|request| request.state.is_settled())
		};
		let Some(proof) = all.iter().find(|proof| ready(proof.request)).cloned() else {
			return 0;
		};
		Proven::<T>::mutate(|list| {
			change(list, PROVEN, |all| {
				all.retain(|other| other.request != proof.request)
			})
		});
		Self::refute(proof);
		1
	}

	/// An answer is false, whoever has said otherwise.
	fn refute(proof: Proof<T::AccountId, BalanceOf<T>>) {
		let id = proof.request;
		let Some(request) = Requests::<T>::get(id) else {
			return;
		};
		// A jury that sat has found the same.
		if request.state != RequestState::Final {
			return;
		}
		let mut jury = Juries::<T>::get(id);
		// Whoever was accused of having said so was right; and a jury that finds what is proven false has not measured.
		if let Some(jury) = &mut jury {
			let ruling = jury.ruling.take();
			Juries::<T>::insert(id, &*jury);
			let accused = ruling.into_iter().flat_map(|ruling| ruling.accused);
			accused.for_each(|a| Self::conclude_accusation(a, Some(&request)));
		}
		let liars = Self::liars_by_proof(id, &request, jury.as_ref());
		for (who, kind, session) in &liars {
			Self::bar(who, request.model);
			Self::queue_offence(Self::accuse(id, who, *kind, *session));
		}
		let owed = request.paid.saturating_sub(request.tip);
		let mut owing = Vec::from([
			(request.requester.clone(), owed),
			(proof.by.clone(), proof.bond),
		]);
		owing.extend(Self::lost_by_being_right(&liars, jury.as_ref()));
		for ((liar, ..), owing) in liars.iter().zip(owing.chunks(2)) {
			Self::owe(liar, id, owing.iter().cloned());
		}
		let callback = request.callback;
		Requests::<T>::insert(
			id,
			RequestOf::<T> {
				state: RequestState::Overturned,
				draw: None,
				..request
			},
		);
		if callback {
			Self::queue_callback_again(id);
		}
		Self::elsewhere_ended(id);
		Self::deposit_event(Event::AnswerRefuted {
			request: id,
			by: proof.by,
			blamed: liars.into_iter().map(|(who, ..)| who).collect(),
		});
		Self::deposit_event(Event::AnswerOverturned { request: id, owed });
	}

	/// The executor, and whoever has vouched for its answer: each once.
	fn liars_by_proof(
		id: RequestId,
		request: &RequestOf<T>,
		jury: Option<&JuryOf<T>>,
	) -> Vec<(T::AccountId, OffenceKind, SessionIndex)> {
		let kind = OffenceKind::FraudulentEvidence;
		let mut all = Vec::new();
		if let Some(executor) = &request.executor {
			let session = Self::session_of_deed(id, executor);
			all.push((executor.clone(), OffenceKind::FraudulentResult, session));
		}
		let mut add = |who: T::AccountId, session: SessionIndex| {
			if !all.iter().any(|(other, ..)| *other == who) {
				all.push((who, kind, session));
			}
		};
		if let Some(policy) = Self::policy_of(request) {
			let rounds = Rounds::<T>::get(id);
			let rounds = rounds
				.iter()
				.chain(jury.and_then(|jury| jury.round.as_ref()));
			for round in rounds {
				Self::vouching(round, &policy).for_each(|(who, session)| add(who, session));
			}
		}
		for (who, session) in Vouchers::<T>::take(id) {
			add(who, session);
		}
		Testimonies::<T>::mutate_exists(id, |heard| {
			for testimony in heard.iter_mut().flatten() {
				if testimony.vouches && !testimony.accused {
					testimony.accused = true;
					add(testimony.checker.clone(), testimony.session);
				}
			}
		});
		// Whoever signs from now on that it is right says so of what is proven.
		Elsewhere::<T>::mutate(id, |outside| {
			if let Some(outside) = outside {
				outside.judged = Some(Judged {
					answer: AnswerJudgement::Wrong,
					votes: Votes::default(),
					margin: u32::MAX,
				});
			}
		});
		all
	}

	/// Whoever has lost a bond for having called the answer wrong, and what.
	fn lost_by_being_right(
		liars: &[(T::AccountId, OffenceKind, SessionIndex)],
		jury: Option<&JuryOf<T>>,
	) -> Vec<(T::AccountId, BalanceOf<T>)> {
		let Some(jury) = jury else {
			return Vec::new();
		};
		// A jury that found nothing has returned it: whoever is right to appeal wins as much in any case.
		let appeal = jury.appeal.iter().map(|a| (a.who.clone(), a.bond));
		let lost = |end: Option<ContestEnd>| end == Some(ContestEnd::Upheld);
		let contest = jury.contest.iter().filter(|c| lost(c.end));
		let contest = contest.map(|c| (c.who.clone(), c.bond));
		appeal
			.chain(contest)
			.filter(|(who, _)| !liars.iter().any(|(liar, ..)| liar == who))
			.collect()
	}

	/// Checks that disputes are about answers that are kept, and that what is proven is proven once.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_disputes() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use polkadot_sdk::frame_support::ensure;

		for (id, open) in Judging::<T>::iter() {
			let request = Requests::<T>::get(id).ok_or("a dispute about what is forgotten")?;
			ensure!(open > 0, "no dispute is counted");
			ensure!(
				request.settled_at.is_some(),
				"what is not settled is before the last judge"
			);
		}
		let proven = Proven::<T>::get();
		for (n, proof) in proven.iter().enumerate() {
			ensure!(
				Requests::<T>::contains_key(proof.request),
				"what is forgotten is proven false"
			);
			ensure!(
				!proven[..n]
					.iter()
					.any(|other| other.request == proof.request),
				"an answer is proven false twice"
			);
		}
		for (id, vouchers) in Vouchers::<T>::iter() {
			let request = Requests::<T>::get(id).ok_or("vouchers for what is forgotten")?;
			ensure!(!vouchers.is_empty(), "nobody has vouched");
			ensure!(
				T::LastJudge::judges(&request.model),
				"vouchers for what no judge looks at"
			);
		}
		Ok(())
	}
}
