//! The session lane, as the gateway knows it: a channel that its account has opened, and the client library that asks.

use std::{
	collections::HashMap,
	path::Path,
	sync::Arc,
	time::{Duration, Instant},
};

use async_trait::async_trait;
use codec::Encode;
use consilience_gateway::{
	lane::{Check, Event, Lane, Outcome, Quote, Receipt, Status},
	network::{Ask, Block, Finish, Refusal},
};
use consilience_primitives::{
	model::{ModelStatus, Task},
	request::{FinishReason, Input, InputError, StoredInput},
	session::{
		sampling_seed, Anchor, ChannelId, LaneKey, Service, Signable, MAX_ALLOCATIONS, MAX_NUMBER,
	},
	ModelId,
};
use consilience_rpc::JsonInput;
use consilience_runtime::{AccountId, Balance, BlockNumber};
use consilience_session::{
	self as library,
	chain::{self as lane, Chain as SessionChain, ChainError, Channel},
	record::Outcome as Checked,
	AskOptions, Client, Finding, Record, Settings, Wallet, WalletError,
};
use futures::{
	future::BoxFuture,
	stream::{self, BoxStream, StreamExt},
};
use polkadot_sdk::{
	sp_core::{self, H256},
	sp_crypto_hashing::blake2_256,
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::network::{failed, NodeNetwork};
use crate::tool::{
	chain::{address, Chain, Model},
	csl,
	input::followed_apart,
	session::{find, open_for, usable, Network, Witness},
	Result as ToolResult,
};

/// Checkers of an answer, where the gateway does not say.
const CHECKS: u8 = 2;
/// How long it is taken from memory who answers for a model, and what the channel has.
const VIEW_AGE: Duration = Duration::from_secs(3);

/// After which the chain is followed again where its node went away.
const AGAIN: Duration = Duration::from_secs(5);

/// The chain, through a connection that is made anew where it broke.
struct NodeChain(NodeNetwork);

impl NodeChain {
	async fn network(&self) -> Result<Network, ChainError> {
		let chain = self.0.chain().await;
		chain.map(Network).map_err(|e| ChainError(e.to_string()))
	}
}

#[async_trait]
impl SessionChain for NodeChain {
	async fn genesis(&self) -> Result<H256, ChainError> {
		self.network().await?.genesis().await
	}

	async fn finalised(&self) -> Result<Anchor<BlockNumber>, ChainError> {
		self.network().await?.finalised().await
	}

	async fn session(&self) -> Result<lane::Session, ChainError> {
		self.network().await?.session().await
	}

	async fn channel(&self, id: ChannelId) -> Result<Option<Channel>, ChainError> {
		self.network().await?.channel(id).await
	}

	async fn model(
		&self,
		id: &ModelId,
		at: &Anchor<BlockNumber>,
	) -> Result<Option<lane::Model>, ChainError> {
		self.network().await?.model(id, at).await
	}

	async fn lanes(&self, model: &ModelId) -> Result<Vec<lane::Lane>, ChainError> {
		self.network().await?.lanes(model).await
	}

	async fn lane_keys(
		&self,
		validator: &AccountId,
		session: u32,
	) -> Result<Vec<LaneKey>, ChainError> {
		self.network().await?.lane_keys(validator, session).await
	}
}

/// Who answers for a model, and what the channel has for them.
#[derive(Clone)]
struct View {
	at: Instant,
	model: Model,
	/// Those whom the channel pays, and what vouchers for their answers may come to.
	payees: Vec<(AccountId, Balance)>,
	/// What vouchers for checks may come to.
	pot: Balance,
}

/// The session lane, with a channel that pays. Clones are the same one.
#[derive(Clone)]
pub(super) struct NodeLane(Arc<Inner>);

struct Inner {
	network: NodeNetwork,
	client: Client,
	channel: ChannelId,
	/// Validators that are tried for a question, one after the other.
	attempts: usize,
	views: Mutex<HashMap<ModelId, View>>,
}

impl NodeLane {
	/// Opens the channel of a wallet, or finds the one that it has, and waits until it can be used. The wallet is made if there is none.
	pub(super) async fn open(
		network: &NodeNetwork,
		folder: &Path,
		deposit: Balance,
	) -> ToolResult<Self> {
		let wallet = match Wallet::open(folder) {
			Err(WalletError::Missing(_)) => Wallet::create(folder),
			opened => opened,
		};
		let wallet = wallet.map_err(|e| e.to_string())?;
		let chain = network.chain().await.map_err(|e| e.to_string())?;
		let channel = match wallet.bound() {
			Ok(bound) if bound.genesis != chain.genesis() => {
				return Err(format!(
					"the wallet {} is of another chain: name another folder with --session-wallet",
					folder.display()
				));
			}
			Ok(bound) => bound.channel,
			Err(_) => {
				let view = Network(chain.clone());
				match find(&view, &wallet, &network.0.pair).await? {
					Some(channel) => channel,
					None => opened(network, &chain, &wallet, deposit).await?,
				}
			}
		};
		let view = usable(&Network(chain), channel)
			.await
			.map_err(|e| format!("{e} (--session-wallet)"))?;
		if view.closes_at.is_some() {
			return Err(format!(
				"channel {channel} is closing: name another folder with --session-wallet, and a new one is opened"
			));
		}
		let settings = Settings::default();
		let attempts = settings.attempts.max(1);
		let client = Client::open(
			Arc::new(NodeChain(network.clone())),
			Arc::new(wallet),
			settings,
		);
		let client = client.await.map_err(|e| e.to_string())?;
		let witness = Witness::new(client.wallet().clone(), channel);
		tokio::spawn(watch(network.clone(), witness));
		Ok(Self(Arc::new(Inner {
			network: network.clone(),
			client,
			channel,
			attempts,
			views: Mutex::default(),
		})))
	}

	fn wallet(&self) -> &Wallet {
		self.0.client.wallet()
	}

	/// Returns who answers for a model and what the channel has, as it was not long ago.
	async fn view(&self, id: ModelId) -> Result<View, Refusal> {
		let mut views = self.0.views.lock().await;
		if let Some(view) = views.get(&id).filter(|view| view.at.elapsed() < VIEW_AGE) {
			return Ok(view.clone());
		}
		let chain = self.0.network.chain().await?;
		let view = self.read(&chain, id).await.map_err(|e| failed(&chain, e))?;
		let Some(view) = view else {
			views.remove(&id);
			return Err(Refusal::UnknownModel);
		};
		views.insert(id, view.clone());
		Ok(view)
	}

	async fn read(&self, chain: &Chain, id: ModelId) -> ToolResult<Option<View>> {
		let at = chain.recently_finalized().await?.hash;
		let model: Option<Model> = chain
			.runtime_finalized("InferenceApi_model", id, at)
			.await?;
		let Some(model) = model else {
			return Ok(None);
		};
		let lanes = lanes(chain, id, at).await?;
		let channel: Option<Channel> = chain
			.runtime_finalized("SessionsApi_channel", self.0.channel, at)
			.await?;
		let channel = channel.filter(|channel| channel.closes_at.is_none());
		let limit = |validator: &AccountId| {
			let mut allocations = channel.iter().flat_map(|channel| &channel.allocations);
			let paid = allocations.find(|allocation| allocation.payee == *validator);
			paid.map(|allocation| allocation.allotment.limit())
		};
		let payees = lanes
			.iter()
			.filter_map(|lane| Some((lane.validator.clone(), limit(&lane.validator)?)))
			.collect();
		Ok(Some(View {
			at: Instant::now(),
			model,
			payees,
			pot: channel.as_ref().map_or(0, |channel| channel.pot.limit()),
		}))
	}

	/// Returns what is asked, in the lane's words.
	async fn asked(&self, ask: &Ask) -> Result<(View, Input), Refusal> {
		let id: ModelId = ask.model.parse().map_err(|_| Refusal::UnknownModel)?;
		let view = self.view(id).await?;
		let json = serde_json::to_value(&ask.input).and_then(serde_json::from_value::<JsonInput>);
		let json = json.map_err(|e| Refusal::Input(e.to_string()))?;
		let input = json.input(&view.model.spec.sampling);
		let input = followed_apart(input.map_err(Refusal::Input)?).await;
		match input.map_err(Refusal::Input)?.stored().0 {
			StoredInput::Inline(input) => Ok((view, input)),
			StoredInput::Indexed(_) => Err(Refusal::Input("the session lane takes text".into())),
		}
	}

	/// Says why the channel cannot pay, where it has too little.
	fn afford(&self, view: &View, answer: Balance, checks: Balance) -> Result<(), Refusal> {
		let channel = self.0.channel;
		let unread = |e: WalletError| Refusal::Other(e.to_string());
		let mut most: Option<Balance> = None;
		for (payee, limit) in &view.payees {
			let signed = self.wallet().signed(payee, Service::Answer);
			let left = limit.saturating_sub(signed.map_err(unread)?);
			most = most.max(Some(left));
		}
		let Some(most) = most else {
			return Err(Refusal::NoExecutor(format!(
				"channel {channel} pays no validator of this model"
			)));
		};
		if most < answer {
			return Err(Refusal::Channel(format!(
				"the answer may cost {}, and channel {channel} has no more than {} left for one validator. Whoever runs the gateway \
				 raises that: consilience channel raise {channel} --payee ACCOUNT --amount CSL",
				csl(answer),
				csl(most)
			)));
		}
		let spent = self.wallet().spent(Service::Check).map_err(unread)?;
		let left = view.pot.saturating_sub(spent);
		if left < checks {
			return Err(Refusal::Channel(format!(
				"checks may cost {}, and channel {channel} has {} left for them. Whoever runs the gateway raises that: \
				 consilience channel raise {channel} --amount CSL",
				csl(checks),
				csl(left)
			)));
		}
		Ok(())
	}

	/// Returns what the wallet has of a number.
	async fn kept(&self, number: u32) -> Result<Option<Record>, String> {
		let wallet = self.0.client.wallet().clone();
		let read = tokio::task::spawn_blocking(move || wallet.record(number));
		let read = read.await.map_err(|e| e.to_string())?;
		read.map_err(|e| e.to_string())
	}

	/// Returns what there is to show for a number that was asked.
	async fn shown(&self, number: Option<u32>) -> Result<Box<Outcome>, Refusal> {
		let record = match number {
			Some(number) => self.kept(number).await.map_err(Refusal::Other)?,
			None => None,
		};
		let missing = || Refusal::Other("the wallet holds nothing of what was asked".into());
		Ok(Box::new(outcome(&record.ok_or_else(missing)?)))
	}
}

/// Shows what checkers have signed where the chain looks at a receipt, through a connection that is made anew where it broke.
async fn watch(network: NodeNetwork, mut witness: Witness) {
	loop {
		let ended = match network.chain().await {
			Ok(chain) => witness.follow(&chain).await,
			Err(e) => Err(e.to_string()),
		};
		if let Err(why) = ended {
			tracing::warn!("receipts are not watched for a moment: {why}");
		}
		tokio::time::sleep(AGAIN).await;
	}
}

/// Who answers for a model in the session lane at a block.
async fn lanes(chain: &Chain, model: ModelId, at: H256) -> ToolResult<Vec<lane::Lane>> {
	chain
		.runtime_finalized("SessionsApi_lanes", model, at)
		.await
}

/// Opens a channel that pays those who answer for text models now, as many as a channel pays.
async fn opened(
	network: &NodeNetwork,
	chain: &Arc<Chain>,
	wallet: &Wallet,
	deposit: Balance,
) -> ToolResult<ChannelId> {
	let at = chain.finalized().await?.hash;
	let mut all: Vec<Vec<AccountId>> = Vec::new();
	for model in chain.models().await? {
		if model.spec.task == Task::TextGeneration && model.status == ModelStatus::Active {
			let lanes = lanes(chain, model.id, at).await?;
			all.push(lanes.into_iter().map(|lane| lane.validator).collect());
		}
	}
	let payees = payees(&all);
	if payees.is_empty() {
		return Err(
			"no validator that serves a text model answers in the session lane: they do where they run with --session-listen. \
			 Start the gateway without --session-deposit, or when they do"
				.into(),
		);
	}
	eprintln!(
		"opening a channel of the session lane for {} validators, with a deposit of {}",
		payees.len(),
		csl(deposit)
	);
	let _turn = network.0.turn.lock().await;
	let view = Network(chain.clone());
	open_for(&view, wallet, &network.0.pair, payees, deposit).await
}

/// Chooses whom a channel pays: of each model's validators one after the other, so that no model is left out while there is room.
fn payees(models: &[Vec<AccountId>]) -> Vec<AccountId> {
	let longest = models.iter().map(Vec::len).max().unwrap_or_default();
	let mut payees = Vec::new();
	for place in 0..longest {
		for validator in models.iter().filter_map(|model| model.get(place)) {
			if payees.len() < MAX_ALLOCATIONS as usize && !payees.contains(validator) {
				payees.push(validator.clone());
			}
		}
	}
	payees
}

#[async_trait]
impl Lane for NodeLane {
	fn channel(&self) -> u64 {
		self.0.channel
	}

	async fn serving(&self, model: &str) -> Result<u32, Refusal> {
		let id: ModelId = model.parse().map_err(|_| Refusal::UnknownModel)?;
		Ok(self.view(id).await?.payees.len() as u32)
	}

	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal> {
		let (view, input) = self.asked(ask).await?;
		let (client, id) = (&self.0.client, view.model.id);
		let quote = client.quote(&id, &input, checks(ask)).await;
		let quote = quote.map_err(refusal)?;
		self.afford(&view, quote.answer, quote.checks)?;
		let attempts = self.0.attempts as Balance;
		Ok(Quote {
			fee: quote
				.answer
				.saturating_mul(attempts)
				.saturating_add(quote.checks),
			input_units: input.units(),
			question: question(&id, &input),
			from: self.next_number().await.map_err(Refusal::Other)?,
		})
	}

	fn ask(
		&self,
		ask: &Ask,
		cut: BoxFuture<'static, ()>,
	) -> BoxStream<'static, Result<Event, Refusal>> {
		let asking = Asking {
			lane: self.clone(),
			ask: ask.clone(),
			answer: None,
			cut: Some(cut),
			number: None,
			is_signed: false,
			is_cut: false,
			ended: false,
		};
		stream::unfold(asking, |mut asking| async move {
			if asking.ended {
				return None;
			}
			let event = asking.next().await?;
			asking.ended = matches!(event, Err(_) | Ok(Event::Done(_)));
			Some((event, asking))
		})
		.boxed()
	}

	async fn next_number(&self) -> Result<u32, String> {
		self.wallet().next_number().map_err(|e| e.to_string())
	}

	async fn outcome(&self, number: u32) -> Result<Option<Outcome>, String> {
		let record = self.kept(number).await?;
		Ok(record.as_ref().map(outcome))
	}

	async fn record(&self, number: u32) -> Result<Option<Value>, String> {
		let record = self.kept(number).await?;
		Ok(record.as_ref().map(Record::to_json))
	}
}

