use consilience_primitives::{
	report::Statement, request::Assurance, view::RequestState, RequestId,
};
use polkadot_sdk::{
	frame_support::{assert_ok, traits::OneSessionHandler, weights::Weight},
	sp_core::{Pair, H256},
	sp_runtime::transaction_validity::{
		InvalidTransaction, TransactionSource, TransactionValidityError,
	},
};

use crate::{
	features::{
		report::{BAD_STATEMENTS, NOT_DUE, UNKNOWN_VALIDATOR},
		round::Phase,
	},
	mock::*,
	Error, Event,
};
use pallet_model_registry::Serving;

fn refused(result: Result<(), TransactionValidityError>, why: InvalidTransaction) {
	assert_eq!(result, Err(TransactionValidityError::Invalid(why)));
}

fn authorize(
	report: &consilience_primitives::report::Report<u64>,
	signature: &consilience_primitives::crypto::InferenceSignature,
) -> Result<(), TransactionValidityError> {
	Inference::authorize_report(TransactionSource::External, report, signature).map(|_| ())
}

fn withdraw() -> Vec<Statement> {
	vec![Statement::Withdraw { model: id(TEXT) }]
}

#[test]
fn what_is_due_is_let_in_once() {
	run(|| {
		assert_ok!(report(101, withdraw()));
		assert!(!ModelRegistry::served_by(101).contains(&id(TEXT)));
		refused(report(101, withdraw()), InvalidTransaction::Stale);
		next_block();
		refused(report(101, withdraw()), InvalidTransaction::Custom(NOT_DUE));
		let serve = vec![Statement::Serve {
			model: id(TEXT),
			evidence: digest(7),
			speed: Speed::default(),
		}];
		assert_ok!(report(101, serve));
	});
}

#[test]
fn who_measures_what_others_do_keeps_its_place_and_who_only_holds_one_does_not() {
	run(|| {
		let proven = || -> Vec<u64> {
			let serving = Serving::<Test>::get(id(TEXT)).into_iter();
			serving.filter(|s| s.proven).map(|s| s.who).collect()
		};
		assert!(proven().is_empty());
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		let view = Inference::request_view(request).unwrap();
		let mut measured = view.verifiers;
		measured.extend(view.executor);
		measured.sort_unstable();
		let mut shown = proven();
		shown.sort_unstable();
		assert_eq!(shown, measured);

		// A party takes all other places. It serves nothing.
		let late = VALIDATORS.into_iter().find(|v| !shown.contains(v)).unwrap();
		let withdraw = vec![Statement::Withdraw { model: id(TEXT) }];
		assert_ok!(report(late, withdraw));
		next_block();
		let mut party = 1_000;
		while !Serving::<Test>::get(id(TEXT)).is_full() {
			assert_ok!(ModelRegistry::serve(
				&party,
				id(TEXT),
				&digest(7),
				Speed::default()
			));
			party += 1;
		}
		let serve = vec![Statement::Serve {
			model: id(TEXT),
			evidence: digest(7),
			speed: Speed::default(),
		}];
		let full = report(late, serve.clone());
		refused(full, InvalidTransaction::Custom(NOT_DUE));
		blocks(ServingGrace::get());
		let displaced = Serving::<Test>::get(id(TEXT))
			.into_iter()
			.find(|s| !s.proven)
			.unwrap();
		assert_ok!(report(late, serve.clone()));
		assert!(ModelRegistry::is_serving(&late, id(TEXT)));
		assert!(!ModelRegistry::is_serving(&displaced.who, id(TEXT)));
		// It does not take turns with whoever took its place.
		assert!(Inference::is_barred(&displaced.who, id(TEXT)));
		assert_ok!(ModelRegistry::withdraw(&1_010, id(TEXT)));
		if VALIDATORS.contains(&displaced.who) {
			next_block();
			let barred = report(displaced.who, serve);
			refused(barred, InvalidTransaction::Custom(NOT_DUE));
		}
	});
}

#[test]
fn nothing_twice_and_never_nothing() {
	run(|| {
		refused(
			report(101, vec![]),
			InvalidTransaction::Custom(BAD_STATEMENTS),
		);
		let twice = [withdraw(), withdraw()].concat();
		refused(
			report(101, twice),
			InvalidTransaction::Custom(BAD_STATEMENTS),
		);
	});
}

