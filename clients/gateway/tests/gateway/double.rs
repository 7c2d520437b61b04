//! A network that behaves like the chain, without one.
//!
//! A test decides when a request goes on ([`Double::answer`], [`Double::check`], [`Double::finalise`], [`Double::fail`]); with
//! [`Double::automatic`] requests go on by themselves, and what is asked says how they end.

#[path = "lane.rs"]
pub(crate) mod lane;

use std::{
	sync::{Arc, Mutex, MutexGuard},
	time::Duration,
};

use consilience_gateway::network::{
	Answer, Ask, Block, Finish, FollowError, Input, Keep, LaneAddress, Model, Network, Price,
	Quote, Recovered, Refusal, Sampling, State, Step, Task, Tensor, TensorSpec, Ticket,
};
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{json, Value};
use tokio::sync::watch;

/// What every request is quoted.
pub(crate) const FEE: u128 = 1_000;
/// What every request that is Final was paid.
pub(crate) const PAID: u128 = 600;

/// Id of the language model.
pub(crate) const CHAT: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";

struct Made {
	ask: Ask,
	ticket: Ticket,
	number: u64,
	steps: watch::Sender<Vec<Step>>,
}

#[derive(Default)]
struct Faults {
	quote: Option<Refusal>,
	submit: Option<Refusal>,
	/// Submissions come through, and whoever sent them is not told.
	swallow: bool,
	/// Submissions hang until this is changed back.
	hang: bool,
	/// What a follower is told next.
	follow: Option<FollowError>,
}

struct Inner {
	models: Mutex<Vec<Model>>,
	made: Mutex<Vec<Made>>,
	/// How many were made.
	count: watch::Sender<usize>,
	faults: Mutex<Faults>,
	changed: watch::Sender<u64>,
	online: watch::Sender<bool>,
	followers: watch::Sender<usize>,
	nonces: watch::Sender<usize>,
	/// How many tickets were kept.
	tickets: watch::Sender<usize>,
	block: Option<Duration>,
	lanes: Mutex<Vec<lane::LaneDouble>>,
	/// Where the only validator of the session lane answers: what it is called, and that.
	lane_address: Mutex<Option<(String, LaneAddress)>>,
}

/// The network.
#[derive(Clone)]
pub(crate) struct Double(Arc<Inner>);

fn price() -> Price {
	Price {
		per_request: 10,
		per_input_unit: 1,
		per_output_unit: 20,
	}
}

fn model(id: u8, name: &str, task: Task) -> Model {
	Model {
		id: format!("0x{}", format!("{id:x}").repeat(64)),
		name: name.into(),
		task,
		chat: task == Task::TextGeneration,
		class: "exact".into(),
		status: "active".into(),
		owner: "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".into(),
		size: 1 << 20,
		price: price(),
		max_input_units: 4_096,
		max_output_units: match task {
			Task::TextGeneration => 512,
			Task::Embedding => 4,
			Task::Tensor => 64,
		},
		context_length: (task == Task::TextGeneration).then_some(8_192),
		dimensions: (task == Task::Embedding).then_some(4),
		serving: 4,
		min_verifiers: 2,
		policy: json!({ "class": "exact", "positions": 8, "min_verifiers": 2 }),
		inputs: match task {
			Task::Tensor => vec![TensorSpec {
				name: "x".into(),
				datatype: "FP32".into(),
				shape: vec![-1, 2],
			}],
			_ => vec![],
		},
		sampling: json!({}),
		license: Some("Apache-2.0".into()),
		source: None,
	}
}

impl Double {
	/// A network whose requests go on when a test says so.
	pub(crate) fn new() -> Self {
		Self::with(None)
	}

	/// A network whose requests go on by themselves, a step each time.
	pub(crate) fn automatic(block: Duration) -> Self {
		Self::with(Some(block))
	}

