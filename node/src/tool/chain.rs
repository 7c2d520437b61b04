//! The node, as a client sees it.

use std::{
	collections::HashMap,
	sync::Arc,
	time::{Duration, Instant},
};

use codec::{Decode, Encode};
use consilience_primitives::{
	manifest::Manifest,
	request::{Assurance, FullInput, StoredInput},
	view::{ModelView, Quote, QuoteError, RequestView},
	ModelId, RequestId,
};
use consilience_runtime::{
	AccountId, Balance, BlockNumber, Hash, Nonce, RuntimeCall, RuntimeEvent,
};
use futures::future::join_all;
use jsonrpsee::{
	core::{
		client::{ClientT, Subscription, SubscriptionClientT},
		ClientError,
	},
	rpc_params,
	ws_client::{PingConfig, WsClient, WsClientBuilder},
};
use polkadot_sdk::{
	frame_system, sp_core,
	sp_core::{crypto::Ss58Codec, sr25519, Bytes, Pair, H256},
	sp_crypto_hashing,
	sp_runtime::DispatchError,
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{failure, Result};

/// How often a transaction is signed anew when its nonce is outdated as it arrives.
pub(super) const ATTEMPTS: usize = 5;

/// A request of this chain.
pub(crate) type Request = RequestView<AccountId, BlockNumber, Balance>;
/// A model of this chain.
pub(crate) type Model = ModelView<AccountId, Balance>;

/// A connection to a node whose runtime is the one that this program was built with.
pub(crate) struct Chain {
	client: WsClient,
	genesis: H256,
	finalised: Mutex<Option<Finalised>>,
}

/// How long a block is taken for the last finalised one without asking again, and how long where the node says of each.
const FINALISED_AGE: Duration = Duration::from_millis(250);
const FOLLOWED_AGE: Duration = Duration::from_secs(6);
/// How long after they were wanted last calls are made again at every block, before anybody wants them, and most of them.
const WANTED: Duration = Duration::from_secs(60);
const MOST_AHEAD: usize = 64;
/// Most calls whose results are remembered.
const MOST_READ: usize = 1_024;

/// The last finalised block, and what was read of its state: that does not change.
struct Finalised {
	looked: Instant,
	/// Whether the node says when there is another.
	followed: bool,
	head: Head,
	read: HashMap<RuntimeCallOf, Read>,
}

impl Finalised {
	fn is_fresh(&self) -> bool {
		let age = match self.followed {
			true => FOLLOWED_AGE,
			false => FINALISED_AGE,
		};
		self.looked.elapsed() < age
	}
}

/// A call of a runtime's function.
#[derive(Clone, PartialEq, Eq, Hash)]
struct RuntimeCallOf {
	function: String,
	arguments: Vec<u8>,
}

/// What a call returned.
#[derive(Clone)]
struct Read {
	reply: Bytes,
	/// When somebody wanted it last.
	wanted: Instant,
}

/// A block's number and hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
	/// Its height.
	pub(crate) number: BlockNumber,
	/// Its hash.
	pub(crate) hash: H256,
}

/// An account's address.
pub(crate) fn address(account: &AccountId) -> String {
	account.to_ss58check_with_version(consilience_runtime::SS58_PREFIX.into())
}

/// The key pair of a secret; `-` is whoever writes one to standard input, where no list of processes shows it.
pub(crate) fn pair(suri: &str) -> Result<sr25519::Pair> {
	let mut secret = suri.to_owned();
	if suri == "-" {
		secret.clear();
		let read = std::io::stdin().read_line(&mut secret);
		read.map_err(|e| format!("--suri -: standard input cannot be read: {e}"))?;
		secret.truncate(secret.trim_end().len());
	}
	sr25519::Pair::from_string(&secret, None)
		.map_err(|e| format!("--suri is no secret phrase, seed or development key: {e:?}"))
}

