use std::collections::BTreeMap;

use consilience_primitives::{
	comparison::AnswerJudgement, model::Price, report::Statement, request::Assurance,
	view::RequestState, RequestId,
};
use polkadot_sdk::frame_support::{assert_noop, assert_ok};

use crate::{mock::*, Draws, Error, Event, OffenceKind, OffenceKind::*};

/// A request with an answer and a committee, whose executor has this habit.
fn committee(model: u8, habit: Habit) -> RequestId {
	let request = ask(model, ALICE);
	blocks(2);
	work(executor(request), habit);
	blocks(2);
	request
}

/// What staking heard of, once it has heard of everything.
fn offences() -> Vec<(u64, OffenceKind)> {
	blocks(10);
	reported().iter().map(|o| (o.offender.0, o.kind)).collect()
}

fn jurors(request: RequestId) -> Vec<u64> {
	Inference::request_view(request).unwrap().jurors
}

#[test]
fn a_wrong_answer_is_rejected_refunded_and_slashed() {
	run(|| {
		let before = Balances::free_balance(ALICE);
		let request = committee(TEXT, Habit::Vouching);
		let liar = executor(request);
		settle_within(request, 10, &[(liar, Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(Balances::free_balance(ALICE), before);
		assert_eq!(
			jurors(request).len(),
			7,
			"all who serve the model, the parties too"
		);
		assert_eq!(offences(), [(liar, FraudulentResult)]);
		assert!(!ModelRegistry::is_serving(&liar, id(TEXT)));
	});
}

#[test]
fn the_jury_of_a_slashed_liar_is_paid_what_a_measurement_is_worth_whatever_was_asked() {
	run(|| {
		let money = total();
		// An owner's own price and a large tip, on which its own validators would be paid.
		let dear = Price {
			per_request: 100_000,
			..price()
		};
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			id(TEXT),
			dear
		));
		let request = Inference::do_request(
			ALICE,
			id(TEXT),
			text("hi", 4),
			Assurance::Committee(2),
			300_000,
			50_000,
		)
		.unwrap();
		blocks(2);
		work(executor(request), Habit::Vouching);
		blocks(2);
		let liar = executor(request);
		let honest = VALIDATORS.into_iter().find(|v| *v != liar).unwrap();
		let (before, of_liar) = (Balances::free_balance(honest), Balances::free_balance(liar));
		settle_within(request, 10, &[(liar, Habit::Vouching)]);
		// 10, and 1 for each of 34 units in and 2 out.
		assert_eq!(Balances::free_balance(honest) - before, 46);
		assert_eq!(Balances::free_balance(TREASURY), 1_000, "no treasury in it");
		assert_eq!(Balances::free_balance(liar), of_liar);
		assert_eq!(total(), money);
	});
}

#[test]
fn two_liars_of_a_committee_do_not_get_a_wrong_answer_through() {
	run(|| {
		let request = committee(TEXT, Habit::Vouching);
		let odd = [
			(executor(request), Habit::Vouching),
			(verifiers(request)[0], Habit::Vouching),
		];
		settle_within(request, 10, &odd);
		assert_eq!(state(request), RequestState::Rejected);
		let mut blamed = offences();
		blamed.sort();
		let mut expected = vec![(odd[0].0, FraudulentResult), (odd[1].0, FraudulentEvidence)];
		expected.sort();
		assert_eq!(blamed, expected);
	});
}

#[test]
fn a_verifier_that_is_alone_with_its_bits_is_replaced_not_paid_and_not_slashed() {
	run(|| {
		let request = committee(TEXT, Habit::Honest);
		let (writer, liar, honest) = (
			executor(request),
			verifiers(request)[0],
			verifiers(request)[1],
		);
		let before = [writer, liar, honest].map(Balances::free_balance);
		settle_within(request, 10, &[(liar, Habit::Lying)]);
		assert_eq!(state(request), RequestState::Final);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.paid + view.refunded, 1_000);
		let after = [writer, liar, honest].map(Balances::free_balance);
		// Alone with its bits, and finding the answer right: another measures in its place, and there is no jury.
		assert!(view.jurors.is_empty());
		assert_eq!(after[1], before[1]);
		assert!(after[0] > before[0]);
		assert!(view.verifiers.contains(&honest) || after[2] == before[2]);
		assert!(!view.verifiers.contains(&liar));
		assert!(!ModelRegistry::is_serving(&liar, id(TEXT)));
		assert!(offences().is_empty(), "bits are not slashed");
		let serve = Statement::Serve {
			model: id(TEXT),
			evidence: digest(7),
			speed: Speed::default(),
		};
		assert!(
			report(liar, vec![serve.clone()]).is_err(),
			"not in this session"
		);
		set_session(&VALIDATORS[..6]);
		set_session(&VALIDATORS);
		assert!(report(liar, vec![serve]).is_ok());
	});
}

