//! Answers. The rules are at the top of the crate.

use std::{sync::Arc, time::Duration};

use codec::Compact;
use consilience_primitives::{
	model::Task,
	request::Output,
	session::{
		sampling_seed, Anchor, ChannelId, LaneKey, Receipt, Release, Service, Signable, Transcript,
		MAX_ANCHOR_AGE, MAX_NUMBER, SLICE_TOKENS,
	},
};
use polkadot_sdk::sp_core::H256;
use tokio::{
	sync::{mpsc, OwnedMutexGuard, Semaphore},
	time::{sleep_until, timeout, Instant},
};

use crate::{
	chain::{Channel, Model, Session},
	engine::{Answering, EngineError, Piece},
	journal::{amount, Account, Answer, Batch, ClaimState, Ending, Fragment},
	line::{Invitation, Place},
	lock,
	message::{
		AccountId, Balance, BlockNumber, End, Frame, Payment, Progress, Question, Refusal,
		SignedRelease, ToClient,
	},
	voucher::{allotment, wrong, Terms},
	Config, Refused, Shared, Slot, FORGIVEN, LOG_TARGET, MAX_DEBT,
};

/// Where messages for a client go. When the connection is gone, it is closed.
pub(crate) type Out = mpsc::Sender<ToClient>;

/// Messages for an answer that may wait until it looks at them.
const COMMANDS: usize = 64;

/// How long is waited for whoever is about to be done with a channel.
const TURN: Duration = Duration::from_secs(2);

/// How long an answer that is being written for a connection that is gone may take to end.
const CUT: Duration = Duration::from_secs(10);

/// Waits for whoever changes what is kept of a channel.
pub(crate) async fn turn(
	lock: &Arc<tokio::sync::Mutex<()>>,
	patience: Duration,
) -> Result<OwnedMutexGuard<()>, Refused> {
	let turn = timeout(patience, lock.clone().lock_owned()).await;
	turn.map_err(|_| Refused::new(Refusal::Busy, "something else is done for this channel"))
}

/// The voucher on which the next one counts on.
pub(crate) fn held(lane: &Shared, channel: ChannelId) -> Result<Option<Payment>, Refused> {
	let account = lane.journal.account(channel)?;
	let Some(last) = lane.journal.answer(channel, account.last)? else {
		return Ok(account.held);
	};
	let nobody = lock(&lane.slot(channel).running).is_none();
	// Of one of which nothing was said when the process ended, nothing will be owed, unless the client asks again.
	if nobody
		&& last.end == Ending::Open
		&& lane.journal.fragments(channel, account.last)?.is_empty()
	{
		return Ok(last.before);
	}
	Ok(account.held)
}

/// Gives leave to take back what a channel sets apart for this validator beyond what it has claimed, where it will claim no more: the
/// channel is closing, so that no question is taken any more, and all that can be claimed is.
pub(crate) async fn release(lane: &Shared, id: ChannelId) -> Result<SignedRelease, Refused> {
	let session = lane.chain.session().await?;
	let (payee, session) = lane.signer(&session)?;
	let (channel, _) = channel(lane, id).await?;
	if channel.closes_at.is_none() {
		let words = "the channel is not closing in finalised state";
		return Err(Refused::new(Refusal::Channel, words));
	}
	let allocation = channel.allocations.iter().find(|a| a.payee == payee);
	let allocation = allocation.ok_or_else(|| {
		let words = "the channel sets nothing apart for this validator";
		Refused::new(Refusal::Channel, words)
	})?;
	let claimed = allocation.allotment.claimed;
	let slot = lane.slot(id);
	let _turn = turn(&slot.answers, TURN).await?;
	let owed = amount(&lane.journal.account(id)?.held).saturating_sub(claimed);
	// Less than that is never claimed.
	if owed >= lane.chain.claim_bounds().await?.least.max(1) {
		let words = "what is owed is claimed first: ask again in some blocks";
		return Err(Refused::new(Refusal::Busy, words));
	}
	Ok(lane.sign(Release {
		channel: id,
		payee,
		session,
		releases: allocation.releases,
		amount: claimed,
	}))
}

/// What a client says about an answer that is being written.
pub(crate) enum Command {
	/// A voucher.
	Pay(Box<Payment>),
	/// It has seen enough.
	Cancel,
}

/// An answer that is being written.
pub(crate) struct Running {
	pub(crate) number: u32,
	pub(crate) commands: mpsc::Sender<Command>,
}

/// What a channel says, for one that is open to this validator.
pub(crate) async fn channel(lane: &Shared, id: ChannelId) -> Result<(Channel, H256), Refused> {
	let refused = |words: &str| Refused::new(Refusal::Channel, words);
	let channel = lane.view(id).await?;
	let channel = channel.ok_or_else(|| refused("there is no such channel in finalised state"))?;
	let seed = channel
		.seed
		.ok_or_else(|| refused("the channel's seed is not drawn yet"))?;
	Ok((channel, seed))
}

