//! Proves of a graph, without running it, that its bits depend on no machine.
//!
//! Two rules are shown of every node:
//!
//! 1. **A sum adds whole numbers only**, and the magnitudes of all its terms together stay in the range in which its type holds every
//!    whole number: so no partial sum, in any order, with or without fused multiply-adds, is rounded.
//! 2. **Everything else** stands on a list of operators that give one correctly rounded number for each element, or move elements.
//!
//! The bounds come from what the graph itself says: types, constants, Clip, Round, Cast. Every tensor has an interval that its elements
//! lie in, whether they are whole, and what is known of the sign of its zeros:
//!
//! - *Not-a-number and infinity* do not occur: an operator whose result might not be finite is refused, a division by what might be zero
//!   is. The bits of a not-a-number, its conversion to an integer and its place in a Max differ between processors.
//! - *The sign of a zero* is not settled where a sum or a Max made it. Such a zero may not reach an output; adding a number that is no
//!   negative zero, or a Cast to an integer, settles it.
//! - *A Cast to an integer* must be of whole numbers that the type holds.
//! - *Two 8-bit products* must fit 16 bits, in which some kernels add them, and saturate.
//! - *What indices name* must be there, and what is scattered must go to different places.
//!
//! Two facts come from how a tensor was made, not from intervals: a row divided by its own largest magnitude (times a constant, and not
//! less than a normal number) is bounded by the constant; and x - 2^k · floor(x / 2^k) is within 0 to 2^k - 1.
//!
//! What the proof takes for granted of whoever runs the graph: operators are run as they stand (a Mul and an Add that an optimiser
//! fuses are another operator), in IEEE arithmetic that rounds to nearest and keeps numbers below the normal ones; and of the inputs,
//! what [`Proof::requirements`] says.

mod moves;
mod operators;
mod program;
mod strict;
#[cfg(test)]
mod tests;
mod value;

use std::{
	collections::{BTreeMap, HashMap},
	fmt,
	fs::File,
	io::{Read, Seek, SeekFrom},
	path::{Path, PathBuf},
};

use prost::Message;

pub use self::program::{program, Judged};
use self::value::{is_float, range, Dim, Origin, Shape, Value, Zero, OPEN};
use crate::onnx::{
	self, Graph, Model, Node, StringPair, Tensor, ValueInfo, BOOL, DOUBLE, FLOAT, INT32, INT64,
	INT8, UINT8,
};

/// Versions of ONNX's operators whose definitions the rules know.
const OPSETS: std::ops::RangeInclusive<i64> = 17..=21;

/// Largest graph without its weights that is read.
const MAX_BYTES: u64 = 1 << 31;

/// Elements of a constant whose numbers are kept one by one.
const SHORT: usize = 64;

/// Why a graph is not of the class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
	/// The node, by its name or its first output; empty for what concerns the whole graph.
	pub node: String,
	/// Its operator.
	pub operator: String,
	/// What is wrong with it.
	pub why: String,
}

impl fmt::Display for Refusal {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match &self.node[..] {
			"" => write!(f, "the graph: {}", self.why),
			node => write!(f, "{node} ({}): {}", self.operator, self.why),
		}
	}
}

/// A sum, and how far it can go.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
	/// The node.
	pub node: String,
	/// Its operator.
	pub operator: String,
	/// Type that it adds in.
	pub element: String,
	/// Most terms.
	pub terms: i64,
	/// Magnitudes of all terms together are at most this.
	pub bound: f64,
	/// Up to where the type holds every whole number.
	pub limit: f64,
}

/// What must hold of an input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirement {
	/// Its elements are from zero to less than this.
	Below {
		/// The input.
		input: String,
		/// Numbers that there are.
		count: i64,
	},
	/// The elements of a row differ, and there are slots for all of them.
	Slots {
		/// The input.
		input: String,
	},
	/// Its elements are finite numbers.
	Finite {
		/// The input.
		input: String,
	},
	/// A dimension that the graph leaves open is the same wherever the graph names it, and from one to this.
	AtMost {
		/// The dimension.
		dimension: String,
		/// Its most.
		most: i64,
	},
}

