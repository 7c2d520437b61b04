//! What the worker has computed and may have said, on disk.
//!
//! Outputs and evidence are written here before anything is said about them, with the salts of their commitments: whatever
//! instruction a kill hits, what was committed can still be revealed, and nothing is said in two ways. An entry is named by
//! what it answers (the seed of an assignment, the challenge of a round), so that neither forks nor the rounds of a request meet:
//! a juror who was in the disputed round measures again, and commits anew.
//!
//! A disk that fails for a while, or is full, must not cost more than that while: after an error the database takes no more work
//! until it is opened again. That is tried with a growing pause in between, and never makes a file anew that was there before.

use std::{
	path::Path,
	sync::{Mutex, MutexGuard},
	time::{Duration, Instant},
};

use codec::{Decode, Encode};
use consilience_primitives::{
	evidence::{Evidence, Salt},
	request::Output,
	RequestId,
};
use polkadot_sdk::sp_core::H256;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{chain::BlockNumber, metrics::Metrics, LOG_TARGET};

/// The number goes up whenever an entry's encoding changes: those of another encoding are not looked at.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries-2");

/// The pause after a first failure, and the longest one. A block takes six seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Kind {
	/// An executor's answer.
	Output,
	/// A member's evidence.
	Evidence,
}

/// Name of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Key {
	/// The request.
	pub request: RequestId,
	/// What was computed.
	pub kind: Kind,
	/// Seed of the assignment for an output, of the challenge for evidence.
	pub seed: H256,
}

/// What was computed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Value {
	/// An answer.
	Output(Output),
	/// A measurement.
	Evidence(Evidence),
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
	/// What was computed.
	pub value: Value,
	/// Salt of the commitment to it.
	pub salt: Salt,
	/// Best block when it was written.
	pub at: BlockNumber,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
	/// The file cannot be made or read.
	#[error(
		"the journal {path}: {why}. It keeps this validator from contradicting itself: mend the disk, or remove the file \
		 when no request that this validator has duties in is open"
	)]
	Open {
		/// The file.
		path: String,
		/// What is wrong.
		why: String,
	},
	/// Reading or writing failed.
	#[error("the journal: {0}")]
	Database(#[from] Box<redb::Error>),
	/// It failed, and is not tried again yet.
	#[error("the journal: {0}; it is tried again soon")]
	Paused(String),
	/// An entry does not decode.
	#[error("an entry of the journal is broken: {0}")]
	Broken(codec::Error),
}

impl JournalError {
	fn database(e: impl Into<redb::Error>) -> Self {
		Self::Database(Box::new(e.into()))
	}

	/// Whether it says what the log has said already.
	pub(crate) fn is_known(&self) -> bool {
		matches!(self, Self::Database(_) | Self::Paused(_))
	}
}

/// Opens the database; told whether it may be begun.
type Open = Box<dyn Fn(bool) -> Result<Database, DatabaseError> + Send + Sync>;

/// The file.
pub struct Journal {
	open: Open,
	now: Box<dyn Fn() -> Instant + Send + Sync>,
	metrics: Metrics,
	state: Mutex<State>,
}

struct State {
	/// None after an error.
	database: Option<Database>,
	/// Failures since something was last written.
	failures: u32,
	/// Why it failed last, and when it is tried again.
	failed: Option<(String, Instant)>,
}

impl Journal {
	/// Opens the journal, or begins one.
	pub fn open(path: &Path, metrics: Metrics) -> Result<Self, JournalError> {
		let error = |e: &dyn std::fmt::Display| JournalError::Open {
			path: path.display().to_string(),
			why: e.to_string(),
		};
		if let Some(folder) = path.parent() {
			std::fs::create_dir_all(folder).map_err(|e| error(&e))?;
		}
		let file = path.to_owned();
		let open = move |begin| {
			if begin {
				Database::create(&file)
			} else {
				Database::open(&file)
			}
		};
		Self::with(Box::new(open), Box::new(Instant::now), metrics).map_err(|e| match e {
			JournalError::Database(e) => error(&e),
			other => other,
		})
	}

	/// A journal in what `open` opens, by this clock.
	pub(crate) fn with(
		open: Open,
		now: Box<dyn Fn() -> Instant + Send + Sync>,
		metrics: Metrics,
	) -> Result<Self, JournalError> {
		let database = open(true).map_err(JournalError::database)?;
		// Reading a table that was never written is an error: write it.
		let transaction = database.begin_write().map_err(JournalError::database)?;
		transaction
			.open_table(ENTRIES)
			.map_err(JournalError::database)?;
		transaction.commit().map_err(JournalError::database)?;
		metrics.journal_open(true);
		Ok(Self {
			open,
			now,
			metrics,
			state: Mutex::new(State {
				database: Some(database),
				failures: 0,
				failed: None,
			}),
		})
	}

