//! Lies about what is due and what is said.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use codec::{Decode, Encode};
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	evidence::{Evidence, Verdict},
	report::{Duties, DutyKind, Report, Statement, Work},
	view::{ModelView, RequestState, RequestView},
	ModelId, RequestId,
};
use futures::stream::BoxStream;
use polkadot_sdk::{
	sp_core::H256,
	sp_crypto_hashing::{twox_128, twox_64},
};
use tokio::sync::{mpsc, oneshot};

use super::{Liar, Lie, Vouched};
use crate::{
	chain::{AccountId, Balance, BlockNumber, Chain, ChainError, Head},
	follow::Command,
	LOG_TARGET,
};

/// What has been said in a round, as it stands first in the chain's storage.
#[derive(Decode, Encode)]
pub(super) struct Round {
	pub(super) challenge: H256,
	pub(super) size: u32,
	pub(super) members: Vec<Member>,
}

/// A member of a round, as it stands in the chain's storage.
#[derive(Decode, Encode)]
pub(super) struct Member {
	pub(super) who: AccountId,
	pub(super) session: u32,
	pub(super) progress: Progress,
}

#[derive(Decode, Encode)]
pub(super) enum Progress {
	Measuring,
	Committed(H256),
	Revealed(Evidence),
}

/// What a validator is drawn for, as it stands in the chain's storage.
#[derive(Clone, Copy, Decode, Encode, PartialEq, Eq)]
pub(super) enum Role {
	Executor,
	Verifier,
	Juror,
}

/// Where a value of one of the pallet's maps stands in storage.
fn place(map: &[u8], key: &[u8]) -> Vec<u8> {
	[
		&twox_128(b"Inference")[..],
		&twox_128(map),
		&twox_64(key),
		key,
	]
	.concat()
}

/// Where the round over a request stands in storage.
pub(super) fn round_key(request: RequestId) -> Vec<u8> {
	place(b"Rounds", &request.encode())
}

/// Where it stands in storage what a validator is drawn for in a request.
pub(super) fn assignment_key(validator: &AccountId, request: RequestId) -> Vec<u8> {
	let request = request.encode();
	let mut key = place(b"Assignments", &validator.encode());
	key.extend(twox_64(&request));
	key.extend(request);
	key
}

/// Where it stands in storage for which requests is drawn at the end of a block.
pub(super) fn draws_key(block: BlockNumber) -> Vec<u8> {
	place(b"Draws", &block.encode())
}

/// Where a block's own number stands in its storage.
pub(super) fn number_key() -> Vec<u8> {
	[twox_128(b"System"), twox_128(b"Number")].concat()
}

/// Blocks in which a draw is looked for. Those of requests and disputes are nearer, audits are much farther.
const NEAR: BlockNumber = 16;

/// What a liar serves.
pub(super) struct Shop {
	orders: mpsc::Sender<Command>,
	models: Box<dyn Fn() -> Vec<ModelId> + Send + Sync>,
	/// What was ordered last.
	open: Mutex<bool>,
}

impl Shop {
	pub(super) fn new(
		orders: mpsc::Sender<Command>,
		models: impl Fn() -> Vec<ModelId> + Send + Sync + 'static,
	) -> Self {
		Self {
			orders,
			models: Box::new(models),
			open: Mutex::new(false),
		}
	}

	/// Has all models served from now on, or none.
	fn open(&self, open: bool) {
		let mut was = self.open.lock().unwrap_or_else(|e| e.into_inner());
		if *was == open {
			return;
		}
		*was = open;
		drop(was);
		self.order(open);
	}

	fn order(&self, open: bool) {
		for model in (self.models)() {
			// Nobody waits for the reply.
			let order = if open {
				Command::Serve(model, oneshot::channel().0)
			} else {
				Command::Withdraw(model, oneshot::channel().0)
			};
			// It comes in time or not at all.
			if self.orders.try_send(order).is_err() {
				tracing::error!(target: LOG_TARGET, "a liar's order is lost");
			}
		}
	}
}

/// A chain of which a liar hides something, or to which it says something else.
pub struct LyingChain<C> {
	liar: Liar,
	inner: Arc<C>,
	vouched: Vouched,
	shop: Shop,
	/// Who it is, once it has been told its duties.
	own: Mutex<Option<(InferenceId, AccountId)>>,
}

impl<C: Chain> LyingChain<C> {
	pub(super) fn new(liar: Liar, inner: Arc<C>, vouched: Vouched, shop: Shop) -> Self {
		Self {
			liar,
			inner,
			vouched,
			shop,
			own: Mutex::default(),
		}
	}

