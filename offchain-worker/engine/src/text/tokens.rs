//! Text to tokens and back, where what people write stays text.
//!
//! A tokenizer cuts control tokens out of any text that spells them. Here only a template's own text makes them: in what people
//! wrote, `<|im_end|>` is ten characters. A text in which people spell none goes through the library as it is; any other takes the
//! library's steps one by one, with the first, which cuts tokens out, done here.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, Input, MatchKind};
use consilience_primitives::request::Unanswerable;
use tokenizers::{
	normalizer::Range, AddedToken, DecoderWrapper, Encoding, Model, NormalizedString, Normalizer,
	OffsetType, PreTokenizedString, PreTokenizer, Token, Tokenizer,
};

use super::template::Prompted;
use crate::EngineError;

/// Tokens that are no text: special ones, those at which an answer ends, and those that the chat template writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Controls {
	/// How they are spelled, and whether each is special or ends an answer.
	spelled: Vec<(String, bool)>,
	marks: Vec<char>,
}

impl Controls {
	fn new(spelled: Vec<(String, bool)>) -> Self {
		let mark = |token: &str| token[Self::mark(token)..].chars().next();
		let mut marks: Vec<_> = spelled.iter().filter_map(|(t, _)| mark(t)).collect();
		marks.sort_unstable();
		marks.dedup();
		Self { spelled, marks }
	}

	/// Offset of the character by which a token is told: one that templates do not touch, if there is one.
	pub(crate) fn mark(token: &str) -> usize {
		token
			.find(|c: char| !c.is_alphanumeric() && !c.is_whitespace())
			.unwrap_or(0)
	}

	/// The characters by which they are told.
	pub(crate) fn marks(&self) -> &[char] {
		&self.marks
	}

	/// How they are spelled, and whether each is special or ends an answer.
	pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
		self.spelled
			.iter()
			.map(|(token, special)| (token.as_str(), *special))
	}
}

/// Finds the added tokens of one kind.
struct Finder {
	automaton: AhoCorasick,
	ids: Vec<u32>,
}

impl Finder {
	fn new(tokens: Vec<(u32, String)>) -> Result<Self, EngineError> {
		let (ids, spelled): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
		Ok(Self {
			automaton: automaton(MatchKind::LeftmostLongest, &spelled)?,
			ids,
		})
	}
}

fn automaton(kind: MatchKind, tokens: &[String]) -> Result<AhoCorasick, EngineError> {
	AhoCorasickBuilder::new()
		.match_kind(kind)
		.build(tokens)
		.map_err(|e| EngineError::Mismatch(format!("the tokenizer's added tokens: {e}")))
}

/// A tokenizer, and what is known of its control tokens.
pub(crate) struct Tokens {
	tokenizer: Tokenizer,
	added: HashMap<u32, AddedToken>,
	/// Spelling of each control token.
	control: HashMap<u32, String>,
	controls: Controls,
	any_control: AhoCorasick,
	/// Added tokens that are looked for before, and after, a text is normalized.
	raw: Finder,
	normalized: Finder,
	/// Fed to a decoder before an answer that would take the space from the beginning of it.
	anchor: Vec<u32>,
}

type Piece = (NormalizedString, Option<Vec<Token>>);

