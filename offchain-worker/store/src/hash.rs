//! Hashes of files, in chunks.

use std::{
	fs, io,
	os::unix::fs::FileExt,
	path::Path,
	sync::{
		atomic::{AtomicUsize, Ordering},
		mpsc, Arc, Mutex,
	},
	thread,
};

use consilience_primitives::manifest;
use fastcdc::v2020::StreamCDC;
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

/// Most threads that hash one file; a disk is seldom faster.
const THREADS: usize = 4;

/// Mean length of the chunks in which files are cut, in bytes: `docs/adr/0024-chunks-by-content.md`.
const MEAN: u32 = 1 << 18;

/// Bytes that wait to be hashed, or their hashes to be looked at, in chunks.
const WAITING: usize = 8;

fn threads() -> usize {
	let cores = thread::available_parallelism().map_or(1, usize::from);
	cores.min(THREADS)
}

/// Hashes of these chunks of a file, several at a time. `see` is told of each, in any order: its place, and hash. A file that ends too
/// soon is an error.
pub(crate) fn hashes(
	path: &Path,
	file: &manifest::File,
	mut see: impl FnMut(usize, H256),
) -> io::Result<()> {
	let opened = fs::File::open(path)?;
	let chunks: Vec<_> = file.offsets().collect();
	let next = AtomicUsize::new(0);
	thread::scope(|scope| {
		let (found, hashes) = mpsc::sync_channel(WAITING);
		for _ in 0..threads().min(chunks.len()) {
			let (found, opened, chunks, next) = (found.clone(), &opened, &chunks, &next);
			scope.spawn(move || {
				let mut buffer = vec![0u8; manifest::MAX_CHUNK as usize];
				loop {
					let index = next.fetch_add(1, Ordering::Relaxed);
					let Some((offset, chunk)) = chunks.get(index) else {
						return;
					};
					let bytes = &mut buffer[..chunk.length as usize];
					let hash = opened
						.read_exact_at(bytes, *offset)
						.map(|()| H256(blake2_256(bytes)));
					// Nobody listens any more where another chunk could not be read.
					if found.send((index, hash)).is_err() {
						return;
					}
				}
			});
		}
		drop(found);
		for (index, hash) in hashes {
			see(index, hash?);
		}
		Ok(())
	})
}

/// Cuts a file into chunks by its content (FastCDC, Xia et al. 2020: <https://ieeexplore.ieee.org/document/9055082>), so that what is
/// the same in two files is the same chunk wherever it stands. `seen` is told of the bytes read.
pub fn hash_file(path: &Path, name: &str, mut seen: impl FnMut(u64)) -> io::Result<manifest::File> {
	let file = fs::File::open(path)?;
	let cut = StreamCDC::new(file, manifest::MIN_CHUNK, MEAN, manifest::MAX_CHUNK);
	let mut chunks: Vec<(usize, manifest::Chunk)> = thread::scope(|scope| {
		let (hand, taken) = mpsc::sync_channel::<(usize, Vec<u8>)>(WAITING);
		let taken = Arc::new(Mutex::new(taken));
		let hasher = || {
			let taken = taken.clone();
			scope.spawn(move || {
				let mut hashed = Vec::new();
				loop {
					let next = taken.lock().unwrap_or_else(|e| e.into_inner()).recv();
					let Ok((index, bytes)) = next else {
						return hashed;
					};
					let chunk = manifest::Chunk {
						length: u32::try_from(bytes.len()).expect("cut to MAX_CHUNK; qed"),
						hash: H256(blake2_256(&bytes)),
					};
					hashed.push((index, chunk));
				}
			})
		};
		let hashers: Vec<_> = (0..threads()).map(|_| hasher()).collect();
		// The hashers hold it, so that they end by themselves and this end hears of it.
		drop(taken);
		let mut cut_whole = Ok(());
		for (index, chunk) in cut.enumerate() {
			match chunk {
				Ok(chunk) => {
					seen(chunk.data.len() as u64);
					if hand.send((index, chunk.data)).is_err() {
						break;
					}
				}
				Err(error) => {
					cut_whole = Err(io::Error::from(error));
					break;
				}
			}
		}
		drop(hand);
		let mut chunks = Vec::new();
		for hasher in hashers {
			match hasher.join() {
				Ok(hashed) => chunks.extend(hashed),
				Err(panic) => std::panic::resume_unwind(panic),
			}
		}
		cut_whole.map(|()| chunks)
	})?;
	chunks.sort_by_key(|(index, _)| *index);
	let chunks: Vec<_> = chunks.into_iter().map(|(_, chunk)| chunk).collect();
	Ok(manifest::File {
		path: name.into(),
		size: chunks.iter().map(|c| u64::from(c.length)).sum(),
		chunks,
	})
}

/// Why a file is not what the manifest says.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
	/// It is something else, or not there.
	#[error("{0}")]
	Wrong(String),
	/// It cannot be read at present, which says nothing about it.
	#[error(transparent)]
	Io(io::Error),
}

impl From<io::Error> for FileError {
	fn from(error: io::Error) -> Self {
		match error.kind() {
			io::ErrorKind::NotFound => Self::Wrong("the file is missing".into()),
			io::ErrorKind::UnexpectedEof => Self::Wrong("the file ends too soon".into()),
			_ => Self::Io(error),
		}
	}
}

/// Whether a file is what the manifest says; the error names the first thing that is not.
pub fn verify_file(
	path: &Path,
	file: &manifest::File,
	mut seen: impl FnMut(u64),
) -> Result<(), FileError> {
	let size = fs::metadata(path)?.len();
	if size != file.size {
		return Err(FileError::Wrong(format!(
			"is {size} bytes long, the manifest says {}",
			file.size
		)));
	}
	let mut wrong: Option<usize> = None;
	hashes(path, file, |index, hash| {
		let chunk = file.chunks[index];
		if chunk.hash != hash {
			wrong = Some(wrong.map_or(index, |first| first.min(index)));
		}
		seen(chunk.length.into());
	})?;
	let Some(wrong) = wrong else {
		return Ok(());
	};
	let at = file.offsets().nth(wrong).map_or(0, |(offset, _)| offset);
	Err(FileError::Wrong(format!(
		"chunk {wrong} (bytes from {at}) has another hash than the manifest says: the file is damaged or another version"
	)))
}
