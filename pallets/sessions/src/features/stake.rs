//! Stake behind claims: what of an executor's claims is not audited yet stays at or below a part of what it can lose.
//!
//! A liar that is found loses a part of its stake and the claims that are pending; what it could ever have gained by lies that are not found
//! yet is bounded by this. A claim that would go beyond is refused and not taken in part: its root is over all its receipts, and a part of
//! them would be another claim. A refused claim loses nothing: the voucher stays good for the sessions that it says, room becomes
//! free when claims are paid, and with an earlier voucher as much as fits is claimed at once. So that an executor never serves for what it cannot
//! claim, it reads [`Pallet::claim_room`] before it does, and treats that as it treats what is left of an allotment.

use consilience_primitives::session::Service;
use pallet_inference::SessionValidators;
use polkadot_sdk::{
	frame_support::weights::Weight,
	sp_runtime::traits::{Get, Saturating, Zero},
	sp_staking::SessionIndex,
};

use crate::{BalanceOf, Config, Pallet, PendingClaimOf, Unaudited};

/// Stake that answers for deeds.
pub trait SlashableStake<AccountId, Balance> {
	/// What can still be slashed for a validator's deed of this session: its own stake and its nominators', less what was asked for already.
	/// Nothing where it was no validator then, or it is too long ago.
	fn slashable(validator: &AccountId, session: SessionIndex) -> Balance;

	/// What that weighs.
	fn weight() -> Weight;

	/// Has so much stand behind a validator in this session, for benchmarks.
	#[cfg(feature = "runtime-benchmarks")]
	fn set(validator: &AccountId, session: SessionIndex, amount: Balance);
}

impl<T: Config> Pallet<T> {
	/// The most that claims of an executor may come to that are not audited yet, if it signs them with its lane key of this session.
	///
	/// The smaller counts of what answers for that session and for the present one, so that an older key does not bring back stake that has
	/// left. Whoever is no validator any more has the former only.
	pub(crate) fn stake_bound(payee: &T::AccountId, session: SessionIndex) -> BalanceOf<T> {
		let mut stake = T::Stake::slashable(payee, session);
		let present = T::Validators::session();
		if session != present && T::Validators::contains(payee) {
			stake = stake.min(T::Stake::slashable(payee, present));
		}
		T::UnauditedShare::get().mul_floor(stake)
	}

	/// How much more an executor may claim now, if it signs with its lane key of this session.
	pub fn claim_room(payee: &T::AccountId, session: SessionIndex) -> BalanceOf<T> {
		Self::stake_bound(payee, session).saturating_sub(Unaudited::<T>::get(payee))
	}

	/// What looking at the stake behind so many claims weighs, of two sessions for each.
	pub(crate) fn stake_weight(claims: u32) -> Weight {
		let each = T::Stake::weight().saturating_mul(2);
		each.saturating_mul(claims.into())
	}

	/// Counts a claim that is pending now.
	pub(crate) fn count_claim(claim: &PendingClaimOf<T>) {
		if claim.service == Service::Answer {
			Unaudited::<T>::mutate(&claim.payee, |sum| sum.saturating_accrue(claim.root.sum));
		}
	}

	/// A claim ends.
	pub(crate) fn uncount_claim(claim: &PendingClaimOf<T>) {
		if claim.service == Service::Answer {
			Unaudited::<T>::mutate_exists(&claim.payee, |sum| {
				let left = sum.take().unwrap_or_default();
				*sum = Some(left.saturating_sub(claim.root.sum)).filter(|left| !left.is_zero());
			});
		}
	}
}
