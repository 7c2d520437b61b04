//! What is known to make bits depend on how a graph is run, and what to do about it.

use consilience_canonical::Refusal;
use serde::Serialize;

use super::Cause;
use crate::onnx::{Node, Program, UINT8};

/// An operator that is known to give other bits elsewhere, whatever it did here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
	/// The operator.
	pub operator: String,
	/// How often it stands in the graph.
	pub count: usize,
	/// The first node.
	pub first: String,
	/// What is known of it.
	pub why: String,
	/// Whether a model with it is not of the exact class, whatever was measured: what it gives depends on the machine.
	pub bars: bool,
}

const SOFTMAX: &str = "Softmax adds in an order that depends on the processor's vector width: spell it out as ReduceMax, Sub, \
	Exp, a MatMul with ones, and Div";
const SIGNED: &str = "signed 8-bit weights saturate on processors without VNNI: clip activations to 0 to 127 before the Cast to \
	uint8, or store weights unsigned, with a zero point of 128";
const SQRT: &str = "ONNX Runtime 1.20's Sqrt of floats is off by one unit in the last place: Cast to double, Sqrt, Cast back";
const REDUCE: &str = "a sum by ReduceSum or ReduceMean has two ways of adding, and the number of threads picks one: use a MatMul \
	with ones";
const ONE_ROW: &str = "a MatMul of two computed tensors has a kernel of its own for one row, which adds in another order: stack \
	heads as rows, or the row twice";
const LONG_SUM: &str = "how a MatMul of two computed tensors cuts a sum over more than 128 positions depends on threads and \
	lengths: sum in blocks of 128, anchored at position 0";
const PER_TENSOR: &str = "one scale for a whole tensor makes each row depend on its neighbours: use a scale for each row";

/// Whether a node multiplies two computed tensors.
fn multiplies_computed(node: &Node, program: &Program) -> bool {
	matches!(
		&node.op_type[..],
		"MatMul" | "Gemm" | "FusedMatMul" | "FusedGemm" | "TransposeMatMul"
	) && !program.is_constant(node, 0)
		&& !program.is_constant(node, 1)
}

/// The largest activation of which two products with signed bytes fit 16 bits, as kernels without VNNI add them: 2 · 127 · 128.
const SEVEN_BITS: f32 = 127.0;

/// Whether a node multiplies bytes of which the weights may be signed and the others too large for that.
fn signed_weights(node: &Node, program: &Program) -> bool {
	let weights = match &node.op_type[..] {
		"MatMulInteger" | "ConvInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" => 1,
		"QLinearMatMul" | "QLinearConv" | "QGemm" => 3,
		_ => return false,
	};
	!program.is_unsigned_bytes(node, weights) && !small_activations(node, program)
}

/// Whether the graph itself keeps the bytes that a node takes within seven bits: they are cast from what was clipped. Only for the
/// operator that takes them as they are, and where every name has one meaning: not with subgraphs and functions.
fn small_activations(node: &Node, program: &Program) -> bool {
	let made_by = |node: &Node, operator: &str| {
		let made = program.maker(node.input.first()?)?;
		made.is(operator).then_some(made)
	};
	let clipped = || {
		let cast = made_by(node, "Cast")?;
		let clip = made_by(cast, "Clip")?;
		let [_, low, high] = &clip.input[..] else {
			return None;
		};
		let (low, high) = (program.scalar(low)?, program.scalar(high)?);
		let within = 0.0 <= low && low <= high && high <= SEVEN_BITS;
		Some(within && cast.integer("to") == Some(UINT8.into()))
	};
	node.is("MatMulInteger") && program.inner.is_empty() && clipped().unwrap_or(false)
}

/// The known trap that a node is, if it broke the bits for this cause.
pub(super) fn of(node: &Node, program: &Program, cause: Cause) -> Option<&'static str> {
	Some(match &node.op_type[..] {
		"Softmax" | "LogSoftmax" => SOFTMAX,
		"ReduceSum" | "ReduceMean" => REDUCE,
		"Sqrt" => SQRT,
		"DynamicQuantizeLinear" | "DynamicQuantizeMatMul" => PER_TENSOR,
		_ if signed_weights(node, program) => SIGNED,
		_ if multiplies_computed(node, program) => match cause {
			Cause::Rows | Cause::Batch => ONE_ROW,
			Cause::Threads | Cause::Capacity => LONG_SUM,
			Cause::Optimization => return None,
		},
		_ => return None,
	})
}

