//! Hash trees: a commitment to a list, and proofs of some of its leaves.
//!
//! The tree is binary and full: a list is followed by nothing up to a power of two, and a pair of nothing is nothing, so that neither
//! room nor time goes to what is not there. How many children are shown at once is another matter: [`Tree::below`] gives all hashes
//! some levels below one, 2^8 in [`crate::narrowing`]. So proofs are as short as a binary tree's and rounds as few as a wide one's.

use alloc::vec::Vec;

use polkadot_sdk::sp_crypto_hashing::blake2_256;

/// BLAKE2b-256.
pub type Hash = [u8; 32];

/// What stands where there is nothing.
pub const NOTHING: Hash = [0; 32];

/// The hash of a leaf.
pub fn leaf(bytes: &[u8]) -> Hash {
	let mut tagged = Vec::with_capacity(bytes.len() + 1);
	tagged.push(0);
	tagged.extend_from_slice(bytes);
	blake2_256(&tagged)
}

/// The hash above two.
pub fn pair(left: &Hash, right: &Hash) -> Hash {
	if left == &NOTHING && right == &NOTHING {
		return NOTHING;
	}
	let mut tagged = [1; 65];
	tagged[1..33].copy_from_slice(left);
	tagged[33..].copy_from_slice(right);
	blake2_256(&tagged)
}

/// Levels below the root of a tree of so many leaves.
pub const fn depth(leaves: u64) -> u32 {
	match leaves {
		0 | 1 => 0,
		_ => 64 - (leaves - 1).leading_zeros(),
	}
}

/// The root of a full tree below which these are all the hashes of a level.
pub fn above(hashes: &[Hash]) -> Hash {
	let mut level = hashes.to_vec();
	while level.len() > 1 {
		level = level
			.chunks(2)
			.map(|two| pair(&two[0], two.get(1).unwrap_or(&NOTHING)))
			.collect();
	}
	level.first().copied().unwrap_or(NOTHING)
}

/// The root that follows from some of a tree's leaves (by rising number) and the hashes beside them, in the order in which a walk from
/// left to right meets them. Nothing if those are not exactly as many as are needed.
pub fn climb(depth: u32, leaves: &[(u64, Hash)], beside: &[Hash]) -> Option<Hash> {
	let rising = leaves.windows(2).all(|two| two[0].0 < two[1].0);
	let there = leaves
		.last()
		.is_some_and(|last| depth >= 64 || last.0 >> depth == 0);
	if !rising || !there {
		return None;
	}
	let mut beside = beside.iter();
	let root = root(depth, leaves, &mut beside)?;
	beside.next().is_none().then_some(root)
}

fn root<'h>(
	level: u32,
	leaves: &[(u64, Hash)],
	beside: &mut impl Iterator<Item = &'h Hash>,
) -> Option<Hash> {
	let Some((first, hash)) = leaves.first() else {
		return beside.next().copied();
	};
	let Some(level) = level.checked_sub(1) else {
		return Some(*hash);
	};
	let right = (first >> level) | 1;
	let at = leaves.partition_point(|(n, _)| n >> level < right);
	let left = root(level, &leaves[..at], beside)?;
	let right = root(level, &leaves[at..], beside)?;
	Some(pair(&left, &right))
}

/// A tree with all its hashes, as whoever commits to it keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
	/// From the leaves to the root; what is nothing is left out.
	levels: Vec<Vec<Hash>>,
}

impl Tree {
	/// Over the hashes of leaves.
	pub fn new(leaves: Vec<Hash>) -> Self {
		let mut levels = Vec::from([leaves]);
		while let Some(last) = levels.last().filter(|last| last.len() > 1) {
			let next = last
				.chunks(2)
				.map(|two| pair(&two[0], two.get(1).unwrap_or(&NOTHING)))
				.collect();
			levels.push(next);
		}
		Self { levels }
	}

	/// Levels below the root.
	pub fn depth(&self) -> u32 {
		self.levels.len() as u32 - 1
	}

	/// The commitment.
	pub fn root(&self) -> Hash {
		self.hash(self.depth(), 0)
	}

