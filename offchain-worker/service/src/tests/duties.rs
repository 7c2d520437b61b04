//! Duties, the queue, and reports.

use consilience_primitives::{
	report::MAX_STATEMENTS,
	request::StoredInput,
	tensor::{DataType, Tensor, MAX_DATA},
};

use super::*;

#[tokio::test]
async fn a_duty_is_done_once_and_said_again_while_it_is_due() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	let report = bench.report().await;
	assert_eq!((report.session, report.validator, report.at), (3, 2, 1));
	let first = report.statements.into_inner();
	assert_eq!(
		first,
		[Statement::Answer {
			request: 1,
			output: output(0)
		}]
	);
	for number in 2..=3 {
		bench.block(number);
		bench.seen().await;
	}
	// Not in a block after three: it was lost.
	bench.block(4);
	let again = bench.report().await;
	assert_eq!((again.at, again.statements.into_inner()), (4, first));
	assert_eq!(bench.engine.calls(), 1);
	assert!(bench.silent());
}

#[tokio::test]
async fn a_report_lost_to_one_statement_is_said_again_without_it_at_once() {
	let mut bench = Bench::held();
	bench.due(&[(1, DutyKind::Commit), (2, DutyKind::Commit)]);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	// No report of this block takes the first that is done: both come with the next.
	bench.state().refused.extend([1, 2]);
	bench.engine.gate.add_permits(2);
	bench.until(|s| s.running == 0).await;
	bench.state().refused.clear();
	bench.block(2);
	let both = bench.said().await;
	assert_eq!(both.len(), 2);
	// The same again: nothing happened to it.
	bench.block(3);
	bench.seen().await;
	assert!(bench.silent());
	bench.due(&[(2, DutyKind::Commit)]);
	bench.block(4);
	assert_eq!(bench.said().await, both[1..]);
}

#[tokio::test]
async fn nothing_is_due_while_the_node_catches_up() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::Answer)]);
	bench.state().syncing = true;
	for number in 1..=3 {
		bench.block(number);
		let status = bench.status().await;
		assert_eq!((status.running, status.waiting), (0, 0));
	}
	assert_eq!(bench.engine.calls(), 0);
	bench.state().syncing = false;
	bench.block(4);
	let report = bench.report().await;
	assert_eq!((report.at, report.statements.len()), (4, 1));
	// A node that falls behind again does not go on with what it knew.
	bench.state().syncing = true;
	bench.block(20);
	bench.seen().await;
	assert!(bench.silent());
}

#[tokio::test]
async fn a_kill_between_computing_and_saying_changes_nothing_that_is_said() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let before = bench.said().await;
	let mut bench = bench.killed_and_restarted().await;
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(2);
	assert_eq!(bench.said().await, before);
}

#[tokio::test]
async fn what_is_not_due_any_more_is_dropped() {
	let mut bench = Bench::held();
	bench.due(&[
		(1, DutyKind::Answer),
		(2, DutyKind::Answer),
		(3, DutyKind::Answer),
	]);
	bench.block(1);
	bench.until(|s| (s.running, s.waiting) == (2, 1)).await;
	bench.called(2).await;
	bench.due(&[]);
	bench.block(2);
	bench.until(|s| (s.running, s.waiting) == (0, 0)).await;
	bench.engine.gate.add_permits(100);
	bench.seen().await;
	assert_eq!(bench.engine.calls(), 2, "the third was never begun");
	assert!(bench.silent());
	bench.due(&[(4, DutyKind::Answer)]);
	bench.block(3);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 4, .. }]),
		"{said:?}"
	);
}

#[tokio::test]
async fn everything_is_done_in_the_end() {
	let mut bench = Bench::held();
	let due: Vec<_> = (0..200)
		.map(|request| (request, DutyKind::Commit))
		.collect();
	bench.due(&due);
	bench.block(1);
	let status = bench.until(|s| s.running == 2).await;
	assert_eq!(status.waiting, 198);
	bench.engine.gate.add_permits(1_000);
	let mut said = BTreeSet::new();
	let mut number = 1;
	while said.len() < 200 {
		number += 1;
		bench.block(number);
		let report = bench.report().await;
		assert!(report.statements.len() <= MAX_STATEMENTS as usize);
		said.extend(report.statements.iter().filter_map(request_of));
		// What was said is in a block now.
		let left: Vec<_> = due
			.iter()
			.filter(|(r, _)| !said.contains(r))
			.copied()
			.collect();
		bench.due(&left);
	}
	assert_eq!(bench.engine.calls(), 200);
}

