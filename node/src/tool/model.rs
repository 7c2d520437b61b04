//! `consilience model …`: models on this machine and on chain.

use std::{
	cell::RefCell,
	io::Write,
	path::{Path, PathBuf},
	time::{Duration, Instant},
};

use consilience_engine::{
	chat_overhead,
	isolation::{isolate, Isolation, Purpose},
	probe_template, Engine, EngineConfig, Probe, Provider, Reception,
};
use consilience_primitives::{
	evidence::Evidence,
	manifest::{Manifest, TaskDetails},
	request::{FullInput, Output},
	tensor::{Tensor, MAX_DATA},
	ModelId,
};
use consilience_store::{
	open_inference::from_tensor, Import, Inspected, Measured, Prober, Progress, Runner, Signature,
	Store, StoredModel,
};
use indicatif::{ProgressBar, ProgressStyle};
use polkadot_sdk::{sc_cli, sp_core::H256};
use serde_json::{json, Value};

use super::{
	block_on,
	canonicalise::{self, CanonicaliseCommand},
	confine,
	draft::{self, DraftCommand},
	exactness::{self, ExactnessCommand},
	input::InputArguments,
	media, registry, serve, watch, Format, NodeAddress, Result, Signer,
};

/// How long an import or a run may take; reading 64 GiB from a slow disk takes most of it.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Tokens of an answer where nobody says how many.
const MAX_TOKENS: u32 = 128;

/// Models on this machine and on chain.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ModelCommand {
	/// Check a model and put it into the store.
	Import {
		/// Folder with a manifest.json, or with a card (model.json) that says what the model is. Without a card: an ONNX file, for
		/// which one is drafted, or a GGUF file, which is canonicalised.
		source: PathBuf,
		/// Print the manifest, and leave the store as it is.
		#[arg(long)]
		dry_run: bool,
		/// Take the card's word for the exact class instead of running the model in many ways first. If it is wrong, validators
		/// find out when they are to serve the model.
		#[arg(long)]
		no_measure: bool,
		#[command(flatten)]
		store: StoreArguments,
		#[command(flatten)]
		format: Format,
	},
	/// Write a first card for an ONNX file or a folder in the hub's ONNX layout: to look at, to calibrate, and to import.
	Draft(DraftCommand),
	/// Turn a published language model into a canonical graph of the exact or the integer class, in a folder that import takes.
	Canonicalise(CanonicaliseCommand),
	/// Run a model in every honest way, and say whether it is of the exact class or which operator broke the bits.
	Exactness(ExactnessCommand),
	/// List the models of the store.
	List {
		#[command(flatten)]
		store: StoreArguments,
		#[command(flatten)]
		format: Format,
	},
	/// Run a model on this machine, without a chain.
	Run {
		/// Folder, or id or name of a model in the store.
		model: String,
		#[command(flatten)]
		input: Box<InputArguments>,
		/// Write the answer to this file instead of standard output.
		#[arg(long)]
		output: Option<PathBuf>,
		/// Seed of the sampling noise, in hexadecimal [default: zeros].
		#[arg(long)]
		seed: Option<H256>,
		/// Where it runs, whatever its manifest admits: `cpu`, `cuda` or `cuda:N`. Exact models always run on the CPU.
		#[arg(long, default_value = "cpu")]
		provider: Provider,
		/// Run the model's reference first, so that times are not those of a first run.
		#[arg(long)]
		warm_up: bool,
		#[command(flatten)]
		store: StoreArguments,
		#[command(flatten)]
		format: Format,
	},
	/// Register a model of the store on chain.
	Register {
		/// Id or name of a model in the store.
		model: String,
		#[command(flatten)]
		store: StoreArguments,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Let a model that you registered take no more requests. Open ones are finished.
	Deprecate(ByOwner),
	/// Remove a model from the chain that was deprecated a day ago, when no request needs it any more; its deposit comes back.
	Unregister(ByOwner),
	/// Fetch a model that is on chain into the store of the node at --url, from nodes that have it, and give it to others.
	Fetch(AtNode),
	/// Remove a model from the store of the node at --url. One that is served is withdrawn first.
	Remove(AtNode),
	/// Have the validator at --url serve a model that is on chain. It is fetched from other nodes if it is not in the store.
	Serve(AtNode),
	/// Have the validator at --url serve a model no longer.
	Withdraw(AtNode),
}

