//! What is known of a tensor without running the graph.

use crate::onnx::{BOOL, DOUBLE, FLOAT, INT32, INT64, INT8, UINT8};

/// An open dimension is at most so long. It is what the sums over the cache are proven for.
pub(super) const OPEN: i64 = 1 << 17;

/// A dimension: a number, times names of open dimensions, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dim {
	pub(super) factor: i64,
	pub(super) names: Vec<String>,
}

/// A shape; what is not known of it is `None`.
pub(crate) type Shape = Vec<Option<Dim>>;

impl Dim {
	pub(super) fn number(factor: i64) -> Self {
		Self {
			factor,
			names: Vec::new(),
		}
	}

	pub(super) fn open(name: &str) -> Self {
		Self {
			factor: 1,
			names: vec![name.into()],
		}
	}

	/// The number, if it is one.
	pub(super) fn known(&self) -> Option<i64> {
		self.names.is_empty().then_some(self.factor)
	}

	pub(super) fn is(&self, n: i64) -> bool {
		self.known() == Some(n)
	}

	pub(super) fn times(&self, other: &Self) -> Option<Self> {
		let mut names = [&self.names[..], &other.names].concat();
		names.sort();
		Some(Self {
			factor: self.factor.checked_mul(other.factor)?,
			names,
		})
	}

	/// What is left of it when it is divided, if that is a dimension.
	pub(super) fn over(&self, other: &Self) -> Option<Self> {
		if other.factor <= 0 || self.factor % other.factor != 0 {
			return None;
		}
		let mut names = self.names.clone();
		for name in &other.names {
			let at = names.iter().position(|n| n == name)?;
			names.remove(at);
		}
		Some(Self {
			factor: self.factor / other.factor,
			names,
		})
	}

	/// The longest that it can be.
	pub(super) fn most(&self) -> Option<i64> {
		let mut names = self.names.iter();
		names.try_fold(self.factor, |most, _| most.checked_mul(OPEN))
	}

	/// A name for it, as graphs have names for open dimensions.
	pub(crate) fn label(&self) -> String {
		let mut label = self.names.join("*");
		if self.factor != 1 {
			label = format!("{}*{label}", self.factor);
		}
		label
	}
}

/// Both shapes stretched to each other, as ONNX has it.
pub(super) fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, String> {
	let rank = a.len().max(b.len());
	let at = |shape: &Shape, i: usize| match (i + shape.len()).checked_sub(rank) {
		Some(i) => shape[i].clone(),
		None => Some(Dim::number(1)),
	};
	(0..rank)
		.map(|i| match (at(a, i), at(b, i)) {
			(Some(a), Some(b)) if a == b => Ok(Some(a)),
			(Some(one), other) | (other, Some(one)) if one.is(1) => Ok(other),
			(Some(a), Some(b)) => match (a.known(), b.known()) {
				(Some(_), Some(_)) => Err(format!("its shapes do not fit: {a:?} and {b:?}")),
				// An open dimension beside a number above one is that number, or one.
				(Some(_), None) => Ok(Some(a)),
				(None, Some(_)) => Ok(Some(b)),
				(None, None) => Ok(None),
			},
			(Some(n), None) | (None, Some(n)) if n.known().is_some() => Ok(Some(n)),
			_ => Ok(None),
		})
		.collect()
}

/// What is known of the sign of a tensor's zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Zero {
	/// None is negative.
	Plain,
	/// Negative or not, they are the same on every machine.
	Signed,
	/// They may differ between machines.
	Unsettled,
}

/// How a tensor was made, where something follows from it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
	Otherwise,
	/// Magnitudes of a tensor.
	Abs(String),
	/// A tensor times one number.
	Times(String, f64),
	/// A tensor rounded down.
	Floor(String),
}

/// A tensor that every element of a row of another one is bounded by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
	/// The other one.
	pub(super) of: String,
	/// |element| is at most so many times this tensor's.
	pub(super) factor: f64,
	pub(super) step: Step,
}

/// How far a bound has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
	/// Largest magnitude of each row.
	Largest,
	/// Times a constant; where that is below the normal numbers, the bound does not hold.
	Scaled,
	/// And at least some normal number: now it holds.
	Floored,
}

