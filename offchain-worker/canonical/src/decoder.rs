//! The canonical graph of the exact class: its bits do not depend on how it is run.
//!
//! ```text
//! Inputs   input_ids, position_ids           int64 [B,S]
//!          past_key_values.L.key             float [B,H,D,C]   (D before C, so that Q.K needs no transpose)
//!          past_key_values.L.value           float [B,H,C,D]
//! Outputs  logits                            float [B,S,V]
//!          present.L.key, present.L.value    same shapes as the past
//! ```
//!
//! C is the capacity in tokens, a multiple of 128; slot c belongs to position c for good. A row sees the slots up to its own
//! position, so sequences of different lengths share a batch, and a cache grows by adding empty slots at the end. Slots that
//! were never written must hold finite numbers.
//!
//! Equal over decode and prefill, chunks, batches, numbers of threads, optimiser on and off, and versions of ONNX Runtime. What
//! that takes stands at each place; each was found by taking it away. `scripts/models/canonical.py` writes the same graphs.

use std::collections::HashMap;

use crate::{
	form::{Form, Part},
	graph::{Data, Dim, Graph, Value},
	onnx::{DOUBLE, FLOAT, INT64, INT8, UINT8},
	rotary,
	source::{Activation, Config, Rope, Taken, Tensors},
};

/// No sum over positions, or over the elements of a head, is longer: see [`Decoder::attention`].
pub(crate) const BLOCK: usize = 128;

/// Columns of ones beside a matrix whose row sums are wanted: a vector's width, so that the same kernel serves all columns.
const ONES: usize = 16;

/// Of quantised rows: the largest magnitude of a high one, steps of the low one in one of the high, and what stands for zero.
pub(crate) const HIGH: f64 = 63.0;
pub(crate) const STEPS: f64 = 127.0;
pub(crate) const ZERO: u8 = 64;

/// Longer rows could make sums that do not fit 32 bits: a product is at most 64 · 255.
pub(crate) const LONGEST: usize = (i32::MAX / (64 * 255)) as usize;

/// Weights that are multiplied with the same rows, under the name of their product.
const GROUPS: [(&str, &[&str]); 2] = [
	("attn_qkv", &["attn_q", "attn_k", "attn_v"]),
	("ffn_gate_up", &["ffn_gate", "ffn_up"]),
];

/// Weights in fifteen bits: their rounding moves the logits most (docs/adr/0013).
const FINE: &str = "attn_v";
/// And this one, where rows are shorter than so many elements: a small model is hurt more by rounding, and a large one slowed more.
const FINE_IF_SMALL: &str = "ffn_down";
pub(crate) const SMALL: usize = 2_048;

/// Element type of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
	/// As published, in single precision.
	Fp32,
	/// Eight bits on a grid for each column, and fifteen where it matters most; activations in fourteen.
	Int8,
}

impl Weights {
	/// As manifests call it.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Fp32 => "fp32",
			Self::Int8 => "int8",
		}
	}
}

/// A dimension of a reshape.
enum Size<'s> {
	/// A number.
	Number(i64),
	/// The name of a tensor of one.
	Tensor(&'s str),
}

use Size::{Number, Tensor};

/// What of a row's past a layer sees.
struct Mask {
	seen: String,
	as_float: String,
}

/// Names of tensors that all layers use.
struct Shared {
	batch: String,
	tokens: String,
	capacity: String,
	blocks: String,
	key_slots: String,
	value_slots: String,
	ones: String,
	two_rows: String,
	/// By window.
	masks: HashMap<Option<usize>, Mask>,
	/// Cosines and sines of the global and of the local embedding.
	global: [String; 2],
	local: Option<[String; 2]>,
}

/// A decoder's graph in the making.
struct Decoder<'d> {
	config: &'d Config,
	tensors: Taken<'d>,
	integer: bool,
	graph: Graph,
	/// Products of quantised rows, by the name of the weight.
	products: HashMap<String, String>,
}