	/// Has work done on the database, which is opened again if need be and due. Where the work fails it is closed.
	fn on_database<T>(
		&self,
		work: impl FnOnce(&Database) -> Result<T, JournalError>,
	) -> Result<T, JournalError> {
		let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
		if state.database.is_none() {
			if let Some((why, at)) = &state.failed {
				if (self.now)() < *at {
					return Err(JournalError::Paused(why.clone()));
				}
			}
			match (self.open)(false) {
				Ok(database) => {
					tracing::info!(target: LOG_TARGET, "the journal is open again");
					self.metrics.journal_open(true);
					state.database = Some(database);
				}
				Err(e) => return Err(self.fail(&mut state, JournalError::database(e))),
			}
		}
		let Some(database) = &state.database else {
			return Err(JournalError::Paused("it is closed".into()));
		};
		match work(database) {
			Err(e @ JournalError::Database(_)) => Err(self.fail(&mut state, e)),
			result => result,
		}
	}

	/// Closes the database for a while.
	fn fail(&self, state: &mut MutexGuard<'_, State>, error: JournalError) -> JournalError {
		state.database = None;
		let pause = PAUSE.0 * 2u32.saturating_pow(state.failures.min(16));
		let pause = pause.min(PAUSE.1);
		state.failures += 1;
		state.failed = Some((error.to_string(), (self.now)() + pause));
		self.metrics.journal_failure();
		self.metrics.journal_open(false);
		tracing::error!(
			target: LOG_TARGET,
			"{error}. It is opened again in {} ms; nothing is said meanwhile that is not on disk",
			pause.as_millis()
		);
		error
	}

	/// The entry of this name.
	pub fn get(&self, key: &Key) -> Result<Option<Entry>, JournalError> {
		self.on_database(|database| get(database, key))
	}

	/// Writes what was computed, with a new salt, and returns when it is on disk. What stands there already stays: it may have
	/// been said.
	pub fn keep(&self, key: &Key, value: Value, at: BlockNumber) -> Result<Entry, JournalError> {
		let entry = self.on_database(|database| {
			if let Some(entry) = get(database, key)? {
				return Ok(entry);
			}
			let mut salt = Salt::default();
			salt.copy_from_slice(&H256::random().as_bytes()[..16]);
			let entry = Entry { value, salt, at };
			let transaction = database.begin_write().map_err(JournalError::database)?;
			{
				let mut table = transaction
					.open_table(ENTRIES)
					.map_err(JournalError::database)?;
				table
					.insert(key.encode().as_slice(), entry.encode().as_slice())
					.map_err(JournalError::database)?;
			}
			transaction.commit().map_err(JournalError::database)?;
			Ok(entry)
		})?;
		// A full disk is still read from: only what was written ends a row of failures.
		self.state
			.lock()
			.unwrap_or_else(|e| e.into_inner())
			.failures = 0;
		Ok(entry)
	}

	/// Forgets entries that were written before block `finalized` about requests that are not open. `open` says which are.
	///
	/// An entry that is as new as the last finalised block may be about a request that the finalised chain is yet to see.
	pub fn prune<E>(
		&self,
		finalized: BlockNumber,
		open: impl FnMut(RequestId) -> Result<bool, E>,
	) -> Result<Result<usize, E>, JournalError> {
		self.on_database(|database| prune(database, finalized, open))
	}
}

fn get(database: &Database, key: &Key) -> Result<Option<Entry>, JournalError> {
	let transaction = database.begin_read().map_err(JournalError::database)?;
	let table = transaction
		.open_table(ENTRIES)
		.map_err(JournalError::database)?;
	let found = table
		.get(key.encode().as_slice())
		.map_err(JournalError::database)?;
	found
		.map(|bytes| Entry::decode(&mut bytes.value()).map_err(JournalError::Broken))
		.transpose()
}

