use consilience_primitives::{
	comparison::Judgement,
	report::{DutyKind, Statement},
	request::{Assurance, Output},
	view::RequestState,
	RequestId,
};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	sp_core::Pair,
};

use crate::{
	features::{offence::FREE_STRIKES, round::Phase},
	mock::*,
	Deadlines, Error, Event, ExpiryReason, OffenceKind, Requests, Strikes,
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
fn that_verifiers_left_saves_no_liar() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		// All but one of those who could check it leave before it is drawn for; enough stay for a jury elsewhere.
		let staying: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| *v != liar)
			.take(1)
			.collect();
		for v in VALIDATORS {
			if v != liar && !staying.contains(&v) {
				assert_ok!(ModelRegistry::withdraw(&v, id(TEXT)));
			}
		}
		blocks(8);
		assert_eq!(verifiers(request), staying, "those who are there measure");
		settle_within(request, 30, &[(liar, Habit::Vouching)]);
		// One is no jury: everything is returned.
		assert_eq!(state(request), RequestState::Rejected);
	});
}

#[test]
fn what_fewer_have_checked_than_were_asked_for_is_not_final() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		for v in VALIDATORS
			.into_iter()
			.filter(|v| *v != executor(request))
			.skip(1)
		{
			assert_ok!(ModelRegistry::withdraw(&v, id(TEXT)));
		}
		settle_within(request, 40, &[]);
		assert_eq!(state(request), RequestState::Expired);
	});
}

#[test]
fn an_executor_that_is_silent_once_it_sees_who_checks_it_is_judged_all_the_same() {
	run(|| {
		for model in [TEXT, TENSOR] {
			let request = ask(model, ALICE);
			blocks(2);
			let liar = executor(request);
			let lie = if model == TEXT {
				Habit::Vouching
			} else {
				Habit::Lying
			};
			work(liar, lie);
			blocks(2);
			settle_within(request, 60, &[(liar, Habit::Silent)]);
			blocks(4);
			let offences: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
			assert_eq!(offences, [(liar, OffenceKind::FraudulentResult)]);
			let end = state(request);
			let expected = if model == TEXT {
				RequestState::Rejected
			} else {
				// Nobody has seen its output.
				RequestState::Expired
			};
			assert_eq!(end, expected);
		}
	});
}

#[test]
fn a_right_answer_of_an_executor_that_goes_silent_is_final_and_its_verifiers_are_paid() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let silent = executor(request);
		work(silent, Habit::Honest);
		blocks(2);
		let before = verifiers(request)
			.iter()
			.map(Balances::free_balance)
			.collect::<Vec<_>>();
		let own = Balances::free_balance(silent);
		settle_within(request, 30, &[(silent, Habit::Silent)]);
		assert_eq!(state(request), RequestState::Final);
		assert!(events().contains(&Event::ExecutorSilent {
			request,
			executor: silent
		}));
		for (v, before) in verifiers(request).iter().zip(before) {
			assert_eq!(Balances::free_balance(v), before + 47);
		}
		assert_eq!(Balances::free_balance(silent), own);
	});
}

#[test]
fn a_sampled_answer_that_is_drawn_for_a_check_is_checked_whatever_its_executor_does() {
	run(|| {
		admit_sampling();
		let mut caught = 0;
		for _ in 0..20 {
			let request = Inference::do_request(
				ALICE,
				id(TEXT),
				text("hi", 4),
				Assurance::Sampled(500),
				1_000,
				0,
			)
			.unwrap();
			blocks(2);
			let liar = executor(request);
			work(liar, Habit::Vouching);
			blocks(2);
			let checked = !verifiers(request).is_empty();
			settle_within(request, 40, &[(liar, Habit::Silent)]);
			blocks(4);
			let end = state(request);
			assert_eq!(end == RequestState::Rejected, checked, "{end:?}");
			let found = reported();
			let blamed = found
				.iter()
				.any(|o| (o.offender.0, o.kind) == (liar, OffenceKind::FraudulentResult));
			assert_eq!(blamed, checked);
			caught += u32::from(checked);
			set_session(&VALIDATORS[1..]);
			set_session(&VALIDATORS);
			for v in VALIDATORS {
				let _ = ModelRegistry::serve(&v, id(TEXT), &digest(7), Speed::default());
			}
			next_block();
		}
		assert!((2..=18).contains(&caught), "{caught}");
	});
}

