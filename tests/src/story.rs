//! What became of requests, by the events of final blocks.

use std::collections::{btree_map, BTreeMap, BTreeSet};

use consilience_primitives::{
	request::{Assurance, Input, Prompt, Sampling},
	ModelId, RequestId,
};
use consilience_runtime::{AccountId, Balance, BlockNumber, Hash, Runtime, RuntimeEvent};
use polkadot_sdk::{
	pallet_utility,
	sp_core::{sr25519, Pair},
	sp_runtime::traits::Header as _,
};

use crate::{within, Client};

/// An event of the pallet that holds requests.
pub type RequestEvent = pallet_inference::Event<Runtime>;

/// Most final blocks that a story may take.
const LONGEST: BlockNumber = 150;

/// Requests that were asked in one block, and what has happened since.
pub struct Story {
	/// The requests, in the order of their prompts.
	pub requests: Vec<RequestId>,
	/// Events of final blocks since then, in their order, of other requests too.
	pub events: Vec<(BlockNumber, RequestEvent)>,
	/// The last block that was read.
	read: BlockNumber,
}

impl Story {
	/// Asks a language model for short answers to all prompts in one transaction, each to be checked by so many verifiers.
	pub async fn ask(
		client: &Client,
		suri: &str,
		model: ModelId,
		prompts: &[String],
		verifiers: u8,
	) -> Self {
		let (requests, read) = ask_all(client, suri, model, prompts, verifiers).await;
		Self {
			requests,
			events: Vec::new(),
			read,
		}
	}

	/// Has every account ask all of its inputs in one transaction, all accounts at the same time. What the chain does not take is
	/// left out. Gives the story and how many were refused.
	pub async fn ask_at_once(
		client: &Client,
		model: ModelId,
		of: &[(&str, Vec<Input>)],
		verifiers: u8,
	) -> (Self, usize) {
		let fee_limit = consilience_runtime::UNIT;
		let asking = of
			.iter()
			.map(|(suri, inputs)| submit(client, suri, model, inputs, verifiers, fee_limit));
		let taken = futures::future::join_all(asking).await;
		let read = taken.iter().map(|t| t.1).min().unwrap_or_default();
		let requests: Vec<_> = taken.into_iter().flat_map(|t| t.0).collect();
		let asked: usize = of.iter().map(|(_, inputs)| inputs.len()).sum();
		let refused = asked - requests.len();
		let story = Self {
			requests,
			events: Vec::new(),
			read,
		};
		(story, refused)
	}

	/// Asks more.
	pub async fn ask_more(
		&mut self,
		client: &Client,
		suri: &str,
		model: ModelId,
		prompts: &[String],
		verifiers: u8,
	) {
		let (requests, _) = ask_all(client, suri, model, prompts, verifiers).await;
		self.requests.extend(requests);
	}

	/// Reads final blocks until `wanted` holds of what happened.
	pub async fn until(&mut self, client: &Client, what: &str, wanted: impl Fn(&Self) -> bool) {
		let mut heads = client.heads(true).await;
		let first = self.read;
		while !wanted(self) {
			let head = within(what, heads.next())
				.await
				.expect("the node goes on")
				.expect("a header");
			while self.read < *head.number() && !wanted(self) {
				self.read += 1;
				let hash = client.hash(self.read).await;
				for event in inference_events(client, hash).await {
					println!("#{}: {event:?}", self.read);
					self.events.push((self.read, event));
				}
			}
			assert!(
				self.read - first <= LONGEST,
				"{what}: not within {LONGEST} blocks: {:?}",
				self.events
			);
		}
	}

	/// Waits until the best chain has drawn an executor for every request, or ended it without one. Returns them, each as often as it
	/// was drawn.
	pub async fn executors_drawn(&self, client: &Client) -> Vec<AccountId> {
		let mut heads = client.heads(false).await;
		// A block is read once, while its state is there.
		let mut read: BTreeMap<Hash, Vec<RequestEvent>> = BTreeMap::new();
		loop {
			let head = within("all executors", heads.next())
				.await
				.expect("the node goes on")
				.expect("a header");
			let (mut drawn, mut ended) = (BTreeMap::new(), BTreeSet::new());
			for number in self.read..=*head.number() {
				let hash = client.hash(number).await;
				if let btree_map::Entry::Vacant(unread) = read.entry(hash) {
					unread.insert(inference_events(client, hash).await);
				}
				for event in &read[&hash] {
					ended.extend(settled(event));
					if let RequestEvent::ExecutorDrawn {
						request, executor, ..
					} = event
					{
						drawn.insert(*request, executor.clone());
					}
				}
			}
			let done = |r: &RequestId| drawn.contains_key(r) || ended.contains(r);
			if self.requests.iter().all(done) {
				return drawn.into_values().collect();
			}
			assert!(
				*head.number() - self.read <= LONGEST,
				"not every request has an executor within {LONGEST} blocks: {read:?}"
			);
		}
	}

