//! Where `top_k` and `min_p` cut the vocabulary off.

use super::nucleus::highest;

/// Entries of which the highest stands for all.
const GROUP: usize = 64;

/// The smallest number in single precision that is not below this.
pub(super) fn at_least(x: f64) -> f32 {
	let near = x as f32;
	if f64::from(near) < x {
		near.next_up()
	} else {
		near
	}
}

/// The `k`-th highest of logits, equal ones counted each; the lowest where there are fewer. `k` is not zero.
pub(super) fn kth(logits: &[f32], k: usize, room: &mut Vec<f32>) -> f32 {
	let k = k.min(logits.len());
	room.clear();
	if k <= logits.len() / GROUP {
		// So many groups hold an entry at least as high as the k-th of their highest: nothing below that is the k-th of all.
		room.extend(logits.chunks(GROUP).map(highest));
		let bound = select(room, k);
		room.clear();
		room.extend(logits.iter().filter(|l| **l >= bound));
	} else {
		room.extend_from_slice(logits);
	}
	select(room, k)
}

fn select(numbers: &mut [f32], k: usize) -> f32 {
	*numbers
		.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
		.1
}

/// The least logit of an entry that is `min_p` times as likely as the highest, or more.
pub(super) fn min_p(highest: f64, temperature: f64, min_p: f64) -> f64 {
	highest + temperature * libm::log(min_p)
}

#[cfg(test)]
mod tests {
	use super::*;
	use core::f64::consts::LN_2;
	use proptest::prelude::*;

	#[test]
	fn min_p_is_a_share_of_the_highest_probability() {
		// A quarter is half of a half.
		let least = min_p(3.0, 1.0, 0.25);
		assert!((least - (3.0 - 2.0 * LN_2)).abs() < 1e-9, "{least}");
		// At half the temperature probabilities fall twice as fast.
		let least = min_p(3.0, 0.5, 0.25);
		assert!((least - (3.0 - LN_2)).abs() < 1e-9, "{least}");
		assert_eq!(min_p(3.0, 0.7, 1.0), 3.0);
	}

	#[test]
	fn rounding_never_lets_in_what_is_below() {
		assert_eq!(at_least(0.5), 0.5);
		for x in [0.1, -0.1, 1e-50, -1e-50, 123.456] {
			assert!(f64::from(at_least(x)) >= x, "{x}");
			assert!(f64::from(at_least(x).next_down()) < x, "{x}");
		}
	}

	proptest! {
		#[test]
		fn the_kth_is_that_of_the_sorted(
			logits in prop_oneof![
				prop::collection::vec(-20f32..20.0, 1..3_000),
				prop::collection::vec((-9i8..9).prop_map(f32::from), 1..3_000),
			],
			k in prop_oneof![1usize..40, 1usize..4_000],
		) {
			let mut sorted = logits.clone();
			sorted.sort_by(|a, b| b.total_cmp(a));
			let expected = sorted[k.min(sorted.len()) - 1];
			prop_assert_eq!(kth(&logits, k, &mut Vec::new()), expected);
		}
	}
}
