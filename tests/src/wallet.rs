//! Somebody who talks in the session lane: `consilience chat` on a channel and a wallet of its own.

use std::collections::BTreeMap;

use consilience_runtime::AccountId;
use serde_json::Value;

use crate::{cli, Network, Node};

/// A channel, the folder with what was signed in it, and whose it is.
pub struct Wallet {
	/// The folder.
	pub folder: String,
	/// The channel's number.
	pub channel: u64,
	suri: &'static str,
}

impl Wallet {
	/// Opens a channel of so many coins at a node; it pays these executors.
	pub async fn open(
		network: &Network,
		node: &Node,
		model: &str,
		suri: &'static str,
		deposit: u32,
		executors: &[&AccountId],
	) -> Self {
		let own = format!("{suri}'s-{}", executors[0]).replace('/', "");
		let folder = network.folder.path().join(own).display().to_string();
		let deposit = deposit.to_string();
		let place = ["--model", model, "--url", &node.url, "--wallet", &folder];
		let how = ["--suri", suri, "--deposit", &deposit];
		let names: Vec<_> = executors.iter().map(ToString::to_string).collect();
		let executors = names.iter().flat_map(|name| ["--executor", name]);
		let open = ["channel", "open"].into_iter().chain(place).chain(how);
		let opened = cli(open.chain(executors)).await;
		let opened = opened.expect("a channel can be opened");
		let channel = opened["channel"].as_u64().expect("a number");
		Self {
			folder,
			channel,
			suri,
		}
	}

	/// Asks, and has so many check the answer; what the command says where it fails.
	pub async fn say(
		&self,
		node: &Node,
		model: &str,
		question: &str,
		checks: u32,
	) -> Result<Value, String> {
		let checks = checks.to_string();
		let own = &self.folder;
		let place = ["--model", model, "--url", &node.url, "--wallet", own];
		let how = ["--max-tokens", "16", "--temperature", "0"];
		let chat = ["chat"].into_iter().chain(place).chain(how);
		cli(chat.chain(["--checks", &checks, question])).await
	}

	/// Closes the channel. Gives the block.
	pub async fn close(&self, node: &Node) -> u32 {
		let channel = self.channel.to_string();
		let close = ["channel", "close", &channel, "--url", &node.url];
		let closed = cli(close.into_iter().chain(["--suri", self.suri])).await;
		let closed = closed.expect("it is this account's channel");
		let block = closed["block"].as_u64().and_then(|n| n.try_into().ok());
		block.expect("a number")
	}

	/// The channel as the best block has it.
	pub async fn show(&self, node: &Node) -> Value {
		let channel = self.channel.to_string();
		let shown = cli(["channel", "show", &channel, "--url", &node.url]).await;
		shown.expect("the channel is there")
	}

	/// What it holds of a request.
	pub async fn receipt(&self, number: u64) -> Value {
		receipt(&self.folder, number).await
	}

	/// What was signed away to each payee for the first so many requests.
	pub async fn signed(&self, requests: u64) -> BTreeMap<String, u128> {
		let mut sums = BTreeMap::new();
		for number in 1..=requests {
			let receipt = self.receipt(number).await;
			let payee = receipt["executor"].as_str().expect("an account").to_owned();
			*sums.entry(payee).or_default() += paid(&receipt);
		}
		sums
	}
}

/// What the wallet in a folder holds of a request.
pub async fn receipt(wallet: &str, number: u64) -> Value {
	let number = number.to_string();
	let receipt = cli(["channel", "receipt", &number, "--wallet", wallet]).await;
	receipt.expect("the wallet holds it")
}

/// What was signed away for a request.
pub fn paid(receipt: &Value) -> u128 {
	amount(&receipt["paid"])
}

/// An amount of money in a reply.
pub fn amount(value: &Value) -> u128 {
	let amount = value.as_str().and_then(|text| text.parse().ok());
	amount.unwrap_or_else(|| panic!("{value} is no amount"))
}
