//! Validators that cannot serve a model start, say so, validate, and are never drawn.

use consilience_primitives::model::ModelStatus;
use consilience_rpc::{InferenceRpcClient, ModelsRpcClient};
use consilience_tests::{infer, tiny_model, with_another_reference, within, Client, Network};
use consilience_worker::ServingState;
use polkadot_sdk::sp_runtime::traits::Header as _;

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_serve_a_model_says_so_validates_and_is_never_drawn() {
	let network =
		Network::start(&[("dave", ("ORT_DYLIB_PATH", "/nonexistent/libonnxruntime.so"))]).await;
	let folder = network.folder.path();
	let dave = &network.nodes[3];
	// Without the library: says what to do, and goes on.
	let line = dave.await_line("This node goes on as a validator").await;
	assert!(line.contains("ORT_DYLIB_PATH"), "{line}");

	let model = network
		.bring_up(&tiny_model(folder, "tiny"), &[0, 1, 2])
		.await;
	let id = model.parse().expect("an id is a hash");
	// Without the model: it is fetched from the others. With it, and still without the library, it is not served.
	let state = dave.client.rpc.serve(id).await.expect("the node answers");
	assert_eq!(state, ServingState::Fetching);
	let mut heads = dave.client.heads(false).await;
	let why = within("dave has the model", async {
		loop {
			heads
				.next()
				.await
				.expect("the node goes on")
				.expect("a header");
			let local = dave.client.rpc.local().await.expect("the node answers");
			let state = local.into_iter().find(|m| m.id == id).map(|m| m.state);
			if let Some(ServingState::Refused(why)) = state {
				return why;
			}
		}
	})
	.await;
	assert!(why.contains("ORT_DYLIB_PATH"), "{why}");

	// On a machine whose arithmetic gives other bits.
	let other = with_another_reference(&network.nodes[0].stored(&model), folder);
	let bob = &network.nodes[1];
	let other = bob
		.import(&other)
		.await
		.expect("the manifest is well-formed");
	bob.register(&other, "//Alice")
		.await
		.expect("it can be registered");
	let other_id = other.parse().expect("an id is a hash");
	bob.client
		.rpc
		.serve(other_id)
		.await
		.expect("the node answers");
	bob.await_line("does not reproduce").await;
	let local = bob.client.rpc.local().await.expect("the node answers");
	let state = local
		.into_iter()
		.find(|m| m.id == other_id)
		.expect("it is stored")
		.state;
	assert!(matches!(state, ServingState::Refused(_)), "{state:?}");

	let client = &network.nodes[0].client;
	let head = client.await_head("a block", false, |_| true).await;
	let validators = client.validators(head.hash()).await;
	let engine = dave
		.client
		.rpc
		.engine()
		.await
		.expect("the node runs a worker");
	let dave_account = engine.validator.expect("dave is in the session");
	for seed in 0..4 {
		let prompt = format!("t{} t3 t4", seed + 5);
		let options = ["--prompt", &prompt, "--raw", "--max-tokens", "8"];
		let answer = infer(&network.nodes[seed], "//Ferdie", &model, &options)
			.await
			.expect("three validators answer and check");
		assert_eq!(answer.text("status"), "final");
		assert!(
			!answer.committee().contains(&dave_account.to_string()),
			"{}",
			answer.0
		);
	}
	let registered = client
		.rpc
		.get(other_id, None)
		.await
		.expect("the node answers");
	let registered = registered.expect("it is registered");
	assert_eq!(
		(registered.status, registered.serving.len()),
		(ModelStatus::Registered, 0)
	);
	// Its owner sees on chain why.
	let engine = bob
		.client
		.rpc
		.engine()
		.await
		.expect("the node runs a worker");
	assert_eq!(
		Some(registered.differing),
		engine.validator.map(|bob| vec![bob])
	);

	// It validates: a block of its own is finalised.
	let position = validators
		.iter()
		.position(|v| *v == dave_account)
		.expect("dave is in the session");
	let authored = client
		.await_head("a block by dave", false, |h| {
			Client::author(h) == Some(position as u32)
		})
		.await;
	client.await_finalized(*authored.number()).await;
}
