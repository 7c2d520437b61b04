//! The end of a claim: paid, or forfeited.

use alloc::collections::BTreeSet;
use consilience_primitives::{session::ClaimId, RequestId};
use pallet_inference::{AuditAnswers, OnSettled, Settled};
use polkadot_sdk::{
	frame_support::{
		pallet_prelude::{DispatchResult, Weight},
		traits::{
			fungible::MutateHold,
			tokens::{Fortitude, Precision, Restriction},
		},
	},
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::traits::{Get, Saturating, Zero},
};

use crate::{
	Audits, BalanceOf, ChannelOf, Channels, Claims, ClaimsOf, Config, EndRange, Ends, Event,
	Forfeit, HoldReason, Pallet, PendingClaimOf, PointState, Shown, WeightInfo,
};

impl<T: Config> Pallet<T> {
	/// Ends claims whose window is over, as many as a block does. Gives their number.
	pub(crate) fn process_ends(now: BlockNumberFor<T>) -> u32 {
		let (first, end) = EndRange::<T>::get();
		let most = end.min(first.saturating_add(T::MaxPerBlock::get().into()));
		let mut place = first;
		while place < most {
			let claim = Ends::<T>::get(place).and_then(|id| Some((id, Claims::<T>::get(id)?)));
			if let Some((id, claim)) = claim {
				if claim.deadline.is_none_or(|at| at >= now) {
					break;
				}
				Self::end(id, claim);
			}
			// One that was forfeited has ended already.
			Ends::<T>::remove(place);
			place += 1;
		}
		if place > first {
			EndRange::<T>::put((place, end));
		}
		place.saturating_sub(first) as u32
	}

	/// A claim's window is over.
	fn end(id: ClaimId, mut claim: PendingClaimOf<T>) {
		claim.over = true;
		let due = claim
			.points
			.iter()
			.filter(|point| point.state == PointState::Due)
			.count() as u32;
		if due > 0 {
			let missing = T::PointInterval::get().saturating_mul(due.into());
			T::Audits::not_shown(id, &claim.payee, claim.session);
			return Self::forfeit(id, claim, Forfeit::NotOpened, missing);
		}
		Self::pay_if_cleared(id, claim);
	}

	/// Pays a claim whose window is over and of whose answers none is measured any more.
	fn pay_if_cleared(id: ClaimId, claim: PendingClaimOf<T>) {
		if claim.over && claim.points.iter().all(|point| point.state.is_cleared()) {
			Self::pay(id, claim);
		} else {
			Claims::<T>::insert(id, claim);
		}
	}

	fn pay(id: ClaimId, claim: PendingClaimOf<T>) {
		let amount = claim.root.sum;
		let to_treasury = T::TreasuryShare::get().mul_floor(amount);
		let rest = amount.saturating_sub(to_treasury);
		let to_fund = T::AuditShare::get().mul_floor(amount).min(rest);
		let shares = [
			(claim.payee.clone(), rest.saturating_sub(to_fund)),
			(T::Treasury::get(), to_treasury),
			(T::JuryFund::get(), to_fund),
		];
		let [paid, to_treasury, to_fund] = Self::finish(id, &claim, shares);
		Self::deposit_event(Event::ClaimPaid {
			claim: id,
			payee: claim.payee,
			paid,
			to_treasury,
			to_fund,
		});
	}

	/// Ends a claim that does not hold: `returned` of its money is the owner's again, the rest the treasury's.
	fn forfeit(id: ClaimId, claim: PendingClaimOf<T>, why: Forfeit, returned: BalanceOf<T>) {
		let rest = claim.root.sum.saturating_sub(returned);
		let [to_treasury] = Self::finish(id, &claim, [(T::Treasury::get(), rest)]);
		Self::deposit_event(Event::ClaimForfeited {
			claim: id,
			payee: claim.payee,
			why,
			returned: claim.root.sum.saturating_sub(to_treasury),
			to_treasury,
		});
	}

	/// Pays these out of a claim's money, returns the rest to the channel's owner, and forgets the claim. Gives what arrived.
	fn finish<const N: usize>(
		id: ClaimId,
		claim: &PendingClaimOf<T>,
		shares: [(T::AccountId, BalanceOf<T>); N],
	) -> [BalanceOf<T>; N] {
		Claims::<T>::remove(id);
		ClaimsOf::<T>::remove(&claim.payee, id);
		Self::uncount_claim(claim);
		let requests: BTreeSet<_> = claim
			.points
			.iter()
			.filter_map(|point| point.state.request())
			.collect();
		for request in requests {
			if let Some(opened) = Audits::<T>::take(request) {
				Shown::<T>::remove((claim.channel, &claim.payee, opened.number));
			}
		}
		let Some(mut channel) = Channels::<T>::get(claim.channel) else {
			return [Zero::zero(); N];
		};
		let mut left = claim.root.sum;
		let paid = shares.map(|(who, amount)| {
			let paid = Self::transfer(&mut channel, &who, amount.min(left));
			left.saturating_reduce(paid);
			paid
		});
		channel.pending.saturating_reduce(claim.root.sum);
		channel.claims.saturating_dec();
		if let Err(e) = Self::give_back(claim.channel, &mut channel, left) {
			log::error!(target: crate::LOG_TARGET, "claim {id}: {left:?} not returned: {e:?}");
		}
		Self::keep(claim.channel, channel);
		paid
	}

	/// Pays out of a channel. Gives what arrived: nothing where the receiver's account cannot be, because the amount is below the
	/// existential deposit.
	fn transfer(
		channel: &mut ChannelOf<T>,
		who: &T::AccountId,
		amount: BalanceOf<T>,
	) -> BalanceOf<T> {
		if amount.is_zero() {
			return amount;
		}
		let paid = T::Currency::transfer_on_hold(
			&HoldReason::Channel.into(),
			&channel.owner,
			who,
			amount,
			Precision::Exact,
			Restriction::Free,
			Fortitude::Force,
		);
		match paid {
			Ok(paid) => {
				channel.paid.saturating_accrue(paid);
				paid
			}
			Err(e) => {
				log::warn!(target: crate::LOG_TARGET, "{amount:?} not paid to {who:?}: {e:?}");
				Zero::zero()
			}
		}
	}

	/// An opened answer was measured.
	pub(crate) fn measured(request: RequestId, stands: bool) {
		let Some(opened) = Audits::<T>::get(request) else {
			return;
		};
		let id = opened.claim;
		let Some(mut claim) = Claims::<T>::get(id) else {
			return;
		};
		if !stands {
			return Self::forfeit(id, claim, Forfeit::False, opened.paid);
		}
		for point in claim.points.iter_mut() {
			if point.state == PointState::Measured(request) {
				point.state = PointState::Stands(request);
			}
		}
		Self::deposit_event(Event::AnswerStands { claim: id, request });
		Self::pay_if_cleared(id, claim);
	}
}

impl<T: Config> OnSettled<T::AccountId> for Pallet<T> {
	fn on_settled(request: RequestId, _: &T::AccountId, settled: &Settled) -> DispatchResult {
		Self::measured(request, *settled != Settled::Overturned);
		Ok(())
	}

	fn on_settled_weight() -> Weight {
		<T as Config>::WeightInfo::end_claim()
	}
}
