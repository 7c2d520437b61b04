//! The pallets' configurations, by subject.

pub mod consensus;
pub mod governance;
pub mod inference;
pub mod staking;
pub mod system;
