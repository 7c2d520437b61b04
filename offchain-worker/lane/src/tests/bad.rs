//! Every refusal.

use codec::Encode;
use consilience_primitives::{
	request::Input,
	session::{step, Allotment, Anchor, Lowering, Service, Signable, Signed, SLICE_TOKENS},
};
use futures::SinkExt;
use polkadot_sdk::sp_core::{Pair, H256};
use tokio_tungstenite::tungstenite::Message;

use super::{
	client::{input, old_anchor, question, Peer, Reading, Wallet},
	double::{account, allotment, genesis, model_id, Node, World, ALLOCATION, CHANNEL, PRICE},
};
use crate::message::{Question, Refusal, ToClient, ToValidator, MAX_UNPAID, VERSION};

struct Scene {
	wallet: Wallet,
	world: std::sync::Arc<World>,
	node: Node,
	_folder: tempfile::TempDir,
}

async fn scene() -> Scene {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	Scene {
		wallet,
		world,
		node,
		_folder: folder,
	}
}

type Voucher = consilience_primitives::session::Voucher<crate::message::AccountId, u128>;

/// Asks with a changed question and a changed voucher.
async fn ask(
	scene: &Scene,
	peer: &mut Peer,
	question: Question,
	change: impl FnOnce(&mut Voucher),
) -> Refusal {
	let number = question.number;
	let mut voucher = Reading::new(question.clone(), 0).voucher();
	change(&mut voucher);
	let voucher = scene.wallet.sign(voucher);
	let ask = question;
	peer.say(&ToValidator::Ask { ask, voucher }).await;
	let (of, why) = peer.refused().await;
	assert_eq!(of, Some(number));
	why
}

#[tokio::test]
async fn what_is_not_right_about_a_question_is_said_and_costs_no_engine_time() {
	let scene = scene().await;
	let world = &scene.world;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let peer = &mut peer;
	let plain = |number| question(world, number, "hello", 100);

	let changed = |change: fn(&mut Question)| {
		let mut question = plain(1);
		change(&mut question);
		question
	};
	for (question, expected) in [
		(changed(|q| q.number = 0), Refusal::Number),
		(changed(|q| q.number = 65_537), Refusal::Number),
		(changed(|q| q.payee = account(2)), Refusal::Channel),
		(changed(|q| q.channel = 9), Refusal::Channel),
		(changed(|q| q.model = H256::zero()), Refusal::Model),
		(changed(|q| q.anchor.hash = H256::zero()), Refusal::Anchor),
		(changed(|q| q.input = input("", 10)), Refusal::Input),
		(changed(|q| q.input = input("x", 0)), Refusal::Input),
		(changed(|q| q.input = input("x", 4_097)), Refusal::Input),
	] {
		assert_eq!(ask(&scene, peer, question, |_| ()).await, expected);
	}
	let mut old = plain(1);
	old.anchor = old_anchor(world, 101);
	assert_eq!(ask(&scene, peer, old, |_| ()).await, Refusal::Anchor);

	let vouchers: [fn(&mut Voucher); 12] = [
		|v| v.channel = 8,
		|v| v.payee = account(2),
		|v| v.service = Service::Check,
		|v| v.number = 2,
		|v| v.request = H256::zero(),
		|v| v.transcript = H256::zero(),
		|v| v.amount -= 1,
		|v| v.amount += 1,
		|v| v.amount = u128::MAX,
		|v| v.amount = 0,
		// The present session, and one later than any voucher's.
		|v| v.expires = 5,
		|v| v.expires = 13,
	];
	for change in vouchers {
		assert_eq!(ask(&scene, peer, plain(1), change).await, Refusal::Voucher);
	}
	// By the channel's key, for another chain.
	let body = Reading::new(plain(1), 0).voucher();
	let signature = scene.wallet.pair.sign(&body.payload(&H256::repeat_byte(7)));
	let voucher = Signed { body, signature };
	peer.say(&ToValidator::Ask {
		ask: plain(1),
		voucher,
	})
	.await;
	assert_eq!(peer.refused().await, (Some(1), Refusal::Voucher));
	let mut thief = scene.wallet.clone();
	thief.pair = super::double::pair(66);
	let reading = Reading::new(plain(1), 0);
	let voucher = thief.sign(reading.voucher());
	peer.say(&ToValidator::Ask {
		ask: plain(1),
		voucher,
	})
	.await;
	assert_eq!(peer.refused().await, (Some(1), Refusal::Voucher));

	// What the chain does not admit.
	let set = |amount, by| {
		world.channel(|c| {
			c.allocations[0].allotment = Allotment {
				lowering: Some(Lowering { by, at: 9_999 }),
				..allotment(amount)
			}
		});
	};
	let prompt = PRICE.of(5, 0).unwrap();
	let slice = u128::from(SLICE_TOKENS) * PRICE.per_output_unit;
	for (amount, by) in [
		(prompt - 1, 0),
		(prompt + slice - 1, 0),
		(prompt + slice, 1),
	] {
		set(amount, by);
		assert_eq!(ask(&scene, peer, plain(1), |_| ()).await, Refusal::Voucher);
	}
	world.channel(|c| c.allocations[0].allotment = allotment(ALLOCATION));
	scene
		.node
		.engine
		.0
		.free
		.store(0, std::sync::atomic::Ordering::SeqCst);
	assert_eq!(ask(&scene, peer, plain(1), |_| ()).await, Refusal::Busy);
	scene
		.node
		.engine
		.0
		.free
		.store(1, std::sync::atomic::Ordering::SeqCst);
	world.change(|s| s.fails = true);
	assert_eq!(ask(&scene, peer, plain(1), |_| ()).await, Refusal::Failed);
	world.change(|s| s.fails = false);
	assert_eq!(scene.node.engine.used(), (0, 0));

	// After all that the same number is good.
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut reading = peer.ask(plain(1), 0).await;
	peer.read(world, &mut reading).await;
	peer.pay(&mut reading).await;
	let base = reading.amount();
	// It was used, and lower ones with it.
	let mut other = plain(1);
	other.salt = H256::repeat_byte(9);
	assert_eq!(
		ask(&scene, &mut peer, other, |v| v.amount += base).await,
		Refusal::Number
	);
	let mut reading = peer.ask(plain(5), base).await;
	peer.read(world, &mut reading).await;
	peer.pay(&mut reading).await;
	let base = reading.amount();
	assert_eq!(
		ask(&scene, &mut peer, plain(4), |v| v.amount += base).await,
		Refusal::Number
	);
	// Closing and no longer serving.
	world.change(|s| s.models.get_mut(&model_id()).unwrap().serving = vec![account(2)]);
	assert_eq!(
		ask(&scene, &mut peer, plain(6), |v| v.amount += base).await,
		Refusal::Model
	);
	world.channel(|c| c.closes_at = Some(2_000));
	assert_eq!(
		ask(&scene, &mut peer, plain(6), |v| v.amount += base).await,
		Refusal::Channel
	);
}

