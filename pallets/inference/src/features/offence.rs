//! Offences: what a validator is reported for, and how much of its stake that costs.
//!
//! A settlement only puts an offence into a queue; at most [`PER_BLOCK`] of them are handed to staking in a block, so that no
//! report weighs what slashing weighs. Honest rounding is never among them: see `consilience_primitives::comparison`.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::RequestId;
use polkadot_sdk::{
	frame_support::traits::{ValidatorSet, ValidatorSetWithIdentification},
	frame_system,
	sp_runtime::{
		traits::{Convert, Saturating},
		Perbill,
	},
	sp_staking::{
		offence::{Kind, Offence, ReportOffence},
		SessionIndex,
	},
};
use scale_info::TypeInfo;

use crate::{Config, Event, OffenceQueue, OffenceRange, Pallet, Parameters, Strikes};

/// Offences handed to staking in a block.
pub const PER_BLOCK: u32 = 4;

/// Absences that cost nothing. They are halved in every session.
pub const FREE_STRIKES: u32 = 3;

/// Most by which repeated absence is multiplied.
const MOST_GROWTH: u32 = 10;

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
	/// Part of the stake that it costs.
	pub fraction: Perbill,
}

/// A validator as staking identifies it.
pub type IdentificationTuple<T> = (
	<<T as Config>::ValidatorSet as ValidatorSet<<T as frame_system::Config>::AccountId>>::ValidatorId,
	<<T as Config>::ValidatorSet as ValidatorSetWithIdentification<
		<T as frame_system::Config>::AccountId,
	>>::Identification,
);

/// An offence of one validator in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceOffence<Offender> {
	/// When.
	pub session_index: SessionIndex,
	/// Validators of the session.
	pub validator_set_count: u32,
	/// Where.
	pub request: RequestId,
	/// What.
	pub kind: OffenceKind,
	/// Who.
	pub offender: Offender,
	/// Part of the stake that it costs.
	pub fraction: Perbill,
}

impl<Offender: Clone> Offence<Offender> for InferenceOffence<Offender> {
	const ID: Kind = *b"inference:lie   ";
	/// One request and kind: an offence is reported once.
	type Slot = (RequestId, OffenceKind);

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
		(self.request, self.kind)
	}

	fn slash_fraction(&self, _offenders: u32) -> Perbill {
		self.fraction
	}
}

impl<T: Config> Pallet<T> {
	/// Has staking hear of an offence in one of the next blocks.
	pub(crate) fn offend(request: RequestId, offender: &T::AccountId, kind: OffenceKind) {
		let parameters = Parameters::<T>::get();
		let fraction = match kind {
			OffenceKind::FraudulentResult => parameters.result_slash,
			OffenceKind::FraudulentEvidence => parameters.evidence_slash,
			OffenceKind::WithheldReveal => parameters.withheld_slash,
			OffenceKind::Absence => {
				let beyond = Strikes::<T>::get(offender).saturating_sub(FREE_STRIKES);
				let first = parameters.absence_slash.deconstruct();
				Perbill::from_parts(first.saturating_mul(beyond.min(MOST_GROWTH)))
			}
		};
		let offence = PendingOffence {
			request,
			offender: offender.clone(),
			kind,
			session: T::ValidatorSet::session_index(),
			fraction,
		};
		OffenceRange::<T>::mutate(|(_, end)| {
			OffenceQueue::<T>::insert(*end, offence);
			*end += 1;
		});
		Self::deposit_event(Event::OffenceReported {
			request,
			offender: offender.clone(),
			kind,
			fraction,
		});
	}

	/// Notes an absence. From the third in a short time on the validator is not drawn for the model any more until it announces
	/// itself again, and beyond that each costs more than the one before.
	pub(crate) fn strike(
		request: RequestId,
		validator: &T::AccountId,
		model: consilience_primitives::ModelId,
	) {
		let strikes = Strikes::<T>::mutate(validator, |n| {
			n.saturating_accrue(1);
			*n
		});
		if strikes >= FREE_STRIKES {
			Self::stop_serving(validator, model);
		}
		if strikes > FREE_STRIKES {
			Self::offend(request, validator, OffenceKind::Absence);
		}
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
			log::warn!(target: crate::LOG_TARGET, "{:?} is no validator any more", offence.offender);
			return;
		};
		let report = InferenceOffence {
			session_index: offence.session,
			validator_set_count: T::ValidatorSet::validators().len() as u32,
			request: offence.request,
			kind: offence.kind,
			offender,
			fraction: offence.fraction,
		};
		if let Err(e) = T::ReportOffence::report_offence(Vec::new(), report) {
			log::warn!(target: crate::LOG_TARGET, "request {}: {e:?}", offence.request);
		}
	}
}
