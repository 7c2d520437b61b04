//! The gateway: OpenAI's, Anthropic's and the Open Inference Protocol's interfaces before a Consilience network.
//!
//! A call becomes one request on chain or several (the *direct lane*), is followed to the state that the caller waits for, and is answered
//! in the interface's own shape. Where the gateway has a channel, text is generated in the *session lane* instead: a validator answers
//! directly, and others check ([`lane`]). What the interfaces have no word for stands in an object `consilience` of the reply: the
//! request's number, how far it is, who answered and who checked ([`status`]).
//!
//! The crate knows the chain through the traits [`network::Network`] and [`lane::Lane`] alone, and uses no other crate of this repository:
//! the node's program binds the two.
//!
//! **Invariants**
//!
//! 1. An answer is called `checked` or `final` only when it is.
//! 2. What is sent stands in the journal before it is sent. A call that is repeated with its idempotency key makes no second request,
//!    whatever crashed in between.
//! 3. What a key may spend is set apart before anything is sent.
//! 4. A stream ends cleanly only with the whole answer, as far as the caller waited for. No text of one validator is mixed with that of
//!    another.

mod anthropic;
mod app;
pub mod auth;
mod budget;
mod channels;
pub mod config;
mod constraint;
pub mod error;
mod fields;
mod inference_protocol;
mod jobs;
pub mod journal;
pub mod lane;
pub mod metrics;
pub mod network;
mod openai;
mod relay;
pub mod server;
mod sse;
pub mod status;
mod talk;
mod tools;
mod watch;
mod web;

pub use config::Config;
pub use server::{Gateway, StartError};

/// Target of this crate's log lines.
pub const LOG_TARGET: &str = "gateway";
