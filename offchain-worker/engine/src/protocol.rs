//! What node and engine process say to each other: SCALE, each frame after its length as a little-endian `u32`.
//!
//! A command has one reply. [`Command::Stream`] has [`Reply::Tokens`] before that, as often as there are new tokens to tell.

use codec::{Compact, Decode, Encode};
use consilience_primitives::{
	evidence::Evidence,
	request::{FullInput, Output},
	tensor::MAX_DATA,
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::{isolation::Report, EngineError, Part, Provider, Statistics};

/// Longest frame, in bytes: twice what an input, the largest part of any, may have.
pub const MAX_FRAME: u32 = 2 * MAX_DATA + (2 << 20);

/// A command from the node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
	/// Load the model in this folder. Its hashes have been checked.
	Load {
		/// Absolute path.
		folder: String,
	},
	/// Forget a model.
	Unload {
		/// The model.
		model: ModelId,
	},
	/// Answer an input.
	Run {
		/// The model.
		model: ModelId,
		/// What is asked.
		input: FullInput,
		/// Seed of the sampling noise.
		seed: H256,
	},
	/// Answer an input with generated text, and say the tokens as they are written.
	Stream {
		/// The model.
		model: ModelId,
		/// What is asked.
		input: FullInput,
		/// Seed of the sampling noise.
		seed: H256,
		/// Tokens that may be written to begin with. An answer that has so many keeps its place in the text and none among those
		/// that are written, until it is allowed more ([`Command::Allow`]) or ends like any command. For none of them, nothing is
		/// computed.
		allowed: u32,
	},
	/// Write more of an answer that is streamed. There is no reply to this.
	Allow {
		/// The node's number for the command.
		id: u64,
		/// Tokens that may be written in all, those before this included. Less than before changes nothing.
		tokens: u32,
	},
	/// Say what an answer is that is over with the last of these tokens.
	Cut {
		/// The model.
		model: ModelId,
		/// What was asked.
		input: FullInput,
		/// Tokens that the model wrote.
		tokens: Vec<Compact<u32>>,
	},
	/// Measure parts of an answer, or all of it under several challenges, in one pass.
	Measure {
		/// The model.
		model: ModelId,
		/// What was asked.
		input: FullInput,
		/// Seed of the sampling noise.
		seed: H256,
		/// The answer (text generation).
		claimed: Option<Output>,
		/// What of it, and under which challenges.
		parts: Vec<Part>,
	},
	/// Say where a model runs; for calibration.
	Provider {
		/// The model.
		model: ModelId,
	},
	/// Run a model's reference inference.
	Reference {
		/// The model.
		model: ModelId,
	},
	/// Say that you are there.
	Ping,
	/// Say what you have done.
	Stats,
	/// Say what isolates the process.
	Sandbox,
	/// Nobody waits for the command of this number any more. There is no reply to this; to that one there still is.
	Cancel {
		/// The node's number for it.
		id: u64,
	},
}

/// A command, and for how long somebody waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Order {
	/// What is to be done.
	pub command: Command,
	/// Milliseconds from now until nobody waits any more; none where somebody always does.
	pub within: Option<u64>,
}

/// A reply of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
	/// The model is in memory.
	Loaded(ModelId),
	/// It is not any more.
	Unloaded,
	/// Tokens of an answer that is being written, in order and without gaps. All are in such frames before [`Self::Output`] has
	/// them again.
	Tokens {
		/// The next ones, at least one.
		tokens: Vec<Compact<u32>>,
		/// What they add to the text, in whole characters of UTF-8, as far as that is certain. What may still become a stop
		/// string, or is part of a character, comes with later tokens; what is left at the end is what [`Self::Output`] has more.
		text: Vec<u8>,
	},
	/// The answer.
	Output(Output),
	/// What was measured of each part.
	Evidence(Vec<Evidence>),
	/// Where the model runs.
	Provider(Provider),
	/// Output and evidence of the reference inference.
	Reference(Output, Evidence),
	/// The engine is there.
	Pong,
	/// It did not work.
	Failed(EngineError),
	/// What the engine has done.
	Stats(Statistics),
	/// What isolates the process.
	Sandbox(Report),
}

/// An order or reply with the number that joins them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Frame<T> {
	/// Chosen by the node.
	pub id: u64,
	/// What is said.
	pub body: T,
}
