//! `/v1/chat/completions`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use super::{
	chat_bounded, failed, finish_reason, message, refuse_common, sampling, streaming, usage,
	NO_LOGPROBS, NO_SCHEMA, NO_TOOLS,
};
use crate::{
	app::{json, App},
	error::Error,
	fields::Fields,
	network::{Input, Task},
	sse::{data, reply, Script},
	watch::Said,
};

/// Answers a chat.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own_with_steps(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let messages: Vec<Value> = fields.need("messages")?;
	let messages = messages
		.into_iter()
		.enumerate()
		.map(|(i, m)| message(m, &format!("messages[{i}]"), &["text"]))
		.collect::<Result<Vec<_>, _>>()?;
	chat_bounded(&messages, "messages")?;
	let mut sampling = sampling(&mut fields)?;
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
	fields.refuse("functions", crate::fields::empty, NO_TOOLS)?;
	fields.refuse("function_call", |c| c == "none" || c == "auto", NO_TOOLS)?;
	fields.refuse("response_format", |f| f["type"] == "text", NO_SCHEMA)?;
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
			},
		));
	}
	let said = following.reached().await?;
	Ok(json(&json!({
		"id": head.id,
		"object": "chat.completion",
		"created": head.created,
		"model": head.model,
		"choices": [{
			"index": 0,
			"message": { "role": "assistant", "content": said.text, "refusal": null },
			"logprobs": null,
			"finish_reason": finish_reason(said.finish),
		}],
		"usage": usage(head.input_units, said.tokens),
		"consilience": said.consilience,
	})))
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

impl Script for Chunks {
	fn begin(&mut self) -> String {
		data(&self.delta(json!({ "role": "assistant", "content": "" }), None))
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		let mut chunk = self.delta(json!({ "content": text }), None);
		chunk["consilience"] = consilience;
		data(&chunk)
	}

	fn stepped(&mut self, consilience: Value) -> String {
		let mut chunk = self.chunk(json!([]));
		chunk["consilience"] = consilience;
		data(&chunk)
	}

	fn reached(&mut self, said: Said) -> String {
		let mut chunk = self.delta(json!({}), Some(finish_reason(said.finish)));
		chunk["consilience"] = said.consilience;
		let mut end = data(&chunk);
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
