//! Weights of `pallet_inference`, written by `scripts/weights`. Do not change them by hand.
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

/// Weights of `pallet_inference`.
pub trait WeightInfo {
	/// What the benchmark `request` measures.
	fn request(b: u32, ) -> Weight;
	/// What the benchmark `request_with_data` measures.
	fn request_with_data(b: u32, ) -> Weight;
	/// What the benchmark `cancel` measures.
	fn cancel() -> Weight;
	/// What the benchmark `report` measures.
	fn report(b: u32, ) -> Weight;
	/// What the benchmark `authorize_report` measures.
	fn authorize_report(b: u32, ) -> Weight;
	/// What the benchmark `authorize_contribution` measures.
	fn authorize_contribution() -> Weight;
	/// What the benchmark `contribute` measures.
	fn contribute() -> Weight;
	/// What the benchmark `check` measures.
	fn check() -> Weight;
	/// What the benchmark `check_answer` measures.
	fn check_answer() -> Weight;
	/// What the benchmark `check_member` measures.
	fn check_member(m: u32, ) -> Weight;
	/// What the benchmark `serve` measures.
	fn serve() -> Weight;
	/// What the benchmark `withdraw` measures.
	fn withdraw() -> Weight;
	/// What the benchmark `answer` measures.
	fn answer() -> Weight;
	/// What the benchmark `commit` measures.
	fn commit(m: u32, ) -> Weight;
	/// What the benchmark `commit_juror` measures.
	fn commit_juror() -> Weight;
	/// What the benchmark `reveal` measures.
	fn reveal(m: u32, ) -> Weight;
	/// What the benchmark `reveal_juror` measures.
	fn reveal_juror() -> Weight;
	/// What the benchmark `settle` measures.
	fn settle(m: u32, ) -> Weight;
	/// What the benchmark `judge` measures.
	fn judge(j: u32, ) -> Weight;
	/// What the benchmark `read_output` measures.
	fn read_output(b: u32, ) -> Weight;
	/// What the benchmark `late` measures.
	fn late() -> Weight;
	/// What the benchmark `late_jury` measures.
	fn late_jury() -> Weight;
	/// What the benchmark `prune` measures.
	fn prune() -> Weight;
	/// What the benchmark `draw_executor` measures.
	fn draw_executor() -> Weight;
	/// What the benchmark `draw_verifiers` measures.
	fn draw_verifiers(v: u32, ) -> Weight;
	/// What the benchmark `pass_audit` measures.
	fn pass_audit() -> Weight;
	/// What the benchmark `draw_jury` measures.
	fn draw_jury() -> Weight;
	/// What the benchmark `appeal` measures.
	fn appeal() -> Weight;
	/// What the benchmark `contest` measures.
	fn contest() -> Weight;
	/// What the benchmark `ruling` measures: staking is to hear of all that one accuses.
	fn ruling() -> Weight;
	/// What the benchmark `claim` measures: what is owed for one request.
	fn claim() -> Weight;
	/// What the benchmark `refute` measures: an answer for which as many as can be have vouched is proven false.
	fn refute() -> Weight;
	/// What the benchmark `set_parameters` measures.
	fn set_parameters() -> Weight;
	/// What the benchmark `lift_suspension` measures.
	fn lift_suspension() -> Weight;
	/// What the benchmark `offence` measures.
	fn offence() -> Weight;
	/// What the benchmark `call_back` measures.
	fn call_back() -> Weight;
	/// What the benchmark `hooks` measures.
	fn hooks() -> Weight;
}

/// Weights with the runtime's own database.
pub struct SubstrateWeight<T>(PhantomData<T>);

