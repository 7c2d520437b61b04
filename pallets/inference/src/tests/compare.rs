use consilience_primitives::{
	comparison::AnswerJudgement, evidence::Fingerprint, report::Statement, request::Assurance,
	view::RequestState,
};
use polkadot_sdk::frame_support::assert_noop;

use crate::{mock::*, Error, Event};

fn drawn_with(verifiers: u8) -> u64 {
	let assurance = Assurance::Committee(verifiers);
	let request =
		Inference::do_request(ALICE, id(TEXT), text("hi", 4), assurance, 1_000, 0).unwrap();
	blocks(2);
	work(executor(request), Habit::Honest);
	blocks(2);
	request
}

fn drawn(model: u8) -> u64 {
	let request = ask(model, ALICE);
	blocks(2);
	work(executor(request), Habit::Honest);
	blocks(2);
	request
}

#[test]
fn a_committee_that_does_not_agree_calls_a_jury_and_blames_nobody_itself() {
	run(|| {
		let request = drawn(TEXT);
		let liar = verifiers(request)[0];
		for _ in 0..2 {
			work_block(&[(liar, Habit::Slandering)]);
		}
		assert_eq!(state(request), RequestState::Disputed);
		assert!(events().contains(&Event::RequestDisputed { request }));
		assert!(reported().is_empty());
	});
}

#[test]
fn one_verifier_of_several_is_not_outvoted() {
	run(|| {
		let request = drawn_with(3);
		let slanderer = verifiers(request)[0];
		for _ in 0..2 {
			work_block(&[(slanderer, Habit::Slandering)]);
		}
		assert_eq!(state(request), RequestState::Disputed);
	});
}

#[test]
fn an_executor_whose_evidence_is_not_that_of_its_output_is_found() {
	run(|| {
		// It commits to one output and measures another, the one that the verifiers measure.
		let request = ask(TENSOR, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Lying);
		blocks(2);
		work_block(&[]);
		let evidence = measured(request, Habit::Honest);
		let output = consilience_primitives::request::Output::Tensors(
			vec![tensor("y", &[9])].try_into().unwrap(),
		);
		let salt = salt(liar);
		report(
			liar,
			vec![
				Statement::Reveal {
					request,
					evidence,
					salt,
				},
				Statement::RevealOutput {
					request,
					output,
					salt,
				},
			],
		)
		.unwrap();
		verifiers(request)
			.into_iter()
			.for_each(|v| work(v, Habit::Honest));
		assert_eq!(state(request), RequestState::Disputed);
		next_block();
		settle_within(request, 6, &[]);
		assert_eq!(state(request), RequestState::Rejected);
		let wrong = events().into_iter().any(
			|e| matches!(e, Event::RequestRejected { answer, .. } if answer == AnswerJudgement::Wrong),
		);
		assert!(wrong);
		assert!(reported().iter().all(|o| o.offender.0 == liar));
	});
}

#[test]
fn verifiers_verdict_decides_over_the_executors() {
	run(|| {
		let request = drawn(TEXT);
		let challenge = Inference::work(request).unwrap().challenge.unwrap();
		let mut found = measured(request, Habit::Honest);
		found.verdict.margin_max = 5;
		let members: Vec<_> = verifiers(request)
			.into_iter()
			.chain([executor(request)])
			.collect();
		let evidence_of = |m: u64| {
			if m == executor(request) {
				measured(request, Habit::Honest)
			} else {
				found.clone()
			}
		};
		for m in &members {
			let commitment = evidence_of(*m).commitment(request, &challenge, m, &salt(*m));
			report(
				*m,
				vec![Statement::Commit {
					request,
					commitment,
				}],
			)
			.unwrap();
		}
		next_block();
		for m in &members {
			let statement = Statement::Reveal {
				request,
				evidence: evidence_of(*m),
				salt: salt(*m),
			};
			report(*m, vec![statement]).unwrap();
		}
		assert_eq!(state(request), RequestState::Disputed);
	});
}

#[test]
fn evidence_must_open_the_commitment_and_nobody_reveals_early() {
	run(|| {
		let request = drawn(TEXT);
		let (first, second) = (verifiers(request)[0], verifiers(request)[1]);
		work(first, Habit::Honest);
		let evidence = measured(request, Habit::Honest);
		assert_noop!(
			Inference::check_reveal(&first, request, &evidence, &salt(first)),
			Error::<Test>::NotDue
		);
		work(second, Habit::Honest);
		work(executor(request), Habit::Honest);
		next_block();
		assert_noop!(
			Inference::check_reveal(&first, request, &digest(99), &salt(first)),
			Error::<Test>::CommitmentMismatch
		);
		assert_noop!(
			Inference::check_reveal(&first, request, &evidence, &salt(second)),
			Error::<Test>::CommitmentMismatch
		);
		assert!(Inference::check_reveal(&first, request, &evidence, &salt(first)).is_ok());
	});
}

#[test]
fn who_is_no_member_cannot_speak() {
	run(|| {
		let request = drawn(TEXT);
		let members: Vec<_> = verifiers(request)
			.into_iter()
			.chain([executor(request)])
			.collect();
		let outsider = VALIDATORS
			.into_iter()
			.find(|v| !members.contains(v))
			.unwrap();
		assert_noop!(
			Inference::check_commit(&outsider, request),
			Error::<Test>::NotDue
		);
	});
}

#[test]
fn evidence_of_the_other_class_is_refused() {
	run(|| {
		let request = drawn(TEXT);
		let challenge = Inference::work(request).unwrap().challenge.unwrap();
		let first = verifiers(request)[0];
		let mut evidence = digest(1);
		evidence.fingerprint = Fingerprint::Values {
			tag: 0,
			values: vec![1, 2].try_into().unwrap(),
		};
		let commitment = evidence.commitment(request, &challenge, &first, &salt(first));
		report(
			first,
			vec![Statement::Commit {
				request,
				commitment,
			}],
		)
		.unwrap();
		work(executor(request), Habit::Honest);
		work(verifiers(request)[1], Habit::Honest);
		next_block();
		assert_noop!(
			Inference::check_reveal(&first, request, &evidence, &salt(first)),
			Error::<Test>::WrongEvidence
		);
	});
}
