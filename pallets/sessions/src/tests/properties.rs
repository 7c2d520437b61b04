//! Random sequences of everything that clients, validators and time do, with the invariants of storage checked after each step. Money is
//! neither made nor lost.

use std::{
	cell::{Cell, RefCell},
	collections::{BTreeMap, HashMap},
};

use consilience_primitives::session::{Opening, Release, Service};
use polkadot_sdk::frame_support::storage::with_storage_layer;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{mock::*, Audits, Channels, Claims, Event, Part};

#[derive(Clone, Debug)]
enum Action {
	Open {
		by_bob: bool,
		executor: u64,
		other: u64,
		pot: u64,
	},
	Raise {
		channel: u64,
		part: u8,
		amount: u64,
	},
	Lower {
		channel: u64,
		part: u8,
		amount: u64,
		leave: bool,
	},
	Certify {
		validator: usize,
		key: u64,
	},
	/// Answers of so many tokens, the last slice of the last unpaid or not, claimed now.
	Settle {
		channel: u64,
		other: bool,
		tokens: Vec<u32>,
		unpaid: bool,
	},
	/// The last claim again.
	Again,
	Check {
		channel: u64,
		checker: usize,
		amount: u64,
	},
	/// A receipt that is due is opened, by whoever: that in which the point lies, or another.
	OpenReceipt {
		which: usize,
		wrong: bool,
	},
	Tell {
		which: usize,
		stands: bool,
	},
	/// A receipt of a claim is put before a jury, with its place or without; the claim may have ended.
	Appeal {
		claim: u64,
		which: usize,
		placed: bool,
	},
	/// What a checker has signed of it is shown.
	Testify {
		claim: u64,
		which: usize,
		checker: usize,
	},
	/// Stakes are so much from now on.
	Stake(u64),
	Close {
		channel: u64,
	},
	Withdraw {
		channel: u64,
	},
	Session,
	Randomness(bool),
	Interval(u64),
	Throughput(u32),
	Blocks(u64),
}

fn action() -> impl Strategy<Value = Action> {
	let channel = 0u64..4;
	prop_oneof![
		4 => (any::<bool>(), 50u64..3_000, 0u64..500, 0u64..1_000).prop_map(
			|(by_bob, executor, other, pot)| Action::Open { by_bob, executor, other, pot }
		),
		3 => (channel.clone(), 0u8..4, 0u64..1_000)
			.prop_map(|(channel, part, amount)| Action::Raise { channel, part, amount }),
		3 => (channel.clone(), 0u8..4, 0u64..1_000, any::<bool>()).prop_map(
			|(channel, part, amount, leave)| Action::Lower { channel, part, amount, leave }
		),
		2 => (0usize..5, 0u64..6).prop_map(|(validator, key)| Action::Certify { validator, key }),
		12 => (
			channel.clone(),
			prop::bool::weighted(0.3),
			prop::collection::vec(1u32..120, 1..5),
			prop::bool::weighted(0.2)
		)
			.prop_map(|(channel, other, tokens, unpaid)| {
				Action::Settle { channel, other, tokens, unpaid }
			}),
		1 => Just(Action::Again),
		5 => (channel.clone(), 0usize..5, 0u64..300)
			.prop_map(|(channel, checker, amount)| Action::Check { channel, checker, amount }),
		14 => (0usize..8, prop::bool::weighted(0.1))
			.prop_map(|(which, wrong)| Action::OpenReceipt { which, wrong }),
		8 => (0usize..8, prop::bool::weighted(0.8))
			.prop_map(|(which, stands)| Action::Tell { which, stands }),
		9 => (0u64..4, 0usize..5, prop::bool::weighted(0.7))
			.prop_map(|(claim, which, placed)| Action::Appeal { claim, which, placed }),
		3 => (0u64..4, 0usize..5, 0usize..5)
			.prop_map(|(claim, which, checker)| Action::Testify { claim, which, checker }),
		1 => prop_oneof![Just(800u64), Just(1_000_000)].prop_map(Action::Stake),
		1 => channel.clone().prop_map(|channel| Action::Close { channel }),
		3 => channel.prop_map(|channel| Action::Withdraw { channel }),
		2 => Just(Action::Session),
		1 => prop::bool::weighted(0.8).prop_map(Action::Randomness),
		1 => prop_oneof![Just(60u64), Just(200), Just(1_000)].prop_map(Action::Interval),
		1 => (1u32..9).prop_map(Action::Throughput),
		12 => (1u64..4).prop_map(Action::Blocks),
	]
}

thread_local! {
	/// What executors keep of their claims, until their windows end.
	static KEPT: RefCell<HashMap<u64, Vec<Opening<u64, u64, u64>>>> = RefCell::new(HashMap::new());
	static LAST: RefCell<Option<consilience_primitives::session::Signed<
		consilience_primitives::session::Claim<u64, u64>,
	>>> = const { RefCell::new(None) };
	static NUMBER: Cell<u32> = const { Cell::new(1) };
}

/// One of the last channels.
fn recent(channel: u64) -> u64 {
	crate::NextChannel::<Test>::get().saturating_sub(1 + channel)
}

