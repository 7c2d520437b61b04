//! Lateness: executors and verifiers are replaced, requests expire, settled ones are forgotten.

use consilience_primitives::{view::RequestState, RequestId};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::{
		traits::{Get, One, Saturating},
		DispatchError,
	},
};

use crate::{
	features::round::Phase, Callbacks, Config, Deadlines, Error, Event, ExpiryReason, Genesis,
	Inputs, Outputs, Pallet, Prune, RequestOf, Requests, Rounds,
};

/// Blocks beyond the wanted one in which a place for a deadline is looked for.
const SEARCH: u32 = 256;

impl<T: Config> Pallet<T> {
	/// Remembers the genesis block's hash while `frame-system` has it.
	pub(crate) fn note_genesis(now: BlockNumberFor<T>) {
		if now == One::one() {
			Genesis::<T>::put(polkadot_sdk::sp_core::H256(
				frame_system::Pallet::<T>::parent_hash().into(),
			));
		}
	}

	/// Has the request looked at when `blocks` have passed, or a little later where that block is full. Gives the last block in
	/// which a statement is in time.
	pub(crate) fn schedule(
		now: BlockNumberFor<T>,
		blocks: BlockNumberFor<T>,
		id: RequestId,
	) -> Result<BlockNumberFor<T>, DispatchError> {
		let last = now.saturating_add(blocks.max(One::one()));
		for extra in 0..SEARCH {
			let last = last.saturating_add(extra.into());
			if Deadlines::<T>::try_append(last.saturating_add(One::one()), id).is_ok() {
				return Ok(last);
			}
		}
		Err(Error::<T>::TooManyOpen.into())
	}

	/// Looks at the requests whose last block has passed. Gives their number.
	pub(crate) fn process_deadlines(now: BlockNumberFor<T>) -> u32 {
		let due = Deadlines::<T>::take(now);
		for id in &due {
			let Some(request) = Requests::<T>::get(id) else {
				continue;
			};
			// A request that went on since has another deadline.
			if !request.state.is_settled() && request.deadline.saturating_add(One::one()) == now {
				Self::late(now, *id, request);
			}
		}
		due.len() as u32
	}

	fn late(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		let round = Rounds::<T>::get(id);
		match (request.state, round) {
			(RequestState::Assigned, _) => Self::replace_executor(now, id, request),
			(RequestState::Provisional, Some(round)) if round.missing() == 0 => {
				let absent = round.absent();
				let executor_absent = request.executor.as_ref().is_some_and(|executor| {
					absent.contains(executor)
						|| (round.phase == Phase::Reveal && !Outputs::<T>::contains_key(id))
				});
				if executor_absent {
					return Self::replace_executor(now, id, request);
				}
				// Who could still copy an output that stands on chain cannot check it.
				let output_shown =
					round.phase == Phase::Reveal && request.output_commitment.is_some();
				let excluded = absent
					.iter()
					.all(|a| request.excluded.try_push(a.clone()).is_ok());
				if output_shown || !excluded {
					return Self::expire(id, request, ExpiryReason::TooFewVerifiers);
				}
				match round.phase {
					Phase::Commit => {
						let mut round = round;
						for verifier in absent {
							round.remove(&verifier);
							Self::unassign(&verifier, id);
							Self::deposit_event(Event::VerifierReplaced {
								request: id,
								verifier,
							});
						}
						Rounds::<T>::insert(id, round);
					}
					Phase::Reveal => {
						// Evidence of this challenge is on chain: a new round asks another question.
						for member in &round.members {
							if request.executor.as_ref() != Some(&member.who) {
								Self::unassign(&member.who, id);
							}
						}
						for member in absent {
							Self::deposit_event(Event::RevealMissing {
								request: id,
								member,
							});
						}
						Rounds::<T>::remove(id);
					}
				}
				match Self::schedule(now, T::DrawPatience::get(), id) {
					Ok(deadline) => {
						request.deadline = deadline;
						Requests::<T>::insert(id, request);
						Self::queue_draw(id);
					}
					Err(_) => Self::expire(id, request, ExpiryReason::TooFewVerifiers),
				}
			}
			(RequestState::Provisional, _) => {
				Self::expire(id, request, ExpiryReason::TooFewVerifiers)
			}
			_ => Self::expire(id, request, ExpiryReason::NoExecutor),
		}
	}

	/// Takes the request from its executor, with whatever was built on its answer, and has another drawn.
	fn replace_executor(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		let Some(executor) = request.executor.take() else {
			return;
		};
		Self::unassign(&executor, id);
		if let Some(round) = Rounds::<T>::take(id) {
			for member in &round.members {
				Self::unassign(&member.who, id);
			}
		}
		Outputs::<T>::remove(id);
		request.output_commitment = None;
		request.provisional_at = None;
		request.state = RequestState::Requested;
		let excluded = request.excluded.try_push(executor.clone()).is_ok();
		Self::deposit_event(Event::ExecutorReplaced {
			request: id,
			executor,
		});
		let patience = Models::<T>::get(request.model)
			.map(|m| Self::draw_patience(&m.spec.time, request.max_output_units));
		match patience.map(|blocks| Self::schedule(now, blocks, id)) {
			Some(Ok(deadline)) if excluded => {
				request.deadline = deadline;
				Requests::<T>::insert(id, request);
				Self::queue_draw(id);
			}
			_ => Self::expire(id, request, ExpiryReason::NoExecutor),
		}
	}

	fn expire(id: RequestId, mut request: RequestOf<T>, reason: ExpiryReason) {
		let refunded = Self::close(id, &mut request, RequestState::Expired);
		Self::deposit_event(Event::RequestExpired {
			request: id,
			reason,
			refunded,
		});
	}

	/// Has a settled request forgotten when its retention has passed.
	pub(crate) fn schedule_prune(id: RequestId) {
		let now = frame_system::Pallet::<T>::block_number();
		let wanted = now.saturating_add(T::Retention::get().max(One::one()));
		let placed = (0..SEARCH)
			.any(|extra| Prune::<T>::try_append(wanted.saturating_add(extra.into()), id).is_ok());
		if !placed {
			log::error!(target: crate::LOG_TARGET, "no place to prune request {id}: forgotten now");
			Self::forget(id);
		}
	}

	/// Forgets the requests whose retention has passed and of which nobody is still to be told. Gives their number.
	pub(crate) fn prune(now: BlockNumberFor<T>) -> u32 {
		let due = Prune::<T>::take(now);
		if due.is_empty() {
			return 0;
		}
		let told_later = Callbacks::<T>::get();
		for id in &due {
			if told_later.contains(id) {
				Self::schedule_prune(*id);
			} else {
				Self::forget(*id);
			}
		}
		due.len() as u32
	}

	fn forget(id: RequestId) {
		Requests::<T>::remove(id);
		Inputs::<T>::remove(id);
		Outputs::<T>::remove(id);
		Rounds::<T>::remove(id);
	}
}