#[test]
fn a_verdict_on_chain_is_not_thrown_away_by_whoever_withholds_after_it() {
	run(|| {
		for model in [TEXT, TENSOR] {
			let request = ask(model, ALICE);
			blocks(2);
			let liar = executor(request);
			let lie = if model == TEXT {
				Habit::Vouching
			} else {
				Habit::Lying
			};
			work(liar, lie);
			blocks(2);
			let accomplice = verifiers(request)[0];
			settle_within(
				request,
				60,
				&[(liar, lie), (accomplice, Habit::Withholding)],
			);
			blocks(4);
			assert_eq!(state(request), RequestState::Rejected);
			let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
			assert!(
				found.contains(&(liar, OffenceKind::FraudulentResult)),
				"{found:?}"
			);
			assert!(
				found.contains(&(accomplice, OffenceKind::WithheldReveal)),
				"{found:?}"
			);
			// Bits of a tensor of the exact class cost nobody stake, shown or not.
			assert_eq!(
				found.contains(&(accomplice, OffenceKind::FraudulentEvidence)),
				model == TEXT,
				"{found:?}"
			);
			for v in [liar, accomplice] {
				Inference::end_suspension(&v);
				let _ = ModelRegistry::serve(&v, id(TENSOR), &digest(7), Speed::default());
			}
			next_block();
		}
	});
}

/// A wrong text whose executor shows its evidence, as an honest verifier does; with the executor and the other verifier.
fn called_a_lie() -> (RequestId, u64, u64) {
	let request = ask(TEXT, ALICE);
	blocks(2);
	let liar = executor(request);
	work(liar, Habit::Vouching);
	blocks(2);
	(request, liar, verifiers(request)[0])
}

#[test]
fn withholding_what_vouches_for_a_lie_is_no_cheaper_than_showing_it() {
	let costs = |shown: bool| {
		let mut parts = 0;
		run(|| {
			let (request, liar, accomplice) = called_a_lie();
			let habit = if shown {
				Habit::Vouching
			} else {
				Habit::Withholding
			};
			let odd = [(liar, Habit::Vouching), (accomplice, habit)];
			settle_within(request, 60, &odd);
			assert_eq!(state(request), RequestState::Rejected);
			assert!(Inference::is_suspended(&accomplice));
			blocks(6);
			let of_accomplice = reported()
				.into_iter()
				.filter(|o| o.offender.0 == accomplice);
			// Staking applies the largest.
			let largest = of_accomplice.map(|o| o.fraction).max().unwrap();
			parts = largest.deconstruct();
		});
		parts
	};
	assert_eq!(costs(true), 100_000_000);
	// And its silence, in the committee and in the jury.
	assert_eq!(costs(false), 120_000_000);
}

#[test]
fn who_withholds_while_nothing_comes_is_not_taken_for_a_liar() {
	run(|| {
		let (request, liar, other) = called_a_lie();
		// One of three shows its evidence: it may be the network that is late.
		let odd = [(liar, Habit::Withholding), (other, Habit::Withholding)];
		while state(request) == RequestState::Provisional {
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Disputed);
		settle_within(request, 60, &[]);
		assert_eq!(state(request), RequestState::Rejected);
		blocks(6);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert_eq!(found, [(liar, OffenceKind::FraudulentResult)]);
		assert!(!Inference::is_suspended(&other));
	});
}

#[test]
fn who_withholds_what_it_says_of_a_right_answer_pays_for_silence_only() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let [slanderer, silent] = verifiers(request)[..] else {
			panic!()
		};
		settle_within(
			request,
			60,
			&[(slanderer, Habit::Slandering), (silent, Habit::Withholding)],
		);
		assert_eq!(state(request), RequestState::Final);
		blocks(6);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		// It withholds in the jury too.
		let silence = (silent, OffenceKind::WithheldReveal);
		let slander = (slanderer, OffenceKind::FraudulentEvidence);
		assert!(
			found.contains(&silence) && found.iter().all(|f| [silence, slander].contains(f)),
			"{found:?}"
		);
		assert!(found.contains(&slander));
		assert!(!Inference::is_suspended(&silent));
	});
}

#[test]
fn silence_makes_no_member_of_a_committee_an_outsider() {
	run(|| {
		// Five serve: beside a committee of three there are two, who are no jury.
		for v in &VALIDATORS[..2] {
			assert_ok!(ModelRegistry::withdraw(v, id(TEXT)));
		}
		next_block();
		let (request, liar, accomplice) = called_a_lie();
		let odd = [(liar, Habit::Vouching), (accomplice, Habit::Withholding)];
		while state(request) == RequestState::Provisional {
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Disputed);
		settle_within(request, 60, &odd);
		assert_eq!(state(request), RequestState::Rejected);
		assert!(Inference::request_view(request).unwrap().jurors.is_empty());
		blocks(6);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert_eq!(found, [(accomplice, OffenceKind::WithheldReveal)]);
	});
}

