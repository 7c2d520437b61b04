//! What each member of a round measured, and the commitments to it.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};
use scale_info::TypeInfo;
use serde::{Deserialize, Serialize};

use crate::{
	model::{NumericClass, VerificationPolicy},
	request::{Output, Unanswerable},
	sketch::sketch,
	tensor::{Tensor, TensorError},
	List, RequestId,
};

/// Most values of a fingerprint.
pub const MAX_VALUES: u32 = 64;

/// Random bytes that keep a commitment from being guessed.
pub type Salt = [u8; 16];

/// What the model's numbers were: at the places that the challenge drew (text), or summed as it drew (tensors).
#[derive(
	Clone,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Fingerprint {
	/// Exact class: the first half of a BLAKE2b-256 hash over the bits.
	Digest([u8; 16]),
	/// Tolerant class.
	Values {
		/// Tag of what is compared exactly of tensors ([`sketch`]); zero for text.
		#[codec(compact)]
		tag: u32,
		/// Fixed-point values in steps of the policy, compared within its bounds.
		values: List<i32, MAX_VALUES>,
	},
}

/// What the answer's tokens are worth to the model: all zero if every one is what it would have said.
///
/// Margins are the perturbed score of the best token minus that of the claimed one, in 2⁻¹⁶ of a logit. Tasks whose
/// answer is compared itself leave this zero.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
pub struct Verdict {
	/// Largest margin; [`u32::MAX`] for an answer that no model could give: an impossible token, a wrong end, text that is
	/// not what the tokens say.
	#[codec(compact)]
	pub margin_max: u32,
	/// Mean over all answer positions, each clipped to 16 logits.
	#[codec(compact)]
	pub margin_mean: u32,
	/// Positions with a margin over the policy's accepted maximum.
	#[codec(compact)]
	pub deviations: u32,
}

impl Verdict {
	/// Of an answer that the model cannot have given.
	pub const IMPOSSIBLE: Self = Self {
		margin_max: u32::MAX,
		margin_mean: u32::MAX,
		deviations: 1,
	};
}

/// One member's measurement.
#[derive(
	Clone,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	Serialize,
	Deserialize,
)]
pub struct Evidence {
	/// That the member ran the model.
	pub fingerprint: Fingerprint,
	/// What it says of the answer.
	pub verdict: Verdict,
	/// The fingerprint under the challenge of the round that is disputed; only jurors have one, and it is what that round's
	/// members are judged by.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub prior: Option<Fingerprint>,
}

impl Evidence {
	/// Whether the fingerprint is of the kind that the class asks for.
	pub const fn is_of(&self, class: NumericClass) -> bool {
		self.fingerprint.is_of(class)
			&& match &self.prior {
				Some(prior) => prior.is_of(class),
				None => true,
			}
	}

	/// The evidence that a graph's outputs give under a challenge: a digest of everything (exact class), or a [`sketch`] of it
	/// (tolerant class).
	pub fn of_tensors(
		outputs: &[Tensor],
		seed: &H256,
		policy: &VerificationPolicy,
	) -> Result<Self, TensorError> {
		let fingerprint = match policy.class {
			NumericClass::Exact => (seed, outputs).using_encoded(Fingerprint::digest),
			NumericClass::Tolerant => {
				let (tag, values) = sketch(outputs, seed, policy.positions, policy.fraction_bits)?;
				Fingerprint::Values {
					tag,
					// Policies that ask for more values are refused; what goes beyond is not compared.
					values: List::truncate_from(values),
				}
			}
		};
		Ok(Self {
			fingerprint,
			verdict: Verdict::default(),
			prior: None,
		})
	}

	/// Evidence about the claim that an input cannot be answered, by a member that found `found` when it tried. It is compared as
	/// in the exact class, whatever the model's: see [`VerificationPolicy::for_output`].
	pub fn of_claim(claimed: Unanswerable, found: Option<Unanswerable>, challenge: &H256) -> Self {
		Self {
			fingerprint: (b"consilience/unanswerable", challenge, claimed)
				.using_encoded(Fingerprint::digest),
			verdict: if found == Some(claimed) {
				Verdict::default()
			} else {
				Verdict::IMPOSSIBLE
			},
			prior: None,
		}
	}

	/// Evidence about an answer, by a member whose machine cannot answer the input at all: the answer is none that the model gives.
	pub fn of_refusal(class: NumericClass, challenge: &H256) -> Self {
		Self {
			fingerprint: match class {
				NumericClass::Exact => {
					(b"consilience/refusal", challenge).using_encoded(Fingerprint::digest)
				}
				NumericClass::Tolerant => Fingerprint::Values {
					tag: u32::MAX,
					values: List::new(),
				},
			},
			verdict: Verdict::IMPOSSIBLE,
			prior: None,
		}
	}