fn prune<E>(
	database: &Database,
	finalized: BlockNumber,
	mut open: impl FnMut(RequestId) -> Result<bool, E>,
) -> Result<Result<usize, E>, JournalError> {
	let mut gone = Vec::new();
	{
		let transaction = database.begin_read().map_err(JournalError::database)?;
		let table = transaction
			.open_table(ENTRIES)
			.map_err(JournalError::database)?;
		for item in table.iter().map_err(JournalError::database)? {
			let (key, entry) = item.map_err(JournalError::database)?;
			let entry = Entry::decode(&mut entry.value()).map_err(JournalError::Broken)?;
			let bytes = key.value().to_vec();
			let key = Key::decode(&mut &bytes[..]).map_err(JournalError::Broken)?;
			if entry.at >= finalized {
				continue;
			}
			match open(key.request) {
				Ok(true) => (),
				Ok(false) => gone.push(bytes),
				Err(e) => return Ok(Err(e)),
			}
		}
	}
	if !gone.is_empty() {
		let transaction = database.begin_write().map_err(JournalError::database)?;
		{
			let mut table = transaction
				.open_table(ENTRIES)
				.map_err(JournalError::database)?;
			for key in &gone {
				table
					.remove(key.as_slice())
					.map_err(JournalError::database)?;
			}
		}
		transaction.commit().map_err(JournalError::database)?;
	}
	Ok(Ok(gone.len()))
}

/// A disk that can fail, for tests.
#[cfg(test)]
pub(crate) mod failing {
	use std::sync::{
		atomic::{AtomicBool, AtomicUsize, Ordering},
		Arc,
	};

	use redb::{backends::FileBackend, StorageBackend};

	use super::*;

	/// Whether it fails, how often it was tried, and what time it is.
	#[derive(Clone, Debug)]
	pub(crate) struct Disk {
		pub(crate) broken: Arc<AtomicBool>,
		pub(crate) openings: Arc<AtomicUsize>,
		now: Arc<Mutex<Instant>>,
	}

	impl Disk {
		pub(crate) fn new() -> Self {
			Self {
				broken: Arc::default(),
				openings: Arc::default(),
				now: Arc::new(Mutex::new(Instant::now())),
			}
		}

		pub(crate) fn set_broken(&self, broken: bool) {
			self.broken.store(broken, Ordering::SeqCst);
		}

		pub(crate) fn openings(&self) -> usize {
			self.openings.load(Ordering::SeqCst)
		}

		pub(crate) fn pass(&self, time: Duration) {
			*self.now.lock().unwrap() += time;
		}

		/// A journal on it, in this file.
		pub(crate) fn journal(&self, path: &Path, metrics: Metrics) -> Journal {
			let (disk, path) = (self.clone(), path.to_owned());
			let open = move |_| {
				disk.openings.fetch_add(1, Ordering::SeqCst);
				let file = std::fs::OpenOptions::new()
					.read(true)
					.write(true)
					.create(true)
					.truncate(false)
					.open(&path)
					.map_err(redb::StorageError::Io)?;
				redb::Builder::new().create_with_backend(Failing {
					file: FileBackend::new(file)?,
					disk: disk.clone(),
				})
			};
			let now = self.now.clone();
			let now = move || *now.lock().unwrap();
			Journal::with(Box::new(open), Box::new(now), metrics).unwrap()
		}
	}

	#[derive(Debug)]
	struct Failing {
		file: FileBackend,
		disk: Disk,
	}

	impl Failing {
		fn works(&self) -> Result<(), std::io::Error> {
			if self.disk.broken.load(Ordering::SeqCst) {
				return Err(std::io::Error::other("the disk is gone"));
			}
			Ok(())
		}
	}

	type Done<T = ()> = Result<T, std::io::Error>;

	impl StorageBackend for Failing {
		fn len(&self) -> Done<u64> {
			self.works()?;
			self.file.len()
		}

		fn read(&self, offset: u64, out: &mut [u8]) -> Done {
			self.works()?;
			self.file.read(offset, out)
		}

		fn set_len(&self, len: u64) -> Done {
			self.works()?;
			self.file.set_len(len)
		}

		fn sync_data(&self) -> Done {
			self.works()?;
			self.file.sync_data()
		}

		fn write(&self, offset: u64, data: &[u8]) -> Done {
			self.works()?;
			self.file.write(offset, data)
		}

		fn close(&self) -> Done {
			self.file.close()
		}
	}
}

#[cfg(test)]
mod tests {
	use super::{failing::Disk, *};
	use consilience_primitives::evidence::{Fingerprint, Verdict};

	fn evidence(n: u8) -> Value {
		Value::Evidence(Evidence {
			fingerprint: Fingerprint::Digest([n; 16]),
			verdict: Verdict::default(),
			prior: None,
		})
	}

	fn key(request: RequestId, seed: u8) -> Key {
		Key {
			request,
			kind: Kind::Evidence,
			seed: H256::repeat_byte(seed),
		}
	}

