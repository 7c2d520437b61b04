//! Drawing channels' seeds, and points of money in claims.
//!
//! Both wait for the next window of blocks that begins after them ([`pallet_inference::next_window`]). A window's seed is kept until all
//! that waits for it is drawn for, so that it is of no account how full the queue is.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	session::{ChannelId, ClaimId, Service, MAX_POINTS},
	List,
};
use pallet_inference::{next_window, DrawBeacon};
use polkadot_sdk::{
	frame_support::pallet_prelude::DispatchResult,
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{Get, Saturating, UniqueSaturatedFrom, UniqueSaturatedInto},
};

use crate::{
	BalanceOf, Channels, Claims, Config, Draw, DrawRange, Draws, EndRange, Ends, Error, Event,
	Pallet, Point, PointState, Window, Windows,
};

/// Where points lie in a claim of so much money, where there is one in each `interval`.
pub(crate) fn points(seed: &H256, claim: ClaimId, amount: u128, interval: u128) -> Vec<u128> {
	let interval = interval.max(1);
	let count = amount.div_ceil(interval).min(MAX_POINTS.into()) as u32;
	(0..count)
		.map(|place| {
			let hash = (b"consilience/session/point", seed, claim, place).using_encoded(blake2_256);
			// The bias of reducing 128 bits modulo an amount of money is of no account.
			let word = u128::from_le_bytes(hash[..16].try_into().expect("16 of 32 bytes; qed"));
			u128::from(place)
				.saturating_mul(interval)
				.saturating_add(word % interval)
		})
		// The last interval may reach beyond the claim.
		.filter(|offset| *offset < amount)
		.collect()
}

impl<T: Config> Pallet<T> {
	/// The window that begins next.
	fn coming() -> Window<BlockNumberFor<T>> {
		let blocks = T::Beacon::blocks(T::ClaimBlocks::get());
		Window {
			from: next_window(frame_system::Pallet::<T>::block_number(), blocks),
			blocks,
			seed: None,
		}
	}

	/// Whether something can wait for the window that begins next. Not while blocks have had no randomness for long.
	pub(crate) fn may_wait() -> bool {
		let windows = Windows::<T>::get();
		let coming = Self::coming();
		!windows.is_full() || windows.iter().any(|window| window.from == coming.from)
	}

	/// Has something wait for the window that begins next.
	pub(crate) fn wait_for_draw(draw: Draw) -> DispatchResult {
		let coming = Self::coming();
		Windows::<T>::try_mutate(|windows| {
			if windows.iter().any(|window| window.from == coming.from) {
				return Ok(());
			}
			windows
				.try_push(coming)
				.map_err(|_| Error::<T>::NoRandomness)
		})?;
		DrawRange::<T>::mutate(|(_, end)| {
			Draws::<T>::insert(*end, (coming.from, draw));
			*end += 1;
		});
		Ok(())
	}

	/// How many are drawn for at the end of this block at most.
	pub(crate) fn coming_draws(now: BlockNumberFor<T>) -> u32 {
		let (first, end) = DrawRange::<T>::get();
		let over = Windows::<T>::get().first().is_some_and(|window| {
			let last = window
				.from
				.saturating_add(u32::from(window.blocks.saturating_sub(1)).into());
			last <= now
		});
		if over {
			end.saturating_sub(first).min(T::MaxDraws::get().into()) as u32
		} else {
			0
		}
	}

	/// Draws for as many as a block does of those whose window is over, the oldest first.
	pub(crate) fn process_draws() {
		let (first, end) = DrawRange::<T>::get();
		if first == end {
			return;
		}
		let mut windows = Windows::<T>::get();
		for window in windows.iter_mut() {
			window.seed = window
				.seed
				.or_else(|| T::Beacon::mixed(window.from, window.blocks));
		}
		let most = end.min(first.saturating_add(T::MaxDraws::get().into()));
		let mut place = first;
		while place < most {
			let Some((from, draw)) = Draws::<T>::get(place) else {
				break;
			};
			let seed = windows
				.iter()
				.find(|window| window.from == from)
				.and_then(|window| window.seed);
			let Some(seed) = seed else { break };
			Draws::<T>::remove(place);
			place += 1;
			match draw {
				Draw::Seed(channel) => Self::draw_seed(channel, &seed),
				Draw::Points(claim) => Self::draw_points(claim, &seed),
			}
		}
		if place > first {
			DrawRange::<T>::put((place, end));
		}
		let waits_for = Draws::<T>::get(place).map(|(from, _)| from);
		windows.retain(|window| waits_for.is_some_and(|from| window.from >= from));
		Windows::<T>::put(windows);
	}

	fn draw_seed(id: ChannelId, seed: &H256) {
		Channels::<T>::mutate(id, |channel| {
			// It may be gone already.
			let Some(channel) = channel else { return };
			let seed = H256((b"consilience/session/channel", seed, id).using_encoded(blake2_256));
			channel.seed = Some(seed);
			Self::deposit_event(Event::SeedDrawn { channel: id, seed });
		});
	}

	fn draw_points(id: ClaimId, seed: &H256) {
		Claims::<T>::mutate(id, |claim| {
			let Some(claim) = claim else { return };
			let offsets: Vec<BalanceOf<T>> = match claim.service {
				Service::Answer => points(
					seed,
					id,
					claim.root.sum.unique_saturated_into(),
					T::PointInterval::get().unique_saturated_into(),
				)
				.into_iter()
				.map(BalanceOf::<T>::unique_saturated_from)
				.collect(),
				Service::Check => Vec::new(),
			};
			let deadline =
				frame_system::Pallet::<T>::block_number().saturating_add(T::OpeningBlocks::get());
			claim.points = List::truncate_from(
				offsets
					.iter()
					.map(|offset| Point {
						offset: *offset,
						state: PointState::Due,
					})
					.collect(),
			);
			claim.deadline = Some(deadline);
			EndRange::<T>::mutate(|(_, end)| {
				Ends::<T>::insert(*end, id);
				*end += 1;
			});
			Self::deposit_event(Event::PointsDrawn {
				claim: id,
				offsets,
				deadline,
			});
		});
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_coin_is_drawn_with_the_same_chance_however_the_money_is_divided() {
		const INTERVAL: u128 = 100;
		// One claim of 250, and the same money in ten claims of 25.
		for (parts, each) in [(1u64, 250u128), (10, 25)] {
			let mut hits = [0u32; 10];
			let mut all = 0;
			for run in 0..4_000u64 {
				let seed = H256(run.using_encoded(blake2_256));
				for part in 0..parts {
					for offset in points(&seed, part, each, INTERVAL) {
						assert!(offset < each);
						let coin = u128::from(part) * each + offset;
						hits[(coin / 25) as usize] += 1;
						all += 1;
					}
				}
			}
			// 10,000 expected, 1,000 for each tenth; five standard deviations are about 150.
			assert!((9_500..=10_500).contains(&all), "{all}");
			assert!(hits.iter().all(|n| (850..=1_150).contains(n)), "{hits:?}");
		}
	}

	#[test]
	fn a_whole_interval_has_one_point() {
		for run in 0..100u64 {
			let seed = H256(run.using_encoded(blake2_256));
			let found = points(&seed, run, 500, 100);
			let places: Vec<_> = found.iter().map(|offset| offset / 100).collect();
			assert_eq!(places, [0, 1, 2, 3, 4]);
		}
		assert!(points(&H256::zero(), 0, 0, 100).is_empty());
		assert_eq!(points(&H256::zero(), 0, u128::MAX, 1).len(), 16);
	}
}
