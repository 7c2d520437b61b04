//! Inputs from the command line and from files.

use std::{collections::BTreeMap, path::PathBuf};

use consilience_primitives::{
	manifest::TaskDetails,
	model::{ModelSpec, Task},
	request::{FullInput, Message, Prompt, Role},
};
use consilience_rpc::{JsonConstraint, JsonSampling};
use consilience_store::open_inference::{to_tensor, JsonTensor};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{media, Result};

/// What is asked of a model.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InputArguments {
	/// Text generation: what the user says.
	#[arg(long, conflicts_with_all = ["text", "input"])]
	pub(crate) prompt: Option<String>,

	/// Text generation: instructions, before what the user says.
	#[arg(long, requires = "prompt")]
	pub(crate) system: Option<String>,

	/// Text generation: continue the prompt as it is, without the chat template.
	#[arg(long, requires = "prompt", conflicts_with = "system")]
	pub(crate) raw: bool,

	/// Embedding: the text.
	#[arg(long, conflicts_with = "input")]
	pub(crate) text: Option<String>,

	/// A picture or a WAV file, for a model whose manifest says how that becomes its tensor, or a JSON file of the Open Inference
	/// Protocol: {"inputs": [{"name", "shape", "datatype", "data"}]}. For text generation and embedding one BYTES tensor with the text; "parameters" may hold max_tokens, temperature, top_p, stop, top_k, min_p,
	/// repetition_penalty, presence_penalty, frequency_penalty, logit_bias and constraint.
	#[arg(long, value_name = "FILE")]
	pub(crate) input: Option<PathBuf>,

	/// Most tokens of the answer [default: 128].
	#[arg(long)]
	pub(crate) max_tokens: Option<u32>,

	/// Temperature, 0 (always the likeliest token) to 2 [default: as the model's publisher advises, or 0].
	#[arg(long)]
	pub(crate) temperature: Option<f64>,

	/// Nucleus: the share of probability that tokens are chosen from, over 0 to 1 [default: the publisher's, or 1].
	#[arg(long)]
	pub(crate) top_p: Option<f64>,

	/// A string at which the answer ends; up to four.
	#[arg(long)]
	pub(crate) stop: Vec<String>,

	/// How many of the likeliest tokens are chosen from, 0 for all [default: the publisher's, or 0].
	#[arg(long)]
	pub(crate) top_k: Option<i64>,

	/// Share of the likeliest token's probability that a token needs to be chosen, 0 to 1 [default: the publisher's, or 0].
	#[arg(long)]
	pub(crate) min_p: Option<f64>,

	/// Penalty on tokens that the prompt or the answer has, 0.1 to 10, as in Hugging Face's library [default: the publisher's,
	/// or 1, which is none].
	#[arg(long)]
	pub(crate) repetition_penalty: Option<f64>,

	/// Penalty on tokens that the answer has, -2 to 2, as in the OpenAI API [default: 0].
	#[arg(long, allow_negative_numbers = true)]
	pub(crate) presence_penalty: Option<f64>,

	/// Penalty on tokens for each time that the answer has them, -2 to 2, as in the OpenAI API [default: 0].
	#[arg(long, allow_negative_numbers = true)]
	pub(crate) frequency_penalty: Option<f64>,

	/// A token id and what is added to its logit, -100 to 100; up to sixteen.
	#[arg(long, value_name = "TOKEN=BIAS", value_parser = bias)]
	pub(crate) logit_bias: Vec<(u32, f64)>,

	#[command(flatten)]
	pub(crate) constraint: ConstraintArguments,
}

/// What an answer may be.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConstraintArguments {
	/// A file with a JSON schema that describes the answer.
	#[arg(long, value_name = "FILE", conflicts_with = "grammar")]
	pub(crate) json_schema: Option<PathBuf>,

	/// A file with a Lark grammar that the answer follows.
	#[arg(long, value_name = "FILE")]
	pub(crate) grammar: Option<PathBuf>,
}

