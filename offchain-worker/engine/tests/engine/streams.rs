//! Answers that arrive as they are written.

use std::{
	cell::Cell,
	pin::pin,
	time::{Duration, Instant},
};

use codec::Compact;
use consilience_engine::{client::EngineClient, EngineError, Piece, TokenStream};
use consilience_primitives::{
	model::NumericClass::{Exact, Tolerant},
	request::{FinishReason, FullInput, LogitsProcessing, Output, Prompt, Sampling, Unanswerable},
	tensor::{DataType, NamedSpec},
	ModelId,
};
use futures::StreamExt;
use polkadot_sdk::sp_core::H256;
use proptest::prelude::*;

use crate::{
	fixtures::{self, load},
	memory,
	process::{input, start, start_with, stored, stored_as, Server},
};

fn question(prompt: &str, sampling: Sampling) -> FullInput {
	let prompt = Prompt::Text(prompt.as_bytes().to_vec().try_into().unwrap());
	FullInput::TextGeneration { prompt, sampling }
}

/// A question whose answer has more than 300 tokens, and its seed.
fn long() -> (FullInput, H256) {
	let engine = fixtures::engine();
	let model = load(&engine, "llama-fp32", Exact);
	let sampling = Sampling {
		max_tokens: 380,
		temperature: 2_000,
		..Default::default()
	};
	let input = question("t5 t6", sampling);
	let mut seeds = (0..=u8::MAX).map(H256::repeat_byte);
	let long = |seed: &H256| engine.run(model, &input, seed).unwrap().units() > 300;
	let seed = seeds.find(long).expect("one in 64 tokens ends a text");
	(input, seed)
}

/// A server with the tiny model.
async fn served() -> (Server, EngineClient, ModelId, tempfile::TempDir) {
	let server = start();
	let client = EngineClient::connect(&server.socket).await.unwrap();
	let stored = stored();
	let model = client.load(stored.path()).await.unwrap();
	(server, client, model, stored)
}

/// How many tokens come next.
async fn more(stream: &mut TokenStream) -> usize {
	match stream.next().await.unwrap().unwrap() {
		Piece::Tokens { tokens, .. } => tokens.len(),
		end => panic!("{end:?}"),
	}
}

/// The next tokens; none at the end of the answer, which is then compared.
async fn tokens(stream: &mut TokenStream, expected: &Output) -> Option<usize> {
	match stream.next().await.unwrap().unwrap() {
		Piece::Tokens { tokens, .. } => Some(tokens.len()),
		Piece::End { output, .. } => {
			assert_eq!(&output, expected);
			assert!(stream.next().await.is_none());
			None
		}
	}
}

/// All of it, allowed `slice` tokens at a time; checks that no more came, and that the pieces are the answer. Gives what tokens and
/// text had come when so many pieces had.
async fn paid_by_slices(
	stream: TokenStream,
	slice: u32,
	expected: &Output,
) -> Vec<(Vec<u32>, Vec<u8>)> {
	let mut seen = Vec::new();
	let mut stream = pin!(stream);
	let (mut allowed, mut said, mut shown) = (slice, Vec::new(), Vec::new());
	loop {
		match stream.next().await.unwrap().unwrap() {
			Piece::Tokens { tokens, text } => {
				assert!(!tokens.is_empty() && std::str::from_utf8(&text).is_ok());
				said.extend(tokens.into_iter().map(Compact));
				shown.extend(text);
				seen.push((said.iter().map(|t| t.0).collect(), shown.clone()));
				assert!(said.len() <= allowed as usize);
				if said.len() == allowed as usize {
					allowed += slice;
					stream.allow(allowed);
				}
			}
			Piece::End { text, output } => {
				shown.extend(text);
				assert_eq!(&output, expected);
				let Output::Text { tokens, text, .. } = output else {
					panic!("tensors from text")
				};
				assert_eq!((&tokens[..], &text[..]), (&said[..], &shown[..]));
				assert!(stream.next().await.is_none());
				return seen;
			}
		}
	}
}

