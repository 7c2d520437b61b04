//! A program that has every operator, folds that are judged at once and folds of one and two cuts.

use consilience_judge::{
	program::{
		Comparison, Dim, Double, Lengths, Operand, Operator, Program, Reduction, Rule, Signature,
		Single,
	},
	trace::{compute, Committed},
	value::Kind,
};

#[path = "noise.rs"]
pub(crate) mod noise;

use noise::Noise;

/// A dimension that the program leaves open: the number of tokens.
pub(crate) const TOKENS: Dim = Dim {
	factor: 1,
	powers: [0, 1, 0],
};
/// Lengths of its runs.
pub(crate) const LENGTHS: Lengths = [1, 5, 40];
/// Rows of the table that tokens are looked up in.
pub(crate) const ROWS: u32 = 9;
/// Longer than two cuts.
pub(crate) const LONG: u32 = 40_000;
/// Longer than one cut.
pub(crate) const WIDE: u32 = 2_100;

fn d(n: u32) -> Dim {
	Dim::number(n)
}

/// A program in the making, with its tensors.
pub(crate) struct Draft {
	pub(crate) program: Program,
	pub(crate) tensors: Vec<Committed>,
}

impl Draft {
	fn signature(&self, kind: Kind, shape: &[Dim]) -> Signature {
		Signature {
			kind,
			shape: shape.to_vec(),
			along: shape.len().saturating_sub(1) as u8,
		}
	}

	fn push(&mut self, operator: Operator, inputs: &[u32], output: Signature) -> u32 {
		let operand = |tensor: &u32| Operand {
			tensor: *tensor,
			signature: self.program.rules[*tensor as usize].output.clone(),
		};
		let rule = Rule {
			operator,
			inputs: inputs.iter().map(operand).collect(),
			output,
		};
		if !matches!(rule.operator, Operator::Input(_) | Operator::Constant(_)) {
			let made = compute(&self.tensors, &rule, &LENGTHS);
			self.tensors.push(made.unwrap());
		}
		self.program.rules.push(rule);
		self.program.rules.len() as u32 - 1
	}

	fn add(&mut self, operator: Operator, inputs: &[u32], kind: Kind, shape: &[Dim]) -> u32 {
		let output = self.signature(kind, shape);
		self.push(operator, inputs, output)
	}

	fn fed(&mut self, signature: Signature, raw: &[u8]) -> u32 {
		let committed = Committed::new(&signature, &LENGTHS, raw).unwrap();
		self.tensors.push(committed);
		self.push(Operator::Input(0), &[], signature)
	}

	fn constant_of(&mut self, signature: Signature, raw: &[u8]) -> u32 {
		let committed = Committed::new(&signature, &LENGTHS, raw).unwrap();
		let root = committed.root();
		self.tensors.push(committed);
		self.push(Operator::Constant(root), &[], signature)
	}

	fn floats(&mut self, shape: &[Dim], values: impl IntoIterator<Item = f32>) -> u32 {
		let raw: Vec<_> = values.into_iter().flat_map(f32::to_le_bytes).collect();
		let signature = self.signature(Kind::Float, shape);
		self.constant_of(signature, &raw)
	}
}

