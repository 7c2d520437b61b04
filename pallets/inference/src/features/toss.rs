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
//! - **Silence**: those who were silent are asked no more until they have contributed again, and it counts as an absence, unless a third
//!   were: then it is the network. A validator that is away holds up one toss.

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
	},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_core::H256,
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{CheckedSub, Get, One, Saturating, UniqueSaturatedInto, Zero},
};

use crate::{
	features::draw::draw_distinct, types::change, Beacon, Config, Contributor, Error, Event, Keys,
	Indices, Pallet, Quiet, RequestOf, Toss, Tosses, MAX_CONTRIBUTORS,
};

/// Nobody is asked for this contribution, or no longer.
pub const NOT_ASKED: u8 = 4;

/// Blocks for which the outcome of a toss is kept: draws wait where many come together.
const KEPT: u32 = 64;

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

	/// Last block in which contributions to the toss of a block are taken.
	fn last(block: BlockNumberFor<T>) -> BlockNumberFor<T> {
		let more = T::ContributionBlocks::get().saturating_sub(One::one());
		block.saturating_add(more)
	}

	/// What comes of the toss of a block for a request: `None` if it has failed or is forgotten, `Some(None)` while contributions are
	/// missing.
	pub(crate) fn tossed(id: RequestId, block: BlockNumberFor<T>) -> Option<Option<H256>> {
		let toss = Tosses::<T>::get(block).filter(|toss| !toss.failed)?;
		let outputs: Option<Vec<_>> = toss.contributors.iter().map(|c| c.output).collect();
		let outputs = outputs.filter(|outputs| !outputs.is_empty());
		Some(outputs.map(|all| H256((b"consilience/toss", id, block, all).using_encoded(blake2_256))))
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
				// A party of a third never owns more than a third of the session.
				let least = most.min(all.len() as u32 / 3 + 1);
				let mut able: Vec<_> = all
					.iter()
					.filter(|(who, _)| !quiet.contains(who))
					.cloned()
					.collect();
				if (able.len() as u32) < least {
					Quiet::<T>::kill();
					able = all.into_inner();
				}
				let drawn = draw_distinct(&seed, b"contributor", able, most);
				let contributors = drawn.into_iter().map(|(who, key)| Contributor {
					who,
					key,
					output: None,
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
		let silent: Vec<_> = toss
			.contributors
			.iter()
			.filter(|c| c.output.is_none())
			.map(|c| c.who.clone())
			// Who has left the session since is asked no more anyway.
			.filter(|who| Indices::<T>::contains_key(who))
			.collect();
		let is_network = silent.len() * 3 > toss.contributors.len();
		if !is_network {
			for who in &silent {
				Self::strike_for_silence(toss.request, who);
			}
		}
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				for who in &silent {
					if !quiet.contains(who) {
						quiet.push(who.clone());
					}
				}
			});
		});
		toss.failed = true;
		Tosses::<T>::insert(block, toss);
		Self::deposit_event(Event::TossFailed { block, silent });
	}

	/// Forgets who was silent and is no validator any more.
	pub(crate) fn forget_quiet() {
		let keys = Keys::<T>::get();
		Quiet::<T>::mutate(|quiet| {
			change(quiet, QUIET, |quiet| {
				quiet.retain(|who| keys.iter().any(|(validator, _)| validator == who));
			});
		});
	}

	/// What [`Self::process_tosses`] weighs at the end of this block.
	pub(crate) fn weigh_tosses(now: BlockNumberFor<T>) -> Weight {
		let next = now.saturating_add(One::one());
		let ending = Tosses::<T>::get(next.saturating_sub(T::ContributionBlocks::get()));
		let silent = ending
			.filter(|toss| !toss.failed)
			.map_or(0, |toss| toss.contributors.iter().filter(|c| c.output.is_none()).count());
		// Each silent one is struck and may be reported.
		let silent = T::DbWeight::get().reads_writes(5, 4).saturating_mul(silent as u64);
		T::DbWeight::get().reads_writes(7, 4).saturating_add(silent)
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
		let span: u32 = T::ContributionBlocks::get().unique_saturated_into();
		(0..span)
			.filter_map(|before| next.checked_sub(&before.into()))
			.filter(|block| Self::asked(*block, key).is_some())
			.map(|block| ContributionDue {
				block,
				// The block before is known by its hash once another has followed.
				parent: (block < next).then(|| Self::parent_of(block)),
			})
			.collect()
	}

	/// Whether a toss asks for a key's contribution: as one of those who were drawn for it, at their place, or of whoever was silent and
	/// is back.
	fn asked(block: BlockNumberFor<T>, key: &InferenceId) -> Option<Asked<T::AccountId>> {
		let toss = Tosses::<T>::get(block).filter(|toss| !toss.failed)?;
		if let Some(place) = toss.contributors.iter().position(|c| c.key == *key) {
			let open = toss.contributors[place].output.is_none();
			return open.then_some(Asked::Contributor(place));
		}
		let quiet = Quiet::<T>::get();
		if quiet.is_empty() {
			return None;
		}
		let keys = Keys::<T>::get();
		let (who, _) = keys.iter().find(|(_, k)| k == key)?;
		quiet.contains(who).then(|| Asked::Quiet(who.clone()))
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
		if Self::asked(block, &contribution.key).is_none() {
			return Err(InvalidTransaction::Custom(NOT_ASKED).into());
		}
		let genesis = H256(frame_system::Pallet::<T>::block_hash(BlockNumberFor::<T>::zero()).into());
		let parent = Self::parent_of(block);
		if !contribution.is_right(&genesis, &parent) {
			return Err(InvalidTransaction::BadProof.into());
		}
		let longevity = Self::last(block).saturating_sub(now).saturating_add(One::one());
		ValidTransaction::with_tag_prefix("InferenceContribution")
			// One that was signed again replaces the one before, and is told to all once more.
			.priority(T::ReportPriority::get().saturating_add(now.saturating_sub(block).unique_saturated_into()))
			// On another fork it is another.
			.and_provides((block, &contribution.key, parent).encode())
			.longevity(longevity.unique_saturated_into())
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Takes a contribution that was let in.
	pub(crate) fn do_contribute(
		contribution: Contribution<BlockNumberFor<T>>,
	) -> DispatchResult {
		let Contribution {
			block, key, output, ..
		} = contribution;
		match Self::asked(block, &key).ok_or(Error::<T>::NotDue)? {
			Asked::Contributor(place) => Tosses::<T>::mutate(block, |toss| {
				let contributor = toss.as_mut().and_then(|t| t.contributors.get_mut(place));
				if let Some(contributor) = contributor {
					contributor.output = Some(output);
				}
			}),
			Asked::Quiet(who) => Quiet::<T>::mutate(|quiet| {
				change(quiet, QUIET, |quiet| quiet.retain(|other| *other != who));
			}),
		}
		Ok(())
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
				toss.failed || toss.is_complete() || now <= Self::last(block),
				"a toss whose time is over neither failed nor has all contributions"
			);
		}
		let quiet = Quiet::<T>::get();
		ensure!(
			quiet
				.iter()
				.all(|who| Keys::<T>::get().iter().any(|(validator, _)| validator == who)),
			"somebody was silent who is no validator"
		);
		Ok(())
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
			assert!(wanted > 3u64.pow(count - 1), "{time}: {count} are more than needed");
		}
		assert_eq!((contributors(0, 1_000), contributors(18, 1_000)), (7, 9));
		assert_eq!(contributors(0, 0), 0);
	}
}
