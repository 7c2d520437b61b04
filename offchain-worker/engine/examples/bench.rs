//! The engine's half of `scripts/bench engine`: takes a command a line, and says what it took, a JSON object a line. The script
//! runs the other half of each pair in between.
//!
//!     bench models FOLDER THREADS         where `scripts/setup` put the models; each is opened when it is first asked for
//!     bench model FOLDER THREADS PROVIDER PROMPT TOKENS [DEVICE-MEMORY]
//!                                         one language model by itself: writes an answer of so many tokens to a prompt of about so
//!                                         many, checks it, and says what that took
//!     bench canonicalise SOURCE OUT       makes a model of the integer class
//!     bench serve SOCKET THREADS          the engine's process, which the first starts
//!     bench bare FOLDER THREADS           a stored model on a session of its own, which the first starts as well
//!
//! A failure ends it with a message: a bench with a part missing says nothing.

use std::{
	collections::HashMap,
	error::Error,
	io::{BufRead, BufReader, Write},
	path::{Path, PathBuf},
	process::{Child, ChildStdin, ChildStdout, Command, Stdio},
	time::Instant,
};

use consilience_canonical::Canonical;
use consilience_engine::{
	client::EngineClient,
	find_library,
	isolation::{isolate, Isolation, Purpose},
	server::{self, ServerConfig},
	tensor::to_ort,
	Engine, EngineConfig, Provider,
};
use consilience_primitives::{
	evidence::{Evidence, Verdict},
	manifest::Manifest,
	request::{FullInput, Message, Output, Prompt, Role, Sampling},
	ModelId,
};
use consilience_store::{Import, Runner, Signature, Store};
use ort::session::{builder::GraphOptimizationLevel, Session, SessionInputValue};
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct InProcess(Engine);

impl Runner for InProcess {
	fn signature(&self, graph: &Path) -> std::result::Result<Signature, String> {
		let info = self.0.inspect(graph).map_err(|e| e.to_string())?;
		Ok(Signature {
			inputs: info.inputs,
			outputs: info.outputs,
		})
	}

	fn reference(
		&self,
		folder: &Path,
		manifest: &Manifest,
	) -> std::result::Result<(Output, Evidence), String> {
		let model = self.0.load_manifest(folder, manifest.clone());
		let model = model.map_err(|e| e.to_string())?;
		let reference = self.0.reference(model);
		self.0.unload(model);
		reference.map_err(|e| e.to_string())
	}
}

/// A large model takes long to run on another provider than the one that is measured, and nobody asks for its reference here.
struct WithoutReference;

impl Runner for WithoutReference {
	fn signature(&self, graph: &Path) -> std::result::Result<Signature, String> {
		Err(format!("{}: not a language model", graph.display()))
	}

	fn reference(
		&self,
		_: &Path,
		manifest: &Manifest,
	) -> std::result::Result<(Output, Evidence), String> {
		let nothing = Output::Tensors(Default::default());
		Ok((nothing, manifest.reference.evidence.clone()))
	}
}

fn config(threads: u32) -> EngineConfig {
	EngineConfig {
		threads,
		..Default::default()
	}
}

/// Every text is computed for itself, so that the same may be asked again.
fn forgetful(threads: u32) -> EngineConfig {
	EngineConfig {
		prefix_bytes: 0,
		..config(threads)
	}
}

fn import(folder: &Path, threads: u32) -> Result<Import> {
	let runner = InProcess(Engine::new(config(threads))?);
	Ok(Import::read(folder, &runner, &mut |_| ())?)
}

/// What the system says of this process's memory, in bytes: the most that was resident, and data now.
fn memory() -> Result<(u64, u64)> {
	let status = std::fs::read_to_string("/proc/self/status")?;
	let of = |key: &str| -> Result<u64> {
		let line = status.lines().find_map(|l| l.strip_prefix(key));
		let kilobytes = line.and_then(|l| l.split_whitespace().nth(1));
		Ok(kilobytes
			.ok_or_else(|| format!("no {key} in /proc/self/status"))?
			.parse::<u64>()?
			* 1024)
	};
	Ok((of("VmHWM")?, of("VmData")?))
}