	fn with(block: Option<Duration>) -> Self {
		let mut plain = model(5, "plain", Task::TextGeneration);
		plain.chat = false;
		let mut idle = model(6, "idle", Task::TextGeneration);
		idle.status = "registered".into();
		Self(Arc::new(Inner {
			models: Mutex::new(vec![
				model(1, "chat", Task::TextGeneration),
				model(2, "embed", Task::Embedding),
				model(3, "double", Task::Tensor),
				plain,
				idle,
			]),
			made: Mutex::default(),
			count: watch::channel(0).0,
			faults: Mutex::default(),
			changed: watch::channel(0).0,
			online: watch::channel(true).0,
			followers: watch::channel(0).0,
			nonces: watch::channel(0).0,
			tickets: watch::channel(0).0,
			block,
			lanes: Mutex::default(),
			lane_address: Mutex::default(),
		}))
	}

	/// The same, with so many channels in the session lane.
	pub(crate) fn with_channels(self, count: u64) -> Self {
		let channels = (0..count).map(|n| lane::LaneDouble::new(lane::CHANNEL + n, self.0.block));
		*self.0.lanes.lock().unwrap() = channels.collect();
		self
	}

	/// Says where a validator answers in the session lane.
	pub(crate) fn name_lane(&self, validator: &str, address: LaneAddress) {
		*self.0.lane_address.lock().unwrap() = Some((validator.into(), address));
	}

	/// Its channels.
	pub(crate) fn lanes(&self) -> Vec<lane::LaneDouble> {
		self.0.lanes.lock().unwrap().clone()
	}

