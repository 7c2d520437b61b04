//! What a deed costs, with the real staking, sessions and offences: whoever leaves is slashed, and deeds add up.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use common::{block, chain};
use consilience_runtime::{
	configs::staking::{
		PastStake, BONDING_DURATION, HISTORY_DEPTH, SESSIONS_PER_ERA, SLASH_DEFER_DURATION,
	},
	AccountId, Balance, Balances, BlockNumber, Hash, Historical, Inference, Runtime, RuntimeEvent,
	RuntimeOrigin, Staking, System, EPOCH_DURATION_IN_SLOTS, UNIT,
};
use frame_support::{
	assert_ok,
	traits::fungible::{Inspect, Mutate},
};
use pallet_inference::{
	OffenceKind::{self, *},
	OffenceRange, StakeHistory,
};
use pallet_staking::{RewardDestination, ValidatorPrefs};
use polkadot_sdk::*;
use sp_runtime::Perbill;
use sp_staking::EraIndex;

/// Stake of a validator of the preset.
const STAKE: Balance = 1_000_000 * UNIT;
/// What a lie costs it.
const LIE: Balance = STAKE / 10;

/// A chain whose blocks are as far from one another as is asked for.
struct Chain {
	number: BlockNumber,
	parent: Hash,
	slot: u64,
}

impl Chain {
	/// In its second session.
	fn begin() -> Self {
		System::set_block_number(0);
		let mut chain = Self {
			number: 0,
			parent: System::block_hash(0),
			slot: 1_000_000,
		};
		chain.next(0);
		chain.session();
		chain
	}

	fn next(&mut self, slots: u64) {
		self.number += 1;
		self.slot += slots;
		self.parent = block(self.number, self.parent, self.slot);
	}

	/// Begins the next session.
	fn session(&mut self) {
		self.next(EPOCH_DURATION_IN_SLOTS);
	}

	/// Goes on to the first session of an era.
	fn era(&mut self, era: EraIndex) {
		while active_era() < era {
			self.session();
		}
		assert_eq!(active_era(), era);
	}

	/// Goes on to an era that is far away: until then each session is one.
	fn far_era(&mut self, era: EraIndex) {
		assert_ok!(Staking::force_new_era_always(RuntimeOrigin::root()));
		self.era(era - 1);
		pallet_staking::ForceEra::<Runtime>::put(pallet_staking::Forcing::NotForcing);
		self.era(era);
	}

	/// Goes on to the last session of the active era.
	fn last_session(&mut self) {
		let era = active_era();
		// A new era is planned a session before it begins, and with it its first session is known.
		while pallet_staking::ErasStartSessionIndex::<Runtime>::get(era + 1) != Some(session() + 1)
		{
			self.session();
			assert_eq!(active_era(), era);
		}
	}

	/// Has staking hear of every offence.
	fn reported(&mut self) {
		while queued() > 0 {
			self.next(1);
		}
	}
}

/// Offences of which staking has not heard yet.
fn queued() -> u64 {
	let (first, end) = OffenceRange::<Runtime>::get();
	end - first
}

fn active_era() -> EraIndex {
	pallet_staking::ActiveEra::<Runtime>::get().unwrap().index
}

fn session() -> u32 {
	pallet_session::CurrentIndex::<Runtime>::get()
}

fn validator(place: usize) -> AccountId {
	pallet_session::Validators::<Runtime>::get()[place].clone()
}

/// All that is to be slashed, from validators and nominators.
fn pending(who: &AccountId) -> Balance {
	pallet_staking::UnappliedSlashes::<Runtime>::iter_values()
		.flatten()
		.flat_map(|slash| core::iter::once((slash.validator, slash.own)).chain(slash.others))
		.filter(|(stash, _)| stash == who)
		.map(|(_, amount)| amount)
		.sum()
}

/// Elections count in 64 bits, which rounds.
#[track_caller]
fn near(amount: Balance, expected: Balance) {
	assert!(
		amount.abs_diff(expected) < 1_000,
		"{amount}, expected {expected}"
	);
}

fn disabled() -> Vec<u32> {
	pallet_session::Pallet::<Runtime>::disabled_validators()
}

fn is_validator(who: &AccountId) -> bool {
	pallet_session::Validators::<Runtime>::get().contains(who)
}

fn offend(request: u64, who: &AccountId, kind: OffenceKind, session: u32) {
	Inference::offend_at(request, who, kind, session);
}

