//! The session lane on this node: its chain and its engine.

mod chain;
mod engine;

pub use chain::RuntimeLane;
pub use engine::LaneEngine;
