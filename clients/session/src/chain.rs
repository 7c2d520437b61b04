//! What a client sees of the chain.

use async_trait::async_trait;
use consilience_lane::message::{AccountId, Balance, BlockNumber};
use consilience_primitives::{
	model::{ModelSpec, Price},
	session::{Allotment, Anchor, ChannelId, ChannelView, LaneKey, LaneView},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

/// The chain cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChainError(pub String);

/// The session in which validators are, and what vouchers are worth in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
	/// Its index.
	pub index: u32,
	/// Last session in which a voucher that is signed now can be claimed: [`Voucher::expires`].
	///
	/// [`Voucher::expires`]: consilience_primitives::session::Voucher::expires
	pub expires: u32,
}

/// A channel of this chain.
pub type Channel = ChannelView<AccountId, BlockNumber, Balance>;
/// A validator's lane.
pub type Lane = LaneView<AccountId>;

/// Returns what vouchers can come to that are paid out of an allotment, all that were ever signed.
pub(crate) fn limit(allotment: &Allotment<BlockNumber, Balance>) -> Balance {
	let leaving = allotment.lowering.map_or(0, |lowering| lowering.by);
	allotment.amount.saturating_sub(leaving)
}

/// A model as it stands in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
	/// Its description.
	pub spec: ModelSpec,
	/// What an answer costs.
	pub price: Price<Balance>,
	/// What each check of an answer costs, by the units of question and answer.
	pub check: Price<Balance>,
	/// Who serves it.
	pub serving: Vec<AccountId>,
}

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

	/// Returns the lane key that the chain has certified for a validator in a session.
	async fn lane_key(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Option<LaneKey>, ChainError>;
}
