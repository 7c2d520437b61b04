//! What this node can give: the pieces of every model in its store, and of those that arrive.

use std::{
	collections::{HashMap, HashSet},
	fs,
	sync::{Arc, Mutex, MutexGuard},
	time::{Duration, Instant, SystemTime},
};

use codec::Encode;
use consilience_primitives::ModelId;
use consilience_store::{read_at, Partial, Piece, Store, StoreError};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256};

use crate::{
	message::{bits, Response, MAX_MANIFEST},
	LOG_TARGET,
};

/// The store's folder is looked at again for a piece that is not known after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A model that is whole.
struct Whole {
	manifest: Vec<u8>,
	/// File and offset of each piece.
	places: HashMap<H256, (String, u64, u32)>,
}

/// A model that arrives.
struct Arriving {
	partial: Arc<Partial>,
	have: Vec<bool>,
	/// Index of each piece.
	pieces: HashMap<H256, usize>,
}

#[derive(Default)]
struct Shelved {
	whole: HashMap<ModelId, Whole>,
	arriving: HashMap<ModelId, Arriving>,
	/// Models of which something that was read was not what the manifest says.
	damaged: HashSet<ModelId>,
	looked: Option<Instant>,
	/// When the store's folder was changed last, as far as was looked.
	changed: Option<SystemTime>,
}

/// An index of the store by hash.
pub struct Shelf {
	store: Store,
	shelved: Mutex<Shelved>,
}

impl Shelf {
	/// Indexes a store.
	pub fn new(store: Store) -> Self {
		Self {
			store,
			shelved: Mutex::default(),
		}
	}

	/// The store.
	pub fn store(&self) -> &Store {
		&self.store
	}

