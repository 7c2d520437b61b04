//! What one element of a tensor is, from single elements of others: the definition of every operator of the class.
//!
//! An element is either one operation, or a *fold*: terms that are brought together in any order, since sums are of whole numbers and a
//! largest is the same from either side. A fold can be cut into parts anywhere, so that a long one is narrowed to a short one.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	float::{self, Arithmetic},
	program::{Comparison, Dims, Double, Lengths, Operator, Reduction, Rule, Single},
	value::{Fault, Kind, Value},
};

/// Elements of a rule's inputs.
pub trait Elements {
	/// Why one cannot be had.
	type Error: From<Fault>;

	/// The element with this number, in the order of ONNX, of an input.
	fn get(&mut self, input: usize, element: u64) -> Result<Value, Self::Error>;
}

/// What some terms of a fold come to.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Partial {
	/// A sum; or the order ([`float::order`]) of the largest.
	pub value: i64,
	/// One more than the number of the term that won, where that matters.
	pub term: u64,
}

/// A rule, for dimensions of certain lengths.
#[derive(Clone, Debug)]
pub struct Definition<'r> {
	rule: &'r Rule,
	inputs: Vec<Dims>,
	output: Dims,
}

impl<'r> Definition<'r> {
	/// Of a rule.
	pub fn new(rule: &'r Rule, lengths: &Lengths) -> Result<Self, Fault> {
		let inputs: Result<_, _> = rule
			.inputs
			.iter()
			.map(|input| input.signature.dims(lengths))
			.collect();
		Ok(Self {
			rule,
			inputs: inputs?,
			output: rule.output.dims(lengths)?,
		})
	}

	/// The rule.
	pub fn rule(&self) -> &Rule {
		self.rule
	}

	/// Dimensions of what comes out.
	pub fn output(&self) -> &Dims {
		&self.output
	}

	/// Dimensions of an input.
	pub fn input(&self, n: usize) -> Result<&Dims, Fault> {
		self.inputs.get(n).ok_or(Fault::OtherRule)
	}

	fn kind(&self, n: usize) -> Result<Kind, Fault> {
		let input = self.rule.inputs.get(n).ok_or(Fault::OtherRule)?;
		Ok(input.signature.kind)
	}

	/// Terms of a fold that an element is; nothing if it is one operation.
	pub fn terms(&self) -> Result<Option<u64>, Fault> {
		let last = |n: usize| -> Result<u64, Fault> {
			let dims = self.input(n)?.all();
			dims.last().copied().ok_or(Fault::OtherRule)
		};
		Ok(Some(match &self.rule.operator {
			Operator::MatMul | Operator::MatMulInteger(_) | Operator::Best => last(0)?,
			Operator::Reduce { axes, .. } => {
				let dims = self.input(0)?.all();
				let axes = axes.iter().map(|axis| dims.get(usize::from(*axis)));
				axes.into_iter()
					.try_fold(1, |all, dim| dim.map(|dim| all * dim))
					.ok_or(Fault::OtherRule)?
			}
			Operator::Scatter(axis) => {
				let dims = self.input(1)?.all();
				*dims.get(usize::from(*axis)).ok_or(Fault::OtherRule)?
			}
			_ => return Ok(None),
		}))
	}

	/// The element with this number.
	pub fn element<E: Elements>(&self, element: u64, elements: &mut E) -> Result<Value, E::Error> {
		match self.terms()? {
			None => {
				let made = self.operation(element, elements)?;
				Ok(held(made, self.rule.output.kind)?)
			}
			Some(terms) => {
				let partial = self.part(element, (0, terms), elements)?;
				self.finish(element, partial, elements)
			}
		}
	}

	/// What the terms from one to before another come to.
	pub fn part<E: Elements>(
		&self,
		element: u64,
		(from, to): (u64, u64),
		elements: &mut E,
	) -> Result<Partial, E::Error> {
		let place = self.output.place(element);
		let mut all = None;
		for term in from..to {
			let new = self.term(&place, term, elements)?;
			all = Some(match all {
				None => new,
				Some(all) => self.together(all, new)?,
			});
		}
		Ok(match all {
			Some(all) => all,
			None => self.nothing()?,
		})
	}

	/// What no terms come to.
	fn nothing(&self) -> Result<Partial, Fault> {
		match &self.rule.operator {
			Operator::Best
			| Operator::Reduce {
				how: Reduction::Max | Reduction::Min,
				..
			} => Err(Fault::NoSuchPlace),
			_ => Ok(Partial::default()),
		}
	}

