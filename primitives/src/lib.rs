//! The words that the runtime and the worker share.
//!
//! Everything a validator computes, posts or compares is defined here once, without I/O and without FRAME, so that
//! the runtime, the worker, the command line and tests cannot disagree about an encoding or a threshold.
//!
//! | module | what it holds |
//! |---|---|
//! | [`contribution`] | what validators contribute to the randomness that draws verifiers |
//! | [`crypto`] | the session key `infr` with which a validator signs its reports |
//! | [`model`] | what stands on chain about a model |
//! | [`manifest`] | everything that makes two validators compute the same thing; content-addressed |
//! | [`media`] | how pictures and sound become tensors, and scores words |
//! | [`tensor`] | element types, tensors on the wire |
//! | [`request`] | input, output |
//! | [`sampling`] | how tokens are chosen |
//! | [`challenge`] | what a round asks of its members, derived from one seed |
//! | [`evidence`] | what each member measured, and the commitments to it |
//! | [`comparison`] | medians, distances and judgements, in integer arithmetic |
//! | [`sketch`] | evidence of tensors: sums over all elements, with signs that the challenge draws |
//! | [`fixed`] | floats as fixed-point integers, read from their bits |
//! | [`report`] | duties, and the statements that discharge them |
//! | [`session`] | the session lane: vouchers, receipts, verdicts, and what is drawn and proved there |
//! | [`view`] | what clients are shown of models and requests |
//!
//! **Architecture invariant:** no `f32` or `f64` appears in this crate; floats pass through it as bits.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod challenge;
pub mod comparison;
pub mod contribution;
pub mod crypto;
pub mod evidence;
pub mod fixed;
pub mod manifest;
pub mod media;
pub mod model;
pub mod report;
pub mod request;
pub mod sampling;
pub mod session;
pub mod sketch;
pub mod tensor;
pub mod view;

use polkadot_sdk::sp_core::H256;

/// A model's name on chain: the BLAKE2b-256 hash of its SCALE-encoded [`manifest::Manifest`].
pub type ModelId = H256;

/// Number of a request, counted from zero in the order of submission.
pub type RequestId = u64;

/// Bytes on chain, at most `N` of them.
pub type Bytes<const N: u32> =
	polkadot_sdk::sp_runtime::BoundedVec<u8, polkadot_sdk::sp_core::ConstU32<N>>;

/// A list on chain, at most `N` entries long.
pub type List<T, const N: u32> =
	polkadot_sdk::sp_runtime::BoundedVec<T, polkadot_sdk::sp_core::ConstU32<N>>;
