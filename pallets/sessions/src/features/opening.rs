//! Openings: a receipt that a point has drawn, with all that it takes to measure its answer.

use alloc::boxed::Box;
use codec::Encode;
use consilience_primitives::{
	request::{Input, Output},
	session::{
		measured_input, sampling_seed, ClaimId, Opening, Service, Signable, SumNode, Transcript,
		MAX_NUMBER, SLICE_TOKENS,
	},
	List, RequestId,
};
use pallet_inference::{Answered, AuditAnswers};
use pallet_model_registry::Models;
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::*},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_runtime::{
		traits::{CheckedSub, Get, Saturating, UniqueSaturatedInto, Zero},
		DispatchError,
	},
};

use crate::{
	features::refusal, Audits, BalanceOf, ChannelOf, Channels, Claims, Config, Error, Event,
	Opened, Pallet, PendingClaimOf, PointState, Shown,
};

/// An opening as it comes in.
pub(crate) type OpeningOf<T> =
	Opening<<T as frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A receipt that fits.
struct Fits<T: Config> {
	channel: ChannelOf<T>,
	claim: PendingClaimOf<T>,
	/// What was paid of it, and how much of the claim's money lies before it.
	paid: BalanceOf<T>,
	position: BalanceOf<T>,
	/// Whether its model is still there.
	measurable: bool,
}

/// Whether a voucher acknowledges all of an answer but a slice at most, and this is the answer with this hash.
fn acknowledged(request: &H256, output: &Output, hash: &H256, seen: &H256) -> Result<(), Mismatch> {
	let Output::Text {
		tokens,
		text,
		finish,
	} = output
	else {
		return Err(Mismatch::Output);
	};
	let least = (tokens.len() as u32).saturating_sub(SLICE_TOKENS);
	let mut transcript = Transcript::begin(request);
	let mut found = false;
	let mut look = |transcript: &Transcript| {
		found |= transcript.tokens >= least && transcript.hash == *seen;
	};
	look(&transcript);
	for token in tokens {
		transcript.push(token.0);
		look(&transcript);
	}
	if transcript.end(text, *finish) != *hash {
		return Err(Mismatch::Output);
	}
	if !found {
		return Err(Mismatch::Acknowledgement);
	}
	Ok(())
}

/// What of an answer does not fit.
enum Mismatch {
	Output,
	Acknowledgement,
}

impl<T: Config> From<Mismatch> for Error<T> {
	fn from(mismatch: Mismatch) -> Self {
		match mismatch {
			Mismatch::Output => Self::WrongOutput,
			Mismatch::Acknowledgement => Self::NotAcknowledged,
		}
	}
}

