//! Text generation and the measurement of claimed answers, on language models too small to say anything.

use codec::Compact;
use consilience_engine::{Engine, EngineError, Part};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	model::NumericClass::{self, Exact, Tolerant},
	request::{
		FinishReason, FullInput, LogitsProcessing, Message, Output, Prompt, Role, Sampling,
		Unanswerable,
	},
	List,
};
use polkadot_sdk::sp_core::H256;
use proptest::prelude::*;

use crate::fixtures::{engine, load, CONTEXT, VOCABULARY};

const MODELS: [(&str, NumericClass); 5] = [
	("llama-fp32", Exact),
	("llama-int8", Exact),
	("llama-integer", Exact),
	("llama-hub", Tolerant),
	// Half precision all the way, and the operators that the hub's exporters write.
	("grouped-fp16", Tolerant),
];

fn question(text: &str, sampling: Sampling) -> FullInput {
	let prompt = Prompt::Text(text.as_bytes().to_vec().try_into().unwrap());
	FullInput::TextGeneration { prompt, sampling }
}

fn warm(max_tokens: u32) -> Sampling {
	Sampling {
		max_tokens,
		temperature: 1_000,
		..Default::default()
	}
}

fn seed(n: u8) -> H256 {
	H256::repeat_byte(n)
}

/// The parts of a textual answer.
fn parts(output: &Output) -> (Vec<u32>, String, FinishReason) {
	let Output::Text {
		tokens,
		text,
		finish,
	} = output
	else {
		panic!("tensors from text")
	};
	let tokens = tokens.iter().map(|Compact(t)| *t).collect();
	(tokens, String::from_utf8(text.to_vec()).unwrap(), *finish)
}

fn claim(tokens: &[u32], text: &str, finish: FinishReason) -> Output {
	Output::Text {
		tokens: List::try_from(tokens.iter().map(|t| Compact(*t)).collect::<Vec<_>>()).unwrap(),
		text: text.as_bytes().to_vec().try_into().unwrap(),
		finish,
	}
}

/// What tokens of the fixtures' tokenizer say.
fn words(tokens: &[u32]) -> String {
	let words: Vec<_> = tokens
		.iter()
		.filter(|t| **t > 1)
		.map(|t| format!("t{t}"))
		.collect();
	words.join(" ")
}

#[test]
fn honest_answers_have_no_margin() {
	let engine = engine();
	for (name, class) in MODELS {
		let model = load(&engine, name, class);
		for (n, sampling) in [
			(
				1,
				Sampling {
					max_tokens: 12,
					..Default::default()
				},
			),
			(2, warm(40)),
			(
				3,
				Sampling {
					top_p: 700,
					..warm(40)
				},
			),
			(
				4,
				Sampling {
					temperature: 300,
					..warm(1)
				},
			),
			// Over the edge of a block of the cache, more than once.
			(5, warm(300)),
		] {
			// More tokens than a challenge draws positions, however short the answer.
			let input = question(&"t5 t6 t7 ".repeat(5), sampling);
			let output = engine.run(model, &input, &seed(n)).unwrap();
			assert_eq!(output, engine.run(model, &input, &seed(n)).unwrap());
			let of = |challenge| {
				engine
					.measure(model, &input, &seed(n), Some(&output), &challenge)
					.unwrap()
			};
			let evidence = of(seed(9));
			assert_eq!(
				evidence.verdict,
				Verdict::default(),
				"{name} {n}: {output:?}"
			);
			assert!(evidence.is_of(class));
			assert_eq!(evidence, of(seed(9)));
			assert_ne!(evidence.fingerprint, of(seed(10)).fingerprint);
		}
	}
}

