//! What is stored, and what is asked of the pallet that knows answers.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_judge::{
	narrowing::{Claim, Game},
	program::Lengths,
	standing::{Dispute, Verdict},
	tree::Hash,
};
use polkadot_sdk::frame_support::{weights::Weight, Parameter};
use scale_info::TypeInfo;

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

/// Answers that can be disputed: `pallet-inference` stands behind this.
pub trait Disputed {
	/// An answer and a place in it.
	type Subject: Parameter + MaxEncodedLen;

	/// What its trace must be of. Nothing, if it cannot be disputed: it is not settled, or no longer kept, its model is not of the class, or it
	/// was not sampled as the judge can say.
	fn statement(subject: &Self::Subject) -> Option<Statement>;

	/// The answer is false. Whoever vouched for it pays; whoever was lied to is paid.
	fn overturned(subject: &Self::Subject);

	/// Most that these two weigh.
	fn weight() -> Weight;
}

/// A dispute.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Case<AccountId> {
	/// What traces must be of.
	pub statement: Statement,
	/// Which stand.
	pub dispute: Dispute<AccountId>,
	/// What it came to, once it is closed.
	pub verdict: Option<Verdict>,
}

/// A game, and the bond of whoever doubts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Played<Balance> {
	/// How far it is.
	pub game: Game,
	/// The bond.
	pub bond: Balance,
}
