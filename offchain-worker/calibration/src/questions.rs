//! What is asked: inputs, seeds and challenges, the same on every machine.

use std::path::Path;

use codec::{Decode, Encode};
use consilience_primitives::{
	manifest::{Manifest, ReferenceInput, TaskDetails},
	request::{FullInput, Message, Prompt, Role, Sampling},
	tensor::{DataType, Tensor, MAX_DATA},
	List,
};
use consilience_store::open_inference::{to_tensor, JsonTensor};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};
use serde::Deserialize;

use crate::CalibrationError;

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
	pub(crate) input: FullInput,
	/// Seed of the sampling noise.
	pub(crate) seed: H256,
	/// Whether a policy is judged by it, where others make one.
	pub(crate) held_out: bool,
}

/// Sampling of successive questions of a split: temperature and nucleus in thousandths.
const SAMPLING: [(u16, u16); 5] = [
	(1_000, 1_000),
	(700, 1_000),
	(0, 1_000),
	(1_000, 900),
	(1_300, 1_000),
];

// The three numbers have no factor in common with each other or with two, so that neighbours differ in everything and both
// splits get everything.
const FORMS: [&str; 17] = [
	"What is {topic}?",
	"Explain {topic} {manner}.",
	"Write a short poem about {topic}.",
	"List five facts about {topic}.",
	"Why does {topic} matter? Answer {manner}.",
	"Tell a story in which {topic} saves the day.",
	"Write a Python function that has to do with {topic}, and comment it.",
	"Translate into French: I have been reading about {topic} all day.",
	"A teacher asks the class about {topic}. Write the dialogue.",
	"Compare {topic} with the weather.",
	"Give three arguments for and three against {topic}, {manner}.",
	"Continue: The old sailor knew nothing of {topic}, but",
	"Calculate 17 * 23, then say something about {topic}.",
	"Write an e-mail to a friend who asked about {topic}.",
	"Summarise the history of {topic} {manner}.",
	"Read this. \"People have argued about {topic} for as long as anybody remembers. Some say that it cannot be understood without \
	 long study; others, that a child sees it at once. In the village where I grew up nobody had time for such questions, and yet \
	 everybody had an opinion, which they gave freely after dinner.\" Now answer {manner}: what does the writer think of {topic}?",
	"{topic}",
];
const TOPICS: [&str; 29] = [
	"photosynthesis",
	"the French Revolution",
	"prime numbers",
	"black holes",
	"bread",
	"the offside rule",
	"inflation",
	"volcanoes",
	"the violin",
	"democracy",
	"antibiotics",
	"chess",
	"the moon",
	"glaciers",
	"a hash function",
	"public transport",
	"bees",
	"the printing press",
	"tides",
	"friendship",
	"recursion",
	"coffee",
	"the Silk Road",
	"earthquakes",
	"gravity",
	"jazz",
	"insurance",
	"the immune system",
	"maps",
];
const MANNERS: [&str; 7] = [
	"in one sentence",
	"for a child of ten",
	"for an expert",
	"as a pirate would",
	"in verse",
	"step by step",
	"with an example",
];

/// Forms with their topics, before a second topic is added.
const PLAIN: usize = FORMS.len() * TOPICS.len();

/// How many different prompts are built in.
pub const BUILT_IN: usize = PLAIN * TOPICS.len();

/// Prompt `n` of those that are built in. They are varied in topic, form and length; the first
/// [`BUILT_IN`] are all different.
pub fn prompt(n: usize) -> String {
	let mut prompt = FORMS[n % FORMS.len()]
		.replace("{topic}", TOPICS[n % TOPICS.len()])
		.replace("{manner}", MANNERS[n % MANNERS.len()]);
	// Another one in every round, and never the first.
	let round = n / PLAIN % TOPICS.len();
	if round > 0 {
		let second = TOPICS[(n + round) % TOPICS.len()];
		prompt.push_str(&format!(" Do not forget {second}."));
	}
	prompt
}

