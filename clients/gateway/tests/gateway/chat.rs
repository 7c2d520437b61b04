use consilience_gateway::network::{Input, Refusal, State};
use serde_json::{json, Value};

use crate::{
	chat,
	client::{Reply, Running},
	double::{CHAT, PAID},
	with, CHAT_PATH,
};

/// What a refused call says: status, code, parameter.
pub(crate) fn refused(reply: &Reply) -> (u16, String, Value) {
	let error = &reply.json()["error"];
	assert!(
		error["message"].is_string() && error["type"].is_string(),
		"{error}"
	);
	let code = error["code"].as_str().unwrap().to_owned();
	(reply.status.as_u16(), code, error["param"].clone())
}

#[tokio::test]
async fn a_chat_is_answered() {
	let gateway = Running::new().await;
	let reply = gateway
		.completed(1, gateway.post(CHAT_PATH, chat("Hello there")))
		.await;
	assert_eq!(reply.status, 200);
	let body = reply.json();
	assert_eq!(body["object"], "chat.completion");
	assert_eq!(body["model"], "chat");
	assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
	let choice = &body["choices"][0];
	assert_eq!(choice["message"]["content"], "You said: Hello there");
	assert_eq!(choice["message"]["role"], "assistant");
	assert_eq!(choice["finish_reason"], "stop");
	assert_eq!(
		body["usage"],
		json!({ "prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16 })
	);
	let said = &body["consilience"];
	assert_eq!(
		(&said["lane"], &said["request"]),
		(&json!("direct"), &json!(1))
	);
	assert_eq!(said["fee"]["paid"], PAID.to_string());
	assert_eq!(said["verifiers"].as_array().unwrap().len(), 2);
	assert_eq!(gateway.double.asked(1).model, CHAT);
}

#[tokio::test]
async fn a_reply_waits_for_what_it_is_told() {
	let gateway = Running::new().await;
	let double = gateway.double.clone();
	// By header, by field, and the field before the header; without either it is checked.
	for (header, field, word) in [
		(Some("provisional"), None, "provisional"),
		(Some("final"), Some("provisional"), "provisional"),
		(None, None, "checked"),
		(Some("checked"), None, "checked"),
		(None, Some("final"), "final"),
	] {
		let number = double.count() as u64 + 1;
		let body = match field {
			Some(wait) => with(chat("a"), json!({ "consilience": { "wait": wait } })),
			None => chat("a"),
		};
		let headers: Vec<_> = header
			.map(|h| ("consilience-wait", h))
			.into_iter()
			.collect();
		let chain = async {
			double.wait_for(number as usize).await;
			double.answer(number);
			if word != "provisional" {
				double.check(number);
			}
			if word == "final" {
				double.finalise(number);
			}
		};
		let (reply, ()) = tokio::join!(gateway.post_with(CHAT_PATH, &headers, body), chain);
		let said = &reply.json()["consilience"];
		assert_eq!(said["status"], word);
		assert_eq!(said["finalized"], word == "final");
		assert_eq!(said["checked"], word != "provisional");
	}
}

#[tokio::test]
async fn a_stream_tells_the_answer_when_it_is_there_and_ends_when_it_is_checked() {
	let gateway = Running::with(|c| c.ping = std::time::Duration::from_millis(5)).await;
	let body = json!({ "stream": true, "stream_options": { "include_usage": true } });
	let mut stream = gateway.stream(CHAT_PATH, &[], with(chat("Hi"), body)).await;
	assert_eq!(stream.status, 200);
	let first = stream.data().await;
	assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
	assert_eq!(first["object"], "chat.completion.chunk");
	// It pings while it is silent.
	assert!(stream.raw().await.unwrap().starts_with(": "));
	gateway.double.answer(1);
	let text = stream.data().await;
	assert_eq!(text["choices"][0]["delta"]["content"], "You said: Hi");
	assert_eq!(text["choices"][0]["finish_reason"], Value::Null);
	assert_eq!(text["consilience"]["status"], "provisional");
	assert_eq!(text["usage"], Value::Null);
	assert!(stream.raw().await.unwrap().starts_with(": "));
	gateway.double.check(1);
	let end = stream.data().await;
	assert_eq!(end["choices"][0]["finish_reason"], "stop");
	assert_eq!(end["consilience"]["status"], "checked");
	let usage = stream.data().await;
	assert_eq!(
		(&usage["choices"], &usage["usage"]["completion_tokens"]),
		(&json!([]), &json!(4))
	);
	assert_eq!(stream.rest().await, ["data: [DONE]"]);
}

#[tokio::test]
async fn a_stream_without_usage_has_none() {
	let gateway = Running::new().await;
	let mut stream = gateway
		.stream(CHAT_PATH, &[], with(chat("Hi"), json!({ "stream": true })))
		.await;
	assert!(stream.data().await.get("usage").is_none());
	gateway.double.complete(1);
	let rest = stream.rest().await;
	assert_eq!(rest.len(), 3, "{rest:?}");
	assert_eq!(rest[2], "data: [DONE]");
}

#[tokio::test]
async fn what_the_chain_has_goes_through() {
	let gateway = Running::new().await;
	let body = json!({
		"model": CHAT,
		"messages": [
			{ "role": "system", "content": "Be brief." },
			{ "role": "developer", "content": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "kind." }] },
			{ "role": "user", "content": "Hi" },
			{ "role": "assistant", "content": "Hello", "refusal": null, "tool_calls": [], "annotations": [] },
			{ "role": "user", "content": "one two three" },
		],
		"max_completion_tokens": 30, "temperature": 0.5, "top_p": 0.9, "stop": "two", "top_k": 40, "min_p": 0.1,
		"repetition_penalty": 1.1, "presence_penalty": -1, "frequency_penalty": 1, "logit_bias": { "5": -100 },
		// What asks for nothing is as if it were not there.
		"n": 1, "logprobs": false, "stream": false, "store": false, "tools": [], "tool_choice": "none",
		"response_format": { "type": "text" }, "modalities": ["text"], "user": "someone", "metadata": { "a": "b" },
		"seed": null, "functions": null, "service_tier": "auto", "parallel_tool_calls": true,
		"consilience": { "verifiers": 3, "lane": "direct" },
	});
	let reply = gateway.completed(1, gateway.post(CHAT_PATH, body)).await;
	assert_eq!(
		reply.json()["choices"][0]["message"]["content"],
		"You said: one "
	);
	let asked = gateway.double.asked(1);
	assert_eq!(asked.verifiers, Some(3));
	let Input::Chat { messages, sampling } = asked.input else {
		panic!("it was a chat")
	};
	let said: Vec<_> = messages
		.iter()
		.map(|m| (m.role.as_str(), m.content.as_str()))
		.collect();
	assert_eq!(
		said[..3],
		[
			("system", "Be brief."),
			("developer", "Be kind."),
			("user", "Hi")
		]
	);
	assert_eq!(
		serde_json::to_value(sampling).unwrap(),
		json!({
			"max_tokens": 30, "temperature": 0.5, "top_p": 0.9, "stop": ["two"], "top_k": 40, "min_p": 0.1,
			"repetition_penalty": 1.1, "presence_penalty": -1.0, "frequency_penalty": 1.0, "logit_bias": { "5": -100.0 },
		})
	);
}

