//! Asking: which executor, which one after it, and what becomes of the answer.

use std::{
	cmp::Reverse,
	collections::HashMap,
	pin::Pin,
	sync::{Arc, Mutex, PoisonError},
	task::{Context, Poll},
	time::Duration,
};

use consilience_lane::message::{
	self, AccountId, Balance, BlockNumber, Payment, SignedReceipt, ToClient, ToValidator,
};
use consilience_primitives::{
	request::{Input, InputError},
	session::{Anchor, Service},
	ModelId,
};
use futures::{
	future::{select_all, BoxFuture},
	stream::FuturesUnordered,
	try_join, FutureExt, Stream, StreamExt,
};
use polkadot_sdk::sp_core::H256;
use tokio::{
	sync::{
		mpsc::{unbounded_channel, UnboundedReceiver},
		watch,
	},
	time::{sleep_until, timeout_at, Instant},
};

use crate::{
	blocking,
	chain::{Chain, Channel, Lane, Model, Session},
	checks::Checking,
	connection::{unexpected, Connection},
	error::{Error, Fault, WalletError},
	executor::{cancel, Asking, Stop},
	kept::{Kept, Offer},
	locks::{Pot, Turn, Turns},
	record::{Facts, Finding, Record, Status},
	wallet::{NewAsk, Wallet},
	Events, LOG_TARGET,
};

/// How long others have to offer something better, once one has said what it offers.
const GRACE: Duration = Duration::from_millis(250);

/// How long whoever keeps a line may say nothing. It says every ten seconds how long the line is.
const QUIET: Duration = Duration::from_secs(60);

/// Age beyond which the chain's state is read again before a question is sent.
const STALE: Duration = Duration::from_secs(60);

/// How long validators have, and how many are tried.
#[derive(Clone, Debug)]
pub struct Settings {
	/// For a connection and an offer, and for a goodbye.
	pub connect: Duration,
	/// For the first token.
	pub first: Duration,
	/// For every one after it.
	pub next: Duration,
	/// For a verdict; anew whenever one less is before it that waits to be measured.
	pub verdict: Duration,
	/// For a place, in the lines of all executors, where none has one; and for a verdict in all.
	pub place: Duration,
	/// Most executors that a question is sent to, one after the other.
	pub attempts: usize,
}

impl Default for Settings {
	fn default() -> Self {
		Self {
			connect: Duration::from_secs(5),
			first: Duration::from_secs(60),
			next: Duration::from_secs(30),
			verdict: Duration::from_secs(60),
			place: Duration::from_secs(300),
			attempts: 3,
		}
	}
}

/// What may be chosen for a question.
#[derive(Clone, Debug)]
pub struct AskOptions {
	/// How many checkers are to confirm the answer.
	pub checks: u32,
	/// Who is to answer; anybody whom the channel pays, if nobody is named.
	pub executor: Option<AccountId>,
}

impl Default for AskOptions {
	fn default() -> Self {
		Self {
			checks: 2,
			executor: None,
		}
	}
}

/// What a question costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
	/// The question alone: what is paid even where no answer comes.
	pub prompt: Balance,
	/// The question and its longest answer.
	pub answer: Balance,
	/// All checks of the longest answer.
	pub checks: Balance,
}

impl Quote {
	/// Returns what it costs at most, where the first executor answers.
	pub const fn total(&self) -> Balance {
		self.answer.saturating_add(self.checks)
	}

	fn of(model: &Model, input: &Input, checks: u32) -> Result<Self, Error> {
		input.validate(&model.spec)?;
		let Some(question) = input.as_text() else {
			return Err(InputError::WrongTask.into());
		};
		let (units, tokens) = (input.units(), question.sampling.max_tokens);
		let prompt = model.price.of(units, 0).ok_or(Error::Price)?;
		if prompt == 0 {
			return Err(Error::Free);
		}
		let check = model.check.of(units, tokens);
		Ok(Self {
			prompt,
			answer: model.price.of(units, tokens).ok_or(Error::Price)?,
			checks: check
				.and_then(|check| check.checked_mul(checks.into()))
				.ok_or(Error::Price)?,
		})
	}
}

