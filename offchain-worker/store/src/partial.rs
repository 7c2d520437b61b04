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
	collections::{HashMap, HashSet},
	fs::{self, OpenOptions, TryLockError},
	io,
	os::unix::fs::{FileExt, MetadataExt},
	path::{Path, PathBuf},
};

use consilience_primitives::{
	manifest::{Chunk, File, Manifest},
	ModelId,
};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::{
	hash::hashes,
	import::{write_json, write_manifest, MAX_BYTES, MAX_FILES},
	store::{Store, StoreError, ENCODED, MANIFEST, PRICE},
};

/// What names of folders begin with whose models are being fetched.
pub(crate) const FETCHING: &str = ".fetch-";
const FILES: &str = "files";
const LOCK: &str = "lock";
/// Most bytes of a path in a model, and of each of its parts.
const MAX_PATH: usize = 1_024;
const MAX_NAME: usize = 200;

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

	/// Path of a file of the manifest in which it stands, and its offset there.
	pub fn place<'m>(&self, manifest: &'m Manifest) -> (&'m str, u64) {
		let (file, offset) = self.places[0];
		(&manifest.files[file].path, offset)
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
	store: Store,
	manifest: Manifest,
	id: ModelId,
	folder: PathBuf,
	pieces: Vec<Piece>,
	_lock: Lock,
}

/// A partial model's lock: nobody else fetches it, or removes it, while it is held.
struct Lock {
	_file: fs::File,
}

/// Why there is no lock.
enum NoLock {
	Held,
	Failed(StoreError),
}

impl Lock {
	fn of(folder: &Path) -> Result<Self, NoLock> {
		let path = folder.join(LOCK);
		let failed = |e| NoLock::Failed(StoreError::io(&path)(e));
		loop {
			let file = OpenOptions::new()
				.create(true)
				.truncate(false)
				.write(true)
				.open(&path)
				.map_err(failed)?;
			match file.try_lock() {
				Ok(()) => (),
				Err(TryLockError::WouldBlock) => return Err(NoLock::Held),
				Err(TryLockError::Error(e)) => return Err(failed(e)),
			}
			// Whoever held it before may have removed the folder, and somebody may have made another since.
			let held = file.metadata().map_err(failed)?.ino();
			match fs::metadata(&path) {
				Ok(now) if now.ino() == held => return Ok(Self { _file: file }),
				Ok(_) => (),
				Err(e) => return Err(failed(e)),
			}
		}
	}
}

impl Store {
	fn partial_folder(&self, id: ModelId) -> PathBuf {
		self.root().join(format!("{FETCHING}{}", hex::encode(id.0)))
	}

	/// Models of which there is a part, whoever fetches them.
	pub fn partials(&self) -> Result<HashSet<ModelId>, StoreError> {
		self.named(FETCHING)
	}

	/// The manifest of a model of which there is a part.
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
		check(&manifest).map_err(|why| StoreError::Damaged {
			path: PathBuf::from(MANIFEST),
			why,
		})?;
		fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
		let lock = match Lock::of(&folder) {
			Ok(lock) => lock,
			Err(NoLock::Held) => {
				return Err(StoreError::Io {
					path: folder,
					source: io::Error::new(
						io::ErrorKind::WouldBlock,
						"another process fetches this model",
					),
				})
			}
			Err(NoLock::Failed(error)) => return Err(error),
		};
		let files = folder.join(FILES);
		fs::create_dir_all(&files).map_err(StoreError::io(&files))?;
		if self.partial_manifest(id).is_none() {
			write_json(&folder.join(MANIFEST), &manifest)?;
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
			store: self.clone(),
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
		let model = match self.get(id) {
			Ok(model) => model,
			// Its manifest is damaged too: nothing says what is right.
			Err(StoreError::Damaged { .. }) => return self.remove(id),
			Err(error) => return Err(error),
		};
		// What is left of another fetch is of no use beside it.
		self.forget_partial(id)?;
		let folder = self.partial_folder(id);
		fs::create_dir_all(&folder).map_err(StoreError::io(&folder))?;
		write_json(&folder.join(MANIFEST), &model.manifest)?;
		let to = folder.join(FILES);
		fs::rename(&model.folder, &to).map_err(StoreError::io(&model.folder))?;
		let own = to.join(MANIFEST);
		fs::remove_file(&own).map_err(StoreError::io(own))
	}

