//! Checkers: in their order, each for itself, and what is said of an answer when they lie.

use std::sync::Arc;

use consilience_lane::message::{Balance, Refusal};
use consilience_primitives::session::Service;
use consilience_session::{
	error::Fault,
	record::{Facts, Flaw, Outcome, Record},
	Answer, AskOptions, Client, Event, Finding, Status,
};
use futures::StreamExt;

use crate::double::{all, ask, input, Lie, World, CHECK, MODEL, TOKENS};

const PLENTY: Balance = 1_000_000;

/// An honest answer, whose checkers lie by their place in the draw; where it stands in the end.
async fn checked(lies: &[Lie], checks: u32) -> (Arc<World>, Vec<Event>, Record, Status) {
	let world = World::new(&[Lie::None; 6], 1, PLENTY).await;
	*world.checkers.lies.lock().unwrap() = lies.to_vec();
	let client = world.client().await;
	let (events, error) = all(ask(&client, checks)).await;
	assert!(error.is_none(), "{error:?}");
	let Some(Event::Done { number, status }) = events.last() else {
		panic!("{events:?}")
	};
	let record = client.wallet().record(*number).unwrap().unwrap();
	assert_eq!(record.status(), Ok(*status));
	// Those who are shown stand in the order of the draw, and those who gave a verdict are paid.
	let order = world.order(client.wallet(), *number);
	let shown: Vec<_> = record.checks.iter().map(|c| c.checker.clone()).collect();
	let drawn: Vec<_> = order[..shown.len()]
		.iter()
		.map(|i| world.account(*i))
		.collect();
	assert_eq!(shown, drawn);
	let verdicts = record
		.checks
		.iter()
		.filter(|c| matches!(c.outcome, Outcome::Verdict(_)))
		.count();
	assert_eq!(
		client.wallet().spent(Service::Check).unwrap(),
		verdicts as Balance * CHECK
	);
	world.assert_no_complaints();
	let status = *status;
	(world, events, record, status)
}

