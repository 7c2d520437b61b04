//! Checks. The rules are at the top of the crate.

use std::{
	sync::{atomic::Ordering, Arc},
	time::Duration,
};

use consilience_primitives::{
	evidence::Evidence,
	model::{Task, VerificationPolicy},
	request::{Input, Output},
	session::{
		check_challenge, is_preimage, measured_input, sampling_seed, ChannelId, Service, Signable,
		Transcript, Verdict, MAX_NUMBER,
	},
	ModelId,
};
use polkadot_sdk::sp_core::H256;
use tokio::{
	sync::{OwnedMutexGuard, OwnedSemaphorePermit, SemaphorePermit},
	time::{sleep, sleep_until, Instant},
};

use crate::{
	chain::Channel,
	engine::EngineError,
	executor::{channel, model, turn, Out},
	journal::{amount, Batch, Checked, Checks},
	message::{AccountId, Balance, CheckRequest, Payment, Refusal, ToClient},
	voucher::{wrong, Terms},
	Refused, Shared, LOG_TARGET,
};

/// Begins a check, or says again what it found.
pub(crate) async fn check(
	lane: &Arc<Shared>,
	request: CheckRequest,
	out: &Out,
) -> Result<(), Refused> {
	let id = request.ask.channel;
	let slot = lane.slot(id);
	let turn = turn(&slot.checks, Duration::ZERO).await?;
	let receipt = request.receipt.body.hash(&lane.genesis);
	let checks = lane.journal.checks(id)?;
	if let Some(last) = last(lane, id, &checks)?.filter(|last| last.voucher.is_none()) {
		if last.verdict.body.receipt != receipt {
			return Err(Refused::new(
				Refusal::Unpaid,
				format!("the check of request {} is not paid", last.number),
			));
		}
		say(out, &last).await;
		return Ok(());
	}
	let (work, checks) = take(lane, request, receipt, checks).await?;
	let queued = lane.checking.clone().try_acquire_owned();
	let queued = queued.map_err(|_| busy())?;
	let task = measure(lane.clone(), (turn, queued), work, checks, out.clone());
	lane.tasks.spawn(task);
	Ok(())
}

fn busy() -> Refused {
	Refused::new(Refusal::Busy, "no place is free")
}

fn last(lane: &Shared, id: ChannelId, checks: &Checks) -> Result<Option<Checked>, Refused> {
	match checks.count.checked_sub(1) {
		Some(place) => Ok(lane.journal.verdict(id, place)?),
		None => Ok(None),
	}
}

async fn say(out: &Out, checked: &Checked) {
	let verdict = Box::new(checked.verdict.clone());
	// A client that is gone may ask again.
	let _ = out.send(ToClient::Verdict(verdict)).await;
}

/// A check that was taken.
struct Work {
	channel: ChannelId,
	number: u32,
	model: ModelId,
	input: Input,
	output: Output,
	seed: H256,
	policy: VerificationPolicy,
	challenge: H256,
	receipt: H256,
	request: H256,
	checker: AccountId,
	session: u32,
	price: Balance,
	#[cfg(feature = "liars")]
	drawn: crate::Drawn,
}

