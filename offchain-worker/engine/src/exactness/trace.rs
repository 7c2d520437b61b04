//! Finding the node that broke the bits: a graph is run in two ways with the values between its nodes as outputs.

use std::{
	borrow::Cow,
	collections::HashSet,
	path::{Path, PathBuf},
};

use consilience_primitives::tensor::DataType;
use half::{bf16, f16};

use super::{reference::distance, traps, Cause, Culprit};
use crate::{
	onnx::{with_outputs, Program},
	session::Graph,
	tensor::Raw,
	EngineError,
};

/// Values that are looked at in one run, if texts are short.
const GROUP: usize = 256;
/// Numbers of one value, roughly, at which that many are still held at a time.
const ROWS: usize = 64;
/// Ways to read an axis within dimensions that are tried before two values count as unlike.
const READINGS: usize = 64;

/// A graph as it is traced.
pub(super) struct Traced<'t> {
	/// Where its external data are.
	path: &'t Path,
	bytes: &'t [u8],
	program: &'t Program,
	threads: usize,
	/// Its inputs by name.
	inputs: &'t [(String, Raw)],
}

/// How values of two runs lie in each other where their shapes differ: along one axis, which may be a dimension or be merged into
/// one with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
	/// Length of the axis in the first and in the second run.
	pub(super) lengths: (usize, usize),
	/// Where what is compared begins in each.
	pub(super) starts: (usize, usize),
	/// How much of it is compared.
	pub(super) count: usize,
}

/// A node that broke the bits.
pub(super) struct Found {
	node: String,
	index: usize,
	operator: String,
	value: String,
	shape: Vec<usize>,
	largest: f64,
	optimized: Option<String>,
	trap: Option<&'static str>,
}

impl Found {
	pub(super) fn culprit(self, way: &str, cause: Cause) -> Culprit {
		Culprit {
			way: way.into(),
			cause,
			node: self.node,
			index: self.index,
			operator: self.operator,
			value: self.value,
			shape: self.shape,
			largest: self.largest,
			optimized: self.optimized,
			trap: self.trap.map(str::to_owned),
		}
	}
}

impl Traced<'_> {
	/// Runs the graph and gives these values; those that are no tensors of a known type are left out.
	fn values(&self, names: &[String]) -> Result<Vec<Option<Raw>>, EngineError> {
		let new: Vec<String> = names
			.iter()
			.filter(|n| !self.program.is_output(n))
			.cloned()
			.collect();
		let bytes = with_outputs(self.bytes, &new);
		let graph = Graph::load_bytes(self.path, &bytes, self.threads)?;
		drop(bytes);
		let inputs = self
			.inputs
			.iter()
			.filter(|(name, _)| graph.has_input(name))
			.map(|(name, raw)| Ok((name.clone(), raw.value()?.into())))
			.collect::<Result<_, EngineError>>()?;
		graph.run(inputs, |outputs| {
			Ok(names
				.iter()
				.map(|name| outputs.get(name).and_then(|v| Raw::of(v).ok()))
				.collect())
		})
	}
}

/// What is run in fact at a level of optimisation: the graph as it is, or what the optimiser makes of it.
pub(super) struct Source<'s> {
	/// Holds what the optimiser made, and is deleted with this.
	_folder: Option<tempfile::TempDir>,
	path: PathBuf,
	bytes: Cow<'s, [u8]>,
	program: Cow<'s, Program>,
}

impl<'s> Source<'s> {
	pub(super) fn new(
		path: &Path,
		bytes: &'s [u8],
		program: &'s Program,
		level: &str,
	) -> Result<Self, EngineError> {
		if level == "disable" {
			return Ok(Self {
				_folder: None,
				path: path.into(),
				bytes: Cow::Borrowed(bytes),
				program: Cow::Borrowed(program),
			});
		}
		let folder = tempfile::Builder::new()
			.prefix("consilience-")
			.tempdir()
			.map_err(|e| EngineError::load(std::env::temp_dir(), e))?;
		let made = folder.path().join("optimized.onnx");
		Graph::optimize(path, level, &made)?;
		let bytes = std::fs::read(&made).map_err(|e| EngineError::load(&made, e))?;
		let program = Program::read(&bytes).map_err(|e| EngineError::load(&made, e))?;
		Ok(Self {
			_folder: Some(folder),
			path: made,
			bytes: Cow::Owned(bytes),
			program: Cow::Owned(program),
		})
	}

