//! Compensation: what is owed out of a slash, paid when staking applies it.
//!
//! Whoever was given a false answer, and whoever proved that it was one, is owed money that the liar loses. Staking defers a slash, and
//! governance may cancel it; paid any earlier, or out of more than the slash, a party that is requester and executor at once would empty
//! the jury fund: it pays itself a large tip for a lie, appeals, and is compensated by everybody. And if all of a slash could be owed, such
//! a request would be an insurance: whatever its validator is slashed for would come back. So claims have a tenth of it, which is many
//! times what a request costs.

use alloc::{collections::BTreeMap, vec::Vec};
use consilience_primitives::RequestId;
use polkadot_sdk::{
	frame_support::traits::ValidatorSet,
	sp_runtime::{
		traits::{Saturating, Zero},
		Perbill,
	},
	sp_staking::{EraIndex, OnStakingUpdate},
};

use crate::{
	types::change, BalanceOf, Claim, Claims, ClaimsUntil, Config, Event, Pallet, Recovered,
	StakeHistory,
};

/// Name of [`Recovered`] in a log that says it is too long.
const SLASHES: &str = "slashes with claims on them";

/// The part of a slash that claims are paid from. The rest stays lost, whoever is compensated.
pub const CLAIMS_SHARE: Perbill = Perbill::from_percent(10);

/// Claims on one validator among which a slash is divided.
const CLAIMS_AT_A_TIME: usize = 32;

/// Requests for which claims are paid in a block.
pub const CLAIMS_PER_BLOCK: u32 = 4;

impl<T: Config> Pallet<T> {
	/// Owes these, in this order, what a validator is slashed for a request, once it is.
	pub fn owe(
		offender: &T::AccountId,
		request: RequestId,
		owed: impl IntoIterator<Item = (T::AccountId, BalanceOf<T>)>,
	) {
		let owed: Vec<_> = owed
			.into_iter()
			.filter(|(_, amount)| !amount.is_zero())
			.collect();
		if owed.is_empty() {
			return;
		}
		Self::drop_claim(offender, request);
		let until = T::ValidatorSet::session_index()
			.saturating_add(T::StakeHistory::bonding())
			.saturating_add(1);
		ClaimsUntil::<T>::insert(until, (offender, request), ());
		let claim = Claim {
			owed: consilience_primitives::List::truncate_from(owed),
			until,
		};
		Claims::<T>::insert(offender, request, claim);
	}

	/// Nothing is owed for this request out of this validator's slash any more.
	pub(crate) fn drop_claim(offender: &T::AccountId, request: RequestId) {
		if let Some(claim) = Claims::<T>::take(offender, request) {
			ClaimsUntil::<T>::remove(claim.until, (offender, request));
		}
	}

	/// A session begins: forgets claims whose slash can't come any more.
	pub(crate) fn forget_claims() {
		let now = T::ValidatorSet::session_index();
		// As many as there were answers overturned in a session.
		for ((offender, request), ()) in ClaimsUntil::<T>::drain_prefix(now) {
			Claims::<T>::remove(offender, request);
		}
	}

	/// Pays what is owed out of a slash that was applied: all claims that there are have an equal part of it at most, so that no large one leaves
	/// nothing to the others. What is more is not paid. Returns the number of requests.
	pub(crate) fn pay_claims() -> u32 {
		let Some((offender, mut left)) = Recovered::<T>::get().first().cloned() else {
			return 0;
		};
		let due: Vec<_> = Claims::<T>::iter_prefix(&offender)
			.take(CLAIMS_AT_A_TIME)
			.collect();
		let share = left / (due.len() as u32).max(1).into();
		let more = due.len() > CLAIMS_PER_BLOCK as usize;
		let mut paid = 0;
		for (request, claim) in due.into_iter().take(CLAIMS_PER_BLOCK as usize) {
			paid += 1;
			Self::drop_claim(&offender, request);
			let mut part = share;
			for (who, amount) in claim.owed {
				let amount = amount.min(part);
				part.saturating_reduce(amount);
				left.saturating_reduce(amount);
				let arrived = Self::transfer_from_fund(request, &who, amount);
				if !arrived.is_zero() {
					Self::deposit_event(Event::ClaimPaid {
						request,
						who,
						amount: arrived,
					});
				}
			}
		}
		Recovered::<T>::mutate(|list| {
			change(list, SLASHES, |all| {
				all.retain(|(who, _)| *who != offender);
				if more {
					all.insert(0, (offender, left));
				}
			})
		});
		paid.max(1)
	}

	/// Checks that every claim is forgotten one day, and that nothing is to be forgotten twice.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub(crate) fn try_state_of_claims() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use polkadot_sdk::frame_support::ensure;

		let now = T::ValidatorSet::session_index();
		for (offender, request, claim) in Claims::<T>::iter() {
			ensure!(
				!claim.owed.is_empty() && claim.owed.iter().all(|(_, amount)| !amount.is_zero()),
				"nothing is owed"
			);
			ensure!(
				claim.until > now
					&& ClaimsUntil::<T>::contains_key(claim.until, (offender, request)),
				"a claim is never forgotten"
			);
		}
		ensure!(
			ClaimsUntil::<T>::iter_keys().count() == Claims::<T>::iter_keys().count(),
			"claims are to be forgotten that nobody has"
		);
		let recovered: BTreeMap<_, _> = Recovered::<T>::get().into_iter().collect();
		ensure!(
			recovered.len() == Recovered::<T>::get().len(),
			"a slash is paid out twice"
		);
		Ok(())
	}
}

impl<T: Config> OnStakingUpdate<T::AccountId, BalanceOf<T>> for Pallet<T> {
	/// Staking has applied a slash. What is owed out of it is paid in the next blocks, when the jury fund has it.
	fn on_slash(
		stash: &T::AccountId,
		_slashed_active: BalanceOf<T>,
		_slashed_unlocking: &BTreeMap<EraIndex, BalanceOf<T>>,
		slashed_total: BalanceOf<T>,
	) {
		let slashed_total = CLAIMS_SHARE.mul_floor(slashed_total);
		if slashed_total.is_zero() || Claims::<T>::iter_prefix(stash).next().is_none() {
			return;
		}
		// At most the validators of two eras.
		Recovered::<T>::mutate(|list| {
			change(list, SLASHES, |all| {
				match all.iter_mut().find(|(who, _)| who == stash) {
					Some((_, amount)) => amount.saturating_accrue(slashed_total),
					None => all.push((stash.clone(), slashed_total)),
				}
			})
		});
	}
}
