//! Whether reveals come at all. Members show evidence only once the commitments are final, and the runtime cannot see finality:
//! it sees how many of those whose evidence was due have shown any, over all rounds of the last spans of
//! [`Config::RevealBlocks`]. Where fewer than two thirds have, it is the network that is late, and nobody is blamed; whoever is
//! alone in revealing, early and to make everybody else look like a withholder, does not change that.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::{
	frame_support::{
		storage::bounded_btree_set::BoundedBTreeSet, CloneNoBound, DebugNoBound, DefaultNoBound,
	},
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::traits::{Get, Saturating},
};
use scale_info::TypeInfo;

use crate::{Config, Indices, Pallet, Reveals};

/// Places in the session of validators whose evidence was due, and of those who have shown some.
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
	/// Whose evidence was due.
	pub due: BoundedBTreeSet<u32, T::MaxValidators>,
	/// Who has shown some.
	pub made: BoundedBTreeSet<u32, T::MaxValidators>,
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
				// As many places as there are validators.
				let _ = spans.present.due.try_insert(index);
			}
		});
	}

	/// A validator has shown evidence.
	pub(crate) fn revealed(who: &T::AccountId) {
		if let Some(index) = Indices::<T>::get(who) {
			Reveals::<T>::mutate(|spans| {
				let _ = spans.present.made.try_insert(index);
			});
		}
	}

	/// Whether it is the network, not this or that validator, that shows no evidence.
	pub(crate) fn is_stalled() -> bool {
		let spans = Reveals::<T>::get();
		let due: alloc::collections::BTreeSet<u32> = spans
			.present
			.due
			.iter()
			.chain(spans.past.due.iter())
			.copied()
			.collect();
		let made = due
			.iter()
			.filter(|i| spans.present.made.contains(i) || spans.past.made.contains(i))
			.count();
		made * 3 < due.len() * 2
	}
}
