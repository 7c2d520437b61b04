//! Narrowing a dispute down to one number.
//!
//! Somebody, the *defender*, stands for a trace by its root. Somebody else, the *challenger*, says that it is not the run's. By turns
//! the defender shows all hashes a few levels below the one in question, and the challenger names the first that it has otherwise:
//! down to a tensor, down to a leaf of it, to one element, and where that is a long fold, to a part of its terms. Then the challenger
//! shows what the element is made of, and the judge makes it again.
//!
//! | who | how it wins |
//! |---|---|
//! | an honest challenger | it names the first tensor that differs. All before it are as its own, so it can open what that tensor is made of; what the defender shows beside the way is all that it lacks |
//! | an honest defender | every step of its trace is right, so whichever is named, the judge finds the same |
//!
//! A trace that holds something false and is consistent everywhere else does not exist: the program, the weights, what was fed and what
//! came out are all bound by roots that neither side has chosen.
//!
//! All that a defender says is bound by the root that it stands for, but what the parts of a fold come to: these are its own words. So
//! whoever shows that a part is false has shown nothing of the trace. The defender has *misspoken*, and loses this game as if it were
//! late; the next who stands for the same root says the parts anew. Otherwise somebody could stand for a right trace in order to
//! misspeak for it.
//!
//! The machine is pure: it takes moves and numbers of blocks, keeps less than [`STATE`] bytes, and refuses what is no move without
//! changing. Each side has a clock of its own, which stands still for the first blocks of each move, because a minority of authors can
//! hold a transaction back that long. Who is late loses *this game* and nothing else: a defender's place can be taken by anybody who
//! stands for the same root ([`Game::take_over`]), and every challenger plays a game of its own.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	element::{Definition, Partial},
	program::{Lengths, Operator, Rule, RULE},
	trace::{self, Proof, Shown, Unproven, LEAF},
	tree::{self, Hash},
	value::{Fault, Value},
};

/// Levels that are shown at once: 256 hashes, 8 KiB.
pub const WIDE: u32 = 8;
/// Terms of a fold that are judged at once.
pub const TERMS: u64 = 2_048;
/// Parts that a longer one is cut into.
pub const PARTS: u64 = 16;
/// Most moves of a game while one defender speaks, of both sides together: of as many tensors, leaves and terms as can be counted.
pub const MOVES: u32 = Game::moves(u32::MAX, u64::MAX, u64::MAX);
/// Most bytes of a proof.
pub const PROOF: usize = 64 * 1_024;
/// Most bytes of a game's state: a rule, a leaf, parts, and small change.
pub const STATE: usize = RULE + LEAF + PARTS as usize * 16 + 256;

/// What a trace is of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Claim {
	/// Root over the program's rules.
	pub program: Hash,
	/// Rules.
	pub tensors: u32,
	/// Lengths of the run.
	pub lengths: Lengths,
	/// Roots of what was to be fed.
	pub inputs: Vec<Hash>,
	/// The trace's root.
	pub trace: Hash,
}

/// A side.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Side {
	/// Stands for the trace.
	Defender,
	/// Says that it is false.
	Challenger,
}

/// How a game ended.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Outcome {
	/// One step of the trace is false: whoever stands for it is wrong.
	Refuted,
	/// The step that the challenger named is right.
	Held,
}

/// A tensor that the dispute is about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Tensor {
	/// Its number.
	pub number: u32,
	/// How it is made.
	pub rule: Rule,
}

/// How far a game has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Stage {
	/// A hash is disputed, so many levels above tensors, or above the leaves of one.
	Hash {
		/// The tensor, once one is found.
		tensor: Option<Tensor>,
		/// Levels below.
		level: u32,
		/// The hash's number in its level.
		n: u64,
		/// It.
		hash: Hash,
		/// Whether those below it have been shown.
		shown: bool,
	},
	/// A leaf's hash is disputed; its bytes are to be shown.
	Leaf {
		/// The tensor.
		tensor: Tensor,
		/// The leaf.
		n: u64,
		/// Its hash.
		hash: Hash,
	},
	/// A leaf is disputed, and the challenger says which of its elements.
	Element {
		/// The tensor.
		tensor: Tensor,
		/// The leaf.
		n: u64,
		/// Its bytes.
		bytes: Vec<u8>,
	},
	/// Terms of an element are disputed.
	Fold {
		/// The tensor.
		tensor: Tensor,
		/// The element.
		element: u64,
		/// Its bytes.
		bytes: Vec<u8>,
		/// The first of the terms, and the one after the last.
		range: (u64, u64),
		/// What they are said to come to; nothing of all terms of an element.
		said: Option<Partial>,
		/// What the parts of them are said to come to, once that is shown.
		parts: Option<Vec<Partial>>,
	},
	/// What was said of the terms of an element does not come to it. Somebody else may say it anew ([`Game::take_over`]).
	Misspoken {
		/// The tensor.
		tensor: Tensor,
		/// The element.
		element: u64,
		/// Its bytes.
		bytes: Vec<u8>,
	},
	/// It is over.
	Over(Outcome),
}

