//! The tokenizer that a GGUF file carries, in the hub's format.
//!
//! The file names how text is cut into pieces before merging, and does not say it; what each name means is written down here.

use std::{
	collections::HashSet,
	io::{Read, Seek},
};

use tokenizers::{
	decoders::byte_level::ByteLevel,
	models::bpe::BPE,
	normalizers::NFC,
	pre_tokenizers::{
		digits::Digits,
		sequence::Sequence,
		split::{Split, SplitPattern},
		PreTokenizerWrapper,
	},
	processors::template::TemplateProcessing,
	AddedToken, SplitDelimiterBehavior, Tokenizer,
};

use crate::gguf::{Gguf, Value};

/// GGUF's token type of those that steer the model.
const CONTROL: i64 = 3;
/// GGUF's token type of those that were added to the vocabulary by hand.
const USER_DEFINED: i64 = 4;

/// How Llama 3 cuts text; Qwen 2 does so too, but takes digits one by one.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How Mistral's newer models (Tekken) do.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What is done to text before merging.
struct Style {
	pieces: Vec<PreTokenizerWrapper>,
	compose: bool,
	/// Pieces that are tokens are not merged.
	whole: bool,
	/// Whether texts begin with the beginning-of-text token, unless the file says.
	begin: bool,
}

/// Pieces by the words of GPT-2, or only into bytes.
fn bytes(words: bool) -> PreTokenizerWrapper {
	ByteLevel::new(false, true, words).into()
}

impl Style {
	fn new(name: &str) -> Result<Self, String> {
		let split = |pattern: &str| {
			let pattern = SplitPattern::Regex(pattern.into());
			Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
				.map(|split| vec![split.into(), bytes(false)])
				.map_err(|e| e.to_string())
		};
		let plain = |pieces| Self {
			pieces,
			compose: false,
			whole: false,
			begin: false,
		};
		Ok(match name {
			"gpt-2" => plain(vec![bytes(true)]),
			"smollm" => plain(vec![Digits::new(true).into(), bytes(true)]),
			"llama-bpe" | "llama3" | "llama-v3" => Self {
				whole: true,
				begin: true,
				..plain(split(LLAMA_3)?)
			},
			// Phi 4 and SmolLM3.
			"dbrx" | "smaug-bpe" => plain(split(LLAMA_3)?),
			"tekken" => Self {
				whole: true,
				begin: true,
				..plain(split(TEKKEN)?)
			},
			"qwen2" => Self {
				compose: true,
				..plain(split(QWEN_2)?)
			},
			other => {
				return Err(format!(
					"tokenizer.ggml.pre: text is cut into pieces as {other:?} says, and only gpt-2, smollm, llama-bpe, dbrx, \
					 smaug-bpe, qwen2 and tekken are known here: convert the model's hub folder, which has a tokenizer.json"
				))
			}
		})
	}
}

