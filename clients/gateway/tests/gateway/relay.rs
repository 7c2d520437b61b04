//! Pages that speak to a validator of the session lane: the gateway passes on what they say, to that validator and nobody else.

use std::{fs, time::Duration};

use consilience_gateway::{network::LaneAddress, Config};
use futures::{SinkExt, StreamExt};
use tokio::{
	net::{TcpListener, TcpStream},
	task::JoinHandle,
	time::timeout,
};
use tokio_tungstenite::{
	accept_async, connect_async,
	tungstenite::{
		client::IntoClientRequest, http::StatusCode, protocol::CloseFrame, Error, Message,
	},
	MaybeTlsStream, WebSocketStream,
};

use crate::{client::Running, double::CHAT};

const VALIDATOR: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
const ACCOUNT: [u8; 32] = [7; 32];
const LIMIT: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The lane's greeting, as long as it is.
fn hello() -> Vec<u8> {
	[vec![0, 1], vec![9; 32], vec![0; 8]].concat()
}

/// An offer of this account.
fn offer(account: [u8; 32]) -> Vec<u8> {
	[&[0][..], &account, &[0]].concat()
}

/// A validator that says this to whatever comes first, and then repeats what it is told. Returns what it heard.
async fn validator(first: Message) -> (String, JoinHandle<Vec<Message>>) {
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let endpoint = format!("ws://{}", listener.local_addr().unwrap());
	let task = tokio::spawn(async move {
		let (tcp, _) = listener.accept().await.unwrap();
		let mut socket = accept_async(tcp).await.unwrap();
		let mut heard = Vec::new();
		while let Some(Ok(message)) = socket.next().await {
			let reply = if heard.is_empty() {
				first.clone()
			} else {
				message.clone()
			};
			heard.push(message);
			if socket.send(reply).await.is_err() {
				break;
			}
		}
		heard
	});
	(endpoint, task)
}

async fn gateway(endpoint: String, change: impl FnOnce(&mut Config)) -> Running {
	let gateway = Running::with(change).await;
	let account = ACCOUNT;
	gateway
		.double
		.name_lane(VALIDATOR, LaneAddress { account, endpoint });
	gateway
}

