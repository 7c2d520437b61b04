//! The session lane on four validators: a chat streams from one, two others check it, and the channel's vouchers are claimed on chain.
//! Client, executor, checker, and the client's node are killed in the middle of it.

use std::{collections::BTreeMap, process::Stdio};

use consilience_runtime::{AccountId, RuntimeEvent, UNIT};
use consilience_tests::{amount, cli, model, paid, receipt, within, Network, Node, Options, NAMES};
use serde_json::{json, Value};
use tokio::{
	io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
	process::{Child, ChildStdout, Command},
};

const REQUESTER: &str = "//Ferdie";

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_streamed_checked_and_claimed_and_an_executor_may_be_killed() {
	// A validator that is started again is where it was certified to be.
	let options: BTreeMap<_, _> = NAMES.map(|name| (name, Options::listening())).into();
	let mut network = Network::of_four_with(|name| options[name].clone()).await;
	let model = network
		.bring_up(&model("smollm2-135m-instruct-int8"), &[0, 1, 2, 3])
		.await;
	let node = &network.nodes[0];
	node.await_lanes(model.parse().expect("an id is a hash"), 4)
		.await;

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
	// What nobody has earned comes back at once, but for what is set apart for checkers.
	let close = [
		"channel", "close", "0", "--now", "--url", &node.url, "--suri", REQUESTER,
	];
	let closed = cli(close).await.expect("it is this account's channel");
	assert_eq!(closed["left"], json!([]), "{closed}");
	let returned = amount(&closed["returned"]);
	assert!(returned > UNIT * 7 && returned < UNIT * 15 / 2, "{closed}");
	let block = closed["block"].as_u64().expect("a number") as u32;
	let (_, claimed) = await_claim(node, block, |_| true).await;
	let show = ["channel", "show", "0", "--url", &node.url];
	let shown = cli(show).await.expect("the channel is there");
	let pending: u128 = shown["pending"]
		.as_str()
		.and_then(|n| n.parse().ok())
		.expect("an amount");
	assert!(pending >= claimed && claimed > 0, "{shown}");
	an_executor_is_killed_in_the_middle(&mut network, &model, &options).await;
}

/// Another answers, and whoever was killed claims what it was paid before once it is back, and no more.
async fn an_executor_is_killed_in_the_middle(
	network: &mut Network,
	model: &str,
	options: &BTreeMap<&str, Options>,
) {
	// Whoever has just been started does not know its own yet.
	let everybody = accounts(network).await;
	let node = &network.nodes[0];
	let wallet = network.folder.path().join("interrupted");
	let wallet = wallet.to_str().expect("the path is text").to_owned();
	let accounts = [
		network.nodes[1].account().await,
		network.nodes[2].account().await,
	];
	let [one, two] = accounts.clone().map(|a| a.to_string());
	let open = [
		"channel",
		"open",
		"--model",
		model,
		"--url",
		&node.url,
		"--wallet",
		&wallet,
		"--suri",
		REQUESTER,
		"--executor",
		&one,
		"--executor",
		&two,
	];
	let opened = cli(open).await.expect("a channel can be opened");
	let channel = opened["channel"].as_u64().expect("a number").to_string();

	let mut events = a_client_is_killed_in_the_middle(node, model, &wallet).await;
	let first = events.next("started").await["executor"].clone();
	events.until_a_slice_is_paid().await;
	let killed = 1 + accounts
		.iter()
		.position(|a| first == a.to_string())
		.expect("one of the two");
	network.kill(killed).await;
	let failed = events.next("failed").await;
	assert_eq!(failed["executor"], first, "{failed}");
	let second = events.next("started").await;
	assert_ne!(second["executor"], first, "{second}");
	let done = events.next("done").await;
	assert_eq!(done["status"], "checked", "{done}");
	assert_eq!(done["right"], 2, "whoever is gone is passed over: {done}");

	network
		.restart(killed, &options[NAMES[killed]].clone())
		.await;
	a_checker_is_killed_while_it_checks(network, model, &wallet, (options, &everybody)).await;
	a_client_loses_its_node(network, model, &wallet).await;
	let node_url = network.nodes[0].url.clone();
	let close = [
		"channel", "close", &channel, "--url", &node_url, "--suri", REQUESTER,
	];
	let closed = cli(close).await.expect("it is this account's channel");
	let block = closed["block"].as_u64().expect("a number") as u32;
	let payee = accounts[killed - 1].clone();
	let node = &network.nodes[0];
	let (_, claimed) = await_claim(node, block, |who| *who == payee).await;
	let signed = signed(&wallet, &payee).await;
	// The last payments may have come to nobody.
	assert!(claimed <= signed, "{claimed} of {signed}");
}

