//! Language models: sessions, decoding against one pass, pieces, room in the cache, company, and a long text.

use std::path::Path;

use codec::Encode;
use consilience_primitives::{
	manifest::{self, Manifest},
	request::{Message, Prompt, Role},
	List,
};
use polkadot_sdk::sp_crypto_hashing::blake2_256;

use super::{
	reference::{Comparison, Reference},
	trace::{Axis, Found},
	Cause, Measurement, Outcome, Setting, LOAD,
};
use crate::{
	engine::{language_model, reference_input},
	session::Graph,
	tensor::Raw,
	text::{
		cache::{Cache, Layout},
		LanguageModel,
	},
	EngineError,
};

/// What is asked beside the manifest's reference input.
const PROMPTS: [&str; 2] = [
	"Write a Rust function that returns the n-th Fibonacci number, and explain it.",
	"Nenne drei Flüsse in Österreich und übersetze sie ins Englische. 日本語でも。",
];
/// Tokens of a text that are drawn by chance: real ones use a small part of a vocabulary.
const NOISE: usize = 50;
/// Most tokens of a prompt.
const PROMPT: usize = 100;
/// Tokens that the model says next.
const ANSWER: usize = 24;
/// Tokens at the end of the long text that are decoded.
const TAIL: usize = 16;
/// Slots to spare in a cache with room.
const SPARE: usize = 512;
/// Length of the pieces in which the reference of the long text is fed.
const PIECE: usize = 512;
/// Tokens that are fed together when an operator is looked for, before all of a long piece are.
const FEW: usize = 16;

struct Text {
	ids: Vec<u32>,
	/// Where the answer begins.
	start: usize,
}

/// How tokens are fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
	/// All at once.
	Once,
	/// The prompt at once, then one by one.
	Decode,
	/// In pieces of so many.
	Pieces(usize),
	/// All at once, into a cache with room to spare.
	Room,
	/// Each prompt alone, then all texts together, a row of a batch each.
	Batch,
	/// The long text in pieces of so many and its end one by one, into a cache that grows.
	Long(usize),
}

impl Feed {
	fn name(self) -> String {
		match self {
			Self::Once => "one pass".into(),
			Self::Decode => "decode with cache".into(),
			Self::Pieces(n) => format!("prefill in pieces of {n}"),
			Self::Room => format!("a cache with {SPARE} tokens to spare"),
			Self::Batch => "texts of several lengths in one batch".into(),
			Self::Long(n) => format!("the long text in pieces of {n}, its last {TAIL} decoded"),
		}
	}

	/// Ways for the reference's session, or another's.
	fn all(base: bool, thorough: bool) -> Vec<Self> {
		match (base, thorough) {
			(true, true) => vec![
				Self::Decode,
				Self::Pieces(1),
				Self::Pieces(7),
				Self::Pieces(64),
				Self::Room,
				Self::Batch,
				Self::Long(200),
			],
			(true, false) => vec![
				Self::Decode,
				Self::Pieces(7),
				Self::Room,
				Self::Batch,
				Self::Long(200),
			],
			(false, _) => vec![Self::Once, Self::Decode, Self::Long(PIECE)],
		}
	}

	fn cause(self) -> Cause {
		match self {
			Self::Room => Cause::Capacity,
			Self::Batch => Cause::Batch,
			_ => Cause::Rows,
		}
	}

	/// Where each piece of a text ends.
	fn ends(self, text: &Text) -> Vec<usize> {
		let n = text.ids.len();
		match self {
			Self::Once | Self::Room => vec![n],
			Self::Decode | Self::Batch => (text.start..=n).collect(),
			Self::Pieces(size) => pieces(n, size),
			Self::Long(size) => {
				let mut ends = pieces(text.start, size);
				ends.extend(text.start + 1..=n);
				ends
			}
		}
	}
}

fn pieces(tokens: usize, size: usize) -> Vec<usize> {
	(1..=tokens.div_ceil(size))
		.map(|i| (i * size).min(tokens))
		.collect()
}

/// Units of progress that feeding a piece is worth: one token reads all weights, as many do.
fn units(tokens: usize) -> u64 {
	tokens.max(8) as u64
}

/// The token with the largest logit; the first of several.
fn best(logits: &[f32]) -> u32 {
	let mut best = 0;
	for (i, l) in logits.iter().enumerate() {
		if *l > logits[best] {
			best = i;
		}
	}
	best as u32
}

