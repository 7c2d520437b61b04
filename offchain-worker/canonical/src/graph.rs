//! Builds an ONNX graph node by node and writes it with its weights beside it, the same bytes every time.

use std::{
	collections::{BTreeMap, HashMap},
	fs::File,
	os::unix::fs::FileExt,
	path::Path,
};

use prost::Message;

use crate::{
	form::Form,
	onnx::{self, Attribute, Dimension, Node, StringPair, Tensor, ValueInfo},
	proof,
	source::Tensors,
	Error,
};

/// Weights start at multiples of this in the data file, so that ONNX Runtime can map them into memory.
const ALIGNMENT: u64 = 4096;

/// Name of the graph's file.
pub(crate) const MODEL_FILE: &str = "model.onnx";
/// Name of the weights' file.
pub(crate) const DATA_FILE: &str = "model.onnx_data";

/// Opset of ONNX's own operators that graphs are written in.
pub(crate) const OPSET: u32 = 17;
/// Version of ONNX's format.
const IR_VERSION: i64 = 8;

/// An attribute of a node.
pub(crate) enum Value<'v> {
	/// One integer.
	Int(i64),
	/// Several.
	Ints(&'v [i64]),
}

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
	/// Fixed.
	Fixed(usize),
	/// Open, by this name.
	Open(&'static str),
}

/// Where the bytes of a weight come from.
pub(crate) enum Data {
	/// They are here.
	Made(Vec<u8>),
	/// They are made from tensors of the source, whose columns stand side by side.
	Source(Vec<(String, Form)>),
	/// The same, and each float is multiplied by one of these; a vector.
	Scaled(Vec<(String, Form)>, Vec<f32>),
}

/// A large constant, stored in the data file.
struct Weight {
	element: i32,
	dims: Vec<usize>,
	data: Data,
}

impl Weight {
	/// Bytes of an element.
	fn size(&self) -> u64 {
		if self.element == onnx::FLOAT {
			4
		} else {
			1
		}
	}

	fn bytes(&self) -> u64 {
		self.dims.iter().fold(self.size(), |n, d| n * *d as u64)
	}

	/// Bytes of a row, and the number of rows; a vector is one row.
	fn rows(&self) -> (u64, usize) {
		match self.dims[..] {
			[rows, _] => (self.bytes() / rows.max(1) as u64, rows),
			_ => (self.bytes(), 1),
		}
	}
}

/// A part of a weight: where in its rows it stands, and how it is made.
struct Piece<'g> {
	name: &'g str,
	offset: u64,
	form: Form,
	/// By what its floats are multiplied.
	factors: Option<&'g [f32]>,
}

impl Piece<'_> {
	fn bytes(&self, values: &[f32], columns: usize) -> Vec<u8> {
		let mut bytes = self.form.bytes(values, columns);
		let first = (self.offset / 4) as usize;
		let factors = self.factors.and_then(|f| f.get(first..)).unwrap_or(&[]);
		for (float, factor) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(factors) {
			*float = (f32::from_le_bytes(*float) * factor).to_le_bytes();
		}
		bytes
	}
}

/// A graph in the making.
#[derive(Default)]
pub(crate) struct Graph {
	nodes: Vec<Node>,
	constants: Vec<Tensor>,
	known: HashMap<(i32, Vec<i64>, Vec<u8>), String>,
	weights: BTreeMap<String, Weight>,
	inputs: Vec<ValueInfo>,
	outputs: Vec<ValueInfo>,
	count: usize,
	/// Whether shapes of all tensors are written.
	shapes: bool,
}

impl Graph {
	/// A graph that is written with the shapes of all its tensors. ONNX Runtime's planner finds a free buffer for a tensor by its shape,
	/// and compares it with every one that it has found no other use for: where shapes are not known, that takes a time that grows
	/// with the square of the nodes.
	pub(crate) fn with_shapes() -> Self {
		Self {
			shapes: true,
			..Self::default()
		}
	}

	fn name(&mut self, kind: &str) -> String {
		self.count += 1;
		format!("{}_{}", kind.to_lowercase(), self.count)
	}

	fn node(
		&mut self,
		kind: &str,
		inputs: &[&str],
		outputs: Vec<String>,
		attributes: &[(&str, Value)],
	) {
		let mut attribute: Vec<_> = attributes
			.iter()
			.map(|(name, value)| {
				let (i, ints, kind) = match value {
					Value::Int(i) => (Some(*i), Vec::new(), onnx::ATTRIBUTE_INT),
					Value::Ints(ints) => (None, ints.to_vec(), onnx::ATTRIBUTE_INTS),
				};
				Attribute {
					name: Some((*name).into()),
					i,
					ints,
					kind: Some(kind),
					..Default::default()
				}
			})
			.collect();
		attribute.sort_by(|a, b| a.name.cmp(&b.name));
		self.nodes.push(Node {
			input: inputs.iter().map(|i| (*i).into()).collect(),
			output: outputs,
			op_type: Some(kind.into()),
			attribute,
			domain: Some(String::new()),
			..Default::default()
		});
	}

