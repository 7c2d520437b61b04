//! Tests of whole conversions.

mod architectures;
mod blocks;
mod fixtures;
mod hostile;
mod smollm2;
