//! What the gateway knows of the chain.
//!
//! The shapes are close to those of the node's JSON-RPC, and none of the chain's own types are used: the gateway builds without them.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An amount in the token's smallest unit.
pub type Amount = u128;

/// Decimal places of the token: 10¹² of the smallest unit are one CSL.
pub const CSL_DECIMALS: u32 = 12;

/// Writes amounts as decimal strings: JSON numbers lose digits in many languages.
pub mod amount {
	use super::Amount;
	use serde::{Deserialize, Deserializer, Serializer};

	/// Writes an amount.
	///
	/// # Errors
	/// Those of the serializer.
	pub fn serialize<S: Serializer>(value: &Amount, s: S) -> Result<S::Ok, S::Error> {
		s.collect_str(value)
	}

	/// Reads an amount.
	///
	/// # Errors
	/// If it is not a string of decimal digits that fits.
	pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Amount, D::Error> {
		String::deserialize(d)?
			.parse()
			.map_err(serde::de::Error::custom)
	}
}

/// Returns an amount for people, in CSL.
pub fn csl(amount: Amount) -> String {
	let unit = 10u128.pow(CSL_DECIMALS);
	let digits = format!("{:012}", amount % unit);
	match digits.trim_end_matches('0') {
		"" => format!("{} CSL", amount / unit),
		part => format!("{}.{part} CSL", amount / unit),
	}
}

/// Reads an amount as people write it: `1.5`, in CSL.
///
/// # Errors
/// If it is not a decimal number of CSL with at most twelve places.
pub fn parse_csl(text: &str) -> Result<Amount, String> {
	let wrong = || format!("{text:?} is not an amount of CSL, such as \"1.5\"");
	let (whole, part) = text.split_once('.').unwrap_or((text, ""));
	let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
	if part.len() > CSL_DECIMALS as usize || whole.is_empty() || !digits(part) || !digits(whole) {
		return Err(wrong());
	}
	let whole: u128 = whole.parse().map_err(|_| wrong())?;
	let part: u128 = format!("{part:0<12}").parse().map_err(|_| wrong())?;
	whole
		.checked_mul(10u128.pow(CSL_DECIMALS))
		.and_then(|w| w.checked_add(part))
		.ok_or_else(wrong)
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
	/// Tokens after a prompt.
	TextGeneration,
	/// A vector for a text.
	Embedding,
	/// Tensors in, tensors out.
	Tensor,
}

/// What an inference costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
	/// For every request.
	#[serde(with = "amount")]
	pub per_request: Amount,
	/// For every input unit.
	#[serde(with = "amount")]
	pub per_input_unit: Amount,
	/// For every output unit.
	#[serde(with = "amount")]
	pub per_output_unit: Amount,
}

/// An input of a tensor model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
	/// Its name.
	pub name: String,
	/// Element type, in the Open Inference Protocol's words.
	pub datatype: String,
	/// Dimensions; −1 where the graph leaves one open.
	pub shape: Vec<i64>,
}

/// A model on chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
	/// Hash of its manifest.
	pub id: String,
	/// Name for people; not unique.
	pub name: String,
	/// What it does.
	pub task: Task,
	/// Whether it takes chats.
	pub chat: bool,
	/// Numeric class: `exact` or `tolerant`.
	pub class: String,
	/// Where it stands: `registered`, `active` or `deprecated`. Only an active one takes requests.
	pub status: String,
	/// Who registered it.
	pub owner: String,
	/// Size of its files, in bytes.
	pub size: u64,
	/// What it costs.
	pub price: Price,
	/// Most input units: bytes of text with an allowance for every chat message, or elements of tensors.
	pub max_input_units: u32,
	/// Most output units: tokens, or elements of tensors.
	pub max_output_units: u32,
	/// Tokens that prompt and answer may have together, where the chain says it.
	pub context_length: Option<u32>,
	/// Length of an embedding.
	pub dimensions: Option<u32>,
	/// Validators that serve it.
	pub serving: u32,
	/// Fewest verifiers that a request may ask for.
	pub min_verifiers: u8,
	/// How answers are checked, as the chain says it.
	pub policy: Value,
	/// Inputs of a tensor model.
	pub inputs: Vec<TensorSpec>,
	/// What holds where a request leaves the choice of tokens open, by the publisher's advice.
	pub sampling: Value,
	/// SPDX expression of its licence, where it is known.
	pub license: Option<String>,
	/// Where it comes from, where it is known.
	pub source: Option<String>,
}

