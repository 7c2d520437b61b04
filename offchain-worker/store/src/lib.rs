//! Models on disk.
//!
//! ```text
//! <store>/<model id>/manifest.json    what is hashed to the id
//!                   /manifest.scale   the same, as it is hashed
//!                   /price.json       the card's price, if it named one: not part of the model
//!                   /…                the manifest's files
//!        /.fetch-<model id>/…         a model that arrives piece by piece: `partial.rs`
//! ```
//!
//! **Architecture invariant:** no byte of a model reaches a parser before its hash is checked. A folder with a manifest is
//! checked chunk by chunk before it is copied in; a bare folder with a card is hashed first, and becomes a model only after the
//! engine, in whatever process it runs, has loaded it and reproduced nothing but what was hashed.

mod card;
mod draft;
mod hash;
mod hub;
mod import;
mod media;
mod onnx;
pub mod open_inference;
mod partial;
mod store;

pub use card::{Card, CardReference, Signature};
pub use draft::{Draft, Inspected, Prober, Wishes};
pub use hash::{hash_file, verify_file, FileError};
pub use import::{Import, ImportError, Measured, Progress, Runner};
pub use partial::{read_at, Partial, Piece, PieceError};
pub use store::{Store, StoreError, StoredModel, ENCODED};
