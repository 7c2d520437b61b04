//! Weights of `pallet_moderation`, in the form in which `scripts/weights` writes them.
//!
//! **Not measured yet**: the pallet is in no runtime that could be measured. Reads and writes are counted, which is most of what these
//! weigh; times are those of calls of `pallet_model_registry` that do as much, and more. A chain that takes the pallet in measures it:
//! docs/pallet-developers/README.md says how.

#![cfg_attr(rustfmt, rustfmt_skip)]
#![allow(unused_parens, unused_imports, clippy::unnecessary_cast)]

use core::marker::PhantomData;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of `pallet_moderation`.
pub trait WeightInfo {
	/// What the benchmark `propose` measures.
	fn propose(n: u32, ) -> Weight;
	/// What the benchmark `judged` measures.
	fn judged() -> Weight;
	/// What the benchmark `withdraw` measures.
	fn withdraw() -> Weight;
	/// What the benchmark `clear` measures.
	fn clear() -> Weight;
	/// What the benchmark `set_policy` measures.
	fn set_policy() -> Weight;
}

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	/// Storage: `Moderation::Policy` (r:1 w:0)
	/// Storage: `Moderation::Proposals` (r:1 w:1)
	/// Storage: `System::Account` (r:1 w:1)
	/// Storage: `Balances::Holds` (r:1 w:1)
	fn propose(n: u32, ) -> Weight {
		Weight::from_parts(100_000_000, 24_000)
			.saturating_add(Weight::from_parts(5_000, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Moderation::Proposals` (r:1 w:1)
	/// Storage: `Moderation::Notes` (r:1 w:1)
	/// Storage: `System::Account` (r:1 w:1)
	/// Storage: `Balances::Holds` (r:1 w:1)
	fn judged() -> Weight {
		Weight::from_parts(150_000_000, 40_000)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	/// Storage: `Moderation::Proposals` (r:1 w:0)
	/// Storage: `Moderation::Notes` (r:1 w:1)
	/// Storage: `System::Account` (r:1 w:1)
	/// Storage: `Balances::Holds` (r:1 w:1)
	fn withdraw() -> Weight {
		Weight::from_parts(100_000_000, 40_000)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Moderation::Notes` (r:1 w:1)
	/// Storage: `System::Account` (r:1 w:1)
	/// Storage: `Balances::Holds` (r:1 w:1)
	fn clear() -> Weight {
		Weight::from_parts(80_000_000, 24_000)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Moderation::Policy` (r:0 w:1)
	fn set_policy() -> Weight {
		Weight::from_parts(20_000_000, 0)
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
}