/// A question under way.
struct Asking {
	lane: NodeLane,
	ask: Ask,
	/// The library's events, once it is asked.
	answer: Option<library::Answer>,
	/// Done when the answer is to be cut, until it is.
	cut: Option<BoxFuture<'static, ()>>,
	/// The number under which it was asked last.
	number: Option<u32>,
	/// Whether its executor has signed.
	is_signed: bool,
	is_cut: bool,
	ended: bool,
}

impl Asking {
	async fn next(&mut self) -> Option<Result<Event, Refusal>> {
		loop {
			match self.happening().await? {
				Ok(None) => (),
				Ok(Some(event)) => return Some(Ok(event)),
				Err(refusal) => return Some(Err(refusal)),
			}
		}
	}

	/// Returns the next event, or `Ok(None)` where something happened that the gateway is not told of.
	async fn happening(&mut self) -> Option<Result<Option<Event>, Refusal>> {
		if self.answer.is_none() {
			let (view, input) = match self.lane.asked(&self.ask).await {
				Ok(asked) => asked,
				Err(refusal) => return Some(Err(refusal)),
			};
			let options = AskOptions {
				checks: checks(&self.ask),
				executor: None,
			};
			let answer = self.lane.0.client.ask(view.model.id, input, options);
			self.answer = Some(answer);
		}
		let Self { answer, cut, .. } = self;
		let answer = answer.as_mut()?;
		let cutting = async {
			match cut {
				Some(cut) => cut.await,
				None => futures::future::pending().await,
			}
		};
		let event = tokio::select! {
			event = answer.next() => event?,
			() = cutting => {
				self.cut = None;
				// Once it is signed there is nothing to save, and whoever checks it is at work.
				if let (Some(answer), false) = (&self.answer, self.is_signed) {
					answer.cancel();
					self.is_cut = true;
				}
				return Some(Ok(None));
			}
		};
		Some(match event {
			Ok(event) => self.told(event).await,
			Err(e) => Err(refusal(e)),
		})
	}

