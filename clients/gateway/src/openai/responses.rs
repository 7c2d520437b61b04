//! `/v1/responses`, without state.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use super::{bounded, chat_bounded, message, refuse_common, NO_SCHEMA, NO_STORE, NO_TOOLS};
use crate::{
	app::{json, App},
	error::Error,
	fields::{empty, Fields},
	network::{Finish, Input, Message, Task},
	sse::{event, reply, Script},
	watch::Said,
};

fn messages(input: Value, instructions: Option<&String>) -> Result<Vec<Message>, Error> {
	let mut messages = Vec::new();
	if let Some(instructions) = instructions {
		bounded(instructions, "instructions")?;
		messages.push(Message {
			role: "system".into(),
			content: instructions.clone(),
		});
	}
	match input {
		Value::String(content) => {
			bounded(&content, "input")?;
			messages.push(Message {
				role: "user".into(),
				content,
			});
		}
		Value::Array(items) if items.is_empty() => {
			return Err(Error::invalid("input", "input is empty"));
		}
		Value::Array(items) => {
			for (i, item) in items.into_iter().enumerate() {
				let name = format!("input[{i}]");
				let kind = item["type"].as_str().unwrap_or("message");
				if kind != "message" {
					return Err(Error::Unsupported {
						parameter: format!("{name}.type"),
						why: format!("{kind:?} is not a message, and {NO_TOOLS}"),
					});
				}
				messages.push(message(
					item,
					&name,
					&["input_text", "output_text", "text"],
				)?);
			}
		}
		_ => {
			return Err(Error::invalid(
				"input",
				"input is a string or a list of messages",
			))
		}
	}
	chat_bounded(&messages, "input")?;
	Ok(messages)
}

/// Answers, and keeps nothing.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let instructions: Option<String> = fields.take("instructions")?;
	let instructions = instructions.filter(|i| !i.is_empty());
	let messages = messages(fields.need("input")?, instructions.as_ref())?;
	let mut sampling = fields.sampling()?;
	sampling.max_tokens = fields.tokens("max_output_tokens")?;
	let stream = fields.take("stream")?.unwrap_or(false);
	fields.refuse("stream_options", |_| true, "")?;
	refuse_common(&mut fields)?;
	fields.refuse("previous_response_id", |_| false, NO_STORE)?;
	fields.refuse("conversation", |_| false, NO_STORE)?;
	fields.refuse("background", empty, NO_STORE)?;
	fields.refuse("prompt", |_| false, NO_STORE)?;
	fields.refuse("include", empty, "there is nothing more to include")?;
	fields.refuse("reasoning", empty, "models here have no such setting")?;
	fields.refuse("max_tool_calls", |_| false, NO_TOOLS)?;
	let text = |t: &Value| empty(t) || (t["format"]["type"] == "text" && t["verbosity"].is_null());
	fields.refuse("text", text, NO_SCHEMA)?;
	let whole = |t: &Value| t == "disabled";
	fields.refuse("truncation", whole, "nothing is left out of what is sent")?;
	fields.end()?;

	let model = app.model_for(&wanted, Task::TextGeneration).await?;
	if !model.chat {
		let message = format!("the model {wanted:?} has no chat template: use /v1/completions");
		return Err(Error::invalid("model", message));
	}
	app.max_tokens(&mut sampling, &model, "max_output_tokens")?;
	let head = Head {
		id: String::new(),
		message: String::new(),
		created: 0,
		model: wanted,
		instructions,
		max_output_tokens: sampling.max_tokens,
		temperature: sampling.temperature,
		top_p: sampling.top_p,
		input_units: 0,
	};
	let input = Input::Chat { messages, sampling };
	let said = app.say(&call, model, vec![input], own, stream);
	let mut following = said.await?.remove(0);
	let job = following.job();
	let head = Head {
		id: format!("resp_{:x}", job.id),
		message: format!("msg_{:x}", job.id),
		created: job.created,
		input_units: job.input_units,
		..head
	};
	if stream {
		let events = Events {
			head,
			sequence: 0,
			opened: false,
		};
		return Ok(reply(&app, following, events));
	}
	let said = following.reached().await?;
	Ok(json(&head.done(&said)))
}

struct Head {
	id: String,
	message: String,
	created: u64,
	model: String,
	instructions: Option<String>,
	max_output_tokens: Option<u32>,
	temperature: Option<f64>,
	top_p: Option<f64>,
	input_units: u32,
}

