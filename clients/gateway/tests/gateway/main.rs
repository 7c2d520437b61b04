//! The gateway over real HTTP, on a network that behaves like the chain.

#![allow(clippy::unwrap_used)]

mod anthropic;
mod chat;
mod client;
mod completions;
mod constraint;
#[allow(dead_code)]
mod double;
mod embeddings;
mod faults;
mod garbage;
mod idempotency;
mod inference_protocol;
mod keys;
mod limits;
mod models;
mod relay;
mod responses;
mod session;
mod tools;
mod web;

use serde_json::{json, Value};

/// A chat of one message.
fn chat(text: &str) -> Value {
	json!({ "model": "chat", "messages": [{ "role": "user", "content": text }] })
}

/// An object with fields of another put over it.
fn with(mut body: Value, change: Value) -> Value {
	for (name, value) in change.as_object().unwrap() {
		body[name] = value.clone();
	}
	body
}

/// The path of the chat endpoint.
const CHAT_PATH: &str = "/v1/chat/completions";
