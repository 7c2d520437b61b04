//! Claims: together, again, in parts, in time; and what is forgotten.

use std::sync::Arc;

use consilience_primitives::session::{Service, SLICE_TOKENS};
use tempfile::TempDir;

use super::{
	client::{question, Peer, Wallet},
	double::{account, config, genesis, Double, Node, World, CHANNEL, PRICE},
};
use crate::{
	message::{Balance, Refusal, ToClient, ToValidator},
	Config, MAX_DEBT,
};

/// Asks questions and pays for their answers; returns what they come to.
async fn earn(node: &Node, world: &World, wallet: &Wallet, lengths: &[u32]) -> Balance {
	let (mut peer, offer) = Peer::hello(node, wallet, CHANNEL).await;
	let mut base = crate::journal::amount(&offer.held_answer);
	let first = offer.held_answer.map_or(0, |v| v.body.number);
	for (number, length) in (first + 1..).zip(lengths) {
		let mut reading = peer
			.ask(question(world, number, "pieces 32", *length), base)
			.await;
		peer.read(world, &mut reading).await;
		peer.pay(&mut reading).await;
		base = reading.amount();
	}
	peer.goodbye().await;
	base
}

/// A validator that claims no less than this, unless it would be lost.
async fn claims_from(minimum: Balance) -> (Wallet, Arc<World>, Node, TempDir) {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = Config {
		minimum,
		..config(folder.path())
	};
	let node = Node::with(&world, 1, config, Double::new()).await;
	(wallet, world, node, folder)
}

fn claimed(world: &World) -> Balance {
	world.read(|s| s.channels[&CHANNEL].allocations[0].allotment.claimed)
}

#[tokio::test]
async fn what_is_lost_is_submitted_again_with_the_same_root() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	world.change(|s| s.loses = true);
	let first = earn(&node, &world, &wallet, &[40, 10]).await;
	world.until(|s| s.submitted.len() == 2).await;
	// More is earned meanwhile: it has to wait for its turn.
	let total = earn(&node, &world, &wallet, &[30]).await;
	// A new session begins: the same root, signed by what is certified now.
	world.change(|s| s.session = 6);
	world
		.until(|s| s.submitted.iter().any(|c| c.body.session == 6))
		.await;
	node.kill().await;
	let node = Node::start(&world, 1, folder.path()).await;
	let submitted = world.read(|s| s.submitted.len());
	world.until(|s| s.submitted.len() > submitted).await;
	let submitted = world.read(|s| s.submitted.clone());
	assert!(submitted
		.iter()
		.all(|c| c.body.root == submitted[0].body.root));
	assert_eq!(
		(submitted[0].body.root.sum, submitted[0].body.count),
		(first, 2)
	);
	world.change(|s| s.loses = false);
	world.until(|s| s.claims.len() == 2).await;
	assert_eq!(claimed(&world), total);
	assert_eq!(world.read(|s| s.claims[1].body.count), 1);
	drop(node);
}

#[tokio::test]
async fn a_claim_that_ran_out_is_part_of_the_next() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	world.change(|s| s.loses = true);
	earn(&node, &world, &wallet, &[40]).await;
	world.until(|s| s.submitted.len() == 1).await;
	// These vouchers were good up to session 9.
	for session in 6..=8 {
		world.change(|s| s.session = session);
		world
			.until(|s| s.keys.contains_key(&(account(1), session)))
			.await;
	}
	let total = earn(&node, &world, &wallet, &[40]).await;
	for session in 9..=11 {
		world.change(|s| s.session = session);
		world
			.until(|s| s.keys.contains_key(&(account(1), session)))
			.await;
	}
	world.change(|s| s.loses = false);
	// The client asks once more, with a voucher that is good: it pays for everything.
	let (mut peer, offer) = Peer::hello(&node, &wallet, CHANNEL).await;
	assert_eq!(offer.held_answer.unwrap().body.amount, total);
	let ask = question(&world, 3, "later", 20);
	let mut reading = super::client::Reading::new(ask.clone(), total);
	let late = |reading: &super::client::Reading| {
		let mut voucher = reading.voucher();
		voucher.expires = 15;
		wallet.sign(voucher)
	};
	let voucher = late(&reading);
	peer.say(&crate::message::ToValidator::Ask { ask, voucher })
		.await;
	loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			Some(ToClient::End(end)) => {
				reading.end(&world, &end);
				break;
			}
			other => panic!("{other:?}"),
		}
	}
	peer.say(&crate::message::ToValidator::Pay(late(&reading)))
		.await;
	peer.goodbye().await;
	world.until(|s| s.claims.len() == 1).await;
	let claim = world.read(|s| s.claims[0].clone());
	assert_eq!(
		(claim.body.count, claim.body.root.sum),
		(3, reading.amount())
	);
}

