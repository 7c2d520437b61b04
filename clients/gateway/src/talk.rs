//! Questions of the session lane, from the call that asks to their end.
//!
//! Like a request on chain, a question has a task of its own, and stands in the journal before anything is sent. Calls read what the task
//! has gathered, each from where it is: a client that reads slowly is sent larger pieces, and nothing is held for it but the answer. Unlike
//! a request on chain, a question ends when nobody listens any more, and no more of it is paid; one that may be asked for again, by an
//! idempotency key, goes on.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::{FutureExt, StreamExt};
use tokio::{
	sync::{oneshot, watch},
	time::{sleep_until, Duration, Instant},
};

use crate::{
	channels::{Channels, Taken},
	error::Error,
	fields::Own,
	jobs::{Inner, Job},
	journal::{Broke, End, Record},
	lane::{Check, Event, Outcome, Status},
	metrics::Metrics,
	network::{Amount, Ask, Finish, Refusal},
	status::{consilience_of_talk, Wait},
	watch::{News, Said, Terms},
	LOG_TARGET,
};

/// What is known of a question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talk {
	/// The channel that pays.
	pub(crate) channel: u64,
	/// What is set apart for it.
	pub(crate) held: Amount,
	/// The number under which it was asked last.
	pub(crate) number: Option<u32>,
	/// Who was asked last.
	pub(crate) executor: Option<String>,
	/// Counts those whose text was dropped.
	pub(crate) attempt: u32,
	/// Why the last of them failed.
	pub(crate) replaced: Option<String>,
	/// The answer, as far as it has come.
	pub(crate) text: String,
	/// What those whose text was dropped were paid.
	pub(crate) before: Amount,
	/// What checkers found so far.
	pub(crate) checkers: Vec<Check>,
	/// The answer with its receipt; at the end with all that checkers found.
	pub(crate) outcome: Option<Box<Outcome>>,
	/// Whether it was cut, because nobody listened.
	pub(crate) cut: bool,
	/// How it ended.
	pub(crate) end: Option<End>,
}

impl Talk {
	/// Returns a question that is about to be asked, or was before a restart.
	pub(crate) fn new(record: &Record) -> Self {
		let asked = record.session.as_ref();
		let mut talk = Self {
			channel: asked.map_or(0, |asked| asked.channel),
			held: record.reserved,
			number: asked.and_then(|asked| asked.numbers.last().copied()),
			..Self::default()
		};
		if let Some(end) = &record.end {
			talk.ended(end.clone());
		}
		talk
	}

	/// Returns the word for where it stands.
	pub(crate) fn status(&self) -> &'static str {
		match (&self.end, &self.outcome) {
			(Some(End::Said { .. }) | None, Some(outcome)) => outcome.status.word(),
			(None, None) => Status::Streaming.word(),
			_ => "failed",
		}
	}

	/// Returns what was signed away for it, as far as that is known.
	pub(crate) fn paid(&self) -> Amount {
		match &self.end {
			Some(end) => end.paid().unwrap_or(self.held),
			None => {
				let outcome = self.outcome.as_ref().map_or(0, |outcome| outcome.paid);
				self.before.saturating_add(outcome)
			}
		}
	}

	fn ended(&mut self, end: End) {
		if let End::Said { outcome, .. } = &end {
			self.text.clone_from(&outcome.text);
			self.outcome = Some(outcome.clone());
		}
		self.end = Some(end);
	}
}

/// A question's task.
pub(crate) struct Task {
	pub(crate) inner: Arc<Inner>,
	pub(crate) channel: Taken,
	pub(crate) id: u64,
	pub(crate) record: Record,
	pub(crate) told: Arc<watch::Sender<Talk>>,
	/// Whether it goes on when nobody listens.
	pub(crate) goes_on: bool,
}

impl Task {
	/// Asks, and follows the answer to its end.
	pub(crate) async fn run(mut self, ask: Ask) {
		let end = self.follow(&ask).await;
		self.finish(end).await;
	}

	async fn follow(&mut self, ask: &Ask) -> End {
		let (cut, cutting) = oneshot::channel();
		let mut cut = Some(cut);
		let cutting = async move {
			if cutting.await.is_err() {
				futures::future::pending().await
			}
		};
		let mut events = self.channel.lane().ask(ask, cutting.boxed());
		let mut times = Times::new(self.inner.metrics.clone(), self.record.model.clone());
		loop {
			let listened = !self.goes_on && cut.is_some() && self.told.borrow().outcome.is_none();
			let event = tokio::select! {
				event = events.next() => event,
				() = self.told.closed(), if listened => {
					self.told.send_modify(|talk| talk.cut = true);
					if let Some(cut) = cut.take() {
						// Where it has ended, there is nothing to cut.
						let _ = cut.send(());
					}
					continue;
				}
			};
			match event {
				Some(Ok(Event::Done(outcome))) => {
					let before = self.paid_before(outcome.number).await;
					let paid = before.saturating_add(outcome.paid);
					return match outcome.receipt {
						Some(_) => End::Said { outcome, paid },
						None => self.broken(Broke::Interrupted, "it was cut".into()).await,
					};
				}
				Some(Ok(event)) => self.hear(event, &mut times).await,
				Some(Err(refusal)) if self.numbers().is_empty() => return End::Refused(refusal),
				Some(Err(refusal)) => {
					return self.broken(Broke::NoAnswer, refusal.to_string()).await;
				}
				None => {
					let why = "nothing more is heard of it".into();
					return self.broken(Broke::Interrupted, why).await;
				}
			}
		}
	}

