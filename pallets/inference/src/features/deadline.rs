//! Lateness: executors and verifiers are replaced, requests expire, settled ones are forgotten.

use alloc::vec::Vec;

use consilience_primitives::{view::RequestState, RequestId};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::traits::{Get, One, Saturating},
};

use crate::{
	features::{offence::OffenceKind, round::Phase, settle::Payees},
	Callbacks, Config, Deadlines, Elsewhere, Event, ExpiryReason, Inputs, Juries, Outputs, Overdue,
	Pallet, Prune, PruneRange, RequestOf, Requests, RoundOf, Rounds, Vouchers,
};

/// Counts of the requests that were looked at in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
	/// Late, without a jury.
	pub(crate) late: u32,
	/// Late, with one.
	pub(crate) juries: u32,
	/// In time: they are looked at again later.
	pub(crate) moved: u32,
	/// Settled, or looked at in another block.
	pub(crate) passed: u32,
}

impl<T: Config> Pallet<T> {
	/// Gives what is due of a request so many blocks of time. It is looked at when they have passed, or before that: a place that it has
	/// already is kept where it comes early enough, so that most requests, which are answered in time, take one.
	pub(crate) fn schedule(
		now: BlockNumberFor<T>,
		blocks: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
	) {
		request.deadline = now.saturating_add(blocks.max(One::one()));
		let is_early = request.looked_at <= request.deadline.saturating_add(One::one());
		if request.looked_at <= now || !is_early {
			Self::look_at_deadline(id, request);
		}
	}

	/// The same for a request that has just been taken, whose executor is drawn soon and has at least as long as a reveal.
	pub(crate) fn schedule_first(
		now: BlockNumberFor<T>,
		blocks: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
	) {
		request.deadline = now.saturating_add(blocks.max(One::one()));
		let deadline = request.deadline;
		let soon = now.saturating_add(T::RevealBlocks::get());
		Self::look(id, request, deadline.min(soon).saturating_add(One::one()));
	}

	/// Has the request looked at in the block after its deadline, or a little later where that is full: the deadline moves with it.
	fn look_at_deadline(id: RequestId, request: &mut RequestOf<T>) {
		let wanted = request.deadline.saturating_add(One::one());
		Self::look(id, request, wanted);
	}

	/// Has the request looked at in the first block from `wanted` on that has room. Its former place stays and is passed over.
	fn look(id: RequestId, request: &mut RequestOf<T>, wanted: BlockNumberFor<T>) {
		let mut at = wanted;
		// Every place is in one block and is taken out when that has come: room is found.
		while Deadlines::<T>::try_append(at, id).is_err() {
			at.saturating_inc();
		}
		request.looked_at = at;
		request.deadline = request.deadline.max(at.saturating_sub(One::one()));
	}

	/// Looks at the requests whose last block may have passed.
	pub(crate) fn process_deadlines(now: BlockNumberFor<T>) -> Looked {
		let mut looked = Looked::default();
		for id in Deadlines::<T>::take(now) {
			let request = Requests::<T>::get(id)
				.filter(|request| !request.state.is_settled() && request.looked_at == now);
			let Some(mut request) = request else {
				looked.passed += 1;
				continue;
			};
			if request.deadline >= now {
				looked.moved += 1;
				Self::look_at_deadline(id, &mut request);
				Requests::<T>::insert(id, request);
				continue;
			}
			if request.state == RequestState::Disputed {
				looked.juries += 1;
			} else {
				looked.late += 1;
			}
			Self::late(now, id, request);
		}
		looked
	}

	fn late(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		match (request.state, Rounds::<T>::get(id)) {
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
			(RequestState::Provisional, Some(round)) if round.missing() == 0 => match round.phase {
				Phase::Commit => Self::late_commit(now, id, request, round),
				Phase::Reveal => Self::late_reveal(now, id, request, round),
			},
			// It waits for verifiers. Those who are there measure: that others left must not save a liar.
			(RequestState::Provisional, _) if !request.course.short => {
				request.course.short = true;
				Self::wait_for_draw(now, id, &mut request);
				Requests::<T>::insert(id, request);
			}
			(RequestState::Provisional, _) => {
				Self::expire(id, request, ExpiryReason::TooFewVerifiers)
			}
			_ => Self::expire(id, request, ExpiryReason::NoExecutor),
		}
	}

