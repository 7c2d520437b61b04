//! Bytes between a web page and a validator's endpoint of the session lane.
//!
//! A page that holds a channel of its own signs and verifies everything itself. What it cannot do is reach endpoints without a certificate
//! that browsers take. So a WebSocket of the page is joined to one of a validator here, and what goes over them is passed on as it is.
//!
//! **Invariant**: this is no proxy to anywhere. Who calls names a validator, never an address: that is the one that the chain names. A
//! validator could name an address behind this gateway's own walls: a gateway with keys connects to public addresses alone, asks for the
//! root of what is there and for nothing else, and beside that one greeting goes there before the other side has shown, in the lane's own
//! words, that it is the endpoint of this validator. Connections, bytes, messages and time are bounded.

use std::{
	collections::HashMap,
	net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
	sync::{Arc, Mutex, Once, PoisonError},
	time::Duration,
};

use axum::{
	body::Body,
	extract::{Path, Request, State},
	http::{header, HeaderMap, HeaderValue, StatusCode, Uri},
	response::Response,
};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
	io::{AsyncRead, AsyncWrite},
	net::{lookup_host, TcpStream},
	sync::{OwnedSemaphorePermit, Semaphore},
	time::{sleep_until, timeout, Instant},
};
use tokio_tungstenite::{
	client_async_tls_with_config,
	tungstenite::{
		handshake::derive_accept_key,
		protocol::{frame::coding::CloseCode, CloseFrame, Role, WebSocketConfig},
		Error as SocketError, Message,
	},
	MaybeTlsStream, WebSocketStream,
};

use crate::{
	app::App,
	error::Error,
	network::{LaneAddress, Refusal},
	server::Peer,
	LOG_TARGET,
};

/// The subprotocol that a page offers; browsers expect one that they offered in the reply.
const PROTOCOL: &str = "consilience-lane";
/// Longest message of the lane, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Time to reach a validator and hear its offer, and to pass a message on.
const PATIENCE: Duration = Duration::from_secs(10);
/// The lane's first message: its kind, its version, a genesis hash, a channel's number.
const HELLO: (u8, usize) = (0, 1 + 1 + 32 + 8);
/// The reason wherever a validator's endpoint does not answer, whatever is there: callers are not to learn which ports are open.
const NOT_REACHED: &str = "the validator does not answer";
/// Kind of what answers it, before the account whose endpoint it is.
const OFFER: u8 = 0;
/// Kind of a refusal, after which a greeting that was not taken ends.
const REFUSED: u8 = 4;

/// Relays that are open.
#[derive(Clone)]
pub(crate) struct Relays {
	places: Arc<Semaphore>,
	/// Most from one address that is not this machine: a front there has everybody's calls.
	most_of_one: usize,
	addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place among them, free again when it is dropped.
struct Place {
	relays: Relays,
	address: Option<IpAddr>,
	_place: OwnedSemaphorePermit,
}

impl Relays {
	pub(crate) fn new(most: usize) -> Self {
		Self {
			places: Arc::new(Semaphore::new(most)),
			most_of_one: most.div_ceil(8),
			addresses: Arc::default(),
		}
	}

