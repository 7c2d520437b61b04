//! The card `model.json`: what a person writes beside a graph, and what a manifest is made from.
//!
//! ```json
//! {
//!   "name": "…", "license": "Apache-2.0", "source": "…",
//!   "task": "text-generation", "class": "exact", "graph": "model.onnx", "files": ["model.onnx", "…"],
//!   "details": {…}, "numerics": {…}, "limits": {…}, "time": {…}, "policy": {…}, "price": {…}, "reference": {…}
//! }
//! ```
//!
//! Fields have the names and meanings of [`Manifest`](consilience_primitives::manifest::Manifest)'s. `details` are those of
//! [`TaskDetails`] for the task. What they leave out of a language model is read from the hub's files beside the card; the
//! signature of a tensor model, from the graph; the class, from running the model in many ways.

use codec::Encode;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	manifest::{File, Manifest, Numerics, Reference, ReferenceInput, TaskDetails, VERSION},
	model::{Bounds, Limits, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	request::{FullInput, Role},
	tensor::NamedSpec,
	List,
};
use polkadot_sdk::sp_core::H256;
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use crate::open_inference::{self, JsonTensor};

/// Positions that a challenge draws in the exact class, where a card leaves that out.
const EXACT_POSITIONS: u8 = 16;
/// Fewest verifiers in the exact class, where a card leaves that out.
const EXACT_VERIFIERS: u8 = 2;

/// What `model.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
	/// Name for people.
	pub name: String,
	/// SPDX expression of the weights' licence.
	pub license: String,
	/// Where the model comes from, for people.
	pub source: String,
	/// What it does.
	pub task: Task,
	/// Numeric class; the same as the policy's. Without one in either, the class is measured.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub class: Option<NumericClass>,
	/// Path of the ONNX graph.
	pub graph: String,
	/// Every file of the model, in any order.
	pub files: Vec<String>,
	/// [`TaskDetails`] of the task, possibly incomplete.
	#[serde(default)]
	pub details: Map<String, Value>,
	/// Numerics profile.
	pub numerics: Numerics,
	/// What the model takes and gives at most.
	pub limits: Limits,
	/// How long work may take.
	pub time: TimeLimit,
	/// How answers are checked: a [`VerificationPolicy`]. What it leaves out for a model of the exact class has one value that
	/// makes sense.
	#[serde(default)]
	pub policy: Map<String, Value>,
	/// What `model register` proposes, in the chain's smallest unit. Not part of the manifest.
	pub price: Price<u128>,
	/// What whoever serves the model reproduces.
	pub reference: CardReference,
}

/// A reference input as people write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardReference {
	/// A chat, answered greedily with so many tokens.
	Chat {
		/// Role and content of each message.
		messages: Vec<(Role, String)>,
		/// Tokens to generate.
		max_tokens: u32,
	},
	/// Text: continued greedily with so many tokens, or embedded.
	Text {
		/// The text.
		text: String,
		/// Tokens to generate; zero for an embedding.
		#[serde(default)]
		max_tokens: u32,
	},
	/// Tensors in the Open Inference Protocol's JSON.
	Inputs(Vec<JsonTensor>),
}

impl CardReference {
	/// The reference input as the manifest holds it.
	pub fn input(&self) -> Result<ReferenceInput, String> {
		Ok(match self {
			Self::Chat {
				messages,
				max_tokens,
			} => ReferenceInput::Chat {
				messages: messages.clone(),
				max_tokens: *max_tokens,
			},
			Self::Text { text, max_tokens } => ReferenceInput::Text {
				text: text.clone(),
				max_tokens: *max_tokens,
			},
			Self::Inputs(tensors) => {
				let tensors = tensors
					.iter()
					.map(open_inference::to_tensor)
					.collect::<Result<Vec<_>, _>>()
					.map_err(|e| format!("reference: {e}"))?;
				let input = FullInput::Tensor(
					tensors
						.try_into()
						.map_err(|_| "reference: more than 8 tensors".to_owned())?,
				);
				ReferenceInput::Tensors(hex::encode(input.encode()))
			}
		})
	}
}

/// What a graph takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
	/// Inputs.
	pub inputs: Vec<NamedSpec>,
	/// Outputs.
	pub outputs: Vec<NamedSpec>,
}

