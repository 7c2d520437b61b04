//! The exact class, on tiny random models: any way of feeding the tokens, and any company in which they are fed, gives the same
//! bits.

use std::{
	collections::VecDeque,
	path::PathBuf,
	sync::{
		mpsc::{channel, sync_channel, Receiver},
		Arc,
	},
	time::Instant,
};

use consilience_primitives::{
	manifest,
	model::{Bounds as Accepted, NumericClass, VerificationPolicy},
	request::{FullInput, LogitsProcessing, Prompt, Sampling, Unanswerable},
	tensor::DataType,
};
use polkadot_sdk::sp_core::H256;
use proptest::prelude::*;

use super::{
	batch::{Batch, Bounds, Work},
	cache::Tables,
	generate::Writer,
	measure::Part,
	sequence::{Outcome, Reader, Sequence},
	tokens::Tokens,
	LanguageModel, Layout,
};
use crate::{
	session::{Graph, Placement},
	ticket::Ticket,
	EngineError,
};

/// Tokens that the tiny models can see.
const CONTEXT: usize = 384;

fn folder(name: &str) -> PathBuf {
	// Where the tests run; they may have been built in another clone that shares the target folder.
	PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
		.join("tests/fixtures")
		.join(name)
}

pub(super) fn open(name: &str, threads: usize, optimization: &str) -> (Graph, Layout) {
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
	let graph = graph.expect("the tests need ONNX Runtime: run ./scripts/setup");
	let mut layout = Layout {
		kind,
		layers: 2,
		kv_heads: 2,
		head_dim: 4,
		vocabulary: 64,
		element: DataType::Fp32,
		tables: None,
	};
	layout.check(&graph).unwrap();
	(graph, layout)
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
	for name in ["llama-fp32", "llama-int8", "llama-integer"] {
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
fn what_is_not_in_the_graph_s_tables_is_refused_as_the_graph_would() {
	let (graph, mut layout) = open("llama-integer", 1, "disable");
	let fed = |layout: &Layout, tokens: &[u32]| {
		let mut cache = layout.empty(&graph, 8).unwrap();
		layout.step(&graph, &mut cache, tokens)
	};
	let refused = |fed: Result<Vec<f32>, EngineError>| {
		let refused = |e| matches!(e, EngineError::Unanswerable(Unanswerable::GraphRefused, _));
		fed.is_err_and(refused)
	};
	assert!(refused(fed(&layout, &[20, 64])));
	layout.tables = Some(Tables {
		tokens: 60,
		positions: 3,
	});
	assert!(refused(fed(&layout, &[20, 60])));
	assert!(refused(fed(&layout, &[20; 4])));
	assert_eq!(fed(&layout, &[20, 59, 0]).unwrap().len(), 3 * 64);
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
		tokens: Tokens::new(tokenizer.unwrap(), &[1], None).unwrap(),
		template: None,
		eos: vec![1],
		context: CONTEXT,
		layout,
		vocabulary: Default::default(),
	})
}

/// A request, and what happens to it.
#[derive(Clone, Debug)]
pub(super) struct Job {
	prompt: Vec<u32>,
	max_tokens: u32,
	pub(super) temperature: u16,
	top_p: u16,
	processing: Option<LogitsProcessing>,
	seed: u8,
	/// Steps that are done before it arrives.
	arrives: usize,
	/// Whether an answer is measured, and which of its tokens is exchanged before.
	check: Option<Option<usize>>,
	/// Whether it pauses: after so many tokens each, for so many steps.
	slices: Option<(u32, usize)>,
}

