//! `/v1/embeddings`.

use axum::{
	extract::{Request, State},
	response::Response,
};
use data_encoding::BASE64;
use serde_json::{json, Value};

use super::bounded;
use crate::{
	app::{all_reached, json, App},
	error::Error,
	fields::Fields,
	network::{Answer, Input, Step, Task},
	status::{consilience, consilience_of_all},
};

fn texts(value: Value) -> Result<Vec<String>, Error> {
	let wrong = |message: &str| Error::invalid("input", message);
	let texts = match value {
		Value::String(one) => vec![one],
		Value::Array(list) if list.iter().any(|p| p.is_number() || p.is_array()) => {
			return Err(wrong(
				"input: tokens are not taken, send text (with LangChain: check_embedding_ctx_length=False)",
			))
		}
		Value::Array(list) => {
			let text = |p: Value| match p {
				Value::String(text) => Ok(text),
				_ => Err(wrong("input is a string or a list of strings")),
			};
			list.into_iter().map(text).collect::<Result<_, _>>()?
		}
		_ => return Err(wrong("input is a string or a list of strings")),
	};
	if texts.is_empty() {
		return Err(wrong("input is empty"));
	}
	texts.iter().try_for_each(|t| bounded(t, "input"))?;
	Ok(texts)
}

/// Returns the vector of an answer.
fn vector(step: &Step) -> Result<Vec<f32>, Error> {
	let wrong = || Error::Refused(format!("request {} has no vector", step.request));
	let Some(Answer::Tensors { outputs, .. }) = &step.answer else {
		return Err(wrong());
	};
	let [tensor] = &outputs[..] else {
		return Err(wrong());
	};
	let elements = tensor.data.as_array().ok_or_else(wrong)?;
	elements
		.iter()
		.map(|e| e.as_f64().map(|e| e as f32).ok_or_else(wrong))
		.collect()
}

/// Embeds texts: each is a request.
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let mut fields = Fields::read(&call.body)?;
	let own = fields.own(call.own()?)?;
	let own = own.direct("embeddings are made on chain")?;
	let wanted: String = fields.need("model")?;
	let texts = texts(fields.need("input")?)?;
	let base64 = match fields.take::<String>("encoding_format")?.as_deref() {
		None | Some("float") => false,
		Some("base64") => true,
		Some(other) => {
			let message = format!("encoding_format is {other:?}, and may be float or base64");
			return Err(Error::invalid("encoding_format", message));
		}
	};
	let dimensions: Option<u32> = fields.take("dimensions")?;
	fields.ignore(&["user"]);
	fields.end()?;

	let model = app.model_for(&wanted, Task::Embedding).await?;
	if let Some(dimensions) = dimensions.filter(|d| Some(*d) != model.dimensions) {
		let has = match model.dimensions {
			Some(has) => format!("the model's vectors have {has}"),
			None => "the chain does not say how many the model's vectors have".into(),
		};
		return Err(Error::Unsupported {
			parameter: "dimensions".into(),
			why: format!(
				"{dimensions} are asked for, and {has}: what is checked is the whole vector"
			),
		});
	}
	let inputs = texts.into_iter().map(|text| Input::Text { text }).collect();
	let mut watchers = app.ask(&call, model, inputs, own).await?;
	let units: u32 = watchers.iter().map(|w| w.job.input_units).sum();
	let steps = all_reached(&mut watchers).await?;
	let mut list = Vec::new();
	for (index, step) in steps.iter().enumerate() {
		let vector = vector(step)?;
		let embedding: Value = if base64 {
			let bytes: Vec<u8> = vector.iter().flat_map(|e| e.to_le_bytes()).collect();
			BASE64.encode(&bytes).into()
		} else {
			vector.into()
		};
		list.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
	}
	Ok(json(&json!({
		"object": "list",
		"data": list,
		"model": wanted,
		"usage": { "prompt_tokens": units, "total_tokens": units },
		"consilience": consilience_of_all(steps.iter().map(consilience)),
	})))
}
