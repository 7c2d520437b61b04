//! The whole life of requests.

use consilience_primitives::{
	request::FinishReason,
	session::{
		check_challenge, measured_input, sampling_seed, OpeningDue, Service, Signable, Voucher,
		SLICE_TOKENS,
	},
};

use super::{
	client::{question, Heard, Peer, Reading, Wallet},
	double::{genesis, seed, verify_opening, whole, Node, World, CHANNEL, CHECK, PRICE},
};
use crate::message::{Balance, Refusal, ToClient, ToValidator};

/// Asks, pays for everything, and returns answer and new base.
async fn answered(
	peer: &mut Peer,
	world: &World,
	number: u32,
	words: &str,
	max: u32,
	base: Balance,
) -> (Reading, Heard) {
	let mut reading = peer.ask(question(world, number, words, max), base).await;
	let heard = peer.read(world, &mut reading).await;
	peer.pay(&mut reading).await;
	(reading, heard)
}

#[tokio::test]
async fn a_question_is_answered_checked_settled_and_opened() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
	let executor = Node::start(&world, 1, folders[0].path()).await;
	let checker = Node::start(&world, 2, folders[1].path()).await;

	let (mut peer, offer) = Peer::hello(&executor, &wallet, CHANNEL).await;
	assert_eq!((offer.payee, offer.models.len()), (executor.me.clone(), 1));
	assert_eq!((offer.held_answer, offer.held_check), (None, None));
	let (first, heard) = answered(&mut peer, &world, 1, "ends 100", 500, 0).await;
	assert_eq!(heard.finish, FinishReason::EndOfText);
	assert_eq!(
		heard.output,
		whole(&first.ask.input, &sampling_seed(&seed(), 1))
	);
	let (second, _) = answered(&mut peer, &world, 2, "to the limit", 41, first.amount()).await;
	peer.goodbye().await;

	// Whoever comes again is shown what is held.
	let (_, offer) = Peer::hello(&executor, &wallet, CHANNEL).await;
	assert_eq!(offer.held_answer.unwrap().body, second.voucher());

	// Checked, under a challenge of the checker's own, and paid.
	let (mut peer, offer) = Peer::hello(&checker, &wallet, CHANNEL).await;
	assert_eq!(offer.held_check, None);
	let verdict = peer.verdict(heard.check(&wallet, &first.ask)).await;
	let key = world.read(|s| s.keys[&(checker.me.clone(), verdict.body.session)]);
	assert!(verdict.verify(&genesis(), &key));
	let name = heard.receipt.body.hash(&genesis());
	assert_eq!(verdict.body.receipt, name);
	let challenge = check_challenge(&wallet.preimage(1), &name, &checker.me);
	assert!(verdict.body.evidence.verdict.margin_max == 0);
	assert_eq!(
		verdict.body.evidence.fingerprint,
		codec::Encode::using_encoded(
			&challenge,
			consilience_primitives::evidence::Fingerprint::digest
		)
	);
	let price = CHECK.of(first.ask.input.units(), 100).unwrap();
	let voucher = wallet.sign(Voucher {
		payee: checker.me.clone(),
		service: Service::Check,
		transcript: verdict.body.hash(&genesis()),
		amount: price,
		..first.voucher()
	});
	peer.say(&ToValidator::Pay(voucher.clone())).await;
	peer.goodbye().await;
	let (_, offer) = Peer::hello(&checker, &wallet, CHANNEL).await;
	assert_eq!(offer.held_check, Some(voucher));

	// Settled.
	let total = second.amount();
	assert_eq!(total, PRICE.of(8, 100).unwrap() + PRICE.of(12, 41).unwrap());
	world.until(|s| s.claims.len() == 2).await;
	let claims = world.read(|s| s.claims.clone());
	let claim = claims
		.iter()
		.find(|c| c.body.voucher.body.service == Service::Answer)
		.unwrap();
	assert_eq!((claim.body.count, claim.body.root.sum), (2, total));
	let check = claims
		.iter()
		.find(|c| c.body.voucher.body.service == Service::Check)
		.unwrap();
	assert_eq!((check.body.count, check.body.root.sum), (1, price));

	// Opened, by another process.
	executor.kill().await;
	let executor = Node::start(&world, 1, folders[0].path()).await;
	for (point, offset) in [
		(0, 0),
		(1, first.amount() - 1),
		(2, first.amount()),
		(3, total - 1),
	] {
		let due = OpeningDue {
			claim: 3,
			point,
			channel: CHANNEL,
			root: claim.body.root,
			count: claim.body.count,
			offset,
			deadline: 2_000,
		};
		world.change(|s| s.due.push((executor.me.clone(), due)));
	}
	world.until(|s| s.opened.len() == 4).await;
	let opened = world.read(|s| s.opened.clone());
	let mut places: Vec<_> = opened
		.iter()
		.map(|(claim_id, point, opening)| {
			assert_eq!(*claim_id, 3);
			let (before, paid) = verify_opening(&world, &claim.body.root, opening);
			assert_eq!(opening.receipt.body.number, 1 + point / 2);
			(before, before + paid)
		})
		.collect();
	places.dedup();
	assert_eq!(places, [(0, first.amount()), (first.amount(), total)]);
	assert_eq!(opened[0].2.output, heard.output);
}

