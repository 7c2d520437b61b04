//! Tools: how a model is told of them, and the calls in what it writes.
//!
//! The chain takes messages. So what a call has of tools becomes messages here, in the form that Hermes, Qwen 2.5 and 3 and many after them
//! were trained on: signatures as JSON in the system message, a call as JSON between `<tool_call>` and `</tool_call>`, a result between
//! `<tool_response>` and `</tool_response>`. That is what validators are asked, and what they check; nothing is added behind their backs.

use std::collections::BTreeSet;

use serde_json::{json, Map, Value};

use crate::{
	constraint::{self, Format},
	error::Error,
	fields::Fields,
	network::{Finish, Message, Sampling},
};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Role of a tool's result, until [`Tools::tell`] makes it a message of the user.
pub(crate) const RESULT: &str = "tool";
/// Longest name of a tool, as OpenAI has it.
const NAME: usize = 64;

/// A tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
	pub(crate) name: String,
	pub(crate) description: Option<String>,
	/// A JSON schema.
	pub(crate) parameters: Value,
	/// Whether arguments have to follow it.
	pub(crate) strict: bool,
}

/// Which tools an answer calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
	/// Those that the model will.
	#[default]
	Auto,
	/// One at least.
	Required,
	/// This one.
	Named(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
	pub(crate) id: String,
	pub(crate) name: String,
	/// A JSON object.
	pub(crate) arguments: String,
}

/// Part of what a model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
	Text(String),
	Call(Call),
}

impl Tool {
	/// Reads what a function has of its own: its name, what it does, its parameters under this name.
	pub(crate) fn read(fields: &mut Fields, parameters: &str) -> Result<Self, Error> {
		let name: String = fields.need("name")?;
		let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
		if name.is_empty() || name.len() > NAME || !name.chars().all(plain) {
			let parameter = fields.name("name");
			let message =
				format!("{parameter} is {name:?}, and has 1 to {NAME} letters, digits, _ and -");
			return Err(Error::invalid(parameter, message));
		}
		let schema = fields.take::<Value>(parameters)?;
		let schema = schema.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
		if !schema.is_object() {
			let parameter = fields.name(parameters);
			let message = format!("{parameter} is not an object");
			return Err(Error::invalid(parameter, message));
		}
		Ok(Self {
			name,
			description: fields.take("description")?,
			parameters: schema,
			strict: fields.take("strict")?.unwrap_or(false),
		})
	}
}

/// Tools that a request offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
	tools: Vec<Tool>,
	/// Whether the answer ends with the first call.
	one: bool,
	choice: Choice,
}

impl Tools {
	/// Checks that no two tools have one name. With `one` the answer ends with the first call.
	pub(crate) fn new(
		tools: Vec<Tool>,
		one: bool,
		choice: Choice,
		parameter: &str,
	) -> Result<Self, Error> {
		let mut names = BTreeSet::new();
		if let Some(twice) = tools.iter().find(|tool| !names.insert(&tool.name)) {
			let message = format!("{parameter} has two tools of the name {:?}", twice.name);
			return Err(Error::invalid(parameter, message));
		}
		let there = match &choice {
			Choice::Auto => true,
			Choice::Required => !tools.is_empty(),
			Choice::Named(name) => tools.iter().any(|tool| tool.name == *name),
		};
		if !there {
			let message = match choice {
				Choice::Named(name) => {
					format!("tool_choice names {name:?}, and {parameter} has no such tool")
				}
				_ => format!("tool_choice asks for a call, and {parameter} has no tool"),
			};
			return Err(Error::invalid("tool_choice", message));
		}
		Ok(Self { tools, one, choice })
	}

	/// Tells the model of the tools and of what came of those that were called: what is left are messages that the chain takes.
	pub(crate) fn tell(&self, messages: &mut Vec<Message>) {
		let mut told: Vec<Message> = Vec::with_capacity(messages.len() + 1);
		let mut results = false;
		for message in messages.drain(..) {
			let is_result = message.role == RESULT;
			match told.last_mut() {
				// All results of one turn are one message.
				Some(last) if is_result && results => {
					add_line(&mut last.content, &message.content);
				}
				_ if is_result => told.push(Message {
					role: "user".into(),
					..message
				}),
				_ => told.push(message),
			}
			results = is_result;
		}
		if !self.tools.is_empty() {
			let signatures = self.signatures();
			match told.first_mut() {
				Some(first) if first.role == "system" || first.role == "developer" => {
					first.content += "\n\n";
					first.content += &signatures;
				}
				_ => told.insert(
					0,
					Message {
						role: "system".into(),
						content: signatures,
					},
				),
			}
		}
		*messages = told;
	}

