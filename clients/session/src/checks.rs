//! Having an answer checked by validators whom neither client nor executor chose.

use std::{sync::Arc, time::Duration};

use consilience_lane::message::{
	AccountId, Balance, CheckRequest, SignedVerdict, ToClient, ToValidator,
};
use consilience_primitives::session::{LaneKey, Service, Signable};
use futures::{stream::FuturesUnordered, StreamExt};
use polkadot_sdk::sp_core::H256;
use tokio::time::Instant;

use crate::{
	blocking,
	chain::{Chain, Lane},
	connection::{unexpected, Connection},
	error::{Error, Fault, WalletError},
	executor::Stop,
	kept::Kept,
	locks::{Pot, Promise, Turns},
	record::{verify_verdict, Check, Facts, Finding, Flaw, Outcome, Record},
	wallet::{Due, Wallet},
	Event, Events, LOG_TARGET,
};

/// What checking takes.
pub(crate) struct Checking<'a> {
	pub(crate) chain: &'a dyn Chain,
	pub(crate) wallet: &'a Arc<Wallet>,
	/// Whose turn it is with each checker.
	pub(crate) turns: &'a Turns,
	/// Connections to those who have checked before.
	pub(crate) kept: &'a Kept,
	/// What is not promised to other checks of the pot.
	pub(crate) pot: &'a Pot,
	/// What the pot admits.
	pub(crate) limit: Balance,
	/// Last session in which vouchers can be claimed.
	pub(crate) expires: u32,
	pub(crate) connect: Duration,
	/// For a verdict, and for each one less before it that waits to be measured.
	pub(crate) verdict: Duration,
	/// For all of that.
	pub(crate) place: Duration,
}

/// A verdict, the key that it is signed with, and what it says.
type Checked = (Box<SignedVerdict>, LaneKey, Finding);

/// What all checks of one answer have in common.
struct Subject {
	request: CheckRequest,
	/// Hash of the question.
	question: H256,
	/// Hash of the receipt.
	receipt: H256,
	session: u32,
	/// What a check costs.
	price: Balance,
	facts: Facts,
}

impl Subject {
	/// Returns what checkers are given of an answer; `None` of one that has no receipt.
	fn of(record: &Record, preimage: H256) -> Option<Self> {
		let (ask, facts) = (&record.ask, &record.facts);
		let receipt = record.receipt.clone()?;
		let (inputs, outputs) = (ask.input.units(), record.tokens.len() as u32);
		Some(Self {
			question: ask.hash(&facts.genesis),
			receipt: receipt.body.hash(&facts.genesis),
			session: receipt.body.session,
			price: facts.check.of(inputs, outputs)?,
			facts: facts.clone(),
			request: CheckRequest {
				receipt,
				ask: ask.clone(),
				output: record.output()?,
				preimage,
			},
		})
	}
}