	#[test]
	fn what_was_kept_first_stays_and_survives_reopening() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("inference/journal.redb");
		let first = Journal::open(&path, Metrics::default())
			.unwrap()
			.keep(&key(1, 1), evidence(1), 10)
			.unwrap();
		let journal = Journal::open(&path, Metrics::default()).unwrap();
		assert_eq!(journal.keep(&key(1, 1), evidence(2), 11).unwrap(), first);
		assert_eq!(journal.get(&key(1, 1)).unwrap(), Some(first.clone()));
		assert_eq!(
			journal.get(&key(1, 2)).unwrap(),
			None,
			"another challenge, another entry"
		);
		assert_ne!(
			journal.keep(&key(2, 1), evidence(1), 11).unwrap().salt,
			first.salt
		);
	}

	#[test]
	fn only_old_entries_of_closed_requests_are_pruned() {
		let folder = tempfile::tempdir().unwrap();
		let journal =
			Journal::open(&folder.path().join("journal.redb"), Metrics::default()).unwrap();
		for request in 1..=3 {
			journal
				.keep(&key(request, 1), evidence(1), 10 * request as u32)
				.unwrap();
		}
		let pruned = journal
			.prune(30, |request| Ok::<_, ()>(request == 2))
			.unwrap()
			.unwrap();
		assert_eq!(pruned, 1);
		assert_eq!(journal.get(&key(1, 1)).unwrap(), None);
		assert!(journal.get(&key(2, 1)).unwrap().is_some());
		assert!(journal.get(&key(3, 1)).unwrap().is_some());
	}

	#[test]
	fn after_an_error_it_is_opened_again_with_growing_pauses() {
		let folder = tempfile::tempdir().unwrap();
		let (disk, path) = (Disk::new(), folder.path().join("journal.redb"));
		let registry = polkadot_sdk::substrate_prometheus_endpoint::Registry::new();
		let metrics = Metrics::register(Some(&registry)).unwrap();
		let journal = disk.journal(&path, metrics.clone());
		let first = journal.keep(&key(1, 1), evidence(1), 10).unwrap();
		disk.set_broken(true);
		let error = journal.keep(&key(2, 1), evidence(2), 10).unwrap_err();
		assert!(matches!(error, JournalError::Database(_)), "{error:?}");
		// Whoever asks at once and again and again gets no further than a clock.
		for _ in 0..1_000 {
			let error = journal.get(&key(1, 1)).unwrap_err();
			assert!(
				matches!(&error, JournalError::Paused(why) if why.contains("disk is gone")),
				"{error:?}"
			);
		}
		assert_eq!((disk.openings(), metrics.journal_failures()), (1, 1));
		// A minute of asking every tenth of a second.
		for _ in 0..600 {
			disk.pass(Duration::from_millis(100));
			journal.keep(&key(2, 1), evidence(2), 10).unwrap_err();
		}
		let tries = disk.openings() - 1;
		assert!((8..=14).contains(&tries), "{tries} in a minute");
		assert_eq!(metrics.journal_failures(), tries as u64 + 1);
		// It comes back with what it had, and takes what is new.
		disk.set_broken(false);
		disk.pass(PAUSE.1);
		assert_eq!(journal.get(&key(1, 1)).unwrap(), Some(first.clone()));
		journal.keep(&key(2, 1), evidence(3), 11).unwrap();
		assert_eq!(journal.keep(&key(1, 1), evidence(4), 11).unwrap(), first);
		// The next row of failures begins with the shortest pause.
		disk.set_broken(true);
		journal.keep(&key(3, 1), evidence(1), 11).unwrap_err();
		disk.set_broken(false);
		disk.pass(PAUSE.0);
		journal.keep(&key(3, 1), evidence(1), 11).unwrap();
	}

	#[test]
	fn a_file_that_is_gone_is_not_begun_again() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("journal.redb");
		let journal = Journal::open(&path, Metrics::default()).unwrap();
		journal.keep(&key(1, 1), evidence(1), 10).unwrap();
		std::fs::remove_file(&path).unwrap();
		{
			let mut state = journal.state.lock().unwrap();
			journal.fail(
				&mut state,
				JournalError::database(redb::StorageError::PreviousIo),
			);
			state.failed = None;
		}
		let error = journal.get(&key(1, 1)).unwrap_err();
		assert!(matches!(error, JournalError::Database(_)), "{error:?}");
		assert!(
			!path.exists(),
			"it would say in another way what it has said"
		);
	}
}