fn hash(what: &str, question: usize, n: usize) -> H256 {
	H256(("consilience/calibration", what, question as u64, n as u64).using_encoded(blake2_256))
}

/// Challenge `n` of a question.
pub(crate) fn challenge(question: usize, n: usize) -> H256 {
	hash("challenge", question, n)
}

/// A number below `bound` for a question; zero where there is none.
pub(crate) fn number(what: &str, question: usize, bound: u32) -> u32 {
	let word = u32::from_le_bytes(
		hash(what, question, 0).0[..4]
			.try_into()
			.unwrap_or_default(),
	);
	word.checked_rem(bound).unwrap_or_default()
}

/// A request of the Open Inference Protocol.
#[derive(Deserialize)]
struct Request {
	inputs: Vec<JsonTensor>,
}

/// `count` questions for a model, every other one held out. `file` holds prompts, texts, or requests of the Open Inference
/// Protocol, one a line; without it they are made up.
pub(crate) fn questions(
	manifest: &Manifest,
	count: usize,
	max_tokens: u32,
	file: Option<&Path>,
) -> Result<Vec<Question>, CalibrationError> {
	let lines = match file {
		Some(path) => {
			let text = std::fs::read_to_string(path).map_err(CalibrationError::io(path))?;
			let lines: Vec<String> = text
				.lines()
				.filter(|l| !l.trim().is_empty())
				.map(str::to_owned)
				.collect();
			if lines.is_empty() {
				return Err(CalibrationError::Input(format!(
					"{}: no line with text in it",
					path.display()
				)));
			}
			Some(lines)
		}
		None => None,
	};
	let spec = manifest
		.spec()
		.map_err(|e| CalibrationError::Input(e.to_string()))?;
	(0..count)
		.map(|n| {
			let line = lines.as_ref().map(|lines| lines[n % lines.len()].as_str());
			let input = input(manifest, n, max_tokens, line)
				.map_err(|why| CalibrationError::Input(format!("question {n}: {why}")))?;
			input.validate(&spec).map_err(|e| {
				CalibrationError::Input(format!("the model does not take question {n}: {e:?}"))
			})?;
			Ok(Question {
				input,
				seed: hash("seed", n, 0),
				held_out: n % 2 == 1,
			})
		})
		.collect()
}

fn input(
	manifest: &Manifest,
	n: usize,
	max_tokens: u32,
	line: Option<&str>,
) -> Result<FullInput, String> {
	let text = || line.map_or_else(|| prompt(n), str::to_owned).into_bytes();
	let long = |_| "the text is too long".to_owned();
	match &manifest.task {
		TaskDetails::TextGeneration { chat_template, .. } => {
			let (temperature, top_p) = SAMPLING[n / 2 % SAMPLING.len()];
			let content = text().try_into().map_err(long)?;
			let prompt = if chat_template.is_some() {
				Prompt::Chat(List::truncate_from(vec![Message {
					role: Role::User,
					content,
				}]))
			} else {
				Prompt::Text(content)
			};
			Ok(FullInput::TextGeneration {
				prompt,
				sampling: Sampling {
					max_tokens,
					temperature,
					top_p,
					..Default::default()
				},
			})
		}
		TaskDetails::Embedding { .. } => Ok(FullInput::Embedding(text().try_into().map_err(long)?)),
		TaskDetails::Tensor { .. } => match line {
			Some(line) => {
				let request: Request = serde_json::from_str(line).map_err(|e| e.to_string())?;
				let tensors = request
					.inputs
					.iter()
					.map(to_tensor)
					.collect::<Result<Vec<_>, _>>()?;
				Ok(FullInput::Tensor(
					tensors
						.try_into()
						.map_err(|_| "more than 8 tensors".to_owned())?,
				))
			}
			None => like_the_reference(manifest, n),
		},
	}
}