/// Waits for a block to be finalised, which it may be a moment later here, and returns the last number that is.
async fn finalised(lane: &Shared, anchor: &Anchor<BlockNumber>) -> Result<BlockNumber, Refused> {
	let refused = |words: &str| Refused::new(Refusal::Anchor, words);
	let mut heads = lane.chain.heads();
	let reached = heads.wait_for(|heads| heads.finalised.number >= anchor.number);
	let head = match timeout(lane.config.anchor, reached).await {
		Ok(Ok(heads)) => heads.finalised.number,
		_ => return Err(refused("the block is not finalised here")),
	};
	if lane.chain.finalised_hash(anchor.number).await? != Some(anchor.hash) {
		return Err(refused("the block is not a finalised one"));
	}
	Ok(head)
}

/// The model at the anchor.
pub(crate) async fn model(lane: &Shared, ask: &Question) -> Result<(Model, BlockNumber), Refused> {
	let head = finalised(lane, &ask.anchor).await?;
	let found = lane.chain.model(&ask.model, &ask.anchor).await?;
	let model = found
		.filter(|model| model.spec.task == Task::TextGeneration)
		.ok_or_else(|| Refused::new(Refusal::Model, "there is no such text model at the anchor"))?;
	ask.input
		.validate(&model.spec)
		.map_err(|e| Refused::new(Refusal::Input, format!("the model does not take it: {e:?}")))?;
	Ok((model, head))
}

/// The place of whoever was invited, or one that nobody waits for.
fn place(
	lane: &Shared,
	ask: &Question,
	invitation: &mut Option<Invitation>,
) -> Result<Place, Refused> {
	let place = invitation.take().and_then(Invitation::take);
	let place = place.or_else(|| lane.line.place(&ask.model));
	place.ok_or_else(|| Refused::new(Refusal::Busy, "no place is free: wait for one"))
}

/// Takes a question: begins its answer, or says again what was said. An invitation is used up only where an answer begins.
pub(crate) async fn ask(
	lane: &Arc<Shared>,
	ask: Question,
	voucher: Payment,
	invitation: &mut Option<Invitation>,
	out: &Out,
	replay: &Arc<Semaphore>,
) -> Result<Option<Running>, Refused> {
	let slot = lane.slot(ask.channel);
	let request = ask.hash(&lane.genesis);
	let number = ask.number;
	if let Some(answer) = lane.journal.answer(ask.channel, number)? {
		if answer.request == request && answer.end != Ending::Nothing {
			// Checkers know the question too.
			let (channel, _) = channel(lane, ask.channel).await?;
			let signed =
				voucher.body.request == request && voucher.verify(&lane.genesis, &channel.key);
			if !signed {
				return Err(wrong("the voucher is not signed by the channel's key"));
			}
			return again(lane, slot, ask, request, invitation, out, replay).await;
		}
		return Err(Refused::new(Refusal::Number, "the number was used"));
	}
	// Nobody but the client holds the channel, and not even it while the anchor is waited for.
	admit(lane, &ask, &request, &voucher).await?;
	let (model, head) = model(lane, &ask).await?;
	let turn = turn(&slot.answers, TURN).await?;
	let mut taken = take(lane, ask, request, &voucher, model, head, invitation).await?;
	taken.account.last = number;
	taken.account.held = Some(voucher);
	let batch = Batch::default()
		.ask(&taken.ask)
		.answer(taken.ask.channel, number, &taken.answer)
		.account(taken.ask.channel, &taken.account);
	lane.journal.write(batch).await?;
	Ok(Some(begin(lane, slot, turn, taken, out)))
}

/// A question that was taken.
struct Taken {
	ask: Question,
	/// Of the channel.
	seed: H256,
	answer: Answer,
	account: Account,
	paying: Paying,
	place: Place,
}

/// What vouchers for an answer are checked by while it is written.
struct Paying {
	key: LaneKey,
	me: AccountId,
	available: Balance,
	session: Session,
}

/// A channel that takes questions for this validator, its seed, and what vouchers are checked by.
async fn open(lane: &Shared, ask: &Question) -> Result<(Channel, H256, Paying), Refused> {
	let session = lane.chain.session().await?;
	let (me, _) = lane.signer(&session)?;
	let (channel, seed) = channel(lane, ask.channel).await?;
	let paying = paying(&channel, me, session)?;
	if channel.closes_at.is_some() {
		return Err(Refused::new(Refusal::Channel, "the channel is closing"));
	}
	if ask.payee != paying.me {
		return Err(Refused::new(
			Refusal::Channel,
			"the question is for another validator",
		));
	}
	Ok((channel, seed, paying))
}

