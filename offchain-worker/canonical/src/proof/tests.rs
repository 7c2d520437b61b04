//! What is of the class passes, and what only looks so does not. Every graph here is the same one with one thing changed.

use prost::Message;

use super::{prove, Proof, Refusal, Requirement, Unwritten, OPEN};
use crate::onnx::{
	Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type,
	ValueInfo, ATTRIBUTE_INT, ATTRIBUTE_INTS, ATTRIBUTE_STRING, DOUBLE, FLOAT, INT64, INT8, UINT8,
};

/// An element type that no graph of the class has.
const FLOAT16: i32 = 10;

/// A graph in the making.
#[derive(Clone)]
struct Draft(Model);

/// An open dimension, or a number.
enum D {
	O(&'static str),
	N(i64),
}
use D::{N, O};

fn value(name: &str, element: i32, dims: &[D]) -> ValueInfo {
	let dim = dims.iter().map(|dim| match dim {
		O(name) => Dimension {
			value: None,
			parameter: Some((*name).into()),
		},
		N(n) => Dimension {
			value: Some(*n),
			parameter: None,
		},
	});
	ValueInfo {
		name: Some(name.into()),
		kind: Some(Type {
			tensor: Some(TensorType {
				element: Some(element),
				shape: Some(Shape { dim: dim.collect() }),
			}),
		}),
	}
}

fn int(name: &str, i: i64) -> Attribute {
	Attribute {
		name: Some(name.into()),
		i: Some(i),
		kind: Some(ATTRIBUTE_INT),
		..Default::default()
	}
}

fn ints(name: &str, ints: &[i64]) -> Attribute {
	Attribute {
		name: Some(name.into()),
		ints: ints.to_vec(),
		kind: Some(ATTRIBUTE_INTS),
		..Default::default()
	}
}

fn node(operator: &str, inputs: &str, output: &str, attributes: &[Attribute]) -> Node {
	Node {
		input: inputs.split(' ').map(Into::into).collect(),
		output: output.split(' ').map(Into::into).collect(),
		op_type: Some(operator.into()),
		attribute: attributes.to_vec(),
		..Default::default()
	}
}

impl Draft {
	fn graph(&mut self) -> &mut Graph {
		self.0.graph.as_mut().unwrap()
	}

	fn constant(&mut self, name: &str, element: i32, dims: &[i64], bytes: Vec<u8>) {
		self.graph().initializer.push(Tensor {
			dims: dims.to_vec(),
			data_type: Some(element),
			name: Some(name.into()),
			raw_data: Some(bytes),
			..Default::default()
		});
	}

	fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) {
		let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
		self.constant(name, FLOAT, dims, bytes);
	}

	fn ints(&mut self, name: &str, values: &[i64]) {
		let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
		self.constant(name, INT64, &[values.len() as i64], bytes);
	}

	/// Changes the node that makes this.
	fn change(&mut self, output: &str, of: impl FnOnce(&mut Node)) {
		let nodes = &mut self.graph().node;
		let node = nodes
			.iter_mut()
			.find(|n| n.output.iter().any(|o| o == output));
		of(node.unwrap());
	}

	/// Changes a constant.
	fn set(&mut self, name: &str, of: impl FnOnce(&mut Tensor)) {
		let all = &mut self.graph().initializer;
		of(all
			.iter_mut()
			.find(|t| t.name.as_deref() == Some(name))
			.unwrap());
	}

	fn set_float(&mut self, name: &str, value: f32) {
		self.set(name, |t| t.raw_data = Some(value.to_le_bytes().into()));
	}

	/// Puts a node before the one that makes this.
	fn before(&mut self, output: &str, new: Node) {
		let nodes = &mut self.graph().node;
		let at = nodes
			.iter()
			.position(|n| n.output.iter().any(|o| o == output));
		nodes.insert(at.unwrap(), new);
	}

