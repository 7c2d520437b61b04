//! The binary's own command line.

use std::{ffi::OsStr, process::Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::{binary, within, Node};

/// Runs a subcommand with `--json`: its last object, or what it said on standard error.
pub async fn cli<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Value, String> {
	cli_with(&[], arguments).await
}

/// The same, with more in its environment.
pub(crate) async fn cli_with<S: AsRef<OsStr>>(
	variables: &[(String, String)],
	arguments: impl IntoIterator<Item = S>,
) -> Result<Value, String> {
	let mut command = Command::new(binary());
	command
		.envs(variables.iter().map(|(k, v)| (k, v)))
		.args(arguments)
		.arg("--json")
		.stdin(Stdio::null())
		.kill_on_drop(true);
	let output = within("a subcommand", command.output())
		.await
		.expect("the binary runs; qed");
	let stdout = String::from_utf8_lossy(&output.stdout);
	if !output.status.success() {
		return Err(format!(
			"{}{stdout}",
			String::from_utf8_lossy(&output.stderr)
		));
	}
	let last = stdout
		.lines()
		.rfind(|l| !l.trim().is_empty())
		.unwrap_or_default();
	serde_json::from_str(last).map_err(|e| format!("{last:?} is no JSON: {e}"))
}

/// The last line of `consilience infer`.
#[derive(Clone, Debug)]
pub struct Answer(pub Value);

impl Answer {
	/// A number of the answer.
	pub fn number(&self, field: &str) -> u32 {
		let value = self.0[field].as_u64().and_then(|n| n.try_into().ok());
		value.unwrap_or_else(|| panic!("{field} is no number in {}", self.0))
	}

	/// An amount of the answer.
	pub fn amount(&self, field: &str) -> u128 {
		let value = self.0[field].as_str().and_then(|n| n.parse().ok());
		value.unwrap_or_else(|| panic!("{field} is no amount in {}", self.0))
	}

	/// Text of the answer.
	pub fn text(&self, field: &str) -> &str {
		self.0[field]
			.as_str()
			.unwrap_or_else(|| panic!("{field} is no text in {}", self.0))
	}

	/// Addresses of executor and verifiers.
	pub fn committee(&self) -> Vec<String> {
		let verifiers = self.0["verifiers"]
			.as_array()
			.expect("verifiers are a list");
		let names = verifiers
			.iter()
			.map(|v| v.as_str().expect("an address is text").to_owned());
		std::iter::once(self.text("executor").to_owned())
			.chain(names)
			.collect()
	}
}

/// `consilience infer` at a node, signed by `suri`.
pub async fn infer(node: &Node, suri: &str, model: &str, rest: &[&str]) -> Result<Answer, String> {
	let first = [
		"infer", "--url", &node.url, "--suri", suri, "--model", model,
	];
	cli(first.iter().chain(rest)).await.map(Answer)
}