	/// Members have not committed: verifiers are replaced, and the executor is measured without. What it posted is judged, whatever
	/// it does now.
	fn late_commit(
		now: BlockNumberFor<T>,
		id: RequestId,
		mut request: RequestOf<T>,
		mut round: RoundOf<T>,
	) {
		for member in round.absent() {
			Self::strike(id, &member, request.model);
			Self::unassign(&member, id);
			if request.executor.as_ref() == Some(&member) {
				round.leave_out(&member);
				request.course.executor_silent = true;
				Self::deposit_event(Event::ExecutorSilent {
					request: id,
					executor: member,
				});
				continue;
			}
			round.remove(&member);
			if request.excluded.try_push(member.clone()).is_err() {
				request.course.short = true;
			}
			Self::deposit_event(Event::VerifierReplaced {
				request: id,
				verifier: member,
			});
		}
		if round.size == 0 {
			return Self::expire(id, request, ExpiryReason::NoExecutor);
		}
		if round.missing() > 0 {
			Self::queue_later_draw(id, &mut request);
			Self::wait_for_draw(now, id, &mut request);
		} else {
			Self::begin_reveal(now, id, &mut request, &mut round);
		}
		Rounds::<T>::insert(id, round);
		Requests::<T>::insert(id, request);
	}

	/// Gives a round's members as much time again to show their evidence, once: finality may have been late.
	pub(crate) fn extend_once(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		round: &mut RoundOf<T>,
	) -> bool {
		if round.extended {
			return false;
		}
		round.extended = true;
		Self::schedule(now, T::RevealBlocks::get(), id, request);
		round.deadline = request.deadline;
		true
	}

	/// Members have not shown their evidence. There is more time once; then what was shown counts, and is never thrown away.
	fn late_reveal(
		now: BlockNumberFor<T>,
		id: RequestId,
		mut request: RequestOf<T>,
		mut round: RoundOf<T>,
	) {
		if Self::extend_once(now, id, &mut request, &mut round) {
			Rounds::<T>::insert(id, round);
			Requests::<T>::insert(id, request);
			return;
		}
		let Some(executor) = request.executor.clone() else {
			return Self::expire(id, request, ExpiryReason::NoExecutor);
		};
		let stalled = Self::is_stalled();
		let output = Outputs::<T>::get(id);
		if output.is_some() && Self::is_called_a_lie(&request, &round) {
			return Self::dispute_late(id, request, round, stalled);
		}
		let absent = round.leave_out_absent();
		for member in &absent {
			Self::unassign(member, id);
			// An output that is not shown costs more than evidence that is not, below.
			let hides = *member == executor && output.is_none();
			if !stalled && !hides {
				Self::withheld(id, member, &mut request);
			}
		}
		let Some(output) = output else {
			if !stalled {
				Self::offend(id, &executor, OffenceKind::FraudulentResult);
				Self::stop_serving(&executor, request.model);
				let verifiers: Vec<_> = round
					.revealed()
					.map(|(who, _)| who.clone())
					.filter(|who| *who != executor)
					.collect();
				Self::pay_measurements(id, &request, request.max_output_units, &verifiers);
			}
			Rounds::<T>::insert(id, &round);
			return Self::expire(id, request, ExpiryReason::RevealMissing);
		};
		request.course.executor_silent |= absent.contains(&executor);
		let shown = round.revealed().filter(|(who, _)| **who != executor);
		let nothing = shown.count() == 0;
		let missing = absent.iter().any(|who| *who != executor);
		// What was shown of a committed output can be copied: nobody can measure in place of who is missing.
		let committed = request.output_commitment.is_some();
		if nothing && (committed || request.verifiers == 0) {
			Rounds::<T>::insert(id, &round);
			return Self::expire(id, request, ExpiryReason::RevealMissing);
		}
		if !missing || committed {
			Rounds::<T>::insert(id, &round);
			let concluded = Self::conclude_with(id, request.clone(), &round, output);
			if let Err(e) = concluded {
				log::error!(target: crate::LOG_TARGET, "request {id}: no outcome: {e:?}");
				Self::expire(id, request, ExpiryReason::RevealMissing);
			}
			return;
		}
		for member in absent.into_iter().filter(|who| *who != executor) {
			if request.excluded.try_push(member).is_err() {
				request.course.short = true;
			}
		}
		Self::measure_again(id, request, &round);
	}

