//! Offences: what a validator is reported for, and how much of its stake that costs.
//!
//! A settlement only puts an offence into a queue; at most [`PER_BLOCK`] of them are handed to staking in a block, so that no
//! report weighs what slashing weighs. Honest rounding is never among them: see `consilience_primitives::comparison`.
//!
//! - **The deed decides.** An offence is of the session in which the offender was drawn, when it was a validator with stake behind
//!   it. Whoever is chilled, unbonds or is not elected again is reported all the same.
//! - **Deeds add up.** Staking applies the largest fraction that it hears of for a time; so it hears of the sum of what it has heard
//!   of for that time already and of what this deed costs ([`StakeHistory::charged`]).
//! - **No accidental ruin.** Whoever is found to have lied is drawn for nothing from that moment on, for
//!   [`Config::SuspensionSessions`]. Its wrong verdicts from before that are one deed; false answers count each.
//! - **Absence costs and does not disable**: [`Pallet::is_reporting_absence`] tells whoever decides that.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::RequestId;
use polkadot_sdk::{
	frame_support::{
		traits::{ValidatorSet, ValidatorSetWithIdentification},
		weights::Weight,
	},
	frame_system,
	sp_runtime::{
		traits::{Convert, Get, Saturating},
		Perbill,
	},
	sp_staking::{
		offence::{Kind, Offence, ReportOffence},
		SessionIndex,
	},
};
use scale_info::TypeInfo;

use crate::{
	types::change, Config, CountedVerdicts, CountedVerdictsUntil, Event, Juries, OffenceQueue,
	OffenceRange, Pallet, Parameters, ReportingAbsence, Requests, Rounds, Strikes, Suspended,
	Suspension, WeightInfo,
};

/// Offences handed to staking in a block. One can weigh a fifth of a block, when as many nominators as there may be stand behind
/// the offender.
pub const PER_BLOCK: u32 = 1;

/// Absences that cost nothing. They are halved in every session.
pub const FREE_STRIKES: u32 = 3;

/// Name of [`Suspended`] in a log that says it is too long.
const SUSPENDED: &str = "suspended validators";

/// What is remembered of past sessions: `sp_staking` and the session traits tell of the present one only.
pub trait StakeHistory<AccountId> {
	/// Number of validators in a session.
	fn validators(session: SessionIndex) -> u32;

	/// The largest part of a validator's stake that was asked for already, for deeds of which only the largest is applied together
	/// with one of this session. Asking for more than that costs the difference.
	fn charged(validator: &AccountId, session: SessionIndex) -> Perbill;

	/// Sessions after a deed for which stake answers for it.
	fn bonding() -> SessionIndex;

	/// What the other functions weigh together.
	fn weight() -> Weight;
}

/// Remembers nothing: every session has no validators, and nobody was charged.
impl<AccountId> StakeHistory<AccountId> for () {
	fn validators(_session: SessionIndex) -> u32 {
		0
	}

	fn charged(_validator: &AccountId, _session: SessionIndex) -> Perbill {
		Perbill::zero()
	}

	fn bonding() -> SessionIndex {
		0
	}

	fn weight() -> Weight {
		Weight::zero()
	}
}

/// What a validator did.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum OffenceKind {
	/// It answered what the model does not say.
	FraudulentResult,
	/// It showed evidence that no honest measurement gives.
	FraudulentEvidence,
	/// It committed to evidence or an output and did not show it.
	WithheldReveal,
	/// It was late, and not for the first time.
	Absence,
}

impl OffenceKind {
	/// Whether it is a lie, and not silence.
	pub fn is_fraud(self) -> bool {
		matches!(self, Self::FraudulentResult | Self::FraudulentEvidence)
	}
}

/// An offence that staking is to hear of.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct PendingOffence<AccountId> {
	/// Where it happened.
	pub request: RequestId,
	/// Who.
	pub offender: AccountId,
	/// What.
	pub kind: OffenceKind,
	/// When: stake of this session answers for it.
	pub session: SessionIndex,
	/// Part of the stake that this deed costs by itself.
	pub fraction: Perbill,
}

