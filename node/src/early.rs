//! What comes before the block that it is about.
//!
//! A validator says what is due at a block as soon as it has that block, and whoever authored it has it first. A node without the block finds
//! that invalid and bans it for a while, and no node sends a transaction twice: only the validator itself could have included it, three
//! blocks later at best. So a node keeps such a transaction until it has the block.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use codec::{DecodeLimit, Encode};
use consilience_runtime::{opaque::Block, BlockNumber, Hash, RuntimeCall, UncheckedExtrinsic};
use futures::{Stream, StreamExt};
use polkadot_sdk::{
	frame_support::MAX_EXTRINSIC_DEPTH,
	sc_client_api::BlockchainEvents,
	sc_transaction_pool_api::{
		ImportNotificationStream, PoolStatus, ReadyTransactions, TransactionFor, TransactionPool,
		TransactionSource, TransactionStatusStreamFor, TxHash, TxInvalidityReportMap,
	},
	sp_blockchain::HeaderBackend,
	sp_runtime::{generic::Preamble, OpaqueExtrinsic},
};
use tokio::sync::Semaphore;

/// How long a transaction is kept. Blocks come every three seconds, and it is one behind.
const PATIENCE: Duration = Duration::from_secs(6);

/// How far ahead the block of a transaction may be. What is further is none of a network that this node keeps up with.
const AHEAD: BlockNumber = 2;

/// Most transactions that are kept at once. Anybody can send some that will never be valid.
const MOST: usize = 1_024;

/// A transaction pool that keeps what peers send too early.
pub(crate) struct Patient<Pool, Client> {
	pool: Arc<Pool>,
	client: Arc<Client>,
	places: Semaphore,
}

impl<Pool, Client> Patient<Pool, Client> {
	pub(crate) fn new(pool: Arc<Pool>, client: Arc<Client>) -> Self {
		Self {
			pool,
			client,
			places: Semaphore::new(MOST),
		}
	}
}

/// The block without which a transaction cannot be valid, if it is one that a validator signs for a block.
fn needed(transaction: &OpaqueExtrinsic) -> Option<BlockNumber> {
	let bytes = transaction.encode();
	let extrinsic =
		UncheckedExtrinsic::decode_all_with_depth_limit(MAX_EXTRINSIC_DEPTH, &mut &bytes[..])
			.ok()?;
	if !matches!(extrinsic.preamble, Preamble::General(..)) {
		return None;
	}
	match extrinsic.function {
		RuntimeCall::Inference(pallet_inference::Call::report { report, .. }) => Some(report.at),
		// It is signed for the hash of the block before.
		RuntimeCall::Inference(pallet_inference::Call::contribute { contribution }) => {
			contribution.block.checked_sub(1)
		}
		_ => None,
	}
}

/// Waits until the best block is this one or a later one, as long as that is to be expected.
async fn wait_for(
	block: BlockNumber,
	best: impl Fn() -> BlockNumber,
	mut imported: impl Stream<Item = ()> + Unpin,
) {
	let coming = async {
		while (1..=AHEAD).contains(&block.saturating_sub(best())) {
			if imported.next().await.is_none() {
				break;
			}
		}
	};
	// What is too early still is refused by the pool.
	let _ = tokio::time::timeout(PATIENCE, coming).await;
}

impl<Pool, Client> Patient<Pool, Client>
where
	Pool: TransactionPool<Block = Block>,
	Client: HeaderBackend<Block> + BlockchainEvents<Block>,
{
	/// Waits for the block that a transaction needs. Returns the best block then, on which the pool is.
	async fn settle_on(&self, at: Hash, transaction: &OpaqueExtrinsic) -> Hash {
		let (Some(block), Ok(_place)) = (needed(transaction), self.places.try_acquire()) else {
			return at;
		};
		let imported = self
			.client
			.import_notification_stream()
			.filter(|block| futures::future::ready(block.is_new_best))
			.map(|_| ());
		wait_for(block, || self.client.info().best_number, imported).await;
		let best = self.client.info().best_hash;
		drop(self.pool.ready_at_with_timeout(best, PATIENCE).await);
		best
	}
}

#[async_trait]
impl<Pool, Client> TransactionPool for Patient<Pool, Client>
where
	Pool: TransactionPool<Block = Block>,
	Client: HeaderBackend<Block> + BlockchainEvents<Block> + Send + Sync,
{
	type Block = Block;
	type Hash = Pool::Hash;
	type InPoolTransaction = Pool::InPoolTransaction;
	type Error = Pool::Error;

	async fn submit_at(
		&self,
		at: Hash,
		source: TransactionSource,
		transactions: Vec<TransactionFor<Self>>,
	) -> Result<Vec<Result<TxHash<Self>, Self::Error>>, Self::Error> {
		self.pool.submit_at(at, source, transactions).await
	}

	async fn submit_one(
		&self,
		at: Hash,
		source: TransactionSource,
		transaction: TransactionFor<Self>,
	) -> Result<TxHash<Self>, Self::Error> {
		let at = self.settle_on(at, &transaction).await;
		self.pool.submit_one(at, source, transaction).await
	}

	async fn submit_and_watch(
		&self,
		at: Hash,
		source: TransactionSource,
		transaction: TransactionFor<Self>,
	) -> Result<Pin<Box<TransactionStatusStreamFor<Self>>>, Self::Error> {
		self.pool.submit_and_watch(at, source, transaction).await
	}

	async fn ready_at(
		&self,
		at: Hash,
	) -> Box<dyn ReadyTransactions<Item = Arc<Self::InPoolTransaction>> + Send> {
		self.pool.ready_at(at).await
	}

	fn ready(&self) -> Box<dyn ReadyTransactions<Item = Arc<Self::InPoolTransaction>> + Send> {
		self.pool.ready()
	}

	async fn report_invalid(
		&self,
		at: Option<Hash>,
		invalid: TxInvalidityReportMap<TxHash<Self>>,
	) -> Vec<Arc<Self::InPoolTransaction>> {
		self.pool.report_invalid(at, invalid).await
	}

	fn futures(&self) -> Vec<Self::InPoolTransaction> {
		self.pool.futures()
	}

	fn status(&self) -> PoolStatus {
		self.pool.status()
	}

	fn import_notification_stream(&self) -> ImportNotificationStream<TxHash<Self>> {
		self.pool.import_notification_stream()
	}

	fn on_broadcasted(&self, propagations: HashMap<TxHash<Self>, Vec<String>>) {
		self.pool.on_broadcasted(propagations);
	}

	fn hash_of(&self, transaction: &TransactionFor<Self>) -> TxHash<Self> {
		self.pool.hash_of(transaction)
	}

	fn ready_transaction(&self, hash: &TxHash<Self>) -> Option<Arc<Self::InPoolTransaction>> {
		self.pool.ready_transaction(hash)
	}

	async fn ready_at_with_timeout(
		&self,
		at: Hash,
		timeout: Duration,
	) -> Box<dyn ReadyTransactions<Item = Arc<Self::InPoolTransaction>> + Send> {
		self.pool.ready_at_with_timeout(at, timeout).await
	}
}