/// Measures one language model, in a process that has what an engine's process has.
fn model(folder: &Path, config: EngineConfig, prompt: usize, length: u32) -> Result<()> {
	isolate(Isolation {
		driver: config.driver() != Provider::Cpu,
		..Isolation::new(Purpose::Tool)
	})?;
	let manifest = Import::read(folder, &WithoutReference, &mut |_| ())?.manifest;
	let threads = config.threads;
	let engine = Engine::new(config)?;
	let policy = manifest.policy;
	let began = Instant::now();
	let model = engine.load_manifest(folder, manifest.clone())?;
	let load = began.elapsed().as_secs_f64();
	let text = Text {
		engine,
		model,
		folder: folder.into(),
		manifest,
	};
	text.decode(1, 4)?; // the first runs allocate
	let decode = text.decode(1, length)?;
	let prefill = text.prefill(prompt)?;
	let (question, seed) = (story(length)?, H256::repeat_byte(1));
	let (generate, _, output) = text.write(&question, &seed)?;
	let (check, verdict) = text.verdict(&question, &seed, &output)?;
	let (resident, data) = memory()?;
	let rate = |of: &Value| {
		of["tokens"].as_f64().unwrap_or_default() / of["seconds"].as_f64().unwrap_or(1.0)
	};
	println!(
		"{}",
		json!({
			"provider": text.engine.provider(model)?.to_string(),
			"threads": threads,
			"load_s": load,
			"decode_tokens_per_s": rate(&decode),
			"decode_tokens": decode["tokens"],
			"prefill_tokens_per_s": rate(&prefill),
			"prefill_tokens": prefill["tokens"],
			"generate_s": generate,
			"check_s": check,
			"check_over_generate": check / generate,
			"answer_tokens": tokens(&output),
			"margin_max": f64::from(verdict.margin_max) / 65_536.0,
			"accepted": verdict.within(&policy.accept),
			"peak_resident_bytes": resident,
			"data_bytes": data,
		})
	);
	Ok(())
}

/// The language model, in this process.
struct Text {
	engine: Engine,
	model: ModelId,
	folder: PathBuf,
	manifest: Manifest,
}

/// A question whose greedy answer goes on until it is cut: `n` makes it another.
fn question(words: &str, n: usize, tokens: u32) -> Result<FullInput> {
	let text = format!(
		"{words}{}",
		["", " red", " blue", " old", " new", " big", " small", " odd"][n % 8]
	);
	Ok(FullInput::TextGeneration {
		prompt: Prompt::Text(
			text.into_bytes()
				.try_into()
				.map_err(|_| "the prompt is too long")?,
		),
		sampling: Sampling {
			max_tokens: tokens,
			temperature: 0,
			..Default::default()
		},
	})
}

fn tokens(output: &Output) -> usize {
	output.units() as usize
}

impl Text {
	fn open(folder: &Path, config: EngineConfig) -> Result<Self> {
		let manifest = import(folder, config.threads)?.manifest;
		let engine = Engine::new(config)?;
		let model = engine.load_manifest(folder, manifest.clone())?;
		Ok(Self {
			engine,
			model,
			folder: folder.into(),
			manifest,
		})
	}

	/// Seconds until another engine has it, its files in memory already.
	fn load(&self, threads: u32) -> Result<Value> {
		let engine = Engine::new(config(threads))?;
		let began = Instant::now();
		engine.load_manifest(&self.folder, self.manifest.clone())?;
		Ok(json!({"seconds": began.elapsed().as_secs_f64()}))
	}

	/// So many answers of so many tokens at a time.
	fn decode(&self, streams: usize, length: u32) -> Result<Value> {
		let began = Instant::now();
		let outputs = std::thread::scope(|scope| {
			let ask = |n| -> std::result::Result<usize, String> {
				let input = question("1 2 3 4 5 6 7 8", n, length).map_err(|e| e.to_string())?;
				let output = self.engine.run(self.model, &input, &H256::zero());
				output.map(|o| tokens(&o)).map_err(|e| e.to_string())
			};
			let threads: Vec<_> = (0..streams).map(|n| scope.spawn(move || ask(n))).collect();
			threads
				.into_iter()
				.map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
				.collect::<std::result::Result<Vec<_>, _>>()
		})?;
		Ok(
			json!({"seconds": began.elapsed().as_secs_f64(), "tokens": outputs.iter().sum::<usize>()}),
		)
	}

