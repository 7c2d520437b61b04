//! Disputes: a jury measures, and the runtime finds who was right.
//!
//! A jury is a round like any other, of all who serve the model up to [`Config::MaxJurors`], under a challenge of its own. A
//! committee that does not agree calls it, and so does an appeal against an answer that was not drawn for a check. Its members
//! measure under the committee's challenge as well, which is what the committee is judged by.
//!
//! Jurors who do not come are not waited for: whoever is there in time makes up the jury. Below [`Config::MinJury`] jurors from
//! outside the disputed round nothing is found, everything goes back to the requester, and nobody is blamed.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	comparison::{judge_dispute, AnswerJudgement, Disputed, Finding, Judgement},
	evidence::Evidence,
	model::NumericClass,
	request::Output,
	view::RequestState,
	RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::DispatchResult,
		traits::{
			fungible::{Mutate, MutateHold},
			tokens::{Fortitude, Precision, Preservation, Restriction},
			ValidatorSet,
		},
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::{
		traits::{Get, Saturating, Zero},
		DispatchError,
	},
};

use crate::{
	features::{
		draw::draw_distinct,
		offence::OffenceKind,
		report::Outcome,
		round::{Phase, Progress, Round},
		settle::Payees,
	},
	Appeal, BalanceOf, Config, Error, Event, HoldReason, Juries, Jury, JuryOf, Keys, Outputs,
	Pallet, Parameters, RequestOf, Requests, Role, RoundOf, Rounds,
};

/// What a jury found, with the disputed round's members and the jurors by name.
struct Found<AccountId> {
	finding: Finding,
	verifiers: Vec<AccountId>,
	jurors: Vec<AccountId>,
}

impl<T: Config> Pallet<T> {
	/// Calls a jury. The committee's members have nothing more to do.
	pub(crate) fn dispute(
		id: RequestId,
		mut request: RequestOf<T>,
		appeal: Option<Appeal<T::AccountId, BalanceOf<T>>>,
	) {
		let now = frame_system::Pallet::<T>::block_number();
		for who in Self::parties(id, &request) {
			Self::unassign(&who, id);
		}
		request.state = RequestState::Disputed;
		request.appealable_until = None;
		Self::schedule(now, T::DrawPatience::get(), id, &mut request);
		Requests::<T>::insert(id, request);
		Juries::<T>::insert(
			id,
			Jury {
				round: None,
				appeal,
			},
		);
		Self::queue_draw(id);
		Self::deposit_event(Event::RequestDisputed { request: id });
	}

	/// The executor and the members of its round.
	fn parties(id: RequestId, request: &RequestOf<T>) -> Vec<T::AccountId> {
		let round = Rounds::<T>::get(id);
		let members = round
			.into_iter()
			.flat_map(|r| r.members)
			.map(|m| m.who)
			.filter(|who| request.executor.as_ref() != Some(who));
		request.executor.iter().cloned().chain(members).collect()
	}

