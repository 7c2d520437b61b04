use crate::{client::Running, double::CHAT};

#[tokio::test]
async fn models_say_what_is_true_of_them() {
	let gateway = Running::new().await;
	let list = gateway.get("/v1/models").await.json();
	assert_eq!(list["object"], "list");
	let names: Vec<_> = list["data"]
		.as_array()
		.unwrap()
		.iter()
		.map(|m| m["id"].as_str().unwrap())
		.collect();
	// One that takes no requests is not for clients to choose.
	assert_eq!(names, ["chat", "embed", "double", "plain"]);
	let one = gateway.get("/v1/models/chat").await.json();
	assert_eq!(one, list["data"][0]);
	assert_eq!(
		(&one["object"], &one["created"]),
		(&"model".into(), &0.into())
	);
	let more = &one["consilience"];
	assert_eq!(more["id"], CHAT);
	assert_eq!(more["price"]["per_output_unit"], "20");
	assert_eq!(more["class"], "exact");
	assert_eq!(more["serving"], 4);
	assert_eq!(more["max_output_units"], 512);
	assert_eq!(more["default_max_tokens"], 256);
	assert_eq!(more["verification"]["positions"], 8);
	assert_eq!(more["license"], "Apache-2.0");
	// By its id it is the same, and one that does not answer is described all the same.
	assert_eq!(gateway.get(&format!("/v1/models/{CHAT}")).await.json(), one);
	let idle = gateway.get("/v1/models/idle").await.json();
	assert_eq!(idle["consilience"]["status"], "registered");
	let none = gateway.get("/v1/models/org/none").await;
	assert_eq!(
		(none.status.as_u16(), &none.json()["error"]["code"]),
		(404, &"model_not_found".into())
	);
}

#[tokio::test]
async fn namesakes_are_told_apart_by_their_ids() {
	let gateway = Running::new().await;
	gateway.double.add_model(|m| m.name = "chat".into());
	let list = gateway.get("/v1/models").await.json();
	let ids: Vec<_> = list["data"]
		.as_array()
		.unwrap()
		.iter()
		.map(|m| m["id"].as_str().unwrap())
		.collect();
	assert!(ids.contains(&CHAT) && !ids.contains(&"chat"), "{ids:?}");
	// A slash may be in a name.
	gateway
		.double
		.add_model(|m| (m.name, m.id) = ("org/name".into(), "0xab".into()));
	assert_eq!(
		gateway.get("/v1/models/org/name").await.json()["id"],
		"org/name"
	);
}

#[tokio::test]
async fn health_says_whether_the_node_answers() {
	let gateway = Running::new().await;
	assert_eq!(gateway.get("/health").await.status, 200);
	gateway.double.online(false);
	assert_eq!(gateway.get("/health").await.status, 503);
	assert_eq!(gateway.get("/v1/models").await.status, 503);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_refused() {
	let gateway = Running::new().await;
	for (path, status) in [
		("/v1/audio/speech", 404),
		("/v1/chat/completions", 405),
		("/", 404),
	] {
		let reply = gateway.get(path).await;
		assert_eq!(reply.status, status, "{path}");
		assert!(reply.json()["error"]["message"].is_string());
	}
	assert_eq!(gateway.get("/v1/messages").await.json()["type"], "error");
	assert_eq!(
		gateway.get("/v1/messages/batches").await.json()["error"]["type"],
		"not_found_error"
	);
	assert!(gateway.get("/v2/repository/index").await.json()["error"].is_string());
}

#[tokio::test]
async fn figures_are_counted() {
	let gateway = Running::new().await;
	let body = crate::chat("one two");
	gateway
		.completed(1, gateway.post(crate::CHAT_PATH, body))
		.await;
	gateway.post(crate::CHAT_PATH, serde_json::json!({})).await;
	// The request's end is counted after its client has been told.
	let figures = loop {
		let figures = gateway.get("/metrics").await;
		if figures
			.text()
			.contains("requests_ended_total{state=\"final\"} 1")
		{
			break figures.text().to_owned();
		}
		tokio::task::yield_now().await;
	};
	for line in [
		"consilience_gateway_requests_total{endpoint=\"/v1/chat/completions\",outcome=\"ok\"} 1",
		"consilience_gateway_requests_total{endpoint=\"/v1/chat/completions\",outcome=\"invalid_value\"} 1",
		"consilience_gateway_provisional_seconds_count{model=\"chat\"} 1",
		"consilience_gateway_final_seconds_count{model=\"chat\"} 1",
		"consilience_gateway_units_total{direction=\"in\",model=\"chat\"} 7",
		"consilience_gateway_units_total{direction=\"out\",model=\"chat\"} 5",
		"consilience_gateway_spent_csl_total{key=\"local\"} 0.0000000006",
		"consilience_gateway_requests_open 0",
	] {
		assert!(figures.contains(line), "{line} is not in\n{figures}");
	}
	let models = gateway.get("/v1/models").await.json();
	let measured = |n: usize| models["data"][n]["consilience"]["measured"].clone();
	assert_eq!(measured(0)["requests"], 1);
	assert!(measured(0)["median_seconds_to_final"].as_f64().is_some());
	assert!(measured(1).is_null());
}
