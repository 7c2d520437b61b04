//! Chat templates: a conversation becomes a prompt.
//!
//! What people say is theirs and stays text: which characters of a prompt are theirs is found by rendering the conversation a second
//! time with marks in their place, see [`Template::render`].

use std::{
	io,
	time::{Duration, Instant},
};

use consilience_primitives::request::{Role, Unanswerable};
use minijinja::{context, Environment, ErrorKind, Value};

use super::{
	jinja::{self, Raised},
	tokens::Controls,
};
use crate::EngineError;

/// Bytes that a prompt may have: eight times what all messages of a request have together.
const LARGEST: usize = 4 << 20;
/// Time that a prompt may take. Fuel ends a rendering before, and at the same place everywhere, except where single steps are long.
const SLOWEST: Duration = Duration::from_secs(5);
/// Characters of a template's reason that are shown.
const REASON: usize = 200;

/// A compiled chat template.
pub(crate) struct Template {
	environment: Environment<'static>,
	source: String,
	bos: Option<String>,
	eos: Option<String>,
}

/// A text, and where people's own words in it spell what could be a control token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Prompted {
	pub(crate) text: String,
	/// Rising offsets of characters that people wrote; a control token that has one of them is text.
	pub(crate) theirs: Vec<usize>,
}

/// Stops what is written once it is too much.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
	fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
		if self.0.len() + bytes.len() > LARGEST {
			return Err(io::Error::other("too long"));
		}
		self.0.extend_from_slice(bytes);
		Ok(bytes.len())
	}

	fn flush(&mut self) -> io::Result<()> {
		Ok(())
	}
}

/// A refusal by the template, or of what it does.
fn refused(why: String) -> EngineError {
	EngineError::Unanswerable(Unanswerable::TemplateRefused, why)
}

/// The beginning of a reason: it may quote the whole conversation.
fn cut(reason: &str) -> String {
	match reason.char_indices().nth(REASON) {
		Some((end, _)) => format!("{}…", &reason[..end]),
		None => reason.into(),
	}
}

/// Why a rendering failed, for who sees neither the template nor the conversation.
fn explained(error: &minijinja::Error) -> EngineError {
	use std::error::Error;
	let detail = error.detail().unwrap_or_default();
	let mut sources = std::iter::successors(Some(error as &dyn Error), |e| (*e).source());
	if sources.any(|e| e.is::<Raised>()) {
		return refused(format!(
			"the chat template refuses this conversation: {}",
			cut(detail)
		));
	}
	match error.kind() {
		_ if detail == jinja::TOO_SLOW => EngineError::Limit(jinja::TOO_SLOW.into()),
		ErrorKind::OutOfFuel => refused("the chat template takes too many steps".into()),
		ErrorKind::WriteFailure => EngineError::Unanswerable(
			Unanswerable::PromptTooLong,
			format!("the chat template writes more than {LARGEST} bytes"),
		),
		ErrorKind::UnknownFunction if detail.contains("strftime_now") => refused(
			"the chat template asks for the date (strftime_now), which a prompt that others reproduce cannot have: write a fixed \
			 date into the template, or ask `strftime_now is defined` before"
				.into(),
		),
		kind => {
			let line = error.line().map_or(String::new(), |n| format!(" in its line {n}"));
			let detail = if detail.is_empty() { String::new() } else { format!(": {}", cut(detail)) };
			refused(format!("the chat template fails on this conversation{line}: {kind}{detail}"))
		}
	}
}

/// What an error says, its kind left out.
fn reason(error: EngineError) -> String {
	match error {
		EngineError::Unanswerable(_, why) => why,
		other => other.to_string(),
	}
}

impl Template {
	/// Compiles a template. Fails, too, where it uses what no template is given.
	pub(crate) fn new(
		source: String,
		bos: Option<String>,
		eos: Option<String>,
	) -> Result<Self, EngineError> {
		let mut environment = jinja::environment();
		environment
			.add_template_owned("chat", jinja::prepared(&source))
			.map_err(|e| EngineError::Mismatch(format!("chat template: {e}")))?;
		let template = Self {
			environment,
			source,
			bos,
			eos,
		};
		if let Err(e) = template.attempt(&[("user", "hi".into())]) {
			use ErrorKind::*;
			if matches!(
				e.kind(),
				UnknownFunction | UnknownFilter | UnknownTest | UnknownMethod
			) {
				return Err(EngineError::Mismatch(reason(explained(&e))));
			}
		}
		Ok(template)
	}

