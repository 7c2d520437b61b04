//! The executor's answer, or its commitment to one.

use consilience_primitives::{
	evidence::{output_commitment, Salt},
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
	features::{report::Outcome, round::Phase},
	Config, Error, Event, Outputs, Pallet, RequestOf, Requests, Rounds,
};

impl<T: Config> Pallet<T> {
	/// The request, if an answer or commitment is due from this validator. That there is no answer is never committed to: there is
	/// nothing to copy.
	fn assigned(
		validator: &T::AccountId,
		id: RequestId,
		commits: bool,
		unanswerable: bool,
	) -> Result<RequestOf<T>, DispatchError> {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		ensure!(
			request.state == RequestState::Assigned
				&& request.executor.as_ref() == Some(validator)
				&& (unanswerable || model.spec.task.commits_output() == commits),
			Error::<T>::NotDue
		);
		Ok(request)
	}

	/// Whether an output is of the model's task and within what was paid for.
	fn check_output(request: &RequestOf<T>, output: &Output) -> DispatchResult {
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		ensure!(
			output.fits(model.spec.task) && output.units() <= request.max_output_units,
			Error::<T>::MalformedOutput
		);
		Ok(())
	}

	pub(crate) fn check_answer(
		validator: &T::AccountId,
		id: RequestId,
		output: &Output,
	) -> DispatchResult {
		let unanswerable = output.unanswerable().is_some();
		let request = Self::assigned(validator, id, false, unanswerable)?;
		Self::check_output(&request, output)
	}

	pub(crate) fn answer(
		validator: &T::AccountId,
		id: RequestId,
		output: Output,
	) -> DispatchResult {
		let unanswerable = output.unanswerable().is_some();
		let mut request = Self::assigned(validator, id, false, unanswerable)?;
		Self::check_output(&request, &output)?;
		request.course.unanswerable = unanswerable;
		Outputs::<T>::insert(id, output);
		Self::deposit_event(Event::AnswerPosted {
			request: id,
			executor: validator.clone(),
		});
		Self::provisional(id, request);
		Ok(())
	}

	pub(crate) fn check_commit_output(validator: &T::AccountId, id: RequestId) -> DispatchResult {
		Self::assigned(validator, id, true, false).map(|_| ())
	}

	pub(crate) fn commit_output(
		validator: &T::AccountId,
		id: RequestId,
		commitment: H256,
	) -> DispatchResult {
		let mut request = Self::assigned(validator, id, true, false)?;
		request.output_commitment = Some(commitment);
		Self::deposit_event(Event::OutputCommitted {
			request: id,
			executor: validator.clone(),
			commitment,
		});
		Self::provisional(id, request);
		Ok(())
	}

	/// The answer is in this block; validators toss for its verifiers in the next, or they are drawn in the first window that begins after
	/// it.
	fn provisional(id: RequestId, mut request: RequestOf<T>) {
		let now = frame_system::Pallet::<T>::block_number();
		request.state = RequestState::Provisional;
		request.provisional_at = Some(now);
		if let Some(executor) = &request.executor {
			Self::answered(executor, id);
		}
		if request.windows.is_some_and(|windows| windows.toss) {
			let patience = T::DrawPatience::get().saturating_add(T::ContributionBlocks::get());
			Self::schedule(now, patience, id, &mut request);
			Self::queue_toss(id, &mut request, now);
		} else {
			Self::wait_for_window(now, id, &mut request);
		}
		Requests::<T>::insert(id, request);
	}

	pub(crate) fn check_reveal_output(
		validator: &T::AccountId,
		id: RequestId,
		output: &Output,
		salt: &Salt,
	) -> DispatchResult {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let revealing = Rounds::<T>::get(id).is_some_and(|r| r.phase == Phase::Reveal);
		ensure!(
			request.state == RequestState::Provisional
				&& request.executor.as_ref() == Some(validator)
				&& revealing && !Outputs::<T>::contains_key(id),
			Error::<T>::NotDue
		);
		let commitment = request.output_commitment.ok_or(Error::<T>::NotDue)?;
		ensure!(
			output_commitment(output, id, validator, salt) == commitment,
			Error::<T>::CommitmentMismatch
		);
		// Members have measured an output: that there is none can't be what they measured.
		ensure!(output.unanswerable().is_none(), Error::<T>::MalformedOutput);
		Self::check_output(&request, output)
	}

	/// Takes a committed output. Gives what came to its end with it.
	pub(crate) fn reveal_output(
		validator: &T::AccountId,
		id: RequestId,
		output: Output,
		salt: Salt,
	) -> Result<Outcome, DispatchError> {
		Self::check_reveal_output(validator, id, &output, &salt)?;
		Outputs::<T>::insert(id, output);
		Self::deposit_event(Event::OutputRevealed {
			request: id,
			executor: validator.clone(),
		});
		Self::conclude(id)
	}
}