/// A model, and the texts on which it is measured.
struct Subject {
	model: LanguageModel,
	/// Short ones, and in the end the long one if there is one.
	texts: Vec<Text>,
	has_long: bool,
}

impl Subject {
	fn layout(&self) -> &Layout {
		&self.model.layout
	}

	/// Texts that a way is about, with their numbers.
	fn of(&self, feed: Feed) -> impl Iterator<Item = (usize, &Text)> {
		let short = self.texts.len() - usize::from(self.has_long);
		let is_long = matches!(feed, Feed::Long(_));
		let texts = self.texts.iter().enumerate();
		texts.filter(move |(i, _)| (*i >= short) == is_long)
	}

	/// Why a way makes no sense for this model.
	fn refuses(&self, feed: Feed) -> Option<&'static str> {
		let grows = self.layout().kind == manifest::Cache::Growing;
		match feed {
			Feed::Batch if grows => {
				Some("the engine writes texts of a model with a growing cache one by one")
			}
			Feed::Room if grows => Some("a growing cache has no room to spare"),
			Feed::Long(_) if !self.has_long => {
				Some("the long text would be no longer than the others")
			}
			_ => None,
		}
	}

	fn work(&self, feed: Feed) -> u64 {
		if self.refuses(feed).is_some() {
			return 0;
		}
		let of_text = |text: &Text| {
			let mut before = 0;
			let mut sum = 0;
			for end in feed.ends(text) {
				sum += units(end - before);
				before = end;
			}
			sum
		};
		self.of(feed).map(|(_, text)| of_text(text)).sum()
	}
}

/// Prompts, each with what the model says next, and the long text.
fn subject(
	m: &mut Measurement<'_>,
	model: LanguageModel,
	manifest: &Manifest,
	graph: &Graph,
) -> Result<Subject, EngineError> {
	let input = reference_input(manifest)?;
	let mut prompts = vec![model.question(&input)?.prompt];
	if m.options.thorough {
		for prompt in PROMPTS {
			let bytes = prompt.as_bytes().to_vec();
			let prompt = if model.template.is_some() {
				Prompt::Chat(List::truncate_from(vec![Message {
					role: Role::User,
					content: List::truncate_from(bytes),
				}]))
			} else {
				Prompt::Text(List::truncate_from(bytes))
			};
			prompts.push(model.prompt(&prompt)?);
		}
	}
	let vocabulary = model.layout.vocabulary as u32;
	let drawn = |i: usize| {
		let hash = ("consilience/exactness", i as u64).using_encoded(blake2_256);
		u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
			.checked_rem(vocabulary)
			.unwrap_or_default()
	};
	prompts.push((0..NOISE).map(drawn).collect());
	let answer = ANSWER.min(model.context / 2);
	let most = PROMPT.min(model.context - answer);
	let mut texts = Vec::new();
	for mut ids in prompts {
		ids.truncate(most);
		let start = ids.len();
		let layout = &model.layout;
		let mut cache = layout.empty(graph, start + answer)?;
		let mut next = layout.run(graph, &mut cache, &ids, |logits| {
			best(&logits[logits.len() - layout.vocabulary..])
		})?;
		m.at("what the model says", units(start));
		for _ in 1..answer {
			ids.push(next);
			next = layout.run(graph, &mut cache, &[next], best)?;
			m.at("what the model says", units(1));
		}
		ids.push(next);
		texts.push(Text { ids, start });
	}
	let long = m.options.context.min(model.context);
	let has_long = long > PROMPT + ANSWER + TAIL;
	if has_long {
		let all: Vec<u32> = texts.iter().flat_map(|t| t.ids.iter().copied()).collect();
		texts.push(Text {
			ids: all.into_iter().cycle().take(long).collect(),
			start: long - TAIL,
		});
	}
	Ok(Subject {
		model,
		texts,
		has_long,
	})
}

/// Is shown logits, with the position of the first of them.
type Look<'a> = dyn FnMut(usize, &[f32]) -> Result<(), EngineError> + 'a;

/// Feeds a text in pieces into a cache with room for so many tokens, and shows the logits with their first position.
fn feed(
	m: &mut Measurement<'_>,
	way: &str,
	(layout, graph): (&Layout, &Graph),
	ids: &[u32],
	ends: &[usize],
	cache: &mut Cache,
	see: &mut Look<'_>,
) -> Result<(), EngineError> {
	let mut start = cache.lengths()[0];
	for end in ends {
		layout.run(graph, cache, &ids[start..*end], |rows| see(start, rows))??;
		m.at(way, units(end - start));
		start = *end;
	}
	Ok(())
}

