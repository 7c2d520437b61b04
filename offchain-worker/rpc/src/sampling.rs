//! How tokens are chosen, by the names that OpenAI's and Hugging Face's interfaces have.

use std::{collections::BTreeMap, ops::RangeInclusive};

use consilience_primitives::{
	request::{Constraint, ConstraintForm, LogitsProcessing, Sampling},
	sampling::{SamplingDefaults, MAX_BIASES, MAX_STOPS},
};
use serde::{de::DeserializeOwned, Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::json::{bytes, text};

/// How tokens are chosen. What is left out or null is as the model's publisher advises, or else greedy and 128 tokens long. Parameters
/// count to the thousandth.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JsonSampling {
	/// Most tokens of the answer; `max_completion_tokens` says the same.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub max_tokens: Option<u32>,
	/// 0 (greedy) to 2.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub temperature: Option<f64>,
	/// Nucleus, above 0 and at most 1.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub top_p: Option<f64>,
	/// Strings at which the answer ends; one may stand without a list.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub stop: Option<Vec<String>>,
	/// How many of the likeliest tokens take part; 0 or −1 for all.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub top_k: Option<i64>,
	/// Share of the likeliest token's probability that a token needs to take part, 0 (none) to 1.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub min_p: Option<f64>,
	/// 0.1 to 10, where 1 changes nothing, for tokens of prompt and answer as in Hugging Face's library.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub repetition_penalty: Option<f64>,
	/// −2 to 2, for tokens of the answer as in the OpenAI API.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub presence_penalty: Option<f64>,
	/// −2 to 2, for each time that the answer has a token, as in the OpenAI API.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub frequency_penalty: Option<f64>,
	/// By token id, what is added to its logit, −100 to 100.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub logit_bias: Option<BTreeMap<String, f64>>,
	/// What the answer may be.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub constraint: Option<JsonConstraint>,
}

/// What an answer may be: an object with one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonConstraint {
	/// A JSON schema, as it is or as text.
	JsonSchema(Value),
	/// A regular expression.
	Regex(String),
	/// A grammar in the form of Lark.
	Lark(String),
}

impl JsonConstraint {
	/// As requests have it. That it can be followed is not looked at: the node that serves this does not read what strangers send it.
	pub fn resolve(&self) -> Result<Constraint, String> {
		let (form, text) = match self {
			Self::JsonSchema(Value::String(text)) => {
				let schema = serde_json::from_str::<Value>(text);
				schema.map_err(|e| format!("constraint: the schema is not JSON: {e}"))?;
				(ConstraintForm::JsonSchema, text.clone())
			}
			Self::JsonSchema(schema) => (ConstraintForm::JsonSchema, schema.to_string()),
			Self::Regex(text) => (ConstraintForm::Regex, text.clone()),
			Self::Lark(text) => (ConstraintForm::Lark, text.clone()),
		};
		Constraint::new(form, &text).map_err(|why| format!("constraint: {why}"))
	}
}

impl From<&Constraint> for JsonConstraint {
	fn from(constraint: &Constraint) -> Self {
		let text = text(&constraint.text);
		match constraint.form {
			ConstraintForm::JsonSchema => Self::JsonSchema(text.into()),
			ConstraintForm::Regex => Self::Regex(text),
			ConstraintForm::Lark => Self::Lark(text),
		}
	}
}

/// Takes a field out of an object; null is as if it were not there.
pub(crate) fn take<T: DeserializeOwned>(
	map: &mut Map<String, Value>,
	name: &str,
) -> Result<Option<T>, String> {
	match map.remove(name) {
		None | Some(Value::Null) => Ok(None),
		Some(value) => T::deserialize(value)
			.map(Some)
			.map_err(|e| format!("{name}: {e}")),
	}
}

/// Refuses what is left of an object.
pub(crate) fn nothing_else(map: &Map<String, Value>, known: &str) -> Result<(), String> {
	match map.keys().next() {
		None => Ok(()),
		Some(name) => Err(format!("{name:?} is not known here: there may be {known}")),
	}
}

/// One string, or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings is wanted")]
enum Strings {
	One(String),
	List(Vec<String>),
}

impl JsonSampling {
	/// Names of the parameters, for people.
	pub(crate) const NAMES: &str =
		"max_tokens, max_completion_tokens, temperature, top_p, stop, top_k, min_p, \
		repetition_penalty, presence_penalty, frequency_penalty, logit_bias and constraint";

