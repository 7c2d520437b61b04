//! `/v1/models`.

use std::sync::Arc;

use axum::{
	extract::{Path, State},
	response::Response,
};
use serde_json::{json, Value};

use crate::{
	app::{json, App},
	error::Error,
	network::{Model, Task},
};

/// Returns what `model` may say in a request for this model: its name, where that is enough to tell it from others.
fn id<'m>(model: &'m Model, all: &[Arc<Model>]) -> &'m str {
	let namesakes = all.iter().filter(|m| m.name == model.name && m.is_active());
	match (model.is_active(), namesakes.count()) {
		(true, 1) => &model.name,
		_ => &model.id,
	}
}

/// Returns what is known of a model in the session lane; null where the gateway has no channel.
async fn session(app: &App, model: &Model) -> Value {
	if app.channels.is_empty() {
		return Value::Null;
	}
	let validators = match model.task {
		// A node that does not answer says that nobody is there.
		Task::TextGeneration if model.is_active() => {
			let serving = app.channels.serving(&model.id).await;
			serving.ok().flatten().map_or(0, |(_, serving)| serving)
		}
		_ => 0,
	};
	json!({
		"available": validators > 0,
		"validators": validators,
		"measured": app.metrics.measured_session(&model.name),
	})
}

async fn describe(app: &App, model: &Model, all: &[Arc<Model>]) -> Value {
	let default_max_tokens = app.config.default_max_tokens;
	let (input, output) = match model.task {
		Task::TextGeneration => (
			"byte of text, and 16 for a chat and for each of its messages",
			"token",
		),
		Task::Embedding => ("byte of text", "element"),
		Task::Tensor => ("element of a tensor", "element of a tensor"),
	};
	let default = (model.task == Task::TextGeneration)
		.then(|| default_max_tokens.min(model.max_output_units));
	json!({
		"id": id(model, all),
		"object": "model",
		// The chain does not say when a model was registered.
		"created": 0,
		"owned_by": model.owner,
		"consilience": {
			"id": model.id,
			"name": model.name,
			"task": model.task,
			"chat": model.chat,
			"status": model.status,
			"class": model.class,
			"verification": model.policy,
			"min_verifiers": model.min_verifiers,
			"serving": model.serving,
			"measured": app.metrics.measured(&model.name),
			"session": session(app, model).await,
			"size": model.size,
			"context_length": model.context_length,
			"dimensions": model.dimensions,
			"max_input_units": model.max_input_units,
			"max_output_units": model.max_output_units,
			"default_max_tokens": default,
			"input_unit": input,
			"output_unit": output,
			"price": model.price,
			"price_unit": "1e-12 CSL",
			"sampling": model.sampling,
			"inputs": model.inputs,
			"license": model.license,
			"source": model.source,
		},
	})
}

/// Lists the models that take requests.
pub(crate) async fn list(State(app): State<App>) -> Result<Response, Error> {
	let models = app.models().await?;
	let active = models.iter().filter(|m| m.is_active());
	let list = futures::future::join_all(active.map(|m| describe(&app, m, &models))).await;
	Ok(json(&json!({ "object": "list", "data": list })))
}

/// Describes one model, also one that takes no requests.
pub(crate) async fn get(
	State(app): State<App>,
	Path(wanted): Path<String>,
) -> Result<Response, Error> {
	let model = app.model(&wanted).await?;
	let models = app.models().await?;
	Ok(json(&describe(&app, &model, &models).await))
}
