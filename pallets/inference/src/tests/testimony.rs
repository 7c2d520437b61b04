//! What checkers have signed of answers that were given elsewhere.

use consilience_primitives::{
	evidence::Verdict,
	model::{Bounds, NumericClass},
	request::Output,
	view::RequestState,
	RequestId,
};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	sp_core::H256,
	sp_runtime::{DispatchError, Perbill},
};

use super::elsewhere::{
	answered, auditors, reference, right, show, until_told, work_blocks, AUTHOR,
};
use crate::{
	mock::*, Answered, AuditAnswers, Auditing, Doubting, Error, Event, HoldReason, Juries,
	OffenceKind, OffenceKind::*, References, Settled, Standing, Testimonies, Unheard,
	AUDITS_AT_A_TIME, MAX_TESTIMONIES,
};

/// With answers that are kept for long.
fn sessions(test: impl FnOnce()) {
	super::elsewhere::sessions(|| {
		Retention::set(100);
		test();
		Retention::set(20);
	});
}

/// Checkers.
const FIRST: u64 = VALIDATORS[1];
const SECOND: u64 = VALIDATORS[2];

fn margin(margin_max: u32) -> Verdict {
	Verdict {
		margin_max,
		..Default::default()
	}
}

/// What the mock's model says of a lie, and of the truth.
fn is_wrong() -> Verdict {
	margin(90_000)
}

fn is_right() -> Verdict {
	margin(0)
}

/// A checker's word of session 2.
fn testify(request: RequestId, checker: u64, verdict: Verdict) -> Result<(), Unheard> {
	let name = reference(request);
	let may = <Inference as AuditAnswers<u64>>::may_testify(&name, &checker, 2, &verdict);
	let done = <Inference as AuditAnswers<u64>>::testify(&name, &checker, 2, &verdict);
	assert_eq!(may, done, "what is let in is taken");
	done
}

/// Works until this holds.
fn until(odd: &[(u64, Habit)], holds: impl Fn() -> bool) {
	let mut left = 200;
	while !holds() {
		work_block(odd);
		left -= 1;
		assert!(left > 0, "it never holds");
	}
}

fn refused(request: RequestId, checker: u64, verdict: Verdict, why: Unheard) {
	let before = Testimonies::<Test>::get(request);
	assert_eq!(testify(request, checker, verdict), Err(why));
	assert_eq!(Testimonies::<Test>::get(request), before);
}

/// Whom staking has heard of, for what, and of which session, once it has heard of everybody.
fn heard() -> Vec<(u64, OffenceKind, u32)> {
	work_blocks(16, &[]);
	let mut all: Vec<_> = reported()
		.iter()
		.map(|o| {
			assert_eq!(o.fraction, Perbill::from_percent(10));
			(o.offender.0, o.kind, o.session_index)
		})
		.collect();
	all.sort();
	all
}

/// Has the text model be of the tolerant class.
fn tolerant() {
	pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
		let policy = &mut model.as_mut().unwrap().spec.policy;
		let bounds = |margin_max, margin_mean| Bounds {
			margin_max,
			margin_mean,
			..Default::default()
		};
		policy.accept = bounds(100, 10);
		policy.fraud = bounds(1_000, 100);
	});
}

#[test]
fn who_vouched_for_what_a_jury_finds_false_is_reported_for_the_session_of_its_deed() {
	sessions(|| {
		let request = show(wrong_answer());
		assert_ok!(testify(request, FIRST, is_right()));
		assert!(events().contains(&Event::Testified {
			request,
			checker: FIRST,
			vouches: true
		}));
		assert!(reported().is_empty(), "nothing is judged yet");
		// While it is measured, too.
		work_blocks(2, &[]);
		assert_eq!(state(request), RequestState::Disputed);
		assert_ok!(testify(request, SECOND, is_right()));
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		let expected = [
			(AUTHOR, FraudulentResult, 1),
			(FIRST, FraudulentEvidence, 2),
			(SECOND, FraudulentEvidence, 2),
		];
		assert_eq!(heard(), expected);
		assert!(Inference::is_suspended(&FIRST));
		// Its stake pays what the same lie costs a verifier, and nobody is paid for having shown it.
		assert_eq!(crate::Claims::<Test>::iter().count(), 0);
	});
}

