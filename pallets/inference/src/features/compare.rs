//! Commitments and evidence of a request's round, and what they come to.

use alloc::vec::Vec;
use consilience_primitives::{
	comparison::{compare, judge, AnswerJudgement, Judgement},
	evidence::{Evidence, Salt},
	request::Output,
	view::RequestState,
	RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::ensure,
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_runtime::{
		traits::{Get, Saturating},
		DispatchError,
	},
};

use crate::{
	features::{
		report::{Outcome, ReadOutput},
		round::{Round, RoundError},
		settle::Payees,
	},
	Config, Error, Event, ExpiryReason, Juries, Outputs, Overdue, Pallet, RequestOf, Requests,
	RoundOf, Rounds,
};

impl<T: Config> From<RoundError> for Error<T> {
	fn from(e: RoundError) -> Self {
		match e {
			RoundError::NotMember | RoundError::WrongPhase | RoundError::AlreadyDone => {
				Self::NotDue
			}
			RoundError::CommitmentMismatch => Self::CommitmentMismatch,
		}
	}
}

/// Whose round a statement was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
	/// A committee of so many members.
	Committee(u32),
	/// A jury.
	Jury,
}

impl Body {
	fn of<A, B, E>(state: RequestState, round: &Round<A, B, E>) -> Self {
		match state {
			RequestState::Disputed => Self::Jury,
			_ => Self::Committee(round.members.len() as u32),
		}
	}
}

/// Evidence that is due, before it is taken.
struct Opened<T: Config> {
	/// What it opens.
	commitment: H256,
	/// Where its request stands.
	state: RequestState,
	/// The round that it belongs to.
	round: RoundOf<T>,
	/// Whether it is of a committee over whose answer a jury judges meanwhile.
	late: bool,
}

impl<T: Config> Pallet<T> {
	/// The request and the round that is measuring: the committee's, or the jury's where there is a dispute.
	fn measured(id: RequestId) -> Result<(RequestOf<T>, RoundOf<T>), DispatchError> {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let round = match request.state {
			RequestState::Provisional => Rounds::<T>::get(id),
			RequestState::Disputed => Juries::<T>::get(id).and_then(|j| j.round),
			_ => None,
		};
		Ok((request, round.ok_or(Error::<T>::NotDue)?))
	}

	/// Writes back what [`Self::measured`] gave.
	fn put_round(id: RequestId, state: RequestState, round: RoundOf<T>) {
		if state == RequestState::Disputed {
			Juries::<T>::mutate(id, |jury| {
				if let Some(jury) = jury {
					jury.round = Some(round);
				}
			});
		} else {
			Rounds::<T>::insert(id, round);
		}
	}

	pub(crate) fn check_commit(
		validator: &T::AccountId,
		id: RequestId,
	) -> Result<Body, DispatchError> {
		let (request, round) = Self::measured(id)?;
		round.may_commit(validator).map_err(Error::<T>::from)?;
		Ok(Body::of(request.state, &round))
	}

	/// Takes a commitment. Returns whose it is.
	pub(crate) fn commit_evidence(
		validator: &T::AccountId,
		id: RequestId,
		commitment: H256,
	) -> Result<Body, DispatchError> {
		let (mut request, mut round) = Self::measured(id)?;
		let now = frame_system::Pallet::<T>::block_number();
		let reveal_by = now.saturating_add(T::RevealBlocks::get());
		let closed = round
			.commit(validator, commitment, reveal_by)
			.map_err(Error::<T>::from)?;
		Self::deposit_event(Event::EvidenceCommitted {
			request: id,
			member: validator.clone(),
			commitment,
		});
		if closed {
			Self::reveal_begun(now, id, &mut request, &mut round);
			Requests::<T>::insert(id, &request);
		}
		let body = Body::of(request.state, &round);
		Self::put_round(id, request.state, round);
		Ok(body)
	}

	/// Begins the reveal of a round in which everybody who is left has committed.
	pub(crate) fn begin_reveal(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		round: &mut RoundOf<T>,
	) {
		if round.close_commitments(now) {
			Self::reveal_begun(now, id, request, round);
		}
	}

	/// Everybody who is left in a round has committed: evidence is due from them.
	pub(crate) fn reveal_begun(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		round: &mut RoundOf<T>,
	) {
		Self::schedule(now, T::RevealBlocks::get(), id, request);
		round.deadline = request.deadline;
		Self::reveals_due(now, round.members.iter().map(|m| &m.who));
		Self::deposit_event(Event::RevealStarted {
			request: id,
			deadline: request.deadline,
		});
	}

