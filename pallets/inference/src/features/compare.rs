//! Commitments and evidence of a request's round, and what they come to.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	comparison::{compare, AnswerJudgement},
	evidence::{Evidence, Salt},
	request::Output,
	view::RequestState,
	RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::DispatchResult},
	frame_system,
	sp_core::H256,
	sp_runtime::{
		traits::{Get, Saturating},
		DispatchError,
	},
};

use crate::{
	features::{report::Outcome, round::RoundError, settle::Payees},
	Config, Error, Event, Juries, Outputs, Pallet, RequestOf, Requests, RoundOf, Rounds,
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

	pub(crate) fn check_commit(validator: &T::AccountId, id: RequestId) -> DispatchResult {
		let (_, round) = Self::measured(id)?;
		round.may_commit(validator).map_err(Error::<T>::from)?;
		Ok(())
	}

	pub(crate) fn commit_evidence(
		validator: &T::AccountId,
		id: RequestId,
		commitment: H256,
	) -> DispatchResult {
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
			Self::schedule(now, T::RevealBlocks::get(), id, &mut request);
			let deadline = request.deadline;
			round.deadline = deadline;
			Requests::<T>::insert(id, &request);
			Self::deposit_event(Event::RevealStarted {
				request: id,
				deadline,
			});
		}
		Self::put_round(id, request.state, round);
		Ok(())
	}

	/// The commitment that this evidence opens, if it is due from this validator and opens it.
	pub(crate) fn check_reveal(
		validator: &T::AccountId,
		id: RequestId,
		evidence: &Evidence,
		salt: &Salt,
	) -> Result<H256, DispatchError> {
		let (request, round) = Self::measured(id)?;
		let commitment = evidence.commitment(id, &round.challenge, validator, salt);
		round
			.may_reveal(validator, commitment)
			.map_err(Error::<T>::from)?;
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		// A juror measures under the disputed challenge too, where there is one.
		let twice = request.state == RequestState::Disputed && Rounds::<T>::contains_key(id);
		ensure!(
			evidence.is_of(model.spec.policy.class) && evidence.prior.is_some() == twice,
			Error::<T>::WrongEvidence
		);
		Ok(commitment)
	}

	/// Takes evidence. Gives what came to its end with it.
	pub(crate) fn reveal_evidence(
		validator: &T::AccountId,
		id: RequestId,
		evidence: Evidence,
		salt: Salt,
	) -> Result<Outcome, DispatchError> {
		let commitment = Self::check_reveal(validator, id, &evidence, &salt)?;
		let (request, mut round) = Self::measured(id)?;
		round
			.reveal(validator, evidence.clone(), commitment)
			.map_err(Error::<T>::from)?;
		Self::put_round(id, request.state, round);
		Self::deposit_event(Event::EvidenceRevealed {
			request: id,
			member: validator.clone(),
			evidence,
		});
		if request.state == RequestState::Disputed {
			Self::conclude_jury(id)
		} else {
			Self::conclude(id)
		}
	}

	/// Settles the request, or calls a jury, if every member's evidence and the output are there.
	pub(crate) fn conclude(id: RequestId) -> Result<Outcome, DispatchError> {
		let (mut request, round) = Self::measured(id)?;
		let (Some(revealed), Some(output)) = (round.complete(), Outputs::<T>::get(id)) else {
			return Ok(Outcome::Open);
		};
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		let policy = &model.spec.policy;
		let executor = request.executor.clone().ok_or(Error::<T>::NotDue)?;
		let mut verifiers = Vec::new();
		let (mut own, mut others) = (None, Vec::new());
		for (who, evidence) in revealed {
			if *who == executor {
				own = Some(evidence.clone());
			} else {
				verifiers.push(who.clone());
				others.push(evidence.clone());
			}
		}
		let own = own.ok_or(Error::<T>::NotDue)?;
		let outcome = Outcome::Compared {
			members: round.members.len() as u32,
			output: output.encoded_size() as u32,
		};
		let mut comparison = compare(policy, &own, &others);
		// Where the output is the evidence, the executor's evidence is what its output gives, and the runtime can see that.
		if let Output::Tensors(tensors) = &output {
			let expected = Evidence::of_tensors(tensors, &round.challenge, policy);
			if expected.as_ref() != Ok(&own) {
				comparison.answer = AnswerJudgement::Wrong;
			}
		}
		if comparison.agrees() {
			let payees = Payees {
				executor: Some(executor),
				shares: verifiers.len() as u32,
				verifiers,
				jurors: Vec::new(),
			};
			Self::settle(id, &mut request, &output, payees);
		} else {
			Self::dispute(id, request, None);
		}
		Ok(outcome)
	}
}
