//! What there is to show for a request, and its verification by whoever has it.

use codec::{Compact, Decode, DecodeAll, Encode};
use consilience_lane::message::{AccountId, Balance, Question, SignedReceipt, SignedVerdict};
use consilience_primitives::{
	evidence,
	model::{Price, VerificationPolicy},
	request::{FinishReason, Input, Output, Prompt},
	session::{candidates, is_preimage, LaneKey, Signable, Signed, Transcript},
	Bytes, List,
};
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};

use crate::{
	chain::{Chain, ChainError},
	error::Fault,
};

/// What a checker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
	/// The answer is what the model says.
	Right,
	/// Neither right nor wrong by the model's policy.
	Unclear,
	/// The answer is not what the model says.
	Wrong,
}

impl Finding {
	/// Returns what a measurement says under a policy.
	pub const fn of(verdict: &evidence::Verdict, policy: &VerificationPolicy) -> Self {
		if verdict.within(&policy.accept) {
			Self::Right
		} else if verdict.within(&policy.fraud) {
			Self::Unclear
		} else {
			Self::Wrong
		}
	}

	/// Returns its word.
	pub const fn word(self) -> &'static str {
		match self {
			Self::Right => "right",
			Self::Unclear => "unclear",
			Self::Wrong => "wrong",
		}
	}
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
	/// It has no receipt, and may go on.
	Streaming,
	/// The executor has signed for it, and no checker has confirmed it.
	Answered,
	/// So many checkers found it right, and none found it wrong.
	Checked {
		/// How many found it right; not zero.
		right: u32,
		/// How many were to check it.
		of: u32,
	},
	/// A checker found that the model does not say this.
	Refuted,
}

impl Status {
	/// Returns what findings make of an answer that has a receipt.
	fn of(findings: impl IntoIterator<Item = Finding>, wanted: u32) -> Self {
		let mut right = 0;
		for finding in findings {
			match finding {
				// One that is not outvoted: it may be the only honest one.
				Finding::Wrong => return Self::Refuted,
				Finding::Right => right += 1,
				Finding::Unclear => {}
			}
		}
		if right == 0 {
			Self::Answered
		} else {
			Self::Checked {
				right,
				of: wanted.max(right),
			}
		}
	}
}

impl std::fmt::Display for Status {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		match self {
			Self::Streaming => f.write_str("streaming"),
			Self::Answered => f.write_str("answered"),
			Self::Checked { right, of } => write!(f, "checked ({right} of {of})"),
			Self::Refuted => f.write_str("refuted"),
		}
	}
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
	/// It measured.
	Verdict(Box<SignedVerdict>),
	/// It did not, and the next one was asked.
	Skipped(Fault),
}

/// A candidate that was asked to check.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Check {
	/// Who.
	pub checker: AccountId,
	/// What became of it.
	pub outcome: Outcome,
}

/// A lane key that the chain has certified.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Certified {
	/// The validator.
	pub validator: AccountId,
	/// In which session.
	pub session: u32,
	/// The key.
	pub key: LaneKey,
}

/// What the chain says about a request: what it is verified by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Facts {
	/// Genesis hash.
	pub genesis: H256,
	/// The channel's seed.
	pub seed: H256,
	/// Link 0 of the channel's hash chain.
	pub tip: H256,
	/// The model's price at the anchor.
	pub price: Price<Balance>,
	/// What a check cost there.
	pub check: Price<Balance>,
	/// Its policy at the anchor.
	pub policy: VerificationPolicy,
	/// Who served it at the anchor.
	pub serving: Vec<AccountId>,
	/// Lane keys of the executor and the checkers.
	pub keys: Vec<Certified>,
}

