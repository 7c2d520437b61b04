//! What of an ONNX file is looked at here: nodes, and which values are constant. Fields have the names and numbers of
//! `onnx.proto`; what is left out is skipped when a file is read, so that nothing read here is ever written back.

use std::collections::{HashMap, HashSet};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
	#[prost(message, optional, tag = "7")]
	graph: Option<GraphProto>,
	#[prost(message, repeated, tag = "25")]
	functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct FunctionProto {
	#[prost(message, repeated, tag = "7")]
	node: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
	#[prost(message, repeated, tag = "1")]
	node: Vec<Node>,
	#[prost(message, repeated, tag = "5")]
	initializer: Vec<TensorProto>,
	#[prost(message, repeated, tag = "11")]
	input: Vec<ValueInfoProto>,
	#[prost(message, repeated, tag = "12")]
	output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
	#[prost(int64, repeated, tag = "1")]
	dims: Vec<i64>,
	#[prost(int32, tag = "2")]
	data_type: i32,
	#[prost(float, repeated, tag = "4")]
	float_data: Vec<f32>,
	#[prost(string, tag = "8")]
	name: String,
	#[prost(bytes = "vec", tag = "9")]
	raw_data: Vec<u8>,
	#[prost(int32, tag = "14")]
	data_location: i32,
}

impl TensorProto {
	/// The value of a float without dimensions.
	fn scalar(&self) -> Option<f32> {
		if self.data_type != FLOAT || !self.dims.is_empty() || self.data_location != 0 {
			return None;
		}
		match (&self.raw_data[..], &self.float_data[..]) {
			(raw, []) => raw.try_into().ok().map(f32::from_le_bytes),
			([], [value]) => Some(*value),
			_ => None,
		}
	}
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
	#[prost(string, tag = "1")]
	name: String,
}

/// An application of an operator.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
	/// Names of the values it takes; empty for an optional one that is left out.
	#[prost(string, repeated, tag = "1")]
	pub(crate) input: Vec<String>,
	/// Names of the values it gives.
	#[prost(string, repeated, tag = "2")]
	pub(crate) output: Vec<String>,
	/// Its name, which many exporters leave empty.
	#[prost(string, tag = "3")]
	pub(crate) name: String,
	/// The operator.
	#[prost(string, tag = "4")]
	pub(crate) op_type: String,
	#[prost(message, repeated, tag = "5")]
	attribute: Vec<AttributeProto>,
	/// The operator's domain; empty for ONNX's own.
	#[prost(string, tag = "7")]
	pub(crate) domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
	#[prost(string, tag = "1")]
	name: String,
	#[prost(int64, tag = "3")]
	i: i64,
	#[prost(message, optional, boxed, tag = "6")]
	g: Option<Box<GraphProto>>,
	#[prost(message, repeated, tag = "11")]
	graphs: Vec<GraphProto>,
}

/// Numbers of `FLOAT` and `UINT8` among ONNX's element types.
const FLOAT: i32 = 1;
pub(crate) const UINT8: i32 = 2;

/// A graph, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
	/// In topological order, as ONNX demands.
	pub(crate) nodes: Vec<Node>,
	/// Those of subgraphs and functions.
	pub(crate) inner: Vec<Node>,
	/// Values that are stored in the file, or are made from nothing.
	constants: HashSet<String>,
	/// Element types of those that are stored; none where two of one name have different ones.
	elements: HashMap<String, Option<i32>>,
	/// The graph's constants of one float that nothing else can be.
	scalars: HashMap<String, f32>,
	/// Which of the nodes gives a value.
	makers: HashMap<String, usize>,
	outputs: HashSet<String>,
}

impl Program {
	/// Reads a file's bytes.
	pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
		let model = ModelProto::decode(bytes).map_err(|e| format!("broken ONNX: {e}"))?;
		let graph = model.graph.ok_or("not an ONNX model: it holds no graph")?;
		let mut program = Self::default();
		let mut graphs: Vec<&GraphProto> = Vec::new();
		let functions = model.functions.iter().flat_map(|f| &f.node);
		for node in functions {
			program.inner.push(node.clone());
			graphs.extend(node.subgraphs());
		}
		graphs.extend(graph.node.iter().flat_map(Node::subgraphs));
		while let Some(inner) = graphs.pop() {
			program.constants_of(inner);
			program.inner.extend(inner.node.iter().cloned());
			graphs.extend(inner.node.iter().flat_map(Node::subgraphs));
		}
		program.constants_of(&graph);
		program.scalars = Self::scalars_of(&graph);
		program.outputs = graph.output.into_iter().map(|o| o.name).collect();
		program.nodes = graph.node;
		for (n, node) in program.nodes.iter().enumerate() {
			let made = node.output.iter().map(|name| (name.clone(), n));
			program.makers.extend(made);
		}
		Ok(program)
	}

	fn constants_of(&mut self, graph: &GraphProto) {
		for tensor in &graph.initializer {
			self.constants.insert(tensor.name.clone());
			self.elements
				.entry(tensor.name.clone())
				.and_modify(|known| *known = known.filter(|known| *known == tensor.data_type))
				.or_insert(Some(tensor.data_type));
		}
		let made = graph.node.iter().filter(|n| n.op_type == "Constant");
		self.constants
			.extend(made.flat_map(|n| n.output.iter().cloned()));
	}

	/// Constants of one float that are no inputs, which would replace them, and of which there is one of the name.
	fn scalars_of(graph: &GraphProto) -> HashMap<String, f32> {
		let mut names = HashMap::<&str, usize>::new();
		let inputs = graph.input.iter().map(|input| &input.name);
		let stored = graph.initializer.iter().map(|tensor| &tensor.name);
		let made = graph.node.iter().flat_map(|node| &node.output);
		for name in inputs.chain(stored).chain(made) {
			*names.entry(name).or_default() += 1;
		}
		let tensors = graph.initializer.iter();
		tensors
			.filter(|tensor| !tensor.name.is_empty() && names[&tensor.name[..]] == 1)
			.filter_map(|tensor| Some((tensor.name.clone(), tensor.scalar()?)))
			.collect()
	}

	/// Whether an input of a node is there before the graph is run.
	pub(crate) fn is_constant(&self, node: &Node, input: usize) -> bool {
		node.input
			.get(input)
			.is_none_or(|name| self.constants.contains(name))
	}

	/// Whether an input of a node is a stored constant of unsigned 8-bit integers.
	pub(crate) fn is_unsigned_bytes(&self, node: &Node, input: usize) -> bool {
		let element = node
			.input
			.get(input)
			.and_then(|name| self.elements.get(name));
		element == Some(&Some(UINT8))
	}

	/// The node that gives a value.
	pub(crate) fn maker(&self, value: &str) -> Option<&Node> {
		self.makers.get(value).map(|n| &self.nodes[*n])
	}

	/// A constant of one float.
	pub(crate) fn scalar(&self, value: &str) -> Option<f32> {
		self.scalars.get(value).copied()
	}

	/// Whether a value is an output of the graph.
	pub(crate) fn is_output(&self, name: &str) -> bool {
		self.outputs.contains(name)
	}
}

