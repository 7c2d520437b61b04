//! A receipt of the session lane: whether what it says was signed by those whom it names, and whether the model says it.

use std::path::{Path, PathBuf};

use consilience_engine::{Engine, Part};
use consilience_primitives::{
	evidence::Verdict,
	manifest::Manifest,
	model::{NumericClass, VerificationPolicy},
	request::Output,
	session::{check_challenge, measured_input, sampling_seed, Signable},
	ModelId,
};
use consilience_runtime::BlockNumber;
use consilience_session::{
	record::{self, Flaw, Outcome},
	Record, Status as Standing,
};
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};

use super::{
	described,
	judge::{self, tokens, Answer, Member, Own},
	report::{distance, margins, short, shown, Status},
	what_instead,
};
use crate::tool::{appeal::appealable_until, chain::address, session::Network, watch, Result};

/// Largest file that is read: an answer, a question and their signatures in hexadecimal come to less.
const LARGEST: u64 = 16 << 20;

/// Reads a receipt's file.
pub(in crate::tool) fn read(file: &Path) -> Result<Record> {
	let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
	let size = std::fs::metadata(file).map_err(|e| failed(&e))?.len();
	if size > LARGEST {
		return Err(failed(&"it is too large for a receipt"));
	}
	let bytes = std::fs::read(file).map_err(|e| failed(&e))?;
	let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
		failed(&format_args!(
			"it is no receipt of `consilience channel receipt`: {e}"
		))
	})?;
	Record::from_json(&value).map_err(|e| failed(&e))
}

/// What signatures, draws and prices are verified by.
pub(in crate::tool) struct Facts {
	pub(in crate::tool) facts: record::Facts,
	/// Why they are the file's own and not the chain's, where they are.
	own: Option<String>,
	/// Last block in which the answer can be put before a jury, if it is not past.
	appealable_until: Option<BlockNumber>,
}

impl Facts {
	/// Reads them from the chain, or takes the file's own where it has forgotten them.
	pub(in crate::tool) async fn find(network: &Network, record: &Record) -> Result<Self> {
		if network.0.genesis() != record.facts.genesis {
			return Err(
				"the receipt is of another chain: name a node of its own with --url".into(),
			);
		}
		let head = network.0.best().await?.number;
		let appealable_until = Some(appealable_until(record)).filter(|until| head <= *until);
		let own = |why: String| Self {
			facts: record.facts.clone(),
			own: Some(why),
			appealable_until: None,
		};
		Ok(match record::Facts::fetch(network, record).await {
			Ok(facts) => match record.verify(&facts) {
				Err(flaw @ Flaw::NoKey(..)) => own(flaw.to_string()),
				_ => Self {
					facts,
					own: None,
					appealable_until,
				},
			},
			Err(e) => own(e.to_string()),
		})
	}
}

/// What was found.
pub(super) struct Found {
	own: Own,
	answer: Answer,
	members: Vec<Member>,
}

/// Runs the model on the question, and measures the answer under every checker's challenge.
pub(super) fn measure(
	engine: &Engine,
	model: ModelId,
	record: &Record,
	facts: &record::Facts,
	policy: &VerificationPolicy,
) -> Result<Found> {
	if facts.policy != *policy {
		return Err("the receipt's policy is not that of the model's manifest".into());
	}
	let output = record.output().ok_or("the answer has no end")?;
	let receipt = record.receipt.as_ref().ok_or("there is no receipt")?;
	let input = measured_input(&record.ask.input, &output).into();
	let seed = sampling_seed(&facts.seed, record.ask.number);
	let name = receipt.body.hash(&facts.genesis);
	let preimage = record.preimage.unwrap_or_default();
	let checks: Vec<_> = record
		.checks
		.iter()
		.filter_map(|check| match &check.outcome {
			Outcome::Verdict(verdict) => Some((&check.checker, &verdict.body.evidence)),
			Outcome::Skipped(_) => None,
		})
		.collect();
	let whole = |challenge| Part {
		tokens: None,
		challenge,
	};
	// The verdict is the same under every challenge, and under none.
	let mut parts = vec![whole(H256::zero())];
	parts.extend(
		checks
			.iter()
			.map(|(who, _)| whole(check_challenge(&preimage, &name, who))),
	);
	let failed = |e| format!("this machine cannot run it: {e}");
	let measure = |parts: &[Part]| engine.measure_parts(model, &input, &seed, Some(&output), parts);
	let measured = measure(&parts).map_err(failed)?;
	let verdict = measured
		.first()
		.ok_or("the engine measured nothing")?
		.verdict;
	let run = || engine.run(model, &input, &seed);
	let (instead, beyond) =
		what_instead(&output, policy, &verdict, measure, run).map_err(failed)?;
	let own = Own {
		verdict,
		round: None,
		jury: None,
		output: instead,
		beyond,
	};
	let answer = judge::judge_text(&output, policy, &own);
	let members = checks
		.into_iter()
		.zip(measured.iter().skip(1))
		.map(|((who, signed), mine)| {
			judge::checker(who.clone(), policy, &answer, &mine.fingerprint, signed)
		})
		.collect();
	Ok(Found {
		own,
		answer,
		members,
	})
}

