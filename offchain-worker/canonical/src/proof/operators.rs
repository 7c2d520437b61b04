//! What each operator makes of what is known of its inputs.

use super::{
	label,
	moves::moves,
	of_node,
	value::{
		broadcast, exact, is_float, name, range, rounded, Bounds, Dim, Made, Shape, Step, Value,
		Zero,
	},
	Analysis, Requirement, Sum,
};
use crate::onnx::{
	Node, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_STRING, ATTRIBUTE_TENSOR, BOOL, DOUBLE, INT32,
	INT64, INT8, UINT8,
};

/// Operators that are known, and the attributes that they may have.
const OPERATORS: [(&str, &[&str]); 43] = [
	("Abs", &[]),
	("Add", &[]),
	("And", &[]),
	("Cast", &["to"]),
	("Ceil", &[]),
	("Clip", &[]),
	("Concat", &["axis"]),
	("Constant", &["value"]),
	("Div", &[]),
	("Equal", &[]),
	("Expand", &[]),
	("Floor", &[]),
	("Gather", &["axis"]),
	("Greater", &[]),
	("GreaterOrEqual", &[]),
	("Identity", &[]),
	("Less", &[]),
	("LessOrEqual", &[]),
	("MatMul", &[]),
	("MatMulInteger", &[]),
	("Max", &[]),
	("Min", &[]),
	("Mul", &[]),
	("Neg", &[]),
	("Not", &[]),
	("Or", &[]),
	("Range", &[]),
	("ReduceMax", &["axes", "keepdims"]),
	("ReduceMin", &["axes", "keepdims"]),
	("ReduceSum", &["axes", "keepdims"]),
	("ReduceSumSquare", &["axes", "keepdims"]),
	("Reshape", &["allowzero"]),
	("Round", &[]),
	("ScatterElements", &["axis", "reduction"]),
	("Shape", &["start", "end"]),
	("Slice", &[]),
	("Split", &["axis", "num_outputs"]),
	("Sqrt", &[]),
	("Squeeze", &[]),
	("Sub", &[]),
	("Transpose", &["perm"]),
	("Unsqueeze", &[]),
	("Where", &[]),
];

/// Operators that add.
const SUMS: [&str; 4] = ["MatMul", "MatMulInteger", "ReduceSum", "ReduceSumSquare"];

/// Two products are added in so many bits by some kernels for bytes, which saturate.
const PAIR: f64 = i16::MAX as f64;

/// Numbers up to here fit formats whose fraction has ten bits.
const ELEVEN_BITS: f64 = 2_048.0;

/// A normal number of every type, with room below it: see [`Step`].
const NORMAL: f64 = 1.0 / (1u128 << 100) as f64;

/// Why an operator is not on the list.
fn not_listed(operator: &str) -> &'static str {
	match operator {
		"Softmax" | "LogSoftmax" | "LayerNormalization" | "RMSNormalization"
		| "GroupNormalization" | "InstanceNormalization" | "BatchNormalization"
		| "LpNormalization" | "MeanVarianceNormalization" | "ReduceMean" | "ReduceL1"
		| "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceProd" | "CumSum"
		| "AveragePool" | "GlobalAveragePool" | "LpPool" | "Attention" => {
			"it adds or multiplies many floats in an order of its own"
		}
		"Exp" | "Log" | "Sigmoid" | "Tanh" | "Erf" | "Gelu" | "Pow" | "Sin" | "Cos" | "Tan"
		| "Softplus" | "Elu" | "Selu" | "Celu" | "Mish" | "Sinh" | "Cosh" | "Asin" | "Acos"
		| "Atan" | "Reciprocal" | "HardSigmoid" | "HardSwish" | "Swish" => {
			"it is not correctly rounded everywhere: libraries differ in the last place"
		}
		"Gemm" | "Einsum" | "Conv" | "ConvTranspose" | "LSTM" | "GRU" | "RNN" | "Sum" | "Mean" => {
			"it multiplies and adds floats in one operator, in an order of its own"
		}
		"If" | "Loop" | "Scan" | "SequenceMap" => "it runs a subgraph",
		"DynamicQuantizeLinear" | "QuantizeLinear" | "DequantizeLinear" | "QLinearMatMul"
		| "QLinearConv" => "it scales and rounds in one operator: spell it out",
		_ => "it is not on the list of operators that give one rounded number for each element, or move elements",
	}
}

