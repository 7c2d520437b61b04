//! The waiting line, over real sockets.

use std::{
	sync::{atomic::Ordering, Arc, Mutex},
	time::Duration,
};

use consilience_primitives::session::ChannelId;

use super::{
	client::{question, Peer, Reading, Wallet},
	double::{account, allotment, config, genesis, model_id, Double, Node, World, CHANNEL},
};
use crate::{
	message::{Offer, Refusal, SignedWaiter, ToClient, ToValidator, Waiter, VERSION},
	Config,
};

/// Long enough that a slice has to be paid.
const LONG: &str = "ends 40";

struct Scene {
	wallet: Wallet,
	world: Arc<World>,
	node: Node,
	_folder: tempfile::TempDir,
}

/// A validator with one place, which a paused answer takes.
async fn scene(configured: impl FnOnce(Config) -> Config) -> (Scene, Peer, Reading) {
	let wallet = Wallet::new(1);
	let world = World::new(&wallet);
	let folder = tempfile::tempdir().unwrap();
	let engine = Double::new();
	engine.0.free.store(1, Ordering::SeqCst);
	let node = Node::with(&world, 1, configured(config(folder.path())), engine).await;
	let scene = Scene {
		wallet,
		world,
		node,
		_folder: folder,
	};
	let (mut peer, offer) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	assert_eq!(free(&offer), 1);
	let mut reading = peer.ask(question(&scene.world, 1, LONG, 60), 0).await;
	// It is paused at the end of the first slice.
	while reading.tokens.len() < 32 {
		match peer.hear().await {
			Some(ToClient::Frame(frame)) => reading.take(&frame),
			other => panic!("{other:?}"),
		}
	}
	(scene, peer, reading)
}

fn free(offer: &Offer) -> u32 {
	offer.models[0].free
}

fn waiter(wallet: &Wallet, channel: ChannelId) -> SignedWaiter {
	wallet.sign(Waiter {
		channel,
		payee: account(1),
		model: model_id(),
	})
}

impl Scene {
	/// Opens a channel and says hello.
	async fn client(&self, channel: ChannelId) -> Peer {
		if self.world.read(|s| !s.channels.contains_key(&channel)) {
			self.world.open(channel, &self.wallet);
		}
		let (peer, offer) = Peer::hello(&self.node, &self.wallet, channel).await;
		assert_eq!(free(&offer), 0);
		peer
	}

	/// Stands in the line, behind so many.
	async fn waits(&self, channel: ChannelId, ahead: u32) -> Peer {
		let mut peer = self.client(channel).await;
		peer.wait(&self.wallet, channel).await;
		peer.stands(ahead).await;
		peer
	}

	fn ask(&self, channel: ChannelId, words: &str) -> Reading {
		let mut ask = question(&self.world, 1, words, 60);
		ask.channel = channel;
		Reading::new(ask, 0)
	}
}

impl Peer {
	async fn wait(&mut self, wallet: &Wallet, channel: ChannelId) {
		self.say(&ToValidator::Wait(waiter(wallet, channel))).await;
	}

	async fn stands(&mut self, behind: u32) {
		match self.hear().await {
			Some(ToClient::Waiting { ahead }) => assert_eq!(ahead, behind),
			other => panic!("a place in the line, not {other:?}"),
		}
	}

	/// Waits until a place is kept.
	async fn invited(&mut self) {
		loop {
			match self.hear().await {
				Some(ToClient::Offer(offer)) => {
					assert_eq!(free(&offer), 1);
					return;
				}
				Some(ToClient::Waiting { .. }) => (),
				other => panic!("an invitation, not {other:?}"),
			}
		}
	}

	/// Asks, pays and reads all of it.
	async fn answered(&mut self, scene: &Scene, channel: ChannelId) {
		let ask = scene.ask(channel, "ends 5").ask;
		let mut reading = self.ask(ask, 0).await;
		self.read(&scene.world, &mut reading).await;
		self.pay(&mut reading).await;
	}
}

#[tokio::test]
async fn fifty_clients_have_one_place_after_the_other_in_the_order_in_which_they_came() {
	let (scene, mut first, mut reading) = scene(|config| config).await;
	let machine = scene.node.engine.0.clone();
	let before = scene.world.read(|s| s.views);
	let blocks = scene.world.heads().finalised.number;
	let clients = 1..=50;
	let mut peers = Vec::new();
	for n in clients.clone() {
		peers.push((n, scene.waits(100 + n, n as u32 - 1).await));
	}
	let order = Mutex::new(Vec::new());
	let all = peers.into_iter().map(|(n, mut peer)| {
		let (scene, order) = (&scene, &order);
		async move {
			peer.invited().await;
			order.lock().unwrap().push(n);
			peer.answered(scene, 100 + n).await;
			// Its last payment has arrived, whatever follows it.
			peer.goodbye().await;
		}
	});
	let rest = async {
		first.pay(&mut reading).await;
		first.read(&scene.world, &mut reading).await;
	};
	tokio::join!(rest, futures::future::join_all(all));
	assert!(order.into_inner().unwrap().into_iter().eq(clients));
	assert_eq!(machine.most.load(Ordering::SeqCst), 1);
	assert_eq!(machine.taken.load(Ordering::SeqCst), 0);
	// Each channel was looked up once, though each was greeted, waited, was invited, asked and paid.
	assert_eq!(scene.world.heads().finalised.number, blocks);
	assert_eq!(scene.world.read(|s| s.views) - before, 50);
}

