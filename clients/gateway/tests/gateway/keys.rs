use std::sync::{
	atomic::{AtomicU64, Ordering},
	Arc,
};

use consilience_gateway::{
	network::{Refusal, State},
	Config, Gateway, StartError,
};
use serde_json::json;

use crate::{
	chat,
	client::Running,
	double::{Double, FEE},
	CHAT_PATH,
};

/// SHA-256 of `alice` and of `bob`. Alice may spend what two requests can cost.
const KEYS: &str = r#"
[[keys]]
name = "alice"
sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
budget_per_day = "0.000000002"

[[keys]]
name = "bob"
sha256 = "81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9"
"#;

const ALICE: [(&str, &str); 1] = [("authorization", "Bearer alice")];
const BOB: [(&str, &str); 1] = [("x-api-key", "bob")];

async fn keyed(change: impl FnOnce(&mut Config)) -> Running {
	let folder = Arc::new(tempfile::tempdir().unwrap());
	restarted(Double::new(), folder, change).await
}

async fn restarted(
	double: Double,
	folder: Arc<tempfile::TempDir>,
	change: impl FnOnce(&mut Config),
) -> Running {
	let path = folder.path().join("keys.toml");
	std::fs::write(&path, KEYS).unwrap();
	Running::on(double, folder, |config| {
		config.keys = Some(path);
		change(config);
	})
	.await
}

#[tokio::test]
async fn a_key_is_needed() {
	let gateway = keyed(|_| ()).await;
	for (path, headers, status) in [
		(CHAT_PATH, &[][..], 401),
		(CHAT_PATH, &[("authorization", "Bearer mallory")], 401),
		("/v1/messages", &[("x-api-key", "mallory")], 401),
		("/v2/models/double/infer", &[], 401),
	] {
		let reply = gateway.post_with(path, headers, json!({})).await;
		assert_eq!(reply.status, status, "{path}");
		assert!(reply.headers.contains_key("www-authenticate"));
	}
	let reply = gateway.post(CHAT_PATH, chat("a")).await;
	assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
	let reply = gateway.post("/v1/messages", chat("a")).await;
	assert_eq!(reply.json()["error"]["type"], "authentication_error");
	assert_eq!(gateway.get("/v1/models").await.status, 401);
	assert_eq!(gateway.get_with("/v1/models", &BOB).await.status, 200);
	// Whether it lives is asked by what has no key.
	assert_eq!(gateway.get("/health").await.status, 200);
	assert_eq!(gateway.get("/v2/health/ready").await.status, 200);
	assert_eq!(gateway.get("/metrics").await.status, 200);
	let reply = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &ALICE, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn what_is_held_counts_against_the_budget_until_it_is_settled() {
	let gateway = keyed(|_| ()).await;
	let body = crate::with(chat("a"), json!({ "stream": true }));
	let first = gateway.stream(CHAT_PATH, &ALICE, body.clone()).await;
	let second = gateway.stream(CHAT_PATH, &ALICE, body.clone()).await;
	assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
	let refused = gateway.post_with(CHAT_PATH, &ALICE, chat("a")).await;
	assert_eq!(refused.status, 429);
	assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
	assert_eq!(refused.headers["x-should-retry"], "false");
	assert!(!refused.headers.contains_key("retry-after"));
	let messages = crate::with(chat("a"), json!({ "max_tokens": 9 }));
	let refused = gateway.post_with("/v1/messages", &ALICE, messages).await;
	assert_eq!(refused.status, 402);
	assert_eq!(refused.json()["error"]["type"], "billing_error");
	// Bob's is another.
	let reply = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &BOB, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
	// One is paid less than was held, the other nothing: there is enough for a third.
	gateway.double.complete(1);
	gateway.double.fail(2, State::Expired);
	first.rest().await;
	second.rest().await;
	let third = loop {
		let stream = gateway.stream(CHAT_PATH, &ALICE, body.clone()).await;
		if stream.status == 200 {
			break stream;
		}
		// A client is told before the books are closed.
		tokio::task::yield_now().await;
	};
	drop(third);
	assert_eq!(gateway.double.count(), 4);
}

#[tokio::test]
async fn a_submission_that_is_refused_costs_nothing() {
	let gateway = keyed(|_| ()).await;
	gateway
		.double
		.refuse_submissions(Some(Refusal::Busy { retry_after: None }));
	for _ in 0..5 {
		assert_eq!(
			gateway.post_with(CHAT_PATH, &ALICE, chat("a")).await.status,
			429
		);
	}
	gateway.double.refuse_submissions(None);
	let reply = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &ALICE, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_budget_survives_a_restart_and_ends_with_the_day() {
	assert_eq!(FEE, 1_000, "the budget is twice that");
	let now = Arc::new(AtomicU64::new(1_000_000_000));
	let clock = || {
		let now = now.clone();
		move |c: &mut Config| c.clock = Arc::new(move || now.load(Ordering::Relaxed))
	};
	let gateway = keyed(clock()).await;
	let final_ = [ALICE[0], ("consilience-wait", "final")];
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &final_, chat("a")))
		.await;
	let body = crate::with(chat("a"), json!({ "stream": true }));
	let open = loop {
		let stream = gateway.stream(CHAT_PATH, &ALICE, body.clone()).await;
		if stream.status == 200 {
			break stream;
		}
		tokio::task::yield_now().await;
	};
	// 600 are spent, 1,000 are held.
	assert_eq!(
		gateway.post_with(CHAT_PATH, &ALICE, chat("a")).await.status,
		429
	);
	let (double, folder) = (gateway.double.clone(), gateway.folder.clone());
	gateway.stop().await;
	drop(open);
	let gateway = restarted(double, folder, clock()).await;
	assert_eq!(
		gateway.post_with(CHAT_PATH, &ALICE, chat("a")).await.status,
		429
	);
	now.fetch_add(86_400, Ordering::Relaxed);
	let reply = gateway
		.completed(1, gateway.post_with(CHAT_PATH, &ALICE, chat("a")))
		.await;
	assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn keys_of_different_callers_do_not_meet() {
	let gateway = keyed(|_| ()).await;
	let with_key = |caller: (&'static str, &'static str)| [caller, ("idempotency-key", "k")];
	let (alice, bob) = (with_key(ALICE[0]), with_key(BOB[0]));
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &alice, chat("a")))
		.await;
	gateway
		.completed(1, gateway.post_with(CHAT_PATH, &bob, chat("b")))
		.await;
	assert_eq!(gateway.double.count(), 2);
}

