//! `/v1/responses`, without state.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use super::{bounded, message, refuse_common, take_tools, NO_STORE};
use crate::{
	app::{json, App},
	constraint::{self, Format},
	error::Error,
	fields::{empty, Fields},
	network::{Finish, Input, Message, Task},
	sse::{event, reply, Script},
	tools::{self, Call, Calls, Part},
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
				let kinds = ["input_text", "output_text", "text"];
				match item["type"].as_str().unwrap_or("message") {
					"message" => messages.push(message(item, &name, &kinds)?),
					"function_call" => called(item, &name, &mut messages)?,
					"function_call_output" => messages.push(output(item, &name, &kinds)?),
					kind => {
						return Err(Error::Unsupported {
							parameter: format!("{name}.type"),
							why: format!("{kind:?} is neither a message nor a function's call"),
						})
					}
				}
			}
		}
		_ => {
			return Err(Error::invalid(
				"input",
				"input is a string or a list of messages",
			))
		}
	}
	Ok(messages)
}

/// Adds a call to what the assistant said before it.
fn called(item: Value, name: &str, messages: &mut Vec<Message>) -> Result<(), Error> {
	let mut fields = Fields::within(item, name)?;
	fields.ignore(&["type", "id", "call_id", "status"]);
	let written: String = fields.need("arguments")?;
	let arguments = tools::arguments(&written, &format!("{name}.arguments"))?;
	let content = tools::called(&fields.need::<String>("name")?, &arguments);
	fields.end()?;
	match messages.last_mut() {
		Some(last) if last.role == "assistant" => {
			tools::add_line(&mut last.content, &content);
		}
		_ => messages.push(Message {
			role: "assistant".into(),
			content,
		}),
	}
	Ok(())
}

/// Reads what came of a call.
fn output(item: Value, name: &str, kinds: &[&str]) -> Result<Message, Error> {
	let mut fields = Fields::within(item, name)?;
	fields.ignore(&["type", "id", "call_id", "status"]);
	let name = format!("{name}.output");
	let content = crate::fields::text_of(fields.need("output")?, &name, kinds)?;
	fields.end()?;
	Ok(tools::result(&content))
}

/// Answers, and keeps nothing.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let instructions: Option<String> = fields.take("instructions")?;
	let instructions = instructions.filter(|i| !i.is_empty());
	let mut messages = messages(fields.need("input")?, instructions.as_ref())?;
	let (shown, choice) = (fields.get("tools"), fields.get("tool_choice"));
	let tools = take_tools(&mut fields, None)?;
	tools.tell(&mut messages);
	super::bounds(&messages, "input")?;
	let mut sampling = fields.sampling()?;
	let (mut format, mut shown_format) = (Format::Text, json!({ "type": "text" }));
	if let Some(text) = fields.take::<Value>("text")? {
		let mut text = Fields::within(text, "text")?;
		if let Some(value) = text.take::<Value>("format")? {
			shown_format = value.clone();
			format = Format::read(value, "text.format", None)?;
		}
		let usual = |v: &Value| v == "medium";
		text.refuse("verbosity", usual, "models here have no such setting")?;
		text.end()?;
	}
	constraint::hold(&mut sampling, &format, &tools, "text.format")?;
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
	fields.refuse(
		"max_tool_calls",
		|_| false,
		"nothing is run here beside the model",
	)?;
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
		tools: shown.unwrap_or_else(|| json!([])),
		tool_choice: choice.unwrap_or_else(|| "auto".into()),
		format: shown_format,
		parallel: !tools.is_one(),
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
	let mut calls = tools.calls(job.id);
	if stream {
		let events = Events {
			head,
			calls,
			sequence: 0,
			items: Vec::new(),
			message: None,
			text: String::new(),
		};
		return Ok(reply(&app, following, events));
	}
	let said = following.reached().await?;
	let (text, called) = tools::split(calls.whole(&said.text, said.finish));
	let mut items = Vec::new();
	if !text.is_empty() || called.is_empty() {
		items.push(head.item(status(said.finish), json!([part(&text)])));
	}
	items.extend(
		called
			.iter()
			.map(|call| function(call, &call.arguments, "completed")),
	);
	Ok(json(&head.done(&said, items)))
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
	tools: Value,
	tool_choice: Value,
	format: Value,
	parallel: bool,
}