	/// Whether enough of these are from outside the disputed round.
	fn is_jury<'a>(
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
		Self::is_jury(&Self::serving(request).collect::<Vec<_>>(), parties)
	}

	/// Appeals against an answer that was not drawn for a check.
	pub(crate) fn do_appeal(who: T::AccountId, id: RequestId) -> DispatchResult {
		let request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		let open = request.state == RequestState::Provisional && request.appealable_until.is_some();
		ensure!(open, Error::<T>::NotAppealable);
		let may = request.requester == who || Keys::<T>::get().iter().any(|(v, _)| *v == who);
		ensure!(may, Error::<T>::MayNotAppeal);
		let (jurors, _) = Self::candidates(&request, Role::Juror, &[]);
		// Otherwise the requester of a small network would always get its money back.
		ensure!(
			Self::is_jury(&jurors, &Self::parties(id, &request)),
			Error::<T>::JuryTooSmall
		);
		let bond = T::AppealBond::get();
		T::Currency::hold(&HoldReason::Appeal.into(), &who, bond)?;
		Self::deposit_event(Event::Appealed {
			request: id,
			who: who.clone(),
			bond,
		});
		Self::dispute(id, request, Some(Appeal { who, bond }));
		Ok(())
	}

	/// Draws the jury: all who serve the model and have a seat free, or as many of them as fit. Where too few have one now, it waits.
	pub(crate) fn draw_jury(
		now: BlockNumberFor<T>,
		id: RequestId,
		request: &mut RequestOf<T>,
		seed: H256,
	) -> bool {
		let (Some(model), Some(mut jury)) = (Models::<T>::get(request.model), Juries::<T>::get(id))
		else {
			return true;
		};
		let parties = Self::parties(id, request);
		let candidates = Self::candidates(request, Role::Juror, &[]);
		let drawn = draw_distinct(&seed, b"juror", candidates, T::MaxJurors::get());
		if !Self::is_jury(&drawn, &parties) {
			if Self::is_possible(request, &parties) {
				return false;
			}
			Self::undecided(id, request.clone());
			return true;
		}
		let blocks = model.spec.time.answer_blocks(request.max_output_units);
		// It measures twice.
		Self::schedule(now, blocks.saturating_mul(2).into(), id, request);
		for juror in &drawn {
			Self::assign(juror, id, Role::Juror);
		}
		let challenge = H256((seed, b"jury").using_encoded(blake2_256));
		let deadline = request.deadline;
		Requests::<T>::insert(id, &*request);
		let session = T::ValidatorSet::session_index();
		let jurors = drawn.iter().cloned();
		jury.round = Some(Round::new(challenge, session, jurors, deadline));
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
		let Some(round) = &mut jury.round else {
			// The seats are taken, or no block had randomness. Every jury ends, and whoever waits longest is drawn first: more
			// disputes than seats must not save a liar.
			if Self::is_possible(&request, &parties) {
				Self::schedule(now, T::DrawPatience::get(), id, &mut request);
				Requests::<T>::insert(id, &request);
				return;
			}
			return Self::undecided(id, request);
		};
		let phase = round.phase;
		let asked = round.members.len();
		let absent = round.leave_out_absent();
		// Where nobody revealed, finality is late, and nobody to blame.
		let stalled = phase == Phase::Reveal && absent.len() == asked;
		for absent in absent {
			Self::unassign(&absent, id);
			match phase {
				Phase::Commit => Self::strike(id, &absent, request.model),
				Phase::Reveal if stalled => (),
				Phase::Reveal => Self::withheld(id, &absent),
			}
		}
		let enough = Self::is_jury(round.members.iter().map(|m| &m.who), &parties);
		if enough && phase == Phase::Commit {
			Self::schedule(now, T::RevealBlocks::get(), id, &mut request);
			round.deadline = request.deadline;
			Self::deposit_event(Event::RevealStarted {
				request: id,
				deadline: request.deadline,
			});
		}
		Juries::<T>::insert(id, jury);
		Requests::<T>::insert(id, &request);
		if !enough {
			Self::undecided(id, request);
		} else if phase == Phase::Reveal {
			if let Err(e) = Self::conclude_jury(id) {
				log::error!(target: crate::LOG_TARGET, "request {id}: no verdict: {e:?}");
				Self::undecided(id, request);
			}
		}
	}

	/// A member committed and did not reveal.
	pub(crate) fn withheld(id: RequestId, member: &T::AccountId) {
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
		if let Some(appeal) = &jury.appeal {
			Self::return_bond(id, appeal);
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
		let Some(revealed) = jury.round.as_ref().and_then(|r| r.complete()) else {
			return Ok(Outcome::Open);
		};
		let output = Outputs::<T>::get(id).ok_or(Error::<T>::NotDue)?;
		let found = Self::find(id, &request, &jury, &revealed, &output)?;
		let outcome = Outcome::Judged {
			jurors: found.jurors.len() as u32,
			output: output.encoded_size() as u32,
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
		let policy = &model.spec.policy;
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
		let shown = match output {
			Output::Tensors(tensors) => Some(
				Evidence::of_tensors(tensors, &challenge, policy)
					.map_err(|_| Error::<T>::MalformedOutput)?
					.fingerprint,
			),
			Output::Text { .. } | Output::Unanswerable(_) => None,
		};
		let jurors: Vec<_> = revealed.iter().map(|(_, e)| *e).collect();
		let finding = judge_dispute(
			policy,
			&jurors,
			(own.map(|(_, e)| *e), place(executor)),
			&disputed,
			shown.as_ref(),
			T::MinJury::get() as usize,
		);
		Ok(Found {
			finding,
			verifiers: verifiers.iter().map(|(who, _)| (*who).clone()).collect(),
			jurors: revealed.iter().map(|(who, _)| (*who).clone()).collect(),
		})
	}

	fn end_dispute(
		id: RequestId,
		mut request: RequestOf<T>,
		jury: JuryOf<T>,
		output: Output,
		found: Found<T::AccountId>,
	) {
		let Some(executor) = request.executor.clone() else {
			return;
		};
		let Found {
			finding,
			verifiers,
			jurors,
		} = found;
		let exact = Models::<T>::get(request.model)
			.is_some_and(|m| m.spec.policy.class == NumericClass::Exact);
		let decided = finding.answer != AnswerJudgement::Undecided;
		let mut blamed = 0;
		let of_verifiers: Vec<_> = verifiers.into_iter().zip(finding.verifiers).collect();
		let of_jurors: Vec<_> = jurors.into_iter().zip(finding.jurors).collect();
		let others = of_verifiers
			.iter()
			.chain(&of_jurors)
			.map(|(who, j)| (who, *j, false));
		let mut seen = Vec::new();
		for (who, judgement, wrote) in
			core::iter::once((&executor, finding.executor, true)).chain(others)
		{
			// Other bits than most have: a machine that differs is drawn no more until it shows that it does not.
			let differs = exact && decided && judgement == Judgement::Grey;
			if judgement == Judgement::Fraud || differs {
				Self::stop_serving(who, request.model);
			}
			if judgement == Judgement::Fraud && !seen.contains(&who) {
				let kind = if wrote && finding.answer == AnswerJudgement::Wrong {
					OffenceKind::FraudulentResult
				} else {
					OffenceKind::FraudulentEvidence
				};
				Self::offend(id, who, kind);
				seen.push(who);
				blamed += 1;
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
		if finding.answer == AnswerJudgement::Right {
			if let Some(appeal) = &jury.appeal {
				Self::take_bond(id, appeal, &paid_jurors);
			}
			let payees = Payees {
				executor: (finding.executor == Judgement::Accept).then_some(executor),
				verifiers: accepted(&of_verifiers),
				shares: of_verifiers.len() as u32,
				jurors: paid_jurors,
			};
			Self::settle(id, &mut request, &output, payees);
			return;
		}
		if let Some(appeal) = &jury.appeal {
			Self::return_bond(id, appeal);
		}
		let refunded = Self::close(id, &mut request, RequestState::Rejected);
		Self::deposit_event(Event::RequestRejected {
			request: id,
			answer: finding.answer,
			executor: (executor, finding.executor),
			verifiers: of_verifiers,
			jurors: of_jurors,
			refunded,
		});
		// Slashes go to the treasury; the jury that brought them about is paid from it.
		if blamed > 0 {
			Self::reward_jurors(id, &request, &output, &paid_jurors);
		}
	}

	/// Pays each juror a verifier's share out of the treasury, while it has so much.
	fn reward_jurors(
		id: RequestId,
		request: &RequestOf<T>,
		output: &Output,
		jurors: &[T::AccountId],
	) {
		let cost = Self::cost(request, output);
		let share = Parameters::<T>::get().verifier_share.mul_floor(cost);
		let each = share / u32::from(request.verifiers.max(1)).into();
		if each.is_zero() {
			return;
		}
		for juror in jurors {
			let paid =
				T::Currency::transfer(&T::Treasury::get(), juror, each, Preservation::Preserve);
			match paid {
				Ok(amount) => Self::deposit_event(Event::JurorRewarded {
					request: id,
					juror: juror.clone(),
					amount,
				}),
				Err(e) => {
					log::warn!(target: crate::LOG_TARGET, "request {id}: juror not paid: {e:?}");
					return;
				}
			}
		}
	}

	fn return_bond(id: RequestId, appeal: &Appeal<T::AccountId, BalanceOf<T>>) {
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

	/// Divides a lost bond among the jurors; what division leaves over is the treasury's.
	fn take_bond(
		id: RequestId,
		appeal: &Appeal<T::AccountId, BalanceOf<T>>,
		jurors: &[T::AccountId],
	) {
		// Nothing arrives where the receiver's account cannot be, because the amount is below the existential deposit.
		let give = |who: &T::AccountId, amount: BalanceOf<T>| {
			let given = T::Currency::transfer_on_hold(
				&HoldReason::Appeal.into(),
				&appeal.who,
				who,
				amount,
				Precision::Exact,
				Restriction::Free,
				Fortitude::Force,
			);
			given.unwrap_or_else(|e| {
				log::warn!(target: crate::LOG_TARGET, "request {id}: bond not paid out: {e:?}");
				Zero::zero()
			})
		};
		let each = appeal.bond / (jurors.len() as u32).max(1).into();
		let mut left = appeal.bond;
		for juror in jurors.iter().filter(|_| !each.is_zero()) {
			let amount = give(juror, each);
			left.saturating_reduce(amount);
			if !amount.is_zero() {
				Self::deposit_event(Event::JurorRewarded {
					request: id,
					juror: juror.clone(),
					amount,
				});
			}
		}
		if !left.is_zero() {
			left.saturating_reduce(give(&T::Treasury::get(), left));
		}
		if !left.is_zero() {
			let who = appeal.who.clone();
			Self::return_bond(id, &Appeal { who, bond: left });
		}
		Self::deposit_event(Event::AppealLost {
			request: id,
			who: appeal.who.clone(),
			bond: appeal.bond,
		});
	}
}