	fn made(&self) -> MutexGuard<'_, Vec<Made>> {
		self.0.made.lock().unwrap()
	}

	fn faults(&self, change: impl FnOnce(&mut Faults)) {
		change(&mut self.0.faults.lock().unwrap());
		self.0.changed.send_modify(|n| *n += 1);
	}

	/// How many requests were made.
	pub(crate) fn count(&self) -> usize {
		self.made().len()
	}

	/// Waits until so many requests were made.
	pub(crate) async fn wait_for(&self, count: usize) {
		let mut made = self.0.count.subscribe();
		made.wait_for(|made| *made >= count).await.unwrap();
	}

	/// Waits until so many streams of steps were begun.
	pub(crate) async fn wait_for_followers(&self, count: usize) {
		let mut followers = self.0.followers.subscribe();
		followers.wait_for(|n| *n >= count).await.unwrap();
	}

	/// Waits until a ticket was kept.
	pub(crate) async fn wait_for_ticket(&self) {
		self.wait_for_tickets(1).await;
	}

	/// Waits until so many tickets were kept.
	pub(crate) async fn wait_for_tickets(&self, count: usize) {
		let mut tickets = self.0.tickets.subscribe();
		tickets.wait_for(|n| *n >= count).await.unwrap();
	}

	/// What was asked in the request of this number.
	pub(crate) fn asked(&self, number: u64) -> Ask {
		self.of(number, |made| made.ask.clone())
	}

	fn of<T>(&self, number: u64, f: impl FnOnce(&Made) -> T) -> T {
		let made = self.made();
		let made = made.iter().find(|m| m.number == number);
		f(made.unwrap_or_else(|| panic!("there is no request {number}")))
	}

	/// Adds a model.
	pub(crate) fn add_model(&self, change: impl FnOnce(&mut Model)) {
		let mut new = model(9, "new", Task::TextGeneration);
		change(&mut new);
		self.0.models.lock().unwrap().push(new);
	}

	/// Refuses quotes from now on.
	pub(crate) fn refuse_quotes(&self, refusal: Option<Refusal>) {
		self.faults(|f| f.quote = refusal);
	}

	/// Refuses submissions from now on.
	pub(crate) fn refuse_submissions(&self, refusal: Option<Refusal>) {
		self.faults(|f| f.submit = refusal);
	}

	/// Takes submissions from now on, and does not say so.
	pub(crate) fn swallow(&self, on: bool) {
		self.faults(|f| f.swallow = on);
	}

	/// Lets submissions wait from now on.
	pub(crate) fn hang(&self, on: bool) {
		self.faults(|f| f.hang = on);
	}

	/// Goes away, or comes back.
	pub(crate) fn online(&self, on: bool) {
		self.0.online.send_replace(on);
	}

	/// Tells followers this, once.
	pub(crate) fn break_streams(&self, error: FollowError) {
		self.faults(|f| f.follow = Some(error));
	}

	/// A fork gives a request another number.
	pub(crate) fn renumber(&self, from: u64, to: u64) {
		for made in self.made().iter_mut().filter(|m| m.number == from) {
			made.number = to;
			made.steps.send_modify(|steps| steps.clear());
		}
		self.break_streams(FollowError::Moved);
	}

	fn step(&self, number: u64, state: State, finalized: bool, answer: Option<Answer>) {
		let drawn = !matches!(
			state,
			State::Requested | State::Assigned | State::Provisional
		);
		self.step_with(number, state, finalized, answer, drawn);
	}

	fn step_with(
		&self,
		number: u64,
		state: State,
		finalized: bool,
		answer: Option<Answer>,
		drawn: bool,
	) {
		let height = 100 + self.of(number, |m| m.steps.borrow().len()) as u32;
		let paid = match state {
			State::Final | State::Overturned => PAID,
			State::Unanswerable => 100,
			_ => 0,
		};
		let step = Step {
			request: number,
			state,
			block: Block {
				number: height,
				hash: format!("0x{height:064x}"),
			},
			finalized,
			answer,
			executor: (state != State::Requested).then(|| "5FHneW46".into()),
			verifiers: match drawn {
				true => vec!["5FLSigC9".into(), "5DAAnrj7".into()],
				false => vec![],
			},
			jurors: vec![],
			seed: Some(format!("0x{:064x}", 7)),
			escrow: FEE,
			paid,
			refunded: if state.is_settled() { FEE - paid } else { 0 },
		};
		self.of(number, |m| m.steps.send_modify(|steps| steps.push(step)));
	}

	fn answer_of(&self, number: u64) -> Answer {
		answer_to(&self.asked(number))
	}

	/// The executor answers.
	pub(crate) fn answer(&self, number: u64) {
		self.answer_with(number, self.answer_of(number));
	}

	/// The executor answers this.
	pub(crate) fn answer_with(&self, number: u64, answer: Answer) {
		self.step(number, State::Provisional, false, Some(answer));
	}

	/// Verifiers are drawn.
	pub(crate) fn draw(&self, number: u64) {
		let answer = self.answer_of(number);
		self.step_with(number, State::Provisional, false, Some(answer), true);
	}

	/// The round agrees, in a block that is not finalised.
	pub(crate) fn check(&self, number: u64) {
		self.step(number, State::Final, false, Some(self.answer_of(number)));
	}

	/// The round's block is finalised.
	pub(crate) fn finalise(&self, number: u64) {
		self.step(number, State::Final, true, Some(self.answer_of(number)));
	}

	/// A request is answered, checked and finalised.
	pub(crate) fn complete(&self, number: u64) {
		self.answer(number);
		self.check(number);
		self.finalise(number);
	}

	/// A request ends without an answer that counts.
	pub(crate) fn fail(&self, number: u64, state: State) {
		self.fail_in(number, state, false);
		self.fail_in(number, state, true);
	}

	/// The same in one of the two chains.
	pub(crate) fn fail_in(&self, number: u64, state: State, finalized: bool) {
		let answer = (state == State::Unanswerable).then(|| Answer::Unanswerable {
			code: "prompt_too_long".into(),
			reason: "the input has more tokens than the model's context holds".into(),
		});
		self.step(number, state, finalized, answer);
	}

	fn unreachable(&self) -> Result<(), Refusal> {
		match *self.0.online.borrow() {
			true => Ok(()),
			false => Err(Refusal::Unreachable("connection refused".into())),
		}
	}

	fn make(&self, ask: &Ask, ticket: &Ticket) -> u64 {
		let number = {
			let mut made = self.made();
			let number = 1 + made.iter().map(|m| m.number).max().unwrap_or(0);
			made.push(Made {
				ask: ask.clone(),
				ticket: ticket.clone(),
				number,
				steps: watch::channel(vec![]).0,
			});
			self.0.count.send_replace(made.len());
			number
		};
		self.step(number, State::Requested, false, None);
		if let Some(block) = self.0.block {
			let (double, asked) = (self.clone(), said(ask));
			tokio::spawn(async move {
				for step in 0..5 {
					tokio::time::sleep(block).await;
					match (step, asked.as_str()) {
						(0, _) => double.step(number, State::Assigned, false, None),
						(1, "expire") => return double.fail(number, State::Expired),
						(1, "unanswerable") => return double.fail(number, State::Unanswerable),
						(1, _) => double.answer(number),
						(2, _) => double.draw(number),
						(3, "reject") => return double.fail(number, State::Rejected),
						(3, _) => double.check(number),
						_ => double.finalise(number),
					}
				}
			});
		}
		number
	}
}

