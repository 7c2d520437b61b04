//! Loaded models, and what can be asked of them.

use std::{
	collections::HashMap,
	ops::Deref,
	path::{Path, PathBuf},
	sync::{
		atomic::{AtomicBool, AtomicU64, Ordering},
		Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock,
	},
	time::{Duration, Instant},
};

use codec::{Decode, Encode};
use consilience_primitives::{
	evidence::Evidence,
	manifest::{File, Manifest, ReferenceInput, TaskDetails},
	model::NumericClass,
	request::{FullInput, Message, Output, Prompt, Role, Sampling, Unanswerable},
	tensor::{DataType, NamedSpec, Tensor, MAX_DATA},
	List, ModelId,
};
use ort::session::SessionInputValue;
use polkadot_sdk::sp_core::H256;
use tokenizers::Tokenizer;

use crate::{
	embedding::Embedder,
	integer, library,
	session::{Graph, GraphInfo, Placement, Provider},
	tensor,
	text::{
		batch::Bounds,
		cache::Layout,
		measure::Part,
		scheduler::{Scheduler, TextStatistics},
		template::Template,
		tokens::Tokens,
		LanguageModel,
	},
	ticket::Ticket,
	EngineError, LOG_TARGET,
};

/// How an engine runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EngineConfig {
	/// Threads that a graph's operators may use; zero for all cores but one, at least one.
	pub threads: u32,
	/// Where tolerant models run whose manifests admit it; all others run on the CPU.
	pub provider: Provider,
	/// Where these models run instead.
	pub providers: Vec<(ModelId, Provider)>,
	/// Refuse a model whose provider does not work, rather than run it on the CPU where its manifest admits that.
	pub no_fallback: bool,
	/// Bytes of a device's memory that each model's arena may take; none for no bound.
	pub device_memory: Option<u64>,
	/// Run models on providers and libraries outside their manifests' numerics profiles, too: for measuring what a profile and a
	/// policy should be. Exact ones stay on the CPU.
	pub beyond_profile: bool,
	/// Overrides the manifest's optimisation level; for experiments.
	pub optimization: Option<String>,
	/// Most answers that a language model writes at a time; at least one.
	pub answers: u32,
	/// Bytes that the caches of these answers may take, for each model; a single answer may take more.
	pub cache_bytes: u64,
	/// Of these, bytes that may be kept of texts that have ended, for others that begin alike; zero, and each text is computed
	/// for itself. It always is where the class is not exact.
	pub prefix_bytes: u64,
	/// Bytes that models in memory may have, counted as those of their files; none for no bound. For one more, those that were
	/// used least recently go, and come back when they are asked for.
	pub models_bytes: Option<u64>,
}

impl Default for EngineConfig {
	fn default() -> Self {
		Self {
			threads: 0,
			provider: Provider::Cpu,
			providers: Vec::new(),
			no_fallback: false,
			device_memory: None,
			beyond_profile: false,
			optimization: None,
			answers: 16,
			cache_bytes: 1 << 30,
			prefix_bytes: 1 << 28,
			models_bytes: None,
		}
	}
}

impl EngineConfig {
	/// How many threads a graph's operators may use in fact.
	pub(crate) fn threads(&self) -> usize {
		match self.threads {
			0 => std::thread::available_parallelism()
				.map_or(1, |n| n.get())
				.saturating_sub(1)
				.max(1),
			n => n as usize,
		}
	}

	/// The provider whose library and driver the process needs: not the CPU's if any model may run elsewhere.
	pub fn driver(&self) -> Provider {
		std::iter::once(&self.provider)
			.chain(self.providers.iter().map(|(_, p)| p))
			.copied()
			.find(|p| *p != Provider::Cpu)
			.unwrap_or_default()
	}