	/// Removes what there is of a model that is to be fetched no longer. Fails with [`io::ErrorKind::WouldBlock`] while somebody works
	/// on it.
	pub fn forget_partial(&self, id: ModelId) -> Result<(), StoreError> {
		let folder = self.partial_folder(id);
		if !folder.is_dir() {
			return Ok(());
		}
		match Lock::of(&folder) {
			Ok(_lock) => self.discard(&folder).map(|_| ()),
			Err(NoLock::Held) => Err(StoreError::Io {
				path: folder,
				source: io::ErrorKind::WouldBlock.into(),
			}),
			Err(NoLock::Failed(error)) => Err(error),
		}
	}
}

/// Whether a manifest from elsewhere can become a folder.
fn check(manifest: &Manifest) -> Result<(), String> {
	manifest.validate().map_err(|e| e.to_string())?;
	let (files, bytes) = (manifest.files.len(), manifest.size());
	if files > MAX_FILES || bytes > MAX_BYTES {
		return Err(format!(
			"{files} files of {bytes} bytes; the most are {MAX_FILES} files and {MAX_BYTES} bytes"
		));
	}
	// The store's own files: they are no part of the model.
	let own =
		|path: &str| [MANIFEST, ENCODED, PRICE].contains(&path.split('/').next().unwrap_or(path));
	let long =
		|path: &str| path.len() > MAX_PATH || path.split('/').any(|part| part.len() > MAX_NAME);
	let mut lengths = HashMap::new();
	for (index, file) in manifest.files.iter().enumerate() {
		let path = file.path.as_str();
		if own(path) {
			return Err(format!(
				"it has a file {path:?}, whose name is the store's own"
			));
		}
		if long(path) {
			return Err(format!(
				"it has a file with a name of {} bytes, which is too long",
				path.len()
			));
		}
		// Whatever is below a path stands behind it in the order.
		let below = |other: &File| {
			other
				.path
				.strip_prefix(path)
				.is_some_and(|rest| rest.starts_with('/'))
		};
		if manifest.files[index + 1..].iter().any(below) {
			return Err(format!("{path:?} is a file and a folder"));
		}
		for chunk in &file.chunks {
			if *lengths.entry(chunk.hash).or_insert(chunk.length) != chunk.length {
				return Err(format!(
					"{path:?} has a hash with two lengths: {:?}",
					chunk.hash
				));
			}
		}
	}
	Ok(())
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
	let metadata = file.metadata()?;
	if metadata.nlink() > 1 {
		// Import links files where it can, and this one will be written to.
		let own = path.with_extension("own");
		fs::copy(path, &own)?;
		fs::rename(&own, path)?;
		return prepare(path, size);
	}
	if metadata.len() != size {
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
			sync(&self.path(index))?;
		}
		write_manifest(&files, &self.manifest)?;
		sync(&files)?;
		let target = self.store.folder(self.id);
		// It may have been imported meanwhile. Something else of its name is no model.
		if target.exists() && self.store.get(self.id).is_err() {
			self.store.discard(&target)?;
		}
		match fs::rename(&files, &target) {
			Ok(()) => (),
			Err(_) if self.store.get(self.id).is_ok() => (),
			Err(e) => return Err(StoreError::io(&target)(e)),
		}
		sync(self.store.root())?;
		// The model is there; what is left is removed at the next start, if not now.
		let _ = self.store.discard(&self.folder);
		Ok(self.id)
	}
}

/// Has the disk keep a file or a folder.
fn sync(path: &Path) -> Result<(), StoreError> {
	let synced = fs::File::open(path).and_then(|f| f.sync_all());
	synced.map_err(StoreError::io(path))
}

/// So many bytes of a file.
pub fn read_at(path: &Path, offset: u64, length: u32) -> Result<Vec<u8>, StoreError> {
	let mut bytes = vec![0; length as usize];
	let read = fs::File::open(path).and_then(|f| f.read_exact_at(&mut bytes, offset));
	read.map_err(StoreError::io(path))?;
	Ok(bytes)
}
