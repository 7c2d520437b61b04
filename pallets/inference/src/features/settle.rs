//! Payment and refund. Every unit of an escrow is either paid or returned.

use alloc::vec::Vec;
use consilience_primitives::{
	model::Price, request::Output, view::RequestState, ModelId, RequestId,
};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::traits::{
		fungible::{Inspect, Mutate, MutateHold},
		tokens::{Fortitude, Precision, Preservation, Restriction},
	},
	frame_system,
	sp_runtime::traits::{Get, Saturating, Zero},
};

use crate::{
	features::draw::draw_blocks, BalanceOf, Config, Event, HoldReason, Juries, Open, OpenOf,
	Pallet, Parameters, ParametersOf, ProtocolParameters, RequestOf, Requests, Rounds,
};

/// Who is paid out of an escrow.
pub(crate) struct Payees<AccountId> {
	/// The executor, if its work was good.
	pub(crate) executor: Option<AccountId>,
	/// Verifiers whose work was good.
	pub(crate) verifiers: Vec<AccountId>,
	/// Jurors whose work was good, where the case pays them.
	pub(crate) jurors: Vec<AccountId>,
}

impl<T: Config> Pallet<T> {
	/// The model's price of so many output units.
	fn price_of(request: &RequestOf<T>, output_units: u32) -> BalanceOf<T> {
		// The escrow covers the longest answer, and longer ones are refused.
		request
			.price
			.of(request.input_units, output_units)
			.unwrap_or(request.escrow)
	}

	/// What each verifier is paid: a part of the price, and never less than a measurement is worth.
	pub(crate) fn verifier_pay(
		parameters: &ParametersOf<T>,
		price: BalanceOf<T>,
		units: u32,
	) -> BalanceOf<T> {
		parameters
			.verifier_share
			.mul_floor(price)
			.max(parameters.measurement.of(units))
	}

	/// What a check of an answer of the model costs by the unit, so that nothing costs less than [`Self::verifier_pay`].
	pub fn check_price(model: ModelId) -> Option<Price<BalanceOf<T>>> {
		let price = Models::<T>::get(model)?.price;
		let ProtocolParameters {
			verifier_share,
			measurement,
			..
		} = Parameters::<T>::get();
		let part = |of: BalanceOf<T>| verifier_share.mul_ceil(of);
		Some(Price {
			per_request: part(price.per_request).max(measurement.base),
			per_input_unit: part(price.per_input_unit).max(measurement.per_unit),
			per_output_unit: part(price.per_output_unit).max(measurement.per_unit),
		})
	}

	/// Pays those named, the treasury and the jury fund out of the escrow, and returns the rest. A jury is paid by its case: the premium, and
	/// what members who did not do their part would have got.
	pub(crate) fn settle(
		id: RequestId,
		request: &mut RequestOf<T>,
		output: &Output,
		payees: Payees<T::AccountId>,
	) {
		let parameters = Parameters::<T>::get();
		let units = request.input_units.saturating_add(output.units());
		let price = Self::price_of(request, output.units());
		let each = Self::verifier_pay(&parameters, price, units);
		let to_treasury = parameters.treasury_share.mul_floor(price);
		if let Some(executor) = &payees.executor {
			let amount = price
				.saturating_sub(to_treasury)
				.saturating_add(request.tip);
			Self::pay(id, request, executor, amount);
		}
		Self::pay(id, request, &T::Treasury::get(), to_treasury);
		for verifier in &payees.verifiers {
			Self::pay(id, request, verifier, each);
		}
		// What the case has for whoever judged it. An executor that is not paid leaves its price.
		let mut pot = request.premium;
		if payees.executor.is_none() {
			pot.saturating_accrue(price.saturating_sub(to_treasury));
		}
		if !payees.jurors.is_empty() {
			let unpaid = u32::from(request.verifiers).saturating_sub(payees.verifiers.len() as u32);
			pot.saturating_accrue(each.saturating_mul(unpaid.into()));
			let worth = parameters
				.measurement
				.of(units)
				.min(pot / (payees.jurors.len() as u32).into());
			for juror in &payees.jurors {
				let paid = Self::pay(id, request, juror, worth);
				pot.saturating_reduce(paid);
			}
		}
		Self::pay(id, request, &T::JuryFund::get(), pot);
		Self::burn_surcharge(id, request);
		if request.verifiers > 0 {
			let measured = payees.executor.iter().chain(&payees.verifiers);
			let measured = measured.chain(&payees.jurors);
			pallet_model_registry::Pallet::<T>::proven(request.model, measured);
		}
		let state = match output {
			Output::Unanswerable(_) => RequestState::Unanswerable,
			Output::Text { .. } | Output::Tensors(_) => RequestState::Final,
		};
		let (executor, paid) = (request.executor.clone(), request.paid);
		let refunded = Self::close(id, request, state);
		Self::queue_audit(id, request);
		match (executor, output) {
			(Some(executor), Output::Unanswerable(code)) => {
				Self::deposit_event(Event::RequestUnanswerable {
					request: id,
					code: *code,
					executor,
					verifiers: payees.verifiers,
					jurors: payees.jurors,
					paid,
					refunded,
				})
			}
			(Some(executor), _) => Self::deposit_event(Event::RequestFinal {
				request: id,
				executor,
				verifiers: payees.verifiers,
				jurors: payees.jurors,
				paid,
				refunded,
			}),
			(None, _) => (),
		}
	}

