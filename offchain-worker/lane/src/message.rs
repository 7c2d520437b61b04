//! What a client and a validator say to one another: one SCALE-encoded message in each binary message of a WebSocket.
//!
//! ```text
//! client                                          validator
//!   Hello ─────────────────────────────────────────▶
//!   ◀────────────────────────────────────────── Offer
//!   Ask, voucher for the prompt ───────────────────▶
//!   ◀──────────────────────────── Frame, Frame, …      no more than a slice beyond what is paid
//!   Pay ───────────────────────────────────────────▶
//!   ◀──────────────────────────────────── End: receipt
//!   Pay: the last slice, once all is as it should be ▶
//!
//!   Check: receipt, question, answer, preimage ─────▶   to another validator
//!   ◀───────────────────────────────────────── Verdict
//!   Pay ───────────────────────────────────────────▶
//!
//! client                                          validator all of whose places are taken
//!   Hello ─────────────────────────────────────────▶
//!   ◀────────────────────────────────────────── Offer   with no free place
//!   Wait ──────────────────────────────────────────▶
//!   ◀─────────────────────────────── Waiting, Waiting, …   now and then
//!   ◀────────────────────────────────────────── Offer   its turn: a place is kept for it, for a moment
//!   Ask ───────────────────────────────────────────▶
//!
//! client                                          payee of a channel that closes
//!   Release ───────────────────────────────────────▶
//!   ◀──────────────────────────────────────── Released   once it has claimed what it is owed
//! ```
//!
//! Whoever waits leaves the line by ending the connection. While a check waits to be measured, the checker says `Waiting` too.
//!
//! When all that is paid, the connection is good for the next question or check: at once, or after another `Hello`.

use codec::{Compact, Decode, Encode};
use consilience_primitives::{
	model::Price,
	request::{FinishReason, Output},
	session::{Ask, ChannelId, Receipt, Release, Signable, Signed, Verdict, Voucher},
	ModelId,
};
use polkadot_sdk::{sp_core::H256, sp_runtime::AccountId32};

/// Version of these messages.
pub const VERSION: u8 = 1;
/// Longest message from a peer whose channel is not known to pay, in bytes.
pub const MAX_UNPAID: usize = 64 << 10;
/// Longest message, in bytes: a check of the longest answer to the longest question.
pub const MAX_MESSAGE: usize = 1 << 20;

/// An account on chain.
pub type AccountId = AccountId32;
/// Number of a block.
pub type BlockNumber = u32;
/// Amount of the chain's token in its smallest unit.
pub type Balance = u128;
/// [`Ask`] of this chain.
pub type Question = Ask<AccountId, BlockNumber>;
/// [`Voucher`] of this chain, signed by its channel's key.
pub type Payment = Signed<Voucher<AccountId, Balance>>;
/// [`Receipt`] of this chain, signed by the executor's lane key.
pub type SignedReceipt = Signed<Receipt<AccountId, BlockNumber, Balance>>;
/// [`Verdict`] of this chain, signed by the checker's lane key.
pub type SignedVerdict = Signed<Verdict<AccountId>>;
/// A [`Waiter`], signed by its channel's key.
pub type SignedWaiter = Signed<Waiter>;
/// [`Release`] of this chain, signed by the payee's lane key.
pub type SignedRelease = Signed<Release<AccountId, Balance>>;

/// From a client.
// There is one of them at a time, for as long as it is read.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToValidator {
	/// The first message; and again, over a connection over which a voucher has verified, by whoever wants to know what is offered now.
	Hello {
		/// [`VERSION`].
		version: u8,
		/// Which chain.
		genesis: H256,
		/// Which channel pays.
		channel: ChannelId,
	},
	/// Asks. The voucher pays for the prompt: the model's price for its input units and no output, on top of what was paid before.
	Ask {
		/// What.
		ask: Question,
		/// For [`Service::Answer`](consilience_primitives::session::Service::Answer), with the transcript of nothing yet.
		voucher: Payment,
	},
	/// Pays for more of an answer, or for a check.
	Pay(Payment),
	/// The client has seen enough: the answer ends, and has a receipt for what was sent.
	Cancel {
		/// Number of the request.
		number: u32,
	},
	/// Asks to check a receipt.
	Check(Box<CheckRequest>),
	/// Asks for leave to take back what a closing channel sets apart and the validator has not earned.
	Release,
	/// Waits for a place, where there is none. Each channel has one place in a validator's line: over a second connection it goes on waiting
	/// where it was, and the first one is refused.
	Wait(SignedWaiter),
}