/// Where the last axis of an input has gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
	pub(super) input: String,
	pub(super) axis: usize,
}

/// What is known of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Value {
	pub(crate) element: i32,
	pub(crate) shape: Shape,
	/// Every element is a finite number within these, both included.
	pub(super) low: f64,
	pub(super) high: f64,
	/// Whether all elements are whole numbers.
	pub(super) whole: bool,
	pub(super) zero: Zero,
	/// Elements of a short list of integers.
	pub(super) content: Option<Shape>,
	/// Whether it is stored in the file.
	pub(super) constant: bool,
	pub(super) made: Made,
	pub(super) bounds: Option<Bounds>,
	pub(super) origin: Option<Origin>,
}

impl Value {
	/// Anything of a type that has whole numbers only, or a float of which the rest is to be said.
	pub(super) fn new(element: i32, shape: Shape, low: f64, high: f64) -> Self {
		Self {
			element,
			shape,
			low,
			high,
			whole: !is_float(element),
			zero: Zero::Plain,
			content: None,
			constant: false,
			made: Made::Otherwise,
			bounds: None,
			origin: None,
		}
	}

	/// The same numbers in another shape: what follows from how they were made is lost.
	pub(super) fn moved(&self, shape: Shape) -> Self {
		Self {
			shape,
			content: None,
			constant: false,
			made: Made::Otherwise,
			bounds: None,
			origin: None,
			..self.clone()
		}
	}

	pub(super) fn magnitude(&self) -> f64 {
		self.low.abs().max(self.high.abs())
	}

	pub(super) fn may_be_zero(&self) -> bool {
		self.low <= 0.0 && self.high >= 0.0
	}

	/// Whether a zero of it may be negative.
	pub(super) fn may_be_minus_zero(&self) -> bool {
		self.may_be_zero() && self.zero != Zero::Plain
	}

	pub(super) fn is_unsettled(&self) -> bool {
		self.may_be_zero() && self.zero == Zero::Unsettled
	}

	/// The one number that all elements are, if the file says so.
	pub(super) fn scalar(&self) -> Option<f64> {
		let one = self.shape.iter().flatten().all(|d| d.is(1));
		(self.constant && one && self.low == self.high).then_some(self.low)
	}

	/// Numbers of a list that is known.
	pub(super) fn numbers(&self) -> Option<Vec<i64>> {
		let content = self.content.as_ref()?;
		content.iter().map(|d| d.as_ref()?.known()).collect()
	}
}

pub(super) fn is_float(element: i32) -> bool {
	element == FLOAT || element == DOUBLE
}

/// What a type holds: smallest and largest. `None` for types that no graph of the class has.
pub(super) fn range(element: i32) -> Option<(f64, f64)> {
	Some(match element {
		FLOAT => (f32::MIN.into(), f32::MAX.into()),
		DOUBLE => (f64::MIN, f64::MAX),
		INT8 => (-128.0, 127.0),
		UINT8 => (0.0, 255.0),
		INT32 => (i32::MIN.into(), i32::MAX.into()),
		INT64 => (i64::MIN as f64, i64::MAX as f64),
		BOOL => (0.0, 1.0),
		_ => return None,
	})
}

/// Up to where a type holds every whole number.
pub(super) fn exact(element: i32) -> Option<f64> {
	Some(match element {
		FLOAT => (1u32 << 24).into(),
		DOUBLE | INT64 => (1u64 << 53) as f64,
		INT32 => i32::MAX.into(),
		_ => return None,
	})
}

/// A type's name.
pub(super) fn name(element: i32) -> String {
	match element {
		FLOAT => "float".into(),
		DOUBLE => "double".into(),
		INT8 => "int8".into(),
		UINT8 => "uint8".into(),
		INT32 => "int32".into(),
		INT64 => "int64".into(),
		BOOL => "bool".into(),
		10 => "float16".into(),
		16 => "bfloat16".into(),
		other => format!("element type {other}"),
	}
}

/// The number of a type that is nearest to another.
pub(super) fn rounded(value: f64, element: i32) -> f64 {
	match element {
		FLOAT => f64::from(value as f32),
		_ => value,
	}
}