	/// What the first other member of the round has said, as far as `wanted` takes it.
	fn of_another<T>(
		&self,
		at: H256,
		request: RequestId,
		own: &AccountId,
		wanted: impl Fn(Progress) -> Option<T>,
	) -> Option<T> {
		let bytes = (self.liar.storage)(at, &round_key(request))?;
		// A liar that cannot read would be one more that is silent, and nobody would notice.
		let round = Round::decode(&mut &bytes[..])
			.expect("a liar knows how rounds stand in storage: see the pallet's `Round`");
		let mut others = round.members.into_iter().filter(|m| m.who != *own);
		others.find_map(|m| wanted(m.progress))
	}

	/// Whether it is a request's executor. On another fork it may not be.
	fn executes(&self, at: H256, own: &AccountId, request: RequestId) -> bool {
		(self.liar.storage)(at, &assignment_key(own, request))
			.and_then(|bytes| Role::decode(&mut &bytes[..]).ok())
			.is_some_and(|role| role == Role::Executor)
	}

	fn own(&self) -> Option<(InferenceId, AccountId)> {
		self.own.lock().unwrap_or_else(|e| e.into_inner()).clone()
	}

	/// A request whose committee measures, and its executor.
	fn provisional(
		&self,
		at: H256,
		request: RequestId,
	) -> Option<(RequestView<AccountId, BlockNumber, Balance>, AccountId)> {
		let view = (self.liar.requests)(at, request)?;
		let executor = view.executor.clone()?;
		(view.state == RequestState::Provisional).then_some((view, executor))
	}

	/// Whether its answer is one that a stranger was drawn to check.
	fn is_watched(&self, at: H256, own: &AccountId, request: RequestId) -> bool {
		self.provisional(at, request)
			.is_some_and(|(view, executor)| {
				let mut verifiers = view.verifiers.iter();
				executor == *own && verifiers.any(|who| self.liar.is_stranger(own, who))
			})
	}

	/// Whether a friend's answer could not be saved by vouching for it, or it is not known yet: some stranger has called it wrong, or
	/// shown nothing so far. The bounds of the exact class are zero; in the tolerant class it gives a friend up too early.
	fn is_lost(&self, at: H256, own: &AccountId, request: RequestId) -> bool {
		let Some((view, executor)) = self.provisional(at, request) else {
			return false;
		};
		if !self.liar.accomplices.contains(&executor) {
			return false;
		}
		let mut strangers = view
			.verifiers
			.iter()
			.filter(|who| self.liar.is_stranger(own, who));
		strangers.any(|who| {
			let shown = view.evidence.iter().find(|(member, _)| member == who);
			shown.is_none_or(|(_, evidence)| evidence.verdict != Verdict::default())
		})
	}

	/// Whether it says that the answer to this request is right, whatever it is: its own, and its accomplices' before their committee.
	/// Before a jury it has nothing to win by vouching for them.
	fn vouches(&self, at: H256, own: &AccountId, request: RequestId) -> bool {
		let Some(view) = (self.liar.requests)(at, request) else {
			return false;
		};
		view.executor.is_some_and(|executor| {
			executor == *own
				|| view.state == RequestState::Provisional
					&& self.liar.accomplices.contains(&executor)
		})
	}

	/// Whether some request waits for a draw.
	fn draws(&self, at: H256) -> bool {
		let number = (self.liar.storage)(at, &number_key())
			.and_then(|bytes| BlockNumber::decode(&mut &bytes[..]).ok())
			.unwrap_or_default();
		(1..=NEAR).any(|ahead| (self.liar.storage)(at, &draws_key(number + ahead)).is_some())
	}

	fn does(&self, at: H256, own: &AccountId, request: RequestId, kind: DutyKind) -> bool {
		let answers = matches!(kind, DutyKind::Answer | DutyKind::CommitOutput);
		match self.liar.lie {
			Some(Lie::SilentExecutor) => !answers,
			Some(Lie::SilentVerifier) => self.executes(at, own, request),
			Some(Lie::WithholdReveal) => !matches!(
				kind,
				DutyKind::Reveal | DutyKind::RevealOutput | DutyKind::LateReveal
			),
			Some(Lie::CrashAfterAnswer) => {
				if !answers && self.executes(at, own, request) {
					(self.liar.crash)();
				}
				true
			}
			// It waits for something to copy.
			Some(Lie::Copycat) => {
				kind != DutyKind::Commit || {
					let committed = |p| matches!(p, Progress::Committed(_)).then_some(());
					self.of_another(at, request, own, committed).is_some()
				}
			}
			Some(Lie::SilentWhenWatched) => answers || !self.is_watched(at, own, request),
			Some(Lie::WithholdForFriend) => {
				kind != DutyKind::LateReveal
					&& (kind != DutyKind::Reveal || !self.is_lost(at, own, request))
			}
			_ => true,
		}
	}

