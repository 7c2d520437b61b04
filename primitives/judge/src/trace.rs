//! A commitment to all numbers of one run, and proofs of some of them.
//!
//! A trace is one tree. Its upper part has a leaf for each rule of the [`crate::program`], in its order: the root of that tensor's own
//! tree. Constants stand there with the roots that the program has for them, and what was fed with the root of what was to be fed. A
//! tensor's tree is over pieces of [`LEAF`] bytes of its elements, little end first, in the order that its signature says.
//!
//! **No zero of a trace is negative.** The sign of a zero that a sum, a Max or rounding made may differ between honest machines, and no
//! operator of the class makes anything else of it than another zero: nothing is divided by zero, so the sign reaches no other number.

use alloc::{
	collections::{BTreeMap, BTreeSet},
	vec::Vec,
};

use codec::{Decode, DecodeWithMemTracking, Encode};
use scale_info::TypeInfo;

use crate::{
	element::{Definition, Elements, Partial},
	program::{Dims, Lengths, Rule, Signature},
	tree::{self, Hash, Tree},
	value::{Fault, Value},
};

/// Bytes of a leaf.
pub const LEAF: usize = 128;

/// Leaves of a tensor.
pub fn leaves(signature: &Signature, lengths: &Lengths) -> Result<u64, Fault> {
	let bytes = signature.dims(lengths)?.count() * signature.kind.size() as u64;
	Ok(bytes.div_ceil(LEAF as u64))
}

/// Bytes of one leaf of a tensor.
pub fn leaf_length(signature: &Signature, lengths: &Lengths, leaf: u64) -> Result<usize, Fault> {
	let bytes = signature.dims(lengths)?.count() * signature.kind.size() as u64;
	let left = bytes.saturating_sub(leaf * LEAF as u64);
	Ok(left.min(LEAF as u64) as usize)
}

/// Leaf and byte within it at which an element stands.
fn place(signature: &Signature, dims: &Dims, element: u64) -> Result<(u64, usize), Fault> {
	let size = signature.kind.size();
	let position = dims.position(signature.along, element)?;
	// Sizes of elements divide that of a leaf.
	let within = LEAF / size;
	Ok((
		position / within as u64,
		(position % within as u64) as usize * size,
	))
}

/// The element that stands at a byte of a leaf.
pub fn element_at(
	signature: &Signature,
	lengths: &Lengths,
	leaf: u64,
	nth: usize,
) -> Result<u64, Fault> {
	let dims = signature.dims(lengths)?;
	let position = leaf * (LEAF / signature.kind.size()) as u64 + nth as u64;
	if position >= dims.count() {
		return Err(Fault::NoSuchPlace);
	}
	dims.at_position(signature.along, position)
}

/// Some leaves of one tensor, and the way to a trace's root.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Opened {
	/// The tensor.
	#[codec(compact)]
	pub tensor: u32,
	/// Numbers of leaves, rising, and their bytes.
	pub leaves: Vec<(u32, Vec<u8>)>,
	/// Hashes beside them in the tensor's tree.
	pub beside: Vec<Hash>,
	/// Hashes beside the tensor's root in the upper tree.
	pub above: Vec<Hash>,
}

/// What an element is computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Proof {
	/// Of each tensor that is looked at.
	pub opened: Vec<Opened>,
}

/// Why a proof shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Unproven {
	/// It opens what the rule does not take, or something twice.
	OtherTensor,
	/// Its hashes do not lead to the trace's root, or are more than are needed.
	OtherRoot,
	/// An element that is needed is not opened.
	Missing,
	/// There is none, by what was committed to.
	Fault(Fault),
}

impl From<Fault> for Unproven {
	fn from(fault: Fault) -> Self {
		Self::Fault(fault)
	}
}

/// Elements that a proof has opened.
pub struct Shown<'p> {
	rule: &'p Rule,
	dims: Vec<Dims>,
	leaves: BTreeMap<(u32, u64), &'p [u8]>,
}

