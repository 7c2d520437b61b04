//! The Open Inference Protocol, version 2, with its binary data.

mod binary;

use axum::{
	body::Body,
	extract::{Path, Request, State},
	http::{header, HeaderValue, StatusCode},
	response::Response,
};
use serde_json::{json, Value};

use crate::{
	app::{json, App, Call},
	error::Error,
	fields::Fields,
	network::{Answer, Input, Message, Model, Step, Task, Tensor},
	status::consilience,
};

/// Says how long the JSON is that stands before binary data.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Names that the protocol has for the inputs and outputs of models that have none on chain.
const PROMPT: &str = "prompt";
const TEXT: &str = "text";
const EMBEDDING: &str = "embedding";

/// Describes the server.
pub(crate) async fn server() -> Response {
	json(&json!({
		"name": "consilience-gateway",
		"version": env!("CARGO_PKG_VERSION"),
		"extensions": ["binary_tensor_data"],
	}))
}

/// Says that the gateway runs.
pub(crate) async fn live() -> Response {
	json(&json!({ "live": true }))
}

/// Says whether the node answers.
pub(crate) async fn ready(State(app): State<App>) -> Response {
	let is_ready = app.is_ready().await.is_ok();
	readiness(json!({ "ready": is_ready }), is_ready)
}

fn readiness(body: Value, is_ready: bool) -> Response {
	let mut response = json(&body);
	if !is_ready {
		*response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
	}
	response
}

/// Says whether a model takes requests.
pub(crate) async fn model_ready(
	State(app): State<App>,
	Path(name): Path<String>,
) -> Result<Response, Error> {
	let is_ready = app.model(&name).await?.is_active();
	Ok(readiness(
		json!({ "name": name, "ready": is_ready }),
		is_ready,
	))
}

/// Describes a model. The chain does not know the outputs of a tensor model: there they are left out.
pub(crate) async fn model(
	State(app): State<App>,
	Path(name): Path<String>,
) -> Result<Response, Error> {
	let model = app.model(&name).await?;
	let text = |name: &str| json!([{ "name": name, "datatype": "BYTES", "shape": [1] }]);
	let (inputs, outputs) = match model.task {
		Task::TextGeneration => (text(PROMPT), text(TEXT)),
		Task::Embedding => {
			let dimensions = model.dimensions.map_or(-1, i64::from);
			let output = json!([{ "name": EMBEDDING, "datatype": "FP32", "shape": [dimensions] }]);
			(text(TEXT), output)
		}
		Task::Tensor => (json!(model.inputs), json!([])),
	};
	Ok(json(&json!({
		"name": name,
		"versions": [model.id],
		"platform": format!("consilience_{}", model.class),
		"inputs": inputs,
		"outputs": outputs,
	})))
}

/// Runs a model.
pub(crate) async fn infer(
	State(app): State<App>,
	Path(name): Path<String>,
	request: Request,
) -> Result<Response, Error> {
	let call = app.read(request).await?;
	let (head, binary) = split(&call)?;
	let mut fields = Fields::read(head)?;
	let own = fields.own(call.own()?)?;
	let own = own.direct(
		"this interface asks on chain: text is generated in the session lane through the others",
	)?;
	let id: Option<String> = fields.take("id")?;
	let tensors = tensors(fields.need("inputs")?, binary)?;
	let wanted = outputs(&mut fields)?;
	let mut parameters = match fields.take::<Value>("parameters")? {
		Some(parameters) => Fields::within(parameters, "parameters")?,
		None => Fields::within(json!({}), "parameters")?,
	};
	let all_binary = parameters.take("binary_data_output")?.unwrap_or(false);
	for name in ["sequence_id", "sequence_start", "sequence_end"] {
		parameters.refuse(name, |_| false, "models here keep nothing between requests")?;
	}
	for name in ["priority", "timeout"] {
		parameters.refuse(name, |_| false, "the chain sets the order and the time")?;
	}
	fields.end()?;

	let model = app.model(&name).await?;
	if !model.is_active() {
		return Err(Error::NotActive(name));
	}
	let known = match model.task {
		Task::TextGeneration => Some(TEXT),
		Task::Embedding => Some(EMBEDDING),
		Task::Tensor => None,
	};
	if let (Some(known), Some(wanted)) = (known, &wanted) {
		if let Some(other) = wanted.iter().find(|w| w.name != known) {
			let message = format!("the model has no output {:?}, but {known:?}", other.name);
			return Err(Error::invalid("outputs", message));
		}
	}
	let input = input(&app, &model, tensors, &mut parameters)?;
	parameters.end()?;
	let mut watchers = app.ask(&call, model.clone(), vec![input], own).await?;
	let step = watchers.remove(0).reached().await?;
	let outputs = answer(&step)?;
	reply(&name, &model, id, &step, outputs, wanted, all_binary)
}