/// What happens to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
	/// Nobody has a place: it waits, and pays nothing for that. Said again when the number changes.
	Waiting {
		/// How many are served before it, where the line is shortest.
		ahead: u32,
	},
	/// An executor was sent the question under this number of the channel. If there was one before, the answer begins anew.
	Started {
		/// Who.
		executor: AccountId,
		/// The number.
		number: u32,
	},
	/// More text.
	Text(String),
	/// An executor did not do what it should. What it sent was shown and paid, and is no answer. Another is tried, or an error follows.
	Failed {
		/// Who.
		executor: AccountId,
		/// The number that it had, if the question was sent.
		number: Option<u32>,
		/// Why.
		why: Fault,
	},
	/// The answer is whole, and the executor has signed for it.
	Receipt(Box<SignedReceipt>),
	/// A validator is asked to check it.
	Checking {
		/// Who.
		checker: AccountId,
	},
	/// It has checked it.
	Verdict {
		/// Who.
		checker: AccountId,
		/// What it found.
		finding: Finding,
	},
	/// It has not, and the next in the order is asked.
	Skipped {
		/// Who.
		checker: AccountId,
		/// Why.
		why: Fault,
	},
	/// Nothing more happens.
	Done {
		/// The number under which [`Wallet::record`] has it.
		number: u32,
		/// Where the answer stands.
		status: Status,
	},
}

/// A question's events, until [`Event::Done`] or an error. Whoever drops it has seen enough: the answer is cut, and what was shown is
/// paid.
pub struct Answer {
	events: UnboundedReceiver<Result<Event, Error>>,
	cancel: watch::Sender<bool>,
}

impl Answer {
	/// Cuts the answer: it ends with a receipt for what was sent.
	pub fn cancel(&self) {
		self.cancel.send_replace(true);
	}
}

impl Stream for Answer {
	type Item = Result<Event, Error>;

	fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
		self.events.poll_recv(context)
	}
}

impl Drop for Answer {
	fn drop(&mut self) {
		self.cancel();
	}
}

/// A channel's client. Clones are the same one.
///
/// Any number of questions may be under way. An executor, and a checker, is sent one at a time: its vouchers rise from one to the next.
/// Questions therefore go to executors that are free, and wait where all are at work for this channel, or for others; a client that wants more at once
/// pays more executors, or more channels.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
	chain: Arc<dyn Chain>,
	wallet: Arc<Wallet>,
	settings: Settings,
	genesis: H256,
	executors: Turns,
	checkers: Turns,
	/// Connections to those who have answered, and to those who have checked.
	answered: Kept,
	checked: Kept,
	pot: Pot,
}

/// What holds when a question is sent.
struct Scene {
	anchor: Anchor<BlockNumber>,
	session: Session,
	channel: Channel,
	seed: H256,
	model: Model,
	quote: Quote,
}

/// Who could answer.
struct Able {
	lane: Lane,
	/// What vouchers for its answers may come to.
	limit: Balance,
	/// What it has claimed of that.
	claimed: Balance,
}

/// An executor that is asked for an offer, the turn with it, and its reply.
type Opened = (Able, Turn, Result<(Connection, message::Offer), Fault>);
/// Connections that are being opened.
type Opening<'a> = FuturesUnordered<BoxFuture<'a, Opened>>;

/// Who offers to answer, and whose turn it is.
struct Offered {
	able: Able,
	turn: Turn,
	connection: Connection,
	offer: Offer,
	held: Option<Payment>,
	/// Whether it has just said so, and not when it answered the question before.
	asked: bool,
}