	async fn hear(&mut self, event: Event, times: &mut Times) {
		match event {
			Event::Started { executor, number } => {
				if let Some(asked) = &mut self.record.session {
					asked.numbers.push(number);
				}
				let written = self.inner.journal.put(self.id, self.record.clone());
				if let Err(e) = written.await {
					// What is asked leads to it as well.
					tracing::warn!(target: LOG_TARGET, "number {number} of the channel is not in the journal: {e}");
				}
				self.told.send_modify(|talk| {
					talk.number = Some(number);
					talk.executor = Some(executor);
				});
			}
			Event::Text(text) => {
				times.text();
				self.told.send_modify(|talk| talk.text.push_str(&text));
			}
			Event::Failed {
				executor,
				number,
				why,
			} => {
				tracing::info!(target: LOG_TARGET, "{executor} did not answer: {why}");
				if number.is_some() {
					self.told.send_modify(|talk| {
						talk.attempt += 1;
						talk.text.clear();
						talk.replaced = Some(format!("{executor}: {why}"));
					});
				}
			}
			Event::Answered(outcome) => {
				times.whole(outcome.tokens);
				let before = self.paid_before(outcome.number).await;
				self.told.send_modify(|talk| {
					talk.before = before;
					talk.outcome = Some(outcome);
				});
			}
			Event::Checked(check) => {
				self.told.send_modify(|talk| talk.checkers.push(check));
			}
			// The end is nothing to go on from.
			Event::Done(_) => (),
		}
	}

	fn numbers(&self) -> Vec<u32> {
		let asked = self.record.session.as_ref();
		asked.map_or_else(Vec::new, |asked| asked.numbers.clone())
	}

	async fn broken(&self, broke: Broke, why: String) -> End {
		End::Broken {
			broke,
			why,
			paid: self.paid_before(u32::MAX).await,
		}
	}

	/// Returns what was signed away under numbers that are not this one.
	async fn paid_before(&self, number: u32) -> Amount {
		let mut paid: Amount = 0;
		for other in self.numbers().into_iter().filter(|n| *n != number) {
			match self.channel.lane().outcome(other).await {
				Ok(outcome) => paid = paid.saturating_add(outcome.map_or(0, |o| o.paid)),
				Err(e) => {
					tracing::warn!(target: LOG_TARGET, "what number {other} of the channel was paid is not known: {e}");
					// It is not more.
					return self.record.reserved;
				}
			}
		}
		paid
	}

	/// Finds what became of a question that was open when the gateway ended. `taken` are channels' numbers that are known to be of others.
	pub(crate) async fn resume(mut self, taken: &mut Vec<(u64, u32)>) {
		let end = self.found(taken).await;
		self.finish(end).await;
	}

	async fn found(&mut self, taken: &mut Vec<(u64, u32)>) -> End {
		let Some(asked) = self.record.session.clone() else {
			return End::Forgotten;
		};
		let lost = |e: String| {
			tracing::warn!(target: LOG_TARGET, "what became of a question is not known: {e}");
			End::Forgotten
		};
		let mut last = None;
		if let Some(number) = asked.numbers.last() {
			last = match self.channel.lane().outcome(*number).await {
				Ok(outcome) => outcome,
				Err(e) => return lost(e),
			};
		}
		// Its number may have come too late for the journal. Another's with the same question is as good.
		if last.as_ref().is_none_or(|last| last.receipt.is_none()) {
			let next = match self.channel.lane().next_number().await {
				Ok(next) => next,
				Err(e) => return lost(e),
			};
			let from = asked.numbers.last().map_or(asked.from, |last| last + 1);
			for number in (from..next).filter(|n| !taken.contains(&(asked.channel, *n))) {
				match self.channel.lane().outcome(number).await {
					Ok(Some(outcome)) if outcome.question == asked.question => {
						if let Some(asked) = &mut self.record.session {
							asked.numbers.push(number);
						}
						last = Some(outcome);
						break;
					}
					Ok(_) => (),
					Err(e) => return lost(e),
				}
			}
		}
		taken.extend(self.numbers().into_iter().map(|n| (asked.channel, n)));
		match last {
			Some(outcome) if outcome.whole && outcome.receipt.is_some() => {
				let before = self.paid_before(outcome.number).await;
				End::Said {
					paid: before.saturating_add(outcome.paid),
					outcome: Box::new(outcome),
				}
			}
			_ if self.numbers().is_empty() => End::Refused(Refusal::Other(
				"the gateway was stopped before it was asked".into(),
			)),
			_ => {
				let why = "the gateway ended before the answer did".into();
				self.broken(Broke::Interrupted, why).await
			}
		}
	}

