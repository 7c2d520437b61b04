//! Answers that were given elsewhere and are measured here.

use consilience_primitives::{
	model::Price, request::Output, view::RequestState, List, ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, pallet_prelude::Weight},
	sp_core::H256,
	sp_runtime::{DispatchError, Perbill},
};

use crate::{
	mock::*, next_window, Answered, AuditAnswers, Auditing, DrawBeacon, Elsewhere, Error, Event,
	Juries, OffenceKind, Parameters, Requests, SessionValidators, Settled, TreasuryShare,
	AUDITS_AT_A_TIME, AUDIT_TRIES, NOT_SHOWN,
};

/// Who has answered elsewhere.
pub(super) const AUTHOR: u64 = VALIDATORS[0];

/// Name of the answer that is shown as this request.
pub(super) fn reference(request: RequestId) -> H256 {
	H256::from_low_u64_be(request + 1)
}

pub(super) fn answered(output: Output) -> Answered<u64> {
	Answered {
		reference: reference(crate::NextRequest::<Test>::get()),
		requester: ALICE,
		model: id(TEXT),
		input: text("hi", 4),
		output,
		seed: H256::repeat_byte(3),
		executor: AUTHOR,
		session: 1,
		passed_over: List::new(),
		choice: 0,
	}
}

/// Has an answer of an earlier session measured.
pub(super) fn show(output: Output) -> RequestId {
	<Inference as AuditAnswers<u64>>::audit(answered(output)).unwrap()
}

pub(super) fn right() -> Output {
	answer(&[1, 2, 3])
}

pub(super) fn sessions(test: impl FnOnce()) {
	run(|| {
		Balances::force_set_balance(RuntimeOrigin::root(), FUND, 10_000).unwrap();
		for _ in 0..3 {
			set_session(&VALIDATORS);
		}
		test();
	});
}

pub(super) fn auditors(request: RequestId) -> Vec<u64> {
	let drawn = events().into_iter().rev().find_map(|e| match e {
		Event::AuditDrawn {
			request: r,
			auditors,
			..
		} if r == request => Some(auditors),
		_ => None,
	});
	drawn.unwrap()
}

pub(super) fn work_blocks(n: u64, odd: &[(u64, Habit)]) {
	for _ in 0..n {
		work_block(odd);
		check();
	}
}

/// Works until whoever asked is told something.
pub(super) fn until_told(odd: &[(u64, Habit)]) -> Vec<(RequestId, Settled)> {
	for _ in 0..40 {
		work_blocks(1, odd);
		let told = told();
		if !told.is_empty() {
			return told;
		}
	}
	panic!("nobody was told");
}

#[test]
fn an_answer_that_others_measure_alike_stands_and_whoever_asked_is_told() {
	sessions(|| {
		// Chance has no say.
		assert_eq!(Parameters::<Test>::get().audit_share, Perbill::zero());
		let (alice, fund) = (Balances::free_balance(ALICE), Balances::free_balance(FUND));
		let request = show(right());
		assert!(events().contains(&Event::AnswerShown {
			request,
			executor: AUTHOR,
			model: id(TEXT)
		}));
		work_blocks(2, &[]);
		assert_eq!(state(request), RequestState::Disputed);
		assert_eq!(Auditing::<Test>::get(), 1);
		let auditors = auditors(request);
		assert_eq!(
			auditors.len(),
			1,
			"as many as the model's smallest committee"
		);
		assert!(!auditors.contains(&AUTHOR));
		work_blocks(8, &[]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(told(), [(request, Settled::Stands)]);
		assert!(events().contains(&Event::AnswerStands { request }));
		assert_eq!(Auditing::<Test>::get(), 0);
		// 18 units in, as chats are counted, and 3 out: 10 and 1 for each.
		let units = Requests::<Test>::get(request).unwrap().input_units + 3;
		let each = u64::from(10 + units);
		assert_eq!(fund - Balances::free_balance(FUND), each);
		assert_eq!(
			Balances::free_balance(ALICE),
			alice,
			"nothing is held or paid"
		);
		assert!(reported().is_empty());
	});
}

#[test]
fn a_false_answer_goes_to_a_jury_and_costs_its_author_for_the_session_of_the_deed() {
	sessions(|| {
		let request = show(wrong_answer());
		assert_eq!(until_told(&[]), [(request, Settled::Overturned)]);
		assert_eq!(state(request), RequestState::Overturned);
		work_blocks(5, &[]);
		let found = reported();
		assert_eq!(found.len(), 1);
		assert_eq!(
			(found[0].offender.0, found[0].kind),
			(AUTHOR, OffenceKind::FraudulentResult)
		);
		assert_eq!((found[0].session_index, found[0].request), (1, request));
		assert!(Inference::is_suspended(&AUTHOR));
		// Nothing was paid for it here: nothing is owed.
		assert!(events().contains(&Event::AnswerOverturned { request, owed: 0 }));
		assert_eq!(crate::Claims::<Test>::iter().count(), 0);
	});
}

#[test]
fn accomplices_among_the_auditors_do_not_outvote_one_who_is_honest() {
	sessions(|| {
		pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
			model.as_mut().unwrap().spec.policy.min_verifiers = 2;
		});
		let request = show(wrong_answer());
		work_blocks(2, &[]);
		let drawn = auditors(request);
		assert_eq!(drawn.len(), 2);
		let party = [AUTHOR, drawn[0]].map(|v| (v, Habit::Vouching));
		assert_eq!(until_told(&party), [(request, Settled::Overturned)]);
	});
}

