//! Operators that move elements, and what is known of shapes.

use super::{
	operators::{axis, joined, same, Attributes},
	value::{broadcast, Dim, Origin, Shape, Value},
};
use crate::onnx::INT64;

/// Outputs of an operator that moves elements.
pub(super) fn moves(
	operator: &str,
	attributes: &Attributes,
	outputs: usize,
	inputs: &[Option<Value>],
) -> Result<Vec<Value>, String> {
	let input = |n: usize| -> Result<&Value, String> {
		let value = inputs.get(n).and_then(|v| v.as_ref());
		value.ok_or_else(|| format!("its input {n} is missing"))
	};
	let numbers = |n: usize| -> Result<Option<Vec<i64>>, String> {
		match inputs.get(n).and_then(|v| v.as_ref()) {
			None => Ok(None),
			Some(value) => match value.numbers() {
				Some(numbers) => Ok(Some(numbers)),
				None => Err(format!("its input {n} is computed")),
			},
		}
	};
	let list = |n: usize| -> Result<&Shape, String> {
		let content = input(n)?.content.as_ref();
		content.ok_or_else(|| format!("the shape in its input {n} is not known"))
	};
	let x = match operator {
		"Range" => None,
		_ => Some(input(0)?),
	};
	let x = || x.ok_or_else(|| "its input is missing".to_owned());
	let one = |value: Value| Ok(vec![value]);
	match operator {
		"Transpose" => {
			let x = x()?;
			let rank = x.shape.len();
			let perm = match attributes.ints("perm")? {
				Some(perm) => perm
					.iter()
					.map(|p| axis(*p, rank))
					.collect::<Result<_, _>>()?,
				None => (0..rank).rev().collect::<Vec<_>>(),
			};
			let mut sorted = perm.clone();
			sorted.sort_unstable();
			if sorted != (0..rank).collect::<Vec<_>>() {
				return Err("its order is not one of its axes".into());
			}
			one(x.moved(perm.iter().map(|p| x.shape[*p].clone()).collect()))
		}
		"Shape" => {
			let x = x()?;
			let rank = x.shape.len() as i64;
			let place = |n: i64| (if n < 0 { n + rank } else { n }).clamp(0, rank) as usize;
			let start = place(attributes.int("start")?.unwrap_or(0));
			let end = place(attributes.int("end")?.unwrap_or(rank));
			let dims = x.shape.get(start..end).unwrap_or(&[]).to_vec();
			let most = dims.iter().map(|d| d.as_ref().and_then(Dim::most));
			let most = most.map(|d| d.map_or(i64::MAX as f64, |d| d as f64));
			let shape = vec![Some(Dim::number(dims.len() as i64))];
			let mut made = Value::new(INT64, shape, 0.0, most.fold(0.0, f64::max));
			made.content = Some(dims);
			one(made)
		}
		"Reshape" => {
			if attributes.int("allowzero")?.unwrap_or(0) != 0 {
				return Err("its zeros mean no elements".into());
			}
			let x = x()?;
			one(x.moved(reshaped(&x.shape, list(1)?)?))
		}
		"Expand" => {
			let x = x()?;
			let to = list(1)?;
			let shape = broadcast(&x.shape, to)?;
			let moved = shape.len() - x.shape.len();
			let origin = x.origin.as_ref().filter(|origin| {
				// It must not be stretched there.
				let axis = &x.shape[origin.axis];
				axis.is_some() && shape[origin.axis + moved] == *axis
			});
			let origin = origin.map(|origin| Origin {
				axis: origin.axis + moved,
				..origin.clone()
			});
			let mut made = x.moved(shape);
			made.origin = origin;
			one(made)
		}
		"Unsqueeze" => {
			let x = x()?;
			let axes = numbers(1)?.ok_or("it has no axes")?;
			let rank = x.shape.len() + axes.len();
			let axes: Vec<_> = axes
				.iter()
				.map(|a| axis(*a, rank))
				.collect::<Result<_, _>>()?;
			let mut old = x.shape.iter().enumerate();
			let (mut shape, mut origin) = (Vec::new(), None);
			for i in 0..rank {
				if axes.contains(&i) {
					shape.push(Some(Dim::number(1)));
					continue;
				}
				let (from, dim) = old.next().ok_or("it has an axis twice")?;
				if let Some(found) = x.origin.as_ref().filter(|o| o.axis == from) {
					origin = Some(Origin {
						axis: i,
						..found.clone()
					});
				}
				shape.push(dim.clone());
			}
			if old.next().is_some() {
				return Err("it has an axis twice".into());
			}
			let mut made = x.moved(shape);
			made.origin = origin;
			made.content = x.content.clone().filter(|_| rank == 1);
			one(made)
		}
		"Squeeze" => {
			let x = x()?;
			let rank = x.shape.len();
			let axes = match numbers(1)? {
				Some(axes) => axes
					.iter()
					.map(|a| axis(*a, rank))
					.collect::<Result<Vec<_>, _>>()?,
				None => (0..rank)
					.filter(|i| x.shape[*i].as_ref().is_some_and(|d| d.is(1)))
					.collect(),
			};
			let open = |dim: &Option<Dim>| dim.as_ref().is_none_or(|d| d.known().is_none());
			if inputs.len() < 2 && x.shape.iter().any(open) {
				return Err("which axes it takes away depends on lengths".into());
			}
			let dims = x.shape.iter().enumerate();
			let shape: Shape = dims
				.filter(|(i, _)| !axes.contains(i))
				.map(|(_, dim)| dim.clone())
				.collect();
			let mut made = x.moved(shape);
			made.content = x.content.clone();
			one(made)
		}
		"Concat" => {
			let values: Vec<_> = (0..inputs.len()).map(input).collect::<Result<_, _>>()?;
			let first = *values.first().ok_or("it has no inputs")?;
			let at = attributes.int("axis")?.ok_or("it has no axis")?;
			let at = axis(at, first.shape.len())?;
			let mut shape = first.shape.clone();
			let mut total = Some(0i64);
			for value in &values {
				same(first, value)?;
				if value.shape.len() != shape.len() {
					return Err("its inputs are of different ranks".into());
				}
				let length = value.shape[at].as_ref().and_then(Dim::known);
				total = total.zip(length).and_then(|(a, b)| a.checked_add(b));
				// What one does not know, another may.
				for (i, dim) in value.shape.iter().enumerate().filter(|(i, _)| *i != at) {
					let better = dim.as_ref().is_some_and(|d| d.known().is_some());
					if shape[i].is_none() || better {
						shape[i] = dim.clone();
					}
				}
			}
			shape[at] = match &values[..] {
				[one] => one.shape[at].clone(),
				_ => total.map(Dim::number),
			};
			let rank = shape.len();
			let mut made = joined(&values).moved(shape);
			let contents: Option<Vec<_>> = values.iter().map(|v| v.content.clone()).collect();
			made.content = contents.filter(|_| rank == 1).map(|c| c.concat());
			one(made)
		}
		"Split" => {
			let x = x()?;
			let at = axis(attributes.int("axis")?.unwrap_or(0), x.shape.len())?;
			let length = x.shape[at].as_ref().and_then(Dim::known);
			let count = outputs as i64;
			let sizes = match numbers(1)? {
				Some(sizes) => sizes,
				None => {
					let told = attributes.int("num_outputs")?.unwrap_or(count);
					let equal = length.filter(|n| told == count && count > 0 && n % count == 0);
					vec![equal.ok_or("its parts are not equal")? / count; outputs]
				}
			};
			if sizes.len() != outputs {
				return Err("it has another number of outputs than its operator".into());
			}
			let part = |size: i64| {
				let mut shape = x.shape.clone();
				shape[at] = Some(Dim::number(size));
				x.moved(shape)
			};
			Ok(sizes.into_iter().map(part).collect())
		}
		"Slice" => {
			let x = x()?;
			let rank = x.shape.len();
			let starts = numbers(1)?.ok_or("it has no starts")?;
			let ends = numbers(2)?.ok_or("it has no ends")?;
			let axes = match numbers(3)? {
				Some(axes) => axes,
				None => (0..starts.len() as i64).collect(),
			};
			if numbers(4)?.is_some_and(|steps| steps.iter().any(|s| *s != 1)) {
				return Err("it leaves out elements".into());
			}
			if starts.len() != ends.len() || starts.len() != axes.len() {
				return Err("it has other numbers of starts, ends and axes".into());
			}
			let mut shape = x.shape.clone();
			for ((start, end), at) in starts.iter().zip(&ends).zip(&axes) {
				let dim = &mut shape[axis(*at, rank)?];
				*dim = dim.as_ref().and_then(Dim::known).map(|n| {
					let place = |p: i64| (if p < 0 { p.saturating_add(n) } else { p }).clamp(0, n);
					Dim::number((place(*end) - place(*start)).max(0))
				});
			}
			one(x.moved(shape))
		}
		"Range" => {
			let [start, limit, step] = [input(0)?, input(1)?, input(2)?];
			if [start, limit, step].iter().any(|v| v.element != INT64) || step.scalar() != Some(1.0)
			{
				return Err("only integers one by one are counted".into());
			}
			let from_zero = start.scalar() == Some(0.0);
			let length = limit.content.as_ref().filter(|_| from_zero);
			let length = length.and_then(|c| c.first().cloned().flatten());
			one(Value::new(
				INT64,
				vec![length],
				start.low,
				limit.high.max(start.low),
			))
		}
		_ => Err("it is not on the list".into()),
	}
}

/// A shape as a reshape makes it.
fn reshaped(from: &Shape, to: &Shape) -> Result<Shape, String> {
	let mut shape = Vec::new();
	let mut open = None;
	for (i, dim) in to.iter().enumerate() {
		shape.push(match dim.as_ref().and_then(Dim::known) {
			Some(0) => from
				.get(i)
				.cloned()
				.ok_or("it keeps a dimension that there is not")?,
			Some(-1) if open.is_none() => {
				open = Some(i);
				None
			}
			Some(n) if n < 0 => return Err(format!("a dimension of {n}")),
			_ => dim.clone(),
		});
	}
	if let Some(open) = open {
		let product = |dims: Vec<&Option<Dim>>| {
			(dims.into_iter()).try_fold(Dim::number(1), |all, dim| all.times(dim.as_ref()?))
		};
		let all = product(from.iter().collect());
		let others = shape.iter().enumerate().filter(|(i, _)| *i != open);
		let others = product(others.map(|(_, dim)| dim).collect());
		shape[open] = all.zip(others).and_then(|(all, others)| all.over(&others));
	}
	Ok(shape)
}
