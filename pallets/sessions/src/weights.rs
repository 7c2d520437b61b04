//! Weights of `pallet_sessions`, **by hand**: counted after those of `pallet_inference` that do alike, until the benchmarks have run.
//!
//! A signature (sr25519) is counted with 60 microseconds, a hash with 1 and another for each 500 bytes, a transfer on hold with 60; proof
//! sizes are those of the values that are read at most.

#![allow(clippy::unnecessary_cast)]

use core::marker::PhantomData;
use polkadot_sdk::{
	frame_support::{traits::Get, weights::Weight},
	frame_system,
};

/// Weights of `pallet_sessions`.
pub trait WeightInfo {
	/// What the benchmark `open` measures.
	fn open() -> Weight;
	/// What the benchmark `raise` measures.
	fn raise() -> Weight;
	/// What the benchmark `lower` measures: with a payee's leave.
	fn lower() -> Weight;
	/// What the benchmark `close` measures.
	fn close() -> Weight;
	/// What the benchmark `withdraw` measures: of a channel with so many checkers.
	fn withdraw(c: u32) -> Weight;
	/// What the benchmark `certify` measures.
	fn certify() -> Weight;
	/// What the benchmark `authorize_certify` measures.
	fn authorize_certify() -> Weight;
	/// What the benchmark `settle` measures: of so many claims.
	fn settle(n: u32) -> Weight;
	/// What the benchmark `authorize_settle` measures.
	fn authorize_settle(n: u32) -> Weight;
	/// What the benchmark `open_receipt` measures: of so many bytes.
	fn open_receipt(b: u32) -> Weight;
	/// What the benchmark `authorize_open_receipt` measures.
	fn authorize_open_receipt(b: u32) -> Weight;
	/// What the benchmark `appeal` measures: of so many bytes, against a receipt of a claim.
	fn appeal(b: u32) -> Weight;
	/// What the benchmark `testify` measures: of a word that calls a jury.
	fn testify() -> Weight;
	/// What the benchmark `authorize_testify` measures.
	fn authorize_testify() -> Weight;
	/// What the benchmark `draw` measures: the points of one claim.
	fn draw() -> Weight;
	/// What the benchmark `end_claim` measures: of one that is forfeited, which ends its channel.
	fn end_claim() -> Weight;
	/// What the benchmark `forget` measures: one certificate.
	fn forget() -> Weight;
	/// What the benchmark `hooks` measures: a block in which nothing is done.
	fn hooks() -> Weight;
}

/// Proof size of a channel.
const CHANNEL: u64 = 4_700;
/// Proof size of a claim.
const CLAIM: u64 = 3_600;
/// Proof size of an account, or what is held from it.
const ACCOUNT: u64 = 2_640;
/// Proof size of a certificate.
const CERTIFICATE: u64 = 3_000;
/// Proof size of what is small.
const SMALL: u64 = 2_560;
/// Proof size of the session's keys.
const KEYS: u64 = 23_000;
/// Proof size of a model.
const MODEL: u64 = 4_160;

