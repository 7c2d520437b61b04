//! What is printed, for people and for programs.

use consilience_primitives::{
	evidence::Verdict, manifest::Manifest, model::NumericClass, request::Output,
	view::RequestState, RequestId,
};
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};

use super::{
	described,
	judge::{tokens, Answer, Closeness, Finding, Own, Role},
	At, Seen,
};
use crate::tool::{
	chain::{address, Head, Request},
	watch,
};

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
	/// The answer is right.
	Right,
	/// It is wrong, or another than the one that somebody holds.
	Wrong,
	/// It could not be checked.
	Unchecked,
}

impl Status {
	/// Its word.
	pub(super) const fn name(self) -> &'static str {
		match self {
			Self::Right => "right",
			Self::Wrong => "wrong",
			Self::Unchecked => "unchecked",
		}
	}
}

/// What is known of a request, as far as it came.
pub(super) struct Report {
	id: RequestId,
	seen: Option<(Request, Head, At)>,
	model: Option<(String, String, NumericClass)>,
	/// Whether the answer that somebody holds is the one on chain.
	pub(super) held: Option<bool>,
	found: Option<(Own, Finding)>,
	/// Why it could not be checked.
	pub(super) reason: Option<String>,
}

impl Report {
	/// Of a request that could not be checked.
	pub(super) fn unchecked(id: RequestId, reason: String) -> Self {
		Self {
			id,
			seen: None,
			model: None,
			held: None,
			found: None,
			reason: Some(reason),
		}
	}

	/// Takes what the node says.
	pub(super) fn see(&mut self, seen: &Seen) {
		self.seen = Some((seen.request.clone(), seen.head, seen.at));
	}

	/// Takes what the model is.
	pub(super) fn know(&mut self, manifest: &Manifest) {
		self.model = Some(described(manifest));
	}

	/// Takes what was found.
	pub(super) fn find(&mut self, own: Own, finding: Finding) {
		self.found = Some((own, finding));
		self.reason = None;
	}

	/// What came out.
	pub(super) fn status(&self) -> Status {
		// Whoever holds another answer was told something false, whatever the one on chain is worth.
		if self.held == Some(false) {
			return Status::Wrong;
		}
		match self.found.as_ref().map(|(_, f)| &f.answer) {
			Some(Answer::Right) => Status::Right,
			Some(Answer::Wrong { .. }) => Status::Wrong,
			Some(Answer::Undecided(_)) | None => Status::Unchecked,
		}
	}

	/// Why it is not right.
	fn reason(&self) -> Option<String> {
		if self.held == Some(false) {
			return Some("the answer that you hold is not the one on chain".into());
		}
		match self.found.as_ref().map(|(_, f)| &f.answer) {
			Some(Answer::Right) => None,
			Some(Answer::Wrong { why, .. } | Answer::Undecided(why)) => Some(why.clone()),
			None => self.reason.clone(),
		}
	}

	/// The command with which somebody appeals, and until which block, where that is worth it.
	fn appeal(&self) -> Option<(u32, String)> {
		let (_, finding) = self.found.as_ref()?;
		let until = finding.appealable_until?;
		let worth = match finding.answer {
			Answer::Wrong { .. } => true,
			// The bond of an appeal against an answer that is right is lost, whoever lied beside it.
			Answer::Right => false,
			Answer::Undecided(_) => finding.is_evidence_false(),
		};
		worth.then(|| {
			(
				until,
				format!("consilience request appeal {} --suri SECRET", self.id),
			)
		})
	}