#[tokio::test]
async fn two_clients_are_served_at_once() {
	let wallets = [Wallet::new(1), Wallet::new(2)];
	let world = World::new(&wallets[0]);
	world.open(8, &wallets[1]);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut one, _) = Peer::hello(&node, &wallets[0], CHANNEL).await;
	let (mut two, _) = Peer::hello(&node, &wallets[1], 8).await;
	let mut first = one.ask(question(&world, 1, "one", 200), 0).await;
	let mut ask = question(&world, 1, "two", 200);
	ask.channel = 8;
	let mut second = two.ask(ask, 0).await;
	// Both have begun before either is paid.
	let begun = [one.hear().await, two.hear().await];
	for (begun, reading) in begun.iter().zip([&mut first, &mut second]) {
		match begun {
			Some(ToClient::Frame(frame)) => reading.take(frame),
			other => panic!("{other:?}"),
		}
	}
	let (a, b) = tokio::join!(one.read(&world, &mut first), two.read(&world, &mut second));
	assert_eq!(a.finish, FinishReason::Length);
	assert_eq!(
		b.output,
		whole(&second.ask.input, &sampling_seed(&seed(), 1))
	);
	one.pay(&mut first).await;
	two.pay(&mut second).await;
	world.until(|s| s.claims.len() == 2).await;
}

#[tokio::test]
async fn a_cut_answer_has_a_receipt_for_what_was_sent_and_is_measured_as_that() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(question(&world, 1, "long pieces 5", 400), 0).await;
	for _ in 0..2 {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			other => panic!("{other:?}"),
		}
	}
	peer.pay(&mut reading).await;
	peer.say(&ToValidator::Cancel { number: 1 }).await;
	let heard = peer.read(&world, &mut reading).await;
	assert_eq!(heard.finish, FinishReason::Length);
	let tokens = reading.tokens.len() as u32;
	assert!((10..400).contains(&tokens));
	let input = measured_input(&reading.ask.input, &heard.output);
	assert_eq!(heard.output, whole(&input, &sampling_seed(&seed(), 1)));
	assert_ne!(
		heard.output,
		whole(&reading.ask.input, &sampling_seed(&seed(), 1))
	);

	// And it is right to a checker.
	let folder = tempfile::tempdir().unwrap();
	let checker = Node::start(&world, 2, folder.path()).await;
	let (mut peer, _) = Peer::hello(&checker, &wallet, CHANNEL).await;
	let verdict = peer.verdict(heard.check(&wallet, &reading.ask)).await;
	assert_eq!(verdict.body.evidence.verdict.margin_max, 0);
}