/// A model, and the node that is told something of it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AtNode {
	/// The model's id or name.
	pub(super) model: String,
	#[command(flatten)]
	pub(super) node: NodeAddress,
	#[command(flatten)]
	pub(super) format: Format,
}

/// A model on chain, and its owner.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ByOwner {
	#[command(flatten)]
	pub(super) at: AtNode,
	#[command(flatten)]
	pub(super) signer: Signer,
}

/// Where the store is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArguments {
	/// The node's base path; the store is its folder `models`.
	#[arg(long, short = 'd', value_name = "PATH")]
	base_path: Option<PathBuf>,

	/// The node's chain. The store is the same for all, as models go by their content.
	#[arg(long, hide = true)]
	chain: Option<String>,
}

impl StoreArguments {
	pub(super) fn open(&self) -> Result<Store> {
		let base = match &self.base_path {
			Some(path) => path.clone(),
			None => sc_cli_base_path()?,
		};
		Store::open(consilience_worker::store_folder(&base)).map_err(|e| e.to_string())
	}
}

/// The node's base path where none is given.
fn sc_cli_base_path() -> Result<PathBuf> {
	Ok(
		polkadot_sdk::sc_service::BasePath::from_project("", "", "consilience")
			.path()
			.to_owned(),
	)
}

/// The engine in this process.
pub(super) struct InProcess {
	engine: Engine,
	/// Whether an import measures the class that a card claims.
	measures: bool,
	/// The graph that was looked at last.
	probe: RefCell<Option<(PathBuf, Probe)>>,
}

impl InProcess {
	/// Gives up the network and most of the machine's memory first: nobody has vouched for the model.
	pub(super) fn new(measures: bool, provider: Provider) -> Result<Self> {
		isolate(Isolation {
			driver: provider != Provider::Cpu,
			..Isolation::new(Purpose::Tool)
		})
		.map_err(|e| format!("limiting this process's memory: {e}"))?;
		let engine = Engine::new(EngineConfig {
			provider,
			// What a person asks for by name is done, or it is said why not.
			no_fallback: true,
			beyond_profile: provider != Provider::Cpu,
			..Default::default()
		})
		.map_err(|e| e.to_string())?;
		Ok(Self {
			engine,
			measures,
			probe: RefCell::default(),
		})
	}
}

impl InProcess {
	/// The engine.
	pub(super) fn engine(&self) -> &Engine {
		&self.engine
	}
}

impl Prober for InProcess {
	fn inspect(&self, graph: &Path) -> std::result::Result<Inspected, String> {
		let probe = Probe::open(graph).map_err(|e| e.to_string())?;
		let info = probe.info().map_err(|e| e.to_string())?;
		let symbols = probe.symbols();
		// Kept for the tries that follow.
		*self.probe.borrow_mut() = Some((graph.into(), probe));
		let onnxruntime = self.engine.onnxruntime().map_err(|e| e.to_string())?;
		Ok(Inspected {
			signature: Signature {
				inputs: info.inputs,
				outputs: info.outputs,
			},
			symbols,
			opset: info.opset,
			onnxruntime: onnxruntime.into(),
		})
	}

	fn run(
		&self,
		graph: &Path,
		inputs: &[Tensor<MAX_DATA>],
	) -> std::result::Result<Vec<Tensor>, String> {
		let run = |probe: &Probe| probe.run(inputs).map_err(|e| e.to_string());
		match &*self.probe.borrow() {
			Some((of, probe)) if of == graph => run(probe),
			_ => run(&Probe::open(graph).map_err(|e| e.to_string())?),
		}
	}

