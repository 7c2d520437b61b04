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

/// Seconds that the last requests of a model took.
#[derive(Default)]
struct Times {
	provisional: VecDeque<f64>,
	settled: VecDeque<f64>,
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
	pub(crate) open: IntGauge,
	provisional: HistogramVec,
	settled: HistogramVec,
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
		let seconds = |n: &str, help: &str| {
			let buckets = exponential_buckets(1.0, 1.5, 18)?;
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
			open: IntGauge::new(name("requests_open"), "Requests on chain that are not settled")?,
			provisional: seconds(
				"provisional_seconds",
				"Seconds from a call to its answer in a block, not checked",
			)?,
			settled: seconds(
				"final_seconds",
				"Seconds from a call to its answer being Final in a finalised block",
			)?,
			ended: counter(
				"requests_ended_total",
				"Requests on chain by how they ended",
				&["state"],
			)?,
			units: counter(
				"units_total",
				"Input and output units (bytes and tokens of text) of answers that are Final, by direction",
				&["model", "direction"],
			)?,
			spent: CounterVec::new(
				Opts::new(name("spent_csl_total"), "CSL paid for requests that were settled"),
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
		for counter in [&m.requests, &m.ended, &m.units, &m.outages] {
			m.registry.register(Box::new(counter.clone()))?;
		}
		for gauge in [&m.calls, &m.open] {
			m.registry.register(Box::new(gauge.clone()))?;
		}
		for histogram in [&m.provisional, &m.settled] {
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

	/// Returns what was measured of a model; `None` where nothing was.
	pub(crate) fn measured(&self, model: &str) -> Option<Measured> {
		self.times().get(model).map(|times| Measured {
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
