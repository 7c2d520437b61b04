//! Tests of disputes, from the first stand to the last bond.

mod dispute;
mod ends;
mod properties;
