//! Runs ONNX models: tensors, embeddings, text generation, and evidence of each.
//!
//! This is the only crate that knows ONNX Runtime. A node runs it in a process of its own ([`server`], [`client`]), so that a
//! crash in the runtime, in a driver or through a hostile model file ends that process and never block production. The same
//! [`Engine`] can be used in-process by tools.
//!
//! What it computes is defined so that every honest machine gets the same: sampling noise comes from a stream cipher keyed by
//! the request's seed and a software logarithm ([`text::sampling`]); in the exact class the graph itself gives equal bits.

pub mod client;
mod embedding;
mod engine;
mod error;
pub mod exactness;
mod external;
mod integer;
pub mod isolation;
pub mod judged;
mod library;
mod onnx;
mod probe;
pub mod protocol;
pub mod server;
mod session;
mod stream;
pub mod tensor;
pub mod text;
mod ticket;

pub use engine::{Engine, EngineConfig, Statistics};
pub use error::EngineError;
pub use library::{cuda_present, disable_telemetry, find_library};
pub use probe::{chat_overhead, Probe};
pub use session::{GraphInfo, Provider};
pub use stream::{Piece, TokenStream};
pub use text::measure::Part;
pub use text::scheduler::TextStatistics;
pub use text::template::{probe as probe_template, Order, Reception};

/// Target of this crate's log lines.
pub const LOG_TARGET: &str = "engine";