fn outcomes(record: &Record) -> Vec<Option<Fault>> {
	record
		.checks
		.iter()
		.map(|check| match &check.outcome {
			Outcome::Verdict(_) => None,
			Outcome::Skipped(why) => Some(why.clone()),
		})
		.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_check_is_shown_and_the_next_is_asked() {
	let busy = Fault::Refused(Refusal::Busy, "no".into());
	for (lie, fault) in [
		(Lie::Refuse(Refusal::Busy), busy),
		(Lie::Silent, Fault::Silent(2_000)),
		(Lie::CheckKey, Fault::VerdictSignature),
		(Lie::CheckOther, Fault::Verdict),
		(Lie::CheckClass, Fault::Verdict),
	] {
		let (world, events, record, status) = checked(&[lie], 2).await;
		assert_eq!(outcomes(&record), [Some(fault.clone()), None, None]);
		assert_eq!(status, Status::Checked { right: 2, of: 2 }, "{lie:?}");
		let checker = record.checks[0].checker.clone();
		assert!(events.contains(&Event::Skipped {
			checker: checker.clone(),
			why: fault
		}));
		let of = |v: &&Arc<_>| -> bool {
			let v: &crate::double::Validator = v;
			v.account == checker
		};
		let skipped = world.validators.iter().find(of).unwrap();
		assert_eq!(skipped.paid(Service::Check), [0; 0], "{lie:?}");
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_waits_its_turn_is_waited_for_and_one_that_only_says_so_is_not() {
	let (_, _, record, status) = checked(&[Lie::Stalls, Lie::Queues], 1).await;
	assert_eq!(outcomes(&record), [Some(Fault::Silent(2_000)), None]);
	assert_eq!(status, Status::Checked { right: 1, of: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_says_wrong_is_not_outvoted() {
	for (lies, status) in [
		(vec![Lie::Wrong], Status::Refuted),
		(vec![Lie::None, Lie::Wrong], Status::Refuted),
		(vec![Lie::Unclear], Status::Checked { right: 1, of: 2 }),
		(vec![Lie::Unclear; 2], Status::Answered),
	] {
		let (_, events, _, found) = checked(&lies, 2).await;
		assert_eq!(found, status, "{lies:?}");
		let wrong = events
			.iter()
			.filter(|e| matches!(e, Event::Verdict { finding, .. } if *finding == Finding::Wrong))
			.count();
		assert_eq!(wrong > 0, status == Status::Refuted);
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_confirms_is_not_called_checked() {
	let (_, _, record, status) = checked(&[Lie::Refuse(Refusal::Busy); 5], 2).await;
	assert_eq!(status, Status::Answered);
	assert_eq!(record.checks.len(), 5);
	let (_, _, record, status) = checked(&[Lie::CheckKey; 4], 2).await;
	assert_eq!(status, Status::Checked { right: 1, of: 2 });
	assert_eq!(record.checks.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_end_where_the_pot_does() {
	let world = World::new(&[Lie::None; 6], 1, PLENTY).await;
	world.channel.lock().unwrap().as_mut().unwrap().pot.amount = 3 * CHECK - 1;
	let client = world.client().await;
	let (events, error) = all(ask(&client, 3)).await;
	assert!(error.is_none(), "{error:?}");
	let status = Status::Checked { right: 2, of: 3 };
	assert_eq!(events.last(), Some(&Event::Done { number: 1, status }));
	let record = client.wallet().record(1).unwrap().unwrap();
	assert_eq!(outcomes(&record), [None, None, Some(Fault::Funds)]);
	assert_eq!(client.wallet().spent(Service::Check).unwrap(), 2 * CHECK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_verified_by_what_the_chain_says() {
	let (world, _, record, status) = checked(&[Lie::Silent], 2).await;
	let facts = Facts::fetch(&*world, &record).await.unwrap();
	assert_eq!(record.verify(&facts), Ok(status));
	let json = record.to_json();
	assert_eq!(json["answer"], crate::double::said(crate::double::TOKENS));
	assert_eq!(json["checks"][1]["verdict"], "right");
	let text = serde_json::to_string_pretty(&json).unwrap();
	let read = Record::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
	assert_eq!(read, record);

	// Whatever is changed is found.
	let flaw = |change: &dyn Fn(&mut Record)| {
		let mut changed = record.clone();
		change(&mut changed);
		changed.verify(&facts)
	};
	type Change = Box<dyn Fn(&mut Record)>;
	let changes: Vec<(Change, Flaw)> = vec![
		(Box::new(|r| r.receipt = None), Flaw::NoReceipt),
		(Box::new(|r| r.text.push(b'!')), Flaw::Receipt("transcript")),
		(
			Box::new(|r| r.tokens.reverse()),
			Flaw::Receipt("transcript"),
		),
		(
			Box::new(|r| r.ask.salt = Default::default()),
			Flaw::Receipt("question"),
		),
		(
			Box::new(|r| r.receipt.as_mut().unwrap().body.amount += 1),
			Flaw::Receipt("amount"),
		),
		(
			Box::new(|r| {
				let other = r.checks[1].outcome.clone();
				let Outcome::Verdict(other) = other else {
					panic!()
				};
				r.receipt.as_mut().unwrap().signature = other.signature;
			}),
			Flaw::ReceiptSignature,
		),
		(Box::new(|r| r.preimage = None), Flaw::Preimage),
		(
			Box::new(|r| r.preimage = Some(Default::default())),
			Flaw::Preimage,
		),
		(
			Box::new(|r| drop(r.checks.remove(0))),
			Flaw::NotDrawn(record.checks[1].checker.clone()),
		),
		(
			Box::new(|r| r.checks[0].outcome = r.checks[1].outcome.clone()),
			Flaw::Verdict(record.checks[0].checker.clone()),
		),
		(
			Box::new(|r| {
				if let Outcome::Verdict(verdict) = &mut r.checks[1].outcome {
					verdict.body.evidence.verdict.margin_max += 1;
				}
			}),
			Flaw::VerdictSignature(record.checks[1].checker.clone()),
		),
	];
	for (change, expected) in changes {
		assert_eq!(flaw(&change), Err(expected));
	}
	// So are words that are not what was signed.
	let mut lie = json.clone();
	lie["answer"] = "something else".into();
	assert_eq!(Record::from_json(&lie), Err(Flaw::Changed));
	let mut lie = json;
	lie["checks"][0] = lie["checks"][1].clone();
	assert_eq!(Record::from_json(&lie), Err(Flaw::Changed));
}

/// A question to one executor, with one check.
fn named(world: &World, client: &Client, executor: usize) -> Answer {
	let options = AskOptions {
		checks: 1,
		executor: Some(world.account(executor)),
	};
	client.ask(MODEL, input(TOKENS), options)
}

/// Waits for one kind of event.
async fn event(answer: &mut Answer, is: impl Fn(&Event) -> bool) {
	while let Some(event) = answer.next().await {
		if is(&event.unwrap()) {
			return;
		}
	}
	panic!("it does not come");
}

/// A preimage leads to those of all lower numbers: their executors must have signed before, or never.
#[tokio::test(flavor = "multi_thread")]
async fn no_preimage_is_shown_before_lower_numbers_have_their_receipts_or_are_over() {
	for goes_on in [true, false] {
		let world = World::new(&[Lie::None; 4], 2, PLENTY).await;
		let client = world.client().await;
		*world.validators[0].pause.lock().unwrap() = Some(9);
		let mut lower = named(&world, &client, 0);
		world.validators[0].waiting.notified().await;
		let mut higher = named(&world, &client, 1);
		event(&mut higher, |e| matches!(e, Event::Receipt(_))).await;
		if goes_on {
			world.validators[0].go.notify_one();
		}
		event(&mut higher, |e| matches!(e, Event::Checking { .. })).await;
		let record = client.wallet().record(1).unwrap().unwrap();
		let silent = Some(Fault::Silent(2_000));
		let expected = if goes_on { None } else { silent };
		assert_eq!(
			(record.receipt.is_some(), record.fault),
			(goes_on, expected)
		);
		event(&mut higher, |e| matches!(e, Event::Done { .. })).await;
		if goes_on {
			// Its own checks do not wait for what is higher.
			event(&mut lower, |e| matches!(e, Event::Done { .. })).await;
			let record = client.wallet().record(1).unwrap().unwrap();
			assert_eq!(record.status(), Ok(Status::Checked { right: 1, of: 1 }));
		}
		world.assert_no_complaints();
	}
}

/// Also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_fetched_for_a_number_whose_checkers_are_known() {
	for shown in [false, true] {
		let world = World::new(&[Lie::Vanish(30), Lie::None, Lie::None], 2, PLENTY).await;
		let client = world.client().await;
		let options = AskOptions {
			checks: u32::from(shown),
			executor: None,
		};
		let (events, error) = all(client.ask(MODEL, input(TOKENS), options.clone())).await;
		assert!(error.is_none(), "{error:?}");
		assert!(matches!(events.last(), Some(Event::Done { number: 2, .. })));
		drop(client);
		let client = world.client().await;
		*world.validators[0].lie.lock().unwrap() = Lie::None;
		let (events, error) = all(named(&world, &client, 0)).await;
		assert!(error.is_none(), "{error:?}");
		assert!(matches!(events.last(), Some(Event::Done { number: 3, .. })));
		// It would have said again what it said to the first question.
		let again = world.validators[0].seen.lock().unwrap().again.clone();
		let expected: &[u32] = if shown { &[] } else { &[1] };
		assert_eq!(again, expected);
	}
}
