//! The pallets' configurations, by subject.

pub mod consensus;
pub mod governance;
pub mod inference;
pub mod sessions;
pub mod staking;
pub mod system;
