//! The session lane while half of a network cannot be reached.

use std::collections::BTreeMap;

use consilience_runtime::{BlockNumber, Hash, RuntimeEvent};
use consilience_tests::{cli, priced, quick, tiny_model, Client, Header, Network, Node, Options};
use jsonrpsee::rpc_params;
use serde_json::Value;

const REQUESTER: &str = "//Ferdie";
/// Thousandths of a coin that an answer costs: more than what is too little to be claimed.
const PRICE: u64 = 20;
/// Blocks that the other half builds.
const ALONE: BlockNumber = 4;
/// Blocks in which everything is claimed once all are back.
const BLOCKS: BlockNumber = 100;

/// Blocks are built and none is final, and people go on talking with those whom they reach. When the others are back, everybody claims
/// what it was promised, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_while_half_of_the_network_is_away_is_paid_once() {
	let network = Network::of_four_with(|_| Options::listening()).await;
	let folder = network.folder.path().join("models");
	let model = priced(quick(tiny_model(&folder, "tiny")), PRICE);
	let model = network.bring_up(&model, &[0, 1, 2, 3]).await;
	let node = &network.nodes[0];
	node.await_lanes(model.parse().expect("an id is a hash"), 4)
		.await;
	let wallet = network.folder.path().join("wallet").display().to_string();
	let opens = ["--suri", REQUESTER, "--deposit", "40"];
	// Whoever is away later has something to claim.
	ask(node, &model, &wallet, "2", &opens).await;
	ask(node, &model, &wallet, "2", &[]).await;

	let away = [2, 3];
	network.halt(&away, true).await;
	let last = best(&node.client).await;
	for _ in 0..3 {
		ask(node, &model, &wallet, "1", &[]).await;
	}
	let (channel, signed) = signed(&wallet).await;
	let channel = channel.to_string();
	let close = ["channel", "close", &channel, "--url", &node.url];
	let close = close.into_iter().chain(["--suri", REQUESTER]);
	let closed = cli(close).await.expect("it is this account's channel");
	let closed = closed["block"].as_u64().expect("a number") as BlockNumber;
	let built = last + ALONE;
	let client = &node.client;
	client
		.await_head("its own blocks", false, |head| head.number >= built)
		.await;
	assert!(
		finalised(client).await < built,
		"two of four do not finalise"
	);

	network.halt(&away, false).await;
	let mut block = last;
	let mut blamed = Vec::new();
	loop {
		block += 1;
		client.await_finalized(block).await;
		for (_, event) in client.events(client.hash(block).await).await {
			if let RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
				offender,
				kind,
				..
			}) = event
			{
				blamed.push((offender, kind));
			}
		}
		let show = ["channel", "show", &channel, "--url", &node.url];
		let shown = cli(show).await.expect("the channel is there");
		if claimed(&shown) == signed && !shown["closes_at"].is_null() {
			break;
		}
		assert!(block < closed + BLOCKS, "{shown}, signed {signed:?}");
	}
	assert_eq!(blamed, [], "nobody is to blame for an outage");
}

/// Asks, has so many check it, and expects that they find it right.
async fn ask(node: &Node, model: &str, wallet: &str, checks: &str, more: &[&str]) {
	let chat = [
		"chat", "--model", model, "--url", &node.url, "--wallet", wallet,
	];
	let how = [
		"--max-tokens",
		"8",
		"--temperature",
		"0",
		"--checks",
		checks,
	];
	let words = chat.into_iter().chain(how).chain(more.iter().copied());
	let done = cli(words.chain(["t7 t8 t9"])).await;
	let done = done.expect("it is answered");
	assert_eq!(done["status"], "checked", "{done}");
}

/// Number of a node's best block.
async fn best(client: &Client) -> BlockNumber {
	let header: Header = client.call("chain_getHeader", rpc_params![]).await;
	header.number
}

/// Number of a node's last finalised block.
async fn finalised(client: &Client) -> BlockNumber {
	let hash: Hash = client.call("chain_getFinalizedHead", rpc_params![]).await;
	let header: Header = client.call("chain_getHeader", rpc_params![hash]).await;
	header.number
}

/// A wallet's channel, and what it has signed away to each payee.
async fn signed(wallet: &str) -> (u64, BTreeMap<String, u128>) {
	let mut sums = BTreeMap::new();
	let mut channel = None;
	for number in 1..=5u32 {
		let number = number.to_string();
		let receipt = cli(["channel", "receipt", &number, "--wallet", wallet]).await;
		let receipt = receipt.expect("the wallet holds it");
		let payee = receipt["executor"].as_str().expect("an account").to_owned();
		*sums.entry(payee).or_default() += amount(&receipt["paid"]);
		channel = receipt["channel"].as_u64();
	}
	(channel.expect("a number"), sums)
}

/// What was claimed of a channel by each payee that was paid.
fn claimed(channel: &Value) -> BTreeMap<String, u128> {
	let allocations = channel["allocations"].as_array().expect("a list");
	allocations
		.iter()
		.map(|a| {
			let payee = a["payee"].as_str().expect("an account").to_owned();
			(payee, amount(&a["claimed"]))
		})
		.filter(|(_, claimed)| *claimed > 0)
		.collect()
}

fn amount(value: &Value) -> u128 {
	let text = value.as_str().and_then(|text| text.parse().ok());
	text.expect("an amount")
}
