use consilience_gateway::network::{Input, State};
use serde_json::{json, Value};

use crate::{client::Running, with};

const PATH: &str = "/v1/responses";

fn body() -> Value {
	json!({ "model": "chat", "input": "Hello" })
}

#[tokio::test]
async fn a_response_is_given_and_not_kept() {
	let gateway = Running::new().await;
	let said = gateway
		.completed(1, gateway.post(PATH, body()))
		.await
		.json();
	assert_eq!(
		(&said["object"], &said["status"]),
		(&json!("response"), &json!("completed"))
	);
	assert_eq!(said["store"], false);
	let item = &said["output"][0];
	assert_eq!(
		(&item["type"], &item["role"]),
		(&json!("message"), &json!("assistant"))
	);
	assert_eq!(item["content"][0]["text"], "You said: Hello");
	assert_eq!(said["usage"]["output_tokens"], 4);
	let cut = gateway
		.completed(
			1,
			gateway.post(PATH, with(body(), json!({ "max_output_tokens": 1 }))),
		)
		.await
		.json();
	assert_eq!(cut["status"], "incomplete");
	assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
}

#[tokio::test]
async fn input_may_be_a_conversation() {
	let gateway = Running::new().await;
	let input = json!({
		"instructions": "Be brief.",
		"input": [
			{ "role": "user", "content": "a" },
			{ "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
			  "content": [{ "type": "output_text", "text": "b", "annotations": [], "logprobs": [] }] },
			{ "role": "user", "content": [{ "type": "input_text", "text": "c" }] },
		],
		"store": false, "text": { "format": { "type": "text" } }, "truncation": "disabled", "include": [],
	});
	gateway
		.completed(1, gateway.post(PATH, with(body(), input)))
		.await;
	let Input::Chat { messages, .. } = gateway.double.asked(1).input else {
		panic!("it was a chat")
	};
	let said: Vec<_> = messages
		.iter()
		.map(|m| (m.role.as_str(), m.content.as_str()))
		.collect();
	assert_eq!(
		said,
		[
			("system", "Be brief."),
			("user", "a"),
			("assistant", "b"),
			("user", "c")
		]
	);
}

#[tokio::test]
async fn it_streams_its_events_in_order() {
	let gateway = Running::new().await;
	let stream = gateway
		.stream(PATH, &[], with(body(), json!({ "stream": true })))
		.await;
	gateway.double.complete(1);
	let events = stream.rest().await;
	let data: Vec<Value> = events
		.iter()
		.map(|e| serde_json::from_str(e.split_once("data: ").unwrap().1).unwrap())
		.collect();
	let names: Vec<_> = data.iter().map(|d| d["type"].as_str().unwrap()).collect();
	assert_eq!(
		names,
		[
			"response.created",
			"response.in_progress",
			"response.output_item.added",
			"response.content_part.added",
			"response.output_text.delta",
			"response.output_text.done",
			"response.content_part.done",
			"response.output_item.done",
			"response.completed",
		]
	);
	for (i, (event, data)) in events.iter().zip(&data).enumerate() {
		assert_eq!(data["sequence_number"], i);
		assert!(event.starts_with(&format!("event: {}\n", names[i])));
	}
	assert_eq!(
		data[8]["response"]["output"][0]["content"][0]["text"],
		"You said: Hello"
	);
	assert_eq!(data[8]["response"]["consilience"]["request"], 1);
}

#[tokio::test]
async fn a_stream_that_fails_says_so() {
	let gateway = Running::new().await;
	let mut stream = gateway
		.stream(PATH, &[], with(body(), json!({ "stream": true })))
		.await;
	stream.data().await;
	stream.data().await;
	gateway.double.fail(1, State::Expired);
	let end = stream.data().await;
	assert_eq!(end["type"], "response.failed");
	assert_eq!(end["response"]["status"], "failed");
	assert_eq!(
		end["response"]["consilience"]["error"]["error"]["code"],
		"expired"
	);
	assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn state_and_tools_are_refused() {
	let gateway = Running::new().await;
	for (change, parameter) in [
		(json!({ "store": true }), "store"),
		(
			json!({ "previous_response_id": "resp_1" }),
			"previous_response_id",
		),
		(json!({ "conversation": "conv_1" }), "conversation"),
		(json!({ "background": true }), "background"),
		(
			json!({ "tools": [{ "type": "web_search" }] }),
			"tools[0].type",
		),
		(
			json!({ "text": { "format": { "type": "grammar" } } }),
			"text.format.type",
		),
		(json!({ "reasoning": { "effort": "low" } }), "reasoning"),
		(json!({ "truncation": "auto" }), "truncation"),
		(
			json!({ "include": ["reasoning.encrypted_content"] }),
			"include",
		),
		(json!({ "prompt": { "id": "x" } }), "prompt"),
		(json!({ "max_tool_calls": 1 }), "max_tool_calls"),
		(json!({ "input": [] }), "input"),
		(json!({ "input": "" }), "input"),
		(json!({ "input": null }), "input"),
		(json!({ "input": 3 }), "input"),
		(
			json!({ "input": [{ "type": "function_call_output" }] }),
			"input[0].output",
		),
		(
			json!({ "input": [{ "type": "reasoning" }] }),
			"input[0].type",
		),
		(json!({ "max_tokens": 3 }), "max_tokens"),
		(json!({ "stop": "a" }), "stop"),
		(json!({ "max_output_tokens": 600 }), "max_output_tokens"),
	] {
		let reply = gateway.post(PATH, with(body(), change.clone())).await;
		assert_eq!(reply.status, 400, "{change}");
		assert_eq!(reply.json()["error"]["param"], parameter, "{change}");
	}
	assert_eq!(gateway.double.count(), 0);
}
