//! Answers other nodes' questions.

use std::{
	collections::HashMap,
	sync::{Arc, Mutex},
	time::{Duration, Instant},
};

use codec::Encode;
use futures::channel::oneshot;
use polkadot_sdk::{
	sc_network::{
		request_responses::{IncomingRequest, OutgoingResponse},
		ReputationChange,
	},
	sc_network_types::PeerId,
};
use tokio::sync::Semaphore;

use crate::{
	message::{read, Request, Response},
	metrics::Metrics,
	shelf::Shelf,
	LOG_TARGET,
};

/// Questions that wait for an answer at a time.
const OPEN: usize = 48;
/// Those of one peer.
const OPEN_OF_ONE: usize = 12;
/// Places beyond those for peers that have no question open: a few who never take their answers do not keep everybody away.
const OPEN_FIRST: usize = 48;
/// Manifests that are on their way at a time: they are large.
const MANIFESTS: usize = 3;
/// An answer that is not taken after this time gives its place to others; the network ends it by itself.
const TAKEN: Duration = Duration::from_secs(5);
/// Pieces that are read at a time: a core has more to do than to hash for others.
const READS: usize = 2;
/// A piece whose turn comes later than this is refused for now.
const PATIENCE: Duration = Duration::from_secs(6);
/// What a message costs that is none.
const NONSENSE: ReputationChange = ReputationChange::new(-(1 << 20), "nonsense about models");

/// How many bytes a second may be given to others.
#[derive(Debug)]
pub(crate) struct Rate {
	bytes_per_second: Option<u64>,
	free: Mutex<Instant>,
}

impl Rate {
	pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
		Self {
			bytes_per_second: bytes_per_second.map(|n| n.max(1)),
			free: Mutex::new(Instant::now()),
		}
	}

	/// When so many bytes may be sent; `None` if that is too late to wait for.
	pub(crate) fn turn(&self, bytes: u64) -> Option<Instant> {
		let now = Instant::now();
		let Some(rate) = self.bytes_per_second else {
			return Some(now);
		};
		let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
		let turn = (*free).max(now);
		if turn > now + PATIENCE {
			return None;
		}
		*free = turn + Duration::from_secs_f64(bytes as f64 / rate as f64);
		Some(turn)
	}
}

/// Questions that wait, by who asked.
type Open = Arc<Mutex<HashMap<PeerId, usize>>>;

/// A question that waits.
struct Waits {
	open: Open,
	peer: PeerId,
}

impl Waits {
	/// Notes a question, unless there are too many.
	fn of(open: &Open, peer: PeerId) -> Option<Self> {
		let mut all = open.lock().unwrap_or_else(|e| e.into_inner());
		let theirs = all.get(&peer).copied().unwrap_or(0);
		let most = if theirs == 0 { OPEN + OPEN_FIRST } else { OPEN };
		if theirs >= OPEN_OF_ONE || all.values().sum::<usize>() >= most {
			return None;
		}
		all.insert(peer, theirs + 1);
		Some(Self {
			open: open.clone(),
			peer,
		})
	}
}

impl Drop for Waits {
	fn drop(&mut self) {
		let mut all = self.open.lock().unwrap_or_else(|e| e.into_inner());
		if let Some(theirs) = all.get_mut(&self.peer) {
			*theirs -= 1;
			if *theirs == 0 {
				all.remove(&self.peer);
			}
		}
	}
}

/// Answers what comes in, until the network ends.
pub(crate) async fn serve(
	inbound: async_channel::Receiver<IncomingRequest>,
	shelf: Arc<Shelf>,
	rate: Rate,
	metrics: Metrics,
	#[cfg(feature = "liars")] lies: bool,
) {
	let (open, rate) = (Open::default(), Arc::new(rate));
	let reads = Arc::new(Semaphore::new(READS));
	let manifests = Arc::new(Semaphore::new(MANIFESTS));
	while let Ok(IncomingRequest {
		peer,
		payload,
		pending_response,
	}) = inbound.recv().await
	{
		let Some(request) = read::<Request>(&payload) else {
			tracing::debug!(target: LOG_TARGET, "{peer}: a message that is none");
			let _ = pending_response.send(OutgoingResponse {
				result: Err(()),
				reputation_changes: vec![NONSENSE],
				sent_feedback: None,
			});
			continue;
		};
		let Some(waits) = Waits::of(&open, peer) else {
			answer(pending_response, Response::Busy, None);
			continue;
		};
		let is_large = matches!(request, Request::Manifest(_));
		let large = is_large.then(|| manifests.clone().try_acquire_owned());
		if matches!(large, Some(Err(_))) {
			answer(pending_response, Response::Busy, None);
			continue;
		}
		let (shelf, rate, reads, metrics) =
			(shelf.clone(), rate.clone(), reads.clone(), metrics.clone());
		tokio::spawn(async move {
			let response = {
				// Never closed.
				let _turn = reads.acquire().await;
				let found = tokio::task::spawn_blocking(move || match request {
					Request::Manifest(model) => shelf.manifest(model),
					Request::Holding(model) => shelf.holding(model),
					Request::Piece(hash) => {
						shelf.piece(hash).map_or(Response::Unknown, Response::Piece)
					}
				});
				found.await.unwrap_or(Response::Unknown)
			};
			#[cfg(feature = "liars")]
			let response = if lies { lie(response) } else { response };
			let bytes = response.encoded_size() as u64;
			let Some(turn) = rate.turn(bytes) else {
				return answer(pending_response, Response::Busy, None);
			};
			tokio::time::sleep_until(turn.into()).await;
			metrics.gave(bytes);
			let (sent, is_sent) = oneshot::channel();
			answer(pending_response, response, Some(sent));
			// The memory is in use until then. Who asked may be gone, or take nothing.
			let _ = tokio::time::timeout(TAKEN, is_sent).await;
			drop((waits, large));
		});
	}
}

/// A piece as a liar gives it.
#[cfg(feature = "liars")]
fn lie(response: Response) -> Response {
	match response {
		Response::Piece(mut bytes) => {
			if let Some(byte) = bytes.last_mut() {
				*byte ^= 1;
			}
			Response::Piece(bytes)
		}
		other => other,
	}
}

fn answer(
	to: oneshot::Sender<OutgoingResponse>,
	response: Response,
	sent_feedback: Option<oneshot::Sender<()>>,
) {
	// Who asked may be gone.
	let _ = to.send(OutgoingResponse {
		result: Ok(response.encode()),
		reputation_changes: Vec::new(),
		sent_feedback,
	});
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn bytes_wait_for_their_turn_and_not_for_ever() {
		let rate = Rate::new(Some(1_000));
		let now = Instant::now();
		let turns: Vec<_> = (0..9).map_while(|_| rate.turn(1_000)).collect();
		// The seventh begins after six seconds, less what passed here.
		assert_eq!(turns.len(), 7);
		assert!(turns[6] >= now + Duration::from_secs(6));
		assert!(rate.turn(1).is_none());
		assert!(Rate::new(None).turn(u64::MAX).is_some());
	}

	#[test]
	fn one_peer_does_not_take_the_place_of_all() {
		let open = Open::default();
		let (one, other) = (PeerId::random(), PeerId::random());
		let waiting: Vec<_> = (0..OPEN).map_while(|_| Waits::of(&open, one)).collect();
		assert_eq!(waiting.len(), OPEN_OF_ONE);
		assert!(Waits::of(&open, other).is_some());
		drop(waiting);
		assert!(Waits::of(&open, one).is_some());
	}
}
