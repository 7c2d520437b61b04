//! Values as JSON, for people.

use consilience_primitives::{
	evidence::Evidence,
	model::{Limits, ModelStatus, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	request::{
		Assurance, FinishReason, FullInput, Input, Message, Output, Prompt, Role, StoredInput,
		Unanswerable,
	},
	sampling::SamplingDefaults,
	tensor::{DataType, TensorHeader, TensorSpec},
	view::{ModelView, Quote, RequestState, RequestView, Wait},
	Bytes, ModelId, RequestId,
};
use consilience_store::open_inference::{from_tensor, to_tensor, JsonTensor};
use consilience_transfer::Progress;
use consilience_worker::{
	chain::{AccountId, Balance, BlockNumber},
	ServingState,
};
use polkadot_sdk::sp_core::H256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::sampling::{nothing_else, take, JsonSampling};

/// Amounts as decimal strings: JSON numbers lose digits in many languages.
pub(crate) mod amount {
	use super::*;

	pub(crate) fn serialize<S: Serializer>(value: &Balance, s: S) -> Result<S::Ok, S::Error> {
		s.collect_str(value)
	}

	pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Balance, D::Error> {
		String::deserialize(d)?
			.parse()
			.map_err(serde::de::Error::custom)
	}
}

/// What an inference costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonPrice {
	/// For every request.
	#[serde(with = "amount")]
	pub per_request: Balance,
	/// For every input unit.
	#[serde(with = "amount")]
	pub per_input_unit: Balance,
	/// For every output unit.
	#[serde(with = "amount")]
	pub per_output_unit: Balance,
}

impl From<Price<Balance>> for JsonPrice {
	fn from(p: Price<Balance>) -> Self {
		Self {
			per_request: p.per_request,
			per_input_unit: p.per_input_unit,
			per_output_unit: p.per_output_unit,
		}
	}
}

/// What a request would cost, and how long it would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonQuote {
	/// The least fee limit, tip not counted.
	#[serde(with = "amount")]
	pub fee: Balance,
	/// Of it, what is burned because those who serve the model are more than half taken.
	#[serde(with = "amount")]
	pub surcharge: Balance,
	/// Part of what they can take that is taken, in thousandths.
	pub taken: u32,
	/// Blocks after which the answer is expected to be final.
	pub blocks: BlockNumber,
	/// What they are made of.
	pub wait: Wait,
}

impl From<Quote<Balance>> for JsonQuote {
	fn from(quote: Quote<Balance>) -> Self {
		Self {
			fee: quote.fee,
			surcharge: quote.surcharge,
			taken: quote.taken,
			blocks: quote.wait.blocks(),
			wait: quote.wait,
		}
	}
}

/// An input of a tensor model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonSpec {
	/// Its name.
	pub name: String,
	/// Element type.
	pub datatype: String,
	/// Dimensions; −1 where the graph leaves one open, as in the Open Inference Protocol.
	pub shape: Vec<i64>,
}

impl From<&TensorSpec> for JsonSpec {
	fn from(spec: &TensorSpec) -> Self {
		Self {
			name: text(&spec.name),
			datatype: spec.datatype.name().into(),
			shape: spec.shape.iter().map(|d| d.map_or(-1, i64::from)).collect(),
		}
	}
}

/// A model on chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonModel {
	/// Hash of its manifest.
	pub id: ModelId,
	/// Name for people; not unique.
	pub name: String,
	/// What it does.
	pub task: Task,
	/// Numeric class.
	pub class: NumericClass,
	/// Where it stands.
	pub status: ModelStatus,
	/// Validators that serve it.
	pub serving: Vec<AccountId>,
	/// Validators that compute something else for its reference input, and therefore do not.
	pub differing: Vec<AccountId>,
	/// Who registered it.
	pub owner: AccountId,
	/// Size of its files, in bytes.
	pub size: u64,
	/// What it costs.
	pub price: JsonPrice,
	/// What it takes and gives at most.
	pub limits: Limits,
	/// How long work may take.
	pub time: TimeLimit,
	/// How answers are checked.
	pub policy: VerificationPolicy,
	/// Inputs of a tensor model.
	pub signature: Vec<JsonSpec>,
	/// What holds where a request leaves the choice of tokens open, by its publisher's advice.
	pub sampling: JsonSampling,
}

