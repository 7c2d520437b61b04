//! What clients are shown, and the invariants of storage.

use alloc::vec::Vec;
use consilience_primitives::{view::ModelView, ModelId};

use crate::{BalanceOf, Config, Differing, ModelDetails, Models, Pallet, Serving};

impl<T: Config> Pallet<T> {
	/// One model.
	pub fn model(model: ModelId) -> Option<ModelView<T::AccountId, BalanceOf<T>>> {
		Models::<T>::get(model).map(|details| Self::to_view(model, details))
	}

	/// Up to `limit` models after the given one, in the order of their keys in storage.
	pub fn models(
		after: Option<ModelId>,
		limit: u32,
	) -> Vec<ModelView<T::AccountId, BalanceOf<T>>> {
		let limit = limit.min(256) as usize;
		let entries = match after {
			Some(id) => Models::<T>::iter_from(Models::<T>::hashed_key_for(id)),
			None => Models::<T>::iter(),
		};
		entries
			.take(limit)
			.map(|(id, details)| Self::to_view(id, details))
			.collect()
	}

	fn to_view(
		id: ModelId,
		details: ModelDetails<T::AccountId, BalanceOf<T>>,
	) -> ModelView<T::AccountId, BalanceOf<T>> {
		ModelView {
			id,
			owner: details.owner,
			spec: details.spec,
			price: details.price,
			status: details.status,
			serving: Serving::<T>::get(id)
				.into_iter()
				.map(|server| server.who)
				.collect(),
			differing: Differing::<T>::get(id).into_inner(),
		}
	}

	/// Checks that the two views of who serves what agree, that statuses follow from them, and that deposits are held.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub fn do_try_state() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use crate::{DeprecatedAt, HoldReason, ServedBy, Server};
		use alloc::collections::BTreeMap;
		use consilience_primitives::model::ModelStatus;
		use polkadot_sdk::{
			frame_support::{
				ensure,
				traits::{fungible::InspectHold, Get},
			},
			sp_runtime::traits::{Saturating, Zero},
		};

		let mut deposits = BTreeMap::<T::AccountId, BalanceOf<T>>::new();
		for (id, details) in Models::<T>::iter() {
			let serving = Serving::<T>::get(id);
			let enough = serving.len() as u32 >= T::MinServing::get();
			ensure!(
				details.status == ModelStatus::Deprecated
					|| enough == (details.status == ModelStatus::Active),
				"a model's status does not follow from who serves it"
			);
			for Server { who: validator, .. } in &serving {
				ensure!(
					ServedBy::<T>::get(validator).contains(&id),
					"a validator serves a model that is not in its list"
				);
			}
			let sum = deposits.entry(details.owner).or_insert_with(Zero::zero);
			*sum = sum.saturating_add(details.deposit);
		}
		for (id, list) in Serving::<T>::iter() {
			ensure!(Models::<T>::contains_key(id), "an unknown model is served");
			ensure!(
				!list.is_empty(),
				"an empty list of who serves a model is stored"
			);
		}
		ensure!(
			Models::<T>::iter().all(|(id, m)| (m.status == ModelStatus::Deprecated)
				== DeprecatedAt::<T>::contains_key(id))
				&& DeprecatedAt::<T>::iter_keys().all(Models::<T>::contains_key),
			"since when a model is deprecated"
		);
		for (id, list) in Differing::<T>::iter() {
			ensure!(
				Models::<T>::contains_key(id) && !list.is_empty(),
				"somebody differs over an unknown model, or nobody over one"
			);
			ensure!(
				!list.iter().any(|who| Self::is_serving(who, id)),
				"a validator serves a model and differs over it"
			);
		}
		for (validator, list) in ServedBy::<T>::iter() {
			ensure!(!list.is_empty(), "an empty list of served models is stored");
			for id in list {
				ensure!(
					Self::is_serving(&validator, id),
					"a validator's list names a model that it does not serve"
				);
			}
		}
		for (owner, sum) in deposits {
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::ModelDeposit.into(), &owner) == sum,
				"deposits and holds differ"
			);
		}
		Ok(())
	}
}