#[tokio::test]
async fn one_refused_statement_does_not_silence_the_others() {
	let mut bench = Bench::held();
	bench.due(&[(1, DutyKind::Commit), (2, DutyKind::Commit)]);
	bench.state().refused.insert(1);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	bench.engine.gate.add_permits(2);
	bench.until(|s| s.running == 0).await;
	bench.block(2);
	let said = bench.said().await;
	assert_eq!(said.iter().filter_map(request_of).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn what_is_more_than_a_block_takes_is_said_in_parts() {
	let mut bench = Bench::held();
	let due: Vec<_> = (0..20).map(|request| (request, DutyKind::Commit)).collect();
	bench.due(&due);
	bench.state().most = Some(6);
	bench.state().refused.insert(1);
	bench.block(1);
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	let mut said = BTreeSet::new();
	for number in 2..20 {
		bench.block(number);
		let report = bench.report().await;
		assert!(report.statements.len() <= 6);
		said.extend(report.statements.iter().filter_map(request_of));
		if said.len() == 19 {
			break;
		}
		// What was said is in a block now.
		let left: Vec<_> = due
			.iter()
			.filter(|(r, _)| !said.contains(r))
			.copied()
			.collect();
		bench.due(&left);
	}
	assert_eq!(said.len(), 19, "all but the one that is refused: {said:?}");
}

/// What this thread, which runs chain, worker and engine, has had of a processor.
fn cpu_time() -> Duration {
	let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
	Duration::from_nanos(spent.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_block_with_hundreds_of_duties_costs_a_call_for_each_that_is_new() {
	const MANY: u64 = 500;
	const AT_ONCE: usize = 64;
	let limits = Limits {
		jobs: AT_ONCE,
		..Default::default()
	};
	let mut bench = Bench::with(tempfile::tempdir().unwrap(), 0, limits);
	let due: Vec<_> = (0..MANY).map(|n| (n, DutyKind::Commit)).collect();
	bench.due(&due);
	bench.block(1);
	bench.until(|s| s.running == AT_ONCE).await;
	let work = |bench: &Bench| bench.state().asked.1;
	// One for each, and one more for each that is begun.
	assert_eq!(work(&bench), MANY as usize + AT_ONCE);
	let mut spent = Duration::ZERO;
	for number in 2..=11 {
		bench.block(number);
		let before = cpu_time();
		bench.seen().await;
		spent += cpu_time() - before;
	}
	println!(
		"figure a block's review, {MANY} duties that are known: {:?}",
		spent / 10
	);
	assert_eq!(
		work(&bench),
		MANY as usize + AT_ONCE,
		"nothing is asked twice"
	);
	// On another fork all of it may be different.
	let lost = Head {
		parent: Some(H256::repeat_byte(1)),
		..head(12)
	};
	let due = bench.state().due.clone();
	bench.state().blocks.insert(lost.hash, due);
	bench.heads.send(lost).unwrap();
	bench.seen().await;
	assert_eq!(work(&bench), 2 * MANY as usize + AT_ONCE);
	// All of them are computed, and no event costs what all duties do.
	let before = cpu_time();
	bench.engine.gate.add_permits(MANY as usize);
	for times in (0..=MANY as usize).step_by(50) {
		bench.called(times).await;
	}
	let spent = cpu_time() - before;
	println!("figure {MANY} jobs that take no time: {spent:?}");
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	assert_eq!(work(&bench), 3 * MANY as usize);
	let mut number = 12;
	let mut said = BTreeSet::new();
	loop {
		said.extend(bench.said().await.iter().filter_map(request_of));
		if said.len() == MANY as usize {
			break;
		}
		// What was said is in a block now.
		bench
			.state()
			.due
			.duties
			.retain(|d| !said.contains(&d.request));
		number += 1;
		bench.block(number);
	}
	println!(
		"figure {MANY} statements are said in {} blocks",
		number - 11
	);
	assert_eq!(work(&bench), 3 * MANY as usize);
}

#[tokio::test]
async fn bad_statements_are_found_among_many_by_halving() {
	let mut bench = Bench::held();
	let due: Vec<_> = (0..32).map(|n| (n, DutyKind::Commit)).collect();
	bench.due(&due);
	bench.state().refused.extend([3, 17]);
	bench.block(1);
	bench.engine.gate.add_permits(32);
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	bench.state().refusals = 0;
	bench.block(2);
	let mut said = BTreeSet::new();
	said.extend(bench.said().await.iter().filter_map(request_of));
	bench.block(3);
	bench.seen().await;
	while let Ok(report) = bench.reports.try_recv() {
		said.extend(report.statements.iter().filter_map(request_of));
	}
	assert_eq!(said.len(), 30, "{said:?}");
	assert!(!said.contains(&3) && !said.contains(&17));
	// Two of 32: each costs about one refusal for each halving, in each of two blocks.
	assert!(bench.state().refusals < 30, "{}", bench.state().refusals);
}

#[tokio::test]
async fn what_is_urgent_does_not_wait_for_a_place_and_knows_its_deadline() {
	let bench = Bench::held();
	bench.due(&[
		(1, DutyKind::Answer),
		(2, DutyKind::Answer),
		(3, DutyKind::Answer),
	]);
	bench.state().due.duties[2].deadline = 4;
	bench.block(1);
	bench.until(|s| (s.running, s.waiting) == (3, 0)).await;
	bench.called(3).await;
	let patience = bench.engine.patience.lock().unwrap().clone();
	let blocks: Vec<_> = patience
		.iter()
		.map(|left| left.as_secs_f64().ceil() as u64 / 3)
		.collect();
	assert_eq!(
		BTreeSet::from_iter(blocks),
		BTreeSet::from([100, 4]),
		"{patience:?}"
	);
	// A check is measured beside answers that take long, and a graph's run too.
	bench.due_for(&[
		(1, manifest().id(), DutyKind::Answer),
		(2, manifest().id(), DutyKind::Answer),
		(3, manifest().id(), DutyKind::Answer),
		(4, manifest().id(), DutyKind::Commit),
		(5, bad(), DutyKind::CommitOutput),
	]);
	bench.state().due.duties[2].deadline = 4;
	bench.state().due.work.get_mut(&4).unwrap().output = Some(output(0));
	let text = b"text".to_vec().try_into().unwrap();
	bench.state().due.work.get_mut(&5).unwrap().input = Input::Embedding(text).into();
	bench.block(2);
	bench.until(|s| (s.running, s.waiting) == (5, 0)).await;
}

#[tokio::test]
async fn data_that_stays_in_a_transaction_is_computed_with_once_it_is_here() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::CommitOutput)]);
	let tensor = Tensor::<MAX_DATA> {
		name: b"x".to_vec().try_into().unwrap(),
		datatype: DataType::Uint8,
		shape: vec![70_000].try_into().unwrap(),
		data: vec![3; 70_000].try_into().unwrap(),
	};
	let asked = FullInput::Tensor(vec![tensor].try_into().unwrap());
	let (stored, data) = asked.clone().stored();
	let (StoredInput::Indexed(indexed), Some(data)) = (stored.clone(), data) else {
		panic!("it is too large for state");
	};
	bench.state().due.work.get_mut(&1).unwrap().input = stored;
	// Not here at first, then something else under its hash, more often than a failure is tried again.
	for block in 1..=4 {
		if block == 3 {
			bench
				.state()
				.data
				.insert(indexed.data_hash, vec![4; 70_000]);
		}
		bench.block(block);
		bench
			.until(|s| s.running == 0 && bench.state().looked == block as usize)
			.await;
	}
	assert!(bench.engine.asked.lock().unwrap().is_empty());
	bench.state().data.insert(indexed.data_hash, data);
	bench.block(5);
	let said = bench.report().await;
	assert!(matches!(
		said.statements[..],
		[Statement::CommitOutput { request: 1, .. }]
	));
	assert_eq!(*bench.engine.asked.lock().unwrap(), [asked]);
}