#[test]
fn a_verifier_that_slanders_a_right_answer_is_found() {
	run(|| {
		let request = committee(TEXT, Habit::Honest);
		let liar = verifiers(request)[0];
		settle_within(request, 10, &[(liar, Habit::Slandering)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(offences(), [(liar, FraudulentEvidence)]);
	});
}

#[test]
fn a_wrong_tensor_is_rejected_and_slashed() {
	run(|| {
		let request = committee(TENSOR, Habit::Lying);
		let liar = executor(request);
		settle_within(request, 10, &[(liar, Habit::Lying)]);
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(offences(), [(liar, FraudulentResult)]);
	});
}

#[test]
fn another_class_of_a_classifier_is_rejected_and_slashed_though_nearly_all_numbers_are_the_same() {
	run(|| {
		classify();
		let request = committee(TENSOR, Habit::Honest);
		settle_within(request, 10, &[]);
		assert_eq!(state(request), RequestState::Final);
		let request = committee(TENSOR, Habit::Lying);
		let liar = executor(request);
		settle_within(request, 10, &[(liar, Habit::Lying)]);
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(offences(), [(liar, FraudulentResult)]);
	});
}

#[test]
fn a_jury_that_is_too_small_blames_nobody() {
	run(|| {
		for v in &VALIDATORS[..2] {
			assert_ok!(ModelRegistry::withdraw(v, id(TEXT)));
		}
		let before = Balances::free_balance(ALICE);
		let request = committee(TEXT, Habit::Vouching);
		settle_within(request, 10, &[(executor(request), Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(Balances::free_balance(ALICE), before);
		assert!(offences().is_empty());
	});
}

#[test]
fn more_disputes_than_seats_save_no_liar() {
	run(|| {
		MaxLoad::set(40_000);
		MaxOpen::set(36);
		MaxOpenPerAccount::set(36);
		MaxPerBlock::set(36);
		MaxDraws::set(36);
		let requests: Vec<_> = (0..36).map(|_| ask(TEXT, ALICE)).collect();
		blocks(2);
		// One of seven answers five of them, at least.
		let by = |v: u64| requests.iter().filter(move |r| executor(**r) == v);
		let liar = *VALIDATORS.iter().max_by_key(|v| by(**v).count()).unwrap();
		let lied: Vec<_> = by(liar).copied().collect();
		assert!(lied.len() > 2 * MaxJuries::get() as usize, "{lied:?}");
		let ends = || {
			let ends = events().into_iter().filter_map(|event| match event {
				Event::RequestFinal { request, .. } => Some((request, None)),
				Event::RequestRejected {
					request, answer, ..
				} => Some((request, Some(answer))),
				_ => None,
			});
			ends.collect::<BTreeMap<_, _>>()
		};
		let juries = || {
			let drawn = events().into_iter();
			drawn
				.filter(|event| matches!(event, Event::JuryDrawn { .. }))
				.count() as u64
		};
		let mut waited = false;
		for _ in 0..60 {
			// Here a draw weighs one unit, and to wait for a seat nothing: storage is free.
			let now = System::block_number();
			let (due, before) = (Draws::<Test>::get(now).len() as u64, juries());
			let weighed = Inference::weigh_draws(now).ref_time();
			work_block(&[(liar, Habit::Vouching)]);
			assert!(juries() - before <= weighed, "drawn and not weighed");
			waited |= weighed < due;
			if ends().len() == requests.len() {
				break;
			}
		}
		assert!(waited, "whoever waits is weighed as drawn");
		for request in &requests {
			let wrong = lied.contains(request).then_some(AnswerJudgement::Wrong);
			assert_eq!(ends().get(request), Some(&wrong), "request {request}");
		}
		let (mut sitting, mut most, mut juries) = (0, 0, Vec::new());
		for event in events() {
			match event {
				Event::JuryDrawn { request, .. } => {
					sitting += 1;
					juries.push(request);
				}
				Event::RequestRejected { .. } => sitting -= 1,
				Event::RequestFinal { request, .. } if juries.contains(&request) => sitting -= 1,
				_ => (),
			}
			most = most.max(sitting);
		}
		assert_eq!(most, MaxJuries::get(), "the others waited");
		let disputed = events().into_iter().filter_map(|event| match event {
			Event::RequestDisputed { request } => Some(request),
			_ => None,
		});
		assert_eq!(juries, disputed.collect::<Vec<_>>(), "the oldest first");
		let found = offences();
		assert!(found.iter().all(|(who, _)| *who == liar), "{found:?}");
		let results = found.iter().filter(|(_, kind)| *kind == FraudulentResult);
		assert_eq!(results.count(), lied.len());
	});
}

#[test]
fn appeals_take_no_more_than_a_third_of_the_seats() {
	run(|| {
		admit_sampling();
		MaxJuries::set(3);
		let appealed = [sampled(0, Habit::Honest), sampled(0, Habit::Honest)];
		let disputed = committee(TEXT, Habit::Vouching);
		let liar = executor(disputed);
		while state(disputed) == RequestState::Provisional {
			work_block(&[(liar, Habit::Vouching)]);
		}
		for request in appealed {
			assert_ok!(Inference::appeal(RuntimeOrigin::signed(ALICE), request));
		}
		let sits = |request| !jurors(request).is_empty();
		blocks(2);
		assert!(sits(appealed[0]) && !sits(appealed[1]), "the second waits");
		assert!(sits(disputed));
		check();
		for request in [disputed, appealed[0], appealed[1]] {
			settle_within(request, 40, &[(liar, Habit::Vouching)]);
		}
	});
}

#[test]
fn jurors_who_do_not_come_are_not_waited_for() {
	run(|| {
		let request = committee(TEXT, Habit::Vouching);
		let liar = executor(request);
		let parties = verifiers(request);
		let outside: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| *v != liar && !parties.contains(v))
			.collect();
		settle_within(
			request,
			30,
			&[(liar, Habit::Vouching), (outside[0], Habit::Silent)],
		);
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(offences(), [(liar, FraudulentResult)]);
		// With two silent ones there are two left, which is too few.
		let request = committee(TEXT, Habit::Honest);
		let slanderer = verifiers(request)[0];
		let mut odd = vec![(slanderer, Habit::Slandering)];
		odd.extend(
			VALIDATORS
				.into_iter()
				.filter(|v| *v != executor(request) && !verifiers(request).contains(v))
				.map(|v| (v, Habit::Silent)),
		);
		settle_within(request, 30, &odd);
		assert_eq!(state(request), RequestState::Rejected);
		assert!(offences().is_empty());
	});
}

#[test]
fn a_juror_that_withholds_is_an_offender_and_the_others_decide() {
	run(|| {
		let request = committee(TEXT, Habit::Vouching);
		let liar = executor(request);
		let parties = verifiers(request);
		let withholding = VALIDATORS
			.into_iter()
			.find(|v| *v != liar && !parties.contains(v))
			.unwrap();
		settle_within(
			request,
			30,
			&[(liar, Habit::Vouching), (withholding, Habit::Withholding)],
		);
		assert_eq!(state(request), RequestState::Rejected);
		let mut blamed = offences();
		blamed.sort();
		// Nobody knows what it was bound to, and a lie was judged: silence is no cheaper than having vouched for it.
		let mut expected = vec![
			(liar, FraudulentResult),
			(withholding, FraudulentEvidence),
			(withholding, WithheldReveal),
		];
		expected.sort();
		assert_eq!(blamed, expected);
	});
}

#[test]
fn a_juror_that_reveals_early_makes_nobody_a_withholder() {
	run(|| {
		let request = committee(TEXT, Habit::Vouching);
		let liar = executor(request);
		while jurors(request).is_empty() {
			work_block(&[(liar, Habit::Vouching)]);
		}
		// What was shown before the jury is long past when its time is over.
		let seven = jurors(request);
		assert_eq!(seven.len(), 7);
		let waiting: Vec<_> = seven[1..]
			.iter()
			.map(|v| (*v, Habit::Withholding))
			.collect();
		settle_within(request, 60, &waiting);
		assert_eq!(state(request), RequestState::Rejected);
		assert!(offences().is_empty());
	});
}

#[test]
fn a_jury_that_finds_an_answer_right_is_paid_by_its_case_and_no_tip() {
	run(|| {
		let dear = Price {
			per_request: 100_000,
			..price()
		};
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			id(TEXT),
			dear
		));
		let (assurance, input) = (Assurance::Committee(2), text("hi", 4));
		let request =
			Inference::do_request(ALICE, id(TEXT), input, assurance, 300_000, 50_000).unwrap();
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let slanderer = verifiers(request)[0];
		let parties = [executor(request), slanderer, verifiers(request)[1]];
		let outside = VALIDATORS
			.into_iter()
			.find(|v| !parties.contains(v))
			.unwrap();
		let before = [outside, TREASURY, FUND].map(Balances::free_balance);
		settle_within(request, 12, &[(slanderer, Habit::Slandering)]);
		assert_eq!(state(request), RequestState::Final);
		let after = [outside, TREASURY, FUND].map(Balances::free_balance);
		// 10, and 1 for each of 34 units in and 3 out, whatever was asked for the answer.
		assert_eq!(after[0] - before[0], 47);
		// The treasury has its tenth of the price and gives nothing, and neither does the fund.
		assert_eq!(after[1] - before[1], 10_006);
		assert!(after[2] >= before[2]);
	});
}

#[test]
fn an_executor_that_is_alone_with_its_bits_is_not_paid_and_not_slashed() {
	run(|| {
		// Its answer is right, and its machine computes what no other does.
		let request = committee(TEXT, Habit::Honest);
		let alone = executor(request);
		let before = Balances::free_balance(alone);
		settle_within(request, 12, &[(alone, Habit::Lying)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(Balances::free_balance(alone), before);
		assert!(!ModelRegistry::is_serving(&alone, id(TEXT)));
		assert!(offences().is_empty());
	});
}

#[test]
fn verifiers_who_share_invented_bits_are_not_paid_and_do_no_harm() {
	run(|| {
		let request = committee(TEXT, Habit::Honest);
		let honest = executor(request);
		let party: [u64; 2] = verifiers(request).try_into().unwrap();
		let before = party.map(Balances::free_balance);
		let of_honest = Balances::free_balance(honest);
		settle_within(request, 12, &party.map(|v| (v, Habit::Lying)));
		assert_eq!(state(request), RequestState::Final);
		assert!(jurors(request).is_empty());
		// Others have measured, and find the executor's bits.
		assert!(party.iter().all(|v| !verifiers(request).contains(v)));
		assert_eq!(party.map(Balances::free_balance), before);
		assert!(Balances::free_balance(honest) > of_honest);
		assert!(ModelRegistry::is_serving(&honest, id(TEXT)));
		assert!(offences().is_empty());
	});
}

#[test]
fn where_nobody_else_could_measure_the_bits_of_most_count() {
	run(|| {
		// Four serve: there is one beside a committee of three.
		for v in &VALIDATORS[..3] {
			assert_ok!(ModelRegistry::withdraw(v, id(TEXT)));
		}
		next_block();
		let request = committee(TEXT, Habit::Honest);
		let alone = executor(request);
		settle_within(request, 4, &[(alone, Habit::Lying)]);
		assert_eq!(state(request), RequestState::Final);
		assert!(!ModelRegistry::is_serving(&alone, id(TEXT)));
	});
}

#[test]
fn a_verifier_and_a_juror_who_share_invented_bits_are_not_paid_and_kept_away() {
	run(|| {
		let request = committee(TEXT, Habit::Honest);
		let [sharer, slanderer] = verifiers(request)[..] else {
			panic!()
		};
		let parties = [executor(request), sharer, slanderer];
		let juror = VALIDATORS
			.into_iter()
			.find(|v| !parties.contains(v))
			.unwrap();
		// The slander calls a jury, in which two show the same bits, that nobody else has.
		let sharers = [sharer, juror];
		let before = sharers.map(Balances::free_balance);
		let mut odd = vec![(slanderer, Habit::Slandering)];
		odd.extend(sharers.map(|v| (v, Habit::Lying)));
		settle_within(request, 12, &odd);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(jurors(request).len(), 7);
		assert_eq!(sharers.map(Balances::free_balance), before);
		let serve = Statement::Serve {
			model: id(TEXT),
			evidence: digest(7),
			speed: Speed::default(),
		};
		next_block();
		for v in sharers {
			assert!(!ModelRegistry::is_serving(&v, id(TEXT)));
			assert!(report(v, vec![serve.clone()]).is_err());
		}
		// They may be machines of another kind.
		assert_eq!(offences(), [(slanderer, FraudulentEvidence)]);
	});
}

#[test]
fn a_verdict_that_says_neither_calls_a_jury_and_is_not_paid() {
	run(|| {
		pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
			let policy = &mut model.as_mut().unwrap().spec.policy;
			policy.accept.margin_max = 100;
			policy.fraud.margin_max = 200_000;
		});
		let request = committee(TEXT, Habit::Honest);
		let unclear = verifiers(request)[0];
		let before = Balances::free_balance(unclear);
		// 90,000 is neither within what is accepted nor beyond what is a lie.
		settle_within(request, 12, &[(unclear, Habit::Slandering)]);
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(jurors(request).len(), 7);
		assert_eq!(Balances::free_balance(unclear), before);
		assert!(!ModelRegistry::is_serving(&unclear, id(TEXT)));
		assert!(offences().is_empty(), "and not slashed");
	});
}

#[test]
fn a_machine_that_differs_again_stays_away_for_longer() {
	run(|| {
		let (who, model) = (VALIDATORS[0], id(TEXT));
		for sessions in [1, 2, 4, 8] {
			Inference::bar(&who, model);
			for _ in 0..sessions {
				assert!(Inference::is_barred(&who, model));
				set_session(&VALIDATORS);
			}
			assert!(!Inference::is_barred(&who, model));
		}
		assert!(!Inference::is_barred(&who, id(TENSOR)));
		assert!(!Inference::is_barred(&VALIDATORS[1], model));
	});
}

/// A request that is checked with probability `p`, answered by somebody with this habit, after the draw.
fn sampled(p: u16, habit: Habit) -> RequestId {
	let request = Inference::do_request(
		ALICE,
		id(TEXT),
		text("hi", 4),
		Assurance::Sampled(p),
		1_000,
		0,
	)
	.unwrap();
	blocks(2);
	work(executor(request), habit);
	blocks(2);
	request
}

#[test]
fn chance_decides_whether_an_answer_is_checked() {
	run(|| {
		admit_sampling();
		let mut checked = 0;
		for _ in 0..200 {
			let request = sampled(250, Habit::Honest);
			checked += u32::from(!verifiers(request).is_empty());
			settle_within(request, 10, &[]);
			assert_eq!(state(request), RequestState::Final);
		}
		// 50 expected; five standard deviations are 31.
		assert!((19..=81).contains(&checked), "{checked}");
	});
}

#[test]
fn an_unchecked_answer_is_final_after_the_time_for_appeals_and_costs_less() {
	run(|| {
		admit_sampling();
		let request = sampled(0, Habit::Honest);
		// Nobody has anything more to do, so it takes nobody's place.
		assert_eq!(crate::Assignments::<Test>::iter().count(), 0);
		assert_eq!(crate::Loads::<Test>::get().iter().sum::<u32>(), 0);
		assert_eq!(crate::WorkOf::<Test>::get(ALICE, id(TEXT)), 0);
		check();
		let until = Inference::request_view(request)
			.unwrap()
			.appealable_until
			.unwrap();
		while polkadot_sdk::frame_system::Pallet::<Test>::block_number() <= until {
			assert_eq!(state(request), RequestState::Provisional);
			next_block();
		}
		assert_eq!(state(request), RequestState::Final);
		// The price and the premium, and nothing for verifiers.
		assert_eq!(Inference::request_view(request).unwrap().paid, 164 + 24);
	});
}

#[test]
fn an_appeal_against_a_wrong_answer_is_won() {
	run(|| {
		admit_sampling();
		let before = Balances::free_balance(ALICE);
		let request = sampled(0, Habit::Vouching);
		let liar = executor(request);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(ALICE), request));
		assert_eq!(Balances::free_balance(ALICE), before - 1_000 - 500);
		assert_noop!(
			Inference::appeal(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::NotAppealable
		);
		next_block();
		settle_within(request, 10, &[(liar, Habit::Vouching)]);
		assert_eq!(state(request), RequestState::Rejected);
		// Everything is back, and she wins her bond again when the liar is slashed.
		assert_eq!(Balances::free_balance(ALICE), before);
		assert_eq!(offences(), [(liar, FraudulentResult)]);
		slashed(liar, 10_000);
		next_block();
		assert_eq!(Balances::free_balance(ALICE), before + 500);
	});
}

#[test]
fn an_appeal_against_a_right_answer_costs_the_bond() {
	run(|| {
		admit_sampling();
		let money = total();
		let request = sampled(0, Habit::Honest);
		let appellant = VALIDATORS
			.into_iter()
			.find(|v| *v != executor(request))
			.unwrap();
		let before = Balances::free_balance(appellant);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(appellant), request));
		next_block();
		settle_within(request, 10, &[]);
		assert_eq!(state(request), RequestState::Final);
		// The appellant is a juror too, and is paid for one measurement: 10, and 1 for each of 34 units in and at most 4 out.
		assert_eq!(before - Balances::free_balance(appellant), 500 - 48);
		assert!(events().contains(&Event::AppealLost {
			request,
			who: appellant,
			bond: 500
		}));
		assert!(offences().is_empty());
		assert_eq!(total(), money - (500 - 7 * 48), "the rest is burned");
	});
}

