use consilience_gateway::network::Input;
use serde_json::{json, Value};

use crate::{client::Running, with};

const PATH: &str = "/v1/completions";

fn body() -> Value {
	json!({ "model": "plain", "prompt": "Once" })
}

#[tokio::test]
async fn a_prompt_goes_on_as_it_is() {
	let gateway = Running::new().await;
	let reply = gateway.completed(1, gateway.post(PATH, body())).await;
	let said = reply.json();
	assert_eq!(said["object"], "text_completion");
	assert_eq!(said["choices"][0]["text"], "You said: Once");
	assert_eq!(said["choices"][0]["finish_reason"], "stop");
	assert!(
		matches!(gateway.double.asked(1).input, Input::Prompt { prompt, .. } if prompt == "Once")
	);
}

#[tokio::test]
async fn several_prompts_are_several_requests() {
	let gateway = Running::new().await;
	let call = gateway.post(PATH, with(body(), json!({ "prompt": ["a", "b", "c"] })));
	let said = gateway.completed(3, call).await.json();
	let texts: Vec<_> = (0..3).map(|i| said["choices"][i]["text"].clone()).collect();
	assert_eq!(texts, ["You said: a", "You said: b", "You said: c"]);
	assert_eq!(said["choices"][2]["index"], 2);
	assert_eq!(said["consilience"]["requests"].as_array().unwrap().len(), 3);
	assert_eq!(said["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn it_streams() {
	let gateway = Running::new().await;
	let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
	let mut stream = gateway.stream(PATH, &[], with(body(), options)).await;
	gateway.double.complete(1);
	assert_eq!(stream.data().await["choices"][0]["text"], "You said: Once");
	assert_eq!(stream.data().await["choices"][0]["finish_reason"], "stop");
	assert_eq!(stream.data().await["usage"]["completion_tokens"], 4);
	assert_eq!(stream.rest().await, ["data: [DONE]"]);
}

#[tokio::test]
async fn what_is_wrong_or_not_honoured_is_refused() {
	let gateway = Running::new().await;
	for (change, parameter) in [
		(json!({ "prompt": null }), "prompt"),
		(json!({ "prompt": "" }), "prompt"),
		(json!({ "prompt": [] }), "prompt"),
		(json!({ "prompt": [1, 2] }), "prompt"),
		(json!({ "prompt": [[1, 2]] }), "prompt"),
		(json!({ "prompt": ["a", true] }), "prompt"),
		(json!({ "prompt": 3 }), "prompt"),
		(json!({ "prompt": ["a", "b"], "stream": true }), "prompt"),
		(json!({ "echo": true }), "echo"),
		(json!({ "suffix": "x" }), "suffix"),
		(json!({ "best_of": 2 }), "best_of"),
		(json!({ "logprobs": 1 }), "logprobs"),
		(json!({ "seed": 1 }), "seed"),
		(json!({ "messages": [] }), "messages"),
		(json!({ "max_tokens": 600 }), "max_tokens"),
	] {
		let reply = gateway.post(PATH, with(body(), change.clone())).await;
		assert_eq!(reply.status, 400, "{change}");
		assert_eq!(reply.json()["error"]["param"], parameter, "{change}");
	}
	let many: Vec<_> = (0..65).map(|_| "a").collect();
	let reply = gateway
		.post(PATH, with(body(), json!({ "prompt": many })))
		.await;
	assert_eq!(reply.status, 400);
	assert_eq!(gateway.double.count(), 0);
}