/// What is kept of a question's channel, if the question's number is a new one.
fn fresh(lane: &Shared, ask: &Question) -> Result<Account, Refused> {
	let account = lane.journal.account(ask.channel)?;
	if ask.number <= account.last || ask.number > MAX_NUMBER {
		return Err(Refused::new(
			Refusal::Number,
			format!(
				"numbers rise, up to {MAX_NUMBER}: the last one was {}",
				account.last
			),
		));
	}
	Ok(account)
}

/// Checks that a new question comes from the channel's client: all that can be checked without waiting for anything.
async fn admit(
	lane: &Shared,
	ask: &Question,
	request: &H256,
	voucher: &Payment,
) -> Result<(), Refused> {
	let (_, _, paying) = open(lane, ask).await?;
	fresh(lane, ask)?;
	terms(lane, &paying, ask.channel, ask.number, request).check(voucher)?;
	if voucher.body.transcript != Transcript::begin(request).hash {
		return Err(wrong("the first voucher acknowledges nothing yet"));
	}
	Ok(())
}

/// Checks the rest of a question that was admitted, of whose model that is the state at the anchor, and returns what is to be written
/// down about it. `head` was the last finalised block then.
async fn take(
	lane: &Shared,
	ask: Question,
	request: H256,
	voucher: &Payment,
	model: Model,
	head: BlockNumber,
	invitation: &mut Option<Invitation>,
) -> Result<Taken, Refused> {
	// Other questions, or blocks, may have come meanwhile.
	let (channel, seed, paying) = open(lane, &ask).await?;
	let mut account = fresh(lane, &ask)?;
	if head.saturating_sub(ask.anchor.number) > MAX_ANCHOR_AGE {
		return Err(Refused::new(Refusal::Anchor, "the anchor is too old"));
	}
	if !model.serving.contains(&paying.me) {
		return Err(Refused::new(Refusal::Model, "the model is not served here"));
	}
	settle_last(lane, ask.channel, &mut account).await?;

	let input_units = ask.input.units();
	let prompt = model
		.price
		.of(input_units, 0)
		.ok_or_else(|| wrong("the price is no amount"))?;
	let claimed = allotment(&channel, &paying.me).map_or(0, |a| a.claimed);
	let base = amount(&account.held).max(claimed);
	if base.checked_add(prompt) != Some(voucher.body.amount) {
		return Err(wrong(format!(
			"{base} are paid, and the prompt costs {prompt}: the voucher is over something else"
		)));
	}
	let left = paying
		.available
		.checked_sub(voucher.body.amount)
		.ok_or_else(|| wrong("the voucher is over more than the allotment"))?;
	// What does not fit a claim cannot be claimed.
	let claimable = lane.chain.claim_bounds().await?.most.checked_sub(prompt);
	let claimable =
		claimable.ok_or_else(|| wrong("the prompt costs more than can be claimed at once"))?;
	// Nor can what goes beyond what the stake answers for, for a while.
	let staked = lane.chain.claim_room(&paying.me, paying.session.index);
	let staked = staked.await?.saturating_sub(prompt);
	let tokens = |amount: Balance| match amount.checked_div(model.price.per_output_unit) {
		Some(tokens) => u32::try_from(tokens).unwrap_or(u32::MAX),
		None => u32::MAX,
	};
	let most = ask.input.max_tokens();
	let slice = most.min(SLICE_TOKENS);
	let payable = tokens(left.min(claimable));
	if payable < slice {
		return Err(wrong("there is no room for a slice: raise the allotment"));
	}
	if staked == 0 || tokens(staked) < slice {
		return Err(Refused::new(
			Refusal::Busy,
			"as much is claimed and not audited yet as this validator's stake answers for",
		));
	}
	let payable = payable.min(tokens(staked));
	let place = place(lane, &ask, invitation)?;
	let answer = Answer {
		request,
		price: model.price,
		input_units,
		base,
		before: account.held.clone(),
		payable: payable.min(most),
		voucher: voucher.clone(),
		paid: 0,
		end: Ending::Open,
	};
	Ok(Taken {
		ask,
		seed,
		answer,
		account,
		paying,
		place,
	})
}

fn paying(channel: &Channel, me: AccountId, session: Session) -> Result<Paying, Refused> {
	let own = allotment(channel, &me).ok_or_else(|| {
		Refused::new(
			Refusal::Channel,
			"the channel sets nothing apart for this validator",
		)
	})?;
	Ok(Paying {
		key: channel.key,
		available: own.limit(),
		me,
		session,
	})
}

fn terms<'a>(
	lane: &'a Shared,
	paying: &'a Paying,
	channel: ChannelId,
	number: u32,
	request: &'a H256,
) -> Terms<'a> {
	Terms {
		genesis: &lane.genesis,
		key: &paying.key,
		channel,
		payee: &paying.me,
		service: Service::Answer,
		number,
		request,
		session: paying.session,
	}
}

