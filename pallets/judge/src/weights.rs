//! Weights of `pallet_judge`, **by hand**: counted, until the benchmarks have run.
//!
//! A step of 2,048 terms took 11.4 ms (bytes, a zero in each factor) and 7.7 ms (squares of doubles) as WebAssembly on a shared machine
//! (docs/adr/0032-the-last-judge.md): counted with 25 and 16. A hash is counted with 1 microsecond and another for each 500 bytes, a hold
//! or a transfer on hold with 60, reading and writing what is stored with 1 a 100 bytes. Proof sizes are those of the values that are read
//! at most.

#![allow(clippy::unnecessary_cast)]

use core::marker::PhantomData;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of `pallet_judge`.
pub trait WeightInfo {
	/// What the benchmark `stand` measures: somebody goes on in all games.
	fn stand() -> Weight;
	/// What the benchmark `doubt` measures.
	fn doubt() -> Weight;
	/// What the benchmark `reply` measures.
	fn reply() -> Weight;
	/// What the benchmark `choose` measures: the step that takes longest.
	fn choose() -> Weight;
	/// What the benchmark `choose_wide` measures: the step whose proof is longest.
	fn choose_wide() -> Weight;
	/// What the benchmark `late` measures.
	fn late() -> Weight;
	/// What the benchmark `lapse` measures.
	fn lapse() -> Weight;
	/// What the benchmark `close` measures.
	fn close() -> Weight;
	/// What the benchmark `clear` measures.
	fn clear() -> Weight;
	/// What the benchmark `hooks` measures: a block in which nothing ends.
	fn hooks() -> Weight;
	/// What the benchmark `step` measures: a trace's games are cut off.
	fn step() -> Weight;
	/// What the benchmark `step_clear` measures: a trace's bonds are released.
	fn step_clear() -> Weight;
}

/// Proof size of a dispute: 32 traces, each with a line of 16 accounts.
const CASE: u64 = 22_000;
/// Proof size of a game, whose rule is as long as one may be.
const GAME: u64 = 5_600;
/// Proof size of a bond.
const BOND: u64 = 2_640;
/// Proof size of an account and what is held from it.
const ACCOUNT: u64 = 5_280;
/// Proof size of what is small.
const SMALL: u64 = 2_560;
/// Games about a trace, and those who stand for it.
const ALL: u64 = 16;

/// Microseconds, as weights count time.
const MICRO: u64 = 1_000_000;
/// Reading and writing a dispute.
const TIME_OF_CASE: u64 = 400 * MICRO;
/// Reading and writing a game, and what its rule says of dimensions.
const TIME_OF_GAME: u64 = 120 * MICRO;
/// A hold, its release, or what is moved out of it and burned.
const TIME_OF_BOND: u64 = 130 * MICRO;

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> SubstrateWeight<T> {
	/// So many games are read and written.
	fn games(n: u64) -> Weight {
		Weight::from_parts(TIME_OF_GAME, GAME)
			.saturating_add(T::DbWeight::get().reads_writes(1, 1))
			.saturating_mul(n)
	}

	/// So many bonds are held, released or lost: the bond, its account, and what is held from it.
	fn bonds(n: u64) -> Weight {
		Weight::from_parts(TIME_OF_BOND, BOND + ACCOUNT)
			.saturating_add(T::DbWeight::get().reads_writes(3, 3))
			.saturating_mul(n)
	}

	/// A dispute is read and written.
	fn case() -> Weight {
		Weight::from_parts(TIME_OF_CASE, CASE).saturating_add(T::DbWeight::get().reads_writes(1, 1))
	}

	/// Where it stands among those that end, and how many there are.
	fn places() -> Weight {
		Weight::from_parts(50 * MICRO, 4 * SMALL)
			.saturating_add(T::DbWeight::get().reads_writes(4, 4))
	}

	/// A step is judged, a game ends, and all who stand for its trace lose: one account more, to which half of that goes.
	fn judged(micros: u64) -> Weight {
		Weight::from_parts(micros.saturating_mul(MICRO), ACCOUNT)
			.saturating_add(Self::case())
			.saturating_add(Self::games(1))
			.saturating_add(Self::bonds(ALL + 1))
			.saturating_add(T::DbWeight::get().reads_writes(2, 2))
	}
}

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	fn stand() -> Weight {
		// Some fifty hashes.
		Weight::from_parts(100 * MICRO, 0)
			.saturating_add(Self::case())
			.saturating_add(Self::places())
			.saturating_add(Self::games(ALL))
			.saturating_add(Self::bonds(1))
	}
	fn doubt() -> Weight {
		Self::case()
			.saturating_add(Self::games(1))
			.saturating_add(Self::bonds(1))
	}
	fn reply() -> Weight {
		// 255 hashes, or sixteen parts of a sum.
		Weight::from_parts(500 * MICRO, 0)
			.saturating_add(Self::case())
			.saturating_add(Self::games(1))
	}
	fn choose() -> Weight {
		// It misspoke, or it is false: the one has games go on, the other has bonds lost.
		Self::judged(25_000).saturating_add(Self::games(ALL))
	}
	fn choose_wide() -> Weight {
		Self::judged(16_000).saturating_add(Self::games(ALL))
	}
	fn late() -> Weight {
		Self::case()
			.saturating_add(Self::games(ALL))
			.saturating_add(Self::bonds(2))
	}
	fn lapse() -> Weight {
		Self::case()
	}
	fn close() -> Weight {
		Self::case()
			.saturating_add(Self::places())
			.saturating_add(Self::bonds(1))
	}
	fn clear() -> Weight {
		Self::case()
			.saturating_add(Self::places())
			.saturating_add(Self::games(ALL))
			.saturating_add(Self::bonds(2 * ALL))
	}
	fn hooks() -> Weight {
		Weight::from_parts(10 * MICRO, 2 * SMALL).saturating_add(T::DbWeight::get().reads(2_u64))
	}
	fn step() -> Weight {
		Self::case()
			.saturating_add(Self::places())
			.saturating_add(Self::games(ALL))
			.saturating_add(Self::bonds(ALL + 2))
	}
	fn step_clear() -> Weight {
		Self::clear()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::mock::Test;

	/// What one step may weigh: 50 ms, of which what is stored is read and written as well.
	#[test]
	fn a_step_is_judged_in_a_fortieth_of_what_a_block_computes() {
		let most = 50_000 * MICRO;
		type Weights = SubstrateWeight<Test>;
		for weight in [
			Weights::choose(),
			Weights::choose_wide(),
			Weights::step(),
			Weights::step_clear(),
			Weights::stand(),
		] {
			assert!(weight.ref_time() <= most, "{weight:?}");
		}
	}
}