#[tokio::test]
async fn what_is_too_much_for_one_claim_is_claimed_in_parts() {
	let (wallet, world, node, _folder) = claims_from(30_000).await;
	// 20,000 are claimed at once at most; an answer of 1,000 tokens is 5,000 and its prompt.
	let total = earn(&node, &world, &wallet, &[1_000; 5]).await;
	world.until(|s| s.claims.len() == 1).await;
	assert_eq!(world.read(|s| s.claims[0].body.count), 3);
	world
		.until(|s| s.channels[&CHANNEL].allocations[0].allotment.claimed > 0)
		.await;
	// The rest is less than is worth a claim, until the channel closes.
	world.blocks(20);
	world.channel(|c| c.closes_at = Some(9_999));
	world.until(|s| s.claims.len() == 2).await;
	assert_eq!(claimed(&world), total);
}

#[tokio::test]
async fn what_is_not_earned_is_let_go_of_once_the_channel_closes_and_all_is_claimed() {
	let (wallet, world, node, _folder) = claims_from(30_000).await;
	let total = earn(&node, &world, &wallet, &[400]).await;
	let asks = async || {
		let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
		peer.say(&ToValidator::Release).await;
		peer.hear().await
	};
	let refused = |said: Option<ToClient>| match said {
		Some(ToClient::Refused {
			number: None, why, ..
		}) => why,
		other => panic!("a refusal, not {other:?}"),
	};
	assert_eq!(refused(asks().await), Refusal::Channel);
	// Its claim does not come through.
	world.change(|s| s.loses = true);
	world.channel(|c| c.closes_at = Some(9_999));
	assert_eq!(refused(asks().await), Refusal::Busy);
	world.change(|s| s.loses = false);
	while claimed(&world) < total {
		world.blocks(1);
		tokio::task::yield_now().await;
	}
	let released = loop {
		match asks().await {
			Some(ToClient::Released(released)) => break released,
			said => assert_eq!(refused(said), Refusal::Busy),
		}
	};
	let body = &released.body;
	assert_eq!(
		(body.channel, body.releases, body.amount),
		(CHANNEL, 0, total)
	);
	let key = world.read(|s| s.keys[&(body.payee.clone(), body.session)]);
	assert!(released.verify(&genesis(), &key));
}

#[tokio::test]
async fn no_more_is_served_and_claimed_than_stake_answers_for() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let first = earn(&node, &world, &wallet, &[400]).await;
	world.until(|s| s.claims.len() == 1).await;
	// As much is left as the prompt and 50 tokens cost.
	let room = PRICE.of(9, 50).unwrap();
	world.change(|s| s.stake = first + room);
	let total = earn(&node, &world, &wallet, &[400]).await;
	assert_eq!(total, first + room);
	world.until(|s| s.claims.len() == 2).await;
	assert_eq!(claimed(&world), total);
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	peer.ask(question(&world, 3, "once more", 40), total).await;
	match peer.hear().await {
		Some(ToClient::Refused {
			why: Refusal::Busy,
			words,
			..
		}) => assert!(words.contains("stake"), "{words}"),
		other => panic!("{other:?}"),
	}
	peer.goodbye().await;
	// What it has earned before its stake was slashed waits, and is not lost.
	world.change(|s| (s.stake, s.loses) = (Balance::MAX, true));
	let before = world.read(|s| s.submitted.len());
	let total = earn(&node, &world, &wallet, &[100]).await;
	world.until(|s| s.submitted.len() > before).await;
	world.change(|s| (s.stake, s.loses) = (0, false));
	let before = world.read(|s| s.submitted.len());
	world.until(|s| s.submitted.len() > before).await;
	assert_eq!(world.read(|s| s.claims.len()), 2);
	world.change(|s| s.stake = Balance::MAX);
	world.until(|s| s.claims.len() == 3).await;
	assert_eq!(claimed(&world), total);
}

#[tokio::test]
async fn an_answer_that_no_claim_could_hold_is_cut_before() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let total = earn(&node, &world, &wallet, &[4_096]).await;
	assert!(total <= 20_000 && total > 20_000 - PRICE.per_output_unit);
	// So is one that the allotment cannot pay.
	world.channel(|c| c.allocations[0].allotment.amount = total + PRICE.of(9, 50).unwrap());
	let more = earn(&node, &world, &wallet, &[400]).await;
	assert_eq!(more, total + PRICE.of(9, 50).unwrap());
	world
		.until(|s| s.channels[&CHANNEL].allocations[0].allotment.claimed == more)
		.await;
}

