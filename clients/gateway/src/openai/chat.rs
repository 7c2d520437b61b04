//! `/v1/chat/completions`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use super::{
	failed, finish_reason, message, refuse_common, sampling, streaming, take_tools, usage,
	NO_FUNCTIONS, NO_LOGPROBS,
};
use crate::{
	app::{json, App},
	constraint::{self, Format},
	error::Error,
	fields::Fields,
	network::{Input, Task},
	sse::{data, reply, Script},
	tools::{split, Call, Calls, Part},
	watch::Said,
};

/// Answers a chat.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own_with_steps(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let messages: Vec<Value> = fields.need("messages")?;
	let mut messages = messages
		.into_iter()
		.enumerate()
		.map(|(i, m)| message(m, &format!("messages[{i}]"), &["text"]))
		.collect::<Result<Vec<_>, _>>()?;
	let tools = take_tools(&mut fields, Some("function"))?;
	tools.tell(&mut messages);
	super::bounds(&messages, "messages")?;
	let mut sampling = sampling(&mut fields)?;
	let format = fields.take::<Value>("response_format")?;
	let format = format.map(|f| Format::read(f, "response_format", Some("json_schema")));
	let format = format.transpose()?.unwrap_or_default();
	constraint::hold(&mut sampling, &format, &tools, "response_format")?;
	let (most, completion) = (
		fields.tokens("max_tokens")?,
		fields.tokens("max_completion_tokens")?,
	);
	if most.is_some() && completion.is_some() && most != completion {
		let message = "max_tokens and max_completion_tokens differ: give one of them";
		return Err(Error::invalid("max_tokens", message));
	}
	let parameter = if completion.is_some() {
		"max_completion_tokens"
	} else {
		"max_tokens"
	};
	sampling.max_tokens = most.or(completion);
	let stream = streaming(&mut fields)?;
	if own.steps && !stream.on {
		let message = "consilience.steps is for streams: set stream to true";
		return Err(Error::invalid("consilience.steps", message));
	}
	refuse_common(&mut fields)?;
	fields.refuse("logprobs", |on| on == false, NO_LOGPROBS)?;
	fields.refuse("functions", crate::fields::empty, NO_FUNCTIONS)?;
	fields.refuse(
		"function_call",
		|c| c == "none" || c == "auto",
		NO_FUNCTIONS,
	)?;
	fields.refuse(
		"modalities",
		|m| *m == json!(["text"]),
		"models here write text",
	)?;
	fields.refuse("audio", |_| false, "models here write text")?;
	fields.refuse(
		"prediction",
		|_| false,
		"an answer is checked whole, and nothing is gained by a prediction",
	)?;
	fields.refuse(
		"reasoning_effort",
		|_| false,
		"models here have no such setting",
	)?;
	fields.refuse("verbosity", |_| false, "models here have no such setting")?;
	fields.refuse(
		"web_search_options",
		|_| false,
		"models here read what they are sent",
	)?;
	fields.end()?;

	let model = app.model_for(&wanted, Task::TextGeneration).await?;
	if !model.chat {
		let message = format!("the model {wanted:?} has no chat template: use /v1/completions");
		return Err(Error::invalid("model", message));
	}
	app.max_tokens(&mut sampling, &model, parameter)?;
	let input = Input::Chat { messages, sampling };
	let said = app.say(&call, model, vec![input], own, stream.on);
	let mut following = said.await?.remove(0);
	let job = following.job();
	let mut calls = tools.calls(job.id);
	let head = Head {
		id: format!("chatcmpl-{:x}", job.id),
		created: job.created,
		model: wanted,
		input_units: job.input_units,
	};
	if stream.on {
		return Ok(reply(
			&app,
			following,
			Chunks {
				head,
				usage: stream.usage,
				calls,
				told: 0,
			},
		));
	}
	let said = following.reached().await?;
	let (content, called) = split(calls.whole(&said.text, said.finish));
	let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
	if !called.is_empty() {
		if content.is_empty() {
			message["content"] = Value::Null;
		}
		message["tool_calls"] = called.into_iter().map(|call| function(&call)).collect();
	}
	Ok(json(&json!({
		"id": head.id,
		"object": "chat.completion",
		"created": head.created,
		"model": head.model,
		"choices": [{
			"index": 0,
			"message": message,
			"logprobs": null,
			"finish_reason": finish_reason(said.finish, calls.any()),
		}],
		"usage": usage(head.input_units, said.tokens),
		"consilience": said.consilience,
	})))
}

fn function(call: &Call) -> Value {
	json!({
		"id": call.id,
		"type": "function",
		"function": { "name": call.name, "arguments": call.arguments },
	})
}

struct Head {
	id: String,
	created: u64,
	model: String,
	input_units: u32,
}

/// A chat's stream: the role, the answer as it comes (on chain in one piece as soon as it is in a block), and the end when it is as far as
/// was waited for.
struct Chunks {
	head: Head,
	usage: bool,
	calls: Calls,
	/// Calls that were told.
	told: usize,
}

impl Chunks {
	fn chunk(&self, choices: Value) -> Value {
		let mut chunk = json!({
			"id": self.head.id,
			"object": "chat.completion.chunk",
			"created": self.head.created,
			"model": self.head.model,
			"choices": choices,
		});
		if self.usage {
			chunk["usage"] = Value::Null;
		}
		chunk
	}

	fn delta(&self, delta: Value, finish: Option<&str>) -> Value {
		self.chunk(
			json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]),
		)
	}
}

impl Chunks {
	fn parts(&mut self, parts: Vec<Part>, consilience: &Value) -> String {
		let mut chunks = String::new();
		for part in parts {
			let delta = match part {
				Part::Text(text) => json!({ "content": text }),
				Part::Call(call) => {
					let mut call = function(&call);
					call["index"] = self.told.into();
					self.told += 1;
					json!({ "tool_calls": [call] })
				}
			};
			let mut chunk = self.delta(delta, None);
			chunk["consilience"] = consilience.clone();
			chunks += &data(&chunk);
		}
		chunks
	}
}

impl Script for Chunks {
	fn begin(&mut self) -> String {
		data(&self.delta(json!({ "role": "assistant", "content": "" }), None))
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let parts = self.calls.push(text);
		self.parts(parts, &consilience)
	}

	fn stepped(&mut self, consilience: Value) -> String {
		let mut chunk = self.chunk(json!([]));
		chunk["consilience"] = consilience;
		data(&chunk)
	}

	fn reached(&mut self, said: Said) -> String {
		let parts = self.calls.end(said.finish);
		let mut end = self.parts(parts, &said.consilience);
		let finish = finish_reason(said.finish, self.calls.any());
		let mut chunk = self.delta(json!({}), Some(finish));
		chunk["consilience"] = said.consilience;
		end += &data(&chunk);
		if self.usage {
			let mut chunk = self.chunk(json!([]));
			chunk["usage"] = usage(self.head.input_units, said.tokens);
			end += &data(&chunk);
		}
		end + "data: [DONE]\n\n"
	}

	fn failed(&mut self, error: &Error) -> String {
		failed(error)
	}
}
