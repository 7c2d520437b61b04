//! Channels: opened, raised, lowered, closed, withdrawn from.

use alloc::collections::BTreeSet;
use consilience_primitives::{
	session::{
		Allocation, Allotment, ChannelId, LaneKey, Lowering, Release, Signed, MAX_ALLOCATIONS,
	},
	List,
};
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::DispatchResult,
		traits::{fungible::MutateHold, tokens::Precision},
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_runtime::{
		traits::{CheckedAdd, Get, Saturating, Zero},
		DispatchError,
	},
};

use crate::{
	BalanceOf, Channel, ChannelOf, Channels, ChannelsOf, Checked, Config, Draw, Error, Event,
	HoldReason, NextChannel, Pallet, Part,
};

/// An allotment of a channel of `T`.
pub(crate) type AllotmentOf<T> = Allotment<BlockNumberFor<T>, BalanceOf<T>>;

/// All that vouchers can be worth in this block: what is lowered and whose notice is over does not count.
pub(crate) fn limit<T: Config>(allotment: &AllotmentOf<T>, now: BlockNumberFor<T>) -> BalanceOf<T> {
	let by = allotment
		.lowering
		.filter(|lowering| lowering.at <= now)
		.map_or(Zero::zero(), |lowering| lowering.by);
	allotment.amount.saturating_sub(by).max(allotment.claimed)
}

/// What is not claimed of an allotment.
pub(crate) fn unclaimed<T: Config>(allotment: &AllotmentOf<T>) -> BalanceOf<T> {
	allotment.amount.saturating_sub(allotment.claimed)
}

impl<AccountId: PartialEq, BlockNumber, Balance> Channel<AccountId, BlockNumber, Balance> {
	/// The allotment of a part, if there is one.
	pub(crate) fn allotment_mut(
		&mut self,
		part: &Part<AccountId>,
	) -> Option<&mut Allotment<BlockNumber, Balance>> {
		match part {
			Part::Pot => Some(&mut self.pot),
			Part::Payee(payee) => self
				.allocations
				.iter_mut()
				.find(|a| a.payee == *payee)
				.map(|a| &mut a.allotment),
		}
	}
}

/// All allotments of a channel.
pub(crate) fn allotments_mut<T: Config>(
	channel: &mut ChannelOf<T>,
) -> impl Iterator<Item = &mut AllotmentOf<T>> {
	channel
		.allocations
		.iter_mut()
		.map(|a| &mut a.allotment)
		.chain(core::iter::once(&mut channel.pot))
}

impl<T: Config> Pallet<T> {
	/// Opens a channel.
	pub fn do_open(
		owner: T::AccountId,
		key: LaneKey,
		chain: H256,
		allocations: List<(T::AccountId, BalanceOf<T>), MAX_ALLOCATIONS>,
		pot: BalanceOf<T>,
	) -> Result<ChannelId, DispatchError> {
		let least = T::MinAllocation::get();
		ensure!(!allocations.is_empty(), Error::<T>::NoAllocation);
		let payees: BTreeSet<_> = allocations.iter().map(|(payee, _)| payee).collect();
		ensure!(payees.len() == allocations.len(), Error::<T>::PayeeTwice);
		ensure!(
			(pot.is_zero() || pot >= least)
				&& allocations.iter().all(|(_, amount)| *amount >= least),
			Error::<T>::AllocationTooSmall
		);
		let deposited = allocations
			.iter()
			.try_fold(pot, |sum, (_, amount)| sum.checked_add(amount))
			.ok_or(Error::<T>::Overflow)?;
		let id = NextChannel::<T>::mutate(|next| {
			let id = *next;
			*next += 1;
			id
		});
		ChannelsOf::<T>::try_append(&owner, id).map_err(|_| Error::<T>::TooManyChannels)?;
		T::Currency::hold(&HoldReason::Channel.into(), &owner, deposited)?;
		Self::wait_for_draw(Draw::Seed(id))?;
		let allotment = |amount| Allotment {
			amount,
			claimed: Zero::zero(),
			lowering: None,
		};
		let allocations = allocations
			.into_iter()
			.map(|(payee, amount)| Allocation {
				payee,
				allotment: allotment(amount),
				releases: 0,
			})
			.collect();
		Channels::<T>::insert(
			id,
			Channel {
				owner: owner.clone(),
				key,
				chain,
				seed: None,
				closes_at: None,
				withdrawn: false,
				pot: allotment(pot),
				allocations: List::truncate_from(allocations),
				checkers: 0,
				claims: 0,
				deposited,
				pending: Zero::zero(),
				paid: Zero::zero(),
				refunded: Zero::zero(),
			},
		);
		Self::deposit_event(Event::ChannelOpened {
			channel: id,
			owner,
			deposit: deposited,
		});
		Ok(id)
	}