	/// Lets the graph give this, too.
	fn give(&mut self, name: &str, element: i32, dims: &[D]) {
		let output = value(name, element, dims);
		self.graph().output.push(output);
	}

	fn prove(&self) -> Result<Proof, Vec<Refusal>> {
		prove(&self.0.encode_to_vec(), &mut Unwritten)
	}
}

/// A small attention, with all that the class has: a lookup, a norm's rows and its root, a product of bytes, a cache, whole numbers
/// multiplied in floats, the planes of a softmax, their sums, a quotient.
fn good() -> Draft {
	let mut d = Draft(Model {
		ir_version: Some(8),
		graph: Some(Graph {
			name: Some("small".into()),
			..Default::default()
		}),
		opset_import: vec![OperatorSet {
			domain: Some(String::new()),
			version: Some(17),
		}],
	});
	let g = d.graph();
	g.input = vec![
		value("ids", INT64, &[O("B"), O("S")]),
		value("positions", INT64, &[O("B"), O("S")]),
		value("past", INT8, &[O("B"), N(64), O("C")]),
	];
	g.output = vec![
		value("y", FLOAT, &[O("B"), O("S"), N(64)]),
		value("present", INT8, &[O("B"), N(64), O("C")]),
	];
	d.constant("table", INT8, &[9, 64], [5, 251].repeat(9 * 32));
	d.floats("places", &[30, 64], &[0.5; 30 * 64]);
	d.constant("w", INT8, &[64, 64], vec![3; 64 * 64]);
	d.constant("sixty_four", UINT8, &[], vec![64]);
	d.constant("zeros", INT8, &[64], vec![1; 64]);
	for (name, value) in [
		("zero", 0.0),
		("one", 1.0),
		("hundredth", 0.01),
		("high", 1.0 / 63.0),
		("least", 1e-12),
		("middle", 64.0),
		("seven_bits", 127.0),
		("minus_steps", -2047.0),
		("steps", 2047.0),
		("minus_cached", -127.0),
		("unit", 1e-4),
		("plane", 128.0),
		("part", 1.0 / 128.0),
		("probability", 16_256.0),
	] {
		d.floats(name, &[], &[value]);
	}
	d.constant("eps", DOUBLE, &[], 1e-5f64.to_le_bytes().into());
	d.ints("last", &[-1]);
	d.ints("axis_1", &[1]);
	d.ints("sixty_fours", &[64]);
	let last = ints("axes", &[-1]);
	let to = |element: i32| int("to", element.into());
	d.graph().node = vec![
		node("Gather", "table ids", "row", &[int("axis", 0)]),
		node("Cast", "row", "row_f", &[to(FLOAT)]),
		node("Mul", "row_f hundredth", "x0", &[]),
		node("Gather", "places positions", "place", &[int("axis", 0)]),
		node("Mul", "x0 place", "x", &[]),
		node("Abs", "x", "magnitude", &[]),
		node(
			"ReduceMax",
			"magnitude",
			"largest",
			&[last.clone(), int("keepdims", 1)],
		),
		node("Mul", "largest high", "scaled", &[]),
		node("Max", "scaled least", "scale", &[]),
		node("Div", "x scale", "divided", &[]),
		node("Round", "divided", "rounded", &[]),
		node("Cast", "rounded", "double", &[to(DOUBLE)]),
		node(
			"ReduceSumSquare",
			"double",
			"squares",
			std::slice::from_ref(&last),
		),
		node("Add", "squares eps", "mean", &[]),
		node("Sqrt", "mean", "root_d", &[]),
		node("Cast", "root_d", "root", &[to(FLOAT)]),
		node("Add", "rounded middle", "shifted", &[]),
		node("Clip", "shifted zero seven_bits", "clipped", &[]),
		node("Cast", "clipped", "bytes", &[to(UINT8)]),
		node("MatMulInteger", "bytes w sixty_four zeros", "sum", &[]),
		node("Cast", "sum", "sum_f", &[to(FLOAT)]),
		node("Mul", "sum_f scale", "v0", &[]),
		node("Div", "v0 root", "v", &[]),
		// The cache, and scores.
		node("Round", "v", "v_whole", &[]),
		node("Clip", "v_whole minus_cached seven_bits", "k_f", &[]),
		node("Cast", "k_f", "k", &[to(INT8)]),
		node("Transpose", "k", "k_t", &[ints("perm", &[0, 2, 1])]),
		node("Unsqueeze", "positions axis_1", "at", &[]),
		node("Shape", "ids", "b", &[int("start", 0), int("end", 1)]),
		node("Shape", "ids", "s", &[int("start", 1), int("end", 2)]),
		node("Concat", "b sixty_fours s", "where", &[int("axis", 0)]),
		node("Expand", "at where", "slots", &[]),
		node(
			"ScatterElements",
			"past slots k_t",
			"present",
			&[int("axis", 2)],
		),
		node("Clip", "v_whole minus_steps steps", "q", &[]),
		node("Cast", "present", "keys", &[to(FLOAT)]),
		node("MatMul", "q keys", "score0", &[]),
		node("Mul", "score0 unit", "score1", &[]),
		node("Add", "score1 zero", "score", &[]),
		node("ReduceMax", "score", "most", &[last, int("keepdims", 1)]),
		node("Sub", "most one", "below", &[]),
		node("Sub", "score below", "z0", &[]),
		node("Clip", "z0 zero one", "z", &[]),
		node("Mul", "z probability", "e0", &[]),
		node("Round", "e0", "e", &[]),
		node("Mul", "e part", "high0", &[]),
		node("Floor", "high0", "high_plane", &[]),
		node("Mul", "high_plane plane", "high1", &[]),
		node("Sub", "e high1", "low_plane", &[]),
		node("Cast", "low_plane", "low_bytes", &[to(UINT8)]),
		node(
			"Transpose",
			"present",
			"values",
			&[ints("perm", &[0, 2, 1])],
		),
		node("MatMulInteger", "low_bytes values", "o0", &[]),
		node("Cast", "o0", "o1", &[to(FLOAT)]),
		node(
			"ReduceSum",
			"low_plane last",
			"total0",
			&[int("keepdims", 1)],
		),
		node("Max", "total0 one", "total", &[]),
		node("Div", "o1 total", "y", &[]),
	];
	d
}

