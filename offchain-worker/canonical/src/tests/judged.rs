//! The judge's definitions against ONNX Runtime: every element of every tensor between a graph's inputs and its output, made again from
//! the tensors before it, has the bits that were computed.

use std::{collections::HashMap, path::Path};

use consilience_judge::{
	element::Definition,
	program::{Lengths, Operator, Rule},
	trace::{compute, Committed, Plain},
	value::Kind,
};
use ort::{
	session::{builder::GraphOptimizationLevel, Session, SessionInputValue},
	value::{DynValue, Tensor},
};
use prost::Message;

use super::architectures::environment;
use crate::{
	onnx::{Model, ValueInfo},
	proof::{program, Judged},
};

/// What a language model is fed in a judged run: tokens, each at its place, and a cache that nothing was written to.
fn fed(input: &str) -> Option<Operator> {
	Some(match input {
		"input_ids" => Operator::Input(0),
		"position_ids" => Operator::Count,
		_ => Operator::Zeros,
	})
}

/// Bytes of a tensor, little end first.
fn bytes(value: &DynValue, kind: Kind) -> Vec<u8> {
	macro_rules! of {
		($element:ty) => {{
			let (_, numbers) = value.try_extract_tensor::<$element>().unwrap();
			numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
		}};
	}
	match kind {
		Kind::Int8 => of!(i8),
		Kind::Uint8 => of!(u8),
		Kind::Int32 => of!(i32),
		Kind::Int64 => of!(i64),
		Kind::Float => of!(f32),
		Kind::Double => of!(f64),
		Kind::Bool => {
			let (_, flags) = value.try_extract_tensor::<bool>().unwrap();
			flags.iter().map(|flag| u8::from(*flag)).collect()
		}
	}
}

/// Everything that ONNX Runtime computes on the way, by its names in the graph.
fn traced(folder: &Path, judged: &Judged, tokens: &[i64]) -> HashMap<String, Vec<u8>> {
	let path = folder.join("model.onnx");
	let mut model = Model::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
	let graph = model.graph.as_mut().unwrap();
	let wanted: Vec<(&String, &Rule)> = judged
		.names
		.iter()
		.zip(&judged.program.rules)
		.filter(|(name, rule)| {
			let given = graph.input.iter().any(|i| i.name.as_ref() == Some(name));
			!name.is_empty() && !given && !matches!(rule.operator, Operator::Constant(_))
		})
		.collect();
	for (name, _) in &wanted {
		let declared = |infos: &[ValueInfo]| {
			let found = infos.iter().find(|info| info.name.as_ref() == Some(name));
			found.cloned()
		};
		if declared(&graph.output).is_none() {
			let info = declared(&graph.value_info).unwrap();
			graph.output.push(info);
		}
	}
	let inputs: Vec<_> = graph.input.clone();
	let with_all = folder.join("traced.onnx");
	std::fs::write(&with_all, model.encode_to_vec()).unwrap();
	let mut session = Session::builder(environment())
		.unwrap()
		.with_optimization_level(GraphOptimizationLevel::Disable)
		.unwrap()
		.commit_from_file(&with_all)
		.unwrap();
	let shape_of = |info: &ValueInfo| -> Vec<usize> {
		let kind = info.kind.as_ref().unwrap().tensor.as_ref().unwrap();
		let dims = kind.shape.as_ref().unwrap().dim.iter();
		dims.map(|dim| match (dim.value, dim.parameter.as_deref()) {
			(Some(n), _) => n as usize,
			(None, Some("B")) => 1,
			_ => tokens.len(),
		})
		.collect()
	};
	let feeds = inputs.iter().map(|info| {
		let name = info.name.clone().unwrap();
		let shape = shape_of(info);
		let value: SessionInputValue = match &name[..] {
			"input_ids" => Tensor::from_array((shape, tokens.to_vec())).unwrap().into(),
			"position_ids" => {
				let positions: Vec<_> = (0..tokens.len() as i64).collect();
				Tensor::from_array((shape, positions)).unwrap().into()
			}
			_ => {
				let zeros = vec![0i8; shape.iter().product()];
				Tensor::from_array((shape, zeros)).unwrap().into()
			}
		};
		(name, value)
	});
	let feeds: Vec<_> = feeds.collect();
	let outputs = session.run(feeds).unwrap();
	wanted
		.iter()
		.map(|(name, rule)| {
			(
				(*name).clone(),
				bytes(&outputs[name.as_str()], rule.output.kind),
			)
		})
		.collect()
}

