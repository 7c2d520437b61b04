//! A fifth validator on a network of four, by the commands of docs/operators/validator.md: it joins, is elected, answers, drains, changes its
//! keys, and leaves. Sessions and eras are the shipped runtime's; the time of day is put forward.

use std::{collections::BTreeSet, path::Path, time::Duration};

use codec::Decode;
use consilience_primitives::{crypto::InferenceId, ModelId};
use consilience_runtime::{AccountId, MILLISECS_PER_BLOCK, UNIT};
use consilience_tests::{
	cli, free_address, infer, quick, tiny_model, within, Clock, Network, Node, Options,
};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	pallet_balances,
	sp_consensus_babe::Epoch,
	sp_core::{sr25519, Bytes, Pair},
};
use serde_json::Value;

/// Secret of the account whose stake the fifth validator has.
const FIFTH: &str = "//Fifth";
/// What it puts at stake, in CSL.
const BOND: &str = "1000";

/// Most sessions until an election counts: those of an era, and the two in which it is on its way.
const SESSIONS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_validator_joins_answers_changes_its_keys_and_leaves() {
	let files = tempfile::tempdir().expect("a folder for temporary files");
	let clock = Clock::new(files.path());
	let options = Options {
		variables: clock.variables(),
		..Options::listening()
	};
	let of = |_: &str| Options {
		variables: clock.variables(),
		..Options::listening()
	};
	let network = Network::of_four_with_room(1, of).await;
	let folder = quick(tiny_model(network.folder.path(), "tiny"));
	let model = network.bring_up(&folder, &[0, 1, 2, 3]).await;
	let metrics = free_address();
	let options = Options {
		metrics: Some(metrics),
		..options
	};

	let fifth = a_node_with_a_key_of_its_own(&network, &options).await;
	let account = a_validator_is_made_of_its_account(&network, &fifth).await;
	until_in_session(&network, &clock, &account, true).await;
	it_serves_and_answers(&network, &clock, &fifth, &model, &account).await;
	every_metric_that_is_named_is_there(&Node::metrics(metrics).await);
	drained_it_has_no_part_in_anything(&network, &fifth, &model, &account).await;
	its_new_keys_count_after_two_sessions(&network, &clock, &fifth, &model, &account).await;
	it_leaves(&network, &clock, fifth, &model, &account).await;
}

fn account(suri: &str) -> AccountId {
	let pair = sr25519::Pair::from_string(suri, None).expect("a development key");
	pair.public().into()
}

/// `consilience validator COMMAND` for the fifth validator's account, at a node.
async fn validator(node: &Node, command: &[&str]) -> Result<Value, String> {
	let place = ["--url", &node.url];
	let all = ["validator"].iter().chain(command).chain(&place);
	cli(all.copied()).await
}

async fn a_node_with_a_key_of_its_own(network: &Network, options: &Options) -> Node {
	let base = network.folder.path().join("fifth");
	let path = base.to_str().expect("the path is text");
	let nobody = format!("ws://{}", free_address());
	let here = ["--chain", network.chain(), "--base-path", path];
	let setup = ["validator", "setup", "--url", &nobody];
	let first = cli(setup.iter().chain(&here)).await;
	let first = first.expect("a node key can be made");
	assert_eq!(first["done"][0], "node key", "{first}");
	assert_eq!(first["left"][0], "node", "{first}");
	let again = cli(setup.iter().chain(&here)).await;
	let again = again.expect("it is there");
	assert_eq!(again["peer"], first["peer"], "a second key was made");
	assert_eq!(again["done"].as_array().map(Vec::len), Some(0), "{again}");

	let node = network.joining("fifth", base.clone(), options).await;
	let peer: String = node.client.call("system_localPeerId", rpc_params![]).await;
	assert_eq!(first["peer"], peer);
	// Another's node is not set up by mistake.
	let setup = ["validator", "setup", "--url", &network.nodes[1].url];
	let other = cli(setup.iter().chain(&here)).await;
	let other = other.expect_err("it has another node key");
	assert!(other.contains("it is another node"), "{other}");
	node.client.await_finalized(1).await;
	node
}

