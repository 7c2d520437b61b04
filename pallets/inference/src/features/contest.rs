//! Contests: nothing above absence is slashed on one jury where there can be a second.
//!
//! Where more serve a model than sit in a jury, a party that holds fewer than half of those who serve can be most of a jury by chance.
//! So an accusation waits: one of the accused calls those who did not sit, and the verdicts of both juries are counted together. A party
//! that holds no more than half of both can then neither have somebody honest slashed nor have a liar acquitted. Where all who
//! serve sat in the first jury, there is nobody else to ask, and staking hears of it at once.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	comparison::{AnswerJudgement, Judgement},
	request::Output,
	view::RequestState,
	RequestId,
};
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::DispatchResult,
		traits::{fungible::MutateHold, Get},
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_runtime::traits::Saturating,
};

use crate::{
	features::{
		draw::draw_distinct,
		jury::Found,
		load::Roster,
		offence::{OffenceKind, PendingOffence},
		report::Outcome,
	},
	Appeal, Barred, Config, Contest, ContestEnd, CountedVerdicts, CountedVerdictsUntil, Error,
	Event, HoldReason, Juries, JuryOf, Pallet, RequestOf, Requests, Ruling, RulingRange, Rulings,
};

/// Rulings of which staking hears in a block.
pub const RULINGS_PER_BLOCK: u32 = 4;

impl<T: Config> Pallet<T> {
	/// Those who can sit in the second jury: who served the model when the request was made, and has not sat. None, where too few of them
	/// are from outside the disputed round.
	fn others(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		parties: &[T::AccountId],
		jurors: &[T::AccountId],
	) -> Vec<T::AccountId> {
		let others: Vec<_> = Self::serving_before(request, roster)
			.into_iter()
			.map(|(who, ..)| who)
			.filter(|who| !jurors.contains(who))
			.collect();
		if Self::is_jury(&others, parties) {
			others
		} else {
			Vec::new()
		}
	}

	/// Has staking hear of what a jury found: at once where nobody else could be asked, and otherwise when nobody asked in time.
	pub(crate) fn rule(
		id: RequestId,
		request: &RequestOf<T>,
		jury: &mut JuryOf<T>,
		answer: AnswerJudgement,
		of_jurors: &[(T::AccountId, Judgement)],
		accused: Vec<PendingOffence<T::AccountId>>,
	) {
		if accused.is_empty() {
			return;
		}
		let parties = Self::parties(id, request);
		let jurors: Vec<_> = of_jurors.iter().map(|(who, _)| who.clone()).collect();
		let others = Self::others(request, &Self::roster(), &parties, &jurors);
		if others.is_empty() {
			accused.into_iter().for_each(Self::queue_offence);
			return;
		}
		let until =
			frame_system::Pallet::<T>::block_number().saturating_add(T::ContestBlocks::get());
		for offence in &accused {
			Self::deposit_event(Event::Accused {
				request: id,
				offender: offence.offender.clone(),
				kind: offence.kind,
				contestable_until: until,
			});
		}
		let with = of_jurors.iter().filter(|(_, j)| *j == Judgement::Accept);
		let with = with.count() as u32;
		jury.ruling = Some(Ruling {
			answer,
			with,
			against: (of_jurors.len() as u32).saturating_sub(with),
			accused: consilience_primitives::List::truncate_from(accused),
			jurors: consilience_primitives::List::truncate_from(jurors),
			until,
		});
		Juries::<T>::insert(id, &*jury);
		RulingRange::<T>::mutate(|(_, end)| {
			Rulings::<T>::insert(*end, id);
			*end += 1;
		});
	}

	/// Requests in which a jury accuses a validator, each with the last block in which that can be contested.
	pub(crate) fn accusations(validator: &T::AccountId) -> Vec<(RequestId, BlockNumberFor<T>)> {
		let (first, end) = RulingRange::<T>::get();
		(first..end)
			.filter_map(Rulings::<T>::get)
			.filter_map(|id| {
				let jury = Juries::<T>::get(id).filter(|jury| jury.contest.is_none())?;
				let ruling = jury.ruling?;
				let accused = ruling.accused.iter().any(|o| o.offender == *validator);
				accused.then_some((id, ruling.until))
			})
			.collect()
	}