fn number(header: &Value) -> Result<BlockNumber> {
	let number = header["number"].as_str();
	number
		.and_then(|n| BlockNumber::from_str_radix(n.trim_start_matches("0x"), 16).ok())
		.ok_or_else(|| "the node sent a header without number".into())
}

impl Chain {
	/// Connects, and checks that node and program speak of the same runtime.
	pub(crate) async fn connect(url: &str) -> Result<Self> {
		let client = WsClientBuilder::default()
			.max_response_size(64 << 20)
			// A node whose machine is gone closes no connection.
			.enable_ws_ping(PingConfig::default())
			.build(url)
			.await
			.map_err(|e| {
				format!("no node answers at {url}: {e}. Start one, or say where it is with --url")
			})?;
		let mut chain = Self {
			client,
			genesis: H256::zero(),
			finalised: Mutex::default(),
		};
		let version: Value = chain.call("state_getRuntimeVersion", rpc_params![]).await?;
		let (name, spec, transaction) = (
			&version["specName"],
			&version["specVersion"],
			&version["transactionVersion"],
		);
		let own = &consilience_runtime::VERSION;
		if name != &*own.spec_name
			|| spec != own.spec_version
			|| transaction != own.transaction_version
		{
			return Err(format!(
				"the node at {url} runs {name} {spec} (transactions {transaction}), this program knows {} {} ({}): use the node's own version",
				own.spec_name, own.spec_version, own.transaction_version,
			));
		}
		chain.genesis = chain.call("chain_getBlockHash", rpc_params![0]).await?;
		Ok(chain)
	}

	/// Hash of the genesis block.
	pub(crate) const fn genesis(&self) -> H256 {
		self.genesis
	}

	/// Calls a method.
	pub(crate) async fn call<R: serde::de::DeserializeOwned>(
		&self,
		method: &str,
		params: jsonrpsee::core::params::ArrayParams,
	) -> Result<R> {
		self.client
			.request(method, params)
			.await
			.map_err(|e| match e {
				jsonrpsee::core::ClientError::Call(e) => match e.data() {
					Some(data) => format!(
						"{method}: {}: {}",
						e.message(),
						data.get().trim_matches('"')
					),
					None => format!("{method}: {}", e.message()),
				},
				e => format!("{method}: {e}"),
			})
	}

	/// Subscribes to something.
	pub(crate) async fn subscribe<T: serde::de::DeserializeOwned>(
		&self,
		subscribe: &str,
		params: jsonrpsee::core::params::ArrayParams,
		unsubscribe: &str,
	) -> std::result::Result<Subscription<T>, ClientError> {
		self.client.subscribe(subscribe, params, unsubscribe).await
	}

	/// Whether the connection still stands.
	pub(crate) fn is_connected(&self) -> bool {
		self.client.is_connected()
	}

	/// Subscribes to block headers.
	pub(crate) async fn heads(&self, finalized: bool) -> Result<Subscription<Value>> {
		let (subscribe, unsubscribe) = if finalized {
			(
				"chain_subscribeFinalizedHeads",
				"chain_unsubscribeFinalizedHeads",
			)
		} else {
			("chain_subscribeNewHeads", "chain_unsubscribeNewHeads")
		};
		self.client
			.subscribe(subscribe, rpc_params![], unsubscribe)
			.await
			.map_err(|e| format!("{subscribe}: {e}"))
	}

	/// The block of a header that a subscription gave.
	pub(crate) async fn head(&self, header: &Value) -> Result<Head> {
		let number = number(header)?;
		let hash: Option<H256> = self.call("chain_getBlockHash", rpc_params![number]).await?;
		Ok(Head {
			number,
			hash: hash.ok_or("the node does not know its own block")?,
		})
	}

	/// The last finalised block.
	pub(crate) async fn finalized(&self) -> Result<Head> {
		let hash: H256 = self.call("chain_getFinalizedHead", rpc_params![]).await?;
		let header: Value = self.call("chain_getHeader", rpc_params![hash]).await?;
		Ok(Head {
			number: number(&header)?,
			hash,
		})
	}