#[tokio::test]
async fn whoever_comes_while_others_wait_does_not_overtake_them() {
	let (scene, mut first, mut reading) = scene(|config| config).await;
	let mut waiting = scene.waits(101, 0).await;
	let mut hasty = scene.client(102).await;
	first.pay(&mut reading).await;
	waiting.invited().await;
	// The place is kept: nobody is offered it, and who asks for it is refused.
	let mut late = scene.client(103).await;
	for (peer, channel) in [(&mut hasty, 102), (&mut late, 103)] {
		peer.ask(scene.ask(channel, "ends 5").ask, 0).await;
		assert_eq!(peer.refused().await, (Some(1), Refusal::Busy));
	}
	assert_eq!(scene.node.engine.used().0, 1);
	waiting.answered(&scene, 101).await;
	waiting.goodbye().await;
	// Nobody waits any more.
	hasty.wait(&scene.wallet, 102).await;
	hasty.invited().await;
	hasty.answered(&scene, 102).await;
}

#[tokio::test]
async fn who_goes_or_does_not_take_its_place_holds_nobody_up_for_long() {
	let brief = Duration::from_millis(200);
	let (scene, mut first, mut reading) = scene(|config| Config {
		invitation: brief,
		..config
	})
	.await;
	let mut idle = scene.waits(101, 0).await;
	let gone = scene.waits(102, 1).await;
	let mut quick = scene.waits(103, 2).await;
	let mut last = scene.waits(104, 3).await;
	gone.goodbye().await;
	first.pay(&mut reading).await;
	idle.invited().await;
	let begun = tokio::time::Instant::now();
	quick.invited().await;
	assert!(begun.elapsed() > brief / 2);
	// Whoever leaves at once leaves the place at once, and may wait again.
	quick.goodbye().await;
	last.invited().await;
	last.answered(&scene, 104).await;
	let mut quick = Peer::hello(&scene.node, &scene.wallet, 103).await.0;
	quick.wait(&scene.wallet, 103).await;
	quick.invited().await;
	quick.answered(&scene, 103).await;
	// So may who let one lapse; but not after the second.
	idle.wait(&scene.wallet, 101).await;
	idle.invited().await;
	loop {
		let (mut other, offer) = Peer::hello(&scene.node, &scene.wallet, 102).await;
		if free(&offer) == 1 {
			other.answered(&scene, 102).await;
			break;
		}
	}
	idle.wait(&scene.wallet, 101).await;
	assert_eq!(idle.refused().await, (None, Refusal::Busy));
	// It may ask where nobody waits.
	idle.answered(&scene, 101).await;
}

#[tokio::test]
async fn nobody_waits_in_the_name_of_others_or_without_money_or_twice() {
	let (scene, _first, _reading) = scene(|config| config).await;
	let stranger = Wallet::new(2);
	let mut peer = scene.client(101).await;
	let mut refused = async |waiter: SignedWaiter| {
		peer.say(&ToValidator::Wait(waiter)).await;
		peer.refused().await
	};
	let wrong = (None, Refusal::Channel);
	assert_eq!(refused(waiter(&stranger, 101)).await, wrong);
	// Of its own, but another channel's, another validator's, and for what is not served.
	assert_eq!(refused(waiter(&scene.wallet, CHANNEL)).await, wrong);
	let change = |change: fn(&mut Waiter)| {
		let mut body = waiter(&scene.wallet, 101).body;
		change(&mut body);
		scene.wallet.sign(body)
	};
	assert_eq!(refused(change(|w| w.payee = account(2))).await, wrong);
	let model = refused(change(|w| w.model = Default::default())).await;
	assert_eq!(model, (None, Refusal::Model));
	for poor in [true, false] {
		scene.world.change(|s| {
			let channel = s.channels.get_mut(&101).unwrap();
			channel.allocations[0].allotment = allotment(if poor { 106 } else { 107 });
		});
		scene.world.blocks(1);
		peer.wait(&scene.wallet, 101).await;
		if poor {
			assert_eq!(peer.refused().await, wrong);
		}
	}
	peer.stands(0).await;
	let mut behind = scene.waits(102, 1).await;
	// A second connection waits where the first did, and no further connection does.
	let mut again = scene.waits(101, 0).await;
	assert_eq!(peer.refused().await, (None, Refusal::Busy));
	// It does not wait twice, and whose answer is being written does not wait at all.
	again.wait(&scene.wallet, 101).await;
	assert_eq!(again.refused().await, (None, Refusal::Malformed));
	assert_eq!(again.hear().await, None);
	let mut busy = scene.client(CHANNEL).await;
	busy.wait(&scene.wallet, CHANNEL).await;
	assert_eq!(busy.refused().await, (None, Refusal::Busy));
	behind.wait(&scene.wallet, 102).await;
	assert_eq!(behind.refused().await, (None, Refusal::Malformed));
	assert_eq!(scene.node.engine.used().0, 1);
}

