//! Models come into memory and go, within a bound.

use std::{
	path::Path,
	sync::atomic::{AtomicBool, Ordering},
};

use consilience_engine::{Engine, EngineConfig, EngineError};
use consilience_primitives::{
	model::NumericClass::{self, Exact, Tolerant},
	request::{FullInput, Output, Prompt, Sampling},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use crate::fixtures::{self, folder};

const MODELS: [(&str, NumericClass); 3] = [
	("llama-fp32", Exact),
	("llama-int8", Exact),
	("llama-hub", Tolerant),
];

/// Bytes of a fixture's files.
pub(crate) fn bytes(name: &str) -> u64 {
	let size = |file: &str| std::fs::metadata(folder(name).join(file)).unwrap().len();
	["model.onnx", "model.onnx_data", "tokenizer.json"]
		.map(size)
		.iter()
		.sum()
}

fn engine(bytes: u64) -> Engine {
	let config = EngineConfig {
		threads: 1,
		models_bytes: Some(bytes),
		..Default::default()
	};
	Engine::new(config).expect("the tests need ONNX Runtime: run ./scripts/setup")
}

fn ask(engine: &Engine, model: ModelId) -> Output {
	let input = FullInput::TextGeneration {
		prompt: Prompt::Text(b"t5 t6".to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 20,
			..Default::default()
		},
	};
	engine.run(model, &input, &H256::zero()).unwrap()
}

/// Models in memory, and how often one was brought there.
fn memory(engine: &Engine) -> (u32, u64, u64) {
	let s = engine.statistics();
	(s.in_memory, s.loads, s.bytes)
}

#[test]
fn who_was_asked_least_recently_goes_and_comes_back() {
	let sizes = MODELS.map(|(name, _)| bytes(name));
	let all: u64 = sizes.iter().sum();
	// One byte too few for all.
	let engine = engine(all - 1);
	let [a, b, c] = MODELS.map(|(name, class)| fixtures::load(&engine, name, class));
	assert_eq!(
		memory(&engine),
		(2, 3, sizes[1] + sizes[2]),
		"the first went"
	);
	assert_eq!(engine.loaded().len(), 3, "and can still be asked");
	let answer = ask(&engine, b);
	assert_eq!(memory(&engine).1, 3, "it was there");
	ask(&engine, a);
	assert_eq!(
		memory(&engine),
		(2, 4, sizes[0] + sizes[1]),
		"the third went, the second was asked later"
	);
	ask(&engine, c);
	assert_eq!(memory(&engine), (2, 5, sizes[0] + sizes[2]));
	assert_eq!(ask(&engine, b), answer);
	let statistics = engine.statistics();
	let of_b = statistics.texts.iter().find(|(id, _)| *id == b).unwrap().1;
	assert_eq!(
		of_b.first_tokens, 2,
		"the count outlives the time in memory"
	);
	engine.unload(b);
	assert_eq!(engine.loaded().len(), 2);
}

#[test]
fn many_who_want_different_models_all_get_theirs() {
	// Room for one, and three are wanted all the time.
	let largest = MODELS
		.map(|(name, _)| bytes(name))
		.into_iter()
		.max()
		.unwrap();
	let engine = engine(largest);
	let models = MODELS.map(|(name, class)| fixtures::load(&engine, name, class));
	let expected = models.map(|model| ask(&engine, model));
	std::thread::scope(|scope| {
		for n in 0..6 {
			let (engine, expected) = (&engine, &expected);
			scope.spawn(move || {
				for i in 0..8 {
					let which = (n + i) % 3;
					assert_eq!(ask(engine, models[which]), expected[which]);
				}
			});
		}
	});
	let (in_memory, loads, bytes) = memory(&engine);
	assert_eq!(in_memory, 1);
	assert!(
		bytes <= largest && loads > 6,
		"{loads} loads, {bytes} bytes"
	);
}

#[test]
fn a_model_that_is_always_asked_does_not_keep_another_out() {
	let largest = MODELS
		.map(|(name, _)| bytes(name))
		.into_iter()
		.max()
		.unwrap();
	let engine = engine(largest);
	let [often, _, seldom] = MODELS.map(|(name, class)| fixtures::load(&engine, name, class));
	let answered = AtomicBool::new(false);
	std::thread::scope(|scope| {
		// So many that one is always running.
		for _ in 0..4 {
			scope.spawn(|| {
				while !answered.load(Ordering::Relaxed) {
					ask(&engine, often);
				}
			});
		}
		for _ in 0..3 {
			ask(&engine, seldom);
		}
		answered.store(true, Ordering::Relaxed);
	});
}

#[test]
fn a_model_that_never_fits_is_refused() {
	let engine = engine(bytes("llama-fp32") - 1);
	let refused = engine.load_manifest(&folder("llama-fp32"), fixtures::text("llama-fp32", Exact));
	let Err(EngineError::Load { path, why }) = refused else {
		panic!("{refused:?}")
	};
	assert_eq!(Path::new(&path), folder("llama-fp32"));
	assert!(why.contains("allow more"), "{why}");
	assert!(engine.loaded().is_empty());
}
