//! What stands on chain about a model.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{
	evidence::Evidence,
	sampling::SamplingDefaults,
	tensor::{TensorSpec, MAX_TENSORS},
	Bytes, List,
};

/// Longest name of a model, in bytes.
pub const MAX_MODEL_NAME: u32 = 64;

/// Most verifiers of a round on this chain.
pub const MAX_VERIFIERS: u8 = 15;

/// What a model does.
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
#[serde(rename_all = "kebab-case")]
pub enum Task {
	/// Tokens after a prompt.
	TextGeneration,
	/// A vector for a text.
	Embedding,
	/// Tensors in, tensors out.
	Tensor,
}

impl Task {
	/// Whether the answer *is* the evidence, and is therefore committed to before it is shown.
	pub const fn commits_output(self) -> bool {
		matches!(self, Self::Embedding | Self::Tensor)
	}
}

/// Whether honest validators get equal bits.
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
#[serde(rename_all = "kebab-case")]
pub enum NumericClass {
	/// A canonical graph on the CPU provider: equal bits, all thresholds zero.
	Exact,
	/// Any other graph or provider: thresholds from measurements.
	Tolerant,
}

/// What a model takes and gives at most.
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
pub struct Limits {
	/// Most input units: bytes of text, or elements.
	pub max_input_units: u32,
	/// Most output units: tokens, or elements.
	pub max_output_units: u32,
}

/// What an inference costs. Units are those of [`crate::request::Input::units`] and
/// [`crate::request::Output::units`].
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
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
pub struct Price<Balance> {
	/// For every request.
	pub per_request: Balance,
	/// For every input unit.
	pub per_input_unit: Balance,
	/// For every output unit.
	pub per_output_unit: Balance,
}

impl<Balance> Price<Balance>
where
	Balance: polkadot_sdk::sp_runtime::traits::AtLeast32BitUnsigned + Copy,
{
	/// Price of so many units in and out; `None` where it does not fit the balance type.
	pub fn of(&self, input_units: u32, output_units: u32) -> Option<Balance> {
		let input = self.per_input_unit.checked_mul(&input_units.into())?;
		let output = self.per_output_unit.checked_mul(&output_units.into())?;
		self.per_request.checked_add(&input)?.checked_add(&output)
	}
}

/// How long the work may take, in blocks.
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
pub struct TimeLimit {
	/// Blocks for any answer or measurement: loading, queueing, inclusion.
	pub base_blocks: u32,
	/// Output units that an executor must give a block beyond that; never zero.
	pub output_units_per_block: u32,
}

/// Most blocks that a model may give for its longest answer: an hour at three seconds a block. A model that were slower could have a
/// lie found only when no stake answers for it any more.
pub const MAX_ANSWER_BLOCKS: u32 = 1_200;

impl TimeLimit {
	/// Blocks that an executor has for so many output units.
	pub fn answer_blocks(&self, output_units: u32) -> u32 {
		self.base_blocks
			.saturating_add(output_units.div_ceil(self.output_units_per_block.max(1)))
	}
}

impl TimeLimit {
	/// Work of so many output units in thousandths of a block of one machine: what capacity is counted in. At least one.
	pub fn work(&self, output_units: u32) -> u32 {
		let work = u64::from(output_units) * 1_000 / u64::from(self.output_units_per_block.max(1));
		u32::try_from(work).unwrap_or(u32::MAX).max(1)
	}

	/// Work of measuring an answer of so much work. One pass over prompt and answer was measured at 0.13 to 0.19 of generating it.
	pub fn measuring(work: u32) -> u32 {
		work.div_ceil(4)
	}
}

/// How fast a validator's machine is with a model, as it has measured when it checked the model: what its capacity is counted with.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
pub struct Speed {
	/// Time that the machine needs, with several answers at once, in thousandths of what the model's [`TimeLimit`] gives for them.
	pub pace: u32,
	/// Work of every duty beside the model (reading the question, saying the answer), in thousandths of a block.
	pub duty: u32,
}

