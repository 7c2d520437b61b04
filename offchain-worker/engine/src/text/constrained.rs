//! Constrained answers: what one pass over an answer finds of those that follow their constraint, and of those that do not.

use std::time::Instant;

use codec::Compact;
use consilience_primitives::{
	evidence::{Evidence, Verdict},
	model::{Bounds, NumericClass, VerificationPolicy},
	request::{
		Constraint, ConstraintForm, FinishReason, FullInput, LogitsProcessing, Output, Prompt,
		Sampling, Unanswerable,
	},
	List,
};
use polkadot_sdk::sp_core::H256;
use serde_json::{json, Value};

use super::{
	batch::Bounds as Most,
	exactness::{Model, Run},
	generate::Writer,
	measure::Part,
	prompts::tokenizer,
	scheduler::Scheduler,
	schedules::open,
	tokens::Tokens,
	LanguageModel,
};
use crate::{session::Graph, EngineError};

const NAMES: &str = r#"{"type": "object", "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150},
	"name": {"type": "string", "maxLength": 6}, "ok": {"type": "boolean"}}, "required": ["age", "name", "ok"], "additionalProperties": false}"#;

/// The vocabulary of the smallest graphs: characters of JSON, and some words of it.
fn characters() -> Value {
	let mut vocabulary = serde_json::Map::new();
	let mut put = |token: &str| {
		let next = vocabulary.len();
		vocabulary.insert(token.into(), json!(next));
	};
	put("<s>");
	put("</s>");
	"{}[]\":,Ġ-.0123456789abcdefghijklmnopqrstuvwxyz"
		.chars()
		.for_each(|c| put(&c.to_string()));
	let merges = [
		("t", "r"),
		("o", "k"),
		("{", "\""),
		("\"", ":"),
		("\":", "Ġ"),
		(",", "Ġ"),
		("n", "a"),
		("m", "e"),
		("na", "me"),
		("1", "5"),
	];
	merges.iter().for_each(|(a, b)| put(&format!("{a}{b}")));
	let special = |id: u32, content: &str| {
		json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true})
	};
	let merges: Vec<_> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
	json!({
		"version": "1.0", "truncation": null, "padding": null,
		"added_tokens": [special(0, "<s>"), special(1, "</s>")], "normalizer": null,
		"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
		"post_processor": null,
		"decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
		"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
			"end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges},
	})
}

/// A graph with random weights, which says anything.
fn small() -> (LanguageModel, Graph) {
	let (graph, layout) = open("llama-fp32", 1, "disable");
	let model = LanguageModel {
		tokens: Tokens::new(tokenizer(&characters()), &[1], None).unwrap(),
		template: None,
		eos: vec![1],
		context: 200,
		layout,
		vocabulary: Default::default(),
	};
	(model, graph)
}

fn constraint(form: ConstraintForm, text: &str) -> Constraint {
	Constraint::new(form, text).unwrap()
}

fn asked(sampling: &Sampling, constraint: Option<Constraint>) -> FullInput {
	let prompt = Prompt::Text(b"say".to_vec().try_into().unwrap());
	FullInput::text(prompt, sampling.clone(), constraint)
}

/// The answer, token by token.
fn write(
	(model, graph): (&LanguageModel, &Graph),
	input: &FullInput,
	seed: &H256,
) -> Result<Output, EngineError> {
	let layout = &model.layout;
	let asked = model.question(input)?;
	let mut writer = Writer::new(model, &asked, seed)?;
	let mut cache = layout.empty(graph, asked.most())?;
	let mut logits = layout.step(graph, &mut cache, &asked.prompt)?;
	loop {
		let last = &logits[logits.len() - layout.vocabulary..];
		if let Some((tokens, finish)) = writer.see(model, cache.lengths()[0] - 1, last)? {
			return model.output(&tokens, finish, asked.sampling);
		}
		let next = *writer.tokens().last().unwrap();
		logits = layout.step(graph, &mut cache, &[next])?;
	}
}

