//! Many texts on one graph: which are fed, in pieces of which length, and together with which others.
//!
//! In the exact class no choice made here changes a bit of what any text gets.

use std::{
	collections::VecDeque,
	sync::{mpsc::SyncSender, Arc},
	time::Instant,
};

use consilience_primitives::{evidence::Evidence, request::FinishReason};

use super::{cache::Cache, generate::Writer, measure::Measurement, prefix::Kept, LanguageModel};
use crate::{session::Graph, ticket::Ticket, EngineError};

/// Checks that are fed in turns; more wait.
const CHECKS: usize = 4;

/// What comes of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
	/// An answer was written.
	Answer(Vec<u32>, FinishReason),
	/// Parts of an answer were measured.
	Evidence(Vec<Evidence>),
}

/// Who takes a text's logits.
pub(crate) enum Reader {
	/// Writes an answer.
	Write(Writer),
	/// Measures one.
	Check(Measurement),
}

impl Reader {
	/// Takes the logits at a position; they come in order. Gives the outcome with the last that it needs.
	fn see(
		&mut self,
		model: &LanguageModel,
		position: usize,
		logits: &[f32],
	) -> Result<Option<Outcome>, EngineError> {
		Ok(match self {
			Self::Write(writer) => writer
				.see(model, position, logits)?
				.map(|(tokens, finish)| Outcome::Answer(tokens, finish)),
			Self::Check(measurement) => measurement.see(position, logits).map(Outcome::Evidence),
		})
	}

	/// Whether the logits at a position are looked at.
	fn needs(&self, position: usize) -> bool {
		match self {
			Self::Write(writer) => writer.needs(position),
			Self::Check(measurement) => measurement.needs(position),
		}
	}
}

/// A text that is fed.
pub(crate) struct Sequence {
	/// What is fed before the answer, if one is written, begins.
	pub(crate) tokens: Vec<u32>,
	/// Most tokens there may be in the end.
	pub(crate) most: usize,
	pub(crate) reader: Reader,
	pub(crate) arrived: Instant,
	/// Until when somebody waits.
	pub(crate) ticket: Ticket,
	/// Who waits for the outcome.
	pub(crate) reply: SyncSender<Result<Outcome, EngineError>>,
}

impl Sequence {
	/// The token that was written last.
	fn last(&self) -> Option<u32> {
		match &self.reader {
			Reader::Write(writer) => writer.last(),
			Reader::Check(_) => None,
		}
	}

	/// All tokens so far: those that are fed before the answer, and the answer's.
	fn all(&self) -> impl Iterator<Item = u32> + '_ {
		let answer = match &self.reader {
			Reader::Write(writer) => writer.tokens(),
			Reader::Check(_) => &[],
		};
		self.tokens.iter().chain(answer).copied()
	}

	fn end(self, outcome: Result<Outcome, EngineError>) -> Ended {
		(self.reply, outcome)
	}
}

/// Who waits for what came of a text.
type Ended = (
	SyncSender<Result<Outcome, EngineError>>,
	Result<Outcome, EngineError>,
);

/// What a step can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
	/// The next token of every answer that is being written.
	Decode,
	/// A piece of a prompt.
	Prompt,
	/// A piece of a text that is measured.
	Check,
}

impl Work {
	pub(crate) const ALL: [Self; 3] = [Self::Decode, Self::Prompt, Self::Check];
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Done {
	/// Tokens fed, or written.
	pub(crate) tokens: usize,
	/// Runs of the graph.
	pub(crate) runs: usize,
	/// When the text arrived whose answer's first token was written.
	pub(crate) first: Option<Instant>,
	/// Tokens that were not fed, because another text's part of the cache was taken.
	pub(crate) reused: usize,
	/// Whether these were the first of their text.
	pub(crate) reuses: bool,
}

/// How much a batch takes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
	/// Most answers that are written at a time; more wait.
	pub(crate) answers: usize,
	/// Most bytes of their caches. One is always written, and its prompt may need a second cache.
	pub(crate) cache_bytes: usize,
	/// Of these, the most for what texts that have ended leave to others that begin alike; none, and nothing is taken from others.
	pub(crate) prefix_bytes: usize,
}