/// What was proven of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
	/// Every sum.
	pub sums: Vec<Sum>,
	/// How often each of the other operators stands in the graph.
	pub operators: BTreeMap<String, usize>,
	/// What must hold of the inputs.
	pub requirements: Vec<Requirement>,
	/// Whether every number that is multiplied in floats has at most eleven bits, so that formats of less than 32 bits hold it too.
	pub eleven_bits: bool,
}

impl Proof {
	/// Of each operator and type, how many sums there are, and the one that comes nearest to its limit.
	pub fn tightest(&self) -> Vec<(usize, &Sum)> {
		let mut kinds = BTreeMap::<_, (usize, &Sum)>::new();
		for sum in &self.sums {
			let (count, tightest) = kinds
				.entry((&sum.operator, &sum.element))
				.or_insert((0, sum));
			*count += 1;
			if sum.bound / sum.limit > tightest.bound / tightest.limit {
				*tightest = sum;
			}
		}
		kinds.into_values().collect()
	}
}

impl fmt::Display for Requirement {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Below { input, count } => write!(f, "{input}: 0 to {}", count - 1),
			Self::Slots { input } => write!(
				f,
				"{input}: different numbers in a row, each less than the slots that there are"
			),
			Self::Finite { input } => write!(f, "{input}: finite numbers"),
			Self::AtMost { dimension, most } => write!(
				f,
				"dimension {dimension}: 1 to {most}, and the same wherever it stands"
			),
		}
	}
}

impl fmt::Display for Proof {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let sums = self.sums.len();
		writeln!(f, "{sums} sums, of whole numbers, each within its type:")?;
		for (count, sum) in self.tightest() {
			writeln!(
				f,
				"  {:5} × {} in {}: at most {} of {} ({:.1} %), {} terms",
				count,
				sum.operator,
				sum.element,
				sum.bound,
				sum.limit,
				100.0 * sum.bound / sum.limit,
				sum.terms,
			)?;
		}
		let others: usize = self.operators.values().sum();
		write!(
			f,
			"{others} other nodes, single rounded operations or moves:"
		)?;
		for (operator, count) in &self.operators {
			write!(f, " {count} {operator},")?;
		}
		write!(f, "\nif")?;
		for requirement in &self.requirements {
			write!(f, "\n  {requirement}")?;
		}
		Ok(())
	}
}

/// Where constants outside the graph's file are read.
trait External {
	/// Hands over so many bytes from an offset of a file, in pieces of a multiple of eight but the last.
	fn read(
		&mut self,
		location: &str,
		offset: u64,
		length: u64,
		see: &mut dyn FnMut(&[u8]),
	) -> Result<(), String>;

	/// Fails if those bytes are not there.
	fn check(&mut self, location: &str, offset: u64, length: u64) -> Result<(), String>;
}

/// Files of a folder.
struct Folder(PathBuf);

impl Folder {
	fn open(&self, location: &str, offset: u64, length: u64) -> Result<File, String> {
		let plain = !location.is_empty() && location != ".." && !location.contains(['/', '\\']);
		if !plain {
			return Err(format!(
				"{location:?} is no name of a file beside the graph"
			));
		}
		let failed = |e: std::io::Error| format!("{location}: {e}");
		let file = File::open(self.0.join(location)).map_err(failed)?;
		let there = file.metadata().map_err(failed)?.len();
		match offset.checked_add(length).is_some_and(|end| end <= there) {
			true => Ok(file),
			false => Err(format!("{location} ends before the constant")),
		}
	}
}

impl External for Folder {
	fn read(
		&mut self,
		location: &str,
		offset: u64,
		length: u64,
		see: &mut dyn FnMut(&[u8]),
	) -> Result<(), String> {
		let failed = |e: std::io::Error| format!("{location}: {e}");
		let mut file = self.open(location, offset, length)?;
		file.seek(SeekFrom::Start(offset)).map_err(failed)?;
		let mut piece = vec![0; 1 << 20];
		let mut left = length;
		while left > 0 {
			let size = left.min(piece.len() as u64);
			let piece = &mut piece[..size as usize];
			file.read_exact(piece).map_err(failed)?;
			see(piece);
			left -= size;
		}
		Ok(())
	}

	fn check(&mut self, location: &str, offset: u64, length: u64) -> Result<(), String> {
		self.open(location, offset, length).map(|_| ())
	}
}

/// Constants outside the file of a graph in the making, of which only shapes are asked.
struct Unwritten;