impl Facts {
	/// Returns what the chain says about a record, whatever the record says.
	///
	/// # Errors
	/// If the chain cannot be read, or knows the channel or the model no more.
	pub async fn fetch(chain: &dyn Chain, record: &Record) -> Result<Self, ChainError> {
		let ask = &record.ask;
		let gone = |what| ChainError(format!("it does not know {what} of this record"));
		let channel = chain.channel(ask.channel).await?;
		let channel = channel.ok_or_else(|| gone("the channel"))?;
		let seed = channel.seed.ok_or_else(|| gone("the channel's seed"))?;
		let model = chain.model(&ask.model, &ask.anchor).await?;
		let model = model.ok_or_else(|| gone("the model"))?;
		let mut keys = Vec::new();
		for (validator, session) in record.signers() {
			for key in chain.lane_keys(&validator, session).await? {
				keys.push(Certified {
					validator: validator.clone(),
					session,
					key,
				});
			}
		}
		Ok(Self {
			genesis: chain.genesis().await?,
			seed,
			tip: channel.chain,
			price: model.price,
			check: model.check,
			policy: model.spec.policy,
			serving: model.serving,
			keys,
		})
	}

	/// Returns the lane keys of a validator in a session.
	pub fn keys<'a>(
		&'a self,
		validator: &'a AccountId,
		session: u32,
	) -> impl Iterator<Item = &'a LaneKey> {
		let of = move |c: &&Certified| c.validator == *validator && c.session == session;
		self.keys.iter().filter(of).map(|c| &c.key)
	}

	/// Returns whether one of a validator's lane keys of a session has signed something; `None` where no key is known.
	fn has_signed<T: Signable>(
		&self,
		validator: &AccountId,
		session: u32,
		signed: &Signed<T>,
	) -> Option<bool> {
		let mut keys = self.keys(validator, session).peekable();
		keys.peek()?;
		Some(keys.any(|key| signed.verify(&self.genesis, key)))
	}

	/// Adds a lane key.
	pub(crate) fn certify(&mut self, validator: &AccountId, session: u32, key: LaneKey) {
		if !self.keys(validator, session).any(|known| *known == key) {
			self.keys.push(Certified {
				validator: validator.clone(),
				session,
				key,
			});
		}
	}

	/// Returns who is to check an answer, in order.
	pub fn candidates(&self, ask: &Question, preimage: &H256) -> Vec<AccountId> {
		let others = self.serving.iter().filter(|who| **who != ask.payee);
		candidates(&self.seed, preimage, others.cloned())
	}
}

/// What there is to show for a request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Record {
	/// What was asked.
	pub ask: Question,
	/// Tokens that came.
	pub tokens: Vec<Compact<u32>>,
	/// Text that came.
	pub text: Vec<u8>,
	/// Why the answer ended, where it did.
	pub finish: Option<FinishReason>,
	/// What was paid for it to the executor.
	pub paid: Balance,
	/// What the executor signed for, where that fits what it sent.
	pub receipt: Option<SignedReceipt>,
	/// What the executor did wrong.
	pub fault: Option<Fault>,
	/// The number's preimage, once it was shown to checkers.
	pub preimage: Option<H256>,
	/// How many checkers were wanted.
	pub wanted: u32,
	/// Candidates that were asked, in order.
	pub checks: Vec<Check>,
	/// What the chain said.
	pub facts: Facts,
}

