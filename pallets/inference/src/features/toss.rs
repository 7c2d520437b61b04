//! Randomness that validators make together, in one block.
//!
//! Who checks an answer must not be known to whoever gives it. The randomness of one block is known to its author, of its own slots for a
//! whole epoch; that of several blocks in a row ([`super::draw`]) takes as many blocks. So for a block that follows answers, as many
//! validators *toss*: each contributes the output of a verifiable random function of its key and of the block before
//! ([`consilience_primitives::contribution`]). Nobody knows the outcome while one of them has not shown its own, and none can be shown
//! before the answers stand in a block.
//!
//! - **Who tosses** is drawn with the VRF output of the block that holds the answers, which nobody but its author knew. A third of the
//!   validators owns all [`Config::Contributors`] of a toss in one of 3ᵏ blocks ([`contributors`]).
//! - **What is contributed cannot be chosen**: there is one output for each key and block. It can be withheld, by whoever does not like
//!   what comes of it. A toss waits [`Config::ContributionBlocks`] blocks, so that one author cannot keep a contribution out. Then the
//!   answers are drawn for with the randomness of several blocks, and measured again later for sure ([`super::jury`]): a second throw
//!   is of little use.
//! - **Silence**: those who were silent are asked no more until they have contributed again, so that a validator that is away holds up one
//!   toss; after [`MOST_LATE`] times not before a later era, so that being late on purpose holds up few. Whoever has not contributed after [`Config::RevealBlocks`] either, in which a third of the authors cannot keep a
//!   contribution out, is noted as absent, unless more than half were: then it is the network.