fn policy(class: NumericClass, accept: u32, fraud: u32) -> VerificationPolicy {
	let bounds = |margin_max| Bounds {
		margin_max,
		..Default::default()
	};
	VerificationPolicy {
		class,
		positions: 4,
		entries: 2,
		fraction_bits: 13,
		accept: bounds(accept),
		fraud: bounds(fraud),
		min_verifiers: 1,
		min_sampling: 1_000,
	}
}

/// What one run over prompt and answer finds, of all of it and of its first tokens.
fn measured(
	(model, graph): (&LanguageModel, &Graph),
	input: &FullInput,
	seed: &H256,
	claimed: &Output,
	first: Option<u32>,
	policy: &VerificationPolicy,
) -> Result<Vec<Evidence>, EngineError> {
	let layout = &model.layout;
	let part = |tokens| Part {
		tokens,
		challenge: H256::repeat_byte(9),
	};
	let parts: Vec<_> = std::iter::once(None)
		.chain(first.map(Some))
		.map(part)
		.collect();
	let (fed, mut measurement) = model.measurement(input, seed, claimed, &parts, policy)?;
	let mut cache = layout.empty(graph, fed.len())?;
	let logits = layout.step(graph, &mut cache, &fed)?;
	let mut rows = logits.chunks_exact(layout.vocabulary).enumerate();
	Ok(rows
		.find_map(|(i, row)| measurement.see(i, row))
		.expect("the last gives the evidence"))
}

fn verdict(
	model: (&LanguageModel, &Graph),
	input: &FullInput,
	seed: &H256,
	claimed: &Output,
) -> Verdict {
	let policy = policy(NumericClass::Exact, 0, 0);
	measured(model, input, seed, claimed, None, &policy).unwrap()[0].verdict
}

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

/// A whole answer of these tokens.
fn claim(model: &LanguageModel, tokens: &[u32], sampling: &Sampling) -> Output {
	model.cut(tokens, sampling).unwrap()
}

fn samplings() -> Vec<Sampling> {
	let plain = Sampling {
		max_tokens: 60,
		..Default::default()
	};
	let with = |temperature, top_p, processing: LogitsProcessing| Sampling {
		temperature,
		top_p,
		processing: processing.compact(),
		..plain.clone()
	};
	let nothing = LogitsProcessing::default;
	vec![
		plain.clone(),
		with(1_000, 1_000, nothing()),
		with(2_000, 1_000, nothing()),
		with(1_500, 700, nothing()),
		with(
			1_500,
			900,
			LogitsProcessing {
				top_k: 2,
				..nothing()
			},
		),
		with(
			1_500,
			1_000,
			LogitsProcessing {
				top_k: 60,
				min_p: 200,
				..nothing()
			},
		),
		with(
			1_200,
			900,
			LogitsProcessing {
				repetition_penalty: 1_400,
				presence_penalty: 500,
				frequency_penalty: 300,
				// The only tokens with which an object begins: no bias makes another one.
				logit_bias: vec![(2, -100_000), (20, 90_000), (50, -100_000)]
					.try_into()
					.unwrap(),
				..nothing()
			},
		),
	]
}

#[test]
fn what_is_written_follows_its_constraint_and_is_found_again() {
	let (model, graph) = small();
	let small = (&model, &graph);
	let mut whole = 0;
	for (n, sampling) in (1u8..).zip(samplings()) {
		for seed in (0..6).map(|s| H256::repeat_byte(n * 10 + s)) {
			let input = asked(
				&sampling,
				Some(constraint(ConstraintForm::JsonSchema, NAMES)),
			);
			let output = write(small, &input, &seed).unwrap();
			let (tokens, text, finish) = parts(&output);
			let all = policy(NumericClass::Exact, 0, 0);
			let found = measured(small, &input, &seed, &output, Some(3), &all).unwrap();
			assert!(
				found.iter().all(|e| e.verdict == Verdict::default()),
				"{text}: {found:?}"
			);
			assert_eq!(finish, FinishReason::EndOfText, "{text}");
			let said: Value = serde_json::from_str(&text).unwrap();
			let keys: Vec<_> = said.as_object().unwrap().keys().collect();
			assert_eq!(keys, ["age", "name", "ok"]);
			assert!(said["age"].as_u64().unwrap() <= 150 && said["ok"].is_boolean());
			assert!(said["name"].as_str().unwrap().len() <= 6);
			assert_eq!(tokens.last(), Some(&1));
			whole += 1;
			// Cut in the middle it is as right, and says so.
			let short = Sampling {
				max_tokens: 4,
				..sampling.clone()
			};
			let input = asked(&short, Some(constraint(ConstraintForm::JsonSchema, NAMES)));
			let output = write(small, &input, &seed).unwrap();
			assert_eq!(parts(&output).2, FinishReason::Length);
			assert_eq!(parts(&output).0, tokens[..4]);
			assert_eq!(verdict(small, &input, &seed, &output), Verdict::default());
		}
	}
	assert_eq!(whole, 42);
}

