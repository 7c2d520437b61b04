//! Taking and cancelling requests: bad input is refused here, with a reason and nothing charged.

use consilience_primitives::{
	model::ModelStatus,
	request::{Assurance, Input, InputError},
	view::{QuoteError, RequestState},
	List, ModelId, RequestId,
};
use pallet_model_registry::{ModelDetails, Models};
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::DispatchResult, traits::fungible::MutateHold},
	frame_system,
	sp_runtime::{
		traits::{CheckedAdd, Get, Zero},
		DispatchError,
	},
};

use crate::{
	BalanceOf, Config, Error, Event, HoldReason, Inputs, NextRequest, Open, OpenOf, Pallet,
	PendingDraw, PendingDraws, Request, Requests,
};

impl<T: Config> From<QuoteError> for Error<T> {
	fn from(e: QuoteError) -> Self {
		match e {
			QuoteError::UnknownModel => Self::UnknownModel,
			QuoteError::ModelNotActive => Self::ModelNotActive,
			QuoteError::BadAssurance => Self::BadAssurance,
			QuoteError::Overflow => Self::PriceOverflow,
			QuoteError::Input(e) => match e {
				InputError::WrongTask => Self::WrongTask,
				InputError::NotUtf8 => Self::NotUtf8,
				InputError::Empty => Self::EmptyInput,
				InputError::InputTooLarge => Self::InputTooLarge,
				InputError::ZeroTokens => Self::ZeroTokens,
				InputError::OutputTooLarge => Self::OutputTooLarge,
				InputError::BadSampling => Self::BadSampling,
				InputError::SignatureMismatch => Self::SignatureMismatch,
				InputError::MalformedTensor => Self::MalformedTensor,
				InputError::NoChat => Self::NoChat,
			},
		}
	}
}

/// A model together with what must be held for the longest answer.
type Quoted<T> = (
	ModelDetails<<T as frame_system::Config>::AccountId, BalanceOf<T>>,
	BalanceOf<T>,
);

impl<T: Config> Pallet<T> {
	/// What must be held at least for the longest answer, tip not counted, or why the request would be refused.
	pub fn quote(
		model: ModelId,
		input: &Input,
		assurance: Assurance,
	) -> Result<BalanceOf<T>, QuoteError> {
		Self::examine(model, input, assurance).map(|(_, price)| price)
	}

	fn examine(
		model: ModelId,
		input: &Input,
		assurance: Assurance,
	) -> Result<Quoted<T>, QuoteError> {
		let details = Models::<T>::get(model).ok_or(QuoteError::UnknownModel)?;
		if details.status != ModelStatus::Active {
			return Err(QuoteError::ModelNotActive);
		}
		let spec = &details.spec;
		input.validate(spec).map_err(QuoteError::Input)?;
		if !assurance.is_admitted(spec.task, &spec.policy, T::MaxVerifiers::get()) {
			return Err(QuoteError::BadAssurance);
		}
		let price = details
			.price
			.of(input.units(), input.max_output_units(&spec.limits))
			.ok_or(QuoteError::Overflow)?;
		// What is held at least, however cheap the model: open requests are not free.
		Ok((details, price.max(T::MinEscrow::get())))
	}

	/// Takes a request of `requester`, holds the fee limit, and has an executor drawn.
	pub fn do_request(
		requester: T::AccountId,
		model: ModelId,
		input: Input,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
	) -> Result<RequestId, DispatchError> {
		Self::submit(requester, model, input, assurance, fee_limit, tip, false)
	}

	/// The same, for a pallet that is to be told of the end (`callback`) or not.
	pub(crate) fn submit(
		requester: T::AccountId,
		model: ModelId,
		input: Input,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
		callback: bool,
	) -> Result<RequestId, DispatchError> {
		let (details, price) = Self::examine(model, &input, assurance).map_err(Error::<T>::from)?;
		let worst = price.checked_add(&tip).ok_or(Error::<T>::PriceOverflow)?;
		ensure!(fee_limit >= worst, Error::<T>::FeeLimitTooLow);
		ensure!(
			Open::<T>::get() < T::MaxOpen::get(),
			Error::<T>::TooManyOpen
		);
		ensure!(
			OpenOf::<T>::get(&requester) < T::MaxOpenPerAccount::get(),
			Error::<T>::TooManyOpenOfAccount
		);
		T::Currency::hold(&HoldReason::Escrow.into(), &requester, fee_limit)?;

		let now = frame_system::Pallet::<T>::block_number();
		let id = NextRequest::<T>::mutate(|next| {
			let id = *next;
			*next += 1;
			id
		});
		let max_output_units = input.max_output_units(&details.spec.limits);
		let patience = Self::draw_patience(&details.spec.time, max_output_units);
		let mut request = Request {
			requester: requester.clone(),
			model,
			assurance,
			verifiers: assurance.verifiers(&details.spec.policy),
			state: RequestState::Requested,
			escrow: fee_limit,
			tip,
			price: details.price,
			input_units: input.units(),
			max_output_units,
			seed: None,
			executor: None,
			excluded: List::new(),
			output_commitment: None,
			callback,
			deadline: now,
			requested_at: now,
			assigned_at: None,
			assigned_in: None,
			provisional_at: None,
			appealable_until: None,
			settled_at: None,
			paid: Zero::zero(),
			refunded: Zero::zero(),
		};
		Self::schedule(now, patience, id, &mut request);
		Requests::<T>::insert(id, request);
		Inputs::<T>::insert(id, input);
		PendingDraws::<T>::try_append(PendingDraw {
			request: id,
			since: now,
		})
		.map_err(|_| Error::<T>::TooManyOpen)?;
		Open::<T>::mutate(|n| *n += 1);
		OpenOf::<T>::mutate(&requester, |n| *n += 1);
		pallet_model_registry::Pallet::<T>::request_opened(model);
		Self::deposit_event(Event::RequestSubmitted {
			request: id,
			requester,
			model,
			escrow: fee_limit,
		});
		Ok(id)
	}

	pub(crate) fn do_cancel(requester: T::AccountId, id: RequestId) -> DispatchResult {
		let mut request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		ensure!(request.requester == requester, Error::<T>::NotRequester);
		ensure!(!request.state.is_settled(), Error::<T>::UnknownRequest);
		ensure!(
			request.state == RequestState::Requested && request.assigned_at.is_none(),
			Error::<T>::AlreadyAssigned
		);
		let refunded = Self::close(id, &mut request, RequestState::Cancelled);
		Self::deposit_event(Event::RequestCancelled {
			request: id,
			refunded,
		});
		Ok(())
	}
}
