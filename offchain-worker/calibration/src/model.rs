//! A model's folder, and folders beside it in which the same files stand under another policy.

use std::path::{Path, PathBuf};

use codec::Compact;
use consilience_engine::{Engine, EngineConfig};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	manifest::{Manifest, TaskDetails},
	model::{NumericClass, VerificationPolicy},
	request::{FinishReason, Output},
	List,
};
use consilience_store::{Import, Runner, Signature};
use tokenizers::Tokenizer;

use crate::CalibrationError;

/// A model that is calibrated, or stands in for one.
pub(crate) struct Model {
	pub(crate) name: String,
	pub(crate) manifest: Manifest,
	folder: PathBuf,
	tokenizer: Option<Tokenizer>,
}

/// The engine in this process, for the reference of a folder that has no manifest yet.
struct InProcess(Engine);

impl Runner for InProcess {
	fn signature(&self, graph: &Path) -> Result<Signature, String> {
		let info = self.0.inspect(graph).map_err(|e| e.to_string())?;
		Ok(Signature {
			inputs: info.inputs,
			outputs: info.outputs,
		})
	}

	fn reference(&self, folder: &Path, manifest: &Manifest) -> Result<(Output, Evidence), String> {
		let run = || {
			let model = self.0.load_manifest(folder, manifest.clone())?;
			let reference = self.0.reference(model);
			self.0.unload(model);
			reference
		};
		run().map_err(|e| e.to_string())
	}
}

impl Model {
	/// Reads a folder with a manifest, or with a card, and checks its files.
	pub(crate) fn read(folder: &Path) -> Result<Self, CalibrationError> {
		let engine = Engine::new(EngineConfig {
			threads: 1,
			beyond_profile: true,
			..Default::default()
		})?;
		let manifest = Import::to_calibrate(folder, &InProcess(engine), &mut |_| ())?;
		let folder = std::fs::canonicalize(folder).map_err(CalibrationError::io(folder))?;
		let tokenizer = match &manifest.task {
			TaskDetails::TextGeneration { tokenizer, .. } => {
				let path = folder.join(tokenizer);
				Some(
					Tokenizer::from_file(&path).map_err(|e| CalibrationError::Model {
						path: path.clone(),
						why: e.to_string(),
					})?,
				)
			}
			_ => None,
		};
		Ok(Self {
			name: manifest.name.clone(),
			manifest,
			folder,
			tokenizer,
		})
	}

	/// A folder in which this model's files are judged by another policy. It lives as long as what is returned.
	pub(crate) fn under(
		&self,
		policy: &VerificationPolicy,
	) -> Result<tempfile::TempDir, CalibrationError> {
		// Beside the files, where that may be written: there they need no second place.
		let mut builder = tempfile::Builder::new();
		let folder = builder
			.prefix(".consilience-")
			.tempdir_in(&self.folder)
			.or_else(|_| tempfile::tempdir())
			.map_err(CalibrationError::io(&self.folder))?;
		for file in &self.manifest.files {
			let to = folder.path().join(&file.path);
			if let Some(parent) = to.parent() {
				std::fs::create_dir_all(parent).map_err(CalibrationError::io(parent))?;
			}
			let from = std::fs::canonicalize(self.folder.join(&file.path))
				.map_err(CalibrationError::io(&self.folder))?;
			// The engine follows no link out of a model's folder.
			std::fs::hard_link(&from, &to)
				.or_else(|_| std::fs::copy(&from, &to).map(|_| ()))
				.map_err(CalibrationError::io(&to))?;
		}
		let mut manifest = self.manifest.clone();
		manifest.policy = *policy;
		// Evidence of another policy is of no use; its kind has to be that of the class.
		manifest.reference.evidence = Evidence {
			fingerprint: match policy.class {
				NumericClass::Exact => Fingerprint::Digest([0; 16]),
				NumericClass::Tolerant => Fingerprint::Values {
					tag: 0,
					values: List::new(),
				},
			},
			verdict: Verdict::default(),
			prior: None,
		};
		if policy.class == NumericClass::Exact {
			manifest.numerics.providers = vec!["CPUExecutionProvider".into()];
		}
		let path = folder.path().join("manifest.json");
		let json = serde_json::to_vec(&manifest).map_err(|e| CalibrationError::Model {
			path: path.clone(),
			why: e.to_string(),
		})?;
		std::fs::write(&path, json).map_err(CalibrationError::io(&path))?;
		Ok(folder)
	}

	/// Whether an answer of the other model can be taken for one of this.
	pub(crate) fn check_substitute(&self, other: &Self) -> Result<(), CalibrationError> {
		use TaskDetails::{Embedding, Tensor, TextGeneration};
		let fits = match (&self.manifest.task, &other.manifest.task) {
			(TextGeneration { vocabulary: a, .. }, TextGeneration { vocabulary: b, .. }) => a == b,
			(Embedding { dimensions: a, .. }, Embedding { dimensions: b, .. }) => a == b,
			(Tensor { inputs: a, .. }, Tensor { inputs: b, .. }) => a == b,
			_ => false,
		};
		if fits {
			return Ok(());
		}
		Err(CalibrationError::Substitute {
			model: self.name.clone(),
			substitute: other.name.clone(),
		})
	}

	/// Tokens that end an answer.
	pub(crate) fn ends(&self) -> &[u32] {
		match &self.manifest.task {
			TaskDetails::TextGeneration { eos_token_ids, .. } => eos_token_ids,
			_ => &[],
		}
	}

	/// Size of the vocabulary; zero where there is none.
	pub(crate) fn vocabulary(&self) -> u32 {
		match &self.manifest.task {
			TaskDetails::TextGeneration { vocabulary, .. } => *vocabulary,
			_ => 0,
		}
	}

	/// What one token says.
	pub(crate) fn word(&self, token: u32) -> String {
		self.tokenizer
			.as_ref()
			.and_then(|t| t.decode(&[token], false).ok())
			.unwrap_or_default()
	}

	/// An answer of these tokens.
	pub(crate) fn answer(
		&self,
		tokens: &[u32],
		finish: FinishReason,
	) -> Result<Output, CalibrationError> {
		let wrong = |why: &str| CalibrationError::Model {
			path: self.folder.clone(),
			why: why.into(),
		};
		let text = self
			.tokenizer
			.as_ref()
			.ok_or_else(|| wrong("no tokenizer"))?
			.decode(tokens, true)
			.map_err(|e| wrong(&e.to_string()))?;
		Ok(Output::Text {
			tokens: tokens
				.iter()
				.map(|t| Compact(*t))
				.collect::<Vec<_>>()
				.try_into()
				.map_err(|_| wrong("an answer is longer than the chain carries"))?,
			text: text
				.into_bytes()
				.try_into()
				.map_err(|_| wrong("a text is longer than the chain carries"))?,
			finish,
		})
	}
}

/// The tokens of an answer; none of tensors.
pub(crate) fn tokens(output: &Output) -> Vec<u32> {
	match output {
		Output::Text { tokens, .. } => tokens.iter().map(|Compact(t)| *t).collect(),
		Output::Tensors(_) | Output::Unanswerable(_) => Vec::new(),
	}
}