/// Tensors of the shapes of the manifest's reference input, whose elements are drawn from those that stand there: what values a
/// model takes, only its reference says.
fn like_the_reference(manifest: &Manifest, n: usize) -> Result<FullInput, String> {
	let ReferenceInput::Tensors(encoded) = &manifest.reference.input else {
		return Err("the reference input holds no tensors".into());
	};
	let bytes = hex::decode(encoded.trim_start_matches("0x")).map_err(|e| e.to_string())?;
	let input = FullInput::decode(&mut &bytes[..]).map_err(|e| e.to_string())?;
	let FullInput::Tensor(mut tensors) = input else {
		return Err("the reference input holds no tensors".into());
	};
	for (place, tensor) in tensors.iter_mut().enumerate() {
		shuffle(tensor, n, place);
	}
	Ok(FullInput::Tensor(tensors))
}

/// Puts a tensor's elements into another order, with repetition. Strings and what is smaller than a byte stay as they are.
fn shuffle(tensor: &mut Tensor<MAX_DATA>, n: usize, place: usize) {
	let Some(bits) = tensor.datatype.bits().filter(|b| b % 8 == 0) else {
		return;
	};
	if tensor.datatype == DataType::Bytes {
		return;
	}
	let size = (bits / 8) as usize;
	let from = tensor.data.to_vec();
	let elements = from.len() / size;
	let mut data = Vec::with_capacity(from.len());
	for i in 0..elements {
		let word = hash("element", n, place * elements + i).to_low_u64_be();
		let drawn = (word % elements as u64) as usize;
		data.extend_from_slice(&from[drawn * size..(drawn + 1) * size]);
	}
	tensor.data = data.try_into().unwrap_or_else(|_| tensor.data.clone());
}

/// The question as a lazy executor would rather have it: with words that make for a shorter answer. The end of another text for
/// embeddings; nothing for tensors.
pub(crate) fn altered(input: &FullInput) -> Option<FullInput> {
	const WISH: &[u8] = b" Answer in one sentence.";
	let mut altered = input.clone();
	match &mut altered {
		FullInput::TextGeneration {
			prompt: Prompt::Chat(messages),
			..
		}
		| FullInput::ConstrainedText {
			prompt: Prompt::Chat(messages),
			..
		} => {
			let message = messages.iter_mut().last()?;
			let mut content = message.content.to_vec();
			content.extend_from_slice(WISH);
			message.content = content.try_into().ok()?;
		}
		FullInput::TextGeneration {
			prompt: Prompt::Text(text),
			..
		}
		| FullInput::ConstrainedText {
			prompt: Prompt::Text(text),
			..
		}
		| FullInput::Embedding(text) => {
			let mut longer = text.to_vec();
			longer.extend_from_slice(WISH);
			*text = longer.try_into().ok()?;
		}
		FullInput::Tensor(_) => return None,
	}
	Some(altered)
}

/// The question at another temperature than was asked for: 0.7 times, or half a degree where it was zero.
pub(crate) fn reheated(input: &FullInput) -> Option<FullInput> {
	let mut reheated = input.clone();
	let (_, sampling) = reheated.as_text_mut()?;
	sampling.temperature = match sampling.temperature {
		0 => 500,
		t => (u32::from(t) * 7 / 10) as u16,
	};
	Some(reheated)
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::collections::BTreeSet;

	#[test]
	fn prompts_are_different_and_both_splits_get_every_kind() {
		let all: BTreeSet<_> = (0..BUILT_IN).map(prompt).collect();
		assert_eq!(all.len(), BUILT_IN);
		for split in 0..2 {
			let forms: BTreeSet<_> = (0..FORMS.len() * 2)
				.filter(|n| n % 2 == split)
				.map(|n| n % FORMS.len())
				.collect();
			assert_eq!(forms.len(), FORMS.len());
		}
		assert_eq!(prompt(0), "What is photosynthesis?");
		assert_eq!(prompt(BUILT_IN), prompt(0));
	}

	#[test]
	fn numbers_are_below_their_bound() {
		assert!((0..100).all(|n| number("x", n, 7) < 7));
		assert_eq!(number("x", 1, 0), 0);
		assert_ne!(challenge(1, 0), challenge(1, 1));
	}
}
