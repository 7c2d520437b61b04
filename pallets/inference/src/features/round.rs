//! The measurement round: members, a challenge, commitments, reveals.
//!
//! It knows neither requests nor models nor what is measured. A committee is a round of a few members; a jury and an audit are
//! rounds of more.
//!
//! ```text
//! Commit ── all committed ──▶ Reveal ── all revealed ──▶ complete
//!    │ time is up: `absent`      │ time is up: `absent`
//!    └▶ members who did not commit are replaced; whoever replaces them has seen no evidence yet
//! ```
//!
//! Nobody reveals before everybody has committed, so that no evidence can be copied into a commitment.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::List;
use polkadot_sdk::{sp_core::H256, sp_staking::SessionIndex};
use scale_info::TypeInfo;

use crate::types::MAX_MEMBERS;

/// What a member has done.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Progress<Evidence> {
	/// Nothing yet: its commitment is due.
	Measuring,
	/// Bound to its evidence.
	Committed(H256),
	/// Its evidence is on chain.
	Revealed(Evidence),
}

/// A member of a round.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Member<AccountId, Evidence> {
	/// Who.
	pub who: AccountId,
	/// Session in which it was drawn: what it says is a deed of this session.
	pub session: SessionIndex,
	/// What it has done.
	pub progress: Progress<Evidence>,
}

/// Which statements a round takes.
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
pub enum Phase {
	/// Commitments.
	Commit,
	/// Evidence.
	Reveal,
}

/// Why a round does not take a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundError {
	/// Not a member.
	NotMember,
	/// Commitments are over, or reveals have not begun.
	WrongPhase,
	/// The member has said so already.
	AlreadyDone,
	/// The evidence is not what was committed to.
	CommitmentMismatch,
}

/// A measurement by several members.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Round<AccountId, BlockNumber, Evidence> {
	/// Seed of what is asked.
	pub challenge: H256,
	/// Members that the round needs; it is short of some while replacements wait to be drawn.
	pub size: u32,
	/// Members, in the order in which they were drawn.
	pub members: List<Member<AccountId, Evidence>, MAX_MEMBERS>,
	/// Which statements it takes.
	pub phase: Phase,
	/// Last block of the phase.
	pub deadline: BlockNumber,
	/// Whether the reveal was given more time already, which happens once.
	pub extended: bool,
}

