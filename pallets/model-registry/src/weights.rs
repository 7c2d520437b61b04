//! Weights of the calls.
//!
//! These are upper bounds counted by hand until `scripts/weights` has run on a quiet machine and written this file anew:
//! database accesses are those of the longest path, priced by the runtime's own
//! [`RuntimeDbWeight`](frame_support::weights::RuntimeDbWeight).

use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of the calls.
pub trait WeightInfo {
	/// `register`.
	fn register() -> Weight;
	/// `set_price`.
	fn set_price() -> Weight;
	/// `deprecate`.
	fn deprecate() -> Weight;
	/// `remove`, of a model that `n` validators serve.
	fn remove(n: u32) -> Weight;
}

/// Weights for a Substrate runtime.
pub struct SubstrateWeight<T>(core::marker::PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	fn register() -> Weight {
		Weight::from_parts(500_000_000, 12_000)
			.saturating_add(T::DbWeight::get().reads_writes(5, 5))
	}

	fn set_price() -> Weight {
		Weight::from_parts(200_000_000, 8_000).saturating_add(T::DbWeight::get().reads_writes(1, 1))
	}

	fn deprecate() -> Weight {
		Weight::from_parts(200_000_000, 8_000).saturating_add(T::DbWeight::get().reads_writes(1, 1))
	}

	fn remove(n: u32) -> Weight {
		Weight::from_parts(500_000_000, 20_000)
			.saturating_add(Weight::from_parts(100_000_000, 4_000).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads_writes(6, 6))
			.saturating_add(
				T::DbWeight::get()
					.reads_writes(1, 1)
					.saturating_mul(n.into()),
			)
	}
}