	fn signatures(&self) -> String {
		let mut all = String::from(
			"# Tools\n\nThese functions can be called to answer the user, and no others:\n<tools>\n",
		);
		for tool in &self.tools {
			let mut function = json!({ "name": tool.name });
			if let Some(description) = &tool.description {
				function["description"] = description.as_str().into();
			}
			function["parameters"] = tool.parameters.clone();
			let signature = json!({ "type": "function", "function": function });
			all += &format!("{signature}\n");
		}
		all + "</tools>\n\nTo call one, write its name and its arguments as a JSON object between these tags:\n\
		       <tool_call>\n{\"name\": NAME, \"arguments\": ARGUMENTS}\n</tool_call>"
	}

	/// Adds the stop string that ends an answer with its first call, if that is asked for.
	pub(crate) fn stop(&self, sampling: &mut Sampling) {
		if self.one && !self.tools.is_empty() {
			sampling.stop.get_or_insert_default().push(CLOSE.into());
		}
	}

	/// Returns the grammar that an answer follows, where it has to call a tool, where a tool's arguments have to follow their schema, or
	/// where there is something else to choose from than a format. With `full` there is no stop string left that could end it with its
	/// first call.
	pub(crate) fn grammar(&self, format: &Format, full: bool) -> Option<String> {
		let forced = self.choice != Choice::Auto;
		let strict = self.tools.iter().any(|tool| tool.strict);
		let json = matches!(format, Format::Json(_));
		let one = self.one && full;
		if self.tools.is_empty() || !(forced || strict || json || one) {
			return None;
		}
		let named = |tool: &&Tool| match &self.choice {
			Choice::Named(name) => tool.name == *name,
			Choice::Auto | Choice::Required => true,
		};
		let tools: Vec<_> = self.tools.iter().filter(named).collect();
		let names: Vec<_> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
		let mut grammar = match (&self.choice, format) {
			(Choice::Auto, Format::Text) if self.one => "start: TEXT | BEGIN call END\n",
			(Choice::Auto, Format::Text) => "start: TEXT | (BEGIN call END)+ TEXT\n",
			(Choice::Auto, Format::Json(_)) if self.one => "start: answer | OPEN call END\n",
			(Choice::Auto, Format::Json(_)) => {
				"start: answer | OPEN call END (\"\\n\" OPEN call END)*\n"
			}
			(Choice::Required | Choice::Named(_), _) if self.one => "start: OPEN call END\n",
			(Choice::Required, _) => "start: OPEN call END (\"\\n\" OPEN call END)*\n",
			// As OpenAI has it: the one that is named, once.
			(Choice::Named(_), _) => "start: OPEN call END\n",
		}
		.to_owned();
		grammar += &format!("OPEN: \"{OPEN}\\n\"\nEND: \"\\n{CLOSE}\"\n");
		if (&self.choice, format) == (&Choice::Auto, &Format::Text) {
			// Text that has no call in it, so that nothing is one that is not held to its schema.
			grammar += "BEGIN: TEXT OPEN\n";
			grammar += &format!("TEXT: /(.|\\n)*/ & ~/(.|\\n)*{OPEN}(.|\\n)*/\n");
		}
		if let (Choice::Auto, Format::Json(schema)) = (&self.choice, format) {
			let schema = constraint::within_grammar(&Value::Object(schema.clone()));
			grammar += &format!("answer: {schema}\n");
		}
		grammar += &format!("call: {}\n", names.join(" | "));
		for (name, tool) in names.iter().zip(tools) {
			let arguments = match tool.strict {
				true => tool.parameters.clone(),
				false => constraint::lenient(&tool.parameters),
			};
			let call = called_by(&tool.name, arguments);
			grammar += &format!("{name}: {}\n", constraint::within_grammar(&call));
		}
		Some(grammar)
	}

