//! Checks: right, wrong, bad, unpaid.

use std::{sync::Arc, time::Duration};

use codec::Compact;
use consilience_primitives::{
	evidence,
	request::{FinishReason, Output},
	session::{Service, Signable, Transcript, Voucher},
};
use polkadot_sdk::sp_core::H256;
use tokio::sync::Notify;

use super::{
	client::{question, Heard, Peer, Reading, Wallet},
	double::{account, allotment, config, genesis, model_id, Double, Node, World, CHANNEL, CHECK},
};
use crate::{
	message::{AccountId, Balance, CheckRequest, Refusal, SignedVerdict, ToClient, ToValidator},
	Config,
};

struct Scene {
	wallet: Wallet,
	world: Arc<World>,
	executor: Node,
	checker: Node,
	folders: [tempfile::TempDir; 2],
	answers: Vec<(Reading, Heard)>,
}

/// Three answers that are paid for, and somebody to check them.
async fn scene() -> Scene {
	scene_with(|config| config).await
}

/// The same with a checker that is configured like this.
async fn scene_with(configured: impl FnOnce(Config) -> Config) -> Scene {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
	let executor = Node::start(&world, 1, folders[0].path()).await;
	let configured = configured(config(folders[1].path()));
	let checker = Node::with(&world, 2, configured, Double::new()).await;
	let (mut peer, _) = Peer::hello(&executor, &wallet, CHANNEL).await;
	let mut answers = Vec::new();
	let mut base = 0;
	for number in 1..=3 {
		let ask = question(&world, number, "ends 7", 20);
		let mut reading = peer.ask(ask, base).await;
		let heard = peer.read(&world, &mut reading).await;
		peer.pay(&mut reading).await;
		base = reading.amount();
		answers.push((reading, heard));
	}
	Scene {
		wallet,
		world,
		executor,
		checker,
		folders,
		answers,
	}
}

impl Scene {
	fn check(&self, number: usize) -> CheckRequest {
		let (reading, heard) = &self.answers[number - 1];
		heard.check(&self.wallet, &reading.ask)
	}

	fn voucher(
		&self,
		number: usize,
		verdict: &SignedVerdict,
		base: Balance,
	) -> Voucher<AccountId, Balance> {
		let (reading, _) = &self.answers[number - 1];
		Voucher {
			payee: self.checker.me.clone(),
			service: Service::Check,
			transcript: verdict.body.hash(&genesis()),
			amount: base + price(),
			..reading.voucher()
		}
	}

	async fn peer(&self) -> Peer {
		Peer::hello(&self.checker, &self.wallet, CHANNEL).await.0
	}
}

fn price() -> Balance {
	CHECK.of(6, 7).unwrap()
}

async fn refused(peer: &mut Peer, check: CheckRequest) -> Refusal {
	match peer.check(check).await {
		Some(ToClient::Refused { why, .. }) => why,
		other => panic!("a refusal, not {other:?}"),
	}
}

#[tokio::test]
async fn what_is_not_the_executors_or_not_the_channels_is_not_measured() {
	let scene = scene().await;
	let mut peer = scene.peer().await;
	let changes: [fn(&mut CheckRequest); 11] = [
		|c| c.receipt.body.number = 2,
		|c| c.receipt.body.amount += 1,
		|c| c.receipt.body.transcript = H256::zero(),
		|c| c.receipt.body.session += 1,
		|c| c.receipt.body.payee = account(3),
		|c| c.ask.salt = H256::zero(),
		|c| c.ask.number = 2,
		|c| {
			if let Output::Text { tokens, .. } = &mut c.output {
				tokens.try_push(Compact(1)).unwrap();
			}
		},
		|c| {
			if let Output::Text { text, .. } = &mut c.output {
				text.try_push(b'x').unwrap();
			}
		},
		|c| {
			if let Output::Text { finish, .. } = &mut c.output {
				*finish = FinishReason::Length;
			}
		},
		|c| {
			let reason = consilience_primitives::request::Unanswerable::NotFinite;
			c.output = Output::Unanswerable(reason);
		},
	];
	for (i, change) in changes.into_iter().enumerate() {
		let mut check = scene.check(1);
		change(&mut check);
		assert_eq!(refused(&mut peer, check).await, Refusal::Receipt, "{i}");
	}
	let mut check = scene.check(1);
	check.preimage = scene.wallet.preimage(2);
	assert_eq!(refused(&mut peer, check).await, Refusal::Preimage);
	let mut check = scene.check(1);
	check.ask.channel = 8;
	assert_eq!(refused(&mut peer, check).await, Refusal::Channel);
	// Its own answers, not even where it is asked as a checker.
	let (mut own, _) = Peer::hello(&scene.executor, &scene.wallet, CHANNEL).await;
	assert_eq!(refused(&mut own, scene.check(1)).await, Refusal::Receipt);
	// A validator that does not serve the model, and a pot that cannot pay.
	scene.world.channel(|c| c.pot = allotment(price() - 1));
	assert_eq!(refused(&mut peer, scene.check(1)).await, Refusal::Channel);
	scene.world.channel(|c| c.pot = allotment(price()));
	scene.world.change(|s| {
		s.models.get_mut(&model_id()).unwrap().serving = vec![account(1), account(3)];
	});
	assert_eq!(refused(&mut peer, scene.check(1)).await, Refusal::Model);
	assert_eq!(scene.checker.engine.used(), (0, 0));
}