#[tokio::test]
async fn no_slice_is_sent_unpaid_and_the_answer_ends_there() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let config = crate::Config {
		pay: std::time::Duration::from_millis(100),
		..super::double::config(folder.path())
	};
	let node = Node::with(&world, 1, config, super::double::Double::new()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(question(&world, 1, "unpaid", 400), 0).await;
	let end = loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			Some(ToClient::Refused { number, why, .. }) => {
				assert_eq!((number, why), (Some(1), Refusal::Unpaid));
			}
			Some(ToClient::End(end)) => break end,
			other => panic!("{other:?}"),
		}
	};
	assert_eq!(reading.tokens.len() as u32, SLICE_TOKENS);
	assert_eq!(node.engine.written(), SLICE_TOKENS);
	reading.end(&world, &end);
	// The prompt was paid: that is what the leaf is worth.
	world.channel(|c| c.closes_at = Some(9_999));
	world.until(|s| s.claims.len() == 1).await;
	let claim = world.read(|s| s.claims[0].clone());
	assert_eq!(claim.body.root.sum, PRICE.of(6, 0).unwrap());
	assert!(claim.body.root.sum < end.receipt.body.amount);
}

#[tokio::test]
async fn who_comes_back_hears_it_again_without_engine_time_and_can_pay() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let ask = question(&world, 1, "lost", 400);
	let mut lost = peer.ask(ask.clone(), 0).await;
	match peer.hear().await {
		Some(ToClient::Frame(frame)) => lost.take(&frame),
		other => panic!("{other:?}"),
	}
	// The connection stays open for a network that is gone: the question itself ends the answer.
	let (mut again, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = again.ask(ask.clone(), 0).await;
	let heard = again.read(&world, &mut reading).await;
	assert_eq!(heard.finish, FinishReason::Length);
	assert!(reading.tokens.starts_with(&lost.tokens));
	let written = node.engine.written();
	assert_eq!(node.engine.used().0, 1);
	again.goodbye().await;

	// All was paid. A third time, from another process, it is the same receipt.
	node.kill().await;
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut third, offer) = Peer::hello(&node, &wallet, CHANNEL).await;
	assert_eq!(offer.held_answer.unwrap().body.amount, reading.amount());
	let mut same = third.ask(ask, 0).await;
	same.paid = reading.paid;
	let once_more = third.read(&world, &mut same).await;
	assert_eq!(once_more.receipt, heard.receipt);
	assert_eq!((node.engine.written(), node.engine.used().0), (0, 0));
	assert!(written <= reading.paid + SLICE_TOKENS);
	world.until(|s| s.claims.len() == 1).await;
	assert_eq!(world.read(|s| s.claims[0].body.root.sum), reading.amount());
}

#[tokio::test]
async fn vouchers_out_of_order_and_repeated_do_no_harm() {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let node = Node::start(&world, 1, folder.path()).await;
	let (mut peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
	let mut reading = peer.ask(question(&world, 1, "pieces 4", 64), 0).await;
	let mut old = vec![peer.payment(&reading)];
	let end = loop {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => {
				reading.take(&frame);
				old.push(peer.payment(&reading));
				// The newest, all before it, and the newest again.
				peer.pay(&mut reading).await;
				for payment in old.iter().rev() {
					peer.say(&ToValidator::Pay(payment.clone())).await;
				}
			}
			Some(ToClient::End(end)) => break end,
			other => panic!("{other:?}"),
		}
	};
	reading.end(&world, &end);
	for payment in old {
		peer.say(&ToValidator::Pay(payment)).await;
	}
	peer.goodbye().await;
	world.until(|s| s.claims.len() == 1).await;
	assert_eq!(world.read(|s| s.claims[0].body.root.sum), reading.amount());
}
