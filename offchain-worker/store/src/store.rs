//! The store's folder.

use std::{
	collections::HashSet,
	fs, io,
	path::{Path, PathBuf},
	time::Duration,
};

use consilience_primitives::{
	manifest::{Manifest, ManifestError, VERSION},
	model::Price,
	ModelId,
};

use crate::hash::{verify_file, FileError};

/// Name of the manifest in a model's folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Name of the manifest as it is hashed, SCALE-encoded: for whoever fetches the folder from a web server, and checks it first.
pub const ENCODED: &str = "manifest.scale";
/// Name of the file with the suggested price.
pub(crate) const PRICE: &str = "price.json";

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
	/// A file or folder could not be read or written.
	#[error("{path}: {source}")]
	Io {
		/// File or folder.
		path: PathBuf,
		/// The system's reason.
		source: io::Error,
	},
	/// A model's folder is not what it should be.
	#[error("{path}: {why}")]
	Damaged {
		/// File or folder.
		path: PathBuf,
		/// What is wrong.
		why: String,
	},
	/// The model is not in the store.
	#[error("model {0:?} is not in this store: import it with `consilience model import`")]
	Unknown(ModelId),
}

impl StoreError {
	pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
		let path = path.into();
		move |source| Self::Io { path, source }
	}
}

/// A model in the store.
#[derive(Clone, Debug)]
pub struct StoredModel {
	/// The model's name on chain.
	pub id: ModelId,
	/// What it is.
	pub manifest: Manifest,
	/// Where its files are.
	pub folder: PathBuf,
	/// Price that its author suggests.
	pub price: Option<Price<u128>>,
}

/// Reads a manifest. One of another version is told by its version, and not by what this one misses in it.
pub(crate) fn read_manifest(bytes: &[u8]) -> Result<Manifest, String> {
	#[derive(serde::Deserialize)]
	struct Versioned {
		version: u32,
	}
	match serde_json::from_slice::<Versioned>(bytes) {
		Ok(Versioned { version }) if version != VERSION => {
			Err(ManifestError::Version(version).to_string())
		}
		_ => serde_json::from_slice(bytes).map_err(|e| e.to_string()),
	}
}

/// What names of folders begin with whose models are not whole yet.
const UNFINISHED: &str = ".import-";
/// What names of folders begin with that are being removed.
const GONE: &str = ".gone-";
/// Age at which nobody works in such a folder any more; an import takes an hour at most.
const ABANDONED: Duration = Duration::from_secs(24 * 3_600);

/// Models on disk.
#[derive(Clone, Debug)]
pub struct Store {
	root: PathBuf,
}

