//! OpenAI's interface.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod models;
pub(crate) mod responses;

use serde_json::{json, Value};

use crate::{
	error::Error,
	fields::{empty, text_of, Fields},
	network::{Answer, Finish, Message, Sampling, Step},
	status::consilience,
	tools::{self, Choice, Tool, Tools},
	watch::Said,
};

/// Most messages of a chat that the chain takes.
const MESSAGES: usize = 16;
/// Most bytes of one message or prompt that the chain takes.
const TEXT: usize = 32_768;

const NO_SEED: &str = "the chain draws the seed after the request is made, so that nobody can choose an answer by it; \
	 the reply says which it was, and temperature 0 needs none";
const NO_LOGPROBS: &str =
	"log probabilities are no part of the evidence on chain: nobody could check them";
const NO_FUNCTIONS: &str = "functions have become tools: send them as those";
const ONE_ANSWER: &str = "a request has one answer: make several requests";
const NO_STORE: &str = "nothing is stored here: a conversation is sent whole each time";

/// Refuses what text endpoints of OpenAI have and this gateway does not, and takes labels that change nothing.
fn refuse_common(fields: &mut Fields) -> Result<(), Error> {
	fields.ignore(&[
		"user",
		"metadata",
		"safety_identifier",
		"prompt_cache_key",
		"prompt_cache_retention",
	]);
	fields.refuse("seed", |_| false, NO_SEED)?;
	fields.refuse("n", |n| n == 1, ONE_ANSWER)?;
	fields.refuse("best_of", |n| n == 1, ONE_ANSWER)?;
	fields.refuse("store", empty, NO_STORE)?;
	fields.refuse("top_logprobs", |n| n == 0, NO_LOGPROBS)?;
	let tier = |tier: &Value| tier == "auto" || tier == "default";
	fields.refuse("service_tier", tier, "there is one tier")?;
	Ok(())
}

/// Takes tools: functions whose fields stand within `within`, if that is said.
fn take_tools(fields: &mut Fields, within: Option<&str>) -> Result<Tools, Error> {
	let given: Vec<Value> = fields.take("tools")?.unwrap_or_default();
	let mut all = Vec::new();
	for (i, tool) in given.into_iter().enumerate() {
		let name = format!("tools[{i}]");
		let mut fields = Fields::within(tool, &name)?;
		let kind: String = fields.need("type")?;
		if kind != "function" {
			return Err(Error::Unsupported {
				parameter: format!("{name}.type"),
				why: format!(
					"{kind:?} is not a function, and nothing is run here beside the model"
				),
			});
		}
		let function = match within {
			Some(within) => Fields::within(fields.need(within)?, &format!("{name}.{within}")),
			None => Ok(fields.clone()),
		};
		if within.is_some() {
			fields.end()?;
		}
		let mut function = function?;
		all.push(Tool::read(&mut function, "parameters")?);
		function.end()?;
	}
	let one = fields.take("parallel_tool_calls")? == Some(false);
	let choice = match fields.take::<Value>("tool_choice")? {
		None => Choice::Auto,
		Some(Value::String(word)) => match word.as_str() {
			"auto" => Choice::Auto,
			"required" => Choice::Required,
			"none" => {
				all.clear();
				Choice::Auto
			}
			_ => {
				let message = format!(
					"tool_choice is {word:?}, and may be auto, required, none or a function"
				);
				return Err(Error::invalid("tool_choice", message));
			}
		},
		Some(choice) => chosen(choice, within)?,
	};
	Tools::new(all, one, choice, "tools")
}

/// Reads which function has to be called.
fn chosen(choice: Value, within: Option<&str>) -> Result<Choice, Error> {
	let mut fields = Fields::within(choice, "tool_choice")?;
	let kind: String = fields.need("type")?;
	if kind != "function" {
		return Err(Error::Unsupported {
			parameter: "tool_choice.type".into(),
			why: format!("{kind:?} is not a function"),
		});
	}
	let name = match within {
		Some(within) => {
			let name = format!("tool_choice.{within}");
			let mut function = Fields::within(fields.need(within)?, &name)?;
			let name = function.need("name")?;
			function.end()?;
			name
		}
		None => fields.need("name")?,
	};
	fields.end()?;
	Ok(Choice::Named(name))
}

/// Takes the sampling parameters, `max_tokens` left out.
fn sampling(fields: &mut Fields) -> Result<Sampling, Error> {
	let stop = fields.stop("stop")?;
	Ok(Sampling {
		stop,
		..fields.sampling()?
	})
}

/// What a stream is asked to tell.
#[derive(Clone, Copy, Default)]
struct Streaming {
	on: bool,
	usage: bool,
}

fn streaming(fields: &mut Fields) -> Result<Streaming, Error> {
	let on = fields.take("stream")?.unwrap_or(false);
	let Some(options) = fields.take::<Value>("stream_options")? else {
		return Ok(Streaming { on, usage: false });
	};
	if !on {
		return Err(Error::invalid(
			"stream_options",
			"stream_options are for streams: set stream to true",
		));
	}
	let mut options = Fields::within(options, "stream_options")?;
	let usage = options.take("include_usage")?.unwrap_or(false);
	options.ignore(&["include_obfuscation"]);
	options.end()?;
	Ok(Streaming { on, usage })
}