/// The byte-level BPE tokenizer of a file, as `tokenizer.json`.
pub(crate) fn json<R: Read + Seek>(gguf: &Gguf<R>) -> Result<String, String> {
	let kind = gguf.text("tokenizer.ggml.model")?;
	match kind {
		Some("gpt2") => (),
		Some(other) => {
			return Err(format!(
				"tokenizer.ggml.model: a tokenizer of kind {other:?} cannot be turned into tokenizer.json, only byte-level BPE \
				 (gpt2): convert the model's hub folder, which has a tokenizer.json"
			))
		}
		None => return Err("the file has no tokenizer (tokenizer.ggml.model)".into()),
	}
	let style = Style::new(gguf.text("tokenizer.ggml.pre")?.unwrap_or("default"))?;
	let missing = |key: &str| format!("{key} is missing");
	let key = "tokenizer.ggml.tokens";
	let tokens = gguf.texts(key)?.ok_or_else(|| missing(key))?;
	let distinct: HashSet<_> = tokens.iter().collect();
	if distinct.len() != tokens.len() {
		return Err(format!("{key}: a token is there twice"));
	}
	let key = "tokenizer.ggml.token_type";
	let kinds = match gguf.values.get(key) {
		Some(Value::Numbers(kinds)) if kinds.len() == tokens.len() => kinds,
		Some(_) => return Err(format!("{key}: not one number for each token")),
		None => return Err(missing(key)),
	};
	let key = "tokenizer.ggml.merges";
	let merges = gguf
		.texts(key)?
		.ok_or_else(|| missing(key))?
		.iter()
		.map(|merge| {
			let (left, right) = (merge.split_once(' '))
				.ok_or_else(|| format!("{key}: {merge:?} does not merge two tokens"))?;
			Ok((left.to_owned(), right.to_owned()))
		})
		.collect::<Result<Vec<_>, String>>()?;
	let broken = |e: tokenizers::Error| format!("the tokenizer is broken: {e}");
	let vocabulary = (0u32..)
		.zip(tokens)
		.map(|(id, token)| (token.clone(), id))
		.collect();
	let model = BPE::builder()
		.vocab_and_merges::<tokenizers::models::bpe::Vocab>(vocabulary, merges)
		.ignore_merges(style.whole)
		.build()
		.map_err(broken)?;
	let mut made = Tokenizer::new(model);
	if style.compose {
		made.with_normalizer(Some(NFC));
	}
	made.with_pre_tokenizer(Some(match <[_; 1]>::try_from(style.pieces) {
		Ok([piece]) => piece,
		Err(pieces) => Sequence::new(pieces).into(),
	}));
	made.with_decoder(Some(ByteLevel::default()));
	let added: Vec<_> = tokens
		.iter()
		.zip(kinds)
		.filter(|(_, kind)| [CONTROL, USER_DEFINED].contains(kind))
		.map(|(token, kind)| AddedToken::from(token.clone(), *kind == CONTROL).normalized(false))
		.collect();
	made.add_special_tokens(&added);
	if gguf
		.flag("tokenizer.ggml.add_bos_token")?
		.unwrap_or(style.begin)
	{
		let id = gguf.count("tokenizer.ggml.bos_token_id")?;
		let token = id.and_then(|id| tokens.get(id));
		let (Some(id), Some(token)) = (id, token) else {
			return Err(
				"texts begin with a token (add_bos_token) that bos_token_id does not name".into(),
			);
		};
		let template = TemplateProcessing::builder()
			.try_single(vec![token.clone(), "$A".into()])
			.and_then(|t| {
				t.try_pair(vec![
					token.clone(),
					"$A".into(),
					format!("{token}:1"),
					"$B:1".into(),
				])
			})
			.map_err(|e| e.to_string())?
			.special_tokens(vec![(token.clone(), id as u32)])
			.build()
			.map_err(|e| e.to_string())?;
		made.with_post_processor(Some(template));
	}
	made.to_string(true).map_err(broken)
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Pieces that a style cuts a text into, as bytes spelled out.
	fn pieces(name: &str, text: &str) -> Vec<String> {
		use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
		let mut text = PreTokenizedString::from(text);
		for piece in Style::new(name).unwrap().pieces {
			piece.pre_tokenize(&mut text).unwrap();
		}
		text.get_splits(OffsetReferential::Normalized, OffsetType::Byte)
			.iter()
			.map(|(piece, ..)| piece.replace('Ġ', "_"))
			.collect()
	}

	#[test]
	fn each_style_cuts_in_its_own_way() {
		let text = "Don't say 12345,  ok?";
		for (name, expected) in [
			("gpt-2", "Don 't _say _12345 , _ _ok ?"),
			("smollm", "Don 't _say _ 1 2 3 4 5 , _ _ok ?"),
			("llama-bpe", "Don 't _say _ 123 45 , _ _ok ?"),
			("dbrx", "Don 't _say _ 123 45 , _ _ok ?"),
			("qwen2", "Don 't _say _ 1 2 3 4 5 , _ _ok ?"),
			("tekken", "Don 't _say _ 1 2 3 4 5 , _ _ok ?"),
		] {
			assert_eq!(pieces(name, text).join(" "), expected, "{name}");
		}
		// Words that begin with a capital within a word.
		assert_eq!(
			pieces("tekken", "camelCase a//\n").join(" "),
			"camel Case _a //Ċ"
		);
		assert_eq!(pieces("qwen2", "camelCase").join(" "), "camelCase");
	}
}
