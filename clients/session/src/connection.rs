//! A connection to a validator's endpoint of this lane.

use std::{sync::Once, time::Duration};

use codec::{DecodeAll, Encode};
use consilience_lane::message::{Offer, ToClient, ToValidator, MAX_MESSAGE, VERSION};
use consilience_primitives::session::ChannelId;
use futures::{SinkExt, StreamExt};
use polkadot_sdk::sp_core::H256;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
	connect_async_with_config,
	tungstenite::{protocol::WebSocketConfig, Bytes, Message},
	MaybeTlsStream, WebSocketStream,
};

use crate::{chain::Lane, error::Fault};

/// An open connection, of which the first `Hello` and `Offer` are over.
pub(crate) struct Connection {
	socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
	patience: Duration,
}

impl Connection {
	/// Connects to a validator and hears what it offers, within `patience`.
	pub(crate) async fn open(
		lane: &Lane,
		genesis: H256,
		channel: ChannelId,
		patience: Duration,
	) -> Result<(Self, Offer), Fault> {
		within(patience, async {
			let mut connection = Self::connect(&lane.endpoint, patience).await?;
			let offer = connection.hello(lane, genesis, channel).await?;
			Ok((connection, offer))
		})
		.await
	}

	/// Hears what a validator offers: first, and again where a voucher has verified over the connection.
	pub(crate) async fn hello(
		&mut self,
		lane: &Lane,
		genesis: H256,
		channel: ChannelId,
	) -> Result<Offer, Fault> {
		let hello = ToValidator::Hello {
			version: VERSION,
			genesis,
			channel,
		};
		self.send(&hello).await?;
		match self.receive(self.patience).await? {
			ToClient::Offer(offer) if offer.payee == lane.validator => Ok(offer),
			ToClient::Offer(_) => Err(Fault::OtherValidator),
			ToClient::Refused { why, words, .. } => Err(Fault::Refused(why, words)),
			other => Err(unexpected(&other)),
		}
	}

	/// Answers pings, until something else comes or the connection ends.
	pub(crate) async fn idle(&mut self) {
		while let Some(Ok(Message::Ping(_) | Message::Pong(_))) = self.socket.next().await {}
	}

	async fn connect(endpoint: &[u8], patience: Duration) -> Result<Self, Fault> {
		let endpoint = address(endpoint)?;
		// One provider in a process; whoever has installed one before is right.
		static TLS: Once = Once::new();
		TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
		let config = WebSocketConfig::default()
			.max_message_size(Some(MAX_MESSAGE))
			.max_frame_size(Some(MAX_MESSAGE));
		let (socket, _) = connect_async_with_config(endpoint, Some(config), true)
			.await
			.map_err(failed)?;
		Ok(Self { socket, patience })
	}

	/// Sends a message.
	pub(crate) async fn send(&mut self, message: &ToValidator) -> Result<(), Fault> {
		let message = Message::Binary(Bytes::from(message.encode()));
		let patience = self.patience;
		within(patience, async {
			self.socket.send(message).await.map_err(failed)
		})
		.await
	}

	/// Returns the next message, which has to come within `patience`.
	pub(crate) async fn receive(&mut self, patience: Duration) -> Result<ToClient, Fault> {
		within(patience, async {
			loop {
				match self.socket.next().await {
					Some(Ok(Message::Binary(bytes))) => {
						return ToClient::decode_all(&mut &bytes[..])
							.map_err(|e| Fault::Malformed(e.to_string()));
					}
					// Pings are answered below this.
					Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
					Some(Ok(Message::Close(_))) | None => {
						return Err(Fault::Connection("it was closed".into()));
					}
					Some(Ok(_)) => return Err(Fault::Malformed("text".into())),
					Some(Err(e)) => return Err(failed(e)),
				}
			}
		})
		.await
	}

	/// Closes it and waits for the other side's goodbye: what was sent has been read then. Returns whether that came.
	pub(crate) async fn close(mut self) -> bool {
		let goodbye = async {
			self.socket.close(None).await.ok()?;
			while let Some(message) = self.socket.next().await {
				if matches!(message.ok()?, Message::Close(_)) {
					return Some(());
				}
			}
			None
		};
		timeout(self.patience, goodbye)
			.await
			.is_ok_and(|g| g.is_some())
	}
}

/// Reads an address. It was written by whoever it belongs to.
fn address(endpoint: &[u8]) -> Result<&str, Fault> {
	let text =
		std::str::from_utf8(endpoint).map_err(|_| Fault::Address("it is not UTF-8".into()))?;
	if !text.starts_with("ws://") && !text.starts_with("wss://") {
		return Err(Fault::Address(
			"it begins with neither ws:// nor wss://".into(),
		));
	}
	Ok(text)
}

/// What an unexpected message is.
pub(crate) fn unexpected(message: &ToClient) -> Fault {
	let name = match message {
		ToClient::Offer(_) => "an offer",
		ToClient::Frame(_) => "part of an answer",
		ToClient::End(_) => "the end of an answer",
		ToClient::Verdict(_) => "a verdict",
		ToClient::Refused { .. } => "a refusal of something else",
		ToClient::Waiting { .. } => "word that something waits",
		ToClient::Released(_) => "leave to take money back",
	};
	Fault::Malformed(name.into())
}

async fn within<T>(
	patience: Duration,
	work: impl std::future::Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
	timeout(patience, work)
		.await
		.unwrap_or(Err(Fault::Silent(patience.as_millis() as u64)))
}

fn failed(e: tokio_tungstenite::tungstenite::Error) -> Fault {
	Fault::Connection(e.to_string())
}

#[cfg(test)]
mod tests {
	use super::*;
	use consilience_lane::message::AccountId;
	use tokio::net::TcpListener;

	async fn open(endpoint: &str) -> Fault {
		let lane = Lane {
			validator: AccountId::new([1; 32]),
			session: 1,
			key: Default::default(),
			endpoint: endpoint.as_bytes().to_vec().try_into().unwrap(),
		};
		let opened = Connection::open(&lane, H256::zero(), 1, Duration::from_secs(5)).await;
		opened.map(|_| ()).unwrap_err()
	}

	#[tokio::test]
	async fn who_cannot_be_reached_is_passed_over() {
		for endpoint in ["", "http://localhost", "file:///etc/passwd"] {
			assert!(matches!(open(endpoint).await, Fault::Address(_)));
		}
		assert!(matches!(open("ws://").await, Fault::Connection(_)));
		// With TLS too: nobody answers the first greeting.
		let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
		let endpoint = format!("wss://{}", listener.local_addr().unwrap());
		let closing = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
		assert!(matches!(open(&endpoint).await, Fault::Connection(_)));
		closing.await.unwrap();
	}
}