/// As fast as the model's description says, with nothing to do beside it.
impl Default for Speed {
	fn default() -> Self {
		Self {
			pace: 1_000,
			duty: 0,
		}
	}
}

impl Speed {
	/// Least pace that is taken: a machine that were faster would still be given no more.
	pub const LEAST_PACE: u32 = 10;
	/// Largest pace that is taken. The chain counts a slower machine as one of this pace.
	pub const MOST_PACE: u32 = 4_000;
	/// Most work of a duty beside the model that is taken.
	pub const MOST_DUTY: u32 = 500;

	/// Whether the chain takes it.
	pub fn is_valid(&self) -> bool {
		(Self::LEAST_PACE..=Self::MOST_PACE).contains(&self.pace) && self.duty <= Self::MOST_DUTY
	}

	/// What so much work of the model's description is on this machine, in thousandths of a block. At least one.
	pub fn work(&self, described: u32) -> u32 {
		let own = u64::from(described) * u64::from(self.pace) / 1_000;
		u32::try_from(own)
			.unwrap_or(u32::MAX)
			.saturating_add(self.duty)
			.max(1)
	}

	/// A machine that was late: as if it needed twice as long, as far as that is taken.
	pub fn slower(&self) -> Self {
		let twice = |n: u32, most: u32| n.saturating_mul(2).min(most);
		Self {
			pace: twice(self.pace, Self::MOST_PACE),
			duty: twice(self.duty.max(1), Self::MOST_DUTY),
		}
	}
}

/// The largest distances that a judgement allows.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
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
pub struct Bounds {
	/// Mean distance of a fingerprint's values from the reference, in 1/256 of a value step.
	pub mean: u32,
	/// Largest distance of one value, in value steps.
	pub max: u32,
	/// Largest margin of an answer position, in 2⁻¹⁶ of a logit.
	pub margin_max: u32,
	/// Mean margin over the answer, in 2⁻¹⁶ of a logit.
	pub margin_mean: u32,
}

/// How answers of a model are checked. Comes from measurements with a held-out split.
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
pub struct VerificationPolicy {
	/// Numeric class. Exact: fingerprints are digests, and all bounds are zero.
	pub class: NumericClass,
	/// Positions of text that a challenge draws, or sums that it has made of tensors ([`crate::sketch`]); never zero.
	pub positions: u8,
	/// Vocabulary entries that a challenge draws at each position of a text (tolerant class).
	pub entries: u8,
	/// A fingerprint's values are in steps of 2 to the power of minus this, at most 24.
	pub fraction_bits: u8,
	/// Within: the member is paid, the answer is right.
	pub accept: Bounds,
	/// Beyond: an offence. Between the two nobody is paid and nobody slashed.
	pub fraud: Bounds,
	/// Fewest verifiers that a request may ask for; never zero.
	pub min_verifiers: u8,
	/// Smallest probability of a check that a request may ask for, in thousandths: at most 1,000, which admits a
	/// [`crate::request::Assurance::Sampled`] that is always drawn.
	#[serde(default = "always")]
	pub min_sampling: u16,
}

impl VerificationPolicy {
	/// The policy by which measurements of this output are compared. That an input cannot be answered is found by every machine
	/// alike: it is compared as in the exact class.
	pub fn for_output(&self, unanswerable: bool) -> Self {
		if !unanswerable {
			return *self;
		}
		Self {
			class: NumericClass::Exact,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			..*self
		}
	}
}

/// A manifest that does not speak of sampling has every answer checked.
const fn always() -> u16 {
	1_000
}

/// Why a model's description is refused.
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
pub enum SpecError {
	/// The name is empty or not UTF-8.
	BadName,
	/// A limit or time limit of zero, or more than the chain can carry.
	BadLimits,
	/// Zero positions, zero verifiers, a probability over one, more fingerprint values than evidence holds, too fine a step, bounds of the
	/// exact class that are not zero, or fraud bounds within the accept bounds.
	BadPolicy,
	/// A tensor model without a signature, or another task with one; a chat of another task than text generation.
	BadSignature,
	/// The reference evidence is of another kind than the class asks for.
	BadReference,
	/// Advice on sampling that no request could follow, or for a model that generates no text.
	BadSampling,
}

