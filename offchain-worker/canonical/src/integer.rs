//! The graph of the integer class: its bits depend on no machine.
//!
//! ```text
//! Inputs   input_ids, position_ids           int64 [B,S]
//!          past_key_values.L.key             int8  [B,H,D,C]
//!          past_key_values.L.value           int8  [B,H,C,D]
//! Outputs  logits                            float [B,S,V]
//!          present.L.key, present.L.value    same types and shapes as the past
//! ```
//!
//! C is the capacity in tokens, any number; slot c belongs to position c for good. A row sees the slots up to its own position;
//! whatever the others hold does not count.
//!
//! Two rules make the bits the same with every order of adding, vector width, fused multiply-add and device:
//!
//! 1. A sum adds whole numbers only, and no partial sum leaves the range in which its type holds all of them: 2^31 in 32-bit
//!    integers, 2^24 in floats, 2^53 in doubles.
//! 2. Everything else is one correctly rounded operation on single elements (Add, Sub, Mul, Div, Round, Floor, Cast, the root of
//!    doubles), or exact (Abs, Max, Min, Clip, moves). A Mul and an Add stay two operators.
//!
//! [`crate::proof`] shows both of every graph that is written, from the graph alone. Here and there a bound stands in the graph that
//! changes no number of any model: it is what the proof goes by.

use std::collections::HashMap;

use crate::{
	decoder::{HIGH, LONGEST, SMALL, STEPS, ZERO},
	form::{Form, Part},
	graph::{Data, Dim, Graph, Value},
	onnx::{DOUBLE, FLOAT, INT64, INT8, UINT8},
	ranges::{Ranges, Span, Table},
	rotary,
	source::{Activation, Config, Rope, Taken, Tensors},
};

/// Steps of the largest key or value; and of any number in the cache, which may be anything of its type.
const CACHED: f64 = 127.0;
const ANY_CACHED: u64 = 128;

/// Of what was seen of a channel, how much more counts.
const MARGIN: f64 = 1.25;
/// The same of queries.
const QUERY_MARGIN: f64 = 1.5;

/// Most steps of a query: eleven bits, which formats of less than 32 bits hold too.
const MOST_STEPS: u64 = 2_047;

/// Elements of a head whose products are added up at once; longer heads are multiplied in parts.
const HEAD: usize = 128;

/// exp(t) is (1 + x + x²/2)^(2^6), x = t / 2^6.
const SQUARINGS: u32 = 6;
const PARTS: f64 = (1u32 << SQUARINGS) as f64;

/// Steps of a probability, in two planes of seven bits: 127 · 128.
const PLANE: f64 = 128.0;
const LARGEST_IN_PLANE: f64 = 127.0;

/// Scores of slots that a row does not see.
const UNSEEN: f64 = -1e9;

/// What normed rows are far below; it bounds what follows from them.
const NORMED: f64 = 65_536.0;

/// The least that a row is divided by.
const LEAST: f64 = 1e-12;

/// Steps of the largest element of a row of so many whose squares are added up in a double: as many as fit.
fn norm_steps(length: usize) -> f64 {
	let bits = (53 - length.next_power_of_two().ilog2()) / 2;
	f64::from(1u32 << bits.min(20))
}

/// A row in two rows of seven bits, and their scales.
struct Rows {
	rows: String,
	scales: String,
}

/// Weights that are multiplied with the same rows.
struct Product<'p> {
	/// Name of the product.
	stem: String,
	inputs: usize,
	/// Tensors of the source, their outputs, and whether they have fifteen bits.
	weights: Vec<(String, usize, bool)>,
	/// By what outputs are multiplied further.
	factors: Option<&'p dyn Fn(usize) -> Vec<f32>>,
}

/// Names of tensors that all layers use.
struct Shared {
	batch: String,
	tokens: String,
	key_slots: String,
	value_slots: String,
	/// Zero where a row sees a slot, by window.
	biases: HashMap<Option<usize>, String>,
	/// Cosines and sines of the global and of the local embedding.
	global: [String; 2],
	local: Option<[String; 2]>,
}

/// A graph in the making.
struct Integer<'d> {
	config: &'d Config,
	ranges: &'d Ranges,
	tensors: Taken<'d>,
	graph: Graph,
	/// Shapes that reshapes go to, by their parts.
	shapes: HashMap<Vec<String>, String>,
}

/// Builds the graph of a model. Fails if a tensor is missing, has another shape, or has no place in the graph, if the ranges are not of
/// this model, or if it is too large for the class.
pub(crate) fn build(
	config: &Config,
	tensors: &dyn Tensors,
	ranges: &Ranges,
) -> Result<Graph, String> {
	config.check()?;
	ranges.check(config)?;
	let mut integer = Integer {
		config,
		ranges,
		tensors: Taken::of(tensors),
		graph: Graph::with_shapes(),
		shapes: HashMap::new(),
	};
	integer.signature();
	integer.body()?;
	integer.tensors.all(&config.architecture)?;
	Ok(integer.graph)
}

