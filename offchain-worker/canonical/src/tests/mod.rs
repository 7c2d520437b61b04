//! Tests of whole conversions.

mod architectures;
mod blocks;
mod contexts;
mod fixtures;
mod hostile;
mod integer;
mod judged;
mod published;
mod smollm2;
mod transformers;