/// What a defender does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Reply {
	/// The hashes below the disputed one, [`WIDE`] levels or as many as there are.
	Hashes(Vec<Hash>),
	/// The bytes of the disputed leaf.
	Leaf(Vec<u8>),
	/// What each part of the disputed terms comes to.
	Parts(Vec<Partial>),
}

/// What a challenger does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Choice {
	/// One of the hashes that were shown is false.
	Below {
		/// Which.
		n: u16,
		/// It.
		hash: Hash,
		/// The hashes beside its way to the one above.
		beside: Vec<Hash>,
		/// If it is a tensor's root: the rule, and the hashes beside it in the program.
		rule: Option<(Rule, Vec<Hash>)>,
	},
	/// An element of the leaf is false. If it is a longer fold than is judged at once, there is no proof yet.
	Element {
		/// Which.
		nth: u8,
		/// What it is made of.
		proof: Option<Proof>,
	},
	/// A part of the terms comes to something else. Where it is short enough, here is what it is of.
	Part {
		/// Which.
		n: u8,
		/// What it is made of.
		proof: Option<Proof>,
	},
	/// The parts are right, and the element does not follow from them.
	Finish(Proof),
}

/// Why a move is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Refused {
	/// The other side moves, or nobody does.
	NotNow,
	/// Another kind of move is due.
	OtherMove,
	/// Hashes, or bytes, that are not below what they are said to be below.
	OtherHash,
	/// There is nothing with this number.
	NoSuch,
	/// The rule is not the program's.
	OtherRule,
	/// Parts do not come to what they are parts of.
	OtherSum,
	/// It is too long.
	TooLong,
	/// The proof shows nothing.
	Unproven(Unproven),
}

impl From<Unproven> for Refused {
	fn from(unproven: Unproven) -> Self {
		Self::Unproven(unproven)
	}
}

/// How much time there is, in blocks.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Pace {
	/// Of each side, for the whole game.
	pub budget: u32,
	/// Of each move, that does not count.
	pub margin: u32,
}

/// One challenger against one trace.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Game {
	/// How far it has come.
	pub stage: Stage,
	/// What the defender has left.
	pub defender: u32,
	/// What the challenger has left.
	pub challenger: u32,
	/// Since when the side that moves has been due.
	pub since: u32,
}

impl Game {
	/// Begins at the root of a trace.
	pub fn new(claim: &Claim, pace: &Pace, now: u32) -> Self {
		let level = tree::depth(claim.tensors.into());
		Self {
			stage: Stage::Hash {
				tensor: None,
				level,
				n: 0,
				hash: claim.trace,
				shown: level == 0,
			},
			defender: pace.budget,
			challenger: pace.budget,
			since: now,
		}
	}

	/// Who moves; nobody if it is over, or somebody has misspoken.
	pub fn turn(&self) -> Option<Side> {
		Some(match &self.stage {
			Stage::Hash { shown, .. } => match shown {
				true => Side::Challenger,
				false => Side::Defender,
			},
			Stage::Leaf { .. } => Side::Defender,
			Stage::Element { .. } => Side::Challenger,
			Stage::Fold { parts, .. } => match parts {
				Some(_) => Side::Challenger,
				None => Side::Defender,
			},
			Stage::Misspoken { .. } | Stage::Over(_) => return None,
		})
	}

	/// The last block in which the side that is due may move; nothing if the game is over.
	pub fn deadline(&self, pace: &Pace) -> Option<u32> {
		let left = match self.turn()? {
			Side::Defender => self.defender,
			Side::Challenger => self.challenger,
		};
		let deadline = self.since.saturating_add(pace.margin);
		Some(deadline.saturating_add(left))
	}

	/// Who is late, if anybody.
	pub fn late(&self, pace: &Pace, now: u32) -> Option<Side> {
		(now > self.deadline(pace)?).then(|| self.turn()).flatten()
	}

