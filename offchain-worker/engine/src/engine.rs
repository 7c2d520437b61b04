//! Loaded models, and what can be asked of them.

use std::{
	collections::HashMap,
	path::Path,
	sync::{Arc, RwLock},
};

use codec::{Decode, Encode};
use consilience_primitives::{
	evidence::Evidence,
	manifest::{Manifest, ReferenceInput, TaskDetails},
	request::{Input, Message, Output, Prompt, Role, Sampling},
	tensor::Tensor,
	List, ModelId,
};
use ort::session::SessionInputValue;
use polkadot_sdk::sp_core::H256;
use tokenizers::Tokenizer;

use crate::{
	embedding::Embedder,
	session::{Graph, GraphInfo, Provider},
	tensor,
	text::{cache::Layout, measure::Part, template::Template, LanguageModel},
	EngineError,
};

/// How an engine runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EngineConfig {
	/// Threads that a graph's operators may use; zero for all cores but one, at least one.
	pub threads: u32,
	/// Where tolerant models run. Exact ones always run on the CPU.
	pub provider: Provider,
	/// Overrides the manifest's optimisation level; for experiments.
	pub optimization: Option<String>,
}

impl Default for EngineConfig {
	fn default() -> Self {
		Self {
			threads: 0,
			provider: Provider::Cpu,
			optimization: None,
		}
	}
}

impl EngineConfig {
	fn threads(&self) -> usize {
		match self.threads {
			0 => std::thread::available_parallelism()
				.map_or(1, |n| n.get())
				.saturating_sub(1)
				.max(1),
			n => n as usize,
		}
	}
}

enum Kind {
	Text(Box<LanguageModel>),
	Embedding(Box<Embedder>),
	Tensor,
}

/// A model in memory.
struct Loaded {
	manifest: Manifest,
	graph: Graph,
	kind: Kind,
}

/// Models in memory. Cheap to share; calls may come from many threads.
pub struct Engine {
	config: EngineConfig,
	models: RwLock<HashMap<ModelId, Arc<Loaded>>>,
}

impl Engine {
	/// An engine without models. Fails where the ONNX Runtime library is missing.
	pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
		crate::library::environment()?;
		Ok(Self {
			config,
			models: RwLock::default(),
		})
	}

	/// What a graph takes and gives, without anything of a manifest.
	pub fn inspect(&self, graph: &Path) -> Result<GraphInfo, EngineError> {
		Graph::load(graph, 1, "disable", Provider::Cpu)?.info()
	}

	/// Loads a model whose manifest is `manifest.json` in its folder. The caller has checked the files' hashes.
	pub fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		let path = folder.join("manifest.json");
		let bytes = std::fs::read(&path).map_err(|e| EngineError::load(&path, e))?;
		let manifest: Manifest =
			serde_json::from_slice(&bytes).map_err(|e| EngineError::load(&path, e))?;
		self.load_manifest(folder, manifest)
	}

	/// Loads a model whose files are in `folder`, as this manifest says.
	pub fn load_manifest(&self, folder: &Path, manifest: Manifest) -> Result<ModelId, EngineError> {
		let id = manifest.id();
		if self.get(id).is_ok() {
			return Ok(id);
		}
		let loaded = Loaded::new(&self.config, folder, manifest)?;
		self.models
			.write()
			.unwrap_or_else(|e| e.into_inner())
			.insert(id, Arc::new(loaded));
		Ok(id)
	}

	/// Forgets a model; runs that have begun end.
	pub fn unload(&self, model: ModelId) {
		self.models
			.write()
			.unwrap_or_else(|e| e.into_inner())
			.remove(&model);
	}

	/// Models in memory.
	pub fn loaded(&self) -> Vec<ModelId> {
		self.models
			.read()
			.unwrap_or_else(|e| e.into_inner())
			.keys()
			.copied()
			.collect()
	}

	fn get(&self, model: ModelId) -> Result<Arc<Loaded>, EngineError> {
		self.models
			.read()
			.unwrap_or_else(|e| e.into_inner())
			.get(&model)
			.cloned()
			.ok_or_else(|| EngineError::NotLoaded(format!("{model:?}")))
	}

	/// Answers an input. `seed` is that of the sampling noise.
	pub fn run(&self, model: ModelId, input: &Input, seed: &H256) -> Result<Output, EngineError> {
		self.get(model)?.run(input, seed)
	}

	/// Measures under a challenge. For text generation that is about the claimed answer; other tasks are computed afresh, and
	/// `claimed` is not looked at.
	pub fn measure(
		&self,
		model: ModelId,
		input: &Input,
		seed: &H256,
		claimed: Option<&Output>,
		challenge: &H256,
	) -> Result<Evidence, EngineError> {
		let part = Part {
			tokens: None,
			challenge: *challenge,
		};
		self.measure_parts(model, input, seed, claimed, &[part])?
			.pop()
			.ok_or_else(|| EngineError::Run("no evidence of one part".into()))
	}

	/// Measures parts of an answer, or the same answer under many challenges, in one pass: what calibration looks at. Gives
	/// evidence in the order of the parts.
	pub fn measure_parts(
		&self,
		model: ModelId,
		input: &Input,
		seed: &H256,
		claimed: Option<&Output>,
		parts: &[Part],
	) -> Result<Vec<Evidence>, EngineError> {
		self.get(model)?.measure(input, seed, claimed, parts)
	}

	/// Where a model runs in fact.
	pub fn provider(&self, model: ModelId) -> Result<Provider, EngineError> {
		Ok(self.get(model)?.graph.provider())
	}

	/// Runs the manifest's reference inference. Gives its output, and the evidence that stands in a manifest if all is well.
	pub fn reference(&self, model: ModelId) -> Result<(Output, Evidence), EngineError> {
		let loaded = self.get(model)?;
		let input = reference_input(&loaded.manifest)?;
		let seed = Manifest::reference_seed();
		let output = loaded.run(&input, &seed)?;
		let evidence = self.measure(model, &input, &seed, Some(&output), &seed)?;
		Ok((output, evidence))
	}
}

