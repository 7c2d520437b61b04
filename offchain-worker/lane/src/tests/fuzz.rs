//! Whatever a client says, in whatever order: nothing panics, and sent ≤ paid + slice.

use std::{
	collections::HashMap,
	sync::{atomic::Ordering, Arc},
	time::Duration,
};

use codec::Encode;
use consilience_primitives::session::{sampling_seed, Ask, SLICE_TOKENS};
use polkadot_sdk::sp_core::H256;
use proptest::prelude::*;
use tokio::time::timeout;

use super::{
	client::{question, Heard, Peer, Reading, Wallet},
	double::{account, model_id, seed, Node, World, CHANNEL},
};
use crate::message::{ToClient, ToValidator, Waiter};

/// A client that hears nothing for so long does something else.
const QUIET: Duration = Duration::from_millis(15);

#[derive(Clone, Debug)]
enum Action {
	Bytes(Vec<u8>),
	/// A message with one bit that is another.
	Flipped(usize),
	Ask {
		number: u32,
		words: usize,
		length: u32,
		base: u8,
	},
	/// For the last question: what was seen, what was seen then, or something wrong.
	Pay(u8),
	Cancel(u32),
	Check(bool),
	Wait(bool),
	/// Reads what is there.
	Read,
	Again,
	Block,
}

fn action() -> impl Strategy<Value = Action> {
	let ask = (0..8u32, 0..6usize, 1..120u32, 0..8u8);
	prop_oneof![
		1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Action::Bytes),
		1 => any::<usize>().prop_map(Action::Flipped),
		16 => ask.prop_map(|(number, words, length, base)| Action::Ask { number, words, length, base }),
		32 => (0..8u8).prop_map(Action::Pay),
		2 => (2..7u32).prop_map(Action::Cancel),
		6 => any::<bool>().prop_map(Action::Check),
		6 => any::<bool>().prop_map(Action::Wait),
		40 => Just(Action::Read),
		2 => Just(Action::Again),
		4 => Just(Action::Block),
	]
}

/// Questions that were asked, and what came.
struct Client {
	world: Arc<World>,
	wallet: Wallet,
	peer: Peer,
	base: u128,
	/// Only one is read at a time: a new one begins anew.
	reading: Option<Reading>,
	heard: Option<(Reading, Heard)>,
	/// Tokens acknowledged, by number.
	acknowledged: HashMap<u32, u32>,
	/// The highest number that was asked.
	last: u32,
}

const WORDS: [&str; 6] = [
	"plain",
	"pieces 5",
	"pieces 16",
	"ends 12 pieces 7",
	"fails 5",
	"unanswerable",
];

impl Client {
	async fn connect(&mut self, node: &Node) {
		let (peer, offer) = Peer::hello(node, &self.wallet, CHANNEL).await;
		self.peer = peer;
		self.base = crate::journal::amount(&offer.held_answer);
		self.reading = None;
	}

	async fn act(&mut self, node: &Node, action: Action) {
		match action {
			Action::Bytes(bytes) => self.peer.raw(bytes).await,
			Action::Flipped(bit) => {
				let ask = question(&self.world, self.last + 1, "plain", 20);
				let voucher = self
					.wallet
					.sign(Reading::new(ask.clone(), self.base).voucher());
				let mut bytes = ToValidator::Ask { ask, voucher }.encode();
				let bit = bit % (bytes.len() * 8);
				bytes[bit / 8] ^= 1 << (bit % 8);
				self.peer.raw(bytes).await;
			}
			Action::Ask {
				number,
				words,
				length,
				base,
			} => {
				let ask = question(&self.world, number, WORDS[words], length);
				// The next one, mostly.
				let number = if number == 0 {
					self.last
				} else {
					self.last + number / 7 + 1
				};
				let ask = Ask { number, ..ask };
				self.last = self.last.max(number);
				let base = match base {
					0..=5 => self.base,
					6 => 0,
					_ => self.reading.as_ref().map_or(self.base, Reading::amount),
				};
				let mut reading = self.peer.ask(ask, base).await;
				// One that was asked before is said again as far as it was paid.
				reading.paid = self.acknowledged.get(&number).copied().unwrap_or(0);
				// Beside another it is noise.
				self.reading.get_or_insert(reading);
			}
			Action::Pay(how) => {
				let Some(reading) = &mut self.reading else {
					return;
				};
				let mut voucher = reading.voucher();
				match how {
					0..=5 => {
						let paid = self.acknowledged.entry(reading.ask.number).or_default();
						*paid = (*paid).max(reading.transcript.tokens);
						reading.paid = *paid;
					}
					6 => voucher.amount += 5,
					_ => voucher.transcript = H256::repeat_byte(1),
				}
				let voucher = self.wallet.sign(voucher);
				self.peer.say(&ToValidator::Pay(voucher)).await;
			}
			Action::Cancel(number) => self.peer.say(&ToValidator::Cancel { number }).await,
			Action::Check(right) => {
				let Some((reading, heard)) = &self.heard else {
					return;
				};
				let mut check = heard.check(&self.wallet, &reading.ask);
				if !right {
					check.ask.salt = H256::zero();
				}
				self.peer.say(&ToValidator::Check(Box::new(check))).await;
			}
			Action::Wait(right) => {
				let waiter = Waiter {
					channel: CHANNEL + u64::from(!right),
					payee: account(1),
					model: model_id(),
				};
				let waiter = self.wallet.sign(waiter);
				self.peer.say(&ToValidator::Wait(waiter)).await;
			}
			Action::Read => self.read(node).await,
			Action::Again => self.connect(node).await,
			Action::Block => self.world.blocks(5),
		}
	}