	async fn finish(mut self, end: End) {
		let state = match &end {
			End::Said { outcome, .. } => outcome.status.word(),
			End::Broken { .. } => "failed",
			End::Refused(_) => "refused",
			End::Settled(_) | End::Forgotten => "forgotten",
		};
		let output = match &end {
			End::Said { outcome, .. } if outcome.status != Status::Refuted => Some(outcome.tokens),
			_ => None,
		};
		let is_nothing = matches!(end, End::Refused(_));
		self.record.end = Some(end.clone());
		self.inner
			.ended(self.id, &self.record, is_nothing, output)
			.await;
		self.told.send_modify(|talk| talk.ended(end));
		self.inner.close(self.id, state);
	}
}

/// Measures an answer.
struct Times {
	metrics: Metrics,
	model: String,
	began: Instant,
	first: Option<Instant>,
}

impl Times {
	fn new(metrics: Metrics, model: String) -> Self {
		Self {
			metrics,
			model,
			began: Instant::now(),
			first: None,
		}
	}

	fn text(&mut self) {
		if self.first.is_none() {
			let now = Instant::now();
			self.first = Some(now);
			let seconds = (now - self.began).as_secs_f64();
			self.metrics.first_token(&self.model, seconds);
		}
	}

	fn whole(&self, tokens: u32) {
		if let Some(first) = self.first {
			let seconds = first.elapsed().as_secs_f64();
			self.metrics.spoke(&self.model, tokens, seconds);
		}
	}
}

/// What a call has seen of a question.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
	number: Option<u32>,
	answered: bool,
	checkers: usize,
}

/// A call that waits for an answer of the session lane.
pub(crate) struct Listener {
	pub(crate) job: Job,
	talk: watch::Receiver<Talk>,
	channels: Channels,
	terms: Terms,
	/// Whether text is told as it comes.
	streams: bool,
	/// Whose text was shown, and how many bytes of it.
	attempt: u32,
	shown: usize,
	seen: Seen,
}

impl Listener {
	pub(crate) fn new(
		job: Job,
		talk: watch::Receiver<Talk>,
		channels: Channels,
		terms: Terms,
	) -> Self {
		Self {
			job,
			talk,
			channels,
			terms,
			streams: true,
			attempt: 0,
			shown: 0,
			seen: Seen::default(),
		}
	}

	/// Waits until somebody was asked, or nobody will be; no longer than `patience`.
	pub(crate) async fn begun(&mut self, patience: Option<Duration>) -> Result<(), Error> {
		let begun = self.until(|talk| match &talk.end {
			Some(End::Refused(refusal)) => Some(Err(refusal.clone())),
			Some(_) => Some(Ok(())),
			None => talk.number.map(|_| Ok(())),
		});
		let begun = match patience {
			None => begun.await?,
			Some(patience) => match tokio::time::timeout(patience, begun).await {
				Ok(begun) => begun?,
				Err(_) => return Ok(()),
			},
		};
		begun.map_err(|refusal| Error::refusal(refusal, &self.terms.model))
	}

	/// Waits for what the call waits for.
	pub(crate) async fn reached(&mut self) -> Result<Said, Error> {
		self.streams = false;
		loop {
			match self.next().await {
				News::Text { .. } | News::Stepped(_) => (),
				News::Reached(said) => return Ok(*said),
				News::Failed(e) => return Err(e),
			}
		}
	}

	/// Returns what happens next. After [`News::Reached`] or [`News::Failed`] nothing does.
	pub(crate) async fn next(&mut self) -> News {
		let mut ahead = (self.attempt, self.shown, self.seen.clone());
		let (streams, own, model) = (self.streams, self.terms.own, self.terms.model.clone());
		let news = self.until(|talk| look(talk, &mut ahead, streams, own, &model));
		let mut news = news.await.unwrap_or_else(News::Failed);
		(self.attempt, self.shown, self.seen) = ahead;
		if let Err(e) = self.add_record(&mut news).await {
			news = News::Failed(e);
		}
		let status = match &news {
			News::Reached(said) => said.consilience["status"].as_str(),
			News::Failed(Error::Unanswered {
				code: code @ "refuted",
				..
			}) => Some(*code),
			_ => None,
		};
		if let Some(status) = status {
			self.terms.metrics.answer("session", status);
		}
		news
	}

