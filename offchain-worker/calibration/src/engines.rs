//! Models in engine processes.

use consilience_primitives::{
	evidence::Evidence,
	model::{NumericClass, VerificationPolicy},
	request::{FullInput, Output},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::{
	configuration::Configuration,
	liars::Claim,
	model::Model,
	process::{EngineProcess, EngineProgram},
	CalibrationError,
};

/// A model in an engine process.
pub(crate) struct Loaded {
	process: EngineProcess,
	model: ModelId,
	/// The files' folder, which the engine may read from as long as it runs.
	_folder: tempfile::TempDir,
}

impl Loaded {
	pub(crate) async fn new(
		program: &EngineProgram,
		configuration: &Configuration,
		model: &Model,
		policy: &VerificationPolicy,
		jobs: usize,
	) -> Result<Self, CalibrationError> {
		let process = EngineProcess::start(program, configuration, jobs).await?;
		let folder = model.under(policy)?;
		let failed = CalibrationError::engine(&configuration.name);
		let id = process.client.load(folder.path()).await.map_err(&failed)?;
		let wanted = configuration.engine.provider;
		let found = process.client.provider(id).await.map_err(&failed)?;
		if policy.class == NumericClass::Tolerant && found != wanted {
			return Err(CalibrationError::Start {
				configuration: configuration.name.clone(),
				why: format!("{wanted:?} was asked for, and the model runs on {found:?}: is this library built for it?"),
			});
		}
		Ok(Self {
			process,
			model: id,
			_folder: folder,
		})
	}

	pub(crate) async fn answer(
		&self,
		input: &FullInput,
		seed: H256,
	) -> Result<Output, CalibrationError> {
		self.process
			.client
			.run(self.model, input.clone(), seed)
			.await
			.map_err(CalibrationError::engine(""))
	}

	pub(crate) async fn measure(
		&self,
		claim: &Claim,
		challenges: usize,
	) -> Result<Vec<Evidence>, CalibrationError> {
		self.process
			.client
			.measure_parts(
				self.model,
				claim.input.clone(),
				claim.seed,
				claim.output.clone(),
				claim.parts(challenges),
			)
			.await
			.map_err(CalibrationError::engine(""))
	}
}