/// Makes every tensor of a run again, each from those before it as ONNX Runtime gave them. Of tensors whose elements are sums of more than
/// `most` terms together, so many are added up that it is no more, spread over the tensor. How many elements there were, and tensors.
pub(super) fn check(folder: &Path, tokens: &[i64], most: u64) -> (u64, usize) {
	let judged = program(&folder.join("model.onnx"), "logits", &fed).unwrap();
	assert_eq!(judged.open, ["B", "S", "C"]);
	let lengths: Lengths = [1, tokens.len() as u32, tokens.len() as u32];
	let mut made = traced(folder, &judged, tokens);
	let mut tensors: Vec<Committed> = Vec::new();
	let mut elements = 0;
	for (n, rule) in judged.program.rules.iter().enumerate() {
		let name = &judged.names[n];
		let raw = made.remove(name);
		let raw = raw.map(|raw| Committed::new(&rule.output, &lengths, &raw).unwrap());
		let definition = Definition::new(rule, &lengths).unwrap();
		let count = definition.output().count();
		let committed = match (&rule.operator, raw) {
			(Operator::Constant(root), None) => {
				let constant = judged.constants[&(n as u32)].clone();
				assert_eq!(constant.root(), *root);
				constant
			}
			(Operator::Input(_), None) => {
				let raw: Vec<_> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
				Committed::new(&rule.output, &lengths, &raw).unwrap()
			}
			(Operator::Constant(_) | Operator::Input(_), Some(_)) => unreachable!(),
			(_, Some(computed)) => {
				let terms = count * definition.terms().unwrap().unwrap_or(1);
				let every = terms.div_ceil(most).max(1) as usize;
				let mut plain = Plain::new(&tensors, rule, &lengths).unwrap();
				// Coprime to most shapes, so that it meets all rows and columns.
				let every = if every > 1 { every | 1 } else { 1 };
				for element in (0..count).step_by(every) {
					let again = definition.element(element, &mut plain).unwrap();
					let said = computed.get(&rule.output, &lengths, element).unwrap();
					assert_eq!(
						again.settled(),
						said,
						"{name:?} {element} ({:?})",
						rule.operator
					);
					elements += 1;
				}
				computed
			}
			// Which token it is stands in no graph.
			(_, None) => compute(&tensors, rule, &lengths).unwrap(),
		};
		tensors.push(committed);
	}
	assert!(made.is_empty());
	let fixed = |rule: &Rule| matches!(rule.operator, Operator::Constant(_));
	let all = tensors.iter().zip(&judged.program.rules);
	let bytes: usize = all
		.filter(|(_, rule)| !fixed(rule))
		.map(|(tensor, _)| tensor.bytes().len())
		.sum();
	println!(
		"{elements} elements made again of {} tensors, {bytes} bytes beside weights",
		tensors.len()
	);
	// The last is what the model says at each position.
	let chosen = tensors.last().unwrap();
	let logits = &tensors[judged
		.names
		.iter()
		.position(|name| name == "logits")
		.unwrap()];
	let width = logits.bytes().len() / 4 / tokens.len();
	for (at, row) in logits.bytes().chunks(4 * width).enumerate() {
		let row: Vec<_> = row
			.as_chunks()
			.0
			.iter()
			.map(|b| f32::from_le_bytes(*b))
			.collect();
		let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
		let first = row.iter().position(|l| *l == largest).unwrap();
		let said = i64::from_le_bytes(chosen.bytes()[8 * at..8 * at + 8].try_into().unwrap());
		assert_eq!(said, first as i64);
	}
	(elements, tensors.len())
}
