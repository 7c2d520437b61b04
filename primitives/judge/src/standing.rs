//! Which traces of an answer stand, and what follows.
//!
//! An answer is a token at a place of a text. Whoever disputes it, and whoever stands for it, commits to a trace in which that place says
//! something else, or the same. Every trace can be doubted by anybody, in games of their own ([`crate::narrowing`]); what is shown to have
//! a false step has fallen. When there is nothing left to play, the answer is overturned if and only if **a trace stands that says
//! something else, and none that says the same**.
//!
//! | somebody tries | and |
//! |---|---|
//! | to let a right answer fall by being late, or by misspeaking, for its trace | loses a bond; the next in line goes on, and anybody may join the line: all who have computed the text have that trace |
//! | to let a right answer fall by standing for it with a false trace | that trace falls, and the right one stands beside it |
//! | to have a false answer overturned by nobody, being silent about it | the trace that says something else stands alone: silence keeps nothing |
//! | to close the matter with a sham challenge, or to wait | loses a bond; other challengers play games of their own, and whenever a trace is stood for or falls, there is time again to stand and to doubt |
//! | to take all places | pays twice as much for each place as for the one before |
//!
//! So of all parties one that is honest is enough, on either side. Nothing here is decided by who was late: a trace whose line is empty
//! for [`Terms::grace`] blocks lapses, which is no more than that nobody among all who could computes it.
//!
//! **It ends** ([`Terms::longest`]), whatever anybody does. Traces are taken for [`Terms::most`] blocks and doubted for a window more, however
//! often something happens in between; from then on there are as many games as there are. Each time of whoever speaks for a trace is
//! as long as clocks make it, and each line is [`LINE`] long. So nobody has to be cut off: whoever moves in time, and says who is late, has
//! seen all of its games end before. What is open after that is nobody's matter, and whoever was to move has lost it
//! ([`Dispute::cut`]).
//!
//! Bonds and games are kept by whoever keeps this. It is told how games end, and tells who loses.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::{
	narrowing::{Claim, Game, Pace, Refused, Side, MOVES},
	program::Rule,
	trace::{self, LEAF},
	tree::{self, Hash},
	value::{Fault, Value},
};

/// Most traces of one side, in all: with the last the price is as high as in a line, so that taking all places of a side costs no less.
pub const STANDS: usize = 16;
/// Most who stand for one trace, in all.
pub const LINE: usize = 16;
/// Most games about one trace, in all.
pub const GAMES: u8 = 16;

/// What shows what a trace says at a place: the last tensor's rule, and its leaf with the place's element.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Opening {
	/// The rule.
	pub rule: Rule,
	/// Hashes beside it in the program.
	pub program: Vec<Hash>,
	/// The leaf.
	pub leaf: Vec<u8>,
	/// Hashes beside it in its tensor's tree.
	pub beside: Vec<Hash>,
	/// Hashes beside the tensor's root in the trace.
	pub above: Vec<Hash>,
}

impl Opening {
	/// The token that a trace says at a place, which is an element of the program's last tensor.
	pub fn says(&self, claim: &Claim, place: u64) -> Result<i64, Refused> {
		let wrong = |fault: Fault| Refused::Unproven(fault.into());
		let last = u64::from(claim.tensors)
			.checked_sub(1)
			.ok_or(Refused::NoSuch)?;
		let depth = tree::depth(claim.tensors.into());
		let rule = tree::climb(depth, &[(last, self.rule.hash())], &self.program);
		if rule != Some(claim.program) {
			return Err(Refused::OtherRule);
		}
		let (signature, lengths) = (&self.rule.output, &claim.lengths);
		let dims = signature.dims(lengths).map_err(wrong)?;
		if place >= dims.count() {
			return Err(Refused::NoSuch);
		}
		let position = dims.position(signature.along, place).map_err(wrong)?;
		let within = (LEAF / signature.kind.size()) as u64;
		let n = position / within;
		let length = trace::leaf_length(signature, lengths, n).map_err(wrong)?;
		let leaves = trace::leaves(signature, lengths).map_err(wrong)?;
		let leaf = [(n, tree::leaf(&self.leaf))];
		let tensor = tree::climb(tree::depth(leaves), &leaf, &self.beside);
		let tensor = tensor.filter(|_| self.leaf.len() == length);
		let tensor = [(last, tensor.ok_or(Refused::OtherHash)?)];
		if tree::climb(depth, &tensor, &self.above) != Some(claim.trace) {
			return Err(Refused::OtherHash);
		}
		let at = (position % within) as usize * signature.kind.size();
		let value: Value = signature.kind.read(&self.leaf[at..]).map_err(wrong)?;
		value.whole().map_err(wrong)
	}
}

