//! What a model's tokens spell.

use std::sync::{Arc, OnceLock};

use consilience_primitives::sampling::Constraint;
use llguidance::{earley::SlicedBiasComputer, ParserFactory, TokenParser};
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::{grammar, guide::Mask, limits, shape, Error};

/// Longest token that may be part of a constrained answer, in bytes: no vocabulary needs longer ones, and the trie descends by bytes.
const LONGEST: usize = 255;
/// Begins what the library takes for the name of a special token. No UTF-8 has it.
const MARKER: u8 = 0xff;

/// Tokens as a trie of the bytes that they spell.
struct Trie(TokTrie);

impl TokenizerEnv for Trie {
	fn tok_trie(&self) -> &TokTrie {
		&self.0
	}

	fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
		self.0.greedy_tokenize(bytes)
	}

	/// Every way of cutting an answer into tokens is admitted: which one a model takes is its own.
	fn tokenize_is_canonical(&self) -> bool {
		false
	}
}

/// What the tokens of a model spell, and which of them end an answer. Made once for each model, in about a second.
pub struct Vocabulary {
	factory: ParserFactory,
	size: usize,
	ends: Vec<u32>,
}

impl Vocabulary {
	/// Of tokens that spell these bytes, by their ids. Those that spell nothing are in no answer; `ends` end one. Fails where the library
	/// cannot make anything of them.
	pub fn new(spelled: &[Vec<u8>], ends: &[u32]) -> Result<Self, Error> {
		let size = spelled.len();
		let mut words: Vec<Vec<u8>> = spelled
			.iter()
			.map(|word| match word.first() {
				Some(first) if *first != MARKER && word.len() <= LONGEST => word.clone(),
				_ => Vec::new(),
			})
			.collect();
		for end in ends {
			if let Some(word) = words.get_mut(*end as usize) {
				word.clear();
			}
		}
		// A token that is not the model's stands for the end, so that it may be any of several.
		words.push([&[MARKER], &b"<end>"[..]].concat());
		let info = TokRxInfo::new(words.len() as u32, size as u32);
		let trie: TokEnv = Arc::new(Trie(TokTrie::from(&info, &words)));
		let slices = SlicedBiasComputer::general_slices();
		let mut factory = ParserFactory::new(&trie, InferenceCapabilities::default(), &slices)
			.map_err(|e| Error::of(&e))?;
		factory.quiet();
		*factory.limits_mut() = limits();
		let ends = ends.iter().copied().filter(|end| (*end as usize) < size);
		Ok(Self {
			factory,
			size,
			ends: ends.collect(),
		})
	}

	/// Reads a constraint.
	pub(crate) fn read(&self, constraint: &Constraint) -> Result<Reader<'_>, Error> {
		let grammar = grammar(constraint)?;
		let mut parser = self
			.factory
			.create_parser(grammar)
			.map_err(|e| Error::of(&e))?;
		shape::check(parser.parser.grammar())?;
		parser.start_without_prompt();
		Ok(Reader {
			vocabulary: self,
			parser,
			last: None,
			broken: None,
		})
	}
}

/// Single bytes: what a constraint means before any model is known.
pub(crate) fn bytes() -> &'static Vocabulary {
	static BYTES: OnceLock<Vocabulary> = OnceLock::new();
	BYTES.get_or_init(|| {
		let words: Vec<_> = (0..=u8::MAX).map(|b| vec![b]).collect();
		Vocabulary::new(&words, &[]).expect("single bytes are words that the library takes; qed")
	})
}

/// A constraint on one answer, and how far that answer is.
pub(crate) struct Reader<'v> {
	vocabulary: &'v Vocabulary,
	parser: TokenParser,
	/// The mask before the next token.
	last: Option<Mask>,
	/// Why there are no more.
	broken: Option<Error>,
}

impl Reader<'_> {
	/// Which tokens may come next. Asked once before each token.
	pub(crate) fn mask(&mut self) -> Result<Mask, Error> {
		if let Some(broken) = &self.broken {
			return Err(broken.clone());
		}
		let size = self.vocabulary.size;
		let set = self.parser.compute_mask().map_err(|e| {
			use llguidance::api::StopReason::*;
			match self.parser.stop_reason() {
				NoExtensionBias | NoExtension => {
					Error::refused("no token can come next: nothing can be said that it describes")
				}
				LexerTooComplex | ParserTooComplex => Error::too_complex(),
				_ => Error::of(&e),
			}
		})?;
		let mut mask = Mask::none(size);
		set.iter_set_entries(|token| {
			if token < size {
				mask.admit(token as u32);
			}
		});
		if set.is_allowed(size as u32) {
			self.vocabulary.ends.iter().for_each(|end| mask.admit(*end));
		}
		if mask.count() == 0 {
			// Nothing but the end is left, and the model has none.
			return Err(Error::refused("nothing more can be said"));
		}
		self.last = Some(mask.clone());
		Ok(mask)
	}

	/// What the last mask cost.
	#[cfg(test)]
	pub(crate) fn cost(&self) -> &llguidance::earley::ParserStats {
		self.parser.last_step_stats()
	}

	/// The answer goes on with this token.
	pub(crate) fn said(&mut self, token: u32) {
		if self.broken.is_some() {
			return;
		}
		let admitted = self.last.take().is_some_and(|mask| mask.admits(token));
		if !admitted {
			self.broken = Some(Error::refused("the answer has left its constraint"));
		} else if self.vocabulary.ends.contains(&token) {
			self.broken = Some(Error::refused("the answer is over"));
		} else if self.parser.consume_token(token).is_err() {
			// What a mask has is only refused for what it costs.
			self.broken = Some(Error::too_complex());
		}
	}
}
