//! Weights of calls, statements and hooks.
//!
//! These are upper bounds counted by hand until `scripts/weights` has run on a quiet machine and written this file anew:
//! database accesses are those of the longest path through each piece of code, priced by the runtime's own `DbWeight`;
//! execution time allows 10 µs for every access and 5 ns for every byte.

use consilience_primitives::tensor::{MAX_TENSORS, MAX_TENSOR_BYTES};
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of calls, statements and hooks.
pub trait WeightInfo {
	/// `request` with an input of so many bytes.
	fn request(bytes: u32) -> Weight;
	/// `cancel`.
	fn cancel() -> Weight;
	/// `report` of so many bytes; its statements are counted one by one.
	fn report(bytes: u32) -> Weight;
	/// Authorisation of a report of so many bytes; its statements are counted by [`WeightInfo::check`].
	fn authorize_report(bytes: u32) -> Weight;
	/// Whether a statement is due.
	fn check() -> Weight;
	/// Beginning to serve a model.
	fn serve() -> Weight;
	/// Ceasing to serve a model.
	fn withdraw() -> Weight;
	/// An answer, or the commitment to one.
	fn answer() -> Weight;
	/// A commitment to evidence.
	fn commit() -> Weight;
	/// Evidence, or a committed output.
	fn reveal() -> Weight;
	/// Comparing the evidence of a committee of so many members, and paying it; its output is counted by
	/// [`WeightInfo::read_output`].
	fn settle(members: u32) -> Weight;
	/// Comparing the evidence of a jury of so many members, and ending the dispute; the output is counted by
	/// [`WeightInfo::read_output`].
	fn judge(jurors: u32) -> Weight;
	/// Reading an output of so many bytes, and taking its evidence.
	fn read_output(bytes: u32) -> Weight;
	/// One late jury, which judges without those who are late.
	fn late_jury() -> Weight;
	/// One late request: the executor of a full round is replaced.
	fn late() -> Weight;
	/// Forgetting one settled request.
	fn prune() -> Weight;
	/// Drawing one executor.
	fn draw_executor() -> Weight;
	/// Drawing the verifiers of one request, as many as can be asked for.
	fn draw_verifiers() -> Weight;
	/// Drawing one jury.
	fn draw_jury() -> Weight;
	/// `appeal`.
	fn appeal() -> Weight;
	/// `set_parameters`.
	fn set_parameters() -> Weight;
	/// One offence handed to staking.
	fn offence() -> Weight;
	/// One callback, what it does itself not counted.
	fn call_back() -> Weight;
	/// The hooks of a block in which nothing happens.
	fn hooks() -> Weight;
}

/// Weights for a Substrate runtime.
pub struct SubstrateWeight<T>(core::marker::PhantomData<T>);

/// Blocks that may be full where a place for a deadline is looked for, beyond the first: `MaxOpen` over `MaxPerBlock` of the
/// runtime.
const SEARCH: u64 = 16;

/// Executor and verifiers of the largest committee.
const COMMITTEE: u64 = 16;

/// The largest jury of the runtime.
const JURORS: u32 = 32;

/// Bytes of the largest output.
const LARGEST_OUTPUT: u32 = MAX_TENSORS * MAX_TENSOR_BYTES;

/// So many reads and writes, and bytes to hash, copy or compare.
fn counted<T: frame_system::Config>(reads: u64, writes: u64, bytes: u32) -> Weight {
	let accesses = reads.saturating_add(writes);
	Weight::from_parts(10_000_000, 4_000)
		.saturating_mul(accesses)
		.saturating_add(Weight::from_parts(5_000, 1).saturating_mul(bytes.into()))
		.saturating_add(T::DbWeight::get().reads_writes(reads, writes))
}

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	fn request(bytes: u32) -> Weight {
		counted::<T>(10 + SEARCH, 12, bytes)
	}

	fn cancel() -> Weight {
		counted::<T>(12, 13, 0)
	}

	fn report(bytes: u32) -> Weight {
		counted::<T>(2, 1, bytes)
	}

	fn authorize_report(bytes: u32) -> Weight {
		// The signature beside what is counted.
		Weight::from_parts(100_000_000, 0).saturating_add(counted::<T>(4, 0, bytes))
	}

	fn check() -> Weight {
		counted::<T>(4, 0, 0)
	}

	fn serve() -> Weight {
		counted::<T>(4, 3, 0)
	}

	fn withdraw() -> Weight {
		counted::<T>(4, 3, 0)
	}

	fn answer() -> Weight {
		counted::<T>(6 + SEARCH, 6, 0)
	}

	fn commit() -> Weight {
		counted::<T>(5 + SEARCH, 5, 0)
	}

	fn reveal() -> Weight {
		counted::<T>(5, 2, 0)
	}

	fn settle(members: u32) -> Weight {
		// Paid, or sent to a jury.
		counted::<T>(14 + SEARCH, 14, 0)
			.saturating_add(counted::<T>(4, 4, 2_000).saturating_mul(members.into()))
	}

	fn late() -> Weight {
		// The committee is replaced, and each of it may stop serving and be reported.
		counted::<T>(40 + SEARCH, 42, 0)
			.saturating_add(counted::<T>(9, 9, 2_000).saturating_mul(COMMITTEE))
	}

	fn judge(jurors: u32) -> Weight {
		// Each of the committee is held against the whole jury, and each of both may stop serving and be reported.
		let blamed =
			counted::<T>(9, 9, 2_000).saturating_mul(u64::from(jurors).saturating_add(COMMITTEE));
		counted::<T>(14, 14, 0)
			.saturating_add(blamed)
			.saturating_add(Weight::from_parts(100_000_000, 0).saturating_mul(jurors.into()))
	}

	fn read_output(bytes: u32) -> Weight {
		// The sketch of half-precision numbers: 17.5 ns a byte as WebAssembly, measured beside other work.
		counted::<T>(1, 0, bytes)
			.saturating_add(Weight::from_parts(15_000, 0).saturating_mul(bytes.into()))
	}

	fn late_jury() -> Weight {
		counted::<T>(10 + SEARCH, 10, 0)
			.saturating_add(Self::judge(JURORS))
			.saturating_add(Self::read_output(LARGEST_OUTPUT))
	}

	fn prune() -> Weight {
		counted::<T>(4, 6, 0)
	}

	fn draw_executor() -> Weight {
		counted::<T>(72 + SEARCH, 6, 0)
	}

	fn draw_verifiers() -> Weight {
		counted::<T>(72 + SEARCH, 22, 0)
	}

	fn draw_jury() -> Weight {
		counted::<T>(72 + SEARCH, 40, 0)
	}

	fn appeal() -> Weight {
		counted::<T>(80 + SEARCH, 24, 0)
	}

	fn set_parameters() -> Weight {
		counted::<T>(0, 1, 0)
	}

	fn offence() -> Weight {
		// Staking reads every page of nominators behind the offender, and disables.
		counted::<T>(60, 40, 20_000)
	}

	fn call_back() -> Weight {
		counted::<T>(3, 1, 0)
	}

	fn hooks() -> Weight {
		counted::<T>(6, 3, 0)
	}
}
