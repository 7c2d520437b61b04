//! Machines that differ: drawn no more for a model, for longer each time, and never slashed for it.

use consilience_primitives::ModelId;
use polkadot_sdk::frame_support::traits::ValidatorSet;

use crate::{Bar, Barred, Config, Pallet};

/// Sessions for which it is remembered how often a machine differed.
const MEMORY: u32 = 64;

/// Most by which a bar doubles.
const MOST_DOUBLED: u8 = 8;

impl<T: Config> Pallet<T> {
	/// Keeps a validator from serving a model until the next session, or the second after it, or the fourth, and so on.
	pub(crate) fn bar(who: &T::AccountId, model: ModelId) {
		Self::stop_serving(who, model);
		let session = T::ValidatorSet::session_index();
		Barred::<T>::mutate(who, model, |bar| {
			let times = bar.map_or(0, |b| b.times);
			let sessions = 1u32 << times.min(MOST_DOUBLED);
			*bar = Some(Bar {
				until: session.saturating_add(sessions),
				times: times.saturating_add(1),
			});
		});
	}

	/// Takes back the last time that a machine was found to differ.
	pub(crate) fn unbar(who: &T::AccountId, model: ModelId) {
		Barred::<T>::mutate_exists(who, model, |bar| {
			*bar = bar.take().and_then(|b| {
				let times = b.times.checked_sub(1).filter(|times| *times > 0)?;
				Some(Bar { until: 0, times })
			});
		});
	}

	/// Keeps a validator from serving a model until the next session, which counts for nothing later.
	pub(crate) fn keep_away(who: &T::AccountId, model: ModelId) {
		let next = T::ValidatorSet::session_index().saturating_add(1);
		Barred::<T>::mutate(who, model, |bar| {
			let Bar { until, times } = bar.unwrap_or(Bar { until: 0, times: 0 });
			*bar = Some(Bar {
				until: until.max(next),
				times,
			});
		});
	}

	/// Whether a validator may not serve a model yet.
	pub(crate) fn is_barred(who: &T::AccountId, model: ModelId) -> bool {
		Barred::<T>::get(who, model).is_some_and(|bar| bar.until > T::ValidatorSet::session_index())
	}

	/// Forgets machines that have not differed for long.
	pub(crate) fn forget_bars() {
		let session = T::ValidatorSet::session_index();
		// As many at most as validators serve models.
		Barred::<T>::translate::<Bar, _>(|_, _, bar| {
			(bar.until.saturating_add(MEMORY) > session).then_some(bar)
		});
	}
}