	/// Two parts together.
	pub fn together(&self, a: Partial, b: Partial) -> Result<Partial, Fault> {
		let better = |better: bool| Ok(if better { b } else { a });
		match &self.rule.operator {
			Operator::Best => better(b.value > a.value || b.value == a.value && b.term < a.term),
			Operator::Scatter(_) => match (a.term, b.term) {
				(_, 0) => Ok(a),
				(0, _) => Ok(b),
				_ => Err(Fault::WrittenTwice),
			},
			Operator::Reduce {
				how: Reduction::Max,
				..
			} => better(b.value > a.value),
			Operator::Reduce {
				how: Reduction::Min,
				..
			} => better(b.value < a.value),
			_ => Ok(Partial {
				value: a.value.checked_add(b.value).ok_or(Fault::TooLarge)?,
				term: 0,
			}),
		}
	}

	/// One term.
	fn term<E: Elements>(
		&self,
		place: &[u64],
		term: u64,
		elements: &mut E,
	) -> Result<Partial, E::Error> {
		let whole = |value: i64| Partial { value, term: 0 };
		let times = |a: i64, b: i64| a.checked_mul(b).ok_or(Fault::TooLarge);
		match &self.rule.operator {
			Operator::MatMul => {
				let [a, b] = self.factors(place, term)?;
				let (a, b) = (elements.get(0, a)?.whole()?, elements.get(1, b)?.whole()?);
				Ok(whole(times(a, b)?))
			}
			Operator::MatMulInteger(zeros) => {
				let at = self.factors(place, term)?;
				let (mut factors, mut input) = ([0; 2], 2);
				for (n, factor) in factors.iter_mut().enumerate() {
					*factor = elements.get(n, at[n])?.whole()?;
					if zeros[n] {
						// One for all, or one for each column.
						let column = &place[place.len().saturating_sub(1)..];
						let zero = self.input(input)?.stretched(column)?;
						*factor -= elements.get(input, zero)?.whole()?;
						input += 1;
					}
				}
				Ok(whole(times(factors[0], factors[1])?))
			}
			Operator::Reduce { how, axes } => {
				let element = self.reduced(place, axes, term)?;
				let value = elements.get(0, element)?;
				Ok(whole(match how {
					Reduction::Sum => value.whole()?,
					Reduction::SumSquare => {
						let value = value.whole()?;
						times(value, value)?
					}
					Reduction::Max | Reduction::Min => value.order()?,
				}))
			}
			Operator::Best => {
				let mut place = place.to_vec();
				place.push(term);
				let element = self.input(0)?.element(&place)?;
				Ok(Partial {
					value: elements.get(0, element)?.order()?,
					term: term + 1,
				})
			}
			Operator::Scatter(axis) => {
				let axis = usize::from(*axis);
				let at = *place.get(axis).ok_or(Fault::OtherRule)?;
				let Some(from) = self.written(place, axis, term)? else {
					return Ok(Partial::default());
				};
				let index = elements.get(1, from)?.whole()?;
				let there = self.output.all()[axis];
				let index = u64::try_from(index).ok().filter(|index| *index < there);
				let hit = index.ok_or(Fault::NoSuchPlace)? == at;
				Ok(Partial {
					value: 0,
					term: if hit { term + 1 } else { 0 },
				})
			}
			_ => Err(Fault::OtherRule.into()),
		}
	}

	/// The element that all terms make.
	pub fn finish<E: Elements>(
		&self,
		element: u64,
		all: Partial,
		elements: &mut E,
	) -> Result<Value, E::Error> {
		let kind = self.rule.output.kind;
		let made = match &self.rule.operator {
			Operator::Best => kind.of_whole(all.term as i64 - 1)?,
			Operator::Scatter(axis) => match all.term.checked_sub(1) {
				None => elements.get(0, element)?,
				Some(term) => {
					let place = self.output.place(element);
					let from = self.written(&place, usize::from(*axis), term)?;
					elements.get(2, from.ok_or(Fault::NoSuchPlace)?)?
				}
			},
			Operator::Reduce {
				how: Reduction::Max | Reduction::Min,
				..
			} => Value::of_order(kind, all.value)?,
			_ => kind.of_whole(all.value)?,
		};
		Ok(held(made, kind)?)
	}

	/// Elements of both factors that a term of a matrix product multiplies.
	fn factors(&self, place: &[u64], term: u64) -> Result<[u64; 2], Fault> {
		let (a, b) = (self.input(0)?, self.input(1)?);
		let ([outer @ .., row, column], true) = (place, a.all().len() > 1 && b.all().len() > 1)
		else {
			return Err(Fault::OtherRule);
		};
		let of = |last: [u64; 2]| -> Vec<u64> { outer.iter().copied().chain(last).collect() };
		// The two inner axes are never stretched: their lengths are these numbers' bounds.
		let inner = [a.all().last(), b.all().iter().rev().nth(1)];
		if inner[0] != inner[1] {
			return Err(Fault::OtherRule);
		}
		Ok([
			a.stretched(&of([*row, term]))?,
			b.stretched(&of([term, *column]))?,
		])
	}