/// How long things take, in blocks.
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
pub struct Terms {
	/// Time to stand and to doubt, after the dispute is opened and after whatever changes it.
	pub window: u32,
	/// Time for somebody to join an empty line.
	pub grace: u32,
	/// Time in which traces are taken at all, from the first block on, whatever changes.
	pub most: u32,
}

impl Terms {
	/// Blocks after its first in which a dispute is over at the latest, if whoever is late is said to be so as soon as that can be in a
	/// block.
	pub const fn longest(&self, pace: &Pace) -> u32 {
		// Whoever speaks; the one who says that it was late; an empty line; the one who says that it is.
		let turn = Game::longest(MOVES, pace)
			.saturating_add(pace.margin)
			.saturating_add(self.grace)
			.saturating_add(pace.margin);
		let games = turn.saturating_mul(LINE as u32);
		let taken = self.most.saturating_add(self.window);
		taken.saturating_add(games)
	}
}

/// How a trace is.
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
pub enum State {
	/// It stands.
	Standing,
	/// A step of it is false.
	Refuted,
	/// Nobody answers for it.
	Lapsed,
}

/// A trace that somebody stands for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Stand<Who> {
	/// Its root.
	pub trace: Hash,
	/// Whether it says what the answer says.
	pub says_so: bool,
	/// How it is.
	pub state: State,
	/// Who answers for it; the first is who speaks.
	pub line: Vec<Who>,
	/// How many have stood for it, in all.
	pub joined: u8,
	/// How many have doubted it, in all.
	pub doubted: u8,
	/// Games about it that are not over.
	pub open: u8,
	/// Since when its line has been empty.
	pub vacant: Option<u32>,
}

/// A dispute about one token.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Dispute<Who> {
	/// All traces that were stood for.
	pub stands: Vec<Stand<Who>>,
	/// The first block.
	pub opened: u32,
	/// The last block in which something new may come.
	pub closes: u32,
}

/// Why something is not taken.
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
pub enum Unfit {
	/// It is too late.
	Closed,
	/// There is no such trace, or it has fallen.
	NoSuch,
	/// There are as many as there may be.
	Full,
	/// They stand for this trace.
	Own,
	/// They stand for this trace already.
	Again,
}

/// How a game ended, for a trace.
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
pub enum End {
	/// A step is false.
	Refuted,
	/// The step that was named is right, or the challenger was late.
	Held,
}

/// What a dispute comes to.
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
pub enum Verdict {
	/// The answer stays as it was found.
	Stays,
	/// It is false.
	Overturned,
}

/// Times the first's bond that a place costs, of which so many were taken before.
pub const fn price(taken: u8) -> u32 {
	match taken {
		0..=30 => 1 << taken,
		_ => u32::MAX,
	}
}

impl<Who: Clone + PartialEq> Dispute<Who> {
	/// Opens one.
	pub fn new(terms: &Terms, now: u32) -> Self {
		Self {
			stands: Vec::new(),
			opened: now,
			closes: now.saturating_add(terms.window),
		}
	}

	fn stand_mut(&mut self, n: usize) -> Result<&mut Stand<Who>, Unfit> {
		let stand = self.stands.get_mut(n).ok_or(Unfit::NoSuch)?;
		match stand.state {
			State::Standing => Ok(stand),
			_ => Err(Unfit::NoSuch),
		}
	}

	/// There is time again, but not beyond the time in which a trace that came last can be doubted.
	fn extend(&mut self, terms: &Terms, now: u32) {
		let last = self
			.opened
			.saturating_add(terms.most.saturating_add(terms.window));
		let closes = now.saturating_add(terms.window).min(last);
		self.closes = self.closes.max(closes);
	}

	/// Somebody stands for a trace, of which it was shown whether it says what the answer says: for a new one, or with those who stand for
	/// it. Returns the trace's number, and how many times a bond it costs.
	pub fn stand(
		&mut self,
		who: Who,
		trace: Hash,
		says_so: bool,
		terms: &Terms,
		now: u32,
	) -> Result<(usize, u32), Unfit> {
		let found = self.stands.iter().position(|stand| stand.trace == trace);
		if let Some(n) = found {
			let late = now > self.closes;
			let stand = self.stand_mut(n)?;
			// Whoever takes an empty place lets games go on; else there is nothing to add once it is closed.
			if late && stand.vacant.is_none() {
				return Err(Unfit::Closed);
			}
			if stand.line.contains(&who) {
				return Err(Unfit::Again);
			}
			if usize::from(stand.joined) >= LINE {
				return Err(Unfit::Full);
			}
			let price = price(stand.joined);
			stand.line.push(who);
			stand.joined += 1;
			stand.vacant = None;
			return Ok((n, price));
		}
		if now > self.closes || now > self.opened.saturating_add(terms.most) {
			return Err(Unfit::Closed);
		}
		let same = self.stands.iter().filter(|s| s.says_so == says_so).count();
		if same >= STANDS {
			return Err(Unfit::Full);
		}
		self.stands.push(Stand {
			trace,
			says_so,
			state: State::Standing,
			line: Vec::from([who]),
			joined: 1,
			doubted: 0,
			open: 0,
			vacant: None,
		});
		self.extend(terms, now);
		Ok((self.stands.len() - 1, price(same as u8)))
	}