	/// For programs. Names and meanings of the fields are kept.
	pub(super) fn json(&self) -> Value {
		let seen = self.seen.as_ref();
		let request = seen.map(|(r, _, _)| r);
		let found = self.found.as_ref();
		let list = |of: fn(&Request) -> &Vec<consilience_runtime::AccountId>| {
			request.map(|r| of(r).iter().map(address).collect::<Vec<_>>())
		};
		let place = found.and_then(|(_, f)| match &f.answer {
			Answer::Wrong { place, .. } => *place,
			_ => None,
		});
		let members = found.map(|(_, f)| {
			f.members
				.iter()
				.map(|m| {
					json!({
						"account": address(&m.who),
						"role": m.role,
						"fingerprint": m.fingerprint,
						"distance": m.distance,
						"verdict": m.verdict,
						"false": m.falsehood,
					})
				})
				.collect::<Vec<_>>()
		});
		json!({
			"request": self.id,
			"verdict": self.status().name(),
			"reason": self.reason(),
			"state": request.map(|r| r.state),
			"block": seen.map(|(_, head, _)| head.number),
			"block_hash": seen.map(|(_, head, _)| head.hash),
			"finalized": seen.map(|(_, _, at)| *at == At::Finalized),
			"model": request.map(|r| r.model),
			"name": self.model.as_ref().map(|m| &m.0),
			"task": request.map(|r| watch::task(r.input.task())),
			"class": self.model.as_ref().map(|m| m.2),
			"executor": request.and_then(|r| r.executor.as_ref()).map(address),
			"verifiers": list(|r| &r.verifiers),
			"jurors": list(|r| &r.jurors),
			"answer": request.and_then(|r| r.output.as_ref()).map(watch::output),
			"held": self.held,
			// What this machine's measurement says of a text.
			"measured": found.map(|(own, _)| own.verdict),
			"wrong_at": place,
			"model_output": found.and_then(|(own, _)| own.output.as_ref()).map(watch::output),
			"members": members,
			"appeal": self.appeal().map(|(until, command)| json!({ "until": until, "command": command })),
		})
	}

	/// For people.
	pub(super) fn people(&self) -> String {
		let mut lines = Vec::new();
		if let Some((request, head, at)) = &self.seen {
			lines.push(state(request, *head, *at));
			if let Some((name, task, class)) = &self.model {
				let class = match class {
					NumericClass::Exact => "exact",
					NumericClass::Tolerant => "tolerant",
				};
				lines.push(format!("model      {name}, {task}, {class} class"));
			}
			if let Some(output) = &request.output {
				lines.push(format!("answer     {}", shown(output)));
			}
			lines.extend(people_of(request));
		}
		if let Some((own, finding)) = &self.found {
			lines.push(format!("measured   {}", self.measured(own)));
			for member in &finding.members {
				let role = match member.role {
					Role::Executor => "executor",
					Role::Verifier => "verifier",
					Role::Juror => "juror",
				};
				let mut line = format!(
					"evidence   {role} {}: {}",
					address(&member.who),
					distance(member.fingerprint, member.distance)
				);
				if let Some(why) = member.falsehood {
					line += &format!("; FALSE: {why}");
				}
				lines.push(line);
			}
		}
		match self.held {
			Some(true) => lines.push("held       your file holds the answer on chain".into()),
			Some(false) => lines.push("held       your file holds another answer".into()),
			None => (),
		}
		lines.push(format!("verdict    {}", self.verdict()));
		if let Some((until, command)) = self.appeal() {
			lines.push(format!(
				"appeal     until block {until}, against a bond that is lost if the answer is right: {command}"
			));
		}
		lines.join("\n")
	}

	fn verdict(&self) -> String {
		let reason = self.reason().unwrap_or_default();
		match self.status() {
			Status::Wrong => format!("wrong: {reason}"),
			Status::Unchecked if self.seen.is_none() => format!("not checked: {reason}"),
			Status::Unchecked => format!("cannot be judged here: {reason}"),
			Status::Right => {
				let tolerant = matches!(&self.model, Some((_, _, NumericClass::Tolerant)));
				let false_evidence = self
					.found
					.as_ref()
					.is_some_and(|(_, f)| f.is_evidence_false());
				format!(
					"right{}{}",
					if tolerant {
						", within the model's policy"
					} else {
						""
					},
					if false_evidence {
						"; but not all evidence about it is true"
					} else {
						""
					}
				)
			}
		}
	}

