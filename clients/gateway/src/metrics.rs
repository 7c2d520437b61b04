//! Figures for Prometheus, named `consilience_gateway_*`.

use std::{
	collections::{HashMap, VecDeque},
	sync::{Arc, Mutex, MutexGuard},
};

use prometheus::{
	exponential_buckets, CounterVec, Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
	Opts, Registry, TextEncoder,
};

use crate::network::{Amount, CSL_DECIMALS};

/// Requests of a model of which times are remembered.
const REMEMBERED: usize = 64;
/// Fewest tokens of an answer whose speed is measured.
const FEWEST_TOKENS: u32 = 8;

/// Seconds that the last requests of a model took.
#[derive(Default)]
struct Times {
	provisional: VecDeque<f64>,
	settled: VecDeque<f64>,
	first_token: VecDeque<f64>,
	tokens_per_second: VecDeque<f64>,
}

/// What was measured of a model, over the last requests of this gateway since it started.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measured {
	/// Requests of which the times are.
	pub requests: usize,
	/// Half of the answers were in a block in so many seconds, or fewer.
	pub median_seconds_to_answer: Option<f64>,
	/// Half of them were Final in a finalised block in so many, or fewer.
	pub median_seconds_to_final: Option<f64>,
}

/// What was measured of a model in the session lane, over the last answers of this gateway since it started.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct MeasuredSession {
	/// Answers of which the times are.
	pub answers: usize,
	/// Half of them began in so many seconds after the call, or fewer.
	pub median_seconds_to_first_token: Option<f64>,
	/// Half of them came at so many tokens a second, or fewer.
	pub median_tokens_per_second: Option<f64>,
}

fn median(times: &VecDeque<f64>) -> Option<f64> {
	let mut times: Vec<f64> = times.iter().copied().collect();
	times.sort_by(f64::total_cmp);
	let middle = times.get(times.len().saturating_sub(1) / 2);
	middle.map(|seconds| (seconds * 1_000.0).round() / 1_000.0)
}

fn remember(times: &mut VecDeque<f64>, seconds: f64) {
	if times.len() == REMEMBERED {
		times.pop_front();
	}
	times.push_back(seconds);
}

/// The gateway's figures.
#[derive(Clone)]
pub struct Metrics {
	registry: Registry,
	pub(crate) requests: IntCounterVec,
	pub(crate) calls: IntGauge,
	pub(crate) relays: IntGauge,
	pub(crate) open: IntGauge,
	provisional: HistogramVec,
	settled: HistogramVec,
	first_token: HistogramVec,
	answers: IntCounterVec,
	pub(crate) ended: IntCounterVec,
	pub(crate) units: IntCounterVec,
	pub(crate) spent: CounterVec,
	pub(crate) outages: IntCounterVec,
	times: Arc<Mutex<HashMap<String, Times>>>,
}

impl Metrics {
	/// Registers the figures.
	///
	/// # Errors
	/// If a name is registered twice.
	pub fn new() -> Result<Self, prometheus::Error> {
		let registry = Registry::new();
		let name = |name: &str| format!("consilience_gateway_{name}");
		let seconds = |n: &str, help: &str, least: f64| {
			let buckets = exponential_buckets(least, 1.5, 18)?;
			let options = HistogramOpts::new(name(n), help).buckets(buckets);
			HistogramVec::new(options, &["model"])
		};
		let counter = |n: &str, help: &str, labels: &[&str]| {
			IntCounterVec::new(Opts::new(name(n), help), labels)
		};
		let metrics = Self {
			requests: counter(
				"requests_total",
				"Calls, by endpoint and outcome: ok, an error's code, or hung_up",
				&["endpoint", "outcome"],
			)?,
			calls: IntGauge::new(name("calls_open"), "Calls that are being answered")?,
			relays: IntGauge::new(
				name("relays_open"),
				"Web pages joined to a validator of the session lane",
			)?,
			open: IntGauge::new(name("requests_open"), "Requests on chain that are not settled, and questions that are not at their end")?,
			provisional: seconds(
				"provisional_seconds",
				"Seconds from a call to its answer in a block, not checked",
				1.0,
			)?,
			settled: seconds(
				"final_seconds",
				"Seconds from a call to its answer being Final in a finalised block",
				1.0,
			)?,
			first_token: seconds(
				"first_token_seconds",
				"Seconds from a call to the first text of its answer, in the session lane",
				0.05,
			)?,
			answers: counter(
				"answers_total",
				"Replies with an answer, and those that a checker refuted, by lane and status",
				&["lane", "status"],
			)?,
			ended: counter(
				"requests_ended_total",
				"Requests on chain, and questions of the session lane, by how they ended",
				&["state"],
			)?,
			units: counter(
				"units_total",
				"Input and output units (bytes and tokens of text) of answers that are Final or stand in the session lane, by direction",
				&["model", "direction"],
			)?,
			spent: CounterVec::new(
				Opts::new(name("spent_csl_total"), "CSL paid for requests, or signed away for questions, that have ended"),
				&["key"],
			)?,
			outages: counter(
				"outages_total",
				"Times that a node went away under a request",
				&["during"],
			)?,
			times: Arc::default(),
			registry,
		};
		let m = &metrics;
		for counter in [&m.requests, &m.answers, &m.ended, &m.units, &m.outages] {
			m.registry.register(Box::new(counter.clone()))?;
		}
		for gauge in [&m.calls, &m.relays, &m.open] {
			m.registry.register(Box::new(gauge.clone()))?;
		}
		for histogram in [&m.provisional, &m.settled, &m.first_token] {
			m.registry.register(Box::new(histogram.clone()))?;
		}
		m.registry.register(Box::new(m.spent.clone()))?;
		Ok(metrics)
	}

