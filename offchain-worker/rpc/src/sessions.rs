//! `sessions_*`.

use std::{marker::PhantomData, sync::Arc};

use consilience_primitives::{
	session::{Allotment, ChannelId, ChannelView, LaneView},
	ModelId,
};
use consilience_runtime_api::SessionsApi;
use consilience_worker::chain::{AccountId, Balance, BlockNumber};
use jsonrpsee::{core::async_trait, proc_macros::rpc, types::ErrorObjectOwned};
use polkadot_sdk::{
	sp_api::{ApiError, ProvideRuntimeApi},
	sp_blockchain::HeaderBackend,
	sp_core::H256,
	sp_runtime::traits::Block as BlockT,
};
use serde::{Deserialize, Serialize};

use crate::{
	json::{amount, text},
	RpcError,
};

/// The session lane, as the chain knows it.
#[rpc(client, server, namespace = "sessions")]
pub trait SessionsRpc {
	/// A channel, at the best block or the one given; `null` if there never was one of this number, or all in it is paid or returned.
	#[method(name = "channel")]
	fn channel(
		&self,
		channel: ChannelId,
		at: Option<H256>,
	) -> Result<Option<JsonChannel>, ErrorObjectOwned>;

	/// An account's channels, the oldest first.
	#[method(name = "channelsOf")]
	fn channels_of(
		&self,
		owner: AccountId,
		at: Option<H256>,
	) -> Result<Vec<JsonChannel>, ErrorObjectOwned>;

	/// Validators that serve the model and take requests in this lane, with their addresses.
	#[method(name = "lanes")]
	fn lanes(&self, model: ModelId, at: Option<H256>) -> Result<Vec<JsonLane>, ErrorObjectOwned>;
}

/// Money of a channel for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonAllotment {
	/// All that was ever set apart, less what was taken back.
	#[serde(with = "amount")]
	pub amount: Balance,
	/// What was claimed of it.
	#[serde(with = "amount")]
	pub claimed: Balance,
	/// What its owner takes back, and when.
	pub lowering: Option<JsonLowering>,
}

/// Money that is about to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonLowering {
	/// How much, as far as it is not claimed before.
	#[serde(with = "amount")]
	pub by: Balance,
	/// From which block on.
	pub at: BlockNumber,
}

/// What a channel sets apart for an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonAllocation {
	/// The executor.
	pub payee: AccountId,
	/// Its money.
	#[serde(flatten)]
	pub allotment: JsonAllotment,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonChannel {
	/// Its number.
	pub id: ChannelId,
	/// Who opened it.
	pub owner: AccountId,
	/// Key that signs its vouchers.
	pub key: H256,
	/// Tip of its client's hash chain.
	pub chain: H256,
	/// Its seed, once it is drawn. Before that it cannot be used.
	pub seed: Option<H256>,
	/// First block in which nothing is claimed of it any more, if it is closing.
	pub closes_at: Option<BlockNumber>,
	/// For checkers.
	pub pot: JsonAllotment,
	/// For executors.
	pub allocations: Vec<JsonAllocation>,
	/// What was claimed and is not paid yet.
	#[serde(with = "amount")]
	pub pending: Balance,
}

/// A validator in this lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonLane {
	/// Which.
	pub validator: AccountId,
	/// Session in which its key was certified.
	pub session: u32,
	/// Its lane key.
	pub key: H256,
	/// Where clients reach it: `ws://…` or `wss://…`.
	pub endpoint: String,
}

impl From<Allotment<BlockNumber, Balance>> for JsonAllotment {
	fn from(allotment: Allotment<BlockNumber, Balance>) -> Self {
		Self {
			amount: allotment.amount,
			claimed: allotment.claimed,
			lowering: allotment.lowering.map(|lowering| JsonLowering {
				by: lowering.by,
				at: lowering.at,
			}),
		}
	}
}

impl From<ChannelView<AccountId, BlockNumber, Balance>> for JsonChannel {
	fn from(view: ChannelView<AccountId, BlockNumber, Balance>) -> Self {
		Self {
			id: view.id,
			owner: view.owner,
			key: H256(view.key.0),
			chain: view.chain,
			seed: view.seed,
			closes_at: view.closes_at,
			pot: view.pot.into(),
			allocations: view
				.allocations
				.into_iter()
				.map(|allocation| JsonAllocation {
					payee: allocation.payee,
					allotment: allocation.allotment.into(),
				})
				.collect(),
			pending: view.pending,
		}
	}
}

impl From<LaneView<AccountId>> for JsonLane {
	fn from(view: LaneView<AccountId>) -> Self {
		Self {
			validator: view.validator,
			session: view.session,
			key: H256(view.key.0),
			endpoint: text(&view.endpoint),
		}
	}
}

/// Answers `sessions_*`.
pub struct Sessions<Block, Client> {
	client: Arc<Client>,
	_block: PhantomData<fn() -> Block>,
}

impl<Block, Client> Sessions<Block, Client> {
	/// Answers from this client.
	pub fn new(client: Arc<Client>) -> Self {
		Self {
			client,
			_block: PhantomData,
		}
	}
}

fn failed(e: ApiError) -> RpcError {
	RpcError::Runtime(e.to_string())
}

#[async_trait]
impl<Block, Client> SessionsRpcServer for Sessions<Block, Client>
where
	Block: BlockT<Hash = H256>,
	Client: ProvideRuntimeApi<Block> + HeaderBackend<Block> + Send + Sync + 'static,
	Client::Api: SessionsApi<Block, AccountId, BlockNumber, Balance>,
{
	fn channel(
		&self,
		channel: ChannelId,
		at: Option<H256>,
	) -> Result<Option<JsonChannel>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		let found = self.client.runtime_api().channel(at, channel);
		Ok(found.map_err(failed)?.map(Into::into))
	}

	fn channels_of(
		&self,
		owner: AccountId,
		at: Option<H256>,
	) -> Result<Vec<JsonChannel>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		let found = self.client.runtime_api().channels_of(at, owner);
		let found = found.map_err(failed)?;
		Ok(found.into_iter().map(Into::into).collect())
	}

	fn lanes(&self, model: ModelId, at: Option<H256>) -> Result<Vec<JsonLane>, ErrorObjectOwned> {
		let at = at.unwrap_or_else(|| self.client.info().best_hash);
		let found = self.client.runtime_api().lanes(at, model);
		let found = found.map_err(failed)?;
		Ok(found.into_iter().map(Into::into).collect())
	}
}
