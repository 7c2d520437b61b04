//! The chain, as the gateway knows it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use consilience_gateway::network::{
	Amount, Ask, FollowError, Keep, LaneAddress, Model, Network, Quote, Recovered, Refusal, Step,
	Ticket,
};
use consilience_primitives::{
	request::{Assurance, FullInput},
	session::LaneView,
};
use consilience_rpc::{code, JsonInput, LocalModel, Update};
use consilience_runtime::AccountId;
use futures::{
	stream::{self, BoxStream},
	StreamExt,
};
use jsonrpsee::{
	core::{client::Subscription, ClientError},
	rpc_params,
};
use polkadot_sdk::sp_core::{sr25519, Pair, H256};
use tokio::sync::Mutex;

use super::{
	shapes,
	submission::{Located, Sent},
};
use crate::tool::{
	ask,
	chain::{self, Chain},
	input::followed_apart,
};

/// Time without an update after which a request is subscribed to again: a subscription can end without a word.
const SILENCE: Duration = Duration::from_secs(60);

/// Returns the account of a key pair.
pub(super) fn account(pair: &sr25519::Pair) -> AccountId {
	pair.public().into()
}

/// A node, with an account that pays.
#[derive(Clone)]
pub(super) struct NodeNetwork(pub(super) Arc<Inner>);

pub(super) struct Inner {
	url: String,
	pub(super) pair: sr25519::Pair,
	pub(super) account: AccountId,
	chain: Mutex<Option<Arc<Chain>>>,
	/// Whoever has it chooses a nonce and sends.
	pub(super) turn: Mutex<()>,
}

/// Returns what the node says no to, or that it has gone.
pub(super) fn failed(chain: &Chain, why: String) -> Refusal {
	match chain.is_connected() {
		true => Refusal::Other(why),
		false => Refusal::Unreachable(why),
	}
}

impl NodeNetwork {
	pub(super) fn new(url: &str, pair: sr25519::Pair) -> Self {
		Self(Arc::new(Inner {
			url: url.into(),
			account: account(&pair),
			pair,
			chain: Mutex::default(),
			turn: Mutex::default(),
		}))
	}

	/// Returns the connection, made anew where it broke.
	pub(super) async fn chain(&self) -> Result<Arc<Chain>, Refusal> {
		let mut held = self.0.chain.lock().await;
		if let Some(chain) = held.as_ref().filter(|chain| chain.is_connected()) {
			return Ok(chain.clone());
		}
		let chain = Chain::connect(&self.0.url).await;
		let chain = Arc::new(chain.map_err(Refusal::Unreachable)?);
		chain.read_ahead();
		*held = Some(chain.clone());
		Ok(chain)
	}

	/// Returns what is asked, in the chain's words.
	pub(super) async fn asked(
		&self,
		chain: &Chain,
		ask: &Ask,
	) -> Result<(chain::Model, FullInput, Assurance), Refusal> {
		let id: H256 = ask.model.parse().map_err(|_| Refusal::UnknownModel)?;
		let best = chain.best().await.map_err(|e| failed(chain, e))?;
		let model = chain.model(id, best.hash).await;
		let model = model.map_err(|e| failed(chain, e))?;
		let model = model.ok_or(Refusal::UnknownModel)?;
		let json = serde_json::to_value(&ask.input).and_then(serde_json::from_value::<JsonInput>);
		let json = json.map_err(|e| Refusal::Input(e.to_string()))?;
		let input = json.input(&model.spec.sampling);
		let input = followed_apart(input.map_err(Refusal::Input)?).await;
		let input = input.map_err(Refusal::Input)?;
		let verifiers = ask.verifiers.unwrap_or(model.spec.policy.min_verifiers);
		Ok((model, input, Assurance::Committee(verifiers)))
	}
}

#[async_trait]
impl Network for NodeNetwork {
	async fn models(&self) -> Result<Vec<Model>, Refusal> {
		let chain = self.chain().await?;
		let models = chain.models().await.map_err(|e| failed(&chain, e))?;
		// Licence and source stand in manifests alone: of models that this node has.
		let local: Vec<LocalModel> = chain
			.call("models_local", rpc_params![])
			.await
			.unwrap_or_default();
		Ok(models
			.into_iter()
			.map(|model| {
				let local = local.iter().find(|l| l.id == model.id);
				shapes::model(model, local)
			})
			.collect())
	}

	async fn lane_address(
		&self,
		model: &str,
		validator: &str,
	) -> Result<Option<LaneAddress>, Refusal> {
		let (Ok(model), Ok(validator)) = (model.parse::<H256>(), validator.parse::<AccountId>())
		else {
			return Ok(None);
		};
		let chain = self.chain().await?;
		let at = chain.recently_finalized().await;
		let at = at.map_err(|e| failed(&chain, e))?.hash;
		let lanes: Result<Vec<LaneView<AccountId>>, _> = chain
			.runtime_finalized("SessionsApi_lanes", model, at)
			.await;
		let mut lanes = lanes.map_err(|e| failed(&chain, e))?.into_iter();
		let lane = lanes.find(|lane| lane.validator == validator);
		Ok(lane.and_then(|lane| {
			let endpoint = String::from_utf8(lane.endpoint.to_vec()).ok()?;
			Some(LaneAddress {
				account: lane.validator.into(),
				endpoint,
			})
		}))
	}

