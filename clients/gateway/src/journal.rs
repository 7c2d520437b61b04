//! What survives a restart: requests that are not settled, what was spent, and idempotency keys with their answers.
//!
//! One thread writes; what waits goes into one transaction, so that many requests share one flush to the disk. A transaction is on the
//! disk before anybody is told so, and a crash leaves the last whole one.

use std::{
	path::{Path, PathBuf},
	sync::{
		mpsc::{Receiver, Sender},
		Arc,
	},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
	budget::DAY,
	lane::Outcome,
	network::{amount, Amount, Refusal, Step, Ticket},
};

const JOBS: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("jobs");
const KEYED: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("keyed");
const SPENT: TableDefinition<'static, (u64, &'static str), u128> = TableDefinition::new("spent");

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
	/// It was settled in a finalised block.
	Settled(Box<Step>),
	/// It was never made.
	Refused(Refusal),
	/// The chain has forgotten it, or the wallet of its channel has gone: what it was paid is not known.
	Forgotten,
	/// It was answered in the session lane.
	Said {
		/// What there is to show for it.
		outcome: Box<Outcome>,
		/// What was signed away for it, under all its numbers.
		#[serde(with = "amount")]
		paid: Amount,
	},
	/// It was asked in the session lane, and there is no whole answer.
	Broken {
		/// Why, as a word.
		broke: Broke,
		/// Why.
		why: String,
		/// What was signed away for it, under all its numbers.
		#[serde(with = "amount")]
		paid: Amount,
	},
}

impl End {
	/// Returns what the request was paid; `None` where that is not known.
	pub(crate) fn paid(&self) -> Option<Amount> {
		match self {
			Self::Settled(step) => Some(step.paid),
			Self::Said { paid, .. } | Self::Broken { paid, .. } => Some(*paid),
			Self::Refused(_) => Some(0),
			Self::Forgotten => None,
		}
	}
}

/// Why a question of the session lane has no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Broke {
	/// Nobody who was asked gave one.
	NoAnswer,
	/// It was cut: nobody listened any more, or the gateway ended.
	Interrupted,
}

/// What leads to a question of the session lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
	/// The channel that pays.
	pub(crate) channel: u64,
	/// Tells the question from others.
	pub(crate) question: String,
	/// No number of it is lower.
	pub(crate) from: u32,
	/// The numbers that it got, one for each validator that was asked.
	pub(crate) numbers: Vec<u32>,
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
	/// Name of the key that asked.
	pub(crate) key: String,
	/// When, in seconds since 1970.
	pub(crate) created: u64,
	/// Name of the model, as the client said it.
	pub(crate) model: String,
	/// What is held for it at most.
	#[serde(with = "amount")]
	pub(crate) reserved: Amount,
	/// Input units that are charged.
	pub(crate) input_units: u32,
	/// Whether an idempotency key leads here.
	pub(crate) keyed: bool,
	/// What was sent, once it is about to be.
	pub(crate) ticket: Option<Ticket>,
	/// Its number on chain, once it is known.
	pub(crate) request: Option<u64>,
	/// What leads to it where it goes the session lane.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub(crate) session: Option<Asked>,
	/// How it ended.
	pub(crate) end: Option<End>,
}

impl Record {
	/// Returns the day on which it counts.
	pub(crate) fn day(&self) -> u64 {
		self.created / DAY
	}

	/// Returns what it was paid, once it has ended.
	pub(crate) fn paid(&self) -> Amount {
		let end = self.end.as_ref();
		// Where it is not known, it is not more.
		end.map_or(0, |end| end.paid().unwrap_or(self.reserved))
	}
}

/// What an idempotency key stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keyed {
	/// Digest of the body that it came with.
	pub(crate) body: String,
	/// When it was first used.
	pub(crate) created: u64,
	/// The requests that were made.
	pub(crate) jobs: Vec<u64>,
}

/// Why the journal does not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
	/// The database does not work.
	#[error("{0}: {1}")]
	Database(String, String),
	/// As many idempotency keys are remembered as may be.
	#[error("{0} idempotency keys of the last day are remembered, and no more are taken")]
	Full(usize),
	/// The thread that writes has ended.
	#[error("it is closed")]
	Closed,
}

enum Change {
	Open {
		jobs: Vec<(u64, Record)>,
		keyed: Option<(String, Keyed)>,
		now: u64,
	},
	Put(u64, Box<Record>),
	End(u64, Box<Record>),
	Drop(u64),
}