fn owner(channel: u64) -> u64 {
	Channels::<Test>::get(channel).map_or(ALICE, |c| c.owner)
}

fn part(n: u8) -> Part<u64> {
	match n {
		0 => Part::Pot,
		1 => Part::Payee(OTHER),
		2 => Part::Payee(CHECKER),
		_ => Part::Payee(EXECUTOR),
	}
}

fn act(action: Action) {
	match action {
		Action::Open {
			by_bob,
			executor,
			other,
			pot,
		} => {
			let who = if by_bob { BOB } else { ALICE };
			let mut allocations = vec![(EXECUTOR, executor)];
			if other > 200 {
				allocations.push((OTHER, other));
			}
			let _ = with_storage_layer(|| try_open(who, &allocations, pot));
		}
		Action::Raise {
			channel,
			part: n,
			amount,
		} => {
			let id = recent(channel);
			let _ = with_storage_layer(|| {
				Sessions::raise(RuntimeOrigin::signed(owner(id)), id, part(n), amount)
			});
		}
		Action::Lower {
			channel,
			part: n,
			amount,
			leave,
		} => {
			let id = recent(channel);
			let releases = Sessions::channel(id)
				.and_then(|c| c.allocations.into_iter().find(|a| a.payee == EXECUTOR))
				.map_or(0, |a| a.releases);
			let release = Release {
				channel: id,
				payee: EXECUTOR,
				session: session(),
				releases,
				amount,
			};
			let release = leave.then(|| sign(release, &lane(EXECUTOR)));
			let _ = with_storage_layer(|| {
				let origin = RuntimeOrigin::signed(owner(id));
				Sessions::lower(origin, id, part(n), amount, release)
			});
		}
		Action::Certify { validator, key } => {
			let v = VALIDATORS[validator];
			let mut own = certificate(v);
			if key > 0 {
				own.endpoint = format!("ws://{key}").into_bytes().try_into().unwrap();
			}
			let _ = certify(v, own);
		}
		Action::Settle {
			channel,
			other,
			tokens,
			unpaid,
		} => {
			let id = recent(channel);
			let payee = if other { OTHER } else { EXECUTOR };
			let first = NUMBER.get();
			NUMBER.set(first + tokens.len() as u32);
			let mut all = answers(first, &tokens);
			if let Some(last) = all.last_mut().filter(|_| unpaid) {
				last.seen = last.tokens.saturating_sub(32);
			}
			let (claim, openings) = claim_of(id, payee, &all);
			let number = crate::NextClaim::<Test>::get();
			LAST.with_borrow_mut(|last| *last = Some(claim.clone()));
			if settle(&[claim]).is_ok() && crate::NextClaim::<Test>::get() > number {
				KEPT.with_borrow_mut(|kept| kept.insert(number, openings));
			}
		}
		Action::Again => {
			let last = LAST.with_borrow(Clone::clone);
			if let Some(claim) = last {
				let before = crate::NextClaim::<Test>::get();
				let taken = settle(&[claim]);
				// Once at most, unless it was refused before.
				assert!(taken.is_err() || crate::NextClaim::<Test>::get() == before + 1);
			}
		}
		Action::Check {
			channel,
			checker,
			amount,
		} => {
			let _ = settle(&[checks_of(recent(channel), VALIDATORS[checker], amount)]);
		}
		Action::OpenReceipt { which, wrong } => {
			let due: Vec<_> = [EXECUTOR, OTHER]
				.iter()
				.flat_map(Sessions::openings_due)
				.collect();
			let Some(due) = due.get(which % due.len().max(1)) else {
				return;
			};
			let Some(openings) = KEPT.with_borrow(|kept| kept.get(&due.claim).cloned()) else {
				return;
			};
			let place = at_point(&openings, due.offset, &due.root);
			let opening = if wrong {
				&openings[(place + 1) % openings.len()]
			} else {
				&openings[place]
			};
			let done = open_receipt(due.claim, due.point, opening);
			let stays = Claims::<Test>::get(due.claim).unwrap().points;
			let opened = stays[due.point as usize].state.request().is_some();
			assert_eq!(opened, done.is_ok());
			// Who opens what is asked for is let in, as long as its certificate is known.
			let known =
				Sessions::lane_key(&opening.receipt.body.payee, opening.receipt.body.session);
			if (!wrong || openings.len() == 1) && known.is_some() {
				assert_eq!(done, Ok(()));
			}
		}
		Action::Tell { which, stands } => {
			let mut open: Vec<_> = Audits::<Test>::iter_keys().collect();
			open.sort();
			if let Some(request) = open.get(which % open.len().max(1)) {
				tell(*request, stands);
			}
		}
		Action::Appeal {
			claim,
			which,
			placed,
		} => {
			let claim = crate::NextClaim::<Test>::get().saturating_sub(1 + claim);
			let Some(openings) = KEPT.with_borrow(|kept| kept.get(&claim).cloned()) else {
				return;
			};
			let opening = &openings[which % openings.len()];
			let put = appeal_of(opening, placed.then_some(claim));
			let before = audited().len();
			let done = appeal(BOB, put.clone());
			assert_eq!(audited().len(), before + usize::from(done.is_ok()));
			if done.is_ok() {
				assert!(appeal(BOB, put).is_err(), "once");
			}
		}
		Action::Testify {
			claim,
			which,
			checker,
		} => {
			let claim = crate::NextClaim::<Test>::get().saturating_sub(1 + claim);
			let Some(openings) = KEPT.with_borrow(|kept| kept.get(&claim).cloned()) else {
				return;
			};
			let opening = &openings[which % openings.len()];
			let verdict = verdict_of(opening, VALIDATORS[checker], 0);
			let reference = verdict.body.receipt;
			let known = audited().iter().any(|a| a.reference == reference);
			assert_eq!(testify(verdict).is_ok(), known);
		}
		Action::Stake(stake) => {
			for v in VALIDATORS {
				for later in 0..8 {
					set_stake(v, session() + later, stake);
				}
			}
		}
		Action::Close { channel } => {
			let id = recent(channel);
			let _ = Sessions::close(RuntimeOrigin::signed(owner(id)), id);
		}
		Action::Withdraw { channel } => {
			let _ = with_storage_layer(|| {
				Sessions::withdraw(RuntimeOrigin::signed(BOB), recent(channel)).map_err(|e| e.error)
			});
		}
		Action::Session => {
			next_session();
			certify_all();
		}
		Action::Randomness(on) => set_vrf(on),
		Action::Interval(interval) => PointInterval::set(interval),
		Action::Throughput(most) => {
			MaxDraws::set(most);
			MaxPerBlock::set(most);
		}
		Action::Blocks(n) => {
			for _ in 0..n {
				next_block();
				check();
			}
		}
	}
}

