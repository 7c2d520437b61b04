//! Looks for what a file holds beyond what is read of it.
//!
//! A reader of protocol buffers passes over fields that it does not know. Whoever runs the graph may know them: a function that
//! replaces an operator, a subgraph, a device's own settings. So every field must be one that the proof has read, or that is for
//! people.

/// A kind of message: its name, and the fields that may stand in it, with the kind of those that are messages themselves.
struct Kind {
	name: &'static str,
	fields: &'static [(u64, Option<&'static Kind>)],
}

const OPSET: Kind = Kind {
	name: "opset",
	fields: &[(1, None), (2, None)],
};
const PAIR: Kind = Kind {
	name: "key and value",
	fields: &[(1, None), (2, None)],
};
const TENSOR: Kind = Kind {
	name: "tensor",
	fields: &[
		(1, None),
		(2, None),
		(4, None),
		(5, None),
		(7, None),
		(8, None),
		(9, None),
		(10, None),
		(12, None),
		(13, Some(&PAIR)),
		(14, None),
	],
};
const ATTRIBUTE: Kind = Kind {
	name: "attribute",
	fields: &[
		(1, None),
		(3, None),
		(4, None),
		(5, Some(&TENSOR)),
		(8, None),
		(13, None),
		(20, None),
	],
};
const NODE: Kind = Kind {
	name: "node",
	fields: &[
		(1, None),
		(2, None),
		(3, None),
		(4, None),
		(5, Some(&ATTRIBUTE)),
		(6, None),
		(7, None),
	],
};
const DIMENSION: Kind = Kind {
	name: "dimension",
	fields: &[(1, None), (2, None)],
};
const SHAPE: Kind = Kind {
	name: "shape",
	fields: &[(1, Some(&DIMENSION))],
};
const TENSOR_TYPE: Kind = Kind {
	name: "type of a tensor",
	fields: &[(1, None), (2, Some(&SHAPE))],
};
const TYPE: Kind = Kind {
	name: "type",
	fields: &[(1, Some(&TENSOR_TYPE))],
};
const VALUE: Kind = Kind {
	name: "value",
	fields: &[(1, None), (2, Some(&TYPE)), (3, None)],
};
const GRAPH: Kind = Kind {
	name: "graph",
	fields: &[
		(1, Some(&NODE)),
		(2, None),
		(5, Some(&TENSOR)),
		(10, None),
		(11, Some(&VALUE)),
		(12, Some(&VALUE)),
		(13, Some(&VALUE)),
	],
};
const MODEL: Kind = Kind {
	name: "model",
	fields: &[
		(1, None),
		(2, None),
		(3, None),
		(4, None),
		(5, None),
		(6, None),
		(7, Some(&GRAPH)),
		(8, Some(&OPSET)),
	],
};

/// What a field is, of those that have a name here and do not belong in a graph.
fn meaning(kind: &str, field: u64) -> Option<&'static str> {
	Some(match (kind, field) {
		("model", 20) => "training",
		("model", 25) => "functions, which may stand for any operator",
		("model", 26) | ("node", 10) => "settings for devices",
		("graph", 15) => "sparse constants",
		("node", 8) => "an overload of a function",
		("attribute", 2 | 7) => "floats",
		("attribute", 6 | 11) => "a subgraph",
		("attribute", 21) => "a reference to an attribute of a function",
		_ => return None,
	})
}

/// Something that stands in a file and was not read, and the node that it stands in.
#[derive(Debug, PartialEq)]
pub(super) struct Unread {
	pub(super) node: Option<usize>,
	pub(super) what: String,
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
	let mut value = 0;
	for shift in (0..64).step_by(7) {
		let (byte, rest) = bytes.split_first()?;
		*bytes = rest;
		value |= u64::from(byte & 0x7f) << shift;
		if byte & 0x80 == 0 {
			return Some(value);
		}
	}
	None
}

fn take<'b>(bytes: &mut &'b [u8], length: u64) -> Option<&'b [u8]> {
	let length = usize::try_from(length).ok()?;
	let (taken, rest) = bytes.split_at_checked(length)?;
	*bytes = rest;
	Some(taken)
}

fn walk(
	mut bytes: &[u8],
	kind: &Kind,
	node: &mut Option<usize>,
	nodes: &mut usize,
	unread: &mut Vec<Unread>,
) -> Option<()> {
	while !bytes.is_empty() {
		let tag = varint(&mut bytes)?;
		let (field, wire) = (tag >> 3, tag & 7);
		let content = match wire {
			0 => {
				varint(&mut bytes)?;
				None
			}
			1 => {
				take(&mut bytes, 8)?;
				None
			}
			2 => {
				let length = varint(&mut bytes)?;
				Some(take(&mut bytes, length)?)
			}
			5 => {
				take(&mut bytes, 4)?;
				None
			}
			_ => return None,
		};
		let is_node = kind.name == "graph" && field == 1;
		if is_node {
			*node = Some(*nodes);
			*nodes += 1;
		}
		match kind.fields.iter().find(|(known, _)| *known == field) {
			Some((_, Some(kind))) => walk(content?, kind, node, nodes, unread)?,
			Some((_, None)) => (),
			None => {
				let meaning = meaning(kind.name, field);
				let what = meaning.map_or(String::new(), |meaning| format!(" ({meaning})"));
				unread.push(Unread {
					node: *node,
					what: format!("field {field} of a {}{what} is not read here", kind.name),
				});
			}
		}
		if is_node {
			*node = None;
		}
	}
	Some(())
}

/// Everything in a model's bytes that is not read; `None` if they are no protocol buffer.
pub(super) fn unread(model: &[u8]) -> Option<Vec<Unread>> {
	let mut unread = Vec::new();
	walk(model, &MODEL, &mut None, &mut 0, &mut unread)?;
	Some(unread)
}
