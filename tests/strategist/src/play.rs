//! One play: strangers ask for a while, over the end of an era, while everybody works and the party does as its policy says.

use std::collections::BTreeMap;

use consilience_primitives::{request::Assurance, view::RequestState, RequestId};
use consilience_runtime::{AccountId, Balance, UNIT};
use serde::Serialize;

use crate::{
	honest,
	party::{Clock, Party},
	policy::Policy,
	world::{self, Chain, Model, World},
};

/// Blocks of each session in which strangers ask. The era ends with the second; the rest of each session's slots stay empty.
const SESSIONS: [u32; 3] = [30, 30, 20];
/// Blocks from one request to the next: an answer that is not checked holds a place of its executor while it can be appealed against,
/// and seven validators have few.
const EVERY: u32 = 3;
/// Last blocks of an era in which an answer's judgement falls into the next.
const CLOSING: u32 = 8;
/// Most blocks that are waited for what is open.
const TAIL: u32 = 400;
/// Blocks after the last settlement in which staking hears of what happened.
const AFTERMATH: u32 = 12;
/// Blocks without events after which it is enough to look now and then.
const QUIET: u32 = 4;

/// What a play came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
	/// Requests of strangers, and of the party's own.
	pub episodes: u64,
	/// Coins that the party has more than before, pending slashes and the cost of its machines taken off.
	pub coins: f64,
	/// Of them, what staking takes.
	pub slashed: f64,
	/// Requests of strangers that a member of the party answered falsely.
	pub lies: u64,
	/// False answers to strangers that became final.
	pub false_final: u64,
	/// Of them, those that a stranger measured, or said to be false.
	pub watched_final: u64,
	/// Lies that a jury found.
	pub found: u64,
	/// Requests of strangers that were refused or not answered.
	pub denied: u64,
	/// Coins that staking takes of honest validators.
	pub honest_slashed: f64,
	/// Times that an honest validator was reported.
	pub honest_blamed: u64,
	/// Times that an honest validator was replaced because it was late: its reports were left out for as long as it had.
	pub honest_late: u64,
	/// Coins that the treasury has less than before.
	pub drained: f64,
	/// Decisions that the party made, a bit for each.
	#[serde(skip)]
	pub consulted: u64,
}

/// Coins of an amount.
fn coins(amount: i128) -> f64 {
	amount as f64 / UNIT as f64
}

fn difference(after: Balance, before: Balance) -> i128 {
	after as i128 - before as i128
}

impl Outcome {
	/// Adds another play's.
	pub fn add(&mut self, other: &Self) {
		self.episodes += other.episodes;
		self.coins += other.coins;
		self.slashed += other.slashed;
		self.lies += other.lies;
		self.false_final += other.false_final;
		self.watched_final += other.watched_final;
		self.found += other.found;
		self.denied += other.denied;
		self.honest_slashed += other.honest_slashed;
		self.honest_blamed += other.honest_blamed;
		self.honest_late += other.honest_late;
		self.drained += other.drained;
		self.consulted |= other.consulted;
	}
}

#[derive(Clone)]
struct Play {
	party: Party,
	sampling: u16,
	/// Requests of strangers.
	asked: Vec<RequestId>,
	refused: u64,
	number: u32,
	/// Blocks since something last happened.
	quiet: u32,
	/// Whether somebody had something to do when that was last looked at.
	busy: bool,
}

/// Plays one policy in a world. The same seed gives the same strangers, the same authors and the same VRFs. `sampling` is the
/// probability, in thousandths, with which answers are checked where that is a matter of chance.
pub fn play(world: &mut World, policy: &Policy, seed: u64, sampling: u16) -> Outcome {
	world.play(seed, |mut chain| {
		let (wealth, treasury) = (chain.wealth(), chain.treasury());
		let mut play = Play {
			party: Party::new(*policy),
			sampling,
			asked: Vec::new(),
			refused: 0,
			number: 0,
			quiet: 0,
			busy: true,
		};
		let mut clock = Clock::default();
		for (session, blocks) in SESSIONS.into_iter().enumerate() {
			clock.session = session as u32;
			if session > 0 {
				chain.next_session();
			}
			for block in 0..blocks {
				clock.closing = session == 1 && block + CLOSING >= blocks;
				play.step(&mut chain, clock);
				clock.block += 1;
			}
		}
		clock = Clock {
			over: true,
			closing: false,
			..clock
		};
		let mut left = TAIL;
		while left > 0 && !play.asked.iter().all(|id| is_settled(&chain, *id)) {
			play.step(&mut chain, clock);
			left -= 1;
		}
		play.quiet = 0;
		for _ in 0..AFTERMATH {
			play.quiet = play.quiet.min(QUIET);
			play.step(&mut chain, clock);
		}
		play.outcome(
			&chain,
			difference(chain.wealth(), wealth),
			difference(treasury, chain.treasury()),
		)
	})
}