fn cases() -> u32 {
	// The nightly run asks for more.
	std::env::var("PROPTEST_CASES")
		.ok()
		.and_then(|n| n.parse().ok())
		.unwrap_or(32)
}

#[test]
fn invariants_hold_after_every_action() {
	let config = ProptestConfig {
		cases: cases(),
		..ProptestConfig::with_source_file(file!())
	};
	let tried = Cell::new(0u64);
	let reached = RefCell::new(BTreeMap::new());
	let sequences = prop::collection::vec(action(), 1..200);
	let found = TestRunner::new(config).run(&sequences, |actions| {
		tried.set(tried.get() + actions.len() as u64);
		check_sequence(actions, &mut reached.borrow_mut());
		Ok(())
	});
	found.unwrap_or_else(|e| panic!("{e}"));
	let reached = reached.into_inner();
	println!(
		"{} actions in {} sequences: {reached:?}",
		tried.get(),
		cases()
	);
	// A property holds easily of what is never reached.
	for end in [
		"paid",
		"not opened",
		"false",
		"appealed",
		"appealed in a claim",
		"shown",
		"checks",
		"stands",
		"released",
		"lowered",
		"removed",
	] {
		assert!(reached.contains_key(end), "nothing was {end}: {reached:?}");
	}
}

/// Counts what a sequence has come to.
fn count(reached: &mut BTreeMap<&'static str, u32>) {
	for event in events() {
		let name = match event {
			Event::ClaimPaid { .. } => "paid",
			Event::ClaimForfeited {
				why: crate::Forfeit::NotOpened,
				..
			} => "not opened",
			Event::ClaimForfeited { .. } => "false",
			Event::Claimed {
				service: Service::Check,
				..
			} => "checks",
			Event::AnswerStands { .. } => "stands",
			Event::ReceiptAppealed { claim: None, .. } => "appealed",
			Event::ReceiptAppealed { .. } => "appealed in a claim",
			Event::VerdictShown { .. } => "shown",
			Event::Released { .. } => "released",
			Event::LoweringAnnounced { .. } => "lowered",
			Event::ChannelRemoved { .. } => "removed",
			_ => continue,
		};
		*reached.entry(name).or_default() += 1;
	}
}

fn check_sequence(actions: Vec<Action>, reached: &mut BTreeMap<&'static str, u32>) {
	externalities().execute_with(|| {
		KEPT.take();
		LAST.take();
		NUMBER.set(1);
		act(Action::Throughput(8));
		act(Action::Interval(200));
		let money = total();
		for action in actions {
			act(action);
			check();
			assert_eq!(total(), money);
		}
		// Left alone, everything that was claimed is paid or forfeited, and what is closed is returned.
		act(Action::Throughput(8));
		set_vrf(true);
		for id in 0..crate::NextChannel::<Test>::get() {
			let _ = Sessions::close(RuntimeOrigin::signed(owner(id)), id);
		}
		blocks(60);
		for request in Audits::<Test>::iter_keys().collect::<Vec<_>>() {
			tell(request, true);
		}
		for id in 0..crate::NextChannel::<Test>::get() {
			let _ = Sessions::withdraw(RuntimeOrigin::signed(ALICE), id);
		}
		check();
		assert_eq!(Claims::<Test>::iter().count(), 0);
		assert_eq!(Channels::<Test>::iter().count(), 0);
		assert_eq!((held(ALICE), held(BOB)), (0, 0));
		assert_eq!(total(), money);
		count(reached);
	});
}
