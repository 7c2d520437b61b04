//! How tokens are chosen, and what a model's publisher advises.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{Bytes, List};

/// Most stop strings, as in the OpenAI API.
pub const MAX_STOPS: u32 = 4;
/// Most bytes of a stop string.
pub const MAX_STOP: u32 = 64;
/// Most tokens with a bias of their own.
pub const MAX_BIASES: u32 = 16;

/// One, in the thousandths in which parameters are given.
pub const ONE: u16 = 1_000;
/// Highest temperature, in thousandths.
pub const MAX_TEMPERATURE: u16 = 2_000;
/// Lowest and highest repetition penalty, in thousandths: by so much at most it magnifies what honest machines differ by.
pub const REPETITION_PENALTY: core::ops::RangeInclusive<u16> = 100..=10_000;
/// Largest presence or frequency penalty either way, in thousandths, as in the OpenAI API.
pub const MAX_PENALTY: i16 = 2_000;
/// Largest bias either way, in thousandths, as in the OpenAI API.
pub const MAX_BIAS: i32 = 100_000;

/// Most bytes of a constraint's text.
pub const MAX_CONSTRAINT: u32 = 8_192;
/// The rules by which constraints become masks that this program and this runtime know: which library at which version, its limits, and
/// how JSON is written. Masks are promised equal among those who follow the same rules, and among no others, so that whatever changes a
/// mask takes the next number.
pub const CONSTRAINT_RULES: u16 = 1;

/// How tokens are chosen. A [`Default`] is greedy and gives at most 128 tokens.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Sampling {
	/// Most tokens of the answer, the end-of-text token included.
	pub max_tokens: u32,
	/// Temperature in thousandths, 0 (greedy) to 2,000.
	pub temperature: u16,
	/// Nucleus in thousandths, 1 to 1,000 (everything).
	pub top_p: u16,
	/// Strings at which the answer ends.
	pub stop: List<Bytes<MAX_STOP>, MAX_STOPS>,
	/// What else is done to the logits: one byte where nothing is.
	pub processing: Option<LogitsProcessing>,
}

impl Default for Sampling {
	fn default() -> Self {
		Self {
			max_tokens: 128,
			temperature: 0,
			top_p: ONE,
			stop: List::new(),
			processing: None,
		}
	}
}

impl Sampling {
	/// Which parameter is out of its range, in words.
	pub fn check(&self) -> Result<(), &'static str> {
		let bad_stop = |s: &Bytes<MAX_STOP>| s.is_empty() || core::str::from_utf8(s).is_err();
		if self.temperature > MAX_TEMPERATURE {
			return Err("temperature must be from 0 to 2");
		}
		if self.top_p == 0 || self.top_p > ONE {
			return Err("top_p must be above 0 and at most 1");
		}
		if self.stop.iter().any(bad_stop) {
			return Err("stop must hold strings that are text and not empty");
		}
		self.processing.as_ref().map_or(Ok(()), |p| p.check())
	}
}

/// What is done to logits before a token is drawn, as Hugging Face's logits processors do it. A [`Default`] does nothing.
///
/// The order is that of vLLM: bias, repetition penalty, frequency and presence penalty, temperature, `min_p` and `top_k`, `top_p`
/// among what these leave. The first three also count where the temperature is zero.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct LogitsProcessing {
	/// Only so many of the likeliest tokens take part, and those that tie with the last of them; 0 for all.
	pub top_k: u16,
	/// Only tokens take part that are at least so likely as this share of the likeliest, in thousandths, 0 (all) to 1,000.
	pub min_p: u16,
	/// By what the positive logits of tokens in the prompt or the answer so far are divided and the others multiplied, in
	/// thousandths, 100 to 10,000; 1,000 changes nothing.
	pub repetition_penalty: u16,
	/// What is taken from the logits of tokens in the answer so far, in thousandths, −2,000 to 2,000.
	pub presence_penalty: i16,
	/// What is taken from a token's logit for each time that the answer so far has it, in thousandths, −2,000 to 2,000.
	pub frequency_penalty: i16,
	/// Tokens and what is added to their logits, in thousandths, −100,000 to 100,000; by rising token. A token that the model's
	/// vocabulary does not have is never said, whatever its bias.
	pub logit_bias: List<(u32, i32), MAX_BIASES>,
}

impl Default for LogitsProcessing {
	fn default() -> Self {
		Self {
			top_k: 0,
			min_p: 0,
			repetition_penalty: ONE,
			presence_penalty: 0,
			frequency_penalty: 0,
			logit_bias: List::new(),
		}
	}
}

