//! `models_*`.

use std::{marker::PhantomData, sync::Arc};

use consilience_primitives::ModelId;
use consilience_runtime_api::InferenceApi;
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

	/// Models stored on this node, and where each stands with its validator.
	#[method(name = "local")]
	async fn local(&self) -> Result<Vec<LocalModel>, ErrorObjectOwned>;

	/// Lets this node's validator serve a stored model. Unsafe.
	#[method(name = "serve", with_extensions)]
	async fn serve(&self, model: ModelId) -> Result<ServingState, ErrorObjectOwned>;

	/// Lets it serve the model no longer; duties already drawn stay. Whether it was served or to be served. Unsafe.
	#[method(name = "withdraw", with_extensions)]
	async fn withdraw(&self, model: ModelId) -> Result<bool, ErrorObjectOwned>;
}

/// Answers `models_*`.
pub struct Models<Block, Client> {
	client: Arc<Client>,
	worker: Option<Handle>,
	_block: PhantomData<fn() -> Block>,
}

impl<Block, Client> Models<Block, Client> {
	/// Answers from this client and, where the node runs one, this worker.
	pub fn new(client: Arc<Client>, worker: Option<Handle>) -> Self {
		Self {
			client,
			worker,
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
		let worker = self.worker()?;
		let status = worker.status().await.map_err(RpcError::from)?;
		Ok(status
			.models
			.into_iter()
			.map(|(id, state)| {
				let manifest = worker.store().get(id).ok().map(|m| m.manifest);
				LocalModel {
					id,
					name: manifest.as_ref().map(|m| m.name.clone()),
					task: manifest.as_ref().map(|m| m.task()),
					size: manifest.as_ref().map(|m| m.size()),
					state,
				}
			})
			.collect())
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