	async fn told(&mut self, event: library::Event) -> Result<Option<Event>, Refusal> {
		Ok(Some(match event {
			library::Event::Started { executor, number } => {
				self.number = Some(number);
				Event::Started {
					executor: address(&executor),
					number,
				}
			}
			library::Event::Text(text) => Event::Text(text),
			library::Event::Failed {
				executor,
				number,
				why,
			} => Event::Failed {
				executor: address(&executor),
				number,
				why: why.to_string(),
			},
			library::Event::Receipt(_) => {
				self.is_signed = true;
				let outcome = self.lane.shown(self.number).await?;
				if self.is_cut {
					// Dropped, so that nobody is paid to check what nobody wants to know.
					self.answer = None;
					Event::Done(outcome)
				} else {
					Event::Answered(outcome)
				}
			}
			// The reply says that it waits by its pings.
			library::Event::Waiting { .. } | library::Event::Checking { .. } => return Ok(None),
			library::Event::Verdict { checker, finding } => Event::Checked(Check::Verdict {
				account: address(&checker),
				verdict: finding.word().into(),
				signature: None,
			}),
			library::Event::Skipped { checker, why } => Event::Checked(Check::Skipped {
				account: address(&checker),
				skipped: why.to_string(),
			}),
			library::Event::Done { number, .. } => {
				Event::Done(self.lane.shown(Some(number)).await?)
			}
		}))
	}
}