fn run(test: impl FnOnce(Chain)) {
	chain("local_testnet").execute_with(|| {
		test(Chain::begin());
		Inference::do_try_state().unwrap();
	});
}

/// A new validator with this stake, elected in the next era but one at the latest.
fn join(seed: u8, stake: Balance) -> AccountId {
	let stash = AccountId::new([seed; 32]);
	Balances::mint_into(&stash, stake + 10 * UNIT).unwrap();
	let origin = || RuntimeOrigin::signed(stash.clone());
	assert_ok!(Staking::bond(origin(), stake, RewardDestination::Stash));
	let pair = sp_core::sr25519::Pair::from_seed(&[seed; 32]);
	let grandpa = sp_core::ed25519::Pair::from_seed(&[seed; 32]);
	use sp_core::Pair;
	let keys = consilience_runtime::SessionKeys {
		babe: pair.public().into(),
		grandpa: grandpa.public().into(),
		authority_discovery: pair.public().into(),
		inference: pair.public().into(),
	};
	// The proof of ownership is pallet-session's own business.
	pallet_session::NextKeys::<Runtime>::insert(&stash, keys);
	assert_ok!(Staking::validate(origin(), ValidatorPrefs::default()));
	assert_ok!(Staking::set_validator_count(
		RuntimeOrigin::root(),
		pallet_staking::ValidatorCount::<Runtime>::get() + 1
	));
	stash
}

#[test]
fn who_lies_in_the_last_blocks_of_an_era_and_leaves_is_slashed() {
	run(|mut chain| {
		let liar = join(9, STAKE);
		chain.era(3);
		assert!(is_validator(&liar));
		// Chilled when the next era is not planned yet; it lies while it is still a validator.
		assert_ok!(Staking::chill(RuntimeOrigin::signed(liar.clone())));
		chain.last_session();
		assert!(is_validator(&liar));
		let (era, deed) = (active_era(), session());
		chain.era(era + 1);
		assert!(!is_validator(&liar), "it is not elected again");
		// Its stake is on the way out.
		assert_ok!(Staking::unbond(RuntimeOrigin::signed(liar.clone()), STAKE));
		offend(1, &liar, FraudulentResult, deed);
		chain.reported();
		near(pending(&liar), LIE);
		let reported = RuntimeEvent::Staking(pallet_staking::Event::SlashReported {
			validator: liar.clone(),
			fraction: Perbill::from_percent(10),
			slash_era: era,
		});
		System::assert_has_event(reported);
		// Applied to what is unbonding.
		let before = Balances::total_balance(&liar);
		chain.far_era(era + SLASH_DEFER_DURATION + 1);
		near(pending(&liar), 0);
		near(before - Balances::total_balance(&liar), LIE);
	});
}

#[test]
fn whoever_was_lied_to_is_compensated_when_staking_applies_the_slash_and_not_before() {
	run(|mut chain| {
		chain.era(1);
		let (liar, acquitted) = (validator(0), validator(1));
		let requester = AccountId::new([7; 32]);
		let fund = consilience_runtime::configs::inference::JuryFundAccount::get();
		let owed = 2 * UNIT;
		Inference::owe(&liar, 1, [(requester.clone(), owed)]);
		Inference::owe(&acquitted, 2, [(requester.clone(), owed)]);
		let era = active_era();
		offend(1, &liar, FraudulentResult, session());
		chain.reported();
		// Governance finds that one was no lie.
		offend(2, &acquitted, FraudulentResult, session());
		chain.reported();
		chain.far_era(era + SLASH_DEFER_DURATION);
		assert_ok!(Staking::cancel_deferred_slash(
			RuntimeOrigin::root(),
			era + SLASH_DEFER_DURATION + 1,
			vec![1]
		));
		assert_eq!(Balances::total_balance(&requester), 0);
		let before = Balances::total_balance(&fund);
		chain.era(era + SLASH_DEFER_DURATION + 1);
		chain.next(1);
		chain.next(1);
		near(pending(&liar), 0);
		assert_eq!(Balances::total_balance(&requester), owed);
		near(Balances::total_balance(&fund), before + LIE - owed);
	});
}

