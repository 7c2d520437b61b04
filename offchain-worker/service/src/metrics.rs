//! Prometheus metrics, named `consilience_*`.

use polkadot_sdk::substrate_prometheus_endpoint::{
	register, Counter, CounterVec, Gauge, HistogramOpts, HistogramVec, Opts, PrometheusError,
	Registry, U64,
};

#[derive(Clone)]
struct Inner {
	jobs: CounterVec<U64>,
	seconds: HistogramVec,
	queue: Gauge<U64>,
	statements: CounterVec<U64>,
	reports: CounterVec<U64>,
	restarts: Counter<U64>,
	serving: Gauge<U64>,
}

/// The worker's metrics; nothing is counted where the node has no registry.
#[derive(Clone, Default)]
pub struct Metrics(Option<Inner>);

impl Metrics {
	/// Registers the metrics.
	pub fn register(registry: Option<&Registry>) -> Result<Self, PrometheusError> {
		let Some(registry) = registry else {
			return Ok(Self(None));
		};
		let counters = |name, help, label| {
			register(CounterVec::new(Opts::new(name, help), &[label])?, registry)
		};
		Ok(Self(Some(Inner {
			jobs: counters(
				"consilience_jobs_total",
				"Runs and measurements by outcome (done, or the error's kind)",
				"outcome",
			)?,
			seconds: register(
				HistogramVec::new(
					HistogramOpts::new(
						"consilience_job_seconds",
						"Duration of runs and measurements",
					)
					.buckets(vec![0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30., 60., 120.]),
					&["kind"],
				)?,
				registry,
			)?,
			queue: register(
				Gauge::new(
					"consilience_jobs_waiting",
					"Runs and measurements that wait",
				)?,
				registry,
			)?,
			statements: counters(
				"consilience_statements_total",
				"Statements put into reports, by kind",
				"kind",
			)?,
			reports: counters(
				"consilience_reports_total",
				"Reports by outcome (submitted, refused, failed)",
				"outcome",
			)?,
			restarts: register(
				Counter::new(
					"consilience_engine_restarts_total",
					"Ends of the engine process",
				)?,
				registry,
			)?,
			serving: register(
				Gauge::new(
					"consilience_models_serving",
					"Models that this validator serves",
				)?,
				registry,
			)?,
		})))
	}

	pub(crate) fn job(&self, kind: &str, outcome: &str, seconds: f64) {
		if let Some(m) = &self.0 {
			m.jobs.with_label_values(&[outcome]).inc();
			m.seconds.with_label_values(&[kind]).observe(seconds);
		}
	}

	pub(crate) fn waiting(&self, jobs: usize) {
		if let Some(m) = &self.0 {
			m.queue.set(jobs as u64);
		}
	}

	pub(crate) fn statement(&self, kind: &str) {
		if let Some(m) = &self.0 {
			m.statements.with_label_values(&[kind]).inc();
		}
	}

	pub(crate) fn report(&self, outcome: &str) {
		if let Some(m) = &self.0 {
			m.reports.with_label_values(&[outcome]).inc();
		}
	}

	pub(crate) fn engine_restart(&self) {
		if let Some(m) = &self.0 {
			m.restarts.inc();
		}
	}

	pub(crate) fn serving(&self, models: usize) {
		if let Some(m) = &self.0 {
			m.serving.set(models as u64);
		}
	}
}