/// What is asked, in one word or more.
fn said(ask: &Ask) -> String {
	match &ask.input {
		Input::Chat { messages, .. } => messages
			.last()
			.map_or_else(String::new, |m| m.content.clone()),
		Input::Prompt { prompt, .. } => prompt.clone(),
		Input::Text { text } => text.clone(),
		Input::Tensors { .. } => String::new(),
	}
}

fn generate(text: &str, sampling: &Sampling) -> Answer {
	let most = sampling.max_tokens.unwrap_or(128) as usize;
	let stops = sampling.stop.as_deref().unwrap_or_default();
	// Whoever asks for a form asks with an answer in it.
	let text = match sampling.constraint {
		Some(_) => text.to_owned(),
		None => format!("You said: {text}"),
	};
	let words: Vec<_> = text.split_inclusive(' ').collect();
	let mut finish = Finish::EndOfText;
	let mut tokens = words.len() + 1;
	let mut said = text.clone();
	if tokens > most {
		(tokens, finish) = (most, Finish::Length);
		said = words[..most.min(words.len())].concat();
	}
	if let Some(end) = stops.iter().filter_map(|s| said.find(s.as_str())).min() {
		said.truncate(end);
		finish = Finish::StopString;
	}
	Answer::Text {
		text: said,
		tokens: tokens as u32,
		finish,
	}
}

/// What the double's models say.
pub(crate) fn answer_to(ask: &Ask) -> Answer {
	match &ask.input {
		Input::Chat { sampling, .. } | Input::Prompt { sampling, .. } => {
			generate(&said(ask), sampling)
		}
		Input::Text { text } => Answer::Tensors {
			outputs: vec![Tensor {
				name: "last_hidden_state".into(),
				shape: vec![4],
				datatype: "FP32".into(),
				data: json!([text.len(), 0.5, -1.0, 0.25]),
			}],
			units: 4,
		},
		Input::Tensors { inputs } => Answer::Tensors {
			outputs: inputs
				.iter()
				.map(|x| Tensor {
					name: "y".into(),
					data: x.data.as_array().unwrap().iter().map(twice).collect(),
					..x.clone()
				})
				.collect(),
			units: 2,
		},
	}
}

fn twice(value: &Value) -> Value {
	value.as_f64().map_or(Value::Null, |v| json!(2.0 * v))
}

#[async_trait::async_trait]
impl Network for Double {
	async fn models(&self) -> Result<Vec<Model>, Refusal> {
		self.unreachable()?;
		Ok(self.0.models.lock().unwrap().clone())
	}