impl<'p> Shown<'p> {
	/// What a proof opens of the tensors that a rule takes, in a trace of so many tensors with this root.
	pub fn new(
		proof: &'p Proof,
		definition: &Definition<'p>,
		rule: &'p Rule,
		(lengths, tensors, root): (&Lengths, u32, &Hash),
	) -> Result<Self, Unproven> {
		let mut leaves = BTreeMap::new();
		let mut before = None;
		for opened in &proof.opened {
			if before.is_some_and(|before| before >= opened.tensor) {
				return Err(Unproven::OtherTensor);
			}
			before = Some(opened.tensor);
			let mut inputs = rule.inputs.iter();
			let input = inputs.find(|input| input.tensor == opened.tensor);
			let signature = &input.ok_or(Unproven::OtherTensor)?.signature;
			let mut hashes = Vec::with_capacity(opened.leaves.len());
			for (n, bytes) in &opened.leaves {
				let n = u64::from(*n);
				let length = leaf_length(signature, lengths, n)?;
				if length == 0 || bytes.len() != length {
					return Err(Unproven::OtherRoot);
				}
				hashes.push((n, tree::leaf(bytes)));
				leaves.insert((opened.tensor, n), &bytes[..]);
			}
			let depth = tree::depth(self::leaves(signature, lengths)?);
			let of_tensor = tree::climb(depth, &hashes, &opened.beside);
			let of_tensor = of_tensor.ok_or(Unproven::OtherRoot)?;
			let one = [(u64::from(opened.tensor), of_tensor)];
			let all = tree::climb(tree::depth(tensors.into()), &one, &opened.above);
			if all.as_ref() != Some(root) {
				return Err(Unproven::OtherRoot);
			}
		}
		let dims: Result<_, _> = (0..rule.inputs.len())
			.map(|n| definition.input(n).cloned())
			.collect();
		Ok(Self {
			rule,
			dims: dims?,
			leaves,
		})
	}
}

impl Elements for Shown<'_> {
	type Error = Unproven;

	fn get(&mut self, input: usize, element: u64) -> Result<Value, Unproven> {
		let operand = self.rule.inputs.get(input).ok_or(Fault::OtherRule)?;
		let (leaf, byte) = place(&operand.signature, &self.dims[input], element)?;
		let bytes = self.leaves.get(&(operand.tensor, leaf));
		let bytes = bytes.ok_or(Unproven::Missing)?;
		let bytes = bytes.get(byte..).ok_or(Unproven::Missing)?;
		Ok(operand.signature.kind.read(bytes)?)
	}
}

/// A tensor as whoever ran the graph keeps it: its elements in the order of a trace, and its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
	bytes: Vec<u8>,
	tree: Tree,
}

impl Committed {
	/// Of a tensor's bytes, little end first, in the order of ONNX.
	pub fn new(signature: &Signature, lengths: &Lengths, raw: &[u8]) -> Result<Self, Fault> {
		let dims = signature.dims(lengths)?;
		let size = signature.kind.size();
		if raw.len() as u64 != dims.count() * size as u64 {
			return Err(Fault::OtherKind);
		}
		let mut bytes = Vec::with_capacity(raw.len());
		let plain = signature.kind.width().is_none();
		let in_order = usize::from(signature.along) + 1 >= dims.all().len();
		if plain && in_order {
			bytes.extend_from_slice(raw);
		} else {
			for position in 0..dims.count() {
				let element = dims.at_position(signature.along, position)? as usize;
				let value = signature.kind.read(&raw[element * size..])?;
				value.write(signature.kind, &mut bytes)?;
			}
		}
		Ok(Self::of_bytes(bytes))
	}

	/// Of bytes that are in the order of a trace.
	pub fn of_bytes(bytes: Vec<u8>) -> Self {
		let tree = Tree::new(bytes.chunks(LEAF).map(tree::leaf).collect());
		Self { bytes, tree }
	}

	/// The tensor's root.
	pub fn root(&self) -> Hash {
		self.tree.root()
	}

	/// Its tree.
	pub fn tree(&self) -> &Tree {
		&self.tree
	}

	/// Its elements in the order of a trace.
	pub fn bytes(&self) -> &[u8] {
		&self.bytes
	}

	/// The bytes of a leaf; none if there is no such leaf.
	pub fn leaf(&self, n: u64) -> &[u8] {
		let from = usize::try_from(n).ok().and_then(|n| n.checked_mul(LEAF));
		let from = from.unwrap_or(usize::MAX).min(self.bytes.len());
		&self.bytes[from..self.bytes.len().min(from + LEAF)]
	}

	/// An element.
	pub fn get(
		&self,
		signature: &Signature,
		lengths: &Lengths,
		element: u64,
	) -> Result<Value, Fault> {
		self.at(signature, &signature.dims(lengths)?, element)
	}