/// An axis counted from the first.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
	let rank = rank as i64;
	let counted = if axis < 0 { axis + rank } else { axis };
	match (0..rank).contains(&counted) {
		true => Ok(counted as usize),
		false => Err(format!("axis {axis} of {rank}")),
	}
}

/// The attributes of a node.
pub(super) struct Attributes<'n>(&'n Node);

impl Attributes<'_> {
	fn check(&self, known: &[&str]) -> Result<(), String> {
		for (n, attribute) in self.0.attribute.iter().enumerate() {
			let name = attribute.name.as_deref().unwrap_or_default();
			if !known.contains(&name) {
				return Err(format!("its attribute {name:?} is not known"));
			}
			let twice = |other: &&crate::onnx::Attribute| other.name == attribute.name;
			if self.0.attribute[..n].iter().any(|other| twice(&other)) {
				return Err(format!("it has more than one attribute {name:?}"));
			}
		}
		Ok(())
	}

	fn find(&self, name: &str, kind: i32) -> Result<Option<&crate::onnx::Attribute>, String> {
		let mut all = self.0.attribute.iter();
		match all.find(|a| a.name.as_deref() == Some(name)) {
			Some(found) if found.kind != Some(kind) => {
				Err(format!("its attribute {name:?} is of another type"))
			}
			found => Ok(found),
		}
	}

	pub(super) fn int(&self, name: &str) -> Result<Option<i64>, String> {
		Ok(self.find(name, ATTRIBUTE_INT)?.map(|a| a.i.unwrap_or(0)))
	}

	pub(super) fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
		Ok(self.find(name, ATTRIBUTE_INTS)?.map(|a| &a.ints[..]))
	}
}

/// A value, or why a node has none.
type Outcome = Result<Value, String>;

/// Fails unless all numbers of a result are finite and its type holds them; settles what can be said of zeros.
fn held(mut value: Value) -> Outcome {
	let (low, high) = range(value.element).ok_or("a type that is not known")?;
	let fits = value.low >= low && value.high <= high;
	if !fits {
		return Err(format!(
			"its numbers may be from {:e} to {:e}, which {} does not hold",
			value.low,
			value.high,
			name(value.element)
		));
	}
	if !value.may_be_zero() || !is_float(value.element) {
		value.zero = Zero::Plain;
	}
	Ok(value)
}

/// Fails unless two tensors are of one type.
pub(super) fn same(a: &Value, b: &Value) -> Result<i32, String> {
	match a.element == b.element {
		true => Ok(a.element),
		false => Err(format!(
			"it is of {} and of {}",
			name(a.element),
			name(b.element)
		)),
	}
}

/// The longest that a sum over a dimension can be.
fn terms(dims: &[&Option<Dim>]) -> Result<i64, String> {
	let most = dims
		.iter()
		.try_fold(1i64, |most, dim| most.checked_mul(dim.as_ref()?.most()?));
	most.ok_or_else(|| "how many numbers it adds is not known".into())
}

/// Smallest and largest of an operation on the ends of two intervals, which is monotone in each.
fn ends(a: &Value, b: &Value, of: impl Fn(f64, f64) -> f64) -> (f64, f64) {
	let corners = [
		of(a.low, b.low),
		of(a.low, b.high),
		of(a.high, b.low),
		of(a.high, b.high),
	];
	let low = corners.iter().copied().fold(f64::INFINITY, f64::min);
	let high = corners.iter().copied().fold(f64::NEG_INFINITY, f64::max);
	(low, high)
}

/// A value of an elementwise operation on two tensors.
fn elementwise(a: &Value, b: &Value, (low, high): (f64, f64)) -> Outcome {
	let element = same(a, b)?;
	if !is_float(element) {
		if ![INT32, INT64].contains(&element) {
			return Err(format!("arithmetic of {}", name(element)));
		}
		let exact = exact(INT64).unwrap_or_default();
		let numbers = [a.low, a.high, b.low, b.high, low, high];
		if numbers.iter().any(|n| n.abs() > exact) {
			return Err("its whole numbers have no bounds".into());
		}
	}
	let shape = broadcast(&a.shape, &b.shape)?;
	let (low, high) = (rounded(low, element), rounded(high, element));
	Ok(Value {
		whole: a.whole && b.whole,
		..Value::new(element, shape, low, high)
	})
}

