//! A call that waits.

use axum::http::StatusCode;
use tokio::{
	sync::watch,
	time::{sleep_until, Instant},
};

use crate::{
	error::Error,
	fields::Own,
	jobs::{Job, Progress},
	journal::End,
	metrics::Metrics,
	network::{Answer, Finish, State, Step},
	openai::said,
	status::{consilience, status, Wait},
	talk::Listener,
};

/// The text of an answer, and what a reply says of it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
	/// The text.
	pub(crate) text: String,
	/// How many tokens it has.
	pub(crate) tokens: u32,
	/// Why it ended.
	pub(crate) finish: Finish,
	/// The object `consilience`.
	pub(crate) consilience: serde_json::Value,
}

/// What happens while a call waits for text, whichever lane it goes.
#[derive(Clone, Debug)]
pub(crate) enum News {
	/// More of the text. It may not be what the call waits for.
	Text {
		/// The text.
		text: String,
		/// The object `consilience` beside it.
		consilience: serde_json::Value,
	},
	/// Something else changed: the object `consilience`. Told only where the call asks for it.
	Stepped(serde_json::Value),
	/// What the call waits for.
	Reached(Box<Said>),
	/// It will not come, or not on this call.
	Failed(Error),
}

/// What a call waits for, and for how long.
pub(crate) struct Terms {
	pub(crate) metrics: Metrics,
	/// Name of the model, for errors.
	pub(crate) model: String,
	pub(crate) own: Own,
	/// When the reply is closed.
	pub(crate) deadline: Instant,
	/// How long a node may be away.
	pub(crate) patience: std::time::Duration,
	pub(crate) stopping: watch::Receiver<bool>,
}

/// A call that waits for text.
pub(crate) enum Following {
	/// From a request on chain.
	Chain(Box<Watcher>),
	/// From a question of the session lane.
	Lane(Box<Listener>),
}

impl Following {
	/// Returns what the call follows.
	pub(crate) fn job(&self) -> Job {
		match self {
			Self::Chain(watcher) => watcher.job,
			Self::Lane(listener) => listener.job,
		}
	}

	/// Waits until the request is on chain, or a validator is asked; in the session lane no longer than `patience`.
	pub(crate) async fn begun(
		&mut self,
		patience: Option<std::time::Duration>,
	) -> Result<(), Error> {
		match self {
			Self::Chain(watcher) => watcher.submitted().await,
			Self::Lane(listener) => listener.begun(patience).await,
		}
	}

	/// Waits for what the call waits for.
	pub(crate) async fn reached(&mut self) -> Result<Said, Error> {
		match self {
			Self::Chain(watcher) => said(&watcher.reached().await?),
			Self::Lane(listener) => listener.reached().await,
		}
	}

	/// Returns what happens next. After [`News::Reached`] or [`News::Failed`] nothing does.
	pub(crate) async fn next(&mut self) -> News {
		let watcher = match self {
			Self::Chain(watcher) => watcher,
			Self::Lane(listener) => return listener.next().await,
		};
		let said = match watcher.next().await {
			Happening::Stepped(step) => return News::Stepped(consilience(&step)),
			Happening::Failed(e) => return News::Failed(e),
			Happening::Answered(step) => said(&step).map(|said| News::Text {
				text: said.text,
				consilience: said.consilience,
			}),
			Happening::Reached(step) => said(&step).map(|said| News::Reached(Box::new(said))),
		};
		said.unwrap_or_else(News::Failed)
	}
}

/// What happens while a call waits for a request on chain.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
	/// The answer is there for the first time. It may not be what the call waits for.
	Answered(Box<Step>),
	/// Something else changed. Told only where the call asks for it.
	Stepped(Box<Step>),
	/// What the call waits for.
	Reached(Box<Step>),
	/// It will not come, or not on this call.
	Failed(Error),
}

/// A call that waits for a request on chain.
pub(crate) struct Watcher {
	pub(crate) job: Job,
	progress: watch::Receiver<Progress>,
	terms: Terms,
	/// The answer that was told of.
	told: Option<Answer>,
	/// The step that was told of last.
	last: Option<Step>,
}

impl Watcher {
	pub(crate) fn new(job: Job, progress: watch::Receiver<Progress>, terms: Terms) -> Self {
		Self {
			job,
			progress,
			terms,
			told: None,
			last: None,
		}
	}

	/// Waits until the request is on chain, or there will be none.
	pub(crate) async fn submitted(&mut self) -> Result<(), Error> {
		self.until(|p, model| match (&p.end, p.request) {
			(Some(End::Refused(refusal)), _) => Some(Err(Error::refusal(refusal.clone(), model))),
			(_, Some(_)) | (Some(_), _) => Some(Ok(())),
			(None, None) => None,
		})
		.await
		.and_then(|done| done)
	}

	/// Waits for what the call waits for.
	pub(crate) async fn reached(&mut self) -> Result<Step, Error> {
		loop {
			match self.next().await {
				Happening::Answered(_) | Happening::Stepped(_) => (),
				Happening::Reached(step) => return Ok(*step),
				Happening::Failed(e) => return Err(e),
			}
		}
	}

	/// Returns what happens next. After [`Happening::Reached`] or [`Happening::Failed`] nothing does.
	pub(crate) async fn next(&mut self) -> Happening {
		let (wait, told) = (self.terms.own.wait, self.told.clone());
		let (steps, last) = (self.terms.own.steps, self.last.clone());
		let next = self
			.until(|p, model| {
				look(p, model, wait, told.as_ref())
					.or_else(|| steps.then(|| stepped(p, last.as_ref())).flatten())
			})
			.await;
		let happening = next.unwrap_or_else(Happening::Failed);
		if let Happening::Reached(step) = &happening {
			self.terms.metrics.answer("direct", status(step));
		}
		if let Happening::Answered(step) = &happening {
			self.told = step.answer.clone();
		}
		if let Happening::Answered(step) | Happening::Stepped(step) = &happening {
			self.last = Some((**step).clone());
		}
		happening
	}

