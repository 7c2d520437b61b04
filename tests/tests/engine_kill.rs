//! An engine process is killed while it works: the request still becomes final, and its validator goes on authoring.

use consilience_primitives::view::RequestState;
use consilience_rpc::InferenceRpcClient;
use consilience_tests::{infer, model, within, Client, Network};
use nix::{
	sys::signal::{kill, Signal},
	unistd::Pid,
};
use polkadot_sdk::sp_runtime::traits::Header as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_stops_neither_the_request_nor_block_production() {
	let network = Network::start(&[]).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let client = &network.nodes[0].client;
	let options = [
		"--prompt",
		"Tell a long story about a lighthouse.",
		"--max-tokens",
		"160",
		"--no-wait",
	];
	let asked = infer(&network.nodes[0], "//Ferdie", &model, &options)
		.await
		.expect("a request");
	let request = u64::from(asked.number("request"));

	let mut life = client
		.rpc
		.subscribe_request(request)
		.await
		.expect("the node follows the request");
	let executor = within("an executor", async {
		loop {
			let update = life
				.next()
				.await
				.expect("the request is not settled")
				.expect("an update");
			assert!(!update.request.state.is_settled(), "{:?}", update.request);
			if let (RequestState::Assigned, Some(executor)) =
				(update.request.state, update.request.executor)
			{
				return executor;
			}
		}
	})
	.await;

	// Kill the executor's engine while it generates.
	let mut victim = None;
	for (index, node) in network.nodes.iter().enumerate() {
		let engine = node
			.client
			.rpc
			.engine()
			.await
			.expect("the node runs a worker");
		if engine.validator.as_ref() == Some(&executor) {
			victim = Some((index, engine.pid.expect("the engine runs")));
		}
	}
	let (index, pid) = victim.expect("the executor is one of the four");
	let node = &network.nodes[index];
	within("the executor is at work", async {
		let mut heads = node.client.heads(false).await;
		while node
			.client
			.rpc
			.engine()
			.await
			.expect("the node answers")
			.running == 0
		{
			heads
				.next()
				.await
				.expect("the node goes on")
				.expect("a header");
		}
	})
	.await;
	kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the engine is our child's child");
	node.await_line("engine process").await;

	let last = within("the end of the request", async {
		loop {
			let update = life
				.next()
				.await
				.expect("the request has an end")
				.expect("an update");
			if update.finalized && update.request.state.is_settled() {
				return update;
			}
		}
	})
	.await;
	assert_eq!(
		last.request.state,
		RequestState::Final,
		"{:?}",
		last.request
	);
	assert!(last.request.verifiers.len() >= 2);

	let engine = node.client.rpc.engine().await.expect("the node answers");
	assert!(engine.restarts >= 1);
	assert_ne!(engine.pid, Some(pid), "another process took its place");

	// The validator whose engine died authors, and others finalise it.
	let head = client.await_head("a block", false, |_| true).await;
	let validators = client.validators(head.hash()).await;
	let position = validators
		.iter()
		.position(|v| *v == executor)
		.expect("it is in the session");
	let authored = client
		.await_head("a block by the validator", false, |h| {
			Client::author(h) == Some(position as u32)
		})
		.await;
	client.await_finalized(*authored.number()).await;
}