	/// Adds a node; gives the name of its output.
	pub(crate) fn op(&mut self, kind: &str, inputs: &[&str]) -> String {
		self.op_with(kind, inputs, &[])
	}

	/// Adds a node with attributes.
	pub(crate) fn op_with(
		&mut self,
		kind: &str,
		inputs: &[&str],
		attributes: &[(&str, Value)],
	) -> String {
		let name = self.name(kind);
		self.node(kind, inputs, vec![name.clone()], attributes);
		name
	}

	/// Adds a node whose output has this name.
	pub(crate) fn op_named(
		&mut self,
		name: &str,
		kind: &str,
		inputs: &[&str],
		attributes: &[(&str, Value)],
	) {
		// Counted like any other, so that names do not depend on which nodes are named.
		self.count += 1;
		self.node(kind, inputs, vec![name.into()], attributes);
	}

	/// Splits a tensor along an axis into pieces of these sizes.
	pub(crate) fn split(&mut self, x: &str, sizes: &[i64], axis: i64) -> Vec<String> {
		let lengths = self.ints(sizes);
		let made: Vec<_> = sizes.iter().map(|_| self.name("Split")).collect();
		let axis = [("axis", Value::Int(axis))];
		self.node("Split", &[x, &lengths], made.clone(), &axis);
		made
	}

	/// Halves a tensor along an axis.
	pub(crate) fn halves(&mut self, x: &str, axis: i64) -> [String; 2] {
		let made = [self.name("Split"), self.name("Split")];
		self.node("Split", &[x], made.to_vec(), &[("axis", Value::Int(axis))]);
		made
	}

	/// A small constant, stored in the graph itself and once.
	fn constant(&mut self, element: i32, dims: Vec<i64>, bytes: Vec<u8>) -> String {
		let next = format!("const_{}", self.known.len());
		let constants = &mut self.constants;
		self.known
			.entry((element, dims.clone(), bytes.clone()))
			.or_insert_with(|| {
				constants.push(Tensor {
					dims,
					data_type: Some(element),
					name: Some(next.clone()),
					raw_data: Some(bytes),
					..Default::default()
				});
				next
			})
			.clone()
	}

	/// A float.
	pub(crate) fn float(&mut self, value: f64) -> String {
		let bytes = (value as f32).to_le_bytes().to_vec();
		self.constant(onnx::FLOAT, Vec::new(), bytes)
	}

	/// A matrix of floats, row after row.
	pub(crate) fn matrix<const N: usize>(&mut self, rows: &[[f64; N]]) -> String {
		let values = rows.iter().flatten();
		let bytes = values.flat_map(|v| (*v as f32).to_le_bytes()).collect();
		let dims = vec![rows.len() as i64, N as i64];
		self.constant(onnx::FLOAT, dims, bytes)
	}

	/// A tensor of floats, row after row.
	pub(crate) fn floats(&mut self, dims: &[usize], values: &[f64]) -> String {
		let bytes = values.iter().flat_map(|v| (*v as f32).to_le_bytes());
		let dims = dims.iter().map(|d| *d as i64).collect();
		self.constant(onnx::FLOAT, dims, bytes.collect())
	}

	/// A double.
	pub(crate) fn double(&mut self, value: f64) -> String {
		self.constant(onnx::DOUBLE, Vec::new(), value.to_le_bytes().to_vec())
	}

	/// An unsigned byte.
	pub(crate) fn byte(&mut self, value: u8) -> String {
		self.constant(onnx::UINT8, Vec::new(), vec![value])
	}

	/// An integer.
	pub(crate) fn int(&mut self, value: i64) -> String {
		self.constant(onnx::INT64, Vec::new(), value.to_le_bytes().to_vec())
	}

	/// A vector of integers.
	pub(crate) fn ints(&mut self, values: &[i64]) -> String {
		let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
		self.constant(onnx::INT64, vec![values.len() as i64], bytes)
	}

	/// A weight; nothing if one of this name is there.
	pub(crate) fn weight(
		&mut self,
		name: &str,
		element: i32,
		dims: Vec<usize>,
		data: impl FnOnce() -> Data,
	) {
		if !self.weights.contains_key(name) {
			let data = data();
			self.weights.insert(
				name.into(),
				Weight {
					element,
					dims,
					data,
				},
			);
		}
	}

	fn value(name: &str, element: i32, shape: &[Dim]) -> ValueInfo {
		let dim = shape
			.iter()
			.map(|dim| match dim {
				Dim::Fixed(n) => Dimension {
					value: Some(*n as i64),
					parameter: None,
				},
				Dim::Open(name) => Dimension {
					value: None,
					parameter: Some((*name).into()),
				},
			})
			.collect();
		ValueInfo {
			name: Some(name.into()),
			kind: Some(onnx::Type {
				tensor: Some(onnx::TensorType {
					element: Some(element),
					shape: Some(onnx::Shape { dim }),
				}),
			}),
		}
	}