impl Model {
	/// Returns whether it takes requests.
	pub fn is_active(&self) -> bool {
		self.status == "active"
	}
}

/// A chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
	/// Who speaks: `system`, `developer`, `user`, `assistant` or `tool`.
	pub role: String,
	/// What is said.
	pub content: String,
}

/// How tokens are chosen. What is left out is as the model's publisher advises, or else greedy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
	/// Most tokens of the answer.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub max_tokens: Option<u32>,
	/// 0 (greedy) to 2.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub temperature: Option<f64>,
	/// Nucleus, above 0 and at most 1.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub top_p: Option<f64>,
	/// Strings at which the answer ends.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub stop: Option<Vec<String>>,
	/// How many of the likeliest tokens take part; 0 for all.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub top_k: Option<i64>,
	/// Share of the likeliest token's probability that a token needs to take part.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub min_p: Option<f64>,
	/// 0.1 to 10, where 1 changes nothing.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub repetition_penalty: Option<f64>,
	/// −2 to 2.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub presence_penalty: Option<f64>,
	/// −2 to 2.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub frequency_penalty: Option<f64>,
	/// By token id, what is added to its logit.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub logit_bias: Option<BTreeMap<String, f64>>,
	/// What the answer may be.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub constraint: Option<Constraint>,
}

/// What an answer may be, as text in one of the languages for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
	/// A JSON schema.
	JsonSchema(String),
	/// A grammar in the form of Lark.
	Lark(String),
}

/// A tensor as the Open Inference Protocol writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
	/// Name of the graph's input or output.
	pub name: String,
	/// Length of each dimension; empty for a scalar.
	pub shape: Vec<u32>,
	/// Element type.
	pub datatype: String,
	/// Elements: numbers, booleans or strings. Floats that JSON cannot say are null.
	pub data: Value,
}

/// What is asked of a model. As JSON it is what the node's `inference_quote` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
	/// Text generation from chat messages.
	Chat {
		/// The messages.
		messages: Vec<Message>,
		/// How tokens are chosen.
		#[serde(flatten)]
		sampling: Sampling,
	},
	/// Text generation from plain text.
	Prompt {
		/// The text.
		prompt: String,
		/// How tokens are chosen.
		#[serde(flatten)]
		sampling: Sampling,
	},
	/// Embedding.
	Text {
		/// The text.
		text: String,
	},
	/// Tensors.
	Tensors {
		/// One for each of the graph's inputs.
		inputs: Vec<Tensor>,
	},
}

/// A request that is to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
	/// Hash of the model's manifest.
	pub model: String,
	/// What is asked.
	pub input: Input,
	/// Validators that check the answer; without it the model's minimum.
	pub verifiers: Option<u8>,
}

/// What a request would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
	/// Price of the longest answer.
	pub fee: Amount,
	/// Input units that are charged.
	pub input_units: u32,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
	/// Its number.
	pub number: u32,
	/// Its hash.
	pub hash: String,
}

/// Where a request stands, in the chain's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
	/// An executor is to be drawn.
	Requested,
	/// An executor is at work.
	Assigned,
	/// The answer, or a commitment to it, is on chain and being measured.
	Provisional,
	/// A jury measures.
	Disputed,
	/// Settled with an answer, and paid.
	Final,
	/// A jury found the answer wrong, or could not decide: refunded.
	Rejected,
	/// Nobody answered or checked it in time: refunded.
	Expired,
	/// Cancelled by the account that asked: refunded.
	Cancelled,
	/// Checked: no honest machine can answer this input.
	Unanswerable,
	/// Found false after it was final.
	Overturned,
}