	/// Commitment to this evidence by `member` in the round over `request`.
	///
	/// It is bound to the member, so that nobody can commit to a copy of another's commitment, and to the challenge, so that it
	/// is worth nothing in another round or on a fork that parted before the draw. Forks that part later share the challenge:
	/// against them members reveal only what is committed to in a final block.
	pub fn commitment(
		&self,
		request: RequestId,
		challenge: &H256,
		member: &impl Encode,
		salt: &Salt,
	) -> H256 {
		H256(
			(
				b"consilience/evidence",
				request,
				challenge,
				member,
				salt,
				self,
			)
				.using_encoded(blake2_256),
		)
	}
}

impl Fingerprint {
	/// Whether it is of the kind that the class asks for.
	pub const fn is_of(&self, class: NumericClass) -> bool {
		matches!(
			(self, class),
			(Self::Digest(_), NumericClass::Exact) | (Self::Values { .. }, NumericClass::Tolerant)
		)
	}

	/// The digest of these bytes.
	pub fn digest(bytes: &[u8]) -> Self {
		let hash = blake2_256(bytes);
		let mut half = [0u8; 16];
		half.copy_from_slice(&hash[..16]);
		Self::Digest(half)
	}
}

/// Commitment of an executor to an output that it shows only when the round reveals.
pub fn output_commitment(
	output: &Output,
	request: RequestId,
	executor: &impl Encode,
	salt: &Salt,
) -> H256 {
	H256((b"consilience/output", request, executor, salt, output).using_encoded(blake2_256))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tensor::DataType;
	use core::slice::from_ref;

	fn tensor(name: &str, values: &[f32]) -> Tensor {
		Tensor {
			name: name.as_bytes().to_vec().try_into().unwrap(),
			datatype: DataType::Fp32,
			shape: vec![values.len() as u32].try_into().unwrap(),
			data: values
				.iter()
				.flat_map(|v| v.to_le_bytes())
				.collect::<Vec<_>>()
				.try_into()
				.unwrap(),
		}
	}

	fn policy(class: NumericClass, positions: u8) -> VerificationPolicy {
		VerificationPolicy {
			class,
			positions,
			entries: 0,
			fraction_bits: 4,
			accept: Default::default(),
			fraud: Default::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		}
	}

	fn values(outputs: &[Tensor], positions: u8) -> Vec<i32> {
		let policy = policy(NumericClass::Tolerant, positions);
		let evidence = Evidence::of_tensors(outputs, &H256::zero(), &policy).unwrap();
		match evidence.fingerprint {
			Fingerprint::Values { values, .. } => values.into_inner(),
			Fingerprint::Digest(_) => panic!("tolerant evidence has values"),
		}
	}

	#[test]
	fn few_elements_are_compared_one_by_one_across_outputs() {
		let outputs = [
			tensor("a", &[1.0, 2.0]),
			tensor("empty", &[]),
			tensor("b", &[3.0, 4.0, 5.0]),
		];
		assert_eq!(values(&outputs, 64), [16, 32, 48, 64, 80]);
	}

	#[test]
	fn one_output_number_is_enough() {
		assert_eq!(values(&[tensor("p", &[0.5])], 16), [8]);
	}

	#[test]
	fn a_policy_that_asks_for_too_many_values_gets_what_evidence_holds() {
		let outputs = [tensor("p", &[0.5; 300])];
		assert_eq!(values(&outputs, 255).len(), MAX_VALUES as usize);
	}

	#[test]
	fn another_shape_or_bit_is_another_fingerprint() {
		let of = |t: &[Tensor], class| {
			Evidence::of_tensors(t, &H256::zero(), &policy(class, 8)).unwrap()
		};
		let (a, mut b) = (tensor("a", &[1.0, 2.0]), tensor("a", &[1.0, 2.0]));
		b.shape = vec![1, 2].try_into().unwrap();
		assert_ne!(
			of(from_ref(&a), NumericClass::Tolerant),
			of(&[b], NumericClass::Tolerant)
		);
		let near = tensor("a", &[1.0, f32::from_bits(2.0f32.to_bits() + 1)]);
		assert_eq!(
			of(from_ref(&a), NumericClass::Tolerant),
			of(from_ref(&near), NumericClass::Tolerant)
		);
		assert_ne!(
			of(&[a], NumericClass::Exact),
			of(&[near], NumericClass::Exact)
		);
	}

	#[test]
	fn commitments_bind_everything() {
		let evidence = Evidence {
			fingerprint: Fingerprint::Digest([1; 16]),
			verdict: Verdict::default(),
			prior: None,
		};
		let base = evidence.commitment(1, &H256::zero(), &1u32, &[0; 16]);
		assert_ne!(base, evidence.commitment(2, &H256::zero(), &1u32, &[0; 16]));
		assert_ne!(
			base,
			evidence.commitment(1, &H256::repeat_byte(1), &1u32, &[0; 16])
		);
		assert_ne!(base, evidence.commitment(1, &H256::zero(), &2u32, &[0; 16]));
		assert_ne!(base, evidence.commitment(1, &H256::zero(), &1u32, &[1; 16]));
	}
}