/// Returns how many are to check an answer.
fn checks(ask: &Ask) -> u32 {
	ask.verifiers.unwrap_or(CHECKS).into()
}

/// Returns what tells a question from others.
fn question(model: &ModelId, input: &Input) -> String {
	format!("{:?}", H256(blake2_256(&(model, input).encode())))
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
	sp_core::bytes::to_hex(bytes.as_ref(), false)
}

/// Returns what there is to show for a question, in the gateway's shape.
fn outcome(record: &Record) -> Outcome {
	let (ask, facts) = (&record.ask, &record.facts);
	let tokens = record.tokens.len() as u32;
	let mut right = 0;
	let mut measured: Balance = 0;
	let mut checkers = Vec::new();
	for check in &record.checks {
		let account = address(&check.checker);
		checkers.push(match &check.outcome {
			Checked::Verdict(signed) => {
				let finding = Finding::of(&signed.body.evidence.verdict, &facts.policy);
				measured += 1;
				right += u32::from(finding == Finding::Right);
				Check::Verdict {
					account,
					verdict: finding.word().into(),
					signature: Some(hex(signed.signature)),
				}
			}
			Checked::Skipped(why) => Check::Skipped {
				account,
				skipped: why.to_string(),
			},
		});
	}
	// What does not verify is not called checked; the library has logged it.
	let status = match record.status() {
		Ok(library::Status::Streaming) => Status::Streaming,
		Ok(library::Status::Answered) | Err(_) => Status::Answered,
		Ok(library::Status::Checked { .. }) => Status::Checked,
		Ok(library::Status::Refuted) => Status::Refuted,
	};
	let most = ask.input.max_tokens();
	let receipt = record.receipt.as_ref();
	let answer = receipt.map_or(record.paid, |signed| signed.body.amount.max(record.paid));
	let check = facts.check.of(ask.input.units(), tokens).unwrap_or(0);
	Outcome {
		number: ask.number,
		question: question(&ask.model, &ask.input),
		executor: address(&ask.payee),
		seed: format!("{:?}", sampling_seed(&facts.seed, ask.number)),
		text: String::from_utf8_lossy(&record.text).into_owned(),
		tokens,
		finish: record.finish.map(|finish| match finish {
			FinishReason::EndOfText => Finish::EndOfText,
			FinishReason::StopString => Finish::StopString,
			FinishReason::Length => Finish::Length,
		}),
		whole: match record.finish {
			Some(FinishReason::Length) => tokens >= most,
			Some(_) => true,
			None => false,
		},
		receipt: receipt.map(|signed| Receipt {
			hash: format!("{:?}", signed.body.hash(&facts.genesis)),
			signature: hex(signed.signature),
			anchor: Block {
				number: signed.body.anchor.number,
				hash: format!("{:?}", signed.body.anchor.hash),
			},
			input_units: signed.body.input_units,
			output_units: signed.body.output_units,
			amount: signed.body.amount,
		}),
		checkers,
		status,
		right,
		of: record.wanted.max(right),
		paid: answer.saturating_add(check.saturating_mul(measured)),
	}
}

