//! Jinja as chat templates are written for: the dialect of Hugging Face's library, which is Python's Jinja2 with its settings,
//! on `minijinja`.
//!
//! What differs between the two engines and shows in templates is bridged here: `generation` blocks, line endings, Python's way of
//! writing values, `tojson`, a few tests, filters and string methods.

use std::{cell::Cell, fmt::Write, time::Instant};

use minijinja::{
	value::{from_args, Kwargs, Rest, ValueKind},
	Environment, Error, ErrorKind, Output, State, Value,
};

/// Instructions that a rendering may take. A long conversation takes some ten thousand.
const FUEL: u64 = 500_000;
/// Values inside values, as `tojson` and a value's text go down.
const DEPTH: usize = 64;

thread_local! {
	/// When the rendering on this thread has to be done.
	static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Why [`checked`] ends a rendering, as an error's detail.
pub(super) const TOO_SLOW: &str = "the chat template takes too long";

/// Sets the time by which what is rendered on this thread has to be done, as far as templates give the chance to look at it.
pub(super) fn set_deadline(deadline: Option<Instant>) {
	DEADLINE.set(deadline);
}

fn checked() -> Result<(), Error> {
	match DEADLINE.get() {
		Some(deadline) if Instant::now() >= deadline => {
			Err(Error::new(ErrorKind::InvalidOperation, TOO_SLOW))
		}
		_ => Ok(()),
	}
}

fn invalid(why: impl Into<String>) -> Error {
	Error::new(ErrorKind::InvalidOperation, why.into())
}

/// An environment as Hugging Face's library makes it.
pub(super) fn environment() -> Environment<'static> {
	let mut environment = Environment::new();
	environment.set_trim_blocks(true);
	environment.set_lstrip_blocks(true);
	environment.set_fuel(Some(FUEL));
	// Errors would carry the template and the conversation with them.
	environment.set_debug(false);
	environment.set_formatter(|out: &mut Output, _: &State, value: &Value| {
		checked()?;
		match value.as_str() {
			Some(text) => out.write_str(text).map_err(Error::from),
			None => out.write_str(&python_str(value)?).map_err(Error::from),
		}
	});
	environment.set_unknown_method_callback(method);
	environment.add_function("raise_exception", |why: &Value| -> Result<String, Error> {
		Err(Error::new(ErrorKind::InvalidOperation, python_str(why)?).with_source(Raised))
	});
	environment.add_filter("tojson", tojson);
	environment.add_filter("string", |value: &Value| python_str(value));
	environment.add_filter("trim", |text: &Value, chars: Option<&str>| {
		Ok::<_, Error>(strip(&python_str(text)?, chars, true, true).to_owned())
	});
	for name in ["length", "count"] {
		environment.add_filter(name, |value: &Value| match value.kind() {
			ValueKind::Undefined => Ok(0),
			_ => value
				.len()
				.ok_or_else(|| invalid(format!("a value of type {} has no length", value.kind()))),
		});
	}
	environment.add_test("iterable", |value: &Value| {
		value.is_undefined() || (!value.is_none() && value.try_iter().is_ok())
	});
	environment.add_test("number", |value: &Value| {
		matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
	});
	environment.add_test("sequence", |value: &Value| {
		matches!(
			value.kind(),
			ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
		)
	});
	environment
}

/// The template said itself that it takes no such conversation.
#[derive(Debug)]
pub(super) struct Raised;

impl std::fmt::Display for Raised {
	fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
		f.write_str("raise_exception")
	}
}

impl std::error::Error for Raised {}

/// A template's source as `minijinja` takes it: with plain line endings, and `generation` blocks, which mark what a model said for
/// those who train one, as blocks that do nothing but keep their variables to themselves.
pub(super) fn prepared(source: &str) -> String {
	let source = source.replace("\r\n", "\n").replace('\r', "\n");
	let mut out = String::with_capacity(source.len());
	let mut rest = source.as_str();
	while let Some(at) = rest.find('{') {
		out.push_str(&rest[..at]);
		rest = &rest[at..];
		let length = match rest.as_bytes().get(1) {
			Some(b'#') => rest.find("#}").map_or(rest.len(), |end| end + 2),
			Some(b'{') => closed(rest, "}}"),
			Some(b'%') => {
				let length = closed(rest, "%}");
				let statement = &rest[..length];
				match word(statement) {
					"generation" => {
						out.push_str(&statement.replacen("generation", "with", 1));
						rest = &rest[length..];
						continue;
					}
					"endgeneration" => {
						out.push_str(&statement.replacen("endgeneration", "endwith", 1));
						rest = &rest[length..];
						continue;
					}
					"raw" => length + verbatim(&rest[length..]),
					_ => length,
				}
			}
			_ => 1,
		};
		out.push_str(&rest[..length]);
		rest = &rest[length..];
	}
	out.push_str(rest);
	out
}