#[test]
fn only_the_sessions_keys_in_the_present_session() {
	run(|| {
		refused(
			report(77, withdraw()),
			InvalidTransaction::Custom(UNKNOWN_VALIDATOR),
		);
		let (mut stolen, _) = signed(101, withdraw());
		let signature = pair(102).sign(&payload(&stolen));
		refused(authorize(&stolen, &signature), InvalidTransaction::BadProof);
		stolen.session += 1;
		let signature = pair(101).sign(&payload(&stolen));
		refused(authorize(&stolen, &signature), InvalidTransaction::Stale);
	});
}

#[test]
fn neither_old_nor_of_the_future() {
	run(|| {
		let (old, signature) = signed(101, withdraw());
		let (mut early, _) = signed(101, withdraw());
		early.at += 2;
		let early_signature = pair(101).sign(&payload(&early));
		refused(
			authorize(&early, &early_signature),
			InvalidTransaction::Stale,
		);
		blocks(3);
		assert_ok!(authorize(&old, &signature));
		next_block();
		refused(authorize(&old, &signature), InvalidTransaction::Stale);
	});
}

#[test]
fn a_statement_not_due_any_more_is_skipped_and_the_others_count() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let executor = executor(request);
		let (both, signature) = signed(
			executor,
			vec![
				Statement::Answer {
					request,
					output: answer(&[1]),
				},
				Statement::Withdraw { model: id(TENSOR) },
			],
		);
		Inference::answer(&executor, request, answer(&[1])).unwrap();
		assert_ok!(Inference::report(
			polkadot_sdk::frame_system::RawOrigin::Authorized.into(),
			both,
			signature
		));
		assert!(!ModelRegistry::served_by(executor).contains(&id(TENSOR)));
		let skipped = events()
			.into_iter()
			.any(|e| matches!(e, Event::StatementSkipped { index: 0, .. }));
		assert!(skipped);
	});
}

#[test]
fn signed_origins_cannot_report() {
	run(|| {
		let (report, signature) = signed(101, withdraw());
		assert!(Inference::report(RuntimeOrigin::signed(101), report, signature).is_err());
	});
}

#[test]
fn a_validator_that_leaves_the_session_serves_nothing() {
	run(|| {
		set_session(&VALIDATORS[1..]);
		assert!(ModelRegistry::served_by(101).is_empty());
		assert!(Inference::duties(&pair(101).public()).is_none());
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn a_disabled_validator_serves_nothing() {
	run(|| {
		<Inference as OneSessionHandler<u64>>::on_disabled(0);
		assert!(ModelRegistry::served_by(101).is_empty());
		assert!(!ModelRegistry::served_by(102).is_empty());
	});
}

#[test]
fn a_report_for_another_chain_is_not_heard() {
	run(|| {
		let genesis = H256::repeat_byte(3);
		polkadot_sdk::frame_system::BlockHash::<Test>::insert(0, genesis);
		let (said, of_nothing) = signed_for(&H256::zero());
		refused(authorize(&said, &of_nothing), InvalidTransaction::BadProof);
		let (said, signature) = signed_for(&genesis);
		assert_ok!(authorize(&said, &signature));
	});
}

fn signed_for(
	genesis: &H256,
) -> (
	consilience_primitives::report::Report<u64>,
	consilience_primitives::crypto::InferenceSignature,
) {
	let said = consilience_primitives::report::Report {
		session: 0,
		validator: 0,
		at: System::block_number() - 1,
		statements: withdraw().try_into().unwrap(),
	};
	let made_on = System::block_hash(said.at);
	let signature = pair(101).sign(&said.payload(genesis, &made_on));
	(said, signature)
}

/// Has a validator say this. Returns what its report may weigh at most, and what it weighed.
fn weighed(validator: u64, statements: Vec<Statement>) -> (Weight, Weight) {
	let (said, signature) = signed(validator, statements);
	let most = Inference::report_weight(&said);
	let origin = polkadot_sdk::frame_system::RawOrigin::Authorized.into();
	let post = Inference::report(origin, said, signature).unwrap();
	(most, post.actual_weight.unwrap())
}

#[test]
fn only_the_reveal_that_settles_weighs_as_one() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		work_block(&[]);
		let members = [vec![executor(request)], verifiers(request)].concat();
		let mut weights = Vec::new();
		for m in members {
			let statement = Statement::Reveal {
				request,
				evidence: measured(request, Habit::Honest),
				salt: salt(m),
			};
			let (most, used) = weighed(m, vec![statement]);
			assert!(used.ref_time() < most.ref_time());
			weights.push(used.ref_time());
		}
		assert_eq!(state(request), RequestState::Final);
		// In the mock a settlement weighs 100 for each of the three members, in place of the 10 of a reveal.
		assert_eq!(weights[0], weights[1]);
		assert_eq!(weights[2], weights[1] + 290);
	});
}

