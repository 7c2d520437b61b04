//! What validators contribute to the randomness that draws the verifiers of a block's answers.
//!
//! A contribution is the output of a verifiable random function (Micali, Rabin, Vadhan 1999; here the one of `schnorrkel` over
//! Ristretto) of the validator's `infr` key: for each key and input there is one output, nobody else can know it, and everybody can
//! check it. Its input is the block before: until that is there, no contribution exists, and on another fork it is another.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::sp_core::{
	crypto::VrfPublic,
	sr25519::{
		self,
		vrf::{VrfSignData, VrfSignature, VrfTranscript},
	},
	H256,
};
use scale_info::TypeInfo;

use crate::crypto::InferenceId;

/// A validator's contribution to the randomness of a block.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Contribution<BlockNumber> {
	/// The block. It can stand in this block or in one of the next few.
	pub block: BlockNumber,
	/// The validator's session key.
	pub key: InferenceId,
	/// The function's output: 32 bytes of a point, the only ones for this key and block.
	pub output: [u8; 32],
	/// The proof that they are: 64 bytes of two scalars.
	pub proof: [u8; 64],
}

/// What a validator signs with [`sr25519::vrf`] to contribute to the randomness of the block that follows `parent`.
pub fn input(genesis: &H256, parent: &H256) -> VrfSignData {
	let data: [(&'static [u8], &[u8]); 2] = [
		(b"genesis", genesis.as_bytes()),
		(b"parent", parent.as_bytes()),
	];
	VrfTranscript::new(b"consilience/contribution", &data).into_sign_data()
}

impl<BlockNumber> Contribution<BlockNumber> {
	/// What a key has signed ([`input`]), as a contribution.
	pub fn new(block: BlockNumber, key: InferenceId, signed: &VrfSignature) -> Self {
		Self {
			block,
			key,
			output: *signed.pre_output.0.as_bytes(),
			proof: signed.proof.0.to_bytes(),
		}
	}

	/// Whether this is the key's output for the block that follows `parent`.
	pub fn is_right(&self, genesis: &H256, parent: &H256) -> bool {
		let bytes = (self.output, self.proof).encode();
		let public = sr25519::Public::from(self.key.clone());
		VrfSignature::decode(&mut &bytes[..])
			.is_ok_and(|signed| public.vrf_verify(&input(genesis, parent), &signed))
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::crypto::InferencePair;
	use polkadot_sdk::sp_core::{crypto::VrfSecret, ByteArray, Pair};

	fn contribution(seed: u8, genesis: &H256, parent: &H256) -> Contribution<u32> {
		let pair = InferencePair::from_seed(&[seed; 32]);
		let signed = sr25519::Pair::from(pair.clone()).vrf_sign(&input(genesis, parent));
		Contribution::new(7, pair.public(), &signed)
	}

	#[test]
	fn a_key_has_one_output_for_each_parent_of_each_chain() {
		let [a, b, c] = [1, 2, 3].map(H256::repeat_byte);
		let one = contribution(1, &a, &b);
		assert!(one.is_right(&a, &b));
		let again = contribution(1, &a, &b);
		assert_eq!(again.output, one.output);
		// The proof is another each time, and proves the same.
		assert!(again.is_right(&a, &b));
		for other in [
			contribution(1, &a, &c),
			contribution(1, &c, &b),
			contribution(2, &a, &b),
		] {
			assert_ne!(other.output, one.output);
		}
	}

	#[test]
	fn what_is_somebody_else_s_or_of_another_block_is_wrong() {
		let [a, b, c] = [1, 2, 3].map(H256::repeat_byte);
		let right = contribution(1, &a, &b);
		assert!(!right.is_right(&a, &c));
		assert!(!right.is_right(&c, &b));
		let other = contribution(2, &a, &b);
		let wrong = [
			Contribution {
				key: other.key.clone(),
				..right.clone()
			},
			Contribution {
				output: other.output,
				..right.clone()
			},
			Contribution {
				proof: other.proof,
				..right.clone()
			},
			Contribution {
				output: [255; 32],
				..right.clone()
			},
			Contribution {
				proof: [255; 64],
				..right.clone()
			},
			Contribution {
				key: InferenceId::from_slice(&[255; 32]).expect("32 bytes"),
				..right
			},
		];
		for (place, wrong) in wrong.iter().enumerate() {
			assert!(!wrong.is_right(&a, &b), "{place}");
		}
	}
}
