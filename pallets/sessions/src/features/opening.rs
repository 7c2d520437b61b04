//! Openings: a receipt that a point has drawn, with all that it takes to measure its answer.

use alloc::boxed::Box;
use codec::Encode;
use consilience_primitives::{
	model::Task,
	request::Output,
	session::{
		measured_input, sampling_seed, Ask, ClaimId, Opening, Receipt, Service, Signable, SumNode,
		SumProof, Transcript, Voucher, MAX_NUMBER, SLICE_TOKENS,
	},
	List, RequestId,
};
use pallet_inference::{Answered, AuditAnswers, Standing};
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
	Opened, Pallet, PendingClaimOf, Point, PointState, Shown,
};

/// A receipt as it comes in.
pub(crate) type ReceiptOf<T> =
	Receipt<<T as frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A question as it comes in.
pub(crate) type AskOf<T> = Ask<<T as frame_system::Config>::AccountId, BlockNumberFor<T>>;

/// An opening as it comes in.
pub(crate) type OpeningOf<T> =
	Opening<<T as frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

/// A receipt that fits.
struct Fits<T: Config> {
	channel: ChannelOf<T>,
	claim: PendingClaimOf<T>,
	place: Interval<BalanceOf<T>>,
	/// Whether its model is still there.
	measurable: bool,
}

/// The money of a claim that is a receipt's.
#[derive(Clone, Copy)]
pub(crate) struct Interval<Balance> {
	/// How much of the claim's money lies before it.
	pub(crate) position: Balance,
	/// What was paid of it.
	pub(crate) paid: Balance,
}

impl<Balance: Saturating + Copy> Interval<Balance> {
	/// How much of the claim's money lies before its end.
	fn end(&self) -> Balance {
		self.position.saturating_add(self.paid)
	}
}

