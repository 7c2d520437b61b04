//! Whatever stands in a field, the reply is an error of the client's, in the interface's shape.

use consilience_gateway::network::Refusal;
use serde_json::{json, Value};

use crate::{client::Running, with};

fn oddities() -> Vec<Value> {
	let mut deep = json!(1);
	for _ in 0..100 {
		deep = json!([deep]);
	}
	vec![
		json!(null),
		json!(true),
		json!(0),
		json!(-1),
		json!(1.5),
		json!(1e308),
		json!(u64::MAX),
		json!(""),
		json!("\u{0}\u{feff}\u{202e}"),
		json!("x".repeat(100_000)),
		json!([]),
		json!({}),
		json!([null]),
		json!([[]]),
		json!([{}]),
		json!([1, "a", null]),
		json!({ "": {} }),
		json!([{ "role": "user", "content": [] }]),
		json!([{ "role": "user", "content": [{}] }]),
		json!([{ "type": "text" }]),
		json!([{ "name": "x", "shape": [], "datatype": "FP32", "data": [1] }]),
		json!([{ "name": "x", "shape": [0], "datatype": "", "data": [] }]),
		deep,
	]
}

#[tokio::test]
async fn nothing_that_is_sent_is_the_gateways_fault() {
	let gateway = Running::new().await;
	// What makes sense comes as far as this.
	gateway
		.double
		.refuse_quotes(Some(Refusal::Busy { retry_after: None }));
	let chat = json!([{ "role": "user", "content": "a" }]);
	let tensor = json!([{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }]);
	let sampling = [
		"max_tokens",
		"temperature",
		"top_p",
		"top_k",
		"min_p",
		"repetition_penalty",
		"presence_penalty",
		"frequency_penalty",
		"logit_bias",
		"stop",
		"stream",
		"stream_options",
		"n",
		"seed",
		"logprobs",
		"tools",
		"tool_choice",
		"consilience",
		"user",
		"odd",
	];
	let mut calls = 0;
	for (path, body, fields) in [
		(
			"/v1/chat/completions",
			json!({ "model": "chat", "messages": chat }),
			&[
				"model",
				"messages",
				"max_completion_tokens",
				"response_format",
				"functions",
			][..],
		),
		(
			"/v1/completions",
			json!({ "model": "plain", "prompt": "a" }),
			&["model", "prompt", "echo", "suffix"],
		),
		(
			"/v1/responses",
			json!({ "model": "chat", "input": "a" }),
			&[
				"model",
				"input",
				"instructions",
				"text",
				"reasoning",
				"store",
				"include",
				"max_output_tokens",
			],
		),
		(
			"/v1/embeddings",
			json!({ "model": "embed", "input": "a" }),
			&["model", "input", "dimensions", "encoding_format"],
		),
		(
			"/v1/messages",
			json!({ "model": "chat", "max_tokens": 9, "messages": chat }),
			&[
				"model",
				"messages",
				"system",
				"stop_sequences",
				"thinking",
				"metadata",
			],
		),
		(
			"/v2/models/double/infer",
			json!({ "inputs": tensor }),
			&["inputs", "outputs", "parameters", "id"],
		),
	] {
		for field in fields.iter().chain(&sampling) {
			for odd in oddities() {
				let reply = gateway
					.post(path, with(body.clone(), json!({ *field: odd })))
					.await;
				let status = reply.status.as_u16();
				let said = format!(
					"{path} {field} {:.80}: {status} {}",
					odd.to_string(),
					reply.text()
				);
				assert!((400..500).contains(&status), "{said}");
				let error = &reply.json()["error"];
				let message = error.as_str().or(error["message"].as_str());
				assert!(message.is_some_and(|m| !m.is_empty()), "{said}");
				calls += 1;
			}
		}
	}
	assert!(calls > 3_000, "{calls}");
	assert_eq!(gateway.double.count(), 0);
}
