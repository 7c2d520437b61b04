//! What a liar earns and loses in a day, by the interval in which points are drawn, against what `docs/threat-model.md` says.
//!
//! The worst case: no client has anything checked, and a lie costs nothing to make, so that its whole price is profit. Points are drawn
//! by the pallet's own code. What follows a point is the runtime's rule, not the pallet: two are drawn to measure what is opened, the
//! lie passes where both are the liar's friends, and costs a tenth of the stake otherwise. After that the liar is out for the day.

use codec::Encode;
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::features::draw::points;

/// Parts of a coin.
const COIN: u128 = 1_000_000;
/// Price of an answer of 48 tokens by one of the demo's models.
const PRICE: u128 = 16_000;
/// Answers that a validator gives in a day: one in four seconds.
const ANSWERS: u64 = 21_600;
/// One answer of so many is a lie.
const LIES: u64 = 100;
/// Answers of a claim.
const CLAIM: u64 = 20;
/// What stands behind a validator of the development networks.
const STAKE: u128 = 1_000_000 * COIN;
/// What of the stake a lie costs: a part of so many.
const SLASH: u128 = 10;

fn word(of: impl Encode) -> u64 {
	let hash = of.using_encoded(blake2_256);
	u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes; qed"))
}

/// What became of a day.
#[derive(Clone, Copy, Default)]
struct Day {
	lies: u64,
	/// What its lies have earned.
	earned: u128,
	/// What it has lost, forfeited claims included.
	lost: u128,
}

/// A day of a liar, of whose colleagues one in `friends` is its friend.
fn day(run: u64, interval: u128, friends: Option<u64>) -> Day {
	let mut day = Day::default();
	for claim in 0..ANSWERS / CLAIM {
		let lies: Vec<bool> = (0..CLAIM)
			.map(|n| word(("lie", run, claim, n)) % LIES == 0)
			.collect();
		let count = lies.iter().filter(|lie| **lie).count() as u64;
		day.lies += count;
		let seed = H256((run, claim).using_encoded(blake2_256));
		let caught = points(&seed, claim, PRICE * u128::from(CLAIM), interval)
			.into_iter()
			.any(|offset| {
				let measurer = |place: u64| word(("friend", run, claim, offset as u64, place));
				let friendly = |place| friends.is_some_and(|n| measurer(place) % n == 0);
				lies[(offset / PRICE) as usize] && !(friendly(0) && friendly(1))
			});
		if caught {
			day.lost += STAKE / SLASH + PRICE * u128::from(CLAIM);
			return day;
		}
		day.earned += PRICE * u128::from(count);
	}
	day
}

/// The mean of so many days: lies, profit in coins, days on which it is found.
fn days(count: u64, interval: u128, friends: Option<u64>) -> (f64, f64, f64) {
	let all: Vec<_> = (0..count).map(|run| day(run, interval, friends)).collect();
	let mean = |of: &dyn Fn(&Day) -> f64| all.iter().map(of).sum::<f64>() / count as f64;
	let coins = |amount: u128| amount as f64 / COIN as f64;
	(
		mean(&|d| d.lies as f64),
		mean(&|d| coins(d.earned) - coins(d.lost)),
		mean(&|d| f64::from(u8::from(d.lost > 0))),
	)
}

#[test]
fn a_liar_of_one_in_a_hundred_loses_within_the_day() {
	// The runtime's interval: over 200 lies of 0.016 coins, one point in every coin.
	for (friends, least) in [(None, 0.90), (Some(3), 0.90)] {
		let (_, profit, found) = days(60, COIN, friends);
		assert!(found > least && profit < 0.0, "{found}, {profit}");
	}
	// Points a hundred times as far apart find it less often than daily, and it loses all the same.
	let (_, profit, found) = days(200, 100 * COIN, None);
	assert!(found < 0.2 && profit < 0.0, "{found}, {profit}");
}

/// For `scripts/bench sessions`.
#[test]
#[ignore = "prints figures"]
fn figures_of_a_liar_s_day() {
	const DAYS: u64 = 1_000;
	for coins in [1u128, 10, 100, 1_000] {
		for (friends, who) in [(None, "alone"), (Some(3), "with a third of the checkers")] {
			let (lies, profit, found) = days(DAYS, coins * COIN, friends);
			// Below this stake it would pay: what it earns until it is found is as much as it loses then.
			let per_lie = PRICE as f64 / (coins * COIN) as f64
				* friends.map_or(1.0, |n| 1.0 - 1.0 / (n * n) as f64);
			let least = SLASH as f64 * PRICE as f64 / COIN as f64 / per_lie;
			let name = if friends.is_none() { "alone" } else { "third" };
			println!(
				"figure sessions_liar_q{coins}_{name}_profit = {profit:.0} [at most 0] coins a day, {who}, a point in every {coins} coins: \
				 {lies:.0} lies of {ANSWERS} answers of {} coins, found on {found:.3} of {DAYS} days; lies would pay with a stake below \
				 {least:.0} coins",
				PRICE as f64 / COIN as f64
			);
		}
	}
}