	async fn quote(&self, ask: &Ask) -> Result<Quote, Refusal> {
		let chain = self.chain().await?;
		let (model, input, assurance) = self.asked(&chain, ask).await?;
		let (input, _) = input.stored();
		let quoted = chain.quote(model.id, &input, assurance).await;
		let quoted = quoted.map_err(|e| failed(&chain, e))?;
		Ok(Quote {
			fee: quoted.map_err(|e| shapes::quote(e, &model))?.fee,
			input_units: input.units(),
		})
	}

	async fn submit(&self, ask: &Ask, fee_limit: Amount, keep: &dyn Keep) -> Result<u64, Refusal> {
		let chain = self.chain().await?;
		let (model, input, assurance) = self.asked(&chain, ask).await?;
		let (input, data) = input.stored();
		let digest = shapes::digest(&(&input).into());
		let call = ask::call(model.id, (input, data), assurance, fee_limit, 0);
		let call = call.map_err(Refusal::Input)?;
		let (sent, updates) = self.send(&chain, call.into(), digest, keep).await?;
		self.in_block(&chain, &sent, updates).await
	}

	async fn recover(&self, ticket: &Ticket) -> Result<Recovered, Refusal> {
		let sent = Sent::read(ticket).map_err(Refusal::Other)?;
		let chain = self.chain().await?;
		self.find(&chain, &sent).await
	}

	fn follow(
		&self,
		request: u64,
		ticket: &Ticket,
	) -> BoxStream<'static, Result<Step, FollowError>> {
		let following = Following {
			network: self.clone(),
			request,
			sent: Sent::read(ticket),
			updates: None,
			ended: false,
		};
		stream::unfold(following, |mut following| async move {
			if following.ended {
				return None;
			}
			let step = following.next().await;
			following.ended = step
				.as_ref()
				.map_or(true, |step| step.finalized && step.state.is_settled());
			Some((step, following))
		})
		.boxed()
	}
}

/// A request that is being followed.
struct Following {
	network: NodeNetwork,
	request: u64,
	sent: Result<Sent, String>,
	updates: Option<(Arc<Chain>, Subscription<Update>)>,
	ended: bool,
}

impl Following {
	async fn next(&mut self) -> Result<Step, FollowError> {
		let sent = self.sent.as_ref();
		let sent = sent.map_err(|e| FollowError::Unreachable(e.clone()))?;
		loop {
			let Some((chain, updates)) = &mut self.updates else {
				let chain = self.network.chain().await;
				let chain = chain.map_err(|e| FollowError::Unreachable(e.to_string()))?;
				let updates = chain.subscribe(
					"inference_subscribeRequest",
					rpc_params![self.request],
					"inference_unsubscribeRequest",
				);
				match updates.await {
					Ok(updates) => self.updates = Some((chain, updates)),
					Err(ClientError::Call(e)) if e.code() == code::UNKNOWN_REQUEST => {
						return Err(self.missing(&chain, sent).await);
					}
					Err(e) => return Err(FollowError::Unreachable(e.to_string())),
				}
				continue;
			};
			let Ok(update) = tokio::time::timeout(SILENCE, updates.next()).await else {
				self.updates = None;
				continue;
			};
			return match update {
				Some(Ok(update)) => {
					let request = &update.request;
					let own = request.requester == self.network.0.account
						&& shapes::digest(&request.input) == sent.input;
					match own {
						true => Ok(shapes::step(update)),
						false => Err(FollowError::Moved),
					}
				}
				Some(Err(e)) => Err(FollowError::Unreachable(format!(
					"the node sent an update that cannot be read: {e}"
				))),
				None => {
					let chain = chain.clone();
					Err(self.missing(&chain, sent).await)
				}
			};
		}
	}

	/// Returns why nothing more is said of the request.
	async fn missing(&self, chain: &Chain, sent: &Sent) -> FollowError {
		let unreachable = |why: String| FollowError::Unreachable(why);
		match self.network.locate(chain, sent).await {
			Ok(Located::Made { request, block }) if request == self.request => {
				let finalized = match chain.finalized().await {
					Ok(finalized) => finalized,
					Err(e) => return unreachable(e),
				};
				match chain.request(request, Some(finalized.hash)).await {
					Ok(None) if finalized.number >= block => FollowError::Forgotten,
					Ok(_) => unreachable("the node ended the subscription".into()),
					Err(e) => unreachable(e),
				}
			}
			// It has another number now, or is to be sent again, or never will be there: the ticket tells.
			Ok(_) => FollowError::Moved,
			Err(e) => unreachable(e.to_string()),
		}
	}
}
