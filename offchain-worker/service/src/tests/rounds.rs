//! Commitments and what is shown of them.

use super::*;

#[tokio::test]
async fn what_was_committed_is_revealed_after_a_kill() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::Commit {
		request: 5,
		commitment,
	}] = said[..]
	else {
		panic!("{said:?}")
	};

	let mut bench = bench.killed_and_restarted().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(2);
	bench.finalize(2);
	let said = bench.said().await;
	let [Statement::Reveal {
		request: 5,
		evidence,
		salt,
	}] = &said[..]
	else {
		panic!("{said:?}")
	};
	let challenge = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(5, &challenge, &validator(), salt),
		commitment
	);
	assert_eq!(bench.engine.calls(), 0, "nothing is computed a second time");
}

#[tokio::test]
async fn what_was_committed_is_shown_late_while_a_jury_measures() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::Commit { commitment, .. }] = said[..] else {
		panic!("{said:?}")
	};

	// It was away while it should have revealed, and sits in the jury too.
	let mut bench = bench.killed_and_restarted().await;
	jury(&bench, DutyKind::Commit);
	let late = Duty {
		kind: DutyKind::LateReveal,
		..bench.state().due.duties[0].clone()
	};
	bench.state().due.duties.push(late);
	bench.block(3);
	let mut said = bench.said().await;
	while said.len() < 2 {
		bench.block(4);
		said.extend(bench.said().await);
	}
	let shown = said.iter().find_map(|statement| match statement {
		Statement::Reveal { evidence, salt, .. } => Some((evidence, salt)),
		_ => None,
	});
	let (evidence, salt) = shown.unwrap();
	assert_eq!(evidence.prior, None);
	let prior = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(5, &prior, &validator(), salt),
		commitment
	);
	let measures = |s: &Statement| matches!(s, Statement::Commit { request: 5, .. });
	assert!(said.iter().any(measures), "{said:?}");
}

#[tokio::test]
async fn another_challenge_is_another_measurement() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let first = bench.said().await;
	bench.state().due.work.get_mut(&5).unwrap().challenge = Some(H256::repeat_byte(3));
	// A round that is made again has another deadline.
	bench.state().due.duties[0].deadline += 1;
	bench.block(2);
	assert_ne!(bench.said().await, first);
	assert_eq!(bench.engine.calls(), 2);
}

/// A juror's duty in the dispute about request 5, whose first round asked another question.
fn jury(bench: &Bench, kind: DutyKind) -> (H256, H256) {
	let (prior, challenge) = (H256::repeat_byte(2), H256::repeat_byte(3));
	bench.due(&[(5, kind)]);
	let mut state = bench.state();
	let work = state.due.work.get_mut(&5).unwrap();
	work.output = Some(output(0));
	(work.challenge, work.prior) = (Some(challenge), Some(prior));
	(prior, challenge)
}

#[tokio::test]
async fn a_juror_measures_under_both_challenges_in_one_pass_and_reuses_nothing_of_the_first_round()
{
	let mut bench = Bench::new();
	// It was a member of the disputed round.
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let first = bench.said().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(2);
	bench.finalize(2);
	let of_first_round = bench.said().await;
	let [Statement::Reveal { salt: old, .. }] = &of_first_round[..] else {
		panic!("{of_first_round:?}")
	};

	let (prior, challenge) = jury(&bench, DutyKind::Commit);
	bench.block(3);
	let [Statement::Commit { commitment, .. }] = bench.said().await[..] else {
		panic!("a commitment is due")
	};
	assert_ne!(
		first,
		[Statement::Commit {
			request: 5,
			commitment
		}]
	);
	assert_eq!(
		bench.engine.challenges.lock().unwrap()[1..],
		[challenge, prior]
	);
	assert_eq!(
		bench.engine.calls(),
		2,
		"the first round's, and one for both"
	);

	// The commitment is kept over a restart, with both fingerprints, and they are shown when its block is final.
	let mut bench = bench.killed_and_restarted().await;
	jury(&bench, DutyKind::Commit);
	bench.block(3);
	assert_eq!(
		bench.said().await,
		[Statement::Commit {
			request: 5,
			commitment
		}]
	);
	jury(&bench, DutyKind::Reveal);
	bench.block(4);
	bench.seen().await;
	assert!(bench.silent());
	bench.finalize(4);
	let said = bench.said().await;
	let [Statement::Reveal {
		evidence: shown,
		salt,
		..
	}] = &said[..]
	else {
		panic!("{said:?}")
	};
	assert_eq!(
		shown.commitment(5, &challenge, &validator(), salt),
		commitment
	);
	// The engine's results are numbered: the first round had 0, the jury 1 for its own challenge and 101 for the disputed one.
	assert_eq!(shown.fingerprint, evidence(1).fingerprint);
	assert_eq!(shown.prior, Some(evidence(101).fingerprint));
	assert_ne!(salt, old);
	assert_eq!(bench.engine.calls(), 0, "nothing is measured again");
}

#[tokio::test]
async fn an_executor_shows_output_and_evidence_in_one_report() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::CommitOutput)]);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::CommitOutput { commitment, .. }] = said[..] else {
		panic!("{said:?}")
	};
	bench.due(&[(1, DutyKind::Commit)]);
	bench.block(2);
	bench.said().await;
	bench.due(&[(1, DutyKind::Reveal)]);
	bench.block(3);
	bench.seen().await;
	assert!(
		bench.silent(),
		"the output is not shown before its fork is the only one"
	);
	bench.finalize(3);
	let said = bench.said().await;
	let [Statement::RevealOutput { output, salt, .. }, Statement::Reveal { .. }] = &said[..] else {
		panic!("{said:?}")
	};
	assert_eq!(output_commitment(output, 1, &validator(), salt), commitment);
}

#[tokio::test]
async fn evidence_is_shown_only_when_the_end_of_the_commitments_is_final() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let [Statement::Commit { commitment, .. }] = bench.said().await[..] else {
		panic!("a commitment is due")
	};
	bench.due(&[(5, DutyKind::Reveal)]);
	// The finalised chain still takes commitments: there may be a fork on which somebody has not committed.
	for (best, finalized) in [(2, 0), (3, 1)] {
		bench.block(best);
		bench.finalize(finalized);
		bench.seen().await;
		assert!(bench.silent(), "shown at #{best} with #{finalized} final");
	}
	// Finality alone is enough: no further block is waited for.
	bench.finalize(2);
	let report = bench.report().await;
	assert_eq!(report.at, 3);
	let [Statement::Reveal { evidence, salt, .. }] = &report.statements[..] else {
		panic!("{report:?}")
	};
	let challenge = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(5, &challenge, &validator(), salt),
		commitment
	);
}

#[tokio::test]
async fn a_reveal_of_an_earlier_challenge_does_not_show_the_evidence_of_a_later_one() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(1);
	bench.finalize(1);
	// The round was repeated: the best chain has closed the commitments to another challenge.
	bench.due(&[(5, DutyKind::Commit)]);
	let again = Some(H256::repeat_byte(3));
	bench.state().due.work.get_mut(&5).unwrap().challenge = again;
	bench.block(2);
	bench.said().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.state().due.work.get_mut(&5).unwrap().challenge = again;
	bench.block(3);
	bench.finalize(1);
	bench.seen().await;
	assert!(bench.silent());
	bench.finalize(3);
	let said = bench.said().await;
	assert!(matches!(said[..], [Statement::Reveal { .. }]), "{said:?}");
}