/// Builds the graph of a model. Fails if a tensor is missing, has another shape, or has no place in the graph: then the model is
/// not what it says it is.
pub(crate) fn build(
	config: &Config,
	tensors: &dyn Tensors,
	weights: Weights,
) -> Result<Graph, String> {
	config.check()?;
	let mut decoder = Decoder {
		config,
		tensors: Taken::of(tensors),
		integer: weights == Weights::Int8,
		graph: Graph::default(),
		products: HashMap::new(),
	};
	decoder.signature();
	decoder.body()?;
	decoder.tensors.all(&config.architecture)?;
	Ok(decoder.graph)
}

impl Decoder<'_> {
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
				self.graph.input(&past, FLOAT, &shape);
				let present = format!("present.{layer}.{kind}");
				self.graph.output(&present, FLOAT, &shape);
			}
		}
	}

	/// A weight of the graph that is made from a tensor of the source.
	fn weight(&mut self, name: &str, element: i32, dims: Vec<usize>, tensor: &str, form: Form) {
		self.graph.weight(name, element, dims, || {
			Data::Source(vec![(tensor.into(), form)])
		});
	}

	/// A vector, as it is.
	fn vector(&mut self, name: &str, length: usize) -> Result<(), String> {
		self.tensors.expect(name, &[length])?;
		self.weight(name, FLOAT, vec![length], name, Form::Same);
		Ok(())
	}

	/// x·W, and the bias if the source has one.
	fn linear(
		&mut self,
		x: &str,
		name: &str,
		inputs: usize,
		outputs: usize,
	) -> Result<String, String> {
		self.tensors.expect(name, &[outputs, inputs])?;
		let y = if self.integer {
			self.integer_product(x, name, inputs)?
		} else {
			// Constant float weights are packed by ONNX Runtime, and one kernel then serves every number of rows: along K,
			// blocks of 256, in a block one chain of fused multiply-adds from zero, block results added in order.
			let dims = vec![inputs, outputs];
			self.weight(name, FLOAT, dims, name, Form::Transposed);
			self.graph.op("MatMul", &[x, name])
		};
		let bias = name.replace(".weight", ".bias");
		if self.tensors.shape(&bias).is_none() {
			return Ok(y);
		}
		self.vector(&bias, outputs)?;
		Ok(self.graph.op("Add", &[&y, &bias]))
	}

	/// Activations as two rows of 7 bits, and the scales of those rows; x is [B,S,1,K]. One pair a row, so that a row does not
	/// depend on its neighbours. 8 bits cost a small model its answers; 14 bits, as two rows of 7, cost next to nothing.
	///
	/// Two products of a 7-bit and a signed 8-bit number fit 16 bits: no kernel saturates, and the fast ones can be used. The Clip
	/// changes one value in thousands by one step, and shows whoever reads the graph that the bound holds.
	fn quantised(g: &mut Graph, x: &str) -> [String; 2] {
		let magnitude = g.op("Abs", &[x]);
		let axes = [("axes", Value::Ints(&[-1])), ("keepdims", Value::Int(1))];
		let largest = g.op_with("ReduceMax", &[&magnitude], &axes);
		let steps = g.matrix(&[[1.0 / HIGH], [1.0 / (HIGH * STEPS)]]);
		let scales = g.op("Mul", &[&largest, &steps]);
		// Last, so that nothing looks like a product of scales, which ONNX Runtime's optimiser would fuse.
		let least = g.matrix(&[[STEPS * 1e-12], [1e-12]]);
		let scales = g.op("Max", &[&scales, &least]);
		let rows = g.op("Div", &[x, &scales]);
		let rows = g.op("Round", &[&rows]);
		// The low row is what the high one leaves over. Whole numbers, so that any order of adding gives the same.
		let parts = g.matrix(&[[1.0, 0.0], [-STEPS, 1.0]]);
		let rows = g.op("MatMul", &[&parts, &rows]);
		let zero = g.float(ZERO.into());
		let rows = g.op("Add", &[&rows, &zero]);
		let (low, high) = (g.float(0.0), g.float(127.0));
		let rows = g.op("Clip", &[&rows, &low, &high]);
		let to = [("to", Value::Int(UINT8.into()))];
		[g.op_with("Cast", &[&rows], &to), scales]
	}

	/// x·W with 8-bit weights. The product is made for all weights that take the same x.
	fn integer_product(&mut self, x: &str, name: &str, inputs: usize) -> Result<String, String> {
		if let Some(made) = self.products.get(name) {
			return Ok(made.clone());
		}
		if inputs > LONGEST {
			return Err(format!(
				"{name:?} has rows of {inputs}: sums of 8-bit products fit for at most {LONGEST}; convert it to fp32"
			));
		}
		let stem = name.strip_suffix(".weight").unwrap_or(name);
		let kind = &stem[stem.rfind('.').map_or(0, |dot| dot + 1)..];
		let prefix = &stem[..stem.len() - kind.len()];
		let own = [kind];
		let (group, kinds) = GROUPS
			.into_iter()
			.find(|(_, kinds)| kinds.contains(&kind))
			.unwrap_or((kind, &own));
		let mut weights = Vec::new();
		for kind in kinds {
			let name = format!("{prefix}{kind}.weight");
			let outputs = self.tensors.shape(&name).and_then(|s| s.first().copied());
			self.tensors
				.expect(&name, &[outputs.unwrap_or(0), inputs])?;
			let small = self.config.hidden < SMALL;
			let fine = *kind == FINE || (small && *kind == FINE_IF_SMALL);
			weights.push((name, outputs.unwrap_or(0), fine));
		}
		let stem = format!("{prefix}{group}");
		let made = self.integer_products(x, &stem, inputs, &weights);
		let names = weights.into_iter().map(|(name, ..)| name);
		self.products.extend(names.zip(made));
		Ok(self.products[name].clone())
	}

	/// x·W for several W of 8 bits (tensors of the source, their outputs, whether fine) in one product. Fine ones have two columns
	/// for each of theirs: what the first leaves over is in the second.
	fn integer_products(
		&mut self,
		x: &str,
		stem: &str,
		inputs: usize,
		weights: &[(String, usize, bool)],
	) -> Vec<String> {
		let fine = weights.iter().filter(|(.., fine)| *fine);
		let columns: Vec<_> = weights
			.iter()
			.map(|weight| (weight, Part::First))
			.chain(fine.map(|weight| (weight, Part::Rest)))
			.collect();
		let sizes: Vec<_> = columns.iter().map(|((_, n, _), _)| *n as i64).collect();
		let outputs = columns.iter().map(|((_, n, _), _)| n).sum();
		let g = &mut self.graph;
		let mut weight = |suffix: &str, element, dims, form: &dyn Fn(Part) -> Form| {
			let name = format!("{stem}.{suffix}");
			let parts = columns.iter();
			let parts = parts.map(|((tensor, ..), part)| (tensor.clone(), form(*part)));
			g.weight(&name, element, dims, || Data::Source(parts.collect()));
			name
		};
		let matrix = weight("weight", INT8, vec![inputs, outputs], &Form::Int8Columns);
		let zeros = weight("zero", INT8, vec![outputs], &Form::ColumnZeros);
		let column_scales = weight("scale", FLOAT, vec![outputs], &Form::ColumnScales);
		let [rows, scales] = Self::quantised(g, x);
		let zero = g.byte(ZERO);
		let product = g.op("MatMulInteger", &[&rows, &matrix, &zero, &zeros]);
		let product = g.op_with("Cast", &[&product], &[("to", Value::Int(FLOAT.into()))]);
		let product = g.op("Mul", &[&product, &scales]);
		let [high, low] = g.halves(&product, -2);
		let y = g.op("Add", &[&high, &low]);
		let y = g.op("Mul", &[&y, &column_scales]);
		if sizes.len() == 1 {
			return vec![y];
		}
		let mut parts = g.split(&y, &sizes, -1);
		let mut rest = parts.split_off(weights.len()).into_iter();
		for (part, (.., fine)) in parts.iter_mut().zip(weights) {
			let rest = if *fine { rest.next() } else { None };
			if let Some(rest) = rest {
				*part = g.op("Add", &[part, &rest]);
			}
		}
		parts
	}

	/// RMSNorm over the last axis. The sum is a MatMul with ones, whose order is known; the root goes through double, because
	/// ONNX Runtime 1.20's float Sqrt is off by one unit in the last place.
	fn norm(&mut self, x: &str, name: &str, length: usize) -> Result<String, String> {
		self.vector(name, length)?;
		let ones = if length == self.config.hidden {
			"ones"
		} else {
			"ones.head"
		};
		self.graph.weight(ones, FLOAT, vec![length, ONES], || {
			Data::Made(1f32.to_le_bytes().repeat(length * ONES))
		});
		let eps = self.config.eps;
		let g = &mut self.graph;
		let squares = g.op("Mul", &[x, x]);
		let squares = g.op("MatMul", &[&squares, ones]);
		let squares = Self::columns(g, &squares, 0, 1);
		let share = g.float(1.0 / length as f64);
		let mean = g.op("Mul", &[&squares, &share]);
		let eps = g.float(eps);
		let mean = g.op("Add", &[&mean, &eps]);
		let mean = g.op_with("Cast", &[&mean], &[("to", Value::Int(DOUBLE.into()))]);
		let root = g.op("Sqrt", &[&mean]);
		let root = g.op_with("Cast", &[&root], &[("to", Value::Int(FLOAT.into()))]);
		let scaled = g.op("Div", &[x, &root]);
		Ok(g.op("Mul", &[&scaled, name]))
	}

	/// Columns of the last axis.
	fn columns(g: &mut Graph, x: &str, start: i64, end: i64) -> String {
		Self::slice(g, x, start, end, -1)
	}

	fn slice(g: &mut Graph, x: &str, start: i64, end: i64, axis: i64) -> String {
		let (start, end, axis) = (g.ints(&[start]), g.ints(&[end]), g.ints(&[axis]));
		g.op("Slice", &[x, &start, &end, &axis])
	}

	/// Turns the halves of each head by its position.
	fn rotate(g: &mut Graph, x: &str, [cos, sin]: &[String; 2]) -> String {
		let [a, b] = g.halves(x, -1);
		let turned = g.op("Neg", &[&b]);
		let turned = g.op_with("Concat", &[&turned, &a], &[("axis", Value::Int(-1))]);
		let x = g.op("Mul", &[x, cos]);
		let turned = g.op("Mul", &[&turned, sin]);
		g.op("Add", &[&x, &turned])
	}

	fn shape(g: &mut Graph, x: &str, sizes: &[Size]) -> String {
		let (mut parts, mut run) = (Vec::new(), Vec::new());
		for size in sizes {
			match size {
				Number(n) => run.push(*n),
				Tensor(name) => {
					if !run.is_empty() {
						parts.push(g.ints(&run));
						run.clear();
					}
					parts.push((*name).into());
				}
			}
		}
		if !run.is_empty() {
			parts.push(g.ints(&run));
		}
		let parts: Vec<_> = parts.iter().map(String::as_str).collect();
		let shape = g.op_with("Concat", &parts, &[("axis", Value::Int(0))]);
		g.op("Reshape", &[x, &shape])
	}

	/// cap · tanh(x / cap), by the exponential: a graph has few operators, each with an exact definition.
	fn capped(g: &mut Graph, x: &str, cap: f64) -> String {
		let twice = g.float(2.0 / cap);
		let e = g.op("Mul", &[x, &twice]);
		let e = g.op("Exp", &[&e]);
		let one = g.float(1.0);
		let e = g.op("Add", &[&e, &one]);
		let two = g.float(2.0);
		let rest = g.op("Div", &[&two, &e]);
		let tanh = g.op("Sub", &[&one, &rest]);
		let cap = g.float(cap);
		g.op("Mul", &[&tanh, &cap])
	}

	/// Grouped queries are stacked as rows, so that no MatMul of two computed tensors ever has one row: that case has a kernel
	/// of its own, with another order. A model without groups has its rows stacked twice. Softmax is spelled out, because its
	/// kernel's order depends on the vector width. P·V is summed in blocks of 128 positions anchored at position 0, and the
	/// blocks by a MatMul with two rows of ones: longer sums are cut at places that depend on the number of threads, and so is
	/// ReduceSum. Sixteen columns of ones beside V give the denominator. Heads longer than 128 are multiplied in parts.
	fn attention(&mut self, x: &str, layer: usize, s: &Shared) -> Result<String, String> {
		let c = self.config;
		let p = format!("blk.{layer}.");
		let (heads, group, dim) = (c.kv_heads, c.heads / c.kv_heads, c.head_dim);
		let rows = group.max(2);
		let rope = match c.local_rope(layer) {
			Some(_) => s.local.as_ref().unwrap_or(&s.global),
			None => &s.global,
		};
		let rope = c.turns(layer).then_some(rope);
		let mask = &s.masks[&c.window(layer)];
		let (b, t, capacity) = (Tensor(&s.batch), Tensor(&s.tokens), Tensor(&s.capacity));
		let n = |n: usize| Number(n as i64);

		let name = format!("{p}attn_q.weight");
		let q = self.linear(x, &name, c.hidden, c.heads * dim)?;
		let mut q = Self::shape(&mut self.graph, &q, &[b, t, n(c.heads), n(dim)]);
		if c.head_norms {
			q = self.norm(&q, &format!("{p}attn_q_norm.weight"), dim)?;
		}
		if let Some(rope) = rope {
			q = Self::rotate(&mut self.graph, &q, rope);
		}
		let (b, t) = (Tensor(&s.batch), Tensor(&s.tokens));
		let name = format!("{p}attn_k.weight");
		let k = self.linear(x, &name, c.hidden, heads * dim)?;
		let mut k = Self::shape(&mut self.graph, &k, &[b, t, n(heads), n(dim)]);
		if c.head_norms {
			k = self.norm(&k, &format!("{p}attn_k_norm.weight"), dim)?;
		}
		if let Some(rope) = rope {
			k = Self::rotate(&mut self.graph, &k, rope);
		}
		let (b, t) = (Tensor(&s.batch), Tensor(&s.tokens));
		let name = format!("{p}attn_v.weight");
		let v = self.linear(x, &name, c.hidden, heads * dim)?;
		let v = Self::shape(&mut self.graph, &v, &[b, t, n(heads), n(dim)]);

		let g = &mut self.graph;
		let (key, values) = (
			format!("present.{layer}.key"),
			format!("present.{layer}.value"),
		);
		let k = g.op_with("Transpose", &[&k], &[("perm", Value::Ints(&[0, 2, 3, 1]))]);
		let past = format!("past_key_values.{layer}.key");
		let axis = [("axis", Value::Int(3))];
		g.op_named(&key, "ScatterElements", &[&past, &s.key_slots, &k], &axis);
		let v = g.op_with("Transpose", &[&v], &[("perm", Value::Ints(&[0, 2, 1, 3]))]);
		let past = format!("past_key_values.{layer}.value");
		let axis = [("axis", Value::Int(2))];
		g.op_named(
			&values,
			"ScatterElements",
			&[&past, &s.value_slots, &v],
			&axis,
		);

		let grouped = [
			Tensor(&s.batch),
			Tensor(&s.tokens),
			n(heads),
			n(group),
			n(dim),
		];
		let mut q = Self::shape(g, &q, &grouped);
		if group == 1 {
			q = g.op_with("Concat", &[&q, &q], &[("axis", Value::Int(3))]);
		}
		let perm = [("perm", Value::Ints(&[0, 2, 3, 1, 4]))];
		let q = g.op_with("Transpose", &[&q], &perm);
		let q = Self::shape(g, &q, &[Tensor(&s.batch), n(heads), Number(-1), n(dim)]);
		let product = Self::scores(g, &q, &key, dim);
		let scale = g.float(c.attention_scale);
		let mut score = g.op("Mul", &[&product, &scale]); // [B,H,G*S,C]
		if let Some(cap) = c.attention_cap {
			score = Self::capped(g, &score, cap);
		}
		let by_group = [
			Tensor(&s.batch),
			n(heads),
			n(rows),
			Tensor(&s.tokens),
			capacity,
		];
		let score = Self::shape(g, &score, &by_group);
		let unseen = g.float(-1e9);
		let score = g.op("Where", &[&mask.seen, &score, &unseen]);
		let axes = [("axes", Value::Ints(&[-1])), ("keepdims", Value::Int(1))];
		let largest = g.op_with("ReduceMax", &[&score], &axes);
		let e = g.op("Sub", &[&score, &largest]);
		let e = g.op("Exp", &[&e]);
		let e = g.op("Mul", &[&e, &mask.as_float]);
		let blocked = [
			Tensor(&s.batch),
			n(heads),
			Number(-1),
			Tensor(&s.blocks),
			n(BLOCK),
		];
		let e = Self::shape(g, &e, &blocked);
		let perm = [("perm", Value::Ints(&[0, 1, 3, 2, 4]))];
		let e = g.op_with("Transpose", &[&e], &perm); // [B,H,blocks,G*S,128]
		let axis = [("axis", Value::Int(-1))];
		let v = g.op_with("Concat", &[&values, &s.ones], &axis);
		let width = dim + ONES;
		let blocked = [
			Tensor(&s.batch),
			n(heads),
			Tensor(&s.blocks),
			n(BLOCK),
			n(width),
		];
		let v = Self::shape(g, &v, &blocked);
		let o = g.op("MatMul", &[&e, &v]);
		let flat = [Tensor(&s.batch), n(heads), Tensor(&s.blocks), Number(-1)];
		let o = Self::shape(g, &o, &flat);
		let o = g.op("MatMul", &[&s.two_rows, &o]);
		let o = Self::slice(g, &o, 0, 1, 2);
		let o = Self::shape(g, &o, &[Tensor(&s.batch), n(heads), Number(-1), n(width)]);
		let sums = Self::columns(g, &o, 0, dim as i64);
		let total = Self::columns(g, &o, dim as i64, dim as i64 + 1);
		let o = g.op("Div", &[&sums, &total]);
		let by_group = [
			Tensor(&s.batch),
			n(heads),
			n(rows),
			Tensor(&s.tokens),
			n(dim),
		];
		let mut o = Self::shape(g, &o, &by_group);
		if group == 1 {
			o = Self::slice(g, &o, 0, 1, 2);
		}
		let perm = [("perm", Value::Ints(&[0, 3, 1, 2, 4]))];
		let o = g.op_with("Transpose", &[&o], &perm);
		let mut row = vec![Tensor(&s.batch), Tensor(&s.tokens)];
		row.extend(self.integer.then_some(Number(1)));
		row.push(n(c.heads * dim));
		let o = Self::shape(g, &o, &row);
		let name = format!("{p}attn_output.weight");
		self.linear(&o, &name, c.heads * dim, c.hidden)
	}

	/// Q·K, in parts of 128 elements of a head, added in order.
	fn scores(g: &mut Graph, q: &str, key: &str, dim: usize) -> String {
		if dim <= BLOCK {
			return g.op("MatMul", &[q, key]);
		}
		let mut sum: Option<String> = None;
		for start in (0..dim).step_by(BLOCK) {
			let (start, end) = (start as i64, (start + BLOCK).min(dim) as i64);
			let q = Self::columns(g, q, start, end);
			let key = Self::slice(g, key, start, end, 2);
			let part = g.op("MatMul", &[&q, &key]);
			sum = Some(match sum {
				Some(sum) => g.op("Add", &[&sum, &part]),
				None => part,
			});
		}
		sum.unwrap_or_default()
	}

	fn feed_forward(&mut self, x: &str, layer: usize) -> Result<String, String> {
		let p = format!("blk.{layer}.");
		let (hidden, inner) = (self.config.hidden, self.config.intermediate);
		let gate = self.linear(x, &format!("{p}ffn_gate.weight"), hidden, inner)?;
		let up = self.linear(x, &format!("{p}ffn_up.weight"), hidden, inner)?;
		let g = &mut self.graph;
		let active = match self.config.activation {
			Activation::Silu => {
				let e = g.op("Neg", &[&gate]);
				let e = g.op("Exp", &[&e]);
				let one = g.float(1.0);
				let e = g.op("Add", &[&e, &one]);
				g.op("Div", &[&gate, &e])
			}
			// x/2 · (1 + tanh(u)) is x / (1 + exp(-2u)), u = √(2/π) · (x + 0.044715 x³).
			Activation::Gelu => {
				let square = g.op("Mul", &[&gate, &gate]);
				let cube = g.op("Mul", &[&square, &gate]);
				let part = g.float(0.044715);
				let u = g.op("Mul", &[&cube, &part]);
				let u = g.op("Add", &[&gate, &u]);
				let slope = g.float(-2.0 * (core::f64::consts::FRAC_2_PI).sqrt());
				let e = g.op("Mul", &[&u, &slope]);
				let e = g.op("Exp", &[&e]);
				let one = g.float(1.0);
				let e = g.op("Add", &[&e, &one]);
				g.op("Div", &[&gate, &e])
			}
		};
		let inner_rows = g.op("Mul", &[&active, &up]);
		self.linear(&inner_rows, &format!("{p}ffn_down.weight"), inner, hidden)
	}

	fn embed(&mut self) -> Result<String, String> {
		let (vocabulary, hidden) = (self.config.vocabulary, self.config.hidden);
		let table = "token_embd.weight";
		self.tensors.expect(table, &[vocabulary, hidden])?;
		let axis = [("axis", Value::Int(0))];
		let x = if self.integer {
			let dims = vec![vocabulary, hidden];
			self.weight("token_embd.q", INT8, dims, table, Form::Int8Rows);
			let g = &mut self.graph;
			let row = g.op_with("Gather", &["token_embd.q", "input_ids"], &axis);
			let dims = vec![vocabulary, 1];
			self.weight("token_embd.scale", FLOAT, dims, table, Form::RowScales);
			let g = &mut self.graph;
			let scale = g.op_with("Gather", &["token_embd.scale", "input_ids"], &axis);
			let row = g.op_with("Cast", &[&row], &[("to", Value::Int(FLOAT.into()))]);
			let row = g.op("Mul", &[&row, &scale]);
			let axis = g.ints(&[2]); // that of the two rows
			g.op("Unsqueeze", &[&row, &axis])
		} else {
			let dims = vec![vocabulary, hidden];
			self.weight(table, FLOAT, dims, table, Form::Same);
			self.graph.op_with("Gather", &[table, "input_ids"], &axis)
		};
		Ok(match self.config.embedding_scale {
			Some(scale) => {
				let scale = self.graph.float(scale);
				self.graph.op("Mul", &[&x, &scale])
			}
			None => x,
		})
	}

	fn logits(&mut self, x: &str, s: &Shared) -> Result<(), String> {
		let (vocabulary, hidden) = (self.config.vocabulary, self.config.hidden);
		let table = if self.config.tied {
			"token_embd.weight"
		} else {
			"output.weight"
		};
		self.tensors.expect(table, &[vocabulary, hidden])?;
		let cap = self.config.logits_cap;
		if self.integer {
			let weights = [(table.into(), vocabulary, false)];
			let made = self.integer_products(x, "output", hidden, &weights);
			let g = &mut self.graph;
			let mut y = made.concat();
			if let Some(cap) = cap {
				y = Self::capped(g, &y, cap);
			}
			let axis = g.ints(&[2]);
			g.op_named("logits", "Squeeze", &[&y, &axis], &[]);
			return Ok(());
		}
		// Gemm reads the table transposed, so that a tied one is stored once.
		let dims = vec![vocabulary, hidden];
		self.weight(table, FLOAT, dims, table, Form::Same);
		let g = &mut self.graph;
		let shape = g.ints(&[-1, hidden as i64]);
		let flat = g.op("Reshape", &[x, &shape]);
		let mut rows = g.op_with("Gemm", &[&flat, table], &[("transB", Value::Int(1))]);
		if let Some(cap) = cap {
			rows = Self::capped(g, &rows, cap);
		}
		let size = g.ints(&[vocabulary as i64]);
		let axis = [("axis", Value::Int(0))];
		let shape = g.op_with("Concat", &[&s.batch, &s.tokens, &size], &axis);
		g.op_named("logits", "Reshape", &[&rows, &shape], &[]);
		Ok(())
	}

	/// Cosines and sines of the rows' positions.
	fn tables(&mut self, rope: &Rope, prefix: &str) -> [String; 2] {
		let c = self.config;
		let dims = vec![c.context, c.head_dim];
		let [cos, sin] = rotary::tables(c.context, c.head_dim, rope);
		[("cos", cos), ("sin", sin)].map(|(kind, table)| {
			let name = format!("{prefix}{kind}");
			let bytes = table.into_iter().flat_map(f32::to_le_bytes).collect();
			let g = &mut self.graph;
			g.weight(&name, FLOAT, dims.clone(), || Data::Made(bytes));
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
		let block = g.ints(&[BLOCK as i64]);
		let blocks = g.op("Div", &[&capacity, &block]);
		let zero = g.int(0);
		let end = g.op("Squeeze", &[&capacity]);
		let one = g.int(1);
		let slot = g.op("Range", &[&zero, &end, &one]);
		let rows = positions(g, &[1, 2, 4]);
		let seen = g.op("LessOrEqual", &[&slot, &rows]); // [B,1,1,S,C]
		let to_float = [("to", Value::Int(FLOAT.into()))];
		let as_float = g.op_with("Cast", &[&seen], &to_float);
		let mut masks = HashMap::new();
		for window in (0..c.layers).filter_map(|layer| c.window(layer)) {
			masks.entry(Some(window)).or_insert_with(|| {
				let window = g.int(window as i64);
				let first = g.op("Sub", &[&rows, &window]);
				let near = g.op("Greater", &[&slot, &first]);
				let seen = g.op("And", &[&seen, &near]);
				let as_float = g.op_with("Cast", &[&seen], &to_float);
				Mask { seen, as_float }
			});
		}
		masks.insert(None, Mask { seen, as_float });
		let at = positions(g, &[1, 2]);
		let head = g.ints(&[heads, dim]);
		let key_slots = expand(g, &at, &[&batch, &head, &tokens]);
		let at = positions(g, &[1, 3]);
		let (head, length) = (g.ints(&[heads]), g.ints(&[dim]));
		let value_slots = expand(g, &at, &[&batch, &head, &tokens, &length]);
		let one = g.float(1.0);
		let (head, columns) = (g.ints(&[heads]), g.ints(&[ONES as i64]));
		let ones = expand(g, &one, &[&batch, &head, &capacity, &columns]);
		let two = g.ints(&[2]);
		let two_rows = expand(g, &one, &[&two, &blocks]);
		let global = self.tables(&c.rope, "rope.");
		let local = (0..c.layers).find_map(|layer| c.local_rope(layer));
		let local = local.map(|rope| self.tables(rope, "rope.local."));
		Shared {
			batch,
			tokens,
			capacity,
			blocks,
			key_slots,
			value_slots,
			ones,
			two_rows,
			masks,
			global,
			local,
		}
	}

	fn body(&mut self) -> Result<(), String> {
		let c = self.config;
		let shared = self.shared();
		let mut x = self.embed()?;
		for layer in 0..c.layers {
			let p = format!("blk.{layer}.");
			let normed = self.norm(&x, &format!("{p}attn_norm.weight"), c.hidden)?;
			let mut y = self.attention(&normed, layer, &shared)?;
			if c.post_norms {
				y = self.norm(&y, &format!("{p}post_attention_norm.weight"), c.hidden)?;
			}
			x = self.graph.op("Add", &[&x, &y]);
			let normed = self.norm(&x, &format!("{p}ffn_norm.weight"), c.hidden)?;
			let mut y = self.feed_forward(&normed, layer)?;
			if c.post_norms {
				y = self.norm(&y, &format!("{p}post_ffw_norm.weight"), c.hidden)?;
			}
			x = self.graph.op("Add", &[&x, &y]);
		}
		let normed = self.norm(&x, "output_norm.weight", c.hidden)?;
		self.logits(&normed, &shared)
	}
}
