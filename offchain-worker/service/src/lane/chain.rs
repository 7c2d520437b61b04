//! The node's chain as the session lane sees it.

use std::{future::Future, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use consilience_lane::{
	Chain, ChainError, Channel, ClaimBounds, Heads, Model, Session, SignedClaim,
};
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	model::{ModelStatus, Price},
	session::{
		Anchor, Certificate, CertificateDue, ChannelId, ClaimId, LaneKey, Opening, OpeningDue,
		Service, Signable,
	},
	ModelId,
};
use consilience_runtime_api::{InferenceApi, SessionsApi};
use futures::StreamExt;
use polkadot_sdk::{
	sc_client_api::BlockchainEvents,
	sc_transaction_pool_api::TransactionPool,
	sp_api::{ApiExt, ProvideRuntimeApi},
	sp_blockchain::HeaderBackend,
	sp_core::H256,
	sp_keystore::KeystorePtr,
	sp_runtime::traits::Block as BlockT,
};
use tokio::sync::watch;

use crate::chain::{
	inference_keys, sign_with, submit_local, AccountId, Balance, BlockNumber,
	ChainError as NodeError,
};

/// Models that one call of the runtime lists.
const PAGE: u32 = 256;

/// A client, a pool and a keystore.
pub struct RuntimeLane<Block, Client, Pool> {
	client: Arc<Client>,
	pool: Arc<Pool>,
	keystore: KeystorePtr,
	heads: watch::Receiver<Heads>,
	/// Sessions after its own in which a voucher can be claimed.
	voucher_sessions: u32,
	_block: PhantomData<fn() -> Block>,
}

fn node(e: NodeError) -> ChainError {
	ChainError(e.to_string())
}

fn call(e: impl std::fmt::Display) -> ChainError {
	ChainError(format!("runtime call: {e}"))
}

impl<Block, Client, Pool> RuntimeLane<Block, Client, Pool>
where
	Block: BlockT<Hash = H256>,
	Block::Header: polkadot_sdk::sp_runtime::traits::Header<Number = BlockNumber>,
	Client: BlockchainEvents<Block> + HeaderBackend<Block> + Send + Sync + 'static,
{
	/// The chain that these see, and a future that keeps it up to date.
	pub fn new(
		client: Arc<Client>,
		pool: Arc<Pool>,
		keystore: KeystorePtr,
		voucher_sessions: u32,
	) -> (Self, impl Future<Output = ()> + Send) {
		let seen = client.clone();
		let heads = move || {
			let info = seen.info();
			Heads {
				best: info.best_number,
				finalised: Anchor {
					number: info.finalized_number,
					hash: info.finalized_hash,
				},
			}
		};
		let (sender, receiver) = watch::channel(heads());
		let mut imported = client.import_notification_stream().fuse();
		let mut finalised = client.finality_notification_stream().fuse();
		let follow = async move {
			loop {
				let more = futures::select! {
					imported = imported.next() => imported.is_some(),
					finalised = finalised.next() => finalised.is_some(),
				};
				if !more {
					return;
				}
				sender.send_if_modified(|known| {
					let new = heads();
					let changed = *known != new;
					*known = new;
					changed
				});
			}
		};
		let lane = Self {
			client,
			pool,
			keystore,
			heads: receiver,
			voucher_sessions,
			_block: PhantomData,
		};
		(lane, follow)
	}

	fn best(&self) -> H256 {
		self.client.info().best_hash
	}

	fn finalised(&self) -> H256 {
		self.client.info().finalized_hash
	}
}

impl<Block, Client, Pool> RuntimeLane<Block, Client, Pool>
where
	Block: BlockT<Hash = H256>,
	Block::Header: polkadot_sdk::sp_runtime::traits::Header<Number = BlockNumber>,
	Client: ProvideRuntimeApi<Block>
		+ BlockchainEvents<Block>
		+ HeaderBackend<Block>
		+ Send
		+ Sync
		+ 'static,
	Client::Api: SessionsApi<Block, AccountId, BlockNumber, Balance>,
	Pool: TransactionPool<Block = Block> + 'static,
{
	/// The session key of this node that is in the session, and what it has to certify.
	fn identity(&self) -> Result<Option<(InferenceId, CertificateDue<AccountId>)>, ChainError> {
		let at = self.best();
		let api = self.client.runtime_api();
		// A chain whose runtime does not know sessions yet has none.
		let known = api.has_api::<dyn SessionsApi<Block, AccountId, BlockNumber, Balance>>(at);
		if !known.map_err(call)? {
			return Ok(None);
		}
		for key in inference_keys(&self.keystore) {
			let due = self.client.runtime_api().certificate_due(at, key.clone());
			if let Some(due) = due.map_err(call)? {
				return Ok(Some((key, due)));
			}
		}
		Ok(None)
	}

	async fn submit(&self, transaction: Block::Extrinsic) -> Result<(), ChainError> {
		submit_local(&*self.pool, self.best(), transaction)
			.await
			.map_err(node)
	}
}