	/// Takes the parameters out of an object.
	pub(crate) fn take(map: &mut Map<String, Value>) -> Result<Self, String> {
		let max_tokens: Option<u32> = take(map, "max_tokens")?;
		let completion = take(map, "max_completion_tokens")?;
		if max_tokens.is_some() && completion.is_some() && max_tokens != completion {
			return Err("max_tokens and max_completion_tokens differ: give one of them".into());
		}
		Ok(Self {
			max_tokens: max_tokens.or(completion),
			temperature: take(map, "temperature")?,
			top_p: take(map, "top_p")?,
			stop: take(map, "stop")?.map(|stop| match stop {
				Strings::One(stop) => vec![stop],
				Strings::List(list) => list,
			}),
			top_k: take(map, "top_k")?,
			min_p: take(map, "min_p")?,
			repetition_penalty: take(map, "repetition_penalty")?,
			presence_penalty: take(map, "presence_penalty")?,
			frequency_penalty: take(map, "frequency_penalty")?,
			logit_bias: take(map, "logit_bias")?,
			constraint: take(map, "constraint")?,
		})
	}

	/// What the answer may be, where that is said.
	pub fn constraint(&self) -> Result<Option<Constraint>, String> {
		self.constraint
			.as_ref()
			.map(JsonConstraint::resolve)
			.transpose()
	}

	/// The same with what the answer may be.
	pub(crate) fn constrained(self, constraint: Option<&Constraint>) -> Self {
		Self {
			constraint: constraint.map(Into::into),
			..self
		}
	}

	/// The sampling of a request: what this leaves open is as the model's publisher advises.
	pub fn resolve(&self, advice: &SamplingDefaults) -> Result<Sampling, String> {
		let mut sampling = advice.sampling();
		let mut processing = sampling.processing.take().unwrap_or_default();
		if let Some(max_tokens) = self.max_tokens {
			sampling.max_tokens = max_tokens;
		}
		set(
			&mut sampling.temperature,
			"temperature",
			self.temperature,
			0.0..=2.0,
		)?;
		set(&mut sampling.top_p, "top_p", self.top_p, 0.0..=1.0)?;
		let stop = self.stop.iter().flatten();
		let stop = stop.map(|s| bytes(s)).collect::<Result<Vec<_>, _>>()?;
		sampling.stop = stop
			.try_into()
			.map_err(|_| format!("more than {MAX_STOPS} stop strings"))?;
		match self.top_k {
			None => (),
			Some(-1) => processing.top_k = 0,
			Some(k) => {
				processing.top_k = k
					.try_into()
					.map_err(|_| format!("top_k is {k}, and must be from 0 (all) to 65535"))?;
			}
		}
		set(&mut processing.min_p, "min_p", self.min_p, 0.0..=1.0)?;
		set(
			&mut processing.repetition_penalty,
			"repetition_penalty",
			self.repetition_penalty,
			0.1..=10.0,
		)?;
		for (to, name, value) in [
			(
				&mut processing.presence_penalty,
				"presence_penalty",
				self.presence_penalty,
			),
			(
				&mut processing.frequency_penalty,
				"frequency_penalty",
				self.frequency_penalty,
			),
		] {
			set(to, name, value, -2.0..=2.0)?;
		}
		if let Some(biases) = &self.logit_bias {
			let mut list = biases
				.iter()
				.map(|(token, bias)| {
					let id: u32 = token
						.parse()
						.map_err(|_| format!("logit_bias: {token:?} is no token id"))?;
					let mut thousandths = 0;
					let name = format!("logit_bias of {id}");
					set(&mut thousandths, &name, Some(*bias), -100.0..=100.0)?;
					Ok((id, thousandths))
				})
				.collect::<Result<Vec<(u32, i32)>, String>>()?;
			list.sort();
			let count = list.len();
			processing.logit_bias = list.try_into().map_err(|_| {
				format!("logit_bias holds {count} tokens, and may hold {MAX_BIASES}")
			})?;
		}
		sampling.processing = processing.compact();
		sampling.check()?;
		Ok(sampling)
	}
}

/// Sets a parameter to what a person gave, in thousandths.
fn set<T: TryFrom<i32>>(
	to: &mut T,
	name: &str,
	value: Option<f64>,
	range: RangeInclusive<f64>,
) -> Result<(), String> {
	let Some(value) = value else { return Ok(()) };
	let wrong = || {
		let (least, most) = (range.start(), range.end());
		format!("{name} is {value}, and must be from {least} to {most}")
	};
	if !range.contains(&value) {
		return Err(wrong());
	}
	*to = T::try_from((value * 1_000.0).round() as i32).map_err(|_| wrong())?;
	Ok(())
}

