//! The program of a graph, as the last judge reads it (`consilience-judge`).
//!
//! It follows from the graph and nothing else, and only from one that is proven to be of the class, so that whoever has the model's files
//! finds the same root. What the proof knows of shapes is all that the judge is told of them.

use std::{
	collections::{HashMap, HashSet},
	fs::File,
	io::Read,
	path::Path,
};

use consilience_judge::{
	program::{
		self, Comparison, Double, Operand, Operator, Program, Reduction, Rule, Signature, Single,
	},
	trace::Committed,
	value::{Fault, Kind},
};
use prost::Message;

use super::{
	external, of_node, operators::axis, prove, value::Dim, value::Value, whole, Analysis, External,
	Folder, Refusal, MAX_BYTES,
};
use crate::onnx::{
	self, Graph, Model, Node, Tensor, BOOL, DOUBLE, FLOAT, INT32, INT64, INT8, UINT8,
};

/// A program, and what its tensors are called in the graph.
#[derive(Clone, Debug)]
pub struct Judged {
	/// The program. Its last rule is where the largest of the output's last axis is.
	pub program: Program,
	/// The graph's name of each of its tensors; the last has none there.
	pub names: Vec<String>,
	/// The open dimensions, in the order of [`program::Lengths`].
	pub open: Vec<String>,
	/// The constants, by their numbers.
	pub constants: HashMap<u32, Committed>,
}

/// Writes down what the graph in a file computes, for one of its outputs. `fed` says what each input is: [`Operator::Input`], or what is
/// the same in every run.
///
/// Fails with every node of which it is not proven that it is of the class, or of which the judge has no definition.
pub fn program(
	path: &Path,
	output: &str,
	fed: &dyn Fn(&str) -> Option<Operator>,
) -> Result<Judged, Vec<Refusal>> {
	let mut bytes = Vec::new();
	let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
	read.map_err(|e| vec![whole(format!("{}: {e}", path.display()))])?;
	let mut folder = Folder(path.parent().unwrap_or(Path::new("")).into());
	prove(&bytes, &mut folder)?;
	let model = Model::decode(&bytes[..]).map_err(|e| vec![whole(e.to_string())])?;
	let mut reader = Folder(folder.0.clone());
	let mut analysis = Analysis::new(&mut folder);
	analysis.model(&model);
	let graph = model.graph.as_ref();
	let graph = graph.ok_or_else(|| vec![whole("there is none".into())])?;
	let mut writer = Writer {
		values: &analysis.values,
		along: HashMap::new(),
		numbers: HashMap::new(),
		judged: Judged {
			program: Program { rules: Vec::new() },
			names: Vec::new(),
			open: Vec::new(),
			constants: HashMap::new(),
		},
	};
	writer.graph(graph, output, fed, &mut reader)?;
	Ok(writer.judged)
}

/// A program in the making.
struct Writer<'v> {
	values: &'v HashMap<String, Option<Value>>,
	/// Axes along which elements lie side by side, where it is not the last.
	along: HashMap<String, usize>,
	/// Numbers of tensors by the graph's names.
	numbers: HashMap<String, u32>,
	judged: Judged,
}

/// Inputs of a node that are tensors to it; the others say shapes and axes, and are known.
fn data(node: &Node) -> &[String] {
	let all = &node.input[..];
	let most = match node.op_type.as_deref().unwrap_or_default() {
		"Shape" | "Range" | "Constant" => 0,
		"Reshape" | "Expand" | "Squeeze" | "Unsqueeze" | "Slice" | "Split" => 1,
		"ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceSumSquare" => 1,
		_ => all.len(),
	};
	&all[..most.min(all.len())]
}

fn int(node: &Node, name: &str) -> Option<i64> {
	let mut all = node.attribute.iter();
	let found = all.find(|a| a.name.as_deref() == Some(name))?;
	Some(found.i.unwrap_or(0))
}

fn ints<'n>(node: &'n Node, name: &str) -> Option<&'n [i64]> {
	let mut all = node.attribute.iter();
	let found = all.find(|a| a.name.as_deref() == Some(name))?;
	Some(&found.ints)
}

fn kind(element: i32) -> Result<Kind, String> {
	Ok(match element {
		INT8 => Kind::Int8,
		UINT8 => Kind::Uint8,
		INT32 => Kind::Int32,
		INT64 => Kind::Int64,
		BOOL => Kind::Bool,
		FLOAT => Kind::Float,
		DOUBLE => Kind::Double,
		other => {
			return Err(format!(
				"the judge knows no numbers of {}",
				super::value::name(other)
			))
		}
	})
}

