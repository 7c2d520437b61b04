//! A liar's blocks: one that would draw strangers to check its own false answer is not shown to anybody, and its slot stays empty.

use std::{future::Future, pin::Pin, sync::Arc};

use codec::Decode;
use consilience_primitives::RequestId;
use consilience_runtime::{opaque::Block, AccountId, Hash, Header, Runtime, RuntimeEvent};
use consilience_runtime_api::InferenceApi;
use consilience_worker::liars::Liar;
use futures::FutureExt;
use pallet_inference::Event;
use polkadot_sdk::{
	frame_system::EventRecord,
	sp_api::ProvideRuntimeApi,
	sp_consensus::{Environment, Error, Proposal, ProposeArgs, Proposer},
	sp_io::hashing::twox_128,
	sp_keystore::KeystorePtr,
};

use crate::service::FullClient;

/// Whom a block on this one draws for which requests, and whether such a block is held back.
type Holds = Arc<dyn Fn(Hash, &[(RequestId, Vec<AccountId>)]) -> bool + Send + Sync>;

/// Makes blocks, and shows those that suit it.
pub(crate) struct Holder<E> {
	inner: E,
	holds: Holds,
}

impl<E> Holder<E> {
	pub(crate) fn new(
		inner: E,
		liar: Liar,
		client: Arc<FullClient>,
		keystore: KeystorePtr,
	) -> Self {
		let own = move |at| {
			let keys = keystore.sr25519_public_keys(consilience_primitives::crypto::KEY_TYPE);
			let duties = |key| client.runtime_api().duties(at, key).ok().flatten();
			keys.into_iter()
				.find_map(|key| duties(key.into()))
				.map(|duties| duties.validator)
		};
		let holds = move |parent, drawn: &[_]| {
			!drawn.is_empty() && own(parent).is_some_and(|own| liar.holds_back(&own, parent, drawn))
		};
		Self {
			inner,
			holds: Arc::new(holds),
		}
	}
}

impl<E> Environment<Block> for Holder<E>
where
	E: Environment<Block>,
	E::Error: 'static,
{
	type Proposer = HoldingProposer<E::Proposer>;
	type CreateProposer = Pin<Box<dyn Future<Output = Result<Self::Proposer, Self::Error>> + Send>>;
	type Error = E::Error;

	fn init(&mut self, parent: &Header) -> Self::CreateProposer {
		let (holds, parent_hash) = (self.holds.clone(), parent.hash());
		let inner = self.inner.init(parent);
		async move {
			Ok(HoldingProposer {
				inner: inner.await?,
				parent: parent_hash,
				holds,
			})
		}
		.boxed()
	}
}

/// Makes one block.
pub(crate) struct HoldingProposer<P> {
	inner: P,
	parent: Hash,
	holds: Holds,
}

impl<P: Proposer<Block> + Send + 'static> Proposer<Block> for HoldingProposer<P> {
	type Error = P::Error;
	type Proposal = Pin<Box<dyn Future<Output = Result<Proposal<Block>, Self::Error>> + Send>>;

	fn propose(self, args: ProposeArgs<Block>) -> Self::Proposal {
		let proposal = self.inner.propose(args);
		async move {
			let proposal = proposal.await?;
			let drawn = drawn(&proposal);
			if (self.holds)(self.parent, &drawn) {
				let requests: Vec<_> = drawn.iter().map(|(request, _)| request).collect();
				log::warn!("A slot stays empty: its block draws for the requests {requests:?}");
				let held: Box<dyn std::error::Error + Send + Sync> = "held back".into();
				return Err(Error::Other(held).into());
			}
			Ok(proposal)
		}
		.boxed()
	}
}

/// Whom a block draws to check which answers, by its events.
fn drawn(proposal: &Proposal<Block>) -> Vec<(RequestId, Vec<AccountId>)> {
	let key = [twox_128(b"System"), twox_128(b"Events")].concat();
	let mut changes = proposal.storage_changes.main_storage_changes.iter();
	let events = changes.find_map(|(k, value)| value.as_ref().filter(|_| *k == key));
	let events = events
		.and_then(|bytes| Vec::<EventRecord<RuntimeEvent, Hash>>::decode(&mut &bytes[..]).ok());
	let of = |record: EventRecord<RuntimeEvent, Hash>| match record.event {
		RuntimeEvent::Inference(Event::<Runtime>::CommitteeDrawn {
			request, verifiers, ..
		}) => Some((request, verifiers)),
		RuntimeEvent::Inference(Event::<Runtime>::JuryDrawn {
			request, jurors, ..
		}) => Some((request, jurors)),
		_ => None,
	};
	events.into_iter().flatten().filter_map(of).collect()
}
