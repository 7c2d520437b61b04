//! What clients and workers are shown, and the invariants of storage.

use alloc::vec::Vec;
use consilience_primitives::{
	crypto::InferenceId,
	session::{
		CertificateDue, ChannelId, ChannelView, LaneKey, LaneView, OpeningDue, Service, MAX_POINTS,
	},
	ModelId,
};
use pallet_inference::SessionValidators;
use pallet_model_registry::Serving;
use polkadot_sdk::{
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::traits::{Get, Saturating},
	sp_staking::SessionIndex,
};

use crate::{
	BalanceOf, Certificates, Channels, ChannelsOf, Claims, ClaimsOf, Config, Pallet, PointState,
};

/// A channel of runtime `T` as it is shown.
type ViewOf<T> = ChannelView<
	<T as polkadot_sdk::frame_system::Config>::AccountId,
	BlockNumberFor<T>,
	BalanceOf<T>,
>;

impl<T: Config> Pallet<T> {
	/// A channel, until everything in it is paid or returned.
	pub fn channel(id: ChannelId) -> Option<ViewOf<T>> {
		let channel = Channels::<T>::get(id)?;
		Some(ChannelView {
			id,
			owner: channel.owner,
			key: channel.key,
			chain: channel.chain,
			seed: channel.seed,
			closes_at: channel.closes_at,
			pot: channel.pot,
			allocations: channel.allocations.into_inner(),
			pending: channel.pending,
		})
	}

	/// An account's channels, the oldest first.
	pub fn channels_of(owner: &T::AccountId) -> Vec<ViewOf<T>> {
		ChannelsOf::<T>::get(owner)
			.into_iter()
			.filter_map(Self::channel)
			.collect()
	}

	/// Validators of the session that serve the model and take requests in this lane.
	pub fn lanes(model: ModelId) -> Vec<LaneView<T::AccountId>> {
		let present = T::Validators::session();
		Serving::<T>::get(model)
			.into_iter()
			.map(|server| server.who)
			.filter(T::Validators::contains)
			.filter_map(|validator| {
				// When a session begins nobody has certified in it yet.
				let sessions = [Some(present), present.checked_sub(1)];
				sessions.into_iter().flatten().find_map(|session| {
					let certified = Certificates::<T>::get(session, &validator)?;
					Some(LaneView {
						validator: validator.clone(),
						session,
						key: *certified.keys.last()?,
						endpoint: certified.endpoint,
					})
				})
			})
			.collect()
	}

	/// The lane key that a validator has certified in a session, the last if there are several.
	pub fn lane_key(validator: &T::AccountId, session: SessionIndex) -> Option<LaneKey> {
		Certificates::<T>::get(session, validator)?
			.keys
			.last()
			.copied()
	}

	/// All lane keys that a validator has certified in a session, the last in use. What each of them has signed as of this session is its word.
	pub fn lane_keys(validator: &T::AccountId, session: SessionIndex) -> Vec<LaneKey> {
		Certificates::<T>::get(session, validator)
			.map(|certified| certified.keys.into_inner())
			.unwrap_or_default()
	}

	/// What the validator with this session key has to certify.
	pub fn certificate_due(key: &InferenceId) -> Option<CertificateDue<T::AccountId>> {
		let (index, validator) = T::Validators::with_key(key)?;
		let session = T::Validators::session();
		let certified = Certificates::<T>::get(session, &validator)
			.and_then(|certified| Some((*certified.keys.last()?, certified.endpoint)));
		Some(CertificateDue {
			session,
			index,
			validator,
			certified,
		})
	}

	/// Receipts that the validator has to open, the most urgent first.
	pub fn openings_due(
		validator: &T::AccountId,
	) -> Vec<OpeningDue<BlockNumberFor<T>, BalanceOf<T>>> {
		let now = frame_system::Pallet::<T>::block_number();
		let mut due: Vec<_> = ClaimsOf::<T>::iter_key_prefix(validator)
			.filter_map(|id| Some((id, Claims::<T>::get(id)?)))
			.filter_map(|(id, claim)| Some((id, claim.deadline.filter(|at| *at >= now)?, claim)))
			.flat_map(|(id, deadline, claim)| {
				let points = (0..).zip(claim.points.into_inner());
				points
					.filter(|(_, point)| point.state == PointState::Due)
					.map(move |(place, point)| OpeningDue {
						claim: id,
						point: place,
						channel: claim.channel,
						root: claim.root,
						count: claim.count,
						offset: point.offset,
						deadline,
					})
			})
			.collect();
		due.sort_by_key(|opening| (opening.deadline, opening.claim, opening.point));
		due
	}

