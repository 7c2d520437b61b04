//! Every step of a request, also those that a fork takes back.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use consilience_primitives::{view::RequestState, RequestId};
use consilience_runtime_api::InferenceApi;
use consilience_worker::chain::{AccountId, Balance, BlockNumber};
use futures::StreamExt;
use jsonrpsee::{PendingSubscriptionSink, SendTimeoutError, SubscriptionMessage, SubscriptionSink};
use polkadot_sdk::{
	sc_client_api::BlockchainEvents,
	sp_api::ProvideRuntimeApi,
	sp_blockchain::{self, tree_route, HashAndNumber, HeaderBackend, HeaderMetadata},
	sp_core::H256,
	sp_runtime::traits::{Block as BlockT, Header},
};
use serde::{Deserialize, Serialize};

use crate::{
	life::{heads_of, request_at},
	Block, JsonRequest, RpcError,
};

/// Blocks before the best one in which steps are looked for at the start, and after a gap. A request that takes longer begins with how
/// it stands at the first of them.
const MOST_BACK: usize = 64;

/// How long a step waits for whoever subscribed to read. Meanwhile nothing is kept but the chain's notifications.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Step {
	/// The request appears or changes in this block of the best chain. A fork may still undo it.
	Step {
		/// The block.
		block: Block,
		/// The request as of this block.
		request: Box<JsonRequest>,
	},
	/// The block of a step is finalised: nothing undoes it.
	Finalized {
		/// The block.
		block: Block,
		/// Where the request stands there.
		state: RequestState,
	},
	/// The block of a step has left the best chain: the step did not happen. The latest comes first, and what happens instead is told
	/// afterwards. The number may then be that of another's request, if both were asked in blocks that compete.
	Retracted {
		/// The block.
		block: Block,
		/// Where the request stood there.
		state: RequestState,
	},
	/// The request is settled in a finalised block. Nothing comes after this.
	Ended {
		/// The block.
		block: Block,
		/// Where the request stands for good, an appeal aside.
		state: RequestState,
	},
}

/// What a watch reads of the chain.
trait Source {
	/// The request at a block.
	fn request(&self, at: H256) -> Result<Option<JsonRequest>, RpcError>;
	/// What leaves the best chain, the latest first, and what comes to it, the earliest first, when the best block is `to` instead of
	/// `from`.
	fn route(&self, from: H256, to: H256) -> Result<(Vec<Block>, Vec<Block>), RpcError>;
	/// A block's parent.
	fn parent(&self, of: H256) -> Result<Block, RpcError>;
}

/// A client, and the request that is watched.
struct Watched<'a, B, C> {
	client: &'a C,
	id: RequestId,
	_block: std::marker::PhantomData<fn() -> B>,
}

fn unreadable(e: sp_blockchain::Error) -> RpcError {
	RpcError::Runtime(e.to_string())
}

impl<B, C> Source for Watched<'_, B, C>
where
	B: BlockT<Hash = H256>,
	B::Header: Header<Number = BlockNumber>,
	C: ProvideRuntimeApi<B> + HeaderMetadata<B, Error = sp_blockchain::Error>,
	C::Api: InferenceApi<B, AccountId, BlockNumber, Balance>,
{
	fn request(&self, at: H256) -> Result<Option<JsonRequest>, RpcError> {
		request_at::<B, C>(self.client, at, self.id)
	}

	fn route(&self, from: H256, to: H256) -> Result<(Vec<Block>, Vec<Block>), RpcError> {
		let route = tree_route::<B, C>(self.client, from, to).map_err(unreadable)?;
		let blocks = |blocks: &[HashAndNumber<B>]| {
			let block = |b: &HashAndNumber<B>| Block {
				number: b.number,
				hash: b.hash,
			};
			blocks.iter().map(block).collect()
		};
		Ok((blocks(route.retracted()), blocks(route.enacted())))
	}

	fn parent(&self, of: H256) -> Result<Block, RpcError> {
		let hash = self.client.header_metadata(of).map_err(unreadable)?.parent;
		let parent = self.client.header_metadata(hash).map_err(unreadable)?;
		Ok(Block {
			number: parent.number,
			hash,
		})
	}
}

/// How far a watch has come along the best chain.
struct Walk {
	id: RequestId,
	/// The best block up to which steps were looked for.
	best: Block,
	/// The block from which on the request must stand in the finalised chain.
	seen_at: BlockNumber,
	/// Steps on the best chain that are not finalised, the earliest first.
	pending: VecDeque<(Block, JsonRequest)>,
	/// How the request stood at its last finalised step.
	finalized: Option<JsonRequest>,
}

