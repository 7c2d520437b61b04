//! `consilience appeal`: puts an answer before a jury, one of the session lane with what its checkers have signed of it.

use std::{path::Path, time::Instant};

use consilience_primitives::{
	model::VerificationPolicy,
	request::Input,
	session::{Appealed, Signable, Signed, Verdict},
	view::RequestState,
	RequestId,
};
use consilience_runtime::{
	configs::sessions::APPEAL_BLOCKS, AccountId, Balance, BlockNumber, RuntimeEvent,
};
use consilience_session::{Finding, Record};
use polkadot_sdk::{sc_cli, sp_core::sr25519};
use serde_json::json;

use super::{
	block_on,
	chain::{self, address, Chain},
	csl,
	session::{testify, Network},
	verify::{receipt, Subject},
	watch, Format, NodeAddress, Result, Signer,
};

/// Put an answer before a jury, and follow it to the verdict. Holds a bond, which is lost if the answer is right: `consilience verify`
/// says first what this machine finds. Exit status: 0, the jury has decided, either way; 1, it has not.
#[derive(Debug, clap::Args)]
pub(crate) struct AppealCommand {
	/// Number of the request; or the file of a receipt of the session lane (`consilience channel receipt` writes it). What checkers have
	/// signed of a receipt is shown with it, and is judged too.
	#[arg(value_name = "REQUEST|RECEIPT")]
	subject: Subject,

	#[command(flatten)]
	signer: Signer,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

impl AppealCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		block_on(async {
			match &self.subject {
				Subject::Request(request) => self.request(*request).await,
				Subject::Receipt(file) => self.receipt(file).await,
			}
		})
	}

	async fn request(&self, request: RequestId) -> Result<()> {
		let since = Instant::now();
		let pair = chain::pair(&self.signer.suri)?;
		let chain = Chain::connect(&self.node.url).await?;
		let call = pallet_inference::Call::appeal { request };
		chain.submit(&pair, call.into()).await?;
		self.follow(&chain, request, since).await
	}

	async fn receipt(&self, file: &Path) -> Result<()> {
		let since = Instant::now();
		let pair = chain::pair(&self.signer.suri)?;
		let record = receipt::read(file)?;
		let network = Network::connect(&self.node.url).await?;
		let facts = receipt::Facts::find(&network, &record).await?.facts;
		record
			.verify(&facts)
			.map_err(|flaw| format!("no jury takes it: {flaw}"))?;
		let signed = record.receipt.as_ref().ok_or("there is no receipt")?;
		let chain = &*network.0;
		let name = signed.body.hash(&chain.genesis());
		let known: Option<RequestId> = chain
			.runtime("SessionsApi_receipt_request", name, None)
			.await?;
		let request =
			match known {
				Some(request) => {
					self.format
						.print(&json!({ "event": "known", "request": request }), || {
							format!("it is request {request} already: it was opened, or put before a jury")
						});
					request
				}
				None => self.appealed(chain, &pair, &record).await?,
			};
		for verdict in record.verdicts() {
			self.show(chain, &facts.policy, verdict).await;
		}
		self.follow(chain, request, since).await
	}

	/// Puts a receipt before a jury: as which request.
	async fn appealed(
		&self,
		chain: &Chain,
		pair: &sr25519::Pair,
		record: &Record,
	) -> Result<RequestId> {
		let receipt = record.receipt.clone().ok_or("there is no receipt")?;
		let output = record.output().ok_or("the answer has no end")?;
		let until = appealable_until(record);
		if chain.best().await?.number > until {
			return Err(format!(
				"it is too late: an answer can be put before a jury up to {APPEAL_BLOCKS} blocks after the block that its receipt names, \
				 which was block {until}"
			));
		}
		let bond: Balance = chain
			.runtime("SessionsApi_appeal_bond", units(&record.ask.input), None)
			.await?;
		let call = pallet_sessions::Call::appeal {
			appealed: Box::new(Appealed {
				receipt,
				ask: record.ask.clone(),
				output,
				place: None,
			}),
		};
		let (block, events) = chain.submit(pair, call.into()).await?;
		let request = events.iter().find_map(|event| match event {
			RuntimeEvent::Sessions(pallet_sessions::Event::ReceiptAppealed { request, .. }) => {
				Some(*request)
			}
			_ => None,
		});
		let request = request.ok_or("the transaction is in a block, and called no jury")?;
		self.format.print(
			&json!({ "event": "appealed", "request": request, "bond": bond.to_string(), "block": block.number }),
			|| {
				format!(
					"block {:>6}  request {request}  put before a jury, against a bond of {}",
					block.number,
					csl(bond)
				)
			},
		);
		Ok(request)
	}

	/// Shows what a checker has signed, if that says anything. That it isn't taken is no reason to stop.
	async fn show(
		&self,
		chain: &Chain,
		policy: &VerificationPolicy,
		verdict: &Signed<Verdict<AccountId>>,
	) {
		let finding = Finding::of(&verdict.body.evidence.verdict, policy);
		if finding == Finding::Unclear {
			return;
		}
		let refused = testify(chain, verdict).await.err();
		let checker = address(&verdict.body.checker);
		self.format.print(
			&json!({
				"event": "verdict",
				"checker": checker,
				"finding": finding.word(),
				"taken": refused.is_none(),
				"reason": refused,
			}),
			|| {
				let word = finding.word();
				match &refused {
					None => format!(
						"checker {checker} has signed that it is {word}: that is judged too"
					),
					Some(why) => format!(
						"checker {checker} has signed that it is {word}, which is not taken: {why}"
					),
				}
			},
		);
	}

	async fn follow(&self, chain: &Chain, request: RequestId, since: Instant) -> Result<()> {
		let judged = watch::follow(chain, request, None, self.format, since).await?;
		match judged.state {
			RequestState::Expired | RequestState::Cancelled => {
				Err(format!("request {request}: no jury has decided"))
			}
			_ => Ok(()),
		}
	}
}

/// Last block in which the answer of a receipt can be put before a jury.
pub(super) fn appealable_until(record: &Record) -> BlockNumber {
	record.ask.anchor.number.saturating_add(APPEAL_BLOCKS)
}

/// Units of a question and of the longest answer to it.
fn units(input: &Input) -> u32 {
	input.units().saturating_add(input.max_tokens())
}
