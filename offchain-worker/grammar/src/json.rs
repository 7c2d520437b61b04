//! JSON schemas, as constraints have them.

use serde_json::{json, Map, Value};

use crate::Error;

/// The key by which the library is told how to write JSON. It is no keyword of schemas.
const OPTIONS: &str = "x-guidance";

/// How JSON is written: on one line, with one space after each comma and colon, as Python's `json.dumps` does. There is nothing to choose
/// in white space then, in which small models lose themselves.
fn options() -> Value {
	json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " })
}

/// Any JSON object.
pub const OBJECT: &str = r#"{"type":"object"}"#;

/// Reads a schema.
pub(crate) fn schema(text: &str) -> Result<Value, Error> {
	let schema: Value = serde_json::from_str(text)
		.map_err(|e| Error::refused(format!("the schema is not JSON: {e}")))?;
	let Value::Object(schema) = schema else {
		return Err(Error::refused("a schema is a JSON object"));
	};
	with_options(schema).map(Value::Object)
}

/// A schema that says how JSON is written. Fails where somebody says so already.
fn with_options(mut schema: Map<String, Value>) -> Result<Map<String, Value>, Error> {
	if schema.insert(OPTIONS.into(), options()).is_some() {
		return Err(Error::refused(format!(
			"{OPTIONS} is no keyword of JSON schemas"
		)));
	}
	Ok(schema)
}
