//! The chain as the worker sees it.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature, KEY_TYPE},
	report::{Duties, Report, Work},
	view::ModelView,
	ModelId, RequestId,
};
use consilience_runtime_api::InferenceApi;
use futures::{stream::BoxStream, StreamExt};
use polkadot_sdk::{
	sc_client_api::{BlockBackend, BlockchainEvents},
	sc_transaction_pool_api::{error::IntoPoolError, TransactionPool},
	sp_api::{ApiExt, ProvideRuntimeApi},
	sp_application_crypto::ByteArray,
	sp_blockchain::HeaderBackend,
	sp_consensus::SyncOracle,
	sp_core::{sr25519, H256},
	sp_keystore::KeystorePtr,
	sp_runtime::{
		traits::{Block as BlockT, Header as _},
		transaction_validity::{InvalidTransaction, TransactionSource, TransactionValidityError},
		AccountId32,
	},
	sp_transaction_pool::runtime_api::TaggedTransactionQueue,
};

/// An account on chain.
pub type AccountId = AccountId32;
/// Number of a block.
pub type BlockNumber = u32;
/// Amount of the chain's token in its smallest unit.
pub type Balance = u128;

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
	/// Its hash.
	pub hash: H256,
	/// Its number.
	pub number: BlockNumber,
	/// Hash of the block before it; only of [`Chain::heads`].
	pub parent: Option<H256>,
}

/// Why the chain could not be asked or told something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
	/// The runtime could not be called.
	#[error("runtime call: {0}")]
	Call(String),
	/// The keystore did not sign.
	#[error("keystore: {0}")]
	Keystore(String),
	/// A report was refused: something in it is not due.
	#[error("the report was refused: {0}")]
	Refused(String),
	/// A report is more than a block takes.
	#[error("the report is more than a block takes")]
	TooLarge,
	/// The pool did not take a report for another reason.
	#[error("transaction pool: {0}")]
	Pool(String),
}