	/// Where a model is to run.
	fn placement(&self, model: ModelId, manifest: &Manifest) -> Result<Placement, EngineError> {
		let admits = |provider: Provider| {
			let mut names = manifest.numerics.providers.iter();
			names.any(|n| n == provider.name())
		};
		let own = self.providers.iter().find(|(of, _)| *of == model);
		let wanted = own.map_or(self.provider, |(_, p)| *p);
		let exact = manifest.policy.class == NumericClass::Exact;
		let provider = if exact || !(self.beyond_profile || admits(wanted)) {
			Provider::Cpu
		} else {
			wanted
		};
		if provider != wanted {
			tracing::info!(
				target: LOG_TARGET,
				"{}: its numerics profile does not admit {wanted}, it runs on the CPU",
				manifest.name,
			);
		}
		let on_cpu = admits(Provider::Cpu) || self.beyond_profile;
		if provider == Provider::Cpu && !on_cpu {
			return Err(EngineError::Mismatch(format!(
				"its numerics profile admits {} only: give the engine such a provider, or do not serve it",
				manifest.numerics.providers.join(", ")
			)));
		}
		Ok(Placement {
			provider,
			fallback: on_cpu && !self.no_fallback,
			device_memory: self.device_memory,
		})
	}

	/// Checks that this process's library is one of those that the model's numerics profile admits.
	fn check_library(&self, manifest: &Manifest) -> Result<(), EngineError> {
		let (version, numerics) = (library::version()?, &manifest.numerics);
		let (least, most) = (&numerics.onnxruntime_min, &numerics.onnxruntime_max);
		if self.beyond_profile || library::within(version, least, most) {
			return Ok(());
		}
		Err(EngineError::Mismatch(format!(
			"its numerics profile admits ONNX Runtime {least} to {most}, and this is {version}"
		)))
	}
}

/// What an engine has done, and what it is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Statistics {
	/// Models that can be asked.
	pub models: u32,
	/// Models in memory, now.
	pub in_memory: u32,
	/// Bytes of their files.
	pub bytes: u64,
	/// Models that were brought into memory, the same one perhaps more than once.
	pub loads: u64,
	/// Time that this took, in microseconds.
	pub load_time: u64,
	/// Of each language model, since it was first loaded.
	pub texts: Vec<(ModelId, TextStatistics)>,
}

enum Kind {
	Text(Scheduler),
	Embedding(Box<Embedder>, Graph),
	Tensor(Graph),
}

/// A model in memory.
struct Loaded {
	manifest: Manifest,
	/// Where the graph runs.
	provider: Provider,
	kind: Kind,
}

/// A model that can be asked, in memory or not.
struct Slot {
	folder: PathBuf,
	manifest: Manifest,
	/// Bytes of its files.
	bytes: u64,
	/// Held while it is loaded: who asks for it meanwhile waits.
	loaded: Mutex<Option<Arc<Loaded>>>,
	/// Whether it is in memory, for who does not want to wait for that.
	in_memory: AtomicBool,
	/// When it was asked last: the number of the request.
	used: AtomicU64,
	/// Outlives its time in memory.
	statistics: Arc<Mutex<TextStatistics>>,
}

impl Slot {
	fn lock(&self) -> MutexGuard<'_, Option<Arc<Loaded>>> {
		self.loaded.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// Whether its answers that pause are ended, so that it is out of use sooner.
	fn give_way(&self, yields: bool) {
		if !self.in_memory.load(Ordering::Relaxed) {
			return;
		}
		// Of a model in memory nobody has this for longer than it takes to look.
		if let Some(Kind::Text(text)) = self.lock().as_deref().map(|loaded| &loaded.kind) {
			text.give_way(yields);
		}
	}

	/// Takes it out of memory unless a run has it. Says whether it did.
	fn forget_if_idle(&self) -> bool {
		// Nobody takes another share while this is locked.
		let idle = |loaded: &Arc<Loaded>| Arc::strong_count(loaded) == 1;
		match self.loaded.try_lock() {
			Ok(mut loaded) if loaded.as_ref().is_some_and(idle) => {
				self.in_memory.store(false, Ordering::Relaxed);
				loaded.take().is_some()
			}
			_ => false,
		}
	}
}

/// A model in memory, for as long as somebody runs it.
struct InUse<'e> {
	/// `None` only while this is dropped.
	loaded: Option<Arc<Loaded>>,
	room: &'e Room,
}

impl Deref for InUse<'_> {
	type Target = Loaded;

	#[allow(clippy::expect_used)]
	fn deref(&self) -> &Loaded {
		self.loaded.as_ref().expect("there until this is dropped")
	}
}

impl Drop for InUse<'_> {
	fn drop(&mut self) {
		self.loaded = None;
		// Locked, so that nobody is between looking and waiting.
		let _looking = self.room.lock();
		self.room.changed.notify_all();
	}
}

