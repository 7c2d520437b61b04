//! Offences: of when they are, what they add up to, and who is suspended for them.

use consilience_primitives::{report::Statement, view::RequestState, RequestId};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, traits::Hooks},
	sp_runtime::{traits::BadOrigin, Perbill},
	sp_staking::offence::Offence,
};

use crate::{
	features::offence::PER_BLOCK, mock::*, CountedVerdicts, CountedVerdictsUntil, Error,
	InferenceOffence, OffenceKind, OffenceQueue, OffenceRange, ReportingAbsence, Suspended,
};
use OffenceKind::*;

const LIAR: u64 = VALIDATORS[0];
const OTHER: u64 = VALIDATORS[1];

/// Everything that staking was told: who, of which session, and how much, in thousandths.
fn told_to_staking() -> Vec<(u64, u32, u32)> {
	let (first, end) = OffenceRange::<Test>::get();
	blocks((end - first) / u64::from(PER_BLOCK) + 1);
	let thousandths = |f: Perbill| f.deconstruct() / 1_000_000;
	reported()
		.iter()
		.map(|o| (o.offender.0, o.session_index, thousandths(o.fraction)))
		.collect()
}

fn new_session() {
	set_session(&VALIDATORS);
}

fn serve(model: u8) -> Statement {
	Statement::Serve {
		model: id(model),
		evidence: digest(7),
		speed: Speed::default(),
	}
}

fn serves(validator: u64) -> bool {
	!pallet_model_registry::ServedBy::<Test>::get(validator).is_empty()
}

/// A request whose executor lied, settled; with who that was.
fn lie() -> (RequestId, u64) {
	let request = ask(TEXT, ALICE);
	blocks(2);
	let liar = executor(request);
	work(liar, Habit::Vouching);
	blocks(2);
	settle_within(request, 10, &[(liar, Habit::Vouching)]);
	assert_eq!(state(request), RequestState::Rejected);
	(request, liar)
}

#[test]
fn an_offence_is_of_the_session_in_which_the_offender_was_drawn() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		new_session();
		work(liar, Habit::Vouching);
		blocks(2);
		new_session();
		settle_within(request, 10, &[(liar, Habit::Vouching)]);
		new_session();
		let of_liar: Vec<_> = told_to_staking();
		assert_eq!(of_liar, [(liar, 0, 100)]);
	});
}

#[test]
fn a_verdict_is_of_the_session_in_which_its_verifier_was_drawn() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		new_session();
		work(executor(request), Habit::Honest);
		blocks(2);
		let slanderer = verifiers(request)[0];
		new_session();
		settle_within(request, 10, &[(slanderer, Habit::Slandering)]);
		assert_eq!(told_to_staking(), [(slanderer, 1, 100)]);
	});
}

#[test]
fn who_left_the_session_is_reported_all_the_same() {
	run(|| {
		let (request, liar) = lie();
		let others: Vec<_> = VALIDATORS.into_iter().filter(|v| *v != liar).collect();
		set_session(&others);
		assert_eq!(told_to_staking(), [(liar, 0, 100)]);
		// What was done before and is found now, too.
		Inference::offend_at(request, &liar, WithheldReveal, 0);
		assert_eq!(told_to_staking(), [(liar, 0, 110)]);
	});
}

#[test]
fn false_answers_cost_each_and_never_more_than_everything() {
	run(|| {
		for request in 0..12 {
			Inference::offend_at(request, &LIAR, FraudulentResult, 0);
		}
		let fractions: Vec<_> = told_to_staking().iter().map(|(_, _, f)| *f).collect();
		assert_eq!(
			fractions,
			[100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000, 1_000, 1_000]
		);
	});
}

#[test]
fn offences_of_another_validator_add_nothing() {
	run(|| {
		Inference::offend_at(1, &LIAR, FraudulentResult, 0);
		Inference::offend_at(1, &OTHER, FraudulentEvidence, 0);
		Inference::offend_at(2, &OTHER, WithheldReveal, 0);
		assert_eq!(
			told_to_staking(),
			[(LIAR, 0, 100), (OTHER, 0, 100), (OTHER, 0, 110)]
		);
	});
}

#[test]
fn a_slot_is_of_one_offender_one_request_one_kind_and_one_session() {
	let offence = InferenceOffence {
		session_index: 3,
		validator_set_count: 7,
		request: 1,
		kind: FraudulentResult,
		offender: (LIAR, ()),
		fraction: Perbill::from_percent(10),
	};
	let mut others = [(); 4].map(|()| offence.clone());
	others[0].offender.0 = OTHER;
	others[1].request = 2;
	others[2].kind = Absence;
	others[3].session_index = 4;
	for other in others {
		assert_ne!(other.slot(), offence.slot(), "{other:?}");
	}
	let larger = InferenceOffence {
		fraction: Perbill::from_percent(20),
		..offence.clone()
	};
	assert_eq!(larger.slot(), offence.slot());
	assert_eq!(offence.validator_set_count(), 7);
}