	async fn until<T>(
		&mut self,
		mut look: impl FnMut(&Progress, &str) -> Option<T>,
	) -> Result<T, Error> {
		loop {
			let (request, trouble) = {
				let progress = self.progress.borrow_and_update();
				if let Some(found) = look(&progress, &self.terms.model) {
					return Ok(found);
				}
				(progress.request, progress.trouble.clone())
			};
			if *self.terms.stopping.borrow() {
				return Err(Error::Stopping);
			}
			let given_up = trouble
				.as_ref()
				.map(|(since, _)| *since + self.terms.patience);
			tokio::select! {
				changed = self.progress.changed() => if changed.is_err() {
					return Err(Error::Lost(request.unwrap_or_default()));
				},
				_ = self.terms.stopping.changed() => (),
				() = sleep_until(self.terms.deadline) => return Err(match request {
					Some(request) => Error::Late(request),
					None => Error::Uncertain("it took too long".into()),
				}),
				() = sleep_until(given_up.unwrap_or(self.terms.deadline)), if given_up.is_some() => {
					let why = trouble.map_or_else(String::new, |(_, why)| why);
					return Err(match request {
						Some(request) => Error::Outage { request, why },
						None => Error::Uncertain(why),
					});
				}
			}
		}
	}
}

/// Where a request stands. What is finalised counts more, once it is settled there; before that the best chain is ahead.
fn newest(progress: &Progress) -> Option<&Step> {
	let finalized = progress.finalized.as_ref();
	finalized
		.filter(|step| step.state.is_settled())
		.or(progress.best.as_ref())
		.or(finalized)
}

/// A change that a call did not hear of yet, whatever it waits for.
fn stepped(progress: &Progress, last: Option<&Step>) -> Option<Happening> {
	let step = newest(progress)?;
	let is_news = last.is_none_or(|last| {
		(last.state, last.finalized) != (step.state, step.finalized)
			|| last.executor != step.executor
			|| last.verifiers != step.verifiers
			|| last.jurors != step.jurors
	});
	is_news.then(|| Happening::Stepped(Box::new(step.clone())))
}

/// Returns what a request's progress means for a call.
fn look(progress: &Progress, model: &str, wait: Wait, told: Option<&Answer>) -> Option<Happening> {
	if let Some(End::Refused(refusal)) = &progress.end {
		return Some(Happening::Failed(Error::refusal(refusal.clone(), model)));
	}
	let Some(step) = newest(progress) else {
		let forgotten = matches!(progress.end, Some(End::Forgotten));
		return forgotten
			.then(|| Happening::Failed(Error::Lost(progress.request.unwrap_or_default())));
	};
	if step.state.is_settled() && step.state != State::Final {
		// A fork may still undo it: whoever waits for what is final is not told before.
		if wait == Wait::Final && !step.finalized {
			return None;
		}
		return Some(Happening::Failed(failure(step)));
	}
	if let Some(answer @ (Answer::Text { .. } | Answer::Tensors { .. })) = &step.answer {
		match told {
			None => return Some(Happening::Answered(Box::new(step.clone()))),
			Some(told) if told != answer => {
				return Some(Happening::Failed(Error::Failed {
					request: step.request,
					code: "answer_replaced",
					why: "has another answer than was shown: the one that was, not checked yet, was replaced".into(),
					status: StatusCode::BAD_GATEWAY,
					consilience: Box::new(consilience(step)),
				}))
			}
			Some(_) => (),
		}
	}
	if wait.is_reached(step) {
		return Some(Happening::Reached(Box::new(step.clone())));
	}
	// Nothing more comes, and what was waited for is not there.
	progress
		.end
		.is_some()
		.then_some(Happening::Failed(Error::Lost(step.request)))
}

/// Returns why a settled request has no answer.
fn failure(step: &Step) -> Error {
	let (code, status, why): (_, _, String) = match (step.state, &step.answer) {
		(State::Unanswerable, Some(Answer::Unanswerable { code, reason })) => {
			let (word, status) = match code.as_str() {
				"prompt_too_long" => ("context_length_exceeded", StatusCode::BAD_REQUEST),
				_ => ("unanswerable", StatusCode::UNPROCESSABLE_ENTITY),
			};
			(word, status, format!("cannot be answered: {reason}"))
		}
		(State::Unanswerable, _) => (
			"unanswerable",
			StatusCode::UNPROCESSABLE_ENTITY,
			"cannot be answered by any honest machine".into(),
		),
		(State::Expired, _) => (
			"expired",
			StatusCode::GATEWAY_TIMEOUT,
			"was not answered and checked in time: nothing was paid".into(),
		),
		(State::Cancelled, _) => (
			"cancelled",
			StatusCode::BAD_GATEWAY,
			"was cancelled by the account that made it: nothing was paid".into(),
		),
		(State::Overturned, _) => (
			"overturned",
			StatusCode::BAD_GATEWAY,
			"was final, and its answer was found false later".into(),
		),
		_ => (
			"rejected",
			StatusCode::BAD_GATEWAY,
			"has no answer that holds: a jury found it wrong or could not decide, and the fee was returned".into(),
		),
	};
	Error::Failed {
		request: step.request,
		code,
		why,
		status,
		consilience: Box::new(consilience(step)),
	}
}
