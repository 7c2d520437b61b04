use std::sync::{
	atomic::{AtomicU64, Ordering},
	Arc,
};

use consilience_gateway::network::{Refusal, State};
use serde_json::json;

use crate::{chat, client::Running, with, CHAT_PATH};

const KEY: [(&str, &str); 1] = [("idempotency-key", "k1")];

#[tokio::test]
async fn the_same_key_is_the_same_request() {
	let gateway = Running::new().await;
	let first = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("a")))
		.await
		.json();
	let second = gateway.post_with(CHAT_PATH, &KEY, chat("a")).await.json();
	assert_eq!(first["id"], second["id"]);
	assert_eq!(first["choices"], second["choices"]);
	assert_eq!(first["usage"], second["usage"]);
	// As a stream too, to its end.
	let body = with(chat("b"), json!({ "stream": true }));
	let other = [("idempotency-key", "k2")];
	let stream = gateway.stream(CHAT_PATH, &other, body.clone()).await;
	gateway.double.complete(2);
	let told = stream.rest().await;
	let again = gateway.stream(CHAT_PATH, &other, body).await.rest().await;
	assert_eq!(told.len(), 4);
	assert_eq!(again.len(), 4);
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn calls_at_once_are_one_request() {
	let gateway = Running::new().await;
	let call = || gateway.post_with(CHAT_PATH, &KEY, chat("a"));
	let all = futures::future::join_all((0..8).map(|_| call()));
	let chain = async {
		gateway.double.wait_for(1).await;
		gateway.double.complete(1);
	};
	let (all, ()) = tokio::join!(all, chain);
	assert!(all.iter().all(|r| r.json()["id"] == all[0].json()["id"]));
	assert_eq!(gateway.double.count(), 1);
}

#[tokio::test]
async fn another_body_or_path_is_refused() {
	let gateway = Running::new().await;
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("a")))
		.await;
	for (path, body) in [
		(CHAT_PATH, chat("b")),
		("/v1/completions", json!({ "model": "chat", "prompt": "a" })),
	] {
		let reply = gateway.post_with(path, &KEY, body).await;
		assert_eq!(reply.status, 422);
		assert_eq!(reply.json()["error"]["code"], "idempotency_key_reused");
	}
	let long = "x".repeat(256);
	for bad in ["", long.as_str()] {
		let reply = gateway
			.post_with(CHAT_PATH, &[("idempotency-key", bad)], chat("a"))
			.await;
		assert_eq!(reply.status, 400);
	}
	assert_eq!(gateway.double.count(), 1);
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
	let now = Arc::new(AtomicU64::new(1_000_000_000));
	let clock = now.clone();
	let gateway =
		Running::with(|c| c.clock = Arc::new(move || clock.load(Ordering::Relaxed))).await;
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("a")))
		.await;
	now.fetch_add(86_399, Ordering::Relaxed);
	gateway.post_with(CHAT_PATH, &KEY, chat("a")).await;
	assert_eq!(gateway.double.count(), 1);
	now.fetch_add(1, Ordering::Relaxed);
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("b")))
		.await;
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn what_was_never_made_can_be_asked_again() {
	let gateway = Running::new().await;
	gateway
		.double
		.refuse_submissions(Some(Refusal::Busy { retry_after: None }));
	assert_eq!(
		gateway.post_with(CHAT_PATH, &KEY, chat("a")).await.status,
		429
	);
	gateway.double.refuse_submissions(None);
	let reply = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
	// What was made and failed has failed.
	let other = [("idempotency-key", "k2")];
	let chain = async {
		gateway.double.wait_for(2).await;
		gateway.double.fail(2, State::Expired);
	};
	let (reply, ()) = tokio::join!(gateway.post_with(CHAT_PATH, &other, chat("a")), chain);
	assert_eq!(reply.status, 504);
	assert_eq!(
		gateway.post_with(CHAT_PATH, &other, chat("a")).await.status,
		504
	);
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn a_batch_asks_again_only_for_what_is_missing() {
	let gateway = Running::new().await;
	let body = json!({ "model": "embed", "input": ["a", "bb"] });
	let first = gateway
		.completed(2, gateway.post_with("/v1/embeddings", &KEY, body.clone()))
		.await;
	let second = gateway.post_with("/v1/embeddings", &KEY, body).await;
	assert_eq!(first.json()["data"], second.json()["data"]);
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn a_client_that_counts_its_retries_asks_once() {
	let gateway = Running::new().await;
	let count = |n: &'static str| [("x-stainless-retry-count", n)];
	let first = count("0");
	// The client gives up waiting, and its retry finds the same request.
	tokio::select! {
		_ = gateway.post_with(CHAT_PATH, &first, chat("a")) => panic!("nobody answers"),
		() = gateway.double.wait_for_followers(1) => (),
	}
	let chain = async {
		gateway.double.complete(1);
	};
	let again = count("1");
	let (reply, ()) = tokio::join!(gateway.post_with(CHAT_PATH, &again, chat("a")), chain);
	assert_eq!(reply.json()["consilience"]["request"], 1);
	// The same question asked anew is another request, and a retry of another question too.
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &first, chat("a")))
		.await;
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &again, chat("b")))
		.await;
	assert_eq!(gateway.double.count(), 3);
	// What was refused is asked again.
	let busy = Refusal::Busy { retry_after: None };
	gateway.double.refuse_submissions(Some(busy));
	let refused = gateway.post_with(CHAT_PATH, &first, chat("c")).await;
	assert_eq!(refused.status, 429);
	gateway.double.refuse_submissions(None);
	let reply = gateway.completed(1, gateway.post_with(CHAT_PATH, &again, chat("c")));
	assert_eq!(reply.await.status, 200);
}