/// Counts the last answer, before another one begins.
async fn settle_last(
	lane: &Shared,
	channel: ChannelId,
	account: &mut Account,
) -> Result<(), Refused> {
	let Some(mut last) = lane.journal.answer(channel, account.last)? else {
		return Ok(());
	};
	if last.end == Ending::Open {
		let number = account.last;
		close(lane, channel, account, number, &mut last).await?;
	}
	let owed = account.tokens_owed + u64::from(last.owed());
	let paid = account.tokens_paid + u64::from(last.paid);
	if owed > u64::from(MAX_DEBT) + paid / FORGIVEN {
		return Err(Refused::new(
			Refusal::Unpaid,
			format!(
				"{owed} tokens were sent and not paid: pay for request {} first",
				account.last
			),
		));
	}
	account.tokens_owed = owed;
	account.tokens_paid = paid;
	Ok(())
}

/// Ends an answer that nobody writes any more, since the process ended or the engine could not say how it ends.
pub(crate) async fn close(
	lane: &Shared,
	channel: ChannelId,
	account: &mut Account,
	number: u32,
	answer: &mut Answer,
) -> Result<(), Refused> {
	let sent = sent(lane, channel, number)?;
	let ask = lane.journal.ask(channel, number)?;
	match ask {
		Some(ask) if !sent.tokens.is_empty() => {
			let output = cut(lane, &ask, &sent).await?;
			sign(lane, &ask, answer, &output, sent.text.len()).await?;
			lane.metrics.answered("interrupted");
		}
		_ => give_up(lane, channel, account, number, answer).await?,
	}
	Ok(())
}

/// Notes that nothing came of a question.
async fn give_up(
	lane: &Shared,
	channel: ChannelId,
	account: &mut Account,
	number: u32,
	answer: &mut Answer,
) -> Result<(), Refused> {
	answer.end = Ending::Nothing;
	// The next voucher counts on from the one before.
	account.held = answer.before.clone();
	let batch = Batch::default()
		.answer(channel, number, answer)
		.account(channel, account);
	Ok(lane.journal.write(batch).await?)
}

/// What was sent of an answer.
fn sent(lane: &Shared, channel: ChannelId, number: u32) -> Result<Fragment, Refused> {
	let mut all = Fragment::default();
	for fragment in lane.journal.fragments(channel, number)? {
		all.tokens.extend(fragment.tokens);
		all.text.extend(fragment.text);
	}
	Ok(all)
}

/// The answer that ends with what was sent.
async fn cut(lane: &Shared, ask: &Question, sent: &Fragment) -> Result<Output, Refused> {
	let plain: Vec<u32> = sent.tokens.iter().map(|t| t.0).collect();
	match lane.engine.cut(&ask.model, &ask.input, &plain).await {
		Ok(output) => match &output {
			Output::Text { tokens, text, .. }
				if **tokens == sent.tokens && text.starts_with(&sent.text) =>
			{
				Ok(output)
			}
			_ => Err(failed("the engine cut something else")),
		},
		Err(e) => Err(failed(&e.to_string())),
	}
}

fn failed(why: &str) -> Refused {
	tracing::warn!(target: LOG_TARGET, "{why}");
	Refused::new(Refusal::Failed, "the engine failed")
}

/// Signs the receipt for an answer, of whose text so many bytes were sent, and writes it down.
async fn sign(
	lane: &Shared,
	ask: &Question,
	answer: &mut Answer,
	output: &Output,
	said: usize,
) -> Result<(), Refused> {
	let Output::Text {
		tokens,
		text,
		finish,
	} = output
	else {
		return Err(failed("the engine gave no text"));
	};
	let session = lane.chain.session().await?;
	let (payee, session) = lane.signer(&session)?;
	let output_units = tokens.len() as u32;
	let receipt = Receipt {
		channel: ask.channel,
		payee,
		number: ask.number,
		session,
		request: answer.request,
		transcript: Transcript::of(&answer.request, tokens, text, *finish),
		input_units: answer.input_units,
		output_units,
		amount: answer
			.price(output_units)
			.ok_or_else(|| failed("the price is no amount"))?,
		anchor: ask.anchor,
	};
	#[cfg(feature = "liars")]
	let receipt = {
		let mut receipt = receipt;
		lane.lies().receipt(&mut receipt);
		receipt
	};
	answer.end = Ending::Signed {
		rest: text.get(said..).unwrap_or_default().to_vec(),
		finish: *finish,
		receipt: Box::new(lane.sign(receipt)),
	};
	let batch = Batch::default().answer(ask.channel, ask.number, answer);
	Ok(lane.journal.write(batch).await?)
}

