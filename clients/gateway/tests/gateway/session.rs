//! The session lane.

use std::{future::Future, sync::Arc};

use consilience_gateway::network::Refusal;
use serde_json::{json, Value};

use crate::{
	chat,
	client::{Reply, Running, Stream},
	double::{
		lane::{executor, ANSWER, CHANNEL, CHECK, HELD, PART},
		Double,
	},
	with, CHAT_PATH,
};

fn streamed(text: &str) -> Value {
	with(chat(text), json!({ "stream": true }))
}

#[tokio::test]
async fn an_answer_streams_as_it_comes_and_ends_when_it_is_checked() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let body = with(
		streamed("Hi"),
		json!({ "stream_options": { "include_usage": true } }),
	);
	let (mut stream, ()) = tokio::join!(gateway.stream(CHAT_PATH, &[], body), async {
		lane.wait_for(1).await;
		lane.start(0);
	});
	assert_eq!(stream.status, 200);
	assert_eq!(
		stream.data().await["choices"][0]["delta"]["role"],
		"assistant"
	);
	// Each piece is there before the next is said.
	for piece in ["You ", "said: ", "Hi"] {
		lane.say(0, piece);
		let chunk = stream.data().await;
		assert_eq!(chunk["choices"][0]["delta"]["content"], piece);
		assert_eq!(
			chunk["consilience"],
			json!({
				"lane": "session", "channel": CHANNEL, "number": 1, "status": "streaming", "checked": false,
				"executor": executor(1),
			})
		);
	}
	lane.sign(0);
	lane.skip(0);
	lane.check(0, "right");
	lane.check(0, "right");
	lane.finish(0);
	let end = stream.data().await;
	assert_eq!(end["choices"][0]["finish_reason"], "stop");
	let paid = ANSWER + 2 * CHECK;
	assert_eq!(
		end["consilience"],
		json!({
			"lane": "session", "channel": CHANNEL, "number": 1, "status": "checked", "checked": true, "right": 2, "of": 2,
			"executor": executor(1),
			"checkers": [
				{ "account": "5Busy", "skipped": "it refused: it is busy" },
				{ "account": "5Checker2", "verdict": "right", "signature": "0xc4ec" },
				{ "account": "5Checker3", "verdict": "right", "signature": "0xc4ec" },
			],
			"receipt": {
				"hash": format!("0x{:064x}", 101), "signature": "0x5167", "anchor": { "number": 90, "hash": "0x90" },
				"units": { "input": 7, "output": 4 }, "amount": ANSWER.to_string(),
			},
			"fee": {
				"held": HELD.to_string(), "paid": paid.to_string(), "refunded": (HELD - paid).to_string(), "unit": "1e-12 CSL",
			},
			"seed": format!("0x{:064x}", 1),
		})
	);
	let usage = stream.data().await;
	assert_eq!(usage["usage"]["completion_tokens"], 4);
	assert_eq!(stream.rest().await, ["data: [DONE]"]);
	assert_eq!(gateway.double.count(), 0);
}

/// A call, and what happens in the lane meanwhile: the next question is answered and checked.
async fn completed(gateway: &Running, call: impl Future<Output = Reply>) -> Reply {
	let lane = gateway.lane();
	let place = lane.count();
	let (reply, ()) = tokio::join!(call, async {
		lane.wait_for(place + 1).await;
		lane.complete(place);
	});
	reply
}

/// Begins a stream, whose question is asked of a validator that has said nothing yet.
async fn begun(gateway: &Running, headers: &[(&str, &str)], body: Value) -> (Stream, usize) {
	let lane = gateway.lane();
	let place = lane.count();
	let (stream, ()) = tokio::join!(gateway.stream(CHAT_PATH, headers, body), async {
		lane.wait_for(place + 1).await;
		lane.start(place);
	});
	(stream, place)
}

/// A figure of `/metrics`.
async fn figure(gateway: &Running, name: &str) -> Option<String> {
	let text = gateway.get("/metrics").await;
	let line = text
		.text()
		.lines()
		.find_map(|line| line.strip_prefix(&format!("consilience_gateway_{name} ")));
	line.map(Into::into)
}

/// Waits until a figure of `/metrics` is this.
async fn becomes(gateway: &Running, name: &str, value: &str) {
	let becomes = async { while figure(gateway, name).await.as_deref() != Some(value) {} };
	let limit = std::time::Duration::from_secs(20);
	tokio::time::timeout(limit, becomes)
		.await
		.unwrap_or_else(|_| panic!("{name} never is {value}"));
}

