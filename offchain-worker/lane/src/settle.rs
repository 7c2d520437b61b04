//! Claims and openings. The rules are at the top of the crate.

use std::{
	collections::{HashMap, HashSet},
	sync::Arc,
	time::Duration,
};

use consilience_primitives::session::{
	ChannelId, Claim, ClaimId, Opening, OpeningDue, Service, Signable, SumNode, MAX_CLAIMS,
	MAX_RECEIPTS,
};

use crate::{
	chain::{Channel, ClaimBounds, SignedClaim},
	executor::{close, output, turn},
	journal::{Answer, Batch, ClaimState, Ending, JournalError, Settled},
	message::{AccountId, Balance, BlockNumber, Payment},
	Identity, Refused, Shared, LOG_TARGET,
};

/// Sessions before a voucher runs out in which it is claimed, whatever it is over.
const SOON: u32 = 1;

/// Blocks between two looks at all channels: beside that only at those that close.
const LOOK: BlockNumber = 5;

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl From<Refused> for Failed {
	fn from(Refused(_, words): Refused) -> Self {
		words.into()
	}
}

/// When something was last submitted.
#[derive(Default)]
struct Submitted {
	claims: HashMap<(ChannelId, u8), BlockNumber>,
	openings: HashMap<(ClaimId, u32), BlockNumber>,
	looked: Option<BlockNumber>,
}

/// Claims, opens and forgets, at every new block.
pub(crate) async fn run(lane: Arc<Shared>) {
	let mut heads = lane.chain.heads();
	let mut identity = lane.identity.subscribe();
	let mut submitted = Submitted::default();
	loop {
		let best = heads.borrow_and_update().best;
		let known = identity.borrow_and_update().clone();
		if let Some(Identity {
			account, session, ..
		}) = known
		{
			if let Err(error) = step(&lane, &account, session, best, &mut submitted).await {
				tracing::warn!(target: LOG_TARGET, "the session lane's accounts: {error}");
			}
		}
		tokio::select! {
			changed = heads.changed() => if changed.is_err() { return },
			changed = identity.changed() => if changed.is_err() { return },
		}
	}
}

async fn step(
	lane: &Shared,
	me: &AccountId,
	certified: Option<u32>,
	best: BlockNumber,
	submitted: &mut Submitted,
) -> Result<(), Failed> {
	let due = lane.chain.openings_due(me).await?;
	let still: HashSet<_> = due.iter().map(|d| (d.claim, d.point)).collect();
	submitted.openings.retain(|of, _| still.contains(of));
	for due in due {
		let of = (due.claim, due.point);
		let at = submitted.openings.get(&of);
		if at.is_some_and(|at| best < at.saturating_add(lane.config.resubmit)) {
			continue;
		}
		submitted.openings.insert(of, best);
		// One that fails is no reason to leave the others.
		if let Err(error) = open(lane, due).await {
			tracing::error!(target: LOG_TARGET, "a receipt is not opened: {error}");
		}
	}
	if submitted
		.looked
		.is_some_and(|at| best < at.saturating_add(LOOK) && best >= at)
	{
		return Ok(());
	}
	// Nothing was ever signed without one.
	let Some(certified) = certified else {
		return Ok(());
	};
	submitted.looked = Some(best);
	let channels = lane.journal.channels()?;
	let kept: HashSet<_> = channels.iter().copied().collect();
	submitted.claims.retain(|(id, _), _| kept.contains(id));
	let mut bounds = Bounds {
		claim: lane.chain.claim_bounds().await?,
		room: lane.chain.claim_room(me, certified).await?,
	};
	let mut claims = Vec::new();
	for id in channels {
		match look(lane, me, certified, id, best, submitted, &mut bounds).await {
			Ok(found) => claims.extend(found),
			Err(error) => tracing::warn!(target: LOG_TARGET, "channel {id}: {error}"),
		}
	}
	for together in claims.chunks(MAX_CLAIMS as usize) {
		submit(lane, together).await;
	}
	Ok(())
}

/// Submits claims: together, or each by itself where one of them is not taken.
async fn submit(lane: &Shared, claims: &[SignedClaim]) {
	let Err(error) = lane.chain.settle(claims.to_vec()).await else {
		claims.iter().for_each(|_| lane.metrics.claim("submitted"));
		return;
	};
	for claim in claims {
		let id = claim.body.voucher.body.channel;
		let taken = match claims.len() {
			1 => Err(error.clone()),
			_ => lane.chain.settle(vec![claim.clone()]).await,
		};
		match taken {
			Ok(()) => lane.metrics.claim("submitted"),
			Err(error) => {
				tracing::warn!(target: LOG_TARGET, "a claim of channel {id} is not taken: {error}");
			}
		}
	}
}

