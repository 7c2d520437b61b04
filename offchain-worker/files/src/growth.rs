//! How many tokens a tokenizer can make of a text, proven from its parts.
//!
//! The chain knows no tokenizers and takes a byte of text for at most one token. That is so where a tokenizer cuts the bytes it is
//! given; it is not where it first makes the text longer, as Unicode's normal forms do, or puts tokens around it.

use serde_json::{Map, Value};

/// Most tokens of a text of n bytes: n · `factor` + `added`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
	/// Tokens for each byte.
	pub factor: u32,
	/// Tokens beyond that, once a text.
	pub added: u32,
}

/// The bound of this `tokenizer.json`. Fails where there is none, or where none can be proven.
pub fn growth(tokenizer: &Map<String, Value>) -> Result<Growth, String> {
	let part = |key: &str| tokenizer.get(key).filter(|v| !v.is_null());
	let model = part("model");
	let dropout = model.and_then(|m| m.get("dropout")).and_then(Value::as_f64);
	if dropout.is_some_and(|d| d > 0.0) {
		return Err("its tokenizer drops merges at random (dropout): no two machines would read a text alike".into());
	}
	let mut growth = Growth {
		factor: 1,
		added: 0,
	};
	if let Some(normalizer) = part("normalizer") {
		normalized(normalizer, model, &mut growth)?;
	}
	if let Some(cuts) = part("pre_tokenizer") {
		cut(cuts, &mut growth);
	}
	if let Some(around) = part("post_processor") {
		growth.added = growth.added.saturating_add(put_around(around));
	}
	Ok(growth)
}

fn kind(part: &Value) -> &str {
	part.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn several<'v>(part: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
	part.get(key)
		.and_then(Value::as_array)
		.into_iter()
		.flatten()
}

/// What a normalizer adds. The factors of the normal forms are Unicode's, for UTF-8 (UAX #15, section 1.4).
fn normalized(
	normalizer: &Value,
	model: Option<&Value>,
	growth: &mut Growth,
) -> Result<(), String> {
	let factor = match kind(normalizer) {
		"Sequence" => {
			return several(normalizer, "normalizers").try_for_each(|n| normalized(n, model, growth));
		}
		"NFC" | "NFD" => 3,
		"NFKC" | "NFKD" => 11,
		// Two letters of two bytes have small ones of three. BERT's parts text into letters and marks before that.
		"Lowercase" => 2,
		"BertNormalizer" => 6,
		"Strip" | "StripAccents" | "Nmt" | "ByteLevel" => 1,
		"Prepend" => {
			let text = normalizer.get("prepend").and_then(Value::as_str);
			let bytes = text.unwrap_or_default().len();
			growth.added = growth.added.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
			1
		}
		"Replace" => replaced(normalizer, model)?,
		other => {
			return Err(format!(
				"how much its tokenizer's normalizer {other:?} lengthens a text is not known: nothing bounds a prompt's tokens"
			))
		}
	};
	growth.factor = growth.factor.saturating_mul(factor);
	Ok(())
}

/// By what replacing one text with another lengthens a text. A letter that is a token counts as one: the mark for a space is three
/// bytes, and one token as the space is.
fn replaced(normalizer: &Value, model: Option<&Value>) -> Result<u32, String> {
	let content = normalizer.get("content").and_then(Value::as_str);
	let vocabulary = model.and_then(|m| m.get("vocab"));
	let known = |letter: char| vocabulary.is_some_and(|v| v.get(letter.to_string()).is_some());
	let letters: usize = content
		.unwrap_or_default()
		.chars()
		.map(|c| if known(c) { 1 } else { c.len_utf8() })
		.sum();
	let pattern = normalizer.get("pattern");
	let said = |key: &str| pattern.and_then(|p| p.get(key)?.as_str());
	let least = match (said("String"), said("Regex")) {
		(Some(text), _) => text.len(),
		// Matches a byte at least, if nothing in it can match nothing.
		(None, Some(regex))
			if !regex.is_empty() && !regex.contains(['*', '?', '|', '(', '^', '$', '\\']) =>
		{
			usize::from(!regex.contains("{0") && !regex.contains("{,"))
		}
		(None, Some(regex)) if regex == r"\s+" || regex == r"\n" || regex == r"\s" => 1,
		_ => 0,
	};
	match (letters, least) {
		(0, _) => Ok(1),
		(_, 0) => Err(
			"its tokenizer replaces what may be nothing: nothing bounds a prompt's tokens".into(),
		),
		(letters, least) => Ok(u32::try_from(letters.div_ceil(least)).unwrap_or(u32::MAX)),
	}
}