	fn at(&self, signature: &Signature, dims: &Dims, element: u64) -> Result<Value, Fault> {
		if element >= dims.count() {
			return Err(Fault::NoSuchPlace);
		}
		let at = dims.position(signature.along, element)? as usize * signature.kind.size();
		let bytes = self.bytes.get(at..).ok_or(Fault::NoSuchPlace)?;
		signature.kind.read(bytes)
	}
}

/// Tensors of a run by their numbers.
pub trait Tensors {
	/// One of them.
	fn tensor(&self, n: u32) -> &Committed;
}

impl Tensors for Vec<Committed> {
	fn tensor(&self, n: u32) -> &Committed {
		&self[n as usize]
	}
}

/// Elements of whole tensors, of which it is noted which leaves were looked at.
pub struct Known<'t> {
	tensors: &'t dyn Tensors,
	rule: &'t Rule,
	dims: Vec<Dims>,
	seen: BTreeMap<u32, BTreeSet<u64>>,
}

impl<'t> Known<'t> {
	/// What a rule takes.
	pub fn new(tensors: &'t dyn Tensors, rule: &'t Rule, lengths: &Lengths) -> Result<Self, Fault> {
		let dims = rule.inputs.iter().map(|i| i.signature.dims(lengths));
		Ok(Self {
			tensors,
			rule,
			dims: dims.collect::<Result<_, _>>()?,
			seen: BTreeMap::new(),
		})
	}

	/// A proof of all that was looked at. `above` gives the hashes beside a tensor's root in the trace that it is proven against.
	pub fn proof(self, above: &dyn Fn(u32) -> Vec<Hash>) -> Proof {
		let opened = self.seen.into_iter().map(|(tensor, leaves)| {
			let committed = self.tensors.tensor(tensor);
			let leaves: Vec<_> = leaves.into_iter().collect();
			Opened {
				tensor,
				beside: committed.tree.beside(&leaves),
				leaves: leaves
					.iter()
					.map(|n| (*n as u32, committed.leaf(*n).to_vec()))
					.collect(),
				above: above(tensor),
			}
		});
		Proof {
			opened: opened.collect(),
		}
	}
}

impl Elements for Known<'_> {
	type Error = Fault;

	fn get(&mut self, input: usize, element: u64) -> Result<Value, Fault> {
		let operand = self.rule.inputs.get(input).ok_or(Fault::OtherRule)?;
		let (leaf, _) = place(&operand.signature, &self.dims[input], element)?;
		self.seen.entry(operand.tensor).or_default().insert(leaf);
		let tensor = self.tensors.tensor(operand.tensor);
		tensor.at(&operand.signature, &self.dims[input], element)
	}
}

/// Elements of whole tensors.
pub struct Plain<'t> {
	tensors: &'t dyn Tensors,
	rule: &'t Rule,
	dims: Vec<Dims>,
}

impl<'t> Plain<'t> {
	/// What a rule takes.
	pub fn new(tensors: &'t dyn Tensors, rule: &'t Rule, lengths: &Lengths) -> Result<Self, Fault> {
		let known = Known::new(tensors, rule, lengths)?;
		Ok(Self {
			tensors,
			rule,
			dims: known.dims,
		})
	}
}

impl Elements for Plain<'_> {
	type Error = Fault;

	fn get(&mut self, input: usize, element: u64) -> Result<Value, Fault> {
		let operand = self.rule.inputs.get(input).ok_or(Fault::OtherRule)?;
		let tensor = self.tensors.tensor(operand.tensor);
		tensor.at(&operand.signature, &self.dims[input], element)
	}
}

/// What a rule makes of whole tensors, in the order of a trace. Fails for what is fed, and for constants.
pub fn compute(tensors: &dyn Tensors, rule: &Rule, lengths: &Lengths) -> Result<Committed, Fault> {
	let definition = Definition::new(rule, lengths)?;
	let mut elements = Plain::new(tensors, rule, lengths)?;
	let dims = definition.output().clone();
	let mut bytes = Vec::new();
	for position in 0..dims.count() {
		let element = dims.at_position(rule.output.along, position)?;
		let value = definition.element(element, &mut elements)?;
		value.write(rule.output.kind, &mut bytes)?;
	}
	Ok(Committed::of_bytes(bytes))
}

/// What some terms of an element come to, by whole tensors.
pub fn partial(
	tensors: &dyn Tensors,
	rule: &Rule,
	lengths: &Lengths,
	element: u64,
	range: (u64, u64),
) -> Result<Partial, Fault> {
	let definition = Definition::new(rule, lengths)?;
	let mut elements = Plain::new(tensors, rule, lengths)?;
	definition.part(element, range, &mut elements)
}