/// Length of what opens with two characters and is closed by these, strings left out.
fn closed(text: &str, end: &str) -> usize {
	let bytes = text.as_bytes();
	let (mut i, mut quote) = (2, None);
	while i < bytes.len() {
		match (quote, bytes[i]) {
			(Some(_), b'\\') => i += 1,
			(Some(q), b) if q == b => quote = None,
			(None, b @ (b'"' | b'\'')) => quote = Some(b),
			(None, _) if bytes[i..].starts_with(end.as_bytes()) => return i + end.len(),
			_ => {}
		}
		i += 1;
	}
	text.len()
}

/// What a statement begins with.
fn word(statement: &str) -> &str {
	let inner = statement[2..].trim_start_matches(['-', '+']).trim_start();
	let end = inner
		.find(|c: char| !(c.is_alphanumeric() || c == '_'))
		.unwrap_or(inner.len());
	&inner[..end]
}

/// Length of what follows `raw`, up to what ends it.
fn verbatim(text: &str) -> usize {
	let mut from = 0;
	while let Some(at) = text[from..].find("{%") {
		let at = from + at;
		if word(&text[at..]) == "endraw" {
			return at;
		}
		from = at + 2;
	}
	text.len()
}

/// Python's `str`.
fn python_str(value: &Value) -> Result<String, Error> {
	if let Some(text) = value.as_str() {
		return Ok(text.into());
	}
	let mut out = String::new();
	if !value.is_undefined() {
		repr(&mut out, value, 0)?;
	}
	Ok(out)
}

/// Python's `repr`.
fn repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
	if depth > DEPTH {
		return Err(invalid("values lie too deep inside each other"));
	}
	checked()?;
	match value.kind() {
		ValueKind::Undefined => out.push_str("Undefined"),
		ValueKind::None => out.push_str("None"),
		ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
		ValueKind::Number => number(out, value),
		ValueKind::String => {
			let text = value.as_str().unwrap_or_default();
			let quote = if text.contains('\'') && !text.contains('"') {
				'"'
			} else {
				'\''
			};
			out.push(quote);
			for c in text.chars() {
				match c {
					'\n' => out.push_str("\\n"),
					'\r' => out.push_str("\\r"),
					'\t' => out.push_str("\\t"),
					'\\' => out.push_str("\\\\"),
					c if c == quote => {
						out.push('\\');
						out.push(c);
					}
					c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
						let _ = write!(out, "\\x{:02x}", u32::from(c));
					}
					c => out.push(c),
				}
			}
			out.push(quote);
		}
		ValueKind::Seq | ValueKind::Iterable => {
			out.push('[');
			for (i, item) in value.try_iter()?.enumerate() {
				if i > 0 {
					out.push_str(", ");
				}
				repr(out, &item, depth + 1)?;
			}
			out.push(']');
		}
		ValueKind::Map => {
			out.push('{');
			for (i, key) in value.try_iter()?.enumerate() {
				if i > 0 {
					out.push_str(", ");
				}
				repr(out, &key, depth + 1)?;
				out.push_str(": ");
				repr(out, &value.get_item(&key)?, depth + 1)?;
			}
			out.push('}');
		}
		_ => {
			let _ = write!(out, "{value}");
		}
	}
	Ok(())
}

/// A number as Python writes it.
fn number(out: &mut String, value: &Value) {
	if value.is_integer() {
		let _ = write!(out, "{value}");
		return;
	}
	let x = f64::try_from(value.clone()).unwrap_or(f64::NAN);
	if !x.is_finite() {
		let _ = write!(
			out,
			"{}",
			if x.is_nan() {
				"nan"
			} else if x > 0.0 {
				"inf"
			} else {
				"-inf"
			}
		);
		return;
	}
	// The shortest digits that give this number back: the same in both languages, written with an exponent in other cases.
	let scientific = format!("{x:e}");
	let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
	let exponent: i32 = exponent.parse().unwrap_or(0);
	if x != 0.0 && !(-4..16).contains(&exponent) {
		let sign = if exponent < 0 { '-' } else { '+' };
		let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
	} else {
		let _ = write!(out, "{x:?}");
	}
}

/// How `json.dumps` is asked to write.
struct Json {
	ascii: bool,
	indent: Option<String>,
	item: String,
	key: String,
	sorted: bool,
}