impl State {
	/// Returns whether nothing more happens.
	pub const fn is_settled(self) -> bool {
		!matches!(
			self,
			Self::Requested | Self::Assigned | Self::Provisional | Self::Disputed
		)
	}
}

/// Why text generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
	/// The model said that the text ends.
	EndOfText,
	/// The text came to a stop string.
	StopString,
	/// As many tokens as were asked for.
	Length,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
	/// Generated text.
	Text {
		/// What it says, without the stop string.
		text: String,
		/// How many tokens it has.
		tokens: u32,
		/// Why it ended.
		finish: Finish,
	},
	/// Outputs of the graph; for an embedding one tensor.
	Tensors {
		/// The tensors.
		outputs: Vec<Tensor>,
		/// Output units that are charged.
		units: u32,
	},
	/// The input cannot be answered.
	Unanswerable {
		/// Why, as a word.
		code: String,
		/// Why, as a sentence.
		reason: String,
	},
}

/// A request as it stands in a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
	/// Its number.
	pub request: u64,
	/// Where it stands.
	pub state: State,
	/// Block in which it was seen so.
	pub block: Block,
	/// Whether that block is finalised. What is not may still be undone by a fork.
	pub finalized: bool,
	/// The answer, once shown.
	pub answer: Option<Answer>,
	/// The present or last executor.
	pub executor: Option<String>,
	/// The round's verifiers.
	pub verifiers: Vec<String>,
	/// The jury, once there is one.
	pub jurors: Vec<String>,
	/// Seed of the sampling noise, once an executor is drawn.
	pub seed: Option<String>,
	/// What was held.
	#[serde(with = "amount")]
	pub escrow: Amount,
	/// What was paid out of it.
	#[serde(with = "amount")]
	pub paid: Amount,
	/// What was returned.
	#[serde(with = "amount")]
	pub refunded: Amount,
}

/// What a network needs in order to find a submission again: opaque to the gateway, which writes it down before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket(pub String);

/// Why the network does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
	/// No such model on chain.
	#[error("the model is not registered")]
	UnknownModel,
	/// The model takes no requests.
	#[error("the model takes no requests: too few validators serve it, or its owner withdrew it")]
	NotActive,
	/// The input does not suit the model.
	#[error("{0}")]
	Input(String),
	/// The input or the answer that is asked for is longer than the model's limits.
	#[error("{0}")]
	TooLong(String),
	/// The number of verifiers cannot be had.
	#[error("{0}")]
	Verifiers(String),
	/// Those who serve the model have more to do already than they can do in time.
	#[error("those who serve the model have more to do already than they can do in time")]
	Busy {
		/// When to try again, where the network says it.
		retry_after: Option<Duration>,
	},
	/// The account that pays cannot.
	#[error("the gateway's account cannot pay: {0}")]
	Funds(String),
	/// Nobody whom the gateway's channel pays answers for the model in the session lane. Nothing was asked.
	#[error("nobody answers in the session lane: {0}")]
	NoExecutor(String),
	/// The gateway's channel in the session lane has too little. Nothing was asked.
	#[error("the gateway's channel cannot pay: {0}")]
	Channel(String),
	/// The gateway could not write down what it was about to send; nothing was sent.
	#[error("the journal cannot be written: {0}")]
	Journal(String),
	/// No node answers. Of a submission whose ticket was kept it is not known whether it came through.
	#[error("no node answers: {0}")]
	Unreachable(String),
	/// The chain refused for another reason.
	#[error("{0}")]
	Other(String),
}

