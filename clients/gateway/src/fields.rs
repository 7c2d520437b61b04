//! Parameters of a call: each is taken by its name, and what is left is refused by its name.

use serde::{de::DeserializeOwned, Deserialize};
use serde_json::{Map, Value};

use crate::{error::Error, network::Sampling, status::Wait};

/// Most stop strings that the chain takes, and the longest, in bytes.
const STOPS: (usize, usize) = (4, 64);
/// Most biases that the chain takes.
const BIASES: usize = 16;

/// Parameters that are not taken yet.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
	map: Map<String, Value>,
	/// What stands before their names in errors.
	prefix: String,
}

impl Fields {
	/// Reads a body.
	pub(crate) fn read(body: &[u8]) -> Result<Self, Error> {
		let map = serde_json::from_slice(body).map_err(|e| Error::Json(e.to_string()))?;
		Ok(Self {
			map,
			prefix: String::new(),
		})
	}

	/// Returns the fields of an object within.
	pub(crate) fn within(value: Value, name: &str) -> Result<Self, Error> {
		match value {
			Value::Object(map) => Ok(Self {
				map,
				prefix: format!("{name}."),
			}),
			_ => Err(Error::invalid(name, format!("{name} is not an object"))),
		}
	}

	/// Returns a parameter's name, with what it stands within.
	pub(crate) fn name(&self, name: &str) -> String {
		format!("{}{name}", self.prefix)
	}

	/// Takes a parameter; null is as if it were not there.
	pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Error> {
		match self.map.remove(name) {
			None | Some(Value::Null) => Ok(None),
			Some(value) => T::deserialize(value).map(Some).map_err(|e| {
				let name = self.name(name);
				Error::invalid(&name, format!("{name}: {e}"))
			}),
		}
	}

	/// Returns what a parameter says, and leaves it.
	pub(crate) fn get(&self, name: &str) -> Option<Value> {
		self.map.get(name).filter(|value| !value.is_null()).cloned()
	}

	/// Takes a parameter that has to be there.
	pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Error> {
		self.take(name)?.ok_or_else(|| {
			let name = self.name(name);
			Error::invalid(&name, format!("{name} is missing"))
		})
	}

	/// Refuses a parameter, unless its value asks for nothing.
	pub(crate) fn refuse(
		&mut self,
		name: &str,
		asks_nothing: impl FnOnce(&Value) -> bool,
		why: &str,
	) -> Result<(), Error> {
		match self.map.remove(name) {
			None | Some(Value::Null) => Ok(()),
			Some(value) if asks_nothing(&value) => Ok(()),
			Some(_) => Err(Error::Unsupported {
				parameter: self.name(name),
				why: why.into(),
			}),
		}
	}

	/// Takes labels that change nothing in an answer.
	pub(crate) fn ignore(&mut self, names: &[&str]) {
		for name in names {
			self.map.remove(*name);
		}
	}

	/// Refuses what is left.
	pub(crate) fn end(self) -> Result<(), Error> {
		match self.map.keys().next() {
			None => Ok(()),
			Some(name) => Err(Error::UnknownParameter(self.name(name))),
		}
	}

	/// Takes how tokens are chosen, by the names that all interfaces share.
	pub(crate) fn sampling(&mut self) -> Result<Sampling, Error> {
		let temperature = self.number("temperature", 0.0, 2.0)?;
		let top_p = self.number("top_p", 0.0, 1.0)?;
		if top_p == Some(0.0) {
			let name = self.name("top_p");
			return Err(Error::invalid(
				&name,
				format!("{name} is 0, and must be above"),
			));
		}
		let top_k: Option<i64> = self.take("top_k")?;
		let top_k = match top_k {
			Some(-1) => Some(0),
			Some(k) if !(0..=65_535).contains(&k) => {
				let name = self.name("top_k");
				return Err(Error::invalid(
					&name,
					format!("{name} is {k}, and must be from 0 (all) to 65535"),
				));
			}
			k => k,
		};
		let logit_bias: Option<std::collections::BTreeMap<String, f64>> =
			self.take("logit_bias")?;
		if let Some(biases) = &logit_bias {
			let name = self.name("logit_bias");
			let wrong = |why: String| Err(Error::invalid(&name, format!("{name}: {why}")));
			if biases.len() > BIASES {
				return wrong(format!(
					"{} tokens, and the chain takes {BIASES}",
					biases.len()
				));
			}
			for (token, bias) in biases {
				if token.parse::<u32>().is_err() {
					return wrong(format!("{token:?} is not a token id"));
				}
				if !(-100.0..=100.0).contains(bias) {
					return wrong(format!("{bias} is not from -100 to 100"));
				}
			}
		}
		Ok(Sampling {
			max_tokens: None,
			temperature,
			top_p,
			stop: None,
			top_k,
			min_p: self.number("min_p", 0.0, 1.0)?,
			repetition_penalty: self.number("repetition_penalty", 0.1, 10.0)?,
			presence_penalty: self.number("presence_penalty", -2.0, 2.0)?,
			frequency_penalty: self.number("frequency_penalty", -2.0, 2.0)?,
			logit_bias,
			constraint: None,
		})
	}

	fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Error> {
		let Some(value) = self.take::<f64>(name)? else {
			return Ok(None);
		};
		if (least..=most).contains(&value) {
			return Ok(Some(value));
		}
		let name = self.name(name);
		Err(Error::invalid(
			&name,
			format!("{name} is {value}, and must be from {least} to {most}"),
		))
	}

	/// Takes stop strings.
	pub(crate) fn stop(&mut self, name: &str) -> Result<Option<Vec<String>>, Error> {
		let stops = match self.take::<OneOrMany>(name)? {
			None => return Ok(None),
			Some(OneOrMany::One(stop)) => vec![stop],
			Some(OneOrMany::Many(stops)) => stops,
		};
		let (count, length) = STOPS;
		let name = self.name(name);
		if stops.len() > count {
			let message = format!(
				"{name}: {} strings, and the chain takes {count}",
				stops.len()
			);
			return Err(Error::invalid(name, message));
		}
		if stops.iter().any(|s| s.is_empty() || s.len() > length) {
			let message = format!("{name}: a stop string has 1 to {length} bytes");
			return Err(Error::invalid(name, message));
		}
		Ok(Some(stops))
	}

	/// Takes most tokens of the answer.
	pub(crate) fn tokens(&mut self, name: &str) -> Result<Option<u32>, Error> {
		let tokens: Option<u32> = self.take(name)?;
		if tokens == Some(0) {
			let name = self.name(name);
			let message = format!("{name} is 0: an answer has at least one token");
			return Err(Error::invalid(name, message));
		}
		Ok(tokens)
	}

	/// Takes what the gateway itself is told, with the headers' words where the body has none, where no steps can be told of.
	pub(crate) fn own(&mut self, headers: Own) -> Result<Own, Error> {
		let own = self.own_with_steps(headers)?;
		match own.steps {
			false => Ok(own),
			true => Err(Error::Unsupported {
				parameter: self.name("consilience.steps"),
				why: "streams of /v1/chat/completions alone tell of steps".into(),
			}),
		}
	}

	/// Takes what the gateway itself is told, with the headers' words where the body has none.
	pub(crate) fn own_with_steps(&mut self, headers: Own) -> Result<Own, Error> {
		let mut own = headers;
		let Some(value) = self.take::<Value>("consilience")? else {
			return Ok(own);
		};
		let mut fields = Self::within(value, "consilience")?;
		if let Some(word) = fields.take::<String>("wait")? {
			own.wait = Wait::parse(&word).ok_or_else(|| {
				let message = format!("consilience.wait is {word:?}, and may be {}", Wait::WORDS);
				Error::invalid("consilience.wait", message)
			})?;
		}
		own.verifiers = fields.take("verifiers")?;
		own.steps = fields.take("steps")?.unwrap_or(false);
		if let Some(word) = fields.take::<String>("lane")? {
			own.lane = Some(Lane::parse(&word).ok_or_else(|| {
				let message = format!("consilience.lane is {word:?}, and may be {}", Lane::WORDS);
				Error::invalid("consilience.lane", message)
			})?);
		}
		own.record = fields.take("record")?.unwrap_or(own.record);
		fields.end()?;
		Ok(own)
	}
}

/// The lane that a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
	/// A request on chain.
	Direct,
	/// A question to a validator.
	Session,
}

impl Lane {
	/// The words.
	pub(crate) const WORDS: &str = "direct or session";

	/// Returns what a word means.
	pub(crate) fn parse(word: &str) -> Option<Self> {
		match word {
			"direct" => Some(Self::Direct),
			"session" => Some(Self::Session),
			_ => None,
		}
	}
}

/// What the gateway itself is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
	/// What the reply waits for.
	pub(crate) wait: Wait,
	/// Validators that check the answer.
	pub(crate) verifiers: Option<u8>,
	/// Whether a stream tells of every step on the way.
	pub(crate) steps: bool,
	/// The lane, where the call says it.
	pub(crate) lane: Option<Lane>,
	/// Whether the reply is to hold the answer's record.
	pub(crate) record: bool,
}

impl Own {
	/// Refuses what only the session lane has, because of `why`.
	pub(crate) fn direct(self, why: &str) -> Result<Self, Error> {
		let unsupported = |parameter: &str, why: String| {
			Err(Error::Unsupported {
				parameter: parameter.into(),
				why,
			})
		};
		if self.lane == Some(Lane::Session) {
			return unsupported("consilience.lane", why.into());
		}
		if self.record {
			let why = format!("answers of the session lane alone have a record, and {why}");
			return unsupported("consilience.record", why);
		}
		Ok(self)
	}
}

/// One string, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings is wanted")]
pub(crate) enum OneOrMany {
	/// One.
	One(String),
	/// A list.
	Many(Vec<String>),
}

/// Returns whether a value is an empty list or object, or false: it asks for nothing.
pub(crate) fn empty(value: &Value) -> bool {
	match value {
		Value::Array(list) => list.is_empty(),
		Value::Object(map) => map.is_empty(),
		Value::Bool(on) => !on,
		_ => false,
	}
}

