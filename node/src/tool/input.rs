//! Inputs from the command line and from files.

use std::path::PathBuf;

use consilience_primitives::{
	model::Task,
	request::{Input, Message, Prompt, Role, Sampling},
};
use consilience_store::open_inference::{to_tensor, JsonTensor};
use serde_json::Value;

use super::Result;

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

	/// A JSON file of the Open Inference Protocol: {"inputs": [{"name", "shape", "datatype", "data"}]}. For text generation
	/// and embedding one BYTES tensor with the text; "parameters" may hold max_tokens, temperature, top_p and stop.
	#[arg(long, value_name = "FILE")]
	pub(crate) input: Option<PathBuf>,

	/// Most tokens of the answer [default: 128].
	#[arg(long)]
	pub(crate) max_tokens: Option<u32>,

	/// Temperature, 0 (always the likeliest token) to 2 [default: 0].
	#[arg(long)]
	pub(crate) temperature: Option<f64>,

	/// Nucleus: the share of probability that tokens are chosen from, over 0 to 1 [default: 1].
	#[arg(long)]
	pub(crate) top_p: Option<f64>,

	/// A string at which the answer ends; up to four.
	#[arg(long)]
	pub(crate) stop: Vec<String>,
}

/// Thousandths of a parameter.
fn thousandths(value: f64, name: &str, most: f64) -> Result<u16> {
	if !(0.0..=most).contains(&value) {
		return Err(format!("{name} is 0 to {most}, not {value}"));
	}
	Ok((value * 1_000.0).round() as u16)
}

fn bounded<const N: u32>(text: &str, what: &str) -> Result<consilience_primitives::Bytes<N>> {
	text.as_bytes()
		.to_vec()
		.try_into()
		.map_err(|_| format!("{what} is longer than {N} bytes"))
}

impl InputArguments {
	/// The input for a model of this task.
	pub(crate) fn input(&self, task: Task) -> Result<Input> {
		let file = self.input.as_ref().map(read).transpose()?;
		match task {
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
				Ok(Input::TextGeneration {
					prompt: self.prompt(&prompt)?,
					sampling: self.sampling(file.as_ref())?,
				})
			}
			Task::Embedding => {
				let text = match (&self.text, &file) {
					(Some(text), _) => text.clone(),
					(None, Some(file)) => only_text(file)?,
					(None, None) => {
						return Err("the model embeds text: say --text TEXT, or --input FILE".into())
					}
				};
				Ok(Input::Embedding(bounded(&text, "the text")?))
			}
			Task::Tensor => {
				let file = file.ok_or(
					"the model takes tensors: say --input FILE (Open Inference Protocol JSON)",
				)?;
				let tensors = tensors(&file)?
					.iter()
					.map(to_tensor)
					.collect::<std::result::Result<Vec<_>, _>>()?;
				Ok(Input::Tensor(
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

	fn sampling(&self, file: Option<&Value>) -> Result<Sampling> {
		let parameter = |name: &str| file.map_or(&Value::Null, |f| &f["parameters"][name]);
		let defaults = Sampling::default();
		let max_tokens = match (self.max_tokens, parameter("max_tokens")) {
			(Some(n), _) => n,
			(None, Value::Null) => defaults.max_tokens,
			(None, n) => n
				.as_u64()
				.and_then(|n| n.try_into().ok())
				.ok_or("parameters.max_tokens is no whole number")?,
		};
		let float = |argument: Option<f64>, name: &str| match (argument, parameter(name)) {
			(Some(v), _) => Ok(Some(v)),
			(None, Value::Null) => Ok(None),
			(None, v) => v
				.as_f64()
				.map(Some)
				.ok_or(format!("parameters.{name} is no number")),
		};
		let temperature = match float(self.temperature, "temperature")? {
			Some(t) => thousandths(t, "the temperature", 2.0)?,
			None => defaults.temperature,
		};
		let top_p = match float(self.top_p, "top_p")? {
			Some(p) => thousandths(p, "top_p", 1.0)?,
			None => defaults.top_p,
		};
		let mut stop = self.stop.clone();
		match parameter("stop") {
			Value::Null => (),
			Value::String(s) => stop.push(s.clone()),
			Value::Array(list) => {
				for s in list {
					stop.push(s.as_str().ok_or("parameters.stop holds strings")?.into());
				}
			}
			_ => return Err("parameters.stop is a string or a list of strings".into()),
		}
		let stop = stop
			.iter()
			.map(|s| bounded(s, "a stop string"))
			.collect::<Result<Vec<_>>>()?
			.try_into()
			.map_err(|_| "more than 4 stop strings".to_owned())?;
		Ok(Sampling {
			max_tokens,
			temperature,
			top_p,
			stop,
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
