//! Each liar does what it is to do, and says the rest as everybody does.

use std::sync::{
	atomic::{AtomicUsize, Ordering},
	Mutex,
};

use codec::Encode;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint},
	report::{DutyKind, Statement},
	request::Output,
	RequestId,
};

use super::{
	chain::{assignment_key, round_key, Progress, Role, Round},
	*,
};
use crate::chain::AccountId;
use crate::tests::{bad, evidence, output, validator, Bench, FakeLibrary};

/// What stands in the chain's storage: the round over the first request, and of which request the liar is the executor.
#[derive(Default)]
struct Stored {
	round: Option<Round>,
	executes: RequestId,
}

/// A liar's worker, what it reads, and how often it has ended the node.
fn lying(lie: Lie) -> (Bench, Arc<Mutex<Stored>>, Arc<AtomicUsize>) {
	let storage: Arc<Mutex<Stored>> = Arc::default();
	let crashes: Arc<AtomicUsize> = Arc::default();
	let (stored, crashed) = (storage.clone(), crashes.clone());
	let liar = Liar {
		lie: Some(lie),
		model: Some(bad()),
		storage: Arc::new(move |_, key| {
			let stored = stored.lock().unwrap();
			if key == round_key(1) {
				return stored.round.as_ref().map(Encode::encode);
			}
			// The role, and the work that it is.
			(key == assignment_key(&validator(), stored.executes))
				.then(|| (Role::Executor, 1u32).encode())
		}),
		crash: Arc::new(move || {
			crashed.fetch_add(1, Ordering::SeqCst);
		}),
	};
	let bench =
		Bench::with_liar(|chain, engine| corrupt(liar, chain, engine, Arc::new(FakeLibrary)));
	(bench, storage, crashes)
}

/// What it says about a duty; nothing where nothing comes of it.
async fn says(
	bench: &mut Bench,
	number: u32,
	request: RequestId,
	kind: DutyKind,
) -> Vec<Statement> {
	bench.due(&[(request, kind)]);
	let measured = matches!(kind, DutyKind::Commit | DutyKind::Reveal);
	if measured {
		bench.state().due.work.get_mut(&request).unwrap().output = Some(output(0));
	}
	bench.block(number);
	bench.finalize(number);
	bench.seen().await;
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	let mut said = Vec::new();
	while let Ok(report) = bench.reports.try_recv() {
		said.extend(report.statements);
	}
	said
}

async fn answer(bench: &mut Bench, number: u32, request: RequestId) -> Output {
	match &says(bench, number, request, DutyKind::Answer).await[..] {
		[Statement::Answer { output, .. }] => output.clone(),
		said => panic!("{said:?}"),
	}
}

/// Commits and reveals; what is shown.
async fn measure(bench: &mut Bench, number: u32, request: RequestId) -> Evidence {
	let said = says(bench, number, request, DutyKind::Commit).await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	let said = says(bench, number + 1, request, DutyKind::Reveal).await;
	match &said[..] {
		[Statement::Reveal { evidence, .. }] => evidence.clone(),
		said => panic!("{said:?}"),
	}
}

#[test]
fn every_lie_has_its_name() {
	for lie in Lie::ALL {
		assert_eq!(lie.name().parse(), Ok(lie));
	}
	let error = "honesty".parse::<Lie>().unwrap_err();
	assert!(error.contains("copycat"), "{error}");
}

#[tokio::test]
async fn a_wrong_answer_is_one_to_another_question_and_called_right() {
	for lie in [Lie::WrongAnswer, Lie::Collude] {
		let (mut bench, ..) = lying(lie);
		// The true answer was the first that the engine gave.
		assert_eq!(answer(&mut bench, 1, 1).await, output(1), "{lie}");
		*bench.engine.margin.lock().unwrap() = 77;
		let shown = measure(&mut bench, 2, 1).await;
		assert_eq!(
			shown,
			evidence(2),
			"{lie}: the fingerprint is true, the verdict is not"
		);
	}
}