#[test]
fn stop_strings_end_a_constrained_answer_too() {
	let (model, graph) = small();
	let small = (&model, &graph);
	let sampling = Sampling {
		max_tokens: 60,
		temperature: 1_000,
		stop: vec![b"\"name".to_vec().try_into().unwrap()]
			.try_into()
			.unwrap(),
		..Default::default()
	};
	let seed = H256::repeat_byte(3);
	let input = asked(
		&sampling,
		Some(constraint(ConstraintForm::JsonSchema, NAMES)),
	);
	let output = write(small, &input, &seed).unwrap();
	let (_, text, finish) = parts(&output);
	assert_eq!(finish, FinishReason::StopString);
	assert!(
		text.starts_with("{\"age\": ") && text.ends_with(", "),
		"{text}"
	);
	assert_eq!(verdict(small, &input, &seed, &output), Verdict::default());
}

#[test]
fn lies_are_found() {
	const FAR: u32 = u32::MAX;
	let mut looked = 0;
	let (model, graph) = small();
	let small = (&model, &graph);
	let schema = || constraint(ConstraintForm::JsonSchema, NAMES);
	for (n, sampling) in (1u8..).zip(samplings()) {
		let seed = H256::repeat_byte(n);
		let input = asked(&sampling, Some(schema()));
		let (tokens, _, _) = parts(&write(small, &input, &seed).unwrap());
		let found = |tokens: &[u32]| {
			let claimed = claim(&model, tokens, &sampling);
			verdict(small, &input, &seed, &claimed)
		};
		assert_eq!(found(&tokens), Verdict::default());
		// The model's own answer, without the mask. Past the first token that is outside, nothing counts as right.
		let free = write(small, &asked(&sampling, None), &seed).unwrap();
		let lie = verdict(small, &input, &seed, &free);
		assert_eq!(lie.margin_max, FAR);
		assert!(lie.deviations > 0);
		// It ends before it may, at every position but the last.
		for cut in 1..tokens.len() - 1 {
			let lie = found(&[&tokens[..cut], &[1]].concat());
			assert_eq!((lie.margin_max, lie.deviations), (FAR, 1), "{cut}");
		}
		// A token outside the mask in the middle, and the rest as it was; what was paid for before it is right.
		let at = tokens.len() / 2;
		let mut changed = tokens.clone();
		changed[at] = 0;
		let claimed = claim(&model, &changed, &sampling);
		let exact = policy(NumericClass::Exact, 0, 0);
		let evidence = measured(small, &input, &seed, &claimed, Some(at as u32), &exact).unwrap();
		let lie = evidence[0].verdict;
		assert_eq!(lie.margin_max, FAR);
		assert_eq!(lie.deviations as usize, tokens.len() - at);
		assert_eq!(evidence[1].verdict, Verdict::default());
		// Nothing excuses it where honest machines may differ either.
		let tolerant = policy(NumericClass::Tolerant, 512, 8_192);
		let evidence = measured(small, &input, &seed, &claimed, None, &tolerant).unwrap();
		assert_eq!(evidence[0].verdict.margin_max, FAR);
		// Another letter than the model says, which the constraint leaves as well.
		let text = |tokens: &[u32]| model.text(tokens, &sampling).unwrap();
		let first = |at: &usize| {
			(22..48).contains(&tokens[*at]) && text(&tokens[..*at]).ends_with("\"name\": \"")
		};
		if let Some(at) = (0..tokens.len()).find(first) {
			let mut changed = tokens.clone();
			changed[at] = 22 + (changed[at] - 21) % 26;
			let short = Sampling {
				max_tokens: at as u32 + 1,
				..sampling.clone()
			};
			let claimed = claim(&model, &changed[..=at], &short);
			let lie = verdict(small, &asked(&short, Some(schema())), &seed, &claimed);
			looked += 1;
			assert!(lie.margin_max > 0 && lie.margin_max < FAR, "{lie:?}");
			assert_eq!(lie.deviations, 1);
		}
		// The answer to another constraint.
		let regex = asked(
			&sampling,
			Some(constraint(ConstraintForm::Regex, "[a-z]{3}")),
		);
		let other = write(small, &regex, &seed).unwrap();
		assert_eq!(verdict(small, &regex, &seed, &other), Verdict::default());
		assert_eq!(verdict(small, &input, &seed, &other).margin_max, FAR);
	}
	assert!(looked > 0);
}

