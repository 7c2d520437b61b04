//! Anthropic's `/v1/messages`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use crate::{
	app::{json, App},
	constraint::{self, Format},
	error::Error,
	fields::{empty, text_of, Fields},
	network::{Finish, Input, Message, Task},
	sse::{event, reply, Script},
	tools::{self, Calls, Choice, Part, Tool, Tools},
	watch::Said,
};

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
		let content = message.need("content")?;
		message.end()?;
		messages.extend(said(&role, content, &within)?);
	}
	Ok(messages)
}

/// Reads what a message says: text, and calls of tools or what came of them.
fn said(role: &str, content: Value, within: &str) -> Result<Vec<Message>, Error> {
	let blocks = match content {
		Value::Array(blocks) => blocks,
		other => vec![json!({ "type": "text", "text": text_of(other, within, &["text"])? })],
	};
	let (mut text, mut results) = (String::new(), Vec::new());
	for (i, block) in blocks.into_iter().enumerate() {
		let name = format!("{within}[{i}]");
		match (block["type"].as_str(), role) {
			(Some("tool_use"), "assistant") => {
				let mut fields = Fields::within(block, &name)?;
				fields.ignore(&["type", "id", "cache_control", "caller"]);
				let called = tools::called(&fields.need::<String>("name")?, &fields.need("input")?);
				fields.end()?;
				tools::add_line(&mut text, &called);
			}
			(Some("tool_result"), "user") => {
				let mut fields = Fields::within(block, &name)?;
				fields.need::<String>("tool_use_id")?;
				// The result itself says what went wrong.
				fields.ignore(&["type", "cache_control", "is_error"]);
				let given = fields
					.take::<Value>("content")?
					.unwrap_or_else(|| "".into());
				fields.end()?;
				let content = text_of(given, &format!("{name}.content"), &["text"])?;
				results.push(tools::result(&content));
			}
			_ => text += &text_of(json!([block]), within, &["text"])?,
		}
	}
	if text.is_empty() && results.is_empty() {
		return Err(Error::invalid(within, format!("{within} is empty")));
	}
	if !text.is_empty() {
		results.push(Message {
			role: role.into(),
			content: text,
		});
	}
	Ok(results)
}

/// Takes tools.
fn take_tools(fields: &mut Fields) -> Result<Tools, Error> {
	let given: Vec<Value> = fields.take("tools")?.unwrap_or_default();
	let mut all = Vec::new();
	for (i, tool) in given.into_iter().enumerate() {
		let name = format!("tools.{i}");
		let mut fields = Fields::within(tool, &name)?;
		let custom = |kind: &Value| kind == "custom";
		fields.refuse("type", custom, "nothing is run here beside the model")?;
		all.push(Tool::read(&mut fields, "input_schema")?);
		fields.ignore(&["cache_control"]);
		fields.end()?;
	}
	let (mut one, mut chosen) = (false, Choice::Auto);
	if let Some(choice) = fields.take::<Value>("tool_choice")? {
		let mut choice = Fields::within(choice, "tool_choice")?;
		one = choice.take("disable_parallel_tool_use")?.unwrap_or(false);
		match choice.need::<String>("type")?.as_str() {
			"auto" => (),
			"any" => chosen = Choice::Required,
			"tool" => chosen = Choice::Named(choice.need("name")?),
			"none" => all.clear(),
			kind => {
				let message =
					format!("tool_choice.type is {kind:?}, and may be auto, any, tool or none");
				return Err(Error::invalid("tool_choice.type", message));
			}
		}
		choice.end()?;
	}
	Tools::new(all, one, chosen, "tools")
}