async fn a_validator_is_made_of_its_account(network: &Network, fifth: &Node) -> AccountId {
	let who = account(FIFTH);
	let base = fifth.base.to_str().expect("the path is text");
	let setup = [
		"setup",
		"--chain",
		network.chain(),
		"--base-path",
		base,
		"--bond",
		BOND,
	];
	let with = |more: &[&'static str]| {
		let all: Vec<_> = setup.iter().copied().chain(more.iter().copied()).collect();
		async move { validator(fifth, &all).await }
	};
	let poor = with(&["--suri", FIFTH]).await.expect_err("it has no money");
	assert!(poor.contains("has 0 CSL and needs"), "{poor}");
	let ferdie = sr25519::Pair::from_string("//Ferdie", None).expect("a development key");
	let transfer = pallet_balances::Call::transfer_keep_alive {
		dest: who.clone().into(),
		value: 2_000 * UNIT,
	};
	let client = &fifth.client;
	let sent = client.submit_final(&ferdie, transfer.into()).await;
	sent.expect("the node takes it");

	// Where the secret is elsewhere, the calls are shown; and the keys in them are those that a later run puts on chain.
	let address: &'static str = who.to_string().leak();
	let shown = with(&["--stash", address]).await.expect("nothing is sent");
	assert_eq!(shown["complete"], false, "{shown}");
	assert_eq!(shown["left"].as_array().map(Vec::len), Some(3), "{shown}");
	let made = with(&["--suri", FIFTH])
		.await
		.expect("everything can be done");
	assert_eq!(made["complete"], true, "{made}");
	assert_eq!(made["session_keys"], shown["session_keys"]);
	assert_eq!(made["validator"], address);
	let again = with(&["--suri", FIFTH]).await.expect("everything is done");
	assert_eq!(again["done"].as_array().map(Vec::len), Some(0), "{again}");
	assert_eq!(again["session_keys"], made["session_keys"]);

	// The same account at another node: two would speak for one validator.
	let twice = validator(&network.nodes[3], &["setup", "--suri", FIFTH]).await;
	let twice = twice.expect_err("another node has its keys");
	assert!(
		twice.contains("another node validates with them"),
		"{twice}"
	);
	who
}

/// Lets time pass until the next session has begun and that is final. Gives its validators.
async fn next_session(network: &Network, clock: &Clock) -> Vec<AccountId> {
	let client = &network.nodes[0].client;
	let head = client.await_head("the chain", false, |_| true).await;
	let call = rpc_params!["BabeApi_current_epoch", "0x", head.hash()];
	let epoch: Bytes = client.call("state_call", call).await;
	let epoch = Epoch::decode(&mut &epoch[..]).expect("the runtime is known");
	let end = (*epoch.start_slot + epoch.duration) * MILLISECS_PER_BLOCK;
	clock.forward_to(Duration::from_millis(end));
	let mut heads = client.heads(true).await;
	within("the next session", async {
		loop {
			let head = heads.next().await.expect("the node goes on");
			let at = head.expect("a header").hash();
			let call = rpc_params!["BabeApi_current_epoch", "0x", at];
			let now: Bytes = client.call("state_call", call).await;
			let now = Epoch::decode(&mut &now[..]).expect("the runtime is known");
			if now.epoch_index > epoch.epoch_index {
				return client.validators(at).await;
			}
		}
	})
	.await
}

/// Lets sessions pass until the account is one of the validators, or is none any more.
async fn until_in_session(network: &Network, clock: &Clock, who: &AccountId, wanted: bool) {
	for _ in 0..SESSIONS {
		if next_session(network, clock).await.contains(who) == wanted {
			return;
		}
	}
	panic!("not within {SESSIONS} sessions");
}

/// A question that all who can have a part in it do. Gives who had one.
async fn ask(network: &Network, model: &str, verifiers: &str) -> Vec<String> {
	let options = [
		"--prompt",
		"t5 t6 t7",
		"--raw",
		"--max-tokens",
		"8",
		"--verifiers",
		verifiers,
	];
	let answer = infer(&network.nodes[1], "//Ferdie", model, &options).await;
	let answer = answer.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	answer.committee()
}

async fn it_serves_and_answers(
	network: &Network,
	clock: &Clock,
	fifth: &Node,
	model: &str,
	who: &AccountId,
) {
	fifth.await_line("doing the duties of validator").await;
	assert_eq!(fifth.account().await, *who);
	serve(fifth, model).await;
	let healthy = clock
		.cli(["validator", "doctor", "--url", &fifth.url])
		.await;
	healthy.expect("nothing keeps it from its work");
	let committee = ask(network, model, "4").await;
	assert!(committee.contains(&who.to_string()), "{committee:?}");
}

/// Has the fifth validator serve the model, which it fetches from the others if it has to, and waits until the chain knows it.
async fn serve(fifth: &Node, model: &str) {
	let serve = cli(["model", "serve", model, "--url", &fifth.url]).await;
	serve.expect("the others have the model");
	let id: ModelId = model.parse().expect("an id is a hash");
	fifth.await_serving(id, |count| count == 5).await;
}

async fn drained_it_has_no_part_in_anything(
	network: &Network,
	fifth: &Node,
	model: &str,
	who: &AccountId,
) {
	let drained = validator(fifth, &["drain"])
		.await
		.expect("it has no more to do");
	assert_eq!(drained["withdrawn"][0], model, "{drained}");
	let committee = ask(network, model, "3").await;
	assert!(!committee.contains(&who.to_string()), "{committee:?}");
	let again = validator(fifth, &["drain"]).await.expect("nothing is due");
	assert_eq!(again["withdrawn"].as_array().map(Vec::len), Some(0));
	serve(fifth, model).await;
}