impl<T: frame_system::Config> WeightInfo for SubstrateWeight<T> {
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Open` (r:1 w:1)
	/// Proof: `Inference::Open` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OpenOf` (r:1 w:1)
	/// Proof: `Inference::OpenOf` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:1 w:1)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `Inference::NextRequest` (r:1 w:1)
	/// Proof: `Inference::NextRequest` (`max_values`: Some(1), `max_size`: Some(8), added: 503, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Inputs` (r:0 w:1)
	/// Proof: `Inference::Inputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:0 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// The range of component `b` is `[1, 32768]`.
	fn request(b: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `14746`
		//  estimated: `55008`
		// Shortest time: 204_203_000 picoseconds.
		Weight::from_parts(223_629_932, 55008)
			// Standard error: 369
			.saturating_add(Weight::from_parts(1_509, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(25_u64))
			.saturating_add(T::DbWeight::get().writes(11_u64))
	}
	/// Not measured yet: as `request`, and hashing, comparing and looking at so many bytes.
	/// The range of component `b` is `[4, 3145728]`.
	fn request_with_data(b: u32, ) -> Weight {
		Weight::from_parts(273_629_932, 55008)
			.saturating_add(Weight::from_parts(8_000, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(27_u64))
			.saturating_add(T::DbWeight::get().writes(12_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:1 w:1)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:0)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:1 w:1)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Open` (r:1 w:1)
	/// Proof: `Inference::Open` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OpenOf` (r:1 w:1)
	/// Proof: `Inference::OpenOf` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:1)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PruneRange` (r:1 w:1)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:0 w:1)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	fn cancel() -> Weight {
		// Proof size in bytes:
		//  measured:  `22654`
		//  estimated: `21877`
		// Shortest time: 146_117_000 picoseconds.
		Weight::from_parts(150_824_000, 21877)
			.saturating_add(T::DbWeight::get().reads(12_u64))
			.saturating_add(T::DbWeight::get().writes(11_u64))
	}
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:1)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::LastReport` (r:0 w:1)
	/// Proof: `Inference::LastReport` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	/// The range of component `b` is `[1, 32768]`.
	fn report(b: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `22139`
		//  estimated: `528603`
		// Shortest time: 93_149_000 picoseconds.
		Weight::from_parts(97_715_388, 528603)
			// Standard error: 114
			.saturating_add(Weight::from_parts(13_736, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(5_u64))
			.saturating_add(T::DbWeight::get().writes(2_u64))
	}
	/// Storage: `Inference::Session` (r:1 w:0)
	/// Proof: `Inference::Session` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `Inference::LastReport` (r:1 w:0)
	/// Proof: `Inference::LastReport` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `System::BlockHash` (r:2 w:0)
	/// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	/// The range of component `b` is `[1, 32768]`.
	fn authorize_report(b: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `22234`
		//  estimated: `528603`
		// Shortest time: 120_880_000 picoseconds.
		Weight::from_parts(127_000_589, 528603)
			// Standard error: 194
			.saturating_add(Weight::from_parts(18_705, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(9_u64))
	}
	/// Storage: `System::BlockHash` (r:2 w:0), `Inference::Tosses` (r:1 w:0), `Inference::Quiet` (r:1 w:0), `Inference::Keys` (r:1 w:0)
	///
	/// Counted by hand: a proof is verified in WebAssembly, with the curve's arithmetic in 32 bits.
	fn authorize_contribution() -> Weight {
		Weight::from_parts(2_500_000_000, 19_697)
			.saturating_add(T::DbWeight::get().reads(5_u64))
	}
	/// Storage: `Inference::Tosses` (r:1 w:1), `Inference::Quiet` (r:1 w:1), `Inference::Keys` (r:1 w:0)
	///
	/// Counted by hand.
	fn contribute() -> Weight {
		Weight::from_parts(60_000_000, 19_697)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(2_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:0)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	fn check() -> Weight {
		// Proof size in bytes:
		//  measured:  `19335`
		//  estimated: `21877`
		// Shortest time: 71_125_000 picoseconds.
		Weight::from_parts(73_048_000, 21877)
			// One read, of those suspended, was counted by hand.
			.saturating_add(T::DbWeight::get().reads(5_u64))
	}
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:1 w:1)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	fn serve() -> Weight {
		// Proof size in bytes:
		//  measured:  `3857`
		//  estimated: `5563`
		// Shortest time: 65_607_000 picoseconds.
		Weight::from_parts(67_781_000, 5563)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
			// Counted by hand until the benchmark has run again: whoever makes room.
			.saturating_add(Weight::from_parts(60_000_000, 6_000))
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(T::DbWeight::get().writes(2_u64))
	}
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:1 w:1)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	fn withdraw() -> Weight {
		// Proof size in bytes:
		//  measured:  `3922`
		//  estimated: `5563`
		// Shortest time: 46_609_000 picoseconds.
		Weight::from_parts(50_525_000, 5563)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:0 w:1)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	fn answer() -> Weight {
		// Proof size in bytes:
		//  measured:  `15349`
		//  estimated: `55008`
		// Shortest time: 134_009_000 picoseconds.
		Weight::from_parts(141_470_000, 55008)
			.saturating_add(T::DbWeight::get().reads(21_u64))
			.saturating_add(T::DbWeight::get().writes(5_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Requests` (r:1 w:0), `ModelRegistry::Models` (r:1 w:0)
	fn check_answer() -> Weight {
		Weight::from_parts(40_000_000, 7_480)
			.saturating_add(T::DbWeight::get().reads(2_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Overdue` (r:1 w:0), `Inference::Requests` (r:1 w:0), `Inference::Rounds` (r:1 w:0), `ModelRegistry::Models` (r:1 w:0)
	fn check_member(m: u32, ) -> Weight {
		Weight::from_parts(40_000_000, 28_300)
			.saturating_add(Weight::from_parts(3_000_000, 0).saturating_mul(m.into()))
			.saturating_add(T::DbWeight::get().reads(4_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Requests` (r:1 w:1), `Inference::Rounds` (r:1 w:1), `Inference::Deadlines` (r:2 w:1), `Inference::Indices` (r:m w:0)
	fn commit(m: u32, ) -> Weight {
		Weight::from_parts(50_000_000, 30_160)
			.saturating_add(Weight::from_parts(4_000_000, 2_519).saturating_mul(m.into()))
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().reads((1_u64).saturating_mul(m.into())))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Overdue` (r:1 w:0), `Inference::Requests` (r:1 w:0), `Inference::Rounds` (r:1 w:1), `ModelRegistry::Models` (r:1 w:0),
	/// `Inference::Indices` (r:1 w:0)
	fn reveal(m: u32, ) -> Weight {
		Weight::from_parts(80_000_000, 30_820)
			.saturating_add(Weight::from_parts(4_000_000, 0).saturating_mul(m.into()))
			.saturating_add(T::DbWeight::get().reads(5_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Requests` (r:1 w:1), `ModelRegistry::Models` (r:1 w:0), `Inference::Elsewhere` (r:2 w:0)
	fn pass_audit() -> Weight {
		Weight::from_parts(60_000_000, 10_000)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	fn commit_juror() -> Weight {
		// Proof size in bytes:
		//  measured:  `5053`
		//  estimated: `55008`
		// Shortest time: 111_856_000 picoseconds.
		Weight::from_parts(117_034_000, 55008)
			.saturating_add(T::DbWeight::get().reads(20_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	fn reveal_juror() -> Weight {
		// Proof size in bytes:
		//  measured:  `18839`
		//  estimated: `21877`
		// Shortest time: 158_154_000 picoseconds.
		Weight::from_parts(167_669_000, 21877)
			.saturating_add(T::DbWeight::get().reads(4_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:1)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Parameters` (r:1 w:0)
	/// Proof: `Inference::Parameters` (`max_values`: Some(1), `max_size`: Some(24), added: 519, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:18 w:18)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:16 w:16)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:0)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:1 w:1)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Open` (r:1 w:1)
	/// Proof: `Inference::Open` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OpenOf` (r:1 w:1)
	/// Proof: `Inference::OpenOf` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:1)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PruneRange` (r:1 w:1)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:0 w:1)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	/// The range of component `m` is `[2, 16]`.
	fn settle(m: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `24477 + m * (507 ±0)`
		//  estimated: `528603 + m * (2624 ±0)`
		// Shortest time: 327_196_000 picoseconds.
		Weight::from_parts(291_284_564, 528603)
			// Standard error: 1_268_182
			.saturating_add(Weight::from_parts(51_401_696, 0).saturating_mul(m.into()))
			.saturating_add(T::DbWeight::get().reads(15_u64))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(m.into())))
			.saturating_add(T::DbWeight::get().writes(13_u64))
			.saturating_add(T::DbWeight::get().writes((2_u64).saturating_mul(m.into())))
			.saturating_add(Weight::from_parts(0, 2624).saturating_mul(m.into()))
			// Counted by hand until the benchmark has run again: who has proven that it can serve the model.
			.saturating_add(Weight::from_parts(10_000_000, 4_637))
			.saturating_add(T::DbWeight::get().reads(1_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:31 w:31)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Parameters` (r:1 w:0)
	/// Proof: `Inference::Parameters` (`max_values`: Some(1), `max_size`: Some(24), added: 519, mode: `MaxEncodedLen`)
	/// Storage: `Session::CurrentIndex` (r:1 w:0)
	/// Proof: `Session::CurrentIndex` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Inference::OffenceRange` (r:1 w:1)
	/// Proof: `Inference::OffenceRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:19 w:19)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:48 w:48)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:1 w:1)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Open` (r:1 w:1)
	/// Proof: `Inference::Open` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OpenOf` (r:1 w:1)
	/// Proof: `Inference::OpenOf` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:1)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PruneRange` (r:1 w:1)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:0 w:1)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OffenceQueue` (r:0 w:31)
	/// Proof: `Inference::OffenceQueue` (`max_values`: None, `max_size`: Some(65), added: 2540, mode: `MaxEncodedLen`)
	/// The range of component `j` is `[3, 32]`.
	fn judge(j: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `35372 + j * (709 ±0)`
		//  estimated: `528603 + j * (2624 ±0)`
		// Shortest time: 1_053_774_000 picoseconds.
		Weight::from_parts(808_183_815, 528603)
			// Standard error: 2_436_008
			.saturating_add(Weight::from_parts(61_669_647, 0).saturating_mul(j.into()))
			.saturating_add(T::DbWeight::get().reads(50_u64))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(j.into())))
			.saturating_add(T::DbWeight::get().writes(62_u64))
			.saturating_add(T::DbWeight::get().writes((3_u64).saturating_mul(j.into())))
			.saturating_add(Weight::from_parts(0, 2624).saturating_mul(j.into()))
			// Counted by hand until the benchmark has run again: who has proven that it can serve the model, the list of those
			// suspended, and verdicts of each juror and of the committee's 16.
			.saturating_add(Weight::from_parts(10_000_000, 4_637))
			.saturating_add(T::DbWeight::get().reads(18_u64))
			.saturating_add(T::DbWeight::get().writes(50_u64))
			.saturating_add(Weight::from_parts(15_000_000, 2550).saturating_mul((j + 16).into()))
			.saturating_add(T::DbWeight::get().reads((1_u64).saturating_mul(j.into())))
			.saturating_add(T::DbWeight::get().writes((3_u64).saturating_mul(j.into())))
			// Counted by hand until the benchmark has run again: answers that were given elsewhere.
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// The range of component `b` is `[1, 524288]`.
	fn read_output(b: u32, ) -> Weight {
		// Proof size in bytes:
		//  measured:  `976 + b * (1 ±0)`
		//  estimated: `528603`
		// Shortest time: 17_856_000 picoseconds.
		Weight::from_parts(149_389_066, 528603)
			// Standard error: 92
			.saturating_add(Weight::from_parts(15_638, 0).saturating_mul(b.into()))
			.saturating_add(T::DbWeight::get().reads(1_u64))
	}
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:1)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Strikes` (r:16 w:16)
	/// Proof: `Inference::Strikes` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:16 w:16)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Parameters` (r:1 w:0)
	/// Proof: `Inference::Parameters` (`max_values`: Some(1), `max_size`: Some(24), added: 519, mode: `MaxEncodedLen`)
	/// Storage: `Session::CurrentIndex` (r:1 w:0)
	/// Proof: `Session::CurrentIndex` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Inference::OffenceRange` (r:1 w:1)
	/// Proof: `Inference::OffenceRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:16 w:16)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:0 w:1)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OffenceQueue` (r:0 w:16)
	/// Proof: `Inference::OffenceQueue` (`max_values`: None, `max_size`: Some(65), added: 2540, mode: `MaxEncodedLen`)
	fn late() -> Weight {
		// Proof size in bytes:
		//  measured:  `23995`
		//  estimated: `55008`
		// Shortest time: 715_922_000 picoseconds.
		Weight::from_parts(728_241_000, 55008)
			.saturating_add(T::DbWeight::get().reads(74_u64))
			.saturating_add(T::DbWeight::get().writes(73_u64))
	}
	/// Storage: `Inference::Deadlines` (r:1 w:1)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:48 w:48)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Parameters` (r:1 w:0)
	/// Proof: `Inference::Parameters` (`max_values`: Some(1), `max_size`: Some(24), added: 519, mode: `MaxEncodedLen`)
	/// Storage: `Session::CurrentIndex` (r:1 w:0)
	/// Proof: `Session::CurrentIndex` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Inference::OffenceRange` (r:1 w:1)
	/// Proof: `Inference::OffenceRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:1)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:1)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:31 w:31)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:18 w:18)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Open` (r:1 w:1)
	/// Proof: `Inference::Open` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OpenOf` (r:1 w:1)
	/// Proof: `Inference::OpenOf` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:1)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PruneRange` (r:1 w:1)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:0 w:1)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OffenceQueue` (r:0 w:32)
	/// Proof: `Inference::OffenceQueue` (`max_values`: None, `max_size`: Some(65), added: 2540, mode: `MaxEncodedLen`)
	fn late_jury() -> Weight {
		// Proof size in bytes:
		//  measured:  `58019`
		//  estimated: `528603`
		// Shortest time: 2_412_982_000 picoseconds.
		Weight::from_parts(2_515_255_000, 528603)
			.saturating_add(T::DbWeight::get().reads(113_u64))
			.saturating_add(T::DbWeight::get().writes(142_u64))
			// Counted by hand until the benchmark has run again: answers that were given elsewhere.
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Inference::PruneRange` (r:1 w:1)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:2 w:1)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:0)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:0 w:1)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:0 w:1)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:0 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Inputs` (r:0 w:1)
	/// Proof: `Inference::Inputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	fn prune() -> Weight {
		// Proof size in bytes:
		//  measured:  `9467`
		//  estimated: `9679`
		// Shortest time: 42_994_000 picoseconds.
		Weight::from_parts(45_958_000, 9679)
			.saturating_add(T::DbWeight::get().reads(5_u64))
			.saturating_add(T::DbWeight::get().writes(7_u64))
			// Counted by hand until the benchmark has run again: answers that were given elsewhere, and what is disputed before the last judge.
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(T::DbWeight::get().writes(2_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:0)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:64 w:1)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	fn draw_executor() -> Weight {
		// Proof size in bytes:
		//  measured:  `29324`
		//  estimated: `168926`
		// Shortest time: 585_209_000 picoseconds.
		Weight::from_parts(612_119_000, 168926)
			// One read, of those suspended, was counted by hand.
			.saturating_add(T::DbWeight::get().reads(87_u64))
			.saturating_add(T::DbWeight::get().writes(4_u64))
	}
	/// Counted by hand until the benchmark has run.
	///
	/// Storage: `Inference::Requests` (r:1 w:1), `ModelRegistry::Models` (r:1 w:0), `ModelRegistry::Serving` (r:1 w:0), `Inference::Rounds` (r:1 w:1),
	/// `Inference::Deadlines` (r:2 w:1), `Inference::ReservedFor` (r:1 w:1), `Inference::Assignments` (r:v w:v), `Inference::Indices` (r:2v w:0),
	/// `Inference::Tosses` (r:1 w:0)
	fn draw_verifiers(v: u32, ) -> Weight {
		Weight::from_parts(450_000_000, 40_000)
			.saturating_add(Weight::from_parts(12_000_000, 7_662).saturating_mul(v.into()))
			.saturating_add(T::DbWeight::get().reads(8_u64))
			.saturating_add(T::DbWeight::get().reads((3_u64).saturating_mul(v.into())))
			.saturating_add(T::DbWeight::get().writes(4_u64))
			.saturating_add(T::DbWeight::get().writes((1_u64).saturating_mul(v.into())))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:1 w:0)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:1 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:0)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:64 w:32)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	fn draw_jury() -> Weight {
		// Proof size in bytes:
		//  measured:  `34316`
		//  estimated: `168926`
		// Shortest time: 565_379_000 picoseconds.
		Weight::from_parts(589_956_000, 168926)
			// One read, of those suspended, was counted by hand.
			.saturating_add(T::DbWeight::get().reads(89_u64))
			.saturating_add(T::DbWeight::get().writes(36_u64))
	}
	/// Storage: `Inference::Requests` (r:1 w:1)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:1 w:0)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Assignments` (r:64 w:1)
	/// Proof: `Inference::Assignments` (`max_values`: None, `max_size`: Some(149), added: 2624, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Rounds` (r:1 w:0)
	/// Proof: `Inference::Rounds` (`max_values`: None, `max_size`: Some(18362), added: 20837, mode: `MaxEncodedLen`)
	/// Storage: `System::Account` (r:1 w:1)
	/// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	/// Storage: `Balances::Holds` (r:1 w:1)
	/// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(157), added: 2632, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Deadlines` (r:18 w:2)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:1)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Juries` (r:0 w:1)
	/// Proof: `Inference::Juries` (`max_values`: None, `max_size`: Some(18412), added: 20887, mode: `MaxEncodedLen`)
	fn appeal() -> Weight {
		// Proof size in bytes:
		//  measured:  `42247`
		//  estimated: `168926`
		// Shortest time: 522_305_000 picoseconds.
		Weight::from_parts(537_569_000, 168926)
			.saturating_add(T::DbWeight::get().reads(89_u64))
			.saturating_add(T::DbWeight::get().writes(8_u64))
	}
	/// Counted by hand, beside `appeal`, which does the same.
	fn contest() -> Weight {
		Weight::from_parts(537_569_000, 168926)
			.saturating_add(T::DbWeight::get().reads(91_u64))
			.saturating_add(T::DbWeight::get().writes(8_u64))
	}
	/// Counted by hand: 64 offences are queued.
	fn ruling() -> Weight {
		Weight::from_parts(300_000_000, 168926)
			.saturating_add(T::DbWeight::get().reads(70_u64))
			.saturating_add(T::DbWeight::get().writes(67_u64))
	}
	/// Counted by hand, beside two transfers.
	fn claim() -> Weight {
		Weight::from_parts(250_000_000, 16892)
			.saturating_add(T::DbWeight::get().reads(17_u64))
			.saturating_add(T::DbWeight::get().writes(8_u64))
	}
	/// Counted by hand: 128 validators are accused, suspended, and kept from the model; as many offences are queued, and what an
	/// accusation of 96 has done is taken back.
	fn refute() -> Weight {
		Weight::from_parts(4_000_000_000, 1_200_000)
			.saturating_add(T::DbWeight::get().reads(900_u64))
			.saturating_add(T::DbWeight::get().writes(800_u64))
	}
	/// Storage: `Inference::Parameters` (r:0 w:1)
	/// Proof: `Inference::Parameters` (`max_values`: Some(1), `max_size`: Some(24), added: 519, mode: `MaxEncodedLen`)
	fn set_parameters() -> Weight {
		// Proof size in bytes:
		//  measured:  `0`
		//  estimated: `0`
		// Shortest time: 5_749_000 picoseconds.
		Weight::from_parts(6_399_000, 0)
			.saturating_add(T::DbWeight::get().writes(1_u64))
	}
	// Counted by hand: the list of those suspended, and what is remembered of one.
	fn lift_suspension() -> Weight {
		Weight::from_parts(60_000_000, 26_000)
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Inference::OffenceRange` (r:1 w:1)
	/// Proof: `Inference::OffenceRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OffenceQueue` (r:1 w:1)
	/// Proof: `Inference::OffenceQueue` (`max_values`: None, `max_size`: Some(65), added: 2540, mode: `MaxEncodedLen`)
	/// Storage: `Session::Validators` (r:1 w:0)
	/// Proof: `Session::Validators` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Offences::ConcurrentReportsIndex` (r:1 w:1)
	/// Proof: `Offences::ConcurrentReportsIndex` (`max_values`: None, `max_size`: None, mode: `Measured`)
	/// Storage: `Offences::Reports` (r:1 w:1)
	/// Proof: `Offences::Reports` (`max_values`: None, `max_size`: None, mode: `Measured`)
	/// Storage: `Staking::SlashRewardFraction` (r:1 w:0)
	/// Proof: `Staking::SlashRewardFraction` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	/// Storage: `Staking::ActiveEra` (r:1 w:0)
	/// Proof: `Staking::ActiveEra` (`max_values`: Some(1), `max_size`: Some(13), added: 508, mode: `MaxEncodedLen`)
	/// Storage: `Staking::ErasStartSessionIndex` (r:1 w:0)
	/// Proof: `Staking::ErasStartSessionIndex` (`max_values`: None, `max_size`: Some(16), added: 2491, mode: `MaxEncodedLen`)
	/// Storage: `Staking::Invulnerables` (r:1 w:0)
	/// Proof: `Staking::Invulnerables` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Staking::ErasStakersOverview` (r:1 w:0)
	/// Proof: `Staking::ErasStakersOverview` (`max_values`: None, `max_size`: Some(92), added: 2567, mode: `MaxEncodedLen`)
	/// Storage: `Session::DisabledValidators` (r:1 w:1)
	/// Proof: `Session::DisabledValidators` (`max_values`: Some(1), `max_size`: None, mode: `Measured`)
	/// Storage: `Inference::Keys` (r:1 w:0)
	/// Proof: `Inference::Keys` (`max_values`: Some(1), `max_size`: Some(19202), added: 19697, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::ServedBy` (r:1 w:1)
	/// Proof: `ModelRegistry::ServedBy` (`max_values`: None, `max_size`: Some(553), added: 3028, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Serving` (r:16 w:16)
	/// Proof: `ModelRegistry::Serving` (`max_values`: None, `max_size`: Some(2098), added: 4573, mode: `MaxEncodedLen`)
	/// Storage: `ModelRegistry::Models` (r:16 w:16)
	/// Proof: `ModelRegistry::Models` (`max_values`: None, `max_size`: Some(1684), added: 4159, mode: `MaxEncodedLen`)
	/// Storage: `Staking::ValidatorSlashInEra` (r:1 w:1)
	/// Proof: `Staking::ValidatorSlashInEra` (`max_values`: None, `max_size`: Some(72), added: 2547, mode: `MaxEncodedLen`)
	/// Storage: `Staking::SlashingSpans` (r:1 w:1)
	/// Proof: `Staking::SlashingSpans` (`max_values`: None, `max_size`: None, mode: `Measured`)
	/// Storage: `Staking::SpanSlash` (r:1 w:1)
	/// Proof: `Staking::SpanSlash` (`max_values`: None, `max_size`: Some(76), added: 2551, mode: `MaxEncodedLen`)
	/// Storage: `Staking::UnappliedSlashes` (r:1 w:1)
	/// Proof: `Staking::UnappliedSlashes` (`max_values`: None, `max_size`: None, mode: `Measured`)
	fn offence() -> Weight {
		// Proof size in bytes:
		//  measured:  `5400`
		//  estimated: `74158`
		// Shortest time: 361_026_000 picoseconds.
		Weight::from_parts(365_813_000, 74158)
			// One read, of what is reported, was counted by hand.
			.saturating_add(T::DbWeight::get().reads(50_u64))
			.saturating_add(T::DbWeight::get().writes(42_u64))
	}
	/// Storage: `Inference::Callbacks` (r:1 w:1)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Outputs` (r:1 w:0)
	/// Proof: `Inference::Outputs` (`max_values`: None, `max_size`: Some(525138), added: 527613, mode: `MaxEncodedLen`)
	fn call_back() -> Weight {
		// Proof size in bytes:
		//  measured:  `526312`
		//  estimated: `528603`
		// Shortest time: 362_939_000 picoseconds.
		Weight::from_parts(398_482_000, 528603)
			.saturating_add(T::DbWeight::get().reads(3_u64))
			.saturating_add(T::DbWeight::get().writes(1_u64))
			// Counted by hand until the benchmark has run again: answers that were given elsewhere.
			.saturating_add(T::DbWeight::get().reads(2_u64))
			.saturating_add(T::DbWeight::get().writes(3_u64))
	}
	/// Storage: `Inference::Deadlines` (r:1 w:0)
	/// Proof: `Inference::Deadlines` (`max_values`: None, `max_size`: Some(526), added: 3001, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PruneRange` (r:1 w:0)
	/// Proof: `Inference::PruneRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Prune` (r:1 w:0)
	/// Proof: `Inference::Prune` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	/// Storage: `Inference::OffenceRange` (r:1 w:0)
	/// Proof: `Inference::OffenceRange` (`max_values`: Some(1), `max_size`: Some(16), added: 511, mode: `MaxEncodedLen`)
	/// Storage: `Inference::PendingDraws` (r:1 w:0)
	/// Proof: `Inference::PendingDraws` (`max_values`: Some(1), `max_size`: Some(12290), added: 12785, mode: `MaxEncodedLen`)
	/// Storage: `Babe::AuthorVrfRandomness` (r:1 w:0)
	/// Proof: `Babe::AuthorVrfRandomness` (`max_values`: Some(1), `max_size`: Some(33), added: 528, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Callbacks` (r:1 w:0)
	/// Proof: `Inference::Callbacks` (`max_values`: Some(1), `max_size`: Some(8194), added: 8689, mode: `MaxEncodedLen`)
	/// Storage: `Inference::Requests` (r:1 w:0)
	/// Proof: `Inference::Requests` (`max_values`: None, `max_size`: Some(846), added: 3321, mode: `MaxEncodedLen`)
	fn hooks() -> Weight {
		// Proof size in bytes:
		//  measured:  `20838`
		//  estimated: `13775`
		// Shortest time: 45_888_000 picoseconds.
		// Two reads, of rulings and of slashes with claims on them, were counted by hand.
		Weight::from_parts(52_268_000, 13775)
			.saturating_add(T::DbWeight::get().reads(10_u64))
			// Counted by hand until the benchmark has run again: answers that were given elsewhere.
			.saturating_add(T::DbWeight::get().reads(1_u64))
	}
}
