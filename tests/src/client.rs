//! A node through its RPC, with the runtime's own types.

use std::collections::BTreeMap;

use codec::{Decode, Encode};
use consilience_runtime::{
	AccountId, Balance, BlockNumber, Hash, Nonce, RuntimeCall, RuntimeEvent,
};
use jsonrpsee::{
	core::{
		client::{ClientT, Subscription, SubscriptionClientT},
		params::ArrayParams,
	},
	rpc_params,
	ws_client::{WsClient, WsClientBuilder},
};
use polkadot_sdk::{
	frame_system, pallet_balances,
	sp_consensus_babe::digests::CompatibleDigestItem,
	sp_core::{sr25519, Bytes, Pair},
	sp_crypto_hashing::{blake2_128, twox_128},
	sp_runtime::traits::Header as _,
};
use serde::de::DeserializeOwned;

use crate::within;

/// Header of a block.
pub type Header = consilience_runtime::Header;

type AccountInfo = frame_system::AccountInfo<Nonce, pallet_balances::AccountData<Balance>>;

/// How often a transaction is signed anew.
const ATTEMPTS: usize = 5;

/// A transaction in a block.
#[derive(Debug)]
pub struct Included {
	/// The block.
	pub block: Hash,
	/// Its events.
	pub events: Vec<RuntimeEvent>,
}

/// A connection to a node.
pub struct Client {
	/// For the methods that jsonrpsee generates.
	pub rpc: WsClient,
}

/// All that an account has, held or not.
pub fn total_of(accounts: &BTreeMap<AccountId, Balance>, account: &AccountId) -> Balance {
	accounts.get(account).copied().unwrap_or_default()
}

fn storage_key(pallet: &str, item: &str) -> Vec<u8> {
	[twox_128(pallet.as_bytes()), twox_128(item.as_bytes())].concat()
}

impl Client {
	/// Connects to a node.
	pub async fn connect(url: &str) -> Self {
		let rpc = WsClientBuilder::default()
			.max_response_size(64 << 20)
			.build(url);
		Self {
			rpc: within("a connection", rpc).await.expect("the node listens"),
		}
	}

	/// Calls a method.
	pub async fn call<R: DeserializeOwned>(&self, method: &str, params: ArrayParams) -> R {
		let reply = within(method, self.rpc.request(method, params)).await;
		reply.unwrap_or_else(|e| panic!("{method}: {e}"))
	}

	/// New blocks of the best chain, or of the finalised one.
	pub async fn heads(&self, finalized: bool) -> Subscription<Header> {
		let kind = if finalized { "Finalized" } else { "New" };
		let (on, off) = (
			format!("chain_subscribe{kind}Heads"),
			format!("chain_unsubscribe{kind}Heads"),
		);
		let subscription = self.rpc.subscribe(&on, rpc_params![], &off);
		within(&on, subscription)
			.await
			.expect("the node takes subscriptions")
	}

	/// Waits for a header of which `wanted` holds.
	pub async fn await_head(
		&self,
		what: &str,
		finalized: bool,
		mut wanted: impl FnMut(&Header) -> bool,
	) -> Header {
		let mut heads = self.heads(finalized).await;
		within(what, async {
			loop {
				let header = heads
					.next()
					.await
					.expect("the node goes on")
					.expect("a header");
				if wanted(&header) {
					return header;
				}
			}
		})
		.await
	}

	/// Waits until a block of this number is finalised.
	pub async fn await_finalized(&self, number: BlockNumber) -> Header {
		self.await_head("finality", true, |h| *h.number() >= number)
			.await
	}

	/// Hash of a block of the best chain.
	pub async fn hash(&self, number: BlockNumber) -> Hash {
		let hash: Option<Hash> = self.call("chain_getBlockHash", rpc_params![number]).await;
		hash.unwrap_or_else(|| panic!("there is no block {number}"))
	}

	/// How many entries a storage map has, up to ten.
	pub async fn entries(&self, pallet: &str, item: &str, at: Hash) -> usize {
		let prefix = Bytes(storage_key(pallet, item));
		let keys: Vec<Bytes> = self
			.call(
				"state_getKeysPaged",
				rpc_params![prefix, 10, Option::<Bytes>::None, at],
			)
			.await;
		keys.len()
	}

	/// A value of storage at a block.
	pub async fn storage<T: Decode>(&self, key: Vec<u8>, at: Hash) -> Option<T> {
		let value: Option<Bytes> = self
			.call("state_getStorage", rpc_params![Bytes(key), at])
			.await;
		value.map(|v| T::decode(&mut &v[..]).expect("storage decodes"))
	}

	/// A pallet's value at a block.
	pub async fn stored<T: Decode>(&self, pallet: &str, item: &str, at: Hash) -> Option<T> {
		self.storage(storage_key(pallet, item), at).await
	}

	/// Events of a block with the extrinsic in which they happened.
	pub async fn events(&self, at: Hash) -> Vec<(Option<u32>, RuntimeEvent)> {
		let records: Vec<frame_system::EventRecord<RuntimeEvent, Hash>> = self
			.storage(storage_key("System", "Events"), at)
			.await
			.unwrap_or_default();
		let index = |phase| match phase {
			frame_system::Phase::ApplyExtrinsic(i) => Some(i),
			_ => None,
		};
		records
			.into_iter()
			.map(|r| (index(r.phase), r.event))
			.collect()
	}

