//! What a jury finds waits for a second one, where others serve the model who did not sit.

use consilience_primitives::{report::Statement, view::RequestState, RequestId};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold},
	sp_core::Pair,
	sp_runtime::Perbill,
};

use crate::{
	mock::*, Accusation, Basis, ContestEnd, Error, Event, HoldReason, Juries, OffenceKind,
	OffenceKind::*, Suspended,
};

/// Validators of which a jury is the smaller part.
const MANY: [u64; 16] = {
	let mut all = [0; 16];
	let mut i = 0;
	while i < 16 {
		all[i] = 101 + i as u64;
		i += 1;
	}
	all
};

/// With sixteen who serve the text model, and juries of seven.
fn crowd(test: impl FnOnce()) {
	run(|| {
		MaxJurors::set(7);
		set_session(&MANY);
		for v in &MANY[7..] {
			Balances::force_set_balance(RuntimeOrigin::root(), *v, 1_000).unwrap();
			let serve = Statement::Serve {
				model: id(TEXT),
				evidence: digest(7),
				speed: Speed::default(),
			};
			report(*v, vec![serve]).unwrap();
		}
		next_block();
		test();
	});
}

/// Everybody works for a block, each with its habit.
fn work_all(habit: impl Fn(u64) -> Habit) {
	for v in MANY {
		work(v, habit(v));
	}
	next_block();
}

/// An answer with a committee and the jury's seats drawn, whose executor is right or not.
fn disputed(lie: bool) -> RequestId {
	let request = ask(TEXT, ALICE);
	blocks(2);
	let writer = executor(request);
	work(writer, if lie { Habit::Vouching } else { Habit::Honest });
	blocks(2);
	let slanderer = verifiers(request)[0];
	let odd = |v| match v {
		_ if v == writer && lie => Habit::Vouching,
		_ if v == slanderer && !lie => Habit::Slandering,
		_ => Habit::Honest,
	};
	for _ in 0..10 {
		if !seats(request).is_empty() {
			return request;
		}
		work_all(odd);
	}
	panic!("no jury");
}

fn seats(request: RequestId) -> Vec<u64> {
	Inference::request_view(request).unwrap().jurors
}

fn until(request: RequestId, ended: impl Fn(RequestState) -> bool, habit: impl Fn(u64) -> Habit) {
	for _ in 0..40 {
		if ended(state(request)) {
			return;
		}
		work_all(&habit);
	}
	panic!("still {:?}", state(request));
}

fn heard() -> Vec<(u64, OffenceKind)> {
	let mut heard: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
	heard.sort();
	heard
}

fn ends() -> Vec<ContestEnd> {
	let ends = events().into_iter().filter_map(|event| match event {
		Event::ContestEnded { end, .. } => Some(end),
		_ => None,
	});
	ends.collect()
}

/// A jury of seven that the party has most of, against an honest executor: what it says and whom it accuses.
fn captured_jury() -> (RequestId, Vec<u64>, Vec<u64>) {
	let request = disputed(false);
	let seats = seats(request);
	let parties = [&[executor(request)][..], &verifiers(request)].concat();
	// Four of seven seats, and no others.
	let slanderer = verifiers(request)[0];
	let strangers = seats.iter().copied().filter(|v| !parties.contains(v));
	let more = if seats.contains(&slanderer) { 3 } else { 4 };
	let party: Vec<_> = strangers.take(more).chain([slanderer]).collect();
	let habit = |v| {
		if party.contains(&v) {
			Habit::Slandering
		} else {
			Habit::Honest
		}
	};
	until(request, RequestState::is_settled, habit);
	(request, party, parties)
}

#[test]
fn what_a_jury_finds_waits_as_long_as_it_can_be_contested_and_its_liars_are_drawn_no_more_at_once()
{
	crowd(|| {
		let request = disputed(true);
		let liar = executor(request);
		until(request, RequestState::is_settled, |v| {
			if v == liar {
				Habit::Vouching
			} else {
				Habit::Honest
			}
		});
		assert_eq!(state(request), RequestState::Rejected);
		assert!(Inference::is_suspended(&liar));
		let waits = events().into_iter().any(
			|e| matches!(e, Event::Accused { offender, kind: FraudulentResult, .. } if offender == liar),
		);
		assert!(waits);
		let told = |v| Inference::duties(&pair(v).public()).unwrap().accused;
		let until = Juries::<Test>::get(request).unwrap().ruling.unwrap().until;
		assert_eq!(told(liar), [(request, until)]);
		assert_eq!(told(verifiers(request)[0]), []);
		blocks(ContestBlocks::get());
		assert_eq!(heard(), []);
		check();
		blocks(3);
		assert_eq!(heard(), [(liar, FraudulentResult)]);
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(liar), request),
			Error::<Test>::NotContestable
		);
	});
}

