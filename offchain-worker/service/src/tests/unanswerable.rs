//! What no machine can answer, and claims of it.

use consilience_primitives::request::Unanswerable;

use super::*;

fn unanswerable() -> EngineError {
	EngineError::Unanswerable(Unanswerable::GraphRefused, "the graph refuses it".into())
}

/// A member's duty about this output of the first request, whose jury has this prior challenge.
fn measured(bench: &Bench, kind: DutyKind, claimed: Output, prior: Option<H256>) {
	bench.due(&[(1, kind)]);
	let mut state = bench.state();
	let work = state.due.work.get_mut(&1).unwrap();
	(work.output, work.prior) = (Some(claimed), prior);
}

/// Commits and reveals; what is shown.
async fn shown(bench: &mut Bench, claimed: Output, prior: Option<H256>) -> Evidence {
	measured(bench, DutyKind::Commit, claimed.clone(), prior);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::Commit { commitment, .. }] = said[..] else {
		panic!("{said:?}")
	};
	measured(bench, DutyKind::Reveal, claimed, prior);
	bench.block(2);
	bench.finalize(2);
	let said = bench.said().await;
	let [Statement::Reveal { evidence, salt, .. }] = &said[..] else {
		panic!("{said:?}")
	};
	let challenge = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(1, &challenge, &validator(), salt),
		commitment
	);
	evidence.clone()
}

#[tokio::test]
async fn an_executor_says_that_there_is_no_answer_whatever_is_due() {
	for kind in [DutyKind::Answer, DutyKind::CommitOutput] {
		let mut bench = Bench::new();
		bench
			.engine
			.errors
			.lock()
			.unwrap()
			.push_back(unanswerable());
		// The chain takes an answer where a commitment is due, too.
		bench.state().claims = true;
		bench.due(&[(1, kind)]);
		bench.block(1);
		let answer = [Statement::Answer {
			request: 1,
			output: Output::Unanswerable(Unanswerable::GraphRefused),
		}];
		assert_eq!(bench.said().await, answer);
		assert_eq!(bench.engine.calls(), 1);
		// It stands by what it found, over a kill too.
		let mut bench = bench.killed_and_restarted().await;
		bench.state().claims = true;
		bench.due(&[(1, kind)]);
		bench.block(2);
		assert_eq!(bench.said().await, answer);
		assert_eq!(bench.engine.calls(), 0);
	}
}

#[tokio::test]
async fn a_member_looks_for_an_answer_where_somebody_claims_that_there_is_none() {
	let (challenge, prior) = (H256::repeat_byte(2), H256::repeat_byte(3));
	for (claimed, found) in [
		(Unanswerable::GraphRefused, Some(Unanswerable::GraphRefused)),
		(Unanswerable::NotFinite, Some(Unanswerable::GraphRefused)),
		(Unanswerable::GraphRefused, None),
	] {
		for prior in [None, Some(prior)] {
			let mut bench = Bench::new();
			if found.is_some() {
				bench
					.engine
					.errors
					.lock()
					.unwrap()
					.push_back(unanswerable());
			}
			let evidence = shown(&mut bench, Output::Unanswerable(claimed), prior).await;
			let of = |challenge: &H256| Evidence::of_claim(claimed, found, challenge);
			let expected = Evidence {
				prior: prior.map(|prior| of(&prior).fingerprint),
				..of(&challenge)
			};
			assert_eq!(evidence, expected);
			assert!(evidence.is_of(NumericClass::Exact));
			assert_eq!(bench.engine.calls(), 1, "one run for both challenges");
			assert!(bench.engine.challenges.lock().unwrap().is_empty());
		}
	}
}

#[tokio::test]
async fn a_member_that_finds_no_answer_says_so_of_one_that_somebody_gave() {
	let (challenge, prior) = (H256::repeat_byte(2), H256::repeat_byte(3));
	for prior in [None, Some(prior)] {
		let mut bench = Bench::new();
		bench
			.engine
			.errors
			.lock()
			.unwrap()
			.push_back(unanswerable());
		let evidence = shown(&mut bench, output(7), prior).await;
		let of = |challenge: &H256| Evidence::of_refusal(NumericClass::Exact, challenge);
		let expected = Evidence {
			prior: prior.map(|prior| of(&prior).fingerprint),
			..of(&challenge)
		};
		assert_eq!(evidence, expected);
	}
}

#[tokio::test]
async fn a_member_that_failed_says_nothing() {
	let mut bench = Bench::new();
	let failure = EngineError::Run("bad_alloc".into());
	bench.engine.errors.lock().unwrap().extend(vec![failure; 9]);
	let claimed = Output::Unanswerable(Unanswerable::NotFinite);
	measured(&bench, DutyKind::Commit, claimed, None);
	for number in 1..=5 {
		bench.block(number);
		bench
			.until(|s| s.validator.is_some() && s.running == 0)
			.await;
	}
	assert!(bench.silent());
	assert_eq!(bench.engine.calls(), 3);
}
