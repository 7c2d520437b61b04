//! The waiting line: whoever comes when all places are taken is served in the order of arrival.
//!
//! One line for all models, because models may share places: of those for whose model there is a place, the first is invited. A place is
//! kept for an invitation, so that neither those behind nor newcomers take it meanwhile. A place that becomes free is given to the next in the
//! same step: nobody looks for it again and again.
//!
//! What a party gains by waiting is bounded:
//! - a channel has one place in the line, or one invitation, however many connections wait in its name; a connection that comes back stands where
//!   the channel stood, or, if it was gone, at the end;
//! - an invitation that is not taken keeps a place empty for [`Config::invitation`](crate::Config::invitation) at most: the line itself takes it back,
//!   whatever the client's connection is about. A channel that lets a second one lapse in a row is kept out of the line, each time for longer;
//! - whoever waits has money set apart for this validator in finalised state, and has signed that it waits.

use std::{
	collections::{BTreeMap, HashMap},
	sync::{Arc, Mutex},
	time::Duration,
};

use consilience_primitives::{session::ChannelId, ModelId};
use tokio::{
	sync::{oneshot, Notify},
	time::Instant,
};

use crate::{
	engine::{self, Engine},
	executor::wait,
	lock,
	message::Refusal,
	metrics::Metrics,
	Refused,
};

/// How long a channel is kept out that has let a second invitation in a row lapse: so long for each but the first, and no longer than that.
const OUT: Duration = Duration::from_secs(30);
const LONGEST_OUT: Duration = Duration::from_secs(300);

/// For how long it is remembered that an invitation lapsed.
const MEMORY: Duration = Duration::from_secs(600);

/// The line, and all places at the engine.
pub(crate) struct Line {
	engine: Arc<dyn Engine>,
	/// Most who wait.
	most: usize,
	/// How long a place is kept for an invitation.
	invitation: Duration,
	metrics: Metrics,
	state: Mutex<State>,
	/// Told when somebody is invited.
	news: Notify,
}

#[derive(Default)]
struct State {
	/// Counts all who ever came, and all who were invited.
	count: u64,
	/// By their numbers: in the order in which they came.
	queue: BTreeMap<u64, Waiting>,
	/// Places that are kept, in the order of the invitations to them.
	kept: BTreeMap<u64, Kept>,
	channels: HashMap<ChannelId, Standing>,
	late: HashMap<ChannelId, Late>,
}

/// A place that is kept for whoever is invited to it.
struct Kept {
	channel: ChannelId,
	since: Instant,
	place: engine::Place,
}

/// Where a channel stands.
#[derive(Clone, Copy)]
enum Standing {
	Waits(u64),
	Invited,
}

struct Waiting {
	channel: ChannelId,
	model: ModelId,
	/// Tells a ticket from the one whose place it took over.
	ticket: u64,
	invite: oneshot::Sender<Invitation>,
}

/// How often in a row a channel has let an invitation lapse.
struct Late {
	times: u32,
	last: Instant,
	/// Until when it is kept out.
	until: Instant,
}

/// An invitation, and whom to tell.
type Next = (oneshot::Sender<Invitation>, Invitation);

impl Line {
	pub(crate) fn new(
		engine: Arc<dyn Engine>,
		most: usize,
		invitation: Duration,
		metrics: Metrics,
	) -> Arc<Self> {
		Arc::new(Self {
			engine,
			most,
			invitation,
			metrics,
			state: Mutex::default(),
			news: Notify::new(),
		})
	}

	/// Takes back what is kept for too long.
	pub(crate) async fn run(self: Arc<Self>) {
		loop {
			let first = lock(&self.state).kept.values().next().map(|k| k.since);
			tokio::select! {
				() = wait(first.map(|since| since + self.invitation)) => self.revoke(),
				() = self.news.notified() => (),
			}
		}
	}

	/// Takes back what is kept for too long by now.
	fn revoke(self: &Arc<Self>) {
		let now = Instant::now();
		let mut all = Vec::new();
		let mut state = lock(&self.state);
		while let Some(first) = state.kept.first_entry() {
			if now < first.get().since + self.invitation {
				break;
			}
			let kept = first.remove();
			self.left(&mut state, kept, now);
			all.extend(self.next(&mut state));
		}
		drop(state);
		for (invite, invitation) in all {
			drop(invite.send(invitation));
		}
	}

