//! The holes that were known before the search (issue "The game"), each played by hand: a policy that uses it must earn nothing.
//!
//! The search is told nothing of these. They are here so that a hole which a short search misses by bad luck cannot come back.

use consilience_strategist::{
	policy::{
		Answer::{Unanswerable, Wrong},
		Author, Contribute, Flood, Leave,
		Member::{Invent, Silent, Vouch},
		OwnModel, Point,
		Point::*,
		Policy, Return,
		Reveal::{Wait, Withhold},
		Serve, Timing,
	},
	search::{Arena, Prizes, Score},
};

/// A false answer is worth less than a tenth of what a lie is to cost, as the protocol's own parameters say.
const PRIZES: Prizes = Prizes {
	false_final: 1_000.0,
	denied: 1.0,
};

fn played(validators: usize, choices: &[(Point, u8)]) -> Score {
	let policy = choices
		.iter()
		.fold(Policy::default(), |p, (point, choice)| {
			p.choosing(*point, *choice)
		});
	let mut arena = Arena::new(validators, 33, PRIZES);
	let score = arena.score(&policy, 1..=4);
	println!(
		"{:?}\n  profit {:+.1} coins a play, {:+.1} without the prize, break-even {:?}\n  {:?}",
		policy.words(),
		score.profit,
		score.without_prize,
		score.break_even(),
		score.total
	);
	score
}

/// Lies wherever it is asked, and vouches where only friends look.
const LIES: [(Point, u8); 6] = [
	(AnswerSampled, Wrong as u8),
	(AnswerSampledBlamed, Wrong as u8),
	(AnswerChecked, Wrong as u8),
	(AnswerCheckedBlamed, Wrong as u8),
	(VerifyFriendAlone, Vouch as u8),
	(JudgeFriendStrong, Vouch as u8),
];

macro_rules! hole {
	($(#[$doc:meta])* $name:ident, $validators:literal, $($choices:expr),*) => {
		$(#[$doc])*
		#[test]
		fn $name() {
			let choices: Vec<(Point, u8)> = [$(&$choices[..]),*].concat();
			let score = played($validators, &choices);
			assert!(score.profit <= 0.0, "{:+.1} coins a play", score.profit);
			assert_eq!(score.total.honest_slashed, 0.0);
		}
	};
}

hole!(
	/// (a) An executor that is watched is silent, and its lie is forgotten.
	silence_takes_a_lie_out_of_judgement,
	10,
	LIES,
	[(ExecutorWatched, Silent as u8)]
);

hole!(
	/// (c) Whoever has seen the others' parts of a toss withholds its own where strangers would look, and has another throw.
	who_does_not_like_the_verifiers_has_others_drawn,
	10,
	LIES,
	[(Toss, Contribute::Likes as u8)]
);

hole!(
	/// (d) Jurors are paid by the price of the party's own model, out of the treasury.
	own_jurors_are_paid_by_the_treasury,
	20,
	[
		(OwnModel, OwnModel::LargeTip as u8),
		(AnswerOwn, Wrong as u8)
	]
);

hole!(
	/// (f) Who is gone when the jury has found is not slashed.
	who_leaves_is_not_slashed,
	10,
	[
		(Leave, Leave::Beforehand as u8),
		(AnswerSampledLeaving, Wrong as u8),
		(AnswerCheckedLeaving, Wrong as u8),
		(VerifyFriendAlone, Vouch as u8)
	]
);

hole!(
	/// (i) Requests that nobody can serve fill the chain, and are refunded.
	requests_that_cannot_be_served_keep_others_out,
	10,
	[(Flood, Flood::Impossible as u8)]
);

hole!(
	/// (l) Who serves just in time, while the others are busy, is drawn more often.
	who_serves_just_in_time_is_drawn_more,
	10,
	LIES,
	[
		(ExecutorWatched, Silent as u8),
		(Serve, Serve::JustInTime as u8),
		(Flood, Flood::Load as u8)
	]
);

hole!(
	/// (c) Who writes the blocks that draw knows who is drawn, and lies only where that suits it.
	who_writes_the_blocks_that_draw_chooses_who_is_drawn,
	10,
	LIES,
	[
		(When, Timing::BeforeOwnSlot as u8),
		(Author, Author::HoldBack as u8)
	]
);

hole!(
	/// (e) Reports of others are left out, so that they look silent.
	who_leaves_out_reports_has_others_blamed,
	10,
	LIES,
	[(Author, Author::Censor as u8)]
);

hole!(
	/// (e) The same against one: its duties go wrong wherever the party writes the blocks, and the others help to replace it.
	who_leaves_out_one_victims_reports_has_it_blamed,
	10,
	[
		(Author, Author::CensorOne as u8),
		(Flood, Flood::Load as u8)
	]
);

hole!(
	/// (j) Verifiers and jurors of the party share invented evidence, are nobody's fault, and save the work.
	shared_inventions_are_paid,
	10,
	[
		(VerifyStranger, Invent as u8),
		(VerifyStrangerUnwatched, Invent as u8),
		(JudgeStranger, Invent as u8),
		(Return, Return::AtOnce as u8)
	]
);

hole!(
	/// (n) That nothing can be answered costs nothing to say, and what the party agrees on is paid.
	claims_that_there_is_no_answer_are_paid,
	10,
	[
		(AnswerTensor, Unanswerable as u8),
		(AnswerChecked, Unanswerable as u8),
		(AnswerCheckedBlamed, Unanswerable as u8),
		(VerifyFriendAlone, Vouch as u8),
		(JudgeFriendStrong, Vouch as u8)
	]
);

/// (h) Every lie that is found costs what one lie costs.
#[test]
fn every_lie_that_is_found_costs_the_same() {
	let score = played(10, &LIES);
	assert!(score.total.found > 3, "{:?}", score.total);
	// A tenth of the stake.
	let each = score.total.slashed / score.total.found as f64;
	assert!(each >= 90_000.0, "{each:.0} coins for a lie that was found");
}

/// (b) A verdict on chain is not thrown away because an accomplice withholds its own.
#[test]
fn withholding_saves_no_lie() {
	let withholding = [
		(VerifyFriendWatched, Vouch as u8),
		(ShowVerifier, Wait as u8),
		(ShowVerifierExposed, Withhold as u8),
	];
	let score = played(10, &[&LIES[..], &withholding[..]].concat());
	let total = &score.total;
	assert!(total.found > 3, "{total:?}");
	assert_eq!(total.watched_final, 0, "{total:?}");
	let each = total.slashed / total.found as f64;
	assert!(each >= 90_000.0, "{each:.0} coins for a lie that was found");
	assert!(score.profit <= 0.0, "{:+.1} coins a play", score.profit);
}

#[test]
fn who_never_tosses_blames_nobody_else_and_stops_nothing() {
	let score = played(10, &[(Toss, Contribute::Never as u8)]);
	// Others are drawn than would have been, and some are paid a coin more for that.
	assert!(score.profit < 10.0, "{:+.1} coins a play", score.profit);
	assert_eq!(score.total.honest_blamed, 0);
	assert_eq!(score.total.honest_slashed, 0.0);
	assert_eq!(score.total.denied, 0);
}