#[test]
fn another_seed_gives_another_answer_and_is_found() {
	let engine = engine();
	let model = load(&engine, "llama-fp32", Exact);
	let input = question("t5 t6", warm(40));
	let output = engine.run(model, &input, &seed(1)).unwrap();
	assert_ne!(output, engine.run(model, &input, &seed(2)).unwrap());
	let evidence = engine
		.measure(model, &input, &seed(2), Some(&output), &seed(9))
		.unwrap();
	assert!(evidence.verdict.deviations > 5, "{:?}", evidence.verdict);
	// Sold as sampled at temperature one, and written at another.
	let cold = question(
		"t5 t6",
		Sampling {
			temperature: 0,
			..warm(40)
		},
	);
	let output = engine.run(model, &cold, &seed(1)).unwrap();
	let evidence = engine
		.measure(model, &input, &seed(1), Some(&output), &seed(9))
		.unwrap();
	assert!(evidence.verdict.margin_max > 0);
}

#[test]
fn one_changed_token_is_found_and_measured() {
	let engine = engine();
	for (name, class) in MODELS {
		let model = load(&engine, name, class);
		let input = question("t5 t6", warm(20));
		let (mut tokens, _, finish) = parts(&engine.run(model, &input, &seed(3)).unwrap());
		let last = tokens.len() - 1;
		tokens[last] = if tokens[last] == 9 { 10 } else { 9 };
		let finish = if finish == FinishReason::EndOfText {
			FinishReason::StopString
		} else {
			finish
		};
		let claimed = claim(&tokens, &words(&tokens), finish);
		let verdict = engine
			.measure(model, &input, &seed(3), Some(&claimed), &seed(9))
			.unwrap()
			.verdict;
		assert!(verdict.margin_max > 0, "{name}");
		if finish == FinishReason::Length {
			assert_eq!(verdict.deviations, 1, "{name}");
			assert!(verdict.margin_max < u32::MAX);
			// The mean over so many positions, the others being zero.
			let mean = verdict
				.margin_max
				.min(16 << 16)
				.div_ceil(tokens.len() as u32);
			assert!(verdict.margin_mean.abs_diff(mean) <= 1, "{verdict:?}");
		}
	}
}

#[test]
fn what_no_model_could_have_said_is_beyond_every_margin() {
	let engine = engine();
	let model = load(&engine, "llama-fp32", Exact);
	let stop = List::try_from(vec![b"t9".to_vec().try_into().unwrap()]).unwrap();
	let input = question("t5 t6", Sampling { stop, ..warm(4) });
	let verdict = |tokens: &[u32], text: &str, finish| -> Verdict {
		let claimed = claim(tokens, text, finish);
		engine
			.measure(model, &input, &seed(3), Some(&claimed), &seed(9))
			.unwrap()
			.verdict
	};
	use FinishReason::*;
	for (what, tokens, text, finish) in [
		("no tokens", vec![], "", Length),
		(
			"a token outside the vocabulary",
			vec![5, 6, 7, VOCABULARY],
			"t5 t6 t7",
			Length,
		),
		("another text", vec![5, 6, 7, 8], "t5 t6 t7 t7", Length),
		("cut short", vec![5, 6, 7], "t5 t6 t7", Length),
		("too long", vec![5, 6, 7, 8, 10], "t5 t6 t7 t8 t10", Length),
		(
			"goes on after the end of text",
			vec![5, 1, 7, 8],
			"t5 t7 t8",
			Length,
		),
		(
			"an end of text that is none",
			vec![5, 6],
			"t5 t6",
			EndOfText,
		),
		(
			"an end of text called something else",
			vec![5, 1],
			"t5",
			Length,
		),
		(
			"goes on after a stop string",
			vec![5, 9, 7, 8],
			"t5 t9 t7 t8",
			Length,
		),
		(
			"a stop string called something else",
			vec![5, 9],
			"t5 ",
			EndOfText,
		),
		(
			"a stop string that is not cut",
			vec![5, 9],
			"t5 t9",
			StopString,
		),
		(
			"stopped without a stop string",
			vec![5, 6],
			"t5 t6",
			StopString,
		),
	] {
		assert_eq!(
			verdict(&tokens, text, finish).margin_max,
			u32::MAX,
			"{what}"
		);
	}
	for (what, tokens, text, finish) in [
		("the end of text", vec![5, 1], "t5", EndOfText),
		("a stop string", vec![5, 9], "t5 ", StopString),
		("the length", vec![5, 6, 7, 8], "t5 t6 t7 t8", Length),
	] {
		assert_ne!(
			verdict(&tokens, text, finish).margin_max,
			u32::MAX,
			"possible: {what}"
		);
	}
}