/// Takes JSON and binary data apart.
fn split(call: &Call) -> Result<(&[u8], &[u8]), Error> {
	let Some(length) = call.headers.get(JSON_LENGTH) else {
		return Ok((&call.body, &[]));
	};
	length
		.to_str()
		.ok()
		.and_then(|l| l.parse().ok())
		.and_then(|l| call.body.split_at_checked(l))
		.ok_or_else(|| {
			let message =
				format!("the header {JSON_LENGTH} is not the length of a part of the body");
			Error::invalid(JSON_LENGTH, message)
		})
}

/// Reads the inputs, whose binary data stands in their order.
fn tensors(inputs: Vec<Value>, mut binary: &[u8]) -> Result<Vec<Tensor>, Error> {
	let mut tensors = Vec::new();
	for (i, input) in inputs.into_iter().enumerate() {
		let at = format!("inputs[{i}]");
		let mut fields = Fields::within(input, &at)?;
		let name: String = fields.need("name")?;
		let shape: Vec<u32> = fields.need("shape")?;
		let datatype: String = fields.need("datatype")?;
		let size = match fields.take::<Value>("parameters")? {
			None => None,
			Some(parameters) => {
				let mut parameters = Fields::within(parameters, &format!("{at}.parameters"))?;
				let size: Option<usize> = parameters.take("binary_data_size")?;
				refuse_shared_memory(&mut parameters)?;
				parameters.end()?;
				size
			}
		};
		let wrong = |message: String| Error::invalid(&at, message);
		let count = shape
			.iter()
			.try_fold(1usize, |n, d| n.checked_mul(*d as usize));
		let count = count.ok_or_else(|| wrong(format!("{at}.shape is too large")))?;
		let data = match (fields.take::<Value>("data")?, size) {
			(Some(data), None) => flat(data),
			(None, Some(size)) => {
				let (own, rest) = binary.split_at_checked(size).ok_or_else(|| {
					wrong(format!("{at}: the body ends before {size} bytes of data"))
				})?;
				binary = rest;
				binary::decode(&datatype, own).map_err(|e| wrong(format!("{at}: {e}")))?
			}
			_ => {
				let message = format!("{at} has either data, or parameters.binary_data_size");
				return Err(wrong(message));
			}
		};
		fields.end()?;
		if data.len() != count {
			let message = format!(
				"{at}: {shape:?} asks for {count} elements, data has {}",
				data.len()
			);
			return Err(wrong(message));
		}
		tensors.push(Tensor {
			name,
			shape,
			datatype,
			data: data.into(),
		});
	}
	if !binary.is_empty() {
		let message = format!("{} bytes of binary data belong to no input", binary.len());
		return Err(Error::invalid("inputs", message));
	}
	if tensors.is_empty() {
		return Err(Error::invalid("inputs", "inputs is empty"));
	}
	Ok(tensors)
}

/// Returns nested data as a flat list.
fn flat(data: Value) -> Vec<Value> {
	match data {
		Value::Array(list) => list.into_iter().flat_map(flat).collect(),
		value => vec![value],
	}
}

/// An output that is asked for.
struct Wanted {
	name: String,
	binary: Option<bool>,
}

fn outputs(fields: &mut Fields) -> Result<Option<Vec<Wanted>>, Error> {
	let Some(list) = fields.take::<Vec<Value>>("outputs")? else {
		return Ok(None);
	};
	let mut wanted = Vec::new();
	for (i, output) in list.into_iter().enumerate() {
		let at = format!("outputs[{i}]");
		let mut fields = Fields::within(output, &at)?;
		let name = fields.need("name")?;
		let mut binary = None;
		if let Some(parameters) = fields.take::<Value>("parameters")? {
			let mut parameters = Fields::within(parameters, &format!("{at}.parameters"))?;
			binary = parameters.take("binary_data")?;
			parameters.refuse(
				"classification",
				|n| *n == 0,
				"the answer is what the model gives",
			)?;
			refuse_shared_memory(&mut parameters)?;
			parameters.end()?;
		}
		fields.end()?;
		wanted.push(Wanted { name, binary });
	}
	Ok((!wanted.is_empty()).then_some(wanted))
}