/// A question that was taken before: what was said is said again.
async fn again(
	lane: &Arc<Shared>,
	slot: Arc<Slot>,
	ask: Question,
	request: H256,
	invitation: &mut Option<Invitation>,
	out: &Out,
	replay: &Arc<Semaphore>,
) -> Result<Option<Running>, Refused> {
	let saying = replay.clone().try_acquire_owned();
	let saying = saying.map_err(|_| Refused::new(Refusal::Busy, "it is being said again"))?;
	if *lock(&slot.running) == Some(request) {
		slot.cut.notify_one();
	}
	let turn = turn(&slot.answers, CUT).await?;
	let (id, number) = (ask.channel, ask.number);
	let gone = || Refused::new(Refusal::Number, "the number was used");
	let mut answer = lane.journal.answer(id, number)?.ok_or_else(gone)?;
	let fragments = lane.journal.fragments(id, number)?;
	if answer.end == Ending::Open {
		let mut account = lane.journal.account(id)?;
		if fragments.is_empty() {
			// Paid for, and nothing was said: the process ended. It is answered now.
			let session = lane.chain.session().await?;
			let (me, _) = lane.signer(&session)?;
			let (channel, seed) = channel(lane, id).await?;
			let paying = paying(&channel, me, session)?;
			let taken = Taken {
				place: place(lane, &ask, invitation)?,
				ask,
				seed,
				answer,
				account,
				paying,
			};
			return Ok(Some(begin(lane, slot, turn, taken, out)));
		}
		close(lane, id, &mut account, number, &mut answer).await?;
	}
	drop(turn);
	let Ending::Signed {
		rest,
		finish,
		receipt,
	} = answer.end
	else {
		return Err(gone());
	};
	// As a task: the connection that is to send all this is the one that waits here.
	let (lane, out) = (lane.clone(), out.clone());
	lane.clone().tasks.spawn(async move {
		let _saying = saying;
		let mut transcript = Transcript::begin(&request);
		for fragment in fragments {
			fragment.tokens.iter().for_each(|t| transcript.push(t.0));

			let frame = frame(&lane, &ask, request, &transcript, fragment);
			if out.send(ToClient::Frame(frame)).await.is_err() {
				return;
			}
		}
		let end = End {
			text: rest,
			finish,
			receipt: *receipt,
		};
		// A client that is gone may come again.
		let _ = out.send(ToClient::End(Box::new(end))).await;
	});
	Ok(None)
}

fn frame(
	lane: &Shared,
	ask: &Question,
	request: H256,
	transcript: &Transcript,
	fragment: Fragment,
) -> Frame {
	Frame {
		tokens: fragment.tokens,
		text: fragment.text,
		progress: lane.sign(Progress {
			channel: ask.channel,
			number: ask.number,
			request,
			transcript: transcript.hash,
			tokens: transcript.tokens,
		}),
	}
}

/// The last answer that was paid for over a connection, with its transcript's hash after every number of tokens.
pub(crate) type Known = Option<(H256, Vec<H256>)>;

/// Takes a voucher for the last answer, which has ended.
pub(crate) async fn pay(
	lane: &Shared,
	voucher: &Payment,
	known: &mut Known,
) -> Result<(), Refused> {
	let (id, number) = (voucher.body.channel, voucher.body.number);
	let slot = lane.slot(id);
	let _turn = turn(&slot.answers, TURN).await?;
	let session = lane.chain.session().await?;
	let (me, _) = lane.signer(&session)?;
	let (channel, _) = channel(lane, id).await?;
	let claimed = allotment(&channel, &me).map_or(0, |a| a.claimed);
	let paying = paying(&channel, me, session)?;
	let mut account = lane.journal.account(id)?;
	let found = lane.journal.answer(id, number)?;
	if found
		.as_ref()
		.is_some_and(|answer| answer.voucher == *voucher)
	{
		return Ok(());
	}
	let mut answer = found
		.filter(|answer| number == account.last && answer.end != Ending::Nothing)
		.ok_or_else(|| wrong("vouchers are taken for the last answer only"))?;

	if known.as_ref().is_none_or(|(of, _)| *of != answer.request) {
		let sent = sent(lane, id, number)?;
		*known = Some((answer.request, hashes(&answer.request, &sent.tokens)));
	}
	let hashes = known.as_ref().map_or(&[][..], |(_, hashes)| hashes);
	let judged = judge(lane, &paying, &answer, hashes, number, voucher);
	if answer.end == Ending::Open {
		// It may still be written.
		*known = None;
	}
	if let Some(paid) = judged? {
		let claims = lane.journal.claims(id, Service::Answer)?;
		let stands = claims.iter().any(|(_, claim)| {
			let over =
				claim.state == ClaimState::Lost && claimed < claim.claim.body.voucher.body.amount;
			claim.through >= number && !over
		});
		if stands {
			return Err(wrong("the answer is settled already"));
		}
		if answer.end == Ending::Open {
			close(lane, id, &mut account, number, &mut answer).await?;
		}
		accept(lane, &mut account, &mut answer, number, paid, voucher).await?;
	}
	Ok(())
}