/// `json.dumps` with the arguments that Hugging Face's library lets through, in its order.
fn tojson(value: &Value, rest: Rest<Value>) -> Result<Value, Error> {
	let (args, kwargs): (&[Value], Kwargs) = from_args(&rest)?;
	let argument = |i: usize, name: &str| -> Result<Option<Value>, Error> {
		let given = match args.get(i) {
			Some(value) => Some(value.clone()),
			None => kwargs.get::<Option<Value>>(name)?,
		};
		Ok(given.filter(|v| !v.is_none() && !v.is_undefined()))
	};
	let ascii = argument(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
	let indent = match argument(1, "indent")? {
		None => None,
		Some(v) => Some(match v.as_str() {
			Some(text) => text.to_owned(),
			None if v.kind() == ValueKind::Bool => " ".repeat(usize::from(v.is_true())),
			None => {
				let n = i64::try_from(v).map_err(|_| invalid("indent is a number or a text"))?;
				" ".repeat(n.clamp(0, 64) as usize)
			}
		}),
	};
	let (item, key) = match argument(2, "separators")? {
		None => (
			if indent.is_some() { "," } else { ", " }.into(),
			": ".into(),
		),
		Some(pair) => {
			let pair: Vec<_> = pair.try_iter()?.collect();
			match &pair[..] {
				[item, key] => (python_str(item)?, python_str(key)?),
				_ => return Err(invalid("separators are two texts")),
			}
		}
	};
	let sorted = argument(3, "sort_keys")?.is_some_and(|v| v.is_true());
	kwargs.assert_all_used()?;
	let json = Json {
		ascii,
		indent,
		item,
		key,
		sorted,
	};
	let mut out = String::new();
	json.write(&mut out, value, 0)?;
	Ok(out.into())
}

impl Json {
	fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
		if depth > DEPTH {
			return Err(invalid("values lie too deep inside each other"));
		}
		checked()?;
		match value.kind() {
			ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
			ValueKind::Map => {
				let mut entries = Vec::new();
				for key in value.try_iter()? {
					let name = match key.as_str() {
						Some(name) => name.to_owned(),
						None => {
							let mut name = String::new();
							scalar(&mut name, &key)?;
							name
						}
					};
					entries.push((name, value.get_item(&key)?));
				}
				if self.sorted {
					entries.sort_by(|a, b| a.0.cmp(&b.0));
				}
				let write = |out: &mut String, (name, item): &(String, Value)| {
					self.string(out, name);
					out.push_str(&self.key);
					self.write(out, item, depth + 1)
				};
				self.all(out, ['{', '}'], &entries, depth, write)?;
			}
			ValueKind::Seq | ValueKind::Iterable => {
				let items: Vec<_> = value.try_iter()?.collect();
				let write = |out: &mut String, item: &Value| self.write(out, item, depth + 1);
				self.all(out, ['[', ']'], &items, depth, write)?;
			}
			_ => scalar(out, value)?,
		}
		Ok(())
	}

	fn all<T>(
		&self,
		out: &mut String,
		brackets: [char; 2],
		items: &[T],
		depth: usize,
		write: impl Fn(&mut String, &T) -> Result<(), Error>,
	) -> Result<(), Error> {
		out.push(brackets[0]);
		let line = |out: &mut String, depth: usize| {
			if let Some(indent) = &self.indent {
				out.push('\n');
				out.extend(std::iter::repeat_n(indent.as_str(), depth));
			}
		};
		for (i, item) in items.iter().enumerate() {
			if i > 0 {
				out.push_str(&self.item);
			}
			line(out, depth + 1);
			write(out, item)?;
		}
		if !items.is_empty() {
			line(out, depth);
		}
		out.push(brackets[1]);
		Ok(())
	}

	fn string(&self, out: &mut String, text: &str) {
		out.push('"');
		for c in text.chars() {
			match c {
				'"' => out.push_str("\\\""),
				'\\' => out.push_str("\\\\"),
				'\n' => out.push_str("\\n"),
				'\r' => out.push_str("\\r"),
				'\t' => out.push_str("\\t"),
				'\u{8}' => out.push_str("\\b"),
				'\u{c}' => out.push_str("\\f"),
				c if u32::from(c) < 0x20 || (self.ascii && !(' '..='~').contains(&c)) => {
					for unit in c.encode_utf16(&mut [0; 2]) {
						let _ = write!(out, "\\u{unit:04x}");
					}
				}
				c => out.push(c),
			}
		}
		out.push('"');
	}
}

/// What `json.dumps` makes of a value without parts.
fn scalar(out: &mut String, value: &Value) -> Result<(), Error> {
	match value.kind() {
		ValueKind::None => out.push_str("null"),
		ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
		ValueKind::Number => match f64::try_from(value.clone()) {
			Ok(x) if x.is_nan() => out.push_str("NaN"),
			Ok(x) if x.is_infinite() => {
				out.push_str(if x > 0.0 { "Infinity" } else { "-Infinity" })
			}
			_ => number(out, value),
		},
		ValueKind::String => out.push_str(value.as_str().unwrap_or_default()),
		kind => {
			return Err(invalid(format!(
				"a value of type {kind} cannot be written as JSON"
			)))
		}
	}
	Ok(())
}

