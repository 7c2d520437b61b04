//! A short search, the same in every run.

use consilience_strategist::{
	play::play,
	policy::{Forbidden, Policy},
	report::Report,
	search::{search, Arena, Prizes},
	world::{World, SAMPLING},
};

/// What a false answer is worth to the party, and a denied request.
const PRIZES: Prizes = Prizes {
	false_final: 1_000.0,
	denied: 1.0,
};

#[test]
fn honest_work_is_answered_paid_and_never_blamed() {
	let mut world = World::new(7, 2);
	let outcome = play(&mut world, &Policy::default(), 1, SAMPLING);
	assert!(outcome.episodes >= 20, "{outcome:?}");
	assert_eq!(
		(outcome.denied, outcome.false_final, outcome.lies),
		(0, 0, 0)
	);
	assert_eq!((outcome.honest_blamed, outcome.honest_slashed), (0, 0.0));
	assert_eq!(outcome.slashed, 0.0);
	assert!(outcome.coins > 0.0, "honest work pays: {outcome:?}");
}

#[test]
fn a_play_is_undone_and_can_be_repeated() {
	let mut world = World::new(7, 2);
	let policy = Policy::default();
	let first = format!("{:?}", play(&mut world, &policy, 1, SAMPLING));
	let other = format!("{:?}", play(&mut world, &policy, 2, SAMPLING));
	assert_eq!(
		format!("{:?}", play(&mut world, &policy, 1, SAMPLING)),
		first
	);
	assert_ne!(first, other);
}

#[test]
fn no_policy_found_earns_more_than_honest_work() {
	let mut arena = Arena::new(10, 33, PRIZES);
	let findings = search(&mut arena, Forbidden::default(), 1, 2_000, 1, |_| ());
	let report = Report::new(&mut arena, PRIZES, findings, 8, 1);
	println!("{}", report.text());
	assert!(report.best() <= 0.0, "{}", report.text());
	assert_eq!(report.honest.honest_slashed, 0.0, "{}", report.text());
}