#[test]
fn answers_end_where_they_should() {
	let engine = engine();
	let model = load(&engine, "llama-int8", Exact);
	let mut seen = [false; 3];
	for n in 0..60 {
		let stop = List::try_from(vec![b"t9".to_vec().try_into().unwrap()]).unwrap();
		let input = question("t5 t6", Sampling { stop, ..warm(30) });
		let output = engine.run(model, &input, &seed(n)).unwrap();
		let (tokens, text, finish) = parts(&output);
		// Cut where the stop string begins.
		let said = words(&tokens);
		assert_eq!(text, said.split("t9").next().unwrap());
		assert!(tokens.len() <= 30);
		let (last, before) = tokens.split_last().unwrap();
		assert!(!before.contains(&1), "{tokens:?}");
		match finish {
			FinishReason::EndOfText => assert_eq!(*last, 1),
			FinishReason::StopString => assert!(said.contains("t9")),
			FinishReason::Length => assert_eq!(tokens.len(), 30),
		}
		assert!(!words(before).contains("t9"));
		seen[finish as usize] = true;
		let measured = engine
			.measure(model, &input, &seed(n), Some(&output), &seed(9))
			.unwrap();
		assert_eq!(measured.verdict, Verdict::default(), "{tokens:?}");
	}
	assert_eq!(seen, [true; 3], "sixty answers show all three ends");
}

#[test]
fn the_two_exact_ways_agree_and_the_tolerant_one_is_near() {
	// The hub's export and the canonical graph are one model: their answers are the same, their numbers nearly so.
	let engine = engine();
	let exact = load(&engine, "llama-fp32", Exact);
	let hub = load(&engine, "llama-hub", Tolerant);
	let input = question(&"t5 t6 t7 ".repeat(5), warm(60));
	let output = engine.run(exact, &input, &seed(1)).unwrap();
	assert_eq!(output, engine.run(hub, &input, &seed(1)).unwrap());
	let measured = engine
		.measure(hub, &input, &seed(1), Some(&output), &seed(9))
		.unwrap();
	assert!(measured.verdict.margin_max <= 66, "{measured:?}");
	let Fingerprint::Values { values, .. } = measured.fingerprint else {
		panic!("tolerant")
	};
	// Eight positions, two entries each.
	assert_eq!(values.len(), 16);
}

#[test]
fn chats_go_through_the_template() {
	let engine = engine();
	let model = load(&engine, "llama-fp32", Exact);
	let message = |role, content: &str| Message {
		role,
		content: content.as_bytes().to_vec().try_into().unwrap(),
	};
	let messages = vec![message(Role::System, "t5"), message(Role::User, "t6 t7")];
	let chat = FullInput::TextGeneration {
		prompt: Prompt::Chat(messages.try_into().unwrap()),
		sampling: warm(10),
	};
	let text = question("t5 t2 t6 t7 t2", warm(10));
	assert_eq!(
		engine.run(model, &chat, &seed(1)).unwrap(),
		engine.run(model, &text, &seed(1)).unwrap()
	);
}

