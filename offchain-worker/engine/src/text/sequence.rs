//! A text on its way through a graph: who reads its logits, how far it was fed, and what the graph remembers of it.

use std::{sync::mpsc::SyncSender, time::Instant};

use consilience_primitives::{evidence::Evidence, request::FinishReason};

use super::{
	cache::{Cache, Layout},
	generate::Writer,
	measure::Measurement,
	LanguageModel,
};
use crate::{session::Graph, ticket::Ticket, EngineError};

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
	pub(super) fn see(
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

	/// Tokens of the answer that were written.
	fn written(&self) -> &[u32] {
		match self {
			Self::Write(writer) => writer.tokens(),
			Self::Check(_) => &[],
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
	/// Until when somebody waits, and how many tokens may be written.
	pub(crate) ticket: Ticket,
	/// Who waits for the outcome.
	pub(crate) reply: SyncSender<Result<Outcome, EngineError>>,
}

/// Who waits for what came of a text.
pub(super) type Ended = (
	SyncSender<Result<Outcome, EngineError>>,
	Result<Outcome, EngineError>,
);

impl Sequence {
	/// The token that was written last.
	pub(super) fn last(&self) -> Option<u32> {
		self.reader.written().last().copied()
	}

	/// All tokens so far: those that are fed before the answer, and the answer's.
	pub(super) fn all(&self) -> impl Iterator<Item = u32> + '_ {
		self.tokens.iter().chain(self.reader.written()).copied()
	}

	/// The first `count` tokens of a text of which this came.
	pub(super) fn seen(&self, outcome: &Outcome, count: usize) -> Vec<u32> {
		let answer: &[u32] = match outcome {
			Outcome::Answer(answer, _) => answer,
			Outcome::Evidence(_) => &[],
		};
		let all = self.tokens.iter().chain(answer);
		all.take(count).copied().collect()
	}

	/// Whether all was written that may be for now.
	pub(super) fn pauses(&self) -> bool {
		self.reader.written().len() as u64 >= u64::from(self.ticket.allowed())
	}

	pub(super) fn end(self, outcome: Result<Outcome, EngineError>) -> Ended {
		(self.reply, outcome)
	}
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

/// A text that has a cache to itself, or none.
pub(super) struct Text {
	pub(super) sequence: Sequence,
	/// Position that is looked at next: those below were fed, or taken from others.
	next: usize,
	/// Of those, how many were not fed.
	reused: usize,
	/// Whether all of it was fed.
	pub(super) fed: bool,
	/// Made when it is first fed.
	pub(super) cache: Option<Cache>,
}

impl Text {
	/// One that was never fed.
	pub(super) fn new(sequence: Sequence) -> Self {
		Self::written(sequence, None)
	}

	/// One whose answer is being written, with the cache of all of it but the last token. Without that it is fed again.
	pub(super) fn written(sequence: Sequence, cache: Option<Cache>) -> Self {
		Self {
			sequence,
			next: 0,
			reused: 0,
			fed: false,
			cache,
		}
	}

	/// Bytes of its cache.
	pub(super) fn bytes(&self, layout: &Layout) -> usize {
		let tokens = |cache: &Cache| cache.slots().max(cache.lengths()[0]);
		let cache = self.cache.as_ref();
		cache.map_or(0, |cache| layout.bytes(tokens(cache)))
	}

	/// Feeds so many tokens of what is left, those left out that the cache has and nobody looks at.
	pub(super) fn feed(
		&mut self,
		model: &LanguageModel,
		graph: &Graph,
		chunk: usize,
	) -> Result<(Option<Outcome>, Done), EngineError> {
		let all: Vec<u32> = self.sequence.all().collect();
		let first = self.sequence.reader.written().is_empty();
		let Sequence {
			reader, arrived, ..
		} = &mut self.sequence;
		let cache = match &mut self.cache {
			Some(cache) => cache,
			// Room for the answer's beginning spares most of them a move.
			none => none.insert(model.layout.empty(graph, all.len() + 1)?),
		};
		let have = cache.lengths()[0];
		let positions: Vec<_> = (self.next..all.len())
			.filter(|p| *p >= have || reader.needs(*p))
			.take(chunk)
			.collect();
		let piece: Vec<_> = positions.iter().map(|p| all[*p]).collect();
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
		let next = positions.last().map_or(all.len(), |last| last + 1);
		let reused = next - self.next - piece.len();
		self.fed = next == all.len();
		let writes = self.fed && matches!(reader, Reader::Write(_));
		let done = Done {
			tokens: piece.len(),
			runs: 1,
			first: (writes && first).then_some(*arrived),
			reused,
			reuses: reused > 0 && self.reused == 0,
		};
		self.next = next;
		self.reused += reused;
		Ok((outcome, done))
	}
}
