//! Constraints on answers: which tokens can still become what a JSON schema, a regular expression or a grammar describes.
//!
//! Everybody who writes or checks an answer under the same [`Constraint`] computes the same masks, because they follow the same rules
//! ([`CONSTRAINT_RULES`]): the library `llguidance` at one exact version with the limits below, over the bytes that a model's tokens
//! spell. What a mask is depends on nothing else: not on the machine, its speed, or how often masks were asked for. A token is admitted
//! if and only if the answer with it is the beginning of one that the constraint describes.
//!
//! **Assumptions.** Limits are counted in steps and states, never in time; a clock in here would make honest machines disagree. A guide
//! is asked for its masks in order, one before each token, by who writes and by who checks, so that what a limit counts is the same
//! for both.
//!
//! **Cost.** Reading a constraint takes milliseconds, and a mask a few to some thousand microseconds (ADR 33 has the figures); both run
//! on threads of their own ([`guide`]).
//!
//! | module | what it holds |
//! |---|---|
//! | [`guide`] | masks for one answer, computed beside whoever uses them |
//! | [`vocabulary`] | what a model's tokens spell, made once for each model |
//! | [`json`] | how schemas are read, and what of them is refused |
//! | [`shape`] | which grammars are not taken, because no count would stop them in time |

pub mod guide;
pub mod json;
mod shape;
pub mod vocabulary;

#[cfg(test)]
mod tests;

use consilience_primitives::sampling::{Constraint, ConstraintForm, CONSTRAINT_RULES};
use llguidance::api::{ParserLimits, TopLevelGrammar};

pub use guide::{Guide, Mask};
pub use vocabulary::Vocabulary;

/// Stack of a thread that reads constraints: the library descends into what is nested.
pub(crate) const STACK: usize = 16 << 20;
/// How deep a constraint's brackets may be nested.
const NESTED: usize = 64;
/// Characters of the library's reasons that are shown.
const REASON: usize = 300;

/// Why there are no masks for an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
	/// No answer can follow the constraint. Found by every machine that follows the same rules.
	#[error("{0}")]
	Refused(String),
	/// This machine could not compute them; others may.
	#[error("no thread for masks could be started: {0}")]
	Failed(String),
}

impl Error {
	fn refused(why: impl Into<String>) -> Self {
		Self::Refused(why.into())
	}

	/// From what the library says. Only its first line is for people.
	fn of(error: &impl std::fmt::Display) -> Self {
		let said = error.to_string();
		let line = said.lines().next().unwrap_or_default();
		let end = line.char_indices().nth(REASON);
		Self::refused(&line[..end.map_or(line.len(), |(at, _)| at)])
	}

	fn too_complex() -> Self {
		Self::refused("it is too complex: finding the next token takes too many steps")
	}

	/// A panic of the library's, which is the same everywhere.
	fn panicked() -> Self {
		Self::refused("the library that reads constraints fails on it")
	}
}

/// What may be spent, counted so that it is the same everywhere: of the lexer's steps to read a constraint and for each mask, of the parser's
/// items, of states that are kept. ADR 33 has what the worst of it costs.
pub(crate) fn limits() -> ParserLimits {
	ParserLimits {
		max_items_in_row: 1_000,
		initial_lexer_fuel: 200_000,
		step_lexer_fuel: 100_000,
		step_max_items: 8_000,
		max_lexer_states: 20_000,
		max_grammar_size: 10_000,
		precompute_large_lexemes: false,
		verbose_errors: false,
	}
}

/// The library's form of a constraint.
pub(crate) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, Error> {
	if constraint.rules != CONSTRAINT_RULES {
		return Err(Error::refused(format!(
			"it is for rules {}, and this program follows {CONSTRAINT_RULES}",
			constraint.rules
		)));
	}
	let text =
		std::str::from_utf8(&constraint.text).map_err(|_| Error::refused("it is not UTF-8"))?;
	if text.trim().is_empty() {
		return Err(Error::refused("it is empty"));
	}
	match constraint.form {
		ConstraintForm::JsonSchema => json::schema(text).map(TopLevelGrammar::from_json_schema),
		ConstraintForm::Regex => shallow(text).map(TopLevelGrammar::from_regex),
		ConstraintForm::Lark => shallow(text).map(|text| TopLevelGrammar::from_lark(text.into())),
	}
}

/// Refuses what is nested so deep that reading it takes a stack of any size. Brackets in strings count like others.
fn shallow(text: &str) -> Result<&str, Error> {
	let (mut depth, mut deepest) = (0usize, 0usize);
	for c in text.bytes() {
		match c {
			b'(' | b'[' | b'{' => depth += 1,
			b')' | b']' | b'}' => depth = depth.saturating_sub(1),
			_ => (),
		}
		deepest = deepest.max(depth);
	}
	if deepest > NESTED {
		return Err(Error::refused(format!(
			"brackets are nested more than {NESTED} deep"
		)));
	}
	Ok(text)
}

/// Whether answers can follow a constraint, as far as that does not depend on a model's tokens: what is refused here is refused by
/// every validator. For whoever takes questions, before anything is paid.
pub fn check(constraint: &Constraint) -> Result<(), Error> {
	let constraint = constraint.clone();
	guide::on_stack(move || {
		let mut reader = vocabulary::bytes().read(&constraint)?;
		reader.mask().map(|_| ())
	})?
}