impl Client {
	/// Opens a channel's client.
	///
	/// # Errors
	/// If the wallet is not the channel's, or an old copy, or the chain cannot be read.
	pub async fn open(
		chain: Arc<dyn Chain>,
		wallet: Arc<Wallet>,
		settings: Settings,
	) -> Result<Self, Error> {
		let genesis = chain.genesis().await?;
		if wallet.bound()?.genesis != genesis {
			return Err(WalletError::OtherChannel.into());
		}
		let inner = Inner {
			chain,
			wallet,
			settings,
			genesis,
			executors: Turns::default(),
			checkers: Turns::default(),
			answered: Kept::default(),
			checked: Kept::default(),
			pot: Pot::default(),
		};
		inner.channel().await?;
		Ok(Self(Arc::new(inner)))
	}

	/// Returns the wallet.
	pub fn wallet(&self) -> &Arc<Wallet> {
		&self.0.wallet
	}

	/// Returns what a question costs, with so many checks, at the last finalised block.
	///
	/// # Errors
	/// Why it would not be taken.
	pub async fn quote(&self, model: &ModelId, input: &Input, checks: u32) -> Result<Quote, Error> {
		let anchor = self.0.chain.finalised().await?;
		let model = self.0.chain.model(model, &anchor).await?;
		Quote::of(&model.ok_or(Error::NoModel)?, input, checks)
	}

	/// Says goodbye to validators to which connections are kept, and waits for theirs: what was sent last has been read then. Has to be
	/// called when no question is under way, before the process ends; who only drops the client leaves that to the Tokio runtime.
	pub async fn close(&self) {
		self.0.answered.close().await;
		self.0.checked.close().await;
	}

	/// Asks. Has to be called within a Tokio runtime.
	pub fn ask(&self, model: ModelId, input: Input, options: AskOptions) -> Answer {
		let (sender, events) = unbounded_channel();
		let (cancel, cancelled) = watch::channel(false);
		let inner = self.0.clone();
		tokio::spawn(async move {
			let events = Events(Some(sender));
			let asked = Asked {
				client: &inner,
				model,
				input,
				options,
				events: &events,
				cancelled,
				tried: Vec::new(),
				busy: Vec::new(),
				at_once: true,
				waits: false,
			};
			if let Err(e) = asked.run().await {
				events.end(Err(e));
			}
		});
		Answer { events, cancel }
	}
}

impl Inner {
	/// Returns the channel, if it takes requests and this wallet is its.
	async fn channel(&self) -> Result<Channel, Error> {
		let id = self.wallet.bound()?.channel;
		let channel = self.chain.channel(id).await?;
		let channel = channel.ok_or(Error::NoChannel(id))?;
		let (wallet, seen) = (self.wallet.clone(), channel.clone());
		blocking(move || wallet.check(&seen)).await?;
		if channel.closes_at.is_some() {
			return Err(Error::Closing(id));
		}
		Ok(channel)
	}
}

/// How many are before a question, in each line.
struct Ahead<'a> {
	events: &'a Events,
	lines: Mutex<(HashMap<AccountId, u32>, Option<u32>)>,
}

impl Ahead<'_> {
	/// Notes how long a line is, and says so where the shortest is another.
	fn tell(&self, who: &AccountId, count: u32) {
		self.change(|lines| {
			lines.insert(who.clone(), count);
		});
	}

	/// A line was left.
	fn leave(&self, who: &AccountId) {
		self.change(|lines| {
			lines.remove(who);
		});
	}

	fn change(&self, change: impl FnOnce(&mut HashMap<AccountId, u32>)) {
		let mut state = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
		let (lines, told) = &mut *state;
		change(lines);
		let least = lines.values().min().copied();
		if least.is_some() && least != *told {
			*told = least;
			let ahead = least.unwrap_or_default();
			self.events.send(Event::Waiting { ahead });
		}
	}
}

/// A question under way.
struct Asked<'a> {
	client: &'a Inner,
	model: ModelId,
	input: Input,
	options: AskOptions,
	events: &'a Events,
	cancelled: watch::Receiver<bool>,
	/// Who failed, and why.
	tried: Vec<(AccountId, Fault)>,
	/// Executors that were busy when they were asked, once each.
	busy: Vec<(AccountId, Fault)>,
	/// Whether whoever answered the question before may be asked without being asked what it offers now.
	at_once: bool,
	/// Whether the question waits for a place in a line, because an executor that had offered one was busy.
	waits: bool,
}