	/// Returns whether the answer ends with the first call.
	pub(crate) fn is_one(&self) -> bool {
		self.one
	}

	/// Returns what reads an answer; `id` is the request's.
	pub(crate) fn calls(&self, id: u64) -> Calls {
		Calls {
			id,
			names: self.tools.iter().map(|tool| tool.name.clone()).collect(),
			held: String::new(),
			gap: String::new(),
			within: false,
			count: 0,
		}
	}
}

/// Returns the schema of a call whose arguments follow this one. Its definitions are looked for at the top.
fn called_by(name: &str, arguments: Value) -> Value {
	let is_definitions = |key: &str| key == "$defs" || key == "definitions";
	let all = match arguments {
		Value::Object(all) => all,
		_ => Map::new(),
	};
	let (definitions, arguments): (Map<_, _>, Map<_, _>) =
		all.into_iter().partition(|(key, _)| is_definitions(key));
	let mut call = json!({
		"type": "object",
		"properties": { "name": { "const": name }, "arguments": arguments },
		"required": ["name", "arguments"],
		"additionalProperties": false,
	});
	if let Some(call) = call.as_object_mut() {
		call.extend(definitions);
	}
	call
}

/// Returns a call in the form in which a model writes it.
pub(crate) fn called(name: &str, arguments: &Value) -> String {
	let call = json!({ "name": name, "arguments": arguments });
	format!("{OPEN}\n{call}\n{CLOSE}")
}

/// Adds a line to a text.
pub(crate) fn add_line(text: &mut String, line: &str) {
	if !text.is_empty() {
		text.push('\n');
	}
	text.push_str(line);
}

/// Returns a tool's result as a message.
pub(crate) fn result(content: &str) -> Message {
	Message {
		role: RESULT.into(),
		content: format!("<tool_response>\n{content}\n</tool_response>"),
	}
}

/// Parses arguments that a client sends back: a JSON object as text.
pub(crate) fn arguments(text: &str, name: &str) -> Result<Value, Error> {
	match serde_json::from_str(text) {
		Ok(arguments @ Value::Object(_)) => Ok(arguments),
		_ => Err(Error::invalid(
			name,
			format!("{name} is not a JSON object as text"),
		)),
	}
}

/// Finds calls in an answer as it comes. What looks like a call and is none of an offered tool stays text.
pub(crate) struct Calls {
	id: u64,
	names: BTreeSet<String>,
	/// Text that may be part of a tag or a call, or the white space before one.
	held: String,
	/// White space before the call that is being read.
	gap: String,
	within: bool,
	count: usize,
}

impl Calls {
	/// Returns whether something was called.
	pub(crate) fn any(&self) -> bool {
		self.count > 0
	}