#[async_trait]
impl<Block, Client, Pool> Chain for RuntimeLane<Block, Client, Pool>
where
	Block: BlockT<Hash = H256>,
	Block::Header: polkadot_sdk::sp_runtime::traits::Header<Number = BlockNumber>,
	Client: ProvideRuntimeApi<Block>
		+ BlockchainEvents<Block>
		+ HeaderBackend<Block>
		+ Send
		+ Sync
		+ 'static,
	Client::Api: InferenceApi<Block, AccountId, BlockNumber, Balance>
		+ SessionsApi<Block, AccountId, BlockNumber, Balance>,
	Pool: TransactionPool<Block = Block> + 'static,
{
	fn genesis(&self) -> H256 {
		self.client.info().genesis_hash
	}

	fn heads(&self) -> watch::Receiver<Heads> {
		self.heads.clone()
	}

	async fn session(&self) -> Result<Session, ChainError> {
		let index = self
			.client
			.runtime_api()
			.session(self.best())
			.map_err(call)?;
		Ok(Session {
			index,
			expires: index.saturating_add(self.voucher_sessions),
		})
	}

	async fn finalised_session(&self) -> Result<u32, ChainError> {
		let api = self.client.runtime_api();
		api.session(self.finalised()).map_err(call)
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		let api = self.client.runtime_api();
		api.channel(self.finalised(), id).map_err(call)
	}

	async fn claimed(
		&self,
		channel: ChannelId,
		payee: &AccountId,
		service: Service,
	) -> Result<Balance, ChainError> {
		let api = self.client.runtime_api();
		api.claimed(self.finalised(), channel, payee.clone(), service)
			.map_err(call)
	}

	async fn finalised_hash(&self, number: BlockNumber) -> Result<Option<H256>, ChainError> {
		if number > self.client.info().finalized_number {
			return Ok(None);
		}
		self.client.hash(number).map_err(call)
	}

	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError> {
		let api = self.client.runtime_api();
		let view = api.model(at.hash, *id).map_err(call)?;
		let check = api.check_price(at.hash, *id).map_err(call)?;
		let active = view.filter(|view| view.status == ModelStatus::Active);
		Ok(active.zip(check).map(|(view, check)| Model {
			spec: view.spec,
			price: view.price,
			check,
			serving: view.serving,
		}))
	}

	async fn serves(&self) -> Result<Vec<(ModelId, Price<Balance>)>, ChainError> {
		let Some((_, due)) = self.identity()? else {
			return Ok(Vec::new());
		};
		let at = self.finalised();
		let (mut served, mut after) = (Vec::new(), None);
		loop {
			let page = self.client.runtime_api().models(at, after, PAGE);
			let page = page.map_err(call)?;
			let Some(last) = page.last() else {
				return Ok(served);
			};
			after = Some(last.id);
			let own = page.into_iter().filter(|model| {
				model.status == ModelStatus::Active && model.serving.contains(&due.validator)
			});
			served.extend(own.map(|model| (model.id, model.price)));
		}
	}

	async fn lane_key(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Option<LaneKey>, ChainError> {
		let api = self.client.runtime_api();
		api.lane_key(self.best(), validator.clone(), session)
			.map_err(call)
	}

	async fn certificate_due(&self) -> Result<Option<CertificateDue<AccountId>>, ChainError> {
		Ok(self.identity()?.map(|(_, due)| due))
	}

	async fn certify(&self, certificate: Certificate) -> Result<(), ChainError> {
		let (key, _) = self
			.identity()?
			.ok_or_else(|| ChainError("this node has no key in the session".into()))?;
		let payload = certificate.payload(&self.client.info().genesis_hash);
		let signature: InferenceSignature =
			sign_with(&self.keystore, &key, &payload).map_err(node)?;
		let api = self.client.runtime_api();
		let transaction = api.certify_transaction(self.best(), certificate, signature);
		self.submit(transaction.map_err(call)?).await
	}

	async fn claim_bounds(&self) -> Result<ClaimBounds, ChainError> {
		let api = self.client.runtime_api();
		let (least, most) = api.claim_bounds(self.best()).map_err(call)?;
		Ok(ClaimBounds { least, most })
	}

	async fn claim_room(&self, validator: &AccountId, session: u32) -> Result<Balance, ChainError> {
		let api = self.client.runtime_api();
		api.claim_room(self.best(), validator.clone(), session)
			.map_err(call)
	}

	async fn settle(&self, claims: Vec<SignedClaim>) -> Result<(), ChainError> {
		let api = self.client.runtime_api();
		let transaction = api.settle_transaction(self.best(), claims).map_err(call)?;
		self.submit(transaction).await
	}

	async fn openings_due(
		&self,
		validator: &AccountId,
	) -> Result<Vec<OpeningDue<BlockNumber, Balance>>, ChainError> {
		let api = self.client.runtime_api();
		api.openings_due(self.best(), validator.clone())
			.map_err(call)
	}

	async fn open_receipt(
		&self,
		claim: ClaimId,
		point: u32,
		opening: Opening<AccountId, BlockNumber, Balance>,
	) -> Result<(), ChainError> {
		let api = self.client.runtime_api();
		let transaction = api.open_receipt_transaction(self.best(), claim, point, opening);
		self.submit(transaction.map_err(call)?).await
	}
}