	fn owned(owner: &T::AccountId, id: ChannelId) -> Result<ChannelOf<T>, DispatchError> {
		let channel = Channels::<T>::get(id).ok_or(Error::<T>::UnknownChannel)?;
		ensure!(channel.owner == *owner, Error::<T>::NotOwner);
		Ok(channel)
	}

	/// Has lowerings whose notice is over take effect. Returns what is to be returned.
	fn mature(channel: &mut ChannelOf<T>, now: BlockNumberFor<T>) -> BalanceOf<T> {
		let mut sum = BalanceOf::<T>::zero();
		for allotment in allotments_mut::<T>(channel) {
			let left = limit::<T>(allotment, now);
			sum.saturating_accrue(allotment.amount.saturating_sub(left));
			allotment.amount = left;
			allotment.lowering = allotment.lowering.filter(|lowering| lowering.at > now);
		}
		sum
	}

	/// Returns money of a channel to its owner.
	pub(crate) fn give_back(
		id: ChannelId,
		channel: &mut ChannelOf<T>,
		amount: BalanceOf<T>,
	) -> DispatchResult {
		if amount.is_zero() {
			return Ok(());
		}
		let reason = HoldReason::Channel.into();
		T::Currency::release(&reason, &channel.owner, amount, Precision::Exact)?;
		channel.refunded.saturating_accrue(amount);
		Self::deposit_event(Event::Returned {
			channel: id,
			amount,
		});
		Ok(())
	}

	/// The same with what is lowered and whose notice is over.
	pub(crate) fn give_back_lowered(
		id: ChannelId,
		channel: &mut ChannelOf<T>,
		now: BlockNumberFor<T>,
	) -> DispatchResult {
		let lowered = Self::mature(channel, now);
		Self::give_back(id, channel, lowered)
	}

	pub(crate) fn do_raise(
		owner: T::AccountId,
		id: ChannelId,
		part: Part<T::AccountId>,
		amount: BalanceOf<T>,
	) -> DispatchResult {
		let mut channel = Self::owned(&owner, id)?;
		ensure!(channel.closes_at.is_none(), Error::<T>::Closing);
		ensure!(!amount.is_zero(), Error::<T>::NothingToChange);
		let now = frame_system::Pallet::<T>::block_number();
		Self::give_back_lowered(id, &mut channel, now)?;
		T::Currency::hold(&HoldReason::Channel.into(), &owner, amount)?;
		channel.deposited = channel
			.deposited
			.checked_add(&amount)
			.ok_or(Error::<T>::Overflow)?;
		if let (Part::Payee(payee), None) = (&part, channel.allotment_mut(&part)) {
			let allocation = Allocation {
				payee: payee.clone(),
				allotment: Allotment::default(),
				releases: 0,
			};
			let added = channel.allocations.try_push(allocation);
			added.map_err(|_| Error::<T>::TooManyPayees)?;
		}
		let allotment = channel
			.allotment_mut(&part)
			.ok_or(Error::<T>::NothingToChange)?;
		allotment.amount = allotment
			.amount
			.checked_add(&amount)
			.ok_or(Error::<T>::Overflow)?;
		let whole = allotment.amount;
		ensure!(
			unclaimed::<T>(allotment) >= T::MinAllocation::get(),
			Error::<T>::AllocationTooSmall
		);
		Channels::<T>::insert(id, channel);
		Self::deposit_event(Event::Raised {
			channel: id,
			part,
			amount: whole,
		});
		Ok(())
	}

	pub(crate) fn do_lower(
		owner: T::AccountId,
		id: ChannelId,
		part: Part<T::AccountId>,
		by: BalanceOf<T>,
		release: Option<Signed<Release<T::AccountId, BalanceOf<T>>>>,
	) -> DispatchResult {
		let mut channel = Self::owned(&owner, id)?;
		let now = frame_system::Pallet::<T>::block_number();
		if let Some(release) = release {
			return Self::release(id, channel, part, release);
		}
		ensure!(channel.closes_at.is_none(), Error::<T>::Closing);
		Self::give_back_lowered(id, &mut channel, now)?;
		let at = now.saturating_add(T::Notice::get());
		let allotment = channel
			.allotment_mut(&part)
			.ok_or(Error::<T>::NothingToChange)?;
		let announced = allotment.lowering.map_or(Zero::zero(), |l| l.by);
		let whole = announced.saturating_add(by).min(unclaimed::<T>(allotment));
		ensure!(whole > announced, Error::<T>::NothingToChange);
		allotment.lowering = Some(Lowering { by: whole, at });
		Channels::<T>::insert(id, channel);
		Self::deposit_event(Event::LoweringAnnounced {
			channel: id,
			part,
			by: whole,
			at,
		});
		Ok(())
	}