/// The zeros of a sum of two tensors. It is -0 only where both are; and +0 wherever two other numbers cancel.
fn zero_of_sum(a_minus: bool, b_minus: bool, a: &Value, b: &Value) -> Zero {
	match () {
		() if !(a_minus && b_minus) => Zero::Plain,
		() if a.is_unsettled() || b.is_unsettled() => Zero::Unsettled,
		() => Zero::Signed,
	}
}

/// The zeros of a product or quotient.
fn zero_of_product(a: &Value, b: &Value) -> Zero {
	let plain = |v: &Value| v.low >= 0.0 && !v.may_be_minus_zero();
	match () {
		() if a.is_unsettled() || b.is_unsettled() => Zero::Unsettled,
		() if plain(a) && plain(b) => Zero::Plain,
		() => Zero::Signed,
	}
}

/// The zeros of a largest or smallest number: where both signs may be among them, either may win.
fn zero_of_choice<'v>(mut values: impl Iterator<Item = &'v Value>) -> Zero {
	match values.any(Value::may_be_minus_zero) {
		true => Zero::Unsettled,
		false => Zero::Plain,
	}
}

impl Analysis<'_> {
	/// Looks at a node whose inputs have been looked at.
	pub(super) fn node(&mut self, node: &Node) {
		let made = self.made(node);
		match made {
			Ok(Some(values)) if values.len() == node.output.len() => {
				for (name, value) in node.output.iter().zip(values) {
					self.define(name, Some(value));
				}
				return;
			}
			Ok(Some(_)) => {
				let why = "it has another number of outputs than its operator".into();
				self.refusals.push(of_node(node, why));
			}
			// One of its inputs was refused.
			Ok(None) => (),
			Err(why) => self.refusals.push(of_node(node, why)),
		}
		for name in &node.output {
			self.define(name, None);
		}
	}

	/// Its outputs; nothing if an input is not known.
	fn made(&mut self, node: &Node) -> Result<Option<Vec<Value>>, String> {
		let operator = node.op_type.as_deref().unwrap_or_default();
		match node.domain.as_deref().unwrap_or_default() {
			"" | "ai.onnx" => (),
			domain => {
				return Err(format!(
					"it is an operator of {domain:?}, and only ONNX's own have one definition"
				))
			}
		}
		let known = OPERATORS.iter().find(|(o, _)| *o == operator);
		let Some((_, attributes)) = known else {
			return Err(not_listed(operator).into());
		};
		Attributes(node).check(attributes)?;
		let mut inputs = Vec::new();
		for input in &node.input {
			inputs.push(match &input[..] {
				"" => None,
				input => match self.values.get(input) {
					Some(Some(value)) => Some(value.clone()),
					Some(None) => return Ok(None),
					None => return Err(format!("nothing before it makes its input {input:?}")),
				},
			});
		}
		let values = self.operator(operator, node, &inputs)?;
		if !SUMS.contains(&operator) {
			*self.operators.entry(operator.into()).or_default() += 1;
		}
		values
			.into_iter()
			.map(held)
			.collect::<Result<_, _>>()
			.map(Some)
	}

	fn operator(
		&mut self,
		operator: &str,
		node: &Node,
		inputs: &[Option<Value>],
	) -> Result<Vec<Value>, String> {
		let attributes = Attributes(node);
		let input = |n: usize| -> Result<&Value, String> {
			let value = inputs.get(n).and_then(|v| v.as_ref());
			value.ok_or_else(|| format!("its input {n} is missing"))
		};
		let named = |n: usize| node.input.get(n).cloned().unwrap_or_default();
		let most = |n: usize| match inputs.len() > n {
			true => Err("it has more inputs than its operator".to_owned()),
			false => Ok(()),
		};
		let one = |value: Outcome| value.map(|value| vec![value]);
		match operator {
			"Add" | "Sub" | "Mul" | "Div" => {
				most(2)?;
				one(arithmetic(
					operator,
					[input(0)?, input(1)?],
					[named(0), named(1)],
					self,
				))
			}
			"Abs" | "Neg" | "Round" | "Floor" | "Ceil" | "Sqrt" => {
				most(1)?;
				one(single(operator, input(0)?, named(0)))
			}
			"Max" | "Min" => {
				let values: Result<Vec<_>, _> = (0..inputs.len()).map(input).collect();
				one(choice(operator, &values?))
			}
			"Clip" => {
				most(3)?;
				let bounds = [1, 2].map(|n| inputs.get(n).and_then(|v| v.as_ref()));
				one(clip(input(0)?, bounds))
			}
			"Cast" => {
				most(1)?;
				let to = attributes.int("to")?.ok_or("it has no type to cast to")?;
				one(cast(input(0)?, i32::try_from(to).unwrap_or_default()))
			}
			"Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
				most(2)?;
				same(input(0)?, input(1)?)?;
				let shape = broadcast(&input(0)?.shape, &input(1)?.shape)?;
				Ok(vec![Value::new(BOOL, shape, 0.0, 1.0)])
			}
			"And" | "Or" => {
				most(2)?;
				let shape = broadcast(&input(0)?.shape, &input(1)?.shape)?;
				match same(input(0)?, input(1)?)? {
					BOOL => Ok(vec![Value::new(BOOL, shape, 0.0, 1.0)]),
					other => Err(format!("it is of {}", name(other))),
				}
			}
			"Not" => {
				most(1)?;
				let shape = input(0)?.shape.clone();
				Ok(vec![Value::new(BOOL, shape, 0.0, 1.0)])
			}
			"Where" => {
				most(3)?;
				let (a, b) = (input(1)?, input(2)?);
				let shape = broadcast(&input(0)?.shape, &broadcast(&a.shape, &b.shape)?)?;
				same(a, b)?;
				Ok(vec![joined(&[a, b]).moved(shape)])
			}
			"Identity" => {
				most(1)?;
				Ok(vec![input(0)?.clone()])
			}
			"Constant" => {
				most(0)?;
				let tensor = attributes.find("value", ATTRIBUTE_TENSOR)?;
				let tensor = tensor
					.and_then(|a| a.t.clone())
					.ok_or("it holds no tensor")?;
				one(self.constant(&tensor))
			}
			"MatMul" => {
				most(2)?;
				one(self.float_product(node, input(0)?, input(1)?))
			}
			"MatMulInteger" => {
				most(4)?;
				let zeros = [2, 3].map(|n| inputs.get(n).and_then(|v| v.as_ref()));
				one(self.byte_product(node, input(0)?, input(1)?, zeros))
			}
			"ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceSumSquare" => {
				most(2)?;
				one(self.reduction(operator, node, inputs))
			}
			"Gather" => {
				most(2)?;
				let (data, index) = (input(0)?, input(1)?);
				let at = axis(attributes.int("axis")?.unwrap_or(0), data.shape.len())?;
				let count = data.shape[at].as_ref().and_then(Dim::known);
				let there = |n: i64| index.low >= 0.0 && index.high <= (n - 1) as f64;
				if ![INT32, INT64].contains(&index.element) || !count.is_some_and(there) {
					return Err(format!(
						"its indices may be from {} to {}, and what there is to look up ends at {:?}",
						index.low, index.high, count
					));
				}
				let mut shape = data.shape[..at].to_vec();
				shape.extend(index.shape.clone());
				shape.extend(data.shape[at + 1..].to_vec());
				Ok(vec![data.moved(shape)])
			}
			"ScatterElements" => {
				most(3)?;
				one(self.scattered(&attributes, [input(0)?, input(1)?, input(2)?]))
			}
			_ => moves(operator, &attributes, node.output.len(), inputs),
		}
	}

	/// Notes a sum, if it is within its type.
	fn add(&mut self, node: &Node, element: i32, terms: i64, term: f64) -> Result<f64, String> {
		let limit = exact(element).ok_or_else(|| {
			format!(
				"it adds in {}, which is computed with in ways of its own",
				name(element)
			)
		})?;
		let bound = term * terms as f64;
		if bound > limit {
			return Err(format!(
				"{terms} terms of at most {term} each may come to {bound}, and {} holds every whole number up to {limit}",
				name(element)
			));
		}
		self.sums.push(Sum {
			node: label(node),
			operator: node.op_type.clone().unwrap_or_default(),
			element: name(element),
			terms,
			bound,
			limit,
		});
		Ok(bound)
	}

	fn float_product(&mut self, node: &Node, a: &Value, b: &Value) -> Outcome {
		let element = same(a, b)?;
		if !is_float(element) {
			return Err(format!("it adds in {}: use MatMulInteger", name(element)));
		}
		let (shape, inner) = product_shape(a, b)?;
		for (value, input) in [(a, 0), (b, 1)] {
			if !value.whole {
				return Err(format!(
					"it adds what need not be whole numbers: its input {input} is not known to be"
				));
			}
		}
		let terms = terms(&[&inner])?;
		let bound = self.add(node, element, terms, a.magnitude() * b.magnitude())?;
		self.eleven_bits &= a.magnitude().max(b.magnitude()) <= ELEVEN_BITS;
		let nonnegative = a.low >= 0.0 && b.low >= 0.0;
		let plain = nonnegative && !a.may_be_minus_zero() && !b.may_be_minus_zero();
		Ok(Value {
			whole: true,
			zero: if plain { Zero::Plain } else { Zero::Unsettled },
			..Value::new(
				element,
				shape,
				if nonnegative { 0.0 } else { -bound },
				bound,
			)
		})
	}

	fn byte_product(
		&mut self,
		node: &Node,
		a: &Value,
		b: &Value,
		zeros: [Option<&Value>; 2],
	) -> Outcome {
		let (shape, inner) = product_shape(a, b)?;
		let mut apart = [0.0; 2];
		for (i, (value, zero)) in [(a, zeros[0]), (b, zeros[1])].into_iter().enumerate() {
			if value.element != INT8 && value.element != UINT8 {
				return Err(format!("its input {i} is of {}", name(value.element)));
			}
			let (low, high) = match zero {
				None => (0.0, 0.0),
				Some(zero) => {
					same(value, zero)?;
					if !zero.constant {
						return Err(format!("what stands for zero in its input {i} is computed"));
					}
					let single = zero.shape.len() < 2
						&& zero
							.shape
							.iter()
							.all(|d| d.as_ref().is_some_and(|d| d.is(1)));
					let columns = || match (&zero.shape[..], shape.last()) {
						([zeros], Some(columns)) => zeros == columns && zeros.is_some(),
						_ => false,
					};
					if !(single || i == 1 && columns()) {
						return Err(format!(
							"its input {i} has several numbers that stand for zero, {}",
							match i {
								0 => "one for each row: kernels differ in that, and one number must do",
								_ => "and not one for each column",
							}
						));
					}
					(zero.low, zero.high)
				}
			};
			apart[i] = (value.high - low).abs().max((value.low - high).abs());
		}
		let pair = 2.0 * a.magnitude() * b.magnitude();
		if pair > PAIR {
			return Err(format!(
				"two of its products may come to {pair}, and some kernels add two in 16 bits, and saturate: clip its first input to 0 to 127"
			));
		}
		let terms = terms(&[&inner])?;
		// As some kernels do it: the products as they are, and what the zeros stand for is taken off at the end.
		let raw = a.magnitude() * b.magnitude();
		let bound = self.add(node, INT32, terms, (apart[0] * apart[1]).max(raw))?;
		Ok(Value::new(INT32, shape, -bound, bound))
	}

	fn reduction(&mut self, operator: &str, node: &Node, inputs: &[Option<Value>]) -> Outcome {
		let attributes = Attributes(node);
		let data = inputs
			.first()
			.and_then(|v| v.as_ref())
			.ok_or("its input is missing")?;
		let rank = data.shape.len();
		let axes = match inputs.get(1).and_then(|v| v.as_ref()) {
			Some(axes) => axes
				.numbers()
				.ok_or("the axes that it goes over are not known")?,
			None => attributes
				.ints("axes")?
				.map(<[i64]>::to_vec)
				.unwrap_or_default(),
		};
		let mut axes: Vec<_> = axes
			.iter()
			.map(|a| axis(*a, rank))
			.collect::<Result<_, _>>()?;
		if axes.is_empty() {
			axes = (0..rank).collect();
		}
		let keep = attributes.int("keepdims")?.unwrap_or(1) == 1;
		let dims = data.shape.iter().enumerate();
		let shape: Shape = dims
			.filter_map(|(i, dim)| match axes.contains(&i) {
				true => keep.then(|| Some(Dim::number(1))),
				false => Some(dim.clone()),
			})
			.collect();
		let choice = ["ReduceMax", "ReduceMin"].contains(&operator);
		if choice {
			let mut value = data.moved(shape);
			value.zero = zero_of_choice([data].into_iter());
			if let (Made::Abs(of), "ReduceMax", true) = (&data.made, operator, keep) {
				if axes == [rank - 1] && is_float(data.element) {
					value.bounds = Some(Bounds {
						of: of.clone(),
						factor: 1.0,
						step: Step::Largest,
					});
				}
			}
			return Ok(value);
		}
		if !data.whole {
			return Err("it adds what need not be whole numbers".into());
		}
		let over: Vec<_> = axes.iter().map(|a| &data.shape[*a]).collect();
		let terms = terms(&over)?;
		let squares = operator == "ReduceSumSquare";
		let largest = data.magnitude();
		let term = if squares { largest * largest } else { largest };
		let bound = self.add(node, data.element, terms, term)?;
		let positive = squares || data.low >= 0.0;
		let plain = squares || !data.may_be_minus_zero();
		Ok(Value {
			whole: true,
			zero: if plain { Zero::Plain } else { Zero::Unsettled },
			..Value::new(
				data.element,
				shape,
				if positive { 0.0 } else { -bound },
				bound,
			)
		})
	}

	fn scattered(&mut self, attributes: &Attributes, of: [&Value; 3]) -> Outcome {
		let [data, index, updates] = of;
		let reduction = attributes.find("reduction", ATTRIBUTE_STRING)?;
		if reduction.is_some_and(|r| r.s.as_deref().is_some_and(|s| s != b"none")) {
			return Err("it adds, or chooses, what goes to one place".into());
		}
		same(data, updates)?;
		let at = axis(attributes.int("axis")?.unwrap_or(0), data.shape.len())?;
		let Some(origin) = index.origin.as_ref().filter(|o| o.axis == at) else {
			return Err(
				"what it writes may go to one place twice, and which is last is not said".into(),
			);
		};
		if index.element != INT64 || index.low < 0.0 {
			return Err(format!("it may write to the place {}", index.low));
		}
		self.requirements.push(Requirement::Slots {
			input: origin.input.clone(),
		});
		let shape = data.shape.clone();
		Ok(joined(&[data, updates]).moved(shape))
	}
}

