//! A request's life, from the subscription to its end.

use std::sync::Arc;

use consilience_primitives::RequestId;
use consilience_runtime_api::InferenceApi;
use consilience_worker::chain::{AccountId, Balance, BlockNumber};
use futures::StreamExt;
use jsonrpsee::{PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink};
use polkadot_sdk::{
	sc_client_api::BlockchainEvents,
	sp_api::ProvideRuntimeApi,
	sp_blockchain::HeaderBackend,
	sp_core::H256,
	sp_runtime::traits::{Block as BlockT, Header},
};

use crate::{Block, JsonRequest, RpcError, Update};

/// The request at a block.
pub(crate) fn request_at<B, C>(
	client: &C,
	at: H256,
	id: RequestId,
) -> Result<Option<JsonRequest>, RpcError>
where
	B: BlockT<Hash = H256>,
	C: ProvideRuntimeApi<B>,
	C::Api: InferenceApi<B, AccountId, BlockNumber, Balance>,
{
	client
		.runtime_api()
		.request(at, id)
		.map(|view| view.map(Into::into))
		.map_err(|e| RpcError::Runtime(e.to_string()))
}

/// Returns the best block and the last finalised one.
pub(crate) fn heads_of<B, C>(client: &C) -> (Block, Block)
where
	B: BlockT<Hash = H256>,
	B::Header: Header<Number = BlockNumber>,
	C: HeaderBackend<B>,
{
	let info = client.info();
	let best = Block {
		number: info.best_number,
		hash: info.best_hash,
	};
	let finalized = Block {
		number: info.finalized_number,
		hash: info.finalized_hash,
	};
	(best, finalized)
}

/// Sends an update whenever the request changes in the best chain, and again when the change is in a finalised block. The last one
/// is that of a settled request in a finalised block; an error, if the finalised chain turns out not to have the request.
pub(crate) async fn follow<B, C>(
	client: Arc<C>,
	id: RequestId,
	pending: PendingSubscriptionSink,
) -> Result<(), RpcError>
where
	B: BlockT<Hash = H256>,
	B::Header: Header<Number = BlockNumber>,
	C: ProvideRuntimeApi<B> + BlockchainEvents<B> + HeaderBackend<B>,
	C::Api: InferenceApi<B, AccountId, BlockNumber, Balance>,
{
	// Before the first look, so that nothing falls between the two.
	let mut heads = client.import_notification_stream();
	let mut finality = client.finality_notification_stream();
	let (best, finalized) = heads_of::<B, C>(&client);
	let now = request_at::<B, C>(&client, best.hash, id)?;
	if now.is_none() {
		pending.reject(RpcError::UnknownRequest(id)).await;
		return Ok(());
	}
	let Ok(sink) = pending.accept().await else {
		return Ok(());
	};
	let mut life = Life {
		sink,
		seen: [None, None],
	};
	let first_seen = best.number;
	if !life.see(best, false, now).await {
		return Ok(());
	}
	if !life
		.see(
			finalized,
			true,
			request_at::<B, C>(&client, finalized.hash, id)?,
		)
		.await
	{
		return Ok(());
	}
	loop {
		let (block, is_final) = tokio::select! {
			n = heads.next() => match n {
				Some(n) if n.is_new_best =>
					(Block { number: *n.header.number(), hash: n.hash }, false),
				Some(_) => continue,
				None => return Ok(()),
			},
			n = finality.next() => match n {
				Some(n) => (Block { number: *n.header.number(), hash: n.hash }, true),
				None => return Ok(()),
			},
			() = life.sink.closed() => return Ok(()),
		};
		let now = request_at::<B, C>(&client, block.hash, id)?;
		if is_final && now.is_none() && block.number >= first_seen {
			return Err(RpcError::UnknownRequest(id));
		}
		if !life.see(block, is_final, now).await {
			return Ok(());
		}
	}
}

/// What a subscriber has been told.
struct Life {
	sink: SubscriptionSink,
	/// Last told of the best chain, and of the finalised one.
	seen: [Option<JsonRequest>; 2],
}

impl Life {
	/// Tells of a change, if there is one. Whether there is more to tell.
	async fn see(&mut self, block: Block, finalized: bool, now: Option<JsonRequest>) -> bool {
		let seen = &mut self.seen[usize::from(finalized)];
		let Some(request) = now else { return true };
		let settled = finalized && request.state.is_settled();
		if seen.as_ref() == Some(&request) {
			return !settled;
		}
		*seen = Some(request.clone());
		let update = Update {
			block,
			finalized,
			request,
		};
		let Ok(message) = SubscriptionMessage::from_json(&update) else {
			return false;
		};
		self.sink.send(message).await.is_ok() && !settled
	}
}