impl<T: Config> Pallet<T> {
	// The call's argument is one, which keeps the runtime's calls small.
	#[allow(clippy::borrowed_box)]
	pub(crate) fn authorize_opening(
		_source: TransactionSource,
		claim: &ClaimId,
		point: &u32,
		opening: &Box<OpeningOf<T>>,
	) -> TransactionValidityWithRefund {
		let fits = Self::check_opening(*claim, *point, opening).map_err(refusal)?;
		Self::verify_opening(&fits, opening).map_err(refusal)?;
		ValidTransaction::with_tag_prefix("SessionsOpening")
			.priority(T::Priority::get())
			.and_provides((claim, point).encode())
			.longevity(T::Longevity::get())
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Whether an opening is due and fits, its signatures left out.
	fn check_opening(
		id: ClaimId,
		point: u32,
		opening: &OpeningOf<T>,
	) -> Result<Fits<T>, DispatchError> {
		let claim = Claims::<T>::get(id).ok_or(Error::<T>::UnknownClaim)?;
		let channel = Channels::<T>::get(claim.channel).ok_or(Error::<T>::UnknownChannel)?;
		let now = frame_system::Pallet::<T>::block_number();
		let point = claim.points.get(point as usize).ok_or(Error::<T>::NotDue)?;
		ensure!(
			point.state == PointState::Due && claim.deadline.is_some_and(|at| now <= at),
			Error::<T>::NotDue
		);
		let offset = point.offset;
		let Opening {
			receipt,
			voucher,
			proof,
			ask,
			output,
		} = opening;
		let (receipt, voucher) = (&receipt.body, &voucher.body);
		ensure!(
			receipt.channel == claim.channel
				&& receipt.payee == claim.payee
				&& (1..=MAX_NUMBER).contains(&receipt.number),
			Error::<T>::WrongReceipt
		);
		let genesis = Self::genesis();
		ensure!(
			ask.channel == receipt.channel
				&& ask.payee == receipt.payee
				&& ask.number == receipt.number
				&& ask.anchor == receipt.anchor
				&& ask.hash(&genesis) == receipt.request,
			Error::<T>::WrongAsk
		);
		let anchor = H256(frame_system::Pallet::<T>::block_hash(ask.anchor.number).into());
		ensure!(
			ask.anchor.number <= claim.claimed_at
				// Hashes of blocks that are long ago are not known.
				&& (anchor.is_zero() || anchor == ask.anchor.hash),
			Error::<T>::WrongAnchor
		);
		ensure!(
			voucher.channel == receipt.channel
				&& voucher.payee == receipt.payee
				&& voucher.service == Service::Answer
				&& voucher.number == receipt.number
				&& voucher.request == receipt.request,
			Error::<T>::WrongVoucher
		);
		acknowledged(
			&receipt.request,
			output,
			&receipt.transcript,
			&voucher.transcript,
		)
		.map_err(Error::<T>::from)?;
		ensure!(
			ask.input.units() == receipt.input_units && output.units() == receipt.output_units,
			Error::<T>::WrongUnits
		);
		let model = Models::<T>::get(ask.model);
		if let Some(model) = &model {
			ensure!(
				ask.input.validate(&model.spec).is_ok()
					&& matches!(ask.input, Input::TextGeneration { .. }),
				Error::<T>::WrongInput
			);
			ensure!(
				output.fits(model.spec.task)
					&& output.units() <= ask.input.max_output_units(&model.spec.limits),
				Error::<T>::WrongOutput
			);
		}
		ensure!(
			!Shown::<T>::contains_key((receipt.channel, &receipt.payee, receipt.number)),
			Error::<T>::ShownBefore
		);
		// What was paid of it follows from its last voucher: whoever puts another receipt in this place has no voucher that ends here.
		// The price is the business of client and executor, who have agreed on it by voucher and receipt.
		let position = SumNode::before(proof).ok_or(Error::<T>::NotInClaim)?;
		let paid = voucher
			.amount
			.checked_sub(&claim.before)
			.and_then(|upto| upto.checked_sub(&position))
			.filter(|paid| !paid.is_zero() && *paid <= receipt.amount)
			.ok_or(Error::<T>::WrongPlace)?;
		let leaf = SumNode::leaf(&receipt.hash(&genesis), paid);
		ensure!(
			leaf.position(&claim.root, proof) == Some(position),
			Error::<T>::NotInClaim
		);
		ensure!(
			position <= offset && offset < position.saturating_add(paid),
			Error::<T>::NotAtPoint
		);
		Ok(Fits {
			channel,
			claim,
			paid,
			position,
			measurable: model.is_some(),
		})
	}

	/// Whether an opening's receipt is signed by its payee's lane key, and its voucher by the channel's key.
	fn verify_opening(fits: &Fits<T>, opening: &OpeningOf<T>) -> DispatchResult {
		let genesis = Self::genesis();
		ensure!(
			opening.voucher.verify(&genesis, &fits.channel.key),
			Error::<T>::BadVoucher
		);
		let receipt = &opening.receipt;
		Self::ensure_signed_by(&receipt.body.payee, receipt.body.session, |key| {
			receipt.verify(&genesis, key)
		})
	}

	/// Has the answer of a receipt measured that was let in.
	pub(crate) fn do_open_receipt(
		id: ClaimId,
		point: u32,
		opening: OpeningOf<T>,
	) -> DispatchResult {
		let Fits {
			channel,
			mut claim,
			paid,
			position,
			measurable,
		} = Self::check_opening(id, point, &opening)?;
		let Opening {
			receipt,
			ask,
			output,
			..
		} = opening;
		let receipt = receipt.body;
		let request: Option<RequestId> = if measurable {
			let seed = channel.seed.ok_or(Error::<T>::NotReady)?;
			let request = T::Audits::audit(Answered {
				requester: channel.owner,
				model: ask.model,
				input: measured_input(&ask.input, &output),
				output,
				seed: sampling_seed(&seed, receipt.number),
				executor: claim.payee.clone(),
				session: receipt.session,
				// Who has claimed for checks may be anybody whom client and executor wanted to have out of the way.
				passed_over: List::new(),
				choice: T::OpeningBlocks::get().unique_saturated_into(),
			})?;
			let number = receipt.number;
			let opened = Opened {
				claim: id,
				number,
				paid,
			};
			Audits::<T>::insert(request, opened);
			Shown::<T>::insert((claim.channel, &claim.payee, number), ());
			Some(request)
		} else {
			None
		};
		let state = request.map_or(PointState::Unmeasured, PointState::Measured);
		let end = position.saturating_add(paid);
		for point in claim.points.iter_mut() {
			if point.state == PointState::Due && (position..end).contains(&point.offset) {
				point.state = state;
			}
		}
		Claims::<T>::insert(id, claim);
		Self::deposit_event(Event::ReceiptOpened {
			claim: id,
			number: receipt.number,
			request,
		});
		Ok(())
	}
}