	/// The word for a role. OpenAI's clients say `developer` where all but the newest templates say `system`.
	pub(crate) fn role(&self, role: Role) -> &'static str {
		match role {
			Role::Developer if !self.source.contains(role.name()) => Role::System.name(),
			role => role.name(),
		}
	}

	/// What the template writes of its own, and some of what it does not: where to look for the control tokens that it uses.
	pub(crate) fn words(&self) -> String {
		let mut words = self.source.clone();
		for order in Order::ALL {
			let roles = order.roles().iter();
			let messages: Vec<_> = roles.map(|role| (role.name(), "hi".into())).collect();
			words.extend(self.attempt(&messages));
		}
		words
	}

	/// The prompt for these messages, ending where the assistant is to speak.
	///
	/// Control tokens that people spell are kept apart from the template's: the conversation is rendered with the character that
	/// marks such a token replaced by one that nobody uses, wherever people wrote it. If that gives the same prompt but for these
	/// characters, they are known to be people's. If not, the template looks at such characters itself, and only those are replaced
	/// that stand in what would be a control token. A token that is no special one and that the template itself takes apart, as most
	/// do with what a model thought, stays what the template makes of it.
	pub(crate) fn render(
		&self,
		messages: &[(&str, String)],
		controls: &Controls,
	) -> Result<Prompted, EngineError> {
		let text = self.attempt(messages).map_err(|e| explained(&e))?;
		let theirs = |c: char| messages.iter().any(|(_, content)| content.contains(c));
		let marks: Vec<char> = controls
			.marks()
			.iter()
			.copied()
			.filter(|c| theirs(*c))
			.collect();
		if marks.is_empty() {
			return Ok(Prompted {
				text,
				theirs: Vec::new(),
			});
		}
		let Some(stand_ins) = stand_ins(marks.len(), &self.source, messages) else {
			return Err(refused(
				"the conversation has every private character".into(),
			));
		};
		let swap = Swap { marks, stand_ins };
		let all = |content: &str| content.chars().map(|c| swap.hidden(c)).collect();
		if let Some(prompted) = self.marked(messages, &swap, &text, all) {
			return Ok(prompted);
		}
		let mut found: Vec<_> = controls
			.iter()
			.filter(|(token, _)| messages.iter().any(|(_, content)| content.contains(*token)))
			.collect();
		let hide = |tokens: &[(&str, bool)], content: &str| {
			let mut at = vec![false; content.len()];
			for (token, _) in tokens {
				let mark = Controls::mark(token);
				for (start, _) in content.match_indices(*token) {
					at[start + mark] = true;
				}
			}
			let hidden = |(i, c)| if at[i] { swap.hidden(c) } else { c };
			content.char_indices().map(hidden).collect()
		};
		if let Some(prompted) = self.marked(messages, &swap, &text, |c| hide(&found, c)) {
			return Ok(prompted);
		}
		found.retain(|token| {
			let one = |content: &str| hide(&[*token], content);
			token.1 || self.marked(messages, &swap, &text, one).is_some()
		});
		self.marked(messages, &swap, &text, |c| hide(&found, c))
			.ok_or_else(|| {
				let special = found.iter().find(|t| t.1).map_or("", |t| t.0);
				refused(format!(
					"a message spells {special:?}, which the chat template gives a meaning of its own, so that it cannot be kept as text"
				))
			})
	}

	/// The prompt with people's marks known, if it is this one.
	fn marked(
		&self,
		messages: &[(&str, String)],
		swap: &Swap,
		expected: &str,
		hide: impl Fn(&str) -> String,
	) -> Option<Prompted> {
		let hidden: Vec<_> = messages
			.iter()
			.map(|(role, content)| (*role, hide(content)))
			.collect();
		let marked = self.attempt(&hidden).ok()?;
		let mut prompted = Prompted::default();
		for c in marked.chars() {
			let shown = swap.shown(c);
			if shown != c {
				prompted.theirs.push(prompted.text.len());
			}
			prompted.text.push(shown);
		}
		(prompted.text == expected).then_some(prompted)
	}

	fn attempt(&self, messages: &[(&str, String)]) -> Result<String, minijinja::Error> {
		let messages: Vec<_> = messages
			.iter()
			.map(|(role, content)| context! { role, content })
			.collect();
		let optional = |token: &Option<String>| token.clone().map_or(Value::UNDEFINED, Value::from);
		let mut out = Bounded(Vec::new());
		jinja::set_deadline(Some(Instant::now() + SLOWEST));
		let done = self.environment.get_template("chat").and_then(|t| {
			let context = context! {
				messages,
				tools => (),
				documents => (),
				add_generation_prompt => true,
				bos_token => optional(&self.bos),
				eos_token => optional(&self.eos),
			};
			t.render_captured_to(context, &mut out).map(|_| ())
		});
		jinja::set_deadline(None);
		done?;
		// Everything that was written was text.
		Ok(String::from_utf8_lossy(&out.0).into_owned())
	}
}

