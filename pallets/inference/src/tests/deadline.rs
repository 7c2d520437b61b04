use consilience_primitives::{report::Statement, request::Output, view::RequestState};

use crate::{
	features::offence::FREE_STRIKES, mock::*, Event, ExpiryReason, OffenceKind, Requests, Strikes,
};

#[test]
fn a_silent_executor_is_replaced_and_the_request_still_becomes_final() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let silent = executor(request);
		settle_within(request, 20, &[(silent, Habit::Silent)]);
		assert_eq!(state(request), RequestState::Final);
		assert_ne!(executor(request), silent);
		assert!(!verifiers(request).contains(&silent));
		assert!(events().contains(&Event::ExecutorReplaced {
			request,
			executor: silent
		}));
	});
}

#[test]
fn the_seed_stays_when_the_executor_is_replaced() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let seed = Inference::work(request).unwrap().seed;
		let silent = executor(request);
		while Requests::<Test>::get(request).unwrap().executor == Some(silent) {
			next_block();
		}
		blocks(2);
		assert_eq!(Inference::work(request).unwrap().seed, seed);
	});
}

#[test]
fn all_silent_expires_with_a_full_refund() {
	run(|| {
		let before = Balances::free_balance(ALICE);
		let request = ask(TEXT, ALICE);
		blocks(60);
		let settled = events().into_iter().find_map(|e| match e {
			Event::RequestExpired {
				reason, refunded, ..
			} => Some((reason, refunded)),
			_ => None,
		});
		assert_eq!(settled, Some((ExpiryReason::NoExecutor, 1_000)));
		assert_eq!(Balances::free_balance(ALICE), before);
		assert!(Requests::<Test>::get(request).is_none(), "forgotten");
	});
}

#[test]
fn a_silent_verifier_is_replaced() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let silent = verifiers(request)[0];
		settle_within(request, 20, &[(silent, Habit::Silent)]);
		assert_eq!(state(request), RequestState::Final);
		assert!(!verifiers(request).contains(&silent));
		assert!(events().contains(&Event::VerifierReplaced {
			request,
			verifier: silent
		}));
	});
}

#[test]
fn too_few_verifiers_left_expires() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let executor = executor(request);
		work(executor, Habit::Honest);
		let silent: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| *v != executor)
			.map(|v| (v, Habit::Silent))
			.collect();
		settle_within(request, 30, &silent);
		assert_eq!(state(request), RequestState::Expired);
	});
}

#[test]
fn a_verifier_that_withholds_its_reveal_is_left_out_of_a_new_round() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let silent = verifiers(request)[0];
		let challenge = Inference::work(request).unwrap().challenge;
		settle_within(request, 20, &[(silent, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Final);
		assert!(!verifiers(request).contains(&silent));
		assert_ne!(
			Inference::request_view(request).unwrap().challenge,
			challenge
		);
		assert!(events().contains(&Event::RevealMissing {
			request,
			member: silent
		}));
	});
}

#[test]
fn withholding_after_a_tensor_is_shown_expires() {
	run(|| {
		// Whoever is drawn next could copy what stands on chain.
		let request = ask(TENSOR, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let silent = verifiers(request)[0];
		settle_within(request, 20, &[(silent, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Expired);
	});
}

#[test]
fn an_executor_that_shows_a_tensor_and_withholds_its_evidence_gains_no_copier() {
	run(|| {
		let request = ask(TENSOR, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Honest);
		blocks(2);
		work_block(&[]);
		let output = Output::Tensors(vec![tensor("y", &[5])].try_into().unwrap());
		let salt = salt(liar);
		let shown = Statement::RevealOutput {
			request,
			output,
			salt,
		};
		report(liar, vec![shown]).unwrap();
		settle_within(request, 20, &[(liar, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Expired);
		blocks(2);
		let offences: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert_eq!(offences, [(liar, OffenceKind::WithheldReveal)]);
	});
}

#[test]
fn where_nobody_reveals_finality_is_late_and_nobody_blamed() {
	run(|| {
		for model in [TEXT, TENSOR] {
			let request = ask(model, ALICE);
			blocks(2);
			work(executor(request), Habit::Honest);
			blocks(2);
			let all = VALIDATORS.map(|v| (v, Habit::Withholding));
			settle_within(request, 80, &all);
			assert_eq!(state(request), RequestState::Expired);
		}
		blocks(4);
		let withheld = reported()
			.iter()
			.any(|o| o.kind == OffenceKind::WithheldReveal);
		assert!(!withheld);
	});
}

#[test]
fn repeated_absence_is_an_offence_that_grows_and_is_forgiven_in_time() {
	run(|| {
		let silent = VALIDATORS[0];
		let mut fractions = Vec::new();
		for _ in 0..200 {
			let evidence = digest(7);
			let serve = Statement::Serve {
				model: id(TEXT),
				evidence,
			};
			let _ = report(silent, vec![serve]);
			let request = ask(TEXT, ALICE);
			settle_within(request, 40, &[(silent, Habit::Silent)]);
			blocks(1);
			fractions.extend(reported().iter().map(|o| {
				assert_eq!((o.offender.0, o.kind), (silent, OffenceKind::Absence));
				o.fraction.deconstruct()
			}));
			if fractions.len() >= 3 {
				break;
			}
		}
		assert_eq!(fractions, [1_000_000, 2_000_000, 3_000_000]);
		let strikes = Strikes::<Test>::get(silent);
		assert_eq!(strikes, FREE_STRIKES + 3);
		set_session(&VALIDATORS);
		assert_eq!(Strikes::<Test>::get(silent), strikes / 2);
	});
}

#[test]
fn a_disabled_validator_is_drawn_no_more_and_cannot_come_back_in_the_session() {
	run(|| {
		disable(&[0]);
		let serve = Statement::Serve {
			model: id(TEXT),
			evidence: digest(7),
		};
		assert!(report(VALIDATORS[0], vec![serve.clone()]).is_err());
		for _ in 0..10 {
			let request = ask(TEXT, ALICE);
			settle_within(request, 8, &[]);
			assert!(!verifiers(request).contains(&VALIDATORS[0]));
			assert_ne!(executor(request), VALIDATORS[0]);
		}
		disable(&[]);
		assert!(report(VALIDATORS[0], vec![serve]).is_ok());
	});
}

#[test]
fn an_executor_that_withholds_is_replaced() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let silent = executor(request);
		settle_within(request, 30, &[(silent, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Final);
		assert_ne!(executor(request), silent);
	});
}

#[test]
fn settled_requests_are_forgotten_after_retention() {
	run(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		blocks(18);
		assert!(Inference::request_view(request).is_some());
		blocks(4);
		assert!(Inference::request_view(request).is_none());
	});
}
