//! How an honest side plays: what a worker says when it stands for a trace that it has computed, or doubts another's.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
	element::{Definition, Partial},
	narrowing::{cut, Choice, Claim, Game, Reply, Stage, Tensor, TERMS, WIDE},
	program::{Lengths, Program, Rule},
	standing::Opening,
	trace::{self, Known, Tensors, LEAF},
	tree::{self, Hash, Tree},
	value::Fault,
};

/// A run of a program, as one side has computed it.
pub struct Run<'r> {
	program: &'r Program,
	lengths: Lengths,
	tensors: &'r dyn Tensors,
	rules: Tree,
	trace: Tree,
}

impl<'r> Run<'r> {
	/// Of all tensors of a run.
	pub fn new(program: &'r Program, lengths: Lengths, tensors: &'r dyn Tensors) -> Self {
		let count = program.rules.len() as u32;
		Self {
			program,
			lengths,
			tensors,
			rules: program.tree(),
			trace: Tree::new((0..count).map(|n| tensors.tensor(n).root()).collect()),
		}
	}

	/// The claim that this is the run of what was fed.
	pub fn claim(&self, inputs: Vec<Hash>) -> Claim {
		Claim {
			program: self.rules.root(),
			tensors: self.program.rules.len() as u32,
			lengths: self.lengths,
			inputs,
			trace: self.trace.root(),
		}
	}

	/// A rule, and the hashes beside it in the program.
	pub fn rule(&self, n: u32) -> (Rule, Vec<Hash>) {
		let rule = self.program.rules[n as usize].clone();
		(rule, self.rules.beside(&[n.into()]))
	}

	/// Hashes beside a tensor's root.
	pub fn above(&self, tensor: u32) -> Vec<Hash> {
		self.trace.beside(&[tensor.into()])
	}

	/// What shows what its trace says at a place.
	pub fn opening(&self, place: u64) -> Result<Opening, Fault> {
		let last = self.program.rules.len() as u32 - 1;
		let (rule, program) = self.rule(last);
		let dims = rule.output.dims(&self.lengths)?;
		let position = dims.position(rule.output.along, place)?;
		let n = position / (LEAF / rule.output.kind.size()) as u64;
		let tensor = self.tensors.tensor(last);
		Ok(Opening {
			program,
			leaf: tensor.leaf(n).to_vec(),
			beside: tensor.tree().beside(&[n]),
			above: self.above(last),
			rule,
		})
	}

	/// What it says for its trace; nothing if it is not its turn.
	pub fn reply(&self, game: &Game) -> Option<Reply> {
		match &game.stage {
			Stage::Hash {
				tensor,
				level,
				n,
				shown: false,
				..
			} => {
				let tree = match tensor {
					None => &self.trace,
					Some(tensor) => self.tensors.tensor(tensor.number).tree(),
				};
				Some(Reply::Hashes(tree.below(*level, *n, (*level).min(WIDE))))
			}
			Stage::Leaf { tensor, n, .. } => {
				let tensor = self.tensors.tensor(tensor.number);
				Some(Reply::Leaf(tensor.leaf(*n).to_vec()))
			}
			Stage::Fold {
				tensor,
				element,
				range,
				parts: None,
				..
			} => {
				let parts = cut(*range).map(|range| self.partial(tensor, *element, range));
				Some(Reply::Parts(parts.collect::<Result<_, _>>().ok()?))
			}
			_ => None,
		}
	}

	fn partial(&self, tensor: &Tensor, element: u64, range: (u64, u64)) -> Result<Partial, Fault> {
		trace::partial(self.tensors, &tensor.rule, &self.lengths, element, range)
	}
}

/// What a challenger has seen of the trace that it doubts.
#[derive(Clone, Debug, Default)]
pub struct Seen {
	/// Hashes of its upper part, by level and number.
	upper: BTreeMap<(u32, u64), Hash>,
	/// What was shown last.
	last: Vec<Hash>,
}

impl Seen {
	/// Notes what a defender showed at a stage, before it was taken.
	pub fn note(&mut self, stage: &Stage, reply: &Reply) {
		let (
			Stage::Hash {
				tensor, level, n, ..
			},
			Reply::Hashes(hashes),
		) = (stage, reply)
		else {
			return;
		};
		self.last = hashes.clone();
		if tensor.is_some() {
			return;
		}
		let down = (*level).min(WIDE);
		let tree = Tree::new(hashes.clone());
		for up in 0..=down {
			for within in 0..1 << (down - up) {
				let n = (n << (down - up)) | within;
				self.upper
					.insert((level - down + up, n), tree.hash(up, within));
			}
		}
	}