	fn lock(&self) -> MutexGuard<'_, Shelved> {
		self.shelved.lock().unwrap_or_else(|e| e.into_inner())
	}

	/// What is known, after a look at the store's folder if that may have changed. Reads the disk, and not while it holds the lock.
	fn shelved(&self) -> MutexGuard<'_, Shelved> {
		let mut shelved = self.lock();
		if shelved.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
			return shelved;
		}
		shelved.looked = Some(Instant::now());
		let known: HashSet<ModelId> = shelved.whole.keys().copied().collect();
		let before = shelved.changed;
		drop(shelved);
		let changed = fs::metadata(self.store.root()).and_then(|m| m.modified());
		let changed = changed.ok();
		if changed.is_some() && changed == before {
			return self.lock();
		}
		let here = match self.store.ids() {
			Ok(ids) => ids,
			Err(error) => {
				tracing::warn!(target: LOG_TARGET, "the model store: {error}");
				return self.lock();
			}
		};
		let new = here.iter().filter(|id| !known.contains(id));
		let new: Vec<_> = new.filter_map(|id| self.store.get(*id).ok()).collect();
		let mut shelved = self.lock();
		shelved.changed = changed;
		shelved.whole.retain(|id, _| here.contains(id));
		shelved.damaged.retain(|id| here.contains(id));
		for model in new {
			let place = |piece: Piece| {
				let (path, offset) = piece.place(&model.manifest);
				(piece.chunk.hash, (path.into(), offset, piece.chunk.length))
			};
			let whole = Whole {
				places: Piece::of(&model.manifest).into_iter().map(place).collect(),
				manifest: model.manifest.encode(),
			};
			shelved.whole.insert(model.id, whole);
		}
		shelved
	}

	/// A model's manifest.
	pub fn manifest(&self, model: ModelId) -> Response {
		let shelved = self.shelved();
		let whole = shelved.whole.get(&model).map(|w| w.manifest.clone());
		let arriving = || Some(shelved.arriving.get(&model)?.partial.manifest().encode());
		match whole.or_else(arriving) {
			Some(manifest) if manifest.len() <= MAX_MANIFEST => Response::Manifest(manifest),
			_ => Response::Unknown,
		}
	}

	/// Which pieces of a model are here.
	pub fn holding(&self, model: ModelId) -> Response {
		let shelved = self.shelved();
		if shelved.whole.contains_key(&model) && !shelved.damaged.contains(&model) {
			return Response::All;
		}
		match shelved.arriving.get(&model) {
			Some(arriving) => Response::Some(bits(&arriving.have)),
			None => Response::Unknown,
		}
	}

	/// The piece with this hash, read and hashed.
	pub fn piece(&self, hash: H256) -> Option<Vec<u8>> {
		enum Place {
			Whole(ModelId, String, u64, u32),
			Arriving(Arc<Partial>, usize),
		}
		let mut places = Vec::new();
		{
			let shelved = self.shelved();
			for (model, whole) in &shelved.whole {
				if let Some((path, offset, length)) = whole.places.get(&hash) {
					places.push(Place::Whole(*model, path.clone(), *offset, *length));
				}
			}
			for arriving in shelved.arriving.values() {
				if let Some(piece) = arriving.pieces.get(&hash).filter(|p| arriving.have[**p]) {
					places.push(Place::Arriving(arriving.partial.clone(), *piece));
				}
			}
		}
		let right = |bytes: &Vec<u8>| H256(blake2_256(bytes)) == hash;
		for place in places {
			match place {
				Place::Whole(model, path, offset, length) => {
					let path = self.store.folder(model).join(path);
					// What cannot be read may be busy, or just being removed. What is read and is something else is damaged.
					let Ok(bytes) = read_at(&path, offset, length) else {
						continue;
					};
					if right(&bytes) {
						return Some(bytes);
					}
					if self.lock().damaged.insert(model) {
						tracing::error!(
							target: LOG_TARGET,
							"{}: is not what the manifest of model {model:?} says, from byte {offset}. `consilience model serve {model:?}`, or \
							 `fetch` where nothing is served, fetches anew what is damaged",
							path.display()
						);
					}
				}
				Place::Arriving(partial, piece) => {
					let bytes = partial.read(piece).ok().filter(right);
					if bytes.is_some() {
						return bytes;
					}
				}
			}
		}
		None
	}

	/// Models of which something that was read is not what the manifest says.
	pub fn damaged(&self) -> HashSet<ModelId> {
		self.lock().damaged.clone()
	}

	/// Notes that a model was found damaged.
	pub(crate) fn note_damage(&self, model: ModelId) {
		self.lock().damaged.insert(model);
	}

	/// Sets a model aside that is damaged, so that what is wrong in it can be fetched anew. Of one that has gone nothing is damaged.
	pub(crate) fn set_aside(&self, model: ModelId) -> Result<(), StoreError> {
		if !self.lock().damaged.contains(&model) {
			return Ok(());
		}
		if self.store.contains(model) {
			self.store.set_aside(model)?;
		}
		let mut shelved = self.lock();
		shelved.whole.remove(&model);
		shelved.damaged.remove(&model);
		(shelved.looked, shelved.changed) = (None, None);
		Ok(())
	}

	/// From now on, what there is of this model is given too.
	pub(crate) fn arrives(&self, partial: Arc<Partial>, have: Vec<bool>) {
		let numbered = partial.pieces().iter().enumerate();
		let arriving = Arriving {
			pieces: numbered
				.map(|(index, piece)| (piece.chunk.hash, index))
				.collect(),
			have,
			partial,
		};
		let id = arriving.partial.id();
		self.lock().arriving.insert(id, arriving);
	}

	/// Another piece of an arriving model is there.
	pub(crate) fn arrived(&self, model: ModelId, piece: usize) {
		if let Some(arriving) = self.lock().arriving.get_mut(&model) {
			arriving.have[piece] = true;
		}
	}

	/// The model is whole, or arrives no longer.
	pub(crate) fn ends(&self, model: ModelId) {
		let mut shelved = self.lock();
		shelved.arriving.remove(&model);
		(shelved.looked, shelved.changed) = (None, None);
	}
}