	/// Somebody else stands for the trace from here on, with a whole clock. What was said of an element's terms is said anew, and the
	/// challenger has the time for that.
	pub fn take_over(&mut self, claim: &Claim, pace: &Pace, now: u32) {
		self.defender = pace.budget;
		let (tensor, element, bytes) = match &self.stage {
			Stage::Fold {
				tensor,
				element,
				bytes,
				..
			}
			| Stage::Misspoken {
				tensor,
				element,
				bytes,
			} => (tensor, *element, bytes),
			_ => {
				if self.turn() == Some(Side::Defender) {
					self.since = now;
				}
				return;
			}
		};
		// A fold that is played about has terms.
		let terms = Definition::new(&tensor.rule, &claim.lengths);
		let terms = terms.and_then(|definition| definition.terms());
		self.stage = Stage::Fold {
			tensor: tensor.clone(),
			element,
			bytes: bytes.clone(),
			range: (0, terms.ok().flatten().unwrap_or(0)),
			said: None,
			parts: None,
		};
		self.challenger = pace.budget;
		self.since = now;
	}

	/// Takes the time of a move.
	fn moved(&mut self, side: Side, pace: &Pace, now: u32) {
		let taken = now.saturating_sub(self.since).saturating_sub(pace.margin);
		let left = match side {
			Side::Defender => &mut self.defender,
			Side::Challenger => &mut self.challenger,
		};
		*left = left.saturating_sub(taken);
		self.since = now;
	}

	fn due(&self, side: Side, pace: &Pace, now: u32) -> Result<(), Refused> {
		match self.turn() == Some(side) && self.late(pace, now).is_none() {
			true => Ok(()),
			false => Err(Refused::NotNow),
		}
	}

	/// The defender moves. Nothing changes if that is refused.
	pub fn reply(
		&mut self,
		claim: &Claim,
		pace: &Pace,
		now: u32,
		reply: Reply,
	) -> Result<(), Refused> {
		self.due(Side::Defender, pace, now)?;
		match (&mut self.stage, reply) {
			(
				Stage::Hash {
					level, hash, shown, ..
				},
				Reply::Hashes(hashes),
			) => {
				let down = (*level).min(WIDE);
				if hashes.len() != 1 << down || tree::above(&hashes) != *hash {
					return Err(Refused::OtherHash);
				}
				*shown = true;
			}
			(Stage::Leaf { tensor, n, hash }, Reply::Leaf(bytes)) => {
				let signature = &tensor.rule.output;
				let length = trace::leaf_length(signature, &claim.lengths, *n);
				let length = length.map_err(|fault| Refused::Unproven(fault.into()))?;
				if bytes.len() != length || tree::leaf(&bytes) != *hash {
					return Err(Refused::OtherHash);
				}
				self.stage = Stage::Element {
					tensor: tensor.clone(),
					n: *n,
					bytes,
				};
			}
			(
				Stage::Fold {
					tensor,
					range,
					said,
					parts,
					..
				},
				Reply::Parts(new),
			) => {
				let count = cut(*range).count();
				if new.len() != count {
					return Err(Refused::TooLong);
				}
				let definition = Definition::new(&tensor.rule, &claim.lengths);
				let definition = definition.map_err(Unproven::from)?;
				let mut all = new.iter().copied();
				let first = all.next().ok_or(Refused::NoSuch)?;
				let all = all.try_fold(first, |all, part| definition.together(all, part));
				let all = all.map_err(|_| Refused::OtherSum)?;
				if said.is_some_and(|said| said != all) {
					return Err(Refused::OtherSum);
				}
				*parts = Some(new);
			}
			_ => return Err(Refused::OtherMove),
		}
		self.moved(Side::Defender, pace, now);
		Ok(())
	}

