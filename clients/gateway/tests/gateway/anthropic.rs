use consilience_gateway::network::{Input, Refusal, State};
use serde_json::{json, Value};

use crate::{client::Running, with};

const PATH: &str = "/v1/messages";

fn body() -> Value {
	json!({ "model": "chat", "max_tokens": 50, "messages": [{ "role": "user", "content": "one two" }] })
}

#[tokio::test]
async fn a_message_is_answered() {
	let gateway = Running::new().await;
	let said = gateway
		.completed(1, gateway.post(PATH, body()))
		.await
		.json();
	assert_eq!(
		(&said["type"], &said["role"]),
		(&json!("message"), &json!("assistant"))
	);
	assert_eq!(
		said["content"],
		json!([{ "type": "text", "text": "You said: one two" }])
	);
	assert_eq!(said["stop_reason"], "end_turn");
	assert_eq!(
		said["usage"],
		json!({ "input_tokens": 7, "output_tokens": 5 })
	);
	assert_eq!(said["consilience"]["request"], 1);
}

#[tokio::test]
async fn what_the_chain_has_goes_through() {
	let gateway = Running::new().await;
	let change = json!({
		"system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
		"messages": [
			{ "role": "user", "content": [{ "type": "text", "text": "one two" }] },
			{ "role": "assistant", "content": "three" },
			{ "role": "user", "content": "one two" },
		],
		"stop_sequences": ["two"], "temperature": 0.5, "top_k": 5, "top_p": 0.5,
		"metadata": { "user_id": "x" }, "tools": [], "thinking": { "type": "disabled" }, "stream": false,
	});
	let said = gateway
		.completed(1, gateway.post(PATH, with(body(), change)))
		.await
		.json();
	assert_eq!(
		(&said["stop_reason"], &said["stop_sequence"]),
		(&json!("stop_sequence"), &json!("two"))
	);
	let Input::Chat { messages, sampling } = gateway.double.asked(1).input else {
		panic!("it was a chat")
	};
	assert_eq!((messages[0].role.as_str(), messages.len()), ("system", 4));
	assert_eq!((sampling.max_tokens, sampling.top_k), (Some(50), Some(5)));
	// Of several the chain does not say which it was.
	let several = json!({ "stop_sequences": ["two", "x"] });
	let said = gateway
		.completed(1, gateway.post(PATH, with(body(), several)))
		.await
		.json();
	assert_eq!(said["stop_sequence"], Value::Null);
	let cut = gateway
		.completed(
			1,
			gateway.post(PATH, with(body(), json!({ "max_tokens": 2 }))),
		)
		.await
		.json();
	assert_eq!(cut["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn it_streams_its_events_in_order() {
	let gateway = Running::with(|c| c.ping = std::time::Duration::from_millis(5)).await;
	let mut stream = gateway
		.stream(PATH, &[], with(body(), json!({ "stream": true })))
		.await;
	assert_eq!(stream.data().await["message"]["role"], "assistant");
	assert_eq!(stream.data().await["type"], "content_block_start");
	assert_eq!(
		stream.raw().await.unwrap(),
		"event: ping\ndata: {\"type\": \"ping\"}"
	);
	gateway.double.answer(1);
	let delta = stream.data().await;
	assert_eq!(
		delta["delta"],
		json!({ "type": "text_delta", "text": "You said: one two" })
	);
	assert_eq!(delta["consilience"]["status"], "provisional");
	gateway.double.check(1);
	assert_eq!(stream.data().await["type"], "content_block_stop");
	let end = stream.data().await;
	assert_eq!(end["delta"]["stop_reason"], "end_turn");
	assert_eq!(end["consilience"]["status"], "checked");
	assert_eq!(end["usage"]["output_tokens"], 5);
	assert_eq!(stream.data().await["type"], "message_stop");
	assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_fails_has_no_end_but_an_error() {
	let gateway = Running::new().await;
	let mut stream = gateway
		.stream(PATH, &[], with(body(), json!({ "stream": true })))
		.await;
	stream.data().await;
	stream.data().await;
	gateway.double.answer(1);
	stream.data().await;
	gateway.double.fail(1, State::Rejected);
	let event = stream.next().await.unwrap();
	assert!(event.starts_with("event: error\n"), "{event}");
	assert!(event.contains("\"type\":\"api_error\""), "{event}");
	assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn errors_have_the_shape_of_the_interface() {
	let gateway = Running::new().await;
	for (change, says) in [
		(json!({ "max_tokens": null }), "max_tokens is missing"),
		(json!({ "max_tokens": 600 }), "at most 512"),
		(json!({ "messages": [] }), "at least one"),
		(
			json!({ "messages": [{ "role": "system", "content": "a" }] }),
			"user or assistant",
		),
		(
			json!({ "messages": [{ "role": "user", "content": "" }] }),
			"is empty",
		),
		(
			json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": {} }] }] }),
			"is not text",
		),
		(json!({ "tools": [{ "name": "a b" }] }), "tools.0.name is"),
		(
			json!({ "tool_choice": { "type": "any" } }),
			"tool_choice asks for a call",
		),
		(
			json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }),
			"thinking is not supported",
		),
		(json!({ "container": "x" }), "container is not supported"),
		(
			json!({ "output_format": { "type": "xml" } }),
			"output_format.type is not supported",
		),
		(json!({ "seed": 3 }), "unknown parameter \"seed\""),
		(
			json!({ "messages": [{ "role": "user", "content": "x".repeat(40_000) }] }),
			"the chain takes",
		),
	] {
		let reply = gateway.post(PATH, with(body(), change.clone())).await;
		let said = reply.json();
		assert_eq!(reply.status, 400, "{change}: {said}");
		assert_eq!(said["type"], "error");
		assert_eq!(said["error"]["type"], "invalid_request_error");
		assert!(
			said["error"]["message"].as_str().unwrap().contains(says),
			"{said}"
		);
	}
	let reply = gateway
		.post(PATH, with(body(), json!({ "model": "none" })))
		.await;
	assert_eq!(
		(reply.status.as_u16(), &reply.json()["error"]["type"]),
		(404, &json!("not_found_error"))
	);
	gateway
		.double
		.refuse_quotes(Some(Refusal::Busy { retry_after: None }));
	let reply = gateway.post(PATH, body()).await;
	assert_eq!(
		(reply.status.as_u16(), &reply.json()["error"]["type"]),
		(429, &json!("rate_limit_error"))
	);
	assert!(reply.headers.contains_key("retry-after"));
	let reply = gateway.post_bytes(PATH, &[], b"{".to_vec()).await;
	assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
}
