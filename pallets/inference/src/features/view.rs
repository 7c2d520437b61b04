//! What clients and workers are shown, and the invariants of storage.

use alloc::vec::Vec;
use consilience_primitives::{
	crypto::InferenceId,
	evidence::Evidence,
	report::{Duties, Duty, DutyKind, Work},
	view::{RequestState, RequestView},
	RequestId,
};
use pallet_model_registry::{Models, ServedBy};
use polkadot_sdk::frame_system::pallet_prelude::BlockNumberFor;

use crate::{
	features::round::{Phase, Progress},
	Assignments, BalanceOf, Config, Inputs, Juries, Keys, Outputs, Pallet, Requests, RoundOf,
	Rounds, Session,
};

impl<T: Config> Pallet<T> {
	/// A request with everything that is known of it.
	pub fn request_view(
		id: RequestId,
	) -> Option<RequestView<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>> {
		let request = Requests::<T>::get(id)?;
		let round = Rounds::<T>::get(id);
		let jury = Juries::<T>::get(id).and_then(|j| j.round);
		let executor = request.executor;
		Some(RequestView {
			id,
			requester: request.requester,
			model: request.model,
			input: Inputs::<T>::get(id)?,
			assurance: request.assurance,
			state: request.state,
			seed: request.seed,
			challenge: round.as_ref().map(|r| r.challenge),
			verifiers: round
				.iter()
				.flat_map(|r| &r.members)
				.map(|m| m.who.clone())
				.filter(|who| executor.as_ref() != Some(who))
				.collect(),
			jurors: jury
				.iter()
				.flat_map(|r| &r.members)
				.map(|m| m.who.clone())
				.collect(),
			executor,
			output: Outputs::<T>::get(id),
			evidence: Self::shown(&round).chain(Self::shown(&jury)).collect(),
			jury_challenge: jury.as_ref().map(|r| r.challenge),
			requested_at: request.requested_at,
			assigned_at: request.assigned_at,
			provisional_at: request.provisional_at,
			appealable_until: request.appealable_until,
			settled_at: request.settled_at,
			escrow: request.escrow,
			paid: request.paid,
			refunded: request.refunded,
		})
	}