/// A text of which a part was fed.
struct Prefill {
	sequence: Sequence,
	/// Position that is looked at next: those below were fed, or taken from others.
	next: usize,
	/// Of those, how many were not fed.
	reused: usize,
	/// Made when it is first fed.
	cache: Option<Cache>,
}

/// Answers that are written together: a row of the cache for each.
struct Group {
	sequences: Vec<Sequence>,
	cache: Cache,
}

/// All texts on one graph.
pub(crate) struct Batch {
	model: Arc<LanguageModel>,
	graph: Graph,
	bounds: Bounds,
	/// Texts whose feeding has not begun.
	waiting: VecDeque<Sequence>,
	waiting_checks: VecDeque<Sequence>,
	/// Texts that are fed, in turns.
	prompts: VecDeque<Prefill>,
	checks: VecDeque<Prefill>,
	/// One where texts can share a cache, otherwise one for each.
	groups: Vec<Group>,
	/// What texts that have ended leave.
	kept: Kept,
	/// Of texts that have ended, for [`Self::reply`].
	ended: Vec<Ended>,
}

impl Batch {
	pub(crate) fn new(model: Arc<LanguageModel>, graph: Graph, bounds: Bounds) -> Self {
		Self {
			model,
			graph,
			bounds,
			waiting: VecDeque::new(),
			waiting_checks: VecDeque::new(),
			prompts: VecDeque::new(),
			checks: VecDeque::new(),
			groups: Vec::new(),
			kept: Kept::default(),
			ended: Vec::new(),
		}
	}

	/// Takes a text on.
	pub(crate) fn add(&mut self, sequence: Sequence) {
		match sequence.reader {
			Reader::Write(_) => self.waiting.push_back(sequence),
			Reader::Check(_) => self.waiting_checks.push_back(sequence),
		}
		self.admit();
	}

	/// Begins with what waits, as far as the bounds allow.
	fn admit(&mut self) {
		while let Some(next) = self.waiting.front() {
			let begun = self.begun();
			let bytes = self.bytes(Some(next));
			if begun > 0 && (begun >= self.bounds.answers || bytes > self.bounds.cache_bytes) {
				break;
			}
			self.prompts
				.extend(self.waiting.pop_front().map(Prefill::new));
		}
		if self.reuses() {
			// Answers come first.
			let room = self.bounds.cache_bytes.saturating_sub(self.bytes(None));
			self.kept.fit(room.min(self.bounds.prefix_bytes));
		}
		while self.checks.len() < CHECKS && !self.waiting_checks.is_empty() {
			self.checks
				.extend(self.waiting_checks.pop_front().map(Prefill::new));
		}
	}

	/// Answers that have begun.
	fn begun(&self) -> usize {
		self.decoding() + self.prompts.len()
	}

	/// Bytes of the caches of answers that have begun, and of one more, as if all grew to their ends: every row of a shared cache
	/// is as long as the longest.
	fn bytes(&self, more: Option<&Sequence>) -> usize {
		let prompts = self.prompts.iter().map(|p| &p.sequence);
		let most = (prompts.chain(self.groups.iter().flat_map(|g| &g.sequences)))
			.chain(more)
			.map(|s| s.most)
			.max();
		let rows = self.begun() + usize::from(more.is_some());
		most.map_or(0, |most| rows * self.model.layout.bytes(most))
	}

	/// Whether there is work of a kind.
	pub(crate) fn has(&self, work: Work) -> bool {
		match work {
			Work::Decode => !self.groups.is_empty(),
			Work::Prompt => !self.prompts.is_empty(),
			Work::Check => !self.checks.is_empty(),
		}
	}

	/// Answers that are being written.
	pub(crate) fn decoding(&self) -> usize {
		self.groups.iter().map(|g| g.sequences.len()).sum()
	}