/// Whether this is the answer with this hash, and a voucher, if there is one, acknowledges all of it but a slice at most.
fn acknowledged(
	request: &H256,
	output: &Output,
	hash: &H256,
	seen: Option<&H256>,
) -> Result<(), Mismatch> {
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
	let mut found = seen.is_none();
	let mut look = |transcript: &Transcript| {
		found |= transcript.tokens >= least && Some(&transcript.hash) == seen;
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
		Self::check_ask(receipt, ask, claim.claimed_at)?;
		Self::check_voucher(receipt, voucher)?;
		Self::check_transcript(receipt, output, Some(&voucher.transcript))?;
		let measurable = Self::check_answer(receipt, ask, output)?;
		ensure!(
			!Shown::<T>::contains_key((receipt.channel, &receipt.payee, receipt.number)),
			Error::<T>::ShownBefore
		);
		let place = Self::check_place(&claim, receipt, voucher, proof)?;
		ensure!(
			place.position <= offset && offset < place.end(),
			Error::<T>::NotAtPoint
		);
		Ok(Fits {
			channel,
			claim,
			place,
			measurable,
		})
	}

	/// Whether this is the question that a receipt names, and refers to a block of this chain that is not later than `latest`.
	pub(crate) fn check_ask(
		receipt: &ReceiptOf<T>,
		ask: &AskOf<T>,
		latest: BlockNumberFor<T>,
	) -> DispatchResult {
		ensure!(
			ask.channel == receipt.channel
				&& ask.payee == receipt.payee
				&& ask.number == receipt.number
				&& ask.anchor == receipt.anchor
				&& ask.hash(&Self::genesis()) == receipt.request,
			Error::<T>::WrongAsk
		);
		let anchor = H256(frame_system::Pallet::<T>::block_hash(ask.anchor.number).into());
		ensure!(
			ask.anchor.number <= latest
				// Hashes of blocks that are long ago are not known.
				&& (anchor.is_zero() || anchor == ask.anchor.hash),
			Error::<T>::WrongAnchor
		);
		Ok(())
	}

	/// Whether a voucher is for the request that a receipt is for.
	pub(crate) fn check_voucher(
		receipt: &ReceiptOf<T>,
		voucher: &Voucher<T::AccountId, BalanceOf<T>>,
	) -> DispatchResult {
		ensure!(
			voucher.channel == receipt.channel
				&& voucher.payee == receipt.payee
				&& voucher.service == Service::Answer
				&& voucher.number == receipt.number
				&& voucher.request == receipt.request,
			Error::<T>::WrongVoucher
		);
		Ok(())
	}

	/// Whether this is the answer that a receipt names, of which a voucher acknowledges all but a slice at most with this transcript.
	pub(crate) fn check_transcript(
		receipt: &ReceiptOf<T>,
		output: &Output,
		seen: Option<&H256>,
	) -> DispatchResult {
		acknowledged(&receipt.request, output, &receipt.transcript, seen)
			.map_err(Error::<T>::from)?;
		Ok(())
	}

	/// Whether question and answer are such as the model takes and gives, and the receipt counts them right. Returns whether the model is
	/// there to measure them.
	pub(crate) fn check_answer(
		receipt: &ReceiptOf<T>,
		ask: &AskOf<T>,
		output: &Output,
	) -> Result<bool, DispatchError> {
		ensure!(
			ask.input.units() == receipt.input_units && output.units() == receipt.output_units,
			Error::<T>::WrongUnits
		);
		let Some(model) = Models::<T>::get(ask.model) else {
			return Ok(false);
		};
		ensure!(
			ask.input.validate(&model.spec).is_ok() && ask.input.task() == Task::TextGeneration,
			Error::<T>::WrongInput
		);
		ensure!(
			output.fits(model.spec.task)
				&& output.units() <= ask.input.max_output_units(&model.spec.limits),
			Error::<T>::WrongOutput
		);
		Ok(true)
	}

	/// Where a receipt lies in a claim.
	///
	/// What was paid of it follows from its last voucher: whoever puts another receipt in this place has no voucher that ends here. The
	/// price is the business of client and executor, who have agreed on it by voucher and receipt.
	pub(crate) fn check_place(
		claim: &PendingClaimOf<T>,
		receipt: &ReceiptOf<T>,
		voucher: &Voucher<T::AccountId, BalanceOf<T>>,
		proof: &SumProof<BalanceOf<T>>,
	) -> Result<Interval<BalanceOf<T>>, DispatchError> {
		let position = SumNode::before(proof).ok_or(Error::<T>::NotInClaim)?;
		let paid = voucher
			.amount
			.checked_sub(&claim.before)
			.and_then(|upto| upto.checked_sub(&position))
			.filter(|paid| !paid.is_zero() && *paid <= receipt.amount)
			.ok_or(Error::<T>::WrongPlace)?;
		let leaf = SumNode::leaf(&receipt.hash(&Self::genesis()), paid);
		ensure!(
			leaf.position(&claim.root, proof) == Some(position),
			Error::<T>::NotInClaim
		);
		Ok(Interval { position, paid })
	}

	/// What is measured of a receipt's answer.
	pub(crate) fn answered(
		channel: &ChannelOf<T>,
		seed: H256,
		receipt: &ReceiptOf<T>,
		ask: AskOf<T>,
		output: Output,
	) -> Answered<T::AccountId> {
		Answered {
			reference: receipt.hash(&Self::genesis()),
			requester: channel.owner.clone(),
			model: ask.model,
			input: measured_input(&ask.input, &output),
			output,
			seed: sampling_seed(&seed, receipt.number),
			executor: receipt.payee.clone(),
			session: receipt.session,
			// Who has claimed for checks may be anybody whom client and executor wanted to have out of the way.
			passed_over: List::new(),
			choice: T::OpeningBlocks::get().unique_saturated_into(),
		}
	}

	/// Has a claim wait for the measurement of a receipt's answer: for all points that lie in it, or as for one, where none does.
	pub(crate) fn link(
		id: ClaimId,
		claim: &mut PendingClaimOf<T>,
		number: u32,
		request: RequestId,
		place: Interval<BalanceOf<T>>,
	) -> DispatchResult {
		let state = PointState::Measured(request);
		if !Self::mark(claim, place, state) {
			let point = Point {
				offset: place.position,
				state,
			};
			claim
				.points
				.try_push(point)
				.map_err(|_| Error::<T>::TooManyAppeals)?;
		}
		Self::remember_opened(id, claim, number, request, place);
		Ok(())
	}

	/// Remembers for which claim an answer is measured.
	fn remember_opened(
		id: ClaimId,
		claim: &PendingClaimOf<T>,
		number: u32,
		request: RequestId,
		place: Interval<BalanceOf<T>>,
	) {
		let opened = Opened {
			claim: id,
			number,
			paid: place.paid,
		};
		Audits::<T>::insert(request, opened);
		Shown::<T>::insert((claim.channel, &claim.payee, number), ());
	}

	/// Gives points that are due, and lie in this receipt, another state. Returns whether there were any.
	fn mark(
		claim: &mut PendingClaimOf<T>,
		place: Interval<BalanceOf<T>>,
		state: PointState,
	) -> bool {
		let mut any = false;
		for point in claim.points.iter_mut() {
			if point.state == PointState::Due
				&& (place.position..place.end()).contains(&point.offset)
			{
				point.state = state;
				any = true;
			}
		}
		any
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

	/// Has the answer of a receipt measured that was let in. Where a jury was asked about it before, what that finds counts; but not where it
	/// has found nothing.
	pub(crate) fn do_open_receipt(
		id: ClaimId,
		point: u32,
		opening: OpeningOf<T>,
	) -> DispatchResult {
		let Fits {
			channel,
			mut claim,
			place,
			measurable,
		} = Self::check_opening(id, point, &opening)?;
		let Opening {
			receipt,
			ask,
			output,
			..
		} = opening;
		let receipt = receipt.body;
		let number = receipt.number;
		let known = T::Audits::standing(&receipt.hash(&Self::genesis()))
			.filter(|(_, standing)| *standing != Standing::Stands);
		let (request, standing) = match known {
			Some((request, standing)) => (Some(request), standing),
			None if measurable => {
				let seed = channel.seed.ok_or(Error::<T>::NotReady)?;
				let answered = Self::answered(&channel, seed, &receipt, ask, output);
				(Some(T::Audits::audit(answered)?), Standing::Measured)
			}
			None => (None, Standing::Stands),
		};
		Self::deposit_event(Event::ReceiptOpened {
			claim: id,
			number,
			request,
		});
		let state = match (request, standing) {
			(None, _) => PointState::Unmeasured,
			(Some(request), Standing::Right) => PointState::Stands(request),
			(Some(request), _) => PointState::Measured(request),
		};
		Self::mark(&mut claim, place, state);
		if let Some(request) = request {
			Self::remember_opened(id, &claim, number, request, place);
		}
		Claims::<T>::insert(id, claim);
		if let (Some(request), Standing::False) = (request, standing) {
			Self::measured(request, false);
		}
		Ok(())
	}
}