/// Returns the text of a message's content: a string, or a list of parts of which all are text.
pub(crate) fn text_of(content: Value, name: &str, kinds: &[&str]) -> Result<String, Error> {
	let parts = match content {
		Value::String(text) => return Ok(text),
		Value::Array(parts) => parts,
		_ => {
			let message = format!("{name} is a string, or a list of parts of text");
			return Err(Error::invalid(name, message));
		}
	};
	let mut text = String::new();
	for (i, part) in parts.into_iter().enumerate() {
		let name = format!("{name}[{i}]");
		let mut fields = Fields::within(part, &name)?;
		let kind: String = fields.need("type")?;
		if !kinds.contains(&kind.as_str()) {
			return Err(Error::Unsupported {
				parameter: format!("{name}.type"),
				why: format!("{kind:?} is not text, and models here read text"),
			});
		}
		text += &fields.need::<String>("text")?;
		fields.refuse("cache_control", |_| true, "")?;
		fields.refuse("annotations", empty, "annotations are not read")?;
		fields.refuse("logprobs", empty, "log probabilities are not read")?;
		fields.refuse("citations", empty, "citations are not read")?;
		fields.end()?;
	}
	Ok(text)
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn fields(value: Value) -> Fields {
		Fields::read(value.to_string().as_bytes()).unwrap()
	}

	#[test]
	fn sampling_is_taken_within_its_ranges() {
		let mut all = fields(json!({
			"temperature": 0.7, "top_p": 1, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1,
			"presence_penalty": -2, "frequency_penalty": 2, "logit_bias": {"5": -100},
		}));
		let sampling = all.sampling().unwrap();
		all.end().unwrap();
		assert_eq!((sampling.top_k, sampling.top_p), (Some(0), Some(1.0)));
		for (value, parameter) in [
			(json!({"temperature": 2.1}), "temperature"),
			(json!({"temperature": "warm"}), "temperature"),
			(json!({"top_p": 0}), "top_p"),
			(json!({"top_k": 1.5}), "top_k"),
			(json!({"top_k": 65_536}), "top_k"),
			(json!({"min_p": -0.1}), "min_p"),
			(json!({"repetition_penalty": 0}), "repetition_penalty"),
			(json!({"presence_penalty": 2.1}), "presence_penalty"),
			(json!({"frequency_penalty": [1]}), "frequency_penalty"),
			(json!({"logit_bias": {"the": 1}}), "logit_bias"),
			(json!({"logit_bias": {"5": 101}}), "logit_bias"),
			(json!({"logit_bias": [5]}), "logit_bias"),
		] {
			match fields(value.clone()).sampling() {
				Err(Error::Invalid {
					parameter: Some(said),
					..
				}) => assert_eq!(said, parameter, "{value}"),
				other => panic!("{value}: {other:?}"),
			}
		}
	}

	#[test]
	fn stops_are_one_or_many() {
		let stop = |value| fields(json!({ "stop": value })).stop("stop");
		assert_eq!(stop(json!("a")), Ok(Some(vec!["a".into()])));
		assert_eq!(stop(json!(null)), Ok(None));
		assert_eq!(stop(json!([])), Ok(Some(vec![])));
		for bad in [
			json!(""),
			json!([""]),
			json!(["a", "b", "c", "d", "e"]),
			json!("x".repeat(65)),
			json!(3),
		] {
			assert!(stop(bad.clone()).is_err(), "{bad}");
		}
	}

	#[test]
	fn what_is_left_is_refused_by_its_name() {
		assert_eq!(
			fields(json!({"x": 1})).end(),
			Err(Error::UnknownParameter("x".into()))
		);
		let mut own = fields(json!({"consilience": {"wait": "final", "lane": "direct"}}));
		let headers = Own {
			wait: Wait::Provisional,
			lane: Some(Lane::Session),
			record: true,
			..Own::default()
		};
		let own = own.own(headers).unwrap();
		assert_eq!((own.wait, own.lane), (Wait::Final, Some(Lane::Direct)));
		assert!(own.record);
		for (value, says) in [
			(json!({"wait": "soon"}), "provisional), checked or final"),
			(json!({"lane": "fast"}), "direct or session"),
			(json!({"record": "yes"}), "consilience.record"),
			(json!({"x": 1}), "consilience.x"),
			(json!({"verifiers": 300}), "consilience.verifiers"),
			(json!(3), "not an object"),
		] {
			let why = fields(json!({ "consilience": value }))
				.own(Own::default())
				.unwrap_err();
			assert!(why.to_string().contains(says), "{why}");
		}
	}

	#[test]
	fn content_is_text() {
		let text = |value| text_of(value, "content", &["text"]);
		assert_eq!(text(json!("a")), Ok("a".into()));
		let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
		assert_eq!(text(parts), Ok("ab".into()));
		for bad in [
			json!([{"type": "image_url", "image_url": {}}]),
			json!([{"type": "text"}]),
			json!([{"text": "a"}]),
			json!([3]),
			json!(3),
		] {
			assert!(text(bad.clone()).is_err(), "{bad}");
		}
	}
}