#[test]
fn a_checker_that_said_what_the_jury_says_loses_nothing_and_may_sit_in_it() {
	sessions(|| {
		let request = show(wrong_answer());
		assert_ok!(testify(request, FIRST, is_wrong()));
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		assert_eq!(heard(), [(AUTHOR, FraudulentResult, 1)]);
		assert!(Doubting::<Test>::get(FIRST).is_none());
		let jurors = Inference::request_view(request).unwrap().jurors;
		assert!(jurors.contains(&FIRST));
	});
	sessions(|| {
		let request = show(right());
		assert_ok!(testify(request, FIRST, is_right()));
		assert_eq!(until_told(&[]), [(request, Settled::Stands)]);
		assert!(heard().is_empty());
	});
}

#[test]
fn what_comes_late_is_judged_by_what_was_found() {
	sessions(|| {
		let request = show(wrong_answer());
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		assert_eq!(heard(), [(AUTHOR, FraudulentResult, 1)]);
		// Whoever was right need not come.
		refused(request, SECOND, is_wrong(), Unheard::NothingToJudge);
		assert_ok!(testify(request, FIRST, is_right()));
		assert_eq!(heard(), [(FIRST, FraudulentEvidence, 2)]);
		refused(request, FIRST, is_right(), Unheard::HeardBefore);
		assert!(heard().is_empty(), "once");
	});
}

#[test]
fn whoever_calls_a_right_answer_wrong_has_a_jury_judge_it_and_pays_for_that() {
	sessions(|| {
		let request = show(right());
		assert_ok!(testify(request, FIRST, is_wrong()));
		assert_eq!(until_told(&[]), [(request, Settled::Stands)]);
		assert!(events().contains(&Event::RequestDisputed { request }));
		assert_eq!(heard(), [(FIRST, FraudulentEvidence, 2)]);
		assert_eq!(state(request), RequestState::Final);
		// It stands, and another slanderer of it pays as well.
		assert_ok!(testify(request, SECOND, is_wrong()));
		assert_eq!(heard(), [(SECOND, FraudulentEvidence, 2)]);
		refused(request, VALIDATORS[3], is_right(), Unheard::NothingToJudge);
	});
}

#[test]
fn auditors_who_are_friends_of_the_author_do_not_end_what_a_checker_has_called_wrong() {
	for late in [false, true] {
		sessions(|| {
			let request = show(wrong_answer());
			work_blocks(2, &[]);
			let friend = auditors(request)[0];
			let party = [AUTHOR, friend].map(|v| (v, Habit::Vouching));
			let honest = VALIDATORS
				.into_iter()
				.find(|v| ![AUTHOR, friend].contains(v));
			if late {
				// It stood: then a client comes with what a checker has signed.
				assert_eq!(until_told(&party), [(request, Settled::Stands)]);
			}
			assert_ok!(testify(request, honest.unwrap(), is_wrong()));
			assert_eq!(until_told(&party), [(request, Settled::Overturned)]);
			let blamed = heard();
			assert!(blamed.contains(&(AUTHOR, FraudulentResult, 1)));
			let in_party = |who: u64| [AUTHOR, friend].contains(&who);
			assert!(blamed.iter().all(|(who, ..)| in_party(*who)));
		});
	}
}

#[test]
fn auditors_who_do_not_come_do_not_end_it_either() {
	sessions(|| {
		let silent: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Silent)).collect();
		let request = show(wrong_answer());
		assert_ok!(testify(request, FIRST, is_wrong()));
		until(&silent, || {
			events().contains(&Event::RequestDisputed { request })
		});
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
	});
}

#[test]
fn a_verdict_that_says_neither_is_not_taken() {
	sessions(|| {
		// What another machine's rounding can bring about is no lie in the exact class, and calls no jury.
		let request = show(right());
		for m in [1, 8_192] {
			refused(request, FIRST, margin(m), Unheard::SaysNothing);
		}
		assert_ok!(testify(request, FIRST, margin(8_193)));
	});
	sessions(|| {
		tolerant();
		pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
			model.as_mut().unwrap().spec.policy.class = NumericClass::Tolerant;
		});
		let request = show(right());
		let mean = |margin_mean| Verdict {
			margin_mean,
			..Default::default()
		};
		for grey in [margin(101), margin(1_000), mean(11), mean(100)] {
			refused(request, FIRST, grey, Unheard::SaysNothing);
		}
		assert_ok!(testify(request, FIRST, margin(100)));
		assert_ok!(testify(request, FIRST, margin(1_001)));
		assert_ok!(testify(request, SECOND, mean(101)));
	});
}