#[test]
fn two_lies_in_an_era_cost_twice_and_the_second_adds_to_the_first_only() {
	run(|mut chain| {
		chain.era(1);
		let (liar, other) = (validator(0), validator(1));
		let now = session();
		for request in 0..2 {
			offend(request, &liar, FraudulentResult, now);
		}
		// In the same request.
		offend(1, &other, FraudulentEvidence, now);
		chain.reported();
		near(pending(&liar), 2 * LIE);
		near(pending(&other), LIE);
		// And in another session of the era.
		chain.session();
		assert_eq!(active_era(), 1);
		offend(2, &liar, FraudulentResult, session());
		chain.reported();
		near(pending(&liar), 3 * LIE);
		near(pending(&other), LIE);
	});
}

#[test]
fn a_second_offender_of_a_request_does_nothing_to_the_first() {
	run(|mut chain| {
		chain.era(1);
		let (first, second) = (validator(0), validator(1));
		let now = session();
		offend(7, &first, WithheldReveal, now);
		offend(6, &second, FraudulentResult, now);
		offend(7, &second, WithheldReveal, now);
		chain.reported();
		near(pending(&first), STAKE / 100);
		near(pending(&second), LIE + STAKE / 100);
		assert_eq!(pallet_offences::Reports::<Runtime>::iter().count(), 3);
		// The same deed a second time is no deed.
		offend(7, &second, WithheldReveal, now);
		chain.reported();
		near(pending(&second), LIE + STAKE / 100);
	});
}

#[test]
fn everything_is_the_most_that_lies_cost() {
	run(|mut chain| {
		chain.era(1);
		let (liar, now) = (validator(0), session());
		for request in 0..12 {
			offend(request, &liar, FraudulentResult, now);
		}
		chain.reported();
		near(pending(&liar), STAKE);
	});
}

#[test]
fn lies_of_several_eras_that_are_found_late_add_up_in_their_span() {
	run(|mut chain| {
		chain.era(1);
		let liar = validator(0);
		let first = session();
		chain.era(2);
		let second = session();
		chain.era(3);
		// The first slash ends the span of all eras up to this one. Of the lies in it staking takes the largest.
		offend(1, &liar, FraudulentResult, first);
		chain.reported();
		near(pending(&liar), LIE);
		offend(2, &liar, FraudulentResult, second);
		offend(3, &liar, FraudulentResult, session());
		chain.reported();
		near(pending(&liar), 3 * LIE);
		// And one more of the first era, which is older than what was charged last.
		offend(4, &liar, FraudulentResult, first);
		chain.reported();
		near(pending(&liar), 4 * LIE);
	});
}

#[test]
fn a_lie_in_a_new_span_costs_once() {
	run(|mut chain| {
		chain.era(1);
		let liar = validator(0);
		for request in 0..3 {
			offend(request, &liar, FraudulentResult, session());
		}
		chain.reported();
		near(pending(&liar), 3 * LIE);
		let span = |who: &AccountId| {
			pallet_staking::SlashingSpans::<Runtime>::get(who)
				.unwrap()
				.span_index
		};
		assert_eq!(span(&liar), 1, "the slash has ended the span");
		for era in 2..4 {
			chain.era(era);
			// Its exposure in the era does not know of what is to be slashed yet.
			assert_eq!(PastStake::charged(&liar, session()), Perbill::zero());
			offend(10 + u64::from(era), &liar, FraudulentResult, session());
			chain.reported();
			near(pending(&liar), (2 + Balance::from(era)) * LIE);
		}
		assert_eq!(span(&liar), 3);
		// What happened in the first of the spans still adds to that one.
		assert_eq!(
			PastStake::charged(&liar, 6),
			Perbill::from_percent(30),
			"session 6 is of era 1"
		);
	});
}

#[test]
fn what_was_asked_for_and_undone_does_not_make_the_next_lie_free() {
	run(|mut chain| {
		chain.era(1);
		let (liar, now) = (validator(0), session());
		offend(1, &liar, FraudulentResult, now);
		chain.reported();
		let era = active_era() + SLASH_DEFER_DURATION + 1;
		assert_ok!(Staking::cancel_deferred_slash(
			RuntimeOrigin::root(),
			era,
			vec![0]
		));
		near(pending(&liar), 0);
		offend(2, &liar, FraudulentResult, now);
		chain.reported();
		near(pending(&liar), LIE);
	});
}

