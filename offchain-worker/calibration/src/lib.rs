//! Calibration: how far honest and dishonest answers of a model are apart, and which policy follows from it.
//!
//! Honest distances are those between different ways of running the same model ([`configuration`]): threads, optimisation
//! levels, execution providers, ONNX Runtime libraries, each in an engine process of its own. Dishonest answers are written by
//! substitutes, to altered prompts or at altered temperatures, cut short, padded, or changed in one token, with the executor's
//! own evidence or with evidence that it fabricated with the true model.
//!
//! Half of the questions make a policy ([`policy`]): powers of two, no less than the largest honest difference, seen here or known from
//! other machines, times a slack.
//! The other half are measured under that policy and judged by the protocol's own comparison, committee and jury, so that what
//! is reported is what the chain would decide. In doubt a figure is the one that is worse for the chain: an honest answer counts
//! as disputed if *any* committee of the configurations disputes it under *any* of its challenges, a dishonest one as caught only
//! if *all* committees refuse it (under one challenge, as on chain). The unit of all rates is an answer, and their intervals are
//! Clopper and Pearson's
//! ([`statistics`]). Rates at different lengths come from beginnings of the same answers: they are not independent of each
//! other.
//!
//! **Architecture invariant:** nothing here runs on chain, and nothing that does depends on it. It knows the engine, and not
//! ONNX Runtime.

mod command;
pub mod configuration;
mod distance;
mod engines;
mod error;
mod judge;
mod liars;
mod model;
pub mod policy;
mod process;
mod questions;
mod report;
mod run;
pub mod statistics;
mod tally;

pub use command::CalibrateCommand;
pub use error::CalibrationError;
pub use process::{serve, EngineProgram};
pub use questions::{prompt, BUILT_IN};
pub use report::{
	Column, ConfigurationReport, DeviationReport, HonestRow, KindReport, Machine, Report, Sample,
	WrongTokens,
};
pub use run::{calibrate, Options};