impl External for Unwritten {
	fn read(&mut self, _: &str, _: u64, _: u64, see: &mut dyn FnMut(&[u8])) -> Result<(), String> {
		see(&1f32.to_le_bytes());
		Ok(())
	}

	fn check(&mut self, _: &str, _: u64, _: u64) -> Result<(), String> {
		Ok(())
	}
}

/// Proves of the graph in a file, whose weights may stand in files beside it, that it is of the integer class. Fails with every
/// node of which that is not shown; what follows from such a node is not looked at.
pub fn prove_integer(path: &Path) -> Result<Proof, Vec<Refusal>> {
	let read = || -> std::io::Result<Vec<u8>> {
		let mut bytes = Vec::new();
		File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
		Ok(bytes)
	};
	let bytes = read().map_err(|e| vec![whole(format!("{}: {e}", path.display()))])?;
	let parent = path.parent().unwrap_or(Path::new(""));
	prove(&bytes, &mut Folder(parent.into()))
}

/// Proves it of a graph's bytes.
fn prove(bytes: &[u8], external: &mut dyn External) -> Result<Proof, Vec<Refusal>> {
	let no_model = || vec![whole("not a model in ONNX's format".into())];
	let model = Model::decode(bytes).map_err(|_| no_model())?;
	let unread = strict::unread(bytes).ok_or_else(no_model)?;
	let mut refusals: Vec<_> = unread
		.into_iter()
		.map(|unread| {
			let nodes = model.graph.iter().flat_map(|g| &g.node);
			match unread.node.and_then(|n| { nodes }.nth(n)) {
				Some(node) => of_node(node, unread.what),
				None => whole(unread.what),
			}
		})
		.collect();
	let mut analysis = Analysis::new(external);
	analysis.model(&model);
	refusals.extend(analysis.refusals);
	if refusals.is_empty() {
		let mut requirements = analysis.requirements;
		requirements.sort();
		requirements.dedup();
		Ok(Proof {
			sums: analysis.sums,
			operators: analysis.operators,
			requirements,
			eleven_bits: analysis.eleven_bits,
		})
	} else {
		Err(refusals)
	}
}

/// Types and shapes of all tensors of a graph, as far as they are known, in the order in which they are made. Open dimensions are named
/// after those of the inputs.
pub(crate) fn shapes(model: &Model) -> Vec<ValueInfo> {
	let mut unwritten = Unwritten;
	let mut analysis = Analysis::new(&mut unwritten);
	analysis.model(model);
	let graph = model.graph.as_ref();
	let made = graph
		.iter()
		.flat_map(|g| g.node.iter().flat_map(|n| &n.output));
	let declared = |name: &String| {
		let mut outputs = graph.iter().flat_map(|g| &g.output);
		outputs.any(|o| o.name.as_ref() == Some(name))
	};
	made.filter(|name| !declared(name))
		.filter_map(|name| {
			let value = analysis.values.get(name)?.as_ref()?;
			let dims: Option<Vec<_>> = value.shape.iter().cloned().collect();
			let dim = dims?.into_iter().map(|dim| match dim.known() {
				Some(n) => onnx::Dimension {
					value: Some(n),
					parameter: None,
				},
				None => onnx::Dimension {
					value: None,
					parameter: Some(dim.label()),
				},
			});
			Some(ValueInfo {
				name: Some(name.clone()),
				kind: Some(onnx::Type {
					tensor: Some(onnx::TensorType {
						element: Some(value.element),
						shape: Some(onnx::Shape { dim: dim.collect() }),
					}),
				}),
			})
		})
		.collect()
}

fn whole(why: String) -> Refusal {
	Refusal {
		node: String::new(),
		operator: String::new(),
		why,
	}
}

fn label(node: &Node) -> String {
	let name = node.name.as_ref().filter(|name| !name.is_empty());
	let name = name.or(node.output.first());
	name.filter(|name| !name.is_empty())
		.cloned()
		.unwrap_or_else(|| "a node without a name".into())
}

fn of_node(node: &Node, why: String) -> Refusal {
	Refusal {
		node: label(node),
		operator: node.op_type.clone().unwrap_or_default(),
		why,
	}
}