/// What it takes to bring models into memory: one at a time, and where there is a bound, space.
#[derive(Default)]
struct Room {
	state: Mutex<RoomState>,
	/// A run has ended, or nobody waits for that any more.
	changed: Condvar,
	/// Held by who brings a model into memory.
	one: Mutex<()>,
}

#[derive(Default)]
struct RoomState {
	/// Models that were brought into memory, and how long that took.
	loads: u64,
	load_time: Duration,
	/// Whether somebody waits for runs to end. Nobody begins another then, or a model that is always asked would keep all
	/// others out.
	wanted: bool,
}

impl Room {
	fn lock(&self) -> MutexGuard<'_, RoomState> {
		self.state.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn wait<'r>(&self, state: MutexGuard<'r, RoomState>) -> MutexGuard<'r, RoomState> {
		self.changed.wait(state).unwrap_or_else(|e| e.into_inner())
	}
}

/// Models that can be asked. Cheap to share; calls may come from many threads.
pub struct Engine {
	config: EngineConfig,
	models: RwLock<HashMap<ModelId, Arc<Slot>>>,
	requests: AtomicU64,
	room: Room,
}

impl Engine {
	/// An engine without models. Fails where the ONNX Runtime library is missing.
	pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
		library::environment(config.driver())?;
		Ok(Self {
			config,
			models: RwLock::default(),
			requests: AtomicU64::default(),
			room: Room::default(),
		})
	}

	/// What a graph takes and gives, without anything of a manifest.
	pub fn inspect(&self, graph: &Path) -> Result<GraphInfo, EngineError> {
		Graph::load(graph, 1, "disable", Placement::default())?.info()
	}

	/// Version of the ONNX Runtime in this process.
	pub fn onnxruntime(&self) -> Result<&'static str, EngineError> {
		library::version()
	}

	/// Loads a model whose manifest is `manifest.json` in its folder. The caller has checked the files' hashes.
	pub fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		let path = folder.join("manifest.json");
		let bytes = std::fs::read(&path).map_err(|e| EngineError::load(&path, e))?;
		let manifest: Manifest =
			serde_json::from_slice(&bytes).map_err(|e| EngineError::load(&path, e))?;
		self.load_manifest(folder, manifest)
	}

	/// Loads a model whose files are in `folder`, as this manifest says. The files stay there as long as the model can be asked.
	pub fn load_manifest(&self, folder: &Path, manifest: Manifest) -> Result<ModelId, EngineError> {
		let id = manifest.id();
		let size = |file: &File| std::fs::metadata(folder.join(&file.path)).map_or(0, |m| m.len());
		let slot = Arc::new(Slot {
			folder: folder.into(),
			bytes: manifest.files.iter().map(size).sum(),
			manifest,
			loaded: Mutex::default(),
			in_memory: AtomicBool::default(),
			used: AtomicU64::default(),
			statistics: Arc::default(),
		});
		// Known before it is in memory, so that its bytes count and who loads it too waits for this.
		let slot = {
			let mut models = self.models.write().unwrap_or_else(|e| e.into_inner());
			models.entry(id).or_insert(slot).clone()
		};
		if let Err(e) = self.bring(&slot) {
			let mut models = self.models.write().unwrap_or_else(|e| e.into_inner());
			if models.get(&id).is_some_and(|s| Arc::ptr_eq(s, &slot)) {
				models.remove(&id);
			}
			return Err(e);
		}
		Ok(id)
	}

	/// Forgets a model; runs that have begun end.
	pub fn unload(&self, model: ModelId) {
		self.models
			.write()
			.unwrap_or_else(|e| e.into_inner())
			.remove(&model);
	}

	/// Models that can be asked.
	pub fn loaded(&self) -> Vec<ModelId> {
		self.models
			.read()
			.unwrap_or_else(|e| e.into_inner())
			.keys()
			.copied()
			.collect()
	}

	/// What the engine has done.
	pub fn statistics(&self) -> Statistics {
		// Before the models, as everywhere.
		let (loads, load_time) = {
			let state = self.room.lock();
			(state.loads, state.load_time)
		};
		let models = self.models.read().unwrap_or_else(|e| e.into_inner());
		let in_memory: Vec<_> = models
			.values()
			.filter(|s| s.in_memory.load(Ordering::Relaxed))
			.collect();
		Statistics {
			models: models.len() as u32,
			in_memory: in_memory.len() as u32,
			bytes: in_memory.iter().map(|s| s.bytes).sum(),
			loads,
			load_time: load_time.as_micros() as u64,
			texts: models
				.iter()
				.filter(|(_, s)| matches!(s.manifest.task, TaskDetails::TextGeneration { .. }))
				.map(|(id, s)| (*id, *s.statistics.lock().unwrap_or_else(|e| e.into_inner())))
				.collect(),
		}
	}

	fn slot(&self, model: ModelId) -> Result<Arc<Slot>, EngineError> {
		self.models
			.read()
			.unwrap_or_else(|e| e.into_inner())
			.get(&model)
			.cloned()
			.ok_or_else(|| EngineError::NotLoaded(format!("{model:?}")))
	}

	/// A model in memory, brought there if need be, for whoever still waits for it.
	fn get(&self, model: ModelId) -> Result<InUse<'_>, EngineError> {
		let slot = self.slot(model)?;
		Ticket::current().check()?;
		self.bring(&slot)
	}

	/// Who has a model in use does not ask for one: it would wait for itself.
	fn bring(&self, slot: &Slot) -> Result<InUse<'_>, EngineError> {
		{
			let mut state = self.room.lock();
			while state.wanted {
				state = self.room.wait(state);
			}
		}
		let now = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
		slot.used.store(now, Ordering::Relaxed);
		let in_use = |loaded: &Arc<Loaded>| InUse {
			loaded: Some(loaded.clone()),
			room: &self.room,
		};
		let mut loaded = slot.lock();
		if let Some(loaded) = &*loaded {
			return Ok(in_use(loaded));
		}
		// One at a time: two that wait for each other's space would wait for ever.
		let _one = self.room.one.lock().unwrap_or_else(|e| e.into_inner());
		self.make_room(slot)?;
		let began = Instant::now();
		let statistics = slot.statistics.clone();
		let new = Loaded::new(
			&self.config,
			&slot.folder,
			slot.manifest.clone(),
			statistics,
		)?;
		{
			let mut state = self.room.lock();
			state.loads += 1;
			state.load_time += began.elapsed();
		}
		slot.in_memory.store(true, Ordering::Relaxed);
		Ok(in_use(loaded.insert(Arc::new(new))))
	}

	/// Takes models out of memory until another fits. Waits for those that are being run.
	fn make_room(&self, new: &Slot) -> Result<(), EngineError> {
		let Some(bound) = self.config.models_bytes else {
			return Ok(());
		};
		if new.bytes > bound {
			return Err(EngineError::load(
				&new.folder,
				format!(
					"its files have {} bytes, and all models in memory may have {bound}: allow more, or do not serve it",
					new.bytes
				),
			));
		}
		let mut room = self.room.lock();
		loop {
			let mut others: Vec<_> = {
				let models = self.models.read().unwrap_or_else(|e| e.into_inner());
				models
					.values()
					.filter(|s| s.in_memory.load(Ordering::Relaxed))
					.cloned()
					.collect()
			};
			others.sort_by_key(|s| s.used.load(Ordering::Relaxed));
			let mut sum: u64 = new.bytes + others.iter().map(|s| s.bytes).sum::<u64>();
			for other in &others {
				if sum <= bound {
					break;
				}
				if other.forget_if_idle() {
					tracing::info!(
						target: LOG_TARGET,
						"{} is out of memory until it is asked for, to make room",
						other.folder.display(),
					);
					sum -= other.bytes;
				}
			}
			// An answer may pause for longer than anybody waits for a model.
			others.iter().for_each(|other| other.give_way(sum > bound));
			if sum <= bound {
				room.wanted = false;
				self.room.changed.notify_all();
				return Ok(());
			}
			room.wanted = true;
			room = self.room.wait(room);
		}
	}

	/// Answers an input. `seed` is that of the sampling noise.
	pub fn run(
		&self,
		model: ModelId,
		input: &FullInput,
		seed: &H256,
	) -> Result<Output, EngineError> {
		self.get(model)?.run(input, seed)
	}

	/// Answers an input with generated text. `see` is given the tokens as they are written, all of them, and what each adds to the
	/// text as far as that is certain; the answer's text begins with this, and may have more at its end. It is called on this
	/// thread, and the model does not wait for it. What is given may come to nothing: the answer is there when this returns.
	pub fn stream(
		&self,
		model: ModelId,
		input: &FullInput,
		seed: &H256,
		see: &mut dyn FnMut(Vec<u32>, &str),
	) -> Result<Output, EngineError> {
		self.get(model)?.stream(input, seed, see)
	}

	/// The answer that is over with the last of these tokens, which the model wrote, whether it ends it there or not: it says so in
	/// its reason. Runs no graph.
	pub fn cut(
		&self,
		model: ModelId,
		input: &FullInput,
		tokens: &[u32],
	) -> Result<Output, EngineError> {
		let loaded = self.get(model)?;
		let Kind::Text(text) = &loaded.kind else {
			return Err(EngineError::Input("the model generates no text".into()));
		};
		let output = text.cut(input, tokens)?;
		loaded.check(input, &output)?;
		Ok(output)
	}

	/// Measures under a challenge. For text generation that is about the claimed answer; other tasks are computed afresh, and
	/// `claimed` is not looked at.
	pub fn measure(
		&self,
		model: ModelId,
		input: &FullInput,
		seed: &H256,
		claimed: Option<&Output>,
		challenge: &H256,
	) -> Result<Evidence, EngineError> {
		let part = Part {
			tokens: None,
			challenge: *challenge,
		};
		only(self.measure_parts(model, input, seed, claimed, &[part])?)
	}

	/// Measures parts of an answer, or all of it under several challenges, in one pass: what jurors and calibration ask for.
	/// Gives evidence in the order of the parts.
	pub fn measure_parts(
		&self,
		model: ModelId,
		input: &FullInput,
		seed: &H256,
		claimed: Option<&Output>,
		parts: &[Part],
	) -> Result<Vec<Evidence>, EngineError> {
		self.get(model)?.measure(input, seed, claimed, parts)
	}

	/// Where a model runs in fact.
	pub fn provider(&self, model: ModelId) -> Result<Provider, EngineError> {
		Ok(self.get(model)?.provider)
	}

	/// Runs the manifest's reference inference. Gives its output, and the evidence that stands in a manifest if all is well.
	pub fn reference(&self, model: ModelId) -> Result<(Output, Evidence), EngineError> {
		let loaded = self.get(model)?;
		let input = reference_input(&loaded.manifest)?;
		let seed = Manifest::reference_seed();
		let output = loaded.run(&input, &seed)?;
		let part = Part {
			tokens: None,
			challenge: seed,
		};
		let evidence = only(loaded.measure(&input, &seed, Some(&output), &[part])?)?;
		Ok((output, evidence))
	}
}

