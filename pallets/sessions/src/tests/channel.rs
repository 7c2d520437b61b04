//! Channels: opened, raised, lowered, closed, withdrawn from.

use consilience_primitives::session::{Release, Service, Signed, MAX_ALLOCATIONS};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, pallet_prelude::DispatchResult},
	sp_core::{sr25519, H256},
	sp_runtime::TokenError,
};

use crate::{mock::*, Channels, ChannelsOf, Checked, Error, Event, Part};

fn raise(who: u64, channel: u64, part: Part<u64>, amount: u64) -> DispatchResult {
	Sessions::raise(RuntimeOrigin::signed(who), channel, part, amount)
}

fn lower(who: u64, channel: u64, part: Part<u64>, by: u64) -> DispatchResult {
	Sessions::lower(RuntimeOrigin::signed(who), channel, part, by, None)
}

fn close(who: u64, channel: u64) -> DispatchResult {
	Sessions::close(RuntimeOrigin::signed(who), channel)
}

fn withdraw(channel: u64) -> DispatchResult {
	Sessions::withdraw(RuntimeOrigin::signed(BOB), channel)
		.map(|_| ())
		.map_err(|e| e.error)
}

fn allotted(channel: u64, payee: u64) -> u64 {
	let view = Sessions::channel(channel).unwrap();
	let found = view.allocations.iter().find(|a| a.payee == payee);
	found.map_or(0, |a| a.allotment.amount)
}

#[test]
fn opens_with_everything_held() {
	run(|| {
		let id = try_open(ALICE, &[(EXECUTOR, 500), (OTHER, 200)], 300).unwrap();
		assert_eq!(held(ALICE), 1_000);
		let view = Sessions::channel(id).unwrap();
		assert_eq!((view.owner, view.key), (ALICE, key_public(ALICE)));
		assert_eq!((view.chain, view.seed), (chain(), None));
		assert_eq!((view.pot.amount, view.pending), (300, 0));
		assert_eq!([EXECUTOR, OTHER].map(|p| allotted(id, p)), [500, 200]);
		assert!(events().contains(&Event::ChannelOpened {
			channel: id,
			owner: ALICE,
			deposit: 1_000
		}));
		// A number is never used again, and each channel is its own.
		let next = try_open(ALICE, &[(EXECUTOR, 100)], 0).unwrap();
		assert_eq!(next, id + 1);
		assert_eq!(held(ALICE), 1_100);
		let ids: Vec<_> = Sessions::channels_of(&ALICE).iter().map(|c| c.id).collect();
		assert_eq!(ids, [id, next]);
	});
}

#[test]
fn refuses_to_open_what_makes_no_channel() {
	run(|| {
		let nothing = |allocations: &[(u64, u64)], pot, error: Error<Test>| {
			assert_noop!(
				Sessions::open(
					RuntimeOrigin::signed(ALICE),
					key_public(ALICE),
					chain(),
					allocations.to_vec().try_into().unwrap(),
					pot
				),
				error
			);
		};
		nothing(&[], 500, Error::NoAllocation);
		nothing(&[(EXECUTOR, 200), (EXECUTOR, 300)], 0, Error::PayeeTwice);
		nothing(&[(EXECUTOR, 99)], 0, Error::AllocationTooSmall);
		nothing(&[(EXECUTOR, 100), (OTHER, 0)], 0, Error::AllocationTooSmall);
		nothing(&[(EXECUTOR, 100)], 99, Error::AllocationTooSmall);
		nothing(&[(EXECUTOR, u64::MAX), (OTHER, 100)], 0, Error::Overflow);
		assert_noop!(
			Sessions::open(
				RuntimeOrigin::signed(ALICE),
				key_public(ALICE),
				chain(),
				vec![(EXECUTOR, 2_000_000)].try_into().unwrap(),
				0
			),
			TokenError::FundsUnavailable
		);
		for _ in 0..3 {
			try_open(ALICE, &[(EXECUTOR, 100)], 0).unwrap();
		}
		nothing(&[(EXECUTOR, 100)], 0, Error::TooManyChannels);
		assert_ok!(try_open(BOB, &[(EXECUTOR, 100)], 0));
	});
}

#[test]
fn the_seed_is_drawn_by_blocks_after_the_opening_and_is_another_for_each_channel() {
	let seeds = |salt: u64| -> Vec<H256> {
		let mut seeds = Vec::new();
		run(|| {
			let ids = [ALICE, BOB].map(|who| try_open(who, &[(EXECUTOR, 100)], 0).unwrap());
			let seed = |id| Sessions::channel(id).unwrap().seed;
			// Whatever happens from now on decides.
			set_salt(salt);
			let opened = System::block_number();
			while seed(ids[0]).is_none() {
				assert!(System::block_number() < opened + 2 * WINDOW);
				next_block();
			}
			// A whole window lies between.
			assert!(System::block_number() > opened + WINDOW);
			seeds = ids.map(|id| seed(id).unwrap()).to_vec();
			let event = Event::SeedDrawn {
				channel: ids[1],
				seed: seeds[1],
			};
			assert!(events().contains(&event));
		});
		seeds
	};
	let (one, same, other) = (seeds(1), seeds(1), seeds(2));
	assert_eq!(one, same);
	assert_ne!(one[0], one[1]);
	assert_ne!(one[0], other[0]);
}