impl LogitsProcessing {
	/// For [`Sampling::processing`]: `None` where this does nothing, so that it takes one byte.
	pub fn compact(self) -> Option<Self> {
		(self != Self::default()).then_some(self)
	}

	fn check(&self) -> Result<(), &'static str> {
		let penalty = |p: i16| (-MAX_PENALTY..=MAX_PENALTY).contains(&p);
		let biases = &self.logit_bias;
		if self.min_p > ONE {
			return Err("min_p must be from 0 to 1");
		}
		if !REPETITION_PENALTY.contains(&self.repetition_penalty) {
			return Err("repetition_penalty must be from 0.1 to 10");
		}
		if !penalty(self.presence_penalty) {
			return Err("presence_penalty must be from -2 to 2");
		}
		if !penalty(self.frequency_penalty) {
			return Err("frequency_penalty must be from -2 to 2");
		}
		if biases
			.iter()
			.any(|(_, b)| !(-MAX_BIAS..=MAX_BIAS).contains(b))
		{
			return Err("logit_bias must hold biases from -100 to 100");
		}
		if !biases.iter().is_sorted_by(|a, b| a.0 < b.0) {
			return Err("logit_bias must hold each token once, by rising token");
		}
		Ok(())
	}
}

/// In which language a [`Constraint`] is written.
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
pub enum ConstraintForm {
	/// A JSON schema: the answer is one JSON value that it describes.
	JsonSchema,
	/// A regular expression, which the whole answer matches.
	Regex,
	/// A grammar in the form of Lark, whose rule `start` the whole answer follows.
	Lark,
}

/// What an answer may be: at each position only tokens take part that can still become such an answer, and the model may end it only
/// where it is one.
///
/// The mask follows from the constraint and the tokens before a position, so that who checks an answer finds it without another pass. It
/// comes before everything else that is done to logits; `top_k`, `min_p` and `top_p` count among what it leaves. Who cannot follow
/// [`Constraint::rules`] cannot judge the answer.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Constraint {
	/// [`CONSTRAINT_RULES`] of whoever asks.
	pub rules: u16,
	/// In which language it is written.
	pub form: ConstraintForm,
	/// The schema, expression or grammar, in UTF-8.
	pub text: Bytes<MAX_CONSTRAINT>,
}

impl Constraint {
	/// By the rules of this program. Fails, in words, where the text is too long.
	pub fn new(form: ConstraintForm, text: &str) -> Result<Self, &'static str> {
		let text = text.as_bytes().to_vec().try_into();
		let constraint = Self {
			rules: CONSTRAINT_RULES,
			form,
			text: text.map_err(|_| "a constraint has at most 8,192 bytes")?,
		};
		constraint.check()?;
		Ok(constraint)
	}

	/// What is wrong with it, in words, as far as it can be seen without the library that makes masks of it.
	pub fn check(&self) -> Result<(), &'static str> {
		if self.rules != CONSTRAINT_RULES {
			return Err("the constraint is for other rules than this network's");
		}
		if self.text.is_empty() || core::str::from_utf8(&self.text).is_err() {
			return Err("a constraint is text and not empty");
		}
		Ok(())
	}
}

/// How the publisher of a model would have tokens chosen: what its `generation_config.json` says, in the units of [`Sampling`] and
/// [`LogitsProcessing`].
///
/// It is advice to who asks: clients fill in with it what a person leaves open, so that a request always says itself what holds.
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
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
	/// [`Sampling::temperature`].
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub temperature: Option<u16>,
	/// [`Sampling::top_p`].
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub top_p: Option<u16>,
	/// [`LogitsProcessing::top_k`].
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub top_k: Option<u16>,
	/// [`LogitsProcessing::min_p`].
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub min_p: Option<u16>,
	/// [`LogitsProcessing::repetition_penalty`].
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub repetition_penalty: Option<u16>,
}

impl SamplingDefaults {
	/// Whether nothing is advised.
	pub fn is_empty(&self) -> bool {
		*self == Self::default()
	}

