//! A session lane that behaves like one, without validators. A test decides when a question goes on; otherwise it does so by itself, a word
//! at a time, and what is asked says how it ends.

use std::{
	collections::BTreeMap,
	sync::{Arc, Mutex, MutexGuard},
	time::Duration,
};

use consilience_gateway::{
	lane::{Check, Event, Lane, Outcome, Quote, Receipt, Status},
	network::{Answer, Ask, Block, Finish, Refusal},
};
use futures::{
	future::BoxFuture,
	stream::{self, BoxStream, StreamExt},
};
use serde_json::{json, Value};
use tokio::sync::{
	mpsc::{unbounded_channel, UnboundedSender},
	watch,
};

use super::{answer_to, said};

/// What every question is quoted.
pub(crate) const HELD: u128 = 500;
/// What an executor is paid for a whole answer.
pub(crate) const ANSWER: u128 = 90;
/// What it is paid for one that broke off.
pub(crate) const PART: u128 = 30;
/// What a checker is paid.
pub(crate) const CHECK: u128 = 5;

/// Longest that a test waits for anything here.
const LIMIT: Duration = Duration::from_secs(20);

/// Number of the channel; others follow it.
pub(crate) const CHANNEL: u64 = 3;

type Sender = UnboundedSender<Result<Event, Refusal>>;

struct Asked {
	ask: Ask,
	events: Sender,
	cut: watch::Sender<bool>,
	number: Option<u32>,
}

#[derive(Default)]
struct State {
	asked: Vec<Asked>,
	/// The wallet.
	wallet: BTreeMap<u32, Outcome>,
	refuse_quotes: Option<Refusal>,
	refuse_asks: Option<Refusal>,
}

struct Inner {
	channel: u64,
	state: Mutex<State>,
	count: watch::Sender<usize>,
	serving: watch::Sender<u32>,
	word: Option<Duration>,
}

/// The session lane.
#[derive(Clone)]
pub(crate) struct LaneDouble(Arc<Inner>);

/// Who was asked under a number.
pub(crate) fn executor(number: u32) -> String {
	format!("5Executor{number}")
}

fn question(ask: &Ask) -> String {
	json!([ask.model, ask.input]).to_string()
}

impl LaneDouble {
	pub(super) fn new(channel: u64, word: Option<Duration>) -> Self {
		Self(Arc::new(Inner {
			channel,
			state: Mutex::default(),
			count: watch::channel(0).0,
			serving: watch::channel(3).0,
			word,
		}))
	}