const fn service_key(service: Service) -> u8 {
	match service {
		Service::Answer => 0,
		Service::Check => 1,
	}
}

/// What claims may come to.
struct Bounds {
	/// Each of them.
	claim: ClaimBounds,
	/// All claims for answers that the chain does not have yet. It becomes more as claims are audited and paid.
	room: Balance,
}

impl Bounds {
	/// The least and the most of the next claim for a service.
	fn of(&self, service: Service) -> ClaimBounds {
		let mut bounds = self.claim;
		if service == Service::Answer {
			bounds.most = bounds.most.min(self.room);
		}
		bounds
	}
}

/// What is to be submitted of a channel. Forgets what nobody can ask for any more.
async fn look(
	lane: &Shared,
	me: &AccountId,
	certified: u32,
	id: ChannelId,
	best: BlockNumber,
	submitted: &mut Submitted,
	bounds: &mut Bounds,
) -> Result<Vec<SignedClaim>, Failed> {
	let Some(channel) = lane.chain.channel(id).await? else {
		let gone = lane.journal.forget_channel(id)?;
		lane.journal.write(gone).await?;
		return Ok(Vec::new());
	};
	let session = lane.chain.session().await?.index;
	// Before what is claimed: what ran out before this block is in none after it.
	let finalised = lane.chain.finalised_session().await?;
	let mut all = Vec::new();
	for service in [Service::Answer, Service::Check] {
		let claimed = lane.chain.claimed(id, me, service).await?;
		let found = match under_way(lane, &channel, service, claimed, finalised, certified).await? {
			Some(claim) => Some(claim),
			None => {
				let bounds = bounds.of(service);
				next(lane, &channel, service, claimed, session, certified, bounds).await?
			}
		};
		let key = (id, service_key(service));
		let Some(claim) = found else {
			submitted.claims.remove(&key);
			continue;
		};
		// One that the best block has already and finalised state has not is counted twice: for that time less is claimed.
		if service == Service::Answer {
			bounds.room = bounds.room.saturating_sub(claim.body.root.sum);
		}
		let at = submitted.claims.get(&key);
		if at.is_none_or(|at| best >= at.saturating_add(lane.config.resubmit)) {
			submitted.claims.insert(key, best);
			all.push(claim);
		}
	}
	Ok(all)
}

/// The claim that finalised state does not have yet, if there is one, as it is submitted now.
async fn under_way(
	lane: &Shared,
	channel: &Channel,
	service: Service,
	claimed: Balance,
	finalised: u32,
	certified: u32,
) -> Result<Option<SignedClaim>, Failed> {
	let id = channel.id;
	let Some((place, mut last)) = lane.journal.claims(id, service)?.pop() else {
		return Ok(None);
	};
	let voucher = &last.claim.body.voucher.body;
	let (amount, expires) = (voucher.amount, voucher.expires);
	match last.state {
		ClaimState::Sent | ClaimState::Lost if claimed >= amount => {
			last.state = ClaimState::Taken;
			lane.metrics.claim("taken");
			lane.journal
				.write(Batch::default().claim(id, service, place, &last))
				.await?;
			Ok(None)
		}
		ClaimState::Sent if finalised > expires => {
			tracing::warn!(target: LOG_TARGET, "channel {id}: a claim was not taken before its voucher ran out");
			last.state = ClaimState::Lost;
			lane.metrics.claim("lost");
			lane.journal
				.write(Batch::default().claim(id, service, place, &last))
				.await?;
			Ok(None)
		}
		ClaimState::Sent => {
			if last.claim.body.session < certified {
				let body = Claim {
					session: certified,
					..last.claim.body
				};
				last.claim = lane.sign(body);
				lane.journal
					.write(Batch::default().claim(id, service, place, &last))
					.await?;
			}
			Ok(Some(last.claim))
		}
		ClaimState::Taken if channel.pending == 0 && !last.leaves.is_empty() => {
			// Everything that was claimed of the channel is paid: nothing can be asked for any more.
			let batch = lane.journal.forget_claims(id, service, place, &mut last)?;
			lane.journal.write(batch).await?;
			Ok(None)
		}
		ClaimState::Taken | ClaimState::Lost => Ok(None),
	}
}