/// Checks that everything belongs together, and that the pot can pay.
async fn take(
	lane: &Shared,
	request: CheckRequest,
	receipt: H256,
	mut checks: Checks,
) -> Result<(Work, Checks), Refused> {
	let CheckRequest {
		receipt: signed,
		ask,
		output,
		preimage,
	} = request;
	let session = lane.chain.session().await?;
	let (me, certified) = lane.signer(&session)?;
	let (channel, seed) = channel(lane, ask.channel).await?;
	let refused = |words: &str| Refused::new(Refusal::Receipt, words);
	let body = &signed.body;
	let name = ask.hash(&lane.genesis);
	let Output::Text {
		tokens,
		text,
		finish,
	} = &output
	else {
		return Err(refused("the answer is no text"));
	};
	let input_units = ask.input.units();
	let fields = [
		(body.channel == ask.channel, "channel"),
		(body.number == ask.number, "number"),
		(body.payee == ask.payee, "payee"),
		(body.anchor == ask.anchor, "anchor"),
		(body.request == name, "question"),
		(body.input_units == input_units, "input units"),
		(body.output_units as usize == tokens.len(), "output units"),
		(output.fits(Task::TextGeneration), "answer"),
		(
			body.transcript == Transcript::of(&name, tokens, text, *finish),
			"transcript",
		),
	];
	if let Some((_, what)) = fields.iter().find(|(fits, _)| !fits) {
		return Err(refused(&format!("its {what} is another")));
	}
	if ask.payee == me {
		return Err(refused("nobody checks its own answers"));
	}
	let key = lane.chain.lane_key(&body.payee, body.session).await?;
	if !key.is_some_and(|key| signed.verify(&lane.genesis, &key)) {
		return Err(refused("it is not signed by the executor's lane key"));
	}
	// Only those who were shown the preimage can make other checks of the channel wait for an anchor.
	checks.link = Some(link(&channel, ask.number, preimage, checks.link)?);
	let (model, _) = model(lane, &ask).await?;
	if !model.serving.contains(&me) {
		return Err(Refused::new(
			Refusal::Model,
			"the model was not served here at the anchor",
		));
	}
	if !model.serving.contains(&ask.payee)
		|| Some(body.amount) != model.price.of(input_units, body.output_units)
	{
		return Err(refused("the executor could not sell this at this price"));
	}
	let price = model
		.check
		.of(input_units, body.output_units)
		.ok_or_else(|| refused("the price of a check is no amount"))?;
	if !can_pay(lane, &channel, &me, amount(&checks.held), price).await? {
		return Err(Refused::new(
			Refusal::Channel,
			"the pot for checks cannot pay",
		));
	}
	let challenge = check_challenge(&preimage, &receipt, &me);
	#[cfg(feature = "liars")]
	let drawn = {
		let mut serving = model.serving;
		serving.retain(|who| *who != ask.payee);
		crate::Drawn {
			checker: me.clone(),
			executor: ask.payee.clone(),
			order: consilience_primitives::session::candidates(&seed, &preimage, serving),
			policy: model.spec.policy,
			challenge,
		}
	};
	let work = Work {
		#[cfg(feature = "liars")]
		drawn,
		challenge,
		channel: ask.channel,
		number: ask.number,
		model: ask.model,
		input: measured_input(&ask.input, &output),
		output,
		seed: sampling_seed(&seed, ask.number),
		policy: model.spec.policy,
		receipt,
		request: name,
		checker: me,
		session: certified,
		price,
	};
	Ok((work, checks))
}

/// Whether the pot has so much left for this checker, as far as the chain knows.
async fn can_pay(
	lane: &Shared,
	channel: &Channel,
	me: &AccountId,
	paid: Balance,
	price: Balance,
) -> Result<bool, Refused> {
	if channel.closes_at.is_some() {
		return Ok(false);
	}
	let own = lane.chain.claimed(channel.id, me, Service::Check).await?;
	let owed = paid.saturating_sub(own).saturating_add(price);
	let left = channel.pot.limit().saturating_sub(channel.pot.claimed);
	Ok(owed <= left)
}

/// The highest link of the channel's hash chain that is known, with this preimage. From a link that was shown it takes as many steps as
/// there are numbers between; from the tip at most [`MAX_NUMBER`].
fn link(
	channel: &Channel,
	number: u32,
	preimage: H256,
	known: Option<(u32, H256)>,
) -> Result<(u32, H256), Refused> {
	let wrong = || Refused::new(Refusal::Preimage, "the preimage is not the channel's");
	if number == 0 || number > MAX_NUMBER {
		return Err(Refused::new(Refusal::Number, "there is no such number"));
	}
	match &known {
		Some((at, link)) if *at == number => {
			return if *link == preimage {
				Ok((*at, *link))
			} else {
				Err(wrong())
			};
		}
		Some((at, link)) if *at < number => {
			let fits = is_preimage(&preimage, number, (*at, link));
			return if fits {
				Ok((number, preimage))
			} else {
				Err(wrong())
			};
		}
		// Below what is known: the known link leads to it.
		Some((at, link)) => {
			let leads = consilience_primitives::session::steps(link, at - number) == preimage;
			return if leads {
				Ok((*at, *link))
			} else {
				Err(wrong())
			};
		}
		None => (),
	}
	if is_preimage(&preimage, number, (0, &channel.chain)) {
		Ok((number, preimage))
	} else {
		Err(wrong())
	}
}

/// Waits to be measured: whoever came first is first. Tells the client now and then how many are before it.
async fn place<'a>(lane: &'a Shared, out: &Out) -> Option<SemaphorePermit<'a>> {
	let number = lane.checks_asked.fetch_add(1, Ordering::Relaxed);
	let mut place = std::pin::pin!(lane.measuring.acquire());
	let until = Instant::now() + lane.config.check_wait;
	let place = loop {
		tokio::select! {
			biased;
			// A semaphore of this crate's is never closed.
			place = &mut place => break place.ok(),
			() = sleep_until(until) => break None,
			() = sleep(lane.config.tell) => {
				let before = number.saturating_sub(lane.checks_begun.load(Ordering::Relaxed));
				let ahead = u32::try_from(before).unwrap_or(u32::MAX);
				// It may be gone, or read nothing.
				let _ = out.try_send(ToClient::Waiting { ahead });
			}
		}
	};
	lane.checks_begun.fetch_add(1, Ordering::Relaxed);
	place
}