fn narrow(n: usize) -> Result<u8, String> {
	u8::try_from(n).map_err(|_| "it has too many axes".into())
}

fn told(fault: Fault) -> String {
	format!("the judge cannot read it: {fault:?}")
}

/// A constant's bytes, little end first.
fn bytes(tensor: &Tensor, kind: Kind, external_data: &mut dyn External) -> Result<Vec<u8>, String> {
	if tensor.data_location == Some(onnx::EXTERNAL) {
		let [location, offset, _] = external(&tensor.external_data)?;
		let count: i64 = tensor.dims.iter().product();
		let length = count as u64 * kind.size() as u64;
		let offset = offset.unwrap_or("0").parse().unwrap_or(0);
		let mut all = Vec::new();
		let location = location.unwrap_or_default();
		external_data.read(location, offset, length, &mut |piece| {
			all.extend_from_slice(piece)
		})?;
		return Ok(all);
	}
	if let Some(raw) = &tensor.raw_data {
		return Ok(raw.clone());
	}
	Ok(match kind {
		Kind::Float => tensor
			.float_data
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect(),
		Kind::Double => tensor
			.double_data
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect(),
		Kind::Int64 => tensor
			.int64_data
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect(),
		Kind::Int32 => tensor
			.int32_data
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect(),
		_ => tensor.int32_data.iter().map(|v| *v as u8).collect(),
	})
}

