//! `consilience model fetch`, `serve` and `withdraw`: what a running node is told of a model.

use std::time::Duration;

use consilience_primitives::ModelId;
use consilience_rpc::LocalModel;
use consilience_worker::ServingState;
use indicatif::{ProgressBar, ProgressStyle};
use jsonrpsee::rpc_params;
use polkadot_sdk::sp_core::H256;
use serde_json::json;

use super::{chain::Chain, model::AtNode, Format, Result};

/// How often the node is asked how far it is.
const ASK: Duration = Duration::from_millis(300);

async fn connect(AtNode { model, node, .. }: &AtNode) -> Result<(Chain, ModelId)> {
	let chain = Chain::connect(&node.url).await?;
	let id = match model.parse::<H256>() {
		Ok(id) => id,
		Err(_) => chain.find_model(model).await?.id,
	};
	Ok((chain, id))
}

/// Returns what the node says of a model as soon as it does not fetch it any more, and shows how far it is until then.
async fn fetched(chain: &Chain, id: ModelId, format: Format) -> Result<Option<LocalModel>> {
	let bar = if format.json {
		ProgressBar::hidden()
	} else {
		ProgressBar::new(0)
	};
	bar.set_style(
		ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg}")
			.expect("the template is well-formed; qed"),
	);
	let mut said = String::new();
	loop {
		let models: Vec<LocalModel> = chain.call("models_local", rpc_params![]).await?;
		let here = models.into_iter().find(|m| m.id == id);
		let progress = match &here {
			Some(LocalModel {
				state: ServingState::Fetching,
				fetching,
				..
			}) => fetching.clone().unwrap_or_default(),
			_ => {
				bar.finish_and_clear();
				return Ok(here);
			}
		};
		bar.set_length(progress.size);
		bar.set_position(progress.done);
		let waits = progress.waits.unwrap_or_default();
		bar.set_message(match (waits.is_empty(), progress.rate) {
			(false, _) => waits.clone(),
			(true, 0) => format!("sources: {}", progress.sources),
			(true, rate) => format!(
				"sources: {}, {} a second, {} to go",
				progress.sources,
				indicatif::HumanBytes(rate),
				indicatif::HumanDuration(Duration::from_secs(
					progress.size.saturating_sub(progress.done) / rate
				))
			),
		});
		// A bar is seen by a terminal alone.
		if !format.json && bar.is_hidden() && !waits.is_empty() && waits != said {
			eprintln!("{waits}");
			said = waits;
		}
		tokio::time::sleep(ASK).await;
	}
}

/// Tells the node to fetch a model, and waits until it is there. Ending the command does not end the fetching.
pub(super) async fn fetch(at: &AtNode) -> Result<()> {
	let (AtNode { node, format, .. }, (chain, id)) = (at, connect(at).await?);
	let begun: bool = chain.call("models_fetch", rpc_params![id]).await?;
	if begun {
		let here = fetched(&chain, id, *format).await?;
		if let Some(ServingState::Refused(why)) = here.as_ref().map(|m| &m.state) {
			return Err(format!("model {id:?} is not fetched: {why}"));
		}
		if here.is_none() {
			return Err(format!(
				"model {id:?} is not fetched: the node's log says why"
			));
		}
	}
	format.print(&json!({ "model": id, "fetched": begun }), || {
		let how = if begun { "has fetched" } else { "has had" };
		format!(
			"the node at {} {how} {id:?}, and gives it to others",
			node.url
		)
	});
	Ok(())
}

/// Tells the node's worker to serve a model, and waits while it is fetched. Ending the command does not end that.
pub(super) async fn serve(at: &AtNode) -> Result<()> {
	let (AtNode { node, format, .. }, (chain, id)) = (at, connect(at).await?);
	let mut state: ServingState = chain.call("models_serve", rpc_params![id]).await?;
	if state == ServingState::Fetching {
		if let Some(here) = fetched(&chain, id, *format).await? {
			state = here.state;
		}
	}
	if let ServingState::Refused(why) = &state {
		return Err(format!(
			"the validator at {} does not serve {id:?}: {why}",
			node.url
		));
	}
	format.print(&json!({ "model": id, "state": &state }), || {
		let what = match state {
			ServingState::Serving => "serves it",
			ServingState::Announced => "has checked it and announces it to the chain",
			ServingState::Checking => "has it, and checks it before it is announced",
			ServingState::Waiting => "serves it once it is registered and was checked",
			ServingState::Fetching => "fetches it",
			ServingState::Stored | ServingState::Refused(_) => "has it",
		};
		format!("{id:?}: the validator at {} {what}", node.url)
	});
	Ok(())
}

/// Tells the node to remove a model from its store.
pub(super) async fn remove(at: &AtNode) -> Result<()> {
	let (AtNode { node, format, .. }, (chain, id)) = (at, connect(at).await?);
	let was: bool = chain.call("models_remove", rpc_params![id]).await?;
	format.print(&json!({ "model": id, "removed": was }), || {
		let what = if was { "has removed" } else { "did not have" };
		format!("the node at {} {what} {id:?}", node.url)
	});
	Ok(())
}

/// Tells the node's worker to stop serving a model.
pub(super) async fn withdraw(at: &AtNode) -> Result<()> {
	let (AtNode { node, format, .. }, (chain, id)) = (at, connect(at).await?);
	let was: bool = chain.call("models_withdraw", rpc_params![id]).await?;
	format.print(&json!({ "model": id, "state": was }), || {
		let what = if was {
			"serves no longer"
		} else {
			"did not serve"
		};
		format!("the validator at {} {what} {id:?}", node.url)
	});
	Ok(())
}