impl ConstraintArguments {
	/// The constraint that is named, if one is.
	pub(crate) fn read(&self) -> Result<Option<JsonConstraint>> {
		let text = |path: &PathBuf| {
			std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
		};
		Ok(match (&self.json_schema, &self.grammar) {
			(Some(path), _) => Some(JsonConstraint::JsonSchema(text(path)?.into())),
			(None, Some(path)) => Some(JsonConstraint::Lark(text(path)?)),
			(None, None) => None,
		})
	}
}

/// Whether answers can follow what is asked. Here, before anything is paid; every validator would refuse it with the same words.
pub(crate) fn followed<const MAX: u32>(
	input: consilience_primitives::request::Input<MAX>,
) -> Result<consilience_primitives::request::Input<MAX>> {
	let constraint = input.as_text().and_then(|question| question.constraint);
	match constraint.map(consilience_grammar::check) {
		Some(Err(e)) => Err(format!("the constraint cannot be followed: {e}")),
		Some(Ok(())) | None => Ok(input),
	}
}

/// The same where others wait for the thread: some of these take a fifth of a second to read. Two at once, whoever asks.
pub(crate) async fn followed_apart<const MAX: u32>(
	input: consilience_primitives::request::Input<MAX>,
) -> Result<consilience_primitives::request::Input<MAX>> {
	static READERS: Semaphore = Semaphore::const_new(2);
	if input
		.as_text()
		.is_none_or(|question| question.constraint.is_none())
	{
		return Ok(input);
	}
	let _reader = READERS.acquire().await.map_err(|e| e.to_string())?;
	tokio::task::spawn_blocking(move || followed(input))
		.await
		.map_err(|e| format!("the constraint could not be read: {e}"))?
}

fn bias(text: &str) -> Result<(u32, f64)> {
	let wrong = |_| format!("{text:?} is no token id and bias, such as 50256=-100");
	let (token, bias) = text.split_once('=').ok_or(()).map_err(wrong)?;
	let token = token.parse().map_err(|_| ()).map_err(wrong)?;
	Ok((token, bias.parse().map_err(|_| ()).map_err(wrong)?))
}

fn bounded<const N: u32>(text: &str, what: &str) -> Result<consilience_primitives::Bytes<N>> {
	text.as_bytes()
		.to_vec()
		.try_into()
		.map_err(|_| format!("{what} is longer than {N} bytes"))
}

impl InputArguments {
	/// Whether the input is a picture or a recording, so that the model's manifest says what becomes of it.
	pub(crate) fn is_media(&self, spec: &ModelSpec) -> Result<bool> {
		match &self.input {
			Some(path) if spec.task == Task::Tensor => Ok(!media::is_json(path)?),
			_ => Ok(false),
		}
	}

	/// The input for a model that is registered so, or would be, and whose manifest says this of its task.
	pub(crate) fn input(&self, spec: &ModelSpec, task: Option<&TaskDetails>) -> Result<FullInput> {
		if let (true, Some(path)) = (self.is_media(spec)?, &self.input) {
			return match task {
				Some(TaskDetails::Tensor { inputs, media, .. }) => {
					media::Asked { inputs, media }.input(path)
				}
				_ => Err(format!(
					"{}: the model's manifest does not describe how to convert this file",
					path.display()
				)),
			};
		}
		let file = self.input.as_ref().map(read).transpose()?;
		match spec.task {
			Task::TextGeneration => {
				let prompt = match (&self.prompt, &file) {
					(Some(prompt), _) => prompt.clone(),
					(None, Some(file)) => only_text(file)?,
					(None, None) => {
						return Err(
							"the model generates text: say --prompt TEXT, or --input FILE".into(),
						)
					}
				};
				let sampling = self.sampling(file.as_ref())?;
				followed(FullInput::text(
					self.prompt(&prompt)?,
					sampling.resolve(&spec.sampling)?,
					sampling.constraint()?,
				))
			}
			Task::Embedding => {
				let text = match (&self.text, &file) {
					(Some(text), _) => text.clone(),
					(None, Some(file)) => only_text(file)?,
					(None, None) => {
						return Err("the model embeds text: say --text TEXT, or --input FILE".into())
					}
				};
				Ok(FullInput::Embedding(bounded(&text, "the text")?))
			}
			Task::Tensor => {
				let file = file.ok_or(
					"the model takes tensors: say --input FILE (Open Inference Protocol JSON, or a picture or WAV file where its manifest says how)",
				)?;
				let tensors = tensors(&file)?
					.iter()
					.map(to_tensor)
					.collect::<std::result::Result<Vec<_>, _>>()?;
				Ok(FullInput::Tensor(
					tensors
						.try_into()
						.map_err(|_| "more than 8 input tensors".to_owned())?,
				))
			}
		}
	}