	/// This with its threads and inputs.
	pub(super) fn traced<'t>(&'t self, threads: usize, inputs: &'t [(String, Raw)]) -> Traced<'t> {
		Traced {
			path: &self.path,
			bytes: &self.bytes,
			program: &self.program,
			threads,
			inputs,
		}
	}
}

fn operator(node: &crate::onnx::Node) -> String {
	match &node.domain[..] {
		"" | "ai.onnx" => node.op_type.clone(),
		domain => format!("{domain}.{}", node.op_type),
	}
}

/// The first node of the second graph, in topological order, one of whose values differs from that of this name in the first.
/// All values before it are equal, or are of this graph only. `enough` says when to give up.
pub(super) fn first_difference(
	first: &Traced<'_>,
	second: &Traced<'_>,
	axis: Option<Axis>,
	cause: Cause,
	enough: &mut dyn FnMut() -> bool,
) -> Result<Option<Found>, EngineError> {
	let rows = axis.map_or(1, |a| a.lengths.0.max(a.lengths.1)).max(
		first
			.inputs
			.first()
			.map_or(1, |(_, i)| i.shape.iter().product()),
	);
	let group = (GROUP * ROWS / rows.max(1)).clamp(16, GROUP);
	let known: HashSet<&str> = first
		.program
		.nodes
		.iter()
		.flat_map(|n| n.output.iter().map(String::as_str))
		.collect();
	let values: Vec<(usize, &String)> = second
		.program
		.nodes
		.iter()
		.enumerate()
		.filter(|(_, n)| n.op_type != "Constant")
		.flat_map(|(i, n)| n.output.iter().map(move |o| (i, o)))
		.filter(|(_, o)| !o.is_empty() && known.contains(o.as_str()))
		.collect();
	for group in values.chunks(group) {
		if enough() {
			return Err(EngineError::Limit(
				"there was no time left to look for the operator".into(),
			));
		}
		let names: Vec<String> = group.iter().map(|(_, name)| (*name).clone()).collect();
		let (a, b) = (first.values(&names)?, second.values(&names)?);
		for (((index, name), a), b) in group.iter().zip(a).zip(b) {
			let (Some(a), Some(b)) = (a, b) else { continue };
			let Some(largest) = differs(&a, &b, axis) else {
				continue;
			};
			let node = &second.program.nodes[*index];
			let original = first
				.program
				.nodes
				.iter()
				.enumerate()
				.find(|(_, n)| n.output.contains(*name));
			let (index, shown, program) = match original {
				Some((index, node)) => (index, node, first.program),
				None => (*index, node, second.program),
			};
			let trap = traps::of(shown, program, cause);
			return Ok(Some(Found {
				node: shown.label().into(),
				index,
				operator: operator(shown),
				value: (*name).clone(),
				shape: a.shape,
				largest,
				optimized: (operator(node) != operator(shown)).then(|| operator(node)),
				trap,
			}));
		}
	}
	Ok(None)
}

/// Bytes of an element, if all have as many.
fn size(datatype: DataType) -> Option<usize> {
	let bits = datatype.bits()?;
	(bits % 8 == 0).then_some((bits / 8) as usize)
}

fn is_float(datatype: DataType) -> bool {
	use DataType::*;
	matches!(datatype, Fp16 | Bf16 | Fp32 | Fp64)
}