#[tokio::test]
async fn of_what_cannot_be_answered_nothing_is_owed() {
	let scene = scene().await;
	let world = &scene.world;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	for (number, words, why) in [
		(1, "unanswerable", Refusal::Unanswerable),
		(2, "taken", Refusal::Busy),
		(3, "fails 0", Refusal::Failed),
		// Writes more than it may: nothing of it is sent.
		(4, "greedy pieces 33", Refusal::Failed),
	] {
		peer.ask(question(world, number, words, 100), 0).await;
		assert_eq!(peer.refused().await, (Some(number), why), "{words}");
		// Nor is it taken again.
		peer.ask(question(world, number, words, 100), 0).await;
		assert_eq!(peer.refused().await, (Some(number), Refusal::Number));
	}
	let (_, offer) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	assert_eq!(offer.held_answer, None);
	// One that fails on the way is paid as far as it came.
	let mut reading = peer
		.ask(question(world, 5, "pieces 4 fails 20", 100), 0)
		.await;
	let heard = peer.read(world, &mut reading).await;
	assert_eq!(heard.output.units(), 20);
	peer.goodbye().await;
	world.until(|s| s.claims.len() == 1).await;
	assert_eq!(world.read(|s| s.claims[0].body.root.sum), reading.amount());
}

#[tokio::test]
async fn what_a_voucher_does_not_pay_it_does_not_pay() {
	let scene = scene().await;
	let world = &scene.world;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut reading = peer.ask(question(world, 1, "pieces 8", 200), 0).await;
	while reading.transcript.tokens < SLICE_TOKENS {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			other => panic!("{other:?}"),
		}
	}
	let good = reading.voucher();
	let changes: [fn(&mut Voucher); 5] = [
		// Acknowledges what was not sent, all tokens for less, all for more.
		|v| v.transcript = H256::zero(),
		|v| v.amount -= 5,
		|v| v.amount += 5,
		|v| v.expires = 5,
		|v| v.request = H256::zero(),
	];
	for change in changes {
		let mut voucher = good.clone();
		change(&mut voucher);
		let voucher = scene.wallet.sign(voucher);
		peer.say(&ToValidator::Pay(voucher)).await;
		assert_eq!(peer.refused().await, (Some(1), Refusal::Voucher));
	}
	assert_eq!(scene.node.engine.written(), SLICE_TOKENS);
	// Then the right one.
	peer.pay(&mut reading).await;
	let heard = peer.read(world, &mut reading).await;
	assert_eq!(heard.output.units(), 200);
}

