//! What peers may cost.

use std::time::Duration;

use codec::Compact;
use consilience_primitives::session::{Signable, Signed, Transcript};
use consilience_primitives::{request::FinishReason, session::Receipt};
use futures::StreamExt;

use tokio::{
	io::AsyncReadExt,
	net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{client_async, connect_async, tungstenite::Message, MaybeTlsStream};

use super::{
	client::{question, Peer, Reading, Wallet},
	double::{config, genesis, Double, Node, World, CHANNEL, PRICE},
};
use crate::{
	journal::{Account, Answer, Batch, Ending, Fragment, Journal},
	message::{Refusal, ToClient, ToValidator, VERSION},
	Config,
};

fn hello() -> ToValidator {
	ToValidator::Hello {
		version: VERSION,
		genesis: genesis(),
		channel: CHANNEL,
	}
}

async fn node(world: &std::sync::Arc<World>, config: Config) -> Node {
	Node::with(world, 1, config, Double::new()).await
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		connections_per_address: 2,
		..config(folder.path())
	};
	let node = node(&world, config).await;
	let (one, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let (_two, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let address = format!("ws://{}", node.handle.address());
	connect_async(&address).await.expect_err("there are two");
	one.goodbye().await;
	// It counts as long as the lane has something to do with it.
	while connect_async(&address).await.is_err() {}
}

#[tokio::test]
async fn who_says_nothing_or_does_not_answer_leaves_its_place_to_others() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		connections: 1,
		handshake: Duration::from_millis(100),
		idle: Duration::from_millis(300),
		..config(folder.path())
	};
	let node = node(&world, config).await;
	let address = node.handle.address();
	// No handshake.
	let mut silent = TcpStream::connect(address).await.unwrap();
	assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
	// No hello.
	let mut peer = Peer::connect(&node, &wallet).await;
	assert_eq!(peer.hear().await, None);
	// No answer to a ping: nothing is read, and so none is given. The next one comes in nevertheless.
	let (deaf, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let (mut next, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	// A peer that does answer stays for longer than silence is borne.
	let begun = tokio::time::Instant::now();
	let mut pings = 0;
	while pings < 6 {
		match next.socket.next().await {
			Some(Ok(Message::Ping(_))) => pings += 1,
			other => panic!("a ping, not {other:?}"),
		}
	}
	assert!(begun.elapsed() > Duration::from_millis(600));
	drop(deaf);
}

#[tokio::test]
async fn who_only_keeps_a_connection_asks_again_over_it_and_leaves_its_place_to_others() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		connections: 2,
		idle: Duration::from_millis(200),
		..config(folder.path())
	};
	let node = node(&world, config).await;
	let (mut kept, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	// What nobody has paid for is not said twice.
	kept.say(&hello()).await;
	assert_eq!(kept.refused().await, (None, Refusal::Malformed));
	let (mut kept, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut base = 0;
	for number in 1..=2 {
		let ask = question(&world, number, "ends 5", 9);
		let mut reading = kept.ask(ask, base).await;
		kept.read(&world, &mut reading).await;
		base = reading.amount();
		kept.say(&hello()).await;
		match kept.hear().await {
			Some(ToClient::Offer(offer)) => {
				let held = offer.held_answer.expect("it was paid");
				assert_eq!(held.body.amount, base);
			}
			other => panic!("an offer, not {other:?}"),
		}
	}
	// Nobody has to go while there is a place, however long nothing is said.
	let pings = async |peer: &mut Peer, count| {
		for _ in 0..count {
			match peer.socket.next().await {
				Some(Ok(Message::Ping(_))) => (),
				other => panic!("a ping, not {other:?}"),
			}
		}
	};
	pings(&mut kept, 4).await;
	let (mut other, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	// Both places are taken: the one that is only kept is free for whoever comes next.
	assert_eq!(kept.hear().await, None);
	let (_next, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = other.ask(question(&world, 3, "ends 5", 9), base).await;
	other.read(&world, &mut reading).await;
}

#[tokio::test]
async fn who_does_not_read_is_dropped_and_nothing_is_kept_for_it() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let ask = question(&world, 1, "long ago", 4_096);
	answered_before(folder.path(), &wallet, &Reading::new(ask.clone(), 0)).await;
	let config = Config {
		connections: 1,
		send: Duration::from_millis(200),
		..config(folder.path())
	};
	let node = node(&world, config).await;
	let socket = TcpSocket::new_v4().unwrap();
	socket.set_recv_buffer_size(4_096).unwrap();
	let tcp = socket.connect(node.handle.address()).await.unwrap();
	let address = format!("ws://{}", node.handle.address());
	let (socket, _) = client_async(address, MaybeTlsStream::Plain(tcp))
		.await
		.unwrap();
	let mut slow = Peer {
		socket,
		wallet: wallet.clone(),
	};
	slow.say(&hello()).await;
	assert!(slow.hear().await.is_some());
	let mut reading = slow.ask(ask.clone(), 0).await;
	// Its place is free for somebody who reads it all.
	let (mut quick, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut whole = quick.ask(ask, 0).await;
	whole.paid = 4_096;
	let end = loop {
		match quick.hear().await {
			Some(ToClient::Frame(frame)) => whole.take(&frame),
			Some(ToClient::End(end)) => break end,
			other => panic!("{other:?}"),
		}
	};
	whole.end(&world, &end);
	// What was on its way arrives, and then the end, before that of the answer.
	reading.paid = 4_096;
	while let Some(ToClient::Frame(frame)) = slow.hear().await {
		reading.take(&frame);
	}
	assert!(reading.tokens.len() < 4_096);
}

/// A journal with a long answer in pieces of one token.
async fn answered_before(folder: &std::path::Path, wallet: &Wallet, reading: &Reading) {
	let key = crate::key::load(&folder.join("lane.key")).unwrap();
	let journal = Journal::open(&folder.join("lane.redb")).unwrap();
	let mut transcript = Transcript::begin(&reading.request);
	let mut batch = Batch::default();
	for at in 0..4_096 {
		transcript.push(at);
		let fragment = Fragment {
			tokens: vec![Compact(at)],
			text: b"word ".to_vec(),
		};
		batch = batch.fragment(CHANNEL, 1, at, &fragment);
	}
	let text = b"word ".repeat(4_096);
	let units = reading.ask.input.units();
	let receipt = Receipt {
		channel: CHANNEL,
		payee: reading.ask.payee.clone(),
		number: 1,
		session: 5,
		request: reading.request,
		transcript: transcript.end(&text, FinishReason::Length),
		input_units: units,
		output_units: 4_096,
		amount: PRICE.of(units, 4_096).unwrap(),
		anchor: reading.ask.anchor,
	};
	let receipt = Signed {
		signature: polkadot_sdk::sp_core::Pair::sign(&key, &receipt.payload(&genesis())),
		body: receipt,
	};
	let voucher = wallet.sign(reading.voucher());
	let answer = Answer {
		request: reading.request,
		price: PRICE,
		input_units: units,
		base: 0,
		before: None,
		payable: 4_096,
		voucher: voucher.clone(),
		paid: 0,
		end: Ending::Signed {
			rest: Vec::new(),
			finish: FinishReason::Length,
			receipt: Box::new(receipt),
		},
	};
	let account = Account {
		last: 1,
		held: Some(voucher),
		..Account::default()
	};
	let batch = batch
		.ask(&reading.ask)
		.answer(CHANNEL, 1, &answer)
		.account(CHANNEL, &account);
	journal.write(batch).await.unwrap();
	journal.closed().await;
}