/// The next is asked in its place, and once it is back it checks again.
async fn a_checker_is_killed_while_it_checks(
	network: &mut Network,
	model: &str,
	wallet: &str,
	(options, accounts): (&BTreeMap<&str, Options>, &[String]),
) {
	let mut events = Events::of(&network.nodes[0], model, wallet);
	// Two are asked at once, and one of them is not the node through which the others find each other.
	let killed = loop {
		let asked = events.next("checking").await;
		let index = accounts.iter().position(|a| asked["checker"] == *a);
		match index.expect("a validator of the network") {
			0 => continue,
			index => break index,
		}
	};
	network.kill(killed).await;
	let skipped = events.next("skipped").await;
	assert_eq!(skipped["checker"], accounts[killed], "{skipped}");
	let done = events.next("done").await;
	assert_eq!(done["status"], "checked", "{done}");
	assert_eq!(done["right"], 2, "the next is asked: {done}");

	network
		.restart(killed, &options[NAMES[killed]].clone())
		.await;
	let all = chat(&network.nodes[0], model, wallet, &["--checks", "3"]).await;
	assert_eq!(all["right"], 3, "whoever was killed checks again: {all}");
}

/// It is told so, and goes on with another node: what came is kept, and nothing is paid twice.
async fn a_client_loses_its_node(network: &mut Network, model: &str, wallet: &str) {
	// Not an executor of the channel.
	let own = 3;
	let mut events = Events::of(&network.nodes[own], model, wallet);
	let number = number_of(&events.next("started").await);
	events.until_a_slice_is_paid().await;
	network.kill(own).await;
	let said = events.fails().await;
	assert!(said.contains("node"), "{said}");
	let broken = receipt(wallet, number).await;
	let promised = paid(&broken);
	assert!(promised > 0, "{broken}");

	let done = chat(&network.nodes[0], model, wallet, &[]).await;
	assert_eq!(done["status"], "checked", "{done}");
	assert!(done["number"].as_u64() > broken["number"].as_u64());
	let kept = receipt(wallet, number).await;
	let text = |receipt: &Value| receipt["answer"].as_str().unwrap_or_default().to_owned();
	assert!(text(&kept).starts_with(&text(&broken)), "{kept}");
}

/// Accounts of the validators, as text.
async fn accounts(network: &Network) -> Vec<String> {
	let mut accounts = Vec::new();
	for node in &network.nodes {
		accounts.push(node.account().await.to_string());
	}
	accounts
}

/// A request's number.
fn number_of(event: &Value) -> u64 {
	event["number"].as_u64().expect("a number")
}

/// What a wallet has signed away to a payee for answers.
async fn signed(wallet: &str, payee: &AccountId) -> u128 {
	let list = Command::new(consilience_tests::binary())
		.args(["channel", "receipt", "--wallet", wallet, "--json"])
		.output();
	let list = list.await.expect("the binary runs; qed");
	let list = String::from_utf8(list.stdout).expect("JSON is text");
	let lines = list
		.lines()
		.map(|line| -> Value { serde_json::from_str(line).expect("a line is an object") });
	let own = lines.filter(|line| line["executor"] == payee.to_string());
	own.map(|line| paid(&line)).sum()
}