	fn overhead(
		&self,
		folder: &Path,
		task: &TaskDetails,
	) -> std::result::Result<Option<u32>, String> {
		chat_overhead(folder, task).map_err(|e| e.to_string())
	}
}

impl Runner for InProcess {
	fn signature(&self, graph: &Path) -> std::result::Result<Signature, String> {
		Ok(self.inspect(graph)?.signature)
	}

	fn overhead(
		&self,
		folder: &Path,
		task: &TaskDetails,
	) -> std::result::Result<Option<u32>, String> {
		match task {
			TaskDetails::TextGeneration { .. } => Prober::overhead(self, folder, task),
			_ => Ok(None),
		}
	}

	fn reference(
		&self,
		folder: &Path,
		manifest: &Manifest,
	) -> std::result::Result<(Output, Evidence), String> {
		let run = || {
			let model = self.engine.load_manifest(folder, manifest.clone())?;
			let reference = self.engine.reference(model);
			self.engine.unload(model);
			reference
		};
		run().map_err(|e| e.to_string())
	}

	fn measure(
		&self,
		folder: &Path,
		manifest: &Manifest,
		progress: &mut dyn FnMut(u64, u64),
	) -> std::result::Result<Option<Measured>, String> {
		if !self.measures {
			return Ok(None);
		}
		exactness::for_import(folder, manifest, progress).map(Some)
	}
}

/// Shows how far an import is.
struct Bar(ProgressBar);

impl Bar {
	fn new(format: Format) -> Self {
		let bar = if format.json {
			ProgressBar::hidden()
		} else {
			ProgressBar::new(0)
		};
		bar.set_style(
			ProgressStyle::with_template("{msg:20} {wide_bar} {bytes}/{total_bytes} {eta}")
				.expect("the template is well-formed; qed"),
		);
		Self(bar)
	}

	fn show(&self, progress: Progress) {
		match progress {
			Progress::Total(bytes) => {
				self.0.set_length(bytes);
				self.0.set_message("checking hashes");
			}
			Progress::Hashed(bytes) => self.0.inc(bytes),
			Progress::Measuring { done, total } => {
				if done == 0 {
					self.0.set_style(exactness::bar_style());
					self.0.set_message("measuring the class");
				}
				self.0.set_length(total);
				self.0.set_position(done);
			}
			Progress::Reference => self.0.set_message("running reference"),
			Progress::Copying => self.0.set_message("copying"),
		}
	}
}

/// Reads a folder, showing progress. `engine` is made where none is there and one is needed.
fn read_folder(
	folder: &Path,
	engine: Option<&InProcess>,
	measures: bool,
	format: Format,
) -> Result<(Import, Bar)> {
	let bar = Bar::new(format);
	// A folder with a manifest is checked without the engine.
	let import = if folder.join("manifest.json").is_file() {
		struct Unneeded;
		impl Runner for Unneeded {
			fn signature(&self, _: &Path) -> std::result::Result<Signature, String> {
				Err("the manifest has the signature".into())
			}

			fn reference(
				&self,
				_: &Path,
				_: &Manifest,
			) -> std::result::Result<(Output, Evidence), String> {
				Err("the manifest has the reference".into())
			}
		}
		Import::read(folder, &Unneeded, &mut |p| bar.show(p))
	} else if let Some(engine) = engine {
		Import::read(folder, engine, &mut |p| bar.show(p))
	} else {
		Import::read(
			folder,
			&InProcess::new(measures, Provider::Cpu)?,
			&mut |p| bar.show(p),
		)
	};
	Ok((import.map_err(|e| e.to_string())?, bar))
}