#[test]
fn wrong_verdicts_in_parallel_are_one_deed() {
	run(|| {
		new_session();
		for request in 0..5 {
			Inference::offend_at(request, &LIAR, FraudulentEvidence, u32::from(request > 2));
		}
		// One of a request that was drawn for before, and found when the suspension was over.
		(0..4).for_each(|_| new_session());
		assert!(!Inference::is_suspended(&LIAR));
		Inference::offend_at(6, &LIAR, FraudulentEvidence, 1);
		assert_eq!(told_to_staking(), [(LIAR, 0, 100)]);
		let event = crate::Event::OffenceReported {
			request: 6,
			offender: LIAR,
			kind: FraudulentEvidence,
			fraction: Perbill::zero(),
		};
		System::assert_has_event(event.into());
	});
}

#[test]
fn a_false_answer_and_a_wrong_verdict_are_two_deeds() {
	run(|| {
		Inference::offend_at(1, &LIAR, FraudulentResult, 0);
		Inference::offend_at(2, &LIAR, FraudulentEvidence, 0);
		Inference::offend_at(3, &LIAR, FraudulentEvidence, 0);
		Inference::offend_at(4, &LIAR, FraudulentResult, 0);
		let fractions: Vec<_> = told_to_staking().iter().map(|(_, _, f)| *f).collect();
		assert_eq!(fractions, [100, 200, 300]);
	});
}

#[test]
fn a_wrong_verdict_after_the_suspension_is_another_deed() {
	run(|| {
		Inference::offend_at(1, &LIAR, FraudulentEvidence, 0);
		(0..3).for_each(|_| new_session());
		Inference::offend_at(2, &LIAR, FraudulentEvidence, 3);
		// And those in parallel with that one are it.
		Inference::offend_at(3, &LIAR, FraudulentEvidence, 2);
		assert!(Inference::is_suspended(&LIAR));
		assert_eq!(told_to_staking(), [(LIAR, 0, 100), (LIAR, 3, 200)]);
		assert_eq!(CountedVerdicts::<Test>::get(LIAR), Some(5));
		assert_eq!(CountedVerdictsUntil::<Test>::iter().count(), 1);
	});
}

#[test]
fn counted_verdicts_are_forgotten_when_no_stake_answers() {
	run(|| {
		Inference::offend_at(1, &LIAR, FraudulentEvidence, 0);
		told_to_staking();
		// The suspension, and what is bonded after it.
		for _ in 0..2 + BONDING {
			new_session();
			assert!(CountedVerdicts::<Test>::contains_key(LIAR));
			check();
		}
		new_session();
		assert!(!CountedVerdicts::<Test>::contains_key(LIAR));
		assert_eq!(CountedVerdictsUntil::<Test>::iter().count(), 0);
	});
}

#[test]
fn who_is_found_to_have_lied_is_drawn_for_nothing_and_may_not_serve() {
	run(|| {
		let (_, liar) = lie();
		assert!(Inference::is_suspended(&liar));
		// From the verdict on, before staking or the registry hears of anything.
		let open = crate::Requests::<Test>::get(ask(TEXT, ALICE)).unwrap();
		// All draws, of executors, verifiers, jurors and auditors, are among these.
		let drawable = Inference::serving(&open, &Inference::roster());
		assert_eq!(drawable.len(), VALIDATORS.len() - 1);
		assert!(!drawable.iter().any(|(who, ..)| *who == liar));
		told_to_staking();
		assert!(
			!serves(liar),
			"of the model that it did not lie about neither"
		);
		assert_noop!(
			Inference::check_statement(&liar, &serve(TENSOR)),
			Error::<Test>::Suspended
		);
		assert!(report(liar, vec![serve(TENSOR)]).is_err());
		// It stays so for two sessions, whether it is there or not.
		new_session();
		let others: Vec<_> = VALIDATORS.into_iter().filter(|v| *v != liar).collect();
		set_session(&others);
		assert!(Inference::is_suspended(&liar));
		new_session();
		assert!(!Inference::is_suspended(&liar));
		assert_ok!(report(liar, vec![serve(TENSOR)]));
		assert!(serves(liar));
	});
}

