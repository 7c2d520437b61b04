//! The chain, as a client reads it.

use async_trait::async_trait;
use consilience_lane::message::{AccountId, BlockNumber};
use consilience_primitives::{
	session::{Anchor, ChannelId, LaneKey, LaneView},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

pub use consilience_lane::{ChainError, Channel, Model, Session};

/// A validator's lane.
pub type Lane = LaneView<AccountId>;

/// The chain, at finalised blocks.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
	/// Returns the hash of the genesis block.
	///
	/// # Errors
	/// If the chain cannot be read, as with all of these.
	async fn genesis(&self) -> Result<H256, ChainError>;

	/// Returns the last finalised block.
	async fn finalised(&self) -> Result<Anchor<BlockNumber>, ChainError>;

	/// Returns the session that this block is in.
	async fn session(&self) -> Result<Session, ChainError>;

	/// Returns a channel; `None` where there is none of this number.
	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError>;

	/// Returns a model as it stands in a block; `None` where it is not registered or takes no requests there.
	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError>;

	/// Returns the lanes of those who serve a model now.
	async fn lanes(&self, model: &ModelId) -> Result<Vec<Lane>, ChainError>;

	/// Returns the lane keys that the chain has certified for a validator in a session, the one in use last: what any of them has signed
	/// is the validator's word.
	async fn lane_keys(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Vec<LaneKey>, ChainError>;
}
