//! Networks of real nodes for tests: processes of the built binary, watched through their RPC.
//!
//! `CONSILIENCE_BIN` names the binary; without it, it is looked for beside the tests' own target folder. Models are those that
//! `scripts/setup models` makes (`CONSILIENCE_MODELS`, or `$CONSILIENCE_HOME/models`). What is missing fails a test; nothing is
//! skipped. Everything waits for events; [`PATIENCE`] only ends what would never end.

mod client;
mod clock;
mod command;
mod fixture;
mod lines;
mod network;
mod place;
mod story;
mod wallet;

pub use client::{total_of, Client, Header, Included};
pub use clock::Clock;
pub use command::{cli, infer, Answer};
pub use fixture::{cheap_model, heavy, picky, priced, quick, tiny_model, with_another_reference};
pub use network::{free_address, Network, Node, Options, NAMES, SEVEN};
pub use place::{binary, liars_binary, model};
pub use story::{RequestEvent, Story};
pub use wallet::{amount, paid, receipt, Wallet};

use std::{future::Future, time::Duration};

/// The longest that a single wait may take, loading a model on a busy machine included.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The output of a wait; panics with `what` if it takes too long.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
	match tokio::time::timeout(PATIENCE, wait).await {
		Ok(value) => value,
		Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
	}
}