	/// Texts that are not fed yet.
	pub(crate) fn waiting(&self) -> usize {
		self.waiting.len() + self.waiting_checks.len()
	}

	/// Bytes that are kept of texts that have ended, and how many there may be now.
	#[cfg(test)]
	pub(crate) fn kept(&self) -> (usize, usize) {
		let room = self.bounds.cache_bytes.saturating_sub(self.bytes(None));
		(self.kept.bytes(), room.min(self.bounds.prefix_bytes))
	}

	/// Ends everything with this error.
	pub(crate) fn fail(&mut self, error: &EngineError) {
		self.kept = Kept::default();
		let parts = self.prompts.drain(..).chain(self.checks.drain(..));
		let waiting = self.waiting.drain(..).chain(self.waiting_checks.drain(..));
		let all = parts
			.map(|p| p.sequence)
			.chain(waiting)
			.chain(self.groups.drain(..).flat_map(|g| g.sequences));
		self.ended.extend(all.map(|s| s.end(Err(error.clone()))));
	}

	/// Tells those who wait what came of the texts that have ended.
	pub(crate) fn reply(&mut self) {
		for (reply, outcome) in self.ended.drain(..) {
			// Who asked may have gone.
			let _ = reply.send(outcome);
		}
	}

	/// Ends texts for which nobody waits any more. Says whether there were such.
	pub(crate) fn drop_cancelled(&mut self) -> bool {
		let over = |s: &Sequence| s.ticket.is_over();
		let ended = &mut self.ended;
		for waiting in [&mut self.waiting, &mut self.waiting_checks] {
			for _ in 0..waiting.len() {
				match waiting.pop_front() {
					Some(text) if over(&text) => ended.push(text.end(Err(EngineError::Cancelled))),
					text => waiting.extend(text),
				}
			}
		}
		for fed in [&mut self.prompts, &mut self.checks] {
			for _ in 0..fed.len() {
				match fed.pop_front() {
					Some(part) if over(&part.sequence) => {
						ended.push(part.sequence.end(Err(EngineError::Cancelled)));
					}
					part => fed.extend(part),
				}
			}
		}
		for mut group in std::mem::take(&mut self.groups) {
			match group.drop_cancelled(&self.model, ended) {
				Ok(()) if group.sequences.is_empty() => (),
				Ok(()) => self.groups.push(group),
				Err(e) => {
					let all = group.sequences.into_iter();
					ended.extend(all.map(|s| s.end(Err(e.clone()))));
				}
			}
		}
		self.admit();
		!self.ended.is_empty()
	}

	/// Does a piece of work of a kind that there is. A piece of a text is of `chunk` tokens at most.
	pub(crate) fn step(&mut self, work: Work, chunk: usize) -> Done {
		let done = match work {
			Work::Decode => self.decode(),
			Work::Prompt | Work::Check => self.feed(work, chunk.max(1)),
		};
		self.admit();
		done
	}

	fn decode(&mut self) -> Done {
		let mut done = Done::default();
		for mut group in std::mem::take(&mut self.groups) {
			let kept = &mut self.kept;
			match group.decode(&self.model, &self.graph, kept, &mut self.ended) {
				Ok(tokens) => {
					done.tokens += tokens;
					done.runs += 1;
					if !group.sequences.is_empty() {
						self.groups.push(group);
					}
				}
				Err(e) => {
					self.kept.clear();
					let e = e.of_company(group.sequences.len());
					let all = group.sequences.into_iter();
					self.ended.extend(all.map(|s| s.end(Err(e.clone()))));
				}
			}
		}
		done
	}

