//! Prometheus metrics, named `consilience_*`.

use consilience_engine::{Statistics, TextStatistics};
use consilience_primitives::request::Unanswerable;
use polkadot_sdk::substrate_prometheus_endpoint::{
	register, Counter, CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, Opts,
	PrometheusError, Registry, F64, U64,
};

/// Outcomes of a run or a measurement.
const OUTCOMES: [&str; 16] = [
	"done",
	"busy",
	"cancelled",
	"data",
	"differs",
	"gone",
	"input",
	"library",
	"limit",
	"load",
	"mismatch",
	"not_loaded",
	"output",
	"run",
	"too_long",
	"unanswerable",
];

/// Kinds of statements.
const STATEMENTS: [&str; 8] = [
	"answer",
	"commit",
	"commit_output",
	"differ",
	"reveal",
	"reveal_output",
	"serve",
	"withdraw",
];

#[derive(Clone)]
struct Inner {
	jobs: CounterVec<U64>,
	seconds: HistogramVec,
	unanswerable: CounterVec<U64>,
	queue: Gauge<U64>,
	statements: CounterVec<U64>,
	reports: CounterVec<U64>,
	restarts: Counter<U64>,
	validating: Gauge<U64>,
	duties: Gauge<U64>,
	accused: Gauge<U64>,
	serving: Gauge<U64>,
	journal_failures: Counter<U64>,
	journal_open: Gauge<U64>,
	engine: Engine,
}

/// What the engine says of itself.
#[derive(Clone)]
struct Engine {
	in_memory: Gauge<U64>,
	bytes: Gauge<U64>,
	loads: Counter<U64>,
	load_seconds: Counter<F64>,
	/// By model.
	waiting: GaugeVec<U64>,
	writing: GaugeVec<U64>,
	paused: GaugeVec<U64>,
	steps: CounterVec<U64>,
	first_tokens: CounterVec<U64>,
	first_token_seconds: CounterVec<F64>,
	prefix_hits: CounterVec<U64>,
	reused_tokens: CounterVec<U64>,
	/// By model and kind of work.
	tokens: CounterVec<U64>,
	seconds: CounterVec<F64>,
}

impl Engine {
	fn register(registry: &Registry) -> Result<Self, PrometheusError> {
		let model = &["model"];
		let both = &["model", "kind"];
		let opts = |name: &str, help: &str| Opts::new(format!("consilience_engine_{name}"), help);
		Ok(Self {
			in_memory: register(
				Gauge::with_opts(opts("models_in_memory", "Models in the engine's memory"))?,
				registry,
			)?,
			bytes: register(
				Gauge::with_opts(opts("models_bytes", "Bytes of their files"))?,
				registry,
			)?,
			loads: register(
				Counter::with_opts(opts("loads_total", "Models brought into memory"))?,
				registry,
			)?,
			load_seconds: register(
				Counter::with_opts(opts("load_seconds_total", "Time that this took"))?,
				registry,
			)?,
			waiting: register(
				GaugeVec::new(opts("texts_waiting", "Texts that wait to be fed"), model)?,
				registry,
			)?,
			writing: register(
				GaugeVec::new(opts("answers_writing", "Answers that are being written"), model)?,
				registry,
			)?,
			paused: register(
				GaugeVec::new(
					opts("answers_paused", "Streamed answers of which no more may be written yet"),
					model,
				)?,
				registry,
			)?,
			steps: register(
				CounterVec::new(
					opts(
						"steps_total",
						"Steps in which answers got tokens; answer tokens over steps is the size of a batch",
					),
					model,
				)?,
				registry,
			)?,
			first_tokens: register(
				CounterVec::new(opts("first_tokens_total", "First tokens of answers"), model)?,
				registry,
			)?,
			first_token_seconds: register(
				CounterVec::new(
					opts(
						"first_token_seconds_total",
						"Sum of the times from an input's arrival to its answer's first token",
					),
					model,
				)?,
				registry,
			)?,
			prefix_hits: register(
				CounterVec::new(
					opts(
						"prefix_hits_total",
						"Texts whose beginning had been computed for others",
					),
					model,
				)?,
				registry,
			)?,
			reused_tokens: register(
				CounterVec::new(
					opts(
						"reused_tokens_total",
						"Tokens of these beginnings, which were not fed again",
					),
					model,
				)?,
				registry,
			)?,
			tokens: register(
				CounterVec::new(
					opts("tokens_total", "Tokens written (answer) or fed (prompt, check)"),
					both,
				)?,
				registry,
			)?,
			seconds: register(
				CounterVec::new(opts("seconds_total", "Time in which this was done"), both)?,
				registry,
			)?,
		})
	}