impl Tokens {
	/// A tokenizer of a model whose answers end at `ends`, with what its chat template writes.
	pub(crate) fn new(
		tokenizer: Tokenizer,
		ends: &[u32],
		template: Option<&str>,
	) -> Result<Self, EngineError> {
		let added: HashMap<u32, AddedToken> =
			tokenizer.get_added_tokens_decoder().into_iter().collect();
		let mut control: HashMap<u32, String> = added
			.iter()
			.filter(|(id, token)| {
				let sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
				let written = || template.is_some_and(|t| t.contains(&token.content));
				token.special || ends.contains(id) || (token.content.contains(sign) && written())
			})
			.map(|(id, token)| (*id, token.content.clone()))
			.collect();
		for end in ends {
			let spelled = tokenizer.id_to_token(*end);
			control.extend(spelled.map(|spelled| (*end, spelled)));
		}
		control.retain(|_, spelled| !spelled.trim().is_empty());
		let special = |id: &u32| ends.contains(id) || added.get(id).is_some_and(|t| t.special);
		let mut spelled: Vec<_> = control
			.iter()
			.map(|(id, t)| (t.clone(), special(id)))
			.collect();
		spelled.sort();
		let names: Vec<_> = spelled.iter().map(|(t, _)| t.clone()).collect();

		let (mut raw, mut normalized) = (Vec::new(), Vec::new());
		let mut sorted: Vec<_> = added
			.iter()
			.filter(|(_, t)| !t.content.is_empty())
			.collect();
		sorted.sort_by_key(|(id, _)| **id);
		for (id, token) in sorted {
			if !token.normalized {
				raw.push((*id, token.content.clone()));
				continue;
			}
			let mut content = NormalizedString::from(token.content.as_str());
			if let Some(normalizer) = tokenizer.get_normalizer() {
				normalizer.normalize(&mut content).map_err(|e| {
					EngineError::Mismatch(format!("the tokenizer's added tokens: {e}"))
				})?;
			}
			normalized.push((*id, content.get().to_owned()));
		}
		normalized.retain(|(_, content)| !content.is_empty());
		let mut tokens = Self {
			any_control: automaton(MatchKind::Standard, &names)?,
			controls: Controls::new(spelled),
			raw: Finder::new(raw)?,
			normalized: Finder::new(normalized)?,
			anchor: Vec::new(),
			tokenizer,
			added,
			control,
		};
		tokens.anchor = tokens.find_anchor();
		Ok(tokens)
	}

	/// The library's tokenizer, to which all text is alike.
	#[cfg(test)]
	pub(crate) fn library(&self) -> &Tokenizer {
		&self.tokenizer
	}

	/// The control tokens.
	pub(crate) fn controls(&self) -> &Controls {
		&self.controls
	}

	/// A text that people wrote, all of it.
	pub(crate) fn theirs(&self, text: String) -> Prompted {
		let marks = text
			.char_indices()
			.filter(|(_, c)| self.controls.marks.contains(c));
		let theirs = marks.map(|(i, _)| i).collect();
		Prompted { text, theirs }
	}

	/// Tokens of a text; `frame` if the tokenizer is to add those with which texts begin and end.
	pub(crate) fn encode(&self, prompt: &Prompted, frame: bool) -> Result<Vec<u32>, EngineError> {
		let failed = |e: tokenizers::Error| {
			let why = format!("the prompt cannot be tokenized: {e}");
			EngineError::Unanswerable(Unanswerable::GraphRefused, why)
		};
		if !self.spells(prompt) {
			let text = prompt.text.as_str();
			let encoding = self.tokenizer.encode(text, frame).map_err(failed)?;
			if self.is_plain(text, &encoding) {
				return Ok(encoding.get_ids().to_vec());
			}
		}
		let encoding = self.guarded(prompt, frame).map_err(failed)?;
		Ok(encoding.get_ids().to_vec())
	}

	/// Whether people spell a control token.
	fn spells(&self, prompt: &Prompted) -> bool {
		!prompt.theirs.is_empty()
			&& self
				.any_control
				.find_overlapping_iter(&prompt.text)
				.any(|m| is_theirs(prompt, m.range()))
	}

	/// Whether every control token in an encoding stands in the text, or frames it.
	fn is_plain(&self, text: &str, encoding: &Encoding) -> bool {
		let framing = encoding.get_special_tokens_mask();
		let all = encoding
			.get_ids()
			.iter()
			.zip(encoding.get_offsets())
			.zip(framing);
		all.into_iter()
			.all(|((id, (start, end)), framing)| match self.control.get(id) {
				None => true,
				Some(_) if *framing != 0 => true,
				Some(spelled) => text.get(*start..*end).is_some_and(|t| t.contains(spelled)),
			})
	}