	fn prompt(&self, text: &str) -> Result<Prompt> {
		if self.raw {
			return Ok(Prompt::Text(bounded(text, "the prompt")?));
		}
		let message = |role, content: &str| {
			Ok::<_, String>(Message {
				role,
				content: bounded(content, "a message")?,
			})
		};
		let mut messages = Vec::new();
		if let Some(system) = &self.system {
			messages.push(message(Role::System, system)?);
		}
		messages.push(message(Role::User, text)?);
		Ok(Prompt::Chat(
			messages
				.try_into()
				.expect("two messages are fewer than the bound; qed"),
		))
	}

	/// Returns the sampling parameters of the file, overridden by those of the command line.
	fn sampling(&self, file: Option<&Value>) -> Result<JsonSampling> {
		let said = match file.map_or(&Value::Null, |f| &f["parameters"]) {
			Value::Null => JsonSampling::default(),
			parameters => serde_json::from_value(parameters.clone())
				.map_err(|e| format!("\"parameters\" of the file: {e}"))?,
		};
		let stop: Vec<_> = self
			.stop
			.iter()
			.cloned()
			.chain(said.stop.unwrap_or_default())
			.collect();
		let biases = self.logit_bias.iter();
		let biases = biases.map(|(token, bias)| (token.to_string(), *bias));
		let biases: BTreeMap<_, _> = said
			.logit_bias
			.unwrap_or_default()
			.into_iter()
			.chain(biases)
			.collect();
		Ok(JsonSampling {
			max_tokens: self.max_tokens.or(said.max_tokens),
			temperature: self.temperature.or(said.temperature),
			top_p: self.top_p.or(said.top_p),
			stop: Some(stop),
			top_k: self.top_k.or(said.top_k),
			min_p: self.min_p.or(said.min_p),
			repetition_penalty: self.repetition_penalty.or(said.repetition_penalty),
			presence_penalty: self.presence_penalty.or(said.presence_penalty),
			frequency_penalty: self.frequency_penalty.or(said.frequency_penalty),
			logit_bias: Some(biases),
			constraint: self.constraint.read()?.or(said.constraint),
		})
	}
}

pub(super) fn read(path: &PathBuf) -> Result<Value> {
	let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
	serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}

pub(super) fn tensors(file: &Value) -> Result<Vec<JsonTensor>> {
	serde_json::from_value(file["inputs"].clone()).map_err(|e| {
		format!("\"inputs\" is no list of tensors with name, shape, datatype and data: {e}")
	})
}

/// The text of a file with one `BYTES` tensor.
fn only_text(file: &Value) -> Result<String> {
	match &tensors(file)?[..] {
		[one] => match &one.data {
			Value::String(s) => Ok(s.clone()),
			Value::Array(list) => match &list[..] {
				[Value::String(s)] => Ok(s.clone()),
				_ => Err("the text tensor holds one string".into()),
			},
			_ => Err("the text tensor holds one string".into()),
		},
		_ => Err("text goes in one BYTES tensor".into()),
	}
}
