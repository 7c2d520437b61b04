//! Prometheus metrics.

use polkadot_sdk::substrate_prometheus_endpoint::{
	register, Counter, Opts, PrometheusError, Registry, U64,
};

#[derive(Clone)]
struct Counters {
	fetched: Counter<U64>,
	discarded: Counter<U64>,
	copied: Counter<U64>,
	given: Counter<U64>,
}

/// What travelled. Without a registry nothing is counted.
#[derive(Clone, Default)]
pub(crate) struct Metrics(Option<Counters>);

impl Metrics {
	pub(crate) fn register(registry: Option<&Registry>) -> Result<Self, PrometheusError> {
		let Some(registry) = registry else {
			return Ok(Self(None));
		};
		let counter = |name: &str, help: &str| {
			let opts = Opts::new(format!("consilience_models_{name}_bytes_total"), help);
			register(Counter::with_opts(opts)?, registry)
		};
		Ok(Self(Some(Counters {
			fetched: counter(
				"fetched",
				"Bytes of models that other nodes gave and that were right",
			)?,
			discarded: counter(
				"discarded",
				"Bytes of models that other nodes gave and that were wrong",
			)?,
			copied: counter(
				"copied",
				"Bytes of models that were found in other models of the store",
			)?,
			given: counter("given", "Bytes of models that were given to other nodes")?,
		})))
	}

	fn add(&self, counter: impl Fn(&Counters) -> &Counter<U64>, bytes: u64) {
		if let Some(counters) = &self.0 {
			counter(counters).inc_by(bytes);
		}
	}

	pub(crate) fn fetched(&self, bytes: u64) {
		self.add(|c| &c.fetched, bytes);
	}

	pub(crate) fn discarded(&self, bytes: u64) {
		self.add(|c| &c.discarded, bytes);
	}

	pub(crate) fn copied(&self, bytes: u64) {
		self.add(|c| &c.copied, bytes);
	}

	pub(crate) fn gave(&self, bytes: u64) {
		self.add(|c| &c.given, bytes);
	}
}
