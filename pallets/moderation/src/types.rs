//! What is asked, how an answer is read, and what is kept.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
pub use consilience_primitives::ModelId;
use consilience_primitives::{
	fixed,
	request::{Assurance, Input, Message, Output, Prompt, Role, Unanswerable},
	sampling::Sampling,
	tensor::{DataType, Tensor, MAX_NAME, MAX_RANK, MAX_TENSOR_BYTES},
	view::{QuoteError, RequestState},
	Bytes, List, RequestId,
};
use polkadot_sdk::{
	frame_support::traits::fungible::Inspect,
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_runtime::BoundedVec,
};
use scale_info::TypeInfo;

/// Balances of runtime `T`.
pub type BalanceOf<T> =
	<<T as crate::Config>::Currency as Inspect<<T as frame_system::Config>::AccountId>>::Balance;
/// A text of runtime `T`.
pub type TextOf<T> = BoundedVec<u8, <T as crate::Config>::MaxLength>;
/// A proposal of runtime `T`.
pub type ProposalOf<T> = Proposal<TextOf<T>, BalanceOf<T>>;
/// A stored text of runtime `T`.
pub type NoteOf<T> = Note<TextOf<T>, BalanceOf<T>, BlockNumberFor<T>>;

/// Most bytes of a text that any question has room for: as many as a string in a tensor has, and fewer than a chat message.
pub const MAX_QUESTION: u32 = 16_384;
/// Most bytes of instructions.
pub const MAX_INSTRUCTIONS: u32 = 2_048;
/// Most bytes of a word that decides.
pub const MAX_WORD: u32 = 32;
/// Scores are compared in steps of 2⁻¹⁶.
pub const SCORE_BITS: u8 = 16;

/// What is asked, of which model, and how its answer is read.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Policy {
	/// The model.
	pub model: ModelId,
	/// What it is asked about a text.
	pub question: Question,
	/// How its answer is read.
	pub reading: Reading,
	/// How its answer is checked.
	pub assurance: Assurance,
}

/// What a model is asked about a text.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Question {
	/// For a language model with a chat template: the instructions as a message of the system's, the text as one of the user's.
	///
	/// The text is whatever its author wants, instructions to the model among it. `logit_bias` on the two words of a
	/// [`Reading::Word`] keeps the model from saying anything else; whom it obeys depends on the model.
	Chat {
		/// What the model is to judge by, and in which words it is to answer.
		instructions: Bytes<MAX_INSTRUCTIONS>,
		/// How to choose tokens: a few are enough, and greedily.
		sampling: Sampling,
	},
	/// For a classifier: the text as the only string of the only input tensor.
	Classify {
		/// Name of the graph's input.
		input: Bytes<MAX_NAME>,
		/// Its number of dimensions, each of length one.
		rank: u8,
	},
}

impl Question {
	// docs: input
	/// The input about this text. `None` if it has no room.
	pub fn input(&self, text: &[u8]) -> Option<Input> {
		Some(match self {
			Self::Chat {
				instructions,
				sampling,
			} => {
				let message = |role, content: &[u8]| {
					let content = content.to_vec().try_into().ok()?;
					Some(Message { role, content })
				};
				let messages = Vec::from([
					message(Role::System, instructions)?,
					message(Role::User, text)?,
				]);
				Input::TextGeneration {
					prompt: Prompt::Chat(messages.try_into().ok()?),
					sampling: sampling.clone(),
				}
			}
			Self::Classify { input, rank } => {
				let length = u32::try_from(text.len()).ok()?;
				let tensor = Tensor::<MAX_TENSOR_BYTES> {
					name: input.clone(),
					datatype: DataType::Bytes,
					shape: List::try_from(alloc::vec![1; (*rank).into()]).ok()?,
					data: [&length.to_le_bytes(), text].concat().try_into().ok()?,
				};
				Input::Tensor(Vec::from([tensor]).try_into().ok()?)
			}
		})
	}
	// docs: end

	/// Most bytes that an input takes in SCALE beside the text.
	pub fn overhead() -> u32 {
		// Either kind of question; lengths, tags and the roles of messages are fewer bytes than 128.
		MAX_INSTRUCTIONS
			.saturating_add(Sampling::max_encoded_len() as u32)
			.saturating_add(128)
	}
}

