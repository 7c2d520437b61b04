//! The session's validators and their `infr` keys.

use alloc::vec::Vec;
use consilience_primitives::crypto::InferenceId;
use polkadot_sdk::{
	frame_support::{traits::OneSessionHandler, WeakBoundedVec},
	sp_runtime::BoundToRuntimeAppPublic,
};

use crate::{
	Assignments, Config, Indices, KeyAt, Keys, LastReport, Loads, Pallet, Places, Reveals, Session,
	Strikes,
};

impl<T: Config> BoundToRuntimeAppPublic for Pallet<T> {
	type Public = InferenceId;
}

impl<T: Config> Pallet<T> {
	/// Sets the session's validators, with the duties that they have already.
	pub(crate) fn set_keys(keys: Vec<(T::AccountId, InferenceId)>) {
		for (index, (who, _)) in (0u32..).zip(Keys::<T>::get()) {
			Indices::<T>::remove(who);
			KeyAt::<T>::remove(index);
		}
		let mut loads = Vec::new();
		let mut places = Vec::new();
		for (index, (who, key)) in (0..).zip(&keys) {
			Indices::<T>::insert(who, index);
			KeyAt::<T>::insert(index, (who, key));
			places.push((who.clone(), index));
			let load = Assignments::<T>::iter_prefix_values(who)
				.fold(0u32, |sum, assignment| sum.saturating_add(assignment.work));
			loads.push(load);
		}
		places.sort();
		Places::<T>::put(WeakBoundedVec::force_from(places, Some("places")));
		Loads::<T>::put(WeakBoundedVec::force_from(loads, Some("loads")));
		Keys::<T>::put(WeakBoundedVec::force_from(
			keys,
			Some("inference session keys"),
		));
		// Places of another session say nothing of this one.
		Reveals::<T>::kill();
	}
}

impl<T: Config> OneSessionHandler<T::AccountId> for Pallet<T> {
	type Key = InferenceId;

	fn on_genesis_session<'a, I>(validators: I)
	where
		I: Iterator<Item = (&'a T::AccountId, InferenceId)> + 'a,
	{
		Self::set_keys(validators.map(|(v, k)| (v.clone(), k)).collect());
	}

	fn on_new_session<'a, I>(_changed: bool, validators: I, _queued: I)
	where
		I: Iterator<Item = (&'a T::AccountId, InferenceId)> + 'a,
	{
		Self::forgive_strikes();
		Self::forgive_lateness();
		Self::forget_bars();
		Self::forgive_lies();
		Self::forget_claims();
		let next: Vec<_> = validators.map(|(v, k)| (v.clone(), k)).collect();
		let last = Keys::<T>::get();
		if last[..] == next[..] {
			return;
		}
		for (validator, _) in last
			.iter()
			.filter(|(v, _)| !next.iter().any(|(n, _)| n == v))
		{
			pallet_model_registry::Pallet::<T>::withdraw_all(validator);
			LastReport::<T>::remove(validator);
			Strikes::<T>::remove(validator);
		}
		Self::set_keys(next);
		Self::forget_quiet();
		Session::<T>::mutate(|n| *n = n.wrapping_add(1));
	}

	fn on_disabled(index: u32) {
		if let Some((validator, _)) = KeyAt::<T>::get(index) {
			pallet_model_registry::Pallet::<T>::withdraw_all(&validator);
		}
	}
}
