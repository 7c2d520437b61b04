//! What a validator that lies does otherwise than an honest one: only with the feature `liars`, which no shipped binary has.

use consilience_primitives::{
	evidence::Evidence, model::VerificationPolicy, request::Output, session::Receipt,
};
use polkadot_sdk::sp_core::H256;

use crate::message::{AccountId, Balance, BlockNumber, Question};

/// A way to lie. What is not said otherwise is honest.
pub trait Lies: std::fmt::Debug + Send + Sync + 'static {
	/// An answer that it signs and claims, and that nobody gets: the client is told that the engine failed.
	fn unserved(&self, question: &Question) -> Option<Output> {
		let _ = question;
		None
	}

	/// Changes a receipt before it is signed.
	fn receipt(&self, receipt: &mut Receipt<AccountId, BlockNumber, Balance>) {
		let _ = receipt;
	}

	/// What it signs of somebody's answer without measuring it.
	fn unmeasured(&self, check: &Drawn) -> Option<Evidence> {
		let _ = check;
		None
	}
}

/// A check that a liar was asked for, and what it can see of it.
#[derive(Clone, Debug)]
pub struct Drawn {
	/// The liar.
	pub checker: AccountId,
	/// Whose answer it is.
	pub executor: AccountId,
	/// Everybody who may be asked, in the order in which a client asks.
	pub order: Vec<AccountId>,
	/// How evidence of the model looks.
	pub policy: VerificationPolicy,
	/// What it should have measured under.
	pub challenge: H256,
}

/// Is honest.
#[derive(Debug)]
pub(crate) struct Honest;

impl Lies for Honest {}
