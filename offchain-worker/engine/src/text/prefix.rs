//! What texts that have ended leave of the cache, for others that begin alike: a system prompt that many questions share, an answer
//! that was written here and is measured now, a text that is measured under a second challenge.
//!
//! It is kept for each model by itself, within a number of bytes, and what was used least recently goes first.

use std::collections::VecDeque;

use super::cache::{Cache, Layout};
use crate::session::Graph;

/// More would take long to look through; they are only that many where texts are short.
const MOST: usize = 256;

/// A text, or its beginning, and its part of the cache: one row.
struct Entry {
	tokens: Vec<u32>,
	cache: Cache,
	bytes: usize,
}

/// Parts of the cache of texts that have ended.
#[derive(Default)]
pub(crate) struct Kept {
	/// The one used least recently first.
	entries: VecDeque<Entry>,
	/// Of all entries.
	bytes: usize,
	/// There may be so many.
	limit: usize,
}

/// How many tokens two texts begin with that are the same.
fn equal(a: &[u32], b: &[u32]) -> usize {
	a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Kept {
	/// Keeps no more bytes than so many, from now on.
	pub(crate) fn fit(&mut self, limit: usize) {
		self.limit = limit;
		while self.bytes > self.limit || self.entries.len() > MOST {
			let Some(oldest) = self.entries.pop_front() else {
				return;
			};
			self.bytes -= oldest.bytes;
		}
	}

	/// Forgets everything.
	pub(crate) fn clear(&mut self) {
		self.entries.clear();
		self.bytes = 0;
	}

	/// Bytes that are kept.
	#[cfg(test)]
	pub(crate) fn bytes(&self) -> usize {
		self.bytes
	}

	/// The entry that begins as a text does for longest, if that is for more than so many tokens; and for how many.
	pub(crate) fn longest(&mut self, tokens: &[u32], least: usize) -> Option<(usize, &Cache)> {
		let of = |e: &Entry| equal(tokens, &e.tokens);
		let (length, i) = self
			.entries
			.iter()
			.enumerate()
			.map(|(i, e)| (of(e), i))
			.max()?;
		if length <= least {
			return None;
		}
		let entry = self.entries.remove(i)?;
		self.entries.push_back(entry);
		self.entries.back().map(|entry| (length, &entry.cache))
	}

	/// Keeps a text's cache of one row. It has seen these tokens.
	pub(crate) fn keep(&mut self, layout: &Layout, tokens: Vec<u32>, cache: Cache) {
		let bytes = layout.bytes(cache.slots());
		if bytes > self.limit || self.has(&tokens) {
			return;
		}
		// Who has the longer text has the shorter.
		self.entries.retain(|e| !tokens.starts_with(&e.tokens));
		self.entries.push_back(Entry {
			tokens,
			cache,
			bytes,
		});
		self.bytes = self.entries.iter().map(|e| e.bytes).sum();
		self.fit(self.limit);
	}

	/// Keeps a row of a cache. It has seen these tokens.
	pub(crate) fn keep_row(
		&mut self,
		layout: &Layout,
		graph: &Graph,
		tokens: Vec<u32>,
		cache: &Cache,
		row: usize,
	) {
		if layout.bytes(tokens.len()) > self.limit || self.has(&tokens) {
			return;
		}
		// Where there is no memory for it, it is not kept.
		if let Ok(single) = layout.single(graph, cache, row) {
			self.keep(layout, tokens, single);
		}
	}

	/// Whether there is a text that begins with all of these tokens; it is used with that.
	fn has(&mut self, tokens: &[u32]) -> bool {
		let found = self
			.entries
			.iter()
			.position(|e| e.tokens.starts_with(tokens));
		let entry = found.and_then(|i| self.entries.remove(i));
		let has = entry.is_some();
		self.entries.extend(entry);
		has
	}
}