type Message = (Change, oneshot::Sender<Result<(), JournalError>>);

/// The journal.
#[derive(Clone)]
pub(crate) struct Journal {
	database: Arc<Database>,
	path: Arc<PathBuf>,
	changes: Sender<Message>,
}

/// What a journal held when it was opened.
pub(crate) struct Held {
	/// Requests, by their number in the journal.
	pub(crate) jobs: Vec<(u64, Record)>,
	/// What was paid, by day and key.
	pub(crate) spent: Vec<(u64, String, Amount)>,
}

impl Journal {
	/// Opens the journal of a folder, or begins one.
	///
	/// # Errors
	/// If the folder cannot be used, or another process has it.
	pub(crate) fn open(folder: &Path, keys: usize, now: u64) -> Result<(Self, Held), JournalError> {
		let path = folder.join("gateway.redb");
		let wrong = |e: &dyn std::fmt::Display| {
			JournalError::Database(path.display().to_string(), e.to_string())
		};
		std::fs::create_dir_all(folder).map_err(|e| wrong(&e))?;
		let database = Database::create(&path).map_err(|e| wrong(&e))?;
		let mut writer = Writer {
			database: Arc::new(database),
			keys,
			keyed: 0,
			pruned: 0,
		};
		writer.prune(now).map_err(|e| wrong(&e))?;
		let held = writer.held().map_err(|e| wrong(&e))?;
		let (changes, inbox) = std::sync::mpsc::channel();
		let journal = Self {
			database: writer.database.clone(),
			path: Arc::new(path.clone()),
			changes,
		};
		let name = path.display().to_string();
		std::thread::Builder::new()
			.name("gateway-journal".into())
			.spawn(move || writer.run(&inbox, &name))
			.map_err(|e| wrong(&e))?;
		Ok((journal, held))
	}

	async fn change(&self, change: Change) -> Result<(), JournalError> {
		let (told, wait) = oneshot::channel();
		self.changes
			.send((change, told))
			.map_err(|_| JournalError::Closed)?;
		wait.await.map_err(|_| JournalError::Closed)?
	}

	/// Writes down requests that are about to be made, and the idempotency key that leads to them.
	pub(crate) async fn begin(
		&self,
		jobs: Vec<(u64, Record)>,
		keyed: Option<(String, Keyed)>,
		now: u64,
	) -> Result<(), JournalError> {
		self.change(Change::Open { jobs, keyed, now }).await
	}

	/// Writes down what has changed of a request.
	pub(crate) async fn put(&self, job: u64, record: Record) -> Result<(), JournalError> {
		self.change(Change::Put(job, Box::new(record))).await
	}

	/// Writes down how a request ended. Only one that an idempotency key leads to is kept.
	pub(crate) async fn end(&self, job: u64, record: Record) -> Result<(), JournalError> {
		self.change(Change::End(job, Box::new(record))).await
	}

	/// Forgets a request that was never sent.
	pub(crate) async fn forget(&self, job: u64) -> Result<(), JournalError> {
		self.change(Change::Drop(job)).await
	}

	fn read<T: DeserializeOwned>(
		&self,
		get: impl FnOnce(&redb::ReadTransaction) -> Result<Option<Vec<u8>>, redb::Error>,
	) -> Result<Option<T>, JournalError> {
		let wrong = |e: String| JournalError::Database(self.path.display().to_string(), e);
		let transaction = self
			.database
			.begin_read()
			.map_err(|e| wrong(e.to_string()))?;
		let bytes = get(&transaction).map_err(|e| wrong(e.to_string()))?;
		bytes
			.map(|b| serde_json::from_slice(&b).map_err(|e| wrong(e.to_string())))
			.transpose()
	}

	/// Returns a request.
	pub(crate) fn job(&self, job: u64) -> Result<Option<Record>, JournalError> {
		self.read(|t| Ok(t.open_table(JOBS)?.get(job)?.map(|v| v.value().to_vec())))
	}

	/// Returns what an idempotency key stands for.
	pub(crate) fn keyed(&self, key: &str) -> Result<Option<Keyed>, JournalError> {
		self.read(|t| Ok(t.open_table(KEYED)?.get(key)?.map(|v| v.value().to_vec())))
	}
}