/// A validator as staking identifies it.
pub type IdentificationTuple<T> = (
	<<T as Config>::ValidatorSet as ValidatorSet<<T as frame_system::Config>::AccountId>>::ValidatorId,
	<<T as Config>::ValidatorSet as ValidatorSetWithIdentification<
		<T as frame_system::Config>::AccountId,
	>>::Identification,
);

/// What makes two reports one: request, kind and session of the deed, and the offender as it is encoded. Without the offender
/// `pallet-offences` would take a second one of the same slot for a reason to report the first again.
pub type OffenceSlot = (RequestId, OffenceKind, SessionIndex, Vec<u8>);

/// An offence of one validator in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceOffence<Offender> {
	/// When it was done.
	pub session_index: SessionIndex,
	/// Validators of that session.
	pub validator_set_count: u32,
	/// Where.
	pub request: RequestId,
	/// What.
	pub kind: OffenceKind,
	/// Who.
	pub offender: Offender,
	/// Part of the stake that it costs together with what was charged before.
	pub fraction: Perbill,
}

impl<Offender: Clone + Encode> Offence<Offender> for InferenceOffence<Offender> {
	const ID: Kind = *b"inference:lie   ";
	type Slot = OffenceSlot;

	fn offenders(&self) -> Vec<Offender> {
		Vec::from([self.offender.clone()])
	}

	fn session_index(&self) -> SessionIndex {
		self.session_index
	}

	fn validator_set_count(&self) -> u32 {
		self.validator_set_count
	}

	fn slot(&self) -> Self::Slot {
		let offender = self.offender.encode();
		(self.request, self.kind, self.session_index, offender)
	}

	fn slash_fraction(&self, _offenders: u32) -> Perbill {
		self.fraction
	}
}

impl<T: Config> Pallet<T> {
	/// Has staking hear of an offence in one of the next blocks. It was done in the session in which the offender was drawn for the
	/// request.
	pub(crate) fn offend(request: RequestId, offender: &T::AccountId, kind: OffenceKind) {
		let session = Self::session_of_deed(request, offender);
		Self::offend_at(request, offender, kind, session);
	}

	/// Has staking hear of an offence of a past session in one of the next blocks.
	pub fn offend_at(
		request: RequestId,
		offender: &T::AccountId,
		kind: OffenceKind,
		session: SessionIndex,
	) {
		let offence = Self::accuse(request, offender, kind, session);
		Self::queue_offence(offence);
	}

	/// Does what a lie costs at once: its author is drawn for nothing from now on. Returns what staking is to hear.
	pub(crate) fn accuse(
		request: RequestId,
		offender: &T::AccountId,
		kind: OffenceKind,
		session: SessionIndex,
	) -> PendingOffence<T::AccountId> {
		if kind.is_fraud() && !Self::is_same_deed(offender, kind, session) {
			Self::suspend(offender);
		}
		Self::offence_of(request, offender, kind, session)
	}

	/// What staking is to hear of a deed.
	pub(crate) fn offence_of(
		request: RequestId,
		offender: &T::AccountId,
		kind: OffenceKind,
		session: SessionIndex,
	) -> PendingOffence<T::AccountId> {
		let parameters = Parameters::<T>::get();
		PendingOffence {
			request,
			offender: offender.clone(),
			kind,
			session,
			fraction: match kind {
				OffenceKind::FraudulentResult => parameters.result_slash,
				OffenceKind::FraudulentEvidence => parameters.evidence_slash,
				OffenceKind::WithheldReveal => parameters.withheld_slash,
				OffenceKind::Absence => parameters.absence_slash,
			},
		}
	}

	/// Whether it is one deed with wrong verdicts of which staking has heard.
	pub(crate) fn is_same_deed(
		offender: &T::AccountId,
		kind: OffenceKind,
		session: SessionIndex,
	) -> bool {
		kind == OffenceKind::FraudulentEvidence
			&& CountedVerdicts::<T>::get(offender).is_some_and(|until| session <= until)
	}

