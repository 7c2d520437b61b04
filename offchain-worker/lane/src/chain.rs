//! What the lane sees of the chain.

use async_trait::async_trait;
use consilience_primitives::{
	model::{ModelSpec, Price},
	session::{
		Anchor, Certificate, CertificateDue, ChannelId, ChannelView, Claim, ClaimId, LaneKey,
		Opening, OpeningDue, Service, Signed,
	},
	ModelId,
};
use polkadot_sdk::sp_core::H256;
use tokio::sync::watch;

use crate::message::{AccountId, Balance, BlockNumber};

/// A channel of this chain.
pub type Channel = ChannelView<AccountId, BlockNumber, Balance>;
/// A claim of this chain, signed by the payee's lane key.
pub type SignedClaim = Signed<Claim<AccountId, Balance>>;

/// The chain cannot be read, or takes no transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChainError(pub String);

/// Where the chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
	/// Number of the best block.
	pub best: BlockNumber,
	/// The last finalised block.
	pub finalised: Anchor<BlockNumber>,
}

/// The session in which validators are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
	/// Its index.
	pub index: u32,
	/// Last session in which a voucher that is signed now can be claimed.
	pub expires: u32,
}

/// What a claim may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimBounds {
	/// At least.
	pub least: Balance,
	/// At most.
	pub most: Balance,
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

/// The chain, as the node of one validator sees it. Channels, models and prices are those of finalised state.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
	/// Hash of the genesis block.
	fn genesis(&self) -> H256;

	/// Where the chain is, now and whenever that changes.
	fn heads(&self) -> watch::Receiver<Heads>;

	/// The session of the best block.
	///
	/// # Errors
	/// If the chain cannot be read, as with all of these.
	async fn session(&self) -> Result<Session, ChainError>;

	/// Index of the session of the last finalised block. What ran out before it can be in no block any more.
	async fn finalised_session(&self) -> Result<u32, ChainError>;

	/// A channel; `None` where there is none of this number, or none any more.
	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError>;

	/// What a payee has claimed of a channel for a service.
	async fn claimed(
		&self,
		channel: ChannelId,
		payee: &AccountId,
		service: Service,
	) -> Result<Balance, ChainError>;

	/// Hash of the finalised block of this number; `None` where there is none yet.
	async fn finalised_hash(&self, number: BlockNumber) -> Result<Option<H256>, ChainError>;

	/// A model as it stands in a finalised block; `None` where it is not registered or takes no requests there.
	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError>;

	/// Models that this validator serves now, and their prices.
	async fn serves(&self) -> Result<Vec<(ModelId, Price<Balance>)>, ChainError>;

	/// The lane key that a validator has certified in a session.
	async fn lane_key(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Option<LaneKey>, ChainError>;

	/// What this validator has to certify, at the best block; `None` if it is in no session.
	async fn certificate_due(&self) -> Result<Option<CertificateDue<AccountId>>, ChainError>;

	/// Signs a certificate with the `infr` key and submits it.
	async fn certify(&self, certificate: Certificate) -> Result<(), ChainError>;

	/// What a claim may come to.
	async fn claim_bounds(&self) -> Result<ClaimBounds, ChainError>;

	/// How much more a validator may claim for answers, at the best block, with its lane key of this session: what is claimed and not
	/// audited yet has a bound, which its stake sets.
	async fn claim_room(&self, validator: &AccountId, session: u32) -> Result<Balance, ChainError>;

	/// Submits claims in one transaction, which is taken as a whole or not: at most [`MAX_CLAIMS`](consilience_primitives::session::MAX_CLAIMS).
	async fn settle(&self, claims: Vec<SignedClaim>) -> Result<(), ChainError>;

	/// Receipts that a validator has to open, at the best block.
	async fn openings_due(
		&self,
		validator: &AccountId,
	) -> Result<Vec<OpeningDue<BlockNumber, Balance>>, ChainError>;

	/// Submits an opening.
	async fn open_receipt(
		&self,
		claim: ClaimId,
		point: u32,
		opening: Opening<AccountId, BlockNumber, Balance>,
	) -> Result<(), ChainError>;
}