	/// A place that was kept is left. To be followed by giving it to the next.
	fn left(&self, state: &mut State, kept: Kept, now: Instant) {
		state.channels.remove(&kept.channel);
		// Whoever says at once that it has a place elsewhere has held nobody up.
		if kept.since + self.invitation / 2 < now {
			state.lapsed(kept.channel, now);
		}
		self.metrics.invited("left");
		drop(kept.place);
	}

	/// Answers that may begin now without waiting.
	pub(crate) fn free(&self, model: &ModelId) -> u32 {
		if lock(&self.state).waits_for(model) {
			return 0;
		}
		self.engine.free(model)
	}

	/// Takes a place that nobody waits for.
	pub(crate) fn place(self: &Arc<Self>, model: &ModelId) -> Option<Place> {
		let state = lock(&self.state);
		if state.waits_for(model) {
			return None;
		}
		let taken = self.engine.place(model)?;
		drop(state);
		Some(self.taken(taken))
	}

	fn taken(self: &Arc<Self>, place: engine::Place) -> Place {
		Place {
			taken: Some(place),
			line: self.clone(),
		}
	}

	/// Stands at the end of the line, or where the channel stands already.
	pub(crate) fn join(
		self: &Arc<Self>,
		channel: ChannelId,
		model: ModelId,
	) -> Result<Ticket, Refused> {
		let busy = |words: String| Err(Refused::new(Refusal::Busy, words));
		let (invite, invited) = oneshot::channel();
		let mut state = lock(&self.state);
		let now = Instant::now();
		if let Some(late) = state.late.get(&channel).filter(|late| now < late.until) {
			let seconds = (late.until - now).as_secs() + 1;
			return busy(format!(
				"places were kept for this channel and not taken: it may wait again in {seconds} s"
			));
		}
		state.count += 1;
		let ticket = state.count;
		let number = match state.channels.get(&channel) {
			Some(Standing::Invited) => return busy("a place is kept for this channel".into()),
			Some(Standing::Waits(number)) => *number,
			None if state.queue.len() >= self.most => {
				return busy(format!("the line is full: {} wait", state.queue.len()));
			}
			None => ticket,
		};
		let waiting = Waiting {
			channel,
			model,
			ticket,
			invite,
		};
		// Whose place it takes over is told by its sender's end.
		let before = state.queue.insert(number, waiting);
		state.channels.insert(channel, Standing::Waits(number));
		self.metrics.waiting(state.queue.len());
		drop(state);
		drop(before);
		self.serve();
		Ok(Ticket {
			line: self.clone(),
			number,
			ticket,
			invited,
		})
	}

	/// Takes places for as many as there are.
	fn serve(self: &Arc<Self>) {
		loop {
			let next = self.next(&mut lock(&self.state));
			let Some((invite, invitation)) = next else {
				return;
			};
			// Of one that has gone, the place is free for the next.
			drop(invite.send(invitation));
		}
	}

	/// Takes a place for the first for whom there is one.
	fn next(self: &Arc<Self>, state: &mut State) -> Option<Next> {
		let mut full: Vec<ModelId> = Vec::new();
		let mut found = None;
		for (number, waiting) in &state.queue {
			if full.contains(&waiting.model) {
				continue;
			}
			match self.engine.place(&waiting.model) {
				Some(place) => {
					found = Some((*number, place));
					break;
				}
				None => full.push(waiting.model),
			}
		}
		let (number, place) = found?;
		let waiting = state.queue.remove(&number)?;
		state.channels.insert(waiting.channel, Standing::Invited);
		self.metrics.waiting(state.queue.len());
		state.count += 1;
		let (number, since) = (state.count, Instant::now());
		let kept = Kept {
			channel: waiting.channel,
			since,
			place,
		};
		state.kept.insert(number, kept);
		self.news.notify_one();
		let invitation = Invitation {
			line: self.clone(),
			number,
			until: since + self.invitation,
		};
		Some((waiting.invite, invitation))
	}

	/// A place is free: the next is invited before anybody else can take it.
	fn give_back(self: &Arc<Self>, taken: engine::Place) {
		let next = {
			let mut state = lock(&self.state);
			drop(taken);
			self.next(&mut state)
		};
		if let Some((invite, invitation)) = next {
			drop(invite.send(invitation));
			self.serve();
		}
	}
}