#[test]
fn nominators_behind_a_liar_are_slashed_for_every_lie_and_others_are_not() {
	run(|mut chain| {
		let liar = validator(0);
		let honest = validator(1);
		let nominators: Vec<_> = [(21, &liar), (22, &honest)]
			.into_iter()
			.map(|(seed, target)| {
				let who = AccountId::new([seed; 32]);
				Balances::mint_into(&who, 2 * STAKE).unwrap();
				let origin = || RuntimeOrigin::signed(who.clone());
				assert_ok!(Staking::bond(origin(), STAKE, RewardDestination::Stash));
				assert_ok!(Staking::nominate(origin(), vec![target.clone().into()]));
				who
			})
			.collect();
		chain.era(3);
		for request in 0..2 {
			offend(request, &liar, FraudulentResult, session());
		}
		chain.reported();
		near(pending(&liar), 2 * LIE);
		near(pending(&nominators[0]), 2 * LIE);
		near(pending(&nominators[1]), 0);
	});
}

#[test]
fn absence_costs_and_does_not_disable_while_lies_do() {
	run(|mut chain| {
		chain.era(1);
		let (absent, liar, withholder) = (validator(0), validator(1), validator(2));
		let now = session();
		for request in 0..3 {
			offend(request, &absent, Absence, now);
		}
		chain.reported();
		near(pending(&absent), 3 * STAKE / 1_000);
		assert_eq!(disabled(), [0u32; 0]);
		offend(3, &liar, FraudulentResult, now);
		chain.reported();
		assert_eq!(disabled(), [1]);
		// Nor does it set anybody free: one of four can be disabled, and the worst is.
		offend(4, &absent, Absence, now);
		offend(5, &withholder, WithheldReveal, now);
		chain.reported();
		assert_eq!(disabled(), [1]);
		// An equivocation after an absence is none.
		assert!(!Inference::is_reporting_absence());
	});
}

#[test]
fn who_left_is_not_disabled_and_nobody_in_its_place() {
	run(|mut chain| {
		let liar = join(9, STAKE);
		chain.era(3);
		let deed = session();
		assert_ok!(Staking::chill(RuntimeOrigin::signed(liar.clone())));
		chain.era(5);
		assert!(!is_validator(&liar));
		offend(1, &liar, FraudulentResult, deed);
		chain.reported();
		near(pending(&liar), LIE);
		assert_eq!(disabled(), [0u32; 0]);
		assert!(Inference::is_suspended(&liar));
	});
}

#[test]
fn the_validators_of_the_deeds_session_are_counted() {
	run(|mut chain| {
		chain.era(1);
		let before = session();
		join(9, STAKE);
		chain.era(3);
		assert_eq!(PastStake::validators(before), 4);
		assert_eq!(PastStake::validators(session()), 5);
		assert_eq!(Historical::historical_root(before).unwrap().1, 4);
	});
}

#[test]
fn a_suspension_lasts_for_an_era() {
	run(|mut chain| {
		chain.era(1);
		chain.last_session();
		let liar = validator(0);
		offend(1, &liar, FraudulentEvidence, session());
		chain.session();
		assert_eq!(active_era(), 2);
		for _ in 0..SESSIONS_PER_ERA {
			assert!(Inference::is_suspended(&liar));
			chain.session();
		}
		assert!(!Inference::is_suspended(&liar));
	});
}

#[test]
fn a_deed_is_slashed_for_until_the_last_era_in_which_it_can_be_found() {
	run(|mut chain| {
		chain.era(1);
		let (liar, deed) = (validator(0), session());
		chain.far_era(1 + SLASH_DEFER_DURATION);
		let before = Balances::total_balance(&liar);
		offend(1, &liar, FraudulentResult, deed);
		chain.reported();
		near(pending(&liar), LIE);
		chain.era(2 + SLASH_DEFER_DURATION);
		near(pending(&liar), 0);
		near(before - Balances::total_balance(&liar), LIE);
	});
}

#[test]
fn a_deed_for_which_no_stake_answers_is_not_reported() {
	run(|mut chain| {
		chain.era(1);
		let (liar, deed) = (validator(0), session());
		chain.far_era(BONDING_DURATION + 1);
		// Who stood behind it is known to the end.
		near(Staking::eras_stakers(1, &liar).own, STAKE);
		assert_eq!(HISTORY_DEPTH, BONDING_DURATION + 1);
		chain.era(BONDING_DURATION + 2);
		offend(1, &liar, FraudulentResult, deed);
		chain.reported();
		near(pending(&liar), 0);
		assert_eq!(pallet_offences::Reports::<Runtime>::iter().count(), 0);
	});
}
