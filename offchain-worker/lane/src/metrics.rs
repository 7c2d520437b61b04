//! Prometheus metrics.

use prometheus::{
	register_int_counter_vec_with_registry, register_int_counter_with_registry,
	register_int_gauge_with_registry, Error, IntCounter, IntCounterVec, IntGauge, Registry,
};

use crate::message::Refusal;

#[derive(Clone)]
struct Figures {
	connections: IntGauge,
	waiting: IntGauge,
	invitations: IntCounterVec,
	answers: IntCounterVec,
	tokens: IntCounter,
	paid: IntCounter,
	checks: IntCounterVec,
	refusals: IntCounterVec,
	claims: IntCounterVec,
	openings: IntCounter,
}

/// What goes on in the lane. Without a registry nothing is counted.
#[derive(Clone, Default)]
pub(crate) struct Metrics(Option<Figures>);

/// A connection, until it is dropped.
pub(crate) struct Open(Option<IntGauge>);

impl Drop for Open {
	fn drop(&mut self) {
		if let Some(gauge) = &self.0 {
			gauge.dec();
		}
	}
}

impl Metrics {
	pub(crate) fn register(registry: Option<&Registry>) -> Result<Self, Error> {
		let Some(registry) = registry else {
			return Ok(Self(None));
		};
		let figures = Figures {
			connections: register_int_gauge_with_registry!(
				"consilience_lane_connections",
				"Clients of the session lane that are connected",
				registry
			)?,
			waiting: register_int_gauge_with_registry!(
				"consilience_lane_waiting",
				"Clients of the session lane that wait for a place",
				registry
			)?,
			invitations: register_int_counter_vec_with_registry!(
				"consilience_lane_invitations_total",
				"Places that were kept for clients who waited: taken, and left",
				&["what"],
				registry
			)?,
			answers: register_int_counter_vec_with_registry!(
				"consilience_lane_answers_total",
				"Answers in the session lane, by how they ended",
				&["end"],
				registry
			)?,
			tokens: register_int_counter_with_registry!(
				"consilience_lane_sent_tokens_total",
				"Tokens sent in the session lane",
				registry
			)?,
			paid: register_int_counter_with_registry!(
				"consilience_lane_paid_tokens_total",
				"Tokens that vouchers paid in the session lane",
				registry
			)?,
			checks: register_int_counter_vec_with_registry!(
				"consilience_lane_checks_total",
				"Checks in the session lane: measured, and paid",
				&["what"],
				registry
			)?,
			refusals: register_int_counter_vec_with_registry!(
				"consilience_lane_refusals_total",
				"What the session lane refused, by reason",
				&["why"],
				registry
			)?,
			claims: register_int_counter_vec_with_registry!(
				"consilience_lane_claims_total",
				"Claims of the session lane: submitted, taken by finalised state, and lost",
				&["what"],
				registry
			)?,
			openings: register_int_counter_with_registry!(
				"consilience_lane_openings_total",
				"Receipts of the session lane that were opened on chain",
				registry
			)?,
		};
		// Each value begins at nought: of a series that appears with its first event nobody sees that event.
		let begin = |counter: &IntCounterVec, values: &[&str]| {
			for value in values {
				counter.with_label_values(&[*value]);
			}
		};
		begin(&figures.invitations, &["taken", "left"]);
		begin(&figures.answers, &ENDS);
		begin(&figures.checks, &["measured", "paid"]);
		begin(&figures.claims, &["submitted", "taken", "lost"]);
		begin(&figures.refusals, &REFUSALS.map(label));
		Ok(Self(Some(figures)))
	}

	pub(crate) fn connection(&self) -> Open {
		let gauge = self.0.as_ref().map(|f| f.connections.clone());
		gauge.iter().for_each(IntGauge::inc);
		Open(gauge)
	}

	/// So many wait.
	pub(crate) fn waiting(&self, count: usize) {
		self.with(|f| f.waiting.set(i64::try_from(count).unwrap_or(i64::MAX)));
	}

	pub(crate) fn invited(&self, what: &str) {
		self.with(|f| f.invitations.with_label_values(&[what]).inc());
	}

	pub(crate) fn answered(&self, end: &str) {
		self.with(|f| f.answers.with_label_values(&[end]).inc());
	}

	pub(crate) fn sent(&self, tokens: usize) {
		self.with(|f| f.tokens.inc_by(tokens as u64));
	}

	pub(crate) fn paid(&self, tokens: u32) {
		self.with(|f| f.paid.inc_by(tokens.into()));
	}

	pub(crate) fn check(&self, what: &str) {
		self.with(|f| f.checks.with_label_values(&[what]).inc());
	}

	pub(crate) fn refused(&self, why: Refusal) {
		self.with(|f| f.refusals.with_label_values(&[label(why)]).inc());
	}

	pub(crate) fn claim(&self, what: &str) {
		self.with(|f| f.claims.with_label_values(&[what]).inc());
	}

	pub(crate) fn opened(&self) {
		self.with(|f| f.openings.inc());
	}

	fn with(&self, count: impl FnOnce(&Figures)) {
		if let Some(figures) = &self.0 {
			count(figures);
		}
	}
}

/// How an answer may end.
const ENDS: [&str; 8] = [
	"allotment",
	"cancelled",
	"ended",
	"failed",
	"interrupted",
	"lost",
	"nothing",
	"unpaid",
];

/// Everything for which something may be refused.
const REFUSALS: [Refusal; 14] = [
	Refusal::Malformed,
	Refusal::Incompatible,
	Refusal::Channel,
	Refusal::Voucher,
	Refusal::Number,
	Refusal::Anchor,
	Refusal::Model,
	Refusal::Input,
	Refusal::Busy,
	Refusal::Unanswerable,
	Refusal::Receipt,
	Refusal::Preimage,
	Refusal::Failed,
	Refusal::Unpaid,
];

const fn label(why: Refusal) -> &'static str {
	match why {
		Refusal::Malformed => "malformed",
		Refusal::Incompatible => "incompatible",
		Refusal::Channel => "channel",
		Refusal::Voucher => "voucher",
		Refusal::Number => "number",
		Refusal::Anchor => "anchor",
		Refusal::Model => "model",
		Refusal::Input => "input",
		Refusal::Busy => "busy",
		Refusal::Unanswerable => "unanswerable",
		Refusal::Receipt => "receipt",
		Refusal::Preimage => "preimage",
		Refusal::Failed => "failed",
		Refusal::Unpaid => "unpaid",
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn everything_has_a_name_of_its_own_and_is_counted() {
		let registry = Registry::new();
		let metrics = Metrics::register(Some(&registry)).unwrap();
		let open = metrics.connection();
		metrics.waiting(5);
		metrics.invited("taken");
		metrics.answered("ended");
		metrics.sent(3);
		metrics.paid(2);
		metrics.check("paid");
		metrics.refused(Refusal::Busy);
		metrics.claim("taken");
		metrics.opened();
		let sum = |registry: &Registry| -> f64 {
			let all = registry.gather();
			let values = all.iter().flat_map(|family| family.get_metric());
			values
				.map(|m| m.get_counter().get_value() + m.get_gauge().get_value())
				.sum()
		};
		assert_eq!(sum(&registry), 1.0 + 5.0 + 1.0 + 1.0 + 3.0 + 2.0 + 4.0);
		drop(open);
		assert_eq!(sum(&registry), 16.0);
		assert!(Metrics::register(Some(&registry)).is_err());
	}
}