/// Where a validator answers in the session lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneAddress {
	/// The validator's account.
	pub account: [u8; 32],
	/// What it has certified on chain: `ws://…` or `wss://…`.
	pub endpoint: String,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
	/// It made this request.
	Request(u64),
	/// It is in a block, and made none.
	Refused(Refusal),
	/// It is in no block and can never be in one.
	Lost,
}

/// Why a request cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
	/// The node went away; the request goes on.
	#[error("the node went away: {0}")]
	Unreachable(String),
	/// A fork gave the number to another request: the ticket says which number it has now.
	#[error("a fork gave the number to another request")]
	Moved,
	/// The chain does not know the request any more.
	#[error("the chain does not know the request any more")]
	Forgotten,
}

/// Writes down a ticket.
#[async_trait]
pub trait Keep: Send + Sync {
	/// Writes it down so that it survives a crash.
	///
	/// # Errors
	/// If it cannot be written. Nothing may be sent then.
	async fn keep(&self, ticket: &Ticket) -> Result<(), String>;
}

/// A network, with an account of its own that pays.
#[async_trait]
pub trait Network: Send + Sync + 'static {
	/// Returns all models on chain.
	///
	/// # Errors
	/// [`Refusal::Unreachable`], as a rule.
	async fn models(&self) -> Result<Vec<Model>, Refusal>;

	/// Returns where a validator answers for a model in the session lane, as finalised state says it; `None` where it does not, or there is
	/// no such lane. `validator` is an address, `model` a hash in hexadecimal digits; what cannot be read is nobody's.
	///
	/// # Errors
	/// [`Refusal::Unreachable`], as a rule.
	async fn lane_address(
		&self,
		model: &str,
		validator: &str,
	) -> Result<Option<LaneAddress>, Refusal> {
		let _ = (model, validator);
		Ok(None)
	}

	/// Returns what a request would cost at most.
	///
	/// # Errors
	/// Why the request would be refused.
	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal>;

	/// Makes a request and returns its number once it is in a block. Before anything is sent, the ticket is handed to `keep`; it is handed
	/// over again whenever another takes its place, which happens only when the former can never be in a block.
	///
	/// Submissions are sent one after the other in the order of the calls, and do not wait for one another's block.
	///
	/// # Errors
	/// Why there is no request. After [`Refusal::Unreachable`] there may be one: [`Network::recover`] tells.
	async fn submit(&self, ask: &Ask, fee_limit: Amount, keep: &dyn Keep) -> Result<u64, Refusal>;

	/// Finds what became of a submission, and sends it again if it is still to come. A ticket never makes two requests.
	///
	/// # Errors
	/// [`Refusal::Unreachable`], as a rule: it is not known yet.
	async fn recover(&self, ticket: &Ticket) -> Result<Recovered, Refusal>;

	/// Follows the request that a ticket made: a step for every change in the best chain, and again when it is in a finalised block. Ends
	/// after a settled step in a finalised block, or with an error.
	fn follow(
		&self,
		request: u64,
		ticket: &Ticket,
	) -> BoxStream<'static, Result<Step, FollowError>>;
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn amounts() {
		for (text, amount) in [("0", 0), ("1.5", 1_500_000_000_000), ("0.000000000001", 1)] {
			assert_eq!(parse_csl(text), Ok(amount));
			assert_eq!(csl(amount), format!("{text} CSL"));
		}
		for bad in ["", "-1", "x", ".5", "1.0000000000001", "1.x", "+1", "1e3"] {
			assert!(parse_csl(bad).is_err(), "{bad}");
		}
	}

	#[test]
	fn inputs_are_as_the_node_takes_them() {
		let input = Input::Chat {
			messages: vec![Message {
				role: "user".into(),
				content: "a".into(),
			}],
			sampling: Sampling {
				max_tokens: Some(3),
				..Default::default()
			},
		};
		assert_eq!(
			serde_json::to_value(&input).unwrap(),
			serde_json::json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 3})
		);
	}
}
