//! # Model registry
//!
//! Models, what they take and cost, how their answers are checked, and which validators serve them.
//!
//! ## Overview
//!
//! Anybody registers a model under the hash of its manifest ([`ModelId`]) and puts down a deposit. A validator serves it once it
//! has reproduced the manifest's reference evidence; with [`Config::MinServing`] of them the model is
//! [`ModelStatus::Active`] and can be asked. Its owner can change the price, deprecate it, and remove it once no request needs
//! it, which returns the deposit.
//!
//! ## Low level
//!
//! The chain stores a model's description ([`ModelSpec`]) and the manifest's hash, never a byte of the model. Serving is
//! announced through `pallet-inference`, whose reports validators sign with their session key; see
//! [`Pallet::serve`]. `Serving` and `ServedBy` are two views of one relation, and `try_state` holds them equal.

#![cfg_attr(not(feature = "std"), no_std)]
// The pallet macro makes items that carry no documentation of their own.
#![allow(missing_docs, clippy::too_many_arguments)]

extern crate alloc;

pub use pallet::*;
pub use types::*;
pub use weights::WeightInfo;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod features;
pub mod migrations;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
mod types;
pub mod weights;

use alloc::vec::Vec;
use consilience_primitives::{
	evidence::Evidence,
	model::{ModelSpec, ModelStatus, Price, Speed},
	view::ModelView,
	ModelId,
};
use polkadot_sdk::{
	frame_support::{
		self,
		pallet_prelude::*,
		traits::{
			fungible::{Inspect, MutateHold},
			tokens::Precision,
		},
	},
	frame_system::pallet_prelude::*,
	sp_core::H256,
};

/// Target of this pallet's log lines.
pub const LOG_TARGET: &str = "runtime::model-registry";

// A registration is the largest call by far, and rare: a box would spare nobody anything.
#[allow(clippy::large_enum_variant)]
#[frame_support::pallet]
pub mod pallet {
	use super::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	#[pallet::config]
	pub trait Config:
		polkadot_sdk::frame_system::Config<RuntimeEvent: From<Event<Self>>, Hash = H256>
	{
		/// Where deposits are held.
		type Currency: Inspect<Self::AccountId>
			+ MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;

		/// The runtime's hold reason.
		type RuntimeHoldReason: From<HoldReason>;

		/// Deposit for a model, whatever its size.
		#[pallet::constant]
		type DepositBase: Get<BalanceOf<Self>>;

		/// Deposit for each byte of a model's encoded description.
		#[pallet::constant]
		type DepositPerByte: Get<BalanceOf<Self>>;

		/// Validators that must serve a model before it takes requests. It may depend on how many there are: a developer's chain has
		/// one.
		type MinServing: Get<u32>;

		/// Most validators that serve one model.
		#[pallet::constant]
		type MaxServing: Get<u32>;

		/// Blocks for which a validator that has proven nothing keeps its place when as many serve a model as may.
		#[pallet::constant]
		type ServingGrace: Get<BlockNumberFor<Self>>;

		/// Most models that one validator serves.
		#[pallet::constant]
		type MaxServed: Get<u32>;

		/// Most models on chain.
		#[pallet::constant]
		type MaxModels: Get<u32>;

		/// Blocks from its deprecation to a model's removal: answers that it gave outside of requests can be measured again as long.
		#[pallet::constant]
		type RemovalDelay: Get<BlockNumberFor<Self>>;

		/// Weights of the calls.
		type WeightInfo: WeightInfo;
	}