fn number(thousandths: impl Into<f64>) -> f64 {
	thousandths.into() / 1_000.0
}

impl<'de> Deserialize<'de> for JsonSampling {
	fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
		let mut map = Map::deserialize(d)?;
		let sampling = Self::take(&mut map).map_err(serde::de::Error::custom)?;
		nothing_else(&map, Self::NAMES).map_err(serde::de::Error::custom)?;
		Ok(sampling)
	}
}

impl From<&Sampling> for JsonSampling {
	fn from(s: &Sampling) -> Self {
		let nothing = LogitsProcessing::default();
		let p = s.processing.as_ref().unwrap_or(&nothing);
		let said = |value: f64, usual: f64| (value != usual).then_some(value);
		let biases = p.logit_bias.iter();
		let biases = biases.map(|(token, bias)| (token.to_string(), number(*bias)));
		Self {
			max_tokens: Some(s.max_tokens),
			temperature: Some(number(s.temperature)),
			top_p: Some(number(s.top_p)),
			stop: Some(s.stop.iter().map(|s| text(s)).collect()),
			top_k: (p.top_k != 0).then_some(p.top_k.into()),
			min_p: said(number(p.min_p), 0.0),
			repetition_penalty: said(number(p.repetition_penalty), 1.0),
			presence_penalty: said(number(p.presence_penalty), 0.0),
			frequency_penalty: said(number(p.frequency_penalty), 0.0),
			logit_bias: (!p.logit_bias.is_empty()).then(|| biases.collect()),
			constraint: None,
		}
	}
}