#[test]
fn an_answer_stops_where_its_constraint_leaves_nothing_to_say() {
	let (model, graph) = small();
	let small = (&model, &graph);
	for (n, temperature) in [(1u8, 0), (2, 1_500), (3, 1_500)] {
		let sampling = Sampling {
			temperature,
			max_tokens: 20,
			..Default::default()
		};
		let seed = H256::repeat_byte(n);
		// The vocabulary has no capitals, which is found when three letters were said.
		let input = asked(
			&sampling,
			Some(constraint(ConstraintForm::Regex, "[a-c]{3}Z")),
		);
		let answer = write(small, &input, &seed).unwrap();
		let (tokens, text, finish) = parts(&answer);
		assert_eq!((tokens.len(), finish), (3, FinishReason::Length), "{text}");
		assert_eq!(verdict(small, &input, &seed, &answer), Verdict::default());
		let claimed = |tokens: &[u32]| {
			let until = Sampling {
				max_tokens: tokens.len() as u32,
				..sampling.clone()
			};
			verdict(small, &input, &seed, &claim(&model, tokens, &until))
		};
		// Whoever stops before that, or goes on, lies.
		let longer = [&tokens[..], &[22]].concat();
		let endless = tokens.iter().cycle().take(20).copied().collect::<Vec<_>>();
		for lie in [&tokens[..1], &tokens[..2], &longer, &endless] {
			assert_eq!(claimed(lie).margin_max, u32::MAX, "{lie:?}");
		}
		// A machine that says another letter comes to such an end as well: what it is charged with is that letter alone.
		let mut other = tokens.clone();
		other[2] = 22 + (other[2] - 21) % 3;
		let found = claimed(&other);
		assert_eq!(found.deviations, 1);
		assert!(found.margin_max < u32::MAX, "{found:?}");
		// Without a constraint nothing excuses it.
		let free = asked(&sampling, None);
		assert_eq!(verdict(small, &free, &seed, &answer).margin_max, u32::MAX);
	}
}

