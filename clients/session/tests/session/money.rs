//! Whatever an executor sends, nothing is signed beyond the price of the question and of what was seen.

use std::{
	collections::HashMap,
	sync::{Arc, Mutex},
};

use consilience_lane::message::{Balance, Payment};
use consilience_primitives::session::{Service, SLICE_TOKENS};
use consilience_session::{error::Fault, AskOptions, Client, Error, Event, Status};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::double::{all, input, Lie, Step, World, Wrong, MODEL, PRICE};

fn wrong() -> impl Strategy<Value = Wrong> {
	prop_oneof![
		12 => Just(Wrong::Nothing),
		1 => Just(Wrong::Signature),
		1 => Just(Wrong::Hash),
		1 => Just(Wrong::Count),
		1 => Just(Wrong::Number),
		1 => Just(Wrong::Text),
	]
}

fn step() -> impl Strategy<Value = Step> {
	prop_oneof![
		12 => (0u8..25, wrong()).prop_map(|(count, wrong)| Step::Frame(count, wrong)),
		8 => Just(Step::Payment),
		2 => wrong().prop_map(Step::End),
		1 => Just(Step::Refuse),
		1 => Just(Step::Garbage),
		1 => Just(Step::Offer),
		1 => Just(Step::Close),
	]
}

/// A client with one executor, which follows scripts.
struct Game {
	runtime: Runtime,
	world: Arc<World>,
	client: Client,
	/// What the vouchers of each question count on from.
	bases: Mutex<HashMap<u32, Balance>>,
}

impl Game {
	fn new() -> Self {
		let runtime = Runtime::new().unwrap();
		let world = runtime.block_on(World::new(&[Lie::None], 1, 1 << 60));
		let client = runtime.block_on(world.client());
		Self {
			runtime,
			world,
			client,
			bases: Mutex::default(),
		}
	}

	/// Plays one question, and a former one that `shown` may be for. Returns the vouchers and what it came to; where a voucher is none that
	/// it may be, this fails.
	fn play(
		&self,
		steps: Vec<Step>,
		shown: Option<Payment>,
	) -> (Vec<Payment>, Vec<Event>, Option<Error>) {
		let executor = &self.world.validators[0];
		{
			let mut held = executor.held.lock().unwrap();
			held.clear();
			held.extend(shown.clone().map(|shown| (Service::Answer as u8, shown)));
		}
		*executor.script.lock().unwrap() = Some(steps);
		executor.seen.lock().unwrap().vouchers.clear();
		let wallet = self.client.wallet();
		let number = wallet.next_number().unwrap();
		let options = AskOptions {
			checks: 0,
			executor: None,
		};
		let asked = async {
			// What it shows is what it says to a greeting.
			self.client.close().await;
			all(self.client.ask(MODEL, input(200), options)).await
		};
		let (events, error) = self.runtime.block_on(asked);

		let vouchers = executor.seen.lock().unwrap().vouchers.clone();
		let states = executor.states.lock().unwrap();
		let mut bases = self.bases.lock().unwrap();
		let mut base = shown.as_ref().map_or(0, |p| p.body.amount);
		let mut paid = None;
		for voucher in &vouchers {
			let body = &voucher.body;
			let seen = states[&body.number].iter();
			let tokens = seen.clone().position(|s| *s == body.transcript);
			let tokens = tokens.expect("acknowledges what was not sent, or was wrong");
			if body.number == number {
				bases.entry(number).or_insert(base);
				assert!(paid.is_none_or(|paid| tokens > paid), "paid twice");
				paid = Some(tokens);
			} else {
				// What is left of the question before: a slice at most, and nothing that is paid.
				let shown = shown.as_ref().unwrap();
				assert_eq!(body.number, shown.body.number);
				let before = seen.clone().position(|s| *s == shown.body.transcript);
				let before = before.unwrap();
				let slice = before..=before + SLICE_TOKENS as usize;
				assert!(slice.contains(&tokens));
				base = base.max(body.amount);
			}
			let price = PRICE.of(13, tokens as u32).unwrap();
			assert_eq!(body.amount, bases[&body.number] + price);
		}
		let done = events.iter().any(|e| matches!(e, Event::Done { .. }));
		assert_eq!(done, error.is_none());
		let Some(record) = wallet.record(number).unwrap() else {
			assert!(!done);
			return (vouchers, events, error);
		};
		// The wallet may have signed what was not read any more, and that too only for what was seen.
		let last = wallet.last(&executor.account, Service::Answer);
		let last = last.unwrap().unwrap().body;
		let base = *bases.entry(number).or_insert(last.amount - record.paid);
		assert_eq!(record.paid, last.amount - base);
		let tokens = record.tokens.len();
		assert!(record.paid <= PRICE.of(13, tokens as u32).unwrap());
		assert!(tokens <= paid_tokens(record.paid) + SLICE_TOKENS as usize);
		assert!(states
			.get(&number)
			.is_none_or(|states| tokens < states.len()));
		// Whole it is only with a receipt, and paid to the last token then.
		assert_eq!(done, record.receipt.is_some());
		if done {
			assert_eq!(record.status(), Ok(Status::Answered));
			assert_eq!(record.paid, PRICE.of(13, tokens as u32).unwrap());
		}
		(vouchers, events, error)
	}
}

fn paid_tokens(paid: Balance) -> usize {
	((paid - PRICE.of(13, 0).unwrap()) / PRICE.per_output_unit) as usize
}

#[test]
fn nothing_is_signed_for_what_was_not_seen() {
	let game = Game::new();
	let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
		cases: 96,
		max_shrink_iters: 50,
		failure_persistence: None,
		..ProptestConfig::default()
	});
	let all = std::sync::Mutex::new(Vec::<Payment>::new());
	let whole = std::sync::atomic::AtomicU32::new(0);
	let strategy = (
		proptest::collection::vec(step(), 1..24),
		any::<Option<prop::sample::Index>>(),
	);
	runner
		.run(&strategy, |(steps, shown)| {
			// It shows any voucher that it ever had, or none.
			let shown = {
				let all = all.lock().unwrap();
				shown
					.filter(|_| !all.is_empty())
					.map(|i| i.get(&all).clone())
			};
			let (vouchers, _, error) = game.play(steps, shown);
			all.lock().unwrap().extend(vouchers);
			if error.is_none() {
				whole.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
			}
			Ok(())
		})
		.unwrap();
	// What never got through would prove nothing.
	assert!(whole.into_inner() > 0 && all.into_inner().unwrap().len() > 96);
}

#[test]
fn a_flood_is_neither_taken_nor_paid() {
	let game = Game::new();
	// One message with more than a slice, while nothing is paid.
	let steps = vec![Step::Frame(SLICE_TOKENS as u8 + 1, Wrong::Nothing)];
	let (vouchers, events, error) = game.play(steps, None);
	assert_eq!(vouchers.len(), 1);
	assert!(!events.iter().any(|e| matches!(e, Event::Text(_))));
	let Some(Error::NoAnswer(faults)) = error else {
		panic!("{error:?}")
	};
	assert_eq!(faults[0].1, Fault::Unpaid);
	// A slice is taken.
	let slice = Step::Frame(SLICE_TOKENS as u8, Wrong::Nothing);
	let steps = vec![slice, Step::Payment, slice, Step::End(Wrong::Nothing)];
	let (vouchers, _, error) = game.play(steps, None);
	assert!(error.is_none(), "{error:?}");
	assert_eq!(vouchers.len(), 3);
}
