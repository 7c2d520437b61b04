//! What a requester asks for, and what an executor answers.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{
	model::{Limits, ModelSpec, Task, VerificationPolicy},
	tensor::{IndexedTensors, Tensor, TensorSpec, MAX_DATA, MAX_TENSORS, MAX_TENSOR_BYTES},
	Bytes, List,
};

pub use crate::sampling::{
	Constraint, ConstraintForm, LogitsProcessing, Sampling, MAX_STOP, MAX_STOPS,
};

/// Most bytes of text in one message, prompt or text to embed.
pub const MAX_TEXT: u32 = 32_768;
/// Most messages of a chat.
pub const MAX_MESSAGES: u32 = 16;
/// Most tokens of an answer.
pub const MAX_TOKENS: u32 = 4_096;
/// Input units charged for a chat message beside its bytes: room for the tokens that a chat template puts around it.
pub const MESSAGE_UNITS: u32 = 16;

/// Who speaks in a chat message.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
	/// Instructions.
	System,
	/// The person.
	User,
	/// The model, in earlier turns.
	Assistant,
	/// What a tool gave that the model had asked for.
	Tool,
	/// Instructions of whoever built on the model; `system` to a chat template that does not know the word.
	Developer,
}

impl Role {
	/// The word that chat templates use.
	pub const fn name(self) -> &'static str {
		match self {
			Self::System => "system",
			Self::User => "user",
			Self::Assistant => "assistant",
			Self::Tool => "tool",
			Self::Developer => "developer",
		}
	}
}

/// A chat message.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Message {
	/// Who speaks.
	pub role: Role,
	/// What is said, in UTF-8.
	pub content: Bytes<MAX_TEXT>,
}

/// What text generation starts from.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Prompt {
	/// Messages, put through the model's chat template.
	Chat(List<Message, MAX_MESSAGES>),
	/// Text as it is, in UTF-8.
	Text(Bytes<MAX_TEXT>),
}

/// What is asked of a model, by task, with at most `MAX` bytes of data in a tensor.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Input<const MAX: u32 = MAX_TENSOR_BYTES> {
	/// For [`Task::TextGeneration`].
	TextGeneration {
		/// What to go on from.
		prompt: Prompt,
		/// How to choose tokens.
		sampling: Sampling,
	},
	/// For [`Task::Embedding`]: UTF-8 text.
	Embedding(Bytes<MAX_TEXT>),
	/// For [`Task::Tensor`]: one tensor for each of the graph's inputs, in any order.
	Tensor(List<Tensor<MAX>, MAX_TENSORS>),
	/// For [`Task::TextGeneration`], where not every answer will do. A variant of its own, the last, so that whoever knows nothing of
	/// constraints writes and reads all others as before.
	ConstrainedText {
		/// What to go on from.
		prompt: Prompt,
		/// How to choose tokens, among those that the constraint leaves.
		sampling: Sampling,
		/// What the answer may be.
		constraint: Constraint,
	},
}

/// What is asked where text is to be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextQuestion<'a> {
	/// What to go on from.
	pub prompt: &'a Prompt,
	/// How to choose tokens.
	pub sampling: &'a Sampling,
	/// What the answer may be; anything, without it.
	pub constraint: Option<&'a Constraint>,
}

/// An input with all of its data, wherever the chain keeps that.
pub type FullInput = Input<MAX_DATA>;

/// What state holds of an input.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum StoredInput {
	/// All of it.
	Inline(Input),
	/// Tensors without their data, which stays in the transaction that asked.
	Indexed(IndexedTensors),
}

/// Why an input is refused at the border.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum InputError {
	/// The model does another task.
	WrongTask,
	/// Text that is not UTF-8.
	NotUtf8,
	/// No text, no messages or no tensors.
	Empty,
	/// More input units than the model takes.
	InputTooLarge,
	/// `max_tokens` is zero.
	ZeroTokens,
	/// More tokens asked for than the model gives.
	OutputTooLarge,
	/// A parameter of sampling out of its range: [`Sampling::check`] says which.
	BadSampling,
	/// The tensors' names, element types or shapes are not the model's signature.
	SignatureMismatch,
	/// A tensor's data is not as long as its shape says, or is malformed.
	MalformedTensor,
	/// A chat, for a model without chat template.
	NoChat,
	/// A constraint that is empty, no text, or for other rules than this chain's: [`Constraint::check`] says which.
	BadConstraint,
}

impl Prompt {
	/// Input units to pay for: bytes of text, and [`MESSAGE_UNITS`] for a chat and for each of its messages.
	fn units(&self) -> u32 {
		match self {
			Self::Chat(messages) => messages
				.iter()
				.map(|m| MESSAGE_UNITS + m.content.len() as u32)
				.fold(MESSAGE_UNITS, u32::saturating_add),
			Self::Text(text) => text.len() as u32,
		}
	}
}

