//! What an answer says, and when it ends. One piece of code decides for who writes an answer and for who checks one.

use consilience_primitives::request::{FinishReason, Sampling};

use super::{tokens::Tokens, LanguageModel};
use crate::EngineError;

/// Tokens that may wait for the rest of a character; no character takes more.
const PENDING: usize = 8;

/// An answer's text as its tokens come.
///
/// A token is decoded together with those before it, back to where the text was whole, and not with all of the answer: what a token
/// costs does not grow with the answer. Stop strings are looked for in the text; those that spell special tokens, which the text
/// leaves out, in the text with special tokens written out.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
	/// Stop strings, and whether each spells special tokens.
	stops: Vec<(String, bool)>,
	longest: usize,
	/// Tokens since the text was whole, after some before them.
	window: Vec<u32>,
	/// How many of these the text has.
	read: usize,
	text: String,
	/// The text with special tokens written out, if a stop string asks for it.
	full: Option<String>,
	/// Where special tokens stand in that, and how long they are.
	special: Vec<(usize, usize)>,
	/// Where the text is cut.
	cut: Option<usize>,
}

impl Transcript {
	/// Of an answer without tokens.
	pub(crate) fn new(tokens: &Tokens, sampling: &Sampling) -> Self {
		let stops: Vec<_> = sampling
			.stop
			.iter()
			.filter_map(|stop| std::str::from_utf8(stop).ok())
			.filter(|stop| !stop.is_empty())
			.map(|stop| (stop.to_owned(), tokens.spells_hidden(stop)))
			.collect();
		let window = tokens.anchor().to_vec();
		Self {
			longest: stops.iter().map(|(stop, _)| stop.len()).max().unwrap_or(0),
			full: stops.iter().any(|(_, special)| *special).then(String::new),
			stops,
			read: window.len(),
			window,
			text: String::new(),
			special: Vec::new(),
			cut: None,
		}
	}

	/// Whether anything is looked for while tokens come.
	pub(crate) fn looks(&self) -> bool {
		!self.stops.is_empty()
	}

	/// Takes a token.
	pub(crate) fn push(&mut self, tokens: &Tokens, token: u32) -> Result<(), EngineError> {
		if let Some(special) = tokens.hidden(token) {
			if let Some(full) = &mut self.full {
				let from = full.len();
				self.special.push((from, special.len()));
				full.push_str(special);
				self.look(None, Some(from));
			}
			return Ok(());
		}
		self.window.push(token);
		let all = tokens.decode(&self.window)?;
		let waiting = self.window.len() - self.read;
		if all.ends_with('\u{fffd}') && waiting < PENDING {
			return Ok(());
		}
		self.take(tokens, &all)
	}

	/// Takes what the window says beyond what the text has.
	fn take(&mut self, tokens: &Tokens, all: &str) -> Result<(), EngineError> {
		let known = tokens.decode(&self.window[..self.read])?;
		let new = all.get(known.len()..).unwrap_or_default();
		if new.is_empty() && self.window.len() - self.read < PENDING {
			return Ok(());
		}
		let from = self.text.len();
		self.text.push_str(new);
		let from_full = self.full.as_mut().map(|full| {
			full.push_str(new);
			full.len() - new.len()
		});
		self.window.drain(..self.read);
		self.read = self.window.len();
		self.look(Some(from), from_full);
		Ok(())
	}

	/// Looks for stop strings that end in what is new.
	fn look(&mut self, from: Option<usize>, from_full: Option<usize>) {
		let back = self.longest.saturating_sub(1);
		let find = |text: &str, from: usize, stop: &str| {
			let mut start = from.saturating_sub(back);
			while !text.is_char_boundary(start) {
				start -= 1;
			}
			text[start..].find(stop).map(|at| start + at)
		};
		let found = self.stops.iter().filter_map(|(stop, special)| {
			if *special {
				let at = find(self.full.as_deref()?, from_full?, stop)?;
				Some(self.shown(at))
			} else {
				find(&self.text, from?, stop)
			}
		});
		if let Some(at) = found.min() {
			self.cut = Some(self.cut.map_or(at, |cut| cut.min(at)));
		}
	}

	/// Where in the text something begins that begins here in the full text.
	fn shown(&self, at: usize) -> usize {
		let hidden = self
			.special
			.iter()
			.map(|(start, length)| at.saturating_sub(*start).min(*length));
		at - hidden.sum::<usize>()
	}

	/// Whether a stop string stands in it.
	pub(crate) fn stopped(&self) -> bool {
		self.cut.is_some()
	}

	/// What of the text no later token takes back: all of it, but what an answer may still end with that goes on to a stop string.
	/// Of tokens that are no whole characters yet, nothing is in it.
	pub(crate) fn certain(&self) -> &str {
		let begun = |text: &str, stop: &str| {
			let begins = |n: &usize| text.as_bytes().ends_with(&stop.as_bytes()[..*n]);
			let n = (1..stop.len()).rev().find(begins);
			n.map(|n| text.len() - n)
		};
		let held = self.stops.iter().filter_map(|(stop, special)| {
			if *special {
				Some(self.shown(begun(self.full.as_deref()?, stop)?))
			} else {
				begun(&self.text, stop)
			}
		});
		let whole = self.cut.unwrap_or(self.text.len());
		&self.text[..held.fold(whole, usize::min)]
	}

	/// The text, up to the stop string that stands first in it.
	pub(crate) fn text(mut self, tokens: &Tokens) -> Result<String, EngineError> {
		if self.cut.is_none() && self.window.len() > self.read {
			let all = tokens.decode(&self.window)?;
			let known = tokens.decode(&self.window[..self.read])?;
			self.text
				.push_str(all.get(known.len()..).unwrap_or_default());
		}
		self.text.truncate(self.cut.unwrap_or(self.text.len()));
		Ok(self.text)
	}
}

impl LanguageModel {
	/// Why an answer ends with the last of so many tokens, of which `transcript` has seen all; `None` if it goes on.
	pub(crate) fn finish(
		&self,
		last: u32,
		count: usize,
		transcript: &Transcript,
		sampling: &Sampling,
	) -> Option<FinishReason> {
		if self.eos.contains(&last) {
			Some(FinishReason::EndOfText)
		} else if transcript.stopped() {
			Some(FinishReason::StopString)
		} else {
			(count >= sampling.max_tokens as usize).then_some(FinishReason::Length)
		}
	}

	/// The text of an answer of these tokens.
	pub(crate) fn text(&self, tokens: &[u32], sampling: &Sampling) -> Result<String, EngineError> {
		let mut transcript = Transcript::new(&self.tokens, sampling);
		for token in tokens.iter().filter(|t| !self.eos.contains(t)) {
			transcript.push(&self.tokens, *token)?;
		}
		transcript.text(&self.tokens)
	}

	/// Whether tokens are an answer that ends where, and for the reason that, this says, and says this.
	pub(crate) fn is_whole(
		&self,
		tokens: &[u32],
		text: &[u8],
		claimed: FinishReason,
		sampling: &Sampling,
	) -> Result<bool, EngineError> {
		let mut transcript = Transcript::new(&self.tokens, sampling);
		for (i, token) in tokens.iter().enumerate() {
			if !self.eos.contains(token) {
				transcript.push(&self.tokens, *token)?;
			}
			let finish = self.finish(*token, i + 1, &transcript, sampling);
			let expected = (i + 1 == tokens.len()).then_some(claimed);
			if finish != expected {
				return Ok(false);
			}
		}
		Ok(!tokens.is_empty() && transcript.text(&self.tokens)?.as_bytes() == text)
	}
}
