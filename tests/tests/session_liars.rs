//! Liars of the session lane, in a network of seven: what is not asked on chain is found on chain, and costs what it costs there.

use std::{
	collections::BTreeMap,
	path::{Path, PathBuf},
};

use consilience_runtime::{AccountId, BlockNumber, RuntimeEvent};
use consilience_tests::{cli, liars_binary, quick, tiny_model, Network, Node, Options};
use pallet_inference::features::offence::OffenceKind;
use pallet_sessions::Event;
use serde_json::{json, Value};

const REQUESTER: &str = "//Ferdie";
/// Thousandths of a coin that an answer costs: one point is drawn in every coin that is claimed.
const PRICE: u64 = 1_200;
/// Questions after which somebody with one in four draws must have been drawn: all but once in 30 million times.
const QUESTIONS: usize = 60;
/// Blocks in which a claim is drawn, opened, measured and judged.
const BLOCKS: BlockNumber = 150;

/// Who serves the model: three who are honest, an executor that answers falsely, and its accomplice.
const SERVING: [usize; 5] = [0, 1, 2, 3, 4];
const HONEST: usize = 1;
const LIAR: usize = 3;
const ACCOMPLICE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_false_answer_that_its_checker_vouches_for_costs_claim_and_stake() {
	let mut network = Network::of_seven_with(|_| Options::listening()).await;
	for index in [LIAR, ACCOMPLICE] {
		let mut options = Options::listening();
		options.program = liars_binary();
		options
			.arguments
			.extend(["--liar".into(), "collude".into()]);
		network.restart(index, &options).await;
		network.nodes[index].await_line("THIS VALIDATOR LIES").await;
	}
	let folder = network.folder.path().join("models");
	let model = dear(quick(tiny_model(&folder, "tiny")));
	let model = network.bring_up(&model, &SERVING).await;
	let node = &network.nodes[0];
	let id = model.parse().expect("an id is a hash");
	node.await_lanes(id, SERVING.len()).await;
	let [honest, liar, accomplice] = [
		network.nodes[HONEST].account().await,
		network.nodes[LIAR].account().await,
		network.nodes[ACCOMPLICE].account().await,
	];

	// Somebody honest is asked as well, by a client whose checkers are everybody else, the liars among them.
	let other = Wallet::open(node, &model, &network, "other", &honest).await;
	let right = other.ask(node, &model, "t7 t8 t9", 4).await;
	assert_eq!(right["status"], "checked", "{right}");
	assert_eq!(right["right"], 4, "{right}");

	// Where one checker is drawn, and is honest, the client learns that it was lied to. Where it is the accomplice it learns nothing.
	let wallet = Wallet::open(node, &model, &network, "deceived", &liar).await;
	let mut refuted = 0;
	let mut vouched = None;
	for n in 0..QUESTIONS {
		let question = format!("t{} t{} t{}", 2 + n % 40, 3 + n % 37, 5 + n % 31);
		let done = wallet.ask(node, &model, &question, 1).await;
		match done["status"].as_str() {
			Some("refuted") => refuted += 1,
			Some("checked") => vouched = done["number"].as_u64(),
			_ => panic!("{done}"),
		}
		if refuted > 0 && vouched.is_some() {
			break;
		}
	}
	assert!(refuted > 0, "nobody honest was drawn");
	let vouched = vouched.expect("the accomplice is drawn once");

	// The receipt holds what was signed, and whoever runs the model again sees it.
	let receipt = wallet.receipt(vouched).await;
	let file = network.folder.path().join("receipt.json");
	std::fs::write(&file, receipt.to_string()).expect("the test's folder is writable");
	let report = verify(node, &file).await;
	assert_eq!(report["verdict"], "wrong", "{report}");
	assert_eq!(report["standing"], "checked (1 of 1)", "{report}");
	assert_eq!(report["facts"], "chain", "{report}");
	assert_eq!(
		report["members"][0]["account"],
		accomplice.to_string(),
		"{report}"
	);
	assert!(report["members"][0]["false"].is_string(), "{report}");
	assert!(report["appeal"]["command"].is_string(), "{report}");

	// It puts that before a jury, and shows what the accomplice has signed.
	let judged = appeal(node, &file).await;
	assert_eq!(judged["status"], "overturned", "{judged}");
	assert_eq!(judged["executor"], liar.to_string(), "{judged}");

	// The chain measures what points fall on. What stands is paid two hours later.
	let (mut forfeited, mut stands, mut blamed) = (false, false, Vec::new());
	let mut claims = BTreeMap::new();
	let asked = node.client.await_finalized(1).await.number;
	let mut next = 1;
	let lied = [
		(liar.clone(), OffenceKind::FraudulentResult),
		(accomplice.clone(), OffenceKind::FraudulentEvidence),
	];
	while !(forfeited && stands && lied.iter().all(|deed| blamed.contains(deed))) {
		node.client.await_finalized(next).await;
		for (_, event) in node.client.events(node.client.hash(next).await).await {
			match event {
				RuntimeEvent::Sessions(Event::Claimed { claim, payee, .. }) => {
					claims.insert(claim, payee);
				}
				RuntimeEvent::Sessions(Event::ClaimForfeited { payee, .. }) => {
					assert_eq!(payee, liar);
					forfeited = true;
				}
				RuntimeEvent::Sessions(Event::AnswerStands { claim, .. }) => {
					assert_eq!(claims.get(&claim), Some(&honest));
					stands = true;
				}
				RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
					offender,
					kind,
					..
				}) => blamed.push((offender, kind)),
				_ => (),
			}
		}
		next += 1;
		assert!(
			next < asked + BLOCKS,
			"forfeited {forfeited}, stands {stands}, blamed {blamed:?}"
		);
	}
	// The accomplice may have been drawn to measure what was opened as well, and have vouched for it there too.
	assert!(
		blamed
			.iter()
			.all(|(who, _)| [&liar, &accomplice].contains(&who)),
		"{blamed:?}"
	);
}

