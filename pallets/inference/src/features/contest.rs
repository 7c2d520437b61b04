//! Contests: nothing above absence is slashed on one jury where there can be a second.
//!
//! Where more serve a model than sit in a jury, a party that holds fewer than half of those who serve can be most of a jury by chance.
//! So an accusation waits: one of the accused calls those who were not drawn for the first jury, and the votes of both juries on the answer are
//! counted together, whatever fingerprints come with them. Silence is on nobody's side. So nobody is slashed for what it said of an answer,
//! or for an answer, against most of those who came to either jury; and nobody is acquitted against them. Where all who serve
//! were drawn for the first jury, there is nobody else to ask, and staking hears of it at once.

use alloc::vec::Vec;
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
	sp_staking::SessionIndex,
};

use crate::{
	features::{
		draw::draw_distinct,
		jury::Found,
		load::Roster,
		offence::{OffenceKind, PendingOffence},
		report::{Outcome, ReadOutput},
	},
	Accusation, Appeal, Basis, Config, Contest, ContestEnd, Error, Event, HoldReason, Juries,
	JuryOf, Pallet, RequestOf, Requests, Ruling, RulingRange, Rulings, Votes,
};

/// Rulings of which staking hears in a block.
pub const RULINGS_PER_BLOCK: u32 = 4;

/// Whom a jury accuses of what, when that was done, and what it rests on.
pub(crate) type Blamed<AccountId> = (AccountId, OffenceKind, SessionIndex, Basis);

impl<T: Config> Pallet<T> {
	/// Those who can sit in the second jury: who served the model when the request was made, and was not drawn for the first.
	fn others(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		jury: &JuryOf<T>,
	) -> Vec<T::AccountId> {
		Self::serving_before(request, roster)
			.into_iter()
			.map(|(who, ..)| who)
			.filter(|who| !jury.seats.contains(who))
			.collect()
	}

	/// Has staking hear of what a jury found: at once where nobody else could be asked, and otherwise when nobody asked in time.
	pub(crate) fn rule(
		id: RequestId,
		request: &RequestOf<T>,
		jury: &mut JuryOf<T>,
		(answer, votes): (AnswerJudgement, Votes),
		blamed: Vec<Blamed<T::AccountId>>,
	) {
		if blamed.is_empty() {
			return;
		}
		let others = Self::others(request, &Self::roster(), jury);
		let contestable = Self::is_jury(&others, &Self::parties(id, request));
		// Those whom a proof would acquit are not reported before.
		let waits = contestable || Self::may_be_overturned(id, request, answer);
		let until =
			frame_system::Pallet::<T>::block_number().saturating_add(T::ContestBlocks::get());
		let mut accused = Vec::new();
		for (who, kind, session, basis) in blamed {
			// What is one deed with what staking has heard of costs nothing that could be contested.
			let known = Self::is_same_deed(&who, kind, session);
			if known || !waits {
				Self::queue_offence(Self::accuse(id, &who, kind, session));
				continue;
			}
			let offence = if basis == Basis::Testimony {
				Self::offence_of(id, &who, kind, session)
			} else {
				let offence = Self::accuse(id, &who, kind, session);
				Self::finding_waits(&who);
				offence
			};
			Self::deposit_event(Event::Accused {
				request: id,
				offender: who,
				kind,
				contestable_until: until,
			});
			accused.push(Accusation { offence, basis });
		}
		if accused.is_empty() {
			return;
		}
		jury.ruling = Some(Ruling {
			answer,
			votes,
			accused: consilience_primitives::List::truncate_from(accused),
			until,
		});
		Juries::<T>::insert(id, &*jury);
		Self::queue_ruling(id, until);
	}

	/// A ruling is looked at after this block.
	fn queue_ruling(id: RequestId, until: BlockNumberFor<T>) {
		RulingRange::<T>::mutate(|(_, end)| {
			Rulings::<T>::insert(*end, (id, until));
			*end += 1;
		});
	}

	/// Requests in which a jury accuses a validator, each with the last block in which that can be contested. What only waits for a proof is
	/// not among them.
	pub(crate) fn accusations(validator: &T::AccountId) -> Vec<(RequestId, BlockNumberFor<T>)> {
		let now = frame_system::Pallet::<T>::block_number();
		let (first, end) = RulingRange::<T>::get();
		(first..end)
			.filter_map(Rulings::<T>::get)
			.filter_map(|(id, _)| {
				let jury = Juries::<T>::get(id).filter(|jury| jury.contest.is_none())?;
				let ruling = jury.ruling.filter(|ruling| ruling.until >= now)?;
				let mut accused = ruling.accused.into_iter();
				accused
					.any(|a| a.offence.offender == *validator)
					.then_some((id, ruling.until))
			})
			.collect()
	}