	fn prompt_tokens(&self) -> u64 {
		self.engine
			.statistics()
			.texts
			.iter()
			.map(|(_, t)| t.prompt_tokens)
			.sum()
	}

	/// A prompt of about so many tokens, and one token of an answer.
	fn prefill(&self, length: usize) -> Result<Value> {
		let input = question(&" word".repeat(length), 0, 1)?;
		let (before, began) = (self.prompt_tokens(), Instant::now());
		self.engine.run(self.model, &input, &H256::zero())?;
		let seconds = began.elapsed().as_secs_f64();
		Ok(json!({"seconds": seconds, "tokens": self.prompt_tokens() - before}))
	}

	/// An answer's seconds, tokens of its prompt that were fed, and the answer.
	fn write(&self, input: &FullInput, seed: &H256) -> Result<(f64, u64, Output)> {
		let (before, began) = (self.prompt_tokens(), Instant::now());
		let output = self.engine.run(self.model, input, seed)?;
		let seconds = began.elapsed().as_secs_f64();
		Ok((seconds, self.prompt_tokens() - before, output))
	}

	/// Seconds of a check, and what it says of the answer.
	fn verdict(&self, input: &FullInput, seed: &H256, output: &Output) -> Result<(f64, Verdict)> {
		let began = Instant::now();
		let evidence = self
			.engine
			.measure(self.model, input, seed, Some(output), &H256::zero())?;
		Ok((began.elapsed().as_secs_f64(), evidence.verdict))
	}

	/// Seconds of a check of an answer that is right.
	fn measure(&self, input: &FullInput, seed: &H256, output: &Output) -> Result<f64> {
		let (seconds, verdict) = self.verdict(input, seed, output)?;
		if verdict != Verdict::default() {
			return Err(format!("the engine doubts its own answer: {verdict:?}").into());
		}
		Ok(seconds)
	}

	/// Writes an answer to a chat, sampled, and checks it.
	fn check(&self, length: u32) -> Result<Value> {
		let input = story(length)?;
		let seed = H256::repeat_byte(1);
		let (generate, prompt, output) = self.write(&input, &seed)?;
		let check = self.measure(&input, &seed, &output)?;
		let answer = tokens(&output);
		Ok(json!({
			"generate": generate,
			"seconds": check,
			"answer": answer,
			"fed": prompt as usize + answer - 1,
		}))
	}

	/// Two questions after one long instruction of about so many tokens, which nobody has given before; and a check of the second
	/// answer. `fresh` does the same and keeps nothing.
	fn reuse(&self, fresh: &Self, length: usize, round: usize) -> Result<Value> {
		let instruction = format!(
			"In round {round} say nothing but{}.",
			" word".repeat(length)
		);
		let ask = |question| {
			let messages = [(Role::System, &instruction[..]), (Role::User, question)];
			chat(&messages, 16, 0)
		};
		let (first, second) = (ask("What is a ship?")?, ask("What is a storm?")?);
		let seed = H256::zero();
		let mut seconds = Vec::new();
		for text in [self, fresh] {
			text.write(&first, &seed)?;
			let (written, _, output) = text.write(&second, &seed)?;
			seconds.push((written, text.measure(&second, &seed, &output)?));
		}
		Ok(json!({
			"second": seconds[0].0,
			"check": seconds[0].1,
			"fresh_second": seconds[1].0,
			"fresh_check": seconds[1].1,
		}))
	}
}

/// A question with a long answer.
fn story(max_tokens: u32) -> Result<FullInput> {
	let question = "Write a long story about a lighthouse keeper, a storm and a lost ship.";
	chat(&[(Role::User, question)], max_tokens, 1_000)
}

fn chat(messages: &[(Role, &str)], max_tokens: u32, temperature: u16) -> Result<FullInput> {
	let message = |(role, text): &(Role, &str)| -> Result<Message> {
		let content = text.as_bytes().to_vec();
		Ok(Message {
			role: *role,
			content: content.try_into().map_err(|_| "a message is too long")?,
		})
	};
	let messages = messages.iter().map(message).collect::<Result<Vec<_>>>()?;
	Ok(FullInput::TextGeneration {
		prompt: Prompt::Chat(messages.try_into().map_err(|_| "too many messages")?),
		sampling: Sampling {
			max_tokens,
			temperature,
			..Default::default()
		},
	})
}

/// Another process of this program.
struct Other {
	process: Child,
	commands: ChildStdin,
	lines: BufReader<ChildStdout>,
}

