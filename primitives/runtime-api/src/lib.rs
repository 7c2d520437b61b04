//! Declaration of the runtime API through which node and clients see models, requests and duties.
//!
//! The runtime decides what is due and wraps the reply in a transaction, so that a runtime upgrade changes the protocol
//! without a new binary.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

use alloc::vec::Vec;
use codec::Codec;
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	report::{Duties, Report, Work},
	request::{Assurance, StoredInput},
	view::{ModelView, QuoteError, RequestView},
	ModelId, RequestId,
};
use polkadot_sdk::{sp_api, sp_runtime};

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

		/// What a request would cost at most, tip not counted, or why it would be refused.
		fn quote(model: ModelId, input: StoredInput, assurance: Assurance) -> Result<Balance, QuoteError>;

		/// A request that is open or was settled not long ago.
		fn request(request: RequestId) -> Option<RequestView<AccountId, BlockNumber, Balance>>;

		/// What is due for the validator with this session key; `None` if it is in no session.
		fn duties(key: InferenceId) -> Option<Duties<AccountId, BlockNumber>>;

		/// What the engine needs for the duties of a request; `None` if it is not open.
		fn work(request: RequestId) -> Option<Work>;

		/// A report as a transaction.
		fn report_transaction(
			report: Report<BlockNumber>,
			signature: InferenceSignature,
		) -> <Block as sp_runtime::traits::Block>::Extrinsic;
	}
}