/// The transcript's hash after every number of tokens.
fn hashes(request: &H256, tokens: &[Compact<u32>]) -> Vec<H256> {
	let mut transcript = Transcript::begin(request);
	let first = std::iter::once(transcript.hash);
	let rest = tokens.iter().map(|token| {
		transcript.push(token.0);
		transcript.hash
	});
	first.chain(rest).collect()
}

/// How many tokens a voucher pays for; `None` where it pays for nothing new.
fn judge(
	lane: &Shared,
	paying: &Paying,
	answer: &Answer,
	hashes: &[H256],
	number: u32,
	voucher: &Payment,
) -> Result<Option<u32>, Refused> {
	let body = &voucher.body;
	if *voucher == answer.voucher {
		return Ok(None);
	}
	terms(lane, paying, body.channel, number, &answer.request).check(voucher)?;
	let seen = hashes.iter().position(|hash| *hash == body.transcript);
	let seen = seen.ok_or_else(|| wrong("the voucher acknowledges what was not sent"))? as u32;
	let due = answer.price(seen).and_then(|p| p.checked_add(answer.base));
	if due != Some(body.amount) {
		return Err(wrong(format!(
			"the voucher acknowledges {seen} tokens, and is over another amount than the price of these"
		)));
	}
	if body.amount > paying.available {
		return Err(wrong("the voucher is over more than the allotment"));
	}
	Ok((seen > answer.paid).then_some(seen))
}

/// Writes down that more is paid.
async fn accept(
	lane: &Shared,
	account: &mut Account,
	answer: &mut Answer,
	number: u32,
	paid: u32,
	voucher: &Payment,
) -> Result<(), Refused> {
	lane.metrics.paid(paid - answer.paid);
	answer.paid = paid;
	answer.voucher = voucher.clone();
	account.held = Some(voucher.clone());
	let channel = voucher.body.channel;
	let batch = Batch::default()
		.answer(channel, number, answer)
		.account(channel, account);
	Ok(lane.journal.write(batch).await?)
}

fn begin(
	lane: &Arc<Shared>,
	slot: Arc<Slot>,
	turn: OwnedMutexGuard<()>,
	taken: Taken,
	out: &Out,
) -> Running {
	let (commands, received) = mpsc::channel(COMMANDS);
	let number = taken.ask.number;
	let request = taken.answer.request;
	let transcript = Transcript::begin(&request);
	let writing = Writing {
		lane: lane.clone(),
		slot,
		_turn: turn,
		seed: sampling_seed(&taken.seed, number),
		max_tokens: taken.ask.input.max_tokens(),
		ask: taken.ask,
		request,
		answer: taken.answer,
		account: taken.account,
		paying: taken.paying,
		place: Some(taken.place),
		out: out.clone(),
		commands: received,
		hashes: vec![transcript.hash],
		transcript,
		sent: Fragment::default(),
	};
	lane.tasks.spawn(writing.run());
	Running { number, commands }
}

/// An answer on its way.
struct Writing {
	lane: Arc<Shared>,
	slot: Arc<Slot>,
	_turn: OwnedMutexGuard<()>,
	ask: Question,
	request: H256,
	seed: H256,
	max_tokens: u32,
	answer: Answer,
	account: Account,
	paying: Paying,
	/// At the engine, until nothing more is written.
	place: Option<Place>,
	out: Out,
	commands: mpsc::Receiver<Command>,
	transcript: Transcript,
	/// The transcript's hash after every number of tokens.
	hashes: Vec<H256>,
	/// All that was sent.
	sent: Fragment,
}

/// Why an answer is over.
enum Over {
	/// The model ended it.
	Ended(Output),
	/// It ends with what was sent.
	Cut(&'static str),
	/// It failed.
	Failed(EngineError),
}

impl Writing {
	async fn run(mut self) {
		*lock(&self.slot.running) = Some(self.request);
		let last = match self.write().await {
			Ok(end) => ToClient::End(Box::new(end)),
			Err(refused) => self.refusal(refused),
		};
		*lock(&self.slot.running) = None;
		// What came before the client could know that it is over. Nobody may be reading what is said to that.
		self.commands.close();
		while let Some(command) = self.commands.recv().await {
			if let Err(refused) = self.command(command).await {
				drop(self.out.try_send(self.refusal(refused)));
			}
		}
		// Whoever knows that it is over finds the channel free.
		let out = self.out.clone();
		drop(self);
		// A client that is gone may come again.
		drop(out.send(last).await);
	}

	fn refusal(&self, Refused(why, words): Refused) -> ToClient {
		self.lane.metrics.refused(why);
		ToClient::Refused {
			number: Some(self.ask.number),
			why,
			words,
		}
	}

