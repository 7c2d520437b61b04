//! What nodes say to each other about models. SCALE, one answer to each question.

use codec::{Decode, DecodeAll, Encode};
use consilience_primitives::{manifest::MAX_CHUNK, ModelId};
use polkadot_sdk::sp_core::H256;

/// Most bytes of a [`Request`].
pub const MAX_REQUEST: u64 = 64;

/// Most bytes of a manifest: the chunks of a model of 64 GiB have eight MiB.
pub const MAX_MANIFEST: usize = 12 << 20;

/// Most bytes of a [`Response`] with a manifest, which has a protocol of its own.
pub const MAX_MANIFEST_RESPONSE: u64 = MAX_MANIFEST as u64 + 64;

/// Most bytes of every other [`Response`].
pub const MAX_RESPONSE: u64 = MAX_CHUNK as u64 + 64;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
	/// A model's manifest.
	Manifest(ModelId),
	/// Which pieces of a model are there.
	Holding(ModelId),
	/// The piece with this hash.
	Piece(H256),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Response {
	/// It is not here.
	Unknown,
	/// Too much is being asked for; ask again later.
	Busy,
	/// The manifest, SCALE-encoded: the model's id is the hash of these bytes.
	Manifest(Vec<u8>),
	/// All pieces are there.
	All,
	/// A bit for each piece, in the order of [`consilience_store::Piece::of`], the lowest of a byte first.
	Some(Vec<u8>),
	/// A piece.
	Piece(Vec<u8>),
}

/// Reads a message; what stands behind it makes it none.
pub(crate) fn read<T: Decode>(bytes: &[u8]) -> Option<T> {
	T::decode_all(&mut &bytes[..]).ok()
}

/// Bits of flags, the lowest of a byte first.
pub(crate) fn bits(flags: &[bool]) -> Vec<u8> {
	let byte = |eight: &[bool]| {
		let bit = |(place, set): (usize, &bool)| u8::from(*set) << place;
		eight.iter().enumerate().map(bit).fold(0, |a, b| a | b)
	};
	flags.chunks(8).map(byte).collect()
}

/// So many flags of bits. What is missing is not set.
pub(crate) fn flags(bits: &[u8], count: usize) -> Vec<bool> {
	let bit = |place: usize| {
		bits.get(place / 8)
			.is_some_and(|byte| byte & (1 << (place % 8)) != 0)
	};
	(0..count).map(bit).collect()
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use proptest::prelude::*;

	proptest! {
		#[test]
		fn flags_are_bits(given: Vec<bool>) {
			prop_assert_eq!(flags(&bits(&given), given.len()), given);
		}

		#[test]
		fn whatever_a_peer_sends_is_read_or_refused(bytes: Vec<u8>) {
			if let Some(request) = read::<Request>(&bytes) {
				prop_assert_eq!(request.encode(), bytes.clone());
			}
			if let Some(response) = read::<Response>(&bytes) {
				prop_assert_eq!(response.encode(), bytes);
			}
		}
	}

	#[test]
	fn every_message_fits() {
		for request in [
			Request::Manifest(H256::zero()),
			Request::Holding(H256::zero()),
			Request::Piece(H256::zero()),
		] {
			assert!(request.encoded_size() as u64 <= MAX_REQUEST);
		}
		let piece = Response::Piece(vec![0; MAX_CHUNK as usize]);
		let manifest = Response::Manifest(vec![0; MAX_MANIFEST]);
		assert!(piece.encoded_size() as u64 <= MAX_RESPONSE);
		assert!(manifest.encoded_size() as u64 <= MAX_MANIFEST_RESPONSE);
	}
}