	/// Has chance decide, much later, whether a settled answer is measured again.
	fn queue_audit(id: RequestId, request: &mut RequestOf<T>) {
		// Where a jury has measured, nothing more can be found.
		if request.verifiers == 0 || Juries::<T>::contains_key(id) {
			return;
		}
		let now = frame_system::Pallet::<T>::block_number();
		let from = now.saturating_add(T::AuditDelay::get());
		Self::queue_draw(id, request, from, draw_blocks(0, T::DrawOdds::get()));
		Requests::<T>::insert(id, &*request);
	}

	/// Pays out of the escrow, as far as it goes. Gives what arrived: nothing where the receiver's account cannot be, because the
	/// amount is below the existential deposit.
	fn pay(
		id: RequestId,
		request: &mut RequestOf<T>,
		who: &T::AccountId,
		amount: BalanceOf<T>,
	) -> BalanceOf<T> {
		let amount = amount.min(request.escrow.saturating_sub(request.paid));
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
				request.paid.saturating_accrue(paid);
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

	/// Burns the surcharge, as far as the escrow goes: nobody gains where the network is full, or seems so.
	pub(crate) fn burn_surcharge(id: RequestId, request: &mut RequestOf<T>) {
		let left = request.escrow.saturating_sub(request.paid);
		let amount = request.surcharge.min(left);
		request.surcharge = Zero::zero();
		if amount.is_zero() {
			return;
		}
		let burned = T::Currency::burn_held(
			&HoldReason::Escrow.into(),
			&request.requester,
			amount,
			Precision::BestEffort,
			Fortitude::Force,
		);
		match burned {
			Ok(amount) => {
				request.paid.saturating_accrue(amount);
				request.surcharge = amount;
				Self::deposit_event(Event::SurchargeBurned {
					request: id,
					amount,
				});
			}
			Err(e) => {
				log::error!(target: crate::LOG_TARGET, "request {id}: surcharge not burned: {e:?}")
			}
		}
	}

	/// Pays what a measurement is worth to each of these out of the jury fund, while it has so much.
	pub(crate) fn pay_measurements(
		id: RequestId,
		request: &RequestOf<T>,
		output_units: u32,
		who: &[T::AccountId],
	) {
		let units = request.input_units.saturating_add(output_units);
		let each = Parameters::<T>::get().measurement.of(units);
		for member in who {
			Self::from_fund(id, member, each);
		}
	}

	/// Pays a measurement out of the jury fund, as far as it goes.
	fn from_fund(id: RequestId, who: &T::AccountId, amount: BalanceOf<T>) {
		let amount = Self::transfer_from_fund(id, who, amount);
		if !amount.is_zero() {
			Self::deposit_event(Event::MeasurementPaid {
				request: id,
				who: who.clone(),
				amount,
			});
		}
	}

	/// Pays out of the jury fund, as far as it goes. Returns what arrived.
	pub(crate) fn transfer_from_fund(
		id: RequestId,
		who: &T::AccountId,
		amount: BalanceOf<T>,
	) -> BalanceOf<T> {
		let fund = T::JuryFund::get();
		let there =
			T::Currency::reducible_balance(&fund, Preservation::Preserve, Fortitude::Polite);
		let amount = amount.min(there);
		if amount.is_zero() {
			return amount;
		}
		T::Currency::transfer(&fund, who, amount, Preservation::Preserve).unwrap_or_else(|e| {
			log::warn!(target: crate::LOG_TARGET, "request {id}: the fund has not paid: {e:?}");
			Zero::zero()
		})
	}

	/// Ends a request: returns what is left of the escrow, the surcharge too where it was not burned, frees its validators, and has it
	/// forgotten later. Gives what was returned.
	pub(crate) fn close(
		id: RequestId,
		request: &mut RequestOf<T>,
		state: RequestState,
	) -> BalanceOf<T> {
		if matches!(state, RequestState::Expired | RequestState::Rejected) {
			request.surcharge = Zero::zero();
		}
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
		request.draw = None;
		let reserved = request.reserved;
		Self::unreserve(request, reserved);
		request.settled_at = Some(frame_system::Pallet::<T>::block_number());
		if let Some(executor) = &request.executor {
			Self::unassign(executor, id);
		}
		if let Some(round) = Rounds::<T>::get(id) {
			let members = round.members.iter();
			members.for_each(|m| Self::unassign(&m.who, id));
		}
		Open::<T>::mutate(|n| *n = n.saturating_sub(1));
		if !request.course.unchecked {
			Self::unburden(request);
		}
		OpenOf::<T>::mutate_exists(&request.requester, |open| {
			*open = open
				.take()
				.and_then(|n| n.checked_sub(1))
				.filter(|n| *n > 0);
		});
		Requests::<T>::insert(id, &*request);
		if request.callback {
			Self::queue_callback(id);
		}
		Self::queue_prune(id);
		request.refunded
	}
}
