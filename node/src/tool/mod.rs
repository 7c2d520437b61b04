//! What the binary can do besides running the node: models, requests, and the engine's process.
//!
//! Every command takes `--json` and then prints JSON, one object a line, on standard output; what is meant for people goes to
//! standard error. The last line is the result.

mod appeal;
mod ask;
pub(crate) mod calibrate;
mod canonicalise;
mod chain;
mod confine;
mod draft;
mod engine;
mod exactness;
mod failure;
mod gateway;
mod input;
mod media;
mod model;
mod registry;
mod serve;
mod session;
mod validator;
mod verify;
mod watch;

pub(crate) use engine::{model_provider, EngineCommand};
pub(crate) use model::ModelCommand;

use std::future::Future;

use consilience_primitives::RequestId;
use polkadot_sdk::sc_cli;

pub(crate) use appeal::AppealCommand;
pub(crate) use ask::InferCommand;
pub(crate) use gateway::GatewayCommand;
pub(crate) use session::{ChannelCommand, ChatCommand};
pub(crate) use validator::ValidatorCommand;
pub(crate) use verify::VerifyCommand;

/// Result of a command; the message says what to do.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Where the node listens.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeAddress {
	/// Address of a node's JSON-RPC over WebSocket.
	#[arg(long, default_value = "ws://127.0.0.1:9944")]
	pub(crate) url: String,
}

/// Who signs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Signer {
	/// Secret of the account that signs and pays: a phrase, a seed in hexadecimal, a development key such as //Alice, or `-` to read it from
	/// standard input.
	#[arg(long)]
	pub(crate) suri: String,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
	/// Print JSON, one object a line; the last is the result.
	#[arg(long)]
	pub(crate) json: bool,
}

impl Format {
	/// Prints a result.
	fn print(self, value: &serde_json::Value, people: impl FnOnce() -> String) {
		if self.json {
			println!("{value}");
		} else {
			println!("{}", people());
		}
	}
}

/// Requests on chain.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RequestCommand {
	/// Follow a request until it is settled and the block in which it was is finalised.
	Watch {
		/// Number of the request.
		request: RequestId,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Appeal against an answer that was not drawn for a check, and follow the request to its end. Holds a bond, which is
	/// lost if the answer is right.
	Appeal {
		/// Number of the request.
		request: RequestId,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Contest what a jury accuses this validator of: those who serve the model and were not drawn measure too, and both juries together
	/// decide. Holds a bond, which is lost if the accusation stands.
	Contest {
		/// Number of the request.
		request: RequestId,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Take back a request before an executor is drawn for it.
	Cancel {
		/// Number of the request.
		request: RequestId,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
}

impl RequestCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		let since = std::time::Instant::now();
		match self {
			Self::Watch {
				request,
				node,
				format,
			} => block_on(async {
				let chain = chain::Chain::connect(&node.url).await?;
				watch::until_settled(&chain, *request, None, *format, since).await
			}),
			Self::Appeal {
				request,
				signer,
				node,
				format,
			} => {
				let call = pallet_inference::Call::appeal { request: *request };
				block_on(Self::judge(*request, call, signer, node, *format, since))
			}
			Self::Contest {
				request,
				signer,
				node,
				format,
			} => {
				let call = pallet_inference::Call::contest { request: *request };
				block_on(Self::judge(*request, call, signer, node, *format, since))
			}
			Self::Cancel {
				request,
				signer,
				node,
				format,
			} => {
				let call = pallet_inference::Call::cancel { request: *request };
				block_on(async {
					let pair = chain::pair(&signer.suri)?;
					let chain = chain::Chain::connect(&node.url).await?;
					let (block, _) = chain.submit(&pair, call.into()).await?;
					let value = serde_json::json!({ "request": request, "status": "cancelled", "block": block.number });
					format.print(&value, || {
						format!("request {request} is cancelled in block {}", block.number)
					});
					Ok(())
				})
			}
		}
	}

	/// Calls a jury, and follows the request to its end.
	async fn judge(
		request: RequestId,
		call: pallet_inference::Call<consilience_runtime::Runtime>,
		signer: &Signer,
		node: &NodeAddress,
		format: Format,
		since: std::time::Instant,
	) -> Result<()> {
		let pair = chain::pair(&signer.suri)?;
		let chain = chain::Chain::connect(&node.url).await?;
		chain.submit(&pair, call.into()).await?;
		watch::until_settled(&chain, request, None, format, since).await
	}
}

/// Runs a command to its end.
fn block_on(command: impl Future<Output = Result<()>>) -> sc_cli::Result<()> {
	let runtime = tokio::runtime::Runtime::new()?;
	runtime.block_on(command).map_err(sc_cli::Error::Input)
}

/// An amount for people.
fn csl(amount: u128) -> String {
	let (whole, part) = (
		amount / consilience_runtime::UNIT,
		amount % consilience_runtime::UNIT,
	);
	let digits = format!("{part:012}");
	match digits.trim_end_matches('0') {
		"" => format!("{whole} CSL"),
		part => format!("{whole}.{part} CSL"),
	}
}

/// An amount as people write it: `1.5` CSL.
fn parse_csl(text: &str) -> std::result::Result<u128, String> {
	let wrong = || format!("{text:?} is no amount of CSL, such as 1.5");
	let (whole, part) = text.split_once('.').unwrap_or((text, ""));
	if part.len() > 12 || !part.chars().all(|c| c.is_ascii_digit()) {
		return Err(wrong());
	}
	let whole: u128 = whole.parse().map_err(|_| wrong())?;
	let part: u128 = format!("{part:0<12}").parse().map_err(|_| wrong())?;
	whole
		.checked_mul(consilience_runtime::UNIT)
		.and_then(|w| w.checked_add(part))
		.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn amounts() {
		for (text, amount) in [
			("0", 0),
			("1", 1_000_000_000_000),
			("1.5", 1_500_000_000_000),
		] {
			assert_eq!(parse_csl(text), Ok(amount));
			assert_eq!(csl(amount), format!("{text} CSL"));
		}
		assert_eq!(csl(1), "0.000000000001 CSL");
		for bad in ["", "-1", "x", "1.0000000000001", "1.x", "1.-5"] {
			assert!(parse_csl(bad).is_err(), "{bad}");
		}
	}
}