	/// Takes more of the answer.
	pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
		let mut parts = Vec::new();
		if self.names.is_empty() {
			text_part(&mut parts, text);
			return parts;
		}
		self.held += text;
		loop {
			if self.within {
				let Some(at) = self.held.find(CLOSE) else {
					return parts;
				};
				let rest = self.held.split_off(at + CLOSE.len());
				let whole = std::mem::replace(&mut self.held, rest);
				self.call(&whole[..at], CLOSE, &mut parts);
				self.within = false;
			} else if let Some(at) = self.held.find(OPEN) {
				let rest = self.held.split_off(at + OPEN.len());
				let before = std::mem::replace(&mut self.held, rest);
				let text = before[..at].trim_end();
				text_part(&mut parts, text);
				self.gap = before[text.len()..at].into();
				self.within = true;
			} else {
				let sure = self.held.len() - unsure(&self.held);
				let rest = self.held.split_off(sure);
				let before = std::mem::replace(&mut self.held, rest);
				text_part(&mut parts, &before);
				return parts;
			}
		}
	}

	/// Ends the answer.
	pub(crate) fn end(&mut self, finish: Finish) -> Vec<Part> {
		let mut parts = Vec::new();
		let held = std::mem::take(&mut self.held);
		match (self.within, finish) {
			// A stop string ended it, as is asked for where one call is enough.
			(true, Finish::StopString) => self.call(&held, "", &mut parts),
			(true, _) => text_part(&mut parts, &format!("{}{OPEN}{held}", self.gap)),
			// White space after a call separates nothing.
			(false, _) if self.any() && held.trim().is_empty() => (),
			(false, _) => text_part(&mut parts, &held),
		}
		self.within = false;
		parts
	}

	/// Returns all of an answer.
	pub(crate) fn whole(&mut self, text: &str, finish: Finish) -> Vec<Part> {
		let mut parts = self.push(text);
		for part in self.end(finish) {
			match part {
				Part::Text(text) => text_part(&mut parts, &text),
				call @ Part::Call(_) => parts.push(call),
			}
		}
		parts
	}

	fn call(&mut self, body: &str, close: &str, parts: &mut Vec<Part>) {
		match self.read(body) {
			Some(calls) => {
				for (name, arguments) in calls {
					let id = format!("call_{:x}_{}", self.id, self.count);
					self.count += 1;
					parts.push(Part::Call(Call {
						id,
						name,
						arguments,
					}));
				}
			}
			None => text_part(parts, &format!("{}{OPEN}{body}{close}", self.gap)),
		}
	}

	/// Names and arguments of the calls between two tags: one, or a list of them as SmolLM2 writes it.
	fn read(&self, body: &str) -> Option<Vec<(String, String)>> {
		let calls = match serde_json::from_str(body.trim()).ok()? {
			Value::Array(calls) if !calls.is_empty() => calls,
			call @ Value::Object(_) => vec![call],
			_ => return None,
		};
		let calls = calls.into_iter().map(|mut call| {
			let name = call["name"].as_str()?.to_owned();
			let arguments = match call["arguments"].take() {
				Value::Null => "{}".into(),
				Value::String(text) => arguments(&text, "").is_ok().then_some(text)?,
				object @ Value::Object(_) => object.to_string(),
				_ => return None,
			};
			self.names.contains(&name).then_some((name, arguments))
		});
		calls.collect()
	}
}

/// Joins all text of an answer.
pub(crate) fn split(parts: Vec<Part>) -> (String, Vec<Call>) {
	let (mut text, mut calls) = (String::new(), Vec::new());
	for part in parts {
		match part {
			Part::Text(more) => text += &more,
			Part::Call(call) => calls.push(call),
		}
	}
	(text, calls)
}

fn text_part(parts: &mut Vec<Part>, text: &str) {
	match parts.last_mut() {
		_ if text.is_empty() => (),
		Some(Part::Text(last)) => last.push_str(text),
		_ => parts.push(Part::Text(text.into())),
	}
}