#[tokio::test]
async fn little_is_claimed_only_when_it_would_be_lost() {
	let (wallet, world, node, _folder) = claims_from(10_000).await;
	let total = earn(&node, &world, &wallet, &[10]).await;
	for session in 6..=7 {
		world.change(|s| s.session = session);
		world
			.until(|s| s.keys.contains_key(&(account(1), session)))
			.await;
		for _ in 0..5 {
			world.blocks(5);
			tokio::task::yield_now().await;
		}
	}
	assert_eq!(world.read(|s| s.submitted.len()), 0);
	// The voucher is good up to session 9.
	world.change(|s| s.session = 8);
	world.until(|s| s.claims.len() == 1).await;
	assert_eq!(claimed(&world), total);
}

#[tokio::test]
async fn what_nobody_can_ask_for_is_forgotten() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let ask = question(&world, 1, "pieces 32", 10);
	let mut reading = peer.ask(ask.clone(), 0).await;
	peer.read(&world, &mut reading).await;
	peer.pay(&mut reading).await;
	let first = reading.amount();
	world.until(|s| s.claims.len() == 1).await;
	// As long as it is not paid on chain, everything is kept to open the receipt.
	for _ in 0..4 {
		world.blocks(5);
		tokio::task::yield_now().await;
	}
	let mut again = peer.ask(ask.clone(), 0).await;
	peer.read(&world, &mut again).await;
	world.channel(|c| c.pending = 0);
	let gone = async {
		loop {
			world.blocks(5);
			// A number that was used is not used again, whether or not it is remembered what for.
			let mut again = peer.ask(ask.clone(), 0).await;
			loop {
				match peer.hear().await {
					Some(ToClient::Frame(frame)) => again.take(&frame),
					Some(ToClient::End(_)) => break,
					Some(ToClient::Refused {
						why: Refusal::Number,
						..
					}) => return,
					other => panic!("{other:?}"),
				}
			}
		}
	};
	tokio::time::timeout(std::time::Duration::from_secs(30), gone)
		.await
		.expect("it is forgotten");
	let total = earn(&node, &world, &wallet, &[20]).await;
	world.until(|s| s.claims.len() == 2).await;
	assert_eq!(world.read(|s| s.claims[1].body.root.sum), total - first);
	// And nothing at all when the channel is gone.
	node.kill().await;
	world.change(|s| s.channels.clear());
	let node = Node::start(&world, 1, folder.path()).await;
	for _ in 0..4 {
		world.blocks(5);
		tokio::task::yield_now().await;
	}
	node.kill().await;
	let journal = crate::journal::Journal::open(&folder.path().join("lane.redb")).unwrap();
	let left = journal.answers(CHANNEL, 0).unwrap().len()
		+ journal.claims(CHANNEL, Service::Answer).unwrap().len()
		+ journal.channels().unwrap().len();
	assert_eq!(left, 0);
}

#[tokio::test]
async fn who_leaves_slices_unpaid_is_refused_until_it_pays() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut base = 0;
	let mut last = None;
	let most = MAX_DEBT / SLICE_TOKENS + 1;
	for number in 1..=most {
		// Nothing is paid but the prompt.
		let mut reading = peer
			.ask(question(&world, number, "pieces 32", 32), base)
			.await;
		base = reading.amount();
		loop {
			match peer.hear().await {
				Some(ToClient::Frame(frame)) => reading.take(&frame),
				Some(ToClient::End(end)) => {
					reading.end(&world, &end);
					break;
				}
				other => panic!("{other:?}"),
			}
		}
		last = Some(reading);
	}
	let ask = |peer: &mut Peer, base| {
		let ask = question(&world, most + 1, "pieces 32", 32);
		let reading = super::client::Reading::new(ask.clone(), base);
		let voucher = peer.wallet.sign(reading.voucher());
		(reading, crate::message::ToValidator::Ask { ask, voucher })
	};
	let (_, refused) = ask(&mut peer, base);
	peer.say(&refused).await;
	assert_eq!(peer.refused().await, (Some(most + 1), Refusal::Unpaid));
	let mut last = last.unwrap();
	peer.pay(&mut last).await;
	let (mut reading, taken) = ask(&mut peer, last.amount());
	peer.say(&taken).await;
	peer.read(&world, &mut reading).await;
}