#[test]
fn a_machine_that_stops_in_a_dispute_and_is_back_before_the_verdict_pays_nothing() {
	run(|| {
		let (request, liar, honest) = called_a_lie();
		let odd = [(liar, Habit::Vouching), (honest, Habit::Withholding)];
		while state(request) == RequestState::Provisional {
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Disputed);
		check();
		let late: Vec<_> = Inference::duties(&pair(honest).public())
			.unwrap()
			.duties
			.into_iter()
			.filter(|d| d.kind == DutyKind::LateReveal)
			.map(|d| d.request)
			.collect();
		assert_eq!(late, [request]);
		// Evidence that it was not bound to does not count.
		let prior = Inference::work(request).unwrap().prior.unwrap();
		let other = measured_under(request, Habit::Vouching, prior);
		assert_noop!(
			Inference::check_reveal(&honest, request, &other, &salt(honest)),
			Error::<Test>::CommitmentMismatch
		);
		work_block(&[(liar, Habit::Vouching)]);
		check();
		settle_within(request, 60, &[(liar, Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
		let named = events().into_iter().find_map(|event| match event {
			Event::RequestRejected { verifiers, .. } => Some(verifiers),
			_ => None,
		});
		assert!(named.unwrap().contains(&(honest, Judgement::Accept)));
		blocks(6);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert_eq!(found, [(liar, OffenceKind::FraudulentResult)]);
		assert!(!Inference::is_suspended(&honest));
	});
}

#[test]
fn what_vouches_for_a_lie_costs_the_same_however_late_it_is_shown() {
	run(|| {
		let (request, liar, friend) = called_a_lie();
		while state(request) == RequestState::Provisional {
			// It is bound to what vouches for the lie, and waits.
			let round = crate::Rounds::<Test>::get(request).unwrap();
			let habit = match round.phase {
				Phase::Commit => Habit::Vouching,
				Phase::Reveal => Habit::Withholding,
			};
			work_block(&[(liar, Habit::Vouching), (friend, habit)]);
		}
		let both = [(liar, Habit::Vouching), (friend, Habit::Vouching)];
		settle_within(request, 60, &both);
		assert_eq!(state(request), RequestState::Rejected);
		blocks(6);
		let found: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
		assert_eq!(
			found,
			[
				(liar, OffenceKind::FraudulentResult),
				(friend, OffenceKind::FraudulentEvidence)
			]
		);
	});
}

#[test]
fn a_check_by_chance_is_decided_once() {
	run(|| {
		admit_sampling();
		let mut checked = 0;
		for _ in 0..20 {
			let assurance = Assurance::Sampled(500);
			let request =
				Inference::do_request(ALICE, id(TEXT), text("hi", 4), assurance, 1_000, 0).unwrap();
			blocks(2);
			work(executor(request), Habit::Honest);
			blocks(2);
			let drawn = verifiers(request);
			// Its verifier says nothing: another is drawn, and chance is not asked again.
			let odd: Vec<_> = drawn.iter().map(|v| (*v, Habit::Withholding)).collect();
			settle_within(request, 40, &odd);
			assert_eq!(state(request), RequestState::Final);
			let passed = events()
				.iter()
				.any(|e| matches!(e, Event::NotChecked { request: r, .. } if *r == request));
			assert_eq!(passed, drawn.is_empty());
			assert!(drawn.iter().all(|v| !verifiers(request).contains(v)));
			checked += u32::from(!drawn.is_empty());
		}
		assert!((2..=18).contains(&checked), "{checked}");
	});
}

#[test]
fn whoever_reveals_early_makes_nobody_a_withholder() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let early = verifiers(request)[0];
		// Finality stands still: everybody but one waits for it.
		let odd: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| *v != early)
			.map(|v| (v, Habit::Withholding))
			.collect();
		for _ in 0..12 {
			work_block(&odd);
		}
		blocks(4);
		assert!(reported().is_empty());
		// It comes back, and the request with it.
		settle_within(request, 40, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn a_reveal_in_the_time_that_is_given_once_more_counts() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		work_block(&[]);
		let challenge = Inference::request_view(request).unwrap().challenge;
		blocks(5);
		settle_within(request, 2, &[]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(
			Inference::request_view(request).unwrap().challenge,
			challenge
		);
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
fn after_a_tensor_is_shown_those_who_have_measured_it_decide() {
	run(|| {
		// Whoever is drawn next could copy what stands on chain, and who withholds has nothing to say against it.
		let request = ask(TENSOR, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let silent = verifiers(request)[0];
		settle_within(request, 20, &[(silent, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(verifiers(request).len(), 1);
		assert!(events().contains(&Event::RevealMissing {
			request,
			member: silent
		}));
	});
}

#[test]
fn an_executor_that_shows_a_tensor_and_withholds_its_evidence_is_not_paid() {
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
		let before = Balances::free_balance(liar);
		settle_within(request, 20, &[(liar, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(Balances::free_balance(liar), before);
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
fn more_evidence_than_blocks_take_is_nobodys_withholding() {
	run(|| {
		let asked: Vec<_> = (0..6).map(|_| ask(TEXT, ALICE)).collect();
		let first = asked[0];
		let is_open =
			|id: &RequestId| Requests::<Test>::get(id).is_some_and(|r| !r.state.is_settled());
		let mut left = 100;
		while left > 0 && asked.iter().any(is_open) {
			for v in VALIDATORS {
				let mut said = statements(v, Habit::Honest);
				// Blocks take what is shown of one request, and nothing of the others.
				said.retain(
					|s| !matches!(s, Statement::Reveal { request, .. } if *request != first),
				);
				if !said.is_empty() {
					assert_ok!(report(v, said));
				}
			}
			next_block();
			left -= 1;
		}
		assert!(left > 0);
		let shown =
			|e: &Event<Test>| matches!(e, Event::RequestFinal { request, .. } if *request == first);
		assert!(events().iter().any(shown));
		let missing = |e: &Event<Test>| matches!(e, Event::RequestExpired { .. });
		assert!(events().iter().any(missing), "others came to nothing");
		let withheld = reported()
			.iter()
			.any(|o| o.kind == OffenceKind::WithheldReveal);
		assert!(!withheld, "{:?}", reported());
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
				speed: Speed::default(),
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
			speed: Speed::default(),
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
fn an_executor_that_withholds_its_evidence_is_judged_and_not_paid() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let silent = executor(request);
		let before = Balances::free_balance(silent);
		settle_within(request, 30, &[(silent, Habit::Withholding)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(executor(request), silent);
		assert_eq!(Balances::free_balance(silent), before);
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

/// Blocks in which a request is looked at.
fn places(request: RequestId) -> Vec<u64> {
	let all = Deadlines::<Test>::iter().filter(|(_, list)| list.contains(&request));
	let mut blocks: Vec<_> = all.map(|(block, _)| block).collect();
	blocks.sort_unstable();
	blocks
}

#[test]
fn what_is_answered_in_time_keeps_its_place_among_the_deadlines() {
	run(|| {
		let request = ask(TEXT, ALICE);
		let mut seen = std::collections::BTreeSet::from_iter(places(request));
		assert_eq!(seen.len(), 1);
		let mut deadlines = std::collections::BTreeSet::new();
		while !state(request).is_settled() {
			work_block(&[]);
			seen.extend(places(request));
			deadlines.insert(Requests::<Test>::get(request).unwrap().deadline);
		}
		assert_eq!(state(request), RequestState::Final);
		assert!(deadlines.len() >= 3, "{deadlines:?}");
		// It is looked at once while it is measured: in the mock that takes longer than a reveal.
		assert!(seen.len() <= 2, "{seen:?} for {deadlines:?}");
	});
}

#[test]
fn what_waits_long_is_looked_at_again_and_late_when_its_deadline_has_passed() {
	run(|| {
		// Nobody is there to be drawn.
		let request = ask(TEXT, ALICE);
		for v in VALIDATORS {
			assert_ok!(ModelRegistry::withdraw(&v, id(TEXT)));
		}
		let deadline = Requests::<Test>::get(request).unwrap().deadline;
		let early = places(request)[0];
		assert!(early < deadline + 1, "{early} is not before {deadline}");
		while System::block_number() < deadline {
			next_block();
			assert_eq!(state(request), RequestState::Requested);
			assert_eq!(Requests::<Test>::get(request).unwrap().deadline, deadline);
		}
		assert_eq!(places(request), [deadline + 1]);
		next_block();
		assert_eq!(state(request), RequestState::Expired);
	});
}

#[test]
fn a_full_block_moves_the_look_and_the_deadline_with_it() {
	run(|| {
		let request = ask(TEXT, ALICE);
		for v in VALIDATORS {
			assert_ok!(ModelRegistry::withdraw(&v, id(TEXT)));
		}
		let deadline = Requests::<Test>::get(request).unwrap().deadline;
		Deadlines::<Test>::mutate(deadline + 1, |list| while list.try_push(999).is_ok() {});
		while System::block_number() <= deadline {
			next_block();
		}
		assert_eq!(state(request), RequestState::Requested);
		assert_eq!(
			Requests::<Test>::get(request).unwrap().deadline,
			deadline + 1
		);
		next_block();
		assert_eq!(state(request), RequestState::Expired);
	});
}
