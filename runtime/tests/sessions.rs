//! Sessions and eras pass: validators are elected again, and keep their keys; and what the inference pallet reports costs stake.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use common::{block, chain};
use consilience_runtime::{
	configs::staking::SESSIONS_PER_ERA, Inference, Runtime, Staking, System,
	EPOCH_DURATION_IN_SLOTS, UNIT,
};
use polkadot_sdk::*;
use sp_runtime::Perbill;

#[test]
fn validators_and_their_keys_last_over_sessions_and_eras() {
	chain("local_testnet").execute_with(|| {
		let validators = pallet_session::Validators::<Runtime>::get();
		let keys = pallet_inference::Keys::<Runtime>::get();
		let mut parent = System::block_hash(0);
		System::set_block_number(0);
		let first_slot = 1_000_000;
		let eras = 3;
		// A block an epoch: every block begins a session.
		for epoch in 0..=eras * u64::from(SESSIONS_PER_ERA) {
			parent = block(
				epoch as u32 + 1,
				parent,
				first_slot + epoch * EPOCH_DURATION_IN_SLOTS,
			);
			assert_eq!(pallet_session::Validators::<Runtime>::get(), validators);
			assert_eq!(pallet_inference::Keys::<Runtime>::get(), keys);
		}
		let active = pallet_staking::ActiveEra::<Runtime>::get().map(|era| era.index);
		assert!(active >= Some(eras as u32 - 1), "{active:?}");
		// Elections count in 64 bits, which rounds.
		let stake = Staking::eras_total_stake(1);
		assert!(stake.abs_diff(4 * 1_000_000 * UNIT) < 1_000, "{stake}");
		assert!(Inference::duties(&keys[3].1).is_some());
	});
}

#[test]
fn a_reported_lie_costs_stake_and_disables() {
	chain("local_testnet").execute_with(|| {
		System::set_block_number(0);
		let mut parent = System::block_hash(0);
		let first_slot = 1_000_000;
		parent = block(1, parent, first_slot);
		parent = block(2, parent, first_slot + EPOCH_DURATION_IN_SLOTS);
		let (liar, _) = pallet_inference::Keys::<Runtime>::get()[2].clone();
		let offence = pallet_inference::PendingOffence {
			request: 7,
			offender: liar.clone(),
			kind: pallet_inference::OffenceKind::FraudulentResult,
			session: pallet_session::CurrentIndex::<Runtime>::get(),
			fraction: Perbill::from_percent(10),
		};
		pallet_inference::OffenceQueue::<Runtime>::insert(0, offence);
		pallet_inference::OffenceRange::<Runtime>::put((0, 1));
		// The queue is worked off when the block begins, and staking computes the slash in one of the next.
		for n in 3..8 {
			parent = block(
				n,
				parent,
				first_slot + EPOCH_DURATION_IN_SLOTS + u64::from(n),
			);
		}
		assert_eq!(pallet_inference::OffenceRange::<Runtime>::get(), (1, 1));
		assert_eq!(pallet_offences::Reports::<Runtime>::iter().count(), 1);
		let slashes: Vec<_> = pallet_staking::UnappliedSlashes::<Runtime>::iter_values()
			.flatten()
			.map(|slash| (slash.validator, slash.own))
			.collect();
		assert_eq!(slashes, [(liar, 100_000 * UNIT)]);
		assert!(pallet_session::Pallet::<Runtime>::disabled_validators().contains(&2));
	});
}
