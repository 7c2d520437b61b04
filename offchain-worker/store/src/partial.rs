//! A model that arrives piece by piece.
//!
//! ```text
//! <store>/.fetch-<model id>/manifest.json    written first, whole or not at all
//!                          /lock             held by the process that fetches
//!                          /files/…          at their full length, with holes where a piece is missing
//! ```
//!
//! A piece counts when its hash is right, and is looked at again after every start: there is no list of pieces that could say more
//! than the disk holds, whenever the process is killed.

use std::{
	collections::HashMap,
	fs::{self, OpenOptions, TryLockError},
	io,
	os::unix::fs::FileExt,
	path::{Path, PathBuf},
};

use consilience_primitives::{
	manifest::{Chunk, Manifest},
	ModelId,
};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::{
	hash::hashes,
	import::write_json,
	store::{Store, StoreError, MANIFEST, PRICE},
};

/// What names of folders begin with whose models are being fetched.
pub(crate) const FETCHING: &str = ".fetch-";
const FILES: &str = "files";
const LOCK: &str = "lock";
/// Most files of a model that is fetched.
const MAX_FILES: usize = 1_024;

/// Bytes that stand in one or more places of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
	/// Their length and hash.
	pub chunk: Chunk,
	/// Places: index of the manifest's file, and offset in it.
	pub places: Vec<(usize, u64)>,
}

impl Piece {
	/// A model's pieces, in the order in which they first stand in its manifest. Equal bytes are one piece.
	pub fn of(manifest: &Manifest) -> Vec<Self> {
		let (mut pieces, mut known) = (Vec::<Self>::new(), HashMap::new());
		for (index, file) in manifest.files.iter().enumerate() {
			for (offset, chunk) in file.offsets() {
				let place = *known.entry(*chunk).or_insert_with(|| {
					pieces.push(Self {
						chunk: *chunk,
						places: Vec::new(),
					});
					pieces.len() - 1
				});
				pieces[place].places.push((index, offset));
			}
		}
		pieces
	}
}

/// Why a piece was not kept.
#[derive(Debug, thiserror::Error)]
pub enum PieceError {
	/// Its bytes are not those that the manifest names.
	#[error("{length} bytes with the hash {found:?}, where {wanted:?} was wanted")]
	Wrong {
		/// How many bytes there were.
		length: usize,
		/// Their hash.
		found: H256,
		/// The hash that the manifest names.
		wanted: H256,
	},
	/// The disk.
	#[error(transparent)]
	Store(#[from] StoreError),
}

/// A model that is not whole yet. While there is one, no other process fetches the same model into this store.
pub struct Partial {
	manifest: Manifest,
	id: ModelId,
	folder: PathBuf,
	target: PathBuf,
	pieces: Vec<Piece>,
	/// Held as long as it is open.
	_lock: fs::File,
}

impl Store {
	fn partial_folder(&self, id: ModelId) -> PathBuf {
		self.root().join(format!("{FETCHING}{}", hex::encode(id.0)))
	}

	/// The manifest of a model whose fetching has begun.
	pub fn partial_manifest(&self, id: ModelId) -> Option<Manifest> {
		let bytes = fs::read(self.partial_folder(id).join(MANIFEST)).ok()?;
		let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
		(manifest.id() == id).then_some(manifest)
	}

	/// Begins to fetch a model, or goes on. The second value says which of its pieces are there already: those that are on disk are
	/// hashed, which takes long.
	pub fn partial(&self, manifest: Manifest) -> Result<(Partial, Vec<bool>), StoreError> {
		let id = manifest.id();
		let folder = self.partial_folder(id);
		let damaged = |why: String| StoreError::Damaged {
			path: folder.clone(),
			why,
		};
		check(&manifest).map_err(damaged)?;
		let files = folder.join(FILES);
		fs::create_dir_all(&files).map_err(StoreError::io(&files))?;
		let path = folder.join(LOCK);
		let lock = OpenOptions::new()
			.create(true)
			.truncate(false)
			.write(true)
			.open(&path)
			.map_err(StoreError::io(&path))?;
		match lock.try_lock() {
			Ok(()) => (),
			Err(TryLockError::WouldBlock) => {
				return Err(damaged("another process fetches this model".into()))
			}
			Err(TryLockError::Error(e)) => return Err(StoreError::io(&path)(e)),
		}
		if self.partial_manifest(id).is_none() {
			let scratch = folder.join("manifest.new");
			write_json(&scratch, &manifest)?;
			let path = folder.join(MANIFEST);
			fs::rename(&scratch, &path).map_err(StoreError::io(path))?;
		}
		let pieces = Piece::of(&manifest);
		let mut at = HashMap::new();
		for (index, piece) in pieces.iter().enumerate() {
			at.extend(piece.places.iter().map(|place| (*place, index)));
		}
		let mut right = vec![0; pieces.len()];
		for (index, file) in manifest.files.iter().enumerate() {
			let path = files.join(&file.path);
			prepare(&path, file.size).map_err(StoreError::io(&path))?;
			let offsets: Vec<u64> = file.offsets().map(|(offset, _)| offset).collect();
			let see = |chunk: usize, hash| {
				let piece = at[&(index, offsets[chunk])];
				right[piece] += usize::from(pieces[piece].chunk.hash == hash);
			};
			hashes(&path, file, see).map_err(StoreError::io(&path))?;
		}
		let whole = |(right, piece): (usize, &Piece)| right == piece.places.len();
		let have = right.into_iter().zip(&pieces).map(whole).collect();
		let partial = Partial {
			target: self.folder(id),
			manifest,
			id,
			folder,
			pieces,
			_lock: lock,
		};
		Ok((partial, have))
	}

