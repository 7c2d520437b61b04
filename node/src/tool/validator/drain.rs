//! `consilience validator drain`: takes no more requests, and waits until those that were drawn are done.

use consilience_primitives::{crypto::InferenceId, report::Duties, ModelId, RequestId};
use consilience_rpc::{EngineStatus, LocalModel};
use consilience_runtime::{AccountId, BlockNumber};
use consilience_worker::ServingState;
use jsonrpsee::rpc_params;
use polkadot_sdk::sp_core::H256;
use serde_json::json;

use super::account::entries;
use crate::tool::{
	chain::{address, Chain},
	Format, NodeAddress, Result,
};

/// What the chain expects of a validator that is drawn for nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expected {
	/// Models that it still serves.
	serving: usize,
	/// Requests in which it answers or measures.
	requests: usize,
	/// Claims of the session lane that are not paid yet.
	claims: usize,
	/// Requests in which it is accused of a lie.
	accused: Vec<RequestId>,
}

impl Expected {
	async fn read(chain: &Chain, me: &AccountId, at: H256) -> Result<Self> {
		let keys: Option<Vec<(AccountId, InferenceId)>> =
			chain.stored("Inference", "Keys", at).await?;
		let key = keys.into_iter().flatten().find(|(who, _)| who == me);
		let duties: Option<Duties<AccountId, BlockNumber>> = match key {
			Some((_, key)) => chain.runtime("InferenceApi_duties", key, Some(at)).await?,
			None => None,
		};
		let assigned = entries(chain, "Inference", "Assignments", me, at).await?;
		let overdue = entries(chain, "Inference", "Overdue", me, at).await?;
		let (serving, accused) = duties.map_or_else(Default::default, |duties| {
			let accused = duties.accused.iter().map(|(request, _)| *request);
			(duties.serving.len(), accused.collect())
		});
		Ok(Self {
			serving,
			requests: assigned + overdue,
			claims: entries(chain, "Sessions", "ClaimsOf", me, at).await?,
			accused,
		})
	}

	/// Whether nothing is due that a pause would miss. Claims are paid without the node.
	const fn is_over(&self) -> bool {
		self.serving == 0 && self.requests == 0
	}

	fn says(&self) -> String {
		format!(
			"serves {} models, and has a part in {} requests",
			self.serving, self.requests
		)
	}
}

/// Withdraws all models of the node's validator, and waits until nothing is due from it.
pub(super) async fn run(node: &NodeAddress, format: Format) -> Result<()> {
	let chain = Chain::connect(&node.url).await?;
	let engine: EngineStatus = chain.call("inference_engine", rpc_params![]).await?;
	// What a node that has just started, or lags behind, does not know must not be taken for nothing.
	let me = engine.validator.as_ref().ok_or(
		"no session key of this node is in the session as the node knows it: whether something is due from its validator is not known. A node that has \
		 just started knows it after some blocks; give this command again then",
	)?;
	let models: Vec<LocalModel> = chain.call("models_local", rpc_params![]).await?;
	let mut withdrawn: Vec<(ModelId, String)> = Vec::new();
	for model in models {
		let is_served = !matches!(model.state, ServingState::Stored | ServingState::Refused(_));
		let was: bool = chain.call("models_withdraw", rpc_params![model.id]).await?;
		if was && is_served {
			let name = model.name.unwrap_or_else(|| format!("{:?}", model.id));
			withdrawn.push((model.id, name));
		}
	}
	let mut said = String::new();
	let expected = loop {
		// A fork may take a withdrawal back.
		let head = chain.finalized().await?;
		let expected = Expected::read(&chain, me, head.hash).await?;
		if expected.is_over() {
			break expected;
		}
		let says = expected.says();
		if !format.json && says != said {
			eprintln!("block {}: {says}", head.number);
			said = says;
		}
		chain.next_block().await?;
	};
	let ids: Vec<_> = withdrawn.iter().map(|(id, _)| id).collect();
	let value = json!({
		"validator": address(me),
		"withdrawn": ids,
		"claims": expected.claims,
		"accused": expected.accused,
	});
	format.print(&value, || {
		let mut says = vec![String::from("Nothing is due from this validator but blocks, votes and tosses.")];
		if expected.claims > 0 {
			says.push(format!(
				"{} claims of the session lane are not paid yet: a receipt that the chain asks for within two hours has to be shown, so that the node \
				 must not be gone for longer than some minutes until then.",
				expected.claims
			));
		}
		for request in &expected.accused {
			says.push(format!("It is accused of a lie in request {request}: docs/operators/accused.md."));
		}
		if !withdrawn.is_empty() {
			says.push("To go on afterwards:".into());
			says.extend(withdrawn.iter().map(|(_, name)| format!("  consilience model serve {name}")));
		}
		says.join("\n")
	});
	Ok(())
}