impl Writer<'_> {
	fn value(&self, name: &str) -> Result<&Value, String> {
		let value = self.values.get(name).and_then(|value| value.as_ref());
		value.ok_or_else(|| format!("nothing is known of {name:?}"))
	}

	fn graph(
		&mut self,
		graph: &Graph,
		output: &str,
		fed: &dyn Fn(&str) -> Option<Operator>,
		external: &mut dyn External,
	) -> Result<(), Vec<Refusal>> {
		for input in &graph.input {
			let name = input.name.as_deref().unwrap_or_default();
			let Some(Some(value)) = self.values.get(name) else {
				continue;
			};
			for open in value.shape.iter().flatten().flat_map(|dim| &dim.names) {
				if !self.judged.open.contains(open) {
					self.judged.open.push(open.clone());
				}
			}
		}
		if self.judged.open.len() > program::OPEN {
			return Err(vec![whole(format!(
				"it leaves open {:?}, and the judge has room for {}",
				self.judged.open,
				program::OPEN
			))]);
		}
		let mut needed = HashSet::from([output]);
		for node in graph.node.iter().rev() {
			if node.output.iter().any(|made| needed.contains(&made[..])) {
				needed.extend(data(node).iter().map(String::as_str));
			}
		}
		let nodes = || {
			let nodes = graph.node.iter();
			nodes.filter(|node| node.output.iter().any(|made| needed.contains(&made[..])))
		};
		for node in nodes() {
			self.sides(node).map_err(|why| vec![of_node(node, why)])?;
		}
		let plain = |why: String| vec![whole(why)];
		let constants = graph.initializer.iter();
		for tensor in constants.filter(|t| t.name.as_deref().is_some_and(|n| needed.contains(n))) {
			let name = tensor.name.as_deref().unwrap_or_default();
			self.constant(name, tensor, external).map_err(plain)?;
		}
		for input in &graph.input {
			let name = input.name.as_deref().unwrap_or_default();
			if needed.contains(name) {
				let operator = fed(name);
				let operator = operator
					.ok_or_else(|| plain(format!("nobody says what is fed as {name:?}")))?;
				let output = self.signature(name).map_err(plain)?;
				self.add(name, operator, &[], output).map_err(plain)?;
			}
		}
		for node in nodes() {
			self.node(node, &needed, external)
				.map_err(|why| vec![of_node(node, why)])?;
		}
		let chosen = self.signature(output).and_then(|mut signature| {
			signature.shape.pop().ok_or("a number has no largest")?;
			let along = narrow(signature.shape.len().saturating_sub(1))?;
			let signature = Signature {
				kind: Kind::Int64,
				along,
				..signature
			};
			self.add("", Operator::Best, &[output], signature)
		});
		chosen.map_err(plain)?;
		let checked = self.judged.program.check();
		checked.map_err(|fault| plain(told(fault)))
	}

	/// Notes along which axis its inputs are added up.
	fn sides(&mut self, node: &Node) -> Result<(), String> {
		let (which, at) = match node.op_type.as_deref().unwrap_or_default() {
			"MatMul" | "MatMulInteger" => {
				let rank = self.value(&node.input[1])?.shape.len();
				(1, rank.saturating_sub(2))
			}
			"ScatterElements" => {
				let rank = self.value(&node.input[1])?.shape.len();
				(1, axis(int(node, "axis").unwrap_or(0), rank)?)
			}
			"ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceSumSquare" => {
				let axes = self.reduced(node)?;
				(0, axes.last().copied().unwrap_or(0))
			}
			_ => return Ok(()),
		};
		self.along.entry(node.input[which].clone()).or_insert(at);
		Ok(())
	}

	fn reduced(&self, node: &Node) -> Result<Vec<usize>, String> {
		let rank = self.value(&node.input[0])?.shape.len();
		let axes = match node.input.get(1).filter(|name| !name.is_empty()) {
			Some(name) => self.value(name)?.numbers().unwrap_or_default(),
			None => ints(node, "axes").map(<[i64]>::to_vec).unwrap_or_default(),
		};
		let axes: Result<Vec<_>, _> = axes.iter().map(|a| axis(*a, rank)).collect();
		let mut axes = axes?;
		if axes.is_empty() {
			axes = (0..rank).collect();
		}
		axes.sort_unstable();
		axes.dedup();
		Ok(axes)
	}

	fn dimension(&self, dim: &Dim) -> Result<program::Dim, String> {
		let factor = u32::try_from(dim.factor).map_err(|_| "a dimension is too long")?;
		let mut made = program::Dim::number(factor);
		for name in &dim.names {
			let at = self.judged.open.iter().position(|open| open == name);
			made.powers[at.ok_or("a dimension is open that no input has")?] += 1;
		}
		Ok(made)
	}

	fn signature(&self, name: &str) -> Result<Signature, String> {
		let value = self.value(name)?;
		let shape: Result<Vec<_>, String> = value
			.shape
			.iter()
			.map(|dim| match dim {
				Some(dim) => self.dimension(dim),
				None => Err(format!("the shape of {name:?} is not known")),
			})
			.collect();
		let last = value.shape.len().saturating_sub(1);
		Ok(Signature {
			kind: kind(value.element)?,
			shape: shape?,
			along: narrow(*self.along.get(name).unwrap_or(&last))?,
		})
	}

	fn add(
		&mut self,
		name: &str,
		operator: Operator,
		inputs: &[&str],
		output: Signature,
	) -> Result<(), String> {
		let inputs: Result<Vec<_>, String> = inputs
			.iter()
			.map(|input| {
				let tensor = self.numbers.get(*input).copied();
				let tensor = tensor.ok_or_else(|| format!("{input:?} is of lengths only"))?;
				let rule = &self.judged.program.rules[tensor as usize];
				Ok(Operand {
					tensor,
					signature: rule.output.clone(),
				})
			})
			.collect();
		let number = self.judged.names.len() as u32;
		self.judged.program.rules.push(Rule {
			operator,
			inputs: inputs?,
			output,
		});
		self.judged.names.push(name.into());
		self.numbers.insert(name.into(), number);
		Ok(())
	}

	fn constant(
		&mut self,
		name: &str,
		tensor: &Tensor,
		external: &mut dyn External,
	) -> Result<(), String> {
		let signature = self.signature(name)?;
		let raw = bytes(tensor, signature.kind, external)?;
		// A constant's shape has no open dimension.
		let committed = Committed::new(&signature, &[0; program::OPEN], &raw).map_err(told)?;
		let root = committed.root();
		let number = self.judged.names.len() as u32;
		self.judged.constants.insert(number, committed);
		self.add(name, Operator::Constant(root), &[], signature)
	}

	fn node(
		&mut self,
		node: &Node,
		needed: &HashSet<&str>,
		external: &mut dyn External,
	) -> Result<(), String> {
		let operator = node.op_type.as_deref().unwrap_or_default();
		let rank = |writer: &Self, n: usize| -> Result<usize, String> {
			Ok(writer.value(&node.input[n])?.shape.len())
		};
		let there = |n: usize| node.input.get(n).is_some_and(|name| !name.is_empty());
		let whole_axis = |writer: &Self, n: usize| -> Result<u8, String> {
			let rank = rank(writer, n)?;
			narrow(axis(int(node, "axis").unwrap_or(0), rank)?)
		};
		let made = match operator {
			"Constant" => {
				let tensor = node.attribute.iter().find_map(|a| a.t.as_ref());
				let tensor = tensor.ok_or("it holds no tensor")?;
				return self.constant(&node.output[0], tensor, external);
			}
			"Split" => {
				let at = usize::from(whole_axis(self, 0)?);
				let mut start = 0;
				for output in &node.output {
					let signature = self.signature(output)?;
					let mut starts = vec![0; signature.shape.len()];
					starts[at] = start;
					start += signature.shape[at].factor;
					if needed.contains(&output[..]) {
						self.add(output, Operator::Part(starts), &[&node.input[0]], signature)?;
					}
				}
				return Ok(());
			}
			"Slice" => Operator::Part(self.starts(node)?),
			"Range" => Operator::Count,
			"Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => Operator::Copy,
			"Expand" => Operator::Expand,
			"Abs" => Operator::Single(Single::Abs),
			"Neg" => Operator::Single(Single::Neg),
			"Round" => Operator::Single(Single::Round),
			"Floor" => Operator::Single(Single::Floor),
			"Ceil" => Operator::Single(Single::Ceil),
			"Sqrt" => Operator::Single(Single::Sqrt),
			"Not" => Operator::Single(Single::Not),
			"Add" => Operator::Double(Double::Add),
			"Sub" => Operator::Double(Double::Sub),
			"Mul" => Operator::Double(Double::Mul),
			"Div" => Operator::Double(Double::Div),
			"And" => Operator::Double(Double::And),
			"Or" => Operator::Double(Double::Or),
			"Equal" => Operator::Compare(Comparison::Equal),
			"Greater" => Operator::Compare(Comparison::Greater),
			"GreaterOrEqual" => Operator::Compare(Comparison::GreaterOrEqual),
			"Less" => Operator::Compare(Comparison::Less),
			"LessOrEqual" => Operator::Compare(Comparison::LessOrEqual),
			"Where" => Operator::Where,
			"Max" => Operator::Max,
			"Min" => Operator::Min,
			"Clip" => Operator::Clip {
				low: there(1),
				high: there(2),
			},
			"Cast" => Operator::Cast,
			"Transpose" => {
				let rank = rank(self, 0)?;
				let axes: Vec<usize> = match ints(node, "perm") {
					Some(perm) => perm
						.iter()
						.map(|p| axis(*p, rank))
						.collect::<Result<_, _>>()?,
					None => (0..rank).rev().collect(),
				};
				Operator::Transpose(axes.into_iter().map(narrow).collect::<Result<_, _>>()?)
			}
			"Concat" => Operator::Concat(whole_axis(self, 0)?),
			"Gather" => Operator::Gather(whole_axis(self, 0)?),
			"ScatterElements" => Operator::Scatter(whole_axis(self, 0)?),
			"MatMul" => Operator::MatMul,
			"MatMulInteger" => Operator::MatMulInteger([there(2), there(3)]),
			"ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceSumSquare" => {
				let axes = self.reduced(node)?.into_iter().map(narrow);
				Operator::Reduce {
					how: match operator {
						"ReduceMax" => Reduction::Max,
						"ReduceMin" => Reduction::Min,
						"ReduceSum" => Reduction::Sum,
						_ => Reduction::SumSquare,
					},
					axes: axes.collect::<Result<_, _>>()?,
				}
			}
			_ => return Err("the judge has no definition of it".into()),
		};
		let inputs: Vec<_> = data(node)
			.iter()
			.map(String::as_str)
			.filter(|name| !name.is_empty())
			.collect();
		let output = self.signature(&node.output[0])?;
		self.add(&node.output[0], made, &inputs, output)
	}

	/// Where a slice begins along each axis.
	fn starts(&self, node: &Node) -> Result<Vec<u32>, String> {
		let shape = &self.value(&node.input[0])?.shape;
		let numbers = |n: usize| -> Result<Option<Vec<i64>>, String> {
			match node.input.get(n).filter(|name| !name.is_empty()) {
				None => Ok(None),
				Some(name) => Ok(self.value(name)?.numbers()),
			}
		};
		let starts = numbers(1)?.ok_or("it has no starts")?;
		let axes = numbers(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
		let mut all = vec![0; shape.len()];
		for (start, at) in starts.iter().zip(axes) {
			let at = axis(at, shape.len())?;
			let length = shape[at].as_ref().and_then(Dim::known);
			let length = length.ok_or("it cuts an axis of open length")?;
			let start = if *start < 0 {
				start.saturating_add(length)
			} else {
				*start
			};
			all[at] = start.clamp(0, length) as u32;
		}
		Ok(all)
	}
}
