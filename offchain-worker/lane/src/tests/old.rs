//! Old receipts, old claims, old keys; and peers that cost time.

use std::time::Duration;

use consilience_primitives::session::{Anchor, OpeningDue, Service, SLICE_TOKENS};
use futures::StreamExt;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::{
	client::{question, Peer, Reading, Wallet},
	double::{account, block, config, pair, verify_opening, Double, Node, World, CHANNEL, PRICE},
};
use crate::{
	journal::{Batch, ClaimState, Journal},
	message::{Balance, Payment, Refusal, ToClient, ToValidator, VERSION},
	Config,
};

/// Asks questions and pays for their answers; returns what they come to.
async fn earn(
	node: &Node,
	world: &World,
	wallet: &Wallet,
	numbers: &[u32],
	base: Balance,
) -> Balance {
	let (mut peer, _) = Peer::hello(node, wallet, CHANNEL).await;
	let mut base = base;
	for number in numbers {
		let ask = question(world, *number, "pieces 32", 40);
		let mut reading = peer.ask(ask, base).await;
		peer.read(world, &mut reading).await;
		peer.pay(&mut reading).await;
		base = reading.amount();
	}
	peer.goodbye().await;
	base
}

/// The session after those that are over.
async fn session(world: &World, node: &Node, index: u32) {
	world.change(|s| s.session = index);
	world
		.until(|s| s.keys.contains_key(&(account(1), index)))
		.await;
	node.certified(index).await;
}

/// What was seen, paid in a later session.
fn late(wallet: &Wallet, reading: &Reading) -> Payment {
	let mut voucher = reading.voucher();
	voucher.expires = 15;
	wallet.sign(voucher)
}

/// Reads to the end, and pays nothing.
async fn unpaid(peer: &mut Peer, world: &World, reading: &mut Reading) {
	loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			Some(ToClient::End(end)) => {
				reading.end(world, &end);
				return;
			}
			other => panic!("an answer, not {other:?}"),
		}
	}
}

#[tokio::test]
async fn receipts_in_a_claim_are_of_the_session_in_which_it_is_made() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		minimum: 10_000,
		..config(folder.path())
	};
	let node = Node::with(&world, 1, config.clone(), Double::new()).await;
	let first = earn(&node, &world, &wallet, &[1], 0).await;
	session(&world, &node, 6).await;
	let total = earn(&node, &world, &wallet, &[2], first).await;
	session(&world, &node, 7).await;
	// The chain has forgotten the key of the first, and the claim is lost on its way.
	world.change(|s| {
		s.keys.remove(&(account(1), 5));
		s.loses = true;
	});
	world.channel(|c| c.closes_at = Some(9_999));
	world.until(|s| !s.submitted.is_empty()).await;
	let root = world.read(|s| s.submitted[0].body.root);
	assert_eq!(root.sum, total);
	// Nothing of it is signed again in the next session but the claim; nor after a restart.
	session(&world, &node, 8).await;
	node.kill().await;
	let node = Node::with(&world, 1, config, Double::new()).await;
	world.change(|s| s.loses = false);
	world.until(|s| s.claims.len() == 1).await;
	let claim = world.read(|s| s.claims[0].clone());
	assert_eq!((claim.body.session, claim.body.root), (8, root));
	for (point, offset) in [(0, 0), (1, first)] {
		let due = OpeningDue {
			claim: 3,
			point,
			channel: CHANNEL,
			root,
			count: 2,
			offset,
			deadline: 2_000,
		};
		world.change(|s| s.due.push((node.me.clone(), due)));
	}
	world.until(|s| s.opened.len() == 2).await;
	for (_, point, opening) in world.read(|s| s.opened.clone()) {
		assert_eq!(opening.receipt.body.session, 7);
		let (before, paid) = verify_opening(&world, &root, &opening);
		let expected = [(0, first), (first, total - first)][point as usize];
		assert_eq!((before, paid), expected);
	}
}