	/// Adds the record of an answer, where the call asks for it.
	async fn add_record(&self, news: &mut News) -> Result<(), Error> {
		let consilience = match news {
			News::Reached(said) => &mut said.consilience,
			News::Failed(Error::Unanswered {
				code: "refuted",
				consilience,
				..
			}) => consilience,
			_ => return Ok(()),
		};
		if !self.terms.own.record {
			return Ok(());
		}
		let number = consilience["number"]
			.as_u64()
			.and_then(|n| u32::try_from(n).ok());
		let channel = consilience["channel"].as_u64();
		let channel = channel.and_then(|number| self.channels.of(number));
		consilience["record"] = match (channel, number) {
			(Some(channel), Some(number)) => {
				let record = channel.lane.record(number).await.map_err(Error::Journal)?;
				record.unwrap_or_default()
			}
			_ => serde_json::Value::Null,
		};
		Ok(())
	}

	async fn until<T>(&mut self, mut look: impl FnMut(&Talk) -> Option<T>) -> Result<T, Error> {
		loop {
			let found = look(&self.talk.borrow_and_update());
			if let Some(found) = found {
				return Ok(found);
			}
			if *self.terms.stopping.borrow() {
				return Err(Error::Stopping);
			}
			tokio::select! {
				changed = self.talk.changed() => if changed.is_err() {
					return Err(Error::Stopping);
				},
				_ = self.terms.stopping.changed() => (),
				() = sleep_until(self.terms.deadline) => {
					let why = "the answer did not come in the time for which a reply is kept open";
					let talk = self.talk.borrow();
					return Err(unanswered(&talk, "reply_timeout", StatusCode::GATEWAY_TIMEOUT, why));
				}
			}
		}
	}
}

fn unanswered(talk: &Talk, code: &'static str, status: StatusCode, why: &str) -> Error {
	let why = match talk.number {
		Some(number) => format!("question {number} of channel {}: {why}", talk.channel),
		None => why.into(),
	};
	Error::Unanswered {
		code,
		why,
		status,
		consilience: Box::new(consilience_of_talk(talk)),
	}
}

/// Returns what a question's progress means for a call.
fn look(
	talk: &Talk,
	(attempt, shown, seen): &mut (u32, usize, Seen),
	streams: bool,
	own: Own,
	model: &str,
) -> Option<News> {
	let gateway = StatusCode::BAD_GATEWAY;
	if *attempt != talk.attempt {
		if *shown > 0 {
			let why = talk.replaced.as_deref().unwrap_or_default();
			let why = format!("the answer that was shown is none, and another is asked for: {why}");
			return Some(News::Failed(unanswered(
				talk,
				"answer_replaced",
				gateway,
				&why,
			)));
		}
		*attempt = talk.attempt;
	}
	let new = talk.text.get(*shown..).unwrap_or_default();
	if streams && !new.is_empty() {
		*shown = talk.text.len();
		return Some(News::Text {
			text: new.into(),
			consilience: consilience_of_talk(talk),
		});
	}
	match &talk.end {
		None => (),
		Some(End::Said { outcome, .. }) if outcome.status == Status::Refuted => {
			let why = "a checker found that the model does not say this: do not rely on it";
			return Some(News::Failed(unanswered(talk, "refuted", gateway, why)));
		}
		Some(End::Said { outcome, .. }) => return Some(reached(talk, outcome)),
		Some(End::Refused(refusal)) => {
			return Some(News::Failed(Error::refusal(refusal.clone(), model)))
		}
		Some(End::Broken { broke, why, .. }) => {
			let code = match broke {
				Broke::NoAnswer => "no_answer",
				Broke::Interrupted => "interrupted",
			};
			return Some(News::Failed(unanswered(talk, code, gateway, why)));
		}
		Some(End::Settled(_) | End::Forgotten) => {
			let why = "the wallet of its channel is not here any more";
			return Some(News::Failed(unanswered(
				talk,
				"request_forgotten",
				gateway,
				why,
			)));
		}
	}
	if let (Some(outcome), Wait::Provisional) = (&talk.outcome, own.wait) {
		return Some(reached(talk, outcome));
	}
	let now = Seen {
		number: talk.number,
		answered: talk.outcome.is_some(),
		checkers: talk.checkers.len(),
	};
	(own.steps && *seen != now).then(|| {
		*seen = now;
		News::Stepped(consilience_of_talk(talk))
	})
}

fn reached(talk: &Talk, outcome: &Outcome) -> News {
	News::Reached(Box::new(Said {
		text: outcome.text.clone(),
		tokens: outcome.tokens,
		finish: outcome.finish.unwrap_or(Finish::Length),
		consilience: consilience_of_talk(talk),
	}))
}
