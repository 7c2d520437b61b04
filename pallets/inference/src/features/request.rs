//! Taking and cancelling requests: bad input is refused here, with a reason and nothing charged.

use alloc::vec::Vec;
use consilience_primitives::{
	model::ModelStatus,
	request::{Assurance, Input, InputError, StoredInput},
	tensor::{IndexedTensors, TensorHeader, MAX_DATA, MAX_TENSORS},
	view::{Quote, QuoteError, RequestState, Wait},
	Bytes, List, ModelId, RequestId,
};
use pallet_model_registry::{ModelDetails, Models};
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::{DispatchResult, Weight},
		traits::fungible::MutateHold,
	},
	frame_system, sp_io,
	sp_runtime::{
		traits::{CheckedAdd, CheckedMul, Get, One, Saturating, Zero},
		DispatchError,
	},
};

use crate::{
	features::load::Capacity, BalanceOf, Config, Course, Error, Event, HoldReason, Inputs,
	LastData, NextRequest, Open, OpenOf, Pallet, Parameters, ParametersOf, Request, Requests,
	WeightInfo,
};

impl<T: Config> From<QuoteError> for Error<T> {
	fn from(e: QuoteError) -> Self {
		match e {
			QuoteError::UnknownModel => Self::UnknownModel,
			QuoteError::ModelNotActive => Self::ModelNotActive,
			QuoteError::BadAssurance => Self::BadAssurance,
			QuoteError::Overflow => Self::PriceOverflow,
			QuoteError::TooFewServe => Self::TooFewServe,
			QuoteError::NoCapacity { .. } => Self::NoCapacity,
			QuoteError::Input(e) => match e {
				InputError::WrongTask => Self::WrongTask,
				InputError::NotUtf8 => Self::NotUtf8,
				InputError::Empty => Self::EmptyInput,
				InputError::InputTooLarge => Self::InputTooLarge,
				InputError::ZeroTokens => Self::ZeroTokens,
				InputError::OutputTooLarge => Self::OutputTooLarge,
				InputError::BadSampling => Self::BadSampling,
				InputError::SignatureMismatch => Self::SignatureMismatch,
				InputError::MalformedTensor => Self::MalformedTensor,
				InputError::NoChat => Self::NoChat,
				InputError::BadConstraint => Self::BadConstraint,
			},
		}
	}
}

/// What a request comes to.
struct Quoted<T: Config> {
	model: ModelDetails<T::AccountId, BalanceOf<T>>,
	/// Verifiers of its round.
	verifiers: u8,
	/// Work of the longest answer, in thousandths of a block.
	work: u32,
	/// Work of executor and verifiers together on machines as they are.
	burden: u32,
	/// What it pays for juries.
	premium: BalanceOf<T>,
	/// What is burned of it because those who serve the model are more than half taken.
	surcharge: BalanceOf<T>,
	/// What must be held for the longest answer, tip not counted.
	whole: BalanceOf<T>,
	/// Part of the capacity that is taken, in thousandths.
	taken: u32,
	/// How long it is expected to take.
	wait: Wait,
}

impl<T: Config> Pallet<T> {
	/// What must be held at least for the longest answer and how long it is expected to take, or why the request would be refused.
	pub fn quote(
		model: ModelId,
		input: &StoredInput,
		assurance: Assurance,
	) -> Result<Quote<BalanceOf<T>>, QuoteError> {
		let quoted = Self::examine(None, model, input, assurance)?;
		Ok(Quote {
			fee: quoted.whole,
			surcharge: quoted.surcharge,
			taken: quoted.taken,
			wait: quoted.wait,
		})
	}

	/// What is burned, beside so much that a request costs, where what it takes of the capacity is beyond a half of all. Nothing where nobody
	/// has anything to do, who take any request.
	pub(crate) fn surcharge(
		parameters: &ParametersOf<T>,
		capacity: &Capacity,
		burden: u32,
		cost: BalanceOf<T>,
	) -> Option<BalanceOf<T>> {
		if capacity.taken == 0 {
			return Some(Zero::zero());
		}
		let part = capacity.crowding(burden.into()).mul_ceil(cost);
		let at_full = part.checked_mul(&parameters.surcharge_at_full.into())?;
		Some(at_full / 1_000u32.into())
	}