#[tokio::test]
async fn an_answer_that_was_cut_says_so() {
	let gateway = Running::new().await;
	let body = with(chat("a b c d e f"), json!({ "max_tokens": 3 }));
	let reply = gateway.completed(1, gateway.post(CHAT_PATH, body)).await;
	assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
	assert_eq!(reply.json()["usage"]["completion_tokens"], 3);
	// Without a limit of the client's there is one of the gateway's, which models say.
	gateway
		.completed(1, gateway.post(CHAT_PATH, chat("a")))
		.await;
	let Input::Chat { sampling, .. } = gateway.double.asked(2).input else {
		panic!("it was a chat")
	};
	assert_eq!(sampling.max_tokens, Some(256));
}

#[tokio::test]
async fn what_is_not_honoured_is_refused_by_its_name() {
	let gateway = Running::new().await;
	for (parameter, value, code) in [
		("seed", json!(7), "unsupported_parameter"),
		("n", json!(2), "unsupported_parameter"),
		("logprobs", json!(true), "unsupported_parameter"),
		("top_logprobs", json!(2), "unsupported_parameter"),
		("tool_choice", json!("required"), "invalid_value"),
		("functions", json!([{}]), "unsupported_parameter"),
		(
			"function_call",
			json!({ "name": "f" }),
			"unsupported_parameter",
		),
		("store", json!(true), "unsupported_parameter"),
		(
			"modalities",
			json!(["text", "audio"]),
			"unsupported_parameter",
		),
		("audio", json!({}), "unsupported_parameter"),
		("prediction", json!({}), "unsupported_parameter"),
		("reasoning_effort", json!("low"), "unsupported_parameter"),
		("verbosity", json!("low"), "unsupported_parameter"),
		("service_tier", json!("flex"), "unsupported_parameter"),
		("web_search_options", json!({}), "unsupported_parameter"),
		("best_of", json!(2), "unsupported_parameter"),
		("frobnicate", json!(1), "unknown_parameter"),
		("Temperature", json!(1), "unknown_parameter"),
	] {
		let body = with(chat("a"), json!({ parameter: value }));
		let refused = refused(&gateway.post(CHAT_PATH, body).await);
		assert_eq!(refused, (400, code.into(), json!(parameter)));
	}
	let why = gateway
		.post(CHAT_PATH, with(chat("a"), json!({ "seed": 7 })))
		.await;
	assert!(why.text().contains("the chain draws the seed"));
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
	let gateway = Running::new().await;
	let message = |m: Value| json!({ "messages": [m] });
	let long = "x".repeat(40_000);
	let many: Vec<_> = (0..17)
		.map(|_| json!({ "role": "user", "content": "a" }))
		.collect();
	for (change, parameter) in [
		(json!({ "model": null }), json!("model")),
		(json!({ "model": 3 }), json!("model")),
		(json!({ "messages": null }), json!("messages")),
		(json!({ "messages": [] }), json!("messages")),
		(json!({ "messages": "a" }), json!("messages")),
		(json!({ "messages": ["a"] }), json!("messages[0]")),
		(
			message(json!({ "content": "a" })),
			json!("messages[0].role"),
		),
		(
			message(json!({ "role": "king", "content": "a" })),
			json!("messages[0].role"),
		),
		(
			message(json!({ "role": "tool", "content": "a" })),
			json!("messages[0].tool_call_id"),
		),
		(
			message(json!({ "role": "user", "content": "a", "tool_calls": [{}] })),
			json!("messages[0].tool_calls"),
		),
		(
			message(json!({ "role": "user" })),
			json!("messages[0].content"),
		),
		(
			message(json!({ "role": "user", "content": "" })),
			json!("messages[0].content"),
		),
		(
			message(json!({ "role": "user", "content": 3 })),
			json!("messages[0].content"),
		),
		(
			message(json!({ "role": "user", "content": "a", "name": "b" })),
			json!("messages[0].name"),
		),
		(
			message(json!({ "role": "user", "content": "a", "x": 1 })),
			json!("messages[0].x"),
		),
		(
			message(
				json!({ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }),
			),
			json!("messages[0].content[0].type"),
		),
		(
			message(json!({ "role": "assistant", "content": "a", "tool_calls": [{}] })),
			json!("messages[0].tool_calls[0].function"),
		),
		(json!({ "max_tokens": 0 }), json!("max_tokens")),
		(json!({ "max_tokens": -1 }), json!("max_tokens")),
		(json!({ "max_tokens": 1.5 }), json!("max_tokens")),
		(json!({ "max_tokens": 513 }), json!("max_tokens")),
		(
			json!({ "max_completion_tokens": 513 }),
			json!("max_completion_tokens"),
		),
		(
			json!({ "max_tokens": 1, "max_completion_tokens": 2 }),
			json!("max_tokens"),
		),
		(json!({ "temperature": 3 }), json!("temperature")),
		(json!({ "stream": "yes" }), json!("stream")),
		(json!({ "stream_options": {} }), json!("stream_options")),
		(
			json!({ "stream": true, "stream_options": { "x": 1 } }),
			json!("stream_options.x"),
		),
		(json!({ "stop": ["a", "b", "c", "d", "e"] }), json!("stop")),
		(json!({ "model": "embed" }), json!("model")),
		(json!({ "model": "plain" }), json!("model")),
		(
			json!({ "consilience": { "wait": "soon" } }),
			json!("consilience.wait"),
		),
		(
			message(json!({ "role": "user", "content": long })),
			Value::Null,
		),
		(json!({ "messages": many }), Value::Null),
		// Only the chain knows how much this model takes.
		(
			message(json!({ "role": "user", "content": "x".repeat(5_000) })),
			Value::Null,
		),
	] {
		let reply = gateway
			.post(CHAT_PATH, with(chat("a"), change.clone()))
			.await;
		let (status, code, said) = refused(&reply);
		assert_eq!(
			(status, &said),
			(400, &parameter),
			"{change}: {}",
			reply.text()
		);
		if parameter.is_null() {
			assert_eq!(code, "context_length_exceeded");
		}
	}
	for body in ["", "{", "[]", "\"a\"", "{\"model\": \"chat\",}", "\u{0}"] {
		let reply = gateway.post_bytes(CHAT_PATH, &[], body.into()).await;
		assert_eq!(refused(&reply), (400, "invalid_json".into(), Value::Null));
	}
	let header = [("consilience-wait", "soon")];
	let reply = gateway.post_with(CHAT_PATH, &header, chat("a")).await;
	assert_eq!(refused(&reply).2, "consilience-wait");
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn models_that_do_not_answer_are_told_apart() {
	let gateway = Running::new().await;
	let reply = gateway
		.post(CHAT_PATH, with(chat("a"), json!({ "model": "gpt-4o" })))
		.await;
	assert_eq!(
		refused(&reply),
		(404, "model_not_found".into(), json!("model"))
	);
	let reply = gateway
		.post(CHAT_PATH, with(chat("a"), json!({ "model": "idle" })))
		.await;
	assert_eq!(
		refused(&reply),
		(503, "model_not_active".into(), json!("model"))
	);
	gateway.double.add_model(|m| m.name = "chat".into());
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(
		refused(&reply),
		(400, "invalid_value".into(), json!("model"))
	);
	let by_id = gateway.post(CHAT_PATH, with(chat("a"), json!({ "model": CHAT })));
	assert_eq!(gateway.completed(1, by_id).await.status, 200);
}

#[tokio::test]
async fn a_request_that_fails_is_an_error_with_its_number() {
	let gateway = Running::new().await;
	for (state, status, code) in [
		(State::Expired, 504, "expired"),
		(State::Rejected, 502, "rejected"),
		(State::Cancelled, 502, "cancelled"),
		(State::Overturned, 502, "overturned"),
		(State::Unanswerable, 400, "context_length_exceeded"),
	] {
		let number = gateway.double.count() as u64 + 1;
		let chain = async {
			gateway.double.wait_for(number as usize).await;
			gateway.double.fail(number, state);
		};
		let (reply, ()) = tokio::join!(gateway.post(CHAT_PATH, chat("a")), chain);
		assert_eq!(refused(&reply), (status, code.into(), Value::Null));
		assert_eq!(reply.json()["consilience"]["request"], number);
		if status >= 500 {
			// Trying again is another request.
			assert_eq!(reply.headers["x-should-retry"], "false");
		}
	}
}

#[tokio::test]
async fn who_waits_for_what_is_final_is_not_told_of_what_a_fork_can_undo() {
	let gateway = Running::new().await;
	let body = with(
		chat("a"),
		json!({ "stream": true, "consilience": { "wait": "final" } }),
	);
	let mut stream = gateway.stream(CHAT_PATH, &[], body).await;
	stream.data().await;
	gateway.double.answer(1);
	assert_eq!(stream.data().await["consilience"]["status"], "provisional");
	// Rejected in the best chain, and not in the one that is finalised.
	gateway.double.fail_in(1, State::Rejected, false);
	gateway.double.finalise(1);
	let end = stream.data().await;
	assert_eq!(end["consilience"]["status"], "final");
	assert_eq!(stream.rest().await, ["data: [DONE]"]);
}

#[tokio::test]
async fn a_full_network_says_when_to_try_again() {
	let gateway = Running::new().await;
	let reply = gateway.post(CHAT_PATH, chat("busy")).await;
	assert_eq!(
		refused(&reply),
		(429, "rate_limit_exceeded".into(), Value::Null)
	);
	assert_eq!(reply.headers["retry-after"], "7");
	assert_eq!(reply.headers["x-should-retry"], "true");
	// It can also fill up between the quote and the block.
	let full = Refusal::Busy { retry_after: None };
	gateway.double.refuse_submissions(Some(full));
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(reply.status, 429);
	assert_eq!(reply.headers["retry-after"], "15");
	let stream = gateway
		.stream(CHAT_PATH, &[], with(chat("a"), json!({ "stream": true })))
		.await;
	assert_eq!(stream.status, 429);
}

#[tokio::test]
async fn what_the_chain_refuses_has_a_status_that_fits() {
	let gateway = Running::new().await;
	for (refusal, status, code, parameter) in [
		(
			Refusal::UnknownModel,
			404,
			"model_not_found",
			json!("model"),
		),
		(Refusal::NotActive, 503, "model_not_active", json!("model")),
		(
			Refusal::Input("x".into()),
			400,
			"invalid_value",
			Value::Null,
		),
		(
			Refusal::TooLong("x".into()),
			400,
			"context_length_exceeded",
			Value::Null,
		),
		(
			Refusal::Verifiers("x".into()),
			400,
			"invalid_value",
			json!("consilience.verifiers"),
		),
		(
			Refusal::Funds("x".into()),
			503,
			"gateway_out_of_funds",
			Value::Null,
		),
		(
			Refusal::Other("x".into()),
			502,
			"chain_refused",
			Value::Null,
		),
		(
			Refusal::Unreachable("x".into()),
			503,
			"upstream_unreachable",
			Value::Null,
		),
	] {
		gateway.double.refuse_quotes(Some(refusal.clone()));
		let by_quote = refused(&gateway.post(CHAT_PATH, chat("a")).await);
		gateway.double.refuse_quotes(None);
		gateway.double.refuse_submissions(Some(refusal));
		let by_submission = refused(&gateway.post(CHAT_PATH, chat("a")).await);
		assert_eq!(by_quote, (status, code.into(), parameter));
		assert_eq!(by_quote, by_submission);
		gateway.double.refuse_submissions(None);
	}
}