	fn times(&self) -> MutexGuard<'_, HashMap<String, Times>> {
		// Nothing panics while it is held.
		self.times.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// Counts the time until an answer was in a block.
	pub(crate) fn answered(&self, model: &str, seconds: f64) {
		self.provisional
			.with_label_values(&[model])
			.observe(seconds);
		let mut times = self.times();
		remember(
			&mut times.entry(model.into()).or_default().provisional,
			seconds,
		);
	}

	/// Counts the time until an answer was Final in a finalised block.
	pub(crate) fn settled(&self, model: &str, seconds: f64) {
		self.settled.with_label_values(&[model]).observe(seconds);
		let mut times = self.times();
		remember(&mut times.entry(model.into()).or_default().settled, seconds);
	}

	/// Counts the time until an answer of the session lane began.
	pub(crate) fn first_token(&self, model: &str, seconds: f64) {
		self.first_token
			.with_label_values(&[model])
			.observe(seconds);
		let mut times = self.times();
		remember(
			&mut times.entry(model.into()).or_default().first_token,
			seconds,
		);
	}

	/// Counts how fast an answer came: so many tokens in so many seconds after its first text. A short one says little.
	pub(crate) fn spoke(&self, model: &str, tokens: u32, seconds: f64) {
		if tokens < FEWEST_TOKENS || seconds <= 0.0 {
			return;
		}
		let mut times = self.times();
		remember(
			&mut times.entry(model.into()).or_default().tokens_per_second,
			f64::from(tokens) / seconds,
		);
	}

	/// Counts a reply with an answer.
	pub(crate) fn answer(&self, lane: &str, status: &str) {
		self.answers.with_label_values(&[lane, status]).inc();
	}

	/// Returns what was measured of a model in the session lane; `None` where nothing was.
	pub(crate) fn measured_session(&self, model: &str) -> Option<MeasuredSession> {
		let times = self.times();
		let times = times.get(model).filter(|t| !t.first_token.is_empty())?;
		Some(MeasuredSession {
			answers: times.first_token.len(),
			median_seconds_to_first_token: median(&times.first_token),
			median_tokens_per_second: median(&times.tokens_per_second),
		})
	}

	/// Returns what was measured of a model on chain; `None` where nothing was.
	pub(crate) fn measured(&self, model: &str) -> Option<Measured> {
		let times = self.times();
		let times = times.get(model);
		let times = times.filter(|t| !(t.provisional.is_empty() && t.settled.is_empty()));
		times.map(|times| Measured {
			requests: times.provisional.len(),
			median_seconds_to_answer: median(&times.provisional),
			median_seconds_to_final: median(&times.settled),
		})
	}

	pub(crate) fn spend(&self, key: &str, paid: Amount) {
		let unit = 10f64.powi(CSL_DECIMALS as i32);
		self.spent
			.with_label_values(&[key])
			.inc_by(paid as f64 / unit);
	}

	/// Returns the figures in Prometheus' text format.
	///
	/// # Errors
	/// If they cannot be written.
	pub fn text(&self) -> Result<String, prometheus::Error> {
		let mut text = Vec::new();
		TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
		String::from_utf8(text).map_err(|e| prometheus::Error::Msg(e.to_string()))
	}
}