#[test]
fn a_channel_waits_for_randomness() {
	run(|| {
		set_vrf(false);
		let id = try_open(ALICE, &[(EXECUTOR, 500)], 0).unwrap();
		blocks(20);
		let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[10, 10]));
		assert_eq!(
			settle(std::slice::from_ref(&claim)),
			refused(Error::NotReady)
		);
		// It can be closed all the same, and goes before it is drawn for.
		let gone = try_open(BOB, &[(EXECUTOR, 500)], 0).unwrap();
		assert_ok!(close(BOB, gone));
		blocks(10);
		assert_ok!(withdraw(gone));
		assert!(!Channels::<Test>::contains_key(gone));
		check();
		set_vrf(true);
		drawn();
		assert_eq!(settle(&[claim]), Ok(()));
	});
}

#[test]
fn raises_at_once() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 500)], 0);
		assert_ok!(raise(ALICE, id, Part::Payee(EXECUTOR), 50));
		assert_ok!(raise(ALICE, id, Part::Payee(OTHER), 100));
		assert_ok!(raise(ALICE, id, Part::Pot, 200));
		assert_eq!([EXECUTOR, OTHER].map(|p| allotted(id, p)), [550, 100]);
		assert_eq!(Sessions::channel(id).unwrap().pot.amount, 200);
		assert_eq!(held(ALICE), 850);
		assert!(events().contains(&Event::Raised {
			channel: id,
			part: Part::Payee(EXECUTOR),
			amount: 550
		}));
		let part = Part::Payee(EXECUTOR);
		assert_noop!(raise(BOB, id, part.clone(), 50), Error::<Test>::NotOwner);
		assert_noop!(
			raise(ALICE, 9, part.clone(), 50),
			Error::<Test>::UnknownChannel
		);
		assert_noop!(
			raise(ALICE, id, part.clone(), 0),
			Error::<Test>::NothingToChange
		);
		assert_noop!(
			raise(ALICE, id, Part::Payee(CHECKER), 99),
			Error::<Test>::AllocationTooSmall
		);
		assert_noop!(
			raise(ALICE, id, part.clone(), 2_000_000),
			TokenError::FundsUnavailable
		);
		for n in 2..MAX_ALLOCATIONS {
			assert_ok!(raise(ALICE, id, Part::Payee(500 + u64::from(n)), 100));
		}
		assert_noop!(
			raise(ALICE, id, Part::Payee(CHECKER), 100),
			Error::<Test>::TooManyPayees
		);
		assert_ok!(close(ALICE, id));
		assert_noop!(raise(ALICE, id, part, 50), Error::<Test>::Closing);
	});
}

#[test]
fn lowering_takes_a_notice_in_which_claims_still_count() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 500)], 200);
		let part = Part::Payee(EXECUTOR);
		assert_noop!(lower(BOB, id, part.clone(), 50), Error::<Test>::NotOwner);
		assert_noop!(
			lower(ALICE, id, part.clone(), 0),
			Error::<Test>::NothingToChange
		);
		assert_noop!(
			lower(ALICE, id, Part::Payee(OTHER), 50),
			Error::<Test>::NothingToChange
		);
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		assert_ok!(lower(ALICE, id, part.clone(), 450));
		let at = System::block_number() + 10;
		assert!(events().contains(&Event::LoweringAnnounced {
			channel: id,
			part: part.clone(),
			by: 450,
			at
		}));
		blocks(9);
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		// 130 + 230 of the 500.
		let (first, _) = claim_of(id, EXECUTOR, &answers(1, &[50, 100]));
		assert_eq!(first.body.root.sum, 130 + 230);
		assert_eq!(settle(&[first]), Ok(()));
		next_block();
		assert_eq!(System::block_number(), at);
		// Now only what is left counts: nothing.
		let (second, _) = claim_of(id, EXECUTOR, &answers(3, &[20]));
		assert_eq!(settle(&[second]), refused(Error::OverAllotment));
		assert_ok!(withdraw(id));
		assert_eq!(allotted(id, EXECUTOR), 360);
		assert_eq!(held(ALICE), 360 + 200);
		assert!(events().contains(&Event::Returned {
			channel: id,
			amount: 140
		}));
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		assert_noop!(lower(ALICE, id, part, 1), Error::<Test>::NothingToChange);
	});
}

#[test]
fn notices_add_up_and_begin_anew() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 500)], 200);
		assert_ok!(lower(ALICE, id, Part::Pot, 50));
		blocks(8);
		assert_ok!(lower(ALICE, id, Part::Pot, 1_000));
		blocks(8);
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		// What is raised meanwhile is not lowered with it.
		assert_ok!(raise(ALICE, id, Part::Pot, 60));
		blocks(2);
		// Raising has the notice that is over take effect first.
		assert_ok!(raise(ALICE, id, Part::Pot, 40));
		assert_eq!(Sessions::channel(id).unwrap().pot.amount, 100);
		assert_eq!(held(ALICE), 600);
	});
}

