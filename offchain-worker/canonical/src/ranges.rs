//! Ranges of a model's queries, keys and values, which a graph of the integer class takes its steps from.
//!
//! A file is one JSON object. Its tables are lists by layer, head and channel, of what the fp32 graph computed over a calibration
//! text:
//!
//! ```json
//! {
//!   "about": "for people: which model, which text", "context": 2048,
//!   "q": [[[3.37, …], …], …],
//!   "k_low": …, "k_high": …, "v_low": …, "v_high": …,
//!   "k_first": …, "v_first": …
//! }
//! ```
//!
//! | key | what |
//! |---|---|
//! | `q` | largest magnitude of a query after the rotation; as many heads as the model has |
//! | `k_low`, `k_high` | smallest and largest key after the rotation; as many heads as keys have |
//! | `v_low`, `v_high` | smallest and largest value |
//! | `k_first`, `v_first` | key and value of the first position, to which most of the attention goes |
//! | `context` | positions that the ranges of queries and keys hold for; 2,048 if it is left out |
//! | `about` | optional |
//!
//! A slow rotation reaches its ends after hundreds of positions. So the ranges of queries and keys are those of the text turned on
//! to all positions of the context; ranges of the text where it stands clip what comes later. What lies outside is clipped, the same on
//! every machine: ranges decide how good a graph is, never whether its bits are equal.
//!
//! The file is part of the model's recipe and stands beside the graph ([`FILE`]), so that the graph can be made again.

use std::{fs::File, io::Read, path::Path};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
	source::{Config, Tensors},
	Error,
};

/// Name of the file beside the graph.
pub const FILE: &str = "ranges.json";

/// Largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// Positions that ranges hold for where the file does not say.
const USUAL_CONTEXT: usize = 2_048;

/// Larger numbers than activations can be.
const LARGEST: f64 = 1e9;

const TABLES: [&str; 7] = [
	"q", "k_low", "k_high", "v_low", "v_high", "k_first", "v_first",
];

/// Ranges that come with the converter: the SHA-256 of the last norm's weight as little-endian floats, which a model is known by,
/// and the file.
const KNOWN: [(&str, &[u8]); 1] = [(
	"3b87f8e27335e67fc08f159cabfd2d18f205d6c5b225a6f978153552bf01d559",
	include_bytes!("ranges/smollm2-135m-instruct.json"),
)];

/// A number for each channel of each head.
pub(crate) type Table = Vec<Vec<f64>>;

/// Ranges of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
	pub(crate) q: Table,
	pub(crate) k: Span,
	pub(crate) v: Span,
}

/// From where to where the channels of some heads go.
#[derive(Clone, Debug)]
pub(crate) struct Span {
	pub(crate) low: Table,
	pub(crate) high: Table,
	pub(crate) first: Table,
}

/// Ranges of a model.
#[derive(Clone, Debug)]
pub struct Ranges {
	bytes: Vec<u8>,
	context: usize,
	layers: Vec<Layer>,
}

/// Lists by layer, head and channel.
fn table(object: &Map<String, Value>, key: &str) -> Result<Vec<Table>, String> {
	let list = |value: &Value| value.as_array().cloned();
	let wrong = || format!("{key:?} is not a list of layers of heads of numbers");
	let number = |value: &Value| {
		let number = value.as_f64().ok_or_else(wrong)?;
		match number.abs() < LARGEST {
			true => Ok(number),
			false => Err(format!("{key:?} holds {number}, which no activation is")),
		}
	};
	let layers = object.get(key).and_then(list).ok_or_else(wrong)?;
	let head = |head: &Value| -> Result<Vec<f64>, String> {
		list(head).ok_or_else(wrong)?.iter().map(number).collect()
	};
	let layers = layers.iter().map(|layer| -> Result<Table, String> {
		list(layer).ok_or_else(wrong)?.iter().map(head).collect()
	});
	layers.collect()
}

impl Ranges {
	/// Reads a file.
	pub fn read(path: &Path) -> Result<Self, Error> {
		let bad = Error::source(path);
		let file = File::open(path).map_err(|e| bad(e.to_string()))?;
		let mut bytes = Vec::new();
		(file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|e| bad(e.to_string()))?;
		if bytes.len() as u64 > MAX_BYTES {
			return Err(bad(format!("more than {MAX_BYTES} bytes")));
		}
		Self::parse(bytes).map_err(bad)
	}