#[test]
fn what_no_answer_can_follow_is_found_by_all_alike() {
	let (model, graph) = small();
	let small = (&model, &graph);
	let sampling = Sampling {
		temperature: 1_000,
		..Default::default()
	};
	let refused = |result: Result<Output, EngineError>, why: &str| match result {
		Err(EngineError::Unanswerable(Unanswerable::ConstraintRefused, said)) => {
			assert!(said.contains(why), "{said}");
		}
		other => panic!("{other:?}"),
	};
	let json = |text: &str| constraint(ConstraintForm::JsonSchema, text);
	let seed = H256::repeat_byte(4);
	for (constraint, why) in [
		(json("{"), "not JSON"),
		(json(r#"{"type": "object", "if": {}}"#), "if"),
		(json(r#"{"enum": []}"#), "nsatisfiable"),
		// The vocabulary has no capitals.
		(constraint(ConstraintForm::Regex, "Z"), "no token"),
		(
			Constraint {
				rules: 2,
				..json("{}")
			},
			"rules",
		),
	] {
		let input = asked(&sampling, Some(constraint));
		if why == "rules" {
			// The chain takes none of these; whoever is asked otherwise does not judge by other masks.
			assert!(matches!(
				write(small, &input, &seed),
				Err(EngineError::Input(_))
			));
			continue;
		}
		refused(write(small, &input, &seed), why);
		// Whoever claims an answer to it is not believed.
		let tokens = vec![Compact(22u32), Compact(22)];
		let claimed = Output::Text {
			tokens: List::try_from(tokens).unwrap(),
			text: b"aa".to_vec().try_into().unwrap(),
			finish: FinishReason::Length,
		};
		let input = asked(
			&Sampling {
				max_tokens: 2,
				..sampling.clone()
			},
			match input {
				FullInput::ConstrainedText { constraint, .. } => Some(constraint),
				_ => None,
			},
		);
		let policy = policy(NumericClass::Exact, 0, 0);
		match measured(small, &input, &seed, &claimed, None, &policy) {
			Err(e) => refused(Err(e), why),
			Ok(found) => assert_eq!(found[0].verdict.margin_max, u32::MAX, "{why}"),
		}
	}
	// What this tokenizer's tokens say depends on their neighbours.
	let words = super::prompts::model(tokenizer(&super::prompts::words()), &[]);
	let input = asked(&sampling, Some(json("{}")));
	match words.guide(match &input {
		FullInput::ConstrainedText { constraint, .. } => constraint,
		_ => unreachable!(),
	}) {
		Err(EngineError::Unanswerable(Unanswerable::ConstraintRefused, why)) => {
			assert!(why.contains("neighbours"), "{why}");
		}
		_ => panic!("it is refused"),
	}
}

#[test]
fn tokens_spell_what_texts_show() {
	let of = |value: &Value| Tokens::new(tokenizer(value), &[], None).unwrap();
	let bytes = super::prompts::bytes(&[("h", "e")], &super::prompts::SPECIAL, Value::Null);
	for tokens in [
		of(&characters()),
		of(&bytes),
		of(&super::prompts::pieces("always")),
	] {
		let size = tokens.library().get_vocab_size(true);
		let spelled = tokens.spelled(size).unwrap();
		assert_eq!(spelled.len(), size);
		for text in ["hello", "a", "{\"name\": 15}", "he said: ok"] {
			let ids = tokens.library().encode(text, false).unwrap();
			let said: Vec<u8> = ids
				.get_ids()
				.iter()
				.flat_map(|id| spelled[*id as usize].clone())
				.collect();
			let said = String::from_utf8(said).unwrap();
			assert!(
				said == text || said.strip_prefix(' ') == Some(text),
				"{said:?}"
			);
		}
		// What is not shown is spelled by nothing.
		let special = tokens.library().token_to_id("<s>").unwrap();
		assert!(spelled[special as usize].is_empty());
	}
	// Each byte of a character that no token has whole.
	let tokens = of(&bytes);
	let ids = tokens.library().encode("🦀", false).unwrap();
	let spelled = tokens.spelled(300).unwrap();
	let said: Vec<u8> = ids
		.get_ids()
		.iter()
		.flat_map(|id| spelled[*id as usize].clone())
		.collect();
	assert_eq!(said, "🦀".as_bytes());
	assert!(of(&super::prompts::words()).spelled(10).is_none());
}

fn real(model: &Model, run: &Run, policy: &VerificationPolicy) -> Vec<Verdict> {
	let real = (&model.language, &run.graph);
	let schema = r#"{"type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}, "millions": {"type": "number"}},
		"required": ["city", "country", "millions"], "additionalProperties": false}"#;
	let mut verdicts = Vec::new();
	for (n, temperature) in [(1, 0), (2, 800), (3, 1_500)] {
		let sampling = Sampling {
			max_tokens: 40,
			temperature,
			..Default::default()
		};
		let text = b"<|im_start|>user\nTell me of the capital of France, as JSON.<|im_end|>\n<|im_start|>assistant\n";
		let prompt = Prompt::Text(text.to_vec().try_into().unwrap());
		let constraint = constraint(ConstraintForm::JsonSchema, schema);
		let input = FullInput::text(prompt, sampling, Some(constraint));
		let seed = H256::repeat_byte(n);
		let from = std::time::Instant::now();
		let output = write(real, &input, &seed).unwrap();
		let (tokens, text, finish) = parts(&output);
		println!(
			"{n}: {text:?}, {} tokens, {finish:?} in {:?}",
			tokens.len(),
			from.elapsed()
		);
		if finish == FinishReason::EndOfText {
			let said: Value = serde_json::from_str(&text).unwrap();
			assert!(
				said["city"].is_string() && said["millions"].is_number(),
				"{text}"
			);
		}
		assert!(text.starts_with("{\"city\": \""), "{text}");
		let found = measured(real, &input, &seed, &output, None, policy).unwrap();
		verdicts.push(found[0].verdict);
	}
	verdicts
}

#[test]
fn the_exact_model_says_constrained_answers_again() {
	let model = Model::open("smollm2-135m-instruct-int8");
	let run = model.run(2, "disable");
	let found = real(&model, &run, &policy(NumericClass::Exact, 0, 0));
	assert!(found.iter().all(|v| *v == Verdict::default()), "{found:?}");
}

#[test]
fn the_hubs_model_says_constrained_answers_again_or_nearly() {
	let model = Model::open("smollm2-135m-instruct-hub");
	let run = model.run(2, "all");
	let found = real(&model, &run, &policy(NumericClass::Tolerant, 512, 8_192));
	let right = |v: &Verdict| v.margin_max <= 512 && v.deviations == 0;
	assert!(found.iter().all(right), "{found:?}");
}

/// The time a token of a chat takes, beside another one.
fn beside(scheduler: &Scheduler, other: Option<Constraint>) -> f64 {
	let input = |max_tokens, constraint| {
		let sampling = Sampling {
			max_tokens,
			// Neither ends by itself.
			processing: LogitsProcessing {
				logit_bias: vec![(2, -100_000)].try_into().unwrap(),
				..Default::default()
			}
			.compact(),
			..Default::default()
		};
		asked(&sampling, constraint)
	};
	let seed = H256::repeat_byte(1);
	let (chat, other) = (input(64, None), input(192, other));
	let mut seen = Vec::new();
	std::thread::scope(|threads| {
		threads.spawn(|| scheduler.generate(&other, &seed).unwrap());
		let written = scheduler.stream(&chat, &seed, &mut |tokens, _| {
			seen.extend(tokens.iter().map(|_| Instant::now()));
		});
		written.unwrap();
	});
	let took = seen[63].duration_since(seen[7]);
	took.as_secs_f64() * 1e3 / 56.0
}

/// Against a chat beside which another one has no constraint. Rounds take turns, and the best of each counts: the machine has other work.
#[test]
#[ignore = "measures time"]
fn a_chat_beside_the_worst_grammar_that_is_taken() {
	let model = Model::open("smollm2-135m-instruct-int8");
	let run = model.run(2, "disable");
	let bounds = Most {
		answers: 4,
		cache_bytes: 1 << 30,
		prefix_bytes: 0,
	};
	let scheduler = Scheduler::new(model.language, run.graph, bounds, Default::default());
	let scheduler = scheduler.unwrap();
	let others = [
		("any text", None),
		(
			"a long string",
			Some(constraint(
				ConstraintForm::JsonSchema,
				r#"{"type": "string", "minLength": 2000}"#,
			)),
		),
		(
			"letters that are words",
			Some(constraint(ConstraintForm::Lark, "start: L*\nL: /[a-z ]/")),
		),
		(
			"a pattern with many tails",
			Some(constraint(
				ConstraintForm::Regex,
				"[a-z ]*[aeiou][a-z ]{14}",
			)),
		),
	];
	let mut best = [f64::INFINITY; 4];
	for round in 0..5 {
		for (best, (name, other)) in best.iter_mut().zip(&others) {
			let took = beside(&scheduler, other.clone());
			println!("{round}: {name}: {took:.1} ms a token");
			*best = best.min(took);
		}
	}
	for (took, (name, _)) in best.iter().zip(&others) {
		println!("{name}: {took:.2} ms a token, {:.3}", took / best[0]);
	}
	assert!(best.iter().all(|took| *took < best[0] * 1.25), "{best:?}");
}
