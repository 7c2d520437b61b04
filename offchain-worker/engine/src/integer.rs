//! Graphs of the integer class: run with their proof, and only where the engine keeps what the proof asks of whoever runs them.
//!
//! The proof ([`consilience_canonical::proof`]) says that the bits of one run depend on no machine. What it says nothing of is whether
//! an answer depends on the company that it is written in, or on what is left in slots that nobody reads: that is the graph's
//! meaning, and is measured as in the exact class ([`crate::exactness`]).

use std::{collections::HashMap, path::Path};

use consilience_canonical::{proof::Requirement, prove_integer, Proof, Refusals, INTEGER};
use consilience_primitives::{
	manifest::{self, Manifest, TaskDetails},
	model::NumericClass,
};

use crate::{
	onnx::Program,
	session::Graph,
	text::cache::{Layout, Tables},
	EngineError,
};

/// The only level at which operators are run as they stand.
const AS_IT_STANDS: &str = "disable";

/// Whether a model says that it is of the integer class: by its element type, in the exact class of the chain.
pub(crate) fn is_claimed(manifest: &Manifest) -> bool {
	manifest.numerics.element_type == INTEGER
}

fn unfit(why: impl Into<String>) -> EngineError {
	EngineError::Mismatch(format!("the integer class: {}", why.into()))
}

/// Fails where a manifest that says so would have its graph run in a way that no proof is about.
pub(crate) fn check_profile(manifest: &Manifest) -> Result<(), EngineError> {
	if manifest.policy.class != NumericClass::Exact {
		return Err(unfit(
			"its thresholds are zero: write the class exact into the policy, or another element_type into numerics",
		));
	}
	as_it_stands(&manifest.numerics.optimization)?;
	let slots = matches!(
		&manifest.task,
		TaskDetails::TextGeneration {
			cache: manifest::Cache::Slots,
			..
		}
	);
	if !slots {
		return Err(unfit(
			"so far it is served for language models with a cache of slots: write another element_type into numerics",
		));
	}
	Ok(())
}

/// Proves a model's graph, if it says that it is of the integer class. Fails where it is not.
pub(crate) fn prove(folder: &Path, manifest: &Manifest) -> Result<Option<Proof>, EngineError> {
	if !is_claimed(manifest) {
		return Ok(None);
	}
	check_profile(manifest)?;
	let path = folder.join(&manifest.graph);
	let proof = prove_integer(&path).map_err(|why| EngineError::load(&path, Refusals(why)))?;
	Ok(Some(proof))
}

/// Refuses levels of optimisation that make other operators of those that the proof is about.
pub(crate) fn as_it_stands(optimization: &str) -> Result<(), EngineError> {
	if optimization == AS_IT_STANDS {
		return Ok(());
	}
	Err(unfit(format!(
		"its proof is about operators as they stand, and the optimiser is at {optimization:?}: set it to {AS_IT_STANDS:?}"
	)))
}

/// How long a dimension of an input may become.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
	/// Texts that are run together.
	Rows,
	/// Tokens that a text is fed at a time.
	Tokens,
	/// Slots of the cache.
	Slots,
	/// So many, always.
	Fixed(usize),
}

impl Length {
	fn name(self) -> String {
		match self {
			Self::Rows => "texts that are run together".into(),
			Self::Tokens => "tokens that are fed at a time".into(),
			Self::Slots => "slots of the cache".into(),
			Self::Fixed(n) => format!("{n}"),
		}
	}
}

/// Every dimension of what a graph of slots is fed with, by the names of its inputs.
fn lengths(layout: &Layout) -> Vec<(String, Vec<Length>)> {
	let (heads, dim) = (
		Length::Fixed(layout.kv_heads),
		Length::Fixed(layout.head_dim),
	);
	let mut all: Vec<_> = ["input_ids", "position_ids"]
		.map(|name| (name.to_owned(), vec![Length::Rows, Length::Tokens]))
		.into();
	for layer in 0..layout.layers {
		let key = vec![Length::Rows, heads, dim, Length::Slots];
		let value = vec![Length::Rows, heads, Length::Slots, dim];
		all.push((Layout::past_name(layer, false), key));
		all.push((Layout::past_name(layer, true), value));
	}
	all
}