/// Refuses a tensor that stands in memory of the client's machine.
fn refuse_shared_memory(parameters: &mut Fields) -> Result<(), Error> {
	for name in [
		"shared_memory_region",
		"shared_memory_offset",
		"shared_memory_byte_size",
	] {
		parameters.refuse(
			name,
			|_| false,
			"the gateway shares no memory with its clients",
		)?;
	}
	Ok(())
}

/// Returns what is asked of a model of this task.
fn input(
	app: &App,
	model: &Model,
	mut tensors: Vec<Tensor>,
	parameters: &mut Fields,
) -> Result<Input, Error> {
	if model.task == Task::Tensor {
		return Ok(Input::Tensors { inputs: tensors });
	}
	let wrong = || {
		let message = "this model takes one BYTES tensor with one string";
		Error::invalid("inputs", message)
	};
	let (Some(tensor), true) = (tensors.pop(), tensors.is_empty()) else {
		return Err(wrong());
	};
	let text = match (
		tensor.datatype.as_str(),
		tensor.data.as_array().map(Vec::as_slice),
	) {
		("BYTES", Some([Value::String(text)])) => text.clone(),
		_ => return Err(wrong()),
	};
	if text.is_empty() {
		return Err(Error::invalid("inputs", "the text is empty"));
	}
	if model.task == Task::Embedding {
		return Ok(Input::Text { text });
	}
	let mut sampling = parameters.sampling()?;
	sampling.max_tokens = parameters.tokens("max_tokens")?;
	sampling.stop = parameters.stop("stop")?;
	app.max_tokens(&mut sampling, model, "parameters.max_tokens")?;
	let raw = parameters.take("raw")?.unwrap_or(!model.chat);
	Ok(if raw {
		Input::Prompt {
			prompt: text,
			sampling,
		}
	} else {
		Input::Chat {
			messages: vec![Message {
				role: "user".into(),
				content: text,
			}],
			sampling,
		}
	})
}

/// Returns the outputs of an answer.
fn answer(step: &Step) -> Result<Vec<Tensor>, Error> {
	match &step.answer {
		Some(Answer::Text { text, .. }) => Ok(vec![Tensor {
			name: TEXT.into(),
			shape: vec![1],
			datatype: "BYTES".into(),
			data: json!([text]),
		}]),
		Some(Answer::Tensors { outputs, .. }) => Ok(outputs.clone()),
		_ => Err(Error::Refused(format!(
			"request {} has no answer",
			step.request
		))),
	}
}

fn reply(
	name: &str,
	model: &Model,
	id: Option<String>,
	step: &Step,
	mut outputs: Vec<Tensor>,
	wanted: Option<Vec<Wanted>>,
	all_binary: bool,
) -> Result<Response, Error> {
	if let (Task::Embedding, [one]) = (model.task, &mut outputs[..]) {
		one.name = EMBEDDING.into();
	}
	let chosen: Vec<(Tensor, bool)> = match wanted {
		None => outputs.into_iter().map(|t| (t, all_binary)).collect(),
		Some(wanted) => wanted
			.into_iter()
			.map(|w| {
				let found = outputs.iter().find(|t| t.name == w.name).cloned();
				let found = found.ok_or_else(|| {
					let names: Vec<_> = outputs.iter().map(|t| t.name.as_str()).collect();
					let message = format!(
						"the model has no output {:?}, but {}",
						w.name,
						names.join(", ")
					);
					Error::invalid("outputs", message)
				})?;
				Ok((found, w.binary.unwrap_or(all_binary)))
			})
			.collect::<Result<_, Error>>()?,
	};
	let (mut list, mut tail) = (Vec::new(), Vec::new());
	for (tensor, as_binary) in chosen {
		let mut output = json!({
			"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape,
		});
		// What has no binary form in the protocol is sent as JSON.
		match as_binary.then(|| binary::encode(&tensor)).flatten() {
			Some(bytes) => {
				output["parameters"] = json!({ "binary_data_size": bytes.len() });
				tail.extend(bytes);
			}
			None => output["data"] = tensor.data,
		}
		list.push(output);
	}
	let mut body = json!({
		"model_name": name,
		"model_version": model.id,
		"outputs": list,
		"consilience": consilience(step),
	});
	if let Some(id) = id {
		body["id"] = id.into();
	}
	if tail.is_empty() {
		return Ok(json(&body));
	}
	let mut bytes = body.to_string().into_bytes();
	let length = bytes.len();
	bytes.extend(tail);
	let mut response = Response::new(Body::from(bytes));
	let headers = response.headers_mut();
	headers.insert(JSON_LENGTH, HeaderValue::from(length));
	headers.insert(
		header::CONTENT_TYPE,
		HeaderValue::from_static("application/octet-stream"),
	);
	Ok(response)
}