/// The error that ends a way for want of time.
fn no_time() -> EngineError {
	EngineError::Limit("there was no time left".into())
}

/// Runs one way, and compares.
fn run_way(
	m: &mut Measurement<'_>,
	subject: &Subject,
	graph: &Graph,
	(way, how): (&str, Feed),
	comparison: &mut Comparison<'_>,
) -> Result<(), EngineError> {
	let layout = subject.layout();
	if how == Feed::Batch {
		return run_batch(m, subject, graph, way, comparison);
	}
	for (n, text) in subject.of(how) {
		if m.late() {
			return Err(no_time());
		}
		let room = match how {
			Feed::Room => text.ids.len() + SPARE,
			Feed::Long(_) => 1,
			_ => text.ids.len(),
		};
		let mut cache = layout.empty(graph, room)?;
		feed(
			m,
			way,
			(layout, graph),
			&text.ids,
			&how.ends(text),
			&mut cache,
			&mut |position, rows| comparison.see(n, position, rows),
		)?;
	}
	Ok(())
}

/// Each prompt alone and then all answers together, as the engine writes them.
fn run_batch(
	m: &mut Measurement<'_>,
	subject: &Subject,
	graph: &Graph,
	way: &str,
	comparison: &mut Comparison<'_>,
) -> Result<(), EngineError> {
	let layout = subject.layout();
	let texts: Vec<_> = subject.of(Feed::Batch).collect();
	let mut batch: Option<Cache> = None;
	// Which text each row is, and how many of its tokens were fed.
	let mut rows: Vec<(usize, usize)> = Vec::new();
	for (n, text) in &texts {
		let mut cache = layout.empty(graph, text.start)?;
		let prompt = &text.ids[..text.start];
		layout.run(graph, &mut cache, prompt, |logits| {
			comparison.see(*n, 0, logits)
		})??;
		m.at(way, units(text.start));
		match &mut batch {
			None => batch = Some(cache),
			Some(batch) => layout.join(batch, cache)?,
		}
		// The texts end at several times.
		rows.push((rows.len(), text.start));
	}
	let Some(mut batch) = batch else {
		return Ok(());
	};
	let end = |row: usize| texts[row].1.ids.len() - row.min(ANSWER / 2);
	loop {
		let next: Vec<u32> = rows
			.iter()
			.map(|(row, fed)| texts[*row].1.ids[*fed])
			.collect();
		layout.run(graph, &mut batch, &next, |logits| {
			for ((row, fed), logits) in rows.iter().zip(logits.chunks_exact(layout.vocabulary)) {
				comparison.see(texts[*row].0, *fed, logits)?;
			}
			Ok::<_, EngineError>(())
		})??;
		m.at(way, units(rows.len()));
		for i in (0..rows.len()).rev() {
			rows[i].1 += 1;
			if rows[i].1 < end(rows[i].0) {
				continue;
			}
			if rows.len() == 1 {
				return Ok(());
			}
			layout.leave(&mut batch, i)?;
			rows.swap_remove(i);
		}
	}
}

/// What a graph is fed: rows of tokens, as many in each, after a past that has seen so many.
fn inputs(
	graph: &Graph,
	past: &[(String, Raw)],
	seen: usize,
	tokens: &[u32],
	copies: usize,
) -> Vec<(String, Raw)> {
	let n = tokens.len();
	let repeated = |values: Vec<i64>| values.repeat(copies);
	let ids = tokens.iter().map(|t| i64::from(*t)).collect();
	let mut inputs = vec![(
		"input_ids".to_owned(),
		Raw::of_integers(&[copies, n], &repeated(ids)),
	)];
	if graph.has_input("position_ids") {
		let positions = (seen..seen + n).map(|p| p as i64).collect();
		let positions = Raw::of_integers(&[copies, n], &repeated(positions));
		inputs.push(("position_ids".to_owned(), positions));
	}
	if graph.has_input("attention_mask") {
		let mask = repeated(vec![1; seen + n]);
		let mask = Raw::of_integers(&[copies, seen + n], &mask);
		inputs.push(("attention_mask".to_owned(), mask));
	}
	for (name, raw) in past {
		let mut shape = raw.shape.clone();
		shape[0] *= copies;
		let raw = Raw {
			datatype: raw.datatype,
			shape,
			data: raw.data.repeat(copies),
		};
		inputs.push((name.clone(), raw));
	}
	inputs
}

