use std::{
	sync::{Arc, Mutex},
	time::Duration,
};

use async_trait::async_trait;
use consilience_primitives::{
	contribution::{input, Contribution},
	crypto::InferenceId,
	report::ContributionDue,
};
use futures::{stream::BoxStream, StreamExt};
use polkadot_sdk::{
	sp_application_crypto::Pair,
	sp_core::{crypto::VrfSecret, sr25519, H256},
};
use tokio::{sync::mpsc, time::timeout};

use super::{head, pair, PATIENCE};
use crate::{
	chain::{BlockNumber, ChainError, Head},
	contribute::{run, Tossing},
};

const GENESIS: H256 = H256::repeat_byte(9);

struct Chain {
	heads: Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
	due: Mutex<Vec<ContributionDue<BlockNumber>>>,
	syncing: Mutex<bool>,
	/// What was said to whoever asked whether it is syncing.
	looked: mpsc::UnboundedSender<bool>,
	/// What the pool says.
	pool: Mutex<Result<(), ChainError>>,
	contributed: mpsc::UnboundedSender<(H256, Contribution<BlockNumber>)>,
}

#[async_trait]
impl Tossing for Chain {
	fn heads(&self) -> BoxStream<'static, Head> {
		let mut heads = self.heads.lock().unwrap().take().unwrap();
		futures::stream::poll_fn(move |cx| heads.poll_recv(cx)).boxed()
	}

	fn is_major_syncing(&self) -> bool {
		let syncing = *self.syncing.lock().unwrap();
		self.looked.send(syncing).unwrap();
		syncing
	}

	fn keys(&self) -> Vec<InferenceId> {
		vec![pair().public()]
	}

	fn contributions_due(
		&self,
		_at: H256,
		_key: &InferenceId,
	) -> Result<Vec<ContributionDue<BlockNumber>>, ChainError> {
		Ok(self.due.lock().unwrap().clone())
	}

	fn contribution(
		&self,
		block: BlockNumber,
		parent: &H256,
		key: &InferenceId,
	) -> Result<Contribution<BlockNumber>, ChainError> {
		let signed = sr25519::Pair::from(pair()).vrf_sign(&input(&GENESIS, parent));
		Ok(Contribution::new(block, key.clone(), &signed))
	}

	async fn contribute(
		&self,
		at: H256,
		contribution: Contribution<BlockNumber>,
	) -> Result<(), ChainError> {
		self.contributed.send((at, contribution)).unwrap();
		self.pool.lock().unwrap().clone()
	}
}

struct Fixture {
	chain: Arc<Chain>,
	heads: mpsc::UnboundedSender<Head>,
	contributed: mpsc::UnboundedReceiver<(H256, Contribution<BlockNumber>)>,
	looked: mpsc::UnboundedReceiver<bool>,
}

fn start(due: &[(BlockNumber, Option<H256>)]) -> Fixture {
	let (heads, receiver) = mpsc::unbounded_channel();
	let (sender, contributed) = mpsc::unbounded_channel();
	let (looks, looked) = mpsc::unbounded_channel();
	let due = due.iter().map(|(block, parent)| ContributionDue {
		block: *block,
		parent: *parent,
	});
	let chain = Arc::new(Chain {
		heads: Mutex::new(Some(receiver)),
		due: Mutex::new(due.collect()),
		syncing: Mutex::new(false),
		looked: looks,
		pool: Mutex::new(Ok(())),
		contributed: sender,
	});
	tokio::spawn(run(chain.clone(), Duration::ZERO));
	Fixture {
		chain,
		heads,
		contributed,
		looked,
	}
}

impl Fixture {
	async fn next(&mut self) -> (H256, Contribution<BlockNumber>) {
		let next = timeout(PATIENCE, self.contributed.recv()).await;
		next.expect("nothing is contributed").unwrap()
	}
}

#[tokio::test]
async fn contributes_to_the_block_that_follows_the_best_one() {
	let mut fixture = start(&[(8, None)]);
	fixture.heads.send(head(7)).unwrap();
	let (at, contribution) = fixture.next().await;
	assert_eq!((at, contribution.block), (head(7).hash, 8));
	assert!(contribution.is_right(&GENESIS, &head(7).hash));
}

#[tokio::test]
async fn what_no_block_has_taken_is_signed_again_for_the_same_parent() {
	let mut fixture = start(&[(8, None)]);
	fixture.heads.send(head(7)).unwrap();
	let (_, first) = fixture.next().await;
	*fixture.chain.due.lock().unwrap() = vec![ContributionDue {
		block: 8,
		parent: Some(head(7).hash),
	}];
	fixture.heads.send(head(8)).unwrap();
	let (at, again) = fixture.next().await;
	assert_eq!(at, head(8).hash);
	assert!(again.is_right(&GENESIS, &head(7).hash));
	assert_eq!(again.output, first.output);
	assert_ne!(
		again.proof, first.proof,
		"the pool would not tell it to anybody"
	);
}

#[tokio::test]
async fn a_pool_that_refuses_or_fails_ends_nothing() {
	let mut fixture = start(&[(8, None), (7, Some(head(6).hash))]);
	for (number, said) in [
		(7, ChainError::Refused("it is in a block".into())),
		(8, ChainError::Pool("it is full".into())),
	] {
		*fixture.chain.pool.lock().unwrap() = Err(said);
		fixture.heads.send(head(number)).unwrap();
		assert_eq!(fixture.next().await.1.block, 8);
		// What is wrong with one says nothing of the other.
		assert_eq!(fixture.next().await.1.block, 7);
	}
	*fixture.chain.pool.lock().unwrap() = Ok(());
	fixture.heads.send(head(9)).unwrap();
	assert_eq!(fixture.next().await.0, head(9).hash);
}

#[tokio::test]
async fn contributes_to_nothing_that_is_long_past() {
	let mut fixture = start(&[(8, None)]);
	*fixture.chain.syncing.lock().unwrap() = true;
	fixture.heads.send(head(7)).unwrap();
	let looked = timeout(PATIENCE, fixture.looked.recv()).await;
	assert_eq!(looked.expect("nobody looks whether it is"), Some(true));
	*fixture.chain.syncing.lock().unwrap() = false;
	fixture.heads.send(head(8)).unwrap();
	let (at, _) = fixture.next().await;
	assert_eq!(at, head(8).hash);
	assert!(fixture.contributed.try_recv().is_err());
}
