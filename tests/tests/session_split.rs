//! The session lane of a network that falls apart and meets again.

use std::{collections::BTreeMap, path::PathBuf};

use consilience_runtime::{BlockNumber, Hash, RuntimeEvent};
use consilience_tests::{cli, quick, tiny_model, Client, Header, Network, Node, Options};
use jsonrpsee::rpc_params;
use serde_json::{json, Value};

const REQUESTER: &str = "//Ferdie";
/// Thousandths of a coin that an answer costs: more than what is too little to be claimed.
const PRICE: u64 = 20;
/// Blocks that each half builds alone.
const ALONE: BlockNumber = 4;
/// Blocks in which everything is claimed once they have met again.
const BLOCKS: BlockNumber = 100;

/// Both halves build blocks, nothing is final, and people go on talking: by a node of either half. When the halves meet again, the
/// blocks of one are undone, and what was claimed in them is claimed again, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_while_the_network_is_split_is_paid_once() {
	let options = Options {
		reserved: true,
		..Options::listening()
	};
	let network = Network::of_four_with(|_| options.clone()).await;
	let model = priced(quick(tiny_model(
		&network.folder.path().join("models"),
		"tiny",
	)));
	let model = network.bring_up(&model, &[0, 1, 2, 3]).await;
	let [near, .., far] = &network.nodes[..] else {
		panic!("a network of four")
	};
	near.await_lanes(model.parse().expect("an id is a hash"), 4)
		.await;
	let wallet = network.folder.path().join("wallet").display().to_string();
	let opens = ["--suri", REQUESTER, "--deposit", "40"];
	ask(near, &model, &wallet, &opens).await;

	let ([together, _], [apart, _]) = ([0, 1], [2, 3]);
	let last = best(&near.client).await;
	network.split(&[0, 1], &[2, 3]).await;
	for node in [together, apart] {
		let client = &network.nodes[node].client;
		client
			.await_head("its own blocks", false, |head| head.number >= last + ALONE)
			.await;
	}
	let mut blocks = Vec::new();
	for node in [together, apart] {
		blocks.push(network.nodes[node].client.hash(last + ALONE).await);
	}
	assert_ne!(blocks[0], blocks[1], "they do not hear of each other");
	for node in [near, far, near, far] {
		ask(node, &model, &wallet, &[]).await;
	}
	let signed = signed(&wallet).await;
	let channel = signed.0.to_string();
	let close = ["channel", "close", &channel, "--url", &near.url];
	let close = close.into_iter().chain(["--suri", REQUESTER]);
	let closed = cli(close).await.expect("it is this account's channel");
	let closed = closed["block"].as_u64().expect("a number") as BlockNumber;
	assert!(
		finalised(&near.client).await < last + ALONE,
		"two of four do not finalise"
	);

	network.join(&[0, 1, 2, 3]).await;
	let mut block = last;
	let mut blamed = Vec::new();
	loop {
		block += 1;
		far.client.await_finalized(block).await;
		for (_, event) in far.client.events(far.client.hash(block).await).await {
			if let RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
				offender,
				kind,
				..
			}) = event
			{
				blamed.push((offender, kind));
			}
		}
		let show = ["channel", "show", &channel, "--url", &far.url];
		let shown = cli(show).await.expect("the channel is there");
		if claimed(&shown) == signed.1 && !shown["closes_at"].is_null() {
			break;
		}
		assert!(block < closed + BLOCKS, "{shown}, signed {:?}", signed.1);
	}
	let chosen = far.client.hash(last + ALONE).await;
	assert_eq!(near.client.hash(last + ALONE).await, chosen);
	assert!(blocks.contains(&chosen), "one half's blocks were undone");
	assert_eq!(blamed, [], "nobody is to blame for a split");
}

/// Asks, has two check it, and expects that they find it right.
async fn ask(node: &Node, model: &str, wallet: &str, more: &[&str]) {
	let chat = [
		"chat", "--model", model, "--url", &node.url, "--wallet", wallet,
	];
	let how = ["--max-tokens", "8", "--temperature", "0", "--checks", "2"];
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

/// Gives the model in a folder this price.
fn priced(folder: PathBuf) -> PathBuf {
	let path = folder.join("model.json");
	let card = std::fs::read(&path).expect("a model's folder has a card");
	let mut card: Value = serde_json::from_slice(&card).expect("a card is JSON");
	card["price"]["per_request"] = json!(PRICE * 1_000_000_000);
	std::fs::write(&path, card.to_string()).expect("the test's folder is writable");
	folder
}