	/// The element that a term of a reduction is.
	fn reduced(&self, place: &[u64], axes: &[u8], mut term: u64) -> Result<u64, Fault> {
		let dims = self.input(0)?;
		let kept = place.len() == dims.all().len();
		let mut from = Vec::with_capacity(dims.all().len());
		let mut rest = place.iter();
		for axis in 0..dims.all().len() {
			if axes.contains(&(axis as u8)) {
				from.push(0);
				if kept {
					rest.next();
				}
			} else {
				from.push(*rest.next().ok_or(Fault::OtherRule)?);
			}
		}
		for axis in axes.iter().rev() {
			let axis = usize::from(*axis);
			let length = (*dims.all().get(axis).ok_or(Fault::OtherRule)?).max(1);
			from[axis] = term % length;
			term /= length;
		}
		dims.element(&from)
	}

	/// The element of indices and updates that a term of what is written is, for a place of what comes out; nothing if they do not reach
	/// that far.
	fn written(&self, place: &[u64], axis: usize, term: u64) -> Result<Option<u64>, Fault> {
		let indices = self.input(1)?;
		let mut from = place.to_vec();
		*from.get_mut(axis).ok_or(Fault::OtherRule)? = term;
		match indices.element(&from) {
			Err(Fault::NoSuchPlace) => Ok(None),
			element => element.map(Some),
		}
	}

	/// An element that is one operation.
	fn operation<E: Elements>(&self, element: u64, elements: &mut E) -> Result<Value, E::Error> {
		let place = self.output.place(element);
		let kind = self.rule.output.kind;
		let mut stretched = |n: usize| -> Result<Value, E::Error> {
			let at = self.input(n)?.stretched(&place)?;
			elements.get(n, at)
		};
		Ok(match &self.rule.operator {
			Operator::Count => kind.of_whole(element as i64)?,
			Operator::Zeros => match kind.width() {
				Some(_) => kind.of_bits(0)?,
				None => Value::Whole(0),
			},
			Operator::Copy => {
				if self.input(0)?.count() != self.output.count() {
					return Err(Fault::OtherRule.into());
				}
				elements.get(0, element)?
			}
			Operator::Expand => stretched(0)?,
			Operator::Single(what) => single(*what, stretched(0)?)?,
			Operator::Double(what) => double(*what, stretched(0)?, stretched(1)?)?,
			Operator::Compare(what) => {
				let (a, b) = (stretched(0)?.order()?, stretched(1)?.order()?);
				Value::Whole(i64::from(match what {
					Comparison::Equal => a == b,
					Comparison::Greater => a > b,
					Comparison::GreaterOrEqual => a >= b,
					Comparison::Less => a < b,
					Comparison::LessOrEqual => a <= b,
				}))
			}
			Operator::Where => {
				let chosen = if stretched(0)?.whole()? != 0 { 1 } else { 2 };
				stretched(chosen)?
			}
			Operator::Max | Operator::Min => {
				let largest = self.rule.operator == Operator::Max;
				let mut all = stretched(0)?;
				for n in 1..self.inputs.len() {
					let other = stretched(n)?;
					let (a, b) = (all.order()?, other.order()?);
					if if largest { b > a } else { b < a } {
						all = other;
					}
				}
				all
			}
			Operator::Clip { low, high } => {
				let mut x = stretched(0)?;
				if *low {
					let low = stretched(1)?;
					if low.order()? > x.order()? {
						x = low;
					}
				}
				if *high {
					let high = stretched(1 + usize::from(*low))?;
					if high.order()? < x.order()? {
						x = high;
					}
				}
				x
			}
			Operator::Cast => cast(stretched(0)?, kind)?,
			Operator::Transpose(axes) => {
				let mut from = alloc::vec![0; place.len()];
				for (at, axis) in place.iter().zip(axes) {
					*from.get_mut(usize::from(*axis)).ok_or(Fault::OtherRule)? = *at;
				}
				let at = self.input(0)?.element(&from)?;
				elements.get(0, at)?
			}
			Operator::Part(starts) => {
				if starts.len() != place.len() {
					return Err(Fault::OtherRule.into());
				}
				let from: Vec<_> = place
					.iter()
					.zip(starts)
					.map(|(at, start)| at + u64::from(*start))
					.collect();
				let at = self.input(0)?.element(&from)?;
				elements.get(0, at)?
			}
			Operator::Concat(axis) => {
				let axis = usize::from(*axis);
				let mut place = place;
				for n in 0..self.inputs.len() {
					let dims = self.input(n)?;
					let length = *dims.all().get(axis).ok_or(Fault::OtherRule)?;
					let at = place.get_mut(axis).ok_or(Fault::OtherRule)?;
					if *at < length {
						let at = dims.element(&place)?;
						return elements.get(n, at);
					}
					*at -= length;
				}
				return Err(Fault::OtherRule.into());
			}
			Operator::Gather(axis) => {
				let axis = usize::from(*axis);
				let (data, indices) = (self.input(0)?, self.input(1)?);
				let end = axis + indices.all().len();
				if end > place.len() || axis >= data.all().len() {
					return Err(Fault::OtherRule.into());
				}
				let index = indices.element(&place[axis..end])?;
				let index = elements.get(1, index)?.whole()?;
				let index = u64::try_from(index).map_err(|_| Fault::NoSuchPlace)?;
				let from = [&place[..axis], &[index], &place[end..]].concat();
				let at = data.element(&from)?;
				elements.get(0, at)?
			}
			// Their roots are known; nobody asks for an element.
			Operator::Input(_) | Operator::Constant(_) => return Err(Fault::OtherRule.into()),
			Operator::MatMul
			| Operator::MatMulInteger(_)
			| Operator::Reduce { .. }
			| Operator::Scatter(_)
			| Operator::Best => return Err(Fault::OtherRule.into()),
		})
	}

