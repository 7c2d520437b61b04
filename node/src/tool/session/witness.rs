//! Shows what checkers have signed of a client's own receipts, when the chain looks at them: whoever has vouched for what is found false, or
//! called wrong what is right, is judged with it. It is free, and nobody is paid for it.

use std::{collections::BTreeMap, sync::Arc};

use codec::Encode;
use consilience_primitives::{
	comparison::AnswerJudgement,
	session::{ChannelId, Signable, Signed, Verdict},
	RequestId,
};
use consilience_runtime::{AccountId, RuntimeEvent, UncheckedExtrinsic};
use consilience_session::{Finding, Record, Wallet};
use pallet_inference::Event as Inference;
use pallet_sessions::Event as Sessions;

use crate::tool::{
	chain::{address, Chain},
	failure, Result,
};

/// Receipts that are remembered while the chain measures them.
const REMEMBERED: usize = 1_024;

/// Submits a checker's signed verdict, so that it is judged with its answer, and waits until it is in a block.
pub(in crate::tool) async fn testify(
	chain: &Chain,
	verdict: &Signed<Verdict<AccountId>>,
) -> Result<()> {
	let transaction: UncheckedExtrinsic = chain
		.runtime("SessionsApi_testify_transaction", verdict, None)
		.await?;
	let bytes = transaction.encode();
	let mut updates = chain.send(&bytes).await.map_err(failure::sessions)?;
	chain.included(&bytes, &mut updates).await?;
	Ok(())
}

/// An event on chain about a receipt that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
	/// A receipt of this number is being measured as a request. Whose it is, is to be seen.
	Measured(RequestId, u32),
	/// The answer of a request was found wrong.
	Wrong(RequestId),
}

/// Returns what an event says of a channel's receipts.
fn news(event: &RuntimeEvent, channel: ChannelId) -> Option<News> {
	match event {
		RuntimeEvent::Sessions(Sessions::ReceiptOpened {
			request: Some(request),
			number,
			..
		}) => Some(News::Measured(*request, *number)),
		RuntimeEvent::Sessions(Sessions::ReceiptAppealed {
			request,
			channel: of,
			number,
			..
		}) if *of == channel => Some(News::Measured(*request, *number)),
		RuntimeEvent::Inference(
			Inference::RequestRejected {
				request,
				answer: AnswerJudgement::Wrong,
				..
			}
			| Inference::AnswerOverturned { request, .. },
		) => Some(News::Wrong(*request)),
		_ => None,
	}
}

/// Returns whether a verdict is shown. When an answer is measured: every verdict that says right or wrong, if one says wrong, because a jury
/// then decides who was right. When it was found wrong: every verdict that says right.
const fn is_shown(finding: Finding, is_doubted: bool, found_wrong: bool) -> bool {
	match finding {
		Finding::Right => is_doubted || found_wrong,
		Finding::Wrong => !found_wrong,
		Finding::Unclear => false,
	}
}

/// Returns the verdicts of a record that are shown.
fn shown(record: &Record, found_wrong: bool) -> Vec<&Signed<Verdict<AccountId>>> {
	let policy = &record.facts.policy;
	let finding = |v: &Signed<Verdict<_>>| Finding::of(&v.body.evidence.verdict, policy);
	let is_doubted = record.verdicts().any(|v| finding(v) == Finding::Wrong);
	let verdicts = record.verdicts();
	verdicts
		.filter(|v| is_shown(finding(v), is_doubted, found_wrong))
		.collect()
}

/// Looks at finalised blocks for receipts of a wallet's channel.
pub(in crate::tool) struct Witness {
	wallet: Arc<Wallet>,
	channel: ChannelId,
	/// Numbers of receipts that are measured, by request.
	measured: BTreeMap<RequestId, u32>,
}

impl Witness {
	/// For a channel and its wallet.
	pub(in crate::tool) const fn new(wallet: Arc<Wallet>, channel: ChannelId) -> Self {
		Self {
			wallet,
			channel,
			measured: BTreeMap::new(),
		}
	}