	/// Makes a damaged model of the store one that is being fetched, so that what is wrong in it is fetched anew and nothing else.
	pub fn set_aside(&self, id: ModelId) -> Result<(), StoreError> {
		let from = self.folder(id);
		let Ok(model) = self.get(id) else {
			// Its manifest is damaged too: nothing says what is right.
			return self.remove(id);
		};
		let folder = self.partial_folder(id);
		fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
		write_json(&folder.join(MANIFEST), &model.manifest)?;
		let to = folder.join(FILES);
		fs::rename(&from, &to).map_err(StoreError::io(&from))?;
		for own in [MANIFEST, PRICE] {
			match fs::remove_file(to.join(own)) {
				Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(to)(e)),
				_ => (),
			}
		}
		Ok(())
	}

	/// Removes what there is of a model that is to be fetched no longer.
	pub fn forget_partial(&self, id: ModelId) -> Result<(), StoreError> {
		let folder = self.partial_folder(id);
		match fs::remove_dir_all(&folder) {
			Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io(folder)(e)),
			_ => Ok(()),
		}
	}
}

/// Whether a manifest from elsewhere can become a folder.
fn check(manifest: &Manifest) -> Result<(), String> {
	manifest.validate().map_err(|e| e.to_string())?;
	if manifest.files.len() > MAX_FILES {
		return Err(format!(
			"the manifest has {} files; the most are {MAX_FILES}",
			manifest.files.len()
		));
	}
	// The store's own files: they are no part of the model.
	let reserved = |path: &str| [MANIFEST, PRICE].contains(&path.split('/').next().unwrap_or(path));
	match manifest.files.iter().find(|f| reserved(&f.path)) {
		Some(file) => Err(format!(
			"the manifest has a file {:?}, whose name is the store's own",
			file.path
		)),
		None => Ok(()),
	}
}

/// Makes a file of this length; what is in it stays.
fn prepare(path: &Path, size: u64) -> io::Result<()> {
	if let Some(parent) = path.parent() {
		fs::create_dir_all(parent)?;
	}
	let file = OpenOptions::new()
		.create(true)
		.truncate(false)
		.write(true)
		.open(path)?;
	if file.metadata()?.len() != size {
		file.set_len(size)?;
	}
	Ok(())
}

impl Partial {
	/// The model's name on chain.
	pub fn id(&self) -> ModelId {
		self.id
	}

	/// What it is.
	pub fn manifest(&self) -> &Manifest {
		&self.manifest
	}

	/// Its pieces.
	pub fn pieces(&self) -> &[Piece] {
		&self.pieces
	}

	fn path(&self, file: usize) -> PathBuf {
		self.folder
			.join(FILES)
			.join(&self.manifest.files[file].path)
	}

	/// Keeps a piece, if its bytes are right.
	pub fn put(&self, piece: usize, bytes: &[u8]) -> Result<(), PieceError> {
		let Piece { chunk, places } = &self.pieces[piece];
		let found = H256(blake2_256(bytes));
		if found != chunk.hash || bytes.len() != chunk.length as usize {
			return Err(PieceError::Wrong {
				length: bytes.len(),
				found,
				wanted: chunk.hash,
			});
		}
		for (file, offset) in places {
			let path = self.path(*file);
			let written = OpenOptions::new()
				.write(true)
				.open(&path)
				.and_then(|f| f.write_all_at(bytes, *offset));
			written.map_err(StoreError::io(path))?;
		}
		Ok(())
	}

	/// A piece that was kept. What is on disk may be something else; whoever needs to know hashes it.
	pub fn read(&self, piece: usize) -> Result<Vec<u8>, StoreError> {
		let wanted = &self.pieces[piece];
		let (file, offset) = wanted.places[0];
		read_at(&self.path(file), offset, wanted.chunk.length)
	}

	/// Makes the model one of the store, when all of its pieces are there.
	pub fn finish(self) -> Result<ModelId, StoreError> {
		let files = self.folder.join(FILES);
		for index in 0..self.manifest.files.len() {
			let path = self.path(index);
			let synced = fs::File::open(&path).and_then(|f| f.sync_all());
			synced.map_err(StoreError::io(path))?;
		}
		write_json(&files.join(MANIFEST), &self.manifest)?;
		match fs::rename(&files, &self.target) {
			Ok(()) => (),
			// It was imported meanwhile.
			Err(_) if self.target.is_dir() => (),
			Err(e) => return Err(StoreError::io(&self.target)(e)),
		}
		// The model is there; what is left of the folder is tidied up by the next one that is begun.
		let _ = fs::remove_dir_all(&self.folder);
		Ok(self.id)
	}
}

/// So many bytes of a file.
pub fn read_at(path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, StoreError> {
	let mut bytes = vec![0; length as usize];
	let read = fs::File::open(path).and_then(|f| f.read_exact_at(&mut bytes, offset));
	read.map_err(StoreError::io(path))?;
	Ok(bytes)
}