impl From<ModelView<AccountId, Balance>> for JsonModel {
	fn from(view: ModelView<AccountId, Balance>) -> Self {
		let spec = view.spec;
		Self {
			id: view.id,
			name: text(&spec.name),
			task: spec.task,
			class: spec.policy.class,
			status: view.status,
			serving: view.serving,
			differing: view.differing,
			owner: view.owner,
			size: spec.size,
			price: view.price.into(),
			limits: spec.limits,
			time: spec.time,
			policy: spec.policy,
			signature: spec.signature.iter().map(Into::into).collect(),
			sampling: (&spec.sampling).into(),
		}
	}
}

/// A model stored on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalModel {
	/// Hash of its manifest.
	pub id: ModelId,
	/// Name for people; none where the store does not have the model any more.
	pub name: Option<String>,
	/// What it does.
	pub task: Option<Task>,
	/// Size of its files, in bytes.
	pub size: Option<u64>,
	/// SPDX expression of its licence.
	pub license: Option<String>,
	/// Where it comes from, for people.
	pub source: Option<String>,
	/// Where it stands with this node's validator.
	#[serde(flatten)]
	pub state: ServingState,
	/// How far it is, while it is being fetched.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub fetching: Option<Progress>,
}

/// The engine and its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
	/// The validator whose duties are done; none while no key of this node is in the session.
	pub validator: Option<AccountId>,
	/// Process id of the engine, while one runs.
	pub pid: Option<u32>,
	/// How often the engine was started again.
	pub restarts: u64,
	/// Why there is no engine and will not be one, if that is so.
	pub unavailable: Option<String>,
	/// Jobs that wait.
	pub waiting: usize,
	/// Jobs that run.
	pub running: usize,
}

/// A chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonMessage {
	/// Who speaks.
	pub role: Role,
	/// What is said. Read from a string, or from a list of parts as OpenAI's clients send it, of which all have to be text.
	#[serde(deserialize_with = "content")]
	pub content: String,
}

/// Reads a message's content.
fn content<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
	use serde::de::Error;
	let part = |part: &Value| match (&part["type"], &part["text"]) {
		(Value::String(kind), Value::String(text)) if kind == "text" => Ok(text.clone()),
		(Value::String(kind), _) if kind == "text" => Err(D::Error::custom(
			"a content part of type \"text\" has no text",
		)),
		(Value::String(kind), _) => Err(D::Error::custom(format!(
			"a content part of type {kind:?} is not taken: models here read text"
		))),
		_ => Err(D::Error::custom("a content part has no type")),
	};
	match Value::deserialize(d)? {
		Value::String(text) => Ok(text),
		Value::Array(parts) => parts.iter().map(part).collect(),
		_ => Err(D::Error::custom(
			"content is a string, or a list of parts of type \"text\"",
		)),
	}
}

/// What is asked: `messages` or `prompt` with sampling parameters, `text` to embed, or `inputs` in the Open Inference Protocol. What is
/// not known is refused by its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JsonInput {
	/// Text generation from chat messages.
	Chat {
		/// The messages.
		messages: Vec<JsonMessage>,
		/// How tokens are chosen.
		#[serde(flatten)]
		sampling: JsonSampling,
	},
	/// Text generation from plain text.
	Prompt {
		/// The text.
		prompt: String,
		/// How tokens are chosen.
		#[serde(flatten)]
		sampling: JsonSampling,
	},
	/// Embedding.
	Text {
		/// The text.
		text: String,
	},
	/// Tensors.
	Tensors {
		/// One for each of the graph's inputs.
		inputs: Vec<JsonTensor>,
	},
	/// Tensors whose data stays in the transaction that asked; only in what is read.
	Indexed {
		/// BLAKE2b-256 hash of the data, for `inference_data`.
		data_hash: H256,
		/// One for each of the graph's inputs.
		inputs: Vec<JsonHeader>,
	},
}