/// Answers a chat.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let mut messages = messages(&mut fields)?;
	let tools = take_tools(&mut fields)?;
	tools.tell(&mut messages);
	crate::openai::bounds(&messages, "messages")?;
	let mut sampling = fields.sampling()?;
	sampling.max_tokens = Some(match fields.tokens("max_tokens")? {
		Some(tokens) => tokens,
		None => return Err(Error::invalid("max_tokens", "max_tokens is missing")),
	});
	sampling.stop = fields.stop("stop_sequences")?;
	let stops = sampling.stop.clone().unwrap_or_default();
	let format = fields.take::<Value>("output_format")?;
	let format = format.map(|f| Format::read(f, "output_format", None));
	let format = format.transpose()?.unwrap_or_default();
	constraint::hold(&mut sampling, &format, &tools, "output_format")?;
	let stream = fields.take("stream")?.unwrap_or(false);
	fields.ignore(&["metadata"]);
	let off = |thinking: &Value| thinking["type"] == "disabled";
	fields.refuse("thinking", off, "models here have no such setting")?;
	let tier = |tier: &Value| tier == "auto" || tier == "standard_only";
	fields.refuse("service_tier", tier, "there is one tier")?;
	for name in ["container", "context_management", "mcp_servers"] {
		fields.refuse(name, empty, "nothing is kept or run beside the model")?;
	}
	let why = "say what the answer is to be with output_format";
	fields.refuse("output_config", empty, why)?;
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
	let mut calls = tools.calls(job.id);
	if stream {
		let events = Events {
			head,
			calls,
			block: 0,
			open: true,
		};
		return Ok(reply(&app, following, events));
	}
	let said = following.reached().await?;
	let parts = calls.whole(&said.text, said.finish);
	let mut content: Vec<_> = parts.into_iter().map(block).collect();
	if content.is_empty() {
		content.push(block(Part::Text(String::new())));
	}
	let mut body = head.message(content.into(), said.tokens);
	body["stop_reason"] = stop_reason(said.finish, calls.any()).into();
	body["stop_sequence"] = head.stop_sequence(said.finish, calls.any());
	body["consilience"] = said.consilience;
	Ok(json(&body))
}

fn block(part: Part) -> Value {
	match part {
		Part::Text(text) => json!({ "type": "text", "text": text }),
		Part::Call(call) => {
			// It was read as an object.
			let input: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
			json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input })
		}
	}
}

fn stop_reason(finish: Finish, called: bool) -> &'static str {
	match finish {
		Finish::EndOfText | Finish::StopString if called => "tool_use",
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
	fn stop_sequence(&self, finish: Finish, called: bool) -> Value {
		match (finish, &self.stops[..]) {
			(Finish::StopString, [one]) if !called => one.as_str().into(),
			_ => Value::Null,
		}
	}
}

struct Events {
	head: Head,
	calls: Calls,
	/// Index of the last block that was begun.
	block: u32,
	/// Whether that block is text and not ended yet.
	open: bool,
}

impl Events {
	fn of_block(&self, name: &str, mut body: Value) -> String {
		body["type"] = name.into();
		body["index"] = self.block.into();
		event(name, &body)
	}

	fn begin_block(&mut self, block: &Value) -> String {
		self.of_block("content_block_start", json!({ "content_block": block }))
	}

	/// Ends a block of text, if one goes on.
	fn close(&mut self) -> String {
		match std::mem::replace(&mut self.open, false) {
			true => self.of_block("content_block_stop", json!({})),
			false => String::new(),
		}
	}

	fn parts(&mut self, parts: Vec<Part>, consilience: &Value) -> String {
		let mut events = String::new();
		for part in parts {
			let delta = match &part {
				Part::Text(text) => {
					if !self.open {
						self.open = true;
						self.block += 1;
						events += &self.begin_block(&json!({ "type": "text", "text": "" }));
					}
					json!({ "type": "text_delta", "text": text })
				}
				Part::Call(call) => {
					events += &self.close();
					self.block += 1;
					let mut called = block(part.clone());
					called["input"] = json!({});
					events += &self.begin_block(&called);
					json!({ "type": "input_json_delta", "partial_json": call.arguments })
				}
			};
			let body = json!({ "delta": delta, "consilience": consilience });
			events += &self.of_block("content_block_delta", body);
			if let Part::Call(_) = part {
				events += &self.of_block("content_block_stop", json!({}));
			}
		}
		events
	}
}

impl Script for Events {
	fn begin(&mut self) -> String {
		let message = self.head.message(json!([]), 0);
		event(
			"message_start",
			&json!({ "type": "message_start", "message": message }),
		) + &self.begin_block(&json!({ "type": "text", "text": "" }))
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let parts = self.calls.push(text);
		self.parts(parts, &consilience)
	}

	fn reached(&mut self, said: Said) -> String {
		let parts = self.calls.end(said.finish);
		let events = self.parts(parts, &said.consilience) + &self.close();
		let called = self.calls.any();
		let delta = json!({
			"stop_reason": stop_reason(said.finish, called),
			"stop_sequence": self.head.stop_sequence(said.finish, called),
		});
		let usage = json!({ "input_tokens": self.head.input_units, "output_tokens": said.tokens });
		events
			+ &event(
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