/// Who waits for a place, and for what. Signed, because whose channel is which stands on chain: nobody waits in another's name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Waiter {
	/// The channel that will pay.
	pub channel: ChannelId,
	/// Whose line it is.
	pub payee: AccountId,
	/// The model.
	pub model: ModelId,
}

impl Signable for Waiter {
	const TYPE: &'static str = "consilience/session/waiter";
}

/// What a checker is given.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CheckRequest {
	/// The executor's.
	pub receipt: SignedReceipt,
	/// What was asked.
	pub ask: Question,
	/// What was answered.
	pub output: Output,
	/// The channel's preimage of this number.
	pub preimage: H256,
}

/// From a validator.
// There is one of them at a time, for as long as it is sent.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToClient {
	/// In reply to `Hello`; and to whoever waits, when its turn has come: a place is kept for it, for a moment.
	Offer(Offer),
	/// Part of an answer.
	Frame(Frame),
	/// The end of an answer.
	End(Box<End>),
	/// What a check found.
	Verdict(Box<SignedVerdict>),
	/// Something is not done; the connection goes on unless it says otherwise.
	Refused {
		/// Number of the request, if it is about one.
		number: Option<u32>,
		/// Why.
		why: Refusal,
		/// The same, for people.
		words: String,
	},
	/// Leave to take back what is not earned.
	Released(Box<SignedRelease>),
	/// Its turn has not come yet.
	Waiting {
		/// How many are served before it.
		ahead: u32,
	},
}

/// What a validator offers now.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
	/// Who it is. Its lane key is on chain.
	pub payee: AccountId,
	/// Models that it serves.
	pub models: Vec<OfferedModel>,
	/// The channel's last voucher for an answer that it holds: the next one's amount counts on from there. A voucher that was lost on its
	/// way, or came with a question that was refused, therefore leaves no gap between receipts.
	pub held_answer: Option<Payment>,
	/// The same for checks.
	pub held_check: Option<Payment>,
}

/// A model on offer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OfferedModel {
	/// Which.
	pub model: ModelId,
	/// Its price on chain at the last finalised block.
	pub price: Price<Balance>,
	/// Answers that may begin now without waiting; none where others wait for the model.
	pub free: u32,
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Frame {
	/// The next tokens.
	pub tokens: Vec<Compact<u32>>,
	/// What they add to the text, as far as that is certain: what may still become a stop string or half a character comes later.
	pub text: Vec<u8>,
	/// How far the answer is, signed by the lane key.
	pub progress: Signed<Progress>,
}

/// How far an answer is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Progress {
	/// The channel.
	pub channel: ChannelId,
	/// Number of the request.
	pub number: u32,
	/// Hash of the [`Ask`].
	pub request: H256,
	/// [`Transcript::hash`](consilience_primitives::session::Transcript) with all tokens so far.
	pub transcript: H256,
	/// How many those are.
	pub tokens: u32,
}

impl Signable for Progress {
	const TYPE: &'static str = "consilience/session/progress";
}

/// The end of an answer. All tokens and all text but the last were in frames.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct End {
	/// Text that was held back.
	pub text: Vec<u8>,
	/// Why it ended.
	pub finish: FinishReason,
	/// What is owed, and for what.
	pub receipt: SignedReceipt,
}

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
	/// Not a message, or not in this place. The connection ends.
	Malformed,
	/// Another version, or another chain. The connection ends.
	Incompatible,
	/// No such channel in finalised state, it is closing, or it has nothing for this validator.
	Channel,
	/// A voucher that is not signed by the channel's key, pays too little or too much, or acknowledges something else.
	Voucher,
	/// The number was used, or is beyond the last.
	Number,
	/// The anchor is not a finalised block, or is too old.
	Anchor,
	/// It does not serve the model.
	Model,
	/// The model does not take the input.
	Input,
	/// Everything is busy: try again, or elsewhere.
	Busy,
	/// No honest machine can answer the input; nothing is paid for it.
	Unanswerable,
	/// The receipt, the question and the answer do not belong together, or are not the executor's.
	Receipt,
	/// The preimage is not the channel's of this number.
	Preimage,
	/// Something failed here.
	Failed,
	/// A slice was not paid in time, and the answer ended there; or something from before has to be paid first.
	Unpaid,
}