	/// Has staking hear of an offence in one of the next blocks, if it is not one deed with what it has heard of already.
	pub(crate) fn queue_offence(mut offence: PendingOffence<T::AccountId>) {
		let same_deed = Self::is_same_deed(&offence.offender, offence.kind, offence.session);
		if same_deed {
			offence.fraction = Perbill::zero();
		} else if offence.kind == OffenceKind::FraudulentEvidence {
			let until =
				T::ValidatorSet::session_index().saturating_add(T::SuspensionSessions::get());
			Self::count_verdicts(&offence.offender, until);
		}
		Self::deposit_event(Event::OffenceReported {
			request: offence.request,
			offender: offence.offender.clone(),
			kind: offence.kind,
			fraction: offence.fraction,
		});
		if same_deed {
			return;
		}
		OffenceRange::<T>::mutate(|(_, end)| {
			OffenceQueue::<T>::insert(*end, offence);
			*end += 1;
		});
	}

	/// The session in which a validator was drawn for a request: as its executor, for its round or for its jury. The present one
	/// where it was not.
	pub(crate) fn session_of_deed(request: RequestId, who: &T::AccountId) -> SessionIndex {
		let executor = || {
			Requests::<T>::get(request)
				.filter(|r| r.executor.as_ref() == Some(who))
				.and_then(|r| r.assigned_in)
		};
		let member = || Rounds::<T>::get(request)?.member(who).map(|m| m.session);
		let juror = || {
			let round = Juries::<T>::get(request)?.round?;
			round.member(who).map(|m| m.session)
		};
		executor()
			.or_else(member)
			.or_else(juror)
			.unwrap_or_else(T::ValidatorSet::session_index)
	}

	/// Has a validator drawn for nothing for a while.
	fn suspend(validator: &T::AccountId) {
		let until = T::ValidatorSet::session_index().saturating_add(T::SuspensionSessions::get());
		// At most the validators of two eras: of the present, and those drawn in the last.
		let is_new = Suspended::<T>::mutate(|list| {
			change(list, SUSPENDED, |all| {
				if let Some(known) = all.iter_mut().find(|s| s.validator == *validator) {
					known.findings.saturating_inc();
					return false;
				}
				all.push(Suspension {
					validator: validator.clone(),
					until,
					findings: 1,
					pending: 0,
				});
				true
			})
		});
		if is_new {
			Self::deposit_event(Event::ValidatorSuspended {
				validator: validator.clone(),
				until,
			});
		}
	}

	/// Changes what is noted of a suspended validator. Returns what is noted then, if it is one.
	fn change_suspension(
		validator: &T::AccountId,
		how: impl FnOnce(&mut Suspension<T::AccountId>),
	) -> Option<Suspension<T::AccountId>> {
		Suspended::<T>::mutate(|list| {
			change(list, SUSPENDED, |all| {
				let known = all.iter_mut().find(|s| s.validator == *validator)?;
				how(known);
				Some(known.clone())
			})
		})
	}

	/// A finding waits for being contested.
	pub(crate) fn finding_waits(validator: &T::AccountId) {
		Self::change_suspension(validator, |s| s.pending.saturating_inc());
	}

	/// A finding waits no longer: it stands, or was none.
	pub(crate) fn finding_ends(validator: &T::AccountId, stands: bool) {
		let left = Self::change_suspension(validator, |s| {
			s.pending.saturating_dec();
			if !stands {
				s.findings.saturating_dec();
			}
		});
		match left {
			Some(s) if s.findings == 0 => {
				Self::end_suspension(validator);
			}
			// Only what waited has kept it.
			Some(s) if s.pending == 0 && s.until < T::ValidatorSet::session_index() => {
				Suspended::<T>::mutate(|list| list.retain(|s| s.validator != *validator));
				Self::deposit_event(Event::SuspensionEnded {
					validator: validator.clone(),
				});
			}
			_ => (),
		}
	}

	/// Whether a validator is drawn for nothing, and may not begin to serve, because it was found to have lied.
	pub fn is_suspended(validator: &T::AccountId) -> bool {
		Suspended::<T>::get()
			.iter()
			.any(|s| s.validator == *validator)
	}

	/// Lets a validator serve again, because it was suspended wrongly. Returns whether it was.
	pub fn end_suspension(validator: &T::AccountId) -> bool {
		let ended = Suspended::<T>::mutate(|list| {
			let before = list.len();
			list.retain(|s| s.validator != *validator);
			list.len() < before
		});
		if ended {
			if let Some(until) = CountedVerdicts::<T>::take(validator) {
				CountedVerdictsUntil::<T>::remove(until, validator);
			}
			Self::deposit_event(Event::SuspensionEnded {
				validator: validator.clone(),
			});
		}
		ended
	}