/// The input of a manifest's reference inference.
fn reference_input(manifest: &Manifest) -> Result<Input, EngineError> {
	let long = |_| EngineError::Mismatch("the reference input is too long".into());
	let text = |t: &str| t.as_bytes().to_vec().try_into().map_err(long);
	let sampling = |max_tokens| Sampling {
		max_tokens,
		..Default::default()
	};
	Ok(match (&manifest.reference.input, &manifest.task) {
		(
			ReferenceInput::Chat {
				messages,
				max_tokens,
			},
			TaskDetails::TextGeneration { .. },
		) => {
			let message = |(role, content): &(Role, String)| {
				Ok(Message {
					role: *role,
					content: text(content)?,
				})
			};
			let messages = messages
				.iter()
				.map(message)
				.collect::<Result<Vec<_>, EngineError>>()?;
			Input::TextGeneration {
				prompt: Prompt::Chat(List::truncate_from(messages)),
				sampling: sampling(*max_tokens),
			}
		}
		(
			ReferenceInput::Text {
				text: t,
				max_tokens,
			},
			TaskDetails::TextGeneration { .. },
		) => Input::TextGeneration {
			prompt: Prompt::Text(text(t)?),
			sampling: sampling(*max_tokens),
		},
		(ReferenceInput::Text { text: t, .. }, TaskDetails::Embedding { .. }) => {
			Input::Embedding(text(t)?)
		}
		(ReferenceInput::Tensors(encoded), TaskDetails::Tensor { .. }) => {
			let bytes = hex::decode(encoded.trim_start_matches("0x"))
				.map_err(|e| EngineError::Mismatch(format!("the reference tensors: {e}")))?;
			Input::decode(&mut &bytes[..])
				.map_err(|e| EngineError::Mismatch(format!("the reference tensors: {e}")))?
		}
		_ => {
			return Err(EngineError::Mismatch(
				"the reference input is for another task than the model's".into(),
			))
		}
	})
}

