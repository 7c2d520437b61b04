//! What the worker needs of an engine and of a model store; tests have their own.

use std::{
	collections::HashSet,
	path::{Path, PathBuf},
	time::Instant,
};

use async_trait::async_trait;
use consilience_engine::{EngineError, TokenStream};
use consilience_primitives::{
	evidence::Evidence,
	manifest::Manifest,
	model::ModelSpec,
	request::{FullInput, Output},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

/// An engine that may not be there yet, or go away: calls wait for one, and [`EngineError::Gone`] says that it went. Work is done
/// until somebody waits for it no more: when its time is over, or its future is dropped.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
	/// Returns when there is an engine, or when it is clear that there will be none.
	async fn ready(&self);
	/// Loads the model in a folder, unless it is loaded.
	async fn load(&self, folder: &Path) -> Result<ModelId, EngineError>;
	/// Forgets a model.
	async fn unload(&self, model: ModelId) -> Result<(), EngineError>;
	/// Answers an input.
	async fn run(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		until: Instant,
	) -> Result<Output, EngineError>;
	/// Answers an input with generated text, which arrives as it is written: `allowed` tokens, and more when
	/// [`TokenStream::allow`] says so. Work ends at `until`, or when the stream is dropped.
	async fn stream(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		allowed: u32,
		until: Instant,
	) -> Result<TokenStream, EngineError>;
	/// The answer that is over with the last of these tokens, which the model wrote.
	async fn cut(
		&self,
		model: ModelId,
		input: FullInput,
		tokens: Vec<u32>,
		until: Instant,
	) -> Result<Output, EngineError>;
	/// Measures under each of these challenges, in one pass.
	async fn measure(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		claimed: Option<Output>,
		challenges: Vec<H256>,
		until: Instant,
	) -> Result<Vec<Evidence>, EngineError>;
	/// Runs a model's reference inference.
	async fn reference(
		&self,
		model: ModelId,
		until: Instant,
	) -> Result<(Output, Evidence), EngineError>;
	/// Ends the engine's process: it does not answer in time. Another is started, and calls from now on wait for it.
	fn restart(&self);
	/// Why there is no engine and will not be one, if that is so.
	fn unavailable(&self) -> Option<String>;
}

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct LocalModel {
	/// Its manifest.
	pub manifest: Manifest,
	/// Folder of its files.
	pub folder: PathBuf,
}

/// Where a model is that is being fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetching {
	/// On its way.
	Underway,
	/// It will not come; why.
	Failed(String),
}

/// Models on this machine.
pub trait Library: Send + Sync + 'static {
	/// Models that were imported, checked or not.
	fn list(&self) -> Vec<ModelId>;
	/// Whether a model is there, checked or not.
	fn contains(&self, model: ModelId) -> bool;
	/// Begins to fetch a model, that the chain describes so, from other nodes, unless that is going on; of one that is damaged, what is
	/// wrong. Whether there is a way to.
	fn fetch(&self, model: ModelId, spec: &ModelSpec) -> bool;
	/// Fetches a model no longer.
	fn forget(&self, model: ModelId);
	/// How far a model is that is being fetched, or could not be.
	fn fetching(&self, model: ModelId) -> Option<Fetching>;
	/// Models that are there and damaged: what was read of one since it was checked is not what its manifest says.
	fn damaged(&self) -> HashSet<ModelId>;
	/// A model, after every hash of its files was checked. Takes long; the error says which file is wrong and why, and that
	/// a model which is not there has to be imported.
	fn verified(&self, model: ModelId) -> Result<LocalModel, String>;
}
