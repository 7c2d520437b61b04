//! Weights of calls and hooks.
//!
//! Until `frame-omni-bencher` has run on a named reference machine these are upper bounds: database accesses by the runtime's own
//! `DbWeight`, and execution time at ten times what the benchmarks in `benchmarking.rs` took when they were written.

use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of calls and hooks.
pub trait WeightInfo {
	/// `request` with an input of so many bytes.
	fn request(bytes: u32) -> Weight;
	/// `cancel`.
	fn cancel() -> Weight;
	/// `report` of `n` statements and so many bytes together.
	fn report(n: u32, bytes: u32) -> Weight;
	/// Authorisation of such a report.
	fn authorize_report(n: u32, bytes: u32) -> Weight;
	/// `on_initialize` with so many deadlines and settled requests to forget.
	fn on_initialize(due: u32, pruned: u32) -> Weight;
	/// `on_finalize` with so many draws.
	fn draws(n: u32) -> Weight;
	/// `on_idle` with so many callbacks, what they do themselves not counted.
	fn callbacks(n: u32) -> Weight;
}

/// Weights for a Substrate runtime.
pub struct SubstrateWeight<T>(core::marker::PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	fn request(bytes: u32) -> Weight {
		Weight::from_parts(600_000_000, 20_000)
			.saturating_add(Weight::from_parts(2_000, 1).saturating_mul(bytes.into()))
			.saturating_add(T::DbWeight::get().reads_writes(8, 10))
	}

	fn cancel() -> Weight {
		Weight::from_parts(600_000_000, 40_000)
			.saturating_add(T::DbWeight::get().reads_writes(9, 9))
	}

	fn report(n: u32, bytes: u32) -> Weight {
		Weight::from_parts(200_000_000, 20_000)
			.saturating_add(Weight::from_parts(700_000_000, 60_000).saturating_mul(n.into()))
			.saturating_add(Weight::from_parts(3_000, 1).saturating_mul(bytes.into()))
			.saturating_add(T::DbWeight::get().reads_writes(3, 1))
			.saturating_add(
				T::DbWeight::get()
					.reads_writes(12, 12)
					.saturating_mul(n.into()),
			)
	}

	fn authorize_report(n: u32, bytes: u32) -> Weight {
		Weight::from_parts(500_000_000, 20_000)
			.saturating_add(Weight::from_parts(200_000_000, 40_000).saturating_mul(n.into()))
			.saturating_add(Weight::from_parts(3_000, 0).saturating_mul(bytes.into()))
			.saturating_add(T::DbWeight::get().reads(4))
			.saturating_add(T::DbWeight::get().reads(4).saturating_mul(n.into()))
	}

	fn on_initialize(due: u32, pruned: u32) -> Weight {
		Weight::from_parts(50_000_000, 8_000)
			.saturating_add(T::DbWeight::get().reads_writes(3, 2))
			.saturating_add(Weight::from_parts(800_000_000, 80_000).saturating_mul(due.into()))
			.saturating_add(
				T::DbWeight::get()
					.reads_writes(40, 40)
					.saturating_mul(due.into()),
			)
			.saturating_add(Weight::from_parts(50_000_000, 4_000).saturating_mul(pruned.into()))
			.saturating_add(T::DbWeight::get().writes(4).saturating_mul(pruned.into()))
	}

	fn draws(n: u32) -> Weight {
		Weight::from_parts(50_000_000, 20_000)
			.saturating_add(T::DbWeight::get().reads_writes(3, 1))
			.saturating_add(Weight::from_parts(800_000_000, 80_000).saturating_mul(n.into()))
			.saturating_add(
				T::DbWeight::get()
					.reads_writes(70, 20)
					.saturating_mul(n.into()),
			)
	}

	fn callbacks(n: u32) -> Weight {
		Weight::from_parts(50_000_000, 10_000)
			.saturating_add(T::DbWeight::get().reads_writes(1, 1))
			.saturating_add(Weight::from_parts(300_000_000, 80_000).saturating_mul(n.into()))
			.saturating_add(
				T::DbWeight::get()
					.reads_writes(2, 1)
					.saturating_mul(n.into()),
			)
	}
}

impl WeightInfo for () {
	fn request(_bytes: u32) -> Weight {
		Weight::from_parts(1, 0)
	}

	fn cancel() -> Weight {
		Weight::from_parts(1, 0)
	}

	fn report(_n: u32, _bytes: u32) -> Weight {
		Weight::from_parts(1, 0)
	}

	fn authorize_report(_n: u32, _bytes: u32) -> Weight {
		Weight::from_parts(1, 0)
	}

	fn on_initialize(_due: u32, _pruned: u32) -> Weight {
		Weight::from_parts(1, 0)
	}

	fn draws(_n: u32) -> Weight {
		Weight::from_parts(1, 0)
	}

	fn callbacks(_n: u32) -> Weight {
		Weight::from_parts(1, 0)
	}
}