#[tokio::test]
async fn a_claim_is_lost_when_finalised_state_says_so() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	world.change(|s| s.loses = true);
	let first = earn(&node, &world, &wallet, &[1], 0).await;
	world.until(|s| !s.submitted.is_empty()).await;
	// Its voucher is good up to session 9: the best block is beyond that, and a block that is not final yet has the claim.
	world.change(|s| s.finalised_session = Some(9));
	for index in 6..=11 {
		session(&world, &node, index).await;
	}
	world
		.until(|s| s.submitted.iter().any(|c| c.body.session == 11))
		.await;
	world.channel(|c| {
		c.allocations[0].allotment.claimed = first;
		c.pending = first;
	});
	world.change(|s| {
		s.finalised_session = None;
		s.loses = false;
	});
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let ask = question(&world, 2, "later", 20);
	let mut reading = Reading::new(ask.clone(), first);
	let voucher = late(&wallet, &reading);
	peer.say(&ToValidator::Ask { ask, voucher }).await;
	unpaid(&mut peer, &world, &mut reading).await;
	peer.say(&ToValidator::Pay(late(&wallet, &reading))).await;
	peer.goodbye().await;
	world.until(|s| s.claims.len() == 1).await;
	let claim = world.read(|s| s.claims[0].body.clone());
	assert_eq!((claim.count, claim.root.sum), (1, reading.amount() - first));
}

#[tokio::test]
async fn what_was_claimed_is_not_paid_further_though_the_claim_was_held_for_lost() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(question(&world, 1, "pieces 32", 20), 0).await;
	unpaid(&mut peer, &world, &mut reading).await;
	peer.goodbye().await;
	world.channel(|c| c.closes_at = Some(9_999));
	world.until(|s| s.claims.len() == 1).await;
	node.kill().await;
	let journal = Journal::open(&folder.path().join("lane.redb")).unwrap();
	let (place, mut claim) = journal
		.claims(CHANNEL, Service::Answer)
		.unwrap()
		.pop()
		.unwrap();
	claim.state = ClaimState::Lost;
	let batch = Batch::default().claim(CHANNEL, Service::Answer, place, &claim);
	journal.write(batch).await.unwrap();
	journal.closed().await;
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let payment = peer.payment(&reading);
	peer.say(&ToValidator::Pay(payment)).await;
	assert_eq!(peer.refused().await, (Some(1), Refusal::Voucher));
}

#[tokio::test]
async fn a_new_key_signs_nothing_before_it_is_certified() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	Node::start(&world, 1, folder.path()).await.kill().await;
	std::fs::remove_file(folder.path().join("lane.key")).unwrap();
	world.change(|s| s.forgets = true);
	// Also once it has looked at what is certified: that is of the old key.
	for _ in 0..2 {
		let node = Node::begin(&world, 1, config(folder.path()), Double::new()).await;
		let mut identity = node.handle.identity.clone();
		identity.wait_for(|i| i.is_some()).await.unwrap();
		let mut peer = Peer::connect(&node, &wallet).await;
		peer.say(&ToValidator::Hello {
			version: VERSION,
			genesis: super::double::genesis(),
			channel: CHANNEL,
		})
		.await;
		assert_eq!(peer.refused().await, (None, Refusal::Failed));
		node.kill().await;
	}
	world.change(|s| s.forgets = false);
	let node = Node::start(&world, 1, folder.path()).await;
	earn(&node, &world, &wallet, &[1], 0).await;
	assert_eq!(world.read(|s| s.keys[&(account(1), 5)]), node.handle.key());
}