/// What several tensors hold together.
pub(super) fn joined(values: &[&Value]) -> Value {
	let mut joined = values[0].clone();
	for value in &values[1..] {
		joined.low = joined.low.min(value.low);
		joined.high = joined.high.max(value.high);
		joined.whole &= value.whole;
	}
	let zeros = values.iter().filter(|v| v.may_be_zero()).map(|v| v.zero);
	joined.zero = zeros.max().unwrap_or(Zero::Plain);
	joined
}

/// The shape of a matrix product, and the dimension that it adds over.
fn product_shape(a: &Value, b: &Value) -> Result<(Shape, Option<Dim>), String> {
	let ([.., rows, left], [.., right, columns]) = (&a.shape[..], &b.shape[..]) else {
		return Err("it multiplies what is no matrix".into());
	};
	let outer = |value: &Value| value.shape[..value.shape.len() - 2].to_vec();
	let mut shape = broadcast(&outer(a), &outer(b))?;
	shape.extend([rows.clone(), columns.clone()]);
	let number = |dim: &Option<Dim>| dim.as_ref().is_some_and(|d| d.known().is_some());
	let inner = match number(left) || right.is_none() {
		true => left.clone(),
		false => right.clone(),
	};
	Ok((shape, inner))
}

fn arithmetic(
	operator: &str,
	[a, b]: [&Value; 2],
	[a_name, b_name]: [String; 2],
	analysis: &Analysis,
) -> Outcome {
	let element = same(a, b)?;
	match operator {
		"Add" => {
			let mut sum = elementwise(a, b, ends(a, b, |a, b| a + b))?;
			sum.zero = zero_of_sum(a.may_be_minus_zero(), b.may_be_minus_zero(), a, b);
			Ok(sum)
		}
		"Sub" => {
			let mut sum = elementwise(a, b, ends(a, b, |a, b| a - b))?;
			// What is taken off is added with the other sign: a zero of it is negative.
			sum.zero = zero_of_sum(a.may_be_minus_zero(), b.may_be_zero(), a, b);
			if let Some(steps) = remainder(a, &a_name, b, analysis) {
				(sum.low, sum.high) = (0.0, steps - 1.0);
			}
			Ok(sum)
		}
		"Mul" => {
			let mut product = elementwise(a, b, ends(a, b, |a, b| a * b))?;
			product.zero = zero_of_product(a, b);
			if a_name == b_name {
				// Of a number with itself.
				product.zero = Zero::Plain;
				if a.may_be_zero() {
					product.low = 0.0;
				} else {
					let least = a.low.abs().min(a.high.abs());
					product.low = rounded(least * least, element);
				}
			}
			for (value, of, times) in [(a, &a_name, b), (b, &b_name, a)] {
				if let Some(times) = times.scalar() {
					product.made = Made::Times(of.clone(), times);
				}
				if let Some(bounds) = value.bounds.as_ref() {
					let normal = times.constant && times.low >= NORMAL;
					if bounds.step == Step::Largest && normal && is_float(element) {
						product.bounds = Some(Bounds {
							factor: bounds.factor / times.low,
							step: Step::Scaled,
							..bounds.clone()
						});
					}
				}
			}
			Ok(product)
		}
		_ => {
			if !is_float(element) {
				return Err("a division of integers".into());
			}
			if b.may_be_zero() {
				return Err(format!(
					"it may divide by zero: what it divides by is from {:e} to {:e}",
					b.low, b.high
				));
			}
			let mut quotient = elementwise(a, b, ends(a, b, |a, b| a / b))?;
			quotient.whole = false;
			quotient.zero = zero_of_product(a, b);
			let bounds = b.bounds.as_ref();
			if let Some(bounds) = bounds.filter(|o| o.of == a_name && o.step == Step::Floored) {
				// Two roundings make the divisor smaller by less than 2^-23 of it, and the quotient's adds as much.
				let most = rounded(bounds.factor * (1.0 + 1.0 / (1 << 22) as f64), element);
				quotient.low = quotient.low.max(-most);
				quotient.high = quotient.high.min(most);
			}
			Ok(quotient)
		}
	}
}