/// Reads a message of a chat.
fn message(value: Value, name: &str, kinds: &[&str]) -> Result<Message, Error> {
	let mut fields = Fields::within(value, name)?;
	let role: String = fields.need("role")?;
	let calls = match role.as_str() {
		"system" | "developer" | "user" => Vec::new(),
		"assistant" => calls(&mut fields, name)?,
		"tool" => {
			fields.need::<String>("tool_call_id")?;
			Vec::new()
		}
		"function" => {
			return Err(Error::Unsupported {
				parameter: format!("{name}.role"),
				why: NO_FUNCTIONS.into(),
			})
		}
		_ => {
			let message = format!(
				"{name}.role is {role:?}, and may be system, developer, user, assistant or tool"
			);
			return Err(Error::invalid(format!("{name}.role"), message));
		}
	};
	fields.refuse("tool_calls", empty, "an assistant alone calls tools")?;
	fields.refuse("function_call", empty, NO_FUNCTIONS)?;
	fields.refuse("name", |_| false, "a chat template here knows roles alone")?;
	// What a client sends back of an answer it was given.
	fields.refuse(
		"refusal",
		empty,
		"a refusal is not read: send what was said as content",
	)?;
	fields.refuse("annotations", empty, "annotations are not read")?;
	fields.refuse("audio", |_| false, "models here read text")?;
	fields.ignore(&["id", "status", "type", "phase"]);
	let name = format!("{name}.content");
	let given = match calls.is_empty() {
		true => Some(fields.need("content")?),
		false => fields.take("content")?,
	};
	let content = given.map(|content| text_of(content, &name, kinds));
	let mut content = content.transpose()?.unwrap_or_default();
	fields.end()?;
	if role == tools::RESULT {
		let message = tools::result(&content);
		bounded(&message.content, &name)?;
		return Ok(message);
	}
	for call in calls {
		tools::add_line(&mut content, &call);
	}
	bounded(&content, &name)?;
	Ok(Message { role, content })
}

/// Reads what an assistant called, as it wrote it.
fn calls(fields: &mut Fields, name: &str) -> Result<Vec<String>, Error> {
	let given: Vec<Value> = fields.take("tool_calls")?.unwrap_or_default();
	let read = |(i, call): (usize, Value)| {
		let name = format!("{name}.tool_calls[{i}]");
		let mut fields = Fields::within(call, &name)?;
		fields.ignore(&["id", "index"]);
		let kind = |kind: &Value| kind == "function";
		fields.refuse("type", kind, "functions alone are called here")?;
		let name = format!("{name}.function");
		let mut function = Fields::within(fields.need("function")?, &name)?;
		fields.end()?;
		let written: String = function.need("arguments")?;
		let arguments = tools::arguments(&written, &format!("{name}.arguments"))?;
		let called = tools::called(&function.need::<String>("name")?, &arguments);
		function.end()?;
		Ok(called)
	};
	given.into_iter().enumerate().map(read).collect()
}

/// Refuses a text that the chain does not take.
fn bounded(text: &str, name: &str) -> Result<(), Error> {
	match text.len() {
		0 => Err(Error::invalid(name, format!("{name} is empty"))),
		length if length > TEXT => Err(Error::TooLong(format!(
			"{name} has {length} bytes, and the chain takes {TEXT}"
		))),
		_ => Ok(()),
	}
}

/// Refuses a chat that the chain does not take.
fn chat_bounded(messages: &[Message], name: &str) -> Result<(), Error> {
	match messages.len() {
		0 => Err(Error::invalid(name, format!("{name} is empty"))),
		count if count > MESSAGES => Err(Error::TooLong(format!(
			"{name} has {count} messages, and the chain takes {MESSAGES}"
		))),
		_ => Ok(()),
	}
}

/// Refuses messages that the chain does not take, whichever interface they came by.
pub(crate) fn bounds(messages: &[Message], name: &str) -> Result<(), Error> {
	chat_bounded(messages, name)?;
	messages.iter().try_for_each(|m| bounded(&m.content, name))
}

/// Returns the text of a request's answer, and what a reply says of it.
pub(crate) fn said(step: &Step) -> Result<Said, Error> {
	match &step.answer {
		Some(Answer::Text {
			text,
			tokens,
			finish,
		}) => Ok(Said {
			text: text.clone(),
			tokens: *tokens,
			finish: *finish,
			consilience: consilience(step),
		}),
		_ => Err(Error::Refused(format!(
			"request {} has no text",
			step.request
		))),
	}
}

fn finish_reason(finish: Finish, called: bool) -> &'static str {
	match finish {
		Finish::EndOfText | Finish::StopString if called => "tool_calls",
		Finish::EndOfText | Finish::StopString => "stop",
		Finish::Length => "length",
	}
}

/// Returns the usage. Input is counted in the units that are charged, which are no fewer than its tokens: tokens of a prompt are not on chain.
fn usage(input: u32, output: u32) -> Value {
	json!({
		"prompt_tokens": input, "completion_tokens": output, "total_tokens": u64::from(input) + u64::from(output),
	})
}

/// Returns an error within a stream.
fn failed(error: &Error) -> String {
	crate::sse::data(&error.openai())
}