struct Writer {
	database: Arc<Database>,
	/// Most idempotency keys.
	keys: usize,
	/// Idempotency keys that there are.
	keyed: usize,
	/// When what is old was last removed.
	pruned: u64,
}

fn bytes(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
	serde_json::to_vec(value).map_err(|e| redb::Error::Io(std::io::Error::other(e)))
}

fn value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
	serde_json::from_slice(bytes).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

impl Writer {
	fn run(mut self, inbox: &Receiver<Message>, name: &str) {
		while let Ok(first) = inbox.recv() {
			let batch: Vec<Message> = std::iter::once(first).chain(inbox.try_iter()).collect();
			let (changes, told): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
			let results = match self.write(changes) {
				Ok(results) => results,
				Err(e) => {
					let e = JournalError::Database(name.into(), e.to_string());
					told.iter().map(|_| Err(e.clone())).collect()
				}
			};
			for (told, result) in told.into_iter().zip(results) {
				// Whoever asked may have gone.
				let _ = told.send(result);
			}
		}
	}

	/// Writes changes in one transaction. What one of them is refused for does not hold up the others.
	fn write(
		&mut self,
		changes: Vec<Change>,
	) -> Result<Vec<Result<(), JournalError>>, redb::Error> {
		let now = changes.iter().find_map(|change| match change {
			Change::Open { now, .. } => Some(*now),
			_ => None,
		});
		if let Some(now) = now.filter(|now| *now >= self.pruned + DAY / 24) {
			self.prune(now)?;
		}
		let mut keyed_now = self.keyed;
		let mut results = Vec::with_capacity(changes.len());
		let transaction = self.database.begin_write()?;
		{
			let mut table = transaction.open_table(JOBS)?;
			let mut keys = transaction.open_table(KEYED)?;
			let mut spent = transaction.open_table(SPENT)?;
			for change in changes {
				match change {
					Change::Open { jobs, keyed, .. } => {
						if let Some((key, keyed)) = keyed {
							let is_new = keys.get(key.as_str())?.is_none();
							if is_new && keyed_now >= self.keys {
								results.push(Err(JournalError::Full(self.keys)));
								continue;
							}
							keys.insert(key.as_str(), bytes(&keyed)?.as_slice())?;
							keyed_now += usize::from(is_new);
						}
						for (job, record) in jobs {
							table.insert(job, bytes(&record)?.as_slice())?;
						}
					}
					Change::Put(job, record) => {
						table.insert(job, bytes(&record)?.as_slice())?;
					}
					Change::End(job, record) => {
						let (day, paid) = (record.day(), record.paid());
						if paid > 0 {
							let key = record.key.as_str();
							let before = spent.get((day, key))?.map_or(0, |v| v.value());
							spent.insert((day, key), before.saturating_add(paid))?;
						}
						if record.keyed {
							table.insert(job, bytes(&record)?.as_slice())?;
						} else {
							table.remove(job)?;
						}
					}
					Change::Drop(job) => {
						table.remove(job)?;
					}
				}
				results.push(Ok(()));
			}
		}
		transaction.commit()?;
		self.keyed = keyed_now;
		Ok(results)
	}

	/// Removes what is older than a day, and makes the tables.
	fn prune(&mut self, now: u64) -> Result<(), redb::Error> {
		let transaction = self.database.begin_write()?;
		{
			let mut table = transaction.open_table(JOBS)?;
			let mut keys = transaction.open_table(KEYED)?;
			let mut spent = transaction.open_table(SPENT)?;
			let is_old = |created: u64| created + DAY <= now;
			let mut unreadable = false;
			keys.retain(|_, v| match value::<Keyed>(v) {
				Ok(keyed) => !is_old(keyed.created),
				Err(_) => {
					unreadable = true;
					true
				}
			})?;
			table.retain(|_, v| match value::<Record>(v) {
				Ok(record) => record.end.is_none() || !is_old(record.created),
				Err(_) => {
					unreadable = true;
					true
				}
			})?;
			spent.retain(|(day, _), _| day + 1 >= now / DAY)?;
			if unreadable {
				return Err(redb::Error::Corrupted("a record cannot be read".into()));
			}
			self.keyed = keys.iter()?.count();
		}
		transaction.commit()?;
		self.pruned = now;
		Ok(())
	}