	fn count(&self, before: &Statistics, now: &Statistics) {
		let seconds = |before: u64, now: u64| now.saturating_sub(before) as f64 / 1e6;
		self.in_memory.set(now.in_memory.into());
		self.bytes.set(now.bytes);
		self.loads.inc_by(now.loads.saturating_sub(before.loads));
		self.load_seconds
			.inc_by(seconds(before.load_time, now.load_time));
		for (id, now) in &now.texts {
			let before = before.texts.iter().find(|(of, _)| of == id);
			let before = before.map_or_else(TextStatistics::default, |(_, text)| *text);
			let id = format!("{id:?}");
			let of = &[&id[..]];
			self.waiting.with_label_values(of).set(now.waiting.into());
			self.writing.with_label_values(of).set(now.writing.into());
			self.paused.with_label_values(of).set(now.paused.into());
			self.steps
				.with_label_values(of)
				.inc_by(now.steps.saturating_sub(before.steps));
			self.first_tokens
				.with_label_values(of)
				.inc_by(now.first_tokens.saturating_sub(before.first_tokens));
			self.first_token_seconds
				.with_label_values(of)
				.inc_by(seconds(before.first_token_time, now.first_token_time));
			self.prefix_hits
				.with_label_values(of)
				.inc_by(now.reuses.saturating_sub(before.reuses));
			self.reused_tokens
				.with_label_values(of)
				.inc_by(now.reused_tokens.saturating_sub(before.reused_tokens));
			for (kind, tokens, time) in [
				(
					"answer",
					(before.answer_tokens, now.answer_tokens),
					(before.answer_time, now.answer_time),
				),
				(
					"prompt",
					(before.prompt_tokens, now.prompt_tokens),
					(before.prompt_time, now.prompt_time),
				),
				(
					"check",
					(before.check_tokens, now.check_tokens),
					(before.check_time, now.check_time),
				),
			] {
				let of = &[&id[..], kind];
				self.tokens
					.with_label_values(of)
					.inc_by(tokens.1.saturating_sub(tokens.0));
				self.seconds
					.with_label_values(of)
					.inc_by(seconds(time.0, time.1));
			}
		}
	}
}

/// All reasons for which an input has no answer.
const CODES: [Unanswerable; 6] = [
	Unanswerable::TemplateRefused,
	Unanswerable::PromptTooLong,
	Unanswerable::GraphRefused,
	Unanswerable::NotFinite,
	Unanswerable::OutputTooLarge,
	Unanswerable::ConstraintRefused,
];

const fn code(reason: Unanswerable) -> &'static str {
	match reason {
		Unanswerable::TemplateRefused => "template_refused",
		Unanswerable::PromptTooLong => "prompt_too_long",
		Unanswerable::GraphRefused => "graph_refused",
		Unanswerable::NotFinite => "not_finite",
		Unanswerable::OutputTooLarge => "output_too_large",
		Unanswerable::ConstraintRefused => "constraint_refused",
	}
}