/// A tensor without its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonHeader {
	/// Name of the graph's input.
	pub name: String,
	/// Length of each dimension; empty for a scalar.
	pub shape: Vec<u32>,
	/// Element type.
	pub datatype: DataType,
	/// Bytes of its data.
	pub bytes: u32,
}

impl From<&TensorHeader> for JsonHeader {
	fn from(header: &TensorHeader) -> Self {
		Self {
			name: text(&header.name),
			shape: header.shape.to_vec(),
			datatype: header.datatype,
			bytes: header.bytes,
		}
	}
}

pub(crate) fn text(bytes: &[u8]) -> String {
	String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn bytes<const N: u32>(text: &str) -> Result<Bytes<N>, String> {
	text.as_bytes()
		.to_vec()
		.try_into()
		.map_err(|_| format!("{} bytes of text are more than {N}", text.len()))
}

impl JsonInput {
	fn read(mut map: Map<String, Value>) -> Result<Self, String> {
		let kinds = ["messages", "prompt", "text", "inputs"];
		let given: Vec<_> = kinds
			.into_iter()
			.filter(|kind| map.get(*kind).is_some_and(|v| !v.is_null()))
			.collect();
		let [kind] = given[..] else {
			let what = match given.is_empty() {
				true => "nothing is asked".to_owned(),
				false => format!("{} are given together", given.join(" and ")),
			};
			return Err(format!(
				"{what}: give one of messages, prompt, text (to embed) and inputs (tensors)"
			));
		};
		let missing = || format!("{kind} is missing");
		let sampling = match kind {
			"messages" | "prompt" => JsonSampling::take(&mut map)?,
			_ => JsonSampling::default(),
		};
		let read = match kind {
			"messages" => Self::Chat {
				messages: take(&mut map, kind)?.ok_or_else(missing)?,
				sampling,
			},
			"prompt" => Self::Prompt {
				prompt: take(&mut map, kind)?.ok_or_else(missing)?,
				sampling,
			},
			"text" => Self::Text {
				text: take(&mut map, kind)?.ok_or_else(missing)?,
			},
			_ => match take(&mut map, "data_hash")? {
				Some(data_hash) => Self::Indexed {
					data_hash,
					inputs: take(&mut map, kind)?.ok_or_else(missing)?,
				},
				None => Self::Tensors {
					inputs: take(&mut map, kind)?.ok_or_else(missing)?,
				},
			},
		};
		map.retain(|name, value| !(value.is_null() && kinds.contains(&name.as_str())));
		let known = match read {
			Self::Chat { .. } | Self::Prompt { .. } => {
				format!("{kind}, {}", JsonSampling::NAMES)
			}
			Self::Text { .. } | Self::Tensors { .. } | Self::Indexed { .. } => {
				format!("{kind} alone")
			}
		};
		nothing_else(&map, &known)?;
		Ok(read)
	}

	/// The input of a request to a model whose publisher advises this on what is left open.
	pub fn input(&self, advice: &SamplingDefaults) -> Result<FullInput, String> {
		Ok(match self {
			JsonInput::Chat { messages, sampling } => {
				let messages = messages
					.iter()
					.map(|m| {
						Ok(Message {
							role: m.role,
							content: bytes(&m.content)?,
						})
					})
					.collect::<Result<Vec<_>, String>>()?;
				let messages = messages
					.try_into()
					.map_err(|_| "more than 16 messages".to_owned())?;
				FullInput::text(
					Prompt::Chat(messages),
					sampling.resolve(advice)?,
					sampling.constraint()?,
				)
			}
			JsonInput::Prompt { prompt, sampling } => FullInput::text(
				Prompt::Text(bytes(prompt)?),
				sampling.resolve(advice)?,
				sampling.constraint()?,
			),
			JsonInput::Text { text } => FullInput::Embedding(bytes(text)?),
			JsonInput::Tensors { inputs } => FullInput::Tensor(
				inputs
					.iter()
					.map(to_tensor)
					.collect::<Result<Vec<_>, _>>()?
					.try_into()
					.map_err(|_| "more than 8 tensors".to_owned())?,
			),
			JsonInput::Indexed { .. } => {
				return Err("\"data_hash\" says where data is that was asked over before: give the tensors with their data".into())
			}
		})
	}
}

impl<'de> Deserialize<'de> for JsonInput {
	fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
		Self::read(Map::deserialize(d)?).map_err(serde::de::Error::custom)
	}
}