#[test]
fn what_cannot_be_answered_is_refused() {
	let engine = engine();
	let model = load(&engine, "llama-fp32", Exact);
	let refused = |input: &FullInput| match engine.run(model, input, &seed(1)) {
		Err(EngineError::Input(why) | EngineError::Unanswerable(_, why)) => why,
		other => panic!("{other:?}"),
	};
	// By what anybody can find again.
	let unanswerable = |input: &FullInput| match engine.run(model, input, &seed(1)) {
		Err(EngineError::Unanswerable(code, why)) => (code, why),
		other => panic!("{other:?}"),
	};
	let (code, long) = unanswerable(&question("t5 t6", warm(CONTEXT - 1)));
	assert_eq!(code, Unanswerable::PromptTooLong);
	assert!(long.contains("context of 384"), "{long}");
	engine
		.run(
			model,
			&question(
				"t5 t6",
				Sampling {
					temperature: 0,
					..warm(4)
				},
			),
			&seed(1),
		)
		.unwrap();
	assert!(refused(&question("t5", warm(0))).contains("zero"));
	let (code, none) = unanswerable(&question("   ", warm(1)));
	assert_eq!(code, Unanswerable::GraphRefused);
	assert!(none.contains("no tokens"), "{none}");
	let bytes = Prompt::Text(vec![0xff, 0xfe].try_into().unwrap());
	let why = refused(&FullInput::TextGeneration {
		prompt: bytes,
		sampling: warm(1),
	});
	assert!(why.contains("UTF-8"), "{why}");
	let why = engine.measure(model, &question("t5", warm(1)), &seed(1), None, &seed(1));
	assert!(matches!(why, Err(EngineError::Input(_))), "{why:?}");
}

#[test]
fn the_reference_is_reproduced() {
	for (name, class) in MODELS {
		let first = engine();
		let model = load(&first, name, class);
		let (output, evidence) = first.reference(model).unwrap();
		assert!(output.units() <= 8);
		assert_eq!(evidence.verdict, Verdict::default());
		let second = engine();
		let again: (Output, Evidence) = second.reference(load(&second, name, class)).unwrap();
		assert_eq!((output, evidence), again, "{name}");
	}
}

#[test]
fn answers_and_evidence_do_not_depend_on_company() {
	for (name, class) in MODELS {
		let alone = engine();
		let model = load(&alone, name, class);
		let inputs: Vec<_> = (0..12u8)
			.map(|n| {
				let text = ["t5 t6", "t7 t8 t9 t20 "].map(|t| t.repeat(1 + usize::from(n) * 3));
				question(&text[usize::from(n % 2)], warm(20 + u32::from(n) * 8))
			})
			.collect();
		let ask = |engine: &Engine, n: u8| {
			let input = &inputs[usize::from(n)];
			let output = engine.run(model, input, &seed(n)).unwrap();
			let evidence = engine
				.measure(model, input, &seed(n), Some(&output), &seed(9))
				.unwrap();
			(output, evidence)
		};
		let expected: Vec<_> = (0..12).map(|n| ask(&alone, n)).collect();
		let crowded = engine();
		load(&crowded, name, class);
		let start = std::sync::Barrier::new(12);
		let together: Vec<_> = std::thread::scope(|scope| {
			let ask = |n| {
				start.wait();
				ask(&crowded, n)
			};
			let threads: Vec<_> = (0..12).map(|n| scope.spawn(move || ask(n))).collect();
			threads.into_iter().map(|t| t.join().unwrap()).collect()
		});
		if class == Exact {
			assert_eq!(together, expected, "{name}");
		}
		// The pieces in which a text is fed show in the last bits of the tolerant model.
		for (_, evidence) in &together {
			assert!(evidence.verdict.margin_max <= 66, "{name}: {evidence:?}");
		}
		let statistics = crowded.statistics();
		let [of] = &statistics.texts[..] else {
			panic!("{statistics:?}")
		};
		assert_eq!(
			(of.0, of.1.first_tokens, of.1.waiting, of.1.writing),
			(model, 12, 0, 0)
		);
		if class == Exact {
			assert!(
				of.1.answer_tokens > of.1.steps,
				"some were written together: {of:?}"
			);
			// Every answer was measured after it was written.
			assert!(of.1.reuses > 0 && of.1.reused_tokens > 0, "{of:?}");
		} else {
			assert_eq!(of.1.answer_tokens, of.1.steps, "each on its own: {of:?}");
			assert_eq!(of.1.reuses, 0, "nothing is shared: {of:?}");
		}
	}
}

