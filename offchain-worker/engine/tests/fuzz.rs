//! What comes over the engine's socket and what stands in a manifest, at random: nothing panics, and what is refused is refused
//! with a reason.
//!
//! ```text
//! scripts/fuzz 60        # minutes
//! ```
//!
//! Without `CONSILIENCE_FUZZ_MINUTES` so few cases run that it can be part of every test run. A finding shrinks, and its seed is kept
//! in `fuzz.proptest-regressions`.

#![allow(clippy::unwrap_used)]

use std::{
	cell::Cell,
	io::{Read, Write},
	os::unix::net::UnixStream,
	path::Path,
	time::{Duration, Instant},
};

use codec::{Compact, Decode, Encode};
use consilience_engine::{
	protocol::{Command, Frame, Order, Reply},
	server::{bind, serve_on, ServerConfig},
	Engine, EngineConfig, EngineError, Part,
};
use consilience_primitives::{
	evidence::Evidence,
	manifest::Manifest,
	model::NumericClass::{Exact, Tolerant},
	request::{FinishReason, FullInput, LogitsProcessing, Message, Output, Prompt, Role, Sampling},
	tensor::{DataType, NamedSpec, Tensor, MAX_DATA},
	List, ModelId,
};
use consilience_store::{Import, Runner, Signature};
use polkadot_sdk::sp_core::H256;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::FileFailurePersistence};
use serde_json::{json, Value};

#[allow(dead_code)]
#[path = "engine/fixtures.rs"]
mod fixtures;

/// Runs a target of so many cases: once, or again and again for as long as the environment says.
fn fuzz(target: &str, cases: u32, mut run: impl FnMut(ProptestConfig)) {
	let minutes = std::env::var("CONSILIENCE_FUZZ_MINUTES").map(|minutes| {
		let minutes: u64 = minutes
			.parse()
			.expect("CONSILIENCE_FUZZ_MINUTES is a number");
		Duration::from_secs(60 * minutes)
	});
	let (started, mut done) = (Instant::now(), 0u64);
	loop {
		run(ProptestConfig {
			cases,
			failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
				"proptest-regressions",
			))),
			..Default::default()
		});
		done += u64::from(cases);
		match &minutes {
			Ok(minutes) if started.elapsed() < *minutes => (),
			Ok(_) => {
				let seconds = started.elapsed().as_secs();
				eprintln!("{target}: {done} cases in {seconds} s, nothing found");
				return;
			}
			Err(_) => return,
		}
	}
}

/// A folder with a tiny language model as the store holds it.
fn stored() -> tempfile::TempDir {
	let to = tempfile::tempdir().unwrap();
	for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
		std::fs::copy(
			fixtures::folder("llama-fp32").join(file),
			to.path().join(file),
		)
		.unwrap();
	}
	write(to.path(), &serde_json::to_value(text()).unwrap());
	to
}

