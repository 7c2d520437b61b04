//! Connections between two questions: whoever asks again finds one that is agreed on.

use std::{
	collections::HashMap,
	sync::{Mutex, MutexGuard, PoisonError},
	time::Duration,
};

use consilience_lane::message::{AccountId, OfferedModel};
use consilience_primitives::ModelId;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{chain::Lane, connection::Connection};

/// For how long an offer is taken at its word.
const RECENT: Duration = Duration::from_secs(30);
/// Free places of an offer that is taken at its word: somebody else may have come since.
const PLACES: u32 = 2;

/// Connections to payees, at most one to each.
#[derive(Default)]
pub(crate) struct Kept(Mutex<HashMap<AccountId, Idle>>);

/// A connection that nobody uses, held by a task that answers the other side's pings.
struct Idle {
	endpoint: Vec<u8>,
	offer: Option<Offer>,
	wanted: oneshot::Sender<()>,
	task: JoinHandle<Option<Connection>>,
}

/// What an executor offered, and when.
#[derive(Clone)]
pub(crate) struct Offer {
	pub(crate) model: OfferedModel,
	pub(crate) at: Instant,
}

impl Offer {
	/// Returns whether it may be asked for this model without being asked what it offers.
	pub(crate) fn stands(&self, model: &ModelId) -> bool {
		self.model.model == *model && self.model.free >= PLACES && self.at.elapsed() < RECENT
	}
}

impl Kept {
	/// Keeps a connection over which nothing is under way and nothing is left to be said.
	pub(crate) fn keep(&self, lane: &Lane, mut connection: Connection, offer: Option<Offer>) {
		let (wanted, asked) = oneshot::channel();
		let task = tokio::spawn(async move {
			let again = tokio::select! {
				() = connection.idle() => return None,
				asked = asked => asked.is_ok(),
			};
			if again {
				return Some(connection);
			}
			connection.close().await;
			None
		});
		let idle = Idle {
			endpoint: lane.endpoint.to_vec(),
			offer,
			wanted,
			task,
		};
		self.lock().insert(lane.validator.clone(), idle);
	}

	/// Returns the connection to a payee, if there is one and it stands, and what was offered over it.
	pub(crate) async fn take(&self, lane: &Lane) -> Option<(Connection, Option<Offer>)> {
		let idle = self.lock().remove(&lane.validator)?;
		if *idle.endpoint != *lane.endpoint || idle.wanted.send(()).is_err() {
			return None;
		}
		let connection = idle.task.await.ok()??;
		Some((connection, idle.offer))
	}

	/// Says goodbye over all of them, and waits for the other sides': what was sent has been read then.
	pub(crate) async fn close(&self) {
		let all: Vec<_> = self.lock().drain().map(|(_, idle)| idle).collect();
		let closing = all.into_iter().map(|Idle { wanted, task, .. }| {
			drop(wanted);
			task
		});
		futures::future::join_all(closing).await;
	}

	fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Idle>> {
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}
}