/// A model's folder and manifest, its files checked: a folder, or one of the store by id or name.
pub(super) fn described(
	model: &str,
	runner: &InProcess,
	store: &StoreArguments,
	format: Format,
) -> Result<(PathBuf, Manifest)> {
	let folder = Path::new(model);
	if folder.is_dir() {
		let bar = Bar::new(format);
		let manifest =
			Import::describe(folder, runner, &mut |p| bar.show(p)).map_err(|e| e.to_string())?;
		bar.0.finish_and_clear();
		return Ok((folder.into(), manifest));
	}
	stored(model, store)
}

/// Folder and manifest of a model in the store, its files checked.
fn stored(model: &str, store: &StoreArguments) -> Result<(PathBuf, Manifest)> {
	let store = store.open()?;
	let found = find(&store, model)?;
	store.verify(found.id, |_| ()).map_err(|e| e.to_string())?;
	Ok((found.folder, found.manifest))
}

/// A model of the store by its id or, if it is the only one of that name, its name.
pub(super) fn find(store: &Store, wanted: &str) -> Result<StoredModel> {
	if let Ok(id) = wanted.parse::<H256>() {
		return store.get(id).map_err(|e| e.to_string());
	}
	let models = store.list().map_err(|e| e.to_string())?;
	let found: Vec<_> = models
		.iter()
		.filter(|m| m.manifest.name == wanted)
		.collect();
	match &found[..] {
		[model] => Ok((*model).clone()),
		[] => {
			let names: Vec<_> = models.iter().map(|m| m.manifest.name.as_str()).collect();
			Err(format!(
				"no model {wanted:?} is in the store {}, which holds: {}",
				store.root().display(),
				if names.is_empty() {
					"nothing".into()
				} else {
					names.join(", ")
				}
			))
		}
		_ => Err(format!(
			"several models in the store are called {wanted:?}: name one by its id"
		)),
	}
}

fn summary(id: ModelId, manifest: &Manifest, folder: Option<&Path>) -> Value {
	json!({
		"model": id,
		"name": manifest.name,
		"task": watch::task(manifest.task()),
		"class": manifest.policy.class,
		"size": manifest.size(),
		"license": manifest.license,
		"folder": folder.map(|f| f.display().to_string()),
	})
}

fn line(id: ModelId, manifest: &Manifest) -> String {
	format!(
		"{id:?}  {}  {}, {:.1} MB",
		manifest.name,
		watch::task(manifest.task()).as_str().unwrap_or_default(),
		manifest.size() as f64 / 1e6
	)
}

impl ModelCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		self.execute().map_err(sc_cli::Error::Input)
	}

	fn execute(&self) -> Result<()> {
		match self {
			Self::Import { source, .. } | Self::Draft(DraftCommand { source, .. })
				if !confine::is_confined() =>
			{
				confine::run(&source.display().to_string(), LONGEST)
			}
			Self::Run { model, .. } if !confine::is_confined() => confine::run(model, LONGEST),
			Self::Import {
				source,
				dry_run,
				no_measure,
				store,
				format,
			} => import(source, *dry_run, !no_measure, store, *format),
			Self::Draft(command) => command.run(),
			Self::Canonicalise(command) => command.run(),
			Self::Exactness(command) => command.run(),
			Self::List { store, format } => {
				let models = store.open()?.list().map_err(|e| e.to_string())?;
				if format.json {
					let list: Vec<_> = models
						.iter()
						.map(|m| summary(m.id, &m.manifest, Some(&m.folder)))
						.collect();
					println!("{}", json!({ "models": list }));
				} else {
					models
						.iter()
						.for_each(|m| println!("{}", line(m.id, &m.manifest)));
				}
				Ok(())
			}
			Self::Run {
				model,
				input,
				output,
				seed,
				provider,
				warm_up,
				store,
				format,
			} => run(
				(model, store),
				input,
				output.as_deref(),
				seed.unwrap_or_default(),
				*provider,
				*warm_up,
				*format,
			),
			Self::Register {
				model,
				store,
				signer,
				node,
				format,
			} => wait(registry::register(model, store, signer, node, *format)),
			Self::Deprecate(of) => wait(registry::deprecate(of)),
			Self::Unregister(of) => wait(registry::unregister(of)),
			Self::Serve(at) => wait(serve::serve(at)),
			Self::Fetch(at) => wait(serve::fetch(at)),
			Self::Remove(at) => wait(serve::remove(at)),
			Self::Withdraw(at) => wait(serve::withdraw(at)),
		}
	}
}

