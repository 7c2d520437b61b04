//! What the longest steps of a model of three billion parameters come to: bytes of a proof, moves of a game, time of the judge.
//!
//! `cargo test -p consilience-judge --test figures -- --nocapture` prints them.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use codec::Encode;
use consilience_judge::{
	element::{Definition, Elements},
	narrowing::{Game, Pace, PROOF, TERMS},
	program::{Dim, Lengths, Operand, Operator, Reduction, Rule, Signature, RULE},
	trace::{self, Opened, Proof, LEAF},
	tree::{self, Hash},
	value::{Fault, Kind, Value},
};

/// One text of 4,096 tokens, in as many slots.
const LENGTHS: Lengths = [1, 4_096, 4_096];
/// Tensors of a program: some 190 a layer, of 28.
const TENSORS: u32 = 8_000;
const HIDDEN: u32 = 3_072;
const INNER: u32 = 8_192;
const VOCABULARY: u32 = 128_256;
const HEADS: u32 = 24;
const GROUPS: u32 = 8;
const HEAD: u32 = 128;

fn d(factor: u32) -> Dim {
	Dim::number(factor)
}

fn tokens(factor: u32) -> Dim {
	Dim {
		factor,
		powers: [0, 1, 0],
	}
}

fn slots() -> Dim {
	Dim {
		factor: 1,
		powers: [0, 0, 1],
	}
}

fn signature(kind: Kind, shape: &[Dim], along: usize) -> Signature {
	Signature {
		kind,
		shape: shape.to_vec(),
		along: along as u8,
	}
}

fn rule(operator: Operator, inputs: &[Signature], output: Signature) -> Rule {
	let operands = inputs.iter().enumerate();
	Rule {
		operator,
		// Far from each other in the trace, as weights and what they are multiplied with are.
		inputs: operands
			.map(|(n, signature)| Operand {
				tensor: n as u32 * 997,
				signature: signature.clone(),
			})
			.collect(),
		output,
	}
}

/// Zeros, and which leaves were looked at.
struct Looked<'r> {
	rule: &'r Rule,
	seen: BTreeMap<usize, BTreeSet<u64>>,
}

impl Elements for Looked<'_> {
	type Error = Fault;

	fn get(&mut self, input: usize, element: u64) -> Result<Value, Fault> {
		let signature = &self.rule.inputs[input].signature;
		let dims = signature.dims(&LENGTHS)?;
		let position = dims.position(signature.along, element)?;
		let leaf = position / (LEAF / signature.kind.size()) as u64;
		self.seen.entry(input).or_default().insert(leaf);
		Ok(match signature.kind {
			Kind::Float => Value::Float(0),
			Kind::Double => Value::Double(0),
			_ => Value::Whole(0),
		})
	}
}

/// Bytes of the proof of so many terms of a rule's last element, or of all of it.
fn proof_bytes(rule: &Rule) -> usize {
	let definition = Definition::new(rule, &LENGTHS).unwrap();
	let mut looked = Looked {
		rule,
		seen: BTreeMap::new(),
	};
	let element = definition.output().count() - 1;
	match definition.terms().unwrap() {
		Some(terms) => {
			let most = terms.min(TERMS);
			// In the middle of a row, where it meets no edge of a tree.
			let from = (terms - most) / 2;
			definition
				.part(element, (from, from + most), &mut looked)
				.unwrap();
		}
		None => {
			definition.element(element, &mut looked).unwrap();
		}
	}
	let hash: Hash = [7; 32];
	let opened = looked.seen.into_iter().map(|(input, leaves)| {
		let signature = &rule.inputs[input].signature;
		let depth = tree::depth(trace::leaves(signature, &LENGTHS).unwrap());
		let numbers: Vec<_> = leaves.iter().copied().collect();
		Opened {
			tensor: rule.inputs[input].tensor,
			leaves: leaves
				.into_iter()
				.map(|n| (n as u32, vec![0; LEAF]))
				.collect(),
			beside: tree::beside(depth, &numbers, &|_, _| hash),
			above: vec![hash; tree::depth(TENSORS.into()) as usize],
		}
	});
	let proof = Proof {
		opened: opened.collect(),
	};
	proof.encoded_size()
}