impl Walk {
	/// Starts at a best block, with the steps that led there. `None`, if there is no such request.
	fn begin(
		source: &impl Source,
		id: RequestId,
		best: Block,
	) -> Result<Option<(Self, Vec<Step>)>, RpcError> {
		let Some(now) = source.request(best.hash)? else {
			return Ok(None);
		};
		let mut blocks = VecDeque::from([best]);
		let mut first = best;
		while first.number > now.requested_block && blocks.len() < MOST_BACK {
			let Ok(parent) = source.parent(first.hash) else {
				break;
			};
			first = parent;
			blocks.push_front(first);
		}
		let mut walk = Self {
			id,
			best,
			seen_at: best.number,
			pending: VecDeque::new(),
			finalized: None,
		};
		let mut steps = Vec::new();
		for block in blocks {
			match walk.look(source, block, &mut steps) {
				// Pruned, as long as nothing was found yet.
				Err(_) if steps.is_empty() && block != best => {}
				looked => looked?,
			}
		}
		Ok(Some((walk, steps)))
	}

	/// Looks at the next block of the best chain.
	fn look(
		&mut self,
		source: &impl Source,
		block: Block,
		steps: &mut Vec<Step>,
	) -> Result<(), RpcError> {
		let Some(request) = source.request(block.hash)? else {
			return Ok(());
		};
		let before = self.pending.back().map(|(_, request)| request);
		if before.or(self.finalized.as_ref()) == Some(&request) {
			return Ok(());
		}
		steps.push(Step::Step {
			block,
			request: Box::new(request.clone()),
		});
		self.pending.push_back((block, request));
		Ok(())
	}

	/// Goes on to another best block.
	fn advance(
		&mut self,
		source: &impl Source,
		best: Block,
		steps: &mut Vec<Step>,
	) -> Result<(), RpcError> {
		let (left, came) = source.route(self.best.hash, best.hash)?;
		for block in left {
			if self.pending.back().is_some_and(|(of, _)| *of == block) {
				let (block, request) = self.pending.pop_back().expect("there is one; qed");
				steps.push(Step::Retracted {
					block,
					state: request.state,
				});
			}
		}
		for block in &came[came.len().saturating_sub(MOST_BACK)..] {
			self.look(source, *block, steps)?;
		}
		self.best = best;
		Ok(())
	}

	/// Takes notice that everything up to a block is finalised. Whether that is the end.
	fn finalize(
		&mut self,
		source: &impl Source,
		finalized: Block,
		steps: &mut Vec<Step>,
	) -> Result<bool, RpcError> {
		// Notifications of blocks and of finality come in no order: this one may be the first to tell of the chain that it is on.
		let (_, came) = source.route(self.best.hash, finalized.hash)?;
		if !came.is_empty() {
			self.advance(source, finalized, steps)?;
		}
		let is_final = |(block, _): &(Block, _)| block.number <= finalized.number;
		while self.pending.front().is_some_and(is_final) {
			let (block, request) = self.pending.pop_front().expect("there is one; qed");
			let state = request.state;
			steps.push(Step::Finalized { block, state });
			self.finalized = Some(request);
			if state.is_settled() {
				steps.push(Step::Ended { block, state });
				return Ok(true);
			}
		}
		let is_gone = self.pending.is_empty() && self.finalized.is_none();
		if is_gone && finalized.number >= self.seen_at {
			return Err(RpcError::UnknownRequest(self.id));
		}
		Ok(false)
	}
}

/// Sends steps. Whether anybody still reads.
async fn tell(sink: &SubscriptionSink, steps: Vec<Step>) -> Result<bool, RpcError> {
	for step in steps {
		let message = SubscriptionMessage::from_json(&step);
		let message = message.map_err(|e| RpcError::Runtime(e.to_string()))?;
		match sink.send_timeout(message, PATIENCE).await {
			Ok(()) => {}
			Err(SendTimeoutError::Timeout(_)) => return Err(RpcError::Slow),
			Err(SendTimeoutError::Closed(_)) => return Ok(false),
		}
	}
	Ok(true)
}

