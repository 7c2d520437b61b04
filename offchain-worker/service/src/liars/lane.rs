//! Lies in the session lane: what is signed ([`LyingHand`], which the lane itself asks), and what the chain is told ([`LyingLane`]).

use std::{
	path::{Path, PathBuf},
	sync::{Arc, Mutex},
};

use async_trait::async_trait;
use codec::Compact;
use consilience_lane::{
	message::Question, Chain, ChainError, Channel, ClaimBounds, Config, Drawn, Heads, Lies, Model,
	Session, SignedClaim,
};
use consilience_primitives::{
	evidence::{Evidence, Verdict},
	model::Price,
	request::{FinishReason, Output},
	session::{
		Anchor, Certificate, CertificateDue, ChannelId, ClaimId, LaneKey, Opening, OpeningDue,
		Receipt, Service, Signable, Signed,
	},
	List, ModelId,
};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use tokio::sync::watch;

use super::{made_up, Liar, Lie};
use crate::{
	chain::{AccountId, Balance, BlockNumber},
	LOG_TARGET,
};

/// Tokens that a liar's receipt counts and that nobody was sent.
const PADDING: u32 = 7;

/// What is signed in the lane.
#[derive(Debug)]
pub(super) struct LyingHand(pub(super) Liar);

impl Lies for LyingHand {
	fn unserved(&self, _: &Question) -> Option<Output> {
		(self.0.lie == Some(Lie::Unserved)).then(|| Output::Text {
			tokens: List::truncate_from([5, 6, 7].map(Compact).to_vec()),
			text: b"nobody ran this".to_vec().try_into().unwrap_or_default(),
			finish: FinishReason::Length,
		})
	}

	fn receipt(&self, receipt: &mut Receipt<AccountId, BlockNumber, Balance>) {
		if self.0.lie == Some(Lie::WrongUnits) {
			receipt.output_units = receipt.output_units.saturating_add(PADDING);
		}
	}

	/// A client that wants one check asks whoever is drawn first, and has nobody who says otherwise. Where somebody was drawn before it,
	/// it measures.
	fn unmeasured(&self, check: &Drawn) -> Option<Evidence> {
		let first = check.order.first() == Some(&check.checker);
		(self.0.lie == Some(Lie::Unmeasured) && first).then(|| Evidence {
			fingerprint: made_up(&check.policy, check.challenge),
			verdict: Verdict::default(),
			prior: None,
		})
	}
}

/// A chain to which a liar says something else about claims and receipts.
pub struct LyingLane<C> {
	liar: Liar,
	inner: Arc<C>,
	/// Where its lane key is.
	key: PathBuf,
	/// The last claim for answers that it made and has not tried to use again.
	claim: Mutex<Option<SignedClaim>>,
}

/// Puts a liar around the lane's chain, and into its hand.
pub fn corrupt_lane<C: Chain>(liar: Liar, chain: C, config: Config) -> (LyingLane<C>, Config) {
	let lane = LyingLane {
		liar: liar.clone(),
		inner: Arc::new(chain),
		key: config.folder.join("lane.key"),
		claim: Mutex::default(),
	};
	let config = Config {
		lies: Some(Arc::new(LyingHand(liar))),
		..config
	};
	(lane, config)
}

fn pair(key: &Path) -> Option<sr25519::Pair> {
	sr25519::Pair::from_seed_slice(&std::fs::read(key).ok()?).ok()
}

impl<C: Chain> LyingLane<C> {
	/// A claim as it was, but for this; signed again.
	fn forged(
		&self,
		claim: &SignedClaim,
		change: impl FnOnce(&mut SignedClaim),
	) -> Option<SignedClaim> {
		let mut forged = claim.clone();
		change(&mut forged);
		let signature = pair(&self.key)?.sign(&forged.body.payload(&self.inner.genesis()));
		Some(Signed {
			signature,
			..forged
		})
	}