impl<const MAX: u32> Input<MAX> {
	/// A question whose answer is text.
	pub fn text(prompt: Prompt, sampling: Sampling, constraint: Option<Constraint>) -> Self {
		match constraint {
			None => Self::TextGeneration { prompt, sampling },
			Some(constraint) => Self::ConstrainedText {
				prompt,
				sampling,
				constraint,
			},
		}
	}

	/// What is asked, if that is text.
	pub const fn as_text(&self) -> Option<TextQuestion<'_>> {
		match self {
			Self::TextGeneration { prompt, sampling } => Some(TextQuestion {
				prompt,
				sampling,
				constraint: None,
			}),
			Self::ConstrainedText {
				prompt,
				sampling,
				constraint,
			} => Some(TextQuestion {
				prompt,
				sampling,
				constraint: Some(constraint),
			}),
			Self::Embedding(_) | Self::Tensor(_) => None,
		}
	}

	/// Prompt and sampling, to be changed, if text is asked for.
	pub const fn as_text_mut(&mut self) -> Option<(&mut Prompt, &mut Sampling)> {
		match self {
			Self::TextGeneration { prompt, sampling }
			| Self::ConstrainedText {
				prompt, sampling, ..
			} => Some((prompt, sampling)),
			Self::Embedding(_) | Self::Tensor(_) => None,
		}
	}

	/// Most tokens of the answer; zero where it is no text.
	pub const fn max_tokens(&self) -> u32 {
		match self.as_text() {
			Some(question) => question.sampling.max_tokens,
			None => 0,
		}
	}

	/// The task that this asks for.
	pub const fn task(&self) -> Task {
		match self {
			Self::TextGeneration { .. } | Self::ConstrainedText { .. } => Task::TextGeneration,
			Self::Embedding(_) => Task::Embedding,
			Self::Tensor(_) => Task::Tensor,
		}
	}

	/// Input units to pay for: bytes of text (and [`MESSAGE_UNITS`] for each chat message) and of a constraint, or elements of tensors.
	///
	/// A byte-level tokenizer gives at most one token a byte, so that units bound the tokens of a prompt without a
	/// tokenizer on chain.
	pub fn units(&self) -> u32 {
		match self {
			Self::TextGeneration { prompt, .. } => prompt.units(),
			Self::ConstrainedText {
				prompt, constraint, ..
			} => prompt.units().saturating_add(constraint.text.len() as u32),
			Self::Embedding(text) => text.len() as u32,
			Self::Tensor(tensors) => tensors
				.iter()
				.map(Tensor::units)
				.fold(0, u32::saturating_add),
		}
	}

	/// Most output units that an answer to this can have under `limits`: what escrow must cover.
	pub fn max_output_units(&self, limits: &Limits) -> u32 {
		match self.as_text() {
			Some(question) => question.sampling.max_tokens,
			None => limits.max_output_units,
		}
	}

	/// Whether a model of this description takes the input.
	pub fn validate(&self, spec: &ModelSpec) -> Result<(), InputError> {
		let limits = &spec.limits;
		if self.task() != spec.task {
			return Err(InputError::WrongTask);
		}
		let text = |bytes: &[u8]| match core::str::from_utf8(bytes) {
			Err(_) => Err(InputError::NotUtf8),
			Ok("") => Err(InputError::Empty),
			Ok(_) => Ok(()),
		};
		match self {
			Self::TextGeneration { .. } | Self::ConstrainedText { .. } => {
				let TextQuestion {
					prompt,
					sampling,
					constraint,
				} = self.as_text().expect("both are questions for text; qed");
				match prompt {
					Prompt::Chat(_) if !spec.chat => return Err(InputError::NoChat),
					Prompt::Chat(messages) if messages.is_empty() => return Err(InputError::Empty),
					Prompt::Chat(messages) => messages.iter().try_for_each(|m| text(&m.content))?,
					Prompt::Text(bytes) => text(bytes)?,
				}
				if sampling.max_tokens == 0 {
					return Err(InputError::ZeroTokens);
				}
				if sampling.max_tokens > limits.max_output_units.min(MAX_TOKENS) {
					return Err(InputError::OutputTooLarge);
				}
				sampling.check().map_err(|_| InputError::BadSampling)?;
				if let Some(constraint) = constraint {
					constraint.check().map_err(|_| InputError::BadConstraint)?;
				}
			}
			Self::Embedding(bytes) => text(bytes)?,
			Self::Tensor(tensors) => {
				signed(tensors, spec, TensorSpec::admits)?;
				tensors
					.iter()
					.try_for_each(|t| t.validate())
					.map_err(|_| InputError::MalformedTensor)?;
			}
		}
		within(self.units(), limits)
	}
}

