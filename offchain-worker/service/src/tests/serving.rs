//! What is announced and withdrawn.

use super::*;

#[tokio::test]
async fn a_model_is_announced_when_it_is_registered_and_its_reference_reproduced() {
	let mut bench = Bench::new();
	assert_eq!(bench.serve().await, Ok(ServingState::Waiting));
	bench.block(1);
	bench.until(|s| s.validator.is_some()).await;
	assert!(bench.silent());
	bench.register();
	bench.block(2);
	let model = manifest().id();
	assert!(matches!(
		&bench.said().await[..],
		[Statement::Serve { model: m, evidence: e, .. }] if *m == model && *e == evidence(42)
	));
	// It is remembered on disk.
	let mut bench = bench.killed_and_restarted().await;
	bench.register();
	bench.block(3);
	assert!(matches!(
		&bench.said().await[..],
		[Statement::Serve { model: m, evidence: e, .. }] if *m == model && *e == evidence(42)
	));
}

#[tokio::test]
async fn a_model_is_withdrawn_on_command_and_unloaded_when_nothing_is_due_for_it() {
	let mut bench = Bench::new();
	let model = manifest().id();
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	bench.said().await;
	bench.state().serving = vec![model];
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(2);
	bench.said().await;
	let (reply, replied) = oneshot::channel();
	bench
		.commands
		.send(Command::Withdraw(model, reply))
		.await
		.unwrap();
	assert_eq!(timeout(PATIENCE, replied).await.unwrap().unwrap(), Ok(true));
	bench.block(3);
	assert_eq!(bench.said().await, [Statement::Withdraw { model }]);
	assert!(bench.engine.unloaded.lock().unwrap().is_empty());
	bench.state().serving.clear();
	bench.due(&[]);
	bench.block(4);
	timeout(PATIENCE, async {
		while *bench.engine.unloaded.lock().unwrap() != [model] {
			tokio::task::yield_now().await;
		}
	})
	.await
	.expect("the model is unloaded");
}

#[tokio::test]
async fn who_follows_other_rules_for_constraints_serves_no_text() {
	let mut bench = Bench::new();
	let model = manifest().id();
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	bench.said().await;
	// The runtime is upgraded before this program is.
	bench.state().serving = vec![model];
	bench.state().rules = Some(CONSTRAINT_RULES + 1);
	bench.block(2);
	assert_eq!(bench.said().await, [Statement::Withdraw { model }]);
	bench.state().serving.clear();
	bench.block(3);
	bench.seen().await;
	assert!(bench.silent());
	// The other way round it comes back by itself.
	bench.state().rules = None;
	bench.block(4);
	assert!(matches!(&bench.said().await[..], [Statement::Serve { .. }]));
}

#[tokio::test]
async fn a_machine_that_computes_other_bits_says_so_and_is_never_announced() {
	let mut bench = Bench::new();
	*bench.engine.reference.lock().unwrap() = evidence(41);
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	let model = manifest().id();
	let status = bench
		.until(|s| matches!(s.models[&model], ServingState::Refused(_)))
		.await;
	let ServingState::Refused(why) = &status.models[&model] else {
		unreachable!()
	};
	assert!(why.contains("does not reproduce"), "{why}");
	// Whoever registered it hears of it, once.
	bench.block(2);
	let differ = Statement::Differ {
		model,
		evidence: evidence(41),
	};
	assert_eq!(bench.said().await, [differ]);
	let view = |bench: &Bench| bench.state().models[&model].clone();
	let mut seen = view(&bench);
	seen.differing = vec![validator()];
	bench.state().models.insert(model, seen);
	bench.block(3);
	bench.seen().await;
	assert!(bench.silent());
	// It does not go on serving either.
	bench.state().serving = vec![model];
	bench.block(4);
	assert_eq!(bench.said().await, [Statement::Withdraw { model }]);
}

#[tokio::test]
async fn what_the_chain_says_of_a_model_must_be_what_its_manifest_says() {
	let bench = Bench::new();
	bench.register();
	let model = manifest().id();
	bench.state().models.get_mut(&model).unwrap().spec.size += 1;
	bench.serve().await.unwrap();
	bench.block(1);
	let status = bench
		.until(|s| matches!(s.models[&model], ServingState::Refused(_)))
		.await;
	let ServingState::Refused(why) = &status.models[&model] else {
		unreachable!()
	};
	assert!(why.contains("manifest"), "{why}");
}

#[tokio::test]
async fn a_model_that_the_chain_withdrew_is_checked_before_it_is_announced_again() {
	let mut bench = Bench::new();
	let model = manifest().id();
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	let announced = bench.said().await;
	assert!(matches!(
		&announced[..],
		[Statement::Serve { model: m, evidence: e, .. }] if *m == model && *e == evidence(42)
	));
	bench.state().serving = vec![model];
	bench.block(2);
	bench.seen().await;
	bench.state().serving.clear();
	bench.block(3);
	assert_eq!(
		bench.said().await,
		announced,
		"its machine is not timed again"
	);
	bench.state().serving = vec![model];
	bench.block(4);
	bench.seen().await;
	// The machine is not what it was.
	*bench.engine.reference.lock().unwrap() = evidence(41);
	bench.state().serving.clear();
	bench.block(5);
	bench
		.until(|s| matches!(s.models[&model], ServingState::Refused(_)))
		.await;
	let differ = Statement::Differ {
		model,
		evidence: evidence(41),
	};
	assert_eq!(bench.said().await, [differ]);
}

#[tokio::test]
async fn an_announcement_that_is_refused_is_not_made_in_every_block() {
	let mut bench = Bench::new();
	bench.register();
	bench.serve().await.unwrap();
	bench.state().disabled = true;
	bench.block(1);
	bench
		.until(|s| s.models[&manifest().id()] == ServingState::Announced)
		.await;
	for number in 2..=3 {
		bench.block(number);
		bench.seen().await;
	}
	assert_eq!(bench.state().refusals, 1);
	bench.state().disabled = false;
	bench.block(4);
	assert!(matches!(bench.said().await[..], [Statement::Serve { .. }]));
}
