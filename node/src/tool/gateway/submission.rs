//! Sending requests, each once.
//!
//! A request's number comes from the block that takes it, and a fork can change it. What stays is the signed transaction: whether it is in
//! the chain, and what it made there, is found by its bytes. It is written down before it is sent, and sent again where it is not known
//! to have arrived; its nonce keeps it from counting twice.

use consilience_gateway::network::{Keep, Recovered, Refusal, Ticket};
use consilience_runtime::{BlockNumber, Nonce, RuntimeCall, RuntimeEvent};
use jsonrpsee::core::{client::Subscription, ClientError};
use polkadot_sdk::sp_core::{self, Bytes, H256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
	network::{failed, NodeNetwork},
	shapes,
};
use crate::tool::chain::{Chain, ATTEMPTS};

/// Codes of the node's transaction pool (`sc_rpc_api::author`): what is sent again is there, or was a moment ago.
const BANNED: i32 = 1_012;
const ALREADY_IMPORTED: i32 = 1_013;
/// The pool is full.
const IMMEDIATELY_DROPPED: i32 = 1_016;

/// What is written down of a transaction before it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent {
	/// The signed transaction.
	bytes: Bytes,
	/// Its nonce.
	nonce: Nonce,
	/// The last finalised block before: it is in no earlier one.
	since: BlockNumber,
	/// Digest of what is asked: tells a request of the account from another.
	pub(super) input: H256,
}

impl Sent {
	/// Reads a ticket.
	pub(super) fn read(ticket: &Ticket) -> Result<Self, String> {
		serde_json::from_str(&ticket.0).map_err(|e| format!("the ticket cannot be read: {e}"))
	}

	fn ticket(&self) -> Result<Ticket, Refusal> {
		let text = serde_json::to_string(self);
		text.map(Ticket)
			.map_err(|e| Refusal::Journal(e.to_string()))
	}
}

/// Where a transaction is.
pub(super) enum Located {
	/// In the best chain, where it made a request.
	Made {
		/// The request's number.
		request: u64,
		/// The block.
		block: BlockNumber,
	},
	/// In the best chain, where it made none.
	Refused(Refusal),
	/// Nowhere, and another has its nonce in a finalised block.
	Lost,
	/// Not in the best chain yet.
	Pending,
}

impl NodeNetwork {
	/// Signs a call, writes it down and sends it, one after the other.
	pub(super) async fn send(
		&self,
		chain: &Chain,
		call: RuntimeCall,
		input: H256,
		keep: &dyn Keep,
	) -> Result<(Sent, Subscription<Value>), Refusal> {
		let failed = |e| failed(chain, e);
		let since = chain.finalized().await.map_err(failed)?.number;
		let _turn = self.0.turn.lock().await;
		let mut attempts = 0;
		loop {
			let nonce = chain.next_nonce(&self.0.account).await.map_err(failed)?;
			let sent = Sent {
				bytes: Bytes(chain.sign(&self.0.pair, call.clone(), nonce)),
				nonce,
				since,
				input,
			};
			keep.keep(&sent.ticket()?).await.map_err(Refusal::Journal)?;
			attempts += 1;
			match chain.send(&sent.bytes).await {
				Ok(updates) => return Ok((sent, updates)),
				// The pool never had it: it can be signed anew.
				Err(e) if attempts < ATTEMPTS && consilience_rpc::is_outdated(&e) => {
					chain.next_block().await.map_err(failed)?;
				}
				Err(e) => return Err(refused(e)),
			}
		}
	}

	/// Waits until a transaction is in a block, and returns the number of the request that it made there. Where it is not known what
	/// became of it, that is [`Refusal::Unreachable`].
	pub(super) async fn in_block(
		&self,
		chain: &Chain,
		sent: &Sent,
		mut updates: Subscription<Value>,
	) -> Result<u64, Refusal> {
		while let Some(update) = updates.next().await {
			let update = update.map_err(|e| Refusal::Unreachable(e.to_string()))?;
			if let Some(hash) = update["inBlock"].as_str().and_then(|h| h.parse().ok()) {
				return match self.outcome(chain, hash, sent).await? {
					Located::Made { request, .. } => Ok(request),
					Located::Refused(refusal) => Err(refusal),
					Located::Lost | Located::Pending => {
						Err(Refusal::Unreachable("the block is gone".into()))
					}
				};
			}
			for end in ["dropped", "invalid", "usurped"] {
				if update.get(end).is_some() || update == end {
					return Err(Refusal::Unreachable(format!("the transaction was {end}")));
				}
			}
		}
		Err(Refusal::Unreachable(
			"the node went away before the transaction was in a block".into(),
		))
	}