	async fn refuse(&self, refused: Refused) {
		// It may be gone.
		drop(self.out.send(self.refusal(refused)).await);
	}

	/// Takes a voucher; returns whether the client has seen enough.
	async fn command(&mut self, command: Command) -> Result<bool, Refused> {
		let Command::Pay(voucher) = command else {
			return Ok(true);
		};
		let number = self.ask.number;
		let judged = judge(
			&self.lane,
			&self.paying,
			&self.answer,
			&self.hashes,
			number,
			&voucher,
		);
		if let Some(paid) = judged? {
			let (account, answer) = (&mut self.account, &mut self.answer);
			accept(&self.lane, account, answer, number, paid, &voucher).await?;
		}
		Ok(false)
	}

	/// Tokens that may be sent now.
	fn limit(&self) -> u32 {
		self.answer
			.paid
			.saturating_add(SLICE_TOKENS)
			.min(self.answer.payable)
	}

	fn count(&self) -> u32 {
		self.transcript.tokens
	}

	/// Writes it, to its end.
	async fn write(&mut self) -> Result<End, Refused> {
		#[cfg(feature = "liars")]
		if let Some(output) = self.lane.lies().unserved(&self.ask) {
			return self.keep(&output).await;
		}
		let engine = self.lane.engine.clone();
		// Dropped after the stream, on every way out.
		let place = self.place.take();
		let over = match engine
			.stream(&self.ask.model, &self.ask.input, self.seed)
			.await
		{
			Ok(mut stream) => self.follow(&mut *stream).await?,
			Err(e) => Over::Failed(e),
		};
		drop(place);
		let (output, how) = match over {
			Over::Ended(Output::Unanswerable(code)) if self.count() == 0 => {
				return self.nothing(Refusal::Unanswerable, code.reason()).await;
			}
			Over::Failed(EngineError::Unanswerable(code)) if self.count() == 0 => {
				return self.nothing(Refusal::Unanswerable, code.reason()).await;
			}
			Over::Failed(EngineError::Busy) if self.count() == 0 => {
				return self.nothing(Refusal::Busy, "no place is free").await;
			}
			Over::Failed(e) if self.count() == 0 => {
				tracing::warn!(target: LOG_TARGET, "{:?}: {e}", self.ask.model);
				return self.nothing(Refusal::Failed, "the engine failed").await;
			}
			Over::Ended(output) => match self.last_frame(&output).await? {
				true => (output, "ended"),
				false => {
					failed("the engine ended an answer with other tokens than it wrote");
					(self.cut().await?, "failed")
				}
			},
			Over::Failed(e) => {
				tracing::warn!(target: LOG_TARGET, "{:?}: {e}", self.ask.model);
				(self.cut().await?, "failed")
			}
			Over::Cut(how) => (self.cut().await?, how),
		};
		let said = self.sent.text.len();
		sign(&self.lane, &self.ask, &mut self.answer, &output, said).await?;
		self.lane.metrics.answered(how);
		let Ending::Signed {
			rest,
			finish,
			receipt,
		} = &self.answer.end
		else {
			return Err(failed("an answer that was signed has no receipt"));
		};
		Ok(End {
			text: rest.clone(),
			finish: *finish,
			receipt: (**receipt).clone(),
		})
	}

	/// Signs an answer that nobody gets.
	#[cfg(feature = "liars")]
	async fn keep(&mut self, output: &Output) -> Result<End, Refused> {
		let Output::Text { tokens, .. } = output else {
			return Err(failed("a lie that is no text"));
		};
		let fragment = Fragment {
			tokens: tokens.to_vec(),
			text: Vec::new(),
		};
		let batch = Batch::default().fragment(self.ask.channel, self.ask.number, 0, &fragment);
		self.lane.journal.write(batch).await?;
		sign(&self.lane, &self.ask, &mut self.answer, output, 0).await?;
		Err(Refused::new(Refusal::Failed, "the engine failed"))
	}

	/// Nothing comes of it.
	async fn nothing(&mut self, why: Refusal, words: &str) -> Result<End, Refused> {
		let id = self.ask.channel;
		let number = self.ask.number;
		let (account, answer) = (&mut self.account, &mut self.answer);
		give_up(&self.lane, id, account, number, answer).await?;
		self.lane.metrics.answered("nothing");
		Err(Refused::new(why, words))
	}

	async fn cut(&self) -> Result<Output, Refused> {
		cut(&self.lane, &self.ask, &self.sent).await
	}