impl Card {
	/// The task's details, with the signature of the graph where the card gives none for a tensor model.
	pub fn details(&self, signature: Option<&Signature>) -> Result<TaskDetails, String> {
		let mut details = self.details.clone();
		if let Some(signature) = signature {
			for (field, specs) in [
				("inputs", &signature.inputs),
				("outputs", &signature.outputs),
			] {
				if !details.contains_key(field) {
					let specs = serde_json::to_value(specs).map_err(|e| e.to_string())?;
					details.insert(field.into(), specs);
				}
			}
		}
		let task = serde_json::to_value(self.task).map_err(|e| e.to_string())?;
		let Value::String(task) = task else {
			return Err("a task's name is text".into());
		};
		serde_json::from_value(Value::Object(Map::from_iter([(
			task,
			Value::Object(details),
		)])))
		.map_err(|e| format!("details: {e}"))
	}

	/// The numeric class that the card states, if it does.
	pub fn stated_class(&self) -> Result<Option<NumericClass>, String> {
		let of_policy = match self.policy.get("class") {
			Some(class) => {
				let class = NumericClass::deserialize(class).map_err(|e| format!("policy: {e}"))?;
				Some(class)
			}
			None => None,
		};
		match (self.class, of_policy) {
			(Some(class), Some(of_policy)) if class != of_policy => Err(format!(
				"class is {class:?}, the policy's class {of_policy:?}: make them the same"
			)),
			(class, of_policy) => Ok(class.or(of_policy)),
		}
	}

	/// The policy for a model of this class.
	fn policy(&self, class: NumericClass) -> Result<VerificationPolicy, String> {
		let mut policy = self.policy.clone();
		let name = serde_json::to_value(class).map_err(|e| e.to_string())?;
		policy.insert("class".into(), name);
		match class {
			NumericClass::Exact => {
				if self.stated_class()?.is_none() {
					// Bounds of the other class, should it have been that.
					for key in ["accept", "fraud", "fraction_bits"] {
						policy.remove(key);
					}
				}
				let bounds = serde_json::to_value(Bounds::default()).map_err(|e| e.to_string())?;
				for (key, value) in [
					("positions", EXACT_POSITIONS.into()),
					("entries", 1.into()),
					("fraction_bits", 0.into()),
					("accept", bounds.clone()),
					("fraud", bounds),
					("min_verifiers", EXACT_VERIFIERS.into()),
				] {
					policy.entry(key).or_insert(value);
				}
			}
			NumericClass::Tolerant if !policy.contains_key("accept") => {
				return Err(
					"the model is of the tolerant class, and the card has no thresholds for it: write the policy that \
					 `consilience calibrate` proposes into the card"
						.into(),
				);
			}
			NumericClass::Tolerant => (),
		}
		serde_json::from_value(Value::Object(policy)).map_err(|e| format!("policy: {e}"))
	}

	/// Gives a card without thresholds some that let nothing pass, under which evidence can be taken to measure what they are to be.
	pub(crate) fn let_nothing_pass(&mut self) {
		let (positions, entries, fraction_bits) = match self.task {
			Task::TextGeneration => (16, 2, 13),
			Task::Embedding => (32, 1, 17),
			Task::Tensor => (64, 1, 16),
		};
		let nothing = json!({ "mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0 });
		for (key, value) in [
			("positions", positions.into()),
			("entries", entries.into()),
			("fraction_bits", fraction_bits.into()),
			("accept", nothing.clone()),
			("fraud", nothing),
			("min_verifiers", 2.into()),
		] {
			self.policy.entry(key).or_insert(value);
		}
	}

	/// The manifest of these files, sorted by path, for a model of this class. The output and evidence of its reference are empty
	/// until the model was run.
	pub fn manifest(
		&self,
		files: Vec<File>,
		signature: Option<&Signature>,
		class: NumericClass,
	) -> Result<Manifest, String> {
		let fingerprint = match class {
			NumericClass::Exact => Fingerprint::Digest([0; 16]),
			NumericClass::Tolerant => Fingerprint::Values {
				tag: 0,
				values: List::new(),
			},
		};
		Ok(Manifest {
			version: VERSION,
			name: self.name.clone(),
			license: self.license.clone(),
			source: self.source.clone(),
			task: self.details(signature)?,
			graph: self.graph.clone(),
			files,
			numerics: self.numerics.clone(),
			limits: self.limits,
			time: self.time,
			policy: self.policy(class)?,
			reference: Reference {
				input: self.reference.input()?,
				output: H256::zero(),
				evidence: Evidence {
					fingerprint,
					verdict: Verdict::default(),
					prior: None,
				},
			},
		})
	}

	/// Whether the card says how the tensors of a tensor model look.
	pub fn has_signature(&self) -> bool {
		self.task != Task::Tensor
			|| (self.details.contains_key("inputs") && self.details.contains_key("outputs"))
	}
}
