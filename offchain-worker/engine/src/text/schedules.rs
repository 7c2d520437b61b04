//! The exact class, on tiny random models: any way of feeding the tokens, and any company in which they are fed, gives the same
//! bits.

use std::{
	collections::VecDeque,
	path::PathBuf,
	sync::{
		mpsc::{sync_channel, Receiver},
		Arc,
	},
	time::Instant,
};

use consilience_primitives::{
	manifest,
	model::{Bounds as Accepted, NumericClass, VerificationPolicy},
	request::{Input, Prompt, Sampling},
};
use polkadot_sdk::sp_core::H256;
use proptest::prelude::*;

use super::{
	batch::{Batch, Bounds, Outcome, Reader, Sequence, Work},
	generate::Writer,
	measure::Part,
	LanguageModel, Layout,
};
use crate::{
	session::{Graph, Placement},
	EngineError,
};

/// Tokens that the tiny models can see.
const CONTEXT: usize = 384;

fn folder(name: &str) -> PathBuf {
	PathBuf::from(env!("CARGO_MANIFEST_DIR"))
		.join("tests/fixtures")
		.join(name)
}

fn open(name: &str, threads: usize, optimization: &str) -> (Graph, Layout) {
	let graph = Graph::load(
		&folder(name).join("model.onnx"),
		threads,
		optimization,
		Placement::default(),
	);
	let kind = match name {
		"llama-hub" => manifest::Cache::Growing,
		_ => manifest::Cache::Slots,
	};
	let layout = Layout {
		kind,
		layers: 2,
		kv_heads: 2,
		head_dim: 4,
		vocabulary: 64,
	};
	(
		graph.expect("the tests need ONNX Runtime: run ./scripts/setup"),
		layout,
	)
}

/// Logits of all tokens, fed in pieces of these lengths until none are left.
fn feed(of: &(Graph, Layout), tokens: &[u32], pieces: &[usize], room: usize) -> Vec<f32> {
	let (graph, layout) = of;
	let mut cache = layout.empty(graph, room).unwrap();
	let mut logits = Vec::new();
	let (mut rest, mut pieces) = (tokens, pieces.iter().cycle());
	while !rest.is_empty() {
		let n = pieces.next().map_or(rest.len(), |n| (*n).min(rest.len()));
		logits.extend(layout.step(graph, &mut cache, &rest[..n]).unwrap());
		rest = &rest[n..];
	}
	logits
}

fn bits(logits: &[f32]) -> Vec<u32> {
	logits.iter().map(|l| l.to_bits()).collect()
}

/// Texts that need up to three blocks of the cache, and how to feed them.
fn schedule() -> impl Strategy<Value = (Vec<u32>, Vec<usize>, usize)> {
	(
		prop::collection::vec(0u32..64, 1..CONTEXT),
		prop::collection::vec(1usize..150, 1..6),
		1usize..CONTEXT,
	)
}

#[test]
fn canonical_graphs_give_the_same_bits() {
	for name in ["llama-fp32", "llama-int8"] {
		let one = open(name, 1, "disable");
		let others = [open(name, 2, "disable"), open(name, 3, "all")];
		proptest!(ProptestConfig::with_cases(40), |((tokens, pieces, room) in schedule())| {
			let expected = bits(&feed(&one, &tokens, &[], tokens.len()));
			// The cache starts with room for some and grows.
			prop_assert!(bits(&feed(&one, &tokens, &pieces, room)) == expected, "{name}: pieces");
			for other in &others {
				prop_assert!(bits(&feed(other, &tokens, &pieces, room)) == expected, "{name}: threads");
			}
		});
	}
}

#[test]
fn the_hubs_export_is_near_itself_and_the_canonical_graph() {
	let (hub, exact) = (
		open("llama-hub", 1, "all"),
		open("llama-fp32", 1, "disable"),
	);
	proptest!(ProptestConfig::with_cases(20), |((tokens, pieces, room) in schedule())| {
		let expected = feed(&exact, &tokens, &[], tokens.len());
		for logits in [feed(&hub, &tokens, &pieces, room), feed(&hub, &tokens, &[], 0)] {
			prop_assert_eq!(logits.len(), expected.len());
			for (a, b) in logits.iter().zip(&expected) {
				prop_assert!((a - b).abs() < 1e-3, "{} and {}", a, b);
			}
		}
	});
}

fn language(name: &str, layout: Layout) -> Arc<LanguageModel> {
	let tokenizer = tokenizers::Tokenizer::from_file(folder(name).join("tokenizer.json"));
	Arc::new(LanguageModel {
		tokenizer: tokenizer.unwrap(),
		template: None,
		eos: vec![1],
		context: CONTEXT,
		layout,
	})
}

/// A request, and what happens to it.
#[derive(Clone, Debug)]
struct Job {
	prompt: Vec<u32>,
	max_tokens: u32,
	temperature: u16,
	top_p: u16,
	seed: u8,
	/// Steps that are done before it arrives.
	arrives: usize,
	/// Whether an answer is measured, and which of its tokens is exchanged before.
	check: Option<Option<usize>>,
}

