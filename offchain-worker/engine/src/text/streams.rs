//! Answers that are given as they are written: what their tokens say so far, and how they pause.

use std::time::{Duration, Instant};

use consilience_primitives::request::Sampling;
use proptest::prelude::*;
use serde_json::{json, Value};

use super::{
	batch::{Batch, Bounds, Work},
	prompts::{bytes, model, pieces, stops, texts, tokenizer, words, SPECIAL},
	schedules::{add_with, asked, batch, bounds},
	stop::Transcript,
	LanguageModel,
};
use crate::{ticket::Ticket, EngineError};

/// A tokenizer of characters and, where it has none, bytes, as Llama's.
fn fallback() -> Value {
	let mut vocabulary = serde_json::Map::new();
	let mut put = |token: String| {
		let next = vocabulary.len();
		vocabulary.insert(token, json!(next));
	};
	put("<unk>".into());
	(0..=255u8).for_each(|b| put(format!("<0x{b:02X}>")));
	("▁abcdefghijklmnopqrstuvwxyz.!")
		.chars()
		.for_each(|c| put(c.into()));
	json!({
		"version": "1.0", "truncation": null, "padding": null,
		"added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true}],
		"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
		"pre_tokenizer": null, "post_processor": null,
		"decoder": {"type": "Sequence", "decoders": [
			{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
			{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
		"model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
			"end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary, "merges": []},
	})
}

/// What is shown after each of these tokens, and what the answer of those up to a stop string says.
fn shown(model: &LanguageModel, tokens: &[u32], sampling: &Sampling) -> (Vec<String>, String) {
	let mut transcript = Transcript::new(&model.tokens, sampling);
	let mut shown = Vec::new();
	for token in tokens {
		transcript.push(&model.tokens, *token).unwrap();
		shown.push(transcript.certain().to_owned());
		if transcript.stopped() {
			break;
		}
	}
	let text = model.text(&tokens[..shown.len()], sampling).unwrap();
	(shown, text)
}

#[test]
fn nothing_is_taken_back() {
	let tokenizers = [
		bytes(&[("h", "e"), ("o", "k")], &SPECIAL, Value::Null),
		pieces("always"),
		words(),
		fallback(),
	];
	for tokenizer in tokenizers.iter().map(tokenizer) {
		let size = tokenizer.get_vocab_size(true) as u32;
		let model = model(tokenizer, &[]);
		// Tokens that make texts, and any; stop strings that stand in what they say, and such that only begin there.
		let said = prop_oneof![
			prop::sample::select(texts()).prop_map(|text| {
				let encoded = model.tokens.library().encode(text.as_str(), false);
				encoded.unwrap().get_ids().to_vec()
			}),
			prop::collection::vec(0..size, 0..40),
		];
		let stop = (
			any::<prop::sample::Index>(),
			1usize..12,
			prop::option::of("[a-z ]{1,3}"),
		);
		let drawn = (said, prop::collection::vec(stop, 0..4));
		proptest!(ProptestConfig::with_cases(300), |((tokens, drawn) in drawn)| {
			let whole = model.text(&tokens, &stops(&[])).unwrap();
			let characters: Vec<char> = whole.chars().chain("<s>".chars()).collect();
			let stop = |(at, n, more): (prop::sample::Index, usize, Option<String>)| {
				let some = characters.iter().skip(at.index(characters.len())).take(n);
				let mut stop: String = some.collect();
				stop.extend(more);
				stop
			};
			let list: Vec<String> = drawn.into_iter().map(stop).collect();
			let list: Vec<&str> = list.iter().map(String::as_str).collect();
			let (shown, text) = shown(&model, &tokens, &stops(&list));
			for (before, after) in shown.iter().zip(shown.iter().skip(1)) {
				prop_assert!(after.starts_with(before.as_str()), "{before:?} {after:?}");
			}
			let last = shown.last().map_or("", |last| last);
			prop_assert!(text.starts_with(last), "{last:?} {text:?}");
		});
	}
}

#[test]
fn what_is_certain_is_shown_at_once() {
	let tokenizer = tokenizer(&bytes(&[("o", "k")], &SPECIAL, Value::Null));
	let tokens = tokenizer.encode("ok 🦀 oko", false).unwrap();
	let end = tokenizer.token_to_id("<|im_end|>").unwrap();
	let mut tokens = tokens.get_ids().to_vec();
	let model = model(tokenizer, &[]);
	let after = |tokens: &[u32], stop: &[&str]| shown(&model, tokens, &stops(stop)).0;
	let crab = ["ok ", "ok ", "ok ", "ok 🦀"];
	let expected = [
		&["ok", "ok "][..],
		&crab[1..],
		&["ok 🦀", "ok 🦀 ", "ok 🦀 ok", "ok 🦀 oko"],
	];
	let all = after(&tokens, &[]);
	assert_eq!(all[..2], expected[0][..]);
	assert_eq!(
		all[2..5],
		["ok ", "ok ", "ok "],
		"three bytes are no character"
	);
	assert_eq!(all[5..], expected[2][..]);
	// Held back: all that begins a stop string, and no more than that.
	assert_eq!(
		after(&tokens, &["k "]),
		["o", "o"],
		"the end is cut from it"
	);
	let held = after(&tokens, &["okok", "x"]);
	assert_eq!(held[0], "");
	assert_eq!(held[1], "ok ");
	assert_eq!(held[held.len() - 2..], ["ok 🦀 ", "ok 🦀 "]);
	// A special token is not shown, and ends what was held back.
	tokens.push(end);
	let held = after(&tokens, &["o<|im_end|>", "y"]);
	assert_eq!(held[held.len() - 3..], ["ok 🦀 ok", "ok 🦀 ok", "ok 🦀 ok"]);
	let held = after(&tokens, &["o<|im_end|>!"]);
	assert_eq!(held.last().unwrap(), "ok 🦀 ok");
}

/// Does everything there is to do now.
fn run(batch: &mut Batch) {
	batch.resume();
	while let Some(work) = Work::ALL.into_iter().find(|w| batch.has(*w)) {
		batch.step(work, 32);
	}
	batch.reply();
}

/// A question whose answer is long.
fn long() -> super::schedules::Job {
	let mut job = asked((0..100).map(|i| 20 + i * 7 % 44).collect(), 60);
	job.temperature = 2_000;
	job
}

#[test]
fn an_answer_that_pauses_holds_up_no_other_and_goes_on_with_the_same_bits() {
	let (model, alone, mut batch) = batch(|_| Bounds {
		answers: 1,
		..bounds(0)
	});
	let ticket = Ticket::default().allowing(3);
	let (paused, expected) = add_with(&mut batch, &model, &alone, &long(), ticket.clone());
	run(&mut batch);
	assert_eq!((batch.paused(), batch.decoding()), (1, 0));
	// It has no place, and needs none.
	let short = asked(vec![20; 5], 20);
	let (other, answer) = add_with(&mut batch, &model, &alone, &short, Ticket::default());
	run(&mut batch);
	assert_eq!(other.try_recv().unwrap(), Ok(answer));
	assert!(paused.try_recv().is_err());
	// It waits for a place like others, behind those that came before.
	let (other, answer) = add_with(&mut batch, &model, &alone, &short, Ticket::default());
	ticket.allow(5);
	batch.resume();
	assert_eq!((batch.paused(), batch.waiting()), (0, 1));
	run(&mut batch);
	assert_eq!(other.try_recv().unwrap(), Ok(answer));
	assert_eq!((batch.paused(), batch.waiting()), (1, 0));
	// Less than before changes nothing.
	ticket.allow(2);
	run(&mut batch);
	assert_eq!(batch.paused(), 1);
	ticket.allow(u32::MAX);
	run(&mut batch);
	assert_eq!(paused.try_recv().unwrap(), Ok(expected));
}

#[test]
fn nothing_is_computed_before_anything_is_allowed() {
	let (model, alone, mut batch) = batch(|_| bounds(0));
	let ticket = Ticket::default().allowing(0);
	let (paused, expected) = add_with(&mut batch, &model, &alone, &long(), ticket.clone());
	assert!(Work::ALL.into_iter().all(|w| !batch.has(w)));
	assert_eq!((batch.paused(), batch.fed_again()), (1, 0));
	ticket.allow(1);
	run(&mut batch);
	assert_eq!((batch.paused(), batch.decoding()), (1, 0));
	ticket.allow(u32::MAX);
	run(&mut batch);
	assert_eq!(paused.try_recv().unwrap(), Ok(expected));
}

#[test]
fn who_pauses_gives_way_where_memory_is_short_and_is_fed_again() {
	// Room for one text of two blocks.
	let (model, alone, mut batch) = batch(|layout| Bounds {
		cache_bytes: layout.bytes(256),
		..bounds(0)
	});
	let ticket = Ticket::default().allowing(40);
	let (paused, expected) = add_with(&mut batch, &model, &alone, &long(), ticket.clone());
	run(&mut batch);
	assert_eq!((batch.paused(), batch.fed_again()), (1, 0));
	let other = asked(vec![21; 200], 20);
	let (other, answer) = add_with(&mut batch, &model, &alone, &other, Ticket::default());
	assert_eq!(batch.fed_again(), 1, "both would be more than there may be");
	run(&mut batch);
	assert_eq!(other.try_recv().unwrap(), Ok(answer));
	ticket.allow(u32::MAX);
	batch.resume();
	assert!(batch.has(Work::Prompt), "it is fed again");
	run(&mut batch);
	assert_eq!(paused.try_recv().unwrap(), Ok(expected));
}

#[test]
fn who_pauses_is_dropped_when_nobody_waits_any_more() {
	let (model, alone, mut batch) = batch(|_| bounds(0));
	let late = Instant::now() + Duration::from_secs(3_600);
	let tickets = [Some(late), Some(late + Duration::from_secs(1)), None]
		.map(|at| Ticket::until(at).allowing(2));
	let replies = tickets
		.each_ref()
		.map(|ticket| add_with(&mut batch, &model, &alone, &long(), ticket.clone()).0);
	run(&mut batch);
	assert_eq!((batch.paused(), batch.deadline()), (3, Some(late)));
	tickets[0].cancel();
	assert!(batch.drop_cancelled());
	batch.reply();
	assert_eq!(replies[0].try_recv().unwrap(), Err(EngineError::Cancelled));
	assert_eq!(batch.paused(), 2);
	assert!(batch.deadline() > Some(late));
	batch.fail(&EngineError::Busy);
	batch.reply();
	assert_eq!(replies[2].try_recv().unwrap(), Err(EngineError::Busy));
	assert_eq!(batch.paused(), 0);
}