async fn its_new_keys_count_after_two_sessions(
	network: &Network,
	clock: &Clock,
	fifth: &Node,
	model: &str,
	who: &AccountId,
) {
	let rotated = validator(fifth, &["rotate-keys", "--suri", FIFTH]).await;
	let rotated = rotated.expect("new keys can be made");
	assert_eq!(
		(&rotated["counts"], &rotated["moved"]),
		(&false.into(), &false.into())
	);
	let keys = rotated["session_keys"].as_str().expect("keys are text");
	for _ in 0..2 {
		next_session(network, clock).await;
	}
	let client = &network.nodes[0].client;
	let at = client.await_head("a block", true, |_| true).await.hash();
	let counted: Option<Vec<(AccountId, InferenceId)>> =
		client.stored("Inference", "Keys", at).await;
	let counted = counted.expect("the session's keys are known");
	let own = counted.iter().find(|(account, _)| account == who);
	let (_, own) = own.expect("it is in the session");
	let own = Bytes(codec::Encode::encode(own));
	let own = serde_json::to_value(&own).expect("bytes can be written; qed");
	let own = own
		.as_str()
		.expect("bytes are text")
		.trim_start_matches("0x")
		.to_owned();
	assert!(keys.ends_with(&own), "{keys} does not end with {own}");
	// The node speaks with them.
	let committee = ask(network, model, "4").await;
	assert!(committee.contains(&who.to_string()), "{committee:?}");
}

async fn it_leaves(network: &Network, clock: &Clock, fifth: Node, model: &str, who: &AccountId) {
	let leave = ["leave", "--suri", FIFTH];
	let begun = validator(&fifth, &leave).await.expect("it may");
	assert_eq!(
		(&begun["in_session"], &begun["complete"]),
		(&true.into(), &false.into()),
		"{begun}"
	);
	assert_eq!(begun["unlocking"][0]["amount"], (1_000 * UNIT).to_string());
	until_in_session(network, clock, who, false).await;
	let gone = validator(&fifth, &leave).await.expect("it may");
	assert_eq!(gone["in_session"], false, "{gone}");
	assert_eq!(
		gone["complete"], false,
		"the stake can be slashed for a week yet: {gone}"
	);
	let keys = fifth
		.client
		.await_head("a block", false, |_| true)
		.await
		.hash();
	let left = fifth.client.entries("Session", "NextKeys", keys).await;
	assert_eq!(left, 4, "its session keys are still on chain");
	// The others do without it.
	drop(fifth);
	let id: ModelId = model.parse().expect("an id is a hash");
	network.nodes[0].await_serving(id, |count| count == 4).await;
	let committee = ask(network, model, "3").await;
	assert_eq!(committee.len(), 4);
}

/// Metrics named in a text: of this node, or of the SDK.
fn named(text: &str) -> BTreeSet<String> {
	let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
	let words = text.split(|c| !word(c));
	let ours = words.filter(|w| {
		(w.starts_with("consilience_") || w.starts_with("substrate_")) && !w.ends_with('_')
	});
	ours.map(str::to_owned).collect()
}

/// What is written of metrics is what the node gives.
fn every_metric_that_is_named_is_there(given: &str) {
	// Where the tests run; they may have been built in another clone that shares the target folder.
	let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and nextest set it");
	let read = |file: &str| {
		let path = Path::new(&here).join("..").join(file);
		std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
	};
	let types = given
		.lines()
		.filter_map(|line| line.strip_prefix("# TYPE "));
	let mut there = BTreeSet::new();
	for line in types {
		let (name, kind) = line.split_once(' ').expect("a name and a type");
		there.insert(name.to_owned());
		if kind == "histogram" {
			there.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
		}
	}
	let files = [
		"docs/operators/monitoring.md",
		"docs/operators/sessions.md",
		"docs/operators/models.md",
		"scripts/monitoring/alerts.yml",
		"scripts/monitoring/grafana.json",
	];
	for file in files {
		let missing: Vec<_> = named(&read(file)).difference(&there).cloned().collect();
		assert!(
			missing.is_empty(),
			"{file} names metrics that the node does not give: {missing:?}"
		);
	}
	let described = named(&read(files[0]));
	let ours = given
		.lines()
		.filter_map(|line| line.strip_prefix("# TYPE consilience_"));
	for line in ours {
		let name = format!("consilience_{}", line.split(' ').next().unwrap_or_default());
		assert!(
			described.contains(&name),
			"{} does not describe {name}",
			files[0]
		);
	}
}
