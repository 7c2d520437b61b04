//! Registers and serves every model of the store on a `--dev` chain, so that one command is a chain that answers. Alice, whose account
//! is endowed there, registers them. Such a chain has one validator, and the node says what that means.

use std::{collections::HashMap, sync::Arc};

use codec::Encode;
use consilience_primitives::ModelId;
use consilience_runtime::{BlockNumber, Hash, Nonce, RuntimeCall};
use consilience_runtime_api::InferenceApi;
use consilience_store::{Store, StoredModel};
use consilience_worker::ServeAtStart;
use futures::StreamExt;
use polkadot_sdk::*;
use sc_client_api::BlockchainEvents;
use sc_transaction_pool_api::{TransactionPool, TransactionSource};
use sp_api::ProvideRuntimeApi;
use sp_blockchain::HeaderBackend;
use sp_consensus_grandpa::GrandpaApi;
use sp_core::{sr25519, Pair};
use sp_runtime::OpaqueExtrinsic;
use substrate_frame_rpc_system::AccountNonceApi;

use crate::service::{FullClient, FullPool};

/// The account that registers models.
const OWNER: &str = "//Alice";

/// Says so where a chain has one validator: nobody checks what it answers.
pub(crate) fn warn_if_alone(client: &FullClient) {
	let best = client.info().best_hash;
	match client.runtime_api().grandpa_authorities(best) {
		Ok(validators) if validators.len() == 1 => log::warn!(
			"This chain has one validator: what it answers is final without a committee, and CHECKED BY NOBODY. It is for developing, \
			 and no place for answers that matter."
		),
		Ok(_) => (),
		Err(error) => log::debug!("How many validators this chain has is not known: {error}"),
	}
}

/// The next step for a model that is not on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
	/// Register it.
	Register,
	/// A transaction is under way.
	Wait,
	/// Say that it could not be registered.
	GiveUp,
	/// That was said.
	Nothing,
}

/// When models were sent to be registered, and how often.
#[derive(Default)]
struct Attempts(HashMap<ModelId, (BlockNumber, u32)>);

impl Attempts {
	/// Blocks after which a transaction that did nothing is made again.
	const PATIENCE: BlockNumber = 10;
	/// Transactions for each model.
	const MOST: u32 = 3;

	/// Returns the step for a model that is not on chain in this block, and marks it as taken.
	fn next(&mut self, model: ModelId, now: BlockNumber) -> Step {
		let (last, count) = self.0.entry(model).or_insert((now, 0));
		if *count > 0 && now < last.saturating_add(Self::PATIENCE) {
			return Step::Wait;
		}
		*last = now;
		*count = count.saturating_add(1);
		match *count {
			n if n <= Self::MOST => Step::Register,
			n if n == Self::MOST + 1 => Step::GiveUp,
			_ => Step::Nothing,
		}
	}
}

/// Registers models of the store as they come, for as long as the node runs.
pub(crate) async fn register_models(
	client: Arc<FullClient>,
	pool: Arc<FullPool>,
	store: Store,
	served: ServeAtStart,
) {
	let owner = sr25519::Pair::from_string(OWNER, None).expect("a well-known key derives; qed");
	let mut attempts = Attempts::default();
	let mut blocks = client.import_notification_stream();
	while let Some(block) = blocks.next().await {
		if !block.is_new_best {
			continue;
		}
		let models = match store.list() {
			Ok(models) => models,
			Err(error) => {
				log::warn!("The model store cannot be read: {error}");
				continue;
			}
		};
		let wanted = |m: &StoredModel| served.all || served.models.contains(&m.id);
		let missing: Vec<_> = models
			.into_iter()
			.filter(wanted)
			.filter(|m| is_missing(&client, block.hash, m.id))
			.map(|m| (attempts.next(m.id, block.header.number), m))
			.collect();
		// Alice may have other transactions: what her account says at each block is what counts.
		let mut nonce = match client
			.runtime_api()
			.account_nonce(block.hash, owner.public().into())
		{
			Ok(nonce) => nonce,
			Err(error) => {
				log::debug!("Alice's nonce: {error}");
				continue;
			}
		};
		for (step, model) in missing {
			let name = &model.manifest.name;
			match step {
				Step::Register => match register(&client, &pool, &owner, nonce, block.hash, &model).await {
					Ok(()) => {
						log::info!(
							"Model {name} is registered by Alice, because this is a development chain: {:?}",
							model.id
						);
						nonce += 1;
					}
					Err(why) => log::warn!("Model {name} is not registered yet: {why}"),
				},
				Step::GiveUp => log::warn!(
					"Model {name} could not be registered: `consilience model register {name} --suri {OWNER}` says why"
				),
				Step::Wait | Step::Nothing => (),
			}
		}
	}
}

/// Returns whether a model is missing on chain; `false` where that cannot be found out.
fn is_missing(client: &FullClient, at: Hash, model: ModelId) -> bool {
	match client.runtime_api().model(at, model) {
		Ok(found) => found.is_none(),
		Err(error) => {
			log::debug!("Model {model:?}: {error}");
			false
		}
	}
}

async fn register(
	client: &FullClient,
	pool: &FullPool,
	owner: &sr25519::Pair,
	nonce: Nonce,
	at: Hash,
	model: &StoredModel,
) -> Result<(), String> {
	let call: RuntimeCall = pallet_model_registry::Call::register {
		model: model.id,
		spec: model.manifest.spec().map_err(|e| e.to_string())?,
		price: model.price.unwrap_or_default(),
	}
	.into();
	let genesis = client.info().genesis_hash;
	let bytes = consilience_runtime::signed(call, owner, nonce, genesis).encode();
	let transaction = OpaqueExtrinsic::try_from_encoded_extrinsic(&bytes)
		.map_err(|e| format!("its transaction: {e:?}"))?;
	pool.submit_one(at, TransactionSource::Local, transaction)
		.await
		.map(|_| ())
		.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_model_is_registered_three_times_at_most_and_that_is_said_once() {
		let mut attempts = Attempts::default();
		let (model, other) = (ModelId::repeat_byte(1), ModelId::repeat_byte(2));
		assert_eq!(attempts.next(model, 1), Step::Register);
		assert_eq!(attempts.next(model, 2), Step::Wait);
		assert_eq!(attempts.next(other, 2), Step::Register);
		assert_eq!(attempts.next(model, 10), Step::Wait);
		assert_eq!(attempts.next(model, 11), Step::Register);
		assert_eq!(attempts.next(model, 21), Step::Register);
		assert_eq!(attempts.next(model, 30), Step::Wait);
		assert_eq!(attempts.next(model, 31), Step::GiveUp);
		for now in 32..100 {
			let step = attempts.next(model, now);
			assert!(matches!(step, Step::Wait | Step::Nothing), "{step:?}");
		}
	}
}
