//! Answers in a form: a JSON schema that an answer follows, and calls of tools that have to be made or whose arguments follow theirs.
//!
//! Validators hold the tokens that they choose from to the constraint, and checkers the answer; nothing is repaired here.

use serde_json::{json, Map, Value};

use crate::{
	error::Error,
	fields::Fields,
	network::{Constraint, Sampling},
	tools::Tools,
};

/// Most bytes of a constraint that the chain takes.
const LONGEST: usize = 8_192;
/// Any JSON object.
const OBJECT: &str = "{\"type\":\"object\"}";
/// Stop strings that the chain takes.
const STOPS: usize = 4;

/// Keywords that constraints know for certain, whatever stands beside them.
const KEYWORDS: [&str; 22] = [
	"$defs",
	"$ref",
	"additionalProperties",
	"anyOf",
	"const",
	"default",
	"definitions",
	"description",
	"enum",
	"examples",
	"exclusiveMaximum",
	"exclusiveMinimum",
	"items",
	"maxItems",
	"maxLength",
	"maximum",
	"minItems",
	"minLength",
	"minimum",
	"properties",
	"required",
	"title",
];

/// What an answer is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Format {
	/// Any text.
	#[default]
	Text,
	/// JSON that this schema describes.
	Json(Map<String, Value>),
}

impl Format {
	/// Reads what OpenAI calls a response format, whose schema stands `within` an object or beside its type.
	pub(crate) fn read(value: Value, name: &str, within: Option<&str>) -> Result<Self, Error> {
		let mut fields = Fields::within(value, name)?;
		let kind: String = fields.need("type")?;
		let format = match kind.as_str() {
			"text" => Self::Text,
			"json_object" => Self::object(),
			"json_schema" => match within {
				Some(within) => {
					let inner = Fields::within(fields.need(within)?, &format!("{name}.{within}"))?;
					Self::schema(inner)?
				}
				None => return Self::schema(fields),
			},
			kind => {
				return Err(Error::Unsupported {
					parameter: format!("{name}.type"),
					why: format!("{kind:?} is none of text, json_object and json_schema"),
				})
			}
		};
		fields.end()?;
		Ok(format)
	}

	fn object() -> Self {
		Self::Json(Map::from_iter([("type".into(), "object".into())]))
	}

	/// Reads a schema with its name. It is followed whether or not it is called strict.
	fn schema(mut fields: Fields) -> Result<Self, Error> {
		fields.ignore(&["name", "description"]);
		fields.take::<bool>("strict")?;
		let schema = fields.take("schema")?;
		fields.end()?;
		Ok(schema.map_or_else(Self::object, Self::Json))
	}
}

/// Holds an answer to its format, and to the calls of tools that it has to have or that have to follow schemas. `parameter` names the
/// format in errors.
pub(crate) fn hold(
	sampling: &mut Sampling,
	format: &Format,
	tools: &Tools,
	parameter: &str,
) -> Result<(), Error> {
	let stops = sampling.stop.as_ref().map_or(0, Vec::len);
	let constraint = match (format, tools.grammar(format, stops >= STOPS)) {
		(_, Some(grammar)) => Constraint::Lark(grammar),
		(Format::Json(schema), None) => {
			Constraint::JsonSchema(Value::Object(schema.clone()).to_string())
		}
		(Format::Text, None) => {
			tools.stop(sampling);
			return Ok(());
		}
	};
	let (Constraint::JsonSchema(text) | Constraint::Lark(text)) = &constraint;
	if text.len() > LONGEST {
		let parameter = match format {
			Format::Text => "tools",
			Format::Json(_) => parameter,
		};
		let message = format!(
			"{parameter}: schemas that the answer has to follow come to {} bytes, and the chain takes {LONGEST}",
			text.len()
		);
		return Err(Error::invalid(parameter, message));
	}
	sampling.constraint = Some(constraint);
	Ok(())
}

/// A JSON value within a grammar, on one line like all JSON of constrained answers.
pub(crate) fn within_grammar(schema: &Value) -> String {
	let mut schema = schema.clone();
	schema["x-guidance"] =
		json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
	format!("%json {schema}")
}

/// The schema that arguments follow where nobody has asked for that: theirs, unless it has what constraints may not know.
pub(crate) fn lenient(schema: &Value) -> Value {
	if is_plain(schema) {
		schema.clone()
	} else {
		serde_json::from_str(OBJECT).unwrap_or_default()
	}
}

fn is_plain(schema: &Value) -> bool {
	let Value::Object(schema) = schema else {
		return schema.is_boolean();
	};
	let known = |(keyword, value): (&String, &Value)| match keyword.as_str() {
		"type" => value.is_string(),
		"properties" | "$defs" | "definitions" => value
			.as_object()
			.is_some_and(|all| all.values().all(is_plain)),
		"items" | "additionalProperties" => is_plain(value),
		"anyOf" => value.as_array().is_some_and(|all| all.iter().all(is_plain)),
		"$ref" => value.as_str().is_some_and(|at| at.starts_with("#/")),
		keyword => KEYWORDS.contains(&keyword),
	};
	schema.iter().all(known)
}