	fn held(&self) -> Result<Held, redb::Error> {
		let transaction = self.database.begin_read()?;
		let mut held = Held {
			jobs: Vec::new(),
			spent: Vec::new(),
		};
		for entry in transaction.open_table(JOBS)?.iter()? {
			let (job, record) = entry?;
			held.jobs.push((job.value(), value(record.value())?));
		}
		for entry in transaction.open_table(SPENT)?.iter()? {
			let (of, amount) = entry?;
			let (day, key) = of.value();
			held.spent.push((day, key.into(), amount.value()));
		}
		Ok(held)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::network::{Block, State};

	fn record(created: u64, keyed: bool) -> Record {
		Record {
			key: "a".into(),
			created,
			model: "m".into(),
			reserved: 10,
			input_units: 1,
			keyed,
			ticket: None,
			request: None,
			session: None,
			end: None,
		}
	}

	fn settled(mut record: Record, paid: Amount) -> Record {
		record.end = Some(End::Settled(Box::new(Step {
			request: 1,
			state: State::Final,
			block: Block {
				number: 1,
				hash: "0x".into(),
			},
			finalized: true,
			answer: None,
			executor: None,
			verifiers: vec![],
			jurors: vec![],
			seed: None,
			escrow: 10,
			paid,
			refunded: 10 - paid,
		})));
		record
	}

	fn keyed(created: u64, jobs: Vec<u64>) -> Option<(String, Keyed)> {
		let keyed = Keyed {
			body: "b".into(),
			created,
			jobs,
		};
		Some((format!("k{created}"), keyed))
	}

	#[tokio::test]
	async fn what_is_written_is_there_after_a_restart() {
		let folder = tempfile::tempdir().unwrap();
		let now = 20 * DAY;
		{
			let (journal, held) = Journal::open(folder.path(), 9, now).unwrap();
			assert!(held.jobs.is_empty() && held.spent.is_empty());
			let jobs = (1..=3).map(|n| (n, record(now, n == 1))).collect();
			journal.begin(jobs, keyed(now, vec![1]), now).await.unwrap();
			journal.end(1, settled(record(now, true), 4)).await.unwrap();
			journal
				.end(2, settled(record(now, false), 5))
				.await
				.unwrap();
		}
		// The thread that writes closes the file when it ends.
		let (journal, held) = loop {
			match Journal::open(folder.path(), 9, now) {
				Ok(opened) => break opened,
				Err(_) => tokio::task::yield_now().await,
			}
		};
		let jobs: Vec<_> = held
			.jobs
			.iter()
			.map(|(n, r)| (*n, r.end.is_some()))
			.collect();
		assert_eq!(jobs, [(1, true), (3, false)]);
		assert_eq!(held.spent, [(20, "a".into(), 9)]);
		let key = format!("k{now}");
		assert_eq!(journal.keyed(&key).unwrap().unwrap().jobs, [1]);
		assert_eq!(journal.job(2).unwrap(), None);
		assert_eq!(journal.job(1).unwrap().unwrap().paid(), 4);
	}

	#[tokio::test]
	async fn it_is_bounded_and_forgets_after_a_day() {
		let folder = tempfile::tempdir().unwrap();
		let (journal, _) = Journal::open(folder.path(), 1, DAY).unwrap();
		let begin = |now, job| {
			let journal = journal.clone();
			async move {
				let jobs = vec![(job, record(now, true))];
				journal.begin(jobs, keyed(now, vec![job]), now).await
			}
		};
		begin(DAY, 1).await.unwrap();
		journal.end(1, settled(record(DAY, true), 4)).await.unwrap();
		assert_eq!(begin(DAY + 1, 2).await, Err(JournalError::Full(1)));
		assert_eq!(journal.job(2).unwrap(), None);
		begin(2 * DAY, 3).await.unwrap();
		assert_eq!(journal.keyed(&format!("k{DAY}")).unwrap(), None);
		assert_eq!(journal.job(1).unwrap(), None);
		// What is open stays, however old it is.
		journal.forget(9).await.unwrap();
		begin(9 * DAY, 4).await.unwrap();
		assert!(journal.job(3).unwrap().is_some());
	}

	#[tokio::test]
	async fn a_folder_has_one_gateway() {
		let folder = tempfile::tempdir().unwrap();
		let _first = Journal::open(folder.path(), 1, 0).unwrap();
		assert!(Journal::open(folder.path(), 1, 0).is_err());
	}
}