fn part(text: &str) -> Value {
	json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

impl Head {
	fn response(&self, status: &str, output: Value) -> Value {
		json!({
			"id": self.id,
			"object": "response",
			"created_at": self.created,
			"status": status,
			"error": null,
			"incomplete_details": null,
			"instructions": self.instructions,
			"max_output_tokens": self.max_output_tokens,
			"model": self.model,
			"output": output,
			"parallel_tool_calls": false,
			"previous_response_id": null,
			"store": false,
			"temperature": self.temperature,
			"text": { "format": { "type": "text" } },
			"tool_choice": "none",
			"tools": [],
			"top_p": self.top_p,
			"truncation": "disabled",
			"usage": null,
			"metadata": {},
		})
	}

	fn item(&self, status: &str, content: Value) -> Value {
		json!({
			"id": self.message, "type": "message", "role": "assistant", "status": status, "content": content,
		})
	}

	fn done(&self, said: &Said) -> Value {
		let status = status(said.finish);
		let item = self.item(status, json!([part(&said.text)]));
		let mut response = self.response(status, json!([item]));
		if said.finish == Finish::Length {
			response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
		}
		let input = self.input_units;
		response["usage"] = json!({
			"input_tokens": input,
			"input_tokens_details": { "cached_tokens": 0 },
			"output_tokens": said.tokens,
			"output_tokens_details": { "reasoning_tokens": 0 },
			"total_tokens": u64::from(input) + u64::from(said.tokens),
		});
		response["consilience"] = said.consilience.clone();
		response
	}
}

fn status(finish: Finish) -> &'static str {
	match finish {
		Finish::Length => "incomplete",
		Finish::EndOfText | Finish::StopString => "completed",
	}
}

struct Events {
	head: Head,
	sequence: u32,
	/// Whether the message was begun.
	opened: bool,
}

impl Events {
	fn event(&mut self, name: &str, mut body: Value) -> String {
		body["type"] = name.into();
		body["sequence_number"] = self.sequence.into();
		self.sequence += 1;
		event(name, &body)
	}

	fn of_part(&mut self, name: &str, mut body: Value) -> String {
		body["item_id"] = self.head.message.as_str().into();
		body["output_index"] = 0.into();
		body["content_index"] = 0.into();
		self.event(name, body)
	}

	/// Begins the message, unless that is done.
	fn open(&mut self) -> String {
		if std::mem::replace(&mut self.opened, true) {
			return String::new();
		}
		let item = self.head.item("in_progress", json!([]));
		let added = json!({ "output_index": 0, "item": item });
		let begun = self.event("response.output_item.added", added);
		begun + &self.of_part("response.content_part.added", json!({ "part": part("") }))
	}
}

impl Script for Events {
	fn begin(&mut self) -> String {
		let response = self.head.response("in_progress", json!([]));
		let created = self.event("response.created", json!({ "response": response }));
		created + &self.event("response.in_progress", json!({ "response": response }))
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let begun = self.open();
		begun
			+ &self.of_part(
				"response.output_text.delta",
				json!({ "delta": text, "logprobs": [], "consilience": consilience }),
			)
	}

	fn reached(&mut self, said: Said) -> String {
		let response = self.head.done(&said);
		let (text, finish) = (said.text.as_str(), said.finish);
		let mut events = self.open();
		events += &self.of_part(
			"response.output_text.done",
			json!({ "text": text, "logprobs": [] }),
		);
		events += &self.of_part("response.content_part.done", json!({ "part": part(text) }));
		let item = self.head.item(status(finish), json!([part(text)]));
		events += &self.event(
			"response.output_item.done",
			json!({ "output_index": 0, "item": item }),
		);
		let name = match finish {
			Finish::Length => "response.incomplete",
			Finish::EndOfText | Finish::StopString => "response.completed",
		};
		events += &self.event(name, json!({ "response": response }));
		events
	}

	fn failed(&mut self, error: &Error) -> String {
		let mut response = self.head.response("failed", json!([]));
		// The interface has few codes here; the gateway's own stands beside it.
		response["error"] = json!({ "code": "server_error", "message": error.to_string() });
		response["consilience"] = json!({ "error": error.openai() });
		self.event("response.failed", json!({ "response": response }))
	}
}