/// How the chain sees a validator of the session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
	/// Models that it serves.
	pub(crate) serving: usize,
	/// What is due from it.
	pub(crate) duties: usize,
	/// Requests in which it is accused of a lie.
	pub(crate) accused: usize,
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
		// Each value begins at nought: of a series that appears with its first event nobody sees that event.
		let counters = |name, help, label, values: &[&str]| {
			let counter = register(CounterVec::new(Opts::new(name, help), &[label])?, registry)?;
			for value in values {
				counter.with_label_values(&[*value]);
			}
			Ok::<CounterVec<U64>, PrometheusError>(counter)
		};
		let inner = Inner {
			jobs: counters(
				"consilience_jobs_total",
				"Runs and measurements by outcome (done, or the error's kind)",
				"outcome",
				&OUTCOMES,
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
			unanswerable: counters(
				"consilience_unanswerable_total",
				"Inputs that were found to have no answer, as executor or member, by the reason's code",
				"code",
				&CODES.map(code),
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
				&STATEMENTS,
			)?,
			reports: counters(
				"consilience_reports_total",
				"Reports by outcome (submitted, refused, failed)",
				"outcome",
				&["submitted", "refused", "failed"],
			)?,
			restarts: register(
				Counter::new(
					"consilience_engine_restarts_total",
					"Ends of the engine process",
				)?,
				registry,
			)?,
			validating: register(
				Gauge::new(
					"consilience_validating",
					"Whether a key of this node is in the session",
				)?,
				registry,
			)?,
			duties: register(
				Gauge::new(
					"consilience_duties",
					"Answers, commitments and reveals that are due from this validator",
				)?,
				registry,
			)?,
			accused: register(
				Gauge::new(
					"consilience_accused",
					"Requests in which a jury accuses this validator of a lie, and that can be contested",
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
			journal_failures: register(
				Counter::new(
					"consilience_journal_failures_total",
					"Errors after which the journal was closed, to be opened again",
				)?,
				registry,
			)?,
			journal_open: register(
				Gauge::new("consilience_journal_open", "Whether the journal is open")?,
				registry,
			)?,
			engine: Engine::register(registry)?,
		};
		for kind in ["answer", "measure"] {
			inner.seconds.with_label_values(&[kind]);
		}
		Ok(Self(Some(inner)))
	}

	pub(crate) fn job(&self, kind: &str, outcome: &str, seconds: f64) {
		if let Some(m) = &self.0 {
			m.jobs.with_label_values(&[outcome]).inc();
			m.seconds.with_label_values(&[kind]).observe(seconds);
		}
	}

	pub(crate) fn unanswerable(&self, reason: Unanswerable) {
		if let Some(m) = &self.0 {
			m.unanswerable.with_label_values(&[code(reason)]).inc();
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

	pub(crate) fn journal_failure(&self) {
		if let Some(m) = &self.0 {
			m.journal_failures.inc();
		}
	}

	pub(crate) fn journal_open(&self, open: bool) {
		if let Some(m) = &self.0 {
			m.journal_open.set(open.into());
		}
	}

	#[cfg(test)]
	pub(crate) fn journal_failures(&self) -> u64 {
		self.0.as_ref().map_or(0, |m| m.journal_failures.get())
	}

	pub(crate) fn engine_restart(&self) {
		if let Some(m) = &self.0 {
			m.restarts.inc();
		}
	}

	/// What one engine process has done, before and now.
	pub(crate) fn engine(&self, before: &Statistics, now: &Statistics) {
		if let Some(m) = &self.0 {
			m.engine.count(before, now);
		}
	}

	/// How the chain sees this validator; `None` while no key of this node is in the session.
	pub(crate) fn standing(&self, standing: Option<Standing>) {
		if let Some(m) = &self.0 {
			m.validating.set(standing.is_some().into());
			let now = standing.unwrap_or_default();
			m.serving.set(now.serving as u64);
			m.duties.set(now.duties as u64);
			m.accused.set(now.accused as u64);
		}
	}
}

#[cfg(test)]
mod tests {
	use consilience_primitives::ModelId;

	use super::*;

	fn statistics(tokens: u64) -> Statistics {
		let text = TextStatistics {
			waiting: 3,
			answer_tokens: tokens,
			answer_time: tokens * 500_000,
			..Default::default()
		};
		Statistics {
			loads: 1,
			texts: vec![(ModelId::repeat_byte(1), text)],
			..Default::default()
		}
	}

	#[test]
	fn what_may_happen_stands_there_before_it_does() {
		let registry = Registry::new();
		Metrics::register(Some(&registry)).unwrap();
		let families = registry.gather();
		let series = |name: &str| {
			let family = families.iter().find(|family| family.get_name() == name);
			family.map_or(0, |family| family.get_metric().len())
		};
		assert_eq!(series("consilience_jobs_total"), OUTCOMES.len());
		assert_eq!(series("consilience_unanswerable_total"), CODES.len());
		assert_eq!(series("consilience_statements_total"), STATEMENTS.len());
		assert_eq!(series("consilience_reports_total"), 3);
		assert_eq!(series("consilience_job_seconds"), 2);
	}

	#[test]
	fn whoever_leaves_the_session_has_no_duties() {
		let registry = Registry::new();
		let metrics = Metrics::register(Some(&registry)).unwrap();
		let inner = metrics.0.as_ref().unwrap();
		let now = || {
			[
				&inner.validating,
				&inner.serving,
				&inner.duties,
				&inner.accused,
			]
			.map(Gauge::get)
		};
		metrics.standing(Some(Standing {
			serving: 2,
			duties: 3,
			accused: 1,
		}));
		assert_eq!(now(), [1, 2, 3, 1]);
		metrics.standing(None);
		assert_eq!(now(), [0; 4]);
	}

	#[test]
	fn what_engine_processes_did_adds_up() {
		let registry = Registry::new();
		let metrics = Metrics::register(Some(&registry)).unwrap();
		metrics.engine(&Statistics::default(), &statistics(10));
		metrics.engine(&statistics(10), &statistics(14));
		// Another process begins at nothing.
		metrics.engine(&Statistics::default(), &statistics(6));
		let engine = &metrics.0.as_ref().unwrap().engine;
		let model = format!("{:?}", ModelId::repeat_byte(1));
		let answer = &[&model[..], "answer"];
		assert_eq!(engine.tokens.with_label_values(answer).get(), 20);
		assert_eq!(engine.seconds.with_label_values(answer).get(), 10.0);
		assert_eq!(engine.waiting.with_label_values(&[&model]).get(), 3);
		assert_eq!(engine.loads.get(), 2);
	}
}
