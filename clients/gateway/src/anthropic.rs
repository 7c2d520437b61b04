//! Anthropic's `/v1/messages`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use crate::{
	app::{json, App},
	error::Error,
	fields::{empty, text_of, Fields},
	network::{Finish, Input, Message, Task},
	sse::{event, reply, Script},
	watch::Said,
};

const NO_TOOLS: &str = "tool calls are not built yet";

fn messages(fields: &mut Fields) -> Result<Vec<Message>, Error> {
	let mut messages = Vec::new();
	if let Some(system) = fields.take::<Value>("system")? {
		let content = text_of(system, "system", &["text"])?;
		if !content.is_empty() {
			messages.push(Message {
				role: "system".into(),
				content,
			});
		}
	}
	let given: Vec<Value> = fields.need("messages")?;
	if given.is_empty() {
		return Err(Error::invalid(
			"messages",
			"messages: at least one message is required",
		));
	}
	for (i, value) in given.into_iter().enumerate() {
		let name = format!("messages.{i}");
		let mut message = Fields::within(value, &name)?;
		let role: String = message.need("role")?;
		if role != "user" && role != "assistant" {
			let wrong = format!("{name}.role is {role:?}, and may be user or assistant");
			return Err(Error::invalid(format!("{name}.role"), wrong));
		}
		let within = format!("{name}.content");
		let content = text_of(message.need("content")?, &within, &["text"])?;
		message.end()?;
		if content.is_empty() {
			return Err(Error::invalid(&within, format!("{within} is empty")));
		}
		messages.push(Message { role, content });
	}
	Ok(messages)
}

/// Answers a chat.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let messages = messages(&mut fields)?;
	crate::openai::bounds(&messages, "messages")?;
	let mut sampling = fields.sampling()?;
	sampling.max_tokens = Some(match fields.tokens("max_tokens")? {
		Some(tokens) => tokens,
		None => return Err(Error::invalid("max_tokens", "max_tokens is missing")),
	});
	sampling.stop = fields.stop("stop_sequences")?;
	let stops = sampling.stop.clone().unwrap_or_default();
	let stream = fields.take("stream")?.unwrap_or(false);
	fields.ignore(&["metadata"]);
	fields.refuse("tools", empty, NO_TOOLS)?;
	let none = |choice: &Value| choice["type"] == "none" || choice["type"] == "auto";
	fields.refuse("tool_choice", none, NO_TOOLS)?;
	let off = |thinking: &Value| thinking["type"] == "disabled";
	fields.refuse("thinking", off, "models here have no such setting")?;
	let tier = |tier: &Value| tier == "auto" || tier == "standard_only";
	fields.refuse("service_tier", tier, "there is one tier")?;
	for name in ["container", "context_management", "mcp_servers"] {
		fields.refuse(name, empty, "nothing is kept or run beside the model")?;
	}
	for name in ["output_config", "output_format"] {
		fields.refuse(name, empty, "constrained answers are not built yet")?;
	}
	fields.end()?;

	let model = app.model_for(&wanted, Task::TextGeneration).await?;
	if !model.chat {
		let message = format!("the model {wanted:?} has no chat template, and takes no messages");
		return Err(Error::invalid("model", message));
	}
	app.max_tokens(&mut sampling, &model, "max_tokens")?;
	let input = Input::Chat { messages, sampling };
	let said = app.say(&call, model, vec![input], own, stream);
	let mut following = said.await?.remove(0);
	let job = following.job();
	let head = Head {
		id: format!("msg_{:x}", job.id),
		model: wanted,
		input_units: job.input_units,
		stops,
	};
	if stream {
		return Ok(reply(&app, following, Events { head }));
	}
	let said = following.reached().await?;
	let mut body = head.message(json!([{ "type": "text", "text": said.text }]), said.tokens);
	body["stop_reason"] = stop_reason(said.finish).into();
	body["stop_sequence"] = head.stop_sequence(said.finish);
	body["consilience"] = said.consilience;
	Ok(json(&body))
}

fn stop_reason(finish: Finish) -> &'static str {
	match finish {
		Finish::EndOfText => "end_turn",
		Finish::StopString => "stop_sequence",
		Finish::Length => "max_tokens",
	}
}

struct Head {
	id: String,
	model: String,
	input_units: u32,
	stops: Vec<String>,
}

impl Head {
	fn message(&self, content: Value, output: u32) -> Value {
		json!({
			"id": self.id,
			"type": "message",
			"role": "assistant",
			"model": self.model,
			"content": content,
			"stop_reason": null,
			"stop_sequence": null,
			"usage": { "input_tokens": self.input_units, "output_tokens": output },
		})
	}

	/// Returns which string ended the answer: the chain says that one did, and not which.
	fn stop_sequence(&self, finish: Finish) -> Value {
		match (finish, &self.stops[..]) {
			(Finish::StopString, [one]) => one.as_str().into(),
			_ => Value::Null,
		}
	}
}

struct Events {
	head: Head,
}

impl Script for Events {
	fn begin(&mut self) -> String {
		let message = self.head.message(json!([]), 0);
		let block = json!({ "type": "text", "text": "" });
		event(
			"message_start",
			&json!({ "type": "message_start", "message": message }),
		) + &event(
			"content_block_start",
			&json!({ "type": "content_block_start", "index": 0, "content_block": block }),
		)
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let delta = json!({ "type": "text_delta", "text": text });
		event(
			"content_block_delta",
			&json!({ "type": "content_block_delta", "index": 0, "delta": delta, "consilience": consilience }),
		)
	}

	fn reached(&mut self, said: Said) -> String {
		let delta = json!({
			"stop_reason": stop_reason(said.finish), "stop_sequence": self.head.stop_sequence(said.finish),
		});
		let usage = json!({ "input_tokens": self.head.input_units, "output_tokens": said.tokens });
		event(
			"content_block_stop",
			&json!({ "type": "content_block_stop", "index": 0 }),
		) + &event(
			"message_delta",
			&json!({ "type": "message_delta", "delta": delta, "usage": usage, "consilience": said.consilience }),
		) + &event("message_stop", &json!({ "type": "message_stop" }))
	}

	fn failed(&mut self, error: &Error) -> String {
		event("error", &error.anthropic())
	}

	fn ping(&self) -> &'static str {
		"event: ping\ndata: {\"type\": \"ping\"}\n\n"
	}
}