	/// Returns what a transaction made in the block that has it.
	async fn outcome(&self, chain: &Chain, hash: H256, sent: &Sent) -> Result<Located, Refusal> {
		let outcome = chain.outcome(hash, &sent.bytes).await;
		let (head, events) = outcome.map_err(Refusal::Unreachable)?;
		let events = match events {
			Ok(events) => events,
			Err(e) => return Ok(Located::Refused(shapes::dispatch(&e))),
		};
		let request = events.iter().find_map(|e| match e {
			RuntimeEvent::Inference(pallet_inference::Event::RequestSubmitted {
				request, ..
			}) => Some(*request),
			_ => None,
		});
		Ok(match request {
			Some(request) => Located::Made {
				request,
				block: head.number,
			},
			None => Located::Refused(Refusal::Other("the transaction made no request".into())),
		})
	}

	/// Looks for a transaction in the best chain.
	pub(super) async fn locate(&self, chain: &Chain, sent: &Sent) -> Result<Located, Refusal> {
		let failed = |e| failed(chain, e);
		let best = chain.best().await.map_err(failed)?;
		let account = &self.0.account;
		let nonce = chain.nonce_at(account, best.hash).await.map_err(failed)?;
		if nonce <= sent.nonce {
			return Ok(Located::Pending);
		}
		let wanted = sp_core::bytes::to_hex(&sent.bytes, false);
		for number in sent.since..=best.number {
			let (hash, extrinsics) = chain.extrinsics(number).await.map_err(failed)?;
			if extrinsics.contains(&wanted) {
				return self.outcome(chain, hash, sent).await;
			}
		}
		let finalized = chain.finalized().await.map_err(failed)?;
		let nonce = chain.nonce_at(account, finalized.hash).await;
		Ok(match nonce.map_err(failed)? > sent.nonce {
			true => Located::Lost,
			false => Located::Pending,
		})
	}

	/// Finds what became of a transaction, and sends it again as long as it is in no block.
	pub(super) async fn find(&self, chain: &Chain, sent: &Sent) -> Result<Recovered, Refusal> {
		loop {
			match self.locate(chain, sent).await? {
				Located::Made { request, .. } => return Ok(Recovered::Request(request)),
				Located::Refused(refusal) => return Ok(Recovered::Refused(refusal)),
				Located::Lost => return Ok(Recovered::Lost),
				Located::Pending => (),
			}
			match chain.send(&sent.bytes).await {
				Ok(updates) => {
					return match self.in_block(chain, sent, updates).await {
						Ok(request) => Ok(Recovered::Request(request)),
						Err(Refusal::Unreachable(why)) => Err(Refusal::Unreachable(why)),
						Err(refusal) => Ok(Recovered::Refused(refusal)),
					}
				}
				// In the pool already, or in a block that came in between.
				Err(e)
					if consilience_rpc::is_outdated(&e) || is(&e, &[BANNED, ALREADY_IMPORTED]) =>
				{
					let next = chain.next_block().await;
					next.map_err(Refusal::Unreachable)?;
				}
				Err(e) => {
					return match refused(e) {
						Refusal::Unreachable(why) => Err(Refusal::Unreachable(why)),
						refusal => Ok(Recovered::Refused(refusal)),
					}
				}
			}
		}
	}
}

fn is(error: &ClientError, codes: &[i32]) -> bool {
	matches!(error, ClientError::Call(e) if codes.contains(&e.code()))
}

/// Returns why the pool does not take a transaction. Unless the node said so, it is not known whether it did.
fn refused(error: ClientError) -> Refusal {
	let ClientError::Call(e) = &error else {
		return Refusal::Unreachable(error.to_string());
	};
	let why = e.data().map_or_else(|| e.message(), |data| data.get());
	if e.code() == IMMEDIATELY_DROPPED {
		return Refusal::Busy { retry_after: None };
	}
	if why.contains("payment") || why.contains("fees") {
		return Refusal::Funds(why.into());
	}
	Refusal::Other(format!("the node refused the transaction: {why}"))
}
