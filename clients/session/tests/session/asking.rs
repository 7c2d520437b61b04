//! Executors: an honest life, and every way in which one can fail.

use std::sync::Arc;

use consilience_lane::message::{Balance, Refusal};
use consilience_primitives::session::{Service, SLICE_TOKENS};
use consilience_session::{error::Fault, AskOptions, Error, Event, Status, WalletError};
use futures::StreamExt;

use crate::double::{
	all, ask, input, said, text, Lie, World, CHANNEL, CHECK, MODEL, PRICE, SESSION, TOKENS,
};

const PLENTY: Balance = 1_000_000;

fn prompt() -> Balance {
	PRICE.of(13, 0).unwrap()
}

fn whole() -> Balance {
	PRICE.of(13, TOKENS).unwrap()
}

fn failures(events: &[Event]) -> Vec<(bool, Fault)> {
	events
		.iter()
		.filter_map(|e| match e {
			Event::Failed { number, why, .. } => Some((number.is_some(), why.clone())),
			_ => None,
		})
		.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_asked_paid_checked_and_kept() {
	let world = World::new(&[Lie::None; 4], 1, PLENTY).await;
	let client = world.client().await;
	let quote = client.quote(&MODEL, &input(TOKENS), 2).await.unwrap();
	assert_eq!(
		(quote.prompt, quote.answer, quote.checks),
		(prompt(), whole(), 2 * CHECK)
	);
	assert_eq!(quote.total(), whole() + 2 * CHECK);

	let (events, error) = all(ask(&client, 2)).await;
	assert!(error.is_none(), "{error:?}");
	assert_eq!(
		events[0],
		Event::Started {
			executor: world.account(0),
			number: 1
		}
	);
	assert_eq!(text(&events), said(TOKENS));
	let order = world.order(client.wallet(), 1);
	for checker in &order[..2] {
		let checker = world.account(*checker);
		assert!(events.contains(&Event::Checking {
			checker: checker.clone()
		}));
		assert!(events.contains(&Event::Verdict {
			checker,
			finding: consilience_session::Finding::Right
		}));
	}
	let status = Status::Checked { right: 2, of: 2 };
	assert_eq!(events.last(), Some(&Event::Done { number: 1, status }));
	assert_eq!(status.to_string(), "checked (2 of 2)");

	// The prompt first, slices as they came, all of it at the end; and both checkers.
	let amounts = world.validators[0].paid(Service::Answer);
	assert_eq!(amounts.first(), Some(&prompt()));
	assert_eq!(amounts.last(), Some(&whole()));
	assert!(amounts.len() > (TOKENS / SLICE_TOKENS) as usize);
	let wallet = client.wallet();
	assert_eq!(wallet.spent(Service::Answer).unwrap(), whole());
	assert_eq!(wallet.spent(Service::Check).unwrap(), 2 * CHECK);
	let record = wallet.record(1).unwrap().unwrap();
	assert_eq!(record.status(), Ok(status));
	assert_eq!(record.paid, whole());
	world.assert_no_complaints();
}

/// Every failure that shows before the first token, or in the middle: the next executor answers.
#[tokio::test(flavor = "multi_thread")]
async fn another_executor_answers_where_one_fails() {
	let receipt = |field: &str| Fault::Receipt(field.into());
	let refused = |why| Fault::Refused(why, "no".into());
	// The lie, whether the question was sent, the fault, and tokens that are paid for at least and at most.
	let cases = [
		(Lie::OtherValidator, false, Fault::OtherValidator, 0, 0),
		(Lie::OtherModel, false, Fault::NotOffered, 0, 0),
		(
			Lie::Refuse(Refusal::Busy),
			true,
			refused(Refusal::Busy),
			0,
			0,
		),
		(Lie::FrameKey, true, Fault::FrameSignature, 16, 21),
		(Lie::Transcript, true, Fault::Transcript, 16, 21),
		(Lie::NotText, true, Fault::Text, 16, 39),
		(Lie::Short(40), true, Fault::Short, 30, 40),
		(Lie::TooMuch, true, Fault::TooMuch, 64, TOKENS),
		(Lie::NoEnd, true, Fault::Silent(2_000), 64, TOKENS),
		(
			Lie::MoreUnits,
			true,
			receipt("output units"),
			64,
			TOKENS - 1,
		),
		(Lie::MoreMoney, true, receipt("amount"), 64, TOKENS - 1),
		(
			Lie::ReceiptKey,
			true,
			Fault::ReceiptSignature,
			64,
			TOKENS - 1,
		),
		(
			Lie::ReceiptSession,
			true,
			Fault::ReceiptSession,
			64,
			TOKENS - 1,
		),
		(
			Lie::ReceiptTranscript,
			true,
			receipt("transcript"),
			64,
			TOKENS - 1,
		),
		(
			Lie::ReceiptText,
			true,
			receipt("transcript"),
			64,
			TOKENS - 1,
		),
	];
	for (lie, sent, fault, least, most) in cases {
		let world = World::new(&[lie, Lie::None, Lie::None], 2, PLENTY).await;
		let client = world.client().await;
		let (events, error) = all(ask(&client, 1)).await;
		assert!(error.is_none(), "{lie:?}: {error:?}");
		assert_eq!(failures(&events), [(sent, fault)], "{lie:?}");
		assert_eq!(text(&events), said(TOKENS), "{lie:?}");
		let number = 1 + u32::from(sent);
		let status = Status::Checked { right: 1, of: 1 };
		assert_eq!(
			events.last(),
			Some(&Event::Done { number, status }),
			"{lie:?}"
		);
		let paid = client
			.wallet()
			.signed(&world.account(0), Service::Answer)
			.unwrap();
		let tokens = |n: u32| if sent { PRICE.of(13, n).unwrap() } else { 0 };
		assert!(
			(tokens(least)..=tokens(most)).contains(&paid),
			"{lie:?} was paid {paid}"
		);
		// What it did is kept, and is no answer.
		if sent {
			let record = client.wallet().record(1).unwrap().unwrap();
			assert!(record.fault.is_some(), "{lie:?}");
			assert_eq!(record.paid, paid, "{lie:?}");
			if !matches!(lie, Lie::Short(_)) {
				assert_eq!(record.status(), Ok(Status::Streaming), "{lie:?}");
			}
		}
		world.assert_no_complaints();
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_fail_each_is_named() {
	let busy = Lie::Refuse(Refusal::Busy);
	let world = World::new(&[busy, Lie::Vanish(30)], 2, PLENTY).await;
	let client = world.client().await;
	let (events, error) = all(ask(&client, 1)).await;
	let Some(Error::NoAnswer(faults)) = &error else {
		panic!("{error:?}")
	};
	assert_eq!(faults.len(), 2);
	assert!(!events.iter().any(|e| matches!(e, Event::Done { .. })));
	let words = error.unwrap().to_string();
	for i in 0..2 {
		assert!(words.contains(&world.account(i).to_string()), "{words}");
	}
}

/// A voucher that came with a refused question, and one that was lost on its way, are not paid once more: the next one counts on from
/// what the executor holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_or_lost_leaves_no_gap() {
	let world = World::new(&[Lie::Refuse(Refusal::Busy)], 1, PLENTY).await;
	let client = world.client().await;
	for _ in 0..3 {
		assert!(all(ask(&client, 0)).await.1.is_some());
	}
	assert_eq!(
		world.validators[0].paid(Service::Answer),
		[prompt(), prompt(), prompt()]
	);
	let lie = |lie| *world.validators[0].lie.lock().unwrap() = lie;
	lie(Lie::Vanish(30));
	assert!(all(ask(&client, 0)).await.1.is_some());
	// A wallet that signed and crashed before it sent.
	let wallet = client.wallet();
	let last = wallet
		.last(&world.account(0), Service::Answer)
		.unwrap()
		.unwrap();
	let due = consilience_session::wallet::Due {
		payee: world.account(0),
		service: Service::Answer,
		number: last.body.number,
		request: last.body.request,
		transcript: Default::default(),
		from: None,
		amount: 1_000,
		expires: SESSION,
		limit: PLENTY,
	};
	wallet.pay(&due).unwrap();
	drop(client);

	lie(Lie::None);
	let client = world.client().await;
	let (events, error) = all(ask(&client, 0)).await;
	assert!(error.is_none(), "{error:?}");
	let status = Status::Answered;
	assert_eq!(events.last(), Some(&Event::Done { number: 5, status }));
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_forged_voucher_is_not_asked_and_who_forgets_is_not_paid_twice() {
	let world = World::new(&[Lie::None], 1, PLENTY).await;
	let client = world.client().await;
	assert!(all(ask(&client, 0)).await.1.is_none());
	let lie = |lie| *world.validators[0].lie.lock().unwrap() = lie;
	lie(Lie::ForgedVoucher);
	// What it shows is what it says to a greeting.
	client.close().await;
	let (events, _) = all(ask(&client, 0)).await;
	assert_eq!(failures(&events), [(false, Fault::Held)]);
	lie(Lie::Forgetful);
	all(ask(&client, 0)).await;
	let signed = client.wallet().signed(&world.account(0), Service::Answer);
	assert_eq!(signed.unwrap(), whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_has_paid_is_never_signed_again() {
	let world = World::new(&[Lie::None], 1, PLENTY).await;
	let client = world.client().await;
	assert!(all(ask(&client, 0)).await.1.is_none());
	{
		let mut channel = world.channel.lock().unwrap();
		channel.as_mut().unwrap().allocations[0].allotment.claimed = whole();
	}
	*world.validators[0].lie.lock().unwrap() = Lie::Forgetful;
	assert!(all(ask(&client, 0)).await.1.is_none());
	let last = client.wallet().last(&world.account(0), Service::Answer);
	assert_eq!(last.unwrap().unwrap().body.amount, 2 * whole());
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_seen_enough_pays_for_what_was_sent_and_has_a_receipt() {
	for dropped in [false, true] {
		let world = World::new(&[Lie::None, Lie::None], 1, PLENTY).await;
		let executor = &world.validators[0];
		*executor.pause.lock().unwrap() = Some(21);
		let client = world.client().await;
		let mut answer = ask(&client, 0);
		while !matches!(answer.next().await, Some(Ok(Event::Text(_)))) {}
		executor.waiting.notified().await;
		if dropped {
			drop(answer);
		} else {
			answer.cancel();
			let (events, error) = all(answer).await;
			assert!(error.is_none(), "{error:?}");
			assert!(events.iter().any(|e| matches!(e, Event::Receipt(_))));
		}
		// Asked next, it is free only when all is paid.
		*executor.pause.lock().unwrap() = None;
		let (_, error) = all(ask(&client, 0)).await;
		assert!(error.is_none(), "{error:?}");
		assert_eq!(executor.seen.lock().unwrap().cancelled, [1]);
		let record = client.wallet().record(1).unwrap().unwrap();
		assert_eq!(record.tokens.len(), 21);
		assert_eq!(record.paid, PRICE.of(13, 21).unwrap());
		assert_eq!(record.status(), Ok(Status::Answered));
		world.assert_no_complaints();
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn two_questions_at_once_go_to_two_executors_or_wait_for_one() {
	for executors in [1, 2] {
		let world = World::new(&[Lie::None, Lie::None], executors, PLENTY).await;
		let first = &world.validators[0];
		*first.pause.lock().unwrap() = Some(30);
		let client = world.patient_client().await;
		let one = tokio::spawn(all(ask(&client, 0)));
		first.waiting.notified().await;
		let two = tokio::spawn(all(ask(&client, 0)));
		let finish = || {
			*first.pause.lock().unwrap() = None;
			first.go.notify_one();
		};
		if executors == 1 {
			finish();
		}
		// With another executor it does not wait for the first.
		let (events, error) = two.await.unwrap();
		assert!(error.is_none(), "{error:?}");
		assert_eq!(text(&events), said(TOKENS));
		let started = Event::Started {
			executor: world.account(executors - 1),
			number: 2,
		};
		assert_eq!(events[0], started);
		if executors == 2 {
			finish();
		}
		let (events, error) = one.await.unwrap();
		assert!(error.is_none(), "{error:?}");
		assert_eq!(text(&events), said(TOKENS));
		assert_eq!(client.wallet().spent(Service::Answer).unwrap(), 2 * whole());
		world.assert_no_complaints();
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_a_place_it_waits_and_promises_nothing() {
	let world = World::new(&[Lie::None, Lie::None], 2, PLENTY).await;
	for validator in &world.validators {
		validator.free.send_replace(0);
	}
	let client = world.patient_client().await;
	let looks = world.looks();
	let asked = tokio::spawn(all(ask(&client, 0)));
	// It waits in both lines.
	let lines = || world.validators.iter().map(|v| v.line.subscribe());
	for mut line in lines() {
		line.wait_for(|waiting| *waiting == 1).await.unwrap();
	}
	assert_eq!(client.wallet().spent(Service::Answer).unwrap(), 0);
	// The second has a place. The first line is left.
	world.validators[1].free.send_replace(1);
	for mut line in lines() {
		line.wait_for(|waiting| *waiting == 0).await.unwrap();
	}
	let (events, error) = asked.await.unwrap();
	assert!(error.is_none(), "{error:?}");
	assert!(!events.iter().any(|e| matches!(e, Event::Failed { .. })));
	assert_eq!(executors(&events), [1]);
	let waited = |ahead| Event::Waiting { ahead };
	assert_eq!(events[..2], [waited(2), waited(1)]);
	assert_eq!(text(&events), said(TOKENS));
	// Both were greeted once, and the chain was read once: nothing is asked again and again.
	assert_eq!([0, 1].map(|of| seen(&world, of)), [(1, 1); 2]);
	assert_eq!(world.looks() - looks, 1);
	assert_eq!(client.wallet().spent(Service::Answer).unwrap(), whole());
	world.assert_no_complaints();
}

/// Whoever is told of a place and is too late waits for one that is kept, and does not run after those that others take.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_busy_is_waited_for_and_not_called_a_failure_for_good() {
	let world = World::new(&[Lie::BusyOnce, Lie::None], 1, PLENTY).await;
	let executor = &world.validators[0];
	let client = world.patient_client().await;
	let mut line = executor.line.subscribe();
	let (events, error) = tokio::join!(all(ask(&client, 0)), async {
		line.wait_for(|waiting| *waiting == 1).await.unwrap();
		executor.free.send_replace(1);
	})
	.0;
	assert!(error.is_none(), "{error:?}");
	let busy = Fault::Refused(Refusal::Busy, "no".into());
	assert_eq!(failures(&events), [(true, busy)]);
	let status = Status::Answered;
	assert_eq!(events.last(), Some(&Event::Done { number: 2, status }));
	assert_eq!(executor.paid(Service::Answer).last(), Some(&whole()));
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_waited_long_enough_says_so_and_has_paid_nothing() {
	let world = World::new(&[Lie::None, Lie::None], 2, PLENTY).await;
	for validator in &world.validators {
		validator.free.send_replace(0);
	}
	let client = world.hasty_client().await;
	let (events, error) = all(ask(&client, 0)).await;
	let Some(Error::NoAnswer(faults)) = error else {
		panic!("{error:?}")
	};
	let late = |of| (world.account(of), Fault::NoPlace(300));
	assert_eq!(faults.len(), 2);
	assert!((0..2).all(|of| faults.contains(&late(of))));
	assert!(events.contains(&Event::Waiting { ahead: 1 }));
	assert!(!events.iter().any(|e| matches!(e, Event::Started { .. })));
	drop(client);
	// Whoever is cancelled leaves the lines at once.
	let client = world.patient_client().await;
	let answer = ask(&client, 0);
	let mut line = world.validators[0].line.subscribe();
	line.wait_for(|waiting| *waiting == 1).await.unwrap();
	answer.cancel();
	let (_, error) = all(answer).await;
	assert!(matches!(error, Some(Error::Cancelled)), "{error:?}");
	line.wait_for(|waiting| *waiting == 0).await.unwrap();
	assert_eq!(client.wallet().spent(Service::Answer).unwrap(), 0);
	assert_eq!(client.wallet().next_number().unwrap(), 1);
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_at_once_all_have_their_answers() {
	let world = World::new(&[Lie::None; 3], 2, PLENTY).await;
	let client = world.patient_client().await;
	let asks = (0..12).map(|_| tokio::spawn(all(ask(&client, 2))));
	for done in futures::future::join_all(asks).await {
		let (events, error) = done.unwrap();
		assert!(error.is_none(), "{error:?}");
		assert!(matches!(
			events.last(),
			Some(Event::Done {
				status: Status::Checked { right: 2, of: 2 },
				..
			})
		));
	}
	let wallet = client.wallet();
	assert_eq!(wallet.next_number().unwrap(), 13);
	assert_eq!(wallet.spent(Service::Answer).unwrap(), 12 * whole());
	assert_eq!(wallet.spent(Service::Check).unwrap(), 24 * CHECK);
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_that_cannot_be_paid_or_taken() {
	let world = World::new(&[Lie::None], 1, whole() - 1).await;
	let client = world.client().await;
	let wrong = |answer| async { all(answer).await.1.unwrap() };
	let error = wrong(ask(&client, 0)).await;
	assert!(
		matches!(error, Error::Funds { needed, left } if needed == whole() && left == whole() - 1)
	);
	let options = AskOptions::default;
	let error = wrong(client.ask(Default::default(), input(1), options())).await;
	assert!(matches!(error, Error::NoModel));
	let error = wrong(client.ask(MODEL, input(0), options())).await;
	assert!(matches!(error, Error::Input(_)));
	let named = AskOptions {
		executor: Some(
			world
				.channel
				.lock()
				.unwrap()
				.as_ref()
				.unwrap()
				.owner
				.clone(),
		),
		..options()
	};
	let error = wrong(client.ask(MODEL, input(1), named)).await;
	assert!(matches!(error, Error::NoExecutor(CHANNEL)));
	let change = |change: fn(&mut consilience_session::chain::Channel)| {
		change(world.channel.lock().unwrap().as_mut().unwrap());
	};
	change(|c| c.seed = None);
	assert!(matches!(wrong(ask(&client, 0)).await, Error::NoSeed(_)));
	change(|c| c.closes_at = Some(1));
	assert!(matches!(wrong(ask(&client, 0)).await, Error::Closing(_)));
	change(|c| c.key = Default::default());
	assert!(matches!(
		wrong(ask(&client, 0)).await,
		Error::Wallet(WalletError::OtherChannel)
	));
	*world.channel.lock().unwrap() = None;
	assert!(matches!(wrong(ask(&client, 0)).await, Error::NoChannel(_)));
	assert_eq!(client.wallet().next_number().unwrap(), 1);
	assert_eq!(Arc::strong_count(client.wallet()), 1);
}

/// What a validator saw of connections and greetings.
fn seen(world: &World, of: usize) -> (u32, u32) {
	let seen = world.validators[of].seen.lock().unwrap();
	(seen.connections, seen.greetings)
}

fn executors(events: &[Event]) -> Vec<usize> {
	let started = events.iter().filter_map(|event| match event {
		Event::Started { executor, .. } => Some(AsRef::<[u8]>::as_ref(executor)[0]),
		_ => None,
	});
	started.map(|first| usize::from(first) - 1).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_does_so_over_the_same_connections() {
	let world = World::new(&[Lie::None; 4], 2, PLENTY).await;
	let client = world.client().await;
	let rounds = 4;
	for number in 1..=rounds {
		let (events, error) = all(ask(&client, 3)).await;
		assert!(error.is_none(), "{error:?}");
		assert_eq!(executors(&events), [0]);
		assert_eq!(text(&events), said(TOKENS));
		let status = Status::Checked { right: 3, of: 3 };
		assert_eq!(events.last(), Some(&Event::Done { number, status }));
	}
	// Only the first question was preceded by a greeting. The other executor was greeted then, and checks.
	assert_eq!(seen(&world, 0), (1, 1));
	assert_eq!(seen(&world, 1), (2, 2));
	assert_eq!([2, 3].map(|checker| seen(&world, checker)), [(1, 1); 2]);
	let answers = world.validators[0].paid(Service::Answer);
	assert_eq!(answers.last(), Some(&(Balance::from(rounds) * whole())));
	let checks = world.validators[3].paid(Service::Check);
	assert_eq!(checks.last(), Some(&(Balance::from(rounds) * CHECK)));
	world.assert_no_complaints();
	// Whoever is done says goodbye to all.
	client.close().await;
	let goodbyes = world.validators.iter().map(|v| {
		let seen = v.seen.lock().unwrap();
		(seen.connections, seen.goodbyes)
	});
	for (connections, goodbyes) in goodbyes {
		assert_eq!(connections, goodbyes);
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_since_is_greeted_anew() {
	let world = World::new(&[Lie::Leave; 3], 1, PLENTY).await;
	let client = world.client().await;
	for number in 1..=3 {
		let (events, error) = all(ask(&client, 2)).await;
		assert!(error.is_none(), "{error:?}");
		assert_eq!(text(&events), said(TOKENS));
		let status = Status::Checked { right: 2, of: 2 };
		// That it has left may be seen when it is asked: that costs a number, and what was signed for it is not held.
		let done = events.last();
		let Some(Event::Done {
			number: done,
			status: found,
		}) = done
		else {
			panic!("{done:?}");
		};
		assert!(*done >= number);
		assert_eq!(*found, status);
	}
	let held = world.validators[0].paid(Service::Answer);
	assert_eq!(held.last(), Some(&(3 * whole())));
	world.assert_no_complaints();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_busy_when_it_is_asked_at_once_is_asked_what_it_offers() {
	let world = World::new(&[Lie::None; 3], 2, PLENTY).await;
	let client = world.client().await;
	let (events, error) = all(ask(&client, 0)).await;
	assert!(error.is_none(), "{error:?}");
	assert_eq!(executors(&events), [0]);

	// Others have come meanwhile.
	*world.validators[0].lie.lock().unwrap() = Lie::Refuse(Refusal::Busy);
	world.validators[0].free.send_replace(0);
	let (events, error) = all(ask(&client, 0)).await;
	assert!(error.is_none(), "{error:?}");
	assert_eq!(executors(&events), [0, 1]);
	let busy = Fault::Refused(Refusal::Busy, "no".into());
	assert_eq!(failures(&events), [(true, busy)]);

	// It has places again, and counts on from what it holds.
	*world.validators[0].lie.lock().unwrap() = Lie::None;
	world.validators[0].free.send_replace(200);
	world.validators[1].free.send_replace(1);
	for _ in 0..2 {
		let (events, error) = all(ask(&client, 0)).await;
		assert!(error.is_none(), "{error:?}");
		assert_eq!(text(&events), said(TOKENS));
	}
	world.assert_no_complaints();
}