#[test]
fn a_suspension_is_not_made_longer_and_is_lifted_by_governance_only() {
	run(|| {
		Inference::offend_at(1, &LIAR, FraudulentEvidence, 0);
		new_session();
		Inference::offend_at(2, &LIAR, FraudulentResult, 0);
		let until: Vec<_> = Suspended::<Test>::get()
			.into_iter()
			.map(|s| (s.validator, s.until))
			.collect();
		assert_eq!(until, [(LIAR, 2)]);
		assert_noop!(
			Inference::lift_suspension(RuntimeOrigin::signed(LIAR), LIAR),
			BadOrigin
		);
		assert_noop!(
			Inference::lift_suspension(RuntimeOrigin::root(), OTHER),
			Error::<Test>::NotSuspended
		);
		assert_ok!(Inference::lift_suspension(RuntimeOrigin::root(), LIAR));
		assert!(!Inference::is_suspended(&LIAR));
		// What it says from now on counts again.
		assert_eq!(CountedVerdicts::<Test>::get(LIAR), None);
		Inference::offend_at(3, &LIAR, FraudulentEvidence, 1);
		let fractions: Vec<_> = told_to_staking().iter().map(|(_, _, f)| *f).collect();
		assert_eq!(fractions, [100, 200, 300]);
	});
}

#[test]
fn silence_suspends_nobody() {
	run(|| {
		Inference::offend_at(1, &LIAR, WithheldReveal, 0);
		Inference::offend_at(2, &LIAR, Absence, 0);
		assert!(!Inference::is_suspended(&LIAR));
		assert_eq!(told_to_staking(), [(LIAR, 0, 10), (LIAR, 0, 11)]);
		assert!(serves(LIAR));
	});
}

#[test]
fn it_is_known_that_an_absence_is_reported_while_it_is() {
	run(|| {
		for kind in [Absence, FraudulentResult, Absence, WithheldReveal] {
			Inference::offend_at(1, &LIAR, kind, 0);
		}
		blocks(10);
		let seen: Vec<_> = reported_as_absence();
		assert_eq!(seen, [true, false, true, false]);
		assert!(!ReportingAbsence::<Test>::exists());
	});
}

#[test]
fn a_verdict_of_a_jury_is_of_the_session_in_which_its_juror_was_drawn() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		blocks(2);
		let parties = [liar, verifiers(request)[0], verifiers(request)[1]];
		while crate::Juries::<Test>::get(request).is_none_or(|j| j.round.is_none()) {
			work_block(&[(liar, Habit::Vouching)]);
			if state(request) == RequestState::Disputed {
				// The jury is drawn in a later session than the committee, and speaks in a later one still.
				new_session();
			}
		}
		let drawn_in = crate::Juries::<Test>::get(request)
			.unwrap()
			.round
			.unwrap()
			.members[0]
			.session;
		assert!(drawn_in > 0);
		new_session();
		let juror = VALIDATORS
			.into_iter()
			.find(|v| !parties.contains(v))
			.unwrap();
		settle_within(
			request,
			12,
			&[(liar, Habit::Vouching), (juror, Habit::Vouching)],
		);
		let mut told = told_to_staking();
		told.sort_unstable();
		let mut expected = vec![(liar, 0, 100), (juror, drawn_in, 100)];
		expected.sort_unstable();
		assert_eq!(told, expected);
	});
}

#[test]
fn handing_over_an_offence_weighs_as_many_nominators_as_there_may_be() {
	run(|| {
		let idle = Inference::on_initialize(System::block_number());
		Inference::offend_at(1, &LIAR, FraudulentResult, 0);
		Inference::offend_at(2, &LIAR, FraudulentResult, 0);
		let busy = Inference::on_initialize(System::block_number());
		assert_eq!(busy - idle, Inference::offence_weight(), "one a block");
		// What staking reads and writes for each of them is nothing in the mock, and what it computes is not.
		let each = u64::from(MaxNominators::get()) * 30_000_000;
		assert!(Inference::offence_weight().ref_time() >= each);
	});
}

#[test]
fn the_queue_is_worked_off_in_order() {
	run(|| {
		for request in 0..5 {
			Inference::offend_at(request, &VALIDATORS[request as usize], WithheldReveal, 0);
		}
		assert_eq!(OffenceQueue::<Test>::iter().count(), 5);
		for left in (0..5usize).rev() {
			blocks(1);
			assert_eq!(OffenceQueue::<Test>::iter().count(), left);
			check();
		}
		let order: Vec<_> = reported().iter().map(|o| o.request).collect();
		assert_eq!(order, [0, 1, 2, 3, 4]);
	});
}