impl<'a> Asked<'a> {
	async fn run(mut self) -> Result<(), Error> {
		let mut attempts = self.client.settings.attempts.max(1);
		while attempts > 0 {
			let mut cancelled = self.cancelled.clone();
			let chosen = tokio::select! {
				chosen = self.choose() => chosen?,
				() = cancel(&mut cancelled) => return Err(Error::Cancelled),
			};
			let Some((scene, chosen)) = chosen else { break };
			let (asked, who) = (chosen.asked, chosen.able.lane.validator.clone());
			if let Some(record) = self.attempt(&scene, chosen).await? {
				return self.finish(&scene, record).await;
			}
			self.was_busy(&who, asked);
			if asked {
				attempts -= 1;
			} else {
				// Things may have changed since it offered: it is asked what it offers now.
				self.at_once = false;
				self.tried.retain(|(other, _)| *other != who);
			}
			if *self.cancelled.borrow() {
				break;
			}
		}
		let others =
			|(who, _): &(AccountId, Fault)| self.tried.iter().all(|(other, _)| other != who);
		let busy: Vec<_> = self
			.busy
			.iter()
			.filter(|busy| others(busy))
			.cloned()
			.collect();
		self.tried.extend(busy);
		Err(Error::NoAnswer(self.tried))
	}

	/// Whoever was asked may have been busy: others were quicker. A place is waited for then, also with it; but not twice.
	fn was_busy(&mut self, who: &AccountId, asked: bool) {
		let busy = |(other, why): &mut (AccountId, Fault)| other == who && why.is_busy();
		let before = self.busy.iter().any(|(other, _)| other == who);
		let Some(busy) = self.tried.pop_if(busy) else {
			return;
		};
		self.waits = true;
		if before {
			self.tried.push(busy);
		} else if asked {
			self.busy.push(busy);
		}
	}

	/// Finds who is to answer among those who were not tried, and waits for its turn; `None` where nobody is left.
	async fn choose(&mut self) -> Result<Option<(Scene, Offered)>, Error> {
		let turns = &self.client.executors;
		let mut won: Option<(AccountId, Turn)> = None;
		loop {
			let scene = self.scene().await?;
			let able = self.able(&scene).await?;
			if able.is_empty() {
				return Ok(None);
			}
			// What an executor holds is asked in its turn: the question before has paid for everything by then.
			let (ready, at_work): (Vec<_>, Vec<_>) = able
				.into_iter()
				.map(|able| {
					let who = &able.lane.validator;
					let turn = match won.take_if(|(winner, _)| winner == who) {
						Some((_, turn)) => Some(turn),
						None => turns.take(who),
					};
					(able, turn)
				})
				.partition(|(_, turn)| turn.is_some());
			won = None;
			if ready.is_empty() {
				let waits = at_work.iter().map(|(able, _)| {
					let who = able.lane.validator.clone();
					Box::pin(async move {
						let turn = turns.wait(&who).await;
						(who, turn)
					})
				});
				// Kept: whoever has waited longest is next.
				won = Some(select_all(waits).await.0);
				continue;
			}
			let ready = ready
				.into_iter()
				.filter_map(|(able, turn)| Some((able, turn?)));
			let mut ready: Vec<_> = ready.collect();
			if !self.waits {
				if let Some(again) = self.again(&mut ready).await? {
					return Ok(Some((scene, again)));
				}
			}
			let mut opening = self.opening(ready)?;
			let mut offers = self.offers(&mut opening).await;
			let best = offers.iter().enumerate().min_by_key(|(_, offered)| {
				let offer = &offered.offer.model;
				let price = offer.price.per_output_unit;
				(offer.free == 0, price, Reverse(offer.free))
			});
			match best {
				Some((best, offered)) if offered.offer.model.free > 0 && !self.waits => {
					return Ok(Some((scene, offers.swap_remove(best))));
				}
				// It would be refused, and a voucher would be held for nothing.
				Some(_) => {
					if let Some(chosen) = self.line(scene, offers, opening).await? {
						return Ok(Some(chosen));
					}
				}
				None => {}
			}
		}
	}

