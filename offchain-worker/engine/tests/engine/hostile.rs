//! Models that are out to harm whoever loads or runs them: each is refused with its file and the reason, or ends a job or the
//! engine's process, and nothing else. `fixtures/hostile.py` makes the graphs.

use std::{
	fs,
	os::fd::OwnedFd,
	path::{Path, PathBuf},
	process::{ExitStatus, Stdio},
	time::{Duration, Instant},
};

use consilience_engine::{client::EngineClient, isolation, EngineError, Piece};
use consilience_primitives::{
	manifest::{Manifest, TaskDetails},
	model::NumericClass::{Exact, Tolerant},
	request::{FullInput, Message, Output, Prompt, Role, Sampling, Unanswerable},
	tensor::{DataType, NamedSpec, Tensor},
	ModelId,
};
use consilience_store::{Import, Store};
use futures::StreamExt;
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};
use tokio::{
	net::UnixStream,
	process::{Child, Command},
};

use crate::{
	cards::{imported, InProcess},
	fixtures::{self, engine, folder},
};

fn card() -> Value {
	let bounds = json!({"mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0});
	json!({
		"name": "hostile", "license": "none", "source": "fixtures/hostile.py", "task": "tensor", "class": "exact",
		"graph": "model.onnx", "files": ["model.onnx", "weights.bin"],
		"numerics": {
			"element_type": "fp32", "opset": 17, "onnxruntime_min": "1.31.1", "onnxruntime_max": "1.31.1",
			"providers": ["CPUExecutionProvider"], "optimization": "disable"
		},
		"limits": {"max_input_units": 16, "max_output_units": 16},
		"time": {"base_blocks": 10, "output_units_per_block": 10},
		"policy": {
			"class": "exact", "positions": 16, "entries": 1, "fraction_bits": 0,
			"accept": bounds, "fraud": bounds, "min_verifiers": 1
		},
		"price": {"per_request": 5, "per_input_unit": 6, "per_output_unit": 7},
		"reference": {"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
	})
}

/// A folder with a card for one of the graphs.
fn with_card(graph: &str, change: Value) -> tempfile::TempDir {
	let to = tempfile::tempdir().unwrap();
	let from = folder("hostile").join(format!("{graph}.onnx"));
	fs::copy(from, to.path().join("model.onnx")).unwrap();
	fs::write(to.path().join("weights.bin"), [0; 16]).unwrap();
	let mut card = card();
	card.as_object_mut()
		.unwrap()
		.extend(change.as_object().unwrap().clone());
	fs::write(to.path().join("model.json"), card.to_string()).unwrap();
	to
}

/// Why a folder is not imported.
fn refused(from: &Path) -> String {
	let keep = tempfile::tempdir().unwrap();
	let store = Store::open(keep.path()).unwrap();
	let error = Import::read(from, &InProcess(engine()), &mut |_| ())
		.expect_err("a hostile model is refused");
	assert!(store.list().unwrap().is_empty());
	error.to_string()
}

#[test]
fn import_says_which_file_and_why() {
	let cases = [
		("truncated", "broken ONNX"),
		("nested", "nested too deeply"),
		("outside_parent", "\"../weights.bin\""),
		("outside_absolute", "\"/etc/hostname\""),
		("in_memory", "ONNX Runtime's memory"),
		("beyond_the_end", "out of bounds"),
		("gigantic", "declares a size of 4398046511104 bytes"),
		("overflow", "overflow"),
		("short", "raw_data size (4 bytes) does not match"),
		("wrong_type", "Type Error"),
		("cyclic", "not acyclic"),
		("unknown_operator", "MineBitcoin"),
		("custom_domain", "com.example"),
		("opset_too_new", "9999"),
		("recursive", "recursive"),
		("sequence_output", "sequences"),
		("optional_output", "optional"),
		("huge", "allocate memory"),
		("too_much", "65536 bytes"),
	];
	let mut wrong = Vec::new();
	for (graph, reason) in cases {
		let why = refused(with_card(graph, json!({})).path());
		if !why.contains("model.onnx") || !why.contains(reason) {
			wrong.push(format!("{graph}: {why}"));
		}
	}
	assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn import_opens_no_file_outside_the_folder() {
	let outside = tempfile::NamedTempFile::new().unwrap();
	let from = with_card("outside_link", json!({}));
	let link = from.path().join("weights.bin");
	fs::remove_file(&link).unwrap();
	std::os::unix::fs::symlink(outside.path(), &link).unwrap();
	let why = refused(from.path());
	assert!(
		why.contains("weights.bin") && why.contains("leads out of the model's folder"),
		"{why}"
	);
}

#[test]
fn a_card_or_manifest_that_lies_is_refused() {
	// A signature that is not the graph's.
	let details = json!({"details": {
		"inputs": [{"name": "x", "datatype": "FP64", "shape": [null]}],
		"outputs": [{"name": "z", "datatype": "FP32", "shape": [null]}]
	}});
	let why = refused(with_card("endless", details).path());
	assert!(
		why.contains("model.onnx") && why.contains("the manifest says"),
		"{why}"
	);
	// A manifest that lies about sizes and hashes.
	let from = tempfile::tempdir().unwrap();
	fs::copy(folder("scalar.onnx"), from.path().join("scalar.onnx")).unwrap();
	let mut manifest = scalar();
	write(from.path(), &manifest);
	let why = refused(from.path());
	assert!(
		why.contains("scalar.onnx") && why.contains("the manifest says 1"),
		"{why}"
	);
	let size = fs::metadata(folder("scalar.onnx")).unwrap().len();
	manifest.files[0].size = size;
	manifest.files[0].chunks[0].length = size.try_into().unwrap();
	write(from.path(), &manifest);
	let why = refused(from.path());
	assert!(
		why.contains("scalar.onnx") && why.contains("another hash"),
		"{why}"
	);
	manifest.files[0].size = u64::MAX;
	write(from.path(), &manifest);
	let why = refused(from.path());
	assert!(
		why.contains("scalar.onnx") && why.contains("not as long as the file"),
		"{why}"
	);
}

fn vector(name: &str) -> NamedSpec {
	NamedSpec {
		name: name.into(),
		datatype: DataType::Fp32,
		shape: vec![None],
	}
}

fn scalar() -> Manifest {
	fixtures::tensors("scalar.onnx", vec![vector("x")], vec![vector("twice")])
}

fn write(folder: &Path, manifest: &Manifest) {
	let bytes = serde_json::to_vec(manifest).unwrap();
	fs::write(folder.join("manifest.json"), bytes).unwrap();
}

/// An engine's process as the node starts it, and the folder of its models.
struct Process {
	child: Child,
	client: EngineClient,
	folder: tempfile::TempDir,
}

impl Process {
	async fn start(options: &[&str]) -> Self {
		Self::start_in(tempfile::tempdir().unwrap(), options).await
	}

	async fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Self {
		let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
		ours.set_nonblocking(true).unwrap();
		let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_engine-process"));
		command
			.arg("serve")
			.arg(format!("models={}", folder.path().display()))
			.args(options)
			.stdin(Stdio::from(OwnedFd::from(theirs)))
			.stderr(Stdio::null());
		isolation::command(&mut command);
		let child = Command::from(command).kill_on_drop(true).spawn().unwrap();
		let client = EngineClient::over(UnixStream::from_std(ours).unwrap());
		Self {
			child,
			client,
			folder,
		}
	}

	/// Puts a graph where the engine can load it.
	fn put(&self, graph: &str) -> PathBuf {
		let to = self.folder.path().join(graph);
		fs::create_dir(&to).unwrap();
		let name = format!("{graph}.onnx");
		fs::copy(folder("hostile").join(&name), to.join(&name)).unwrap();
		let mut manifest = fixtures::tensors(&name, vec![vector("x")], vec![vector("z")]);
		manifest.numerics.optimization = "all".into();
		write(&to, &manifest);
		to
	}

	async fn load(&self, graph: &str) -> Result<ModelId, EngineError> {
		self.client.load(&self.put(graph)).await
	}

	async fn run(&self, model: ModelId) -> Result<Vec<u8>, EngineError> {
		Self::run_with(&self.client, model).await
	}

	/// Has a model run for which somebody waits for so many milliseconds.
	async fn run_within(&self, ms: u64, model: ModelId) -> Result<Vec<u8>, EngineError> {
		let until = Instant::now() + Duration::from_millis(ms);
		Self::run_with(&self.client.until(Some(until)), model).await
	}

	async fn run_with(client: &EngineClient, model: ModelId) -> Result<Vec<u8>, EngineError> {
		let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
			.iter()
			.flat_map(|x| x.to_le_bytes())
			.collect();
		let x = Tensor {
			name: b"x".to_vec().try_into().unwrap(),
			datatype: DataType::Fp32,
			shape: vec![4].try_into().unwrap(),
			data: data.try_into().unwrap(),
		};
		let input = FullInput::Tensor(vec![x].try_into().unwrap());
		match client.run(model, input, H256::zero()).await? {
			Output::Tensors(tensors) => Ok(tensors[0].data.to_vec()),
			other => panic!("{other:?} from a tensor model"),
		}
	}

	/// How the process ends by itself.
	async fn ended(mut self) -> ExitStatus {
		self.client.closed().await;
		self.child.wait().await.unwrap()
	}
}

fn limit(result: Result<impl std::fmt::Debug, EngineError>) -> String {
	match result {
		Err(EngineError::Limit(why)) => why,
		other => panic!("{other:?}"),
	}
}

#[tokio::test]
async fn a_run_without_end_is_ended_and_its_neighbours_are_not_asked_twice() {
	let process = Process::start(&["run=500"]).await;
	let (endless, other) = (
		process.load("endless").await.unwrap(),
		process.load("too_much").await.unwrap(),
	);
	// The second waits for the first one's graph, and has its own time then.
	let (first, second, third) = tokio::join!(
		process.run(endless),
		process.run(endless),
		process.run(other)
	);
	for why in [limit(first), limit(second)] {
		assert!(why.contains("one run of the graph"), "{why}");
	}
	assert!(
		matches!(third, Err(EngineError::Unanswerable(..))),
		"{third:?}"
	);
	// What was forgotten of it comes back.
	let gone = process.run(endless).await;
	assert!(matches!(gone, Err(EngineError::NotLoaded(_))), "{gone:?}");
	let folder = process.folder.path().join("endless");
	assert_eq!(process.client.load(&folder).await, Ok(endless));
	process.client.ping().await.unwrap();
}

#[tokio::test]
async fn a_run_ends_when_nobody_waits_for_it_any_more() {
	let process = Process::start(&[]).await;
	let endless = process.load("endless").await.unwrap();
	let late = process.run_within(300, endless).await;
	assert_eq!(late, Err(EngineError::Cancelled));
	// Whoever goes away without a word says so by it: otherwise the graph would never be free again.
	tokio::select! {
		biased;
		ended = process.run(endless) => panic!("{ended:?} of a run without end"),
		pong = process.client.ping() => pong.unwrap(),
	}
	let late = process.run_within(300, endless).await;
	assert_eq!(late, Err(EngineError::Cancelled));
	// It is over before it begins.
	let late = process.run_within(0, endless).await;
	assert_eq!(late, Err(EngineError::Cancelled));
	process.client.ping().await.unwrap();
}

#[tokio::test]
async fn a_load_without_end_ends_the_process() {
	let process = Process::start(&["load=1000"]).await;
	let why = limit(process.load("load_for_ever").await);
	assert!(
		why.contains("loading") && why.contains("load_for_ever"),
		"{why}"
	);
	assert_eq!(process.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_crash_ends_the_process_and_whoever_asked_learns_it() {
	use std::os::unix::process::ExitStatusExt;
	let process = Process::start(&[]).await;
	let result = process.load("load_crash").await;
	assert_eq!(result, Err(EngineError::Gone));
	assert!(process.ended().await.signal().is_some());
}

#[tokio::test]
async fn memory_without_end_fails_one_job_and_the_process_goes_on() {
	let process = Process::start(&["memory=1500000000"]).await;
	for graph in ["huge", "doubling"] {
		let why = match process.load(graph).await {
			// An optimiser may compute it while it loads.
			Err(e) => e.to_string(),
			Ok(model) => {
				let why = limit(process.run(model).await);
				// What it had is given back.
				let gone = process.run(model).await;
				assert!(matches!(gone, Err(EngineError::NotLoaded(_))), "{gone:?}");
				why
			}
		};
		assert!(why.contains("memory"), "{graph}: {why}");
		process.client.ping().await.unwrap();
	}
	// An output that is too large for the chain costs nothing else either.
	let model = process.load("too_much").await.unwrap();
	let large = process.run(model).await;
	assert!(
		matches!(
			large,
			Err(EngineError::Unanswerable(Unanswerable::OutputTooLarge, _))
		),
		"{large:?}"
	);
	assert_eq!(process.run(model).await, large);
}

#[tokio::test]
async fn a_hostile_tokenizer_is_named() {
	let process = Process::start(&[]).await;
	let to = process.folder.path().join("model");
	fs::create_dir(&to).unwrap();
	for file in ["model.onnx", "model.onnx_data"] {
		fs::copy(folder("llama-fp32").join(file), to.join(file)).unwrap();
	}
	write(&to, &fixtures::text("llama-fp32", Exact));
	for text in [
		"[".repeat(1 << 20),
		r#"{"normalizer":{"type":"Sequence","normalizers":["#.repeat(10_000),
		r#"{"version":"1.0","model":{"type":"BPE","vocab":{"a":4294967295},"merges":["a b"]}}"#
			.into(),
	] {
		fs::write(to.join("tokenizer.json"), text).unwrap();
		let error = process.client.load(&to).await.unwrap_err();
		assert!(
			matches!(error, EngineError::Load { .. })
				&& error.to_string().contains("tokenizer.json"),
			"{error:?}"
		);
	}
	process.client.ping().await.unwrap();
}

/// Has a tiny language model with this chat template greet.
async fn greet(process: &Process, template: &str) -> Result<(), EngineError> {
	let to = process.folder.path().join("chat");
	fs::create_dir(&to).unwrap();
	for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
		fs::copy(folder("llama-fp32").join(file), to.join(file)).unwrap();
	}
	let mut manifest = fixtures::text("llama-fp32", Exact);
	if let TaskDetails::TextGeneration { chat_template, .. } = &mut manifest.task {
		*chat_template = Some(template.into());
	}
	write(&to, &manifest);
	let model = process.client.load(&to).await?;
	let message = Message {
		role: Role::User,
		content: b"t5".to_vec().try_into().unwrap(),
	};
	let input = FullInput::TextGeneration {
		prompt: Prompt::Chat(vec![message].try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 1,
			..Default::default()
		},
	};
	let until = Instant::now() + Duration::from_millis(500);
	let client = process.client.until(Some(until));
	let answer = client.run(model, input, H256::zero()).await;
	answer.map(|_| ())
}

#[tokio::test]
async fn a_hostile_chat_template_ends_the_process_at_worst() {
	use std::os::unix::process::ExitStatusExt;
	let many = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{{ '' }}{% endfor %}{% endfor %}{% endfor %}";
	let process = Process::start(&[]).await;
	match greet(&process, many).await {
		Err(EngineError::Unanswerable(Unanswerable::TemplateRefused, why)) => {
			assert!(why.contains("too many steps"), "{why}");
		}
		other => panic!("{other:?}"),
	}
	process.client.ping().await.unwrap();
	// Memory that Rust's own code cannot get ends a process.
	let long = "{% set ns = namespace(s='t5 ') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}";
	let process = Process::start(&["memory=1000000000"]).await;
	assert_eq!(greet(&process, long).await, Err(EngineError::Gone));
	assert!(process.ended().await.signal().is_some());
}

#[tokio::test]
async fn the_process_ends_with_its_node_even_while_a_model_runs() {
	let Process {
		mut child,
		client,
		folder: _folder,
	} = {
		let process = Process::start(&[]).await;
		let endless = process.load("endless").await.unwrap();
		// The run is sent, and the engine still answers.
		tokio::select! {
			biased;
			ended = process.run(endless) => panic!("{ended:?} of a run without end"),
			pong = process.client.ping() => pong.unwrap(),
		}
		process
	};
	drop(client);
	assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_is_confined_answers_as_what_is_not() {
	let process = Process::start(&[]).await;
	let sandbox = process.client.sandbox().await.unwrap();
	assert!(sandbox.has(isolation::Measure::Calls), "{sandbox:?}");
	let own = engine();
	for (name, class) in [
		("llama-fp32", Exact),
		("llama-int8", Exact),
		("llama-hub", Tolerant),
	] {
		let to = process.folder.path().join(name);
		fs::create_dir(&to).unwrap();
		for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
			fs::copy(folder(name).join(file), to.join(file)).unwrap();
		}
		write(&to, &fixtures::text(name, class));
		let model = process.client.load(&to).await.unwrap();
		let expected = own.reference(fixtures::load(&own, name, class)).unwrap();
		let reference = process.client.reference(model).await;
		assert_eq!(reference, Ok(expected.clone()), "{name}");
		// Streamed, with a pause after every second token.
		let input = FullInput::TextGeneration {
			prompt: Prompt::Text(b"t5 t6".to_vec().try_into().unwrap()),
			sampling: Sampling {
				max_tokens: 8,
				..Default::default()
			},
		};
		let seed = Manifest::reference_seed();
		let mut stream = process.client.stream(model, input, seed, 2).unwrap();
		let mut said = 0;
		let output = loop {
			match stream.next().await.unwrap().unwrap() {
				Piece::Tokens { tokens, .. } => said += tokens.len() as u32,
				Piece::End { output, .. } => break output,
			}
			if said % 2 == 0 {
				stream.allow(said + 2);
			}
		};
		assert_eq!(output, expected.0, "{name}");
	}
	process.client.ping().await.unwrap();
}

#[tokio::test]
async fn embeddings_and_classifiers_run_confined() {
	for name in ["all-minilm-l6-v2-int8", "magika-standard-v3.3"] {
		let (_, manifest, output, store) = imported(name);
		let process = Process::start_in(store, &[]).await;
		let stored = process.folder.path().join(hex::encode(manifest.id()));
		let model = process.client.load(&stored).await.unwrap();
		let (confined, _) = process.client.reference(model).await.unwrap();
		if manifest.policy.class == Exact {
			assert_eq!(confined, output, "{name}");
		}
	}
}

#[tokio::test]
async fn a_folder_that_is_not_the_engines_is_not_there() {
	let process = Process::start(&[]).await;
	let elsewhere = tempfile::tempdir().unwrap();
	fs::copy(folder("scalar.onnx"), elsewhere.path().join("scalar.onnx")).unwrap();
	write(elsewhere.path(), &scalar());
	let sandbox = process.client.sandbox().await.unwrap();
	if sandbox.has(isolation::Measure::Files) {
		let refused = process.client.load(elsewhere.path()).await;
		assert!(
			matches!(&refused, Err(EngineError::Load { path, .. }) if path.ends_with("manifest.json")),
			"{refused:?}"
		);
	}
	process.client.ping().await.unwrap();
}

#[tokio::test]
async fn graphs_that_point_into_memory_or_out_of_the_folder_are_refused() {
	let process = Process::start(&[]).await;
	// The store's check is passed by: whoever can write to its folder can do that.
	for (graph, reason) in [
		("outside_parent", "'..'"),
		("outside_absolute", "'..'"),
		("in_memory", "this process's memory"),
	] {
		let to = process.put(graph);
		// What is in the model's folder under that very name changes nothing.
		let marker = to.join("*/_ORT_MEM_ADDR_");
		fs::create_dir_all(&marker).unwrap();
		fs::write(marker.join("*"), [0; 16]).unwrap();
		let why = process.client.load(&to).await.unwrap_err().to_string();
		assert!(why.contains(graph) && why.contains(reason), "{why}");
	}
	let to = process.put("outside_link");
	std::os::unix::fs::symlink("/etc/hostname", to.join("weights.bin")).unwrap();
	let why = process.client.load(&to).await.unwrap_err().to_string();
	// Where another root hides files there is nothing at its end.
	assert!(why.contains("a link that leads"), "{why}");
	let to = process.put("endless");
	let graph = to.join("endless.onnx");
	fs::write(&graph, [&[8, 0, 0, 0][..], b"ORTM", &[0; 64]].concat()).unwrap();
	let why = process.client.load(&to).await.unwrap_err().to_string();
	assert!(why.contains("own format"), "{why}");
	process.client.ping().await.unwrap();
}
