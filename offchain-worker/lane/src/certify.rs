//! The lane key and the address are certified on chain in every session.

use std::sync::Arc;

use consilience_primitives::session::Certificate;
use polkadot_sdk::sp_core::Pair;

use crate::{journal::Batch, message::BlockNumber, Identity, Shared, LOG_TARGET};

/// Certifies whenever the chain asks for it.
pub(crate) async fn run(lane: Arc<Shared>) {
	let mut heads = lane.chain.heads();
	let mut submitted: Option<(u32, BlockNumber)> = None;
	loop {
		let best = heads.borrow_and_update().best;
		if let Err(error) = step(&lane, best, &mut submitted).await {
			tracing::warn!(target: LOG_TARGET, "the lane key is not certified: {error}");
		}
		if heads.changed().await.is_err() {
			return;
		}
	}
}

async fn step(
	lane: &Shared,
	best: BlockNumber,
	submitted: &mut Option<(u32, BlockNumber)>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
	let Some(due) = lane.chain.certificate_due().await? else {
		return Ok(());
	};
	let key = lane.pair.public();
	let endpoint = &lane.config.endpoint;
	let known = lane.identity.borrow().clone();
	let session = match &due.certified {
		Some((with, _)) if *with == key => Some(due.session),
		_ => known
			.as_ref()
			.filter(|known| known.account == due.validator && known.key == key)
			.and_then(|known| known.session),
	};
	let identity = Identity {
		account: due.validator,
		key,
		session,
	};
	if known.as_ref() != Some(&identity) {
		lane.journal
			.write(Batch::default().identity(&identity))
			.await?;
		lane.identity.send_replace(Some(identity));
	}

	if due
		.certified
		.is_some_and(|(with, at)| with == key && at == *endpoint)
	{
		return Ok(());
	}
	// It may be on its way.
	if submitted.is_some_and(|(session, at)| {
		session == due.session && best < at.saturating_add(lane.config.resubmit)
	}) {
		return Ok(());
	}
	*submitted = Some((due.session, best));
	let certificate = Certificate {
		session: due.session,
		validator: due.index,
		key,
		endpoint: endpoint.clone(),
	};
	lane.chain.certify(certificate).await?;
	tracing::debug!(target: LOG_TARGET, "the lane key is certified in session {}", due.session);
	Ok(())
}