	/// The challenger moves. Nothing changes if that is refused.
	pub fn choose(
		&mut self,
		claim: &Claim,
		pace: &Pace,
		now: u32,
		choice: &Choice,
	) -> Result<(), Refused> {
		self.due(Side::Challenger, pace, now)?;
		let next = match (&self.stage, choice) {
			(
				Stage::Hash {
					tensor,
					level,
					n,
					hash,
					..
				},
				Choice::Below {
					n: which,
					hash: below,
					beside,
					rule,
				},
			) => {
				let down = (*level).min(WIDE);
				let which = u64::from(*which);
				if tree::climb(down, &[(which, *below)], beside).as_ref() != Some(hash) {
					return Err(Refused::OtherHash);
				}
				let at = Place {
					level: level - down,
					n: (n << down) | which,
					hash: *below,
				};
				at.next(claim, tensor.as_ref(), rule.as_ref())?
			}
			(Stage::Element { tensor, n, bytes }, Choice::Element { nth, proof }) => {
				let size = tensor.rule.output.kind.size();
				let nth = usize::from(*nth);
				let bytes = bytes.get(nth * size..(nth + 1) * size);
				let bytes = bytes.ok_or(Refused::NoSuch)?;
				let signature = &tensor.rule.output;
				let element = trace::element_at(signature, &claim.lengths, *n, nth);
				let element = element.map_err(Unproven::from)?;
				let definition = Definition::new(&tensor.rule, &claim.lengths);
				let definition = definition.map_err(Unproven::from)?;
				let terms = definition.terms().map_err(Unproven::from)?;
				match (terms.filter(|terms| *terms > TERMS), proof) {
					(Some(terms), None) => Stage::Fold {
						tensor: tensor.clone(),
						element,
						bytes: bytes.to_vec(),
						range: (0, terms),
						said: None,
						parts: None,
					},
					(None, Some(proof)) => {
						let mut shown = shown(claim, tensor, &definition, proof)?;
						let made = definition.element(element, &mut shown);
						Stage::Over(same(made, tensor, bytes)?)
					}
					_ => return Err(Refused::OtherMove),
				}
			}
			(
				Stage::Fold {
					tensor,
					element,
					bytes,
					range,
					parts: Some(parts),
					..
				},
				Choice::Part { n, proof },
			) => {
				let n = usize::from(*n);
				let range = cut(*range).nth(n).ok_or(Refused::NoSuch)?;
				let said = *parts.get(n).ok_or(Refused::NoSuch)?;
				match (range.1 - range.0 > TERMS, proof) {
					(true, None) => Stage::Fold {
						tensor: tensor.clone(),
						element: *element,
						bytes: bytes.clone(),
						range,
						said: Some(said),
						parts: None,
					},
					(false, Some(proof)) => {
						let definition = Definition::new(&tensor.rule, &claim.lengths);
						let definition = definition.map_err(Unproven::from)?;
						let mut shown = shown(claim, tensor, &definition, proof)?;
						let made = definition.part(*element, range, &mut shown);
						let outcome = outcome(made, |made| Ok(made == said))?;
						misspoken(outcome, tensor, *element, bytes)
					}
					_ => return Err(Refused::OtherMove),
				}
			}
			(
				Stage::Fold {
					tensor,
					element,
					bytes,
					said: None,
					parts: Some(parts),
					..
				},
				Choice::Finish(proof),
			) => {
				let definition = Definition::new(&tensor.rule, &claim.lengths);
				let definition = definition.map_err(Unproven::from)?;
				let mut shown = shown(claim, tensor, &definition, proof)?;
				let mut all = parts.iter().copied();
				let first = all.next().ok_or(Refused::NoSuch)?;
				let all = all.try_fold(first, |all, part| definition.together(all, part));
				let made = match all {
					Ok(all) => definition.finish(*element, all, &mut shown),
					Err(fault) => Err(fault.into()),
				};
				misspoken(same(made, tensor, bytes)?, tensor, *element, bytes)
			}
			_ => return Err(Refused::OtherMove),
		};
		self.stage = next;
		self.moved(Side::Challenger, pace, now);
		Ok(())
	}

	/// Moves that a game has at most, of both sides together: of so many tensors, of which the largest has so many leaves, and the
	/// longest fold so many terms.
	pub const fn moves(tensors: u32, leaves: u64, terms: u64) -> u32 {
		let mut left = terms;
		let mut folds = 0;
		while left > TERMS {
			left = left.div_ceil(PARTS);
			folds += 1;
		}
		let (above, below) = (tree::depth(tensors as u64), tree::depth(leaves));
		// A leaf and an element are a round; the last part comes with its proof.
		2 * (above.div_ceil(WIDE) + below.div_ceil(WIDE) + 1 + folds)
	}

	/// Blocks that a game of so many moves takes at most, while nobody takes over.
	pub const fn longest(moves: u32, pace: &Pace) -> u32 {
		let margins = moves.saturating_mul(pace.margin.saturating_add(1));
		margins.saturating_add(pace.budget.saturating_mul(2))
	}
}

/// A hash that a challenger has named.
struct Place {
	level: u32,
	n: u64,
	hash: Hash,
}