	/// Notes that wrong verdicts of sessions up to this one are one deed, and were counted.
	fn count_verdicts(validator: &T::AccountId, until: SessionIndex) {
		if let Some(last) = CountedVerdicts::<T>::get(validator) {
			CountedVerdictsUntil::<T>::remove(last, validator);
		}
		CountedVerdicts::<T>::insert(validator, until);
		CountedVerdictsUntil::<T>::insert(until, validator, ());
	}

	/// A session begins: ends suspensions whose time is over, and forgets verdicts for which no stake answers any more.
	pub(crate) fn forgive_lies() {
		let now = T::ValidatorSet::session_index();
		let over: Vec<_> = Suspended::<T>::get()
			.into_iter()
			.filter(|s| s.until < now && s.pending == 0)
			.collect();
		if !over.is_empty() {
			Suspended::<T>::mutate(|list| list.retain(|s| s.until >= now || s.pending > 0));
		}
		for Suspension { validator, .. } in over {
			Self::deposit_event(Event::SuspensionEnded { validator });
		}
		let Some(old) = now.checked_sub(T::StakeHistory::bonding().saturating_add(1)) else {
			return;
		};
		// As many as were found to have lied within one session.
		for (validator, ()) in CountedVerdictsUntil::<T>::drain_prefix(old) {
			CountedVerdicts::<T>::remove(validator);
		}
	}

	/// Whether the offence that is being reported is an absence, for which nobody is to be disabled.
	pub fn is_reporting_absence() -> bool {
		ReportingAbsence::<T>::get()
	}

	/// Notes an absence. From the third in a short time on the validator is not drawn for the model any more until it announces
	/// itself again, and each beyond that costs stake.
	pub(crate) fn strike(
		request: RequestId,
		validator: &T::AccountId,
		model: consilience_primitives::ModelId,
	) {
		let strikes = Self::count_absence(validator);
		if strikes >= FREE_STRIKES {
			Self::stop_serving(validator, model);
		} else {
			pallet_model_registry::Pallet::<T>::slower(validator, model);
		}
		if strikes > FREE_STRIKES {
			Self::offend(request, validator, OffenceKind::Absence);
		}
	}

	/// Notes that a validator has not contributed to the toss for a request. Beyond the third absence in a short time it costs stake.
	pub(crate) fn strike_for_silence(request: RequestId, validator: &T::AccountId) {
		if Self::count_absence(validator) > FREE_STRIKES {
			let session = T::ValidatorSet::session_index();
			Self::offend_at(request, validator, OffenceKind::Absence, session);
		}
	}

	/// Returns how often a validator was absent of late, with this time.
	fn count_absence(validator: &T::AccountId) -> u32 {
		Strikes::<T>::mutate(validator, |n| {
			n.saturating_accrue(1);
			*n
		})
	}

	/// Has a validator drawn no more for a model.
	pub(crate) fn stop_serving(validator: &T::AccountId, model: consilience_primitives::ModelId) {
		if pallet_model_registry::Pallet::<T>::is_serving(validator, model) {
			if let Err(e) = pallet_model_registry::Pallet::<T>::withdraw(validator, model) {
				log::error!(target: crate::LOG_TARGET, "serving of {model:?} is out of step: {e:?}");
			}
		}
	}

	/// Halves what is remembered of absences.
	pub(crate) fn forgive_strikes() {
		// As many as there are validators at most.
		for (validator, n) in Strikes::<T>::iter().collect::<Vec<_>>() {
			if n < 2 {
				Strikes::<T>::remove(validator);
			} else {
				Strikes::<T>::insert(validator, n / 2);
			}
		}
	}

	/// Hands the oldest offences to staking. Gives their number.
	pub(crate) fn process_offences() -> u32 {
		let (first, end) = OffenceRange::<T>::get();
		let last = end.min(first.saturating_add(PER_BLOCK.into()));
		for place in first..last {
			if let Some(offence) = OffenceQueue::<T>::take(place) {
				Self::hand_over(offence);
			}
		}
		if last > first {
			OffenceRange::<T>::put((last, end));
		}
		last.saturating_sub(first) as u32
	}

