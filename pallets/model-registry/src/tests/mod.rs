//! Behaviour of the registry.

mod registration;
mod serving;
