//! The model store as the worker's library, and the node's network as where it comes from.

use std::{
	collections::{HashMap, HashSet},
	os::unix::fs::MetadataExt,
	sync::{Arc, Mutex, MutexGuard},
};

use consilience_primitives::{model::ModelSpec, ModelId};
use consilience_store::{Store, StoreError};
use consilience_transfer::Transfers;

use crate::{
	runner::{Fetching, Library, LocalModel},
	LOG_TARGET,
};

/// The folder in which a model's files were checked, by its inode; held while they are.
type Checked = Arc<Mutex<Option<u64>>>;

/// A store, and which of its models this process has checked.
pub struct StoreLibrary {
	store: Store,
	transfers: Option<Transfers>,
	checked: Mutex<HashMap<ModelId, Checked>>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
	shared.lock().unwrap_or_else(|e| e.into_inner())
}

impl StoreLibrary {
	/// The models of a store, and what can be fetched into it.
	pub fn new(store: Store, transfers: Option<Transfers>) -> Self {
		Self {
			store,
			transfers,
			checked: Mutex::default(),
		}
	}

	fn checked(&self, model: ModelId) -> Checked {
		lock(&self.checked).entry(model).or_default().clone()
	}
}

impl Library for StoreLibrary {
	fn list(&self) -> Vec<ModelId> {
		match self.store.list() {
			Ok(models) => models.into_iter().map(|m| m.id).collect(),
			Err(e) => {
				tracing::warn!(target: LOG_TARGET, "the model store: {e}");
				Vec::new()
			}
		}
	}

	fn contains(&self, model: ModelId) -> bool {
		self.store.contains(model)
	}

	fn fetch(&self, model: ModelId, spec: &ModelSpec) -> bool {
		let Some(transfers) = &self.transfers else {
			return false;
		};
		let begun = transfers.fetch(model, spec);
		if let Err(error) = &begun {
			tracing::error!(target: LOG_TARGET, "{model:?}: {error}");
		}
		begun.is_ok()
	}

	fn forget(&self, model: ModelId) {
		if let Some(transfers) = &self.transfers {
			tokio::spawn(transfers.forget(model));
		}
	}

	fn fetching(&self, model: ModelId) -> Option<Fetching> {
		let progress = self.transfers.as_ref()?.progress(&model)?;
		Some(match progress.failure() {
			Some(why) => Fetching::Failed(why.into()),
			None => Fetching::Underway,
		})
	}

	fn damaged(&self) -> HashSet<ModelId> {
		let transfers = self.transfers.as_ref();
		transfers.map_or_else(HashSet::new, Transfers::damaged)
	}

	fn verified(&self, model: ModelId) -> Result<LocalModel, String> {
		let checked = self.checked(model);
		// Held while hashing: two jobs for one model read its files once, and other models do not wait.
		let mut in_folder = lock(&checked);
		// A model that was removed and fetched again is in another folder.
		let folder = std::fs::metadata(self.store.folder(model))
			.ok()
			.map(|m| m.ino());
		let stored = if folder.is_some() && *in_folder == folder {
			self.store.get(model)
		} else {
			self.store.verify(model, |_| ())
		};
		*in_folder = folder.filter(|_| stored.is_ok());
		if matches!(stored, Err(StoreError::Damaged { .. })) {
			if let Some(transfers) = &self.transfers {
				transfers.note_damage(model);
			}
		}
		let stored = stored.map_err(|e| e.to_string())?;
		Ok(LocalModel {
			manifest: stored.manifest,
			folder: stored.folder,
		})
	}
}
