//! The lane key: a file of its owner's alone.

use std::{
	fs::{File, OpenOptions},
	io::{ErrorKind, Read, Write},
	os::unix::fs::{OpenOptionsExt, PermissionsExt},
	path::{Path, PathBuf},
};

use polkadot_sdk::sp_core::{sr25519, Pair, H256};

/// Why there is no lane key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
	/// The file cannot be read or made.
	#[error("the lane key {}: {}", .0.display(), .1)]
	Io(PathBuf, std::io::Error),
	/// It can be read by others.
	#[error("the lane key {} can be read by others than its owner: remove it, so that a new one is made", .0.display())]
	Readable(PathBuf),
	/// It is none.
	#[error("the lane key {} is damaged: remove it, so that a new one is made", .0.display())]
	Damaged(PathBuf),
}

/// Reads the key, or makes one.
pub(crate) fn load(path: &Path) -> Result<sr25519::Pair, KeyError> {
	let io = |e| KeyError::Io(path.to_owned(), e);
	match File::open(path) {
		Ok(mut file) => {
			if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
				return Err(KeyError::Readable(path.to_owned()));
			}
			let mut seed = Vec::new();
			file.read_to_end(&mut seed).map_err(io)?;
			sr25519::Pair::from_seed_slice(&seed).map_err(|_| KeyError::Damaged(path.to_owned()))
		}
		Err(e) if e.kind() == ErrorKind::NotFound => make(path).map_err(io),
		Err(e) => Err(io(e)),
	}
}

/// Makes a key. It has its name only when it is whole.
fn make(path: &Path) -> std::io::Result<sr25519::Pair> {
	let (pair, seed) = sr25519::Pair::generate();
	let temporary = path.with_extension(format!("{:x}", H256::random()));
	let mut file = OpenOptions::new()
		.write(true)
		.create_new(true)
		.mode(0o600)
		.open(&temporary)?;
	file.write_all(&seed)?;
	file.sync_all()?;
	std::fs::rename(&temporary, path)?;
	if let Some(folder) = path.parent() {
		File::open(folder)?.sync_all()?;
	}
	Ok(pair)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn it_is_made_once_and_read_by_its_owner_alone() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("lane.key");
		let first = load(&path).unwrap().public();
		assert_eq!(load(&path).unwrap().public(), first);
		let mode = std::fs::metadata(&path).unwrap().permissions().mode();
		assert_eq!(mode & 0o777, 0o600);
		assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
		std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
		assert!(matches!(load(&path), Err(KeyError::Readable(_))));
	}

	#[test]
	fn one_that_is_damaged_is_not_replaced_silently() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("lane.key");
		load(&path).unwrap();
		OpenOptions::new()
			.write(true)
			.open(&path)
			.unwrap()
			.set_len(31)
			.unwrap();
		assert!(matches!(load(&path), Err(KeyError::Damaged(_))));
	}
}