#[tokio::test]
async fn what_was_answered_is_given_again_while_no_node_answers() {
	let gateway = Running::new().await;
	let headers = [KEY[0], ("consilience-wait", "final")];
	let first = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &headers, chat("a")))
		.await;
	gateway.double.online(false);
	let second = gateway.post_with(CHAT_PATH, &headers, chat("a")).await;
	assert_eq!(first.json(), second.json());
	assert_eq!(gateway.post(CHAT_PATH, chat("a")).await.status, 503);
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
	let gateway = Running::new().await;
	let done = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &KEY, chat("a")))
		.await
		.json();
	let other = [("idempotency-key", "k2")];
	let body = with(chat("b"), json!({ "stream": true }));
	let mut stream = gateway.stream(CHAT_PATH, &other, body.clone()).await;
	stream.data().await;
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	// The open stream ends with an error, not as if it were whole.
	let rest = stream.rest().await;
	assert!(
		rest.len() == 1 && rest[0].contains("gateway_stopping"),
		"{rest:?}"
	);
	// What happens meanwhile is found.
	double.complete(2);
	let gateway = Running::on(double, folder, |_| ()).await;
	let again = gateway.post_with(CHAT_PATH, &KEY, chat("a")).await.json();
	assert_eq!(
		(&done["id"], &done["choices"]),
		(&again["id"], &again["choices"])
	);
	let rest = gateway.stream(CHAT_PATH, &other, body).await.rest().await;
	assert_eq!(rest.last().unwrap(), "data: [DONE]");
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn a_restart_while_a_request_is_sent_makes_no_second_one() {
	let gateway = Running::new().await;
	gateway.double.swallow(true);
	gateway.double.hang(true);
	let body = chat("a");
	// The ticket is in the journal, and nothing is on chain.
	let call = gateway.stream(CHAT_PATH, &KEY, body.clone());
	tokio::select! {
		_ = call => panic!("it hangs"),
		() = gateway.double.wait_for_ticket() => (),
	}
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	// It comes through after the gateway has gone.
	double.hang(false);
	double.wait_for(1).await;
	double.complete(1);
	double.swallow(false);
	let gateway = Running::on(double, folder, |_| ()).await;
	let reply = gateway.post_with(CHAT_PATH, &KEY, body).await;
	assert_eq!(reply.status, 200);
	assert_eq!(gateway.double.count(), 1);
}