	/// Reads what is in a file.
	pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
		let value: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
		let object = value.as_object().ok_or("not a JSON object")?;
		let known = |key: &String| TABLES.contains(&&key[..]) || key == "about" || key == "context";
		if let Some(key) = object.keys().find(|key| !known(key)) {
			return Err(format!("{key:?} is no key of a file of ranges"));
		}
		let context = match object.get("context") {
			None => USUAL_CONTEXT,
			Some(value) => value
				.as_u64()
				.and_then(|n| usize::try_from(n).ok())
				.ok_or("\"context\" is no number of positions")?,
		};
		let [q, k_low, k_high, v_low, v_high, k_first, v_first] =
			TABLES.map(|key| table(object, key).map(Vec::into_iter));
		let spans = |low, high, first| -> Result<Vec<Span>, String> {
			let (low, high, first): (Vec<Table>, Vec<Table>, Vec<Table>) = (low, high, first);
			if low.len() != high.len() || low.len() != first.len() {
				return Err("tables of different numbers of layers".into());
			}
			let all = low.into_iter().zip(high).zip(first);
			Ok(all
				.map(|((low, high), first)| Span { low, high, first })
				.collect())
		};
		let k = spans(k_low?.collect(), k_high?.collect(), k_first?.collect())?;
		let v = spans(v_low?.collect(), v_high?.collect(), v_first?.collect())?;
		let q: Vec<_> = q?.collect();
		if q.len() != k.len() || q.len() != v.len() {
			return Err("tables of different numbers of layers".into());
		}
		let layers = q.into_iter().zip(k).zip(v);
		let layers = layers.map(|((q, k), v)| Layer { q, k, v }).collect();
		Ok(Self {
			bytes,
			context,
			layers,
		})
	}

	/// The ranges that come with the converter, if it has some for this model.
	pub(crate) fn known(tensors: &mut dyn Tensors) -> Result<Option<Self>, Error> {
		let norm = "output_norm.weight";
		if tensors.shape(norm).is_none() {
			return Ok(None);
		}
		let mut hasher = Sha256::new();
		for value in tensors.read(norm)? {
			hasher.update(value.to_le_bytes());
		}
		let digest: String = hasher
			.finalize()
			.iter()
			.map(|b| format!("{b:02x}"))
			.collect();
		let file = KNOWN.iter().find(|(known, _)| *known == digest);
		Ok(file.map(|(_, bytes)| {
			Self::parse(bytes.to_vec())
				.expect("a test reads the files that come with the crate; qed")
		}))
	}

	/// The file.
	pub(crate) fn bytes(&self) -> &[u8] {
		&self.bytes
	}

	/// Ranges of a layer.
	pub(crate) fn layer(&self, layer: usize) -> &Layer {
		&self.layers[layer]
	}

	/// Fails if these are no ranges of this model.
	pub(crate) fn check(&self, config: &Config) -> Result<(), String> {
		if self.layers.len() != config.layers {
			return Err(format!(
				"ranges of {} layers for a model of {}",
				self.layers.len(),
				config.layers
			));
		}
		if self.context < config.context {
			return Err(format!(
				"ranges that hold for {} positions for a context of {}: calibrate with that context, or choose a shorter one",
				self.context, config.context
			));
		}
		for (n, layer) in self.layers.iter().enumerate() {
			let spans = [(&layer.k, "k"), (&layer.v, "v")];
			let tables = spans.iter().flat_map(|(span, name)| {
				let tables = [&span.low, &span.high, &span.first];
				tables.map(|table| (table, *name, config.kv_heads))
			});
			for (table, name, heads) in tables.chain([(&layer.q, "q", config.heads)]) {
				if table.len() != heads || table.iter().any(|head| head.len() != config.head_dim) {
					return Err(format!(
						"ranges of {name} in layer {n} are not of {heads} heads of {}",
						config.head_dim
					));
				}
			}
			for (span, name) in spans {
				let pairs = span.low.iter().flatten().zip(span.high.iter().flatten());
				if let Some((low, high)) = { pairs }.find(|(low, high)| low > high) {
					return Err(format!(
						"ranges of {name} in layer {n} go from {low} to {high}"
					));
				}
			}
			if layer.q.iter().flatten().any(|q| *q < 0.0) {
				return Err(format!("a magnitude of q in layer {n} is less than zero"));
			}
		}
		Ok(())
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_files_that_come_with_the_crate_are_read() {
		for (_, bytes) in KNOWN {
			let ranges = Ranges::parse(bytes.to_vec()).unwrap();
			assert_eq!((ranges.layers.len(), ranges.context), (30, 2_048));
			assert_eq!(ranges.layers[29].v.first[2].len(), 64);
			assert_eq!(ranges.layers[0].q[0][..2], [3.37, 3.72]);
		}
	}

	#[test]
	fn files_of_another_form_are_refused() {
		let good = r#"{"context": 9, "q": [[[1]]], "k_low": [[[1]]], "k_high": [[[1]]], "v_low": [[[1]]],
			"v_high": [[[1]]], "k_first": [[[1]]], "v_first": [[[1]]]}"#;
		assert!(Ranges::parse(good.into()).is_ok());
		for (from, to, why) in [
			("{\"context\"", "[\"context\"", "expected"),
			(
				"\"context\": 9",
				"\"context\": -9",
				"no number of positions",
			),
			("\"context\": 9", "\"kontext\": 9", "no key"),
			("\"q\": [[[1]]],", "", "\"q\" is not a list"),
			("\"q\": [[[1]]]", "\"q\": [[1]]", "\"q\" is not a list"),
			(
				"\"q\": [[[1]]]",
				"\"q\": [[[\"1\"]]]",
				"\"q\" is not a list",
			),
			("\"q\": [[[1]]]", "\"q\": [[[1e9]]]", "no activation"),
			("\"q\": [[[1]]]", "\"q\": []", "numbers of layers"),
			(
				"\"v_first\": [[[1]]]",
				"\"v_first\": []",
				"numbers of layers",
			),
		] {
			let error = Ranges::parse(good.replace(from, to).into()).unwrap_err();
			assert!(error.contains(why), "{error}");
		}
	}
}
