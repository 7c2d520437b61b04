//! One command is a chain for somebody who develops pallets: it registers and serves what is in its store, answers within a few blocks,
//! and says that nobody checked. Whoever asked can watch every step, and prove the result to whoever knows the block alone.

use codec::{Decode, DecodeAll, Encode};
use consilience_primitives::{
	request::{Output, StoredInput},
	view::RequestState,
};
use consilience_rpc::{code, InferenceRpcClient, JsonOutput, ModelsRpcClient, Proof, Step};
use consilience_runtime::{Hash, Header, Runtime};
use consilience_tests::{cli, infer, quick, tiny_model, within, Node};
use jsonrpsee::{core::ClientError, rpc_params};
use polkadot_sdk::{
	sp_core::H256,
	sp_runtime::traits::{BlakeTwo256, Hash as _},
	sp_state_machine::{read_proof_check, StorageProof},
};

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

	let asked = [&asked[..], &["--no-wait"]].concat();
	let asked = infer(&node, "//Bob", model, &asked).await;
	let request = asked.expect("a request").number("request").into();
	watched(&node, request).await;
	let proof = node.client.rpc.proof(request, None).await;
	let proof = proof.expect("the node proves what is final");
	proven(&node, &proof).await;
	refused(&node, request).await;
}

/// Every state is told of once, in a block of its own that is finalised afterwards, and then nothing more.
async fn watched(node: &Node, request: u64) {
	let mut watch = node.client.rpc.watch(request).await.expect("a watch");
	let mut told = Vec::new();
	let mut finalized = Vec::new();
	let ended = within("the end of the request", async {
		loop {
			let step = watch.next().await.expect("the node goes on");
			match step.expect("a step") {
				Step::Step { block, request } => told.push((block, request.state)),
				Step::Finalized { block, state } => finalized.push((block, state)),
				Step::Ended { block, state } => return (block, state),
				Step::Retracted { block, .. } => panic!("one author makes no forks: {block:?}"),
			}
		}
	})
	.await;
	assert_eq!(told, finalized, "in the same order");
	assert_eq!(told.last(), Some(&ended));
	let mut states: Vec<_> = told.iter().map(|(_, state)| *state).collect();
	states.dedup();
	use RequestState::{Assigned, Final, Provisional, Requested};
	assert_eq!(states, [Requested, Assigned, Provisional, Final]);
	for (block, _) in told {
		assert_eq!(node.client.hash(block.number).await, block.hash);
	}
	// One that is over is told from its beginning, too.
	let mut again = node.client.rpc.watch(request).await.expect("a watch");
	let first = within("its first step", again.next()).await;
	let first = first.expect("the node goes on").expect("a step");
	let Step::Step { request, .. } = first else {
		panic!("{first:?}")
	};
	assert_eq!(request.state, Requested);
}

/// The proof leads from the block's hash alone to what was answered, and to nothing else.
async fn proven(node: &Node, proof: &Proof) {
	let header = Header::decode_all(&mut &proof.header[..]).expect("a header");
	assert_eq!(BlakeTwo256::hash_of(&header), proof.block.hash);
	assert_eq!(header.state_root, proof.state_root);
	let entries = [
		&proof.entries.request,
		&proof.entries.input,
		&proof.entries.output,
	];
	let check = |root: Hash, nodes: Vec<Vec<u8>>| {
		let keys = entries.iter().map(|entry| &entry.key[..]);
		read_proof_check::<BlakeTwo256, _>(root, StorageProof::new(nodes), keys)
	};
	let nodes: Vec<_> = proof.proof.iter().map(|node| node.to_vec()).collect();
	let values = check(proof.state_root, nodes.clone()).expect("a proof");
	for entry in entries {
		let value = entry.value.clone().expect("there is one").to_vec();
		assert_eq!(values[&entry.key.to_vec()], Some(value));
	}
	assert!(check(H256::zero(), nodes.clone()).is_err(), "another state");
	for left_out in 0..nodes.len() {
		let mut fewer = nodes.clone();
		fewer.remove(left_out);
		assert!(check(proof.state_root, fewer).is_err(), "no node is idle");
	}

	// The keys are those of the pallet, and what they hold is what the node says.
	use pallet_inference::{Inputs, Outputs, Requests};
	let id = proof.request.id;
	assert_eq!(
		entries.map(|entry| entry.key.to_vec()),
		[
			Requests::<Runtime>::hashed_key_for(id),
			Inputs::<Runtime>::hashed_key_for(id),
			Outputs::<Runtime>::hashed_key_for(id),
		]
	);
	fn value<T: Decode>(entry: &consilience_rpc::Entry) -> T {
		T::decode_all(&mut &entry.value.as_ref().expect("there is one")[..]).expect("it decodes")
	}
	let stored: pallet_inference::RequestOf<Runtime> = value(entries[0]);
	assert_eq!(stored.state, RequestState::Final);
	assert_eq!(stored.executor, proof.request.executor);
	let input: StoredInput = value(entries[1]);
	assert_eq!(proof.request.input, (&input).into());
	let output: Output = value(entries[2]);
	assert_eq!(proof.request.output, Some(JsonOutput::from(&output)));
	// As `state_getReadProof` has it.
	let keys: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
	let read: serde_json::Value = node
		.client
		.call("state_getReadProof", rpc_params![keys, proof.block.hash])
		.await;
	let sorted = |nodes: serde_json::Value| {
		let mut nodes: Vec<String> = serde_json::from_value(nodes).expect("a list");
		nodes.sort();
		nodes
	};
	let ours = serde_json::to_value(&proof.proof).expect("JSON");
	assert_eq!(sorted(read["proof"].clone()), sorted(ours));
	assert_eq!(proof.header[..], header.encode());
}

/// What cannot be proven or watched is refused in words.
async fn refused(node: &Node, request: u64) {
	fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (i32, String) {
		match result {
			Err(ClientError::Call(e)) => (e.code(), e.message().to_owned()),
			other => panic!("{other:?}"),
		}
	}
	let rpc = &node.client.rpc;
	let (code, words) = refusal(rpc.proof(request + 1, None).await);
	assert_eq!(code, code::UNKNOWN_REQUEST, "{words}");
	let (code, words) = refusal(rpc.watch(request + 1).await.map(|_| ()));
	assert_eq!(code, code::UNKNOWN_REQUEST, "{words}");
	let (code, words) = refusal(rpc.proof(request, Some(H256::repeat_byte(7))).await);
	assert_eq!(code, code::UNKNOWN_BLOCK, "{words}");
	// The request was not there yet.
	let genesis = node.client.hash(0).await;
	let (code, words) = refusal(rpc.proof(request, Some(genesis)).await);
	assert_eq!(code, code::UNKNOWN_REQUEST, "{words}");

	let mut heads = node.client.heads(false).await;
	let (_, words) = within("a block before its finality", async {
		loop {
			let head = heads.next().await.expect("the node goes on");
			let hash = head.expect("a header").hash();
			if let Err(e) = rpc.proof(request, Some(hash)).await {
				let (code, words) = refusal(Err::<(), _>(e));
				if code == code::NOT_FINALIZED {
					return (code, words);
				}
			}
		}
	})
	.await;
	assert!(words.contains("Wait for its finality"), "{words}");
}