impl Place {
	fn next(
		self,
		claim: &Claim,
		tensor: Option<&Tensor>,
		rule: Option<&(Rule, Vec<Hash>)>,
	) -> Result<Stage, Refused> {
		let count = match tensor {
			None => claim.tensors.into(),
			Some(tensor) => {
				let leaves = trace::leaves(&tensor.rule.output, &claim.lengths);
				leaves.map_err(Unproven::from)?
			}
		};
		// Whatever is said of what is not there counts for nothing.
		if self
			.n
			.checked_shl(self.level)
			.is_none_or(|first| first >= count)
		{
			return Err(Refused::NoSuch);
		}
		match (tensor, rule) {
			(None, Some((rule, beside))) if self.level == 0 => {
				if rule.encoded_size() > RULE {
					return Err(Refused::TooLong);
				}
				let one = [(self.n, rule.hash())];
				let root = tree::climb(tree::depth(count), &one, beside);
				if root != Some(claim.program) {
					return Err(Refused::OtherRule);
				}
				let tensor = Tensor {
					number: self.n as u32,
					rule: rule.clone(),
				};
				let outcome = |right: bool| match right {
					true => Outcome::Held,
					false => Outcome::Refuted,
				};
				match &rule.operator {
					Operator::Constant(root) => Ok(Stage::Over(outcome(self.hash == *root))),
					Operator::Input(n) => {
						let root = claim.inputs.get(usize::from(*n));
						let root = root.ok_or(Refused::OtherRule)?;
						Ok(Stage::Over(outcome(self.hash == *root)))
					}
					_ => {
						let leaves = trace::leaves(&rule.output, &claim.lengths);
						let leaves = leaves.map_err(Unproven::from)?;
						// Of no elements none is false.
						if leaves == 0 {
							return Ok(Stage::Over(Outcome::Held));
						}
						let level = tree::depth(leaves);
						Ok(Place {
							level,
							n: 0,
							..self
						}
						.within(tensor))
					}
				}
			}
			(None, None) if self.level > 0 => Ok(Stage::Hash {
				tensor: None,
				level: self.level,
				n: self.n,
				hash: self.hash,
				shown: false,
			}),
			(Some(tensor), None) => Ok(self.within(tensor.clone())),
			_ => Err(Refused::OtherMove),
		}
	}

	fn within(self, tensor: Tensor) -> Stage {
		match self.level {
			0 => Stage::Leaf {
				tensor,
				n: self.n,
				hash: self.hash,
			},
			level => Stage::Hash {
				tensor: Some(tensor),
				level,
				n: self.n,
				hash: self.hash,
				shown: false,
			},
		}
	}
}

/// The parts of a range of terms.
pub fn cut((from, to): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
	let length = (to - from).div_ceil(PARTS).max(1);
	let parts = (to - from).div_ceil(length);
	(0..parts).map(move |n| {
		let first = from + n * length;
		(first, to.min(first + length))
	})
}

fn shown<'p>(
	claim: &Claim,
	tensor: &'p Tensor,
	definition: &Definition<'p>,
	proof: &'p Proof,
) -> Result<Shown<'p>, Refused> {
	if proof.encoded_size() > PROOF {
		return Err(Refused::TooLong);
	}
	let of = (&claim.lengths, claim.tensors, &claim.trace);
	Ok(Shown::new(proof, definition, &tensor.rule, of)?)
}

/// What follows from a step that was made again. Where there is no number, by what the defender has committed to, its trace is none of
/// the class.
fn outcome<T>(
	made: Result<T, Unproven>,
	right: impl FnOnce(T) -> Result<bool, Fault>,
) -> Result<Outcome, Refused> {
	let right = match made {
		Ok(made) => right(made),
		Err(Unproven::Fault(fault)) => Err(fault),
		Err(unproven) => return Err(unproven.into()),
	};
	match right {
		Ok(true) => Ok(Outcome::Held),
		// A rule that does not fit says nothing of a trace.
		Err(Fault::OtherRule) => Ok(Outcome::Held),
		_ => Ok(Outcome::Refuted),
	}
}

/// What follows from a step that hangs on what the defender has said of parts.
fn misspoken(outcome: Outcome, tensor: &Tensor, element: u64, bytes: &[u8]) -> Stage {
	match outcome {
		Outcome::Held => Stage::Over(Outcome::Held),
		Outcome::Refuted => Stage::Misspoken {
			tensor: tensor.clone(),
			element,
			bytes: bytes.to_vec(),
		},
	}
}

fn same(made: Result<Value, Unproven>, tensor: &Tensor, said: &[u8]) -> Result<Outcome, Refused> {
	outcome(made, |made| {
		let mut bytes = Vec::with_capacity(said.len());
		made.write(tensor.rule.output.kind, &mut bytes)?;
		Ok(bytes == said)
	})
}