fn write(folder: &Path, manifest: &Value) {
	std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn text() -> Manifest {
	fixtures::text("llama-fp32", Exact)
}

fn bytes<const N: u32>(text: impl AsRef<[u8]>) -> consilience_primitives::Bytes<N> {
	let mut bytes = text.as_ref().to_vec();
	bytes.truncate(N as usize);
	bytes.try_into().unwrap()
}

prop_compose! {
	fn sampling()(
		// Mostly what is in range, or nothing would be answered.
		max_tokens in prop_oneof![3 => 0u32..8, 1 => any::<u32>()],
		temperature in prop_oneof![3 => Just(0u16), 3 => 0u16..=2_000, 1 => any::<u16>()],
		top_p in prop_oneof![3 => Just(1_000u16), 3 => 1u16..=1_000, 1 => any::<u16>()],
		stop in vec(prop_oneof![9 => "[t0-9 ]{1,3}", 1 => Just(String::new())], 0..4),
		processing in proptest::option::of(prop_oneof![9 => processing(), 1 => wild_processing()]),
	) -> Sampling {
		let stop = stop.iter().map(bytes).collect::<Vec<_>>().try_into().unwrap();
		Sampling { max_tokens, temperature, top_p, stop, processing }
	}
}

prop_compose! {
	fn processing()(
		top_k in prop_oneof![0u16..70, any::<u16>()],
		min_p in 0u16..=1_000,
		repetition_penalty in 100u16..=10_000,
		presence_penalty in -2_000i16..=2_000,
		frequency_penalty in -2_000i16..=2_000,
		logit_bias in proptest::collection::btree_map(0u32..70, -100_000i32..=100_000, 0..16),
	) -> LogitsProcessing {
		let logit_bias: Vec<_> = logit_bias.into_iter().collect();
		LogitsProcessing {
			top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty,
			logit_bias: logit_bias.try_into().unwrap(),
		}
	}
}

prop_compose! {
	fn wild_processing()(
		(top_k, min_p, repetition_penalty) in any::<(u16, u16, u16)>(),
		(presence_penalty, frequency_penalty) in any::<(i16, i16)>(),
		logit_bias in vec(any::<(u32, i32)>(), 0..16),
	) -> LogitsProcessing {
		LogitsProcessing {
			top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty,
			logit_bias: logit_bias.try_into().unwrap(),
		}
	}
}

fn prompt() -> impl Strategy<Value = Prompt> {
	let words = || {
		prop_oneof![
			vec("t[0-9]{1,2} ", 1..8).prop_map(|w| w.concat()),
			any::<String>()
		]
	};
	let role = select(vec![Role::System, Role::User, Role::Assistant]);
	let message = (role, words()).prop_map(|(role, text)| Message {
		role,
		content: bytes(text),
	});
	prop_oneof![
		words().prop_map(|text| Prompt::Text(bytes(text))),
		vec(any::<u8>(), 0..20).prop_map(|text| Prompt::Text(bytes(text))),
		vec(message, 0..4).prop_map(|m| Prompt::Chat(m.try_into().unwrap())),
	]
}

prop_compose! {
	fn tensor()(
		name in "[a-z]{0,3}",
		datatype in select(vec![DataType::Fp32, DataType::Bytes, DataType::Int4, DataType::Int64, DataType::Bool]),
		shape in vec(prop_oneof![0u32..4, any::<u32>()], 0..4),
		data in vec(any::<u8>(), 0..64),
	) -> Tensor<MAX_DATA> {
		Tensor { name: bytes(name), datatype, shape: shape.try_into().unwrap(), data: bytes(data) }
	}
}

prop_compose! {
	/// What a text model answers, wherever the sampling lets it.
	fn sound()(
		text in vec("t[0-9]{1,2} ", 1..8),
		max_tokens in 1u32..8,
		temperature in 0u16..=2_000,
		top_p in 1u16..=1_000,
		processing in proptest::option::of(processing()),
	) -> FullInput {
		let sampling = Sampling { max_tokens, temperature, top_p, stop: Default::default(), processing };
		FullInput::TextGeneration { prompt: Prompt::Text(bytes(text.concat())), sampling }
	}
}

fn input() -> impl Strategy<Value = FullInput> {
	prop_oneof![
		4 => sound(),
		4 => (prompt(), sampling()).prop_map(|(prompt, sampling)| FullInput::TextGeneration { prompt, sampling }),
		1 => any::<String>().prop_map(|t| FullInput::Embedding(bytes(t))),
		2 => vec(tensor(), 0..3).prop_map(|t| FullInput::Tensor(t.try_into().unwrap())),
	]
}

fn claimed() -> impl Strategy<Value = Option<Output>> {
	let token = prop_oneof![4 => 0u32..64, 1 => any::<u32>()].prop_map(Compact);
	let finish = select(vec![
		FinishReason::EndOfText,
		FinishReason::StopString,
		FinishReason::Length,
	]);
	let answer = (vec(token, 0..12), any::<String>(), finish).prop_map(|(tokens, text, finish)| {
		Output::Text {
			tokens: tokens.try_into().unwrap(),
			text: bytes(text),
			finish,
		}
	});
	prop_oneof![
		4 => answer.prop_map(Some),
		1 => vec(tensor(), 0..2).prop_map(|tensors| {
			let small = tensors.into_iter().filter_map(Tensor::rebound).collect::<Vec<_>>();
			Some(Output::Tensors(small.try_into().unwrap()))
		}),
		1 => Just(None),
	]
}

/// What a node may say about these models.
fn command(models: Vec<ModelId>) -> impl Strategy<Value = Command> {
	let model = || select(models.clone());
	let hash = || any::<u8>().prop_map(H256::repeat_byte);
	prop_oneof![
		4 => (model(), input(), hash()).prop_map(|(model, input, seed)| Command::Run { model, input, seed }),
		2 => (model(), input(), hash(), any::<u32>()).prop_map(|(model, input, seed, allowed)| {
			Command::Stream { model, input, seed, allowed }
		}),
		6 => (model(), input(), hash(), claimed(), vec((proptest::option::of(0u32..6), hash()), 0..4)).prop_map(
			|(model, input, seed, claimed, parts)| {
				let parts = parts.into_iter().map(|(tokens, challenge)| Part { tokens, challenge }).collect();
				Command::Measure { model, input, seed, claimed, parts }
			},
		),
		1 => model().prop_map(|model| Command::Provider { model }),
		1 => model().prop_map(|model| Command::Reference { model }),
		1 => "[a-z/.]{0,12}".prop_map(|folder| Command::Load { folder }),
		1 => Just(Command::Unload { model: H256::zero() }),
		1 => Just(Command::Ping),
		1 => Just(Command::Sandbox),
		1 => (model(), input(), vec((0u32..70).prop_map(Compact), 0..8)).prop_map(|(model, input, tokens)| {
			Command::Cut { model, input, tokens }
		}),
		1 => (0u64..3).prop_map(|id| Command::Cancel { id }),
		1 => (0u64..3, any::<u32>()).prop_map(|(id, tokens)| Command::Allow { id, tokens }),
	]
}

/// A command for which somebody waits for ever.
fn order(id: u64, command: Command) -> Vec<u8> {
	let body = Order {
		command,
		within: None,
	};
	Frame { id, body }.encode()
}

fn framed(id: u64, command: Command) -> Vec<u8> {
	let frame = order(id, command);
	[&(frame.len() as u32).to_le_bytes()[..], &frame].concat()
}

/// Sends bytes to an engine and gives all it says until it hangs up.
fn served(sent: &[u8]) -> (std::io::Result<()>, Vec<Frame<Reply>>) {
	let folder = tempfile::tempdir().unwrap();
	let socket = folder.path().join("engine.sock");
	let listener = bind(&socket).unwrap();
	let config = ServerConfig {
		engine: EngineConfig {
			threads: 1,
			..Default::default()
		},
		workers: 1,
		..Default::default()
	};
	let thread = std::thread::spawn(move || serve_on(listener, config));
	let mut connection = UnixStream::connect(&socket).unwrap();
	// The engine may hang up in the middle.
	let _ = connection.write_all(sent);
	let _ = connection.shutdown(std::net::Shutdown::Write);
	let mut said = Vec::new();
	let _ = connection.read_to_end(&mut said);
	let mut replies = Vec::new();
	let mut rest = &said[..];
	while let Some((length, after)) = rest.split_first_chunk::<4>() {
		let length = u32::from_le_bytes(*length) as usize;
		let (frame, after) = after.split_at(length);
		replies.push(Frame::decode(&mut &frame[..]).unwrap());
		rest = after;
	}
	(thread.join().expect("no panic"), replies)
}

/// Bytes that nobody sent as a frame, alone and after a sound one.
#[test]
fn any_bytes_on_the_socket_end_the_connection_at_worst() {
	let noise = || vec(any::<u8>(), 0..64);
	let length = || {
		prop_oneof![
			Just(None),
			(0u32..80).prop_map(Some),
			any::<u32>().prop_map(Some)
		]
	};
	fuzz("bytes on the socket", 200, |config| {
		proptest!(config, |(before in any::<bool>(), noise in noise(), length in length())| {
			let mut sent = if before { framed(7, Command::Ping) } else { Vec::new() };
			if let Some(length) = length {
				sent.extend(length.to_le_bytes());
			}
			sent.extend(noise);
			let (_, replies) = served(&sent);
			if before {
				prop_assert_eq!(&replies[0], &Frame { id: 7, body: Reply::Pong });
			}
		});
	});
}

/// A sound command with bytes changed, taken out or put in: another command, or none.
#[test]
fn damaged_frames_are_commands_or_refused() {
	let damage = || vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..5);
	fuzz("damaged frames", 200, |config| {
		proptest!(config, |(command in command(vec![H256::zero()]), damage in damage())| {
			let mut frame = order(1, command);
			for (at, byte, how) in damage {
				let at = at.index(frame.len());
				match how {
					0 => frame[at] = byte,
					1 => frame.insert(at, byte),
					_ if frame.len() > 1 => drop(frame.remove(at)),
					_ => (),
				}
			}
			if let Ok(read) = Frame::<Order>::decode(&mut &frame[..]) {
				// What is read is what would be written.
				prop_assert_eq!(&Frame::<Order>::decode(&mut &read.encode()[..]).unwrap(), &read);
			}
			let sent = [&(frame.len() as u32).to_le_bytes()[..], &frame].concat();
			let (_, replies) = served(&sent);
			prop_assert!(replies.len() <= 1);
		});
	});
}