impl Store {
	/// Opens the store in a folder, which is made if it is missing.
	pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
		let root = root.into();
		fs::create_dir_all(&root).map_err(StoreError::io(&root))?;
		let root = fs::canonicalize(&root).map_err(StoreError::io(&root))?;
		Ok(Self { root })
	}

	/// The store's folder.
	pub fn root(&self) -> &Path {
		&self.root
	}

	/// Whether a model is there; nothing of it is read.
	pub fn contains(&self, id: ModelId) -> bool {
		self.folder(id).join(MANIFEST).is_file()
	}

	/// A folder for a model that is not whole yet. Those of imports that were ended from outside, and are a day old, are removed.
	pub fn temporary(&self) -> Result<tempfile::TempDir, StoreError> {
		let io = StoreError::io(&self.root);
		for entry in fs::read_dir(&self.root).map_err(io)?.flatten() {
			let name = entry.file_name();
			let name = name.to_string_lossy();
			let is_import = name.starts_with(UNFINISHED) || name.starts_with(GONE);
			let age = entry.metadata().and_then(|m| m.modified()).ok();
			let age = age.and_then(|at| at.elapsed().ok()).unwrap_or_default();
			if is_import && age > ABANDONED {
				let _ = fs::remove_dir_all(entry.path());
			}
		}
		tempfile::Builder::new()
			.prefix(UNFINISHED)
			.tempdir_in(&self.root)
			.map_err(StoreError::io(&self.root))
	}

	/// Where a model's folder is or would be.
	pub fn folder(&self, id: ModelId) -> PathBuf {
		self.root.join(hex::encode(id.0))
	}

	/// A model; its manifest is checked against the id, its files are not read.
	pub fn get(&self, id: ModelId) -> Result<StoredModel, StoreError> {
		let folder = self.folder(id);
		if !folder.is_dir() {
			return Err(StoreError::Unknown(id));
		}
		let path = folder.join(MANIFEST);
		let damaged = |why: String| StoreError::Damaged {
			path: path.clone(),
			why,
		};
		let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
		let manifest = read_manifest(&bytes).map_err(damaged)?;
		if manifest.id() != id {
			return Err(damaged(format!(
				"the manifest is that of model {:?}",
				manifest.id()
			)));
		}
		manifest.validate().map_err(|e| damaged(e.to_string()))?;
		let price = fs::read(folder.join(PRICE))
			.ok()
			.and_then(|bytes| serde_json::from_slice(&bytes).ok());
		Ok(StoredModel {
			id,
			manifest,
			folder,
			price,
		})
	}

	/// Ids of what may be models, by the names of their folders.
	pub fn ids(&self) -> Result<HashSet<ModelId>, StoreError> {
		self.named("")
	}

	/// Models by the folders whose names are this and their id.
	pub(crate) fn named(&self, prefix: &str) -> Result<HashSet<ModelId>, StoreError> {
		let entries = fs::read_dir(&self.root).map_err(StoreError::io(&self.root))?;
		let id = |entry: fs::DirEntry| {
			let name = entry.file_name();
			let bytes = hex::decode(name.to_str()?.strip_prefix(prefix)?).ok()?;
			<[u8; 32]>::try_from(bytes).ok().map(ModelId::from)
		};
		Ok(entries.flatten().filter_map(id).collect())
	}

	/// All models, by name. Folders that are no models are left out.
	pub fn list(&self) -> Result<Vec<StoredModel>, StoreError> {
		let ids = self.ids()?.into_iter();
		let mut models: Vec<_> = ids.filter_map(|id| self.get(id).ok()).collect();
		models.sort_by(|a, b| (&a.manifest.name, a.id).cmp(&(&b.manifest.name, b.id)));
		Ok(models)
	}

	/// Checks every hash of a model's files. `seen` is told of the bytes read.
	pub fn verify(
		&self,
		id: ModelId,
		mut seen: impl FnMut(u64),
	) -> Result<StoredModel, StoreError> {
		let model = self.get(id)?;
		for file in &model.manifest.files {
			let path = model.folder.join(&file.path);
			verify_file(&path, file, &mut seen).map_err(|e| match e {
				FileError::Io(source) => StoreError::io(&path)(source),
				FileError::Wrong(why) => StoreError::Damaged {
					path: path.clone(),
					why,
				},
			})?;
		}
		Ok(model)
	}

	/// Removes a model.
	pub fn remove(&self, id: ModelId) -> Result<(), StoreError> {
		if self.discard(&self.folder(id))? {
			Ok(())
		} else {
			Err(StoreError::Unknown(id))
		}
	}

	/// Removes a folder of the store: at once it has another name, so that nobody takes a part of it for the whole. Whether it was
	/// there.
	pub(crate) fn discard(&self, folder: &Path) -> Result<bool, StoreError> {
		let gone = tempfile::Builder::new()
			.prefix(GONE)
			.tempdir_in(&self.root)
			.map_err(StoreError::io(&self.root))?;
		match fs::rename(folder, gone.path().join("was")) {
			Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
			Err(e) => Err(StoreError::io(folder)(e)),
			Ok(()) => {
				let path = gone.path().to_owned();
				gone.close().map_err(StoreError::io(path))?;
				Ok(true)
			}
		}
	}
}