#[test]
fn a_graph_of_the_class_passes() {
	let proof = good().prove().unwrap();
	let sums: Vec<_> = proof
		.sums
		.iter()
		.map(|s| (s.node.as_str(), s.terms, s.bound))
		.collect();
	assert_eq!(
		sums,
		[
			("squares", 64, 64.0 * 63.0 * 63.0),
			// Whatever bytes are less one, times what is at most 64 from 64.
			("sum", 64, 64.0 * 127.0 * 3.0),
			("score0", 64, 64.0 * 2_047.0 * 128.0),
			("o0", OPEN, 127.0 * 128.0 * OPEN as f64),
			("total0", OPEN, 127.0 * OPEN as f64),
		]
	);
	assert!(proof.eleven_bits);
	let others: usize = proof.operators.values().sum();
	assert_eq!(others + sums.len(), good().graph().node.len());
	let text = |name: &str| name.to_owned();
	let below = |name, count| Requirement::Below {
		input: text(name),
		count,
	};
	let at_most = |name| Requirement::AtMost {
		dimension: text(name),
		most: OPEN,
	};
	let slots = Requirement::Slots {
		input: text("positions"),
	};
	assert_eq!(
		proof.requirements,
		[
			below("ids", 9),
			below("positions", 30),
			slots,
			at_most("B"),
			at_most("C"),
			at_most("S")
		]
	);
}

