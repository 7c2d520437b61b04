//! `models_*`.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use consilience_primitives::{manifest::Manifest, ModelId};
use consilience_runtime_api::InferenceApi;
use consilience_transfer::{Progress, Transfers};
use consilience_worker::{
	chain::{AccountId, Balance, BlockNumber},
	Handle, ServingState,
};
use jsonrpsee::{core::async_trait, proc_macros::rpc, types::ErrorObjectOwned, Extensions};
use polkadot_sdk::{
	sc_rpc_api::check_if_safe, sp_api::ProvideRuntimeApi, sp_blockchain::HeaderBackend,
	sp_core::H256, sp_runtime::traits::Block as BlockT,
};

use crate::{JsonModel, LocalModel, RpcError};

/// Models that a runtime call gives at a time.
const PAGE: u32 = 64;

/// Models, on chain and on this node.
#[rpc(client, server, namespace = "models")]
pub trait ModelsRpc {
	/// Every model on chain, at the best block or the one given.
	#[method(name = "list")]
	fn list(&self, at: Option<H256>) -> Result<Vec<JsonModel>, ErrorObjectOwned>;

	/// One model on chain; `null` if it is not registered.
	#[method(name = "get")]
	fn get(&self, model: ModelId, at: Option<H256>) -> Result<Option<JsonModel>, ErrorObjectOwned>;

	/// A model's manifest: how people's data becomes its tensors, among others. Where it is not in this node's store other nodes
	/// are asked, which is unsafe. Its SCALE encoding's BLAKE2b-256 hash is the model's id.
	#[method(name = "manifest", with_extensions)]
	async fn manifest(&self, model: ModelId) -> Result<Manifest, ErrorObjectOwned>;

	/// Models stored on this node, and where each stands with its validator.
	#[method(name = "local")]
	async fn local(&self) -> Result<Vec<LocalModel>, ErrorObjectOwned>;

	/// Lets this node's validator serve a model. One that is on chain and not in its store is fetched from other nodes. Unsafe.
	#[method(name = "serve", with_extensions)]
	async fn serve(&self, model: ModelId) -> Result<ServingState, ErrorObjectOwned>;

	/// Fetches a model that is on chain from other nodes into this node's store, to give it to others and to run it. Whether it was
	/// not there yet. Unsafe.
	#[method(name = "fetch", with_extensions)]
	async fn fetch(&self, model: ModelId) -> Result<bool, ErrorObjectOwned>;

	/// Removes a model from this node's store, or ends fetching it. One that is served, or to be served, is refused. Whether there was
	/// anything of it. Unsafe.
	#[method(name = "remove", with_extensions)]
	async fn remove(&self, model: ModelId) -> Result<bool, ErrorObjectOwned>;

	/// Lets it serve the model no longer; duties already drawn stay. Whether it was served or to be served. Unsafe.
	#[method(name = "withdraw", with_extensions)]
	async fn withdraw(&self, model: ModelId) -> Result<bool, ErrorObjectOwned>;
}

/// Answers `models_*`.
pub struct Models<Block, Client> {
	client: Arc<Client>,
	worker: Option<Handle>,
	transfers: Option<Transfers>,
	_block: PhantomData<fn() -> Block>,
}

impl<Block, Client> Models<Block, Client> {
	/// Answers from this client and, where the node has them, this worker and these transfers.
	pub fn new(client: Arc<Client>, worker: Option<Handle>, transfers: Option<Transfers>) -> Self {
		Self {
			client,
			worker,
			transfers,
			_block: PhantomData,
		}
	}

	fn worker(&self) -> Result<&Handle, RpcError> {
		self.worker.as_ref().ok_or(RpcError::NoWorker)
	}
}