/// A graph that is looked through from its inputs to its outputs.
struct Analysis<'e> {
	external: &'e mut dyn External,
	/// What is known of each tensor; nothing of what follows from a node that was refused.
	values: HashMap<String, Option<Value>>,
	refusals: Vec<Refusal>,
	sums: Vec<Sum>,
	operators: BTreeMap<String, usize>,
	requirements: Vec<Requirement>,
	eleven_bits: bool,
}

impl<'e> Analysis<'e> {
	fn new(external: &'e mut dyn External) -> Self {
		Self {
			external,
			values: HashMap::new(),
			refusals: Vec::new(),
			sums: Vec::new(),
			operators: BTreeMap::new(),
			requirements: Vec::new(),
			eleven_bits: true,
		}
	}

	fn refuse(&mut self, why: String) {
		self.refusals.push(whole(why));
	}

	/// Every name has one meaning.
	fn define(&mut self, name: &str, value: Option<Value>) {
		if name.is_empty() || self.values.insert(name.into(), value).is_some() {
			self.refuse(format!("{name:?} is the name of more than one tensor"));
		}
	}

	fn model(&mut self, model: &Model) {
		let versions: Vec<_> = model
			.opset_import
			.iter()
			.map(|o| (o.domain.as_deref().unwrap_or_default(), o.version))
			.collect();
		match versions[..] {
			[("" | "ai.onnx", Some(version))] if OPSETS.contains(&version) => (),
			_ => self.refuse(format!(
				"operators of {versions:?}: only ONNX's own are known, of the versions {} to {}",
				OPSETS.start(),
				OPSETS.end()
			)),
		}
		let Some(graph) = &model.graph else {
			return self.refuse("there is none".into());
		};
		for tensor in &graph.initializer {
			let name = tensor.name.clone().unwrap_or_default();
			let value = self.constant(tensor);
			let value = value.map_err(|why| self.refuse(format!("constant {name:?}: {why}")));
			self.define(&name, value.ok());
		}
		self.inputs(graph);
		for node in &graph.node {
			self.node(node);
		}
		self.declared(graph);
		for output in &graph.output {
			let name = output.name.clone().unwrap_or_default();
			match self.values.get(&name) {
				None => self.refuse(format!("nothing makes the output {name:?}")),
				Some(Some(value)) if is_float(value.element) && value.is_unsettled() => {
					let made = graph.node.iter().find(|n| n.output.contains(&name));
					let why = format!(
						"a zero of the output {name:?} may have either sign: add a number that is no negative zero first"
					);
					self.refusals
						.push(made.map_or_else(|| whole(why.clone()), |n| of_node(n, why.clone())));
				}
				Some(_) => (),
			}
		}
	}

	fn inputs(&mut self, graph: &Graph) {
		for input in &graph.input {
			let name = input.name.clone().unwrap_or_default();
			let kind = input.kind.as_ref().and_then(|k| k.tensor.as_ref());
			let shape = kind.and_then(|k| k.shape.as_ref());
			let (Some(element), Some(shape)) = (kind.and_then(|k| k.element), shape) else {
				self.refuse(format!("input {name:?} has no type or no shape"));
				self.define(&name, None);
				continue;
			};
			let Some((low, high)) = range(element) else {
				self.refuse(format!(
					"input {name:?} is of {}, which is computed with in ways of its own",
					value::name(element)
				));
				self.define(&name, None);
				continue;
			};
			let dims: Shape = shape.dim.iter().map(dimension).collect();
			for dim in dims.iter().flatten().filter(|dim| dim.known().is_none()) {
				self.requirements.push(Requirement::AtMost {
					dimension: dim.label(),
					most: OPEN,
				});
			}
			let axis = dims.len().checked_sub(1);
			let mut value = Value::new(element, dims, low, high);
			if is_float(element) {
				value.zero = Zero::Signed;
				self.requirements.push(Requirement::Finite {
					input: name.clone(),
				});
			}
			value.origin = axis.map(|axis| Origin {
				input: name.clone(),
				axis,
			});
			if let Some(count) = self.looked_up(&name, graph) {
				(value.low, value.high) = (0.0, (count - 1) as f64);
				self.requirements.push(Requirement::Below {
					input: name.clone(),
					count,
				});
			}
			self.define(&name, Some(value));
		}
	}