impl Job {
	fn input(&self) -> Input {
		let words: Vec<_> = self.prompt.iter().map(|t| format!("t{t}")).collect();
		Input::TextGeneration {
			prompt: Prompt::Text(words.join(" ").into_bytes().try_into().unwrap()),
			sampling: Sampling {
				max_tokens: self.max_tokens,
				temperature: self.temperature,
				top_p: self.top_p,
				..Default::default()
			},
		}
	}

	fn seed(&self) -> H256 {
		H256::repeat_byte(self.seed)
	}

	/// What the model answers to this alone, its prompt fed at once; without the code that batches.
	fn answer(&self, model: &LanguageModel, graph: &Graph) -> Outcome {
		let input = self.input();
		let (prompt, sampling) = model.question(&input).unwrap();
		assert_eq!(prompt, self.prompt);
		let layout = &model.layout;
		let mut writer = Writer::new(prompt.len(), sampling, &self.seed());
		let mut cache = layout.empty(graph, CONTEXT).unwrap();
		let mut logits = layout.step(graph, &mut cache, &prompt).unwrap();
		loop {
			let last = &logits[logits.len() - layout.vocabulary..];
			let seen = writer.see(model, cache.lengths()[0] - 1, last).unwrap();
			if let Some((tokens, finish)) = seen {
				return Outcome::Answer(tokens, finish);
			}
			let next = writer.last().unwrap();
			logits = layout.step(graph, &mut cache, &[next]).unwrap();
		}
	}

	/// The text that is fed and who reads it; and what comes of it alone.
	fn prepare(&self, model: &LanguageModel, graph: &Graph) -> (Vec<u32>, Reader, Outcome) {
		let answer = self.answer(model, graph);
		let input = self.input();
		let (prompt, sampling) = model.question(&input).unwrap();
		let (Some(exchanged), Outcome::Answer(mut tokens, finish)) = (self.check, answer.clone())
		else {
			let writer = Writer::new(prompt.len(), sampling, &self.seed());
			return (prompt, Reader::Write(writer), answer);
		};
		if let Some(i) = exchanged {
			let n = tokens.len();
			tokens[i % n] = 2 + (tokens[i % n] + 1) % 62;
		}
		let claimed = model.output(&tokens, finish).unwrap();
		let policy = VerificationPolicy {
			class: NumericClass::Exact,
			positions: 8,
			entries: 2,
			fraction_bits: 8,
			accept: Accepted::default(),
			fraud: Accepted::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		};
		let parts = [None, Some(3)].map(|tokens| Part {
			tokens,
			challenge: H256::repeat_byte(9),
		});
		let measure = || {
			model
				.measurement(&input, &self.seed(), &claimed, &parts, &policy)
				.unwrap()
		};
		let (fed, mut alone) = measure();
		let mut cache = model.layout.empty(graph, fed.len()).unwrap();
		let logits = model.layout.step(graph, &mut cache, &fed).unwrap();
		let rows = logits.chunks_exact(model.layout.vocabulary).enumerate();
		let evidence = rows.filter_map(|(i, row)| alone.see(i, row)).next();
		(
			fed,
			Reader::Check(measure().1),
			Outcome::Evidence(evidence.unwrap()),
		)
	}
}

/// Who arrives when, how much is taken on, and which of what can be done next is done, in pieces of which length.
#[derive(Clone, Debug)]
struct Schedule {
	jobs: Vec<Job>,
	answers: usize,
	cache_tokens: usize,
	choices: Vec<(u8, usize)>,
}

fn job() -> impl Strategy<Value = Job> {
	// Of `t12` the tokenizer would make the special `t1` and a rest.
	let prompt = prop_oneof![
		prop::collection::vec(20u32..64, 1..20),
		prop::collection::vec(20u32..64, 100..240),
	];
	(
		prompt,
		1u32..140,
		prop_oneof![
			Just((0u16, 1_000u16)),
			Just((1_000, 1_000)),
			Just((900, 800))
		],
		any::<u8>(),
		0usize..80,
		prop::option::weighted(0.3, prop::option::of(0usize..100)),
	)
		.prop_map(
			|(prompt, max_tokens, (temperature, top_p), seed, arrives, check)| Job {
				prompt,
				max_tokens,
				temperature,
				top_p,
				seed,
				arrives,
				check,
			},
		)
}

fn schedules() -> impl Strategy<Value = Schedule> {
	(
		prop::collection::vec(job(), 1..10),
		1usize..8,
		1usize..3_000,
		prop::collection::vec((any::<u8>(), 1usize..150), 1..40),
	)
		.prop_map(|(jobs, answers, cache_tokens, choices)| Schedule {
			jobs,
			answers,
			cache_tokens,
			choices,
		})
}

/// What a schedule went through.
#[derive(Debug, Default)]
struct Seen {
	most_rows: usize,
	waited: bool,
	joined_others: usize,
	left_others: usize,
}

