//! The last judge: what every number of a graph of the integer class is, and how a dispute about one is narrowed down to it.
//!
//! In a graph of the integer class every sum is one of whole numbers, and everything else one correctly rounded operation on single
//! elements. So there is one right trace of a run: all numbers between its inputs and its answer. Whoever claims an answer commits to
//! such a trace; whoever says that the answer is false is shown a few hashes at a time, points at the first tensor that differs from
//! what it has computed itself, and at one element of it; and the judge recomputes that element, or a short part of a sum, from what it
//! is shown of tensors on which both agree. A majority has no say in it.
//!
//! | module | content |
//! |---|---|
//! | [`float`] | IEEE arithmetic on bits |
//! | [`value`] | elements and their types |
//! | [`program`] | what a graph computes, rule by rule |
//! | [`element`] | what one element is: the definition of every operator |
//! | [`tree`] | commitments |
//! | [`trace`] | commitments to all tensors of a run, and proofs of some elements |
//! | [`narrowing`] | the game of whoever doubts a trace against whoever stands for it |
//! | [`play`] | how an honest side plays it |
//! | [`standing`] | which traces of an answer stand, who answers for them, and what follows |
//! | [`disputed`] | what pallets say to each other about a dispute |
//!
//! **Architecture invariant:** no `f32` or `f64` appears in this crate; it knows neither chain nor graph's files.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod disputed;
pub mod element;
pub mod float;
pub mod narrowing;
pub mod play;
pub mod program;
pub mod standing;
pub mod trace;
pub mod tree;
pub mod value;
