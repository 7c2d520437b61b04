//! The session lane in a network that is split: one of the two halves loses all the blocks that it built alone.

use std::collections::BTreeMap;

use consilience_runtime::{AccountId, BlockNumber, Hash, RuntimeEvent};
use consilience_tests::{
	amount, priced, quick, tiny_model, Client, Header, Network, Node, Options, Wallet,
};
use futures::future::join_all;
use jsonrpsee::rpc_params;
use serde_json::Value;

/// Thousandths of a coin that an answer costs: more than what is too little to be claimed.
const PRICE: u64 = 20;
/// Questions of each client before the split, and in it.
const BEFORE: u64 = 2;
const IN_IT: u64 = 3;
/// Blocks that each half builds after its clients have closed their channels.
const ALONE: BlockNumber = 4;
/// Blocks in which everything is claimed once all are joined.
const BLOCKS: BlockNumber = 100;

/// Both halves build blocks and neither finalises any. People go on talking, each with those on its side, and close their channels; their
/// executors claim. When the halves are joined, one of them loses its blocks: the channels closed in them, the claims, and what was drawn
/// of the claims. Everybody has what it was promised all the same, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_both_halves_of_a_split_network_answer_is_paid_once() {
	let network = Network::of_four_on_lines(|_| Options::listening()).await;
	let folder = network.folder.path().join("models");
	let model = priced(quick(tiny_model(&folder, "tiny")), PRICE);
	let model = network.bring_up(&model, &[0, 1, 2, 3]).await;
	let [here, there] = [0, 2].map(|index: usize| &network.nodes[index]);
	let id = model.parse().expect("an id is a hash");
	here.await_lanes(id, 4).await;
	there.await_lanes(id, 4).await;
	let accounts: Vec<AccountId> = join_all(network.nodes.iter().map(Node::account)).await;
	let [ours, theirs] = [[0, 1], [2, 3]].map(|side| side.map(|index: usize| &accounts[index]));
	let (one, other) = tokio::join!(
		Wallet::open(&network, here, &model, "//Ferdie", 40, &ours),
		Wallet::open(&network, there, &model, "//Eve", 40, &theirs),
	);
	let sides = [(here, &one), (there, &other)];
	for (node, wallet) in sides {
		// Each has something to claim before.
		for _ in 0..BEFORE {
			ask(wallet, node, &model, 2).await;
		}
	}

	network.split(&[2, 3]);
	let last = best(&here.client).await;
	let mut closed = 0;
	for (node, wallet) in sides {
		for _ in 0..IN_IT {
			ask(wallet, node, &model, 1).await;
		}
		closed = wallet.close(node).await.max(closed);
	}
	let built = closed + ALONE;
	for (node, _) in sides {
		let client = &node.client;
		client
			.await_head("its own blocks", false, |head| head.number >= built)
			.await;
		let final_ = finalised(client).await;
		assert!(final_ <= last, "two of four do not finalise {final_}");
	}
	let [ours, theirs] = [here, there].map(|node| node.client.hash(closed));
	assert_ne!(ours.await, theirs.await, "they build the same blocks");

	network.join();
	let mut block = finalised(&here.client).await;
	let mut blamed = Vec::new();
	loop {
		block += 1;
		here.client.await_finalized(block).await;
		let hash = here.client.hash(block).await;
		for (_, event) in here.client.events(hash).await {
			if let RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
				offender,
				kind,
				..
			}) = event
			{
				blamed.push((offender, kind));
			}
		}
		let mut settled = true;
		let mut known = Vec::new();
		for (_, wallet) in sides {
			let (shown, signed) = (wallet.show(here).await, wallet.signed(BEFORE + IN_IT).await);
			settled &= claimed(&shown) == signed && !shown["closes_at"].is_null();
			known.push((shown, signed));
		}
		if settled {
			break;
		}
		assert!(block < built + BLOCKS, "{known:?}");
	}
	assert_eq!(blamed, [], "nobody is to blame for a split");
}

/// Asks, has so many check it, and expects that they find it right.
async fn ask(wallet: &Wallet, node: &Node, model: &str, checks: u32) {
	let done = wallet.say(node, model, "t7 t8 t9", checks).await;
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
