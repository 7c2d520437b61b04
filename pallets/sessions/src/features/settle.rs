//! Claims: a payee's last voucher, and the root over its receipts since the last claim.

use alloc::{collections::BTreeSet, vec::Vec};
use codec::Encode;
use consilience_primitives::{
	session::{Claim, ClaimId, Service, Signed, MAX_CLAIMS, MAX_POINTS, MAX_RECEIPTS},
	List,
};
use pallet_inference::SessionValidators;
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::*, storage::with_storage_layer},
	frame_system,
	sp_runtime::{
		traits::{Get, Saturating, Zero},
		DispatchError,
	},
};

use crate::{
	features::{channel::limit, refusal},
	BalanceOf, ChannelOf, Channels, Checked, Claims, ClaimsOf, Config, Draw, Error, Event,
	NextClaim, Pallet, PendingClaim,
};

/// A claim as it comes in.
pub(crate) type ClaimOf<T> = Signed<Claim<<T as frame_system::Config>::AccountId, BalanceOf<T>>>;

impl<T: Config> Pallet<T> {
	pub(crate) fn authorize_settle(
		_source: TransactionSource,
		claims: &List<ClaimOf<T>, MAX_CLAIMS>,
	) -> TransactionValidityWithRefund {
		ensure!(!claims.is_empty(), InvalidTransaction::Call);
		let mut subjects = BTreeSet::new();
		let mut channels = Vec::new();
		for claim in claims {
			let voucher = &claim.body.voucher.body;
			let checks = voucher.service == Service::Check;
			ensure!(
				subjects.insert((voucher.channel, &voucher.payee, checks)),
				refusal(Error::<T>::ClaimTwice.into())
			);
			let (channel, before, _) = Self::check_claim(claim).map_err(refusal)?;
			channels.push((channel, before));
		}
		for (claim, (channel, _)) in claims.iter().zip(&channels) {
			Self::verify_claim(claim, channel).map_err(refusal)?;
		}
		let valid = ValidTransaction::with_tag_prefix("SessionsClaim")
			.priority(T::Priority::get())
			.longevity(T::Longevity::get())
			.propagate(true);
		// One at a time of a payee: a series of vouchers would fill the pool, for nothing.
		claims
			.iter()
			.zip(&channels)
			.fold(valid, |valid, (claim, (_, before))| {
				let v = &claim.body.voucher.body;
				valid.and_provides((v.channel, &v.payee, v.service, before).encode())
			})
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// What a payee has claimed of a channel for a service.
	pub(crate) fn claimed_of(
		id: consilience_primitives::session::ChannelId,
		channel: &ChannelOf<T>,
		payee: &T::AccountId,
		service: Service,
	) -> Option<BalanceOf<T>> {
		match service {
			Service::Check => Some(Checked::<T>::get(id, payee)),
			Service::Answer => channel
				.allocations
				.iter()
				.find(|a| a.payee == *payee)
				.map(|a| a.allotment.claimed),
		}
	}

	/// The channel, what was claimed of it before and what is claimed now, if the claim is good now, its signatures left out.
	fn check_claim(
		claim: &ClaimOf<T>,
	) -> Result<(ChannelOf<T>, BalanceOf<T>, BalanceOf<T>), DispatchError> {
		let Claim {
			voucher,
			root,
			count,
			session,
		} = &claim.body;
		let voucher = &voucher.body;
		let channel = Channels::<T>::get(voucher.channel).ok_or(Error::<T>::UnknownChannel)?;
		let now = frame_system::Pallet::<T>::block_number();
		ensure!(channel.seed.is_some(), Error::<T>::NotReady);
		ensure!(
			channel.closes_at.is_none_or(|at| now < at),
			Error::<T>::Closed
		);
		ensure!(
			voucher.expires >= T::Validators::session(),
			Error::<T>::VoucherExpired
		);
		ensure!((1..=MAX_RECEIPTS).contains(count), Error::<T>::BadCount);
		let before = Self::claimed_of(voucher.channel, &channel, &voucher.payee, voucher.service)
			.ok_or(Error::<T>::NoAllotment)?;
		let amount = voucher.amount.saturating_sub(before);
		ensure!(!amount.is_zero(), Error::<T>::ClaimedBefore);
		// Of the pot each has claimed its own part.
		let (whole, claimed) = match voucher.service {
			Service::Check => (&channel.pot, channel.pot.claimed.saturating_add(amount)),
			Service::Answer => {
				let of_payee = channel
					.allocations
					.iter()
					.find(|a| a.payee == voucher.payee)
					.ok_or(Error::<T>::NoAllotment)?;
				(&of_payee.allotment, voucher.amount)
			}
		};
		ensure!(claimed <= limit::<T>(whole, now), Error::<T>::OverAllotment);
		ensure!(amount >= T::MinClaim::get(), Error::<T>::ClaimTooSmall);
		ensure!(
			amount <= T::PointInterval::get().saturating_mul(MAX_POINTS.into()),
			Error::<T>::ClaimTooLarge
		);
		ensure!(root.sum == amount, Error::<T>::WrongSum);
		ensure!(
			voucher.service == Service::Answer
				|| !before.is_zero()
				|| channel.checkers < T::MaxCheckers::get(),
			Error::<T>::TooManyCheckers
		);
		ensure!(Self::may_wait(), Error::<T>::NoRandomness);
		// Checks are not audited.
		ensure!(
			voucher.service == Service::Check
				|| amount <= Self::claim_room(&voucher.payee, *session),
			Error::<T>::OverStake
		);
		Ok((channel, before, amount))
	}

	/// Whether a claim's voucher is signed by the channel's key, and it by its payee's lane key.
	fn verify_claim(claim: &ClaimOf<T>, channel: &ChannelOf<T>) -> DispatchResult {
		let genesis = Self::genesis();
		let Claim {
			voucher, session, ..
		} = &claim.body;
		ensure!(
			voucher.verify(&genesis, &channel.key),
			Error::<T>::BadVoucher
		);
		Self::ensure_signed_by(&voucher.body.payee, *session, |key| {
			claim.verify(&genesis, key)
		})
	}

	/// Takes claims that were let in.
	pub(crate) fn do_settle(claims: List<ClaimOf<T>, MAX_CLAIMS>) {
		for (index, claim) in (0..).zip(claims) {
			// An earlier one of the same channel may have emptied its pot.
			if let Err(reason) = with_storage_layer(|| Self::take_claim(claim)) {
				Self::deposit_event(Event::ClaimSkipped { index, reason });
			}
		}
	}

	fn take_claim(claim: ClaimOf<T>) -> Result<ClaimId, DispatchError> {
		let (mut channel, before, amount) = Self::check_claim(&claim)?;
		let Claim {
			voucher,
			root,
			count,
			session,
		} = claim.body;
		let voucher = voucher.body;
		let id = voucher.channel;
		let now = frame_system::Pallet::<T>::block_number();
		Self::give_back_lowered(id, &mut channel, now)?;
		match voucher.service {
			Service::Check => {
				channel.pot.claimed.saturating_accrue(amount);
				if !Checked::<T>::contains_key(id, &voucher.payee) {
					channel.checkers.saturating_inc();
				}
				Checked::<T>::insert(id, &voucher.payee, voucher.amount);
			}
			Service::Answer => {
				for allocation in channel.allocations.iter_mut() {
					if allocation.payee == voucher.payee {
						allocation.allotment.claimed = voucher.amount;
					}
				}
			}
		}
		channel.pending.saturating_accrue(amount);
		channel.claims.saturating_inc();
		Channels::<T>::insert(id, channel);
		let number = NextClaim::<T>::mutate(|next| {
			let number = *next;
			*next += 1;
			number
		});
		Self::wait_for_draw(Draw::Points(number))?;
		ClaimsOf::<T>::insert(&voucher.payee, number, ());
		let claim = PendingClaim {
			channel: id,
			payee: voucher.payee.clone(),
			service: voucher.service,
			root,
			before,
			count,
			session,
			claimed_at: now,
			deadline: None,
			points: List::new(),
			over: false,
		};
		Self::count_claim(&claim);
		Claims::<T>::insert(number, claim);
		Self::deposit_event(Event::Claimed {
			claim: number,
			channel: id,
			payee: voucher.payee,
			service: voucher.service,
			amount,
		});
		Ok(number)
	}
}
