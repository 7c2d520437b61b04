//! Taking back what a payee has not earned, before the notice of a channel that closes is over.

use std::time::Duration;

use consilience_lane::message::{SignedRelease, ToClient, ToValidator};
use consilience_primitives::session::ChannelId;

use crate::{
	chain::{Chain, Lane},
	connection::{unexpected, Connection},
	error::Fault,
};

/// Asks a payee of a channel that closes for leave to take back what it has not claimed. It gives it once it has claimed what it is owed;
/// `sessions.lower` takes it.
///
/// # Errors
/// Why it does not; [`Fault::Refused`] with `Busy` where it claims first: ask again in some blocks.
pub async fn release(
	chain: &dyn Chain,
	lane: &Lane,
	channel: ChannelId,
	patience: Duration,
) -> Result<SignedRelease, Fault> {
	let unread = |e: crate::chain::ChainError| Fault::Connection(e.to_string());
	let genesis = chain.genesis().await.map_err(unread)?;
	let (mut connection, _) = Connection::open(lane, genesis, channel, patience).await?;
	connection.send(&ToValidator::Release).await?;
	let reply = connection.receive(patience).await;
	connection.close().await;
	let release = match reply? {
		ToClient::Released(release) => *release,
		ToClient::Refused { why, words, .. } => return Err(Fault::Refused(why, words)),
		other => return Err(unexpected(&other)),
	};
	let body = &release.body;
	let keys = chain.lane_keys(&lane.validator, body.session).await;
	let signed = keys.map_err(unread)?;
	let signed = signed.iter().any(|key| release.verify(&genesis, key));
	if body.channel != channel || body.payee != lane.validator || !signed {
		return Err(Fault::Malformed("leave that is not this payee's".into()));
	}
	Ok(release)
}