#[test]
fn only_the_reveal_that_settles_reads_the_output() {
	use codec::Encode;

	let mut ext = externalities();
	let (request, members) = ext.execute_with(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		work_block(&[]);
		let members = [vec![executor(request)], verifiers(request)].concat();
		(request, members)
	});
	// What was read of the state is in the proof of it, a leaf with its value as it is stored.
	let output = answer(&[1, 2, 3]).encode();
	let mut read = Vec::new();
	for member in members {
		ext.commit_all().unwrap();
		let said = || signed(member, statements(member, Habit::Honest));
		let (said, signature) = ext.execute_with(said);
		let ((), proof) = ext.execute_and_prove(|| {
			assert_ok!(authorize(&said, &signature));
			let origin = polkadot_sdk::frame_system::RawOrigin::Authorized.into();
			assert_ok!(Inference::report(origin, said, signature));
		});
		let holds = |node: &Vec<u8>| node.windows(output.len()).any(|part| part == output);
		read.push(proof.iter_nodes().any(holds));
	}
	ext.execute_with(|| assert_eq!(state(request), RequestState::Final));
	assert_eq!(read, [false, false, true]);
}

#[test]
fn a_report_settles_no_more_than_it_weighs_and_the_rest_comes_in_the_next() {
	run(|| {
		let asked: Vec<_> = [ALICE, BOB]
			.into_iter()
			.cycle()
			.take(12)
			.map(|who| {
				let input = text("hi", 4);
				Inference::do_request(who, id(TEXT), input, Assurance::Committee(4), 1_000, 0)
					.unwrap()
			})
			.collect();
		let revealing = |id: &RequestId| {
			crate::Rounds::<Test>::get(id).is_some_and(|r| r.phase == Phase::Reveal)
		};
		for _ in 0..20 {
			for v in VALIDATORS {
				let mut said = statements(v, Habit::Honest);
				said.retain(|s| !matches!(s, Statement::Reveal { .. }));
				if !said.is_empty() {
					assert_ok!(report(v, said));
				}
			}
			if asked.iter().all(revealing) {
				break;
			}
			next_block();
		}
		assert!(asked.iter().all(revealing));
		next_block();
		let [last, others @ ..] = VALIDATORS;
		for v in others {
			let said = statements(v, Habit::Honest);
			assert_ok!(report(v, said));
		}
		next_block();
		// Whatever it still has to show is the end of a round of five, which in the mock weighs 500: 193 more than an ordinary one.
		let said = statements(last, Habit::Honest);
		let reveals = said.len() as u64;
		assert!(reveals >= 4, "{reveals}");
		let before = asked.iter().filter(|id| state(**id).is_settled()).count() as u64;
		let (most, used) = weighed(last, said);
		assert!(used.all_lte(most));
		let settled = |before: u64| {
			asked.iter().filter(|id| state(**id).is_settled()).count() as u64 - before
		};
		// As many as fit in what is ordinary for all, and the one that may be the heaviest.
		assert_eq!(settled(before), reveals * 307 / 507 + 1);
		let full = events()
			.into_iter()
			.filter(|e| {
				matches!(e, Event::StatementSkipped { reason, .. } if *reason == Error::<Test>::ReportFull.into())
			})
			.count() as u64;
		assert_eq!(full, reveals - settled(before));
		for _ in 0..4 {
			next_block();
			let left = statements(last, Habit::Honest);
			if !left.is_empty() {
				assert_ok!(report(last, left));
			}
		}
		assert!(asked.iter().all(|id| state(*id) == RequestState::Final));
	});
}

#[test]
fn what_was_said_on_another_fork_is_not_heard() {
	run(|| {
		let (said, signature) = signed(101, withdraw());
		assert_ok!(authorize(&said, &signature));
		let other = H256::repeat_byte(9);
		polkadot_sdk::frame_system::BlockHash::<Test>::insert(said.at, other);
		refused(authorize(&said, &signature), InvalidTransaction::BadProof);
	});
}
