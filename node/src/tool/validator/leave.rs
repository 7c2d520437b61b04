//! `consilience validator leave`: a validator for whom the chain should look no further, step by step until its stake is free.
//!
//! What can be done at the time is done; what has to wait is said, with the era. Given again later it goes on.

use consilience_runtime::{
	configs::staking::SESSIONS_PER_ERA, AccountId, Balance, Runtime, RuntimeCall,
	EPOCH_DURATION_IN_SLOTS, MILLISECS_PER_BLOCK,
};
use polkadot_sdk::{pallet_session, pallet_staking, sp_core::Pair};
use serde_json::json;

use super::account::{Account, Keys};
use crate::tool::{
	chain::{self, address, Chain},
	csl, Format, NodeAddress, Result, Signer,
};

/// Ends a validator.
#[derive(Debug, clap::Args)]
pub(crate) struct LeaveCommand {
	#[command(flatten)]
	signer: Signer,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

/// A transaction on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
	/// Stand for no more elections.
	Chill,
	/// Begin to take the stake back.
	Unbond(Balance),
	/// Take back what is free.
	Withdraw { spans: u32 },
	/// Remove the session keys, and get their deposit.
	PurgeKeys,
}

impl Step {
	fn call(self) -> RuntimeCall {
		use pallet_staking::Call as Staking;
		match self {
			Self::Chill => Staking::<Runtime>::chill {}.into(),
			Self::Unbond(value) => Staking::<Runtime>::unbond { value }.into(),
			Self::Withdraw { spans } => Staking::<Runtime>::withdraw_unbonded {
				num_slashing_spans: spans,
			}
			.into(),
			Self::PurgeKeys => pallet_session::Call::<Runtime>::purge_keys {}.into(),
		}
	}

	fn says(self) -> String {
		match self {
			Self::Chill => "it stands for no more elections".into(),
			Self::Unbond(value) => format!("{} are on their way back", csl(value)),
			Self::Withdraw { .. } => "what was free of the stake is back".into(),
			Self::PurgeKeys => {
				"the chain has no session keys of it any more, and their deposit is back".into()
			}
		}
	}
}

/// What can be done now.
fn possible(found: &Account) -> Vec<Step> {
	let mut steps = Vec::new();
	if found.commission.is_some() {
		steps.push(Step::Chill);
	}
	if let Some(active) = found.bonded.filter(|active| *active > 0) {
		steps.push(Step::Unbond(active));
	}
	if found.unlocking.iter().any(|(era, _)| *era <= found.era) {
		steps.push(Step::Withdraw {
			spans: found.slashing_spans,
		});
	}
	// Sessions that are on their way still need them, and so does an election that may be over.
	let elected = found.in_session || found.in_next_session || found.commission.is_some();
	if !elected && found.keys != Keys::Unset {
		steps.push(Step::PurgeKeys);
	}
	steps
}

/// Minutes of an era.
const fn era_minutes() -> u64 {
	SESSIONS_PER_ERA as u64 * EPOCH_DURATION_IN_SLOTS * MILLISECS_PER_BLOCK / 60_000
}

/// About how long so many eras are.
fn duration(eras: u32) -> String {
	let hours = u64::from(eras) * era_minutes() / 60;
	match hours {
		0 => "less than an hour".into(),
		1 => "about an hour".into(),
		2..=47 => format!("about {hours} hours"),
		_ => format!("about {} days", hours.div_ceil(24)),
	}
}

impl LeaveCommand {
	/// Does what the command says.
	pub(super) async fn run(&self) -> Result<()> {
		let pair = chain::pair(&self.signer.suri)?;
		let stash = AccountId::from(pair.public());
		let chain = Chain::connect(&self.node.url).await?;
		let mut found = Account::read(&chain, &stash).await?;
		if found.bonded.is_none() && found.keys == Keys::Unset {
			return Err(format!(
				"{} has nothing at stake and no session keys: it is no validator",
				address(&stash)
			));
		}
		for step in possible(&found) {
			chain.submit(&pair, step.call()).await?;
			let value = json!({ "step": format!("{step:?}"), "says": step.says() });
			self.format.print(&value, || step.says());
		}
		found = Account::read(&chain, &stash).await?;
		let in_session = found.in_session || found.in_next_session;
		let unlocking: Vec<_> = found
			.unlocking
			.iter()
			.map(|(era, value)| json!({ "era": era, "amount": value.to_string() }))
			.collect();
		let complete = !in_session && found.bonded.is_none() && found.keys == Keys::Unset;
		let value = json!({
			"validator": address(&stash),
			"in_session": in_session,
			"era": found.era,
			"unlocking": unlocking,
			"complete": complete,
		});
		self.format.print(&value, || {
			let mut says = Vec::new();
			if in_session {
				says.push(format!(
					"It validates on until the era after the next election, at most {} minutes from now: leave the node running until then.",
					2 * era_minutes()
				));
			}
			if !in_session && found.keys != Keys::Unset {
				says.push("Its session keys are still on chain: give this command again.".into());
			}
			for (era, value) in &found.unlocking {
				let eras = era.saturating_sub(found.era);
				let value = csl(*value);
				says.push(format!("{value} are free in era {era}, in {}, unless a slash takes of them: give this command again then.", duration(eras)));
			}
			if complete {
				says.push("It is no validator any more, and nothing of it is at stake.".into());
			}
			says.join("\n")
		});
		Ok(())
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use polkadot_sdk::sp_runtime::Perbill;

	#[test]
	fn each_time_what_can_be_done_is_done() {
		use polkadot_sdk::sp_keyring::{Ed25519Keyring, Sr25519Keyring};
		let alice = Sr25519Keyring::Alice.public();
		let keys = consilience_runtime::SessionKeys {
			babe: alice.into(),
			grandpa: Ed25519Keyring::Alice.public().into(),
			authority_discovery: alice.into(),
			inference: alice.into(),
		};
		let validates = Account {
			free: 5,
			bonded: Some(100),
			unlocking: Vec::new(),
			payee: None,
			commission: Some(Perbill::zero()),
			keys: Keys::Here(keys),
			in_session: true,
			in_next_session: true,
			era: 10,
			least_bond: 0,
			slashing_spans: 2,
		};
		assert_eq!(possible(&validates), [Step::Chill, Step::Unbond(100)]);
		// The session needs its keys.
		let leaving = Account {
			bonded: Some(0),
			unlocking: vec![(12, 100)],
			commission: None,
			..validates
		};
		assert_eq!(possible(&leaving), []);
		let next = Account {
			in_session: false,
			..leaving.clone()
		};
		assert_eq!(possible(&next), []);
		let gone = Account {
			in_next_session: false,
			..next
		};
		assert_eq!(possible(&gone), [Step::PurgeKeys]);
		let free = Account { era: 12, ..gone };
		assert_eq!(
			possible(&free),
			[Step::Withdraw { spans: 2 }, Step::PurgeKeys]
		);
		let ended = Account {
			bonded: None,
			unlocking: Vec::new(),
			keys: Keys::Unset,
			..free
		};
		assert_eq!(possible(&ended), []);
	}

	#[test]
	fn times_are_those_of_the_runtime() {
		assert_eq!(era_minutes(), 60);
		assert_eq!(
			[0, 2, 30, 168].map(duration),
			[
				"less than an hour",
				"about 2 hours",
				"about 30 hours",
				"about 7 days"
			]
		);
	}
}