/// How an answer is read.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Reading {
	/// The first word of a text decides, in letters of either case.
	Word {
		/// What allows.
		allow: Bytes<MAX_WORD>,
		/// What refuses.
		refuse: Bytes<MAX_WORD>,
	},
	/// One element of a tensor of floats decides: up to this score the text is allowed.
	Score {
		/// Name of the graph's output.
		output: Bytes<MAX_NAME>,
		/// Place of the element, row by row.
		element: u32,
		/// The highest score that allows, in steps of 2⁻¹⁶ ([`SCORE_BITS`]).
		most: i64,
	},
}

/// What an answer says of a text.
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
pub enum Verdict {
	/// It may be stored.
	Allowed,
	/// It may not.
	Refused,
	/// Neither: another word, or a score that is no number. It is not stored.
	Unclear,
}

impl Reading {
	// docs: verdict
	/// Reads answers, in integers only: block execution never touches a float.
	pub fn verdict(&self, output: &Output) -> Verdict {
		match (self, output) {
			(Self::Word { allow, refuse }, Output::Text { text, .. }) => {
				let word = first_word(text);
				if word.eq_ignore_ascii_case(allow) {
					Verdict::Allowed
				} else if word.eq_ignore_ascii_case(refuse) {
					Verdict::Refused
				} else {
					Verdict::Unclear
				}
			}
			(
				Self::Score {
					output,
					element,
					most,
				},
				Output::Tensors(tensors),
			) => {
				let scores = tensors
					.iter()
					.find(|t| t.name == *output)
					.and_then(|t| fixed::floats(t, SCORE_BITS));
				match scores.and_then(|mut scores| scores.nth(*element as usize)) {
					Some(Ok(score)) if score <= *most => Verdict::Allowed,
					Some(Ok(_)) => Verdict::Refused,
					Some(Err(_)) | None => Verdict::Unclear,
				}
			}
			_ => Verdict::Unclear,
		}
	}
	// docs: end
}

/// The first letters and digits of a text, up to what is neither.
fn first_word(text: &[u8]) -> &[u8] {
	let text = core::str::from_utf8(text).unwrap_or_default();
	let begun = text.trim_start_matches(|c: char| !c.is_alphanumeric());
	let end = begun
		.find(|c: char| !c.is_alphanumeric())
		.unwrap_or(begun.len());
	&begun.as_bytes()[..end]
}

impl Policy {
	/// Whether an answer can be read as the policy reads it, and the question is well-formed. Not whether the model takes it.
	pub fn is_valid(&self) -> bool {
		let is_text = |bytes: &[u8]| !bytes.is_empty() && core::str::from_utf8(bytes).is_ok();
		match (&self.question, &self.reading) {
			(
				Question::Chat {
					instructions,
					sampling,
				},
				Reading::Word { allow, refuse },
			) => {
				let is_word = |word: &[u8]| is_text(word) && first_word(word) == word;
				is_text(instructions)
					&& sampling.max_tokens > 0
					&& sampling.check().is_ok()
					&& is_word(allow)
					&& is_word(refuse)
					&& !allow.eq_ignore_ascii_case(refuse)
			}
			(Question::Classify { input, rank }, Reading::Score { output, .. }) => {
				is_text(input) && is_text(output) && u32::from(*rank) <= MAX_RANK
			}
			_ => false,
		}
	}
}

/// A text that is being judged.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Proposal<Text, Balance> {
	/// The question.
	pub request: RequestId,
	/// The text, in UTF-8.
	pub text: Text,
	/// What is held for it.
	pub deposit: Balance,
	/// How the answer is read, whatever the policy says by then.
	pub reading: Reading,
}

/// A text that was allowed.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Note<Text, Balance, BlockNumber> {
	/// The text, in UTF-8.
	pub text: Text,
	/// What is held for it.
	pub deposit: Balance,
	/// The question whose answer allowed it.
	pub request: RequestId,
	/// Block in which it was stored.
	pub since: BlockNumber,
}

/// Why a text was not judged.
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
pub enum NotJudged {
	/// No honest machine can answer the question. Those who found that out were paid.
	Unanswerable(Unanswerable),
	/// The question was rejected, expired or was cancelled: its fee was returned.
	Refunded(RequestState),
	/// The answer was final for a moment and was found false before this pallet heard of it.
	Overturned,
}

/// What is held for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Quote<Balance> {
	/// The least fee limit. What the answer costs less is returned.
	pub fee_limit: Balance,
	/// Held while the text is judged or stored.
	pub deposit: Balance,
}

/// Why a text would not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum Unquoted {
	/// There is no policy.
	NoPolicy,
	/// More bytes than a text may have.
	TooLong,
	/// It is empty, no UTF-8, or has a control character other than a line feed.
	BadText,
	/// The question would be refused.
	Inference(QuoteError),
}