#[test]
fn parts_are_the_evidence_of_shorter_answers() {
	let engine = engine();
	for (name, class) in MODELS {
		let model = load(&engine, name, class);
		let input = |max_tokens| question(&"t5 t6 t7 ".repeat(5), warm(max_tokens));
		let output = engine.run(model, &input(40), &seed(5)).unwrap();
		let (tokens, _, _) = parts(&output);
		assert_eq!(tokens.len(), 40);
		// A token that the model did not say, to have margins to compare.
		let mut claimed = tokens;
		claimed[20] = 2 + (claimed[20] + 1) % 60;
		let lengths = [1, 8, 20, 21, 40];
		let asked: Vec<_> = lengths
			.into_iter()
			.map(|n| Part {
				tokens: Some(n),
				challenge: seed(n as u8),
			})
			.collect();
		let of = |n: usize| claim(&claimed[..n], &words(&claimed[..n]), FinishReason::Length);
		let found = engine
			.measure_parts(model, &input(40), &seed(5), Some(&of(40)), &asked)
			.unwrap();
		assert_eq!(found.len(), lengths.len());
		for (n, found) in lengths.into_iter().zip(found) {
			let alone = engine
				.measure(
					model,
					&input(n),
					&seed(5),
					Some(&of(n as usize)),
					&seed(n as u8),
				)
				.unwrap();
			if class == Exact {
				assert_eq!(found, alone, "{name} {n}");
			}
			assert_eq!(found.verdict.margin_max > 0, n > 20, "{name} {n}");
			assert!(
				found
					.verdict
					.margin_mean
					.abs_diff(alone.verdict.margin_mean)
					<= 66,
				"{name} {n}"
			);
		}
	}
}

prop_compose! {
	/// Every way of choosing that a request may ask for.
	fn any_sampling()(
		max_tokens in 1u32..60,
		temperature in prop_oneof![1 => Just(0u16), 4 => 1u16..=2_000],
		top_p in prop_oneof![Just(1_000u16), 1u16..=1_000],
		top_k in prop_oneof![Just(0u16), 1u16..80],
		min_p in prop_oneof![Just(0u16), 1u16..=1_000],
		repetition_penalty in prop_oneof![Just(1_000u16), 500u16..=2_000],
		presence_penalty in prop_oneof![Just(0i16), -2_000i16..=2_000],
		frequency_penalty in prop_oneof![Just(0i16), -2_000i16..=2_000],
		biases in prop::collection::btree_map(0..VOCABULARY + 2, -100_000i32..=100_000, 0..16),
	) -> Sampling {
		let processing = LogitsProcessing {
			top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty,
			logit_bias: biases.into_iter().collect::<Vec<_>>().try_into().unwrap(),
		};
		Sampling { max_tokens, temperature, top_p, processing: processing.compact(), ..Default::default() }
	}
}

/// Tokens that are fed for the checks of an engine's only model, and those that others had fed before.
fn checked(engine: &Engine) -> u64 {
	let statistics = engine.statistics();
	let [(_, of)] = &statistics.texts[..] else {
		panic!("{statistics:?}")
	};
	of.check_tokens + of.reused_tokens
}