	/// The sampling of a request that leaves everything open.
	pub fn sampling(&self) -> Sampling {
		let (greedy, nothing) = (Sampling::default(), LogitsProcessing::default());
		let processing = LogitsProcessing {
			top_k: self.top_k.unwrap_or(nothing.top_k),
			min_p: self.min_p.unwrap_or(nothing.min_p),
			repetition_penalty: self
				.repetition_penalty
				.unwrap_or(nothing.repetition_penalty),
			..nothing
		};
		Sampling {
			temperature: self.temperature.unwrap_or(greedy.temperature),
			top_p: self.top_p.unwrap_or(greedy.top_p),
			processing: processing.compact(),
			..greedy
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use alloc::{vec, vec::Vec};

	#[test]
	fn a_request_that_uses_none_of_it_pays_one_byte() {
		let plain = Sampling::default();
		assert_eq!(plain.encoded_size(), 4 + 2 + 2 + 1 + 1);
		assert_eq!(LogitsProcessing::default().compact(), None);
		let biases: Vec<_> = (0..MAX_BIASES).map(|t| (t, MAX_BIAS)).collect();
		let most = Sampling {
			stop: vec![vec![b'x'; MAX_STOP as usize].try_into().unwrap(); MAX_STOPS as usize]
				.try_into()
				.unwrap(),
			processing: Some(LogitsProcessing {
				logit_bias: biases.try_into().unwrap(),
				..Default::default()
			}),
			..plain
		};
		assert_eq!(most.check(), Ok(()));
		assert!(most.encoded_size() <= Sampling::max_encoded_len());
		assert_eq!(
			Sampling::decode(&mut &most.encode()[..]).as_ref(),
			Ok(&most)
		);
	}

	type Change = fn(&mut Sampling, &mut LogitsProcessing);

	#[test]
	fn what_is_out_of_range_is_named() {
		let said = |change: Change| {
			let (mut sampling, mut processing) = Default::default();
			change(&mut sampling, &mut processing);
			sampling.processing = processing.compact();
			sampling.check()
		};
		let bias = |list: &[(u32, i32)]| List::truncate_from(list.to_vec());
		let wrong: [(Change, &str); 9] = [
			(|s, _| s.temperature = 2_001, "temperature"),
			(|s, _| s.top_p = 0, "top_p"),
			(|s, _| s.top_p = 1_001, "top_p"),
			(|_, p| p.min_p = 1_001, "min_p"),
			(|_, p| p.repetition_penalty = 99, "repetition_penalty"),
			(|_, p| p.repetition_penalty = 10_001, "repetition_penalty"),
			(|_, p| p.presence_penalty = -2_001, "presence_penalty"),
			(|_, p| p.frequency_penalty = 2_001, "frequency_penalty"),
			(|_, p| p.presence_penalty = i16::MIN, "presence_penalty"),
		];
		for (change, field) in wrong {
			let why = said(change).unwrap_err();
			assert!(why.starts_with(field), "{why}");
		}
		for list in [
			&[(1, 100_001)][..],
			&[(1, i32::MIN)],
			&[(2, 1), (1, 1)],
			&[(1, 1), (1, 1)],
		] {
			let processing = LogitsProcessing {
				logit_bias: bias(list),
				..Default::default()
			};
			assert!(processing.check().unwrap_err().starts_with("logit_bias"));
		}
		let right: [Change; 3] = [
			|s, _| s.temperature = 2_000,
			|_, p| (p.repetition_penalty, p.min_p) = (100, 1_000),
			|_, p| (p.presence_penalty, p.frequency_penalty, p.top_k) = (-2_000, 2_000, u16::MAX),
		];
		for change in right {
			assert_eq!(said(change), Ok(()));
		}
	}

	#[test]
	fn a_constraint_is_bounded_text_for_known_rules() {
		let new = |text: &str| Constraint::new(ConstraintForm::JsonSchema, text);
		let most = new(&"x".repeat(MAX_CONSTRAINT as usize)).unwrap();
		assert_eq!(most.encoded_size(), Constraint::max_encoded_len());
		assert_eq!(most.encode()[..3], [1, 0, 0], "rules, then the form");
		assert!(new(&"x".repeat(MAX_CONSTRAINT as usize + 1)).is_err());
		assert!(new("").is_err());
		let other = Constraint {
			rules: CONSTRAINT_RULES + 1,
			..most.clone()
		};
		assert!(other.check().unwrap_err().contains("rules"));
		let text = vec![0xff].try_into().unwrap();
		assert!(Constraint { text, ..most }.check().is_err());
	}

	#[test]
	fn advice_fills_in_what_it_says() {
		assert_eq!(SamplingDefaults::default().sampling(), Sampling::default());
		let advice = SamplingDefaults {
			temperature: Some(600),
			top_k: Some(20),
			..Default::default()
		};
		let sampling = advice.sampling();
		assert_eq!((sampling.temperature, sampling.top_p), (600, 1_000));
		let processing = sampling.processing.unwrap();
		assert_eq!((processing.top_k, processing.min_p), (20, 0));
	}
}
