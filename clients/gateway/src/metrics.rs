//! Figures for Prometheus, named `consilience_gateway_*`.

use prometheus::{
	exponential_buckets, CounterVec, Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
	Opts, Registry, TextEncoder,
};

use crate::network::{Amount, CSL_DECIMALS};

/// The gateway's figures.
#[derive(Clone)]
pub struct Metrics {
	registry: Registry,
	pub(crate) requests: IntCounterVec,
	pub(crate) calls: IntGauge,
	pub(crate) open: IntGauge,
	pub(crate) provisional: HistogramVec,
	pub(crate) settled: HistogramVec,
	pub(crate) ended: IntCounterVec,
	pub(crate) units: IntCounterVec,
	pub(crate) spent: CounterVec,
	pub(crate) outages: IntCounterVec,
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

	pub(crate) fn spend(&self, key: &str, paid: Amount) {
		let unit = 10f64.powi(CSL_DECIMALS as i32);
		self.spent
			.with_label_values(&[key])
			.inc_by(paid as f64 / unit);
	}

	/// The figures in Prometheus' text format.
	///
	/// # Errors
	/// If they cannot be written.
	pub fn text(&self) -> Result<String, prometheus::Error> {
		let mut text = Vec::new();
		TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
		String::from_utf8(text).map_err(|e| prometheus::Error::Msg(e.to_string()))
	}
}