	/// Has staking hear of accusations that nobody has contested in time. Returns the number of rulings.
	pub(crate) fn process_rulings(now: BlockNumberFor<T>) -> u32 {
		let (first, end) = RulingRange::<T>::get();
		let last = end.min(first.saturating_add(RULINGS_PER_BLOCK.into()));
		let mut place = first;
		while place < last {
			let jury = Rulings::<T>::get(place).and_then(|id| Some((id, Juries::<T>::get(id)?)));
			if let Some((id, mut jury)) = jury {
				// One that is contested ends with its contest.
				let due = jury.ruling.as_ref().filter(|_| jury.contest.is_none());
				if due.is_some_and(|ruling| ruling.until >= now) {
					break;
				}
				if due.is_some() {
					let ruling = jury.ruling.take();
					Juries::<T>::insert(id, &jury);
					ruling
						.into_iter()
						.flat_map(|ruling| ruling.accused)
						.for_each(Self::queue_offence);
				}
			}
			Rulings::<T>::remove(place);
			place += 1;
		}
		if place > first {
			RulingRange::<T>::put((place, end));
		}
		place.saturating_sub(first) as u32
	}

	/// One of the accused calls the second jury.
	pub(crate) fn do_contest(who: T::AccountId, id: RequestId) -> DispatchResult {
		let mut request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let now = frame_system::Pallet::<T>::block_number();
		let mut jury = Juries::<T>::get(id).ok_or(Error::<T>::NotContestable)?;
		let Some(ruling) = jury.ruling.as_ref().filter(|_| jury.contest.is_none()) else {
			return Err(Error::<T>::NotContestable.into());
		};
		let parties = Self::parties(id, &request);
		let others = Self::others(&request, &Self::roster(), &parties, &ruling.jurors);
		ensure!(
			ruling.until >= now
				&& ruling.accused.iter().any(|o| o.offender == who)
				&& !others.is_empty(),
			Error::<T>::NotContestable
		);
		let bond = Self::appeal_bond(&request);
		T::Currency::hold(&HoldReason::Appeal.into(), &who, bond)?;
		jury.contest = Some(Contest {
			who: who.clone(),
			bond,
			was: request.state,
			drawn: 0,
			end: None,
		});
		jury.round = None;
		Juries::<T>::insert(id, jury);
		request.state = RequestState::Disputed;
		Self::queue_later_draw(id, &mut request);
		Self::wait_for_draw(now, id, &mut request);
		Requests::<T>::insert(id, request);
		Self::deposit_event(Event::Contested {
			request: id,
			who,
			bond,
		});
		Ok(())
	}

	/// Whether a second jury is being asked.
	pub(crate) fn is_contested(jury: &JuryOf<T>) -> bool {
		jury.contest.as_ref().is_some_and(|c| c.end.is_none())
	}

	/// Draws the second jury: those who did not sit in the first.
	pub(crate) fn second_jurors(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		parties: &[T::AccountId],
		jury: &JuryOf<T>,
		seed: &H256,
	) -> Vec<T::AccountId> {
		let first = jury.ruling.as_ref().map(|r| &r.jurors[..]);
		let others = Self::others(request, roster, parties, first.unwrap_or_default());
		draw_distinct(seed, b"second juror", others, T::MaxJurors::get())
	}

	/// The second jury has measured. Each accusation is upheld where both juries together find what the first found.
	pub(crate) fn conclude_contest(
		id: RequestId,
		request: RequestOf<T>,
		jury: JuryOf<T>,
		output: Output,
		found: Found<T::AccountId>,
	) -> Outcome {
		let outcome = Outcome::Judged {
			jurors: found.jurors.len() as u32,
			output: output.encoded_size() as u32,
		};
		let Some(ruling) = jury.ruling.clone() else {
			return outcome;
		};
		let Found {
			finding,
			verifiers,
			jurors,
			..
		} = found;
		let of_jurors: Vec<_> = jurors.into_iter().zip(finding.jurors).collect();
		// Those who found as their jury did. Where that decided nothing, they side with nobody.
		let agreed = of_jurors.iter().filter(|(_, j)| *j == Judgement::Accept);
		let agreed = agreed.count() as u32;
		let differed = (of_jurors.len() as u32).saturating_sub(agreed);
		let same = finding.answer == ruling.answer;
		let (with, against) = match finding.answer {
			_ if same => (agreed, differed),
			AnswerJudgement::Undecided => (0, 0),
			_ => (differed, agreed),
		};
		let drawn = jury.contest.as_ref().map_or(0, |c| c.drawn);
		let came = of_jurors.len() as u32 >= drawn.div_ceil(2);
		let upheld =
			came && ruling.with.saturating_add(with) > ruling.against.saturating_add(against);
		let of_verifiers: Vec<_> = verifiers.into_iter().zip(finding.verifiers).collect();
		// Where the second jury agrees, it has measured those of the committee itself.
		let executor = request.executor.clone();
		let seen_again = |who: &T::AccountId| {
			if executor.as_ref() == Some(who) {
				return finding.executor == Judgement::Fraud;
			}
			let verifier = of_verifiers.iter().find(|(v, _)| v == who);
			verifier.is_none_or(|(_, j)| *j == Judgement::Fraud)
		};
		let stands = |offence: &PendingOffence<T::AccountId>| {
			upheld && (!same || seen_again(&offence.offender))
		};
		for (who, judgement) in &of_jurors {
			// Two juries have found otherwise.
			if upheld && same && *judgement == Judgement::Fraud {
				Self::bar(who, request.model);
				Self::offend(id, who, OffenceKind::FraudulentEvidence);
			}
		}
		let paid: Vec<_> = of_jurors
			.iter()
			.filter(|(_, j)| *j == Judgement::Accept && (same || !upheld))
			.map(|(who, _)| who.clone())
			.collect();
		Self::end_contest(id, request, jury, Some(&output), &paid, stands);
		outcome
	}