	/// Waits in the lines of all of them, and of those whose connections are still being opened, and takes the first place. Dropping the other
	/// connections leaves the other lines. `None` where there was no place in time: they count as tried then.
	async fn line(
		&mut self,
		scene: Scene,
		offers: Vec<Offered>,
		mut opening: Opening<'_>,
	) -> Result<Option<(Scene, Offered)>, Error> {
		let began = Instant::now();
		let patience = self.client.settings.place;
		let ahead = Ahead {
			events: self.events,
			lines: Mutex::default(),
		};
		let who = |offered: &Offered| offered.able.lane.validator.clone();
		let mut left: Vec<_> = offers.iter().map(who).collect();
		let mut failed = Vec::new();
		let mut waiting: FuturesUnordered<_> = offers
			.into_iter()
			.map(|offered| self.stand(offered, &ahead))
			.collect();
		let invited = loop {
			if waiting.is_empty() && opening.is_empty() {
				break None;
			}
			tokio::select! {
				Some((offered, stood)) = waiting.next() => {
					let Err(why) = stood else {
						break Some(offered);
					};
					let validator = who(&offered);
					ahead.leave(&validator);
					left.retain(|other| *other != validator);
					failed.push((validator, why));
				}
				Some(opened) = opening.next() => match self.offered(opened) {
					Ok(offered) if offered.offer.model.free > 0 && !self.waits => {
						break Some(offered);
					}
					Ok(offered) => {
						left.push(who(&offered));
						waiting.push(self.stand(offered, &ahead));
					}
					Err(fault) => failed.push(fault),
				},
				() = sleep_until(began + patience) => break None,
			}
		};
		drop(waiting);
		let Some(mut invited) = invited else {
			let late = Fault::NoPlace(patience.as_millis() as u64);
			failed.extend(left.into_iter().map(|who| (who, late.clone())));
			for (who, why) in failed {
				self.failed(who, None, why);
			}
			return Ok(None);
		};
		if began.elapsed() < STALE {
			return Ok(Some((scene, invited)));
		}
		let scene = self.scene().await?;
		let validator = who(&invited);
		let mut able = self.able(&scene).await?.into_iter();
		match able.find(|able| able.lane.validator == validator) {
			Some(able) => invited.able = able,
			None => {
				self.failed(validator, None, Fault::NotOffered);
				return Ok(None);
			}
		}
		Ok(Some((scene, invited)))
	}

	/// Waits in an executor's line until it keeps a place.
	async fn stand(&self, mut offered: Offered, ahead: &Ahead<'_>) -> (Offered, Result<(), Fault>) {
		let stood = async {
			let Offered {
				able, connection, ..
			} = &mut offered;
			let payee = &able.lane.validator;
			let waiter = self.client.wallet.waiter(payee, self.model);
			let waiter = waiter.map_err(|e| Fault::Connection(e.to_string()))?;
			connection.send(&ToValidator::Wait(waiter)).await?;
			loop {
				match connection.receive(QUIET).await? {
					ToClient::Waiting { ahead: count } => ahead.tell(payee, count),
					ToClient::Offer(said) if said.payee == *payee => {
						let mut models = said.models.into_iter();
						let model = models.find(|m| m.model == self.model && m.free > 0);
						let model = model.ok_or(Fault::NotOffered)?;
						let at = Instant::now();
						return Ok((Offer { model, at }, said.held_answer));
					}
					ToClient::Refused { why, words, .. } => {
						return Err(Fault::Refused(why, words));
					}
					other => return Err(unexpected(&other)),
				}
			}
		};
		match stood.await {
			Ok((offer, held)) => {
				offered.offer = offer;
				offered.held = held;
				offered.asked = true;
				(offered, Ok(()))
			}
			Err(why) => (offered, Err(why)),
		}
	}