/// Whether two descriptions may be of the same tensor. The optimiser finds out sizes that the graph itself leaves open: where one of
/// them says nothing, they do not contradict each other.
fn alike(a: &NamedSpec, b: &NamedSpec) -> bool {
	let sizes = a.shape.iter().zip(&b.shape);
	a.name == b.name
		&& a.datatype == b.datatype
		&& a.shape.len() == b.shape.len()
		&& sizes.into_iter().all(|(a, b)| match (a, b) {
			(Some(a), Some(b)) => a == b,
			_ => true,
		})
}

/// The evidence of one part.
fn only(mut evidence: Vec<Evidence>) -> Result<Evidence, EngineError> {
	evidence
		.pop()
		.ok_or_else(|| EngineError::Run("no evidence of one part".into()))
}

/// A tokenizer of a model's folder.
fn tokenizer(folder: &Path, path: &str) -> Result<Tokenizer, EngineError> {
	let path = folder.join(path);
	Tokenizer::from_file(&path).map_err(|e| EngineError::load(&path, e))
}

/// The language model of a manifest, without its graph.
pub(crate) fn language_model(
	folder: &Path,
	task: &TaskDetails,
) -> Result<LanguageModel, EngineError> {
	let TaskDetails::TextGeneration {
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
		sampling: _,
	} = task
	else {
		return Err(EngineError::Mismatch("not a language model".into()));
	};
	let mut tokenizer = tokenizer(folder, path)?;
	tokenizer.with_padding(None);
	tokenizer
		.with_truncation(None)
		.map_err(|e| EngineError::load(folder.join(path), e))?;
	let template = chat_template
		.clone()
		.map(|t| Template::new(t, bos_token.clone(), eos_token.clone()))
		.transpose()?;
	let words = template.as_ref().map(Template::words);
	Ok(LanguageModel {
		tokens: Tokens::new(tokenizer, eos_token_ids, words.as_deref())?,
		template,
		eos: eos_token_ids.clone(),
		context: *context as usize,
		layout: Layout {
			kind: cache.clone(),
			layers: *layers as usize,
			kv_heads: *kv_heads as usize,
			head_dim: *head_dim as usize,
			vocabulary: *vocabulary as usize,
			element: DataType::Fp32,
			tables: None,
		},
		vocabulary: OnceLock::new(),
	})
}

