//! Weights of `pallet_judge`, in the form in which `scripts/weights` writes them.
//!
//! **Not measured yet**: the pallet is in no runtime that could be measured, and has no benchmarks. Reads and writes are counted. Times are
//! bounds: what `choose` hashes and computes takes a fifth of that in WebAssembly (docs/adr/0032-the-last-judge.md).

#![cfg_attr(rustfmt, rustfmt_skip)]
#![allow(unused_parens, unused_imports, clippy::unnecessary_cast)]

use core::marker::PhantomData;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of `pallet_judge`.
pub trait WeightInfo {
	/// Of the call `stand`.
	fn stand() -> Weight;
	/// Of the call `doubt`.
	fn doubt() -> Weight;
	/// Of the call `reply`.
	fn reply() -> Weight;
	/// Of the call `choose`.
	fn choose() -> Weight;
	/// Of the call `late`.
	fn late() -> Weight;
	/// Of the call `lapse`.
	fn lapse() -> Weight;
	/// Of the call `close`.
	fn close() -> Weight;
	/// Of the call `clear`.
	fn clear() -> Weight;
	/// Of a block in which nothing ends.
	fn hooks() -> Weight;
	/// Of a step that a block does to end a dispute.
	fn step() -> Weight;
}

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	/// A dispute, sixteen games that are taken over, a bond.
	fn stand() -> Weight {
		Weight::from_parts(2_000_000_000, 200_000)
			.saturating_add(T::DbWeight::get().reads(36_u64))
			.saturating_add(T::DbWeight::get().writes(22_u64))
	}
	/// A dispute, a game, a bond.
	fn doubt() -> Weight {
		Weight::from_parts(300_000_000, 50_000)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	/// A dispute, a game, 256 hashes.
	fn reply() -> Weight {
		Weight::from_parts(2_000_000_000, 50_000)
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// A dispute, sixteen games that are taken over or sixteen bonds that are lost, and 2,048 terms.
	fn choose() -> Weight {
		Weight::from_parts(50_000_000_000, 300_000)
			.saturating_add(T::DbWeight::get().reads(70_u64))
			.saturating_add(T::DbWeight::get().writes(70_u64))
	}
	/// A dispute, sixteen games that are taken over, two accounts.
	fn late() -> Weight {
		Weight::from_parts(1_000_000_000, 200_000)
			.saturating_add(T::DbWeight::get().reads(40_u64))
			.saturating_add(T::DbWeight::get().writes(24_u64))
	}
	/// A dispute.
	fn lapse() -> Weight {
		Weight::from_parts(100_000_000, 50_000)
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// A dispute, and whether it has games.
	fn close() -> Weight {
		Weight::from_parts(200_000_000, 100_000)
			.saturating_add(T::DbWeight::get().reads(18_u64))
			.saturating_add(T::DbWeight::get().writes(2_u64))
	}
	/// A dispute, sixteen games and sixteen bonds, and their accounts.
	fn clear() -> Weight {
		Weight::from_parts(3_000_000_000, 400_000)
			.saturating_add(T::DbWeight::get().reads(120_u64))
			.saturating_add(T::DbWeight::get().writes(100_u64))
	}
	/// Whether something ends.
	fn hooks() -> Weight {
		Weight::from_parts(10_000_000, 10_000).saturating_add(T::DbWeight::get().reads(2_u64))
	}
	/// A dispute, sixteen games and sixteen bonds, and their accounts.
	fn step() -> Weight {
		Weight::from_parts(3_000_000_000, 400_000)
			.saturating_add(T::DbWeight::get().reads(120_u64))
			.saturating_add(T::DbWeight::get().writes(100_u64))
	}
}
