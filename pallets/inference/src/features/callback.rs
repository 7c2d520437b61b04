//! Requests by other pallets, and how those hear of the end.
//!
//! A pallet asks through [`RequestInference`], remembers the number, and is told once, in a later block than the one that
//! settled the request, through [`OnSettled`]. Callbacks run in `on_idle` with the weight that they declare; one that fails is
//! recorded in an event and undoes nothing.
//!
//! The queue is bounded: such a request is taken only while open requests and waiting callbacks together are fewer than
//! [`Config::MaxOpen`]. Beyond that it holds answers that were overturned, of which each took a jury.

use alloc::vec::Vec;
use consilience_primitives::{
	request::{Assurance, Input, Output, Unanswerable},
	view::{QuoteError, RequestState},
	ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::{DispatchResult, Weight},
		storage::with_storage_layer,
		traits::tokens::Balance,
		weights::WeightMeter,
	},
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::{traits::Get, DispatchError},
};

use crate::{
	types::change, BalanceOf, Callbacks, Config, Elsewhere, Ended, EndedRange, Error, Event, Open,
	Outputs, Pallet, Requests, WeightInfo,
};

/// Something that was measured and is final. Only this pallet makes one, so that a provisional answer cannot pass for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final<T>(T);

impl<T> Final<T> {
	/// What is final.
	pub fn get(&self) -> &T {
		&self.0
	}

	/// What is final.
	pub fn into_inner(self) -> T {
		self.0
	}

	/// Takes a value for final that nobody measured: for tests of pallets that ask. The runtime of a chain is built without `std` and has no
	/// such function.
	#[cfg(feature = "std")]
	pub fn untested(value: T) -> Self {
		Self(value)
	}
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
	/// With an answer that was checked.
	Final(Final<Output>),
	/// It is certain that no honest machine can answer the input.
	Unanswerable(Unanswerable),
	/// Without one: the escrow went back to the requester. Rejected, expired or cancelled.
	Refunded(RequestState),
	/// With an answer that was final and was found false later, or that was given elsewhere and is false. The first may have been told
	/// before as [`Settled::Final`], and need not have been.
	Overturned,
	/// An answer that was given elsewhere was measured, or looked at again, and stays.
	Stands,
}

/// Asks for inferences on behalf of an account of the caller's.
pub trait RequestInference<AccountId> {
	/// The currency's balance.
	type Balance: Balance;

	/// Takes a request as [`crate::Call::request`] does, and has [`OnSettled`] called when it ends.
	///
	/// `requester` pays. Errors are those of the call, and `TooManyOpen` while too many callbacks wait.
	fn request_inference(
		requester: AccountId,
		model: ModelId,
		input: Input,
		assurance: Assurance,
		fee_limit: Self::Balance,
		tip: Self::Balance,
	) -> Result<RequestId, DispatchError>;

	/// The least fee limit with which such a request is taken, tip not counted, or why it would be refused.
	fn quote_inference(
		model: ModelId,
		input: Input,
		assurance: Assurance,
	) -> Result<Self::Balance, QuoteError>;

	/// What [`RequestInference::request_inference`] weighs for an input that takes so many bytes in SCALE. The caller adds it to the weight of
	/// its own call.
	fn request_inference_weight(bytes: u32) -> Weight;
}

/// Is told how a request of another pallet ended. Pairs can be nested; each is told of every such request and passes over those
/// that are not its own.
pub trait OnSettled<AccountId> {
	/// Called once for a request, and once more if its answer is overturned after that. An error undoes what the callback did, and nothing
	/// else.
	fn on_settled(request: RequestId, requester: &AccountId, settled: &Settled) -> DispatchResult;

	/// Most that [`OnSettled::on_settled`] weighs.
	fn on_settled_weight() -> Weight;
}

impl<AccountId> OnSettled<AccountId> for () {
	fn on_settled(_: RequestId, _: &AccountId, _: &Settled) -> DispatchResult {
		Ok(())
	}

	fn on_settled_weight() -> Weight {
		Weight::zero()
	}
}

impl<AccountId, A: OnSettled<AccountId>, B: OnSettled<AccountId>> OnSettled<AccountId> for (A, B) {
	fn on_settled(request: RequestId, requester: &AccountId, settled: &Settled) -> DispatchResult {
		// Each in a layer of its own: one that fails does not undo the other.
		let first = with_storage_layer(|| A::on_settled(request, requester, settled));
		let second = with_storage_layer(|| B::on_settled(request, requester, settled));
		first.and(second)
	}

	fn on_settled_weight() -> Weight {
		A::on_settled_weight().saturating_add(B::on_settled_weight())
	}
}

impl<T: Config> RequestInference<T::AccountId> for Pallet<T> {
	type Balance = BalanceOf<T>;

	fn request_inference(
		requester: T::AccountId,
		model: ModelId,
		input: Input,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
	) -> Result<RequestId, DispatchError> {
		let waiting = Callbacks::<T>::decode_len().unwrap_or_default() as u32;
		ensure!(
			Open::<T>::get().saturating_add(waiting) < T::MaxOpen::get(),
			Error::<T>::TooManyOpen
		);
		Self::submit(
			requester,
			model,
			input.into(),
			assurance,
			fee_limit,
			tip,
			true,
		)
	}

