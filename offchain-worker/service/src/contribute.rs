//! Contributions to the randomness that draws verifiers ([`consilience_primitives::contribution`]).
//!
//! The chain asks for them as soon as answers stand in a block, and verifiers are drawn when the last has come. So they are a task of
//! their own, which waits for neither models nor engine: a validator that serves nothing contributes too.
//!
//! A node that has not imported the block yet refuses a contribution to the next, and is not sent it again. So it is sent a moment after
//! the block came, and where a block has not taken it, it is signed again: another proof of the same output, with a higher priority.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use consilience_primitives::{
	contribution::{input, Contribution},
	crypto::{InferenceId, KEY_TYPE},
	report::ContributionDue,
};
use consilience_runtime_api::InferenceApi;
use futures::{stream::BoxStream, FutureExt, StreamExt};
use polkadot_sdk::{
	sc_transaction_pool_api::TransactionPool,
	sp_api::ProvideRuntimeApi,
	sp_blockchain::HeaderBackend,
	sp_core::{sr25519, H256},
	sp_runtime::traits::Block as BlockT,
};

use crate::{
	chain::{
		call, submit_local, AccountId, Balance, BlockNumber, Chain, ChainError, Head, RuntimeChain,
	},
	LOG_TARGET,
};

/// What the task needs of a chain. Implemented by [`RuntimeChain`], and by tests.
#[async_trait]
pub trait Tossing: Send + Sync + 'static {
	/// New best blocks, as they come.
	fn heads(&self) -> BoxStream<'static, Head>;
	/// Whether the node is catching up with the network, so that what is asked at its best block is long past.
	fn is_major_syncing(&self) -> bool;
	/// Inference session keys in this node's keystore.
	fn keys(&self) -> Vec<InferenceId>;
	/// What is asked of a key.
	fn contributions_due(
		&self,
		at: H256,
		key: &InferenceId,
	) -> Result<Vec<ContributionDue<BlockNumber>>, ChainError>;
	/// Signs the contribution of a key to the block that follows `parent`.
	fn contribution(
		&self,
		block: BlockNumber,
		parent: &H256,
		key: &InferenceId,
	) -> Result<Contribution<BlockNumber>, ChainError>;
	/// Puts a contribution into the transaction pool.
	async fn contribute(
		&self,
		at: H256,
		contribution: Contribution<BlockNumber>,
	) -> Result<(), ChainError>;
}

#[async_trait]
impl<Block, Client, Pool> Tossing for RuntimeChain<Block, Client, Pool>
where
	Self: Chain,
	Block: BlockT<Hash = H256>,
	Client: ProvideRuntimeApi<Block> + HeaderBackend<Block> + Send + Sync + 'static,
	Client::Api: InferenceApi<Block, AccountId, BlockNumber, Balance>,
	Pool: TransactionPool<Block = Block> + 'static,
{
	fn heads(&self) -> BoxStream<'static, Head> {
		Chain::heads(self)
	}

	fn is_major_syncing(&self) -> bool {
		Chain::is_major_syncing(self)
	}

	fn keys(&self) -> Vec<InferenceId> {
		Chain::keys(self)
	}

	fn contributions_due(
		&self,
		at: H256,
		key: &InferenceId,
	) -> Result<Vec<ContributionDue<BlockNumber>>, ChainError> {
		let api = self.client.runtime_api();
		let due = api.contributions_due(at, key.clone());
		due.map_err(call)
	}

	fn contribution(
		&self,
		block: BlockNumber,
		parent: &H256,
		key: &InferenceId,
	) -> Result<Contribution<BlockNumber>, ChainError> {
		let public = sr25519::Public::from(key.clone());
		let data = input(&self.client.info().genesis_hash, parent);
		let signed = self.keystore.sr25519_vrf_sign(KEY_TYPE, &public, &data);
		let signed = signed
			.map_err(|e| ChainError::Keystore(e.to_string()))?
			.ok_or_else(|| ChainError::Keystore(format!("the key {key} is gone")))?;
		Ok(Contribution::new(block, key.clone(), &signed))
	}

	async fn contribute(
		&self,
		at: H256,
		contribution: Contribution<BlockNumber>,
	) -> Result<(), ChainError> {
		let api = self.client.runtime_api();
		let transaction = api.contribute_transaction(at, contribution);
		let transaction = transaction.map_err(call)?;
		submit_local(&*self.pool, at, transaction).await
	}
}

/// Contributes whatever the chain asks for, so long after each block. Ends with the chain's stream of blocks.
pub async fn run<C: Tossing>(chain: Arc<C>, pause: Duration) {
	let mut heads = chain.heads();
	while let Some(mut head) = heads.next().await {
		tokio::time::sleep(pause).await;
		// Another block may have come meanwhile, and asks for what this one asked for.
		while let Some(Some(next)) = heads.next().now_or_never() {
			head = next;
		}
		if chain.is_major_syncing() {
			continue;
		}
		for key in chain.keys() {
			if let Err(error) = step(&*chain, head, &key).await {
				tracing::warn!(target: LOG_TARGET, "nothing is contributed to the next draw: {error}");
			}
		}
	}
}

async fn step(chain: &impl Tossing, head: Head, key: &InferenceId) -> Result<(), ChainError> {
	for due in chain.contributions_due(head.hash, key)? {
		let parent = due.parent.unwrap_or(head.hash);
		let contribution = chain.contribution(due.block, &parent, key)?;
		match chain.contribute(head.hash, contribution).await {
			// It is in a block of which this node has heard meanwhile, or has come to the pool from elsewhere.
			Err(ChainError::Refused(why)) => {
				tracing::debug!(target: LOG_TARGET, "contribution to block {}: {why}", due.block);
			}
			// What is wrong with this one is nothing to the others.
			Err(error) => {
				tracing::warn!(target: LOG_TARGET, "contribution to block {}: {error}", due.block);
			}
			Ok(()) => (),
		}
	}
	Ok(())
}
