//! What comes before the block that it is about.
//!
//! A validator says what is due at a block as soon as it has that block, and whoever authored it has it first. A node without the block finds
//! that invalid and bans it for a while, and no node sends a transaction twice: only the validator itself could have included it, three
//! blocks later at best. So a node keeps such a transaction until it has the block.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use codec::{DecodeLimit, Encode};
use consilience_runtime::{opaque::Block, BlockNumber, Hash, RuntimeCall, UncheckedExtrinsic};
use futures::StreamExt;
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
use tokio::sync::{watch, Semaphore};

/// How long a transaction is kept. Blocks come every three seconds, and it is one behind.
const PATIENCE: Duration = Duration::from_secs(6);

/// How far ahead the block of a transaction may be. What is further is none of a network that this node keeps up with.
const AHEAD: BlockNumber = 2;

/// KiB of transactions that are kept at once, and that each counts at least. Nobody can tell whether they will be valid, and anybody can
/// send such: where there is no room they are refused, as they would be without this.
const KEPT: (usize, usize) = (32 << 10, 32);

/// The last best block that the pool has come to.
type Tip = (BlockNumber, Hash);

/// A transaction pool that keeps what peers send too early.
///
/// What is signed for another block of the same height is refused: it cannot be told from what will never be valid.
pub(crate) struct Patient<Pool> {
	pool: Arc<Pool>,
	tip: watch::Receiver<Tip>,
	room: Semaphore,
}

impl<Pool: TransactionPool<Block = Block> + 'static> Patient<Pool> {
	/// Returns the pool, and what is to run beside it.
	pub(crate) fn new<Client>(
		pool: Arc<Pool>,
		client: Arc<Client>,
	) -> (Self, impl Future<Output = ()>)
	where
		Client: HeaderBackend<Block> + BlockchainEvents<Block> + Send + Sync + 'static,
	{
		let info = client.info();
		let (sender, tip) = watch::channel((info.best_number, info.best_hash));
		let mut blocks = client.import_notification_stream();
		let follow = {
			let pool = pool.clone();
			async move {
				while let Some(block) = blocks.next().await {
					if !block.is_new_best {
						continue;
					}
					// Once for all that wait: it is no little work.
					drop(pool.ready_at_with_timeout(block.hash, PATIENCE).await);
					if sender.send((block.header.number, block.hash)).is_err() {
						return;
					}
				}
			}
		};
		let room = Semaphore::new(KEPT.0);
		(Self { pool, tip, room }, follow)
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

/// Waits for a block, as long as it is to be expected. Returns the tip where that was waited for.
async fn wait_for(block: BlockNumber, tip: &mut watch::Receiver<Tip>) -> Option<Hash> {
	let now = tip.borrow_and_update().0;
	if !(1..=AHEAD).contains(&block.saturating_sub(now)) {
		return None;
	}
	// What is too early still is refused by the pool.
	let come = tip.wait_for(|(number, _)| *number >= block);
	let tip = tokio::time::timeout(PATIENCE, come).await.ok()?.ok()?;
	Some(tip.1)
}

#[async_trait]
impl<Pool: TransactionPool<Block = Block>> TransactionPool for Patient<Pool> {
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
		let kib = (transaction.encoded_size() >> 10).max(KEPT.1);
		let room = u32::try_from(kib).map(|kib| self.room.try_acquire_many(kib));
		let at = match (needed(&transaction), room) {
			(Some(block), Ok(Ok(_room))) => {
				let mut tip = self.tip.clone();
				wait_for(block, &mut tip).await.unwrap_or(at)
			}
			_ => at,
		};
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

	fn tip(number: BlockNumber) -> Tip {
		(number, Hash::from_low_u64_be(number.into()))
	}

	#[tokio::test]
	async fn it_waits_until_the_pool_has_the_block() {
		let (sender, mut blocks) = watch::channel(tip(5));
		let waiting = tokio::spawn(async move { wait_for(7, &mut blocks).await });
		for block in [6, 7] {
			tokio::task::yield_now().await;
			assert!(!waiting.is_finished(), "block {block} is not there yet");
			sender.send(tip(block)).expect("it listens");
		}
		assert_eq!(waiting.await.expect("it ends"), Some(tip(7).1));
	}

	#[tokio::test]
	async fn it_does_not_wait_for_what_is_there_nor_for_what_is_far_away() {
		for block in [0, 4, 5, 5 + AHEAD + 1, BlockNumber::MAX] {
			let (_sender, mut blocks) = watch::channel(tip(5));
			let mut waiting = Box::pin(wait_for(block, &mut blocks));
			assert_eq!(
				futures::poll!(&mut waiting),
				std::task::Poll::Ready(None),
				"block {block}"
			);
		}
	}
}