/// Whether there is one tensor for each of the model's inputs.
fn signed<T>(
	tensors: &[T],
	spec: &ModelSpec,
	admits: impl Fn(&TensorSpec, &T) -> bool,
) -> Result<(), InputError> {
	let signature = &spec.signature;
	if tensors.is_empty() {
		return Err(InputError::Empty);
	}
	if tensors.len() != signature.len()
		|| !signature
			.iter()
			.all(|spec| tensors.iter().any(|t| admits(spec, t)))
	{
		return Err(InputError::SignatureMismatch);
	}
	Ok(())
}

/// Whether a model takes so many units.
fn within(units: u32, limits: &Limits) -> Result<(), InputError> {
	if units > limits.max_input_units {
		return Err(InputError::InputTooLarge);
	}
	Ok(())
}

impl From<Input> for StoredInput {
	fn from(input: Input) -> Self {
		Self::Inline(input)
	}
}

impl From<Input> for FullInput {
	fn from(input: Input) -> Self {
		match input {
			Input::TextGeneration { prompt, sampling } => Self::TextGeneration { prompt, sampling },
			Input::ConstrainedText {
				prompt,
				sampling,
				constraint,
			} => Self::ConstrainedText {
				prompt,
				sampling,
				constraint,
			},
			Input::Embedding(text) => Self::Embedding(text),
			Input::Tensor(tensors) => Self::Tensor(List::truncate_from(
				tensors
					.into_iter()
					.map(|t| t.rebound().expect("this bound is the larger one; qed"))
					.collect(),
			)),
		}
	}
}

impl FullInput {
	/// How it is asked: in state, or with these bytes beside it where a tensor is larger than state takes.
	pub fn stored(self) -> (StoredInput, Option<Vec<u8>>) {
		let inline = match self {
			Self::TextGeneration { prompt, sampling } => Input::TextGeneration { prompt, sampling },
			Self::ConstrainedText {
				prompt,
				sampling,
				constraint,
			} => Input::ConstrainedText {
				prompt,
				sampling,
				constraint,
			},
			Self::Embedding(text) => Input::Embedding(text),
			Self::Tensor(tensors) => {
				if tensors
					.iter()
					.any(|t| t.data.len() > MAX_TENSOR_BYTES as usize)
				{
					let data = tensors.iter().flat_map(|t| t.data.iter().copied());
					let data: Vec<u8> = data.collect();
					let indexed = IndexedTensors {
						tensors: List::truncate_from(tensors.iter().map(Tensor::header).collect()),
						data_hash: H256(blake2_256(&data)),
					};
					return (StoredInput::Indexed(indexed), Some(data));
				}
				Input::Tensor(List::truncate_from(
					tensors.into_iter().filter_map(Tensor::rebound).collect(),
				))
			}
		};
		(StoredInput::Inline(inline), None)
	}
}

impl StoredInput {
	/// The task that this asks for.
	pub const fn task(&self) -> Task {
		match self {
			Self::Inline(input) => input.task(),
			Self::Indexed(_) => Task::Tensor,
		}
	}

	/// [`Input::units`].
	pub fn units(&self) -> u32 {
		match self {
			Self::Inline(input) => input.units(),
			Self::Indexed(indexed) => indexed
				.tensors
				.iter()
				.map(|t| t.units())
				.fold(0, u32::saturating_add),
		}
	}

	/// [`Input::max_output_units`].
	pub fn max_output_units(&self, limits: &Limits) -> u32 {
		match self {
			Self::Inline(input) => input.max_output_units(limits),
			Self::Indexed(_) => limits.max_output_units,
		}
	}

	/// Whether a model of this description takes the input. Data that stands elsewhere is not looked at.
	pub fn validate(&self, spec: &ModelSpec) -> Result<(), InputError> {
		match self {
			Self::Inline(input) => input.validate(spec),
			Self::Indexed(_) if spec.task != Task::Tensor => Err(InputError::WrongTask),
			Self::Indexed(indexed) => {
				signed(&indexed.tensors, spec, TensorSpec::admits_header)?;
				if indexed.bytes() > u64::from(MAX_DATA) {
					return Err(InputError::InputTooLarge);
				}
				within(self.units(), &spec.limits)
			}
		}
	}

	/// The input, if state holds all of it.
	pub const fn inline(&self) -> Option<&Input> {
		match self {
			Self::Inline(input) => Some(input),
			Self::Indexed(_) => None,
		}
	}

	/// What is asked, with the data of tensors that state does not hold. `None` if that is not the data.
	pub fn full(&self, data: &[u8]) -> Option<FullInput> {
		match self {
			Self::Inline(input) => Some(input.clone().into()),
			Self::Indexed(indexed) if H256(blake2_256(data)) == indexed.data_hash => {
				indexed.join(data).ok().map(FullInput::Tensor)
			}
			Self::Indexed(_) => None,
		}
	}
}

