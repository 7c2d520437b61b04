//! Settled answers stay open to proof: appeals and random measurement again.

use consilience_primitives::{model::Price, request::Assurance, view::RequestState, RequestId};
use polkadot_sdk::{
	frame_support::{
		assert_noop, assert_ok, pallet_prelude::Weight, traits::fungible::InspectHold,
	},
	sp_runtime::Perbill,
};

use crate::{
	mock::*, Claims, Error, Event, HoldReason, OffenceKind, Parameters, RequestInference, Settled,
};

/// An answer that a whole committee has lied into finality.
fn captured(model: u8) -> (RequestId, [u64; 3]) {
	let request = ask(model, ALICE);
	let party = capture(request, model);
	(request, party)
}

/// Has a whole committee lie an answer into finality.
fn capture(request: RequestId, model: u8) -> [u64; 3] {
	blocks(2);
	let lie = if model == TEXT {
		Habit::Vouching
	} else {
		Habit::Lying
	};
	work(executor(request), lie);
	blocks(2);
	let party = [
		executor(request),
		verifiers(request)[0],
		verifiers(request)[1],
	];
	settle_within(request, 6, &party.map(|v| (v, lie)));
	assert_eq!(state(request), RequestState::Final);
	party
}

fn end(request: RequestId, odd: &[(u64, Habit)]) {
	for _ in 0..30 {
		work_block(odd);
		if matches!(
			state(request),
			RequestState::Final | RequestState::Overturned
		) {
			return;
		}
	}
	panic!("still {:?}", state(request));
}

#[test]
fn an_appeal_overturns_a_false_answer_that_was_final_and_everybody_who_vouched_pays() {
	run(|| {
		Balances::force_set_balance(RuntimeOrigin::root(), FUND, 10_000).unwrap();
		for model in [TEXT, TENSOR] {
			let (request, party) = captured(model);
			let lie = if model == TEXT {
				Habit::Vouching
			} else {
				Habit::Lying
			};
			let paid = Inference::request_view(request).unwrap().paid;
			let (alice, bob) = (Balances::free_balance(ALICE), Balances::free_balance(BOB));
			assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
			assert_noop!(
				Inference::appeal(RuntimeOrigin::signed(BOB), request),
				Error::<Test>::NotAppealable
			);
			end(request, &party.map(|v| (v, lie)));
			assert_eq!(state(request), RequestState::Overturned);
			assert_eq!(
				Balances::free_balance(ALICE),
				alice,
				"nobody is slashed yet"
			);
			blocks(6);
			let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
			for liar in party {
				slashed(liar, 10_000);
				next_block();
			}
			let compensated = Balances::free_balance(ALICE) - alice;
			let won = Balances::free_balance(BOB) - bob;
			if model == TENSOR {
				// Several that share bits could be machines of another kind: they are kept away and not slashed, and nobody is rewarded.
				assert_eq!((compensated, won, found.len()), (0, 0, 0));
				assert!(party
					.iter()
					.all(|v| !ModelRegistry::is_serving(v, id(TENSOR))));
			} else {
				assert_eq!(compensated, paid, "the requester is compensated");
				assert_eq!(won, 500, "the appellant is rewarded");
				assert!(
					found.contains(&(party[0], OffenceKind::FraudulentResult)),
					"{found:?}"
				);
				for v in &party[1..] {
					assert!(
						found.contains(&(*v, OffenceKind::FraudulentEvidence)),
						"{found:?}"
					);
				}
			}
			assert!(
				found.iter().all(|(who, _)| party.contains(who)),
				"{found:?}"
			);
			for v in party {
				Inference::end_suspension(&v);
				for n in [TEXT, TENSOR] {
					let _ = ModelRegistry::serve(&v, id(n), &digest(7), Speed::default());
				}
			}
			next_block();
		}
	});
}

#[test]
fn compensation_comes_out_of_the_slash_and_is_no_more_than_a_tenth_of_it() {
	run(|| {
		// Others have paid a fortune into the fund, and the liar asks itself, of a model of its own, with a tip.
		Balances::force_set_balance(RuntimeOrigin::root(), FUND, 1_000_000).unwrap();
		let dear = Price {
			per_request: 100_000,
			..price()
		};
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			id(TEXT),
			dear
		));
		let tip = 50_000;
		let request = Inference::do_request(
			ALICE,
			id(TEXT),
			text("hi", 4),
			Assurance::Committee(2),
			300_000,
			tip,
		)
		.unwrap();
		let party = capture(request, TEXT);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		end(request, &party.map(|v| (v, Habit::Vouching)));
		let owed = Inference::request_view(request).unwrap().paid - tip;
		assert!(owed > 100_000);
		assert!(events().contains(&Event::AnswerOverturned { request, owed }));
		let (alice, bob, fund) = (
			Balances::free_balance(ALICE),
			Balances::free_balance(BOB),
			Balances::free_balance(FUND),
		);
		blocks(10);
		assert_eq!(
			Balances::free_balance(ALICE),
			alice,
			"nobody is slashed yet"
		);
		// Accomplices owe nothing for it, and the requester comes before the appellant.
		slashed(party[1], 7_000);
		slashed(party[0], 7_000);
		blocks(2);
		assert_eq!(Balances::free_balance(ALICE), alice + 700);
		assert_eq!(Balances::free_balance(BOB), bob);
		assert_eq!(Balances::free_balance(FUND), fund + 14_000 - 700);
		check();
		// What else its validator loses does not come back to the party.
		slashed(party[0], 2_000_000);
		blocks(2);
		assert_eq!(Balances::free_balance(ALICE), alice + 700);
		assert_eq!(Balances::free_balance(BOB), bob);
	});
}

