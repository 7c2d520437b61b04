//! The engine behind its socket.

use std::{path::PathBuf, thread::JoinHandle, time::Instant};

use consilience_engine::{client::EngineClient, server, EngineConfig, EngineError, Part};
use consilience_primitives::{
	model::NumericClass::Exact,
	request::{FullInput, Prompt, Sampling},
};
use polkadot_sdk::sp_core::H256;

use crate::fixtures::{self, folder};

/// A server on a thread, as the hidden subcommand runs it in a process.
pub(crate) struct Server {
	_folder: tempfile::TempDir,
	pub(crate) socket: PathBuf,
	thread: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn start() -> Server {
	start_with(None)
}

/// One whose models in memory may have so many bytes.
pub(crate) fn start_with(models_bytes: Option<u64>) -> Server {
	let folder = tempfile::tempdir().unwrap();
	let socket = folder.path().join("engine.sock");
	// Bound before the thread starts, so that nobody has to wait for the file to appear.
	let listener = server::bind(&socket).unwrap();
	let config = server::ServerConfig {
		engine: EngineConfig {
			threads: 1,
			models_bytes,
			..Default::default()
		},
		workers: 2,
		..Default::default()
	};
	let thread = std::thread::spawn(move || server::serve_on(listener, config));
	Server {
		_folder: folder,
		socket,
		thread,
	}
}

pub(crate) fn input(text: &str) -> FullInput {
	let prompt = Prompt::Text(text.as_bytes().to_vec().try_into().unwrap());
	let sampling = Sampling {
		max_tokens: 16,
		temperature: 1_000,
		..Default::default()
	};
	FullInput::TextGeneration { prompt, sampling }
}

/// A model folder as the store holds it.
pub(crate) fn stored() -> tempfile::TempDir {
	stored_as("llama-fp32")
}

/// The same of another of the exact models.
pub(crate) fn stored_as(name: &str) -> tempfile::TempDir {
	let to = tempfile::tempdir().unwrap();
	for file in ["model.onnx", "model.onnx_data", "tokenizer.json"] {
		std::fs::copy(folder(name).join(file), to.path().join(file)).unwrap();
	}
	let manifest = serde_json::to_vec(&fixtures::text(name, Exact)).unwrap();
	std::fs::write(to.path().join("manifest.json"), manifest).unwrap();
	to
}

#[tokio::test]
async fn answers_are_those_of_the_engine_in_any_order() {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	client.ping().await.unwrap();
	let stored = stored();
	let model = client.load(stored.path()).await.unwrap();
	assert_eq!(model, fixtures::text("llama-fp32", Exact).id());
	let engine = fixtures::engine();
	fixtures::load(&engine, "llama-fp32", Exact);
	let parts: Vec<_> = [0, 1]
		.map(|challenge| Part {
			tokens: None,
			challenge: H256::repeat_byte(challenge),
		})
		.into();
	let mut jobs = Vec::new();
	for n in 0..12u8 {
		let (client, seed, parts) = (client.clone(), H256::repeat_byte(n), parts.clone());
		jobs.push(tokio::spawn(async move {
			let output = client.run(model, input("t5 t6"), seed).await.unwrap();
			let claimed = Some(output.clone());
			let evidence = client
				.measure_parts(model, input("t5 t6"), seed, claimed, parts.clone())
				.await
				.unwrap();
			(seed, output, evidence)
		}));
	}
	for job in jobs {
		let (seed, output, evidence) = job.await.unwrap();
		assert_eq!(output, engine.run(model, &input("t5 t6"), &seed).unwrap());
		let expected = engine
			.measure_parts(model, &input("t5 t6"), &seed, Some(&output), &parts)
			.unwrap();
		assert_eq!(evidence, expected);
	}
	assert_eq!(
		client.reference(model).await.unwrap(),
		engine.reference(model).unwrap()
	);
	let statistics = client.statistics().await.unwrap();
	assert_eq!((statistics.in_memory, statistics.loads), (1, 1));
	// Twelve and the reference.
	let [(of, text)] = &statistics.texts[..] else {
		panic!("{statistics:?}")
	};
	assert_eq!((*of, text.first_tokens), (model, 13));
	client.unload(model).await.unwrap();
	let gone = client.run(model, input("t5"), H256::zero()).await;
	assert!(matches!(gone, Err(EngineError::NotLoaded(_))), "{gone:?}");
}

#[tokio::test]
async fn errors_cost_one_job_and_not_the_process() {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	let missing = client.load(&folder("nowhere")).await;
	assert!(
		matches!(missing, Err(EngineError::Load { .. })),
		"{missing:?}"
	);
	let broken = stored();
	std::fs::write(broken.path().join("model.onnx"), b"broken").unwrap();
	let error = client.load(broken.path()).await.unwrap_err();
	assert!(error.to_string().contains("model.onnx"), "{error}");
	let other = client.run(H256::zero(), input("t5"), H256::zero()).await;
	assert!(matches!(other, Err(EngineError::NotLoaded(_))), "{other:?}");
	client.ping().await.unwrap();
}

#[tokio::test]
async fn the_process_ends_with_its_node_and_the_node_learns_of_its_end() {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	client.ping().await.unwrap();
	assert!(!server.socket.exists(), "nobody else can connect");
	drop(client);
	// Not on the thread that closes the connection.
	let ended = tokio::task::spawn_blocking(|| server.thread.join());
	ended.await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_fails_what_is_waited_for() {
	let folder = tempfile::tempdir().unwrap();
	let socket = folder.path().join("engine.sock");
	let listener = tokio::net::UnixListener::bind(&socket).unwrap();
	let client = EngineClient::connect(&socket).await.unwrap();
	let (connection, _) = listener.accept().await.unwrap();
	let waiting = tokio::spawn({
		let client = client.clone();
		async move { client.ping().await }
	});
	// The command arrives, and is never answered.
	connection.readable().await.unwrap();
	drop(connection);
	assert_eq!(waiting.await.unwrap(), Err(EngineError::Gone));
	client.closed().await;
	assert_eq!(client.ping().await, Err(EngineError::Gone));
}

#[tokio::test]
async fn too_much_is_refused_and_a_ping_does_not_wait() {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	let stored = stored();
	let model = client.load(stored.path()).await.unwrap();
	let mut jobs = Vec::new();
	for n in 0..2_000u32 {
		let client = client.clone();
		jobs.push(tokio::spawn(async move {
			let seed = H256::from_low_u64_be(n.into());
			client.run(model, input("t5 t6"), seed).await
		}));
	}
	client.ping().await.unwrap();
	let (mut done, mut refused) = (0, 0);
	for job in jobs {
		match job.await.unwrap() {
			Ok(_) => done += 1,
			Err(EngineError::Busy) => refused += 1,
			Err(other) => panic!("{other}"),
		}
	}
	assert!(done >= 512 && refused > 0, "{done} done, {refused} refused");
	client
		.run(model, input("t5 t6"), H256::zero())
		.await
		.unwrap();
}

#[tokio::test]
async fn texts_end_between_two_tokens_when_nobody_waits_for_them() {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	let stored = stored();
	let model = client.load(stored.path()).await.unwrap();
	let long = |n: u8| {
		let prompt = Prompt::Text(b"t5 t6".to_vec().try_into().unwrap());
		let sampling = Sampling {
			max_tokens: 380,
			temperature: 2_000,
			..Default::default()
		};
		let input = FullInput::TextGeneration { prompt, sampling };
		(input, H256::repeat_byte(n))
	};
	let whole = {
		let engine = fixtures::engine();
		fixtures::load(&engine, "llama-fp32", Exact);
		// One that is long indeed.
		let mut seeds = (0..=u8::MAX).map(&long);
		seeds
			.find(|(input, seed)| engine.run(model, input, seed).unwrap().units() > 300)
			.expect("one in 64 tokens ends a text")
	};
	let text = async || client.statistics().await.unwrap().texts[0].1;
	let writes = async || {
		while text().await.writing == 0 {}
	};
	let (input, seed) = whole.clone();
	tokio::select! {
		biased;
		ended = client.run(model, input, seed) => panic!("{ended:?} before it was seen to be written"),
		() = writes() => (),
	}
	while text().await.writing > 0 {}
	assert!(text().await.answer_tokens < 300);
	// One whose time is over from the start is never fed.
	let (input, seed) = whole;
	let fed = text().await.prompt_tokens;
	let late = client.until(Some(Instant::now()));
	assert_eq!(
		late.run(model, input, seed).await,
		Err(EngineError::Cancelled)
	);
	assert_eq!(text().await.prompt_tokens, fed);
}
