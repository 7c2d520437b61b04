//! The trace of a run, for the last judge: every number between a text's tokens and what the model says after each of them.
//!
//! Nothing of it is made before there is a dispute. Then the whole text is run once, in one pass from an empty cache, with the values
//! between nodes as outputs, some at a time; each is committed to and handed over. A defender keeps the roots (32 bytes a tensor) and
//! makes a tensor again when it is asked about it.
//!
//! **Architecture invariant:** what is committed to is what ONNX Runtime computed. The judge's own definitions make nothing here but what
//! is made of nothing (0, 1, 2, …) and the largest logits' places, which the graph does not have; tests hold every number against them.

use std::path::{Path, PathBuf};

use consilience_canonical::{proof, Refusals};
use consilience_judge::{
	program::{Lengths, Operator, Program, Rule},
	trace::{compute, Committed, Tensors},
	value::{Fault, Kind},
};
use consilience_primitives::tensor::DataType;

use crate::{onnx::with_outputs, session::Graph, tensor::Raw, EngineError};

/// Bytes of values, roughly, that are between nodes of one run and held at a time.
const AT_ONCE: u64 = 256 << 20;

/// What a model says after each token, as one tensor of a graph.
const LOGITS: &str = "logits";

/// A text that a model of the integer class has run, or will.
pub struct Judged {
	path: PathBuf,
	bytes: Vec<u8>,
	judged: proof::Judged,
	tokens: Vec<i64>,
	threads: usize,
}

fn unread(fault: Fault) -> EngineError {
	EngineError::Output(format!(
		"the judge cannot read what was computed: {fault:?}"
	))
}

/// What a language model with slots is fed in a judged run: tokens, each at its place, and a cache that nothing was written to.
fn fed(input: &str) -> Option<Operator> {
	match input {
		"input_ids" => Some(Operator::Input(0)),
		"position_ids" => Some(Operator::Count),
		_ => input
			.starts_with("past_key_values.")
			.then_some(Operator::Zeros),
	}
}

fn datatype(kind: Kind) -> DataType {
	match kind {
		Kind::Int8 => DataType::Int8,
		Kind::Uint8 => DataType::Uint8,
		Kind::Int32 => DataType::Int32,
		Kind::Int64 => DataType::Int64,
		Kind::Bool => DataType::Bool,
		Kind::Float => DataType::Fp32,
		Kind::Double => DataType::Fp64,
	}
}

/// One tensor, where a rule is computed from one only.
struct One<'c>(u32, &'c Committed);

impl Tensors for One<'_> {
	fn tensor(&self, n: u32) -> &Committed {
		debug_assert_eq!(self.0, n);
		self.1
	}
}

impl Judged {
	/// Of a graph that is proven here to be of the class, and a text in tokens.
	pub fn open(graph: &Path, tokens: &[u32], threads: usize) -> Result<Self, EngineError> {
		if tokens.is_empty() {
			return Err(EngineError::Mismatch(
				"a text of no tokens has no trace".into(),
			));
		}
		let judged = proof::program(graph, LOGITS, &fed);
		let judged = judged.map_err(|why| EngineError::load(graph, Refusals(why)))?;
		Ok(Self {
			bytes: std::fs::read(graph).map_err(|e| EngineError::load(graph, e))?,
			path: graph.into(),
			judged,
			tokens: tokens.iter().map(|token| i64::from(*token)).collect(),
			threads,
		})
	}

	/// What the graph computes.
	pub fn program(&self) -> &Program {
		&self.judged.program
	}

	/// What a tensor is called in the graph; nothing where the graph has none.
	pub fn name(&self, tensor: u32) -> &str {
		let name = self.judged.names.get(tensor as usize);
		name.map_or("", String::as_str)
	}

	/// Lengths of the run: one text, with a slot for each token.
	pub fn lengths(&self) -> Lengths {
		let tokens = self.tokens.len() as u32;
		[1, tokens, tokens]
	}

	/// Runs the text and hands every tensor over, by rising number.
	pub fn commit(&self, see: &mut dyn FnMut(u32, Committed)) -> Result<(), EngineError> {
		self.some(0..self.judged.program.rules.len() as u32, see)
	}

	/// The same of one tensor.
	pub fn tensor(&self, n: u32) -> Result<Committed, EngineError> {
		let mut made = None;
		self.some(n..n + 1, &mut |_, tensor| made = Some(tensor))?;
		made.ok_or_else(|| unread(Fault::OtherRule))
	}

	/// The same of some, which stand together.
	fn some(
		&self,
		wanted: std::ops::Range<u32>,
		see: &mut dyn FnMut(u32, Committed),
	) -> Result<(), EngineError> {
		let mut group: Vec<u32> = Vec::new();
		let mut size = 0;
		for n in wanted.clone() {
			let rule = self.rule(n)?;
			let dims = rule.output.dims(&self.lengths()).map_err(unread)?;
			size += match self.is_ready(n)? {
				true => 0,
				false => dims.count() * rule.output.kind.size() as u64,
			};
			group.push(n);
			if size >= AT_ONCE || n + 1 == wanted.end {
				self.group(&group, see)?;
				group.clear();
				size = 0;
			}
		}
		Ok(())
	}

