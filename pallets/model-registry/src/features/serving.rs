//! Who serves what. Called by `pallet-inference`, which knows whose report it reads.
//!
//! A place is let in by the reference evidence, which is public, and kept by what is measured afterwards: when as many serve a model
//! as may, whoever has proven nothing for [`Config::ServingGrace`] blocks gives its place to the next.

use consilience_primitives::{
	comparison::reproduces,
	evidence::Evidence,
	model::{ModelStatus, Speed},
	ModelId,
};
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::DispatchResult},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::{
		traits::{Get, Saturating},
		DispatchError,
	},
};

use crate::{Config, Differing, Error, Event, Models, Pallet, ServedBy, Server, Serving};

impl<T: Config> Pallet<T> {
	/// Whether `validator` could begin to serve `model` with this evidence of its reference input, and as fast as this.
	pub fn can_serve(
		validator: &T::AccountId,
		model: ModelId,
		evidence: &Evidence,
		speed: Speed,
	) -> Result<(), DispatchError> {
		ensure!(speed.is_valid(), Error::<T>::BadSpeed);
		let details = Models::<T>::get(model).ok_or(Error::<T>::UnknownModel)?;
		ensure!(
			details.status != ModelStatus::Deprecated,
			Error::<T>::AlreadyDeprecated
		);
		let (serving, served) = (Serving::<T>::get(model), ServedBy::<T>::get(validator));
		ensure!(
			!serving.iter().any(|s| s.who == *validator),
			Error::<T>::AlreadyServing
		);
		ensure!(
			!serving.is_full() || Self::displaceable(&serving).is_some(),
			Error::<T>::TooManyServing
		);
		ensure!(
			(served.len() as u32) < T::MaxServed::get(),
			Error::<T>::TooManyServed
		);
		ensure!(
			reproduces(&details.spec, evidence),
			Error::<T>::ReferenceNotReproduced
		);
		Ok(())
	}

	/// Whether `validator` could say that it computes this for the model's reference input, and that it is something else.
	pub fn can_differ(
		validator: &T::AccountId,
		model: ModelId,
		evidence: &Evidence,
	) -> DispatchResult {
		let details = Models::<T>::get(model).ok_or(Error::<T>::UnknownModel)?;
		ensure!(
			details.status != ModelStatus::Deprecated,
			Error::<T>::AlreadyDeprecated
		);
		ensure!(
			!Self::is_serving(validator, model),
			Error::<T>::AlreadyServing
		);
		let differing = Differing::<T>::get(model);
		ensure!(
			!differing.is_full() && !differing.contains(validator),
			Error::<T>::AlreadyDiffering
		);
		ensure!(
			!reproduces(&details.spec, evidence),
			Error::<T>::ReferenceReproduced
		);
		Ok(())
	}

	/// Notes that `validator` computes something else for the model's reference input.
	pub fn differ(validator: &T::AccountId, model: ModelId, evidence: Evidence) -> DispatchResult {
		Self::can_differ(validator, model, &evidence)?;
		Differing::<T>::try_mutate(model, |list| list.try_push(validator.clone()))
			.map_err(|_| Error::<T>::AlreadyDiffering)?;
		Self::deposit_event(Event::ReferenceDiffers {
			model,
			validator: validator.clone(),
			evidence,
		});
		Ok(())
	}

	/// Who of these gives its place to the next: whoever has proven nothing for longest, and had its time.
	fn displaceable(
		serving: &[Server<T::AccountId, BlockNumberFor<T>>],
	) -> Option<&Server<T::AccountId, BlockNumberFor<T>>> {
		let now = frame_system::Pallet::<T>::block_number();
		let first = serving.iter().find(|server| !server.proven)?;
		(first.since.saturating_add(T::ServingGrace::get()) <= now).then_some(first)
	}

	/// Whether `validator` serves `model`.
	pub fn is_serving(validator: &T::AccountId, model: ModelId) -> bool {
		Serving::<T>::get(model).iter().any(|s| s.who == *validator)
	}

