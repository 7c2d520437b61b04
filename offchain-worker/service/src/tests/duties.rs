//! Duties, the queue, and reports.

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
	bench.due(&[]);
	bench.block(2);
	bench.until(|s| s.waiting == 0).await;
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0).await;
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
async fn the_queue_is_bounded_and_everything_is_done_in_the_end() {
	let mut bench = Bench::held();
	let due: Vec<_> = (0..200)
		.map(|request| (request, DutyKind::Commit))
		.collect();
	bench.due(&due);
	bench.block(1);
	let status = bench.until(|s| s.running == 2).await;
	assert_eq!(status.waiting, 62);
	bench.engine.gate.add_permits(1_000);
	let mut said = BTreeSet::new();
	let mut number = 1;
	while said.len() < 200 {
		number += 1;
		bench.block(number);
		let report = bench.report().await;
		assert!(report.statements.len() <= 32);
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
async fn what_cannot_be_written_is_neither_said_nor_computed_again() {
	let folder = tempfile::tempdir().unwrap();
	let disk = Disk::new();
	let journal = disk.journal(&folder.path().join("journal.redb"), Metrics::default());
	let mut bench = Bench::on_journal(folder, journal, 0, Limits::default(), |chain, engine| {
		(chain, engine)
	});
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
