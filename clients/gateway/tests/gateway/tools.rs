use consilience_gateway::network::Input;
use serde_json::{json, Value};

use crate::{chat, client::Running, with, CHAT_PATH};

/// The double says what it is told, so this is what it writes.
const WRITES: &str = "it.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n\
	<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";

fn parameters() -> Value {
	json!({ "type": "object", "properties": { "city": { "type": "string" } } })
}

fn tools() -> Value {
	let tool = |name: &str| {
		let function = json!({ "name": name, "description": "tells", "parameters": parameters() });
		json!({ "type": "function", "function": function })
	};
	json!([tool("weather"), tool("time")])
}

/// The messages and stop strings of a request.
fn asked(gateway: &Running, number: u64) -> (Vec<(String, String)>, Option<Vec<String>>) {
	let Input::Chat { messages, sampling } = gateway.double.asked(number).input else {
		panic!("it was a chat")
	};
	let messages = messages.into_iter().map(|m| (m.role, m.content));
	(messages.collect(), sampling.stop)
}

fn names(calls: &Value) -> Vec<(&str, &str)> {
	let calls = calls.as_array().unwrap().iter();
	calls
		.map(|call| {
			let function = &call["function"];
			let name = function["name"].as_str().unwrap();
			(name, function["arguments"].as_str().unwrap())
		})
		.collect()
}