	/// Reads final blocks until every request is settled.
	pub async fn to_the_end(&mut self, client: &Client) {
		self.until(client, "the end of all requests", |story| {
			let settled: BTreeSet<_> = story
				.events
				.iter()
				.filter_map(|(_, e)| settled(e))
				.collect();
			story.requests.iter().all(|r| settled.contains(r))
		})
		.await;
	}

	/// Events of which `wanted` makes something.
	pub fn all<T>(&self, wanted: impl Fn(&RequestEvent) -> Option<T>) -> Vec<T> {
		self.events.iter().filter_map(|(_, e)| wanted(e)).collect()
	}
}

/// Asks a language model for short answers in one transaction. Returns the requests, and the number of the final block that took them.
async fn ask_all(
	client: &Client,
	suri: &str,
	model: ModelId,
	prompts: &[String],
	verifiers: u8,
) -> (Vec<RequestId>, BlockNumber) {
	let input = |prompt: &String| Input::TextGeneration {
		prompt: Prompt::Text(
			prompt
				.as_bytes()
				.to_vec()
				.try_into()
				.expect("the prompt is short"),
		),
		sampling: Sampling {
			max_tokens: 16,
			// No two requests have the same answer: it follows from each one's own seed.
			temperature: 1_000,
			..Default::default()
		},
	};
	let inputs: Vec<_> = prompts.iter().map(input).collect();
	let fee_limit = 100 * consilience_runtime::UNIT;
	let (requests, block) = submit(client, suri, model, &inputs, verifiers, fee_limit).await;
	assert_eq!(requests.len(), prompts.len(), "some were refused");
	(requests, block)
}

/// Asks in one transaction. Returns the requests that were taken, and the number of the final block that took them.
async fn submit(
	client: &Client,
	suri: &str,
	model: ModelId,
	inputs: &[Input],
	verifiers: u8,
	fee_limit: Balance,
) -> (Vec<RequestId>, BlockNumber) {
	let request = |input: &Input| {
		pallet_inference::Call::<Runtime>::request {
			model,
			input: input.clone(),
			assurance: Assurance::Committee(verifiers),
			fee_limit,
			tip: 0,
		}
		.into()
	};
	let calls = inputs.iter().map(request).collect();
	let pair = sr25519::Pair::from_string(suri, None).expect("a development key");
	let batch = pallet_utility::Call::<Runtime>::force_batch { calls };
	let included = client
		.submit_final(&pair, batch.into())
		.await
		.expect("the node takes it");
	let requests = included
		.events
		.iter()
		.filter_map(|e| match e {
			RuntimeEvent::Inference(RequestEvent::RequestSubmitted { request, .. }) => {
				Some(*request)
			}
			_ => None,
		})
		.collect();
	let header: crate::Header = client
		.call("chain_getHeader", jsonrpsee::rpc_params![included.block])
		.await;
	(requests, *header.number())
}

/// Events of requests in a block.
async fn inference_events(client: &Client, at: Hash) -> Vec<RequestEvent> {
	let events = client.events(at).await.into_iter();
	let of_requests = events.filter_map(|(_, event)| match event {
		RuntimeEvent::Inference(event) => Some(event),
		_ => None,
	});
	of_requests.collect()
}

/// The request that an event settles.
fn settled(event: &RequestEvent) -> Option<RequestId> {
	match event {
		RequestEvent::RequestFinal { request, .. }
		| RequestEvent::RequestRejected { request, .. }
		| RequestEvent::RequestUnanswerable { request, .. }
		| RequestEvent::RequestExpired { request, .. } => Some(*request),
		_ => None,
	}
}