#[test]
fn an_auditor_that_slanders_calls_a_jury_and_the_answer_stands() {
	sessions(|| {
		let request = show(right());
		work_blocks(2, &[]);
		let slanderer = auditors(request)[0];
		let told = until_told(&[(slanderer, Habit::Slandering)]);
		assert_eq!(told, [(request, Settled::Stands)]);
		assert_eq!(state(request), RequestState::Final);
		work_blocks(5, &[]);
		assert!(reported().iter().all(|o| o.offender.0 != AUTHOR));
	});
}

#[test]
fn those_who_shall_not_measure_are_passed_over() {
	sessions(|| {
		for _ in 0..8 {
			let passed_over: Vec<_> = VALIDATORS[1..6].to_vec();
			let answer = Answered {
				passed_over: passed_over.try_into().unwrap(),
				..answered(right())
			};
			let request = <Inference as AuditAnswers<u64>>::audit(answer).unwrap();
			work_blocks(2, &[]);
			assert_eq!(auditors(request), [VALIDATORS[6]]);
			work_blocks(8, &[]);
		}
	});
}

#[test]
fn auditors_that_do_not_come_are_replaced_a_few_times() {
	sessions(|| {
		let silent: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Silent)).collect();
		let request = show(wrong_answer());
		work_blocks(60, &silent);
		let drawn = events()
			.iter()
			.filter(|e| matches!(e, Event::AuditDrawn { .. }))
			.count();
		assert_eq!(drawn, usize::from(AUDIT_TRIES));
		// Nobody there to measure is no reason to doubt.
		assert_eq!(told(), [(request, Settled::Stands)]);
		assert_eq!(Auditing::<Test>::get(), 0);
	});
	sessions(|| {
		let silent: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Silent)).collect();
		let request = show(wrong_answer());
		// The first is late, the second is not.
		while Elsewhere::<Test>::get(request).unwrap().tries < 2 {
			work_block(&silent);
		}
		work_blocks(40, &[]);
		assert_eq!(told(), [(request, Settled::Overturned)]);
	});
}

