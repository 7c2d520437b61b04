//! Policies: what each member of a party does, decided from what it can see.
//!
//! A policy is a table: a row for every situation in which a member has to decide, and in it the number of one of the choices that
//! it has there. A table can be mutated cell by cell, and read aloud row by row.

use std::{
	fmt::{Display, Formatter},
	str::FromStr,
};

use rand_chacha::{rand_core::RngCore, ChaCha8Rng};

/// A choice: its name, and the words that say it.
type Choice = (&'static str, &'static str);

/// Declares the choices of one kind of decision, with the words that say them.
macro_rules! choices {
	($(#[$doc:meta])* $name:ident { $($choice:ident = $words:literal,)* }) => {
		$(#[$doc])*
		#[derive(Clone, Copy, Debug, PartialEq, Eq)]
		pub enum $name {
			$(#[doc = $words] $choice,)*
		}

		impl From<$name> for u8 {
			fn from(choice: $name) -> Self {
				choice as Self
			}
		}

		impl $name {
			const ALL: &'static [Self] = &[$(Self::$choice,)*];
			const CHOICES: &'static [Choice] = &[$((stringify!($choice), $words),)*];
		}
	};
}

choices! {
	/// What an executor posts.
	Answer {
		Right = "answers truly",
		Wrong = "answers falsely",
		Unanswerable = "claims that the input cannot be answered",
		Silent = "does not answer",
	}
}
choices! {
	/// When an executor posts what is false.
	Timing {
		AtOnce = "at once",
		BeforeOwnSlot = "in a block before one of the party's own",
		AtDeadline = "just before the deadline",
	}
}
choices! {
	/// What a member of a round commits to.
	Member {
		Honest = "measures honestly",
		Vouch = "measures, and finds the answer right whatever it is",
		Slander = "measures, and finds the answer wrong whatever it is",
		Invent = "invents evidence, the same as its friends",
		Copy = "copies evidence that others have shown",
		Silent = "is silent",
	}
}
choices! {
	/// Whether a member that has committed shows its evidence.
	Reveal {
		Show = "shows it",
		Wait = "waits for the others, and shows it at the deadline",
		Withhold = "withholds it",
	}
}
choices! {
	/// Whether the party appeals.
	Appeal {
		Never = "lets it stand",
		Always = "appeals",
	}
}
choices! {
	/// When members serve the models of others.
	Serve {
		Always = "serve all the time",
		JustInTime = "serve only while a request of somebody else waits for a draw",
		Never = "do not serve",
	}
}
choices! {
	/// What a member does that is not drawn any more because of what it did.
	Return {
		AtOnce = "serves again at once",
		Never = "stays away",
	}
}
choices! {
	/// Whether members leave the validators.
	Leave {
		Stay = "stay",
		Beforehand = "chill in the last but one session of the era, before they do anything",
		AfterLie = "chill after their first lie",
	}
}
choices! {
	/// A model of the party's own.
	OwnModel {
		None = "has none",
		SmallTip = "has one, and asks it with a tip of 10 coins",
		LargeTip = "has one, and asks it with a tip of 1,000,000 coins",
	}
}
choices! {
	/// What the party asks of the models of others.
	Flood {
		None = "nothing",
		Load = "plain requests, shortly before others ask",
		Churn = "requests that it takes back at once",
		Impossible = "as many requests as the chain takes, each checked by more verifiers than there are",
	}
}
choices! {
	/// What the party does with its own slots.
	Author {
		Include = "writes blocks as everybody does",
		HoldBack = "leaves a slot empty where its block would draw strangers to check a lie",
		Censor = "leaves the reports of others out of its blocks",
		CensorOne = "leaves the reports of one stranger, always the same, out of its blocks",
	}
}

choices! {
	/// What a member does that is to contribute to a toss for verifiers.
	Contribute {
		Always = "contributes",
		Likes = "contributes, unless strangers would be drawn to check a lie",
		Never = "does not contribute",
	}
}

/// A decision that a member has to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)]
pub enum Point {
	AnswerSampled,
	AnswerSampledBlamed,
	AnswerSampledLeaving,
	AnswerChecked,
	AnswerCheckedBlamed,
	AnswerCheckedLeaving,
	AnswerTensor,
	AnswerOwn,
	When,
	ExecutorAmongFriends,
	ExecutorWatched,
	ExecutorTrue,
	VerifyFriendAlone,
	VerifyFriendWatched,
	VerifyFriendTrue,
	VerifyStranger,
	VerifyStrangerUnwatched,
	JudgeFriendStrong,
	JudgeFriendWeak,
	JudgeStranger,
	JudgeOwn,
	ShowExecutor,
	ShowExecutorExposed,
	ShowVerifier,
	ShowVerifierExposed,
	ShowJuror,
	ShowTrue,
	AppealStranger,
	AppealFriend,
	Serve,
	Return,
	Leave,
	OwnModel,
	Flood,
	Author,
	Toss,
}

use Point::*;

/// Every decision with the situation in words and the choices.
const POINTS: &[(Point, &str, &[Choice])] = &[
	(AnswerSampled, "as executor of a request that is checked by chance,", Answer::CHOICES),
	(
		AnswerSampledBlamed,
		"as executor of a request that is checked by chance, when it was blamed in this era already,",
		Answer::CHOICES,
	),
	(
		AnswerSampledLeaving,
		"as executor of a request that is checked by chance, in its last session before it leaves,",
		Answer::CHOICES,
	),
	(AnswerChecked, "as executor of a request with a committee,", Answer::CHOICES),
	(
		AnswerCheckedBlamed,
		"as executor of a request with a committee, when it was blamed in this era already,",
		Answer::CHOICES,
	),
	(
		AnswerCheckedLeaving,
		"as executor of a request with a committee, in its last session before it leaves,",
		Answer::CHOICES,
	),
	(AnswerTensor, "as executor of a tensor, to which it is bound before it shows it,", Answer::CHOICES),
	(AnswerOwn, "as executor of the party's own model,", Answer::CHOICES),
	(When, "what is false is posted", Timing::CHOICES),
	(
		ExecutorAmongFriends,
		"in the round over its own lie, with friends only as verifiers,",
		Member::CHOICES,
	),
	(
		ExecutorWatched,
		"in the round over its own lie, with a stranger among the verifiers,",
		Member::CHOICES,
	),
	(ExecutorTrue, "in the round over its own true answer,", Member::CHOICES),
	(
		VerifyFriendAlone,
		"as verifier of a friend's lie, with friends only,",
		Member::CHOICES,
	),
	(
		VerifyFriendWatched,
		"as verifier of a friend's lie, with a stranger beside it,",
		Member::CHOICES,
	),
	(VerifyFriendTrue, "as verifier of a friend's true answer,", Member::CHOICES),
	(
		VerifyStranger,
		"as verifier of a stranger's answer, with a stranger beside it,",
		Member::CHOICES,
	),
	(
		VerifyStrangerUnwatched,
		"as verifier of a stranger's answer, with friends beside it only,",
		Member::CHOICES,
	),
	(
		JudgeFriendStrong,
		"as juror over a friend, in a jury of which the party is the half or more,",
		Member::CHOICES,
	),
	(
		JudgeFriendWeak,
		"as juror over a friend, in a jury of which the party is less than the half,",
		Member::CHOICES,
	),
	(JudgeStranger, "as juror over a stranger,", Member::CHOICES),
	(JudgeOwn, "as juror over an answer of the party's own model,", Member::CHOICES),
	(ShowExecutor, "with evidence on its own lie, while nobody has said that it is one,", Reveal::CHOICES),
	(
		ShowExecutorExposed,
		"with evidence on its own lie, when a stranger has called it one,",
		Reveal::CHOICES,
	),
	(
		ShowVerifier,
		"with evidence on a friend's lie, while nobody has said that it is one,",
		Reveal::CHOICES,
	),
	(
		ShowVerifierExposed,
		"with evidence on a friend's lie, when a stranger has called it one,",
		Reveal::CHOICES,
	),
	(ShowJuror, "with evidence as juror,", Reveal::CHOICES),
	(ShowTrue, "with evidence on a true answer,", Reveal::CHOICES),
	(AppealStranger, "against a stranger's true answer that was not checked, it", Appeal::CHOICES),
	(AppealFriend, "against a friend's lie that was not checked, it", Appeal::CHOICES),
	(Serve, "its members", Serve::CHOICES),
	(Return, "a member that is not drawn any more", Return::CHOICES),
	(Leave, "its members", Leave::CHOICES),
	(OwnModel, "of models, it", OwnModel::CHOICES),
	(Flood, "of the models of others it asks", Flood::CHOICES),
	(Author, "with its own slots it", Author::CHOICES),
	(Toss, "to the toss for verifiers it", Contribute::CHOICES),
];

/// Number of decisions.
pub const DECISIONS: usize = POINTS.len();

/// A whole policy; the default is honest work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy([u8; DECISIONS]);

impl Default for Policy {
	fn default() -> Self {
		Self([0; DECISIONS])
	}
}

/// The choices of a decision that nobody may take: what a search is told not to use again.
#[derive(Clone, Debug, Default)]
pub struct Forbidden(Vec<(usize, u8)>);

impl Forbidden {
	/// Forbids a choice. Honest work cannot be forbidden.
	pub fn forbid(&mut self, decision: usize, choice: u8) {
		if choice > 0 {
			self.0.push((decision, choice));
		}
	}

	/// Forbids whatever is not honest in a policy.
	pub fn of(policy: &Policy) -> Self {
		let mut forbidden = Self::default();
		for decision in policy.deviations() {
			forbidden.forbid(decision, policy.choice(decision));
		}
		forbidden
	}

	/// Whether a choice is open.
	pub fn allows(&self, decision: usize, choice: u8) -> bool {
		!self.0.contains(&(decision, choice))
	}

	/// What is forbidden, in words.
	pub fn words(&self) -> Vec<String> {
		self.0.iter().map(|(d, c)| words_of(*d, *c)).collect()
	}
}

/// Choices of a decision.
pub fn choices(decision: usize) -> u8 {
	POINTS[decision].2.len() as u8
}

/// A choice in words.
pub fn words_of(decision: usize, choice: u8) -> String {
	let (_, when, choices) = &POINTS[decision];
	format!("{when} {}", choices[usize::from(choice)].1)
}

/// A choice by name, as [`Policy::from_str`] reads it.
fn name_of(decision: usize, choice: u8) -> String {
	let (point, _, choices) = &POINTS[decision];
	format!("{point:?}={}", choices[usize::from(choice)].0)
}

/// Whether a decision is only about whether to answer truly.
pub fn is_lying(decision: usize) -> bool {
	decision <= AnswerOwn as usize
}

macro_rules! read {
	($($get:ident -> $kind:ident),* $(,)?) => {
		$(
			/// What the policy chooses at a decision of this kind.
			pub fn $get(&self, point: Point) -> $kind {
				$kind::ALL[usize::from(self.0[point as usize]) % $kind::ALL.len()]
			}
		)*
	};
}

impl Policy {
	read! {
		answer -> Answer,
		timing -> Timing,
		member -> Member,
		reveal -> Reveal,
		appeal -> Appeal,
		serve -> Serve,
		come_back -> Return,
		leave -> Leave,
		own_model -> OwnModel,
		flood -> Flood,
		author -> Author,
		contribute -> Contribute,
	}

	/// The choice at a decision.
	pub fn choice(&self, decision: usize) -> u8 {
		self.0[decision]
	}

	/// The same policy with another choice at one decision.
	pub fn with(mut self, decision: usize, choice: u8) -> Self {
		self.0[decision] = choice;
		self
	}

	/// The same policy with another choice at a decision that has a name.
	pub fn choosing(self, point: Point, choice: impl Into<u8>) -> Self {
		self.with(point as usize, choice.into())
	}

	/// Decisions in which it is not honest.
	pub fn deviations(&self) -> impl Iterator<Item = usize> + '_ {
		(0..DECISIONS).filter(|d| self.0[*d] != 0)
	}

	/// A policy in which about one decision in `rarity` is not honest.
	pub fn random(rng: &mut ChaCha8Rng, rarity: u32, forbidden: &Forbidden) -> Self {
		let mut policy = Self::default();
		for decision in 0..DECISIONS {
			if rng.next_u32().is_multiple_of(rarity) {
				policy = policy.redecided(rng, decision, forbidden);
			}
		}
		policy
	}

	/// The same policy with one or two of these decisions made anew, and every other one with a chance of a quarter: those were not asked
	/// for, and what they would do shows only together with a change.
	pub fn mutated(self, rng: &mut ChaCha8Rng, asked: u64, forbidden: &Forbidden) -> Self {
		let (asked, others): (Vec<_>, Vec<_>) =
			(0..DECISIONS).partition(|decision| (asked >> decision) & 1 == 1);
		let mut policy = self;
		for decision in others {
			if rng.next_u32().is_multiple_of(4) {
				policy = policy.redecided(rng, decision, forbidden);
			}
		}
		for _ in 0..1 + rng.next_u32() % 2 {
			if let Some(decision) = asked.get(rng.next_u32() as usize % asked.len().max(1)) {
				policy = policy.redecided(rng, *decision, forbidden);
			}
		}
		policy
	}

	fn redecided(self, rng: &mut ChaCha8Rng, decision: usize, forbidden: &Forbidden) -> Self {
		let choice = (rng.next_u32() % u32::from(choices(decision))) as u8;
		if forbidden.allows(decision, choice) {
			self.with(decision, choice)
		} else {
			self
		}
	}

	/// What is not honest in it, in words.
	pub fn words(&self) -> Vec<String> {
		self.deviations().map(|d| words_of(d, self.0[d])).collect()
	}
}

/// What is not honest in it, by name: `AnswerSampled=Wrong,ExecutorWatched=Silent`.
impl Display for Policy {
	fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
		let names: Vec<_> = self.deviations().map(|d| name_of(d, self.0[d])).collect();
		to.write_str(&names.join(","))
	}
}

impl FromStr for Policy {
	type Err = String;

	fn from_str(names: &str) -> Result<Self, String> {
		let mut policy = Self::default();
		for name in names.split(',').filter(|name| !name.is_empty()) {
			let found = (0..DECISIONS)
				.flat_map(|d| (0..choices(d)).map(move |c| (d, c)))
				.find(|(d, c)| name_of(*d, *c) == name);
			let (decision, choice) =
				found.ok_or_else(|| format!("{name:?} is no choice of a decision"))?;
			policy = policy.with(decision, choice);
		}
		Ok(policy)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use rand_chacha::rand_core::SeedableRng;

	#[test]
	fn rows_stand_in_the_order_of_their_names() {
		for (place, (point, _, choices)) in POINTS.iter().enumerate() {
			assert_eq!(*point as usize, place);
			assert!(choices.len() > 1);
		}
	}

	#[test]
	fn a_policy_is_read_as_it_is_written() {
		let mut rng = ChaCha8Rng::seed_from_u64(2);
		for _ in 0..50 {
			let policy = Policy::random(&mut rng, 3, &Forbidden::default());
			assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy));
		}
		assert_eq!("".parse::<Policy>(), Ok(Policy::default()));
		assert!("AnswerSampled=Perhaps".parse::<Policy>().is_err());
	}

	#[test]
	fn what_is_forbidden_is_not_chosen() {
		let mut forbidden = Forbidden::default();
		for decision in 0..DECISIONS {
			for choice in 2..choices(decision) {
				forbidden.forbid(decision, choice);
			}
		}
		let mut rng = ChaCha8Rng::seed_from_u64(1);
		for _ in 0..200 {
			let policy = Policy::random(&mut rng, 2, &forbidden).mutated(&mut rng, 7, &forbidden);
			assert!((0..DECISIONS).all(|d| policy.choice(d) < 2));
		}
	}
}
