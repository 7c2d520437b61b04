use consilience_gateway::network::{Constraint, Input, Sampling};
use serde_json::{json, Value};

use crate::{chat, chat::refused, client::Running, with, CHAT_PATH};

fn schema() -> Value {
	json!({ "type": "object", "properties": { "z": { "type": "string" }, "a": { "type": "integer" } }, "required": ["z", "a"],
		"additionalProperties": false })
}

fn tools(strict: bool) -> Value {
	let tool = |name: &str| {
		let function = json!({ "name": name, "parameters": schema(), "strict": strict });
		json!({ "type": "function", "function": function })
	};
	json!([tool("weather"), tool("time")])
}

fn sampling(gateway: &Running, number: u64) -> Sampling {
	match gateway.double.asked(number).input {
		Input::Chat { sampling, .. } => sampling,
		_ => panic!("it was a chat"),
	}
}

/// What a chat is asked with.
async fn asked(gateway: &Running, change: Value) -> Sampling {
	let number = gateway.double.count() as u64 + 1;
	let body = with(chat("a"), change);
	let reply = gateway.completed(1, gateway.post(CHAT_PATH, body)).await;
	assert_eq!(reply.status, 200, "{}", reply.json());
	sampling(gateway, number)
}

fn lark(sampling: &Sampling) -> &str {
	match &sampling.constraint {
		Some(Constraint::Lark(grammar)) => grammar,
		other => panic!("{other:?}"),
	}
}

#[tokio::test]
async fn a_response_format_is_a_constraint() {
	let gateway = Running::new().await;
	let format = |format: Value| json!({ "response_format": format });
	assert_eq!(
		asked(&gateway, format(json!({ "type": "text" })))
			.await
			.constraint,
		None
	);
	let object = asked(&gateway, format(json!({ "type": "json_object" }))).await;
	let any = Constraint::JsonSchema(r#"{"type":"object"}"#.into());
	assert_eq!(object.constraint, Some(any.clone()));
	let named = json!({ "type": "json_schema", "json_schema": { "name": "x", "description": "y", "strict": true, "schema": schema() } });
	let strict = asked(&gateway, format(named)).await;
	// In the order in which it was sent.
	assert_eq!(
		strict.constraint,
		Some(Constraint::JsonSchema(schema().to_string()))
	);
	assert!(schema().to_string().find("\"z\"") < schema().to_string().find("\"a\""));
	let nameless = format(json!({ "type": "json_schema", "json_schema": { "name": "x" } }));
	assert_eq!(asked(&gateway, nameless).await.constraint, Some(any));
}

#[tokio::test]
async fn formats_that_are_wrong_are_named() {
	let gateway = Running::new().await;
	let long = json!({ "description": "x".repeat(9_000) });
	for (format, parameter, code) in [
		(json!(3), "response_format", "invalid_value"),
		(json!({}), "response_format.type", "invalid_value"),
		(
			json!({ "type": "grammar" }),
			"response_format.type",
			"unsupported_parameter",
		),
		(
			json!({ "type": "json_object", "x": 1 }),
			"response_format.x",
			"unknown_parameter",
		),
		(
			json!({ "type": "json_schema" }),
			"response_format.json_schema",
			"invalid_value",
		),
		(
			json!({ "type": "json_schema", "json_schema": { "schema": [] } }),
			"response_format.json_schema.schema",
			"invalid_value",
		),
		(
			json!({ "type": "json_schema", "json_schema": { "schema": {}, "odd": 1 } }),
			"response_format.json_schema.odd",
			"unknown_parameter",
		),
		(
			json!({ "type": "json_schema", "json_schema": { "schema": long } }),
			"response_format",
			"invalid_value",
		),
	] {
		let body = with(chat("a"), json!({ "response_format": format }));
		let said = refused(&gateway.post(CHAT_PATH, body).await);
		assert_eq!(said, (400, code.into(), json!(parameter)));
	}
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn calls_are_forced_by_a_grammar() {
	let gateway = Running::new().await;
	let change = |choice: Value| json!({ "tools": tools(false), "tool_choice": choice });
	let any = asked(&gateway, change(json!("required"))).await;
	assert!(lark(&any).starts_with("start: OPEN call END ("));
	assert!(lark(&any).contains("call: call_0 | call_1\n"));
	let function = json!({ "type": "function", "function": { "name": "time" } });
	let one = asked(&gateway, change(function)).await;
	assert!(lark(&one).starts_with("start: OPEN call END\n") && !lark(&one).contains("weather"));
	// What a model will is left to it, in words as well as in calls.
	assert_eq!(
		asked(&gateway, change(json!("auto"))).await.constraint,
		None
	);
	let strict = asked(&gateway, json!({ "tools": tools(true) })).await;
	assert!(lark(&strict).starts_with("start: TEXT | (BEGIN call END)+ TEXT\n"));
	let both = json!({ "tools": tools(false), "response_format": { "type": "json_object" } });
	assert!(lark(&asked(&gateway, both).await).starts_with("start: answer | OPEN call END"));
}

/// The chain takes four stop strings, and the one that ends an answer with its first call was a fifth.
#[tokio::test]
async fn one_call_takes_no_stop_string_that_is_not_there() {
	let gateway = Running::new().await;
	let change =
		|stop: Value| json!({ "tools": tools(false), "parallel_tool_calls": false, "stop": stop });
	let three = asked(&gateway, change(json!(["a", "b", "c"]))).await;
	assert_eq!(three.stop.unwrap(), ["a", "b", "c", "</tool_call>"]);
	assert_eq!(three.constraint, None);
	let four = asked(&gateway, change(json!(["a", "b", "c", "d"]))).await;
	assert_eq!(four.stop.as_ref().unwrap(), &["a", "b", "c", "d"]);
	assert!(lark(&four).starts_with("start: TEXT | BEGIN call END\n"));
}

#[tokio::test]
async fn the_other_interfaces_have_formats_too() {
	let gateway = Running::new().await;
	let number = |gateway: &Running| gateway.double.count() as u64 + 1;
	let expected = Some(Constraint::JsonSchema(schema().to_string()));
	let format = json!({ "type": "json_schema", "name": "x", "strict": true, "schema": schema() });
	let body = json!({ "model": "chat", "input": "a", "text": { "format": format } });
	let at = number(&gateway);
	let reply = gateway
		.completed(1, gateway.post("/v1/responses", body))
		.await;
	assert_eq!(sampling(&gateway, at).constraint, expected);
	assert_eq!(reply.json()["text"]["format"], format);

	let format = json!({ "type": "json_schema", "schema": schema() });
	let question = json!([{ "role": "user", "content": "a" }]);
	let body =
		json!({ "model": "chat", "max_tokens": 9, "messages": question, "output_format": format });
	let at = number(&gateway);
	gateway
		.completed(1, gateway.post("/v1/messages", body))
		.await;
	assert_eq!(sampling(&gateway, at).constraint, expected);

	let tool = json!({ "name": "weather", "input_schema": schema() });
	for choice in [
		json!({ "type": "any" }),
		json!({ "type": "tool", "name": "weather" }),
	] {
		let body = json!({ "model": "chat", "max_tokens": 9, "messages": question, "tools": [tool], "tool_choice": choice });
		let at = number(&gateway);
		gateway
			.completed(1, gateway.post("/v1/messages", body))
			.await;
		assert!(lark(&sampling(&gateway, at)).starts_with("start: OPEN call END"));
	}
}