/// Whoever asks again with the same wallet goes on: what was shown is kept and paid for, its number is not used again. Returns a
/// question that was just asked.
async fn a_client_is_killed_in_the_middle(node: &Node, model: &str, wallet: &str) -> Events {
	let mut events = Events::of(node, model, wallet);
	let number = number_of(&events.next("started").await);
	events.until_a_slice_is_paid().await;
	events.talk.kill().await.expect("it runs");
	let broken = receipt(wallet, number).await;
	assert!(broken["receipt"].is_null(), "{broken}");
	assert!(paid(&broken) > 0, "{broken}");

	let mut again = Events::of(node, model, wallet);
	let started = again.next("started").await;
	assert!(
		started["number"].as_u64() > broken["number"].as_u64(),
		"{started}"
	);
	again.until_a_slice_is_paid().await;
	// A wallet is one program's at a time.
	again.talk.kill().await.expect("it runs");
	let kept = receipt(wallet, number).await;
	assert!(paid(&kept) >= paid(&broken), "{kept}");
	Events::of(node, model, wallet)
}

/// What `consilience chat --json` prints to a question whose answer is long.
struct Events {
	talk: Child,
	lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
	fn of(node: &Node, model: &str, wallet: &str) -> Self {
		let mut talk = Command::new(consilience_tests::binary())
			.args([
				"chat", "--model", model, "--url", &node.url, "--wallet", wallet, "--json",
			])
			.args([
				"--max-tokens",
				"160",
				"--temperature",
				"0",
				"Explain why the sky is blue.",
			])
			.stdin(Stdio::null())
			.stdout(Stdio::piped())
			.stderr(Stdio::piped())
			.kill_on_drop(true)
			.spawn()
			.expect("the binary runs; qed");
		let output = talk.stdout.take().expect("it is piped");
		Self {
			talk,
			lines: BufReader::new(output).lines(),
		}
	}

	/// Reads more than a slice of 32 tokens, so that something is paid beside the prompt.
	async fn until_a_slice_is_paid(&mut self) {
		let mut text = String::new();
		while text.len() < 240 {
			text += self.next("text").await["text"].as_str().expect("text");
		}
	}

	/// Waits until the client gives up. Returns what it says.
	async fn fails(mut self) -> String {
		within("the client's end", async {
			let mut said = String::new();
			let mut errors = self.talk.stderr.take().expect("it is piped");
			let read = errors.read_to_string(&mut said).await;
			read.expect("it is text");
			let status = self.talk.wait().await.expect("a child can be waited for");
			assert!(!status.success(), "{said}");
			said
		})
		.await
	}

	/// The next event of this kind; those before it are passed over.
	async fn next(&mut self, kind: &str) -> Value {
		within(kind, async {
			loop {
				let line = self.lines.next_line().await.expect("it can be read");
				let line = line.unwrap_or_else(|| panic!("it ended without an event {kind:?}"));
				let event: Value = serde_json::from_str(&line).expect("a line is an object");
				if event["event"] == kind {
					return event;
				}
			}
		})
		.await
	}
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

/// Waits for a claim of such a payee in a finalised block from this one on. Who claimed, and how much.
async fn await_claim(
	node: &Node,
	from: u32,
	wanted: impl Fn(&AccountId) -> bool,
) -> (AccountId, u128) {
	let mut next = from;
	loop {
		node.client.await_finalized(next).await;
		let hash = node.client.hash(next).await;
		for (_, event) in node.client.events(hash).await {
			if let RuntimeEvent::Sessions(pallet_sessions::Event::Claimed {
				amount, payee, ..
			}) = event
			{
				if wanted(&payee) {
					return (payee, amount);
				}
			}
		}
		next += 1;
		assert!(next < from + 100, "nobody claims anything");
	}
}
