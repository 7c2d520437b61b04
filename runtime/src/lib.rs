//! The Consilience runtime.