	/// The hash with this number of a level, counted from the leaves.
	pub fn hash(&self, level: u32, n: u64) -> Hash {
		let level = self.levels.get(level as usize);
		let hash = level.and_then(|level| level.get(usize::try_from(n).ok()?));
		hash.copied().unwrap_or(NOTHING)
	}

	/// All hashes that stand so many levels below one.
	pub fn below(&self, level: u32, n: u64, down: u32) -> Vec<Hash> {
		let (level, first) = (level.saturating_sub(down), n << down);
		(first..first + (1 << down))
			.map(|n| self.hash(level, n))
			.collect()
	}

	/// The hashes beside some leaves, by rising number, for [`climb`].
	pub fn beside(&self, leaves: &[u64]) -> Vec<Hash> {
		beside(self.depth(), leaves, &|level, n| self.hash(level, n))
	}
}

/// The hashes beside some leaves of a tree of which `hash` knows every level.
pub fn beside(depth: u32, leaves: &[u64], hash: &dyn Fn(u32, u64) -> Hash) -> Vec<Hash> {
	fn walk(
		level: u32,
		n: u64,
		leaves: &[u64],
		hash: &dyn Fn(u32, u64) -> Hash,
		found: &mut Vec<Hash>,
	) {
		if leaves.is_empty() {
			found.push(hash(level, n));
		} else if let Some(below) = level.checked_sub(1) {
			let at = leaves.partition_point(|leaf| leaf >> below <= 2 * n);
			walk(below, 2 * n, &leaves[..at], hash, found);
			walk(below, 2 * n + 1, &leaves[at..], hash, found);
		}
	}
	let mut found = Vec::new();
	walk(depth, 0, leaves, hash, &mut found);
	found
}

#[cfg(test)]
mod tests {
	use proptest::prelude::*;

	use super::*;

	fn tree(count: u64) -> Tree {
		Tree::new((0..count).map(|n| leaf(&n.to_le_bytes())).collect())
	}

	proptest! {
		#[test]
		fn what_is_in_the_tree_is_proven_and_nothing_else(
			count in 1u64..300,
			picked in proptest::collection::btree_set(0u64..300, 1..12),
			other in any::<u8>(),
		) {
			let tree = tree(count);
			prop_assert_eq!(tree.depth(), depth(count));
			let picked: Vec<_> = picked.into_iter().filter(|n| *n < count).collect();
			prop_assume!(!picked.is_empty());
			let mut leaves: Vec<_> = picked.iter().map(|n| (*n, leaf(&n.to_le_bytes()))).collect();
			let mut hashes = tree.beside(&picked);
			prop_assert_eq!(climb(tree.depth(), &leaves, &hashes), Some(tree.root()));

			let at = usize::from(other) % leaves.len();
			leaves[at].1[3] ^= 1;
			prop_assert_ne!(climb(tree.depth(), &leaves, &hashes), Some(tree.root()));
			leaves[at].1[3] ^= 1;
			hashes.push(NOTHING);
			prop_assert_eq!(climb(tree.depth(), &leaves, &hashes), None);
			hashes.pop();
			if hashes.pop().is_some() {
				prop_assert_eq!(climb(tree.depth(), &leaves, &hashes), None);
			}
		}

		#[test]
		fn what_is_below_makes_what_is_above(count in 1u64..300, down in 0u32..9, n in any::<u64>()) {
			let tree = tree(count);
			let down = down.min(tree.depth());
			for level in down..=tree.depth() {
				let n = n & ((1 << (tree.depth() - level)) - 1);
				let below = tree.below(level, n, down);
				prop_assert_eq!(below.len(), 1 << down);
				prop_assert_eq!(above(&below), tree.hash(level, n));
			}
		}
	}

	#[test]
	fn a_leaf_beyond_the_tree_proves_nothing() {
		let tree = tree(4);
		let hashes = tree.beside(&[1]);
		let hash = leaf(&1u64.to_le_bytes());
		assert_eq!(climb(2, &[(1, hash)], &hashes), Some(tree.root()));
		assert_eq!(climb(2, &[(5, hash)], &hashes), None);
		assert_eq!(climb(2, &[(1, hash), (1, hash)], &hashes), None);
		assert_eq!(climb(2, &[], &[tree.root()]), None);
	}
}