impl Node {
	fn subgraphs(&self) -> Vec<&GraphProto> {
		self.attribute
			.iter()
			.flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs))
			.collect()
	}

	/// Whether it is this operator of ONNX's own.
	pub(crate) fn is(&self, operator: &str) -> bool {
		self.op_type == operator && matches!(&self.domain[..], "" | "ai.onnx")
	}

	/// An attribute of one integer.
	pub(crate) fn integer(&self, name: &str) -> Option<i64> {
		let mut attributes = self.attribute.iter();
		attributes.find(|a| a.name == name).map(|a| a.i)
	}

	/// What people call it: its name, or that of its first output.
	pub(crate) fn label(&self) -> &str {
		match &self.name[..] {
			"" => self.output.first().map_or("", |o| o),
			name => name,
		}
	}
}

/// A graph's file whose values of these names are outputs too. Protocol buffers that follow each other are one: what is appended
/// is a graph with nothing but outputs, and theirs join those that are there.
pub(crate) fn with_outputs(model: &[u8], names: &[String]) -> Vec<u8> {
	let addition = ModelProto {
		graph: Some(GraphProto {
			output: names
				.iter()
				.map(|name| ValueInfoProto { name: name.clone() })
				.collect(),
			..GraphProto::default()
		}),
		functions: Vec::new(),
	};
	let mut bytes = Vec::with_capacity(model.len() + addition.encoded_len());
	bytes.extend_from_slice(model);
	bytes.extend(addition.encode_to_vec());
	bytes
}

#[cfg(test)]
mod tests {
	use super::*;

	fn fixture(name: &str) -> Vec<u8> {
		let path = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
		std::fs::read(path.join("tests/fixtures").join(name)).unwrap()
	}

	#[test]
	fn outputs_join_those_that_are_there() {
		let bytes = fixture("llama-hub/model.onnx");
		let before = Program::read(&bytes).unwrap();
		let inner = before.nodes[0].output[0].clone();
		assert!(before.is_output("logits") && !before.is_output(&inner));
		let after = Program::read(&with_outputs(&bytes, std::slice::from_ref(&inner))).unwrap();
		assert!(after.is_output("logits") && after.is_output(&inner));
		assert_eq!(after.nodes, before.nodes);
	}

	#[test]
	fn weights_are_constant_and_caches_are_not() {
		let program = Program::read(&fixture("llama-hub/model.onnx")).unwrap();
		let gemm = program.nodes.iter().find(|n| n.op_type == "Gemm").unwrap();
		assert!(program.is_constant(gemm, 1) && !program.is_constant(gemm, 0));
		assert!(!program.is_unsigned_bytes(gemm, 1));
	}

	#[test]
	fn a_scalar_is_one_that_nothing_else_can_be() {
		let scalar = || TensorProto {
			data_type: FLOAT,
			name: "bound".into(),
			raw_data: 127f32.to_le_bytes().to_vec(),
			..Default::default()
		};
		let read = |graph: GraphProto| {
			let model = ModelProto {
				graph: Some(graph),
				functions: Vec::new(),
			};
			let program = Program::read(&model.encode_to_vec()).unwrap();
			program.scalar("bound")
		};
		let with = |initializer| GraphProto {
			initializer,
			..Default::default()
		};
		assert_eq!(read(with(vec![scalar()])), Some(127.0));
		let vector = TensorProto {
			dims: vec![1],
			..scalar()
		};
		let elsewhere = TensorProto {
			data_location: 1,
			..scalar()
		};
		assert_eq!(read(with(vec![elsewhere])), None);
		assert_eq!(read(with(vec![scalar(), vector])), None);
		let input = ValueInfoProto {
			name: "bound".into(),
		};
		assert_eq!(
			read(GraphProto {
				input: vec![input],
				..with(vec![scalar()])
			}),
			None
		);
		let node = Node {
			output: vec!["bound".into()],
			..Default::default()
		};
		assert_eq!(
			read(GraphProto {
				node: vec![node],
				..with(vec![scalar()])
			}),
			None
		);
	}

	#[test]
	fn what_is_no_model_is_refused() {
		assert!(Program::read(b"").unwrap_err().contains("no graph"));
		assert!(Program::read(b"<html>").unwrap_err().contains("broken"));
	}
}