	async fn lane_address(
		&self,
		model: &str,
		validator: &str,
	) -> Result<Option<LaneAddress>, Refusal> {
		self.unreachable()?;
		let named = self.0.lane_address.lock().unwrap();
		let named = named
			.as_ref()
			.filter(|(name, _)| name == validator && model == CHAT);
		Ok(named.map(|(_, address)| address.clone()))
	}

	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal> {
		self.unreachable()?;
		if let Some(refusal) = &self.0.faults.lock().unwrap().quote {
			return Err(refusal.clone());
		}
		if said(ask) == "busy" {
			return Err(Refusal::Busy {
				retry_after: Some(Duration::from_secs(7)),
			});
		}
		let input_units = said(ask).len() as u32;
		if input_units > 4_096 {
			return Err(Refusal::TooLong(
				"the input has more units than the model takes".into(),
			));
		}
		Ok(Quote {
			fee: FEE,
			input_units,
		})
	}

	async fn submit(&self, ask: &Ask, fee_limit: u128, keep: &dyn Keep) -> Result<u64, Refusal> {
		assert_eq!(fee_limit, FEE);
		self.unreachable()?;
		if let Some(refusal) = &self.0.faults.lock().unwrap().submit {
			return Err(refusal.clone());
		}
		let nonce = {
			let mut nonce = 0;
			self.0.nonces.send_modify(|n| {
				nonce = *n;
				*n += 1;
			});
			nonce
		};
		let ticket = Ticket(nonce.to_string());
		keep.keep(&ticket).await.map_err(Refusal::Journal)?;
		self.0.tickets.send_modify(|n| *n += 1);
		// What was sent comes through whatever becomes of whoever sent it.
		let (double, ask) = (self.clone(), ask.clone());
		let sent = tokio::spawn(async move {
			let mut changed = double.0.changed.subscribe();
			while double.0.faults.lock().unwrap().hang {
				changed.changed().await.unwrap();
			}
			double.make(&ask, &ticket)
		});
		let number = sent.await.unwrap();
		match self.0.faults.lock().unwrap().swallow {
			true => Err(Refusal::Unreachable("the connection broke".into())),
			false => Ok(number),
		}
	}

	async fn recover(&self, ticket: &Ticket) -> Result<Recovered, Refusal> {
		self.unreachable()?;
		let made = self.made();
		Ok(match made.iter().find(|m| m.ticket == *ticket) {
			Some(made) => Recovered::Request(made.number),
			None => Recovered::Lost,
		})
	}

	fn follow(
		&self,
		number: u64,
		ticket: &Ticket,
	) -> BoxStream<'static, Result<Step, FollowError>> {
		self.0.followers.send_modify(|n| *n += 1);
		let steps = {
			let made = self.made();
			let made = made
				.iter()
				.find(|m| m.number == number && m.ticket == *ticket);
			made.map(|m| m.steps.subscribe())
		};
		let Some(steps) = steps else {
			return stream::once(async { Err(FollowError::Forgotten) }).boxed();
		};
		let state = (self.clone(), steps, 0usize);
		stream::unfold(state, |(double, mut steps, seen)| async move {
			let mut online = double.0.online.subscribe();
			let mut changed = double.0.changed.subscribe();
			loop {
				if !*online.borrow_and_update() {
					let gone = FollowError::Unreachable("the connection broke".into());
					return Some((Err(gone), (double, steps, seen)));
				}
				let fault = double.0.faults.lock().unwrap().follow.take();
				if let Some(fault) = fault {
					return Some((Err(fault), (double, steps, seen)));
				}
				let next = steps.borrow_and_update().get(seen).cloned();
				if let Some(step) = next {
					return Some((Ok(step), (double, steps, seen + 1)));
				}
				tokio::select! {
					_ = steps.changed() => (),
					_ = online.changed() => (),
					_ = changed.changed() => (),
				}
			}
		})
		.boxed()
	}
}
