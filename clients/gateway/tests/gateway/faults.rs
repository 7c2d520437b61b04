use std::time::Duration;

use consilience_gateway::network::{Answer, Finish, FollowError, State};
use serde_json::json;

use crate::{chat, client::Running, with, CHAT_PATH};

const KEY: [(&str, &str); 1] = [("idempotency-key", "k1")];

fn streamed(text: &str) -> serde_json::Value {
	with(chat(text), json!({ "stream": true }))
}

#[tokio::test]
async fn nothing_is_sent_while_no_node_answers() {
	let gateway = Running::new().await;
	gateway.double.online(false);
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(reply.status, 503);
	assert_eq!(reply.json()["error"]["code"], "upstream_unreachable");
	assert_eq!(reply.headers["x-should-retry"], "true");
	gateway.double.online(true);
	assert_eq!(
		gateway
			.completed(1, gateway.post(CHAT_PATH, chat("a")))
			.await
			.status,
		200
	);
}

#[tokio::test]
async fn a_stream_whose_node_goes_away_ends_with_an_error_and_the_request_goes_on() {
	let gateway = Running::with(|c| c.outage_patience = Duration::ZERO).await;
	let mut stream = gateway.stream(CHAT_PATH, &KEY, streamed("a")).await;
	stream.data().await;
	gateway.double.online(false);
	let rest = stream.rest().await;
	assert_eq!(rest.len(), 1, "{rest:?}");
	assert!(
		rest[0].contains("upstream_gone") && rest[0].contains("Request 1 is on chain"),
		"{rest:?}"
	);
	gateway.double.complete(1);
	gateway.double.online(true);
	// It may still be told of the outage, until the node is found again.
	loop {
		let rest = gateway
			.stream(CHAT_PATH, &KEY, streamed("a"))
			.await
			.rest()
			.await;
		if rest.last().unwrap() == "data: [DONE]" {
			break;
		}
	}
	assert_eq!(gateway.double.count(), 1);
}

#[tokio::test]
async fn a_node_that_comes_back_is_not_noticed() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &[], streamed("a")).await;
	stream.data().await;
	gateway.double.answer(1);
	stream.data().await;
	gateway.double.wait_for_followers(1).await;
	gateway.double.online(false);
	gateway.double.wait_for_followers(3).await;
	gateway.double.check(1);
	gateway.double.finalise(1);
	gateway.double.online(true);
	assert_eq!(stream.rest().await.last().unwrap(), "data: [DONE]");
	assert_eq!(gateway.double.count(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_changes_nothing_on_chain() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &KEY, streamed("a")).await;
	stream.data().await;
	drop(stream);
	// One that hangs up before its request is on chain.
	gateway.double.hang(true);
	let other = [("idempotency-key", "k2")];
	tokio::select! {
		_ = gateway.post_with(CHAT_PATH, &other, chat("b")) => panic!("it hangs"),
		() = gateway.double.wait_for_tickets(2) => (),
	}
	gateway.double.hang(false);
	gateway.double.wait_for(2).await;
	gateway.double.complete(1);
	gateway.double.complete(2);
	let rest = gateway
		.stream(CHAT_PATH, &KEY, streamed("a"))
		.await
		.rest()
		.await;
	assert_eq!(rest.last().unwrap(), "data: [DONE]");
	let reply = gateway.post_with(CHAT_PATH, &other, chat("b")).await;
	assert_eq!(
		reply.json()["choices"][0]["message"]["content"],
		"You said: b"
	);
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn a_submission_that_came_through_unheard_is_found() {
	let gateway = Running::new().await;
	gateway.double.swallow(true);
	let reply = gateway
		.completed(1, gateway.post(CHAT_PATH, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
	assert_eq!(reply.json()["consilience"]["request"], 1);
	assert_eq!(gateway.double.count(), 1);
}

#[tokio::test]
async fn a_fork_that_renumbers_requests_does_not_mix_them_up() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &[], streamed("a")).await;
	stream.data().await;
	gateway.double.wait_for_followers(1).await;
	gateway.double.renumber(1, 7);
	gateway.double.wait_for_followers(2).await;
	gateway.double.complete(7);
	let text = stream.data().await;
	assert_eq!(text["consilience"]["request"], 7);
	assert_eq!(stream.rest().await.last().unwrap(), "data: [DONE]");
}

#[tokio::test]
async fn an_answer_that_is_replaced_is_not_passed_off_as_the_one_that_was_shown() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &[], streamed("a")).await;
	stream.data().await;
	gateway.double.answer(1);
	stream.data().await;
	let other = Answer::Text {
		text: "Something else".into(),
		tokens: 2,
		finish: Finish::EndOfText,
	};
	gateway.double.answer_with(1, other);
	let rest = stream.rest().await;
	assert!(
		rest.len() == 1 && rest[0].contains("answer_replaced"),
		"{rest:?}"
	);
}

#[tokio::test]
async fn a_stream_whose_answer_is_rejected_has_no_end_but_an_error() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &[], streamed("a")).await;
	stream.data().await;
	gateway.double.answer(1);
	stream.data().await;
	gateway.double.fail(1, State::Rejected);
	let rest = stream.rest().await;
	assert!(
		rest.len() == 1 && rest[0].contains("\"code\":\"rejected\""),
		"{rest:?}"
	);
}

#[tokio::test]
async fn a_request_that_the_chain_forgot_is_an_error() {
	let gateway = Running::new().await;
	let mut stream = gateway.stream(CHAT_PATH, &[], streamed("a")).await;
	stream.data().await;
	gateway.double.break_streams(FollowError::Forgotten);
	let rest = stream.rest().await;
	assert!(
		rest.len() == 1 && rest[0].contains("request_forgotten"),
		"{rest:?}"
	);
}

#[tokio::test]
async fn a_reply_is_not_kept_open_for_ever() {
	let gateway = Running::with(|c| c.reply_timeout = Duration::from_secs(1)).await;
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(reply.status, 504);
	assert_eq!(reply.json()["error"]["code"], "reply_timeout");
	assert_eq!(reply.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn many_chats_at_once_are_all_answered() {
	let gateway = Running::new().await;
	let calls = (0..200).map(|n| gateway.post(CHAT_PATH, chat(&format!("number {n}"))));
	let calls = futures::future::join_all(calls);
	let chain = async {
		gateway.double.wait_for(200).await;
		(1..=200).for_each(|n| gateway.double.complete(n));
	};
	let (replies, ()) = tokio::join!(calls, chain);
	for (n, reply) in replies.iter().enumerate() {
		let said = reply.json()["choices"][0]["message"]["content"].clone();
		assert_eq!(said, format!("You said: number {n}"));
	}
	assert_eq!(gateway.double.count(), 200);
}
