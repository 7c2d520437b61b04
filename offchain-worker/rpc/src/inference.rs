//! `inference_*`.

use std::{marker::PhantomData, sync::Arc};

use consilience_primitives::{request::Assurance, ModelId, RequestId};
use consilience_runtime_api::InferenceApi;
use consilience_worker::{
	chain::{AccountId, Balance, BlockNumber},
	runner::Runner,
	Handle,
};
use jsonrpsee::{
	core::{async_trait, SubscriptionResult},
	proc_macros::rpc,
	types::ErrorObjectOwned,
	PendingSubscriptionSink,
};
use polkadot_sdk::{
	sc_client_api::{self, BlockBackend, BlockchainEvents, ProofProvider, StorageProvider},
	sp_api::ProvideRuntimeApi,
	sp_blockchain::{self, HeaderBackend, HeaderMetadata},
	sp_core::{Bytes, H256},
	sp_runtime::traits::{Block as BlockT, Header},
};

use crate::{
	life::{follow, request_at},
	proof::prove,
	watch::watch,
	EngineStatus, JsonInput, JsonQuote, JsonRequest, Proof, RpcError, Step, Update,
};

/// Requests and their checked answers.
#[rpc(client, server, namespace = "inference")]
pub trait InferenceRpc {
	/// A request that is open or was settled not long ago, at the best block or the one given; `null` if there is none.
	#[method(name = "request")]
	fn get_request(
		&self,
		request: RequestId,
		at: Option<H256>,
	) -> Result<Option<JsonRequest>, ErrorObjectOwned>;

	/// What a request would cost at most, tip not counted, in the token's smallest unit, and how long it is expected to take; an error says why
	/// it would be refused, and where there is no room when some is expected.
	#[method(name = "quote")]
	fn quote(
		&self,
		model: ModelId,
		input: JsonInput,
		verifiers: u8,
	) -> Result<JsonQuote, ErrorObjectOwned>;

	/// Data that a transaction brought, by its BLAKE2b-256 hash; `null` if this node does not have it. A request whose input holds
	/// a `data_hash` was asked over such data: its tensors' bytes, one after the other.
	#[method(name = "data", blocking)]
	fn data(&self, hash: H256) -> Result<Option<Bytes>, ErrorObjectOwned>;

	/// A request at a finalised block, the last one or that given, with a proof: whoever knows by itself that the block is finalised
	/// need not trust this node. Proves whatever stands there; a result only where the state is `final`.
	#[method(name = "proof", blocking)]
	fn proof(&self, request: RequestId, at: Option<H256>) -> Result<Proof, ErrorObjectOwned>;

	/// The engine and its work.
	#[method(name = "engine")]
	async fn engine(&self) -> Result<EngineStatus, ErrorObjectOwned>;

	/// A request's life: an update for every change in the best chain, and again when it is in a finalised block. Nothing comes after
	/// an update with `finalized` and a settled state: unsubscribe then. Ends with an error if the finalised chain turns out not to
	/// have the request.
	/// `inference_watch` names steps with their blocks, and what a fork takes back.
	#[subscription(name = "subscribeRequest" => "requestUpdate", unsubscribe = "unsubscribeRequest", item = Update)]
	async fn subscribe_request(&self, request: RequestId) -> SubscriptionResult;

	/// Every step of a request: those in its blocks up to now, as far as this node has their states, then each as it comes, when its
	/// block is finalised, and when its block leaves the best chain. Ends with [`Step::Ended`], or with an error: if the finalised
	/// chain turns out not to have the request, or if steps wait for whoever subscribed.
	#[subscription(name = "watch" => "step", unsubscribe = "unwatch", item = Step)]
	async fn watch(&self, request: RequestId) -> SubscriptionResult;
}

/// Answers `inference_*`.
pub struct Inference<Block, Client, Backend> {
	client: Arc<Client>,
	worker: Option<Handle>,
	_types: PhantomData<fn() -> (Block, Backend)>,
}

impl<Block, Client, Backend> Inference<Block, Client, Backend> {
	/// Answers from this client and, where the node runs one, this worker.
	pub fn new(client: Arc<Client>, worker: Option<Handle>) -> Self {
		Self {
			client,
			worker,
			_types: PhantomData,
		}
	}
}

#[async_trait]
impl<Block, Client, Backend> InferenceRpcServer for Inference<Block, Client, Backend>
where
	Backend: sc_client_api::Backend<Block> + 'static,
	Block: BlockT<Hash = H256>,
	Block::Header: Header<Number = BlockNumber>,
	Client: ProvideRuntimeApi<Block>
		+ BlockBackend<Block>
		+ BlockchainEvents<Block>
		+ HeaderBackend<Block>
		+ HeaderMetadata<Block, Error = sp_blockchain::Error>
		+ ProofProvider<Block>
		+ StorageProvider<Block, Backend>
		+ Send
		+ Sync
		+ 'static,
	Client::Api: InferenceApi<Block, AccountId, BlockNumber, Balance>,
{
	fn get_request(
		&self,
		request: RequestId,
		at: Option<H256>,
	) -> Result<Option<JsonRequest>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		Ok(request_at::<Block, Client>(&self.client, at, request)?)
	}

	fn quote(
		&self,
		model: ModelId,
		input: JsonInput,
		verifiers: u8,
	) -> Result<JsonQuote, ErrorObjectOwned> {
		let at = self.client.info().best_hash;
		let api = self.client.runtime_api();
		let runtime = |e: polkadot_sdk::sp_api::ApiError| RpcError::Runtime(e.to_string());
		let view = api.model(at, model).map_err(runtime)?;
		let spec = view.ok_or(RpcError::UnknownModel(model))?.spec;
		let (input, _) = input
			.input(&spec.sampling)
			.map_err(RpcError::Input)?
			.stored();
		let quote = api
			.quote(at, model, input, Assurance::Committee(verifiers))
			.map_err(runtime)?
			.map_err(|e| RpcError::quote(model, e))?;
		Ok(quote.into())
	}

	fn data(&self, hash: H256) -> Result<Option<Bytes>, ErrorObjectOwned> {
		let data = self.client.indexed_transaction(hash);
		let data = data.map_err(|e| RpcError::Runtime(e.to_string()))?;
		Ok(data.map(Bytes))
	}

	fn proof(&self, request: RequestId, at: Option<H256>) -> Result<Proof, ErrorObjectOwned> {
		Ok(prove::<Block, Backend, Client>(&self.client, request, at)?)
	}

	async fn engine(&self) -> Result<EngineStatus, ErrorObjectOwned> {
		let worker = self.worker.as_ref().ok_or(RpcError::NoWorker)?;
		let status = worker.status().await.map_err(RpcError::from)?;
		let engine = worker.engine();
		Ok(EngineStatus {
			validator: status.validator,
			pid: engine.pid(),
			restarts: engine.restarts(),
			unavailable: engine.unavailable(),
			waiting: status.waiting,
			running: status.running,
		})
	}

	async fn subscribe_request(
		&self,
		pending: PendingSubscriptionSink,
		request: RequestId,
	) -> SubscriptionResult {
		follow::<Block, Client>(self.client.clone(), request, pending).await?;
		Ok(())
	}

	async fn watch(
		&self,
		pending: PendingSubscriptionSink,
		request: RequestId,
	) -> SubscriptionResult {
		watch::<Block, Client>(self.client.clone(), request, pending).await?;
		Ok(())
	}
}
