//! What the gateway knows of the session lane: questions that go straight to a validator, paid from a channel of the gateway's own.
//!
//! As in [`crate::network`], none of the lane's own types are used.

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::network::{amount, Amount, Ask, Block, Finish, Refusal};

/// What a question would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
	/// The most that may be signed away for it: by every executor that may be tried, and all checks.
	pub fee: Amount,
	/// Input units that are charged.
	pub input_units: u32,
	/// Tells the question from others: [`Outcome::question`] of its answers.
	pub question: String,
	/// No number that it gets is lower.
	pub from: u32,
}

/// Where an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
	/// It has no receipt.
	Streaming,
	/// The executor has signed for it, and no checker has confirmed it.
	Answered,
	/// Checkers found it right, and none found it wrong.
	Checked,
	/// A checker found that the model does not say this.
	Refuted,
}

impl Status {
	/// Returns its word.
	pub const fn word(self) -> &'static str {
		match self {
			Self::Streaming => "streaming",
			Self::Answered => "answered",
			Self::Checked => "checked",
			Self::Refuted => "refuted",
		}
	}
}

/// What the executor has signed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
	/// Its hash: what checkers' verdicts are about.
	pub hash: String,
	/// The signature, by the executor's lane key.
	pub signature: String,
	/// The block whose state it refers to.
	pub anchor: Block,
	/// Input units.
	pub input_units: u32,
	/// Output units: tokens.
	pub output_units: u32,
	/// Their price.
	#[serde(with = "amount")]
	pub amount: Amount,
}

/// What became of a validator that was asked to check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Check {
	/// It measured.
	Verdict {
		/// Who.
		account: String,
		/// What it found: `right`, `unclear` or `wrong`.
		verdict: String,
		/// Its signature; none as long as others are still being asked.
		#[serde(default, skip_serializing_if = "Option::is_none")]
		signature: Option<String>,
	},
	/// It did not, and the next was asked.
	Skipped {
		/// Who.
		account: String,
		/// Why.
		skipped: String,
	},
}

/// What there is to show for a question under one number of the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
	/// The number.
	pub number: u32,
	/// Tells the question from others.
	pub question: String,
	/// Who was asked.
	pub executor: String,
	/// Seed of the sampling noise.
	pub seed: String,
	/// What it said.
	pub text: String,
	/// How many tokens that has.
	pub tokens: u32,
	/// Why it ended, where it did.
	pub finish: Option<Finish>,
	/// Whether it came to its own end, and was not cut.
	pub whole: bool,
	/// What the executor has signed for.
	pub receipt: Option<Receipt>,
	/// Who was asked to check, in order.
	pub checkers: Vec<Check>,
	/// Where it stands.
	pub status: Status,
	/// How many found it right.
	pub right: u32,
	/// How many were to check it.
	pub of: u32,
	/// What was signed away for it, checks included.
	#[serde(with = "amount")]
	pub paid: Amount,
}

/// What happens to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
	/// A validator was asked, under this number. If there was one before, the answer begins anew.
	Started {
		/// Who.
		executor: String,
		/// The number.
		number: u32,
	},
	/// More of the answer.
	Text(String),
	/// A validator did not do what it should, and what it said is no answer. Another is asked, or an error follows.
	Failed {
		/// Who.
		executor: String,
		/// The number that it had, if the question was sent.
		number: Option<u32>,
		/// Why.
		why: String,
	},
	/// The answer is whole, and the executor has signed for it.
	Answered(Box<Outcome>),
	/// A validator was asked to check it, and this became of it.
	Checked(Check),
	/// Nothing more happens.
	Done(Box<Outcome>),
}

/// The session lane, with a channel that pays.
#[async_trait]
pub trait Lane: Send + Sync + 'static {
	/// Returns the number of the channel.
	fn channel(&self) -> u64;

	/// Returns how many validators answer for a model in this lane and are paid by the channel.
	///
	/// # Errors
	/// [`Refusal::Unreachable`], as a rule.
	async fn serving(&self, model: &str) -> Result<u32, Refusal>;

	/// Returns what a question costs at most. [`Ask::verifiers`] says how many are to check the answer.
	///
	/// # Errors
	/// Why it would be refused: [`Refusal::NoExecutor`] where nobody would answer, [`Refusal::Channel`] where the channel has too little.
	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal>;

	/// Asks. The stream ends after [`Event::Done`] or an error. Once `cut` is done the answer is cut: what was sent by then is paid, and no
	/// more checkers are asked.
	fn ask(
		&self,
		ask: &Ask,
		cut: BoxFuture<'static, ()>,
	) -> BoxStream<'static, Result<Event, Refusal>>;

	/// Returns the number that the next question gets.
	///
	/// # Errors
	/// If the wallet cannot be read.
	async fn next_number(&self) -> Result<u32, String>;

	/// Returns what there is to show for a number; `None` for one of which nothing is written down.
	///
	/// # Errors
	/// If the wallet cannot be read.
	async fn outcome(&self, number: u32) -> Result<Option<Outcome>, String>;

	/// Returns the record of a number, for whoever verifies it: what `consilience verify` takes.
	///
	/// # Errors
	/// If the wallet cannot be read.
	async fn record(&self, number: u32) -> Result<Option<Value>, String>;
}