impl Job {
	fn input(&self) -> FullInput {
		let words: Vec<_> = self.prompt.iter().map(|t| format!("t{t}")).collect();
		FullInput::TextGeneration {
			prompt: Prompt::Text(words.join(" ").into_bytes().try_into().unwrap()),
			sampling: Sampling {
				max_tokens: self.max_tokens,
				temperature: self.temperature,
				top_p: self.top_p,
				processing: self.processing.clone(),
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
		let asked = model.question(&input).unwrap();
		assert_eq!(asked.prompt, self.prompt);
		let layout = &model.layout;
		let mut writer = Writer::new(model, &asked, &self.seed()).unwrap();
		let mut cache = layout.empty(graph, CONTEXT).unwrap();
		let mut logits = layout.step(graph, &mut cache, &asked.prompt).unwrap();
		loop {
			let last = &logits[logits.len() - layout.vocabulary..];
			let seen = writer.see(model, cache.lengths()[0] - 1, last).unwrap();
			if let Some((tokens, finish)) = seen {
				return Outcome::Answer(tokens, finish);
			}
			let next = *writer.tokens().last().unwrap();
			logits = layout.step(graph, &mut cache, &[next]).unwrap();
		}
	}

	/// The text that is fed and who reads it; and what comes of it alone.
	fn prepare(&self, model: &LanguageModel, graph: &Graph) -> (Vec<u32>, Reader, Outcome) {
		let answer = self.answer(model, graph);
		let input = self.input();
		let asked = model.question(&input).unwrap();
		let sampling = asked.sampling;
		let (Some(exchanged), Outcome::Answer(mut tokens, finish)) = (self.check, answer.clone())
		else {
			let writer = Writer::new(model, &asked, &self.seed()).unwrap();
			return (asked.prompt, Reader::Write(writer), answer);
		};
		if let Some(i) = exchanged {
			let n = tokens.len();
			tokens[i % n] = 2 + (tokens[i % n] + 1) % 62;
		}
		let claimed = model.output(&tokens, finish, sampling).unwrap();
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
	prefix_tokens: usize,
	choices: Vec<(u8, usize)>,
}

// Of `t12` the tokenizer would make the special `t1` and a rest.
fn tokens(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
	prop::collection::vec(20u32..64, count)
}

fn processing() -> impl Strategy<Value = LogitsProcessing> {
	let biases = prop::collection::btree_map(0u32..64, -3_000i32..3_000, 0..4);
	(
		0u16..20,
		0u16..300,
		800u16..1_300,
		-500i16..500,
		0i16..500,
		biases,
	)
		.prop_map(
			|(top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, biases)| {
				LogitsProcessing {
					top_k,
					min_p,
					repetition_penalty,
					presence_penalty,
					frequency_penalty,
					logit_bias: biases.into_iter().collect::<Vec<_>>().try_into().unwrap(),
				}
			},
		)
}

fn job() -> impl Strategy<Value = Job> {
	(
		prop_oneof![tokens(1..20), tokens(100..240)],
		1u32..140,
		prop_oneof![
			Just((0u16, 1_000u16)),
			Just((1_000, 1_000)),
			Just((900, 800))
		],
		prop::option::of(processing()),
		any::<u8>(),
		0usize..80,
		prop::option::weighted(0.3, prop::option::of(0usize..100)),
		prop::option::of((1u32..50, 1usize..40)),
	)
		.prop_map(
			|(
				prompt,
				max_tokens,
				(temperature, top_p),
				processing,
				seed,
				arrives,
				check,
				slices,
			)| {
				Job {
					prompt,
					max_tokens,
					temperature,
					top_p,
					processing,
					seed,
					arrives,
					check,
					slices,
				}
			},
		)
}

/// What a job has of others.
#[derive(Clone, Debug)]
enum Alike {
	/// Nothing.
	None,
	/// It asks what the one before asked.
	Again,
	/// Its prompt begins with so much of what others begin with.
	Begins(usize),
}

fn alike() -> impl Strategy<Value = Alike> {
	prop_oneof![
		Just(Alike::None),
		Just(Alike::Again),
		(1usize..200).prop_map(Alike::Begins)
	]
}

fn schedules() -> impl Strategy<Value = Schedule> {
	(
		tokens(1..200),
		prop::collection::vec((job(), alike()), 1..10),
		1usize..8,
		1usize..3_000,
		prop_oneof![1 => Just(0usize), 6 => 1usize..300, 1 => Just(100_000)],
		prop::collection::vec((any::<u8>(), 1usize..150), 1..40),
	)
		.prop_map(
			|(beginning, drawn, answers, cache_tokens, prefix_tokens, choices)| {
				let mut jobs: Vec<Job> = Vec::new();
				for (mut job, alike) in drawn {
					match (alike, jobs.last()) {
						(Alike::Again, Some(before)) => {
							job = Job {
								arrives: job.arrives,
								check: job.check,
								slices: job.slices,
								..before.clone()
							}
						}
						(Alike::Begins(n), _) => {
							let shared = beginning.iter().take(n).copied();
							job.prompt = shared.chain(job.prompt).take(240).collect();
						}
						_ => (),
					}
					jobs.push(job);
				}
				Schedule {
					jobs,
					answers,
					cache_tokens,
					prefix_tokens,
					choices,
				}
			},
		)
}

/// What a schedule went through.
#[derive(Debug, Default)]
struct Seen {
	most_rows: usize,
	waited: bool,
	joined_others: usize,
	left_others: usize,
	/// Texts that took a part from others, and tokens of these parts.
	reuses: usize,
	reused: usize,
	/// Steps with which something was kept no longer.
	evicted: usize,
	/// Most answers that paused at a time, and steps before which some had lost their caches.
	paused: usize,
	fed_again: usize,
}

/// What is seen of a job from outside.
struct Watched {
	replied: Receiver<Result<Outcome, EngineError>>,
	/// Tokens that were told.
	told: (Receiver<u32>, Vec<u32>),
	ticket: Ticket,
	slices: Option<(u32, usize)>,
}

impl Watched {
	/// Pays for more at every so many ticks, and checks that no more was written than that.
	fn tick(&mut self, tick: usize) {
		self.told.1.extend(self.told.0.try_iter());
		let Some((slice, every)) = self.slices else {
			return;
		};
		let allowed = self.ticket.allowed();
		let told = self.told.1.len();
		assert!(told <= allowed as usize, "{told} of {allowed}");
		if tick.is_multiple_of(every) && told == allowed as usize {
			self.ticket.allow(allowed + slice);
		}
	}

	/// What came of it, which it was told.
	fn outcome(mut self) -> Result<Outcome, EngineError> {
		self.told.1.extend(self.told.0.try_iter());
		let outcome = self.replied.try_recv().unwrap();
		if let Ok(Outcome::Answer(tokens, _)) = &outcome {
			assert_eq!(tokens, &self.told.1);
		}
		outcome
	}
}

/// Does a schedule. Gives what came of the jobs.
fn follow(
	schedule: &Schedule,
	prepared: Vec<(Vec<u32>, Reader)>,
	mut batch: Batch,
	seen: &mut Seen,
) -> Vec<Result<Outcome, EngineError>> {
	let mut arriving: VecDeque<(usize, Sequence)> = VecDeque::new();
	let mut jobs: Vec<Watched> = Vec::new();
	for (job, (tokens, reader)) in schedule.jobs.iter().zip(prepared) {
		let (reply, replied) = sync_channel(1);
		let (tell, told) = channel();
		let (most, reader) = match reader {
			Reader::Write(writer) => {
				let most = tokens.len() + job.max_tokens as usize;
				(most, Reader::Write(writer.telling(tell)))
			}
			check => (tokens.len(), check),
		};
		// Half of them begin when they are paid.
		let first = job
			.slices
			.map_or(u32::MAX, |(slice, _)| (slice % 2) * slice);
		let ticket = Ticket::default().allowing(first);
		jobs.push(Watched {
			replied,
			told: (told, Vec::new()),
			ticket: ticket.clone(),
			slices: job.slices,
		});
		arriving.push_back((
			job.arrives,
			Sequence {
				tokens,
				most,
				reader,
				arrived: Instant::now(),
				ticket,
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
		jobs.iter_mut().for_each(|job| job.tick(tick));
		batch.resume();
		let ready: Vec<_> = Work::ALL.into_iter().filter(|w| batch.has(*w)).collect();
		if ready.is_empty() {
			if arriving.is_empty() && batch.paused() == 0 {
				break;
			}
			continue;
		}
		let (choice, chunk) = choices.next().unwrap();
		let (before, kept_before) = (batch.decoding(), batch.kept().0);
		let done = batch.step(ready[*choice as usize % ready.len()], *chunk);
		batch.reply();
		let after = batch.decoding();
		let (kept, most) = batch.kept();
		assert!(kept <= most, "{kept} bytes are kept of {most}");
		seen.evicted += usize::from(kept < kept_before);
		seen.reuses += usize::from(done.reuses);
		seen.reused += done.reused;
		seen.most_rows = seen.most_rows.max(after);
		seen.waited |= batch.waiting() > 0;
		seen.paused = seen.paused.max(batch.paused());
		seen.fed_again += usize::from(batch.fed_again() > 0);
		seen.joined_others += usize::from(before > 0 && after > before);
		seen.left_others += usize::from(after > 0 && after < before);
	}
	assert_eq!(batch.waiting(), 0, "everybody had a turn");
	jobs.into_iter().map(Watched::outcome).collect()
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
			prefix_bytes: match schedule.prefix_tokens {
				0 => 0,
				n => layout.bytes(n),
			},
		};
		let batch = Batch::new(model.clone(), open(name, 2, "disable").0, bounds);
		let outcomes = follow(&schedule, prepared, batch, &mut seen.borrow_mut());
		prop_assert_eq!(outcomes, expected);
	});
	let seen = seen.into_inner();
	println!("{seen:?}");
	// What is usual is several times as much.
	assert!(
		seen.most_rows >= 2 && seen.waited && seen.joined_others >= 5 && seen.left_others >= 5,
		"the schedules were too simple: {seen:?}"
	);
	assert!(
		seen.reuses >= 5 && seen.reused >= 100 && seen.evicted >= 1,
		"too little was reused: {seen:?}"
	);
	assert!(
		seen.paused >= 2 && seen.fed_again >= 1,
		"too little paused: {seen:?}"
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

/// Whose caches are whole numbers.
#[test]
fn no_schedule_changes_a_bit_of_integer() {
	all_schedules("llama-integer", 48);
}

/// A batch on a tiny canonical model, which keeps at most so many bytes of texts that have ended; and a graph for who runs alone.
pub(super) fn batch(bounds: impl FnOnce(&Layout) -> Bounds) -> (Arc<LanguageModel>, Graph, Batch) {
	let (alone, layout) = open("llama-fp32", 1, "disable");
	let bounds = bounds(&layout);
	let model = language("llama-fp32", layout);
	let batch = Batch::new(model.clone(), open("llama-fp32", 1, "disable").0, bounds);
	(model, alone, batch)
}

pub(super) fn bounds(prefix_bytes: usize) -> Bounds {
	Bounds {
		answers: 8,
		cache_bytes: usize::MAX,
		prefix_bytes,
	}
}

pub(super) fn asked(prompt: Vec<u32>, max_tokens: u32) -> Job {
	Job {
		prompt,
		max_tokens,
		temperature: 0,
		top_p: 1_000,
		processing: None,
		seed: 0,
		arrives: 0,
		check: None,
		slices: None,
	}
}

/// A text for the batch, and what has to come of it.
fn add(
	batch: &mut Batch,
	model: &LanguageModel,
	alone: &Graph,
	job: &Job,
) -> (Receiver<Result<Outcome, EngineError>>, Outcome) {
	add_with(batch, model, alone, job, Ticket::default())
}

/// The same, for somebody who waits so long and allows so much.
pub(super) fn add_with(
	batch: &mut Batch,
	model: &LanguageModel,
	alone: &Graph,
	job: &Job,
	ticket: Ticket,
) -> (Receiver<Result<Outcome, EngineError>>, Outcome) {
	let (tokens, reader, expected) = job.prepare(model, alone);
	let (reply, replied) = sync_channel(1);
	batch.add(Sequence {
		most: tokens.len() + job.max_tokens as usize,
		tokens,
		reader,
		arrived: Instant::now(),
		ticket,
		reply,
	});
	(replied, expected)
}

/// Does everything there is to do, and checks what comes of it. Gives how many tokens were fed, and how many were not.
fn finish(
	batch: &mut Batch,
	replies: Vec<(Receiver<Result<Outcome, EngineError>>, Outcome)>,
) -> (usize, usize) {
	let (mut fed, mut reused) = (0, 0);
	while let Some(work) = Work::ALL.into_iter().rev().find(|w| batch.has(*w)) {
		let done = batch.step(work, 32);
		fed += if work == Work::Decode { 0 } else { done.tokens };
		reused += done.reused;
	}
	batch.reply();
	for (replied, expected) in replies {
		assert_eq!(replied.try_recv().unwrap(), Ok(expected));
	}
	(fed, reused)
}

#[test]
fn what_was_written_here_is_measured_without_its_prompt() {
	let (model, alone, mut batch) = batch(|_| bounds(usize::MAX));
	let prompt: Vec<u32> = (0..200).map(|i| 20 + i * 7 % 44).collect();
	let job = asked(prompt, 20);
	let written = add(&mut batch, &model, &alone, &job);
	assert_eq!(finish(&mut batch, vec![written]), (200, 0));
	// The answer may have ended before its 20 tokens.
	let check = Job {
		check: Some(None),
		..job
	};
	let measured = add(&mut batch, &model, &alone, &check);
	let (fed, reused) = finish(&mut batch, vec![measured]);
	// Positions that say a token of the answer, and those that the challenges ask for: 8 each.
	assert!(
		fed <= 20 + 2 * 8 && reused >= 200 - 1 - 2 * 8,
		"{fed}, {reused}"
	);
}

#[test]
fn texts_that_come_together_share_the_work_of_what_they_begin_with() {
	let (model, alone, mut batch) = batch(|_| bounds(1));
	let replies = (0..4).map(|n| {
		let mut prompt: Vec<u32> = (0..200).map(|i| 20 + i * 5 % 44).collect();
		prompt.extend([20 + n; 10]);
		add(&mut batch, &model, &alone, &asked(prompt, 3))
	});
	let replies = replies.collect();
	// Each has ten tokens of its own. Pieces of 32 overlap the end of what they have in common.
	let (fed, reused) = finish(&mut batch, replies);
	assert!(fed <= 200 + 4 * 10 + 3 * 32, "{fed} were fed, {reused} not");
	assert_eq!(fed + reused, 4 * 210);
}

#[test]
fn who_keeps_nothing_computes_every_text_for_itself() {
	let (model, alone, mut batch) = batch(|_| bounds(0));
	for _ in 0..2 {
		let replies = [(); 2].map(|()| add(&mut batch, &model, &alone, &asked(vec![20; 100], 3)));
		assert_eq!(finish(&mut batch, replies.into()), (200, 0));
	}
}

#[test]
fn what_was_used_least_recently_goes_first() {
	// Room for two texts of one block.
	let (model, alone, mut batch) = batch(|layout| bounds(2 * layout.bytes(1)));
	let mut reused = |token: u32| {
		let text = add(&mut batch, &model, &alone, &asked(vec![token; 50], 1));
		finish(&mut batch, vec![text]).1
	};
	assert_eq!(
		[20, 21, 20, 22, 20, 21].map(&mut reused),
		[0, 0, 49, 0, 49, 0]
	);
}

#[test]
fn answers_come_before_what_is_kept() {
	let (model, alone, mut batch) = batch(|layout| Bounds {
		cache_bytes: 3 * layout.bytes(1),
		..bounds(usize::MAX)
	});
	let short = add(&mut batch, &model, &alone, &asked(vec![20; 50], 1));
	finish(&mut batch, vec![short]);
	assert_eq!(batch.kept().0, model.layout.bytes(1));
	let long = add(&mut batch, &model, &alone, &asked(vec![21; 200], 100));
	assert_eq!(batch.kept().0, 0, "the answer may need all three blocks");
	finish(&mut batch, vec![long]);
}

#[test]
fn a_long_prompt_does_not_keep_a_short_one_waiting() {
	let (model, alone, mut batch) = batch(|_| Bounds {
		answers: 2,
		..bounds(0)
	});
	let replies =
		[300, 3].map(|length| add(&mut batch, &model, &alone, &asked(vec![20; length], 1)));
	for _ in 0..2 {
		batch.step(Work::Prompt, 32);
		batch.reply();
	}
	let [long, short] = &replies;
	assert!(long.0.try_recv().is_err(), "268 tokens are left");
	assert_eq!(short.0.try_recv().unwrap().as_ref(), Ok(&short.1));
	while batch.has(Work::Prompt) {
		batch.step(Work::Prompt, 32);
	}
	batch.reply();
	assert_eq!(long.0.try_recv().unwrap().as_ref(), Ok(&long.1));
}