/// What is registered on chain about a model, beside its id. Every validator that attests the model has compared it with
/// the manifest.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct ModelSpec {
	/// Name for people; not unique.
	pub name: Bytes<MAX_MODEL_NAME>,
	/// What it does.
	pub task: Task,
	/// Size of all files, in bytes.
	pub size: u64,
	/// Whether it takes chats: a text model with a chat template.
	pub chat: bool,
	/// What it takes and gives at most.
	pub limits: Limits,
	/// How long work may take.
	pub time: TimeLimit,
	/// How answers are checked.
	pub policy: VerificationPolicy,
	/// Inputs of a tensor model; empty for other tasks.
	pub signature: List<TensorSpec, MAX_TENSORS>,
	/// How its publisher would have tokens chosen; nothing for other tasks than text generation.
	pub sampling: SamplingDefaults,
	/// Evidence of the manifest's reference inference, to be reproduced by whoever serves the model.
	pub reference: Evidence,
}

impl ModelSpec {
	/// Whether the description makes sense.
	pub fn validate(&self) -> Result<(), SpecError> {
		use crate::{evidence::MAX_VALUES, request::MAX_TOKENS, tensor::MAX_TENSOR_BYTES};
		if core::str::from_utf8(&self.name).map_or(true, |n| n.trim().is_empty()) {
			return Err(SpecError::BadName);
		}
		let most = match self.task {
			Task::TextGeneration => MAX_TOKENS,
			Task::Embedding | Task::Tensor => MAX_TENSOR_BYTES,
		};
		if self.limits.max_input_units == 0
			|| self.limits.max_output_units == 0
			|| self.limits.max_output_units > most
			|| self.time.base_blocks == 0
			|| self.time.output_units_per_block == 0
			|| self.time.answer_blocks(self.limits.max_output_units) > MAX_ANSWER_BLOCKS
		{
			return Err(SpecError::BadLimits);
		}
		let policy = &self.policy;
		let values = match self.task {
			Task::TextGeneration => u32::from(policy.positions) * u32::from(policy.entries.max(1)),
			Task::Embedding | Task::Tensor => u32::from(policy.positions),
		};
		let (accept, fraud) = (&policy.accept, &policy.fraud);
		let bounds = match policy.class {
			NumericClass::Exact => *accept == Bounds::default() && *fraud == Bounds::default(),
			NumericClass::Tolerant => {
				values <= MAX_VALUES
					&& accept.mean <= fraud.mean
					&& accept.max <= fraud.max
					&& accept.margin_max <= fraud.margin_max
					&& accept.margin_mean <= fraud.margin_mean
			}
		};
		if !bounds
			|| policy.positions == 0
			|| policy.min_verifiers == 0
			|| policy.min_sampling > 1_000
			|| policy.fraction_bits > 24
		{
			return Err(SpecError::BadPolicy);
		}
		if (self.task == Task::Tensor) == self.signature.is_empty()
			|| (self.chat && self.task != Task::TextGeneration)
		{
			return Err(SpecError::BadSignature);
		}
		if !self.reference.is_of(policy.class) || self.reference.prior.is_some() {
			return Err(SpecError::BadReference);
		}
		let advises = !self.sampling.is_empty();
		if advises
			&& (self.task != Task::TextGeneration || self.sampling.sampling().check().is_err())
		{
			return Err(SpecError::BadSampling);
		}
		Ok(())
	}
}

/// Where a model stands.
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
pub enum ModelStatus {
	/// On chain; too few serve it to answer requests.
	Registered,
	/// Enough validators have reproduced its reference evidence: requests are taken.
	Active,
	/// Withdrawn by its owner: open requests are finished, new ones refused.
	Deprecated,
}