/// Does a schedule. Gives what came of the jobs.
fn follow(
	schedule: &Schedule,
	prepared: Vec<(Vec<u32>, Reader)>,
	mut batch: Batch,
	seen: &mut Seen,
) -> Vec<Result<Outcome, EngineError>> {
	let mut arriving: VecDeque<(usize, Sequence)> = VecDeque::new();
	let mut replies: Vec<Receiver<_>> = Vec::new();
	for (job, (tokens, reader)) in schedule.jobs.iter().zip(prepared) {
		let (reply, replied) = sync_channel(1);
		let most = match reader {
			Reader::Write(_) => tokens.len() + job.max_tokens as usize,
			Reader::Check(_) => tokens.len(),
		};
		replies.push(replied);
		arriving.push_back((
			job.arrives,
			Sequence {
				tokens,
				most,
				reader,
				arrived: Instant::now(),
				reply,
			},
		));
	}
	let mut choices = schedule.choices.iter().cycle();
	for tick in 0.. {
		for _ in 0..arriving.len() {
			if let Some((arrives, sequence)) = arriving.pop_front() {
				if arrives <= tick {
					batch.add(sequence);
				} else {
					arriving.push_back((arrives, sequence));
				}
			}
		}
		let ready: Vec<_> = Work::ALL.into_iter().filter(|w| batch.has(*w)).collect();
		if ready.is_empty() {
			if arriving.is_empty() {
				break;
			}
			continue;
		}
		let (choice, chunk) = choices.next().unwrap();
		let before = batch.decoding();
		batch.step(ready[*choice as usize % ready.len()], *chunk);
		batch.reply();
		let after = batch.decoding();
		seen.most_rows = seen.most_rows.max(after);
		seen.waited |= batch.waiting() > 0;
		seen.joined_others += usize::from(before > 0 && after > before);
		seen.left_others += usize::from(after > 0 && after < before);
	}
	assert_eq!(batch.waiting(), 0, "everybody had a turn");
	replies.iter().map(|r| r.try_recv().unwrap()).collect()
}

/// Runs random schedules, and compares all that comes of them with what comes of each job alone.
fn all_schedules(name: &str, cases: u32) {
	let (alone, layout) = open(name, 1, "disable");
	let model = language(name, layout.clone());
	let seen = std::cell::RefCell::new(Seen::default());
	proptest!(ProptestConfig::with_cases(cases), |(schedule in schedules())| {
		let (mut expected, mut prepared) = (Vec::new(), Vec::new());
		for job in &schedule.jobs {
			let (tokens, reader, outcome) = job.prepare(&model, &alone);
			prepared.push((tokens, reader));
			expected.push(Ok(outcome));
		}
		let bounds = Bounds {
			answers: schedule.answers,
			cache_bytes: layout.bytes(schedule.cache_tokens),
		};
		let batch = Batch::new(model.clone(), open(name, 2, "disable").0, bounds);
		let outcomes = follow(&schedule, prepared, batch, &mut seen.borrow_mut());
		prop_assert_eq!(outcomes, expected);
	});
	let seen = seen.into_inner();
	assert!(
		seen.most_rows >= 3 && seen.waited && seen.joined_others >= 5 && seen.left_others >= 5,
		"the schedules were too simple: {seen:?}"
	);
}

#[test]
fn no_schedule_changes_a_bit_of_fp32() {
	all_schedules("llama-fp32", 48);
}

#[test]
fn no_schedule_changes_a_bit_of_int8() {
	all_schedules("llama-int8", 48);
}

#[test]
fn a_long_prompt_does_not_keep_a_short_one_waiting() {
	let (alone, layout) = open("llama-fp32", 1, "disable");
	let model = language("llama-fp32", layout.clone());
	let bounds = Bounds {
		answers: 2,
		cache_bytes: usize::MAX,
	};
	let mut batch = Batch::new(model.clone(), open("llama-fp32", 1, "disable").0, bounds);
	let mut replies = Vec::new();
	for length in [300, 3] {
		let job = Job {
			prompt: vec![20; length],
			max_tokens: 1,
			temperature: 0,
			top_p: 1_000,
			seed: 0,
			arrives: 0,
			check: None,
		};
		let (tokens, reader, expected) = job.prepare(&model, &alone);
		let (reply, replied) = sync_channel(1);
		replies.push((replied, expected));
		batch.add(Sequence {
			most: length + 1,
			tokens,
			reader,
			arrived: Instant::now(),
			reply,
		});
	}
	for _ in 0..2 {
		batch.step(Work::Prompt, 32);
		batch.reply();
	}
	let [long, short] = &replies[..] else {
		panic!()
	};
	assert!(long.0.try_recv().is_err(), "268 tokens are left");
	assert_eq!(short.0.try_recv().unwrap().as_ref(), Ok(&short.1));
	while batch.has(Work::Prompt) {
		batch.step(Work::Prompt, 32);
	}
	batch.reply();
	assert_eq!(long.0.try_recv().unwrap().as_ref(), Ok(&long.1));
}
