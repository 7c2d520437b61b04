//! The chain as the session lane's client sees it, through a node's JSON-RPC.

use std::sync::Arc;

use async_trait::async_trait;
use codec::{Decode, Encode};
use consilience_primitives::{
	model::{ModelStatus, Price},
	session::{Anchor, ChannelId, LaneKey},
	ModelId,
};
use consilience_runtime::{configs::sessions::VOUCHER_SESSIONS, AccountId, Balance, BlockNumber};
use consilience_session::chain::{
	Chain as SessionChain, ChainError, Channel, Lane, Model, Session,
};
use polkadot_sdk::sp_core::H256;

use crate::tool::{
	chain::{self, Chain},
	Result,
};

/// A node, asked about finalised blocks only. Clones share the connection.
#[derive(Clone)]
pub(in crate::tool) struct Network(pub(in crate::tool) Arc<Chain>);

impl Network {
	/// Connects to a node.
	pub(in crate::tool) async fn connect(url: &str) -> Result<Self> {
		Ok(Self(Arc::new(Chain::connect(url).await?)))
	}

	/// Calls the runtime at the last finalised block.
	async fn finalised_call<R: Decode>(&self, function: &str, arguments: impl Encode) -> Result<R> {
		let at = self.0.recently_finalized().await?.hash;
		self.0.runtime_finalized(function, arguments, at).await
	}

	/// A channel as it stands in finalised state.
	pub(super) async fn view(&self, channel: ChannelId) -> Result<Option<Channel>> {
		self.finalised_call("SessionsApi_channel", channel).await
	}

	/// A channel as it stands in the best block.
	pub(super) async fn best_view(&self, channel: ChannelId) -> Result<Option<Channel>> {
		self.0.runtime("SessionsApi_channel", channel, None).await
	}

	/// An account's channels in finalised state.
	pub(super) async fn views(&self, owner: &AccountId) -> Result<Vec<Channel>> {
		self.finalised_call("SessionsApi_channels_of", owner).await
	}

	/// An account's channels in the best block.
	pub(super) async fn best_views(&self, owner: &AccountId) -> Result<Vec<Channel>> {
		self.0.runtime("SessionsApi_channels_of", owner, None).await
	}

	/// Who answers for a model in this lane.
	pub(super) async fn lane_views(&self, model: ModelId) -> Result<Vec<Lane>> {
		self.finalised_call("SessionsApi_lanes", model).await
	}
}

fn unread(error: String) -> ChainError {
	ChainError(error)
}

#[async_trait]
impl SessionChain for Network {
	async fn genesis(&self) -> std::result::Result<H256, ChainError> {
		Ok(self.0.genesis())
	}

	async fn finalised(&self) -> std::result::Result<Anchor<BlockNumber>, ChainError> {
		let chain::Head { number, hash } = self.0.recently_finalized().await.map_err(unread)?;
		Ok(Anchor { number, hash })
	}

	async fn session(&self) -> std::result::Result<Session, ChainError> {
		let index: u32 = self
			.finalised_call("SessionsApi_session", ())
			.await
			.map_err(unread)?;
		Ok(Session {
			index,
			expires: index.saturating_add(VOUCHER_SESSIONS),
		})
	}

	async fn channel(&self, id: ChannelId) -> std::result::Result<Option<Channel>, ChainError> {
		self.view(id).await.map_err(unread)
	}

	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> std::result::Result<Option<Model>, ChainError> {
		let model: Option<chain::Model> = self
			.0
			.runtime_finalized("InferenceApi_model", id, at.hash)
			.await
			.map_err(unread)?;
		let Some(model) = model.filter(|model| model.status == ModelStatus::Active) else {
			return Ok(None);
		};
		let check: Option<Price<Balance>> = self
			.0
			.runtime_finalized("SessionsApi_check_price", id, at.hash)
			.await
			.map_err(unread)?;
		Ok(check.map(|check| Model {
			spec: model.spec,
			price: model.price,
			check,
			serving: model.serving,
		}))
	}

	async fn lanes(&self, model: &ModelId) -> std::result::Result<Vec<Lane>, ChainError> {
		self.lane_views(*model).await.map_err(unread)
	}

	async fn lane_keys(
		&self,
		validator: &AccountId,
		session: u32,
	) -> std::result::Result<Vec<LaneKey>, ChainError> {
		self.finalised_call("SessionsApi_lane_keys", (validator, session))
			.await
			.map_err(unread)
	}
}