	/// The least and the most that a claim may come to.
	pub fn claim_bounds() -> (BalanceOf<T>, BalanceOf<T>) {
		let most = T::PointInterval::get().saturating_mul(MAX_POINTS.into());
		(T::MinClaim::get(), most)
	}

	/// What the payee has claimed of the channel for this service; nothing where there is no such channel or allotment.
	pub fn claimed(channel: ChannelId, payee: &T::AccountId, service: Service) -> BalanceOf<T> {
		Channels::<T>::get(channel)
			.and_then(|details| Self::claimed_of(channel, &details, payee, service))
			.unwrap_or_default()
	}

	/// Checks that money in is money held, pending, paid and returned; that queues and lists follow from channels and claims; and that
	/// nothing is left behind.
	#[cfg(any(feature = "std", feature = "try-runtime"))]
	pub fn do_try_state() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use crate::{
			features::channel::{allotments_mut, unclaimed},
			Audits, Checked, Draw, DrawRange, Draws, EndRange, Ends, FirstSession, HoldReason,
			Shown, Unaudited, Windows, MAX_CERTIFICATES,
		};
		use alloc::collections::{BTreeMap, BTreeSet};
		use polkadot_sdk::{
			frame_support::{ensure, traits::fungible::InspectHold},
			sp_runtime::traits::Zero,
		};