#[tokio::test]
async fn a_cheap_model_answers_and_measures_or_answers_only() {
	let (mut bench, ..) = lying(Lie::CheapModel);
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 1).await;
	assert_eq!(bench.engine.begun(), [bad(), bad()]);
	let (mut bench, ..) = lying(Lie::PrefillAttack);
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 1).await;
	assert_eq!(bench.engine.begun(), [bad(), crate::tests::manifest().id()]);
}

#[tokio::test]
async fn a_lazy_verifier_runs_nothing() {
	let (mut bench, ..) = lying(Lie::LazyVerifier);
	let shown = measure(&mut bench, 1, 1).await;
	assert_eq!(
		shown.fingerprint,
		Fingerprint::Digest([2; 16]),
		"the challenge is 2, 2, …"
	);
	assert_eq!(bench.engine.calls(), 0);
}

#[tokio::test]
async fn a_copycat_says_what_another_said() {
	let (mut bench, storage, _) = lying(Lie::Copycat);
	assert!(
		says(&mut bench, 1, 1, DutyKind::Commit).await.is_empty(),
		"nothing to copy"
	);
	let other = AccountId::new([8; 32]);
	let copied = H256::repeat_byte(5);
	let stands = |progress| Round {
		challenge: H256::repeat_byte(2),
		size: 2,
		members: vec![
			(validator(), 0, Progress::Measuring),
			(other.clone(), 3, progress),
		],
	};
	storage.lock().unwrap().round = Some(stands(Progress::Committed(copied)));
	let said = says(&mut bench, 2, 1, DutyKind::Commit).await;
	assert_eq!(
		said,
		[Statement::Commit {
			request: 1,
			commitment: copied
		}]
	);
	storage.lock().unwrap().round = Some(stands(Progress::Revealed(evidence(9))));
	let said = says(&mut bench, 3, 1, DutyKind::Reveal).await;
	assert!(
		matches!(&said[..], [Statement::Reveal { evidence: e, .. }] if *e == evidence(9)),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 0);
}

#[tokio::test]
async fn who_is_silent_says_the_rest() {
	let (mut bench, ..) = lying(Lie::SilentExecutor);
	assert!(says(&mut bench, 1, 1, DutyKind::Answer).await.is_empty());
	measure(&mut bench, 2, 2).await;
	let (mut bench, storage, _) = lying(Lie::SilentVerifier);
	assert!(says(&mut bench, 1, 1, DutyKind::Commit).await.is_empty());
	storage.lock().unwrap().executes = 2;
	answer(&mut bench, 2, 2).await;
	measure(&mut bench, 3, 2).await;
	let (mut bench, ..) = lying(Lie::WithholdReveal);
	answer(&mut bench, 1, 1).await;
	let said = says(&mut bench, 2, 1, DutyKind::Commit).await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	assert!(says(&mut bench, 3, 1, DutyKind::Reveal).await.is_empty());
}

#[tokio::test]
async fn a_crash_comes_when_the_answer_is_on_chain() {
	let (mut bench, storage, crashes) = lying(Lie::CrashAfterAnswer);
	storage.lock().unwrap().executes = 1;
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 2).await;
	assert_eq!(crashes.load(Ordering::SeqCst), 0);
	says(&mut bench, 4, 1, DutyKind::Commit).await;
	assert!(crashes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_replayed_answer_is_the_first_one() {
	let (mut bench, ..) = lying(Lie::Replay);
	let first = answer(&mut bench, 1, 1).await;
	assert_eq!(answer(&mut bench, 2, 2).await, first);
	assert_eq!(bench.engine.calls(), 1);
}

#[tokio::test]
async fn without_a_lie_it_is_honest() {
	let (mut bench, ..) = {
		let liar = Liar {
			lie: None,
			model: None,
			storage: Arc::new(|_, _| unreachable!("nobody is copied")),
			crash: Arc::new(|| unreachable!("nobody crashes")),
		};
		(Bench::with_liar(|c, e| {
			corrupt(liar, c, e, Arc::new(FakeLibrary))
		}),)
	};
	*bench.engine.margin.lock().unwrap() = 77;
	assert_eq!(answer(&mut bench, 1, 1).await, output(0));
	assert_eq!(measure(&mut bench, 2, 1).await.verdict.margin_max, 77);
}
