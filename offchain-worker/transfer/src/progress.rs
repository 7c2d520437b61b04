//! How far a model has come.

use std::{
	sync::Mutex,
	time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Time over which the rate is a mean.
const MEAN: Duration = Duration::from_secs(3);

/// How far a model has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
	/// Bytes of its pieces, each once.
	pub size: u64,
	/// Bytes that are on the disk.
	pub done: u64,
	/// Bytes that other nodes gave since this began or went on.
	pub fetched: u64,
	/// Bytes that came from other models of the store.
	pub copied: u64,
	/// Bytes that other nodes gave and that were wrong.
	pub discarded: u64,
	/// Nodes that have any of it.
	pub sources: u32,
	/// Bytes a second at present.
	pub rate: u64,
	/// What is waited for, or done instead of fetching.
	pub waits: Option<String>,
	/// It will not go on by itself.
	pub has_failed: bool,
}

impl Progress {
	/// Why it will not come, if that is so.
	pub fn failure(&self) -> Option<&str> {
		self.waits.as_deref().filter(|_| self.has_failed)
	}
}

struct Inner {
	progress: Progress,
	counted: u64,
	since: Instant,
}

/// Progress that several look at.
pub(crate) struct Watched(Mutex<Inner>);

impl Default for Watched {
	fn default() -> Self {
		Self(Mutex::new(Inner {
			progress: Progress::default(),
			counted: 0,
			since: Instant::now(),
		}))
	}
}

impl Watched {
	fn change(&self, change: impl FnOnce(&mut Inner)) {
		change(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()));
	}

	pub(crate) fn seen(&self) -> Progress {
		let inner = self.0.lock().unwrap_or_else(|e| e.into_inner());
		inner.progress.clone()
	}

	pub(crate) fn says(&self, what: impl Into<String>) {
		let what = what.into();
		self.change(|i| i.progress.waits = Some(what));
	}

	/// Says what is waited for, unless there is something to say already.
	pub(crate) fn waits_for(&self, what: &str) {
		self.change(|i| {
			i.progress.waits.get_or_insert_with(|| what.into());
		});
	}

	pub(crate) fn fails(&self, why: String) {
		self.change(|i| {
			i.progress.waits = Some(why);
			i.progress.has_failed = true;
		});
	}

	pub(crate) fn begins(&self, size: u64, done: u64) {
		self.change(|i| {
			i.progress = Progress {
				size,
				done,
				..Progress::default()
			};
			(i.counted, i.since) = (0, Instant::now());
		});
	}

	pub(crate) fn copied(&self, bytes: u64) {
		self.change(|i| {
			i.progress.copied += bytes;
			i.progress.done += bytes;
		});
	}

	pub(crate) fn fetched(&self, bytes: u64) {
		self.change(|i| {
			i.progress.fetched += bytes;
			i.progress.done += bytes;
		});
	}

	pub(crate) fn discarded(&self, bytes: u64) {
		self.change(|i| i.progress.discarded += bytes);
	}

	/// Says how many could give something, and what is waited for.
	pub(crate) fn sources(&self, count: usize, waits: Option<String>) {
		self.change(|i| {
			i.progress.sources = u32::try_from(count).unwrap_or(u32::MAX);
			i.progress.waits = waits;
		});
	}

	pub(crate) fn ticks(&self) {
		self.change(|i| {
			let passed = i.since.elapsed();
			if passed >= MEAN {
				let bytes = i.progress.fetched - i.counted;
				i.progress.rate = (bytes as f64 / passed.as_secs_f64()) as u64;
				(i.counted, i.since) = (i.progress.fetched, Instant::now());
			}
		});
	}
}
