//! Weights of `pallet_model_registry`, written by `scripts/weights`. Do not change them by hand.
//!
//! Measured on 2026-11-25 on AMD EPYC, steps 10, repeats 10, with version 0.1.0 of the benchmark
//! command.

#![cfg_attr(rustfmt, rustfmt_skip)]
#![allow(unused_parens, unused_imports, clippy::unnecessary_cast)]

use core::marker::PhantomData;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of `pallet_model_registry`.
pub trait WeightInfo {
	/// What the benchmark `register` measures.
	fn register() -> Weight;
	/// What the benchmark `set_price` measures.
	fn set_price() -> Weight;
	/// What the benchmark `deprecate` measures.
	fn deprecate() -> Weight;
	/// What the benchmark `remove` measures.
	fn remove(n: u32, ) -> Weight;
}

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::CounterForModels` (r:1 w:1)
	/// Proof: `ModelRegistry::CounterForModels` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:1 w:1)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	fn register() -> Weight {
		// Proof size in bytes:
		//  measured:  `265`
		//  estimated: `5149`
		// Shortest time: 70_434_000 picoseconds.
		Weight::from_parts(78_967_000, 5149)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	fn set_price() -> Weight {
		// Proof size in bytes:
		//  measured:  `1503`
		//  estimated: `5149`
		// Shortest time: 19_909_000 picoseconds.
		Weight::from_parts(21_853_000, 5149)
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	fn deprecate() -> Weight {
		// Proof size in bytes:
		//  measured:  `1503`
		//  estimated: `5149`
		// Shortest time: 20_040_000 picoseconds.
		Weight::from_parts(20_610_000, 5149)
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
			// Counted by hand until the benchmark has run again: since when it is deprecated.
			.saturating_add(T::DbWeight::get().reads_writes(1_u64, 1_u64))
	}
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:1 w:1)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:64 w:64)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::CounterForModels` (r:1 w:1)
	/// Proof: `ModelRegistry::CounterForModels` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// The range of component `n` is `[0, 64]`.
	fn remove(n: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `1891 + n * (109 ±0)`
		//  estimated: `5563 + n * (3028 ±0)`
		// Shortest time: 65_597_000 picoseconds.
		Weight::from_parts(61_175_988, 5563)
			// Standard error: 144_979
			.saturating_add(Weight::from_parts(7_641_703, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(5_u64))
			.saturating_add(T::DbWeight::get().reads((1_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(5_u64))
			.saturating_add(T::DbWeight::get().writes((1_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 3028).saturating_mul(n.into()))
			// Counted by hand until the benchmark has run again: since when it is deprecated.
			.saturating_add(T::DbWeight::get().reads_writes(1_u64, 1_u64))
	}
}