#[test]
fn a_lie_that_rounding_could_be_costs_its_checkers_nothing() {
	// The jury finds it false by a margin that another machine's rounding can bring about, or by more.
	for (found, blamed) in [(8_192, false), (8_193, true)] {
		sessions(|| {
			let request = show(wrong_answer());
			assert_ok!(testify(request, FIRST, is_right()));
			set_margin(found);
			assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
			let all: Vec<_> = heard().into_iter().map(|(who, ..)| who).collect();
			assert_eq!(all.contains(&FIRST), blamed);
			assert!(all.contains(&AUTHOR));
			set_margin(90_000);
		});
	}
}

#[test]
fn one_checker_is_heard_once_on_each_side_and_as_many_as_may_be() {
	sessions(|| {
		let request = show(wrong_answer());
		Auditing::<Test>::put(AUDITS_AT_A_TIME);
		// A friend that says both is heard with both: it can't keep the one that costs it away with the other.
		assert_ok!(testify(request, FIRST, is_wrong()));
		assert_ok!(testify(request, FIRST, is_right()));
		refused(request, FIRST, is_wrong(), Unheard::HeardBefore);
		refused(request, FIRST, is_right(), Unheard::HeardBefore);
		// Those who speak the truth of a lie do not crowd out those who vouched for it.
		let half = u64::from(MAX_TESTIMONIES / 2);
		for other in 1..half {
			assert_ok!(testify(request, 1_000 + other, is_wrong()));
		}
		refused(request, 2_000, is_wrong(), Unheard::HeardEnough);
		assert_ok!(testify(request, SECOND, is_right()));
		Auditing::<Test>::put(0);
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		let expected = [
			(AUTHOR, FraudulentResult, 1),
			(FIRST, FraudulentEvidence, 2),
			(SECOND, FraudulentEvidence, 2),
		];
		assert_eq!(heard(), expected);
	});
}

#[test]
fn what_is_not_about_it_is_refused() {
	sessions(|| {
		let request = show(right());
		refused(7, FIRST, is_right(), Unheard::UnknownAnswer);
		refused(request, AUTHOR, is_right(), Unheard::OwnAnswer);
		// Requests of this lane have no name elsewhere.
		let own = ask(TEXT, ALICE);
		refused(own, FIRST, is_right(), Unheard::UnknownAnswer);
		assert_eq!(until_told(&[]), [(request, Settled::Stands)]);
		// Measured by others and not doubted: a word for it says nothing.
		refused(request, FIRST, is_right(), Unheard::NothingToJudge);
		work_blocks(100, &[]);
		refused(request, FIRST, is_wrong(), Unheard::UnknownAnswer);
	});
}

#[test]
fn a_checkers_word_calls_one_jury_at_a_time_and_none_when_it_costs_nothing() {
	sessions(|| {
		let (one, two) = (show(right()), show(right()));
		assert_ok!(testify(one, FIRST, is_wrong()));
		refused(two, FIRST, is_wrong(), Unheard::NoWeight);
		// Its word for another answer is another matter.
		assert_ok!(testify(two, FIRST, is_right()));
		work_blocks(30, &[]);
		assert_eq!(state(one), RequestState::Final);
		assert!(Doubting::<Test>::get(FIRST).is_none());
		assert_eq!(
			reported().iter().filter(|o| o.offender.0 == FIRST).count(),
			1
		);
		// It would be one deed with what it has paid for.
		let three = show(right());
		refused(three, FIRST, is_wrong(), Unheard::NoWeight);
		let name = reference(three);
		assert_ok!(<Inference as AuditAnswers<u64>>::testify(
			&name,
			&FIRST,
			99,
			&is_wrong()
		));
	});
}

#[test]
fn an_undecided_jury_blames_no_checker() {
	sessions(|| {
		let request = show(right());
		assert_ok!(testify(request, FIRST, is_wrong()));
		assert_ok!(testify(request, SECOND, is_right()));
		until(&[], || {
			events().contains(&Event::RequestDisputed { request })
		});
		let silent: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Silent)).collect();
		assert_eq!(until_told(&silent), [(request, Settled::Stands)]);
		assert!(reported()
			.iter()
			.all(|o| o.kind == OffenceKind::Absence || !o.kind.is_fraud()));
		assert!(Doubting::<Test>::get(FIRST).is_none());
		// No other jury judges it.
		refused(request, VALIDATORS[3], is_wrong(), Unheard::NothingToJudge);
	});
}