	/// The last finalised block, or the one that was a moment ago.
	pub(crate) async fn recently_finalized(&self) -> Result<Head> {
		let mut finalised = self.finalised.lock().await;
		if let Some(known) = finalised.as_ref().filter(|known| known.is_fresh()) {
			return Ok(known.head);
		}
		let head = self.finalized().await?;
		let looked = Instant::now();
		match &mut *finalised {
			Some(known) if known.head.hash == head.hash => known.looked = looked,
			other => {
				*other = Some(Finalised {
					looked,
					followed: false,
					head,
					read: HashMap::new(),
				});
			}
		}
		Ok(head)
	}

	/// Calls the runtime at this finalised block; at the last one that was asked for, it is asked once.
	pub(crate) async fn runtime_finalized<R: Decode>(
		&self,
		function: &str,
		arguments: impl Encode,
		at: H256,
	) -> Result<R> {
		let unreadable = |e| format!("{function}: unreadable reply: {e}");
		let call = RuntimeCallOf {
			function: function.into(),
			arguments: arguments.encode(),
		};
		let last = |known: &&mut Finalised| known.head.hash == at;
		let wanted = Instant::now();
		if let Some(known) = self.finalised.lock().await.as_mut().filter(last) {
			if let Some(read) = known.read.get_mut(&call) {
				read.wanted = wanted;
				return R::decode(&mut &read.reply[..]).map_err(unreadable);
			}
		}
		let reply = self.state_call(&call, at).await?;
		let value = R::decode(&mut &reply[..]).map_err(unreadable)?;
		if let Some(known) = self.finalised.lock().await.as_mut().filter(last) {
			if known.read.len() >= MOST_READ {
				known.read.clear();
			}
			known.read.insert(call, Read { reply, wanted });
		}
		Ok(value)
	}

	async fn state_call(&self, call: &RuntimeCallOf, at: H256) -> Result<Bytes> {
		let arguments = Bytes(call.arguments.clone());
		let params = rpc_params![call.function.clone(), arguments, Some(at)];
		self.call("state_call", params).await
	}

	/// Stops reading ahead until something is asked for again.
	pub(crate) async fn rest(&self) {
		if let Some(known) = &mut *self.finalised.lock().await {
			known.read.clear();
		}
	}

	/// Follows finalised blocks: what was read of one a moment ago is read of the next as it comes, so that whoever asks next need not
	/// wait for it. Goes on until the connection ends or nobody has it any more.
	pub(crate) fn read_ahead(self: &Arc<Self>) {
		let chain = Arc::downgrade(self);
		tokio::spawn(async move {
			let heads = chain.upgrade()?.heads(true).await;
			let mut heads = heads.ok()?;
			while let Some(Ok(header)) = heads.next().await {
				// One that cannot be read is read when somebody wants it.
				let _ = chain.upgrade()?.read_at(&header).await;
			}
			Some(())
		});
	}

	async fn read_at(&self, header: &Value) -> Result<()> {
		let head = self.head(header).await?;
		let wanted: Vec<_> = match &*self.finalised.lock().await {
			Some(known) => {
				let wanted = known.read.iter();
				let wanted = wanted.filter(|(_, read)| read.wanted.elapsed() < WANTED);
				let wanted = wanted.map(|(call, read)| (call.clone(), read.wanted));
				wanted.take(MOST_AHEAD).collect()
			}
			None => Vec::new(),
		};
		let calls = wanted.into_iter().map(async |(call, wanted)| {
			let reply = self.state_call(&call, head.hash).await.ok()?;
			Some((call, Read { reply, wanted }))
		});
		let mut read: HashMap<_, _> = join_all(calls).await.into_iter().flatten().collect();
		let mut finalised = self.finalised.lock().await;
		match &mut *finalised {
			Some(known) if known.head.number > head.number => return Ok(()),
			// Somebody was quicker.
			Some(known) if known.head.hash == head.hash => read.extend(known.read.drain()),
			_ => (),
		}
		*finalised = Some(Finalised {
			looked: Instant::now(),
			followed: true,
			head,
			read,
		});
		Ok(())
	}