#[tokio::test]
async fn work_for_what_is_not_due_any_more_is_cancelled() {
	let mut bench = Bench::held();
	bench.due(&[(1, DutyKind::Answer), (2, DutyKind::Answer)]);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	bench.called(2).await;
	bench.due(&[(2, DutyKind::Answer), (3, DutyKind::Answer)]);
	bench.block(2);
	// Its place is free at once.
	bench.until(|s| (s.running, s.waiting) == (2, 0)).await;
	bench.called(3).await;
	timeout(PATIENCE, async {
		while bench.engine.cancelled.load(Ordering::SeqCst) != 1 {
			tokio::task::yield_now().await;
		}
	})
	.await
	.expect("the engine is told");
	// The fork comes back: it is done again, and once.
	bench.due(&[(1, DutyKind::Answer), (2, DutyKind::Answer)]);
	bench.block(3);
	bench.until(|s| (s.running, s.waiting) == (2, 0)).await;
	bench.engine.gate.add_permits(10);
	bench.until(|s| s.running == 0).await;
	bench.block(4);
	let mut said = BTreeSet::new();
	while said.len() < 2 {
		said.extend(bench.said().await.iter().filter_map(request_of));
	}
	assert_eq!(said, BTreeSet::from([1, 2]));
	assert_eq!(bench.engine.calls(), 4);
}