	async fn scene(&self) -> Result<Scene, Error> {
		let chain = &self.client.chain;
		let model = async {
			let anchor = chain.finalised().await?;
			let model = chain.model(&self.model, &anchor).await?;
			Ok((anchor, model.ok_or(Error::NoModel)?))
		};
		let session = async { Ok(chain.session().await?) };
		let ((anchor, model), channel, session) = try_join!(model, self.client.channel(), session)?;
		Ok(Scene {
			quote: Quote::of(&model, &self.input, self.options.checks)?,
			session,
			seed: channel.seed.ok_or(Error::NoSeed(channel.id))?,
			channel,
			anchor,
			model,
		})
	}

	/// Returns who could answer.
	async fn able(&self, scene: &Scene) -> Result<Vec<Able>, Error> {
		let answer = scene.quote.answer;
		let mut able = Vec::new();
		let mut most = None;
		for lane in self.client.chain.lanes(&self.model).await? {
			let named = self.options.executor.as_ref();
			if named.is_some_and(|who| *who != lane.validator) {
				continue;
			}
			let mut allocations = scene.channel.allocations.iter();
			let Some(allocation) = allocations.find(|a| a.payee == lane.validator) else {
				continue;
			};
			let limit = allocation.allotment.limit();
			let (wallet, payee) = (self.client.wallet.clone(), lane.validator.clone());
			let signed = blocking(move || wallet.signed(&payee, Service::Answer)).await?;
			let left = limit.saturating_sub(signed);
			most = most.max(Some(left));
			if left >= answer && self.tried.iter().all(|(who, _)| *who != lane.validator) {
				able.push(Able {
					lane,
					limit,
					claimed: allocation.allotment.claimed,
				});
			}
		}
		match most {
			// Why there is nobody any more, those who were tried have said.
			_ if !able.is_empty() || !self.tried.is_empty() => Ok(able),
			None => Err(Error::NoExecutor(scene.channel.id)),
			Some(left) => Err(Error::Funds {
				needed: answer,
				left,
			}),
		}
	}

	/// Takes whoever answered before, if it has a place: over the same connection, and it may have kept what it has read. All executors have
	/// the model's price. One that had places a moment ago is not asked whether it still has.
	async fn again(&self, ready: &mut Vec<(Able, Turn)>) -> Result<Option<Offered>, Error> {
		let client = self.client;
		let channel = client.wallet.bound()?.channel;
		for place in 0..ready.len() {
			let lane = &ready[place].0.lane;
			let Some((mut connection, offer)) = client.answered.take(lane).await else {
				continue;
			};
			let stands = |offer: &Offer| self.at_once && offer.stands(&self.model);
			let (offer, held, asked) = match offer.filter(stands) {
				Some(offer) => {
					let (wallet, payee) = (client.wallet.clone(), lane.validator.clone());
					let last = blocking(move || wallet.last(&payee, Service::Answer)).await?;
					(offer, last, false)
				}
				None => {
					let said = connection.hello(lane, client.genesis, channel).await;
					let Ok(said) = said else { continue };
					let at = Instant::now();
					match said.models.into_iter().find(|m| m.model == self.model) {
						Some(model) if model.free > 0 => {
							(Offer { model, at }, said.held_answer, true)
						}
						_ => {
							client.answered.keep(lane, connection, None);
							// The others are asked together.
							return Ok(None);
						}
					}
				}
			};
			let (able, turn) = ready.swap_remove(place);
			return Ok(Some(Offered {
				able,
				turn,
				connection,
				offer,
				held,
				asked,
			}));
		}
		Ok(None)
	}