fn release(
	channel: u64,
	releases: u32,
	amount: u64,
	by: &sr25519::Pair,
) -> Signed<Release<u64, u64>> {
	let release = Release {
		channel,
		payee: EXECUTOR,
		session: session(),
		releases,
		amount,
	};
	sign(release, by)
}

#[test]
fn with_the_payees_leave_lowering_is_immediate_and_the_leave_is_good_once() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 500), (OTHER, 500)], 0);
		let part = Part::Payee(EXECUTOR);
		let with = |part: Part<u64>, release| {
			Sessions::lower(RuntimeOrigin::signed(ALICE), id, part, 0, Some(release))
		};
		let own = lane(EXECUTOR);
		let bad: [(Part<u64>, _); 6] = [
			(part.clone(), release(id, 0, 200, &lane(OTHER))),
			(part.clone(), release(id + 1, 0, 200, &own)),
			(part.clone(), release(id, 1, 200, &own)),
			(Part::Payee(OTHER), release(id, 0, 200, &own)),
			(Part::Pot, release(id, 0, 200, &own)),
			(part.clone(), {
				let mut later = release(id, 0, 200, &own);
				later.body.session += 1;
				sign(later.body, &own)
			}),
		];
		for (part, release) in bad {
			assert_noop!(with(part, release), Error::<Test>::BadRelease);
		}
		assert_noop!(
			with(part.clone(), release(id, 0, 500, &own)),
			Error::<Test>::NothingToChange
		);
		assert_ok!(lower(ALICE, id, part.clone(), 400));
		let leave = release(id, 0, 200, &own);
		assert_ok!(with(part.clone(), leave.clone()));
		assert_eq!((allotted(id, EXECUTOR), held(ALICE)), (200, 700));
		assert!(events().contains(&Event::Released {
			channel: id,
			payee: EXECUTOR,
			amount: 200
		}));
		// What was announced can be no more than what is left.
		check();
		assert_ok!(raise(ALICE, id, part.clone(), 300));
		assert_noop!(with(part.clone(), leave), Error::<Test>::BadRelease);
		// Not below what was claimed.
		let (claim, _) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(settle(&[claim]), Ok(()));
		assert_noop!(
			with(part.clone(), release(id, 1, 129, &own)),
			Error::<Test>::NothingToChange
		);
		// Also while the channel closes.
		assert_ok!(close(ALICE, id));
		assert_ok!(with(part, release(id, 1, 130, &own)));
		assert_eq!(held(ALICE), 130 + 500);
	});
}

#[test]
fn closing_gives_payees_a_notice_and_then_everything_is_returned() {
	run(|| {
		let id = open(ALICE, &[(EXECUTOR, 500), (OTHER, 300)], 200);
		assert_noop!(close(BOB, id), Error::<Test>::NotOwner);
		assert_ok!(close(ALICE, id));
		assert_noop!(close(ALICE, id), Error::<Test>::Closing);
		assert_noop!(lower(ALICE, id, Part::Pot, 9), Error::<Test>::Closing);
		let at = System::block_number() + 10;
		assert_eq!(Sessions::channel(id).unwrap().closes_at, Some(at));
		blocks(9);
		let (last, _) = claim_of(id, EXECUTOR, &answers(1, &[50]));
		assert_eq!(settle(&[last, checks_of(id, CHECKER, 60)]), Ok(()));
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		next_block();
		let (late, _) = claim_of(id, EXECUTOR, &answers(2, &[50]));
		assert_eq!(settle(&[late]), refused(Error::Closed));
		assert_ok!(withdraw(id));
		// Pending pay stays.
		assert_eq!(held(ALICE), 130 + 60);
		assert_eq!(Sessions::channel(id).unwrap().pending, 190);
		assert_eq!(Checked::<Test>::iter().count(), 0);
		check();
		assert_noop!(withdraw(id), Error::<Test>::NothingToWithdraw);
		let (first, opening) = (crate::Claims::<Test>::get(0).unwrap(), 0);
		assert_eq!(first.service, Service::Answer, "{opening}");
		PointInterval::set(u64::MAX);
		blocks(20);
		assert!(!Channels::<Test>::contains_key(id));
		assert!(!ChannelsOf::<Test>::contains_key(ALICE));
		assert_eq!(held(ALICE), 0);
		assert!(events().contains(&Event::ChannelRemoved { channel: id }));
	});
}

#[test]
fn a_channel_of_which_nothing_was_claimed_is_gone_at_once() {
	run(|| {
		let before = Balances::free_balance(ALICE);
		let id = open(ALICE, &[(EXECUTOR, 500)], 200);
		assert_ok!(close(ALICE, id));
		blocks(10);
		assert_ok!(withdraw(id));
		assert_eq!(Balances::free_balance(ALICE), before);
		assert!(Sessions::channel(id).is_none());
		assert!(Sessions::channels_of(&ALICE).is_empty());
		assert_noop!(withdraw(id), Error::<Test>::UnknownChannel);
	});
}