#[tokio::test]
async fn a_chat_calls_tools_and_is_told_what_came_of_them() {
	let gateway = Running::new().await;
	let body = with(chat(WRITES), json!({ "tools": tools() }));
	let reply = gateway
		.completed(1, gateway.post(CHAT_PATH, body.clone()))
		.await;
	let choice = reply.json()["choices"][0].clone();
	assert_eq!(choice["finish_reason"], "tool_calls");
	let message = &choice["message"];
	assert_eq!(message["content"], "You said: it.");
	let called = [("weather", r#"{"city":"Paris"}"#), ("time", "{}")];
	assert_eq!(names(&message["tool_calls"]), called);
	let (messages, stop) = asked(&gateway, 1);
	assert_eq!(messages[0].0, "system");
	assert!(messages[0].1.contains("weather"), "{messages:?}");
	assert_eq!(stop, None);

	// The answer goes back as it is, with what the tools gave.
	let result = |call: &Value, content| json!({ "role": "tool", "tool_call_id": call["id"], "content": content });
	let calls = message["tool_calls"].as_array().unwrap();
	let conversation = json!([
		{ "role": "user", "content": "How is it?" }, message,
		result(&calls[0], json!("rain")), result(&calls[1], json!([{ "type": "text", "text": "noon" }])),
	]);
	let next = with(body.clone(), json!({ "messages": conversation }));
	gateway.completed(1, gateway.post(CHAT_PATH, next)).await;
	let (messages, _) = asked(&gateway, 2);
	let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
	assert_eq!(roles, ["system", "user", "assistant", "user"]);
	assert_eq!(messages[2].1.matches("<tool_call>").count(), 2);
	assert!(messages[2].1.starts_with("You said: it.\n<tool_call>"));
	assert!(messages[3].1.contains("rain") && messages[3].1.contains("noon"));

	// One call is enough, or none is wanted.
	for (choice, stop) in [
		(
			json!({ "parallel_tool_calls": false }),
			Some(vec!["</tool_call>".to_owned()]),
		),
		(json!({ "tool_choice": "none" }), None),
	] {
		let number = gateway.double.count() as u64 + 1;
		let none = stop.is_none();
		let reply = gateway
			.completed(1, gateway.post(CHAT_PATH, with(body.clone(), choice)))
			.await;
		let choice = reply.json()["choices"][0].clone();
		let (messages, asked) = asked(&gateway, number);
		assert_eq!(asked, stop);
		if none {
			assert_eq!(choice["finish_reason"], "stop");
			assert_eq!(choice["message"]["content"], format!("You said: {WRITES}"));
			assert_eq!(messages.len(), 1);
		} else {
			assert_eq!(choice["finish_reason"], "tool_calls");
			assert_eq!(names(&choice["message"]["tool_calls"]), called[..1]);
		}
	}
}

#[tokio::test]
async fn a_stream_tells_calls_apart_from_text() {
	let gateway = Running::new().await;
	let change = json!({ "tools": tools(), "stream": true });
	let stream = gateway
		.stream(CHAT_PATH, &[], with(chat(WRITES), change))
		.await;
	gateway.double.complete(1);
	let events = stream.rest().await;
	assert_eq!(events.last().unwrap(), "data: [DONE]");
	let chunks: Vec<Value> = events[..events.len() - 1]
		.iter()
		.map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
		.collect();
	let deltas = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]);
	let text: String = deltas
		.clone()
		.filter_map(|delta| delta["content"].as_str())
		.collect();
	assert_eq!(text, "You said: it.");
	let calls: Value = deltas
		.filter_map(|delta| delta["tool_calls"].as_array())
		.flatten()
		.cloned()
		.collect();
	assert_eq!(
		names(&calls),
		[("weather", r#"{"city":"Paris"}"#), ("time", "{}")]
	);
	assert_eq!(
		(&calls[0]["index"], &calls[1]["index"]),
		(&json!(0), &json!(1))
	);
	let last = chunks.last().unwrap();
	assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn an_answer_that_is_cut_in_a_call_is_text() {
	let gateway = Running::new().await;
	let change = json!({ "tools": tools(), "max_tokens": 5 });
	let reply = gateway
		.completed(1, gateway.post(CHAT_PATH, with(chat(WRITES), change)))
		.await;
	let choice = reply.json()["choices"][0].clone();
	assert_eq!(choice["finish_reason"], "length");
	assert_eq!(choice["message"].get("tool_calls"), None);
	let content = choice["message"]["content"].as_str().unwrap();
	assert!(content.contains("<tool_call>"), "{content}");
}

#[tokio::test]
async fn tools_that_are_wrong_are_named() {
	let gateway = Running::new().await;
	let function = |change: Value| {
		let function = with(json!({ "name": "f" }), change);
		json!({ "tools": [{ "type": "function", "function": function }] })
	};
	for (change, parameter, code) in [
		(json!({ "tools": 3 }), "tools", "invalid_value"),
		(json!({ "tools": [3] }), "tools[0]", "invalid_value"),
		(json!({ "tools": [{}] }), "tools[0].type", "invalid_value"),
		(
			json!({ "tools": [{ "type": "web_search" }] }),
			"tools[0].type",
			"unsupported_parameter",
		),
		(
			json!({ "tools": [{ "type": "function" }] }),
			"tools[0].function",
			"invalid_value",
		),
		(
			function(json!({ "name": null })),
			"tools[0].function.name",
			"invalid_value",
		),
		(
			function(json!({ "name": "f g" })),
			"tools[0].function.name",
			"invalid_value",
		),
		(
			function(json!({ "name": "f".repeat(65) })),
			"tools[0].function.name",
			"invalid_value",
		),
		(
			function(json!({ "parameters": [] })),
			"tools[0].function.parameters",
			"invalid_value",
		),
		(
			function(json!({ "strict": "yes" })),
			"tools[0].function.strict",
			"invalid_value",
		),
		(
			function(json!({ "x": 1 })),
			"tools[0].function.x",
			"unknown_parameter",
		),
		(
			json!({ "tools": [tools()[0], tools()[0]] }),
			"tools",
			"invalid_value",
		),
		(
			json!({ "tool_choice": "required" }),
			"tool_choice",
			"invalid_value",
		),
		(
			json!({ "tools": tools(), "tool_choice": "always" }),
			"tool_choice",
			"invalid_value",
		),
		(
			json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "news" } } }),
			"tool_choice",
			"invalid_value",
		),
		(
			json!({ "tools": tools(), "tool_choice": { "type": "allowed_tools" } }),
			"tool_choice.type",
			"unsupported_parameter",
		),
		(
			function(json!({ "strict": true, "parameters": { "description": "x".repeat(9_000) } })),
			"tools",
			"invalid_value",
		),
		(
			json!({ "parallel_tool_calls": 1 }),
			"parallel_tool_calls",
			"invalid_value",
		),
		(
			json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "3" } }] }] }),
			"messages[0].tool_calls[0].function.arguments",
			"invalid_value",
		),
	] {
		let said = gateway.post(CHAT_PATH, with(chat("a"), change)).await;
		let error = &said.json()["error"];
		assert_eq!(
			(&error["param"], &error["code"]),
			(&json!(parameter), &json!(code)),
			"{error}"
		);
		assert_eq!(said.status, 400);
	}
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn responses_call_functions() {
	let gateway = Running::new().await;
	let tools = json!([{ "type": "function", "name": "weather", "parameters": parameters(), "strict": false }]);
	let body = json!({ "model": "chat", "input": WRITES, "tools": tools });
	let reply = gateway
		.completed(1, gateway.post("/v1/responses", body.clone()))
		.await;
	let response = reply.json();
	let output = response["output"].as_array().unwrap();
	assert_eq!(output.len(), 2);
	// The other is none of its tools.
	let text = output[0]["content"][0]["text"].as_str().unwrap();
	assert!(text.contains("\"time\""), "{text}");
	assert_eq!(output[1]["type"], "function_call");
	assert_eq!(output[1]["arguments"], r#"{"city":"Paris"}"#);
	assert_eq!(response["tools"], tools);

	let mut input = vec![json!({ "role": "user", "content": "How is it?" })];
	input.extend(output.iter().cloned());
	input.push(
		json!({ "type": "function_call_output", "call_id": output[1]["call_id"], "output": "rain" }),
	);
	let next = with(body.clone(), json!({ "input": input }));
	gateway
		.completed(1, gateway.post("/v1/responses", next))
		.await;
	let (messages, _) = asked(&gateway, 2);
	let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
	assert_eq!(roles, ["system", "user", "assistant", "user"]);
	assert!(messages[3].1.contains("rain"));

	let stream = gateway
		.stream("/v1/responses", &[], with(body, json!({ "stream": true })))
		.await;
	gateway.double.complete(3);
	let events = stream.rest().await;
	let of = |name: &str| events.iter().filter(|event| event.contains(name)).count();
	assert_eq!(of("event: response.function_call_arguments.done"), 1);
	assert_eq!(of("event: response.output_item.done"), 2);
	assert_eq!(of("event: response.completed"), 1);
}

#[tokio::test]
async fn messages_use_tools() {
	let gateway = Running::new().await;
	let tools = json!([{ "name": "weather", "input_schema": parameters() }, { "name": "time", "input_schema": {} }]);
	let messages = json!([{ "role": "user", "content": WRITES }]);
	let body = json!({ "model": "chat", "max_tokens": 99, "messages": messages, "tools": tools });
	let reply = gateway
		.completed(1, gateway.post("/v1/messages", body.clone()))
		.await;
	let message = reply.json();
	assert_eq!(message["stop_reason"], "tool_use");
	let content = message["content"].as_array().unwrap();
	assert_eq!(
		content[0],
		json!({ "type": "text", "text": "You said: it." })
	);
	assert_eq!(content[1]["input"], json!({ "city": "Paris" }));
	assert_eq!(content[2]["name"], "time");

	let results = json!([
		{ "type": "tool_result", "tool_use_id": content[1]["id"], "content": "rain" },
		{ "type": "tool_result", "tool_use_id": content[2]["id"], "content": [{ "type": "text", "text": "noon" }], "is_error": false },
		{ "type": "text", "text": "So?" },
	]);
	let conversation = json!([
		{ "role": "user", "content": "How is it?" },
		{ "role": "assistant", "content": content }, { "role": "user", "content": results },
	]);
	let next = with(
		body.clone(),
		json!({ "messages": conversation, "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } }),
	);
	gateway
		.completed(1, gateway.post("/v1/messages", next))
		.await;
	let (messages, stop) = asked(&gateway, 2);
	let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
	assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
	assert!(messages[3].1.contains("rain") && messages[3].1.contains("noon"));
	assert_eq!(messages[4].1, "So?");
	assert_eq!(stop, Some(vec!["</tool_call>".to_owned()]));

	let stream = gateway
		.stream("/v1/messages", &[], with(body, json!({ "stream": true })))
		.await;
	gateway.double.complete(3);
	let events = stream.rest().await;
	let of = |name: &str| events.iter().filter(|event| event.contains(name)).count();
	assert_eq!(of("event: content_block_start"), 3);
	assert_eq!(of("event: content_block_stop"), 3);
	assert_eq!(of("input_json_delta"), 2);
	assert_eq!(of("\"stop_reason\":\"tool_use\""), 1);
}
