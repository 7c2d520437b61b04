//! Answers in a form, on four validators: a schema is followed in both lanes, others find the same masks, and what no answer can follow
//! ends as that.

use std::fs;

use consilience_primitives::{
	request::{Input, Message, Prompt, Role, Sampling, Unanswerable},
	sampling::{Constraint, ConstraintForm},
};
use consilience_tests::{cli, infer, model, Network, Options, RequestEvent, Story};
use serde_json::Value;

const REQUESTER: &str = "//Ferdie";

/// Everything in it ends by itself: no answer is cut.
const SCHEMA: &str = r#"{"type": "object", "properties": {"city": {"enum": ["Paris", "London", "Rome"]},
	"millions": {"type": "integer", "minimum": 0, "maximum": 99}, "capital": {"type": "boolean"}},
	"required": ["city", "millions", "capital"], "additionalProperties": false}"#;

/// What the schema describes, written as constraints write JSON.
fn follows(text: &str) {
	let said: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
	let city = said["city"].as_str().expect("a city");
	let millions = said["millions"].as_u64().expect("a number");
	let capital = said["capital"].as_bool().expect("it is said");
	assert!(["Paris", "London", "Rome"].contains(&city) && millions <= 99);
	let whole =
		format!("{{\"city\": \"{city}\", \"millions\": {millions}, \"capital\": {capital}}}");
	assert_eq!(text, whole, "and nothing else");
}

/// A question to which nothing can be said.
fn unsatisfiable() -> Input {
	let content = b"Which city?".to_vec();
	let message = Message {
		role: Role::User,
		content: content.try_into().expect("it is short"),
	};
	let prompt = Prompt::Chat(vec![message].try_into().expect("one message"));
	let sampling = Sampling {
		max_tokens: 8,
		..Default::default()
	};
	let constraint = Constraint::new(ConstraintForm::JsonSchema, "{\"enum\": []}");
	Input::text(prompt, sampling, Some(constraint.expect("it is text")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_followed_and_checked_in_both_lanes() {
	let network = Network::of_four_with(|_| Options::listening()).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let node = &network.nodes[0];
	let id = model.parse().expect("an id is a hash");
	node.await_lanes(id, 4).await;
	let schema = network.folder.path().join("schema.json");
	fs::write(&schema, SCHEMA).expect("the test's folder is writable");
	let schema = schema.to_str().expect("the path is text");
	let question = "Is Paris the capital of France, and how many live there?";

	// On chain: two others find that the executor's tokens are what the model says under the same masks.
	let form = ["--json-schema", schema, "--max-tokens", "48"];
	for temperature in ["0", "1.5"] {
		let options = ["--prompt", question, "--temperature", temperature];
		let options = [&form[..], &options].concat();
		let answer = infer(node, REQUESTER, &model, &options).await;
		let answer = answer.expect("an answer");
		assert_eq!(answer.text("status"), "final", "{}", answer.0);
		assert_eq!(answer.committee().len(), 3);
		follows(answer.text("output"));
	}

	// Streamed, and checked within a second by two.
	let wallet = network.folder.path().join("wallet");
	let wallet = wallet.to_str().expect("the path is text");
	let place = ["chat", "--model", &model, "--url", &node.url];
	let paid = ["--wallet", wallet, "--suri", REQUESTER, "--deposit", "10"];
	let said = ["--temperature", "1.5", question];
	let done = cli(place.iter().chain(&paid).chain(&form).chain(&said)).await;
	let done = done.expect("an answer");
	assert_eq!(done["status"], "checked", "{done}");
	assert_eq!(done["right"], 2, "{done}");
	follows(done["answer"].as_str().expect("text"));

	// The command line refuses what nobody can follow, before anything is paid; on chain it ends as that, and strikes nobody.
	let nothing = network.folder.path().join("nothing.json");
	fs::write(&nothing, "{\"enum\": []}").expect("the test's folder is writable");
	let nothing = nothing.to_str().expect("the path is text");
	let options = ["--prompt", question, "--json-schema", nothing];
	let refused = infer(node, REQUESTER, &model, &options).await;
	let refused = refused.expect_err("nothing satisfies it");
	assert!(refused.contains("constraint"), "{refused}");
	let client = &node.client;
	let questions = vec![unsatisfiable()];
	let (mut story, refused) = Story::ask_at_once(client, id, &[(REQUESTER, questions)], 2).await;
	assert_eq!((story.requests.len(), refused), (1, 0));
	story.to_the_end(client).await;
	let ends = story.all(|event| match event {
		RequestEvent::RequestUnanswerable {
			code, verifiers, ..
		} => Some((*code, verifiers.len())),
		_ => None,
	});
	assert_eq!(ends, [(Unanswerable::ConstraintRefused, 2)]);
	let at = story.events.last().expect("much has happened").0;
	let at = client.hash(at).await;
	let struck = client.entries("Inference", "Strikes", at).await;
	assert_eq!(struck, 0, "somebody was struck");
}