	/// Rows of the shortest constant table that an input names rows of.
	fn looked_up(&self, input: &str, graph: &Graph) -> Option<i64> {
		let gathers = graph.node.iter().filter(|node| {
			node.op_type.as_deref() == Some("Gather")
				&& node.input.get(1).is_some_and(|i| i == input)
		});
		let tables = gathers.filter_map(|node| {
			let table = self.values.get(node.input.first()?)?.as_ref()?;
			let axis = node
				.attribute
				.iter()
				.find(|a| a.name.as_deref() == Some("axis"))
				.and_then(|a| a.i)
				.unwrap_or(0);
			let axis = operators::axis(axis, table.shape.len()).ok()?;
			table.shape[axis].as_ref()?.known()
		});
		tables.min().filter(|count| *count > 0)
	}

	fn constant(&mut self, tensor: &Tensor) -> Result<Value, String> {
		let element = tensor.data_type.unwrap_or_default();
		let (low, high) = range(element).ok_or_else(|| {
			format!(
				"{} is computed with in ways of its own",
				value::name(element)
			)
		})?;
		let size: u64 = match element {
			INT8 | UINT8 | BOOL => 1,
			FLOAT | INT32 => 4,
			_ => 8,
		};
		let count = tensor.dims.iter().try_fold(1u64, |n, d| {
			u64::try_from(*d).ok().and_then(|d| n.checked_mul(d))
		});
		let count = count.ok_or("its dimensions are none")?;
		let length = count.checked_mul(size).ok_or("its dimensions are none")?;
		let mut seen = Seen::new(element);
		if tensor.data_location == Some(onnx::EXTERNAL) {
			let [location, offset, told] = external(&tensor.external_data)?;
			let number = |text: Option<&str>, otherwise: u64| match text {
				None => Ok(otherwise),
				Some(text) => text.parse().map_err(|_| format!("{text:?} is no number")),
			};
			let offset = number(offset, 0)?;
			if number(told, length)? != length {
				return Err(format!(
					"it is of {length} bytes, and the file says otherwise"
				));
			}
			let location = location.ok_or("it stands nowhere")?;
			if size == 1 {
				// Whatever they are, they are of their type.
				self.external.check(location, offset, length)?;
				(seen.low, seen.high) = (low, high);
			} else {
				let see = &mut |piece: &[u8]| seen.bytes(piece);
				self.external.read(location, offset, length, see)?;
			}
		} else if let Some(raw) = &tensor.raw_data {
			if raw.len() as u64 != length {
				return Err(format!("{} bytes for {count} elements", raw.len()));
			}
			seen.bytes(raw);
		} else {
			let numbers: Vec<f64> = match element {
				FLOAT => tensor.float_data.iter().map(|v| (*v).into()).collect(),
				DOUBLE => tensor.double_data.clone(),
				INT64 => tensor.int64_data.iter().map(|v| *v as f64).collect(),
				_ => tensor.int32_data.iter().map(|v| (*v).into()).collect(),
			};
			if numbers.len() as u64 != count {
				return Err(format!("{} numbers for {count} elements", numbers.len()));
			}
			numbers.into_iter().for_each(|v| seen.number(v));
		}
		if seen.strange {
			return Err("it holds what is no finite number".into());
		}
		let shape = tensor.dims.iter().map(|d| Some(Dim::number(*d))).collect();
		// Of no elements, anything is true.
		let (least, most) = match seen.low <= seen.high {
			true => (seen.low, seen.high),
			false => (0.0, 0.0),
		};
		if least < low || most > high {
			return Err(format!("it holds what {} does not", value::name(element)));
		}
		let short = element == INT64 && tensor.dims.len() < 2 && seen.list.len() as u64 == count;
		let content = seen.list.iter().map(|v| Some(Dim::number(*v as i64)));
		Ok(Value {
			whole: seen.whole,
			zero: match seen.minus_zero {
				true => Zero::Signed,
				false => Zero::Plain,
			},
			content: short.then(|| content.collect()),
			constant: true,
			..Value::new(element, shape, least, most)
		})
	}

