//! Declaration of the runtime API through which node and clients see models, requests and duties.
//!
//! The runtime decides what is due and wraps the reply in a transaction, so that a runtime upgrade changes the protocol
//! without a new binary.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

use alloc::vec::Vec;
use codec::Codec;
use consilience_primitives::{
	contribution::Contribution,
	crypto::{InferenceId, InferenceSignature},
	model::Price,
	report::{ContributionDue, Duties, Report, Work},
	request::{Assurance, StoredInput},
	session::{
		Certificate, CertificateDue, ChannelId, ChannelView, Claim, ClaimId, LaneKey, LaneView,
		Opening, OpeningDue, Service, Signed, Verdict,
	},
	view::{ModelView, Quote, QuoteError, RequestView},
	ModelId, RequestId,
};
use polkadot_sdk::{sp_api, sp_core::H256, sp_runtime};

sp_api::decl_runtime_apis! {
	/// Models, requests and duties.
	pub trait InferenceApi<AccountId, BlockNumber, Balance>
	where
		AccountId: Codec,
		BlockNumber: Codec,
		Balance: Codec,
	{
		/// Up to `limit` models, starting after the one given, in the order of their keys in storage.
		fn models(after: Option<ModelId>, limit: u32) -> Vec<ModelView<AccountId, Balance>>;

		/// One model.
		fn model(model: ModelId) -> Option<ModelView<AccountId, Balance>>;

		/// What a request would cost at most, tip not counted, and how long it is expected to take; or why it would be refused.
		fn quote(model: ModelId, input: StoredInput, assurance: Assurance) -> Result<Quote<Balance>, QuoteError>;

		/// A request that is open or was settled not long ago.
		fn request(request: RequestId) -> Option<RequestView<AccountId, BlockNumber, Balance>>;

		/// What is due for the validator with this session key; `None` if it is in no session.
		fn duties(key: InferenceId) -> Option<Duties<AccountId, BlockNumber>>;

		/// What the engine needs for the duties of a request; `None` if it is not open.
		fn work(request: RequestId) -> Option<Work>;

		/// Contributions to the randomness of the next blocks that are asked of the validator with this session key.
		fn contributions_due(key: InferenceId) -> Vec<ContributionDue<BlockNumber>>;

		/// A contribution as a transaction.
		fn contribute_transaction(
			contribution: Contribution<BlockNumber>,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;

		/// A report as a transaction.
		fn report_transaction(
			report: Report<BlockNumber>,
			signature: InferenceSignature,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;
	}

	/// The session lane.
	pub trait SessionsApi<AccountId, BlockNumber, Balance>
	where
		AccountId: Codec,
		BlockNumber: Codec,
		Balance: Codec,
	{
		/// A channel, until everything in it is paid or returned.
		fn channel(channel: ChannelId) -> Option<ChannelView<AccountId, BlockNumber, Balance>>;

		/// An account's channels, the oldest first.
		fn channels_of(owner: AccountId) -> Vec<ChannelView<AccountId, BlockNumber, Balance>>;

		/// Validators of the session that serve the model and take requests in this lane.
		fn lanes(model: ModelId) -> Vec<LaneView<AccountId>>;

		/// The lane key that a validator has certified in a session, the last if there are several; `None` once that is forgotten.
		fn lane_key(validator: AccountId, session: u32) -> Option<LaneKey>;

		/// All lane keys that a validator has certified in a session, the last in use; none once that is forgotten. What each of them has
		/// signed as of this session is its word.
		fn lane_keys(validator: AccountId, session: u32) -> Vec<LaneKey>;

		/// What the validator with this session key has to certify; `None` if it is in no session.
		fn certificate_due(key: InferenceId) -> Option<CertificateDue<AccountId>>;

		/// Index of the validators' session, as certificates and receipts count.
		fn session() -> u32;

		/// What a check of an answer of the model costs, by the units of question and answer; `None` if there is no such model.
		fn check_price(model: ModelId) -> Option<Price<Balance>>;

		/// The least and the most that a claim may come to.
		fn claim_bounds() -> (Balance, Balance);

		/// How much more the payee may claim now for answers, if it signs the claim with its lane key of this session: what is claimed and
		/// not audited yet stays at or below half of the stake that answers for it.
		fn claim_room(payee: AccountId, session: u32) -> Balance;

		/// What was put before a jury or opened of a receipt with this hash, if that is not forgotten.
		fn receipt_request(receipt: H256) -> Option<RequestId>;

		/// What putting a receipt with so many units of question and answer, and of the longest answer that could have been asked for,
		/// before a jury puts at stake.
		fn appeal_bond(units: u32) -> Balance;

		/// Receipts that the validator has to open, the most urgent first.
		fn openings_due(validator: AccountId) -> Vec<OpeningDue<BlockNumber, Balance>>;

		/// What the payee has claimed of the channel for this service.
		fn claimed(channel: ChannelId, payee: AccountId, service: Service) -> Balance;

		/// A certificate as a transaction.
		fn certify_transaction(
			certificate: Certificate,
			signature: InferenceSignature,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;

		/// Claims as a transaction: at most [`MAX_CLAIMS`](consilience_primitives::session::MAX_CLAIMS) of them, those beyond are left out.
		fn settle_transaction(
			claims: Vec<Signed<Claim<AccountId, Balance>>>,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;

		/// What a checker has signed, as a transaction that has it judged.
		fn testify_transaction(
			verdict: Signed<Verdict<AccountId>>,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;

		/// An opening as a transaction.
		fn open_receipt_transaction(
			claim: ClaimId,
			point: u32,
			opening: Opening<AccountId, BlockNumber, Balance>,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;
	}
}