/// A call as an item.
fn function(call: &Call, arguments: &str, status: &str) -> Value {
	json!({
		"id": format!("fc_{}", call.id),
		"type": "function_call",
		"call_id": call.id,
		"name": call.name,
		"arguments": arguments,
		"status": status,
	})
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
			"parallel_tool_calls": self.parallel,
			"previous_response_id": null,
			"store": false,
			"temperature": self.temperature,
			"text": { "format": self.format },
			"tool_choice": self.tool_choice,
			"tools": self.tools,
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

	fn done(&self, said: &Said, items: Vec<Value>) -> Value {
		let mut response = self.response(status(said.finish), Value::Array(items));
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
	calls: Calls,
	sequence: u32,
	/// Items of the output, in their order: those that are done, and null for the message until it is.
	items: Vec<Value>,
	/// The message's place among them, once it was begun.
	message: Option<usize>,
	/// Text of the message so far.
	text: String,
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
		body["output_index"] = self.message.unwrap_or_default().into();
		body["content_index"] = 0.into();
		self.event(name, body)
	}

	/// Begins the message, unless that is done.
	fn open(&mut self) -> String {
		if self.message.is_some() {
			return String::new();
		}
		let place = self.items.len();
		self.message = Some(place);
		self.items.push(Value::Null);
		let item = self.head.item("in_progress", json!([]));
		let added = json!({ "output_index": place, "item": item });
		let begun = self.event("response.output_item.added", added);
		begun + &self.of_part("response.content_part.added", json!({ "part": part("") }))
	}

	fn parts(&mut self, parts: Vec<Part>, consilience: &Value) -> String {
		let mut events = String::new();
		for part in parts {
			events += &match part {
				Part::Text(text) => {
					let begun = self.open();
					self.text += &text;
					let delta =
						json!({ "delta": text, "logprobs": [], "consilience": consilience });
					begun + &self.of_part("response.output_text.delta", delta)
				}
				Part::Call(call) => self.call(&call),
			};
		}
		events
	}

	/// Tells of a call.
	fn call(&mut self, call: &Call) -> String {
		let place = self.items.len();
		let done = function(call, &call.arguments, "completed");
		let item_id = done["id"].clone();
		self.items.push(done.clone());
		let added = json!({ "output_index": place, "item": function(call, "", "in_progress") });
		let of = json!({ "output_index": place, "item_id": item_id });
		let (mut delta, mut whole) = (of.clone(), of);
		delta["delta"] = call.arguments.as_str().into();
		whole["arguments"] = call.arguments.as_str().into();
		whole["name"] = call.name.as_str().into();
		self.event("response.output_item.added", added)
			+ &self.event("response.function_call_arguments.delta", delta)
			+ &self.event("response.function_call_arguments.done", whole)
			+ &self.event(
				"response.output_item.done",
				json!({ "output_index": place, "item": done }),
			)
	}

	/// Ends the message.
	fn close(&mut self, finish: Finish) -> String {
		let mut events = self.open();
		let (text, place) = (self.text.clone(), self.message.unwrap_or_default());
		events += &self.of_part(
			"response.output_text.done",
			json!({ "text": text, "logprobs": [] }),
		);
		events += &self.of_part("response.content_part.done", json!({ "part": part(&text) }));
		let item = self.head.item(status(finish), json!([part(&text)]));
		self.items[place] = item.clone();
		let done = json!({ "output_index": place, "item": item });
		events + &self.event("response.output_item.done", done)
	}
}

impl Script for Events {
	fn begin(&mut self) -> String {
		let response = self.head.response("in_progress", json!([]));
		let created = self.event("response.created", json!({ "response": response }));
		created + &self.event("response.in_progress", json!({ "response": response }))
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let parts = self.calls.push(text);
		self.parts(parts, &consilience)
	}

	fn reached(&mut self, said: Said) -> String {
		let parts = self.calls.end(said.finish);
		let mut events = self.parts(parts, &said.consilience);
		if self.message.is_some() || !self.calls.any() {
			events += &self.close(said.finish);
		}
		let items = std::mem::take(&mut self.items);
		let response = self.head.done(&said, items);
		let name = match said.finish {
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
