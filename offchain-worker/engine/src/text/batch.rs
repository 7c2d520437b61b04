//! Many texts on one graph: which are fed, in pieces of which length, and together with which others.
//!
//! In the exact class no choice made here changes a bit of what any text gets.

use std::{
	collections::VecDeque,
	sync::{mpsc::SyncSender, Arc},
	time::Instant,
};

use consilience_primitives::{evidence::Evidence, request::FinishReason};

use super::{cache::Cache, generate::Writer, measure::Measurement, LanguageModel};
use crate::{session::Graph, EngineError};

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
}

/// A text that is fed.
pub(crate) struct Sequence {
	/// What is fed before the answer, if one is written, begins.
	pub(crate) tokens: Vec<u32>,
	/// Most tokens there may be in the end.
	pub(crate) most: usize,
	pub(crate) reader: Reader,
	pub(crate) arrived: Instant,
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
}

/// How much a batch takes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
	/// Most answers that are written at a time; more wait.
	pub(crate) answers: usize,
	/// Most bytes of their caches. One is always written, and its prompt may need a second cache.
	pub(crate) cache_bytes: usize,
}

/// A text of which a part was fed.
struct Prefill {
	sequence: Sequence,
	fed: usize,
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
			let begun = self.decoding() + self.prompts.len();
			// As if all grew to their ends: every row of a shared cache is as long as the longest.
			let most = self
				.prompts
				.iter()
				.map(|p| &p.sequence)
				.chain(self.groups.iter().flat_map(|g| &g.sequences))
				.map(|s| s.most)
				.fold(next.most, usize::max);
			let bytes = (begun + 1) * self.model.layout.bytes(most);
			if begun > 0 && (begun >= self.bounds.answers || bytes > self.bounds.cache_bytes) {
				break;
			}
			self.prompts
				.extend(self.waiting.pop_front().map(Prefill::new));
		}
		while self.checks.len() < CHECKS && !self.waiting_checks.is_empty() {
			self.checks
				.extend(self.waiting_checks.pop_front().map(Prefill::new));
		}
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

	/// Ends everything with this error.
	pub(crate) fn fail(&mut self, error: &EngineError) {
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
			match group.decode(&self.model, &self.graph, &mut self.ended) {
				Ok(tokens) => {
					done.tokens += tokens;
					done.runs += 1;
					if !group.sequences.is_empty() {
						self.groups.push(group);
					}
				}
				Err(e) => {
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
		let before = part.fed;
		let outcome = part.feed(&self.model, &self.graph, chunk);
		let mut done = Done {
			tokens: part.fed - before,
			runs: 1,
			first: None,
		};
		let fed = part.fed == part.sequence.tokens.len();
		if fed && work == Work::Prompt {
			done.first = Some(part.sequence.arrived);
		}
		match (outcome, part) {
			(Err(e), part) => self.ended.push(part.sequence.end(Err(e))),
			(Ok(Some(outcome)), part) => self.ended.push(part.sequence.end(Ok(outcome))),
			(
				Ok(None),
				Prefill {
					sequence,
					cache: Some(cache),
					..
				},
			) if fed => self.join(sequence, cache),
			// The others first: a long text does not keep short ones waiting.
			(Ok(None), part) => parts.push_back(part),
		}
		done
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
			fed: 0,
			cache: None,
		}
	}

	/// Feeds so many tokens of what is left.
	fn feed(
		&mut self,
		model: &LanguageModel,
		graph: &Graph,
		chunk: usize,
	) -> Result<Option<Outcome>, EngineError> {
		let Sequence { tokens, reader, .. } = &mut self.sequence;
		let first = self.fed;
		let piece = &tokens[first..tokens.len().min(first + chunk)];
		let cache = match &mut self.cache {
			Some(cache) => cache,
			// Room for the answer's beginning spares most of them a move.
			none => none.insert(model.layout.empty(graph, tokens.len() + 1)?),
		};
		let mut outcome = None;
		model.layout.run(graph, cache, piece, |logits| {
			for (i, row) in logits.chunks_exact(model.layout.vocabulary).enumerate() {
				outcome = reader.see(model, first + i, row)?;
			}
			Ok::<_, EngineError>(())
		})??;
		self.fed += piece.len();
		Ok(outcome)
	}
}

impl Group {
	/// Writes the next token of every answer. Gives how many that were; those that are complete have left.
	fn decode(
		&mut self,
		model: &LanguageModel,
		graph: &Graph,
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
				ended.push(self.sequences.swap_remove(i).end(end));
				if !self.sequences.is_empty() {
					model.layout.leave(&mut self.cache, i)?;
				}
			}
		}
		Ok(tokens.len())
	}
}
