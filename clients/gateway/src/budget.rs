//! Daily budgets of keys.
//!
//! A request counts on the day on which it is made: what is held for it until it is settled, and then what it was paid.

use std::{collections::HashMap, sync::Mutex};

use crate::{
	auth::Key,
	error::Error,
	network::{csl, Amount},
};

/// Seconds of a day.
pub(crate) const DAY: u64 = 86_400;

#[derive(Clone, Copy, Debug, Default)]
struct Account {
	reserved: Amount,
	spent: Amount,
}

/// What was spent, by key and day.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
	accounts: Mutex<HashMap<(String, u64), Account>>,
}

impl Ledger {
	fn accounts(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u64), Account>> {
		// Nothing panics while it is held.
		self.accounts.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// Counts what was spent or reserved before a restart.
	pub(crate) fn restore(&self, key: &str, day: u64, reserved: Amount, spent: Amount) {
		let mut accounts = self.accounts();
		let account = accounts.entry((key.into(), day)).or_default();
		account.reserved = account.reserved.saturating_add(reserved);
		account.spent = account.spent.saturating_add(spent);
	}

	/// Sets an amount apart, if the key's budget of the day still has it.
	pub(crate) fn reserve(&self, key: &Key, day: u64, amount: Amount) -> Result<(), Error> {
		let mut accounts = self.accounts();
		// What is left of earlier days is in the journal.
		accounts.retain(|(_, of), account| *of + 1 >= day || account.reserved > 0);
		let account = accounts.entry((key.name.clone(), day)).or_default();
		let used = account.reserved.saturating_add(account.spent);
		if let Some(budget) = key.budget_per_day {
			if used.saturating_add(amount) > budget {
				return Err(Error::Budget(format!(
					"the key's budget of {} a day does not have the {} that this can cost: {} are spent, {} are held for \
					 requests that are not settled yet. A new day begins at 00:00 UTC",
					csl(budget),
					csl(amount),
					csl(account.spent),
					csl(account.reserved)
				)));
			}
		}
		account.reserved = account.reserved.saturating_add(amount);
		Ok(())
	}

	/// Ends a reservation with what was paid.
	pub(crate) fn settle(&self, key: &str, day: u64, reserved: Amount, paid: Amount) {
		let mut accounts = self.accounts();
		let account = accounts.entry((key.into(), day)).or_default();
		account.reserved = account.reserved.saturating_sub(reserved);
		account.spent = account.spent.saturating_add(paid);
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_is_held_counts_until_it_is_settled() {
		let ledger = Ledger::default();
		let key = Key {
			name: "a".into(),
			budget_per_day: Some(10),
		};
		assert!(ledger.reserve(&key, 1, 11).is_err());
		assert!(ledger.reserve(&key, 1, 6).is_ok());
		assert!(ledger.reserve(&key, 1, 5).is_err());
		ledger.settle("a", 1, 6, 2);
		assert!(ledger.reserve(&key, 1, 8).is_ok());
		assert!(ledger.reserve(&key, 1, 1).is_err());
		// Each day has its own, and other keys theirs.
		assert!(ledger.reserve(&key, 2, 10).is_ok());
		let other = Key {
			name: "b".into(),
			budget_per_day: None,
		};
		assert!(ledger.reserve(&other, 1, Amount::MAX).is_ok());
		// A request that outlives its day is settled on it.
		ledger.settle("a", 1, 8, 8);
		assert!(ledger.reserve(&key, 1, 1).is_err());
	}
}