	fn measured(&self, own: &Own) -> String {
		let output = self.seen.as_ref().and_then(|(r, _, _)| r.output.as_ref());
		let model = |own: &Own| own.output.as_ref().map_or(String::new(), shown);
		match output {
			Some(claimed @ Output::Text { .. }) => {
				let count = tokens(claimed).len();
				let text = match &own.output {
					Some(_) => format!("; the model says {}", model(own)),
					None => String::new(),
				};
				format!("{}{text}", margins(&own.verdict, count))
			}
			Some(Output::Tensors(_)) if own.output.as_ref() == output => {
				"the model gives the same here, bit for bit".into()
			}
			_ => format!("the model says {}", model(own)),
		}
	}
}

/// Where a request stands.
fn state(request: &Request, head: Head, at: At) -> String {
	let state = match request.state {
		RequestState::Final => "final",
		RequestState::Provisional => "provisional, NOT FINAL",
		RequestState::Disputed => "disputed, NOT FINAL",
		RequestState::Rejected => "rejected by the jury",
		RequestState::Unanswerable => "found unanswerable",
		RequestState::Overturned => "overturned: it was final, and found false later",
		RequestState::Requested | RequestState::Assigned => "not answered yet",
		RequestState::Expired => "expired",
		RequestState::Cancelled => "cancelled",
	};
	let block = match at {
		At::Finalized => "finalised",
		At::Best => "best, which can still be undone",
	};
	format!(
		"request    {}: {state}, as of block {} {} ({block})",
		request.id,
		head.number,
		short(head.hash)
	)
}

pub(super) fn short(hash: H256) -> String {
	format!("{hash:?}").chars().take(10).collect()
}

/// Who executed, checked and judged.
fn people_of(request: &Request) -> Vec<String> {
	let list = |who: &[consilience_runtime::AccountId]| {
		who.iter().map(address).collect::<Vec<_>>().join(", ")
	};
	let mut lines = Vec::new();
	if let Some(executor) = &request.executor {
		lines.push(format!("executed   {}", address(executor)));
	}
	if !request.verifiers.is_empty() {
		lines.push(format!("checked    {}", list(&request.verifiers)));
	} else if request.jurors.is_empty() && request.output.is_some() {
		lines.push("checked    by nobody".into());
	}
	if !request.jurors.is_empty() {
		lines.push(format!("jury       {}", list(&request.jurors)));
	}
	lines
}

/// An answer in a line.
pub(super) fn shown(output: &Output) -> String {
	/// Characters of an answer that are shown.
	const LONGEST: usize = 400;
	let text = match output {
		Output::Text { text, .. } => format!("{:?}", String::from_utf8_lossy(text)),
		Output::Tensors(_) => watch::output(output).to_string(),
		Output::Unanswerable(code) => format!("that {}", code.reason()),
	};
	if text.chars().count() <= LONGEST {
		return text;
	}
	text.chars().take(LONGEST).chain(" …".chars()).collect()
}

pub(super) fn margins(verdict: &Verdict, count: usize) -> String {
	let logits = |margin: u32| f64::from(margin) / 65_536.0;
	if verdict.margin_max == 0 {
		return format!("each of {count} tokens is what the model says");
	}
	if verdict.margin_max == u32::MAX {
		return format!("{count} tokens, which the model cannot have said");
	}
	format!(
		"{count} tokens, {} of them beyond what the policy accepts; margins of {:.4} logits at most, {:.4} on average",
		verdict.deviations,
		logits(verdict.margin_max),
		logits(verdict.margin_mean)
	)
}

pub(super) fn distance(closeness: Closeness, largest: Option<u32>) -> String {
	let words = match closeness {
		Closeness::Unknown => "cannot be compared here",
		Closeness::Equal => "the same bits as here",
		Closeness::Within => "within the policy",
		Closeness::Between => "between what the policy accepts and what it calls fraud",
		Closeness::Beyond => "another measurement than here",
	};
	match largest.filter(|_| closeness != Closeness::Equal) {
		Some(steps) => format!("{words} ({steps} steps at most)"),
		None => words.into(),
	}
}
