//! What is stored.

use codec::{Decode, DecodeWithMemTracking, Encode};
use consilience_judge::{
	disputed::Statement,
	narrowing::Game,
	standing::{Dispute, Verdict},
};
use scale_info::TypeInfo;

/// A dispute.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Case<AccountId> {
	/// What traces must be of.
	pub statement: Statement,
	/// Which stand.
	pub dispute: Dispute<AccountId>,
	/// What it came to, once it is closed.
	pub verdict: Option<Verdict>,
	/// The block from which on it is ended by itself.
	pub ends: u32,
	/// Bonds that are held for it, of those who stand and of those who doubt.
	pub bonds: u16,
	/// Traces whose bonds have been released since it is closed.
	pub cleared: u8,
}

/// A game, and the bond of whoever doubts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Played<Balance> {
	/// How far it is.
	pub game: Game,
	/// The bond.
	pub bond: Balance,
}