#[tokio::test]
async fn nobody_holds_a_channel_up_with_a_block_that_is_not_there() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		anchor: Duration::from_secs(3_600),
		..config(folder.path())
	};
	let node = Node::with(&world, 1, config, Double::new()).await;
	let mut far = question(&world, 1, "far", 20);
	let number = far.anchor.number + 1_000;
	far.anchor = Anchor {
		number,
		hash: block(number),
	};
	// A stranger is told so without waiting for anything.
	let mut thief = wallet.clone();
	thief.pair = pair(66);
	let (mut stranger, _) = Peer::hello(&node, &thief, CHANNEL).await;
	stranger.ask(far.clone(), 0).await;
	assert_eq!(stranger.refused().await, (Some(1), Refusal::Voucher));
	// The client that waits for the block can be answered on another connection meanwhile.
	let (mut waits, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	waits.ask(far, 0).await;
	earn(&node, &world, &wallet, &[1], 0).await;
	drop(waits);
}

#[tokio::test]
async fn who_knows_a_question_is_not_told_its_answer_without_the_channels_key() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let ask = question(&world, 1, "pieces 32", 40);
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(ask.clone(), 0).await;
	peer.read(&world, &mut reading).await;
	let mut thief = wallet.clone();
	thief.pair = pair(66);
	let (mut stranger, _) = Peer::hello(&node, &thief, CHANNEL).await;
	stranger.ask(ask, 0).await;
	assert_eq!(stranger.refused().await, (Some(1), Refusal::Voucher));
}

#[tokio::test]
async fn a_connection_without_a_voucher_ends() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let untrusted = Duration::from_millis(200);
	let config = Config {
		untrusted,
		idle: Duration::from_millis(100),
		..config(folder.path())
	};
	let node = Node::with(&world, 1, config, Double::new()).await;
	let (mut payer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = payer.ask(question(&world, 1, "ends 5", 9), 0).await;
	payer.read(&world, &mut reading).await;
	// It answers pings, and says nothing.
	let begun = Instant::now();
	let (mut idle, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let paid = async {
		while begun.elapsed() < 2 * untrusted {
			match payer.socket.next().await {
				Some(Ok(Message::Ping(_))) => (),
				other => panic!("a ping, not {other:?}"),
			}
		}
	};
	let ended = tokio::time::timeout(Duration::from_secs(10), idle.hear());
	let (end, ()) = tokio::join!(ended, paid);
	assert_eq!(end.expect("it ends"), None);
	assert!(begun.elapsed() >= untrusted);
}

#[tokio::test]
async fn the_chain_is_asked_once_a_block_what_is_served() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	for blocks in 1..=3 {
		for _ in 0..4 {
			let (_, offer) = Peer::hello(&node, &wallet, CHANNEL).await;
			assert_eq!(offer.models.len(), 1);
		}
		assert_eq!(world.read(|s| s.looks), blocks);
		world.blocks(1);
	}
}

#[tokio::test]
async fn who_pays_a_token_at_a_time_does_not_keep_its_place() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		pay: Duration::from_secs(20),
		pay_total: Duration::from_millis(300),
		..config(folder.path())
	};
	let node = Node::with(&world, 1, config, Double::new()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(question(&world, 1, "pieces 1", 400), 0).await;
	let mut paying = Reading::new(reading.ask.clone(), 0);
	let mut refused = false;
	let end = loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => {
				reading.take(&frame);
				if reading.transcript.tokens < paying.transcript.tokens + SLICE_TOKENS {
					continue;
				}
				// Just before it would be over for a slice.
				tokio::time::sleep(Duration::from_millis(50)).await;
				let next = reading.tokens[paying.transcript.tokens as usize];
				paying.transcript.push(next.0);
				reading.paid = paying.transcript.tokens;
				peer.say(&ToValidator::Pay(wallet.sign(paying.voucher())))
					.await;
			}
			Some(ToClient::Refused { why, .. }) => {
				assert_eq!(why, Refusal::Unpaid);
				refused = true;
			}
			Some(ToClient::End(end)) => break end,
			other => panic!("an answer, not {other:?}"),
		}
	};
	assert!(refused);
	let (receipt, _) = reading.end(&world, &end);
	let sent = receipt.body.output_units;
	assert!((SLICE_TOKENS..SLICE_TOKENS + 10).contains(&sent), "{sent}");
	assert_eq!(receipt.body.amount, PRICE.of(8, sent).unwrap());
}
