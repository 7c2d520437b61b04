//! Whether a voucher is what it should be.

use consilience_primitives::session::{Allotment, ChannelId, LaneKey, Service};
use polkadot_sdk::sp_core::H256;

use crate::{
	chain::{Channel, Session},
	message::{AccountId, Balance, BlockNumber, Payment, Refusal},
	Refused,
};

/// What a voucher has to say beside transcript and amount.
pub(crate) struct Terms<'a> {
	pub(crate) genesis: &'a H256,
	/// The channel's signing key.
	pub(crate) key: &'a LaneKey,
	pub(crate) channel: ChannelId,
	pub(crate) payee: &'a AccountId,
	pub(crate) service: Service,
	pub(crate) number: u32,
	pub(crate) request: &'a H256,
	pub(crate) session: Session,
}

/// A voucher is refused.
pub(crate) fn wrong(words: impl Into<String>) -> Refused {
	Refused::new(Refusal::Voucher, words)
}

impl Terms<'_> {
	/// Checks all but transcript and amount; the signature last, which costs most.
	pub(crate) fn check(&self, voucher: &Payment) -> Result<(), Refused> {
		let body = &voucher.body;
		if body.channel != self.channel
			|| body.payee != *self.payee
			|| body.service != self.service
			|| body.number != self.number
			|| body.request != *self.request
		{
			return Err(wrong("the voucher is for something else"));
		}
		let Session { index, expires } = self.session;
		if body.expires <= index {
			return Err(wrong(
				"the voucher expires too soon: it has to outlive the session",
			));
		}
		// A client may be in the next session already.
		if body.expires > expires.saturating_add(1) {
			return Err(wrong("the voucher expires later than any voucher does"));
		}
		if !voucher.verify(self.genesis, self.key) {
			return Err(wrong("the voucher is not signed by the channel's key"));
		}
		Ok(())
	}
}

/// What a channel sets apart for a payee's answers.
pub(crate) fn allotment<'a>(
	channel: &'a Channel,
	payee: &AccountId,
) -> Option<&'a Allotment<BlockNumber, Balance>> {
	let mut all = channel.allocations.iter();
	all.find(|a| a.payee == *payee).map(|a| &a.allotment)
}