/// Returns why a question was not answered, in the gateway's words.
fn refusal(error: library::Error) -> Refusal {
	use consilience_session::Error;
	let why = error.to_string();
	match error {
		Error::Chain(_) => Refusal::Unreachable(why),
		Error::Wallet(WalletError::UsedUp) => Refusal::Channel(format!(
			"all {MAX_NUMBER} questions of the channel are asked. Whoever runs the gateway starts it with another --session-wallet"
		)),
		Error::Wallet(WalletError::Funds { .. }) | Error::Funds { .. } => Refusal::Channel(format!(
			"{why}. Whoever runs the gateway raises it with consilience channel raise"
		)),
		Error::NoModel => Refusal::NotActive,
		Error::Input(InputError::InputTooLarge | InputError::OutputTooLarge) => {
			Refusal::TooLong(why)
		}
		Error::Input(_) => Refusal::Input(why),
		Error::NoAnswer(faults)
			if !faults.is_empty() && faults.iter().all(|(_, why)| why.is_busy()) =>
		{
			Refusal::Busy { retry_after: None }
		}
		Error::NoChannel(_)
		| Error::NoSeed(_)
		| Error::Closing(_)
		| Error::Free
		| Error::Price
		| Error::NoExecutor(_)
		| Error::NoAnswer(_) => Refusal::NoExecutor(why),
		_ => Refusal::Other(why),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use consilience_session::Fault;

	fn validators(of: impl IntoIterator<Item = u8>) -> Vec<AccountId> {
		of.into_iter().map(|n| [n; 32].into()).collect()
	}

	#[test]
	fn where_everybody_was_busy_it_may_be_asked_again() {
		let busy = || Fault::NoPlace(1);
		let refused = |faults: Vec<Fault>| {
			let who = validators(0..9);
			refusal(library::Error::NoAnswer(
				who.into_iter().zip(faults).collect(),
			))
		};
		assert!(matches!(
			refused(vec![busy(), busy()]),
			Refusal::Busy { .. }
		));
		for other in [vec![], vec![busy(), Fault::NoLane]] {
			assert!(matches!(refused(other), Refusal::NoExecutor(_)));
		}
	}

	#[test]
	fn no_model_is_left_out_while_a_channel_has_room() {
		let models = [
			validators(0..40),
			validators([3, 50]),
			vec![],
			validators([60]),
		];
		let paid = payees(&models);
		assert_eq!(paid.len(), MAX_ALLOCATIONS as usize);
		for one in validators([0, 1, 3, 50, 60]) {
			assert_eq!(paid.iter().filter(|payee| **payee == one).count(), 1);
		}
		assert!(payees(&[vec![], vec![]]).is_empty());
	}
}
