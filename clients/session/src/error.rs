//! What goes wrong, and what to do about it.

use std::{fmt, path::PathBuf, time::Duration};

use codec::{Decode, Encode};
use consilience_lane::message::{AccountId, Balance, Refusal};
use consilience_primitives::{
	request::InputError,
	session::{ChannelId, MAX_NUMBER, SLICE_TOKENS},
};

use crate::chain::ChainError;

/// Decimal places of the token: 10¹² of the smallest unit are one CSL.
const CSL_DECIMALS: usize = 12;

/// Returns an amount for people, in CSL.
pub fn csl(amount: Balance) -> String {
	let unit = 10u128.pow(CSL_DECIMALS as u32);
	let (whole, part) = (amount / unit, format!("{:0CSL_DECIMALS$}", amount % unit));
	match part.trim_end_matches('0') {
		"" => format!("{whole} CSL"),
		part => format!("{whole}.{part} CSL"),
	}
}

/// Why a request, or everything, does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
	/// The chain cannot be read.
	#[error("the chain cannot be read: {0}. Start a node, or name one that runs")]
	Chain(#[from] ChainError),
	/// The wallet cannot be used.
	#[error(transparent)]
	Wallet(#[from] WalletError),
	/// The channel is not on chain.
	#[error("channel {0} is not in finalised state. Wait until the block that opens it is final, or open one")]
	NoChannel(ChannelId),
	/// The channel's seed is not drawn yet.
	#[error("the seed of channel {0} is not drawn yet. Try again in a minute")]
	NoSeed(ChannelId),
	/// The channel is closing.
	#[error("channel {0} is closing and takes no requests. Open another")]
	Closing(ChannelId),
	/// The model takes no requests.
	#[error("the model is not registered, or takes no requests. See which models are active")]
	NoModel,
	/// The model does not take the input.
	#[error("{}", input_error(.0))]
	Input(InputError),
	/// The model costs nothing for a question, and a voucher over nothing is none.
	#[error("the model takes no money for a question, so that vouchers cannot pay for its answers. Ask it on chain")]
	Free,
	/// The price does not fit a balance.
	#[error("the price of this request is more than an amount can be. Choose another model")]
	Price,
	/// Nobody whom the channel pays serves the model in this lane.
	#[error("none of those whom channel {0} pays serves this model in the session lane. Set something apart for a validator that does")]
	NoExecutor(ChannelId),
	/// No allotment is large enough.
	#[error("the answer may cost {}, and the channel has {} left for an executor of this model. Raise the allotment, or ask for fewer tokens", csl(*.needed), csl(*.left))]
	Funds {
		/// Price of the longest answer.
		needed: Balance,
		/// The most that is left for one executor.
		left: Balance,
	},
	/// It was cancelled.
	#[error("cancelled before the question was sent: nothing was paid")]
	Cancelled,
	/// Every executor failed.
	#[error("no executor answered:{}", faults(.0))]
	NoAnswer(Vec<(AccountId, Fault)>),
}

impl From<InputError> for Error {
	fn from(e: InputError) -> Self {
		Self::Input(e)
	}
}

fn faults(all: &[(AccountId, Fault)]) -> String {
	all.iter()
		.map(|(who, why)| format!("\n  {who}: {why}"))
		.collect()
}

const fn input_error(e: &InputError) -> &'static str {
	match e {
		InputError::WrongTask => {
			"the session lane answers questions to text models only. Ask others on chain"
		}
		InputError::NotUtf8 => "the question is not UTF-8 text",
		InputError::Empty => "the question is empty",
		InputError::InputTooLarge => "the question is longer than the model takes. Shorten it",
		InputError::ZeroTokens => "an answer has at least one token: ask for more than 0",
		InputError::OutputTooLarge => "the model gives fewer tokens than that. Ask for fewer",
		InputError::BadSampling => {
			"a parameter of sampling is out of its range: temperature is from 0 to 2, top_p above 0 and at most 1"
		}
		InputError::NoChat => "the model takes no chats. Ask with plain text",
		InputError::BadConstraint => "the constraint is for other rules than this network's",
		InputError::SignatureMismatch | InputError::MalformedTensor => {
			"the input's tensors are not the model's"
		}
	}
}

/// What is wrong with a wallet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
	/// There is one already where one is to be made.
	#[error("{} holds a wallet already. Use it, or name another folder", .0.display())]
	Exists(PathBuf),
	/// There is none.
	#[error("{} holds no wallet. Make one, or name the folder that does", .0.display())]
	Missing(PathBuf),
	/// Others than its owner can read it.
	#[error("{} can be read by others than its owner, and its key with it. Take the right away (chmod go= FILE), and think about closing the channel", .0.display())]
	Readable(PathBuf),
	/// Another process has it.
	#[error("{} is in use by another program. End that first", .0.display())]
	InUse(PathBuf),
	/// It cannot be read or written.
	#[error("{path}: {1}. Nothing was sent that is not written down", path = .0.display())]
	Storage(PathBuf, String),
	/// It says what no wallet says.
	#[error("{path} is damaged: {1}. Restore it only together with all that it signed since, or close the channel", path = .0.display())]
	Damaged(PathBuf, &'static str),
	/// It belongs to no channel yet.
	#[error("the wallet belongs to no channel yet. Open one with its key and tip, and bind the wallet to its number")]
	Unbound,
	/// It belongs to another channel.
	#[error("the wallet belongs to another channel or chain. Use the one with which this channel was opened")]
	OtherChannel,
	/// A payee has a voucher that it does not know.
	#[error("{0} has more from this channel than this wallet knows to have signed: it is an old copy. Use the newest, or close the channel")]
	OldCopy(AccountId),
	/// All numbers are used.
	#[error("all {MAX_NUMBER} requests of the channel are made. Open another")]
	UsedUp,
	/// A number of which the wallet does not know that it was used.
	#[error("request {0} was not made with this wallet")]
	NotUsed(u32),
	/// More than the channel has for it.
	#[error("{} would be signed away where the channel has {} left. Raise the allotment or the pot for checks", csl(*.needed), csl(*.left))]
	Funds {
		/// What is to be paid.
		needed: Balance,
		/// What is left.
		left: Balance,
	},
	/// A payment of nothing.
	#[error("a voucher over nothing is not signed")]
	Nothing,
}