/// Why a record does not show what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
	/// No receipt.
	#[error("the executor signed no receipt that fits: nothing proves who said this")]
	NoReceipt,
	/// No certified key.
	#[error("the chain has certified no lane key of {0} in session {1}")]
	NoKey(AccountId, u32),
	/// The receipt's signature.
	#[error("the receipt is not signed by the executor's lane key")]
	ReceiptSignature,
	/// The receipt is for something else.
	#[error("the receipt's {0} is not that of question and answer")]
	Receipt(&'static str),
	/// More than an answer can be.
	#[error("this is no answer: it is not text, or too long")]
	NoAnswer,
	/// Checks without a preimage, or with a wrong one.
	#[error("the preimage is not the channel's of this number: the checkers were not drawn by it")]
	Preimage,
	/// A checker that was not drawn, or not in this place.
	#[error("{0} is not the next in the order of checkers")]
	NotDrawn(AccountId),
	/// A verdict about something else.
	#[error("the verdict of {0} is not one about this answer")]
	Verdict(AccountId),
	/// A verdict's signature.
	#[error("the verdict of {0} is not signed by its lane key")]
	VerdictSignature(AccountId),
	/// A record that cannot be read.
	#[error("this is no record of this program's: {0}")]
	Unreadable(&'static str),
	/// Words for people that are not what the record says.
	#[error("the words in the file are not what was signed: somebody has changed it")]
	Changed,
}

impl Record {
	/// Returns the record of a question that is about to be sent.
	pub(crate) fn new(ask: Question, paid: Balance, wanted: u32, facts: Facts) -> Self {
		Self {
			ask,
			tokens: Vec::new(),
			text: Vec::new(),
			finish: None,
			paid,
			receipt: None,
			fault: None,
			preimage: None,
			wanted,
			checks: Vec::new(),
			facts,
		}
	}

	/// Returns the answer as checkers are given it; `None` before its end.
	pub fn output(&self) -> Option<Output> {
		Some(Output::Text {
			tokens: List::try_from(self.tokens.clone()).ok()?,
			text: Bytes::try_from(self.text.clone()).ok()?,
			finish: self.finish?,
		})
	}

	/// Returns what checkers have signed of it.
	pub fn verdicts(&self) -> impl Iterator<Item = &SignedVerdict> {
		self.checks.iter().filter_map(|check| match &check.outcome {
			Outcome::Verdict(verdict) => Some(&**verdict),
			Outcome::Skipped(_) => None,
		})
	}

	/// Returns whose signatures it holds, and of which sessions.
	fn signers(&self) -> Vec<(AccountId, u32)> {
		let executor = self.receipt.iter();
		let executor = executor.map(|r| (r.body.payee.clone(), r.body.session));
		let checkers = self.verdicts();
		let checkers = checkers.map(|v| (v.body.checker.clone(), v.body.session));
		executor.chain(checkers).collect()
	}

	/// Verifies every signature, the transcript, the price, the preimage and the order of the checkers, and returns where the answer
	/// stands. With facts that were fetched from the chain nothing in the record is trusted; with its own it is only consistent.
	///
	/// # Errors
	/// The first flaw.
	pub fn verify(&self, facts: &Facts) -> Result<Status, Flaw> {
		let receipt = self.receipt.as_ref().ok_or(Flaw::NoReceipt)?;
		self.verify_receipt(facts, receipt)?;
		let name = receipt.body.hash(&facts.genesis);
		if self.checks.is_empty() {
			return Ok(Status::Answered);
		}
		let preimage = self.preimage.ok_or(Flaw::Preimage)?;
		if !is_preimage(&preimage, self.ask.number, (0, &facts.tip)) {
			return Err(Flaw::Preimage);
		}
		let order = facts.candidates(&self.ask, &preimage);
		let mut findings = Vec::new();
		for (place, check) in self.checks.iter().enumerate() {
			if order.get(place) != Some(&check.checker) {
				return Err(Flaw::NotDrawn(check.checker.clone()));
			}
			if let Outcome::Verdict(verdict) = &check.outcome {
				findings.push(verify_verdict(
					facts,
					&check.checker,
					&name,
					receipt.body.session,
					verdict,
				)?);
			}
		}
		Ok(Status::of(findings, self.wanted))
	}

	/// Verifies that a receipt is signed, and is for this question and this answer.
	pub(crate) fn verify_receipt(&self, facts: &Facts, signed: &SignedReceipt) -> Result<(), Flaw> {
		let (ask, receipt) = (&self.ask, &signed.body);
		let request = ask.hash(&facts.genesis);
		let finish = self.finish.ok_or(Flaw::NoReceipt)?;
		self.output().ok_or(Flaw::NoAnswer)?;
		std::str::from_utf8(&self.text).map_err(|_| Flaw::NoAnswer)?;
		let (inputs, outputs) = (ask.input.units(), self.tokens.len() as u32);
		let transcript = Transcript::of(&request, &self.tokens, &self.text, finish);
		let fields = [
			(receipt.channel == ask.channel, "channel"),
			(receipt.payee == ask.payee, "payee"),
			(receipt.number == ask.number, "number"),
			(receipt.request == request, "question"),
			(receipt.anchor == ask.anchor, "anchor"),
			(receipt.transcript == transcript, "transcript"),
			(receipt.input_units == inputs, "input units"),
			(receipt.output_units == outputs, "output units"),
			(
				Some(receipt.amount) == facts.price.of(inputs, outputs),
				"amount",
			),
		];
		if let Some((_, field)) = fields.iter().find(|(fits, _)| !fits) {
			return Err(Flaw::Receipt(field));
		}
		match facts.has_signed(&ask.payee, receipt.session, signed) {
			Some(true) => Ok(()),
			Some(false) => Err(Flaw::ReceiptSignature),
			None => Err(Flaw::NoKey(ask.payee.clone(), receipt.session)),
		}
	}

	/// Returns where the answer stands by what the client saw.
	///
	/// # Errors
	/// The first flaw: none in what this crate has written.
	pub fn status(&self) -> Result<Status, Flaw> {
		match &self.receipt {
			None => Ok(Status::Streaming),
			Some(_) => self.verify(&self.facts),
		}
	}

	/// Returns it as JSON: words for people, and everything to verify it by in `record`.
	pub fn to_json(&self) -> Value {
		let hash = |h: &H256| format!("0x{}", hex::encode(h));
		let finding = |verdict: &SignedVerdict| {
			Finding::of(&verdict.body.evidence.verdict, &self.facts.policy).word()
		};
		let checks: Vec<_> = self
			.checks
			.iter()
			.map(|check| match &check.outcome {
				Outcome::Verdict(verdict) => {
					json!({ "checker": check.checker.to_string(), "verdict": finding(verdict) })
				}
				Outcome::Skipped(why) => {
					json!({ "checker": check.checker.to_string(), "skipped": why.to_string() })
				}
			})
			.collect();
		json!({
			"version": VERSION,
			"genesis": hash(&self.facts.genesis),
			"channel": self.ask.channel,
			"number": self.ask.number,
			"model": hash(&self.ask.model),
			"executor": self.ask.payee.to_string(),
			"question": question(&self.ask.input),
			"answer": String::from_utf8_lossy(&self.text),
			"tokens": self.tokens.len(),
			"finish": self.finish,
			"paid": self.paid.to_string(),
			"receipt": self.receipt.as_ref().map(|r| hash(&r.body.hash(&self.facts.genesis))),
			"checks": checks,
			"record": format!("0x{}", hex::encode(self.encode())),
		})
	}

	/// Reads what [`Record::to_json`] wrote. What stands there for people has to be what the record says.
	///
	/// # Errors
	/// If it is something else.
	pub fn from_json(value: &Value) -> Result<Self, Flaw> {
		if value.get("version") != Some(&VERSION.into()) {
			return Err(Flaw::Unreadable("it has another version"));
		}
		let record = value.get("record").and_then(Value::as_str);
		let record = record
			.and_then(|text| hex::decode(text.strip_prefix("0x")?).ok())
			.and_then(|bytes| Self::decode_all(&mut &bytes[..]).ok())
			.ok_or(Flaw::Unreadable("\"record\" is not one"))?;
		if record.to_json() != *value {
			return Err(Flaw::Changed);
		}
		Ok(record)
	}
}

/// Version of the JSON and of what is in it.
const VERSION: u32 = 1;

/// A question for people.
fn question(input: &Input) -> Value {
	let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
	match (input.as_text().map(|question| question.prompt), input) {
		(Some(Prompt::Chat(messages)), _) => messages
			.iter()
			.map(|m| json!({ "role": m.role.name(), "content": text(&m.content) }))
			.collect(),
		(Some(Prompt::Text(prompt)), _) | (None, Input::Embedding(prompt)) => text(prompt).into(),
		(None, _) => Value::Null,
	}
}

/// Verifies that a verdict is this checker's, signed, and about the receipt of this name; returns what it finds.
pub(crate) fn verify_verdict(
	facts: &Facts,
	checker: &AccountId,
	receipt: &H256,
	session: u32,
	signed: &SignedVerdict,
) -> Result<Finding, Flaw> {
	let verdict = &signed.body;
	let fits = verdict.checker == *checker
		&& verdict.receipt == *receipt
		&& verdict.session.saturating_add(1) >= session
		&& verdict.evidence.is_of(facts.policy.class)
		&& verdict.evidence.prior.is_none();
	if !fits {
		return Err(Flaw::Verdict(checker.clone()));
	}
	match facts.has_signed(checker, verdict.session, signed) {
		Some(true) => {}
		Some(false) => return Err(Flaw::VerdictSignature(checker.clone())),
		None => return Err(Flaw::NoKey(checker.clone(), verdict.session)),
	}
	Ok(Finding::of(&verdict.evidence.verdict, &facts.policy))
}