	fn take(&self, peer: Option<SocketAddr>) -> Result<Place, Error> {
		let place = self.places.clone().try_acquire_owned();
		let place = place.map_err(|_| Error::TooMany)?;
		let address = peer.map(|peer| peer.ip().to_canonical());
		let address = address.filter(|address| !address.is_loopback());
		if let Some(address) = address {
			let mut addresses = self
				.addresses
				.lock()
				.unwrap_or_else(PoisonError::into_inner);
			let count = addresses.entry(address).or_default();
			if *count >= self.most_of_one {
				return Err(Error::TooMany);
			}
			*count += 1;
		}
		Ok(Place {
			relays: self.clone(),
			address,
			_place: place,
		})
	}
}

impl Drop for Place {
	fn drop(&mut self) {
		let Some(address) = self.address else { return };
		let addresses = &self.relays.addresses;
		let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
		if let Some(count) = addresses.get_mut(&address) {
			*count -= 1;
			if *count == 0 {
				addresses.remove(&address);
			}
		}
	}
}

/// Joins a page's WebSocket to the endpoint of a validator that answers for a model.
pub(crate) async fn open(
	State(app): State<App>,
	Path((model, validator)): Path<(String, String)>,
	mut request: Request,
) -> Result<Response, Error> {
	let peer = request.extensions().get::<Peer>().map(|Peer(peer)| *peer);
	let Some(accept) = accept(request.headers()) else {
		return Err(Error::invalid(
			"upgrade",
			"here is a WebSocket of version 13 for pages that hold a channel of their own",
		));
	};
	let protocol = offered(request.headers());
	let upgrade = request.extensions_mut().remove::<OnUpgrade>();
	let upgrade = upgrade
		.ok_or_else(|| Error::invalid("upgrade", "a WebSocket is opened by HTTP/1.1".to_owned()))?;
	let place = app.relays.take(peer)?;
	let found = app.network.lane_address(&model, &validator).await;
	let address = found.map_err(|why| match why {
		Refusal::Unreachable(why) => Error::Unreachable(why),
		other => Error::Refused(other.to_string()),
	})?;
	let address = address.ok_or_else(|| {
		Error::Forbidden(
			"no such validator answers for this model in the session lane: nobody else is reached from here".into(),
		)
	})?;
	tokio::spawn(async move {
		let _place = place;
		let Ok(upgraded) = upgrade.await else { return };
		let page = WebSocketStream::from_raw_socket(
			TokioIo::new(upgraded),
			Role::Server,
			Some(settings()),
		);
		app.metrics.relays.inc();
		relay(&app, page.await, &address).await;
		app.metrics.relays.dec();
	});
	let mut response = Response::new(Body::empty());
	*response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
	let headers = response.headers_mut();
	headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
	headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
	headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
	if protocol {
		headers.insert(
			header::SEC_WEBSOCKET_PROTOCOL,
			HeaderValue::from_static(PROTOCOL),
		);
	}
	Ok(response)
}

/// What a client is told that opens a WebSocket; `None` of one that does not.
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
	let says = |name: header::HeaderName, word: &str| {
		let value = headers.get(name).and_then(|v| v.to_str().ok());
		value.is_some_and(|v| v.split(',').any(|v| v.trim().eq_ignore_ascii_case(word)))
	};
	let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
	let opens = says(header::CONNECTION, "upgrade")
		&& says(header::UPGRADE, "websocket")
		&& says(header::SEC_WEBSOCKET_VERSION, "13");
	let accept = opens.then(|| derive_accept_key(key.as_bytes()))?;
	HeaderValue::try_from(accept).ok()
}

fn offered(headers: &HeaderMap) -> bool {
	let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
	offered
		.filter_map(|value| value.to_str().ok())
		.any(|value| value.split(',').any(|word| word.trim() == PROTOCOL))
}

fn settings() -> WebSocketConfig {
	WebSocketConfig::default()
		.read_buffer_size(4 << 10)
		.write_buffer_size(0)
		.max_write_buffer_size(2 * MAX_MESSAGE)
		.max_message_size(Some(MAX_MESSAGE))
		.max_frame_size(Some(MAX_MESSAGE))
}