	/// Follows the chain until the node goes away.
	pub(in crate::tool) async fn follow(&mut self, chain: &Chain) -> Result<()> {
		let mut heads = chain.heads(true).await?;
		loop {
			let header = heads.next().await.ok_or("the node went away")?;
			let head = chain.head(&header.map_err(|e| e.to_string())?).await?;
			for event in chain.events(head.hash).await? {
				if let Some(news) = news(&event, self.channel) {
					self.take(chain, news).await?;
				}
			}
		}
	}

	async fn take(&mut self, chain: &Chain, news: News) -> Result<()> {
		let (number, found_wrong) = match news {
			News::Measured(request, number) => {
				if !self.is_ours(chain, request, number).await? {
					return Ok(());
				}
				self.measured.insert(request, number);
				if self.measured.len() > REMEMBERED {
					self.measured.pop_first();
				}
				(number, false)
			}
			News::Wrong(request) => match self.measured.remove(&request) {
				Some(number) => (number, true),
				None => return Ok(()),
			},
		};
		let Some(record) = self.record(number).await? else {
			return Ok(());
		};
		for verdict in shown(&record, found_wrong) {
			let checker = address(&verdict.body.checker);
			match testify(chain, verdict).await {
				Ok(()) => {
					tracing::info!("receipt {number}: what checker {checker} has signed is judged")
				}
				Err(why) => tracing::info!(
					"receipt {number}: what checker {checker} has signed is not taken: {why}"
				),
			}
		}
		Ok(())
	}

	/// Whether a request measures the wallet's receipt of this number.
	async fn is_ours(&self, chain: &Chain, request: RequestId, number: u32) -> Result<bool> {
		let record = self.record(number).await?;
		let Some(receipt) = record.and_then(|record| record.receipt) else {
			return Ok(false);
		};
		let name = receipt.body.hash(&chain.genesis());
		let known: Option<RequestId> = chain
			.runtime("SessionsApi_receipt_request", name, None)
			.await?;
		Ok(known == Some(request))
	}

	async fn record(&self, number: u32) -> Result<Option<Record>> {
		let wallet = self.wallet.clone();
		let read = tokio::task::spawn_blocking(move || wallet.record(number));
		read.await
			.map_err(|e| e.to_string())?
			.map_err(|e| e.to_string())
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn nobody_is_shown_who_says_what_all_say_and_the_chain_finds() {
		let (measured, found_wrong) = (false, true);
		for is_doubted in [false, true] {
			assert_eq!(is_shown(Finding::Right, is_doubted, measured), is_doubted);
			assert!(is_shown(Finding::Right, is_doubted, found_wrong));
			assert!(!is_shown(Finding::Unclear, is_doubted, measured));
			assert!(!is_shown(Finding::Unclear, is_doubted, found_wrong));
		}
		assert!(is_shown(Finding::Wrong, true, measured));
		assert!(!is_shown(Finding::Wrong, true, found_wrong));
	}

	#[test]
	fn what_concerns_others_is_passed_over() {
		let channel = 7;
		let appealed = |channel| {
			RuntimeEvent::Sessions(Sessions::ReceiptAppealed {
				request: 3,
				channel,
				payee: [1; 32].into(),
				number: 9,
				who: [2; 32].into(),
				claim: None,
			})
		};
		assert_eq!(news(&appealed(7), channel), Some(News::Measured(3, 9)));
		assert_eq!(news(&appealed(8), channel), None);
		// The model of an opened receipt may be gone: nothing is measured.
		let opened = |request| {
			RuntimeEvent::Sessions(Sessions::ReceiptOpened {
				claim: 1,
				number: 9,
				request,
			})
		};
		assert_eq!(news(&opened(None), channel), None);
		assert_eq!(news(&opened(Some(4)), channel), Some(News::Measured(4, 9)));
		let overturned = Inference::AnswerOverturned {
			request: 4,
			owed: 0,
		};
		let overturned = RuntimeEvent::Inference(overturned);
		assert_eq!(news(&overturned, channel), Some(News::Wrong(4)));
	}
}
