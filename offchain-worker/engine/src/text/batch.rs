//! Many texts on one graph: which are fed, in pieces of which length, and together with which others.
//!
//! An answer of which no more tokens may be written for now leaves the others with its cache, and comes back like a text that is
//! new: behind those that wait. It holds nobody up: where others need the memory its cache goes, and it is fed again.
//!
//! In the exact class no choice made here changes a bit of what any text gets.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
	cache::Cache,
	prefix::Kept,
	sequence::{Done, Ended, Outcome, Reader, Sequence, Text},
	LanguageModel,
};
use crate::{session::Graph, EngineError};

/// Checks that are fed in turns; more wait.
const CHECKS: usize = 4;

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
	/// Texts whose feeding has not begun, and answers that may go on.
	waiting: VecDeque<Text>,
	waiting_checks: VecDeque<Text>,
	/// Texts that are fed, in turns.
	prompts: VecDeque<Text>,
	checks: VecDeque<Text>,
	/// Answers that may not go on for now.
	paused: VecDeque<Text>,
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
			paused: VecDeque::new(),
			groups: Vec::new(),
			kept: Kept::default(),
			ended: Vec::new(),
		}
	}

	/// Takes a text on.
	pub(crate) fn add(&mut self, sequence: Sequence) {
		let texts = match sequence.reader {
			Reader::Write(_) if sequence.pauses() => &mut self.paused,
			Reader::Write(_) => &mut self.waiting,
			Reader::Check(_) => &mut self.waiting_checks,
		};
		texts.push_back(Text::new(sequence));
		self.admit();
	}

	/// Lets paused answers go on of which more may be written now.
	pub(crate) fn resume(&mut self) {
		for _ in 0..self.paused.len() {
			match self.paused.pop_front() {
				Some(text) if text.sequence.pauses() => self.paused.push_back(text),
				text => self.waiting.extend(text),
			}
		}
		self.admit();
	}

	/// Begins with what waits, as far as the bounds allow.
	fn admit(&mut self) {
		while let Some(next) = self.waiting.front() {
			let begun = self.begun();
			let bytes = self.bytes(Some(&next.sequence));
			if begun > 0 && (begun >= self.bounds.answers || bytes > self.bounds.cache_bytes) {
				break;
			}
			match self.waiting.pop_front() {
				Some(Text {
					sequence,
					cache: Some(cache),
					..
				}) => self.join(sequence, cache),
				text => self.prompts.extend(text),
			}
		}
		// Answers that are written come first, then those that are to go on, then what has ended.
		let room = self.bounds.cache_bytes.saturating_sub(self.bytes(None));
		self.shrink(room);
		if self.reuses() {
			let room = room.saturating_sub(self.held());
			self.kept.fit(room.min(self.bounds.prefix_bytes));
		}
		while self.checks.len() < CHECKS && !self.waiting_checks.is_empty() {
			self.checks.extend(self.waiting_checks.pop_front());
		}
	}

	/// Bytes of the caches of answers that are to go on.
	fn held(&self) -> usize {
		let texts = self.paused.iter().chain(&self.waiting);
		texts.map(|text| text.bytes(&self.model.layout)).sum()
	}

	/// Frees caches of answers that are to go on, until they have no more than so many bytes. Of those that wait for a place, the
	/// first keeps its own longest.
	fn shrink(&mut self, room: usize) {
		let mut held = self.held();
		let last = self.waiting.iter_mut().rev();
		for text in self.paused.iter_mut().chain(last) {
			if held <= room {
				return;
			}
			held -= text.bytes(&self.model.layout);
			text.cache = None;
		}
	}

	/// Answers that have begun.
	fn begun(&self) -> usize {
		self.decoding() + self.prompts.len()
	}

	/// Bytes of the caches of answers that have begun, and of one more, as if all grew to their ends: every row of a shared cache
	/// is as long as the longest.
	fn bytes(&self, more: Option<&Sequence>) -> usize {
		let prompts = self.prompts.iter().map(|text| &text.sequence);
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

	/// Answers that may not go on for now.
	pub(crate) fn paused(&self) -> usize {
		self.paused.len()
	}

	/// How many of these, and of those that wait to go on, are to be fed again.
	#[cfg(test)]
	pub(crate) fn fed_again(&self) -> usize {
		let lost = |text: &&Text| text.cache.is_none() && text.sequence.last().is_some();
		let texts = self.paused.iter().chain(&self.waiting);
		texts.filter(lost).count()
	}

	/// When the first of these is waited for no longer.
	pub(crate) fn deadline(&self) -> Option<Instant> {
		let paused = self.paused.iter();
		paused.filter_map(|p| p.sequence.ticket.deadline()).min()
	}

	/// Texts that wait for a place.
	pub(crate) fn waiting(&self) -> usize {
		self.waiting.len() + self.waiting_checks.len()
	}

	/// Bytes that are kept of texts that have ended, and how many there may be now.
	#[cfg(test)]
	pub(crate) fn kept(&self) -> (usize, usize) {
		let others = self.bytes(None) + self.held();
		let room = self.bounds.cache_bytes.saturating_sub(others);
		(self.kept.bytes(), room.min(self.bounds.prefix_bytes))
	}

	/// Ends everything with this error.
	pub(crate) fn fail(&mut self, error: &EngineError) {
		self.kept = Kept::default();
		let groups = self.groups.drain(..).flat_map(|g| g.sequences);
		let texts = [
			&mut self.waiting,
			&mut self.waiting_checks,
			&mut self.prompts,
			&mut self.checks,
			&mut self.paused,
		];
		let texts = texts.into_iter().flat_map(|texts| texts.drain(..));
		let all = texts.map(|text| text.sequence).chain(groups);
		self.ended.extend(all.map(|s| s.end(Err(error.clone()))));
	}

	/// Tells those who wait what came of the texts that have ended.
	pub(crate) fn reply(&mut self) {
		for (reply, outcome) in self.ended.drain(..) {
			// Who asked may have gone.
			let _ = reply.send(outcome);
		}
	}

	/// Ends answers that may not go on for now. Says whether there were such.
	pub(crate) fn drop_paused(&mut self) -> bool {
		let paused = self.paused.drain(..).map(|text| text.sequence);
		self.ended
			.extend(paused.map(|s| s.end(Err(EngineError::Busy))));
		!self.ended.is_empty()
	}

	/// Ends texts for which nobody waits any more. Says whether there were such.
	pub(crate) fn drop_cancelled(&mut self) -> bool {
		let over = |s: &Sequence| s.ticket.is_over();
		let ended = &mut self.ended;
		for texts in [
			&mut self.waiting,
			&mut self.waiting_checks,
			&mut self.prompts,
			&mut self.checks,
			&mut self.paused,
		] {
			for _ in 0..texts.len() {
				match texts.pop_front() {
					Some(text) if over(&text.sequence) => {
						ended.push(text.sequence.end(Err(EngineError::Cancelled)));
					}
					text => texts.extend(text),
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
					self.put_back(group);
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

	/// Takes a group back after a step, without those answers that may not go on for now.
	fn put_back(&mut self, mut group: Group) {
		let layout = &self.model.layout;
		if !layout.shares(&self.graph) {
			// It is one answer, and the cache is its own.
			match group.sequences.pop() {
				Some(one) if one.pauses() => {
					let text = Text::written(one, Some(group.cache));
					self.paused.push_back(text);
				}
				Some(one) => {
					group.sequences.push(one);
					self.groups.push(group);
				}
				None => (),
			}
			return;
		}
		for i in (0..group.sequences.len()).rev() {
			if !group.sequences[i].pauses() {
				continue;
			}
			// Where there is no memory for it, it is fed again.
			let cache = layout.single(&self.graph, &group.cache, i).ok();
			let sequence = group.sequences.swap_remove(i);
			self.paused.push_back(Text::written(sequence, cache));
			if group.sequences.is_empty() {
				return;
			}
			if let Err(e) = layout.leave(&mut group.cache, i) {
				let all = group.sequences.into_iter();
				self.ended.extend(all.map(|s| s.end(Err(e.clone()))));
				return;
			}
		}
		if !group.sequences.is_empty() {
			self.groups.push(group);
		}
	}

	fn feed(&mut self, work: Work, chunk: usize) -> Done {
		let texts = match work {
			Work::Check => &mut self.checks,
			_ => &mut self.prompts,
		};
		let Some(mut text) = texts.pop_front() else {
			return Done::default();
		};
		let outcome = self
			.reuse(&mut text)
			.and_then(|()| text.feed(&self.model, &self.graph, chunk));
		match outcome {
			Err(e) => {
				// Memory may be what there was not enough of.
				if !matches!(e, EngineError::Unanswerable(..)) {
					self.kept.clear();
				}
				self.ended.push(text.sequence.end(Err(e)));
				Done::default()
			}
			Ok((Some(outcome), done)) => {
				if let Some(cache) = text.cache {
					let tokens = text.sequence.seen(&outcome, cache.lengths()[0]);
					self.kept.keep(&self.model.layout, tokens, cache);
				}
				self.ended.push(text.sequence.end(Ok(outcome)));
				done
			}
			Ok((None, done)) => {
				match text {
					Text {
						sequence,
						cache: Some(cache),
						fed: true,
						..
					} => self.join(sequence, cache),
					// The others first: a long text does not keep short ones waiting.
					text => match work {
						Work::Check => self.checks.push_back(text),
						_ => self.prompts.push_back(text),
					},
				}
				done
			}
		}
	}

	/// Whether texts take from others what those have computed of an equal beginning. Only where all ways of computing it give the
	/// same bits.
	fn reuses(&self) -> bool {
		self.bounds.prefix_bytes > 0 && self.model.layout.shares(&self.graph)
	}

	/// Takes from others what they have computed of a text's beginning: from one that is fed or written now, or from what one has
	/// left. Done before every piece, so that texts which begin alike and are fed at the same time share the work.
	fn reuse(&mut self, text: &mut Text) -> Result<(), EngineError> {
		if !self.reuses() {
			return Ok(());
		}
		let Text {
			sequence, cache, ..
		} = text;
		let layout = &self.model.layout;
		let tokens: Vec<u32> = sequence.all().collect();
		let fed = self.prompts.iter().chain(&self.checks);
		let texts = (fed.chain(&self.paused).chain(&self.waiting))
			.filter_map(|text| Some((&text.sequence, text.cache.as_ref()?, 0)));
		let rows = self.groups.iter().flat_map(|g| {
			let rows = g.sequences.iter().enumerate();
			rows.map(|(row, s)| (s, &g.cache, row))
		});
		let live = texts.chain(rows).map(|(other, cache, row)| {
			let equal = tokens
				.iter()
				.zip(other.all())
				.take_while(|(a, b)| **a == *b);
			(equal.count().min(cache.lengths()[row]), cache, row)
		});
		let live = live.max_by_key(|(equal, ..)| *equal);
		let have = cache.as_ref().map_or(0, |c| c.lengths()[0]);
		let least = live.as_ref().map_or(have, |(equal, ..)| have.max(*equal));
		let best = match self.kept.longest(&tokens, least) {
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

	/// An answer goes on beside the others, if it may.
	fn join(&mut self, sequence: Sequence, cache: Cache) {
		if sequence.pauses() {
			let text = Text::written(sequence, Some(cache));
			return self.paused.push_back(text);
		}
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
				if let Ok(outcome @ Outcome::Answer(..)) = &end {
					let tokens = sequence.seen(outcome, self.cache.lengths()[i]);
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