fn wait(command: impl std::future::Future<Output = Result<()>>) -> Result<()> {
	block_on(command).map_err(|e| match e {
		sc_cli::Error::Input(message) => message,
		other => other.to_string(),
	})
}

fn import(
	source: &Path,
	dry_run: bool,
	measures: bool,
	store: &StoreArguments,
	format: Format,
) -> Result<()> {
	let has = |file| source.join(file).is_file();
	let ((import, bar), _made) = if has("manifest.json") || has("model.json") {
		(read_folder(source, None, measures, format)?, None)
	} else {
		if !source.exists() {
			return Err(format!(
				"{}: there is no such file or folder",
				source.display()
			));
		}
		let engine = InProcess::new(measures, Provider::Cpu)?;
		let store = if dry_run { None } else { Some(store.open()?) };
		let made = draft::prepare(source, &engine, store.as_ref(), format)?;
		let read = read_folder(&made.folder, Some(&engine), measures, format)
			.map_err(|why| made.explain(why, source))?;
		// Its files are there as long as it is.
		(read, Some(made))
	};
	let manifest = import.manifest.clone();
	let (measured, proof) = (import.measured.clone(), import.proof.clone());
	// Who wrote a manifest has measured; its hash stands for that.
	let measures = measures || has("manifest.json");
	bar.0.suspend(|| {
		exactness::say_how_known(&manifest, measured.as_ref(), measures, proof.as_ref())
	});
	if dry_run {
		bar.0.finish_and_clear();
		println!(
			"{}",
			serde_json::to_string_pretty(&manifest).map_err(|e| e.to_string())?
		);
		return Ok(());
	}
	let store = store.open()?;
	let id = import
		.put(&store, &mut |p| bar.show(p))
		.map_err(|e| e.to_string())?;
	bar.0.finish_and_clear();
	let mut value = summary(id, &manifest, Some(&store.folder(id)));
	value["measured"] = exactness::measured_json(measured.as_ref());
	value["proof"] = proof.as_ref().map(canonicalise::summary_of).into();
	let refused = refused_orders(&manifest)?;
	for note in &refused {
		eprintln!("note: the chat template {note}: who asks so is answered `Unanswerable`, and pays for that");
	}
	value["chat_refuses"] = refused.into();
	format.print(&value, || line(id, &manifest));
	Ok(())
}

/// Returns what the model's chat template does not take, in words. Fails where it cannot be compiled.
fn refused_orders(manifest: &Manifest) -> Result<Vec<String>> {
	let TaskDetails::TextGeneration {
		chat_template: Some(template),
		bos_token,
		eos_token,
		..
	} = &manifest.task
	else {
		return Ok(Vec::new());
	};
	let probed = probe_template(template, bos_token.as_deref(), eos_token.as_deref())
		.map_err(|e| e.to_string())?;
	let refused = probed.into_iter().filter_map(|(order, reception)| {
		let order = order.describe();
		match reception {
			Reception::Taken | Reception::Dropped => None,
			Reception::Refused(why) => Some(format!("refuses {order} ({why})")),
		}
	});
	Ok(refused.collect())
}

