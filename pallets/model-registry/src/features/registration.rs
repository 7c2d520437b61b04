//! Registering and removing models.

use codec::Encode;
use consilience_primitives::{
	model::{ModelSpec, ModelStatus, Price, SpecError},
	ModelId,
};
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::DispatchResult, traits::fungible::MutateHold},
	frame_system,
	sp_runtime::traits::{Get, Saturating},
};

use crate::{
	BalanceOf, Config, DeprecatedAt, Differing, Error, Event, HoldReason, ModelDetails, Models,
	Pallet, Serving,
};

impl<T: Config> Pallet<T> {
	/// Deposit for a description of this size.
	pub fn deposit_for(spec: &ModelSpec) -> BalanceOf<T> {
		let bytes = spec.encoded_size() as u32;
		T::DepositBase::get().saturating_add(T::DepositPerByte::get().saturating_mul(bytes.into()))
	}

	pub(crate) fn do_register(
		owner: T::AccountId,
		model: ModelId,
		spec: ModelSpec,
		price: Price<BalanceOf<T>>,
	) -> DispatchResult {
		spec.validate().map_err(|e| match e {
			SpecError::BadName => Error::<T>::BadName,
			SpecError::BadLimits => Error::<T>::BadLimits,
			SpecError::BadPolicy => Error::<T>::BadPolicy,
			SpecError::BadSignature => Error::<T>::BadSignature,
			SpecError::BadReference => Error::<T>::BadReference,
			SpecError::BadSampling => Error::<T>::BadSampling,
		})?;
		ensure!(
			!Models::<T>::contains_key(model),
			Error::<T>::AlreadyRegistered
		);
		ensure!(
			Models::<T>::count() < T::MaxModels::get(),
			Error::<T>::TooManyModels
		);
		let deposit = Self::deposit_for(&spec);
		T::Currency::hold(&HoldReason::ModelDeposit.into(), &owner, deposit)?;
		Models::<T>::insert(
			model,
			ModelDetails {
				owner: owner.clone(),
				deposit,
				spec,
				price,
				status: ModelStatus::Registered,
				open_requests: 0,
			},
		);
		Self::deposit_event(Event::ModelRegistered {
			model,
			owner,
			deposit,
		});
		Ok(())
	}

	pub(crate) fn mutate_owned(
		owner: &T::AccountId,
		model: ModelId,
		change: impl FnOnce(&mut ModelDetails<T::AccountId, BalanceOf<T>>) -> DispatchResult,
	) -> DispatchResult {
		Models::<T>::try_mutate(model, |details| {
			let details = details.as_mut().ok_or(Error::<T>::UnknownModel)?;
			ensure!(details.owner == *owner, Error::<T>::NotOwner);
			change(details)
		})
	}

	pub(crate) fn do_remove(owner: T::AccountId, model: ModelId) -> DispatchResult {
		let details = Models::<T>::get(model).ok_or(Error::<T>::UnknownModel)?;
		ensure!(details.owner == owner, Error::<T>::NotOwner);
		ensure!(
			details.status == ModelStatus::Deprecated,
			Error::<T>::NotDeprecated
		);
		let at = DeprecatedAt::<T>::get(model).ok_or(Error::<T>::NotDeprecated)?;
		let now = frame_system::Pallet::<T>::block_number();
		ensure!(
			now.saturating_sub(at) >= T::RemovalDelay::get(),
			Error::<T>::DeprecatedTooRecently
		);
		ensure!(details.open_requests == 0, Error::<T>::RequestsOpen);
		Self::release_deposit(&owner, details.deposit)?;
		for server in Serving::<T>::take(model) {
			Self::forget_served(&server.who, model);
			Self::deposit_event(Event::ServingStopped {
				model,
				validator: server.who,
			});
		}
		Differing::<T>::remove(model);
		DeprecatedAt::<T>::remove(model);
		Models::<T>::remove(model);
		Self::deposit_event(Event::ModelRemoved { model });
		Ok(())
	}
}
