//! `consilience model register`, `deprecate` and `unregister`: a model's life on chain, by its owner.

use consilience_runtime::{RuntimeCall, RuntimeEvent};
use pallet_model_registry::{Call, Event};
use serde_json::{json, Value};

use super::{
	chain::{self, Chain, Head, Model},
	csl,
	model::{find, ByOwner, StoreArguments},
	Format, NodeAddress, Result, Signer,
};

/// Registers a model of the store.
pub(super) async fn register(
	model: &str,
	store: &StoreArguments,
	signer: &Signer,
	node: &NodeAddress,
	format: Format,
) -> Result<()> {
	let pair = chain::pair(&signer.suri)?;
	let found = find(&store.open()?, model)?;
	let spec = found.manifest.spec().map_err(|e| e.to_string())?;
	let price = found.price.unwrap_or_default();
	let chain = Chain::connect(&node.url).await?;
	let call = Call::register {
		model: found.id,
		spec,
		price,
	};
	let (block, events) = chain.submit(&pair, call.into()).await?;
	let deposit = events
		.iter()
		.find_map(|e| match e {
			RuntimeEvent::ModelRegistry(Event::ModelRegistered { deposit, .. }) => Some(*deposit),
			_ => None,
		})
		.ok_or("the transaction is in a block, and registered nothing")?;
	let value = json!({
		"model": found.id,
		"name": found.manifest.name,
		"block": block.number,
		"block_hash": block.hash,
		"deposit": deposit.to_string(),
	});
	format.print(&value, || {
		format!(
			"{} registered as {:?} in block {}, deposit {}",
			found.manifest.name,
			found.id,
			block.number,
			csl(deposit)
		)
	});
	Ok(())
}

/// Calls the registry about a model that is on chain.
async fn change(
	ByOwner { at, signer }: &ByOwner,
	call: impl FnOnce(&Model) -> RuntimeCall,
) -> Result<(Model, Head)> {
	let pair = chain::pair(&signer.suri)?;
	let chain = Chain::connect(&at.node.url).await?;
	let model = chain.find_model(&at.model).await?;
	let (block, _) = chain.submit(&pair, call(&model)).await?;
	Ok((model, block))
}

fn changed(model: &Model, block: Head, status: &str) -> Value {
	json!({ "model": model.id, "status": status, "block": block.number, "block_hash": block.hash })
}

/// Lets a model take no more requests.
pub(super) async fn deprecate(of: &ByOwner) -> Result<()> {
	let call = |model: &Model| Call::deprecate { model: model.id }.into();
	let (model, block) = change(of, call).await?;
	of.at.format.print(&changed(&model, block, "deprecated"), || {
		format!(
			"{:?} takes no more requests since block {}. `consilience model unregister` removes it after a day, when those that are open are done",
			model.id, block.number
		)
	});
	Ok(())
}

/// Removes a deprecated model from the chain.
pub(super) async fn unregister(of: &ByOwner) -> Result<()> {
	let call = |model: &Model| Call::remove { model: model.id }.into();
	let (model, block) = change(of, call).await?;
	of.at.format.print(&changed(&model, block, "removed"), || {
		format!(
			"{:?} is gone since block {}, and its deposit is back",
			model.id, block.number
		)
	});
	Ok(())
}