impl From<&StoredInput> for JsonInput {
	fn from(input: &StoredInput) -> Self {
		match input {
			StoredInput::Inline(input) => input.into(),
			StoredInput::Indexed(indexed) => Self::Indexed {
				data_hash: indexed.data_hash,
				inputs: indexed.tensors.iter().map(JsonHeader::from).collect(),
			},
		}
	}
}

impl<const MAX: u32> From<&Input<MAX>> for JsonInput {
	fn from(input: &Input<MAX>) -> Self {
		if let Some(question) = input.as_text() {
			let sampling = JsonSampling::from(question.sampling).constrained(question.constraint);
			return match question.prompt {
				Prompt::Chat(messages) => Self::Chat {
					messages: messages
						.iter()
						.map(|m| JsonMessage {
							role: m.role,
							content: text(&m.content),
						})
						.collect(),
					sampling,
				},
				Prompt::Text(prompt) => Self::Prompt {
					prompt: text(prompt),
					sampling,
				},
			};
		}
		let tensors = match input {
			Input::Embedding(t) => return Self::Text { text: text(t) },
			Input::Tensor(tensors) => &tensors[..],
			Input::TextGeneration { .. } | Input::ConstrainedText { .. } => &[],
		};
		// What stands on chain was checked when it was submitted.
		Self::Tensors {
			inputs: tensors.iter().filter_map(|t| from_tensor(t).ok()).collect(),
		}
	}
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JsonOutput {
	/// Generated text.
	Text {
		/// The text.
		text: String,
		/// Token identities.
		tokens: Vec<u32>,
		/// Why it ended.
		finish_reason: FinishReason,
	},
	/// Tensors; for an embedding one of one dimension.
	Tensors {
		/// The graph's outputs in the manifest's order.
		outputs: Vec<JsonTensor>,
	},
	/// The input cannot be answered.
	Unanswerable {
		/// Why, as a word.
		code: Unanswerable,
		/// Why, as a sentence.
		reason: String,
	},
}

impl From<&Output> for JsonOutput {
	fn from(output: &Output) -> Self {
		match output {
			Output::Text {
				tokens,
				text: t,
				finish,
			} => Self::Text {
				text: text(t),
				tokens: tokens.iter().map(|t| t.0).collect(),
				finish_reason: *finish,
			},
			Output::Tensors(tensors) => Self::Tensors {
				outputs: tensors.iter().filter_map(|t| from_tensor(t).ok()).collect(),
			},
			Output::Unanswerable(code) => Self::Unanswerable {
				code: *code,
				reason: code.reason().into(),
			},
		}
	}
}

/// How a request is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonAssurance {
	/// By so many verifiers.
	Committee(u8),
	/// By the model's smallest committee, with this probability in thousandths.
	Sampled(u16),
}