/// Has juries of three, beside whom there are others.
fn few(test: impl FnOnce()) {
	sessions(|| {
		MaxJurors::set(3);
		MinJury::set(1);
		test();
		MaxJurors::set(8);
		MinJury::set(3);
	});
}

fn accused() -> Vec<(u64, u64)> {
	let found = events().into_iter().filter_map(|e| match e {
		Event::Accused {
			offender,
			contestable_until,
			..
		} => Some((offender, contestable_until)),
		_ => None,
	});
	found.collect()
}

#[test]
fn whoever_is_accused_late_has_as_long_to_contest_as_the_others() {
	few(|| {
		let request = show(wrong_answer());
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		let first = accused();
		assert_eq!(first.len(), 1);
		let until = first[0].1;
		// In the last block in which the author can contest.
		work_blocks(until - System::block_number(), &[]);
		assert_ok!(testify(request, FIRST, is_right()));
		assert_eq!(accused(), first, "it waits");
		assert!(reported().is_empty());
		work_blocks(1, &[]);
		let now = System::block_number();
		assert_eq!(accused()[1..], [(FIRST, now + ContestBlocks::get())]);
		assert_ok!(Inference::contest(RuntimeOrigin::signed(FIRST), request));
		work_blocks(12, &[]);
		// Both juries find it false.
		let all: Vec<_> = reported().iter().map(|o| o.offender.0).collect();
		assert_eq!(all, [AUTHOR, FIRST]);
		// There is nobody else to ask for whoever comes now.
		assert_ok!(testify(request, SECOND, is_right()));
		assert_eq!(heard(), [(SECOND, FraudulentEvidence, 2)]);
		assert_eq!(accused().len(), 2);
	});
}

#[test]
fn honest_checkers_whom_a_captured_jury_accuses_are_acquitted_by_the_second() {
	few(|| {
		let request = show(right());
		assert_ok!(testify(request, FIRST, is_right()));
		// The auditors call it wrong, and most of the jury.
		let liars: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Slandering)).collect();
		assert_eq!(until_told(&liars), [(request, Settled::Overturned)]);
		assert!(accused().iter().any(|(who, _)| *who == FIRST));
		// It may sit in the second jury: showing the words of honest checkers does not empty that.
		assert!(!Inference::is_suspended(&FIRST));
		assert_ok!(Inference::contest(RuntimeOrigin::signed(FIRST), request));
		work_blocks(12, &[]);
		let all: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert!(all.is_empty(), "{all:?}");
		assert!(!Inference::is_suspended(&FIRST));
		// What was found does not hold: nobody else is judged by it.
		refused(request, SECOND, is_right(), Unheard::NothingToJudge);
	});
}

#[test]
fn what_was_heard_is_forgotten_with_the_answer() {
	sessions(|| {
		let request = show(right());
		assert_ok!(testify(request, FIRST, is_wrong()));
		work_blocks(120, &[]);
		assert!(!References::<Test>::contains_key(reference(request)));
		assert_eq!(Testimonies::<Test>::iter().count(), 0);
		assert_eq!(Doubting::<Test>::iter().count(), 0);
	});
}

fn appeal(who: u64, output: Output) -> Result<RequestId, DispatchError> {
	<Inference as AuditAnswers<u64>>::appeal(who, answered(output))
}

fn standing(request: RequestId) -> Option<Standing> {
	let (id, standing) = <Inference as AuditAnswers<u64>>::standing(&reference(request))?;
	assert_eq!(id, request);
	Some(standing)
}

fn bond(who: u64) -> u64 {
	use polkadot_sdk::frame_support::traits::fungible::InspectHold;
	Balances::balance_on_hold(&HoldReason::Appeal.into(), &who)
}

#[test]
fn an_answer_is_put_before_a_jury_at_once_and_its_author_pays_where_it_is_false() {
	sessions(|| {
		let money = Balances::free_balance(BOB);
		let request = appeal(BOB, wrong_answer()).unwrap();
		assert_eq!(state(request), RequestState::Disputed);
		assert_eq!(standing(request), Some(Standing::Measured));
		assert_eq!((bond(BOB), Balances::free_balance(BOB)), (500, money - 500));
		assert_ok!(testify(request, FIRST, is_right()));
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		assert_eq!(standing(request), Some(Standing::False));
		assert_eq!((bond(BOB), Balances::free_balance(BOB)), (0, money));
		let expected = [
			(AUTHOR, FraudulentResult, 1),
			(FIRST, FraudulentEvidence, 2),
		];
		assert_eq!(heard(), expected);
		// At most its bond again, when the slash is applied, and out of that.
		let owed = crate::Claims::<Test>::get(AUTHOR, request).unwrap().owed;
		assert_eq!(owed.into_inner(), [(BOB, 500)]);
		assert!(!events()
			.iter()
			.any(|e| matches!(e, Event::AuditDrawn { .. })));
	});
}