	/// Lowers an allotment at once, with its payee's leave.
	fn release(
		id: ChannelId,
		mut channel: ChannelOf<T>,
		part: Part<T::AccountId>,
		release: Signed<Release<T::AccountId, BalanceOf<T>>>,
	) -> DispatchResult {
		let Part::Payee(payee) = part else {
			return Err(Error::<T>::BadRelease.into());
		};
		let leave = &release.body;
		let allocation = channel
			.allocations
			.iter_mut()
			.find(|a| a.payee == payee)
			.ok_or(Error::<T>::NothingToChange)?;
		ensure!(
			leave.channel == id
				&& leave.payee == payee
				&& leave.releases == allocation.releases
				&& Self::is_certified(&payee, leave.session, |key| {
					release.verify(&Self::genesis(), key)
				}),
			Error::<T>::BadRelease
		);
		let allotment = &mut allocation.allotment;
		ensure!(
			leave.amount >= allotment.claimed && leave.amount < allotment.amount,
			Error::<T>::NothingToChange
		);
		let less = allotment.amount.saturating_sub(leave.amount);
		allotment.amount = leave.amount;
		// What was to be taken back beside it can be no more than is left.
		let left = unclaimed::<T>(allotment);
		allotment.lowering = allotment
			.lowering
			.map(|l| Lowering {
				by: l.by.min(left),
				..l
			})
			.filter(|l| !l.by.is_zero());
		allocation.releases.saturating_inc();
		Self::give_back(id, &mut channel, less)?;
		Channels::<T>::insert(id, channel);
		Self::deposit_event(Event::Released {
			channel: id,
			payee,
			amount: leave.amount,
		});
		Ok(())
	}

	pub(crate) fn do_close(owner: T::AccountId, id: ChannelId) -> DispatchResult {
		let mut channel = Self::owned(&owner, id)?;
		ensure!(channel.closes_at.is_none(), Error::<T>::Closing);
		let at = frame_system::Pallet::<T>::block_number().saturating_add(T::Notice::get());
		channel.closes_at = Some(at);
		Channels::<T>::insert(id, channel);
		Self::deposit_event(Event::ChannelClosing { channel: id, at });
		Ok(())
	}

	/// Returns what is due of a channel to its owner. Gives how many checkers were forgotten with it.
	pub(crate) fn do_withdraw(id: ChannelId) -> Result<u32, DispatchError> {
		let mut channel = Channels::<T>::get(id).ok_or(Error::<T>::UnknownChannel)?;
		let now = frame_system::Pallet::<T>::block_number();
		let closed = channel.closes_at.is_some_and(|at| at <= now);
		ensure!(!channel.withdrawn, Error::<T>::NothingToWithdraw);
		let mut back = Self::mature(&mut channel, now);
		let mut forgotten = 0;
		if closed {
			for allotment in allotments_mut::<T>(&mut channel) {
				back.saturating_accrue(unclaimed::<T>(allotment));
				allotment.amount = allotment.claimed;
				allotment.lowering = None;
			}
			// Nothing can be claimed any more: it is of no account who has claimed how much.
			forgotten = Checked::<T>::drain_prefix(id).count() as u32;
			channel.checkers = 0;
			channel.withdrawn = true;
		}
		ensure!(closed || !back.is_zero(), Error::<T>::NothingToWithdraw);
		Self::give_back(id, &mut channel, back)?;
		Self::keep(id, channel);
		Ok(forgotten)
	}

	/// Stores a channel, or removes it where everything in it is paid or returned.
	pub(crate) fn keep(id: ChannelId, channel: ChannelOf<T>) {
		if !channel.withdrawn || channel.claims > 0 {
			Channels::<T>::insert(id, channel);
			return;
		}
		Channels::<T>::remove(id);
		ChannelsOf::<T>::mutate_exists(&channel.owner, |list| {
			if let Some(channels) = list {
				channels.retain(|other| *other != id);
				if channels.is_empty() {
					*list = None;
				}
			}
		});
		Self::deposit_event(Event::ChannelRemoved { channel: id });
	}
}