#[test]
fn a_large_claim_leaves_the_others_theirs() {
	run(|| {
		let liar = VALIDATORS[0];
		Inference::owe(&liar, 1, [(ALICE, 1_000_000)]);
		Inference::owe(&liar, 2, [(BOB, 30)]);
		let before = [ALICE, BOB].map(Balances::free_balance);
		slashed(liar, 1_000);
		next_block();
		let after = [ALICE, BOB].map(Balances::free_balance);
		assert_eq!([after[0] - before[0], after[1] - before[1]], [50, 30]);
		// As many as there are at a time, a few in each block.
		for request in 10..20 {
			Inference::owe(&liar, request, [(BOB, 20)]);
		}
		slashed(liar, 2_000);
		blocks(4);
		assert_eq!(Balances::free_balance(BOB) - after[1], 200);
		assert_eq!(Claims::<Test>::iter().count(), 0);
	});
}

#[test]
fn what_is_owed_is_forgotten_when_no_slash_can_come_any_more() {
	run(|| {
		let (request, party) = captured(TEXT);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		end(request, &party.map(|v| (v, Habit::Vouching)));
		// Staking hears of it, and never applies it.
		blocks(6);
		let alice = Balances::free_balance(ALICE);
		for session in 0..=BONDING {
			assert!(Claims::<Test>::contains_key(party[0], request), "{session}");
			set_session(&VALIDATORS);
			check();
		}
		slashed(party[0], 10_000);
		blocks(2);
		assert_eq!(Balances::free_balance(ALICE), alice);
		assert_eq!(Claims::<Test>::iter().count(), 0);
	});
}

#[test]
fn an_appeal_against_a_right_answer_that_is_final_pays_the_jury_and_burns_the_rest() {
	run(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		let before = Balances::free_balance(BOB);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		end(request, &[]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(before - Balances::free_balance(BOB), 500);
		assert_eq!(burned(), 500 - 7 * 48);
		assert!(reported().is_empty());
		assert_noop!(
			Inference::appeal(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::NotAppealable
		);
		assert_eq!(
			Balances::balance_on_hold(&HoldReason::Appeal.into(), &BOB),
			0
		);
	});
}

#[test]
fn after_retention_nothing_can_be_appealed_against() {
	run(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		blocks(25);
		assert_noop!(
			Inference::appeal(RuntimeOrigin::signed(BOB), request),
			Error::<Test>::UnknownRequest
		);
	});
}

fn audit_all() {
	Parameters::<Test>::mutate(|p| p.audit_share = Perbill::one());
}

#[test]
fn an_answer_that_a_captured_committee_made_final_is_measured_again_by_others_and_overturned() {
	run(|| {
		audit_all();
		Balances::force_set_balance(RuntimeOrigin::root(), FUND, 10_000).unwrap();
		for model in [TEXT, TENSOR] {
			let (request, party) = captured(model);
			let lie = if model == TEXT {
				Habit::Vouching
			} else {
				Habit::Lying
			};
			let odd = party.map(|v| (v, lie));
			for _ in 0..30 {
				work_block(&odd);
			}
			assert!(
				events().iter().any(
					|e| matches!(e, Event::AnswerOverturned { request: r, .. } if *r == request)
				),
				"{:?}",
				events().iter().rev().take(12).collect::<Vec<_>>()
			);
			let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
			// As above: tensors with shared bits are not slashed.
			assert_eq!(
				found.contains(&(party[0], OffenceKind::FraudulentResult)),
				model == TEXT,
				"{found:?}"
			);
			for v in party {
				Inference::end_suspension(&v);
				for n in [TEXT, TENSOR] {
					let _ = ModelRegistry::serve(&v, id(n), &digest(7), Speed::default());
				}
			}
			next_block();
		}
	});
}