	fn examine(
		who: Option<&T::AccountId>,
		id: ModelId,
		input: &StoredInput,
		assurance: Assurance,
	) -> Result<Quoted<T>, QuoteError> {
		let model = Models::<T>::get(id).ok_or(QuoteError::UnknownModel)?;
		if model.status != ModelStatus::Active {
			return Err(QuoteError::ModelNotActive);
		}
		let spec = &model.spec;
		input.validate(spec).map_err(QuoteError::Input)?;
		if !assurance.is_admitted(spec.task, &spec.policy, T::MaxVerifiers::get()) {
			return Err(QuoteError::BadAssurance);
		}
		let mut verifiers = assurance.verifiers(&spec.policy);
		let roster = Self::roster();
		let serving = pallet_model_registry::Serving::<T>::get(id);
		let there: Vec<_> = serving
			.iter()
			.filter_map(|server| roster.index(&server.who))
			.collect();
		if roster.is_solo() {
			// Nobody is there to check: a developer's chain.
			verifiers = 0;
		} else if there.len() <= usize::from(verifiers) {
			return Err(QuoteError::TooFewServe);
		}
		let (units_in, units_out) = (input.units(), input.max_output_units(&spec.limits));
		let work = spec.time.work(units_out);
		let burden = Self::whole_work(&serving, work, verifiers);
		let capacity = Self::capacity(id, &there, roster.len());
		let wait = Self::expected_wait(
			&serving, &roster, work, verifiers, assurance, &spec.time, units_out,
		);
		if !Self::has_capacity(who, id, &capacity, burden) {
			let blocks = capacity.room_in(burden.into(), wait.blocks());
			return Err(QuoteError::NoCapacity { blocks });
		}
		let price = model
			.price
			.of(units_in, units_out)
			.ok_or(QuoteError::Overflow)?;
		let parameters = Parameters::<T>::get();
		let units = units_in.saturating_add(units_out);
		let checks = Self::verifier_pay(&parameters, price, units)
			.checked_mul(&u32::from(verifiers).into())
			.ok_or(QuoteError::Overflow)?;
		let premium = parameters
			.premium_share
			.mul_ceil(parameters.measurement.of(units));
		let cost = price
			.checked_add(&checks)
			.and_then(|sum| sum.checked_add(&premium))
			.ok_or(QuoteError::Overflow)?;
		let surcharge =
			Self::surcharge(&parameters, &capacity, burden, cost).ok_or(QuoteError::Overflow)?;
		// What is held at least, however cheap the model: open requests are not free.
		let whole = cost
			.max(T::MinEscrow::get())
			.checked_add(&surcharge)
			.ok_or(QuoteError::Overflow)?;
		Ok(Quoted {
			burden,
			model,
			verifiers,
			work,
			premium,
			surcharge,
			whole,
			taken: capacity.per_mille(),
			wait,
		})
	}

	/// Takes a request of `requester`, holds the fee limit, and has an executor drawn.
	pub fn do_request(
		requester: T::AccountId,
		model: ModelId,
		input: Input,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
	) -> Result<RequestId, DispatchError> {
		Self::submit(
			requester,
			model,
			input.into(),
			assurance,
			fee_limit,
			tip,
			false,
		)
	}

	/// What a request with so many bytes of data weighs.
	pub(crate) fn data_weight(bytes: u32) -> Weight {
		<T as Config>::WeightInfo::request_with_data(bytes)
			.saturating_add(crate::BYTE.saturating_mul(bytes.into()))
	}

	/// The same, about tensors whose data stays in the transaction: block bodies carry it, and state its hash.
	pub(crate) fn do_request_with_data(
		requester: T::AccountId,
		model: ModelId,
		tensors: List<TensorHeader, MAX_TENSORS>,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
		data: Bytes<MAX_DATA>,
	) -> DispatchResult {
		let hash = sp_io::hashing::blake2_256(&data);
		let input = IndexedTensors {
			tensors,
			data_hash: hash.into(),
		};
		input
			.validate(&data)
			.map_err(|_| Error::<T>::MalformedTensor)?;
		ensure!(!data.is_empty(), Error::<T>::EmptyInput);
		// The node keeps so many bytes of the transaction's end, of those that it is told of last, and does not look at them.
		let index = frame_system::Pallet::<T>::extrinsic_index().ok_or(Error::<T>::DataNotLast)?;
		let place = (frame_system::Pallet::<T>::block_number(), index);
		ensure!(LastData::<T>::get() != Some(place), Error::<T>::DataTwice);
		ensure!(
			frame_system::Pallet::<T>::extrinsic_data(index).ends_with(&data),
			Error::<T>::DataNotLast
		);
		let input = StoredInput::Indexed(input);
		Self::submit(requester, model, input, assurance, fee_limit, tip, false)?;
		LastData::<T>::put(place);
		sp_io::transaction_index::index(index, data.len() as u32, hash);
		Ok(())
	}