	/// The best block.
	pub(crate) async fn best(&self) -> Result<Head> {
		let header: Value = self.call("chain_getHeader", rpc_params![]).await?;
		self.head(&header).await
	}

	/// Calls the runtime at a block, or at the best one.
	pub(crate) async fn runtime<R: Decode>(
		&self,
		function: &str,
		arguments: impl Encode,
		at: Option<H256>,
	) -> Result<R> {
		let reply: Bytes = self
			.call(
				"state_call",
				rpc_params![function, Bytes(arguments.encode()), at],
			)
			.await?;
		R::decode(&mut &reply[..]).map_err(|e| format!("{function}: unreadable reply: {e}"))
	}

	/// All models.
	pub(crate) async fn models(&self) -> Result<Vec<Model>> {
		let mut models: Vec<Model> = Vec::new();
		loop {
			let after = models.last().map(|m| m.id);
			let more: Vec<Model> = self
				.runtime("InferenceApi_models", (after, 256u32), None)
				.await?;
			if more.is_empty() {
				return Ok(models);
			}
			models.extend(more);
		}
	}

	/// A model by its id or, if it is the only one of that name, its name.
	pub(crate) async fn find_model(&self, wanted: &str) -> Result<Model> {
		let models = self.models().await?;
		let id = wanted.parse::<H256>().ok();
		let mut found: Vec<_> = models
			.iter()
			.filter(|m| id.map_or(m.spec.name[..] == *wanted.as_bytes(), |id| m.id == id))
			.collect();
		// Of several with one name, those that answer.
		if found.len() > 1 {
			found.retain(|m| m.status == consilience_primitives::model::ModelStatus::Active);
		}
		match &found[..] {
			[model] => Ok((*model).clone()),
			[] => {
				let list: Vec<_> = models
					.iter()
					.map(|m| {
						format!(
							"  {:?}  {} ({:?})",
							m.id,
							String::from_utf8_lossy(&m.spec.name),
							m.status
						)
					})
					.collect();
				Err(format!(
					"no model {wanted:?} is registered. {}",
					if list.is_empty() {
						"None is: `consilience model register` registers one".into()
					} else {
						format!("These are:\n{}", list.join("\n"))
					}
				))
			}
			_ => Err(format!(
				"several models are called {wanted:?}: name one by its id"
			)),
		}
	}

	/// A model at a block.
	pub(crate) async fn model(&self, model: ModelId, at: H256) -> Result<Option<Model>> {
		self.runtime("InferenceApi_model", model, Some(at)).await
	}

	/// A model's manifest, from the node's store or from other nodes that have the model.
	pub(crate) async fn manifest(&self, model: ModelId) -> Result<Manifest> {
		let manifest: Manifest = self.call("models_manifest", rpc_params![model]).await?;
		// What comes from a node is what it says only where its hash is right.
		if manifest.id() != model {
			return Err(format!(
				"the node sent another manifest than that of {model:?}"
			));
		}
		Ok(manifest)
	}

	/// What a request would cost at most, or why it would be refused.
	pub(crate) async fn quote(
		&self,
		model: ModelId,
		input: &StoredInput,
		assurance: Assurance,
	) -> Result<std::result::Result<Quote<Balance>, QuoteError>> {
		self.runtime("InferenceApi_quote", (model, input, assurance), None)
			.await
	}