impl State {
	fn waits_for(&self, model: &ModelId) -> bool {
		self.queue.values().any(|waiting| waiting.model == *model)
	}

	/// Notes that an invitation lapsed. Each took its time, so that there are few of them.
	fn lapsed(&mut self, channel: ChannelId, now: Instant) {
		self.late.retain(|_, late| now < late.last + MEMORY);
		let late = self.late.entry(channel).or_insert(Late {
			times: 0,
			last: now,
			until: now,
		});
		late.until = now + (OUT * late.times).min(LONGEST_OUT);
		late.times = late.times.saturating_add(1);
		late.last = now;
	}
}

/// A place at the engine. Dropped, it is given to the next in the line.
pub(crate) struct Place {
	taken: Option<engine::Place>,
	line: Arc<Line>,
}

impl Drop for Place {
	fn drop(&mut self) {
		if let Some(taken) = self.taken.take() {
			self.line.give_back(taken);
		}
	}
}

/// Leave to take a place that is kept for a moment. Dropped, the place is left to others.
pub(crate) struct Invitation {
	line: Arc<Line>,
	number: u64,
	/// When the place is taken back.
	pub(crate) until: Instant,
}

impl Invitation {
	/// Takes the place; `None` where it was taken back.
	pub(crate) fn take(self) -> Option<Place> {
		let mut state = lock(&self.line.state);
		let kept = state.kept.remove(&self.number)?;
		state.channels.remove(&kept.channel);
		state.late.remove(&kept.channel);
		drop(state);
		self.line.metrics.invited("taken");
		Some(self.line.taken(kept.place))
	}
}

impl Drop for Invitation {
	fn drop(&mut self) {
		let next = {
			let mut state = lock(&self.line.state);
			let Some(kept) = state.kept.remove(&self.number) else {
				return;
			};
			self.line.left(&mut state, kept, Instant::now());
			self.line.next(&mut state)
		};
		if let Some((invite, invitation)) = next {
			drop(invite.send(invitation));
		}
	}
}

/// A place in the line. Dropped, it is left.
pub(crate) struct Ticket {
	line: Arc<Line>,
	number: u64,
	ticket: u64,
	invited: oneshot::Receiver<Invitation>,
}

impl Ticket {
	/// Waits for the invitation; `None` where the channel waits over another connection now. Cancel-safe; not to be called once it has returned.
	pub(crate) async fn invited(&mut self) -> Option<Invitation> {
		(&mut self.invited).await.ok()
	}

	/// How many stand before it; `None` once it is invited.
	pub(crate) fn ahead(&self) -> Option<u32> {
		let state = lock(&self.line.state);
		state.queue.get(&self.number)?;
		Some(state.queue.range(..self.number).count() as u32)
	}
}