	/// Whether this is evidence of a committee while a jury judges: a juror's has that of two challenges.
	fn is_overdue(validator: &T::AccountId, id: RequestId, evidence: &Evidence) -> bool {
		evidence.prior.is_none() && Overdue::<T>::contains_key(validator, id)
	}

	/// Whose evidence this is, if it is due from this validator and opens what that has committed to.
	pub(crate) fn check_reveal(
		validator: &T::AccountId,
		id: RequestId,
		evidence: &Evidence,
		salt: &Salt,
	) -> Result<Body, DispatchError> {
		let opened = Self::opened(validator, id, evidence, salt)?;
		Ok(Body::of(opened.state, &opened.round))
	}

	/// What this evidence opens, and in which round, if it is due from this validator.
	fn opened(
		validator: &T::AccountId,
		id: RequestId,
		evidence: &Evidence,
		salt: &Salt,
	) -> Result<Opened<T>, DispatchError> {
		let late = Self::is_overdue(validator, id, evidence);
		let (request, round) = if late {
			let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
			(request, Rounds::<T>::get(id).ok_or(Error::<T>::NotDue)?)
		} else {
			Self::measured(id)?
		};
		let commitment = evidence.commitment(id, &round.challenge, validator, salt);
		round
			.may_reveal(validator, commitment)
			.map_err(Error::<T>::from)?;
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		// A juror measures under the disputed challenge too, where there is one.
		let twice =
			!late && request.state == RequestState::Disputed && Rounds::<T>::contains_key(id);
		let policy = model.spec.policy.for_output(request.course.unanswerable);
		ensure!(
			evidence.is_of(policy.class) && evidence.prior.is_some() == twice,
			Error::<T>::WrongEvidence
		);
		Ok(Opened {
			commitment,
			state: request.state,
			round,
			late,
		})
	}

	/// Takes evidence. Returns whose it is, and what came to its end with it.
	pub(crate) fn reveal_evidence(
		validator: &T::AccountId,
		id: RequestId,
		evidence: Evidence,
		salt: Salt,
	) -> Result<(Body, Outcome), DispatchError> {
		let Opened {
			commitment,
			state,
			mut round,
			late,
		} = Self::opened(validator, id, &evidence, &salt)?;
		round
			.reveal(validator, evidence.clone(), commitment)
			.map_err(Error::<T>::from)?;
		let body = Body::of(state, &round);
		if late {
			Rounds::<T>::insert(id, round);
			Overdue::<T>::remove(validator, id);
		} else {
			Self::put_round(id, state, round);
			Self::revealed(validator);
		}
		Self::deposit_event(Event::EvidenceRevealed {
			request: id,
			member: validator.clone(),
			evidence,
		});
		let outcome = match state {
			_ if late => Outcome::Open,
			RequestState::Disputed => Self::conclude_jury(id)?,
			_ => Self::conclude(id)?,
		};
		Ok((body, outcome))
	}

	/// Settles the request, or calls a jury, if every member's evidence and the output are there.
	pub(crate) fn conclude(id: RequestId) -> Result<Outcome, DispatchError> {
		let (request, round) = Self::measured(id)?;
		if round.complete().is_none() {
			return Ok(Outcome::Open);
		}
		let Some(output) = Outputs::<T>::get(id) else {
			return Ok(Outcome::Open);
		};
		Self::conclude_with(id, request, &round, output)
	}