/// Something that a claim can end with. An answer that stands in a claim which the chain has, or may have, is none.
struct Paid {
	/// Number of the answer, or place of the verdict.
	at: u32,
	leaf: SumNode<Balance>,
	voucher: Payment,
}

/// Makes the next claim, if it is time for it.
async fn next(
	lane: &Shared,
	channel: &Channel,
	service: Service,
	claimed: Balance,
	session: u32,
	certified: u32,
	bounds: ClaimBounds,
) -> Result<Option<SignedClaim>, Failed> {
	let id = channel.id;
	let claims = lane.journal.claims(id, service)?;
	let taken = claims
		.iter()
		.rev()
		.find(|(_, c)| c.state == ClaimState::Taken);
	let through = taken.map(|(_, claim)| claim.through);
	let presses = |voucher: &Payment| {
		let lowered = channel
			.allocations
			.iter()
			.any(|a| a.allotment.lowering.is_some())
			|| channel.pot.lowering.is_some();
		channel.closes_at.is_some()
			|| lowered
			|| voucher.body.expires <= session.saturating_add(SOON)
	};
	let lock = match service {
		Service::Answer => lane.slot(id).answers.clone(),
		Service::Check => lane.slot(id).checks.clone(),
	};
	// While an answer is written those before it can be claimed.
	let turn = turn(&lock, Duration::ZERO).await.ok();
	let all = match service {
		Service::Answer => {
			let from = through.map_or(0, |n| n.saturating_add(1));
			answers(lane, id, from, turn.is_some(), presses).await?
		}
		Service::Check => verdicts(lane, id, through.map_or(0, |n| n.saturating_add(1)))?,
	};
	let mut all = all;
	let Some(chosen) = choose(&all, claimed, session, bounds.most) else {
		return Ok(None);
	};
	let (part, rest) = all.split_at_mut(chosen);
	let Some(last) = part.last() else {
		return Ok(None);
	};
	let sum: Balance = part.iter().map(|p| p.leaf.sum).sum();
	let pays = sum >= lane.config.minimum || presses(&last.voucher) || !rest.is_empty();
	if sum < bounds.least || !pays {
		return Ok(None);
	}
	let mut batch = Batch::default();
	if service == Service::Answer {
		for paid in &mut *part {
			batch = renew(lane, id, certified, paid, batch)?;
			// Signing thousands of receipts holds nobody else up.
			tokio::task::yield_now().await;
		}
	}
	let Some(last) = part.last() else {
		return Ok(None);
	};
	let leaves: Vec<_> = part.iter().map(|p| p.leaf).collect();
	let Some(root) = SumNode::root(&leaves) else {
		return Ok(None);
	};
	let claim = lane.sign(Claim {
		voucher: last.voucher.clone(),
		root,
		count: leaves.len() as u32,
		session: certified,
	});
	let settled = Settled {
		claim: claim.clone(),
		before: claimed,
		leaves: part.iter().map(|p| (p.at, p.leaf)).collect(),
		through: last.at,
		state: ClaimState::Sent,
	};
	let place = claims
		.last()
		.map_or(0, |(place, _)| place.saturating_add(1));
	// New receipts and the claim over them stand in the journal together, or neither does.
	lane.journal
		.write(batch.claim(id, service, place, &settled))
		.await?;
	drop(turn);
	Ok(Some(claim))
}

/// Signs the receipt of an answer that is about to be claimed again, under the session that is certified now: the chain forgets
/// certificates, and would not know the key of an old one when it draws the receipt. Nothing is fixed before a claim has the leaf.
fn renew(
	lane: &Shared,
	id: ChannelId,
	certified: u32,
	paid: &mut Paid,
	batch: Batch,
) -> Result<Batch, JournalError> {
	let Some(mut answer) = lane.journal.answer(id, paid.at)? else {
		return Ok(batch);
	};
	let Ending::Signed { receipt, .. } = &mut answer.end else {
		return Ok(batch);
	};
	if receipt.body.session == certified {
		return Ok(batch);
	}
	let mut body = receipt.body.clone();
	body.session = certified;
	**receipt = lane.sign(body);
	paid.leaf = SumNode::leaf(&receipt.body.hash(&lane.genesis), paid.leaf.sum);
	Ok(batch.answer(id, paid.at, &answer))
}