use alloc::vec::Vec;
use codec::Encode;
use consilience_primitives::{
	contribution::Contribution, crypto::InferenceId, report::ContributionDue, RequestId,
};
use polkadot_sdk::{
	frame_support::{
		ensure,
		pallet_prelude::{
			DispatchResult, InvalidTransaction, TransactionSource, TransactionValidityWithRefund,
			ValidTransaction, Weight,
		},
		traits::ValidatorSet,
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{CheckedSub, Get, One, Saturating, UniqueSaturatedInto, Zero},
};

use crate::{
	features::draw::draw_lowest, types::change, Beacon, Config, Contributor, Error, Event, Keys,
	Late, Pallet, Quiet, RequestOf, Toss, Tosses, MAX_CONTRIBUTORS,
};

/// Nobody is asked for this contribution, or no longer.
pub const NOT_ASKED: u8 = 4;

/// Blocks for which the outcome of a toss is kept: draws wait where many come together.
const KEPT: u32 = 64;

/// Times that a validator may be late with its part of a toss and be asked again, before it is not for a while. They are halved in every
/// era.
pub const MOST_LATE: u32 = 3;

/// Name of [`Quiet`] in a log that says it is too long.
const QUIET: &str = "validators that were silent";

/// Contributors of a toss, so that a third of the validators owns all of them in at most one of `odds` answers, which can be given in
/// any of `time` blocks: the smallest *k* with (time + 1) × 3⁻ᵏ ≤ 1 ÷ odds.
pub fn contributors(time: u32, odds: u32) -> u32 {
	let wanted = u64::from(time)
		.saturating_add(1)
		.saturating_mul(odds.into());
	let (mut count, mut own) = (0, 1u64);
	while own < wanted {
		own = own.saturating_mul(3);
		count += 1;
	}
	count
}

impl<T: Config> Pallet<T> {
	/// Whether verifiers can be drawn by a toss where an answer takes at most so many blocks.
	pub(crate) fn can_toss(time: u32) -> bool {
		let most = T::Contributors::get();
		most > 0 && contributors(time, T::DrawOdds::get()) <= most
	}

	/// Has validators toss in the next block, for a request whose answer is in this one.
	pub(crate) fn queue_toss(id: RequestId, request: &mut RequestOf<T>, now: BlockNumberFor<T>) {
		let block = now.saturating_add(One::one());
		if !Tosses::<T>::contains_key(block) {
			let toss = Toss {
				request: id,
				..Toss::default()
			};
			Tosses::<T>::insert(block, toss);
		}
		Self::queue_draw(id, request, block, 0);
	}

	/// Last block in which a contribution to the toss of a block is taken, if only to show that its author is there.
	fn last(block: BlockNumberFor<T>) -> BlockNumberFor<T> {
		let span = T::RevealBlocks::get().max(T::ContributionBlocks::get());
		block.saturating_add(span.saturating_sub(One::one()))
	}

	/// What comes of the toss of a block for a request: `None` if it has failed or is forgotten, `Some(None)` while contributions are
	/// missing.
	pub(crate) fn tossed(id: RequestId, block: BlockNumberFor<T>) -> Option<Option<H256>> {
		let toss = Tosses::<T>::get(block).filter(|toss| !toss.failed)?;
		let outputs: Option<Vec<_>> = toss.contributors.iter().map(|c| c.output).collect();
		let outputs = outputs.filter(|outputs| !outputs.is_empty());
		Some(
			outputs
				.map(|all| H256((b"consilience/toss", id, block, all).using_encoded(blake2_256))),
		)
	}

	/// At the end of a block whose own randomness is known: draws who tosses in the next, ends a toss whose time is over, and forgets an
	/// old one.
	pub(crate) fn process_tosses(now: BlockNumberFor<T>) {
		let next = now.saturating_add(One::one());
		if let Some(toss) = Tosses::<T>::get(next) {
			Self::draw_contributors(now, next, toss);
		}
		let ending = next.saturating_sub(T::ContributionBlocks::get());
		if let Some(toss) = Tosses::<T>::get(ending).filter(|t| !t.failed && !t.is_complete()) {
			Self::end_toss(ending, toss);
		}
		let blamed = Self::over(now);
		if let Some(toss) = Tosses::<T>::get(blamed).filter(|t| t.failed && !t.is_complete()) {
			Self::blame(toss);
		}
		Tosses::<T>::remove(now.saturating_sub(KEPT.into()));
	}

	fn draw_contributors(
		now: BlockNumberFor<T>,
		block: BlockNumberFor<T>,
		mut toss: Toss<T::AccountId>,
	) {
		let random = Beacon::<T>::get()
			.last()
			.filter(|(at, _)| *at == now)
			.map(|(_, random)| *random);
		match random {
			Some(random) => {
				let seed = H256((b"consilience/contributors", random).using_encoded(blake2_256));
				let (all, quiet) = (Keys::<T>::get(), Quiet::<T>::get());
				let most = T::Contributors::get().min(MAX_CONTRIBUTORS);
				// A party of a third is little more than that of those who are asked.
				let least = (all.len() as u32 * 4 / 5).max(1);
				let able = |asks: fn(&Late<T::AccountId>) -> bool| -> Vec<_> {
					let not_asked = |who: &T::AccountId| {
						quiet.iter().any(|late| late.who == *who && !asks(late))
					};
					let accounts = all.iter().map(|(who, _)| who);
					accounts.filter(|who| !not_asked(who)).cloned().collect()
				};
				let mut asked = able(|late| late.is_back);
				if (asked.len() as u32) < least {
					// All who are not late all the time: some may be there again.
					asked = able(|late| late.times <= MOST_LATE);
				}
				if (asked.len() as u32) < least {
					asked.clear();
				}
				let drawn = draw_lowest(&seed, b"contributor", asked, most);
				let contributors = drawn.into_iter().filter_map(|who| {
					let (_, key) = all.iter().find(|(other, _)| *other == who)?;
					let key = key.clone();
					Some(Contributor {
						who,
						key,
						output: None,
					})
				});
				toss.contributors = contributors
					.collect::<Vec<_>>()
					.try_into()
					.unwrap_or_default();
				toss.failed = toss.contributors.is_empty();
			}
			// A block without randomness draws nobody.
			None => toss.failed = true,
		}
		Tosses::<T>::insert(block, toss);
	}

	/// Contributions are missing, and no more are taken.
	fn end_toss(block: BlockNumberFor<T>, mut toss: Toss<T::AccountId>) {
		let silent = Self::silent(&toss);
		// Where most are late it is not theirs: a third of the authors can have that happen now and then.
		let once = u32::from(!Self::is_network(&silent, &toss));
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				for who in &silent {
					match quiet.iter_mut().find(|late| late.who == *who) {
						Some(late) => {
							late.times.saturating_accrue(once);
							late.is_back = false;
						}
						None => quiet.push(Late {
							who: who.clone(),
							times: once,
							is_back: false,
						}),
					}
				}
			});
		});
		toss.failed = true;
		Tosses::<T>::insert(block, toss);
		Self::deposit_event(Event::TossFailed { block, silent });
	}

	/// The block whose toss takes no contribution after this block, whatever it is for.
	fn over(now: BlockNumberFor<T>) -> BlockNumberFor<T> {
		let span = Self::last(Zero::zero()).saturating_add(One::one());
		now.saturating_add(One::one()).saturating_sub(span)
	}

	/// Validators that have not contributed. Who has left the session, or has another key in it, is asked no more.
	fn silent(toss: &Toss<T::AccountId>) -> Vec<T::AccountId> {
		let keys = Keys::<T>::get();
		let is_there = |c: &Contributor<T::AccountId>| {
			let now = keys.iter().find(|(who, _)| *who == c.who);
			now.is_some_and(|(_, key)| *key == c.key)
		};
		toss.contributors
			.iter()
			.filter(|c| c.output.is_none() && is_there(c))
			.map(|c| c.who.clone())
			.collect()
	}

	/// Whether so many were silent that it is the network. Of a party of a third, half of those who toss are seldom members.
	fn is_network(silent: &[T::AccountId], toss: &Toss<T::AccountId>) -> bool {
		silent.len() * 2 > toss.contributors.len()
	}

	/// Notes who has not contributed although it had time.
	fn blame(toss: Toss<T::AccountId>) {
		let silent = Self::silent(&toss);
		if !Self::is_network(&silent, &toss) {
			for who in &silent {
				Self::strike_for_silence(toss.request, who);
			}
		}
	}

	/// Halves what is remembered of those who were late, once in as many sessions as an era has.
	pub(crate) fn forgive_lateness() {
		let sessions = T::SuspensionSessions::get().max(1);
		if !T::ValidatorSet::session_index().is_multiple_of(sessions) {
			return;
		}
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				for late in quiet.iter_mut() {
					late.times /= 2;
				}
				quiet.retain(|late| late.times > 0 || !late.is_back);
			});
		});
	}

	/// Forgets who was late and is no validator any more.
	pub(crate) fn forget_quiet() {
		let keys = Keys::<T>::get();
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				quiet.retain(|late| keys.iter().any(|(validator, _)| *validator == late.who));
			});
		});
	}

	/// What [`Self::process_tosses`] weighs at the end of this block.
	pub(crate) fn weigh_tosses(now: BlockNumberFor<T>) -> Weight {
		let over = Tosses::<T>::get(Self::over(now)).filter(|toss| toss.failed);
		let silent = over.map_or(0, |toss| Self::silent(&toss).len());
		// Each is noted as absent and may be reported.
		let silent = T::DbWeight::get()
			.reads_writes(6, 4)
			.saturating_mul(silent as u64);
		T::DbWeight::get().reads_writes(9, 4).saturating_add(silent)
	}

	/// Contributions that are asked of a key, where the chain's best block is the present one.
	pub fn contributions_due(key: &InferenceId) -> Vec<ContributionDue<BlockNumberFor<T>>> {
		let next = frame_system::Pallet::<T>::block_number().saturating_add(One::one());
		Self::contributions_due_in(next, key)
	}

	/// Contributions of a key that this block, which is the next or is being built, can take.
	pub fn contributions_due_in(
		next: BlockNumberFor<T>,
		key: &InferenceId,
	) -> Vec<ContributionDue<BlockNumberFor<T>>> {
		let span: u32 = Self::last(One::one()).unique_saturated_into();
		(0..span)
			.filter_map(|before| next.checked_sub(&before.into()))
			.filter(|block| Self::asked(*block, next, key).is_some())
			.map(|block| ContributionDue {
				block,
				// The block before is known by its hash once another has followed.
				parent: (block < next).then(|| Self::parent_of(block)),
			})
			.collect()
	}

	/// Whether a toss asks for a key's contribution: as one of those who were drawn for it, at their place, or of whoever was silent and
	/// is back.
	fn asked(
		block: BlockNumberFor<T>,
		now: BlockNumberFor<T>,
		key: &InferenceId,
	) -> Option<Asked<T::AccountId>> {
		let toss = Tosses::<T>::get(block)?;
		if let Some(place) = toss.contributors.iter().position(|c| c.key == *key) {
			let open = toss.contributors[place].output.is_none();
			return open.then_some(Asked::Contributor(place));
		}
		// One is enough to show that it is back: the last that there is, or the one before, which may have met a block on its way.
		if now > block.saturating_add(One::one()) {
			return None;
		}
		let quiet = Quiet::<T>::get();
		if quiet.is_empty() || toss.contributors.is_empty() {
			return None;
		}
		let keys = Keys::<T>::get();
		let (who, _) = keys.iter().find(|(_, k)| k == key)?;
		quiet
			.iter()
			.any(|late| late.who == *who && late.may_come_back())
			.then(|| Asked::Quiet(who.clone()))
	}

	fn parent_of(block: BlockNumberFor<T>) -> H256 {
		let parent = block.saturating_sub(One::one());
		H256(frame_system::Pallet::<T>::block_hash(parent).into())
	}

	/// Lets a contribution in: cheap checks first, the proof last.
	pub(crate) fn authorize_contribution(
		_source: TransactionSource,
		contribution: &Contribution<BlockNumberFor<T>>,
	) -> TransactionValidityWithRefund {
		let now = frame_system::Pallet::<T>::block_number();
		let block = contribution.block;
		if now < block || now > Self::last(block) {
			return Err(InvalidTransaction::Stale.into());
		}
		if Self::asked(block, now, &contribution.key).is_none() {
			return Err(InvalidTransaction::Custom(NOT_ASKED).into());
		}
		let genesis =
			H256(frame_system::Pallet::<T>::block_hash(BlockNumberFor::<T>::zero()).into());
		let parent = Self::parent_of(block);
		if !contribution.is_right(&genesis, &parent) {
			return Err(InvalidTransaction::BadProof.into());
		}
		let longevity = Self::last(block)
			.saturating_sub(now)
			.saturating_add(One::one());
		ValidTransaction::with_tag_prefix("InferenceContribution")
			// One that was signed again replaces the one before, and is told to all once more.
			.priority(
				T::ReportPriority::get()
					.saturating_add(now.saturating_sub(block).unique_saturated_into()),
			)
			// On another fork it is another.
			.and_provides((block, &contribution.key, parent).encode())
			.longevity(longevity.unique_saturated_into())
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Takes a contribution that was let in.
	pub(crate) fn do_contribute(contribution: Contribution<BlockNumberFor<T>>) -> DispatchResult {
		let Contribution {
			block, key, output, ..
		} = contribution;
		let now = frame_system::Pallet::<T>::block_number();
		match Self::asked(block, now, &key).ok_or(Error::<T>::NotDue)? {
			Asked::Contributor(place) => Tosses::<T>::mutate(block, |toss| {
				let Some(toss) = toss else { return };
				if let Some(contributor) = toss.contributors.get_mut(place) {
					contributor.output = Some(output);
					Self::is_back(&contributor.who);
				}
			}),
			Asked::Quiet(who) => Self::is_back(&who),
		}
		Ok(())
	}

	/// A validator that was silent is asked again, if it was not too often.
	fn is_back(who: &T::AccountId) {
		if Quiet::<T>::decode_len().unwrap_or_default() == 0 {
			return;
		}
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				let late = quiet.iter_mut().find(|late| late.who == *who);
				if let Some(late) = late.filter(|late| late.may_come_back()) {
					late.is_back = true;
				}
			});
		});
	}

	/// What stands of tosses is consistent.
	pub(crate) fn try_state_of_tosses() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		let now = frame_system::Pallet::<T>::block_number();
		for (block, toss) in Tosses::<T>::iter() {
			ensure!(
				block <= now.saturating_add(One::one()) && block.saturating_add(KEPT.into()) >= now,
				"a toss that is forgotten, or not due yet"
			);
			ensure!(
				toss.failed
					|| toss.is_complete()
					|| now < block.saturating_add(T::ContributionBlocks::get()),
				"a toss whose time is over neither failed nor has all contributions"
			);
		}
		let (quiet, keys) = (Quiet::<T>::get(), Keys::<T>::get());
		ensure!(
			quiet
				.iter()
				.all(|late| keys.iter().any(|(validator, _)| *validator == late.who)),
			"somebody was late who is no validator"
		);
		Ok(())
	}
}

impl<AccountId> Late<AccountId> {
	/// Whether it is asked again when it contributes.
	fn may_come_back(&self) -> bool {
		!self.is_back && self.times <= MOST_LATE
	}
}

/// Why somebody may contribute.
enum Asked<AccountId> {
	/// It was drawn, at this place.
	Contributor(usize),
	/// It was silent, and is back.
	Quiet(AccountId),
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_third_owns_all_contributors_in_one_of_a_thousand_answers() {
		for time in [0, 5, 18, 58, 176, 1_200] {
			let count = contributors(time, 1_000);
			let wanted = (u64::from(time) + 1) * 1_000;
			assert!(wanted <= 3u64.pow(count), "{time}: {count}");
			assert!(
				wanted > 3u64.pow(count - 1),
				"{time}: {count} are more than needed"
			);
		}
		assert_eq!((contributors(0, 1_000), contributors(18, 1_000)), (7, 9));
		assert_eq!(contributors(0, 0), 0);
	}
}