	/// What is said instead.
	fn falsified(
		&self,
		at: H256,
		mut report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(Report<BlockNumber>, InferenceSignature), ChainError> {
		let (Some(Lie::Copycat), Some((key, own))) = (self.liar.lie, self.own()) else {
			return Ok((report, signature));
		};
		for statement in report.statements.iter_mut() {
			match statement {
				Statement::Commit {
					request,
					commitment,
				} => {
					let seen = |p| match p {
						Progress::Committed(c) => Some(c),
						_ => None,
					};
					if let Some(copied) = self.of_another(at, *request, &own, seen) {
						*commitment = copied;
					}
				}
				Statement::Reveal {
					request, evidence, ..
				} => {
					let seen = |p| match p {
						Progress::Revealed(e) => Some(e),
						_ => None,
					};
					if let Some(copied) = self.of_another(at, *request, &own, seen) {
						*evidence = copied;
					}
				}
				_ => (),
			}
		}
		let signature = self
			.inner
			.sign(&key, &report.payload(&self.inner.genesis(), &at))?;
		Ok((report, signature))
	}
}

#[async_trait]
impl<C: Chain> Chain for LyingChain<C> {
	fn heads(&self) -> BoxStream<'static, Head> {
		self.inner.heads()
	}

	fn finality(&self) -> BoxStream<'static, Head> {
		self.inner.finality()
	}

	fn finalized(&self) -> Head {
		self.inner.finalized()
	}

	fn is_major_syncing(&self) -> bool {
		self.inner.is_major_syncing()
	}

	fn genesis(&self) -> H256 {
		self.inner.genesis()
	}

	fn keys(&self) -> Vec<InferenceId> {
		self.inner.keys()
	}

	fn duties(
		&self,
		at: H256,
		key: InferenceId,
	) -> Result<Option<Duties<AccountId, BlockNumber>>, ChainError> {
		let mut found = self.inner.duties(at, key.clone())?;
		if let Some(duties) = &mut found {
			let own = duties.validator.clone();
			*self.own.lock().unwrap_or_else(|e| e.into_inner()) = Some((key, own.clone()));
			duties
				.duties
				.retain(|d| self.does(at, &own, d.request, d.kind));
			if self.liar.lie == Some(Lie::JustInTime) {
				self.shop.open(self.draws(at));
			}
		}
		Ok(found)
	}

	fn data(&self, hash: H256) -> Result<Option<Vec<u8>>, ChainError> {
		self.inner.data(hash)
	}

	fn work(&self, at: H256, request: RequestId) -> Result<Option<Work>, ChainError> {
		let work = self.inner.work(at, request)?;
		if let (Some(work), Some((_, own)), true) =
			(&work, self.own(), self.liar.lie.is_some_and(Lie::looks))
		{
			let vouches = self.vouches(at, &own, request);
			let mut vouched = self.vouched.lock().unwrap_or_else(|e| e.into_inner());
			if vouches {
				vouched.insert(work.seed);
			} else {
				vouched.remove(&work.seed);
			}
		}
		Ok(work)
	}

	fn model(
		&self,
		at: H256,
		model: ModelId,
	) -> Result<Option<ModelView<AccountId, Balance>>, ChainError> {
		self.inner.model(at, model)
	}

	fn sign(&self, key: &InferenceId, payload: &[u8]) -> Result<InferenceSignature, ChainError> {
		self.inner.sign(key, payload)
	}

	fn check(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		self.inner.check(at, report, signature)
	}

	async fn submit(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		let (report, signature) = self.falsified(at, report, signature)?;
		let answers =
			|s: &Statement| matches!(s, Statement::Answer { .. } | Statement::CommitOutput { .. });
		let answered = report.statements.iter().any(answers);
		self.inner.submit(at, report, signature).await?;
		if answered && self.liar.lie == Some(Lie::Leaver) {
			self.shop.order(false);
		}
		Ok(())
	}
}