	fn state(&self) -> MutexGuard<'_, State> {
		self.0.state.lock().unwrap()
	}

	/// How many questions were asked.
	pub(crate) fn count(&self) -> usize {
		self.state().asked.len()
	}

	/// Waits until so many questions were asked.
	pub(crate) async fn wait_for(&self, count: usize) {
		let mut asked = self.0.count.subscribe();
		let asked = asked.wait_for(|n| *n >= count);
		let asked = tokio::time::timeout(LIMIT, asked).await;
		asked.expect("it is asked in time").unwrap();
	}

	/// What was asked, by its place among all questions.
	pub(crate) fn asked(&self, place: usize) -> Ask {
		self.state().asked[place].ask.clone()
	}

	/// Waits until a question was cut.
	pub(crate) async fn wait_for_cut(&self, place: usize) {
		let mut cut = self.state().asked[place].cut.subscribe();
		let cut = tokio::time::timeout(LIMIT, cut.wait_for(|cut| *cut));
		cut.await.expect("it is cut in time").unwrap();
	}

	/// Whether a question was cut.
	pub(crate) fn was_cut(&self, place: usize) -> bool {
		*self.state().asked[place].cut.borrow()
	}

	/// How many validators of each text model take part.
	pub(crate) fn serving(&self, count: u32) {
		self.0.serving.send_replace(count);
	}

	/// Refuses quotes from now on.
	pub(crate) fn refuse_quotes(&self, refusal: Option<Refusal>) {
		self.state().refuse_quotes = refusal;
	}

	/// Refuses questions from now on, before anybody is asked.
	pub(crate) fn refuse_asks(&self, refusal: Option<Refusal>) {
		self.state().refuse_asks = refusal;
	}

	fn tell(&self, place: usize, event: Result<Event, Refusal>) {
		// The gateway may have gone.
		let _ = self.state().asked[place].events.send(event);
	}

	/// A validator is asked. Returns the number.
	pub(crate) fn start(&self, place: usize) -> u32 {
		let number = {
			let mut state = self.state();
			let number = 1 + state.wallet.len() as u32;
			let asked = &mut state.asked[place];
			asked.number = Some(number);
			let outcome = Outcome {
				number,
				question: question(&asked.ask),
				executor: executor(number),
				seed: format!("0x{number:064x}"),
				text: String::new(),
				tokens: 0,
				finish: None,
				whole: false,
				receipt: None,
				checkers: vec![],
				status: Status::Streaming,
				right: 0,
				of: asked.ask.verifiers.unwrap().into(),
				paid: 10,
			};
			state.wallet.insert(number, outcome);
			number
		};
		let started = Event::Started {
			executor: executor(number),
			number,
		};
		self.tell(place, Ok(started));
		number
	}

	fn change(&self, place: usize, change: impl FnOnce(&mut Outcome)) -> Outcome {
		let mut state = self.state();
		let number = state.asked[place].number.unwrap();
		let outcome = state.wallet.get_mut(&number).unwrap();
		change(outcome);
		outcome.clone()
	}

	/// More of the answer comes.
	pub(crate) fn say(&self, place: usize, text: &str) {
		self.change(place, |outcome| {
			outcome.text += text;
			outcome.tokens += 1;
			outcome.paid = PART;
		});
		self.tell(place, Ok(Event::Text(text.into())));
	}

	/// The validator breaks off.
	pub(crate) fn fail(&self, place: usize) {
		let outcome = self.change(place, |_| ());
		let failed = Event::Failed {
			executor: outcome.executor,
			number: Some(outcome.number),
			why: "the connection failed".into(),
		};
		self.tell(place, Ok(failed));
	}

	/// Nobody is left to ask.
	pub(crate) fn give_up(&self, place: usize) {
		let why = "no executor answered: the connection failed";
		self.tell(place, Err(Refusal::Other(why.into())));
	}

	/// The validator signs for what it said.
	pub(crate) fn sign(&self, place: usize) {
		self.sign_as(place, true);
	}

	fn sign_as(&self, place: usize, whole: bool) {
		let answer = answer_to(&self.asked(place));
		let outcome = self.change(place, |outcome| {
			let Answer::Text { tokens, finish, .. } = answer else {
				panic!("it is text")
			};
			if whole {
				outcome.tokens = tokens;
			}
			outcome.finish = Some(if whole { finish } else { Finish::Length });
			outcome.whole = whole;
			outcome.status = Status::Answered;
			outcome.paid = ANSWER;
			outcome.receipt = Some(Receipt {
				hash: format!("0x{:064x}", 100 + outcome.number),
				signature: "0x5167".into(),
				anchor: Block {
					number: 90,
					hash: "0x90".into(),
				},
				input_units: 7,
				output_units: outcome.tokens,
				amount: ANSWER,
			});
		});
		self.tell(place, Ok(Event::Answered(Box::new(outcome))));
	}

	/// A checker finds this.
	pub(crate) fn check(&self, place: usize, verdict: &str) {
		let outcome = self.change(place, |outcome| {
			outcome.checkers.push(Check::Verdict {
				account: format!("5Checker{}", outcome.checkers.len() + 1),
				verdict: verdict.into(),
				signature: Some("0xc4ec".into()),
			});
			outcome.paid += CHECK;
			match verdict {
				"right" if outcome.status != Status::Refuted => {
					outcome.right += 1;
					outcome.status = Status::Checked;
				}
				"wrong" => outcome.status = Status::Refuted,
				_ => (),
			}
		});
		let mut check = outcome.checkers.last().cloned().unwrap();
		if let Check::Verdict { signature, .. } = &mut check {
			*signature = None;
		}
		self.tell(place, Ok(Event::Checked(check)));
	}

	/// A checker does not answer.
	pub(crate) fn skip(&self, place: usize) {
		let check = Check::Skipped {
			account: "5Busy".into(),
			skipped: "it refused: it is busy".into(),
		};
		self.change(place, |outcome| outcome.checkers.push(check.clone()));
		self.tell(place, Ok(Event::Checked(check)));
	}

	/// Nothing more happens.
	pub(crate) fn finish(&self, place: usize) {
		let outcome = self.change(place, |_| ());
		self.tell(place, Ok(Event::Done(Box::new(outcome))));
	}

	/// What was cut is signed for, as far as it came.
	pub(crate) fn finish_cut(&self, place: usize) {
		self.sign_as(place, false);
		self.finish(place);
	}

	/// A question is answered, and whoever asked has gone.
	pub(crate) fn complete_in_wallet(&self, place: usize) {
		let Answer::Text { text, .. } = answer_to(&self.asked(place)) else {
			panic!("it is text")
		};
		self.say(place, &text);
		self.sign(place);
	}

	/// A question is answered and checked.
	pub(crate) fn complete(&self, place: usize) {
		let Answer::Text { text, .. } = answer_to(&self.asked(place)) else {
			panic!("it is text")
		};
		self.start(place);
		text.split_inclusive(' ').for_each(|w| self.say(place, w));
		self.sign(place);
		for _ in 0..self.asked(place).verifiers.unwrap() {
			self.check(place, "right");
		}
		self.finish(place);
	}

	/// What happens by itself.
	async fn go_on(self, place: usize, word: Duration) {
		let asked = said(&self.asked(place));
		let Answer::Text { text, .. } = answer_to(&self.asked(place)) else {
			panic!("it is text")
		};
		let pause = || tokio::time::sleep(word);
		self.start(place);
		pause().await;
		match asked.as_str() {
			"failover" => {
				self.fail(place);
				self.start(place);
			}
			"replace" => {
				self.say(place, "You ");
				pause().await;
				self.fail(place);
				self.start(place);
			}
			"silence" => {
				self.fail(place);
				return self.give_up(place);
			}
			_ => (),
		}
		for word in text.split_inclusive(' ') {
			pause().await;
			if self.was_cut(place) {
				return self.finish_cut(place);
			}
			self.say(place, word);
		}
		self.sign(place);
		for n in 0..self.asked(place).verifiers.unwrap() {
			pause().await;
			match asked.as_str() {
				"refute" if n == 0 => self.check(place, "wrong"),
				"unchecked" => self.skip(place),
				_ => self.check(place, "right"),
			}
		}
		self.finish(place);
	}
}

