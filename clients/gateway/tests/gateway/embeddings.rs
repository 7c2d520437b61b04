use consilience_gateway::network::{Answer, Tensor};
use data_encoding::BASE64;
use serde_json::{json, Value};

use crate::{client::Running, with};

const PATH: &str = "/v1/embeddings";

fn body() -> Value {
	json!({ "model": "embed", "input": "abc" })
}

#[tokio::test]
async fn texts_become_vectors_in_their_order() {
	let gateway = Running::new().await;
	let said = gateway
		.completed(1, gateway.post(PATH, body()))
		.await
		.json();
	assert_eq!(said["object"], "list");
	assert_eq!(said["data"][0]["embedding"], json!([3.0, 0.5, -1.0, 0.25]));
	assert_eq!(said["usage"]["total_tokens"], 3);
	let input = json!({ "input": ["a", "bb", "ccc"], "dimensions": 4, "encoding_format": "float" });
	let said = gateway
		.completed(3, gateway.post(PATH, with(body(), input)))
		.await
		.json();
	for (i, length) in [1.0, 2.0, 3.0].into_iter().enumerate() {
		assert_eq!(said["data"][i]["index"], i);
		assert_eq!(said["data"][i]["embedding"][0], length);
	}
	assert_eq!(said["consilience"]["requests"][2]["request"], 4);
}

#[tokio::test]
async fn vectors_may_be_base64() {
	let gateway = Running::new().await;
	let call = gateway.post(PATH, with(body(), json!({ "encoding_format": "base64" })));
	let said = gateway.completed(1, call).await.json();
	let bytes = BASE64
		.decode(said["data"][0]["embedding"].as_str().unwrap().as_bytes())
		.unwrap();
	let expected: Vec<u8> = [3.0f32, 0.5, -1.0, 0.25]
		.iter()
		.flat_map(|v| v.to_le_bytes())
		.collect();
	assert_eq!(bytes, expected);
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
	let gateway = Running::new().await;
	for (change, parameter) in [
		(json!({ "input": null }), "input"),
		(json!({ "input": "" }), "input"),
		(json!({ "input": [] }), "input"),
		(json!({ "input": ["a", ""] }), "input"),
		(json!({ "input": [1, 2] }), "input"),
		(json!({ "input": [[1, 2]] }), "input"),
		(json!({ "input": {} }), "input"),
		(json!({ "encoding_format": "int8" }), "encoding_format"),
		(json!({ "dimensions": 3 }), "dimensions"),
		(json!({ "dimensions": "4" }), "dimensions"),
		(json!({ "temperature": 1 }), "temperature"),
		(json!({ "model": "chat" }), "model"),
	] {
		let reply = gateway.post(PATH, with(body(), change.clone())).await;
		assert_eq!(reply.status, 400, "{change}");
		assert_eq!(reply.json()["error"]["param"], parameter, "{change}");
	}
	assert_eq!(gateway.double.count(), 0);
}

#[tokio::test]
async fn an_answer_that_is_no_vector_is_an_error() {
	let gateway = Running::new().await;
	let tensor = Tensor {
		name: "x".into(),
		shape: vec![1],
		datatype: "FP32".into(),
		data: json!([null]),
	};
	let chain = async {
		gateway.double.wait_for(1).await;
		let outputs = vec![tensor];
		gateway
			.double
			.answer_with(1, Answer::Tensors { outputs, units: 1 });
	};
	let headers = [("consilience-wait", "provisional")];
	let (reply, ()) = tokio::join!(gateway.post_with(PATH, &headers, body()), chain);
	assert_eq!(reply.status, 502);
}
