//! How far an answer is, in words that promise no more than what holds.
//!
//! | word | the chain's state | block | what it means |
//! |---|---|---|---|
//! | `provisional` | Provisional, Disputed | any | one validator says so; nobody has confirmed it |
//! | `settled` | Final | best | settled and paid; nobody but the executor measured it (a chain with one validator) |
//! | `checked` | Final | best | other validators measured the answer and agree; a fork could still undo the block |
//! | `final` | Final | finalised | as before, and no fork can undo it; `checked` says whether others measured it |
//!
//! In the session lane, which no block of this table speaks of, an answer is `streaming`, `answered`, `checked` or `refuted`
//! ([`crate::lane::Status`]).
//!
//! A request's own states (`requested`, `assigned`, `disputed`, `rejected` and so on) go by the chain's names.

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::{
	network::{Amount, Answer, State, Step},
	talk::Talk,
};

/// What a reply waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
	/// The answer stands in a block, and nobody has checked it.
	Provisional,
	/// The chain has settled it.
	#[default]
	Checked,
	/// The block in which it was settled is finalised.
	Final,
}

impl Wait {
	/// The words.
	pub const WORDS: &str = "streaming (or provisional), checked or final";

	/// Returns what a word means.
	pub fn parse(word: &str) -> Option<Self> {
		match word {
			"provisional" | "streaming" => Some(Self::Provisional),
			"checked" => Some(Self::Checked),
			"final" => Some(Self::Final),
			_ => None,
		}
	}

	/// Returns whether a step is as far as this.
	pub(crate) fn is_reached(self, step: &Step) -> bool {
		let answered = matches!(
			step.answer,
			Some(Answer::Text { .. } | Answer::Tensors { .. })
		);
		answered
			&& match (step.state, self) {
				(State::Provisional | State::Disputed, Self::Provisional) => true,
				(State::Final, Self::Provisional | Self::Checked) => true,
				(State::Final, Self::Final) => step.finalized,
				_ => false,
			}
	}
}

/// Returns whether anybody but the executor measured the answer, and it was settled.
fn is_checked(step: &Step) -> bool {
	matches!(step.state, State::Final | State::Unanswerable)
		&& !(step.verifiers.is_empty() && step.jurors.is_empty())
}

/// Returns the word for how far a request is.
pub(crate) fn status(step: &Step) -> &'static str {
	match step.state {
		State::Requested => "requested",
		State::Assigned => "assigned",
		State::Provisional => "provisional",
		State::Disputed => "disputed",
		State::Final if step.finalized => "final",
		State::Final if is_checked(step) => "checked",
		State::Final => "settled",
		State::Rejected => "rejected",
		State::Expired => "expired",
		State::Cancelled => "cancelled",
		State::Unanswerable => "unanswerable",
		State::Overturned => "overturned",
	}
}

/// Returns what a reply says of the request behind it.
pub(crate) fn consilience(step: &Step) -> Value {
	json!({
		"lane": "direct",
		"request": step.request,
		"status": status(step),
		"checked": is_checked(step),
		"finalized": step.finalized,
		"block": step.block,
		"executor": step.executor,
		"verifiers": step.verifiers,
		"jurors": step.jurors,
		"seed": step.seed,
		"fee": fee(step.escrow, step.paid, step.refunded),
	})
}

/// Returns what a reply says of a question of the session lane.
pub(crate) fn consilience_of_talk(talk: &Talk) -> Value {
	let mut said = json!({
		"lane": "session",
		"channel": talk.channel,
		"number": talk.number,
		"status": talk.status(),
		"checked": false,
		"executor": talk.executor,
	});
	if let Some(outcome) = &talk.outcome {
		let checkers = match talk.end {
			Some(_) => &outcome.checkers,
			None => &talk.checkers,
		};
		said["number"] = outcome.number.into();
		said["checked"] = (talk.status() == "checked").into();
		said["right"] = outcome.right.into();
		said["of"] = outcome.of.into();
		said["executor"] = outcome.executor.as_str().into();
		said["checkers"] = json!(checkers);
		said["receipt"] = outcome.receipt.as_ref().map_or(Value::Null, |receipt| {
			json!({
				"hash": receipt.hash,
				"signature": receipt.signature,
				"anchor": receipt.anchor,
				"units": { "input": receipt.input_units, "output": receipt.output_units },
				"amount": receipt.amount.to_string(),
			})
		});
		said["seed"] = outcome.seed.as_str().into();
	}
	if talk.outcome.is_some() || talk.end.is_some() {
		let refunded = match &talk.end {
			Some(end) => talk.held.saturating_sub(end.paid().unwrap_or(talk.held)),
			None => 0,
		};
		said["fee"] = fee(talk.held, talk.paid(), refunded);
	}
	said
}

