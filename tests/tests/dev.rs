//! One command is a chain for somebody who develops pallets: it registers and serves what is in its store, answers within a few blocks,
//! and says that nobody checked.

use consilience_rpc::ModelsRpcClient;
use consilience_tests::{cli, infer, quick, tiny_model, within, Node};

/// Most blocks from a request to its answer.
const SOON: u32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_developers_chain_answers_by_itself_and_says_that_nobody_checked() {
	let folder = tempfile::tempdir().expect("a folder for temporary files");
	let base = folder.path().join("dev");
	let model = quick(tiny_model(folder.path(), "tiny"));
	let import = [
		"model",
		"import",
		&model.display().to_string(),
		"--no-measure",
		"--base-path",
		&base.display().to_string(),
	];
	let imported = cli(import).await.expect("the model can be imported");
	let model = imported["model"].as_str().expect("an import gives an id");

	let node = Node::dev(base).await;
	node.await_line("CHECKED BY NOBODY").await;
	let id = model.parse().expect("an id is a hash");
	let mut heads = node.client.heads(false).await;
	within("the model is registered and served", async {
		loop {
			heads
				.next()
				.await
				.expect("the node goes on")
				.expect("a header");
			let found = node.client.rpc.get(id, None).await;
			if found
				.expect("the node answers")
				.is_some_and(|m| !m.serving.is_empty())
			{
				return;
			}
		}
	})
	.await;

	let asked = ["--prompt", "t1 t2 t3", "--raw", "--max-tokens", "4"];
	let answer = infer(&node, "//Bob", model, &asked)
		.await
		.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	assert_eq!(answer.0["checked"], false, "{}", answer.0);
	assert_eq!(answer.committee().len(), 1, "{}", answer.0);
	let took = answer.number("final_block") - answer.number("requested_block");
	assert!(took <= SOON, "{took} blocks: {}", answer.0);
}