	fn hand_over(offence: PendingOffence<T::AccountId>) {
		type Set<T> = <T as Config>::ValidatorSet;
		if offence.kind.is_fraud() {
			pallet_model_registry::Pallet::<T>::withdraw_all(&offence.offender);
		}
		let identified = <Set<T> as ValidatorSet<T::AccountId>>::ValidatorIdOf::convert(
			offence.offender.clone(),
		)
		.and_then(|id| {
			<Set<T> as ValidatorSetWithIdentification<T::AccountId>>::IdentificationOf::convert(
				id.clone(),
			)
			.map(|full| (id, full))
		});
		let Some(offender) = identified else {
			log::error!(target: crate::LOG_TARGET, "{:?} cannot be identified", offence.offender);
			return;
		};
		let charged = T::StakeHistory::charged(&offence.offender, offence.session);
		let fraction = if offence.fraction.is_zero() {
			offence.fraction
		} else {
			charged.saturating_add(offence.fraction)
		};
		let report = InferenceOffence {
			session_index: offence.session,
			validator_set_count: T::StakeHistory::validators(offence.session),
			request: offence.request,
			kind: offence.kind,
			offender,
			fraction,
		};
		let absence = offence.kind == OffenceKind::Absence;
		if absence {
			ReportingAbsence::<T>::put(true);
		}
		if let Err(e) = T::ReportOffence::report_offence(Vec::new(), report) {
			log::warn!(target: crate::LOG_TARGET, "request {}: {e:?}", offence.request);
		}
		if absence {
			ReportingAbsence::<T>::kill();
		}
	}

	/// What handing over an offence weighs, with as many nominators behind the offender as there may be.
	pub(crate) fn offence_weight() -> Weight {
		// Staking reads and writes three values for each nominator behind the offender.
		let nominators = T::DbWeight::get()
			.reads_writes(3, 3)
			.saturating_add(Weight::from_parts(30_000_000, 0))
			.saturating_mul(T::MaxNominators::get().into());
		<T as Config>::WeightInfo::offence()
			.saturating_add(T::StakeHistory::weight())
			.saturating_add(nominators)
	}

	/// Checks that the queue has no gap, and that what is remembered of lies has an end.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_offences() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use polkadot_sdk::frame_support::ensure;

		let now = T::ValidatorSet::session_index();
		let (first, end) = OffenceRange::<T>::get();
		ensure!(
			first <= end
				&& (first..end).all(OffenceQueue::<T>::contains_key)
				&& OffenceQueue::<T>::iter_keys().count() as u64 == end - first,
			"the queue of offences has a gap, or something outside"
		);
		ensure!(
			OffenceQueue::<T>::iter_values()
				.all(|o| o.session <= now && now - o.session <= T::StakeHistory::bonding()),
			"an offence of a session for which no stake answers"
		);
		ensure!(
			!ReportingAbsence::<T>::get(),
			"an absence is being reported for ever"
		);
		let suspended = Suspended::<T>::get();
		ensure!(
			suspended.len() as u32 <= T::MaxValidators::get().saturating_mul(2),
			"more are suspended than can have lied"
		);
		for (place, suspension) in suspended.iter().enumerate() {
			ensure!(
				(suspension.until >= now || suspension.pending > 0)
					&& suspension.until <= now.saturating_add(T::SuspensionSessions::get()),
				"a suspension does not end"
			);
			ensure!(
				suspension.findings > 0 && suspension.findings >= suspension.pending,
				"a suspension for nothing"
			);
			let first = suspended
				.iter()
				.position(|s| s.validator == suspension.validator);
			ensure!(first == Some(place), "a validator is suspended twice");
		}
		let forgotten = now.saturating_sub(T::StakeHistory::bonding());
		for (validator, until) in CountedVerdicts::<T>::iter() {
			ensure!(
				until >= forgotten && until <= now.saturating_add(T::SuspensionSessions::get()),
				"verdicts are remembered for ever"
			);
			ensure!(
				CountedVerdictsUntil::<T>::contains_key(until, validator),
				"verdicts that are never forgotten"
			);
		}
		ensure!(
			CountedVerdictsUntil::<T>::iter_keys().count()
				== CountedVerdicts::<T>::iter_keys().count(),
			"verdicts are to be forgotten of which nothing is remembered"
		);
		Ok(())
	}
}