fn fee(held: Amount, paid: Amount, refunded: Amount) -> Value {
	json!({
		"held": held.to_string(),
		"paid": paid.to_string(),
		"refunded": refunded.to_string(),
		"unit": "1e-12 CSL",
	})
}

/// Returns what a reply says of several requests behind it: each, and the least that holds of all.
pub(crate) fn consilience_of_all(requests: impl IntoIterator<Item = Value>) -> Value {
	let mut requests: Vec<Value> = requests.into_iter().collect();
	if requests.len() == 1 {
		return requests.remove(0);
	}
	let rank = |request: &&Value| match request["status"].as_str() {
		Some("final") => 3,
		Some("checked") => 2,
		Some("settled" | "answered") => 1,
		_ => 0,
	};
	let first = requests.first();
	let mut all = json!({
		"lane": first.map(|request| &request["lane"]),
		"status": requests.iter().min_by_key(rank).map(|request| &request["status"]),
		"checked": requests.iter().all(|request| request["checked"] == true),
	});
	// Nothing of the session lane stands in a block.
	if first.is_some_and(|request| request.get("finalized").is_some()) {
		all["finalized"] = requests.iter().all(|r| r["finalized"] == true).into();
	}
	all["requests"] = requests.into();
	all
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::network::{Block, Finish};

	fn step(state: State, finalized: bool, verifiers: &[&str]) -> Step {
		Step {
			request: 1,
			state,
			block: Block {
				number: 1,
				hash: "0x01".into(),
			},
			finalized,
			answer: Some(Answer::Text {
				text: "a".into(),
				tokens: 1,
				finish: Finish::EndOfText,
			}),
			executor: Some("x".into()),
			verifiers: verifiers.iter().map(ToString::to_string).collect(),
			jurors: vec![],
			seed: None,
			escrow: 3,
			paid: 2,
			refunded: 1,
		}
	}

	#[test]
	fn nothing_is_called_final_or_checked_that_is_not() {
		use State::*;
		for (state, finalized, verifiers, word, checked) in [
			(Provisional, false, &["v"][..], "provisional", false),
			(Provisional, true, &["v"], "provisional", false),
			(Disputed, true, &["v"], "disputed", false),
			(Final, false, &["v"], "checked", true),
			(Final, false, &[], "settled", false),
			(Final, true, &["v"], "final", true),
			(Final, true, &[], "final", false),
			(Rejected, true, &["v"], "rejected", false),
			(Overturned, true, &["v"], "overturned", false),
		] {
			let said = consilience(&step(state, finalized, verifiers));
			assert_eq!(said["status"], word, "{state:?} {finalized}");
			assert_eq!(said["checked"], checked, "{state:?} {finalized}");
		}
	}

	#[test]
	fn a_wait_ends_where_it_says() {
		use State::*;
		for (state, finalized, reached) in [
			(Assigned, true, [false, false, false]),
			(Provisional, true, [true, false, false]),
			(Disputed, true, [true, false, false]),
			(Final, false, [true, true, false]),
			(Final, true, [true, true, true]),
			(Overturned, true, [false, false, false]),
		] {
			let step = step(state, finalized, &["v"]);
			let waits = [Wait::Provisional, Wait::Checked, Wait::Final];
			assert_eq!(waits.map(|w| w.is_reached(&step)), reached, "{state:?}");
		}
		let mut silent = step(Final, true, &["v"]);
		silent.answer = None;
		assert!(!Wait::Final.is_reached(&silent));
	}

	#[test]
	fn of_several_the_least_counts() {
		let steps = [
			step(State::Final, true, &["v"]),
			step(State::Final, false, &[]),
		];
		let said = consilience_of_all(steps.iter().map(consilience));
		assert_eq!(said["status"], "settled");
		assert_eq!(said["checked"], false);
		assert_eq!(said["requests"].as_array().map(Vec::len), Some(2));
	}
}