#[test]
fn auditors_are_others_than_those_who_measured_and_are_paid_by_the_fund() {
	run(|| {
		audit_all();
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		let fund = Balances::free_balance(FUND);
		for _ in 0..12 {
			work_block(&[]);
		}
		let auditors = events().into_iter().find_map(|e| match e {
			Event::AuditDrawn { auditors, .. } => Some(auditors),
			_ => None,
		});
		let auditors = auditors.unwrap();
		assert_eq!(auditors.len(), 2);
		for who in &auditors {
			assert!(!verifiers(request).contains(who) && executor(request) != *who);
		}
		assert!(events().contains(&Event::AnswerStands { request }));
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(fund - Balances::free_balance(FUND), 2 * 47);
		assert!(reported().is_empty());
	});
}

#[test]
fn an_audit_is_rare_if_its_share_is() {
	run(|| {
		Parameters::<Test>::mutate(|p| p.audit_share = Perbill::from_percent(20));
		for _ in 0..60 {
			let request = ask(TEXT, ALICE);
			settle_within(request, 8, &[]);
			for _ in 0..10 {
				work_block(&[]);
			}
		}
		let drawn = events()
			.iter()
			.filter(|e| matches!(e, Event::AuditDrawn { .. }))
			.count();
		// 12 expected; five standard deviations are 15.
		assert!((1..=27).contains(&drawn), "{drawn}");
	});
}

#[test]
fn another_pallet_is_told_that_its_answer_was_overturned() {
	run(|| {
		Balances::force_set_balance(RuntimeOrigin::root(), FUND, 10_000).unwrap();
		let request = Inference::request_inference(
			ALICE,
			id(TEXT),
			text("hi", 4),
			consilience_primitives::request::Assurance::Committee(2),
			1_000,
			0,
		)
		.unwrap();
		blocks(2);
		work(executor(request), Habit::Vouching);
		blocks(2);
		let party = [
			executor(request),
			verifiers(request)[0],
			verifiers(request)[1],
		];
		let odd = party.map(|v| (v, Habit::Vouching));
		settle_within(request, 6, &odd);
		blocks(2);
		assert!(matches!(told()[..], [(0, Settled::Final(_))]));
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		end(request, &odd);
		blocks(2);
		assert_eq!(told(), [(0, Settled::Overturned)]);
	});
}

#[test]
fn whoever_appeals_at_once_keeps_no_final_answer_from_the_pallet_that_asked() {
	run(|| {
		let asked = |who| {
			let (input, committee) = (text("hi", 4), Assurance::Committee(2));
			Inference::request_inference(who, id(TEXT), input, committee, 1_000, 0).unwrap()
		};
		let (request, other) = (asked(ALICE), asked(BOB));
		while !(state(request).is_settled() && state(other).is_settled()) {
			work_block(&[]);
		}
		// Before the callbacks of this block run.
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		next_block();
		let of_other = told();
		assert!(
			matches!(of_other[..], [(id, Settled::Final(_))] if id == other),
			"{of_other:?}"
		);
		end(request, &[]);
		next_block();
		let of_request = told();
		assert!(
			matches!(of_request[..], [(id, Settled::Final(_))] if id == request),
			"{of_request:?}"
		);
		blocks(3);
		assert!(told().is_empty());
	});
}

#[test]
fn an_answer_that_is_overturned_before_the_pallet_heard_of_it_is_told_once() {
	run(|| {
		let input = text("hi", 4);
		let committee = Assurance::Committee(2);
		let request =
			Inference::request_inference(ALICE, id(TEXT), input, committee, 1_000, 0).unwrap();
		let odd = capture(request, TEXT).map(|v| (v, Habit::Vouching));
		set_idle(Weight::zero());
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		end(request, &odd);
		assert_eq!(state(request), RequestState::Overturned);
		set_idle(Weight::MAX);
		blocks(3);
		assert_eq!(told(), [(request, Settled::Overturned)]);
	});
}

#[test]
fn an_overturned_answer_takes_no_place_that_another_callback_was_promised() {
	Retention::set(200);
	run(|| {
		let asked = || {
			let (input, committee) = (text("hi", 4), Assurance::Committee(2));
			Inference::request_inference(ALICE, id(TEXT), input, committee, 1_000, 0)
		};
		let request = asked().unwrap();
		let odd = capture(request, TEXT).map(|v| (v, Habit::Vouching));
		blocks(2);
		assert_eq!(told().len(), 1);
		// All places are taken or promised when the answer is overturned, the last one to a request that is settled later.
		set_idle(Weight::zero());
		for _ in 1..MaxOpen::get() {
			settle_within(asked().unwrap(), 8, &[]);
		}
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		let last = asked().unwrap();
		assert_noop!(asked(), Error::<Test>::TooManyOpen);
		end(request, &odd);
		assert_eq!(state(request), RequestState::Overturned);
		assert!(!state(last).is_settled());
		settle_within(last, 8, &[]);
		check();
		set_idle(Weight::MAX);
		blocks(3);
		let all = told();
		assert_eq!(all.len(), 1 + MaxOpen::get() as usize);
		assert!(all.contains(&(request, Settled::Overturned)));
	});
}