	/// Hashes beside a tensor's root in the trace that is doubted. It has been shown them as far as they are not the challenger's own:
	/// the tensor stands before the first that differs.
	fn above(&self, run: &Run<'_>, tensor: u32) -> Vec<Hash> {
		tree::beside(run.trace.depth(), &[tensor.into()], &|level, n| {
			let seen = self.upper.get(&(level, n)).copied();
			seen.unwrap_or_else(|| run.trace.hash(level, n))
		})
	}

	/// What a challenger says whose own run is another; nothing if it is not its turn, or if it finds no fault.
	pub fn choose(&self, run: &Run<'_>, game: &Game) -> Option<Choice> {
		match &game.stage {
			Stage::Hash {
				tensor,
				level,
				n,
				hash,
				shown: true,
			} => {
				let down = (*level).min(WIDE);
				let own = match tensor {
					None => &run.trace,
					Some(tensor) => run.tensors.tensor(tensor.number).tree(),
				};
				let last = match down {
					0 => core::slice::from_ref(hash),
					_ => &self.last[..],
				};
				let own = own.below(*level, *n, down);
				let which = last
					.iter()
					.zip(&own)
					.position(|(shown, own)| shown != own)? as u64;
				let at = (n << down) | which;
				let is_tensor = tensor.is_none() && *level == down;
				let rule = is_tensor.then(|| run.rule(at as u32));
				Some(Choice::Below {
					n: which as u16,
					hash: last[which as usize],
					beside: Tree::new(last.to_vec()).beside(&[which]),
					rule,
				})
			}
			Stage::Element { tensor, n, bytes } => {
				let own = run.tensors.tensor(tensor.number).leaf(*n);
				let at = bytes.iter().zip(own).position(|(said, own)| said != own)?;
				self.element(run, tensor, *n, at / tensor.rule.output.kind.size())
			}
			Stage::Fold {
				tensor,
				element,
				range,
				parts: Some(parts),
				..
			} => {
				let differs = cut(*range).zip(parts).position(|(range, said)| {
					run.partial(tensor, *element, range).as_ref() != Ok(said)
				});
				match differs {
					Some(n) => self.part(run, tensor, *element, *range, n),
					None => self.finish(run, tensor, *element, parts),
				}
			}
			_ => None,
		}
	}

	/// Says that an element of the leaf that was shown is false.
	pub fn element(&self, run: &Run<'_>, tensor: &Tensor, leaf: u64, nth: usize) -> Option<Choice> {
		let definition = Definition::new(&tensor.rule, &run.lengths).ok()?;
		let long = definition.terms().ok()?.is_some_and(|terms| terms > TERMS);
		let proof = match long {
			true => None,
			false => {
				let element =
					trace::element_at(&tensor.rule.output, &run.lengths, leaf, nth).ok()?;
				let mut known = Known::new(run.tensors, &tensor.rule, &run.lengths).ok()?;
				definition.element(element, &mut known).ok()?;
				Some(known.proof(&|tensor| self.above(run, tensor)))
			}
		};
		Some(Choice::Element {
			nth: nth as u8,
			proof,
		})
	}

	/// Says that a part is false.
	pub fn part(
		&self,
		run: &Run<'_>,
		tensor: &Tensor,
		element: u64,
		range: (u64, u64),
		n: usize,
	) -> Option<Choice> {
		let range = cut(range).nth(n)?;
		let proof = match range.1 - range.0 > TERMS {
			true => None,
			false => {
				let definition = Definition::new(&tensor.rule, &run.lengths).ok()?;
				let mut known = Known::new(run.tensors, &tensor.rule, &run.lengths).ok()?;
				definition.part(element, range, &mut known).ok()?;
				Some(known.proof(&|tensor| self.above(run, tensor)))
			}
		};
		Some(Choice::Part { n: n as u8, proof })
	}

	/// Says that an element does not follow from its parts.
	pub fn finish(
		&self,
		run: &Run<'_>,
		tensor: &Tensor,
		element: u64,
		parts: &[Partial],
	) -> Option<Choice> {
		let definition = Definition::new(&tensor.rule, &run.lengths).ok()?;
		let mut known = Known::new(run.tensors, &tensor.rule, &run.lengths).ok()?;
		let (first, rest) = parts.split_first()?;
		let all = rest
			.iter()
			.try_fold(*first, |all, part| definition.together(all, *part));
		// What cannot be brought together, or finished, needs no elements to show it.
		let _ = all.and_then(|all| definition.finish(element, all, &mut known));
		Some(Choice::Finish(
			known.proof(&|tensor| self.above(run, tensor)),
		))
	}
}
