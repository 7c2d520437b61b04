use consilience_gateway::network::{Input, State};
use serde_json::{json, Value};

use crate::{client::Running, with};

const PATH: &str = "/v2/models/double/infer";
const LENGTH: &str = "inference-header-content-length";

fn body() -> Value {
	json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1] }] })
}

fn text(text: &str) -> Value {
	json!({ "inputs": [{ "name": "prompt", "shape": [1], "datatype": "BYTES", "data": [text] }] })
}

#[tokio::test]
async fn the_server_and_its_models_are_described() {
	let gateway = Running::new().await;
	let server = gateway.get("/v2").await.json();
	assert_eq!(server["extensions"], json!(["binary_tensor_data"]));
	assert_eq!(gateway.get("/v2/health/live").await.json()["live"], true);
	assert_eq!(gateway.get("/v2/health/ready").await.json()["ready"], true);
	let model = gateway.get("/v2/models/double").await.json();
	assert_eq!(
		model["inputs"],
		json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }])
	);
	let model = gateway.get("/v2/models/embed").await.json();
	assert_eq!(model["outputs"][0]["shape"], json!([4]));
	assert_eq!(gateway.get("/v2/models/double/ready").await.status, 200);
	assert_eq!(gateway.get("/v2/models/idle/ready").await.status, 503);
	assert_eq!(gateway.get("/v2/models/none/ready").await.status, 404);
	gateway.double.online(false);
	let ready = gateway.get("/v2/health/ready").await;
	assert_eq!(
		(ready.status.as_u16(), &ready.json()["ready"]),
		(503, &json!(false))
	);
	assert_eq!(gateway.get("/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn tensors_are_run() {
	let gateway = Running::new().await;
	let call = gateway.post(PATH, with(body(), json!({ "id": "mine" })));
	let said = gateway.completed(1, call).await.json();
	assert_eq!(
		(&said["id"], &said["model_name"]),
		(&json!("mine"), &json!("double"))
	);
	let output = json!({ "name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, -2.0] });
	assert_eq!(said["outputs"], json!([output]));
	assert_eq!(said["consilience"]["request"], 1);
	// Nested data is flat data.
	let nested = json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[0.5, -1]] }] });
	let said = gateway
		.completed(1, gateway.post(PATH, nested))
		.await
		.json();
	assert_eq!(said["outputs"], json!([output]));
}

#[tokio::test]
async fn tensors_may_be_binary_both_ways() {
	let gateway = Running::new().await;
	let head = json!({
		"inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": { "binary_data_size": 8 } }],
		"outputs": [{ "name": "y", "parameters": { "binary_data": true } }],
	});
	let head = head.to_string();
	let mut bytes = head.clone().into_bytes();
	[0.5f32, -1.0]
		.iter()
		.for_each(|v| bytes.extend(v.to_le_bytes()));
	let length = head.len().to_string();
	let headers = [(LENGTH, length.as_str())];
	let reply = gateway
		.completed(1, gateway.post_bytes(PATH, &headers, bytes.clone()))
		.await;
	assert_eq!(reply.headers["content-type"], "application/octet-stream");
	let own: usize = reply.headers[LENGTH].to_str().unwrap().parse().unwrap();
	let said: Value = serde_json::from_slice(&reply.bytes[..own]).unwrap();
	assert_eq!(said["outputs"][0]["parameters"]["binary_data_size"], 8);
	let values: Vec<u8> = [1.0f32, -2.0]
		.iter()
		.flat_map(|v| v.to_le_bytes())
		.collect();
	assert_eq!(reply.bytes[own..], values);
	// A length that is none, or of more than there is.
	for bad in ["x", "-1", "100000"] {
		let reply = gateway
			.post_bytes(PATH, &[(LENGTH, bad)], bytes.clone())
			.await;
		assert_eq!(reply.status, 400);
	}
	bytes.push(0);
	let reply = gateway.post_bytes(PATH, &headers, bytes).await;
	assert!(reply.text().contains("belong to no input"));
}