/// What a graph that is to be of the integer class is not proven for.
pub(super) fn unproven(refusals: Vec<Refusal>) -> Vec<Doubt> {
	let mut doubts: Vec<Doubt> = Vec::new();
	for Refusal {
		node,
		operator,
		why,
	} in refusals
	{
		let why = format!("it is not proven to be of the integer class: {why}");
		match doubts
			.iter_mut()
			.find(|d| d.operator == operator && d.why == why)
		{
			Some(known) => known.count += 1,
			None => doubts.push(Doubt {
				operator,
				count: 1,
				first: node,
				why,
				bars: true,
			}),
		}
	}
	doubts
}

/// All operators of a graph that are known to give other bits elsewhere.
pub(super) fn doubts(program: &Program) -> Vec<Doubt> {
	let mut doubts: Vec<Doubt> = Vec::new();
	for node in program.nodes.iter().chain(&program.inner) {
		let (why, bars) = match &node.op_type[..] {
			"Softmax" | "LogSoftmax" => (SOFTMAX, true),
			_ if signed_weights(node, program) => (SIGNED, true),
			"DynamicQuantizeLinear" | "DynamicQuantizeMatMul" => (PER_TENSOR, false),
			"ReduceSum" | "ReduceMean" => (REDUCE, false),
			_ => continue,
		};
		match doubts
			.iter_mut()
			.find(|d| d.operator == node.op_type && d.why == why)
		{
			Some(known) => known.count += 1,
			None => doubts.push(Doubt {
				operator: node.op_type.clone(),
				count: 1,
				first: node.label().into(),
				why: why.into(),
				bars,
			}),
		}
	}
	doubts
}

#[cfg(test)]
mod tests {
	use super::*;

	fn fixture() -> Vec<u8> {
		let here = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
		std::fs::read(here.join("tests/fixtures/llama-int8/model.onnx")).unwrap()
	}

	/// Nodes that bar a graph for its signed weights.
	fn barred(program: &Program) -> usize {
		let doubts = doubts(program);
		let signed = doubts.iter().filter(|d| d.why == SIGNED);
		signed.inspect(|d| assert!(d.bars)).map(|d| d.count).sum()
	}

	/// Products of a layer are four, there are two layers, and logits.
	const PRODUCTS: usize = 9;

	#[test]
	fn signed_weights_are_no_trap_where_the_graph_clips_what_they_are_multiplied_with() {
		let mut bytes = fixture();
		assert_eq!(doubts(&Program::read(&bytes).unwrap()), []);

		let bound = SEVEN_BITS.to_le_bytes();
		let places: Vec<_> = (0..bytes.len() - 4)
			.filter(|i| bytes[*i..*i + 4] == bound)
			.collect();
		let [place] = places[..] else {
			panic!("the bound stands in the file once, not at {places:?}")
		};
		// One step more, and two products no longer fit. Below zero, a byte is what it is modulo 256.
		for other in [SEVEN_BITS + 1.0, -5.0, f32::NAN] {
			bytes[place..place + 4].copy_from_slice(&other.to_le_bytes());
			assert_eq!(barred(&Program::read(&bytes).unwrap()), PRODUCTS, "{other}");
		}
	}

	#[test]
	fn only_what_is_known_to_be_clipped_is() {
		let program = Program::read(&fixture()).unwrap();
		let changed = |change: &dyn Fn(&mut Node)| {
			let mut program = program.clone();
			program.nodes.iter_mut().for_each(change);
			barred(&program)
		};
		let of = |node: &Node, operator: &str| node.op_type == operator;
		let elsewhere = |node: &mut Node| node.domain = "elsewhere".into();
		assert_eq!(changed(&|_| ()), 0);
		for operator in ["Clip", "Cast", "MatMulInteger"] {
			let all = changed(&|n| {
				if of(n, operator) {
					elsewhere(n)
				}
			});
			assert_eq!(all, PRODUCTS, "{operator} of another domain");
		}
		for other in ["DynamicQuantizeMatMul", "ConvInteger"] {
			let all = changed(&|n| {
				if of(n, "MatMulInteger") {
					n.op_type = other.into()
				}
			});
			assert_eq!(all, PRODUCTS, "{other} makes bytes of its own");
		}
		let missing = changed(&|n| {
			if of(n, "Clip") {
				n.input.pop();
			}
		});
		assert_eq!(missing, PRODUCTS);
		let mut program = program.clone();
		program.inner.push(Node::default());
		assert_eq!(barred(&program), PRODUCTS);
	}
}