fn is_settled(chain: &Chain, request: RequestId) -> bool {
	chain
		.view(request)
		.is_none_or(|view| view.state.is_settled())
}

impl Play {
	/// A block; of the party's slots those that it holds back stay empty.
	fn step(&mut self, chain: &mut Chain, clock: Clock) {
		while self.party.holds_back() && chain.next_author().is_some_and(|a| a < chain.party) {
			let before = self.clone();
			let kept = chain.attempt(
				|chain| self.block(chain, clock),
				|chain| !before.party.dislikes(chain),
			);
			if kept {
				return;
			}
			// What it decided in the block that nobody sees, it decided.
			before.party.note(self.party.consulted());
			*self = before;
			chain.skip();
		}
		self.block(chain, clock);
	}

	fn block(&mut self, chain: &mut Chain, clock: Clock) {
		if clock.over && !self.busy && self.quiet > QUIET && chain.seen.undrawn.is_empty() {
			chain.quiet_block();
			self.quiet = if chain.seen.happened {
				0
			} else {
				self.quiet + 1
			};
			return;
		}
		chain.block(|chain| {
			let chain = &*chain;
			if !clock.over && clock.block.is_multiple_of(EVERY) {
				self.stranger_asks(chain);
			}
			self.toss(chain);
			self.party.transact(chain, clock);
			if self.busy || self.quiet < QUIET || chain.number() % QUIET == 0 {
				self.work(chain, clock);
			}
		});
		self.quiet = if chain.seen.happened {
			0
		} else {
			self.quiet + 1
		};
	}

	/// Contributions to tosses: the others' first, so that the party sees them.
	fn toss(&self, chain: &Chain) {
		let friendly = chain.author < chain.party;
		for validator in chain.party..chain.validators.len() {
			if !friendly || !self.party.censors(chain, validator) {
				chain.contribute(validator);
			}
		}
		self.party.contribute(chain);
	}

	fn stranger_asks(&mut self, chain: &Chain) {
		let (model, assurance) = match chain.random((b"kind", self.number)) % 10 {
			0..=3 => (Model::Text, Assurance::Sampled(self.sampling)),
			4..=7 => (Model::Text, Assurance::Committee(2)),
			_ => (Model::Tensor, Assurance::Committee(2)),
		};
		let who = world::stranger(self.number);
		match chain.ask(&who, model, self.number, assurance, 0) {
			Ok(request) => self.asked.push(request),
			Err(_) => self.refused += 1,
		}
		self.number += 1;
	}

	fn work(&mut self, chain: &Chain, clock: Clock) {
		self.busy = false;
		let friendly = chain.author < chain.party;
		for validator in 0..chain.validators.len() {
			let Some(duties) = chain.duties(validator) else {
				continue;
			};
			self.busy |= !duties.duties.is_empty();
			let statements = if validator < chain.party {
				self.party.statements(chain, validator, &duties, clock)
			} else if friendly && self.party.censors(chain, validator) {
				continue;
			} else {
				// Nobody else serves the party's own model: validators choose what they serve.
				honest::work(chain, &duties, &[Model::Text, Model::Tensor])
			};
			chain.report(validator, &duties, statements);
		}
	}

	fn outcome(&self, chain: &Chain, earned: i128, drained: i128) -> Outcome {
		chain.check();
		let of_strangers = |times: &BTreeMap<AccountId, u32>| -> u64 {
			let strangers = times.iter().filter(|(who, _)| !chain.is_party(who));
			strangers.map(|(_, n)| u64::from(*n)).sum()
		};
		let mut outcome = Outcome {
			episodes: self.asked.len() as u64 + self.refused + self.party.asked_own(),
			coins: coins(earned - self.party.spent as i128),
			slashed: coins(chain.party_slashed() as i128),
			denied: self.refused,
			honest_slashed: coins(chain.honest_slashed() as i128),
			honest_blamed: of_strangers(&chain.seen.troubled),
			honest_late: of_strangers(&chain.seen.late),
			drained: coins(drained),
			consulted: self.party.consulted(),
			..Default::default()
		};
		for id in &self.asked {
			let Some(view) = chain.view(*id) else {
				continue;
			};
			let lied = self.party.lies.contains(id);
			outcome.lies += u64::from(lied);
			outcome.found += u64::from(lied && chain.seen.rejected.contains(id));
			let truth = view.seed.map(|seed| honest::truth(&view.input, &seed));
			let passed = match view.state {
				RequestState::Final => view.output != truth,
				// Nothing but false: the world's inputs can all be answered.
				RequestState::Unanswerable => true,
				RequestState::Rejected if lied => false,
				_ => {
					outcome.denied += 1;
					false
				}
			};
			let shown = view.evidence.iter().map(|(who, _)| who);
			let mut watchers = view.verifiers.iter().chain(shown);
			outcome.false_final += u64::from(passed);
			outcome.watched_final += u64::from(passed && watchers.any(|who| !chain.is_party(who)));
		}
		outcome
	}
}