#[tokio::test]
async fn every_interface_of_text_answers() {
	let gateway = Running::in_session().await;
	let calls = [
		(CHAT_PATH, chat("Hi"), "/choices/0/message/content"),
		(
			"/v1/completions",
			json!({ "model": "chat", "prompt": "Hi" }),
			"/choices/0/text",
		),
		(
			"/v1/responses",
			json!({ "model": "chat", "input": "Hi" }),
			"/output/0/content/0/text",
		),
		(
			"/v1/messages",
			with(chat("Hi"), json!({ "max_tokens": 9 })),
			"/content/0/text",
		),
	];
	for (path, body, text) in calls {
		let reply = completed(&gateway, gateway.post(path, body.clone())).await;
		assert_eq!(reply.status, 200, "{path}");
		let said = reply.json();
		assert_eq!(said.pointer(text).unwrap(), "You said: Hi", "{path}");
		assert_eq!(said["consilience"]["lane"], "session", "{path}");
		assert_eq!(said["consilience"]["status"], "checked", "{path}");
		// And as a stream.
		let lane = gateway.lane();
		let place = lane.count();
		let stream = gateway.stream(path, &[], with(body, json!({ "stream": true })));
		let (stream, ()) = tokio::join!(stream, async {
			lane.wait_for(place + 1).await;
			lane.complete(place);
		});
		let events = stream.rest().await.concat();
		for piece in [
			"Hi",
			r#""lane":"session""#,
			r#""status":"checked""#,
			r#""right":2"#,
		] {
			assert!(events.contains(piece), "{path}: {piece}: {events}");
		}
		for once in ["output_item.added", "content_part.added"] {
			let event = format!("event: response.{once}");
			let count = usize::from(path == "/v1/responses");
			assert_eq!(events.matches(&event).count(), count, "{path} {once}");
		}
	}
	assert_eq!(gateway.double.count(), 0);
	assert_eq!(
		figure(
			&gateway,
			r#"answers_total{lane="session",status="checked"}"#
		)
		.await,
		Some("8".into())
	);
}

#[tokio::test]
async fn several_prompts_are_several_questions() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let body = json!({ "model": "chat", "prompt": ["a", "b"], "consilience": { "verifiers": 1 } });
	let (reply, ()) = tokio::join!(gateway.post("/v1/completions", body), async {
		lane.wait_for(2).await;
		lane.complete(1);
		lane.complete(0);
	});
	let said = reply.json();
	assert_eq!(said["choices"][0]["text"], "You said: a");
	assert_eq!(said["choices"][1]["text"], "You said: b");
	let said = &said["consilience"];
	assert_eq!(
		(&said["lane"], &said["checked"]),
		(&json!("session"), &json!(true))
	);
	assert_eq!(said["requests"][0]["number"], 2);
	assert_eq!(said["requests"][0]["of"], 1);
	assert!(said.get("finalized").is_none());
}

#[tokio::test]
async fn a_call_chooses_its_lane() {
	let gateway = Running::in_session().await;
	let lane = |lane: &str| json!({ "consilience": { "lane": lane } });
	let header = |lane: &'static str| [("consilience-lane", lane)];
	for (headers, change) in [
		(header("direct"), json!({})),
		// The field counts more.
		(header("session"), lane("direct")),
		// What is final stands on chain.
		(
			[("consilience-wait", "final")],
			json!({ "consilience": { "wait": "final" } }),
		),
	] {
		let body = with(chat("a"), change);
		let reply = gateway.completed(1, gateway.post_with(CHAT_PATH, &headers, body));
		assert_eq!(reply.await.json()["consilience"]["lane"], "direct");
	}
	assert_eq!(gateway.lane().count(), 0);
	let body = with(chat("a"), lane("session"));
	let direct = header("direct");
	let reply = completed(&gateway, gateway.post_with(CHAT_PATH, &direct, body));
	assert_eq!(reply.await.json()["consilience"]["lane"], "session");
	// Where nobody takes part it goes on chain, unless it is not to.
	gateway.lane().serving(0);
	let reply = gateway.completed(1, gateway.post(CHAT_PATH, chat("a")));
	assert_eq!(reply.await.json()["consilience"]["lane"], "direct");
	let reply = gateway
		.post_with(CHAT_PATH, &header("session"), chat("a"))
		.await;
	assert_eq!(reply.status, 503);
	assert_eq!(reply.json()["error"]["code"], "no_executor");
	assert_eq!(reply.headers["x-should-retry"], "true");
	assert_eq!(gateway.lane().count(), 1);
}