	/// The type of an input, for whoever reads its bytes.
	pub fn input_kind(&self, n: usize) -> Result<Kind, Fault> {
		self.kind(n)
	}
}

/// A value, if it is one of a type.
fn held(value: Value, kind: Kind) -> Result<Value, Fault> {
	match value {
		Value::Whole(whole) if kind.width().is_none() => kind.of_whole(whole),
		Value::Float(_) if kind == Kind::Float => Ok(value),
		Value::Double(_) if kind == Kind::Double => Ok(value),
		_ => Err(Fault::OtherKind),
	}
}

fn single(what: Single, x: Value) -> Result<Value, Fault> {
	let Some((width, bits)) = x.bits() else {
		let x = x.whole()?;
		return match what {
			Single::Not => Ok(Value::Whole(i64::from(x == 0))),
			Single::Abs => Ok(Value::Whole(x.checked_abs().ok_or(Fault::TooLarge)?)),
			Single::Neg => Ok(Value::Whole(x.checked_neg().ok_or(Fault::TooLarge)?)),
			_ => Err(Fault::OtherKind),
		};
	};
	let made = match (what, what.towards()) {
		(_, Some(towards)) => float::round(width, bits, towards),
		(Single::Abs, _) => bits & !width.sign(),
		(Single::Neg, _) => bits ^ width.sign(),
		(Single::Sqrt, _) => float::root(width, bits),
		_ => return Err(Fault::OtherKind),
	};
	of_width(width, made)
}

fn of_width(width: float::Width, bits: u64) -> Result<Value, Fault> {
	match width {
		float::Width::Single => Kind::Float.of_bits(bits),
		float::Width::Double => Kind::Double.of_bits(bits),
	}
}

fn double(what: Double, a: Value, b: Value) -> Result<Value, Fault> {
	let arithmetic: Option<Arithmetic> = what.into();
	match (a.bits(), b.bits(), arithmetic) {
		(Some((width, a)), Some((other, b)), Some(arithmetic)) if width == other => {
			of_width(width, float::arithmetic(width, arithmetic, a, b))
		}
		(None, None, _) => {
			let (a, b) = (a.whole()?, b.whole()?);
			let made = match what {
				Double::Add => a.checked_add(b),
				Double::Sub => a.checked_sub(b),
				Double::Mul => a.checked_mul(b),
				Double::And => Some(i64::from(a != 0 && b != 0)),
				Double::Or => Some(i64::from(a != 0 || b != 0)),
				Double::Div => return Err(Fault::OtherKind),
			};
			Ok(Value::Whole(made.ok_or(Fault::TooLarge)?))
		}
		_ => Err(Fault::OtherKind),
	}
}

fn cast(x: Value, to: Kind) -> Result<Value, Fault> {
	match (x.bits(), to.width()) {
		(Some((from, bits)), Some(to)) => of_width(to, float::convert(from, to, bits)),
		(None, Some(to)) => of_width(to, float::from_whole(to, x.whole()?)),
		_ => to.of_whole(x.whole()?),
	}
}