#[test]
fn nobody_appeals_where_there_is_no_jury() {
	run(|| {
		admit_sampling();
		for v in &VALIDATORS[..4] {
			assert_ok!(ModelRegistry::withdraw(v, id(TEXT)));
		}
		let request = sampled(0, Habit::Honest);
		assert_noop!(
			Inference::appeal(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::JuryTooSmall
		);
	});
}

#[test]
fn sampling_is_for_text_and_as_the_model_admits_it() {
	run(|| {
		let ask = |model, input, p| {
			Inference::do_request(ALICE, id(model), input, Assurance::Sampled(p), 1_000, 0)
		};
		let refused = Err(Error::<Test>::BadAssurance.into());
		assert_eq!(
			ask(TEXT, text("hi", 4), 999),
			refused,
			"the model checks always"
		);
		assert!(ask(TEXT, text("hi", 4), 1_000).is_ok());
		admit_sampling();
		assert_eq!(ask(TEXT, text("hi", 4), 1_001), refused);
		assert_eq!(ask(TENSOR, tensor_input(&[1, 2]), 500), refused);
	});
}

/// Six of twenty validators are one party, and five serve the model when somebody asks: a liar of the party and four honest ones.
#[test]
fn who_comes_for_a_jury_does_not_decide_it() {
	run(|| {
		let all: Vec<u64> = (101..=120).collect();
		set_session(&all);
		for late in &VALIDATORS[5..] {
			assert_ok!(ModelRegistry::withdraw(late, id(TEXT)));
		}
		blocks(1);
		let request = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(request);
		work(liar, Habit::Vouching);
		blocks(2);
		let mut odd = vec![(liar, Habit::Vouching)];
		while state(request) == RequestState::Provisional {
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Disputed);
		// The rest of the party comes now.
		let party: Vec<u64> = (116..=120).collect();
		for late in &party {
			let serve = Statement::Serve {
				model: id(TEXT),
				evidence: digest(7),
				speed: Speed::default(),
			};
			report(*late, vec![serve]).unwrap();
			odd.push((*late, Habit::Vouching));
		}
		for _ in 0..20 {
			if state(request).is_settled() {
				break;
			}
			for v in &all {
				let habit = odd.iter().find(|(o, _)| o == v);
				work(*v, habit.map_or(Habit::Honest, |(_, h)| *h));
			}
			next_block();
		}
		let mut blamed = offences();
		assert_eq!(state(request), RequestState::Rejected);
		assert_eq!(blamed.remove(0), (liar, FraudulentResult));
		// As many of them sat as a jury still needed, and pay for what they said.
		assert!(!blamed.is_empty());
		assert!(blamed
			.iter()
			.all(|(who, kind)| party.contains(who) && *kind == FraudulentEvidence));
	});
}