#[tokio::test]
async fn an_answer_that_the_model_does_not_give_is_found() {
	let mut scene = scene().await;
	// The executor signs what another seed says.
	let (reading, heard) = &mut scene.answers[0];
	let tokens: Vec<_> = (0..7).map(Compact).collect();
	let (text, finish) = (b"0 1 2 3 4 5 6 ".to_vec(), FinishReason::EndOfText);
	let mut receipt = heard.receipt.body.clone();
	receipt.transcript = Transcript::of(&reading.request, &tokens, &text, finish);
	heard.output = Output::Text {
		tokens: tokens.try_into().unwrap(),
		text: text.try_into().unwrap(),
		finish,
	};
	let key = crate::key::load(&scene.folders[0].path().join("lane.key")).unwrap();
	heard.receipt = consilience_primitives::session::Signed {
		signature: polkadot_sdk::sp_core::Pair::sign(&key, &receipt.payload(&genesis())),
		body: receipt,
	};
	let mut peer = scene.peer().await;
	let verdict = peer.verdict(scene.check(1)).await;
	assert_eq!(verdict.body.evidence.verdict, evidence::Verdict::IMPOSSIBLE);
}

#[tokio::test]
async fn who_does_not_pay_a_check_gets_no_other() {
	let scene = scene().await;
	let mut peer = scene.peer().await;
	let verdict = peer.verdict(scene.check(2)).await;
	assert_eq!(refused(&mut peer, scene.check(1)).await, Refusal::Unpaid);
	// The same one again costs no second measurement, whoever was restarted meanwhile.
	assert_eq!(peer.verdict(scene.check(2)).await, verdict);
	assert_eq!(scene.checker.engine.used(), (0, 1));
	// Vouchers for less, for more, for another verdict, for another request.
	let good = scene.voucher(2, &verdict, 0);
	let changes: [fn(&mut Voucher<AccountId, Balance>); 5] = [
		|v| v.amount -= 1,
		|v| v.amount += 1,
		|v| v.transcript = H256::zero(),
		|v| v.number = 1,
		|v| v.expires = 5,
	];
	for change in changes {
		let mut voucher = good.clone();
		change(&mut voucher);
		peer.say(&ToValidator::Pay(scene.wallet.sign(voucher)))
			.await;
		assert_eq!(peer.refused().await.1, Refusal::Voucher);
	}
	assert_eq!(refused(&mut peer, scene.check(1)).await, Refusal::Unpaid);
	let payment = scene.wallet.sign(good);
	peer.say(&ToValidator::Pay(payment.clone())).await;
	// Again it does no harm.
	peer.say(&ToValidator::Pay(payment)).await;
	// A lower number than was shown, and a higher one.
	let first = peer.verdict(scene.check(1)).await;
	let payment = scene.wallet.sign(scene.voucher(1, &first, price()));
	peer.say(&ToValidator::Pay(payment)).await;
	let mut wrong = scene.check(3);
	wrong.preimage = scene.wallet.preimage(4);
	assert_eq!(refused(&mut peer, wrong).await, Refusal::Preimage);
	let third = peer.verdict(scene.check(3)).await;
	peer.goodbye().await;

	// Two of three are paid, and claimed together.
	scene
		.world
		.until(|s| {
			s.claims
				.iter()
				.any(|c| c.body.voucher.body.payee == account(2))
		})
		.await;
	let claims = scene.world.read(|s| s.claims.clone());
	let claim = claims
		.iter()
		.find(|c| c.body.voucher.body.payee == account(2))
		.unwrap();
	let total: Balance = claims
		.iter()
		.filter(|c| c.body.voucher.body.payee == account(2))
		.map(|c| c.body.root.sum)
		.sum();
	assert_eq!(claim.body.voucher.body.service, Service::Check);
	assert_eq!(total, 2 * price());
	// The third is remembered by another process.
	let Scene {
		checker,
		world,
		folders,
		wallet,
		answers,
		..
	} = scene;
	checker.kill().await;
	let checker = Node::start(&world, 2, folders[1].path()).await;
	let (mut peer, _) = Peer::hello(&checker, &wallet, CHANNEL).await;
	let check = |n: usize| answers[n].1.check(&wallet, &answers[n].0.ask);
	assert_eq!(refused(&mut peer, check(0)).await, Refusal::Unpaid);
	assert_eq!(peer.verdict(check(2)).await, third);
	assert_eq!(checker.engine.used(), (0, 0));
}