/// For x - 2^k · floor(x / 2^k) of whole numbers that a type holds: 2^k.
fn remainder(a: &Value, a_name: &str, b: &Value, analysis: &Analysis) -> Option<f64> {
	let made = |name: &String| Some(&analysis.values.get(name)?.as_ref()?.made);
	let Made::Times(floor, up) = &b.made else {
		return None;
	};
	let Made::Floor(quotient) = made(floor)? else {
		return None;
	};
	let Made::Times(of, down) = made(quotient)? else {
		return None;
	};
	let powers = 1..=20;
	let step = powers.map(|k| f64::from(1u32 << k)).find(|s| s == up)?;
	let holds = a.whole && a.low >= 0.0 && a.high <= exact(a.element)?;
	let fits = is_float(a.element) && of == a_name && *down == 1.0 / step && holds;
	fits.then_some(step)
}

fn single(operator: &str, x: &Value, of: String) -> Outcome {
	if !is_float(x.element) {
		return Err(format!("it is of {}", name(x.element)));
	}
	let value = |low: f64, high: f64| Value {
		whole: x.whole,
		..Value::new(x.element, x.shape.clone(), low, high)
	};
	// Kernels may lose the sign of what they round to zero.
	let rounds = |low: f64, high: f64| Value {
		whole: true,
		zero: match x.low >= 0.0 && !x.may_be_minus_zero() {
			true => Zero::Plain,
			false => Zero::Unsettled,
		},
		..value(low, high)
	};
	Ok(match operator {
		"Abs" => {
			let low = match x.may_be_zero() {
				true => 0.0,
				false => x.low.abs().min(x.high.abs()),
			};
			Value {
				made: Made::Abs(of),
				..value(low, x.magnitude())
			}
		}
		"Neg" => Value {
			zero: x.zero.max(Zero::Signed),
			..value(-x.high, -x.low)
		},
		"Round" => rounds(x.low.round_ties_even(), x.high.round_ties_even()),
		"Floor" => Value {
			made: Made::Floor(of),
			..rounds(x.low.floor(), x.high.floor())
		},
		"Ceil" => rounds(x.low.ceil(), x.high.ceil()),
		_ if x.element != DOUBLE => {
			return Err(
				"a root of floats, which is off by one unit in the last place in some versions: cast to double, and back"
					.into(),
			)
		}
		_ if x.low < 0.0 => return Err(format!("the root of what may be {:e}", x.low)),
		_ => Value {
			whole: false,
			zero: x.zero,
			..value(x.low.sqrt(), x.high.sqrt())
		},
	})
}