		let mut held = BTreeMap::<T::AccountId, BalanceOf<T>>::new();
		let mut owned = BTreeMap::<T::AccountId, BTreeSet<ChannelId>>::new();
		let mut of_channel = BTreeMap::<ChannelId, (u32, BalanceOf<T>)>::new();
		let mut opened = BTreeMap::new();
		let mut unaudited = BTreeMap::<T::AccountId, BalanceOf<T>>::new();
		let now = frame_system::Pallet::<T>::block_number();
		let queue = |(first, end): (u64, u64)| first..end;
		let draws: Vec<_> = queue(DrawRange::<T>::get())
			.filter_map(Draws::<T>::get)
			.collect();
		ensure!(
			draws.len() == queue(DrawRange::<T>::get()).count()
				&& draws.len() == Draws::<T>::iter_keys().count(),
			"the queue of draws has a gap, or something outside"
		);
		let windows = Windows::<T>::get();
		ensure!(
			windows.is_sorted_by_key(|window| window.from)
				&& draws.is_sorted_by_key(|(from, _)| *from)
				&& windows
					.iter()
					.all(|window| draws.iter().any(|(from, _)| *from == window.from))
				&& draws
					.iter()
					.all(|(from, _)| windows.iter().any(|window| window.from == *from)),
			"windows are not those for which something waits"
		);
		let ends: Vec<_> = queue(EndRange::<T>::get())
			.filter_map(Ends::<T>::get)
			.collect();
		ensure!(
			ends.len() == queue(EndRange::<T>::get()).count()
				&& ends.len() == Ends::<T>::iter_keys().count(),
			"the queue of ends has a gap, or something outside"
		);
		for (id, claim) in Claims::<T>::iter() {
			let waits = draws.iter().filter(|(_, d)| *d == Draw::Points(id)).count();
			let ending = ends.iter().filter(|other| **other == id).count();
			ensure!(
				ClaimsOf::<T>::contains_key(&claim.payee, id),
				"a claim that its payee does not know"
			);
			ensure!(
				waits == usize::from(claim.deadline.is_none())
					&& ending == usize::from(claim.deadline.is_some() && !claim.over),
				"a claim that never ends, or ends twice"
			);
			ensure!(
				!claim.over
					|| claim
						.points
						.iter()
						.any(|p| matches!(p.state, PointState::Measured(_))),
				"a claim waits for nothing"
			);
			let offsets: BTreeSet<_> = claim.points.iter().map(|point| point.offset).collect();
			ensure!(
				offsets.len() == claim.points.len()
					&& offsets.last().is_none_or(|last| *last < claim.root.sum)
					&& claim.claimed_at <= now,
				"a point lies outside of its claim"
			);
			for request in claim.points.iter().filter_map(|p| p.state.request()) {
				opened.insert(request, (id, claim.channel, claim.payee.clone()));
			}
			if claim.service == Service::Answer {
				let sum = unaudited.entry(claim.payee.clone()).or_default();
				*sum = sum.saturating_add(claim.root.sum);
			}
			let of = of_channel.entry(claim.channel).or_default();
			of.0 += 1;
			of.1 = of.1.saturating_add(claim.root.sum);
		}
		ensure!(
			Unaudited::<T>::iter().collect::<BTreeMap<_, _>>() == unaudited,
			"what is not audited of a payee's claims"
		);
		ensure!(
			ClaimsOf::<T>::iter_keys().count() == Claims::<T>::iter_keys().count(),
			"a payee has a claim that has ended"
		);
		ensure!(
			Audits::<T>::iter_keys().count() == opened.len()
				&& Shown::<T>::iter_keys().count() == opened.len(),
			"something of a forgotten opening is left"
		);
		for (request, audit) in Audits::<T>::iter() {
			let (claim, channel, payee) = opened.get(&request).ok_or("an opening of no claim")?;
			ensure!(
				audit.claim == *claim && Shown::<T>::contains_key((*channel, payee, audit.number)),
				"an opening of another claim"
			);
		}
		for (id, mut channel) in Channels::<T>::iter() {
			owned.entry(channel.owner.clone()).or_default().insert(id);
			let mut left = BalanceOf::<T>::zero();
			for allotment in allotments_mut::<T>(&mut channel) {
				ensure!(
					allotment.claimed <= allotment.amount
						&& allotment.lowering.is_none_or(|l| !l.by.is_zero()),
					"more is claimed than is set apart"
				);
				left = left.saturating_add(unclaimed::<T>(allotment));
			}
			let (claims, pending) = of_channel.remove(&id).unwrap_or_default();
			ensure!(
				channel.claims == claims && channel.pending == pending,
				"a channel's claims"
			);
			ensure!(
				!channel.withdrawn || (claims > 0 && left.is_zero() && channel.checkers == 0),
				"a channel in which nothing is left is kept"
			);
			let money = left
				.saturating_add(pending)
				.saturating_add(channel.paid)
				.saturating_add(channel.refunded);
			ensure!(
				money == channel.deposited,
				"money in is not held, pending, paid and returned"
			);
			let sum = held.entry(channel.owner).or_default();
			*sum = sum.saturating_add(left).saturating_add(pending);
			let checked: Vec<_> = Checked::<T>::iter_prefix_values(id).collect();
			let of_checkers = checked
				.iter()
				.fold(BalanceOf::<T>::zero(), |sum, n| sum.saturating_add(*n));
			ensure!(
				checked.len() as u32 == channel.checkers
					&& (channel.withdrawn || of_checkers == channel.pot.claimed),
				"what checkers have claimed"
			);
		}
		ensure!(of_channel.is_empty(), "a claim of a channel that is gone");
		ensure!(
			Checked::<T>::iter_keys().all(|(id, _)| Channels::<T>::contains_key(id)),
			"checkers of a channel that is gone"
		);
		for (owner, list) in ChannelsOf::<T>::iter() {
			let list: BTreeSet<_> = list.into_iter().collect();
			ensure!(owned.get(&owner) == Some(&list), "an account's channels");
		}
		ensure!(
			owned.len() == ChannelsOf::<T>::iter_keys().count(),
			"an account does not know its channels"
		);
		for (owner, sum) in held {
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::Channel.into(), &owner) == sum,
				"channels and holds differ"
			);
		}
		let (first, present) = (FirstSession::<T>::get(), T::Validators::session());
		for (session, _, certified) in Certificates::<T>::iter() {
			ensure!(
				(first..=present).contains(&session)
					&& !certified.keys.is_empty()
					&& certified.times <= MAX_CERTIFICATES,
				"a certificate that is never forgotten, or of no key"
			);
		}
		Ok(())
	}
}