	/// Declares an input.
	pub(crate) fn input(&mut self, name: &str, element: i32, shape: &[Dim]) {
		self.inputs.push(Self::value(name, element, shape));
	}

	/// Declares an output.
	pub(crate) fn output(&mut self, name: &str, element: i32, shape: &[Dim]) {
		self.outputs.push(Self::value(name, element, shape));
	}

	/// Where each weight starts, and where the file ends.
	fn offsets(&self) -> (BTreeMap<&str, u64>, u64) {
		let mut end = 0u64;
		let starts = self
			.weights
			.iter()
			.map(|(name, weight)| {
				let start = end.next_multiple_of(ALIGNMENT);
				end = start + weight.bytes();
				(name.as_str(), start)
			})
			.collect();
		(starts, end)
	}

	/// Bytes of the data file.
	pub(crate) fn data_bytes(&self) -> u64 {
		self.offsets().1
	}

	/// Number of nodes.
	pub(crate) fn nodes(&self) -> usize {
		self.nodes.len()
	}

	/// Writes graph and weights into a folder. One tensor of the source is in memory at a time; `progress` hears of bytes
	/// written.
	pub(crate) fn save(
		self,
		folder: &Path,
		source: &mut dyn Tensors,
		progress: &mut dyn FnMut(u64),
	) -> Result<(), Error> {
		let (starts, end) = self.offsets();
		let path = folder.join(DATA_FILE);
		let failed = Error::write(&path);
		let file = File::create(&path).map_err(&failed)?;
		file.set_len(end).map_err(&failed)?;
		let mut put = |name: &str, offset: u64, bytes: &[u8]| -> Result<(), Error> {
			let (row, rows) = self.weights[name].rows();
			let start = starts[name] + offset;
			let width = bytes.len() / rows.max(1);
			if width as u64 == row {
				file.write_all_at(bytes, start).map_err(&failed)?;
			} else {
				for (n, piece) in (0u64..).zip(bytes.chunks(width.max(1))) {
					file.write_all_at(piece, start + n * row).map_err(&failed)?;
				}
			}
			progress(bytes.len() as u64);
			Ok(())
		};
		let mut by_tensor = BTreeMap::<&str, Vec<Piece>>::new();
		for (name, weight) in &self.weights {
			let (parts, factors) = match &weight.data {
				Data::Made(bytes) => {
					put(name, 0, bytes)?;
					continue;
				}
				Data::Source(parts) => (parts, None),
				Data::Scaled(parts, factors) => (parts, Some(factors.as_slice())),
			};
			let mut offset = 0;
			for (tensor, form) in parts {
				by_tensor.entry(tensor).or_default().push(Piece {
					name,
					offset,
					form: *form,
					factors,
				});
				// Columns of the weight are rows of the source.
				let rows = source.shape(tensor).and_then(|s| s.first().copied());
				offset += rows.unwrap_or(0) as u64 * weight.size();
			}
		}
		for (tensor, wanted) in by_tensor {
			let values = source.read(tensor)?;
			let columns = source.shape(tensor).and_then(|s| s.last().copied());
			for piece in wanted {
				let bytes = piece.bytes(&values, columns.unwrap_or(1));
				put(piece.name, piece.offset, &bytes)?;
			}
		}
		let external = self.weights.iter().map(|(name, weight)| Tensor {
			dims: weight.dims.iter().map(|d| *d as i64).collect(),
			data_type: Some(weight.element),
			name: Some(name.clone()),
			external_data: [
				("location", DATA_FILE.into()),
				("offset", starts[name.as_str()].to_string()),
				("length", weight.bytes().to_string()),
			]
			.into_iter()
			.map(|(key, value)| StringPair {
				key: Some(key.into()),
				value: Some(value),
			})
			.collect(),
			data_location: Some(onnx::EXTERNAL),
			..Default::default()
		});
		let external: Vec<_> = external.collect();
		let mut model = onnx::Model {
			ir_version: Some(IR_VERSION),
			graph: Some(onnx::Graph {
				node: self.nodes,
				name: Some("model".into()),
				initializer: self.constants.into_iter().chain(external).collect(),
				input: self.inputs,
				output: self.outputs,
				value_info: Vec::new(),
			}),
			opset_import: vec![onnx::OperatorSet {
				domain: Some(String::new()),
				version: Some(OPSET.into()),
			}],
		};
		if self.shapes {
			let shapes = proof::shapes(&model);
			if let Some(graph) = &mut model.graph {
				graph.value_info = shapes;
			}
		}
		let path = folder.join(MODEL_FILE);
		std::fs::write(&path, model.encode_to_vec()).map_err(Error::write(&path))
	}
}