/// Python's white space: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
	c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
	let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
	let text = if left {
		text.trim_start_matches(drop)
	} else {
		text
	};
	if right {
		text.trim_end_matches(drop)
	} else {
		text
	}
}

/// Python's methods of texts, lists and dictionaries.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
	checked()?;
	let library = || minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
	let Some(text) = value.as_str() else {
		return library();
	};
	let pieces = |pieces: [&str; 3]| Value::from(pieces.map(Value::from).to_vec());
	Ok(match name {
		"strip" | "lstrip" | "rstrip" => {
			let (chars,): (Option<&str>,) = from_args(args)?;
			strip(text, chars, name != "rstrip", name != "lstrip").into()
		}
		"isspace" => (!text.is_empty() && text.chars().all(is_space)).into(),
		"split" if args.first().is_none_or(Value::is_none) => {
			let (_, most): (Option<Value>, Option<i64>) = from_args(args)?;
			words(text, most.unwrap_or(-1)).into()
		}
		"rsplit" => {
			let (by, most): (&str, Option<i64>) = from_args(args)?;
			if by.is_empty() {
				return Err(invalid("empty separator"));
			}
			let most = most.unwrap_or(-1);
			let mut parts: Vec<_> = match usize::try_from(most) {
				Ok(most) => text.rsplitn(most + 1, by).map(Value::from).collect(),
				Err(_) => text.rsplit(by).map(Value::from).collect(),
			};
			parts.reverse();
			parts.into()
		}
		"partition" => {
			let (by,): (&str,) = from_args(args)?;
			match text.split_once(by) {
				Some((before, after)) => pieces([before, by, after]),
				None => pieces([text, "", ""]),
			}
		}
		"rpartition" => {
			let (by,): (&str,) = from_args(args)?;
			match text.rsplit_once(by) {
				Some((before, after)) => pieces([before, by, after]),
				None => pieces(["", "", text]),
			}
		}
		"removeprefix" => {
			let (prefix,): (&str,) = from_args(args)?;
			text.strip_prefix(prefix).unwrap_or(text).into()
		}
		"removesuffix" => {
			let (suffix,): (&str,) = from_args(args)?;
			text.strip_suffix(suffix).unwrap_or(text).into()
		}
		"find" | "index" | "rfind" | "rindex" => {
			let (what,): (&str,) = from_args(args)?;
			let found = match name {
				"find" | "index" => text.find(what),
				_ => text.rfind(what),
			};
			match found {
				// Python counts characters.
				Some(at) => text[..at].chars().count().into(),
				None if name.ends_with("find") => (-1).into(),
				None => return Err(invalid("substring not found")),
			}
		}
		"splitlines" => {
			let (keep,): (Option<bool>,) = from_args(args)?;
			lines(text, keep.unwrap_or(false)).into()
		}
		"zfill" => {
			let (width,): (usize,) = from_args(args)?;
			let (sign, digits) = match text.as_bytes().first() {
				Some(b'+' | b'-') => text.split_at(1),
				_ => ("", text),
			};
			let missing = width.min(4_096).saturating_sub(text.chars().count());
			format!("{sign}{}{digits}", "0".repeat(missing)).into()
		}
		_ => return library(),
	})
}

/// Python's `split` without a separator.
fn words(text: &str, most: i64) -> Vec<Value> {
	let mut words = Vec::new();
	let mut rest = strip(text, None, true, false);
	while !rest.is_empty() {
		// What is left when no more may be split off keeps the space at its end.
		let may = most < 0 || (words.len() as i64) < most;
		let Some(end) = rest.find(is_space).filter(|_| may) else {
			words.push(rest.into());
			break;
		};
		words.push(rest[..end].into());
		rest = strip(&rest[end..], None, true, false);
	}
	words
}

/// Python's `splitlines`.
fn lines(text: &str, keep: bool) -> Vec<Value> {
	let ends = |c| {
		matches!(
			c,
			'\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
				..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
		)
	};
	let mut lines = Vec::new();
	let mut rest = text;
	while !rest.is_empty() {
		let (line, end) = match rest.find(ends) {
			None => (rest.len(), rest.len()),
			Some(at) if rest[at..].starts_with("\r\n") => (at, at + 2),
			Some(at) => (at, at + rest[at..].chars().next().map_or(0, char::len_utf8)),
		};
		lines.push(rest[..if keep { end } else { line }].into());
		rest = &rest[end..];
	}
	lines
}