impl Drop for Ticket {
	fn drop(&mut self) {
		let mut state = lock(&self.line.state);
		let own = |waiting: &Waiting| waiting.ticket == self.ticket;
		if !state.queue.get(&self.number).is_some_and(own) {
			return;
		}
		if let Some(waiting) = state.queue.remove(&self.number) {
			state.channels.remove(&waiting.channel);
			self.line.metrics.waiting(state.queue.len());
			drop(state);
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use async_trait::async_trait;
	use consilience_primitives::{
		evidence::Evidence,
		request::{Input, Output},
	};
	use polkadot_sdk::sp_core::H256;
	use std::sync::atomic::{AtomicU32, Ordering};

	use crate::engine::{Answering, EngineError};

	const MODEL: ModelId = H256::repeat_byte(1);
	/// Shares its places with the first.
	const OTHER: ModelId = H256::repeat_byte(2);
	/// Never has a place.
	const FULL: ModelId = H256::repeat_byte(3);

	#[derive(Default)]
	struct Places(Arc<AtomicU32>);

	struct Taken(Arc<AtomicU32>);

	impl Drop for Taken {
		fn drop(&mut self) {
			self.0.fetch_add(1, Ordering::SeqCst);
		}
	}

	#[async_trait]
	impl Engine for Places {
		fn free(&self, model: &ModelId) -> u32 {
			if *model == FULL {
				return 0;
			}
			self.0.load(Ordering::SeqCst)
		}

		fn place(&self, model: &ModelId) -> Option<engine::Place> {
			(self.free(model) > 0).then(|| {
				self.0.fetch_sub(1, Ordering::SeqCst);
				Box::new(Taken(self.0.clone())) as engine::Place
			})
		}

		async fn stream(
			&self,
			_: &ModelId,
			_: &Input,
			_: H256,
		) -> Result<Box<dyn Answering>, EngineError> {
			Err(EngineError::Busy)
		}

		async fn cut(&self, _: &ModelId, _: &Input, _: &[u32]) -> Result<Output, EngineError> {
			Err(EngineError::Busy)
		}

		async fn measure(
			&self,
			_: &ModelId,
			_: &Input,
			_: H256,
			_: &Output,
			_: H256,
		) -> Result<Evidence, EngineError> {
			Err(EngineError::Busy)
		}
	}

	fn line_with(places: u32, most: usize, invitation: Duration) -> Arc<Line> {
		let engine = Places(Arc::new(places.into()));
		Line::new(Arc::new(engine), most, invitation, Metrics::default())
	}

	fn line(places: u32) -> Arc<Line> {
		line_with(places, 100, Duration::from_secs(2))
	}

	/// The invitation that is there already.
	fn now(ticket: &mut Ticket) -> Option<Invitation> {
		ticket.invited.try_recv().ok()
	}

	#[test]
	fn who_came_first_is_first_and_nobody_overtakes() {
		let line = line(2);
		let first = line.place(&MODEL).unwrap();
		let second = line.place(&OTHER).unwrap();
		assert_eq!(line.free(&MODEL), 0);
		assert!(line.place(&MODEL).is_none());
		let mut tickets: Vec<_> = (0..4)
			.map(|channel| {
				let model = if channel % 2 == 0 { MODEL } else { OTHER };
				line.join(channel, model).unwrap()
			})
			.collect();
		let ahead: Vec<_> = tickets.iter().map(Ticket::ahead).collect();
		assert_eq!(ahead, [Some(0), Some(1), Some(2), Some(3)]);
		drop(first);
		// The first is invited: its place is nobody else's.
		let invited = now(&mut tickets[0]).unwrap();
		assert_eq!((line.free(&MODEL), line.free(&OTHER)), (0, 0));
		assert!(line.place(&MODEL).is_none());
		assert!(tickets[1..].iter_mut().all(|ticket| now(ticket).is_none()));
		assert_eq!(tickets[3].ahead(), Some(2));
		let place = invited.take().unwrap();
		drop(second);
		let left = now(&mut tickets[1]).unwrap();
		// Whoever does not take it leaves it to the next.
		drop(left);
		let next = now(&mut tickets[2]).unwrap();
		drop(place);
		let last = now(&mut tickets[3]).unwrap();
		// Nobody waits: newcomers are as good as any.
		drop(next.take().unwrap());
		assert_eq!(line.free(&MODEL), 1);
		let newcomer = line.place(&MODEL).unwrap();
		assert_eq!(line.free(&MODEL), 0);
		drop((last, newcomer));
		assert_eq!(line.free(&MODEL), 2);
	}

	#[test]
	fn no_newcomer_has_what_somebody_waits_for() {
		let count = Arc::new(AtomicU32::new(0));
		let engine = Arc::new(Places(count.clone()));
		let line = Line::new(engine, 9, Duration::from_secs(2), Metrics::default());
		let mut waits = line.join(1, MODEL).unwrap();
		// Wherever it comes from.
		count.store(2, Ordering::SeqCst);
		assert!(line.place(&MODEL).is_none());
		assert_eq!(line.free(&MODEL), 0);
		assert_eq!(line.free(&OTHER), 2);
		drop(line.place(&OTHER).unwrap());
		assert!(now(&mut waits).is_some());
		assert_eq!(line.free(&MODEL), 2);
	}

	#[test]
	fn who_goes_is_passed_over_and_a_model_without_places_holds_up_no_other() {
		let line = line(1);
		let place = line.place(&MODEL).unwrap();
		let waits = line.join(1, FULL).unwrap();
		let gone = line.join(2, MODEL).unwrap();
		let mut stays = line.join(3, MODEL).unwrap();
		assert_eq!(stays.ahead(), Some(2));
		drop(gone);
		assert_eq!(stays.ahead(), Some(1));
		drop(place);
		let invited = now(&mut stays).unwrap();
		assert_eq!(stays.ahead(), None);
		assert_eq!(waits.ahead(), Some(0));
		// One that goes after it was invited, and before it has heard of it.
		drop(invited);
		let place = line.place(&MODEL).unwrap();
		let deaf = line.join(4, MODEL).unwrap();
		let mut next = line.join(5, MODEL).unwrap();
		drop(place);
		assert_eq!(deaf.ahead(), None);
		drop(deaf);
		assert!(now(&mut next).is_some());
		assert!(lock(&line.state).channels.contains_key(&1));
		drop((waits, next));
		let state = lock(&line.state);
		assert!(state.queue.is_empty() && state.channels.is_empty());
	}

	#[test]
	fn a_channel_has_one_place_and_the_line_has_an_end() {
		let line = line_with(1, 2, Duration::from_secs(2));
		let place = line.place(&MODEL).unwrap();
		let mut first = line.join(1, MODEL).unwrap();
		let second = line.join(2, MODEL).unwrap();
		let words = |joined: Result<Ticket, Refused>| joined.map(drop).unwrap_err().1;
		assert!(words(line.join(3, MODEL)).contains("full: 2"));
		// It comes again: it stands where it stood, and the former connection is told.
		let mut again = line.join(1, OTHER).unwrap();
		let replaced = first.invited.try_recv().map(drop).unwrap_err();
		assert_eq!(replaced, oneshot::error::TryRecvError::Closed);
		drop(first);
		assert_eq!((again.ahead(), second.ahead()), (Some(0), Some(1)));
		drop(place);
		let invited = now(&mut again).unwrap();
		assert!(words(line.join(1, MODEL)).contains("is kept"));
		drop(invited.take().unwrap());
		// Once it has taken that, it may wait for another.
		assert!(line.join(1, MODEL).is_ok());
	}

	#[test]
	fn a_place_that_is_not_taken_in_time_is_the_nexts() {
		let line = line_with(2, 9, Duration::ZERO);
		let places = [MODEL, MODEL].map(|model| line.place(&model).unwrap());
		let mut tickets = [1, 2, 3].map(|channel| line.join(channel, MODEL).unwrap());
		drop(places);
		let late = tickets[0].invited.try_recv().unwrap();
		// The second has not even looked.
		assert!(now(&mut tickets[2]).is_none());
		line.revoke();
		let third = now(&mut tickets[2]).unwrap();
		assert!(late.take().is_none());
		assert_eq!(line.free(&MODEL), 1);
		let place = third.take().unwrap();
		let deaf = now(&mut tickets[1]).unwrap();
		assert!(deaf.take().is_none());
		drop(place);
		assert_eq!(line.free(&MODEL), 2);
		let state = lock(&line.state);
		assert!(state.kept.is_empty() && state.channels.is_empty());
		assert_eq!(state.late.len(), 2);
	}

	#[test]
	fn who_lets_places_lapse_is_kept_out_for_longer_and_longer() {
		// Whatever is not taken has lapsed.
		let line = line_with(1, 2, Duration::ZERO);
		let out = |line: &Arc<Line>| match line.join(1, MODEL) {
			Ok(mut ticket) => {
				drop(now(&mut ticket).unwrap());
				None
			}
			Err(Refused(why, _)) => {
				assert_eq!(why, Refusal::Busy);
				let state = lock(&line.state);
				Some(
					(state.late[&1].until - Instant::now())
						.as_secs_f64()
						.round() as u64,
				)
			}
		};
		assert_eq!(out(&line), None);
		assert_eq!(out(&line), None);
		assert_eq!(out(&line), Some(30));
		for (times, seconds) in [(2, 60), (9, 270), (10, 300), (99, 300)] {
			let mut state = lock(&line.state);
			state.late.get_mut(&1).unwrap().times = times;
			state.lapsed(1, Instant::now());
			drop(state);
			assert_eq!(out(&line), Some(seconds));
		}
		// Others wait as ever. Whoever takes a place has a clean slate.
		assert!(line.join(2, MODEL).is_ok());
		lock(&line.state).late.get_mut(&1).unwrap().until = Instant::now();
		let mut ticket = line.join(1, MODEL).unwrap();
		drop(now(&mut ticket).unwrap().take().unwrap());
		assert!(!lock(&line.state).late.contains_key(&1));
	}
}