#[cfg(test)]
mod tests {
	use std::sync::{atomic::AtomicU32, atomic::Ordering::SeqCst};

	use consilience_primitives::{
		contribution::Contribution,
		report::{Report, Statement},
		List,
	};
	use consilience_runtime::Runtime;
	use polkadot_sdk::{
		frame_system::{self, offchain::CreateAuthorizedTransaction},
		pallet_timestamp,
		sp_core::{sr25519, Pair},
	};

	use super::*;

	fn opaque(extrinsic: &UncheckedExtrinsic) -> OpaqueExtrinsic {
		OpaqueExtrinsic::try_from_encoded_extrinsic(&extrinsic.encode()).expect("a transaction")
	}

	fn authorised(call: pallet_inference::Call<Runtime>) -> UncheckedExtrinsic {
		type Call = pallet_inference::Call<Runtime>;
		<Runtime as CreateAuthorizedTransaction<Call>>::create_authorized_transaction(call.into())
	}

	fn report(at: BlockNumber) -> UncheckedExtrinsic {
		let report = Report {
			session: 0,
			validator: 0,
			at,
			statements: List::truncate_from(vec![Statement::Withdraw {
				model: Default::default(),
			}]),
		};
		let signature = sr25519::Signature::default().into();
		authorised(pallet_inference::Call::report { report, signature })
	}

	#[test]
	fn what_validators_sign_for_a_block_needs_it() {
		assert_eq!(needed(&opaque(&report(7))), Some(7));
		let contribution = |block| Contribution {
			block,
			key: sr25519::Public::default().into(),
			output: [0; 32],
			proof: [0; 64],
		};
		let contribute = |block| {
			let contribution = contribution(block);
			authorised(pallet_inference::Call::contribute { contribution })
		};
		assert_eq!(needed(&opaque(&contribute(8))), Some(7));
		assert_eq!(needed(&opaque(&contribute(0))), None);
	}

	#[test]
	fn what_others_send_needs_no_block() {
		let remark = || frame_system::Call::remark {
			remark: b"hello".to_vec(),
		};
		let alice = sr25519::Pair::from_string("//Alice", None).expect("a development key");
		let genesis = Hash::zero();
		let signed = consilience_runtime::signed(remark().into(), &alice, 0, genesis);
		assert_eq!(needed(&opaque(&signed)), None);
		// A report in another's envelope is none.
		let signed = consilience_runtime::signed(report(7).function, &alice, 0, genesis);
		assert_eq!(needed(&opaque(&signed)), None);
		let now = pallet_timestamp::Call::set { now: 1 };
		let inherent = UncheckedExtrinsic::new_bare(RuntimeCall::Timestamp(now));
		assert_eq!(needed(&opaque(&inherent)), None);
		let mut cut = report(7).encode();
		cut.truncate(cut.len() - 1);
		if let Ok(cut) = OpaqueExtrinsic::try_from_encoded_extrinsic(&cut) {
			assert_eq!(needed(&cut), None);
		}
	}

	/// Blocks that are imported when they are sent.
	fn blocks() -> (
		Arc<AtomicU32>,
		futures::channel::mpsc::UnboundedSender<()>,
		impl Stream<Item = ()> + Unpin,
	) {
		let (sender, receiver) = futures::channel::mpsc::unbounded();
		(Arc::new(AtomicU32::new(5)), sender, receiver)
	}

	#[tokio::test]
	async fn it_waits_until_the_block_is_there() {
		let (best, sender, imported) = blocks();
		let number = best.clone();
		let waiting =
			tokio::spawn(async move { wait_for(7, || number.load(SeqCst), imported).await });
		for block in [6, 7] {
			tokio::task::yield_now().await;
			assert!(!waiting.is_finished(), "block {block} is not there yet");
			best.store(block, SeqCst);
			sender.unbounded_send(()).expect("it listens");
		}
		waiting.await.expect("the block is there");
	}

	#[tokio::test]
	async fn it_does_not_wait_for_what_is_there_nor_for_what_is_far_away() {
		for block in [0, 4, 5, 5 + AHEAD + 1, BlockNumber::MAX] {
			let (best, _sender, imported) = blocks();
			let mut waiting = Box::pin(wait_for(block, || best.load(SeqCst), imported));
			assert!(futures::poll!(&mut waiting).is_ready(), "block {block}");
		}
	}
}