/// The first tokens of a growing cache; one of slots stays as it is, because nobody sees what comes later.
fn cut(layout: &Layout, past: &mut [(String, Raw)], tokens: usize) {
	if layout.kind == manifest::Cache::Slots {
		return;
	}
	for (_, raw) in past {
		let [_, heads, all, _] = raw.shape[..] else {
			continue;
		};
		let line = raw.data.len() / heads.max(1);
		let kept = line / all.max(1) * tokens;
		raw.data = raw
			.data
			.chunks_exact(line.max(1))
			.flat_map(|line| line[..kept].iter().copied())
			.collect();
		raw.shape[2] = tokens;
	}
}

/// Two ways of feeding a graph, and how their values lie in each other.
struct Case {
	reference: Vec<(String, Raw)>,
	other: Vec<(String, Raw)>,
	axis: Option<Axis>,
}

/// The same position of a text as the reference feeds it and as another way does, in the smallest pieces that show what the cause
/// does. The rest of the text is remembered by both.
fn cases(
	m: &mut Measurement<'_>,
	subject: &Subject,
	base: &Setting,
	how: Feed,
	(text, position): (usize, usize),
	cause: Cause,
) -> Result<Vec<Case>, EngineError> {
	let graph = m.load(base)?;
	let (layout, text) = (subject.layout(), &subject.texts[text]);
	let ids = &text.ids[..];
	let all = ids.len();
	// What the reference's session remembers after so many tokens, in a cache with room for so many.
	let mut after = |tokens: usize, room: usize| {
		let mut cache = layout.empty(&graph, room)?;
		let (ends, way) = (pieces(tokens, PIECE), "looking for the operator");
		feed(
			m,
			way,
			(layout, &graph),
			ids,
			&ends,
			&mut cache,
			&mut |_, _| Ok(()),
		)?;
		layout.past(&cache)
	};
	// The piece in which the position was fed.
	let (mut start, mut end) = (0, all);
	for e in how.ends(text) {
		if e > position {
			end = e;
			break;
		}
		start = e;
	}
	Ok(match cause {
		Cause::Threads | Cause::Optimization => {
			let mut ranges = vec![(start, end)];
			if end - start > PROMPT + ANSWER {
				let few = (position + 1).saturating_sub(FEW).max(start);
				ranges.insert(0, (few, position + 1));
			}
			let case = |(start, end): (usize, usize)| {
				let inputs = inputs(&graph, &after(start, all)?, start, &ids[start..end], 1);
				Ok(Case {
					reference: inputs.clone(),
					other: inputs,
					axis: None,
				})
			};
			ranges
				.into_iter()
				.map(case)
				.collect::<Result<_, EngineError>>()?
		}
		Cause::Rows => {
			// The reference fed what is before the piece together with it; all of a text, where nothing is before it.
			let from = if end <= PIECE {
				0
			} else {
				start.saturating_sub(PROMPT)
			};
			let to = if start == from { all.min(PIECE) } else { end };
			let reference = inputs(&graph, &after(from, all)?, from, &ids[from..to], 1);
			let mut past = after(end, all)?;
			cut(layout, &mut past, start);
			vec![Case {
				reference,
				other: inputs(&graph, &past, start, &ids[start..end], 1),
				axis: Some(Axis {
					lengths: (to - from, end - start),
					starts: (start - from, 0),
					count: end - start,
				}),
			}]
		}
		Cause::Capacity => {
			let mut of = |room| {
				let past = after(0, room)?;
				let slots = past.get(1).map_or(0, |(_, raw)| raw.shape[2]);
				Ok::<_, EngineError>((inputs(&graph, &past, 0, ids, 1), slots))
			};
			let ((reference, few), (other, many)) = (of(all)?, of(all + SPARE)?);
			vec![Case {
				reference,
				other,
				axis: Some(Axis {
					lengths: (few, many),
					starts: (0, 0),
					count: few,
				}),
			}]
		}
		Cause::Batch => {
			let copies = subject.of(how).count();
			let past = after(position, all)?;
			let token = &ids[position..position + 1];
			vec![Case {
				reference: inputs(&graph, &past, position, token, 1),
				other: inputs(&graph, &past, position, token, copies),
				axis: Some(Axis {
					lengths: (1, copies),
					starts: (0, 0),
					count: 1,
				}),
			}]
		}
	})
}

