//! The node's own RPC methods, besides those that every Substrate node has.

use consilience_runtime::{opaque::Block, BlockNumber, Hash};
use jsonrpsee::RpcModule;
use polkadot_sdk::*;
use sc_consensus_babe::BabeWorkerHandle;
use sc_consensus_grandpa::{
	FinalityProofProvider, GrandpaJustificationStream, SharedAuthoritySet, SharedVoterState,
};
use sc_rpc::SubscriptionTaskExecutor;
use sp_keystore::KeystorePtr;
use std::sync::Arc;

use crate::service::{FullBackend, FullClient, FullPool, FullSelectChain};

/// What the methods of GRANDPA need.
pub(crate) struct GrandpaDeps {
	pub(crate) shared_voter_state: SharedVoterState,
	pub(crate) shared_authority_set: SharedAuthoritySet<Hash, BlockNumber>,
	pub(crate) justification_stream: GrandpaJustificationStream<Block>,
	pub(crate) subscription_executor: SubscriptionTaskExecutor,
	pub(crate) finality_provider: Arc<FinalityProofProvider<FullBackend, Block>>,
}

/// What all methods need.
pub(crate) struct FullDeps {
	pub(crate) client: Arc<FullClient>,
	pub(crate) pool: Arc<FullPool>,
	pub(crate) select_chain: FullSelectChain,
	pub(crate) babe_worker_handle: BabeWorkerHandle<Block>,
	pub(crate) keystore: KeystorePtr,
	pub(crate) grandpa: GrandpaDeps,
	/// The validator's worker, where the node runs one.
	pub(crate) worker: Option<consilience_worker::Handle>,
	/// Transfers of models between nodes.
	pub(crate) transfers: Option<consilience_transfer::Transfers>,
}

/// All methods: `system`, `payment`, `babe`, `grandpa`, `dev`, `models`, `inference` and `sessions`.
pub(crate) fn create_full(
	deps: FullDeps,
) -> Result<RpcModule<()>, Box<dyn std::error::Error + Send + Sync>> {
	use consilience_rpc::{
		Inference, InferenceRpcServer, Models, ModelsRpcServer, Sessions, SessionsRpcServer,
	};
	use pallet_transaction_payment_rpc::{TransactionPayment, TransactionPaymentApiServer};
	use sc_consensus_babe_rpc::{Babe, BabeApiServer};
	use sc_consensus_grandpa_rpc::{Grandpa, GrandpaApiServer};
	use sc_rpc::dev::{Dev, DevApiServer};
	use substrate_frame_rpc_system::{System, SystemApiServer};

	let FullDeps {
		client,
		pool,
		select_chain,
		babe_worker_handle,
		keystore,
		grandpa,
		worker,
		transfers,
	} = deps;

	let mut module = RpcModule::new(());
	module.merge(System::new(client.clone(), pool).into_rpc())?;
	module.merge(TransactionPayment::new(client.clone()).into_rpc())?;
	module
		.merge(Babe::new(client.clone(), babe_worker_handle, keystore, select_chain).into_rpc())?;
	module.merge(
		Grandpa::new(
			grandpa.subscription_executor,
			grandpa.shared_authority_set,
			grandpa.shared_voter_state,
			grandpa.justification_stream,
			grandpa.finality_provider,
		)
		.into_rpc(),
	)?;
	module.merge(Models::new(client.clone(), worker.clone(), transfers).into_rpc())?;
	module.merge(Inference::<_, _, FullBackend>::new(client.clone(), worker).into_rpc())?;
	module.merge(Sessions::new(client.clone()).into_rpc())?;
	module.merge(Dev::new(client).into_rpc())?;
	Ok(module)
}