	/// What a request was asked, with data that state does not hold.
	pub(crate) async fn full_input(&self, input: &StoredInput) -> Result<FullInput> {
		let StoredInput::Indexed(indexed) = input else {
			return input.full(&[]).ok_or("invalid input".into());
		};
		let hash = indexed.data_hash;
		let data: Option<Bytes> = self.call("inference_data", rpc_params![hash]).await?;
		let data = data.ok_or_else(|| {
			format!(
				"the node does not have the request's data {hash:?}: it came by a later state, or prunes blocks. Ask another with --url"
			)
		})?;
		input
			.full(&data)
			.ok_or_else(|| format!("the node sent other data than {hash:?}"))
	}

	/// A request at a block, or at the best one.
	pub(crate) async fn request(
		&self,
		request: RequestId,
		at: Option<H256>,
	) -> Result<Option<Request>> {
		self.runtime("InferenceApi_request", request, at).await
	}

	/// The nonce of an account's next transaction, those in the node's pool counted.
	pub(crate) async fn next_nonce(&self, account: &AccountId) -> Result<Nonce> {
		self.call("system_accountNextIndex", rpc_params![address(account)])
			.await
	}

	/// The nonce of an account's next transaction after a block.
	pub(crate) async fn nonce_at(&self, account: &AccountId, at: H256) -> Result<Nonce> {
		self.runtime("AccountNonceApi_account_nonce", account, Some(at))
			.await
	}

	/// Signs a call.
	pub(crate) fn sign(&self, pair: &sr25519::Pair, call: RuntimeCall, nonce: Nonce) -> Vec<u8> {
		consilience_runtime::signed(call, pair, nonce, self.genesis).encode()
	}

	/// Sends a signed call, and watches what becomes of it.
	pub(crate) async fn send(
		&self,
		bytes: &[u8],
	) -> std::result::Result<Subscription<Value>, ClientError> {
		self.subscribe(
			"author_submitAndWatchExtrinsic",
			rpc_params![Bytes(bytes.to_vec())],
			"author_unwatchExtrinsic",
		)
		.await
	}

	/// Waits for the next block.
	pub(crate) async fn next_block(&self) -> Result<()> {
		// The first is the block that is there.
		let mut heads = self.heads(false).await?;
		for _ in 0..2 {
			heads
				.next()
				.await
				.ok_or("the node went away")?
				.map_err(|e| e.to_string())?;
		}
		Ok(())
	}

	/// The extrinsics of a block, in hexadecimal.
	pub(crate) async fn extrinsics(&self, number: BlockNumber) -> Result<(H256, Vec<String>)> {
		let hash: Option<H256> = self.call("chain_getBlockHash", rpc_params![number]).await?;
		let hash = hash.ok_or_else(|| format!("the node does not have block {number}"))?;
		let mut block: Value = self.call("chain_getBlock", rpc_params![hash]).await?;
		let extrinsics = serde_json::from_value(block["block"]["extrinsics"].take());
		Ok((
			hash,
			extrinsics.map_err(|e| format!("block {number}: {e}"))?,
		))
	}

	/// Signs a call, sends it, waits until it is in a block, and gives that block and the events of the call.
	pub(crate) async fn submit(
		&self,
		pair: &sr25519::Pair,
		call: RuntimeCall,
	) -> Result<(Head, Vec<RuntimeEvent>)> {
		let mut attempts = 0;
		let (bytes, mut updates) = loop {
			let nonce = self.next_nonce(&pair.public().into()).await?;
			let bytes = self.sign(pair, call.clone(), nonce);
			attempts += 1;
			match self.send(&bytes).await {
				Ok(updates) => break (bytes, updates),
				Err(e) if attempts < ATTEMPTS && consilience_rpc::is_outdated(&e) => {
					self.next_block().await?;
				}
				Err(e) => return Err(failure::submission(e)),
			}
		};
		self.included(&bytes, &mut updates).await
	}