	/// The same, for a pallet that is to be told of the end (`callback`) or not.
	pub(crate) fn submit(
		requester: T::AccountId,
		model: ModelId,
		input: StoredInput,
		assurance: Assurance,
		fee_limit: BalanceOf<T>,
		tip: BalanceOf<T>,
		callback: bool,
	) -> Result<RequestId, DispatchError> {
		let quoted =
			Self::examine(Some(&requester), model, &input, assurance).map_err(Error::<T>::from)?;
		let Quoted {
			model: details,
			verifiers,
			work,
			burden,
			premium,
			surcharge,
			whole,
			..
		} = quoted;
		let worst = whole.checked_add(&tip).ok_or(Error::<T>::PriceOverflow)?;
		ensure!(fee_limit >= worst, Error::<T>::FeeLimitTooLow);
		ensure!(
			Open::<T>::get() < T::MaxOpen::get(),
			Error::<T>::TooManyOpen
		);
		ensure!(
			OpenOf::<T>::get(&requester) < T::MaxOpenPerAccount::get(),
			Error::<T>::TooManyOpenOfAccount
		);
		T::Currency::hold(&HoldReason::Escrow.into(), &requester, fee_limit)?;

		let now = frame_system::Pallet::<T>::block_number();
		let id = NextRequest::<T>::mutate(|next| {
			let id = *next;
			*next += 1;
			id
		});
		let max_output_units = input.max_output_units(&details.spec.limits);
		let patience = Self::draw_patience(&details.spec.time, max_output_units);
		let mut request = Request {
			requester: requester.clone(),
			model,
			assurance,
			verifiers,
			state: RequestState::Requested,
			escrow: fee_limit,
			tip,
			price: details.price,
			premium,
			surcharge,
			input_units: input.units(),
			max_output_units,
			work,
			burden,
			reserved: burden,
			seed: None,
			executor: None,
			excluded: List::new(),
			withheld: List::new(),
			windows: None,
			draw: None,
			course: Course::default(),
			output_commitment: None,
			callback,
			deadline: now,
			looked_at: now,
			requested_at: now,
			assigned_at: None,
			assigned_in: None,
			provisional_at: None,
			appealable_until: None,
			settled_at: None,
			paid: Zero::zero(),
			refunded: Zero::zero(),
		};
		Self::schedule_first(now, patience, id, &mut request);
		Self::queue_draw(id, &mut request, now.saturating_add(One::one()), 1);
		Requests::<T>::insert(id, request);
		Inputs::<T>::insert(id, input);
		Self::reserve(model, burden);
		Open::<T>::mutate(|n| *n += 1);
		OpenOf::<T>::mutate(&requester, |n| *n += 1);
		Self::burden(&requester, model, burden);
		pallet_model_registry::Pallet::<T>::request_opened(model);
		Self::deposit_event(Event::RequestSubmitted {
			request: id,
			requester,
			model,
			escrow: fee_limit,
		});
		Ok(id)
	}

	pub(crate) fn do_cancel(requester: T::AccountId, id: RequestId) -> DispatchResult {
		let mut request = Requests::<T>::get(id).ok_or(Error::<T>::UnknownRequest)?;
		ensure!(request.requester == requester, Error::<T>::NotRequester);
		ensure!(!request.state.is_settled(), Error::<T>::UnknownRequest);
		ensure!(
			request.state == RequestState::Requested && request.assigned_at.is_none(),
			Error::<T>::AlreadyAssigned
		);
		// What it took nobody else could take meanwhile, and those who asked since have paid more.
		Self::burn_surcharge(id, &mut request);
		let refunded = Self::close(id, &mut request, RequestState::Cancelled);
		Self::deposit_event(Event::RequestCancelled {
			request: id,
			refunded,
		});
		Ok(())
	}
}
