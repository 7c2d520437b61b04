use std::{fs, sync::Arc};

use consilience_gateway::{Config, Gateway, StartError};
use serde_json::{json, Value};

use crate::{chat, client::Running, double::Double, with, CHAT_PATH};

fn page(folder: &std::path::Path) -> std::path::PathBuf {
	let page = folder.join("page");
	fs::create_dir_all(page.join("assets")).unwrap();
	fs::write(page.join("index.html"), "<!doctype html>").unwrap();
	fs::write(page.join("assets/a-1.js"), "1").unwrap();
	fs::write(page.join(".hidden"), "secret").unwrap();
	fs::write(folder.join("outside"), "secret").unwrap();
	std::os::unix::fs::symlink(folder.join("outside"), page.join("link")).unwrap();
	page
}

async fn serving(keys: Option<&str>) -> Running {
	let folder = Arc::new(tempfile::tempdir().unwrap());
	let page = page(folder.path());
	let file = folder.path().join("keys.toml");
	fs::write(&file, keys.unwrap_or_default()).unwrap();
	let is_keyed = keys.is_some();
	Running::on(Double::new(), folder, |config| {
		config.web = Some(page);
		config.web_node = Some("ws://node.example:9944".into());
		config.keys = is_keyed.then_some(file);
	})
	.await
}

#[tokio::test]
async fn a_page_is_served_with_its_types_and_a_policy() {
	let gateway = serving(None).await;
	for (path, kind, text) in [
		("/", "text/html; charset=utf-8", "<!doctype html>"),
		("/index.html", "text/html; charset=utf-8", "<!doctype html>"),
		("/assets/a-1.js", "text/javascript; charset=utf-8", "1"),
		(
			"/config.json",
			"application/json",
			r#"{"node":"ws://node.example:9944","relay":"v1/lane"}"#,
		),
	] {
		let reply = gateway.get(path).await;
		assert_eq!(reply.status, 200, "{path}");
		assert_eq!(reply.headers["content-type"], kind, "{path}");
		assert_eq!(reply.headers["x-content-type-options"], "nosniff");
		let policy = reply.headers["content-security-policy"].to_str().unwrap();
		assert!(policy.starts_with("default-src 'none'; script-src 'self'"));
		assert!(policy.contains(" ws://node.example:9944;"), "{policy}");
		assert_eq!(reply.text(), text);
	}
	let asset = gateway.get("/assets/a-1.js").await;
	assert!(asset.headers["cache-control"]
		.to_str()
		.unwrap()
		.contains("immutable"));
}

#[tokio::test]
async fn nothing_else_is_served_and_nothing_listed() {
	let gateway = serving(None).await;
	for path in [
		"/assets",
		"/assets/",
		"/.hidden",
		"/link",
		"/../outside",
		"/%2e%2e/outside",
		"/assets/../../outside",
		"/v1/none",
	] {
		let reply = gateway.get(path).await;
		assert_eq!(reply.status, 404, "{path}");
		assert_eq!(reply.json()["error"]["code"], "unknown_url", "{path}");
	}
	assert_eq!(gateway.post("/index.html", json!({})).await.status, 404);
	assert_eq!(gateway.get("/v1/models").await.status, 200);
	// A page of somebody else's name that was made to lead here.
	let reply = gateway.get_with("/", &[("host", "evil.example")]).await;
	assert_eq!(reply.status, 403);
	assert_eq!(Running::new().await.get("/").await.status, 404);
}

#[tokio::test]
async fn the_page_needs_no_key_and_the_interfaces_do() {
	let keys = "[[keys]]\nname = \"a\"\nsha256 = \"2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90\"";
	let gateway = serving(Some(keys)).await;
	assert_eq!(gateway.get("/").await.status, 200);
	assert_eq!(gateway.get("/config.json").await.status, 200);
	assert_eq!(gateway.get("/v1/models").await.status, 401);
	assert_eq!(gateway.get("/v1/models/chat").await.status, 401);
	assert_eq!(gateway.post(CHAT_PATH, chat("a")).await.status, 401);
}

#[tokio::test]
async fn a_folder_without_a_page_is_a_mistake() {
	let folder = tempfile::tempdir().unwrap();
	let mut config = Config::new("127.0.0.1:0".parse().unwrap(), folder.path().join("data"));
	config.web = Some(folder.path().into());
	let started = Gateway::bind(config, Arc::new(Double::new()), vec![]).await;
	assert!(matches!(started, Err(StartError::Web(..))));
}

/// What a chunk says of the request.
fn status(chunk: &Value) -> (&str, usize) {
	let own = &chunk["consilience"];
	let verifiers = own["verifiers"].as_array().map_or(0, Vec::len);
	(own["status"].as_str().unwrap_or_default(), verifiers)
}

#[tokio::test]
async fn a_stream_tells_of_every_step_where_it_is_asked_to() {
	let gateway = Running::new().await;
	let own = json!({"stream": true, "consilience": {"wait": "final", "steps": true}});
	let mut stream = gateway.stream(CHAT_PATH, &[], with(chat("a"), own)).await;
	let begin = stream.data().await;
	assert_eq!(begin["choices"][0]["delta"]["role"], "assistant");
	assert_eq!(status(&stream.data().await), ("requested", 0));
	gateway.double.answer(1);
	let answer = stream.data().await;
	assert_eq!(status(&answer), ("provisional", 0));
	assert_eq!(answer["choices"][0]["delta"]["content"], "You said: a");
	gateway.double.draw(1);
	let drawn = stream.data().await;
	assert_eq!(status(&drawn), ("provisional", 2));
	assert_eq!(drawn["choices"], json!([]));
	gateway.double.check(1);
	assert_eq!(status(&stream.data().await), ("checked", 2));
	gateway.double.finalise(1);
	let end = stream.data().await;
	assert_eq!(status(&end), ("final", 2));
	assert_eq!(end["choices"][0]["finish_reason"], "stop");
	assert_eq!(stream.rest().await, ["data: [DONE]"]);
}

#[tokio::test]
async fn steps_are_for_streams_of_chats() {
	let gateway = Running::new().await;
	let own = json!({"consilience": {"steps": true}});
	let reply = gateway.post(CHAT_PATH, with(chat("a"), own.clone())).await;
	assert_eq!(reply.status, 400);
	assert_eq!(reply.json()["error"]["param"], "consilience.steps");
	let body = with(
		json!({"model": "plain", "prompt": "a", "stream": true}),
		own,
	);
	let reply = gateway.post("/v1/completions", body).await;
	assert_eq!(reply.json()["error"]["code"], "unsupported_parameter");
}
