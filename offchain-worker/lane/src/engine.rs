//! What the lane asks of the engine.

use std::any::Any;

use async_trait::async_trait;
use consilience_primitives::{
	evidence::Evidence,
	request::{Input, Output, Unanswerable},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

/// Why the engine does not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
	/// No honest machine can answer the input.
	#[error("{}", .0.reason())]
	Unanswerable(Unanswerable),
	/// It has no place free.
	#[error("it is busy")]
	Busy,
	/// It failed.
	#[error("{0}")]
	Failed(String),
}

/// What comes next of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
	/// More of it.
	More {
		/// The next tokens; at least one.
		tokens: Vec<u32>,
		/// What they add to the text, as far as that is certain.
		text: Vec<u8>,
	},
	/// Its end: all tokens and all text, those of before included.
	End(Output),
}

/// An answer that is being written. Dropped, it is cancelled.
#[async_trait]
pub trait Answering: Send {
	/// Raises how many tokens may be written in all. At that number the engine pauses; the end of the answer comes without waiting where
	/// it is reached there.
	fn allow(&mut self, tokens: u32);

	/// The next piece. Cancel-safe: a call that is dropped loses nothing.
	///
	/// # Errors
	/// If there is no more.
	async fn next(&mut self) -> Result<Piece, EngineError>;
}

/// A place for an answer. Dropped, it is free again.
pub type Place = Box<dyn Any + Send + Sync>;

/// The engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
	/// Answers of this model that may begin now without waiting.
	fn free(&self, model: &ModelId) -> u32;

	/// Takes a place for an answer of this model; `None` where all are taken. Models may share places. One that is taken becomes free only by
	/// being dropped: nobody looks for it before. Returns at once: it is called while nothing else of the line can go on.
	fn place(&self, model: &ModelId) -> Option<Place>;

	/// Begins an answer, of which at first no token may be written: see [`Answering::allow`]. Whoever calls it holds a [`Place`] for as long
	/// as the answer is written.
	///
	/// # Errors
	/// If it cannot begin.
	async fn stream(
		&self,
		model: &ModelId,
		input: &Input,
		seed: H256,
	) -> Result<Box<dyn Answering>, EngineError>;

	/// The answer that is over with the last of these tokens, which the model wrote: what they say, with
	/// [`FinishReason::Length`](consilience_primitives::request::FinishReason::Length) unless it ends there by itself. Runs no model.
	///
	/// # Errors
	/// If that cannot be said now.
	async fn cut(
		&self,
		model: &ModelId,
		input: &Input,
		tokens: &[u32],
	) -> Result<Output, EngineError>;

	/// Measures an answer.
	///
	/// # Errors
	/// If it cannot be measured.
	async fn measure(
		&self,
		model: &ModelId,
		input: &Input,
		seed: H256,
		output: &Output,
		challenge: H256,
	) -> Result<Evidence, EngineError>;
}