impl Loaded {
	fn new(config: &EngineConfig, folder: &Path, manifest: Manifest) -> Result<Self, EngineError> {
		use consilience_primitives::model::NumericClass;
		manifest
			.validate()
			.map_err(|e| EngineError::load(folder.join("manifest.json"), e))?;
		let provider = match manifest.policy.class {
			NumericClass::Exact => Provider::Cpu,
			NumericClass::Tolerant => config.provider,
		};
		let optimization = config
			.optimization
			.as_deref()
			.unwrap_or(&manifest.numerics.optimization);
		let graph = Graph::load(
			&folder.join(&manifest.graph),
			config.threads(),
			optimization,
			provider,
		)?;
		let tokenizer = |path: &str| {
			let path = folder.join(path);
			Tokenizer::from_file(&path).map_err(|e| EngineError::load(&path, e))
		};
		let kind = match &manifest.task {
			TaskDetails::TextGeneration {
				tokenizer: path,
				chat_template,
				bos_token,
				eos_token,
				eos_token_ids,
				context,
				vocabulary,
				layers,
				kv_heads,
				head_dim,
				cache,
			} => {
				let layout = Layout {
					kind: cache.clone(),
					layers: *layers as usize,
					kv_heads: *kv_heads as usize,
					head_dim: *head_dim as usize,
					vocabulary: *vocabulary as usize,
				};
				layout.check(&graph)?;
				let mut tokenizer = tokenizer(path)?;
				tokenizer.with_padding(None);
				tokenizer
					.with_truncation(None)
					.map_err(|e| EngineError::load(folder.join(path), e))?;
				Kind::Text(Box::new(LanguageModel {
					tokenizer,
					template: chat_template
						.clone()
						.map(|t| Template::new(t, bos_token.clone(), eos_token.clone()))
						.transpose()?,
					eos: eos_token_ids.clone(),
					context: *context as usize,
					layout,
				}))
			}
			TaskDetails::Embedding {
				tokenizer: path,
				pooling,
				normalize,
				max_tokens,
				dimensions,
				output,
			} => Kind::Embedding(Box::new(Embedder::new(
				tokenizer(path)?,
				*pooling,
				*normalize,
				*max_tokens,
				*dimensions,
				output.clone(),
			)?)),
			TaskDetails::Tensor { inputs, outputs } => {
				let info = graph.info()?;
				if &info.inputs != inputs {
					return Err(EngineError::Mismatch(format!(
						"the graph takes {:?}, the manifest says {inputs:?}",
						info.inputs
					)));
				}
				for output in outputs {
					if !info.outputs.contains(output) {
						return Err(EngineError::Mismatch(format!(
							"the graph does not give {output:?}"
						)));
					}
				}
				Kind::Tensor
			}
		};
		Ok(Self {
			manifest,
			graph,
			kind,
		})
	}

	fn run(&self, input: &Input, seed: &H256) -> Result<Output, EngineError> {
		match (&self.kind, input) {
			(Kind::Text(model), _) => model.generate(&self.graph, input, seed),
			(Kind::Embedding(model), Input::Embedding(text)) => {
				let text = std::str::from_utf8(text)
					.map_err(|_| EngineError::Input("the text is not UTF-8".into()))?;
				Ok(Output::Tensors(List::truncate_from(vec![
					model.embed(&self.graph, text)?
				])))
			}
			(Kind::Tensor, Input::Tensor(tensors)) => self.run_tensors(tensors),
			_ => Err(EngineError::Input(format!(
				"the model's task is {:?}, not {:?}",
				self.manifest.task(),
				input.task()
			))),
		}
	}

	fn run_tensors(&self, tensors: &[Tensor]) -> Result<Output, EngineError> {
		let TaskDetails::Tensor {
			outputs: wanted, ..
		} = &self.manifest.task
		else {
			return Err(EngineError::Input("not a tensor model".into()));
		};
		let mut inputs: Vec<(String, SessionInputValue<'_>)> = Vec::new();
		for t in tensors {
			let name = String::from_utf8_lossy(&t.name).into_owned();
			inputs.push((name, tensor::to_ort(t)?.into()));
		}
		let outputs = self.graph.run(inputs, |outputs| {
			wanted
				.iter()
				.map(|spec| {
					let value = outputs.get(&spec.name).ok_or_else(|| {
						EngineError::Mismatch(format!("the graph gave no {:?}", spec.name))
					})?;
					tensor::from_ort(&spec.name, value)
				})
				.collect::<Result<Vec<_>, _>>()
		})?;
		Ok(Output::Tensors(outputs.try_into().map_err(|_| {
			EngineError::Output("more than 8 outputs".into())
		})?))
	}

	fn measure(
		&self,
		input: &Input,
		seed: &H256,
		claimed: Option<&Output>,
		parts: &[Part],
	) -> Result<Vec<Evidence>, EngineError> {
		let policy = &self.manifest.policy;
		if let Kind::Text(model) = &self.kind {
			let claimed = claimed.ok_or_else(|| {
				EngineError::Input("there is no answer yet that could be measured".into())
			})?;
			return model.measure(&self.graph, input, seed, claimed, parts, policy);
		}
		match self.run(input, seed)? {
			Output::Tensors(tensors) => parts
				.iter()
				.map(|part| Evidence::of_tensors(&tensors, &part.challenge, policy))
				.collect::<Result<_, _>>()
				.map_err(|e| EngineError::Output(format!("{e:?}"))),
			Output::Text { .. } => Err(EngineError::Mismatch("text from a tensor model".into())),
		}
	}
}