/// A run of every operator on tokens that look random.
pub(crate) fn every_operator(seed: u64) -> Draft {
	let mut noise = Noise(seed);
	let mut d_ = Draft {
		program: Program { rules: Vec::new() },
		tensors: Vec::new(),
	};
	let g = &mut d_;
	use Kind::{Bool, Double as F64, Float as F32, Int32, Int64, Int8, Uint8};

	let ids = g.signature(Int64, &[d(1), TOKENS]);
	let raw: Vec<_> = (0..LENGTHS[1])
		.flat_map(|_| (noise.below(ROWS.into()) as i64).to_le_bytes())
		.collect();
	let ids = g.fed(ids, &raw);
	let table = (0..ROWS * 4).map(|_| noise.below(2_000) as f32 / 64.0 - 15.0);
	let table: Vec<_> = table.collect();
	let table = g.floats(&[d(ROWS), d(4)], table);
	let x = g.add(
		Operator::Gather(0),
		&[table, ids],
		F32,
		&[d(1), TOKENS, d(4)],
	);
	let shape = [d(1), TOKENS, d(4)];
	let three = g.floats(&[], [3.0]);
	let seven = g.floats(&[d(1)], [7.5]);
	let mut all = Vec::new();
	for what in [Double::Add, Double::Sub, Double::Mul, Double::Div] {
		all.push(g.add(Operator::Double(what), &[x, three], F32, &shape));
	}
	for what in [
		Single::Abs,
		Single::Neg,
		Single::Round,
		Single::Floor,
		Single::Ceil,
	] {
		all.push(g.add(Operator::Single(what), &[all[3]], F32, &shape));
	}
	let wide = g.add(Operator::Cast, &[all[4]], F64, &shape);
	let root = g.add(Operator::Single(Single::Sqrt), &[wide], F64, &shape);
	let root = g.add(Operator::Cast, &[root], F32, &shape);
	let most = g.add(Operator::Max, &[x, three, root], F32, &shape);
	let least = g.add(Operator::Min, &[most, seven], F32, &shape);
	let (low, high) = (true, true);
	let clipped = g.add(
		Operator::Clip { low, high },
		&[least, three, seven],
		F32,
		&shape,
	);
	let (low, high) = (false, true);
	let clipped = g.add(Operator::Clip { low, high }, &[clipped, seven], F32, &shape);
	let mut flags = Vec::new();
	for what in [
		Comparison::Equal,
		Comparison::Greater,
		Comparison::GreaterOrEqual,
		Comparison::Less,
		Comparison::LessOrEqual,
	] {
		flags.push(g.add(Operator::Compare(what), &[clipped, three], Bool, &shape));
	}
	let both = g.add(
		Operator::Double(Double::And),
		&[flags[1], flags[2]],
		Bool,
		&shape,
	);
	let either = g.add(
		Operator::Double(Double::Or),
		&[both, flags[0]],
		Bool,
		&shape,
	);
	let neither = g.add(Operator::Single(Single::Not), &[either], Bool, &shape);
	let chosen = g.add(Operator::Where, &[neither, x, clipped], F32, &shape);
	let turned = g.add(
		Operator::Transpose(vec![0, 2, 1]),
		&[chosen],
		F32,
		&[d(1), d(4), TOKENS],
	);
	let flat = g.add(Operator::Copy, &[turned], F32, &[d(4), TOKENS]);
	let part = g.add(Operator::Part(vec![1, 0]), &[flat], F32, &[d(2), TOKENS]);
	let joined = g.add(Operator::Concat(0), &[part, flat], F32, &[d(6), TOKENS]);
	let stretched = g.add(Operator::Expand, &[joined], F32, &[d(2), d(6), TOKENS]);
	let largest = g.add(
		Operator::Reduce {
			how: Reduction::Max,
			axes: vec![2],
		},
		&[stretched],
		F32,
		&[d(2), d(6), d(1)],
	);
	g.add(
		Operator::Reduce {
			how: Reduction::Min,
			axes: vec![0, 1],
		},
		&[largest],
		F32,
		&[d(1)],
	);

	// Whole numbers multiplied in floats, and bytes with what stands for zero.
	let whole = g.add(Operator::Single(Single::Round), &[chosen], F32, &shape);
	let factor = (0..12).map(|n| n as f32 - 5.0);
	let mut columns = g.signature(F32, &[d(4), d(3)]);
	columns.along = 0;
	let raw: Vec<_> = factor.flat_map(f32::to_le_bytes).collect();
	let factor = g.constant_of(columns, &raw);
	g.add(
		Operator::MatMul,
		&[whole, factor],
		F32,
		&[d(1), TOKENS, d(3)],
	);
	let sum = g.add(
		Operator::Reduce {
			how: Reduction::SumSquare,
			axes: vec![2],
		},
		&[whole],
		F32,
		&[d(1), TOKENS],
	);
	let row: Vec<u8> = (0..WIDE).map(|_| noise.below(128) as u8).collect();
	let row_signature = g.signature(Uint8, &[d(1), d(WIDE)]);
	let row = g.constant_of(row_signature, &row);
	let weights: Vec<u8> = (0..2 * WIDE).map(|_| noise.next() as u8).collect();
	let mut columns = g.signature(Int8, &[d(WIDE), d(2)]);
	columns.along = 0;
	let weights = g.constant_of(columns, &weights);
	let zero = g.signature(Uint8, &[]);
	let zero = g.constant_of(zero, &[64]);
	let zeros = g.signature(Int8, &[d(2)]);
	let zeros = g.constant_of(zeros, &[3, 251]);
	let product = g.add(
		Operator::MatMulInteger([true, true]),
		&[row, weights, zero, zeros],
		Int32,
		&[d(1), d(2)],
	);
	g.add(
		Operator::Double(Double::Add),
		&[product, product],
		Int32,
		&[d(1), d(2)],
	);

	// A cache.
	let cache = g.add(Operator::Zeros, &[], F32, &[d(1), d(WIDE + 7)]);
	let at = g.add(Operator::Count, &[], Int64, &[d(WIDE)]);
	let at = g.add(Operator::Copy, &[at], Int64, &[d(1), d(WIDE)]);
	let updates: Vec<_> = (0..WIDE).map(|n| (n % 91) as f32 / 8.0).collect();
	let updates = g.floats(&[d(1), d(WIDE)], updates);
	let cache = g.add(
		Operator::Scatter(1),
		&[cache, at, updates],
		F32,
		&[d(1), d(WIDE + 7)],
	);
	g.add(Operator::Best, &[cache], Int64, &[d(1)]);

	// Long folds.
	let count = g.add(Operator::Count, &[], Int64, &[d(LONG)]);
	let count = g.add(Operator::Cast, &[count], F64, &[d(LONG)]);
	let reduce = |how| Operator::Reduce { how, axes: vec![0] };
	for how in [
		Reduction::Sum,
		Reduction::SumSquare,
		Reduction::Max,
		Reduction::Min,
	] {
		g.add(reduce(how), &[count], F64, &[d(1)]);
	}
	let _ = sum;
	d_
}