/// Gives the model in a folder a price at which a few answers are drawn.
fn dear(folder: PathBuf) -> PathBuf {
	let path = folder.join("model.json");
	let card = std::fs::read(&path).expect("a model's folder has a card");
	let mut card: Value = serde_json::from_slice(&card).expect("a card is JSON");
	card["price"]["per_request"] = json!(PRICE * 1_000_000_000);
	std::fs::write(&path, card.to_string()).expect("the test's folder is writable");
	folder
}

/// A channel of its own, that pays one executor.
struct Wallet(String);

impl Wallet {
	async fn open(
		node: &Node,
		model: &str,
		network: &Network,
		name: &str,
		executor: &AccountId,
	) -> Self {
		let folder = network.folder.path().join(name).display().to_string();
		let executor = executor.to_string();
		let opened = cli([
			"channel",
			"open",
			"--model",
			model,
			"--url",
			&node.url,
			"--wallet",
			&folder,
			"--suri",
			REQUESTER,
			"--deposit",
			"120",
			"--executor",
			&executor,
		]);
		opened.await.expect("a channel can be opened");
		Self(folder)
	}

	/// Asks, and returns what came of it, also where the command fails because the answer is refuted.
	async fn ask(&self, node: &Node, model: &str, question: &str, checks: u32) -> Value {
		let checks = checks.to_string();
		let said = cli([
			"chat",
			"--model",
			model,
			"--url",
			&node.url,
			"--wallet",
			&self.0,
			"--max-tokens",
			"16",
			"--temperature",
			"0",
			"--checks",
			&checks,
			question,
		])
		.await;
		match said {
			Ok(done) => done,
			Err(output) => last_object(&output),
		}
	}

	async fn receipt(&self, number: u64) -> Value {
		let number = number.to_string();
		let receipt = cli(["channel", "receipt", &number, "--wallet", &self.0]);
		receipt.await.expect("the wallet holds it")
	}
}

/// `consilience verify` of a receipt, with the models of this node.
async fn verify(node: &Node, file: &Path) -> Value {
	let file = file.display().to_string();
	let base = node.base.display().to_string();
	let said = cli(["verify", &file, "--url", &node.url, "--base-path", &base]);
	match said.await {
		Ok(report) => report,
		Err(output) => last_object(&output),
	}
}

/// `consilience appeal` of a receipt: what became of it.
async fn appeal(node: &Node, file: &Path) -> Value {
	let file = file.display().to_string();
	let appealed = cli(["appeal", &file, "--url", &node.url, "--suri", REQUESTER]);
	appealed.await.expect("a jury decides")
}

/// The last line that is an object.
fn last_object(output: &str) -> Value {
	let objects = output
		.lines()
		.rev()
		.filter_map(|l| serde_json::from_str(l).ok());
	objects
		.into_iter()
		.find(Value::is_object)
		.unwrap_or_else(|| panic!("no object in {output}"))
}