impl From<&SamplingDefaults> for JsonSampling {
	fn from(advice: &SamplingDefaults) -> Self {
		Self {
			temperature: advice.temperature.map(number),
			top_p: advice.top_p.map(number),
			top_k: advice.top_k.map(Into::into),
			min_p: advice.min_p.map(number),
			repetition_penalty: advice.repetition_penalty.map(number),
			..Default::default()
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::{from_value, json, to_value};

	fn resolved(value: Value, advice: &SamplingDefaults) -> Result<Sampling, String> {
		let json: JsonSampling = from_value(value).map_err(|e| e.to_string())?;
		json.resolve(advice)
	}

	fn plain(value: Value) -> Result<Sampling, String> {
		resolved(value, &SamplingDefaults::default())
	}

	#[test]
	fn every_parameter_is_taken_and_comes_back() {
		let value = json!({
			"max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "stop": ["\n"], "top_k": 40, "min_p": 0.05,
			"repetition_penalty": 1.1, "presence_penalty": -0.5, "frequency_penalty": 2.0,
			"logit_bias": {"9": -100.0, "50256": 1.5},
		});
		let sampling = plain(value.clone()).unwrap();
		assert_eq!(
			sampling.processing,
			Some(LogitsProcessing {
				top_k: 40,
				min_p: 50,
				repetition_penalty: 1_100,
				presence_penalty: -500,
				frequency_penalty: 2_000,
				logit_bias: vec![(9, -100_000), (50_256, 1_500)].try_into().unwrap(),
			})
		);
		assert_eq!(to_value(JsonSampling::from(&sampling)).unwrap(), value);
	}

	#[test]
	fn constraints_are_read_in_each_form() {
		let read = |value: Value| {
			let json: JsonSampling =
				from_value(json!({ "constraint": value })).map_err(|e| e.to_string())?;
			json.constraint()
		};
		let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
		let constraint = read(json!({ "json_schema": schema })).unwrap().unwrap();
		assert_eq!(constraint.form, ConstraintForm::JsonSchema);
		assert_eq!(constraint.text[..], *schema.to_string().as_bytes());
		// What was read back from the chain is the same again.
		let again = to_value(JsonConstraint::from(&constraint)).unwrap();
		assert_eq!(read(again), Ok(Some(constraint)));
		for (name, form) in [
			("regex", ConstraintForm::Regex),
			("lark", ConstraintForm::Lark),
		] {
			let constraint = read(json!({ name: "start: A" })).unwrap().unwrap();
			assert_eq!(
				(constraint.form, &constraint.text[..]),
				(form, &b"start: A"[..])
			);
		}
		assert_eq!(read(json!(null)), Ok(None));
		for (wrong, why) in [
			(json!({ "json_schema": "{" }), "not JSON"),
			(json!({ "json_schema": {}, "regex": "a" }), "constraint"),
			(json!({ "gbnf": "root ::= a" }), "gbnf"),
			(json!({ "regex": "" }), "empty"),
			(json!({ "regex": "a".repeat(8_193) }), "8,192"),
			(json!("a"), "constraint"),
		] {
			let said = read(wrong).unwrap_err();
			assert!(said.contains(why), "{said}");
		}
	}

	#[test]
	fn what_clients_of_openai_send_is_taken() {
		let nulls = json!({
			"max_tokens": null, "max_completion_tokens": null, "temperature": null, "top_p": null, "stop": null, "top_k": null,
			"min_p": null, "repetition_penalty": null, "presence_penalty": null, "frequency_penalty": null, "logit_bias": null,
		});
		assert_eq!(plain(nulls), Ok(Sampling::default()));
		assert_eq!(plain(json!({})), Ok(Sampling::default()));
		// What changes nothing is as if it were not said.
		let neutral = json!({
			"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "top_k": -1, "min_p": 0, "logit_bias": {},
		});
		assert_eq!(plain(neutral), Ok(Sampling::default()));
		let one = plain(json!({"stop": "\n\n", "max_completion_tokens": 5, "max_tokens": null}));
		let one = one.unwrap();
		assert_eq!((one.max_tokens, one.stop.len()), (5, 1));
		assert_eq!(&one.stop[0][..], b"\n\n");
		// Token ids are numbers, and not in the order of their letters.
		let biases = plain(json!({"logit_bias": {"10": 1, "9": 1}})).unwrap();
		assert_eq!(biases.processing.unwrap().logit_bias[0].0, 9);
	}

	#[test]
	fn the_publishers_advice_fills_in_what_is_left_open() {
		let advice = SamplingDefaults {
			temperature: Some(600),
			top_p: Some(950),
			top_k: Some(20),
			repetition_penalty: Some(1_050),
			min_p: None,
		};
		let open = resolved(json!({"temperature": null}), &advice).unwrap();
		assert_eq!(open, advice.sampling());
		let said = json!({"temperature": 0, "top_k": 0, "repetition_penalty": 1});
		let said = resolved(said, &advice).unwrap();
		assert_eq!(
			(said.temperature, said.top_p, said.processing),
			(0, 950, None)
		);
		assert_eq!(
			to_value(JsonSampling::from(&advice)).unwrap(),
			json!({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05})
		);
	}

	#[test]
	fn what_is_wrong_is_named() {
		let many: BTreeMap<String, i32> = (0..17).map(|t| (t.to_string(), 1)).collect();
		for (value, says) in [
			(
				json!({"n": 2}),
				"\"n\" is not known here: there may be max_tokens",
			),
			(json!({"topk": 2}), "\"topk\" is not known"),
			(json!({"max_tokens": -1}), "max_tokens: "),
			(
				json!({"max_tokens": 1, "max_completion_tokens": 2}),
				"differ",
			),
			(json!({"temperature": "warm"}), "temperature: "),
			(json!({"temperature": 2.1}), "temperature is 2.1"),
			(json!({"top_p": 0}), "top_p must be above 0"),
			(json!({"stop": 3}), "stop: a string or a list"),
			(json!({"stop": ""}), "stop must hold"),
			(json!({"top_k": 65_536}), "top_k is 65536"),
			(json!({"top_k": -2}), "top_k is -2"),
			(json!({"top_k": 1.5}), "top_k: "),
			(json!({"min_p": 1.1}), "min_p is 1.1"),
			(
				json!({"repetition_penalty": 0}),
				"repetition_penalty is 0, and must be from 0.1 to 10",
			),
			(json!({"presence_penalty": 2.5}), "presence_penalty is 2.5"),
			(json!({"frequency_penalty": -3}), "frequency_penalty is -3"),
			(
				json!({"logit_bias": {"the": 1}}),
				"logit_bias: \"the\" is no token id",
			),
			(
				json!({"logit_bias": {"5": 101}}),
				"logit_bias of 5 is 101, and must be from -100 to 100",
			),
			(json!({"logit_bias": {"5": 1, "05": 1}}), "each token once"),
			(json!({"logit_bias": many}), "holds 17 tokens"),
			(json!({"logit_bias": [1]}), "logit_bias: "),
		] {
			let why = plain(value).unwrap_err();
			assert!(why.contains(says), "{why}");
		}
	}
}
