//! What was tried and found, for people and for programs.

use std::fmt::{Display, Formatter, Write};

use serde::Serialize;

use crate::{
	play::Outcome,
	search::{Arena, Finding, Prizes, Score},
};

/// All hunts in one network.
#[derive(Debug, Serialize)]
pub struct Report {
	/// Validators.
	pub validators: usize,
	/// Of them the party.
	pub party: usize,
	/// What the party was paid from outside.
	pub prizes: Prizes,
	/// Requests played.
	pub episodes: u64,
	/// Policies tried.
	pub tried: u64,
	/// What each hunt found.
	pub findings: Vec<Finding>,
	/// The policy that pays from the lowest prize of all that were tried, and that prize.
	pub closest_call: Option<ClosestCall>,
	/// What honest validators lost in all plays.
	pub honest: Outcome,
	/// A policy by name that cost them stake, and the seed of the play in which it did.
	pub harmed: Option<(String, u64)>,
}

/// The policy that came closest, or went farthest.
#[derive(Debug, Serialize)]
pub struct ClosestCall {
	/// Coins for a false answer from which it pays.
	pub break_even: f64,
	/// What it does.
	pub policy: Vec<String>,
	/// The same by name.
	pub names: String,
}

impl Report {
	/// What was found in a network. The closest calls are played so many times more.
	pub fn new(
		arena: &mut Arena,
		prizes: Prizes,
		findings: Vec<Finding>,
		plays: u64,
		seed: u64,
	) -> Self {
		let closest = arena.closest_call(plays, seed);
		Self {
			validators: arena.validators,
			party: arena.party,
			prizes,
			episodes: arena.episodes,
			tried: arena.tried,
			findings,
			closest_call: closest.map(|(break_even, policy)| ClosestCall {
				break_even,
				policy: policy.words(),
				names: policy.to_string(),
			}),
			honest: arena.honest.clone(),
			harmed: arena
				.harmed
				.map(|(policy, seed)| (policy.to_string(), seed)),
		}
	}

	/// The best profit over honest work that is more than luck, in coins a play; nothing where there is none.
	pub fn best(&self) -> f64 {
		let believed = self.findings.iter().filter(|f| f.score.is_believed());
		believed.map(|f| f.score.profit).fold(0.0, f64::max)
	}

	/// For people.
	pub fn text(&self) -> String {
		let mut text = String::new();
		self.write(&mut text)
			.expect("writing to a string does not fail; qed");
		text
	}

	fn write(&self, to: &mut String) -> std::fmt::Result {
		writeln!(
			to,
			"{} of {} validators are the party; a false answer that becomes final is worth {} coins to it, a denied request {}.",
			self.party, self.validators, self.prizes.false_final, self.prizes.denied
		)?;
		writeln!(
			to,
			"{} requests were played with {} policies.",
			self.episodes, self.tried
		)?;
		for (number, finding) in self.findings.iter().enumerate() {
			writeln!(to, "\nHunt {}\n{finding}", number + 1)?;
		}
		if let Some(call) = &self.closest_call {
			writeln!(
				to,
				"\nThe closest call pays from a prize of {:.1} coins for a false answer:",
				call.break_even
			)?;
			for words in &call.policy {
				writeln!(to, "  {words}")?;
			}
			writeln!(to, "  play it again: play {}", call.names)?;
		}
		writeln!(
			to,
			"\nHonest validators were late {} times and reported {} times, and lose {:.0} coins of stake in all plays.",
			self.honest.honest_late, self.honest.honest_blamed, self.honest.honest_slashed
		)?;
		if let Some((names, seed)) = &self.harmed {
			writeln!(to, "First in: play {names} --seed {seed} --plays 1")?;
		}
		Ok(())
	}
}

impl Display for Finding {
	fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
		for words in &self.forbidden {
			writeln!(to, "  may not: {words}")?;
		}
		if self.tricks.is_empty() {
			writeln!(to, "  nothing earned more than honest work")?;
		}
		for trick in &self.tricks {
			writeln!(
				to,
				"  {} ({:+.1} ± {:.1} coins)",
				trick.words, trick.worth, trick.error
			)?;
		}
		if !self.names.is_empty() {
			writeln!(to, "  play it again: play {}", self.names)?;
		}
		write!(to, "{}", self.score)
	}
}

impl Display for Score {
	fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
		let total = &self.total;
		writeln!(
			to,
			"  profit over honest work: {:+.1} ± {:.1} coins a play{}, {:+.1} without the prize for false answers; {}",
			self.profit,
			self.error,
			if self.is_believed() { "" } else { " (no more than luck)" },
			self.without_prize,
			match self.break_even() {
				Some(prize) => format!("pays from a prize of {prize:.1}"),
				None => "too few false answers became final for a break-even prize".into(),
			}
		)?;
		writeln!(
			to,
			"  in {} plays of {} requests: {} lies, {} of them final, {} found by a jury; the party is slashed {:.0}, honest \
			 validators {:.0} ({} reports, late {} times), treasury {:+.1}, {} requests denied",
			self.plays,
			total.episodes,
			total.lies,
			total.false_final,
			total.found,
			total.slashed,
			total.honest_slashed,
			total.honest_blamed,
			total.honest_late,
			-total.drained,
			total.denied
		)
	}
}