fn run(
	(model, store): (&str, &StoreArguments),
	input: &InputArguments,
	output: Option<&Path>,
	seed: H256,
	provider: Provider,
	warm_up: bool,
	format: Format,
) -> Result<()> {
	let runner = InProcess::new(false, provider)?;
	let (folder, manifest) = if Path::new(model).is_dir() {
		let (import, bar) = read_folder(Path::new(model), Some(&runner), false, format)?;
		bar.0.finish_and_clear();
		(PathBuf::from(model), import.manifest)
	} else {
		stored(model, store)?
	};
	let engine = &runner.engine;
	let mut input = input.clone();
	if input.max_tokens.is_none() && input.input.is_none() {
		// The usual length, or all that the model gives.
		input.max_tokens = Some(MAX_TOKENS.min(manifest.limits.max_output_units));
	}
	let spec = manifest.spec().map_err(|e| e.to_string())?;
	let input = input.input(&spec, Some(&manifest.task))?;
	input
		.validate(&spec)
		.map_err(|e| format!("the model does not take this input: {e:?}"))?;
	let (name, task) = (manifest.name.clone(), manifest.task.clone());
	let loaded = engine
		.load_manifest(&folder, manifest)
		.map_err(|e| e.to_string())?;
	if warm_up {
		engine.reference(loaded).map_err(|e| e.to_string())?;
	}
	let streams =
		output.is_none() && !format.json && matches!(&task, TaskDetails::TextGeneration { .. });
	if streams {
		return print_as_written(engine, loaded, &input, &seed);
	}
	let began = Instant::now();
	let millis = || began.elapsed().as_millis() as u64;
	let mut first = None;
	let answer = match &task {
		TaskDetails::TextGeneration { .. } => engine.stream(loaded, &input, &seed, &mut |_, _| {
			first.get_or_insert_with(millis);
		}),
		_ => engine.run(loaded, &input, &seed),
	};
	let answer = answer.map_err(|e| e.to_string())?;
	let took = millis();
	let mut reply = response(&name, loaded, &answer);
	reply["parameters"]["milliseconds"] = took.into();
	if let Some(first) = first {
		reply["parameters"]["first_token_milliseconds"] = first.into();
	}
	let labels = media::labels(&task, &answer);
	if let Some(labels) = &labels {
		reply["parameters"]["labels"] = media::json(labels);
	}
	match output {
		Some(path) => std::fs::write(path, format!("{reply}\n"))
			.map_err(|e| format!("{}: {e}", path.display())),
		None => {
			format.print(&reply, || match &labels {
				Some(labels) => media::people(labels),
				None => reply.to_string(),
			});
			Ok(())
		}
	}
}

/// Prints a text while it is written.
fn print_as_written(engine: &Engine, model: ModelId, input: &FullInput, seed: &H256) -> Result<()> {
	let mut out = std::io::stdout();
	let mut shown = 0;
	// Whoever reads may have read enough.
	let mut print = |text: &str| {
		let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
	};
	let answer = engine.stream(model, input, seed, &mut |_, text| {
		print(text);
		shown += text.len();
	});
	match answer {
		Ok(Output::Text { text, .. }) => {
			// What was printed is how it begins.
			print(&String::from_utf8_lossy(
				text.get(shown..).unwrap_or_default(),
			));
			print("\n");
			Ok(())
		}
		Ok(_) => Err("the engine gave no text".into()),
		Err(e) => {
			if shown > 0 {
				print("\n");
			}
			Err(e.to_string())
		}
	}
}

/// A response of the Open Inference Protocol.
fn response(name: &str, id: ModelId, output: &Output) -> Value {
	let (outputs, parameters) = match output {
		Output::Tensors(tensors) => {
			let list: Vec<_> = tensors.iter().filter_map(|t| from_tensor(t).ok()).collect();
			(json!(list), json!({}))
		}
		Output::Text {
			tokens,
			text,
			finish,
		} => (
			json!([{
				"name": "text",
				"datatype": "BYTES",
				"shape": [1],
				"data": [String::from_utf8_lossy(text)],
			}]),
			json!({
				"finish_reason": finish,
				"tokens": tokens.iter().map(|t| t.0).collect::<Vec<_>>(),
			}),
		),
		Output::Unanswerable(code) => (
			json!([]),
			json!({ "unanswerable": code, "reason": code.reason() }),
		),
	};
	json!({ "model_name": name, "id": id, "outputs": outputs, "parameters": parameters })
}
