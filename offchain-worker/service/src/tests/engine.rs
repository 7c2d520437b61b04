//! An engine that ends, hangs or has no time.

use super::*;

#[tokio::test]
async fn a_job_in_flight_at_a_crash_is_done_by_the_next_engine() {
	let mut bench = Bench::new();
	bench.engine.crashes.store(2, Ordering::SeqCst);
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 3);
}

#[tokio::test]
async fn a_job_that_a_busy_engine_refused_is_tried_again_at_the_next_block() {
	let mut bench = Bench::new();
	bench.engine.busy.store(1, Ordering::SeqCst);
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	bench
		.until(|s| s.validator.is_some() && s.running == 0)
		.await;
	assert_eq!(bench.engine.calls(), 1);
	assert!(bench.silent());
	bench.block(2);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 2);
}

#[tokio::test]
async fn a_model_over_which_several_inputs_end_the_engine_is_withdrawn() {
	let mut bench = Bench::new();
	let number = serve_both(&mut bench).await;
	bench.engine.crashes.store(100, Ordering::SeqCst);
	bench.due(&[
		(1, DutyKind::Answer),
		(2, DutyKind::Answer),
		(3, DutyKind::Answer),
	]);
	bench.block(number);
	assert_eq!(
		bench.said().await,
		[Statement::Withdraw {
			model: manifest().id()
		}]
	);
	let status = bench.status().await;
	let state = &status.models[&manifest().id()];
	assert!(
		matches!(state, ServingState::Refused(why) if why.contains("3 different inputs")),
		"{state:?}"
	);
}

#[tokio::test]
async fn a_poisoned_input_is_given_up_whoever_brings_it_and_its_model_goes_on() {
	let mut bench = Bench::new();
	let mut number = serve_both(&mut bench).await;
	let poison = question(1);
	bench
		.engine
		.poison
		.lock()
		.unwrap()
		.push(poison.clone().into());
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(number);
	bench
		.until(|s| s.running == 0 && s.waiting == 0 && bench.engine.calls() == 3)
		.await;
	// Whoever asks it again, and again.
	for request in 2..=5 {
		number += 1;
		bench.due(&[(request, DutyKind::Answer)]);
		bench.state().due.work.get_mut(&request).unwrap().input = poison.clone().into();
		bench.block(number);
		bench.until(|s| s.running == 0 && s.waiting == 0).await;
	}
	assert_eq!(bench.engine.calls(), 3, "it is not run again");
	assert!(bench.silent());
	number += 1;
	bench.due(&[(6, DutyKind::Answer)]);
	bench.block(number);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 6, .. }]),
		"{said:?}"
	);
	assert!(!is_refused(&bench.status().await, manifest().id()));
}

/// Has both models checked, announced and served. Gives the number of the next block.
async fn serve_both(bench: &mut Bench) -> BlockNumber {
	let mut number = 1;
	for name in ["tiny", "bad"] {
		bench.register_as(name);
		let model = named(name).id();
		bench.serve_model(model).await.unwrap();
		bench.block(number);
		let said = bench.said().await;
		assert!(matches!(said[..], [Statement::Serve { .. }]), "{said:?}");
		bench.state().serving.push(model);
		number += 1;
	}
	number
}

/// Returns when these jobs and no others have begun.
async fn begun(bench: &Bench, models: &[ModelId]) {
	timeout(PATIENCE, async {
		while bench.engine.begun() != models {
			tokio::task::yield_now().await;
		}
	})
	.await
	.unwrap_or_else(|_| panic!("{:?} begin, not {models:?}", bench.engine.begun()))
}

fn is_refused(status: &Status, model: ModelId) -> bool {
	matches!(status.models[&model], ServingState::Refused(_))
}

#[tokio::test]
async fn a_crash_is_held_against_what_was_alone() {
	let mut bench = Bench::held();
	let good = manifest().id();
	let number = serve_both(&mut bench).await;
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(number);
	begun(&bench, &[good]).await;
	bench.engine.poisonous.lock().unwrap().insert(bad());
	bench.due_for(&[(2, bad(), DutyKind::Answer), (1, good, DutyKind::Answer)]);
	bench.block(number + 1);
	// Beside each other once; then the bad one alone until it was blamed, and the good one.
	let order = [good, bad(), bad(), bad(), bad(), good];
	begun(&bench, &order).await;
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	// One input says nothing of a model.
	let status = bench.status().await;
	assert!(!is_refused(&status, bad()) && !is_refused(&status, good));
	assert_eq!(bench.engine.begun(), order);
}

#[tokio::test]
async fn a_job_without_end_is_held_against_its_input_and_not_against_another() {
	let limits = Limits {
		block: Duration::from_millis(1),
		patience: Duration::from_secs(1),
		..Default::default()
	};
	let mut bench = Bench::with(tempfile::tempdir().unwrap(), 0, limits);
	let good = manifest().id();
	let number = serve_both(&mut bench).await;
	bench.engine.endless.lock().unwrap().insert(bad());
	bench.due_for(&[(2, bad(), DutyKind::Answer)]);
	bench.block(number);
	begun(&bench, &[bad()]).await;
	bench.due_for(&[(2, bad(), DutyKind::Answer), (1, good, DutyKind::Answer)]);
	// It has half a second more, so that it is never the first whose time is up.
	for duty in &mut bench.state().due.duties {
		duty.deadline += if duty.request == 1 { 500 } else { 0 };
	}
	bench.block(number + 1);
	begun(&bench, &[bad(), good]).await;
	begun(&bench, &[bad(), good, bad()]).await;
	bench.engine.gate.add_permits(100);
	let order = [bad(), good, bad(), bad(), bad(), good];
	begun(&bench, &order).await;
	let status = bench.until(|s| s.running == 0 && s.waiting == 0).await;
	assert!(!is_refused(&status, bad()) && !is_refused(&status, good));
	assert_eq!(bench.engine.begun(), order);
}

#[tokio::test]
async fn a_quarantine_outlives_the_node_and_ends_on_command() {
	let mut bench = Bench::new();
	bench.engine.poisonous.lock().unwrap().insert(bad());
	bench.register_as("bad");
	bench.serve_model(bad()).await.unwrap();
	bench.block(1);
	bench.until(|s| is_refused(s, bad())).await;
	assert_eq!(bench.engine.begun(), [bad(); 3], "the check was the crash");
	assert!(bench.silent(), "it was never announced");

	let mut bench = bench.killed_and_restarted().await;
	bench.register_as("bad");
	bench.state().serving = vec![bad()];
	bench.block(2);
	assert_eq!(bench.said().await, [Statement::Withdraw { model: bad() }]);
	let status = bench.status().await;
	let ServingState::Refused(why) = &status.models[&bad()] else {
		panic!("{:?}", status.models)
	};
	assert!(
		why.contains("3 times") && why.contains("model serve"),
		"{why}"
	);
	assert_eq!(bench.engine.calls(), 0);

	bench.state().serving.clear();
	assert!(!matches!(
		bench.serve_model(bad()).await,
		Ok(ServingState::Refused(_))
	));
	bench.block(3);
	let said = bench.said().await;
	assert!(
		matches!(&said[..], [Statement::Serve { model, .. }] if *model == bad()),
		"{said:?}"
	);
}
