//! Lateness: executors and verifiers are replaced, requests expire, settled ones are forgotten.

use alloc::vec::Vec;

use consilience_primitives::{view::RequestState, RequestId};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::traits::{Get, One, Saturating},
};

use crate::{
	features::{round::Phase, settle::Payees},
	Callbacks, Config, Deadlines, Event, ExpiryReason, Inputs, Juries, Outputs, Pallet, Prune,
	PruneRange, RequestOf, Requests, Rounds,
};

impl<T: Config> Pallet<T> {
	/// Has the request looked at when `blocks` have passed, or a little later where that block is full, and no more at its former
	/// deadline. [`crate::Request::deadline`] is the last block in which a statement is in time.
	pub(crate) fn schedule(
		now: BlockNumberFor<T>,
		blocks: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
	) {
		Self::unschedule(id, request.deadline);
		let wanted = now.saturating_add(blocks.max(One::one()));
		// Each open request stands once in all blocks together, and these have room for one more than can be open.
		let places = T::MaxOpen::get() / T::MaxPerBlock::get().max(1) + 1;
		let found = (0..places)
			.map(|extra| wanted.saturating_add(extra.into()))
			.find(|last| Deadlines::<T>::try_append(last.saturating_add(One::one()), id).is_ok());
		if found.is_none() {
			log::error!(target: crate::LOG_TARGET, "no place for the deadline of request {id}");
		}
		request.deadline = found.unwrap_or(wanted);
	}

	/// Has the request no more looked at when this deadline has passed.
	pub(crate) fn unschedule(id: RequestId, deadline: BlockNumberFor<T>) {
		Deadlines::<T>::mutate_exists(deadline.saturating_add(One::one()), |list| {
			if let Some(l) = list {
				l.retain(|other| *other != id);
				if l.is_empty() {
					*list = None;
				}
			}
		});
	}

	/// Looks at the requests whose last block has passed. Gives the number of those without a jury, and of those with one.
	pub(crate) fn process_deadlines(now: BlockNumberFor<T>) -> (u32, u32) {
		let due = Deadlines::<T>::take(now);
		let mut juries = 0;
		for id in &due {
			if let Some(request) = Requests::<T>::get(id) {
				juries += u32::from(request.state == RequestState::Disputed);
				Self::late(now, *id, request);
			}
		}
		((due.len() as u32).saturating_sub(juries), juries)
	}

	fn late(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		let round = Rounds::<T>::get(id);
		match (request.state, round) {
			(RequestState::Assigned, _) => {
				if let Some(executor) = &request.executor {
					Self::strike(id, executor, request.model);
				}
				Self::replace_executor(now, id, request)
			}
			(RequestState::Disputed, _) => Self::late_jury(now, id, request),
			(RequestState::Provisional, None) if request.appealable_until.is_some() => {
				Self::accept_unchecked(id, request)
			}
			(RequestState::Provisional, Some(round)) if round.missing() == 0 => {
				let absent = round.absent();
				let revealing = round.phase == Phase::Reveal;
				// Members wait for finality before they reveal: where nobody did, it is finality that is late, and nobody to blame.
				let stalled = revealing && absent.len() == round.members.len();
				for member in absent.iter().filter(|_| !stalled) {
					if revealing {
						Self::withheld(id, member);
					} else {
						Self::strike(id, member, request.model);
					}
				}
				let hidden = revealing && !stalled && !Outputs::<T>::contains_key(id);
				if let Some(executor) = request.executor.as_ref().filter(|_| hidden) {
					if !absent.contains(executor) {
						Self::withheld(id, executor);
					}
				}
				// Evidence of a committed output shows it, or part of it: whoever were drawn now could copy, as executor
				// or as verifier.
				if revealing && request.output_commitment.is_some() {
					return Self::expire(id, request, ExpiryReason::RevealMissing);
				}
				let executor_absent = request
					.executor
					.as_ref()
					.is_some_and(|e| absent.contains(e));
				if executor_absent {
					return Self::replace_executor(now, id, request);
				}
				let excluded = absent
					.iter()
					.all(|a| request.excluded.try_push(a.clone()).is_ok());
				if !excluded {
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
						Rounds::<T>::remove(id);
					}
				}
				Self::schedule(now, T::DrawPatience::get(), id, &mut request);
				Requests::<T>::insert(id, request);
				Self::queue_draw(id);
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
		match Models::<T>::get(request.model) {
			Some(model) if excluded => {
				let patience = Self::draw_patience(&model.spec.time, request.max_output_units);
				Self::schedule(now, patience, id, &mut request);
				Requests::<T>::insert(id, request);
				Self::queue_draw(id);
			}
			_ => Self::expire(id, request, ExpiryReason::NoExecutor),
		}
	}

	/// Nobody appealed against an answer that was not drawn for a check.
	fn accept_unchecked(id: RequestId, mut request: RequestOf<T>) {
		let (Some(output), Some(executor)) = (Outputs::<T>::get(id), request.executor.clone())
		else {
			return Self::expire(id, request, ExpiryReason::NoExecutor);
		};
		let payees = Payees {
			executor: Some(executor),
			verifiers: Vec::new(),
			shares: 0,
			jurors: Vec::new(),
		};
		Self::settle(id, &mut request, &output, payees);
	}

	fn expire(id: RequestId, mut request: RequestOf<T>, reason: ExpiryReason) {
		let refunded = Self::close(id, &mut request, RequestState::Expired);
		Self::deposit_event(Event::RequestExpired {
			request: id,
			reason,
			refunded,
		});
	}

	/// Has a settled request forgotten when its retention has passed and those settled before it are forgotten.
	pub(crate) fn queue_prune(id: RequestId) {
		PruneRange::<T>::mutate(|(_, end)| {
			Prune::<T>::insert(*end, id);
			*end += 1;
		});
	}

	/// Forgets requests whose retention has passed and of which nobody is still to be told, at most [`Config::MaxPerBlock`] of
	/// them. Gives their number.
	pub(crate) fn prune(now: BlockNumberFor<T>) -> u32 {
		let mut looked_at = 0;
		while looked_at < T::MaxPerBlock::get() {
			let (first, end) = PruneRange::<T>::get();
			let Some(id) = Prune::<T>::get(first).filter(|_| first < end) else {
				break;
			};
			let request = Requests::<T>::get(id);
			let settled_at = request.as_ref().and_then(|r| r.settled_at);
			if settled_at.is_some_and(|at| at.saturating_add(T::Retention::get()) > now) {
				break;
			}
			looked_at += 1;
			Prune::<T>::remove(first);
			PruneRange::<T>::put((first + 1, end));
			if request.is_some_and(|r| r.callback) && Callbacks::<T>::get().contains(&id) {
				Self::queue_prune(id);
			} else {
				Self::forget(id);
			}
		}
		looked_at
	}

	fn forget(id: RequestId) {
		Requests::<T>::remove(id);
		Inputs::<T>::remove(id);
		Outputs::<T>::remove(id);
		Rounds::<T>::remove(id);
		Juries::<T>::remove(id);
	}
}