impl Other {
	/// Starts it, and waits for its first line.
	fn start(what: &str, path: &Path, threads: u32) -> Result<Self> {
		let mut process = Command::new(std::env::current_exe()?)
			.arg(what)
			.arg(path)
			.arg(threads.to_string())
			.stdin(Stdio::piped())
			.stdout(Stdio::piped())
			.spawn()?;
		let mut other = Self {
			commands: process.stdin.take().ok_or("no input")?,
			lines: BufReader::new(process.stdout.take().ok_or("no output")?),
			process,
		};
		other.line()?;
		Ok(other)
	}

	fn line(&mut self) -> Result<String> {
		let mut line = String::new();
		if self.lines.read_line(&mut line)? == 0 {
			return Err("another process of the bench has ended: see its message above".into());
		}
		Ok(line)
	}
}

impl Drop for Other {
	fn drop(&mut self) {
		let _ = self.process.kill();
		let _ = self.process.wait();
	}
}

/// The classifier, behind the engine's process and on a session of its own.
struct Small {
	client: EngineClient,
	runtime: tokio::runtime::Runtime,
	model: ModelId,
	input: FullInput,
	bare: Other,
	_engine: Other,
	_folder: tempfile::TempDir,
}

impl Small {
	fn open(folder: &Path, threads: u32) -> Result<Self> {
		let import = import(folder, threads)?;
		let input = reference(&import.manifest)?;
		let temporary = tempfile::tempdir()?;
		let store = Store::open(temporary.path())?;
		let stored = store.folder(import.put(&store, &mut |_| ())?);
		let socket = temporary.path().join("engine.sock");
		let engine = Other::start("serve", &socket, threads)?;
		let runtime = tokio::runtime::Builder::new_multi_thread()
			.worker_threads(1)
			.enable_all()
			.build()?;
		let client = runtime.block_on(EngineClient::connect(&socket))?;
		let model = runtime.block_on(client.load(&stored))?;
		Ok(Self {
			client,
			runtime,
			model,
			input,
			bare: Other::start("bare", &stored, threads)?,
			_engine: engine,
			_folder: temporary,
		})
	}

	/// So many calls of each, in turns. Medians in seconds.
	fn run(&mut self, times: usize) -> Result<Value> {
		let (mut engine, mut bare) = (Vec::new(), Vec::new());
		for _ in 0..times {
			writeln!(self.bare.commands)?;
			bare.push(self.bare.line()?.trim().parse()?);
			let input = self.input.clone();
			let began = Instant::now();
			self.runtime
				.block_on(self.client.run(self.model, input, H256::zero()))?;
			engine.push(began.elapsed().as_secs_f64());
		}
		Ok(json!({"engine": median(&mut engine), "bare": median(&mut bare)}))
	}
}

/// Runs a stored model's reference input for every line, on a session that is set up as the engine sets its own up. Says the
/// seconds of each.
fn bare(folder: &Path, threads: u32) -> Result<()> {
	let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
	let FullInput::Tensor(tensors) = reference(&manifest)? else {
		return Err("the classifier takes tensors".into());
	};
	let mut values = Vec::new();
	for tensor in tensors.iter() {
		let name = String::from_utf8_lossy(&tensor.name).into_owned();
		values.push((name, to_ort(tensor)?));
	}
	let environment = ort::init_from(find_library(Provider::Cpu)?)?.build()?;
	let mut session = Session::builder(&environment)?
		.with_optimization_level(GraphOptimizationLevel::All)?
		.with_intra_threads(threads as usize)?
		.with_intra_op_spinning(false)?
		.commit_from_file(folder.join(&manifest.graph))?;
	println!("ready");
	for line in std::io::stdin().lock().lines() {
		line?;
		let began = Instant::now();
		let inputs: Vec<_> = values
			.iter()
			.map(|(name, value)| (name.as_str(), SessionInputValue::from(value)))
			.collect();
		session.run(inputs)?[0].try_extract_tensor::<f32>()?;
		println!("{}", began.elapsed().as_secs_f64());
	}
	Ok(())
}

