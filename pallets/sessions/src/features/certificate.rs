//! Certificates: a validator's lane key and address, said by its `infr` key once a session.
//!
//! A session is counted as staking counts, so that a deed under a lane key is one of the session in which the key was certified.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	session::{endpoint_is_valid, Certificate, LaneKey, Signable},
	List,
};
use pallet_inference::SessionValidators;
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::*},
	sp_application_crypto::RuntimeAppPublic,
	sp_runtime::traits::Get,
	sp_staking::SessionIndex,
};

use crate::{
	features::refusal, Certificates, Certified, Config, Error, Event, FirstSession, Pallet,
	MAX_CERTIFICATES,
};

impl<T: Config> Pallet<T> {
	pub(crate) fn authorize_certify(
		_source: TransactionSource,
		certificate: &Certificate,
		signature: &InferenceSignature,
	) -> TransactionValidityWithRefund {
		let (validator, key, known) = Self::check_certificate(certificate).map_err(refusal)?;
		if !key.verify(&certificate.payload(&Self::genesis()), signature) {
			return Err(InvalidTransaction::BadProof.into());
		}
		let times = known.map_or(0, |certified| certified.times);
		ValidTransaction::with_tag_prefix("SessionsCertificate")
			.priority(T::Priority::get())
			.and_provides((validator, certificate.session, times).encode())
			.longevity(T::Longevity::get())
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Whose certificate it is, the key that must have signed it, and what it has certified before, if it is good now.
	fn check_certificate(
		certificate: &Certificate,
	) -> Result<(T::AccountId, InferenceId, Option<Certified>), DispatchError> {
		ensure!(
			certificate.session == T::Validators::session(),
			Error::<T>::WrongSession
		);
		let (validator, key) =
			T::Validators::at(certificate.validator).ok_or(Error::<T>::NotValidator)?;
		ensure!(
			endpoint_is_valid(&certificate.endpoint),
			Error::<T>::BadEndpoint
		);
		let known = Certificates::<T>::get(certificate.session, &validator);
		if let Some(known) = &known {
			let new = !known.keys.contains(&certificate.key);
			let same = known.keys.last() == Some(&certificate.key)
				&& known.endpoint == certificate.endpoint;
			ensure!(
				!same && known.times < MAX_CERTIFICATES && !(new && known.keys.is_full()),
				Error::<T>::AlreadyCertified
			);
		}
		Ok((validator, key, known))
	}

	pub(crate) fn do_certify(certificate: Certificate) -> DispatchResult {
		let (validator, _, known) = Self::check_certificate(&certificate)?;
		let Certificate {
			session,
			key,
			endpoint,
			..
		} = certificate;
		let (mut keys, times) = known.map_or((List::new(), 0), |known| (known.keys, known.times));
		keys.retain(|other| *other != key);
		keys.try_push(key)
			.map_err(|_| Error::<T>::AlreadyCertified)?;
		let certified = Certified {
			keys,
			endpoint,
			times: times.saturating_add(1),
		};
		Certificates::<T>::insert(session, &validator, certified);
		Self::deposit_event(Event::LaneCertified {
			validator,
			session,
			key,
		});
		Ok(())
	}

	/// Whether this holds of one of the lane keys that a validator has certified in a session.
	pub(crate) fn is_certified(
		validator: &T::AccountId,
		session: SessionIndex,
		holds: impl Fn(&LaneKey) -> bool,
	) -> bool {
		Certificates::<T>::get(session, validator)
			.is_some_and(|certified| certified.keys.iter().any(holds))
	}

	/// Whether a lane key of this validator in this session is known, and signed what `verify` looks at.
	pub(crate) fn ensure_signed_by(
		validator: &T::AccountId,
		session: SessionIndex,
		verify: impl Fn(&LaneKey) -> bool,
	) -> DispatchResult {
		ensure!(
			Certificates::<T>::contains_key(session, validator),
			Error::<T>::NotCertified
		);
		ensure!(
			Self::is_certified(validator, session, verify),
			Error::<T>::BadSignature
		);
		Ok(())
	}

	/// Forgets certificates of the oldest session, where that is too long ago, as many as a block does. Gives their number.
	pub(crate) fn forget_certificates() -> u32 {
		let first = FirstSession::<T>::get();
		let kept = first.saturating_add(T::CertificateSessions::get());
		if kept >= T::Validators::session() {
			return 0;
		}
		Self::forget_session(first)
	}

	/// Forgets certificates of a session, as many as a block does. Gives their number.
	pub(crate) fn forget_session(first: SessionIndex) -> u32 {
		let most = T::MaxPerBlock::get();
		let validators: Vec<_> = Certificates::<T>::iter_key_prefix(first)
			.take(most as usize)
			.collect();
		let forgotten = validators.len() as u32;
		for validator in validators {
			Certificates::<T>::remove(first, validator);
		}
		if forgotten < most {
			FirstSession::<T>::put(first.saturating_add(1));
		}
		forgotten
	}
}
