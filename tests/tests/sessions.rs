//! The session lane on four validators: a chat streams from one, two others check it, and the channel's vouchers are claimed on chain.

use codec::Decode;
use consilience_primitives::session::LaneView;
use consilience_runtime::{AccountId, RuntimeEvent};
use consilience_tests::{cli, free_address, model, within, Network, Node, Options};
use jsonrpsee::rpc_params;
use polkadot_sdk::sp_core::Bytes;
use serde_json::Value;

const REQUESTER: &str = "//Ferdie";

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_streamed_checked_and_claimed() {
	let listens = || Options {
		arguments: vec!["--session-listen".into(), free_address().to_string()],
		..Default::default()
	};
	let network = Network::of_four_with(|_| listens()).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let node = &network.nodes[0];
	await_lanes(node, &model, 4).await;

	let wallet = network.folder.path().join("wallet");
	let wallet = wallet.to_str().expect("the path is text");
	// The first opens the channel.
	let opens = ["--suri", REQUESTER, "--deposit", "10"];
	let first = chat(node, &model, wallet, &opens).await;
	let first = checked(&first);
	assert!(first.contains("Paris"), "{first}");
	// Another number has another seed, and at this temperature the model says the likeliest token.
	let again = chat(node, &model, wallet, &[]).await;
	assert_eq!(checked(&again), first);
	let all = chat(node, &model, wallet, &["--checks", "9"]).await;
	assert_eq!(all["status"], "checked", "{all}");
	assert_eq!(all["right"], 3, "as many as there are: {all}");

	// Whoever is owed something claims it before the channel is closed.
	let close = [
		"channel", "close", "0", "--url", &node.url, "--suri", REQUESTER,
	];
	let closed = cli(close).await.expect("it is this account's channel");
	let block = closed["block"].as_u64().expect("a number") as u32;
	let claimed = await_claim(node, block).await;
	let show = ["channel", "show", "0", "--url", &node.url];
	let shown = cli(show).await.expect("the channel is there");
	let pending: u128 = shown["pending"]
		.as_str()
		.and_then(|n| n.parse().ok())
		.expect("an amount");
	assert!(pending >= claimed && claimed > 0, "{shown}");
}

/// Asks in the session lane: what came of it.
async fn chat(node: &Node, model: &str, wallet: &str, rest: &[&str]) -> Value {
	let place = [
		"chat", "--model", model, "--url", &node.url, "--wallet", wallet,
	];
	let how = ["--max-tokens", "32", "--temperature", "0"];
	let question = ["What is the capital of France?"];
	let all = place.iter().chain(&how).chain(rest).chain(&question);
	cli(all).await.expect("an answer")
}

/// The text of an answer that two checkers confirmed.
fn checked(done: &Value) -> String {
	assert_eq!(done["status"], "checked", "{done}");
	assert_eq!(done["right"], 2, "{done}");
	done["answer"].as_str().expect("text").to_owned()
}

/// Waits until so many validators that serve the model take requests of the lane, in finalised state.
async fn await_lanes(node: &Node, model: &str, count: usize) {
	let mut heads = node.client.heads(true).await;
	within("all certify their lane keys", async {
		loop {
			let head = heads
				.next()
				.await
				.expect("the node goes on")
				.expect("a header");
			let id: consilience_primitives::ModelId = model.parse().expect("an id is a hash");
			let arguments = rpc_params!["SessionsApi_lanes", Bytes(id.0.to_vec()), head.hash()];
			let reply: Bytes = node.client.call("state_call", arguments).await;
			let lanes = Vec::<LaneView<AccountId>>::decode(&mut &reply[..]);
			if lanes.expect("the runtime is known").len() == count {
				return;
			}
		}
	})
	.await
}

/// Waits for a claim in a finalised block from this one on. Its amount.
async fn await_claim(node: &Node, from: u32) -> u128 {
	let mut next = from;
	loop {
		node.client.await_finalized(next).await;
		let hash = node.client.hash(next).await;
		for (_, event) in node.client.events(hash).await {
			if let RuntimeEvent::Sessions(pallet_sessions::Event::Claimed { amount, .. }) = event {
				return amount;
			}
		}
		next += 1;
		assert!(next < from + 100, "nobody claims anything");
	}
}