#[tokio::test]
async fn what_a_lane_does_not_have_is_refused() {
	let (with_channel, without) = (Running::in_session().await, Running::new().await);
	let embed = json!({ "model": "embed", "input": "a" });
	let infer =
		json!({ "inputs": [{ "name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"] }] });
	for (gateway, path, body, own, parameter, says) in [
		(
			&with_channel,
			CHAT_PATH,
			chat("a"),
			json!({ "lane": "session", "wait": "final" }),
			"consilience.wait",
			"settled on chain later: use lane direct",
		),
		(
			&without,
			CHAT_PATH,
			chat("a"),
			json!({ "lane": "session" }),
			"consilience.lane",
			"--session-deposit",
		),
		(
			&without,
			CHAT_PATH,
			chat("a"),
			json!({ "record": true }),
			"consilience.record",
			"session lane alone",
		),
		(
			&with_channel,
			CHAT_PATH,
			chat("a"),
			json!({ "record": true, "lane": "direct" }),
			"consilience.record",
			"session lane alone",
		),
		(
			&with_channel,
			"/v1/embeddings",
			embed,
			json!({ "lane": "session" }),
			"consilience.lane",
			"on chain",
		),
		(
			&with_channel,
			"/v2/models/chat/infer",
			infer,
			json!({ "lane": "session" }),
			"",
			"on chain",
		),
	] {
		let body = with(body, json!({ "consilience": own }));
		let reply = gateway.post(path, body).await;
		assert_eq!(reply.status, 400, "{path} {}", reply.text());
		assert!(reply.text().contains(says), "{}", reply.text());
		if !parameter.is_empty() {
			assert_eq!(reply.json()["error"]["param"], parameter);
		}
	}
	for (name, value) in [("consilience-lane", "fast"), ("consilience-record", "yes")] {
		let reply = with_channel
			.post_with(CHAT_PATH, &[(name, value)], chat("a"))
			.await;
		assert_eq!(reply.status, 400);
		assert_eq!(reply.json()["error"]["param"], name);
	}
	// What is wrong is told as on chain.
	let long = with_channel.post(CHAT_PATH, chat(&"x".repeat(5_000))).await;
	assert_eq!(long.json()["error"]["code"], "context_length_exceeded");
	assert_eq!(with_channel.lane().count() + with_channel.double.count(), 0);
	assert_eq!(without.double.count(), 0);
}

#[tokio::test]
async fn a_record_is_given_to_whoever_asks_for_it() {
	let gateway = Running::in_session().await;
	let field = with(chat("a"), json!({ "consilience": { "record": true } }));
	let header = [("consilience-record", "true")];
	let reply = completed(&gateway, gateway.post(CHAT_PATH, field));
	let record = reply.await.json()["consilience"]["record"].clone();
	assert_eq!(
		record,
		json!({ "version": 1, "number": 1, "answer": "You said: a" })
	);
	let reply = completed(&gateway, gateway.post_with(CHAT_PATH, &header, chat("a")));
	assert_eq!(reply.await.json()["consilience"]["record"]["number"], 2);
	let reply = completed(&gateway, gateway.post(CHAT_PATH, chat("a"))).await;
	assert!(reply.json()["consilience"].get("record").is_none());
}

#[tokio::test]
async fn who_waits_for_the_receipt_alone_is_told_no_more() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	for (place, wait) in ["streaming", "provisional"].into_iter().enumerate() {
		let headers = [("consilience-wait", wait)];
		let (reply, ()) = tokio::join!(gateway.post_with(CHAT_PATH, &headers, chat("a")), async {
			lane.wait_for(place + 1).await;
			lane.start(place);
			lane.say(place, "You said: a");
			lane.sign(place);
		});
		let said = reply.json()["consilience"].clone();
		assert_eq!(said["status"], "answered", "{wait}");
		assert_eq!(said["checked"], false);
		assert_eq!(said["checkers"], json!([]));
		// What checks cost is not known yet.
		assert_eq!(said["fee"]["refunded"], "0");
		// It is checked all the same.
		lane.check(place, "right");
		lane.finish(place);
		let ended = r#"requests_ended_total{state="checked"}"#;
		becomes(&gateway, ended, &(place + 1).to_string()).await;
		assert!(!lane.was_cut(place));
	}
}