fn number(name: &str) -> NamedSpec {
	NamedSpec {
		name: name.into(),
		datatype: DataType::Fp32,
		shape: vec![],
	}
}

/// The engine with a model of each kind, loaded once.
fn models() -> (Engine, Vec<ModelId>) {
	let engine = fixtures::engine();
	let text = fixtures::load(&engine, "llama-fp32", Exact);
	let hub = fixtures::load(&engine, "llama-hub", Tolerant);
	let scalar = fixtures::tensors("scalar.onnx", vec![number("x")], vec![number("twice")]);
	let scalar = engine.load_manifest(&fixtures::folder(""), scalar).unwrap();
	(engine, vec![text, hub, scalar])
}

fn kept<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: &T) {
	assert_eq!(&T::decode(&mut &value.encode()[..]).unwrap(), value);
}

#[test]
fn any_command_is_done_or_refused() {
	let (engine, models) = models();
	let (tried, answered, measured) = (Cell::new(0u64), Cell::new(0u64), Cell::new(0u64));
	let count = |n: &Cell<u64>| n.set(n.get() + 1);
	fuzz("commands", 1_000, |config| {
		proptest!(config, |(command in command(models.clone()))| {
			kept(&command);
			count(&tried);
			let known: Result<(), EngineError> = match command {
				Command::Run { model, input, seed } => {
					engine.run(model, &input, &seed).map(|output| {
						count(&answered);
						kept(&output);
						// What one engine answers, another can measure.
						let part = Part { tokens: None, challenge: seed };
						let evidence = engine.measure_parts(model, &input, &seed, Some(&output), &[part]);
						kept::<Vec<Evidence>>(&evidence.expect("it answered"));
					})
				}
				Command::Cut { model, input, tokens } => {
					let tokens: Vec<u32> = tokens.iter().map(|t| t.0).collect();
					engine.cut(model, &input, &tokens).map(|output| kept(&output))
				}
				Command::Stream { model, input, seed, .. } => {
					let mut told = Vec::new();
					let streamed = engine.stream(model, &input, &seed, &mut |tokens, _| told.extend(tokens));
					streamed.map(|output| assert_eq!(output.units() as usize, told.len()))
				}
				Command::Measure { model, input, seed, claimed, parts } => engine
					.measure_parts(model, &input, &seed, claimed.as_ref(), &parts)
					.map(|evidence| {
						count(&measured);
						assert_eq!(evidence.len(), parts.len());
						kept::<Vec<Evidence>>(&evidence)
					}),
				Command::Provider { model } => engine.provider(model).map(|_| ()),
				Command::Reference { model } => engine.reference(model).map(|_| ()),
				Command::Load { folder } => engine.load(Path::new(&folder)).map(|_| ()),
				Command::Unload { model } => {
					engine.unload(model);
					Ok(())
				}
				Command::Ping
				| Command::Sandbox
				| Command::Allow { .. }
				| Command::Cancel { .. } => Ok(()),
				Command::Stats => {
					kept(&engine.statistics());
					Ok(())
				}
			};
			if let Err(why) = known {
				prop_assert!(!why.to_string().is_empty());
			}
		})
	});
	// Refusing everything would be easy.
	assert!(
		answered.get() > tried.get() / 100 && measured.get() > tried.get() / 100,
		"{} answered and {} measured of {}",
		answered.get(),
		measured.get(),
		tried.get()
	);
}