	/// What an account has at a block: free, reserved and on hold.
	pub async fn account(
		&self,
		who: &AccountId,
		at: Hash,
	) -> pallet_balances::AccountData<Balance> {
		let mut key = storage_key("System", "Account");
		key.extend(who.using_encoded(blake2_128));
		key.extend(who.encode());
		self.storage::<AccountInfo>(key, at)
			.await
			.map(|i| i.data)
			.unwrap_or_default()
	}

	/// Everything that every account has at a block, held or not.
	pub async fn accounts(&self, at: Hash) -> BTreeMap<AccountId, Balance> {
		let prefix = storage_key("System", "Account");
		let keys: Vec<Bytes> = self
			.call(
				"state_getKeysPaged",
				rpc_params![Bytes(prefix.clone()), 1000, Option::<Bytes>::None, at],
			)
			.await;
		assert!(keys.len() < 1000, "a test's chain has few accounts");
		let mut accounts = BTreeMap::new();
		for key in keys {
			let who = AccountId::decode(&mut &key[prefix.len() + 16..])
				.expect("a key ends with its account");
			let info: AccountInfo = self
				.storage(key.to_vec(), at)
				.await
				.expect("the key is there");
			accounts.insert(who, info.data.free + info.data.reserved);
		}
		accounts
	}

	/// All money at a block.
	pub async fn issuance(&self, at: Hash) -> Balance {
		self.storage(storage_key("Balances", "TotalIssuance"), at)
			.await
			.unwrap_or_default()
	}

	/// Index of a block's author among the session's validators.
	pub fn author(header: &Header) -> Option<u32> {
		let digest = header
			.digest()
			.logs()
			.iter()
			.find_map(|d| d.as_babe_pre_digest())?;
		Some(digest.authority_index())
	}

	/// The session's validators, in the order of their indices.
	pub async fn validators(&self, at: Hash) -> Vec<AccountId> {
		self.storage(storage_key("Session", "Validators"), at)
			.await
			.unwrap_or_default()
	}

	/// Signs a call and sends it as it is; gives the block in which it was executed, well or not.
	pub async fn submit(
		&self,
		pair: &sr25519::Pair,
		call: RuntimeCall,
	) -> Result<Included, String> {
		self.submit_until("inBlock", pair, call).await
	}

	/// Signs a call and sends it; gives the final block in which it was executed, well or not.
	pub async fn submit_final(
		&self,
		pair: &sr25519::Pair,
		call: RuntimeCall,
	) -> Result<Included, String> {
		self.submit_until("finalized", pair, call).await
	}

	async fn submit_until(
		&self,
		status: &str,
		pair: &sr25519::Pair,
		call: RuntimeCall,
	) -> Result<Included, String> {
		let genesis = self.hash(0).await;
		let mut attempts = 0;
		let (bytes, mut updates) = loop {
			attempts += 1;
			let bytes = self.sign(pair, call.clone(), genesis).await;
			let sent: Result<Subscription<serde_json::Value>, _> = self
				.rpc
				.subscribe(
					"author_submitAndWatchExtrinsic",
					rpc_params![Bytes(bytes.clone())],
					"author_unwatchExtrinsic",
				)
				.await;
			match sent {
				Ok(updates) => break (bytes, updates),
				Err(e) if attempts < ATTEMPTS && consilience_rpc::is_outdated(&e) => {
					let best: Header = self.call("chain_getHeader", rpc_params![]).await;
					self.await_head("another block", false, |h| h != &best)
						.await;
				}
				Err(e) => return Err(e.to_string()),
			}
		};
		let block: Hash = within("inclusion", async {
			loop {
				let update = updates
					.next()
					.await
					.expect("the node goes on")
					.expect("a status");
				if let Some(hash) = update[status].as_str() {
					return hash.parse().expect("a hash");
				}
			}
		})
		.await;
		let body: serde_json::Value = self.call("chain_getBlock", rpc_params![block]).await;
		let wanted = polkadot_sdk::sp_core::bytes::to_hex(&bytes, false);
		let extrinsics = body["block"]["extrinsics"]
			.as_array()
			.expect("a block has extrinsics");
		let index = extrinsics
			.iter()
			.position(|e| e == &wanted)
			.expect("it is in that block") as u32;
		let events = self.events(block).await;
		Ok(Included {
			block,
			events: events
				.into_iter()
				.filter(|e| e.0 == Some(index))
				.map(|e| e.1)
				.collect(),
		})
	}

	/// A signed transaction with the account's next nonce.
	async fn sign(&self, pair: &sr25519::Pair, call: RuntimeCall, genesis: Hash) -> Vec<u8> {
		let account = AccountId::from(pair.public());
		let nonce: Nonce = self
			.call("system_accountNextIndex", rpc_params![account.to_string()])
			.await;
		consilience_runtime::signed(call, pair, nonce, genesis).encode()
	}
}
