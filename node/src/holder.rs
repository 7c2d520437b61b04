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

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use codec::Encode;
	use futures::future::{ready, Ready};
	use polkadot_sdk::{frame_system::Phase, sp_core::H256, sp_runtime::traits::Header as _};

	/// Makes blocks in which these events happen.
	struct Maker(Vec<EventRecord<RuntimeEvent, Hash>>);

	impl Proposer<Block> for Maker {
		type Error = Error;
		type Proposal = Ready<Result<Proposal<Block>, Error>>;

		fn propose(self, _: ProposeArgs<Block>) -> Self::Proposal {
			let key = [twox_128(b"System"), twox_128(b"Events")].concat();
			let mut proposal = Proposal {
				block: Block {
					header: Header::new(
						2,
						H256::zero(),
						H256::zero(),
						H256::zero(),
						Default::default(),
					),
					extrinsics: Vec::new(),
				},
				storage_changes: Default::default(),
			};
			let changes = &mut proposal.storage_changes.main_storage_changes;
			changes.push((vec![1], Some(vec![2])));
			changes.push((key, Some(self.0.encode())));
			ready(Ok(proposal))
		}
	}

	#[test]
	fn what_a_block_draws_is_read_of_it_before_anybody_sees_it() {
		let (parent, stranger) = (H256::repeat_byte(3), AccountId::new([8; 32]));
		let event = |event: Event<Runtime>| EventRecord {
			phase: Phase::Finalization,
			event: event.into(),
			topics: Vec::new(),
		};
		let committee = event(Event::CommitteeDrawn {
			request: 7,
			verifiers: vec![stranger.clone()],
			challenge: H256::zero(),
			deadline: 9,
		});
		let jury = event(Event::JuryDrawn {
			request: 8,
			jurors: vec![stranger.clone()],
			challenge: H256::zero(),
			deadline: 9,
		});
		let disputed = event(Event::RequestDisputed { request: 7 });
		let expected = vec![(7, vec![stranger.clone()]), (8, vec![stranger])];
		let holds: Holds = Arc::new(move |at, drawn| at == parent && drawn == expected);
		let proposed = |events: &[_]| {
			let proposer = HoldingProposer {
				inner: Maker(events.to_vec()),
				parent,
				holds: holds.clone(),
			};
			futures::executor::block_on(proposer.propose(ProposeArgs::default()))
		};
		let Err(error) = proposed(&[disputed.clone(), committee.clone(), jury]) else {
			panic!("its slot stays empty")
		};
		assert!(error.to_string().contains("held back"), "{error}");
		assert!(proposed(&[disputed, committee]).is_ok());
		assert!(proposed(&[]).is_ok());
	}
}