#[test]
fn an_appeal_against_a_right_answer_pays_the_jury_and_the_rest_is_burned() {
	sessions(|| {
		let (money, all) = (Balances::free_balance(BOB), total());
		let jurors = VALIDATORS.map(Balances::free_balance);
		let request = appeal(BOB, right()).unwrap();
		assert_eq!(until_told(&[]), [(request, Settled::Stands)]);
		assert_eq!(standing(request), Some(Standing::Right));
		assert_eq!((bond(BOB), Balances::free_balance(BOB)), (0, money - 500));
		let earned: u64 = VALIDATORS
			.map(Balances::free_balance)
			.iter()
			.zip(jurors)
			.map(|(now, before)| now - before)
			.sum();
		assert!(earned > 0 && earned < 500);
		assert_eq!(all - total(), 500 - earned, "what is left is burned");
		assert!(heard().is_empty());
	});
}

#[test]
fn an_answer_is_shown_once_whoever_does_it() {
	sessions(|| {
		let request = appeal(BOB, right()).unwrap();
		let again = Answered {
			reference: reference(request),
			..answered(right())
		};
		assert_noop!(
			<Inference as AuditAnswers<u64>>::appeal(ALICE, again),
			Error::<Test>::NotAppealable
		);
		let audited = show(right());
		let again = Answered {
			reference: reference(audited),
			..answered(right())
		};
		assert_noop!(
			<Inference as AuditAnswers<u64>>::appeal(ALICE, again),
			Error::<Test>::NotAppealable
		);
		assert_eq!(standing(audited), Some(Standing::Measured));
		work_blocks(12, &[]);
		assert_eq!(standing(audited), Some(Standing::Stands));
		assert_eq!(standing(99), None);
	});
}

#[test]
fn no_appeal_where_there_is_no_jury_or_no_bond() {
	sessions(|| {
		Balances::force_set_balance(RuntimeOrigin::root(), BOB, 400).unwrap();
		let answer = || answered(right());
		assert!(
			polkadot_sdk::frame_support::storage::with_storage_layer(|| {
				<Inference as AuditAnswers<u64>>::appeal(BOB, answer())
			})
			.is_err()
		);
		for v in &VALIDATORS[2..] {
			ModelRegistry::withdraw_all(v);
		}
		let refused = polkadot_sdk::frame_support::storage::with_storage_layer(|| {
			<Inference as AuditAnswers<u64>>::appeal(ALICE, answer())
		});
		assert_eq!(refused, Err(Error::<Test>::JuryTooSmall.into()));
		assert_eq!(Juries::<Test>::iter().count(), 0);
		assert_eq!(References::<Test>::iter_keys().collect::<Vec<H256>>(), []);
	});
}

#[test]
fn whoever_calls_a_jury_does_not_choose_the_blocks_that_draw_it() {
	sessions(|| {
		DrawOdds::set(1_000);
		let draw = |request| crate::Requests::<Test>::get(request).unwrap().draw.unwrap();
		// Among so many blocks in which it could have been called, a third of the slots owns one window in one of a thousand cases.
		let many = Answered {
			choice: 3_600,
			..answered(right())
		};
		let request = <Inference as AuditAnswers<u64>>::appeal(BOB, many).unwrap();
		let drawn = draw(request);
		assert_eq!(drawn.blocks, 12);
		assert_eq!(drawn.from % 12, 0, "windows do not overlap");
		let stood = show(right());
		until(&[], || !draw_is_some(stood));
		work_blocks(12, &[]);
		assert_eq!(state(stood), RequestState::Final);
		assert_ok!(testify(stood, FIRST, is_wrong()));
		assert_eq!((draw(stood).blocks, draw(stood).from % 12), (12, 0));
		work_blocks(60, &[]);
		DrawOdds::set(0);
		assert_eq!(state(stood), RequestState::Final);
		assert!(reported().iter().any(|o| o.offender.0 == FIRST));
	});
}

fn draw_is_some(request: RequestId) -> bool {
	crate::Requests::<Test>::get(request)
		.unwrap()
		.draw
		.is_some()
}