	/// Whether a verifier has shown that it finds the answer wrong.
	fn is_called_a_lie(request: &RequestOf<T>, round: &RoundOf<T>) -> bool {
		let Some(model) = Models::<T>::get(request.model) else {
			return false;
		};
		let policy = model.spec.policy.for_output(request.course.unanswerable);
		round
			.revealed()
			.filter(|(who, _)| request.executor.as_ref() != Some(who))
			.any(|(_, evidence)| !evidence.verdict.within(&policy.accept))
	}

	/// Calls a jury over an answer that was called a lie while members have not shown their evidence. What they show before the verdict
	/// still counts: a machine that stopped is no liar.
	fn dispute_late(
		id: RequestId,
		mut request: RequestOf<T>,
		mut round: RoundOf<T>,
		stalled: bool,
	) {
		let absent = if stalled {
			round.leave_out_absent()
		} else {
			round.absent()
		};
		for member in &absent {
			Self::unassign(member, id);
			request.course.executor_silent |= request.executor.as_ref() == Some(member);
			if !stalled {
				Overdue::<T>::insert(member, id, ());
			}
		}
		Rounds::<T>::insert(id, round);
		Self::dispute(id, request, None);
	}

	/// A jury has spoken: whoever of the committee has not shown its evidence by now is silent.
	pub(crate) fn end_overdue(id: RequestId, request: &mut RequestOf<T>) {
		let Some(mut round) = Rounds::<T>::get(id) else {
			return;
		};
		let silent: Vec<_> = round
			.members
			.iter()
			.map(|member| member.who.clone())
			.filter(|who| Overdue::<T>::take(who, id).is_some())
			.collect();
		if silent.is_empty() {
			return;
		}
		// When they were late the network was found not to be at fault. To look again now would count what is due of other rounds and still in
		// time as not shown.
		for member in &silent {
			Self::withheld(id, member, request);
			round.leave_out(member);
		}
		Rounds::<T>::insert(id, round);
	}

	/// Takes the request from an executor that has not answered, and has another drawn.
	fn replace_executor(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		let Some(executor) = request.executor.take() else {
			return;
		};
		Self::unassign(&executor, id);
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
				Self::queue_draw(id, &mut request, now.saturating_add(One::one()), 1);
				Requests::<T>::insert(id, request);
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
			jurors: Vec::new(),
		};
		Self::settle(id, &mut request, &output, payees);
	}

	pub(crate) fn expire(id: RequestId, mut request: RequestOf<T>, reason: ExpiryReason) {
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
			// One that is looked at again is not forgotten meanwhile, nor one of which somebody, or staking, is still to be told.
			let kept = request.is_some_and(|r| {
				!r.state.is_settled()
					|| (r.callback && Callbacks::<T>::get().contains(&id))
					|| Juries::<T>::get(id).is_some_and(|jury| jury.ruling.is_some())
					|| Elsewhere::<T>::get(id).is_some_and(|outside| !outside.told)
					|| Self::is_before_the_judge(id)
			});
			if kept {
				Self::queue_prune(id);
			} else {
				Self::forget(id);
			}
		}
		looked_at
	}

	fn forget(id: RequestId) {
		if let Some(request) = Requests::<T>::take(id) {
			pallet_model_registry::Pallet::<T>::request_closed(request.model);
		}
		Inputs::<T>::remove(id);
		Outputs::<T>::remove(id);
		Rounds::<T>::remove(id);
		Juries::<T>::remove(id);
		Vouchers::<T>::remove(id);
		Self::forget_elsewhere(id);
	}
}