fn sampling() -> impl Strategy<Value = Sampling> {
	let processing = (0u16..20, 0u16..300, 800u16..1_300, -500i16..500).prop_map(
		|(top_k, min_p, repetition_penalty, presence_penalty)| LogitsProcessing {
			top_k,
			min_p,
			repetition_penalty,
			presence_penalty,
			..Default::default()
		},
	);
	// Some stand in texts of the tiny model, some begin there, one spells a token that no text shows.
	let stop = prop::sample::select(vec![
		"t7", "t1", "3 t4", " t", "9 t2x", "t0", "6 t1 t", "t6 ",
	]);
	(
		1u32..100,
		prop::sample::select(vec![(0u16, 1_000u16), (1_000, 1_000), (1_500, 900)]),
		prop::option::of(processing),
		prop::collection::vec(stop, 0..3),
	)
		.prop_map(|(max_tokens, (temperature, top_p), processing, stop)| {
			let stop: Vec<_> = stop
				.into_iter()
				.map(|s| s.as_bytes().to_vec().try_into().unwrap())
				.collect();
			Sampling {
				max_tokens,
				temperature,
				top_p,
				processing,
				stop: stop.try_into().unwrap(),
			}
		})
}

/// Checks what an answer is that is over with these tokens: it begins with the text that had come with them.
async fn over_early(
	client: &EngineClient,
	model: ModelId,
	input: FullInput,
	(said, shown): &(Vec<u32>, Vec<u8>),
	whole: &Output,
) {
	let cut = client.cut(model, input, said.clone()).await.unwrap();
	let Output::Text {
		tokens,
		text,
		finish,
	} = &cut
	else {
		panic!("tensors from text")
	};
	assert!(tokens.iter().map(|t| t.0).eq(said.iter().copied()));
	if cut.units() == whole.units() {
		assert_eq!(&cut, whole);
	} else {
		assert_eq!(*finish, FinishReason::Length);
		assert!(text.starts_with(shown));
	}
}

#[test]
fn what_is_streamed_is_what_is_answered_at_once() {
	let runtime = tokio::runtime::Runtime::new().unwrap();
	let (_server, client, model, _stored) = runtime.block_on(served());
	let engine = fixtures::engine();
	load(&engine, "llama-fp32", Exact);
	let job = (
		sampling(),
		"t[2-9]( t[2-9]){0,20}",
		any::<u8>(),
		1u32..50,
		any::<bool>(),
	);
	let (stopped, streamed) = (Cell::new(0), Cell::new(0));
	let count = |n: &Cell<usize>, more: bool| n.set(n.get() + usize::from(more));
	proptest!(ProptestConfig::with_cases(30), |(jobs in prop::collection::vec(job, 1..8))| {
		runtime.block_on(async {
			let mut open = Vec::new();
			// All at a time, some of them as they are written.
			for (sampling, prompt, seed, slice, streams) in jobs {
				let (client, input) = (client.clone(), question(&prompt, sampling));
				let seed = H256::repeat_byte(seed);
				let expected = engine.run(model, &input, &seed).unwrap();
				let Output::Text { finish, .. } = &expected else {
					panic!("tensors from text")
				};
				count(&stopped, *finish == FinishReason::StopString);
				count(&streamed, streams);
				open.push(tokio::spawn(async move {
					if streams {
						let stream = client.stream(model, input.clone(), seed, slice).unwrap();
						let seen = paid_by_slices(stream, slice, &expected).await;
						over_early(&client, model, input, &seen[seen.len() / 2], &expected).await;
					} else {
						assert_eq!(client.run(model, input, seed).await.unwrap(), expected);
					}
				}));
			}
			for job in open {
				job.await.unwrap();
			}
		});
	});
	let (stopped, streamed) = (stopped.get(), streamed.get());
	assert!(stopped >= 5 && streamed >= 20, "{stopped}, {streamed}");
}

#[test]
fn a_model_whose_texts_share_no_cache_streams_too() {
	let engine = fixtures::engine();
	let model = load(&engine, "llama-hub", Tolerant);
	let input = question(
		"t5 t6",
		Sampling {
			max_tokens: 40,
			temperature: 1_000,
			..Default::default()
		},
	);
	let (mut said, mut shown) = (Vec::new(), String::new());
	let mut see = |tokens: Vec<u32>, text: &str| {
		said.extend(tokens.into_iter().map(Compact));
		shown.push_str(text);
	};
	let output = engine
		.stream(model, &input, &H256::zero(), &mut see)
		.unwrap();
	let Output::Text { tokens, text, .. } = &output else {
		panic!("tensors from text")
	};
	assert_eq!((&tokens[..], &text[..]), (&said[..], shown.as_bytes()));
	assert_eq!(output, engine.run(model, &input, &H256::zero()).unwrap());
}