fn choice(operator: &str, values: &[&Value]) -> Outcome {
	let (first, rest) = values.split_first().ok_or("it has no inputs")?;
	let largest = operator == "Max";
	let better = |a: f64, b: f64| if largest { a.max(b) } else { a.min(b) };
	let mut made = Value {
		whole: first.whole,
		..Value::new(first.element, first.shape.clone(), first.low, first.high)
	};
	for value in rest {
		same(first, value)?;
		made.shape = broadcast(&made.shape, &value.shape)?;
		(made.low, made.high) = (better(made.low, value.low), better(made.high, value.high));
		made.whole &= value.whole;
	}
	made.zero = zero_of_choice(values.iter().copied());
	if let (true, [a, b]) = (largest, values) {
		for (bounded, least) in [(a, b), (b, a)] {
			let bounds = bounded.bounds.as_ref().filter(|b| b.step == Step::Scaled);
			if let Some(bounds) = bounds.filter(|_| least.constant && least.low >= NORMAL) {
				made.bounds = Some(Bounds {
					step: Step::Floored,
					..bounds.clone()
				});
			}
		}
	}
	Ok(made)
}

fn clip(x: &Value, [low, high]: [Option<&Value>; 2]) -> Outcome {
	let mut made = Value {
		whole: x.whole,
		..Value::new(x.element, x.shape.clone(), x.low, x.high)
	};
	for bound in [low, high].into_iter().flatten() {
		same(x, bound)?;
		if bound.scalar().is_none() {
			return Err("its bounds are no constants".into());
		}
		made.whole &= bound.whole;
	}
	if let (Some(low), Some(high)) = (low, high) {
		if low.low > high.low {
			return Err("its bounds are the wrong way round".into());
		}
	}
	if let Some(low) = low {
		(made.low, made.high) = (made.low.max(low.low), made.high.max(low.low));
	}
	if let Some(high) = high {
		(made.low, made.high) = (made.low.min(high.low), made.high.min(high.low));
	}
	let bounds = [low, high].into_iter().flatten();
	made.zero = zero_of_choice([x].into_iter().chain(bounds));
	Ok(made)
}

fn cast(x: &Value, to: i32) -> Outcome {
	let Some((least, most)) = range(to) else {
		return Err(format!(
			"it casts to {}, which is computed with in ways of its own",
			name(to)
		));
	};
	if to == BOOL && x.element != BOOL {
		return Err("it casts numbers to bool: compare them".into());
	}
	let mut made = x.moved(x.shape.clone());
	made.element = to;
	if is_float(to) {
		(made.low, made.high) = (rounded(x.low, to), rounded(x.high, to));
		if x.element == DOUBLE && x.low < 0.0 {
			// What is too small for a float becomes a zero of its sign.
			made.zero = made.zero.max(Zero::Signed);
		}
		return Ok(made);
	}
	if !x.whole {
		return Err(format!(
			"it casts to {} what need not be whole numbers: round first",
			name(to)
		));
	}
	if x.low < least || x.high > most {
		return Err(format!(
			"it casts to {} what may be from {} to {}: clip first",
			name(to),
			x.low,
			x.high
		));
	}
	if x.element == to {
		made.content = x.content.clone();
		made.origin = x.origin.clone();
	}
	Ok(made)
}