/// Proof size of what was heard of an answer.
const TESTIMONIES: u64 = 3_900;
/// Proof size of a jury.
const JURY: u64 = 60_000;

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	fn open() -> Weight {
		Weight::from_parts(120_000_000, CHANNEL + 2 * ACCOUNT + 4 * SMALL)
			.saturating_add(T::DbWeight::get().reads(6_u64))
			.saturating_add(T::DbWeight::get().writes(8_u64))
	}
	fn raise() -> Weight {
		Weight::from_parts(90_000_000, CHANNEL + 2 * ACCOUNT)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	fn lower() -> Weight {
		Weight::from_parts(340_000_000, CHANNEL + 2 * ACCOUNT + CERTIFICATE)
			.saturating_add(T::DbWeight::get().reads(5_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	fn close() -> Weight {
		Weight::from_parts(30_000_000, CHANNEL)
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	fn withdraw(c: u32) -> Weight {
		Weight::from_parts(90_000_000, CHANNEL + 2 * ACCOUNT + SMALL)
			.saturating_add(Weight::from_parts(2_000_000, SMALL).saturating_mul(c.into()))
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().reads(c.into()))
			.saturating_add(T::DbWeight::get().writes(4_u64))
			.saturating_add(T::DbWeight::get().writes(c.into()))
	}
	fn certify() -> Weight {
		Weight::from_parts(50_000_000, KEYS + CERTIFICATE)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	fn authorize_certify() -> Weight {
		Weight::from_parts(110_000_000, KEYS + CERTIFICATE)
			.saturating_add(T::DbWeight::get().reads(4_u64))
	}
	fn settle(n: u32) -> Weight {
		let each = Weight::from_parts(75_000_000, CHANNEL + 2 * ACCOUNT + 6 * SMALL)
			.saturating_add(T::DbWeight::get().reads(9_u64))
			.saturating_add(T::DbWeight::get().writes(11_u64));
		Weight::from_parts(20_000_000, SMALL)
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(each.saturating_mul(n.into()))
	}
	fn authorize_settle(n: u32) -> Weight {
		// The voucher, and each of the lane keys that the payee may have had.
		let each = Weight::from_parts(335_000_000, CHANNEL + CERTIFICATE + 2 * SMALL)
			.saturating_add(T::DbWeight::get().reads(5_u64));
		Weight::from_parts(20_000_000, SMALL)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(each.saturating_mul(n.into()))
	}
	fn open_receipt(b: u32) -> Weight {
		// What `pallet_inference` does for a request, and a hash over every token.
		Weight::from_parts(6_000_000_000, CHANNEL + CLAIM + MODEL + 8 * SMALL)
			.saturating_add(Weight::from_parts(12_000, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(18_u64))
			.saturating_add(T::DbWeight::get().writes(18_u64))
	}
	fn authorize_open_receipt(b: u32) -> Weight {
		Weight::from_parts(
			6_000_000_000,
			CHANNEL + CLAIM + MODEL + CERTIFICATE + 3 * SMALL,
		)
		.saturating_add(Weight::from_parts(12_000, 0).saturating_mul(b.into()))
		.saturating_add(T::DbWeight::get().reads(9_u64))
	}
	fn appeal(b: u32) -> Weight {
		// An opening with its signatures, and a jury that is called with a bond.
		Weight::from_parts(
			12_500_000_000,
			CHANNEL + CLAIM + MODEL + CERTIFICATE + KEYS + 2 * ACCOUNT + 14 * SMALL,
		)
		.saturating_add(Weight::from_parts(24_000, 0).saturating_mul(b.into()))
		.saturating_add(T::DbWeight::get().reads(28_u64))
		.saturating_add(T::DbWeight::get().writes(24_u64))
	}
	fn testify() -> Weight {
		// A jury may be called, or a ruling begun.
		Weight::from_parts(250_000_000, TESTIMONIES + JURY + MODEL + KEYS + 12 * SMALL)
			.saturating_add(T::DbWeight::get().reads(20_u64))
			.saturating_add(T::DbWeight::get().writes(16_u64))
	}
	fn authorize_testify() -> Weight {
		// Each of the lane keys that the checker may have had.
		Weight::from_parts(320_000_000, TESTIMONIES + CERTIFICATE + MODEL + 6 * SMALL)
			.saturating_add(T::DbWeight::get().reads(9_u64))
	}
	fn draw() -> Weight {
		Weight::from_parts(60_000_000, CLAIM + 2 * SMALL)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	fn end_claim() -> Weight {
		Weight::from_parts(350_000_000, CHANNEL + CLAIM + 5 * ACCOUNT + 45 * SMALL)
			.saturating_add(T::DbWeight::get().reads(54_u64))
			.saturating_add(T::DbWeight::get().writes(57_u64))
	}
	fn forget() -> Weight {
		Weight::from_parts(2_000_000, CERTIFICATE)
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	fn hooks() -> Weight {
		Weight::from_parts(30_000_000, 6 * SMALL)
			.saturating_add(T::DbWeight::get().reads(7_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
}