/// What is known of a receipt, as far as it came.
pub(super) struct Report {
	file: PathBuf,
	record: Option<Record>,
	/// What the signatures come to, and whose facts they were verified by.
	standing: Option<(std::result::Result<Standing, Flaw>, Option<String>)>,
	appealable_until: Option<BlockNumber>,
	model: Option<(String, String, NumericClass)>,
	found: Option<Found>,
	/// Why it could not be checked.
	pub(super) reason: Option<String>,
}

impl Report {
	/// Of a receipt that was not read yet.
	pub(super) fn new(file: &Path) -> Self {
		Self {
			file: file.into(),
			record: None,
			standing: None,
			appealable_until: None,
			model: None,
			found: None,
			reason: None,
		}
	}

	/// Takes what the file says.
	pub(super) fn hold(&mut self, record: &Record) {
		self.record = Some(record.clone());
	}

	/// Verifies all signatures.
	pub(super) fn see(&mut self, record: &Record, facts: &Facts) {
		self.standing = Some((record.verify(&facts.facts), facts.own.clone()));
		self.appealable_until = facts.appealable_until;
	}

	/// Whether something in it is not signed by those whom it names.
	pub(super) fn is_flawed(&self) -> bool {
		matches!(&self.standing, Some((Err(_), _)))
	}

	/// Takes what the model is.
	pub(super) fn know(&mut self, manifest: &Manifest) {
		self.model = Some(described(manifest));
	}

	/// Takes what was found.
	pub(super) fn find(&mut self, found: Found) {
		self.found = Some(found);
	}

	/// What came out.
	pub(super) fn status(&self) -> Status {
		if self.is_flawed() {
			return Status::Wrong;
		}
		match self.found.as_ref().map(|f| &f.answer) {
			Some(Answer::Right) => Status::Right,
			Some(Answer::Wrong { .. }) => Status::Wrong,
			Some(Answer::Undecided(_)) | None => Status::Unchecked,
		}
	}

	fn reason(&self) -> Option<String> {
		if let Some((Err(flaw), _)) = &self.standing {
			return Some(flaw.to_string());
		}
		match self.found.as_ref().map(|f| &f.answer) {
			Some(Answer::Right) => None,
			Some(Answer::Wrong { why, .. } | Answer::Undecided(why)) => Some(why.clone()),
			None => self.reason.clone(),
		}
	}

	/// The command with which somebody puts the answer before a jury, and until which block, where that is worth it.
	fn appeal(&self) -> Option<(BlockNumber, String)> {
		let until = self.appealable_until?;
		let wrong = matches!(
			self.found.as_ref().map(|f| &f.answer),
			Some(Answer::Wrong { .. })
		);
		// What nobody has signed no jury takes.
		(wrong && !self.is_flawed()).then(|| {
			let command = format!("consilience appeal {} --suri SECRET", self.file.display());
			(until, command)
		})
	}

	fn standing(&self) -> Option<String> {
		match &self.standing {
			Some((Ok(standing), _)) => Some(standing.to_string()),
			_ => None,
		}
	}

	fn output(&self) -> Option<Output> {
		self.record.as_ref().and_then(Record::output)
	}