async fn dial(
	gateway: &Running,
	path: &str,
	headers: &[(&'static str, &str)],
) -> Result<Socket, Error> {
	let mut request = format!("ws://{}{path}", gateway.address).into_client_request()?;
	for (name, value) in headers {
		request.headers_mut().insert(*name, value.parse().unwrap());
	}
	timeout(LIMIT, connect_async(request))
		.await
		.unwrap()
		.map(|(socket, _)| socket)
}

async fn page(gateway: &Running) -> Socket {
	dial(gateway, &format!("/v1/lane/{CHAT}/{VALIDATOR}"), &[])
		.await
		.unwrap()
}

async fn next(socket: &mut Socket) -> Message {
	timeout(LIMIT, socket.next())
		.await
		.unwrap()
		.unwrap()
		.unwrap()
}

/// Why the gateway ended it.
async fn end(socket: &mut Socket) -> CloseFrame {
	loop {
		if let Message::Close(why) = next(socket).await {
			return why.unwrap();
		}
	}
}

fn status(refused: Error) -> StatusCode {
	match refused {
		Error::Http(response) => response.status(),
		other => panic!("{other}"),
	}
}

#[tokio::test]
async fn what_a_page_and_a_validator_say_is_passed_on_as_it_is() {
	let (endpoint, heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint, |_| ()).await;
	let mut page = page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	assert_eq!(next(&mut page).await, Message::binary(offer(ACCOUNT)));
	let long = vec![3; 200_000];
	page.send(Message::binary(long.clone())).await.unwrap();
	assert_eq!(next(&mut page).await, Message::binary(long.clone()));
	let figures = gateway.get("/metrics").await;
	assert!(figures.text().contains("consilience_gateway_relays_open 1"));
	page.close(None).await.unwrap();
	let heard = timeout(LIMIT, heard).await.unwrap().unwrap();
	assert_eq!(
		heard[..2],
		[Message::binary(hello()), Message::binary(long)]
	);
}

#[tokio::test]
async fn nobody_is_reached_whom_the_chain_does_not_name() {
	let (endpoint, heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint.clone(), |_| ()).await;
	let address = endpoint.trim_start_matches("ws://");
	let other = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty";
	for path in [
		format!("/v1/lane/{CHAT}/{other}"),
		format!("/v1/lane/0x{}/{VALIDATOR}", "2".repeat(64)),
		format!("/v1/lane/{CHAT}/{address}"),
		format!("/v1/lane/{CHAT}/ws:%2F%2F{address}"),
	] {
		let refused = dial(&gateway, &path, &[]).await.unwrap_err();
		assert_eq!(status(refused), 403, "{path}");
	}
	assert!(!heard.is_finished(), "nobody came");
	// What is no WebSocket is told so.
	let reply = gateway.get(&format!("/v1/lane/{CHAT}/{VALIDATOR}")).await;
	assert_eq!(reply.status, 400);
	assert_eq!(reply.json()["error"]["param"], "upgrade");
}

#[tokio::test]
async fn before_the_lane_has_answered_in_its_own_words_nothing_goes_there_but_a_greeting() {
	for first in [
		// Another service behind the gateway's walls that a validator named as its own address.
		Message::text("{\"jsonrpc\":\"2.0\",\"error\":{}}"),
		Message::binary(b"anything".to_vec()),
		Message::binary(offer([8; 32])),
		Message::binary(vec![0]),
	] {
		let (endpoint, heard) = validator(first.clone()).await;
		let gateway = gateway(endpoint, |_| ()).await;
		let mut page = page(&gateway).await;
		page.send(Message::binary(hello())).await.unwrap();
		page.send(Message::binary(
			b"{\"method\":\"author_rotateKeys\"}".to_vec(),
		))
		.await
		.unwrap();
		let why = end(&mut page).await.reason;
		assert!(why.contains("answer"), "{first:?}: {why}");
		let heard = timeout(LIMIT, heard).await.unwrap().unwrap();
		let said = heard
			.into_iter()
			.filter(Message::is_binary)
			.collect::<Vec<_>>();
		assert_eq!(said, [Message::binary(hello())], "{first:?}");
	}
	// Nor does anything else come first.
	let mut longer = hello();
	longer.push(0);
	for first in [
		Message::text("hello"),
		Message::binary(vec![]),
		Message::binary(vec![1; 42]),
		Message::binary(longer),
	] {
		let (endpoint, heard) = validator(Message::binary(offer(ACCOUNT))).await;
		let gateway = gateway(endpoint, |_| ()).await;
		let mut page = page(&gateway).await;
		page.send(first.clone()).await.unwrap();
		end(&mut page).await;
		assert!(!heard.is_finished(), "nobody came: {first:?}");
	}
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_ends_it() {
	let refused = vec![4, 0, 1, 0];
	let (endpoint, _heard) = validator(Message::binary(refused.clone())).await;
	let gateway = gateway(endpoint, |_| ()).await;
	let mut page = page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	assert_eq!(next(&mut page).await, Message::binary(refused));
	end(&mut page).await;
}

#[tokio::test]
async fn text_and_more_than_one_connection_may_say_end_it() {
	let (endpoint, _heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint, |c| c.relay_bytes = 1_000).await;
	let mut page = page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	next(&mut page).await;
	// It comes back: both ways count.
	page.send(Message::binary(vec![1; 600])).await.unwrap();
	assert!(end(&mut page).await.reason.contains("more was said"));

	let (endpoint, _heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = self::gateway(endpoint, |_| ()).await;
	let mut page = self::page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	next(&mut page).await;
	page.send(Message::text("{}")).await.unwrap();
	assert!(end(&mut page).await.reason.contains("no text"));
}

#[tokio::test]
async fn relays_are_counted_and_end_when_nothing_is_said() {
	let (endpoint, _heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint, |c| {
		c.relays = 1;
		c.relay_idle = Duration::from_millis(300);
	})
	.await;
	let mut page = page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	next(&mut page).await;
	let path = format!("/v1/lane/{CHAT}/{VALIDATOR}");
	let refused = dial(&gateway, &path, &[]).await.unwrap_err();
	assert_eq!(status(refused), 429);
	assert!(end(&mut page).await.reason.contains("nothing was said"));
	// Its place is free again.
	timeout(LIMIT, async {
		while dial(&gateway, &path, &[]).await.is_err() {
			tokio::task::yield_now().await;
		}
	})
	.await
	.unwrap();
}

#[tokio::test]
async fn pages_of_others_are_kept_out_and_keys_are_asked_for() {
	let (endpoint, _heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint.clone(), |_| ()).await;
	let path = format!("/v1/lane/{CHAT}/{VALIDATOR}");
	let elsewhere = [("origin", "https://elsewhere.example")];
	let refused = dial(&gateway, &path, &elsewhere).await.unwrap_err();
	assert_eq!(status(refused), 403);

	let folder = tempfile::tempdir().unwrap();
	let file = folder.path().join("keys.toml");
	// SHA-256 of `secret`.
	let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
	fs::write(
		&file,
		format!("[[keys]]\nname = \"a\"\nsha256 = \"{digest}\""),
	)
	.unwrap();
	let key = [(
		"sec-websocket-protocol",
		"consilience-lane, consilience-key.736563726574",
	)];
	// Strangers have keys: what is behind the gateway's own walls is not for them.
	let walled = self::gateway(endpoint.clone(), |c| c.keys = Some(file.clone())).await;
	let mut page = dial(&walled, &path, &key).await.unwrap();
	page.send(Message::binary(hello())).await.unwrap();
	assert!(
		matches!(page.next().await, Some(Ok(Message::Close(Some(_))))),
		"it leads to this machine"
	);
	let gateway = self::gateway(endpoint, |c| {
		c.keys = Some(file);
		c.relay_local = true;
	})
	.await;
	let refused = dial(&gateway, &path, &[]).await.unwrap_err();
	assert_eq!(status(refused), 401);
	let mut page = dial(&gateway, &path, &key).await.unwrap();
	page.send(Message::binary(hello())).await.unwrap();
	assert_eq!(next(&mut page).await, Message::binary(offer(ACCOUNT)));
}

#[tokio::test]
async fn a_gateway_that_ends_ends_its_relays() {
	let (endpoint, _heard) = validator(Message::binary(offer(ACCOUNT))).await;
	let gateway = gateway(endpoint, |_| ()).await;
	let mut page = page(&gateway).await;
	page.send(Message::binary(hello())).await.unwrap();
	next(&mut page).await;
	gateway.stop().await;
	let ended = timeout(LIMIT, page.next()).await.unwrap();
	assert!(!matches!(ended, Some(Ok(Message::Binary(_)))));
}