	/// Tries to be paid once more with the voucher of a claim that the chain has.
	async fn use_again(&self, claim: &SignedClaim) -> Result<(), ChainError> {
		let voucher = &claim.body.voucher.body;
		let (own, me) = (voucher.channel, &voucher.payee);
		let channel = self.inner.channel(own).await?;
		let others = channel.iter().flat_map(|c| c.allocations.iter());
		let friend = others.map(|a| &a.payee).find(|payee| *payee != me);
		let mut elsewhere = None;
		for id in (0..=own.saturating_add(u64::from(PADDING))).filter(|id| *id != own) {
			let other = self.inner.channel(id).await?;
			if other.is_some_and(|c| c.allocations.iter().any(|a| a.payee == *me)) {
				elsewhere = Some(id);
			}
		}
		let whole = voucher.amount;
		let tries = [
			("twice", self.forged(claim, |_| ())),
			(
				"from another channel",
				elsewhere.and_then(|id| {
					self.forged(claim, |c| {
						c.body.voucher.body.channel = id;
						c.body.root.sum = whole;
					})
				}),
			),
			(
				"by another payee",
				friend.and_then(|friend| {
					self.forged(claim, |c| {
						c.body.voucher.body.payee = friend.clone();
						c.body.root.sum = whole;
					})
				}),
			),
			(
				"as a check's",
				self.forged(claim, |c| {
					c.body.voucher.body.service = Service::Check;
					c.body.root.sum = whole;
				}),
			),
		];
		for (what, forged) in tries {
			let Some(forged) = forged else { continue };
			match self.inner.settle(vec![forged]).await {
				Ok(()) => tracing::error!(target: LOG_TARGET, "A VOUCHER IS USED AGAIN {what}"),
				Err(error) => {
					tracing::info!(target: LOG_TARGET, "A voucher is not used again {what}: {error}");
				}
			}
		}
		Ok(())
	}

	/// The claim that is to be used again, once finalised state has it.
	async fn taken(&self) -> Result<Option<SignedClaim>, ChainError> {
		let known = self.claim.lock().unwrap_or_else(|e| e.into_inner()).clone();
		let Some(claim) = known else { return Ok(None) };
		let voucher = &claim.body.voucher.body;
		let (channel, payee) = (voucher.channel, &voucher.payee);
		let claimed = self.inner.claimed(channel, payee, Service::Answer).await?;
		if claimed < voucher.amount {
			return Ok(None);
		}
		*self.claim.lock().unwrap_or_else(|e| e.into_inner()) = None;
		Ok(Some(claim))
	}
}

#[async_trait]
impl<C: Chain> Chain for LyingLane<C> {
	fn genesis(&self) -> H256 {
		self.inner.genesis()
	}

	fn heads(&self) -> watch::Receiver<Heads> {
		self.inner.heads()
	}

	async fn session(&self) -> Result<Session, ChainError> {
		self.inner.session().await
	}

	async fn finalised_session(&self) -> Result<u32, ChainError> {
		self.inner.finalised_session().await
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		self.inner.channel(id).await
	}

	async fn claimed(
		&self,
		channel: ChannelId,
		payee: &AccountId,
		service: Service,
	) -> Result<Balance, ChainError> {
		self.inner.claimed(channel, payee, service).await
	}

	async fn finalised_hash(&self, number: BlockNumber) -> Result<Option<H256>, ChainError> {
		self.inner.finalised_hash(number).await
	}

	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> Result<Option<Model>, ChainError> {
		self.inner.model(id, at).await
	}

	async fn serves(&self) -> Result<Vec<(ModelId, Price<Balance>)>, ChainError> {
		self.inner.serves().await
	}

	async fn lane_key(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Option<LaneKey>, ChainError> {
		self.inner.lane_key(validator, session).await
	}

	async fn certificate_due(&self) -> Result<Option<CertificateDue<AccountId>>, ChainError> {
		self.inner.certificate_due().await
	}

	async fn certify(&self, certificate: Certificate) -> Result<(), ChainError> {
		self.inner.certify(certificate).await
	}

	async fn claim_bounds(&self) -> Result<ClaimBounds, ChainError> {
		self.inner.claim_bounds().await
	}

	async fn claim_room(&self, validator: &AccountId, session: u32) -> Result<Balance, ChainError> {
		self.inner.claim_room(validator, session).await
	}

	async fn settle(&self, claims: Vec<SignedClaim>) -> Result<(), ChainError> {
		if self.liar.lie == Some(Lie::ReuseVoucher) {
			let mut answers = claims.iter().rev();
			let last = answers.find(|c| c.body.voucher.body.service == Service::Answer);
			if let Some(last) = last {
				*self.claim.lock().unwrap_or_else(|e| e.into_inner()) = Some(last.clone());
			}
		}
		self.inner.settle(claims).await
	}

	async fn openings_due(
		&self,
		validator: &AccountId,
	) -> Result<Vec<OpeningDue<BlockNumber, Balance>>, ChainError> {
		// The lane asks at every block.
		if let Some(claim) = self.taken().await? {
			self.use_again(&claim).await?;
		}
		self.inner.openings_due(validator).await
	}

	async fn open_receipt(
		&self,
		claim: ClaimId,
		point: u32,
		opening: Opening<AccountId, BlockNumber, Balance>,
	) -> Result<(), ChainError> {
		if self.liar.lie == Some(Lie::WithholdOpening) {
			tracing::info!(target: LOG_TARGET, "A receipt of claim {claim} stays closed");
			return Ok(());
		}
		self.inner.open_receipt(claim, point, opening).await
	}
}