/// An answer in another channel, and the check of it.
async fn another(scene: &Scene, n: u8) -> (Peer, CheckRequest) {
	let (wallet, id) = (Wallet::new(n), CHANNEL + u64::from(n));
	scene.world.open(id, &wallet);
	let (mut peer, _) = Peer::hello(&scene.executor, &wallet, id).await;
	let mut ask = question(&scene.world, 1, "ends 7", 20);
	ask.channel = id;
	let mut reading = peer.ask(ask, 0).await;
	let heard = peer.read(&scene.world, &mut reading).await;
	peer.pay(&mut reading).await;
	let (peer, _) = Peer::hello(&scene.checker, &wallet, id).await;
	(peer, heard.check(&wallet, &reading.ask))
}

#[tokio::test]
async fn a_check_waits_for_its_place_and_not_for_ever() {
	let one = |waiting, wait| {
		move |config| Config {
			checks: 1,
			checks_waiting: waiting,
			check_wait: wait,
			..config
		}
	};
	let (long, short) = (Duration::from_secs(20), Duration::from_millis(20));
	for (waiting, wait, is_checked) in [(1, long, true), (1, short, false), (0, long, false)] {
		let scene = scene_with(one(waiting, wait)).await;
		let gate = Arc::new(Notify::new());
		*scene.checker.engine.0.gate.lock().unwrap() = Some(gate.clone());
		let mut first = scene.peer().await;
		let check = Box::new(scene.check(1));
		first.say(&ToValidator::Check(check)).await;
		while scene.checker.engine.used().1 == 0 {
			tokio::task::yield_now().await;
		}
		let (mut second, check) = another(&scene, 2).await;
		if is_checked {
			second.say(&ToValidator::Check(Box::new(check))).await;
			gate.notify_one();
			assert!(matches!(first.hear().await, Some(ToClient::Verdict(_))));
			gate.notify_one();
			assert!(matches!(second.hear().await, Some(ToClient::Verdict(_))));
		} else {
			assert_eq!(refused(&mut second, check).await, Refusal::Busy);
		}
	}
}

#[tokio::test]
async fn whoever_waits_for_a_verdict_is_told_how_many_are_before_it() {
	let scene = scene_with(|config| Config {
		checks: 1,
		tell: Duration::from_millis(20),
		..config
	})
	.await;
	let gate = Arc::new(Notify::new());
	*scene.checker.engine.0.gate.lock().unwrap() = Some(gate.clone());
	let mut first = scene.peer().await;
	let check = Box::new(scene.check(1));
	first.say(&ToValidator::Check(check)).await;
	while scene.checker.engine.used().1 == 0 {
		tokio::task::yield_now().await;
	}
	let mut others = Vec::new();
	for channel in [2, 3] {
		let (mut peer, check) = another(&scene, channel).await;
		peer.say(&ToValidator::Check(Box::new(check))).await;
		let ahead = channel as u32 - 2;
		for _ in 0..2 {
			assert_eq!(peer.hear().await, Some(ToClient::Waiting { ahead }));
		}
		others.push(peer);
	}
	gate.notify_one();
	assert!(matches!(first.hear().await, Some(ToClient::Verdict(_))));
	// Of one that is measured nothing is said until it is.
	for peer in &mut others {
		gate.notify_one();
		loop {
			match peer.hear().await {
				Some(ToClient::Waiting { .. }) => (),
				Some(ToClient::Verdict(_)) => break,
				other => panic!("{other:?}"),
			}
		}
	}
}

#[tokio::test]
async fn who_goes_away_during_a_check_owes_it_all_the_same() {
	let scene = scene().await;
	let gate = Arc::new(Notify::new());
	*scene.checker.engine.0.gate.lock().unwrap() = Some(gate.clone());
	let mut peer = scene.peer().await;
	peer.say(&ToValidator::Check(Box::new(scene.check(1))))
		.await;
	// One at a time.
	let mut other = scene.peer().await;
	while scene.checker.engine.used().1 == 0 {
		tokio::task::yield_now().await;
	}
	assert_eq!(refused(&mut other, scene.check(2)).await, Refusal::Busy);
	peer.goodbye().await;
	gate.notify_one();
	let verdict = loop {
		match other.check(scene.check(1)).await {
			Some(ToClient::Verdict(verdict)) => break verdict,
			Some(ToClient::Refused {
				why: Refusal::Busy, ..
			}) => (),
			other => panic!("{other:?}"),
		}
	};
	assert_eq!(scene.checker.engine.used(), (0, 1));
	assert_eq!(refused(&mut other, scene.check(2)).await, Refusal::Unpaid);
	let payment = scene.wallet.sign(scene.voucher(1, &verdict, 0));
	other.say(&ToValidator::Pay(payment)).await;
	gate.notify_one();
	other.verdict(scene.check(2)).await;
}
