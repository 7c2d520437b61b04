//! The engine through its public interface, on graphs small enough to stand in the repository.

#![allow(clippy::unwrap_used)]

mod cards;
mod cuda;
mod exactness;
mod fixtures;
mod hostile;
mod inputs;
mod integer;
mod isolation;
mod judged;
mod memory;
mod process;
mod streams;
mod tensors;
mod text;
mod unanswerable;