	/// As the library encodes, except that control tokens come of what a template wrote alone.
	pub(super) fn guarded(&self, prompt: &Prompted, frame: bool) -> tokenizers::Result<Encoding> {
		let mut text = PreTokenizedString::from(prompt.text.as_str());
		text.split(|_, piece| Ok(self.pieces(piece, &self.raw, prompt)))?;
		text.split(|_, mut piece| {
			if let Some(normalizer) = self.tokenizer.get_normalizer() {
				normalizer.normalize(&mut piece)?;
			}
			Ok(self.pieces(piece, &self.normalized, prompt))
		})?;
		if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
			pre_tokenizer.pre_tokenize(&mut text)?;
		}
		text.tokenize(|piece| self.tokenized(piece, prompt))?;
		let encoding = text.into_encoding(None, 0, OffsetType::Byte)?;
		self.tokenizer.post_process(encoding, None, frame)
	}

	/// Cuts added tokens out of a piece of text.
	fn pieces(&self, text: NormalizedString, finder: &Finder, prompt: &Prompted) -> Vec<Piece> {
		let piece = |range: std::ops::Range<usize>| text.slice(Range::Normalized(range));
		let whole = text.get();
		let (mut pieces, mut done, mut from) = (Vec::new(), 0, 0);
		while let Some(found) = finder.automaton.find(Input::new(whole).range(from..)) {
			let id = finder.ids[found.pattern().as_usize()];
			// If it is not this one, another may begin within it.
			from = found.start()
				+ whole[found.start()..]
					.chars()
					.next()
					.map_or(1, char::len_utf8);
			let Some(token) = self.added.get(&id) else {
				continue;
			};
			let (mut start, mut end) = (found.start(), found.end());
			let is_word = |c: char| c.is_alphanumeric() || c == '_';
			let inside = whole[..start].ends_with(is_word) || whole[end..].starts_with(is_word);
			let spelled = piece(start..end);
			if (token.single_word && inside)
				|| !spelled.is_some_and(|s| self.may_be(id, &s, prompt))
			{
				continue;
			}
			if token.lstrip {
				start = done.max(whole[..start].trim_end().len());
			}
			if token.rstrip {
				end = whole.len() - whole[end..].trim_start().len();
			}
			if done < start {
				pieces.extend(piece(done..start).map(|text| (text, None)));
			}
			if let Some(text) = piece(start..end) {
				let value = text.get().to_owned();
				let offsets = (0, value.len());
				pieces.push((text, Some(vec![Token::new(id, value, offsets)])));
			}
			(done, from) = (end, end);
		}
		if done < whole.len() {
			pieces.extend(piece(done..whole.len()).map(|text| (text, None)));
		}
		pieces
	}

	/// Whether a piece of text that spells a token may be it: of control tokens only what stands so in a template's own text.
	fn may_be(&self, id: u32, piece: &NormalizedString, prompt: &Prompted) -> bool {
		let (start, end) = piece.offsets_original();
		self.control.get(&id).is_none_or(|spelled| {
			piece.get_original().contains(spelled) && !is_theirs(prompt, start..end)
		})
	}

	/// What the tokenizer's model makes of a piece, and what it makes of single characters where it took people's for a control token.
	fn tokenized(
		&self,
		piece: &NormalizedString,
		prompt: &Prompted,
	) -> tokenizers::Result<Vec<Token>> {
		let model = self.tokenizer.get_model();
		let mut tokens = Vec::new();
		for token in model.tokenize(piece.get())? {
			let range = token.offsets.0..token.offsets.1;
			let spelled = self.control.get(&token.id);
			let text = piece.slice(Range::Normalized(range.clone()));
			let (Some(spelled), Some(text)) = (spelled, text) else {
				tokens.push(token);
				continue;
			};
			// A token for what is unknown is a control token, too, and spells nothing.
			let spells = token.value == *spelled
				&& (text.get().contains(spelled) || text.get_original().contains(spelled));
			if !spells || self.may_be(token.id, &text, prompt) {
				tokens.push(token);
				continue;
			}
			for (at, c) in text.get().char_indices() {
				for mut single in model.tokenize(c.encode_utf8(&mut [0; 4]))? {
					let shift = range.start + at;
					single.offsets = (single.offsets.0 + shift, single.offsets.1 + shift);
					tokens.push(single);
				}
			}
		}
		Ok(tokens)
	}

	/// A token's spelling, if it is not shown in an answer's text.
	pub(crate) fn hidden(&self, id: u32) -> Option<&str> {
		let special = self.added.get(&id).filter(|t| t.special);
		special.map(|t| t.content.as_str())
	}

	/// Whether a text spells a token that is not shown.
	pub(crate) fn spells_hidden(&self, text: &str) -> bool {
		let mut special = self
			.added
			.values()
			.filter(|t| t.special && !t.content.is_empty());
		special.any(|t| text.contains(&t.content))
	}

	/// What is decoded before an answer.
	pub(crate) fn anchor(&self) -> &[u32] {
		&self.anchor
	}

	/// What tokens say.
	pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
		self.tokenizer
			.decode(tokens, true)
			.map_err(|e| EngineError::Mismatch(format!("the tokenizer cannot decode: {e}")))
	}

	/// The bytes that each of so many tokens adds to an answer's text, by its id. No bytes for those that the text leaves out, and those
	/// of which it is not known; `None` where what a token adds depends on its neighbours.
	pub(crate) fn spelled(&self, vocabulary: usize) -> Option<Vec<Vec<u8>>> {
		let decoder = self.tokenizer.get_decoder()?;
		let levels = any(decoder, &|d| matches!(d, DecoderWrapper::ByteLevel(_)));
		let fallback = any(decoder, &|d| matches!(d, DecoderWrapper::ByteFallback(_)));
		let pieces = any(decoder, &|d| matches!(d, DecoderWrapper::Metaspace(_)));
		if !(levels || fallback || pieces) {
			return None;
		}
		let anchor = [self.find_word()?];
		let before = self.decode(&anchor).ok()?;
		let table = levels.then(byte_level);
		let spelling = |id: u32| {
			let token = self.tokenizer.id_to_token(id)?;
			let all = self.decode(&[&anchor[..], &[id]].concat()).ok()?;
			let added = all.strip_prefix(&before)?;
			if !added.contains('\u{fffd}') {
				return Some(added.as_bytes().to_vec());
			}
			// Part of a character, or of what is none.
			match &table {
				Some(table) => token.chars().map(|c| table.get(&c).copied()).collect(),
				None if fallback => {
					let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
					Some(vec![u8::from_str_radix(digits, 16).ok()?])
				}
				None => None,
			}
		};
		let all = (0..vocabulary as u32).map(|id| spelling(id).unwrap_or_default());
		Some(all.collect())
	}

	/// A token before which a decoder takes nothing from what follows, where it takes the first space of a text.
	fn find_anchor(&self) -> Vec<u32> {
		let strips = self.tokenizer.get_decoder().is_some_and(strips);
		self.find_word().filter(|_| strips).into_iter().collect()
	}

	/// A token that says a word, or something like it.
	fn find_word(&self) -> Option<u32> {
		let candidates = ["a", "A", ".", "0", "x"];
		let word = |text: &&str| {
			let ids = self.tokenizer.encode(*text, false).ok()?.get_ids().to_vec();
			let last = ids
				.last()
				.copied()
				.filter(|id| !self.control.contains_key(id))?;
			let said = self.decode(&[last]).ok()?;
			(said.trim() == *text).then_some(last)
		};
		candidates.iter().find_map(word)
	}
}