	/// Evidence that the members of a round have shown.
	fn shown(round: &Option<RoundOf<T>>) -> impl Iterator<Item = (T::AccountId, Evidence)> + '_ {
		let members = round.iter().flat_map(|r| &r.members);
		members.filter_map(|m| match &m.progress {
			Progress::Revealed(evidence) => Some((m.who.clone(), evidence.clone())),
			_ => None,
		})
	}

	/// What is due for the validator with this key.
	pub fn duties(key: &InferenceId) -> Option<Duties<T::AccountId, BlockNumberFor<T>>> {
		let keys = Keys::<T>::get();
		let index = keys.iter().position(|(_, k)| k == key)?;
		let (validator, _) = keys.get(index)?;
		let mut duties: Vec<_> = Assignments::<T>::get(validator)
			.into_iter()
			.filter_map(|(id, _)| Self::duty(validator, id))
			.collect();
		duties.sort_by_key(|d| d.deadline);
		Some(Duties {
			validator: validator.clone(),
			session: Session::<T>::get(),
			index: index as u32,
			serving: ServedBy::<T>::get(validator).into_inner(),
			duties,
		})
	}

	fn duty(validator: &T::AccountId, id: RequestId) -> Option<Duty<BlockNumberFor<T>>> {
		let request = Requests::<T>::get(id)?;
		let is_executor = request.executor.as_ref() == Some(validator);
		let kind = match request.state {
			RequestState::Assigned if is_executor => {
				let model = Models::<T>::get(request.model)?;
				if model.spec.task.commits_output() {
					DutyKind::CommitOutput
				} else {
					DutyKind::Answer
				}
			}
			RequestState::Provisional | RequestState::Disputed => {
				let round = match request.state {
					RequestState::Disputed => Juries::<T>::get(id)?.round?,
					_ => Rounds::<T>::get(id)?,
				};
				match (round.phase, &round.member(validator)?.progress) {
					(Phase::Commit, Progress::Measuring) => DutyKind::Commit,
					(Phase::Reveal, Progress::Committed(_)) => DutyKind::Reveal,
					// Evidence and output may come in two reports.
					(Phase::Reveal, Progress::Revealed(_))
						if is_executor && !Outputs::<T>::contains_key(id) =>
					{
						DutyKind::Reveal
					}
					_ => return None,
				}
			}
			_ => return None,
		};
		Some(Duty {
			request: id,
			model: request.model,
			kind,
			deadline: request.deadline,
		})
	}

	/// What the engine needs for the duties of an open request.
	pub fn work(id: RequestId) -> Option<Work> {
		let request = Requests::<T>::get(id)?;
		if request.state.is_settled() {
			return None;
		}
		let committee = Rounds::<T>::get(id).map(|r| r.challenge);
		let (challenge, prior) = match Juries::<T>::get(id) {
			Some(jury) => (jury.round.map(|r| r.challenge), committee),
			None => (committee, None),
		};
		Some(Work {
			model: request.model,
			input: Inputs::<T>::get(id)?,
			seed: request.seed?,
			output: Outputs::<T>::get(id),
			challenge,
			prior,
		})
	}

	/// Checks that money in is money held, paid and returned; that counters, queues and assignments follow from the requests; and
	/// that nothing is left behind.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub fn do_try_state() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use crate::{
			Callbacks, Deadlines, HoldReason, OffenceQueue, OffenceRange, Open, OpenOf, Parameters,
			PendingDraws, Prune, PruneRange, Role,
		};
		use alloc::collections::{BTreeMap, BTreeSet};
		use polkadot_sdk::{
			frame_support::{
				ensure,
				traits::{fungible::InspectHold, Get},
			},
			sp_runtime::traits::{One, Saturating, Zero},
		};

		Self::try_state_of_offences()?;
		let mut held = BTreeMap::<T::AccountId, (BalanceOf<T>, u32)>::new();
		let mut bonds = BTreeMap::new();
		let mut by_model = BTreeMap::new();
		let mut assigned = BTreeSet::new();
		let pending: BTreeSet<_> = PendingDraws::<T>::get().iter().map(|e| e.request).collect();
		ensure!(
			pending.len() == PendingDraws::<T>::get().len(),
			"a request waits for two draws"
		);
		let scheduled: Vec<_> = Deadlines::<T>::iter()
			.flat_map(|(at, ids)| ids.into_iter().map(move |id| (at, id)))
			.collect();
		let (first, end) = PruneRange::<T>::get();
		let prunable: BTreeSet<_> = (first..end).filter_map(Prune::<T>::get).collect();
		ensure!(
			prunable.len() as u64 == end - first && Prune::<T>::iter().count() == prunable.len(),
			"the queue of settled requests has a gap, or one twice"
		);
		let mut settled = 0;
		let waiting = Callbacks::<T>::get();
		for id in &waiting {
			let request = Requests::<T>::get(id).ok_or("a callback for a forgotten request")?;
			ensure!(
				request.callback && request.state.is_settled(),
				"a callback that nobody asked for, or too early"
			);
		}
		let (mut open, mut to_be_told) = (0u32, waiting.len() as u32);
		for (id, request) in Requests::<T>::iter() {
			ensure!(Inputs::<T>::contains_key(id), "a request without input");
			let round = Rounds::<T>::get(id);
			if request.state.is_settled() {
				ensure!(
					request.paid.saturating_add(request.refunded) == request.escrow,
					"money in is not paid plus refunded"
				);
				ensure!(
					request.state == RequestState::Final || request.paid.is_zero(),
					"money was paid for a request that is not final"
				);
				ensure!(
					prunable.contains(&id),
					"a settled request is never forgotten"
				);
				ensure!(!pending.contains(&id), "a settled request waits for a draw");
				settled += 1;
				continue;
			}
			open += 1;
			to_be_told += u32::from(request.callback);
			let entry = held
				.entry(request.requester.clone())
				.or_insert((Zero::zero(), 0));
			entry.0 = entry.0.saturating_add(request.escrow);
			entry.1 += 1;
			*by_model.entry(request.model).or_insert(0u32) += 1;
			ensure!(
				scheduled.contains(&(request.deadline.saturating_add(One::one()), id)),
				"an open request is never looked at"
			);
			match request.state {
				RequestState::Requested => {
					ensure!(pending.contains(&id), "a request waits for no executor");
					ensure!(request.executor.is_none(), "an executor too early");
					ensure!(round.is_none(), "a round too early");
				}
				RequestState::Assigned => {
					ensure!(request.executor.is_some(), "assigned to nobody");
					ensure!(round.is_none(), "a round too early");
				}
				RequestState::Disputed => {
					let jury = Juries::<T>::get(id).ok_or("a dispute without a jury")?;
					ensure!(
						jury.round.is_none() == pending.contains(&id),
						"a jury is to be drawn or not, wrongly"
					);
					if let Some(appeal) = &jury.appeal {
						let sum = bonds
							.entry(appeal.who.clone())
							.or_insert(BalanceOf::<T>::zero());
						sum.saturating_accrue(appeal.bond);
					}
					for member in jury.round.into_iter().flat_map(|r| r.members) {
						assigned.insert((member.who, (id, Role::Juror)));
					}
					continue;
				}
				_ => {
					ensure!(request.executor.is_some(), "an answer by nobody");
					let short = request.appealable_until.is_none()
						&& round.as_ref().is_none_or(|r| r.missing() > 0);
					ensure!(
						short == pending.contains(&id),
						"a draw is due or not, wrongly"
					);
				}
			}
			let members = round.iter().flat_map(|r| &r.members).map(|m| &m.who);
			for who in members.chain(&request.executor) {
				let role = if request.executor.as_ref() == Some(who) {
					Role::Executor
				} else {
					Role::Verifier
				};
				assigned.insert((who.clone(), (id, role)));
			}
		}
		ensure!(
			to_be_told <= T::MaxOpen::get(),
			"the queue of callbacks could overflow"
		);
		ensure!(
			scheduled.len() as u32 == open,
			"a request is looked at twice, or a settled one"
		);
		ensure!(
			settled == prunable.len(),
			"a forgotten request is to be forgotten"
		);
		ensure!(
			Open::<T>::get() == open,
			"the number of open requests is wrong"
		);
		for (who, n) in OpenOf::<T>::iter() {
			ensure!(
				held.get(&who).is_some_and(|h| h.1 == n),
				"an account's open requests"
			);
		}
		for (who, (sum, n)) in held {
			ensure!(OpenOf::<T>::get(&who) == n, "an account's open requests");
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::Escrow.into(), &who) == sum,
				"escrows and holds differ"
			);
		}
		for (who, sum) in bonds {
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::Appeal.into(), &who) == sum,
				"bonds and holds differ"
			);
		}
		let (first, end) = OffenceRange::<T>::get();
		ensure!(
			(first..end).all(OffenceQueue::<T>::contains_key)
				&& OffenceQueue::<T>::iter().count() as u64 == end - first,
			"the queue of offences has a gap"
		);
		ensure!(
			Parameters::<T>::get().is_valid(),
			"shares add up to more than the price"
		);
		for (model, details) in Models::<T>::iter() {
			ensure!(
				by_model.get(&model).copied().unwrap_or_default() == details.open_requests,
				"a model's open requests"
			);
		}
		let stored: BTreeSet<_> = Assignments::<T>::iter()
			.flat_map(|(who, ids)| ids.into_iter().map(move |id| (who.clone(), id)))
			.collect();
		ensure!(
			stored == assigned,
			"assignments do not follow from the requests"
		);
		for id in Outputs::<T>::iter_keys()
			.chain(Rounds::<T>::iter_keys())
			.chain(Juries::<T>::iter_keys())
		{
			ensure!(
				Requests::<T>::contains_key(id),
				"something of a forgotten request is left"
			);
		}
		Ok(())
	}
}
