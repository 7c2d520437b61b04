//! Models travel between real nodes, among which one lies, one goes away and one is killed.

use std::time::Duration;

use consilience_primitives::ModelId;
use consilience_rpc::ModelsRpcClient;
use consilience_tests::{
	cli, heavy, infer, liars_binary, quick, tiny_model, within, Network, Node, Options,
};
use consilience_transfer::Progress;
use consilience_worker::ServingState;
use futures::future::join_all;

/// Bytes of the model's largest file.
const SIZE: usize = 32 << 20;
/// Bytes that a node gives a second, so that there is a middle.
const RATE: u64 = 4 << 20;
/// The node that knows the model.
const FIRST: usize = 0;
/// Gives wrong bytes.
const LIAR: usize = 1;
/// Goes away while others fetch from it.
const LEAVER: usize = 2;
/// Is killed while it fetches.
const KILLED: usize = 3;

fn options(name: &str) -> Options {
	let mut options = Options {
		arguments: vec!["--model-upload-rate".into(), RATE.to_string()],
		..Options::default()
	};
	if name == consilience_tests::SEVEN[LIAR] {
		options.program = liars_binary();
		options.arguments.push("--liar-gives-wrong-bytes".into());
	}
	options
}

/// How far a model is at a node that fetches it.
async fn progress(node: &Node, model: ModelId) -> Option<Progress> {
	let models = node.client.rpc.local().await.expect("the node answers");
	models.into_iter().find(|m| m.id == model)?.fetching
}

/// Waits until a node has this much of a model, or all of it. Gives how much it has.
async fn has(node: &Node, model: ModelId, bytes: u64) -> Option<u64> {
	let mut heads = node.client.heads(false).await;
	within("a part of the model", async {
		loop {
			match progress(node, model).await {
				None if node.stored(&format!("{model:?}")).exists() => return None,
				Some(progress) if progress.done >= bytes => return Some(progress.done),
				_ => {}
			}
			// Blocks are too rare to see the middle of it.
			let _ = tokio::time::timeout(Duration::from_millis(100), heads.next()).await;
		}
	})
	.await
}

/// Bytes that a node fetched of its model, as it says when it has it.
async fn moved(node: &Node) -> u64 {
	let line = node.await_line("bytes from other nodes").await;
	let number = line
		.split(": fetched, ")
		.nth(1)
		.and_then(|rest| rest.split(' ').next());
	number
		.and_then(|n| n.parse().ok())
		.expect("the line has a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_has_a_model_and_six_serve_it_with_one_command_each() {
	let mut network = Network::of_seven_with(options).await;
	let folder = network.folder.path().join("models");
	let model = heavy(quick(tiny_model(&folder, "heavy")), SIZE);
	let first = &network.nodes[FIRST];
	let name = first
		.import(&model)
		.await
		.expect("the model can be imported");
	let model: ModelId = name.parse().expect("an id is a hash");

	// What its owner ends takes no more requests, and stays for a day: what it has answered may still be measured.
	let ended = first.import(&quick(tiny_model(&folder, "ended"))).await;
	let ended = ended.expect("the model can be imported");
	first
		.register(&ended, "//Alice")
		.await
		.expect("it can be registered");
	let of_owner = |command: &'static str| {
		let (ended, url) = (&ended, &first.url);
		async move { cli(["model", command, ended, "--suri", "//Alice", "--url", url]).await }
	};
	let reply = of_owner("deprecate").await.expect("the owner may");
	assert_eq!(reply["status"], "deprecated");
	let early = of_owner("unregister")
		.await
		.expect_err("it stays for a day");
	assert!(early.contains("DeprecatedTooRecently"), "{early}");

	// What nobody registered is nowhere to be had, and the reason is said.
	let unknown = network.nodes[LIAR].client.rpc.serve(model).await;
	let why = unknown.expect_err("the model is not on chain").to_string();
	assert!(why.contains("nor registered on chain"), "{why}");

	first
		.register(&name, "//Alice")
		.await
		.expect("it can be registered");
	first.client.rpc.serve(model).await.expect("it is stored");
	// Two fetch it from the one that has it, a third that is no validator too.
	let observer = network.observer().await;
	let url = observer.url.clone();
	// The block in which it was registered reaches them a moment later.
	for node in [&observer, &network.nodes[LIAR], &network.nodes[LEAVER]] {
		node.await_serving(model, |_| true).await;
	}
	let seed = cli(["model", "fetch", &name, "--url", &url]);
	for index in [LIAR, LEAVER] {
		let state = network.nodes[index].client.rpc.serve(model).await;
		assert_eq!(state.expect("the node fetches"), ServingState::Fetching);
	}
	let seeded = seed.await.expect("the observer fetches");
	assert_eq!(seeded["fetched"], true, "{seeded}");
	assert!(observer.stored(&name).is_dir());
	let size = moved(&network.nodes[LEAVER]).await;
	assert!(size >= SIZE as u64);
	moved(&network.nodes[LIAR]).await;

	// The others fetch at once, from four, of which one lies and one goes away.
	let others = [KILLED, 4, 5, 6];
	let serve = others.map(|index| {
		let url = network.nodes[index].url.clone();
		let name = name.clone();
		async move { cli(["model", "serve", &name, "--url", &url]).await }
	});
	let served = tokio::spawn(join_all(serve));
	let had = has(&network.nodes[KILLED], model, size / 8).await;
	let had = had.expect("the rate leaves time to see the middle");
	network.kill(LEAVER).await;
	network
		.restart(KILLED, &options(consilience_tests::SEVEN[KILLED]))
		.await;

	let served = served.await.expect("no command panics");
	for (index, reply) in others.iter().zip(served) {
		if *index != KILLED {
			let state = reply.expect("the command waits until the model is there");
			assert_ne!(state["state"]["state"], "refused", "{state}");
		}
	}
	// Whoever was killed goes on by itself, with what it had.
	let rest = moved(&network.nodes[KILLED]).await;
	assert!(rest <= size - had, "{rest} of {size}, and it had {had}");
	for index in [4, 5, 6] {
		assert_eq!(
			moved(&network.nodes[index]).await,
			size,
			"all of it comes from others"
		);
	}
	let found = [KILLED, 4, 5, 6].map(|i| network.nodes[i].lines("gave bytes that are not").len());
	assert!(
		found.iter().sum::<usize>() > 0,
		"the liar was asked, and found"
	);

	// The first one and all that fetched reproduce the reference, which no wrong byte would let them. The leaver is away.
	network.nodes[FIRST]
		.await_serving(model, |count| count >= 6)
		.await;
	let options = ["--prompt", "t5 t6", "--raw", "--max-tokens", "4"];
	let answer = infer(&network.nodes[4], "//Ferdie", &name, &options).await;
	let answer = answer.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
}