	/// Adds `validator` to those who serve `model`; with enough of them it takes requests. Gives who had to make room.
	pub fn serve(
		validator: &T::AccountId,
		model: ModelId,
		evidence: &Evidence,
		speed: Speed,
	) -> Result<Option<T::AccountId>, DispatchError> {
		Self::can_serve(validator, model, evidence, speed)?;
		let list = Serving::<T>::get(model);
		let displaced = Self::displaceable(&list)
			.filter(|_| list.is_full())
			.map(|server| server.who.clone());
		if let Some(displaced) = &displaced {
			Self::withdraw(displaced, model)?;
			Self::deposit_event(Event::ServingDisplaced {
				model,
				validator: displaced.clone(),
			});
		}
		let server = Server {
			who: validator.clone(),
			since: frame_system::Pallet::<T>::block_number(),
			speed,
			proven: false,
		};
		let serving = Serving::<T>::try_mutate(model, |list| {
			list.try_push(server)
				.map_err(|_| Error::<T>::TooManyServing)?;
			Ok::<_, DispatchError>(list.len() as u32)
		})?;
		ServedBy::<T>::try_mutate(validator, |list| {
			list.try_push(model).map_err(|_| Error::<T>::TooManyServed)
		})?;
		Differing::<T>::mutate_exists(model, |list| {
			if let Some(differing) = list {
				differing.retain(|who| who != validator);
				if differing.is_empty() {
					*list = None;
				}
			}
		});
		Self::deposit_event(Event::ServingStarted {
			model,
			validator: validator.clone(),
		});
		Self::update_status(model, serving);
		Ok(displaced)
	}

	/// Notes that what these have measured with `model` is what others have measured too.
	pub fn proven<'a>(model: ModelId, who: impl IntoIterator<Item = &'a T::AccountId>)
	where
		T::AccountId: 'a,
	{
		let mut list = Serving::<T>::get(model);
		let mut changed = false;
		for who in who {
			let server = list.iter_mut().find(|s| s.who == *who && !s.proven);
			if let Some(server) = server {
				server.proven = true;
				changed = true;
			}
		}
		if changed {
			Serving::<T>::insert(model, list);
		}
	}

	/// Notes that a validator was late with `model`: its machine has more to do than it said.
	pub fn slower(validator: &T::AccountId, model: ModelId) {
		Serving::<T>::mutate_exists(model, |list| {
			let mut serving = list.iter_mut().flatten();
			if let Some(server) = serving.find(|s| s.who == *validator) {
				server.speed = server.speed.slower();
				Self::deposit_event(Event::SpeedCorrected {
					model,
					validator: validator.clone(),
					speed: server.speed,
				});
			}
		});
	}

	/// Removes `validator` from those who serve `model`.
	pub fn withdraw(validator: &T::AccountId, model: ModelId) -> DispatchResult {
		let serving = Serving::<T>::try_mutate_exists(model, |list| {
			let serving = list.as_mut().ok_or(Error::<T>::NotServing)?;
			let index = serving
				.iter()
				.position(|s| s.who == *validator)
				.ok_or(Error::<T>::NotServing)?;
			serving.remove(index);
			let left = serving.len() as u32;
			if left == 0 {
				*list = None;
			}
			Ok::<_, DispatchError>(left)
		})?;
		Self::forget_served(validator, model);
		Self::deposit_event(Event::ServingStopped {
			model,
			validator: validator.clone(),
		});
		Self::update_status(model, serving);
		Ok(())
	}

	/// Takes a model from the list of those that a validator serves.
	pub(crate) fn forget_served(validator: &T::AccountId, model: ModelId) {
		ServedBy::<T>::mutate_exists(validator, |served| {
			if let Some(list) = served {
				list.retain(|m| *m != model);
				if list.is_empty() {
					*served = None;
				}
			}
		});
	}

	/// Removes a validator from everything it serves: it left the session.
	pub fn withdraw_all(validator: &T::AccountId) {
		for model in ServedBy::<T>::get(validator) {
			if let Err(e) = Self::withdraw(validator, model) {
				log::error!(target: crate::LOG_TARGET, "serving of {model:?} is out of step: {e:?}");
			}
		}
	}

	/// A request for the model was taken.
	pub fn request_opened(model: ModelId) {
		Models::<T>::mutate(model, |details| {
			if let Some(d) = details {
				d.open_requests = d.open_requests.saturating_add(1);
			}
		});
	}

	/// A request for the model was settled and can be looked at no more.
	pub fn request_closed(model: ModelId) {
		Models::<T>::mutate(model, |details| {
			if let Some(d) = details {
				d.open_requests = d.open_requests.saturating_sub(1);
			}
		});
	}

	fn update_status(model: ModelId, serving: u32) {
		Models::<T>::mutate(model, |details| {
			let Some(details) = details else { return };
			let enough = serving >= T::MinServing::get();
			match (details.status, enough) {
				(ModelStatus::Registered, true) => {
					details.status = ModelStatus::Active;
					Self::deposit_event(Event::ModelActive { model });
				}
				(ModelStatus::Active, false) => {
					details.status = ModelStatus::Registered;
					Self::deposit_event(Event::ModelInactive { model });
				}
				_ => (),
			}
		});
	}
}
