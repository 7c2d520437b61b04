use std::time::Duration;

use serde_json::json;
use tokio::{
	io::{AsyncReadExt, AsyncWriteExt},
	net::TcpStream,
};

use crate::{chat, client::Running, with, CHAT_PATH};

#[tokio::test]
async fn large_bodies_are_refused() {
	let gateway = Running::with(|c| c.body_limit = 1_000).await;
	let reply = gateway.post(CHAT_PATH, chat(&"x".repeat(1_000))).await;
	assert_eq!(reply.status, 413);
	assert_eq!(reply.json()["error"]["code"], "request_too_large");
	let reply = gateway.post("/v1/messages", chat(&"x".repeat(1_000))).await;
	assert_eq!(reply.json()["error"]["type"], "request_too_large");
	let gzip = [("content-encoding", "gzip")];
	assert_eq!(
		gateway.post_with(CHAT_PATH, &gzip, chat("a")).await.status,
		415
	);
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn calls_beyond_the_limit_are_told_so() {
	let gateway = Running::with(|c| c.concurrency = 1).await;
	let mut open = gateway
		.stream(CHAT_PATH, &[], with(chat("a"), json!({ "stream": true })))
		.await;
	open.data().await;
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(reply.status, 429);
	assert!(reply.headers.contains_key("retry-after"));
	// It is asked for its health all the same.
	assert_eq!(gateway.get("/health").await.status, 200);
	gateway.double.complete(1);
	open.rest().await;
	loop {
		// The place is free when the last byte has left.
		if gateway.get("/v1/models").await.status == 200 {
			break;
		}
	}
}

#[tokio::test]
async fn requests_on_chain_are_bounded_too() {
	let gateway = Running::with(|c| c.open_requests = 2).await;
	let body = json!({ "model": "embed", "input": ["a", "b", "c"] });
	assert_eq!(gateway.post("/v1/embeddings", body).await.status, 429);
	assert_eq!(gateway.double.count(), 0);
}

/// What the gateway says to these bytes before it closes the connection.
async fn said_to(gateway: &Running, bytes: &[u8]) -> String {
	let mut stream = TcpStream::connect(gateway.address).await.unwrap();
	stream.write_all(bytes).await.unwrap();
	let mut said = vec![];
	let limit = Duration::from_secs(20);
	tokio::time::timeout(limit, stream.read_to_end(&mut said))
		.await
		.expect("it closes")
		.unwrap();
	String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn slow_clients_are_let_go() {
	let gateway = Running::with(|c| {
		c.head_timeout = Duration::from_millis(50);
		c.body_timeout = Duration::from_millis(50);
	})
	.await;
	said_to(&gateway, b"POST /v1/chat/completions HTT").await;
	let said = said_to(
		&gateway,
		b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 10\r\n\r\n{",
	)
	.await;
	assert!(said.starts_with("HTTP/1.1 408"), "{said}");
	let said = said_to(&gateway, b"garbage\r\n\r\n").await;
	assert!(
		said.is_empty() || said.starts_with("HTTP/1.1 400"),
		"{said}"
	);
}