/// Steps of a unit, for each channel.
fn steps(span: &Span) -> Table {
	each(&span.low, &span.high, |low, high| {
		CACHED / ((high - low).max(1e-6) / 2.0 * MARGIN)
	})
}

/// What stands for zero of each channel: near the middle, and so that the first position falls on a step. Most of the attention goes to
/// it; were it off by half a step, so would be every output.
fn middle(span: &Span, steps: &Table) -> Table {
	let middle = each(&span.low, &span.high, |low, high| (low + high) / 2.0);
	let off = each(&span.first, &middle, |first, middle| first - middle);
	let moved = each(&off, steps, |off, steps| {
		(off * steps).round_ties_even() / steps
	});
	each(&span.first, &moved, |first, moved| first - moved)
}

fn each(a: &Table, b: &Table, of: impl Fn(f64, f64) -> f64) -> Table {
	let heads = a.iter().zip(b);
	heads
		.map(|(a, b)| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect())
		.collect()
}

/// A table as a query head sees it, of which `group` share a key's head.
fn grouped(table: &Table, group: usize) -> Vec<f32> {
	let heads = table
		.iter()
		.flat_map(|head| std::iter::repeat_n(head, group));
	heads.flatten().map(|v| *v as f32).collect()
}

fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
	values.into_iter().flat_map(f32::to_le_bytes).collect()
}

