//! What nearly everything in a block looks into, and what is written once however often it changes in it.
//!
//! A block keeps what it has read and writes each value once, at its end. What requests share is therefore counted with the block and not
//! with each of them, where a hundred would pay for it a hundred times: single values (`#[pallet::whitelist_storage]`), the draws that
//! are due in one block, and the accounts that something of every answer goes to.

use polkadot_sdk::{frame_support::pallet_prelude::Weight, sp_runtime::traits::Get};

use crate::{Config, Pallet};

/// Values that are shared, and those of them that change with requests.
const VALUES: (u64, u64) = (22, 15);

/// What is due in one block and shared by all that come due in it: draws of this block, of the next and of audits, the toss of the next.
const BUCKETS: u64 = 4;

/// Accounts of the treasury and of the jury fund.
const ACCOUNTS: u64 = 2;

impl<T: Config> Pallet<T> {
	/// What a block weighs for all of that, once.
	pub(crate) fn shared_weight() -> Weight {
		let (read, written) = VALUES;
		let once = BUCKETS + ACCOUNTS;
		T::DbWeight::get().reads_writes(read + once, written + once)
	}
}

#[cfg(test)]
mod tests {
	use polkadot_sdk::frame_support::traits::WhitelistedStorageKeys;

	use super::*;
	use crate::mock::Test;

	#[test]
	fn every_shared_value_is_counted() {
		let shared = Pallet::<Test>::whitelisted_storage_keys();
		assert_eq!(shared.len() as u64, VALUES.0);
	}
}