	/// Sends what the engine writes, as far as it is paid for.
	async fn follow(&mut self, stream: &mut dyn Answering) -> Result<Over, Refused> {
		let out = self.out.clone();
		let slot = self.slot.clone();
		let mut over: Option<&'static str> = None;
		let mut allowed = 0;
		let mut patience = Patience::new(&self.lane.config);
		loop {
			let limit = self.limit();
			if limit > allowed {
				allowed = limit;
				stream.allow(limit);
			}
			if self.count() >= self.answer.payable && self.answer.payable < self.max_tokens {
				over = over.or(Some("allotment"));
			}
			match over {
				// Something has to be signed for.
				Some(how) if self.count() > 0 => return Ok(Over::Cut(how)),
				_ => (),
			}
			let waits = self.count() >= limit && limit < self.max_tokens;
			let due = patience.until(waits);
			tokio::select! {
				biased;
				Some(command) = self.commands.recv() => {
					match self.command(command).await {
						Ok(true) => over = over.or(Some("cancelled")),
						Ok(false) => (),
						Err(refused) => self.refuse(refused).await,
					}
				}
				() = out.closed(), if over.is_none() => over = Some("lost"),
				() = slot.cut.notified(), if over.is_none() => over = Some("lost"),
				() = wait(due), if over.is_none() => {
					self.refuse(Refused::new(Refusal::Unpaid, "a slice was not paid in time")).await;
					over = Some("unpaid");
				}
				piece = stream.next() => match piece {
					Ok(Piece::More { tokens, text }) => {
						if !self.more(tokens, text).await? {
							return Ok(Over::Failed(EngineError::Failed(
								"it wrote more than it was allowed".into(),
							)));
						}
					}
					Ok(Piece::End(output)) => return Ok(Over::Ended(output)),
					Err(e) => return Ok(Over::Failed(e)),
				},
			}
		}
	}

	/// Writes down and sends the next tokens; returns whether they may be sent.
	async fn more(&mut self, tokens: Vec<u32>, text: Vec<u8>) -> Result<bool, Refused> {
		let before = self.count();
		if tokens.is_empty() || tokens.len() > (self.limit() - before) as usize {
			return Ok(tokens.is_empty() && text.is_empty());
		}
		let fragment = Fragment {
			tokens: tokens.iter().map(|t| Compact(*t)).collect(),
			text,
		};
		let batch = Batch::default().fragment(self.ask.channel, self.ask.number, before, &fragment);
		self.lane.journal.write(batch).await?;
		for token in &tokens {
			self.transcript.push(*token);
			self.hashes.push(self.transcript.hash);
		}
		self.sent.tokens.extend(&fragment.tokens);
		self.sent.text.extend(&fragment.text);
		self.lane.metrics.sent(tokens.len());
		let frame = frame(
			&self.lane,
			&self.ask,
			self.request,
			&self.transcript,
			fragment,
		);
		// A connection that is gone is seen by whoever waits for it.
		let _ = self.out.send(ToClient::Frame(frame)).await;
		Ok(true)
	}

	/// Sends the tokens that came with the end; returns whether the whole begins with what was sent.
	async fn last_frame(&mut self, output: &Output) -> Result<bool, Refused> {
		let Output::Text { tokens, text, .. } = output else {
			return Ok(false);
		};
		let sent = self.sent.tokens.len();
		let continues = tokens.starts_with(&self.sent.tokens) && text.starts_with(&self.sent.text);
		let rest: Vec<u32> = tokens.iter().skip(sent).map(|t| t.0).collect();
		if !continues || tokens.is_empty() {
			return Ok(false);
		}
		if rest.is_empty() {
			return Ok(true);
		}
		self.more(rest, Vec::new()).await
	}
}

/// How long an answer waits for vouchers: for each, and for all of them together.
struct Patience {
	each: Duration,
	left: Duration,
	since: Option<Instant>,
}

impl Patience {
	const fn new(config: &Config) -> Self {
		Self {
			each: config.pay,
			left: config.pay_total,
			since: None,
		}
	}

	/// When it ends, if the answer waits now.
	fn until(&mut self, waits: bool) -> Option<Instant> {
		if waits {
			let since = *self.since.get_or_insert_with(Instant::now);
			return Some(since + self.each.min(self.left));
		}
		if let Some(since) = self.since.take() {
			self.left = self.left.saturating_sub(since.elapsed());
		}
		None
	}
}

pub(crate) async fn wait(due: Option<Instant>) {
	match due {
		Some(at) => sleep_until(at).await,
		None => std::future::pending().await,
	}
}

/// The whole answer, as it is opened on chain.
pub(crate) fn output(answer: &Answer, fragments: Vec<Fragment>) -> Option<Output> {
	let Ending::Signed { rest, finish, .. } = &answer.end else {
		return None;
	};
	let mut all = Fragment::default();
	for fragment in fragments {
		all.tokens.extend(fragment.tokens);
		all.text.extend(fragment.text);
	}
	all.text.extend(rest);
	Some(Output::Text {
		tokens: all.tokens.try_into().ok()?,
		text: all.text.try_into().ok()?,
		finish: *finish,
	})
}