#[tokio::test]
async fn answers_that_pause_take_no_place_from_others() {
	let (_server, client, model, _stored) = served().await;
	let engine = fixtures::engine();
	load(&engine, "llama-fp32", Exact);
	let (long, seed) = long();
	let whole = engine.run(model, &long, &seed).unwrap();
	// More than there are workers, and than are written at a time.
	let mut paused = Vec::new();
	for _ in 0..20 {
		let mut stream = client.stream(model, long.clone(), seed, 7).unwrap();
		let mut said = 0;
		while said < 7 {
			said += tokens(&mut stream, &whole).await.unwrap();
		}
		assert_eq!(said, 7);
		paused.push(stream);
	}
	let text = async || client.statistics().await.unwrap().texts[0].1;
	while text().await.paused < 20 {}
	let written = text().await.answer_tokens;
	for n in 0..5 {
		let seed = H256::repeat_byte(n);
		let expected = engine.run(model, &input("t5 t6"), &seed).unwrap();
		let output = client.run(model, input("t5 t6"), seed).await.unwrap();
		assert_eq!(output, expected);
	}
	let done = text().await;
	assert_eq!((done.paused, done.writing), (20, 0));
	assert!(
		done.answer_tokens - written <= 5 * 16,
		"none of it for who pauses"
	);
	for mut stream in paused {
		stream.allow(u32::MAX);
		while tokens(&mut stream, &whole).await.is_some() {}
	}
	let done = text().await;
	assert_eq!((done.paused, done.writing, done.waiting), (0, 0, 0));
}

#[tokio::test]
async fn who_drops_a_stream_ends_it_paused_or_not() {
	let (_server, client, model, _stored) = served().await;
	let (long, seed) = long();
	let text = async || client.statistics().await.unwrap().texts[0].1;
	let paused = client.stream(model, long.clone(), seed, 2).unwrap();
	while text().await.paused == 0 {}
	drop(paused);
	while text().await.paused > 0 {}
	let mut written = client.stream(model, long, seed, u32::MAX).unwrap();
	let mut said = 0;
	while said < 20 {
		said += more(&mut written).await;
	}
	drop(written);
	loop {
		let now = text().await;
		if (now.writing, now.waiting) == (0, 0) {
			assert!(now.answer_tokens < 300, "{now:?}");
			break;
		}
	}
}