/// Why text generation ended.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
	/// The model said an end-of-text token, which is the last of the tokens.
	EndOfText,
	/// The text holds a stop string; the tokens end with the one that completed it.
	StopString,
	/// `max_tokens` tokens were given.
	Length,
}

/// Why no honest machine can answer an input. Each is found by every machine alike, so that it is checked like any answer: who
/// claims one falsely pays what a lie costs. Where several hold, the first in this order is the one to name.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Unanswerable {
	/// The model's chat template refuses the conversation: roles in an order that it does not know, or a template that fails on it.
	TemplateRefused,
	/// The text has more tokens than the model's context holds, however it is cut into tokens.
	PromptTooLong,
	/// The graph refuses the input: an index out of its bounds, or shapes that do not fit each other.
	GraphRefused,
	/// The model's numbers are not numbers: infinity or NaN among the logits or in the output.
	NotFinite,
	/// The output is larger than the model's limits or the chain's.
	OutputTooLarge,
	/// The constraint is none that answers can follow: it cannot be read, uses what the rules do not know, is too large, or leaves no
	/// token at some position. One that cannot be read is found before the graph runs, and named where the first two do not hold.
	ConstraintRefused,
}

impl Unanswerable {
	/// What it means, for people.
	pub const fn reason(self) -> &'static str {
		match self {
			Self::TemplateRefused => "the model's chat template refuses this conversation",
			Self::PromptTooLong => "the input has more tokens than the model's context holds",
			Self::GraphRefused => "the model's graph refuses this input",
			Self::NotFinite => "the model's numbers are not finite for this input",
			Self::OutputTooLarge => "the output is larger than the model's limits",
			Self::ConstraintRefused => "the constraint cannot be followed",
		}
	}
}

/// What an executor answers.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Output {
	/// Generated text. A reader reads `text`; a verifier recovers the exact claimed tokens from `tokens`, and checks
	/// that they say the text.
	Text {
		/// Token identities, end-of-text token included.
		tokens: List<codec::Compact<u32>, MAX_TOKENS>,
		/// What they say, in UTF-8, without special tokens.
		text: Bytes<MAX_TEXT>,
		/// Why it ended.
		finish: FinishReason,
	},
	/// Outputs of the graph; for an embedding one `FP32` tensor of one dimension.
	Tensors(List<Tensor, MAX_TENSORS>),
	/// No honest machine can answer this input, of whatever task.
	Unanswerable(Unanswerable),
}

impl Output {
	/// Output units to pay for: tokens, or what its tensors come to ([`Tensor::units`]).
	pub fn units(&self) -> u32 {
		match self {
			Self::Text { tokens, .. } => tokens.len() as u32,
			Self::Tensors(tensors) => tensors
				.iter()
				.map(Tensor::units)
				.fold(0, u32::saturating_add),
			Self::Unanswerable(_) => 0,
		}
	}

	/// Why there is no answer, where there is none.
	pub const fn unanswerable(&self) -> Option<Unanswerable> {
		match self {
			Self::Unanswerable(reason) => Some(*reason),
			Self::Text { .. } | Self::Tensors(_) => None,
		}
	}

	/// Whether an answer of this kind belongs to `task`, and is well-formed.
	pub fn fits(&self, task: Task) -> bool {
		match (self, task) {
			(Self::Text { tokens, text, .. }, Task::TextGeneration) => {
				!tokens.is_empty() && core::str::from_utf8(text).is_ok()
			}
			(Self::Tensors(tensors), Task::Embedding | Task::Tensor) => {
				!tensors.is_empty() && tensors.iter().all(|t| t.validate().is_ok())
			}
			(Self::Unanswerable(_), _) => true,
			_ => false,
		}
	}
}

/// How an answer is to be checked.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Assurance {
	/// A round of the executor and this many verifiers.
	Committee(u8),
	/// A round of the model's smallest committee with this probability in thousandths, decided after the answer is in. An
	/// answer that is not drawn for it can be appealed against for a while, and is final then. Only for text.
	Sampled(u16),
}

impl Assurance {
	/// Number of verifiers of a round, and that escrow must be able to pay, for a model with this policy.
	pub const fn verifiers(self, policy: &VerificationPolicy) -> u8 {
		match self {
			Self::Committee(n) => n,
			Self::Sampled(_) => policy.min_verifiers,
		}
	}

	/// Whether a model of this task and policy admits it, on a chain with so many verifiers at most.
	pub const fn is_admitted(self, task: Task, policy: &VerificationPolicy, most: u8) -> bool {
		let verifiers = self.verifiers(policy);
		verifiers >= policy.min_verifiers
			&& verifiers <= most
			&& match self {
				Self::Committee(_) => true,
				Self::Sampled(p) => {
					p >= policy.min_sampling && p <= 1_000 && !task.commits_output()
				}
			}
	}
}