/// What the worker needs of a chain. Implemented by [`RuntimeChain`], and by tests.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
	/// New best blocks, as they come.
	fn heads(&self) -> BoxStream<'static, Head>;
	/// Newly finalised blocks, as they come.
	fn finality(&self) -> BoxStream<'static, Head>;
	/// The last finalised block.
	fn finalized(&self) -> Head;
	/// Whether the node is catching up with the network, so that what is due at its best block is long past.
	fn is_major_syncing(&self) -> bool;
	/// Hash of the genesis block, which signatures are bound to.
	fn genesis(&self) -> H256;
	/// Inference session keys in this node's keystore.
	fn keys(&self) -> Vec<InferenceId>;
	/// What is due for a key.
	fn duties(
		&self,
		at: H256,
		key: InferenceId,
	) -> Result<Option<Duties<AccountId, BlockNumber>>, ChainError>;
	/// What the duties of a request are about; `None` if it is not open.
	fn work(&self, at: H256, request: RequestId) -> Result<Option<Work>, ChainError>;
	/// Data that a transaction brought and state holds only the hash of; `None` if this node does not have it. The hash is to be
	/// checked.
	fn data(&self, hash: H256) -> Result<Option<Vec<u8>>, ChainError>;
	/// A model on chain.
	fn model(
		&self,
		at: H256,
		model: ModelId,
	) -> Result<Option<ModelView<AccountId, Balance>>, ChainError>;
	/// Signs with an inference session key.
	fn sign(&self, key: &InferenceId, payload: &[u8]) -> Result<InferenceSignature, ChainError>;
	/// Whether a report would be let in on top of a block. [`ChainError::Refused`] if not.
	fn check(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError>;
	/// Puts a report into the transaction pool.
	async fn submit(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError>;
}

type PoolHash<Pool> = <<Pool as TransactionPool>::Block as BlockT>::Hash;
type PoolTransaction<Pool> = <<Pool as TransactionPool>::Block as BlockT>::Extrinsic;

/// A chain behind a client, a keystore, a transaction pool and the network's state.
pub struct RuntimeChain<Block, Client, Pool> {
	pub(crate) client: Arc<Client>,
	pub(crate) pool: Arc<Pool>,
	pub(crate) keystore: KeystorePtr,
	sync: Arc<dyn SyncOracle + Send + Sync>,
	_block: PhantomData<fn() -> Block>,
}

impl<Block, Client, Pool> RuntimeChain<Block, Client, Pool> {
	/// The chain that these see.
	pub fn new(
		client: Arc<Client>,
		pool: Arc<Pool>,
		keystore: KeystorePtr,
		sync: Arc<dyn SyncOracle + Send + Sync>,
	) -> Self {
		Self {
			client,
			pool,
			keystore,
			sync,
			_block: PhantomData,
		}
	}
}

/// Why a report is not let in.
fn refused(e: TransactionValidityError) -> ChainError {
	match e {
		TransactionValidityError::Invalid(InvalidTransaction::ExhaustsResources) => {
			ChainError::TooLarge
		}
		TransactionValidityError::Invalid(e) => ChainError::Refused(format!("{e:?}")),
		TransactionValidityError::Unknown(e) => ChainError::Refused(format!("{e:?}")),
	}
}

/// Inference session keys in a keystore.
pub(crate) fn inference_keys(keystore: &KeystorePtr) -> Vec<InferenceId> {
	keystore
		.sr25519_public_keys(KEY_TYPE)
		.into_iter()
		.map(InferenceId::from)
		.collect()
}

/// Signs with an inference session key.
pub(crate) fn sign_with(
	keystore: &KeystorePtr,
	key: &InferenceId,
	payload: &[u8],
) -> Result<InferenceSignature, ChainError> {
	let public = sr25519::Public::from_slice(key.as_slice())
		.map_err(|_| ChainError::Keystore("an inference key has 32 bytes".into()))?;
	keystore
		.sr25519_sign(KEY_TYPE, &public, payload)
		.map_err(|e| ChainError::Keystore(e.to_string()))?
		.map(InferenceSignature::from)
		.ok_or_else(|| ChainError::Keystore(format!("the key {key} is gone")))
}

/// How long the pool has to be where the worker is.
const POOL: Duration = Duration::from_secs(1);

/// Puts a transaction of this node's into its pool; one that is there already is. What is due since this block would be refused, and not
/// looked at again for a while, by a pool that does not have the block yet: it is waited for.
pub(crate) async fn submit_local<Pool: TransactionPool>(
	pool: &Pool,
	at: PoolHash<Pool>,
	transaction: PoolTransaction<Pool>,
) -> Result<(), ChainError> {
	use polkadot_sdk::sc_transaction_pool_api::error::Error as PoolError;
	drop(pool.ready_at_with_timeout(at, POOL).await);
	let submitted = pool.submit_one(at, TransactionSource::Local, transaction);
	match submitted.await {
		Ok(_) => Ok(()),
		Err(e) => Err(match e.into_pool_error() {
			Ok(PoolError::AlreadyImported(_)) => return Ok(()),
			Ok(PoolError::InvalidTransaction(e)) => refused(e.into()),
			Ok(e) => ChainError::Pool(e.to_string()),
			Err(e) => ChainError::Pool(e.to_string()),
		}),
	}
}

pub(crate) fn call(e: impl std::fmt::Display) -> ChainError {
	ChainError::Call(e.to_string())
}

#[async_trait]
impl<Block, Client, Pool> Chain for RuntimeChain<Block, Client, Pool>
where
	Block: BlockT<Hash = H256>,
	Block::Header: polkadot_sdk::sp_runtime::traits::Header<Number = BlockNumber>,
	Client: ProvideRuntimeApi<Block>
		+ BlockBackend<Block>
		+ BlockchainEvents<Block>
		+ HeaderBackend<Block>
		+ Send
		+ Sync
		+ 'static,
	Client::Api:
		InferenceApi<Block, AccountId, BlockNumber, Balance> + TaggedTransactionQueue<Block>,
	Pool: TransactionPool<Block = Block> + 'static,
{
	fn heads(&self) -> BoxStream<'static, Head> {
		self.client
			.import_notification_stream()
			.filter_map(|n| async move {
				n.is_new_best.then(|| Head {
					hash: n.hash,
					number: *n.header.number(),
					parent: Some(*n.header.parent_hash()),
				})
			})
			.boxed()
	}

	fn finality(&self) -> BoxStream<'static, Head> {
		self.client
			.finality_notification_stream()
			.map(|n| Head {
				hash: n.hash,
				number: *n.header.number(),
				parent: None,
			})
			.boxed()
	}

	fn finalized(&self) -> Head {
		let info = self.client.info();
		Head {
			hash: info.finalized_hash,
			number: info.finalized_number,
			parent: None,
		}
	}

	fn is_major_syncing(&self) -> bool {
		self.sync.is_major_syncing()
	}

	fn genesis(&self) -> H256 {
		self.client.info().genesis_hash
	}

	fn keys(&self) -> Vec<InferenceId> {
		inference_keys(&self.keystore)
	}

	fn duties(
		&self,
		at: H256,
		key: InferenceId,
	) -> Result<Option<Duties<AccountId, BlockNumber>>, ChainError> {
		let api = self.client.runtime_api();
		// A chain whose runtime does not know inferences yet has nothing to do.
		if !api
			.has_api::<dyn InferenceApi<Block, AccountId, BlockNumber, Balance>>(at)
			.map_err(call)?
		{
			return Ok(None);
		}
		api.duties(at, key).map_err(call)
	}

	fn work(&self, at: H256, request: RequestId) -> Result<Option<Work>, ChainError> {
		self.client.runtime_api().work(at, request).map_err(call)
	}

	fn data(&self, hash: H256) -> Result<Option<Vec<u8>>, ChainError> {
		self.client.indexed_transaction(hash).map_err(call)
	}

	fn model(
		&self,
		at: H256,
		model: ModelId,
	) -> Result<Option<ModelView<AccountId, Balance>>, ChainError> {
		self.client.runtime_api().model(at, model).map_err(call)
	}

	fn sign(&self, key: &InferenceId, payload: &[u8]) -> Result<InferenceSignature, ChainError> {
		sign_with(&self.keystore, key, payload)
	}

	fn check(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		let api = self.client.runtime_api();
		let transaction = api
			.report_transaction(at, report, signature)
			.map_err(call)?;
		self.client
			.runtime_api()
			.validate_transaction(at, TransactionSource::Local, transaction, at)
			.map_err(call)?
			.map(|_| ())
			.map_err(refused)
	}

	async fn submit(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		let transaction = self
			.client
			.runtime_api()
			.report_transaction(at, report, signature)
			.map_err(call)?;
		submit_local(&*self.pool, at, transaction).await
	}
}
