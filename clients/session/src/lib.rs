//! The session lane's client: asks executors, pays by the slice, gets answers checked, keeps receipts.
//!
//! ```text
//! Wallet::create ── key, tip ──▶ sessions.open ── channel ──▶ Wallet::bind ──▶ Client::open ──▶ Client::ask ──▶ Event, Event, …
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`chain`] | what a client sees of the chain: a trait |
//! | [`wallet`] | keys, numbers, vouchers and records on disk |
//! | `client` | choosing executors, and going on to the next |
//! | `connection` | WebSocket and messages |
//! | `kept` | connections between two questions |
//! | [`release()`] | taking back what a payee of a closing channel has not earned |
//! | `executor` | a stream: what is verified, shown and paid |
//! | `checks` | checkers in the order of the draw |
//! | [`record`] | what there is to show for a request, and its verification |
//! | [`error`] | what goes wrong, and what to do about it |
//!
//! What holds, whatever validators send:
//! - nothing is signed away beyond the price of the question and the tokens that came, signed and in their order;
//! - what is signed is written down first, rises, and no number is used twice ([`wallet`]);
//! - a preimage, from which those of all lower numbers follow, is shown to checkers only when each of these has its receipt or is over, and
//!   no receipt for any of them is taken afterwards;
//! - an answer is called checked only where drawn checkers signed that it is right, and none that it is wrong ([`Status`]).

mod checks;
mod client;
mod connection;
mod executor;
mod kept;
mod locks;
mod release;

pub mod chain;
pub mod error;
pub mod record;
pub mod wallet;

pub use client::{Answer, AskOptions, Client, Event, Quote, Settings};
pub use error::{Error, Fault, WalletError};
pub use record::{Finding, Record, Status};
pub use release::release;
pub use wallet::Wallet;

use tokio::sync::mpsc::UnboundedSender;

const LOG_TARGET: &str = "consilience::session";

/// Where events go. They are no more than an answer's tokens and a candidate's few, so that nothing has to hold them back.
#[derive(Clone)]
pub(crate) struct Events(Option<UnboundedSender<Result<Event, Error>>>);

impl Events {
	/// Returns where what belongs to no question goes: nowhere.
	pub(crate) const fn nowhere() -> Self {
		Self(None)
	}

	/// Tells whoever reads the answer; nobody may be left.
	pub(crate) fn send(&self, event: Event) {
		self.end(Ok(event));
	}

	/// Tells how it ended.
	pub(crate) fn end(&self, event: Result<Event, Error>) {
		if let Some(sender) = &self.0 {
			drop(sender.send(event));
		}
	}

	/// Waits until nobody is left.
	pub(crate) async fn closed(&self) {
		if let Some(sender) = &self.0 {
			sender.closed().await;
		}
	}

	/// Returns whether nobody is left.
	pub(crate) fn is_closed(&self) -> bool {
		self.0.as_ref().is_none_or(UnboundedSender::is_closed)
	}
}

/// Does what waits for a disk where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
	match tokio::task::spawn_blocking(work).await {
		Ok(done) => done,
		Err(e) => match e.try_into_panic() {
			Ok(panic) => std::panic::resume_unwind(panic),
			// The runtime ends, and this with it.
			Err(_) => futures::future::pending().await,
		},
	}
}