impl From<Assurance> for JsonAssurance {
	fn from(assurance: Assurance) -> Self {
		match assurance {
			Assurance::Committee(n) => Self::Committee(n),
			Assurance::Sampled(p) => Self::Sampled(p),
		}
	}
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonRequest {
	/// Its number.
	pub id: RequestId,
	/// The model.
	pub model: ModelId,
	/// What the model does.
	pub task: Task,
	/// Where it stands. An output is final in no state but `final`.
	pub state: RequestState,
	/// Who asked and pays.
	pub requester: AccountId,
	/// What was asked.
	pub input: JsonInput,
	/// How it is checked.
	pub assurance: JsonAssurance,
	/// The present or last executor.
	pub executor: Option<AccountId>,
	/// The round's verifiers.
	pub verifiers: Vec<AccountId>,
	/// The jury, once there is one.
	pub jurors: Vec<AccountId>,
	/// The answer, once shown.
	pub output: Option<JsonOutput>,
	/// Seed of the sampling noise, once an executor is drawn.
	pub seed: Option<H256>,
	/// Seed of the challenge, once it is drawn.
	pub challenge: Option<H256>,
	/// Seed of the jury's challenge, once it is drawn.
	pub jury_challenge: Option<H256>,
	/// What each member of the round, and then of the jury, has shown of its measurement.
	pub evidence: Vec<(AccountId, Evidence)>,
	/// Block of the request.
	pub requested_block: BlockNumber,
	/// Block at whose end the present executor was drawn.
	pub assigned_block: Option<BlockNumber>,
	/// Block of the answer or the commitment to it.
	pub provisional_block: Option<BlockNumber>,
	/// Last block in which somebody can appeal against an answer that was not drawn for a check.
	pub appealable_until: Option<BlockNumber>,
	/// Block in which it was settled.
	pub settled_block: Option<BlockNumber>,
	/// Escrow that was held.
	#[serde(with = "amount")]
	pub escrow: Balance,
	/// What it cost: payments out of the escrow, and what was burned.
	#[serde(with = "amount")]
	pub paid: Balance,
	/// Of what was paid, or is to be: what is burned because those who serve the model were more than half taken.
	#[serde(with = "amount")]
	pub surcharge: Balance,
	/// What was returned.
	#[serde(with = "amount")]
	pub refunded: Balance,
}

impl From<RequestView<AccountId, BlockNumber, Balance>> for JsonRequest {
	fn from(view: RequestView<AccountId, BlockNumber, Balance>) -> Self {
		Self {
			id: view.id,
			model: view.model,
			task: view.input.task(),
			state: view.state,
			requester: view.requester,
			input: (&view.input).into(),
			assurance: view.assurance.into(),
			executor: view.executor,
			verifiers: view.verifiers,
			jurors: view.jurors,
			output: view.output.as_ref().map(Into::into),
			seed: view.seed,
			challenge: view.challenge,
			jury_challenge: view.jury_challenge,
			evidence: view.evidence,
			requested_block: view.requested_at,
			assigned_block: view.assigned_at,
			provisional_block: view.provisional_at,
			appealable_until: view.appealable_until,
			settled_block: view.settled_at,
			escrow: view.escrow,
			paid: view.paid,
			surcharge: view.surcharge,
			refunded: view.refunded,
		}
	}
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
	/// Its number.
	pub number: BlockNumber,
	/// Its hash.
	pub hash: H256,
}

/// A step in a request's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
	/// Block in which the request was seen so.
	pub block: Block,
	/// Whether that block is finalised. What is not may still be undone by a fork.
	pub finalized: bool,
	/// The request.
	pub request: JsonRequest,
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::{from_value, json, to_value};

	fn input(json: serde_json::Value) -> Result<FullInput, String> {
		let json: JsonInput = from_value(json).map_err(|e| e.to_string())?;
		json.input(&SamplingDefaults::default())
	}

	#[test]
	fn inputs_are_read_by_what_they_hold_and_come_back() {
		for value in [
			json!({
				"messages": [{ "role": "user", "content": "größer?" }],
				"max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "stop": ["\n"],
			}),
			json!({
				"prompt": "a", "max_tokens": 128, "temperature": 0.0, "top_p": 1.0, "stop": [],
			}),
			json!({ "text": "a" }),
			json!({ "inputs": [
				{ "name": "x", "shape": [2], "datatype": "FP32", "data": [0.5, -1.0] },
			]}),
		] {
			let read = input(value.clone()).unwrap();
			assert_eq!(to_value(JsonInput::from(&read)).unwrap(), value);
		}
	}