/// What the engine gives each dimension that a graph leaves open. A name that means two things is refused: they would have to be of
/// one length.
fn open_dimensions(graph: &Graph, layout: &Layout) -> Result<HashMap<String, Length>, EngineError> {
	let mut dimensions = HashMap::new();
	for (input, lengths) in lengths(layout) {
		let symbols = graph.symbols(&input).into_iter().zip(lengths);
		for (symbol, length) in symbols.filter(|(symbol, _)| !symbol.is_empty()) {
			let other = *dimensions.entry(symbol.clone()).or_insert(length);
			if other != length {
				return Err(unfit(format!(
					"the graph calls both {} and {} of {input:?} {symbol:?}, and they are not the same",
					other.name(),
					length.name()
				)));
			}
		}
	}
	Ok(dimensions)
}

/// Notes in the layout what a graph may be fed with by its proof, and refuses what the engine cannot promise. `context` is the most
/// tokens of a text, and `rows` how many are run together at most.
pub(crate) fn admit(
	proof: &Proof,
	graph: &Graph,
	layout: &mut Layout,
	(context, rows): (usize, usize),
) -> Result<(), EngineError> {
	if !layout.shares(graph) {
		return Err(unfit("a graph with slots runs on the CPU"));
	}
	let dimensions = open_dimensions(graph, layout)?;
	let mut tables = Tables {
		tokens: layout.vocabulary,
		positions: context,
	};
	for requirement in &proof.requirements {
		let too_few = |what: &str, needed: usize, there: i64| {
			usize::try_from(there)
				.ok()
				.filter(|there| needed <= *there)
				.ok_or_else(|| {
					unfit(format!(
						"the proof is about {there} {what} at most, and the manifest asks for {needed}"
					))
				})
		};
		match requirement {
			Requirement::Below { input, count } if input == "input_ids" => {
				// What the model itself writes is one of these.
				tables.tokens = too_few("tokens of its vocabulary", layout.vocabulary, *count)?;
			}
			Requirement::Below { input, count } if input == "position_ids" => {
				tables.positions = too_few("positions", context, *count)?;
			}
			// A row's positions rise, and a cache is made longer before one is fed that has no slot.
			Requirement::Slots { input } if input == "position_ids" => (),
			// A cache begins with zeros, and then holds what the graph gave: finite numbers, by the proof.
			Requirement::Finite { input } if input.starts_with("past_key_values.") => (),
			Requirement::AtMost { dimension, most } => {
				let needed = match dimensions.get(dimension) {
					Some(Length::Rows) => rows,
					Some(Length::Tokens) => context,
					Some(Length::Slots) => Layout::most_slots(context),
					Some(Length::Fixed(n)) => *n,
					None => {
						return Err(unfit(format!(
							"nobody knows here how long the graph's dimension {dimension:?} becomes"
						)))
					}
				};
				too_few(&format!("of the dimension {dimension:?}"), needed, *most)?;
			}
			other => {
				return Err(unfit(format!(
					"the engine cannot promise what the proof asks for: {other}"
				)))
			}
		}
	}
	layout.tables = Some(tables);
	Ok(())
}

/// Refuses a graph that would read a cache after it has written to it: past and present are one memory here.
pub(crate) fn reads_past_once(path: &Path, layout: &Layout) -> Result<(), EngineError> {
	let bytes = std::fs::read(path).map_err(|e| EngineError::load(path, e))?;
	let program = Program::read(&bytes).map_err(|e| EngineError::load(path, e))?;
	let caches: HashMap<_, _> = (0..2 * layout.layers).map(Layout::names).collect();
	for node in &program.nodes {
		for (place, input) in node.input.iter().enumerate() {
			let Some(present) = caches.get(input) else {
				continue;
			};
			let writes =
				place == 0 && node.is("ScatterElements") && node.output[..] == [present.clone()];
			if !writes && !node.is("Shape") {
				return Err(unfit(format!(
					"{:?} ({}) reads {input:?}, which is written in place: let it read {present:?}",
					node.label(),
					node.op_type
				)));
			}
		}
	}
	let made = |present: &String| {
		let maker = program.maker(present);
		maker.is_some_and(|node| {
			node.is("ScatterElements") && caches.get(&node.input[0]) == Some(present)
		})
	};
	match caches.values().find(|present| !made(present)) {
		None => Ok(()),
		Some(present) => Err(unfit(format!(
			"{present:?} is not its past with new slots in it, written by one ScatterElements"
		))),
	}
}