/// A change after which a graph is refused: at which node, of which operator, and why.
type Case = (&'static str, &'static str, &'static str, fn(&mut Draft));

fn check(cases: &[Case]) {
	let mut wrong = Vec::new();
	for (at, operator, why, change) in cases {
		let mut draft = good();
		change(&mut draft);
		match draft.prove() {
			Err(refusals)
				if refusals[0].node == *at
					&& refusals[0].operator == *operator
					&& refusals[0].why.contains(why) => {}
			other => wrong.push(format!("{at} ({operator}) {why:?}: {other:#?}")),
		}
	}
	assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sums_that_are_not_exact_are_refused() {
	check(&[
		// 2,048 is the last that fits: 64 · 2,049 · 128 > 2^24.
		(
			"score0",
			"MatMul",
			"float holds every whole number up to 16777216",
			|d| d.set_float("steps", 2_049.0),
		),
		("score0", "MatMul", "not known to be", |d| {
			d.change("v_whole", |n| n.op_type = Some("Identity".into()));
			d.change("k_f", |n| n.input[0] = "rounded".into());
		}),
		("score0", "MatMul", "not known to be", |d| {
			d.set_float("steps", 2_046.5)
		}),
		("squares", "ReduceSumSquare", "whole", |d| {
			d.change("double", |n| n.input[0] = "divided".into())
		}),
		(
			"squares",
			"ReduceSumSquare",
			"double holds every whole number",
			|d| d.set_float("high", 1.0 / (1 << 24) as f32),
		),
		("total0", "ReduceSum", "terms", |d| {
			d.change("total0", |n| n.input[0] = "e".into())
		}),
		// How long rows are is lost.
		("total0", "ReduceSum", "how many", |d| {
			d.ints("two_open", &[1, -1]);
			d.before("total0", node("Reshape", "k_t two_open", "flat", &[]));
			d.before("total0", node("Reshape", "past two_open", "other", &[]));
			d.before(
				"total0",
				node("Concat", "flat other", "longer", &[int("axis", 1)]),
			);
			d.before(
				"total0",
				node("Cast", "longer", "longer_f", &[int("to", 1)]),
			);
			d.change("total0", |n| n.input[0] = "longer_f".into());
		}),
		(
			"o0",
			"MatMulInteger",
			"int32 holds every whole number",
			|d| {
				d.ints("long", &[1, 1, 1 << 18]);
				d.before("o0", node("Expand", "low_bytes long", "stretched", &[]));
				d.change("o0", |n| n.input[0] = "stretched".into());
			},
		),
		("sum", "MatMulInteger", "saturate", |d| {
			d.set("w", |t| t.raw_data = Some(vec![100; 64 * 64]));
			d.set_float("middle", 164.0);
			d.floats("eight_bits", &[], &[200.0]);
			d.change("clipped", |n| n.input[2] = "eight_bits".into());
		}),
		("sum", "MatMulInteger", "one for each row", |d| {
			d.set("sixty_four", |t| {
				(t.dims, t.raw_data) = (vec![2], Some(vec![64, 63]))
			})
		}),
		("sum", "MatMulInteger", "not one for each column", |d| {
			d.set("zeros", |t| {
				(t.dims, t.raw_data) = (vec![63], Some(vec![1; 63]))
			})
		}),
		("sum", "MatMulInteger", "is computed", |d| {
			d.before("sum", node("Identity", "bytes", "as_zero", &[]));
			d.change("sum", |n| n.input[2] = "as_zero".into());
		}),
	]);
}

#[test]
fn operators_that_are_not_single_roundings_are_refused() {
	fn replaced(d: &mut Draft, output: &str, operator: &str) {
		d.change(output, |n| {
			n.op_type = Some(operator.into());
			n.input.truncate(1);
			n.attribute.clear();
		});
	}
	check(&[
		("z", "Softmax", "adds or multiplies many floats", |d| {
			replaced(d, "z", "Softmax")
		}),
		(
			"z",
			"LayerNormalization",
			"adds or multiplies many floats",
			|d| replaced(d, "z", "LayerNormalization"),
		),
		(
			"most",
			"ReduceMean",
			"adds or multiplies many floats",
			|d| replaced(d, "most", "ReduceMean"),
		),
		("z", "Exp", "not correctly rounded", |d| {
			replaced(d, "z", "Exp")
		}),
		("z", "Pow", "not correctly rounded", |d| {
			replaced(d, "z", "Pow")
		}),
		("score0", "Gemm", "multiplies and adds", |d| {
			d.change("score0", |n| n.op_type = Some("Gemm".into()))
		}),
		("score1", "Sum", "multiplies and adds", |d| {
			d.change("score1", |n| n.op_type = Some("Sum".into()))
		}),
		("score0", "FusedMatMul", "com.microsoft", |d| {
			d.change("score0", |n| {
				n.op_type = Some("FusedMatMul".into());
				n.domain = Some("com.microsoft".into());
			})
		}),
		("score1", "Mul", "com.microsoft", |d| {
			d.change("score1", |n| n.domain = Some("com.microsoft".into()))
		}),
		("root_d", "Sqrt", "root of floats", |d| {
			d.change("root_d", |n| n.input[0] = "magnitude".into())
		}),
		("x0", "Cast", "float16", |d| {
			d.change("x0", |n| {
				n.op_type = Some("Cast".into());
				n.input.truncate(1);
				n.attribute = vec![int("to", FLOAT16.into())];
			})
		}),
		("z", "Clip", "no constants", |d| {
			d.change("z", |n| n.input[2] = "largest".into())
		}),
		("most", "ReduceMax", "\"noop\" is not known", |d| {
			d.change("most", |n| n.attribute.push(int("noop", 1)))
		}),
		("most", "ReduceMax", "of another type", |d| {
			d.change("most", |n| n.attribute[0].kind = Some(ATTRIBUTE_INT))
		}),
	]);
}

#[test]
fn numbers_without_bounds_are_refused() {
	check(&[
		// An unbounded Clip: what it is cast to does not hold what it lets through.
		("k", "Cast", "clip first", |d| {
			d.change("k_f", |n| n.input.truncate(2))
		}),
		// 128 would be -128.
		("k", "Cast", "clip first", |d| {
			d.change("k_f", |n| n.input[2] = "plane".into())
		}),
		("bytes", "Cast", "round first", |d| {
			d.change("shifted", |n| n.input[0] = "divided".into())
		}),
		("y", "Div", "divide by zero", |d| {
			d.change("y", |n| n.input[1] = "total0".into())
		}),
		("root_d", "Sqrt", "the root of what may be", |d| {
			d.set("eps", |t| {
				t.raw_data = Some((-1e-5f64).to_le_bytes().into())
			})
		}),
		("e0", "Mul", "which float does not hold", |d| {
			d.floats("huge", &[], &[1e38]);
			d.before("e0", node("Mul", "z huge", "far", &[]));
			d.change("e0", |n| n.input = vec!["far".into(), "probability".into()]);
		}),
		// The row is another one than its scale was made from.
		(
			"squares",
			"ReduceSumSquare",
			"double holds every whole number",
			|d| {
				d.before("divided", node("Mul", "x0 plane", "other", &[]));
				d.change("divided", |n| n.input[0] = "other".into());
			},
		),
		// The scale may be below the normal numbers, and no bound then.
		(
			"squares",
			"ReduceSumSquare",
			"double holds every whole number",
			|d| d.set_float("least", 1e-38),
		),
		// It is the largest of another axis.
		(
			"squares",
			"ReduceSumSquare",
			"double holds every whole number",
			|d| d.change("largest", |n| n.attribute[0].ints = vec![1]),
		),
		// It was multiplied more than once, and may have been below the normal numbers in between.
		(
			"squares",
			"ReduceSumSquare",
			"double holds every whole number",
			|d| {
				d.before("scale", node("Mul", "scaled one", "again", &[]));
				d.change("scale", |n| n.input[0] = "again".into());
			},
		),
		// It is no zero, and may be so small that a step of it is more than it.
		("divided", "Div", "which float does not hold", |d| {
			d.set("table", |t| t.raw_data = Some(vec![5; 9 * 64]));
			let places = [1e-42f32, 0.5].repeat(30 * 32);
			let bytes = places.iter().flat_map(|v| v.to_le_bytes()).collect();
			d.set("places", |t| t.raw_data = Some(bytes));
			d.change("divided", |n| n.input[1] = "scaled".into());
		}),
		// What is left over of another number, or of another step.
		("low_bytes", "Cast", "clip first", |d| {
			d.set_float("part", 1.0 / 64.0)
		}),
		("low_bytes", "Cast", "clip first", |d| {
			d.before("low_plane", node("Round", "e0", "e_again", &[]));
			d.change("low_plane", |n| n.input[0] = "e_again".into());
		}),
		("low_bytes", "Cast", "clip first", |d| {
			d.set_float("plane", 127.0)
		}),
		("row", "Gather", "indices may be from 1 to 9", |d| {
			d.ints("next", &[1]);
			d.ints("unused", &[0]);
			// The lookup bounds what is looked up with itself only.
			d.before("row", node("Gather", "table ids", "bounded", &[]));
			d.before("row", node("Add", "ids next", "moved", &[]));
			d.change("row", |n| n.input[1] = "moved".into());
		}),
		("present", "ScatterElements", "to one place twice", |d| {
			d.change("present", |n| n.attribute = vec![int("axis", 1)])
		}),
		("present", "ScatterElements", "to one place twice", |d| {
			d.ints("none", &[0]);
			d.before("present", node("Add", "slots none", "computed", &[]));
			d.change("present", |n| n.input[1] = "computed".into());
		}),
		// One position may be stretched to many.
		("present", "ScatterElements", "to one place twice", |d| {
			d.graph().input[1] = value("positions", INT64, &[O("B"), O("T")])
		}),
		("present", "ScatterElements", "adds, or chooses", |d| {
			d.change("present", |n| {
				n.attribute.push(Attribute {
					name: Some("reduction".into()),
					s: Some(b"add".to_vec()),
					kind: Some(ATTRIBUTE_STRING),
					..Default::default()
				})
			})
		}),
	]);
}

#[test]
fn a_zero_of_either_sign_reaches_no_output() {
	check(&[
		("score1", "Mul", "either sign", |d| {
			d.give("score1", FLOAT, &[O("B"), O("S"), O("C")])
		}),
		("rounded", "Round", "either sign", |d| {
			d.give("rounded", FLOAT, &[O("B"), O("S"), N(64)])
		}),
		// Zero times such a zero, and such a zero less another zero.
		("turned", "Neg", "either sign", |d| {
			d.graph().node.push(node("Neg", "score1", "turned", &[]));
			d.give("turned", FLOAT, &[O("B"), O("S"), O("C")]);
		}),
		("less", "Sub", "either sign", |d| {
			d.graph().node.push(node("Sub", "score1 zero", "less", &[]));
			d.give("less", FLOAT, &[O("B"), O("S"), O("C")]);
		}),
		// What is too small for a float is a zero of its sign, so that adding it settles nothing.
		("added", "Add", "either sign", |d| {
			let tiny = (-1e-60f64).to_le_bytes();
			d.constant("tiny", DOUBLE, &[], tiny.into());
			let nodes = [
				node("Cast", "tiny", "nothing", &[int("to", FLOAT.into())]),
				node("Add", "score1 nothing", "added", &[]),
			];
			d.graph().node.extend(nodes);
			d.give("added", FLOAT, &[O("B"), O("S"), O("C")]);
		}),
		("chosen", "Max", "either sign", |d| {
			d.floats("minus_zero", &[], &[-0.0]);
			d.graph()
				.node
				.push(node("Max", "score minus_zero", "chosen", &[]));
			d.give("chosen", FLOAT, &[O("B"), O("S"), O("C")]);
		}),
	]);
	// Adding a zero settles it; so does a magnitude.
	let mut draft = good();
	draft.give("score", FLOAT, &[O("B"), O("S"), O("C")]);
	draft.graph().node.push(node("Abs", "score1", "size", &[]));
	draft.give("size", FLOAT, &[O("B"), O("S"), O("C")]);
	draft.prove().unwrap();
}

#[test]
fn files_that_say_more_than_is_read_are_refused() {
	check(&[
		(
			"",
			"",
			"operators of [(\"\", Some(17)), (\"com.microsoft\", Some(1))]",
			|d| {
				d.0.opset_import.push(OperatorSet {
					domain: Some("com.microsoft".into()),
					version: Some(1),
				})
			},
		),
		("", "", "operators of", |d| {
			d.0.opset_import[0].version = Some(16)
		}),
		("", "", "more than one tensor", |d| {
			d.graph().node.push(node("Abs", "score", "z", &[]))
		}),
		("", "", "more than one tensor", |d| {
			d.graph().input.push(value("one", FLOAT, &[]));
		}),
		("", "", "another type", |d| {
			d.graph()
				.value_info
				.push(value("z", DOUBLE, &[O("B"), O("S"), O("C")]))
		}),
		("", "", "another shape", |d| {
			d.graph()
				.value_info
				.push(value("z", FLOAT, &[O("B"), O("B"), O("C")]))
		}),
		("", "", "no finite number", |d| {
			d.set_float("unit", f32::NAN)
		}),
		("", "", "bytes for", |d| {
			d.set("w", |t| t.dims = vec![64, 65])
		}),
		("", "", "float16", |d| {
			d.set("unit", |t| t.data_type = Some(FLOAT16))
		}),
		(
			"z",
			"Clip",
			"nothing before it makes its input \"later\"",
			|d| d.change("z", |n| n.input[0] = "later".into()),
		),
	]);
	// Fields that are passed over when it is read.
	let model = good().0.encode_to_vec();
	let field = |number: u64, content: &[u8]| {
		let mut bytes = Vec::new();
		prost::encoding::encode_varint(number << 3 | 2, &mut bytes);
		prost::encoding::encode_varint(content.len() as u64, &mut bytes);
		bytes.extend(content);
		bytes
	};
	let refused = |bytes: Vec<u8>| {
		let refusals = prove(&bytes, &mut Unwritten).unwrap_err();
		refusals.iter().map(ToString::to_string).collect::<Vec<_>>()
	};
	// A function that replaces an operator.
	let function = [model.clone(), field(25, b"")].concat();
	assert!(refused(function)[0].contains("functions"));
	// A subgraph of a node of a graph that is added to the model's.
	let inner = field(5, &[field(1, b"body"), field(6, b"")].concat());
	let hidden = field(
		1,
		&[
			field(1, b"score"),
			field(2, b"made"),
			field(4, b"Neg"),
			inner,
		]
		.concat(),
	);
	let refusals = refused([model.clone(), field(7, &hidden)].concat());
	assert!(refusals[0].starts_with("made (Neg): ") && refusals[0].contains("a subgraph"));
	assert!(refused([model.clone(), field(7, &field(15, b""))].concat())[0].contains("sparse"));
	// No protocol buffer, or not a whole one.
	assert!(refused(model[..model.len() - 1].to_vec())[0].contains("not a model"));
	assert!(refused(b"no model".to_vec())[0].contains("not a model"));
}

#[test]
fn every_refusal_is_told_and_nothing_that_follows_from_one() {
	let mut draft = good();
	draft.change("x", |n| n.op_type = Some("Pow".into()));
	draft.change("z", |n| n.op_type = Some("Exp".into()));
	let refusals = draft.prove().unwrap_err();
	let nodes: Vec<_> = refusals.iter().map(|r| r.node.as_str()).collect();
	assert_eq!(nodes, ["x", "z"], "{refusals:#?}");
}
