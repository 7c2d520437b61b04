//! Disputes: a jury measures, and the runtime finds who was right.
//!
//! A jury is a round like any other, of those who served the model when the request was made, up to [`Config::MaxJurors`], under a challenge of its own. A
//! committee that does not agree calls it, and so does an appeal against an answer that was not drawn for a check. Its members
//! measure under the committee's challenge as well, which is what the committee is judged by.
//!
//! Jurors who do not come are not waited for: whoever is there in time makes up the jury. Below [`Config::MinJury`] jurors from
//! outside the disputed round nothing is found, everything goes back to the requester, and nobody is blamed.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	comparison::{compare, judge, judge_dispute, AnswerJudgement, Disputed, Finding, Judgement},
	evidence::{Evidence, Fingerprint},
	model::{NumericClass, Speed, VerificationPolicy},
	request::Output,
	view::RequestState,
	RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{
		dispatch::DispatchClass,
		ensure,
		pallet_prelude::DispatchResult,
		traits::{
			fungible::MutateHold,
			tokens::{Fortitude, Precision, Restriction},
			ValidatorSet,
		},
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::{
		traits::{Get, Saturating, Zero},
		DispatchError, Perbill,
	},
};

use crate::{
	features::{
		draw::draw_distinct,
		load::Roster,
		offence::OffenceKind,
		report::{Outcome, ReadOutput},
		round::{Phase, Progress, Round},
		settle::Payees,
		testimony::{middle_margin, Judged},
	},
	Appeal, Auditing, BalanceOf, Basis, Config, Elsewhere, Error, Event, HoldReason, Juries, Jury,
	JuryOf, Outputs, Outside, Pallet, Parameters, RequestOf, Requests, Role, RoundOf, Rounds,
	Seats, Sitting, Vacated, Votes,
};

/// What a jury found, with the disputed round's members and the jurors by name.
pub(crate) struct Found<AccountId> {
	pub(crate) finding: Finding,
	/// Whether evidence that nobody saw may have been what costs stake.
	pub(crate) hidden: bool,
	pub(crate) verifiers: Vec<AccountId>,
	pub(crate) jurors: Vec<AccountId>,
	/// Whether what each of them says of the answer contradicts what it was found to be: verifiers, then jurors.
	pub(crate) contradicts: (Vec<bool>, Vec<bool>),
	/// What the jurors say of the answer.
	pub(crate) votes: Votes,
	/// The middle of the largest margins that jurors measured whose work was good.
	pub(crate) margin: u32,
}

impl<T: Config> Pallet<T> {
	/// Calls a jury. The committee's members have nothing more to do. A settled request is opened again: what was paid stays paid
	/// until the jury has spoken.
	pub(crate) fn dispute(
		id: RequestId,
		mut request: RequestOf<T>,
		appeal: Option<Appeal<T::AccountId, BalanceOf<T>>>,
	) {
		let now = frame_system::Pallet::<T>::block_number();
		for who in Self::parties(id, &request) {
			Self::unassign(&who, id);
		}
		let reserved = request.reserved;
		Self::unreserve(&mut request, reserved);
		request.state = RequestState::Disputed;
		request.appealable_until = None;
		Juries::<T>::insert(
			id,
			Jury {
				appeal,
				..Jury::default()
			},
		);
		Self::queue_later_draw(id, &mut request);
		Self::wait_for_draw(now, id, &mut request);
		Requests::<T>::insert(id, request);
		Self::deposit_event(Event::RequestDisputed { request: id });
	}

	/// The executor and the members of its round, those too that showed nothing: silence makes nobody independent.
	pub(crate) fn parties(id: RequestId, request: &RequestOf<T>) -> Vec<T::AccountId> {
		let round = Rounds::<T>::get(id);
		let silent = request.withheld.iter().map(|(who, _)| who.clone());
		let members = round
			.into_iter()
			.flat_map(|r| r.members)
			.map(|m| m.who)
			.chain(silent)
			.filter(|who| request.executor.as_ref() != Some(who));
		request.executor.iter().cloned().chain(members).collect()
	}

