//! The exact class, on tiny random models: any way of feeding the tokens gives the same bits.

use std::path::PathBuf;

use consilience_primitives::manifest;
use proptest::prelude::*;

use super::Layout;
use crate::session::{Graph, Provider};

fn open(name: &str, threads: usize, optimization: &str) -> (Graph, Layout) {
	let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
		.join("tests/fixtures")
		.join(name);
	let graph = Graph::load(
		&folder.join("model.onnx"),
		threads,
		optimization,
		Provider::Cpu,
	);
	let kind = match name {
		"llama-hub" => manifest::Cache::Growing,
		_ => manifest::Cache::Slots,
	};
	let layout = Layout {
		kind,
		layers: 2,
		kv_heads: 2,
		head_dim: 4,
		vocabulary: 64,
	};
	(
		graph.expect("the tests need ONNX Runtime: run ./scripts/setup"),
		layout,
	)
}

/// Logits of all tokens, fed in pieces of these lengths until none are left.
fn feed(of: &(Graph, Layout), tokens: &[u32], pieces: &[usize], room: usize) -> Vec<f32> {
	let (graph, layout) = of;
	let mut cache = layout.empty(graph, room).unwrap();
	let mut logits = Vec::new();
	let (mut rest, mut pieces) = (tokens, pieces.iter().cycle());
	while !rest.is_empty() {
		let n = pieces.next().map_or(rest.len(), |n| (*n).min(rest.len()));
		logits.extend(layout.step(graph, &mut cache, &rest[..n]).unwrap());
		rest = &rest[n..];
	}
	logits
}

fn bits(logits: &[f32]) -> Vec<u32> {
	logits.iter().map(|l| l.to_bits()).collect()
}

/// Texts that need up to three blocks of the cache, and how to feed them.
fn schedule() -> impl Strategy<Value = (Vec<u32>, Vec<usize>, usize)> {
	(
		prop::collection::vec(0u32..64, 1..384),
		prop::collection::vec(1usize..150, 1..6),
		1usize..384,
	)
}

#[test]
fn canonical_graphs_give_the_same_bits() {
	for name in ["llama-fp32", "llama-int8"] {
		let one = open(name, 1, "disable");
		let others = [open(name, 2, "disable"), open(name, 3, "all")];
		proptest!(ProptestConfig::with_cases(40), |((tokens, pieces, room) in schedule())| {
			let expected = bits(&feed(&one, &tokens, &[], tokens.len()));
			// The cache starts with room for some and grows.
			prop_assert!(bits(&feed(&one, &tokens, &pieces, room)) == expected, "{name}: pieces");
			for other in &others {
				prop_assert!(bits(&feed(other, &tokens, &pieces, room)) == expected, "{name}: threads");
			}
		});
	}
}

#[test]
fn the_hubs_export_is_near_itself_and_the_canonical_graph() {
	let (hub, exact) = (
		open("llama-hub", 1, "all"),
		open("llama-fp32", 1, "disable"),
	);
	proptest!(ProptestConfig::with_cases(20), |((tokens, pieces, room) in schedule())| {
		let expected = feed(&exact, &tokens, &[], tokens.len());
		for logits in [feed(&hub, &tokens, &pieces, room), feed(&hub, &tokens, &[], 0)] {
			prop_assert_eq!(logits.len(), expected.len());
			for (a, b) in logits.iter().zip(&expected) {
				prop_assert!((a - b).abs() < 1e-3, "{} and {}", a, b);
			}
		}
	});
}