	fn feed(&mut self, work: Work, chunk: usize) -> Done {
		let parts = match work {
			Work::Check => &mut self.checks,
			_ => &mut self.prompts,
		};
		let Some(mut part) = parts.pop_front() else {
			return Done::default();
		};
		let outcome = self
			.reuse(&mut part)
			.and_then(|()| part.feed(&self.model, &self.graph, chunk));
		let fed = part.next == part.sequence.tokens.len();
		let mut done = outcome
			.as_ref()
			.map_or_else(|_| Done::default(), |(_, done)| done.clone());
		if fed && work == Work::Prompt {
			done.first = Some(part.sequence.arrived);
		}
		match outcome {
			Err(e) => {
				// Memory may be what there was not enough of.
				if !matches!(e, EngineError::Unanswerable(..)) {
					self.kept.clear();
				}
				self.ended.push(part.sequence.end(Err(e)));
			}
			Ok((Some(outcome), _)) => {
				if let Some(cache) = part.cache {
					self.kept
						.keep(&self.model.layout, part.sequence.tokens.clone(), cache);
				}
				self.ended.push(part.sequence.end(Ok(outcome)));
			}
			Ok((None, _)) => match part {
				Prefill {
					sequence,
					cache: Some(cache),
					..
				} if fed => self.join(sequence, cache),
				// The others first: a long text does not keep short ones waiting.
				part => match work {
					Work::Check => self.checks.push_back(part),
					_ => self.prompts.push_back(part),
				},
			},
		}
		done
	}

	/// Whether texts take from others what those have computed of an equal beginning. Only where all ways of computing it give the
	/// same bits.
	fn reuses(&self) -> bool {
		self.bounds.prefix_bytes > 0 && self.model.layout.shares(&self.graph)
	}

	/// Takes from others what they have computed of a text's beginning: from one that is fed or written now, or from what one has
	/// left. Done before every piece, so that texts which begin alike and are fed at the same time share the work.
	fn reuse(&mut self, part: &mut Prefill) -> Result<(), EngineError> {
		if !self.reuses() {
			return Ok(());
		}
		let Prefill {
			sequence, cache, ..
		} = part;
		let layout = &self.model.layout;
		let tokens = &sequence.tokens;
		let parts = (self.prompts.iter().chain(&self.checks))
			.filter_map(|p| Some((&p.sequence, p.cache.as_ref()?, 0)));
		let rows = self.groups.iter().flat_map(|g| {
			let rows = g.sequences.iter().enumerate();
			rows.map(|(row, s)| (s, &g.cache, row))
		});
		let live = parts.chain(rows).map(|(other, cache, row)| {
			let equal = tokens
				.iter()
				.zip(other.all())
				.take_while(|(a, b)| **a == *b);
			(equal.count().min(cache.lengths()[row]), cache, row)
		});
		let live = live.max_by_key(|(equal, ..)| *equal);
		let have = cache.as_ref().map_or(0, |c| c.lengths()[0]);
		let least = live.as_ref().map_or(have, |(equal, ..)| have.max(*equal));
		let best = match self.kept.longest(tokens, least) {
			Some((equal, cache)) => Some((equal, cache, 0)),
			None => live.filter(|(equal, ..)| *equal > have),
		};
		if let Some((equal, from, row)) = best {
			let to = match cache {
				Some(cache) => cache,
				none => none.insert(layout.empty(&self.graph, tokens.len() + 1)?),
			};
			layout.lend(from, row, to, equal)?;
		}
		Ok(())
	}

	/// A prompt is fed, and its answer goes on beside the others.
	fn join(&mut self, sequence: Sequence, cache: Cache) {
		let layout = &self.model.layout;
		match self
			.groups
			.first_mut()
			.filter(|_| layout.shares(&self.graph))
		{
			None => self.groups.push(Group {
				sequences: vec![sequence],
				cache,
			}),
			Some(group) => match layout.join(&mut group.cache, cache) {
				Ok(()) => group.sequences.push(sequence),
				// The cache may have been on the move: nothing that it holds counts any more.
				Err(e) => {
					let all = self.groups.drain(..).flat_map(|g| g.sequences);
					let all = all.chain([sequence]).map(|s| s.end(Err(e.clone())));
					self.ended.extend(all);
				}
			},
		}
	}
}

