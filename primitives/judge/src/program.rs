//! What a graph computes, as the judge reads it: a list of rules, one for each tensor, in an order in which a rule names tensors before
//! its own only.
//!
//! It is made from a graph whose proof shows that it is of the class, by a program that anybody can run again. A manifest of a judged
//! class carries the root over its rules; the weights are in it as roots, too, so that it says all that there is to say of a model but
//! its tokenizer and template.
//!
//! Shapes are computed when the graph is made, not by the judge: an operator that only says how long something is stands in no
//! program. What is left open is how long a few dimensions are ([`Lengths`]).

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	float::{Arithmetic, Towards},
	tree::{self, Hash, Tree},
	value::{Fault, Kind},
};

/// Dimensions that a program may leave open.
pub const OPEN: usize = 3;
/// Most dimensions of a tensor.
pub const RANK: usize = 8;
/// Most tensors that one is made of.
pub const INPUTS: usize = 16;
/// Most bytes of a rule.
pub const RULE: usize = 2_048;
/// Most elements of a tensor.
pub const ELEMENTS: u64 = 1 << 40;
/// Most tensors of a program.
pub const TENSORS: u32 = 1 << 20;

/// How long the open dimensions are: those of the graph's inputs, in the order in which they first stand there. For a language model
/// texts at a time, tokens and slots.
pub type Lengths = [u32; OPEN];

/// A dimension: a number, times open ones.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Dim {
	/// The number.
	#[codec(compact)]
	pub factor: u32,
	/// How often it is multiplied with each open one.
	pub powers: [u8; OPEN],
}

/// Type and shape of a tensor, and the order of its elements in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Signature {
	/// Type of its elements.
	pub kind: Kind,
	/// Its dimensions.
	pub shape: Vec<Dim>,
	/// The axis along which elements lie side by side; the others are in their order. It is the last one unless something adds up along
	/// another: then that, so that what is added stands together. For weights that means columns.
	pub along: u8,
}

/// A tensor that a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Operand {
	/// Its number.
	#[codec(compact)]
	pub tensor: u32,
	/// What it is.
	pub signature: Signature,
}

/// What two numbers are compared for.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Comparison {
	/// a = b
	Equal,
	/// a > b
	Greater,
	/// a ≥ b
	GreaterOrEqual,
	/// a < b
	Less,
	/// a ≤ b
	LessOrEqual,
}

/// What is done to one number.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Single {
	/// Its magnitude.
	Abs,
	/// It with the other sign.
	Neg,
	/// Rounded, ties to even.
	Round,
	/// Rounded down.
	Floor,
	/// Rounded up.
	Ceil,
	/// Its root.
	Sqrt,
	/// Not it.
	Not,
}

/// What is done to two numbers.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Double {
	/// a + b
	Add,
	/// a - b
	Sub,
	/// a · b
	Mul,
	/// a / b
	Div,
	/// Both.
	And,
	/// Either.
	Or,
}

/// What a row of numbers is made into.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Reduction {
	/// The sum of whole numbers.
	Sum,
	/// The sum of squares of whole numbers.
	SumSquare,
	/// The largest.
	Max,
	/// The smallest.
	Min,
}

/// How a tensor is made. Operators are ONNX's, and broadcast as they do.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Operator {
	/// It is fed; its root is known to whoever judges.
	Input(u8),
	/// It stands in the model's files.
	Constant(Hash),
	/// 0, 1, 2, …
	Count,
	/// Zero everywhere: a cache that nothing was written to.
	Zeros,
	/// The same elements in another shape: Identity, Reshape, Squeeze, Unsqueeze.
	Copy,
	/// Something of one number.
	Single(Single),
	/// Something of two.
	Double(Double),
	/// Two are compared.
	Compare(Comparison),
	/// The second where the first is true, the third elsewhere.
	Where,
	/// The largest of all inputs.
	Max,
	/// The smallest of all inputs.
	Min,
	/// The first, but no less than one input and no more than another, of which either may be missing.
	Clip {
		/// There is a least.
		low: bool,
		/// There is a most.
		high: bool,
	},
	/// Another type.
	Cast,
	/// Stretched to a shape.
	Expand,
	/// Axes in another order.
	Transpose(Vec<u8>),
	/// A part that begins here: Slice, Split.
	Part(Vec<u32>),
	/// One after the other along an axis.
	Concat(u8),
	/// Rows of the first that the second names.
	Gather(u8),
	/// The first, with the third written where the second says.
	Scatter(u8),
	/// A matrix product.
	MatMul,
	/// A matrix product of bytes, less what stands for zero in each factor.
	MatMulInteger([bool; 2]),
	/// Rows along these axes become one number.
	Reduce {
		/// How.
		how: Reduction,
		/// Along what, rising.
		axes: Vec<u8>,
	},
	/// Where along the last axis the largest is; of equal ones the first.
	Best,
}

/// How one tensor is made.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Rule {
	/// What is done.
	pub operator: Operator,
	/// To what.
	pub inputs: Vec<Operand>,
	/// What comes out.
	pub output: Signature,
}

/// All rules of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Program {
	/// One for each tensor.
	pub rules: Vec<Rule>,
}

impl From<Double> for Option<Arithmetic> {
	fn from(double: Double) -> Self {
		match double {
			Double::Add => Some(Arithmetic::Add),
			Double::Sub => Some(Arithmetic::Sub),
			Double::Mul => Some(Arithmetic::Mul),
			Double::Div => Some(Arithmetic::Div),
			Double::And | Double::Or => None,
		}
	}
}