/// Anything that JSON can say, the numbers at the edges above all.
fn anything() -> impl Strategy<Value = Value> {
	let number = select(vec![
		json!(0),
		json!(1),
		json!(-1),
		json!(255),
		json!(256),
		json!(65_536),
		json!(u32::MAX),
		json!(1u64 << 40),
		json!(u64::MAX),
		json!(1.5),
		json!(1e300),
	]);
	let text = prop_oneof![
		any::<String>(),
		select(vec![
			"",
			"..",
			"/etc/passwd",
			"a\u{0}b",
			"exact",
			"tolerant",
			"{% for %}",
			"{{ 1/0 }}"
		])
		.prop_map(String::from),
	];
	let leaf = prop_oneof![
		number,
		text.prop_map(Value::from),
		Just(Value::Null),
		any::<bool>().prop_map(Value::from),
	];
	leaf.prop_recursive(3, 12, 4, |inner| {
		prop_oneof![
			vec(inner.clone(), 0..4).prop_map(Value::from),
			prop::collection::hash_map("[a-z_]{1,8}", inner, 0..3)
				.prop_map(|map| Value::Object(map.into_iter().collect())),
		]
	})
}

/// Every place in a value, the value itself not.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
	let mut inner = |key: String, value: &Value| {
		let at = format!("{at}/{key}");
		places(value, &at, found);
		found.push(at);
	};
	match value {
		Value::Object(map) => map
			.iter()
			.for_each(|(k, v)| inner(k.replace('~', "~0").replace('/', "~1"), v)),
		Value::Array(list) => list
			.iter()
			.enumerate()
			.for_each(|(n, v)| inner(n.to_string(), v)),
		_ => (),
	}
}

