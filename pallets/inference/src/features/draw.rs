//! Drawing executors, verifiers, jurors and challenges.
//!
//! ## Which blocks' randomness
//!
//! `pallet-babe` stores the VRF output of the block that is being executed in its `on_finalize`. `ParentBlockRandomness` reads it:
//! from a call or `on_initialize` of block *n* that is the output of *n* − 1, from an `on_finalize` after Babe's that of *n*.
//! [`Beacon`] keeps those of the last blocks.
//!
//! An executor is drawn with that of one block after the request. Who checks must not be known to whoever answers, and a party
//! knows its own outputs of a whole epoch: it would wait for a time at which it owns all the blocks that draw. Therefore
//! verifiers are drawn with the outputs of several blocks in a row, in windows that are fixed together with the executor
//! ([`Windows`]), and so many of them that a third of the slots owns one of the windows in at most one of [`Config::DrawOdds`]
//! answers ([`draw_blocks`]). Nothing that an author can vary enters a draw of members. The parent hash enters a window's
//! challenge: a fork that parts before the draw asks another question. A toss is of one fork by itself.
//!
//! Seven blocks are long. Where an answer cannot take many, validators *toss* for its verifiers in the block after it instead
//! ([`super::toss`]), and the windows serve where somebody withholds its part of that.
//!
//! A block without VRF output does not count: a draw waits until enough have one.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	model::{Speed, TimeLimit},
	request::Assurance,
	view::RequestState,
	RequestId,
};
use pallet_model_registry::{Models, Serving};
use polkadot_sdk::{
	frame_support::{
		pallet_prelude::Weight,
		traits::{Randomness, ValidatorSet},
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{Bounded, Get, One, Saturating, UniqueSaturatedInto},
};

use crate::{
	features::{load::Roster, round::Round},
	Beacon, Config, Draw, Draws, Event, Keys, Loads, Pallet, RequestOf, Requests, Role, Rounds,
	Suspended, Vacated, WeightInfo, Windows, MAX_DRAW_BLOCKS,
};

/// Blocks in a row that one of `windows` in a time has to hold so that a third of the slots owns all of one of them in at most one of
/// `odds` cases: the smallest *k* with windows × 3⁻ᵏ ≤ 1 ÷ odds, where windows of *k* blocks follow one another in `time`.
pub fn draw_blocks(time: u32, odds: u32) -> u8 {
	let mut own = 1u64;
	for blocks in 1..MAX_DRAW_BLOCKS {
		own = own.saturating_mul(3);
		let windows = u64::from(time / blocks) + 1;
		if windows.saturating_mul(odds.into()) <= own {
			return blocks as u8;
		}
	}
	MAX_DRAW_BLOCKS as u8
}

/// Chooses an index by weight; `None` where all weights are zero.
fn weighted(random: &H256, weights: &[u32]) -> Option<usize> {
	let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
	// The bias of reducing 128 bits modulo a 64-bit total is below 2⁻⁶⁴.
	let word = u128::from_le_bytes(random.0[..16].try_into().expect("16 of 32 bytes; qed"));
	let mut point = (word % u128::from(total.max(1))) as u64;
	weights.iter().position(|w| {
		let weight = u64::from(*w);
		let hit = point < weight;
		point = point.saturating_sub(weight);
		hit
	})
}

/// Draws at most so many candidates, each as likely as any other and each once, by their places.
pub(crate) fn draw_distinct<AccountId>(
	seed: &H256,
	label: impl Encode,
	mut candidates: Vec<AccountId>,
	most: u32,
) -> Vec<AccountId> {
	let mut weights = alloc::vec![1; candidates.len()];
	let mut drawn = Vec::new();
	for i in 0..most {
		let pick = H256((seed, &label, i).using_encoded(blake2_256));
		let Some(index) = weighted(&pick, &weights) else {
			break;
		};
		drawn.push(candidates.swap_remove(index));
		weights.pop();
	}
	drawn
}

/// Draws at most so many candidates, each as likely as any other and each once: those of the lowest hashes. Whoever knows the seed and
/// leaves takes nobody away but itself; were they drawn by their places, it would move all that stand behind it.
pub(crate) fn draw_lowest<AccountId: Encode>(
	seed: &H256,
	label: impl Encode,
	mut candidates: Vec<AccountId>,
	most: u32,
) -> Vec<AccountId> {
	candidates.sort_by_cached_key(|who| (seed, &label, who).using_encoded(blake2_256));
	candidates.truncate(most as usize);
	candidates
}

/// Weights by expected completion: who would be ready in half the time is twice as likely, and nobody more than twice as likely
/// as the one in the middle.
fn by_completion(completions: &[u32]) -> Vec<u32> {
	let weights: Vec<_> = completions
		.iter()
		.map(|work| u32::MAX / (*work).max(1) / 1_024)
		.map(|weight| weight.max(1))
		.collect();
	let mut sorted = weights.clone();
	sorted.sort_unstable();
	let most = sorted
		.get(sorted.len() / 2)
		.map_or(1, |middle| middle.saturating_mul(2));
	weights.into_iter().map(|w| w.min(most)).collect()
}

impl<T: Config> Pallet<T> {
	/// Blocks that a request waits for a draw before it expires.
	pub(crate) fn draw_patience(time: &TimeLimit, output_units: u32) -> BlockNumberFor<T> {
		T::DrawPatience::get().saturating_add(time.answer_blocks(output_units).into())
	}

	/// Whether the session has a single validator: a developer's chain, whose answers nobody can check.
	pub fn is_solo() -> bool {
		Keys::<T>::decode_len() == Some(1)
	}

	/// Validators of the session that serve the request's model.
	pub(crate) fn serving(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
	) -> Vec<(T::AccountId, u32, Speed)> {
		Self::serving_since(request, roster, BlockNumberFor::<T>::max_value())
	}

	/// Those of them who did so when the request was made: who comes for one request is too late for it.
	pub(crate) fn serving_before(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
	) -> Vec<(T::AccountId, u32, Speed)> {
		Self::serving_since(request, roster, request.requested_at)
	}

	fn serving_since(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		latest: BlockNumberFor<T>,
	) -> Vec<(T::AccountId, u32, Speed)> {
		let suspended = Suspended::<T>::get();
		Serving::<T>::get(request.model)
			.into_iter()
			.filter(|server| server.since <= latest)
			.filter(|server| !suspended.iter().any(|s| s.validator == server.who))
			.filter_map(|server| {
				let index = roster.index(&server.who)?;
				Some((server.who, index, server.speed))
			})
			.collect()
	}

	/// Those who can be drawn to check, whatever they have to do: a load that changed the set would let who floods honest validators
	/// choose it.
	pub(crate) fn checkers(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		members: &[T::AccountId],
	) -> Vec<T::AccountId> {
		Self::serving_before(request, roster)
			.into_iter()
			.map(|(who, ..)| who)
			.filter(|who| !request.excluded.contains(who) && !members.contains(who))
			.collect()
	}

	/// Blocks that a validator has for its duty: what the model gives, and never so few that a third of the authors could keep what it
	/// says out of all of them and have it blamed for that.
	pub(crate) fn fair_blocks(time: &TimeLimit, output_units: u32) -> u32 {
		let least = T::RevealBlocks::get().unique_saturated_into();
		time.answer_blocks(output_units).max(least)
	}

	/// Has a request drawn for with the randomness of `blocks` blocks from `from` on.
	pub(crate) fn queue_draw(
		id: RequestId,
		request: &mut RequestOf<T>,
		from: BlockNumberFor<T>,
		blocks: u8,
	) {
		let last = from.saturating_add(u32::from(blocks.saturating_sub(1)).into());
		let at = Self::place_draw(id, last);
		request.draw = Some(Draw { at, from, blocks });
	}

	/// Has a request drawn for with randomness that nobody can know now, and that a third of the slots rarely owns.
	pub(crate) fn queue_later_draw(id: RequestId, request: &mut RequestOf<T>) {
		let now = frame_system::Pallet::<T>::block_number();
		let blocks = if Self::is_solo() {
			1
		} else {
			draw_blocks(0, T::DrawOdds::get())
		};
		Self::queue_draw(id, request, now.saturating_add(One::one()), blocks);
	}

	/// The first block from `wanted` on that has room for a draw.
	fn place_draw(id: RequestId, wanted: BlockNumberFor<T>) -> BlockNumberFor<T> {
		let mut at = wanted;
		// Every entry is in one block, and an entry is taken out when its block has come: room is found.
		while Draws::<T>::try_append(at, id).is_err() {
			at.saturating_inc();
		}
		at
	}

	/// Keeps this block's randomness.
	fn remember_randomness(now: BlockNumberFor<T>) {
		if let (Some(random), _) = T::Randomness::random(b"consilience/draw") {
			Beacon::<T>::mutate(|beacon| {
				if beacon.is_full() {
					beacon.remove(0);
				}
				// There is room now.
				let _ = beacon.try_push((now, random));
			});
		}
	}

	/// The seed of a draw, once there is randomness of as many blocks as it mixes.
	fn seed(id: RequestId, draw: &Draw<BlockNumberFor<T>>) -> Option<H256> {
		let beacon = Beacon::<T>::get();
		let first = beacon.len().checked_sub(draw.blocks.into())?;
		let mixed = &beacon[first..];
		mixed
			.iter()
			.all(|(at, _)| *at >= draw.from)
			.then(|| H256((b"consilience/draw", id, mixed).using_encoded(blake2_256)))
	}

	/// What the draws at the end of this block weigh: each by what it draws.
	pub(crate) fn weigh_draws(now: BlockNumberFor<T>) -> Weight {
		let read = T::DbWeight::get().reads(1);
		// The request, its jury and the model are read, the request gets another place, and so does one that was to be drawn for then.
		let waits = T::DbWeight::get().reads_writes(4, 2);
		let mut seats = Self::free_seats();
		Draws::<T>::get(now).into_iter().fold(read, |sum, id| {
			let request = Requests::<T>::get(id)
				.filter(|request| request.draw.is_some_and(|draw| draw.at == now));
			let Some(request) = request else {
				return sum.saturating_add(read);
			};
			sum.saturating_add(match request.state {
				RequestState::Requested => <T as Config>::WeightInfo::draw_executor(),
				RequestState::Disputed if seats == 0 => waits,
				RequestState::Disputed => {
					seats = seats.saturating_sub(1);
					<T as Config>::WeightInfo::draw_jury()
				}
				RequestState::Final | RequestState::Unanswerable
					if !Self::surely_audited(id, &request) =>
				{
					<T as Config>::WeightInfo::pass_audit()
				}
				_ => Self::weigh_members(&request),
			})
		})
	}

	/// What drawing as many members weighs as check an answer to the request.
	pub(crate) fn weigh_members(request: &RequestOf<T>) -> Weight {
		<T as Config>::WeightInfo::draw_verifiers(request.verifiers.into())
	}

	/// Draws for the requests whose block it is.
	pub(crate) fn process_draws(now: BlockNumberFor<T>) {
		Self::remember_randomness(now);
		Self::process_tosses(now);
		let mut seats = Self::free_seats();
		if Vacated::<T>::exists() {
			Vacated::<T>::kill();
		}
		let due = Draws::<T>::take(now);
		if due.is_empty() {
			return;
		}
		let roster = Self::roster();
		let mut failed = Vec::new();
		for id in due {
			let Some(mut request) = Requests::<T>::get(id) else {
				continue;
			};
			// What was settled, or is drawn for in another block, is nothing to this one.
			let Some(draw) = request.draw.filter(|draw| draw.at == now) else {
				continue;
			};
			if request.state == RequestState::Disputed {
				if seats == 0 || !Self::may_sit(id) {
					failed.push((id, draw));
					continue;
				}
				seats = seats.saturating_sub(1);
			}
			request.draw = None;
			let seed = if draw.blocks > 0 {
				Self::seed(id, &draw)
			} else {
				match Self::tossed(id, draw.from) {
					Some(seed) => seed,
					None => {
						Self::draw_by_window(now, id, request);
						continue;
					}
				}
			};
			let drawn = seed.is_some_and(|seed| Self::draw(now, id, &mut request, seed, &roster));
			if !drawn {
				failed.push((id, draw));
			}
		}
		if failed.is_empty() {
			return;
		}
		// They go before those that came later, who would take what becomes free.
		let next = now.saturating_add(One::one());
		let later = Draws::<T>::take(next);
		let wait = |id, draw, wanted| {
			let at = Self::place_draw(id, wanted);
			Requests::<T>::mutate(id, |request| {
				if let Some(request) = request {
					request.draw = Some(Draw { at, ..draw });
				}
			});
		};
		// Half of a block is left to the others, however many can't be drawn for, and they have it before the rest of those.
		let front = failed.len().min((T::MaxDraws::get() as usize).div_ceil(2));
		let behind = failed.split_off(front);
		for (id, draw) in failed {
			wait(id, draw, next);
		}
		for id in later {
			let at = Self::place_draw(id, next);
			if at != next {
				Requests::<T>::mutate(id, |request| {
					if let Some(draw) = request.as_mut().and_then(|r| r.draw.as_mut()) {
						if draw.at == next {
							draw.at = at;
						}
					}
				});
			}
		}
		for (id, draw) in behind {
			wait(id, draw, next.saturating_add(One::one()));
		}
	}

	/// Draws for one request. `false` if it has to go on waiting; nothing is changed then.
	pub(crate) fn draw(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
		roster: &Roster<T::AccountId>,
	) -> bool {
		match request.state {
			RequestState::Requested => Self::draw_executor(now, id, request, seed, roster),
			RequestState::Provisional => Self::draw_verifiers(now, id, request, seed, roster),
			RequestState::Disputed => Self::draw_jury(now, id, request, seed, roster),
			RequestState::Final | RequestState::Unanswerable => {
				Self::draw_audit(now, id, request, seed, roster)
			}
			_ => true,
		}
	}

	fn draw_executor(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
		roster: &Roster<T::AccountId>,
	) -> bool {
		let Some(model) = Models::<T>::get(request.model) else {
			return true;
		};
		let candidates: Vec<_> = Self::serving_before(request, roster)
			.into_iter()
			.filter(|(who, ..)| !request.excluded.contains(who))
			.collect();
		// An executor whose answer nobody could check would work for nothing.
		if candidates.len() <= usize::from(request.verifiers) {
			return false;
		}
		let loads = Loads::<T>::get();
		let load = |index: u32| loads.get(index as usize).copied().unwrap_or_default();
		// What each would have done with it beside what it has to do already.
		let able: Vec<_> = candidates
			.into_iter()
			.map(|(who, index, speed)| {
				let own = Self::work_of(request, Role::Executor, speed);
				(who, load(index), own)
			})
			// What is more than anybody's capacity is done by who has nothing else to do.
			.filter(|(_, load, own)| *load == 0 || load.saturating_add(*own) <= T::MaxLoad::get())
			.collect();
		let pick = H256((seed, b"executor").using_encoded(blake2_256));
		let completions: Vec<_> = able
			.iter()
			.map(|(_, load, own)| load.saturating_add(*own))
			.collect();
		let weights = by_completion(&completions);
		let Some(place) = weighted(&pick, &weights) else {
			return false;
		};
		let (executor, load, own) = able[place].clone();
		let answer = Self::fair_blocks(&model.spec.time, request.max_output_units);
		let blocks = answer.saturating_add(load / 1_000);
		Self::schedule(now, blocks.into(), id, request);
		request.state = RequestState::Assigned;
		request.executor = Some(executor.clone());
		request.seed = request
			.seed
			.or_else(|| Some(H256((seed, b"sampling").using_encoded(blake2_256))));
		request.assigned_at = Some(now);
		request.assigned_in = Some(T::ValidatorSet::session_index());
		let (window, toss) = Self::drawing(request.verifiers, blocks);
		request.windows = Some(Windows {
			// An answer can be in the next block at the earliest, and is when what its executor has to do before it is done, and it.
			first: now
				.saturating_add(2u32.into())
				.saturating_add((load.saturating_add(own).saturating_add(500) / 1_000).into()),
			blocks: window,
			toss,
		});
		Self::unreserve(request, own);
		Self::assign(&executor, id, Role::Executor, own);
		Requests::<T>::insert(id, &*request);
		Self::deposit_event(Event::ExecutorDrawn {
			request: id,
			executor,
			deadline: request.deadline,
		});
		true
	}

	/// How verifiers of an answer are drawn that can be given in so many blocks: the blocks of a window, and whether validators toss first.
	pub(crate) fn drawing(verifiers: u8, time: u32) -> (u8, bool) {
		if verifiers == 0 {
			return (1, false);
		}
		(draw_blocks(time, T::DrawOdds::get()), Self::can_toss(time))
	}

	/// The toss for an answer's verifiers has failed: they are drawn in a window of several blocks. Who withheld a contribution because it
	/// did not like the verifiers has another throw, so the answer is measured again later for sure.
	fn draw_by_window(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		request.course.disturbed = true;
		Self::wait_for_window(now, id, &mut request);
		Requests::<T>::insert(id, request);
	}

	/// Has an answer's verifiers drawn in the next window, for as long as that takes.
	pub(crate) fn wait_for_window(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
	) {
		let (from, blocks) = Self::window(request, now);
		let last = from.saturating_add(u32::from(blocks).into());
		let patience = T::DrawPatience::get().saturating_add(last.saturating_sub(now));
		Self::schedule(now, patience, id, request);
		Self::queue_draw(id, request, from, blocks);
	}

	/// The window in which an answer of this block is drawn for: its first block, and its length.
	pub(crate) fn window(
		request: &RequestOf<T>,
		answered: BlockNumberFor<T>,
	) -> (BlockNumberFor<T>, u8) {
		let next = answered.saturating_add(One::one());
		let Some(windows) = request.windows else {
			return (next, 1);
		};
		let length: u32 = windows.blocks.into();
		let passed: u32 = next.saturating_sub(windows.first).unique_saturated_into();
		let skipped = passed.div_ceil(length).saturating_mul(length);
		(windows.first.saturating_add(skipped.into()), windows.blocks)
	}

	/// Draws the verifiers that a round is short of: all of them and the challenge, or replacements.
	fn draw_verifiers(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
		roster: &Roster<T::AccountId>,
	) -> bool {
		let (Some(model), Some(executor)) =
			(Models::<T>::get(request.model), request.executor.clone())
		else {
			return true;
		};
		let round = Rounds::<T>::get(id);
		if let (Assurance::Sampled(p), None, false) =
			(request.assurance, &round, request.course.drawn)
		{
			let roll = H256((seed, b"sampled").using_encoded(blake2_256));
			let roll = u64::from_le_bytes(roll.0[..8].try_into().expect("8 of 32 bytes; qed"));
			if roll % 1_000 >= u64::from(p) {
				Self::schedule(now, T::AppealBlocks::get(), id, request);
				request.appealable_until = Some(request.deadline);
				let reserved = request.reserved;
				Self::unreserve(request, reserved);
				Self::unassign(&executor, id);
				Self::unburden(request);
				request.course.unchecked = true;
				Requests::<T>::insert(id, &*request);
				Self::deposit_event(Event::NotChecked {
					request: id,
					appealable_until: request.deadline,
				});
				return true;
			}
		}
		let (present, wanted) = match &round {
			Some(r) => (
				r.members.iter().map(|m| m.who.clone()).collect(),
				r.missing(),
			),
			None => (Vec::from([executor.clone()]), u32::from(request.verifiers)),
		};
		// An executor that was left out of its round is no verifier of itself.
		let mut barred = present.clone();
		barred.push(executor.clone());
		let candidates = Self::checkers(request, roster, &barred);
		let drawn = draw_lowest(&seed, b"verifier", candidates, wanted);
		let there = present.iter().filter(|who| **who != executor).count() + drawn.len();
		let enough = drawn.len() as u32 == wanted || (request.course.short && there > 0);
		if !enough {
			return false;
		}
		request.course.drawn = true;
		// A measurement takes no longer than the answer did, and waits for what the busiest of them has to do.
		let loads = Loads::<T>::get();
		let busiest = drawn
			.iter()
			.filter_map(|who| roster.index(who))
			.filter_map(|index| loads.get(index as usize).copied())
			.max()
			.unwrap_or_default();
		let blocks = Self::fair_blocks(&model.spec.time, request.max_output_units)
			.saturating_add(busiest / 1_000);
		Self::schedule(now, blocks.into(), id, request);
		let deadline = request.deadline;
		Self::assign_all(&drawn, id, request, Role::Verifier);
		let session = T::ValidatorSet::session_index();
		let mut round = match round {
			Some(mut r) => {
				r.fill(session, drawn.iter().cloned(), deadline);
				r
			}
			None => {
				// What a toss draws is of this fork alone already. The block before was written by somebody who may have known it, and would
				// try blocks until it likes the challenge.
				let tossed = request.windows.is_some_and(|windows| windows.toss);
				let parent = if tossed && !request.course.disturbed {
					T::Hash::default()
				} else {
					frame_system::Pallet::<T>::parent_hash()
				};
				let challenge = H256((seed, b"challenge", parent).using_encoded(blake2_256));
				let executor = (!request.course.executor_silent).then_some(executor);
				let members = executor.into_iter().chain(drawn.iter().cloned());
				Round::new(challenge, session, members, deadline)
			}
		};
		if request.course.short {
			round.make_do();
		}
		let challenge = round.challenge;
		Self::deposit_event(Event::CommitteeDrawn {
			request: id,
			verifiers: drawn,
			challenge,
			deadline,
		});
		Self::begin_reveal(now, id, request, &mut round);
		Rounds::<T>::insert(id, round);
		Requests::<T>::insert(id, &*request);
		true
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn weights_decide() {
		let mut hits = [0u32; 4];
		for i in 0..10_000u32 {
			let random = H256(i.using_encoded(blake2_256));
			hits[weighted(&random, &[1, 0, 2, 1]).unwrap()] += 1;
		}
		assert_eq!(hits[1], 0);
		// 5,000 expected; five standard deviations are 250.
		assert!((4_750..=5_250).contains(&hits[2]), "{hits:?}");
		assert_eq!(weighted(&H256::zero(), &[0, 0]), None);
		assert_eq!(weighted(&H256::zero(), &[]), None);
	}

	#[test]
	fn a_third_of_the_slots_owns_a_window_in_one_of_a_thousand_answers() {
		for time in [0, 5, 20, 100, 1_200] {
			let blocks = draw_blocks(time, 1_000);
			let windows = time / u32::from(blocks) + 1;
			assert!(
				windows * 1_000 <= 3u32.pow(blocks.into()),
				"{time}: {blocks}"
			);
			let fewer = u32::from(blocks) - 1;
			assert!(
				(time / fewer + 1) * 1_000 > 3u32.pow(fewer),
				"{time}: {blocks} are more than needed"
			);
		}
		assert_eq!(draw_blocks(0, 1_000), 7);
		assert_eq!((draw_blocks(4, 1), draw_blocks(4, 0)), (2, 1));
	}

	#[test]
	fn nobody_is_drawn_more_than_twice_as_often_as_the_one_in_the_middle() {
		let weights = by_completion(&[100, 1_100, 1_100, 7_100]);
		assert_eq!(weights[0], 2 * weights[1]);
		assert!(weights[3] < weights[1] / 4);
		assert_eq!(by_completion(&[]), Vec::<u32>::new());
	}
}
