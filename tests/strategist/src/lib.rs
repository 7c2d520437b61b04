//! # The strategist
//!
//! Plays Consilience's real runtime as a party of validators that thinks, and searches for ways in which it earns more than honest
//! work. What it tries, and what it found, is told in `docs/strategist.md`.
//!
//! - [`world`]: the chain, natively, and all that depends on how the runtime is put together.
//! - [`honest`]: what honest validators do, with a pure function in place of the engine.
//! - [`policy`]: tables of decisions, which can be mutated and read aloud.
//! - [`party`]: a party that does what a policy says.
//! - [`mod@play`]: one play over the end of an era, and what it came to.
//! - [`load`]: everybody is honest and much is asked: what a request weighs, and how many are answered.
//! - [`capacity`]: many machines of different speed serve many models, and more and more is asked of them.
//! - [`search`]: random policies, hill climbing with restarts, best responses, and forbidding what was found.
//! - [`report`]: what was tried and found, for people and for programs.

pub mod capacity;
pub mod honest;
pub mod load;
pub mod party;
pub mod play;
pub mod policy;
pub mod report;
pub mod search;
pub mod world;