/// The text encoder of a manifest, without its graph.
pub(crate) fn embedder(folder: &Path, task: &TaskDetails) -> Result<Embedder, EngineError> {
	let TaskDetails::Embedding {
		tokenizer: path,
		pooling,
		normalize,
		max_tokens,
		dimensions,
		output,
	} = task
	else {
		return Err(EngineError::Mismatch("not a text encoder".into()));
	};
	Embedder::new(
		tokenizer(folder, path)?,
		*pooling,
		*normalize,
		*max_tokens,
		*dimensions,
		output.clone(),
	)
}

/// The input of a manifest's reference inference.
pub(crate) fn reference_input(manifest: &Manifest) -> Result<FullInput, EngineError> {
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
			FullInput::TextGeneration {
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
		) => FullInput::TextGeneration {
			prompt: Prompt::Text(text(t)?),
			sampling: sampling(*max_tokens),
		},
		(ReferenceInput::Text { text: t, .. }, TaskDetails::Embedding { .. }) => {
			FullInput::Embedding(text(t)?)
		}
		(ReferenceInput::Tensors(encoded), TaskDetails::Tensor { .. }) => {
			let bytes = hex::decode(encoded.trim_start_matches("0x"))
				.map_err(|e| EngineError::Mismatch(format!("the reference tensors: {e}")))?;
			FullInput::decode(&mut &bytes[..])
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
	fn new(
		config: &EngineConfig,
		folder: &Path,
		manifest: Manifest,
		statistics: Arc<Mutex<TextStatistics>>,
	) -> Result<Self, EngineError> {
		manifest
			.validate()
			.map_err(|e| EngineError::load(folder.join("manifest.json"), e))?;
		config.check_library(&manifest)?;
		let placement = config.placement(manifest.id(), &manifest)?;
		let optimization = config
			.optimization
			.as_deref()
			.unwrap_or(&manifest.numerics.optimization);
		let path = folder.join(&manifest.graph);
		let proof = integer::prove(folder, &manifest)?;
		if proof.is_some() {
			integer::as_it_stands(optimization)?;
		}
		let graph = Graph::load(&path, config.threads(), optimization, placement)?;
		// The CPU where CUDA was asked for and is not there.
		let provider = graph.provider();
		let kind = match &manifest.task {
			TaskDetails::TextGeneration { .. } => {
				let mut model = language_model(folder, &manifest.task)?;
				model.layout.check(&graph)?;
				if let Some(proof) = &proof {
					let most = (model.context, config.answers.max(1) as usize);
					integer::admit(proof, &graph, &mut model.layout, most)?;
					integer::reads_past_once(&path, &model.layout)?;
				}
				let bytes = |n| usize::try_from(n).unwrap_or(usize::MAX);
				let bounds = Bounds {
					answers: config.answers as usize,
					cache_bytes: bytes(config.cache_bytes),
					// What was computed for another text, in pieces and company of its own, is what would be computed for this
					// one in the exact class alone.
					prefix_bytes: match manifest.policy.class {
						NumericClass::Exact => bytes(config.prefix_bytes),
						NumericClass::Tolerant => 0,
					},
				};
				Kind::Text(Scheduler::new(model, graph, bounds, statistics)?)
			}
			TaskDetails::Embedding { .. } => {
				Embedder::check(&graph)?;
				let embedder = embedder(folder, &manifest.task)?;
				Kind::Embedding(Box::new(embedder), graph)
			}
			TaskDetails::Tensor {
				inputs, outputs, ..
			} => {
				let info = graph.info()?;
				let agree = info.inputs.len() == inputs.len()
					&& info
						.inputs
						.iter()
						.zip(inputs)
						.all(|(i, said)| alike(i, said));
				if !agree {
					return Err(EngineError::Mismatch(format!(
						"the graph takes {:?}, the manifest says {inputs:?}",
						info.inputs
					)));
				}
				for output in outputs {
					if !info.outputs.iter().any(|o| alike(o, output)) {
						return Err(EngineError::Mismatch(format!(
							"the graph does not give {output:?}"
						)));
					}
				}
				Kind::Tensor(graph)
			}
		};
		Ok(Self {
			manifest,
			provider,
			kind,
		})
	}

	/// The answer, if it is one that the chain takes: see [`Self::check`].
	fn run(&self, input: &FullInput, seed: &H256) -> Result<Output, EngineError> {
		let output = self.compute(input, seed)?;
		self.check(input, &output)?;
		Ok(output)
	}

	fn stream(
		&self,
		input: &FullInput,
		seed: &H256,
		see: &mut dyn FnMut(Vec<u32>, &str),
	) -> Result<Output, EngineError> {
		let Kind::Text(model) = &self.kind else {
			return Err(EngineError::Input(
				"the model generates no text: only that is streamed".into(),
			));
		};
		let output = model.stream(input, seed, see)?;
		self.check(input, &output)?;
		Ok(output)
	}

	/// Holds an output against what the chain will ask of it when it is shown, which may be after it was committed to.
	fn check(&self, input: &FullInput, output: &Output) -> Result<(), EngineError> {
		let (most, units) = (
			input.max_output_units(&self.manifest.limits),
			output.units(),
		);
		let large = |why| EngineError::Unanswerable(Unanswerable::OutputTooLarge, why);
		if units > most {
			return Err(large(format!(
				"the output has {units} units, and there may be {most}"
			)));
		}
		if !output.fits(self.manifest.task()) {
			return Err(large("the output is none that the chain carries".into()));
		}
		Ok(())
	}

	/// NaN and infinity in the outputs of a tensor model are values like others, which its graph may well mean: only where a
	/// task makes something of numbers, tokens or vectors, are they refused.
	fn compute(&self, input: &FullInput, seed: &H256) -> Result<Output, EngineError> {
		match (&self.kind, input) {
			(Kind::Text(model), _) => model.generate(input, seed),
			(Kind::Embedding(model, graph), FullInput::Embedding(text)) => {
				let text = std::str::from_utf8(text)
					.map_err(|_| EngineError::Input("the text is not UTF-8".into()))?;
				Ok(Output::Tensors(List::truncate_from(vec![
					model.embed(graph, text)?
				])))
			}
			(Kind::Tensor(graph), FullInput::Tensor(tensors)) => self.run_tensors(graph, tensors),
			_ => Err(EngineError::Input(format!(
				"the model's task is {:?}, not {:?}",
				self.manifest.task(),
				input.task()
			))),
		}
	}

	fn run_tensors(
		&self,
		graph: &Graph,
		tensors: &[Tensor<MAX_DATA>],
	) -> Result<Output, EngineError> {
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
		let outputs = graph.run(inputs, |outputs| {
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
		input: &FullInput,
		seed: &H256,
		claimed: Option<&Output>,
		parts: &[Part],
	) -> Result<Vec<Evidence>, EngineError> {
		let policy = &self.manifest.policy;
		if let Kind::Text(model) = &self.kind {
			let claimed = claimed.ok_or_else(|| {
				EngineError::Input("there is no answer yet that could be measured".into())
			})?;
			return model.measure(input, seed, claimed, parts, policy);
		}
		match self.run(input, seed)? {
			Output::Tensors(tensors) => parts
				.iter()
				.map(|part| Evidence::of_tensors(&tensors, &part.challenge, policy))
				.collect::<Result<_, _>>()
				.map_err(|e| EngineError::Output(format!("{e:?}"))),
			Output::Text { .. } | Output::Unanswerable(_) => Err(EngineError::Mismatch(
				"no tensors from a tensor model".into(),
			)),
		}
	}
}
