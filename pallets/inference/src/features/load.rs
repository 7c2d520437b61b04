//! Capacity: how much work each validator of the session has been drawn for, and how much is promised to requests.
//!
//! Work is counted in thousandths of a block of the machine that does it: what the model's description gives for an answer
//! ([`consilience_primitives::model::TimeLimit::work`]), times what the validator has measured when it checked the model
//! ([`Speed`]). A request reserves what its executor and verifiers will need when it is taken, so that what was taken is
//! answered; what cannot be is refused.

use alloc::vec::Vec;
use consilience_primitives::{
	model::{Speed, TimeLimit},
	ModelId, RequestId,
};
use pallet_model_registry::{Server, Serving};
use polkadot_sdk::{
	frame_system::pallet_prelude::BlockNumberFor,
	sp_runtime::{traits::Get, Perbill},
};

use crate::{
	Assignment, Assignments, Config, Indices, Loads, Pallet, Places, RequestOf, Reserved,
	ReservedFor, Role, WorkOf,
};

/// A validator that serves a model.
pub(crate) type ServerOf<T> =
	Server<<T as polkadot_sdk::frame_system::Config>::AccountId, BlockNumberFor<T>>;

/// Work that those who serve a model can take, in thousandths of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
	/// If nobody had anything to do.
	pub(crate) whole: u64,
	/// What they were drawn for, or is promised, of it. Never more than all.
	pub(crate) taken: u64,
}

impl Capacity {
	/// What they can take now.
	pub(crate) fn free(&self) -> u64 {
		self.whole.saturating_sub(self.taken)
	}

	/// What is taken, in thousandths.
	pub(crate) fn per_mille(&self) -> u32 {
		let part = u128::from(self.taken) * 1_000 / u128::from(self.whole.max(1));
		part.min(1_000) as u32
	}

	/// How far above a half it is taken while so much work is taken beside the rest: nothing up to a half, one when all is taken, and the
	/// mean of that from here to there, so that who asks in parts pays the same.
	pub(crate) fn crowding(&self, work: u64) -> Perbill {
		let half = self.whole / 2;
		let above = |point: u64| u128::from(point.saturating_sub(half));
		let span = above(self.whole).max(1);
		let from = self.taken.min(self.whole);
		let to = from.saturating_add(work).min(self.whole);
		if from == to {
			return Perbill::from_rational(above(from), span);
		}
		let squares = above(to).pow(2).saturating_sub(above(from).pow(2));
		Perbill::from_rational(squares, 2 * span * u128::from(to - from))
	}

	/// Blocks after which there is expected to be room for so much work: what is taken now leaves evenly in the time in which a request
	/// is settled. At least one.
	pub(crate) fn room_in(&self, work: u64, settled_in: u32) -> u32 {
		let short = self
			.taken
			.saturating_add(work)
			.saturating_sub(self.whole)
			.min(self.taken);
		let blocks = u128::from(short) * u128::from(settled_in);
		let blocks = blocks.div_ceil(u128::from(self.taken.max(1)));
		u32::try_from(blocks).unwrap_or(u32::MAX).max(1)
	}
}

/// The session's validators by account, read once for the draws of a block.
pub(crate) struct Roster<AccountId>(Vec<(AccountId, u32)>);

impl<AccountId: Ord> Roster<AccountId> {
	/// Whether there is only one: nobody can check what it says.
	pub(crate) fn is_solo(&self) -> bool {
		self.0.len() == 1
	}

	pub(crate) fn len(&self) -> u64 {
		self.0.len() as u64
	}

	pub(crate) fn index(&self, who: &AccountId) -> Option<u32> {
		let place = self.0.binary_search_by(|(other, _)| other.cmp(who)).ok()?;
		Some(self.0[place].1)
	}
}

/// What is left of this work beside some of it; none where that is nothing.
fn left(all: Option<u64>, work: u32) -> Option<u64> {
	all?.checked_sub(work.into()).filter(|left| *left > 0)
}

impl<T: Config> Pallet<T> {
	pub(crate) fn roster() -> Roster<T::AccountId> {
		Roster(Places::<T>::get().into_inner())
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

	/// An executor has answered: of its work a measurement is left.
	pub(crate) fn answered(who: &T::AccountId, id: RequestId) {
		if let Some(Assignment { role, work }) = Assignments::<T>::get(who, id) {
			Self::assign(who, id, role, TimeLimit::measuring(work));
		}
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

	/// What those with these places in the session, who serve the model, can take. What is promised to requests for other models is taken to
	/// fall on all of the session's validators alike.
	pub(crate) fn capacity(model: ModelId, there: &[u32], session: u64) -> Capacity {
		let (loads, most) = (Loads::<T>::get(), T::MaxLoad::get());
		let (mut whole, mut taken) = (0u64, 0u64);
		for index in there {
			let load = loads.get(*index as usize).copied().unwrap_or_default();
			whole += u64::from(most);
			taken += u64::from(load.min(most));
		}
		let here = ReservedFor::<T>::get(model);
		let others = Reserved::<T>::get().saturating_sub(here);
		let part = others.saturating_mul(there.len() as u64) / session.max(1);
		let taken = taken.saturating_add(here).saturating_add(part).min(whole);
		Capacity { whole, taken }
	}

	/// Whether a request of so much work would be done in time with this capacity: beside what is promised already, and without giving one
	/// account more than half of what there is while others could ask too. A network with nothing to do takes any request.
	pub(crate) fn has_capacity(
		who: Option<&T::AccountId>,
		model: ModelId,
		capacity: &Capacity,
		work: u32,
	) -> bool {
		let whole = capacity.whole;
		if whole > 0 && capacity.taken == 0 {
			return true;
		}
		let own = who.map_or(0, |who| WorkOf::<T>::get(who, model));
		u64::from(work) <= capacity.free()
			&& (own == 0 || own.saturating_add(work.into()) <= whole / 2)
	}

	/// Adds a request's work to what its account has asked of the model.
	pub(crate) fn burden(who: &T::AccountId, model: ModelId, work: u32) {
		WorkOf::<T>::mutate(who, model, |all| *all = all.saturating_add(work.into()));
	}

	/// Takes a request's work from what its account has asked of the model.
	pub(crate) fn unburden(request: &RequestOf<T>) {
		WorkOf::<T>::mutate_exists(&request.requester, request.model, |all| {
			*all = left(*all, request.burden);
		});
	}

	/// Promises capacity to a request for the model.
	pub(crate) fn reserve(model: ModelId, work: u32) {
		Reserved::<T>::mutate(|all| *all = all.saturating_add(work.into()));
		ReservedFor::<T>::mutate(model, |all| *all = all.saturating_add(work.into()));
	}

	/// Gives back capacity that was promised to a request.
	pub(crate) fn unreserve(request: &mut RequestOf<T>, work: u32) {
		let work = work.min(request.reserved);
		if work == 0 {
			return;
		}
		request.reserved -= work;
		Reserved::<T>::mutate(|all| *all = all.saturating_sub(work.into()));
		ReservedFor::<T>::mutate_exists(request.model, |all| {
			*all = left(*all, work);
		});
	}
}