#[test]
fn who_was_found_guilty_by_a_captured_jury_is_acquitted_by_those_who_did_not_sit() {
	crowd(|| {
		let (request, party, parties) = captured_jury();
		let honest = parties[0];
		assert_eq!(state(request), RequestState::Rejected, "{party:?}");
		assert!(Inference::is_suspended(&honest));
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::NotContestable
		);
		let before = Balances::free_balance(honest);
		assert_ok!(Inference::contest(RuntimeOrigin::signed(honest), request));
		assert_eq!(
			Balances::balance_on_hold(&HoldReason::Appeal.into(), &honest),
			500
		);
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(honest), request),
			Error::<Test>::NotContestable
		);
		check();
		let first = Juries::<Test>::get(request).unwrap().seats;
		until(
			request,
			|s| s == RequestState::Rejected,
			|v| {
				if party.contains(&v) {
					Habit::Slandering
				} else {
					Habit::Honest
				}
			},
		);
		let second = seats(request);
		assert!(second.len() >= 3);
		assert!(second.iter().all(|v| !first.contains(v) && *v != honest));
		assert_eq!(ends(), [ContestEnd::Quashed]);
		assert_eq!(Balances::free_balance(honest), before, "its bond is back");
		assert!(!Inference::is_suspended(&honest));
		blocks(2 * ContestBlocks::get());
		assert_eq!(heard(), [], "nobody is slashed");
		assert!(Suspended::<Test>::get().is_empty());
	});
}

#[test]
fn a_liar_that_contests_loses_its_bond_too() {
	crowd(|| {
		let request = disputed(true);
		let liar = executor(request);
		let habit = |v| {
			if v == liar {
				Habit::Vouching
			} else {
				Habit::Honest
			}
		};
		until(request, RequestState::is_settled, habit);
		let before = Balances::free_balance(liar);
		let fund = Balances::free_balance(FUND);
		assert_ok!(Inference::contest(RuntimeOrigin::signed(liar), request));
		until(request, |s| s == RequestState::Rejected, habit);
		assert_eq!(ends(), [ContestEnd::Upheld]);
		assert_eq!(before - Balances::free_balance(liar), 500);
		assert_eq!(
			Balances::free_balance(FUND),
			fund,
			"it pays the second jury"
		);
		assert!(Inference::is_suspended(&liar));
		blocks(3);
		assert_eq!(heard(), [(liar, FraudulentResult)]);
	});
}

#[test]
fn most_of_a_second_jury_acquits_nobody_whom_most_of_both_find_guilty() {
	crowd(|| {
		let request = disputed(true);
		let liar = executor(request);
		let first = seats(request);
		let parties = [&[liar][..], &verifiers(request)].concat();
		let others: Vec<_> = MANY
			.into_iter()
			.filter(|v| !first.contains(v) && !parties.contains(v))
			.collect();
		// Most of those who are left, and fewer than half of all: friends who were honest while others looked.
		let left = MANY.iter().filter(|v| **v != liar && !first.contains(v));
		let friends = &others[..left.count() / 2 + 1];
		assert!(friends.len() + 1 < 8, "{friends:?}");
		until(request, RequestState::is_settled, |v| {
			if v == liar {
				Habit::Vouching
			} else {
				Habit::Honest
			}
		});
		assert_ok!(Inference::contest(RuntimeOrigin::signed(liar), request));
		until(
			request,
			|s| s == RequestState::Rejected,
			|v| {
				if v == liar || friends.contains(&v) {
					Habit::Vouching
				} else {
					Habit::Honest
				}
			},
		);
		assert_eq!(ends(), [ContestEnd::Upheld]);
		blocks(3);
		let heard = heard();
		assert!(heard.contains(&(liar, FraudulentResult)), "{heard:?}");
		assert!(
			heard.iter().all(|(who, _)| *who == liar),
			"those who sat in one jury only are not slashed: {heard:?}"
		);
	});
}

