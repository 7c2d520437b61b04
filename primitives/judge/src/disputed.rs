//! What pallets say to each other about a dispute. Whoever keeps disputes knows traces, games and bonds; whoever keeps answers knows what
//! they are of, and what follows when one is false.

use alloc::vec::Vec;
use core::fmt::Debug;

use codec::{Decode, DecodeWithMemTracking, Encode, FullCodec, MaxEncodedLen};
use polkadot_sdk::sp_weights::Weight;
use scale_info::TypeInfo;

use crate::{narrowing::Claim, program::Lengths, standing::Verdict, tree::Hash};

/// What a trace of an answer must be of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Statement {
	/// Root over the rules of the model's program.
	pub program: Hash,
	/// Rules.
	pub tensors: u32,
	/// Lengths of the run: one text, tokens, slots.
	pub lengths: Lengths,
	/// Roots of what was to be fed: the posted tokens.
	pub inputs: Vec<Hash>,
	/// The place whose token is disputed, as an element of the program's last tensor.
	pub place: u64,
	/// The token that was answered there.
	pub said: i64,
}

impl Statement {
	/// What somebody who stands for a trace of it claims.
	pub fn claim(&self, trace: Hash) -> Claim {
		Claim {
			program: self.program,
			tensors: self.tensors,
			lengths: self.lengths,
			inputs: self.inputs.clone(),
			trace,
		}
	}
}

/// Answers that can be disputed.
pub trait Disputed<AccountId, Balance> {
	/// An answer and a place in it.
	type Subject: FullCodec
		+ DecodeWithMemTracking
		+ MaxEncodedLen
		+ TypeInfo
		+ Clone
		+ Eq
		+ Debug
		+ Send
		+ Sync
		+ 'static;

	/// What its trace must be of. Nothing, if no dispute about it can be opened: it is not settled, or was so too long ago, its model is not of
	/// the class, or it was not sampled as the judge can say.
	fn statement(subject: &Self::Subject) -> Option<Statement>;

	/// A dispute about it is open. It is closed in any case, and once.
	fn opened(subject: &Self::Subject);

	/// The dispute is closed. If the answer is false, whoever vouched for it pays, whoever was lied to is paid, and so is the one that
	/// stood for what is right, who has had so much at stake.
	fn closed(subject: &Self::Subject, verdict: Verdict, winner: Option<(AccountId, Balance)>);

	/// Most that each of these weighs.
	fn weight() -> Weight;
}