#[tokio::test]
async fn an_anchor_that_is_a_moment_ahead_is_waited_for() {
	let scene = scene().await;
	let world = &scene.world;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut ask = question(world, 1, "soon", 10);
	ask.anchor.number += 2;
	ask.anchor.hash = super::double::block(ask.anchor.number);
	let mut reading = peer.ask(ask, 0).await;
	let read = peer.read(world, &mut reading);
	let blocks = async {
		tokio::task::yield_now().await;
		world.blocks(2);
	};
	tokio::join!(read, blocks);
}

/// Both sides count blocks and sessions of the chain, and neither knows what time it is: what a slow or a fast one sees otherwise is the
/// session before or after, and blocks that the other does not have yet.
#[tokio::test]
async fn a_client_that_is_in_the_session_before_or_after_is_served() {
	let scene = scene().await;
	let world = &scene.world;
	// An era from now, as the client counts from the sessions 4, 5 and 6; the chain is in its fifth.
	let mut base = 0;
	for (number, expires) in (1..).zip([10, 11, 12]) {
		let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
		let mut ask = question(world, number, "pieces 8", 10);
		// One of its blocks is a moment ahead, or long ago.
		if number == 3 {
			ask.anchor = old_anchor(world, 99);
		}
		let mut reading = Reading::new(ask.clone(), base);
		let signed = |reading: &Reading| {
			let mut voucher = reading.voucher();
			voucher.expires = expires;
			scene.wallet.sign(voucher)
		};
		let voucher = signed(&reading);
		peer.say(&ToValidator::Ask { ask, voucher }).await;
		loop {
			match peer.hear().await {
				Some(ToClient::Frame(frame)) => reading.take(&frame),
				Some(ToClient::End(end)) => {
					reading.end(world, &end);
					break;
				}
				other => panic!("{other:?}"),
			}
		}
		peer.say(&ToValidator::Pay(signed(&reading))).await;
		peer.goodbye().await;
		base = reading.amount();
	}
	// All of it is claimed in the end.
	world.channel(|c| c.closes_at = Some(2_000));
	world
		.until(|s| s.claims.iter().map(|c| c.body.root.sum).sum::<u128>() == base)
		.await;
}

