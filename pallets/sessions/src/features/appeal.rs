//! Appeals: a signed receipt that somebody puts before a jury, whether a point has drawn it or not.
//!
//! Whoever has receipt, question and answer may do so for [`Config::AppealBlocks`] from the receipt's anchor, once for a receipt, with a
//! bond that pays the jury and is lost where the answer is right. A false answer costs its executor what it costs in an audit. Where the
//! receipt lies in a claim that is pending, and whoever appeals shows where, the claim waits for the jury as it waits for a point's
//! measurement. Otherwise a point that falls on the receipt later takes what the jury has found, or is going to: nobody is judged twice for an
//! answer, and nobody escapes a point because a jury did not decide.

use consilience_primitives::session::{Appealed, Place, Service, Signable, MAX_NUMBER};
use pallet_inference::AuditAnswers;
use polkadot_sdk::{
	frame_support::{ensure, pallet_prelude::*},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::traits::{Get, Saturating, UniqueSaturatedInto},
};

use crate::{BalanceOf, Channels, Claims, Config, Error, Event, Pallet, Shown};

/// What is put before a jury, as it comes in.
pub(crate) type AppealedOf<T> =
	Appealed<<T as frame_system::Config>::AccountId, BlockNumberFor<T>, BalanceOf<T>>;

impl<T: Config> Pallet<T> {
	/// Puts a receipt before a jury.
	pub(crate) fn do_appeal(who: T::AccountId, appealed: AppealedOf<T>) -> DispatchResult {
		let Appealed {
			receipt: signed,
			ask,
			output,
			place,
		} = appealed;
		let receipt = &signed.body;
		let channel = Channels::<T>::get(receipt.channel).ok_or(Error::<T>::UnknownChannel)?;
		let seed = channel.seed.ok_or(Error::<T>::NotReady)?;
		ensure!(
			(1..=MAX_NUMBER).contains(&receipt.number),
			Error::<T>::WrongReceipt
		);
		let now = frame_system::Pallet::<T>::block_number();
		Self::check_ask(receipt, &ask, now)?;
		ensure!(
			now <= receipt.anchor.number.saturating_add(T::AppealBlocks::get()),
			Error::<T>::TooLate
		);
		Self::check_transcript(receipt, &output, None)?;
		ensure!(
			Self::check_answer(receipt, &ask, &output)?,
			Error::<T>::ModelGone
		);
		let genesis = Self::genesis();
		ensure!(
			T::Audits::standing(&receipt.hash(&genesis)).is_none(),
			Error::<T>::MeasuredBefore
		);
		let placed = match &place {
			None => None,
			Some(Place {
				claim: id,
				voucher,
				proof,
			}) => {
				let claim = Claims::<T>::get(id).ok_or(Error::<T>::UnknownClaim)?;
				ensure!(claim.deadline.is_some(), Error::<T>::NotDrawn);
				ensure!(
					receipt.channel == claim.channel
						&& receipt.payee == claim.payee
						&& claim.service == Service::Answer,
					Error::<T>::WrongReceipt
				);
				ensure!(
					receipt.anchor.number <= claim.claimed_at,
					Error::<T>::WrongAnchor
				);
				Self::check_voucher(receipt, &voucher.body)?;
				Self::check_transcript(receipt, &output, Some(&voucher.body.transcript))?;
				ensure!(
					!Shown::<T>::contains_key((receipt.channel, &receipt.payee, receipt.number)),
					Error::<T>::ShownBefore
				);
				let place = Self::check_place(&claim, receipt, &voucher.body, proof)?;
				ensure!(
					voucher.verify(&genesis, &channel.key),
					Error::<T>::BadVoucher
				);
				Some((*id, claim, place))
			}
		};
		Self::ensure_signed_by(&receipt.payee, receipt.session, |key| {
			signed.verify(&genesis, key)
		})?;
		let mut answered = Self::answered(&channel, seed, receipt, ask, output);
		answered.choice = T::AppealBlocks::get().unique_saturated_into();
		let request = T::Audits::appeal(who.clone(), answered)?;
		let claim = placed.as_ref().map(|(id, ..)| *id);
		if let Some((id, mut claim, place)) = placed {
			Self::link(id, &mut claim, receipt.number, request, place)?;
			Claims::<T>::insert(id, claim);
		}
		Self::deposit_event(Event::ReceiptAppealed {
			request,
			channel: receipt.channel,
			payee: receipt.payee.clone(),
			number: receipt.number,
			who,
			claim,
		});
		Ok(())
	}
}