	/// For programs. Names and meanings of the fields are kept.
	pub(super) fn json(&self) -> Value {
		let record = self.record.as_ref();
		let found = self.found.as_ref();
		let place = found.and_then(|f| match &f.answer {
			Answer::Wrong { place, .. } => *place,
			_ => None,
		});
		let members = found.map(|f| {
			let member = |m: &Member| {
				json!({
					"account": address(&m.who),
					"role": "checker",
					"fingerprint": m.fingerprint,
					"distance": m.distance,
					"verdict": m.verdict,
					"false": m.falsehood,
				})
			};
			f.members.iter().map(member).collect::<Vec<_>>()
		});
		let own_facts = self.standing.as_ref().map(|(_, own)| own.is_some());
		json!({
			"receipt": self.file,
			"verdict": self.status().name(),
			"reason": self.reason(),
			"standing": self.standing(),
			// Whether keys, draws and prices are the chain's, or only what the file says of them.
			"facts": own_facts.map(|own| if own { "file" } else { "chain" }),
			"channel": record.map(|r| r.ask.channel),
			"number": record.map(|r| r.ask.number),
			"model": record.map(|r| r.ask.model),
			"name": self.model.as_ref().map(|m| &m.0),
			"class": self.model.as_ref().map(|m| m.2),
			"executor": record.map(|r| address(&r.ask.payee)),
			"answer": self.output().as_ref().map(watch::output),
			"measured": found.map(|f| f.own.verdict),
			"wrong_at": place,
			"model_output": found.and_then(|f| f.own.output.as_ref()).map(watch::output),
			"members": members,
			"appeal": self.appeal().map(|(until, command)| json!({ "until": until, "command": command })),
		})
	}

	/// For people.
	pub(super) fn people(&self) -> String {
		let mut lines = Vec::new();
		if let Some(record) = &self.record {
			lines.push(format!(
				"receipt    request {} of channel {}, anchored at block {} {}",
				record.ask.number,
				record.ask.channel,
				record.ask.anchor.number,
				short(record.ask.anchor.hash)
			));
			if let Some((name, task, class)) = &self.model {
				let class = match class {
					NumericClass::Exact => "exact",
					NumericClass::Tolerant => "tolerant",
				};
				lines.push(format!("model      {name}, {task}, {class} class"));
			}
			if let Some(output) = self.output() {
				lines.push(format!("answer     {}", shown(&output)));
			}
			lines.push(format!("executed   {}", address(&record.ask.payee)));
		}
		if let Some(standing) = self.standing() {
			lines.push(format!("signed     every signature is right: {standing}"));
		}
		if let Some((_, Some(why))) = &self.standing {
			lines.push(format!(
				"facts      keys, draws and prices are the file's own: {why}"
			));
		}
		if let Some(found) = &self.found {
			lines.push(format!("measured   {}", self.measured(&found.own)));
			for member in &found.members {
				let mut line = format!(
					"evidence   checker {}: {}",
					address(&member.who),
					distance(member.fingerprint, member.distance)
				);
				if let Some(why) = member.falsehood {
					line += &format!("; FALSE: {why}");
				}
				lines.push(line);
			}
		}
		let reason = self.reason().unwrap_or_default();
		lines.push(match self.status() {
			Status::Wrong => format!("verdict    wrong: {reason}"),
			Status::Unchecked if self.found.is_none() => {
				format!("verdict    not checked: {reason}")
			}
			Status::Unchecked => format!("verdict    cannot be judged here: {reason}"),
			Status::Right => {
				let tolerant = matches!(&self.model, Some((_, _, NumericClass::Tolerant)));
				let found = self.found.as_ref();
				let lied = found.is_some_and(|f| f.members.iter().any(|m| m.falsehood.is_some()));
				format!(
					"verdict    right{}{}",
					if tolerant {
						", within the model's policy"
					} else {
						""
					},
					if lied {
						"; but not all evidence about it is true"
					} else {
						""
					}
				)
			}
		});
		if let Some((until, command)) = self.appeal() {
			lines.push(format!(
				"appeal     until block {until}, against a bond that is lost if the answer is right: {command}"
			));
		}
		lines.join("\n")
	}

	fn measured(&self, own: &Own) -> String {
		let count = self
			.output()
			.as_ref()
			.map_or(0, |output| tokens(output).len());
		let margins = |verdict: &Verdict| margins(verdict, count);
		match &own.output {
			Some(model) => format!("{}; the model says {}", margins(&own.verdict), shown(model)),
			None => margins(&own.verdict),
		}
	}
}