/// A manifest with some of its places changed.
fn manifest() -> impl Strategy<Value = Value> {
	let sound = [
		text(),
		fixtures::text("llama-hub", Tolerant),
		fixtures::tensors("model.onnx", vec![number("x")], vec![number("y")]),
	];
	let sound: Vec<_> = sound
		.iter()
		.map(|m| serde_json::to_value(m).unwrap())
		.collect();
	let change = (any::<prop::sample::Index>(), prop::option::of(anything()));
	(select(sound), vec(change, 0..4)).prop_map(|(mut value, changes)| {
		for (at, change) in changes {
			let mut found = Vec::new();
			places(&value, "", &mut found);
			let at = at.get(&found).clone();
			match change {
				Some(new) => *value.pointer_mut(&at).unwrap() = new,
				None => {
					let (parent, key) = at.rsplit_once('/').unwrap();
					if let Some(Value::Object(map)) = value.pointer_mut(parent) {
						map.remove(key);
					}
				}
			}
		}
		value
	})
}

/// An engine that is asked by no import of a manifest.
struct Nobody;

impl Runner for Nobody {
	fn signature(&self, _: &Path) -> Result<Signature, String> {
		unreachable!("the manifest has it")
	}

	fn reference(&self, _: &Path, _: &Manifest) -> Result<(Output, Evidence), String> {
		unreachable!("the manifest has it")
	}
}

#[test]
fn any_manifest_is_a_model_or_refused() {
	let folder = stored();
	let engine = fixtures::engine();
	let (tried, loaded) = (Cell::new(0u64), Cell::new(0u64));
	fuzz("manifests", 300, |config| {
		proptest!(config, |(value in manifest())| {
			write(folder.path(), &value);
			tried.set(tried.get() + 1);
			// Files of one byte are none of ours: the import stops at the first one at the latest.
			prop_assert!(Import::read(folder.path(), &Nobody, &mut |_| ()).is_err());
			let Ok(manifest) = serde_json::from_value::<Manifest>(value) else {
				return Ok(());
			};
			let written = serde_json::to_string(&manifest).unwrap();
			let again: Manifest = serde_json::from_str(&written).unwrap();
			prop_assert_eq!(again.id(), manifest.id());
			prop_assert_eq!(manifest.spec().is_ok() || manifest.validate().is_err(), true);
			kept(&manifest);
			if let Ok(model) = engine.load_manifest(folder.path(), manifest) {
				loaded.set(loaded.get() + 1);
				let _ = engine.reference(model);
				engine.unload(model);
			}
		})
	});
	assert!(
		loaded.get() > tried.get() / 100,
		"{} loaded of {}",
		loaded.get(),
		tried.get()
	);
}

#[test]
fn any_text_is_a_manifest_or_none() {
	let place = any::<prop::sample::Index>;
	fuzz("texts for manifests", 2_000, |config| {
		proptest!(config, |(text in any::<String>(), cut in place(), byte in any::<u8>())| {
			let _ = serde_json::from_str::<Manifest>(&text);
			let mut sound = serde_json::to_vec(&self::text()).unwrap();
			let at = cut.index(sound.len());
			prop_assert!(serde_json::from_slice::<Manifest>(&sound[..at]).is_err());
			sound[at] = byte;
			if let Ok(manifest) = serde_json::from_slice::<Manifest>(&sound) {
				let _ = manifest.validate();
				kept(&manifest);
			}
			let noise: List<u8, 64> = List::truncate_from(text.into_bytes());
			let _ = Manifest::decode(&mut &noise[..]);
		});
	});
}
