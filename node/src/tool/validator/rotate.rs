//! `consilience validator rotate-keys`: new session keys in the node that is asked, and on chain. The same moves a validator to another
//! machine: it is asked there.

use codec::Encode;
use consilience_primitives::crypto::InferenceId;
use consilience_runtime::{AccountId, Runtime};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	pallet_session,
	sp_core::{bytes::to_hex, Pair},
};
use serde_json::{json, Value};

use super::{
	account::{Account, Keys},
	keys::{speaks_for_nobody_else, SessionKeysOf},
};
use crate::tool::{
	chain::{self, address, Chain},
	Format, NodeAddress, Result, Signer,
};

/// The session's validators with their `infr` keys.
type InSession = Vec<(AccountId, InferenceId)>;

/// Makes keys, and puts them on chain.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateCommand {
	/// Wait until the new keys count.
	#[arg(long)]
	wait: bool,
	#[command(flatten)]
	signer: Signer,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

impl RotateCommand {
	/// Does what the command says.
	pub(super) async fn run(&self) -> Result<()> {
		let pair = chain::pair(&self.signer.suri)?;
		let stash = AccountId::from(pair.public());
		let chain = Chain::connect(&self.node.url).await?;
		let roles: Vec<String> = chain.call("system_nodeRoles", rpc_params![]).await?;
		let health: Value = chain.call("system_health", rpc_params![]).await?;
		if !roles.iter().any(|role| role == "Authority") {
			return Err(format!(
				"the node at {} does not validate: keys in it would be of no use. Start it with --validator",
				self.node.url
			));
		}
		if health["isSyncing"] == json!(true) {
			return Err(format!(
				"the node at {} catches up with the network, and could not validate: wait until it is there",
				self.node.url
			));
		}
		let before = Account::read(&chain, &stash).await?;
		if before.keys == Keys::Unset {
			return Err(format!(
				"{} has no session keys that others could follow: `consilience validator setup` makes the first",
				address(&stash)
			));
		}
		speaks_for_nobody_else(&chain, &stash).await?;
		let made = SessionKeysOf::make(&chain, &stash).await?;
		let call = pallet_session::Call::<Runtime>::set_keys {
			keys: made.keys.clone(),
			proof: made.proof.clone(),
		};
		let (block, _) = chain.submit(&pair, call.into()).await?;
		let moved = matches!(before.keys, Keys::Elsewhere(_));
		let in_use = before.in_session || before.in_next_session;
		if self.wait && in_use {
			self.until_they_count(&chain, &stash, &made).await?;
		}
		let counts = self.wait || !in_use;
		let value = json!({
			"validator": address(&stash),
			"session_keys": to_hex(&made.keys.encode(), false),
			"block": block.number,
			"moved": moved,
			"counts": counts,
		});
		self.format.print(&value, || {
			let old = if moved { "the other node" } else { "the old keys" };
			match (in_use, counts) {
				(true, true) => format!("The new session keys count, and {old} may go."),
				(true, false) => format!(
					"New session keys are on chain since block {}. They count from the session after the next one: until then {old} must stay. --wait \
					 waits for that.",
					block.number
				),
				(false, _) => format!("New session keys are on chain since block {}.", block.number),
			}
		});
		Ok(())
	}

	/// Returns once the session's validators have the new keys.
	async fn until_they_count(
		&self,
		chain: &Chain,
		stash: &AccountId,
		made: &SessionKeysOf,
	) -> Result<()> {
		if !self.format.json {
			eprintln!("waiting for the session after the next one: up to 20 minutes");
		}
		let new = (stash.clone(), made.keys.inference.clone());
		loop {
			let head = chain.finalized().await?;
			let keys: Option<InSession> = chain.stored("Inference", "Keys", head.hash).await?;
			let keys = keys.unwrap_or_default();
			if keys.contains(&new) {
				return Ok(());
			}
			chain.next_block().await?;
		}
	}
}