#[tokio::test]
async fn an_answer_that_nobody_confirmed_is_not_called_checked() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let (reply, ()) = tokio::join!(gateway.post(CHAT_PATH, chat("a")), async {
		lane.wait_for(1).await;
		lane.start(0);
		lane.say(0, "b");
		lane.sign(0);
		lane.skip(0);
		lane.check(0, "unclear");
		lane.finish(0);
	});
	assert_eq!(reply.status, 200);
	let said = &reply.json()["consilience"];
	assert_eq!(
		(&said["status"], &said["checked"]),
		(&json!("answered"), &json!(false))
	);
	assert_eq!((&said["right"], &said["of"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_refuted_answer_is_an_error_in_each_shape() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let refute = |place: usize| {
		let lane = lane.clone();
		async move {
			lane.wait_for(place + 1).await;
			lane.start(place);
			lane.say(place, "false");
			lane.sign(place);
			lane.check(place, "wrong");
			lane.check(place, "right");
			lane.finish(place);
		}
	};
	let body = with(
		chat("a"),
		json!({ "max_tokens": 9, "consilience": { "record": true } }),
	);
	for (place, path) in [CHAT_PATH, "/v1/messages"].into_iter().enumerate() {
		let (reply, ()) = tokio::join!(gateway.post(path, body.clone()), refute(place));
		assert_eq!(reply.status, 502);
		assert_eq!(reply.headers["x-should-retry"], "false");
		let said = reply.json();
		match path {
			CHAT_PATH => assert_eq!(said["error"]["code"], "refuted"),
			_ => assert_eq!(
				(&said["type"], &said["error"]["type"]),
				(&json!("error"), &json!("api_error"))
			),
		}
		assert_eq!(said["consilience"]["status"], "refuted");
		assert_eq!(said["consilience"]["checked"], false);
		assert_eq!(said["consilience"]["checkers"][0]["verdict"], "wrong");
		// Whoever was lied to can show it.
		assert_eq!(said["consilience"]["record"]["answer"], "false");
	}
	let streams = [
		(CHAT_PATH, chat("a"), r#""code":"refuted""#),
		(
			"/v1/completions",
			json!({ "model": "chat", "prompt": "a" }),
			r#""code":"refuted""#,
		),
		(
			"/v1/messages",
			with(chat("a"), json!({ "max_tokens": 9 })),
			"event: error",
		),
		(
			"/v1/responses",
			json!({ "model": "chat", "input": "a" }),
			"event: response.failed",
		),
	];
	for (place, (path, body, says)) in streams.into_iter().enumerate() {
		let stream = gateway.stream(path, &[], with(body, json!({ "stream": true })));
		let (stream, ()) = tokio::join!(stream, refute(place + 2));
		assert_eq!(stream.status, 200);
		let events = stream.rest().await;
		assert!(events.last().unwrap().contains(says), "{path}: {events:?}");
		let all = events.concat();
		for end in [
			"[DONE]",
			r#""finish_reason":"stop""#,
			"message_stop",
			"response.completed",
		] {
			assert!(!all.contains(end), "{path}: {all}");
		}
	}
	assert_eq!(
		figure(
			&gateway,
			r#"answers_total{lane="session",status="refuted"}"#
		)
		.await,
		Some("6".into())
	);
	assert_eq!(
		figure(&gateway, r#"units_total{direction="out",model="chat"}"#).await,
		None
	);
}

#[tokio::test]
async fn text_of_one_validator_is_not_mixed_with_that_of_another() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	// Before any text is shown, the next one answers.
	let (mut stream, place) = begun(&gateway, &[], streamed("a")).await;
	stream.data().await;
	lane.fail(place);
	lane.start(place);
	lane.say(place, "second");
	let chunk = stream.data().await;
	assert_eq!(chunk["choices"][0]["delta"]["content"], "second");
	assert_eq!(chunk["consilience"]["executor"], executor(2));
	// After that, the answer is none.
	lane.fail(place);
	let rest = stream.rest().await;
	assert_eq!(rest.len(), 1, "{rest:?}");
	assert!(
		rest[0].contains("answer_replaced") && rest[0].contains("5Executor2"),
		"{rest:?}"
	);
	// Nobody listens to the third.
	lane.wait_for_cut(place).await;

	// A reply in one piece shows none of the first, and pays for it.
	let (reply, ()) = tokio::join!(gateway.post(CHAT_PATH, chat("a")), async {
		lane.wait_for(2).await;
		lane.start(1);
		lane.say(1, "first");
		lane.fail(1);
		lane.complete(1);
	});
	let said = reply.json();
	assert_eq!(said["choices"][0]["message"]["content"], "You said: a");
	assert_eq!(said["consilience"]["executor"], executor(4));
	let paid = PART + ANSWER + 2 * CHECK;
	assert_eq!(said["consilience"]["fee"]["paid"], paid.to_string());
}

#[tokio::test]
async fn who_answers_nothing_is_an_error() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let (reply, ()) = tokio::join!(gateway.post(CHAT_PATH, chat("a")), async {
		lane.wait_for(1).await;
		lane.start(0);
		lane.say(0, "first");
		lane.fail(0);
		lane.give_up(0);
	});
	assert_eq!(reply.status, 502);
	let said = reply.json();
	assert_eq!(said["error"]["code"], "no_answer");
	assert_eq!(said["consilience"]["status"], "failed");
	assert_eq!(said["consilience"]["fee"]["paid"], PART.to_string());
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_answer() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let (mut stream, place) = begun(&gateway, &[], streamed("a")).await;
	stream.data().await;
	lane.say(place, "You ");
	stream.data().await;
	drop(stream);
	lane.wait_for_cut(place).await;
	lane.finish_cut(place);
	// Before anything is shown, and in one piece.
	tokio::select! {
		_ = gateway.post(CHAT_PATH, chat("a")) => panic!("nobody answers"),
		() = lane.wait_for(2) => (),
	}
	lane.wait_for_cut(1).await;
	lane.start(1);
	lane.finish_cut(1);
	becomes(&gateway, "requests_open", "0").await;
	let spent = figure(&gateway, r#"spent_csl_total{key="local"}"#).await;
	let spent: f64 = spent.unwrap().parse().unwrap();
	assert_eq!((spent * 1e12).round() as u128, 2 * ANSWER);
}

#[tokio::test]
async fn a_client_that_may_ask_again_by_itself_finds_its_answer() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let count = |n: &'static str| [("x-stainless-retry-count", n)];
	let (first, again) = (count("0"), count("1"));
	tokio::select! {
		_ = gateway.post_with(CHAT_PATH, &first, chat("a")) => panic!("nobody answers"),
		() = lane.wait_for(1) => (),
	}
	let (reply, ()) = tokio::join!(gateway.post_with(CHAT_PATH, &again, chat("a")), async {
		lane.complete(0)
	});
	assert_eq!(reply.json()["consilience"]["number"], 1);
	// A stream that it has begun to read is not repeated by itself: it ends, and the next is asked anew.
	let (stream, place) = begun(&gateway, &first, streamed("b")).await;
	drop(stream);
	lane.wait_for_cut(place).await;
	let (stream, ()) = tokio::join!(gateway.stream(CHAT_PATH, &again, streamed("b")), async {
		lane.wait_for(3).await;
		lane.complete(2);
	});
	assert_eq!(stream.rest().await.last().unwrap(), "data: [DONE]");
}

const KEY: [(&str, &str); 1] = [("idempotency-key", "k1")];

#[tokio::test]
async fn the_same_key_is_the_same_question() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	// The client goes away, and its question does not.
	let (stream, place) = begun(&gateway, &KEY, streamed("a")).await;
	drop(stream);
	let calls = || gateway.stream(CHAT_PATH, &KEY, streamed("a"));
	let (mut one, mut two) = tokio::join!(calls(), calls());
	for stream in [&mut one, &mut two] {
		stream.data().await;
	}
	lane.say(place, "You said: a");
	for stream in [&mut one, &mut two] {
		let chunk = stream.data().await;
		assert_eq!(chunk["choices"][0]["delta"]["content"], "You said: a");
	}
	lane.sign(place);
	lane.check(place, "right");
	lane.finish(place);
	let (one, two) = (one.rest().await, two.rest().await);
	assert_eq!(one, two);
	let three = calls().await.rest().await;
	assert_eq!(three[2..], one);
	assert!(!lane.was_cut(place));
	assert_eq!(lane.count(), 1);
	let reply = gateway.post_with(CHAT_PATH, &KEY, chat("a")).await;
	assert_eq!(reply.json()["error"]["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn a_restart_forgets_no_answer() {
	let gateway = Running::in_session().await;
	let headers = [KEY[0], ("consilience-record", "true")];
	let done = completed(&gateway, gateway.post_with(CHAT_PATH, &headers, chat("a")))
		.await
		.json();
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	let gateway = Running::on(double, folder, |_| ()).await;
	let again = gateway
		.post_with(CHAT_PATH, &headers, chat("a"))
		.await
		.json();
	assert_eq!(done, again);
	assert_eq!(gateway.lane().count(), 1);
}

#[tokio::test]
async fn questions_go_to_the_channel_that_has_least_to_do() {
	let folder = Arc::new(tempfile::tempdir().unwrap());
	let double = Double::new().with_channels(2);
	let gateway = Running::on(double.clone(), folder.clone(), |_| ()).await;
	let [first, second] = <[_; 2]>::try_from(double.lanes()).ok().unwrap();
	let key = |n: &'static str| [("idempotency-key", n)];
	let asked = |name: &'static str| {
		let gateway = &gateway;
		async move { gateway.stream(CHAT_PATH, &key(name), streamed(name)).await }
	};
	// Both are under way at the same time, and have the same number in their channels.
	let (_one, ()) = tokio::join!(asked("one"), async {
		first.wait_for(1).await;
		first.start(0);
		first.say(0, "You ");
	});
	let (mut two, ()) = tokio::join!(asked("two"), async {
		second.wait_for(1).await;
		second.start(0);
		second.say(0, "You ");
	});
	assert_eq!(two.data().await["choices"][0]["delta"]["role"], "assistant");
	let chunk = two.data().await;
	assert_eq!(chunk["consilience"]["channel"], CHANNEL + 1);
	assert_eq!(chunk["consilience"]["number"], 1);
	// One that cannot pay is passed over.
	let broke = || Some(Refusal::Channel("it has 0 CSL left".into()));
	first.refuse_quotes(broke());
	let (mut three, ()) = tokio::join!(asked("three"), async {
		second.wait_for(2).await;
		second.start(1);
		second.say(1, "You ");
	});
	three.data().await;
	let chunk = three.data().await;
	assert_eq!(chunk["consilience"]["channel"], CHANNEL + 1);
	assert_eq!(chunk["consilience"]["number"], 2);
	second.refuse_quotes(broke());
	let body = with(
		chat("four"),
		json!({ "consilience": { "lane": "session" } }),
	);
	let reply = gateway.post(CHAT_PATH, body).await;
	assert_eq!(reply.json()["error"]["code"], "gateway_out_of_funds");
	// What was open is found in its own channel's wallet after a restart.
	gateway.stop().await;
	first.complete_in_wallet(0);
	second.complete_in_wallet(0);
	second.complete_in_wallet(1);
	let gateway = Running::on(double, folder, |_| ()).await;
	let open = [
		("one", CHANNEL, 1),
		("two", CHANNEL + 1, 1),
		("three", CHANNEL + 1, 2),
	];
	for (name, channel, number) in open {
		let reply = gateway
			.post_with(CHAT_PATH, &key(name), streamed(name))
			.await;
		let text = reply.text();
		assert!(text.contains(&format!("You said: {name}")), "{text}");
		assert!(text.contains(&format!(r#""channel":{channel}"#)), "{text}");
		assert!(text.contains(&format!(r#""number":{number}"#)), "{text}");
	}
}

#[tokio::test]
async fn what_was_open_at_the_end_is_found() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let key = |n: &'static str| [("idempotency-key", n)];
	// Asked, and not answered yet.
	let (mut cut, place) = begun(&gateway, &key("cut"), streamed("cut")).await;
	cut.data().await;
	lane.say(place, "You ");
	cut.data().await;
	// Answered after the gateway has gone.
	let (mut whole, answered) = begun(&gateway, &key("whole"), streamed("whole")).await;
	whole.data().await;
	// Asked of somebody, and the gateway was not told the number.
	let unknown = async {
		gateway
			.post_with(CHAT_PATH, &key("unknown"), chat("unknown"))
			.await
	};
	tokio::select! {
		_ = unknown => panic!("nobody answers"),
		() = lane.wait_for(3) => (),
	}
	// Never asked.
	let nothing = async {
		gateway
			.post_with(CHAT_PATH, &key("nothing"), chat("nothing"))
			.await
	};
	tokio::select! {
		_ = nothing => panic!("nobody answers"),
		() = lane.wait_for(4) => (),
	}
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	assert!(cut.rest().await[0].contains("gateway_stopping"));
	lane.complete_in_wallet(answered);
	lane.start(2);
	lane.complete_in_wallet(2);
	let gateway = Running::on(double, folder, |_| ()).await;
	for (name, number) in [("whole", 2), ("unknown", 3)] {
		let body = match name {
			"whole" => streamed(name),
			_ => chat(name),
		};
		let reply = gateway.post_with(CHAT_PATH, &key(name), body).await;
		assert_eq!(reply.status, 200);
		let text = reply.text();
		assert!(text.contains(&format!(r#""number":{number}"#)), "{text}");
		assert!(text.contains(&format!("You said: {name}")), "{text}");
	}
	let reply = gateway
		.post_with(CHAT_PATH, &key("cut"), streamed("cut"))
		.await;
	assert!(reply.text().contains("interrupted"), "{}", reply.text());
	assert_eq!(gateway.lane().count(), 4);
	// Nobody was paid for this one, and it is asked now.
	let key = key("nothing");
	let again = gateway.post_with(CHAT_PATH, &key, chat("nothing"));
	assert_eq!(completed(&gateway, again).await.status, 200);
	assert_eq!(gateway.lane().count(), 5);
	let spent = figure(&gateway, r#"spent_csl_total{key="local"}"#).await;
	let spent: f64 = spent.unwrap().parse().unwrap();
	let expected = PART + 2 * ANSWER + ANSWER + 2 * CHECK;
	assert_eq!((spent * 1e12).round() as u128, expected);
}

#[tokio::test]
async fn a_gateway_without_its_channel_asks_nothing_anew() {
	let gateway = Running::in_session().await;
	let (mut open, _) = begun(&gateway, &KEY, streamed("a")).await;
	open.data().await;
	let other = [("idempotency-key", "k2")];
	completed(&gateway, gateway.post_with(CHAT_PATH, &other, chat("b"))).await;
	let folder = gateway.folder.clone();
	gateway.stop().await;
	let gateway = Running::on(Double::new(), folder, |_| ()).await;
	let reply = gateway.post_with(CHAT_PATH, &KEY, streamed("a")).await;
	assert!(
		reply.text().contains("request_forgotten"),
		"{}",
		reply.text()
	);
	let reply = gateway.post_with(CHAT_PATH, &other, chat("b")).await;
	assert_eq!(reply.json()["consilience"]["lane"], "session");
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn the_end_waits_for_what_may_be_asked_for_again() {
	let gateway = Running::in_session_with(|c| c.drain = std::time::Duration::from_secs(19)).await;
	let lane = gateway.lane();
	let (stream, place) = begun(&gateway, &KEY, streamed("a")).await;
	drop(stream);
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	tokio::join!(gateway.stop(), async {
		lane.say(place, "You said: a");
		lane.sign(place);
		lane.check(place, "right");
		lane.finish(place);
	});
	let gateway = Running::on(double, folder, |_| ()).await;
	let reply = gateway.post_with(CHAT_PATH, &KEY, streamed("a")).await;
	assert!(
		reply.text().ends_with("data: [DONE]\n\n"),
		"{}",
		reply.text()
	);
}

/// SHA-256 of `alice`. She may spend what two questions can cost.
const KEYS: &str = r#"
[[keys]]
name = "alice"
sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
budget_per_day = "0.000000001"
"#;

async fn alices(double: Double, folder: Arc<tempfile::TempDir>) -> Running {
	let path = folder.path().join("keys.toml");
	std::fs::write(&path, KEYS).unwrap();
	Running::on(double, folder, |config| config.keys = Some(path)).await
}

#[tokio::test]
async fn the_most_that_a_question_can_cost_is_set_apart() {
	let alice = [("x-api-key", "alice")];
	let folder = Arc::new(tempfile::tempdir().unwrap());
	let gateway = alices(Double::new().with_channels(1), folder.clone()).await;
	let lane = gateway.lane();
	// Two are open.
	let (mut first, one) = begun(&gateway, &alice, streamed("a")).await;
	first.data().await;
	let (mut second, two) = begun(&gateway, &alice, streamed("a")).await;
	second.data().await;
	let refused = gateway.post_with(CHAT_PATH, &alice, chat("a")).await;
	assert_eq!(refused.status, 429);
	assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
	// One is answered, and its rest is free again.
	lane.say(one, "You said: a");
	lane.sign(one);
	lane.check(one, "right");
	lane.finish(one);
	assert_eq!(first.rest().await.last().unwrap(), "data: [DONE]");
	let refused = gateway.post_with(CHAT_PATH, &alice, chat("a")).await;
	assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
	drop(second);
	lane.wait_for_cut(two).await;
	lane.finish_cut(two);
	becomes(&gateway, "requests_open", "0").await;
	// Spent are 95 and 90: one more can be asked, also after a restart.
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	let gateway = alices(double, folder).await;
	let lane = gateway.lane();
	let (mut third, _) = begun(&gateway, &alice, streamed("a")).await;
	third.data().await;
	let refused = gateway.post_with(CHAT_PATH, &alice, chat("a")).await;
	assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
	assert_eq!(lane.count(), 3);
}

#[tokio::test]
async fn a_channel_that_runs_short_is_told_or_the_call_goes_on_chain() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let short = || Some(Refusal::Channel("consilience channel raise 3".into()));
	let session = [("consilience-lane", "session")];
	let record = [("consilience-record", "true")];
	for at_quote in [true, false] {
		lane.refuse_quotes(short().filter(|_| at_quote));
		lane.refuse_asks(short());
		for explicit in [&session, &record] {
			let reply = gateway.post_with(CHAT_PATH, explicit, chat("a")).await;
			assert_eq!(reply.status, 503);
			assert_eq!(reply.json()["error"]["code"], "gateway_out_of_funds");
			assert!(reply.text().contains("consilience channel raise 3"));
		}
		for (body, headers) in [(chat("a"), [("a", "b")]), (chat("k"), KEY)] {
			if at_quote || headers != KEY {
				let call = gateway.post_with(CHAT_PATH, &headers, body);
				let reply = gateway.completed(1, call).await;
				assert_eq!(reply.json()["consilience"]["lane"], "direct");
			}
		}
	}
	// What it was asked under its key it is, whatever the lane is by now.
	lane.refuse_quotes(None);
	lane.refuse_asks(None);
	let reply = gateway.post_with(CHAT_PATH, &KEY, chat("k")).await;
	assert_eq!(reply.json()["consilience"]["lane"], "direct");
	assert_eq!(gateway.double.count(), 3);
	assert_eq!(lane.count(), 0);
	becomes(&gateway, "requests_open", "0").await;
}

#[tokio::test]
async fn steps_are_told_on_the_way() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let body = with(streamed("a"), json!({ "consilience": { "steps": true } }));
	let (mut stream, place) = begun(&gateway, &[], body).await;
	stream.data().await;
	let step = stream.data().await;
	assert_eq!(step["choices"], json!([]));
	assert_eq!(step["consilience"]["executor"], executor(1));
	lane.say(place, "a");
	assert_eq!(stream.data().await["choices"][0]["delta"]["content"], "a");
	lane.sign(place);
	let step = stream.data().await;
	assert_eq!(step["consilience"]["status"], "answered");
	lane.check(place, "right");
	let step = stream.data().await;
	assert_eq!(
		step["consilience"]["checkers"],
		json!([{ "account": "5Checker1", "verdict": "right" }])
	);
	lane.finish(place);
	assert_eq!(stream.data().await["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn whoever_reads_slowly_is_sent_all_of_it() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let (mut stream, place) = begun(&gateway, &[], streamed("a")).await;
	stream.data().await;
	let words: Vec<String> = (0..20_000).map(|n| format!("{n} ")).collect();
	words.iter().for_each(|word| lane.say(place, word));
	lane.sign(place);
	lane.finish(place);
	let mut said = String::new();
	while let Some(event) = stream.next().await {
		let data = event.strip_prefix("data: ").unwrap();
		if let Ok(chunk) = serde_json::from_str::<Value>(data) {
			said += chunk["choices"][0]["delta"]["content"]
				.as_str()
				.unwrap_or_default();
		}
	}
	assert_eq!(said, words.concat());
}

#[tokio::test]
async fn models_and_figures_tell_of_the_lane() {
	let gateway = Running::in_session().await;
	let lane = gateway.lane();
	let of = |body: Value| body["consilience"]["session"].clone();
	assert_eq!(
		of(gateway.get("/v1/models/chat").await.json()),
		json!({ "available": true, "validators": 3, "measured": null })
	);
	let embed = of(gateway.get("/v1/models/embed").await.json());
	assert_eq!(embed["available"], false);
	let body = chat("a b c d e f g h i j");
	completed(&gateway, gateway.post(CHAT_PATH, body)).await;
	let list = gateway.get("/v1/models").await.json();
	let measured = of(list["data"][0].clone())["measured"].clone();
	assert_eq!(measured["answers"], 1);
	for figure in ["median_seconds_to_first_token", "median_tokens_per_second"] {
		assert!(measured[figure].is_number(), "{measured}");
	}
	assert!(list["data"][0]["consilience"]["measured"].is_null());
	lane.serving(0);
	let now = of(gateway.get("/v1/models/chat").await.json());
	assert_eq!(
		(&now["available"], &now["validators"]),
		(&json!(false), &json!(0))
	);
	let first = r#"first_token_seconds_count{model="chat"}"#;
	assert_eq!(figure(&gateway, first).await, Some("1".into()));
	let none = Running::new().await;
	let body = none.get("/v1/models/chat").await.json();
	assert!(of(body).is_null());
}