#[test]
fn friends_who_stay_away_from_the_second_jury_acquit_nobody() {
	for come in [0, 1, 3] {
		crowd(|| {
			let request = disputed(true);
			let liar = executor(request);
			until(request, RequestState::is_settled, |v| {
				if v == liar {
					Habit::Vouching
				} else {
					Habit::Honest
				}
			});
			assert_ok!(Inference::contest(RuntimeOrigin::signed(liar), request));
			while seats(request).is_empty() {
				work_all(|_| Habit::Honest);
			}
			let drawn = seats(request);
			assert_eq!(drawn.len(), 7);
			until(
				request,
				|s| s == RequestState::Rejected,
				|v| {
					if drawn[..come].contains(&v) {
						Habit::Honest
					} else {
						Habit::Silent
					}
				},
			);
			assert_eq!(ends(), [ContestEnd::Upheld], "{come} came");
			blocks(3);
			assert!(heard().contains(&(liar, FraudulentResult)), "{come} came");
		});
	}
}

#[test]
fn whoever_was_drawn_for_the_first_jury_and_did_not_come_is_not_asked_again() {
	crowd(|| {
		// All sixteen are drawn, and three friends stay away.
		MaxJurors::set(16);
		let request = disputed(true);
		let liar = executor(request);
		let parties = [&[liar][..], &verifiers(request)].concat();
		assert_eq!(seats(request).len(), 16);
		let friends: Vec<_> = MANY
			.into_iter()
			.filter(|v| !parties.contains(v))
			.take(3)
			.collect();
		until(request, RequestState::is_settled, |v| match v {
			_ if v == liar => Habit::Vouching,
			_ if friends.contains(&v) => Habit::Silent,
			_ => Habit::Honest,
		});
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(liar), request),
			Error::<Test>::NotContestable
		);
		blocks(3);
		assert_eq!(heard(), [(liar, FraudulentResult)]);
	});
}

#[test]
fn what_somebody_said_as_a_juror_is_not_undone_by_what_it_measured_in_the_committee() {
	crowd(|| {
		MaxJurors::set(10);
		let mut request = disputed(true);
		let sits = |request| {
			let seats = seats(request);
			verifiers(request).into_iter().find(|v| seats.contains(v))
		};
		while sits(request).is_none() {
			request = disputed(true);
		}
		let (liar, voucher) = (executor(request), sits(request).unwrap());
		let habit = |v| {
			if v == liar || v == voucher {
				Habit::Vouching
			} else {
				Habit::Honest
			}
		};
		until(request, RequestState::is_settled, habit);
		assert_ok!(Inference::contest(RuntimeOrigin::signed(voucher), request));
		until(request, |s| s == RequestState::Rejected, habit);
		assert_eq!(ends(), [ContestEnd::Upheld]);
		blocks(10);
		let heard = heard();
		assert!(heard.contains(&(voucher, FraudulentEvidence)), "{heard:?}");
	});
}

#[test]
fn an_acquittal_undoes_one_finding_and_no_other() {
	run(|| {
		let v = VALIDATORS[0];
		let [first, second] =
			[1, 2].map(|request| Inference::accuse(request, &v, FraudulentEvidence, 0));
		for _ in 0..2 {
			Inference::finding_waits(&v);
		}
		// It stays suspended for as long as something waits, however long that is.
		for _ in 0..5 {
			set_session(&VALIDATORS);
			check();
		}
		assert!(Inference::is_suspended(&v));
		let request = ask(TEXT, ALICE);
		let asked = crate::Requests::<Test>::get(request).unwrap();
		let accusation = |offence| Accusation {
			offence,
			basis: Basis::Answer,
		};
		Inference::conclude_accusation(accusation(first), Some(&asked));
		assert!(Inference::is_suspended(&v));
		check();
		Inference::conclude_accusation(accusation(second), None);
		assert!(!Inference::is_suspended(&v), "its time is long over");
		check();
		blocks(3);
		let heard: Vec<_> = reported().iter().map(|o| (o.request, o.fraction)).collect();
		assert_eq!(heard, [(2, Perbill::from_percent(10))]);
		Inference::do_cancel(ALICE, request).ok();
	});
}

#[test]
fn where_everybody_sat_there_is_nobody_else_to_ask() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		blocks(2);
		settle_within(request, 10, &[(liar, Habit::Vouching)]);
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(liar), request),
			Error::<Test>::NotContestable
		);
		assert_noop!(
			Inference::contest(RuntimeOrigin::signed(liar), 99),
			Error::<Test>::UnknownRequest
		);
		blocks(3);
		assert_eq!(heard(), [(liar, FraudulentResult)]);
	});
}
