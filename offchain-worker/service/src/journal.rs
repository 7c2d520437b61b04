//! What the worker has computed and may have said, on disk.
//!
//! Outputs and evidence are written here before anything is said about them, with the salts of their commitments: whatever
//! instruction a kill hits, what was committed can still be revealed, and nothing is said in two ways. An entry is named by
//! what it answers (the seed of an assignment, the challenge of a round), so that neither forks nor the rounds of a request meet:
//! a juror who was in the disputed round measures again, and commits anew.

use std::path::Path;

use codec::{Decode, Encode};
use consilience_primitives::{
	evidence::{Evidence, Salt},
	request::Output,
	RequestId,
};
use polkadot_sdk::sp_core::H256;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::chain::BlockNumber;

/// The number goes up whenever an entry's encoding changes: those of another encoding are not looked at.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries-2");

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
	/// An entry does not decode.
	#[error("an entry of the journal is broken: {0}")]
	Broken(codec::Error),
}

impl JournalError {
	fn database(e: impl Into<redb::Error>) -> Self {
		Self::Database(Box::new(e.into()))
	}
}

/// The file.
pub struct Journal {
	database: Database,
}

impl Journal {
	/// Opens the journal, or begins one.
	pub fn open(path: &Path) -> Result<Self, JournalError> {
		let error = |e: &dyn std::fmt::Display| JournalError::Open {
			path: path.display().to_string(),
			why: e.to_string(),
		};
		if let Some(folder) = path.parent() {
			std::fs::create_dir_all(folder).map_err(|e| error(&e))?;
		}
		let database = Database::create(path).map_err(|e| error(&e))?;
		// Reading a table that was never written is an error: write it.
		let transaction = database.begin_write().map_err(JournalError::database)?;
		transaction
			.open_table(ENTRIES)
			.map_err(JournalError::database)?;
		transaction.commit().map_err(JournalError::database)?;
		Ok(Self { database })
	}

	/// The entry of this name.
	pub fn get(&self, key: &Key) -> Result<Option<Entry>, JournalError> {
		let transaction = self.database.begin_read().map_err(JournalError::database)?;
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

	/// Writes what was computed, with a new salt, and returns when it is on disk. What stands there already stays: it may have
	/// been said.
	pub fn keep(&self, key: &Key, value: Value, at: BlockNumber) -> Result<Entry, JournalError> {
		if let Some(entry) = self.get(key)? {
			return Ok(entry);
		}
		let mut salt = Salt::default();
		salt.copy_from_slice(&H256::random().as_bytes()[..16]);
		let entry = Entry { value, salt, at };
		let transaction = self
			.database
			.begin_write()
			.map_err(JournalError::database)?;
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
	}

	/// Forgets entries that were written before block `finalized` about requests that are not open. `open` says which are.
	///
	/// An entry that is as new as the last finalised block may be about a request that the finalised chain is yet to see.
	pub fn prune<E>(
		&self,
		finalized: BlockNumber,
		mut open: impl FnMut(RequestId) -> Result<bool, E>,
	) -> Result<Result<usize, E>, JournalError> {
		let mut gone = Vec::new();
		{
			let transaction = self.database.begin_read().map_err(JournalError::database)?;
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
			let transaction = self
				.database
				.begin_write()
				.map_err(JournalError::database)?;
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
}

#[cfg(test)]
mod tests {
	use super::*;
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
		let first = Journal::open(&path)
			.unwrap()
			.keep(&key(1, 1), evidence(1), 10)
			.unwrap();
		let journal = Journal::open(&path).unwrap();
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
		let journal = Journal::open(&folder.path().join("journal.redb")).unwrap();
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
}