#[tokio::test]
async fn the_line_and_the_wait_have_an_end_and_strangers_do_not_stay_for_it() {
	let moment = Duration::from_millis(100);
	let (scene, _first, _reading) = scene(|config| Config {
		waiting: 2,
		untrusted: moment,
		tell: moment / 2,
		wait: 10 * moment,
		..config
	})
	.await;
	let mut one = scene.waits(101, 0).await;
	let begun = tokio::time::Instant::now();
	let two = scene.waits(102, 1).await;
	let mut three = scene.client(103).await;
	three.wait(&scene.wallet, 103).await;
	assert_eq!(three.refused().await, (None, Refusal::Busy));
	// Who does not wait is dropped, as always; who does is told now and then, until it is too long.
	assert_eq!(three.hear().await, None);
	let mut told = 0;
	loop {
		match one.hear().await {
			Some(ToClient::Waiting { ahead: 0 }) => told += 1,
			Some(ToClient::Refused { why, .. }) => {
				assert_eq!(why, Refusal::Busy);
				break;
			}
			other => panic!("{other:?}"),
		}
	}
	assert!(begun.elapsed() > 9 * moment && told > 3, "{told}");
	assert_eq!(one.hear().await, None);
	drop(two);
}

#[tokio::test]
async fn whoever_waits_or_has_paid_leaves_room_for_strangers_of_its_address() {
	let (scene, _first, _reading) = scene(|config| Config {
		connections_per_address: 1,
		known_per_address: 2,
		..config
	})
	.await;
	// The first has paid. The second is a stranger until it waits.
	let _second = scene.waits(101, 0).await;
	// There is room for one that is known only as a stranger.
	let _third = scene.waits(102, 1).await;
	let address = format!("ws://{}", scene.node.handle.address());
	let refused = tokio_tungstenite::connect_async(&address).await;
	refused.expect_err("that is one stranger");
}

#[tokio::test]
async fn a_thousand_greetings_in_a_block_look_a_channel_up_once() {
	let (scene, _first, _reading) = scene(|config| config).await;
	let looked = |scene: &Scene| scene.world.read(|s| (s.views, s.sessions));
	let before = looked(&scene);
	let hello = ToValidator::Hello {
		version: VERSION,
		genesis: genesis(),
		channel: CHANNEL,
	};
	let (mut peer, _) = Peer::hello(&scene.node, &scene.wallet, CHANNEL).await;
	for _ in 0..20 {
		let more = Peer::hello(&scene.node, &scene.wallet, CHANNEL);
		drop(more.await);
	}
	assert_eq!(looked(&scene), before);
	// In the next block it is what it is then.
	scene.world.channel(|c| c.seed = None);
	let mut late = Peer::connect(&scene.node, &scene.wallet).await;
	late.say(&hello).await;
	assert_eq!(late.refused().await, (None, Refusal::Channel));
	assert_eq!(looked(&scene).0, before.0 + 1);
	peer.wait(&scene.wallet, CHANNEL).await;
	assert_eq!(peer.refused().await, (None, Refusal::Channel));
	assert_eq!(looked(&scene).0, before.0 + 1);
}

#[tokio::test]
async fn a_place_goes_to_the_next_when_an_answer_fails() {
	let (scene, mut first, mut reading) = scene(|config| config).await;
	let mut second = scene.waits(101, 0).await;
	let mut third = scene.waits(102, 1).await;
	first.pay(&mut reading).await;
	second.invited().await;
	second.ask(scene.ask(101, "unanswerable").ask, 0).await;
	assert_eq!(second.refused().await, (Some(1), Refusal::Unanswerable));
	third.invited().await;
	// A question that is not taken leaves it what is left of its time.
	let wrong = scene.ask(102, "ends 5");
	let mut voucher = wrong.voucher();
	voucher.amount += 1;
	let voucher = scene.wallet.sign(voucher);
	let ask = wrong.ask.clone();
	third.say(&ToValidator::Ask { ask, voucher }).await;
	assert_eq!(third.refused().await, (Some(1), Refusal::Voucher));
	let fourth = scene.waits(103, 0).await;
	third.answered(&scene, 102).await;
	third.goodbye().await;
	drop(fourth);
	// What was answered before is said again without a place, and leaves the one that is kept.
	let mut third = Peer::hello(&scene.node, &scene.wallet, 102).await.0;
	third.wait(&scene.wallet, 102).await;
	third.invited().await;
	let again = scene.ask(102, "ends 5");
	let base = again.amount() + 5 * 5;
	let mut again = third.ask(again.ask, 0).await;
	third.read(&scene.world, &mut again).await;
	let _late = scene.waits(104, 0).await;
	let mut next = question(&scene.world, 2, "ends 5", 60);
	next.channel = 102;
	let mut next = third.ask(next, base).await;
	third.read(&scene.world, &mut next).await;
}