/// An element as a number.
pub(super) fn number(datatype: DataType, bytes: &[u8]) -> f64 {
	fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
		let mut word = [0; N];
		word.copy_from_slice(bytes);
		word
	}
	match datatype {
		DataType::Fp16 => f16::from_le_bytes(array(bytes)).to_f64(),
		DataType::Bf16 => bf16::from_le_bytes(array(bytes)).to_f64(),
		DataType::Fp32 => f64::from(f32::from_le_bytes(array(bytes))),
		DataType::Fp64 => f64::from_le_bytes(array(bytes)),
		DataType::Int8 => f64::from(i8::from_le_bytes(array(bytes))),
		DataType::Int16 => f64::from(i16::from_le_bytes(array(bytes))),
		DataType::Int32 => f64::from(i32::from_le_bytes(array(bytes))),
		DataType::Int64 => i64::from_le_bytes(array(bytes)) as f64,
		_ => bytes
			.iter()
			.rev()
			.fold(0.0, |sum, b| sum * 256.0 + f64::from(*b)),
	}
}

/// By how much two values differ at most; nothing if they are equal, or cannot be compared.
fn differs(a: &Raw, b: &Raw, axis: Option<Axis>) -> Option<f64> {
	if a.datatype != b.datatype || a.shape.len() != b.shape.len() {
		return None;
	}
	let Some(axis) = axis else {
		return (a.shape == b.shape && a.data != b.data).then(|| largest(a, b));
	};
	// Whole numbers say where something is, and that differs with the lengths; what is computed are floats.
	if !is_float(a.datatype) {
		return None;
	}
	if a.shape == b.shape {
		return (a.data != b.data).then(|| largest(a, b));
	}
	let mut readings: Vec<Vec<Pairs>> = vec![Vec::new()];
	for (x, y) in a.shape.iter().zip(&b.shape) {
		let of_dimension = axis.pairs(*x, *y);
		readings = readings
			.iter()
			.flat_map(|before| {
				of_dimension.iter().map(|pairs| {
					let mut all = before.clone();
					all.push(pairs.clone());
					all
				})
			})
			.take(READINGS)
			.collect();
	}
	// Equal in any reading is equal: it would be a strange chance otherwise.
	let mut least = None;
	for reading in readings {
		match gathered(a, b, &reading) {
			None => return None,
			Some(largest) => {
				least = Some(least.map_or(largest, |l: f64| l.min(largest)));
			}
		}
	}
	least
}

fn largest(a: &Raw, b: &Raw) -> f64 {
	let Some(size) = size(a.datatype) else {
		return f64::INFINITY;
	};
	a.data
		.chunks_exact(size)
		.zip(b.data.chunks_exact(size))
		.map(|(x, y)| distance(number(a.datatype, x), number(a.datatype, y)))
		.fold(0.0, f64::max)
}

/// Indices of a dimension in the first value, and those in the second with which they are compared.
type Pairs = Vec<(usize, usize)>;

impl Axis {
	/// How the axis may lie in a dimension that has these lengths.
	fn pairs(self, a: usize, b: usize) -> Vec<Pairs> {
		if a == b {
			return vec![(0..a).map(|i| (i, i)).collect()];
		}
		let (n, m) = self.lengths;
		let mut readings = Vec::new();
		if n > 0 && m > 0 && a.is_multiple_of(n) && b.is_multiple_of(m) && a / n == b / m {
			let others = a / n;
			for outer in (1..=others).rev().filter(|o| others.is_multiple_of(*o)) {
				let inner = others / outer;
				let mut pairs = Vec::with_capacity(outer * self.count * inner);
				for o in 0..outer {
					for i in 0..self.count {
						let (x, y) = (self.starts.0 + i, self.starts.1 + i);
						for k in 0..inner {
							pairs.push(((o * n + x) * inner + k, (o * m + y) * inner + k));
						}
					}
				}
				readings.push(pairs);
			}
		} else if self.starts == (0, 0) {
			readings.push((0..a.min(b)).map(|i| (i, i)).collect());
		}
		readings
	}
}