/// What a validator did instead of what it should. In events, records and errors.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Fault {
	/// It has no lane: no address and no key on chain.
	NoLane,
	/// Its address is no address.
	Address(String),
	/// It cannot be reached, or went away.
	Connection(String),
	/// It said nothing for so many milliseconds.
	Silent(u64),
	/// What it sent is not a message, or not one that belongs there.
	Malformed(String),
	/// It shows a voucher that the channel did not sign.
	Held,
	/// At its address answers somebody else.
	OtherValidator,
	/// It does not serve the model any more.
	NotOffered,
	/// It refused.
	Refused(Refusal, String),
	/// A frame is not signed by its lane key.
	FrameSignature,
	/// A frame speaks of another request, or of tokens that were not sent.
	Transcript,
	/// What it sends is not text.
	Text,
	/// It sends more than is asked for.
	TooMuch,
	/// It sends more than a slice that is not paid for.
	Unpaid,
	/// It ended the answer before its end.
	Short,
	/// The receipt is not signed by a lane key that the chain knows.
	ReceiptSignature,
	/// The receipt is for another session than the one in which the answer was given.
	ReceiptSession,
	/// The receipt says something else than what was sent: which of its fields.
	Receipt(String),
	/// The verdict is not signed by a lane key that the chain knows.
	VerdictSignature,
	/// The verdict is not one about this receipt, or is of no use in the model's numeric class.
	Verdict,
	/// The channel has nothing left to pay it with.
	Funds,
	/// It had no place in so many milliseconds.
	NoPlace(u64),
}

impl Fault {
	/// Returns whether it had no place, as far as it says: there may be one later.
	pub const fn is_busy(&self) -> bool {
		matches!(self, Self::NoPlace(_) | Self::Refused(Refusal::Busy, _))
	}
}

impl fmt::Display for Fault {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::NoLane => f.write_str("it does not take part in the session lane now"),
			Self::Address(what) => write!(f, "its address on chain is none: {what}"),
			Self::Connection(what) => write!(f, "the connection failed: {what}"),
			Self::Silent(millis) => {
				write!(
					f,
					"it said nothing for {:?}",
					Duration::from_millis(*millis)
				)
			}
			Self::Malformed(what) => write!(f, "it sent what does not belong there: {what}"),
			Self::Held => f.write_str("it shows a voucher that this channel did not sign"),
			Self::OtherValidator => f.write_str("another validator answers at its address"),
			Self::NotOffered => f.write_str("it does not offer the model now"),
			Self::Refused(why, words) => write!(f, "it refused: {}{}", refusal(*why), said(words)),
			Self::FrameSignature => {
				f.write_str("part of the answer is not signed by its key on chain")
			}
			Self::Transcript => f.write_str("what it signed is not what it sent"),
			Self::Text => f.write_str("what it sent is not text"),
			Self::TooMuch => f.write_str("it sent more than was asked for"),
			Self::Unpaid => write!(f, "it sent more than {SLICE_TOKENS} tokens unpaid for"),
			Self::Short => f.write_str("it ended the answer before its end"),
			Self::ReceiptSignature => {
				f.write_str("the receipt is not signed by its key on chain, and was not paid")
			}
			Self::ReceiptSession => {
				f.write_str("the receipt is of another session, and was not paid")
			}
			Self::Receipt(field) => write!(
				f,
				"the receipt's {field} is not that of what it sent, and was not paid"
			),
			Self::VerdictSignature => f.write_str("its verdict is not signed by its key on chain"),
			Self::Verdict => f.write_str("its verdict is not one about this answer"),
			Self::Funds => f.write_str("nothing is left in the channel to pay it with"),
			Self::NoPlace(millis) => write!(
				f,
				"others came before, and it had no place within {:?}: try again later",
				Duration::from_millis(*millis)
			),
		}
	}
}

/// A peer's own words, as far as people want to read them.
fn said(words: &str) -> String {
	let words: String = words
		.chars()
		.filter(|c| !c.is_control())
		.take(200)
		.collect();
	if words.is_empty() {
		words
	} else {
		format!(" ({words})")
	}
}

const fn refusal(why: Refusal) -> &'static str {
	match why {
		Refusal::Malformed => "it does not understand the message",
		Refusal::Incompatible => "it speaks another version, or is of another chain",
		Refusal::Channel => "it knows no such channel, or has no allotment in it",
		Refusal::Voucher => "it does not take the voucher",
		Refusal::Number => "it says that the number was used",
		Refusal::Anchor => "it does not know the block, or finds it too old",
		Refusal::Model => "it does not serve the model",
		Refusal::Input => "it does not take the input",
		Refusal::Busy => "it is busy",
		Refusal::Unanswerable => "no machine can answer this input",
		Refusal::Receipt => "it does not take the receipt",
		Refusal::Preimage => "it does not take the preimage",
		Refusal::Failed => "it failed",
		Refusal::Unpaid => "it was not paid in time",
	}
}