	/// Too few came to the second jury, or were there: nobody is slashed.
	pub(crate) fn quash(id: RequestId, request: RequestOf<T>, jury: JuryOf<T>) {
		Self::end_contest(id, request, jury, None, &[], |_| false);
	}

	fn end_contest(
		id: RequestId,
		mut request: RequestOf<T>,
		mut jury: JuryOf<T>,
		output: Option<&Output>,
		paid: &[T::AccountId],
		stands: impl Fn(&PendingOffence<T::AccountId>) -> bool,
	) {
		if let Some(round) = &jury.round {
			Self::leave_seats(id, round, &jury);
		}
		let (Some(ruling), Some(contest)) = (jury.ruling.take(), jury.contest.as_mut()) else {
			return;
		};
		let (upheld, quashed): (Vec<_>, Vec<_>) = ruling.accused.into_iter().partition(stands);
		let end = if upheld.is_empty() {
			ContestEnd::Quashed
		} else {
			ContestEnd::Upheld
		};
		contest.end = Some(end);
		let bond = Appeal {
			who: contest.who.clone(),
			bond: contest.bond,
		};
		request.state = contest.was;
		Juries::<T>::insert(id, &jury);
		if end == ContestEnd::Upheld {
			Self::take_bond(id, &request, &bond, paid);
		} else {
			Self::return_bond(id, &bond);
			if let Some(output) = output {
				Self::pay_measurements(id, &request, output.units(), paid);
			}
		}
		upheld.into_iter().for_each(Self::queue_offence);
		for offence in quashed {
			Self::acquit(&offence, &request);
		}
		Requests::<T>::insert(id, request);
		Self::deposit_event(Event::ContestEnded { request: id, end });
	}

	/// Takes back what a quashed accusation has already done.
	fn acquit(offence: &PendingOffence<T::AccountId>, request: &RequestOf<T>) {
		let who = &offence.offender;
		if offence.kind == OffenceKind::FraudulentEvidence {
			if let Some(until) = CountedVerdicts::<T>::take(who) {
				CountedVerdictsUntil::<T>::remove(until, who);
			}
		}
		Self::drop_claim(who, offence.request);
		Barred::<T>::remove(who, request.model);
		Self::withdraw_finding(who);
	}

	/// Checks that every ruling that waits is one, and that the queue has no gap.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_rulings() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use alloc::collections::BTreeSet;

		let (first, end) = RulingRange::<T>::get();
		ensure!(
			first <= end
				&& (first..end).all(Rulings::<T>::contains_key)
				&& Rulings::<T>::iter_keys().count() as u64 == end - first,
			"the queue of rulings has a gap, or something outside"
		);
		let waiting: BTreeSet<_> = Rulings::<T>::iter_values().collect();
		for (id, jury) in Juries::<T>::iter() {
			if let Some(ruling) = &jury.ruling {
				ensure!(
					!ruling.accused.is_empty() && ruling.with > 0,
					"a ruling against nobody, or by nobody"
				);
				ensure!(
					waiting.contains(&id) || Self::is_contested(&jury),
					"staking never hears of a ruling"
				);
			}
			ensure!(
				!Self::is_contested(&jury) || jury.ruling.is_some(),
				"a contest of nothing"
			);
		}
		Ok(())
	}
}
