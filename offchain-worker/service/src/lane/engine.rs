//! The supervised engine as the session lane sees it.

use std::{
	path::PathBuf,
	sync::Arc,
	time::{Duration, Instant},
};

use async_trait::async_trait;
use consilience_engine::{EngineError as NodeError, Piece as NodePiece, TokenStream};
use consilience_lane::{Answering, Engine, EngineError, Piece, Place};
use consilience_primitives::{
	evidence::Evidence,
	request::{Input, Output},
	ModelId,
};
use futures::StreamExt;
use polkadot_sdk::sp_core::H256;
use tokio::sync::Semaphore;

use crate::{
	runner::{Library, Runner},
	Handle, StoreLibrary,
};

/// The longest that an answer may take, its waits for payment included.
const LONGEST_ANSWER: Duration = Duration::from_secs(1_800);
/// The longest that a measurement may take.
const LONGEST_CHECK: Duration = Duration::from_secs(300);

/// An engine and the models that it may be given, with places for so many answers at a time.
pub struct LaneEngine {
	runner: Arc<dyn Runner>,
	library: Arc<StoreLibrary>,
	places: Arc<Semaphore>,
}

impl LaneEngine {
	/// The engine of a worker.
	pub fn new(worker: &Handle, answers: usize) -> Self {
		Self {
			runner: worker.runner().clone(),
			library: worker.library().clone(),
			places: Arc::new(Semaphore::new(answers)),
		}
	}
}

fn failed(error: NodeError) -> EngineError {
	match error {
		NodeError::Unanswerable(code, _) => EngineError::Unanswerable(code),
		NodeError::Busy => EngineError::Busy,
		error => EngineError::Failed(error.to_string()),
	}
}

impl LaneEngine {
	/// Brings a model into the engine, once every hash of its files is right.
	async fn load(&self, model: ModelId) -> Result<(), EngineError> {
		let library = self.library.clone();
		let folder: PathBuf = tokio::task::spawn_blocking(move || library.verified(model))
			.await
			.map_err(|e| EngineError::Failed(format!("checking the model's files: {e}")))?
			.map_err(EngineError::Failed)?
			.folder;
		match self.runner.load(&folder).await {
			Ok(loaded) if loaded == model => Ok(()),
			Ok(loaded) => Err(EngineError::Failed(format!(
				"{} holds model {loaded:?}",
				folder.display()
			))),
			Err(e) => Err(failed(e)),
		}
	}
}

/// An answer that is being written.
struct Open(TokenStream);

#[async_trait]
impl Answering for Open {
	fn allow(&mut self, tokens: u32) {
		self.0.allow(tokens);
	}

	async fn next(&mut self) -> Result<Piece, EngineError> {
		match self.0.next().await {
			Some(Ok(NodePiece::Tokens { tokens, text })) => Ok(Piece::More { tokens, text }),
			Some(Ok(NodePiece::End { output, .. })) => Ok(Piece::End(output)),
			Some(Err(e)) => Err(failed(e)),
			None => Err(EngineError::Failed("the answer is over".into())),
		}
	}
}

#[async_trait]
impl Engine for LaneEngine {
	fn free(&self, _model: &ModelId) -> u32 {
		self.places.available_permits() as u32
	}

	fn place(&self, _model: &ModelId) -> Option<Place> {
		let place = self.places.clone().try_acquire_owned();
		Some(Box::new(place.ok()?))
	}

	async fn stream(
		&self,
		model: &ModelId,
		input: &Input,
		seed: H256,
	) -> Result<Box<dyn Answering>, EngineError> {
		self.load(*model).await?;
		let until = Instant::now() + LONGEST_ANSWER;
		let stream = self
			.runner
			.stream(*model, input.clone().into(), seed, 0, until)
			.await
			.map_err(failed)?;
		Ok(Box::new(Open(stream)))
	}

	async fn cut(
		&self,
		model: &ModelId,
		input: &Input,
		tokens: &[u32],
	) -> Result<Output, EngineError> {
		self.load(*model).await?;
		let until = Instant::now() + LONGEST_CHECK;
		let said = self
			.runner
			.cut(*model, input.clone().into(), tokens.to_vec(), until);
		said.await.map_err(failed)
	}

	async fn measure(
		&self,
		model: &ModelId,
		input: &Input,
		seed: H256,
		output: &Output,
		challenge: H256,
	) -> Result<Evidence, EngineError> {
		self.load(*model).await?;
		let until = Instant::now() + LONGEST_CHECK;
		let measured = self.runner.measure(
			*model,
			input.clone().into(),
			seed,
			Some(output.clone()),
			vec![challenge],
			until,
		);
		let evidence = measured.await.map_err(failed)?;
		evidence
			.into_iter()
			.next()
			.ok_or_else(|| EngineError::Failed("the engine measured nothing".into()))
	}
}