#[test]
fn where_nobody_else_serves_the_model_there_is_no_reason_to_doubt() {
	sessions(|| {
		let request = show(wrong_answer());
		for v in &VALIDATORS[1..] {
			ModelRegistry::withdraw_all(v);
		}
		work_blocks(4, &[]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(told(), [(request, Settled::Stands)]);
	});
	sessions(|| {
		for v in &VALIDATORS[1..] {
			ModelRegistry::withdraw_all(v);
		}
		let request = show(right());
		// Who comes before the draw measures.
		assert_ok!(ModelRegistry::serve(
			&VALIDATORS[3],
			id(TEXT),
			&digest(7),
			Speed::default()
		));
		work_blocks(2, &[]);
		assert_eq!(auditors(request), [VALIDATORS[3]]);
	});
}

#[test]
fn beyond_as_many_as_are_measured_at_a_time_they_wait_and_none_is_passed_over() {
	sessions(|| {
		Auditing::<Test>::put(AUDITS_AT_A_TIME);
		let requests: Vec<_> = (0..3).map(|_| show(right())).collect();
		for _ in 0..40 {
			work_block(&[]);
		}
		assert!(requests.iter().all(|r| state(*r) == RequestState::Final));
		assert!(told().is_empty());
		Auditing::<Test>::put(AUDITS_AT_A_TIME - 1);
		work_block(&[]);
		let measured = |r: &&RequestId| Juries::<Test>::contains_key(**r);
		assert_eq!(requests.iter().filter(measured).count(), 1);
		Auditing::<Test>::put(1);
		work_blocks(20, &[]);
		let told: Vec<_> = told().into_iter().map(|(request, _)| request).collect();
		assert_eq!(told.len(), 3);
		assert!(requests.iter().all(|r| told.contains(r)));
	});
}

#[test]
fn it_is_forgotten_after_retention_and_not_before_whoever_asked_was_told() {
	sessions(|| {
		set_idle(Weight::zero());
		let request = show(right());
		assert_ok!(ModelRegistry::deprecate(
			RuntimeOrigin::signed(OWNER),
			id(TEXT)
		));
		work_blocks(60, &[]);
		assert!(told().is_empty());
		assert_eq!(state(request), RequestState::Final);
		assert_noop!(
			ModelRegistry::remove(RuntimeOrigin::signed(OWNER), id(TEXT)),
			pallet_model_registry::Error::<Test>::RequestsOpen
		);
		set_idle(Weight::MAX);
		work_blocks(25, &[]);
		assert_eq!(told(), [(request, Settled::Stands)]);
		assert!(Requests::<Test>::get(request).is_none());
		assert!(!Elsewhere::<Test>::contains_key(request));
		assert_ok!(ModelRegistry::remove(
			RuntimeOrigin::signed(OWNER),
			id(TEXT)
		));
	});
}

#[test]
fn what_stood_can_be_appealed_against_and_whoever_asked_is_told_again() {
	sessions(|| {
		let request = show(wrong_answer());
		let everybody: Vec<_> = VALIDATORS.iter().map(|v| (*v, Habit::Vouching)).collect();
		work_blocks(8, &everybody);
		assert_eq!(told(), [(request, Settled::Stands)]);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		work_blocks(20, &[]);
		assert_eq!(told(), [(request, Settled::Overturned)]);
	});
}

#[test]
fn an_appeal_before_the_auditors_are_drawn_takes_their_place() {
	sessions(|| {
		Auditing::<Test>::put(AUDITS_AT_A_TIME);
		let request = show(wrong_answer());
		work_block(&[]);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		Auditing::<Test>::put(0);
		work_blocks(20, &[]);
		assert_eq!(told(), [(request, Settled::Overturned)]);
		assert!(!events()
			.iter()
			.any(|e| matches!(e, Event::AuditDrawn { .. })));
	});
}

#[test]
fn what_the_model_could_not_have_answered_is_refused() {
	sessions(|| {
		let refused = |answer: Answered<u64>, error: Error<Test>| {
			let before = crate::NextRequest::<Test>::get();
			assert_eq!(
				<Inference as AuditAnswers<u64>>::audit(answer),
				Err(DispatchError::from(error))
			);
			assert_eq!(crate::NextRequest::<Test>::get(), before);
		};
		refused(
			Answered {
				model: ModelId::zero(),
				..answered(right())
			},
			Error::UnknownModel,
		);
		refused(answered(answer(&[1, 2, 3, 4, 5])), Error::MalformedOutput);
		refused(answered(answer(&[])), Error::MalformedOutput);
		refused(
			Answered {
				input: text("", 4),
				..answered(right())
			},
			Error::EmptyInput,
		);
		refused(
			Answered {
				model: id(TENSOR),
				input: tensor_input(&[1]),
				..answered(Output::Tensors(vec![tensor("y", &[5])].try_into().unwrap()))
			},
			Error::MalformedOutput,
		);
	});
}

#[test]
fn what_is_not_shown_costs_what_a_lie_costs_in_the_session_of_the_deed() {
	sessions(|| {
		<Inference as AuditAnswers<u64>>::not_shown(5, &AUTHOR, 2);
		<Inference as AuditAnswers<u64>>::not_shown(6, &AUTHOR, 2);
		blocks(3);
		let found = reported();
		assert_eq!(found.len(), 2, "each is a deed of its own");
		assert_eq!(
			(found[0].offender.0, found[0].kind),
			(AUTHOR, OffenceKind::FraudulentResult)
		);
		assert_eq!(
			(found[0].session_index, found[0].request),
			(2, NOT_SHOWN | 5)
		);
		assert_eq!(found[0].fraction, Perbill::from_percent(10));
		assert!(Inference::is_suspended(&AUTHOR));
	});
}

#[test]
fn the_beacon_gives_a_windows_randomness_once_it_is_over() {
	run(|| {
		let now = System::block_number();
		let mixed = |from| <Inference as DrawBeacon<u64>>::mixed(from, 3);
		assert_eq!(mixed(now), None);
		blocks(2);
		assert_eq!(mixed(now), None);
		next_block();
		let seed = mixed(now).unwrap();
		blocks(5);
		assert_eq!(mixed(now), Some(seed), "what comes later changes nothing");
		assert_ne!(mixed(now + 1), Some(seed));
		// A block without randomness is not counted.
		set_vrf(false);
		let from = System::block_number();
		next_block();
		set_vrf(true);
		blocks(2);
		assert_eq!(mixed(from), None);
		next_block();
		assert!(mixed(from).is_some());
		let blocks = |choice| <Inference as DrawBeacon<u64>>::blocks(choice);
		DrawOdds::set(1_000);
		assert_eq!((blocks(0), blocks(1_200)), (7, 11));
		set_session(&VALIDATORS[..1]);
		assert_eq!(blocks(1_200), 1, "a single validator draws by itself");
		DrawOdds::set(0);
		set_session(&VALIDATORS);
	});
	assert_eq!(
		[0u64, 4, 5, 9].map(|now| next_window(now, 5)),
		[5, 5, 10, 10]
	);
	assert_eq!(next_window(7u64, 0), 8);
}

#[test]
fn the_sessions_validators_are_those_of_the_keys() {
	run(|| {
		set_session(&VALIDATORS[2..]);
		type Set = Inference;
		let key = |v: u64| polkadot_sdk::sp_core::Pair::public(&pair(v));
		assert_eq!(<Set as SessionValidators<u64>>::session(), 1);
		assert_eq!(
			<Set as SessionValidators<u64>>::at(1),
			Some((VALIDATORS[3], key(VALIDATORS[3])))
		);
		assert_eq!(<Set as SessionValidators<u64>>::at(5), None);
		assert_eq!(
			<Set as SessionValidators<u64>>::with_key(&key(VALIDATORS[4])),
			Some((2, VALIDATORS[4]))
		);
		assert_eq!(
			<Set as SessionValidators<u64>>::with_key(&key(VALIDATORS[0])),
			None
		);
		assert!(<Set as SessionValidators<u64>>::contains(&VALIDATORS[2]));
		assert!(!<Set as SessionValidators<u64>>::contains(&VALIDATORS[1]));
		let share = <TreasuryShare<Test> as polkadot_sdk::sp_runtime::traits::Get<Perbill>>::get();
		assert_eq!(share, Perbill::from_percent(10));
	});
}

#[test]
fn a_price_that_has_changed_is_of_no_account() {
	sessions(|| {
		let dear = Price {
			per_request: 100_000,
			..price()
		};
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			id(TEXT),
			dear
		));
		let request = show(right());
		work_blocks(10, &[]);
		assert_eq!(told(), [(request, Settled::Stands)]);
	});
}