#[async_trait::async_trait]
impl Lane for LaneDouble {
	fn channel(&self) -> u64 {
		self.0.channel
	}

	async fn serving(&self, _: &str) -> Result<u32, Refusal> {
		Ok(*self.0.serving.borrow())
	}

	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal> {
		let state = self.state();
		if let Some(refusal) = &state.refuse_quotes {
			return Err(refusal.clone());
		}
		if said(ask) == "no funds" {
			return Err(Refusal::Channel("it has 0 CSL left".into()));
		}
		let input_units = said(ask).len() as u32;
		if input_units > 4_096 {
			return Err(Refusal::TooLong(
				"the input has more units than the model takes".into(),
			));
		}
		Ok(Quote {
			fee: HELD,
			input_units,
			question: question(ask),
			from: 1 + state.wallet.len() as u32,
		})
	}

	fn ask(
		&self,
		ask: &Ask,
		cut: BoxFuture<'static, ()>,
	) -> BoxStream<'static, Result<Event, Refusal>> {
		let (events, told) = unbounded_channel();
		let cutting = watch::channel(false).0;
		if let Some(refusal) = &self.state().refuse_asks {
			let refusal = refusal.clone();
			return stream::once(async { Err(refusal) }).boxed();
		}
		let place = {
			let mut state = self.state();
			let asked = Asked {
				ask: ask.clone(),
				events,
				cut: cutting.clone(),
				number: None,
			};
			state.asked.push(asked);
			state.asked.len() - 1
		};
		self.0.count.send_replace(place + 1);
		tokio::spawn(async move {
			cut.await;
			cutting.send_replace(true);
		});
		if let Some(word) = self.0.word {
			tokio::spawn(self.clone().go_on(place, word));
		}
		let ended = (told, false);
		stream::unfold(ended, |(mut told, ended)| async move {
			if ended {
				return None;
			}
			let event = told.recv().await?;
			let ends = matches!(event, Err(_) | Ok(Event::Done(_)));
			Some((event, (told, ends)))
		})
		.boxed()
	}

	async fn next_number(&self) -> Result<u32, String> {
		Ok(1 + self.state().wallet.len() as u32)
	}

	async fn outcome(&self, number: u32) -> Result<Option<Outcome>, String> {
		Ok(self.state().wallet.get(&number).cloned())
	}

	async fn record(&self, number: u32) -> Result<Option<Value>, String> {
		let state = self.state();
		let outcome = state.wallet.get(&number);
		Ok(
			outcome
				.map(|outcome| json!({ "version": 1, "number": number, "answer": outcome.text })),
		)
	}
}
