//! Replies as server-sent events.
//!
//! A stream begins when the request is on chain, or a validator is asked: what is refused before has a status of its own. It ends cleanly
//! only with what the call waited for; anything else is an error event, and none of the interface's own ends.

use std::{convert::Infallible, sync::Arc};

use axum::{
	body::{Body, Bytes},
	http::{header, HeaderValue},
	response::Response,
};
use futures::stream;
use serde_json::Value;
use tokio::time::{interval_at, Instant, Interval, MissedTickBehavior};

use crate::{
	app::App,
	error::Error,
	watch::{Following, News, Said},
};

/// What an interface says at each point of a stream.
pub(crate) trait Script: Send + 'static {
	/// When the request is on chain, or a validator was asked.
	fn begin(&mut self) -> String;
	/// When there is more of the answer: on chain all at once. Nothing is sent of what may turn out to be something else than text.
	fn text(&mut self, text: &str, consilience: Value) -> String;
	/// When something else changes, where the call asks for that.
	fn stepped(&mut self, _consilience: Value) -> String {
		String::new()
	}
	/// When what the call waits for is reached: the end.
	fn reached(&mut self, said: Said) -> String;
	/// When it will not be.
	fn failed(&mut self, error: &Error) -> String;
	/// While nothing happens.
	fn ping(&self) -> &'static str {
		": waiting\n\n"
	}
}

/// Returns an event without a name.
pub(crate) fn data(value: &Value) -> String {
	format!("data: {value}\n\n")
}

/// Returns an event with a name.
pub(crate) fn event(name: &str, value: &Value) -> String {
	format!("event: {name}\ndata: {value}\n\n")
}

/// Marks a reply whose outcome is counted when its stream ends.
#[derive(Clone)]
pub(crate) struct Streams(pub(crate) Arc<std::sync::Mutex<Option<Outcome>>>);

/// Counts how a stream ended; one that is dropped before has lost its client.
pub(crate) struct Outcome {
	pub(crate) app: App,
	pub(crate) endpoint: String,
	pub(crate) outcome: &'static str,
}

impl Drop for Outcome {
	fn drop(&mut self) {
		let labels = [self.endpoint.as_str(), self.outcome];
		self.app.metrics.requests.with_label_values(&labels).inc();
	}
}

struct State<S> {
	following: Following,
	script: S,
	ping: Interval,
	begun: bool,
	ended: bool,
	outcome: Streams,
}

/// Returns the reply.
pub(crate) fn reply(app: &App, following: Following, script: impl Script) -> Response {
	let mut ping = interval_at(Instant::now() + app.config.ping, app.config.ping);
	ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
	let streams = Streams(Arc::default());
	let state = State {
		following,
		script,
		ping,
		begun: false,
		ended: false,
		outcome: streams.clone(),
	};
	let events = stream::unfold(state, |mut state| async move {
		if state.ended {
			return None;
		}
		if !state.begun {
			state.begun = true;
			let text = state.script.begin();
			return Some((Ok::<_, Infallible>(Bytes::from(text)), state));
		}
		loop {
			let text = tokio::select! {
				news = state.following.next() => match news {
					News::Text { text, consilience } => state.script.text(&text, consilience),
					News::Stepped(consilience) => state.script.stepped(consilience),
					News::Reached(said) => {
						state.end("ok");
						state.script.reached(*said)
					}
					News::Failed(error) => {
						state.end(error.code());
						state.script.failed(&error)
					}
				},
				_ = state.ping.tick() => state.script.ping().into(),
			};
			if !text.is_empty() {
				return Some((Ok(Bytes::from(text)), state));
			}
		}
	});
	let mut response = Response::new(Body::from_stream(events));
	let headers = response.headers_mut();
	headers.insert(
		header::CONTENT_TYPE,
		HeaderValue::from_static("text/event-stream; charset=utf-8"),
	);
	headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
	// Proxies that gather replies would hold pings back.
	headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
	response.extensions_mut().insert(streams);
	response
}

impl<S> State<S> {
	fn end(&mut self, outcome: &'static str) {
		self.ended = true;
		// Nothing panics while it is held.
		let mut held = self.outcome.0.lock().unwrap_or_else(|e| e.into_inner());
		if let Some(held) = held.as_mut() {
			held.outcome = outcome;
		}
		// Dropped with the stream, which has ended.
		*held = None;
	}
}
