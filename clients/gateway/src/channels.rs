//! The gateway's channels in the session lane.

use std::sync::{
	atomic::{AtomicUsize, Ordering},
	Arc,
};

use crate::{lane::Lane, network::Refusal};

/// All channels. In a channel each validator answers one question at a time, so that many at once need several.
#[derive(Clone, Default)]
pub(crate) struct Channels(Arc<[Channel]>);

/// A channel.
#[derive(Clone)]
pub(crate) struct Channel {
	pub(crate) lane: Arc<dyn Lane>,
	/// Questions that it pays for now.
	questions: Arc<AtomicUsize>,
}

/// A channel with a question that it pays for, until this is dropped.
pub(crate) struct Taken(Channel);

impl Channels {
	pub(crate) fn new(lanes: Vec<Arc<dyn Lane>>) -> Self {
		let channel = |lane| Channel {
			lane,
			questions: Arc::default(),
		};
		Self(lanes.into_iter().map(channel).collect())
	}

	/// Returns whether there is none.
	pub(crate) fn is_empty(&self) -> bool {
		self.0.is_empty()
	}

	/// Returns the channel of a number.
	pub(crate) fn of(&self, number: u64) -> Option<&Channel> {
		self.0.iter().find(|c| c.lane.channel() == number)
	}

	/// Returns all, those with the fewest questions first.
	pub(crate) fn by_questions(&self) -> Vec<&Channel> {
		let mut all: Vec<_> = self.0.iter().collect();
		all.sort_by_cached_key(|channel| channel.questions.load(Ordering::Relaxed));
		all
	}

	/// Returns how many validators of a model some channel pays, and the channel's number; the error of the last where none can be read.
	pub(crate) async fn serving(&self, model: &str) -> Result<Option<(u64, u32)>, Refusal> {
		let mut most = None;
		let mut unread = None;
		for Channel { lane, .. } in self.0.iter() {
			match lane.serving(model).await {
				Ok(serving) if most.is_none_or(|(_, other)| serving > other) => {
					most = Some((lane.channel(), serving));
				}
				Ok(_) => (),
				Err(e) => unread = Some(e),
			}
		}
		match (most, unread) {
			(None, Some(e)) => Err(e),
			(most, _) => Ok(most),
		}
	}
}

impl Channel {
	/// Counts a question.
	pub(crate) fn take(&self) -> Taken {
		self.questions.fetch_add(1, Ordering::Relaxed);
		Taken(self.clone())
	}
}

impl Taken {
	pub(crate) fn lane(&self) -> &Arc<dyn Lane> {
		&self.0.lane
	}
}

impl Drop for Taken {
	fn drop(&mut self) {
		self.0.questions.fetch_sub(1, Ordering::Relaxed);
	}
}