fn reference(manifest: &Manifest) -> Result<FullInput> {
	use codec::Decode;
	use consilience_primitives::manifest::ReferenceInput;
	let ReferenceInput::Tensors(encoded) = &manifest.reference.input else {
		return Err("the classifier's reference is tensors".into());
	};
	let bytes = hex::decode(encoded.trim_start_matches("0x"))?;
	Ok(FullInput::decode(&mut &bytes[..])?)
}

fn median(times: &mut [f64]) -> f64 {
	times.sort_by(f64::total_cmp);
	times[times.len() / 2]
}

fn serve(socket: &Path, threads: u32) -> Result<()> {
	let listener = server::bind(socket)?;
	println!("bound");
	server::serve_on(
		listener,
		ServerConfig {
			engine: config(threads),
			workers: 2,
			..Default::default()
		},
	)?;
	Ok(())
}

/// What was opened so far.
struct Opened {
	models: PathBuf,
	threads: u32,
	/// By name, the second of each with a memory for prefixes.
	texts: HashMap<(String, bool), Text>,
	small: Option<Small>,
}

impl Opened {
	fn open(&mut self, model: &str, keeps: bool) -> Result<(String, bool)> {
		let key = (model.to_owned(), keeps);
		if !self.texts.contains_key(&key) {
			let config = match keeps {
				true => config(self.threads),
				false => forgetful(self.threads),
			};
			let text = Text::open(&self.models.join(model), config)?;
			self.texts.insert(key.clone(), text);
		}
		Ok(key)
	}

	fn text(&mut self, model: &str) -> Result<&Text> {
		let key = self.open(model, false)?;
		Ok(&self.texts[&key])
	}

	fn small(&mut self, model: &str) -> Result<&mut Small> {
		if self.small.is_none() {
			self.small = Some(Small::open(&self.models.join(model), self.threads)?);
		}
		Ok(self.small.as_mut().ok_or("it was opened")?)
	}

	/// Does a command: its words are what, the model's name, and numbers.
	fn run(&mut self, words: &[&str]) -> Result<Value> {
		let [what, model, numbers @ ..] = words else {
			return Err("a command has a model".into());
		};
		let numbers: Vec<usize> =
			(numbers.iter().map(|n| n.parse())).collect::<std::result::Result<_, _>>()?;
		match (*what, &numbers[..]) {
			("decode", [streams, length]) => self.text(model)?.decode(*streams, *length as u32),
			("load", []) => {
				let threads = self.threads;
				return self.text(model)?.load(threads);
			}
			("prefill", [length]) => self.text(model)?.prefill(*length),
			("check", [length]) => self.text(model)?.check(*length as u32),
			("reuse", [length, round]) => {
				let (keeps, fresh) = (self.open(model, true)?, self.open(model, false)?);
				self.texts[&keeps].reuse(&self.texts[&fresh], *length, *round)
			}
			("small", [times]) => self.small(model)?.run(*times),
			_ => Err(format!("{words:?} is no command").into()),
		}
	}
}

fn main() -> Result<()> {
	consilience_engine::disable_telemetry();
	let arguments: Vec<String> = std::env::args().skip(1).collect();
	if let [first, folder, threads, provider, prompt, tokens, rest @ ..] = &arguments[..] {
		if first == "model" {
			let device_memory = rest.first().map(|bytes| bytes.parse()).transpose()?;
			let asked = EngineConfig {
				provider: provider.parse()?,
				device_memory,
				no_fallback: true,
				beyond_profile: true,
				..forgetful(threads.parse()?)
			};
			return model(Path::new(folder), asked, prompt.parse()?, tokens.parse()?);
		}
	}
	let [first, second, threads] = &arguments[..] else {
		return Err("usage: see the top of the bench's source".into());
	};
	if first == "canonicalise" {
		let canonical = Canonical::integer(Path::new(second), None, None, None)?;
		canonical.write(Path::new(threads), &mut |_| ())?;
		return Ok(());
	}
	let threads: u32 = threads.parse()?;
	match first.as_str() {
		"serve" => return serve(Path::new(second), threads),
		"bare" => return bare(Path::new(second), threads),
		_ => (),
	}
	let mut opened = Opened {
		models: second.into(),
		threads,
		texts: HashMap::new(),
		small: None,
	};
	println!("{}", json!({"ready": true}));
	for line in std::io::stdin().lock().lines() {
		let line = line?;
		let words: Vec<&str> = line.split_whitespace().collect();
		println!("{}", opened.run(&words)?);
	}
	Ok(())
}
