//! Capacity: how much work each validator of the session has been drawn for, and how much is promised to requests.
//!
//! Work is counted in thousandths of a block of one machine ([`consilience_primitives::model::TimeLimit::work`]). A request
//! reserves what its executor and verifiers will need when it is taken, so that what was taken is answered; what cannot be is
//! refused.

use alloc::collections::BTreeMap;
use consilience_primitives::RequestId;
use pallet_model_registry::Serving;
use polkadot_sdk::sp_runtime::traits::Get;

use crate::{
	Assignment, Assignments, Config, Indices, Keys, Loads, OpenOf, Pallet, RequestOf, Reserved,
	Role,
};

/// A verifier's work as a part of the executor's: one pass over prompt and answer was measured at 0.13 to 0.19 of generating it.
const VERIFIER_PART: u32 = 4;

/// The session's validators by account, read once for the draws of a block.
pub(crate) struct Roster<AccountId>(BTreeMap<AccountId, u32>);

impl<AccountId: Ord> Roster<AccountId> {
	pub(crate) fn index(&self, who: &AccountId) -> Option<u32> {
		self.0.get(who).copied()
	}
}

impl<T: Config> Pallet<T> {
	pub(crate) fn roster() -> Roster<T::AccountId> {
		let keys = Keys::<T>::get().into_iter().zip(0..);
		Roster(keys.map(|((who, _), index)| (who, index)).collect())
	}

	/// Work of one member.
	pub(crate) fn work_of(request: &RequestOf<T>, role: Role) -> u32 {
		match role {
			Role::Executor => request.work,
			// A juror measures twice, in one pass.
			Role::Verifier | Role::Juror => request.work.div_ceil(VERIFIER_PART),
		}
	}

	/// Work of executor and verifiers together.
	pub(crate) fn whole_work(work: u32, verifiers: u8) -> u32 {
		let checks = work
			.div_ceil(VERIFIER_PART)
			.saturating_mul(verifiers.into());
		work.saturating_add(checks)
	}

	/// Adds a request to a validator's duties.
	pub(crate) fn assign(who: &T::AccountId, id: RequestId, role: Role, work: u32) {
		Self::unassign(who, id);
		Assignments::<T>::insert(who, id, Assignment { role, work });
		Self::add_load(who, |load| load.saturating_add(work));
	}

	/// Takes a request from a validator's duties.
	pub(crate) fn unassign(who: &T::AccountId, id: RequestId) {
		if let Some(assignment) = Assignments::<T>::take(who, id) {
			Self::add_load(who, |load| load.saturating_sub(assignment.work));
		}
	}

	fn add_load(who: &T::AccountId, change: impl FnOnce(u32) -> u32) {
		// Who left the session has duties, and no place among those who are drawn.
		if let Some(index) = Indices::<T>::get(who) {
			Loads::<T>::mutate(|loads| {
				if let Some(load) = loads.get_mut(index as usize) {
					*load = change(*load);
				}
			});
		}
	}

	/// Work that those who serve the model can take, if nobody had anything to do, and that they can take now.
	pub(crate) fn capacity(model: consilience_primitives::ModelId) -> (u64, u64) {
		let (roster, loads, most) = (Self::roster(), Loads::<T>::get(), T::MaxLoad::get());
		let (mut whole, mut free) = (0u64, 0u64);
		for server in Serving::<T>::get(model) {
			if let Some(index) = roster.index(&server.who) {
				let load = loads.get(index as usize).copied().unwrap_or_default();
				whole += u64::from(most);
				free += u64::from(most.saturating_sub(load));
			}
		}
		(whole, free.saturating_sub(Reserved::<T>::get()))
	}

	/// Whether a request of so much work would be done in time: beside what is promised already, and without giving one account more
	/// than half of what there is while others could ask too. A network with nothing to do takes any request.
	pub(crate) fn has_capacity(
		who: Option<&T::AccountId>,
		model: consilience_primitives::ModelId,
		work: u32,
	) -> bool {
		let (whole, free) = Self::capacity(model);
		if whole > 0 && free == whole {
			return true;
		}
		let own = who.map_or(0, |who| OpenOf::<T>::get(who).work);
		u64::from(work) <= free && (own == 0 || own.saturating_add(work.into()) <= whole / 2)
	}

	/// Takes a request's work from what its account has asked for.
	pub(crate) fn unburden(request: &RequestOf<T>) {
		let whole = Self::whole_work(request.work, request.verifiers);
		OpenOf::<T>::mutate_exists(&request.requester, |open| {
			if let Some(open) = open {
				open.work = open.work.saturating_sub(whole.into());
			}
		});
	}

	/// Gives back capacity that was promised to a request.
	pub(crate) fn unreserve(request: &mut RequestOf<T>, work: u32) {
		let work = work.min(request.reserved);
		request.reserved -= work;
		Reserved::<T>::mutate(|all| *all = all.saturating_sub(work.into()));
	}
}
