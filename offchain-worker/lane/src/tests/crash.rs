//! The process ends after every single write to its disk, before anybody is told.

use std::{collections::HashMap, sync::Arc};

use consilience_primitives::{
	request::Output,
	session::{measured_input, sampling_seed, Service, Signable, Voucher},
};

use super::{
	client::{question, Peer, Reading, Wallet},
	double::{account, genesis, seed, whole, Node, World, CHANNEL, CHECK, PRICE},
};
use crate::{
	journal::amount,
	message::{Balance, Question, Refusal, SignedReceipt, ToClient, ToValidator},
};

/// What a client remembers.
#[derive(Default)]
struct Memory {
	/// The question that is asked, and on what its vouchers count on.
	asked: Option<(Question, Balance)>,
	/// All receipts that it was ever given, by number.
	receipts: HashMap<u32, SignedReceipt>,
	/// What it paid for each answer in the end.
	paid: Vec<Balance>,
}

/// Goes on from what it remembers, to the end of two questions.
async fn answers(node: &Node, world: &World, wallet: &Wallet, memory: &mut Memory) {
	while memory.paid.len() < 2 {
		let (mut peer, offer) = Peer::hello(node, wallet, CHANNEL).await;
		let number = memory.paid.len() as u32 + 1;
		let total: Balance = memory.paid.iter().sum();
		if memory.asked.is_none() {
			let base = amount(&offer.held_answer);
			assert_eq!(base, total, "nothing that was said to be done is lost");
			let ask = question(world, number, "pieces 9", 60 - 9 * number);
			memory.asked = Some((ask, base));
		}
		let (ask, base) = memory.asked.clone().unwrap();
		let mut reading = peer.ask(ask.clone(), base).await;
		let receipt = loop {
			match peer.hear().await {
				Some(ToClient::Frame(frame)) => {
					// It may say again what was paid before.
					reading.paid = reading.paid.max(reading.transcript.tokens);
					reading.take(&frame);
					peer.pay(&mut reading).await;
				}
				Some(ToClient::End(end)) => {
					let (receipt, output) = reading.end(world, &end);
					let input = measured_input(&ask.input, &output);
					assert_eq!(output, whole(&input, &sampling_seed(&seed(), number)));
					break receipt;
				}
				other => panic!("{other:?}"),
			}
		};
		let before = memory.receipts.insert(number, receipt.clone());
		assert!(
			before.is_none_or(|before| before == receipt),
			"signed in one way"
		);
		peer.pay(&mut reading).await;
		peer.goodbye().await;
		// Goodbye said that it is done.
		memory
			.paid
			.push(PRICE.of(8, reading.transcript.tokens).unwrap());
		memory.asked = None;
	}
	let total: Balance = memory.paid.iter().sum();
	let done = |claims: &[crate::SignedClaim]| {
		claims.iter().map(|c| c.body.root.sum).sum::<Balance>() == total
	};
	world.until(|s| done(&s.claims)).await;
}

/// Runs until the fuse blows; returns whether it did.
async fn blows(node: &Node, script: impl std::future::Future<Output = ()>) -> bool {
	tokio::select! {
		biased;
		() = node.handle.fuse.blown.notified() => true,
		() = script => false,
	}
}

#[tokio::test]
async fn an_executor_loses_nothing_and_is_paid_once() {
	let wallet = Wallet::new(1);
	let mut blown = 0;
	for writes in 0.. {
		let world = World::new(&wallet);
		let folder = tempfile::tempdir().unwrap();
		let mut memory = Memory::default();
		let node = Node::start(&world, 1, folder.path()).await;
		node.handle.fuse.set(writes);
		let did = blows(&node, answers(&node, &world, &wallet, &mut memory)).await;
		node.kill().await;
		if did {
			blown += 1;
			let node = Node::start(&world, 1, folder.path()).await;
			answers(&node, &world, &wallet, &mut memory).await;
		}
		one_root_for_one_interval(&world);
		let held = world.read(|s| s.channels[&CHANNEL].allocations[0].allotment.claimed);
		assert_eq!(held, memory.paid.iter().sum::<Balance>());
		if !did {
			break;
		}
	}
	// Two questions, two receipts, a dozen pieces with a voucher each, claims.
	assert!(blown > 25, "{blown}");
}