#[tokio::test]
async fn without_keys_it_is_for_this_machine_alone() {
	let folder = tempfile::tempdir().unwrap();
	let config = |listen: &str| Config::new(listen.parse().unwrap(), folder.path().into());
	let bind = |config| Gateway::bind(config, Arc::new(Double::new()), vec![]);
	let error = bind(config("0.0.0.0:0")).await.err().unwrap();
	assert!(matches!(error, StartError::NotLoopback(_)), "{error}");
	let mut open = config("127.0.0.1:0");
	open.cors = vec!["*".into()];
	assert!(matches!(bind(open).await.err(), Some(StartError::OpenCors)));
	let mut bad = config("127.0.0.1:0");
	bad.cors = vec!["example.org".into()];
	assert!(matches!(
		bind(bad).await.err(),
		Some(StartError::BadOrigin(_))
	));
	let mut missing = config("127.0.0.1:0");
	missing.keys = Some(folder.path().join("none.toml"));
	assert!(matches!(
		bind(missing).await.err(),
		Some(StartError::Keys(_))
	));

	let gateway = Running::with(|c| c.cors = vec!["https://example.org".into()]).await;
	let port = gateway.address.port();
	let (own, other) = (
		format!("http://127.0.0.1:{port}"),
		format!("localhost:{port}"),
	);
	for (headers, status) in [
		(vec![], 200),
		(vec![("origin", own.as_str())], 200),
		(vec![("origin", "https://example.org")], 200),
		(vec![("host", other.as_str())], 200),
		(vec![("host", "[::1]:8080")], 200),
		(vec![("origin", "https://evil.example")], 403),
		(vec![("origin", "null")], 403),
		// A name that was made to lead here.
		(vec![("host", "evil.example")], 403),
		(
			vec![
				("host", "evil.example:80"),
				("origin", "http://evil.example:80"),
			],
			403,
		),
		(vec![("host", "localhost.evil.example")], 403),
	] {
		let reply = gateway.get_with("/v1/models", &headers).await;
		assert_eq!(reply.status, status, "{headers:?}");
	}
}

#[tokio::test]
async fn browsers_are_told_who_may_use_it() {
	let gateway = keyed(|c| c.cors = vec!["https://example.org".into()]).await;
	let ask = |origin| {
		[
			("origin", origin),
			("access-control-request-method", "POST"),
			(
				"access-control-request-headers",
				"authorization,content-type",
			),
		]
	};
	let reply = gateway
		.options(CHAT_PATH, &ask("https://example.org"))
		.await;
	assert_eq!(reply.status, 200);
	assert_eq!(
		reply.headers["access-control-allow-origin"],
		"https://example.org"
	);
	let reply = gateway
		.options(CHAT_PATH, &ask("https://evil.example"))
		.await;
	assert!(!reply.headers.contains_key("access-control-allow-origin"));
}
