//! Hashes of files, in chunks.

use std::{
	fs::File,
	io::{self, Read},
	path::Path,
};

use consilience_primitives::manifest;
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

fn chunks(path: &Path, mut see: impl FnMut(usize, H256, u64)) -> io::Result<u64> {
	let mut file = File::open(path)?;
	let mut buffer = vec![0u8; manifest::CHUNK as usize];
	let (mut index, mut size) = (0, 0u64);
	loop {
		let mut filled = 0;
		while filled < buffer.len() {
			match file.read(&mut buffer[filled..]) {
				Ok(0) => break,
				Ok(n) => filled += n,
				Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
				Err(e) => return Err(e),
			}
		}
		if filled == 0 {
			return Ok(size);
		}
		see(index, H256(blake2_256(&buffer[..filled])), filled as u64);
		index += 1;
		size += filled as u64;
		if filled < buffer.len() {
			return Ok(size);
		}
	}
}

/// Size and chunk hashes of a file. `seen` is told of the bytes read.
pub fn hash_file(path: &Path, name: &str, mut seen: impl FnMut(u64)) -> io::Result<manifest::File> {
	let mut hashes = Vec::new();
	let size = chunks(path, |_, hash, bytes| {
		hashes.push(hash);
		seen(bytes);
	})?;
	Ok(manifest::File {
		path: name.into(),
		size,
		chunks: hashes,
	})
}

/// Whether a file is what the manifest says; the error names the first thing that is not.
pub fn verify_file(
	path: &Path,
	file: &manifest::File,
	mut seen: impl FnMut(u64),
) -> Result<(), String> {
	let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
	if size != file.size {
		return Err(format!(
			"is {size} bytes long, the manifest says {}",
			file.size
		));
	}
	let mut wrong = None;
	chunks(path, |index, hash, bytes| {
		if wrong.is_none() && file.chunks.get(index) != Some(&hash) {
			wrong = Some(index);
		}
		seen(bytes);
	})
	.map_err(|e| e.to_string())?;
	match wrong {
		None => Ok(()),
		Some(index) => Err(format!(
			"chunk {index} (bytes from {}) has another hash than the manifest says: the file is damaged or another version",
			index as u64 * manifest::CHUNK
		)),
	}
}