/// Characters, and others in their place.
struct Swap {
	marks: Vec<char>,
	stand_ins: Vec<char>,
}

impl Swap {
	fn hidden(&self, c: char) -> char {
		let at = self.marks.iter().position(|mark| *mark == c);
		at.map_or(c, |i| self.stand_ins[i])
	}

	fn shown(&self, c: char) -> char {
		let at = self.stand_ins.iter().position(|stand_in| *stand_in == c);
		at.map_or(c, |i| self.marks[i])
	}
}

/// So many private characters that stand nowhere in a template and a conversation.
fn stand_ins(n: usize, source: &str, messages: &[(&str, String)]) -> Option<Vec<char>> {
	let used = |c: char| source.contains(c) || messages.iter().any(|(_, t)| t.contains(c));
	let free = ('\u{10f000}'..='\u{10fffd}').filter(|c| !used(*c));
	let free: Vec<_> = free.take(n).collect();
	(free.len() == n).then_some(free)
}

/// Orders of roles that conversations have, and other shapes that templates refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
	/// One message of the user.
	User,
	/// A system message, then the user's.
	System,
	/// User, assistant, user.
	Turns,
	/// Two messages of the user, one after the other.
	Twice,
	/// The assistant speaks first.
	AssistantFirst,
	/// A system message between others.
	SystemLater,
	/// The assistant spoke last.
	AssistantLast,
	/// A system message and nothing else.
	SystemAlone,
	/// A message without text.
	Empty,
	/// A tool's result after the assistant's turn.
	Tool,
}

/// What a chat template makes of an order of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reception {
	/// Every message is in the prompt.
	Taken,
	/// A message is missing in the prompt.
	Dropped,
	/// The template refuses; its reason.
	Refused(String),
}

impl Order {
	/// All of them.
	pub const ALL: [Self; 10] = [
		Self::User,
		Self::System,
		Self::Turns,
		Self::Twice,
		Self::AssistantFirst,
		Self::SystemLater,
		Self::AssistantLast,
		Self::SystemAlone,
		Self::Empty,
		Self::Tool,
	];

	/// The roles, in order.
	pub const fn roles(self) -> &'static [Role] {
		use Role::*;
		match self {
			Self::User | Self::Empty => &[User],
			Self::System => &[System, User],
			Self::Turns => &[User, Assistant, User],
			Self::Twice => &[User, User],
			Self::AssistantFirst => &[Assistant, User],
			Self::SystemLater => &[User, System, User],
			Self::AssistantLast => &[User, Assistant],
			Self::SystemAlone => &[System],
			Self::Tool => &[User, Assistant, Tool],
		}
	}

	/// What it is, for people.
	pub const fn describe(self) -> &'static str {
		match self {
			Self::User => "a message of the user",
			Self::System => "a system message first",
			Self::Turns => "user and assistant in turns",
			Self::Twice => "two messages of the user in a row",
			Self::AssistantFirst => "the assistant first",
			Self::SystemLater => "a system message later",
			Self::AssistantLast => "the assistant last",
			Self::SystemAlone => "a system message alone",
			Self::Empty => "a message without text",
			Self::Tool => "a tool's result",
		}
	}
}

/// What a chat template makes of every [`Order`]. Fails where it cannot be compiled, or uses what no template is given.
pub fn probe(
	template: &str,
	bos_token: Option<&str>,
	eos_token: Option<&str>,
) -> Result<Vec<(Order, Reception)>, EngineError> {
	let owned = |token: Option<&str>| token.map(str::to_owned);
	let template = Template::new(template.into(), owned(bos_token), owned(eos_token))?;
	let reception = |order: Order| {
		let word = |i: usize| match order {
			Order::Empty => String::new(),
			_ => format!("word{i}"),
		};
		let roles = order.roles().iter().enumerate();
		let messages: Vec<_> = roles.map(|(i, role)| (role.name(), word(i))).collect();
		match template.attempt(&messages) {
			Err(e) => Reception::Refused(reason(explained(&e))),
			Ok(text) if messages.iter().all(|(_, word)| text.contains(word)) => Reception::Taken,
			Ok(_) => Reception::Dropped,
		}
	};
	Ok(Order::ALL.map(|order| (order, reception(order))).into())
}
