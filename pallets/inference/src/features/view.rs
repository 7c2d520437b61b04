//! What clients and workers are shown, and the invariants of storage.

use alloc::vec::Vec;
use consilience_primitives::{
	crypto::InferenceId,
	evidence::Evidence,
	report::{Duties, Duty, DutyKind, Work},
	sampling::CONSTRAINT_RULES,
	view::{RequestState, RequestView},
	RequestId,
};
use pallet_model_registry::{Models, ServedBy};
use polkadot_sdk::frame_system::pallet_prelude::BlockNumberFor;

use crate::{
	features::round::{Phase, Progress},
	Assignments, BalanceOf, Config, Inputs, Juries, Keys, Outputs, Overdue, Pallet, Requests,
	RoundOf, Rounds, Session,
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
			surcharge: request.surcharge,
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
		let mut duties: Vec<_> = Assignments::<T>::iter_key_prefix(validator)
			.filter_map(|id| Self::duty(validator, id))
			.collect();
		duties.extend(Overdue::<T>::iter_key_prefix(validator).filter_map(Self::overdue_duty));
		duties.sort_by_key(|d| d.deadline);
		Some(Duties {
			validator: validator.clone(),
			session: Session::<T>::get(),
			index: index as u32,
			serving: ServedBy::<T>::get(validator).into_inner(),
			duties,
			accused: Self::accusations(validator),
			rules: CONSTRAINT_RULES,
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
				let hidden = request.state == RequestState::Provisional
					&& is_executor && request.output_commitment.is_some()
					&& !Outputs::<T>::contains_key(id);
				let progress = round.member(validator).map(|m| &m.progress);
				match (round.phase, progress) {
					(Phase::Commit, Some(Progress::Measuring)) => DutyKind::Commit,
					(Phase::Reveal, Some(Progress::Committed(_))) => DutyKind::Reveal,
					// Evidence and output may come in two reports, and an executor that was late with the one still shows the other.
					(Phase::Reveal, _) if hidden => DutyKind::RevealOutput,
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

	/// What a committee's member has not shown in time, and may show until the jury has spoken.
	fn overdue_duty(id: RequestId) -> Option<Duty<BlockNumberFor<T>>> {
		let request = Requests::<T>::get(id)?;
		Some(Duty {
			request: id,
			model: request.model,
			kind: DutyKind::LateReveal,
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
			Callbacks, Deadlines, Draws, HoldReason, Indices, KeyAt, Loads, OffenceQueue,
			OffenceRange, Open, OpenOf, Parameters, Prune, PruneRange, Reserved, ReservedFor, Role,
			Seats, Sitting, Vacated, WorkOf,
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
		Self::try_state_of_claims()?;
		Self::try_state_of_rulings()?;
		Self::try_state_of_tosses()?;
		Self::try_state_of_elsewhere()?;
		Self::try_state_of_testimonies()?;
		Self::try_state_of_disputes()?;
		let mut held = BTreeMap::<T::AccountId, (BalanceOf<T>, u32)>::new();
		let mut work_of = BTreeMap::new();
		let mut bonds = BTreeMap::new();
		let mut by_model = BTreeMap::new();
		let mut reserved_for = BTreeMap::new();
		let mut assigned = BTreeSet::new();
		let mut overdue = BTreeSet::new();
		let draws: BTreeSet<_> = Draws::<T>::iter()
			.flat_map(|(at, ids)| ids.into_iter().map(move |id| (at, id)))
			.collect();
		let looked_at: BTreeSet<_> = Deadlines::<T>::iter()
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
		let mut overturned = 0;
		for id in &waiting {
			let request = Requests::<T>::get(id).ok_or("a callback for a forgotten request")?;
			overturned += u32::from(request.state == RequestState::Overturned);
			ensure!(
				request.callback && request.settled_at.is_some(),
				"a callback that nobody asked for, or too early"
			);
		}
		let (mut open, mut to_be_told, mut reserved, mut sitting) = (
			0u32,
			waiting.len() as u32 - overturned,
			0u64,
			Seats::default(),
		);
		for (id, request) in Requests::<T>::iter() {
			ensure!(Inputs::<T>::contains_key(id), "a request without input");
			*by_model.entry(request.model).or_insert(0u32) += 1;
			let round = Rounds::<T>::get(id);
			let waits = request.draw.is_some();
			ensure!(
				request
					.draw
					.is_none_or(|draw| draws.contains(&(draw.at, id))),
				"a request waits for a draw that never comes"
			);
			ensure!(
				request.withheld.is_empty()
					|| request.state == RequestState::Disputed
					|| request.state.is_settled(),
				"silence is held against members of a round that goes on"
			);
			let silent: BTreeSet<_> = request.withheld.iter().map(|(who, _)| who).collect();
			ensure!(
				silent.len() == request.withheld.len(),
				"silence is held against somebody twice"
			);
			// A request that was settled once has its money, whatever is measured now.
			if request.settled_at.is_some() {
				ensure!(
					request.paid.saturating_add(request.refunded) == request.escrow,
					"money in is not paid plus refunded"
				);
				ensure!(
					matches!(
						request.state,
						RequestState::Final
							| RequestState::Unanswerable
							| RequestState::Overturned
							| RequestState::Disputed
					) || request.paid
						== if request.state == RequestState::Cancelled {
							request.surcharge
						} else {
							Zero::zero()
						},
					"money was paid for a request that came to nothing"
				);
				ensure!(
					request.surcharge <= request.paid,
					"a surcharge was burned that was not paid"
				);
				ensure!(
					prunable.contains(&id),
					"a settled request is never forgotten"
				);
				ensure!(request.reserved == 0, "a settled request keeps capacity");
				settled += 1;
				if request.state != RequestState::Disputed {
					ensure!(request.state.is_settled(), "a settled request goes on");
					continue;
				}
			} else {
				ensure!(
					request.surcharge.saturating_add(request.tip) <= request.escrow,
					"an escrow does not cover the surcharge"
				);
				open += 1;
				reserved += u64::from(request.reserved);
				if request.reserved > 0 {
					*reserved_for.entry(request.model).or_insert(0u64) +=
						u64::from(request.reserved);
				}
				to_be_told += u32::from(request.callback);
				let entry = held
					.entry(request.requester.clone())
					.or_insert((Zero::zero(), 0));
				entry.0 = entry.0.saturating_add(request.escrow);
				entry.1 += 1;
				if !request.course.unchecked {
					*work_of
						.entry((request.requester.clone(), request.model))
						.or_insert(0u64) += u64::from(request.burden);
				}
			}
			ensure!(
				looked_at.contains(&(request.looked_at, id)),
				"an open request is never looked at"
			);
			ensure!(
				request.looked_at <= request.deadline.saturating_add(One::one()),
				"an open request is looked at long after its deadline"
			);
			match request.state {
				RequestState::Requested => {
					ensure!(waits, "a request waits for no executor");
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
						jury.round.is_none() == waits,
						"a jury is to be drawn or not, wrongly"
					);
					let sits = u32::from(jury.round.is_some());
					if Self::is_optional(&jury) {
						sitting.appeals += sits;
					} else if !jury.audit {
						sitting.disputes += sits;
					}
					let contested = Self::is_contested(&jury);
					let contest = jury.contest.as_ref().filter(|_| contested);
					let appeal = jury.appeal.as_ref().filter(|_| !contested);
					let bond = contest
						.map(|c| (&c.who, c.bond))
						.or(appeal.map(|a| (&a.who, a.bond)));
					if let Some((who, bond)) = bond {
						let sum = bonds.entry(who.clone()).or_insert(BalanceOf::<T>::zero());
						sum.saturating_accrue(bond);
					}
					for member in round.into_iter().flat_map(|r| r.members) {
						if matches!(member.progress, Progress::Committed(_)) {
							overdue.insert((member.who, id));
						}
					}
					for member in jury.round.into_iter().flat_map(|r| r.members) {
						assigned.insert((member.who, id, Role::Juror));
					}
					continue;
				}
				_ => {
					ensure!(request.executor.is_some(), "an answer by nobody");
					let short = request.appealable_until.is_none()
						&& round.as_ref().is_none_or(|r| r.missing() > 0);
					ensure!(short == waits, "a draw is due or not, wrongly");
				}
			}
			let members = round.iter().flat_map(|r| &r.members).map(|m| &m.who);
			for who in members {
				if request.executor.as_ref() != Some(who) {
					assigned.insert((who.clone(), id, Role::Verifier));
				}
			}
			if let Some(executor) = &request.executor {
				if !request.course.executor_silent && !request.course.unchecked {
					assigned.insert((executor.clone(), id, Role::Executor));
				}
			}
		}
		ensure!(
			to_be_told <= T::MaxOpen::get(),
			"the queue of callbacks could overflow"
		);
		ensure!(
			settled == prunable.len(),
			"a forgotten request is to be forgotten"
		);
		ensure!(
			Open::<T>::get() == open,
			"the number of open requests is wrong"
		);
		ensure!(
			Reserved::<T>::get() == reserved,
			"the capacity that is promised is wrong"
		);
		ensure!(
			ReservedFor::<T>::iter().collect::<BTreeMap<_, _>>() == reserved_for,
			"the capacity that is promised to a model's requests is wrong"
		);
		ensure!(
			Sitting::<T>::get() == sitting,
			"the number of juries that sit is wrong"
		);
		let left = Vacated::<T>::get();
		ensure!(
			sitting.disputes + sitting.appeals + left <= T::MaxJuries::get(),
			"a seat was left and taken in one block, or more juries sit than may"
		);
		for (who, n) in OpenOf::<T>::iter() {
			ensure!(
				held.get(&who).is_some_and(|h| h.1 == n),
				"an account's open requests"
			);
		}
		let stored: BTreeMap<_, _> = WorkOf::<T>::iter()
			.map(|(who, model, work)| ((who, model), work))
			.collect();
		ensure!(stored == work_of, "what an account has asked of a model");
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
			"the parameters are no valid ones"
		);
		for (model, details) in Models::<T>::iter() {
			ensure!(
				by_model.get(&model).copied().unwrap_or_default() == details.open_requests,
				"a model's open requests"
			);
		}
		let mut loads = BTreeMap::<T::AccountId, u32>::new();
		let mut stored = BTreeSet::new();
		for (who, id, assignment) in Assignments::<T>::iter() {
			*loads.entry(who.clone()).or_default() += assignment.work;
			stored.insert((who, id, assignment.role));
		}
		ensure!(
			stored == assigned,
			"assignments do not follow from the requests"
		);
		let taken: BTreeSet<_> = Overdue::<T>::iter_keys().collect();
		ensure!(
			taken == overdue,
			"evidence is taken late of others than have not shown it"
		);
		let keys = Keys::<T>::get();
		let table = Loads::<T>::get();
		ensure!(
			table.len() == keys.len() && Indices::<T>::iter().count() == keys.len(),
			"the table of loads is not the session's"
		);
		let roster = Self::roster();
		ensure!(
			roster.len() == keys.len() as u64 && KeyAt::<T>::iter().count() == keys.len(),
			"the lists of validators are not the session's"
		);
		for (index, (who, key)) in keys.iter().enumerate() {
			let place = Some(index as u32);
			ensure!(
				Indices::<T>::get(who) == place
					&& roster.index(who) == place
					&& KeyAt::<T>::get(index as u32) == Some((who.clone(), key.clone())),
				"a validator's place is wrong"
			);
			ensure!(
				table.get(index).copied() == Some(loads.get(who).copied().unwrap_or_default()),
				"a validator's load is not that of its duties"
			);
		}
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