	/// Waits until a transaction that is watched is in a block, and gives that block and the events of the call.
	pub(crate) async fn included(
		&self,
		bytes: &[u8],
		updates: &mut Subscription<Value>,
	) -> Result<(Head, Vec<RuntimeEvent>)> {
		while let Some(update) = updates.next().await {
			let update = update.map_err(|e| format!("the node sent an unreadable status: {e}"))?;
			if let Some(hash) = update["inBlock"]
				.as_str()
				.and_then(|h| h.parse::<H256>().ok())
			{
				// Of a fork that has lost the node forgets blocks: the transaction comes into another one.
				let block: Value = self.call("chain_getBlock", rpc_params![hash]).await?;
				if block.is_null() {
					continue;
				}
				let (head, outcome) = self.outcome(hash, bytes).await?;
				return Ok((head, outcome.map_err(|e| failure::dispatch(&e))?));
			}
			for end in ["dropped", "invalid", "usurped"] {
				if update.get(end).is_some() || update == end {
					return Err(format!("the transaction was {end}: try again"));
				}
			}
		}
		Err("the node went away before the transaction was in a block".into())
	}

	/// What became of a transaction in a block: its events, or why it failed.
	pub(crate) async fn outcome(
		&self,
		hash: H256,
		bytes: &[u8],
	) -> Result<(Head, std::result::Result<Vec<RuntimeEvent>, DispatchError>)> {
		let block: Value = self.call("chain_getBlock", rpc_params![hash]).await?;
		let wanted = sp_core::bytes::to_hex(bytes, false);
		let index = block["block"]["extrinsics"]
			.as_array()
			.and_then(|list| list.iter().position(|e| e == wanted.as_str()))
			.ok_or("the block does not hold the transaction")?;
		let number = block["block"]["header"]["number"]
			.as_str()
			.and_then(|n| BlockNumber::from_str_radix(n.trim_start_matches("0x"), 16).ok())
			.ok_or("the block has no number")?;
		let records = self.records(hash).await?;
		let events: Vec<_> = records
			.into_iter()
			.filter(|r| r.phase == frame_system::Phase::ApplyExtrinsic(index as u32))
			.map(|r| r.event)
			.collect();
		for event in &events {
			if let RuntimeEvent::System(frame_system::Event::ExtrinsicFailed {
				dispatch_error,
				..
			}) = event
			{
				return Ok((Head { number, hash }, Err(*dispatch_error)));
			}
		}
		Ok((Head { number, hash }, Ok(events)))
	}

	/// Returns a block's events.
	pub(crate) async fn events(&self, hash: H256) -> Result<Vec<RuntimeEvent>> {
		let records = self.records(hash).await?;
		Ok(records.into_iter().map(|record| record.event).collect())
	}

	async fn records(
		&self,
		hash: H256,
	) -> Result<Vec<frame_system::EventRecord<RuntimeEvent, Hash>>> {
		let stored = self.stored("System", "Events", hash).await?;
		stored.ok_or_else(|| "the block has no events".into())
	}

	/// Returns a value of a pallet as a block's state has it.
	pub(crate) async fn stored<R: Decode>(
		&self,
		pallet: &str,
		item: &str,
		at: H256,
	) -> Result<Option<R>> {
		let mut key = sp_crypto_hashing::twox_128(pallet.as_bytes()).to_vec();
		key.extend(sp_crypto_hashing::twox_128(item.as_bytes()));
		let read = self.value(key, at).await;
		read.map_err(|e| format!("{pallet}.{item}: {e}"))
	}

	/// Returns the value under a key as a block's state has it.
	pub(crate) async fn value<R: Decode>(&self, key: Vec<u8>, at: H256) -> Result<Option<R>> {
		let stored: Option<Bytes> = self
			.call("state_getStorage", rpc_params![Bytes(key), at])
			.await?;
		let read = |bytes: Bytes| R::decode(&mut &bytes[..]);
		let read = stored.map(read).transpose();
		read.map_err(|e| format!("a value of the chain is unreadable: {e}"))
	}
}
