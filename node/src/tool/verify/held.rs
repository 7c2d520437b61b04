//! An answer that somebody holds in a file, beside the one on chain.

use consilience_primitives::{request::Output, tensor::Tensor};
use consilience_store::open_inference::{to_tensor, JsonTensor};
use serde_json::Value;

use super::judge::tokens;
use crate::tool::Result;

/// Checks whether a file holds this answer: as the JSON that `infer` or `model run` wrote (the last line of several), or as text.
pub(super) fn is(bytes: &[u8], claimed: &Output) -> Result<bool> {
	let text = std::str::from_utf8(bytes)
		.map_err(|_| "the file is neither JSON nor text in UTF-8".to_owned())?;
	let last = text
		.lines()
		.rfind(|l| !l.trim().is_empty())
		.unwrap_or_default();
	let object = [text, last]
		.into_iter()
		.filter_map(|t| serde_json::from_str::<Value>(t).ok())
		.find(Value::is_object);
	match object {
		Some(object) => is_value(&object, claimed),
		None => Ok(is_text(text, claimed)),
	}
}

/// A text, or the same without the end of line that programs add.
fn is_text(held: &str, claimed: &Output) -> bool {
	match claimed {
		Output::Text { text, .. } => {
			let held = held.as_bytes();
			held == &text[..] || held.strip_suffix(b"\n") == Some(&text[..])
		}
		Output::Tensors(_) | Output::Unanswerable(_) => false,
	}
}

fn is_value(value: &Value, claimed: &Output) -> Result<bool> {
	// The last line of `infer` and `request watch`.
	match &value["output"] {
		Value::Null => (),
		Value::String(text) => return Ok(is_text(text, claimed)),
		inner => return is_value(inner, claimed),
	}
	let code = match &value["unanswerable"] {
		Value::Null => &value["parameters"]["unanswerable"],
		code => code,
	};
	if !code.is_null() {
		let own = claimed.unanswerable().map(|c| serde_json::json!(c));
		return Ok(own.as_ref() == Some(code));
	}
	let outputs: Vec<JsonTensor> = serde_json::from_value(value["outputs"].clone())
		.map_err(|_| "the JSON has neither \"output\" nor \"outputs\", as `infer --json` and `model run` write them".to_owned())?;
	match claimed {
		Output::Text { .. } => {
			let text = outputs.first().map(|t| match &t.data {
				Value::Array(list) => list.first().unwrap_or(&Value::Null),
				other => other,
			});
			let same = text
				.and_then(Value::as_str)
				.is_some_and(|text| is_text(text, claimed));
			let list = &value["parameters"]["tokens"];
			Ok(same && (list.is_null() || *list == serde_json::json!(tokens(claimed))))
		}
		Output::Tensors(tensors) => {
			let outputs = outputs
				.iter()
				.map(|t| to_tensor(t).map(Tensor::rebound))
				.collect::<std::result::Result<Option<Vec<_>>, _>>()?;
			// What is larger than an answer may be is none.
			Ok(outputs.is_some_and(|outputs| outputs[..] == tensors[..]))
		}
		Output::Unanswerable(_) => Ok(false),
	}
}