impl Integer<'_> {
	fn signature(&mut self) {
		let c = self.config;
		let (batch, tokens, capacity) = (Dim::Open("B"), Dim::Open("S"), Dim::Open("C"));
		let (heads, dim) = (Dim::Fixed(c.kv_heads), Dim::Fixed(c.head_dim));
		for name in ["input_ids", "position_ids"] {
			self.graph.input(name, INT64, &[batch, tokens]);
		}
		let logits = [batch, tokens, Dim::Fixed(c.vocabulary)];
		self.graph.output("logits", FLOAT, &logits);
		for layer in 0..c.layers {
			for (kind, shape) in [
				("key", [batch, heads, dim, capacity]),
				("value", [batch, heads, capacity, dim]),
			] {
				let past = format!("past_key_values.{layer}.{kind}");
				self.graph.input(&past, INT8, &shape);
				let present = format!("present.{layer}.{kind}");
				self.graph.output(&present, INT8, &shape);
			}
		}
	}

	/// Elementwise with a float.
	fn with(&mut self, kind: &str, x: &str, value: f64) -> String {
		let value = self.graph.float(value);
		self.graph.op(kind, &[x, &value])
	}

	fn clip(&mut self, x: &str, low: f64, high: f64) -> String {
		let (low, high) = (self.graph.float(low), self.graph.float(high));
		self.graph.op("Clip", &[x, &low, &high])
	}

	fn cast(&mut self, x: &str, element: i32) -> String {
		self.graph
			.op_with("Cast", &[x], &[("to", Value::Int(element.into()))])
	}

	/// The largest of a row's last axis.
	fn largest(&mut self, x: &str) -> String {
		let axes = [("axes", Value::Ints(&[-1])), ("keepdims", Value::Int(1))];
		self.graph.op_with("ReduceMax", &[x], &axes)
	}

	/// A large constant that does not come from the source.
	fn made(&mut self, name: &str, dims: Vec<usize>, values: Vec<f32>) {
		self.graph
			.weight(name, FLOAT, dims, || Data::Made(bytes(values)));
	}

	/// Reshapes; a dimension is the name of a tensor of one.
	fn shape(&mut self, x: &str, dims: &[&str]) -> String {
		let key: Vec<_> = dims.iter().map(|d| (*d).to_owned()).collect();
		let g = &mut self.graph;
		let shape = self.shapes.entry(key).or_insert_with(|| {
			let axis = [("axis", Value::Int(0))];
			g.op_with("Concat", dims, &axis)
		});
		g.op("Reshape", &[x, shape])
	}

	fn number(&mut self, n: usize) -> String {
		self.graph.ints(&[n as i64])
	}

	/// x, [B,S,1,K], as two rows of seven bits and their scales, [B,S,2,1]. With `norm`, of what RMSNorm makes of x with this weight.
	///
	/// A norm divides a row by one number, which goes to the scales: the rows are those of x · weight. Its sum of squares is of the
	/// third row's whole numbers in doubles, at most 2^53.
	fn rows(&mut self, x: &str, length: usize, norm: Option<&str>) -> Result<Rows, String> {
		let steps = norm_steps(length);
		let mut x = x.to_owned();
		let mut factors = vec![1.0 / HIGH, 1.0 / (HIGH * STEPS)];
		let mut least = vec![STEPS * LEAST, LEAST];
		if let Some(norm) = norm {
			self.tensors.expect(norm, &[length])?;
			let rows = format!("{norm}.rows");
			let parts = vec![(norm.to_owned(), Form::NormRows)];
			self.graph
				.weight(&rows, FLOAT, vec![3, length], || Data::Source(parts));
			x = self.graph.op("Mul", &[&x, &rows]);
			factors.push(1.0 / steps);
			least.push(LEAST);
		}
		let magnitude = self.graph.op("Abs", &[&x]);
		let largest = self.largest(&magnitude);
		let shape = [factors.len(), 1];
		let factors = self.graph.floats(&shape, &factors);
		let scales = self.graph.op("Mul", &[&largest, &factors]);
		let least = self.graph.floats(&shape, &least);
		let mut scales = self.graph.op("Max", &[&scales, &least]);
		let rows = self.graph.op("Div", &[&x, &scales]);
		let mut rows = self.graph.op("Round", &[&rows]);
		if norm.is_some() {
			let split = self.graph.split(&rows, &[2, 1], -2);
			let scale = self.graph.split(&scales, &[2, 1], -2);
			rows = self.clip(&split[0], -HIGH * STEPS, HIGH * STEPS);
			let root = self.root(&split[1], &scale[1], steps, None);
			let normed = self.graph.op("Div", &[&scale[0], &root]);
			scales = self.with("Min", &normed, NORMED);
		}
		// The low row is what the high one leaves over: whole numbers within 127 · 63 + 8,001 < 2^24.
		let left = self.graph.matrix(&[[1.0, 0.0], [-STEPS, 1.0]]);
		let rows = self.graph.op("MatMul", &[&left, &rows]);
		let rows = self.with("Add", &rows, ZERO.into());
		let rows = self.clip(&rows, 0.0, LARGEST_IN_PLANE);
		let rows = self.cast(&rows, UINT8);
		Ok(Rows { rows, scales })
	}

	/// The root of the mean of squares, from whole numbers up to `steps` and what one of them stands for. `share` is what the sum is
	/// multiplied with, unless the numbers have taken it in.
	fn root(&mut self, whole: &str, scale: &str, steps: f64, share: Option<f64>) -> String {
		let whole = self.clip(whole, -steps, steps);
		let whole = self.cast(&whole, DOUBLE);
		let axes = [("axes", Value::Ints(&[-1])), ("keepdims", Value::Int(1))];
		let g = &mut self.graph;
		let squares = g.op_with("ReduceSumSquare", &[&whole], &axes);
		let scale = self.cast(scale, DOUBLE);
		let g = &mut self.graph;
		let square = g.op("Mul", &[&scale, &scale]);
		let mut mean = g.op("Mul", &[&squares, &square]);
		if let Some(share) = share {
			let share = g.double(share);
			mean = g.op("Mul", &[&mean, &share]);
		}
		let eps = g.double(self.config.eps);
		let mean = g.op("Add", &[&mean, &eps]);
		let root = g.op("Sqrt", &[&mean]);
		self.cast(&root, FLOAT)
	}

	/// RMSNorm over the last axis, where its numbers are needed and not only its rows.
	fn normed(&mut self, x: &str, length: usize, weight: &str) -> String {
		let steps = norm_steps(length);
		let magnitude = self.graph.op("Abs", &[x]);
		let largest = self.largest(&magnitude);
		let scale = self.with("Mul", &largest, 1.0 / steps);
		let scale = self.with("Max", &scale, LEAST);
		let whole = self.graph.op("Div", &[x, &scale]);
		let whole = self.graph.op("Round", &[&whole]);
		let root = self.root(&whole, &scale, steps, Some(1.0 / length as f64));
		let y = self.graph.op("Div", &[x, &root]);
		let y = self.clip(&y, -NORMED, NORMED);
		self.graph.op("Mul", &[&y, weight])
	}

	/// x·W for several W of 8 bits in one product, from the rows of x. Fine ones have two columns for each of theirs, which stand
	/// after all first ones: what the first leaves over. |sum| <= K · 64 · 255 < 2^31.
	fn product(&mut self, rows: &Rows, product: &Product) -> Result<String, String> {
		let (stem, inputs) = (&product.stem, product.inputs);
		if inputs > LONGEST {
			return Err(format!(
				"{stem:?} has rows of {inputs}: sums of 8-bit products fit for at most {LONGEST}"
			));
		}
		for (name, outputs, _) in &product.weights {
			self.tensors.expect(name, &[*outputs, inputs])?;
		}
		let all = product.weights.iter().enumerate();
		let fine = all.clone().filter(|(_, (.., fine))| *fine);
		let columns: Vec<_> = all
			.map(|(i, weight)| (i, weight, Part::First))
			.chain(fine.map(|(i, weight)| (i, weight, Part::Rest)))
			.collect();
		let outputs = columns.iter().map(|(_, (_, n, _), _)| n).sum();
		let parts = |form: &dyn Fn(Part) -> Form| -> Vec<(String, Form)> {
			let columns = columns.iter();
			columns
				.map(|(_, (name, ..), part)| (name.clone(), form(*part)))
				.collect()
		};
		let g = &mut self.graph;
		let [weight, zeros, scale] =
			["weight", "zero", "scale"].map(|suffix| format!("{stem}.{suffix}"));
		g.weight(&weight, INT8, vec![inputs, outputs], || {
			Data::Source(parts(&Form::Int8Columns))
		});
		g.weight(&zeros, INT8, vec![outputs], || {
			Data::Source(parts(&Form::ColumnZeros))
		});
		g.weight(&scale, FLOAT, vec![outputs], || {
			let parts = parts(&Form::ColumnScales);
			match product.factors {
				Some(factors) => {
					let factors = columns.iter().flat_map(|(i, ..)| factors(*i)).collect();
					Data::Scaled(parts, factors)
				}
				None => Data::Source(parts),
			}
		});
		let zero = g.byte(ZERO);
		let y = g.op("MatMulInteger", &[&rows.rows, &weight, &zero, &zeros]);
		let y = self.cast(&y, FLOAT);
		let g = &mut self.graph;
		let y = g.op("Mul", &[&y, &rows.scales]);
		let [high, low] = g.halves(&y, -2);
		let y = g.op("Add", &[&high, &low]);
		Ok(g.op("Mul", &[&y, &scale]))
	}

	/// Adds the biases of these weights (and their outputs), whose columns stand side by side, if the source has them.
	fn biased(
		&mut self,
		y: String,
		name: &str,
		weights: &[(&str, usize)],
		factors: Option<Vec<f32>>,
	) -> Result<String, String> {
		let biases: Vec<_> = weights
			.iter()
			.map(|(weight, n)| (weight.replace(".weight", ".bias"), *n))
			.collect();
		if biases.iter().all(|(b, _)| self.tensors.shape(b).is_none()) {
			return Ok(y);
		}
		for (bias, outputs) in &biases {
			self.tensors.expect(bias, &[*outputs])?;
		}
		let outputs = biases.iter().map(|(_, n)| n).sum();
		let parts = biases.into_iter().map(|(bias, _)| (bias, Form::Same));
		let parts = parts.collect();
		self.graph
			.weight(name, FLOAT, vec![outputs], || match factors {
				Some(factors) => Data::Scaled(parts, factors),
				None => Data::Source(parts),
			});
		Ok(self.graph.op("Add", &[&y, name]))
	}

	/// (z² + one)^(2^6)
	fn power(&mut self, z: &str, one: f64) -> String {
		let mut p = self.graph.op("Mul", &[z, z]);
		p = self.with("Add", &p, one);
		for _ in 0..SQUARINGS {
			p = self.graph.op("Mul", &[&p, &p]);
		}
		p
	}

	/// 1 + exp(slope · x): with h the root of 1/2, ((1 + t/64)·h)² + 1/2 is half of 1 + ((1 + t/64)² - 1)/2 + 1/2. t counts from -64 to
	/// 64.
	fn one_and_exp(&mut self, x: &str, slope: f64) -> String {
		let half = 0.5f64.sqrt();
		let z = self.with("Mul", x, slope * half / PARTS);
		let z = self.with("Add", &z, half);
		let z = self.clip(&z, 0.0, 2.0 * half);
		let e = self.power(&z, 0.5);
		self.with("Add", &e, 1.0)
	}

	/// times · tanh(x / cap)
	fn capped(&mut self, x: &str, cap: f64, times: f64) -> String {
		let e = self.one_and_exp(x, 2.0 / cap);
		let two = self.graph.float(2.0);
		let rest = self.graph.op("Div", &[&two, &e]);
		let one = self.graph.float(1.0);
		let tanh = self.graph.op("Sub", &[&one, &rest]);
		self.with("Mul", &tanh, times)
	}

	fn attention(&mut self, x: &str, layer: usize, s: &Shared) -> Result<String, String> {
		let c = self.config;
		let p = format!("blk.{layer}.");
		let (heads, group, dim) = (c.kv_heads, c.heads / c.kv_heads, c.head_dim);
		let (queries, keys) = (c.heads * dim, heads * dim);
		// Keys and values are stored in steps of their channel's range about its middle. A constant added to all keys changes no softmax;
		// what is taken from values is added to their mean. Queries are divided by the keys' steps, so that a score needs one factor a
		// head.
		let ranges = self.ranges.layer(layer);
		let (key_steps, value_steps) = (steps(&ranges.k), steps(&ranges.v));
		let key_middle = middle(&ranges.k, &key_steps);
		let value_middle = middle(&ranges.v, &value_steps);
		let most = MOST_STEPS.min(((1 << 24) - 1) / (dim.min(HEAD) as u64 * ANY_CACHED)) as f64;
		let query: Vec<f64> = (0..heads)
			.map(|h| {
				let of_head = ranges.q[h * group..][..group].iter().flat_map(|q| {
					let channels = q.iter().zip(&key_steps[h]);
					channels.map(|(q, steps)| q * QUERY_MARGIN / steps)
				});
				most / of_head.fold(1e-9, f64::max)
			})
			.collect();
		let of_queries = (0..heads).flat_map(|h| {
			let query = query[h];
			let head = key_steps[h].iter().map(move |steps| query / steps);
			std::iter::repeat_n(head, group).flatten()
		});
		let of_keys = key_steps.iter().flatten().copied();
		let factors = of_queries.chain(of_keys).map(|v| v as f32).collect();
		let key_middles = each(&key_middle, &key_steps, |middle, steps| -middle * steps);
		let middles = std::iter::repeat_n(0.0, queries)
			.chain(key_middles.into_iter().flatten().map(|v| v as f32));
		let middles = middles.collect();
		let of_values = grouped(&value_steps, 1);

		let normed = self.rows(x, c.hidden, Some(&format!("{p}attn_norm.weight")))?;
		let [q, k, v] = ["q", "k", "v"].map(|kind| format!("{p}attn_{kind}.weight"));
		let y = self.product(
			&normed,
			&Product {
				stem: format!("{p}attn_qkv"),
				inputs: c.hidden,
				weights: vec![
					(q.clone(), queries, false),
					(k.clone(), keys, false),
					(v.clone(), keys, true),
				],
				factors: Some(&|i| match i {
					0 => vec![1.0; queries],
					1 => vec![1.0; keys],
					_ => of_values.clone(),
				}),
			},
		)?;
		let sizes = [queries + keys, keys, keys].map(|n| n as i64);
		let parts = self.graph.split(&y, &sizes, -1);
		let (b, t) = (s.batch.as_str(), s.tokens.as_str());
		let (one, n_heads, n_dim) = (self.number(1), self.number(heads), self.number(dim));
		let (n_group, n_all) = (self.number(group), self.number(heads * (group + 1)));

		let values = self.graph.op("Add", &[&parts[1], &parts[2]]);
		let name = format!("{p}attn_v.steps.bias");
		let values = self.biased(values, &name, &[(&v, keys)], Some(of_values))?;
		let name = format!("{p}attn_v.middle");
		let middle = each(&value_middle, &value_steps, |middle, steps| -middle * steps);
		self.made(&name, vec![keys], grouped(&middle, 1));
		let values = self.graph.op("Add", &[&values, &name]);
		let values = self.shape(&values, &[b, t, &n_heads, &n_dim]);

		let name = format!("{p}attn_qk.bias");
		let both = self.biased(parts[0].clone(), &name, &[(&q, queries), (&k, keys)], None)?;
		let mut both = self.shape(&both, &[b, t, &n_all, &n_dim]);
		if c.head_norms {
			both = self.head_norms(&both, &p)?;
		}
		let rope = match c.local_rope(layer) {
			Some(_) => s.local.as_ref().unwrap_or(&s.global),
			None => &s.global,
		};
		if c.turns(layer) {
			let [cos, sin] = rope;
			let g = &mut self.graph;
			let [first, second] = g.halves(&both, -1);
			let straight = g.op("Mul", &[&both, cos]);
			let axis = [("axis", Value::Int(-1))];
			let turned = g.op_with("Concat", &[&second, &first], &axis);
			let turned = g.op("Mul", &[&turned, sin]);
			both = g.op("Add", &[&straight, &turned]);
		}
		let name = format!("{p}attn_qk.steps");
		self.made(&name, vec![heads * (group + 1), dim], factors);
		both = self.graph.op("Mul", &[&both, &name]);
		let name = format!("{p}attn_qk.middle");
		self.made(&name, vec![heads * (group + 1), dim], middles);
		both = self.graph.op("Add", &[&both, &name]);
		let sizes = [c.heads as i64, heads as i64];
		let parts = self.graph.split(&both, &sizes, 2);
		let mut whole = |x: &str, most: f64| {
			let x = self.graph.op("Round", &[x]);
			self.clip(&x, -most, most)
		};
		let (q, k) = (whole(&parts[0], most), whole(&parts[1], CACHED));
		let values = whole(&values, CACHED);
		let (k, values) = (self.cast(&k, INT8), self.cast(&values, INT8));

		let g = &mut self.graph;
		let (key, value) = (
			format!("present.{layer}.key"),
			format!("present.{layer}.value"),
		);
		let k = g.op_with("Transpose", &[&k], &[("perm", Value::Ints(&[0, 2, 3, 1]))]);
		let past = format!("past_key_values.{layer}.key");
		let axis = [("axis", Value::Int(3))];
		g.op_named(&key, "ScatterElements", &[&past, &s.key_slots, &k], &axis);
		let perm = [("perm", Value::Ints(&[0, 2, 1, 3]))];
		let values = g.op_with("Transpose", &[&values], &perm);
		let past = format!("past_key_values.{layer}.value");
		let axis = [("axis", Value::Int(2))];
		let inputs = [&past, &s.value_slots, &values].map(String::as_str);
		g.op_named(&value, "ScatterElements", &inputs, &axis);

		let q = self.shape(&q, &[b, t, &n_heads, &n_group, &n_dim]);
		let perm = [("perm", Value::Ints(&[0, 2, 3, 1, 4]))];
		let q = self.graph.op_with("Transpose", &[&q], &perm);
		let rest = self.graph.ints(&[-1]);
		let q = self.shape(&q, &[b, &n_heads, &rest, &n_dim]); // [B,H,G*S,D]
		let score = self.scores(&q, &key);
		let units = |most: f64| -> Vec<f64> {
			let heads = query.iter();
			heads
				.map(|query| c.attention_scale / (query * most))
				.collect()
		};
		let score = match c.attention_cap {
			None => {
				let unit = self.graph.floats(&[heads, 1, 1], &units(PARTS));
				self.graph.op("Mul", &[&score, &unit])
			}
			Some(cap) => {
				let unit = self.graph.floats(&[heads, 1, 1], &units(1.0));
				let score = self.graph.op("Mul", &[&score, &unit]);
				self.capped(&score, cap, cap / PARTS)
			}
		};
		let score = self.graph.op("Add", &[&score, &s.biases[&c.window(layer)]]);
		let [o, total] = self.attended(&score, &value);
		let total = self.with("Max", &total, 1.0);
		let o = self.graph.op("Div", &[&o, &total]);
		let o = self.shape(&o, &[b, &n_heads, &n_group, t, &n_dim]);
		let perm = [("perm", Value::Ints(&[0, 3, 1, 2, 4]))];
		let o = self.graph.op_with("Transpose", &[&o], &perm);
		let n_queries = self.number(queries);
		let o = self.shape(&o, &[b, t, &one, &n_queries]);
		let name = format!("{p}attn_v.unit");
		let unit = each(&value_steps, &value_steps, |steps, _| 1.0 / steps);
		self.made(&name, vec![queries], grouped(&unit, group));
		let o = self.graph.op("Mul", &[&o, &name]);
		let name = format!("{p}attn_v.back");
		self.made(&name, vec![queries], grouped(&value_middle, group));
		let o = self.graph.op("Add", &[&o, &name]);
		let rows = self.rows(&o, queries, None)?;
		let name = format!("{p}attn_output.weight");
		let y = self.product(
			&rows,
			&Product {
				stem: format!("{p}attn_output"),
				inputs: queries,
				weights: vec![(name.clone(), c.hidden, false)],
				factors: None,
			},
		)?;
		self.biased(
			y,
			&format!("{p}attn_output.bias"),
			&[(&name, c.hidden)],
			None,
		)
	}
	/// Norms of queries and keys, [B,S,heads,D].
	fn head_norms(&mut self, x: &str, p: &str) -> Result<String, String> {
		let c = self.config;
		let norms = ["q", "k"].map(|kind| format!("{p}attn_{kind}_norm.weight"));
		for norm in &norms {
			self.tensors.expect(norm, &[c.head_dim])?;
		}
		let [q, k] = norms.map(|norm| (norm, Form::Same));
		let parts = std::iter::repeat_n(q, c.heads).chain(std::iter::repeat_n(k, c.kv_heads));
		let name = format!("{p}attn_qk_norm");
		let dims = vec![1, c.heads + c.kv_heads, c.head_dim];
		let parts = parts.collect();
		self.graph
			.weight(&name, FLOAT, dims, || Data::Source(parts));
		Ok(self.normed(x, c.head_dim, &name))
	}

	/// Q·K of whole numbers in floats: |sum| <= D · steps · 128 < 2^24. What parts of long heads give is added in order.
	fn scores(&mut self, q: &str, key: &str) -> String {
		let dim = self.config.head_dim;
		let key = self.cast(key, FLOAT);
		if dim <= HEAD {
			return self.graph.op("MatMul", &[q, &key]);
		}
		let sizes: Vec<_> = (0..dim)
			.step_by(HEAD)
			.map(|start| HEAD.min(dim - start) as i64)
			.collect();
		let parts = self.graph.split(q, &sizes, -1);
		let keys = self.graph.split(&key, &sizes, 2);
		let mut sum: Option<String> = None;
		for (q, key) in parts.iter().zip(&keys) {
			let part = self.graph.op("MatMul", &[q, key]);
			sum = Some(match sum {
				Some(sum) => self.graph.op("Add", &[&sum, &part]),
				None => part,
			});
		}
		sum.unwrap_or_default()
	}

	/// Values under the softmax of scores, which are in units of 2^6, and what they are to be divided by.
	///
	/// A probability is a whole number of fourteen bits in two planes of seven. Sums: C · 127 · 128 < 2^31 and C · 127 < 2^24 for
	/// C <= 131,072.
	fn attended(&mut self, score: &str, value: &str) -> [String; 2] {
		let largest = self.largest(score);
		let below = self.with("Sub", &largest, 1.0);
		let z = self.graph.op("Sub", &[score, &below]);
		let z = self.clip(&z, 0.0, 1.0);
		let e = self.power(&z, 1.0); // 1 to 2^64
		let e = self.with(
			"Mul",
			&e,
			libm::ldexp(LARGEST_IN_PLANE * PLANE, -(1 << SQUARINGS)),
		);
		let e = self.graph.op("Round", &[&e]);
		let high = self.with("Mul", &e, 1.0 / PLANE);
		let high = self.graph.op("Floor", &[&high]);
		let whole = self.with("Mul", &high, PLANE);
		let low = self.graph.op("Sub", &[&e, &whole]);
		let axis = self.graph.ints(&[-1]);
		let [high, low] = [high, low].map(|plane| {
			let bytes = self.cast(&plane, UINT8);
			let sum = self.graph.op("MatMulInteger", &[&bytes, value]);
			let keep = [("keepdims", Value::Int(1))];
			let total = self.graph.op_with("ReduceSum", &[&plane, &axis], &keep);
			[self.cast(&sum, FLOAT), total]
		});
		let mut both = high.into_iter().zip(low).map(|(high, low)| {
			let high = self.with("Mul", &high, PLANE);
			self.graph.op("Add", &[&high, &low])
		});
		[(); 2].map(|()| both.next().unwrap_or_default())
	}

	fn feed_forward(&mut self, x: &str, layer: usize) -> Result<String, String> {
		let c = self.config;
		let p = format!("blk.{layer}.");
		let [gate, up, down] = ["gate", "up", "down"].map(|kind| format!("{p}ffn_{kind}.weight"));
		let rows = self.rows(x, c.hidden, Some(&format!("{p}ffn_norm.weight")))?;
		let inner = c.intermediate;
		let y = self.product(
			&rows,
			&Product {
				stem: format!("{p}ffn_gate_up"),
				inputs: c.hidden,
				weights: vec![(gate.clone(), inner, false), (up.clone(), inner, false)],
				factors: None,
			},
		)?;
		let name = format!("{p}ffn_gate_up.bias");
		let y = self.biased(y, &name, &[(&gate, inner), (&up, inner)], None)?;
		let sizes = [inner as i64; 2];
		let parts = self.graph.split(&y, &sizes, -1);
		let (gate, up) = (&parts[0], &parts[1]);
		let e = match c.activation {
			Activation::Silu => self.one_and_exp(gate, -1.0),
			// x/2 · (1 + tanh(u)) is x / (1 + exp(-2u)), u = √(2/π) · (x + 0.044715 x³), which at 64 has long been all or nothing.
			Activation::Gelu => {
				let near = self.clip(gate, -PARTS, PARTS);
				let square = self.graph.op("Mul", &[&near, &near]);
				let cube = self.graph.op("Mul", &[&square, &near]);
				let part = self.with("Mul", &cube, 0.044715);
				let u = self.graph.op("Add", &[&near, &part]);
				self.one_and_exp(&u, -2.0 * core::f64::consts::FRAC_2_PI.sqrt())
			}
		};
		let active = self.graph.op("Div", &[gate, &e]);
		let y = self.graph.op("Mul", &[&active, up]);
		let rows = self.rows(&y, inner, None)?;
		let fine = c.hidden < SMALL;
		let mut y = self.product(
			&rows,
			&Product {
				stem: format!("{p}ffn_down"),
				inputs: inner,
				weights: vec![(down.clone(), c.hidden, fine)],
				factors: None,
			},
		)?;
		if fine {
			let [first, rest] = self.graph.halves(&y, -1);
			y = self.graph.op("Add", &[&first, &rest]);
		}
		self.biased(y, &format!("{p}ffn_down.bias"), &[(&down, c.hidden)], None)
	}

	fn embed(&mut self) -> Result<String, String> {
		let (vocabulary, hidden) = (self.config.vocabulary, self.config.hidden);
		let table = "token_embd.weight";
		self.tensors.expect(table, &[vocabulary, hidden])?;
		let axis = [("axis", Value::Int(0))];
		let [rows, scales] = [
			("token_embd.q", INT8, hidden, Form::Int8Rows),
			("token_embd.scale", FLOAT, 1, Form::RowScales),
		]
		.map(|(name, element, width, form)| {
			let g = &mut self.graph;
			g.weight(name, element, vec![vocabulary, width], || {
				Data::Source(vec![(table.into(), form)])
			});
			g.op_with("Gather", &[name, "input_ids"], &axis)
		});
		let rows = self.cast(&rows, FLOAT);
		let x = self.graph.op("Mul", &[&rows, &scales]);
		let axis = self.graph.ints(&[2]); // that of the two rows
		let x = self.graph.op("Unsqueeze", &[&x, &axis]);
		Ok(match self.config.embedding_scale {
			Some(scale) => self.with("Mul", &x, scale),
			None => x,
		})
	}

	fn logits(&mut self, x: &str) -> Result<(), String> {
		let c = self.config;
		let table = if c.tied {
			"token_embd.weight"
		} else {
			"output.weight"
		};
		let rows = self.rows(x, c.hidden, Some("output_norm.weight"))?;
		let mut y = self.product(
			&rows,
			&Product {
				stem: "output".into(),
				inputs: c.hidden,
				weights: vec![(table.into(), c.vocabulary, false)],
				factors: None,
			},
		)?;
		if let Some(cap) = c.logits_cap {
			y = self.capped(&y, cap, cap);
		}
		let axis = self.graph.ints(&[2]);
		self.graph.op_named("logits", "Squeeze", &[&y, &axis], &[]);
		Ok(())
	}

	/// Cosines of the rows' positions, and sines, whose first half is negative: what it is multiplied with are the halves in the other
	/// order.
	fn tables(&mut self, rope: &Rope, prefix: &str) -> [String; 2] {
		let c = self.config;
		let [cos, mut sin] = rotary::tables(c.context, c.head_dim, rope);
		for row in sin.chunks_exact_mut(c.head_dim) {
			row[..c.head_dim / 2].iter_mut().for_each(|v| *v = -*v);
		}
		[("cos", cos), ("sin", sin)].map(|(kind, table)| {
			let name = format!("{prefix}{kind}");
			self.made(&name, vec![c.context, c.head_dim], table);
			let g = &mut self.graph;
			let axis = [("axis", Value::Int(0))];
			let row = g.op_with("Gather", &[&name, "position_ids"], &axis);
			let axes = g.ints(&[2]);
			g.op("Unsqueeze", &[&row, &axes])
		})
	}

	fn shared(&mut self) -> Shared {
		let c = self.config;
		let (heads, dim) = (c.kv_heads as i64, c.head_dim as i64);
		let g = &mut self.graph;
		let size = |g: &mut Graph, tensor: &str, axis: i64| {
			let range = [("start", Value::Int(axis)), ("end", Value::Int(axis + 1))];
			g.op_with("Shape", &[tensor], &range)
		};
		let positions = |g: &mut Graph, axes: &[i64]| {
			let axes = g.ints(axes);
			g.op("Unsqueeze", &["position_ids", &axes])
		};
		let expand = |g: &mut Graph, x: &str, sizes: &[&str]| {
			let shape = g.op_with("Concat", sizes, &[("axis", Value::Int(0))]);
			g.op("Expand", &[x, &shape])
		};
		let batch = size(g, "input_ids", 0);
		let tokens = size(g, "input_ids", 1);
		let capacity = size(g, "past_key_values.0.value", 2);
		let (zero, one) = (g.int(0), g.int(1));
		let end = g.op("Squeeze", &[&capacity]);
		let slot = g.op("Range", &[&zero, &end, &one]);
		let rows = positions(g, &[1, 2, 4]);
		let seen = g.op("LessOrEqual", &[&slot, &rows]); // [B,1,1,S,C]
		let windows: std::collections::BTreeSet<_> =
			(0..c.layers).map(|layer| c.window(layer)).collect();
		let group = g.ints(&[1, (c.heads / c.kv_heads) as i64]);
		let (alone, rest) = (g.ints(&[1]), g.ints(&[-1]));
		let mut biases = HashMap::new();
		for window in windows {
			let seen = match window {
				None => seen.clone(),
				Some(window) => {
					let window = g.int(window as i64);
					let first = g.op("Sub", &[&rows, &window]);
					let near = g.op("Greater", &[&slot, &first]);
					g.op("And", &[&seen, &near])
				}
			};
			let (none, unseen) = (g.float(0.0), g.float(UNSEEN));
			let bias = g.op("Where", &[&seen, &none, &unseen]);
			// Rows are the queries of a group, and of each its positions.
			let bias = expand(g, &bias, &[&batch, &group, &tokens, &capacity]);
			let axis = [("axis", Value::Int(0))];
			let shape = g.op_with("Concat", &[&batch, &alone, &rest, &capacity], &axis);
			biases.insert(window, g.op("Reshape", &[&bias, &shape]));
		}
		let at = positions(g, &[1, 2]);
		let head = g.ints(&[heads, dim]);
		let key_slots = expand(g, &at, &[&batch, &head, &tokens]);
		let at = positions(g, &[1, 3]);
		let (head, length) = (g.ints(&[heads]), g.ints(&[dim]));
		let value_slots = expand(g, &at, &[&batch, &head, &tokens, &length]);
		let global = self.tables(&c.rope, "rope.");
		let local = (0..c.layers).find_map(|layer| c.local_rope(layer));
		let local = local.map(|rope| self.tables(rope, "rope.local."));
		Shared {
			batch,
			tokens,
			key_slots,
			value_slots,
			biases,
			global,
			local,
		}
	}

	fn body(&mut self) -> Result<(), String> {
		let c = self.config;
		let shared = self.shared();
		let mut x = self.embed()?;
		for layer in 0..c.layers {
			for (part, post) in [("attn", "post_attention_norm"), ("ffn", "post_ffw_norm")] {
				let mut y = match part {
					"attn" => self.attention(&x, layer, &shared)?,
					_ => self.feed_forward(&x, layer)?,
				};
				if c.post_norms {
					let name = format!("blk.{layer}.{post}.weight");
					self.tensors.expect(&name, &[c.hidden])?;
					self.graph.weight(&name, FLOAT, vec![c.hidden], || {
						Data::Source(vec![(name.clone(), Form::Same)])
					});
					y = self.normed(&y, c.hidden, &name);
				}
				x = self.graph.op("Add", &[&x, &y]);
			}
		}
		self.logits(&x)
	}
}
