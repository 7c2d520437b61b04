//! Capacity: how much work each validator of the session has been drawn for, and how much is promised to requests.
//!
//! Work is counted in thousandths of a block of the machine that does it: what the model's description gives for an answer
//! ([`consilience_primitives::model::TimeLimit::work`]), times what the validator has measured when it checked the model
//! ([`Speed`]). A request reserves what its executor and verifiers will need when it is taken, so that what was taken is
//! answered; what cannot be is refused.

use alloc::{collections::BTreeMap, vec::Vec};
use consilience_primitives::{
	model::{Speed, TimeLimit},
	RequestId,
};
use pallet_model_registry::{Server, Serving};
use polkadot_sdk::{frame_system::pallet_prelude::BlockNumberFor, sp_runtime::traits::Get};

use crate::{
	Assignment, Assignments, Config, Indices, Keys, Loads, OpenOf, Pallet, RequestOf, Reserved,
	Role,
};

/// A validator that serves a model.
type ServerOf<T> = Server<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>>;

/// The session's validators by account, read once for the draws of a block.
pub(crate) struct Roster<AccountId>(BTreeMap<AccountId, u32>);

impl<AccountId: Ord> Roster<AccountId> {
	/// Whether there is only one: nobody can check what it says.
	pub(crate) fn is_solo(&self) -> bool {
		self.0.len() == 1
	}

	pub(crate) fn index(&self, who: &AccountId) -> Option<u32> {
		self.0.get(who).copied()
	}
}

impl<T: Config> Pallet<T> {
	pub(crate) fn roster() -> Roster<T::AccountId> {
		let keys = Keys::<T>::get().into_iter().zip(0..);
		Roster(keys.map(|((who, _), index)| (who, index)).collect())
	}

	/// Work of one member on a machine of this speed.
	pub(crate) fn work_of(request: &RequestOf<T>, role: Role, speed: Speed) -> u32 {
		speed.work(match role {
			Role::Executor => request.work,
			// A juror measures twice, in one pass.
			Role::Verifier | Role::Juror => TimeLimit::measuring(request.work),
		})
	}

	/// Gives members of a request their work, each as its machine is fast.
	pub(crate) fn assign_all(
		who: &[T::AccountId],
		id: RequestId,
		request: &mut RequestOf<T>,
		role: Role,
	) {
		let serving = Serving::<T>::get(request.model);
		for member in who {
			let server = serving.iter().find(|server| server.who == *member);
			let speed = server.map(|server| server.speed).unwrap_or_default();
			let work = Self::work_of(request, role, speed);
			Self::unreserve(request, work);
			Self::assign(member, id, role, work);
		}
	}

	/// Work of executor and verifiers together, on machines like the one in the middle of these.
	pub(crate) fn whole_work(serving: &[ServerOf<T>], work: u32, verifiers: u8) -> u32 {
		let middle = |of: fn(&Speed) -> u32| {
			let mut all: Vec<_> = serving.iter().map(|server| of(&server.speed)).collect();
			all.sort_unstable();
			all.get(all.len() / 2).copied()
		};
		let usual = Speed::default();
		let speed = Speed {
			pace: middle(|speed| speed.pace).unwrap_or(usual.pace),
			duty: middle(|speed| speed.duty).unwrap_or(usual.duty),
		};
		let checks = speed
			.work(TimeLimit::measuring(work))
			.saturating_mul(verifiers.into());
		speed.work(work).saturating_add(checks)
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

	/// Work that those with these places in the session can take, if nobody had anything to do, and that they can take now.
	pub(crate) fn capacity(there: &[u32]) -> (u64, u64) {
		let (loads, most) = (Loads::<T>::get(), T::MaxLoad::get());
		let (mut whole, mut free) = (0u64, 0u64);
		for index in there {
			let load = loads.get(*index as usize).copied().unwrap_or_default();
			whole += u64::from(most);
			free += u64::from(most.saturating_sub(load));
		}
		(whole, free.saturating_sub(Reserved::<T>::get()))
	}

	/// Whether a request of so much work would be done in time by those with these places in the session: beside what is promised already, and
	/// without giving one account more than half of what there is while others could ask too. A network with nothing to do takes any
	/// request.
	pub(crate) fn has_capacity(who: Option<&T::AccountId>, there: &[u32], work: u32) -> bool {
		let (whole, free) = Self::capacity(there);
		if whole > 0 && free == whole {
			return true;
		}
		let own = who.map_or(0, |who| OpenOf::<T>::get(who).work);
		u64::from(work) <= free && (own == 0 || own.saturating_add(work.into()) <= whole / 2)
	}

	/// Takes a request's work from what its account has asked for.
	pub(crate) fn unburden(request: &RequestOf<T>) {
		let whole = request.burden;
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