	/// Reads until nothing more comes, for a moment.
	async fn read(&mut self, node: &Node) {
		while let Ok(message) = timeout(QUIET, self.peer.hear()).await {
			match (message, &mut self.reading) {
				(Some(ToClient::Frame(frame)), Some(reading))
					if frame.progress.body.request == reading.request
						&& frame.progress.body.tokens
							== reading.transcript.tokens + frame.tokens.len() as u32 =>
				{
					reading.take(&frame);
				}
				(Some(ToClient::End(end)), Some(reading))
					if end.receipt.body.request == reading.request
						&& end.receipt.body.output_units == reading.transcript.tokens =>
				{
					let (receipt, output) = reading.end(&self.world, &end);
					let finish = end.finish;
					let reading = self.reading.take().unwrap();
					self.base = reading.base.max(self.base);
					self.heard = Some((
						reading,
						Heard {
							receipt,
							output,
							finish,
						},
					));
				}
				(None, _) => return self.connect(node).await,
				// That one will not be answered: what vouchers count on is to be learnt anew.
				(Some(ToClient::Refused { number, .. }), Some(reading))
					if number == Some(reading.ask.number) && reading.tokens.is_empty() =>
				{
					return self.connect(node).await;
				}
				_ => (),
			}
		}
	}
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 40, ..Default::default() })]

	#[test]
	fn nothing_a_client_says_breaks_it(actions in proptest::collection::vec(action(), 1..60)) {
		let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
		runtime.block_on(async {
			let wallet = Wallet::new(1);
			let world = World::new(&wallet);
			let folder = tempfile::tempdir().unwrap();
			let node = Node::start(&world, 1, folder.path()).await;
			let (peer, _) = Peer::hello(&node, &wallet, CHANNEL).await;
			let mut client = Client {
				world: world.clone(),
				wallet: wallet.clone(),
				peer,
				base: 0,
				reading: None,
				heard: None,
				acknowledged: HashMap::new(),
				last: 1,
			};
			for action in actions {
				client.act(&node, action).await;
			}

			// It still serves, and claims what it can show.
			let other = Wallet::new(2);
			world.open(8, &other);
			let (mut peer, _) = Peer::hello(&node, &other, 8).await;
			let mut ask = question(&world, 1, "still here", 40);
			ask.channel = 8;
			let mut reading = peer.ask(ask, 0).await;
			peer.read(&world, &mut reading).await;
			peer.pay(&mut reading).await;
			peer.goodbye().await;
			world.until(|s| s.claims.iter().any(|c| c.body.voucher.body.channel == 8)).await;
			assert!(!node.task.is_finished());
			assert!(node.engine.0.most.load(Ordering::SeqCst) <= 4);
			let written = node.engine.0.by_seed.lock().unwrap().clone();
			for number in 1..=client.last {
				let paid = client.acknowledged.get(&number).copied().unwrap_or(0);
				let written = written.get(&sampling_seed(&seed(), number)).copied().unwrap_or(0);
				// Below is the other channel's.
				let paid = if number == 1 { paid.max(40) } else { paid };
				assert!(written <= paid + SLICE_TOKENS, "{number}: {written} of {paid}");
			}
			node.kill().await;
		});
	}
}