impl Checking<'_> {
	/// Gets an answer with a receipt checked by as many as the record wants, in the order of the draw. What becomes of each is in the
	/// record, which is written down.
	pub(crate) async fn run(&self, record: &mut Record, events: &Events) -> Result<(), Error> {
		if record.receipt.is_none() || record.wanted == 0 || record.tokens.is_empty() {
			return Ok(());
		}
		let number = record.ask.number;
		// No longer than somebody wants to know.
		tokio::select! {
			() = self.wallet.show(number) => (),
			() = events.closed() => return Ok(()),
		}
		let wallet = self.wallet.clone();
		let preimage = blocking(move || {
			wallet.note_shown(number)?;
			wallet.preimage(number)
		})
		.await?;
		record.preimage = Some(preimage);
		let subject = Subject::of(record, preimage).ok_or(Error::Price)?;
		let lanes = self.chain.lanes(&record.ask.model).await?;
		let order = record.facts.candidates(&record.ask, &preimage);
		let mut waiting = order.iter().enumerate();
		let mut outcomes: Vec<Option<Outcome>> = Vec::new();
		let mut running = FuturesUnordered::new();
		let mut missing = record.wanted as usize;
		loop {
			while running.len() < missing {
				let Some((place, checker)) = waiting.next() else {
					break;
				};
				outcomes.push(None);
				let Some(promise) = self.promise(subject.price).await? else {
					// For the others there is no more than for this one.
					waiting.by_ref().for_each(drop);
					outcomes[place] = Some(skip(checker, Fault::Funds, events));
					break;
				};
				let lane = lanes.iter().find(|lane| lane.validator == *checker);
				let subject = &subject;
				running.push(async move {
					let outcome = match lane {
						Some(lane) => self.check(lane, subject, events).await,
						None => Err(Stop::Fault(Fault::NoLane)),
					};
					drop(promise);
					(place, checker, outcome)
				});
			}
			let Some((place, checker, outcome)) = running.next().await else {
				break;
			};
			let checker = checker.clone();
			let outcome = match outcome {
				Ok((verdict, key)) => {
					missing -= 1;
					let session = verdict.body.session;
					record.facts.certify(&checker, session, key);
					Outcome::Verdict(verdict)
				}
				Err(Stop::Fault(why)) => skip(&checker, why, events),
				Err(Stop::Error(e)) => return Err(e),
			};
			if let Some(slot) = outcomes.get_mut(place) {
				*slot = Some(outcome);
			}
			record.checks = order
				.iter()
				.zip(&outcomes)
				.map_while(|(checker, outcome)| {
					outcome.clone().map(|outcome| Check {
						checker: checker.clone(),
						outcome,
					})
				})
				.collect();
			let (wallet, written) = (self.wallet.clone(), record.clone());
			blocking(move || wallet.put(&written)).await?;
		}
		Ok(())
	}

	/// Sets the price of a check apart; `None` where the pot has no more for one.
	async fn promise(&self, price: Balance) -> Result<Option<Promise>, WalletError> {
		let (wallet, pot) = (self.wallet.clone(), self.pot.clone());
		let limit = self.limit;
		let left = move || Ok(limit.saturating_sub(wallet.spent(Service::Check)?));
		blocking(move || pot.promise(price, left)).await
	}

	/// Asks one validator to check, and pays it where its verdict is one. Returns that, and the key that it is signed with.
	async fn check(
		&self,
		lane: &Lane,
		subject: &Subject,
		events: &Events,
	) -> Result<(Box<SignedVerdict>, LaneKey), Stop> {
		let checker = &lane.validator;
		// One at a time: its payments have to come to it in their order.
		let _turn = self.turns.wait(checker).await;
		events.send(Event::Checking {
			checker: checker.clone(),
		});
		let (verdict, key, finding) = match self.again(lane, subject).await {
			Some(checked) => checked?,
			None => self.anew(lane, subject).await?,
		};
		events.send(Event::Verdict {
			checker: checker.clone(),
			finding,
		});
		Ok((verdict, key))
	}

	/// Asks over the connection that the checker's last check has left. `None` where there is none, or it is broken.
	async fn again(&self, lane: &Lane, subject: &Subject) -> Option<Result<Checked, Stop>> {
		let (connection, _) = self.kept.take(lane).await?;
		let (wallet, payee) = (self.wallet.clone(), lane.validator.clone());
		let last = blocking(move || wallet.last(&payee, Service::Check)).await;
		let from = match last {
			Ok(last) => last.map_or(0, |last| last.body.amount),
			Err(e) => return Some(Err(e.into())),
		};
		match self.over(connection, lane, subject, from).await {
			Err(Stop::Fault(Fault::Connection(_))) => None,
			checked => Some(checked),
		}
	}

	/// Asks over a new connection.
	async fn anew(&self, lane: &Lane, subject: &Subject) -> Result<Checked, Stop> {
		let (genesis, channel) = (subject.facts.genesis, subject.request.ask.channel);
		let opened = Connection::open(lane, genesis, channel, self.connect).await;
		let (connection, offer) = opened.map_err(Stop::Fault)?;
		let (wallet, payee) = (self.wallet.clone(), lane.validator.clone());
		let held = move || wallet.held(&payee, Service::Check, offer.held_check.as_ref());
		let from = blocking(held).await?.ok_or(Stop::Fault(Fault::Held))?;
		self.over(connection, lane, subject, from).await
	}

	/// Asks and pays; keeps the connection where all went well.
	async fn over(
		&self,
		mut connection: Connection,
		lane: &Lane,
		subject: &Subject,
		from: Balance,
	) -> Result<Checked, Stop> {
		let number = subject.request.ask.number;
		let checked = async {
			let from = self.late(&mut connection, lane, number, from).await?;
			self.measure(&mut connection, lane, subject, from).await
		};
		let checked = checked.await;
		match checked {
			Ok(_) => self.kept.keep(lane, connection, None),
			Err(_) => drop(connection.close().await),
		}
		checked
	}

	/// Fetches and pays what a checker found of a former answer when nobody waited for it any more: it checks nothing else before. Returns
	/// what the next voucher counts on from.
	async fn late(
		&self,
		connection: &mut Connection,
		lane: &Lane,
		number: u32,
		from: Balance,
	) -> Result<Balance, Stop> {
		let (wallet, checker) = (self.wallet.clone(), lane.validator.clone());
		let found = blocking(move || {
			let noted = wallet.noted_check(&checker)?.filter(|n| *n != number);
			let Some(noted) = noted else {
				return Ok(None);
			};
			let preimage = wallet.preimage(noted)?;
			Ok::<_, WalletError>(wallet.record(noted)?.map(|record| (record, preimage)))
		})
		.await?;
		let Some((mut record, preimage)) = found else {
			return Ok(from);
		};
		let Some(subject) = Subject::of(&record, preimage) else {
			return Ok(from);
		};
		let promise = self.promise(subject.price).await?;
		let _promise = promise.ok_or(Stop::Fault(Fault::Funds))?;
		match self.measure(connection, lane, &subject, from).await {
			Ok((verdict, key, _)) => {
				let checker = &lane.validator;
				let session = verdict.body.session;
				let mut checks = record.checks.iter_mut();
				if let Some(check) = checks.find(|check| check.checker == *checker) {
					check.outcome = Outcome::Verdict(verdict);
					record.facts.certify(checker, session, key);
				}
				let (wallet, checker) = (self.wallet.clone(), checker.clone());
				let last = move || {
					wallet.put(&record)?;
					wallet.last(&checker, Service::Check)
				};
				let last = blocking(last).await?;
				Ok(last.map_or(from, |last| last.body.amount))
			}
			// It has not checked that, and will not: it may check this.
			Err(Stop::Fault(Fault::Refused(..))) => Ok(from),
			Err(e) => Err(e),
		}
	}

	async fn measure(
		&self,
		connection: &mut Connection,
		lane: &Lane,
		subject: &Subject,
		from: Balance,
	) -> Result<Checked, Stop> {
		let checker = &lane.validator;
		let ask = &subject.request.ask;
		self.note(checker, Some(ask.number)).await?;
		let message = ToValidator::Check(Box::new(subject.request.clone()));
		connection.send(&message).await.map_err(Stop::Fault)?;
		let end = Instant::now() + self.place.max(self.verdict);
		let mut until = Instant::now() + self.verdict;
		let mut least = u32::MAX;
		let message = loop {
			let left = until.saturating_duration_since(Instant::now());
			let message = connection.receive(left).await.map_err(|why| match why {
				Fault::Silent(_) => Fault::Silent(self.verdict.as_millis() as u64),
				why => why,
			});
			match message.map_err(Stop::Fault)? {
				// It goes on; who only says so is not waited for.
				ToClient::Waiting { ahead } => {
					if ahead < least {
						least = ahead;
						until = end.min(Instant::now() + self.verdict);
					}
				}
				// What became of the check before is known.
				ToClient::Refused {
					number: Some(of), ..
				} if of != ask.number => (),
				message => break message,
			}
		};
		let verdict = match message {
			ToClient::Verdict(verdict) => verdict,
			other => {
				self.note(checker, None).await?;
				return Err(Stop::Fault(match other {
					ToClient::Refused { why, words, .. } => Fault::Refused(why, words),
					other => unexpected(&other),
				}));
			}
		};
		let session = verdict.body.session;
		let mut facts = subject.facts.clone();
		let keys = self.chain.lane_keys(checker, session).await?;
		for key in &keys {
			facts.certify(checker, session, *key);
		}
		let key = keys
			.into_iter()
			.find(|key| verdict.verify(&facts.genesis, key));
		let found = verify_verdict(&facts, checker, &subject.receipt, subject.session, &verdict);
		let (Some(key), Ok(finding)) = (key, &found) else {
			self.note(checker, None).await?;
			return Err(Stop::Fault(match found {
				Err(Flaw::Verdict(_)) => Fault::Verdict,
				_ => Fault::VerdictSignature,
			}));
		};
		if subject.price == 0 {
			self.note(checker, None).await?;
			return Ok((verdict, key, *finding));
		}
		let due = Due {
			payee: checker.clone(),
			service: Service::Check,
			number: ask.number,
			request: subject.question,
			transcript: verdict.body.hash(&facts.genesis),
			from: Some(from),
			amount: subject.price,
			expires: self.expires,
			limit: self.limit,
		};
		let wallet = self.wallet.clone();
		let payment = blocking(move || wallet.pay(&due)).await?;
		// The verdict stands, whether or not its payment arrives.
		if let Err(why) = connection.send(&ToValidator::Pay(payment)).await {
			tracing::debug!(target: LOG_TARGET, %checker, %why, "A check's payment was not sent");
		}
		Ok((verdict, key, *finding))
	}

	/// See [`Wallet::note_check`].
	async fn note(&self, checker: &AccountId, number: Option<u32>) -> Result<(), WalletError> {
		let (wallet, checker) = (self.wallet.clone(), checker.clone());
		blocking(move || wallet.note_check(&checker, number)).await
	}
}

fn skip(checker: &AccountId, why: Fault, events: &Events) -> Outcome {
	events.send(Event::Skipped {
		checker: checker.clone(),
		why: why.clone(),
	});
	Outcome::Skipped(why)
}