#[tokio::test]
async fn what_is_no_message_ends_that_connection_only() {
	let scene = scene().await;
	let (mut good, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let hello = ToValidator::Hello {
		version: VERSION,
		genesis: genesis(),
		channel: CHANNEL,
	};
	let other = |version, genesis, channel| ToValidator::Hello {
		version,
		genesis,
		channel,
	};
	let mut trailing = hello.encode();
	trailing.push(0);
	for (bytes, expected) in [
		(vec![0xff; 40], Refusal::Malformed),
		(Vec::new(), Refusal::Malformed),
		(trailing, Refusal::Malformed),
		(
			ToValidator::Cancel { number: 1 }.encode(),
			Refusal::Malformed,
		),
		(other(2, genesis(), CHANNEL).encode(), Refusal::Incompatible),
		(
			other(VERSION, H256::zero(), CHANNEL).encode(),
			Refusal::Incompatible,
		),
		(other(VERSION, genesis(), 99).encode(), Refusal::Channel),
	] {
		let mut peer = Peer::connect(&scene.node, &scene.wallet).await;
		peer.raw(bytes).await;
		assert_eq!(peer.refused().await, (None, expected));
		assert_eq!(peer.hear().await, None);
	}
	for message in [
		Message::Text("hello".into()),
		Message::Binary(hello.encode().into()),
	] {
		let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
		peer.socket.send(message).await.unwrap();
		assert_eq!(peer.refused().await, (None, Refusal::Malformed));
		assert_eq!(peer.hear().await, None);
	}
	let mut reading = good
		.ask(question(&scene.world, 1, "still here", 10), 0)
		.await;
	good.read(&scene.world, &mut reading).await;
}

#[tokio::test]
async fn a_channel_without_a_seed_or_an_allocation_is_none() {
	let scene = scene().await;
	let world = &scene.world;
	world.channel(|c| c.allocations.remove(0).releases = 0);
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let hello = question(world, 1, "hello", 10);
	assert_eq!(
		ask(&scene, &mut peer, hello, |_| ()).await,
		Refusal::Channel
	);
	world.channel(|c| c.seed = None);
	let mut peer = Peer::connect(&scene.node, &scene.wallet).await;
	peer.say(&ToValidator::Hello {
		version: VERSION,
		genesis: genesis(),
		channel: CHANNEL,
	})
	.await;
	assert_eq!(peer.refused().await, (None, Refusal::Channel));
	assert_eq!(scene.node.engine.used(), (0, 0));
}

#[tokio::test]
async fn a_validator_whose_key_is_not_certified_signs_nothing() {
	let scene = scene().await;
	let world = &scene.world;
	// Two sessions later it has not certified: the chain does not take it.
	world.change(|s| s.session = 7);
	let mut peer = Peer::connect(&scene.node, &scene.wallet).await;
	peer.say(&ToValidator::Hello {
		version: VERSION,
		genesis: genesis(),
		channel: CHANNEL,
	})
	.await;
	assert_eq!(peer.refused().await, (None, Refusal::Failed));
	// At the next block it certifies.
	world.blocks(1);
	scene.node.certified(7).await;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut reading = peer.ask(question(world, 1, "again", 10), 0).await;
	let heard = peer.read(world, &mut reading).await;
	assert_eq!(heard.receipt.body.session, 7);
}

#[tokio::test]
async fn a_stranger_costs_no_engine_time_and_64_kib() {
	let scene = scene().await;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	// A question that would be good, in a message that is too long for somebody whose voucher was never seen.
	let long = "x".repeat(32_768);
	let mut ask = question(&scene.world, 1, &long, 10);
	let Input::TextGeneration { prompt, .. } = &mut ask.input else {
		unreachable!()
	};
	let text: Vec<u8> = vec![b'x'; 30_000];
	let message = |role| consilience_primitives::request::Message {
		role,
		content: text.clone().try_into().unwrap(),
	};
	use consilience_primitives::request::{Prompt, Role};
	*prompt = Prompt::Chat(vec![message(Role::User); 3].try_into().unwrap());
	let encoded = {
		let voucher = scene.wallet.sign(Reading::new(ask.clone(), 0).voucher());
		ToValidator::Ask { ask, voucher }.encode()
	};
	assert!(encoded.len() > MAX_UNPAID);
	peer.raw(encoded).await;
	assert_eq!(peer.hear().await, None, "it is not even read");
	// In pieces it is the same, whatever pings lie between.
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	use tokio_tungstenite::tungstenite::protocol::frame::{
		coding::{Data, OpCode},
		Frame,
	};
	for i in 0..200 {
		let kind = if i == 0 { Data::Binary } else { Data::Continue };
		let piece = Frame::message(vec![0u8; 1_024], OpCode::Data(kind), false);
		if peer.socket.send(Message::Frame(piece)).await.is_err()
			|| peer
				.socket
				.send(Message::Ping(vec![0u8; 8].into()))
				.await
				.is_err()
		{
			break;
		}
	}
	while peer.hear().await.is_some() {}
	// Whoever speaks too much nonsense is not heard out.
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut refusals = 0;
	loop {
		let ask = question(&scene.world, 0, "x", 10);
		let voucher = scene.wallet.sign(Reading::new(ask.clone(), 0).voucher());
		peer.say(&ToValidator::Ask { ask, voucher }).await;
		match peer.hear().await {
			Some(ToClient::Refused { .. }) => refusals += 1,
			None => break,
			other => panic!("{other:?}"),
		}
	}
	assert_eq!(refusals, 32);
	assert_eq!(scene.node.engine.used(), (0, 0));
}

#[tokio::test]
async fn once_a_voucher_has_verified_messages_may_be_long() {
	let scene = scene().await;
	let world = &scene.world;
	world.change(|s| {
		let model = s.models.get_mut(&model_id()).unwrap();
		model.spec.limits.max_input_units = 200_000;
		model.spec.chat = true;
	});
	world.channel(|c| c.allocations[0].allotment = allotment(10_000_000));
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut reading = peer.ask(question(world, 1, "short", 10), 0).await;
	let heard = peer.read(world, &mut reading).await;
	peer.pay(&mut reading).await;
	drop(heard);
	let mut message = ToValidator::Cancel { number: 1 }.encode();
	assert!(message.len() < MAX_UNPAID);
	message.resize(MAX_UNPAID + 20_000, 0);
	peer.raw(message).await;
	// It was read, and is no message.
	assert_eq!(peer.refused().await, (None, Refusal::Malformed));
}

#[tokio::test]
async fn an_anchor_is_of_the_finalised_chain() {
	let scene = scene().await;
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	let mut fork = question(&scene.world, 1, "hello", 10);
	fork.anchor = Anchor {
		number: fork.anchor.number - 3,
		hash: step(&fork.anchor.hash),
	};
	assert_eq!(ask(&scene, &mut peer, fork, |_| ()).await, Refusal::Anchor);
	// As old as it may be.
	let mut oldest = question(&scene.world, 1, "hello", 10);
	oldest.anchor = old_anchor(&scene.world, 100);
	let mut reading = peer.ask(oldest, 0).await;
	peer.read(&scene.world, &mut reading).await;
}