/// The operator because of which a way differs from the reference at a position of a text.
fn localise(
	m: &mut Measurement<'_>,
	subject: &Subject,
	(base, setting): (&Setting, &Setting),
	how: Feed,
	place: (usize, usize),
	cause: Cause,
) -> Result<Option<Found>, EngineError> {
	for case in cases(m, subject, base, how, place, cause)? {
		let (a, b) = ((base, &case.reference[..]), (setting, &case.other[..]));
		let found = m.between(a, b, case.axis, cause)?;
		if found.is_some() {
			return Ok(found);
		}
	}
	Ok(None)
}

/// Runs every way. Gives the reference's digest and the tokens of each text.
pub(super) fn run(
	m: &mut Measurement<'_>,
	folder: &Path,
	manifest: &Manifest,
) -> Result<(String, Vec<usize>), EngineError> {
	let mut model = language_model(folder, &manifest.task)?;
	let settings = m.settings.clone();
	let base = &settings[0];
	let mut graph = Some(m.load(base)?);
	let subject = match &graph {
		Some(graph) => {
			model.layout.check(graph)?;
			subject(m, model, manifest, graph)?
		}
		None => return Err(EngineError::Run("no graph".into())),
	};
	let layout = subject.layout();
	let thorough = m.options.thorough;
	let work = |feeds: Vec<Feed>| feeds.into_iter().map(|f| subject.work(f)).sum::<u64>();
	m.total = m.done
		+ work(vec![Feed::Once, Feed::Long(PIECE)])
		+ work(Feed::all(true, thorough))
		+ (LOAD + work(Feed::all(false, thorough))) * (settings.len() as u64 - 1);

	let mut reference = Reference::new(layout.vocabulary)?;
	for text in &subject.texts {
		let Some(graph) = &graph else { break };
		reference.begin();
		let n = text.ids.len();
		let mut cache = layout.empty(graph, n)?;
		let ends = pieces(n, PIECE);
		let (ids, way) = (&text.ids, "the reference");
		feed(
			m,
			way,
			(layout, graph),
			ids,
			&ends,
			&mut cache,
			&mut |_, rows| reference.add(rows),
		)?;
	}
	// Ways of feeding that differ in the reference's own session.
	let mut by_feed = Vec::new();
	for (i, setting) in settings.iter().enumerate() {
		if i > 0 {
			graph = None;
		}
		for how in Feed::all(i == 0, thorough) {
			let name = how.name();
			let way = format!("{}: {name}", setting.name());
			let mut comparison = Comparison::new(&reference);
			if let Some(why) = subject.refuses(how) {
				let why = why.into();
				m.note(
					(setting, &name),
					how.cause(),
					0,
					Outcome::Inapplicable { why },
				);
				continue;
			}
			let mut run = || {
				if m.late() {
					return Err(no_time());
				}
				let graph = match &mut graph {
					Some(graph) => graph,
					none => none.insert(m.load(setting)?),
				};
				run_way(m, &subject, graph, (&way, how), &mut comparison)
			};
			let ran = run();
			let outcome = match (comparison.outcome(), ran) {
				(Outcome::Equal, Err(EngineError::Limit(why))) => Outcome::Skipped { why },
				(Outcome::Equal, Err(e)) if i == 0 => return Err(e),
				(Outcome::Equal, Err(e)) => Outcome::Skipped { why: e.to_string() },
				(outcome, _) => outcome,
			};
			let kind = std::mem::discriminant(&how);
			let fed = by_feed.contains(&kind);
			let cause = match setting.cause(base) {
				// It would differ in any session.
				Some(_) if fed => how.cause(),
				Some(cause) => cause,
				None => how.cause(),
			};
			let compared = comparison.compared;
			let first = match &outcome {
				Outcome::Differs(d) => Some((d.text, d.position)),
				_ => None,
			};
			m.note((setting, &name), cause, compared, outcome);
			let Some(place) = first else { continue };
			if i == 0 {
				by_feed.push(kind);
			}
			if !fed && m.looks_for(cause) {
				// Two graphs at a time are enough.
				graph = None;
				let found = localise(m, &subject, (base, setting), how, place, cause);
				m.blame(&way, cause, found);
			}
		}
	}
	Ok((reference.digest(), reference.lengths()))
}