	#[test]
	fn what_is_left_out_is_greedy() {
		let FullInput::TextGeneration { sampling, .. } = input(json!({ "prompt": "a" })).unwrap()
		else {
			panic!("a prompt is for text generation")
		};
		assert_eq!(sampling, Default::default());
	}

	#[test]
	fn content_may_be_in_parts_and_roles_are_those_of_openai() {
		let said = input(json!({ "messages": [
			{ "role": "developer", "content": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "brief." }] },
			{ "role": "tool", "content": "4" },
		]}));
		let Ok(FullInput::TextGeneration {
			prompt: Prompt::Chat(messages),
			..
		}) = said
		else {
			panic!("{said:?}")
		};
		let said: Vec<_> = messages
			.iter()
			.map(|m| (m.role, text(&m.content)))
			.collect();
		assert_eq!(
			said,
			[
				(Role::Developer, "Be brief.".into()),
				(Role::Tool, "4".into())
			]
		);
		for (content, says) in [
			(
				json!([{ "type": "image_url", "image_url": { "url": "data:" } }]),
				"type \"image_url\" is not taken",
			),
			(json!([{ "type": "text" }]), "has no text"),
			(json!([{ "text": "a" }]), "has no type"),
			(json!(null), "a string, or a list"),
		] {
			let messages = json!([{ "role": "user", "content": content }]);
			let error = input(json!({ "messages": messages })).unwrap_err();
			assert!(error.contains(says), "{error}");
		}
	}

	#[test]
	fn what_is_not_known_is_refused_by_name() {
		let user = json!([{ "role": "user", "content": "a" }]);
		for (value, says) in [
			(json!({ "messages": user, "n": 2 }), "\"n\" is not known"),
			(
				json!({ "messages": user, "model": "gpt" }),
				"\"model\" is not known",
			),
			(
				json!({ "messages": user, "prompt": "a" }),
				"messages and prompt are given together",
			),
			(
				json!({ "text": "a", "temperature": 1 }),
				"\"temperature\" is not known here: there may be text alone",
			),
			(json!({ "max_tokens": 1 }), "nothing is asked"),
			(
				json!({ "messages": [{ "role": "user", "content": "a", "name": "b" }] }),
				"messages: unknown field `name`",
			),
			(json!({ "prompt": 1 }), "prompt: "),
		] {
			let error = input(value).unwrap_err();
			assert!(error.contains(says), "{error}");
		}
		let nulls =
			json!({ "messages": user, "prompt": null, "stop": null, "max_completion_tokens": 4 });
		assert!(input(nulls).is_ok());
	}

	#[test]
	fn says_what_is_wrong() {
		for (value, part) in [
			(
				json!({ "prompt": "a", "temperature": 2.5 }),
				"temperature is 2.5",
			),
			(json!({ "prompt": "a", "top_p": -0.1 }), "top_p is -0.1"),
			(
				json!({ "prompt": "a", "stop": ["a", "b", "c", "d", "e"] }),
				"stop strings",
			),
			(
				json!({ "prompt": "a", "stop": ["a".repeat(65)] }),
				"more than 64",
			),
			(
				json!({ "inputs": [{ "name": "x", "shape": [2], "datatype": "FP32", "data": [1] }] }),
				"asks for 2 elements",
			),
		] {
			let error = input(value).unwrap_err();
			assert!(error.contains(part), "{error}");
		}
	}

	#[test]
	fn amounts_keep_their_digits() {
		let price = JsonPrice {
			per_request: u128::MAX,
			per_input_unit: 0,
			per_output_unit: 1,
		};
		let value = to_value(price).unwrap();
		assert_eq!(value["per_request"], u128::MAX.to_string());
		assert_eq!(from_value::<JsonPrice>(value).unwrap(), price);
	}
}