/// Measures and signs. Goes on where the client goes away: it may come for the verdict, and owes its price.
async fn measure(
	lane: Arc<Shared>,
	_held: (OwnedMutexGuard<()>, OwnedSemaphorePermit),
	work: Work,
	mut checks: Checks,
	out: Out,
) {
	#[cfg(feature = "liars")]
	if let Some(evidence) = lane.lies().unmeasured(&work.drawn) {
		if let Ok(checked) = keep(&lane, &work, &mut checks, evidence).await {
			say(&out, &checked).await;
		}
		return;
	}
	let measured = match place(&lane, &out).await {
		Some(_place) => {
			let measured = lane.engine.measure(
				&work.model,
				&work.input,
				work.seed,
				&work.output,
				work.challenge,
			);
			measured.await
		}
		None => Err(EngineError::Busy),
	};
	let evidence = match measured {
		Ok(evidence) => Ok(evidence),
		Err(EngineError::Unanswerable(_)) => {
			Ok(Evidence::of_refusal(work.policy.class, &work.challenge))
		}
		Err(EngineError::Busy) => Err(busy()),
		Err(EngineError::Failed(why)) => {
			tracing::warn!(target: LOG_TARGET, "{:?}: {why}", work.model);
			Err(Refused::new(Refusal::Failed, "the engine failed"))
		}
	};
	let kept = match evidence {
		Ok(evidence) => keep(&lane, &work, &mut checks, evidence).await,
		Err(refused) => Err(refused),
	};
	match kept {
		Ok(checked) => {
			lane.metrics.check("measured");
			say(&out, &checked).await;
		}
		Err(Refused(why, words)) => {
			lane.metrics.refused(why);
			let number = Some(work.number);
			// It may be gone.
			let _ = out.send(ToClient::Refused { number, why, words }).await;
		}
	}
}

async fn keep(
	lane: &Shared,
	work: &Work,
	checks: &mut Checks,
	evidence: Evidence,
) -> Result<Checked, Refused> {
	let verdict = Verdict {
		receipt: work.receipt,
		checker: work.checker.clone(),
		session: work.session,
		evidence,
	};
	let checked = Checked {
		hash: verdict.hash(&lane.genesis),
		verdict: lane.sign(verdict),
		number: work.number,
		request: work.request,
		price: work.price,
		voucher: None,
	};
	let place = checks.count;
	checks.count = place
		.checked_add(1)
		.ok_or_else(|| Refused::new(Refusal::Number, "there are no more checks in this channel"))?;
	let batch = Batch::default()
		.verdict(work.channel, place, &checked)
		.checks(work.channel, checks);
	lane.journal.write(batch).await?;
	Ok(checked)
}

/// Takes a voucher for the last check.
pub(crate) async fn pay(lane: &Shared, voucher: &Payment) -> Result<(), Refused> {
	let body = &voucher.body;
	let slot = lane.slot(body.channel);
	let _turn = turn(&slot.checks, Duration::ZERO).await?;
	let mut checks = lane.journal.checks(body.channel)?;
	let mut checked = last(lane, body.channel, &checks)?
		.ok_or_else(|| wrong("nothing was checked for this channel"))?;
	match &checked.voucher {
		Some(taken) if taken == voucher => return Ok(()),
		Some(_) => return Err(wrong("the last check is paid")),
		None => (),
	}
	let session = lane.chain.session().await?;
	let (me, _) = lane.signer(&session)?;
	let (channel, _) = channel(lane, body.channel).await?;
	Terms {
		genesis: &lane.genesis,
		key: &channel.key,
		channel: channel.id,
		payee: &me,
		service: Service::Check,
		number: checked.number,
		request: &checked.request,
		session,
	}
	.check(voucher)?;
	if body.transcript != checked.hash {
		return Err(wrong("the voucher is for another verdict"));
	}
	let claimed = lane.chain.claimed(channel.id, &me, Service::Check).await?;
	let base = amount(&checks.held).max(claimed);
	if base.checked_add(checked.price) != Some(body.amount) {
		return Err(wrong(format!(
			"{base} are paid, and the check costs {}: the voucher is over something else",
			checked.price
		)));
	}
	if body.amount > channel.pot.limit() {
		return Err(wrong("the voucher is over more than the pot"));
	}
	checks.held = Some(voucher.clone());
	checked.voucher = Some(voucher.clone());
	let batch = Batch::default()
		.verdict(channel.id, checks.count.saturating_sub(1), &checked)
		.checks(channel.id, &checks);
	lane.journal.write(batch).await?;
	lane.metrics.check("paid");
	Ok(())
}