impl Prefill {
	fn new(sequence: Sequence) -> Self {
		Self {
			sequence,
			next: 0,
			reused: 0,
			cache: None,
		}
	}

	/// Feeds so many tokens of what is left, those left out that the cache has and nobody looks at.
	fn feed(
		&mut self,
		model: &LanguageModel,
		graph: &Graph,
		chunk: usize,
	) -> Result<(Option<Outcome>, Done), EngineError> {
		let Sequence { tokens, reader, .. } = &mut self.sequence;
		let cache = match &mut self.cache {
			Some(cache) => cache,
			// Room for the answer's beginning spares most of them a move.
			none => none.insert(model.layout.empty(graph, tokens.len() + 1)?),
		};
		let have = cache.lengths()[0];
		let positions: Vec<_> = (self.next..tokens.len())
			.filter(|p| *p >= have || reader.needs(*p))
			.take(chunk)
			.collect();
		let piece: Vec<_> = positions.iter().map(|p| tokens[*p]).collect();
		let mut outcome = None;
		model
			.layout
			.run_at(graph, cache, &piece, &positions, |logits| {
				let rows = logits.chunks_exact(model.layout.vocabulary);
				for (row, position) in rows.zip(&positions) {
					outcome = reader.see(model, *position, row)?;
				}
				Ok::<_, EngineError>(())
			})??;
		// The last is always looked at, so there was one.
		let next = positions.last().map_or(tokens.len(), |last| last + 1);
		let reused = next - self.next - piece.len();
		let done = Done {
			tokens: piece.len(),
			runs: 1,
			first: None,
			reused,
			reuses: reused > 0 && self.reused == 0,
		};
		self.next = next;
		self.reused += reused;
		Ok((outcome, done))
	}
}

impl Group {
	/// Ends answers for which nobody waits any more.
	fn drop_cancelled(
		&mut self,
		model: &LanguageModel,
		ended: &mut Vec<Ended>,
	) -> Result<(), EngineError> {
		// From the last on, so that who takes a place was looked at.
		for i in (0..self.sequences.len()).rev() {
			if self.sequences[i].ticket.is_over() {
				let sequence = self.sequences.swap_remove(i);
				ended.push(sequence.end(Err(EngineError::Cancelled)));
				if !self.sequences.is_empty() {
					model.layout.leave(&mut self.cache, i)?;
				}
			}
		}
		Ok(())
	}

	/// Writes the next token of every answer. Gives how many that were; those that are complete have left.
	fn decode(
		&mut self,
		model: &LanguageModel,
		graph: &Graph,
		kept: &mut Kept,
		ended: &mut Vec<Ended>,
	) -> Result<usize, EngineError> {
		let tokens: Vec<u32> = self.sequences.iter().filter_map(Sequence::last).collect();
		let positions = self.cache.lengths().to_vec();
		let sequences = &mut self.sequences;
		let outcomes: Vec<_> = model
			.layout
			.run(graph, &mut self.cache, &tokens, |logits| {
				logits
					.chunks_exact(model.layout.vocabulary)
					.zip(sequences.iter_mut().zip(positions))
					.map(|(row, (sequence, position))| sequence.reader.see(model, position, row))
					.collect()
			})?;
		for (i, outcome) in outcomes.into_iter().enumerate().rev() {
			if let Some(end) = outcome.transpose() {
				// From the last on, so that who takes the place was looked at.
				let sequence = self.sequences.swap_remove(i);
				if let Ok(Outcome::Answer(answer, _)) = &end {
					let tokens = sequence.tokens.iter().chain(answer).copied();
					let tokens = tokens.take(self.cache.lengths()[i]).collect();
					kept.keep_row(&model.layout, graph, tokens, &self.cache, i);
				}
				ended.push(sequence.end(end));
				if !self.sequences.is_empty() {
					model.layout.leave(&mut self.cache, i)?;
				}
			}
		}
		Ok(tokens.len())
	}
}