#[tokio::test]
async fn a_deadline_ends_who_pauses() {
	let (_server, client, model, _stored) = served().await;
	let (long, seed) = long();
	let until = Instant::now() + Duration::from_secs(2);
	let client = client.until(Some(until));
	let mut stream = client.stream(model, long, seed, 3).unwrap();
	let mut said = 0;
	let ended = loop {
		match stream.next().await.unwrap() {
			Ok(Piece::Tokens { tokens, .. }) => said += tokens.len(),
			ended => break ended,
		}
	};
	assert_eq!(ended, Err(EngineError::Cancelled));
	assert_eq!(said, 3);
	// The engine is told whole milliseconds.
	assert!(Instant::now() + Duration::from_millis(2) >= until);
	assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn who_pauses_gives_way_to_another_model() {
	let names = ["llama-fp32", "llama-int8"];
	// Room for either.
	let server = start_with(Some(names.map(memory::bytes).into_iter().max().unwrap()));
	let client = EngineClient::connect(&server.socket).await.unwrap();
	let [one, other] = names.map(stored_as);
	let model = client.load(one.path()).await.unwrap();
	let (long, seed) = long();
	let mut stream = client.stream(model, long.clone(), seed, 3).unwrap();
	let mut said = 0;
	while said < 3 {
		said += more(&mut stream).await;
	}
	let model = client.load(other.path()).await.unwrap();
	assert_eq!(stream.next().await, Some(Err(EngineError::Busy)));
	// It gives way no longer.
	let mut stream = client.stream(model, long, seed, 1).unwrap();
	assert_eq!(more(&mut stream).await, 1);
	assert!(futures::poll!(stream.next()).is_pending());
	stream.allow(2);
	assert_eq!(more(&mut stream).await, 1);
}

#[tokio::test]
async fn what_cannot_be_streamed_says_why() {
	let (_server, client, model, stored) = served().await;
	let first = async |mut stream: TokenStream| stream.next().await.unwrap();
	let unknown = client
		.stream(H256::zero(), input("t5"), H256::zero(), 1)
		.unwrap();
	let error = first(unknown).await;
	assert!(matches!(error, Err(EngineError::NotLoaded(_))), "{error:?}");
	// It asks again whether the engine has the model.
	assert_eq!(client.load(stored.path()).await, Ok(model));
	let long = question(
		"t5",
		Sampling {
			max_tokens: 1_000,
			..Default::default()
		},
	);
	let error = first(client.stream(model, long, H256::zero(), 1).unwrap()).await;
	assert!(
		matches!(error, Err(EngineError::Unanswerable(..))),
		"{error:?}"
	);
	let engine = fixtures::engine();
	let number = NamedSpec {
		name: "x".into(),
		datatype: DataType::Fp32,
		shape: vec![],
	};
	let twice = NamedSpec {
		name: "twice".into(),
		..number.clone()
	};
	let scalar = fixtures::tensors("scalar.onnx", vec![number], vec![twice]);
	let scalar = engine.load_manifest(&fixtures::folder(""), scalar).unwrap();
	let error = engine.stream(scalar, &input("t5"), &H256::zero(), &mut |_, _| ());
	assert!(matches!(error, Err(EngineError::Input(_))), "{error:?}");
	// Too many, and none of them takes a place from what is not streamed.
	let (long, seed) = self::long();
	let mut streams = Vec::new();
	let busy = loop {
		let mut stream = client.stream(model, long.clone(), seed, 1).unwrap();
		match stream.next().await.unwrap() {
			Ok(_) => streams.push(stream),
			Err(e) => break e,
		}
	};
	assert_eq!((busy, streams.len()), (EngineError::Busy, 128));
	client
		.run(model, input("t5 t6"), H256::zero())
		.await
		.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_ends_streams() {
	let folder = tempfile::tempdir().unwrap();
	let socket = folder.path().join("engine.sock");
	let listener = tokio::net::UnixListener::bind(&socket).unwrap();
	let client = EngineClient::connect(&socket).await.unwrap();
	let (connection, _) = listener.accept().await.unwrap();
	let mut stream = client
		.stream(H256::zero(), input("t5"), H256::zero(), 1)
		.unwrap();
	connection.readable().await.unwrap();
	drop(connection);
	assert_eq!(stream.next().await, Some(Err(EngineError::Gone)));
	assert!(stream.next().await.is_none());
	client.closed().await;
	let gone = client.stream(H256::zero(), input("t5"), H256::zero(), 1);
	assert!(matches!(gone, Err(EngineError::Gone)));
}

#[tokio::test]
async fn an_answer_that_is_there_is_given_as_it_is_paid() {
	let engine = fixtures::engine();
	let model = load(&engine, "llama-fp32", Exact);
	let output = engine.run(model, &input("t5 t6"), &H256::zero()).unwrap();
	for slice in [1, 5, 100] {
		paid_by_slices(TokenStream::whole(output.clone(), slice), slice, &output).await;
	}
	let mut stream = TokenStream::whole(output.clone(), 0);
	assert!(futures::poll!(stream.next()).is_pending());
	stream.allow(2);
	assert_eq!(tokens(&mut stream, &output).await, Some(2));
	assert!(futures::poll!(stream.next()).is_pending());
	stream.allow(1);
	assert!(futures::poll!(stream.next()).is_pending());
	stream.allow(3);
	assert_eq!(tokens(&mut stream, &output).await, Some(1));
	let refused = Output::Unanswerable(Unanswerable::NotFinite);
	let mut stream = TokenStream::whole(refused.clone(), 1);
	assert_eq!(tokens(&mut stream, &refused).await, None);
}
