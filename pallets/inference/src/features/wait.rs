//! How long an answer is expected to take: what a quote says, and nobody is bound by.

use alloc::vec::Vec;
use consilience_primitives::{
	model::{Speed, TimeLimit},
	request::Assurance,
	view::Wait,
};
use polkadot_sdk::sp_runtime::traits::{Get, UniqueSaturatedInto};

use crate::{
	features::load::{Roster, ServerOf},
	Config, Loads, Pallet,
};

/// Blocks by which finality is expected to lag: members show their evidence when the block that closed the commitments is final.
const FINALITY_LAG: u32 = 2;

/// Thousandths of a block as blocks.
fn blocks(work: u32) -> u32 {
	work.saturating_add(500) / 1_000
}

impl<T: Config> Pallet<T> {
	/// Blocks until an answer of so much work, and of so many units, is settled, with validators as busy as they are.
	///
	/// - *Queue* and *work*: of the machine in the middle of those who serve the model, by when each would be done.
	/// - *Draws*: the executor's, at the end of the next block; the block in which the answer can be at the earliest; and the one in which
	///   validators toss for verifiers, or as many as draw them where an answer can take too long for that.
	/// - *Rounds*: the measurement on that machine, the block of the commitments, and what finality lags behind it. Of a check by chance, the
	///   mean of that and of the time for appeals, by how likely each is.
	pub(crate) fn expected_wait(
		serving: &[ServerOf<T>],
		roster: &Roster<T::AccountId>,
		work: u32,
		verifiers: u8,
		assurance: Assurance,
		time: &TimeLimit,
		output_units: u32,
	) -> Wait {
		let loads = Loads::<T>::get();
		let mut machines: Vec<_> = serving
			.iter()
			.filter_map(|server| {
				let load = loads.get(roster.index(&server.who)? as usize).copied();
				let load = load.unwrap_or_default();
				let done = load.saturating_add(server.speed.work(work));
				Some((done, load, server.speed))
			})
			.collect();
		machines.sort_unstable_by_key(|(done, ..)| *done);
		let middle = machines.get(machines.len() / 2).copied();
		let (done, load, speed) = middle.unwrap_or((work, 0, Speed::default()));
		let own = blocks(speed.work(work));
		let answer = Self::fair_blocks(time, output_units).saturating_add(load / 1_000);
		let (window, toss) = Self::drawing(verifiers, answer);
		let window = if toss { 1 } else { window };
		let measuring = blocks(speed.work(TimeLimit::measuring(work)));
		let round = measuring.saturating_add(1 + FINALITY_LAG);
		let rounds = match assurance {
			Assurance::Sampled(p) if verifiers > 0 => {
				let appeal: u32 = T::AppealBlocks::get().unique_saturated_into();
				let p = u64::from(p.min(1_000));
				let sum = p * u64::from(round) + (1_000 - p) * u64::from(appeal);
				(sum / 1_000) as u32
			}
			_ => round,
		};
		Wait {
			queue: blocks(done).saturating_sub(own),
			work: own,
			draws: u32::from(window).saturating_add(2),
			rounds,
		}
	}
}