	/// Somebody doubts a trace. Returns how many times a bond that costs; its game begins.
	pub fn doubt(&mut self, who: &Who, n: usize, now: u32) -> Result<u32, Unfit> {
		if now > self.closes {
			return Err(Unfit::Closed);
		}
		let stand = self.stand_mut(n)?;
		if stand.line.contains(who) {
			return Err(Unfit::Own);
		}
		if stand.doubted >= GAMES {
			return Err(Unfit::Full);
		}
		let price = price(stand.doubted);
		stand.doubted += 1;
		stand.open += 1;
		Ok(price)
	}

	/// Who speaks for a trace.
	pub fn speaker(&self, n: usize) -> Option<&Who> {
		self.stands.get(n)?.line.first()
	}

	/// Who speaks for a trace was late, or has misspoken. Returns who that was, and loses its bond.
	pub fn silence(&mut self, n: usize, now: u32) -> Result<Who, Unfit> {
		let stand = self.stand_mut(n)?;
		if stand.line.is_empty() {
			return Err(Unfit::NoSuch);
		}
		let who = stand.line.remove(0);
		if stand.line.is_empty() {
			stand.vacant = Some(now);
		}
		Ok(who)
	}

	/// A game is over. Returns all who lose their bonds for standing for a trace that is false.
	pub fn ended(
		&mut self,
		n: usize,
		end: End,
		terms: &Terms,
		now: u32,
	) -> Result<Vec<Who>, Unfit> {
		let stand = self.stand_mut(n)?;
		stand.open = stand.open.saturating_sub(1);
		let lost = match end {
			End::Refuted => {
				stand.state = State::Refuted;
				// Other games about it have found what they were looking for.
				stand.open = 0;
				core::mem::take(&mut stand.line)
			}
			End::Held => Vec::new(),
		};
		self.extend(terms, now);
		Ok(lost)
	}

	/// A trace whose line has been empty too long falls. Whether one did.
	pub fn lapse(&mut self, n: usize, terms: &Terms, now: u32) -> bool {
		let Ok(stand) = self.stand_mut(n) else {
			return false;
		};
		let long = |since: u32| now.saturating_sub(since) > terms.grace;
		if !stand.vacant.is_some_and(long) {
			return false;
		}
		stand.state = State::Lapsed;
		stand.open = 0;
		self.extend(terms, now);
		true
	}

	/// Whether a trace has fallen, or there is nothing open about it.
	pub fn is_quiet(&self, n: usize) -> bool {
		let quiet = |stand: &Stand<Who>| {
			stand.state != State::Standing || (stand.open == 0 && stand.vacant.is_none())
		};
		self.stands.get(n).is_none_or(quiet)
	}

	/// The time is over, and these are the sides that were to move in the games about a trace; nobody where somebody has misspoken. If one of
	/// them was its defender, or nobody speaks for it, it falls. Returns who spoke, and loses a bond, if it fell.
	pub fn cut(
		&mut self,
		n: usize,
		turns: impl IntoIterator<Item = Option<Side>>,
	) -> Result<Option<Who>, Unfit> {
		let stand = self.stand_mut(n)?;
		stand.open = 0;
		let silent = turns.into_iter().any(|turn| turn != Some(Side::Challenger));
		if !silent && stand.vacant.is_none() {
			return Ok(None);
		}
		stand.state = State::Lapsed;
		let speaks = !stand.line.is_empty();
		Ok(speaks.then(|| stand.line.remove(0)))
	}

	/// What it comes to; nothing while there is something to play, or time to begin.
	pub fn verdict(&self, now: u32) -> Option<Verdict> {
		let standing = || {
			let all = self.stands.iter();
			all.filter(|stand| stand.state == State::Standing)
		};
		if now <= self.closes || !(0..self.stands.len()).all(|n| self.is_quiet(n)) {
			return None;
		}
		let otherwise = standing().any(|stand| !stand.says_so);
		let so = standing().any(|stand| stand.says_so);
		Some(match otherwise && !so {
			true => Verdict::Overturned,
			false => Verdict::Stays,
		})
	}
}
