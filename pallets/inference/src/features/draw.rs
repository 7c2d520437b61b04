//! Drawing executors, verifiers and challenges.
//!
//! ## Which block's VRF
//!
//! `pallet-babe` stores the VRF output of the block that is being executed in its `on_finalize`. `ParentBlockRandomness` reads it:
//! from a call or `on_initialize` of block *n* that is the output of *n* − 1, from an `on_finalize` after Babe's that of *n*.
//! An event of block *n* is drawn here in `on_finalize` of *n* + 1 or later, so with the output of a block *strictly after* the
//! event, which whoever wrote block *n* cannot know unless the next block is its own. The parent hash is mixed in: it is the
//! hash of the block with the answer or of one built on it, so a fork that parts before the draw asks another question.
//!
//! A block without VRF output draws nothing; its draws wait for the next that has one.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{model::TimeLimit, request::Assurance, view::RequestState, RequestId};
use pallet_model_registry::{Models, Serving};
use polkadot_sdk::{
	frame_support::traits::{Randomness, ValidatorSet},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{Get, Saturating},
};

use crate::{
	features::round::Round, Assignments, Config, Event, Keys, Pallet, PendingDraw, PendingDraws,
	RequestOf, Requests, Role, Rounds,
};

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

/// Draws at most so many candidates by weight, each once.
pub(crate) fn draw_distinct<AccountId>(
	seed: &H256,
	label: impl Encode,
	(mut candidates, mut weights): (Vec<AccountId>, Vec<u32>),
	most: u32,
) -> Vec<AccountId> {
	let mut drawn = Vec::new();
	for i in 0..most {
		let pick = H256((seed, &label, i).using_encoded(blake2_256));
		let Some(index) = weighted(&pick, &weights) else {
			break;
		};
		drawn.push(candidates.swap_remove(index));
		weights.swap_remove(index);
	}
	drawn
}

impl<T: Config> Pallet<T> {
	/// Blocks that a request waits for a draw before it expires.
	pub(crate) fn draw_patience(time: &TimeLimit, output_units: u32) -> BlockNumberFor<T> {
		T::DrawPatience::get().saturating_add(time.answer_blocks(output_units).into())
	}

	/// Validators of the session that serve the request's model.
	pub(crate) fn serving(request: &RequestOf<T>) -> impl Iterator<Item = T::AccountId> {
		let keys = Keys::<T>::get();
		Serving::<T>::get(request.model)
			.into_iter()
			.filter(move |v| keys.iter().any(|(k, _)| k == v))
	}

	/// Those who serve the request's model, have capacity for the role, and may be drawn; with their free capacity.
	///
	/// A validator is executor in no more requests than leave room for all of their verifiers, were they spread evenly. Verifying
	/// waits for nothing, so that this room always becomes free again; without it, executors alone could fill all capacity and wait
	/// for verifiers for ever.
	///
	/// Jurors have places of their own, so that a busy network has juries too, and lateness excludes nobody from them.
	pub(crate) fn candidates(
		request: &RequestOf<T>,
		role: Role,
		members: &[T::AccountId],
	) -> (Vec<T::AccountId>, Vec<u32>) {
		let committee = u32::from(request.verifiers).saturating_add(1);
		let executions = (T::MaxLoad::get() / committee).max(1);
		Self::serving(request)
			.filter(|v| {
				(role == Role::Juror || !request.excluded.contains(v))
					&& !members.contains(v)
					&& !Self::is_suspended(v)
			})
			.filter_map(|v| {
				let duties = Assignments::<T>::get(&v);
				let of = |role| duties.iter().filter(|(_, r)| *r == role).count() as u32;
				let (executing, judging) = (of(Role::Executor), of(Role::Juror));
				let load = (duties.len() as u32).saturating_sub(judging);
				let free = match role {
					Role::Juror => T::MaxJuries::get().saturating_sub(judging).min(1),
					_ => T::MaxLoad::get().saturating_sub(load),
				};
				let room = free > 0 && (role != Role::Executor || executing < executions);
				room.then_some((v, free))
			})
			.unzip()
	}

	/// Adds a request to a validator's duties. It was drawn among those with capacity.
	pub(crate) fn assign(validator: &T::AccountId, id: RequestId, role: Role) {
		Assignments::<T>::mutate(validator, |list| {
			if list.try_push((id, role)).is_err() {
				log::error!(target: crate::LOG_TARGET, "a validator without capacity was drawn");
			}
		});
	}

	/// Takes a request from a validator's duties.
	pub(crate) fn unassign(validator: &T::AccountId, id: RequestId) {
		Assignments::<T>::mutate_exists(validator, |list| {
			if let Some(l) = list {
				l.retain(|(r, _)| *r != id);
				if l.is_empty() {
					*list = None;
				}
			}
		});
	}

