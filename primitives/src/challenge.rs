//! What a round asks of its members, derived from one seed.
//!
//! The seed is drawn on chain after the answer (or its commitment) is in a block. Everything else follows from it by
//! hashing, so that runtime and worker derive the same positions without exchanging them.

use alloc::{collections::BTreeSet, vec::Vec};
use codec::Encode;
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

/// Draws `count` distinct numbers below `bound`, ascending; all of them where there are no more than that.
///
/// `domain` separates independent draws from one seed. The bias of reducing 64 bits modulo a 32-bit bound is below 2⁻³².
pub fn draw(seed: &H256, domain: u32, count: u32, bound: u32) -> Vec<u32> {
	if bound <= count {
		return (0..bound).collect();
	}
	// Drawing the smaller of the set and its complement keeps the expected number of hashes below 2 × count.
	if count > bound / 2 {
		let left_out: BTreeSet<u32> = draw(seed, domain, bound - count, bound)
			.into_iter()
			.collect();
		return (0..bound).filter(|n| !left_out.contains(n)).collect();
	}
	let mut drawn = BTreeSet::new();
	for block in 0u32.. {
		let hash = (seed, domain, block).using_encoded(blake2_256);
		for word in hash.chunks_exact(8) {
			let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes; qed"));
			if drawn.len() as u32 == count {
				return drawn.into_iter().collect();
			}
			drawn.insert((word % u64::from(bound)) as u32);
		}
	}
	unreachable!("2^34 draws hit fewer than half of the numbers with probability zero; qed")
}

/// Positions of prompt and answer whose logits make the fingerprint. `positions` counts the tokens fed to the model:
/// prompt and answer without the answer's last token.
pub fn positions(seed: &H256, count: u8, positions: u32) -> Vec<u32> {
	draw(seed, 0, count.into(), positions)
}

/// Vocabulary entries whose logits are compared at `position` (tolerant class). What a challenge asks of tensors:
/// [`crate::sketch`].
pub fn entries(seed: &H256, position: u32, count: u8, vocabulary: u32) -> Vec<u32> {
	draw(seed, 1 + position, count.into(), vocabulary)
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	proptest! {
		#[test]
		fn distinct_sorted_in_bounds(seed: [u8; 32], domain: u32, count in 0u32..200, bound in 0u32..1_000) {
			let drawn = draw(&seed.into(), domain, count, bound);
			prop_assert_eq!(drawn.len() as u32, count.min(bound));
			prop_assert!(drawn.windows(2).all(|w| w[0] < w[1]));
			prop_assert!(drawn.iter().all(|n| *n < bound));
		}
	}

	#[test]
	fn every_number_is_drawn_about_equally_often() {
		let mut hits = [0u32; 10];
		for i in 0..2_000u32 {
			for n in draw(&H256(blake2_256(&i.encode())), 7, 3, 10) {
				hits[n as usize] += 1;
			}
		}
		// 600 expected; five standard deviations are about 103.
		assert!(hits.iter().all(|h| (497..=703).contains(h)), "{hits:?}");
	}
}
