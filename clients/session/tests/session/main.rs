//! The client on a chain of scripted validators, honest and lying.

#![allow(clippy::unwrap_used)]

mod asking;
mod checking;
mod double;
mod keeping;
mod money;
mod real;
