//! Dishonest answers, and what of each is measured.

use consilience_engine::Part;
use consilience_primitives::request::{FinishReason, FullInput, Output};
use polkadot_sdk::sp_core::H256;

use crate::{
	model::{tokens, Model},
	questions::{challenge, number},
	CalibrationError,
};

/// An answer as it was claimed, honestly or not.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
	/// Number of the question.
	pub(crate) question: usize,
	pub(crate) input: FullInput,
	pub(crate) seed: H256,
	/// The answer; `None` for tasks whose answer is the evidence.
	pub(crate) output: Option<Output>,
	/// For each column of the report that it counts in, how many tokens of it do; `None` for all.
	pub(crate) columns: Vec<(usize, Option<u32>)>,
	/// Where it first says something else than the model does, if that is inside both.
	pub(crate) deviation: Option<Deviation>,
	/// For each of `columns`, whether what counts is another answer than the model's.
	pub(crate) wrong: Vec<bool>,
}

/// The first token that is not what the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deviation {
	pub(crate) position: u32,
	pub(crate) said: u32,
	pub(crate) should: u32,
}

impl Claim {
	/// A claim of a text, in all columns from `from` tokens on; `truth` is what the model says.
	pub(crate) fn text(
		question: usize,
		(input, seed): (&FullInput, H256),
		output: Output,
		truth: &[u32],
		lengths: &[u32],
		from: u32,
	) -> Self {
		let said = tokens(&output);
		let columns: Vec<_> = lengths
			.iter()
			.enumerate()
			.filter(|(_, n)| **n >= from)
			.map(|(column, n)| (column, Some((*n).min(said.len() as u32))))
			.collect();
		let wrong = columns
			.iter()
			.map(|(column, n)| {
				let asked = lengths[*column] as usize;
				let n = n.map_or(said.len(), |n| n as usize);
				said[..n] != truth[..truth.len().min(asked)]
			})
			.collect();
		let deviation = said
			.iter()
			.zip(truth)
			.position(|(a, b)| a != b)
			.map(|position| Deviation {
				position: position as u32,
				said: said[position],
				should: truth[position],
			});
		Self {
			question,
			input: input.clone(),
			seed,
			output: Some(output),
			columns,
			deviation,
			wrong,
		}
	}

	/// What a task without tokens answers.
	pub(crate) fn whole(question: usize, input: &FullInput, seed: H256) -> Self {
		Self {
			question,
			input: input.clone(),
			seed,
			output: None,
			columns: vec![(0, None)],
			deviation: None,
			wrong: vec![true],
		}
	}

	/// What is measured: each column under each challenge, and at the end, where there is a deviation, the answer up to it and
	/// with it.
	pub(crate) fn parts(&self, challenges: usize) -> Vec<Part> {
		let mut parts = Vec::new();
		for (_, tokens) in &self.columns {
			for c in 0..challenges {
				parts.push(Part {
					tokens: *tokens,
					challenge: challenge(self.question, c),
				});
			}
		}
		if let Some(deviation) = self.deviation {
			let challenge = challenge(self.question, 0);
			for tokens in [deviation.position, deviation.position + 1] {
				if tokens > 0 {
					parts.push(Part {
						tokens: Some(tokens),
						challenge,
					});
				}
			}
		}
		parts
	}
}

/// The model's answer with one token replaced by another. `None` where it has only the end.
pub(crate) fn replaced(
	model: &Model,
	question: usize,
	truth: &[u32],
	finish: FinishReason,
) -> Result<Option<Output>, CalibrationError> {
	let ends = model.ends();
	// The end stays where it is: to cut or pad is another lie.
	let words = truth.iter().take_while(|t| !ends.contains(t)).count() as u32;
	if words == 0 {
		return Ok(None);
	}
	let place = number("place", question, words) as usize;
	let vocabulary = model.vocabulary();
	let first = number("word", question, vocabulary);
	let other = (0..vocabulary)
		.map(|n| (first + n) % vocabulary)
		.find(|t| *t != truth[place] && !ends.contains(t));
	let Some(other) = other else { return Ok(None) };
	let mut said = truth.to_vec();
	said[place] = other;
	model.answer(&said, finish).map(Some)
}

/// The model's answer cut to so many tokens, the last of which is made the end. `None` where it is no longer than that.
pub(crate) fn cut(
	model: &Model,
	truth: &[u32],
	length: u32,
) -> Result<Option<Output>, CalibrationError> {
	let (Some(end), Some(kept)) = (
		model.ends().first(),
		(length as usize)
			.checked_sub(1)
			.filter(|_| truth.len() > length as usize),
	) else {
		return Ok(None);
	};
	let mut said = truth[..kept].to_vec();
	said.push(*end);
	model.answer(&said, FinishReason::EndOfText).map(Some)
}

/// An answer that ended by itself, without its end and repeated until as much was said as was asked for.
pub(crate) fn padded(
	model: &Model,
	truth: &[u32],
	finish: FinishReason,
	max_tokens: u32,
) -> Result<Option<Output>, CalibrationError> {
	let words = truth.len().saturating_sub(1);
	if finish != FinishReason::EndOfText || words == 0 || truth.len() > max_tokens as usize {
		return Ok(None);
	}
	let said: Vec<u32> = truth[..words]
		.iter()
		.copied()
		.cycle()
		.take(max_tokens as usize)
		.collect();
	model.answer(&said, FinishReason::Length).map(Some)
}