/// Why a relay ended, as the page is told.
struct End(CloseCode, &'static str);

impl End {
	const fn because(why: &'static str) -> Self {
		Self(CloseCode::Policy, why)
	}
}

async fn relay<P>(app: &App, mut page: WebSocketStream<P>, address: &LaneAddress)
where
	P: AsyncRead + AsyncWrite + Unpin,
{
	let mut stopping = app.stopping.clone();
	let end = tokio::select! {
		end = joined(app, &mut page, address) => end,
		_ = stopping.wait_for(|stops| *stops) => End(CloseCode::Away, "the gateway ends"),
	};
	tracing::debug!(target: LOG_TARGET, "a relay to {} ended: {}", address.endpoint, end.1);
	let frame = CloseFrame {
		code: end.0,
		reason: end.1.into(),
	};
	let _ = timeout(PATIENCE, page.close(Some(frame))).await;
}

/// Checks whether an address is public, and not one of this machine or of the network that it is in.
fn is_public(address: IpAddr) -> bool {
	let is_public_v4 = |ip: Ipv4Addr| {
		let [a, b, c, _] = ip.octets();
		let shared = a == 100 && (64..128).contains(&b);
		let for_tests = a == 198 && (18..20).contains(&b);
		let for_protocols = (a, b, c) == (192, 0, 0);
		!(ip.is_private()
			|| ip.is_loopback()
			|| ip.is_link_local()
			|| ip.is_multicast()
			|| ip.is_documentation()
			|| shared || for_tests
			|| for_protocols
			|| a == 0 || a >= 240)
	};
	// Global unicast is 2000::/3; of that, what stands for an IPv4 address leads there.
	let is_public_v6 = |ip: Ipv6Addr| {
		let [first, second, ..] = ip.segments();
		let stands_for_another = first == 0x2002 || (first, second) == (0x2001, 0);
		first & 0xe000 == 0x2000 && !stands_for_another && (first, second) != (0x2001, 0xdb8)
	};
	match address.to_canonical() {
		IpAddr::V4(ip) => is_public_v4(ip),
		IpAddr::V6(ip) => is_public_v6(ip),
	}
}

/// Connects to a validator's endpoint. An address is looked up once, and it is that one which is connected to.
async fn connected(
	endpoint: &str,
	local: bool,
) -> Option<WebSocketStream<MaybeTlsStream<TcpStream>>> {
	let uri: Uri = endpoint.parse().ok()?;
	let port = uri
		.port_u16()
		.unwrap_or(if uri.scheme_str()? == "wss" { 443 } else { 80 });
	// Nothing is asked for but the root: what else is there is not the lane.
	let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
	if !bare || uri.authority()?.as_str().contains('@') {
		return None;
	}
	let host = uri.host()?.trim_matches(['[', ']']);
	let found: Vec<_> = lookup_host((host, port)).await.ok()?.collect();
	let mut stream = None;
	for address in found {
		if local || is_public(address.ip()) {
			stream = TcpStream::connect(address).await.ok();
			if stream.is_some() {
				break;
			}
		}
	}
	let stream = stream?;
	stream.set_nodelay(true).ok()?;
	let joined = client_async_tls_with_config(endpoint, stream, Some(settings()), None).await;
	joined.ok().map(|(lane, _)| lane)
}

/// Greets, and then passes on what either says, until one ends it or a bound is reached.
async fn joined<P>(app: &App, page: &mut WebSocketStream<P>, address: &LaneAddress) -> End
where
	P: AsyncRead + AsyncWrite + Unpin,
{
	let config = &app.config;
	let (began, mut left) = (Instant::now(), config.relay_bytes);
	let greeting = match timeout(PATIENCE, binary(page)).await {
		Ok(Ok(greeting)) => greeting,
		Ok(Err(end)) => return end,
		Err(_) => return End::because("nobody has said hello"),
	};
	if (greeting.first(), greeting.len()) != (Some(&HELLO.0), HELLO.1) {
		return End::because("this is no greeting of the session lane");
	}
	// One provider in a process; whoever has installed one before is right.
	static TLS: Once = Once::new();
	TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
	let local = config.relay_local || config.keys.is_none();
	let Ok(Some(mut lane)) = timeout(PATIENCE, connected(&address.endpoint, local)).await else {
		return End(CloseCode::Again, NOT_REACHED);
	};
	let met = async {
		lane.send(Message::Binary(greeting)).await.ok()?;
		binary(&mut lane).await.ok()
	};
	let Ok(Some(offer)) = timeout(PATIENCE, met).await else {
		return End(CloseCode::Again, NOT_REACHED);
	};
	let is_offer = offer.first() == Some(&OFFER) && offer.get(1..33) == Some(&address.account[..]);
	if !is_offer && offer.first() != Some(&REFUSED) {
		return End::because("somebody else answers at the validator's address");
	}
	left = left.saturating_sub(offer.len());
	if page.send(Message::Binary(offer)).await.is_err() || !is_offer {
		return End(CloseCode::Normal, "the validator refused");
	}
	let mut heard = Instant::now();
	loop {
		let until = (began + config.relay_for).min(heard + config.relay_idle);
		let passed = tokio::select! {
			message = binary(page) => pass(message, &mut lane, &mut left).await,
			message = binary(&mut lane) => pass(message, page, &mut left).await,
			() = sleep_until(until) => Err(End(CloseCode::Normal, "nothing was said for long, or it was open for long")),
		};
		if let Err(end) = passed {
			// A goodbye says that what came before it has been read.
			let _ = timeout(PATIENCE, lane.close(None)).await;
			return end;
		}
		heard = Instant::now();
	}
}

type Heard = Result<tokio_tungstenite::tungstenite::Bytes, End>;

/// Returns the next message; pings are answered below this. Can be dropped without losing anything.
async fn binary<S>(socket: &mut WebSocketStream<S>) -> Heard
where
	S: AsyncRead + AsyncWrite + Unpin,
{
	loop {
		match socket.next().await {
			Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
			Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
			Some(Ok(Message::Close(_))) | None => {
				return Err(End(CloseCode::Normal, "it was closed"))
			}
			Some(Ok(Message::Text(_) | Message::Frame(_))) => {
				return Err(End(CloseCode::Unsupported, "the lane has no text"));
			}
			Some(Err(SocketError::Capacity(_))) => {
				return Err(End(CloseCode::Size, "a message is longer than the lane's"));
			}
			Some(Err(_)) => return Err(End(CloseCode::Error, "the connection broke")),
		}
	}
}

async fn pass<S>(heard: Heard, to: &mut WebSocketStream<S>, left: &mut usize) -> Result<(), End>
where
	S: AsyncRead + AsyncWrite + Unpin,
{
	let bytes = heard?;
	*left = left
		.checked_sub(bytes.len())
		.ok_or(End::because("more was said than one connection may"))?;
	match timeout(PATIENCE, to.send(Message::Binary(bytes))).await {
		Ok(Ok(())) => Ok(()),
		Ok(Err(_)) => Err(End(CloseCode::Error, "the connection broke")),
		Err(_) => Err(End::because("one side does not read")),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn only_some_addresses_are_public() {
		let public = |text: &str| is_public(text.parse().expect("an address"));
		for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
			assert!(public(text), "{text}");
		}
		for text in [
			"127.0.0.1",
			"0.0.0.0",
			"10.1.2.3",
			"172.16.0.1",
			"192.168.0.1",
			"169.254.169.254",
			"100.64.0.1",
			"198.18.0.1",
			"224.0.0.1",
			"255.255.255.255",
			"::",
			"::1",
			"fc00::1",
			"fe80::1",
			"::ffff:127.0.0.1",
			"64:ff9b::7f00:1",
			"2002:7f00:1::",
			"2001:db8::1",
		] {
			assert!(!public(text), "{text}");
		}
	}

	#[tokio::test]
	async fn nothing_but_the_root_is_asked_for() {
		let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
			.await
			.expect("a port");
		let address = listener.local_addr().expect("it listens");
		for endpoint in [
			format!("ws://{address}/admin/stop"),
			format!("ws://{address}/?x=1"),
			format!("ws://me@{address}"),
			format!("http://{address}x"),
		] {
			assert!(connected(&endpoint, true).await.is_none(), "{endpoint}");
		}
		// Nor is this machine reached where that is not wanted.
		assert!(connected(&format!("ws://{address}"), false).await.is_none());
		let nobody = futures::poll!(Box::pin(listener.accept()));
		assert!(nobody.is_pending(), "somebody has connected");
	}
}