impl<AccountId: PartialEq + Clone, BlockNumber: Copy, Evidence>
	Round<AccountId, BlockNumber, Evidence>
{
	/// A round of these members, drawn in this session. Takes the first [`MAX_MEMBERS`] of them.
	pub fn new(
		challenge: H256,
		session: SessionIndex,
		members: impl IntoIterator<Item = AccountId>,
		deadline: BlockNumber,
	) -> Self {
		let members: Vec<_> = members
			.into_iter()
			.take(MAX_MEMBERS as usize)
			.map(|who| Member {
				who,
				session,
				progress: Progress::Measuring,
			})
			.collect();
		Self {
			challenge,
			size: members.len() as u32,
			members: List::truncate_from(members),
			phase: Phase::Commit,
			deadline,
			extended: false,
		}
	}

	fn member_mut(
		&mut self,
		who: &AccountId,
	) -> Result<&mut Member<AccountId, Evidence>, RoundError> {
		self.members
			.iter_mut()
			.find(|m| m.who == *who)
			.ok_or(RoundError::NotMember)
	}

	/// The member, if it is one.
	pub fn member(&self, who: &AccountId) -> Option<&Member<AccountId, Evidence>> {
		self.members.iter().find(|m| m.who == *who)
	}

	/// Whether a commitment of this member is due.
	pub fn may_commit(&self, who: &AccountId) -> Result<(), RoundError> {
		let member = self.member(who).ok_or(RoundError::NotMember)?;
		if !matches!(member.progress, Progress::Measuring) {
			return Err(RoundError::AlreadyDone);
		}
		if self.phase != Phase::Commit {
			return Err(RoundError::WrongPhase);
		}
		Ok(())
	}

	/// Takes a commitment. Whether this was the last one that was due, and `reveal_deadline` holds now.
	pub fn commit(
		&mut self,
		who: &AccountId,
		commitment: H256,
		reveal_deadline: BlockNumber,
	) -> Result<bool, RoundError> {
		self.may_commit(who)?;
		self.member_mut(who)?.progress = Progress::Committed(commitment);
		Ok(self.close_commitments(reveal_deadline))
	}

	/// Begins the reveal if every member that the round needs has committed, and there is one.
	pub fn close_commitments(&mut self, reveal_deadline: BlockNumber) -> bool {
		let committed = |m: &Member<_, _>| matches!(m.progress, Progress::Committed(_));
		let all = self.size > 0
			&& self.members.len() as u32 == self.size
			&& self.members.iter().all(committed);
		if all && self.phase == Phase::Commit {
			self.phase = Phase::Reveal;
			self.deadline = reveal_deadline;
			return true;
		}
		false
	}

	/// Whether evidence with this commitment is due from this member.
	pub fn may_reveal(&self, who: &AccountId, commitment: H256) -> Result<(), RoundError> {
		let member = self.member(who).ok_or(RoundError::NotMember)?;
		match member.progress {
			Progress::Revealed(_) => Err(RoundError::AlreadyDone),
			_ if self.phase != Phase::Reveal => Err(RoundError::WrongPhase),
			Progress::Committed(c) if c == commitment => Ok(()),
			Progress::Committed(_) | Progress::Measuring => Err(RoundError::CommitmentMismatch),
		}
	}

	/// Takes evidence, whose commitment the caller has computed.
	pub fn reveal(
		&mut self,
		who: &AccountId,
		evidence: Evidence,
		commitment: H256,
	) -> Result<(), RoundError> {
		self.may_reveal(who, commitment)?;
		self.member_mut(who)?.progress = Progress::Revealed(evidence);
		Ok(())
	}

	/// Everybody's evidence in the order of the members, once all have revealed.
	pub fn complete(&self) -> Option<Vec<(&AccountId, &Evidence)>> {
		if self.members.len() as u32 != self.size {
			return None;
		}
		self.members
			.iter()
			.map(|m| match &m.progress {
				Progress::Revealed(e) => Some((&m.who, e)),
				_ => None,
			})
			.collect()
	}

	/// Members who have not done what the phase asks for.
	pub fn absent(&self) -> Vec<AccountId> {
		self.members
			.iter()
			.filter(|m| match self.phase {
				Phase::Commit => matches!(m.progress, Progress::Measuring),
				Phase::Reveal => !matches!(m.progress, Progress::Revealed(_)),
			})
			.map(|m| m.who.clone())
			.collect()
	}

	/// Goes on without the members who have not done what the phase asks for, and gives them. In the commit phase this begins
	/// the reveal.
	pub fn leave_out_absent(&mut self) -> Vec<AccountId> {
		let absent = self.absent();
		self.members.retain(|m| !absent.contains(&m.who));
		self.size = self.members.len() as u32;
		self.phase = Phase::Reveal;
		absent
	}

	/// Goes on without a member, whatever it has done: the round needs one less.
	pub fn leave_out(&mut self, who: &AccountId) {
		let before = self.members.len();
		self.members.retain(|m| m.who != *who);
		self.size = self
			.size
			.saturating_sub((before - self.members.len()) as u32);
	}

	/// Goes on with the members that it has.
	pub fn make_do(&mut self) {
		self.size = self.members.len() as u32;
	}

	/// Evidence that was shown so far, in the order of the members.
	pub fn revealed(&self) -> impl Iterator<Item = (&AccountId, &Evidence)> {
		self.members.iter().filter_map(|m| match &m.progress {
			Progress::Revealed(e) => Some((&m.who, e)),
			_ => None,
		})
	}

	/// Members that the round is short of.
	pub fn missing(&self) -> u32 {
		self.size.saturating_sub(self.members.len() as u32)
	}

	/// Takes a member out of a round that is still taking commitments.
	pub fn remove(&mut self, who: &AccountId) {
		if self.phase == Phase::Commit {
			self.members.retain(|m| m.who != *who);
		}
	}

	/// Adds members, drawn in this session, in place of those who were removed, and sets a new deadline.
	pub fn fill(
		&mut self,
		session: SessionIndex,
		who: impl IntoIterator<Item = AccountId>,
		deadline: BlockNumber,
	) {
		for who in who {
			if self.missing() > 0 && self.member(&who).is_none() {
				// `size` is at most the bound, and the round is short of members.
				let _ = self.members.try_push(Member {
					who,
					session,
					progress: Progress::Measuring,
				});
			}
		}
		self.deadline = deadline;
	}
}
