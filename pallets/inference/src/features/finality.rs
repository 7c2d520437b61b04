//! Whether reveals come at all. Members show evidence only once the commitments are final, and the runtime cannot see finality: it
//! sees which validators have shown most of the evidence that was due from them, over all rounds of the last spans of
//! [`Config::RevealBlocks`]. Where fewer than two thirds have, it is the network that is late, or has more to show than blocks take,
//! and nobody is blamed. Whoever is alone in revealing, early and to make everybody else look like a withholder, is one.

use alloc::collections::BTreeSet;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::{
	frame_support::{
		storage::bounded_btree_map::BoundedBTreeMap, CloneNoBound, DebugNoBound, DefaultNoBound,
	},
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::traits::{Get, Saturating},
};
use scale_info::TypeInfo;

use crate::{Config, Indices, Pallet, Reveals};

/// How much evidence was due from validators, and how much they have shown, by their places in the session.
#[derive(
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	CloneNoBound,
	DebugNoBound,
	DefaultNoBound,
)]
#[scale_info(skip_type_params(T))]
#[codec(mel_bound())]
pub struct Span<T: Config> {
	/// What was due.
	pub due: BoundedBTreeMap<u32, u32, T::MaxValidators>,
	/// What was shown.
	pub made: BoundedBTreeMap<u32, u32, T::MaxValidators>,
}

/// Counts one more for a validator.
fn count<Most: Get<u32>>(of: &mut BoundedBTreeMap<u32, u32, Most>, index: u32) {
	let before = of.get(&index).copied().unwrap_or_default();
	// As many places as there are validators.
	let _ = of.try_insert(index, before.saturating_add(1));
}

/// The present span, and the one before.
#[derive(
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	CloneNoBound,
	DebugNoBound,
	DefaultNoBound,
)]
#[scale_info(skip_type_params(T))]
#[codec(mel_bound())]
pub struct Spans<T: Config> {
	/// First block of the present one.
	pub since: BlockNumberFor<T>,
	/// The present one.
	pub present: Span<T>,
	/// The one before.
	pub past: Span<T>,
}

impl<T: Config> Spans<T> {
	fn turn(&mut self, now: BlockNumberFor<T>) {
		let length = T::RevealBlocks::get();
		let passed = now.saturating_sub(self.since);
		if passed >= length {
			let present = core::mem::take(&mut self.present);
			// What is older than two spans says nothing of today.
			self.past = if passed < length.saturating_mul(2u32.into()) {
				present
			} else {
				Span::default()
			};
			self.since = now;
		}
	}
}

impl<T: Config> Pallet<T> {
	/// Evidence of these validators is due from now on.
	pub(crate) fn reveals_due<'a>(
		now: BlockNumberFor<T>,
		members: impl Iterator<Item = &'a T::AccountId>,
	) where
		T::AccountId: 'a,
	{
		Reveals::<T>::mutate(|spans| {
			spans.turn(now);
			for index in members.filter_map(Indices::<T>::get) {
				count(&mut spans.present.due, index);
			}
		});
	}

	/// A validator has shown evidence.
	pub(crate) fn revealed(who: &T::AccountId) {
		if let Some(index) = Indices::<T>::get(who) {
			Reveals::<T>::mutate(|spans| count(&mut spans.present.made, index));
		}
	}

	/// Whether it is the network, not this or that validator, that shows no evidence.
	pub(crate) fn is_stalled() -> bool {
		let spans = Reveals::<T>::get();
		let of =
			|present: &BoundedBTreeMap<u32, u32, _>, past: &BoundedBTreeMap<u32, u32, _>, index| {
				let both = [present, past].map(|s| s.get(&index).copied().unwrap_or_default());
				u64::from(both[0]) + u64::from(both[1])
			};
		let due: BTreeSet<u32> = [&spans.present.due, &spans.past.due]
			.into_iter()
			.flat_map(|span| span.keys().copied())
			.collect();
		let shows_most = |index: &&u32| {
			let due = of(&spans.present.due, &spans.past.due, **index);
			let made = of(&spans.present.made, &spans.past.made, **index);
			made * 3 >= due * 2
		};
		let showing = due.iter().filter(shows_most).count();
		showing * 3 < due.len() * 2
	}
}