	/// Has staking hear of accusations that nobody has contested in time. Returns the number of rulings.
	pub(crate) fn process_rulings(now: BlockNumberFor<T>) -> u32 {
		let (first, end) = RulingRange::<T>::get();
		let last = end.min(first.saturating_add(RULINGS_PER_BLOCK.into()));
		let mut place = first;
		let mut concluded = Vec::new();
		while place < last {
			let Some((id, until)) = Rulings::<T>::get(place) else {
				break;
			};
			if until >= now {
				break;
			}
			// One that is contested ends with its contest.
			let waiting = Juries::<T>::get(id).filter(|jury| !Self::is_contested(jury));
			if let Some(mut jury) = waiting {
				// What may still be proven false waits on, behind the others.
				let answer = jury.ruling.as_ref().map(|ruling| ruling.answer);
				let request = Requests::<T>::get(id);
				let waits = answer
					.zip(request)
					.is_some_and(|(answer, request)| Self::may_be_overturned(id, &request, answer));
				if waits {
					Self::queue_ruling(id, now.saturating_add(T::ContestBlocks::get()));
					Rulings::<T>::remove(place);
					place += 1;
					continue;
				}
				let ruling = jury.ruling.take();
				Juries::<T>::insert(id, &jury);
				let accused = ruling.into_iter().flat_map(|ruling| ruling.accused);
				accused.for_each(|a| Self::conclude_accusation(a, None));
				concluded.push(id);
			}
			Rulings::<T>::remove(place);
			place += 1;
		}
		if place > first {
			RulingRange::<T>::mutate(|(first, _)| *first = place);
		}
		// What was heard meanwhile is ruled on now, and can be contested for as long.
		concluded.into_iter().for_each(Self::judge_testimonies);
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
		let others = Self::others(&request, &Self::roster(), &jury);
		ensure!(
			ruling.until >= now
				&& ruling.accused.iter().any(|a| a.offence.offender == who)
				&& Self::is_jury(&others, &Self::parties(id, &request)),
			Error::<T>::NotContestable
		);
		let bond = Self::appeal_bond(&request);
		T::Currency::hold(&HoldReason::Appeal.into(), &who, bond)?;
		jury.contest = Some(Contest {
			who: who.clone(),
			bond,
			was: request.state,
			end: None,
		});
		if let Some(first) = jury.round.take() {
			Self::remember_vouchers(id, &request, &first);
		}
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

	/// Draws the second jury: those who were not drawn for the first.
	pub(crate) fn second_jurors(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		jury: &JuryOf<T>,
		seed: &H256,
	) -> Vec<T::AccountId> {
		let others = Self::others(request, roster, jury);
		draw_distinct(seed, b"second juror", others, T::MaxJurors::get())
	}

	/// The second jury has measured, as far as it came: whoever did not is on nobody's side. What the answer is, the votes of both juries say
	/// together; what a member of the committee measured, both have to have found; what a first juror measured under its own challenge can't be measured again.
	pub(crate) fn conclude_contest(
		id: RequestId,
		request: RequestOf<T>,
		jury: JuryOf<T>,
		output: Output,
		found: Found<T::AccountId>,
	) -> Outcome {
		let outcome = Outcome::Judged {
			jurors: found.jurors.len() as u32,
			output: ReadOutput::of(&output),
		};
		let Some(ruling) = jury.ruling.clone() else {
			return outcome;
		};
		let Found {
			finding,
			verifiers,
			jurors,
			contradicts,
			votes,
			..
		} = found;
		let right = ruling.votes.right.saturating_add(votes.right);
		let wrong = ruling.votes.wrong.saturating_add(votes.wrong);
		let upheld = match ruling.answer {
			AnswerJudgement::Right => right > wrong,
			AnswerJudgement::Wrong => wrong > right,
			AnswerJudgement::Undecided => false,
		};
		let executor = request.executor.clone();
		let of_verifiers: Vec<_> = verifiers.into_iter().zip(finding.verifiers).collect();
		let measured_again = |who: &T::AccountId| {
			if executor.as_ref() == Some(who) {
				return finding.executor == Judgement::Fraud;
			}
			let verifier = of_verifiers.iter().find(|(v, _)| v == who);
			verifier.is_some_and(|(_, j)| *j == Judgement::Fraud)
		};
		let stands = |accusation: &Accusation<T::AccountId>| match accusation.basis {
			Basis::Answer | Basis::Testimony => upheld,
			Basis::Committee => measured_again(&accusation.offence.offender),
			Basis::Juror => false,
		};
		let same = finding.answer == ruling.answer;
		let of_jurors = jurors.into_iter().zip(finding.jurors);
		let mut paid = Vec::new();
		for ((who, judgement), contradicts) in of_jurors.zip(contradicts.1) {
			match judgement {
				Judgement::Accept if same || !upheld => paid.push(who),
				Judgement::Accept => (),
				// Its verdict is against what both juries say. Of what it measured only one jury has judged, which costs no stake.
				_ => {
					Self::bar(&who, request.model);
					if upheld && same && contradicts {
						Self::offend(id, &who, OffenceKind::FraudulentEvidence);
					}
				}
			}
		}
		Self::end_contest(id, request, jury, Some(&output), &paid, stands);
		outcome
	}

	/// Nobody could be drawn for the second jury, or nobody came: the first one's word stands, or friends would acquit by their absence. A
	/// network that stands still slashes nobody.
	pub(crate) fn nobody_came(id: RequestId, request: RequestOf<T>, jury: JuryOf<T>) {
		let stalled = Self::is_stalled();
		Self::end_contest(id, request, jury, None, &[], |accusation| {
			!stalled && accusation.basis.is_of_answer()
		});
	}

	fn end_contest(
		id: RequestId,
		mut request: RequestOf<T>,
		mut jury: JuryOf<T>,
		output: Option<&Output>,
		paid: &[T::AccountId],
		stands: impl Fn(&Accusation<T::AccountId>) -> bool,
	) {
		if let Some(round) = &jury.round {
			Self::leave_seats(id, round, &jury);
		}
		let (Some(mut ruling), Some(contest)) = (jury.ruling.take(), jury.contest.as_mut()) else {
			return;
		};
		let ended: Vec<_> = core::mem::take(&mut ruling.accused)
			.into_iter()
			.map(|accusation| {
				let stands = stands(&accusation);
				(accusation, stands)
			})
			.collect();
		if ended
			.iter()
			.any(|(a, stands)| a.basis.is_of_answer() && !stands)
		{
			Self::not_judged(id);
		}
		let end = if ended.iter().any(|(_, stands)| *stands) {
			ContestEnd::Upheld
		} else {
			ContestEnd::Quashed
		};
		// Whoever contests answers for its own part only.
		let lost = ended
			.iter()
			.any(|(a, stands)| *stands && a.offence.offender == contest.who);
		contest.end = Some(end);
		let bond = Appeal {
			who: contest.who.clone(),
			bond: contest.bond,
		};
		request.state = contest.was;
		request.draw = None;
		let waits = Self::may_be_overturned(id, &request, ruling.answer);
		Juries::<T>::insert(id, &jury);
		if lost {
			Self::take_bond(id, &request, &bond, paid);
		} else {
			Self::return_bond(id, &bond);
			if let Some(output) = output {
				Self::pay_measurements(id, &request, output.units(), paid);
			}
		}
		let mut waiting = Vec::new();
		for (accusation, stands) in ended {
			match stands && waits {
				true => waiting.push(accusation),
				false => Self::conclude_accusation(accusation, (!stands).then_some(&request)),
			}
		}
		if !waiting.is_empty() {
			jury.ruling = Some(Ruling {
				accused: consilience_primitives::List::truncate_from(waiting),
				..ruling
			});
			Juries::<T>::insert(id, &jury);
			Self::queue_ruling(id, frame_system::Pallet::<T>::block_number());
		}
		Requests::<T>::insert(id, request);
		// Whoever asked may not have been told before it was contested.
		Self::elsewhere_ended(id);
		Self::deposit_event(Event::ContestEnded { request: id, end });
		Self::judge_testimonies(id);
	}

	/// Staking hears of an accusation, or what it has already done is taken back.
	pub(crate) fn conclude_accusation(
		accusation: Accusation<T::AccountId>,
		acquitted_in: Option<&RequestOf<T>>,
	) {
		let offence = accusation.offence;
		if accusation.basis == Basis::Testimony {
			if acquitted_in.is_none() {
				let PendingOffence {
					request,
					offender,
					kind,
					session,
					..
				} = &offence;
				Self::queue_offence(Self::accuse(*request, offender, *kind, *session));
			}
			return;
		}
		Self::finding_ends(&offence.offender, acquitted_in.is_none());
		match acquitted_in {
			Some(request) => {
				Self::drop_claim(&offence.offender, offence.request);
				Self::unbar(&offence.offender, request.model);
			}
			None => Self::queue_offence(offence),
		}
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
		let waiting: BTreeSet<_> = Rulings::<T>::iter_values().map(|(id, _)| id).collect();
		for (id, jury) in Juries::<T>::iter() {
			if let Some(ruling) = &jury.ruling {
				ensure!(!ruling.accused.is_empty(), "a ruling against nobody");
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