/// How many of these a claim is over: as many as fit, up to one whose voucher is good and comes to what was claimed and their sum.
fn choose(all: &[Paid], claimed: Balance, session: u32, most: Balance) -> Option<usize> {
	let mut sum: Balance = 0;
	let mut chosen = None;
	for (i, paid) in all.iter().enumerate().take(MAX_RECEIPTS as usize) {
		sum = sum.checked_add(paid.leaf.sum)?;
		if sum > most {
			break;
		}
		let voucher = &paid.voucher.body;
		if voucher.expires >= session && claimed.checked_add(sum) == Some(voucher.amount) {
			chosen = Some(i + 1);
		}
	}
	chosen
}

/// Answers that are paid and not claimed. The last one only where its last voucher is there, or is not waited for.
async fn answers(
	lane: &Shared,
	id: ChannelId,
	from: u32,
	idle: bool,
	presses: impl Fn(&Payment) -> bool,
) -> Result<Vec<Paid>, Failed> {
	let mut account = lane.journal.account(id)?;
	let mut all = Vec::new();
	for (number, mut answer) in lane.journal.answers(id, from)? {
		if number == account.last {
			if idle && answer.end == Ending::Open && presses(&answer.voucher) {
				close(lane, id, &mut account, number, &mut answer).await?;
			}
			if !idle || !(answer.owed() == 0 || presses(&answer.voucher)) {
				continue;
			}
		}
		all.extend(paid(lane, number, &answer));
	}
	Ok(all)
}

fn paid(lane: &Shared, number: u32, answer: &Answer) -> Option<Paid> {
	let receipt = answer.receipt()?;
	let earned = answer.earned();
	(earned > 0).then(|| Paid {
		at: number,
		leaf: SumNode::leaf(&receipt.body.hash(&lane.genesis), earned),
		voucher: answer.voucher.clone(),
	})
}

/// Checks that are paid and not claimed.
fn verdicts(lane: &Shared, id: ChannelId, from: u32) -> Result<Vec<Paid>, Failed> {
	let all = lane.journal.verdicts(id, from)?.into_iter();
	let paid = all.filter_map(|(place, checked)| {
		let voucher = checked.voucher.filter(|_| checked.price > 0)?;
		Some(Paid {
			at: place,
			leaf: SumNode::leaf(&checked.hash, checked.price),
			voucher,
		})
	});
	Ok(paid.collect())
}

/// Opens a receipt on chain.
async fn open(lane: &Shared, due: OpeningDue<BlockNumber, Balance>) -> Result<(), Failed> {
	let claims = lane.journal.claims(due.channel, Service::Answer)?;
	let claim = claims
		.into_iter()
		.find(|(_, claim)| claim.claim.body.root == due.root)
		.ok_or_else(|| format!("the claim {} is not in the journal", due.claim))?
		.1;
	let leaves: Vec<_> = claim.leaves.iter().map(|(_, leaf)| *leaf).collect();
	let index = at(&leaves, due.offset).ok_or("no receipt lies there")?;
	let number = claim
		.leaves
		.get(index)
		.map(|(number, _)| *number)
		.ok_or("no such receipt")?;
	let gone = || {
		format!(
			"request {number} of channel {} is not in the journal",
			due.channel
		)
	};
	let answer = lane.journal.answer(due.channel, number)?.ok_or_else(gone)?;
	let ask = lane.journal.ask(due.channel, number)?.ok_or_else(gone)?;
	let fragments = lane.journal.fragments(due.channel, number)?;
	let opening = Opening {
		receipt: answer.receipt().ok_or_else(gone)?.clone(),
		voucher: answer.voucher.clone(),
		proof: SumNode::proof(&leaves, index).ok_or_else(gone)?,
		output: output(&answer, fragments).ok_or_else(gone)?,
		ask,
	};
	lane.chain
		.open_receipt(due.claim, due.point, opening)
		.await?;
	lane.metrics.opened();
	tracing::info!(
		target: LOG_TARGET,
		"request {number} of channel {} is opened on chain",
		due.channel
	);
	Ok(())
}

/// The leaf in which a point of money lies.
fn at(leaves: &[SumNode<Balance>], offset: Balance) -> Option<usize> {
	let mut before: Balance = 0;
	leaves.iter().position(|leaf| {
		let end = before.saturating_add(leaf.sum);
		let here = (before..end).contains(&offset);
		before = end;
		here
	})
}