	/// Opens connections to executors, all at once, and asks what they offer.
	fn opening(&self, ready: Vec<(Able, Turn)>) -> Result<Opening<'a>, Error> {
		let client = self.client;
		let channel = client.wallet.bound()?.channel;
		let open = |(able, turn): (Able, Turn)| {
			let opening = async move {
				let lane = &able.lane;
				if let Some((mut connection, _)) = client.answered.take(lane).await {
					if let Ok(offer) = connection.hello(lane, client.genesis, channel).await {
						return (able, turn, Ok((connection, offer)));
					}
				}
				let patience = client.settings.connect;
				let opened = Connection::open(lane, client.genesis, channel, patience).await;
				(able, turn, opened)
			};
			opening.boxed()
		};
		Ok(ready.into_iter().map(open).collect())
	}

	/// Hears what they offer, until one has and others had a moment more.
	async fn offers(&mut self, opening: &mut Opening<'_>) -> Vec<Offered> {
		let mut offers = Vec::new();
		let mut until = None;
		loop {
			let next = match until {
				None => opening.next().await,
				Some(until) => timeout_at(until, opening.next()).await.unwrap_or(None),
			};
			let Some(opened) = next else {
				return offers;
			};
			match self.offered(opened) {
				Ok(offered) => {
					until = until.or(Some(offered.offer.at + GRACE));
					offers.push(offered);
				}
				Err((who, why)) => self.failed(who, None, why),
			}
		}
	}

	/// Looks for the model in what an executor offers.
	fn offered(&self, (able, turn, opened): Opened) -> Result<Offered, (AccountId, Fault)> {
		let who = able.lane.validator.clone();
		let (connection, offer) = match opened {
			Ok(opened) => opened,
			Err(why) => return Err((who, why)),
		};
		let held = offer.held_answer;
		let mut models = offer.models.into_iter();
		let Some(model) = models.find(|m| m.model == self.model) else {
			return Err((who, Fault::NotOffered));
		};
		let at = Instant::now();
		Ok(Offered {
			able,
			turn,
			connection,
			offer: Offer { model, at },
			held,
			asked: true,
		})
	}

	/// Sends the question to one executor; returns the record where that answered.
	async fn attempt(&mut self, scene: &Scene, chosen: Offered) -> Result<Option<Record>, Error> {
		let client = self.client;
		let Offered {
			able,
			turn,
			mut connection,
			offer,
			held,
			..
		} = chosen;
		let (lane, limit) = (able.lane, able.limit);
		let asking = Asking {
			chain: &*client.chain,
			wallet: &client.wallet,
			lane: &lane,
			limit,
			expires: scene.session.expires,
			session: scene.session.index,
			first: client.settings.first,
			next: client.settings.next,
			cancel: self.cancelled.clone(),
		};
		let counted = match self.counted(&asking, &mut connection, held).await {
			Ok(counted) => counted,
			Err(Stop::Error(e)) => return Err(e),
			Err(Stop::Fault(why)) => {
				self.failed(lane.validator, None, why);
				return Ok(None);
			}
		};
		let from = counted.max(able.claimed);
		// Its former question may have been paid since this was looked at.
		if from.saturating_add(scene.quote.answer) > limit {
			self.failed(lane.validator, None, Fault::Funds);
			return Ok(None);
		}
		let new = NewAsk {
			payee: lane.validator.clone(),
			model: self.model,
			input: self.input.clone(),
			anchor: scene.anchor,
			from,
			prompt: scene.quote.prompt,
			expires: scene.session.expires,
			limit,
		};
		let facts = Facts {
			genesis: client.genesis,
			seed: scene.seed,
			tip: scene.channel.chain,
			price: scene.model.price,
			check: scene.model.check,
			policy: scene.model.spec.policy,
			serving: scene.model.serving.clone(),
			keys: Vec::new(),
		};
		let (wallet, checks) = (client.wallet.clone(), self.options.checks);
		let (mut record, voucher, open) = blocking(move || {
			let paid = new.prompt;
			let (question, voucher, open) = wallet.begin_open(new)?;
			let record = Record::new(question, paid, checks, facts);
			wallet.put(&record)?;
			Ok::<_, WalletError>((record, voucher, open))
		})
		.await?;
		let number = record.ask.number;
		self.events.send(Event::Started {
			executor: lane.validator.clone(),
			number,
		});
		let outcome = asking
			.run(&mut connection, voucher, &mut record, self.events)
			.await;
		if let Err(Stop::Fault(why)) = &outcome {
			record.fault = Some(why.clone());
		}
		let (wallet, written) = (client.wallet.clone(), record.clone());
		blocking(move || wallet.put(&written)).await?;
		// It has its receipt, or is over.
		drop(open);
		// The next question's voucher must not overtake this one's last: it goes the same way, or this is at its end.
		match outcome {
			Ok(()) => client.answered.keep(&lane, connection, Some(offer)),
			Err(_) => drop(connection.close().await),
		}
		drop(turn);
		match outcome {
			Ok(()) => Ok(Some(record)),
			Err(Stop::Error(e)) => Err(e),
			Err(Stop::Fault(why)) => {
				self.failed(lane.validator, Some(number), why);
				Ok(None)
			}
		}
	}

	/// Returns what the executor's next voucher counts on from, once its last answer is paid as far as it arrived.
	async fn counted(
		&self,
		asking: &Asking<'_>,
		connection: &mut Connection,
		held: Option<Payment>,
	) -> Result<Balance, Stop> {
		let (wallet, payee) = (self.client.wallet.clone(), asking.lane.validator.clone());
		let shown = held.clone();
		let (amount, record) = blocking(move || {
			let amount = wallet.held(&payee, Service::Answer, shown.as_ref())?;
			let record = shown.map(|shown| wallet.record(shown.body.number));
			Ok::<_, WalletError>((amount, record.transpose()?.flatten()))
		})
		.await?;
		let amount = amount.ok_or(Stop::Fault(Fault::Held))?;
		let broke = |fault: &Option<Fault>| {
			matches!(fault, None | Some(Fault::Connection(_) | Fault::Silent(_)))
		};
		let (Some(held), Some(mut record)) = (held, record) else {
			return Ok(amount);
		};
		if record.receipt.is_some() || !broke(&record.fault) {
			return Ok(amount);
		}
		let Some(_open) = self.client.wallet.reopen(record.ask.number) else {
			return Ok(amount);
		};
		match asking.clone().resume(connection, held, &mut record).await {
			Ok(amount) => {
				let wallet = self.client.wallet.clone();
				blocking(move || wallet.put(&record)).await?;
				Ok(amount)
			}
			Err(Stop::Fault(Fault::Refused(..))) => Ok(amount),
			Err(e) => Err(e),
		}
	}

	/// Gets the answer checked, and says where it stands.
	async fn finish(&self, scene: &Scene, mut record: Record) -> Result<(), Error> {
		let client = self.client;
		let checking = Checking {
			chain: &*client.chain,
			wallet: &client.wallet,
			turns: &client.checkers,
			kept: &client.checked,
			pot: &client.pot,
			limit: scene.channel.pot.limit(),
			expires: scene.session.expires,
			connect: client.settings.connect,
			verdict: client.settings.verdict,
			place: client.settings.place,
		};
		// Where nobody is left who wants to know what checkers find, nobody pays them.
		if !self.events.is_closed() {
			checking.run(&mut record, self.events).await?;
		}
		let status = record.status().unwrap_or_else(|flaw| {
			tracing::error!(target: LOG_TARGET, %flaw, "A record of this client's does not verify");
			Status::Answered
		});
		self.events.send(Event::Done {
			number: record.ask.number,
			status,
		});
		Ok(())
	}

	fn failed(&mut self, executor: AccountId, number: Option<u32>, why: Fault) {
		self.events.send(Event::Failed {
			executor: executor.clone(),
			number,
			why: why.clone(),
		});
		self.tried.push((executor, why));
	}
}