#[test]
fn every_way_of_choosing_is_replayed_in_one_pass() {
	for (name, class) in MODELS {
		let engine = engine();
		let model = load(&engine, name, class);
		let prompts = [("t20 t21 t22 t23", 4), ("t30 t31", 2)];
		let config = ProptestConfig::with_cases(40);
		proptest!(config, |(sampling in any_sampling(), n: u8, which in 0usize..2)| {
			let (text, prompt) = prompts[which];
			let input = question(text, sampling);
			let output = engine.run(model, &input, &seed(n)).unwrap();
			let before = checked(&engine);
			let evidence = engine.measure(model, &input, &seed(n), Some(&output), &seed(9)).unwrap();
			// The prompt and the answer without its last token, once.
			prop_assert_eq!(checked(&engine) - before, prompt + u64::from(output.units()) - 1);
			prop_assert_eq!(evidence.verdict, Verdict::default(), "{}: {:?}", name, output);
			prop_assert!(evidence.is_of(class));
		});
	}
}

#[test]
fn a_lie_under_penalties_is_found() {
	let engine = engine();
	let processing = LogitsProcessing {
		top_k: 40,
		min_p: 20,
		repetition_penalty: 1_200,
		presence_penalty: 500,
		frequency_penalty: 500,
		logit_bias: vec![(1, -100_000), (30, 1_000)].try_into().unwrap(),
	};
	for (name, class) in MODELS {
		let model = load(&engine, name, class);
		let asked = |processing: Option<LogitsProcessing>| {
			question(
				"t20 t21 t20",
				Sampling {
					processing,
					..warm(30)
				},
			)
		};
		let input = asked(Some(processing.clone()));
		let measure = |claimed: &Output| {
			let evidence = engine.measure(model, &input, &seed(4), Some(claimed), &seed(9));
			evidence.unwrap().verdict
		};
		let right = engine.run(model, &input, &seed(4)).unwrap();
		assert_eq!(measure(&right), Verdict::default());
		let (tokens, _, finish) = parts(&right);
		assert_eq!(
			(tokens.len(), finish),
			(30, FinishReason::Length),
			"its end was forbidden"
		);
		// Any of the tokens exchanged: by itself, and for what it does to the penalties of those behind it.
		for i in [0, 7, 29] {
			let mut tokens = tokens.clone();
			tokens[i] = 2 + (tokens[i] + 1) % 60;
			let verdict = measure(&claim(&tokens, &words(&tokens), finish));
			assert!(
				verdict.margin_max > 0 && verdict.deviations > 0,
				"{name} {i}: {verdict:?}"
			);
		}
		// Sold with one of them, and written without it. Where that says what it should have said, nobody is harmed.
		let said = parts(&right).0;
		let mut found = 0;
		for (left_out, change) in [
			(
				"all",
				(|_| LogitsProcessing::default()) as fn(LogitsProcessing) -> LogitsProcessing,
			),
			("repetition", |p| LogitsProcessing {
				repetition_penalty: 1_000,
				..p
			}),
			("presence", |p| LogitsProcessing {
				presence_penalty: 0,
				..p
			}),
			("frequency", |p| LogitsProcessing {
				frequency_penalty: 0,
				..p
			}),
		] {
			let cheap = asked(change(processing.clone()).compact());
			let (tokens, _, _) = parts(&engine.run(model, &cheap, &seed(4)).unwrap());
			// As long as it should be, whatever it says.
			let mut tokens: Vec<_> = tokens.into_iter().filter(|t| *t > 1).collect();
			tokens.resize(30, 20);
			let verdict = measure(&claim(&tokens, &words(&tokens), finish));
			let differs = tokens != said;
			assert_eq!(verdict.deviations > 0, differs, "{name}: {left_out}");
			found += u32::from(differs);
		}
		assert!(found > 0, "{name}: none of them changes anything");
	}
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
	let engine = engine();
	let model = load(&engine, "llama-fp32", Exact);
	let processing = Some(LogitsProcessing {
		repetition_penalty: 0,
		..Default::default()
	});
	let input = question(
		"t5",
		Sampling {
			processing,
			..warm(1)
		},
	);
	let Err(EngineError::Input(why)) = engine.run(model, &input, &seed(1)) else {
		panic!("it has no meaning")
	};
	assert!(why.contains("repetition_penalty"), "{why}");
}