	fn rule(&self, n: u32) -> Result<&Rule, EngineError> {
		let rule = self.judged.program.rules.get(n as usize);
		rule.ok_or_else(|| unread(Fault::NoSuchPlace))
	}

	/// Whether a tensor is there without a run: it is fed, a constant, or counts.
	fn is_ready(&self, n: u32) -> Result<bool, EngineError> {
		Ok(self.rule(n)?.inputs.is_empty())
	}

	/// Tensors of one run.
	fn group(&self, group: &[u32], see: &mut dyn FnMut(u32, Committed)) -> Result<(), EngineError> {
		let lengths = self.lengths();
		let mut names = Vec::new();
		for n in group {
			if !self.is_ready(*n)? {
				let name = self.name(*n);
				// What the model says is found from its logits.
				let name = if name.is_empty() { LOGITS } else { name };
				if !names.contains(&name.to_owned()) {
					names.push(name.to_owned());
				}
			}
		}
		let made = self.values(&names)?;
		for n in group {
			let (rule, name) = (self.rule(*n)?, self.name(*n));
			let raw = |name: &str| -> Result<&Raw, EngineError> {
				let raw = names.iter().position(|other| other == name);
				let raw = raw.and_then(|at| made.get(at));
				raw.ok_or_else(|| EngineError::Output(format!("the graph gave no {name:?}")))
			};
			let committed = |raw: &Raw, rule: &Rule| {
				if raw.datatype != datatype(rule.output.kind) {
					return Err(unread(Fault::OtherKind));
				}
				Committed::new(&rule.output, &lengths, &raw.data).map_err(unread)
			};
			let tensor = match (&rule.operator, self.judged.constants.get(n)) {
				(_, Some(constant)) => constant.clone(),
				(Operator::Input(_), _) => {
					let bytes = self.tokens.iter().flat_map(|t| t.to_le_bytes());
					let bytes: Vec<u8> = bytes.collect();
					Committed::new(&rule.output, &lengths, &bytes).map_err(unread)?
				}
				_ if self.is_ready(*n)? => {
					let none: Vec<Committed> = Vec::new();
					compute(&none, rule, &lengths).map_err(unread)?
				}
				_ if name.is_empty() => {
					let of = rule.inputs.first().map(|input| input.tensor);
					let of = of.ok_or_else(|| unread(Fault::OtherRule))?;
					let logits = committed(raw(LOGITS)?, self.rule(of)?)?;
					compute(&One(of, &logits), rule, &lengths).map_err(unread)?
				}
				_ => committed(raw(name)?, rule)?,
			};
			see(*n, tensor);
		}
		Ok(())
	}

	/// Runs the graph and gives these values.
	fn values(&self, names: &[String]) -> Result<Vec<Raw>, EngineError> {
		if names.is_empty() {
			return Ok(Vec::new());
		}
		let program = crate::onnx::Program::read(&self.bytes);
		let program = program.map_err(|e| EngineError::load(&self.path, e))?;
		let new: Vec<String> = names
			.iter()
			.filter(|name| !program.is_output(name))
			.cloned()
			.collect();
		let bytes = with_outputs(&self.bytes, &new);
		let graph = Graph::load_bytes(&self.path, &bytes, self.threads)?;
		drop(bytes);
		let count = self.tokens.len();
		let mut inputs = Vec::new();
		for spec in graph.info()?.inputs {
			let shape = spec.shape.iter().zip(graph.symbols(&spec.name));
			let shape: Vec<usize> = shape
				.map(|(length, symbol)| {
					let open = self.judged.open.iter().position(|open| *open == symbol);
					match open {
						Some(open) => self.lengths()[open] as usize,
						None => length.map_or(count, |length| length as usize),
					}
				})
				.collect();
			let elements = shape.iter().product::<usize>();
			let raw = match fed(&spec.name) {
				Some(Operator::Input(_)) => Raw::of_integers(&shape, &self.tokens),
				Some(Operator::Count) => {
					let positions: Vec<_> = (0..elements as i64).collect();
					Raw::of_integers(&shape, &positions)
				}
				_ => Raw {
					datatype: DataType::Int8,
					data: vec![0; elements],
					shape,
				},
			};
			inputs.push((spec.name.clone(), raw.value()?.into()));
		}
		graph.run(inputs, |outputs| {
			let values = names.iter().map(|name| match outputs.get(name) {
				Some(value) => Raw::of(value),
				None => Err(EngineError::Output(format!("the graph gave no {name:?}"))),
			});
			values.collect()
		})
	}
}
