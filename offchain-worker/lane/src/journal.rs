//! What the lane has said, taken and been paid, on disk.
//!
//! Whatever is said or done stands here before: a number that is used, a voucher that counts, tokens that are sent, a receipt, a verdict, a
//! claim. A thread writes for everybody, all that waits at once in one transaction, and says so when it is on disk.
//!
//! | table | key | value |
//! |---|---|---|
//! | `channels` | channel | [`Account`]: how far its answers are |
//! | `asks` | channel, number | the question |
//! | `answers` | channel, number | [`Answer`]: what is paid for it, and its end |
//! | `pieces` | channel, number, tokens before | [`Fragment`]: what was sent of it |
//! | `checks` | channel | [`Checks`]: how far its checks are |
//! | `verdicts` | channel, place | [`Checked`]: a verdict, and what is paid for it |
//! | `claims` | channel, service, place | [`Settled`]: a claim and its leaves |
//! | `meta` | name | the layout's version, who the validator is |

use std::{
	path::{Path, PathBuf},
	sync::{Arc, Mutex, RwLock},
	thread::JoinHandle,
	time::{Duration, Instant},
};

use codec::{Compact, Decode, DecodeAll, Encode};
use consilience_primitives::{
	model::Price,
	request::FinishReason,
	session::{ChannelId, Service, SumNode},
};
use polkadot_sdk::sp_core::H256;
use redb::{Database, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::{
	chain::SignedClaim,
	lock,
	message::{Balance, Payment, Question, SignedReceipt, SignedVerdict},
	Identity, LOG_TARGET,
};

/// Number of the layout above.
const LAYOUT: u8 = 2;
/// Batches that wait for the disk; whoever comes then waits too.
const QUEUE: usize = 256;
/// How long a disk that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the answers for a channel are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Account {
	/// Number of the last question that was taken; 0 before the first.
	pub(crate) last: u32,
	/// The last voucher for an answer that has a receipt, or will have one.
	pub(crate) held: Option<Payment>,
	/// Tokens that were paid, the last answer's not counted.
	pub(crate) tokens_paid: u64,
	/// Tokens that were sent and not paid, the last answer's not counted.
	pub(crate) tokens_owed: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Answer {
	/// Hash of the question.
	pub(crate) request: H256,
	/// The model's price at the anchor.
	pub(crate) price: Price<Balance>,
	/// Input units.
	pub(crate) input_units: u32,
	/// What vouchers came to before this question: its first is over this and the price of the prompt.
	pub(crate) base: Balance,
	/// The voucher that was held before.
	pub(crate) before: Option<Payment>,
	/// Most tokens that the allotment can pay.
	pub(crate) payable: u32,
	/// The last voucher.
	pub(crate) voucher: Payment,
	/// Tokens that it pays.
	pub(crate) paid: u32,
	/// How it ended.
	pub(crate) end: Ending,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Ending {
	/// Not yet.
	Open,
	/// With a receipt.
	Signed {
		/// Its text beyond what was sent with the tokens.
		rest: Vec<u8>,
		/// Why it ended.
		finish: FinishReason,
		/// For all tokens that were sent.
		receipt: Box<SignedReceipt>,
	},
	/// Without: nothing was said, and nothing is owed.
	Nothing,
}

/// What a voucher is over; nothing without one.
pub(crate) fn amount(voucher: &Option<Payment>) -> Balance {
	voucher.as_ref().map_or(0, |v| v.body.amount)
}

impl Answer {
	/// Price of the prompt and so many tokens; `None` where that is no amount.
	pub(crate) fn price(&self, tokens: u32) -> Option<Balance> {
		self.price.of(self.input_units, tokens)
	}

	/// What is paid of it.
	pub(crate) fn earned(&self) -> Balance {
		self.price(self.paid).unwrap_or_default()
	}

	/// Its receipt.
	pub(crate) fn receipt(&self) -> Option<&SignedReceipt> {
		match &self.end {
			Ending::Signed { receipt, .. } => Some(receipt),
			Ending::Open | Ending::Nothing => None,
		}
	}

	/// Tokens that it has a receipt for and that are not paid.
	pub(crate) fn owed(&self) -> u32 {
		let sent = self.receipt().map_or(0, |r| r.body.output_units);
		sent.saturating_sub(self.paid)
	}
}

/// Part of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Fragment {
	/// Its tokens.
	pub(crate) tokens: Vec<Compact<u32>>,
	/// Its text.
	pub(crate) text: Vec<u8>,
}

/// How far the checks for a channel are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Checks {
	/// Verdicts so far.
	pub(crate) count: u32,
	/// The last voucher for a check.
	pub(crate) held: Option<Payment>,
	/// The highest link of the client's hash chain that was shown, and its number.
	pub(crate) link: Option<(u32, H256)>,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Checked {
	/// What was found.
	pub(crate) verdict: SignedVerdict,
	/// Hash of that.
	pub(crate) hash: H256,
	/// Number of the request in the channel.
	pub(crate) number: u32,
	/// Hash of the question.
	pub(crate) request: H256,
	/// What the check costs.
	pub(crate) price: Balance,
	/// What paid for it.
	pub(crate) voucher: Option<Payment>,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Settled {
	/// As it is submitted.
	pub(crate) claim: SignedClaim,
	/// What was claimed on chain before.
	pub(crate) before: Balance,
	/// Number of the answer, or place of the verdict, of each leaf, and the leaf.
	pub(crate) leaves: Vec<(u32, SumNode<Balance>)>,
	/// The last number, or place, that it settles. What was not paid up to there never will be.
	pub(crate) through: u32,
	/// What became of it.
	pub(crate) state: ClaimState,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum ClaimState {
	/// Finalised state does not have it yet.
	Sent,
	/// Finalised state has it. It may be asked to open receipts.
	Taken,
	/// Its voucher ran out before it was taken. A later voucher claims what it claimed too.
	Lost,
}

/// Why the journal cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
	/// The file cannot be made or read.
	#[error("the lane's journal {}: {}. It keeps this validator from contradicting itself and what it earned: mend the disk", .0.display(), .1)]
	Open(PathBuf, String),
	/// It has another layout.
	#[error("the lane's journal {} is of another version of this program", .0.display())]
	Layout(PathBuf),
	/// Reading or writing failed.
	#[error("the lane's journal: {0}")]
	Database(String),
	/// Something in it does not decode.
	#[error("the lane's journal is broken: {0}")]
	Broken(&'static str),
}

impl JournalError {
	fn database(e: impl Into<redb::Error>) -> Self {
		Self::Database(e.into().to_string())
	}
}

type Result<T> = std::result::Result<T, JournalError>;
type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: Bytes = TableDefinition::new("meta");
const CHANNELS: Bytes = TableDefinition::new("channels");
const ASKS: Bytes = TableDefinition::new("asks");
const ANSWERS: Bytes = TableDefinition::new("answers");
const PIECES: Bytes = TableDefinition::new("pieces");
const CHECKS: Bytes = TableDefinition::new("checks");
const VERDICTS: Bytes = TableDefinition::new("verdicts");
const CLAIMS: Bytes = TableDefinition::new("claims");
const ALL: [Bytes; 8] = [
	META, CHANNELS, ASKS, ANSWERS, PIECES, CHECKS, VERDICTS, CLAIMS,
];

/// Numbers whose order is that of their keys.
fn key(channel: ChannelId, rest: &[u32]) -> Vec<u8> {
	let mut key = channel.to_be_bytes().to_vec();
	rest.iter().for_each(|n| key.extend(n.to_be_bytes()));
	key
}

/// The first key after all that begin with this one; `None` where there is none.
fn after(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
	while let Some(last) = prefix.pop() {
		if let Some(next) = last.checked_add(1) {
			prefix.push(next);
			return Some(prefix);
		}
	}
	None
}

fn last_number(key: &[u8]) -> u32 {
	key.last_chunk().copied().map_or(0, u32::from_be_bytes)
}

const fn service_key(service: Service) -> u32 {
	match service {
		Service::Answer => 0,
		Service::Check => 1,
	}
}

/// What is written together.
#[derive(Default)]
pub(crate) struct Batch(Vec<(Bytes, Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
	fn put(mut self, table: Bytes, key: Vec<u8>, value: &impl Encode) -> Self {
		self.0.push((table, key, Some(value.encode())));
		self
	}

	fn remove(&mut self, table: Bytes, key: Vec<u8>) {
		self.0.push((table, key, None));
	}

	pub(crate) fn identity(self, identity: &Identity) -> Self {
		self.put(META, b"identity".to_vec(), identity)
	}

	pub(crate) fn account(self, channel: ChannelId, account: &Account) -> Self {
		self.put(CHANNELS, key(channel, &[]), account)
	}

	pub(crate) fn ask(self, ask: &Question) -> Self {
		self.put(ASKS, key(ask.channel, &[ask.number]), ask)
	}

	pub(crate) fn answer(self, channel: ChannelId, number: u32, answer: &Answer) -> Self {
		self.put(ANSWERS, key(channel, &[number]), answer)
	}

	pub(crate) fn fragment(
		self,
		channel: ChannelId,
		number: u32,
		before: u32,
		fragment: &Fragment,
	) -> Self {
		self.put(PIECES, key(channel, &[number, before]), fragment)
	}

	pub(crate) fn checks(self, channel: ChannelId, checks: &Checks) -> Self {
		self.put(CHECKS, key(channel, &[]), checks)
	}

	pub(crate) fn verdict(self, channel: ChannelId, place: u32, checked: &Checked) -> Self {
		self.put(VERDICTS, key(channel, &[place]), checked)
	}

	pub(crate) fn claim(
		self,
		channel: ChannelId,
		service: Service,
		place: u32,
		claim: &Settled,
	) -> Self {
		self.put(CLAIMS, key(channel, &[service_key(service), place]), claim)
	}
}

struct Job {
	batch: Batch,
	done: oneshot::Sender<Result<()>>,
}

/// The file, or none for a moment after an error.
struct File {
	path: PathBuf,
	database: RwLock<Option<Arc<Database>>>,
}

impl File {
	fn database(&self) -> Result<Arc<Database>> {
		let database = self.database.read().unwrap_or_else(|e| e.into_inner());
		database
			.clone()
			.ok_or_else(|| JournalError::Database("it failed, and is opened again soon".into()))
	}

	fn set(&self, database: Option<Database>) {
		*self.database.write().unwrap_or_else(|e| e.into_inner()) = database.map(Arc::new);
	}
}

/// Ends a process, as it were, after so many writes: what was written is on disk, and nobody is told.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Fuse {
	left: std::sync::Mutex<Option<usize>>,
	pub(crate) blown: tokio::sync::Notify,
}

#[cfg(test)]
impl Fuse {
	pub(crate) fn set(&self, writes: usize) {
		*crate::lock(&self.left) = Some(writes);
	}

	async fn burn(&self) {
		let blown = match &mut *crate::lock(&self.left) {
			Some(0) => true,
			Some(left) => {
				*left -= 1;
				false
			}
			None => false,
		};
		if blown {
			self.blown.notify_one();
			std::future::pending::<()>().await;
		}
	}
}

/// The journal. Clones share it; when the last is gone the file is closed.
#[derive(Clone)]
pub(crate) struct Journal {
	file: Arc<File>,
	jobs: mpsc::Sender<Job>,
	thread: Arc<Mutex<Option<JoinHandle<()>>>>,
	#[cfg(test)]
	pub(crate) fuse: Arc<Fuse>,
}

impl Journal {
	/// Opens it, or begins one.
	pub(crate) fn open(path: &Path) -> Result<Self> {
		let open = |e: &dyn std::fmt::Display| JournalError::Open(path.to_owned(), e.to_string());
		let database = Database::create(path).map_err(|e| open(&e))?;
		let begin = Batch::default().put(META, b"layout".to_vec(), &LAYOUT);
		let fresh = {
			let transaction = database.begin_read().map_err(|e| open(&e))?;
			let mut tables = transaction.list_tables().map_err(|e| open(&e))?;
			tables.next().is_none()
		};
		if fresh {
			commit(&database, &[begin]).map_err(|e| open(&e))?;
		}
		let file = Arc::new(File {
			path: path.to_owned(),
			database: RwLock::new(Some(Arc::new(database))),
		});
		let (jobs, queue) = mpsc::channel(QUEUE);
		let journal = Self {
			file: file.clone(),
			jobs,
			thread: Arc::default(),
			#[cfg(test)]
			fuse: Arc::default(),
		};
		if journal.get::<u8>(META, b"layout")? != Some(LAYOUT) {
			return Err(JournalError::Layout(path.to_owned()));
		}
		let thread = std::thread::Builder::new()
			.name("lane-journal".into())
			.spawn(move || write_all(&file, queue))
			.map_err(|e| open(&e))?;
		*lock(&journal.thread) = Some(thread);
		Ok(journal)
	}

	/// Writes, and returns when it is on disk.
	pub(crate) async fn write(&self, batch: Batch) -> Result<()> {
		let (done, told) = oneshot::channel();
		let gone = || JournalError::Database("its thread has ended".into());
		self.jobs
			.send(Job { batch, done })
			.await
			.map_err(|_| gone())?;
		let result = told.await.map_err(|_| gone())?;
		#[cfg(test)]
		self.fuse.burn().await;
		result
	}

	fn get<T: Decode>(&self, table: Bytes, key: &[u8]) -> Result<Option<T>> {
		let transaction = self
			.file
			.database()?
			.begin_read()
			.map_err(JournalError::database)?;
		let table = transaction
			.open_table(table)
			.map_err(JournalError::database)?;
		let found = table.get(key).map_err(JournalError::database)?;
		found.map(|v| decode(v.value())).transpose()
	}

	/// All whose keys begin with this, in their order.
	fn list<T: Decode>(&self, table: Bytes, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, T)>> {
		self.range(table, prefix.clone(), after(prefix))
	}

	fn range<T: Decode>(
		&self,
		table: Bytes,
		from: Vec<u8>,
		to: Option<Vec<u8>>,
	) -> Result<Vec<(Vec<u8>, T)>> {
		let transaction = self
			.file
			.database()?
			.begin_read()
			.map_err(JournalError::database)?;
		let table = transaction
			.open_table(table)
			.map_err(JournalError::database)?;
		let found = match &to {
			Some(to) => table.range::<&[u8]>(&from[..]..&to[..]),
			None => table.range::<&[u8]>(&from[..]..),
		};
		found
			.map_err(JournalError::database)?
			.map(|entry| {
				let (key, value) = entry.map_err(JournalError::database)?;
				Ok((key.value().to_vec(), decode(value.value())?))
			})
			.collect()
	}

	/// Who this validator is, as it was last seen.
	pub(crate) fn identity(&self) -> Result<Option<Identity>> {
		self.get(META, b"identity")
	}

	pub(crate) fn account(&self, channel: ChannelId) -> Result<Account> {
		Ok(self.get(CHANNELS, &key(channel, &[]))?.unwrap_or_default())
	}

	/// Channels of which anything is kept.
	pub(crate) fn channels(&self) -> Result<Vec<ChannelId>> {
		let answers = self.list::<Account>(CHANNELS, Vec::new())?;
		let checks = self.list::<Checks>(CHECKS, Vec::new())?;
		let keys = answers.into_iter().map(|(k, _)| k);
		let mut all: Vec<ChannelId> = keys
			.chain(checks.into_iter().map(|(k, _)| k))
			.filter_map(|key| key.first_chunk().copied().map(ChannelId::from_be_bytes))
			.collect();
		all.sort_unstable();
		all.dedup();
		Ok(all)
	}

	pub(crate) fn ask(&self, channel: ChannelId, number: u32) -> Result<Option<Question>> {
		self.get(ASKS, &key(channel, &[number]))
	}

	pub(crate) fn answer(&self, channel: ChannelId, number: u32) -> Result<Option<Answer>> {
		self.get(ANSWERS, &key(channel, &[number]))
	}

	/// Answers from this number on.
	pub(crate) fn answers(&self, channel: ChannelId, from: u32) -> Result<Vec<(u32, Answer)>> {
		let all = self.range(ANSWERS, key(channel, &[from]), after(key(channel, &[])))?;
		Ok(all.into_iter().map(|(k, v)| (last_number(&k), v)).collect())
	}

	/// What was sent of an answer.
	pub(crate) fn fragments(&self, channel: ChannelId, number: u32) -> Result<Vec<Fragment>> {
		let all = self.list(PIECES, key(channel, &[number]))?;
		Ok(all.into_iter().map(|(_, v)| v).collect())
	}

	pub(crate) fn checks(&self, channel: ChannelId) -> Result<Checks> {
		Ok(self.get(CHECKS, &key(channel, &[]))?.unwrap_or_default())
	}

	pub(crate) fn verdict(&self, channel: ChannelId, place: u32) -> Result<Option<Checked>> {
		self.get(VERDICTS, &key(channel, &[place]))
	}

	/// Verdicts from this place on.
	pub(crate) fn verdicts(&self, channel: ChannelId, from: u32) -> Result<Vec<(u32, Checked)>> {
		let all = self.range(VERDICTS, key(channel, &[from]), after(key(channel, &[])))?;
		Ok(all.into_iter().map(|(k, v)| (last_number(&k), v)).collect())
	}

	/// Claims of a channel for a service, the oldest first.
	pub(crate) fn claims(
		&self,
		channel: ChannelId,
		service: Service,
	) -> Result<Vec<(u32, Settled)>> {
		let all = self.list(CLAIMS, key(channel, &[service_key(service)]))?;
		Ok(all.into_iter().map(|(k, v)| (last_number(&k), v)).collect())
	}

	/// What removes all that is kept of a channel.
	pub(crate) fn forget_channel(&self, channel: ChannelId) -> Result<Batch> {
		let mut batch = Batch::default();
		for table in &ALL[1..] {
			for found in self.keys(*table, key(channel, &[]))? {
				batch.remove(*table, found);
			}
		}
		Ok(batch)
	}

	/// What removes all that was kept to open the receipts of claims up to the one at this place, which stays without its leaves: the next
	/// one begins there.
	pub(crate) fn forget_claims(
		&self,
		channel: ChannelId,
		service: Service,
		place: u32,
		claim: &mut Settled,
	) -> Result<Batch> {
		let mut batch = Batch::default();
		let tables: &[Bytes] = match service {
			Service::Answer => &[ASKS, ANSWERS, PIECES],
			Service::Check => &[VERDICTS],
		};
		for table in tables {
			for found in self.keys(*table, key(channel, &[]))? {
				let number = found.get(8..12).and_then(|n| n.first_chunk().copied());
				if number
					.map(u32::from_be_bytes)
					.is_some_and(|n| n <= claim.through)
				{
					batch.remove(*table, found);
				}
			}
		}
		for found in self.keys(CLAIMS, key(channel, &[service_key(service)]))? {
			if last_number(&found) < place {
				batch.remove(CLAIMS, found);
			}
		}
		claim.leaves.clear();
		Ok(batch.claim(channel, service, place, claim))
	}

	fn keys(&self, table: Bytes, prefix: Vec<u8>) -> Result<Vec<Vec<u8>>> {
		let transaction = self
			.file
			.database()?
			.begin_read()
			.map_err(JournalError::database)?;
		let table = transaction
			.open_table(table)
			.map_err(JournalError::database)?;
		let to = after(prefix.clone());
		let found = match &to {
			Some(to) => table.range::<&[u8]>(&prefix[..]..&to[..]),
			None => table.range::<&[u8]>(&prefix[..]..),
		};
		found
			.map_err(JournalError::database)?
			.map(|entry| Ok(entry.map_err(JournalError::database)?.0.value().to_vec()))
			.collect()
	}

	/// Waits until the file is closed.
	pub(crate) async fn closed(self) {
		let thread = lock(&self.thread).take();
		// The thread ends when nobody can write any more.
		drop(self);
		if let Some(thread) = thread {
			// It does not panic; if it did, the file is closed all the same.
			let _ = tokio::task::spawn_blocking(move || thread.join()).await;
		}
	}
}

fn decode<T: Decode>(bytes: &[u8]) -> Result<T> {
	T::decode_all(&mut &bytes[..]).map_err(|_| JournalError::Broken("an entry does not decode"))
}

/// The thread.
fn write_all(file: &File, mut queue: mpsc::Receiver<Job>) {
	let mut failed: Option<Instant> = None;
	while let Some(first) = queue.blocking_recv() {
		let mut batches = vec![first.batch];
		let mut waiting = vec![first.done];
		while let Ok(job) = queue.try_recv() {
			batches.push(job.batch);
			waiting.push(job.done);
		}
		let result = write(file, &mut failed, &batches);
		if let Err(error) = &result {
			tracing::error!(target: LOG_TARGET, "{error}; nothing is said meanwhile that is not on disk");
		}
		for done in waiting {
			// Whoever does not wait any more was cancelled.
			let _ = done.send(result.clone());
		}
	}
	file.set(None);
}

fn write(file: &File, failed: &mut Option<Instant>, batches: &[Batch]) -> Result<()> {
	if failed.is_some_and(|at| at.elapsed() >= PAUSE) {
		// One that is gone is not begun again: it would say in another way what it has said.
		match Database::open(&file.path) {
			Ok(database) => {
				tracing::info!(target: LOG_TARGET, "the lane's journal is open again");
				file.set(Some(database));
				*failed = None;
			}
			Err(e) => {
				*failed = Some(Instant::now());
				return Err(JournalError::database(e));
			}
		}
	}
	let result = commit(&*file.database()?, batches);
	if result.is_err() {
		file.set(None);
		*failed = Some(Instant::now());
	}
	result
}

fn commit(database: &Database, batches: &[Batch]) -> Result<()> {
	let transaction = database.begin_write().map_err(JournalError::database)?;
	{
		// Reading a table that was never written is an error.
		for table in ALL {
			transaction
				.open_table(table)
				.map_err(JournalError::database)?;
		}
		for (definition, key, value) in batches.iter().flat_map(|batch| &batch.0) {
			let mut table = transaction
				.open_table(*definition)
				.map_err(JournalError::database)?;
			match value {
				Some(value) => table.insert(&key[..], &value[..]),
				None => table.remove(&key[..]),
			}
			.map_err(JournalError::database)?;
		}
	}
	transaction.commit().map_err(JournalError::database)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn account(last: u32) -> Batch {
		let account = Account {
			last,
			..Account::default()
		};
		Batch::default().account(1, &account)
	}

	#[tokio::test]
	async fn what_is_written_is_there_after_reopening_and_only_that() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("lane.redb");
		let journal = Journal::open(&path).unwrap();
		let writes = (1..=20).map(|last| journal.write(account(last)));
		for result in futures::future::join_all(writes).await {
			result.unwrap();
		}
		journal.closed().await;
		let journal = Journal::open(&path).unwrap();
		assert_eq!(journal.account(1).unwrap().last, 20);
		assert_eq!(journal.account(2).unwrap(), Account::default());
		assert_eq!(journal.channels().unwrap(), [1]);
		let gone = journal.forget_channel(1).unwrap();
		journal.write(gone).await.unwrap();
		assert_eq!(journal.account(1).unwrap(), Account::default());
	}

	#[test]
	fn after_a_failure_it_is_opened_again_and_never_begun_again() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("lane.redb");
		let database = Database::create(&path).unwrap();
		commit(&database, &[account(1)]).unwrap();
		drop(database);
		let file = File {
			path: path.clone(),
			database: RwLock::new(None),
		};
		// It is left alone for a while.
		let mut failed = Some(Instant::now());
		write(&file, &mut failed, &[account(2)]).unwrap_err();
		let before = Instant::now().checked_sub(PAUSE).unwrap();
		failed = Some(before);
		write(&file, &mut failed, &[account(3)]).unwrap();
		assert_eq!(failed, None);
		file.set(None);
		std::fs::remove_file(&path).unwrap();
		failed = Some(before);
		write(&file, &mut failed, &[account(4)]).unwrap_err();
		assert!(
			!path.exists(),
			"it would say in another way what it has said"
		);
	}

	#[test]
	fn another_layout_is_not_read() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("lane.redb");
		let database = Database::create(&path).unwrap();
		let other = Batch::default().put(META, b"layout".to_vec(), &(LAYOUT + 1));
		commit(&database, &[other]).unwrap();
		drop(database);
		assert!(matches!(Journal::open(&path), Err(JournalError::Layout(_))));
	}

	#[test]
	fn keys_lie_in_the_order_of_their_numbers() {
		let mut keys: Vec<_> = [1, 255, 256, 65_536].map(|n| key(7, &[n])).into();
		keys.extend(after(key(7, &[])));
		assert!(keys.is_sorted());
		assert!(key(8, &[]) >= after(key(7, &[])).unwrap());
		assert_eq!(after(vec![255, 255]), None);
		assert_eq!(after(vec![1, 255]), Some(vec![2]));
	}
}