/// By how much the elements at these indices differ at most; nothing if not a bit does.
fn gathered(a: &Raw, b: &Raw, reading: &[Pairs]) -> Option<f64> {
	let size = size(a.datatype)?;
	let strides = |shape: &[usize]| -> Vec<usize> {
		let mut strides = vec![1; shape.len()];
		for i in (1..shape.len()).rev() {
			strides[i - 1] = strides[i] * shape[i];
		}
		strides
	};
	let (of_a, of_b) = (strides(&a.shape), strides(&b.shape));
	let mut places = vec![(0usize, 0usize)];
	for (pairs, (x, y)) in reading.iter().zip(of_a.iter().zip(&of_b)) {
		places = places
			.iter()
			.flat_map(|(i, j)| pairs.iter().map(move |(p, q)| (i + p * x, j + q * y)))
			.collect();
	}
	let mut found = None;
	for (i, j) in places {
		let x = &a.data[i * size..(i + 1) * size];
		let y = &b.data[j * size..(j + 1) * size];
		if x != y {
			let d = distance(number(a.datatype, x), number(a.datatype, y));
			found = Some(found.map_or(d, |f: f64| f.max(d)));
		}
	}
	found
}

#[cfg(test)]
mod tests {
	use super::*;

	fn floats(shape: &[usize], values: &[f32]) -> Raw {
		assert_eq!(shape.iter().product::<usize>(), values.len());
		Raw {
			datatype: DataType::Fp32,
			shape: shape.to_vec(),
			data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
		}
	}

	/// Three tokens fed at once against the last of them alone.
	const LAST: Axis = Axis {
		lengths: (3, 1),
		starts: (2, 0),
		count: 1,
	};

	#[test]
	fn the_last_row_is_found_in_a_dimension_of_its_own() {
		let all = floats(&[1, 3, 2], &[1., 2., 3., 4., 5., 6.]);
		assert_eq!(
			differs(&all, &floats(&[1, 1, 2], &[5., 6.]), Some(LAST)),
			None
		);
		let other = floats(&[1, 1, 2], &[5., 6.5]);
		assert_eq!(differs(&all, &other, Some(LAST)), Some(0.5));
	}

	#[test]
	fn the_last_row_is_found_where_it_is_merged_with_heads() {
		// Two heads, in one dimension with the rows: heads first, or rows first.
		let heads_first = floats(&[6], &[1., 2., 3., 4., 5., 6.]);
		let rows_first = floats(&[6], &[1., 2., 3., 4., 5., 6.]);
		assert_eq!(
			differs(&heads_first, &floats(&[2], &[3., 6.]), Some(LAST)),
			None
		);
		assert_eq!(
			differs(&rows_first, &floats(&[2], &[5., 6.]), Some(LAST)),
			None
		);
		assert!(differs(&rows_first, &floats(&[2], &[4., 6.]), Some(LAST)).is_some());
	}

	#[test]
	fn room_is_compared_as_far_as_both_have_it() {
		let room = Axis {
			lengths: (128, 256),
			starts: (0, 0),
			count: 128,
		};
		let small = floats(&[128], &[1.0; 128]);
		let mut large = vec![1.0; 256];
		large[200] = 9.0;
		assert_eq!(differs(&small, &floats(&[256], &large), Some(room)), None);
		large[100] = 2.0;
		assert_eq!(
			differs(&small, &floats(&[256], &large), Some(room)),
			Some(1.0)
		);
		// Blocks of them.
		let blocks = differs(
			&floats(&[1], &[3.0]),
			&floats(&[2], &[3.0, 4.0]),
			Some(room),
		);
		assert_eq!(blocks, None);
	}

	#[test]
	fn without_an_axis_shapes_are_the_same() {
		let (a, b) = (floats(&[2], &[1., 2.]), floats(&[2], &[1., 2.25]));
		assert_eq!(differs(&a, &a, None), None);
		assert_eq!(differs(&a, &b, None), Some(0.25));
		assert_eq!(differs(&a, &floats(&[1], &[1.]), None), None);
	}
}