/// A space in front of a text is a token more.
fn cut(cuts: &Value, growth: &mut Growth) {
	match kind(cuts) {
		"Sequence" => several(cuts, "pretokenizers").for_each(|c| cut(c, growth)),
		"ByteLevel" if cuts.get("add_prefix_space") != Some(&Value::Bool(false)) => {
			growth.added = growth.added.saturating_add(1);
		}
		"Metaspace" => growth.added = growth.added.saturating_add(1),
		_ => (),
	}
}

/// Tokens around a text.
fn put_around(around: &Value) -> u32 {
	match kind(around) {
		"Sequence" => several(around, "processors")
			.map(put_around)
			.fold(0, u32::saturating_add),
		"BertProcessing" | "RobertaProcessing" => 2,
		"TemplateProcessing" => {
			let special = |piece: &Value| {
				let name = piece.get("SpecialToken")?.get("id")?.as_str()?;
				let ids = around
					.get("special_tokens")?
					.get(name)?
					.get("ids")?
					.as_array();
				Some(ids?.len().max(1) as u32)
			};
			several(around, "single")
				.filter_map(special)
				.fold(0, u32::saturating_add)
		}
		_ => 0,
	}
}

impl Growth {
	/// Most bytes of text that are no more than so many tokens.
	pub fn bytes(self, tokens: u32) -> u32 {
		tokens.saturating_sub(self.added) / self.factor
	}

	/// Most tokens of so many bytes.
	pub fn tokens(self, bytes: u32) -> u64 {
		u64::from(bytes) * u64::from(self.factor) + u64::from(self.added)
	}
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use serde_json::json;

	fn of(tokenizer: Value) -> Result<(u32, u32), String> {
		let growth = growth(tokenizer.as_object().unwrap())?;
		Ok((growth.factor, growth.added))
	}

	#[test]
	fn each_part_has_its_share() {
		let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
		let many = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u{2581}"});
		let template = json!({
			"type": "TemplateProcessing",
			"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}],
			"special_tokens": {"<s>": {"ids": [1, 1]}, "</s>": {"ids": [2]}},
		});
		for (tokenizer, expected) in [
			(json!({}), (1, 0)),
			(
				json!({"normalizer": null, "model": {"dropout": null}}),
				(1, 0),
			),
			(json!({"normalizer": {"type": "NFC"}}), (3, 0)),
			(json!({"normalizer": {"type": "NFKD"}}), (11, 0)),
			(
				json!({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}}),
				(22, 0),
			),
			(
				json!({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, space, many]}, "model": {"vocab": {"\u{2581}": 3}}}),
				(1, 3),
			),
			(json!({"normalizer": space}), (3, 0)),
			(
				json!({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}}),
				(1, 0),
			),
			(
				json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel", "add_prefix_space": true}]}}),
				(1, 1),
			),
			(
				json!({"pre_tokenizer": {"type": "Metaspace"}, "post_processor": template}),
				(1, 4),
			),
			(
				json!({"post_processor": {"type": "RobertaProcessing"}}),
				(1, 2),
			),
			(
				json!({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "bcde"}}),
				(4, 0),
			),
		] {
			assert_eq!(of(tokenizer.clone()), Ok(expected), "{tokenizer}");
		}
	}

	#[test]
	fn what_nothing_bounds_is_refused() {
		for (tokenizer, says) in [
			(
				json!({"normalizer": {"type": "Precompiled"}}),
				"Precompiled",
			),
			(
				json!({"normalizer": {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "y"}}),
				"may be nothing",
			),
			(json!({"model": {"dropout": 0.1}}), "at random"),
		] {
			let error = of(tokenizer).unwrap_err();
			assert!(error.contains(says), "{error}");
		}
	}

	#[test]
	fn bytes_and_tokens_bound_each_other() {
		let growth = Growth {
			factor: 3,
			added: 2,
		};
		assert_eq!(growth.bytes(11), 3);
		assert_eq!(growth.tokens(3), 11);
		assert_eq!(growth.bytes(1), 0);
	}
}
