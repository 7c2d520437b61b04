//! `/v1/completions`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use serde_json::{json, Value};

use super::{
	bounded, failed, finish_reason, refuse_common, sampling, streaming, usage, NO_LOGPROBS,
};
use crate::{
	app::{all_said, json, App},
	error::Error,
	fields::Fields,
	network::{Input, Task},
	sse::{data, reply, Script},
	status::consilience_of_all,
	watch::Said,
};

fn prompts(value: Value) -> Result<Vec<String>, Error> {
	let wrong = |message: &str| Error::invalid("prompt", message);
	let prompts = match value {
		Value::String(one) => vec![one],
		Value::Array(list) if list.iter().any(|p| p.is_number() || p.is_array()) => {
			return Err(wrong(
				"prompt: tokens are not taken, send text: the chain counts and checks text",
			))
		}
		Value::Array(list) => {
			let text = |p: Value| match p {
				Value::String(text) => Ok(text),
				_ => Err(wrong("prompt is a string or a list of strings")),
			};
			list.into_iter().map(text).collect::<Result<_, _>>()?
		}
		_ => return Err(wrong("prompt is a string or a list of strings")),
	};
	if prompts.is_empty() {
		return Err(wrong("prompt is empty"));
	}
	prompts.iter().try_for_each(|p| bounded(p, "prompt"))?;
	Ok(prompts)
}

/// Goes on from prompts: several are several requests.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let wanted: String = fields.need("model")?;
	let prompts = prompts(fields.need("prompt")?)?;
	let mut sampling = sampling(&mut fields)?;
	sampling.max_tokens = fields.tokens("max_tokens")?;
	let stream = streaming(&mut fields)?;
	refuse_common(&mut fields)?;
	fields.refuse("logprobs", |_| false, NO_LOGPROBS)?;
	fields.refuse("echo", |on| on == false, "the prompt is not repeated")?;
	fields.refuse(
		"suffix",
		|s| s == "",
		"models here go on from a text, and do not fill in",
	)?;
	fields.end()?;
	if stream.on && prompts.len() > 1 {
		let message = "a stream has one prompt: make several calls";
		return Err(Error::invalid("prompt", message));
	}

	let model = app.model_for(&wanted, Task::TextGeneration).await?;
	app.max_tokens(&mut sampling, &model, "max_tokens")?;
	let inputs = prompts
		.into_iter()
		.map(|prompt| Input::Prompt {
			prompt,
			sampling: sampling.clone(),
		})
		.collect();
	let mut following = app.say(&call, model, inputs, own, stream.on).await?;
	let first = following[0].job();
	let input_units = following.iter().map(|f| f.job().input_units).sum();
	let head = json!({
		"id": format!("cmpl-{:x}", first.id), "object": "text_completion", "created": first.created, "model": wanted,
	});
	if stream.on {
		let chunks = Chunks {
			head,
			input_units,
			usage: stream.usage,
		};
		return Ok(reply(&app, following.remove(0), chunks));
	}
	let all = all_said(&mut following).await?;
	let mut tokens = 0u32;
	let mut choices = Vec::new();
	for (index, said) in all.iter().enumerate() {
		tokens = tokens.saturating_add(said.tokens);
		choices.push(json!({
			"index": index, "text": said.text, "logprobs": null, "finish_reason": finish_reason(said.finish, false),
		}));
	}
	let mut body = head;
	body["choices"] = choices.into();
	body["usage"] = usage(input_units, tokens);
	body["consilience"] = consilience_of_all(all.into_iter().map(|said| said.consilience));
	Ok(json(&body))
}

struct Chunks {
	head: Value,
	input_units: u32,
	usage: bool,
}

impl Chunks {
	fn chunk(&self, choices: Value) -> Value {
		let mut chunk = self.head.clone();
		chunk["choices"] = choices;
		if self.usage {
			chunk["usage"] = Value::Null;
		}
		chunk
	}

	fn choice(&self, text: &str, finish: Option<&str>, consilience: Value) -> String {
		let choice = json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish });
		let mut chunk = self.chunk(json!([choice]));
		chunk["consilience"] = consilience;
		data(&chunk)
	}
}

impl Script for Chunks {
	fn begin(&mut self) -> String {
		self.ping().into()
	}

	fn text(&mut self, text: &str, consilience: Value) -> String {
		self.choice(text, None, consilience)
	}

	fn reached(&mut self, said: Said) -> String {
		let mut end = self.choice(
			"",
			Some(finish_reason(said.finish, false)),
			said.consilience,
		);
		if self.usage {
			let mut chunk = self.chunk(json!([]));
			chunk["usage"] = usage(self.input_units, said.tokens);
			end += &data(&chunk);
		}
		end + "data: [DONE]\n\n"
	}

	fn failed(&mut self, error: &Error) -> String {
		failed(error)
	}
}