#[tokio::test]
async fn text_goes_in_one_tensor() {
	let gateway = Running::new().await;
	let call = with(
		text("Hi"),
		json!({ "parameters": { "max_tokens": 9, "temperature": 0.5, "stop": "x" } }),
	);
	let said = gateway
		.completed(1, gateway.post("/v2/models/chat/infer", call))
		.await
		.json();
	assert_eq!(said["outputs"][0]["data"], json!(["You said: Hi"]));
	assert_eq!(said["outputs"][0]["name"], "text");
	assert!(
		matches!(gateway.double.asked(1).input, Input::Chat { sampling, .. } if sampling.max_tokens == Some(9))
	);
	let raw = with(
		text("Hi"),
		json!({ "parameters": { "raw": true, "binary_data_output": true } }),
	);
	let reply = gateway
		.completed(1, gateway.post("/v2/models/chat/infer", raw))
		.await;
	assert!(reply.bytes.ends_with(b"\x0c\0\0\0You said: Hi"));
	assert!(matches!(
		gateway.double.asked(2).input,
		Input::Prompt { .. }
	));
	let said = gateway
		.completed(1, gateway.post("/v2/models/embed/infer", text("abc")))
		.await
		.json();
	assert_eq!(said["outputs"][0]["name"], "embedding");
	assert_eq!(said["outputs"][0]["data"][0], 3);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_field() {
	let gateway = Running::new().await;
	let input = |change: Value| json!({ "inputs": [with(body()["inputs"][0].clone(), change)] });
	for (change, says) in [
		(json!({ "inputs": [] }), "inputs is empty"),
		(json!({ "inputs": null }), "inputs is missing"),
		(json!({ "inputs": [3] }), "not an object"),
		(json!({ "x": 1 }), "unknown parameter \"x\""),
		(input(json!({ "shape": [3] })), "asks for 3 elements"),
		(input(json!({ "shape": [-1, 2] })), "inputs[0].shape"),
		(
			input(json!({ "shape": [4_294_967_295u32, 4_294_967_295u32, 9] })),
			"too large",
		),
		(input(json!({ "data": null })), "either data"),
		(
			input(json!({ "parameters": { "binary_data_size": 8 } })),
			"either data",
		),
		(
			input(json!({ "data": null, "parameters": { "binary_data_size": 8 } })),
			"ends before 8 bytes",
		),
		(
			input(json!({ "parameters": { "shared_memory_region": "x" } })),
			"shares no memory",
		),
		(input(json!({ "name": null })), "inputs[0].name is missing"),
		(
			json!({ "parameters": { "sequence_id": 3 } }),
			"keep nothing",
		),
		(json!({ "parameters": { "priority": 3 } }), "sets the order"),
		(
			json!({ "parameters": { "temperature": 1 } }),
			"parameters.temperature",
		),
		(
			json!({ "outputs": [{ "name": "y", "parameters": { "classification": 3 } }] }),
			"classification",
		),
	] {
		let reply = gateway.post(PATH, with(body(), change.clone())).await;
		assert_eq!(reply.status, 400, "{change}");
		let said = reply.json();
		assert!(
			said["error"].as_str().unwrap().contains(says),
			"{change}: {said}"
		);
	}
	for (path, body) in [
		("/v2/models/chat/infer", body()),
		("/v2/models/embed/infer", text("")),
		(
			"/v2/models/chat/infer",
			with(text("a"), json!({ "outputs": [{ "name": "y" }] })),
		),
		(
			"/v2/models/chat/infer",
			with(text("a"), json!({ "parameters": { "max_tokens": 600 } })),
		),
	] {
		assert_eq!(gateway.post(path, body).await.status, 400);
	}
	assert_eq!(
		gateway.post("/v2/models/none/infer", body()).await.status,
		404
	);
	assert_eq!(
		gateway.post("/v2/models/idle/infer", body()).await.status,
		503
	);
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn a_request_that_fails_is_an_error() {
	let gateway = Running::new().await;
	let chain = async {
		gateway.double.wait_for(1).await;
		gateway.double.fail(1, State::Expired);
	};
	let (reply, ()) = tokio::join!(gateway.post(PATH, body()), chain);
	assert_eq!(reply.status, 504);
	assert!(reply.json()["error"]
		.as_str()
		.unwrap()
		.starts_with("request 1 was not answered"));
	let missing = with(body(), json!({ "outputs": [{ "name": "z" }] }));
	let reply = gateway.completed(1, gateway.post(PATH, missing)).await;
	assert!(reply.text().contains("but y"));
}