	fn quote_inference(
		model: ModelId,
		input: Input,
		assurance: Assurance,
	) -> Result<BalanceOf<T>, QuoteError> {
		Self::quote(model, &input.into(), assurance).map(|quote| quote.fee)
	}

	fn request_inference_weight(bytes: u32) -> Weight {
		// And the length of the queue.
		<T as Config>::WeightInfo::request(bytes).saturating_add(T::DbWeight::get().reads(1))
	}
}

impl<T: Config> Pallet<T> {
	/// Has the requesting pallet told of a settled request.
	pub(crate) fn queue_callback(id: RequestId) {
		// A place was kept for it, unless answers that were overturned have taken it.
		if Callbacks::<T>::try_append(id).is_err() {
			Self::queue_callback_again(id);
		}
	}

	/// The same for an answer that was overturned, for which no place was kept. If it has not been told as final yet, it never is.
	pub(crate) fn queue_callback_again(id: RequestId) {
		Callbacks::<T>::mutate(|queue| {
			if !queue.contains(&id) {
				change(queue, "Callbacks", |all| all.push(id));
			}
		});
	}

	/// Runs callbacks of requests that were settled in earlier blocks, the oldest first, as far as the weight goes. Gives what was
	/// used.
	pub(crate) fn process_callbacks(now: BlockNumberFor<T>, limit: Weight) -> Weight {
		let mut meter = WeightMeter::with_limit(limit);
		if meter
			.try_consume(<T as Config>::WeightInfo::hooks())
			.is_err()
		{
			return Weight::zero();
		}
		let each = <T as Config>::WeightInfo::call_back()
			.saturating_add(T::OnSettled::on_settled_weight());
		let mut looked_at = 0;
		let mut waiting = Vec::new();
		let mut full = false;
		for id in Callbacks::<T>::get() {
			let request = Requests::<T>::get(id);
			if request.as_ref().is_some_and(|r| r.settled_at >= Some(now)) {
				break;
			}
			// It was settled, and somebody appealed or contests since: its end is not known. Others do not wait for that.
			let disputed = request
				.as_ref()
				.is_some_and(|r| r.state == RequestState::Disputed);
			let weight = if disputed {
				T::DbWeight::get().reads(1)
			} else {
				each
			};
			full = meter.try_consume(weight).is_err();
			if full {
				break;
			}
			looked_at += 1;
			if disputed {
				waiting.push(id);
				continue;
			}
			// A request is not forgotten while its callback waits.
			let Some(request) = request else { continue };
			let settled = match (request.state, Outputs::<T>::get(id)) {
				(RequestState::Final, Some(output)) => Settled::Final(Final(output)),
				(RequestState::Unanswerable, Some(Output::Unanswerable(code))) => {
					Settled::Unanswerable(code)
				}
				(RequestState::Overturned, _) => Settled::Overturned,
				(state, _) => Settled::Refunded(state),
			};
			let result =
				with_storage_layer(|| T::OnSettled::on_settled(id, &request.requester, &settled));
			Self::deposit_event(match result {
				Ok(()) => Event::CalledBack { request: id },
				Err(error) => Event::CallbackFailed { request: id, error },
			});
		}
		if looked_at > waiting.len() {
			Callbacks::<T>::mutate(|queue| {
				change(queue, "Callbacks", |all| {
					// What a callback itself has had queued stands behind these.
					all.splice(..looked_at, waiting).for_each(drop)
				})
			});
		}
		if !full {
			Self::tell_elsewhere(&mut meter, each);
		}
		meter.consumed()
	}

	/// Tells how answers that were given elsewhere ended, the oldest first, as far as the weight goes.
	fn tell_elsewhere(meter: &mut WeightMeter, each: Weight) {
		let (first, end) = EndedRange::<T>::get();
		let mut place = first;
		while place < end && meter.try_consume(each).is_ok() {
			let id = Ended::<T>::take(place);
			place += 1;
			let Some((id, request)) = id.and_then(|id| Some((id, Requests::<T>::get(id)?))) else {
				continue;
			};
			let settled = match request.state {
				// It is being looked at again, and the end of that is told.
				RequestState::Disputed => None,
				RequestState::Overturned => Some(Settled::Overturned),
				_ => Some(Settled::Stands),
			};
			Elsewhere::<T>::mutate(id, |outside| {
				if let Some(outside) = outside {
					outside.queued = false;
					outside.told = settled.is_some();
				}
			});
			let Some(settled) = settled else { continue };
			let result =
				with_storage_layer(|| T::OnSettled::on_settled(id, &request.requester, &settled));
			Self::deposit_event(match result {
				Ok(()) => Event::CalledBack { request: id },
				Err(error) => Event::CallbackFailed { request: id, error },
			});
		}
		if place > first {
			EndedRange::<T>::put((place, end));
		}
	}
}