	/// Draws for the requests whose event is in an earlier block, at most [`Config::MaxPerBlock`] of them.
	pub(crate) fn process_draws(now: BlockNumberFor<T>) {
		let pending = PendingDraws::<T>::get();
		if pending.is_empty() {
			return;
		}
		let (Some(random), _) = T::Randomness::random(b"consilience/draw") else {
			return;
		};
		let parent = frame_system::Pallet::<T>::parent_hash();
		let (mut left, mut failed, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
		let mut drawn = 0;
		for entry in pending {
			if entry.since >= now {
				fresh.push(entry);
				continue;
			}
			if drawn >= T::MaxPerBlock::get() {
				left.push(entry);
				continue;
			}
			drawn += 1;
			let seed = H256((random, parent, entry.request).using_encoded(blake2_256));
			if !Self::draw(now, entry.request, seed) {
				failed.push(entry);
			}
		}
		// Those that could not be drawn go behind those that were not tried, so that they do not keep the others waiting, and before
		// those that came later, who would take what becomes free.
		left.append(&mut failed);
		left.append(&mut fresh);
		PendingDraws::<T>::put(polkadot_sdk::frame_support::BoundedVec::truncate_from(left));
	}

	/// Draws for one request. `false` if it has to go on waiting.
	pub(crate) fn draw(now: BlockNumberFor<T>, id: RequestId, seed: H256) -> bool {
		let Some(mut request) = Requests::<T>::get(id) else {
			return true;
		};
		match request.state {
			RequestState::Requested => Self::draw_executor(now, id, &mut request, seed),
			RequestState::Provisional => Self::draw_verifiers(now, id, &mut request, seed),
			RequestState::Disputed => Self::draw_jury(now, id, &mut request, seed),
			_ => true,
		}
	}

	fn draw_executor(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
	) -> bool {
		let Some(model) = Models::<T>::get(request.model) else {
			return true;
		};
		// An executor whose answer nobody could check would work for nothing.
		let (could_check, _) = Self::candidates(request, Role::Verifier, &[]);
		if could_check.len() <= usize::from(request.verifiers) {
			return false;
		}
		let (candidates, free) = Self::candidates(request, Role::Executor, &[]);
		let pick = H256((seed, b"executor").using_encoded(blake2_256));
		let Some(executor) = weighted(&pick, &free).and_then(|i| candidates.get(i)) else {
			return false;
		};
		let blocks = model.spec.time.answer_blocks(request.max_output_units);
		Self::schedule(now, blocks.into(), id, request);
		request.state = RequestState::Assigned;
		request.executor = Some(executor.clone());
		request.seed = request
			.seed
			.or_else(|| Some(H256((seed, b"sampling").using_encoded(blake2_256))));
		request.assigned_at = Some(now);
		request.assigned_in = Some(T::ValidatorSet::session_index());
		Self::assign(executor, id, Role::Executor);
		Requests::<T>::insert(id, &*request);
		Self::deposit_event(Event::ExecutorDrawn {
			request: id,
			executor: executor.clone(),
			deadline: request.deadline,
		});
		true
	}

	/// Draws the verifiers that a round is short of: all of them and the challenge, or replacements.
	fn draw_verifiers(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
	) -> bool {
		let (Some(model), Some(executor)) =
			(Models::<T>::get(request.model), request.executor.clone())
		else {
			return true;
		};
		let round = Rounds::<T>::get(id);
		if let (Assurance::Sampled(p), None) = (request.assurance, &round) {
			let roll = H256((seed, b"sampled").using_encoded(blake2_256));
			let roll = u64::from_le_bytes(roll.0[..8].try_into().expect("8 of 32 bytes; qed"));
			if roll % 1_000 >= u64::from(p) {
				Self::schedule(now, T::AppealBlocks::get(), id, request);
				request.appealable_until = Some(request.deadline);
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
		let candidates = Self::candidates(request, Role::Verifier, &present);
		let drawn = draw_distinct(&seed, b"verifier", candidates, wanted);
		if (drawn.len() as u32) < wanted {
			return false;
		}
		// A measurement takes no longer than the answer did.
		let blocks = model.spec.time.answer_blocks(request.max_output_units);
		Self::schedule(now, blocks.into(), id, request);
		let deadline = request.deadline;
		let session = T::ValidatorSet::session_index();
		for verifier in &drawn {
			Self::assign(verifier, id, Role::Verifier);
		}
		let round = match round {
			Some(mut r) => {
				r.fill(session, drawn.iter().cloned(), deadline);
				r
			}
			None => {
				let challenge = H256((seed, b"challenge").using_encoded(blake2_256));
				let members = core::iter::once(executor).chain(drawn.iter().cloned());
				Round::new(challenge, session, members, deadline)
			}
		};
		Requests::<T>::insert(id, &*request);
		Self::deposit_event(Event::CommitteeDrawn {
			request: id,
			verifiers: drawn,
			challenge: round.challenge,
			deadline,
		});
		Rounds::<T>::insert(id, round);
		true
	}

	/// Has a request drawn for again, with randomness of a later block than this one.
	pub(crate) fn queue_draw(id: RequestId) {
		let since = frame_system::Pallet::<T>::block_number();
		PendingDraws::<T>::mutate(|list| {
			list.retain(|e| e.request != id);
			// At most one entry for every open request, and as many places.
			if list.try_push(PendingDraw { request: id, since }).is_err() {
				log::error!(target: crate::LOG_TARGET, "no place to draw for request {id}");
			}
		});
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
}
