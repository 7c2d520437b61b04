//! Payment and refund. Every unit of an escrow is either paid or returned.

use alloc::vec::Vec;
use consilience_primitives::{request::Output, view::RequestState, RequestId};
use polkadot_sdk::{
	frame_support::traits::{
		fungible::MutateHold,
		tokens::{Fortitude, Precision, Restriction},
	},
	frame_system,
	sp_runtime::traits::{Get, Saturating, Zero},
};

use crate::{
	BalanceOf, Config, Event, HoldReason, Juries, Open, OpenOf, Pallet, Parameters, PendingDraws,
	RequestOf, Requests, Rounds,
};

/// Who is paid out of an escrow.
pub(crate) struct Payees<AccountId> {
	/// The executor, if its work was good.
	pub(crate) executor: Option<AccountId>,
	/// Verifiers whose work was good.
	pub(crate) verifiers: Vec<AccountId>,
	/// Verifiers that the verifiers' share is divided among.
	pub(crate) shares: u32,
	/// Jurors whose work was good.
	pub(crate) jurors: Vec<AccountId>,
}

impl<T: Config> Pallet<T> {
	/// What the answer costs, tip included.
	pub(crate) fn cost(request: &RequestOf<T>, output: &Output) -> BalanceOf<T> {
		// The escrow covers the longest answer, and longer ones are refused.
		request
			.price
			.of(request.input_units, output.units())
			.map(|p| p.saturating_add(request.tip))
			.unwrap_or(request.escrow)
			.min(request.escrow)
	}

	/// Pays those named and the treasury out of the escrow, and returns the rest. Without verifiers their share is returned too:
	/// nobody checked. What a jury is paid comes out of what would else be the treasury's.
	pub(crate) fn settle(
		id: RequestId,
		request: &mut RequestOf<T>,
		output: &Output,
		payees: Payees<T::AccountId>,
	) {
		let parameters = Parameters::<T>::get();
		let whole = Self::cost(request, output);
		let share = parameters.verifier_share.mul_floor(whole);
		let cost = match payees.shares {
			0 => whole.saturating_sub(share),
			_ => whole,
		};
		let each = share / payees.shares.max(1).into();
		let mut paid = BalanceOf::<T>::zero();
		if let Some(executor) = &payees.executor {
			let amount = parameters.executor_share.mul_floor(whole);
			paid.saturating_accrue(Self::pay(id, request, executor, amount));
		}
		for verifier in &payees.verifiers {
			paid.saturating_accrue(Self::pay(id, request, verifier, each));
		}
		let each = cost.saturating_sub(paid) / (payees.jurors.len() as u32).max(1).into();
		for juror in &payees.jurors {
			paid.saturating_accrue(Self::pay(id, request, juror, each));
		}
		// What could not be paid out, and what division left over, is the treasury's.
		let rest = cost.saturating_sub(paid);
		paid.saturating_accrue(Self::pay(id, request, &T::Treasury::get(), rest));
		request.paid = paid;
		let executor = request.executor.clone();
		let refunded = Self::close(id, request, RequestState::Final);
		if let Some(executor) = executor {
			Self::deposit_event(Event::RequestFinal {
				request: id,
				executor,
				verifiers: payees.verifiers,
				jurors: payees.jurors,
				paid,
				refunded,
			});
		}
	}

	/// Pays out of the escrow. Gives what arrived: nothing where the receiver's account cannot be, because the amount is below
	/// the existential deposit.
	fn pay(
		id: RequestId,
		request: &RequestOf<T>,
		who: &T::AccountId,
		amount: BalanceOf<T>,
	) -> BalanceOf<T> {
		if amount.is_zero() {
			return amount;
		}
		let paid = T::Currency::transfer_on_hold(
			&HoldReason::Escrow.into(),
			&request.requester,
			who,
			amount,
			Precision::Exact,
			Restriction::Free,
			Fortitude::Force,
		);
		match paid {
			Ok(paid) => {
				Self::deposit_event(Event::Paid {
					request: id,
					who: who.clone(),
					amount: paid,
				});
				paid
			}
			Err(e) => {
				log::warn!(target: crate::LOG_TARGET, "request {id}: {amount:?} not paid: {e:?}");
				Zero::zero()
			}
		}
	}

	/// Ends a request: returns what is left of the escrow, frees its validators, and has it forgotten later. Gives what was
	/// returned.
	pub(crate) fn close(
		id: RequestId,
		request: &mut RequestOf<T>,
		state: RequestState,
	) -> BalanceOf<T> {
		let left = request.escrow.saturating_sub(request.paid);
		let released = T::Currency::release(
			&HoldReason::Escrow.into(),
			&request.requester,
			left,
			Precision::BestEffort,
		);
		request.refunded = released.unwrap_or_else(|e| {
			log::error!(target: crate::LOG_TARGET, "request {id}: escrow not returned: {e:?}");
			Zero::zero()
		});
		request.state = state;
		request.settled_at = Some(frame_system::Pallet::<T>::block_number());
		if let Some(executor) = &request.executor {
			Self::unassign(executor, id);
		}
		let jury = Juries::<T>::get(id).and_then(|j| j.round);
		for round in Rounds::<T>::get(id).into_iter().chain(jury) {
			round
				.members
				.iter()
				.for_each(|m| Self::unassign(&m.who, id));
		}
		Self::unschedule(id, request.deadline);
		PendingDraws::<T>::mutate(|list| list.retain(|e| e.request != id));
		Open::<T>::mutate(|n| *n = n.saturating_sub(1));
		OpenOf::<T>::mutate_exists(&request.requester, |n| {
			*n = n.and_then(|n| n.checked_sub(1)).filter(|n| *n > 0);
		});
		pallet_model_registry::Pallet::<T>::request_closed(request.model);
		Requests::<T>::insert(id, &*request);
		if request.callback {
			Self::queue_callback(id);
		}
		Self::queue_prune(id);
		request.refunded
	}
}