impl Single {
	/// Where to it rounds, if it does.
	pub(crate) fn towards(self) -> Option<Towards> {
		match self {
			Self::Round => Some(Towards::Nearest),
			Self::Floor => Some(Towards::Floor),
			Self::Ceil => Some(Towards::Ceil),
			_ => None,
		}
	}
}

impl Dim {
	/// A number.
	pub const fn number(factor: u32) -> Self {
		Self {
			factor,
			powers: [0; OPEN],
		}
	}

	/// How long it is.
	pub fn length(&self, lengths: &Lengths) -> Result<u64, Fault> {
		let open = lengths.iter().zip(self.powers);
		open.flat_map(|(length, times)| core::iter::repeat_n(*length, times.into()))
			.try_fold(u64::from(self.factor), |all, length| {
				all.checked_mul(length.into())
			})
			.filter(|length| *length <= ELEMENTS)
			.ok_or(Fault::TooLarge)
	}
}

impl Signature {
	/// Its dimensions in numbers.
	pub fn dims(&self, lengths: &Lengths) -> Result<Dims, Fault> {
		if self.shape.len() > RANK {
			return Err(Fault::OtherRule);
		}
		let dims: Result<_, _> = self.shape.iter().map(|dim| dim.length(lengths)).collect();
		Dims::new(dims?)
	}
}

/// Dimensions in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims {
	dims: Vec<u64>,
	count: u64,
}

impl Dims {
	pub(crate) fn new(dims: Vec<u64>) -> Result<Self, Fault> {
		let count = dims
			.iter()
			.try_fold(1u64, |all, dim| all.checked_mul(*dim))
			.filter(|count| *count <= ELEMENTS)
			.ok_or(Fault::TooLarge)?;
		Ok(Self { dims, count })
	}

	/// Elements.
	pub fn count(&self) -> u64 {
		self.count
	}

	/// Each dimension.
	pub fn all(&self) -> &[u64] {
		&self.dims
	}

	/// Where an element stands along each axis.
	pub(crate) fn place(&self, mut element: u64) -> Vec<u64> {
		let mut place = alloc::vec![0; self.dims.len()];
		for (at, dim) in place.iter_mut().zip(&self.dims).rev() {
			// An element exists only where no dimension is zero.
			*at = element % (*dim).max(1);
			element /= (*dim).max(1);
		}
		place
	}

	/// The element at a place.
	pub(crate) fn element(&self, place: &[u64]) -> Result<u64, Fault> {
		if place.len() != self.dims.len() {
			return Err(Fault::OtherRule);
		}
		let axes = place.iter().zip(&self.dims);
		axes.into_iter()
			.try_fold(0, |element, (at, dim)| match at < dim {
				true => Ok(element * dim + at),
				false => Err(Fault::NoSuchPlace),
			})
	}

	/// The element that broadcasting puts at a place of a larger shape.
	pub(crate) fn stretched(&self, place: &[u64]) -> Result<u64, Fault> {
		let more = place.len().checked_sub(self.dims.len());
		let place = &place[more.ok_or(Fault::OtherRule)?..];
		let axes = place.iter().zip(&self.dims);
		axes.into_iter()
			.try_fold(0, |element, (at, dim)| match dim {
				1 => Ok(element),
				dim if at < dim => Ok(element * dim + at),
				_ => Err(Fault::OtherRule),
			})
	}

	/// Where an element stands in the order of a trace.
	pub fn position(&self, along: u8, element: u64) -> Result<u64, Fault> {
		let along = usize::from(along);
		if along + 1 >= self.dims.len() {
			return Ok(element);
		}
		let inner: u64 = self.dims[along + 1..].iter().product();
		let (length, inner) = (self.dims[along].max(1), inner.max(1));
		let (outer, within) = (element / (length * inner), element % (length * inner));
		Ok((outer * inner + within % inner) * length + within / inner)
	}

	/// The element that stands there.
	pub fn at_position(&self, along: u8, position: u64) -> Result<u64, Fault> {
		let along = usize::from(along);
		if along + 1 >= self.dims.len() {
			return Ok(position);
		}
		let inner: u64 = self.dims[along + 1..].iter().product();
		let (length, inner) = (self.dims[along].max(1), inner.max(1));
		let (outer, within) = (position / (length * inner), position % (length * inner));
		Ok((outer * length + within % length) * inner + within / length)
	}
}

impl Program {
	/// The tree over its rules.
	pub fn tree(&self) -> Tree {
		Tree::new(self.rules.iter().map(|rule| rule.hash()).collect())
	}

	/// Fails unless every rule is within bounds and takes tensors before its own, as they are said to be.
	pub fn check(&self) -> Result<(), Fault> {
		if self.rules.is_empty() || self.rules.len() > TENSORS as usize {
			return Err(Fault::OtherRule);
		}
		for (n, rule) in self.rules.iter().enumerate() {
			let known = |operand: &Operand| {
				let before = self.rules[..n].get(operand.tensor as usize);
				before.is_some_and(|rule| rule.output == operand.signature)
			};
			let bounded = rule.inputs.len() <= INPUTS
				&& rule.output.shape.len() <= RANK
				&& rule.encoded_size() <= RULE;
			if !bounded || !rule.inputs.iter().all(known) {
				return Err(Fault::OtherRule);
			}
		}
		Ok(())
	}
}

impl Rule {
	/// Its leaf in the program's tree.
	pub fn hash(&self) -> Hash {
		tree::leaf(&self.encode())
	}
}