	/// The same with what was shown by those who are left in the round.
	pub(crate) fn conclude_with(
		id: RequestId,
		mut request: RequestOf<T>,
		round: &RoundOf<T>,
		output: Output,
	) -> Result<Outcome, DispatchError> {
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		let policy = model.spec.policy.for_output(request.course.unanswerable);
		let executor = request.executor.clone().ok_or(Error::<T>::NotDue)?;
		let mut verifiers = Vec::new();
		let (mut own, mut others) = (None, Vec::new());
		for (who, evidence) in round.revealed() {
			if *who == executor {
				own = Some(evidence.clone());
			} else {
				verifiers.push(who.clone());
				others.push(evidence.clone());
			}
		}
		let outcome = Outcome::Compared {
			members: round.members.len() as u32,
			output: ReadOutput::of(&output),
		};
		let mut comparison = compare(&policy, own.as_ref(), &others);
		if request.verifiers == 0 {
			// A chain with a single validator: nobody checks.
			comparison.answer = AnswerJudgement::Right;
		}
		// Where the output is the evidence, it is what the verifiers measured that it has to be.
		if let Output::Tensors(tensors) = &output {
			let expected = Evidence::of_tensors(tensors, &round.challenge, &policy);
			let same = match (&expected, &own) {
				(Ok(expected), Some(own)) => expected == own,
				(Ok(expected), None) => others.first().is_some_and(|other| {
					let both = [&expected.fingerprint, &other.fingerprint];
					judge(&policy, &both)
						.iter()
						.all(|j| *j == Judgement::Accept)
				}),
				(Err(_), _) => false,
			};
			if !same {
				comparison.answer = AnswerJudgement::Wrong;
			}
		}
		let payees = Payees {
			executor: own.is_some().then(|| executor.clone()),
			verifiers,
			jurors: Vec::new(),
		};
		if comparison.agrees() {
			if request.course.short {
				// Nothing is wrong with it, and fewer have checked it than were asked for.
				Self::expire(id, request, ExpiryReason::TooFewVerifiers);
			} else {
				Self::settle(id, &mut request, &output, payees);
			}
			return Ok(outcome);
		}
		match comparison.lone(&policy) {
			// The executor's own measurement differs, and its answer does not. Its verifiers may share what they invented: others measure,
			// where there are any. Alone again, it is drawn no more until it shows that it does not differ.
			Some(0) if !matches!(output, Output::Tensors(_)) => {
				if !request.course.replaced
					&& Self::others_could_measure(&request, &executor, &payees.verifiers)
				{
					Self::replace(id, request, round, payees.verifiers);
					return Ok(outcome);
				}
				Self::bar(&executor, request.model);
				let payees = Payees {
					executor: None,
					..payees
				};
				Self::settle(id, &mut request, &output, payees);
			}
			Some(place) if place > 0 && !request.course.replaced => {
				let lone = payees.verifiers.get(place - 1).cloned();
				if let Some(lone) = lone {
					// A machine whose bits nobody shares, and that finds the answer right as everybody does.
					Self::bar(&lone, request.model);
					Self::replace(id, request, round, Vec::from([lone]));
				}
			}
			_ => Self::dispute(id, request, None),
		}
		Ok(outcome)
	}

	/// Whether as many as a committee needs serve the model beside these.
	fn others_could_measure(
		request: &RequestOf<T>,
		executor: &T::AccountId,
		verifiers: &[T::AccountId],
	) -> bool {
		let mut these = verifiers.to_vec();
		these.push(executor.clone());
		Self::checkers(request, &Self::roster(), &these).len() >= usize::from(request.verifiers)
	}

	/// Has others measure in the place of these verifiers, once, under another challenge, because the evidence of this one is on chain.
	fn replace(
		id: RequestId,
		mut request: RequestOf<T>,
		round: &RoundOf<T>,
		verifiers: Vec<T::AccountId>,
	) {
		request.course.replaced = true;
		for verifier in verifiers {
			// A request that has turned away as many as it may is judged by a jury.
			if request.excluded.try_push(verifier.clone()).is_err() {
				return Self::dispute(id, request, None);
			}
			Self::deposit_event(Event::VerifierReplaced {
				request: id,
				verifier,
			});
		}
		Self::measure_again(id, request, round);
	}

	/// Has another committee measure a text that is on chain, under another challenge.
	pub(crate) fn measure_again(id: RequestId, mut request: RequestOf<T>, round: &RoundOf<T>) {
		let now = frame_system::Pallet::<T>::block_number();
		for member in &round.members {
			if request.executor.as_ref() != Some(&member.who) {
				Self::unassign(&member.who, id);
			}
		}
		Rounds::<T>::remove(id);
		// Nobody had called it a lie: what that committee said, or did not, is forgotten.
		request.withheld.clear();
		if request.output_commitment.is_some() {
			// What was shown of a committed output can be copied: no second round would prove anything.
			return Self::dispute(id, request, None);
		}
		Self::queue_later_draw(id, &mut request);
		Self::wait_for_draw(now, id, &mut request);
		Requests::<T>::insert(id, request);
	}

	/// Has the request looked at when its draw should long be done.
	pub(crate) fn wait_for_draw(now: BlockNumberFor<T>, id: RequestId, request: &mut RequestOf<T>) {
		let blocks = request.draw.map_or(0, |draw| draw.blocks);
		let patience = T::DrawPatience::get().saturating_add(u32::from(blocks).into());
		Self::schedule(now, patience, id, request);
	}
}
