//! The model store as the worker's library.

use std::{collections::HashSet, sync::Mutex};

use consilience_primitives::ModelId;
use consilience_store::Store;

use crate::{
	runner::{Library, LocalModel},
	LOG_TARGET,
};

/// A store, and which of its models this process has checked.
pub struct StoreLibrary {
	store: Store,
	verified: Mutex<HashSet<ModelId>>,
}

impl StoreLibrary {
	/// The models of a store.
	pub fn new(store: Store) -> Self {
		Self {
			store,
			verified: Mutex::default(),
		}
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

	fn verified(&self, model: ModelId) -> Result<LocalModel, String> {
		// Held while hashing: two jobs for one model read its files once.
		let mut verified = self.verified.lock().unwrap_or_else(|e| e.into_inner());
		let stored = if verified.contains(&model) {
			self.store.get(model)
		} else {
			self.store.verify(model, |_| ())
		}
		.map_err(|e| e.to_string())?;
		verified.insert(model);
		Ok(LocalModel {
			manifest: stored.manifest,
			folder: stored.folder,
		})
	}
}