/// No two claims with the same voucher say different things.
fn one_root_for_one_interval(world: &World) {
	let submitted = world.read(|s| s.submitted.clone());
	let mut roots = HashMap::new();
	for claim in submitted {
		let voucher = claim.body.voucher.body.hash(&genesis());
		let root = roots.entry(voucher).or_insert(claim.body.root);
		assert_eq!(*root, claim.body.root);
	}
}

/// Has one answer checked, pays, and waits for the claim.
async fn checked(
	node: &Node,
	world: &Arc<World>,
	wallet: &Wallet,
	answer: &(Reading, super::client::Heard),
) {
	let (reading, heard) = answer;
	let (mut peer, offer) = Peer::hello(node, wallet, CHANNEL).await;
	let price = CHECK.of(reading.ask.input.units(), 20).unwrap();
	if offer.held_check.is_none() {
		let verdict = peer.verdict(heard.check(wallet, &reading.ask)).await;
		let voucher = Voucher {
			payee: node.me.clone(),
			service: Service::Check,
			transcript: verdict.body.hash(&genesis()),
			amount: price,
			..reading.voucher()
		};
		peer.say(&ToValidator::Pay(wallet.sign(voucher))).await;
	}
	peer.goodbye().await;
	let mine = |c: &crate::SignedClaim| c.body.voucher.body.payee == account(2);
	world
		.until(|s| {
			s.claims
				.iter()
				.filter(|c| mine(c))
				.map(|c| c.body.root.sum)
				.sum::<Balance>()
				== price
		})
		.await;
}

#[tokio::test]
async fn a_checker_loses_nothing_and_is_paid_once() {
	let wallet = Wallet::new(1);
	let mut blown = 0;
	for writes in 0.. {
		let world = World::new(&wallet);
		let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
		let executor = Node::start(&world, 1, folders[0].path()).await;
		let (mut peer, _) = Peer::hello(&executor, &wallet, CHANNEL).await;
		let mut reading = peer.ask(question(&world, 1, "checked", 20), 0).await;
		let heard = peer.read(&world, &mut reading).await;
		let answer = (reading, heard);
		let node = Node::start(&world, 2, folders[1].path()).await;
		node.handle.fuse.set(writes);
		let did = blows(&node, checked(&node, &world, &wallet, &answer)).await;
		node.kill().await;
		if !did {
			break;
		}
		blown += 1;
		let node = Node::start(&world, 2, folders[1].path()).await;
		checked(&node, &world, &wallet, &answer).await;
		one_root_for_one_interval(&world);
	}
	assert!(blown >= 3, "{blown}");
}

#[tokio::test]
async fn an_answer_whose_end_the_engine_cannot_say_waits_for_it() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let broken = |broken| {
		node.engine
			.0
			.broken
			.store(broken, std::sync::atomic::Ordering::SeqCst);
	};
	broken(true);
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let ask = question(&world, 1, "pieces 8", 100);
	let mut reading = peer.ask(ask.clone(), 0).await;
	match peer.hear().await {
		Some(ToClient::Frame(frame)) => reading.take(&frame),
		other => panic!("{other:?}"),
	}
	peer.say(&ToValidator::Cancel { number: 1 }).await;
	let why = loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			Some(ToClient::Refused { why, .. }) => break why,
			other => panic!("{other:?}"),
		}
	};
	assert_eq!(why, Refusal::Failed);
	// Nothing else is taken before it is signed for.
	peer.ask(
		question(&world, 2, "next", 10),
		reading.base + PRICE.of(8, 0).unwrap(),
	)
	.await;
	assert_eq!(peer.refused().await, (Some(2), Refusal::Failed));
	broken(false);
	let mut again = peer.ask(ask, 0).await;
	let heard = peer.read(&world, &mut again).await;
	assert!(matches!(heard.output, Output::Text { .. }));
	assert_eq!(again.tokens, reading.tokens);
	assert_eq!(node.engine.used().0, 1);
}