/// Whether a decoder takes spaces from the beginning of a text.
fn strips(decoder: &DecoderWrapper) -> bool {
	match decoder {
		DecoderWrapper::Metaspace(_) => true,
		DecoderWrapper::Strip(strip) => strip.start > 0,
		DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(strips),
		_ => false,
	}
}

/// Whether this holds of a decoder, or of one of which it consists.
fn any(decoder: &DecoderWrapper, holds: &impl Fn(&DecoderWrapper) -> bool) -> bool {
	match decoder {
		DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(|d| any(d, holds)),
		decoder => holds(decoder),
	}
}

/// The byte that each character stands for in a byte-level vocabulary: those that can be seen for themselves, the others in order from
/// U+0100 on.
fn byte_level() -> HashMap<char, u8> {
	let seen = |b: &u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
	let own = (0..=u8::MAX).filter(seen).map(|b| (char::from(b), b));
	let others = (0..=u8::MAX).filter(|b| !seen(b));
	let others = ('\u{100}'..).zip(others);
	own.chain(others).collect()
}

fn is_theirs(prompt: &Prompted, range: std::ops::Range<usize>) -> bool {
	let first = prompt.theirs.partition_point(|at| *at < range.start);
	prompt.theirs.get(first).is_some_and(|at| *at < range.end)
}