#[tokio::test]
async fn what_failed_here_is_tried_again_and_not_for_ever() {
	let mut bench = Bench::new();
	let failure = || EngineError::Run("something that nobody has seen before".into());
	bench
		.engine
		.errors
		.lock()
		.unwrap()
		.extend([failure(), failure()]);
	bench.due(&[(1, DutyKind::Answer)]);
	for number in 1..=2 {
		bench.block(number);
		bench
			.until(|s| s.validator.is_some() && s.running == 0)
			.await;
		assert_eq!(bench.engine.calls(), number as usize);
		assert!(bench.silent());
	}
	bench.block(3);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	bench
		.engine
		.errors
		.lock()
		.unwrap()
		.extend(vec![failure(); 10]);
	bench.due(&[(2, DutyKind::Answer)]);
	for number in 4..=10 {
		bench.block(number);
		bench.until(|s| s.running == 0).await;
	}
	assert_eq!(bench.engine.calls(), 6);
	assert!(bench.silent());
}

/// A held worker whose journal is on a disk that can fail.
fn on_a_failing_disk() -> (Bench, Disk) {
	let folder = tempfile::tempdir().unwrap();
	let disk = Disk::new();
	let journal = disk.journal(&folder.path().join("journal.redb"), Metrics::default());
	let bench = Bench::on_journal(folder, journal, 0, Limits::default(), |chain, engine| {
		(chain, engine)
	});
	(bench, disk)
}

#[tokio::test]
async fn what_is_at_work_goes_on_while_the_journal_cannot_be_read() {
	let (mut bench, disk) = on_a_failing_disk();
	bench.due(&[(1, DutyKind::Answer), (3, DutyKind::Answer)]);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	bench.called(2).await;
	disk.set_broken(true);
	// Reads alone may come from memory. What fails to be written closes the journal.
	bench.engine.gate.add_permits(1);
	bench.until(|s| s.running == 1).await;
	// On another fork everything is looked at again.
	let fork = Head {
		parent: Some(H256::repeat_byte(1)),
		..head(2)
	};
	bench.due(&[
		(1, DutyKind::Answer),
		(2, DutyKind::Answer),
		(3, DutyKind::Answer),
	]);
	let due = bench.state().due.clone();
	bench.state().blocks.insert(fork.hash, due);
	bench.heads.send(fork).unwrap();
	// Nothing is begun of which it is not known whether it was done.
	bench.until(|s| (s.running, s.waiting) == (1, 0)).await;
	disk.set_broken(false);
	disk.pass(Duration::from_secs(60));
	bench.block(3);
	bench.until(|s| s.running == 2).await;
	bench.engine.gate.add_permits(2);
	bench.until(|s| s.running == 0).await;
	bench.block(4);
	let mut said = BTreeSet::new();
	while said.len() < 3 {
		said.extend(bench.said().await.iter().filter_map(request_of));
	}
	assert_eq!(bench.engine.calls(), 3);
	assert_eq!(bench.engine.cancelled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_cannot_be_written_is_neither_said_nor_computed_again() {
	let (mut bench, disk) = on_a_failing_disk();
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	bench.until(|s| s.running == 1).await;
	disk.set_broken(true);
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0).await;
	let before = disk.openings();
	for number in 2..20 {
		bench.block(number);
		bench.seen().await;
	}
	assert_eq!(bench.engine.calls(), 1, "computed once");
	assert_eq!(disk.openings(), before, "its pause is not over");
	assert!(bench.silent(), "nothing is said that is not on disk");
	disk.set_broken(false);
	disk.pass(Duration::from_secs(60));
	bench.block(20);
	let said = bench.said().await;
	assert!(
		matches!(&said[..], [Statement::Answer { request: 1, output: said }] if *said == output(0)),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 1);
}