	/// Whether enough of these are from outside the disputed round.
	pub(crate) fn is_jury<'a>(
		who: impl IntoIterator<Item = &'a T::AccountId>,
		parties: &[T::AccountId],
	) -> bool
	where
		T::AccountId: 'a,
	{
		let independent = who.into_iter().filter(|w| !parties.contains(w)).count();
		independent as u32 >= T::MinJury::get()
	}

	/// Whether those who serve the model would make up a jury, had they all a seat free.
	fn is_possible(request: &RequestOf<T>, parties: &[T::AccountId]) -> bool {
		let serving = Self::serving(request, &Self::roster());
		Self::is_jury(serving.iter().map(|(who, ..)| who), parties)
	}

	/// What an appeal against this request puts at stake: it pays the largest jury, and is not small.
	pub fn appeal_bond(request: &RequestOf<T>) -> BalanceOf<T> {
		Self::bond_for(request.input_units.saturating_add(request.max_output_units))
	}

	/// The same for so many units in and, at most, out.
	pub fn bond_for(units: u32) -> BalanceOf<T> {
		let each = Parameters::<T>::get().measurement.of(units);
		T::AppealBond::get().max(each.saturating_mul(T::MaxJurors::get().into()))
	}

	/// Appeals against an answer that is not checked, or that is settled.
	pub(crate) fn do_appeal(who: T::AccountId, id: RequestId) -> DispatchResult {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let unchecked =
			request.state == RequestState::Provisional && request.appealable_until.is_some();
		let settled = matches!(
			request.state,
			RequestState::Final | RequestState::Unanswerable
		);
		// One jury judges an answer, and one only.
		ensure!(
			(unchecked || settled) && !Juries::<T>::contains_key(id),
			Error::<T>::NotAppealable
		);
		Self::appeal_against(who, id, request)
	}

	/// Calls a jury over an answer, with a bond.
	pub(crate) fn appeal_against(
		who: T::AccountId,
		id: RequestId,
		request: RequestOf<T>,
	) -> DispatchResult {
		let parties = Self::parties(id, &request);
		// Otherwise the requester of a small network would always get its money back.
		ensure!(
			Self::is_possible(&request, &parties),
			Error::<T>::JuryTooSmall
		);
		let bond = Self::appeal_bond(&request);
		T::Currency::hold(&HoldReason::Appeal.into(), &who, bond)?;
		Self::deposit_event(Event::Appealed {
			request: id,
			who: who.clone(),
			bond,
		});
		Self::dispute(id, request, Some(Appeal { who, bond }));
		Ok(())
	}

	/// Whether a settled answer is measured again for sure, and not by chance: its verifiers may have been chosen, or it was given elsewhere.
	pub(crate) fn surely_audited(id: RequestId, request: &RequestOf<T>) -> bool {
		request.course.disturbed || Elsewhere::<T>::contains_key(id)
	}

	/// Decides by chance whether a settled answer is measured again, and draws who does: others than those who measured it. It blames
	/// nobody; where they do not agree with the answer, a jury is called. An answer that was given elsewhere is measured whatever chance
	/// says; while as many of them are measured as may be, it waits.
	pub(crate) fn draw_audit(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
		roster: &Roster<T::AccountId>,
	) -> bool {
		let roll = H256((seed, b"audit").using_encoded(blake2_256));
		let roll = u32::from_le_bytes(roll.0[..4].try_into().expect("4 of 32 bytes; qed"));
		let share = Parameters::<T>::get().audit_share.deconstruct();
		let model = Models::<T>::get(request.model);
		let outside = Elsewhere::<T>::get(id);
		if outside.is_some() && !Self::may_audit() {
			return false;
		}
		let drawn = match (&model, &outside) {
			(Some(_), Some(outside)) => {
				let others = Self::outsiders(request, roster, outside);
				draw_distinct(&seed, b"auditor", others, request.verifiers.into())
			}
			(Some(_), None)
				if request.course.disturbed || roll % Perbill::one().deconstruct() < share =>
			{
				let parties = Self::parties(id, request);
				let others = Self::serving_before(request, roster)
					.into_iter()
					.map(|(who, ..)| who)
					.filter(|who| !parties.contains(who))
					.collect();
				draw_distinct(&seed, b"auditor", others, request.verifiers.into())
			}
			_ => Vec::new(),
		};
		let Some(model) = model.filter(|_| !drawn.is_empty()) else {
			// `draw` is empty now. Of what was given elsewhere there is nobody else to ask: no reason to doubt it.
			Requests::<T>::insert(id, &*request);
			Self::elsewhere_ended(id);
			return true;
		};
		if !Self::surely_audited(id, request) {
			// Who measures again was not weighed before, for nearly nobody does.
			frame_system::Pallet::<T>::register_extra_weight_unchecked(
				Self::weigh_members(request),
				DispatchClass::Mandatory,
			);
		}
		if let Some(outside) = outside {
			let tries = outside.tries.saturating_add(1);
			Elsewhere::<T>::insert(id, Outside { tries, ..outside });
			Auditing::<T>::mutate(|n| n.saturating_inc());
		}
		let parent = frame_system::Pallet::<T>::parent_hash();
		let challenge = H256((seed, b"challenge", parent).using_encoded(blake2_256));
		let blocks = Self::fair_blocks(&model.spec.time, request.max_output_units);
		Self::schedule(now, blocks.saturating_mul(2).into(), id, request);
		Self::assign_all(&drawn, id, request, Role::Juror);
		request.state = RequestState::Disputed;
		let round = Round::new(
			challenge,
			T::ValidatorSet::session_index(),
			drawn.iter().cloned(),
			request.deadline,
		);
		Juries::<T>::insert(
			id,
			Jury {
				round: Some(round),
				audit: true,
				..Jury::default()
			},
		);
		Requests::<T>::insert(id, &*request);
		Self::deposit_event(Event::AuditDrawn {
			request: id,
			auditors: drawn,
			challenge,
			deadline: request.deadline,
		});
		true
	}

	/// Those who were asked to measure a settled answer again have, or time is up.
	fn conclude_audit(
		id: RequestId,
		request: RequestOf<T>,
		jury: JuryOf<T>,
	) -> Result<Outcome, DispatchError> {
		let Some(round) = &jury.round else {
			return Err(Error::<T>::NotDue.into());
		};
		let output = Outputs::<T>::get(id).ok_or(Error::<T>::NotDue)?;
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		let policy = model.spec.policy.for_output(request.course.unanswerable);
		let (who, evidence): (Vec<_>, Vec<_>) = round
			.revealed()
			.map(|(who, evidence)| (who.clone(), evidence.clone()))
			.unzip();
		let outcome = Outcome::Judged {
			jurors: who.len() as u32,
			output: ReadOutput::of(&output),
		};
		let same = match Self::shown_output(&output, &round.challenge, &policy)? {
			Some(shown) => {
				let all: Vec<_> = evidence
					.iter()
					.map(|e| &e.fingerprint)
					.chain([&shown])
					.collect();
				judge(&policy, &all).iter().all(|j| *j == Judgement::Accept)
			}
			None => compare(&policy, None, &evidence).agrees(),
		};
		Self::leave_seats(id, round, &jury);
		let mut request = request;
		// Nobody there to measure is no reason to doubt.
		if same || evidence.is_empty() {
			Self::pay_measurements(id, &request, output.units(), &who);
			Self::remember_vouchers(id, &request, round);
			Juries::<T>::remove(id);
			if evidence.is_empty() && Self::audit_again(id, &mut request) {
				request.state = Self::settled_state(&request);
				Requests::<T>::insert(id, request);
			} else if Self::is_doubted(id) {
				Self::dispute(id, request, None);
			} else {
				Self::stands(id, request);
			}
		} else {
			Self::dispute(id, request, None);
		}
		Ok(outcome)
	}

	/// A settled answer that was looked at again stays what it was.
	fn stands(id: RequestId, mut request: RequestOf<T>) {
		request.draw = None;
		request.state = Self::settled_state(&request);
		Requests::<T>::insert(id, request);
		Self::elsewhere_ended(id);
		Self::deposit_event(Event::AnswerStands { request: id });
	}

	/// State of an answer that is settled and not found false.
	fn settled_state(request: &RequestOf<T>) -> RequestState {
		if request.course.unanswerable {
			RequestState::Unanswerable
		} else {
			RequestState::Final
		}
	}

	/// The members of a jury's or an audit's round have nothing more to do.
	pub(crate) fn leave_seats(id: RequestId, round: &RoundOf<T>, jury: &JuryOf<T>) {
		for member in &round.members {
			Self::unassign(&member.who, id);
		}
		if !jury.audit {
			Sitting::<T>::mutate(|seats| {
				let taken = Self::seats_of(seats, jury);
				*taken = taken.saturating_sub(1);
			});
			Vacated::<T>::mutate(|n| n.saturating_inc());
		} else if Elsewhere::<T>::contains_key(id) {
			Auditing::<T>::mutate(|n| n.saturating_dec());
		}
	}

	/// The seats among which a jury's are counted.
	fn seats_of<'a>(seats: &'a mut Seats, jury: &JuryOf<T>) -> &'a mut u32 {
		if Self::is_optional(jury) {
			&mut seats.appeals
		} else {
			&mut seats.disputes
		}
	}

	/// Whether it was somebody's wish that called it, and neither a disagreement nor an accusation.
	pub(crate) fn is_optional(jury: &JuryOf<T>) -> bool {
		jury.appeal.is_some() && !Self::is_contested(jury)
	}

	/// How many juries can be drawn in this block: as many as there were seats free when it began, for so many are in its weight.
	pub(crate) fn free_seats() -> u32 {
		let seats = Sitting::<T>::get();
		T::MaxJuries::get()
			.saturating_sub(seats.disputes)
			.saturating_sub(seats.appeals)
			.saturating_sub(Vacated::<T>::get())
	}

	/// Whether one of the free seats is for such a jury.
	pub(crate) fn may_sit(id: RequestId) -> bool {
		let appeals = (T::MaxJuries::get() / 3).max(1);
		Juries::<T>::get(id)
			.is_none_or(|jury| !Self::is_optional(&jury) || Sitting::<T>::get().appeals < appeals)
	}

	/// What an output that is the evidence itself comes to under a challenge.
	fn shown_output(
		output: &Output,
		challenge: &H256,
		policy: &VerificationPolicy,
	) -> Result<Option<Fingerprint>, DispatchError> {
		match output {
			Output::Tensors(tensors) => Evidence::of_tensors(tensors, challenge, policy)
				.map(|e| Some(e.fingerprint))
				.map_err(|_| Error::<T>::MalformedOutput.into()),
			Output::Text { .. } | Output::Unanswerable(_) => Ok(None),
		}
	}

	/// Returns the jurors: validators that served the model when the request was made, or as many of them as fit, each as likely as any
	/// other. Validators that came later may have come for this jury, so only as many of them sit as a jury still needs.
	fn jurors(
		request: &RequestOf<T>,
		roster: &Roster<T::AccountId>,
		parties: &[T::AccountId],
		seed: &H256,
	) -> Vec<T::AccountId> {
		let names = |serving: Vec<(T::AccountId, u32, Speed)>| -> Vec<_> {
			serving.into_iter().map(|(who, ..)| who).collect()
		};
		let before = names(Self::serving_before(request, roster));
		let late = names(Self::serving(request, roster))
			.into_iter()
			.filter(|who| !before.contains(who) && !parties.contains(who))
			.collect();
		let mut drawn = draw_distinct(seed, b"juror", before, T::MaxJurors::get());
		let independent = drawn.iter().filter(|who| !parties.contains(who)).count() as u32;
		let missing = T::MinJury::get().saturating_sub(independent);
		let room = T::MaxJurors::get().saturating_sub(drawn.len() as u32);
		drawn.extend(draw_distinct(seed, b"late juror", late, missing.min(room)));
		drawn
	}

	/// Draws the jury, for which there is a seat.
	pub(crate) fn draw_jury(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
		roster: &Roster<T::AccountId>,
	) -> bool {
		let (Some(model), Some(mut jury)) = (Models::<T>::get(request.model), Juries::<T>::get(id))
		else {
			return true;
		};
		let parties = Self::parties(id, request);
		let second = Self::is_contested(&jury);
		let drawn = if second {
			Self::second_jurors(request, roster, &jury, &seed)
		} else {
			Self::jurors(request, roster, &parties, &seed)
		};
		let enough = if second {
			!drawn.is_empty()
		} else {
			Self::is_jury(&drawn, &parties)
		};
		if !enough {
			Self::undecided(id, request.clone());
			return true;
		}
		Sitting::<T>::mutate(|seats| Self::seats_of(seats, &jury).saturating_inc());
		if !second {
			jury.seats = consilience_primitives::List::truncate_from(drawn.clone());
		}
		let blocks = Self::fair_blocks(&model.spec.time, request.max_output_units);
		// It measures twice, and whoever has much to do still has the time.
		let busy = T::MaxLoad::get() / 1_000;
		let blocks = blocks.saturating_mul(2).saturating_add(busy);
		Self::schedule(now, blocks.into(), id, request);
		Self::assign_all(&drawn, id, request, Role::Juror);
		let parent = frame_system::Pallet::<T>::parent_hash();
		let challenge = H256((seed, b"jury", parent).using_encoded(blake2_256));
		let deadline = request.deadline;
		Requests::<T>::insert(id, &*request);
		jury.round = Some(Round::new(
			challenge,
			T::ValidatorSet::session_index(),
			drawn.iter().cloned(),
			deadline,
		));
		Juries::<T>::insert(id, jury);
		Self::deposit_event(Event::JuryDrawn {
			request: id,
			jurors: drawn,
			challenge,
			deadline,
		});
		true
	}

	/// Time is up for a jury: it goes on with those who are there.
	pub(crate) fn late_jury(now: BlockNumberFor<T>, id: RequestId, mut request: RequestOf<T>) {
		let (Some(mut jury), parties) = (Juries::<T>::get(id), Self::parties(id, &request)) else {
			return;
		};
		let (audit, second) = (jury.audit, Self::is_contested(&jury));
		let Some(round) = &mut jury.round else {
			// The seats are taken, or no block had randomness. Every jury ends, and whoever waits longest is drawn first: more
			// disputes than seats must not save a liar.
			if Self::is_possible(&request, &parties) {
				Self::wait_for_draw(now, id, &mut request);
				Requests::<T>::insert(id, &request);
				return;
			}
			return Self::undecided(id, request);
		};
		let phase = round.phase;
		if phase == Phase::Reveal && Self::extend_once(now, id, &mut request, round) {
			Juries::<T>::insert(id, jury);
			Requests::<T>::insert(id, &request);
			return;
		}
		// It is the network that is late, and nobody to blame.
		let stalled = phase == Phase::Reveal && Self::is_stalled();
		for absent in round.leave_out_absent() {
			Self::unassign(&absent, id);
			match phase {
				Phase::Commit => Self::strike(id, &absent, request.model),
				Phase::Reveal if stalled => (),
				// Measuring again blames nobody for what it says, and a second jury nobody for what it hides.
				Phase::Reveal if audit || second => Self::not_shown(id, &absent),
				Phase::Reveal => Self::withheld(id, &absent, &mut request),
			}
		}
		let enough = if audit || second {
			!round.members.is_empty()
		} else {
			Self::is_jury(round.members.iter().map(|m| &m.who), &parties)
		};
		if enough && phase == Phase::Commit {
			Self::reveal_begun(now, id, &mut request, round);
		}
		Juries::<T>::insert(id, &jury);
		Requests::<T>::insert(id, &request);
		if !enough && !audit {
			Self::undecided(id, request);
		} else if phase == Phase::Reveal || !enough {
			if let Err(e) = Self::conclude_jury(id) {
				log::error!(target: crate::LOG_TARGET, "request {id}: no verdict: {e:?}");
				Self::undecided(id, request);
			}
		}
	}

	/// A member of a committee or a jury committed and did not reveal. It is remembered for the verdict.
	pub(crate) fn withheld(id: RequestId, member: &T::AccountId, request: &mut RequestOf<T>) {
		let session = Self::session_of_deed(id, member);
		if !request.withheld.iter().any(|(who, _)| who == member) {
			// Those beyond the bound pay for their silence only.
			let _ = request.withheld.try_push((member.clone(), session));
		}
		Self::not_shown(id, member);
	}

	/// A member committed and did not reveal.
	fn not_shown(id: RequestId, member: &T::AccountId) {
		Self::offend(id, member, OffenceKind::WithheldReveal);
		Self::deposit_event(Event::RevealMissing {
			request: id,
			member: member.clone(),
		});
	}

	/// Ends a dispute in which nothing could be found: everything is returned, and nobody blamed.
	fn undecided(id: RequestId, mut request: RequestOf<T>) {
		let Some(jury) = Juries::<T>::get(id) else {
			return;
		};
		if Self::is_contested(&jury) {
			return Self::nobody_came(id, request, jury);
		}
		Self::end_overdue(id, &mut request);
		if let Some(appeal) = &jury.appeal {
			Self::return_bond(id, appeal);
		}
		if let Some(round) = &jury.round {
			Self::leave_seats(id, round, &jury);
		}
		if request.settled_at.is_some() {
			return Self::stands(id, request);
		}
		let round = Rounds::<T>::get(id);
		let names = |round: Option<RoundOf<T>>| {
			round
				.into_iter()
				.flat_map(|r| r.members)
				.map(|m| (m.who, Judgement::Grey))
				.filter(|(who, _)| request.executor.as_ref() != Some(who))
				.collect::<Vec<_>>()
		};
		let (verifiers, jurors) = (names(round), names(jury.round));
		let executor = request.executor.clone();
		let refunded = Self::close(id, &mut request, RequestState::Rejected);
		if let Some(executor) = executor {
			Self::deposit_event(Event::RequestRejected {
				request: id,
				answer: AnswerJudgement::Undecided,
				executor: (executor, Judgement::Grey),
				verifiers,
				jurors,
				refunded,
			});
		}
	}

	/// Ends the dispute if every juror's evidence is there.
	pub(crate) fn conclude_jury(id: RequestId) -> Result<Outcome, DispatchError> {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let jury = Juries::<T>::get(id).ok_or(Error::<T>::NotDue)?;
		if jury.audit {
			return match jury.round.as_ref().map(|r| r.complete().is_some()) {
				Some(true) => Self::conclude_audit(id, request, jury),
				_ => Ok(Outcome::Open),
			};
		}
		let Some(revealed) = jury.round.as_ref().and_then(|r| r.complete()) else {
			return Ok(Outcome::Open);
		};
		let output = Outputs::<T>::get(id).ok_or(Error::<T>::NotDue)?;
		let mut request = request;
		Self::end_overdue(id, &mut request);
		let found = Self::find(id, &request, &jury, &revealed, &output)?;
		if Self::is_contested(&jury) {
			return Ok(Self::conclude_contest(id, request, jury, output, found));
		}
		let outcome = Outcome::Judged {
			jurors: found.jurors.len() as u32,
			output: ReadOutput::of(&output),
		};
		Self::end_dispute(id, request, jury, output, found);
		Ok(outcome)
	}

	fn find(
		id: RequestId,
		request: &RequestOf<T>,
		jury: &JuryOf<T>,
		revealed: &[(&T::AccountId, &Evidence)],
		output: &Output,
	) -> Result<Found<T::AccountId>, DispatchError> {
		let model = Models::<T>::get(request.model).ok_or(Error::<T>::UnknownModel)?;
		let policy = &model.spec.policy.for_output(request.course.unanswerable);
		let place = |who: &T::AccountId| revealed.iter().position(|(j, _)| *j == who);
		let executor = request.executor.as_ref().ok_or(Error::<T>::NotDue)?;
		let round = Rounds::<T>::get(id);
		let measured: Vec<_> = round
			.iter()
			.flat_map(|r| &r.members)
			.filter_map(|m| match &m.progress {
				Progress::Revealed(e) => Some((&m.who, e)),
				_ => None,
			})
			.collect();
		let own = measured.iter().find(|(who, _)| *who == executor);
		let verifiers: Vec<_> = measured
			.iter()
			.filter(|(who, _)| *who != executor)
			.collect();
		let disputed: Vec<_> = verifiers
			.iter()
			.map(|(who, evidence)| Disputed {
				evidence,
				juror: place(who),
			})
			.collect();
		// Where the output is the evidence, it is the output that is judged.
		let challenge = jury.round.as_ref().map(|r| r.challenge).unwrap_or_default();
		let shown = Self::shown_output(output, &challenge, policy)?;
		let jurors: Vec<_> = revealed.iter().map(|(_, e)| *e).collect();
		let silent: Vec<_> = request
			.withheld
			.iter()
			.filter_map(|(who, _)| place(who))
			.collect();
		let finding = judge_dispute(
			policy,
			&jurors,
			(own.map(|(_, e)| *e), place(executor)),
			(&disputed, &silent),
			shown.as_ref(),
			T::MinJury::get() as usize,
		);
		let answer = finding.answer;
		let contradicts = |evidence: &Evidence| {
			shown.is_none()
				&& match answer {
					AnswerJudgement::Right => !evidence.verdict.within(&policy.fraud),
					AnswerJudgement::Wrong => evidence.verdict.within(&policy.accept),
					AnswerJudgement::Undecided => false,
				}
		};
		let mut votes = Votes::default();
		for juror in &jurors {
			let (right, wrong) = match &shown {
				Some(shown) => {
					let both = [shown, &juror.fingerprint];
					let same = judge(policy, &both).iter().all(|j| *j == Judgement::Accept);
					(same, !same)
				}
				None => (
					juror.verdict.within(&policy.accept),
					!juror.verdict.within(&policy.fraud),
				),
			};
			votes.right += u32::from(right);
			votes.wrong += u32::from(wrong);
		}
		// Where the output is the evidence, bits of the exact class cost nobody stake.
		let costs = shown.is_none() || policy.class == NumericClass::Tolerant;
		let lie = finding.answer == AnswerJudgement::Wrong && finding.executor == Judgement::Fraud;
		Ok(Found {
			hidden: costs && lie,
			contradicts: (
				verifiers.iter().map(|(_, e)| contradicts(e)).collect(),
				jurors.iter().map(|e| contradicts(e)).collect(),
			),
			votes,
			margin: middle_margin(jurors.iter().copied().zip(&finding.jurors)),
			finding,
			verifiers: verifiers.iter().map(|(who, _)| (*who).clone()).collect(),
			jurors: revealed.iter().map(|(who, _)| (*who).clone()).collect(),
		})
	}

	fn end_dispute(
		id: RequestId,
		mut request: RequestOf<T>,
		mut jury: JuryOf<T>,
		output: Output,
		found: Found<T::AccountId>,
	) {
		let Some(executor) = request.executor.clone() else {
			return;
		};
		let Found {
			finding,
			hidden,
			verifiers,
			jurors,
			contradicts,
			votes,
			margin,
		} = found;
		let decided = finding.answer != AnswerJudgement::Undecided;
		let mut accused = Vec::new();
		let of_verifiers: Vec<_> = verifiers.into_iter().zip(finding.verifiers).collect();
		let of_jurors: Vec<_> = jurors.into_iter().zip(finding.jurors).collect();
		// What an accusation rests on: what was said of the answer, or else what was measured.
		let basis = |contradicts: bool, measured: Basis| {
			if contradicts {
				Basis::Answer
			} else {
				measured
			}
		};
		let others = of_verifiers
			.iter()
			.zip(&contradicts.0)
			.map(|((who, j), says)| (who, *j, basis(*says, Basis::Committee)))
			.chain(
				of_jurors
					.iter()
					.zip(&contradicts.1)
					.map(|((who, j), says)| (who, *j, basis(*says, Basis::Juror))),
			);
		let lied = finding.answer == AnswerJudgement::Wrong;
		let mut seen = Vec::new();
		for (place, (who, judgement, basis)) in
			core::iter::once((&executor, finding.executor, basis(lied, Basis::Committee)))
				.chain(others)
				.enumerate()
		{
			// Other bits than most have, or a verdict that says nothing: drawn no more for a while.
			if judgement == Judgement::Fraud || (decided && judgement == Judgement::Grey) {
				Self::bar(who, request.model);
			}
			if judgement == Judgement::Fraud && !seen.contains(&who) {
				let kind = if place == 0 && lied {
					OffenceKind::FraudulentResult
				} else {
					OffenceKind::FraudulentEvidence
				};
				let session = Self::session_of_deed(id, who);
				accused.push((who.clone(), kind, session, basis));
				seen.push(who);
			}
		}
		// Out of whose slash is paid what the lie has cost others.
		let liar = seen.first().map(|who| (*who).clone());
		// Who saw that the answer was called a lie and withheld what it was bound to pays what vouching for it costs, or silence would be
		// the cheaper way out.
		for (who, session) in request.withheld.iter().filter(|_| hidden) {
			if !seen.contains(&who) {
				Self::bar(who, request.model);
				let kind = OffenceKind::FraudulentEvidence;
				accused.push((who.clone(), kind, *session, Basis::Answer));
				seen.push(who);
			}
		}
		let accepted = |list: &[(T::AccountId, Judgement)]| -> Vec<_> {
			list.iter()
				.filter(|(_, j)| *j == Judgement::Accept)
				.map(|(who, _)| who.clone())
				.collect()
		};
		let paid_jurors: Vec<_> = accepted(&of_jurors)
			.into_iter()
			.filter(|j| !seen.contains(&j))
			.collect();
		if let Some(round) = &jury.round {
			Self::leave_seats(id, round, &jury);
		}
		let judged = Judged {
			answer: finding.answer,
			votes,
			margin,
		};
		let heard = Self::judged(id, &request, judged, &accused);
		accused.extend(heard);
		Self::rule(id, &request, &mut jury, (finding.answer, votes), accused);
		let right = finding.answer == AnswerJudgement::Right;
		match &jury.appeal {
			Some(appeal) if right => Self::take_bond(id, &request, appeal, &paid_jurors),
			Some(appeal) => Self::return_bond(id, appeal),
			None => (),
		}
		if request.settled_at.is_some() {
			match finding.answer {
				AnswerJudgement::Wrong => {
					Self::pay_measurements(id, &request, output.units(), &paid_jurors);
					Self::overturn(id, request, &jury, liar.as_ref());
				}
				_ => Self::stands(id, request),
			}
			return;
		}
		if right {
			let payees = Payees {
				executor: (finding.executor == Judgement::Accept).then_some(executor),
				verifiers: accepted(&of_verifiers),
				jurors: if jury.appeal.is_some() {
					Vec::new()
				} else {
					paid_jurors
				},
			};
			Self::settle(id, &mut request, &output, payees);
			return;
		}
		let refunded = Self::close(id, &mut request, RequestState::Rejected);
		let paid = accepted(&of_verifiers)
			.into_iter()
			.filter(|v| !paid_jurors.contains(v))
			.chain(paid_jurors.iter().cloned())
			.collect::<Vec<_>>();
		Self::deposit_event(Event::RequestRejected {
			request: id,
			answer: finding.answer,
			executor: (executor, finding.executor),
			verifiers: of_verifiers,
			jurors: of_jurors,
			refunded,
		});
		// Whoever found it out is paid what a measurement is worth, whatever was asked for the answer: the loser's stake pays that
		// back.
		if let Some(liar) = &liar {
			Self::pay_measurements(id, &request, output.units(), &paid);
			// Who was right to appeal wins its bond again.
			let won = jury.appeal.map(|appeal| (appeal.who, appeal.bond));
			Self::owe(liar, id, won);
		}
	}

	/// A settled answer was false. Out of the slash its requester has back what it paid, and whoever appealed wins its bond again.
	fn overturn(
		id: RequestId,
		mut request: RequestOf<T>,
		jury: &JuryOf<T>,
		liar: Option<&T::AccountId>,
	) {
		let mut owed = Zero::zero();
		if let Some(liar) = liar {
			// What it gave on top is its own affair: an executor may be a friend.
			owed = request.paid.saturating_sub(request.tip);
			let requester = (request.requester.clone(), owed);
			let won = jury.appeal.as_ref().map(|a| (a.who.clone(), a.bond));
			Self::owe(liar, id, core::iter::once(requester).chain(won));
		}
		request.state = RequestState::Overturned;
		let callback = request.callback;
		Requests::<T>::insert(id, request);
		if callback {
			Self::queue_callback_again(id);
		}
		Self::elsewhere_ended(id);
		Self::deposit_event(Event::AnswerOverturned { request: id, owed });
	}

	pub(crate) fn return_bond(id: RequestId, appeal: &Appeal<T::AccountId, BalanceOf<T>>) {
		let released = T::Currency::release(
			&HoldReason::Appeal.into(),
			&appeal.who,
			appeal.bond,
			Precision::BestEffort,
		);
		if let Err(e) = released {
			log::error!(target: crate::LOG_TARGET, "request {id}: bond not returned: {e:?}");
		}
	}

	/// Pays the jurors of an appeal that was lost what their measurements are worth out of its bond, and burns the rest: nobody gains
	/// by calling a jury.
	pub(crate) fn take_bond(
		id: RequestId,
		request: &RequestOf<T>,
		appeal: &Appeal<T::AccountId, BalanceOf<T>>,
		jurors: &[T::AccountId],
	) {
		let reason = HoldReason::Appeal.into();
		let units = request.input_units.saturating_add(request.max_output_units);
		let each = Parameters::<T>::get()
			.measurement
			.of(units)
			.min(appeal.bond / (jurors.len() as u32).max(1).into());
		let mut left = appeal.bond;
		for juror in jurors.iter().filter(|_| !each.is_zero()) {
			// Nothing arrives where the receiver's account cannot be, because the amount is below the existential deposit.
			let given = T::Currency::transfer_on_hold(
				&reason,
				&appeal.who,
				juror,
				each,
				Precision::Exact,
				Restriction::Free,
				Fortitude::Force,
			);
			match given {
				Ok(amount) => {
					left.saturating_reduce(amount);
					Self::deposit_event(Event::MeasurementPaid {
						request: id,
						who: juror.clone(),
						amount,
					});
				}
				Err(e) => {
					log::warn!(target: crate::LOG_TARGET, "request {id}: bond not paid out: {e:?}")
				}
			}
		}
		let burned = T::Currency::burn_held(
			&reason,
			&appeal.who,
			left,
			Precision::BestEffort,
			Fortitude::Force,
		);
		if let Err(e) = burned {
			log::error!(target: crate::LOG_TARGET, "request {id}: bond not burned: {e:?}");
		}
		Self::deposit_event(Event::AppealLost {
			request: id,
			who: appeal.who.clone(),
			bond: appeal.bond,
		});
	}
}