/// Tells every step of a request, to its end.
pub(crate) async fn watch<B, C>(
	client: Arc<C>,
	id: RequestId,
	pending: PendingSubscriptionSink,
) -> Result<(), RpcError>
where
	B: BlockT<Hash = H256>,
	B::Header: Header<Number = BlockNumber>,
	C: ProvideRuntimeApi<B>
		+ BlockchainEvents<B>
		+ HeaderBackend<B>
		+ HeaderMetadata<B, Error = sp_blockchain::Error>,
	C::Api: InferenceApi<B, AccountId, BlockNumber, Balance>,
{
	let source = Watched::<B, C> {
		client: &client,
		id,
		_block: std::marker::PhantomData,
	};
	// Before the first look, so that nothing falls between the two.
	let mut heads = client.import_notification_stream();
	let mut finality = client.finality_notification_stream();
	let (best, finalized) = heads_of::<B, C>(&client);
	let begun = Walk::begin(&source, id, best).and_then(|begun| {
		let (mut walk, mut steps) = begun.ok_or(RpcError::UnknownRequest(id))?;
		let ended = walk.finalize(&source, finalized, &mut steps)?;
		Ok((walk, steps, ended))
	});
	let (mut walk, mut steps, ended) = match begun {
		Ok(begun) => begun,
		Err(e) => {
			pending.reject(e).await;
			return Ok(());
		}
	};
	let Ok(sink) = pending.accept().await else {
		return Ok(());
	};
	let mut ended = Ok(ended);
	loop {
		// What was found before something failed is told all the same.
		let is_read = tell(&sink, std::mem::take(&mut steps)).await?;
		if ended? || !is_read {
			return Ok(());
		}
		ended = tokio::select! {
			n = heads.next() => match n {
				Some(n) if n.is_new_best => {
					let best = Block { number: *n.header.number(), hash: n.hash };
					walk.advance(&source, best, &mut steps).map(|()| false)
				}
				Some(_) => Ok(false),
				None => return Ok(()),
			},
			n = finality.next() => match n {
				Some(n) => {
					let finalized = Block { number: *n.header.number(), hash: n.hash };
					walk.finalize(&source, finalized, &mut steps)
				}
				None => return Ok(()),
			},
			() = sink.closed() => return Ok(()),
		};
	}
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use crate::JsonInput;
	use consilience_primitives::{model::Task, view::RequestState::*};
	use std::collections::HashMap;

	/// A tree of blocks, each named by a letter of its fork and its number, with the request's state.
	#[derive(Default)]
	struct Tree(HashMap<H256, (Block, H256, Option<RequestState>)>);

	fn block(fork: u8, number: BlockNumber) -> Block {
		Block {
			number,
			hash: H256::from_low_u64_be(u64::from(fork) << 32 | u64::from(number)),
		}
	}

	fn request(state: RequestState) -> JsonRequest {
		JsonRequest {
			id: 7,
			model: Default::default(),
			task: Task::Embedding,
			state,
			requester: [1; 32].into(),
			input: JsonInput::Text { text: "a".into() },
			assurance: crate::json::JsonAssurance::Committee(2),
			executor: None,
			verifiers: Vec::new(),
			jurors: Vec::new(),
			output: None,
			seed: None,
			challenge: None,
			jury_challenge: None,
			evidence: Vec::new(),
			requested_block: 1,
			assigned_block: None,
			provisional_block: None,
			appealable_until: None,
			settled_block: None,
			escrow: 0,
			paid: 0,
			surcharge: 0,
			refunded: 0,
		}
	}

	impl Tree {
		/// Adds blocks to a fork on top of a block, from its number on.
		fn grow(&mut self, fork: u8, on: Block, states: &[Option<RequestState>]) -> Block {
			states.iter().fold(on, |parent, state| {
				let new = block(fork, parent.number + 1);
				self.0.insert(new.hash, (new, parent.hash, *state));
				new
			})
		}

		fn ancestors(&self, of: H256) -> Vec<Block> {
			let next = |hash: &H256| self.0.get(hash).map(|found| found.1);
			std::iter::successors(Some(of), next)
				.filter_map(|hash| self.0.get(&hash).map(|found| found.0))
				.collect()
		}
	}

	impl Source for Tree {
		fn request(&self, at: H256) -> Result<Option<JsonRequest>, RpcError> {
			let found = self.0.get(&at).ok_or(RpcError::UnknownBlock(at))?;
			Ok(found.2.map(request))
		}

		fn route(&self, from: H256, to: H256) -> Result<(Vec<Block>, Vec<Block>), RpcError> {
			let (mut left, mut came) = (self.ancestors(from), self.ancestors(to));
			while left.last().is_some() && left.last() == came.last() {
				left.pop();
				came.pop();
			}
			came.reverse();
			Ok((left, came))
		}

		fn parent(&self, of: H256) -> Result<Block, RpcError> {
			let parent = self.0.get(&of).ok_or(RpcError::UnknownBlock(of))?.1;
			let found = self.0.get(&parent).ok_or(RpcError::UnknownBlock(parent))?;
			Ok(found.0)
		}
	}

	/// Steps as people would note them down.
	fn noted(steps: &[Step]) -> Vec<String> {
		let note = |step: &Step| {
			let (word, block, state) = match step {
				Step::Step { block, request } => ("", block, request.state),
				Step::Finalized { block, state } => ("finalized ", block, *state),
				Step::Retracted { block, state } => ("retracted ", block, *state),
				Step::Ended { block, state } => ("ended ", block, *state),
			};
			let fork = char::from((block.hash.to_low_u64_be() >> 32) as u8);
			format!("{word}{fork}{} {state:?}", block.number)
		};
		steps.iter().map(note).collect()
	}

	const A: u8 = b'a';
	const B: u8 = b'b';

	fn genesis(tree: &mut Tree) -> Block {
		let genesis = block(A, 0);
		tree.0.insert(genesis.hash, (genesis, H256::zero(), None));
		genesis
	}

	#[test]
	fn a_fork_takes_steps_back_and_brings_its_own() {
		let mut tree = Tree::default();
		let root = genesis(&mut tree);
		let a = tree.grow(A, root, &[Some(Requested), Some(Requested), Some(Assigned)]);
		let (mut walk, mut steps) = Walk::begin(&tree, 7, a).unwrap().unwrap();
		assert_eq!(noted(&steps), ["a1 Requested", "a3 Assigned"]);
		steps.clear();
		assert!(!walk.finalize(&tree, block(A, 1), &mut steps).unwrap());
		assert_eq!(noted(&steps), ["finalized a1 Requested"]);

		// Three blocks at once, of a fork in which things went otherwise.
		steps.clear();
		let b = tree.grow(
			B,
			block(A, 2),
			&[Some(Requested), Some(Assigned), Some(Provisional)],
		);
		walk.advance(&tree, b, &mut steps).unwrap();
		let says = ["retracted a3 Assigned", "b4 Assigned", "b5 Provisional"];
		assert_eq!(noted(&steps), says);

		steps.clear();
		let end = tree.grow(B, b, &[Some(Final), Some(Final)]);
		walk.advance(&tree, end, &mut steps).unwrap();
		assert!(walk.finalize(&tree, end, &mut steps).unwrap());
		let says = [
			"b6 Final",
			"finalized b4 Assigned",
			"finalized b5 Provisional",
			"finalized b6 Final",
			"ended b6 Final",
		];
		assert_eq!(noted(&steps), says);
	}

	#[test]
	fn finality_may_tell_of_another_fork_before_its_blocks_do() {
		let mut tree = Tree::default();
		let root = genesis(&mut tree);
		let a = tree.grow(A, root, &[Some(Requested), Some(Final)]);
		let b = tree.grow(B, block(A, 1), &[Some(Requested), Some(Cancelled)]);
		let (mut walk, mut steps) = Walk::begin(&tree, 7, a).unwrap().unwrap();
		steps.clear();
		assert!(walk.finalize(&tree, b, &mut steps).unwrap());
		let says = [
			"retracted a2 Final",
			"b3 Cancelled",
			"finalized a1 Requested",
			"finalized b3 Cancelled",
			"ended b3 Cancelled",
		];
		assert_eq!(noted(&steps), says);
	}

	#[test]
	fn a_request_that_its_fork_takes_along_is_said_to_be_gone_only_when_that_is_final() {
		let mut tree = Tree::default();
		let root = genesis(&mut tree);
		let a = tree.grow(A, root, &[Some(Requested)]);
		let (mut walk, mut steps) = Walk::begin(&tree, 7, a).unwrap().unwrap();
		steps.clear();
		let b = tree.grow(B, root, &[None, None]);
		walk.advance(&tree, b, &mut steps).unwrap();
		assert_eq!(noted(&steps), ["retracted a1 Requested"]);
		assert!(!walk.finalize(&tree, root, &mut steps).unwrap());
		let gone = walk.finalize(&tree, b, &mut steps);
		assert_eq!(gone, Err(RpcError::UnknownRequest(7)));

		// It may come back in a later block, and goes on then.
		let back = tree.grow(B, b, &[Some(Requested)]);
		let (mut walk, _) = Walk::begin(&tree, 7, a).unwrap().unwrap();
		steps.clear();
		walk.advance(&tree, back, &mut steps).unwrap();
		assert!(!walk.finalize(&tree, b, &mut steps).unwrap());
		assert_eq!(noted(&steps), ["retracted a1 Requested", "b3 Requested"]);
	}

	#[test]
	fn steps_before_the_start_are_told_as_far_as_there_are_states() {
		let mut tree = Tree::default();
		let root = genesis(&mut tree);
		let a = tree.grow(A, root, &[Some(Requested), Some(Assigned), Some(Final)]);
		let (mut walk, mut steps) = Walk::begin(&tree, 7, a).unwrap().unwrap();
		assert!(walk.finalize(&tree, a, &mut steps).unwrap());
		assert_eq!(steps.len(), 7, "{:?}", noted(&steps));

		// A long life begins in the middle, one that is gone not at all.
		let long = tree.grow(A, a, &[Some(Assigned); 2 * MOST_BACK]);
		let (_, steps) = Walk::begin(&tree, 7, long).unwrap().unwrap();
		let first = long.number - MOST_BACK as u32 + 1;
		assert_eq!(noted(&steps), [format!("a{first} Assigned")]);
		assert!(Walk::begin(&tree, 7, root).unwrap().is_none());
	}
}