	/// Why money is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// Deposit of a registered model, returned when it is removed.
		ModelDeposit,
	}

	/// Registered models. Keys are hashes of manifests, which their authors choose freely up to the cost of hashing: a
	/// cryptographic hasher keeps the trie balanced.
	#[pallet::storage]
	pub type Models<T: Config> =
		CountedStorageMap<_, Blake2_128Concat, ModelId, ModelDetails<T::AccountId, BalanceOf<T>>>;

	/// Since when deprecated models are.
	#[pallet::storage]
	pub type DeprecatedAt<T: Config> = StorageMap<_, Blake2_128Concat, ModelId, BlockNumberFor<T>>;

	/// Validators that serve a model, in the order in which they began.
	#[pallet::storage]
	pub type Serving<T: Config> = StorageMap<
		_,
		Blake2_128Concat,
		ModelId,
		BoundedVec<Server<T::AccountId, BlockNumberFor<T>>, T::MaxServing>,
		ValueQuery,
	>;

	/// Validators that compute something else for a model's reference input, the first of them.
	#[pallet::storage]
	pub type Differing<T: Config> = StorageMap<
		_,
		Blake2_128Concat,
		ModelId,
		BoundedVec<T::AccountId, T::MaxServing>,
		ValueQuery,
	>;

	/// Models that a validator serves. Accounts of validators cost a stake: a fast hasher will do.
	#[pallet::storage]
	pub type ServedBy<T: Config> =
		StorageMap<_, Twox64Concat, T::AccountId, BoundedVec<ModelId, T::MaxServed>, ValueQuery>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(crate) fn deposit_event)]
	pub enum Event<T: Config> {
		/// A model was registered.
		ModelRegistered {
			model: ModelId,
			owner: T::AccountId,
			deposit: BalanceOf<T>,
		},
		/// A model's price changed; open requests keep theirs.
		PriceChanged {
			model: ModelId,
			price: Price<BalanceOf<T>>,
		},
		/// Enough validators serve the model: it takes requests.
		ModelActive { model: ModelId },
		/// Too few validators serve the model: it takes no requests.
		ModelInactive { model: ModelId },
		/// The owner withdrew the model: it takes no requests, and open ones are finished.
		ModelDeprecated { model: ModelId },
		/// The model is gone and its deposit returned.
		ModelRemoved { model: ModelId },
		/// A validator serves the model.
		ServingStarted {
			model: ModelId,
			validator: T::AccountId,
		},
		/// A validator that had proven nothing has given its place to another.
		ServingDisplaced {
			model: ModelId,
			validator: T::AccountId,
		},
		/// A validator was late, and counts as slower than it said.
		SpeedCorrected {
			model: ModelId,
			validator: T::AccountId,
			speed: Speed,
		},
		/// A validator serves the model no longer.
		ServingStopped {
			model: ModelId,
			validator: T::AccountId,
		},
		/// A validator cannot serve the model: it computed this for the reference input, and the model's policy does not accept it.
		ReferenceDiffers {
			model: ModelId,
			validator: T::AccountId,
			evidence: Evidence,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// A model with this manifest is registered already.
		AlreadyRegistered,
		/// As many models are registered as the chain takes.
		TooManyModels,
		/// No model with this manifest is registered.
		UnknownModel,
		/// Only the account that registered the model may do this.
		NotOwner,
		/// The name is empty or not UTF-8.
		BadName,
		/// A limit or a time limit is zero or more than the chain can carry.
		BadLimits,
		/// Zero positions or verifiers, more values than evidence holds, too fine a step, bounds of the exact class that are
		/// not zero, or fraud bounds within the accept bounds.
		BadPolicy,
		/// A tensor model needs a signature; other tasks have none.
		BadSignature,
		/// The reference evidence is of another kind than the numeric class asks for.
		BadReference,
		/// The model was deprecated already.
		AlreadyDeprecated,
		/// Deprecate the model before removing it.
		NotDeprecated,
		/// Requests for the model are still open, or were settled not long ago and can be looked at again: try again when the last of
		/// them is forgotten.
		RequestsOpen,
		/// The model was deprecated not long ago, and what it answered outside of requests can still be measured again: try again later.
		DeprecatedTooRecently,
		/// The validator serves the model already.
		AlreadyServing,
		/// The validator does not serve the model.
		NotServing,
		/// As many validators serve the model as the chain takes, and none of them has had its time without proving that it can.
		TooManyServing,
		/// The validator serves as many models as the chain takes.
		TooManyServed,
		/// A pace of less than 10 or more than 4,000 thousandths, or duties of more than half a block each.
		BadSpeed,
		/// The evidence is not what the model's policy accepts for its reference input.
		ReferenceNotReproduced,
		/// The evidence is what the model's policy accepts for its reference input: serve the model with it.
		ReferenceReproduced,
		/// The validator has said so already, or enough others have.
		AlreadyDiffering,
		/// The advice on sampling has a value that no request may have, or is for a model that generates no text.
		BadSampling,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		#[cfg(feature = "try-runtime")]
		fn try_state(
			_n: BlockNumberFor<T>,
		) -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
			Self::do_try_state()
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Registers a model.
		///
		/// - **Origin**: signed; the account becomes the owner, and a deposit is held from it.
		/// - `model`: hash of the manifest. - `spec`: what the manifest says ([`ModelSpec`]); validators compare the two before
		///   they serve. - `price`: what an inference costs.
		/// - **Errors**: `AlreadyRegistered`, `TooManyModels`, `BadName`, `BadLimits`, `BadPolicy`, `BadSignature`,
		///   `BadReference`, `BadSampling`, and the currency's when the deposit is not there.
		/// - **Emits** `ModelRegistered`.
		#[pallet::call_index(0)]
		#[pallet::weight(T::WeightInfo::register())]
		pub fn register(
			origin: OriginFor<T>,
			model: ModelId,
			spec: ModelSpec,
			price: Price<BalanceOf<T>>,
		) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_register(owner, model, spec, price)
		}

		/// Changes a model's price. Requests that are open keep the price at which they were asked.
		///
		/// - **Origin**: signed by the owner.
		/// - **Errors**: `UnknownModel`, `NotOwner`. **Emits** `PriceChanged`.
		#[pallet::call_index(1)]
		#[pallet::weight(T::WeightInfo::set_price())]
		pub fn set_price(
			origin: OriginFor<T>,
			model: ModelId,
			price: Price<BalanceOf<T>>,
		) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::mutate_owned(&owner, model, |details| {
				details.price = price;
				Ok(())
			})?;
			Self::deposit_event(Event::PriceChanged { model, price });
			Ok(())
		}

		/// Withdraws a model: no new requests are taken, open ones are finished.
		///
		/// - **Origin**: signed by the owner.
		/// - **Errors**: `UnknownModel`, `NotOwner`, `AlreadyDeprecated`. **Emits** `ModelDeprecated`.
		#[pallet::call_index(2)]
		#[pallet::weight(T::WeightInfo::deprecate())]
		pub fn deprecate(origin: OriginFor<T>, model: ModelId) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::mutate_owned(&owner, model, |details| {
				ensure!(
					details.status != ModelStatus::Deprecated,
					Error::<T>::AlreadyDeprecated
				);
				details.status = ModelStatus::Deprecated;
				Ok(())
			})?;
			DeprecatedAt::<T>::insert(
				model,
				polkadot_sdk::frame_system::Pallet::<T>::block_number(),
			);
			Self::deposit_event(Event::ModelDeprecated { model });
			Ok(())
		}

		/// Removes a deprecated model that no open request needs, and returns the deposit.
		///
		/// - **Origin**: signed by the owner.
		/// - **Errors**: `UnknownModel`, `NotOwner`, `NotDeprecated`, `DeprecatedTooRecently`, `RequestsOpen`. **Emits** `ModelRemoved`.
		#[pallet::call_index(3)]
		#[pallet::weight(T::WeightInfo::remove(T::MaxServing::get()))]
		pub fn remove(origin: OriginFor<T>, model: ModelId) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Self::do_remove(owner, model)
		}
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// A model with its price, status and who serves it.
		pub fn get_model(model: ModelId) -> Option<ModelView<T::AccountId, BalanceOf<T>>> {
			Self::model(model)
		}

		/// Up to `limit` models, at most 256, after the one given, in the order of their keys in storage.
		pub fn get_models(
			after: Option<ModelId>,
			limit: u32,
		) -> Vec<ModelView<T::AccountId, BalanceOf<T>>> {
			Self::models(after, limit)
		}

		/// Models that a validator serves.
		pub fn served_by(validator: T::AccountId) -> Vec<ModelId> {
			ServedBy::<T>::get(validator).into_inner()
		}
	}

	impl<T: Config> Pallet<T> {
		/// Returns an owner's deposit.
		pub(crate) fn release_deposit(
			owner: &T::AccountId,
			deposit: BalanceOf<T>,
		) -> Result<BalanceOf<T>, DispatchError> {
			T::Currency::release(
				&HoldReason::ModelDeposit.into(),
				owner,
				deposit,
				Precision::BestEffort,
			)
		}
	}
}