/// Bytes at the end of a text that may be the beginning of a tag, and white space before them.
fn unsure(text: &str) -> usize {
	let tag = (1..OPEN.len())
		.rev()
		.find(|length| text.ends_with(&OPEN[..*length]))
		.unwrap_or(0);
	text.len() - text[..text.len() - tag].trim_end().len()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn tools(names: &[&str], one: bool) -> Tools {
		let tool = |name: &&str| Tool {
			name: (*name).into(),
			description: Some(format!("does {name}")),
			parameters: json!({ "type": "object", "properties": { "city": { "type": "string" } } }),
			strict: false,
		};
		let tools = names.iter().map(tool).collect();
		Tools::new(tools, one, Choice::Auto, "tools").unwrap()
	}

	fn message(role: &str, content: &str) -> Message {
		Message {
			role: role.into(),
			content: content.into(),
		}
	}

	/// However an answer is cut into pieces, the same comes of it.
	fn parts(tools: &Tools, answer: &str, finish: Finish) -> (String, Vec<(String, String)>) {
		let whole = split(tools.calls(0x1f).whole(answer, finish));
		for size in 1..=answer.chars().count().min(9) {
			let mut calls = tools.calls(0x1f);
			let mut parts = Vec::new();
			let pieces: Vec<char> = answer.chars().collect();
			for piece in pieces.chunks(size) {
				parts.extend(calls.push(&piece.iter().collect::<String>()));
			}
			parts.extend(calls.end(finish));
			assert_eq!(split(parts), whole, "in pieces of {size}");
		}
		let calls = whole.1.into_iter().enumerate().map(|(i, call)| {
			assert_eq!(call.id, format!("call_1f_{i}"));
			(call.name, call.arguments)
		});
		(whole.0, calls.collect())
	}

	#[test]
	fn calls_are_found_and_the_rest_is_text() {
		let weather = tools(&["weather", "time"], false);
		let call =
			|name: &str, arguments: &str| {
				format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
			};
		let found = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
		let paris = call("weather", r#"{"city": "Paris"}"#);
		let in_paris = found("weather", r#"{"city":"Paris"}"#);
		let (end, cut) = (Finish::EndOfText, Finish::Length);
		for (answer, finish, text, calls) in [
			(
				"No tool is needed. \n",
				end,
				"No tool is needed. \n",
				vec![],
			),
			("a < b, <tool", end, "a < b, <tool", vec![]),
			(&paris, end, "", vec![in_paris.clone()]),
			(
				&format!("I look.\n{paris}\n{}\n", call("time", "{}")),
				end,
				"I look.",
				vec![in_paris.clone(), found("time", "{}")],
			),
			(
				&format!("{paris} It rains."),
				end,
				" It rains.",
				vec![in_paris.clone()],
			),
			// In one pair of tags, without arguments, and as text.
			(
				r#"<tool_call>[{"name": "time"}, {"name": "weather", "arguments": "{\"city\": 1}"}]</tool_call>"#,
				end,
				"",
				vec![found("time", "{}"), found("weather", r#"{"city": 1}"#)],
			),
			// A call that ends when the answer does, and one that is cut.
			(
				"<tool_call>{\"name\": \"time\", \"arguments\": {}}",
				Finish::StopString,
				"",
				vec![found("time", "{}")],
			),
			(
				"é <tool_call>{\"name\": \"ti",
				cut,
				"é <tool_call>{\"name\": \"ti",
				vec![],
			),
		] {
			assert_eq!(
				parts(&weather, answer, finish),
				(text.into(), calls),
				"{answer}"
			);
		}
		// What is no call of a tool that is there stays as it was written.
		for none in [
			call("launch", "{}"),
			call("weather", "3"),
			call("weather", r#""Paris""#),
			"<tool_call>[]</tool_call>".into(),
			"<tool_call>weather</tool_call>".into(),
			"<tool_call></tool_call>".into(),
			"<tool_call>{\"name\": \"time\"}<tool_call>".into(),
		] {
			assert_eq!(parts(&weather, &none, end), (none.clone(), vec![]));
		}
		// Nor is anything looked for where no tool was offered.
		assert_eq!(parts(&Tools::default(), &paris, end), (paris, vec![]));
	}

	#[test]
	fn the_model_is_told() {
		let tools = tools(&["weather"], false);
		let mut messages = vec![
			message("system", "Be brief."),
			message("user", "Where does it rain?"),
			message("assistant", &called("weather", &json!({ "city": "Paris" }))),
			result("rain"),
			result("sun"),
			message("user", "And now?"),
			result("alone"),
		];
		tools.tell(&mut messages);
		let roles: Vec<_> = messages.iter().map(|m| m.role.as_str()).collect();
		assert_eq!(
			roles,
			["system", "user", "assistant", "user", "user", "user"]
		);
		let system = &messages[0].content;
		assert!(system.starts_with("Be brief.\n\n# Tools\n"), "{system}");
		let signature = system.lines().find(|line| line.starts_with('{'));
		let signature: Value = serde_json::from_str(signature.unwrap()).unwrap();
		assert_eq!(signature["function"]["name"], "weather");
		assert_eq!(signature["function"]["parameters"]["type"], "object");
		let (text, calls) = split(
			tools
				.calls(1)
				.whole(&messages[2].content, Finish::EndOfText),
		);
		assert_eq!((text.as_str(), calls[0].name.as_str()), ("", "weather"));
		assert_eq!(calls[0].arguments, r#"{"city":"Paris"}"#);
		let results =
			"<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>";
		assert_eq!(messages[3].content, results);

		let mut alone = vec![message("user", "Hi")];
		tools.tell(&mut alone);
		assert_eq!(alone[0].role, "system");
		let mut without = vec![message("user", "Hi")];
		Tools::default().tell(&mut without);
		assert_eq!(without, [message("user", "Hi")]);
	}

	#[test]
	fn one_call_is_enough_where_that_is_asked_for() {
		for (names, one, stop) in [
			(&["time"][..], true, Some(vec![CLOSE.to_owned()])),
			(&["time"], false, None),
			(&[], true, None),
		] {
			let mut sampling = Sampling::default();
			tools(names, one).stop(&mut sampling);
			assert_eq!(sampling.stop, stop);
		}
		let two = vec![tools(&["time"], false).tools[0].clone(); 2];
		assert!(Tools::new(two, false, Choice::Auto, "tools").is_err());
	}

	#[test]
	fn only_tools_that_are_there_are_asked_for() {
		let all = |names: &[&str]| tools(names, false).tools;
		let named = |name: &str| Choice::Named(name.into());
		assert!(Tools::new(all(&["time"]), false, named("time"), "tools").is_ok());
		for (names, choice) in [
			(&["time"][..], named("weather")),
			(&[], named("time")),
			(&[], Choice::Required),
		] {
			match Tools::new(all(names), false, choice, "tools") {
				Err(Error::Invalid { parameter, .. }) => {
					assert_eq!(parameter.as_deref(), Some("tool_choice"));
				}
				other => panic!("{other:?}"),
			}
		}
	}

	#[test]
	fn a_grammar_says_what_has_to_be_called_and_how() {
		let of = |one, choice, strict| {
			let mut tools = tools(&["time", "weather"], one);
			tools.choice = choice;
			tools.tools[1].strict = strict;
			tools
		};
		let start = |tools: &Tools, format: &Format, full| {
			let grammar = tools.grammar(format, full)?;
			let start = grammar.lines().next()?;
			Some(start.strip_prefix("start: ")?.to_owned())
		};
		let json = Format::Json(Default::default());
		let text = Format::Text;
		let named = || Choice::Named("weather".into());
		for (one, choice, strict, format, full, expected) in [
			// Nothing has to be.
			(false, Choice::Auto, false, &text, false, None),
			(true, Choice::Auto, false, &text, false, None),
			// No stop string is left for it.
			(
				true,
				Choice::Auto,
				false,
				&text,
				true,
				Some("TEXT | BEGIN call END"),
			),
			(
				false,
				Choice::Auto,
				true,
				&text,
				false,
				Some("TEXT | (BEGIN call END)+ TEXT"),
			),
			(
				true,
				Choice::Auto,
				false,
				&json,
				false,
				Some("answer | OPEN call END"),
			),
			(
				true,
				Choice::Required,
				false,
				&json,
				false,
				Some("OPEN call END"),
			),
			(false, named(), false, &text, false, Some("OPEN call END")),
			(
				false,
				Choice::Required,
				false,
				&text,
				false,
				Some("OPEN call END (\"\\n\" OPEN call END)*"),
			),
		] {
			let tools = of(one, choice, strict);
			assert_eq!(start(&tools, format, full).as_deref(), expected);
		}
		let grammar = of(false, named(), true).grammar(&text, false).unwrap();
		assert!(
			grammar.contains("\"const\":\"weather\"") && !grammar.contains("\"const\":\"time\"")
		);
		assert!(!grammar.contains("TEXT") && grammar.contains("OPEN: \"<tool_call>\\n\""));
		assert_eq!(tools(&[], true).grammar(&text, true), None);
		// What stands at the top of a schema is found where references look for it.
		let schema =
			json!({ "$defs": { "a": {} }, "properties": { "x": { "$ref": "#/$defs/a" } } });
		let call = called_by("f", schema);
		assert_eq!(call["$defs"], json!({ "a": {} }));
		assert!(call["properties"]["arguments"].get("$defs").is_none());
	}

	#[test]
	fn a_schema_that_nobody_has_to_follow_is_left_out_where_it_may_not_be_known() {
		let plain = json!({ "type": "object", "properties": { "a": { "type": "string", "enum": ["x"], "description": "y" } },
			"required": ["a"], "additionalProperties": false });
		assert_eq!(constraint::lenient(&plain), plain);
		for odd in [
			json!({ "type": ["object", "null"] }),
			json!({ "properties": { "a": { "pattern": "(?=x)" } } }),
			json!({ "properties": { "a": { "items": { "if": {} } } } }),
			json!({ "$ref": "https://example.org/x" }),
			json!({ "oneOf": [{}] }),
		] {
			assert_eq!(constraint::lenient(&odd), json!({ "type": "object" }));
		}
	}
}