	/// What the file says of types and shapes must be what is found: whoever runs the graph plans its memory by it.
	fn declared(&mut self, graph: &Graph) {
		let mut names = HashMap::<&str, Dim>::new();
		let mut wrong = Vec::new();
		for info in graph
			.input
			.iter()
			.chain(&graph.output)
			.chain(&graph.value_info)
		{
			let name = info.name.as_deref().unwrap_or_default();
			let Some(Some(value)) = self.values.get(name) else {
				continue;
			};
			let kind = info.kind.as_ref().and_then(|k| k.tensor.as_ref());
			if kind.and_then(|k| k.element) != Some(value.element) {
				wrong.push(format!(
					"{name:?} is declared of another type than it is of"
				));
			}
			let Some(shape) = kind.and_then(|k| k.shape.as_ref()) else {
				continue;
			};
			if shape.dim.len() != value.shape.len() {
				wrong.push(format!(
					"{name:?} is declared of another rank than it is of"
				));
				continue;
			}
			for (said, found) in shape.dim.iter().zip(&value.shape) {
				let fits = match (said.value, said.parameter.as_deref(), found) {
					(Some(n), _, Some(found)) => found.known().is_none_or(|found| found == n),
					(None, Some(name), Some(found)) if !name.is_empty() => {
						names.entry(name).or_insert_with(|| found.clone()) == found
					}
					_ => true,
				};
				if !fits {
					wrong.push(format!(
						"{name:?} is declared of another shape than it is of"
					));
				}
			}
		}
		wrong.into_iter().for_each(|why| self.refuse(why));
	}
}

/// Location, offset and length of a constant outside the graph's file.
fn external(pairs: &[StringPair]) -> Result<[Option<&str>; 3], String> {
	let mut found = [None; 3];
	for pair in pairs {
		let key = pair.key.as_deref().unwrap_or_default();
		let place = ["location", "offset", "length"]
			.iter()
			.position(|k| *k == key);
		let value = pair.value.as_deref().unwrap_or_default();
		match place.map(|place| found[place].replace(value)) {
			Some(None) => (),
			Some(Some(_)) => return Err(format!("it has more than one {key}")),
			None => return Err(format!("{key:?} of where it stands is not known")),
		}
	}
	Ok(found)
}

fn dimension(dim: &onnx::Dimension) -> Option<Dim> {
	match (dim.value, dim.parameter.as_deref()) {
		(Some(n), _) if n >= 0 => Some(Dim::number(n)),
		(None, Some(name)) if !name.is_empty() => Some(Dim::open(name)),
		_ => None,
	}
}

/// What is seen of a constant's numbers.
struct Seen {
	element: i32,
	low: f64,
	high: f64,
	whole: bool,
	minus_zero: bool,
	/// Whether one is no finite number.
	strange: bool,
	/// The first few.
	list: Vec<f64>,
}

impl Seen {
	fn new(element: i32) -> Self {
		Self {
			element,
			low: f64::INFINITY,
			high: f64::NEG_INFINITY,
			whole: true,
			minus_zero: false,
			strange: false,
			list: Vec::new(),
		}
	}

	fn number(&mut self, value: f64) {
		self.low = self.low.min(value);
		self.high = self.high.max(value);
		self.strange |= !value.is_finite();
		self.whole &= value == value.round_ties_even();
		self.minus_zero |= value == 0.0 && value.is_sign_negative();
		if self.list.len() <= SHORT {
			self.list.push(value);
		}
	}

	fn bytes(&mut self, bytes: &[u8]) {
		let four = |of: &dyn Fn([u8; 4]) -> f64| {
			let numbers: Vec<_> = bytes.as_chunks().0.iter().map(|b| of(*b)).collect();
			numbers
		};
		let eight = |of: &dyn Fn([u8; 8]) -> f64| {
			let numbers: Vec<_> = bytes.as_chunks().0.iter().map(|b| of(*b)).collect();
			numbers
		};
		let numbers: Vec<f64> = match self.element {
			FLOAT => four(&|b| f32::from_le_bytes(b).into()),
			INT32 => four(&|b| i32::from_le_bytes(b).into()),
			DOUBLE => eight(&f64::from_le_bytes),
			INT64 => eight(&|b| i64::from_le_bytes(b) as f64),
			INT8 => bytes.iter().map(|b| f64::from(*b as i8)).collect(),
			_ => bytes.iter().map(|b| f64::from(*b)).collect(),
		};
		numbers.into_iter().for_each(|v| self.number(v));
	}
}