/// The rules of a model whose folds are longest, or that have most inputs.
fn rules() -> Vec<(&'static str, Rule)> {
	use Kind::{Double, Float, Int32, Int64, Int8, Uint8};
	let one = d(1);
	let product = |inner: u32, outer: u32| {
		rule(
			Operator::MatMulInteger([true, true]),
			&[
				signature(Uint8, &[one, tokens(1), d(2), d(inner)], 3),
				signature(Int8, &[d(inner), d(outer)], 0),
				signature(Uint8, &[], 0),
				signature(Int8, &[d(outer)], 0),
			],
			signature(Int32, &[one, tokens(1), d(2), d(outer)], 3),
		)
	};
	let rows = |kind| signature(kind, &[one, d(GROUPS), tokens(HEADS / GROUPS), slots()], 3);
	let logits = signature(Float, &[one, tokens(1), d(VOCABULARY)], 2);
	let wide = signature(Float, &[one, tokens(1), d(INNER)], 2);
	vec![
		("down projection", product(INNER, HIDDEN)),
		("output head", product(HIDDEN, VOCABULARY)),
		(
			"probabilities times values",
			rule(
				Operator::MatMulInteger([false, false]),
				&[
					rows(Uint8),
					signature(Int8, &[one, d(GROUPS), slots(), d(HEAD)], 2),
				],
				signature(Int32, &[one, d(GROUPS), tokens(HEADS / GROUPS), d(HEAD)], 3),
			),
		),
		(
			"queries times keys",
			rule(
				Operator::MatMul,
				&[
					signature(Float, &[one, d(GROUPS), tokens(HEADS / GROUPS), d(HEAD)], 3),
					signature(Float, &[one, d(GROUPS), d(HEAD), slots()], 2),
				],
				rows(Float),
			),
		),
		(
			"squares of a row",
			rule(
				Operator::Reduce {
					how: Reduction::SumSquare,
					axes: vec![3],
				},
				&[signature(Double, &[one, tokens(1), one, d(HIDDEN)], 3)],
				signature(Double, &[one, tokens(1), one, one], 3),
			),
		),
		(
			"largest score",
			rule(
				Operator::Reduce {
					how: Reduction::Max,
					axes: vec![3],
				},
				&[rows(Float)],
				signature(Float, &[one, d(GROUPS), tokens(HEADS / GROUPS), one], 3),
			),
		),
		(
			"what is in a slot",
			rule(
				Operator::Scatter(2),
				&[
					signature(Int8, &[one, d(GROUPS), slots(), d(HEAD)], 2),
					signature(Int64, &[one, d(GROUPS), tokens(1), d(HEAD)], 2),
					signature(Int8, &[one, d(GROUPS), tokens(1), d(HEAD)], 3),
				],
				signature(Int8, &[one, d(GROUPS), slots(), d(HEAD)], 2),
			),
		),
		(
			"the token",
			rule(
				Operator::Best,
				&[logits],
				signature(Int64, &[one, tokens(1)], 1),
			),
		),
		(
			"a product of two numbers",
			rule(
				Operator::Double(consilience_judge::program::Double::Mul),
				&[wide.clone(), wide.clone()],
				wide,
			),
		),
	]
}

#[test]
fn proofs_games_and_rules_are_short() {
	let mut longest = 0;
	println!("rule | bytes of its proof | of the rule | moves to it");
	for (name, rule) in rules() {
		let bytes = proof_bytes(&rule);
		let definition = Definition::new(&rule, &LENGTHS).unwrap();
		let terms = definition.terms().unwrap().unwrap_or(1);
		let leaves = trace::leaves(&rule.output, &LENGTHS).unwrap();
		let moves = Game::moves(TENSORS, leaves, terms);
		println!("{name} | {bytes} | {} | {moves}", rule.encoded_size());
		assert!(bytes <= PROOF / 2, "{name}");
		assert!(rule.encoded_size() <= RULE / 4, "{name}");
		longest = longest.max(moves);
	}
	// Two seconds' work of hashing on two cores is what a move takes at most; a budget of 400 blocks is twenty minutes.
	let pace = Pace {
		budget: 400,
		margin: 12,
	};
	println!(
		"at most {longest} moves, {} blocks",
		Game::longest(longest, &pace)
	);
	assert!(longest <= 18);
}