#[async_trait]
impl<Block, Client> ModelsRpcServer for Models<Block, Client>
where
	Block: BlockT<Hash = H256>,
	Client: ProvideRuntimeApi<Block> + HeaderBackend<Block> + Send + Sync + 'static,
	Client::Api: InferenceApi<Block, AccountId, BlockNumber, Balance>,
{
	fn list(&self, at: Option<H256>) -> Result<Vec<JsonModel>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		let (api, mut models, mut after) = (self.client.runtime_api(), Vec::new(), None);
		loop {
			let page = api
				.models(at, after, PAGE)
				.map_err(|e| RpcError::Runtime(e.to_string()))?;
			let last = page.len() < PAGE as usize;
			after = page.last().map(|m| m.id);
			models.extend(page.into_iter().map(JsonModel::from));
			if last {
				return Ok(models);
			}
		}
	}

	fn get(&self, model: ModelId, at: Option<H256>) -> Result<Option<JsonModel>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		let view = self
			.client
			.runtime_api()
			.model(at, model)
			.map_err(|e| RpcError::Runtime(e.to_string()))?;
		Ok(view.map(Into::into))
	}

	async fn local(&self) -> Result<Vec<LocalModel>, ErrorObjectOwned> {
		let transfers = self.transfers.as_ref();
		let (store, mut models) = match (&self.worker, transfers) {
			(Some(worker), _) => {
				let status = worker.status().await.map_err(RpcError::from)?;
				(worker.store(), status.models)
			}
			// Whoever does not validate keeps models all the same.
			(None, Some(transfers)) => {
				let store = transfers.store();
				let stored = store.list().map_err(|e| RpcError::Store(e.to_string()))?;
				let stored = stored.into_iter().map(|m| (m.id, ServingState::Stored));
				(store, stored.collect())
			}
			(None, None) => return Err(RpcError::NoWorker.into()),
		};
		// What is fetched for others and not to be served.
		let underway = transfers.map_or_else(Vec::new, Transfers::underway);
		for (id, progress) in &underway {
			models
				.entry(*id)
				.or_insert_with(|| match progress.failure() {
					Some(why) => ServingState::Refused(why.into()),
					None => ServingState::Fetching,
				});
		}
		let mut underway: HashMap<ModelId, Progress> = underway.into_iter().collect();
		Ok(models
			.into_iter()
			.map(|(id, state)| {
				let manifest = store.get(id).ok().map(|m| m.manifest);
				LocalModel {
					id,
					name: manifest.as_ref().map(|m| m.name.clone()),
					task: manifest.as_ref().map(|m| m.task()),
					size: manifest.as_ref().map(|m| m.size()),
					license: manifest.as_ref().map(|m| m.license.clone()),
					source: manifest.as_ref().map(|m| m.source.clone()),
					state,
					fetching: underway.remove(&id),
				}
			})
			.collect())
	}

	async fn manifest(
		&self,
		ext: &Extensions,
		model: ModelId,
	) -> Result<Manifest, ErrorObjectOwned> {
		let transfers = self.transfers.as_ref().ok_or(RpcError::NoStore)?;
		if !transfers.store().contains(model) {
			check_if_safe(ext).map_err(|_| RpcError::Unsafe)?;
		}
		let manifest = transfers.manifest(model).await;
		Ok(manifest.map_err(|why| RpcError::Store(format!("{model:?}: {why}")))?)
	}

	async fn fetch(&self, ext: &Extensions, model: ModelId) -> Result<bool, ErrorObjectOwned> {
		check_if_safe(ext).map_err(|_| RpcError::Unsafe)?;
		let transfers = self.transfers.as_ref().ok_or(RpcError::NoStore)?;
		let is_damaged = transfers.damaged().contains(&model);
		if transfers.store().contains(model) && !is_damaged {
			return Ok(false);
		}
		let best = self.client.info().best_hash;
		let view = self.client.runtime_api().model(best, model);
		let view = view.map_err(|e| RpcError::Runtime(e.to_string()))?;
		let view = view.ok_or(RpcError::UnknownModel(model))?;
		let begun = transfers.fetch(model, &view.spec);
		begun.map_err(|e| RpcError::Store(e.to_string()))?;
		Ok(true)
	}

	async fn remove(&self, ext: &Extensions, model: ModelId) -> Result<bool, ErrorObjectOwned> {
		check_if_safe(ext).map_err(|_| RpcError::Unsafe)?;
		let transfers = self.transfers.as_ref().ok_or(RpcError::NoStore)?;
		if let Some(worker) = &self.worker {
			let status = worker.status().await.map_err(RpcError::from)?;
			if status.in_use.contains(&model) {
				return Err(RpcError::InUse(model).into());
			}
		}
		let had = transfers.store().partial_manifest(model).is_some();
		transfers.forget(model).await;
		if !transfers.store().contains(model) {
			return Ok(had);
		}
		let removed = transfers.store().remove(model);
		removed.map_err(|e| RpcError::Store(e.to_string()))?;
		Ok(true)
	}

	async fn serve(
		&self,
		ext: &Extensions,
		model: ModelId,
	) -> Result<ServingState, ErrorObjectOwned> {
		check_if_safe(ext).map_err(|_| RpcError::Unsafe)?;
		Ok(self.worker()?.serve(model).await.map_err(RpcError::from)?)
	}

	async fn withdraw(&self, ext: &Extensions, model: ModelId) -> Result<bool, ErrorObjectOwned> {
		check_if_safe(ext).map_err(|_| RpcError::Unsafe)?;
		Ok(self
			.worker()?
			.withdraw(model)
			.await
			.map_err(RpcError::from)?)
	}
}
